"""The site: every page is on it, the API page names every public name, the notebook shows what it computes."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import toolparse
from tests.conftest import ROOT

DOCS = ROOT / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))


def test_the_api_page_names_every_public_name() -> None:
    named = set(re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE))

    def is_named(name: str) -> bool:
        value = getattr(toolparse, name)
        module = getattr(value, "__module__", getattr(value, "__name__", ""))
        return bool(named & {f"toolparse.{name}", f"{module}.{name}", module})

    constants = {"COMPILED", "JSON", "PYTHON", "Event"}  # the last is the union of toolparse.events
    assert [name for name in toolparse.__all__ if name not in constants and not is_named(name)] == []


@pytest.mark.parametrize("word", ["picture", "hole", "slack", "thought", "rung", "bridge", "prefill", "marker", "span"])
def test_our_own_words_are_explained(word: str) -> None:
    rows = re.findall(r"^\| ([\w ,]+?) \| (.*?) \|", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows)[word]


def test_the_pages_that_the_site_puts_in_order_exist() -> None:
    tree = ast.parse((ROOT / "scripts" / "docs_site.py").read_text(encoding="utf-8"))
    order = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ORDER"
    )
    outside = {"changelog", "contributing", "security"}
    missing = [name for names in order.values() for name in names if not (DOCS / f"{name}.md").exists()]
    assert set(missing) == outside


@pytest.mark.slow
def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    """Every page of docs/ is on it and can be reached, one that nobody named among them; no link leads nowhere."""
    for library in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed: `make docs` installs it")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md") if path.name != "README.md"]
    start = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    for page in pages:
        assert (tmp_path / "site" / page / "index.html").is_file()
        assert f'href="{page.as_posix()}/"' in start
    html = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html"))
    assert (
        re.findall(r'(?:src|href)="(https?://(?!github|semver|squidfunk|www\.mkdocs)[^"]+\.(?:js|css|woff2?))"', html)
        == []
    )


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in NOTEBOOKS])
def test_notebooks_show_what_they_compute(path: Path) -> None:
    names: dict[str, Any] = {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        printed, value = io.StringIO(), None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, path.name, "exec"), names)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
        shown = [printed.getvalue()] * bool(printed.getvalue()) + [repr(value)] * (value is not None)
        kept = ["".join(out.get("text") or out["data"]["text/plain"]) for out in cell["outputs"]]
        assert kept == shown
    assert sum(cell["cell_type"] == "code" for cell in cells) > 3
