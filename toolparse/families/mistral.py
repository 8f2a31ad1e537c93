"""Mistral's three generations. Sources: Mistral's chat templates and mistral-common; vLLM `mistral`."""

from toolparse.format import Also, Format

MISTRAL_V3 = Format(
    "mistral-v3",
    section="[TOOL_CALLS][{{calls}}]",
    call='{"name": {{name}}, "arguments": {{arguments}}, "id": {{id}}}',
    between=", ",
    new_id="call{{index:05}}",
    ends=("</s>",),
    also=(Also(section="[TOOL_CALLS]{{calls}}"),),
    models=(
        "Mistral-7B-Instruct-v0.3, Mixtral-8x22B-Instruct-v0.3, Mistral-Nemo-Instruct-2407, "
        "Mistral-Small-Instruct-2409, Ministral-8B-Instruct-2410"
    ),
    source="Mistral-Nemo-Instruct-2407's chat template; mistral-common v3 and v7; vLLM `mistral`",
)

MISTRAL_V11 = Format(
    "mistral-v11",
    call="[TOOL_CALLS]{{name}}[CALL_ID]{{id}}[ARGS]{{arguments}}",
    new_id="call{{index:05}}",
    ends=("</s>",),
    also=(
        "[TOOL_CALLS]{{name}}[ARGS]{{arguments}}",
        "[TOOL_CALLS]{{name}}{{arguments}}",
    ),
    models="Mistral-Small-3.2",
    source="Mistral-Small-3.2-24B-Instruct-2506's chat template; mistral-common v11",
)

MISTRAL_V13 = Format(
    "mistral-v13",
    call="[TOOL_CALLS]{{name}}[ARGS]{{arguments}}",
    new_id="call{{index:05}}",
    reasoning="[THINK]{{text}}[/THINK]",
    ends=("</s>",),
    also=(
        "[TOOL_CALLS]{{name}}[CALL_ID]{{id}}[ARGS]{{arguments}}",
        "[TOOL_CALLS]{{name}}{{arguments}}",
        Also(reasoning="<think>{{text}}</think>"),
    ),
    models="Devstral-Small-2507 (and later), Devstral-Small-2, Magistral-Small, Magistral-Medium, Ministral-3",
    source="Devstral-Small-2507's chat template; mistral-common v13",
)

MISTRAL = MISTRAL_V13.variant(
    "mistral",
    also=(
        *MISTRAL_V13.also,
        Also(section=MISTRAL_V3.section, call=MISTRAL_V3.call, between=MISTRAL_V3.between),
        Also(section="[TOOL_CALLS]{{calls}}", call=MISTRAL_V3.call, between=MISTRAL_V3.between),
    ),
    aliases=("mistral-nemo",),
    models="any of Mistral's tool-calling models",
    source="mistral-common v3 to v13; vLLM `mistral`",
)

FORMATS = (MISTRAL, MISTRAL_V3, MISTRAL_V11, MISTRAL_V13)
