"""Events that can't be lost: what only the end of a text settles is given to whoever asks for the events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

import fixtures
import toolparse
from toolparse import ArgumentsDelta, CallEnded, CallStarted, ContentDelta, Event
from toolparse.parser import FunctionParser


def pieces(text: str, size: int) -> Iterator[str]:
    return (text[at : at + size] for at in range(0, len(text), size))


async def later(text: str, size: int) -> AsyncIterator[str]:
    for piece in pieces(text, size):
        await asyncio.sleep(0)
        yield piece


async def collected(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_events_give_what_the_end_settles(size: int) -> None:
    parser = toolparse.parser_for("hermes")
    text = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}'  # a server took the stop token, </tool_call>, away
    (call,) = parser.parse(text).tool_calls
    events = list(parser.events(pieces(text, size)))
    assert [event.call for event in events if isinstance(event, CallEnded)] == [call]
    assert asyncio.run(collected(parser.aevents(later(text, size)))) == events
    assert asyncio.run(collected(parser.aevents(pieces(text, size)))) == events


def test_the_end_holds_events_for_some_family() -> None:
    """What `events` is for: feeding alone does not give every event."""
    waiting = set()
    for family in fixtures.transcribed():
        for case in fixtures.transcripts(family):
            stream = toolparse.parser_for(case.get("family", family)).stream(tools=case.get("tools"))
            stream.feed(case["text"])
            if any(isinstance(event, CallEnded) for event in stream.finish()):
                waiting.add(family)
    assert waiting


@pytest.mark.parametrize("family", fixtures.transcribed())
def test_every_call_of_the_message_is_told(family: str) -> None:
    for case in fixtures.transcripts(family):
        parser = toolparse.parser_for(family, tools=case.get("tools"))
        message = parser.parse(case["text"])
        for size in (1, 5):
            events = list(parser.events(pieces(case["text"], size)))
            assert [event.call for event in events if isinstance(event, CallEnded)] == list(message.tool_calls)
            assert "".join(event.text for event in events if isinstance(event, ContentDelta)) == message.content


def test_a_call_that_ends_has_begun() -> None:
    """Also where the text is cut off anywhere."""
    missing = []
    for family in fixtures.transcribed():
        for case in fixtures.transcripts(family):
            parser = toolparse.parser_for(family, tools=case.get("tools"))
            for end in range(0, len(case["text"]) + 1, 7):
                begun: set[int] = set()
                for event in parser.events(pieces(case["text"][:end], 4)):
                    if isinstance(event, CallStarted):
                        begun.add(event.index)
                    elif isinstance(event, CallEnded | ArgumentsDelta) and event.index not in begun:
                        missing.append((family, case["text"][:end]))
    assert missing == []


def test_finish_gives_each_event_once_before_or_after_close() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}'
    first, second = (toolparse.parser_for("hermes").stream() for _ in range(2))
    first.feed(text)
    second.feed(text)
    events = first.finish()
    assert any(isinstance(event, CallEnded) for event in events)
    assert first.finish() == []
    message = second.close()
    assert second.finish() == events
    assert first.close() == message
    with pytest.raises(ValueError, match="closed"):
        first.feed("x")


def test_a_users_function_gives_its_events_too() -> None:
    parser = FunctionParser(lambda text: [("f", json.loads(text))], name="mine")
    events = list(parser.events(['{"a"', ": 1}"]))
    assert [type(event) for event in events] == [CallStarted, ArgumentsDelta, CallEnded]
    assert asyncio.run(collected(parser.aevents(later('{"a": 1}', 2)))) == events
    stream = parser.stream()
    stream.feed("{}")
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.feed("x")
