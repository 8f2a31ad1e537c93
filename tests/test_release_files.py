"""What a maintainer expects: one version, addresses, a promise that names what there is, templates for issues."""

from __future__ import annotations

import os
import re
import tomllib
from typing import get_args

import toolparse
import trl_integration
from tests.conftest import ROOT
from toolparse.events import Event
from toolparse.message import ISSUE_CODES


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert project["version"] == toolparse.__version__ == cited[1]


def test_addresses_and_classifiers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    urls = project["urls"]
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(urls)
    assert all(url.startswith(urls["Homepage"]) for url in urls.values())
    # The address stands in one place: whoever sets it looks nowhere else.
    host = urls["Homepage"].split("/")[2]
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.cff"), ROOT / "mkdocs.yml"]
    named = [path.name for path in texts if host in path.read_text(encoding="utf-8")]
    assert named in ([], ["releasing.md"])
    lowest = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {lowest}" in project["classifiers"]
    extras = project["optional-dependencies"]
    assert {"hub", "gguf"} <= set(extras)


def test_the_promise_names_what_there_is() -> None:
    page = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8").partition("<!-- names")[2]
    rows = dict(re.findall(r"^\*\*(.+?)\*\*: ((?:.|\n(?!\n))*)", page, re.MULTILINE))
    named = {row: re.findall(r"`([^`]+)`", text) for row, text in rows.items()}
    assert named["Codes of issues"] == sorted(ISSUE_CODES)
    assert named["Events"] == sorted(event.__name__ for event in get_args(Event))
    assert named["`toolparse`"] == toolparse.__all__
    assert named["`trl_integration`"] == trl_integration.__all__


def test_every_issue_template_asks_for_something() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    assert {"a-new-model.md", "output-read-wrong.md", "template-not-found.md"} <= set(os.listdir(folder))
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        assert re.match(r"---\nname: .+\nabout: .+\n---\n", text), path.name
        assert "**" in text


def test_wheels_are_checked_where_everything_is() -> None:
    assert "scripts/check_wheels.sh" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / "scripts" / "check_wheels.sh", os.X_OK)
