"""Tagged parameters: `<parameter=key>value</parameter>` and its relatives, read incrementally.

The hard question is where a value ends, because nothing in it is escaped. A closing tag closes the value only if what
follows it, after blanks, can continue the call: another parameter or the call's own tail. If a whole call tail comes
first and another call begins behind it, the closing tag was forgotten: the value ends before that tail, and this is
noted as a repair. Both decisions look a bounded distance ahead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from toolparse.codecs import json
from toolparse.codecs.matching import (
    MAX_BLANKS,
    MAX_NAME,
    MAX_TYPE,
    SLACK,
    SPACES,
    Rx,
    Tail,
    skip_blanks,
    starts_with_any,
    tail_of,
)
from toolparse.codecs.matching import MORE as UNDECIDED
from toolparse.codecs.scanner import DONE, SLIP, Scanner
from toolparse.codecs.values import ValueScanner
from toolparse.format import Syntax
from toolparse.picture import BLANKS, Around


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


#: The key's place in a closing tag.
KEY = "\x00"


# Up to the third letter of a closing tag's last word.
_ABBREVIATED: Any = re.compile(r"</?.*?[^\W_]{1,3}(?=[^\W_]*>\Z)", re.DOTALL)


class ParamProgram:
    """The picture of one parameter, compiled.

    `head` captures `key` and perhaps `type` and ends before the value; `lead` and `trail` are the blanks that the
    picture writes next to the value, `behind` those behind the closing tag; `close` is that tag with the key's place
    marked by `KEY`. `written`: the literals before the key, between the holes and behind the value, where the picture
    holds key, perhaps type, value. `literals`: whether strings stand in quotes, as in any other value. `slip`: whether
    to write it so is one.
    """

    def __init__(
        self,
        head: Rx,
        *,
        first: str,
        lead: str,
        trail: str,
        close: str,
        behind: str,
        types: dict[str, str] | None,
        written: tuple[str, ...] | None,
        literals: bool = False,
        slip: bool = False,
    ) -> None:
        self.head = head
        self.first = first
        self.lead = lead
        self.trail = trail
        self.close = close
        #: the blanks between a value and the call's tail, where the closing tag is missing
        self.open_trail = trail + behind
        self.types = types
        self.written = written
        self.literals = literals
        self.slip = slip
        self.stem = self.stem_of(close)
        #: the tag of its own in which a value stands, behind that of the key
        self.opener = ""
        if written is not None and "<" in written[-2]:
            self.opener = "<" + written[-2].rpartition("<")[2].strip(BLANKS)
        held = {"string": "text", "object": "object", "array": "array"}
        #: what an element holds by its type attribute, where that says anything but JSON
        self.kinds = {word: held.get(name, "json") for name, word in reversed((types or {}).items())}

    def close_of(self, key: str) -> str:
        """The closing tag of the parameter called `key`."""
        return self.close.replace(KEY, key)

    def opens_again(self, key: str, value: str) -> bool:
        """Whether the text of the parameter called `key` begins with the tag in which it stands."""
        if self.opener or not value.startswith(self.first):
            return bool(self.opener) and value.startswith(self.opener)
        match = self.head.final.match(value)
        return match is not None and match["key"] == key

    def stem_of(self, close: str) -> str:
        """How a closing tag of this parameter begins: a slip of it begins so, too."""
        if close[-1:] != ">" or len(close) <= 3:
            return ""
        begins = _ABBREVIATED.match(close) if KEY not in self.close else None
        return begins[0] if begins is not None else close[:-1]


class Plain(NamedTuple):
    """What stands around keys and values: before the first key, between the holes, behind a value, between two."""

    written: str  # before the first key, blanks included
    first: str
    between: tuple[str, ...]
    last: str
    last_bare: str
    joint: str


_NOT_IN_KEYS = ("<", ">", '"')
_KEY = re.compile(rf"[^{SPACES}<>\"]{{1,{MAX_NAME}}}").fullmatch


class TaggedProgram:
    """A run of parameters, compiled.

    `item`: an element of a list, where objects and lists are nested elements. `follows`: what may stand where
    parameters begin. `element_markers`: what the text of a nested element never holds.
    """

    def __init__(
        self,
        params: tuple[ParamProgram, ...],
        *,
        follows: tuple[str, ...],
        item: ParamProgram | None,
        after_close: Rx,
        after_least: int,
        tail: tuple[str, ...],
        after_tail: Rx | None,
        stops: tuple[str, ...],
        syntax: Syntax,
        wrap: Around | None,
        unescape: tuple[tuple[str, str], ...],
        element_markers: tuple[str, ...] = (),
    ) -> None:
        self.params = params
        self.follows = follows
        self.item = item
        self.after_close = after_close
        #: how much must at least follow a closing tag, before anything is decided
        self.after_least = after_least
        self.tail = tail
        self.after_tail = after_tail
        self.stops = stops
        self.syntax = syntax
        self.wrap = wrap
        self.unescape = unescape
        self.element_markers = element_markers
        self.plain = self._plain()
        #: how much text there must at least be where parameters begin, before anything is decided
        self.least = min(map(len, follows), default=0)
        #: the parameters by how they begin
        heads: dict[str, ParamProgram] = {}
        for param in params:
            heads.setdefault(param.head.pattern, param)
        self.heads = tuple(heads.values())
        #: what may begin in a nested element
        self.elements = (*((item,) if item is not None else ()), *params)
        #: closing tags that begin as the own one does, and go on: another picture's, or the tag twice
        own = params[0].close
        closes = dict.fromkeys(param.close for param in params if KEY not in param.close)
        self.longer = tuple(close for close in closes if close != own and close.startswith(own))
        if KEY not in own and len(own) > 3:
            self.longer = tuple(dict.fromkeys((*self.longer, own + own)))
        #: what may stand where parameters begin
        self.ahead = tail_of(follows)
        self.tags = self._tags()
        #: whether parameters that are written as in the picture can be read at once
        self.at_once = self.plain is not None or self.tags is not None

    def _plain(self) -> Plain | None:
        """The literals of parameters that can be cut apart in one go; None where they vary."""
        param = self.params[0]
        written = param.written
        alike = all(other.first == param.first and other.close.startswith(param.close) for other in self.params)
        if written is None or not alike or self.item is not None or not self.tail:
            return None
        first, *between, last = written
        bare, end = first.lstrip(BLANKS), last.rstrip(BLANKS)
        # What ends a key is nothing that a key holds.
        if not bare or not end or any(text.lstrip(BLANKS)[:1] not in _NOT_IN_KEYS for text in between):
            return None
        return Plain(first, bare, tuple(between), last, end, last + first)

    def _tags(self) -> tuple[Any, dict[str, tuple[ParamProgram, str | None, str | None]]] | None:
        """One pattern for all tags of nested elements; None where blanks stand next to values.

        The name of the last group of a match is `close`, that of an opening tag (with its parameter, and the groups of
        key and type), or `stray`, for a marker that is no tag.
        """
        heads = [param for param in self.elements if not param.slip]
        if self.item is None or not self.tail or self.wrap is not None or any(p.lead or p.trail for p in heads):
            return None
        patterns: list[str] = []
        params: dict[str, tuple[ParamProgram, str | None, str | None]] = {}
        for number, param in enumerate(heads):
            head = re.sub(r"\(\?P([<=])(\w+)", rf"(?P\1\2_{number}", param.head.pattern.removeprefix(SLACK))
            patterns.append(f"(?P<open_{number}>{head})")
            key, kind = (f"{name}_{number}" if f"<{name}_{number}>" in head else None for name in ("key", "type"))
            params[f"open_{number}"] = param, key, kind
        closes = dict.fromkeys(re.escape(param.close).replace(re.escape(KEY), "[^<>]{1,256}") for param in heads)
        patterns.append(f"(?P<close>{'|'.join(closes)})")
        patterns.append(f"(?P<stray>{'|'.join(map(re.escape, self.element_markers)) or '(?!)'})")
        return re.compile("|".join(patterns), re.DOTALL), params


# How the text of a value becomes the value.
_TEXT, _CONVERT, _RETYPE, _LITERAL, _QUOTED = range(5)


def _way(param: ParamProgram, tool: ParameterTypes | None, key: str, declared: str | None) -> int:
    """How a value is read: the schema comes first; a type attribute decides where it leaves a choice or is silent."""
    if param.literals:
        return _QUOTED
    admitted = "unknown" if tool is None else tool.admits(key)
    types = param.types
    if types is None or declared is None:
        return _CONVERT if admitted == "typed" else _TEXT
    said_text = declared == types.get("string", "string")
    if admitted == "text" or (said_text and admitted == "unknown"):
        return _TEXT
    return _RETYPE if said_text else _LITERAL


def _value_of(text: str, key: str, way: int, tool: ParameterTypes | None, syntax: Syntax) -> Any:
    """The value that a text stands for."""
    if way == _TEXT:
        return text
    if way == _RETYPE:
        return tool.retype(key, text) if tool is not None else text
    if way in (_LITERAL, _QUOTED):
        value = literal(text, syntax)
        if not isinstance(value, str) or tool is None or (way == _QUOTED and value != text):
            return value
    assert tool is not None
    return tool.convert_text(key, text, python=not syntax.is_json)[0]


def _before(buf: str, pos: int, at: int, trail: str) -> int:
    """Where a value ends that is closed at `at`: before the blanks that the picture writes there, if they stand."""
    while trail and at > pos and buf[at - 1] == trail[-1]:
        at -= 1
        trail = trail[:-1]
    return at


def literal(text: str, syntax: Syntax) -> Any:
    """The value that a text is in a syntax; the text itself if it is none."""
    if syntax.is_json:
        try:
            return json.decode(text)
        except ValueError:
            pass
    scanner = ValueScanner(syntax)
    end = scanner.scan(text, 0, True)
    if scanner.status == DONE and not text[end:].strip():
        try:
            return json.decode("".join(scanner.out))
        except ValueError:
            pass
    return text


def read_tagged(
    program: TaggedProgram, text: str, pos: int, end: int, tool: ParameterTypes | None
) -> dict[str, Any] | None:
    """The parameters between `pos` and the call's tail at `end`, cut apart in one go.

    None where anything is written otherwise than in the picture: the TaggedScanner reads that. Linear.
    """
    plain = program.plain
    if plain is None:
        return None
    written, first, (between, *more), last, bare, joint = plain
    if text.startswith(written, pos):
        start = pos + len(written)
    else:
        start = skip_blanks(text, pos)
        if start == end:
            return {}
        if not text.startswith(first, start):
            return None
        start += len(first)
    if text.endswith(last, start, end):
        stop = end - len(last)
    else:
        stop = start + len(text[start:end].rstrip(BLANKS)) - len(bare)
        if not text.startswith(bare, stop) or end - stop - len(bare) > MAX_BLANKS:
            return None
    pieces = text[start:stop].split(joint)
    param = program.params[0]
    if text.count(param.stem or param.close, start, end) != len(pieces):
        return None
    try:
        arguments: dict[str, Any] = dict([piece.split(between, 1) for piece in pieces])
    except ValueError:  # a piece without what stands between key and value
        return None
    keys = "_".join(arguments)
    # All keys are looked at together, as a name if they can be that: no other test is as fast.
    if not ((len(keys) < MAX_NAME and f"_{keys}".isidentifier()) or all(map(_KEY, arguments))):
        return None
    if len(arguments) != len(pieces) or "" in arguments:
        return None
    if program.unescape and any(entity in keys for _, entity in program.unescape):
        return None
    if program.wrap is not None and program.wrap.before in text[start:stop]:
        return None
    simple = not more and not param.literals
    if tool is None and simple:
        return arguments
    for key, value in arguments.items():
        if simple and tool.admits(key) != "typed":  # type: ignore[union-attr]
            continue
        declared = None
        if more:
            declared, found, value = value.partition(more[0])
            if not found or not declared.isidentifier() or len(declared) > MAX_TYPE:
                return None
        way = _way(param, tool, key, declared)
        arguments[key] = _value_of(value, key, way, tool, program.syntax)
        if way == _LITERAL and arguments[key] == value:
            return None
    return arguments


def unescaped(text: str, entities: Iterable[tuple[str, str]]) -> str:
    """A text with its entities replaced."""
    for char, entity in entities:
        text = text.replace(entity, char)
    return text


_WORDS: Any = re.compile(r"\w+")
_NEAR, _PIECES = 96, 8  # characters of an opening tag that are looked at, and how often


def swallowed(program: TaggedProgram, arguments: dict[str, Any], tool: ParameterTypes) -> list[tuple[str, str]]:
    """Issues of texts that hold another declared parameter, or their own opening tag once more.

    The text's closing tag is missing, or there, and the opening tag behind it is damaged.
    """
    own = program.params[0]
    found: list[tuple[str, str]] = []
    for key, value in arguments.items():
        if type(value) is not str:
            continue
        names: dict[str, None] = {}
        for param in program.heads:
            if len(param.first) > 2 and param.first in value:
                names.update((match["key"], None) for match in param.head.final.finditer(value))
        close = own.close_of(key)
        if close in value:
            for piece in value.split(close, _PIECES)[1:]:
                for word in _WORDS.findall(piece[:_NEAR] + " " + piece[:_NEAR].lower()):
                    names.update((word[at:], None) for at in range(max(1, len(word) - 2)))
        elif own.opens_again(key, value):
            found.append(("invalid-value", f"arguments.{key}: its text begins with its own opening tag"))
        found.extend(
            ("missing-argument", f"arguments.{name}: it stands in the text of {key!r}, which is not closed before it")
            for name in names
            if name not in arguments and tool.admits(name) != "unknown"
        )
    return found


class ArgumentScanner(Scanner):
    """What scanners share that read one argument after the other.

    `arguments` grows with each complete argument; `out` holds the same as pieces of JSON text when `streaming`.
    """

    def __init__(self, tool: ParameterTypes | None, *, streaming: bool) -> None:
        super().__init__()
        self.tool = tool
        self.streaming = streaming
        self.arguments_: dict[str, Any] = {}
        if streaming:
            self.out.append("{")
        self._key: str | None = None
        self._text = False
        self._needs = 0  # so much text is to be seen before anything more is decided
        self._parts: list[str] = []

    def least_needed(self, held: str) -> int:
        """How many characters must at least follow on what was left standing, before it says anything."""
        return self._needs - len(held)

    def say_key(self, key: str) -> None:
        """An argument begins."""
        if key in self.arguments_:
            self.duplicates = True
        if self.streaming:
            self.out.append((", " if self.arguments_ else "") + json.quote(key) + ": ")

    def arguments(self) -> dict[str, Any]:
        """The arguments that were read."""
        return self.arguments_

    def partial(self) -> dict[str, Any]:
        """The complete arguments."""
        return self.arguments_


#: What may stand in a line that begins like a closing tag and is none.
_LONGEST_SLIP = 32
_TAG_REST: Any = re.compile(rf"[^<>\n]{{0,{_LONGEST_SLIP}}}+>?")


class TaggedScanner(ArgumentScanner):
    """Scans a run of parameters up to the call's tail, which is left standing."""

    def __init__(self, program: TaggedProgram, tool: ParameterTypes | None, *, streaming: bool) -> None:
        super().__init__(tool, streaming=streaming)
        self.program = program
        self._param = program.params[0]
        self._way = _TEXT
        self._at_lead = False
        self._quotes_tag = False  # whether the value holds its opening tag
        self._close = ""
        self._stem = ""  # how a line begins that is a slip of it
        self._trail = self._open_trail = ""  # the blanks between the value and its closing tag, or the call's
        self._hold: Tail | None = None

    def breakers(self) -> frozenset[str] | None:
        """Inside a value: the characters that could end it, or that JSON escapes."""
        if self._hold is None or self._key is None:
            return None
        return self._hold.plain if self._text else self._hold.firsts

    def verbatim_prefix(self, text: str) -> int:
        """How much of a text surely belongs to the value; -1 if it perhaps ends it."""
        tail = self.program.tail
        if self._key is None or self._hold is None or (self._stem or self._close) in text or (tail and tail[0] in text):
            return -1
        return self._safe_end(text, 0)

    def _safe_end(self, text: str, pos: int) -> int:
        """How much surely belongs to the value, noting how much is to be seen of what perhaps ends it."""
        assert self._hold is not None
        end = self._hold.safe_end(text, pos)
        self._needs = len(text) - end + self._hold.missing(text[end:]) if end < len(text) else 0
        return end

    def take_verbatim(self, text: str) -> str:
        """A piece of the value; returns it as it is said, '' if that has to wait."""
        self._parts.append(text)
        if not self._text:
            return ""
        if not self._hold.plain.isdisjoint(text):  # type: ignore[union-attr]
            text = json.quote(text)[1:-1]
        self.out.append(text)
        return text

    def scan(self, buf: str, pos: int, final: bool) -> int:
        """Consume from `pos`; returns the position up to which `buf` was consumed."""
        self._needs = 0
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
            self._needs = program.least
            return pos
        stop = starts_with_any(program.stops, buf, pos, final)
        if isinstance(stop, str):
            self._finish()
            return pos
        return self._next_param(program.heads, buf, pos, final, undecided=stop is UNDECIDED)

    def _next_param(self, params: tuple[ParamProgram, ...], buf: str, pos: int, final: bool, *, undecided: bool) -> int:
        """One of some parameters begins here. `undecided`: whether something else does, perhaps."""
        program = self.program
        for param in params:
            match = param.head.match(buf, pos, final)
            if match is UNDECIDED:
                undecided = True
            elif match is not None and not undecided:
                groups = match.groupdict()
                self._param = param
                if param.slip:
                    self.repair(SLIP)
                key = unescaped(groups["key"].strip(), program.unescape) if "key" in groups else "item"
                self._begin(key, groups.get("type"))
                return match.end()  # type: ignore[no-any-return]
        if not undecided:
            return self.fail(f"expected a parameter, found {buf[pos]!r}", pos)
        self._needs = program.ahead.missing(buf[pos:]) + len(buf) - pos
        return pos

    def _begin(self, key: str, declared: str | None) -> None:
        self._key = key
        self._way = _way(self._param, self.tool, key, declared)
        self._text = self._way == _TEXT
        self._close = self._param.close_of(key)
        self._stem = self._param.stem_of(self._close)
        self._trail, self._open_trail = self._param.trail, self._param.open_trail
        self._hold = None
        self._at_lead = True
        self._quotes_tag = False
        self._parts = []
        self.say_key(key)
        if self.streaming and self._text:
            self.out.append('"')

    def _value(self, buf: str, pos: int, final: bool) -> int:
        program = self.program
        if self._at_lead:
            if program.wrap is not None:
                opener = program.wrap.before
                if buf.startswith(opener, pos):
                    self._close = program.wrap.after + self._close
                    self._stem = ""
                    self._at_lead = False
                    return pos + len(opener)
                if not final and opener.startswith(buf[pos:]):
                    return pos
            if self._param.lead == "\n" and buf.startswith("\r", pos):  # its lines may end as in files of Windows
                if pos + 1 == len(buf) and not final:
                    return pos
                if buf.startswith("\n", pos + 1):
                    pos += 1
                    self._trail, self._open_trail = (t.replace("\n", "\r\n") for t in (self._trail, self._open_trail))
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
        close, stem = self._close, self._stem
        tail = program.tail[0] if program.tail and program.after_tail is not None else ""
        at = buf.find(stem or close, pos)
        tail_from = pos
        while True:
            # The tail is looked for before the closing tag only: what lies behind is another value's.
            tail_at = buf.find(tail, tail_from, at + len(tail) - 1 if at >= 0 else len(buf)) if tail else -1
            if tail_at >= 0:
                assert program.after_tail is not None
                decided = program.after_tail.match(buf, tail_at + len(tail), final)
                if decided is UNDECIDED:
                    return _before(buf, pos, tail_at, self._open_trail), -1
                if decided is not None:
                    self.repair(f"a missing {close!r}")
                    return _before(buf, pos, tail_at, self._open_trail), tail_at
                tail_from = tail_at + 1
            elif at >= 0:
                behind = at + len(close)
                whole = not stem or buf.startswith(close, at)
                if not whole:
                    behind = self._broken_close(buf, pos, at, final)
                    if behind < 0:
                        return _before(buf, pos, at, self._trail), -1
                decided = program.after_close.match(buf, behind, final) if behind else None
                if decided is None and whole and program.longer:
                    decided, behind = self._longer_close(buf, pos, at, behind, final)
                if decided is UNDECIDED:
                    end = _before(buf, pos, at, self._trail)
                    self._needs = behind + program.after_least - end
                    return end, -1
                if decided is not None:
                    if not whole:
                        self.repair(f"{buf[at:behind].rstrip()!r} for {close!r}")
                    return _before(buf, pos, at, self._trail), behind
                tail_from = at
                at = buf.find(stem or close, at + 1)
            else:
                break
        if final:
            return len(buf), -1
        if self._hold is None:
            ends = ((stem or close, self._trail), (tail, self._open_trail))
            self._hold = tail_of(tuple(b[n:] + end for end, b in ends if end for n in range(len(b) + 1)))
        return self._safe_end(buf, pos), -1

    def _longer_close(self, buf: str, pos: int, at: int, behind: int, final: bool) -> tuple[Any, int]:
        """Whether a closing tag that begins with this one and goes on closes the value; where it ends."""
        longer = starts_with_any(self.program.longer, buf, at, final)
        if longer is UNDECIDED:
            return UNDECIDED, behind
        if not isinstance(longer, str) or self._quotes_tag:
            return None, behind
        decided = self.program.after_close.match(buf, at + len(longer), final)
        if decided is not None and decided is not UNDECIDED:
            # Where the value holds the opening tag too, the closing one is its own.
            self._quotes_tag = self._param.first in "".join(self._parts) + buf[pos:at]
            if self._quotes_tag:
                return None, behind
            self.repair(SLIP)
        return decided, at + len(longer)

    def _broken_close(self, buf: str, pos: int, at: int, final: bool) -> int:
        """Where a slip of the closing tag ends, -1 if that is not yet known, 0 if it is none.

        It stands where the picture has the tag: in a line of its own, or behind the value. There it must end as a tag.
        """
        trail = self._trail
        match = _TAG_REST.match(buf, at + len(self._stem))
        end: int = match.end()
        closed = buf[end - 1] == ">"
        name, own = buf[at:end].rstrip("> \t"), self._close[:-1]
        if not (name.startswith(own) or own.startswith(name)):
            return 0
        if end == len(buf) and not (final or closed) and end - at < len(self._stem) + _LONGEST_SLIP:
            return -1
        in_line = not trail or (not buf.endswith(trail, pos, at) and (at > pos or bool(self._parts)))
        return 0 if in_line and (trail or not closed) else end

    def _take(self, text: str) -> None:
        self._parts.append(text)
        if self.streaming and self._text:
            self.out.append(json.quote(text)[1:-1])

    def _end_value(self) -> None:
        text = "".join(self._parts)
        key = self._key
        assert key is not None
        value = text if self._text else _value_of(text, key, self._way, self.tool, self.program.syntax)
        self.arguments_[key] = value
        if self._way == _LITERAL and value == text and (self.tool is None or self.tool.admits(key) == "unknown"):
            self.mistyped.append(key)
        if self.streaming:
            self.out.append('"' if self._text else json.encode(value))
        self._key = None
        self._parts = []

    def _finish(self) -> None:
        self.status = DONE
        if self.streaming:
            self.out.append("}")
