"""What was read of a turn: content, thoughts, calls and issues, their places, and what a stream says of them.

Only what is content, a thought or a call is marked, in order; what lies between is markup. So spans tile the text by
construction. Blanks wait (`pending`) until it is known what follows: those that the picture writes next to a marker are
markup.

A stream's events keep one grammar: for every call that the message will hold, in order, `CallStarted`, then
`ArgumentsDelta`s, then `CallEnded`; text only as it is decided. What was said can't be taken back.
"""

from __future__ import annotations

from typing import Any, Protocol

from toolparse.codecs import json
from toolparse.codecs.matching import MORE
from toolparse.codecs.scanner import Scanner
from toolparse.codecs.tagged import swallowed
from toolparse.compile import Frame
from toolparse.events import (
    ArgumentsDelta,
    CallEnded,
    CallStarted,
    ContentDelta,
    Event,
    IssueFound,
    ReasoningDelta,
)
from toolparse.message import UNREAD, Issue, ParsedMessage, Span, ToolCall
from toolparse.picture import BLANKS
from toolparse.reader.options import Options
from toolparse.reader.tables import CallPlan, Prepared
from toolparse.reader.window import Window


class Tools(Protocol):
    """What the reader asks the tools of a conversation."""

    def get(self, name: str) -> Any:
        """The tool of that name, or None."""

    def resolve(self, name: str) -> tuple[Any, bool]:
        """The tool that is meant by a name that is perhaps not quite its own, and whether it is not."""

    def suggest(self, name: str) -> str | None:
        """The name that was perhaps meant."""


class CallInHand:
    """A call that is being read. Positions are absolute."""

    started = False  # whether a stream has said that it began,
    late = False  # or says it at its end, with all of it
    said = 0  # how many pieces of the scanner's arguments a stream has said
    cut_off = False  # whether the text ends in it
    reached = 0  # up to where it was read in vain

    def __init__(
        self,
        plan: CallPlan,
        scanner: Scanner,
        name: str | None,
        id: str | None,
        opening: int,
        start: int,
        body: int,
        *,
        quiet: bool,
    ) -> None:
        self.plan = plan
        self.scanner = scanner
        self.name = name
        self.id = id
        self.opening = opening  # where its section begins, or it
        self.start = start
        self.body = body
        self.opens_section = start > opening and plan.opens_section
        self.on_trial = plan.escaped is not None  # whether it may have to be read once more, in another syntax
        self.quiet = quiet or self.on_trial  # whether a stream says its arguments at its end, as they may still change


class Turn(Window):
    """A turn, as far as it was read."""

    options: Options
    thinking: Frame | None = None
    framed: Frame | None = None
    section: CallPlan | None = None
    ended = False
    amid = -1  # where text stands in a section of calls
    empty = False  # whether a section was opened and holds no call yet
    lead = ""  # blanks that are markup, should text begin with them
    has_body = False  # whether the stretch of text in hand holds more than blanks
    alone = True  # whether nothing but blanks was read
    # The last stretch of text, while more may join it.
    mark_start = 0
    mark_end = 0
    mark_thought = False

    prepared: Prepared
    tools: Tools | None
    streaming: bool
    pending: list[str]  # blanks at the end of the text
    content: list[str]
    reasoning: list[str]
    calls: list[ToolCall]
    issues: list[Issue]
    events: list[Event]
    marks: list[Span]

    # -- text -----------------------------------------------------------------------------------------------------

    def text_seen(self, at: int) -> None:
        """What lies before the local position `at` is text: content, or part of a thought."""
        start, self.pos = self.pos, at
        if self.lead:
            for blank in self.lead:
                if start == at:
                    break
                if self.buf[start] != blank:
                    self.lead = ""
                    break
                self.lead = self.lead[1:]
                start += 1
                self.alone = self.alone and self.base + start <= 0
        if start == at:
            return
        body = self.decided(self.buf[start:at])
        if body:
            self.has_body = True
            self.emit(body, self.base + at - (len(self.pending[0]) if self.pending else 0))

    def decided(self, text: str) -> str:
        """Text up to its last character that is no blank, with the blanks that waited before it; the rest waits."""
        body = text.rstrip(BLANKS)
        if body:
            text = text[len(body) :]
            if self.pending:
                body = "".join(self.pending) + body
                self.pending = []
        if text:
            self.pending.append(text)
        return body

    def emit(self, text: str, end: int) -> None:
        """Text that is decided ends at the absolute position `end`."""
        start = end - len(text)
        if start < 0:  # the prompt holds some of it
            if end <= 0:
                self.end_mark()
                self.mark_start = self.mark_end = 0
                self.mark_thought = self.thinking is not None
                return
            text = text[-start:]
            start = 0
        thought = self.thinking is not None
        section = self.section
        if (
            self.amid < 0
            and section is not None
            and section.encloses
            and not thought
            and (section.closer or self.empty)
        ):
            self.amid = start
        if self.mark_end == start and self.mark_thought is thought:
            self.mark_end = end
        else:
            self.end_mark()
            self.mark_start, self.mark_end, self.mark_thought = start, end, thought
        if thought:
            self.reasoning.append(text)
            if self.streaming:
                self.events.append(ReasoningDelta(text))
        else:
            self.content.append(text)
            if self.streaming:
                self.events.append(ContentDelta(text))

    def end_mark(self) -> None:
        """Nothing joins the last stretch of text."""
        if self.mark_end > self.mark_start:
            self.marks.append(Span("reasoning" if self.mark_thought else "content", self.mark_start, self.mark_end))
        self.mark_start = self.mark_end

    def section_ends(self) -> None:
        """No text before here stands in a section that goes on: say it of the one that held some."""
        if self.amid >= 0 and self.section is not None:
            told = f"text stands behind {self.section.encloses!r} where no call can be read"
            self._add_issue(Issue("stray-marker", told, Span("content", self.amid, max(self.mark_end, self.amid))))
        self.amid = -1

    def text_goes_on(self) -> None:
        """The text in hand goes on behind a marker that is no part of it."""
        self.end_mark()
        self.mark_start = self.mark_end = max(self.here(), 0)
        self.mark_thought = self.thinking is not None
        self.has_body = True

    def end_text(self, at: int, trail: str) -> None:
        """Text ends at the local position `at`."""
        if at > self.pos:
            self.text_seen(at)
        self.settle(self.base + at, trail)

    def settle(self, end: int, trail: str, *, alone: bool = False) -> None:
        """Text ended at the absolute position `end`: decide about the blanks before it.

        Of blanks behind text, those that the picture writes there (`trail`) are markup. Blanks alone between two
        markers are markup, unless they are `alone`: all that there is.
        """
        if self.pending:
            blanks = "".join(self.pending)
            start = end - len(blanks)
            if self.has_body or alone:
                keep = len(blanks)
                for char in reversed(trail):
                    if keep and blanks[keep - 1] == char:
                        keep -= 1
                    else:
                        break
                if keep:
                    self.emit(blanks[:keep], start + keep)
            self.pending = []
        self.has_body = False
        self.lead = ""

    def step_over(self, end: int) -> None:
        """Markup ends at the local position `end`."""
        self.pos = self.seek = end
        if self.base + end > 0:
            self.alone = False

    # -- tools ----------------------------------------------------------------------------------------------------

    def tool_of(self, name: str | None) -> Any:
        """The tool that types a call's arguments; None where nothing does."""
        tools = self.tools
        if tools is None:
            if not self.options.infer:
                return None
            from toolparse.tools.fitting import INFERRED  # which only those who ask for it load

            return INFERRED
        if not name:
            return None
        tool = tools.get(name)
        return tool if tool is not None else tools.resolve(name)[0]

    def offered(self, name: str | None) -> bool:
        """Whether a tool of that name may be called."""
        return self.tools is None or (bool(name) and self.tool_of(name) is not None)

    # -- issues and calls -----------------------------------------------------------------------------------------

    def note(self, code: str, message: str, start: int, end: int) -> None:
        """Something is wrong with the message between two absolute positions."""
        if end > 0:
            self._add_issue(Issue(code, message, Span("markup", max(start, 0), end), None))

    def _add_issue(self, issue: Issue) -> None:
        self.issues.append(issue)
        if self.streaming:
            self.events.append(IssueFound(issue))

    def report(self, call: CallInHand) -> None:
        """What was read of the call in hand is said to a stream."""
        scanner = call.scanner
        if not call.started:
            # Where a wrapper gives the name too, it decides, so the head's can't be said yet.
            known = scanner.name if scanner.name is not None or call.plan.wraps_name else call.name
            if not known or known in self.prepared.no_call or self.here() <= 0 or call.late:
                return
            if call.start < 0 and (call.on_trial or self._may_end_in_prompt(call)):
                return
            call.started = True
            tool = self.tool_of(known) if self.tools is not None else None
            known = tool.name if tool is not None else known
            self.events.append(CallStarted(len(self.calls), known, scanner.id or call.id))
        out, said = scanner.out, call.said
        if len(out) > said and out[0] == "{" and not call.quiet:
            self.events.append(ArgumentsDelta(len(self.calls), "".join(out[said:])))
            call.said = len(out)

    def _may_end_in_prompt(self, call: CallInHand) -> bool:
        """Whether a call may prove to be the prompt's alone, as reading could go on where the text begins."""
        text = self.kept(0, self.base + len(self.buf))
        program, next_call = self.prepared.program, call.plan.next_call
        head = next_call.match(text, 0, self.final) if next_call is not None else None
        if program.resync.match(text) or (head is not None and head is not MORE and not head.start("at_")):
            call.late = True
        return call.late or head is MORE or text in program.resync_tail.prefixes

    def add_call(
        self,
        name: str | None,
        arguments: dict[str, Any],
        id: str | None,
        start: int,
        end: int,
        found: list[tuple[str, str]],
        plan: CallPlan | None = None,
        call: CallInHand | None = None,
    ) -> None:
        """A call is read, between two absolute positions: judge it, and say so. `found`: what is wrong with it."""
        if end <= 0:
            return  # the prompt's own
        self.end_mark()
        self.alone = self.empty = False
        if name is not None and name in self.prepared.no_call:
            return
        index = len(self.calls)
        text_start = max(start, 0)
        span = Span("call", text_start, end)
        raw = self.kept(text_start, end) if text_start < end else ""
        tools = self.tools
        if not name:
            found.insert(0, ("no-name", "the call gives no tool name"))
        elif tools is not None:
            tool = tools.get(name)
            if tool is None:
                tool, _ = tools.resolve(name)
                if tool is not None:
                    found.append(self.repaired(f"the name {name!r} for {tool.name!r}"))
                    name = tool.name
            if tool is None:
                hint = tools.suggest(name)
                found.append(("unknown-tool", f"unknown tool {name!r}" + (f"; did you mean {hint!r}?" if hint else "")))
            elif not found or not any(code in UNREAD for code, _ in found):
                if self.options.coerce:
                    from toolparse.tools.fitting import coerce

                    arguments, notes = coerce(arguments, tool)
                    found.extend((note.code, note.message) for note in notes)
                if not tool.accepts(arguments, end - start):
                    found.extend((problem.code, problem.message) for problem in tool.validate(arguments))
                if plan is not None and plan.tagged is not None:
                    found.extend(swallowed(plan.tagged, arguments, tool))
                elif call is not None:
                    found.extend(call.scanner.misplaced(tool))
        if self.streaming and (call is None or not call.started):
            self.events.append(CallStarted(index, name or "", id))
        issues: tuple[Issue, ...] = ()
        if found:
            issues = tuple(Issue(code, message, Span("call", text_start, end), index) for code, message in found)
            for issue in issues:
                self._add_issue(issue)
        made = ToolCall(name or "", arguments, id, index, span, raw, issues)
        if self.streaming:
            if (call is None or call.said == 0) and not any(issue.code in UNREAD for issue in issues):
                self.events.append(ArgumentsDelta(index, json.encode(arguments)))
            self.events.append(CallEnded(index, made))
        self.calls.append(made)
        self.marks.append(span)

    def repaired(self, what: str) -> tuple[str, str]:
        """The issue of a call that was read with help."""
        return "repaired" if self.options.repair else "malformed-arguments", f"the call was written with {what}"

    # -- the result -----------------------------------------------------------------------------------------------

    def message(self, text: str) -> ParsedMessage:
        """The turn, read to its end; `text` is all of it."""
        self.end_mark()
        spans: list[Span] = []
        pos = 0
        for span in self.marks:
            if span.start > pos:
                spans.append(Span("markup", pos, span.start))
            spans.append(span)
            pos = span.end
        if pos < len(text):
            spans.append(Span("markup", pos, len(text)))
        calls, issues = self.calls, self.issues
        return ParsedMessage(
            "".join(self.content),
            "".join(self.reasoning) or None,
            tuple(calls),
            tuple(issues),
            bool(issues) and any(call.truncated for call in calls),
            tuple(spans),
            text,
        )
