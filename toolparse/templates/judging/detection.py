"""What a detection says: values that know neither Jinja nor how they were reached."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from toolparse.format import Format
from toolparse.message import table_html
from toolparse.parser import FunctionParser
from toolparse.templates.induction.message_style import MessageStyle

Entry = Format | FunctionParser

Status = Literal["passed", "lost", "failed", "refused", "absent"]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a template does to the data that pass through it.

    `code` is stable; `evidence` is what it wrote; `training` and `serving` say what to do about it.
    """

    code: str
    message: str
    severity: Severity = "warning"
    evidence: str = ""
    training: str = ""
    serving: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One case of the proof. `lost` and `refused` are the template's doing; `failed` is the format's."""

    name: str
    status: Status
    detail: str = ""
    evidence: str = ""

    @property
    def ok(self) -> bool:
        """Whether it speaks for the format, or at least not against it."""
        return self.status != "failed"


@dataclass(frozen=True, slots=True)
class Proof:
    """The checks of one format on one template."""

    checks: tuple[Check, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether nothing failed and a call was really read."""
        return all(check.ok for check in self.checks) and self.status("single") in ("passed", "lost")

    def status(self, name: str) -> Status:
        """The status of a check by name."""
        check = self.get(name)
        return check.status if check is not None else "absent"

    def get(self, name: str) -> Check | None:
        """A check by name."""
        return next((check for check in self.checks if check.name == name), None)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that speak against the format."""
        return tuple(check for check in self.checks if not check.ok)


@dataclass(frozen=True)
class Detection:
    """What was found, and why.

    `how`: `exact text`, `behaviour`, `induced`, `response_template`, `prompt`, `vocabulary`, `name` or `nothing`.
    `verified`: the format read everything that the template writes. `evidence`: lines for people. `problems`: what the
    template does to the data, the worst first. `message_style`: how messages must be built for the template. `prefill`:
    what the generation prompt holds of the turn. `checks`: the proof. `fingerprint`: of the behaviour, where it was
    seen.
    """

    format: Entry | None
    how: str = "nothing"
    evidence: tuple[str, ...] = ()
    verified: bool = False
    problems: tuple[Problem, ...] = ()
    message_style: MessageStyle | None = None
    prefill: str = ""
    template: str | None = None
    checks: tuple[Check, ...] = ()
    fingerprint: str = ""

    def __post_init__(self) -> None:
        rank = {"error": 0, "warning": 1, "note": 2}
        object.__setattr__(self, "problems", tuple(sorted(self.problems, key=lambda item: rank[item.severity])))

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return self.format is not None

    @property
    def family(self) -> str | None:
        """The name of the format."""
        return self.format.name if self.format is not None else None

    @property
    def proof(self) -> str:
        """Whether the format is proved, in words."""
        return "proved on its template" if self.verified else "not verified"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the format and the template, as plain data."""
        return {
            "family": self.family,
            "how": self.how,
            "verified": self.verified,
            "evidence": list(self.evidence),
            "problems": [dataclasses.asdict(item) for item in self.problems],
            "prefill": self.prefill,
            "message_style": dataclasses.asdict(self.message_style) if self.message_style is not None else None,
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "fingerprint": self.fingerprint,
        }

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("family", self.family or "none found")]
        if self.format is not None:
            rows += [("found by", self.how), ("proof", self.proof)]
        rows += [("evidence", line) for line in self.evidence]
        return rows + [("problem", f"{item.severity}: {item.message}") for item in self.problems]

    def __repr__(self) -> str:
        (_, family), *rows = self._rows()
        return "\n".join([f"<Detection: {family}", *(f"  {name:8}  {text}" for name, text in rows)]) + ">"

    def _repr_html_(self) -> str:
        return table_html(self._rows())
