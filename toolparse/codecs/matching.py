"""Matching on text that may still grow.

`Rx` is one pattern compiled twice: with the standard library for text that is complete, with `regex` (which knows
partial matches) for text that may go on. Patterns here are bounded: no hole and no blank run in them is unlimited, so
a stream never holds back more than a few hundred characters. Blanks are the four of JSON, for both engines alike.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

#: White space, for a character class: the engines' own `\\s` differ in it.
SPACES = "\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
WS = "[ \\t\\r\\n]"
MAX_BLANKS = 512
#: How long a name, an id or a key, and a declared type, are at most.
MAX_NAME, MAX_TYPE = 256, 64
SLACK = WS + f"{{0,{MAX_BLANKS}}}+"  # possessive: two that meet must not share blanks between them in every way
_BLANK_RUN = re.compile(WS + "*")


class More:
    """The answer "that depends on what comes next"."""

    def __repr__(self) -> str:
        return "MORE"


MORE = More()


class Rx:
    """A pattern that can be asked with and without knowing the end of the text."""

    def __init__(self, pattern: str, *, at_end: str = "", cores: tuple[str, ...] = ()) -> None:
        """`at_end`: an alternative that holds only where the text is known to end (`\\Z`).

        `cores`: what stands in every match, in this order, as far as that is known.
        """
        self.pattern = pattern
        self.cores = cores
        self._final = f"(?:{pattern}|{at_end})" if at_end else pattern
        self._complete: Any = None
        self._partial: Any = None

    @property
    def final(self) -> Any:
        """The pattern for complete text, compiled."""
        if self._complete is None:
            self._complete = re.compile(self._final, re.DOTALL)
        return self._complete

    @property
    def partial(self) -> Any:
        """The pattern for text that may go on, compiled."""
        if self._partial is None:
            import regex

            self._partial = regex.compile(self.pattern, regex.DOTALL | regex.VERSION0)
        return self._partial

    def match(self, buf: str, pos: int, final: bool) -> Any:
        """A match at `pos`, None, or MORE."""
        if final:
            return self.final.match(buf, pos)
        if self._final == self.pattern:  # whole matches count first, and the standard library finds them faster
            match = self.final.match(buf, pos)
            if match is not None:
                return match
        match = self.partial.match(buf, pos, partial=True)
        if match is not None and match.partial:
            return MORE
        return match

    def missing(self, buf: str, pos: int) -> int:
        """How many characters must at least follow on the text from `pos` on, before there is a match."""
        for number, core in enumerate(self.cores):
            at = buf.find(core, pos)
            if at < 0:
                begun = len(buf) - tail_of((core,)).safe_end(buf, pos)
                return sum(map(len, self.cores[number:])) - begun
            pos = at + len(core)
        return 0

    def search(self, buf: str, pos: int, final: bool) -> tuple[Any, int]:
        """The first match from `pos` (or None), and the position up to which there surely is none."""
        if final:
            match = self.final.search(buf, pos)
        else:
            match = self.partial.search(buf, pos, partial=True)
            if match is not None and match.partial:
                return None, match.start()
        return match, len(buf) if match is None else match.start()

    def could_go_on(self, buf: str, pos: int) -> bool:
        """Whether the text ends inside something that would have matched."""
        match = self.partial.match(buf, pos, partial=True)
        return match is not None and match.partial

    def __repr__(self) -> str:
        return f"Rx({self.pattern!r})"


def skip_blanks(buf: str, pos: int) -> int:
    """The first position from `pos` that holds no blank."""
    return _BLANK_RUN.match(buf, pos).end()  # type: ignore[union-attr]


def starts_with_any(cores: tuple[str, ...], buf: str, pos: int, final: bool) -> str | More | None:
    """The first of `cores` that stands at `pos`, None, or MORE."""
    undecided = False
    left = len(buf) - pos
    for core in cores:
        if buf.startswith(core, pos):
            return core
        if not final and left < len(core) and core.startswith(buf[pos:]):
            undecided = True
    return MORE if undecided else None


_ESCAPED = frozenset({'"', "\\", *map(chr, range(32))})


class Tail:
    """How much of a buffer's end must be held back because one of some strings may begin there."""

    def __init__(self, strings: tuple[str, ...]) -> None:
        #: how a string begins, and what is at least missing of it
        self.prefixes: dict[str, int] = {}
        for text in sorted(strings, key=len, reverse=True):
            self.prefixes.update((text[:n], len(text) - n) for n in range(1, len(text)))
        self.longest = max((len(text) for text in strings), default=1) - 1
        #: whether one of them stands within another one
        self.nests = any(text in other[1:] for other in strings for text in strings if text)
        self.firsts = frozenset(text[0] for text in strings if text)
        #: those, and the characters that JSON escapes
        self.plain = self.firsts | _ESCAPED

    def safe_end(self, buf: str, pos: int) -> int:
        """The end of the part of `buf[pos:]` that no continuation can turn into one of the strings."""
        end = len(buf)
        start = max(pos, end - self.longest)
        window = buf[start:]
        if self.firsts.isdisjoint(window):
            return end
        for offset, char in enumerate(window):
            if char in self.firsts and window[offset:] in self.prefixes:
                return start + offset
        return end

    def missing(self, held: str) -> int:
        """How many characters must at least follow on what was held back, before it is one of the strings.

        0 for one or two characters: text that begins by chance like a marker is not to be kept waiting.
        """
        return self.prefixes.get(held, 0) if len(held) > 2 else 0


@lru_cache(maxsize=1024)
def tail_of(strings: tuple[str, ...]) -> Tail:
    """The Tail of some strings, made once."""
    return Tail(strings)
