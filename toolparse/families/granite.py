"""IBM Granite. Sources: Granite's chat templates; vLLM's `granite` and `granite4` parsers."""

from toolparse.families.hermes import HERMES
from toolparse.format import Also, Format

GRANITE3 = Format(
    "granite3",
    section="<|tool_call|>[{{calls}}]",
    call='{"name": {{name}}, "arguments": {{arguments}}}',
    between=", ",
    reasoning="<think>{{text}}</think>",
    content="{{text}}",
    ends=("<|end_of_text|>",),
    also=(
        Also(section="<tool_call>[{{calls}}]"),
        Also(content="<response>{{text}}</response>"),
    ),
    aliases=("granite", "granite-3"),
    models="Granite 3.0, 3.1, 3.3; 3.2",
    source="Granite 3.0 to 3.3 chat templates; vLLM `granite`",
)

GRANITE4 = HERMES.variant(
    "granite4",
    reasoning=None,
    ends=("<|end_of_text|>",),
    aliases=("granite-4",),
    models="Granite 4.0, 4.1",
    source="Granite 4.0's chat template; vLLM `granite4`",
)

FORMATS = (GRANITE3, GRANITE4)
