"""Keywords of JSON schemas that limit texts and numbers, as expressions and automata.

A keyword becomes the set of texts that it admits; several at once are the texts that all of them admit, which for
automata is their product. What can't be said so (look-around, back references, products that grow too large) raises
`NotSaid`, and whoever knows the tool and the path makes an error of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from re import _constants as _re  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

from toolparse.export.expressions import (
    ANY,
    DIGITS,
    EMPTY,
    Alt,
    Automaton,
    Chars,
    Expr,
    Lit,
    Meet,
    Ranges,
    Rep,
    Scan,
    Seq,
    alt,
    both,
    chars,
    complement,
    opt,
    points,
    seq,
    star,
    trimmed,
    union,
)

_MAX_STATES = 2_000
_DIGIT = chars("0-9").ranges
_WORD = chars("A-Za-z0-9_").ranges
_SPACE = points(" \t\n\r\f\v")


class NotSaid(Exception):
    """A keyword can't be said; the message tells why."""


# -- patterns ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def matching(pattern: str) -> Expr:
    """The texts in which a regular expression is found somewhere, as JSON Schema reads `pattern`."""
    try:
        parsed = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise NotSaid(f"the pattern {pattern!r} is no regular expression: {error}") from None
    if parsed.state.flags & ~re.UNICODE:
        raise NotSaid(f"the pattern {pattern!r} has flags, which no grammar says")
    tree = list(parsed)
    ways = tree[0][1][1] if len(tree) == 1 and tree[0][0] is _re.BRANCH else [tree]
    anything = star(Chars(ANY))
    options = []
    for way in ways:
        items = list(way)
        first = bool(items) and items[0] in _STARTS
        last = bool(items) and items[-1] in _ENDS
        inner = items[first : len(items) - last] if len(items) > first or not last else []
        body = _sequence(inner, pattern)
        options.append(seq(EMPTY if first else anything, body, EMPTY if last else anything))
    return alt(*options) if len(options) > 1 else options[0]


_STARTS = ((_re.AT, _re.AT_BEGINNING), (_re.AT, _re.AT_BEGINNING_STRING))
_ENDS = ((_re.AT, _re.AT_END), (_re.AT, _re.AT_END_STRING))


def _sequence(items: Iterable[Any], pattern: str) -> Expr:
    return seq(*(_item(code, argument, pattern) for code, argument in items))


def _item(code: Any, argument: Any, pattern: str) -> Expr:
    if code is _re.LITERAL:
        return Lit(chr(argument))
    if code is _re.NOT_LITERAL:
        return Chars(complement(points(chr(argument))))
    if code is _re.ANY:
        return Chars(complement(points("\n")))
    if code is _re.IN:
        return Chars(_class(argument))
    if code is _re.BRANCH:
        return alt(*(_sequence(way, pattern) for way in argument[1]))
    if code is _re.SUBPATTERN and not argument[1] and not argument[2]:
        return _sequence(argument[3], pattern)
    if code in (_re.MAX_REPEAT, _re.MIN_REPEAT):
        low, high, inner = argument
        return Rep(_sequence(inner, pattern), int(low), None if high is _re.MAXREPEAT else int(high))
    raise NotSaid(f"the pattern {pattern!r} has {str(code).lower().replace('_', ' ')}, which no grammar says")


def _class(items: Iterable[tuple[Any, Any]]) -> Ranges:
    ranges: Ranges = ()
    negated = False
    kinds = {
        _re.CATEGORY_DIGIT: _DIGIT,
        _re.CATEGORY_NOT_DIGIT: complement(_DIGIT),
        _re.CATEGORY_WORD: _WORD,
        _re.CATEGORY_NOT_WORD: complement(_WORD),
        _re.CATEGORY_SPACE: _SPACE,
        _re.CATEGORY_NOT_SPACE: complement(_SPACE),
    }
    for code, argument in items:
        if code is _re.NEGATE:
            negated = True
        elif code is _re.LITERAL:
            ranges = union(ranges, points(chr(argument)))
        elif code is _re.RANGE:
            ranges = union(ranges, (argument,))
        else:
            ranges = union(ranges, kinds[argument])
    return complement(ranges) if negated else ranges


_HOST = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_DATE = r"[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#: Formats whose texts are a regular language, or nearly one. The others are remarks, as they are to validators.
FORMATS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "email": rf"^[A-Za-z0-9!#$%&'*+/=?^_{{|}}~.-]+@{_HOST}$",
    "hostname": f"^{_HOST}$",
    "ipv4": rf"^({_BYTE}\.){{3}}{_BYTE}$",
    "uuid": r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
}


class Limits(NamedTuple):
    """What keywords leave of all texts: what patterns match, of so many characters."""

    patterns: tuple[Expr, ...]
    low: int
    high: int | None

    def of(self, plain: Automaton | None = None, *, quoted: bool = False) -> Expr:
        """What they leave of some texts. Raises NotSaid if that is nothing."""
        parts = [*([] if plain is None else [Scan(plain)]), *self.patterns]
        if self.patterns and not _has_length(product(list(map(determined, parts))), self.low, self.high):
            raise NotSaid("no text fits its keywords")
        if self.low or self.high is not None:
            parts.append(Rep(Chars(ANY), self.low, self.high))
        return Meet(tuple(parts), quoted)


def _has_length(automaton: Automaton, low: int, high: int | None) -> bool:
    """Whether an automaton accepts a text of so many characters."""
    states = {0}
    longest = low + len(automaton.edges)  # of a longer text some could be left out
    for length in range((longest if high is None else min(high, longest)) + 1):
        if length >= low and states & automaton.final:
            return True
        states = {to for state in states for _, to in automaton.edges[state]}
    return False


# -- numbers ----------------------------------------------------------------------------------------------------------


def integers(low: int | None, high: int | None) -> Expr:
    """The integers of a range as JSON writes them, without `-0`."""
    if low is not None and high is not None and low > high:
        raise NotSaid("no number lies in its range")
    options: list[Expr] = []
    if low is None or low < 0:  # -high ... -low, a minus before each
        most = None if low is None else -low
        least = 1 if high is None or high >= 0 else -high
        options.append(seq(Lit("-"), _naturals(least, most)))
    if high is None or high >= 0:
        options.append(_naturals(max(low or 0, 0), high))
    return alt(*options)


def _naturals(low: int, high: int | None) -> Expr:
    """low ... high, both at least 0."""
    if high is None:
        size = len(str(low))
        longer = seq(chars("1-9"), Rep(DIGITS, size, None))
        return alt(longer, _naturals(low, 10**size - 1))
    options: list[Expr] = []
    while len(str(low)) < len(str(high)):
        top = 10 ** len(str(low)) - 1
        options.extend(_same_size(str(low), str(top)))
        low = top + 1
    options.extend(_same_size(str(low), str(high)))
    return alt(*options)


def _same_size(low: str, high: str) -> list[Expr]:
    """Numbers between two of as many digits."""
    if not low:
        return [EMPTY]
    if set(low) == {"0"} and set(high) == {"9"} and len(low) > 1:
        return [Rep(DIGITS, len(low), len(low))]
    if low[0] == high[0]:
        return [seq(Lit(low[0]), rest) for rest in _same_size(low[1:], high[1:])]
    size = len(low) - 1
    found: list[Expr] = []
    first, last = int(low[0]), int(high[0])
    if set(low[1:]) - {"0"}:
        found.extend(seq(Lit(low[0]), rest) for rest in _same_size(low[1:], "9" * size))
        first += 1
    if set(high[1:]) - {"9"}:
        found.extend(seq(Lit(high[0]), rest) for rest in _same_size("0" * size, high[1:]))
        last -= 1
    if first <= last:
        middle = Chars(((48 + first, 48 + last),))
        found.append(seq(middle, Rep(DIGITS, size, size)) if size else middle)
    return found


def decimals(low: Decimal | None, high: Decimal | None, *, above: bool, below: bool, whole: bool = True) -> Expr:
    """The numbers of a range, written without an exponent; `above`, `below`: without the bounds themselves.

    `whole`: those without a fraction, too.
    """
    options: list[Expr] = []
    if low is None or low < 0:
        # What stands behind a minus: the range, mirrored. Zero has no minus.
        least = Decimal(0) if high is None or high >= 0 else -high
        without_least = below if high is not None and high < 0 else True
        most = None if low is None else -low
        options.append(seq(Lit("-"), _positive(least, most, above=without_least, below=above, whole=whole)))
    if high is None or high > 0 or (high == 0 and not below):
        least = max(low or Decimal(0), Decimal(0))
        open_below = above and low is not None and low >= 0
        options.append(_positive(least, high, above=open_below, below=below, whole=whole))
    if not options:
        raise NotSaid("no number lies in its range")
    return alt(*options)


def _positive(low: Decimal, high: Decimal | None, *, above: bool, below: bool, whole: bool) -> Expr:
    floor, rest = _split(low)
    first = seq(Lit(str(floor)), _fraction(rest, None, above=above, below=False, whole=whole))
    point = seq(Lit("."), Rep(DIGITS, 1, None))
    fraction = opt(point) if whole else point
    if high is None:
        return alt(seq(integers(floor + 1, None), fraction), first)
    top, top_rest = _split(high)
    if low > high or (low == high and (above or below)):
        raise NotSaid("no number lies in its range")
    if floor == top:
        return seq(Lit(str(floor)), _fraction(rest, top_rest, above=above, below=below, whole=whole))
    options = [first]
    if floor + 1 <= top - 1:
        options.append(seq(integers(floor + 1, top - 1), fraction))
    if top_rest or not below:
        options.append(seq(Lit(str(top)), _fraction("", top_rest, above=False, below=below, whole=whole)))
    return alt(*options)


def _split(value: Decimal) -> tuple[int, str]:
    """A number's integer part and the digits of its fraction."""
    whole = int(value)
    digits = format(value - whole, "f").partition(".")[2].rstrip("0")
    return whole, digits


def _fraction(low: str, high: str | None, *, above: bool, below: bool, whole: bool) -> Expr:
    """What may stand behind an integer part, so that the fraction lies in a range of fractions ('' is zero)."""
    limits = [alt(*_more(low), *([] if above else [seq(Lit(low), star(Lit("0")))]))]
    if high is not None:
        limits.append(alt(*_less(high), *([] if below else [seq(Lit(high), star(Lit("0")))])))
    digits = product(list(map(determined, (*limits, Rep(DIGITS, 1, None)))))
    zero = (not low and not above) and (high is None or bool(high) or not below)
    options: list[Expr] = [seq(Lit("."), Scan(digits))] if digits.final else []
    if zero and whole:
        options.append(EMPTY)
    if not options:
        raise NotSaid("no number lies in its range")
    return opt(options[0]) if EMPTY in options and len(options) > 1 else options[0]


def _more(low: str) -> list[Expr]:
    """Fractions above one: a higher digit after the same ones; or one more digit that is not zero."""
    found: list[Expr] = []
    for at, digit in enumerate(low):
        if digit != "9":
            found.append(seq(Lit(low[:at]), Chars(((ord(digit) + 1, 57),)), star(DIGITS)))
    found.append(seq(Lit(low), star(Lit("0")), chars("1-9"), star(DIGITS)))
    return found


def _less(high: str) -> list[Expr]:
    """Fractions below one: a lower digit after the same ones, or fewer digits."""
    found: list[Expr] = [Lit(high[:at]) for at in range(len(high))]
    for at, digit in enumerate(high):
        if digit != "0":
            found.append(seq(Lit(high[:at]), Chars(((48, ord(digit) - 1),)), star(DIGITS)))
    return found or [Chars(())]


def multiples(of: int) -> Automaton:
    """The integers that a number divides."""
    if of > 1_000:
        raise NotSaid(f"multiples of {of} need too large a grammar")
    # States: the remainder so far; behind a minus the same. Zero alone is said by the bounds.
    start = of
    edges = [_digit_edges(state, of) for state in range(of)]
    edges += [(*_digit_edges(0, of), (points("-"), of + 1)), _digit_edges(0, of)]
    order = [start, *range(of), of + 1]
    number = {state: at for at, state in enumerate(order)}
    table = [tuple((ranges, number[to]) for ranges, to in edges[state]) for state in order]
    return trimmed(table, frozenset({number[0]}))


def _digit_edges(state: int, of: int) -> tuple[tuple[Ranges, int], ...]:
    targets: dict[int, str] = {}
    for digit in range(10):
        to = (state * 10 + digit) % of
        targets[to] = targets.get(to, "") + str(digit)
    return tuple((points(digits), to) for to, digits in targets.items())


# -- expressions as automata ------------------------------------------------------------------------------------------


def product(parts: list[Automaton]) -> Automaton:
    """The texts that all automata accept."""
    made = parts[0]
    for part in parts[1:]:
        made = both(made, part)
        if len(made.edges) > _MAX_STATES:
            raise NotSaid("its keywords together need too large a grammar")
    return made


@lru_cache(maxsize=512)
def determined(expr: Expr) -> Automaton:
    """An expression without references as an automaton."""
    machine = _Machine()
    end = machine.build(expr, 0)
    return machine.determined(end)


class _Machine:
    """A nondeterministic automaton: `edges[state]` by ranges, `jumps[state]` without a character."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[Ranges, int]]] = [[]]
        self.jumps: list[list[int]] = [[]]

    def state(self) -> int:
        if len(self.edges) > 20 * _MAX_STATES:
            raise NotSaid("it needs too large a grammar")
        self.edges.append([])
        self.jumps.append([])
        return len(self.edges) - 1

    def build(self, expr: Expr, start: int) -> int:
        """Adds an expression behind a state; returns the state behind it."""
        if isinstance(expr, Lit):
            for char in expr.text:
                start = self.step(start, points(char))
            return start
        if isinstance(expr, Chars):
            return self.step(start, expr.ranges)
        if isinstance(expr, Seq):
            for item in expr.items:
                start = self.build(item, start)
            return start
        if isinstance(expr, Alt):
            end = self.state()
            for option in expr.options:
                self.jumps[self.build(option, self.fork(start))].append(end)
            return end
        if isinstance(expr, Scan) and not expr.quoted:
            first = [self.state() for _ in expr.automaton.edges]
            end = self.state()
            self.jumps[start].append(first[0])
            for at, edges in enumerate(expr.automaton.edges):
                self.edges[first[at]].extend((ranges, first[to]) for ranges, to in edges)
                if at in expr.automaton.final:
                    self.jumps[first[at]].append(end)
            return end
        if isinstance(expr, Rep):
            for _ in range(expr.low):
                start = self.build(expr.item, start)
            if expr.high is None:
                loop = self.fork(start)
                self.jumps[self.build(expr.item, loop)].append(loop)
                return self.fork(loop)
            end = self.state()
            self.jumps[start].append(end)
            for _ in range(expr.high - expr.low):
                start = self.build(expr.item, start)
                self.jumps[start].append(end)
            return end
        raise TypeError(f"{type(expr).__name__} has no automaton")

    def step(self, start: int, ranges: Ranges) -> int:
        end = self.state()
        self.edges[start].append((ranges, end))
        return end

    def fork(self, start: int) -> int:
        end = self.state()
        self.jumps[start].append(end)
        return end

    def closed(self, states: Iterable[int]) -> frozenset[int]:
        found = set(states)
        pending = list(found)
        while pending:
            for to in self.jumps[pending.pop()]:
                if to not in found:
                    found.add(to)
                    pending.append(to)
        return frozenset(found)

    def determined(self, end: int) -> Automaton:
        first = self.closed([0])
        number = {first: 0}
        order = [first]
        table: list[tuple[tuple[Ranges, int], ...]] = []
        for states in order:
            classes = [ranges for state in states for ranges, _ in self.edges[state]]
            borders = sorted({at for ranges in classes for low, high in ranges for at in (low, high + 1)})
            targets: dict[frozenset[int], Ranges] = {}
            for low, after in pairwise(borders):
                reached = [to for s in states for ranges, to in self.edges[s] if _within(low, ranges)]
                if reached:
                    closed = self.closed(reached)
                    targets[closed] = union(targets.get(closed, ()), ((low, after - 1),))
            row = []
            for closed, ranges in targets.items():
                if closed not in number:
                    if len(number) >= _MAX_STATES:
                        raise NotSaid("it needs too large a grammar")
                    number[closed] = len(number)
                    order.append(closed)
                row.append((ranges, number[closed]))
            table.append(tuple(row))
        return trimmed(table, frozenset(at for states, at in number.items() if end in states))


def _within(point: int, ranges: Ranges) -> bool:
    return any(low <= point <= high for low, high in ranges)
