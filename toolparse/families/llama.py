"""Llama's bare JSON. Sources: Meta's chat templates; vLLM `llama3_json` and `llama4_json`."""

from toolparse.format import Also, Format

LLAMA3_JSON = Format(
    "llama3-json",
    lead="\n",
    call='{"name": {{name}}, "parameters": {{arguments}}}',
    between="; ",
    ends=("<|eot_id|>", "<|eom_id|>"),
    synonyms=(("arguments", "parameters"),),
    also=(
        Also(section="<|python_tag|>{{calls}}"),
        '{"type": "function", "function": {"name": {{name}}, "parameters": {{arguments}}}}',
    ),
    aliases=("llama3", "llama-3x", "llama31-json", "llama3x"),
    models="Llama-3.1, Llama-3.2, Llama-3.3 (and their fine-tunes)",
    source="Llama 3.1 and 3.2 chat templates; vLLM `llama3_json`, SGLang `llama3`",
)

LLAMA4_JSON = LLAMA3_JSON.variant(
    "llama4-json",
    lead="\n",
    between="",
    ends=("<|eot|>", "<|eom|>"),
    also=(
        Also(between="; "),
        Also(section="<|python_start|>{{calls}}<|python_end|>", between="; "),
        *LLAMA3_JSON.also[1:],
    ),
    aliases=("llama4-json-tools",),
    models="Llama-4 with a JSON template",
    source="Llama 4's JSON chat templates; vLLM `llama4_json`",
)

FORMATS = (LLAMA3_JSON, LLAMA4_JSON)
