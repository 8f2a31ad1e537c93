"""Families that write a turn as several messages, with markers of their own.

Sources: Solar-Open's chat template; vLLM, SGLang and smg `inkling`; Muse's chat template, vLLM and SGLang `muse`.
"""

from toolparse.format import Also, Format

SOLAR_OPEN = Format(
    "solar-open",
    section="<|tool_calls|>{{calls}}<|calls|>",
    call="<|tool_call:begin|>{{id}}<|tool_call:name|>{{name}}<|tool_call:args|>{{arguments}}<|tool_call:end|>",
    new_id="call{{index:06}}",
    reasoning="<|think|>{{text}}<|end|>",
    content="<|content|>{{text}}<|end|>",
    between_messages="<|begin|>assistant",
    ends=("<|end|>",),
    aliases=("solar", "solar-open-100b"),
    models="Solar-Open-100B",
    source="Solar-Open-100B's chat template",
)

INKLING = Format(
    "inkling",
    call='{{name}}<|content_invoke_tool_json|>{"name": {{name}}, "args": {{arguments}}}<|end_message|>',
    reasoning="<|content_thinking|>{{text}}<|end_message|>",
    content="<|content_text|>{{text}}<|end_message|>",
    between_messages="<|message_model|>",
    calls_in_reasoning="end",
    ends=("<|content_model_end_sampling|>",),
    synonyms=(("arguments", "args"), ("parameters", "args")),
    also=(
        '<|content_invoke_tool_json|>{"name": {{name}}, "args": {{arguments}}}<|end_message|>',
        Also(content="<|content_invoke_tool_text|>{{text}}<|end_message|>"),
        Also(content="<|content_tool_error|>{{text}}<|end_message|>"),
    ),
    aliases=("tml",),
    models="Inkling",
    source="vLLM, SGLang and smg `inkling`",
)

MUSE = Format(
    "muse",
    call=' to={{name}}<|message|><atem:function_calls>\n<atem:invoke name="{{name}}">\n{{params}}</atem:invoke>\n'
    "</atem:function_calls>",
    param='<atem:parameter name="{{key}}">{{value}}</atem:parameter>\n',
    reasoning=" to=self<|message|>{{text}}<|eom|>",
    content=" to=user<|message|>{{text}}<|eom|>",
    between_messages="<|start|>assistant",
    ends=("<|eot|>", "<|eom|>"),
    also=(
        " to={{skip}}<|message|><atem:function_calls>\n"
        '<atem:invoke name="{{name}}.{{name}}">\n{{params}}</atem:invoke>\n</atem:function_calls>',
        " to={{skip}}<|message|><atem:function_calls>\n"
        '<atem:invoke name="{{name}}">\n{{params}}</atem:invoke>\n</atem:function_calls>',
        Also(content=" to=commentary<|message|>{{text}}<|eom|>"),
    ),
    aliases=("muse-glimmer", "muse-spark", "musespark1x", "atem"),
    models="Muse-Spark, Muse-Glimmer",
    source="vLLM's Muse Glimmer chat template; vLLM and SGLang `muse`, `muse_glimmer`",
)

FORMATS = (SOLAR_OPEN, INKLING, MUSE)
