"""The README keeps its word: its examples run, its table and its commands are what there is."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import toolparse
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_sessions_run() -> None:
    sessions = re.findall(r"```pycon\n(.*?)```", README, re.DOTALL)
    assert sessions
    for number, session in enumerate(sessions):
        test = doctest.DocTestParser().get_doctest(session, {}, f"README session {number}", "README.md", 0)
        assert test.examples
        report: list[str] = []
        result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
        assert result.failed == 0, "".join(report)


def test_python_blocks_are_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


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


def test_files_exist() -> None:
    for name in re.findall(r"`((?:docs|scripts|tests|fixtures)/[\w./-]+)`", README):
        assert (ROOT / name).exists(), name


EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if not path.name.startswith("train_"))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in EXAMPLES])
def test_examples_run(path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""
