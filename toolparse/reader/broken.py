"""Where reading goes on behind what can't be read.

A call that can't be read ends at the next marker at which a reader can find its feet, or, where no marker closes calls,
where the next call begins. What one search finds ahead is remembered by its absolute position, so that a stretch is
searched once, however many calls in it are broken.
"""

from __future__ import annotations

import re
from typing import Any

from toolparse.codecs.matching import Rx
from toolparse.reader.pieces import Pieces
from toolparse.reader.tables import CallPlan

_NAME_IN_JSON: Any = re.compile(
    r"""["'](?:name|tool_name)["'][ \t\r\n]{0,64}:[ \t\r\n]{0,64}["']([^"'\n]{1,256})["']"""
)


class Recovery(Pieces):
    """A turn that knows where to go on."""

    # What was found ahead: searched from, found at; the marker, or the head, there.
    _marker_from = 0
    _marker_at = -1
    _marker = ""
    _head_rx: Rx | None = None
    _head_from = 0
    _head_at = -1
    _head_start = -1
    _head = ""

    def resync(self, plan: CallPlan | None) -> str | None:
        """The window moves to where reading can go on behind a broken call.

        Returns the marker, or the call's head, that stands there, '' at the end of the text, None when more text is
        needed to tell.
        """
        next_call = plan.next_call if plan is not None else None
        program = self.prepared.program
        head_at, safe = self._head_ahead(next_call) if next_call is not None else (-1, len(self.buf))
        if self._find_marker() and self._marker_at < (head_at if head_at >= 0 else self.base + safe):
            self.pos = self._marker_at - self.base
            return self._marker
        if head_at >= 0:
            self.pos = self._head_start - self.base
            return self._head
        if self.final:
            self.pos = len(self.buf)
            return ""
        self.pos = min(safe, program.resync_tail.safe_end(self.buf, self.pos))
        return None

    def _find_marker(self) -> bool:
        """The next marker to go on at. Remembered."""
        here = self.here()
        if self._marker_at < here or self._marker_from > here:
            match = self.prepared.program.resync.search(self.buf, self.pos)
            if match is not None:
                self._marker_at, self._marker = self.base + match.start(), match.group()
            elif self.final:
                self._marker_at, self._marker = self.base + len(self.buf) + 1, ""
            else:
                return False
            self._marker_from = here
        return bool(self._marker)

    def _head_ahead(self, next_call: Rx) -> tuple[int, int]:
        """Where the next call begins that no marker announces (-1: nowhere), and up to where surely none does."""
        here = self.here()
        if self._head_rx is not next_call or self._head_at < here or self._head_from > here:
            match, safe = next_call.search(self.buf, self.pos, self.final)
            if match is not None:
                self._head_at, self._head_start = self.base + match.start(), self.base + match.start("at_")
                self._head = match.group()
            elif self.final:
                self._head_at, self._head_start = self.base + len(self.buf) + 1, -1
            else:
                return -1, safe
            self._head_rx, self._head_from = next_call, here
        if self._head_start < 0:
            return -1, len(self.buf)
        return self._head_at, self._head_at - self.base

    def name_in(self, start: int, end: int) -> str | None:
        """The name that a call's text seems to give, if it gives one."""
        match = _NAME_IN_JSON.search(self.kept(start, end))
        return match.group(1) if match is not None else None

    def cut_off(self, name: str | None) -> tuple[str, str]:
        """The issue of a call that the text ends in."""
        if not name:
            return "truncated", "cut off before the tool's name was complete"
        return "truncated", "cut off before the arguments ended"
