"""What a user may choose about reading."""

from __future__ import annotations

from typing import Any

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn is read; what acts beyond the rulings is off by default, and noted `repaired` where it acts.

    `repair`: whether slips of the model are mended and noted, or make a call one that can't be read. `bare`: where a
    call counts that its family's marker does not announce: `alone` (it begins a line, and nothing but calls, blanks and
    ends follows), `anywhere`, `never`. `rescue`: whether a turn that is nothing but JSON calls of offered tools, fenced
    or not, is read as calls. `coerce`: whether arguments are fitted to the schema where one reading fits. `infer`:
    whether tagged values are typed by their looks where no tools are given.
    """

    repair: bool = True
    bare: str = "alone"
    rescue: bool = False
    coerce: bool = False
    infer: bool = False

    def __post_init__(self) -> None:
        if self.bare not in ("alone", "anywhere", "never"):
            raise ValueError(f"bare={self.bare!r}: give 'alone', 'anywhere' or 'never'")

    def given(self) -> dict[str, Any]:
        """The choices, as the arguments that they were given by."""
        return msgspec.structs.asdict(self)


DEFAULT = Options()
