"""One marker and a JSON array (or lines) of calls: several small lineages.

Sources: the models' chat templates; vLLM `jamba`, `hunyuan_a13b`, `minimax`, `xlam`, `phi4_mini_json`; llama.cpp's
handlers for Apriel, Nemotron v2 and Firefunction v2.
"""

from toolparse.format import PYTHON, Also, Format

JAMBA = Format(
    "jamba",
    section="<tool_calls>[\n    {{calls}}\n]</tool_calls>",
    call='{"name": {{name}}, "arguments": {{arguments}}}',
    between=",\n    ",
    ends=("<|eom|>",),
    synonyms=(("parameters", "arguments"),),
    aliases=("jamba-15", "ai21"),
    models="AI21-Jamba-1.5-Mini, AI21-Jamba-1.5-Large, Jamba-1.6",
    source="Jamba 1.5's chat template; vLLM `jamba`",
)

APRIEL = JAMBA.variant(
    "apriel",
    section="\n<tool_calls>[{{calls}}]</tool_calls>",
    between=", ",
    reasoning="Here are my reasoning steps:\n{{text}}\n[BEGIN FINAL RESPONSE]\n",
    prefill="Here are my reasoning steps:\n",
    ends=("<|end|>",),
    also=(
        Also(call='{"name": {{name}}, "arguments": {{arguments}}, "id": {{id}}}'),
        Also(section="<tool_call>[{{calls}}]</tool_call>"),
        Also(reasoning="<thinking>{{text}}</thinking>"),
        Also(content="[BEGIN FINAL RESPONSE]\n{{text}}\n[END FINAL RESPONSE]"),
    ),
    aliases=("apriel-15", "apriel-16"),
    models="Apriel-1.5-15b-Thinker, Apriel-1.6-15b-Thinker, Apriel-Nemotron",
    source="Apriel 1.5's and 1.6's chat templates; llama.cpp `Apriel 1.5`",
)

HUNYUAN_A13B = JAMBA.variant(
    "hunyuan-a13b",
    section="<tool_calls>[{{calls}}]</tool_calls>",
    between=", ",
    reasoning="<think>\n{{text}}\n</think>\n",
    content="<answer>\n{{text}}\n</answer>",
    ends=("<|eos|>",),
    also=(Also(content="助手：{{text}}"),),
    aliases=("hunyuan",),
    models="Hunyuan-A13B-Instruct (and its dense siblings)",
    source="vLLM's Hunyuan-A13B chat template and `hunyuan_a13b` parser",
)

MINIMAX_M1 = JAMBA.variant(
    "minimax-m1",
    section="<tool_calls>\n{{calls}}\n</tool_calls>",
    between="\n",
    reasoning="<think>{{text}}</think>\n",
    ends=("<end_of_sentence>",),
    aliases=("minimax", "minimax-text-01"),
    models="MiniMax-M1-40k, MiniMax-M1-80k, MiniMax-Text-01",
    source="MiniMax-M1's chat template; vLLM `minimax`",
)

NEMOTRON_NANO_V2 = JAMBA.variant(
    "nemotron-nano-v2",
    section="<TOOLCALL>[{{calls}}]</TOOLCALL>",
    between=", ",
    lead="\n",
    reasoning="<think>\n{{text}}\n</think>\n\n",
    prefill="<think>\n",
    ends=("<SPECIAL_12>",),
    also=(Also(call="{{name}}({{kwargs}})", syntax=PYTHON),),
    aliases=("nemotron-v2", "nemotron-nano", "llama-nemotron-json"),
    models="NVIDIA-Nemotron-Nano-9B-v2, NVIDIA-Nemotron-Nano-12B-v2, Llama-3.x-Nemotron",
    source="Nemotron-Nano-9B-v2's chat template; llama.cpp `Nemotron v2`",
)

XLAM = JAMBA.variant(
    "xlam",
    lead="\n",
    section="[{{calls}}]",
    between=", ",
    reasoning="<think>{{text}}</think>",
    ends=("<|eot_id|>", "<|im_end|>"),
    also=(
        Also(section="{{calls}}"),
        Also(section="```json\n[{{calls}}]\n```"),
        Also(section="```\n[{{calls}}]\n```"),
        Also(section="[TOOL_CALLS][{{calls}}]"),
        Also(section="<tool_call>[{{calls}}]</tool_call>"),
    ),
    aliases=("xlam-2", "xlam2"),
    models="Llama-xLAM-2-8B-fc-r, Llama-xLAM-2-70B-fc-r, xLAM-2-1B-fc-r, xLAM-2-3B-fc-r, xLAM-2-32B-fc-r",
    source="vLLM's xLAM chat templates and `xlam` parser",
)

PHI4_MINI = JAMBA.variant(
    "phi4-mini",
    section="functools[{{calls}}]",
    between=", ",
    ends=("<|end|>",),
    also=(
        Also(section="<|tool_call|>[{{calls}}]<|/tool_call|>"),
        Also(section="<|tool_calls|>[{{calls}}]<|/tool_calls|>"),
    ),
    aliases=("phi4-mini-json", "phi4", "phi-4-mini"),
    models="Phi-4-mini-instruct, Phi-4-multimodal-instruct",
    source="vLLM's Phi-4-mini chat template and `phi4_mini_json` parser; the model's own tokens",
)

FIREFUNCTION_V2 = PHI4_MINI.variant(
    "firefunction-v2",
    section=" functools[{{calls}}]",
    ends=("<|eot_id|>",),
    also=(),
    aliases=("firefunction",),
    models="Firefunction-v2",
    source="Firefunction v2's chat template; llama.cpp `FireFunction v2`",
)

FORMATS = (JAMBA, APRIEL, HUNYUAN_A13B, MINIMAX_M1, NEMOTRON_NANO_V2, XLAM, PHI4_MINI, FIREFUNCTION_V2)
