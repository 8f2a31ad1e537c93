"""`import toolparse` stays light: what is heavy is imported by whoever asks for it. No clock, only the list of modules."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = (
    "transformers",
    "torch",
    "tokenizers",
    "trl",
    "jinja2",
    "pydantic",
    "jsonschema",
    "jsonschema_rs",
    "docstring_parser",
    "hypothesis",
    "rich",
    "click",
    "typer",
)


def modules_after(code: str) -> set[str]:
    """The top-level modules that are loaded in a new Python after some code."""
    program = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.fixture(scope="module")
def after_import() -> set[str]:
    return modules_after("import toolparse")


@pytest.mark.parametrize("name", HEAVY)
def test_import_leaves_out(after_import: set[str], name: str) -> None:
    assert name not in after_import


def test_parsing_by_name_needs_nothing_heavy_either() -> None:
    """A stream needs `regex` (for partial matches), and nothing else comes with the first parse."""
    loaded = modules_after(
        "import toolparse\n"
        "parser = toolparse.parser_for('hermes')\n"
        'parser.parse(\'<tool_call>\\n{"name": "f", "arguments": {}}\\n</tool_call>\')\n'
        "stream = parser.stream()\n"
        "stream.feed('<tool_call>')\n"
        "stream.close()"
    )
    assert not loaded & set(HEAVY)


def test_all_names_are_still_there() -> None:
    """What is imported late can be had by name all the same."""
    modules_after("import toolparse\nfor name in toolparse.__all__:\n    getattr(toolparse, name)")
