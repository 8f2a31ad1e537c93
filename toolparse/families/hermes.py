"""`<tool_call>` around one JSON object: the Hermes lineage.

Sources: the families' chat templates; the parsers `hermes` of vLLM 0.33 and SGLang; llama.cpp's Hermes 2 Pro handler.
"""

from toolparse.format import Format

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
    ),
    aliases=("hermes-2-pro", "hermes2pro", "json-tools", "hermes-3"),
    models="Nous Hermes 2 Pro, Hermes 3, Hermes 4; Kolibri-1, Youtu-LLM, Reka-Edge, Bielik v3, MiMo-7B/VL, SmolLM3",
    source="Hermes-2-Pro's chat template and function-calling prompt; vLLM `hermes`, SGLang `hermes`",
)

QWEN = HERMES.variant(
    "qwen",
    aliases=("qwen25", "qwen2-5", "qwen3", "qwen2", "qwq", "qwen3-json"),
    models="Qwen2.5, QwQ-32B, Qwen3 (not Coder, not 3.5 and later), Qwen3-VL",
    source="Qwen2.5's and Qwen3's chat templates; SGLang `qwen25`, vLLM `hermes`",
)

FORMATS = (HERMES, QWEN)
