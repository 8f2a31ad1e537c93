"""The examples of docs/export.md run."""

from __future__ import annotations

import doctest

from tests.conftest import ROOT


def test_examples() -> None:
    report: list[str] = []
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8").replace("```\n", "\n").replace("```python", "")
    test = doctest.DocTestParser().get_doctest(text, {}, "docs/export.md", "docs/export.md", 0)
    assert len(test.examples) > 10
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.failed == 0, "".join(report)
