"""`import toolparse` stays light: what is heavy is imported by whoever asks for it. No clock, only the list of modules."""

from __future__ import annotations

import json
from functools import cache

import pytest

from tests.conftest import run_python

HEAVY = (
    "transformers",
    "torch",
    "tokenizers",
    "trl",
    "accelerate",
    "datasets",
    "numpy",
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

#: What reading does not need: loaded by whoever renders, detects, has tools or gives ids.
LATER = (
    "toolparse.export",
    "toolparse.families.hermes",
    "toolparse.render",
    "toolparse.templates.induction.message_style",
    "toolparse.templates.judging.detection",
    "toolparse.testing",
    "toolparse.tokens",
    "toolparse.tools",
    "difflib",
    "hashlib",
    "multiprocessing",
    "threading",
)


@cache
def every_module_after(code: str) -> set[str]:
    """The modules that are loaded in a new Python after some code."""
    program = f"import sys\n{code}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    return set(json.loads(run_python(program).splitlines()[-1]))


def modules_after(code: str) -> set[str]:
    """The top-level modules that are loaded in a new Python after some code."""
    return {name.partition(".")[0] for name in every_module_after(code)}


@pytest.fixture(scope="module")
def after_import() -> set[str]:
    return every_module_after("import toolparse")


@pytest.mark.parametrize("name", [*HEAVY, *LATER])
def test_import_leaves_out(after_import: set[str], name: str) -> None:
    if name in every_module_after(""):
        pytest.skip(f"this Python loads {name} when it starts")
    assert name not in after_import


def test_import_compiles_no_format() -> None:
    """The registry is filled, and a format compiled, when one is asked for."""
    code = (
        "import toolparse\n"
        "from toolparse import picture, registry\nfrom toolparse.compile import compile_format\n"
        "assert not registry._entries and not registry._loaded\n"
        "assert picture.read_picture.cache_info().currsize == 0\n"
        "assert compile_format.cache_info().currsize == 0\n"
        "assert toolparse.families() and registry._entries\n"
        "assert compile_format.cache_info().currsize == 0"
    )
    every_module_after(code)


def test_late_names_are_listed() -> None:
    every_module_after(
        "import toolparse, toolparse.detect\n"
        "assert set(toolparse.__all__) <= set(dir(toolparse))\n"
        "from toolparse import Detection, tool_schema\n"
        "import importlib; detecting = importlib.import_module('toolparse.detect')\n"
        "assert set(detecting.__all__) <= set(dir(detecting)) and detecting.Detection is Detection\n"
        "assert callable(toolparse.detect)"
    )


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
