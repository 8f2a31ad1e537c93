"""JSON read in one go: what it accepts is exactly what holds each key once."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
