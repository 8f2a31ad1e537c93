"""JSON, exactly: numbers of any size, no NaN or infinity, lone surrogates survive.

msgspec decodes everything that ordinary JSON holds; what it can't take (integers of thousands of digits, lone
surrogates) goes through the standard library, which is slower and gives the same values.
"""

from __future__ import annotations

import json as _json
import re
from collections.abc import Mapping
from json.encoder import encode_basestring as _basestring
from json.encoder import encode_basestring_ascii as _basestring_ascii
from math import isfinite
from typing import Any

import msgspec

from toolparse.codecs.integers import read_integer, write_integer

_decode = msgspec.json.Decoder().decode

#: So many objects and lists may stand within one another: in a call, its arguments included, whatever its syntax, and
#: in a tool's schema. What recurses on them, in Python (up to four frames a level) or in C, needs no large stack.
MAX_DEPTH = 128
#: What reads a value recursively in Python leaves deeper ones to what does not.
DEEP = 64
#: A number as JSON has it; the words of JSON and Python that are values.
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_SCALARS = frozenset({str, int, float, bool, type(None)})
_CONTAINERS = (dict, list, tuple)
_LONG = 512
_PROBE = 64
_SHORT = 1_000  # writing such a value again is faster than going through it here


def quote(text: str, *, ascii: bool = False) -> str:
    """A string as a JSON literal, quotes included."""
    return _basestring_ascii(text) if ascii else _basestring(text)


def decode(text: str) -> Any:
    """The value of a JSON text. Raises ValueError with a readable reason when it isn't one."""
    try:
        try:
            return _decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return _json.loads(text, parse_int=read_integer, parse_float=finite_float, parse_constant=no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except _json.JSONDecodeError as error:
        raise ValueError(f"{error.msg[0].lower()}{error.msg[1:]} at character {error.pos}") from None


def finite_float(digits: str) -> float:
    """A float that JSON can hold; raises ValueError for one that is out of range."""
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"number out of range: {digits[:20]}")
    return value


def no_constant(word: str) -> Any:
    """Raises ValueError for the words that Python's decoder would take."""
    raise ValueError(f"{word} is not JSON")


def number_text(value: int | float) -> str:
    """A number as JSON writes it; integers exactly, at any size."""
    if isinstance(value, int):
        return write_integer(value)
    if not isfinite(value):
        raise ValueError(f"{value} is not JSON")
    return float.__repr__(value)


def type_of(value: Any) -> str:
    """The JSON schema type of a value; `unknown` if JSON has none for it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list | tuple):
        return "array"
    return "object" if isinstance(value, dict | Mapping) else "unknown"


def is_shallow(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether so many objects and lists at most stand within one another; walks level by level, each container once."""
    nodes = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(depth):
        nodes = [
            child
            for node in nodes
            for child in (node.values() if isinstance(node, dict) else node)
            if type(child) not in _SCALARS and isinstance(child, _CONTAINERS)
        ]
        if not nodes:
            return True
    return False


def each_key_once(text: str, value: dict[str, Any]) -> bool:
    """Whether a text has as many quotes as the value that it gave: two for each string, and those in strings.

    False also for what may be nested too deeply.
    """
    if len(text) >= _SHORT:
        return _each_key_once_in_long(text, value)
    try:
        if len(text) >= 2 * MAX_DEPTH and text.count("{") + text.count("[") > MAX_DEPTH:
            return False
        return text.count('"') == _encode(value).count(b'"') and "u0022" not in text
    except (ValueError, OverflowError):
        return False


def _each_key_once_in_long(text: str, value: dict[str, Any]) -> bool:
    """Whether a long text has as many quotes as the value that it gave. False also for what is nested deeply.

    Long strings are taken out of both: writing one is faster than counting in it, and in the text.
    """
    places: list[tuple[Any, Any]] = []
    count = _quotes(value, 0, places)
    if len(places) == 1 and _once_without(text, value, *places[0]):
        return True
    long: list[str] = [holder[key] for holder, key in places]
    rest: list[str] = []
    at = 0
    for number, string in enumerate(long):
        try:
            written = _encode(string).decode()
        except (ValueError, OverflowError):
            return False
        found = text.find(written[:_PROBE], at)
        if found < 0 or not text.startswith(written, found):  # its characters are written in another way
            count += sum(2 + other.count('"') for other in long[number:])
            break
        rest.append(text[at:found])
        at = found + len(written)
    left = "".join(rest) + text[at:]
    return "u0022" not in left and left.count('"') == count


def _once_without(text: str, value: dict[str, Any], holder: Any, key: Any) -> bool:
    """Whether a text surely gives each key once, shown without its only long string, which stands at `holder[key]`.

    Where the string begins and ends in the text is found by its first and last characters. What lies between is that
    string and nothing more if it is longer by just the backslashes of its escapes: any more of the text would be quotes
    and other characters that are none. The text without it is short, and must hold the value without it.
    """
    string = holder[key]
    try:
        first, last = _encode(string[:_PROBE]).decode()[:-1], _encode(string[-_PROBE:]).decode()[1:]
    except ValueError:
        return False
    opening, closing = text.find(first), text.rfind(last)
    if opening < 1 or closing < opening or text[opening - 1] == "\\" or string[-1] == "\\":
        return False
    start, end = opening + 1, closing + len(last) - 1
    if end - start - len(string) != _backslashes(text[start:end]) - _backslashes(string):
        return False
    rest = text[:start] + text[end:]
    if len(rest) >= _SHORT:
        return False
    holder[key] = ""
    try:
        return bool(_decode(rest) == value) and each_key_once(rest, value)
    except (ValueError, RecursionError):
        return False
    finally:
        holder[key] = string


def _backslashes(text: str) -> int:
    # Counting runs several times faster over bytes.
    return 0 if text.find("\\") < 0 else text.encode().count(b"\\") if text.isascii() else text.count("\\")


def _quotes(value: Any, depth: int, long: list[tuple[Any, Any]]) -> int:
    """How many quotes the text of a value holds, but for its long strings; nonsense where it is nested deeply.

    `long`: gets the place of each long string, as what holds it and its key there.
    """
    if depth > DEEP:
        return -(1 << 60)
    count = 0
    if type(value) is dict:
        for key in value:
            count += 2 + key.count('"')
    for place, item in value.items() if type(value) is dict else enumerate(value):
        kind = type(item)
        if kind is str:
            if len(item) > _LONG:
                long.append((value, place))
            else:
                count += 2 + item.count('"')
        elif kind is dict or kind is list:
            count += _quotes(item, depth + 1, long)
    return count


def has_duplicate_keys(text: str) -> bool:
    """Whether some object of a JSON text gives a key twice. Linear."""
    found = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        value = dict(items)
        if len(value) != len(items):
            found = True
        return value

    try:
        _json.loads(text, object_pairs_hook=pairs, parse_int=_zero, parse_float=_zero)
    except (ValueError, RecursionError):
        return False
    return found


def _zero(_digits: str) -> int:
    return 0


def encode(value: Any) -> str:
    """A value as compact JSON text. Raises ValueError for what JSON cannot hold, naming it."""
    try:
        return _encode(value).decode()
    except (OverflowError, ValueError):  # huge integers, lone surrogates
        pieces: list[str] = []
        _write(value, pieces.append)
        return "".join(pieces)


_encode = msgspec.json.Encoder().encode


def _write(value: Any, put: Any) -> None:
    if isinstance(value, str):
        put(quote(value))
    elif value is None or isinstance(value, bool):
        put({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, int | float):
        put(number_text(value))
    elif isinstance(value, dict):
        put("{")
        for number, (key, item) in enumerate(value.items()):
            put(("," if number else "") + quote(str(key)) + ":")
            _write(item, put)
        put("}")
    elif isinstance(value, list | tuple):
        put("[")
        for number, item in enumerate(value):
            if number:
                put(",")
            _write(item, put)
        put("]")
    else:
        raise ValueError(f"{type(value).__name__} is not JSON")
