"""Integers between their digits and their value, also where Python refuses: beyond 4300 digits.

Python's own conversions and the decimal module's between `Decimal` and `int` are quadratic. Here a long number is cut
in half until its pieces are short: reading puts them together with Python's multiplication (Karatsuba's, n^1.58),
writing with that of `Decimal` (n log n), which is then written in linear time.

Up to a hundred thousand digits what the model wrote is what the caller gets; a digit then costs about what a
character of a Python call costs. Longer integers are refused when they are read, and their call is malformed: so the
work for a character stays bounded, and nobody means them. What else Python does with integers beyond 4300 digits is the
caller's matter: `str`, `repr` and the standard library's JSON encoder refuse them unless `sys.set_int_max_str_digits`
allows it.
"""

from __future__ import annotations

import decimal
from decimal import Decimal

#: Nobody means a longer integer.
MAX_DIGITS = 100_000
#: Python converts so many digits itself, whatever its limit is set to (it can't be set below 640).
PIECE_DIGITS = 600
PIECE_BITS = 1 << 11

_exact = decimal.Context(
    prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[decimal.Inexact, decimal.Overflow]
)


def read_integer(digits: str) -> int:
    """The integer that decimal digits, perhaps with a sign, stand for. Raises ValueError beyond MAX_DIGITS."""
    size = len(digits)
    if size <= PIECE_DIGITS:
        return int(digits)
    if size > MAX_DIGITS:
        raise ValueError(f"an integer of {size:,} digits; at most {MAX_DIGITS:,} are read")
    if digits[0] in "+-":
        value = read_integer(digits[1:])
        return -value if digits[0] == "-" else value
    return _read(digits, 0, size, {})


def _read(digits: str, start: int, end: int, powers: dict[int, int]) -> int:
    """The integer between two places. `powers` of five: those of two are shifts."""
    size = end - start
    if size <= PIECE_DIGITS:
        return int(digits[start:end])
    half = size >> 1
    power = powers.get(half)
    if power is None:
        power = powers[half] = 5**half
    return (_read(digits, start, end - half, powers) * power << half) + _read(digits, end - half, end, powers)


def write_integer(value: int) -> str:
    """The decimal digits of an integer of any size."""
    bits = value.bit_length()
    if bits <= PIECE_BITS:
        return int.__repr__(value)
    if value < 0:
        return "-" + write_integer(-value)
    return str(_write(value, bits, {}))


def _write(value: int, bits: int, powers: dict[int, Decimal]) -> Decimal:
    """The decimal of an integer below two to the power of `bits`."""
    if bits <= PIECE_BITS:
        return Decimal(value)
    half = bits >> 1
    high = value >> half
    upper = _exact.multiply(_write(high, bits - half, powers), _power(half, powers))
    return _exact.add(upper, _write(value - (high << half), half, powers))


def _power(bits: int, powers: dict[int, Decimal]) -> Decimal:
    """A power of two as a decimal, made once from its halves."""
    power = powers.get(bits)
    if power is None:
        half = bits >> 1
        if bits <= PIECE_BITS:
            power = Decimal(1 << bits)
        else:
            power = _exact.multiply(_power(half, powers), _power(bits - half, powers))
        powers[bits] = power
    return power
