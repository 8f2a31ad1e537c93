"""OpenAI's harmony. Sources: gpt-oss's chat template; the openai-harmony package and its format guide."""

from toolparse.format import Also, Format

# The channel is said twice.
_DOUBLED = (
    Also(
        call=" to=functions.{{name}}<|channel|>{{skip}}<|channel|>{{skip}}<|message|>{{arguments}}<|call|>", slip=True
    ),
    Also(
        call="<|channel|>{{skip}} to=functions.{{name}}<|channel|>{{skip}}<|message|>{{arguments}}<|call|>", slip=True
    ),
)

HARMONY = Format(
    "harmony",
    call=" to=functions.{{name}}<|channel|>commentary json<|message|>{{arguments}}<|call|>",
    reasoning="<|channel|>analysis<|message|>{{text}}<|end|>",
    content="<|channel|>final<|message|>{{text}}<|end|>",
    between_messages="<|start|>assistant",
    ends=("<|return|>", "<|end|>", "<|call|>"),
    no_call=("assistant",),
    also=(
        " to=functions.{{name}}<|channel|>{{skip}}<|message|>{{arguments}}<|call|>",
        *_DOUBLED,
        "<|channel|>{{skip}} to=functions.{{name}} {{skip}}<|message|>{{arguments}}<|call|>",
        " to={{name}}<|channel|>{{skip}}<|message|>{{arguments}}<|call|>",
        "<|channel|>{{skip}} to={{name}} {{skip}}<|message|>{{arguments}}<|call|>",
        Also(content="<|channel|>commentary<|message|>{{text}}<|end|>"),
        Also(content="<|message|>{{text}}<|end|>"),
    ),
    aliases=("gpt-oss", "openai", "gptoss", "openai-harmony"),
    models="gpt-oss-20b, gpt-oss-120b",
    source="gpt-oss's chat template; openai-harmony's format guide; vLLM `openai`",
)

BEAM = HARMONY.variant(
    "beam",
    call=" to={{name}}<|channel|>analysis <|constrain|>xml<|message|>{{params}}<|call|>",
    param='<rfl:parameter name="{{key}}">\n{{value}}\n</rfl:parameter>',
    content="<|channel|>final<|message|>{{text}}<|return|>",
    no_call=(),
    also=(
        " to={{name}}<|channel|>{{skip}}<|message|>{{params}}<|call|>",
        "<|channel|>{{skip}} to={{name}} {{skip}}<|message|>{{params}}<|call|>",
    ),
    aliases=("rfl",),
    models="Beam",
    source="SGLang and vLLM `beam`",
)

FORMATS = (HARMONY, BEAM)
