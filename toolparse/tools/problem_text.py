"""Problems, in words that a model can act on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple

_WORD = re.compile(r"[A-Za-z_$][\w$-]*")
_LONGEST = 60
_ORDER = ("integer", "number", "string", "boolean", "array", "object", "null")


class Problem(NamedTuple):
    """One thing that is wrong with a call's arguments."""

    code: str
    """missing-argument, unexpected-argument, wrong-type or invalid-value."""
    message: str
    path: tuple[str | int, ...]
    """Where in the arguments: keys and indices."""


def place(path: Iterable[str | int]) -> str:
    """A path as a model would write it: `arguments.items[2].x`."""
    parts = ["arguments"]
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        elif _WORD.fullmatch(step):
            parts.append(f".{step}")
        else:
            parts.append(f"[{show(step)}]")
    return "".join(parts)


def show(value: Any) -> str:
    """A value as JSON, cut to some 60 characters; takes time in proportion to what it shows."""
    text = _write(value, _LONGEST, 0)
    return text if len(text) <= 2 * _LONGEST else text[:_LONGEST] + "..."


def _write(value: Any, room: int, depth: int) -> str:
    if isinstance(value, str):
        cut = value if len(value) <= room else value[:room]
        text = json.dumps(cut, ensure_ascii=False)
        # half a surrogate pair can't be printed anywhere
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        return text if cut is value else f'{text[:-1]}..."'
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        if value.bit_length() > 8 * room:  # writing it out takes quadratic time, and may be refused
            return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
        text = str(value)
        return text if len(text) <= room else f"{text[:room]}..."
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict | list | tuple):
        opener, closer = ("{", "}") if isinstance(value, dict) else ("[", "]")
        parts: list[str] = []
        used = 0
        items = iter(value.items()) if isinstance(value, dict) else iter(value)
        for item in items:
            if used > room or depth >= 4:
                parts.append("...")
                break
            left = max(room - used, 10)
            if isinstance(value, dict):
                part = f"{_write(str(item[0]), left, depth + 1)}: {_write(item[1], left, depth + 1)}"
            else:
                part = _write(item, left, depth + 1)
            used += len(part) + 2
            parts.append(part)
        return opener + ", ".join(parts) + closer
    return f"a {type(value).__name__}"


def either(names: Iterable[str]) -> str:
    """`integer`, `integer or null`, `integer, string or null`."""
    unique = list(dict.fromkeys(names)) or ["nothing"]
    unique.sort(key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
    if "number" in unique and "integer" in unique:
        unique.remove("integer")
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"


def wrong_type(path: tuple[str | int, ...], names: Iterable[str], value: Any) -> Problem:
    """`arguments.days: expected integer, got "three"`."""
    return Problem("wrong-type", f"{place(path)}: expected {either(names)}, got {show(value)}", path)


def not_listed(path: tuple[str | int, ...], allowed: Iterable[Any], value: Any) -> Problem:
    """`arguments.unit: must be one of "c", "f"; got "k"`."""
    listed = list(allowed)
    shown = ", ".join(show(item) for item in listed[:20]) + (", ..." if len(listed) > 20 else "")
    words = "no value is allowed" if not listed else f"must be {'one of ' * (len(listed) > 1)}{shown}"
    return Problem("invalid-value", f"{place(path)}: {words}; got {show(value)}", path)


def missing(path: tuple[str | int, ...], name: str) -> Problem:
    """`missing required argument 'city'`."""
    words = (
        f"{place(path)}: missing required property {quote(name)}"
        if path
        else f"missing required argument {quote(name)}"
    )
    return Problem("missing-argument", words, (*path, name))


def unexpected(path: tuple[str | int, ...], name: str, known: Names | None = None) -> Problem:
    """`unexpected argument 'citty'; did you mean 'city'?`."""
    words = f"{place(path)}: unexpected property {quote(name)}" if path else f"unexpected argument {quote(name)}"
    near = known.closest(name) if known is not None else None
    if near is not None:
        words += f"; did you mean {quote(near)}?"
    return Problem("unexpected-argument", words, (*path, name))


def quote(name: str) -> str:
    """A name in single quotes, cut if it is long."""
    cut = name if len(name) <= _LONGEST else name[:_LONGEST] + "..."
    return "'" + cut.encode("utf-8", "backslashreplace").decode("utf-8") + "'"


# Names longer than this are compared with nothing: difflib takes quadratic time.
_LONG_NAME = 100
# So many names are compared closely; of more, those that share the most pairs of characters with the wrong one. Pairs
# that so many names have say nothing.
_CLOSELY, _COMMON = 20, 100
# So many answers are remembered.
_REMEMBERED = 1_000


class Names:
    """Some names, to find the one that was probably meant; the work doesn't grow with their number."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [name for name in names if len(name) <= 2 * _LONG_NAME]
        self._known: dict[str, str | None] = {}

    def closest(self, name: str) -> str | None:
        """The name that was probably meant by a wrong one."""
        if len(name) > _LONG_NAME:
            return None
        try:
            return self._known[name]
        except KeyError:
            pass
        found = self._closest(name)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[name] = found
        return found

    def _closest(self, name: str) -> str | None:
        folded, pairs = self._index
        if _fold(name) in folded:
            return folded[_fold(name)]
        import difflib

        lowered: dict[str, str] = {}
        for candidate in self._candidates(name.lower(), pairs):
            lowered.setdefault(candidate.lower(), candidate)
        near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
        return lowered[near[0]] if near else None

    @cached_property
    def _index(self) -> tuple[dict[str, str], dict[str, list[int]]]:
        """The names without case and separators; and which names have a pair of characters, by number."""
        folded: dict[str, str] = {}
        pairs: dict[str, list[int]] = {}
        for number, name in enumerate(self._names):
            folded.setdefault(_fold(name), name)
            for pair in _pairs(name.lower()):
                numbers = pairs.setdefault(pair, [])
                if len(numbers) <= _COMMON:
                    numbers.append(number)
        return folded, pairs

    def _candidates(self, name: str, pairs: dict[str, list[int]]) -> list[str]:
        if len(self._names) <= _CLOSELY:
            return self._names
        shared: Counter[int] = Counter()
        for pair in _pairs(name):
            numbers = pairs.get(pair, ())
            if len(numbers) <= _COMMON:
                shared.update(numbers)
        best = sorted(shared, key=lambda number: (-shared[number], number))[:_CLOSELY]
        return [self._names[number] for number in best]


def _pairs(name: str) -> set[str]:
    """The pairs and fours of characters in a name, its ends among them."""
    ends = f"^{name}$"
    return {ends[start : start + size] for size in (2, 4) for start in range(len(ends) + 1 - size)}


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(".", "")
