"""The laws of the design, for every registered format, and for formats as users declare them."""

from __future__ import annotations

import contextlib
import os
import random

import pytest

import toolparse
from tests.conftest import sliced, streamed
from toolparse import registry, testing
from toolparse.errors import RenderError
from toolparse.format import Format
from toolparse.message import ToolCall
from toolparse.picture import HOLE

FACTOR = {"laws": 10.0, "ci": 1.0}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 0.2)

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format: Format) -> None:
    testing.round_trip(format, max_examples=int(500 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_chunking_never_matters(format: Format) -> None:
    testing.chunking(format, max_examples=int(500 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_chunking_never_matters_where_runs_exceed_bounds(format: Format) -> None:
    """More blanks than may part what belongs together, at every place of a turn."""
    parser = toolparse.Parser(format, prefill="")
    calls = [("f", {"key": "v", "n": 1}), ("g", {})][: 1 + format.parallel]
    text = parser.render(calls)
    places = [at for at in range(len(text) + 1) if not text[max(at - 1, 0) : at + 1].isalnum()]
    for at in places[:: 1 if FACTOR >= 1 else 3]:
        long = text[:at] + " " * 600 + text[at:]
        testing.assert_same_message(parser.parse(long), streamed(parser, sliced(long, 150)))


@pytest.mark.parametrize("format", FORMATS)
def test_events_are_well_formed_behind_any_prompt(format: Format) -> None:
    testing.event_grammar(format, max_examples=int(300 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_lost_and_nothing_raises(format: Format) -> None:
    testing.nothing_lost(format, max_examples=int(100 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_one_bad_call_spoils_only_itself(format: Format) -> None:
    testing.one_bad_call(format, max_examples=int(100 * FACTOR))


@pytest.mark.parametrize("format", [param for param in FORMATS if testing.wrapper_keys(param.values[0])])
def test_no_key_is_dropped(format: Format) -> None:
    testing.no_key_dropped(format, max_examples=int(100 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_every_call_of_a_section_is_read(format: Format) -> None:
    testing.every_call(format, max_examples=int(50 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_texts_that_are_markup_are_refused_or_right(format: Format) -> None:
    """What is written of a format's own markup reads back, and its tool holds nothing against it."""
    shown = [
        (source or "").replace("{{key}}", "key").replace("{{name}}", "f") for source in (format.param, format.call)
    ]
    marks = dict.fromkeys(piece for source in shown for piece in HOLE.sub("\0", source).split("\0") if piece.strip())
    parser = toolparse.Parser(format, prefill="")
    for text in (text for mark in marks for text in (mark, mark + "x", "x" + mark, f"x{mark}y", mark.strip() * 2)):
        call = ToolCall("f", {"key": text})
        with contextlib.suppress(RenderError):
            written = parser.render([call])
            (read,) = parser.parse(written, tools=testing.schema_of([call])).tool_calls
            assert (read.arguments, read.issues) == ({"key": text}, ()), written


PICTURES = [
    pytest.param(picture, id=f"{seed}: {picture.call!r}")
    for seed in range(max(24, int(100 * FACTOR)))
    for picture in (testing.made_picture(random.Random(seed)),)
]


@pytest.mark.parametrize("format", PICTURES)
def test_one_bad_call_spoils_only_itself_whatever_the_markers(format: Format) -> None:
    with contextlib.suppress(RenderError):  # where a picture can't carry these calls, it says so
        testing.one_bad_call(format, max_examples=30)


@pytest.mark.parametrize("format", PICTURES)
def test_chunking_never_matters_whatever_the_markers(format: Format) -> None:
    testing.chunking(format, max_examples=30)
    testing.nothing_lost(format, max_examples=15)
