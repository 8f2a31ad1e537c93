"""Calls that nothing but their place announces.

A call without its family's marker counts where it begins a line of the turn and nothing but calls, blanks and ends
follows: quoted in prose it is content, or a page that a tool fetched could run a tool. Whether text follows is known
at the end, so such calls are read on trial: the state of the turn before them is kept, a stream says nothing of what
comes, and if text follows after all, the turn is set back and the calls are read as the text that they are. Of each
stretch that happens once, so reading stays linear.
"""

from __future__ import annotations

from toolparse.compile import Frame
from toolparse.picture import BLANKS
from toolparse.reader.plain import PlainCalls
from toolparse.reader.states import TEXT
from toolparse.reader.tables import CallPlan


class _Before:
    """The turn before the first call on trial."""

    def __init__(self, trial: Trial, at: int) -> None:
        self.opening = trial.base + at
        self.buf = trial.buf  # the text from there on, as far as it has come, begins at `at` in it
        self.at = at
        self.base = trial.base
        self.fed = len(trial._fed) if trial.streaming else 0
        self.calls = len(trial.calls)
        self.issues = len(trial.issues)
        self.marks = len(trial.marks)
        self.content = len(trial.content)
        self.reasoning = len(trial.reasoning)
        self.events = len(trial.events) if trial.streaming else 0
        self.mark_start = trial.mark_start
        self.mark_end = trial.mark_end
        self.mark_thought = trial.mark_thought
        self.pending = list(trial.pending)
        self.has_body = trial.has_body
        self.alone = trial.alone
        self.lead = trial.lead
        self.thinking: Frame | None = trial.thinking
        self.framed: Frame | None = trial.framed
        self.section: CallPlan | None = trial.section
        self.amid = trial.amid


class Trial(PlainCalls):
    """A turn that can be set back to where calls without a marker began."""

    _before: _Before | None = None
    _text_until = 0  # up to there, what nothing announces was found to be no call
    _step: int = TEXT
    _held = ""  # what may be the beginning of a marker with a suffix

    def holding(self) -> bool:
        """Whether nothing is said yet of what is read: of calls on trial."""
        return self._before is not None

    def begins_line(self, at: int) -> bool:
        """Whether nothing but blanks stands before a local position in its line of the turn."""
        buf, start = self.buf, at
        while start > self.pos and buf[start - 1] in BLANKS:
            start -= 1
        if "\n" in buf[start:at]:
            return True
        return start == self.pos and (not self.has_body or any("\n" in blanks for blanks in self.pending))

    def untouched(self, at: int) -> bool:
        """Whether the turn holds nothing before a local position but blanks and thoughts."""
        return not (self.content or self.calls or self.has_body or self.buf[self.pos : at].strip(BLANKS))

    def begin_trial(self, at: int) -> None:
        """Calls that nothing announces begin at the local position `at`, up to which all text was seen."""
        if self._before is None:
            self._before = _Before(self, at)

    def ends_trial(self, at: int) -> bool:
        """Whether text stands before the local position `at`, behind calls on trial: then they were none."""
        if self._before is None or not self.buf[self.pos : at].strip(BLANKS):
            return False
        self.set_back()
        return True

    def set_back(self) -> None:
        """What was read on trial is text."""
        before = self._before
        assert before is not None
        self._before = None
        self._text_until = max(self._text_until, self.base + self.pos)
        if self.base != before.base:
            came = before.buf[before.at :] + "".join(self._fed[before.fed :])
            self.buf = came[: len(came) - len(self._held)]
            self.base = before.opening
        upto, self.pos = self.pos, before.opening - self.base
        if self.streaming:
            self._ahead = {}
            del self.events[before.events :]
        for finder, found in self._ahead.items():
            finder.go_back(self.buf, self.pos, upto, found)
        self.seek = self.pos
        del self.calls[before.calls :]
        del self.issues[before.issues :]
        del self.marks[before.marks :]
        del self.content[before.content :]
        del self.reasoning[before.reasoning :]
        self.mark_start, self.mark_end, self.mark_thought = before.mark_start, before.mark_end, before.mark_thought
        self.pending = before.pending
        self.has_body, self.alone, self.lead = before.has_body, before.alone, before.lead
        self.thinking, self.framed, self.section = before.thinking, before.framed, before.section
        self.ended, self.amid = False, before.amid
        self._call = None
        self.keep = None
        self._step = TEXT
