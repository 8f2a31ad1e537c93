"""The laws of the design, for every registered format."""

from __future__ import annotations

import os

import pytest

from toolparse import registry, testing
from toolparse.format import Format

FACTOR = {"laws": 10.0, "ci": 1.0}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 0.2)

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format: Format) -> None:
    testing.round_trip(format, max_examples=int(500 * FACTOR))


@pytest.mark.xfail(strict=False, reason="kind 12.1 of reader_kinds.jsonl: calls of which a stream says no start")
@pytest.mark.parametrize("format", FORMATS)
def test_chunking_never_matters(format: Format) -> None:
    testing.chunking(format, max_examples=int(500 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_lost_and_nothing_raises(format: Format) -> None:
    testing.nothing_lost(format, max_examples=int(100 * FACTOR))


@pytest.mark.parametrize("format", FORMATS)
def test_one_bad_call_spoils_only_itself(format: Format) -> None:
    testing.one_bad_call(format, max_examples=int(100 * FACTOR))
