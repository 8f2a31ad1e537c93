"""Sber's GigaChat. Sources: GigaChat3's chat template; vLLM and SGLang `gigachat3`, SGLang `gigachat35`."""

from toolparse.families.deepseek import DEEPSEEK_V4
from toolparse.format import Also, Format

GIGACHAT3 = Format(
    "gigachat3",
    call="<|message_sep|>\n\nfunction call<|role_sep|>\n"
    '{"name": {{name}}, "arguments": {{arguments}}}<|message_sep|>\n\n',
    ends=("</s>", "<|message_sep|>"),
    parallel=False,
    synonyms=(("parameters", "arguments"),),
    also=(
        'function call<|role_sep|>\n{"name": {{name}}, "arguments": {{arguments}}}<|message_sep|>\n\n',
        '<|function_call|>{"name": {{name}}, "arguments": {{arguments}}}<|message_sep|>\n\n',
    ),
    aliases=("gigachat-3", "gigachat"),
    models="GigaChat3-10B-A1.8B, GigaChat3-702B-A36B-preview",
    source="GigaChat3-10B-A1.8B's chat template; vLLM and SGLang `gigachat3`",
)

GIGACHAT31 = GIGACHAT3.variant(
    "gigachat31",
    call=GIGACHAT3.also[1],
    also=(GIGACHAT3.call, GIGACHAT3.also[0]),
    aliases=("gigachat3-1",),
    models="GigaChat3.1-10B-A1.8B",
    source="GigaChat3.1's chat template; vLLM `gigachat3`",
)

GIGACHAT35 = DEEPSEEK_V4.variant(
    "gigachat35",
    section="<｜GCML｜tool_calls>\n{{calls}}</｜GCML｜tool_calls>",
    call='<｜GCML｜invoke name="{{name}}">\n{{params}}</｜GCML｜invoke>\n',
    param='<｜GCML｜parameter name="{{key}}" string="{{type}}">{{value}}</｜GCML｜parameter>\n',
    lead="\n",
    ends=("<|message_sep|>", "</s>"),
    also=(
        Also(param='<｜GCML｜parameter name="{{key}}">{{value}}</｜GCML｜parameter>\n'),
        '<｜GCML｜invoke name="{{name}}">\n{{arguments}}</｜GCML｜invoke>\n',
    ),
    aliases=("gigachat-35",),
    models="GigaChat-3.5",
    source="SGLang `gigachat35`",
)

FORMATS = (GIGACHAT3, GIGACHAT31, GIGACHAT35)
