"""Tools for the tests of process isolation: importable by name, as they must be."""

from __future__ import annotations

import os
import time

from trl_integration.sandbox import Limits, isolated


@isolated(limits=Limits(wall_seconds=5, memory_mb=1024))
def double(number: int) -> int:
    """Double a number.

    Args:
        number: The number.
    """
    print("this goes nowhere")
    return number * 2


@isolated(limits=Limits(wall_seconds=5, memory_mb=1024))
def fail(text: str) -> str:
    """Fail.

    Args:
        text: What to say.
    """
    raise LookupError(text)


@isolated(limits=Limits(wall_seconds=1, memory_mb=1024))
def freeze() -> None:
    """Freeze."""
    time.sleep(60)


@isolated(limits=Limits(wall_seconds=5, memory_mb=1024))
def die() -> None:
    """End the process at once."""
    os._exit(7)


def touch(path: str) -> None:
    """Make a file.

    Args:
        path: Where.
    """
    with open(path, "w", encoding="utf-8"):
        pass


@isolated(limits=Limits(cpu_seconds=1, wall_seconds=60, memory_mb=1024))
def power() -> int:
    """Hold the interpreter's lock in C for ever: in this process nothing else would run any more."""
    return len(str((9**9) ** (9**8)))
