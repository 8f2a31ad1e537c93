"""JSON values in text that is known to be complete, read by a decoder in C.

`WholeScanner` is a `ValueScanner` with a short cut: it finds where the value ends (at the closing marker if decoding
succeeds up to there, else where the standard library's scanner stops) and decodes the slice with msgspec. Whatever is
not plain JSON with each key once goes the long way, so that both ways give the same.
"""

from __future__ import annotations

from json.decoder import JSONDecoder
from typing import Any

import msgspec

from toolparse.codecs import json
from toolparse.codecs.matching import BLANKS, skip_blanks
from toolparse.codecs.values import DONE, ValueScanner

_decode = msgspec.json.Decoder().decode
_scan = JSONDecoder().scan_once  # type: ignore[attr-defined]  # the scanner in C


class WholeScanner(ValueScanner):
    """Scans a JSON value in one go where it can."""

    __slots__ = ("_value",)

    _value: dict[str, Any] | None

    def scan(self, buf: str, pos: int, final: bool) -> int:
        """As ValueScanner.scan; `final` must be true."""
        self._value = None
        end = self._whole(buf, pos)
        return end if end >= 0 else super().scan(buf, pos, final)

    def arguments(self) -> dict[str, Any]:
        """The arguments."""
        return super().arguments() if self._value is None else self._value

    def partial(self) -> str:
        """The arguments, or as much of them as was read, as JSON text."""
        return super().partial() if self._value is None else json.encode(self._value)

    def _whole(self, buf: str, pos: int) -> int:
        """Read the value at `pos`; the position behind it, or -1 when it must go the long way."""
        stop = self.stops[0] if self.stops else ""
        end = buf.find(stop, pos) if stop else -1
        value: Any = None
        if end >= 0:
            text = buf[pos:end]
            try:
                value = _decode(text)
                end = pos + len(text.rstrip(BLANKS))
            except (ValueError, RecursionError):  # the closing marker stands inside a string, or this is no JSON
                end = -1
        if end < 0:
            try:
                end = _scan(buf, skip_blanks(buf, pos))[1]
                text = buf[pos:end]
                value = _decode(text)
            except (ValueError, StopIteration, RecursionError):
                return -1
        if type(value) is not dict or not _each_key_once(text, value):
            return -1
        if self.watch is not None and not self._unwrap(value):
            return -1
        if self.watch is None:
            self._value = value
        self.status = DONE
        self.arguments_seen = self.arguments_done = True
        return end

    def _unwrap(self, value: dict[str, Any]) -> bool:
        assert self.watch is not None
        tree = self.watch.tree
        found: dict[str, Any] = {}
        if tree is None or not _collect(value, tree, found):
            return False
        name, arguments, id = found.get("name"), found.get("arguments"), found.get("id")
        if type(name) is not str or type(arguments) is not dict:
            return False
        self.name = name
        if id is not None:
            self.id = str(id)
        self._value = arguments
        return True


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


def _each_key_once(text: str, value: dict[str, Any]) -> bool:
    """Whether certainly no key was given twice: then text and value hold the same number of strings."""
    quotes = text.count('"')
    if "\\" in text:
        if '\\\\"' in text:
            return False
        quotes -= text.count('\\"')
    return quotes == 2 * _strings(value, 0)


def _strings(value: Any, depth: int) -> int:
    """How many strings a value holds, keys included; a number that fits nothing where it is nested deeply."""
    if depth > 64:
        return -(1 << 60)
    count = 0
    if type(value) is dict:
        for item in value.values():
            count += 1
            kind = type(item)
            if kind is str:
                count += 1
            elif kind is dict or kind is list:
                count += _strings(item, depth + 1)
    else:
        for item in value:
            kind = type(item)
            if kind is str:
                count += 1
            elif kind is dict or kind is list:
                count += _strings(item, depth + 1)
    return count
