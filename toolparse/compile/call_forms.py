"""One way to write calls, compiled: a head that captures name and id, a body for a codec, a tail of closing markers.

What differs only in a parameter's picture, or in a wrapper's keys, is read as one.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import msgspec

from toolparse.codecs.matching import SLACK, Rx
from toolparse.codecs.tagged import TaggedProgram, unescaped
from toolparse.codecs.wrapper import WrapperPaths
from toolparse.compile.items import (
    Core,
    Field,
    Item,
    Literals,
    Raw,
    Slack,
    Stretch,
    compile_stretch,
    is_marker,
    pattern_of,
    trimmed,
)
from toolparse.compile.parameters import compile_parameters
from toolparse.format import BODIES, CALL_HOLES, Format
from toolparse.picture import BLANKS, Hole, Part, Picture, Text, Wrapper, without_blanks_before

ATOM = re.compile(r"<\|[^<>|\n]{1,64}\|>|\]<\][^\[\]<>\n]{1,64}\[>\[")


class Shape(msgspec.Struct, dict=True):
    """One way to write calls: the format's own or an alternative spelling."""

    number: int
    format: Format
    opening: tuple[Item, ...]  # the section's opening
    heading: tuple[Item, ...]  # one call up to its body
    opener: str  # the section's opening as a pattern, '' without one
    opener_first: str
    head: Rx  # one call up to its body
    full: Rx  # the section's opening and the first call's head
    head_first: str
    anchored: bool  # nothing but a hole begins the call: tried only where a message begins
    body: str  # "wrapper" | "arguments" | "params" | "kwargs"
    watch: WrapperPaths | None
    tagged: TaggedProgram | None
    tail: tuple[str, ...]  # closing markers of a call, in order
    between: str  # what stands between calls, without blanks
    between_blanks: str
    closer: tuple[str, ...]  # closing markers of the section, in order
    id_pattern: re.Pattern[str] | None
    lead: str = ""  # blanks between text and the first call, those with which the pictures begin included
    cores: tuple[str, ...] = ()  # every literal of the section's opening and the head
    tail_names: frozenset[int] = frozenset()  # before which closing markers the name stands again
    inner: tuple[Rx | None, ...] = ()  # for each closing marker: the next call's head if that stands in its place
    reopened: Rx | None = None  # the call's own opening marker in place of its last closing one
    slip: bool = False  # whether the family's models were not taught it

    @cached_property
    def wraps_name(self) -> bool:
        """Whether a JSON wrapper gives the name."""
        return self.watch is not None and (self.watch.keyed or "name" in self.watch.roles.values())

    @cached_property
    def has_name(self) -> bool:
        """Whether the head captures a name."""
        return "(?P<name>" in self.head.pattern

    @cached_property
    def has_id(self) -> bool:
        """Whether the head captures an id."""
        return "(?P<id>" in self.head.pattern

    def may_begin(self, text: str) -> bool:
        """Whether a head may begin where a literal stands."""
        first = self.heading[0] if self.heading else Slack()
        if isinstance(first, Core):
            return text.startswith(first.text) or first.text.startswith(text)
        if isinstance(first, Field) and first.chars.least:
            return re.match(first.chars.one, text) is not None
        return not isinstance(first, Raw) or not first.pattern.startswith(r"(?=\{") or text.startswith("{")

    def names(self, match: Any) -> tuple[str | None, str | None]:
        """Name and id that a match of the head captured; the name may follow from the id."""
        name = match.group("name") if self.has_name else None
        id = match.group("id") if self.has_id else None
        if name and self.format.escapes:
            name = unescaped(name, tuple(reversed(self.format.escapes)))
        if id is not None:
            id = id.strip()
            if name is None and self.id_pattern is not None:
                found = self.id_pattern.match(id)
                name = found.group("name") if found is not None else id
        return (name.strip() if name is not None else None), id

    @cached_property
    def json(self) -> bool:
        """Whether the body is one JSON value."""
        return self.body in ("wrapper", "arguments") and self.format.syntax.is_json and not self.loose

    @property
    def loose(self) -> bool:
        """Whether only what follows a text in the arguments tells that it ended."""
        return self.body in ("kwargs", "arguments") and self.format.syntax.loose

    @cached_property
    def strong(self) -> bool:
        """Whether a call is announced by a marker that text does not hold by chance."""
        first = self.opener_first or self.head_first
        return is_marker(first) if first else any(is_marker(core) for core in self.cores)

    @property
    def bare(self) -> bool:
        """Whether calls are JSON objects that nothing announces, not even a word."""
        word = any(char.isalnum() for char in self.opener_first or self.head_first)
        return self.body == "wrapper" and not self.strong and not word

    @cached_property
    def group(self) -> tuple[str, str]:
        """Shapes with the same opening may follow one another in one section."""
        return (self.opener, self.closer[0] if self.closer else "")

    @cached_property
    def next_call(self) -> Rx | None:
        """Where the next call begins behind one that can't be read, for shapes that no marker closes."""
        if any(is_marker(core) for core in self.tail):
            return None
        between = (re.escape(self.between) + SLACK) if self.between else ""
        if self.watch is not None:
            keys = "|".join(map(re.escape, self.watch.first_keys()))
            first = f'"[^"\n]{{1,256}}"{SLACK}:{SLACK}\\{{' if self.watch.keyed else f"[\"'](?:{keys})[\"']{SLACK}:"
            return Rx(rf"\}}{SLACK}{between}(?P<at_>)(?=\{{{SLACK}{first})")
        head = self.head.pattern.removeprefix(SLACK)
        if self.head_first and not is_marker(self.head_first):
            return Rx(head)
        if self.body == "kwargs" and (between or "\n" in self.between_blanks):
            return Rx(r"\)" + (SLACK + between if between else "[ \t]{0,64}\n" + SLACK) + head)
        return None


def compile_calls(format: Format, shared: tuple[str, ...]) -> tuple[Shape, ...]:
    """Every way to write calls. What differs only in a parameter's picture, or in a wrapper's keys, is read as one."""
    merged: list[list[Format]] = []
    slips = frozenset(shape for shape, slip in format.spellings() if slip)
    for shape in format.shapes():
        known = next((group for group in merged if _reads_as_one(group[0], shape)), None)
        if known is not None and any(_difference(shape) == _difference(other) for other in known):
            continue
        if known is not None and all(_compatible(shape, other) for other in known):
            known.append(shape)
        else:
            merged.append([shape])
    shapes = [_shape(number, group, shared, slips) for number, group in enumerate(merged)]
    if any(shape.body == "arguments" for shape in shapes):
        # A value where parameters may stand too is told by its brace, so it is tried first.
        shapes.sort(key=lambda shape: shape.body == "params")
    return tuple(shapes)


def _call_of(format: Format) -> Picture:
    return format.picture("call", format.call, CALL_HOLES, frozenset())


def _reads_as_one(one: Format, other: Format) -> bool:
    if (one.section, one.between, one.syntax) != (other.section, other.between, other.syntax):
        return False
    if one.call == other.call:
        return True
    first, second = _call_of(one), _call_of(other)
    return bool(first.wrapper and second.wrapper) and _bare_around(first) == _bare_around(second)


def _bare_around(picture: Picture) -> tuple[object, ...]:
    """What stands around a wrapper, blanks left out."""
    return tuple(
        None if isinstance(part, Wrapper) else "".join(part.text.split()) if isinstance(part, Text) else part
        for part in picture.parts
    )


def _difference(format: Format) -> tuple[object, ...]:
    wrapper = _call_of(format).wrapper
    if wrapper is not None:
        return (wrapper.name, wrapper.arguments, wrapper.id, wrapper.name_is_key)
    return (format.param, format.types) if format.body == "params" else ()


def _compatible(one: Format, other: Format) -> bool:
    """Whether two wrappers can be watched for at once: nowhere one keeps a value where the other has keys."""
    first, second = _call_of(one).wrapper, _call_of(other).wrapper
    if first is None or second is None:
        return True
    if first.name_is_key or second.name_is_key:
        return False
    return not any(
        short != long and long[: len(short)] == short
        for left, right in ((first, second), (second, first))
        for short in (left.name, left.arguments, left.id)
        for long in (right.name, right.arguments, right.id)
        if short is not None and long is not None
    )


def shared_markers(format: Format) -> tuple[str, ...]:
    """Markers with which both calls and parameters begin or end: they mean something only with what follows them."""
    if format.param is None:
        return ()

    def first_atoms(source: str, hole: str) -> set[str]:
        before, _, after = source.partition(hole)
        atoms = (ATOM.match(text.strip(BLANKS)) for text in (before, after))
        return {atom.group() for atom in atoms if atom is not None}

    shared = first_atoms(format.param, "{{value}}") & first_atoms(format.call, "{{params}}")
    return tuple(sorted(shared, key=lambda mark: (-len(mark), mark)))


def _shape(number: int, formats: list[Format], shared: tuple[str, ...], slips: frozenset[Format]) -> Shape:
    """One way to write calls; `formats`: the format and those that are read as one with it; `slips`: of all of them."""
    format = formats[0]
    call = _call_of(format)
    section = format.picture("section", format.section, frozenset({"calls"}))
    opening, closing = section.around("calls")
    split = next(
        i
        for i, part in enumerate(call.parts)
        if isinstance(part, Wrapper) or (isinstance(part, Hole) and part.name in BODIES)
    )
    body_part = call.parts[split]
    body = "wrapper" if isinstance(body_part, Wrapper) else body_part.name  # type: ignore[union-attr]
    literals = Literals(shared, escaped=bool(format.escapes))
    opened = compile_stretch(opening, literals=literals.fresh())
    closer = compile_stretch(closing, literals=literals.fresh())
    head = compile_stretch(call.parts[:split], literals=literals)
    tail = _closing_markers(call.parts[split + 1 :], literals)
    watch = None
    if isinstance(body_part, Wrapper):
        wrappers = (_call_of(other).wrapper for other in formats)
        watch = WrapperPaths(tuple(wrapper for wrapper in wrappers if wrapper is not None), dict(format.synonyms))
    tagged = None
    if body == "params":
        tagged = compile_parameters(formats, tail, closer.cores, head.first or opened.first, shared, slips)
    look = _lookahead(body, watch, head, tagged, format, weak=not is_marker(opened.first or head.first))
    heading = trimmed(head.items, left=True, right=True)
    if heading[:1] == (Core("<"),) and isinstance(name := heading[2], Field) and name.name == "name":
        # The name is an element's: no other marker, and no closing one.
        frames = [side for text in (format.thought, format.said) for side in (text.opening, text.closing)]
        others = (mark.strip(BLANKS) for mark in (*format.ends, *closer.cores, *opened.cores, *frames))
        avoid = "|".join(re.escape(mark[1:]) for mark in dict.fromkeys(others) if mark[:1] == "<" and mark != "<")
        chars = name.chars._replace(least=1)
        heading = (Core("<"), Raw(f"(?!/{'|' + avoid if avoid else ''})"), name._replace(chars=chars), *heading[3:])
        follows = tagged.follows if tagged is not None else ("{",)
        look = look or (Slack(), Raw(f"(?={'|'.join(map(re.escape, follows))})"))
    heading = trimmed((*heading, *look), left=True)
    opening_items = trimmed(opened.items, right=True)
    bare_head = "(?P<at_>)" + pattern_of(heading)
    full = pattern_of((*trimmed(opening_items, left=True), Slack())) + bare_head if opening_items else bare_head
    return Shape(
        number=number,
        format=format,
        opening=opening_items,
        heading=heading,
        opener=pattern_of(opening_items),
        opener_first=opened.first,
        head=Rx(SLACK + bare_head, cores=head.cores),
        full=Rx(full, cores=(*opened.cores, *head.cores)),
        head_first=head.first,
        anchored=not (opened.first or head.first) and (body != "wrapper" or head.starts_with_hole),
        body=body,
        watch=watch,
        tagged=tagged,
        tail=tail,
        tail_names=frozenset(
            len(_closing_markers(call.parts[split + 1 : at], literals.fresh()))
            for at in range(split + 2, len(call.parts))
            if isinstance(part := call.parts[at], Hole) and part.name == "name"
        ),
        between=format.between.strip(BLANKS),
        between_blanks=format.between if not format.between.strip(BLANKS) else "",
        closer=closer.cores,
        id_pattern=_id_pattern(format),
        lead=format.lead + without_blanks_before(opening if opened.first else call.parts[:split])[1],
        cores=(*opened.cores, *head.cores),
        inner=_inner_heads(call.parts[:split], tail, watch, shared, escaped=bool(format.escapes)),
        reopened=_reopened(format, head.first, tail),
        slip=format in slips,
    )


def _closing_markers(parts: tuple[Part, ...], literals: Literals) -> tuple[str, ...]:
    """The literals behind a body. Blanks before them are free, inside an open `<` as well."""
    cores = (core.lstrip(BLANKS) for core in compile_stretch(parts, literals=literals).cores)
    return tuple(core for core in cores if core)


def _inner_heads(
    head: tuple[Part, ...], tail: tuple[str, ...], watch: WrapperPaths | None, shared: tuple[str, ...], *, escaped: bool
) -> tuple[Rx | None, ...]:
    """How a call begins between the outer markers of the one before it, for each closing marker that is not there.

    It is that part of a head which the closing markers before it have closed: from the tag on that the last of them
    closes, or, where there is none, a wrapper alone.
    """
    if not tail or not is_marker(tail[-1]):
        return ()
    found: list[Rx | None] = [None] * len(tail)
    look = SLACK + r"(?=\{)"
    if watch is not None and not watch.keyed and "name" in watch.roles.values():
        keys = "|".join(re.escape(key) for key in watch.first_keys())
        look = SLACK + r"(?P<at_>)(?=\{" + SLACK + "[\"'](?:" + keys + ")[\"']" + SLACK + ":)"
        found[0] = Rx(SLACK + ",?" + look)
    for number, closed in enumerate(tail[:-1], 1):
        stem = "<" + closed[2:-1] if closed.startswith("</") and closed.endswith(">") else ""
        at = next((n for n, part in enumerate(head) if isinstance(part, Text) and stem and stem in part.text), -1)
        if at < 0:
            continue
        part = head[at]
        assert isinstance(part, Text)
        parts = (Text(part.text[part.text.rindex(stem) :]), *head[at + 1 :])
        if watch is None and not any(isinstance(part, Hole) and part.name == "name" for part in parts):
            continue
        inner = compile_stretch(parts, literals=Literals(shared, escaped=escaped))
        pattern = SLACK + "(?P<at_>)" + inner.rx.pattern
        found[number] = Rx(pattern + (look.replace("(?P<at_>)", "") if watch is not None else ""))
    return tuple(found) if any(found) else ()


def _reopened(format: Format, opener: str, tail: tuple[str, ...]) -> Rx | None:
    """Where a call's opening marker stands for its closing one: nothing follows it, or the next call's opening."""
    if not tail or not is_marker(opener) or not is_marker(tail[-1]) or tail[-1] in format.ends or opener == tail[-1]:
        return None
    mark = re.escape(opener)
    behind = "|".join(map(re.escape, (*format.ends, opener)))
    return Rx(f"{mark}(?={SLACK}(?:{behind}))", at_end=f"{mark}(?={SLACK}\\Z)")


def _lookahead(
    body: str,
    watch: WrapperPaths | None,
    head: Stretch,
    tagged: TaggedProgram | None,
    format: Format,
    *,
    weak: bool,
) -> tuple[Item, ...]:
    """What must follow a head for it to be one, where the head alone does not say so."""
    if body == "wrapper":
        assert watch is not None
        if weak and not watch.keyed:
            keys = "|".join(map(re.escape, (*watch.first_keys(), *watch.slipped_keys())))
            return (Slack(), Raw(r"(?=\{"), Slack(), Raw(f"[\"'](?:{keys}|type|id|index)[\"']"), Slack(), Raw(":)"))
        return (Slack(), Raw(r"(?=\{)"))
    if body == "arguments" and (head.ends_with_hole or format.param is not None):  # parameters may stand there too
        if weak:
            syntax = format.syntax
            quotes = ("'", '"', "}", *(quote for quote in syntax.quotes if quote and syntax.own_quotes))
            key = "|".join((*map(re.escape, quotes), *((r"\w",) if syntax.bare_keys else ())))
            return (Slack(), Raw(r"(?=\{"), Slack(), Raw(f"(?:{key}))"))
        return (Slack(), Raw("(?=[{(])" if format.syntax.own_quotes else r"(?=\{)"))
    if body == "kwargs" and weak:
        values = r"[\"'\[{\d-]|(?:True|False|None|true|false|null)[ \t\r\n,)]"
        return (Slack(), Raw(rf"(?=\)|{values}|[A-Za-z_][A-Za-z0-9_]{{0,128}}"), Slack(), Raw("=)"))
    if body == "params" and tagged is not None and head.ends_with_hole:
        return (Slack(), Raw(f"(?={'|'.join(map(re.escape, tagged.follows))})"))
    return ()


def _id_pattern(format: Format) -> re.Pattern[str] | None:
    """Reads the name out of an id, whatever of the picture the model kept."""
    if format.id is None:
        return None
    picture = format.picture("id", format.id, frozenset({"name", "index", "skip"}), frozenset())
    pattern = ""
    named = False
    for part in picture.parts:
        if isinstance(part, Text):
            pattern += f"(?:{re.escape(part.text)})?" if not named else f"(?:{re.escape(part.text)}"
        elif isinstance(part, Hole) and part.name == "name":
            pattern += r"(?P<name>.+?)"
            named = True
        elif isinstance(part, Hole):
            pattern += (r"[0-9]+" if part.name == "index" else r".*?") + (")?" if named else "")
    return re.compile(pattern + r"\Z", re.DOTALL)
