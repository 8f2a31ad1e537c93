"""The README keeps its word: its table and its commands are what there is. Its sessions run in test_pages.py."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import toolparse
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_registering_is_one_line() -> None:
    line = next(line for line in README.split("\n") if line.startswith("toolparse.register("))
    try:
        exec(line, {"toolparse": toolparse})  # the README's own line
        parser = toolparse.parser_for("mine")
        text = parser.render([{"name": "f", "arguments": {"x": 1}}])
        assert text == '<call>{"tool": "f", "args": {"x": 1}}</call>'
        call = parser.parse(text).tool_calls[0]
        assert (call.name, call.arguments) == ("f", {"x": 1})
    finally:
        unregister = getattr(toolparse, "unregister", None)
        if unregister:
            unregister("mine")


def test_table_of_families_is_current() -> None:
    check = [sys.executable, str(ROOT / "scripts" / "families_table.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)", README))))
def test_make_targets_exist(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_commands_exist() -> None:
    from toolparse.cli import cli

    named = set(re.findall(r"^toolparse ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= set(cli.commands)


EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*.py") if not path.name.startswith(("train_", "_", "warehouse"))
)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in EXAMPLES])
def test_examples_run(path: Path) -> None:
    if path.name == "inspect_model.py" and importlib.util.find_spec("inspect_ai") is None:
        pytest.skip("inspect-ai is not installed")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""
