"""Typing of text, as ruled: by the schema, exactly, and never by guessing."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolparse.tools import Tool, untyped_tree

DEFS = {
    "Count": {"type": "integer"},
    "Alias": {"$ref": "#/$defs/Count"},
    "Loop": {"$ref": "#/$defs/Loop"},
    "A": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "integer"}]},
    "B": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]},
    "odd/name~": {"type": "boolean"},
    "Named": {"$anchor": "named", "type": "number"},
}


def tool(schema: Any, **more: Any) -> Tool:
    return Tool.of({"name": "f", "parameters": {"type": "object", "properties": {"k": schema}, "$defs": DEFS, **more}})


STR, INT, NUM, BOOL, NULL = ({"type": name} for name in ("string", "integer", "number", "boolean", "null"))
OBJ, ARR = {"type": "object"}, {"type": "array"}
KEPT = object()  # stays text, and nothing is wrong

# schema, text, value without a problem
FITS: list[tuple[Any, str, Any]] = [
    (STR, "42", KEPT),
    (STR, '"42"', KEPT),
    (STR, "null", KEPT),
    (STR, '{"a": 1}', KEPT),
    (STR, "", KEPT),
    (STR, "  x\n", KEPT),
    (INT, "3", 3),
    (INT, "3.0", 3),
    (INT, "-3.000", -3),
    (INT, " 5 ", 5),
    (INT, "007", 7),
    (INT, "+5", 5),
    (INT, "1e3", 1000),
    (INT, "-0", 0),
    (INT, "123456789012345678901234567890", 123456789012345678901234567890),
    (INT, "9" * 400, int("9" * 400)),
    (NUM, "3", 3),
    (NUM, "3.0", 3.0),
    (NUM, "1e3", 1000.0),
    (NUM, ".5", 0.5),
    (NUM, "-1.25e-3", -0.00125),
    (NUM, str(2**70), 2**70),
    (NUM, "0.1", 0.1),
    (BOOL, "true", True),
    (BOOL, "False", False),
    (BOOL, "1", True),
    (BOOL, " false\n", False),
    (NULL, "null", None),
    (NULL, "None", None),
    ({"type": ["string", "null"]}, "null", None),
    ({"type": ["string", "null"]}, "None", None),
    ({"type": ["string", "null"]}, "hi", KEPT),
    ({"type": ["string", "null"]}, "", KEPT),
    ({"type": ["string", "null"]}, " null", KEPT),
    ({"type": "string", "nullable": True}, "null", None),
    ({"type": "integer", "nullable": True}, "null", None),
    ({"type": "integer", "nullable": True}, "None", None),
    ({"type": "integer", "nullable": True}, "5", 5),
    ({"anyOf": [STR, NULL]}, "null", None),
    ({"anyOf": [INT, NULL]}, "5", 5),
    ({"anyOf": [INT, NULL]}, "null", None),
    ({"anyOf": [STR, INT]}, "5", 5),
    ({"type": ["string", "integer"]}, "5", 5),
    ({"type": ["integer", "string"]}, "5", 5),
    ({"type": ["integer", "string"]}, "5.0", 5),
    ({"type": ["integer", "string"]}, "007", KEPT),
    ({"type": ["integer", "string"]}, " 5", KEPT),
    ({"type": ["integer", "string"]}, "+5", KEPT),
    ({"type": ["integer", "string"]}, "five", KEPT),
    ({"type": ["number", "string"]}, "1.", KEPT),
    ({"type": ["number", "string"]}, "1.5", 1.5),
    ({"type": ["number", "string"]}, "1e999", KEPT),
    ({"type": ["number", "string"]}, "NaN", KEPT),
    ({"type": ["boolean", "string"]}, "true", True),
    ({"type": ["boolean", "string"]}, "True", True),
    ({"type": ["boolean", "string"]}, "1", KEPT),
    ({"type": ["boolean", "integer"]}, "1", 1),
    ({"type": ["integer", "number"]}, "3.0", 3.0),
    ({"oneOf": [{"type": "array", "items": INT}, STR]}, "[1, 2]", [1, 2]),
    ({"oneOf": [{"type": "array", "items": INT}, STR]}, "[1, 2", KEPT),
    ({"oneOf": [{"type": "array", "items": INT}, STR]}, '{"a": 1}', KEPT),
    ({"enum": [1, 5]}, "5", 5),
    ({"enum": ["1", "5"]}, "5", KEPT),
    ({"enum": ["1", 5]}, "5", 5),
    ({"enum": ["1", 5]}, "1", KEPT),
    ({"enum": ["5", 5]}, "5", 5),
    ({"enum": [True, "auto"]}, "true", True),
    ({"enum": [True, "auto"]}, "auto", KEPT),
    ({"enum": [None, "a"]}, "null", None),
    ({"enum": [1.5]}, "1.5", 1.5),
    ({"enum": [[1, 2], {"a": 1}]}, "[1, 2]", [1, 2]),
    ({"const": 3}, "3", 3),
    ({"const": "3"}, "3", KEPT),
    ({"type": "string", "enum": ["a", "b"], "nullable": True}, "null", None),
    ({"type": "string", "enum": ["a", "b"], "nullable": True}, "a", KEPT),
    ({"type": "integer", "enum": [1, 5]}, "7", 7),  # an integer; that it is not listed is for `validate`
    ({"type": ["integer", "string"], "enum": ["1", 2]}, "1", KEPT),
    ({"type": "integer", "const": 1.0}, "1", 1),
    ({"anyOf": [{"enum": ["auto"]}, INT]}, "auto", KEPT),
    ({"anyOf": [{"enum": ["auto"]}, INT]}, "5", 5),
    ({"$ref": "#/$defs/Count"}, "5", 5),
    ({"$ref": "#/$defs/Alias"}, "5", 5),
    ({"$ref": "#/$defs/odd~1name~0"}, "true", True),
    ({"$ref": "#/$defs/A"}, "5", 5),
    ({"$ref": "#/$defs/A"}, "null", None),
    ({"$ref": "#/$defs/B"}, "null", None),
    ({"$ref": "#named"}, "1.5", 1.5),
    ({"allOf": [INT, {"minimum": 0}]}, "5", 5),
    ({"allOf": [{"type": ["integer", "string"]}, {"type": ["integer", "null"]}]}, " 5", 5),
    ({"allOf": [{"$ref": "#/$defs/Count"}], "description": "d"}, "5", 5),
    ({"allOf": [NUM, INT]}, "5.0", 5),
    ({"anyOf": [INT, {}]}, "5", 5),
    ({"anyOf": [INT, {}]}, "five", KEPT),
    (OBJ, '{"a": 1}', {"a": 1}),
    (OBJ, '\n{"a": [1.0, null]}\n', {"a": [1.0, None]}),
    (OBJ, '{"a": %s}' % ("9" * 40), {"a": int("9" * 40)}),
    (OBJ, '{"a": "\\ud83d"}', {"a": "\ud83d"}),
    (ARR, "[]", []),
    ({"type": ["object", "array"]}, "[1]", [1]),
    ({"anyOf": [OBJ, NULL]}, "null", None),
    # no type, but keywords that only make sense for one: what is exactly of that type is converted
    ({"properties": {"a": INT}}, '{"a": 1}', {"a": 1}),
    ({"properties": {"a": INT}}, "text", KEPT),
    ({"minimum": 0}, "5", 5),
    # silence
    ({}, "5", KEPT),
    ({}, '{"a": 1}', KEPT),
    (True, "5", KEPT),
    ({"description": "d"}, "null", KEPT),
    ({"$ref": "#/$defs/Loop"}, "5", KEPT),
    ({"not": STR}, "5", KEPT),
    ({"type": "image"}, "5", KEPT),
]

# schema, text, code
FITS_NOT: list[tuple[Any, str, str]] = [
    (INT, "three", "wrong-type"),
    (INT, "3.5", "wrong-type"),
    (INT, "", "wrong-type"),
    (INT, "1_000", "wrong-type"),
    (INT, "٣", "wrong-type"),
    (INT, "1e999999999", "wrong-type"),
    (INT, "9" * 100_000, "wrong-type"),
    (NUM, "1e999", "wrong-type"),
    (NUM, "-1e999", "wrong-type"),
    (NUM, "NaN", "wrong-type"),
    (NUM, "inf", "wrong-type"),
    (NUM, "Infinity", "wrong-type"),
    (BOOL, "junk", "wrong-type"),
    (BOOL, "yes", "wrong-type"),
    (BOOL, "2", "wrong-type"),
    (NULL, "nothing", "wrong-type"),
    ({"anyOf": [INT, NULL]}, "x", "wrong-type"),
    (OBJ, "{'a': 1}", "wrong-type"),
    (OBJ, "[1]", "wrong-type"),
    (OBJ, '{"a": NaN}', "wrong-type"),
    (OBJ, '{"a": 1e999}', "wrong-type"),
    (OBJ, "{", "wrong-type"),
    (OBJ, '{"a":1} x', "wrong-type"),
    (ARR, "[1,]", "wrong-type"),
    (ARR, "[" * 100_000, "wrong-type"),
    (ARR, "[" * 500 + "]" * 500, "wrong-type"),
    (ARR, '["\ud800"', "wrong-type"),
    ({"enum": [1, 5]}, "7", "invalid-value"),
    ({"enum": [1, "a"]}, "b", "invalid-value"),
    ({"type": "integer", "enum": [1, 5]}, "x", "wrong-type"),
]

PYTHON: list[tuple[Any, str, Any]] = [
    (BOOL, "True", True),
    ({"type": ["boolean", "string"]}, "True", True),
    ({"type": ["string", "null"]}, "None", None),
    ({"type": ["string", "null"]}, "null", None),
    (STR, "None", KEPT),
    (OBJ, "{'a': 1, 'b': [True, None, 'it\\'s', (1, 2)]}", {"a": 1, "b": [True, None, "it's", [1, 2]]}),
    (OBJ, '{"a": True}', {"a": True}),
    (OBJ, "{'a': {}, }", {"a": {}}),
    (ARR, "[1, -2.5, 'x', u'y', \"z\"]", [1, -2.5, "x", "y", "z"]),
    (ARR, "(1,)", [1]),
    (ARR, "()", []),
    (ARR, "['\\x41\\u00e9\\n\\\\']", ["Aé\n\\"]),
    ({"anyOf": [OBJ, STR]}, "{'a': 1}", {"a": 1}),
    ({"anyOf": [OBJ, STR]}, "{'a': b}", KEPT),
    ({}, "True", KEPT),
]


def check(schema: Any, text: str, expected: Any, *, python: bool) -> None:
    value, problem = tool(schema).convert_text("k", text, python=python)
    assert problem is None
    if expected is KEPT:
        assert value is text
    else:
        assert value == expected
        assert type(value) is type(expected)


def shown(value: Any) -> str:
    return str(value)[:40] if "0x" not in str(value) else type(value).__name__


@pytest.mark.parametrize(("schema", "text", "expected"), FITS, ids=shown)
def test_fits(schema: Any, text: str, expected: Any) -> None:
    check(schema, text, expected, python=False)


@pytest.mark.parametrize(("schema", "text", "expected"), PYTHON, ids=shown)
def test_fits_in_python_spelling(schema: Any, text: str, expected: Any) -> None:
    check(schema, text, expected, python=True)


@pytest.mark.parametrize(("schema", "text", "code"), FITS_NOT, ids=shown)
def test_fits_not(schema: Any, text: str, code: str) -> None:
    value, problem = tool(schema).convert_text("k", text)
    assert value is text
    assert problem.code == code
    assert problem.path == ("k",)
    assert len(problem.message) < 300


NO_LITERALS = (
    "{1: 2}", "{'a' 1}", "{'a'}", "[1 2]", "[,]", "(1)", "[007]", "['a' 'b']", "[nan]", "[1e999]", "{'a': 1}}", "[1", "['",
    "__import__('os')", "[print(1)]", "{**x}", "[f'x']", "[b'x']", "['\\N{DASH}']", "['\\x4']",
)  # fmt: skip


def test_what_is_no_python_literal() -> None:
    for text in NO_LITERALS:
        value, problem = tool({"type": ["object", "array"]}).convert_text("k", text, python=True)
        assert value == text
        assert problem is not None


def test_words() -> None:
    def message(schema: Any, text: str) -> str:
        problem = tool(schema).convert_text("k", text)[1]
        return problem.message

    assert message(INT, "three") == 'arguments.k: expected integer, got "three"'
    assert message({"anyOf": [INT, NULL]}, "x") == 'arguments.k: expected integer or null, got "x"'
    assert message({"type": "integer", "nullable": True}, "x") == 'arguments.k: expected integer or null, got "x"'
    assert message({"type": ["object", "array", "boolean"]}, "x") == (
        'arguments.k: expected boolean, array or object, got "x"'
    )
    assert message({"enum": [1, None]}, "x") == 'arguments.k: must be one of 1, null; got "x"'


def test_conversion_and_validation_say_the_same() -> None:
    for schema, text in ((INT, "three"), ({"anyOf": [BOOL, NULL]}, "x"), ({"enum": [1, 5]}, "7")):
        one = tool(schema)
        value, problem = one.convert_text("k", text)
        assert one.validate({"k": value}) == [problem]


def test_admits() -> None:
    one = tool(STR)
    assert one.admits("k") == "text"
    assert one.admits("other") == "unknown"
    for schema, expected in (
        ({"enum": ["a", "b"]}, "text"),
        ({"const": "a"}, "text"),
        ({"anyOf": [STR, {"enum": ["a"]}]}, "text"),
        ({"allOf": [STR, {"minLength": 1}]}, "text"),
        ({"type": "string", "nullable": True}, "typed"),
        ({"type": ["string", "null"]}, "typed"),
        (INT, "typed"),
        ({"properties": {}}, "typed"),
        ({}, "unknown"),
        ({"$ref": "#/$defs/Loop"}, "unknown"),
        ({"type": "image"}, "unknown"),
    ):
        assert tool(schema).admits("k") == expected, schema


def test_additional_and_pattern_properties() -> None:
    one = tool(STR, additionalProperties=INT, patternProperties={"^b_": BOOL})
    assert one.convert_text("x", "5") == (5, None)
    assert one.convert_text("b_x", "true") == (True, None)
    assert one.convert_text("k", "5") == ("5", None)
    assert tool(STR, additionalProperties=True).convert_text("x", "5") == ("5", None)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolparse.tools.schema_types._MAX_KNOWN", 100)
    monkeypatch.setattr("toolparse.tools.convert._MAX_PLANS", 100)
    one = tool(
        STR, patternProperties={"^(a+)+$": INT}, anyOf=[{"additionalProperties": INT}, {"additionalProperties": NULL}]
    )
    for number in range(1_000):
        assert one.convert_text(f"x{number}", "5") == (5, None)
    core = one._core.converter
    assert max(len(core._plans), len(core._by_key), len(core.resolver._known)) <= 100
    started = time.perf_counter()
    one.convert_text("a" * 60 + "!", "5")
    assert time.perf_counter() - started < 5


def test_properties_declared_in_alternatives() -> None:
    one = Tool.of(
        {
            "name": "f",
            "parameters": {
                "type": "object",
                "properties": {"plain": STR},
                "oneOf": [
                    {"properties": {"a": {"type": "array", "items": STR}}},
                    {"properties": {"b": INT, "c": INT}},
                    {"$ref": "#/$defs/Rest"},
                ],
                "$defs": {"Rest": {"properties": {"c": NULL}}},
            },
        }
    )
    assert one.convert_text("plain", "007") == ("007", None)
    assert one.convert_text("a", "[]") == ([], None)
    assert one.convert_text("b", "7") == (7, None)
    assert one.convert_text("c", "7") == (7, None)
    assert one.convert_text("c", "null") == (None, None)


def test_hostile_schemas() -> None:
    layers: dict[str, Any] = {f"L{i}": {"anyOf": [{"$ref": f"#/$defs/L{i + 1}"}] * 2} for i in range(60)}
    layers["L60"] = INT
    started = time.perf_counter()
    one = tool({"$ref": "#/$defs/L0"}, **{"$defs": layers})
    one.convert_text("k", "5")
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "unit", ["[", "{'a':", "(", "-", "9", '"', "'", "\\", "['", "{", "(1,),", "'\\", "1,", " ", "[]", "{}{}", "\ud800"]
)
def test_time_is_linear(unit: str) -> None:
    one = tool({"type": ["object", "array", "integer", "number", "boolean", "null", "string"]})

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        best = math.inf
        for prefix in ("", "["):
            started = time.perf_counter()
            one.convert_text("k", prefix + text, python=True)
            best = min(best, time.perf_counter() - started)
        return best

    # generous: eight times the text, and what a busy machine adds
    small = max(seconds(10_000) for _ in range(2))
    assert min(seconds(80_000) for _ in range(2)) < 40 * small + 0.05


# --- properties ---------------------------------------------------------------------------------------------------

scalars = st.sampled_from([STR, INT, NUM, BOOL, NULL, {}, True, {"enum": [1, "1", None]}, {"const": True}])
schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("abc"), inner)}
        ),
        st.fixed_dictionaries({"type": st.sampled_from(["string", "integer"]), "nullable": st.booleans()}),
        st.sampled_from([{"$ref": f"#/$defs/{name}"} for name in ("Count", "Alias", "Loop", "A", "B")]),
    ),
    max_leaves=6,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
like_literals = st.text(alphabet="[]{}(),:'\"\\ntrueTFNalsx0123456789.-+eE \n\ud800é", max_size=40)


@given(schema=schemas, text=st.text() | like_literals, python=st.booleans())
def test_never_raises(schema: Any, text: str, python: bool) -> None:
    one = Tool.of({"name": "f", "parameters": {"type": "object", "properties": {"k": schema}, "$defs": DEFS}})
    value, problem = one.convert_text("k", text, python=python)
    if problem is not None:
        assert value is text
    if one.admits("k") != "typed":
        assert value is text
    assert isinstance(one.retype("k", text), object)
    one.validate({"k": value})


def write(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def admitted_by(schema: Any) -> st.SearchStrategy[Any]:
    """Values of a schema made of one type."""
    kind = schema["type"]
    return {
        "string": st.text(),
        "integer": st.integers(),
        "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
        "boolean": st.booleans(),
        "null": st.none(),
        "object": st.dictionaries(st.text(), json_values, max_size=4),
        "array": st.lists(json_values, max_size=4),
    }[kind]


single = st.sampled_from([STR, INT, NUM, BOOL, NULL, OBJ, ARR])


@given(data=st.data(), schema=single, null=st.booleans())
def test_what_is_written_is_read(data: st.DataObject, schema: Any, null: bool) -> None:
    value = data.draw(st.none() | admitted_by(schema) if null else admitted_by(schema))
    if null:
        schema = {"anyOf": [schema, NULL]}
    text = write(value)
    read, problem = tool(schema).convert_text("k", text)
    assert problem is None
    if null and value in ("null", "None"):
        assert read is None  # a text format can't tell the two apart
    else:
        assert read == value
        assert type(read) is type(value)


@given(value=st.dictionaries(st.text(), json_values, max_size=4) | st.lists(json_values, max_size=4))
def test_python_repr_is_read(value: Any) -> None:
    read, problem = tool({"type": ["object", "array"]}).convert_text("k", repr(value), python=True)
    assert problem is None
    assert read == value


# --- retype -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (INT, "3", 3),
        (INT, "3.0", 3),
        (INT, "three", "three"),
        (INT, " 3", " 3"),
        (INT, 3, 3),
        (NUM, "1.5", 1.5),
        (BOOL, "True", True),
        (BOOL, "true", True),
        (BOOL, "1", "1"),
        ({"type": "integer", "nullable": True}, "None", None),
        (ARR, "['a', 1]", ["a", 1]),
        (OBJ, "{'a': None}", {"a": None}),
        (STR, "3", "3"),
        ({"type": ["string", "integer"]}, "3", "3"),
        ({"enum": [1, 2]}, "2", 2),
        ({"enum": ["1", 2]}, "1", "1"),
        ({}, "3", "3"),
        (ARR, ["1"], ["1"]),
    ],
    ids=str,
)
def test_retype(schema: Any, value: Any, expected: Any) -> None:
    result = tool(schema).retype("k", value)
    assert result == expected
    assert type(result) is type(expected)
    assert tool(schema).retype("undeclared", value) == value


# --- trees --------------------------------------------------------------------------------------------------------

TRIP = Tool.of(
    {
        "name": "plan_trip",
        "parameters": {
            "type": "object",
            "properties": {
                "city": STR,
                "days": INT,
                "direct": BOOL,
                "prefs": {"type": "object", "properties": {"pace": STR, "max": INT}},
                "via": {"type": "array", "items": STR},
                "grid": {"type": "array", "items": {"type": "array", "items": INT}},
                "stops": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"x": INT, "tags": {"type": "array", "items": STR}}},
                },
                "pair": {"type": "array", "prefixItems": [STR, INT]},
                "note": {"type": ["string", "null"]},
                "either": {"anyOf": [{"type": "array", "items": INT}, STR]},
                "free": {"type": "object"},
                "boxed": {"type": "object", "properties": {"item": INT}},
                "open": {},
            },
        },
    }
)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ([], {}),
        ("", {}),
        ([("city", "Oslo"), ("days", "3"), ("direct", "True")], {"city": "Oslo", "days": 3, "direct": True}),
        ([("city", "<b>x</b>"), ("days", " 7 ")], {"city": "<b>x</b>", "days": 7}),
        ([("prefs", [("pace", "007"), ("max", "2")])], {"prefs": {"pace": "007", "max": 2}}),
        ([("via", [("item", "1"), ("item", "2")])], {"via": ["1", "2"]}),
        ([("via", [("item", "1")])], {"via": ["1"]}),
        ([("via", "a"), ("via", "b")], {"via": ["a", "b"]}),
        ([("via", [("x", "a"), ("x", "b")])], {"via": ["a", "b"]}),
        ([("via", '["a"]')], {"via": ["a"]}),
        ([("grid", [("item", [("item", "1"), ("item", "2")]), ("item", [])])], {"grid": [[1, 2], []]}),
        (
            [("stops", [("item", [("x", "1")]), ("item", [("x", "2"), ("tags", [("item", "3")])])])],
            {"stops": [{"x": 1}, {"x": 2, "tags": ["3"]}]},
        ),
        ([("stops", [("x", "1"), ("tags", "")])], {"stops": [{"x": 1, "tags": []}]}),
        ([("pair", [("item", "1"), ("item", "1"), ("item", "1")])], {"pair": ["1", 1, "1"]}),
        # empty elements
        (
            [("via", ""), ("prefs", []), ("city", ""), ("note", ""), ("open", ""), ("other", [])],
            {"via": [], "prefs": {}, "city": "", "note": "", "open": "", "other": ""},
        ),
        ([("open", [("item", ""), ("item", "a")])], {"open": [None, "a"]}),
        ([("via", [("item", ""), ("item", "a")])], {"via": ["", "a"]}),
        ([("either", [("item", "1")])], {"either": [1]}),
        ([("either", "text")], {"either": "text"}),
        ([("note", "null")], {"note": None}),
        # objects without a schema, and one whose property is called item
        ([("free", [("k", "1"), ("n", [("m", "x")])])], {"free": {"k": "1", "n": {"m": "x"}}}),
        ([("free", [("item", "1")])], {"free": {"item": "1"}}),
        ([("boxed", [("item", "1")])], {"boxed": {"item": 1}}),
        ([("open", [("item", "1"), ("item", "2")])], {"open": ["1", "2"]}),
        ([("open", [("a", "1"), ("a", "2"), ("b", "3")])], {"open": {"a": ["1", "2"], "b": "3"}}),
    ],
    ids=str,
)
def test_tree(tree: Any, expected: Any) -> None:
    value, problems = TRIP.convert_tree(tree)
    assert problems == []
    assert value == expected
    assert json.dumps(value) == json.dumps(expected)


def test_one_argument_of_a_tree() -> None:
    assert TRIP.convert_tree([("item", "1")], "via") == (["1"], [])
    assert TRIP.convert_tree("7", "days") == (7, [])
    assert TRIP.convert_tree("7", "nowhere") == ("7", [])


def test_tree_without_a_tool() -> None:
    assert untyped_tree([("a", "1"), ("b", [("item", "x"), ("item", "")]), ("c", "")]) == {
        "a": "1",
        "b": ["x", None],
        "c": "",
    }
    assert untyped_tree("text") == "text"


def test_tree_that_does_not_fit() -> None:
    value, problems = TRIP.convert_tree(
        [("days", "x"), ("prefs", [("max", "many")]), ("stops", [("item", [("x", "y")])]), ("direct", "")]
    )
    assert value == {"days": "x", "prefs": {"max": "many"}, "stops": [{"x": "y"}], "direct": ""}
    assert [problem.path for problem in problems] == [("days",), ("prefs", "max"), ("stops", 0, "x"), ("direct",)]
    assert problems[2].message == 'arguments.stops[0].x: expected integer, got "y"'
    value, problems = TRIP.convert_tree("junk")
    assert value == {}
    assert problems[0].code == "wrong-type"


def nested(depth: int) -> Any:
    tree: Any = "v"
    for _ in range(depth):
        tree = [("n", tree)]
    return tree


def test_deep_trees() -> None:
    value, problems = TRIP.convert_tree([("free", nested(127))])
    assert problems == []
    assert json.dumps(value).count('"n"') == 127
    value, problems = TRIP.convert_tree([("free", nested(20_000))])
    assert problems[0].code == "invalid-value"
    assert "nested too deeply" in problems[0].message
    assert len(problems[0].message) < 100
    assert json.dumps(value)


trees = st.recursive(
    st.text(max_size=5) | like_literals,
    lambda inner: st.lists(
        st.tuples(st.sampled_from(["item", "city", "days", "prefs", "via", "stops", "x", "open", ""]), inner),
        max_size=4,
    ),
    max_leaves=20,
)


@given(tree=trees, python=st.booleans())
def test_trees_never_raise(tree: Any, python: bool) -> None:
    value, _problems = TRIP.convert_tree(tree, python=python)
    assert isinstance(value, dict)
    TRIP.validate(value)
    untyped_tree(tree)
