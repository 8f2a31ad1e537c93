"""The version is the same wherever it stands."""

from __future__ import annotations

import re
import tomllib

import toolparse
from tests.conftest import ROOT


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert project["version"] == toolparse.__version__ == cited[1]
