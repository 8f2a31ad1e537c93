"""How the time of every format grows with hostile input, one-shot and streamed.

    python benchmarks/growth.py [FORMAT ...] [--fuzz N] [--sizes 8000 32000] [--chunks 1 4] [--only NAME] [--all]

Prints the cases whose exponent (log of the time's growth by the log of the size's) exceeds `--limit` (1.25), measured
again at larger sizes before they are believed, and those that take more than `--most` (20) microseconds a character.
`--fuzz N` adds N random pumped inputs for each format.
"""

from __future__ import annotations

import argparse
import gc
import math
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.hostile import Generator, hostile_inputs, random_input
from toolparse import Format, Parser, registry

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "f",
            "description": "Do it.",
            "parameters": {
                "type": "object",
                "properties": {"key": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a": {"type": "object"}},
            },
        },
    }
]


def one_shot(parser: Parser, text: str) -> None:
    """Read a text at once."""
    parser.parse(text)


def streamed(chunk: int) -> Callable[[Parser, str], None]:
    """Read a text in pieces."""

    def run(parser: Parser, text: str) -> None:
        stream = parser.stream()
        for at in range(0, len(text), chunk):
            stream.feed(text[at : at + chunk])
        stream.close()

    return run


def seconds(run: Callable[[Parser, str], None], parser: Parser, text: str, repeats: int) -> float:
    """The least processor time of some runs."""
    best = math.inf
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            start = time.process_time()
            run(parser, text)
            best = min(best, time.process_time() - start)
    finally:
        gc.enable()
    return best


def exponent(
    run: Callable[[Parser, str], None], parser: Parser, generate: Generator, small: int, large: int, repeats: int
) -> tuple[float, float]:
    """(the exponent, the microseconds a character at the larger size)."""
    texts = generate(small), generate(large)
    times = [seconds(run, parser, text, repeats) for text in texts]
    growth = math.log(max(times[1], 1e-9) / max(times[0], 1e-6)) / math.log(
        max(2, len(texts[1])) / max(1, len(texts[0]))
    )
    return growth, times[1] * 1e6 / max(1, len(texts[1]))


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer: a regular expression may explode, a stranger's or ours."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"takes more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def cases(format: Format, fuzz: int, seed: int, only: str) -> Iterator[tuple[str, Generator]]:
    """Named generators of a format."""
    for name, generate in hostile_inputs(format).items():
        if only in name:
            yield name, generate
    rng = random.Random(f"{seed} {format.name}")
    for _ in range(fuzz):
        yield random_input(format, rng)


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("formats", nargs="*")
    options.add_argument("--fuzz", type=int, default=0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--sizes", type=int, nargs=2, default=(4000, 16000))
    options.add_argument("--chunks", type=int, nargs="+", default=(1, 4))
    options.add_argument("--limit", type=float, default=1.25)
    options.add_argument("--most", type=float, default=20.0, help="microseconds a character")
    options.add_argument("--patience", type=float, default=30.0, help="seconds for one case")
    options.add_argument("--only", default="")
    options.add_argument("--all", action="store_true", help="print every case")
    given = options.parse_args()
    formats = [registry.get(name) for name in given.formats] if given.formats else registry.formats()
    ways = {"one-shot": one_shot} | {f"stream/{chunk}": streamed(chunk) for chunk in given.chunks}
    found = measured = 0
    for format in formats:
        assert isinstance(format, Format)
        for tools in (None, TOOLS):
            parser = Parser(format, prefill="", tools=tools)
            for name, generate in cases(format, given.fuzz, given.seed, given.only):
                for how, run in ways.items():
                    small, large = given.sizes
                    measured += 1
                    try:
                        with limit(given.patience):
                            growth, took = exponent(run, parser, generate, small, large, 1)
                            if growth > given.limit and took > 0.1:
                                growth, took = exponent(run, parser, generate, large, large * 3, 2)
                    except TimeoutError:
                        growth, took = math.inf, math.inf
                    bad = growth > given.limit or took > given.most
                    if bad or given.all:
                        found += bad
                        label = f"{format.name:18} {how:9} {'tools' if tools else '-':5}"
                        print(f"{label} {growth:5.2f}  {took:8.2f} us  {name}", flush=True)
    print(f"{measured} cases, {found} above an exponent of {given.limit} or {given.most:g} us a character")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
