"""Invoke elements: MiniMax and dots.

Sources: MiniMax-M2's and M3's chat templates; vLLM and SGLang `minimax_m2`, `minimax_m3`, `dots`.
"""

from toolparse.format import Also, Format

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
    models="MiniMax-M2, MiniMax-M2.5, MiniMax-M2.7",
    source="MiniMax-M2's chat template; vLLM `minimax_m2`",
)

MINIMAX_M3 = Format(
    "minimax-m3",
    section="]<]minimax[>[<tool_call>\n{{calls}}]<]minimax[>[</tool_call>",
    call=']<]minimax[>[<invoke name="{{name}}">{{params}}]<]minimax[>[</invoke>\n',
    param="]<]minimax[>[<{{key}}>{{value}}]<]minimax[>[</{{key}}>",
    item="]<]minimax[>[<item>{{value}}]<]minimax[>[</item>",
    reasoning="<mm:think>{{text}}</mm:think>",
    ends=("[e~[",),
    also=(
        Also(param="]<]minimax[>[{{key}}>{{value}}]<]minimax[>[</{{key}}>", slip=True),
        Also(param="]<]minimax[>[{{value}}]<]minimax[>[</{{key}}>", slip=True),
    ),
    aliases=("minimaxm3",),
    models="MiniMax-M3, MiniMax-M3-VL",
    source="MiniMax-M3's chat template; vLLM and SGLang `minimax_m3`",
)

DOTS3 = MINIMAX_M2.variant(
    "dots3",
    section="{{calls}}",
    call='<dots_function_call>\n<invoke name="{{name}}">\n{{params}}</invoke>\n</dots_function_call>',
    param='<parameter name="{{key}}">\n{{value}}\n</parameter>\n',
    prefill="",
    ends=("<|user|>", "<|endoftext|>"),
    also=(
        '<dots_function_call>\n{"name": {{name}}, "arguments": {{arguments}}}\n</dots_function_call>',
        '<invoke name="{{name}}">\n{{params}}</invoke>\n</dots_function_call>',
    ),
    aliases=("dots", "dots-llm"),
    models="dots3-note-prev, dots.llm",
    source="vLLM and SGLang `dots`",
)

FORMATS = (MINIMAX_M2, MINIMAX_M3, DOTS3)
