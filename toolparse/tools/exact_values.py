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
from toolparse.codecs.json import MAX_DEPTH, NUMBER, WORDS, decode, is_shallow


class _Missing:
    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()

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
        return _python(text)
    except (ValueError, OverflowError):
        return MISSING


def _python(text: str) -> Any:
    # One frame per open container: the container, its closing bracket, and the key that waits for its value.
    stack: list[tuple[Any, str]] = []
    keys: list[Any] = []
    position, end = 0, len(text.rstrip(" \t\r\n"))
    state = "value"  # value | first (value or closer) | colon | after (comma or closer)
    result: Any = MISSING
    while position < end:
        token = _TOKEN.match(text, position)
        if token is None or result is not MISSING:
            return MISSING
        position = token.end()
        kind, body = token.lastgroup, token.group(token.lastgroup or 0)
        if kind == "punct":
            if body in "[{(":
                if state not in ("value", "first") or (_wants_key(stack, keys)) or len(stack) >= _DEEPEST:
                    return MISSING
                stack.append(({} if body == "{" else [], {"[": "]", "{": "}", "(": ")"}[body]))
                keys.append(MISSING)
                state = "first"
                continue
            if not stack:
                return MISSING
            if body == ":":
                if state != "colon":
                    return MISSING
                state = "value"
                continue
            if body == ",":
                if state != "after":
                    return MISSING
                state = "first"  # a closer may follow: trailing commas are legal
                continue
            # a closing bracket
            closed, closer = stack[-1]
            if body != closer or state not in ("first", "after"):
                return MISSING
            if closer == ")" and len(closed) == 1 and state == "after":
                return MISSING  # `(1)` without a comma is no tuple
            stack.pop()
            keys.pop()
            value: Any = closed
        else:
            if state not in ("value", "first"):
                return MISSING
            if kind == "string":
                value = _unquote(body)
            elif kind == "word":
                value = WORDS[body]
            else:
                value = number(body, lenient=True)
                if value is MISSING or (_DIGITS.fullmatch(body) and body.lstrip("+-") != str(abs(value))):
                    return MISSING  # 007 is no Python integer
            if _wants_key(stack, keys):
                if not isinstance(value, str):
                    return MISSING
                keys[-1] = value
                state = "colon"
                continue
        # a complete value: into its container, or it is the result
        if not stack:
            result = value
            continue
        container, closer = stack[-1]
        if closer == "}":
            container[keys[-1]] = value
            keys[-1] = MISSING
        else:
            container.append(value)
        state = "after"
    return result


def _wants_key(stack: list[tuple[Any, str]], keys: list[Any]) -> bool:
    """Whether the next value is a dict's key."""
    return bool(stack) and stack[-1][1] == "}" and keys[-1] is MISSING


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
