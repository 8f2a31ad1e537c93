"""DeepSeek: three JSON generations, three of DSML.

Sources: DeepSeek's chat templates; vLLM and SGLang `deepseek_v3`, `deepseek_v31`, `deepseek_v32`, `deepseek_v4`.
"""

from toolparse.format import Also, Format

DEEPSEEK_V3 = Format(
    "deepseek-v3",
    section="<｜tool▁calls▁begin｜>{{calls}}<｜tool▁calls▁end｜>",
    call="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{name}}\n```json\n{{arguments}}\n```<｜tool▁call▁end｜>",
    between="\n",
    ends=("<｜end▁of▁sentence｜>",),
    also=(
        Also(call="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{name}}\n{{arguments}}<｜tool▁call▁end｜>", slip=True),
        Also(  # as R1's distillations spell the markers
            section="<｜tool_calls_begin｜>{{calls}}<｜tool_calls_end｜>",
            call="<｜tool_call_begin｜>function<｜tool_sep｜>{{name}}\n```json\n{{arguments}}\n```<｜tool_call_end｜>",
            slip=True,
        ),
    ),
    aliases=("deepseekv3", "deepseek-v3-0324"),
    models="DeepSeek-V3, DeepSeek-V3-0324",
    source="DeepSeek-V3's chat template; vLLM `deepseek_v3`, SGLang `deepseekv3`",
)

DEEPSEEK_R1 = DEEPSEEK_V3.variant(
    "deepseek-r1",
    reasoning="<think>\n{{text}}\n</think>\n\n",
    prefill="<think>\n",
    also=("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{name}}{{arguments}}<｜tool▁call▁end｜>", DEEPSEEK_V3.also[1]),
    aliases=("deepseekr1", "deepseek-r1-distill"),
    models="DeepSeek-R1, DeepSeek-R1-0528, DeepSeek-R1-Distill",
    source="DeepSeek-R1's chat templates; llama.cpp `DeepSeek R1`",
)

DEEPSEEK_V31 = DEEPSEEK_V3.variant(
    "deepseek-v31",
    call="<｜tool▁call▁begin｜>{{name}}<｜tool▁sep｜>{{arguments}}<｜tool▁call▁end｜>",
    between="",
    also=(),
    reasoning="<think>{{text}}</think>",
    aliases=("deepseekv31", "deepseek-v3-1"),
    models="DeepSeek-V3.1, DeepSeek-V3.1-Terminus, DeepSeek-V3.2-Exp",
    source="DeepSeek-V3.1's chat template; vLLM `deepseek_v31`",
)

DEEPSEEK_V4 = Format(
    "deepseek-v4",
    section="<｜DSML｜tool_calls>\n{{calls}}</｜DSML｜tool_calls>",
    call='<｜DSML｜invoke name="{{name}}">\n{{params}}</｜DSML｜invoke>\n',
    param='<｜DSML｜parameter name="{{key}}" string="{{type}}">{{value}}</｜DSML｜parameter>\n',
    types={"string": "true", "*": "false"},
    lead="\n\n",
    reasoning="<think>{{text}}</think>",
    ends=("<｜end▁of▁sentence｜>",),
    also=(
        Also(param='<｜DSML｜parameter name="{{key}}">{{value}}</｜DSML｜parameter>\n'),
        '<｜DSML｜invoke name="{{name}}">\n{{arguments}}</｜DSML｜invoke>\n',
    ),
    aliases=("deepseekv4",),
    models="DeepSeek-V4, DeepSeek-V4-Pro, DeepSeek-V4-Flash",
    source="DeepSeek-V4's chat template; vLLM `deepseek_v4`, SGLang `deepseekv4`",
)

DEEPSEEK_V32 = DEEPSEEK_V4.variant(
    "deepseek-v32",
    section="<｜DSML｜function_calls>\n{{calls}}</｜DSML｜function_calls>",
    aliases=("deepseekv32", "deepseek-v3-2"),
    models="DeepSeek-V3.2",
    source="DeepSeek-V3.2's encoder; vLLM `deepseek_v32`, SGLang `deepseekv32`",
)

DEEPSEEK_V41 = DEEPSEEK_V4.variant(
    "deepseek-v41",
    section="<｜DSML｜ calls>\n{{calls}}</｜DSML｜ calls>",
    call='<｜DSML｜ invoke name="{{name}}">\n{{params}}</｜DSML｜ invoke>\n',
    param='<｜DSML｜ parameter name="{{key}}" string="{{type}}">{{value}}</｜DSML｜ parameter>\n',
    also=(
        Also(param='<｜DSML｜ parameter name="{{key}}">{{value}}</｜DSML｜ parameter>\n'),
        '<｜DSML｜ invoke name="{{name}}">\n{{arguments}}</｜DSML｜ invoke>\n',
    ),
    aliases=("deepseekv41", "deepseek-v4-1"),
    models="DeepSeek-V4.1-Flash",
    source="DeepSeek-V4.1's encoder; vLLM `deepseek_v41`",
)

FORMATS = (DEEPSEEK_V3, DEEPSEEK_R1, DEEPSEEK_V31, DEEPSEEK_V32, DEEPSEEK_V4, DEEPSEEK_V41)
