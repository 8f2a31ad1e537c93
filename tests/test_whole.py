"""JSON read in one go: what it accepts is exactly what holds each key once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolparse.codecs.json import has_duplicate_keys
from toolparse.codecs.whole import read_whole

LONG = 'a line with "quotes", \\ and é\n' * 40


@pytest.mark.parametrize(
    "value",
    [
        {"a": LONG},
        {"a": LONG, "b": [LONG, {"c": LONG + "x"}], LONG: 1},
        {"a": [LONG + str(number) for number in range(50)]},
        {"a": "short", "n": list(range(400))},
    ],
)
@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("blanks", [(", ", ": "), (",", ":")])
def test_long_values_are_read(value: dict[str, Any], ascii: bool, blanks: tuple[str, str]) -> None:
    text = json.dumps(value, ensure_ascii=ascii, separators=blanks)
    assert read_whole(text + "<end>", 0, "<end>", None) == (len(text), "", None, value)


@pytest.mark.parametrize("value", ["1", json.dumps(LONG), json.dumps([LONG, LONG])])
@pytest.mark.parametrize("ascii", [False, True])
def test_a_key_that_is_given_twice_is_left_to_the_scanner(value: str, ascii: bool) -> None:
    other = json.dumps(LONG, ensure_ascii=ascii)
    for text in (
        f'{{"a": {value}, "a": {other}}}',
        f'{{"a": {other}, "a": {other}}}',
        f'{{"a": {other}, "b": {value}, "c": {{"d": {other}, "d": {value}}}}}',
    ):
        assert read_whole(text, 0, "", None) is None, text[:80]


def test_a_closing_marker_inside_a_string_closes_nothing() -> None:
    value = {"a": "<end>" + LONG + "<end>"}
    text = json.dumps(value)
    assert read_whole(text + "<end>", 0, "<end>", None) == (len(text), "", None, value)


PIECES = st.sampled_from(['"', "\\", "\n", "a", ", ", '": "', ":", "é", "aaaa", '", "a": "', "1, 2, ", "/", "]", "}"])
LONGS = st.builds(lambda unit, head, tail: head + unit * (700 // len(unit)) + tail, PIECES, PIECES, PIECES)
VALUES = st.one_of(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3), PIECES, LONGS, LONGS)


@settings(max_examples=400, deadline=None, database=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", '"', ""]), VALUES), max_size=4), st.booleans(), st.booleans())
def test_no_key_that_is_given_twice_is_overlooked(members: list[tuple[str, Any]], nested: bool, ascii: bool) -> None:
    text = "{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=ascii)}" for k, v in members) + "}"
    if nested:
        text = f'{{"name": "f", "arguments": {text}}}'
    found = read_whole(text, 0, "", None)
    if has_duplicate_keys(text):
        assert found is None
    else:
        assert found == (len(text), "", None, json.loads(text))
