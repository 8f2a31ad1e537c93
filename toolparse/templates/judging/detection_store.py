"""Verdicts kept in memory and on disk: what was found for a template, by the sha256 of everything that matters."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from threading import Lock
from typing import Any

from toolparse.format import Also, Format, Syntax
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.judging.detection import Check, Detection, Problem
from toolparse.templates.rendering.environment import caching, read_cache, write_cache

_CLASSES: dict[str, Any] = {
    cls.__name__: cls for cls in (Format, Syntax, Also, MessageStyle, Problem, Check, Detection)
}
_KEPT = 512

_memory: OrderedDict[str, Any] = OrderedDict()
_lock = Lock()


def recall(key: str) -> Any:
    """A verdict from memory, or None."""
    with _lock:
        found = _memory.get(key)
        if found is not None:
            _memory.move_to_end(key)
        return found


def remember(key: str, value: Any) -> None:
    """Keep a verdict in memory."""
    with _lock:
        _memory[key] = value
        while len(_memory) > _KEPT:
            _memory.popitem(last=False)


def forget() -> None:
    """Empty the memory (the disk is left alone)."""
    with _lock:
        _memory.clear()


def load(key: str) -> Any:
    """A verdict from disk, or None."""
    data = read_cache("verdict", key)
    if data is None:
        return None
    try:
        return _decode(json.loads(data))
    except (ValueError, TypeError, KeyError):
        return None


def store(key: str, value: Any) -> None:
    """Keep a verdict on disk."""
    if caching():
        write_cache("verdict", key, json.dumps(_encode(value)).encode())


@lru_cache(maxsize=1)
def code_stamp() -> str:
    """Changes when the library's code does, so that no verdict outlives the code that reached it."""
    parts = []
    folders = [os.path.dirname(os.path.dirname(__file__))]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    parts.append(f"{entry.path}:{status.st_size}:{status.st_mtime_ns}")
                elif entry.name != "__pycache__" and entry.is_dir():
                    folders.append(entry.path)
    return hashlib.sha256("\n".join(sorted(parts)).encode("utf-8", "surrogateescape")).hexdigest()


def key_of(*parts: str) -> str:
    """A key made of texts."""
    made = hashlib.sha256()
    for part in parts:
        made.update(part.encode("utf-8", "surrogatepass"))
        made.update(b"\x00")
    return made.hexdigest()


def _encode(value: Any) -> Any:
    """Plain JSON for dataclasses, tuples and dicts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} is not kept")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_decode(item) for item in value["tuple"])
    if "dict" in value:
        return {_decode(key): _decode(item) for key, item in value["dict"]}
    fields = {key: _decode(item) for key, item in value["fields"].items()}
    return _CLASSES[value["class"]](**fields)
