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

from tests.fuzz.executions import execute, reduced, sources


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz every format with every law.")
    parser.add_argument("--seconds", type=float, default=180, help="how long to go on")
    parser.add_argument("--folder", type=Path, default=Path(".cache/fuzz"))
    parser.add_argument("--only", default="", help="names of formats, with commas between")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    state_file = options.folder / "state.json"
    state = json.loads(state_file.read_text()) if state_file.is_file() else {"next": 0, "executions": 0, "broken": {}}
    names = [name for name in sources() if not options.only or name in options.only.split(",")]
    until = time.monotonic() + options.seconds
    new = 0
    while time.monotonic() < until:
        seed = state["next"]
        for name in names:
            state["executions"] += 1
            broken = execute(name, seed)
            if broken is None:
                continue
            key = f"{name} {broken.law}"
            state["broken"][key] = state["broken"].get(key, 0) + 1
            if state["broken"][key] == 1:
                new += 1
                small = reduced(broken)
                with (options.folder / "found.jsonl").open("a", encoding="utf-8") as out:
                    out.write(json.dumps({**small.line(), "said": small.said}) + "\n")
        state["next"] = seed + 1
        state_file.write_text(json.dumps(state))
    state_file.write_text(json.dumps(state))
    print(f"{state['executions']} executions so far, {len(names)} formats; new: {new}; broken, by format and law:")
    for key, count in sorted(state["broken"].items(), key=lambda item: -item[1]):
        print(f"  {count:6} {key}")
    return 1 if new else 0


if __name__ == "__main__":
    raise SystemExit(main())
