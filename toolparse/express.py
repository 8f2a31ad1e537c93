"""The short way through complete, well-formed text.

What models write is nearly always well formed: a thought, some content, calls that read at once. `read` takes such a
text apart with the same compiled program as the machine, but without its bookkeeping for what may still come, and
gives up (None) at the first thing that is not plain: the machine then reads the text. It never reports an issue.
Where it does not give up its result is the machine's: `tests/test_express.py` holds the two against each other.

Measured: three to six times faster than the machine on short calls (`docs/performance.md`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from toolparse.codecs.matching import BLANKS, MAX_BLANKS, skip_blanks
from toolparse.codecs.plain import NotPlain, plain_reader
from toolparse.codecs.tagged import read_tagged
from toolparse.codecs.values import DONE
from toolparse.codecs.whole import Whole, find_marker, read_whole, wrapped
from toolparse.format import Format
from toolparse.machine import Machine, scanner_of
from toolparse.message import ParsedMessage, Span, SpanKind, ToolCall
from toolparse.program import Candidate, Frame, Program, Shape, compile_format

_CALL, _SECTION, _REASONING, _CONTENT, _CLOSE, _END, _MESSAGE, _STRAY = range(8)
_KINDS = {
    "call": _CALL,
    "section": _SECTION,
    "reasoning": _REASONING,
    "content": _CONTENT,
    "close": _CLOSE,
    "end": _END,
    "message": _MESSAGE,
    "stray": _STRAY,
}
# What becomes of a marker: it was taken, it is text, or it is nothing plain.
_TAKEN, _IS_TEXT, _NOT_PLAIN = range(3)
_LONG = 256
# Characters of prose, the most frequent ones last; what is not among them is rare.
_FREQUENT = "`#*_<>/=:(){}[]'\"-,.0123456789zqxjkvbpygfwmculdrhsnioate "


class Plan:
    """A shape, prepared."""

    def __init__(self, shape: Shape, program: Program) -> None:
        self.shape = shape
        self.head = shape.head.final.match
        self.named = shape.has_name or shape.has_id
        self.body = shape.body
        self.json = shape.json
        self.tail = shape.tail
        self.stop = shape.tail[0] if shape.tail else ""
        self.ends = bool(shape.tail) and shape.tail[-1] in program.ends
        self.closer = shape.closer
        self.lead = shape.lead
        self.watch = shape.watch
        self.weak = not shape.strong
        self.needs_tool = self.weak and shape.anchored
        same = [other for other in program.shapes if other.group == shape.group]
        self.betweens = tuple(dict.fromkeys(other.between for other in same if other.between))
        self.between = shape.between_blanks
        self.next_call = shape.next_call.final.search if shape.next_call is not None else None
        self.followers: tuple[Plan, ...] = ()  # what may come next in the section
        self.again: tuple[str, Any] | None = None  # or the marker of another call, and what matches that


class _Entry(NamedTuple):
    """A candidate, prepared: `doubt` if it would be a call, had it only been written right."""

    kind: int
    match: Any
    plan: Plan | None
    frame: Frame | None
    doubt: bool


class _Finder:
    """Finds the next of some markers. Made once for a program; where its markers begin differently, see `_Ahead`."""

    __slots__ = ("first", "groups", "search")

    def __init__(self, pattern: re.Pattern[str], cores: tuple[str, ...]) -> None:
        self.search = pattern.search
        groups: dict[str, list[str]] = {}
        for core in sorted(cores, key=len, reverse=True):
            groups.setdefault(core[0], []).append(core)
        #: the character with which all begin: looked for alone, it is found at the speed of memory
        self.first = next(iter(groups)) if len(groups) == 1 else ""
        #: the markers by first character, where there are several
        self.groups = tuple(_Group(group) for group in groups.values()) if len(groups) > 1 else ()


class _Group:
    """Markers with the same first character. A search for one of them runs at the speed of memory."""

    __slots__ = ("rare", "search", "start")

    def __init__(self, cores: list[str]) -> None:
        first, last = min(cores), max(cores)
        shared = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
        self.start = first[: next(shared, min(len(first), len(last)))]
        self.rare = min(self.start, key=_FREQUENT.find)
        self.search = re.compile("|".join(re.escape(core) for core in cores)).search

    def find(self, text: str, pos: int) -> tuple[int, str]:
        """Where the next one stands, and which it is; behind the text if there is none."""
        # One character is found twenty times faster than several.
        at = text.find(self.start, pos) if text.find(self.rare, pos) >= 0 else -1
        match = self.search(text, at) if at >= 0 else None
        return (match.start(), match.group()) if match is not None else (len(text) + 1, "")


class _Ahead:
    """What a finder knows of one text: each group of markers is looked for once in each stretch."""

    __slots__ = ("found", "groups")

    def __init__(self, groups: tuple[_Group, ...]) -> None:
        self.groups = groups
        self.found: list[tuple[int, str]] = [(-1, "")] * len(groups)

    def find(self, text: str, pos: int) -> tuple[int, str]:
        """Where the next marker stands, and which it is; behind the text if there is none."""
        found = self.found
        for number, group in enumerate(self.groups):
            if found[number][0] < pos:
                found[number] = group.find(text, pos)
        return min(found)


class Express:
    """A program prepared for the short way."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.plans = {shape.number: Plan(shape, program) for shape in program.shapes}
        for plan in self.plans.values():
            if plan.shape.opener or plan.weak:
                group = plan.shape.group
                plan.followers = tuple(p for p in self.plans.values() if p.shape.group == group)
        self.table = self._prepared(program.candidates)
        for core, entries in self.table.items():
            only = entries[0].plan if len(entries) == 1 else None
            if only is not None and not only.followers:
                only.again = core, entries[0].match
        self.thought_table = self._prepared(program.reasoning_candidates)
        self.finder = _Finder(program.markers, tuple(program.candidates))
        self.thought_finder = _Finder(program.reasoning_markers, tuple(program.reasoning_candidates))
        self.anchored = tuple(self._entry(candidate, "") for candidate in program.anchored)
        self.between = program.between.final.match if program.message else None
        self.no_call = frozenset(program.format.no_call)
        self.trail = program.around_content[1]

    def _prepared(self, table: dict[str, tuple[Candidate, ...]]) -> dict[str, tuple[_Entry, ...]]:
        return {core: tuple(self._entry(candidate, core) for candidate in table[core]) for core in table}

    def _entry(self, candidate: Candidate, core: str) -> _Entry:
        plan = self.plans[candidate.shape.number] if candidate.shape is not None else None
        doubt = candidate.kind == "call" and candidate.core == core and candidate.strong
        return _Entry(_KINDS[candidate.kind], candidate.rx.final.match, plan, candidate.frame, doubt)

    def read(self, text: str, tools: Any, start: Start) -> ParsedMessage | None:
        """The message, or None when the text is not plain."""
        if not start.head:
            return _Reading(self, text, tools, start).message()
        message = _Reading(self, start.head + text, tools, start).message()
        return _behind(message, len(start.head)) if message is not None else None


class Start(NamedTuple):
    """Where a prompt leaves the turn: `plain` if nothing, or just a thought, is open.

    `head`: the end of the prompt, where that may be the beginning of a marker. `fresh`: whether a message begins.
    """

    plain: bool
    thinking: Frame | None = None
    lead: str = ""
    head: str = ""
    fresh: bool = True


class _Reading:
    """One text on the short way. The names are the machine's, and so are the decisions."""

    framed: Frame | None = None
    section: Plan | None = None
    pos = 0  # the text before it is accounted for
    seek = 0  # and up to here it is no marker
    ended = False
    guessing = True  # until a guess was wrong: each may look at all that follows
    ahead: dict[_Finder, _Ahead] | None = None

    def __init__(self, express: Express, text: str, tools: Any, start: Start) -> None:
        self.express = express
        self.text = text
        self.tools = tools
        self.thinking = start.thinking
        self.lead = start.lead
        self.fresh = start.fresh
        self.marks: list[Span] = []
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[ToolCall] = []

    def message(self) -> ParsedMessage | None:
        """The message, or None."""
        if not self._run():
            return None
        size = len(self.text)
        if self.pos < size:
            if self.ended:
                self._mark("markup", self.pos, size)
            else:
                frame = self.thinking or self.framed
                trail = self.express.trail if frame is None else frame.trail if self.thinking is not None else ""
                self._settle(size, trail, alone=not self.marks)
        content = self.content
        return ParsedMessage(
            content[0] if len(content) == 1 else "".join(content),
            "".join(self.reasoning) or None,
            tuple(self.calls),
            (),
            False,
            tuple(self.marks),
            self.text,
        )

    def _run(self) -> bool:
        """Whether the text was plain to its end."""
        express, text = self.express, self.text
        size = len(text)
        while self.seek < size and not self.ended:
            if self.fresh:
                self.fresh = False
                if express.anchored:
                    taken = self._at(express.anchored, self.pos)
                    if taken == _NOT_PLAIN:
                        return False
                    continue
            if self.thinking is None:
                finder, table = express.finder, express.table
            else:
                finder, table = express.thought_finder, express.thought_table
            if finder.groups and size > _LONG:
                at, core = self._ahead(finder).find(text, self.seek)
                if at > size:
                    break
            else:
                seek = self.seek
                if size - seek > _LONG and finder.first:
                    seek = text.find(finder.first, seek)
                    if seek < 0:
                        break
                match = finder.search(text, seek)
                if match is None:
                    break
                at, core = match.start(), match.group()
            taken = self._at(table[core], at)
            if taken == _NOT_PLAIN:
                return False
            if taken == _IS_TEXT:
                self.seek = at + 1
        return True

    def _ahead(self, finder: _Finder) -> _Ahead:
        if self.ahead is None:
            self.ahead = {}
        ahead = self.ahead.get(finder)
        if ahead is None:
            ahead = self.ahead[finder] = _Ahead(finder.groups)
        return ahead

    def _at(self, entries: tuple[_Entry, ...], at: int) -> int:
        """Take what begins at a marker."""
        text = self.text
        doubt = False
        for kind, matches, plan, frame, strong in entries:
            match = matches(text, at)
            if match is None:
                doubt = doubt or strong
                continue
            if kind <= _SECTION:
                if doubt and kind == _SECTION:
                    return _NOT_PLAIN
                assert plan is not None
                taken = self._call(plan, match, at) if kind == _CALL else self._open_section(plan, match, at)
            elif kind == _END:
                framed = self.thinking is not None or self.framed is not None
                taken = self._step_over(at, match.end(), "" if framed else self.express.trail)
                self.thinking = None
                self._behind_end()
            else:
                assert frame is not None or kind >= _MESSAGE
                taken = self._frame(kind, frame, match, at)
            if taken != _IS_TEXT:
                return taken
        return _NOT_PLAIN if doubt and self.thinking is None else _IS_TEXT

    # -- text -----------------------------------------------------------------------------------------------------

    def _mark(self, kind: SpanKind, start: int, end: int) -> None:
        if end <= start:
            return
        marks = self.marks
        if marks and marks[-1].kind == kind:
            marks[-1] = Span(kind, marks[-1].start, end)
        else:
            marks.append(Span(kind, start, end))

    def _settle(self, at: int, trail: str, *, alone: bool = False) -> None:
        """Text ends at `at`: what it holds, without the blanks that the picture writes around it."""
        pos = self.pos
        if at > pos:
            text = self.text
            start = pos
            for char in self.lead:
                if start < at and text[start] == char:
                    start += 1
                else:
                    break
            bare = start + len(text[start:at].rstrip(BLANKS))
            end = at
            while trail and end > bare and text[end - 1] == trail[-1]:
                end -= 1
                trail = trail[:-1]
            if bare == start and (not alone or start > pos):
                end = start = pos
            self._mark("markup", pos, start)
            if end > start:
                thinking = self.thinking is not None
                self._mark("reasoning" if thinking else "content", start, end)
                (self.reasoning if thinking else self.content).append(text[start:end])
            self._mark("markup", end, at)
            self.pos = at
        self.lead = ""

    def _step_over(self, at: int, end: int, trail: str) -> int:
        """Text ends at `at`, where markup begins."""
        self._settle(at, trail)
        self._mark("markup", at, end)
        self.pos = self.seek = end
        return _TAKEN

    def _behind_end(self) -> None:
        """After an end marker: another message of the turn, or the end."""
        between = self.express.between
        match = between(self.text, self.pos) if between is not None else None
        if match is None:
            self.ended = True
            return
        self._step_over(self.pos, match.end(), "")
        self.thinking = self.framed = None
        self.fresh = True

    def _frame(self, kind: int, frame: Frame | None, match: Any, at: int) -> int:
        """Something that frames text begins or ends."""
        thinking = self.thinking
        end = match.end()
        if kind == _REASONING:
            if thinking is not None and (thinking is not frame or self.text[self.pos : at].strip(BLANKS)):
                return _IS_TEXT
            self._step_over(at, end, "")
            self.thinking = frame
            self.lead = frame.lead if frame is not None else ""
        elif kind == _CONTENT:
            self._step_over(at, end, thinking.trail if thinking is not None else "")
            self.thinking, self.framed = None, frame
            self.lead = frame.lead if frame is not None else ""
        elif kind == _CLOSE:
            assert frame is not None
            return self._close(frame, match, at)
        elif kind == _MESSAGE:
            self._step_over(at, end, "")
            self.thinking = self.framed = None
            self.fresh = True
        elif self.section is not None and match.group() in self.section.closer:
            self._step_over(at, end, "")
            self.section = None
        elif self.calls:
            self._step_over(at, end, "")
        else:
            return _NOT_PLAIN
        return _TAKEN

    def _close(self, frame: Frame, match: Any, at: int) -> int:
        trail = ""
        if self.thinking is not None:
            trail = frame.trail
        elif self.framed is not None and self.framed.close.pattern == frame.close.pattern:
            frame = self.framed
            trail = frame.trail
            self.framed = None
        elif match.group() in self.express.program.ends:
            return _IS_TEXT
        elif frame.kind == "reasoning" and (
            self.content or self.reasoning or self.calls or self.text[self.pos : at].strip(BLANKS)
        ):
            return _NOT_PLAIN
        self._step_over(at, match.end(), trail)
        self.thinking = None
        self.lead = frame.after
        return _TAKEN

    # -- calls ----------------------------------------------------------------------------------------------------

    def _open_section(self, plan: Plan, match: Any, at: int) -> int:
        if self.thinking is not None:
            return _NOT_PLAIN
        self.section = plan
        return self._step_over(at, match.end(), plan.lead)

    def _call(self, plan: Plan, match: Any, at: int) -> int:
        """A call, and those behind it in its section."""
        if self.thinking is not None:
            return _NOT_PLAIN
        text, tools, calls, no_call = self.text, self.tools, self.calls, self.express.no_call
        if plan.shape.tail_names:
            return _NOT_PLAIN
        first = True
        while True:
            start = match.start("at_")
            name, id = plan.shape.names(match) if plan.named else (None, None)
            if first and plan.needs_tool and tools is not None and tools.get(name) is None:
                return _IS_TEXT
            if plan.json and plan.stop:
                whole = read_whole(text, match.end(), plan.stop, plan.watch)
            else:
                whole = self._body(plan, match.end(), name)
            if whole is None:
                return _NOT_PLAIN
            end, inner_name, inner_id, arguments = whole
            for core in plan.tail:
                if not text.startswith(core, end):
                    end = skip_blanks(text, end)
                    if not text.startswith(core, end):
                        return _NOT_PLAIN
                end += len(core)
            name = inner_name or name
            if inner_id is not None:
                id = inner_id
            if not name:
                return _NOT_PLAIN
            dropped = bool(no_call) and name in no_call
            if tools is not None and not dropped:
                tool = tools.get(name)
                if tool is None or tool.validate(arguments):
                    return _NOT_PLAIN
            if first:
                if at > self.pos:
                    self._settle(at, plan.lead)
                if start > at:
                    self._mark("markup", at, start)
                    if plan.shape.opener_first:
                        self.section = plan
                first = False
            elif start > at:
                self._mark("markup", at, start)
            if dropped:
                self._mark("markup", start, end)
            else:
                span = Span("call", start, end)
                calls.append(ToolCall(name, arguments, id, len(calls), span, text[start:end]))
                self.marks.append(span)
            at = self.pos = self.seek = end
            if plan.ends:
                self._behind_end()
                return _TAKEN
            following = self._after_call(plan)
            if following is None:
                return _TAKEN
            plan, match = following

    def _after_call(self, plan: Plan) -> tuple[Plan, Any] | None:
        """The next call of the section; None when text goes on."""
        text, pos = self.text, self.pos
        if pos == len(text):
            return None
        at = skip_blanks(text, pos)
        if plan.again is not None:
            core, matches = plan.again
            match = matches(text, at) if text.startswith(core, at) else None
            if match is not None:
                return plan, match
        elif at - pos <= MAX_BLANKS:
            follow = at
            for between in plan.betweens:
                if text.startswith(between, at):
                    follow = skip_blanks(text, at + len(between))
                    break
            for other in plan.followers:
                match = other.head(text, follow)
                if match is not None:
                    return other, match
            closer = plan.closer
            if closer and self.section is not None and text.startswith(closer[0], at):
                end = pos
                for core in closer:
                    at = skip_blanks(text, end)
                    if text.startswith(core, at):
                        end = at + len(core)
                    elif at - end > MAX_BLANKS:
                        break
                self._mark("markup", pos, end)
                self.pos = self.seek = end
                self.section = None
                self.lead = ""
                return None
        self.lead = plan.between
        return None

    def _body(self, plan: Plan, at: int, name: str | None) -> Whole | None:
        """The body of a call, None when it is not plain."""
        text, shape = self.text, plan.shape
        if plan.json:
            guess = self._guess(plan, at)
            whole = read_whole(text, at, plan.stop, plan.watch, guess=guess)
            if whole is not None and skip_blanks(text, whole[0]) < guess:
                self.guessing = False
            return whole
        tool = self.tools.get(name) if self.tools is not None else None
        if shape.tagged is not None:
            read = read_tagged(shape.tagged, text, at, tool)
            if read is not None:
                return read[1], "", None, read[0]
        elif not shape.loose:
            try:
                reader = plain_reader(shape.format.syntax)
                value, end = (reader.keywords if plan.body == "kwargs" else reader.map)(text, at)
                return wrapped(value, end, shape.watch)
            except NotPlain:
                pass
        scanner = scanner_of(shape, self.express.program, tool)
        end = scanner.scan(text, at, True)
        if scanner.status != DONE:
            return None
        try:
            arguments = scanner.arguments()
        except ValueError:
            return None
        if scanner.repairs or scanner.duplicates:
            return None
        return end, scanner.name or "", scanner.id, arguments

    def _guess(self, plan: Plan, at: int) -> int:
        """Where a value perhaps ends that nothing closes: before the next call, or at the end. -1: nobody knows."""
        if plan.next_call is None or plan.closer or not self.guessing:
            return -1  # the text is read up to where a value is complete
        match = plan.next_call(self.text, at)
        if match is not None:
            return match.start() + 1
        found = [end for stop in self.express.program.ends if (end := find_marker(self.text, stop, at)) >= 0]
        return min(found, default=len(self.text))


@lru_cache(maxsize=256)
def express_for(format: Format) -> Express:
    """The short way for a format whose suffix is known."""
    return Express(compile_format(format))


def start_of(program: Program, prefill: str) -> Start:
    """Where the turn stands after what the prompt holds of it."""
    if not prefill:
        return Start(True, lead=program.around_content[0])
    machine = Machine(program, None, prefill=prefill, streaming=True)
    plain, thinking, lead, head = machine.standing()
    return Start(plain and not program.anchored, thinking, lead, head, fresh=False)


def _behind(message: ParsedMessage, cut: int) -> ParsedMessage | None:
    """The message without the first characters, which the prompt holds; None where they are more than markup."""
    spans: list[Span] = []
    for span in message.spans:
        if span.start < cut and span.kind in ("content", "reasoning"):
            return None
        if span.end > cut:
            spans.append(Span(span.kind, max(span.start - cut, 0), span.end - cut))
    calls = [span for span in spans if span.kind == "call"]
    if len(calls) != len(message.tool_calls):
        return None
    text = message.text[cut:]
    return msgspec.structs.replace(
        message,
        tool_calls=tuple(
            msgspec.structs.replace(call, span=span, raw=text[span.start : span.end])
            for call, span in zip(message.tool_calls, calls, strict=True)
        ),
        spans=tuple(spans),
        text=text,
    )
