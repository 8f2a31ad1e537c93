"""Inputs rebuilt from public bug reports of many projects, read at once and streamed by every reader they name.

The collection is not part of this repository: each line gives the text, what reads it (`family:NAME`, `template:FILE`,
`trl:FILE`), the end of the prompt, the tools, and what must be read. `not_ok`: the calls may be there, none may be ok.
"""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

import pytest

import toolparse
from tests.places import NO_SHARED, shared_folder
from tests.test_reader_kinds import template_text
from toolparse import testing

SHARED = shared_folder()
FILE = SHARED / "bug_reports" / "cases.jsonl" if SHARED else None
ROWS: list[dict[str, Any]] = (
    [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines() if line]
    if FILE is not None and FILE.is_file()
    else []
)
CASES = [(row, source) for row in ROWS for source in row["read_by"]]

#: Options that a row's expectation asks for; `bare` is the default.
OPTIONS: dict[str, dict[str, Any]] = {"option rescue": {"rescue": True}, "option coerce": {"coerce": True}}


@cache
def parser_of(source: str, option: str) -> toolparse.Parser:
    where, _, name = source.partition(":")
    given = OPTIONS.get(option, {})
    return toolparse.parser_for(name if where == "family" else template_text(where, name), **given)


def assert_read(row: dict[str, Any], message: toolparse.ParsedMessage) -> None:
    expect = row["expect"]
    if row.get("not_ok"):
        assert not any(call.ok for call in message.tool_calls), message
        return
    found = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    assert found == expect["calls"], message
    assert testing.same(found, expect["calls"]), message
    assert all(call.ok for call in message.tool_calls), message.issues
    assert message.content.strip() == expect["content"], message
    assert expect["reasoning"] is None or message.reasoning == expect["reasoning"], message


@pytest.mark.skipif(not ROWS, reason=NO_SHARED)
@pytest.mark.parametrize(
    ("row", "source"),
    [pytest.param(row, source, id=f"{row['id']}-{source.replace(':', '-')}") for row, source in CASES],
)
def test_a_reported_input_is_read(row: dict[str, Any], source: str) -> None:
    parser = parser_of(source, row.get("note", ""))
    text = row["text"]
    given = {"tools": row["tools"], "prompt": row.get("prefill")}
    message = parser.parse(text, **given)
    testing.assert_tiles(message, text)
    assert_read(row, message)
    choose = random.Random(row["id"])
    for longest in (1, 3, 0):
        stream = parser.stream(**given)
        events, at = [], 0
        while at < len(text):
            size = longest or choose.randint(1, 40)
            events += stream.feed(text[at : at + size])
            at += size
        streamed = stream.close()
        testing.assert_same_message(message, streamed)
        testing.assert_events(streamed, [*events, *stream.last_events])
