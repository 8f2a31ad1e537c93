"""A format, compiled: everything that reading needs to know of it, made once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import msgspec

from toolparse.codecs.matching import SLACK, Rx, Tail
from toolparse.compile.call_forms import ATOM, Shape, compile_calls, shared_markers
from toolparse.compile.items import compile_stretch, is_marker
from toolparse.compile.markers import Candidate, Frame, TextStretch, any_of, asides_of, frames_of, tables_of
from toolparse.format import SUFFIX, Format
from toolparse.picture import Text


class Program(msgspec.Struct, dict=True):
    """A compiled Format."""

    format: Format
    shapes: tuple[Shape, ...]
    frames: tuple[Frame, ...]
    ends: tuple[str, ...]
    message: str  # first marker of what stands between messages
    between: Rx
    candidates: dict[str, tuple[Candidate, ...]]  # what may begin at each marker of content
    anchored: tuple[Candidate, ...]  # what may begin where a message does, without a marker
    reasoning_candidates: dict[str, tuple[Candidate, ...]]  # what may begin at each marker in a thought
    suffix: Rx | None = None  # finds a marker and the suffix that its checkpoint gave it, while that is not known
    suffix_words: tuple[str, ...] = ()  # how markers begin that have a suffix

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
        said = self.format.said
        return "" if said.opening else said.before, "" if said.closing else said.after

    @cached_property
    def markers(self) -> re.Pattern[str]:
        """Finds the next place in content at which something may begin."""
        return any_of(self.candidates)

    @cached_property
    def stretch(self) -> TextStretch:
        """Content, between two markers."""
        return TextStretch(self.markers, Tail(tuple(self.candidates)))

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
        return any_of(self.reasoning_candidates)

    @cached_property
    def reasoning_stretch(self) -> TextStretch:
        """A thought, between two markers."""
        return TextStretch(self.reasoning_markers, Tail(tuple(self.reasoning_candidates)))

    @cached_property
    def all_markers(self) -> tuple[str, ...]:
        """Every literal that could be a marker of its own in a vocabulary."""
        cores = [*self.candidates, *self.reasoning_candidates]
        for shape in self.shapes:
            cores += (*shape.tail, *shape.closer, *shape.cores)
        for frame in self.frames:
            cores += frame.cores
        cores += [atom.group() for core in cores for atom in ATOM.finditer(core)]
        return tuple(dict.fromkeys(filter(None, cores)))

    def suffix_in(self, text: str) -> str:
        """The suffix of the first marker that has one in a text, '' if none has."""
        return next(filter(None, self._suffixes(text)), "")

    def suffix_of_turn(self, prefill: str, text: str) -> str:
        """The suffix that the markers of a whole turn have: that of the text's first one, if the prompt tells none."""
        # A first marker without one decides, too: a stream can't wait for others.
        return self.suffix_in(prefill) or next(self._suffixes(text), "")

    def _suffixes(self, text: str) -> Iterator[str]:
        """The suffixes of all markers in a text, '' of those without one; none where no marker has any."""
        if self.suffix is not None and any(word in text for word in self.suffix_words):
            yield from map(suffix_of, self.suffix.final.finditer(text))

    def stops_of(self, shape: Shape) -> tuple[str, ...]:
        """The markers at which an unclosed value ends."""
        return (*shape.tail, *shape.closer, *self.ends)

    def section_of(self, shape: Shape) -> tuple[tuple[Shape, ...], tuple[str, ...]]:
        """The shapes that may follow one another in its section, and what may stand between them."""
        same = tuple(other for other in self.shapes if other.group == shape.group)
        return same, tuple(dict.fromkeys(other.between for other in same if other.between))

    def thought_ends(self, frame: Frame) -> re.Pattern[str]:
        """Finds where a thought is closed, or the turn is over before it was."""
        ends = "".join("|" + re.escape(end) for end in self.ends if not end.startswith(frame.close_first))
        return re.compile(frame.close.pattern + ends)

    @cached_property
    def resync(self) -> re.Pattern[str]:
        """Where a reader can find its feet again after a call that it could not read."""
        return any_of(self.resync_cores)

    @cached_property
    def resync_cores(self) -> tuple[str, ...]:
        """The markers of `resync`."""
        shown = (
            core
            for shape in self.shapes
            for core in (*shape.tail, *shape.closer, shape.opener_first, shape.head_first)
            if is_marker(core)
        )
        return tuple(dict.fromkeys(core for core in (*shown, *self.ends, self.message) if core))

    @cached_property
    def resync_tail(self) -> Tail:
        """What a stream must hold back while it looks for its feet."""
        return Tail(self.resync_cores)


@lru_cache(maxsize=256)
def compile_format(format: Format) -> Program:
    """The program of a format. Cached; about a millisecond when new."""
    plain = format.bind("")
    shared = shared_markers(plain)
    shapes = compile_calls(plain, shared)
    frames = frames_of(plain, shared)
    message = compile_stretch((Text(plain.between_messages),))
    between = Rx(SLACK + message.rx.pattern, cores=message.cores)
    tables = tables_of(shapes, frames, asides_of(plain, shared), plain.ends, message.first, between)
    suffixed = _suffixed(format)
    pattern = "|".join(
        rf"{re.escape(word)}(?P<s{number}>:[A-Za-z0-9_.\-]{{1,64}})?{re.escape(behind)}"
        for number, (word, behind) in enumerate(suffixed)
    )
    return Program(
        format,
        shapes,
        frames,
        plain.ends,
        message.first,
        between,
        candidates=tables.content,
        anchored=tables.anchored,
        reasoning_candidates=tables.thought,
        suffix=Rx(pattern) if suffixed else None,
        suffix_words=tuple(dict.fromkeys(word + ":" for word, _ in suffixed)),
    )


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


def _suffixed(format: Format) -> tuple[tuple[str, str], ...]:
    """The beginnings of the markers that may carry a suffix, each with the character behind the suffix."""
    around_suffix = (pair for source in format.sources() for pair in pairwise(source.split(SUFFIX)))
    return tuple(dict.fromkeys((before[before.rfind("<") :], after[:1]) for before, after in around_suffix))
