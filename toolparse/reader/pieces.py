"""Pieces of a stream that need no step: most lie inside of a text, or of a string in a call's arguments.

While a stream waits in a text (`stretch`) or in a call's body (`scanner`), `breakers` are the characters of which the
next piece must have none to belong to it as it stands. Such a piece is passed on at once and accounted for later,
when the stretch is left. Where nothing can be decided before so many characters have come (`wait`), pieces wait for
one another (`later`).
"""

from __future__ import annotations

from toolparse.codecs.scanner import Scanner
from toolparse.compile import TextStretch
from toolparse.events import ArgumentsDelta, ContentDelta, Event, ReasoningDelta
from toolparse.reader.turn import CallInHand, Turn


class Pieces(Turn):
    """A turn that arrives in pieces."""

    _call: CallInHand | None = None
    _stretch: TextStretch | None = None  # in a text: what tells its end
    _scanner: Scanner | None = None  # in a call's body: what reads it
    _breakers: frozenset[str] | None = None
    _wait = 0
    _seeking = False  # whether the suffix of the markers is not known: then each piece is looked at

    _fed: list[str]
    _passed_from = 0  # the pieces that were passed on since then are not yet accounted for
    _later: list[str]

    def holding(self) -> bool:
        """Whether nothing is said yet of what is read."""
        return False

    def _enter(self, stretch: TextStretch | None, scanner: Scanner | None) -> None:
        """Pieces of a text follow, or of a call's body."""
        if not self._seeking and (stretch is None or not self.holding()):
            self.append("")
            self._stretch, self._scanner = stretch, scanner
            self._next_piece()

    def _next_piece(self) -> None:
        """What the next piece must be, where the window holds what is left of the last one."""
        held = self.buf
        self._passed_from = len(self._fed)
        scanner, stretch = self._scanner, self._stretch
        if scanner is not None:
            self._breakers = breakers = None if held else scanner.breakers()
            if breakers is None:
                self._wait = scanner.least_needed(held)
        else:
            assert stretch is not None
            self._breakers = None if held else stretch.breakers()
            if held:
                self._wait = stretch.least_needed(held)

    def _account(self) -> None:
        """What was passed on of a call's body counts as read."""
        if self._scanner is not None and len(self._fed) > self._passed_from:
            passed = "".join(self._fed[self._passed_from :])
            self._passed_from = len(self._fed)
            assert self.keep is not None
            self.keep.append(passed)
            self.base += len(passed)
            call = self._call
            if call is not None and call.started and not call.quiet:
                call.said = len(self._scanner.out)

    def _pass_text(self, text: str) -> list[Event]:
        """A piece of a text, and nothing else."""
        self._fed.append(text)
        self.base += len(text)
        body = self.decided(text)
        if not body:
            return []
        if self.thinking is None:
            self.content.append(body)
            return [ContentDelta(body)]
        self.reasoning.append(body)
        return [ReasoningDelta(body)]

    def _pass_argument(self, text: str) -> list[Event]:
        """A piece of a string in a call's arguments."""
        scanner, call = self._scanner, self._call
        assert scanner is not None
        assert call is not None
        self._fed.append(text)
        said = scanner.take_verbatim(text)
        if not said or not call.started or call.quiet:
            return []
        event = ArgumentsDelta(len(self.calls), said)
        if self.holding():
            self.events.append(event)
            return []
        return [event]

    def _leave_stretch(self) -> None:
        """What was passed on is accounted for."""
        if self._scanner is not None:
            self._account()
            self._scanner = None
        elif self._stretch is not None:
            self._stretch = None
            self.mark_end = max(self.base - sum(map(len, self.pending)), self.mark_end)
        self._breakers = None
