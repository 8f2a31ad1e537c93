"""The short way through complete, well-formed text.

What models write is nearly always well formed: a thought, some content, calls that read at once. `read` takes such a
text apart with the same compiled program as the machine, but without its bookkeeping for what may still come, and
gives up (None) at the first thing that is not plain: the machine then reads the text. It never reports an issue.
Where it does not give up its result is the machine's: `tests/test_express.py` holds the two against each other.

Measured: three to six times faster than the machine on short calls (`docs/performance.md`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from toolparse.codecs.elements import read_nested
from toolparse.codecs.literals import NotPlain, plain_reader
from toolparse.codecs.matching import BLANKS, MAX_BLANKS, SLACK, WS, skip_blanks
from toolparse.codecs.tagged import read_tagged
from toolparse.codecs.values import DONE
from toolparse.codecs.whole import FAR, Whole, find_marker, read_up_to, read_whole, wrapped
from toolparse.format import Format
from toolparse.machine import Machine, scanner_of
from toolparse.message import ParsedMessage, Span, SpanKind, ToolCall
from toolparse.program import Candidate, Frame, Program, Shape, compile_format

# What becomes of a marker: it was taken, it is text, or it is nothing plain.
_TAKEN, _IS_TEXT, _NOT_PLAIN = range(3)
_LONG = 128
# Characters of prose, the most frequent ones last; what is not among them is rare.
_FREQUENT = "`#*_<>/=:(){}[]'\"-,.0123456789zqxjkvbpygfwmculdrhsnioate "


class Plan:
    """A shape, prepared."""

    def __init__(self, shape: Shape, program: Program) -> None:
        self.shape = shape
        self.head = shape.head.final.match
        self.named = shape.has_name or shape.has_id
        self.just_name = shape.has_name and not shape.has_id and not shape.format.escapes
        self.json = shape.json
        self.stop = shape.tail[0] if shape.tail else ""
        self.closed_json = shape.json and bool(shape.tail)
        self.step = len(self.stop)
        self.rest = _matches("".join(f"{WS}*+{re.escape(core)}" for core in shape.tail[1:])) if shape.tail[1:] else None
        self.ends = bool(shape.tail) and shape.tail[-1] in program.ends
        self.closer = shape.closer
        self.lead = shape.lead
        self.watch = shape.watch
        self.weak = not shape.strong
        self.needs_tool = self.weak and shape.anchored
        _, self.betweens = program.section_of(shape)
        self.between = shape.between_blanks
        self.joint = "}" + self.betweens[0] if len(self.betweens) == 1 else ""
        self.next_call = shape.next_call.final.search if shape.next_call is not None else None
        #: what may come next in the section
        self.followers: tuple[Plan, ...] = ()
        #: matches what stands between two calls, and the head of the next, where only one plan may follow
        self.follow: Any = None
        self.close = self._closing() if shape.closer else None

    def _closing(self) -> Any:
        """Matches the end of a section."""
        first, *more = map(re.escape, self.shape.closer)
        return re.compile(SLACK + first + "".join(f"(?:{SLACK}{core})?+" for core in more)).match

    def follow_in_section(self) -> None:
        """Prepare for the next call of the same section."""
        between = "|".join(map(re.escape, self.betweens))
        head = self.shape.head.pattern
        self.follow = _matches(SLACK + (f"(?:(?:{between}){WS}*+)?+" if between else "") + head)

    def follow_at_marker(self, candidate: Candidate, program: Program) -> None:
        """Prepare for the next call that a marker announces, behind blanks or in a message of its own."""
        if self.ends:
            if not program.message or program.anchored:
                return
            self.follow = _matches(program.between.pattern + f"{WS}*+" + candidate.rx.pattern)
        else:
            self.follow = _matches(f"{WS}*+" + candidate.rx.pattern)


def _matches(pattern: str) -> Any:
    return re.compile(pattern, re.DOTALL).match


#: Takes what begins at a marker: the reading, of what it is one (a plan, a frame), its match, and where it begins.
_Take = Callable[["_Reading", Any, Any, int], int]
#: What may begin at a marker: its pattern, what takes it, of what it is one, and whether it would be a call, had it
#: only been written right.
_Entry = tuple[Any, _Take, Any, bool]


class _Finder:
    """Finds the next of some markers. Made once for a program; where its markers begin differently, see `_Ahead`."""

    __slots__ = ("first", "groups", "longest", "search", "table")

    def __init__(self, pattern: re.Pattern[str], table: dict[str, tuple[_Entry, ...]]) -> None:
        self.search = pattern.search
        #: what may begin at a marker
        self.table = table
        self.longest = max(map(len, table), default=0)
        groups: dict[str, list[str]] = {}
        for core in sorted(table, key=len, reverse=True):
            groups.setdefault(core[0], []).append(core)
        #: the character with which all begin: looked for alone, it is found at the speed of memory
        self.first = next(iter(groups)) if len(groups) == 1 else ""
        #: the markers by first character, where there are several
        self.groups = tuple(_Group(group) for group in groups.values()) if len(groups) > 1 else ()


class _Group:
    """Markers with the same first character. A search for one of them runs at the speed of memory."""

    __slots__ = ("before", "rare", "search", "start")

    def __init__(self, cores: list[str]) -> None:
        first, last = min(cores), max(cores)
        shared = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
        self.start = first[: next(shared, min(len(first), len(last)))]
        self.rare = min(self.start, key=_FREQUENT.find)
        self.before = self.start.index(self.rare)
        self.search = re.compile("|".join(re.escape(core) for core in cores)).search

    def find(self, text: str, pos: int) -> int:
        """Where the next one stands; behind the text if there is none."""
        # One character is found twenty times faster than several.
        rare = text.find(self.rare, pos)
        at = text.find(self.start, max(rare - self.before, pos)) if rare >= 0 else -1
        match = self.search(text, at) if at >= 0 else None
        return match.start() if match is not None else len(text) + 1


class _Ahead:
    """What a finder knows of one text: each group of markers is looked for once in each stretch."""

    __slots__ = ("found", "groups")

    def __init__(self, groups: tuple[_Group, ...]) -> None:
        self.groups = groups
        self.found = [-1] * len(groups)

    def find(self, text: str, pos: int) -> int:
        """Where the next marker stands; -1 if there is none."""
        found = self.found
        for number, group in enumerate(self.groups):
            if found[number] < pos:
                found[number] = group.find(text, pos)
        at = min(found)
        return at if at <= len(text) else -1


Reader = Callable[[str, Any], ParsedMessage | None]


class Express:
    """A program prepared for the short way."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.plans = {shape.number: Plan(shape, program) for shape in program.shapes}
        for plan in self.plans.values():
            if not plan.ends and (plan.shape.opener or plan.weak):
                group = plan.shape.group
                plan.followers = tuple(p for p in self.plans.values() if p.shape.group == group)
                if len(plan.followers) == 1:
                    plan.follow_in_section()
        cores = program.candidates
        for core, (first, *others) in cores.items():
            if first.kind != "call" or first.shape is None or any(c.startswith(core) for c in cores if c != core):
                continue
            if not first.rx.pattern.removeprefix("(?P<at_>)").startswith(re.escape(core)):
                continue
            plan = self.plans[first.shape.number]
            if not plan.shape.opener if plan.ends else not (plan.followers or others):
                plan.follow_at_marker(first, program)
        self.finder = _Finder(program.markers, self._table(cores))
        self.thought_finder = _Finder(
            program.reasoning_markers, self._table(program.reasoning_candidates, thought=True)
        )
        self.anchored = self._entries(program.anchored, "")
        self.between = program.between.final.match if program.message else None
        self.no_call = frozenset(program.format.no_call)
        self.trail = program.around_content[1]

    def _table(
        self, cores: dict[str, tuple[Candidate, ...]], *, thought: bool = False
    ) -> dict[str, tuple[_Entry, ...]]:
        return {core: self._entries(cores[core], core, thought=thought) for core in cores}

    def _entries(self, candidates: tuple[Candidate, ...], core: str, *, thought: bool = False) -> tuple[_Entry, ...]:
        entries: list[_Entry] = []
        for candidate in candidates:
            kind = candidate.kind
            doubt = kind == "call" and candidate.core == core and candidate.strong
            plan = self.plans[candidate.shape.number] if candidate.shape is not None else None
            take = _TAKERS[kind]
            if (
                (thought and kind in ("call", "section"))
                or (kind == "call" and plan is not None and plan.shape.tail_names)
                or (kind == "section" and any(before[3] for before in entries))
            ):
                take = _Reading.give_up
            entries.append((candidate.rx.final.match, take, plan or candidate.frame, doubt))
        return tuple(entries)

    def reader(self, start: Start) -> Reader | None:
        """What gives the message in a text behind such a start, or None when the text is not plain."""
        head = start.head
        if not start.plain:
            return None

        def read(text: str, tools: Any) -> ParsedMessage | None:
            return _Reading(self, text, tools, start).message()

        def read_on(text: str, tools: Any) -> ParsedMessage | None:
            message = read(head + text, tools)
            return _behind(message, len(head)) if message is not None else None

        return read_on if head else read


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
        """The message, or None when the text is not plain to its end."""
        express, text = self.express, self.text
        size = len(text)
        while self.seek < size and not self.ended:
            fresh, self.fresh = self.fresh, False
            if fresh and express.anchored:
                entries, at = express.anchored, self.pos
            else:
                fresh = False
                finder = express.finder if self.thinking is None else express.thought_finder
                seek = self.seek
                match = None
                if size - seek > _LONG:
                    if finder.groups:
                        match = finder.search(text, seek, seek + _LONG)
                        if match is None or match.start() + finder.longest > seek + _LONG:
                            match = None
                            seek = self._ahead(finder).find(text, seek)
                    else:
                        seek = text.find(finder.first, seek)
                    if seek < 0:
                        break
                if match is None:
                    match = finder.search(text, seek)
                    if match is None:
                        break
                entries, at = finder.table[match.group()], match.start()
            doubt = False
            for matches, take, what, strong in entries:
                match = matches(text, at)
                if match is None:
                    if strong:
                        doubt = True
                    continue
                taken = take(self, what, match, at)
                if taken == _TAKEN:
                    break
                if taken == _NOT_PLAIN:
                    return None
            else:  # it is text
                if doubt and self.thinking is None:
                    return None
                if not fresh:
                    self.seek = at + 1
        if self.pos < size and not self.ended:
            frame = self.thinking or self.framed
            trail = express.trail if frame is None else frame.trail if self.thinking is not None else ""
            self._settle(size, trail, alone=self.pos == 0)
        content, reasoning = self.content, self.reasoning
        return ParsedMessage(
            "".join(content) if content else "",
            "".join(reasoning) or None if reasoning else None,
            tuple(self.calls),
            (),
            False,
            self._spans(size),
            text,
        )

    def _spans(self, size: int) -> tuple[Span, ...]:
        """The spans of the text: what is nothing else is markup."""
        spans: list[Span] = []
        pos = 0
        for span in self.marks:
            if span.start > pos:
                spans.append(Span("markup", pos, span.start))
            spans.append(span)
            pos = span.end
        if pos < size:
            spans.append(Span("markup", pos, size))
        return tuple(spans)

    def _ahead(self, finder: _Finder) -> _Ahead:
        if self.ahead is None:
            self.ahead = {}
        ahead = self.ahead.get(finder)
        if ahead is None:
            ahead = self.ahead[finder] = _Ahead(finder.groups)
        return ahead

    # -- text -----------------------------------------------------------------------------------------------------

    def _settle(self, at: int, trail: str, *, alone: bool = False) -> None:
        """Text ends at `at`: what it holds, without the blanks that the picture writes around it."""
        pos = self.pos
        if at > pos:
            start, end = _inside(self.text, pos, at, self.lead, trail, alone)
            if end > start:
                if self.thinking is None:
                    self._say("content", self.content, start, end)
                else:
                    self._say("reasoning", self.reasoning, start, end)
            self.pos = at
        self.lead = ""

    def _say(self, kind: SpanKind, pieces: list[str], start: int, end: int) -> None:
        pieces.append(self.text[start:end])
        marks = self.marks
        if marks and marks[-1].end == start and marks[-1].kind == kind:
            start = marks.pop().start
        marks.append(Span(kind, start, end))

    def _step_over(self, at: int, end: int, trail: str) -> None:
        """Text ends at `at`, where markup begins."""
        if at > self.pos:
            self._settle(at, trail)
        self.lead = ""
        self.pos = self.seek = end

    # -- markers --------------------------------------------------------------------------------------------------

    def give_up(self, _what: Any, _match: Any, _at: int) -> int:
        """Nothing plain."""
        return _NOT_PLAIN

    def end(self, _what: None, match: Any, at: int) -> int:
        """The end of a message."""
        framed = self.thinking is not None or self.framed is not None
        self._step_over(at, match.end(), "" if framed else self.express.trail)
        self.thinking = None
        self._behind_end()
        return _TAKEN

    def _behind_end(self) -> None:
        """After an end marker: another message of the turn, or the end."""
        between = self.express.between
        match = between(self.text, self.pos) if between is not None else None
        if match is None:
            self.ended = True
        else:
            self.new_message(None, match, self.pos)

    def new_message(self, _what: None, match: Any, at: int) -> int:
        """Another message of the turn."""
        self._step_over(at, match.end(), "")
        self.thinking = self.framed = None
        self.fresh = True
        return _TAKEN

    def thought(self, frame: Frame, match: Any, at: int) -> int:
        """A thought begins."""
        thinking = self.thinking
        if thinking is not None and (thinking is not frame or self.text[self.pos : at].strip(BLANKS)):
            return _IS_TEXT
        self._step_over(at, match.end(), "")
        self.thinking = frame
        self.lead = frame.lead
        return _TAKEN

    def framed_content(self, frame: Frame, match: Any, at: int) -> int:
        """Content begins that has a frame."""
        self._step_over(at, match.end(), self.thinking.trail if self.thinking is not None else "")
        self.thinking, self.framed = None, frame
        self.lead = frame.lead
        return _TAKEN

    def close(self, frame: Frame, match: Any, at: int) -> int:
        """A thought, or framed content, ends."""
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

    def stray(self, _what: Any, match: Any, at: int) -> int:
        """A closing marker behind calls."""
        if self.section is not None and match.group() in self.section.closer:
            self.section = None
        elif not self.calls:
            return _NOT_PLAIN
        self._step_over(at, match.end(), "")
        return _TAKEN

    def open_section(self, plan: Plan, match: Any, at: int) -> int:
        """A section of calls begins."""
        self.section = plan
        self._step_over(at, match.end(), plan.lead)
        return _TAKEN

    # -- calls ----------------------------------------------------------------------------------------------------

    def call(self, plan: Plan, match: Any, at: int) -> int:
        """A call, and those behind it in its section."""
        text, tools, calls, marks, no_call = self.text, self.tools, self.calls, self.marks, self.express.no_call
        size = len(text)
        start = match.start("at_")
        first = True
        while True:
            if plan.just_name:
                name, id = match["name"].strip(), None
            else:
                name, id = plan.shape.names(match) if plan.named else (None, None)
            if first:
                if plan.needs_tool and tools is not None and tools.get(name) is None:
                    return _IS_TEXT
                first = False
                if at > self.pos:
                    self._settle(at, plan.lead)
                if start > at and plan.shape.opener_first:
                    self.section = plan
            body = match.end()
            whole = None
            if plan.closed_json and size - body < FAR:
                end = text.find(plan.stop, body)
                if end >= 0:
                    whole = read_up_to(text, body, end, plan.watch)
            if whole is None:
                whole = self._body(plan, body, name)
                if whole is None:
                    return _NOT_PLAIN
            end, inner_name, inner_id, arguments = whole
            if inner_name:
                name = inner_name
            if inner_id is not None:
                id = inner_id
            if not text.startswith(plan.stop, end):
                end = skip_blanks(text, end)
                if not text.startswith(plan.stop, end):
                    return _NOT_PLAIN
            end += plan.step
            if plan.rest is not None:
                match = plan.rest(text, end)
                if match is None:
                    return _NOT_PLAIN
                end = match.end()
            if not name:
                return _NOT_PLAIN
            if name not in no_call:
                if tools is not None:
                    tool = tools.get(name)
                    if tool is None or not tool.accepts(arguments, end - start):
                        return _NOT_PLAIN
                span = Span("call", start, end)
                calls.append(ToolCall(name, arguments, id, len(calls), span, text[start:end]))
                marks.append(span)
            if plan.follow is not None:
                match = plan.follow(text, end)
                if match is not None:
                    start = match.start("at_")
                    if plan.ends:
                        self.framed = None
                    continue
            self.pos = self.seek = end
            if plan.ends:
                self._behind_end()
                return _TAKEN
            following = self._next_call(plan) if plan.follow is None and plan.followers else None
            if following is None:
                self._end_calls(plan)
                return _TAKEN
            plan, match = following
            start = match.start("at_")

    def _next_call(self, plan: Plan) -> tuple[Plan, Any] | None:
        """The next call of a section, where several plans may follow."""
        text = self.text
        at = skip_blanks(text, self.pos)
        if at - self.pos > MAX_BLANKS:
            return None
        for between in plan.betweens:
            if text.startswith(between, at):
                at = skip_blanks(text, at + len(between))
                break
        for other in plan.followers:
            match = other.head(text, at)
            if match is not None:
                return other, match
        return None

    def _end_calls(self, plan: Plan) -> None:
        """No call follows: the end of the section, or of the text; or text goes on."""
        pos = self.pos
        match = plan.close(self.text, pos) if plan.close is not None and self.section is not None else None
        if match is not None:
            self.pos = self.seek = match.end()
            self.section = None
            self.lead = ""
        elif pos < len(self.text):
            self.lead = plan.between

    def _body(self, plan: Plan, at: int, name: str | None) -> Whole | None:
        """The body of a call, None when it is not plain."""
        text, shape = self.text, plan.shape
        if plan.json:
            return self._json(plan, at)
        tool = self.tools.get(name) if self.tools is not None else None
        if shape.tagged is not None:
            read = (read_tagged if shape.tagged.item is None else read_nested)(shape.tagged, text, at, tool)
            if read is not None:
                return read[1], "", None, read[0]
        elif not shape.loose:
            try:
                reader = plain_reader(shape.format.syntax)
                value, end = (reader.keywords if shape.body == "kwargs" else reader.map)(text, at)
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

    def _json(self, plan: Plan, at: int) -> Whole | None:
        """A body of JSON. Decoding tells whether it ends where it was guessed to; nothing else is as fast."""
        text, stop, watch = self.text, plan.stop, plan.watch
        if stop:
            # Where the text is long it mostly holds one call.
            end = text.rfind(stop, at) if len(text) - at > FAR and not self.calls else -1
            whole = read_up_to(text, at, end, watch) if end >= 0 else None
            return whole if whole is not None else read_whole(text, at, stop, watch)
        if plan.next_call is not None and not plan.closer and self.guessing:
            whole = read_up_to(text, at, len(text), watch) if not self.calls and text.endswith("}") else None
            if whole is None:
                whole = read_up_to(text, at, self._guess(plan, at), watch)
            if whole is not None:
                return whole
            self.guessing = False
        return read_whole(text, at, "", watch)

    def _guess(self, plan: Plan, at: int) -> int:
        """Where a value perhaps ends that nothing closes: before the next call, or before the end of the turn."""
        text = self.text
        if plan.joint:
            end = text.find(plan.joint, at)
        else:
            match = plan.next_call(text, at) if plan.next_call is not None else None
            end = match.start() if match is not None else -1
        if end >= 0:
            return end + 1
        found = [end for stop in self.express.program.ends if (end := find_marker(text, stop, at)) >= 0]
        end = min(found, default=len(text))
        while end > at and text[end - 1] in BLANKS:
            end -= 1
        return end


def _inside(text: str, pos: int, at: int, lead: str, trail: str, alone: bool) -> tuple[int, int]:
    """The bounds of what a stretch holds, without the blanks that the picture writes before and behind it.

    Mere blanks are text only if they are `alone`.
    """
    start, end = pos, at
    if lead:
        for char in lead:
            if start < at and text[start] == char:
                start += 1
            else:
                break
    if start < at and text[at - 1] in BLANKS:
        bare = start + len(text[start:at].rstrip(BLANKS))
        if bare == start and (not alone or start > pos):
            return start, start
        for char in reversed(trail):
            if end > bare and text[end - 1] == char:
                end -= 1
            else:
                break
    return start, end


_TAKERS: dict[str, _Take] = {
    "call": _Reading.call,
    "section": _Reading.open_section,
    "reasoning": _Reading.thought,
    "content": _Reading.framed_content,
    "close": _Reading.close,
    "end": _Reading.end,
    "message": _Reading.new_message,
    "stray": _Reading.stray,
}


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
