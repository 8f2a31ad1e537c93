"""The laws of the design, for every registered format, and for formats as users declare them."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

from toolparse import registry, testing
from toolparse.errors import RenderError
from toolparse.format import Format

FACTOR = {"laws": 10.0, "ci": 1.0}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 0.2)

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]

#: What does not hold yet, by the kinds of reader_kinds.jsonl, where a small example of each stands.
OPEN = {
    "12.1": pytest.mark.xfail(strict=False, reason="kind 12.1: calls of which a stream says no start; 12.2, 12.8"),
    "13.2": pytest.mark.xfail(strict=False, reason="kind 13.2: keys that are dropped in silence"),
    "13.6": pytest.mark.xfail(strict=False, reason="kind 13.6: a bad call spoils its neighbours"),
    "13.10": pytest.mark.xfail(strict=False, reason="kind 13.10: only the first call of a section is read"),
}


@pytest.fixture(autouse=True)
def no_shrinking(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is expected to fail isn't made smaller first, which takes a hundred times longer."""
    if request.node.get_closest_marker("xfail") is None:
        yield
        return
    current = settings.get_current_profile_name()
    settings.register_profile("open", settings.get_profile(current), phases=[Phase.explicit, Phase.generate])
    settings.load_profile("open")
    yield
    settings.load_profile(current)


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format: Format) -> None:
    testing.round_trip(format, max_examples=int(500 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_chunking_never_matters(format: Format) -> None:
    testing.chunking(format, max_examples=int(500 * FACTOR))


@OPEN["12.1"]
@pytest.mark.parametrize("format", FORMATS)
def test_events_are_well_formed_behind_any_prompt(format: Format) -> None:
    testing.event_grammar(format, max_examples=int(300 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_lost_and_nothing_raises(format: Format) -> None:
    testing.nothing_lost(format, max_examples=int(100 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_one_bad_call_spoils_only_itself(format: Format) -> None:
    testing.one_bad_call(format, max_examples=int(100 * FACTOR))


@OPEN["13.2"]
@pytest.mark.parametrize("format", [param for param in FORMATS if testing.wrapper_keys(param.values[0])])
def test_no_key_is_dropped(format: Format) -> None:
    testing.no_key_dropped(format, max_examples=int(100 * FACTOR))


@pytest.mark.parametrize(
    "format",
    [
        pytest.param(param.values[0], id=param.id, marks=[OPEN["13.10"]] if param.id == "muse" else [])
        for param in FORMATS
    ],
)
def test_every_call_of_a_section_is_read(format: Format) -> None:
    testing.every_call(format, max_examples=int(50 * FACTOR))


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
