"""Verdicts kept in memory and on disk: what was found for a template, by the sha256 of everything that matters.

On disk a verdict is data, and what is read is checked against a schema: every field of every class, its type, its
length, and a format by all that a declaration must hold. What does not fit is as good as absent. The same schema is
what a child process answers with (`isolation.py`).
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Annotated, Literal

import msgspec

from toolparse.format import Format
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.judging.detection import Check, Detection, Problem
from toolparse.templates.rendering.cache import cache_folder, read_cache, write_cache

_KEPT = 512

_memory: OrderedDict[str, Detection] = OrderedDict()
_lock = Lock()

_Line = Annotated[str, msgspec.Meta(max_length=20_000)]


class _Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A detection as data."""

    format: Format | None
    how: Literal["exact text", "behaviour", "induced", "response_template", "vocabulary", "nothing"]
    evidence: Annotated[tuple[_Line, ...], msgspec.Meta(max_length=200)]
    verified: bool
    problems: Annotated[tuple[Problem, ...], msgspec.Meta(max_length=200)]
    message_style: MessageStyle | None
    prefill: _Line
    checks: Annotated[tuple[Check, ...], msgspec.Meta(max_length=200)]
    fingerprint: Annotated[str, msgspec.Meta(pattern="^(?:[0-9a-f]{64})?$")]


_decoder = msgspec.json.Decoder(_Verdict)


def recall(key: str) -> Detection | None:
    """A verdict from memory, or None."""
    with _lock:
        found = _memory.get(key)
        if found is not None:
            _memory.move_to_end(key)
        return found


def remember(key: str, value: Detection) -> None:
    """Keep a verdict in memory."""
    with _lock:
        _memory[key] = value
        while len(_memory) > _KEPT:
            _memory.popitem(last=False)


def forget() -> None:
    """Empty the memory (the disk is left alone)."""
    with _lock:
        _memory.clear()


def load(key: str, template: str) -> Detection | None:
    """A verdict on this template from disk, or None."""
    data = read_cache("verdicts", key)
    return decode(data, template) if data is not None else None


def store(key: str, value: Detection) -> None:
    """Keep a verdict on disk."""
    data = encode(value) if cache_folder() is not None else None
    if data is not None:
        write_cache("verdicts", key, data)


def encode(value: Detection) -> bytes | None:
    """A verdict as JSON; None where it holds what is no data (a function)."""
    fields = {name: getattr(value, name) for name in _Verdict.__struct_fields__}
    if not (fields["format"] is None or isinstance(fields["format"], Format)):
        return None
    try:
        return msgspec.json.encode(_Verdict(**fields))
    except UnicodeEncodeError:  # a lone surrogate in a template is in its picture as well
        return None


def decode(data: bytes, template: str) -> Detection | None:
    """A verdict from JSON; None where it is not one."""
    try:
        found = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Detection(template=template, **msgspec.structs.asdict(found))


@lru_cache(maxsize=1)
def code_stamp() -> str:
    """Changes when the library does, families and reader included: no verdict outlives what reached it."""
    parts = [f"{path}:{status.st_size}:{status.st_mtime_ns}" for path, status in code()]
    return hashlib.sha256("\n".join(sorted(parts)).encode("utf-8", "surrogateescape")).hexdigest()


def code() -> Iterator[tuple[str, os.stat_result]]:
    """The files that the library is made of."""
    folders = [str(Path(__file__).parents[2])]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".so", ".pyd", ".txt")):
                    yield entry.path, entry.stat()
                elif entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)


def key_of(*parts: str) -> str:
    """A key made of texts."""
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode("utf-8", "surrogatepass"))
        made.update(b"\x00")
    return made.hexdigest()
