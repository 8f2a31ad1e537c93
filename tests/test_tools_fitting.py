"""Arguments fitted to a schema and text typed by its looks: where one reading fits, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolparse.tools import Tool, coerce, infer

INT, NUM, STR, BOOL = {"type": "integer"}, {"type": "number"}, {"type": "string"}, {"type": "boolean"}
ARR, OBJ = {"type": "array", "items": INT}, {"type": "object", "properties": {"a": INT}}


def tool(schema: Any) -> Tool:
    return Tool.of({"name": "f", "parameters": {"type": "object", "properties": {"k": schema}}})


@pytest.mark.parametrize(
    ("schema", "value", "fitted"),
    [
        (INT, "3", 3),
        (INT, " -3 ", -3),
        (INT, 2.0, 2),
        (INT, "2.0", 2),
        (NUM, "2.5", 2.5),
        (BOOL, "true", True),
        (BOOL, "False", False),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": ["integer", "null"]}, "None", None),
        (ARR, "[1, 2]", [1, 2]),
        (ARR, '"[1, 2]"', [1, 2]),
        (ARR, '["1", 2.0]', [1, 2]),
        (ARR, ["1", 2], [1, 2]),
        (OBJ, '{"a": "1"}', {"a": 1}),
        (OBJ, "{'a': 1}", {"a": 1}),
        (STR, {"a": [1]}, '{"a":[1]}'),
        (STR, [1, "é"], '[1,"é"]'),
        (STR, 5, "5"),
        (STR, 10**30, str(10**30)),
        ({"enum": ["1", "2"]}, 1, "1"),
        ({"enum": [1, 2]}, "1", 1),
        ({"anyOf": [INT, ARR]}, "[1]", [1]),
    ],
    ids=str,
)
def test_one_reading_fits(schema: Any, value: Any, fitted: Any) -> None:
    one = tool(schema)
    arguments = {"k": value}
    found, repairs = coerce(arguments, one)
    assert found == {"k": fitted}
    assert type(found["k"]) is type(fitted)
    assert {repair.code for repair in repairs} == {"repaired"}
    assert one.validate(found) == []
    assert arguments == {"k": value}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (INT, "three"),
        (INT, "1"[:0]),
        (INT, 2.5),
        (INT, "007"),
        (INT, True),
        (INT, 3),
        (NUM, 2.0),
        (NUM, 2),
        (BOOL, 1),
        (BOOL, "1"),
        (BOOL, "yes"),
        (STR, True),
        (STR, 1.5),
        (STR, None),
        (STR, "5"),
        ({"type": ["integer", "string"]}, "5"),
        (ARR, "1"),
        (ARR, 1),
        (ARR, "{}"),
        (OBJ, "[]"),
        ({}, "5"),
        ({"enum": ["1", "2"]}, 3),
        ({"enum": [1, 2]}, "3"),
        ({"not": STR}, "5"),
    ],
    ids=str,
)
def test_no_reading_or_more_than_one(schema: Any, value: Any) -> None:
    arguments = {"k": value}
    found, repairs = coerce(arguments, tool(schema))
    assert found is arguments
    assert repairs == []


def test_what_is_told() -> None:
    _found, repairs = coerce({"k": [1, "2"]}, tool(ARR))
    assert [(r.message, r.path) for r in repairs] == [('arguments.k[1]: read "2" as 2', ("k", 1))]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1", "[1]", '{"a": "1"}']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(schema=st.sampled_from([INT, NUM, STR, BOOL, ARR, OBJ, {"anyOf": [INT, STR]}, {}]), value=values)
def test_right_arguments_stay_and_fitting_twice_is_fitting_once(schema: Any, value: Any) -> None:
    one = tool(schema)
    found, repairs = coerce({"k": value}, one)
    if one.validate({"k": value}) == []:
        assert all(repair.path != ("k",) for repair in repairs) or isinstance(value, float)
    assert coerce(found, one) == (found, [])


def test_deep_values_are_left_alone() -> None:
    value: Any = "1"
    for _ in range(5_000):
        value = [value]
    arguments = {"k": value}
    assert coerce(arguments, tool(ARR))[1] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42),
        ("-1.5e3", -1500.0),
        (" 42\n", 42),
        ("9" * 400, int("9" * 400)),
        ("true", True),
        ("True", True),
        ("null", None),
        ("None", None),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("{'a': None}", {"a": None}),
        ("[1, 2]\n", [1, 2]),
        ("[]", []),
    ],
)
def test_looks(text: str, value: Any) -> None:
    assert infer(text) == value
    assert type(infer(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["", " ", "01234", "+5", "1e999", "NaN", "(1, 2)", "[1", "{a}", '"quoted"', "yes", "1 2", "[" * 9_999, "\ud800"],
)
def test_what_looks_like_nothing_stays_text(text: str) -> None:
    assert infer(text) is text
