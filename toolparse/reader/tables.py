"""A compiled format prepared for reading: what may begin at which marker, and how each call is read.

All of it is made once for a format and shared by its readers.
"""

from __future__ import annotations

import dataclasses
import re
from functools import lru_cache
from typing import Any

from toolparse.codecs.matching import SLACK, WS, Rx
from toolparse.codecs.scanner import SLIP
from toolparse.compile import Candidate, Frame, Program, Shape, TextStretch, compile_format, is_marker
from toolparse.format import Also, Format, Syntax
from toolparse.reader.finding import Finder

_BRACKETS = frozenset("()[]{}")

# A turn that is nothing but JSON calls, as models write it that were not taught their family's markers.
_JSON_CALL = '{"name": {{name}}, "arguments": {{arguments}}}'
_RESCUED = tuple(
    Also(section=section, call=_JSON_CALL, between=between)
    for between, sections in (
        ("\n", ("```json\n{{calls}}\n```", "```\n{{calls}}\n```", "{{calls}}")),
        (", ", ("```json\n[{{calls}}]\n```", "```\n[{{calls}}]\n```", "[{{calls}}]")),
    )
    for section in sections
)
MORE_JSON = Rx(rf"{SLACK},{SLACK}[\"{{]|\{{")
_SECTIONS = frozenset(also.section for also in _RESCUED)


def rescuing(format: Format) -> Format:
    """The format, read so that a turn of nothing but JSON calls is calls (`Options.rescue`)."""
    return dataclasses.replace(format, also=(*format.also, *_RESCUED))


def _is_rescued(shape: Shape, program: Program) -> bool:
    format = shape.format
    own = program.format
    return (
        format.call == _JSON_CALL
        and format.section in _SECTIONS
        and _RESCUED[0] in own.also
        and (own.call, own.section) != (format.call, format.section)
    )


def _escaped(shape: Shape, program: Program) -> Syntax | None:
    own = shape.format
    same = (other.format for other in program.shapes if not other.loose and other.body == shape.body)
    return next((f.syntax for f in same if (f.section, f.call) == (own.section, own.call) and f.syntax.escapes), None)


def _matches(pattern: str) -> Any:
    return re.compile(pattern, re.DOTALL).match


def is_markerless(shape: Shape, program: Program) -> bool:
    """Whether a call lacks its family's marker: it begins with a bracket, or amid the family's own head."""
    first = shape.opener_first or shape.head_first
    if not shape.strong:
        return set(first) <= _BRACKETS
    left = len(program.own_cores) - len(shape.cores)
    return left > 0 and program.own_cores[left:] == shape.cores


class CallPlan:
    """One way to write calls, prepared. The patterns are for calls that are complete and written as in the picture."""

    def __init__(self, shape: Shape, program: Program) -> None:
        self.shape = shape
        self.named = shape.has_name or shape.has_id
        self.just_name = shape.has_name and not shape.has_id and not shape.format.escapes
        self.json = shape.json
        self.loose = shape.loose
        self.tagged = shape.tagged
        self.kwargs = shape.body == "kwargs"
        self.syntax = shape.format.syntax
        self.watch = shape.watch
        self.wraps_name = shape.wraps_name
        self.weak = not shape.strong
        #: the syntax that a call is read in first: another reading of the same picture, with escapes
        self.escaped = _escaped(shape, program) if shape.loose else None
        #: whether only a turn that is nothing else makes it a call
        self.rescued = _is_rescued(shape, program)
        self.bare = self.weak and (shape.bare or self.rescued)
        self.needs_tool = self.weak and shape.anchored
        #: what is noted of each such call
        self.slip = "no marker of its family" if self.rescued else SLIP if shape.slip else ""
        self.markerless = self.rescued or is_markerless(shape, program)
        self.lead = shape.lead
        #: the call's closing markers, which of them closes the body, and the pattern of the others
        self.tail = shape.tail
        self.tail_names = shape.tail_names
        params = shape.tagged.params if shape.tagged is not None else ()
        #: every marker that closes something in it
        self.closers = (*(param.close for param in params), *shape.closer, *shape.tail)
        self.stop = shape.tail[0] if shape.tail else ""
        self.step = len(self.stop)
        self.rest: Any = None
        if shape.tail[1:]:
            self.rest = _matches("".join(SLACK + re.escape(core) for core in shape.tail[1:]))
        self.ends = bool(shape.tail) and shape.tail[-1] in program.ends
        self.stops = program.stops_of(shape)
        #: the section, and what stands in it
        self.opens_section = bool(shape.opener_first)
        #: the marker of a section in which nothing but calls stands
        self.encloses = shape.opener_first if is_marker(shape.opener_first) else ""
        self.closer = shape.closer
        self.between_blanks = shape.between_blanks
        _, self.betweens = program.section_of(shape)
        self.in_section = bool(shape.opener) or self.weak
        goes_on = "|".join((*map(re.escape, (*self.betweens, *self.closer[:1])), *(() if self.betweens else (r"\{",))))
        #: brackets too many behind an object, before the section goes on
        surplus = Rx(rf"\}}[ \t\r\n}}]{{0,64}}+(?={goes_on})")
        self.surplus = surplus if shape.body == "wrapper" and self.closer and not shape.tail else None
        #: behind an object that is not closed, what can only be more of the arguments
        self.more = (
            MORE_JSON
            if (shape.json or self.syntax.own_quotes)
            and self.tail
            and (shape.body == "arguments" or not self.in_section)
            else None
        )
        #: how an object that nothing closes goes over into the next
        self.joint = "}" + self.betweens[0] if len(self.betweens) == 1 else ""
        self.next_call: Rx | None = shape.next_call
        #: what may come next in the section
        self.followers: tuple[CallPlan, ...] = ()
        #: matches what stands between two calls, and the head of the next, where only one plan may follow
        self.follow: Any = None
        #: matches all closing markers of the section, where nothing else can be meant by the first of them
        self.shut: Any = None

    def names(self, match: Any) -> tuple[str | None, str | None]:
        """Name and id that a match of the head captured."""
        if self.just_name:
            return match["name"].strip(), None
        return self.shape.names(match) if self.named else (None, None)

    def follow_in_section(self) -> None:
        """Prepare for the next call of the same section."""
        between = "|".join(map(re.escape, self.betweens))
        head = self.shape.head.pattern.removeprefix(SLACK)
        self.follow = _matches(SLACK + (f"(?:(?:{between}){WS}*+)?+" if between else "") + head)

    def shut_section(self) -> None:
        """Prepare for the end of the section."""
        first = self.closer[0] if self.closer else ""
        others = ("}", *self.betweens) if self.surplus else self.betweens
        if first and not first.startswith(others) and not any(plan.shape.may_begin(first) for plan in self.followers):
            self.shut = _matches("".join(SLACK + re.escape(core) for core in self.closer))

    def follow_at_marker(self, candidate: Candidate, program: Program) -> None:
        """Prepare for the next call that a marker announces, behind blanks or in a message of its own."""
        if self.ends:
            if not program.message or program.anchored:
                return
            self.follow = _matches(program.between.pattern + f"{WS}*+" + candidate.rx.pattern)
        else:
            self.follow = _matches(f"{WS}*+" + candidate.rx.pattern)


class Entry:
    """Something that may begin at a marker. `announced`: it would surely be a call, had it been written right."""

    def __init__(self, candidate: Candidate, marker: str, plans: dict[int, CallPlan]) -> None:
        self.rx = candidate.rx
        self.matches: Any = candidate.rx.final.match
        self.kind = candidate.kind
        self.core = candidate.core
        self.plan = plan = plans[candidate.shape.number] if candidate.shape is not None else None
        self.frame = candidate.frame
        self.announced = self.kind == "call" and candidate.core == marker and candidate.strong
        self.weak = plan is not None and (plan.weak or plan.markerless)


class Table:
    """The markers of content, or of a thought, and what may begin at each."""

    def __init__(
        self,
        candidates: dict[str, tuple[Candidate, ...]],
        markers: re.Pattern[str],
        stretch: TextStretch,
        plans: dict[int, CallPlan],
    ) -> None:
        self.entries = {
            core: tuple(Entry(candidate, core, plans) for candidate in found) for core, found in candidates.items()
        }
        self.search: Any = markers.search
        self.stretch = stretch
        self.finder = Finder(markers, tuple(candidates))


class Prepared:
    """A format, prepared for reading."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.plans = {shape.number: CallPlan(shape, program) for shape in program.shapes}
        for plan in self.plans.values():
            if plan.in_section:
                same, _ = program.section_of(plan.shape)
                plan.followers = tuple(self.plans[shape.number] for shape in same)
                if len(plan.followers) == 1 and not plan.ends:
                    plan.follow_in_section()
                if not plan.ends:
                    plan.shut_section()
        cores = program.candidates
        for core, (first, *others) in cores.items():
            if first.kind != "call" or first.shape is None or any(c.startswith(core) for c in cores if c != core):
                continue
            if not first.rx.pattern.removeprefix("(?P<at_>)").startswith(re.escape(core)):
                continue
            plan = self.plans[first.shape.number]
            only = all(other.kind in ("call", "section") for other in others)  # which are tried after it
            if not plan.shape.opener if plan.ends else only and not plan.in_section:
                plan.follow_at_marker(first, program)
        self.content = Table(cores, program.markers, program.stretch, self.plans)
        self.thought = Table(
            program.reasoning_candidates, program.reasoning_markers, program.reasoning_stretch, self.plans
        )
        #: what may begin where a message does, without a marker
        self.anchored = tuple(Entry(candidate, "", self.plans) for candidate in program.anchored)
        self.message = program.message
        self.between = program.between
        self.no_call = frozenset(program.format.no_call)
        self.trail = program.around_content[1]
        self.lead = program.around_content[0]
        self.calls_in_thoughts = program.format.calls_in_reasoning
        #: the markers that end a call
        self.call_ends = frozenset(shape.tail[-1] for shape in program.shapes if shape.tail)


@lru_cache(maxsize=256)
def prepare(format: Format) -> Prepared:
    """A format, prepared for reading."""
    return Prepared(compile_format(format))


class Start:
    """Where a prompt leaves the turn.

    `head`: the end of the prompt that a reader has to read before the text, as the text may go on in it; `thinking`
    and `lead`: the thought that is open before `head`, and blanks to skip; `fresh`: whether a message begins there.
    """

    def __init__(self, head: str, thinking: Frame | None, lead: str, *, fresh: bool) -> None:
        self.head = head
        self.thinking = thinking
        self.lead = lead
        self.fresh = fresh
