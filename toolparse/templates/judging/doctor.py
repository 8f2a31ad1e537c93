"""`toolparse doctor`: what a template does to data, told to people, to programs and to CI."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolparse.errors import UnknownFormat
from toolparse.format import Format
from toolparse.templates.judging.detection import Detection, Problem
from toolparse.templates.judging.ladder import climb

#: Exit codes: nothing wrong; problems that lose data, an unproved format, or nothing found.
HEALTHY, SICK = 0, 1

_MARKS = {"error": "✗", "warning": "!", "note": "·", "passed": "✓", "lost": "!", "refused": "·", "failed": "✗"}


@dataclass(frozen=True, slots=True)
class Report:
    """A detection, told. `exit_code` is 0 without errors, 1 with errors or without a proved format."""

    detection: Detection

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems, the worst first."""
        rank = {"error": 0, "warning": 1, "note": 2}
        return tuple(sorted(self.detection.problems, key=lambda item: rank[item.severity]))

    @property
    def exit_code(self) -> int:
        """For CI."""
        if not self.detection.verified or any(item.severity == "error" for item in self.problems):
            return SICK
        return HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        found = self.detection
        return {
            "format": found.format.name if found.format is not None else None,
            "how": found.how,
            "verified": found.verified,
            "fingerprint": found.fingerprint,
            "prefill": found.prefill,
            "evidence": list(found.evidence),
            "message_style": dataclasses.asdict(found.message_style) if found.message_style is not None else None,
            "checks": [dataclasses.asdict(check) for check in found.checks],
            "problems": [dataclasses.asdict(item) for item in self.problems],
            "exit_code": self.exit_code,
        }

    def lines(self, *, evidence: bool = True) -> Iterator[str]:
        """The report as text."""
        found = self.detection
        name = found.format.name if found.format is not None else "no format"
        proof = "proved on the template" if found.verified else "not proved"
        yield f"{name} ({found.how}, {proof})" if found.format is not None else "no tool-call format was found"
        for line in found.evidence:
            yield f"  {line}"
        yield from self._style()
        if found.checks:
            yield ""
            yield "Proof"
            for check in found.checks:
                detail = f": {check.detail}" if check.detail else ""
                yield f"  {_MARKS[check.status]} {check.name} {check.status}{detail}"
        if self.problems:
            yield ""
            yield "Problems"
        elif found.verified:
            yield ""
            yield "No problems: what goes into this template comes out of it."
        for item in self.problems:
            yield from self._problem(item, evidence)

    def _style(self) -> Iterator[str]:
        style = self.detection.message_style
        differences = style.differences() if style is not None else {}
        if differences:
            yield "  messages need: " + ", ".join(f"{key}={value!r}" for key, value in differences.items())

    def _problem(self, item: Problem, evidence: bool) -> Iterator[str]:
        yield f"  {_MARKS[item.severity]} {item.severity}: {item.message} [{item.code}]"
        if item.training == item.serving:
            yield f"      {item.training}"
        else:
            yield f"      training: {item.training}"
            yield f"      serving:  {item.serving}"
        if evidence and item.evidence:
            for line in item.evidence.splitlines()[:6]:
                yield f"      | {line[:160]}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def report(source: Any) -> Report:
    """Examine a tokenizer, template, folder or file."""
    return Report(climb(source))


def induced(source: Any, *, name: str = "my-model") -> str:
    """The format that a template teaches, as Python, without looking at the known families.

    Raises UnknownFormat where nothing could be learnt.
    """
    found = climb(source, use_registry=False)
    if not isinstance(found.format, Format):
        looked = "\n".join(f"  - {line}" for line in found.evidence)
        raise UnknownFormat(f"no format could be learnt from this source. Looked at:\n{looked}")
    return str(dataclasses.replace(found.format, name=name))
