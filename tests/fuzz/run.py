"""The long run: executions one after another, resumable, what breaks laid down as lines of reader_kinds.jsonl.

    python -m tests.fuzz.run [--seconds 180] [--folder .cache/fuzz] [--only hermes,muse]

`state.json` in the folder remembers how many seeds every format had and what they broke; `found.jsonl` holds one
reduced example for each format and law. Run it again to go on. Exit code 1 where something new broke.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tests.fuzz.executions import Broken, execute, reduced, sources


class Book:
    """What a run remembers in its folder: executions, what broke, the first example of each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / "state.json"
        self.state: dict[str, Any] = {"next": 0, "executions": 0, "broken": {}}
        if self.file.is_file():
            self.state.update(json.loads(self.file.read_text()))
        self.new = 0

    def take(self, broken: Broken | None) -> None:
        """Count an execution; lay down what broke, if it is the first of its format and law."""
        self.state["executions"] += 1
        if broken is None:
            return
        seen = self.state["broken"]
        key = f"{broken.tried.format} {broken.law}"
        seen[key] = seen.get(key, 0) + 1
        if seen[key] == 1:
            self.new += 1
            small = reduced(broken)
            with (self.folder / "found.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps({**small.line(), "said": small.said}) + "\n")

    def save(self) -> None:
        self.file.write_text(json.dumps(self.state))


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz every format with every law.")
    parser.add_argument("--seconds", type=float, default=180, help="how long to go on")
    parser.add_argument("--folder", type=Path, default=Path(".cache/fuzz"))
    parser.add_argument("--only", default="", help="names of formats, with commas between")
    options = parser.parse_args()
    book = Book(options.folder)
    names = [name for name in sources() if not options.only or name in options.only.split(",")]
    until = time.monotonic() + options.seconds
    while time.monotonic() < until:
        for name in names:
            book.take(execute(name, book.state["next"]))
        book.state["next"] += 1
        book.save()
    print(f"{book.state['executions']} executions so far, {len(names)} formats; new: {book.new}; by format and law:")
    for key, count in sorted(book.state["broken"].items(), key=lambda item: -item[1]):
        print(f"  {count:6} {key}")
    return 1 if book.new else 0


if __name__ == "__main__":
    raise SystemExit(main())
