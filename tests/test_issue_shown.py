"""`Issue.show`: what is wrong and where, for people."""

from __future__ import annotations

import pytest

import toolparse
from toolparse import Issue, Span

MARKER = "Write <tool_call> before a call."
BROKEN = 'Well.\n<tool_call>\n{"name": "f", "arguments": {"x": oops}}\n</tool_call>'


def test_a_place_in_a_line() -> None:
    (issue,) = toolparse.parse(MARKER, "hermes").issues
    assert issue.show(MARKER) == (
        "stray-marker: '<tool_call>' opens nothing\n"
        "  line 1:\n"
        "    Write <tool_call> before a call.\n"
        "          ^~~~~~~~~~~"
    )


def test_a_call_over_several_lines() -> None:
    (issue,) = toolparse.parse(BROKEN, "hermes").issues
    assert issue.show(BROKEN) == (
        f"call 0, malformed-arguments: {issue.message}\n  lines 2 to 4:\n    <tool_call>\n    ^~~~~~~~~~~"
    )


def test_a_long_line_is_cut() -> None:
    text = "a" * 50_000 + "<bad>" + "b" * 50_000
    assert Issue("stray-marker", "no", Span("markup", 50_000, 50_005)).show(text) == (
        f"stray-marker: no\n  line 1:\n    …{'a' * 30}<bad>{'b' * 35}…\n{' ' * 35}^~~~~"
    )


def test_a_long_span_is_cut() -> None:
    shown = Issue("truncated", "cut off", Span("call", 0, 100_000), 3).show("x" * 100_000)
    assert shown == f"call 3, truncated: cut off\n  line 1:\n    {'x' * 40}…\n    ^{'~' * 39}"


def test_wide_characters_take_two_columns() -> None:
    shown = Issue("stray-marker", "no", Span("markup", 2, 3)).show("你好!")
    assert shown.split("\n")[2:] == ["    你好!", "        ^"]
    assert Issue("stray-marker", "no", Span("markup", 2, 3)).show("e\u0301!").split("\n")[3] == "     ^"


def test_a_terminal_is_not_told_what_to_do() -> None:
    shown = Issue("stray-marker", "no", Span("markup", 5, 6)).show("\x1b[2J\t!\r")
    assert shown.split("\n")[2:] == ["    \ufffd[2J !\ufffd", "         ^"]


def test_without_a_place_only_the_message() -> None:
    assert Issue("no-name", "the call gives no tool name").show("") == "no-name: the call gives no tool name"


@pytest.mark.parametrize("text", ["", "\n", "short", "\ud800", "a\nb"])
@pytest.mark.parametrize("span", [(0, 0), (0, 1), (2, 2), (900, 1_000), (1, 0), (0, 1_000)])
def test_any_text_is_taken(text: str, span: tuple[int, int]) -> None:
    message, lines, line, caret = Issue("truncated", "cut off", Span("call", *span)).show(text).split("\n")
    assert message == "truncated: cut off"
    assert lines.startswith("  line")
    assert line.startswith("    ")
    assert caret.strip(" ~") == "^"
