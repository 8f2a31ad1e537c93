"""docs/pictures.md: no word of the language is left out. Its examples run in test_pages.py."""

from __future__ import annotations

import dataclasses
import re

from tests.conftest import ROOT
from toolparse.format import CALL_HOLES, PARAM_HOLES, Format

PAGE = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")


def test_every_field_is_explained() -> None:
    headings = " ".join(re.findall(r"^### (.*)$", PAGE, re.MULTILINE))
    missing = [field.name for field in dataclasses.fields(Format) if f"`{field.name}`" not in headings]
    assert missing == []


def test_every_hole_is_explained() -> None:
    holes = CALL_HOLES | PARAM_HOLES | {"text", "calls", "suffix"}
    assert [hole for hole in sorted(holes) if "{{" + hole not in PAGE] == []
