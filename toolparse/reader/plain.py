"""Calls that are complete and well formed, read at once.

What models write is nearly always well formed. Then a call is one match of its head, one decoding of its body (by a
decoder in C where it is JSON), and one match of what follows. What is not plain is read by the scanner of the body,
from the head of that call on.

What is looked at in vain is counted (`budget`), so that hostile text stays linear: when four times the text was, calls
are no longer tried this way.
"""

from __future__ import annotations

from json.decoder import JSONDecoder
from typing import Any, Final

import msgspec

from toolparse.codecs import json
from toolparse.codecs.elements import read_elements
from toolparse.codecs.literals import NotPlain, plain_reader
from toolparse.codecs.matching import MAX_BLANKS, skip_blanks
from toolparse.codecs.tagged import read_tagged
from toolparse.codecs.wrapper import WrapperPaths
from toolparse.picture import BLANKS
from toolparse.reader.broken import Recovery
from toolparse.reader.finding import find_marker
from toolparse.reader.tables import CallPlan

_decode: Any = msgspec.json.Decoder().decode
# The standard library's scanner in C, held to what JSON allows: it tells where a value ends.
_scan: Any = JSONDecoder(parse_float=json.finite_float, parse_constant=json.no_constant).scan_once  # type: ignore[attr-defined]
_FAR: Final = 2048  # characters, from which on it pays to think before a search

#: The position behind a body, the name and the id in it ('' and None where none is), and the arguments.
Body = tuple[int, str, str | None, dict[str, Any]]


class PlainCalls(Recovery):
    """Reads the bodies of calls at once, where the whole text is there."""

    budget = -1
    _ahead: dict[Any, list[int]]  # what the finders found
    guessing = True  # until a guess was wrong: each may look at all that follows

    def plain_body(self, plan: CallPlan, at: int, name: str | None) -> Body | None:
        """The body of a call at the local position `at`; None when it is not plain."""
        if self.budget < 0:
            return None
        text = self.buf
        if plan.json:
            return self._json(plan, at)
        tool = self.tool_of(name)
        if plan.tagged is not None:
            program = plan.tagged
            if not program.at_once:
                return None
            end = text.find(program.tail[0], at)
            if end < 0:
                self.budget -= len(text) - at
                return None
            read = read_tagged(program, text, at, end, tool) if program.item is None else None
            if program.item is not None:
                read = read_elements(program, text, at, end, tool)
            if read is None or (end - at >= 2 * json.MAX_DEPTH and not json.is_shallow(read)):
                self.budget -= end - at
                return None
            return end, "", None, read
        syntax = plan.escaped if plan.loose else plan.syntax
        if syntax is None:
            return None
        try:
            reader = plain_reader(syntax)
            value, end = reader.keywords(text, at) if plan.kwargs else reader.map(text, at)
        except NotPlain:
            self.budget -= len(text) - at
            return None
        return unwrapped(value, end, plan.watch)

    def _json(self, plan: CallPlan, at: int) -> Body | None:
        """A body of JSON. Decoding tells whether it ends where it was guessed to; nothing else is as fast."""
        text, stop, watch = self.buf, plan.stop, plan.watch
        size = len(text)
        if stop:
            if size - at < _FAR:
                end = text.find(stop, at)
            else:  # where the text is long it mostly holds one call
                end = text.rfind(stop, at) if not self.calls else -1
                body = read_up_to(text, at, end, watch) if end >= 0 else None
                if body is not None:
                    return body
                end = find_marker(text, stop, at)
            body = read_up_to(text, at, end, watch) if end >= 0 else None
            if body is not None:
                return body
            # The closing marker stands inside a string, or this is no JSON.
            self.budget -= (end if end >= 0 else size) - at
        elif plan.next_call is not None and not plan.closer and self.guessing:
            body = read_up_to(text, at, size, watch) if not self.calls and text.endswith("}") else None
            if body is None:
                body = read_up_to(text, at, self._guess(plan, at), watch)
            if body is not None:
                return body
            self.guessing = False
        try:
            value, end = _scan(text, skip_blanks(text, at))
        except (ValueError, StopIteration, RecursionError):
            self.budget -= size  # the library's error counts the lines from the start
            return None
        return unwrapped(value, end, watch) if type(value) is dict and json.each_key_once(text[at:end], value) else None

    def _guess(self, plan: CallPlan, at: int) -> int:
        """Where a value perhaps ends that nothing closes: before the next call, or before the end of the turn."""
        text = self.buf
        if plan.joint:
            end = text.find(plan.joint, at)
        else:
            match = plan.next_call.final.search(text, at) if plan.next_call is not None else None
            end = match.start() if match is not None else -1
        if end >= 0:
            return end + 1
        found = [end for stop in self.prepared.program.ends if (end := find_marker(text, stop, at)) >= 0]
        end = min(found, default=len(text))
        while end > at and text[end - 1] in BLANKS:
            end -= 1
        return end


def read_up_to(text: str, pos: int, end: int, watch: WrapperPaths | None) -> Body | None:
    """The call's body, where a value of plain JSON is all that stands between two positions."""
    inner = text[pos:end]
    if inner[-1:] in BLANKS and not inner[-MAX_BLANKS - 1 :].strip(BLANKS):
        return None  # its closing marker stands too far off
    try:
        value = _decode(inner)
    except (ValueError, RecursionError):
        return None
    if type(value) is not dict or not json.each_key_once(inner, value):
        return None
    pair = watch.pair if watch is not None else None
    if pair is not None and len(value) == 2:  # the usual wrapper
        name, arguments = value.get(pair[0]), value.get(pair[1])
        if type(name) is str and type(arguments) is dict:
            return end, name, None, arguments
    return unwrapped(value, end, watch)


def unwrapped(value: dict[str, Any], end: int, watch: WrapperPaths | None) -> Body | None:
    """The call that a value is, which ends at `end`; None when it has not just what the wrapper's picture shows."""
    if watch is None:
        return end, "", None, value
    found = watch.find(value)
    if found is None:
        return None
    name, id, arguments = found
    return end, name, id, arguments
