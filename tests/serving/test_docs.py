"""docs/serving.md: what it shows in Python is so."""

from __future__ import annotations

import doctest

from tests.conftest import ROOT


def test_serving_page() -> None:
    result = doctest.testfile(str(ROOT / "docs" / "serving.md"), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0
