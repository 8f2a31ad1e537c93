"""Law 6 without a clock: steps and characters looked at grow linearly, for benign and hostile input, streamed or not.

`benchmarks/counting.py` compiles the reading half of the library once more, with everything that costs something routed
through a counter. A text of four times the length may cost 4.6 times the steps (an exponent of 1.1): what exceeds that
is looked at again at larger sizes, where bounded look-ahead no longer shows, before it counts.
`benchmarks/growth.py` does the same with a clock, on every input and on random ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from benchmarks.counting import counted, steps_one_shot, steps_streamed
from benchmarks.hostile import CHOSEN, Generator, hostile_inputs, pieces_of, repeated
from toolparse import registry

SMALL, LARGE = 400, 1_600
CONFIRM = (4_000, 16_000)  # from where on no choice depends on the size
MOST = 4**0.1  # times the growth of the text: an exponent of 1.1, where the text is four times as long
WAYS = {"at once": 0, "by 1": 1, "by 4": 4}

# What every format is tried with. The others take turns, so that each of them meets some formats.
ALWAYS = (
    "openers",
    "heads without an end",
    "unterminated string of closers",
    "unterminated string of heads",
    "closers",
    "near misses, spaced",
    "many tiny calls",
    "broken calls",
    "half calls, spaced",
    "blanks behind a call",
)
TURNS = 4
FORMATS = [format.name for format in registry.formats()]
EVERYTHING = ("hermes",)  # tried with every input


@cache
def inputs_of(name: str) -> dict[str, Generator]:
    format = registry.get(name)
    pieces = pieces_of(format)
    call = pieces.head + "x" + pieces.tail
    benign = {
        "benign text": repeated("A line of text, with some words in it.\n"),
        "benign argument": repeated("some words, ", pieces.head, pieces.tail),
        "benign calls": repeated(call + "\nand then\n", "Let me see.\n"),
    }
    return benign | hostile_inputs(format)


def chosen(name: str) -> list[str]:
    """The inputs of a format: the benign, those for all, and its turn of the others."""
    names = list(inputs_of(name))
    if name in EVERYTHING:
        return names
    fixed = [*names[:3], *(known for known in ALWAYS if known in names)]
    others = [known for known in names if known not in fixed]
    start = FORMATS.index(name) * TURNS
    return [*fixed, *(others[(start + step) % len(others)] for step in range(TURNS))]


@cache
def parser_of(name: str) -> Any:
    package = counted()
    return package.Parser(package.get(name), prefill="")


def growth(count: Callable[[str], int], generate: Generator, sizes: tuple[int, int]) -> tuple[float, float]:
    """(growth of the steps by the growth of the text, steps for each character)."""
    small, large = (generate(size) for size in sizes)
    before, after = count(small), count(large)
    # A fixed cost for each parse and a little for what does not divide evenly.
    return max(0, after - 300) / before / (len(large) / len(small)), after / len(large)


def too_much(name: str, what: str, ways: tuple[str, ...]) -> list[str]:
    """The ways of reading in which an input costs more than its length, each with what it costs."""
    parser = parser_of(name)
    generate = inputs_of(name)[what]
    found = []
    for way in ways:
        size = WAYS[way]

        def count(text: str, size: int = size) -> int:
            return steps_streamed(parser, text, size) if size else steps_one_shot(parser, text)

        grown, _ = growth(count, generate, (SMALL, LARGE))
        if grown > MOST:
            grown, steps = growth(count, generate, CONFIRM)
            if grown > MOST:
                exponent = 1 + math.log(grown) / math.log(CONFIRM[1] / CONFIRM[0])
                found.append(f"{what!r}, {way}: exponent {exponent:.2f}, {steps:.0f} steps a character")
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_steps_grow_with_the_text(name: str) -> None:
    """A sample: each input at once, and in pieces of 1 or of 4."""
    found = []
    for number, what in enumerate(chosen(name)):
        found += too_much(name, what, ("at once", "by 4" if number % 2 else "by 1"))
    assert not found, f"{name} grows faster than the text:\n  " + "\n  ".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_steps_grow_with_every_text(name: str) -> None:
    """All of it: `make growth`."""
    found = [line for what in inputs_of(name) for line in too_much(name, what, tuple(WAYS))]
    assert not found, f"{name} grows faster than the text:\n  " + "\n  ".join(found)


def test_every_input_is_tried() -> None:
    tried = {what for name in FORMATS for what in chosen(name)}
    assert tried >= set(inputs_of("hermes"))
    assert all(len(inputs_of(name)) >= 40 for name in FORMATS)
    assert all(len(chosen(name)) >= 3 + 14 for name in FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_hostile_inputs(name: str) -> None:
    """At least fourteen texts that differ, those that the benchmark measures among them."""
    inputs = hostile_inputs(registry.get(name))
    assert set(CHOSEN) <= set(inputs)
    assert len({generate(SMALL) for generate in inputs.values()}) >= 14
    assert len({inputs[what](SMALL) for what in CHOSEN}) >= 14


def test_the_counter_sees_what_it_should() -> None:
    """Steps are counted the same way twice, and a longer text takes more of them."""
    parser = parser_of("hermes")
    text = inputs_of("hermes")["benign calls"](1_000)
    steps_one_shot(parser, text)  # what is computed once is computed here
    once = steps_one_shot(parser, text)
    assert once == steps_one_shot(parser, text)
    assert once > len(text)
    assert steps_streamed(parser, text, 4) > len(text)


def test_the_counter_leaves_the_library_alone() -> None:
    import toolparse

    package = counted()
    assert package is not toolparse
    assert package.Parser is not toolparse.Parser
    assert "__call__step__" not in vars(__import__("toolparse.reader.reader", fromlist=["reader"]))
