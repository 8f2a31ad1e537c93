"""The examples on every page run: README, docs/ and the pages beside them.

What stands in a fence marked `pycon`, or begins with `>>>`, is a session: it runs and must print what it shows. Blocks
of pages in `RUN` are executed; pages in `NOT_RUN` have others, which need what no test has, and are Python. A page is read from top to bottom with one
set of names. Links and names of files lead somewhere.
"""

from __future__ import annotations

import doctest
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.conftest import ROOT
from toolparse import Issue, ParsedMessage, ToolCall
from toolparse.events import Event
from toolparse.message import ISSUE_CODES, NOTES
from toolparse.reader.options import DEFAULT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]

#: Pages whose Python blocks are not sessions and are executed all the same, each with an assertion.
RUN = {"docs/pictures.md"}

#: Pages with blocks that are not executed here: how many, and where they are or why not.
NOT_RUN = {
    "docs/gateway.md": 1,  # an outline; examples/train_agent.py is run
    "README.md": 2,  # executed in test_readme.py
    "docs/scaling.md": 3,  # an outline for a pool, of which tests/test_batch.py runs the lines; settings for GPUs
    "docs/training.md": 1,  # an outline; examples/train_tools.py is run
    "docs/trl.md": 1,  # an outline
}

#: What the sessions of a page need beside the library.
NEEDS = {"docs/corpora.md": "pyarrow"}

#: Pages that must hold sessions, so that a change of fences is noticed.
SESSIONS = {"README.md", "docs/corpora.md", "docs/export.md", "docs/results.md", "docs/streaming.md"}

#: What is made by running something and is not kept.
MADE = {"benchmarks/results/"}

_FENCE = re.compile(r"^```(pycon|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[tuple[int, str]]:
    """The page's blocks of Python, each with the line that it begins in."""
    text = text_of(name)
    return [(text.count("\n", 0, match.start(2)), match.group(2)) for match in _FENCE.finditer(text)]


def is_session(block: str) -> bool:
    return block.lstrip().startswith(">>>")


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name: str) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    names: dict[str, Any] = {}
    report: list[str] = []
    failed = 0
    for line, block in blocks(name):
        if is_session(block):
            test = doctest.DocTestParser().get_doctest(block, names, name, name, line)
            failed += doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False).failed
            names = test.globs
        else:
            code = compile("\n" * line + block, name, "exec")
            if name in RUN:
                exec(code, names)
    assert failed == 0, "".join(report)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_run_or_named(name: str) -> None:
    left = [block for _, block in blocks(name) if not is_session(block)]
    assert len(left) <= (len(left) if name in RUN else NOT_RUN.get(name, 0))


@pytest.mark.parametrize("name", sorted(SESSIONS))
def test_pages_of_sessions_hold_some(name: str) -> None:
    assert sum(is_session(block) for _, block in blocks(name)) >= 1


@pytest.mark.parametrize("name", sorted(RUN))
def test_every_executed_example_checks_something(name: str) -> None:
    assert [block for _, block in blocks(name)[1:] if "assert " not in block] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`+[^`\n]*`+", "", text)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str) -> None:
    pattern = r"`((?:docs|scripts|tests|fixtures|examples|benchmarks|toolparse|trl_integration)/[\w./-]+)`"
    named = set(re.findall(pattern, text_of(name))) - MADE
    missing = sorted(file for file in named if not Path(ROOT, file).exists())
    assert missing == []


def rows_of(name: str) -> dict[str, str]:
    """The page's table rows by the code that stands in their first column."""
    rows: dict[str, str] = {}
    for first, rest in re.findall(r"^\| (.*?) \|(.*)\|$", text_of(name), re.MULTILINE):
        rows.update(dict.fromkeys(re.findall(r"`([^`]+)`", first), rest))
    return rows


def lacking(wanted: Iterable[str], found: Iterable[str]) -> list[str]:
    return sorted(set(wanted) - set(found))


def test_every_field_of_results_is_explained() -> None:
    fields = [*ParsedMessage.__struct_fields__, *ToolCall.__struct_fields__, *Issue.__struct_fields__]
    named = {*fields, "errors", "ok", "truncated", "is_note", "show(text)"}
    assert lacking(named, rows_of("docs/results.md")) == []


def test_every_issue_code_is_explained_and_shown() -> None:
    rows = rows_of("docs/results.md")
    assert lacking(ISSUE_CODES, rows) == []
    assert {code for code in ISSUE_CODES if rows[code].split("|")[0].strip() == "note"} == NOTES
    printed = " ".join(block for _, block in blocks("docs/results.md"))
    assert [code for code in sorted(ISSUE_CODES) if not re.search(rf"^\W*{code}\W", printed, re.MULTILINE)] == []


def test_every_option_is_explained() -> None:
    rows = rows_of("docs/results.md")
    assert lacking(DEFAULT.given(), rows) == []
    for option, value in DEFAULT.given().items():
        assert rows[option].split("|")[0].strip(" `") == (f'"{value}"' if isinstance(value, str) else str(value))


def test_every_event_is_explained() -> None:
    assert lacking([event.__name__ for event in get_args(Event)], rows_of("docs/streaming.md")) == []
