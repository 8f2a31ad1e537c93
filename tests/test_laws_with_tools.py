"""The laws that need no format of their own, with tools: nothing raises and streams are one-shots, whatever the schema.

Each family stands for one way of writing arguments. The schemas are random and hostile: recursive, contradictory,
boolean, with patterns that take exponential time elsewhere, with thousands of listed values.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import toolparse
from tests.conftest import streamed
from tests.test_tools_explaining import NODE, OVERLAPPING, schemas
from toolparse.errors import RenderError
from toolparse.tools import ToolSet, coerce, infer
from toolparse.tools.problem_text import Names, place, show

# How each writes a call of `f` with the text of `k`.
FAMILIES = {
    "hermes": '<tool_call>\n{"name": "f", "arguments": {"k": %s}}\n</tool_call>',
    "qwen3-coder": "<tool_call>\n<function=f>\n<parameter=k>\n%s\n</parameter>\n</function>\n</tool_call>",
    "deepseek-v32": (
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="k" string="false">%s'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>"
    ),
    "glm45": "<tool_call>f\n<arg_key>k</arg_key>\n<arg_value>%s</arg_value>\n</tool_call>",
    "minimax-m3": "",
    "llama4-pythonic": "[f(k=%s)]",
    "lfm2": "<|tool_call_start|>[f(k=%s)]<|tool_call_end|>",
    "gemma4": "<|tool_call>call:f{k:%s}<tool_call|>",
}
VALUES = [
    "", " ", "\n", "1", "-1", "2.0", "1e999", "-1e999", "1e400", "NaN", "Infinity", "9" * 400, "9" * 5_000, "[1e999]",
    '{"a": ' + "9" * 5_000 + "}", "null", "None", "true", "True", '""', '"a"', '"\\ud800"', "\ud800", '{"\\ud800": 1}',
    "[]", "{}", "[" * 300 + "]" * 300, '{"k":' * 150 + "1" + "}" * 150, '{"a": 1, "a": 2}', "'a'", "aaaaaaaaaaaaaaaaaaaaaac",
    '<|"|>a<|"|>', "<item>1</item>", "<k>\ud800</k>", "[1, 2", "(1,)",
]  # fmt: skip
HOSTILE: list[Any] = [
    True,
    False,
    {"enum": []},
    {"enum": list(range(3_000))},
    {"enum": [10**n for n in range(3_000)]},
    {"enum": [{"a": n} for n in range(3_000)], "type": "object"},
    {"allOf": [{"enum": list(range(2_000))}, {"enum": list(range(1_000, 3_000))}]},
    {"type": "string", "pattern": "^(a+)+$"},
    {"type": "string", "pattern": "(a*)*\\1c"},
    {"type": "object", "patternProperties": {"^(a+)+$": {"type": "integer"}, "(a*)*\\1c": False}},
    {"type": "integer", "minimum": 10**300, "maximum": 10**299},
    {"type": ["integer", "null"], "enum": ["a"]},
    {"allOf": [{"type": "integer"}, {"type": "object"}]},
    {"not": {}},
    {"type": "array", "items": False},
    {"type": "object", "additionalProperties": False, "required": ["z"]},
    {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/N"}}, {"type": "object"}, {"type": "null"}]},
    {"$ref": "#/$defs/Round"},
    {"minimum": -(10**6_000), "type": "number"},
]


def text_of(family: str, value: str) -> str:
    if family == "minimax-m3":
        call = toolparse.parser_for(family).render([("f", {"k": "HERE"})])
        return call.replace("HERE", value)
    return FAMILIES[family] % value


def offered(schema: Any, node: Any) -> Any:
    parameters = {
        "type": "object",
        "properties": {"k": schema},
        "$defs": {"N": node, "Round": {"anyOf": [{"$ref": "#/$defs/Round"}, {"$ref": "#/$defs/Round"}]}},
    }
    return ToolSet.of([{"type": "function", "function": {"name": "f", "description": "", "parameters": parameters}}])


def check(family: str, text: str, tools: ToolSet) -> None:
    parser = toolparse.parser_for(family)
    message = parser.parse(text, tools=tools)
    for pieces in ([text], [text[: len(text) // 2], text[len(text) // 2 :]]):
        assert streamed(parser, pieces, tools=tools) == message
    for issue in message.issues:
        issue.message.encode()
    for call in message.tool_calls:
        tool = tools.get(call.name)
        if tool is not None and call.ok:
            assert tool.validate(call.arguments) == []
        if tool is not None and isinstance(call.arguments, dict):
            fitted, repairs = coerce(call.arguments, tool)
            assert repairs == [] or fitted is not call.arguments
            tool.validate(fitted)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_texts_are_calls(family: str) -> None:
    tools = offered({"type": "integer"}, True)
    (call,) = toolparse.parse(text_of(family, "3"), family, tools=tools).tool_calls
    assert call.arguments == {"k": 3}
    assert call.ok


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("schema", HOSTILE, ids=lambda schema: show(schema)[:40])
def test_hostile_schemas(family: str, schema: Any) -> None:
    tools = offered(schema, OVERLAPPING["oneOf"][0])
    for value in VALUES:
        check(family, text_of(family, value), tools)


@given(data=st.data(), family=st.sampled_from(sorted(FAMILIES)), value=st.sampled_from(VALUES) | st.text(max_size=20))
def test_random_schemas(data: st.DataObject, family: str, value: str) -> None:
    node = {"type": ["integer", "array", "object"], "items": data.draw(schemas("")), "properties": {"a": NODE}}
    check(family, text_of(family, value), offered(data.draw(schemas("")), node))


@given(data=st.data(), family=st.sampled_from(sorted(FAMILIES)))
def test_random_arguments(data: st.DataObject, family: str) -> None:
    json = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )
    tools = offered(data.draw(schemas("")), data.draw(schemas("")))
    try:
        text = toolparse.parser_for(family).render([("f", {"k": data.draw(json)})])
    except RenderError:
        return
    check(family, text, tools)


# --- work that doesn't grow with the number of tools, by what is looked at -------------------------------------------


class Counted(str):
    """A name that counts how often it is looked at closely."""

    looks = 0

    def lower(self) -> str:
        Counted.looks += 1
        return str(self).lower()


def test_a_wrong_name_is_compared_with_few() -> None:
    looks = {}
    for count in (100, 1_000, 10_000):
        names = Names([Counted(f"tool_number_{number}") for number in range(count)])
        names.closest("x")
        Counted.looks = 0
        assert names.closest("tool_nomber_12") == "tool_number_12"
        looks[count] = Counted.looks
        names.closest("tool_nomber_12")
        assert Counted.looks == looks[count]  # remembered
    assert max(looks.values()) <= 60


def test_names_have_words_for_anything() -> None:
    for name in ("", "\ud800", "a" * 10_000, "functions.", ":3", "f" * 150 + "." + "f" * 150, ".", "0"):
        tools = offered({}, {})
        assert tools.resolve(name)[1] in (True, False)
        tools.suggest(name)
        assert infer(name) is name or name == "0"
        show(name).encode()
        place((name,)).encode()
