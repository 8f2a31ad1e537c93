"""Arguments whose text only what follows it can end: strings without escapes, and values without quotes.

`[f(note="He said "no"", days=3)]`, `[f(note=He said no, days=3)]`: nothing in such a text is escaped, so a quote or a
comma ends it only if what follows can continue the call, as with tagged parameters. Where every value stands as text
(`Syntax.texts`), the tool's schema says what it stands for. Each decision looks a bounded distance ahead.

A template that writes strings without quotes does not teach a model to leave them out. So a value that begins with a
quote is a Python string there too, and in a call that has one, values that no schema declares are literals where they
can be.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from toolparse.codecs import json
from toolparse.codecs.matching import MAX_NAME, SLACK, SPACES, Rx, skip_blanks, tail_of
from toolparse.codecs.matching import MORE as UNDECIDED
from toolparse.codecs.scanner import DONE, ERROR
from toolparse.codecs.tagged import ArgumentScanner, ParameterTypes, literal
from toolparse.codecs.values import ValueScanner
from toolparse.format import Syntax

_TOKEN = re.compile(r"[^ \t\r\n,:=\[\]{}()\"'<>]+")
_STOP = re.compile("[,)}]")
_MOST_COMMAS = 8
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@lru_cache(maxsize=64)
def inner_syntax(syntax: Syntax) -> Syntax:
    """How objects and lists are spelled inside such arguments: as JSON or Python has it."""
    quotes = ("'", '"') if syntax.true == "True" else ('"', "'")
    return replace(syntax, quotes=quotes, escapes=True, texts=False, bare_keys=False, comma=", ", colon=": ")


@lru_cache(maxsize=64)
def _patterns(syntax: Syntax, kwargs: bool) -> tuple[Rx, Rx]:
    """A key with its colon; what may follow a value."""
    if kwargs:
        key = SLACK + r"(?P<key>[A-Za-z_][A-Za-z0-9_]{0,128})" + SLACK + "="
        another = "[,;]" + SLACK + r"[A-Za-z_][A-Za-z0-9_.:-]{0,128}\("
        behind = rf"[\]<|]|{another}"
        # A trailing comma: in a text, `",)` ends more lines than calls.
        closing = rf"(?:\)[ \t]{{0,64}}(?:{behind}|\n)|,{SLACK}\)[ \t]{{0,64}}(?:{behind}))"
        at_end = r",?[ \t]{0,64}\)[ \t]{0,64}\Z"
    else:
        key = SLACK + r"['\"]?(?P<key>[^" + SPACES + r":,{}\[\]'\"]{1,128})['\"]?" + SLACK + ":"
        closing, at_end = r"\}", r"\}"
    comma = "," if syntax.comma else ",?"
    following = key.replace("(?P<key>", "(?:")
    return Rx(key), Rx(f"{SLACK}(?:{comma}{following}|{closing})", at_end=f"{SLACK}(?:{at_end})")


_WORD = "[A-Za-z_][A-Za-z0-9_]{0,128}+"
#: What follows a quote that ends a text where no comma parts it from the next argument; `other`: more is amiss.
_PARTED_BADLY = Rx(
    rf"[ \t\r\n,;]{{0,64}}+{_WORD}{SLACK}={SLACK}[^ \t\r\n=,)]"
    rf"|(?P<other>[ \t\r\n,;]{{1,64}}+['\"]?{_WORD}['\"]?{SLACK}[:=]?{SLACK}['\"])"
)
#: An argument in the text of another one.
_SWALLOWED: Any = re.compile(
    rf"['\"][^'\"=]{{0,16}}?\b({_WORD})[ \t]{{0,16}}=(?!=)|[ \t\r\n,;]({_WORD})=(?=[^ \t\r\n=])"
)


class UnescapedScanner(ArgumentScanner):
    """Scans `key=value, ...` up to the bracket that closes it, which is left standing, or a whole map in braces."""

    def __init__(self, syntax: Syntax, tool: ParameterTypes | None, *, kwargs: bool, streaming: bool) -> None:
        super().__init__(tool, streaming=streaming)
        self.syntax = syntax
        self._kwargs = kwargs
        self._opened = kwargs
        self._closer = ")" if kwargs else "}"
        self._key_rx, self._follows = _patterns(syntax, kwargs)
        self._convert = False
        self._held = False
        self._quote = ""
        self._inside = 0  # how many quotes stand inside the text in hand
        self._commas = ""  # the commas between two arguments
        self._inner: ValueScanner | None = None
        self._quoted = False  # whether a string has quotes that the syntax does not write
        self._bare = False  # whether the text in hand has none, and no schema
        # What has to wait for that: the first such argument, and all behind it.
        self._waiting: list[tuple[str, bool]] = []

    def scan(self, buf: str, pos: int, final: bool) -> int:
        """Consume from `pos`; returns the position up to which `buf` was consumed."""
        while not self.status:
            before = (pos, self._key, self._text, self._inner)
            if self._inner is not None:
                pos = self._literal(buf, pos, final)
            elif self._text:
                pos = self._in_text(buf, pos, final)
            elif self._key is not None:
                pos = self._begin_value(buf, pos, final)
            else:
                pos = self._between(buf, pos, final)
            if before == (pos, self._key, self._text, self._inner):
                break
        return pos

    def misplaced(self, tool: Any) -> list[tuple[str, str]]:
        """Those that stand in the text of another one, as nothing parts the two."""
        arguments = self.arguments_
        return [
            ("missing-argument", f"arguments.{found}: it stands in the text of {key!r}, with no comma before it")
            for key, value in arguments.items()
            if type(value) is str
            for found in dict.fromkeys(match[1] or match[2] for match in _SWALLOWED.finditer(value))
            if found not in arguments and tool.admits(found) != "unknown"
        ]

    # -- keys -----------------------------------------------------------------------------------------------------

    def _between(self, buf: str, pos: int, final: bool) -> int:
        pos = skip_blanks(buf, pos)
        if pos == len(buf):
            return pos
        if not self._opened:
            if buf[pos] != "{":
                return self.fail(f"expected a map, found {buf[pos]!r}", pos)
            self._opened = True
            return pos + 1
        if buf[pos] == self._closer:
            if self._commas:
                self.repair("a trailing comma")
            self.status = DONE
            self._settle()
            if self.streaming:
                self.out.append("}")
            return pos if self._kwargs else pos + 1
        if buf[pos] in ",;" and self.arguments_ and len(self._commas) < _MOST_COMMAS:
            self._commas += buf[pos]
            return pos + 1
        match = self._key_rx.match(buf, pos, final)
        if match is UNDECIDED:
            return pos
        if match is None:
            return self.fail(f"expected an argument, found {buf[pos]!r}", pos)
        if self.arguments_ and self._commas != "," and (self._commas or self.syntax.comma):
            self.repair(f"{self._commas!r} for ','" if self._commas else "a missing comma")
        self._commas = ""
        self._begin(match.group("key"))
        return match.end()  # type: ignore[no-any-return]

    def _begin(self, key: str) -> None:
        if not self._waiting:
            self.say_key(key)
        elif key in self.arguments_:
            self.duplicates = True
        self._key = key

    def _settle(self) -> None:
        """All arguments are read: those that waited for it are said."""
        for number, (key, bare) in enumerate(self._waiting):
            if bare and self._quoted:
                self.arguments_[key] = literal(self.arguments_[key], inner_syntax(self.syntax))
            if self.streaming:
                before = ", " + json.quote(key) + ": " if number else ""
                self.out.append(before + json.encode(self.arguments_[key]))

    # -- values ---------------------------------------------------------------------------------------------------

    def _begin_value(self, buf: str, pos: int, final: bool) -> int:
        assert self._key is not None
        admitted = "unknown" if self.tool is None else self.tool.admits(self._key)
        if self.syntax.quotes[0]:
            pos = skip_blanks(buf, pos)
            if pos == len(buf):
                return pos
            if self.syntax.escapes:
                return self._begin_literal(buf, pos, final)
            for quote in self.syntax.quotes:
                if buf.startswith(quote, pos):
                    self._open_text(quote, convert=self.syntax.texts and admitted == "typed")
                    return pos + len(quote)
                if not final and quote.startswith(buf[pos:]):
                    return pos
            return self._begin_literal(buf, pos, final)
        if pos == len(buf):
            return pos
        quote = buf[pos] if buf[pos] in "\"'" else ""
        self._quoted = self._quoted or bool(quote)
        self._open_text(quote, convert=admitted == "typed", bare=not quote and admitted == "unknown")
        return pos + len(quote)

    def _open_text(self, quote: str, *, convert: bool, bare: bool = False) -> None:
        self._text, self._quote, self._convert, self._held = True, quote, convert, False
        self._inside = 0
        self._bare = bare
        self._parts = []
        if self._says():
            self.out.append('"')

    def _says(self) -> bool:
        """Whether the text in hand is said while it is read."""
        return self.streaming and not (self._convert or self._bare or self._waiting)

    def _in_text(self, buf: str, pos: int, final: bool) -> int:
        quote = self._quote
        at = self._candidate(buf, pos)
        while at >= 0:
            if len(quote) > 1:
                return self._end_text(buf, pos, at)
            decided = self._follows.match(buf, at + len(quote), final)
            if decided is None and quote and not self._inside % 2:  # what opens a quotation has none of this behind it
                decided = _PARTED_BADLY.match(buf, at + 1, final)
            if decided is UNDECIDED:
                self._take(buf[pos:at])
                return at
            if decided is not None:
                if decided.groupdict().get("other"):
                    return self.fail("two arguments with no comma between them", at)
                return self._end_text(buf, pos, at)
            self._inside += 1
            at = self._candidate(buf, at + 1)
        end = len(buf) if final else tail_of((quote,)).safe_end(buf, pos)
        self._take(buf[pos:end])
        return end

    def _candidate(self, buf: str, pos: int) -> int:
        """Where a text may end next."""
        if self._quote:
            return buf.find(self._quote, pos)
        match = _STOP.search(buf, pos)
        return match.start() if match is not None else -1

    def _take(self, text: str) -> None:
        self._parts.append(text)
        if not self._held and self._says():
            at = text.find("\\") if self._quote else -1
            self._held = at >= 0  # from here on, the end tells what backslashes are
            self.out.append(json.quote(text if at < 0 else text[:at])[1:-1])

    def _end_text(self, buf: str, pos: int, at: int) -> int:
        self._take(buf[pos:at])
        text = "".join(self._parts)
        self._text = False
        if self._convert:
            assert self.tool is not None
            assert self._key is not None
            self._keep(self.tool.convert_text(self._key, text, python=self.syntax.true == "True")[0])
            return at + len(self._quote)
        value = self._unescaped(text)
        if self._says():
            rest = value[text.find("\\") :] if self._held else ""
            self.out.append(json.quote(rest)[1:-1] + '"')
        self._keep(value, said=True)
        return at + len(self._quote)

    def _unescaped(self, text: str) -> str:
        """The text, or what it says if its writer escaped quotes: then every quote in it has its backslash."""
        quote = self._quote
        python = not self.syntax.quotes[0]
        if len(quote) != 1 or "\\" + ("" if python else quote) not in text:
            return text
        scanner = ValueScanner(inner_syntax(self.syntax))
        end = scanner.scan(quote + text + quote, 0, True)
        if scanner.status != DONE or end != len(text) + 2:
            return text
        value = json.decode("".join(scanner.out))
        return value if isinstance(value, str) else text

    def _keep(self, value: Any, *, said: bool = False) -> None:
        assert self._key is not None
        self.arguments_[self._key] = value
        if self._bare or self._waiting:
            self._waiting.append((self._key, self._bare))
        elif self.streaming and not said:
            self.out.append(json.encode(value))
        self._bare = False
        self._key = None

    def _begin_literal(self, buf: str, pos: int, final: bool) -> int:
        match = _TOKEN.match(buf, pos, pos + MAX_NAME)
        if match is not None and not self.syntax.comma and match.end() - pos < MAX_NAME:
            if match.end() == len(buf) and not final:
                return pos
            if buf[match.end() : match.end() + 1] == "=":
                word = self._word_before_key(match.group())
                if word:
                    try:
                        value = json.WORDS[word] if word in json.WORDS else json.decode(word)
                    except ValueError as error:
                        return self.fail(str(error), pos)
                    self._keep(value)
                    return pos + len(word)
        own = len(self.syntax.quotes[0]) > 1  # then objects and lists that stand outside of texts have these quotes too
        syntax = replace(self.syntax, texts=False) if own else inner_syntax(self.syntax)
        self._inner = ValueScanner(
            replace(syntax, true="True") if self._kwargs else syntax
        )  # Python's spellings are no slip
        return pos

    def _word_before_key(self, token: str) -> str:
        """The value in `3days`, where nothing stands between a value and the next key."""
        found = ""
        for size in range(1, min(len(token), 64)):
            word, key = token[:size], token[size:]
            if _KEY.fullmatch(key) and (word in json.WORDS or json.NUMBER.fullmatch(word)):
                if self.tool is not None and self.tool.admits(key) != "unknown":
                    return word
                found = found or word
        return found

    def _literal(self, buf: str, pos: int, final: bool) -> int:
        inner = self._inner
        assert inner is not None
        pos = inner.scan(buf, pos, final)
        if inner.status == ERROR:
            return self.fail(inner.error, pos)
        if inner.status == DONE:
            self._inner = None
            self.repairs.extend(what for what in inner.repairs if what not in self.repairs)
            try:
                value = json.decode("".join(inner.out))
            except ValueError as error:  # a number out of range
                return self.fail(str(error), pos)
            self._keep(value)
        return pos
