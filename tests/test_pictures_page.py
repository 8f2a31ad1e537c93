"""docs/pictures.md: its examples run, and no word of the language is left out."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from tests.conftest import ROOT
from toolparse.format import CALL_HOLES, PARAM_HOLES, Format

PAGE = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def namespace() -> dict[str, Any]:
    """What the page's first block defines for the others."""
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[0], "pictures.md, block 0", "exec"), names)
    return names


def test_the_examples_run_in_order(namespace: dict[str, Any]) -> None:
    assert len(BLOCKS) >= 20
    for number, block in enumerate(BLOCKS[1:], 1):
        exec(compile(block, f"pictures.md, block {number}", "exec"), namespace)


def test_every_example_checks_something() -> None:
    assert [block for block in BLOCKS[1:] if "assert " not in block] == []


def test_every_field_is_explained() -> None:
    headings = " ".join(re.findall(r"^### (.*)$", PAGE, re.MULTILINE))
    missing = [field.name for field in dataclasses.fields(Format) if f"`{field.name}`" not in headings]
    assert missing == []


def test_every_hole_is_explained() -> None:
    holes = CALL_HOLES | PARAM_HOLES | {"text", "calls", "suffix"}
    assert [hole for hole in sorted(holes) if "{{" + hole not in PAGE] == []
