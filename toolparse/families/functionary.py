"""MeetKai's functionary. Sources: the chat templates of its versions; llama.cpp's functionary handlers."""

from toolparse.format import Also, Format

FUNCTIONARY_V31 = Format(
    "functionary-v31",
    call="<function={{name}}>{{arguments}}</function>",
    ends=("<|eom_id|>", "<|eot_id|>"),
    aliases=("functionary-v31-llama-31", "functionary-31"),
    models="functionary-small-v3.1, functionary-medium-v3.1, Llama 3.1 with its custom-tool prompt",
    source="functionary v3.1's chat template; llama.cpp `Functionary v3.1 Llama 3.1`",
)

FUNCTIONARY_V32 = Format(
    "functionary-v32",
    call=">>>{{name}}\n{{arguments}}",
    content=">>>all\n{{text}}",
    prefill=">>>",
    ends=("<|eot_id|>", "<|eom_id|>"),
    aliases=("functionary-32", "functionary-v3-llama-3", "functionary-v32-llama-31"),
    models="functionary-small-v3.2, functionary-medium-v3.2, functionary-v3.llama3",
    source="functionary v3.2's chat template; llama.cpp `Functionary v3.2`",
)

FUNCTIONARY_V2 = Format(
    "functionary-v2",
    call="<|reserved_special_token_249|>{{name}}\n{{arguments}}",
    ends=("<|eot_id|>", "<|stop|>"),
    also=(
        Also(
            call="<|from|>assistant\n<|recipient|>{{name}}\n<|content|>{{arguments}}",
            content="<|from|>assistant\n<|recipient|>all\n<|content|>{{text}}",
        ),
    ),
    aliases=("functionary-v2-llama3", "functionary"),
    models="functionary-small-v2.5, functionary-v2.llama3, functionary-v2",
    source="functionary v2.llama3's prompt template in MeetKai's repository",
)

FORMATS = (FUNCTIONARY_V31, FUNCTIONARY_V32, FUNCTIONARY_V2)
