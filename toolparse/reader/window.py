"""The text that has come and is not read yet.

`buf` from `pos` on is what is to be read; its first character has the absolute position `base` in the text (below 0 in
what the prompt already holds of the turn). What lies before `pos` is cut off when more comes, so that a stream holds
what it still needs and no more.

Goal: each character is copied a bounded number of times, however the text is cut. So text that may be asked for again
(`start_keeping`, for the call in hand) is kept as the pieces that were cut off, and joined once when it is.
"""

from __future__ import annotations


class Window:
    """A window over a text that arrives in pieces. `final`: nothing follows."""

    pos = 0  # what lies before it is accounted for
    seek = 0  # and up to here nothing begins
    keep: list[str] | None = None  # of the text that can be asked for again, what is no longer in `buf`
    keep_from = 0

    buf: str
    base: int
    final: bool

    def append(self, text: str) -> None:
        """More text has come."""
        pos = self.pos
        if pos:
            if self.keep is not None:
                start = max(0, self.keep_from - self.base)
                if start < pos:
                    self.keep.append(self.buf[start:pos])
            self.base += pos
            self.buf = self.buf[pos:] + text
            self.pos = 0
            self.seek = max(self.seek - pos, 0)
        else:
            self.buf += text

    def here(self) -> int:
        """The absolute position of `pos`."""
        return self.base + self.pos

    def start_keeping(self, at: int) -> None:
        """From the absolute position `at` on, which lies in `buf`, text can be asked for again."""
        self.keep = []
        self.keep_from = at

    def kept(self, start: int, end: int) -> str:
        """The text between two absolute positions behind `start_keeping`."""
        if self.keep:
            whole = "".join(self.keep) + self.buf
            return whole[start - self.keep_from : end - self.keep_from]
        return self.buf[start - self.base : end - self.base]

    def rewind(self, at: int) -> None:
        """Go back to the absolute position `at`, which lies behind `start_keeping`."""
        if self.keep:
            whole = "".join(self.keep) + self.buf
            cut = at - self.keep_from
            self.keep = [whole[:cut]]
            self.buf = whole[cut:]
            self.base = at
            self.pos = 0
        else:
            self.pos = at - self.base
        self.seek = self.pos
