"""Calls whose markers were lost before anybody read them: said where they can be known again, and nowhere else."""

from __future__ import annotations

import re

import pytest

import toolparse
from tests.test_laws import FORMATS
from toolparse import testing
from toolparse.errors import RenderError
from toolparse.format import Format
from toolparse.parser import Parser
from toolparse.reader.unmarked import unmarked

CALL = ("get_weather", {"city": "Oslo", "days": 3})
TOOL = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
SPECIAL = re.compile(r"<\|[^<>\n]*>|<[^<>\s]*\|>|<｜[^<>\n]*｜>|｜[A-Z]+｜|\]<\][^\[\]<>\n]+\[>\[|\[/?[A-Z_]{2,}\]")
#: What is left of their calls tells nothing: two words that touch, or tags that hold nothing but words.
SILENT = {"kimi-k3", "mistral-v11", "solar-open"}

PROSE = [
    'It is {"name": "Oslo", "population": 700000}',
    '{"name": "Anna", "age": 3}',
    '{"name": "Anna", "arguments": ["a", "b"]}',
    '```json\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n```',
    "The list:\n[1, 2]",
    "Use get_weather(city='Oslo')",
    "x = get_weather(city='Oslo')",
    "call get_weather{city}",
    'Result:\n{"city": "Oslo"}',
    'Answer\n{"city": "Oslo"}',
    'data:{"city": "Oslo"}',
    '{"Anna": {"age": 3}}',
    "body { color: red }",
    'function f(a) { return {"city": "Oslo"} }',
    "<b>bold</b>",
    r"\frac{1}{2}",
    'I would write {"name": ..., "arguments": {...}}',
    "",
    "{}",
]


def missing(message: toolparse.ParsedMessage) -> list[toolparse.Issue]:
    return [issue for issue in message.issues if issue.code == "markers-missing"]


@pytest.mark.parametrize("format", FORMATS)
def test_calls_that_lost_their_markers_are_said(format: Format) -> None:
    parser = Parser(format, prefill="")
    for content in ("", "Let me see."):
        try:
            text = parser.render(testing.numbered(format, [CALL]), content=content)
        except RenderError:
            continue
        lost = SPECIAL.sub("", text)
        if lost == text:
            tags = re.findall(r"<([A-Za-z_:]+)>", format.section + format.call)
            lost = re.sub("|".join(f"</?{tag}>" for tag in tags) or "(?!)", "", text)
        if lost == text:
            pytest.skip("it has no markers that decoding could leave out")
        message = parser.parse(lost, tools=[TOOL])
        found = missing(message)
        if message.tool_calls or format.name in SILENT:
            assert not found
            return
        assert len(found) == 1, (lost, message)
        span = found[0].span
        assert "get_weather" in lost[span.start : span.end]
        assert "skip_special_tokens=False" in found[0].message
        assert not missing(parser.parse(text, tools=[TOOL]))
        stream = parser.stream(tools=[TOOL])
        events = [event for char in lost for event in stream.feed(char)]
        testing.assert_same_message(message, stream.close())
        testing.assert_events(message, [*events, *stream.last_events])


@pytest.mark.parametrize("format", FORMATS)
def test_prose_and_json_are_left_alone(format: Format) -> None:
    parser = Parser(format, prefill="")
    for text in PROSE:
        for tools in ([TOOL], None):
            assert not missing(parser.parse(text, tools=tools)), text


def test_what_is_read_anyway_is_not_missed() -> None:
    assert unmarked(toolparse.get("pythonic")) == ()
    assert unmarked(toolparse.get("llama3-json")) == ()
