"""`<function=...><parameter=...>`: Qwen3-Coder and its relatives. Sources: the models' chat templates; vLLM `qwen3_xml`."""

from toolparse.format import Format, Syntax

JSON_PYTHON_WORDS = Syntax(true="True", false="False", null="None")

QWEN3_CODER = Format(
    "qwen3-coder",
    call="<tool_call>\n<function={{name}}>\n{{params}}</function>\n</tool_call>",
    param="<parameter={{key}}>\n{{value}}\n</parameter>\n",
    between="\n",
    lead="\n\n",
    syntax=JSON_PYTHON_WORDS,
    reasoning="<think>\n{{text}}\n</think>\n\n",
    ends=("<|im_end|>",),
    also=("<function={{name}}>\n{{params}}</function>\n</tool_call>",),
    aliases=("qwen3-xml", "qwen35", "qwen3-5", "qwen-coder"),
    models="Qwen3-Coder, Qwen3-Coder-Next, Qwen3.5, 3.6, 3.8",
    source="Qwen3-Coder's and Qwen3.5's chat templates; vLLM `qwen3_coder` and `qwen3_xml`, SGLang `qwen3_coder`",
)

FORMATS = (QWEN3_CODER,)
