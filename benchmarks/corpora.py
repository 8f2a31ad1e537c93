# ruff: noqa: E402 - the repository is put on the path first
"""Corpora: completions a second of processor time, beside `json.loads` of the same lines, and growth.

    python benchmarks/corpora.py [--lines 10000,100000,1000000] [--folder FOLDER] [--write-docs]

The lines hold completions of some 1.6 kB with one call each. Times are those of the processor, of this process or of
the commands that are started, theirs and their children's. The last two columns are what two processes take together,
in times of one, and how much sooner they end by the wall, which says something on an idle machine only. `--write-docs`
copies the table to docs/corpora.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

import toolparse

DOCS = ROOT / "docs" / "corpora.md"
BEGIN, END = "<!-- corpora: begin (written by benchmarks/corpora.py --write-docs) -->", "<!-- corpora: end -->"

_SENTENCE = "the model looks at the list of flights and compares what they cost before it books the cheapest one"
_WORDS = _SENTENCE.split()


def completion(number: int) -> str:
    """Some 1.6 kB: text, and a call of qwen's."""
    words = [_WORDS[(number * 7 + at * 3) % len(_WORDS)] for at in range(270)]
    arguments = {"flight": f"LO {number}", "seats": number % 9, "note": " ".join(words[-20:])}
    call = json.dumps({"name": "book", "arguments": arguments})
    return f"{' '.join(words[:-20])}\n<tool_call>\n{call}\n</tool_call>"


def write(path: Path, lines: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            file.write(json.dumps({"id": f"row-{number}", "completion": completion(number)}) + "\n")


def texts(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)["completion"]


def spent(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def command(*arguments: object) -> tuple[float, float]:
    """The seconds that a command took: of the processor, of the wall."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "toolparse", *map(str, arguments)], check=True, env=env)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def measure(path: Path, lines: int, folder: Path) -> dict[str, float]:
    """Completions a second, by what reads them."""
    found: dict[str, float] = {}
    with path.open("rb") as file:
        found["json.loads"] = lines / spent(lambda: [None for line in file if json.loads(line) is None])
    parser = toolparse.parser_for("qwen")
    if lines <= 100_000:
        held = list(texts(path))
        best = min(spent(lambda: [None for text in held if parser.parse(text) is None]) for _ in range(3))
        found["parse"] = lines / best
        found["parse_batch"] = lines / min(spent(lambda: parser.parse_batch(held)) for _ in range(3))
        try:
            import pyarrow as pa
        except ImportError:
            pass
        else:
            table = pa.table({"completion": held})
            transform = toolparse.batch(parser, field="completion")
            found["batch"] = lines / spent(lambda: [transform(part) for part in table.to_batches(max_chunksize=1000)])
        del held
    found["parse_iter"] = lines / spent(lambda: [None for message in parser.parse_iter(texts(path)) if message is None])
    arguments = ("parse", "qwen", path, "--field", "completion", "--output")
    one = command(*arguments, folder / "one.jsonl")
    two = command(*arguments, folder / "two.jsonl", "--jobs", 2)
    assert (folder / "one.jsonl").read_bytes() == (folder / "two.jsonl").read_bytes()
    found |= {"toolparse parse": lines / one[0], "--jobs 2: processor": two[0] / one[0], "wall": one[1] / two[1]}
    return found


def table(results: dict[int, dict[str, float]]) -> str:
    names = list(dict.fromkeys(name for found in results.values() for name in found))
    rows = ["| lines | " + " | ".join(f"`{name}`" for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for lines, found in results.items():
        cells = [
            "–"
            if name not in found
            else f"{found[name]:.2f}"
            if name == "wall" or "jobs" in name
            else f"{round(found[name], -2):,.0f}"
            for name in names
        ]
        rows.append(f"| {lines:,} | " + " | ".join(cells) + " |")
    built = "compiled" if toolparse.COMPILED else "plain Python"
    load = os.getloadavg()[0]
    return "\n".join(
        [
            *rows,
            "",
            f"Completions of 1.6 kB a second of processor time. Python {platform.python_version()}, {os.cpu_count()} "
            f"cores with a load of {load:.1f}, toolparse {toolparse.__version__}, {built}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", default="10000,100000,1000000")
    parser.add_argument("--folder", type=Path, help="for the files; a million lines and what is read take 4 GB")
    parser.add_argument("--write-docs", action="store_true")
    given = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        for lines in map(int, given.lines.split(",")):
            path = folder / f"{lines}.jsonl"
            write(path, lines)
            results[lines] = measure(path, lines, folder)
            print(table(results), flush=True)
            path.unlink()
    if given.write_docs:
        page = DOCS.read_text(encoding="utf-8")
        start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        DOCS.write_text(f"{page[:start]}\n\n{table(results)}\n\n{page[end:]}", encoding="utf-8")


if __name__ == "__main__":
    main()
