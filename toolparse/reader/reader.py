"""The one reader of what models write.

Theory of operation. Reading is a machine of fourteen states. Each has a step, a method that looks at the window and
either moves on (True) or leaves everything as it was and needs more text (False). So a step that waits is simply taken
again when more text has come; nothing is resumed. With the whole text at hand no step ever waits: reading at once is
the same run. No decision depends on how the text was cut: where more text could change one, the step waits.

    MESSAGE   a message begins          TEXT      content, or a thought, up to the next marker
    TRY       what begins at a marker   DRAFT     whether a thought in which a call begins is closed later
    PROBE     whether an object that nothing announces is a call
    BODY      a call's arguments        LIMITED   the same, no further than the next marker
    TAIL      a call's closing markers  BROKEN    a call that can't be read: where reading goes on
    CLOSERS   markers to step over      AFTER     what follows a call in its section
    SLIP      a call's marker with no call behind it
    BEHIND    behind an end marker: another message, or the end            ENDED     behind the end of the turn

A call that is complete and well formed is read at once in TRY and AFTER (`plain.py`), without going through the states
of a call; the first one that is not is read by them, from its own head on.

A stream hands its pieces to `feed`. Most lie inside of a text, or of a string in a call's arguments, and end nothing:
they are passed on as they are, without a step (`breakers`: the characters of which a piece must have none for that).
Where nothing can be decided before so many characters have come, pieces wait for one another.

Complexity goal: linear in the text, at once or streamed. Text is looked at once by the step of the state it is in. What
goes back is bounded: a call that could not be read is searched for the marker at which reading can go on, and calls
that begin inside the stretch that was read in vain are read in LIMITED, so no stretch is read more than twice in vain;
an object that turns out to be no call is read again as text only; a call inside a thought is set aside while one search
runs ahead for the end of the thought, whose result is remembered; reading calls at once has a budget.
"""

from __future__ import annotations

import re
from itertools import pairwise, takewhile
from typing import Any

from toolparse.codecs.matching import MAX_BLANKS, MORE, Rx, skip_blanks, starts_with_any
from toolparse.compile import Frame, compile_format, suffix_of
from toolparse.events import Event
from toolparse.format import SUFFIX, Format
from toolparse.message import UNREAD, Issue, ParsedMessage, Span
from toolparse.picture import BLANKS
from toolparse.reader.calls import CallSteps
from toolparse.reader.options import DEFAULT, Options
from toolparse.reader.states import (
    AFTER,
    BEHIND,
    BODY,
    BROKEN,
    CLOSERS,
    DRAFT,
    ENDED,
    LIMITED,
    MESSAGE_START,
    PROBE,
    SLIP,
    TAIL,
    TEXT,
    TRY,
)
from toolparse.reader.tables import MORE_JSON, Entry, Prepared, Start, prepare
from toolparse.reader.turn import Tools
from toolparse.reader.unmarked import END as END_MARK
from toolparse.reader.unmarked import LAST, spelt_otherwise, unmarked

# What fills a text up behind its end.
_SPECIAL: Any = re.compile(r"<[^<>\s]{1,64}>|\[[A-Za-z_]{1,64}\]")
_CLOSING = ("}", "]", ")", ">", "`")  # a call's last character, its markers gone
_ANYWHERE = Options(bare="anywhere")
_UNSURE = UNREAD | {"no-name", "unknown-tool", "stray-marker", "markers-missing"}
_MARKERS_MISSING = (
    "this is a call without its markers: the text was perhaps decoded with skip_special_tokens=True; "
    "decode it with skip_special_tokens=False, or pass the token ids"
)


class Reader(CallSteps):
    """Reads one assistant turn.

    `start`: where the prompt leaves it. `complete`: the whole text, where it is known; else it is fed in pieces.
    `unbound`: the format whose markers have a suffix that the text is to tell.
    """

    _entries: tuple[Entry, ...] = ()  # what may begin at the marker that is tried
    _only_text = False  # whether what nothing announces was found to be no call here
    _opener: Entry | None = None
    _slip = 0  # where a marker stands that opened nothing
    _over = -1  # where the turn ended before the text did
    # The thoughts' closing that was looked for last: from where, up to where, and where it stands (-1: nowhere).
    _closing = ""
    _closing_from = 0
    _closing_upto = -1
    _closing_at = -1
    _searched = 0
    _aside: list[str] | None = None
    _unbound: Format | None = None
    _suffix: Rx | None = None  # finds the suffix of the markers, while it is not known

    def __init__(
        self,
        prepared: Prepared,
        tools: Tools | None,
        start: Start,
        *,
        options: Options = DEFAULT,
        complete: str | None = None,
        unbound: Format | None = None,
    ) -> None:
        head = start.head
        final = complete is not None
        self.prepared = prepared
        self.tools = tools
        self.options = options
        self.buf = text = head if complete is None else head + complete
        self.base = self._limited_until = self._text_until = -len(head)
        self.final = final
        self.streaming = not final
        self.thinking = start.thinking
        self.lead = start.lead
        self.pending = []
        self.content = []
        self.reasoning = []
        self.calls = []
        self.issues = []
        self.marks = []
        self._complete = complete
        self._ahead = {}
        self._step = MESSAGE_START if start.fresh else TEXT
        if final:
            self.budget = 4 * len(text) + 4096
            return
        self.events = []
        self._fed = []
        self._later = []
        self._unbound = unbound
        if unbound is not None:
            self._suffix = compile_format(unbound).suffix
            self._seeking = True
        if head:
            self._run()
            self._leave_stretch()
            self.events = []

    # -- from outside -------------------------------------------------------------------------------------------------

    def feed(self, piece: str) -> list[Event]:
        """The next piece of the text, which is not empty: what it settles."""
        breakers = self._breakers
        if breakers is not None:
            if not breakers.isdisjoint(piece):
                return self._pass_some(piece)
            return self._pass_text(piece) if self._call is None else self._pass_argument(piece)
        if self._wait > 0:
            self._wait -= len(piece)
            self._later.append(piece)
            if self._wait > 0:
                return []
            piece = "".join(self._later)
            self._later.clear()
        if self._stretch is not None:
            return self._pass_some(piece)
        if self._scanner is not None:
            return self._scan_on(piece)
        return self._read_on(piece)

    def close(self) -> ParsedMessage:
        """Nothing follows: the message. What the end settles is left in `events`."""
        complete = self._complete
        if complete is None:
            self._catch_up()
            self.final = True
            self._leave_stretch()
            if self._suffix is not None:
                self._more(self._seek(self._suffix, ""))
            complete = "".join(self._fed)
        self._run()
        if not self.ended:
            self._finish()
        over = self._over
        if self.ended and _SPECIAL.sub("", complete[over:]).strip(BLANKS):
            said = "text behind the end of the turn is not read"
            self._add_issue(Issue("stray-marker", said, Span("markup", over, len(complete))))
        self.end_mark()
        if not self.calls:
            self._look_for_unmarked(complete)
        elif len(self.marks) > len(self.calls):
            self._look_behind_calls(complete)
        if self.tools is not None and self.marks and self.marks[-1].kind == "content":
            self._look_for_other_spellings(complete, self.tools)
        return self.message(complete)

    def _look_behind_calls(self, text: str) -> None:
        """Where nothing closes a call, a stream has said it when its object ends, even if its writer went on."""
        for call, behind in pairwise(self.marks):
            unclosed = call.kind == "call" and text[call.end - 1] == "}"
            if unclosed and behind.kind == "content" and MORE_JSON.final.match(text, call.end) is not None:
                said = "behind the call stands what can only be more of its arguments; it is content"
                self._add_issue(Issue("stray-marker", said, behind))

    def _look_for_unmarked(self, text: str) -> None:
        """The end of a turn without calls may be calls that lost their markers."""
        if not self.marks:
            return
        start = self.marks[0].start
        said = text[start:].rstrip(BLANKS)
        if not said.endswith(_CLOSING):
            return
        for bare in unmarked(self.prepared.program.format):
            for at in bare.places(said, tools=self.tools is not None) if said.endswith(bare.end) else ():
                found = read_text(bare.format, said[at:] + END_MARK, tools=self.tools, options=_ANYWHERE)
                unsure = any(issue.code in _UNSURE for issue in found.issues)
                if found.tool_calls and not found.content.strip(BLANKS) and not unsure:
                    span = Span("content", start + at, start + len(said))
                    self._add_issue(Issue("markers-missing", _MARKERS_MISSING, span))
                    return

    def _look_for_other_spellings(self, text: str, tools: Tools) -> None:
        """The end of a turn may be a call in a spelling that is none of the family's."""
        end = self.marks[-1].end
        if not text[max(end - 32, 0) : end].rstrip(BLANKS).endswith(LAST):  # most texts
            return
        if any(issue.call_index is None for issue in self.issues):
            return  # something was said of it
        content = list(takewhile(lambda mark: mark.kind == "content", reversed(self.marks)))
        start = content[-1].start
        found = spelt_otherwise(text[start:end], tools)
        if found is not None:
            at, name = found
            said = f"this reads like a call of {name!r}, but not as models of this family write calls; it is content"
            self._add_issue(Issue("markers-missing", said, Span("content", start + at, end)))

    def standing(self) -> Start | None:
        """Where the text read so far leaves the turn; None where it is settled up to more than an open thought."""
        self._catch_up()
        self._leave_stretch()
        waits = self.pending or self.has_body or self.framed or self.section or self._call or self.calls
        if waits or self._step not in (TEXT, TRY) or self.prepared.anchored:
            return None
        return Start(self.buf[self.pos :], self.thinking, self.lead, fresh=False)

    @property
    def in_thought(self) -> bool:
        """Whether the text read so far ends inside a thought."""
        self._catch_up()
        return self.thinking is not None

    @property
    def in_call(self) -> bool:
        """Whether the text read so far ends inside a call, or a section of calls: with text in it, it is prose."""
        self._catch_up()
        self._leave_stretch()
        call = self._call
        if self._step in (SLIP, BROKEN) or self.has_body or self.content:
            return False
        if call is not None and call.name and len(call.name.split()) > 1:
            return False
        return self.keep is not None or self.section is not None

    def take_events(self) -> list[Event]:
        """What was said since it was last asked."""
        events = self.events
        if self._before is not None:  # nothing is said of calls on trial
            events = self.events[: self._before.events]
            del self.events[: self._before.events]
            self._before.events = 0
            return events
        self.events = []
        return events

    # -- pieces -------------------------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Read what came while the reader waited."""
        self._wait = 0
        if self._later:
            text = "".join(self._later)
            self._later.clear()
            said = self.take_events() + self.feed(text)
            self.events[:0] = said  # before what calls on trial have said
            if self._before is not None:
                self._before.events += len(said)

    def _read_on(self, piece: str) -> list[Event]:
        """More text for the steps."""
        self._fed.append(piece)
        if self._suffix is not None:
            piece = self._seek(self._suffix, piece)
        self._more(piece)
        self._run()
        return self.take_events()

    def _more(self, text: str) -> None:
        self.append(text)
        self._at = self.pos  # a marker that is tried is what the window begins with

    def _seek(self, suffix: Rx, text: str) -> str:
        """The part of the text that can be read: all of it once a marker told the suffix, before that what is none."""
        text = self._held + text
        match, safe = suffix.search(text, 0, self.final)
        if match is None and not self.final:
            self._held = text[safe:]
            return text[:safe]
        self._suffix, self._held, self._seeking = None, "", False
        assert self._unbound is not None
        frames = self.prepared.program.frames
        self.prepared = prepare(self._unbound.bind(suffix_of(match)))
        bound = self.prepared.program.frames
        if self.thinking is not None:
            self.thinking = bound[frames.index(self.thinking)]
        if self.framed is not None:
            self.framed = bound[frames.index(self.framed)]
        if self._step == TRY:
            self._step, self.seek = TEXT, self._at
        return text

    def _pass_some(self, piece: str) -> list[Event]:
        """A piece that has to be looked at more closely: how much of it is passed on."""
        text = self.buf + piece
        scanner = self._scanner
        if scanner is not None:
            end = scanner.verbatim_prefix(text)
        else:
            assert self._stretch is not None
            end = self._stretch.verbatim_prefix(text)
        if end == len(piece) and not self.buf:
            return self._pass_text(piece) if scanner is None else self._pass_argument(piece)
        if end < 0:
            if scanner is not None:
                self._account()
                return self._scan_on(piece)
            self._leave_stretch()
            return self._read_on(piece)
        self._account()
        if end:
            self.buf = ""
            events = self._pass_text(text[:end]) if scanner is None else self._pass_argument(text[:end])
            self._account()
            self._fed[-1] = piece
        else:
            events = []
            self._fed.append(piece)
        self.buf = text[end:]
        self._next_piece()
        return events

    def _scan_on(self, piece: str) -> list[Event]:
        """A piece of a call's body goes straight to the scanner; the steps go on when the body is read."""
        scanner, call = self._scanner, self._call
        assert scanner is not None
        assert call is not None
        self._fed.append(piece)
        text = self.buf + piece
        pos = scanner.scan(text, 0, False)
        if pos:
            assert self.keep is not None
            self.keep.append(text[:pos])
            self.base += pos
            text = text[pos:]
        self.buf = text
        if not call.started or len(scanner.out) > call.said:
            self.report(call)
        if scanner.status:
            self._scanner = self._breakers = None
            self._run()
        else:
            self._next_piece()
        return self.take_events()

    # -- the steps ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        on = True
        while on:
            step = self._step
            if step == TEXT:
                on = self._in_text()
            elif step == TRY:
                on = self._try()
            elif step == BODY:
                on = self._in_body()
            elif step == TAIL:
                on = self._in_tail()
            elif step == AFTER:
                on = self._after_call()
            elif step == BEHIND:
                on = self._behind_end()
            elif step == MESSAGE_START:
                on = self._message_begins()
            elif step == ENDED:
                self.pos = len(self.buf)
                on = False
            elif step == CLOSERS:
                on = self._over_closers()
            elif step == DRAFT:
                on = self._in_draft()
            elif step == PROBE:
                on = self._in_probe()
            elif step == LIMITED:
                on = self._in_limited_body()
            elif step == BROKEN:
                on = self._in_broken_call()
            else:
                on = self._behind_slip()

    def _finish(self) -> None:
        """The text is over, and the turn with it."""
        self._before = None
        at = len(self.buf)
        if at > self.pos:
            self.text_seen(at)
        trail = self._trail() if self.thinking is None else self.thinking.trail
        self.settle(self.base + at, trail, alone=self.alone)
        self.section_ends()

    def _trail(self) -> str:
        """The blanks that are markup where content ends and nothing closes it."""
        frame = self.framed
        return self.prepared.trail if frame is None else "" if frame.close_first else frame.trail

    def _message_begins(self) -> bool:
        """Where a message begins, calls may stand that no marker announces."""
        self._step = TEXT
        self.seek = self.pos
        if self.prepared.anchored:
            self._begin_try(self.prepared.anchored, self.pos)
        return True

    def _in_text(self) -> bool:
        """Look for the next marker."""
        table = self.prepared.content if self.thinking is None else self.prepared.thought
        if self.final:
            match = table.finder.find(self.buf, self.seek, self._ahead)
            if match is None:
                return self.ends_trial(len(self.buf))
            self._begin_try(table.entries[match.group()], match.start())
            return True
        buf = self.buf
        match = table.search(buf, self.seek)
        tail = table.stretch.tail
        if match is None:
            end = tail.safe_end(buf, self.seek)
        else:
            end = match.start()
            begun = tail.safe_end(buf, self.seek) if tail.nests else end
            if begun < end:  # a marker that may turn out to be a part of another one
                end = begun
            elif not self.prepared.program.may_be_longer(match.group(), buf, end):
                if self.ends_trial(end):
                    return True
                if end > self.pos:
                    self.text_seen(end)
                self._begin_try(table.entries[match.group()], end)
                return True
            # One marker begins another: which of them it is must be seen.
        if self.ends_trial(end):
            return True
        if end > self.pos:
            self.text_seen(end)
            self.seek = end
        if end < len(buf):
            self._wait = tail.missing(buf[end:])
        elif self.has_body and not self.lead and self.mark_end > self.mark_start:  # some of it is the text's own
            self._enter(table.stretch, None)
        return False

    # -- markers ------------------------------------------------------------------------------------------------------

    def _begin_try(self, entries: tuple[Entry, ...], at: int) -> None:
        self._entries, self._entry, self._at = entries, 0, at
        self._opener = None
        self._only_text = self.base + at < self._text_until
        self._step = TRY

    def _try(self) -> bool:
        """Take what begins at the marker, or nothing: then it is text."""
        final, entries = self.final, self._entries
        while self._entry < len(entries):
            at = self._at
            entry = entries[self._entry]
            if self._only_text and (entry.kind == "stray" or (entry.kind == "call" and entry.weak)):
                self._entry += 1
                continue
            match = entry.matches(self.buf, at) if final else entry.rx.match(self.buf, at, False)
            if match is MORE:
                self._wait = entry.rx.missing(self.buf, at)
                return False
            if match is None:
                if entry.announced and self._opener is None:
                    self._opener = entry
            elif entry.kind == "section" and self._opener is not None and self._is_cut_off(at):
                break  # a call was about to begin in it
            elif self._take(entry, match, at):
                return True
            self._entry += 1
        at = self._at
        if self._opener is not None and self.thinking is None:
            self._nothing_opened(self._opener, at)
            return True
        self._step = TEXT
        self.seek = at + 1 if entries is not self.prepared.anchored else at
        return True

    def _is_cut_off(self, at: int) -> bool:
        """Whether the text ends in the head of a call that was tried at the local position `at`."""
        tried = self._entries[: self._entry] if self.final else ()
        announced = (entry for entry in tried if entry.announced and not (self._only_text and entry.weak))
        return any(entry.rx.could_go_on(self.buf, at) for entry in announced)

    def _take(self, entry: Entry, match: Any, at: int) -> bool:
        """Take what begins at the local position `at`; False when it is just text."""
        kind = entry.kind
        if self._before is not None:
            if self.ends_trial(at):
                return True
            if kind in ("reasoning", "content", "aside"):
                self.set_back()
                return True
        if kind in ("call", "section"):
            thought = self.thinking
            if thought is not None:
                counts = self._leave_thought(thought, at)
                if counts <= 0:
                    return True
                if self.prepared.calls_in_thoughts == "call":
                    self._back_to = thought
            plan = entry.plan
            assert plan is not None
            if kind == "call":
                if self._begin_call(plan, match, at):
                    return True
                self._end_calls()
                self._step = TRY
                return False
            self.end_text(at, plan.lead)
            self.step_over(match.end())
            self.section, self.empty = plan, True
            self._end_calls()
            return True
        end: int = match.end()
        self._step = TEXT
        frame = entry.frame
        thinking = self.thinking
        if kind == "reasoning":
            if thinking is not None:
                if not self.has_body and at > self.pos:
                    self.text_seen(at)  # so that it is looked at once, however often thoughts open in it
                if self.has_body or thinking is not frame:
                    self._step = TRY
                    return False
            assert frame is not None
            self.end_text(at, "")
            self.thinking = frame
            self.step_over(end)
            self.lead = frame.lead
        elif kind == "close":
            assert frame is not None
            return self._close_frame(frame, match, at)
        elif kind == "end":
            self.end_text(at, self._trail() if thinking is None else "")
            self.step_over(end)
            self.section_ends()
            self.thinking = None
            self._step = BEHIND
        elif kind == "content":
            assert frame is not None
            self.end_text(at, thinking.trail if thinking is not None else "")
            self.thinking, self.framed = None, frame
            self.step_over(end)
            self.lead = frame.lead
        elif kind == "aside":
            if at > self.pos:
                self.text_seen(at)
            self.settle(self.base + at, "", alone=True)
            self.step_over(end)
            self.text_goes_on()
        elif kind == "message":
            self.end_text(at, "")
            self._new_message(end)
        else:
            return self._stray(entry.core, end, at)
        return True

    def _new_message(self, end: int) -> None:
        self.step_over(end)
        self.thinking = self.framed = None
        self.lead = self.prepared.lead
        self._step = MESSAGE_START

    def _close_frame(self, frame: Frame, match: Any, at: int) -> bool:
        """A thought, or framed content, ends."""
        framed = self.framed
        if self.thinking is not None:
            self.end_text(at, frame.trail)
            self.thinking = None
        elif framed is not None and framed.close.pattern == frame.close.pattern:
            frame = framed
            self.end_text(at, frame.trail)
            self.framed = None
        elif match.group() in self.prepared.program.ends:
            self._step = TRY
            return False
        else:
            self.end_text(at, "")
            if frame.kind == "reasoning" and (self.content or self.reasoning or self.calls):
                start = self.base + at
                text = match.group()
                self.note("stray-marker", f"{text!r} closes a thought that was not open", start, start + len(text))
        self.step_over(match.end())
        self.lead = frame.after
        return True

    def _stray(self, core: str, end: int, at: int) -> bool:
        """A closing marker behind calls; False where it belongs to a call that is text."""
        if core in self._quoted:
            self._quoted = self._quoted if core != self._quoted[-1] else ()
            self._step = TRY
            return False
        self.end_text(at, "")
        if self.section is not None and core in self.section.closer:
            self.section_ends()
            self.section = None
        elif not self.calls:
            start = self.base + at
            self.note("stray-marker", f"{core!r} closes nothing", start, start + len(core))
        self.step_over(end)
        return True

    # -- calls in thoughts --------------------------------------------------------------------------------------------

    def _leave_thought(self, frame: Frame, at: int) -> int:
        """A call begins inside a thought: 1 when it counts, 0 when it is the thought's, -1 to look ahead first."""
        if self.prepared.calls_in_thoughts == "draft" and frame.close_first:
            closing = frame.close.pattern
            here = self.base + at
            known = self._closing == closing and self._closing_from <= here <= self._closing_upto
            if not known:
                self._closing, self._closing_from = closing, here
                self._searched = at
                self._step = DRAFT
                return -1
            if self._closing_at >= here:
                self.text_seen(self._closing_at - self.base)
                self.seek = self.pos
                self._step = TEXT
                return 0
        self.end_text(at, frame.trail)
        self.thinking = None
        return 1

    def _in_draft(self) -> bool:
        """Look ahead for the end of the thought. The text up to there is set aside, so that it is searched once."""
        thought = self.thinking
        assert thought is not None
        program = self.prepared.program
        closing = program.thought_ends(thought)
        if self._aside is None and not self.final:
            # Only what is searched stays in the window.
            self._aside = []
            self.buf, self.base = self.buf[self._at :], self.base + self._at
            self.pos = self._at = self._searched = 0
        match = closing.search(self.buf, self._searched)
        if match is None and not self.final:
            longest = max(thought.close_length, program.longest_end)
            cut = max(self._searched, len(self.buf) - longest + 1)
            assert self._aside is not None
            self._aside.append(self.buf[:cut])
            self.base += cut
            self.buf = self.buf[cut:]
            self._searched = 0
            return False
        if match is None:
            self._closing_at, self._closing_upto = -1, self.base + len(self.buf)
        else:
            start = self.base + match.start()
            self._closing_upto = start
            self._closing_at = start if match.group() not in program.ends else -1
        if self._aside:
            aside = "".join(self._aside)
            self.buf = aside + self.buf
            self.base -= len(aside)
        self._aside = None
        self._step = TRY
        return True

    # -- markers that open nothing ------------------------------------------------------------------------------------

    def _nothing_opened(self, opener: Entry, at: int) -> None:
        """A call's opening marker with something else behind it.

        A call that was cut off if the text ends here, one that can't be read if it is closed, else a slip.
        """
        if self._before is not None:
            self.set_back()
            return
        lead = self.prepared.program.format.lead
        start = self.base + at
        if self._is_cut_off(at):
            self.end_text(at, lead)
            end = self.base + len(self.buf)
            self.start_keeping(start)
            self.pos = self.seek = len(self.buf)
            self.add_call("", {}, None, start, end, [self.cut_off(None)])
            self.keep = None
            self._step = TEXT
            return
        if at > self.pos:
            self.text_seen(at)
        self.start_keeping(start)
        self._slip = start
        self.pos += len(opener.core)
        self._step = SLIP

    def _behind_slip(self) -> bool:
        core = self.resync(None)
        if core is None:
            return False
        assert self._opener is not None
        opener, start = self._opener.core, self._slip
        if core in self.prepared.call_ends:
            self.settle(start, self.prepared.program.format.lead)
            end = self.here() + len(core)
            self.pos += len(core)
            found = [("malformed-arguments", f"{opener!r} is not followed by a call that can be read")]
            self.add_call(self.name_in(start, end), {}, None, start, end, found)
            self.step_over(self.pos)
        else:
            doubled = core == opener and not self.kept(start + len(opener), self.here()).strip(BLANKS)
            self.rewind(start)
            if doubled:  # the second one opens the call, the first is markup
                self.end_text(self.pos, self.prepared.program.format.lead)
                self.step_over(self.pos + len(opener))
            else:
                self.text_seen(self.pos + len(opener))
                self.seek = self.pos
            self.note("stray-marker", f"{opener!r} opens nothing", start, start + len(opener))
        self.keep = None
        self._step = TEXT
        return True

    # -- the end ------------------------------------------------------------------------------------------------------

    def _behind_end(self) -> bool:
        """After an end marker: another message of the turn, a marker that ends it once more, or the end."""
        if self.prepared.message:
            between = self.prepared.between
            match = between.match(self.buf, self.pos, self.final)
            if match is MORE:
                self._wait = between.missing(self.buf, self.pos)
                return False
            if match is not None:
                self._new_message(match.end())
                if self._back_to is not None:
                    self.thinking, self._back_to = self._back_to, None
                return True
        at = skip_blanks(self.buf, self.pos)
        end = (
            starts_with_any(self.prepared.program.ends, self.buf, at, self.final)
            if at - self.pos <= MAX_BLANKS
            else None
        )
        self._before = None  # nothing that follows sets calls on trial back
        if end is MORE:
            return False
        if isinstance(end, str):  # written twice, or it begins a call as well
            self.step_over(at)
            self._begin_try(self.prepared.content.entries[end], at)
            return True
        self.ended = True
        self._over = max(self.here(), 0)
        self._step = ENDED
        self.settle(self.here(), "")
        return True


def start_of(prepared: Prepared, prefill: str) -> Start:
    """Where the turn stands behind what the prompt holds of it."""
    start = Start(prefill, None, prepared.lead, fresh=True)
    return (Reader(prepared, None, start).standing() or start) if prefill else start


def read_text(
    format: Format, text: str, *, prefill: str = "", tools: Tools | None = None, options: Options = DEFAULT
) -> ParsedMessage:
    """The turn in a text, behind what the prompt holds of it."""
    program = compile_format(format)
    suffix = program.suffix_of_turn(prefill, text)
    prepared = prepare(format.bind(suffix))
    start = start_of(prepared, prefill.replace(SUFFIX, suffix))
    return Reader(prepared, tools, start, options=options, complete=text).close()


def read_pieces(format: Format, *, prefill: str = "", tools: Tools | None = None, options: Options = DEFAULT) -> Reader:
    """A reader to be fed the turn in pieces."""
    program = compile_format(format)
    suffix = program.suffix_of_turn(prefill, "")
    prepared = prepare(format.bind(suffix))
    unbound = format if program.suffix is not None and not suffix else None
    start = start_of(prepared, prefill.replace(SUFFIX, suffix))
    return Reader(prepared, tools, start, options=options, unbound=unbound)
