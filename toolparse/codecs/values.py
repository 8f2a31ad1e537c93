"""One incremental scanner for every spelling of values: JSON, Python literals, keyword arguments, literal maps.

Theory of operation. The scanner eats a value token by token and writes the same value as JSON text into `out`; the
arguments of a call are then the decoding of that text, and the pieces of it are what a stream emits. So there is one
way to the value, whatever the syntax and however the text was cut. A token that JSON would not allow (a raw newline
in a string, a trailing comma, a single-quoted string, `True`) is written as JSON would have it; where the declared
syntax is JSON this is noted in `repairs`.

`scan(buf, pos, final)` consumes what it can and returns the new position. Nothing is looked at twice: a token cut by
the end of `buf` is kept in `_pieces`. Time and memory are linear in the text.

A `Wrapper` (`{"name": ..., "arguments": ...}`) is the same scan with watched paths: the value at the path of the name
goes to the name, that of the arguments to `out`, everything else nowhere.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from toolparse.codecs import json
from toolparse.codecs.arithmetic import arithmetic
from toolparse.codecs.matching import MAX_BLANKS, WS, Rx, skip_blanks, tail_of
from toolparse.codecs.matching import MORE as UNDECIDED
from toolparse.codecs.scanner import DONE, MORE, Scanner
from toolparse.codecs.wrapper import WrapperPaths
from toolparse.format import Syntax
from toolparse.picture import BLANKS

# What the innermost container expects next.
_VALUE, _FIRST_VALUE, _KEY, _FIRST_KEY, _COLON, _NEXT = range(6)

_TOKEN = re.compile(r"[^ \t\r\n,:=\[\]{}()\"'<>]+")
_LOOSE_NUMBER = re.compile(r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?")
_HEX = re.compile(r"[+-]?0[xX][0-9a-fA-F]+")
_WORDS = {word: json.encode(value) for word, value in json.WORDS.items()}
_PREFIXES = frozenset({"u", "U"})
_OPERATORS = frozenset("+-*/%")
_PLAIN = {'"': re.compile(r'[^"\\\x00-\x1f]+'), "'": re.compile(r"[^'\"\\\x00-\x1f]+")}
_TRIPLE = ("'''", '"""')
_PLAIN |= {quote: _PLAIN[quote[0]] for quote in _TRIPLE}
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[^ux])", re.DOTALL)
_STRING_TEXT = re.compile(r'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+((?:\\(?:u[0-9a-fA-F]{0,3})?)?)')
_JSON_ESCAPES = frozenset('"\\/bfnrt')
_BRACKETS = ("]", "}", ")")
_BEFORE_VALUE = frozenset(':=,[({"')
_BEGINS_VALUE = frozenset("\"'[{")
_BEHIND_VALUE = frozenset(",;]})")
_SLIPS = (",", *_BRACKETS)
_BEGUN = re.compile(r'[ \t\r\n]*(?:\{[ \t\r\n]*(?:"[^"]*(?:"[^"]*(?:"[^"]*"?)?)?)?)?')  # of a wrapper, at most
_GOES_ON = re.compile(r'[ \t\r\n]*(?:,[ \t\r\n]*(?:"[^"]*(?:"[^"}]*)?)?)?')
_HELD = 64  # characters of a wrapper that may wait for its name
_CLOSER = {"{": "}", "[": "]", "(": ")"}


@lru_cache(maxsize=64)
def _meaningful(quote: str) -> frozenset[str]:
    return frozenset({quote[0], '"', "\\", *map(chr, range(32))})


@lru_cache(maxsize=256)
def _after_string(quote: str, closer: str, inner: bool, stops: tuple[str, ...]) -> Rx:
    """What follows a string in quotes of several characters that ends here: what can go on in its container.

    `closer`: the container's, '' where there is none; `inner`: whether it stands in another one. A look-ahead that
    would be longer than it may be counts as a match.
    """
    ends = "|".join(map(re.escape, stops)) or "(?!)"
    blanks, mark = rf"{WS}{{0,{MAX_BLANKS}}}+", re.escape(quote)
    word = r"[^ \t\r\n,:=\[\]{}()\"'<>]"
    either = f"(?:{mark}|[\"'])"
    quoted = rf"{either}(?:(?!{mark}|[\"']).){{0,128}}+(?:{either}{blanks}(?:[:=]|{WS})|.)"
    key = f"{word}{{1,128}}+(?:{blanks}(?:[:=]|{WS})|{word})|{quoted}"
    item = f"{mark}|[\"'{{\\[(]|{word}{{1,128}}+(?:{blanks}(?:[,\\])]|{WS})|{word})"
    another = f"{key}" if closer in ("}", "=)") else item
    shut = re.escape(closer[-1:]) if closer else "(?!)"
    behind = rf"{blanks}(?:[,}}\])]|{ends}|{WS})" if inner else rf"{blanks}(?:{ends}|{WS})" if stops else ""
    pattern = rf"{blanks}(?:,{blanks}(?:{another}|{shut}|{WS})|{shut}{behind}|{ends}|{WS})"
    # Where the text ends, what could have gone on counts: just what a stream would have waited for.
    begun = "|".join(re.escape(stop[:size]) for stop in stops for size in range(len(stop) - 1, 0, -1)) or "(?!)"
    return Rx(pattern, at_end=rf"{blanks}(?:,{blanks}{word}{{0,128}}+{blanks}|(?:{shut})?{blanks}(?:{begun})?)\Z")


@lru_cache(maxsize=64)
def _parted_badly(quote: str, in_map: bool) -> Rx:
    """What follows a string that ends where no comma, or more than one, parts it from what is next.

    `goes_on`: a key with its colon; what else there is, is no text either, where the quote can't open a quotation.
    """
    mark, blanks = re.escape(quote), rf"{WS}{{0,{MAX_BLANKS}}}+"
    junk = rf"(?:{WS}|[,;|&{{}}\[\]()]){{1,64}}+"
    if not in_map:
        return Rx(f"(?P<other>{junk}{mark}|{mark}\\w|[^\\w,]{{0,2}},[^\\w,]{{0,2}}{mark})")
    word, either = r"[^ \t\r\n,:;=\[\]{}()\"'<>]{1,128}+", f"(?:{mark}|[\"'])"
    key = f"(?:{either}{word}{either}|{word}){blanks}"
    goes_on = rf"(?:{WS}|[,;]){{0,64}}+{key}[:=]{blanks}(?:{either}|[\[{{\d-])"
    return Rx(f"(?P<goes_on>{goes_on})|(?P<other>{junk}{key}[:=]?{blanks}{mark})")


class ValueScanner(Scanner):
    """Scans one value. `kwargs`: the value is a run of `key=value` up to a closing bracket that is left standing;
    `order`: the keys of those that are written without one.

    After `scan` returns, `status` is MORE, DONE or ERROR; `error` says what was wrong. `out` holds the pieces of the
    arguments as JSON text. With a `watch`, `name` and `id` are set as soon as they are known.
    """

    def __init__(
        self,
        syntax: Syntax,
        *,
        watch: WrapperPaths | None = None,
        kwargs: bool = False,
        stops: tuple[str, ...] = (),
        order: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.syntax = syntax
        self.strict = syntax.is_json and not kwargs
        self.watch = watch
        self.kwargs = kwargs
        self.stops = stops
        self.order = order
        self._placed = 0  # how many arguments stand without a key
        self.arguments_seen = watch is None
        self._stack: list[str] = []
        self._state = _VALUE
        self._comma = False
        self._quote = ""  # inside a string: its closing quote
        self._python = not self.strict and syntax.escapes and "'" in syntax.quotes
        self._joins = False  # behind a string that another one may go on
        self._quotes = ('"', "'") if self.strict else (*_TRIPLE, *syntax.quotes) if self._python else syntax.quotes
        self._quote_starts = "".join(quote[0] for quote in self._quotes) + ("\"'" if syntax.own_quotes else '"')
        self._raw_string = False
        self._slips = syntax.own_quotes and not kwargs  # whether other quotes and brackets are slips
        self._keyed = kwargs  # whether the outermost container is a map in round brackets
        self._opened = False  # whether one of them seems to begin a value, or to end one
        self._inside = 0  # how many quotes stand inside the string in hand
        self._string_from = 0  # the pieces of the string in hand, from the last quote inside it on
        self._pieces: list[str] = []  # a token cut by the end of the buffer
        self._discard: list[str] = []
        self._sink = self.out if watch is None else self._discard
        self._key: list[str] | None = None
        self._path: list[str] = []
        self._capture = ""
        self._capture_depth = 0
        self._safe = (0, 0)  # up to where `out` holds whole elements: (pieces, depth)
        self.renamed = False  # whether the name stands under another key than the picture's
        self._unclaimed: list[str] = []  # the keys of the wrapper that are none of its picture's
        if kwargs:
            self._stack.append(")")
            self._state = _FIRST_KEY
            self.out.append("{")
            self._safe = (1, 1)

    # -- what the reader asks ------------------------------------------------------------------------------------

    def breakers(self) -> frozenset[str] | None:
        """Inside a string of the arguments: the characters that mean something there, or that JSON escapes."""
        # What arguments are that are no object is said at the end.
        if not self._quote or self._sink is not self.out or self.out[0] != "{":
            return None
        return _meaningful(self._quote)

    def verbatim_prefix(self, text: str) -> int:
        """How much of a text belongs to the string just as it is written; -1 if it does not end within an escape."""
        if self._quote != '"' or self._sink is not self.out or not self.syntax.escapes or self._raw_string:
            return -1
        match = _STRING_TEXT.fullmatch(text)
        return match.start(1) if match is not None else -1

    def least_needed(self, held: str) -> int:
        """How many characters must at least follow on what was left standing, before it says anything."""
        watch, state = self.watch, self._state
        if watch is None or self._capture or self.arguments_seen:
            return 0
        if self._quote:
            key = self._key  # of which each piece adds one; no key that means something is that long
            return (
                watch.starts.get("".join(key)[1:], 0) if key is not None and self._sink is key and len(key) < 32 else 0
            )
        if state == _COLON or (state == _VALUE and self._stack):
            return 0
        return watch.starts.get("", 0) + 1 + (state not in (_KEY, _FIRST_KEY)) - len(held)

    def take_verbatim(self, text: str) -> str:
        """A piece of the string; returns it as it is said."""
        self.out.append(text)
        return text

    def partial(self) -> dict[str, Any]:
        """The arguments as far as they were completely read."""
        pieces, depth = self._safe
        if not self.arguments_seen or not pieces:
            return {}
        base = self._capture_depth if self.watch is not None else 0
        closers = [self._closer_text(level) for level in range(base, depth)]
        try:
            value = json.decode("".join((*self.out[:pieces], *reversed(closers))))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def _closer_text(self, level: int) -> str:
        """How the container at a depth is closed in JSON."""
        return "}" if self._is_map(level) else "]"

    def _is_map(self, level: int) -> bool:
        """Whether the container at a depth holds keys."""
        return self._stack[level] == "}" or (self._keyed and level == 0)

    def _in_map(self) -> bool:
        """Whether the innermost container holds keys."""
        return bool(self._stack) and self._is_map(len(self._stack) - 1)

    def arguments(self) -> dict[str, Any]:
        """The arguments of a value that was read to its end. Raises ValueError when they are no object."""
        text = "".join(self.out)
        if self.watch is not None and not self.arguments_seen:
            if self._unclaimed:
                raise ValueError(f"no arguments are given, but {self._unclaimed[0][:40]!r}, which means nothing here")
            return {}
        value = json.decode(text)
        if isinstance(value, str) and self.watch is None:
            pieces = self._inner(value)
            if not pieces:
                raise ValueError("the arguments are a string that does not hold a JSON object")
            value = json.decode("".join(pieces))
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError(f"arguments must be an object, not {_kind(value)}")
        if not json.each_key_once(text, value) and json.has_duplicate_keys(text):
            self.duplicates = True
        return value

    def misplaced(self, tool: Any) -> list[tuple[str, str]]:
        """Those that stand beside the arguments, whose brace was closed before them."""
        return [
            ("missing-argument", f"arguments.{key}: it stands beside the arguments, not in them")
            for key in dict.fromkeys(self._unclaimed)
            if tool.admits(key) != "unknown"
        ]

    # -- the scan -------------------------------------------------------------------------------------------------

    def scan(self, buf: str, pos: int, final: bool) -> int:
        """Consume from `pos`; returns the position up to which `buf` was consumed."""
        self._discard.clear()
        end = len(buf)
        if not self.arguments_seen and self.strict and self.watch is not None and self.watch.pair is not None:
            pos, waits = self._open_wrapper(buf, pos, final)
            if waits:
                return pos
        while pos < end and self.status == MORE:
            if self._quote:
                before = pos
                pos = self._string(buf, pos, end, final)
                if self._quote and (pos in (end, before) or not buf.startswith(self._quote, pos - len(self._quote))):
                    return pos
                continue
            if self._pieces:
                before = pos
                pos = self._token(buf, pos, final)
                if self.status != MORE or (self._pieces and pos in (end, before)):
                    return pos
                continue
            char = buf[pos]
            if char in BLANKS:
                pos = skip_blanks(buf, pos)
                if pos == end:
                    break
                char = buf[pos]
            if self._joins and char not in "'\"":
                self._close_string()
                if self.status != MORE:
                    return pos
            state = self._state
            if state == _NEXT and char not in _BEHIND_VALUE and self._lacks_comma(buf, pos, char):
                self.repair("a missing comma")
                self._comma = True
                self._state = state = _KEY
            if char in _BEGINS_VALUE and self._takes_place(state):
                state = _VALUE
            if char in self._quote_starts:
                quote = '"' if char == '"' and self.strict else self._opening_quote(buf, pos, end, final)
                if quote is None:
                    return pos
                if quote and self._joins:
                    self.repair("strings in a row, which are one")
                    self._joins = False
                    pos += len(quote)
                    self._quote = quote
                    continue
                if quote:
                    if not self._begin_scalar(state, string=True):
                        return self._unexpected(buf, pos, final)
                    pos += len(quote)
                    self._quote = quote
                    if self.strict and quote != '"':
                        self.repair("single quotes")
                    elif self._slips and len(quote) == 1:
                        self.repair(f"the quote {quote!r}")
                    self._string_from, self._inside = len(self._sink), 0
                    self._sink.append('"')
                    continue
            if char in "{[(":
                if char == "(" and self.strict:
                    return self._unexpected(buf, pos, final)
                if not self._begin_container(char, state):
                    return self._unexpected(buf, pos, final)
                pos += 1
                continue
            if char in "}])":
                if not self._close(char, state):
                    return self._unexpected(buf, pos, final)
                if self.status != MORE:
                    return pos if self.kwargs and not self._stack else pos + 1
                pos += 1
                continue
            if char == "," or (char == ";" and state == _NEXT):
                in_map = self._in_map()
                if state != _NEXT and not (state == _KEY and self._comma):
                    return self._unexpected(buf, pos, final)
                if char == ";" and not in_map:
                    return self._unexpected(buf, pos, final)
                if char == ";" or state == _KEY:
                    self.repair("';' for ','" if char == ";" else "a comma too many")
                self._comma = True
                self._state = _KEY if in_map else _VALUE
                pos += 1
                continue
            if char in ":=":
                wanted = "=" if self.kwargs and len(self._stack) == 1 else ":"
                if state != _COLON or (char != wanted and not self._slips):
                    return self._unexpected(buf, pos, final)
                if char != wanted:
                    self.repair(f"{char!r} for {wanted!r}")
                self._sink.append(": ")
                self._state = _VALUE
                self._end_key()
                pos += 1
                continue
            match = _TOKEN.match(buf, pos)
            if match is None or state in (_COLON, _NEXT):
                return self._unexpected(buf, pos, final)
            self._pieces.append(match.group())
            pos = match.end()
            if pos == end and not final:
                return pos
        if final and self._pieces:
            self._end_token(buf, pos)
        if final and self._joins:
            self._close_string()
        return pos

    def _token(self, buf: str, pos: int, final: bool) -> int:
        """A bare token goes on, or ends; in Python operators may stand between blanks."""
        match = _TOKEN.match(buf, pos)
        if match is not None:
            self._pieces.append(match.group())
            pos = match.end()
        if pos == len(buf):
            return pos if not final else self._end_token(buf, pos)
        if self.kwargs and self._state in (_VALUE, _FIRST_VALUE) and buf[pos] in BLANKS:
            at = skip_blanks(buf, pos)
            if at == len(buf) and not final and at - pos <= MAX_BLANKS:
                return pos
            if buf[at : at + 1] in _OPERATORS or (at < len(buf) and self._pieces[-1][-1] in _OPERATORS):
                self._pieces.append(" ")
                return at
        if self.order and self._state in (_KEY, _FIRST_KEY):
            at = skip_blanks(buf, pos)
            if at == len(buf) and not final and at - pos <= MAX_BLANKS:
                return pos
            token = "".join(self._pieces)
            named = at - pos <= MAX_BLANKS and buf.startswith("=", at)
            if not named and (token in json.WORDS or token[0] in "+-.0123456789"):
                self._takes_place(self._state)
        return self._end_token(buf, pos)

    def _open_wrapper(self, buf: str, pos: int, final: bool) -> tuple[int, bool]:
        """Take the usual beginning of a wrapper in two steps. Returns the position, and whether to wait for more."""
        watch = self.watch
        assert watch is not None
        opening = watch.opening()
        assert opening is not None
        assert watch.pair is not None
        start, middle = opening
        if not self._stack:
            match = start.match(buf, pos)
            if match is None:  # a name is said when it is complete, not before
                return pos, not final and _goes_on(_BEGUN, buf, pos)
            self._stack.append("}")
            self._path = [watch.pair[0]]
            self.name = match[1]
            self._state = _NEXT
            pos = match.end()
        if self.name is None or self._state != _NEXT or len(self._stack) != 1:
            return pos, False
        match = middle.match(buf, pos)
        if match is None:
            return pos, not final and _goes_on(_GOES_ON, buf, pos)
        self._path = [watch.pair[1]]
        self.arguments_seen = True
        self._capture, self._capture_depth = "arguments", 1
        self._sink = self.out
        self._stack.append("}")
        self.out.append("{")
        self._state = _FIRST_KEY
        self._safe = (1, 2)
        return match.end(), False

    def _lacks_comma(self, buf: str, pos: int, char: str) -> bool:
        """Whether the next key of a map begins where a comma is due."""
        if not self._in_map():
            return False
        if char not in self._quote_starts and (self.strict or not (char.isalpha() or char == "_")):
            return False
        return not any(stop.startswith(buf[pos : pos + len(stop)]) for stop in self.stops)

    def _takes_place(self, state: int) -> bool:
        """Whether an argument without a key begins, which is the next that is declared: then it has it now."""
        if not self.order or state not in (_KEY, _FIRST_KEY) or len(self._stack) != 1:
            return False
        if self._placed == len(self.order):
            return False
        self._flush_comma()
        self._sink.append(json.quote(self.order[self._placed]) + ": ")
        self._placed += 1
        self._state = _VALUE
        self.repair("arguments without their names")
        return True

    def _opening_quote(self, buf: str, pos: int, end: int, final: bool) -> str | None:
        """The quote that begins at `pos`, '' if none does, None if more text is needed to tell."""
        for quote in self._quotes:
            if buf.startswith(quote, pos):
                return quote
            if not final and end - pos < len(quote) and quote.startswith(buf[pos:]):
                return None
        return buf[pos] if buf[pos] == '"' or (self._slips and buf[pos] == "'") else ""

    # -- strings --------------------------------------------------------------------------------------------------

    def _string(self, buf: str, pos: int, end: int, final: bool) -> int:
        quote = self._quote
        if quote not in _PLAIN or not self.syntax.escapes or self._raw_string:
            return self._verbatim_string(buf, pos, end, final)
        plain = _PLAIN[quote]
        append = self._sink.append
        while pos < end:
            match = plain.match(buf, pos)
            if match is not None:
                append(match.group())
                pos = match.end()
                if pos == end:
                    return pos
            char = buf[pos]
            if char == quote[0]:
                if buf.startswith(quote, pos):
                    self._end_string()
                    return pos + len(quote)
                if not final and quote.startswith(buf[pos:]):
                    return pos
            if char == "\\":
                escape = _ESCAPE.match(buf, pos)
                if escape is None:
                    if end - pos < 6 and not final:
                        return pos
                    append("\\\\")
                    self._unlike_json("a stray backslash")
                    pos += 1
                    continue
                append(self._escape(escape.group()))
                pos = escape.end()
            elif char == '"':
                append('\\"')
                pos += 1
            else:
                append(json.quote(char)[1:-1])
                self._unlike_json("a raw control character in a string")
                pos += 1
        return pos

    def _escape(self, text: str) -> str:
        letter = text[1]
        if letter in _JSON_ESCAPES or letter == "u":
            return text
        if letter == "'":
            self._unlike_json("an escaped single quote")
            return "'"
        self._unlike_json("an escape that JSON does not know")
        if letter == "x":
            return "\\u00" + text[2:]
        if not self.strict:
            if letter == "\n":
                return ""
            if letter in "av0":
                return {"a": "\\u0007", "v": "\\u000b", "0": "\\u0000"}[letter]
        return "\\\\" + json.quote(letter)[1:-1]

    def _verbatim_string(self, buf: str, pos: int, end: int, final: bool) -> int:
        quote = self._quote
        at = buf.find(quote, pos)
        if at >= 0 and self._slips:
            return self._slip_string(buf, pos, at, final)
        if at >= 0:
            if at > pos:
                self._sink.append(json.quote(buf[pos:at])[1:-1])
            self._end_string()
            return at + len(quote)
        safe = end if final else tail_of((quote,)).safe_end(buf, pos)
        if safe > pos:
            self._sink.append(json.quote(buf[pos:safe])[1:-1])
        return safe

    def _slip_string(self, buf: str, pos: int, at: int, final: bool) -> int:
        """A quote stands at `at` in a verbatim string: it ends the string where what follows can go on."""
        quote = self._quote
        if at > pos:
            self._sink.append(json.quote(buf[pos:at])[1:-1])
        behind = at + len(quote)
        if self._state != _COLON:
            depth = len(self._stack)
            closer = self._stack[-1] if depth else ""
            if self._keyed and depth == 1:
                closer = "=)"
            match = _after_string(self.syntax.quotes[0], closer, depth > 1, self.stops).match(buf, behind, final)
            if match is UNDECIDED:
                return at
            if match is None:
                match = _parted_badly(self.syntax.quotes[0], closer in ("}", "=)")).match(buf, behind, final)
                if match is UNDECIDED:
                    return at
                if match is not None and match.lastgroup == "goes_on" and not self._inside % 2:
                    self._end_string()
                    return behind
                if match is not None and (match.lastgroup == "goes_on" or not self._inside % 2):
                    return self.fail("two values with no comma between them", at)
                # With a call's marker in it, the string is one that was not closed.
                inside = "".join(self._sink[self._string_from :])
                if not self._inside % 2:
                    before, after = inside.rstrip(BLANKS)[-1:], buf[behind : behind + 1]
                    self._opened = before in _BEFORE_VALUE or after in _BEHIND_VALUE or buf.startswith(quote, behind)
                self._string_from = len(self._sink)
                if any(json.quote(stop)[1:-1] in inside for stop in self.stops):
                    return self.fail("a string that is not closed", at)
                self.repair(f"{quote!r} inside a string")
                self._inside += 1
                self._sink.append('\\"' if quote != "'" else quote)
                return behind
            if self._inside % 2 and self._opened:
                return self.fail("a string that is not closed", at)
        self._end_string()
        return behind

    def _end_string(self) -> None:
        self._quote = ""
        self._raw_string = False
        self._joins = self._python and self._state != _COLON
        if not self._joins:
            self._close_string()

    def _close_string(self) -> None:
        self._joins = False
        self._sink.append('"')
        if self._state != _COLON:
            self._end_value()

    # -- tokens ---------------------------------------------------------------------------------------------------

    def _end_token(self, buf: str, pos: int) -> int:
        token = "".join(self._pieces)
        state = self._state
        self._pieces = []
        if state in (_KEY, _FIRST_KEY):
            if token in self.order[: self._placed]:
                return self.fail(f"{token!r} is given twice", pos)
            self.order = ()  # behind one with its key, each has it
            self._unlike_json("a key without quotes")
            self._begin_scalar(state, string=True)
            self._sink.append(json.quote(token))
            return pos
        if not self.strict and pos < len(buf) and buf[pos] in "'\"" and (token in _PREFIXES or token in "rR"):
            self._raw_string = token in "rR"
            return pos
        text = self._word(token)
        if text is None:
            return self.fail(f"expected a value, found {token[:40]!r}", pos)
        self._begin_scalar(state, string=False)
        if self._capture == "arguments" and self._capture_depth == len(self._stack) and text == "null":
            text = "{}"
        self._sink.append(text)
        self._end_value()
        return pos

    def _word(self, token: str) -> str | None:
        """A bare token as JSON text; None when it is no value."""
        if json.NUMBER.fullmatch(token):
            return token
        word = _WORDS.get(token)
        if word is not None:
            if self.strict and token not in ("true", "false", "null"):
                self.repair(f"Python's {token}")
            return word
        if _LOOSE_NUMBER.fullmatch(token):
            self._unlike_json(f"the number {token[:20]!r}")
            return _plain_number(token)
        if _HEX.fullmatch(token):
            self._unlike_json(f"the number {token[:20]!r}")
            return json.number_text(int(token, 16)) if len(token) < 4000 else None
        if self.kwargs and not _OPERATORS.isdisjoint(token):
            computed = arithmetic(token)
            if computed is not None:
                self.repair(f"the arithmetic {token[:40]!r}")
                return json.encode(computed)
        if self.syntax.bare_keys and token.lower().lstrip("+-") not in ("nan", "inf", "infinity"):
            self.repair("a string without quotes")
            return json.quote(token)
        return None

    # -- structure ------------------------------------------------------------------------------------------------

    def _begin_scalar(self, state: int, *, string: bool) -> bool:
        """A string or word begins: as a key or as a value. False when neither is due here."""
        if state in (_KEY, _FIRST_KEY):
            if not string:
                return False
            self._flush_comma()
            if self.watch is not None and len(self._stack) <= self.watch.depth and not self._capture:
                self._key = []
                self._sink = self._key
            self._state = _COLON
            return True
        if state in (_VALUE, _FIRST_VALUE):
            self._flush_comma()
            if self.watch is not None and not self._capture:
                if not self._stack:
                    return False  # a wrapper is an object
                self._begin_watched(string=string)
            return True
        return False

    def _begin_container(self, char: str, state: int) -> bool:
        if state not in (_VALUE, _FIRST_VALUE):
            return False
        if len(self._stack) - self._capture_depth >= json.MAX_DEPTH:
            self.fail("nested too deeply")
            return False
        self._flush_comma()
        if self.watch is not None and not self._capture:
            if self._stack:
                if self._begin_watched(string=False) == "arguments" and char != "{":
                    self.fail("arguments must be an object, not a list")
                    return False
            elif char != "{":
                return False
        if char == "(" and self._slips and not self._stack:
            self.repair("'(' for '{'")
            self._keyed = True
        self._stack.append(_CLOSER[char])
        keyed = self._in_map()
        self._sink.append("{" if keyed else "[")
        self._state = _FIRST_KEY if keyed else _FIRST_VALUE
        self._mark_safe()
        return True

    def _close(self, char: str, state: int) -> bool:
        if not self._stack or self._stack[-1] != char:
            return False
        if state not in (_NEXT, _FIRST_KEY, _FIRST_VALUE):
            if state not in (_KEY, _VALUE) or not self._comma:
                return False
            self._unlike_json("a trailing comma")
        self._comma = False
        self._end_container()
        return True

    def _end_container(self) -> None:
        self._sink.append(self._closer_text(len(self._stack) - 1))
        self._stack.pop()
        self._end_value()

    def _flush_comma(self) -> None:
        if self._comma:
            self._comma = False
            self._sink.append(", ")

    def _end_value(self) -> None:
        """A value is complete: leave the capture it ended, and the scan if it was the outermost."""
        depth = len(self._stack)
        self._state = _NEXT
        if self._capture and depth == self._capture_depth:
            self._end_capture()
        elif depth or self.watch is None:
            self._mark_safe()
        if not depth:
            self.status = DONE

    def _mark_safe(self) -> None:
        if self._sink is self.out:
            self._safe = (len(self.out), len(self._stack))

    # -- wrappers -------------------------------------------------------------------------------------------------

    def _end_key(self) -> None:
        if self._key is None or self.watch is None:
            return
        pieces, self._key = self._key, None
        self._sink = self._discard
        if pieces and pieces[-1] == ": ":
            pieces.pop()
        try:
            key = json.decode("".join(pieces))
        except ValueError:
            key = "".join(pieces)
        key = self.watch.synonyms.get(key, key)
        depth = len(self._stack)
        del self._path[depth - 1 :]
        self._path.append(key)

    def _begin_watched(self, *, string: bool) -> str:
        """What the value that begins here is to the wrapper: its role, '' for none."""
        watch = self.watch
        assert watch is not None
        depth = len(self._stack)
        if len(self._path) != depth or self._stack[-1] != "}":
            return ""
        path = tuple(self._path)
        role = "arguments" if watch.keyed and depth == 1 else watch.roles.get(path, "")
        if not role:
            slip, key = watch.slips.get(path, ("", ""))
            if slip == "arguments":
                takes = not self.arguments_seen
            else:
                takes = bool(slip) and string and self.name is None
                self.renamed = self.renamed or takes
            if takes:
                role = slip
                self.repair(f"{path[-1]!r} for {key!r}")
            else:
                if depth <= watch.depth and not watch.claims(path):
                    self._unclaimed.append(path[-1])
                    self.repair(f"the unknown key {path[-1][:40]!r}, which is left out")
                return ""
        if role == "arguments":
            if watch.keyed:
                if self.name is not None:
                    self.repair("more than one call in one object")
                    self._unclaimed.append(path[-1])
                    return ""
                self.name = self._path[0]
            if self.arguments_seen:
                # What a stream has said can't be taken back, so the later one can't win here.
                self.fail("the arguments are given twice")
                return ""
            self.arguments_seen = True
            self._capture, self._capture_depth = "encoded" if string else "arguments", depth
            self._sink = [] if string else self.out
            return role
        if role == "name" and self.name is not None:
            self.fail("the name is given twice")
            return ""
        self._capture, self._capture_depth = role, depth
        self._sink = []
        return role

    def _end_capture(self) -> None:
        capture, self._capture = self._capture, ""
        sink, self._sink = self._sink, self._discard
        if capture == "arguments":
            self._safe = (len(self.out), 0)
            return
        try:
            value = json.decode("".join(sink))
        except ValueError as error:
            self.fail(str(error))
            return
        if capture == "encoded":
            self._decode_again(value)
        elif capture == "name":
            self.name = value if isinstance(value, str) else ""
        elif value is not None:
            self.id = str(value)

    def _decode_again(self, text: str) -> None:
        """`arguments` held a string: it counts as the JSON text of the arguments, once."""
        pieces = self._inner(text) if text.strip() else ["{", "}"]
        if pieces[:1] != ["{"]:
            self.fail("arguments is a string that does not hold a JSON object")
            return
        self.out.extend(pieces)
        self._safe = (len(self.out), 0)

    def _inner(self, text: str) -> list[str]:
        """The value that a string holds, as pieces of JSON text; none where it is no value."""
        inner = ValueScanner(self.syntax)
        stripped = text.strip()
        if inner.scan(stripped, 0, True) != len(stripped) or inner.status != DONE:
            return []
        self.repairs.extend(inner.repairs)
        return inner.out

    # -- faults ---------------------------------------------------------------------------------------------------

    def _unexpected(self, buf: str, pos: int, final: bool) -> int:
        """Something stands where it can't: close what is open if a closing marker begins here, else fail."""
        if self.status:
            return pos
        if self._stack and self._state == _NEXT:
            for stop in self.stops:
                if buf.startswith(stop, pos):
                    if stop in _BRACKETS:  # before a comma, or one that ends no call, it is a slip of the writer's
                        after = skip_blanks(buf, pos + 1)
                        if after == len(buf) and not final and after - pos <= MAX_BLANKS:
                            return pos
                        if buf[after : after + 1] in _SLIPS and buf[after] not in self.stops:
                            continue
                    self._close_all()
                    return pos
                if not final and stop.startswith(buf[pos:]):
                    return pos
        return self.fail(f"unexpected {buf[pos]!r}" + (" in the arguments" if self.arguments_seen else ""), pos)

    def _close_all(self) -> None:
        self.repair("a missing closing bracket")
        while self._stack and not self.status:
            self._end_container()

    def _unlike_json(self, what: str) -> None:
        """Something is written as JSON has it not: a slip where JSON is due."""
        if self.strict:
            self.repair(what)


def _goes_on(begun: re.Pattern[str], buf: str, pos: int) -> bool:
    """Whether a piece of a wrapper may still become what it should be."""
    return len(buf) - pos < _HELD and begun.fullmatch(buf, pos) is not None


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return "a string" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"


def _plain_number(token: str) -> str | None:
    """A number in a spelling that JSON does not know (`+5`, `.5`, `007`, `1_000`), as JSON; None if out of range."""
    digits = token.replace("_", "")
    sign = "-" if digits[0] == "-" else ""
    digits = digits.lstrip("+-")
    if digits.isdigit():
        return sign + (digits.lstrip("0") or "0")
    try:
        return json.number_text(float(sign + digits))
    except ValueError:
        return None
