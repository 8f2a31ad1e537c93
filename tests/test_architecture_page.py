"""docs/architecture.md: its table is that of scripts/house.py, within a tenth."""

from __future__ import annotations

import re

import pytest

from scripts import house

ROW = re.compile(r"^\| `([^`]+/)` \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)
PAGE = house.PAGE.read_text(encoding="utf-8")
SAID = {place: int(size.replace(",", "")) for place, _, size in ROW.findall(PAGE)}
HINT = "run `python scripts/house.py --write`"


def test_the_table_has_every_folder() -> None:
    assert set(SAID) == {place for place, *_ in house.rows()}, HINT


@pytest.mark.parametrize(("place", "size"), [(place, size) for place, _, size, _ in house.rows()])
def test_lines_are_current(place: str, size: int) -> None:
    assert abs(SAID.get(place, 0) - size) <= max(size / 10, 20), HINT


def test_every_folder_says_what_it_holds() -> None:
    assert [place for place, _, _, holds in house.rows() if not holds] == []


def test_writing_it_again_changes_nothing_else() -> None:
    once = house.written(PAGE)
    assert house.written(once) == once
    assert once.partition(house.BEGIN)[0] == PAGE.partition(house.BEGIN)[0]
    assert once.partition(house.END)[2] == PAGE.partition(house.END)[2]
