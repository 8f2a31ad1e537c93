"""Law 6 without a clock: steps and characters looked at grow linearly, for benign and hostile input, streamed or not.

`benchmarks/counting.py` compiles the reading half of the library once more, with everything that costs something routed
through a counter. A text of four times the length may cost 4.8 times the steps (an exponent of 1.13): what exceeds
that is looked at again at larger sizes, where bounded look-ahead no longer shows, before it counts.
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
CHUNK = 5
MOST = 1.2  # times the growth of the text; 4.8 for four times the text

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
    pieces = pieces_of(format)  # type: ignore[arg-type]
    call = pieces.head + "x" + pieces.tail
    benign = {
        "benign text": repeated("A line of text, with some words in it.\n"),
        "benign argument": repeated("some words, ", pieces.head, pieces.tail),
        "benign calls": repeated(call + "\nand then\n", "Let me see.\n"),
    }
    return benign | hostile_inputs(format)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("name", FORMATS)
def test_steps_grow_with_the_text(name: str) -> None:
    parser = parser_of(name)
    inputs = inputs_of(name)
    ways: dict[str, Callable[[str], int]] = {
        "at once": lambda text: steps_one_shot(parser, text),
        f"in pieces of {CHUNK}": lambda text: steps_streamed(parser, text, CHUNK),
    }
    too_much = []
    for what in chosen(name):
        for way, count in ways.items():
            found, _ = growth(count, inputs[what], (SMALL, LARGE))
            if found > MOST:
                found, steps = growth(count, inputs[what], CONFIRM)
                if found > MOST:
                    exponent = 1 + math.log(found) / math.log(CONFIRM[1] / CONFIRM[0])
                    too_much.append(f"{what!r}, {way}: exponent {exponent:.2f}, {steps:.0f} steps a character")
    assert not too_much, f"{name} grows faster than the text:\n  " + "\n  ".join(too_much)


def test_every_input_is_tried() -> None:
    tried = {what for name in FORMATS for what in chosen(name)}
    assert tried >= set(inputs_of("hermes"))
    assert all(len(chosen(name)) >= 3 + 14 for name in FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_hostile_inputs(name: str) -> None:
    """At least fourteen texts that differ, those that the benchmark measures among them."""
    inputs = hostile_inputs(registry.get(name))  # type: ignore[arg-type]
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
    assert steps_streamed(parser, text, CHUNK) > len(text)


def test_the_counter_leaves_the_library_alone() -> None:
    import toolparse

    package = counted()
    assert package is not toolparse
    assert package.Parser is not toolparse.Parser
    assert "__call__step__" not in vars(__import__("toolparse.reader.reader", fromlist=["reader"]))
