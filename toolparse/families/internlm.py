"""InternLM2. Sources: InternLM2.5's chat template; vLLM `internlm`, SGLang `interns1`."""

from toolparse.format import Format

INTERNLM2 = Format(
    "internlm2",
    call='<|action_start|><|plugin|>\n{"name": {{name}}, "parameters": {{arguments}}}<|action_end|>',
    between="\n",
    reasoning="<think>\n{{text}}\n</think>\n\n",
    ends=("<|im_end|>",),
    synonyms=(("arguments", "parameters"),),
    aliases=("internlm", "interns1", "intern-s1"),
    models="InternLM2-chat, InternLM2.5-chat, Intern-S1",
    source="InternLM2.5's chat template; vLLM `internlm`",
)

FORMATS = (INTERNLM2,)
