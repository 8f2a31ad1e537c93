"""MiniMax's invoke elements. Sources: MiniMax-M2's chat template; vLLM and SGLang `minimax_m2`."""

from toolparse.format import Format

MINIMAX_M2 = Format(
    "minimax-m2",
    section="<minimax:tool_call>\n{{calls}}\n</minimax:tool_call>",
    call='<invoke name="{{name}}">\n{{params}}</invoke>',
    param='<parameter name="{{key}}">{{value}}</parameter>\n',
    between="\n",
    lead="\n",
    reasoning="<think>\n{{text}}\n</think>\n\n",
    prefill="<think>\n",
    ends=("[e~[",),
    aliases=("minimaxm2", "minimax-m25"),
    models="MiniMax-M2, M2.5, M2.7",
    source="MiniMax-M2's chat template; vLLM `minimax_m2`",
)

FORMATS = (MINIMAX_M2,)
