"""Tagged parameters: `<parameter=key>value</parameter>` and its relatives, read incrementally.

The hard question is where a value ends, because nothing in it is escaped. A closing tag closes the value only if what
follows it, after blanks, can continue the call: another parameter or the call's own tail. If a whole call tail comes
first and another call begins behind it, the closing tag was forgotten: the value ends before that tail, and this is
noted as a repair. Both decisions look a bounded distance ahead.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from toolparse.codecs import json
from toolparse.codecs.matching import MORE as UNDECIDED
from toolparse.codecs.matching import Rx, Tail, skip_blanks, starts_with_any
from toolparse.codecs.values import DONE, ERROR, MORE, ValueScanner
from toolparse.format import Syntax


class ParameterTypes(Protocol):
    """What the scanner asks a tool about its parameters."""

    def admits(self, key: str) -> str:
        """`text` (a string and nothing else), `typed`, or `unknown`."""

    def convert_text(self, key: str, text: str, *, python: bool = False) -> tuple[Any, Any]:
        """The value that a text stands for, and what is wrong with it."""

    def convert_tree(self, tree: Any, key: str | None = None, *, python: bool = False) -> tuple[Any, Any]:
        """The value that nested elements stand for, and what is wrong with it."""

    def retype(self, key: str, value: Any) -> Any:
        """A text that is exactly a literal of what is admitted, where no text is admitted, as that value."""


class ParamProgram(msgspec.Struct, frozen=True):
    """The picture of one parameter, compiled.

    `head` captures `key` and perhaps `type` and ends before the value; `lead` and `trail` are the blanks that the
    picture writes next to the value; `close` is the closing tag with the key's place marked by `KEY`.
    """

    head: Rx
    first: str
    lead: str
    trail: str
    close: str
    types: dict[str, str] | None

    KEY = "\x00"

    def close_of(self, key: str) -> str:
        """The closing tag of the parameter called `key`."""
        return self.close.replace(self.KEY, key)


class TaggedProgram(msgspec.Struct, frozen=True):
    """A run of parameters, compiled. `item`: an element of a list, where objects and lists are nested elements."""

    follows: tuple[str, ...]  # what may stand where parameters begin
    params: tuple[ParamProgram, ...]
    item: ParamProgram | None
    after_close: Rx
    tail: tuple[str, ...]
    after_tail: Rx | None
    stops: tuple[str, ...]
    syntax: Syntax
    wrap: tuple[str, str] | None
    unescape: tuple[tuple[str, str], ...]
    element_markers: tuple[str, ...] = ()  # what the text of a nested element never holds


class TaggedScanner:
    """Scans a run of parameters up to the call's tail, which is left standing.

    `arguments` grows with each complete parameter; `out` holds the same as pieces of JSON text when `streaming`.
    """

    __slots__ = (
        "_at_lead",
        "_close",
        "_hold",
        "_json_type",
        "_key",
        "_param",
        "_parts",
        "_text",
        "_typed_by_attribute",
        "arguments_",
        "duplicates",
        "error",
        "out",
        "program",
        "repairs",
        "status",
        "streaming",
        "tool",
    )

    name: str | None = None
    id: str | None = None
    arguments_seen = True

    def __init__(self, program: TaggedProgram, tool: ParameterTypes | None, *, streaming: bool) -> None:
        self.program = program
        self.tool = tool
        self.streaming = streaming
        self.status = MORE
        self.error = ""
        self.duplicates = False
        self.repairs: list[str] = []
        self.arguments_: dict[str, Any] = {}
        self.out: list[str] = ["{"] if streaming else []
        self._key: str | None = None
        self._param = program.params[0]
        self._text = False
        self._json_type = False
        self._typed_by_attribute = False
        self._at_lead = False
        self._parts: list[str] = []
        self._close = ""
        self._hold: Tail | None = None

    def arguments(self) -> dict[str, Any]:
        """The arguments that were read."""
        return self.arguments_

    def partial(self) -> str:
        """The complete parameters as JSON text."""
        return json.encode(self.arguments_)

    @property
    def in_string(self) -> bool:
        """Whether the scan stands inside a value."""
        return self._key is not None

    def scan(self, buf: str, pos: int, final: bool) -> int:
        """Consume from `pos`; returns the position up to which `buf` was consumed."""
        while not self.status:
            before, key = pos, self._key
            pos = self._between(buf, pos, final) if key is None else self._value(buf, pos, final)
            if pos == before and key is self._key:
                break
        return pos

    def _between(self, buf: str, pos: int, final: bool) -> int:
        program = self.program
        pos = skip_blanks(buf, pos)
        if pos == len(buf):
            return pos
        stop = starts_with_any(program.stops, buf, pos, final)
        if isinstance(stop, str):
            self._finish()
            return pos
        undecided = stop is UNDECIDED
        for param in program.params:
            match = param.head.match(buf, pos, final)
            if match is UNDECIDED:
                undecided = True
            elif match is not None:
                groups = match.groupdict()
                self._param = param
                self._begin(self._unescaped(groups["key"].strip()), groups.get("type"))
                return match.end()  # type: ignore[no-any-return]
        if not undecided:
            self.status = ERROR
            self.error = f"expected a parameter, found {buf[pos]!r}"
        return pos

    def _unescaped(self, text: str) -> str:
        for char, entity in self.program.unescape:
            text = text.replace(entity, char)
        return text

    def _begin(self, key: str, declared: str | None) -> None:
        if key in self.arguments_:
            self.duplicates = True
        self._key = key
        self._json_type = self._typed_by_attribute = False
        admitted = "unknown" if self.tool is None else self.tool.admits(key)
        types = self._param.types
        if types is not None and declared is not None:
            # The schema comes first; the attribute decides where it leaves a choice, and where it is silent.
            said_text = declared == types.get("string", "string")
            self._typed_by_attribute = True
            self._json_type = not said_text
            self._text = admitted == "text" or (said_text and admitted == "unknown")
        else:
            self._text = admitted != "typed"
        self._close = self._param.close_of(key)
        self._hold = None
        self._at_lead = True
        self._parts = []
        if self.streaming:
            self.out.append((", " if self.arguments_ else "") + json.quote(key) + (': "' if self._text else ": "))

    def _value(self, buf: str, pos: int, final: bool) -> int:
        program = self.program
        if self._at_lead:
            if program.wrap is not None:
                opener = program.wrap[0]
                if buf.startswith(opener, pos):
                    self._close = program.wrap[1] + self._close
                    self._at_lead = False
                    return pos + len(opener)
                if not final and opener.startswith(buf[pos:]):
                    return pos
            for blank in self._param.lead:
                if pos < len(buf) and buf[pos] == blank:
                    pos += 1
                elif pos == len(buf) and not final:
                    return pos
            self._at_lead = False
        end, resume = self._find_end(buf, pos, final)
        if end > pos:
            self._take(buf[pos:end])
        if resume >= 0:
            self._end_value()
            return resume
        return end

    def _find_end(self, buf: str, pos: int, final: bool) -> tuple[int, int]:
        """(end of the text that surely belongs to the value, where to go on; -1 if the value goes on)."""
        program = self.program
        close = self._close
        tail = program.tail[0] if program.tail and program.after_tail is not None else ""
        at = buf.find(close, pos)
        tail_from = pos
        while True:
            # The tail is looked for before the closing tag only: what lies behind is another value's.
            tail_at = buf.find(tail, tail_from, at + len(tail) - 1 if at >= 0 else len(buf)) if tail else -1
            if tail_at >= 0:
                assert program.after_tail is not None
                decided = program.after_tail.match(buf, tail_at + len(tail), final)
                if decided is UNDECIDED:
                    return self._before(buf, pos, tail_at), -1
                if decided is not None:
                    self._repair(f"a missing {close!r}")
                    return self._before(buf, pos, tail_at), tail_at
                tail_from = tail_at + 1
            elif at >= 0:
                decided = program.after_close.match(buf, at + len(close), final)
                if decided is UNDECIDED:
                    return self._before(buf, pos, at), -1
                if decided is not None:
                    return self._before(buf, pos, at), at + len(close)
                tail_from = at
                at = buf.find(close, at + 1)
            else:
                break
        if final:
            return len(buf), -1
        if self._hold is None:
            strings = [close, tail] if tail else [close]
            self._hold = Tail(tuple(dict.fromkeys([*strings, *(self._param.trail + text for text in strings)])))
        return self._hold.safe_end(buf, pos), -1

    def _before(self, buf: str, pos: int, at: int) -> int:
        """Where a value ends that is closed at `at`: before the newline that the picture writes there, if it stands."""
        trail = self._param.trail
        while trail and at > pos and buf[at - 1] == trail[-1]:
            at -= 1
            trail = trail[:-1]
        return at

    def _take(self, text: str) -> None:
        self._parts.append(text)
        if self.streaming and self._text:
            self.out.append(json.quote(text)[1:-1])

    def _end_value(self) -> None:
        text = "".join(self._parts)
        key = self._key
        assert key is not None
        value: Any = text
        if not self._text:
            value = self._typed(key, text)
        self.arguments_[key] = value
        if self.streaming:
            self.out.append('"' if self._text else json.encode(value))
        self._key = None
        self._parts = []

    def _typed(self, key: str, text: str) -> Any:
        python = not self.program.syntax.is_json
        if self._param.types is not None and self._typed_by_attribute:
            if not self._json_type:
                return self.tool.retype(key, text) if self.tool is not None else text
            value = self._literal(text)
            if not isinstance(value, str) or self.tool is None:
                return value
        assert self.tool is not None
        return self.tool.convert_text(key, text, python=python)[0]

    def _literal(self, text: str) -> Any:
        """The value that a text is in the format's syntax; the text itself if it is none."""
        scanner = ValueScanner(self.program.syntax)
        end = scanner.scan(text, 0, True)
        if scanner.status == DONE and not text[end:].strip():
            try:
                return json.decode("".join(scanner.out))
            except ValueError:
                pass
        return text

    def _finish(self) -> None:
        self.status = DONE
        if self.streaming:
            self.out.append("}")

    def _repair(self, what: str) -> None:
        if what not in self.repairs:
            self.repairs.append(what)
