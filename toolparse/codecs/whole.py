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
from toolparse.codecs.matching import BLANKS, skip_blanks
from toolparse.codecs.values import DONE, ValueScanner, Watch
from toolparse.format import Syntax

_decode = msgspec.json.Decoder().decode
_scan = JSONDecoder().scan_once  # type: ignore[attr-defined]  # the scanner in C
_encode = msgspec.json.Encoder().encode
_DEEP = 64
_SHORT = 4096  # writing a short value again is faster than going through it here


#: The position behind a value, name, id and arguments. The name is '' where no wrapper gives it.
Whole = tuple[int, str, str | None, dict[str, Any]]


class Budget:
    """How many characters may still be looked at in vain: when they are used up, the short cut is not tried again."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = 4 * size + 4096


def read_whole(buf: str, pos: int, stop: str, watch: Watch | None, budget: Budget) -> Whole | None:
    """The call's arguments at `pos`, or None when they must be read the long way. Linear by its budget.

    `stop`: the marker that closes the call, '' if there is none. `watch`: the paths of a wrapper.
    """
    if budget.left < 0:
        return None
    end = buf.find(stop, pos) if stop else -1
    value: Any = None
    text = ""
    if end >= 0:
        text = buf[pos:end].rstrip(BLANKS)
        end = pos + len(text)
        try:
            value = _decode(text)
        except (ValueError, RecursionError):  # the closing marker stands inside a string, or this is no JSON
            budget.left -= end - pos
            end = -1
    elif stop:
        budget.left -= len(buf) - pos
    if end < 0:
        try:
            end = _scan(buf, skip_blanks(buf, pos))[1]
            text = buf[pos:end]
            value = _decode(text)
        except (ValueError, StopIteration, RecursionError):
            budget.left -= len(buf)  # the library's error counts the lines from the start
            return None
    if type(value) is not dict or "u0022" in text or not _each_key_once(text, value):
        return None
    return wrapped(value, end, watch)


def wrapped(value: dict[str, Any], end: int, watch: Watch | None) -> Whole | None:
    """The call that a value is, which ends at `end`; None when it has not just what the wrapper's picture shows."""
    if watch is None:
        return end, "", None, value
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


def _each_key_once(text: str, value: dict[str, Any]) -> bool:
    """Whether a text that gave a value holds no key twice: then it holds no quote that the value does not hold.

    That is two for each string, and those within strings, which are escaped. False also for what is nested deeply.
    """
    count = text.count('"')
    if len(text) < _SHORT and text.count("{") + text.count("[") <= _DEEP:
        try:
            return count == _encode(value).count(b'"')
        except (ValueError, OverflowError):
            return False
    return count == _quotes(value, 0)


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


def _quotes(value: Any, depth: int) -> int:
    """How many quotes the text of a value holds; a number that fits nothing where it is nested deeply."""
    if depth > _DEEP:
        return -(1 << 60)
    count = 0
    if type(value) is dict:
        for key, item in value.items():
            count += 2
            if '"' in key:
                count += key.count('"')
            kind = type(item)
            if kind is str:
                count += 2
                if '"' in item:
                    count += item.count('"')
            elif kind is dict or kind is list:
                count += _quotes(item, depth + 1)
    else:
        for item in value:
            kind = type(item)
            if kind is str:
                count += 2 + item.count('"')
            elif kind is dict or kind is list:
                count += _quotes(item, depth + 1)
    return count


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
