"""IBM Granite. Sources: Granite's chat templates; vLLM's `granite` and `granite4` parsers."""

from toolparse.families.hermes import HERMES
from toolparse.families.qwen_coder import NEMOTRON3
from toolparse.format import Also, Format

GRANITE3 = Format(
    "granite3",
    section="<|tool_call|>[{{calls}}]",
    call='{"name": {{name}}, "arguments": {{arguments}}}',
    between=", ",
    reasoning="<think>{{text}}</think>",
    asides=("<|start_of_cite|> {document_id: {{skip}}}", "<|end_of_cite|>"),
    ends=("<|end_of_text|>",),
    also=(
        Also(section="<tool_call>[{{calls}}]"),
        Also(content="<response>{{text}}</response>"),
    ),
    aliases=("granite", "granite-3"),
    models="Granite-3.0, Granite-3.1, Granite-3.2, Granite-3.3",
    source="Granite 3.0 to 3.3 chat templates; vLLM `granite`",
)

GRANITE4 = HERMES.variant(
    "granite4",
    reasoning=None,
    ends=("<|end_of_text|>",),
    aliases=("granite-4",),
    models="Granite-4.0, Granite-4.1",
    source="Granite 4.0's chat template; vLLM `granite4`",
)

GRANITE_20B_FC = Format(
    "granite-20b-fc",
    call='<function_call> {"name": {{name}}, "arguments": {{arguments}}}',
    between="\n",
    lead="\n",
    ends=("<|endoftext|>",),
    synonyms=(("parameters", "arguments"),),
    no_call=("no_function",),
    aliases=("granite-20b-functioncalling",),
    models="granite-20b-functioncalling",
    source="vLLM's chat template for it and `granite-20b-fc` parser",
)

GRANITE_THINKING = NEMOTRON3.variant(
    "granite-thinking",
    ends=("<|end_of_text|>",),
    aliases=("granite42", "granite-42"),
    models="Granite-4.2",
    source="Granite 4.2's chat template; vLLM and SGLang read it as Nemotron 3",
)

FORMATS = (GRANITE3, GRANITE4, GRANITE_20B_FC, GRANITE_THINKING)
