"""Fingerprints: when two templates, or a template and a family, are the same.

The exact fingerprint is the sha256 of the text. The behaviour fingerprint is made of what is written: two calls with
two parameters each, put together from the pictures with holes left open, without white space and without what ends the
turn. It does not depend on where the pictures were cut, only on the text that they make together.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from toolparse.format import CALL_HOLES, PARAM_HOLES, Format
from toolparse.picture import Hole, Text, Wrapper

_BLANK = re.compile(r"\s+")


def behaviour(format: Format) -> str:
    """The behaviour fingerprint of a format's own picture, its `also` left out."""
    return hashlib.sha256(canonical(format).encode("utf-8", "surrogatepass")).hexdigest()


def canonical(format: Format, calls: int = 2) -> str:
    """What the fingerprint is made of: the calls of a turn with open holes."""
    text, about = written(format, calls)
    return f"{_without_ends(text, format.ends)}\n{about}"


@lru_cache(maxsize=1024)
def written(format: Format, calls: int, params: int = 2) -> tuple[str, str]:
    """The calls of a turn, each with so many parameters, ends included, and what else a reader must know."""
    if format.between_messages:
        calls = 1  # each call is a message of its own; what separates messages is not part of the call
    block = format.block.write(format.between.join([_call(format, params)] * calls))
    text = _BLANK.sub("", block)
    if format.between_messages and not re.sub(r"\{\{\w+\}\}", "", text):
        text += _BLANK.sub("", format.between_messages)  # nothing else tells such a call from text
    return text, f"{_types(format)}\n{_syntax(format)}"


def _call(format: Format, params: int) -> str:
    """One call, with its parameters written out."""
    picture = format.picture("call", format.call, CALL_HOLES, frozenset())
    made: list[str] = []
    for part in picture.parts:
        if isinstance(part, Wrapper):
            made.append(_wrapper(part))
        elif isinstance(part, Text):
            made.append(part.text)
        else:
            made.append(_hole(format, part, params))
    return _BLANK.sub("", "".join(made))


def _wrapper(wrapper: Wrapper) -> str:
    """A JSON object: a name or id in quotes is the same as one that brings its own."""
    text = "".join(part.text if isinstance(part, Text) else "{{" + part.name + "}}" for part in wrapper.parts)
    return re.sub(r"([:])\s*([\"'])\{\{(name|id|index)\}\}\2", r"\1{{\3}}", text).replace("{{index}}", "{{id}}")


def _hole(format: Format, hole: Hole, params: int) -> str:
    if hole.name == "params" and format.param is not None:
        picture = format.picture("param", format.param, PARAM_HOLES, frozenset())
        one = "".join(part.text if isinstance(part, Text) else _plain(part) for part in picture.parts)
        return one * params
    if hole.name == "id" and format.id is not None:
        return re.sub(r":\d+(?=\}\})", "", format.id)
    return _plain(hole)


def _plain(part: object) -> str:
    return "{{" + part.name + "}}" if isinstance(part, Hole) else ""


def _types(format: Format) -> str:
    """How types are spelled, every one of them written out."""
    if format.types is None:
        return ""
    kinds = ("string", "number", "boolean", "null", "object", "array")
    types = dict(format.types)
    return ",".join(f"{kind}={types.get(kind, types.get('*', ''))}" for kind in kinds)


def _syntax(format: Format) -> str:
    """What a reader of the arguments must know; how words and separators are spelled is slack."""
    if "{{params}}" in format.call or format.syntax.is_json:
        return ""
    quotes = format.syntax.quotes
    if quotes and quotes[0] in ("'", '"', ""):
        return ""  # Python and JSON are both read where either is, and so is what ends without quotes
    return f"{quotes[:1]}{format.syntax.escapes}{format.syntax.bare_keys}"


def _without_ends(text: str, ends: Iterable[str]) -> str:
    """The text without the end markers it closes with."""
    bare = [end for end in (_BLANK.sub("", end) for end in ends) if end]
    while True:
        closing = next((end for end in bare if text.endswith(end) and text != end), None)
        if closing is None:
            return text
        text = text[: -len(closing)]


def same_picture(format: Format, family: Format, *, single: bool = False) -> bool:
    """Whether a family writes what an induced format writes; `single`: only one call of it was seen."""
    calls = 1 if single else 2
    (one, about), (other, also) = written(format, calls), written(family, calls)
    if about != also or one[:1] != other[:1]:
        return False
    ends = (*format.ends, *family.ends)  # what one calls an end may be the other's closing
    return _without_ends(one, ends) == _without_ends(other, ends)
