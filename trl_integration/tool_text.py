"""What a tool returned, as the text of a tool message; and JSON text of anything a model wrote.

Nothing here raises for a value: numbers of thousands of digits, lone surrogates and lists that hold themselves all have
a text that can be encoded as UTF-8.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from toolparse.codecs.integers import write_integer

__all__ = ["ImageResult", "error_text", "json_text", "result_text", "shorten"]

_DIGITS = 4000  # Python refuses to write longer integers unless it is told otherwise
_MEDIA = ("image", "image_url", "video", "audio", "input_image", "input_audio")


class ImageResult(ValueError):
    """A tool returned an image, video or sound, which a conversation of text can't carry."""


def result_text(value: Any, max_chars: int = 20_000, cut: str = "right") -> str:
    """Turn what a tool returned into the text of a tool message.

    Text stays text. Everything with a JSON form is written as JSON (None as ``null``), pydantic models and data classes
    included. Bytes are decoded if they are UTF-8; else their size and a short base64 head are given. Anything else is
    its ``str``. Text longer than ``max_chars`` characters is cut on the side that ``cut`` names ("right", "left" or
    "middle"), and says so. Raises ``ImageResult`` for images, sound and content parts that hold them: as text they
    would be noise.
    """
    if _is_media(value) or (isinstance(value, (list, tuple)) and any(map(_is_media, value))):
        raise ImageResult("the tool returned an image, video or sound; this conversation carries text only")
    return shorten(_plain_text(value), max_chars, cut)


def _is_media(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("type") in _MEDIA and any(kind in value for kind in (*_MEDIA, "url", "path", "data", "source"))
    return any(cls.__module__.startswith("PIL.") and cls.__name__ == "Image" for cls in type(value).__mro__)


def _plain_text(value: Any) -> str:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if text and all(c.isprintable() or c in "\n\r\t" for c in text[:4096]):
            return text
        head = base64.b64encode(raw[:48]).decode("ascii")
        return f"<{len(raw)} bytes of binary data; base64 of the first {min(len(raw), 48)}: {head}>" if raw else ""
    if isinstance(value, float):
        return str(value)
    return json_text(value)


def json_text(value: Any) -> str:
    """JSON of a value, with a space behind commas and colons; its ``str`` where it has no JSON form."""
    text = _json(value)
    return encodable(str_of(value)) if text is None else text


def json_line(entry: dict[str, Any]) -> str:
    """One line of JSON for a mapping; fields without a JSON form (nested too deeply) are in it as text."""
    text = _json(entry)
    return text if text is not None else json.dumps({key: _json_or_text(value) for key, value in entry.items()})


def _json_or_text(value: Any) -> Any:
    text = _json(value)
    return encodable(str_of(value)) if text is None else json.loads(text)


def _json(value: Any) -> str | None:
    for prepare in (_as_it_is, _without_long_integers):
        try:
            return encodable(json.dumps(prepare(value), ensure_ascii=False, allow_nan=False, default=_jsonable))
        except (TypeError, ValueError, RecursionError, OverflowError):
            continue
    return None


def _as_it_is(value: Any) -> Any:
    return value


def _without_long_integers(value: Any) -> Any:
    """The value with integers that Python won't write replaced by their digits as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**_DIGITS else write_integer(value)
    if isinstance(value, dict):
        return {key: _without_long_integers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_long_integers(item) for item in value]
    return value


def _jsonable(value: Any) -> Any:
    """One level of a value that JSON doesn't know; what is inside comes here again."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _plain_text(value)
    try:
        return to_jsonable_python(value, fallback=_as_data, bytes_mode="base64", inf_nan_mode="constants")
    except (PydanticSerializationError, UnicodeError, ValueError, RecursionError):
        return str_of(value)


def _as_data(value: Any) -> Any:
    # numpy scalars and arrays, tensors, data frames
    for method in ("tolist", "to_dict"):
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    return str_of(value)


def str_of(value: Any) -> str:
    """``str`` of a value, also of one whose ``__str__`` raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an object's own code
        return f"<{type(value).__name__}>"


def encodable(text: str) -> str:
    """The text with lone surrogates, which neither a tokenizer nor a file can take, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def shorten(text: str, max_chars: int, cut: str = "right") -> str:
    """Cut ``text`` to ``max_chars`` characters of its own, with a note of what is missing where it stood."""
    if len(text) <= max_chars:
        return text
    head = {"right": max_chars, "left": 0, "middle": (max_chars + 1) // 2}[cut]
    which = {"right": "the first ", "left": "the last ", "middle": ""}[cut]
    note = f"[cut: {which}{max_chars} of {len(text)} characters]"
    tail = text[len(text) - (max_chars - head) :]
    return "\n".join([part for part in (text[:head], note, tail) if part])


def error_text(message: str, **more: Any) -> str:
    """The form of every message about a failure: a JSON object with ``error``."""
    return json_text({"error": message, **more})
