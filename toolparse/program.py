"""A Format compiled: what the machine executes.

Pictures become heads (patterns that capture name and id), bodies (which codec reads the arguments) and tails (closing
markers in order). How a literal of a picture is matched is decided here, once, by three rules:

* characters other than blanks match themselves;
* blanks that a picture shows match any blanks or none, and so do the places around markers (`<...>`, `[NAME]`) and
  free-standing brackets; blanks inside an open `<...` and between two words are part of the marker;
* next to a hole that holds text (`text`, `value`) the pictured blanks are the markup, and they may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import msgspec

from toolparse.codecs.matching import SLACK, SPACES, Rx, Tail
from toolparse.codecs.tagged import KEY, ParamProgram, TaggedProgram, unescaped
from toolparse.codecs.wrapper import WrapperPaths
from toolparse.format import BODIES, CALL_HOLES, PARAM_HOLES, SUFFIX, Format
from toolparse.picture import Hole, Part, Picture, Text, Wrapper

_TAG = re.compile(r"<[^<>\s][^<>\n]*>|\[/?[A-Z_ ]{2,}\]|[^\x00-\x7f]{1,4}[A-Z]+[^\x00-\x7f]{1,4}")
_BRACKET_WORD = re.compile(r"\[/?[A-Z_ ]{2,}\]")
_ATOM = re.compile(r"<\|[^<>|\n]{1,64}\|>|\]<\][^\[\]<>\n]{1,64}\[>\[")
BLANK = " \t\r\n"

_HOLE_PATTERNS = {
    "name": rf"[^{SPACES}<>{{}}()\[\]\"'|=,;`]{{1,256}}?",
    "id": rf"[^{SPACES}<>{{}}\[\]\"'|]{{1,256}}?",
    "index": r"[0-9]{1,9}",
    "key": r"[^<>\n\"]{1,256}?",
    "type": r"[^<>\n\"]{0,64}?",
    "skip": r"[^\n{]{0,256}?",
}
_ATTRIBUTE_PATTERNS = {**_HOLE_PATTERNS, "name": r"[^<>\n\"]{1,256}?", "id": r"[^<>\n\"]{1,256}?"}
# A key that is an element's name: an end tag is none.
_ELEMENT_NAME = rf"[^{SPACES}<>\"/][^{SPACES}<>\"]{{0,255}}?"
# Where attributes are escaped, nothing but their quotes ends them.
_ESCAPED_PATTERNS = {**_ATTRIBUTE_PATTERNS, "name": r"[^\n\"]{1,256}?", "key": r"[^\n\"]{1,256}?"}


class Literal(msgspec.Struct):
    """The pieces of a picture's literals between two holes: `cores` matched exactly, slack between them."""

    pattern: str
    cores: tuple[str, ...]


class _Compiler:
    """Turns literals into patterns, keeping track of whether a `<` is still open.

    `glue`: markers that begin pictures of several kinds (`<|open|>`), so that only together with what follows them,
    up to the next `>`, they are a marker. `escaped`: whether attributes hold entities.
    """

    def __init__(self, glue: tuple[str, ...] = (), *, escaped: bool = False) -> None:
        self.open = False
        self.glue = glue
        self.escaped = escaped

    def fresh(self) -> _Compiler:
        """The same for another stretch."""
        return _Compiler(self.glue, escaped=self.escaped)

    def pieces(self, text: str) -> list[str]:
        """The cores of a literal in order, with '' for each place where blanks are free."""
        out: list[str] = []
        core = ""
        at = 0
        while at < len(text):
            char = text[at]
            if char in BLANK and not self.open:
                end = at
                while end < len(text) and text[end] in BLANK:
                    end += 1
                inner = text[at - 1 : at].isalnum() and text[end : end + 1].isalnum() and "\n" not in text[at:end]
                if inner:
                    core += text[at:end]
                else:
                    core = _flush(out, core)
                    out.append("")
                at = end
                continue
            atom = next((mark for mark in self.glue if text.startswith(mark, at)), None) if not self.open else None
            if atom is not None:
                core = _flush(out, core)
                out.append("")
                core = atom
                at += len(atom)
                self.open = True
                continue
            word = _BRACKET_WORD.match(text, at) if not self.open else None
            if word is not None:
                core = _flush(out, core)
                out.extend(("", word.group(), ""))
                at = word.end()
                continue
            if char == "<" and not self.open and text[at + 1 : at + 2] not in ("", " ", "<"):
                core = _flush(out, core)
                out.append("")
                self.open = True
            elif char in "[{" and not self.open and not text[at - 1 : at].isalnum():
                core = _flush(out, core)
                out.append("")
            core += char
            at += 1
            if char == ">" and self.open:
                self.open = False
                core = _flush(out, core)
                out.append("")
            elif char in "[]{},;" and not self.open:
                core = _flush(out, core)
                out.append("")
        _flush(out, core)
        return out


def _flush(out: list[str], core: str) -> str:
    if core:
        out.append(core)
    return ""


def _pattern(pieces: list[str]) -> str:
    """The pattern of pieces: cores escaped, slack once wherever it is free."""
    out: list[str] = []
    for piece in pieces:
        if piece:
            out.append(re.escape(piece))
        elif not out or out[-1] != SLACK:
            out.append(SLACK)
    return "".join(out)


def _cores(pieces: list[str]) -> tuple[str, ...]:
    return tuple(piece for piece in pieces if piece)


class Stretch(msgspec.Struct):
    """A run of literals and holes (no body) compiled: its pattern, its cores, and the first of them."""

    pattern: str
    cores: tuple[str, ...]
    first: str
    starts_with_hole: bool
    ends_with_hole: bool

    @property
    def least(self) -> int:
        """How long a match is at least."""
        return sum(map(len, self.cores))


def compile_stretch(parts: tuple[Part, ...], *, compiler: _Compiler | None = None) -> Stretch:
    """Literals and simple holes as one pattern with named groups."""
    compiler = compiler or _Compiler()
    pattern = ""
    cores: list[str] = []
    first = ""
    seen: set[str] = set()
    quote_open = ""
    skip = _skip_pattern(parts)
    for number, part in enumerate(parts):
        if isinstance(part, Text):
            text = part.text
            if quote_open:
                text = text[1:]
                quote_open = ""
            following = parts[number + 1] if number + 1 < len(parts) else None
            after = parts[number + 2] if number + 2 < len(parts) else None
            attribute = (
                isinstance(following, Hole)
                and text.endswith('="')
                and isinstance(after, Text)
                and after.text.startswith('"')
            )
            if attribute:
                text = text[:-1]
                quote_open = '"'
            pieces = compiler.pieces(text)
            pattern += _pattern(pieces)
            found = _cores(pieces)
            cores.extend(found)
            if not first and found and not seen:
                first = found[0]
        elif isinstance(part, Hole):
            name = part.name
            patterns = _HOLE_PATTERNS
            if quote_open:
                patterns = _ESCAPED_PATTERNS if compiler.escaped else _ATTRIBUTE_PATTERNS
            if name == "skip":
                body = skip
            elif name in seen:
                body = f"(?P={name})"
            else:
                chars = _bounded(patterns[name], parts[number + 1 :])
                if name == "name" and _between_marks(parts, number):
                    chars = chars.replace("{1,", "{0,")  # a call without a name is a call all the same
                if name == "key" and number and isinstance(parts[number - 1], Text) and pattern.endswith("<"):
                    chars = _ELEMENT_NAME
                elif name == "name" and cores and not any(char.isalnum() for char in cores[-1]):
                    # Where a call is closed by what opens it, that is not the next one's name.
                    chars = f"(?!{re.escape(cores[-1])}){chars}"
                if not quote_open:
                    chars = _greedy(chars, parts[number + 1 :])
                body = f"(?P<{name}>{chars})"
                seen.add(name)
            if quote_open:
                pattern += f"{SLACK}(?P<q{number}>[\"']?){body}(?P=q{number})"
            else:
                following = parts[number + 1] if number + 1 < len(parts) else None
                # Inside an open tag blanks belong to the next marker, which free blanks must not take from it.
                taken = compiler.open and isinstance(following, Text) and following.text[:1] in BLANK
                pattern += (SLACK if not pattern.endswith(SLACK) else "") + body + ("" if taken else SLACK)
    solid = [part for part in parts if not isinstance(part, Text) or part.text.strip(BLANK)]
    return Stretch(
        pattern=pattern,
        cores=tuple(cores),
        first=first,
        starts_with_hole=bool(parts) and isinstance(parts[0], Hole),
        ends_with_hole=bool(solid) and isinstance(solid[-1], Hole),
    )


def _between_marks(parts: tuple[Part, ...], at: int) -> bool:
    """Whether a hole has literals on both sides that tell where it is, even if it is empty."""
    around = (parts[at - 1] if at else None, parts[at + 1] if at + 1 < len(parts) else None)
    return all(isinstance(part, Text) and part.text.strip(BLANK) for part in around)


def _skip_pattern(parts: tuple[Part, ...]) -> str:
    """What a `skip` takes: characters of one line up to the next marker that the same picture shows."""
    if not any(isinstance(part, Hole) and part.name == "skip" for part in parts):
        return ""
    compiler = _Compiler()
    cores = [core for part in parts if isinstance(part, Text) for core in _cores(compiler.pieces(part.text))]
    markers = "|".join(re.escape(core) for core in cores if is_marker(core))
    return f"(?:(?!{markers})[^\\n{{]){{0,256}}?" if markers else "[^\\n{]{0,256}?"


def _greedy(pattern: str, following: tuple[Part, ...]) -> str:
    """A hole's pattern, never to be tried again where what follows the hole begins with what the hole never holds."""
    if not pattern.endswith("}?") or not following or not isinstance(following[0], Text):
        return pattern
    chars, text = pattern[: pattern.rindex("{")], following[0].text
    blank = re.match(chars, " ") is None and re.match(chars, "\n") is None
    first = text.lstrip(BLANK)[:1] if blank else text[:1]
    # Blanks that the picture does not show may stand before a marker.
    return pattern[:-1] + "+" if blank and first and re.match(chars, first) is None else pattern


def _bounded(pattern: str, following: tuple[Part, ...]) -> str:
    """A hole's pattern; where nothing but blanks parts it from a `skip`, it takes all that it can."""
    solid = [part for part in following if not isinstance(part, Text) or part.text.strip(BLANK)]
    if not solid or not isinstance(solid[0], Hole) or solid[0].name != "skip":
        return pattern
    chars = pattern[: pattern.rindex("{")]
    return f"{chars}{{1,256}}(?!{chars})"


class Shape(msgspec.Struct, dict=True):
    """One way to write calls: the format's own or an alternative spelling."""

    number: int
    format: Format
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
    _extra: dict[str, Rx] = {}

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

    def extra_closers(self, core: str) -> Rx:
        """Superfluous closing brackets before a closing marker."""
        rx = self._extra.get(core)
        if rx is None:
            rx = self._extra[core] = Rx(r"[ \t\r\n\]\}]{1,64}" + re.escape(core))
        return rx

    @cached_property
    def next_call(self) -> Rx | None:
        """Where the next call begins behind one that can't be read, for shapes that no marker closes."""
        if any(is_marker(core) for core in self.tail):
            return None
        between = (re.escape(self.between) + SLACK) if self.between else ""
        if self.body == "wrapper" and self.watch is not None and not self.watch.keyed:
            keys = "|".join(re.escape(key) for key in self.watch.first_keys())
            return Rx(r"\}" + SLACK + between + r"(?P<at_>)(?=\{" + SLACK + "[\"'](?:" + keys + ")[\"']" + SLACK + ":)")
        if self.body == "wrapper" and self.watch is not None:
            return Rx(
                r"\}" + SLACK + between + r"(?P<at_>)(?=\{" + SLACK + '"[^"\n]{1,256}"' + SLACK + ":" + SLACK + r"\{)"
            )
        head = self.head.pattern.removeprefix(SLACK)
        if self.head_first and not is_marker(self.head_first):
            return Rx(head)
        if self.body == "kwargs" and (between or "\n" in self.between_blanks):
            return Rx(r"\)" + (SLACK + between if between else "[ \t]{0,64}\n" + SLACK) + head)
        return None


def is_marker(core: str) -> bool:
    """Whether a core looks like a marker: a tag, a bracketed word, a symbol no prose holds."""
    return bool(_TAG.search(core)) or (core.startswith("<") and len(core) > 2) or any(ord(c) > 0x2000 for c in core[:1])


class Frame(msgspec.Struct):
    """A framed text: a thought, or content where the family frames it."""

    kind: str  # "reasoning" | "content"
    open: Rx
    open_first: str
    lead: str  # blanks after the opening that are markup
    trail: str  # blanks before the closing that are markup
    close: Rx
    close_first: str  # first core of the closing, '' without one
    close_length: int  # characters that a closing can take
    after: str  # blanks after the closing that are markup
    cores: tuple[str, ...]


class Candidate(msgspec.Struct):
    """Something that may begin where a marker stands."""

    kind: str  # call, section, reasoning, content, close, end, message, stray
    core: str
    rx: Rx
    shape: Shape | None = None
    frame: Frame | None = None

    @property
    def strong(self) -> bool:
        """Whether text does not hold this marker by chance."""
        return is_marker(self.core)


class TextStretch:
    """Text in which the next marker is looked for; `tail`: what a stream must hold back at its end."""

    __slots__ = ("markers", "tail")

    def __init__(self, markers: re.Pattern[str], tail: Tail) -> None:
        self.markers = markers
        self.tail = tail

    def breakers(self) -> frozenset[str]:
        """The characters with which markers begin."""
        return self.tail.firsts

    def verbatim_prefix(self, text: str) -> int:
        """How much of a text is no part of a marker; -1 if it holds one."""
        return self.tail.safe_end(text, 0) if self.markers.search(text) is None else -1

    def least_needed(self, held: str) -> int:
        """How many characters must at least follow on what was held back, before it says anything."""
        return self.tail.missing(held)


class Program(msgspec.Struct, dict=True):
    """A compiled Format."""

    format: Format
    shapes: tuple[Shape, ...]
    frames: tuple[Frame, ...]
    ends: tuple[str, ...]
    message: str  # first marker of what stands between messages
    between: Rx
    suffix: Rx | None = None  # finds a marker and the suffix that its checkpoint gave it, while that is not known
    candidates: dict[str, tuple[Candidate, ...]] = {}
    anchored: tuple[Candidate, ...] = ()
    reasoning_candidates: dict[str, tuple[Candidate, ...]] = {}
    _thought_ends: dict[str, re.Pattern[str]] = {}
    _stops: dict[int, tuple[str, ...]] = {}
    _sections: dict[tuple[str, str], tuple[tuple[Shape, ...], tuple[str, ...]]] = {}

    @cached_property
    def longest_end(self) -> int:
        """The length of the longest end marker."""
        return max(map(len, self.ends), default=1)

    @cached_property
    def own_cores(self) -> tuple[str, ...]:
        """The literals of the head of a call as the family itself writes it."""
        return next((shape.cores for shape in self.shapes if shape.number == 0), ())

    @cached_property
    def around_content(self) -> tuple[str, str]:
        """The blanks that the picture of content writes before and behind it, where it shows nothing else there."""
        before, _, after = self.format.content.partition("{{text}}")
        return "" if before.strip(BLANK) else before, "" if after.strip(BLANK) else after

    @cached_property
    def marker_cores(self) -> tuple[str, ...]:
        """Every string at which content may turn into something else, longest first."""
        return tuple(sorted(self.candidates, key=len, reverse=True))

    @cached_property
    def markers(self) -> re.Pattern[str]:
        """Finds the next place in content at which something may begin."""
        return _alternation(self.marker_cores)

    @cached_property
    def stretch(self) -> TextStretch:
        """Content, between two markers."""
        return TextStretch(self.markers, Tail(self.marker_cores))

    @cached_property
    def _longer(self) -> dict[str, tuple[str, ...]]:
        """Markers that begin other markers, and those."""
        cores = dict.fromkeys((*self.candidates, *self.reasoning_candidates))
        longer = {core: tuple(c for c in cores if c != core and c.startswith(core)) for core in cores}
        return {core: others for core, others in longer.items() if others}

    def may_be_longer(self, core: str, buf: str, at: int) -> bool:
        """Whether the marker at `at`, where the text may go on, can turn out to be a longer one."""
        others = self._longer.get(core)
        if others is None:
            return False
        left = len(buf) - at
        return any(left < len(other) and other.startswith(buf[at:]) for other in others)

    @cached_property
    def reasoning_markers(self) -> re.Pattern[str]:
        """Finds the next place in a thought at which something may happen."""
        return _alternation(tuple(sorted(self.reasoning_candidates, key=len, reverse=True)))

    @cached_property
    def reasoning_stretch(self) -> TextStretch:
        """A thought, between two markers."""
        return TextStretch(self.reasoning_markers, Tail(tuple(self.reasoning_candidates)))

    @cached_property
    def all_markers(self) -> tuple[str, ...]:
        """Every literal that could be a marker of its own in a vocabulary."""
        cores = dict.fromkeys((*self.candidates, *self.reasoning_candidates))
        for shape in self.shapes:
            for pattern_cores in (shape.tail, shape.closer, shape.cores):
                cores.update(dict.fromkeys(pattern_cores))
        for frame in self.frames:
            cores.update(dict.fromkeys(frame.cores))
        for core in tuple(cores):
            cores.update(dict.fromkeys(atom.group() for atom in _ATOM.finditer(core)))
        return tuple(core for core in cores if core)

    def suffix_in(self, text: str) -> str:
        """The suffix of the first marker that has one in a text, '' if none has."""
        if self.suffix is None or not any(word in text for word in self.suffix_words):
            return ""
        return next((found for match in self.suffix.final.finditer(text) if (found := suffix_of(match))), "")

    @cached_property
    def suffix_words(self) -> tuple[str, ...]:
        """How markers begin that have a suffix."""
        befores = (source.split(SUFFIX)[:-1] for source in self.format.sources())
        return tuple(dict.fromkeys(before[before.rfind("<") :] + ":" for pieces in befores for before in pieces))

    def suffix_of_turn(self, prefill: str, text: str) -> str:
        """The suffix that the markers of a whole turn have, as what the prompt holds of it and its text tell."""
        return self.suffix_in(prefill) or self.suffix_in(text)

    def stops_of(self, shape: Shape) -> tuple[str, ...]:
        """The markers at which an unclosed value ends."""
        stops = self._stops.get(shape.number)
        if stops is None:
            stops = self._stops[shape.number] = (*shape.tail, *shape.closer, *self.ends)
        return stops

    def section_of(self, shape: Shape) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
        """The shapes that may follow one another in its section, and what may stand between them."""
        found = self._sections.get(shape.group)
        if found is None:
            same = tuple(other for other in self.shapes if other.group == shape.group)
            found = same, tuple(dict.fromkeys(other.between for other in same if other.between))
            self._sections[shape.group] = found
        return found

    def thought_ends(self, frame: Frame) -> re.Pattern[str]:
        """Finds where a thought is closed, or the turn is over before it was."""
        found = self._thought_ends.get(frame.close.pattern)
        if found is None:
            ends = "".join("|" + re.escape(end) for end in self.ends if not end.startswith(frame.close_first))
            found = self._thought_ends[frame.close.pattern] = re.compile(frame.close.pattern + ends)
        return found

    @cached_property
    def resync(self) -> re.Pattern[str]:
        """Where a reader can find its feet again after a call that it could not read."""
        return _alternation(self.resync_cores)

    @cached_property
    def resync_cores(self) -> tuple[str, ...]:
        """The markers of `resync`."""
        cores: dict[str, None] = {}
        for shape in self.shapes:
            for core in (*shape.tail, *shape.closer, shape.opener_first, shape.head_first):
                if core and is_marker(core):
                    cores[core] = None
        for core in (*self.ends, self.message):
            if core:
                cores[core] = None
        return tuple(sorted(cores, key=len, reverse=True))

    @cached_property
    def resync_tail(self) -> Tail:
        """What a stream must hold back while it looks for its feet."""
        return Tail(self.resync_cores)


def _alternation(cores: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(core) for core in cores) if cores else r"(?!)")


@lru_cache(maxsize=256)
def compile_format(format: Format) -> Program:
    """The program of a format. Cached; about a millisecond when new."""
    program = _build(format.bind(""))
    if format.has_suffix:
        program.format = format
        program.suffix = _suffix(format)
    return program


def bind_to(format: Format, tokens: Iterable[str]) -> Format:
    """The format with the suffix that its markers have in a vocabulary; the format itself if none of them is there."""
    program = compile_format(format)
    if program.suffix is not None:
        for token in tokens:
            match = program.suffix.final.fullmatch(token)
            if match is not None:
                return format.bind(suffix_of(match))
    return format


def suffix_of(match: Any) -> str:
    """The suffix in a match of `Program.suffix`."""
    return next((group for group in match.groups() if group), "") if match is not None else ""


def _suffix(format: Format) -> Rx:
    """Finds the first marker that carries a suffix, or could."""
    found: dict[str, None] = {}
    for source in format.sources():
        left = source.split(SUFFIX)
        for before, after in pairwise(left):
            word = before[before.rfind("<") :]
            found[re.escape(word) + r"(?P<s{}>:[A-Za-z0-9_.\-]{{1,64}})?" + re.escape(after[:1])] = None
    return Rx("|".join(pattern.format(number) for number, pattern in enumerate(found)))


def _build(format: Format) -> Program:
    shapes = _shapes(format)
    glue = _glue(format)
    frames: list[Frame] = []
    for shape in format.shapes() or (format,):
        for kind, source in (("reasoning", shape.reasoning), ("content", shape.content)):
            if source is not None and source.strip() != "{{text}}":
                frame = _frame(kind, shape, source, _Compiler(glue))
                same = (frame.kind, frame.open.pattern, frame.close.pattern)
                if all((other.kind, other.open.pattern, other.close.pattern) != same for other in frames):
                    frames.append(frame)
    message = compile_stretch((Text(format.between_messages),))
    between = Rx(SLACK + _strip_slack(message.pattern.removeprefix(SLACK)), least=message.least)
    program = Program(format, shapes, tuple(frames), format.ends, message.first, between)
    _tabulate(program)
    return program


def _shapes(format: Format) -> tuple[Shape, ...]:
    """Every way to write calls. What differs only in a parameter's picture, or in a wrapper's keys, is read as one."""
    merged: list[list[Format]] = []
    for shape in format.shapes():
        known = next((group for group in merged if _reads_as_one(group[0], shape)), None)
        if known is None:
            merged.append([shape])
        elif all(_difference(shape) != _difference(other) for other in known):
            if all(_compatible(shape, other) for other in known):
                known.append(shape)
            else:
                merged.append([shape])
    glue = _glue(format)
    shapes = [_shape(number, group, glue) for number, group in enumerate(merged)]
    if any(shape.body == "arguments" for shape in shapes):
        # A value where parameters may stand too is told by its brace, so it is tried first.
        shapes.sort(key=lambda shape: shape.body == "params")
    return tuple(shapes)


def _call_of(format: Format) -> tuple[Picture, Wrapper | None]:
    picture = format.picture("call", format.call, CALL_HOLES, frozenset())
    return picture, picture.wrapper


def _reads_as_one(one: Format, other: Format) -> bool:
    if (one.section, one.between, one.syntax) != (other.section, other.between, other.syntax):
        return False
    if one.call == other.call:
        return True
    (picture, wrapper), (picture2, wrapper2) = _call_of(one), _call_of(other)
    if wrapper is None or wrapper2 is None:
        return False
    return _bare_around(picture) == _bare_around(picture2)


def _bare_around(picture: Picture) -> tuple[object, ...]:
    """What stands around a wrapper, blanks left out."""
    return tuple(
        None if isinstance(part, Wrapper) else "".join(part.text.split()) if isinstance(part, Text) else part
        for part in picture.parts
    )


def _difference(format: Format) -> tuple[object, ...]:
    wrapper = _call_of(format)[1]
    if wrapper is not None:
        return (wrapper.name, wrapper.arguments, wrapper.id, wrapper.name_is_key)
    return (format.param, format.types) if "{{params}}" in format.call else ()


def _compatible(one: Format, other: Format) -> bool:
    """Whether two wrappers can be watched for at once: nowhere one keeps a value where the other has keys."""
    first, second = _call_of(one)[1], _call_of(other)[1]
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


def _glue(format: Format) -> tuple[str, ...]:
    """Markers with which both calls and parameters begin or end: they mean something only with what follows them."""
    if format.param is None:
        return ()

    def first_atoms(source: str, hole: str) -> set[str]:
        before, _, after = source.partition(hole)
        atoms = (_ATOM.match(text.strip(BLANK)) for text in (before, after))
        return {atom.group() for atom in atoms if atom is not None}

    shared = first_atoms(format.param, "{{value}}") & first_atoms(format.call, "{{params}}")
    return tuple(sorted(shared, key=lambda mark: (-len(mark), mark)))


def _shape(number: int, formats: list[Format], glue: tuple[str, ...]) -> Shape:
    """One way to write calls; `formats`: the format and those that are read as one with it."""
    format = formats[0]
    call = format.picture("call", format.call, CALL_HOLES, frozenset())
    section = format.picture("section", format.section, frozenset({"calls"}))
    opening, closing = _around(section, "calls")
    split = next(
        i
        for i, part in enumerate(call.parts)
        if isinstance(part, Wrapper) or (isinstance(part, Hole) and part.name in BODIES)
    )
    body_part = call.parts[split]
    body = "wrapper" if isinstance(body_part, Wrapper) else body_part.name  # type: ignore[union-attr]
    compiler = _Compiler(glue, escaped=bool(format.escapes))
    open_stretch = compile_stretch(opening, compiler=compiler.fresh())
    closer = compile_stretch(closing, compiler=compiler.fresh())
    head = compile_stretch(call.parts[:split], compiler=compiler)
    tail = compile_stretch(call.parts[split + 1 :], compiler=compiler)
    watch = None
    if isinstance(body_part, Wrapper):
        wrappers = (_call_of(other)[1] for other in formats)
        watch = WrapperPaths(tuple(wrapper for wrapper in wrappers if wrapper is not None), dict(format.synonyms))
    tagged = None
    if body == "params":
        tagged = _tagged(formats, tail.cores, closer.cores, head.first or open_stretch.first, glue)
    weak = not is_marker(open_stretch.first or head.first)
    opener = "[{(]" if format.syntax.own_quotes else r"\{"
    quotes = ("'", '"', "}", *(format.syntax.quotes if format.syntax.own_quotes else ()))
    key = "(?:" + "|".join(map(re.escape, filter(None, quotes))) + (r"|\w" if format.syntax.bare_keys else "") + ")"
    look = _lookahead(body, watch, head, tagged, opener, key, weak=weak, mixed=format.param is not None)
    head_pattern = _strip_slack(head.pattern) + look
    element = "<" + SLACK + "(?P<name>"
    if head_pattern.startswith(element):  # the name is an element's: no other marker, and no closing one
        frames = [part for text in (format.reasoning, format.content) for part in (text or "").split("{{text}}")]
        others = (mark.strip(BLANK) for mark in (*format.ends, *closer.cores, *open_stretch.cores, *frames))
        avoid = "|".join(re.escape(mark[1:]) for mark in dict.fromkeys(others) if mark[:1] == "<" and mark != "<")
        name = f"<(?!/{'|' + avoid if avoid else ''})(?P<name>" + head_pattern.removeprefix(element)
        follows = tagged.follows if tagged is not None else ("{",)
        look = look or SLACK + "(?=" + "|".join(re.escape(core) for core in follows) + ")"
        head_pattern = name.replace("{0,256}", "{1,256}", 1).removesuffix(look) + look
    bare_head = "(?P<at_>)" + head_pattern.removeprefix(SLACK)
    full = open_stretch.pattern.removesuffix(SLACK) + SLACK + bare_head if open_stretch.pattern else bare_head
    return Shape(
        number=number,
        format=format,
        opener=open_stretch.pattern.removesuffix(SLACK),
        opener_first=open_stretch.first,
        head=Rx(SLACK + bare_head, least=head.least),
        full=Rx(full.removeprefix(SLACK), least=open_stretch.least + head.least),
        head_first=head.first,
        anchored=not (open_stretch.first or head.first) and (body != "wrapper" or head.starts_with_hole),
        body=body,
        watch=watch,
        tagged=tagged,
        tail=tail.cores,
        tail_names=frozenset(
            len(compile_stretch(call.parts[split + 1 : at], compiler=compiler.fresh()).cores)
            for at in range(split + 2, len(call.parts))
            if isinstance(part := call.parts[at], Hole) and part.name == "name"
        ),
        between=format.between.strip(BLANK),
        between_blanks=format.between if not format.between.strip(BLANK) else "",
        closer=closer.cores,
        id_pattern=_id_pattern(format),
        lead=format.lead + _leading(opening if open_stretch.first else call.parts[:split]),
        cores=(*open_stretch.cores, *head.cores),
        inner=_inner_heads(call.parts[:split], tail.cores, watch, glue, escaped=bool(format.escapes)),
        reopened=_reopened(format, head.first, tail.cores),
    )


def _inner_heads(
    head: tuple[Part, ...], tail: tuple[str, ...], watch: WrapperPaths | None, glue: tuple[str, ...], *, escaped: bool
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
        found[0] = Rx(look)
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
        inner = compile_stretch(parts, compiler=_Compiler(glue, escaped=escaped))
        pattern = SLACK + "(?P<at_>)" + _strip_slack(inner.pattern).removeprefix(SLACK)
        found[number] = Rx(pattern + (look.replace("(?P<at_>)", "") if watch is not None else ""), least=inner.least)
    return tuple(found) if any(found) else ()


def _reopened(format: Format, opener: str, tail: tuple[str, ...]) -> Rx | None:
    """Where a call's opening marker stands for its closing one: nothing follows it, or the next call's opening."""
    if not tail or not is_marker(opener) or not is_marker(tail[-1]) or tail[-1] in format.ends or opener == tail[-1]:
        return None
    mark = re.escape(opener)
    behind = "|".join(map(re.escape, (*format.ends, opener)))
    return Rx(f"{mark}(?={SLACK}(?:{behind}))", at_end=f"{mark}(?={SLACK}\\Z)")


def _leading(parts: tuple[Part, ...]) -> str:
    """The blanks with which a picture begins."""
    text = parts[0].text if parts and isinstance(parts[0], Text) else ""
    return text[: len(text) - len(text.lstrip(BLANK))]


def _strip_slack(pattern: str) -> str:
    return pattern.removesuffix(SLACK)


def _lookahead(
    body: str,
    watch: WrapperPaths | None,
    head: Stretch,
    tagged: TaggedProgram | None,
    opener: str,
    key: str,
    *,
    weak: bool,
    mixed: bool,
) -> str:
    """What must follow a head for it to be one, where the head alone does not say so.

    `opener`: with what a value begins that holds arguments; `key`: with what its first key does. `mixed`: in this
    format parameters may stand in the place of a value.
    """
    if body == "wrapper":
        assert watch is not None
        if weak and not watch.keyed:
            keys = "|".join(re.escape(key) for key in watch.first_keys())
            return SLACK + r"(?=\{" + SLACK + "[\"'](?:" + keys + "|type)[\"']" + SLACK + ":)"
        return SLACK + r"(?=\{)"
    if body == "arguments" and (head.ends_with_hole or mixed):
        return SLACK + (r"(?=\{" + SLACK + key + ")" if weak else f"(?={opener})")
    if body == "kwargs" and weak:
        return SLACK + r"(?=\)|[A-Za-z_][A-Za-z0-9_]{0,128}" + SLACK + "=)"
    if body == "params" and tagged is not None and head.ends_with_hole:
        return SLACK + "(?=" + "|".join(re.escape(core) for core in tagged.follows) + ")"
    return ""


def _around(picture: Picture, hole: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    at = next(i for i, part in enumerate(picture.parts) if isinstance(part, Hole) and part.name == hole)
    return picture.parts[:at], picture.parts[at + 1 :]


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


def _tagged(
    formats: list[Format], tail: tuple[str, ...], closer: tuple[str, ...], opener: str, glue: tuple[str, ...]
) -> TaggedProgram:
    """The parameters of a shape; `formats`: the format and those that differ from it in the picture of a parameter."""
    format = formats[0]
    compiler = _Compiler(glue, escaped=bool(format.escapes))
    params = tuple(
        _param(shape, shape.picture("param", shape.param, PARAM_HOLES, frozenset()), compiler.fresh())
        for shape in formats
        if shape.param is not None
    )
    elements = list(params)
    item = None
    if format.item is not None:
        item = _param(format, format.picture("item", format.item, PARAM_HOLES, frozenset()), compiler.fresh())
        elements.append(item)
    stops = tuple(dict.fromkeys(core for core in (*tail, *closer, *format.ends) if core))
    firsts = [param.first for param in elements]
    closes = [param.close.partition(KEY)[0] for param in elements] if item is not None else []
    following = tuple(dict.fromkeys(core for core in (*firsts, *closes, *stops, opener) if core))
    after_close = SLACK + "(?:" + "|".join(re.escape(core) for core in following) + ")"
    after_tail = None
    if tail:
        rest = "".join(SLACK + re.escape(core) for core in tail[1:])
        message = compile_stretch((Text(format.between_messages),)).first
        next_up = tuple(dict.fromkeys(core for core in (opener, *closer, *format.ends, message) if core))
        choices = "|".join(re.escape(core) for core in next_up)
        pattern = rest + SLACK + (f"(?:{choices})" if choices else "(?!)")
        after_tail = Rx(pattern, at_end=rest + SLACK + r"\Z")
    wrap = None
    if format.wrap is not None:
        left, _, right = format.wrap.partition("{{value}}")
        wrap = (left, right)
    return TaggedProgram(
        params,
        follows=tuple(dict.fromkeys((*(param.first for param in params if param.first), *stops))),
        item=item,
        after_close=Rx(after_close, at_end=SLACK + r"\Z", least=min(map(len, following), default=0)),
        tail=tail,
        after_tail=after_tail,
        stops=stops,
        syntax=format.syntax,
        wrap=wrap,
        unescape=tuple(reversed(format.escapes)),
        element_markers=tuple(dict.fromkeys((*(first for first in firsts if first), *closes))) if closes else (),
    )


def _param(format: Format, picture: Picture, compiler: _Compiler) -> ParamProgram:
    at = next(i for i, part in enumerate(picture.parts) if isinstance(part, Hole) and part.name == "value")
    before, lead = _cut_blanks_right(picture.parts[:at])
    after, trail = _cut_blanks_left(picture.parts[at + 1 :])
    head = compile_stretch(before, compiler=compiler)
    close = "".join(part.text if isinstance(part, Text) else KEY for part in after).rstrip(BLANK)
    return ParamProgram(
        Rx(_strip_slack(head.pattern), least=head.least),
        first=head.first,
        lead=lead,
        trail=trail,
        close=close,
        types=dict(format.types) if format.types is not None and "type" in picture.holes() else None,
        literals=format.literals,
        written=_written(picture),
    )


def _written(picture: Picture) -> tuple[str, ...] | None:
    """The literals of a parameter's picture, where they part key, perhaps type, and value in this order."""
    parts = picture.parts
    literals = tuple(part.text for part in parts[::2] if isinstance(part, Text))
    holes = tuple(part.name for part in parts[1::2] if isinstance(part, Hole))
    whole = len(literals) == len(holes) + 1 and len(literals) + len(holes) == len(parts)
    return literals if whole and holes in (("key", "value"), ("key", "type", "value")) else None


def _cut_blanks_right(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], str]:
    if parts and isinstance(parts[-1], Text):
        text = parts[-1].text
        bare = text.rstrip(BLANK)
        return (*parts[:-1], *((Text(bare),) if bare else ())), text[len(bare) :]
    return parts, ""


def _cut_blanks_left(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], str]:
    if parts and isinstance(parts[0], Text):
        text = parts[0].text
        bare = text.lstrip(BLANK)
        return (*((Text(bare),) if bare else ()), *parts[1:]), text[: len(text) - len(bare)]
    return parts, ""


def _frame(kind: str, format: Format, source: str, compiler: _Compiler) -> Frame:
    picture = format.picture(kind, source, frozenset({"text", "skip"}), frozenset({"text"}))
    opening, closing = _around(picture, "text")
    opening, lead = _cut_blanks_right(opening)
    closing, trail = _cut_blanks_left(closing)
    closing, after = _cut_blanks_right(closing)
    open_stretch = compile_stretch(opening, compiler=compiler.fresh())
    close_stretch = compile_stretch(closing, compiler=compiler.fresh())
    return Frame(
        kind=kind,
        open=Rx(_strip_slack(open_stretch.pattern.removeprefix(SLACK)), least=open_stretch.least),
        open_first=open_stretch.first,
        lead=lead,
        trail=trail,
        close=Rx(_strip_slack(close_stretch.pattern.removeprefix(SLACK)), least=close_stretch.least),
        close_first=close_stretch.first,
        close_length=len(close_stretch.first) if len(close_stretch.cores) == 1 else 2048,
        after=after,
        cores=(*open_stretch.cores, *close_stretch.cores),
    )


def _tabulate(program: Program) -> None:
    """The tables of what may begin at which marker, in content and in a thought."""
    openers: list[Candidate] = []
    for shape in program.shapes:
        first = shape.opener_first or shape.head_first
        if first:
            openers.append(Candidate("call", first, shape.full, shape=shape))
        elif shape.body == "wrapper":
            openers.append(Candidate("call", "{", shape.full, shape=shape))
        if shape.opener_first and shape.head_first and is_marker(shape.head_first):
            alone = Rx(shape.head.pattern.removeprefix(SLACK), least=shape.head.least)
            openers.append(Candidate("call", shape.head_first, alone, shape=shape))
    frames = [Candidate(f.kind, f.open_first, f.open, frame=f) for f in program.frames if f.open_first]
    sections = [
        Candidate("section", s.opener_first, Rx(s.opener.removeprefix(SLACK) + _array_look(s)), shape=s)
        for s in program.shapes
        if s.opener_first and is_marker(s.opener_first)
    ]
    ends = [Candidate("end", end, Rx(re.escape(end))) for end in program.ends]
    message = [Candidate("message", program.message, program.between)] if program.message else []
    strays: dict[str, Candidate] = {}
    for shape in program.shapes:
        params = shape.tagged.params if shape.tagged is not None else ()
        for core in (*shape.tail, *shape.closer, *(param.close for param in params if KEY not in param.close)):
            if is_marker(core):
                strays.setdefault(core, Candidate("stray", core, Rx(re.escape(core))))
    all_closes = [
        Candidate("close", frame.close_first, frame.close, frame=frame) for frame in program.frames if frame.close_first
    ]
    everything = [*openers, *frames, *sections, *all_closes, *ends, *message, *strays.values()]
    program.candidates = _by_core(everything)
    closes = [candidate for candidate in all_closes if candidate.frame and candidate.frame.kind == "reasoning"]
    reopen = [c for c in frames if c.kind == "reasoning"]
    strong_openers = [c for c in openers if is_marker(c.core)]
    other_frames = [c for c in frames if c.kind == "content" and is_marker(c.core)]
    program.reasoning_candidates = _by_core(
        [*closes, *strong_openers, *sections, *ends, *message, *reopen, *other_frames]
    )
    calls = [
        Candidate("call", "", Rx(SLACK + shape.full.pattern), shape=shape) for shape in program.shapes if shape.anchored
    ]
    # Words that frame content could be the name of a tool that nothing announces.
    said = [candidate for candidate in frames if candidate.kind == "content" and not is_marker(candidate.core)]
    program.anchored = (*said, *calls) if calls else ()


def _array_look(shape: Shape) -> str:
    """Behind a bracket that opens an array of objects: that array, and not a marker that begins with the bracket."""
    array = shape.body == "wrapper" and shape.opener.endswith("\\[")
    return "(?=" + SLACK + r"[\{\]])" if array else ""


def _by_core(candidates: list[Candidate]) -> dict[str, tuple[Candidate, ...]]:
    """Candidates by marker; markers of which one begins the other share theirs, the longer ones first."""
    cores = dict.fromkeys(candidate.core for candidate in candidates)  # in order: what is made of it must not vary
    table: dict[str, tuple[Candidate, ...]] = {}
    for core in cores:
        sharing = [c for c in candidates if c.core.startswith(core) or core.startswith(c.core)]
        sharing.sort(key=lambda c: -len(c.core))
        table[core] = tuple(sharing)
    return table
