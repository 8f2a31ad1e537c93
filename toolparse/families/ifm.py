"""K2 Horizon: keyed pairs, keyed pairs with types, or JSON, by request. Sources: vLLM and SGLang `k2_horizon`."""

from toolparse.families.glm import GLM45
from toolparse.format import Also

K2_HORIZON = GLM45.variant(
    "k2-horizon",
    section="<ifm|tool_calls>\n{{calls}}\n</ifm|tool_calls>",
    call="<ifm|tool_call>{{name}}\n{{params}}</ifm|tool_call>",
    param="<ifm|arg_key>{{key}}</ifm|arg_key>\n<ifm|arg_value>{{value}}</ifm|arg_value>\n",
    lead="",
    reasoning="<ifm|think>\n{{text}}\n</ifm|think>\n",
    prefill="<ifm|think>\n",
    ends=("<|ifm|im_end|>",),
    synonyms=(("parameters", "arguments"),),
    also=(
        Also(
            param="<ifm|arg_key>{{key}}</ifm|arg_key>\n<ifm|arg_type>{{type}}</ifm|arg_type>\n"
            "<ifm|arg_value>{{value}}</ifm|arg_value>\n",
            types={"string": "string"},
        ),
        Also(call='<ifm|tool_call>{"name": {{name}}, "arguments": {{arguments}}}</ifm|tool_call>'),
        Also(call='<ifm|tool_call>{"function": {"name": {{name}}, "arguments": {{arguments}}}}</ifm|tool_call>'),
        Also(reasoning="<ifm|think_fast>\n{{text}}\n</ifm|think_fast>\n"),
        Also(reasoning="<ifm|think_faster>\n{{text}}\n</ifm|think_faster>\n"),
    ),
    aliases=("k2-v3", "ifm"),
    models="K2-Horizon",
    source="vLLM and SGLang `k2_horizon`",
)

FORMATS = (K2_HORIZON,)
