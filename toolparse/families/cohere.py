"""Cohere's four generations. Sources: Command's chat templates; smg `cohere`; xgrammar `cohere` (the XML one)."""

from toolparse.format import Also, Format

COMMAND_R_PLUS = Format(
    "command-r-plus",
    section="Action:\n```json\n[\n{{calls}}\n]```",
    call='    {\n        "tool_name": {{name}},\n        "parameters": {{arguments}}\n    }',
    between=",\n",
    lead="\n",
    asides=("<co: {{skip}}>", "</co: {{skip}}>"),
    ends=("<|END_OF_TURN_TOKEN|>",),
    synonyms=(("name", "tool_name"), ("arguments", "parameters")),
    no_call=("directly-answer", "directly_answer"),
    also=(Also(content="<|CHATBOT_TOKEN|>{{text}}"),),
    aliases=("command-r", "command-r-plus-08-2024"),
    models="Command-R, Command-R+ (and their 08-2024 revisions)",
    source="Command R+'s tool_use chat template",
)

COMMAND_R7B = Format(
    "command-r7b",
    section="<|START_ACTION|>[\n    {{calls}}\n]<|END_ACTION|>",
    call='{"tool_call_id": {{id}}, "tool_name": {{name}}, "parameters": {{arguments}}}',
    between=",\n    ",
    new_id="{{index}}",
    reasoning="<|START_THINKING|>{{text}}<|END_THINKING|>",
    content="<|START_RESPONSE|>{{text}}<|END_RESPONSE|>",
    asides=("<co>", "</co: {{skip}}>", "</co>"),
    ends=("<|END_OF_TURN_TOKEN|>",),
    synonyms=(("name", "tool_name"), ("arguments", "parameters"), ("id", "tool_call_id")),
    also=(Also(section="<|START_ACTION|>{{calls}}<|END_ACTION|>"),),
    aliases=("cohere", "command-a", "command3", "cmd3", "cohere-command3"),
    models="Command-R7B, Command-A, Command-A-Vision, Command-A-Reasoning",
    source="Command R7B's tool_use chat template; smg `cohere`, llama.cpp `Command R7B`",
)

COMMAND4 = COMMAND_R7B.variant(
    "command4",
    content="<|START_TEXT|>{{text}}<|END_TEXT|>",
    prefill="<|START_THINKING|>",
    aliases=("cmd4", "cohere2-moe", "command-a-plus", "cohere-command4"),
    models="Command-A+, North-Mini-Code-1.0, Cohere2-MoE",
    source="Command A+'s chat template; smg `cohere`",
)

COHERE_COFL = Format(
    "cohere-cofl",
    section="<cofl:tool_calls>{{calls}}</cofl:tool_calls>",
    call='<cofl:tool_call id="{{id}}" name="{{name}}">{{params}}</cofl:tool_call>',
    param='<cofl:value name="{{key}}" type="{{type}}">{{value}}</cofl:value>',
    item='<cofl:value type="{{type}}">{{value}}</cofl:value>',
    types={"string": "raw", "object": "dict", "array": "list", "*": "json"},
    escapes=(("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")),
    new_id="{{index}}",
    reasoning="<|START_THINKING|>{{text}}<|END_THINKING|>",
    ends=("<|END_OF_TURN_TOKEN|>",),
    aliases=("cofl", "cohere-xml"),
    models="Command with its XML prompt",
    source="xgrammar `cohere`",
)

FORMATS = (COMMAND_R_PLUS, COMMAND_R7B, COMMAND4, COHERE_COFL)
