"""Text that is exactly one value: JSON, or a Python literal.

Everything here is for text that a model wrote: nothing raises, nothing recurses, the time is linear in the
text. `MISSING` means "this text is not such a value".
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any, Final

from toolparse.codecs.integers import read_integer
from toolparse.codecs.json import MAX_DEPTH, NUMBER, WORDS, decode, encode, is_shallow, quote

MISSING: Final[Any] = object()
_DEEPEST = MAX_DEPTH - 1  # an argument's value stands in the arguments

_JSON_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_WHOLE_FLOAT = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
_DIGITS = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# An integer in exponent notation is written out; beyond the range of a float nobody means that.
_MAX_EXPONENT = 308
# No number or constant is longer: longer text is not looked at.
MAX_SCALAR = 20_000


def integer(text: str, *, lenient: bool) -> Any:
    """An integer; `3.0` counts. Lenient: also `007`, `+5`, `3.`, `1e3`."""
    found = (_DIGITS if lenient else _JSON_INTEGER).fullmatch(text)
    if found is None:
        whole = _WHOLE_FLOAT.fullmatch(text)
        if whole is not None:
            text = whole.group(1)
        elif lenient and len(text) <= 400 and _DECIMAL.fullmatch(text):
            try:
                value = Decimal(text)
            except ArithmeticError:  # an absurd exponent
                return MISSING
            if value.adjusted() > _MAX_EXPONENT or value != value.to_integral_value():
                return MISSING
            return int(value)
        else:
            return MISSING
    try:
        return read_integer(text)
    except ValueError:  # absurdly many digits
        return MISSING


def number(text: str, *, lenient: bool) -> Any:
    """A number: integers stay integers, what is not finite is no number."""
    if (_DIGITS if lenient else _JSON_INTEGER).fullmatch(text):
        return integer(text, lenient=lenient)
    if (_DECIMAL if lenient else NUMBER).fullmatch(text) is None:
        return MISSING
    value = float(text)
    return value if math.isfinite(value) else MISSING


def container(text: str, *, python: bool) -> Any:
    """An object or an array, as JSON or else, with `python`, as a Python literal."""
    if text[:1] in ("{", "[") or (python and text[:1] == "("):
        try:
            value = decode(text)
        except ValueError:
            value = python_value(text) if python else MISSING
        return value if isinstance(value, dict | list) and is_shallow(value, _DEEPEST) else MISSING
    return MISSING


# --- Python literals ----------------------------------------------------------------------------------------

# `ast.literal_eval` would do for kind input, but its parser needs stack for nesting, exponential time for
# some unbalanced brackets and half a kilobyte per token; one pass over tokens needs none of that.
_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<punct>[\[\]{}(),:])
      | (?P<string>[uU]?(?:'(?:[^'\\\n]|\\.)*+'|"(?:[^"\\\n]|\\.)*+"))
      | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<word>True|False|None|true|false|null)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL)
_CLOSERS = {"[": "]", "{": "}", "(": ")"}
_SIMPLE = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "\n": "",
}  # fmt: skip


def python_value(text: str) -> Any:
    """A Python literal made of dicts with string keys, lists, tuples (read as lists), strings, numbers and
    constants.

    JSON's `true`, `false`, `null` are read too: models mix the two.
    """
    try:
        return decode(" ".join(_as_json(text)))
    except (ValueError, OverflowError):
        return MISSING


def _as_json(text: str) -> list[str]:
    """A Python literal token by token as JSON, which says whether they stand in the right order.

    Raises:
        ValueError: A token is none of those, a bracket is closed by another kind, or `(1)` is no tuple.
    """
    out: list[str] = []
    open_: list[str] = []  # the closing brackets of what is open, with a comma behind one that stood in there
    position, end = 0, len(text.rstrip(" \t\r\n"))
    while position < end:
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError("no Python")
        position = token.end()
        kind, body = token.lastgroup, token.group(token.lastgroup or 0)
        if kind == "string":
            out.append(quote(_unquote(body)))
        elif kind == "word":
            out.append(encode(WORDS[body]))
        elif kind == "number":
            value = number(body, lenient=True)
            if value is MISSING or (_DIGITS.fullmatch(body) and body.lstrip("+-") != str(abs(value))):
                raise ValueError("no number")  # 007 is no Python integer
            out.append(encode(value))
        elif body in _CLOSERS:
            open_.append(_CLOSERS[body])
            out.append("[" if body == "(" else body)
        elif body in ":,":
            if body == "," and open_:
                open_[-1] = open_[-1][0] + ","
            out.append(body)
        else:
            closer = open_.pop() if open_ else ""
            if closer[:1] != body or (closer == ")" and out[-1] != "["):
                raise ValueError("a bracket of another kind, or of no tuple")
            if out[-1] == "," and out[-2] not in ("[", "{"):  # trailing commas are legal
                out.pop()
            out.append("]" if body == ")" else body)
    return out


def _unquote(body: str) -> str:
    if body[0] in "uU":
        body = body[1:]
    body = body[1:-1]
    return _ESCAPE.sub(_escape, body) if "\\" in body else body


def _escape(found: re.Match[str]) -> str:
    for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
        digits = found.group(group)
        if digits is not None:
            return chr(int(digits, base))  # ValueError beyond U+10FFFF: not a Python string
    character: str = found.group(5)
    if character in "xuUN":
        raise ValueError("a broken escape")
    return _SIMPLE.get(character, "\\" + character)
