"""Hunyuan's third and fourth generation: keyed pairs, with a suffix per checkpoint on every tag.

Sources: Hy3's chat template; vLLM `hy_v3`, `hy_v4`; SGLang `hunyuan`.
"""

from toolparse.format import Format

HY3 = Format(
    "hy3",
    section="<tool_calls{{suffix}}>\n{{calls}}</tool_calls{{suffix}}>",
    call="<tool_call{{suffix}}>{{name}}<tool_sep{{suffix}}>\n{{params}}</tool_call{{suffix}}>\n",
    param="<arg_key{{suffix}}>{{key}}</arg_key{{suffix}}>\n<arg_value{{suffix}}>{{value}}</arg_value{{suffix}}>\n",
    reasoning="<think{{suffix}}>{{text}}</think{{suffix}}>",
    ends=("<｜hy_eos{{suffix}}｜>",),
    also=("<tool_call{{suffix}}>{{name}}\n{{params}}</tool_call{{suffix}}>",),
    aliases=("hy-v3", "hunyuan-v3"),
    models="Hy3, Hy3-FP8, Hy3-preview (Hunyuan)",
    source="Hy3's chat template; vLLM `hy_v3`, SGLang `hunyuan`",
)

HY4 = HY3.variant(
    "hy4",
    section="<tool_calls{{suffix}}>{{calls}}</tool_calls{{suffix}}>",
    call="<tool_call{{suffix}}>{{name}}{{params}}</tool_call{{suffix}}>",
    param="<arg_key{{suffix}}>{{key}}</arg_key{{suffix}}><arg_value{{suffix}}>{{value}}</arg_value{{suffix}}>",
    prefill="<think{{suffix}}>",
    also=(),
    aliases=("hy-v4", "hunyuan-v4"),
    models="Hy4-preview (Hunyuan)",
    source="vLLM `hy_v4`, smg `hy_v4`",
)

FORMATS = (HY3, HY4)
