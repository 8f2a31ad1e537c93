"""Minimal reproducers of what readers got wrong, one a line in reader_kinds.jsonl, by kind.

    pytest tests/test_reader_kinds.py            all of them
    pytest tests/test_reader_kinds.py -k 12.1    those of a kind

A line holds:
    kind      the kind of fault
    format    a family's name; `template:NAME` (a real template where this machine has it) or `trl:NAME`, read by the
              parser that detection makes of it; or the fields of a Format of its own
    text      what the model wrote; or `repeat`: [head, unit, tail] of a text that may cost only what its length does
    pieces    how the text is also cut, beside whole, by 1 and by 3; or null
    prompt    the rendered prompt that the text continues, or null for the parser's default
    tools     the offered tools, or null
    expect    content, reasoning, calls (all of them; `ok` is true where it isn't given, arguments aren't compared where
              they aren't given), calls_among (ok calls that must be there), issues (codes that must be there),
              some_issue (true: not silent); what isn't given isn't compared
    note      what it is about

Every line, whatever it expects: streams equal the one-shot message, and their events follow the event grammar.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import toolparse
from benchmarks.counting import counted, steps_one_shot, steps_streamed
from tests.conftest import sliced
from tests.places import shared_folder, trl_templates_folder
from toolparse import testing
from toolparse.format import Format, Syntax

FILE = Path(__file__).with_name("reader_kinds.jsonl")
LINES: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines() if line]

SMALL, LARGE, MOST = 4_000, 16_000, 1.2


@cache
def parser_of(source: str) -> Any:
    """The parser of a line's format, which is given as JSON."""
    given = json.loads(source)
    if isinstance(given, dict):
        return toolparse.Parser(declared(given))
    where, _, name = given.rpartition(":")
    if not where:
        return toolparse.parser_for(name)
    return toolparse.parser_for(template_text(where, name))


def declared(fields: dict[str, Any]) -> Format:
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    if "syntax" in made:
        syntax = {key: tuple(value) if isinstance(value, list) else value for key, value in made["syntax"].items()}
        made["syntax"] = Syntax(**syntax)
    return Format(made.pop("name", "declared"), made.pop("call"), **made)


def template_text(where: str, name: str) -> str:
    shared, trl = shared_folder(), trl_templates_folder()
    if where == "trl":
        folders = [trl]
    else:
        folders = [shared / part if shared else None for part in ("templates", "new_templates")]
    for folder in folders:
        file = folder / f"{name}.jinja" if folder else None
        if file is not None and file.is_file():
            return file.read_text(encoding="utf-8")
    pytest.skip(f"the template {where}:{name} is not at hand: set TOOLPARSE_SHARED or install trl")


def check(line: dict[str, Any], parser: Any) -> None:
    """All that a line says."""
    given = {"tools": line.get("tools"), "prompt": line.get("prompt")}
    text = line["text"]
    message = parser.parse(text, **given)
    testing.assert_tiles(message, text)
    assert_expected(message, line.get("expect") or {})
    cuts = [[text], sliced(text, 1), sliced(text, 3)]
    if line.get("pieces"):
        assert "".join(line["pieces"]) == text
        cuts.append(line["pieces"])
    for pieces in cuts:
        stream = parser.stream(**given)
        events = [event for piece in pieces for event in stream.feed(piece)]
        streamed = stream.close()
        testing.assert_same_message(message, streamed)
        testing.assert_events(streamed, [*events, *stream.finish()])


def assert_expected(message: toolparse.ParsedMessage, expect: dict[str, Any]) -> None:
    if "calls" in expect:
        found = [{"name": c.name, "arguments": c.arguments, "ok": c.ok} for c in message.tool_calls]
        wanted = [{"ok": True, **call} for call in expect["calls"]]
        for call in wanted:
            if "arguments" not in call:  # a call that must be there, whatever was read of its arguments
                call["arguments"] = next((f["arguments"] for f in found if f["name"] == call["name"]), None)
        assert found == wanted, (found, wanted, message.issues)
        assert all(testing.same(f["arguments"], w["arguments"]) for f, w in zip(found, wanted, strict=True))
    if "content" in expect:
        assert message.content == expect["content"]
    if "reasoning" in expect:
        assert (message.reasoning or None) == (expect["reasoning"] or None)
    for call in expect.get("calls_among", ()):
        assert any(
            c.name == call["name"] and testing.same(c.arguments, call["arguments"]) and c.ok for c in message.tool_calls
        ), (call, message.tool_calls)
    assert message.issues or not expect.get("some_issue")
    codes = {issue.code for issue in message.issues}
    assert codes >= set(expect.get("issues", ())), (codes, expect["issues"])


def check_growth(line: dict[str, Any]) -> None:
    """Four times the text costs four times the steps, at once and in pieces of 1 and 4."""
    package = counted()
    head, unit, tail = line["repeat"]
    parser = package.Parser(package.get(line["format"]), tools=line.get("tools"), prefill="")
    small, large = (head + unit * (size // len(unit)) + tail for size in (SMALL, LARGE))
    ways = {"at once": 0, "by 1": 1, "by 4": 4}
    for way, size in ways.items():
        before, after = (
            steps_streamed(parser, text, size) if size else steps_one_shot(parser, text) for text in (small, large)
        )
        found = max(0, after - 300) / before / (len(large) / len(small))
        assert found <= MOST, f"{way}: {before} steps for {len(small)} characters, {after} for {len(large)}"


def _id(line: dict[str, Any]) -> str:
    format = line["format"] if isinstance(line["format"], str) else line["format"]["call"]
    return f"{line['kind']}-{format}-{line.get('note', '')}".replace("::", ":")


@pytest.mark.parametrize("line", LINES, ids=_id)
def test_a_line_reads_as_it_says(line: dict[str, Any]) -> None:
    if "repeat" in line:
        check_growth(line)
    else:
        check(line, parser_of(json.dumps(line["format"])))
