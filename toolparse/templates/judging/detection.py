"""What a detection says: values that know neither Jinja nor how they were reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolparse.format import Format
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
        return next((check.status for check in self.checks if check.name == name), "absent")

    def get(self, name: str) -> Check | None:
        """A check by name."""
        return next((check for check in self.checks if check.name == name), None)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that speak against the format."""
        return tuple(check for check in self.checks if check.status == "failed")


@dataclass(frozen=True)
class Detection:
    """What was found, and why.

    `how`: `exact text`, `behaviour`, `induced`, `response_template`, `vocabulary`, `name` or `nothing`. `verified`: the
    format read everything that the template writes. `evidence`: lines for people. `problems`: what the template does to the
    data. `message_style`: how messages must be built for the template. `prefill`: what the generation prompt holds of
    the turn. `checks`: the proof. `fingerprint`: of the behaviour, where it was seen.
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

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return self.format is not None
