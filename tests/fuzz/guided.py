"""The long run guided by coverage, with atheris: `make fuzz`. The corpus stays in the folder, so it goes on where it was.

    python -m tests.fuzz.guided FOLDER SECONDS

atheris needs a Python that it has wheels for; without it use `tests.fuzz.run`, which draws its inputs from seeds.
"""

from __future__ import annotations

import random
import sys
import zlib
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

import atheris  # type: ignore[import-not-found]

LIBRARY = str(Path(__file__).parents[2] / "toolparse")


def sources_only(path: str) -> FileFinder:
    """Finds the library's sources, also where they are compiled: no coverage comes from what is."""
    if not path.startswith(LIBRARY):
        raise ImportError(path)
    return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))


sys.path_hooks.insert(0, sources_only)
with atheris.instrument_imports(include=["toolparse"]):
    from tests.fuzz.executions import execute, sources
    from tests.fuzz.run import Book


class FromBytes(random.Random):
    """Draws from bytes as long as there are any, so that small changes of the input are small changes of a text."""

    def __init__(self, data: bytes) -> None:
        super().__init__(zlib.crc32(data))
        self.data = data
        self.at = 0

    def getrandbits(self, k: int, /) -> int:
        size = (k + 7) // 8
        piece = self.data[self.at : self.at + size]
        self.at += size
        return int.from_bytes(piece, "little") & ((1 << k) - 1) if len(piece) == size else super().getrandbits(k)

    def random(self) -> float:
        return self.getrandbits(16) / 65536


def main(folder: Path, seconds: int) -> None:
    corpus = folder / "corpus"
    book = Book(folder)
    corpus.mkdir(exist_ok=True)
    names = list(sources())

    def one(data: bytes) -> None:
        rng = FromBytes(data)
        book.take(execute(names[rng.getrandbits(16) % len(names)], zlib.crc32(data), rng))
        if book.state["executions"] % 500 == 0:
            book.save()

    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=60", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], str(corpus), f"-artifact_prefix={folder}/", *limits], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
