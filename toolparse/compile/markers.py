"""The markers of a turn: the texts that they frame, and what may begin at each of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from toolparse.codecs.matching import SLACK, Rx, Tail
from toolparse.codecs.tagged import KEY
from toolparse.compile.call_forms import Shape
from toolparse.compile.items import Literals, compile_stretch, is_marker
from toolparse.format import Format
from toolparse.picture import without_blanks_before, without_blanks_behind

Kind = Literal["call", "section", "reasoning", "content", "close", "aside", "end", "message", "stray"]


class Frame(msgspec.Struct):
    """A framed text: a thought, or content where the family frames it."""

    kind: Kind  # "reasoning" or "content"
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

    kind: Kind
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


def frames_of(format: Format, shared: tuple[str, ...]) -> tuple[Frame, ...]:
    """The framed texts of a format, each once; `shared` as `Literals` takes it.

    Of frames that differ in blanks only, all the blanks that one of them shows are markup.
    """
    frames: dict[tuple[str, str, str], Frame] = {}
    kinds: tuple[Kind, ...] = ("reasoning", "content")
    for shape in format.shapes() or (format,):
        for kind in kinds:
            source = getattr(shape, kind)
            if source is not None and source.strip() != "{{text}}":
                frame = _frame(kind, shape, source, Literals(shared))
                known = frames.setdefault((kind, frame.open.pattern, frame.close.pattern), frame)
                known.lead = max(known.lead, frame.lead, key=len)
                known.trail = max(known.trail, frame.trail, key=len)
                known.after = max(known.after, frame.after, key=len)
    return tuple(frames.values())


def _frame(kind: Kind, format: Format, source: str, literals: Literals) -> Frame:
    picture = format.picture(kind, source, frozenset({"text", "skip"}), frozenset({"text"}))
    opening, closing = picture.around("text")
    opening, lead = without_blanks_behind(opening)
    closing, trail = without_blanks_before(closing)
    closing, after = without_blanks_behind(closing)
    opened = compile_stretch(opening, literals=literals.fresh())
    closed = compile_stretch(closing, literals=literals.fresh())
    return Frame(
        kind=kind,
        open=opened.rx,
        open_first=opened.first,
        lead=lead,
        trail=trail,
        close=closed.rx,
        close_first=closed.first,
        close_length=len(closed.first) if len(closed.cores) == 1 else 2048,
        after=after,
        cores=(*opened.cores, *closed.cores),
    )


class Tables(NamedTuple):
    """What may begin at which marker: in content, without any marker, and in a thought."""

    content: dict[str, tuple[Candidate, ...]]
    anchored: tuple[Candidate, ...]
    thought: dict[str, tuple[Candidate, ...]]


def asides_of(format: Format, shared: tuple[str, ...]) -> tuple[Candidate, ...]:
    """The markers within texts that are no part of them; `shared` as `Literals` takes it."""
    pictures = (format.picture("asides", aside, frozenset({"skip"}), frozenset()) for aside in format.asides)
    found = [compile_stretch(picture.parts, literals=Literals(shared)) for picture in pictures]
    return tuple(Candidate("aside", stretch.first, stretch.rx) for stretch in found)


def tables_of(
    shapes: tuple[Shape, ...],
    framed: tuple[Frame, ...],
    asides: tuple[Candidate, ...],
    ends: tuple[str, ...],
    message: str,
    between: Rx,
) -> Tables:
    """The tables of a format's markers."""
    openers: list[Candidate] = []
    for shape in shapes:
        first = shape.opener_first or shape.head_first
        if first:
            openers.append(Candidate("call", first, shape.full, shape=shape))
        elif shape.body == "wrapper":
            openers.append(Candidate("call", "{", shape.full, shape=shape))
        if shape.opener_first and shape.head_first and is_marker(shape.head_first):
            alone = Rx(shape.head.pattern.removeprefix(SLACK), cores=shape.head.cores)
            openers.append(Candidate("call", shape.head_first, alone, shape=shape))
    frames = [Candidate(f.kind, f.open_first, f.open, frame=f) for f in framed if f.open_first]
    sections = [
        Candidate("section", s.opener_first, Rx(s.opener.removeprefix(SLACK) + _array_look(s)), shape=s)
        for s in shapes
        if s.opener_first and is_marker(s.opener_first)
    ]
    over = [Candidate("end", end, Rx(re.escape(end))) for end in ends]
    messages = [Candidate("message", message, between)] if message else []
    strays: dict[str, Candidate] = {}
    for shape in shapes:
        params = shape.tagged.params if shape.tagged is not None else ()
        for core in (*shape.tail, *shape.closer, *(param.close for param in params if KEY not in param.close)):
            if is_marker(core):
                strays.setdefault(core, Candidate("stray", core, Rx(re.escape(core))))
    all_closes = [
        Candidate("close", frame.close_first, frame.close, frame=frame) for frame in framed if frame.close_first
    ]
    everything = [*openers, *frames, *sections, *all_closes, *asides, *over, *messages, *strays.values()]
    closes = [candidate for candidate in all_closes if candidate.frame and candidate.frame.kind == "reasoning"]
    reopen = [c for c in frames if c.kind == "reasoning"]
    strong_openers = [c for c in openers if c.strong]
    other_frames = [c for c in frames if c.kind == "content" and c.strong]
    in_thought = [*closes, *strong_openers, *sections, *asides, *over, *messages, *reopen, *other_frames]
    calls = [Candidate("call", "", Rx(SLACK + shape.full.pattern), shape=shape) for shape in shapes if shape.anchored]
    # Words that frame content could be the name of a tool that nothing announces.
    said = [candidate for candidate in frames if candidate.kind == "content" and not candidate.strong]
    return Tables(_by_core(everything), (*said, *calls) if calls else (), _by_core(in_thought))


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


def any_of(cores: Iterable[str]) -> re.Pattern[str]:
    """Finds the next of some literals; the longest, where several begin."""
    return re.compile("|".join(map(re.escape, sorted(cores, key=len, reverse=True))) or r"(?!)")
