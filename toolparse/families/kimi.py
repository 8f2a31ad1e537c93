"""Moonshot's Kimi K2. Sources: Kimi-K2's chat templates and tool-call guide; vLLM and SGLang `kimi_k2`."""

from toolparse.format import Also, Format

KIMI_K2 = Format(
    "kimi-k2",
    section="<|tool_calls_section_begin|>{{calls}}<|tool_calls_section_end|>",
    call="<|tool_call_begin|>{{id}}<|tool_call_argument_begin|>{{arguments}}<|tool_call_end|>",
    id="functions.{{name}}:{{index}}",
    reasoning="<think>{{text}}</think>",
    calls_in_reasoning="end",
    ends=("<|im_end|>",),
    also=(Also(section="<|tool_call_section_begin|>{{calls}}<|tool_call_section_end|>"),),
    aliases=("kimi", "kimik2"),
    models="Kimi-K2-Instruct, K2-Instruct-0905",
    source="Kimi-K2-Instruct's chat template and tool-call guide; vLLM `kimi_k2`",
)

FORMATS = (KIMI_K2,)
