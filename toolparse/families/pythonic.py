"""Calls as Python writes them. Sources: the models' chat templates; vLLM `pythonic`, `llama4_pythonic`, `lfm2`."""

from toolparse.format import JSON, PYTHON, Also, Format

PYTHONIC = Format(
    "pythonic",
    section="[{{calls}}]",
    call="{{name}}({{kwargs}})",
    between=", ",
    syntax=PYTHON,
    ends=("<|eot_id|>", "<|eom_id|>", "<end_of_turn>"),
    also=(Also(section="<|python_start|>[{{calls}}]<|python_end|>"),),
    aliases=("llama32-pythonic", "toolace"),
    models="Llama-3.2-1B/3B with the pythonic prompt, ToolACE-8B, ultravox-ToolACE",
    source="vLLM's pythonic chat templates and `pythonic` parser; Llama 3.2's prompt guide",
)

LLAMA4_PYTHONIC = PYTHONIC.variant(
    "llama4-pythonic",
    ends=("<|eot|>", "<|eom|>"),
    aliases=("llama4",),
    models="Llama-4 Scout and Maverick",
    source="Llama 4's chat template; vLLM `llama4_pythonic`",
)

LFM2 = Format(
    "lfm2",
    section="<|tool_call_start|>[{{calls}}]<|tool_call_end|>",
    call="{{name}}({{kwargs}})",
    between=", ",
    syntax=PYTHON,
    reasoning="<think>{{text}}</think>",
    ends=("<|im_end|>",),
    also=(Also(call='{"name": {{name}}, "arguments": {{arguments}}}', syntax=JSON),),
    aliases=("lfm25", "lfm2-5"),
    models="LFM2, LFM2.5, d1-3B",
    source="LFM2's and LFM2.5's chat templates; vLLM and SGLang `lfm2`",
)

FORMATS = (PYTHONIC, LLAMA4_PYTHONIC, LFM2)
