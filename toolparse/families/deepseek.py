"""DeepSeek's JSON generations. Sources: DeepSeek's chat templates; vLLM and SGLang `deepseek_v3`, `deepseek_v31`."""

from toolparse.format import Format

DEEPSEEK_V3 = Format(
    "deepseek-v3",
    section="<｜tool▁calls▁begin｜>{{calls}}<｜tool▁calls▁end｜>",
    call="<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{name}}\n```json\n{{arguments}}\n```<｜tool▁call▁end｜>",
    between="\n",
    ends=("<｜end▁of▁sentence｜>",),
    aliases=("deepseekv3", "deepseek-v3-0324"),
    models="DeepSeek-V3, V3-0324",
    source="DeepSeek-V3's chat template; vLLM `deepseek_v3`, SGLang `deepseekv3`",
)

DEEPSEEK_R1 = DEEPSEEK_V3.variant(
    "deepseek-r1",
    reasoning="<think>\n{{text}}\n</think>\n\n",
    prefill="<think>\n",
    also=("<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{name}}{{arguments}}<｜tool▁call▁end｜>",),
    aliases=("deepseekr1", "deepseek-r1-distill"),
    models="DeepSeek-R1, R1-0528, R1-Distill",
    source="DeepSeek-R1's chat templates; llama.cpp `DeepSeek R1`",
)

DEEPSEEK_V31 = DEEPSEEK_V3.variant(
    "deepseek-v31",
    call="<｜tool▁call▁begin｜>{{name}}<｜tool▁sep｜>{{arguments}}<｜tool▁call▁end｜>",
    between="",
    reasoning="<think>{{text}}</think>",
    aliases=("deepseekv31", "deepseek-v3-1"),
    models="DeepSeek-V3.1, V3.1-Terminus, V3.2-Exp",
    source="DeepSeek-V3.1's chat template; vLLM `deepseek_v31`",
)

FORMATS = (DEEPSEEK_V3, DEEPSEEK_R1, DEEPSEEK_V31)
