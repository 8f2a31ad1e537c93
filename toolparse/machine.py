"""The one machine that reads what a model writes.

Theory of operation. The machine is a generator over a window of text: `buf` from position `pos`, whose first character
has the absolute position `base`. It runs until it needs more text, yields, and goes on when `feed` has appended some;
`close` tells it that nothing follows. One-shot parsing is the same run over text that is known to be complete, so
that it never yields. No decision depends on how the text was cut: where more text could change one, the machine waits.

It is in one of three places: in text (content or a thought), in a call, or behind the end of the turn. In text it
looks for the next marker (one regular expression over all markers of the format), tries what may begin there in order,
and takes the first that fits. In a call it hands the window to the scanner of the body (`codecs/`) until that is done,
and then expects the closing markers.

A stream hands its pieces to `take`, which is another function in every place. Most pieces lie inside of text, or of a
string, and do not end it: they are passed on as they are, past the generator (`easy`: the characters of which a piece
must have none for that). A piece of a call's body goes straight to the scanner. Where nothing can be decided before a
marker is complete, pieces wait for one another. All else goes to the generator.

Everything that was read is accounted for by `_mark`, which moves one cursor forward: spans tile the text by
construction.

Complexity goal: linear in the text, streamed or not. Text is looked at once by the scanner of the place it is in. Four
things go back, each bounded: a call that could not be read is searched for the marker at which reading can go on, and
calls that begin inside the stretch that was read in vain are read in `limited` mode, up to the next marker only, so no
stretch is read more than twice in vain; a bare JSON object that turns out to be content is rescanned as text only; a
call inside a thought is set aside while one search runs ahead for the end of the thought, whose result is remembered;
a marker that opens nothing is searched once for its closing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any, Protocol

from toolparse.codecs import json
from toolparse.codecs.elements import NestedScanner
from toolparse.codecs.matching import BLANKS, MAX_BLANKS, MORE, NEVER, SLACK, Never, Rx, skip_blanks
from toolparse.codecs.tagged import ParameterTypes, TaggedScanner
from toolparse.codecs.unescaped import LooseScanner
from toolparse.codecs.values import DONE, ERROR, ValueScanner
from toolparse.codecs.whole import Budget, WholeScanner
from toolparse.events import (
    ArgumentsDelta,
    CallEnded,
    CallStarted,
    ContentDelta,
    Event,
    IssueFound,
    ReasoningDelta,
)
from toolparse.format import SUFFIX
from toolparse.message import Issue, ParsedMessage, Span, ToolCall
from toolparse.program import Candidate, Frame, Program, Shape, TextStretch, suffix_of

_NAME_IN_JSON = re.compile(r"""["'](?:name|tool_name)["'][ \t\r\n]{0,64}:[ \t\r\n]{0,64}["']([^"'\n]{1,256})["']""")

Steps = Generator[None, None, Any]
Scanner = ValueScanner | TaggedScanner | LooseScanner


class Tool(ParameterTypes, Protocol):
    """What the machine asks a tool."""

    def validate(self, arguments: dict[str, Any]) -> list[Any]:
        """What is wrong with the arguments: objects with `code` and `message`."""


class Tools(Protocol):
    """What the machine asks the tools of a conversation."""

    def get(self, name: str) -> Any:
        """The tool of that name, or None."""

    def suggest(self, name: str) -> str | None:
        """The name that was perhaps meant."""


def scanner_of(shape: Shape, program: Program, tool: ParameterTypes | None, *, streaming: bool = False) -> Scanner:
    """What reads the body of a call."""
    syntax, kwargs = shape.format.syntax, shape.body == "kwargs"
    if shape.tagged is not None:
        kind = TaggedScanner if shape.tagged.item is None else NestedScanner
        return kind(shape.tagged, tool, streaming=streaming)
    if shape.loose:
        return LooseScanner(syntax, tool, kwargs=kwargs, streaming=streaming)
    return ValueScanner(syntax, watch=shape.watch, kwargs=kwargs, stops=program.stops_of(shape))


class Machine:
    """Reads one assistant turn. `events` collects what a stream says when `streaming`."""

    def __init__(
        self,
        program: Program,
        tools: Tools | None = None,
        *,
        prefill: str = "",
        repair: bool = True,
        streaming: bool = False,
        complete: str | None = None,
    ) -> None:
        """`prefill`: what the prompt already holds of the turn. `complete`: the whole text, if it is known."""
        self._seeking: Rx | None = None  # while the suffix of the markers is not known
        self._held = ""
        if program.suffix is not None:
            suffix = program.suffix_of_turn(prefill, complete or "")
            self._seeking = program.suffix if not suffix and complete is None else None
            prefill = prefill.replace(SUFFIX, suffix)
            program = program.bind(suffix)
        self.program = program
        self.tools = tools
        self.repair = repair
        self.streaming = streaming
        self.events: list[Event] = []
        self.buf = prefill + complete if complete is not None else prefill
        self.pos = 0
        self.base = -len(prefill)
        self.final = complete is not None
        self._fed: list[str] = [] if complete is None else [complete]
        self._keep: list[str] | None = None  # text of the call in hand that was already cut off `buf`
        self._keep_from = 0
        self._cursor = self.base
        self._spans: list[tuple[str, int, int]] = []
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []
        self._issues: list[Issue] = []
        self._thinking: Frame | None = None
        self._framed: Frame | None = None
        self._section: Shape | None = None
        self._lead = program.around_content[0]
        self._pending: list[str] = []
        self._has_body = False
        self._ended = False
        self._fresh = True  # a message begins here
        self._limited_until = self.base
        self._text_until = self.base
        self._thought_ends: int | None = None  # absolute position of the next end of a thought, -1: there is none
        self._budget = Budget(len(self.buf))
        # What was found ahead, by absolute position: searched from, found at, ...
        self._marker_ahead: tuple[int, int, str] | None = None
        self._call_ahead: tuple[Rx, int, int, int, str] | None = None
        #: in an easy stretch: the characters that a piece must not hold to be passed on
        self.easy: frozenset[str] | Never | None = None
        #: takes a piece of the text, which is not empty: what it settles. It is another one in every place.
        self.take: Callable[[str], list[Event]] = self._read_on
        self._reads: Callable[..., list[Event]] = self._read_on  # the same, but for waiting
        self._easy_from = 0  # the pieces that were passed on since it began are not yet accounted for
        self._stretch: TextStretch | Scanner | None = None  # what an easy stretch is of
        self._head: tuple[Shape, str | None, str | None] | None = None  # of the call in hand: shape, name, id
        self._started = False  # whether a stream has said that it began
        self._said = 0  # how many pieces of the scanner's arguments a stream has said
        self._wait = 0  # so many characters must come before anything more is decided
        self._later: list[str] = []  # and these have come
        self._run = self._turn()
        if not self.final:
            self.events = self._resume()

    # -- from outside ---------------------------------------------------------------------------------------------

    def _wait_on(self, text: str) -> list[Event]:
        """Nothing can be decided before so and so many characters have come."""
        self._wait -= len(text)
        self._later.append(text)
        return [] if self._wait > 0 else self._read_later()

    def _read_later(self) -> list[Event]:
        text = "".join(self._later)
        self._later.clear()
        self._wait = 0
        self.take = self._reads
        return self.take(text)

    def _read_on(self, text: str) -> list[Event]:
        """The generator reads more of the text."""
        self._fed.append(text)
        if self._seeking is not None:
            text = self._seek(self._seeking, text)
        self._append(text)
        return self._resume()

    def _resume(self) -> list[Event]:
        self._reads = self._read_on
        next(self._run, None)
        self.take = self._wait_on if self._wait > 0 else self._reads
        return self.take_events()

    def take_events(self) -> list[Event]:
        """What was said since it was last asked."""
        events = self.events
        if not events:
            return []
        self.events = []
        return events

    def _catch_up(self) -> None:
        """Read what came while the machine waited."""
        if self._later:
            self.events = self._read_later() + self.events

    def close(self) -> ParsedMessage:
        """Nothing follows: the message. What the end settles is left in `events`."""
        self._catch_up()
        self.final = True
        self._leave_easy()
        if self._seeking is not None:
            self._append(self._seek(self._seeking, ""))
        for _ in self._run:
            pass
        return self._message()

    def _seek(self, suffix: Rx, text: str) -> str:
        """The part of the text that can be read: all of it once a marker told the suffix, before that what is none."""
        text = self._held + text
        match, safe = suffix.search(text, 0, self.final)
        if match is None and not self.final:
            self._held = text[safe:]
            return text[:safe]
        self._seeking, self._held = None, ""
        program = self.program.bind_again(suffix_of(match))
        frames = self.program.frames
        if self._thinking is not None:
            self._thinking = program.frames[frames.index(self._thinking)]
        if self._framed is not None:
            self._framed = program.frames[frames.index(self._framed)]
        self.program = program
        return text

    # -- easy stretches -------------------------------------------------------------------------------------------

    def _begin_easy(self, stretch: TextStretch | Scanner) -> None:
        """The generator waits inside of a text or of a call's body."""
        if self._seeking is None:
            self._append("")
            self._stretch = stretch
            self._go_easy(stretch)

    def _go_easy(self, stretch: TextStretch | Scanner) -> None:
        """What reads the next piece, where the window holds what is left of the last one."""
        held = self.buf
        easy = stretch.easy()
        self.easy = NEVER if held or easy is None else easy
        self._easy_from = len(self._fed)
        if self._keep is None:
            self._reads = self._pass_text
        elif easy is None:
            self._reads = self._scan_on
        else:
            self._reads = self._pass_argument
        if held or easy is None:
            self._wait = stretch.missing(held)
        self.take = self._wait_on if self._wait > 0 else self._reads

    def _pass_more(self, piece: str) -> list[Event]:
        """A piece of an easy stretch that has to be looked at more closely."""
        stretch = self._stretch
        assert stretch is not None
        text = self.buf + piece
        end = stretch.safe(text)
        if end == len(piece) and not self.buf:
            return self._reads(piece, True)
        if end < 0:
            if self._keep is not None:
                self._account()
                return self._scan_on(piece)
            self._leave_easy()
            return self._read_on(piece)
        self._account()
        if end:
            events = self._reads(text[:end], True)
            self._account()
            self._fed[-1] = piece
        else:
            events = []
            self._fed.append(piece)
        self.buf = text[end:]
        self._go_easy(stretch)
        return events

    def _account(self) -> None:
        """What was passed on of a call's body counts as read."""
        if self._keep is not None and len(self._fed) > self._easy_from:
            passed = "".join(self._fed[self._easy_from :])
            self._easy_from = len(self._fed)
            self._keep.append(passed)
            self.base += len(passed)
            self._said = len(self._stretch.out)  # type: ignore[union-attr]

    def _scan_on(self, piece: str) -> list[Event]:
        """A piece of a call's body goes to the scanner past the generator, which goes on when the body is read."""
        scanner: Scanner = self._stretch  # type: ignore[assignment]
        self._fed.append(piece)
        text = self.buf + piece
        pos = scanner.scan(text, 0, False)
        if pos:
            self._keep.append(text[:pos])  # type: ignore[union-attr]
            self.base += pos
            text = text[pos:]
        self.buf = text
        if not self._started or len(scanner.out) > self._said:
            self._report(scanner)
        if scanner.status:
            self.easy = None
            return self._resume()
        self._go_easy(scanner)
        return self.take_events()

    def _pass_text(self, text: str, sure: bool = False) -> list[Event]:
        """A piece of a text. `sure`: that it is nothing else is known."""
        if not sure and not self.easy.isdisjoint(text):  # type: ignore[union-attr]
            return self._pass_more(text)
        self._fed.append(text)
        self.base += len(text)
        body = text.rstrip(BLANKS)
        if len(body) < len(text):
            if not body:
                self._pending.append(text)
                return []
            blanks = text[len(body) :]
            if self._pending:
                body = "".join(self._pending) + body
            self._pending = [blanks]
        elif self._pending:
            body = "".join(self._pending) + text
            self._pending = []
        if self._thinking is None:
            self._content.append(body)
            return [ContentDelta(body)]
        self._reasoning.append(body)
        return [ReasoningDelta(body)]

    def _pass_argument(self, text: str, sure: bool = False) -> list[Event]:
        """A piece of a string in a call's arguments."""
        if not sure and not self.easy.isdisjoint(text):  # type: ignore[union-attr]
            return self._pass_more(text)
        self._fed.append(text)
        said = self._stretch.pass_on(text)  # type: ignore[union-attr]
        return [ArgumentsDelta(len(self._calls), said)] if said else []

    def _leave_easy(self) -> None:
        """What was passed on is accounted for."""
        if self.easy is None:
            return
        self.easy = None
        self._reads = self.take = self._read_on
        self._account()
        if self._keep is None:
            end = self.base - sum(map(len, self._pending))
            self._mark("content" if self._thinking is None else "reasoning", end)

    @property
    def thinking(self) -> bool:
        """Whether the text read so far ends inside a thought."""
        self._catch_up()
        return self._thinking is not None

    def standing(self) -> tuple[bool, Frame | None, str, str]:
        """Where the text read so far leaves the turn.

        Whether it is settled but for what may be the beginning of a marker; the open thought, blanks to skip, and
        that beginning.
        """
        self._catch_up()
        waits = self._pending or self._has_body or self._ended or self._framed
        plain = not waits and self._section is None and self._keep is None and not self._calls
        return plain, self._thinking, self._lead, self.buf[self.pos :]

    def in_call(self) -> bool:
        """Whether the text read so far ends inside a call or thought."""
        self._catch_up()
        return self._keep is not None or self._thinking is not None or self._section is not None

    # -- the window -----------------------------------------------------------------------------------------------

    def _append(self, text: str) -> None:
        pos = self.pos
        if pos:
            if self._keep is not None:
                start = max(0, self._keep_from - self.base)
                if start < pos:
                    self._keep.append(self.buf[start:pos])
            self.base += pos
            self.buf = self.buf[pos:] + text
            self.pos = 0
        else:
            self.buf += text

    def _start_keeping(self, at: int) -> None:
        """From the absolute position `at` on, text can be asked for again."""
        self._keep = []
        self._keep_from = at

    def _kept(self, start: int, end: int) -> str:
        """The text between two absolute positions, which must lie behind `_start_keeping`."""
        if self._keep:
            whole = "".join(self._keep) + self.buf
            return whole[start - self._keep_from : end - self._keep_from]
        return self.buf[start - self.base : end - self.base]

    def _rewind(self, at: int) -> None:
        """Go back to the absolute position `at`, which must lie behind `_start_keeping`."""
        if self._keep:
            whole = "".join(self._keep) + self.buf
            cut = at - self._keep_from
            self._keep = [whole[:cut]]
            self.buf = whole[cut:]
            self.base = at
            self.pos = 0
        else:
            self.pos = at - self.base

    # -- accounting -----------------------------------------------------------------------------------------------

    def _mark(self, kind: str, end: int) -> None:
        """Everything from the cursor to the absolute position `end` is of one kind."""
        start, self._cursor = max(self._cursor, 0), max(end, self._cursor)
        if end <= start:
            return
        spans = self._spans
        if spans and spans[-1][0] == kind and kind != "call":
            spans[-1] = (kind, spans[-1][1], end)
        else:
            spans.append((kind, start, end))

    def _here(self) -> int:
        return self.base + self.pos

    def _issue(self, code: str, message: str, start: int, end: int, call: int | None = None) -> Issue:
        kind = "markup" if call is None else "call"
        issue = Issue(code, message, Span(kind, max(start, 0), max(end, 0)), call)  # type: ignore[arg-type]
        if self.streaming:
            self.events.append(IssueFound(issue))
        return issue

    # -- text -----------------------------------------------------------------------------------------------------

    def _put(self, text: str, at: int) -> None:
        """Text of content or thought, which begins at the absolute position `at`."""
        while self._lead and text:
            if text[0] == self._lead[0]:
                self._lead = self._lead[1:]
                text = text[1:]
                at += 1
                self._mark("markup", at)
            else:
                self._lead = ""
        if not text:
            return
        body = text.rstrip(BLANKS)
        if not body:
            self._pending.append(text)
            return
        end = at + len(body)
        blanks = text[len(body) :]
        if self._pending:
            body = "".join(self._pending) + body
            self._pending = []
        self._has_body = True
        self._say(body, end)
        if blanks:
            self._pending.append(blanks)

    def _say(self, text: str, end: int) -> None:
        """Content or reasoning that is decided: `text` ends at the absolute position `end`."""
        start = end - len(text)
        if start < 0:
            text = text[-start:] if end > 0 else ""
        thinking = self._thinking is not None
        self._mark("reasoning" if thinking else "content", end)
        if not text:
            return
        (self._reasoning if thinking else self._content).append(text)
        if self.streaming:
            self.events.append(ReasoningDelta(text) if thinking else ContentDelta(text))

    def _settle(self, trail: str, *, alone: bool = False) -> None:
        """Text ends at the window's position: decide about the blanks before it.

        Of blanks behind text, those that the picture writes there (`trail`) are markup. Blanks alone between two
        markers are markup, unless they are `alone`: all that there is.
        """
        blanks = "".join(self._pending)
        end = self._here()
        if blanks:
            start = end - len(blanks)
            if self._has_body or alone:
                keep = blanks
                while trail and keep and keep[-1] == trail[-1]:
                    keep, trail = keep[:-1], trail[:-1]
                if keep:
                    self._say(keep, start + len(keep))
            self._pending = []
        self._has_body = False
        self._lead = ""
        self._mark("markup", end)

    def _turn(self) -> Generator[None, None, None]:
        while not self._ended:
            if self._fresh:
                self._fresh = False
                yield from self._message_start()
                continue
            program = self.program
            thinking = self._thinking is not None
            markers = program.reasoning_markers if thinking else program.markers
            stretch = program.reasoning_stretch if thinking else program.stretch
            tail = stretch.tail
            found = None
            while True:
                buf, pos = self.buf, self.pos
                match = markers.search(buf, pos)
                if match is not None:
                    at = match.start()
                    if at > pos:
                        self._put(buf[pos:at], self.base + pos)
                        self.pos = at
                    if self.final or not program.may_be_longer(match.group(), buf, at):
                        found = match.group()
                        break
                    end = pos  # one marker begins another: which of them it is must be seen
                else:
                    end = len(buf) if self.final else tail.safe_end(buf, pos)
                if end > pos:
                    self._put(buf[pos:end], self.base + pos)
                    self.pos = end
                if self.final:
                    break
                if end < len(buf):
                    self._wait = tail.missing(buf[end:])
                elif self.streaming and self._has_body and not self._lead:
                    self._begin_easy(stretch)
                yield
                if program is not self.program:  # the suffix of its markers became known
                    break
            if program is not self.program:
                continue
            if found is None:
                break
            if not (yield from self._at_marker(found)):
                self._put(self.buf[self.pos], self._here())
                self.pos += 1
        self._finish()

    def _finish(self) -> None:
        if self._ended:
            self._settle("")
            self.pos = len(self.buf)
            self._mark("markup", self._here())
            return
        frame = self._thinking or self._framed
        nothing_else = not self._spans and not self._calls
        trail = self.program.around_content[1] if frame is None else frame.trail if self._thinking else ""
        self._settle(trail, alone=nothing_else)

    def _behind_end(self) -> Generator[None, None, None]:
        """After an end marker: another message of the turn, or the end."""
        if self.program.message:
            match = yield from self._match(self.program.between)
            if match is not None:
                self.pos = match.end()
                self._mark("markup", self._here())
                self._thinking = self._framed = None
                self._fresh = True
                return
        self._ended = True
        self._mark("markup", self._here())
        while not self.final:
            self.pos = len(self.buf)
            self._mark("markup", self._here())
            yield

    def _message_start(self) -> Steps:
        """Where a message begins, calls may stand that no marker announces."""
        for candidate in self.program.anchored:
            match = yield from self._match(candidate.rx)
            if match is not None and (yield from self._act(candidate, match)):
                return

    # -- markers --------------------------------------------------------------------------------------------------

    def _match(self, rx: Rx) -> Steps:
        """A match at the window's position or None; waits until that is decided."""
        while True:
            match = rx.match(self.buf, self.pos, self.final)
            if match is not MORE:
                return match
            self._wait = rx.least - (len(self.buf) - self.pos)
            yield

    def _at_marker(self, found: str) -> Steps:
        """Take what begins at the marker; False when it is just text."""
        thinking = self._thinking is not None
        table = self.program.reasoning_candidates if thinking else self.program.candidates
        weak_off = self._here() < self._text_until
        opener: Candidate | None = None
        cut = False  # whether the text ends in a call's head
        for candidate in table[found]:
            if candidate.kind == "call" and weak_off and candidate.shape is not None and not candidate.shape.strong:
                continue
            match = yield from self._match(candidate.rx)
            if match is None:
                if candidate.kind == "call" and candidate.core == found and candidate.strong and not cut:
                    cut = self.final and candidate.rx.could_go_on(self.buf, self.pos)
                    if opener is None or cut:
                        opener = candidate
                continue
            if cut and candidate.kind == "section":
                break  # a call was about to begin in it
            if (yield from self._act(candidate, match)):
                return True
        if opener is not None and not thinking and self.buf.startswith(found, self.pos):
            yield from self._nothing_opened(opener)
            return True
        return False

    def _act(self, candidate: Candidate, match: Any) -> Steps:
        kind = candidate.kind
        if kind == "call" or kind == "section":
            assert candidate.shape is not None
            thought = self._thinking
            if thought is not None:
                if not (yield from self._leave_thought()):
                    return True
                match = yield from self._match(candidate.rx)  # the window may have moved
            if kind == "call":
                taken = yield from self._call(candidate.shape, match)
            else:
                self._settle(candidate.shape.lead)
                self._step_over(match)
                self._section = candidate.shape
                taken = True
            if thought is not None and self.program.format.calls_in_reasoning == "call" and not self._ended:
                self._thinking = thought  # which goes on behind the call
            return taken
        if kind == "reasoning":
            return self._open_thought(candidate, match)
        if kind == "content":
            self._settle(self._thinking.trail if self._thinking else "")
            self._thinking, self._framed = None, candidate.frame
            self._step_over(match)
            self._lead = candidate.frame.lead if candidate.frame else ""
            return True
        if kind == "close":
            return self._close_frame(candidate, match)
        if kind == "end":
            self._settle("" if self._thinking or self._framed else self.program.around_content[1])
            self._step_over(match)
            self._thinking = None
            yield from self._behind_end()
            return True
        if kind == "message":
            self._settle("")
            self._step_over(match)
            self._thinking = self._framed = None
            self._fresh = True
            return True
        return self._stray(candidate, match)

    def _step_over(self, match: Any) -> None:
        self.pos = match.end()
        self._mark("markup", self._here())

    def _open_thought(self, candidate: Candidate, match: Any) -> bool:
        if self._thinking is not None and (self._has_body or self._thinking is not candidate.frame):
            return False
        self._settle("")
        self._step_over(match)
        self._thinking = candidate.frame
        self._thought_ends = None
        self._lead = candidate.frame.lead if candidate.frame else ""
        return True

    def _close_frame(self, candidate: Candidate, match: Any) -> bool:
        frame = candidate.frame
        assert frame is not None
        framed = self._framed
        if self._thinking is not None:
            self._settle(frame.trail)
            self._thinking = None
        elif framed is not None and framed.close.pattern == frame.close.pattern:
            frame = framed
            self._settle(frame.trail)
            self._framed = None
        elif match.group() in self.program.ends:
            return False
        else:
            self._settle("")
            at = self._here()
            if frame.kind == "reasoning" and (self._content or self._reasoning or self._calls):
                text = match.group()
                self._issues.append(
                    self._issue("stray-marker", f"{text!r} closes a thought that was not open", at, at + len(text))
                )
        self._step_over(match)
        self._lead = frame.after
        return True

    def _stray(self, candidate: Candidate, match: Any) -> bool:
        self._settle("")
        at = self._here()
        closes_section = self._section is not None and candidate.core in self._section.closer
        if closes_section:
            self._section = None
        elif not self._calls:
            core = candidate.core
            self._issues.append(self._issue("stray-marker", f"{core!r} closes nothing", at, at + len(core)))
        self._step_over(match)
        return True

    def _leave_thought(self) -> Steps:
        """A call begins inside a thought. True when it counts; else it was consumed as part of the thought."""
        policy = self.program.format.calls_in_reasoning
        frame = self._thinking
        assert frame is not None
        if policy == "draft" and frame.close_first:
            end = yield from self._end_of_thought(frame)
            if end >= 0:
                self._put(self.buf[self.pos : end - self.base], self._here())
                self.pos = end - self.base
                return False
        self._settle(frame.trail)
        self._thinking = None
        return True

    def _end_of_thought(self, frame: Frame) -> Steps:
        """The absolute position at which the thought is closed later, -1 if it never is.

        The text up to there is set aside piece by piece, so that it is searched once however it arrives.
        """
        here = self._here()
        known = self._thought_ends
        if known is not None and (known < 0 or known >= here):
            return known
        closing = self.program.thought_ends(frame)
        longest = max(frame.close_length, *(len(end) for end in self.program.ends), 1)
        if not self.final:
            self.buf, self.base, self.pos = self.buf[self.pos :], here, 0
        pieces: list[str] = []
        searched = self.pos
        while True:
            match = closing.search(self.buf, searched)
            if match is not None or self.final:
                break
            keep = max(searched, len(self.buf) - longest + 1)
            pieces.append(self.buf[:keep])
            self.base += keep
            self.buf = self.buf[keep:]
            searched = 0
            yield
        found = -1
        if match is not None and match.group() not in self.program.ends:
            found = self.base + match.start()
        if pieces:
            self.buf = "".join(pieces) + self.buf
            self.base, self.pos = here, 0
        self._thought_ends = found
        return found

    # -- markers that open nothing --------------------------------------------------------------------------------

    def _nothing_opened(self, opener: Candidate) -> Steps:
        """A call's opening marker with something else behind it.

        A call that was cut off if the text ends here, one that can't be read if it is closed, else a slip.
        """
        found = opener.core
        lead = self.program.format.lead
        start = self._here()
        if self.final and opener.rx.could_go_on(self.buf, self.pos):
            self._settle(lead)
            end = self.base + len(self.buf)
            self._start_keeping(start)
            self.pos = len(self.buf)
            self._add_call("", {}, None, start, end, [("truncated", self._cut_off(None))])
            self._keep = None
            return
        closers = {shape.tail[-1] for shape in self.program.shapes if shape.tail}
        self._start_keeping(start)
        self.pos += len(found)
        core = yield from self._next_resync()
        if core in closers:
            self._settle_at(start, lead)
            end = self._here() + len(core)
            self.pos += len(core)
            raw = self._kept(start, end)
            self._give_up(start, end, raw, "", f"{found!r} is not followed by a call that can be read")
        else:
            self._rewind(start + len(found))
            self._put(found, start)
            self._issues.append(self._issue("stray-marker", f"{found!r} opens nothing", start, start + len(found)))
        self._keep = None

    def _next_resync(self) -> Steps:
        """Move the window to the next marker at which reading can go on; returns it ('' at the end of the text)."""
        while True:
            marker = self._marker_from()
            if marker is not None:
                self.pos = marker[0] - self.base
                return marker[1]
            if self.final:
                self.pos = len(self.buf)
                return ""
            self.pos = self.program.resync_tail.safe_end(self.buf, self.pos)
            yield

    # -- calls ----------------------------------------------------------------------------------------------------

    def _call(self, shape: Shape, match: Any) -> Steps:
        """Read a call and those that follow it in its section; False when it is text after all."""
        weak = not shape.strong
        opening = self._here()
        while True:
            start = self.base + match.start("at_")
            body_start = self.base + match.end()
            self._start_keeping(opening if weak else start)
            limited = not (weak and shape.bare) and body_start < self._limited_until
            self.pos = match.end()
            name, id = shape.names(match)
            if weak and shape.anchored and self.tools is not None and self.tools.get(name or "") is None:
                self._rewind(opening)
                self._keep = None
                return False
            scanner = self._scanner(shape, name)
            bare = weak and shape.bare
            if bare and isinstance(scanner, ValueScanner) and not (yield from self._is_call(scanner)):
                reached = self._here()
                self._rewind(opening)
                self._keep = None
                self._text_until = max(self._text_until, reached)
                return False
            self._settle_at(opening, shape.lead)
            self._mark("markup", start)
            if shape.opener_first and match.start("at_") > match.start():
                self._section = shape
            yield from self._body(shape, scanner, name, id, start, body_start, limited)
            self._keep = None
            if self._ended or self._fresh:
                return True
            following = yield from self._after_call(shape)
            if following is None:
                return True
            shape, match = following
            weak = False
            opening = self._here()

    def _settle_at(self, at: int, lead: str) -> None:
        """Like `_settle`, for text that ended at an absolute position before the window's."""
        here, self.pos = self.pos, at - self.base
        self._settle(lead)
        self.pos = here

    def _scanner(self, shape: Shape, name: str | None) -> Scanner:
        if self.final and not self.streaming and shape.json:
            stops = self.program.stops_of(shape)
            stop = shape.tail[0] if shape.tail else ""
            return WholeScanner(shape.format.syntax, watch=shape.watch, stops=stops, stop=stop, budget=self._budget)
        tool = self.tools.get(name or "") if self.tools is not None else None
        return scanner_of(shape, self.program, tool, streaming=self.streaming)

    def _is_call(self, scanner: ValueScanner) -> Steps:
        """Whether a JSON object that nothing announces is a call: it has the family's keys and an offered name."""
        while True:
            self.pos = scanner.scan(self.buf, self.pos, self.final)
            if scanner.name is not None and scanner.arguments_seen:
                return bool(scanner.name) and (self.tools is None or self.tools.get(scanner.name) is not None)
            if scanner.status or self.final:
                return False
            yield

    def _body(
        self,
        shape: Shape,
        scanner: Scanner,
        name: str | None,
        id: str | None,
        start: int,
        body_start: int,
        limited: bool,
    ) -> Steps:
        self._said, self._started = 0, False
        self._head = shape, name, id
        if limited:
            yield from self._limited_scan(shape, scanner)
        while True:
            if not scanner.status and not limited:
                self.pos = scanner.scan(self.buf, self.pos, self.final)
            if self.streaming:
                self._report(scanner)
            if scanner.status or self.final or limited:
                break
            if self.streaming:
                self._begin_easy(scanner)
            yield
        if scanner.name is not None:
            name = scanner.name
        if scanner.id is not None:
            id = scanner.id
        if scanner.status == DONE:
            yield from self._complete(shape, scanner, name, id, start)
        else:
            yield from self._recover(shape, scanner, name, id, start, body_start)

    def _report(self, scanner: Scanner) -> None:
        """What the scanner has read of the call in hand is said to a stream."""
        if not self._started:
            assert self._head is not None
            shape, name, id = self._head
            # Where a wrapper gives the name too, it decides, so the head's can't be said yet.
            known = scanner.name if scanner.name is not None or shape.wraps_name else name
            if not known:
                return
            self._started = True
            self.events.append(CallStarted(len(self._calls), known, scanner.id or id))
        out, said = scanner.out, self._said
        if len(out) > said and out[0] == "{":
            self.events.append(ArgumentsDelta(len(self._calls), "".join(out[said:])))
            self._said = len(out)

    def _limited_scan(self, shape: Shape, scanner: Scanner) -> Steps:
        """Read a body up to the next marker and no further."""
        at = self._here()
        yield from self._resync_call(shape)
        text = self._kept(at, self._here())
        self._rewind(at)
        self.pos += scanner.scan(text, 0, True)

    def _complete(self, shape: Shape, scanner: Scanner, name: str | None, id: str | None, start: int) -> Steps:
        missing = yield from self._tail(shape, name or "")
        end = self._here()
        issues: list[tuple[str, str]] = []
        arguments: dict[str, Any] = {}
        try:
            arguments = scanner.arguments()
        except ValueError as error:
            issues.append(("malformed-arguments", str(error)))
        repairs = [*scanner.repairs, *([missing] if missing else [])]
        if repairs:
            what = ", ".join(repairs)
            code = "repaired" if self.repair else "malformed-arguments"
            issues.append((code, f"the call was written with {what}"))
        if scanner.duplicates:
            issues.append(("duplicate-key", "a key is given twice; the last value counts"))
        if self.streaming and name and self._said == 0 and not any(code == "malformed-arguments" for code, _ in issues):
            self._late_arguments(arguments, name, id)
        self._add_call(name, arguments, id, start, end, issues)
        if missing is None and shape.tail and shape.tail[-1] in self.program.ends:
            yield from self._behind_end()

    def _late_arguments(self, arguments: dict[str, Any], name: str | None, id: str | None) -> None:
        index = len(self._calls)
        if not self._started:
            self.events.append(CallStarted(index, name or "", id))
        self.events.append(ArgumentsDelta(index, json.encode(arguments)))

    def _tail(self, shape: Shape, name: str) -> Steps:
        """Step over the closing markers. Returns what is missing, None when nothing is or the text is over."""
        if not shape.tail:
            return None
        matched = 0
        extra = False
        for number, core in enumerate(shape.tail):
            if number in shape.tail_names and name:
                while not self.final and len(self.buf) - self.pos < len(name) and name.startswith(self.buf[self.pos :]):
                    yield
                if self.buf.startswith(name, self.pos):
                    self.pos += len(name)
            while True:
                at = skip_blanks(self.buf, self.pos)
                if self.buf.startswith(core, at):
                    self.pos = at + len(core)
                    matched += 1
                    break
                undecided = not self.final and (
                    core.startswith(self.buf[at:]) and at - self.pos <= MAX_BLANKS and len(self.buf) - at < len(core)
                )
                if not undecided:
                    match = shape.extra_closers(core).match(self.buf, self.pos, self.final)
                    if match is not MORE:
                        if match is not None:
                            self.pos = match.end()
                            matched += 1
                            extra = True
                        break
                elif len(self.buf) > at:
                    self._wait = len(core) - (len(self.buf) - at)
                yield
        if extra:
            return "a closing bracket too many"
        if matched == len(shape.tail):
            return None
        while True:  # at the end of the text nothing is held against what is missing
            at = skip_blanks(self.buf, self.pos)
            if at < len(self.buf) or at - self.pos > MAX_BLANKS:
                return "its closing marker missing"
            if self.final:
                return None
            yield

    def _add_call(
        self,
        name: str | None,
        arguments: dict[str, Any],
        id: str | None,
        start: int,
        end: int,
        found: list[tuple[str, str]],
    ) -> None:
        """A call is read: judge it, and say so."""
        if name is not None and name in self.program.format.no_call:
            self._mark("markup", end)
            return
        index = len(self._calls)
        span = Span("call", max(start, 0), max(end, 0))
        if not name:
            found.insert(0, ("no-name", "the call gives no tool name"))
        broken = found and any(code in ("malformed-arguments", "truncated") for code, _ in found)
        if self.tools is not None and name:
            tool = self.tools.get(name)
            if tool is None:
                hint = self.tools.suggest(name)
                found.append(("unknown-tool", f"unknown tool {name!r}" + (f"; did you mean {hint!r}?" if hint else "")))
            elif not broken:
                found.extend((problem.code, problem.message) for problem in tool.validate(arguments))
        issues: tuple[Issue, ...] = ()
        if found:
            issues = tuple(self._issue(code, message, start, end, index) for code, message in found)
            self._issues.extend(issues)
        raw = self._kept(max(start, 0), end) if start < end else ""
        call = ToolCall(name or "", arguments, id, index, span, raw, issues)
        self._calls.append(call)
        self._mark("call", end)
        if self.streaming:
            self.events.append(CallEnded(index, call))

    def _give_up(self, start: int, end: int, raw: str, name: str, error: str) -> None:
        if not name:
            match = _NAME_IN_JSON.search(raw)
            name = match.group(1) if match is not None else ""
        self._add_call(name, {}, None, start, end, [("malformed-arguments", error)])

    def _recover(
        self, shape: Shape, scanner: Scanner, name: str | None, id: str | None, start: int, body_start: int
    ) -> Steps:
        """The body could not be read to its end: cut off by the end of the text, or broken."""
        reached = self._here()
        at_end = scanner.status != ERROR
        self._rewind(body_start)
        core = yield from self._resync_call(shape)
        if at_end and not core:
            self.pos = len(self.buf)
            end = self._here()
            self._add_call(name, self._partial(scanner), id, start, end, [("truncated", self._cut_off(name))])
            return
        self._limited_until = max(self._limited_until, reached)
        if core in shape.tail:
            yield from self._step_over_closers(shape.tail[shape.tail.index(core) :])
        end = self._here()
        error = scanner.error or "the arguments are not closed"
        if not name:
            match = _NAME_IN_JSON.search(self._kept(start, end))
            name = match.group(1) if match is not None else None
        self._add_call(name, {}, id, start, end, [("malformed-arguments", error)])

    def _resync_call(self, shape: Shape) -> Steps:
        """The window moves behind a broken call. Returns the marker found there, '' at the end of the text."""
        next_call = shape.next_call
        if next_call is None:
            return (yield from self._next_resync())
        while True:
            head, safe = self._head_ahead(next_call)
            marker = self._marker_from()
            if marker is not None and marker[0] < (head[0] if head is not None else self.base + safe):
                self.pos = marker[0] - self.base
                return marker[1]
            if head is not None:
                self.pos = head[1] - self.base
                return head[2]
            if self.final:
                self.pos = len(self.buf)
                return ""
            self.pos = min(safe, self.program.resync_tail.safe_end(self.buf, self.pos))
            yield

    def _marker_from(self) -> tuple[int, str] | None:
        """The next marker to go on at, by absolute position. Remembered, so that a stretch is searched once."""
        here = self._here()
        known = self._marker_ahead
        if known is None or not known[0] <= here <= known[1]:
            match = self.program.resync.search(self.buf, self.pos)
            if match is not None:
                known = (here, self.base + match.start(), match.group())
            elif self.final:
                known = (here, self.base + len(self.buf) + 1, "")
            else:
                return None
            self._marker_ahead = known
        return (known[1], known[2]) if known[2] else None

    def _head_ahead(self, next_call: Rx) -> tuple[tuple[int, int, str] | None, int]:
        """Where the next call begins that no marker announces (start, head, text), and up to where surely none does."""
        here = self._here()
        known = self._call_ahead
        if known is None or known[0] is not next_call or not known[1] <= here <= known[2]:
            match, safe = next_call.search(self.buf, self.pos, self.final)
            if match is not None:
                known = (next_call, here, self.base + match.start(), self.base + match.start("at_"), match.group())
            elif self.final:
                known = (next_call, here, self.base + len(self.buf) + 1, -1, "")
            else:
                return None, safe
            self._call_ahead = known
        if known[3] < 0:
            return None, len(self.buf)
        return (known[2], known[3], known[4]), known[2] - self.base

    def _partial(self, scanner: Scanner) -> dict[str, Any]:
        """The arguments as far as they were completely read."""
        try:
            value = json.decode(scanner.partial() or "{}")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def _cut_off(self, name: str | None) -> str:
        if not name:
            return "cut off before the tool's name was complete"
        return "cut off before the arguments ended"

    def _after_call(self, shape: Shape) -> Steps:
        """What follows a call in its section: (shape, match) of the next call, or None when text goes on."""
        same, betweens = self.program.section_of(shape)
        while True:
            buf, pos = self.buf, self.pos
            at = skip_blanks(buf, pos)
            if at - pos > MAX_BLANKS:
                self._lead = shape.between_blanks
                return None
            if at == len(buf) and not self.final:
                yield
                continue
            waiting = False
            follow = at
            between = next((text for text in betweens if buf.startswith(text, at)), "")
            if between:
                follow = skip_blanks(buf, at + len(between))
                if follow == len(buf) and not self.final and follow - at <= MAX_BLANKS:
                    yield
                    continue
            elif not self.final and any(len(buf) - at < len(text) and text.startswith(buf[at:]) for text in betweens):
                yield
                continue
            if shape.opener or not shape.strong:
                for other in same:
                    match = other.head.match(buf, follow, self.final)
                    if match is MORE:
                        waiting = True
                        self._wait = other.head.least - (len(buf) - follow)
                        break
                    if match is not None:
                        self.pos = match.start("at_")
                        self._mark("markup", self._here())
                        return other, match
            if not waiting and shape.closer and self._section is not None:
                if buf.startswith(shape.closer[0], at):
                    yield from self._close_section(shape)
                    return None
                if not self.final and len(buf) - at < len(shape.closer[0]) and shape.closer[0].startswith(buf[at:]):
                    waiting = True
            if not waiting:
                self._lead = shape.between_blanks
                return None
            yield

    def _close_section(self, shape: Shape) -> Steps:
        yield from self._step_over_closers(shape.closer)
        self._mark("markup", self._here())
        self._section = None

    def _step_over_closers(self, cores: tuple[str, ...]) -> Steps:
        """Step over those of some closing markers that stand here, in order, blanks between them included."""
        for core in cores:
            while True:
                at = skip_blanks(self.buf, self.pos)
                if self.buf.startswith(core, at):
                    self.pos = at + len(core)
                    break
                if self.final or at - self.pos > MAX_BLANKS or not core.startswith(self.buf[at:]):
                    break
                yield

    # -- the result -----------------------------------------------------------------------------------------------

    def _message(self) -> ParsedMessage:
        spans = tuple(Span(kind, start, end) for kind, start, end in self._spans)  # type: ignore[arg-type]
        reasoning = "".join(self._reasoning)
        return ParsedMessage(
            content="".join(self._content),
            reasoning=reasoning or None,
            tool_calls=tuple(self._calls),
            issues=tuple(self._issues),
            truncated=any(call.truncated for call in self._calls),
            spans=spans,
            text="".join(self._fed),
        )


__all__ = ["SLACK", "Machine", "Tools"]
