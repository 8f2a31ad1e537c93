"""The states of a call: from its head to what follows it in its section.

A call that is complete and well formed is read at once (`_read_calls`); the first one that is not is read by the
scanner of its body: PROBE where nothing announces it, then BODY (or LIMITED, where the text was read in vain before),
then TAIL, or BROKEN and CLOSERS where it can't be read; then AFTER.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from toolparse.codecs import json
from toolparse.codecs.elements import ElementScanner
from toolparse.codecs.matching import MAX_BLANKS, MORE, Rx, skip_blanks
from toolparse.codecs.scanner import DONE, ERROR, Scanner
from toolparse.codecs.tagged import TaggedScanner
from toolparse.codecs.unescaped import UnescapedScanner
from toolparse.codecs.values import ValueScanner
from toolparse.compile import Frame
from toolparse.message import Span, ToolCall
from toolparse.reader.states import AFTER, BEHIND, BODY, BROKEN, CLOSERS, LIMITED, PROBE, TAIL, TEXT, TRY
from toolparse.reader.tables import CallPlan
from toolparse.reader.trial import Trial
from toolparse.reader.turn import CallInHand

#: How arguments in round brackets begin, if they have names.
_NAMED: Any = re.compile(r"\)|[A-Za-z_][A-Za-z0-9_]{0,128}[ \t\r\n]*=")
_OPENS = ("(", "{")
_UNCLOSED = "its closing marker missing"


class CallSteps(Trial):
    """The steps of a call."""

    _entry = 0  # what is tried at a marker,
    _at = 0  # which stands at this local position
    _plan: CallPlan | None = None  # of the last call
    _closers: tuple[str, ...] = ()
    _quoted: tuple[str, ...] = ()  # the closing markers of a call that is text
    _back_to: Frame | None = None  # the thought that goes on behind a call in it

    _limited_until: int  # up to there, text was read in vain

    def _begin_call(self, plan: CallPlan, match: Any, at: int) -> bool:
        """A call's head stands at the local position `at`, its section's opening included; False when it is text."""
        name, id = plan.names(match)
        if plan.needs_tool and not self.offered(name):
            return False
        if plan.rescued and self._before is None:
            if self.tools is None or not self.untouched(at):
                return False
            if at > self.pos:
                self.text_seen(at)
            self.begin_trial(at)
        elif plan.markerless and self._before is None:
            bare = self.options.bare
            # A family that writes calls right behind its content shows it: it has no newline there.
            unnamed = plan.kwargs and _NAMED.match(self.buf, match.end()) is None
            if (plan.slip or unnamed) and self.tools is None:
                return False
            begins = bare != "alone" or ("\n" not in plan.lead and not unnamed) or self.begins_line(at)
            if bare == "never" or not begins or (plan.named and not plan.wraps_name and not self.offered(name)):
                self._quoted = plan.closers
                return False
            if bare == "alone":
                if at > self.pos:
                    self.text_seen(at)
                self.begin_trial(at)
        self._read_calls(plan, match, at, name, id, weak=plan.weak)
        return True

    def _read_calls(self, plan: CallPlan, match: Any, at: int, name: str | None, id: str | None, *, weak: bool) -> None:
        """Calls that are complete and well formed, at once; the first that is not goes to its scanner."""
        if self.budget < 0 or self.base + match.end() < self._limited_until:
            self._call_begins(plan, match, at, name, id, weak=weak)
            return
        text, tools, base, calls = self.buf, self.tools, self.base, self.calls
        no_call = self.prepared.no_call
        first = True
        while True:
            start, at_body = match.start("at_"), match.end()
            body = self.plain_body(plan, at_body, name)
            end = -1
            if body is not None:
                end, inner_name, inner_id, arguments = body
                if not plan.wraps_name:
                    inner_name = name or ""
                if not text.startswith(plan.stop, end):
                    behind = skip_blanks(text, end)
                    end = behind if behind - end <= MAX_BLANKS and text.startswith(plan.stop, behind) else -1
                if end >= 0:
                    end += plan.step
                    if plan.kwargs and text.startswith(_OPENS, end):
                        end = -1
                if end >= 0 and plan.rest is not None:
                    rest = plan.rest(text, end)
                    end = rest.end() if rest is not None else -1
            if end < 0 or not inner_name or plan.tail_names or (weak and plan.bare and not self.offered(inner_name)):
                self._call_begins(plan, match, at, name, id, weak=weak)
                return
            if first:
                self.end_text(at, plan.lead)
                if start > at and plan.opens_section:
                    self.section = plan
                first = weak = False
            if inner_id is not None:
                id = inner_id
            plain = base + start >= 0 and inner_name not in no_call and not plan.slip
            if plain and tools is not None:
                tool = None if plan.tagged is not None or self.options.coerce else tools.get(inner_name)
                plain = tool is not None and tool.accepts(arguments, end - start)
            if not plain:
                found = [self.repaired(plan.slip)] if plan.slip else []
                self.add_call(inner_name, arguments, id, base + start, base + end, found, plan)
            else:
                if self.mark_end > self.mark_start:
                    self.end_mark()
                self.alone = self.empty = False
                span = Span("call", base + start, base + end)
                calls.append(ToolCall(inner_name, arguments, id, len(calls), span, text[start:end]))
                self.marks.append(span)
            self.pos = self.seek = end
            if plan.follow is not None:
                match = plan.follow(text, end)
                if match is not None:
                    at = match.start("at_")
                    self.pos = self.seek = at
                    name, id = plan.names(match)
                    if plan.ends:
                        self.framed = None
                    continue
            self._plan = plan
            if plan.shut is not None and self.section is not None:
                match = plan.shut(text, end)
                if match is not None:
                    self._section_closed(match.end())
                    return
            self._step = BEHIND if plan.ends else AFTER
            return

    def _call_begins(
        self, plan: CallPlan, match: Any, at: int, name: str | None, id: str | None, *, weak: bool
    ) -> None:
        """The scanner of its body reads a call."""
        if at > self.pos:
            self.text_seen(at)
        start, body = self.base + match.start("at_"), self.base + match.end()
        scanner = self._scanner_of(plan, name, on_trial=plan.escaped is not None)
        call = CallInHand(plan, scanner, name, id, self.base + at, start, body, quiet=self.options.coerce)
        self._call = call
        self.start_keeping(call.opening if weak else call.start)
        self.pos = self.seek = match.end()
        bare = weak and plan.bare
        if bare and isinstance(scanner, ValueScanner):
            self._step = PROBE
        else:
            self._settle_call(call)
            self._step = LIMITED if not bare and call.body < self._limited_until else BODY

    def _scanner_of(self, plan: CallPlan, name: str | None, *, on_trial: bool) -> Scanner:
        """What reads the body of a call."""
        tool = self.tool_of(name)
        if plan.tagged is not None:
            kind = TaggedScanner if plan.tagged.item is None else ElementScanner
            return kind(plan.tagged, tool, streaming=self.streaming)
        if plan.loose and not on_trial:
            return UnescapedScanner(plan.syntax, tool, kwargs=plan.kwargs, streaming=self.streaming)
        order = (
            tuple(tool.parameters.get("properties", ()))
            if plan.kwargs and self.tools is not None and tool is not None
            else ()
        )
        syntax = plan.escaped or plan.syntax
        return ValueScanner(syntax, watch=plan.watch, kwargs=plan.kwargs, stops=plan.stops, order=order)

    def _settle_call(self, call: CallInHand) -> None:
        """It is a call: the text before it ends."""
        self.settle(call.opening, call.plan.lead)
        if call.opens_section:
            self.section = call.plan

    def _in_probe(self) -> bool:
        """Whether a JSON object that nothing announces is a call: it has the family's keys and an offered name."""
        call = self._call
        assert call is not None
        scanner = call.scanner
        assert isinstance(scanner, ValueScanner)
        self.pos = scanner.scan(self.buf, self.pos, self.final)
        if scanner.name is not None and scanner.arguments_seen:
            counts = (
                bool(scanner.name) and self.offered(scanner.name) and (self.tools is not None or not scanner.renamed)
            )
            if not counts and not scanner.status and not self.final:
                return False  # all of it is text, to its end
        elif scanner.status or self.final:
            # A name alone is a call of a tool that asks for nothing.
            tool = self.tool_of(scanner.name) if self.tools is not None and scanner.status == DONE else None
            counts = tool is not None and not scanner.repairs and bool(tool.requires_nothing)
        else:
            return False
        if counts:
            self._settle_call(call)
            self._step = BODY
            return True
        self._text_until = max(self._text_until, self.here())
        if self._before is not None and self._before.opening == call.opening:
            self._before = None
        self.rewind(call.opening)
        self.keep = None
        self._call = None
        self._at = self.pos
        self._entry += 1
        self._end_calls()
        self._step = TRY
        return True

    def _in_body(self) -> bool:
        call = self._call
        assert call is not None
        scanner = call.scanner
        if not scanner.status:
            self.pos = scanner.scan(self.buf, self.pos, self.final)
        if self.streaming:
            self.report(call)
            if not scanner.status and not self.final:
                self._enter(None, scanner)
                return False
        self._body_ends(call, scanner)
        return True

    def _in_limited_body(self) -> bool:
        """Read a body up to the next marker and no further."""
        call = self._call
        assert call is not None
        scanner = call.scanner
        if self.resync(call.plan) is None:
            return False
        text = self.kept(call.body, self.here())
        self.rewind(call.body)
        self.pos += scanner.scan(text, 0, True)
        if self.streaming:
            self.report(call)
        self._body_ends(call, scanner)
        return True

    def _body_ends(self, call: CallInHand, scanner: Scanner) -> None:
        if scanner.name is not None:
            call.name = scanner.name
        if scanner.id is not None:
            call.id = scanner.id
        if scanner.status == DONE:
            self._step = TAIL
            return
        if call.on_trial:
            call.on_trial, call.quiet = False, self.options.coerce
            call.scanner = self._scanner_of(call.plan, call.name, on_trial=False)
            self.rewind(call.body)
            return
        call.cut_off = scanner.status != ERROR
        call.reached = self.here()
        # What a stream has said of it stands: it doesn't end inside the prompt.
        self.rewind(max(call.body, 0) if call.reached >= 0 else call.body)
        self._step = BROKEN

    def _in_tail(self) -> bool:
        """Step over the closing markers of the call in hand."""
        call = self._call
        assert call is not None
        plan, name = call.plan, call.name or ""
        shape = plan.shape
        buf, pos, final = self.buf, self.pos, self.final
        missing = ""
        matched = 0
        for number, core in enumerate(plan.tail):
            if number in plan.tail_names and name:
                if not final and len(buf) - pos < len(name) and name.startswith(buf[pos:]):
                    return False
                if buf.startswith(name, pos):
                    pos += len(name)
            at = skip_blanks(buf, pos)
            if at - pos <= MAX_BLANKS and buf.startswith(core, at):
                pos = at + len(core)
                matched += 1
                continue
            left = len(buf) - at
            if not final and core.startswith(buf[at:]) and at - pos <= MAX_BLANKS and left < len(core):
                if left:
                    self._wait = len(core) - left
                return False
            match = _extra_closers(core).match(buf, pos, final)
            slip = "a closing bracket too many"
            if match is None and number == len(plan.tail) - 1 and shape.reopened is not None:
                match = shape.reopened.match(buf, at, final)
                slip = f"{shape.head_first!r} for {core!r}"
            if match is MORE:
                return False
            if match is not None:
                pos = match.end()
                matched += 1
                missing = slip
                continue
            inner = shape.inner[number] if shape.inner and matched == number else None
            if inner is not None:
                match = inner.match(buf, pos, final)
                if match is MORE:
                    return False
                if match is not None:
                    self._complete_call(call, "more than one call between its markers")
                    self._call_between_markers(plan, match)
                    return True
        if not missing and not matched and plan.more is not None:
            match = plan.more.match(buf, pos, final)
            if match is MORE:
                return False
            if match is not None:
                return self._more_stands(call, "behind the object that should be all of it, more stands")
        if plan.kwargs and matched == 1 and not missing:  # directly behind the bracket
            if pos == len(buf) and not final:
                return False
            if buf[pos : pos + 1] in _OPENS:
                return self._more_stands(call, "behind its arguments, more of them stand")
        if not missing and matched < len(plan.tail):
            at = skip_blanks(buf, pos)
            if at < len(buf) or at - pos > MAX_BLANKS:
                missing = _UNCLOSED
            elif not final:
                return False
            # At the end of the text nothing is held against what is missing.
        self.pos = pos
        self._complete_call(call, missing)
        return True

    def _call_between_markers(self, plan: CallPlan, match: Any) -> None:
        """The next call stands between the outer markers of the one before."""
        found = match.groupdict()
        name = found.get("name")
        self.pos = at = match.start("at_")
        self._call_begins(plan, match, at, name.strip() if name is not None else None, found.get("id"), weak=False)

    def _more_stands(self, call: CallInHand, error: str) -> bool:
        """A call whose arguments go on behind their end can't be read."""
        scanner = call.scanner
        scanner.error = error
        call.reached = self.here()
        self._step = BROKEN
        return True

    def _complete_call(self, call: CallInHand, missing: str) -> None:
        scanner, plan = call.scanner, call.plan
        found: list[tuple[str, str]] = []
        arguments: dict[str, Any] = {}
        try:
            arguments = scanner.arguments()
        except ValueError as error:
            found.append(("malformed-arguments", str(error)))
        if not json.is_shallow(arguments):
            arguments = {}
            found.append(("malformed-arguments", "nested too deeply"))
        if missing == _UNCLOSED and not scanner.arguments_seen:
            found.append(
                ("malformed-arguments", "no arguments are given, and no closing marker stands behind the name")
            )
        repairs = [what for what in dict.fromkeys((plan.slip, *scanner.repairs, missing)) if what]
        if repairs:
            found.append(self.repaired(", ".join(repairs)))
        told = "it is text, where the call says that it is something else"
        found.extend(("wrong-type", f"arguments.{key}: {told}") for key in scanner.mistyped)
        if scanner.duplicates:
            found.append(("duplicate-key", "a key is given twice; the last value counts"))
        self.add_call(call.name, arguments, call.id, call.start, self.here(), found, plan, call)
        self._call_ends(call)
        if not missing and plan.ends:
            self._step = BEHIND

    def _call_ends(self, call: CallInHand) -> None:
        self._plan = call.plan
        self._call = None
        self.keep = None
        self.seek = self.pos
        self._step = AFTER

    def _in_broken_call(self) -> bool:
        """The body could not be read to its end: cut off by the end of the text, or broken."""
        call = self._call
        assert call is not None
        scanner, plan = call.scanner, call.plan
        core = self.resync(plan)
        if core is None:
            return False
        if call.cut_off and not core:
            self.pos = len(self.buf)
            found = [self.cut_off(call.name)]
            self.add_call(call.name, scanner.partial(), call.id, call.start, self.here(), found, call.plan, call)
            self._call_ends(call)
            return True
        self._limited_until = max(self._limited_until, call.reached)
        self._closers = plan.tail[plan.tail.index(core) :] if core in plan.tail else ()
        self._step = CLOSERS
        return True

    def _over_closers(self) -> bool:
        """Step over those of some closing markers that stand here, in order, blanks between them included."""
        buf, pos = self.buf, self.pos
        for core in self._closers:
            at = skip_blanks(buf, pos)
            if at - pos > MAX_BLANKS:
                break
            if buf.startswith(core, at):
                pos = at + len(core)
            elif not self.final and core.startswith(buf[at:]):
                return False
        self.pos = pos
        call = self._call
        if call is None:  # they close a section
            self._section_closed(pos)
            return True
        scanner = call.scanner
        end = self.here()
        name = call.name or self.name_in(call.start, end)
        found = [("malformed-arguments", scanner.error or "the arguments are not closed")]
        self.add_call(name, {}, call.id, call.start, end, found, call.plan, call)
        self._call_ends(call)
        return True

    def _section_closed(self, end: int) -> None:
        """The closing markers of the section end at the local position `end`."""
        self.section_ends()
        self.section = None
        self.step_over(end)
        self._end_calls()

    def _after_call(self) -> bool:
        """What follows a call in its section: the next one, the section's end, or text."""
        plan = self._plan
        assert plan is not None
        if not plan.in_section and not plan.closer:
            self.lead = plan.between_blanks
            self._end_calls()
            return True
        buf, pos, final = self.buf, self.pos, self.final
        at = skip_blanks(buf, pos)
        if at - pos <= MAX_BLANKS:
            if at == len(buf) and not final:
                return False
            follow = at
            between = next((text for text in plan.betweens if buf.startswith(text, at)), "")
            if between:
                follow = skip_blanks(buf, at + len(between))
                if follow == len(buf) and not final and follow - at <= MAX_BLANKS:
                    return False
            elif not final and any(len(buf) - at < len(text) and text.startswith(buf[at:]) for text in plan.betweens):
                return False
            for other in plan.followers:
                match = other.shape.head.match(buf, follow, final)
                if match is MORE:
                    self._wait = other.shape.head.missing(buf, follow)
                    return False
                if match is not None:
                    name, id = other.names(match)
                    self.pos = at = match.start("at_")
                    self._read_calls(other, match, at, name, id, weak=False)
                    return True
            if plan.surplus is not None and buf.startswith("}", at):
                match = plan.surplus.match(buf, at, final)
                if match is MORE:
                    return False
                if match is not None:
                    self.note(
                        "stray-marker", f"{match[0].rstrip()!r} closes nothing", self.base + at, self.base + match.end()
                    )
                    self.pos = match.end()
                    return True
            if plan.closer and self.section is not None:
                closer = plan.closer[0]
                for place in dict.fromkeys((at, follow)):
                    if buf.startswith(closer, place):
                        if place > at:
                            self.note("stray-marker", f"{between!r} parts nothing", self.base + at, self.base + place)
                            self.pos = place
                        self._closers = plan.closer
                        self._step = CLOSERS
                        return True
                    if not final and len(buf) - place < len(closer) and closer.startswith(buf[place:]):
                        return False
        self.lead = plan.between_blanks
        self._end_calls()
        return True

    def _end_calls(self) -> None:
        """No call follows: text goes on, in the thought in which the calls stood if there was one."""
        self._step = TEXT
        if self._back_to is not None:
            self.thinking, self._back_to = self._back_to, None


@lru_cache(maxsize=256)
def _extra_closers(core: str) -> Rx:
    """Superfluous closing brackets before a closing marker."""
    return Rx(r"[ \t\r\n\]\}]{1,64}" + re.escape(core))
