"""PLaMo 3: every part of a call in markers of its own. Sources: vLLM `plamo3`; PLaMo 3's chat template."""

from toolparse.format import Format

PLAMO3 = Format(
    "plamo3",
    section="<|plamo:begin_tool_requests:plamo|>{{calls}}<|plamo:end_tool_requests:plamo|>",
    call="<|plamo:begin_tool_request:plamo|>"
    "<|plamo:begin_tool_name:plamo|>{{name}}<|plamo:end_tool_name:plamo|>"
    "<|plamo:begin_tool_arguments:plamo|><|plamo:constrain|>json<|plamo:msg|>{{arguments}}<|plamo:end_tool_arguments:plamo|>"
    "<|plamo:end_tool_request:plamo|>",
    reasoning="<|plamo:begin_think:plamo|>{{text}}<|plamo:end_think:plamo|>",
    prefill="<|plamo:begin_think:plamo|>",
    ends=("<|plamo:tag|>",),
    also=(
        "<|plamo:begin_tool_name:plamo|>{{name}}<|plamo:end_tool_name:plamo|>"
        "<|plamo:begin_tool_arguments:plamo|><|plamo:constrain|>json<|plamo:msg|>{{arguments}}"
        "<|plamo:end_tool_arguments:plamo|><|plamo:end_tool_request:plamo|>",
    ),
    aliases=("plamo", "plamo-3"),
    models="PLaMo-3",
    source="PLaMo 3's chat template; vLLM `plamo3`",
)

FORMATS = (PLAMO3,)
