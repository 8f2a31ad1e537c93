"""Validation: the verdicts of JSON Schema, in words that a model can act on."""

from __future__ import annotations

import copy
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolparse.errors import ToolError
from toolparse.tools import Problem, Tool, ToolSet

STR, INT, NULL = ({"type": name} for name in ("string", "integer", "null"))


def tool(properties: Any, **more: Any) -> Tool:
    return Tool.of({"name": "f", "parameters": {"type": "object", "properties": properties, **more}})


def said(schema: Any, value: Any) -> list[tuple[str, str]]:
    return [(p.code, p.message) for p in tool({"k": schema}).validate({"k": value})]


LONG = "x" * 1000
TAGGED = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "until"}, "date": STR},
            "required": ["kind", "date"],
        },
        {
            "type": "object",
            "properties": {"kind": {"const": "for"}, "minutes": {"type": "number"}},
            "required": ["kind", "minutes"],
        },
    ]
}

WORDS: list[tuple[Any, Any, str, str]] = [
    (INT, "three", "wrong-type", 'arguments.k: expected integer, got "three"'),
    (INT, 1.5, "wrong-type", "arguments.k: expected integer, got 1.5"),
    (INT, True, "wrong-type", "arguments.k: expected integer, got true"),
    (STR, None, "wrong-type", "arguments.k: expected string, got null"),
    (STR, {"a": [1]}, "wrong-type", 'arguments.k: expected string, got {"a": [1]}'),
    ({"type": ["null", "integer"]}, "x", "wrong-type", 'arguments.k: expected integer or null, got "x"'),
    ({"type": "integer", "nullable": True}, "x", "wrong-type", 'arguments.k: expected integer or null, got "x"'),
    ({"anyOf": [INT, NULL]}, "x", "wrong-type", 'arguments.k: expected integer or null, got "x"'),
    (
        {"anyOf": [INT, {"oneOf": [{"type": "array"}, NULL]}]},
        "x",
        "wrong-type",
        'arguments.k: expected integer, array or null, got "x"',
    ),
    ({"enum": ["c", "f"]}, "k", "invalid-value", 'arguments.k: must be one of "c", "f"; got "k"'),
    ({"type": "string", "enum": ["c", "f"]}, 1, "wrong-type", "arguments.k: expected string, got 1"),
    (
        {"type": "string", "enum": ["c"], "nullable": True},
        "k",
        "invalid-value",
        'arguments.k: must be one of "c", null; got "k"',
    ),
    ({"const": 3}, 4, "invalid-value", "arguments.k: must be 3; got 4"),
    ({"anyOf": [{"enum": ["auto"]}, INT]}, "x", "invalid-value", 'arguments.k: must be "auto", or integer; got "x"'),
    (
        {"anyOf": [{"const": "a"}, {"const": "b"}]},
        "c",
        "invalid-value",
        'arguments.k: must be one of "a", "b"; got "c"',
    ),
    ({"minimum": 2}, 1, "invalid-value", "arguments.k: must be at least 2, got 1"),
    ({"maximum": 2}, 3, "invalid-value", "arguments.k: must be at most 2, got 3"),
    ({"exclusiveMinimum": 2}, 2, "invalid-value", "arguments.k: must be greater than 2, got 2"),
    ({"exclusiveMaximum": 2}, 2, "invalid-value", "arguments.k: must be less than 2, got 2"),
    ({"multipleOf": 2}, 3, "invalid-value", "arguments.k: must be a multiple of 2, got 3"),
    ({"minLength": 2}, "a", "invalid-value", "arguments.k: must have at least 2 characters, has 1"),
    ({"maxLength": 1}, "abc", "invalid-value", "arguments.k: must have at most 1 character, has 3"),
    ({"minItems": 1}, [], "invalid-value", "arguments.k: must have at least 1 item, has 0"),
    ({"maxItems": 2}, [1, 2, 3], "invalid-value", "arguments.k: must have at most 2 items, has 3"),
    ({"minProperties": 2}, {}, "invalid-value", "arguments.k: must have at least 2 properties, has 0"),
    ({"maxProperties": 0}, {"a": 1}, "invalid-value", "arguments.k: must have at most 0 properties, has 1"),
    ({"uniqueItems": True}, [1, 1], "invalid-value", "arguments.k: the items must all be different"),
    ({"pattern": "^a+$"}, "b", "invalid-value", "arguments.k: must match the pattern '^a+$', got \"b\""),
    ({"not": STR}, "b", "invalid-value", 'arguments.k: "b" is not allowed'),
    ({"contains": STR}, [1], "invalid-value", "arguments.k: none of the items is what it must contain"),
    ({"oneOf": [{}, {}]}, 1, "invalid-value", "arguments.k: fits more than one of the allowed forms, got 1"),
    (
        {"propertyNames": {"maxLength": 1}},
        {"abc": 1},
        "invalid-value",
        'arguments.k: the name "abc" is not allowed: must have at most 1 character, has 3',
    ),
    (
        {"properties": {"x": {}}, "required": ["x"]},
        {},
        "missing-argument",
        "arguments.k: missing required property 'x'",
    ),
    (
        {"properties": {"size": {}}, "additionalProperties": False},
        {"sise": 1},
        "unexpected-argument",
        "arguments.k: unexpected property 'sise'",
    ),
    (
        {"items": {"properties": {"x": INT}}},
        [{}, {}, {"x": "y"}],
        "wrong-type",
        'arguments.k[2].x: expected integer, got "y"',
    ),
    ({"additionalProperties": INT}, {"a b": "y"}, "wrong-type", 'arguments.k["a b"]: expected integer, got "y"'),
    (TAGGED, {"kind": "for"}, "missing-argument", "arguments.k: missing required property 'minutes'"),
    (TAGGED, {"kind": "for", "minutes": "x"}, "wrong-type", 'arguments.k.minutes: expected number, got "x"'),
    (TAGGED, "x", "wrong-type", 'arguments.k: expected object, got "x"'),
    (INT, LONG, "wrong-type", f'arguments.k: expected integer, got "{"x" * 60}..."'),
    (STR, 10**400, "wrong-type", "arguments.k: expected string, got a number of about 401 digits"),
    (
        INT,
        list(range(1000)),
        "wrong-type",
        "arguments.k: expected integer, got [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, ...]",
    ),
    (INT, "\ud800", "wrong-type", 'arguments.k: expected integer, got "\\ud800"'),
]


@pytest.mark.parametrize(("schema", "value", "code", "message"), WORDS, ids=lambda v: str(v)[:30])
def test_words(schema: Any, value: Any, code: str, message: str) -> None:
    assert said(schema, value) == [(code, message)]


def test_names() -> None:
    trip = tool({"city": STR, "days": INT}, required=["city"])
    assert trip.validate({"city": "Oslo"}) == []
    assert trip.validate({"citty": "Oslo", "days": "three"}) == [
        Problem("missing-argument", "missing required argument 'city'", ("city",)),
        Problem("unexpected-argument", "unexpected argument 'citty'; did you mean 'city'?", ("citty",)),
        Problem("wrong-type", 'arguments.days: expected integer, got "three"', ("days",)),
    ]
    assert trip.validate({"city": "", "zzz": 1}) == [
        Problem("unexpected-argument", "unexpected argument 'zzz'", ("zzz",))
    ]
    closed = tool({"city": {}}, additionalProperties=False)
    assert closed.validate({"City": 1}) == [
        Problem("unexpected-argument", "unexpected argument 'City'; did you mean 'city'?", ("City",))
    ]


def test_undeclared_arguments() -> None:
    assert tool({}).validate({"anything": 1}) == []  # a schema without properties says nothing
    assert tool({"a": {}}, additionalProperties=True).validate({"b": 1}) == []
    assert tool({"a": {}}, additionalProperties=INT).validate({"b": 1}) == []
    assert tool({"a": {}}, patternProperties={"^x_": {}}).validate({"x_1": 1}) == []
    assert len(tool({"a": {}}, patternProperties={"^x_": {}}).validate({"y_1": 1})) == 1
    assert tool({"a": {}}, anyOf=[{"properties": {"b": {}}}, {"$ref": "#/$defs/C"}], **{
        "$defs": {"C": {"properties": {"c": {}}}}
    }).validate({"a": 1, "b": 2, "c": 3}) == []  # fmt: skip

    def ping() -> None:
        """Takes nothing."""

    # a function's signature is complete, even an empty one
    assert [p.code for p in Tool.of(ping).validate({"x": 1})] == ["unexpected-argument"]
    assert Tool.of({"name": "ping"}).validate({"x": 1}) == []


def test_nullable_everywhere() -> None:
    schema = {
        "type": "array",
        "items": {"type": "object", "properties": {"x": {"type": "string", "nullable": True, "enum": ["a"]}}},
        "nullable": True,
    }
    ref = {"$ref": "#/$defs/R", "nullable": True}
    any_of = {"anyOf": [INT, STR], "nullable": True}
    mine = {
        "k": schema,
        "r": ref,
        "u": any_of,
        "nullable": {"type": "boolean"},
        "o": {"type": "integer", "nullable": False},
    }
    before = copy.deepcopy(mine)
    one = tool(mine, **{"$defs": {"R": INT}})
    assert mine == before
    assert one.parameters["properties"] == before
    assert one.validate({"k": None, "r": None, "u": None, "nullable": True}) == []
    assert one.validate({"k": [{"x": None}, {"x": "a"}], "r": 1, "u": ""}) == []
    assert len(one.validate({"k": [{"x": "b"}], "r": "x", "u": [], "nullable": None, "o": None})) == 5


def test_media_types_are_no_constraint() -> None:
    assert (
        tool({"k": {"type": "image"}, "l": {"type": "array", "items": {"type": "audio"}}}).validate({"k": 1, "l": [2]})
        == []
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": 10**400},
        {"n": -(10**5000)},
        {"n": 1.0},
        {"s": "\ud800"},
        {"s": "🙂"},
        {"\ud800": 1},
        {"any": math.nan},
        {"any": math.inf},
        {"any": (1, 2)},
        {"any": {1: 2}},
        {"any": object()},
        {"any": {1, 2}},
        {"any": b"x"},
        {1: 2},
        {None: None},
        [],
        "text",
        None,
        3,
    ],
    ids=lambda v: type(v).__name__,
)
def test_no_value_raises(arguments: Any) -> None:
    one = tool({"n": {"type": "integer", "minimum": -(10**6000)}, "s": STR, "any": {"anyOf": [{}, {}]}})
    for problem in one.validate(arguments):
        problem.message.encode()  # can be shown to a model
        assert len(problem.message) < 300


def test_deep_and_wide_values() -> None:
    deep: Any = []
    for _ in range(50_000):
        deep = [deep]
    one = tool({"k": {"$ref": "#/$defs/N"}, "w": {"items": INT}}, **{
        "$defs": {"N": {"type": "array", "items": {"$ref": "#/$defs/N"}}}
    })  # fmt: skip
    one.validate({"k": deep})
    assert len(one.validate({"w": ["x"] * 10_000})) == 20
    assert len(one.validate({f"x{i}": 1 for i in range(1000)})) == 20


# --- schemas that can't be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ([], r'tool \'f\': "parameters" must be a JSON schema'),
        ("x", r'"parameters" must be a JSON schema'),
        ({"type": "array"}, r"tool 'f': parameters must be an object schema, but \"type\" is \"array\""),
        ({"properties": []}, r"tool 'f': parameters.properties is no valid JSON schema"),
        ({"properties": {"a": 3}}, r"parameters.properties.a is no valid JSON schema"),
        ({"properties": {"a": {"type": "strng"}}}, r"parameters.properties.a has the type 'strng'.*use one of array"),
        ({"properties": {"a": {"type": "widget"}}}, r"no JSON type; use one of array, boolean"),
        ({"properties": {"a": {"type": 3}}}, r"parameters.properties.a.type is no valid JSON schema"),
        ({"properties": {"a": {"enum": "x"}}}, r"parameters.properties.a.enum is no valid"),
        ({"properties": {"a": {"pattern": "("}}}, r"tool 'f': .*(pattern|regex)"),
        ({"required": "a"}, r"parameters.required is no valid"),
        ({"properties": {"a": {"$ref": "#/$defs/Nope"}}}, r"tool 'f': "),
        ({"properties": {"a": {"$ref": "https://example.com/x.json"}}}, r"never fetched"),
        ({"properties": {"a": {"default": object()}}}, r"parameters.properties.a.default is a object.*written as JSON"),
        ({"properties": {"a": {"default": {1, 2}}}}, r"written as JSON"),
        ({"properties": {"a": {"default": math.nan}}}, r"is nan, which JSON doesn't have"),
        ({"properties": {1: {}}}, r"has the key 1; the keys of a schema must be strings"),
        ({"description": "\ud800"}, r"half a surrogate pair"),
    ],
    ids=lambda v: str(v)[:40].encode("ascii", "replace").decode(),
)
def test_wrong_schemas(parameters: Any, match: str) -> None:
    with pytest.raises(ToolError, match=match) as caught:
        ToolSet.of([{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    assert "'f'" in str(caught.value)


def test_schema_that_contains_itself() -> None:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"a": schema}
    with pytest.raises(ToolError, match=r"tool 'f': .*contains itself"):
        Tool.of({"name": "f", "parameters": schema})


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"type": ["object", "null"]},
        {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"a": {"items": [{}]}}},
        {
            "$schema": "http://json-schema.org/draft-04/schema#",
            "properties": {"a": {"minimum": 1, "exclusiveMinimum": True}},
        },
        {"$schema": "https://example.com/my-dialect", "type": "object"},
        {"properties": {"a": {"items": [INT]}}},
        {"properties": {"a": {"minimum": 1, "exclusiveMinimum": True}}},
        {"$id": "https://example.com/x", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {}}},
        {"properties": {"a": {"default": 10**400}}},
        {"properties": {"a": {"enum": (1, 2)}}},
        {"properties": {"a": {"x-custom": [1]}}},
    ],
    ids=lambda v: str(v)[:40],
)
def test_schemas_in_every_dialect(parameters: Any) -> None:
    assert Tool.of({"name": "f", "parameters": parameters}).validate({}) == []


def test_nothing_is_fetched() -> None:
    with pytest.raises(ToolError, match=r"put it under \$defs"):
        Tool.of({"name": "f", "parameters": {"properties": {"a": {"$ref": "http://localhost:1/x.json"}}}})


# --- agreement with the reference implementation ------------------------------------------------------------------

leaves = st.sampled_from(
    [
        STR,
        INT,
        {"type": "number", "minimum": 0},
        {"type": "boolean"},
        NULL,
        {"type": ["string", "null"]},
        {"enum": [1, "a", None, True]},
        {"const": 1},
        {"minLength": 2},
        {"maxItems": 1},
        {"uniqueItems": True},
        {"multipleOf": 2},
        {"exclusiveMaximum": 10},
        {"pattern": "a"},
        {"$ref": "#/$defs/R"},
        {},
    ]
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries({"prefixItems": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"contains": inner}),
        st.fixed_dictionaries(
            {"properties": st.dictionaries(st.sampled_from("ab"), inner), "additionalProperties": inner}
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from("ab"), inner),
                "required": st.lists(st.sampled_from("ab"), unique=True),
                "additionalProperties": st.booleans(),
            }
        ),
        st.fixed_dictionaries({"if": inner, "then": inner, "else": inner}),
    ),
    max_leaves=6,
)
instances = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.sampled_from([1.0, 1.5, -0.0, 10**30, 10**400])
    | st.sampled_from(["", "a", "ab", "🙂"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(schema=schemas, value=instances, required=st.booleans())
def test_verdicts_agree_with_the_jsonschema_package(schema: Any, value: Any, required: bool) -> None:
    parameters = {
        "type": "object",
        "properties": {"k": schema},
        "required": ["k", "z"] if required else ["k"],
        "$defs": {"R": {"type": ["integer", "array"], "items": {"$ref": "#/$defs/R"}}},
    }
    reference = jsonschema.Draft202012Validator(parameters)
    arguments = {"k": value}
    problems = Tool.of({"name": "f", "parameters": parameters}).validate(arguments)
    assert (problems == []) == reference.is_valid(arguments)
    for problem in problems:
        assert problem.code in ("missing-argument", "unexpected-argument", "wrong-type", "invalid-value")
        assert problem.message


@given(schema=schemas, value=instances)
def test_both_engines_agree(schema: Any, value: Any) -> None:
    """Half a surrogate pair sends the same question to the other engine."""
    one = tool({"k": schema}, additionalProperties=True, **{"$defs": {"R": INT}})
    fast, slow = one.validate({"k": value}), one.validate({"k": value, "\ud800": 1})
    assert (fast == []) == (slow == [])
    assert {p.code for p in fast} == {p.code for p in slow} or "not" in str(schema) or "Of" in str(schema)


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [("int", "3", 3), ("float", "1.5", 1.5), ("String", "3", "3"), (["dict", "null"], "null", None)],
)
def test_other_languages_names_of_types_count(declared: Any, text: str, value: Any) -> None:
    tool = Tool.of({"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": declared}}}})
    assert tool.convert_text("a", text) == (value, None)
    assert tool.validate({"a": value}) == []
    assert [problem.code for problem in tool.validate({"a": [1]})] == ["wrong-type"]
