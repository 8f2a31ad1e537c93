"""Gemma's literal maps. Sources: Gemma 4's chat template, Google's FunctionGemma guide, vLLM's parsers."""

from toolparse.format import Also, Format, Syntax

FUNCTIONGEMMA = Format(
    "functiongemma",
    call="<start_function_call>call:{{name}}{{arguments}}<end_function_call>",
    syntax=Syntax(
        quotes=("<escape>",), escapes=False, null="None", bare_keys=True, sort_keys=True, colon=":", comma=","
    ),
    ends=("<end_of_turn>", "<start_function_response>"),
    aliases=("function-gemma",),
    models="functiongemma-270m-it",
    source="Google's FunctionGemma guide; vLLM `functiongemma`",
)

GEMMA4 = Format(
    "gemma4",
    call="<|tool_call>call:{{name}}{{arguments}}<tool_call|>",
    syntax=Syntax(quotes=('<|"|>',), escapes=False, bare_keys=True, sort_keys=True, colon=":", comma=","),
    reasoning="<|channel>thought\n{{text}}\n<channel|>",
    ends=("<turn|>", "<|tool_response>"),
    also=(Also(call="<|tool_call>:{{name}}{{arguments}}<tool_call|>", slip=True),),
    aliases=("gemma-4", "gemma"),
    models="Gemma-4 (E2B to 31B), diffusion-gemma",
    source="Gemma 4's chat template; vLLM and SGLang `gemma4`",
)

FORMATS = (FUNCTIONGEMMA, GEMMA4)
