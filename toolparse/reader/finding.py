"""Where the next of some markers stands in a long text.

A search for many strings at once looks at every character. A search for one character runs at the speed of memory, so
markers are looked for by their rarest character, each group with a common beginning alone, and what was found ahead is
remembered: each stretch is searched once for each group.
"""

from __future__ import annotations

import re
from typing import Any

#: Below so many characters one pattern over all markers is faster.
SHORT = 128
_FAR = 2048
# Characters of prose, the most frequent ones last; what is not among them is rare.
_FREQUENT = "`#*_<>/=:(){}[]'\"-,.0123456789zqxjkvbpygfwmculdrhsnioate "


class MarkerGroup:
    """Markers with the same first character."""

    def __init__(self, markers: list[str]) -> None:
        first, last = min(markers), max(markers)
        shared = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
        self.start = first[: next(shared, min(len(first), len(last)))]
        self.rare = min(self.start, key=_FREQUENT.find)
        self.before = self.start.index(self.rare)
        self.search: Any = re.compile("|".join(re.escape(marker) for marker in markers)).search

    def find(self, text: str, pos: int, end: int) -> int:
        """Where the next one stands before `end`; behind the text if there is none."""
        # One character is found twenty times faster than several.
        rare = text.find(self.rare, pos, end)
        at = text.find(self.start, max(rare - self.before, pos), end) if rare >= 0 else -1
        match = self.search(text, at, end) if at >= 0 else None
        return match.start() if match is not None else len(text) + 1


class Finder:
    """Finds the next of some markers in complete text."""

    def __init__(self, pattern: re.Pattern[str], markers: tuple[str, ...]) -> None:
        self.search: Any = pattern.search
        self.longest = max(map(len, markers), default=0)
        groups: dict[str, list[str]] = {}
        for marker in sorted(markers, key=len, reverse=True):
            groups.setdefault(marker[0], []).append(marker)
        #: the character with which all begin, '' if there are several
        self.first = next(iter(groups)) if len(groups) == 1 else ""
        self.groups = tuple(MarkerGroup(group) for group in groups.values()) if len(groups) > 1 else ()

    def find(self, text: str, pos: int, ahead: dict[Finder, list[int]]) -> Any:
        """A match of the next marker from `pos` on, None if there is none. `ahead`: kept for one text by its reader."""
        if len(text) - pos > SHORT:
            if self.groups:
                match = self.search(text, pos, pos + SHORT)
                if match is not None and match.start() + self.longest <= pos + SHORT:
                    return match
                pos = self._ahead(text, pos, ahead)
            else:
                pos = text.find(self.first, pos) if self.first else -1
            if pos < 0:
                return None
        return self.search(text, pos)

    def _ahead(self, text: str, pos: int, ahead: dict[Finder, list[int]]) -> int:
        found = ahead.get(self)
        if found is None:
            found = ahead[self] = [-1] * len(self.groups)
        for number, group in enumerate(self.groups):
            if found[number] < pos:
                found[number] = group.find(text, pos, len(text))
        at = min(found)
        return at if at <= len(text) else -1

    def go_back(self, text: str, pos: int, upto: int, found: list[int]) -> None:
        """What was found ahead of `upto` is to hold from `pos` on: what stands between them was not looked for."""
        for number, group in enumerate(self.groups):
            if found[number] >= pos:
                found[number] = min(found[number], group.find(text, pos, upto + self.longest))


def find_marker(text: str, marker: str, pos: int) -> int:
    """`text.find(marker, pos)`, faster where the marker's first character is rare in a long text."""
    if len(text) - pos > _FAR:
        pos = text.find(marker[0], pos)
        if pos < 0 or text.startswith(marker, pos):
            return pos
    return text.find(marker, pos)
