"""Literal values in text that is known to be complete, read straight into Python values.

For spellings that no decoder in C knows: Python literals, keyword arguments, maps with quotes of their own. What it
reads it reads as the ValueScanner does; whatever is unusual (a doubled key, a word that is no value, a prefixed string,
deep nesting) it leaves to that one by raising `NotPlain`. Linear in the text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from toolparse.codecs import json
from toolparse.format import Syntax

_WORD = r"([^ \t\r\n,:=\[\]{}()\"'<>]+)"
_INTEGER = re.compile(r"-?[1-9][0-9]{0,17}|0")
_STRINGS = {
    '"': re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL),
    "'": re.compile(r"'((?:[^'\\]++|\\.)*+)'", re.DOTALL),
}
_BLANKS = "[ \t\r\n]*+"
_NEXT: Any = re.compile(_BLANKS + r"([,\]})]?)").match


class NotPlain(Exception):
    """The text holds something that must be read the long way."""


class PlainReader:
    """Reads the values of one syntax."""

    def __init__(self, syntax: Syntax) -> None:
        self._verbatim = tuple(quote for quote in syntax.quotes if not syntax.escapes or quote not in _STRINGS)
        escaping = {quote for quote in syntax.quotes if quote not in self._verbatim}
        if '"' not in self._verbatim:  # which is read everywhere
            if syntax.escapes:
                escaping.add('"')
            elif not syntax.own_quotes:  # where it is a slip, to be noted
                self._verbatim += ('"',)
        self._escaping = tuple(sorted(escaping))
        alike = any(quote.startswith(self._escaping) for quote in self._verbatim)
        strings = "" if alike else "".join(f"{quote}([^{quote}\\\\]*+){quote}|" for quote in self._escaping)
        starts = "".join(re.escape(quote[0]) for quote in syntax.quotes)
        word = f"(?![{starts}]){_WORD}" if starts else _WORD
        self._scalar: Any = re.compile(_BLANKS + f"(?:{strings}{word})").match
        self._key: Any = re.compile(_BLANKS + f"(?:{strings}{word}){_BLANKS}:").match
        self._keyword: Any = re.compile(f"{_BLANKS}{word}{_BLANKS}=").match
        self._last = 1 if alike else len(self._escaping) + 1  # the group of a word

    def map(self, text: str, pos: int) -> tuple[dict[str, Any], int]:
        """The map that begins at `pos`, and the position behind it."""
        value, end = self._value(text, pos, 0)
        if type(value) is not dict:
            raise NotPlain
        return value, end

    def keywords(self, text: str, pos: int) -> tuple[dict[str, Any], int]:
        """A run of `key=value`, and the position of the round bracket that closes it."""
        found, end = self._members(text, pos, 1, self._keyword, ")")
        return found, end - 1

    def _value(self, text: str, pos: int, depth: int) -> tuple[Any, int]:
        match = self._scalar(text, pos)
        if match is not None:
            group = match.lastindex
            found = match.group(group)
            if group != self._last:
                return found, match.end()
            return _word(found), match.end()
        match = _NEXT(text, pos)
        pos = match.start(1)
        opener = text[pos : pos + 1]
        if opener == "{":
            return self._members(text, pos + 1, depth + 1, self._key, "}")
        if opener == "[" or opener == "(":
            return self._list(text, pos + 1, depth + 1, "]" if opener == "[" else ")")
        return self._string(text, pos)

    def _members(self, text: str, pos: int, depth: int, key_at: Any, closer: str) -> tuple[dict[str, Any], int]:
        """A map's members, up to behind what closes it. `key_at`: matches a key and what parts it from its value."""
        if depth > json.DEEP:
            raise NotPlain
        found: dict[str, Any] = {}
        while True:
            match = key_at(text, pos)
            if match is not None:
                key = match.group(match.lastindex)
            else:
                match = _NEXT(text, pos)
                if match.group(1) == closer:
                    return found, match.end()
                if closer != "}":
                    raise NotPlain
                key, pos = self._string(text, match.start(1))
                match = _COLON(text, pos)
                if match is None:
                    raise NotPlain
            if key in found:
                raise NotPlain
            found[key], pos = self._value(text, match.end(), depth)
            match = _NEXT(text, pos)
            pos = match.end()
            delimiter = match.group(1)
            if delimiter != ",":
                if delimiter != closer:
                    raise NotPlain
                return found, pos

    def _list(self, text: str, pos: int, depth: int, closer: str) -> tuple[list[Any], int]:
        if depth > json.DEEP:
            raise NotPlain
        found: list[Any] = []
        while True:
            match = _NEXT(text, pos)
            if match.group(1) == closer:
                return found, match.end()
            item, pos = self._value(text, pos, depth)
            found.append(item)
            match = _NEXT(text, pos)
            pos = match.end()
            delimiter = match.group(1)
            if delimiter != ",":
                if delimiter != closer:
                    raise NotPlain
                return found, pos

    def _string(self, text: str, pos: int) -> tuple[str, int]:
        """A string with escapes, or one that ends at the next quote."""
        for quote in self._verbatim:
            if text.startswith(quote, pos):
                start = pos + len(quote)
                end = text.find(quote, start)
                if end < 0:
                    raise NotPlain
                return text[start:end], end + len(quote)
        quote = text[pos : pos + 1]
        if quote not in self._escaping:
            raise NotPlain
        match = _STRINGS[quote].match(text, pos)
        if match is None:
            raise NotPlain
        return _unescaped(match.group(1)), match.end()


_COLON: Any = re.compile(_BLANKS + ":").match


def _word(word: str) -> Any:
    if _INTEGER.fullmatch(word):
        return int(word)
    if word in json.WORDS:
        return json.WORDS[word]
    if json.NUMBER.fullmatch(word):
        try:
            return json.decode(word)
        except ValueError:
            pass
    raise NotPlain


def _unescaped(text: str) -> str:
    """A string's text without its escapes, of which JSON must know all but that of the single quote."""
    # Between doubled backslashes each backslash begins an escape.
    if "\\\n" in text or "\\\t" in text:
        raise NotPlain
    pieces = [
        piece.replace("\\'", "'").replace('\\"', '"').replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        for piece in text.split("\\\\")
    ]
    try:
        found = json.decode('"' + "\\\\".join(pieces) + '"')
    except ValueError:
        raise NotPlain from None
    if type(found) is not str:
        raise NotPlain
    return found


@lru_cache(maxsize=64)
def plain_reader(syntax: Syntax) -> PlainReader:
    """The reader of a syntax."""
    return PlainReader(syntax)
