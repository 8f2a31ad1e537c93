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
    def exit_code(self) -> int:
        """For CI."""
        if not self.detection.verified or any(item.severity == "error" for item in self.detection.problems):
            return SICK
        return HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {**self.detection.to_dict(), "exit_code": self.exit_code}

    def lines(self, *, evidence: bool = True) -> Iterator[str]:
        """The report as text."""
        found = self.detection
        yield f"{found.family} ({found.how}, {found.proof})" if found else "no tool-call format was found"
        for line in found.evidence:
            yield f"  {line}"
        yield from self._style()
        if found.checks:
            yield ""
            yield "Proof"
            for check in found.checks:
                detail = f": {check.detail}" if check.detail else ""
                yield f"  {_MARKS[check.status]} {check.name} {check.status}{detail}"
        if found.problems:
            yield ""
            yield "Problems"
        elif found.verified:
            yield ""
            yield "No problems: what goes into this template comes out of it."
        for item in found.problems:
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


def induced(source: Any, *, name: str = "my-model") -> Detection:
    """What a template teaches, without a look at the known families, as a format of that name.

    Raises UnknownFormat where nothing could be learnt.
    """
    found = climb(source, use_registry=False)
    if not isinstance(found.format, Format):
        looked = "\n".join(f"  - {line}" for line in found.evidence)
        raise UnknownFormat(f"no format could be learnt from this source. Looked at:\n{looked}")
    return dataclasses.replace(found, format=dataclasses.replace(found.format, name=name))


def as_python(format: Format) -> str:
    """A format as a module that can be pasted: imports, then the declaration."""
    declared = str(format)
    names = [name for name in ("Also", "Format", "Syntax") if f"{name}(" in declared]
    return f"from toolparse import {', '.join(names)}\n\nFORMAT = {declared}"
