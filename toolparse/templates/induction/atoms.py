"""Texts as sequences of atoms and holes, compared on whole markers and never on characters.

`</parameter>` and `</parameters>` share eleven characters and nothing else. So texts are cut into atoms (a marker, a
word, a run of blanks, a newline, one other character) before they are compared, and what a probe put in is replaced
by holes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_ATOM = re.compile(
    r"<[^<>\n]{1,80}>"  # <tool_call>, <|im_end|>, <function=
    r"|\[/?[A-Z][A-Z0-9_ ]*\]"  # [TOOL_CALLS]
    r"|[^\W\d_]+|\d+"  # a word, a number
    r"|[ \t]+|\n"
    r"|.",
    re.DOTALL,
)
_MARKER = re.compile(r"<[^<>\n]{1,80}>|\[/?[A-Z][A-Z0-9_ ]*\]")


@dataclass(frozen=True, slots=True)
class Hole:
    """A place where a probe's value stands. `call` and `at` tell which one; two holes are alike when `kind` is."""

    kind: str
    call: int = 0
    at: int = 0


Atom = str | Hole
Atoms = list[Atom]


def atoms(text: str) -> Atoms:
    """The atoms of a text without holes."""
    return list(_ATOM.findall(text))


def marked(text: str, spans: Iterable[tuple[int, int, Hole]]) -> Atoms:
    """The atoms of a text in which spans are holes; spans inside others are left out."""
    made: Atoms = []
    at = 0
    for start, end, hole in sorted(spans, key=lambda span: (span[0], -span[1])):
        if start < at:
            continue
        made.extend(_ATOM.findall(text[at:start]))
        made.append(hole)
        at = end
    made.extend(_ATOM.findall(text[at:]))
    return made


def bare(text: str | None) -> str:
    """A text without white space."""
    return "".join((text or "").split())


def blank(atom: Atom) -> bool:
    """Whether an atom is white space."""
    return isinstance(atom, str) and not atom.strip()


def is_marker(atom: Atom) -> bool:
    """Whether an atom looks like a marker of its own: `<...>`, `[NAME]`."""
    return isinstance(atom, str) and _MARKER.fullmatch(atom) is not None


def alike(one: Atom, other: Atom) -> bool:
    """Whether two atoms stand for the same thing."""
    if isinstance(one, Hole) or isinstance(other, Hole):
        return isinstance(one, Hole) and isinstance(other, Hole) and one.kind == other.kind
    return one == other


def common_start(*sequences: Sequence[Atom]) -> int:
    """How many atoms all sequences begin with."""
    count = 0
    for group in zip(*sequences, strict=False):
        if any(not alike(group[0], other) for other in group[1:]):
            break
        count += 1
    return count


def common_end(*sequences: Sequence[Atom]) -> int:
    """How many atoms all sequences end with."""
    return common_start(*(list(reversed(sequence)) for sequence in sequences))


def solid(sequence: Sequence[Atom]) -> Atoms:
    """The atoms that are not white space."""
    return [atom for atom in sequence if not blank(atom)]


def text_of(sequence: Iterable[Atom]) -> str:
    """The picture of a sequence: literals as they are, holes in braces."""
    return "".join(atom if isinstance(atom, str) else "{{" + atom.kind + "}}" for atom in sequence)


def blanks_at_start(sequence: Sequence[Atom]) -> int:
    """How many atoms of white space a sequence begins with."""
    count = 0
    while count < len(sequence) and blank(sequence[count]):
        count += 1
    return count


def blanks_at_end(sequence: Sequence[Atom]) -> int:
    """How many atoms of white space a sequence ends with."""
    return blanks_at_start(sequence[::-1])


def find(sequence: Sequence[Atom], kind: str, start: int = 0) -> int:
    """Where the next hole of a kind stands, or -1."""
    for index in range(start, len(sequence)):
        atom = sequence[index]
        if isinstance(atom, Hole) and atom.kind == kind:
            return index
    return -1


def find_run(sequence: Sequence[Atom], run: Sequence[Atom], start: int = 0) -> int:
    """Where a run of atoms stands in a sequence, or -1."""
    if not run:
        return -1
    for index in range(start, len(sequence) - len(run) + 1):
        if all(alike(a, b) for a, b in zip(sequence[index : index + len(run)], run, strict=True)):
            return index
    return -1
