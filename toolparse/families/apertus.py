"""Apertus: the tool's name is the key of its arguments. Sources: Apertus's chat template; vLLM and SGLang `apertus`."""

from toolparse.format import Format

APERTUS = Format(
    "apertus",
    section="<|tools_prefix|>[{{calls}}]<|tools_suffix|>",
    call='{"{{name}}": {{arguments}}}',
    between=", ",
    reasoning="<|inner_prefix|>{{text}}<|inner_suffix|>",
    calls_in_reasoning="call",
    ends=("<|assistant_end|>",),
    aliases=("apertus2509", "apertus-2509"),
    models="Apertus-8B-Instruct-2509, Apertus-70B-Instruct-2509",
    source="Apertus's chat template; vLLM and SGLang `apertus`, llama.cpp `Apertus`",
)

FORMATS = (APERTUS,)
