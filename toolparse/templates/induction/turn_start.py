"""Where the assistant's turn begins in a rendering, and what the prompt already holds of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from toolparse.templates.induction.atoms import (
    Atom,
    Atoms,
    alike,
    atoms,
    blank,
    blanks_at_end,
    blanks_at_start,
    common_end,
    common_start,
    is_marker,
    solid,
    text_of,
)
from toolparse.templates.induction.probe import (
    CONTENT,
    NAMES,
    ONE,
    SPOKEN,
    SPOKEN_ONE,
    USER,
    USER_2,
    Prober,
    Turn,
    after_user,
)


class Cutter:
    """Finds where the turn begins in a rendering.

    Behind the user's message, the prompt and a rendering agree up to the header of the turn. Where a thought is opened
    by the prompt, some renderings agree with it further than others, so the shortest agreement counts. Blanks are not
    compared: there are templates that indent one and not the other.
    """

    def __init__(self, prober: Prober, prompt: str) -> None:
        self.prober = prober
        self.prompt = atoms(prompt[after_user(prompt) :])
        self.before = prompt[: after_user(prompt)]
        self.trailer: Atoms = []
        self.extra: Atoms = []
        self.agreed = len(solid(self.prompt))
        named = [index for index, atom in enumerate(solid(self.prompt)) if atom in NAMES]
        self.floor = named[-1] + 1 if named else 0  # tools that are listed behind the user's text are none of the turn
        one, spoken = prober.full(ONE), prober.full(SPOKEN)
        history = prober.history(SPOKEN)
        self.trailer = self._find_trailer(one, spoken, history)
        self.learn(one, spoken, history)
        for _, other in prober.prompts():
            if USER in other:
                self._learn(atoms(other[after_user(other) :]))
        self.agreed -= self._behind_role(self.prompt[: self._header_end()])
        self._find_extra(one, spoken)

    def _find_trailer(self, one: str | None, spoken: str | None, history: str | None) -> Atoms:
        """What the template appends to every conversation, asked for a generation prompt or not."""
        plain = self.prober.render([self.prober.user()])
        if not (plain and one and spoken and history and CONTENT in history and CONTENT in spoken):
            return []
        sequences = [atoms(text[after_user(text) :]) for text in (plain, one, spoken)]
        run = sequences[0][len(sequences[0]) - common_end(*sequences) :]
        behind = atoms(history[history.rindex(CONTENT) + len(CONTENT) : history.rindex(USER_2)])
        after = atoms(spoken[spoken.rindex(CONTENT) + len(CONTENT) :])
        ends = common_start(after, behind)
        trailer = run[max(0, len(run) - (len(after) - ends)) :]
        return trailer if solid(trailer) else []

    def _rest(self, text: str) -> Atoms:
        """The atoms behind the user's message, without the trailer."""
        sequence = atoms(text[after_user(text) :])
        size = len(self.trailer)
        return sequence[: len(sequence) - size] if size and sequence[-size:] == self.trailer else sequence

    def learn(self, *texts: str | None) -> None:
        """Take renderings into account that may agree with the prompt for a shorter stretch."""
        for text in texts:
            if text is not None and USER in text:
                self._learn(self._rest(text))

    def _learn(self, sequence: Atoms) -> None:
        agreed = common_start(solid(self.prompt), solid(sequence))
        if agreed > self.floor:  # else a switch changed the user's message, which tells nothing about the turn
            self.agreed = min(self.agreed, agreed)

    def _find_extra(self, *texts: str | None) -> None:
        """A header that the prompt shows at its very end only, behind something that renderings lack."""
        turns = [atoms(self.turn(text)) for text in texts if text]
        if len(turns) < 2:
            return
        shared = turns[0][: common_start(*turns)]
        tail = solid(self.prompt)[self.agreed :]
        if common_start(tail, solid(shared)):
            return
        for size in range(len(shared), 0, -1):
            if self.prompt[-size:] == shared[:size] and solid(shared[:size]) and is_marker(shared[size - 1]):
                self.extra = shared[:size]
                return

    def turn(self, full: str) -> str:
        """The assistant's turn in a rendering."""
        sequence = self._rest(full)
        agreed = self._header_of(sequence)
        at, other = behind(sequence, agreed), behind(self.prompt, agreed)
        for own, prompted in zip(sequence[at:], self.prompt[other:], strict=False):
            if not blank(own) or own != prompted:
                break
            at += 1
        if self.extra and sequence[at : at + len(self.extra)] == self.extra:
            at += len(self.extra)
        return text_of(sequence[at:])

    def written(self, turn: Turn, **switches: Any) -> str:
        """An assistant's turn as the template writes it; "" where it refuses to."""
        return self.turn(self.prober.full(turn, **switches) or "")

    def _header_of(self, sequence: Atoms) -> int:
        """How many atoms are the header of a rendering: fewer than usual where it lacks one and opens calls at once.

        Otherwise it is a header of another role, as long as the usual one.
        """
        own = solid(sequence)
        shared = common_start(solid(self.prompt), own)
        if shared >= self.agreed or shared >= len(own):
            return self.agreed
        behind_content = atoms((self.prober.full(SPOKEN_ONE) or "").rpartition(CONTENT)[2])
        before_call = solid(behind_content[: next((i for i, a in enumerate(behind_content) if a in NAMES), 0)])
        return shared if before_call[: self.agreed - shared] == own[shared : self.agreed] else self.agreed

    def _header_end(self) -> int:
        if self.extra:
            return len(self.prompt)
        at = behind(self.prompt, self.agreed)
        return at + blanks_at_start(self.prompt[at:])

    def header(self) -> str:
        """The prompt up to the turn."""
        return self.before + text_of(self.prompt[: self._header_end()])

    def tail(self, prompt: str | None = None) -> Atoms:
        """What a prompt already holds of the turn: the default one, or one rendered with switches."""
        if prompt is None:
            return self.prompt[self._header_end() :]
        sequence = atoms(prompt[after_user(prompt) :])
        at = behind(sequence, self.agreed) if not self.extra else len(sequence)
        return sequence[at + blanks_at_start(sequence[at:]) :]

    def prefill(self) -> str:
        """The default tail as text; blanks alone are nothing."""
        text = text_of(self.tail())
        return text if text.strip() else ""

    def header_run(self) -> Atoms:
        """The last marker of the header and the words behind it: how a message of the assistant is opened."""
        behind = self.prompt[: self._header_end()]
        behind = behind[: len(behind) - blanks_at_end(behind)]
        marks = [index for index, atom in enumerate(behind) if is_marker(atom)]
        if not marks:
            return []
        if marks[-1] < len(behind) - 1:
            return behind[marks[-1] :]
        named = len(marks) > 1 and bool(solid(behind[marks[-2] + 1 : marks[-1]]))  # else it closes what stood before
        return behind[marks[-2 if named else -1] :]

    def give_back_last(self, words: re.Pattern[str]) -> None:
        """Count the header's last marker to the turn if it has such words: every rendering may open a thought."""
        header = solid(self.prompt[: self._header_end()])
        if header and is_marker(header[-1]) and words.search(str(header[-1])) and closing_of(str(header[-1])):
            self.agreed -= 1

    def give_back(self, after: Sequence[Atom]) -> bool:
        """Count the header's last marker to the turn: every rendering may share a thought's opening.

        `after`: what stands behind a thought. An opening of several atoms is known by its closing, which differs from
        it in one of them (`<|open|>think<|sep|>`, `<|close|>think<|sep|>`).
        """
        header = self.prompt[: self._header_end()]
        marks = [index for index, atom in enumerate(header) if is_marker(atom)]
        if not marks or self.prober.full(SPOKEN) is None or self.written(SPOKEN).lstrip().startswith(CONTENT):
            return False  # content stands directly behind it: it opens the message, not a thought
        size = self._behind_role(header) or len(solid(header[marks[-1] :]))
        own = solid(header)
        for longer in range(size + 1, min(6, len(own), len(after)) + 1):
            if paired(own[-longer:], after[:longer]):
                size = longer
        self.agreed -= size
        return True

    def _behind_role(self, header: Atoms) -> int:
        """How many atoms of the header stand behind the role, if that is written as the user's but for one word."""
        before = atoms(self.before.removesuffix(USER))
        marks = [index for index, atom in enumerate(before) if is_marker(atom)]
        run = before[marks[-1] :] if marks else []
        if not solid(run):
            return 0
        allowed = 1 if len(solid(run)) > 1 else 0
        for start in range(len(header) - len(run), -1, -1):  # the last one: others may stand before the turn
            own = header[start : start + len(run)]
            if sum(not alike(*pair) for pair in zip(run, own, strict=True)) <= allowed:
                return len(solid(header[start + len(run) :]))
        return 0


def closing_of(opening: str) -> str:
    """What closes that which a marker opens: `</think>` for `<think>`, `[/THINK]` for `[THINK]`; "" for others."""
    if not re.fullmatch(r"<[A-Za-z][^<>|｜/]*>|\[[A-Z][A-Z_]*\]", opening):
        return ""
    return opening.replace(opening[0], opening[0] + "/", 1)


def paired(opening: Sequence[Atom], closing: Sequence[Atom]) -> bool:
    """Whether one sequence closes what another opens: as long, and one atom differs."""
    return len(opening) == len(closing) and sum(not alike(*pair) for pair in zip(opening, closing, strict=True)) == 1


def behind(sequence: Atoms, count: int) -> int:
    """The index behind the first `count` atoms that are not blank."""
    for index, atom in enumerate(sequence):
        if count == 0:
            return index
        if not blank(atom):
            count -= 1
    return len(sequence)
