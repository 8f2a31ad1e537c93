"""`<function=...><parameter=...>`: Qwen3-Coder and its relatives. Sources: chat templates; vLLM `qwen3_xml`."""

from toolparse.format import JSON, PYTHON, Also, Format, Syntax

# The templates write what has parts as JSON, and the rest as Python's `str` does.
JSON_PYTHON_WORDS = Syntax(true="True", false="False", null="None", json=("object", "array"))

# What models write that know the names of tools and parameters as attributes.
_SPELT_OTHERWISE = (
    Also(
        call='<tool_call>\n<function name="{{name}}">\n{{params}}</function>\n</tool_call>',
        param='<parameter name="{{key}}">\n{{value}}\n</parameter>\n',
        slip=True,
    ),
    Also(
        call='<tool_call>\n<invoke name="{{name}}">\n{{params}}</invoke>\n</tool_call>',
        param='<parameter name="{{key}}">{{value}}</parameter>\n',
        slip=True,
    ),
    Also(
        call='<tool_call>\n<function="{{name}}">\n{{params}}</function>\n</tool_call>',
        param='<parameter="{{key}}">\n{{value}}\n</parameter>\n',
        slip=True,
    ),
)

QWEN3_CODER = Format(
    "qwen3-coder",
    call="<tool_call>\n<function={{name}}>\n{{params}}</function>\n</tool_call>",
    param="<parameter={{key}}>\n{{value}}\n</parameter>\n",
    between="\n",
    lead="\n\n",
    syntax=JSON_PYTHON_WORDS,
    reasoning="<think>\n{{text}}\n</think>\n\n",
    ends=("<|im_end|>",),
    also=(
        "<function={{name}}>\n{{params}}</function>\n</tool_call>",
        Also(call='<tool_call>\n{"name": {{name}}, "arguments": {{arguments}}}\n</tool_call>', slip=True),
        *_SPELT_OTHERWISE,
    ),
    aliases=("qwen3-xml", "qwen35", "qwen3-5", "qwen-coder", "nanbeige"),
    models="Qwen3-Coder, Qwen3-Coder-Next, Qwen3.5, Qwen3.6, Qwen3.8",
    source="Qwen3-Coder's and Qwen3.5's chat templates; vLLM `qwen3_coder` and `qwen3_xml`, SGLang `qwen3_coder`",
)

NEMOTRON3 = QWEN3_CODER.variant(
    "nemotron3",
    lead="\n",
    reasoning="<think>\n{{text}}\n</think>\n",
    prefill="<think>\n",
    aliases=("nemotron-3", "nemotron-nano-v3", "nano-v3"),
    models=(
        "Nemotron-3-Nano, Nemotron-3-Super, Nemotron-3-Ultra, Nemotron-3.5-Lightning, Nemotron-3.5-Super, "
        "Nemotron-Cascade-2"
    ),
    source="Nemotron 3's chat templates; SGLang and vLLM read it as `qwen3_coder`",
)

STEP3P5 = NEMOTRON3.variant(
    "step3p5",
    between="",
    lead="",
    aliases=("step-35", "step-3-5", "step5", "step3-5"),
    models="Step-3.5-Flash, Step-3.7-Flash, Step-5",
    source="Step-3.5-Flash's chat template; vLLM and SGLang `step3p5`",
)

SEED_OSS = QWEN3_CODER.variant(
    "seed-oss",
    call="<seed:tool_call>\n<function={{name}}>\n{{params}}</function>\n</seed:tool_call>",
    param="<parameter={{key}}>{{value}}</parameter>\n",
    syntax=PYTHON,
    reasoning="<seed:think>{{text}}</seed:think>\n",
    ends=("<seed:eos>",),
    also=("<function={{name}}>\n{{params}}</function>\n</seed:tool_call>",),
    aliases=("seedoss",),
    models="Seed-OSS-36B-Instruct",
    source="Seed-OSS's chat template; vLLM `seed_oss`, llama.cpp `Seed-OSS`",
)

MIMO = QWEN3_CODER.variant(
    "mimo",
    call="<tool_call><function={{name}}>{{params}}</function></tool_call>",
    param="<parameter={{key}}>{{value}}</parameter>",
    between="",
    lead="",
    syntax=JSON,
    reasoning="<think>{{text}}</think>",
    also=("<function={{name}}>{{params}}</function></tool_call>",),
    aliases=("xiaomi-mimo", "mimo-v2"),
    models="MiMo-V2.5, MiMo-V2.6",
    source="vLLM and SGLang `mimo`; xgrammar `mimo`",
)

FORMATS = (QWEN3_CODER, NEMOTRON3, STEP3P5, SEED_OSS, MIMO)
