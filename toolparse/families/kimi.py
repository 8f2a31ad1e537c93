"""Moonshot's Kimi. Sources: Kimi-K2's chat templates and tool-call guide; vLLM and SGLang `kimi_k2`, `kimi_k3`."""

from toolparse.format import Also, Format

KIMI_K2 = Format(
    "kimi-k2",
    section="<|tool_calls_section_begin|>{{calls}}<|tool_calls_section_end|>",
    call="<|tool_call_begin|>{{id}}<|tool_call_argument_begin|>{{arguments}}<|tool_call_end|>",
    id="functions.{{name}}:{{index}}",
    reasoning="<think>{{text}}</think>",
    ends=("<|im_end|>",),
    also=(Also(section="<|tool_call_section_begin|>{{calls}}<|tool_call_section_end|>"),),
    aliases=("kimi", "kimik2"),
    models="Kimi-K2-Instruct, Kimi-K2-Instruct-0905",
    source="Kimi-K2-Instruct's chat template and tool-call guide; vLLM `kimi_k2`",
)

KIMI_K2_THINKING = KIMI_K2.variant(
    "kimi-k2-thinking",
    prefill="<think>",
    aliases=("kimi-k25", "kimi-k2-5"),
    models="Kimi-K2-Thinking, Kimi-K2.5, Kimi-K2.6, Kimi-K2.7-Code",
    source="Kimi-K2-Thinking's chat template; vLLM `kimi_k2`, llama.cpp `Kimi K2`",
)

KIMI_K3 = Format(
    "kimi-k3",
    section="<|open|>tools<|sep|>{{calls}}<|close|>tools<|sep|>",
    call='<|open|>call tool="{{name}}" index="{{index:1}}"<|sep|>{{params}}<|close|>call<|sep|>',
    param='<|open|>argument key="{{key}}" type="{{type}}"<|sep|>{{value}}<|close|>argument<|sep|>',
    types={
        "string": "string",
        "integer": "number",
        "number": "number",
        "boolean": "boolean",
        "null": "null",
        "object": "object",
        "array": "array",
    },
    escapes=(("&", "&amp;"), ('"', "&quot;")),
    reasoning="<|open|>think<|sep|>{{text}}<|close|>think<|sep|>",
    content="<|open|>response<|sep|>{{text}}<|close|>response<|sep|>",
    prefill="<|open|>think<|sep|>",
    ends=("<|close|>message<|sep|>", "<|end_of_msg|>"),
    also=('<|open|>call tool="{{name}}"<|sep|>{{params}}<|close|>call<|sep|>',),
    aliases=("kimik3",),
    models="Kimi-K3",
    source="vLLM, SGLang and smg `kimi_k3`",
)

FORMATS = (KIMI_K2, KIMI_K2_THINKING, KIMI_K3)
