"""Where a call begins and ends: comparing a turn of one call with a turn of two."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolparse.templates.induction.arguments import Body, spans_of
from toolparse.templates.induction.atoms import (
    Atoms,
    Hole,
    blank,
    blanks_at_end,
    blanks_at_start,
    common_end,
    common_start,
    marked,
    solid,
    text_of,
)
from toolparse.templates.induction.message_style import NAMED_ID
from toolparse.templates.induction.probe import ONE, Prober
from toolparse.templates.induction.turn_start import Cutter

#: Opening, core and closing of one parameter.
Param = tuple[Atoms, Atoms, Atoms]


@dataclass
class Calls:
    """The parts of a turn with calls, as atoms."""

    head: Atoms
    opening: Atoms
    core: Atoms
    closing: Atoms
    between: Atoms
    tail: Atoms
    single: bool


@dataclass
class Reader:
    """Turns of one template as atoms, with what is known so far of how its calls are written.

    `opening_first`: where what closes and what opens claim the same text, it opens.
    """

    prober: Prober
    cutter: Cutter
    body: Body
    opening_first: bool = False
    param: Param | None = None

    def __post_init__(self) -> None:
        if self.body.kind == "params":
            self.param = param_picture(self._marked(self.cutter.written(ONE), ONE.calls), self.opening_first)

    def _marked(self, turn: str, calls: Sequence[tuple[str, Mapping[str, str]]]) -> Atoms:
        return marked(turn, spans_of(turn, calls, self.body, self.prober.style.new_id))

    def atoms(self, turn: str, calls: Sequence[tuple[str, Mapping[str, str]]]) -> Atoms:
        """A turn's atoms; each call's run of parameters is one hole."""
        return self._fold_params(self._marked(turn, calls), len(calls))

    def before_calls(self) -> Atoms:
        """What a turn of one call begins with."""
        sequence = self.atoms(self.cutter.written(ONE), ONE.calls)
        return sequence[: core(sequence, 0)[0]]

    def _fold_params(self, sequence: Atoms, count: int) -> Atoms:
        """Replace each call's run of parameters by the hole `params`."""
        if self.param is None:
            return sequence
        opening, _, closing = self.param
        for call in range(count):
            places = [
                index
                for index, atom in enumerate(sequence)
                if isinstance(atom, Hole) and atom.call == call and atom.kind in ("key", "value")
            ]
            if not places:
                continue
            start, end = places[0] - len(opening), places[-1] + 1 + len(closing)
            sequence = [*sequence[: max(0, start)], Hole("params", call), *sequence[end:]]
        return sequence


def core(sequence: Atoms, call: int) -> tuple[int, int]:
    """From the first hole of a call to behind its last."""
    places = [index for index, atom in enumerate(sequence) if isinstance(atom, Hole) and atom.call == call]
    return (places[0], places[-1] + 1) if places else (len(sequence), len(sequence))


def param_picture(sequence: Atoms, opening_first: bool = False) -> Param:
    """Opening, core and closing of one parameter, from a call with two."""
    spots: list[list[int]] = [[], []]
    for index, atom in enumerate(sequence):
        if isinstance(atom, Hole) and atom.kind in ("key", "value"):
            spots[atom.at].append(index)
    (a, b), (c, d) = ((min(spot), max(spot) + 1) for spot in spots)
    others = [index for index, atom in enumerate(sequence) if isinstance(atom, Hole) and atom.kind in ("name", "id")]
    begin = max((index + 1 for index in others if index < a), default=0)
    stop = min((index for index in others if index >= d), default=len(sequence))
    head, gap, tail = sequence[begin:a], sequence[b:c], sequence[d:stop]
    _, opening = _shares(gap, common_start(gap, tail), common_end(head, gap), opening_first)
    return gap[len(gap) - opening :], sequence[a:b], gap[: len(gap) - opening]


def _shares(gap: Atoms, closing: int, opening: int, opening_first: bool) -> tuple[int, int]:
    """How much of a gap closes and how much opens, where both claim the same atoms.

    The closing has them; with `opening_first` it has only what ends a tag, and the white space behind it.
    """
    both = closing + opening - len(gap)
    if both <= 0:
        return closing, opening
    run = gap[closing - both : closing]
    if not opening_first or not solid(run):
        return closing, opening - both
    own = 0  # what ends a tag that a hole has cut in two, and white space behind it
    while own < len(run) and (blank(run[own]) or run[own] in (">", '"', "'", "/")):
        own += 1
    return closing - both + own, opening - own


def split(single: Atoms, double: Atoms, opening_first: bool = False) -> Calls:
    """The parts of a turn, from renderings of one call and of two."""
    double = _indexed(double)
    first, second = core(double, 0), core(double, 1)
    head, gap, tail = double[: first[0]], double[first[1] : second[0]], double[second[1] :]
    alone = single[core(single, 0)[1] :]
    closes = common_start(gap, tail, alone) or common_start(gap, tail)
    closes, shared = _shares(gap, closes, common_end(head, gap), opening_first)
    closing, opening = gap[:closes], gap[len(gap) - shared :]
    between = gap[len(closing) : len(gap) - shared]
    ended = alone[len(closing) :] if common_start(closing, alone) == len(closing) else tail[len(closing) :]
    if len(solid(tail[len(closing) :])) != len(solid(ended)):
        ended = tail[len(closing) :]
    head = head[: len(head) - shared]
    # Blanks belong outside: what a call ends or begins with is the same in every cut then.
    cut = blanks_at_start(opening)
    head, between, opening = [*head, *opening[:cut]], [*between, *opening[:cut]], opening[cut:]
    cut = blanks_at_end(closing)
    moved = closing[len(closing) - cut :]
    closing, between, ended = closing[: len(closing) - cut], [*moved, *between], [*moved, *ended]
    return Calls(head, opening, double[first[0] : first[1]], closing, between, ended, single=False)


def _indexed(double: Atoms) -> Atoms:
    """Numbers that count the calls become holes."""
    made = list(double)
    first, second = core(double, 0), core(double, 1)
    pairs: list[tuple[int, int]] = []
    pairs.extend(zip(range(first[0] - 1, -1, -1), range(second[0] - 1, first[1] - 1, -1), strict=False))
    inner = list(zip(range(*first), range(*second), strict=False))
    for run in (pairs, inner, list(zip(range(first[1], second[0]), range(second[1], len(double)), strict=False))):
        for one, other in run:
            a, b = double[one], double[other]
            if isinstance(a, str) and isinstance(b, str) and a.isdigit() and b.isdigit() and int(b) == int(a) + 1:
                kind = "index" if a == "0" else f"index:{a}"
                made[one], made[other] = Hole(kind, 0), Hole(kind, 1)
            elif isinstance(a, Hole) != isinstance(b, Hole) or (isinstance(a, str) and a != b):
                break
    return made


_NAME_IN_ID = re.compile(r"[^\s<>|\"'{}\[\]()=,]*\{\{name\}\}[^\s<>|\"'{}\[\]()=,]*\{\{index(?::\d+)?\}\}")


def as_picture(sequence: Atoms) -> tuple[str, str | None]:
    """The picture of a call and the picture of its id, if the id is made of the name."""
    text = text_of(sequence)
    counted = _NAME_IN_ID.search(text)
    id_picture = None
    if counted is not None and "{{id}}" not in text:
        id_picture = counted.group()
        text = text.replace(id_picture, "{{id}}")
    elif "{{id}}" in text and "{{name}}" not in text:
        id_picture = NAMED_ID
    # A quoted name or id is a JSON value: its quotes belong to its spelling.
    text = re.sub(r"(?<=[:])(\s*)([\"'])\{\{(name|id)\}\}\2", r"\1{{\3}}", text)
    return re.sub(r"(?<=[:])(\s*)([\"'])\{\{index\}\}\2", r"\1{{id}}", text), id_picture
