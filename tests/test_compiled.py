"""The compiled reader and the sources are one thing: what is public can be pickled, copied and subclassed in both."""

from __future__ import annotations

import copy
import importlib.machinery
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import toolparse
from tests.conftest import ROOT
from toolparse.codecs import json

TEXT = 'Hm.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def test_the_flag_tells_what_runs() -> None:
    import toolparse.reader.reader as reader

    assert toolparse.COMPILED is not reader.__file__.endswith(".py")


def test_every_compiled_module_has_its_source_beside_it() -> None:
    for module in (ROOT / "toolparse").rglob("*.so"):
        assert module.with_name(module.name.partition(".")[0] + ".py").is_file()


def test_parsers_and_messages_travel() -> None:
    parser = toolparse.parser_for("hermes", tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    message = parser.parse(TEXT)
    assert pickle.loads(pickle.dumps(parser)).parse(TEXT) == message
    assert copy.deepcopy(parser).parse(TEXT) == message
    assert pickle.loads(pickle.dumps(message)) == message


def test_public_classes_can_be_subclassed() -> None:
    class Mine(toolparse.Parser):
        def parse(self, *args: object, **kwargs: object) -> toolparse.ParsedMessage:
            return super().parse(*args, **kwargs)

    assert [call.name for call in Mine(toolparse.get("hermes")).parse(TEXT).tool_calls] == ["f"]


def test_tracebacks_name_the_sources() -> None:
    with pytest.raises(ValueError) as error:
        json.decode("{")
    assert "codecs/json.py" in "".join(traceback.format_exception(error.value))


def test_a_module_compiled_for_another_python_is_not_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "toolparse"
    for source in sorted((ROOT / "toolparse").rglob("*.py")):
        target = folder / source.relative_to(ROOT / "toolparse")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    (folder / "reader" / "reader.cpython-25-nowhere.so").write_bytes(b"nothing to load")
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import toolparse; print(toolparse.COMPILED, len(toolparse.parser_for('hermes').parse('x').spans))",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert run.stdout.split() == ["False", "1"]
    assert ".cpython-25-nowhere.so" not in importlib.machinery.EXTENSION_SUFFIXES
