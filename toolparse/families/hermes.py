"""`<tool_call>` around one JSON object: the Hermes lineage.

Sources: the families' chat templates; the parsers `hermes` of vLLM 0.33 and SGLang; llama.cpp's Hermes 2 Pro handler.
"""

from toolparse.format import Also, Format

HERMES = Format(
    "hermes",
    call='<tool_call>\n{"name": {{name}}, "arguments": {{arguments}}}\n</tool_call>',
    between="\n",
    lead="\n",
    reasoning="<think>\n{{text}}\n</think>\n\n",
    ends=("<|im_end|>",),
    synonyms=(("parameters", "arguments"),),
    also=(
        '<tool_call>\n{"type": "function", "function": {"name": {{name}}, "arguments": {{arguments}}}}\n</tool_call>',
        Also(call='<tool_call>\n```json\n{"name": {{name}}, "arguments": {{arguments}}}\n```\n</tool_call>', slip=True),
        Also(
            section="<tool_call>\n[{{calls}}]\n</tool_call>",
            call='{"name": {{name}}, "arguments": {{arguments}}}',
            between=", ",
        ),
    ),
    aliases=("hermes-2-pro", "hermes2pro", "json-tools", "hermes-3"),
    models="Hermes-2-Pro, Hermes-3, Hermes-4, Kolibri-1, Youtu-LLM, Reka-Edge, Bielik-v3, MiMo-7B, MiMo-VL, SmolLM3",
    source="Hermes-2-Pro's chat template and function-calling prompt; vLLM `hermes`, SGLang `hermes`",
)

QWEN = HERMES.variant(
    "qwen",
    aliases=("qwen25", "qwen2-5", "qwen3", "qwen2", "qwq", "qwen3-json"),
    models="Qwen2.5, QwQ-32B, Qwen3 (not Coder, not 3.5 and later), Qwen3-VL",
    source="Qwen2.5's and Qwen3's chat templates; SGLang `qwen25`, vLLM `hermes`",
)

EXAONE4 = HERMES.variant(
    "exaone4",
    call='<tool_call>{"name": {{name}}, "arguments": {{arguments}}}</tool_call>',
    ends=("[|endofturn|]",),
    aliases=("exaone", "exaone-4"),
    models="EXAONE-4.0",
    source="EXAONE 4.0's chat template; xgrammar `exaone`",
)

ERNIE45 = HERMES.variant(
    "ernie45",
    between="",
    call='<tool_call>\n{"name": {{name}}, "arguments": {{arguments}}}\n</tool_call>\n',
    lead="",
    reasoning="<think>\n{{text}}\n</think>\n\n\n",
    content="<response>\n{{text}}\n</response>\n",
    prefill="<think>\n",
    ends=("<|end_of_sentence|>", "</s>"),
    aliases=("ernie-45", "ernie"),
    models="ERNIE-4.5-21B-A3B-Thinking",
    source="ERNIE-4.5-Thinking's model card; vLLM `ernie45`",
)

TRINITY = QWEN.variant(
    "trinity",
    calls_in_reasoning="call",
    aliases=("arcee",),
    models="Trinity-Mini, Trinity-Large (Arcee)",
    source="SGLang `trinity`: calls stand inside the thought",
)

LING2 = HERMES.variant(
    "ling2",
    ends=("<|role_end|>",),
    aliases=("ling", "ring2", "bailing", "ling-v2"),
    models="Ling-mini, Ling-flash, Ling-1T, Ring (versions 1 and 2), Ling-lite, Ling-plus",
    source="Ling 2's tool prompt as LLaMA-Factory trains it",
)

LONGCAT = HERMES.variant(
    "longcat",
    call='<longcat_tool_call>{"name": {{name}}, "arguments": {{arguments}}}</longcat_tool_call>',
    param="<longcat_arg_key>{{key}}</longcat_arg_key>\n<longcat_arg_value>{{value}}</longcat_arg_value>\n",
    reasoning="<longcat_think>\n{{text}}\n</longcat_think>\n\n",
    ends=("</longcat_s>",),
    also=("<longcat_tool_call>{{name}}\n{{params}}</longcat_tool_call>",),
    aliases=("longcat-flash",),
    models="LongCat-Flash-Chat, LongCat-Flash-Thinking",
    source="LongCat-Flash-Chat's chat template; vLLM `longcat`, mlx-lm `longcat`",
)

FORMATS = (HERMES, QWEN, EXAONE4, ERNIE45, TRINITY, LING2, LONGCAT)
