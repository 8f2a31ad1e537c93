"""What reads the arguments of a call piece by piece: the one interface of all scanners.

A scanner is given the text from where it stands, again and again as more comes, and says how far it has read. What it
has read of the arguments grows in `out` as pieces of JSON text, whatever the syntax, so that a stream can pass them on.
"""

from __future__ import annotations

from typing import Any

MORE, DONE, ERROR = 0, 1, 2

#: What is noted of an alternative spelling that is a slip.
SLIP = "another spelling than its family's"


class Scanner:
    """The base of all scanners.

    `status`: MORE until the value was read (DONE) or can't be (ERROR; `error` says why). `name`, `id`: as soon as they
    are known, where the arguments' wrapper gives them. `arguments_seen`: whether the arguments have begun. `repairs`:
    slips that were mended, in words; `duplicates`: whether a key is given twice; `mistyped`: arguments that are text,
    where the call says otherwise.
    """

    def __init__(self) -> None:
        self.status = MORE
        self.error = ""
        self.name: str | None = None
        self.id: str | None = None
        self.out: list[str] = []
        self.arguments_seen = True
        self.repairs: list[str] = []
        self.duplicates = False
        self.mistyped: list[str] = []

    def scan(self, buf: str, pos: int, final: bool) -> int:
        """Read on from `pos`; returns the position up to which `buf` was read. `final`: nothing follows."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """The arguments of a value that was read to its end. Raises ValueError when they are none."""
        raise NotImplementedError

    def misplaced(self, tool: Any) -> list[tuple[str, str]]:
        """Issues of parameters that a tool declares and that stand in the call, but not where they belong."""
        return []

    def partial(self) -> dict[str, Any]:
        """The arguments as far as they were completely read."""
        raise NotImplementedError

    # What lets a stream pass pieces by the scan: most lie inside of one long string.

    def breakers(self) -> frozenset[str] | None:
        """The characters of which a piece must have none to belong to the string in hand; None where there is none."""
        return None

    def verbatim_prefix(self, text: str) -> int:
        """How much of a text belongs to the string in hand as it is written; -1 if that takes a scan to tell."""
        return -1

    def least_needed(self, held: str) -> int:
        """How many characters must at least follow on what was left unread (`held`), before it says anything."""
        return 0

    def take_verbatim(self, text: str) -> str:
        """A piece that belongs to the string in hand; returns it as a stream says it, '' if that has to wait."""
        raise NotImplementedError

    def fail(self, error: str, pos: int = 0) -> int:
        """It can't be read: nothing behind `pos` is."""
        self.status = ERROR
        self.error = error
        return pos

    def repair(self, what: str) -> None:
        """A slip was mended."""
        if what not in self.repairs:
            self.repairs.append(what)
