"""Other builds of toolparse beside the one that is measured: its own sources as plain Python, or another tree.

Each runs in a process of its own, reads the same texts, and is timed in turns with the other contenders: it answers a
line of JSON (a text to read, or a number of rounds) with another one (nothing, or seconds of processor time).
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Build:
    """toolparse as it lies in another folder."""

    def __init__(self, name: str, tree: Path) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
        )
        where = self._ask({})
        if Path(where).parent.parent != tree.resolve():
            raise SystemExit(f"{tree} has no toolparse of its own: {where} was imported")

    def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name}: its process ended; what it says stands above")
        return json.loads(answer)

    def reads(self, format: str, text: str, *, tools: Any = None, pieces: int = 0) -> Callable[[int], float] | None:
        """Read a text from now on, at once or in pieces of so many characters.

        Returns what runs so many rounds and tells their seconds; None where the build doesn't know the format.
        """
        unknown = self._ask({"format": format, "text": text, "tools": tools, "pieces": pieces})
        return None if unknown else lambda loops: float(self._ask({"loops": loops}))


def plain_python() -> Path:
    """A folder with the sources of this tree alone, without its compiled modules."""
    folder = Path(tempfile.mkdtemp(prefix="toolparse-plain-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(
        ROOT / "toolparse", folder / "toolparse", ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    )
    return folder


def _serve() -> None:
    """The other end: reads texts and times itself, as `run.measure` does."""
    import gc

    import toolparse
    from toolparse import Parser, get

    run: Callable[[], Any] = dict
    answer: Any = toolparse.__file__
    gc.disable()
    for line in sys.stdin:
        request = json.loads(line)
        if "text" in request:
            try:
                format: Any = get(request["format"])
            except LookupError as error:
                print(json.dumps(str(error)), flush=True)
                continue
            parser = Parser(format, prefill="", tools=request["tools"])
            text, size = request["text"], request["pieces"]
            if size:
                pieces = [text[at : at + size] for at in range(0, len(text), size)]

                def run(parser: Parser = parser, pieces: list[str] = pieces) -> Any:
                    stream = parser.stream()
                    for piece in pieces:
                        stream.feed(piece)
                    return stream.close()
            else:

                def run(parser: Parser = parser, text: str = text) -> Any:
                    return parser.parse(text)

            run()
            gc.collect()
            answer = None
        elif "loops" in request:
            start = time.thread_time()
            for _ in range(request["loops"]):
                run()
            answer = time.thread_time() - start
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    _serve()
