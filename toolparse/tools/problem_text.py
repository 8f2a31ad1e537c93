"""Problems, in words that a model can act on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
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


def show(value: Any, room: int = _LONGEST) -> str:
    """A value as JSON, cut to about `room` characters; takes time in proportion to what it shows."""
    text = _write(value, room, 0)
    return text if len(text) <= 2 * room else text[:room] + "..."


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
    unique = list(dict.fromkeys(names))
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
    words = f"must be {shown}" if len(listed) == 1 else f"must be one of {shown}"
    return Problem("invalid-value", f"{place(path)}: {words}; got {show(value)}", path)


def missing(path: tuple[str | int, ...], name: str) -> Problem:
    """`missing required argument 'city'`."""
    words = (
        f"{place(path)}: missing required property {quote(name)}"
        if path
        else f"missing required argument {quote(name)}"
    )
    return Problem("missing-argument", words, (*path, name))


def unexpected(path: tuple[str | int, ...], name: str, known: Iterable[str]) -> Problem:
    """`unexpected argument 'citty'; did you mean 'city'?`."""
    candidates = list(known)
    words = f"{place(path)}: unexpected property {quote(name)}" if path else f"unexpected argument {quote(name)}"
    near = closest(name, candidates)
    if near is not None:
        words += f"; did you mean {quote(near)}?"
    return Problem("unexpected-argument", words, (*path, name))


def quote(name: str) -> str:
    """A name in single quotes, cut if it is long."""
    cut = name if len(name) <= _LONGEST else name[:_LONGEST] + "..."
    return "'" + cut.encode("utf-8", "backslashreplace").decode("utf-8") + "'"


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that was probably meant."""
    if len(name) > 100:  # difflib takes quadratic time
        return None
    known = list(candidates)
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(_fold(candidate), candidate)
    if _fold(name) in folded:
        return folded[_fold(name)]
    import difflib

    near = difflib.get_close_matches(name.lower(), [c.lower() for c in known if len(c) <= 200], n=1, cutoff=0.6)
    if not near:
        return None
    return next(c for c in known if c.lower() == near[0])


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(".", "")
