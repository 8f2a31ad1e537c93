"""Bad input: a result, never an exception, never a hang."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import toolparse
from tests.conftest import sliced, streamed
from toolparse import registry, testing
from toolparse.compile import compile_format
from toolparse.format import Format
from toolparse.parser import Parser

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]
TRANSCRIPTS = Path(__file__).parent.parent / "fixtures" / "transcripts"
SIZE = 60_000


def hostile(format: Format) -> dict[str, str]:
    """Texts that break readers, made from the format's own markers."""
    program = compile_format(format)
    markers = program.all_markers
    opener = next((s.opener_first or s.head_first for s in program.shapes if s.opener_first or s.head_first), "{")
    call = Parser(format).render([("f", {"a": "b"})])
    half = call[: len(call) // 2]
    return {
        "openers": opener * (SIZE // len(opener)),
        "brackets": opener + "[" * (SIZE // 2),
        "braces": opener + "{" * (SIZE // 2),
        "nested objects": opener + '{"a":' * (SIZE // 5),
        "open string": call.rstrip("}])>")[:-1] + '"' + "x" * SIZE,
        "quotes": opener + '"' * SIZE,
        "half calls": half * (SIZE // len(half)),
        "blanks": opener + " " * SIZE + "x",
        "a long name": opener + "n" * SIZE,
        "closers": "".join(markers[::-1]) * (SIZE // max(1, len("".join(markers)))),
        "backslashes": half + "\\" * SIZE,
        "surrogates": "\ud800" * 1000 + call + "\udfff" * 1000,
    }


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_text_gives_a_message(format: Format) -> None:
    parser = Parser(format)
    for name, text in hostile(format).items():
        message = parser.parse(text)
        testing.assert_tiles(message, text)
        assert streamed(parser, sliced(text, 4093)) == message, name


def test_a_megabyte_of_openers() -> None:
    text = "<tool_call>" * 100_000
    message = toolparse.parser_for("hermes").parse(text)
    testing.assert_tiles(message, text)
    assert not any(call.ok for call in message.tool_calls)


def test_a_hundred_thousand_brackets_in_a_call() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": ' + "[" * 100_000
    (call,) = toolparse.parser_for("hermes").parse(text).tool_calls
    assert not call.ok


def test_deep_nesting_that_is_closed_is_an_issue_not_a_crash() -> None:
    depth = 5000
    deep = '{"name": "f", "arguments": {"a": ' + "[" * depth + "]" * depth + "}}"
    text = f"<tool_call>\n{deep}\n</tool_call> <tool_call>{json.dumps({'name': 'g', 'arguments': {}})}</tool_call>"
    parser = toolparse.parser_for("hermes")
    message = parser.parse(text)
    assert [(c.name, c.ok) for c in message.tool_calls] == [("f", False), ("g", True)]
    assert streamed(parser, sliced(text, 7)) == message


def transcripts() -> list[tuple[str, str]]:
    found = []
    for path in sorted(TRANSCRIPTS.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.extend((path.stem, json.loads(line)["text"]) for line in lines)
    return found


@pytest.mark.parametrize("family", sorted({family for family, _ in transcripts()}))
def test_every_prefix_of_every_transcript(family: str) -> None:
    parser = toolparse.parser_for(family)
    rng = random.Random(family)
    for name, text in transcripts():
        if name != family:
            continue
        stream = parser.stream()
        for end in range(len(text) + 1):
            if end:
                stream.feed(text[end - 1])
            if end % 7 == 0 or end == len(text):
                prefix = text[:end]
                message = parser.parse(prefix)
                testing.assert_tiles(message, prefix)
                if rng.random() < 0.1:
                    assert streamed(parser, sliced(prefix, rng.randint(1, 9))) == message
        assert stream.close() == parser.parse(text)


@pytest.mark.parametrize("format", FORMATS)
def test_random_bytes(format: Format) -> None:
    parser = Parser(format)
    rng = random.Random(format.name)
    for _ in range(20):
        text = rng.randbytes(rng.randint(0, 400)).decode(
            "utf-8", "replace" if rng.random() < 0.5 else "surrogateescape"
        )
        message = parser.parse(text)
        testing.assert_tiles(message, text)
        assert streamed(parser, sliced(text, 3)) == message
