"""Step3. Sources: Step3's tool-call guide; vLLM and SGLang `step3`."""

from toolparse.format import Format

STEP3 = Format(
    "step3",
    section="<｜tool_calls_begin｜>\n{{calls}}\n<｜tool_calls_end｜>",
    call='<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="{{name}}">\n{{params}}</steptml:invoke>'
    "<｜tool_call_end｜>",
    param='<steptml:parameter name="{{key}}">{{value}}</steptml:parameter>\n',
    between="\n",
    reasoning="<think>\n{{text}}\n</think>\n",
    also=('<｜tool_call_begin｜><steptml:invoke name="{{name}}">\n{{params}}</steptml:invoke><｜tool_call_end｜>',),
    ends=("<|EOT|>",),
    aliases=("step-3",),
    models="Step3",
    source="Step3's tool-call guide; vLLM and SGLang `step3`",
)

FORMATS = (STEP3,)
