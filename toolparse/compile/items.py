"""What matches a stretch of a picture: items, and their printing as a pattern.

How a literal of a picture is matched is decided here, once, by three rules:

* characters other than blanks match themselves;
* blanks that a picture shows match any blanks or none (slack), and so do the places around markers (`<...>`, `[NAME]`)
  and free-standing brackets; blanks inside an open `<...` and between two words are part of the marker;
* next to a hole that holds text (`text`, `value`) the pictured blanks are the markup, and they may be missing.

Items are printed twice: as our own patterns, and by `export/response_template.py` as transformers'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from toolparse.codecs.matching import MAX_NAME, MAX_TYPE, SLACK, SPACES, Rx
from toolparse.picture import BLANKS, Hole, Part, Text

_TAG = re.compile(r"<[^<>\s][^<>\n]*>|\[/?[A-Z_ ]{2,}\]|[^\x00-\x7f]{1,4}[A-Z]+[^\x00-\x7f]{1,4}")
_BRACKET_WORD = re.compile(r"\[/?[A-Z_ ]{2,}\]")


def is_marker(core: str) -> bool:
    """Whether a literal looks like a marker: a tag, a bracketed word, a symbol no prose holds."""
    return bool(_TAG.search(core)) or (core.startswith("<") and len(core) > 2) or any(ord(c) > 0x2000 for c in core[:1])


class Core(NamedTuple):
    """Characters that are matched exactly."""

    text: str


class Slack(NamedTuple):
    """A place where blanks are free."""


class Chars(NamedTuple):
    """What a hole takes: characters of one class, as few as will do.

    `head`: a pattern that must match first. `ends`: how the pattern ends: `?` takes as few characters as will do, `+`
    all there are and never gives one back, anything else is a pattern of what must follow.
    """

    one: str
    least: int
    most: int
    head: str = ""
    ends: str = "?"

    def __str__(self) -> str:
        return f"{self.head}{self.one}{{{self.least},{self.most}}}{self.ends}"

    def without_return(self, following: tuple[Part, ...]) -> Chars:
        """These, never to be tried again where what follows the hole begins with what the hole never holds."""
        if self.ends != "?" or not following or not isinstance(following[0], Text):
            return self
        blank = re.match(self.one, " ") is None and re.match(self.one, "\n") is None
        text = following[0].text
        # Blanks that the picture does not show may stand before a marker.
        first = text.lstrip(BLANKS)[:1] if blank else text[:1]
        return self._replace(ends="+") if blank and first and re.match(self.one, first) is None else self

    def up_to_skip(self, following: tuple[Part, ...]) -> Chars:
        """These, all of them where nothing but blanks parts the hole from a `skip`."""
        solid = [part for part in following if not isinstance(part, Text) or part.text.strip(BLANKS)]
        if not solid or not isinstance(solid[0], Hole) or solid[0].name != "skip":
            return self
        return Chars(self.one, 1, 256, ends=f"(?!{self.one})")


class Field(NamedTuple):
    """A hole that is captured under its name; `again`: it stands a second time, and says the same."""

    name: str
    chars: Chars
    again: bool = False


class Raw(NamedTuple):
    """A pattern as it is."""

    pattern: str


Item = Core | Slack | Field | Raw

_CHARS = {
    "name": Chars(rf"[^{SPACES}<>{{}}()\[\]\"'|=,;`]", 1, MAX_NAME),
    "id": Chars(rf"[^{SPACES}<>{{}}\[\]\"'|]", 1, MAX_NAME),
    "index": Chars("[0-9]", 1, 9, ends=""),
    "key": Chars(r"[^<>\n\"]", 1, MAX_NAME),
    "type": Chars(r"[^<>\n\"]", 0, MAX_TYPE),
}
_IN_ATTRIBUTES = {**_CHARS, "name": Chars(r"[^<>\n\"]", 1, MAX_NAME), "id": Chars(r"[^<>\n\"]", 1, MAX_NAME)}
# Where attributes are escaped, nothing but their quotes ends them.
_ESCAPED = {**_IN_ATTRIBUTES, "name": Chars(r"[^\n\"]", 1, MAX_NAME), "key": Chars(r"[^\n\"]", 1, MAX_NAME)}
# A key that is an element's name: an end tag is none.
ELEMENT_NAME = Chars(rf"[^{SPACES}<>\"]", 0, 255, head=rf"[^{SPACES}<>\"/]")


def pattern_of(items: Iterable[Item], slack: str = SLACK) -> str:
    """Items as a pattern with named groups; `slack`: the pattern of a place where blanks are free."""
    printed: list[str] = []
    for item in items:
        if isinstance(item, Core):
            printed.append(re.escape(item.text))
        elif isinstance(item, Raw):
            printed.append(item.pattern)
        elif isinstance(item, Field):
            printed.append(f"(?P={item.name})" if item.again else f"(?P<{item.name}>{item.chars})")
        else:
            printed.append(slack)
    return "".join(printed)


def trimmed(items: tuple[Item, ...], *, left: bool = False, right: bool = False) -> tuple[Item, ...]:
    """Items without the free blanks with which they begin or end."""
    items = items[1:] if left and items and isinstance(items[0], Slack) else items
    return items[:-1] if right and items and isinstance(items[-1], Slack) else items


class Stretch(NamedTuple):
    """A run of literals and holes (no body) as items; `first`: the literal with which it begins, '' if a hole does."""

    items: tuple[Item, ...]
    first: str
    starts_with_hole: bool
    ends_with_hole: bool

    @property
    def cores(self) -> tuple[str, ...]:
        """The literals, in order."""
        return tuple(item.text for item in self.items if isinstance(item, Core))

    @property
    def rx(self) -> Rx:
        """What matches it, without the blanks around it."""
        return Rx(pattern_of(trimmed(self.items, left=True, right=True)), cores=self.cores)


class Literals:
    """Turns the literals of a picture into items, keeping track of whether a `<` is still open.

    `shared`: markers that begin pictures of several kinds (`<|open|>`), so that only together with what follows them,
    up to the next `>`, they are a marker. `escaped`: whether attributes hold entities.
    """

    def __init__(self, shared: tuple[str, ...] = (), *, escaped: bool = False) -> None:
        self.open = False
        self.shared = shared
        self.escaped = escaped

    def fresh(self) -> Literals:
        """The same for another stretch."""
        return Literals(self.shared, escaped=self.escaped)

    def items(self, text: str) -> list[Item]:
        """A literal as cores, with slack where blanks are free."""
        out: list[Item] = []
        core = ""

        def close(*, free: bool = True) -> None:
            nonlocal core
            if core:
                out.append(Core(core))
            if free and not (out and isinstance(out[-1], Slack)):
                out.append(Slack())
            core = ""

        at = 0
        while at < len(text):
            char = text[at]
            if self.open:
                core += char
                at += 1
                if char == ">":
                    self.open = False
                    close()
                continue
            if char in BLANKS:
                end = at + len(text[at:]) - len(text[at:].lstrip(BLANKS))
                if text[at - 1 : at].isalnum() and text[end : end + 1].isalnum() and "\n" not in text[at:end]:
                    core += text[at:end]
                else:
                    close()
                at = end
                continue
            shared = next((mark for mark in self.shared if text.startswith(mark, at)), "")
            word = _BRACKET_WORD.match(text, at)
            if shared:
                close()
                core = shared
                at += len(shared)
                self.open = True
                continue
            if word is not None:
                close()
                core = word.group()
                close()
                at = word.end()
                continue
            self.open = char == "<" and text[at + 1 : at + 2] not in ("", " ", "<")
            if self.open or (char in "[{" and not text[at - 1 : at].isalnum()):
                close()
            core += char
            at += 1
            if char in "[]{},;":
                close()
        close(free=False)
        return out


def compile_stretch(parts: tuple[Part, ...], *, literals: Literals | None = None) -> Stretch:
    """Literals and simple holes as items."""
    literals = literals or Literals()
    items: list[Item] = []
    first = ""
    seen: set[str] = set()
    quoted = False
    for number, part in enumerate(parts):
        behind = parts[number + 1 :]
        following = behind[0] if behind else None
        if isinstance(part, Text):
            text = part.text[1:] if quoted else part.text
            quoted = text.endswith('="') and isinstance(following, Hole) and _begins_with_quote(behind[1:2])
            found = literals.items(text[:-1] if quoted else text)
            items += found
            if not first and not seen:
                first = next((item.text for item in found if isinstance(item, Core)), "")
        elif isinstance(part, Hole):
            field = _field(part.name, parts, number, items, literals, quoted=quoted, again=part.name in seen)
            if part.name != "skip":
                seen.add(part.name)
            if quoted:
                items += (Slack(), Raw(f"(?P<q{number}>[\"']?)"), field, Raw(f"(?P=q{number})"))
                continue
            if not (items and isinstance(items[-1], Slack)):
                items.append(Slack())
            items.append(field)
            # Inside an open tag blanks belong to the next marker, which free blanks must not take from it.
            if not (literals.open and isinstance(following, Text) and following.text[:1] in BLANKS):
                items.append(Slack())
    solid = [part for part in parts if not isinstance(part, Text) or part.text.strip(BLANKS)]
    return Stretch(
        tuple(items),
        first,
        starts_with_hole=bool(parts) and isinstance(parts[0], Hole),
        ends_with_hole=bool(solid) and isinstance(solid[-1], Hole),
    )


def _begins_with_quote(parts: tuple[Part, ...]) -> bool:
    return bool(parts) and isinstance(parts[0], Text) and parts[0].text.startswith('"')


def _field(
    name: str, parts: tuple[Part, ...], at: int, items: list[Item], literals: Literals, *, quoted: bool, again: bool
) -> Item:
    """What a hole takes, as what stands around it allows."""
    if name == "skip":
        return _skipped(parts, at)
    around = (parts[at - 1] if at else None, parts[at + 1] if at + 1 < len(parts) else None)
    chars = (_ESCAPED if literals.escaped else _IN_ATTRIBUTES) if quoted else _CHARS
    found = chars[name].up_to_skip(parts[at + 1 :])
    cores = [item.text for item in items if isinstance(item, Core)]
    if name == "name" and all(isinstance(part, Text) and part.text.strip(BLANKS) for part in around):
        found = found._replace(least=0)  # a call without a name is a call all the same
    if name == "key" and isinstance(around[0], Text) and pattern_of(items[-1:]).endswith("<"):
        found = ELEMENT_NAME
    elif name == "name" and cores and not any(char.isalnum() for char in cores[-1]):
        # Where a call is closed by what opens it, that is not the next one's name.
        found = found._replace(head=f"(?!{re.escape(cores[-1])})")
    return Field(name, found if quoted else found.without_return(parts[at + 1 :]), again)


def _skipped(parts: tuple[Part, ...], at: int) -> Raw:
    """What a `skip` takes: characters of one line up to the next marker that the same picture shows."""

    def cores_of(part: Part) -> list[str]:
        items = Literals().items(part.text) if isinstance(part, Text) else []
        return [item.text for item in items if isinstance(item, Core)]

    markers = dict.fromkeys(core for part in parts for core in cores_of(part) if is_marker(core))
    if not markers:
        return Raw("[^\\n{]{0,256}?")
    firsts = "".join(dict.fromkeys(re.escape(core[0]) for core in markers))
    plain = f"[^\\n{{{firsts}]"
    run = f"(?:{plain}|(?!{'|'.join(map(re.escape, markers))})[{firsts}]){{0,256}}"
    if not any(core in markers for part in parts[at + 1 : at + 2] for core in cores_of(part)[:1]):
        return Raw(run + "?")
    # It ends at the marker that follows or nowhere; what is too long is told first, at a tenth of the time.
    return Raw(f"(?!{plain}{{256}}[^\\n{{{firsts} \\t\\r]){run}+")
