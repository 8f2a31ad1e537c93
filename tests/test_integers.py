"""Integers of any length are read and written exactly, and in steps that grow far slower than the square."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

import toolparse
from toolparse.codecs import integers, json
from toolparse.codecs.integers import MAX_DIGITS, PIECE_BITS, PIECE_DIGITS, read_integer, write_integer

LENGTHS = sorted(
    {1, 2, 18, 19, 20, 599, 600, 601, 1199, 1200, 1201, 2401, 4299, 4300, 4301, 10_000, PIECE_DIGITS, PIECE_DIGITS + 1}
)


def slowly(digits: str) -> int:
    """The quadratic way, which needs no limit raised."""
    return int(Decimal(digits))


@pytest.mark.parametrize("length", LENGTHS)
def test_reading_and_writing_are_exact(length: int) -> None:
    rng = random.Random(length)
    for digits in (
        "9" * length,
        "1" + "0" * (length - 1),
        "1" + "0" * (length - 2) + "1" if length > 1 else "7",
        "".join([rng.choice("123456789"), *rng.choices("0123456789", k=length - 1)]),
    ):
        for text in (digits, "-" + digits):
            value = read_integer(text)
            assert value == slowly(text)
            assert write_integer(value) == text
            assert json.decode(f'{{"a": {text}}}') == {"a": value}
            assert json.encode({"a": value}) == f'{{"a":{text}}}'


def test_values_that_are_easy_to_say() -> None:
    for power in (0, 1, PIECE_BITS - 1, PIECE_BITS, PIECE_BITS + 1, 3 * PIECE_BITS, 100_001):
        for value in (2**power - 1, 2**power, 2**power + 1, 10 ** (power // 3), -(10 ** (power // 3)) + 1):
            assert read_integer(write_integer(value)) == value
    assert read_integer("1" + "0" * 50_000) == 10**50_000
    assert write_integer(10**50_000) == "1" + "0" * 50_000
    assert read_integer("0" * 5_000) == 0
    assert read_integer("+" + "7" * 1_000) == read_integer("7" * 1_000)


def test_no_digit_is_overlooked() -> None:
    digits = list("1" + "0" * 5_000)
    base = read_integer("".join(digits))
    for at in (1, 2, 17, 600, 1_234, 2_500, 4_999, 5_000):
        changed = digits.copy()
        changed[at] = "3"
        assert read_integer("".join(changed)) - base == 3 * 10 ** (5_000 - at)


# What one multiplication costs at most, by the lengths of its factors (in digits): Karatsuba's of a long number by one
# at least half as long, and decimal's.
def karatsuba(one: int, other: int) -> float:
    return float(max(one, other)) ** 1.585


class Counted(int):
    """An integer that counts what is done to it."""

    work = 0.0

    def __mul__(self, other: int) -> Counted:
        Counted.work += karatsuba(self.bit_length(), other.bit_length())
        return Counted(int.__mul__(self, other))

    def __lshift__(self, bits: int) -> Counted:
        Counted.work += self.bit_length() + bits
        return Counted(int.__lshift__(self, bits))

    def __add__(self, other: int) -> Counted:
        Counted.work += self.bit_length()
        return Counted(int.__add__(self, other))


def work_of_reading(size: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """The steps of reading; a piece that Python converts costs the square of its length."""

    def piece(digits: str) -> Counted:
        Counted.work += len(digits) ** 2
        return Counted(int(digits))

    Counted.work = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(integers, "int", piece, raising=False)
        value = read_integer("7" * size)
    assert value % 1000 == 777
    return Counted.work


class CountedContext:
    """Decimal's arithmetic, counting."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.work = 0.0

    def __getattr__(self, name: str) -> Callable[[Decimal, Decimal], Decimal]:
        operation = getattr(self.inner, name)

        def run(one: Decimal, other: Decimal) -> Decimal:
            longest = max(one.adjusted(), other.adjusted()) + 1
            self.work += longest * (longest.bit_length() if name == "multiply" else 1)
            result: Decimal = operation(one, other)
            return result

        return run


def work_of_writing(size: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """The steps of writing; a piece that decimal converts costs the square of its length."""
    context = CountedContext(integers._exact)

    def piece(value: int) -> Decimal:
        context.work += (value.bit_length() / 3.32) ** 2
        return Decimal(value)

    value = 10**size // 9 * 7
    with monkeypatch.context() as patch:
        patch.setattr(integers, "_exact", context)
        patch.setattr(integers, "Decimal", piece)
        assert write_integer(value) == "7" * size
    return context.work


@pytest.mark.parametrize(
    ("work", "most"), [(work_of_reading, 1.6), (work_of_writing, 1.25)], ids=["reading", "writing"]
)
def test_the_work_grows_slower_than_the_square(
    work: Callable[[int, pytest.MonkeyPatch], float], most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the digits are less than four to the `most` times the work; the square would be sixteen."""
    for size in (5_000, 20_000):
        assert work(size * 4, monkeypatch) / work(size, monkeypatch) < 4**most * 1.1


def test_absurd_sizes_are_malformed_and_not_an_error() -> None:
    with pytest.raises(ValueError, match=f"{MAX_DIGITS + 1:,} digits; at most {MAX_DIGITS:,}"):
        read_integer("7" * (MAX_DIGITS + 1))
    text = '<tool_call>\n{"name": "f", "arguments": {"a": %s}}\n</tool_call>'
    absurd = text % ("7" * (MAX_DIGITS + 1))
    parser = toolparse.parser_for("hermes")
    message = parser.parse(absurd + "\n" + text % "1")
    first, second = message.tool_calls
    assert (first.ok, first.issues[0].code, second.ok) == (False, "malformed-arguments", True)
    stream = parser.stream()
    stream.feed(absurd[:1000])
    stream.feed(absurd[1000:] + "\n" + text % "1")
    assert stream.close() == message


def count(n: int) -> None:
    """Count.

    Args:
        n: How far.
    """


@pytest.mark.parametrize("family", ["hermes", "pythonic", "gemma4", "qwen3-coder"])
def test_long_integers_go_through(family: str) -> None:
    parser = toolparse.parser_for(family, tools=[count])
    value = 10**6_000 + 7
    text = parser.render([("count", {"n": "TEN" if family == "qwen3-coder" else 123454321})])
    text = text.replace("TEN", write_integer(value)).replace("123454321", write_integer(value))
    (call,) = parser.parse(text).tool_calls
    assert call.ok
    assert call.arguments == {"n": value}


def test_types_as_schemas_name_them() -> None:
    values: list[Any] = [None, True, 3, 3.0, "3", [3], (3,), {"a": 3}, MappingProxyType({"a": 3}), {3}, b"3"]
    assert [json.type_of(value) for value in values] == [
        "null",
        "boolean",
        "integer",
        "number",
        "string",
        "array",
        "array",
        "object",
        "object",
        "unknown",
        "unknown",
    ]
