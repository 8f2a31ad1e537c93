"""Calls as Python writes them. Sources: the models' chat templates; vLLM `pythonic`, `llama4_pythonic`, `lfm2`."""

from toolparse.format import JSON, PYTHON, Also, Format, Syntax

PYTHONIC = Format(
    "pythonic",
    section="[{{calls}}]",
    call="{{name}}({{kwargs}})",
    between=", ",
    syntax=PYTHON,
    ends=("<|eot_id|>", "<|eom_id|>", "<end_of_turn>"),
    also=(
        Also(section="<|python_start|>[{{calls}}]<|python_end|>"),
        Also(section="{{calls}}", slip=True),
    ),
    aliases=("llama32-pythonic", "toolace"),
    models="Llama-3.2-1B and -3B with the pythonic prompt, ToolACE-8B, ultravox-ToolACE",
    source="vLLM's pythonic chat templates and `pythonic` parser; Llama 3.2's prompt guide",
)

LLAMA4_PYTHONIC = PYTHONIC.variant(
    "llama4-pythonic",
    ends=("<|eot|>", "<|eom|>"),
    aliases=("llama4",),
    models="Llama-4-Scout, Llama-4-Maverick",
    source="Llama 4's chat template; vLLM `llama4_pythonic`",
)

LFM2 = Format(
    "lfm2",
    section="<|tool_call_start|>[{{calls}}]<|tool_call_end|>",
    call="{{name}}({{kwargs}})",
    between=", ",
    syntax=Syntax(quotes=PYTHON.quotes, true="True", false="False", null="None", json=("object",)),
    reasoning="<think>{{text}}</think>",
    ends=("<|im_end|>",),
    also=(
        Also(call='{"name": {{name}}, "arguments": {{arguments}}}', syntax=JSON),
        Also(section="<|tool_call_start|>{{calls}}<|tool_call_end|>", slip=True),
    ),
    aliases=("lfm25", "lfm2-5"),
    models="LFM2, LFM2.5, d1-3B",
    source="LFM2's and LFM2.5's chat templates; vLLM and SGLang `lfm2`",
)

OLMO3 = Format(
    "olmo3",
    section="<function_calls>{{calls}}</function_calls>",
    call="{{name}}({{kwargs}})",
    between="\n",
    lead="\n",
    syntax=Syntax(quotes=('"', "'")),
    reasoning="<think>{{text}}</think>",
    ends=("<|im_end|>",),
    aliases=("olmo-3",),
    models="Olmo-3-7B-Instruct, Olmo-3.1-32B-Instruct",
    source="vLLM `olmo3`",
)

GEMMA3_TOOL_CODE = OLMO3.variant(
    "gemma3-tool-code",
    section="```tool_code\n{{calls}}\n```",
    syntax=PYTHON,
    reasoning=None,
    ends=("<end_of_turn>",),
    also=("print({{name}}({{kwargs}}))",),
    aliases=("gemma3", "tool-code"),
    models="Gemma-3 with a tool_code prompt",
    source="Google's prompt for Gemma 3 with tool_code blocks",
)

MINICPM3 = OLMO3.variant(
    "minicpm3",
    section="<|tool_call_start|>\n```python\n{{calls}}\n```\n<|tool_call_end|>",
    syntax=Syntax(quotes=('"', "'"), comma=","),
    reasoning="<|thought_start|>\n{{text}}\n<|thought_end|>\n",
    aliases=("minicpm-3-4b",),
    models="MiniCPM3-4B",
    source="MiniCPM 3's chat template; BFCL's handler",
)

SARASHINA = Format(
    "sarashina",
    section="<|tool_calls|>[{{calls}}]",
    call="{'name': {{name}}, 'arguments': {{arguments}}}",
    between=", ",
    syntax=PYTHON,
    ends=("</s>",),
    synonyms=(("parameters", "arguments"),),
    also=(Also(section="[{{calls}}]"), Also(section="<|tool_calls|>{{calls}}")),
    aliases=("sarashina2",),
    models="Sarashina2.2 (and later)",
    source="smg `sarashina`",
)

FORMATS = (PYTHONIC, LLAMA4_PYTHONIC, LFM2, OLMO3, GEMMA3_TOOL_CODE, MINICPM3, SARASHINA)
