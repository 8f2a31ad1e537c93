"""What is made of a format is the same in every process: no set's order gets into a grammar or a table of markers."""

from __future__ import annotations

from tests.conftest import run_python

SCRIPT = """
import hashlib, toolparse
from toolparse.export.syntaxes import SYNTAXES
from toolparse.compile import compile_format

def f(city: str, days: int = 1) -> str:
    "A tool."

def g() -> str:
    "Another."

lines = []
for name in toolparse.families():
    format = toolparse.get(name)
    if not hasattr(format, "call"):
        continue
    program = compile_format(format)
    lines += [name, *program.candidates, *program.all_markers, *program.suffix_words, program.markers.pattern]
for name in ("hermes", "qwen3-coder", "harmony", "kimi-k2", "gemma4", "llama3-json"):
    parser = toolparse.parser_for(name)
    for syntax in SYNTAXES:
        try:
            lines.append(str(parser.grammar([f, g], syntax=syntax)))
        except toolparse.ToolparseError as error:
            lines.append(str(error))
print(hashlib.sha256("\\0".join(lines).encode()).hexdigest())
"""


def test_tables_and_grammars_do_not_depend_on_the_hash_seed() -> None:
    assert len({run_python(SCRIPT, PYTHONHASHSEED=seed) for seed in ("1", "2", "3")}) == 1
