"""MiniCPM5: named elements, strings in CDATA where they need it. Sources: MiniCPM5's chat template; vLLM `minicpm5`."""

from toolparse.format import PYTHON, Format

MINICPM5 = Format(
    "minicpm5",
    call='<function name="{{name}}">{{params}}</function>',
    param='<param name="{{key}}">{{value}}</param>',
    wrap="<![CDATA[{{value}}]]>",
    wrap_when="<&\n",
    syntax=PYTHON,
    between="\n",
    lead="\n",
    reasoning="<think>\n{{text}}\n</think>\n\n",
    ends=("<|im_end|>",),
    aliases=("minicpm",),
    models="MiniCPM5-1B, MiniCPM5-2B",
    source="MiniCPM5's chat template; vLLM and SGLang `minicpm5`",
)

FORMATS = (MINICPM5,)
