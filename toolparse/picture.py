"""Reading pictures: a text with named holes becomes literals and holes.

A picture shows a piece of an assistant's turn exactly as it is written, with `{{holes}}` where the text varies:

    <tool_call>\\n{"name": {{name}}, "arguments": {{arguments}}}\\n</tool_call>

Where a picture shows a JSON object (or its Python twin) around the holes `name` and `arguments`, that object becomes
a `Wrapper`: it is then read as JSON, by the paths to its holes, so the order of its keys is free.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import msgspec

from toolparse.errors import FormatError

#: A hole as a picture writes it: its name, and what is said of it.
HOLE = re.compile(r"\{\{([A-Za-z_]+)(?::([^{}]*))?\}\}")
_MARK = "\x00"
#: What counts as blank: the white space of JSON.
BLANKS = " \t\r\n"


class Text(msgspec.Struct, frozen=True):
    """Characters that stand in the picture as themselves."""

    text: str


class Hole(msgspec.Struct, frozen=True):
    """A named hole. `spec` is what follows a colon inside the braces (`{{index:05}}`)."""

    name: str
    spec: str = ""


class Wrapper(msgspec.Struct, frozen=True):
    """A JSON object in a picture that holds the call's holes.

    Paths are tuples of keys. `name_is_key`: the tool's name is the key under which the arguments stand.
    `encoded`: the arguments stand as a string that holds JSON.
    """

    parts: tuple[Text | Hole, ...]
    name: tuple[str, ...] | None
    arguments: tuple[str, ...] | None
    id: tuple[str, ...] | None
    name_is_key: bool = False
    encoded: bool = False


Part = Text | Hole | Wrapper


class Around(msgspec.Struct, frozen=True):
    """What a picture writes before and after its one hole that takes the rest."""

    before: str
    after: str

    def write(self, text: str) -> str:
        """The picture with a text in the hole."""
        return f"{self.before}{text}{self.after}"

    @property
    def opening(self) -> str:
        """What stands before the hole, without blanks around it."""
        return self.before.strip(BLANKS)

    @property
    def closing(self) -> str:
        """What stands behind the hole, without blanks around it."""
        return self.after.strip(BLANKS)

    @property
    def shows(self) -> bool:
        """Whether the picture shows more than blanks around the hole."""
        return bool(self.opening or self.closing)

    @property
    def start(self) -> str:
        """The blanks with which the picture begins."""
        return self.before[: len(self.before) - len(self.before.lstrip(BLANKS))]

    @property
    def lead(self) -> str:
        """The blanks directly before the hole."""
        return self.before[len(self.before.rstrip(BLANKS)) :]

    @property
    def trail(self) -> str:
        """The blanks directly behind the hole."""
        return self.after[: len(self.after) - len(self.after.lstrip(BLANKS))]


@lru_cache(maxsize=2048)
def around(source: str | None, hole: str) -> Around:
    """What the source of a picture writes around `{{hole}}`; `{{skip}}` stands for nothing, no source for ('', '')."""
    before, _, after = (source or "").replace("{{skip}}", "").partition(f"{{{{{hole}}}}}")
    return Around(before, after)


class Picture(msgspec.Struct, frozen=True):
    """A picture, read: `parts` in order; `source` is the text it was read from."""

    source: str
    parts: tuple[Part, ...] = ()

    def holes(self) -> tuple[str, ...]:
        """The names of the holes, in order, those inside a wrapper included."""
        names: list[str] = []
        for part in self.parts:
            if isinstance(part, Hole):
                names.append(part.name)
            elif isinstance(part, Wrapper):
                names.extend(sub.name for sub in part.parts if isinstance(sub, Hole))
        return tuple(names)

    def around(self, hole: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """The parts before and behind a hole."""
        at = next(i for i, part in enumerate(self.parts) if isinstance(part, Hole) and part.name == hole)
        return self.parts[:at], self.parts[at + 1 :]

    @property
    def wrapper(self) -> Wrapper | None:
        """The JSON object around the call's holes, if the picture shows one."""
        for part in self.parts:
            if isinstance(part, Wrapper):
                return part
        return None


def without_blanks_behind(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], str]:
    """Parts without the blanks with which they end, and those."""
    if not parts or not isinstance(parts[-1], Text):
        return parts, ""
    bare = parts[-1].text.rstrip(BLANKS)
    return (*parts[:-1], *((Text(bare),) if bare else ())), parts[-1].text[len(bare) :]


def without_blanks_before(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], str]:
    """Parts without the blanks with which they begin, and those."""
    if not parts or not isinstance(parts[0], Text):
        return parts, ""
    text = parts[0].text
    bare = text.lstrip(BLANKS)
    return (*((Text(bare),) if bare else ()), *parts[1:]), text[: len(text) - len(bare)]


@lru_cache(maxsize=2048)
def read_picture(
    source: str, *, field: str, holes: frozenset[str], required: frozenset[str] = frozenset(), owner: str = ""
) -> Picture:
    """Read a picture and check its holes.

    `field` and `owner` name the place in error messages; `holes` are the names that may occur, `required` those that
    must. Raises FormatError with a caret under the offending character.
    """
    parts: list[Text | Hole] = []
    at = 0
    for match in HOLE.finditer(source):
        name, spec = match.group(1), match.group(2) or ""
        if name not in holes:
            allowed = ", ".join(sorted("{{" + hole + "}}" for hole in holes))
            raise _error(
                owner, field, source, match.start(), f"unknown hole {{{{{name}}}}}; this field takes {allowed}"
            )
        if match.start() > at:
            parts.append(Text(source[at : match.start()]))
        elif parts and isinstance(parts[-1], Hole) and name not in ("arguments", "params"):
            raise _error(
                owner,
                field,
                source,
                match.start(),
                "two holes touch; put a literal between them so that they can be told apart",
            )
        parts.append(Hole(name, spec))
        at = match.end()
    if at < len(source):
        parts.append(Text(source[at:]))
    stray = re.search(r"\{\{\s*\w*\s*\}\}", "".join(p.text if isinstance(p, Text) else "\x01" for p in parts))
    if stray:
        place = source.find(stray.group())
        raise _error(owner, field, source, place, "this looks like a hole but isn't one; write {{name}} without blanks")
    missing = required - {part.name for part in parts if isinstance(part, Hole)}
    if missing:
        lacking = ", ".join(sorted("{{" + hole + "}}" for hole in missing))
        raise _error(owner, field, source, len(source), f"the picture lacks {lacking}")
    return Picture(source, tuple(_find_wrapper(parts)))


def _error(owner: str, field: str, source: str, at: int, what: str) -> FormatError:
    start = source.rfind("\n", 0, at) + 1
    end = source.find("\n", at)
    line = source[start : end if end >= 0 else len(source)]
    caret = " " * (at - start) + "^"
    where = f"format {owner!r}, field {field!r}" if owner else f"field {field!r}"
    return FormatError(f"{where}: {what}\n    {line}\n    {caret}")


def _find_wrapper(parts: list[Text | Hole]) -> list[Part]:
    """Replace the stretch that is a JSON object around `name` and/or `arguments` by a Wrapper."""
    names = {part.name for part in parts if isinstance(part, Hole)}
    if "arguments" not in names:
        return list(parts)
    flat = ""
    where: list[tuple[int, int]] = []  # each part's start and end in `flat`
    for number, part in enumerate(parts):
        if isinstance(part, Text):
            piece = part.text
        else:
            before = parts[number - 1] if number else None
            after = parts[number + 1] if number + 1 < len(parts) else None
            quoted = (
                isinstance(before, Text)
                and isinstance(after, Text)
                and before.text[-1:] in ("'", '"')
                and after.text[:1] == before.text[-1:]
            )
            marker = json.dumps(f"{_MARK}{part.name}{_MARK}{'q' if quoted else ''}")
            piece = marker[1:-1] if quoted else marker
        where.append((len(flat), len(flat) + len(piece)))
        flat += piece
    decoder = json.JSONDecoder()
    for attempt in (flat, flat.replace("'", '"')):
        at = attempt.find("{")
        while at >= 0:
            try:
                value, end = decoder.raw_decode(attempt, at)
            except ValueError:
                value, end = None, at
            if isinstance(value, dict):
                paths = dict(_paths(value, ()))
                if "arguments" in paths and ("name" in paths or _key_marked(value)):
                    return _cut(parts, where, at, end, paths, value)
            at = attempt.find("{", at + 1)
    return list(parts)


def _paths(value: Any, path: tuple[str, ...]) -> list[tuple[str, tuple[tuple[str, ...], bool]]]:
    found: list[tuple[str, tuple[tuple[str, ...], bool]]] = []
    for key, item in value.items():
        if isinstance(item, dict):
            found.extend(_paths(item, (*path, key)))
        elif isinstance(item, str) and item.startswith(_MARK):
            hole, _, flag = item[1:].partition(_MARK)
            found.append((hole, ((*path, key), flag == "q")))
    return found


def _key_marked(value: dict[str, Any]) -> bool:
    return any(key.startswith(_MARK) for key in value)


def _cut(
    parts: list[Text | Hole],
    where: list[tuple[int, int]],
    at: int,
    end: int,
    paths: dict[str, tuple[tuple[str, ...], bool]],
    value: dict[str, Any],
) -> list[Part]:
    before: list[Part] = []
    inside: list[Text | Hole] = []
    after: list[Part] = []
    for part, (start, stop) in zip(parts, where, strict=True):
        if stop <= at:
            before.append(part)
        elif start >= end:
            after.append(part)
        elif isinstance(part, Hole):
            inside.append(part)
        else:
            if start < at:
                before.append(Text(part.text[: at - start]))
            inside.append(Text(part.text[max(0, at - start) : end - start]))
            if stop > end:
                after.append(Text(part.text[end - start :]))
    keyed = _key_marked(value)
    arguments, encoded = paths["arguments"]
    wrapper = Wrapper(
        parts=tuple(inside),
        name=None if keyed else paths["name"][0],
        arguments=None if keyed else arguments,
        id=paths["id"][0] if "id" in paths else None,
        name_is_key=keyed,
        encoded=encoded,
    )
    return [*before, wrapper, *after]
