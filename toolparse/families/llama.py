"""Llama 3's bare JSON, and functionary v3.1. Sources: Meta's and MeetKai's chat templates; vLLM `llama3_json`."""

from toolparse.format import Format

LLAMA3_JSON = Format(
    "llama3-json",
    call='{"name": {{name}}, "parameters": {{arguments}}}',
    between="; ",
    ends=("<|eot_id|>", "<|eom_id|>"),
    synonyms=(("arguments", "parameters"),),
    also=(
        '<|python_tag|>{"name": {{name}}, "parameters": {{arguments}}}',
        '{"type": "function", "function": {"name": {{name}}, "parameters": {{arguments}}}}',
    ),
    aliases=("llama3", "llama-3x", "llama31-json", "llama3x"),
    models="Llama 3.1, 3.2, 3.3 and their fine-tunes",
    source="Llama 3.1 and 3.2 chat templates; vLLM `llama3_json`, SGLang `llama3`",
)

FUNCTIONARY_V31 = Format(
    "functionary-v31",
    call="<function={{name}}>{{arguments}}</function>",
    ends=("<|eom_id|>", "<|eot_id|>"),
    aliases=("functionary-v31-llama-31", "functionary-31"),
    models="functionary-small-v3.1, functionary-medium-v3.1; the custom-tool prompt of Llama 3.1",
    source="functionary v3.1's chat template; llama.cpp `Functionary v3.1 Llama 3.1`",
)

FORMATS = (LLAMA3_JSON, FUNCTIONARY_V31)
