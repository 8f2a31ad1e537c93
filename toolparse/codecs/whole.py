"""JSON values in text that is known to be complete, read by a decoder in C.

`read_whole` finds where a value ends (at the closing marker if decoding succeeds up to there, else where the standard
library's scanner stops) and decodes the slice with msgspec. Whatever is not plain JSON with each key once it leaves to
the ValueScanner, so that both ways give the same.
"""

from __future__ import annotations

from json.decoder import JSONDecoder
from typing import Any

import msgspec

from toolparse.codecs import json
from toolparse.codecs.matching import skip_blanks
from toolparse.codecs.values import DONE, ValueScanner, Watch
from toolparse.format import Syntax

_decode = msgspec.json.Decoder().decode
# The scanner in C, held to what JSON allows.
_scan = JSONDecoder(parse_float=json.finite_float, parse_constant=json.no_constant).scan_once  # type: ignore[attr-defined]
FAR = 2048  # characters, from which on it pays to think before a search


#: The position behind a value, name, id and arguments. The name is '' where no wrapper gives it.
Whole = tuple[int, str, str | None, dict[str, Any]]


class Budget:
    """How many characters may still be looked at in vain: when they are used up, the short cut is not tried again."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = 4 * size + 4096


def read_up_to(buf: str, pos: int, end: int, watch: Watch | None) -> Whole | None:
    """The call's arguments, where a value of plain JSON is all that stands between two positions."""
    text = buf[pos:end]
    try:
        value = _decode(text)
    except (ValueError, RecursionError):
        return None
    return wrapped(value, end, watch) if type(value) is dict and json.each_key_once(text, value) else None


def read_whole(buf: str, pos: int, stop: str, watch: Watch | None, budget: Budget | None = None) -> Whole | None:
    """The call's arguments at `pos`, or None when they must be read the long way.

    `stop`: the marker that closes the call, '' if there is none. `watch`: the paths of a wrapper. `budget`: bounds what
    is looked at in vain, for a caller who tries again at another place; one try is linear.
    """
    if budget is not None and budget.left < 0:
        return None
    if stop:
        size = len(buf)
        end = buf.find(stop, pos) if size - pos < FAR else find_marker(buf, stop, pos)
        whole = read_up_to(buf, pos, end, watch) if end >= 0 else None
        if whole is not None:
            return whole
        # The closing marker stands inside a string, or this is no JSON.
        if budget is not None:
            budget.left -= (end if end >= 0 else size) - pos
    try:
        value, end = _scan(buf, skip_blanks(buf, pos))
    except (ValueError, StopIteration, RecursionError):
        if budget is not None:
            budget.left -= len(buf)  # the library's error counts the lines from the start
        return None
    return wrapped(value, end, watch) if type(value) is dict and json.each_key_once(buf[pos:end], value) else None


def wrapped(value: dict[str, Any], end: int, watch: Watch | None) -> Whole | None:
    """The call that a value is, which ends at `end`; None when it has not just what the wrapper's picture shows."""
    if watch is None:
        return end, "", None, value
    pair = watch.pair
    if pair is not None and len(value) == 2:
        name, arguments = value.get(pair[0]), value.get(pair[1])
        return (end, name, None, arguments) if type(name) is str and type(arguments) is dict else None
    found: dict[str, Any] = {}
    if watch.keyed:
        if len(value) != 1 or watch.roles or watch.synonyms:
            return None
        ((found["name"], found["arguments"]),) = value.items()
    elif watch.tree is None or not _collect(value, watch.tree, found):
        return None
    name, arguments, id = found.get("name"), found.get("arguments"), found.get("id")
    if type(name) is not str or type(arguments) is not dict:
        return None
    return end, name, None if id is None else str(id), arguments


def find_marker(buf: str, marker: str, pos: int) -> int:
    """`buf.find(marker, pos)`, faster where the marker's first character is rare in a long text."""
    if len(buf) - pos > FAR:
        pos = buf.find(marker[0], pos)
        if pos < 0 or buf.startswith(marker, pos):
            return pos
    return buf.find(marker, pos)


def _collect(value: dict[str, Any], tree: dict[str, Any], found: dict[str, Any]) -> bool:
    """What stands at the watched paths; False when a role is filled twice."""
    for key, item in value.items():
        role = tree.get(key)
        if role is None:
            continue
        if type(role) is str:
            if role in found:
                return False
            found[role] = item
        elif type(item) is dict and not _collect(item, role, found):
            return False
    return True


class WholeScanner(ValueScanner):
    """Scans a JSON value in one go where it can."""

    __slots__ = ("_budget", "_stop", "_value")

    _value: dict[str, Any] | None

    def __init__(
        self, syntax: Syntax, *, watch: Watch | None, stops: tuple[str, ...], stop: str, budget: Budget
    ) -> None:
        super().__init__(syntax, watch=watch, stops=stops)
        self._stop = stop
        self._budget = budget
        self._value = None

    def scan(self, buf: str, pos: int, final: bool) -> int:
        """As ValueScanner.scan; `final` must be true."""
        whole = read_whole(buf, pos, self._stop, self.watch, self._budget)
        if whole is None:
            self._value = None
            return super().scan(buf, pos, final)
        end, name, id, self._value = whole
        self.status = DONE
        self.arguments_seen = self.arguments_done = True
        if self.watch is not None:
            self.name, self.id = name, id
        return end

    def arguments(self) -> dict[str, Any]:
        """The arguments."""
        return super().arguments() if self._value is None else self._value

    def partial(self) -> str:
        """The arguments, or as much of them as was read, as JSON text."""
        return super().partial() if self._value is None else json.encode(self._value)
