"""The patterns that formats are compiled to, each on texts that make regular expressions go back and forth.

    python benchmarks/patterns.py [--limit 3]

Prints every pattern that takes more than `--limit` milliseconds for one attempt on 1,300 characters. Growth says little
here: holes and blank runs are bounded, so what explodes below the bound is a constant, but one of seconds.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from toolparse import registry
from toolparse.codecs.matching import Rx
from toolparse.compile import Program, compile_format

_FILLERS = (" ", "a", "\n", "a ", ".", " a")
_LENGTH = 1_300


def patterns_of(program: Program) -> Iterator[tuple[str, Rx]]:
    """Every `Rx` of a program, by the name of the attribute that holds it."""
    seen: set[int] = set()
    holders: list[tuple[str, Any]] = [("between", program.between)]
    for owner in (*program.shapes, *program.frames):
        holders += [(name, getattr(owner, name, None)) for name in dir(owner) if not name.startswith("__")]
        tagged = getattr(owner, "tagged", None)
        for part in (tagged, *getattr(tagged, "params", ()), getattr(tagged, "item", None)):
            holders += [(name, getattr(part, name, None)) for name in dir(part) if not name.startswith("__")]
    for name, value in holders:
        if isinstance(value, Rx) and id(value) not in seen:
            seen.add(id(value))
            yield name, value


def worst(rx: Rx, starts: list[str], patience: float) -> tuple[float, str]:
    """(the longest time of one attempt, the text that took it). Interrupted after `patience` seconds."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    most, text = 0.0, ""
    for start in starts:
        for filler in _FILLERS:
            given = (start + filler * _LENGTH)[:_LENGTH]
            signal.setitimer(signal.ITIMER_REAL, patience)
            began = time.process_time()
            try:
                rx.final.match(given)
            except TimeoutError:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            took = time.process_time() - began
            if took > most:
                most, text = took, f"{start!r} + {filler!r} * n"
            if most > patience / 2:
                return most, text
    return most, text


def main() -> int:
    """Try every pattern once."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--limit", type=float, default=3.0, help="milliseconds")
    given = options.parse_args()
    tried: set[str] = set()
    found = 0
    for format in registry.formats():
        program = compile_format(format)
        cores = sorted({core for core in program.all_markers if core}, key=len)[:14]
        cores += sorted({core for shape in program.shapes for core in shape.cores} - set(cores), key=len)[:6]
        starts = ["", *cores, *[f"{one}f{other}" for one in cores for other in cores][:120]]
        for name, rx in patterns_of(program):
            if rx.pattern in tried:
                continue
            tried.add(rx.pattern)
            took, text = worst(rx, starts, 1.0)
            if took * 1e3 > given.limit:
                found += 1
                print(f"{format.name:18} {name:12} {took * 1e3:8.1f} ms on {text}\n    {rx.pattern[:200]}", flush=True)
    print(f"{len(tried)} patterns, {found} above {given.limit:g} ms")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
