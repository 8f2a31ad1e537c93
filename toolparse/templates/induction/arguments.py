"""Where a call's name, id and arguments stand in a rendering, and in which syntax the arguments are written."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from toolparse.format import JSON, PYTHON, Syntax
from toolparse.message import fill_id
from toolparse.templates.induction.atoms import Hole
from toolparse.templates.induction.probe import TYPED

Kind = Literal["json", "encoded", "python", "map", "kwargs", "params"]
Span = tuple[int, int, Hole]

_JSON_STYLES = [
    replace(JSON, colon=colon, comma=comma, ascii=ascii_only, sort_keys=sort_keys)
    for colon, comma in ((": ", ", "), (":", ","))
    for ascii_only in (False, True)
    for sort_keys in (False, True)
]


@dataclass(frozen=True, slots=True)
class Body:
    """The arguments of a call as they stand in a text.

    `key_quote`, `value_quote`, `colon`, `comma`: what stands around keys and string values, where the arguments are
    one value or keyword arguments.
    """

    kind: Kind
    start: int
    end: int
    key_quote: str = ""
    value_quote: str = ""
    colon: str = ""
    comma: str = ""


def find_body(text: str, arguments: Mapping[str, str]) -> Body | None:
    """Where the arguments stand: two or more parameters whose values are strings."""
    places = _places(text, arguments)
    if places is None:
        return None
    (k1, k1_end, v1, v1_end), (k2, k2_end, v2, _) = places[0], places[1]
    as_json = _json(text, k1, arguments) or _encoded(text, k1, arguments)
    if as_json is not None:
        return as_json
    middle, between, again = text[k1_end:v1], text[v1_end:k2], text[k2_end:v2]
    if middle != again or min(k1, k2) != k1:
        return Body("params", k1, places[-1][3])
    opening = text.rfind("{", max(0, k1 - 12), k1)
    key_quote = text[opening + 1 : k1].strip() if opening >= 0 else ""
    if opening >= 0 and "=" not in middle and middle.startswith(key_quote):
        found = _literal_map(text, opening, places, key_quote)
        if found is not None:
            return found
    if middle.startswith("=") and len(middle) < 6 and not re.search(r"[<>]", middle + between):
        quote = middle[1:].strip()
        if between.startswith(quote) and between[len(quote) :].strip() in (",", ""):
            end = places[-1][3] + len(quote)
            return Body("kwargs", k1, end, "", quote, "=", between[len(quote) :])
    return Body("params", k1, places[-1][3])


def find_like(text: str, arguments: Mapping[str, str], model: Body) -> Body | None:
    """Where the arguments of another call stand, given how the first call's are written."""
    places = _places(text, arguments)
    if places is None:
        return None
    first, last = places[0], places[-1]
    if model.kind == "json":
        return _json(text, first[0], arguments)
    if model.kind == "encoded":
        return _encoded(text, first[0], arguments)
    if model.kind in ("python", "map"):
        opening = text.rfind("{", 0, first[0])
        closing = text.find("}", last[3])
        return None if opening < 0 or closing < 0 else replace(model, start=opening, end=closing + 1)
    end = last[3] + (len(model.value_quote) if model.kind == "kwargs" else 0)
    return replace(model, start=first[0], end=end)


def _places(text: str, arguments: Mapping[str, str]) -> list[tuple[int, int, int, int]] | None:
    """(start and end of the key, start and end of the value) of every parameter, in the order of the text."""
    found = []
    for key, value in arguments.items():
        at = text.find(key)
        value_at = text.find(value, at + len(key)) if at >= 0 else -1
        if value_at < 0:
            return None
        found.append((at, at + len(key), value_at, value_at + len(value)))
    return sorted(found)


def _json(text: str, key_at: int, arguments: Mapping[str, Any]) -> Body | None:
    """Arguments that stand as JSON: one of the last few braces before their first key opens them."""
    opening = key_at
    for _ in range(3):
        opening = text.rfind("{", 0, opening)
        if opening < 0:
            return None
        with contextlib.suppress(ValueError):
            value, end = json.JSONDecoder().raw_decode(text, opening)
            if value == arguments:
                return Body("json", opening, end, '"', '"')
    return None


def _encoded(text: str, key_at: int, arguments: Mapping[str, Any]) -> Body | None:
    """Arguments that stand as a JSON string which holds JSON."""
    quote = text.rfind('"{', 0, key_at)
    if quote < 0:
        return None
    try:
        value, end = json.JSONDecoder().raw_decode(text, quote)
        if json.loads(value) != arguments:
            return None
    except (ValueError, TypeError):
        return None
    return Body("encoded", quote + 1, end - 1, '"', '"')


def _literal_map(text: str, opening: int, places: Sequence[tuple[int, int, int, int]], key_quote: str) -> Body | None:
    """A map `{key<colon>value<comma>key...}` with quotes of its own, Python's repr included."""
    (_, k1_end, v1, v1_end), (k2, *_) = places[0], places[1]
    closing = text.find("}", places[-1][3])
    if closing < 0:
        return None
    value_quote = text[places[-1][3] : closing].strip()
    middle, between = text[k1_end:v1], text[v1_end:k2]
    if not (middle.endswith(value_quote) and between.startswith(value_quote) and between.endswith(key_quote)):
        return None
    colon = middle[len(key_quote) : len(middle) - len(value_quote)]
    comma = between[len(value_quote) : len(between) - len(key_quote)]
    if colon.strip() != ":" or comma.strip() != ",":
        return None
    kind: Kind = "python" if key_quote == value_quote == "'" else "map"
    return Body(kind, opening, closing + 1, key_quote, value_quote, colon, comma)


# ------------------------------------------------------------------------------------------------ spans of a turn


def spans_of(
    text: str, calls: Sequence[tuple[str, Mapping[str, str]]], model: Body | None, id_picture: str
) -> list[Span]:
    """The holes of a turn's calls: names, ids, and arguments as one value, keyword arguments or keys and values."""
    found: list[Span] = []
    for index, (name, arguments) in enumerate(calls):
        ident = fill_id(id_picture, name, index)
        found.extend(_everywhere(text, ident, Hole("id", index)))
        found.extend(_everywhere(text, name, Hole("name", index)))
        body = find_like(text, arguments, model) if arguments and model is not None else None
        if body is None:
            continue
        if body.kind == "params":
            found.extend(_parameters(text, index, arguments))
        else:
            kind = "kwargs" if body.kind == "kwargs" else "arguments"
            found.append((body.start, body.end, Hole(kind, index)))
    return found


def _everywhere(text: str, word: str, hole: Hole) -> list[Span]:
    return [(match.start(), match.end(), hole) for match in re.finditer(re.escape(word), text)]


def _parameters(text: str, index: int, arguments: Mapping[str, str]) -> list[Span]:
    found: list[Span] = []
    for at, (key, value) in enumerate(arguments.items()):
        found.extend(_everywhere(text, key, Hole("key", index, at)))
        found.extend(_everywhere(text, value, Hole("value", index, at)))
    return found


# ------------------------------------------------------------------------------------------------------- syntax


def syntax_of_value(written: str, value: Any) -> Syntax | None:
    """The syntax in which exactly this text is this value, if it is JSON or Python."""
    for style in _JSON_STYLES:
        if written == dump_json(value, style):
            return style
    if written == repr(value):
        return PYTHON
    with contextlib.suppress(ValueError):
        if json.loads(written) == value:
            return JSON
    with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        if ast.literal_eval(written) == value:
            return PYTHON
    return None


def dump_json(value: Any, style: Syntax) -> str:
    """A value as JSON in a style."""
    return json.dumps(value, ensure_ascii=style.ascii, separators=(style.comma, style.colon), sort_keys=style.sort_keys)


def syntax_of_body(text: str, body: Body, arguments: Mapping[str, Any] = TYPED) -> Syntax | None:
    """The syntax of arguments that hold one value of every type, as they are rendered in `text`."""
    keys = list(arguments)
    places = [text.find(key) for key in keys]
    if min(places) < 0:
        return None
    if body.kind == "encoded":
        return JSON
    start = text.rfind("{", 0, min(places)) if body.kind != "kwargs" else min(places)
    if body.kind in ("json", "python"):
        end = _balanced_end(text, start)
        return syntax_of_value(text[start:end], dict(arguments)) or (JSON if body.kind == "json" else PYTHON)
    words = {key: _scalar(text, key, body) for key in keys}
    if not body.comma:
        words = {key: word.removesuffix(next((k for k in keys if word.endswith(k)), "")) for key, word in words.items()}
    ordered = [key for _, key in sorted(zip(places, keys, strict=True))]
    if any(not word.isalpha() for word in (words["kttrue"], words["ksfalse"], words["krnull"])):
        words = {"kttrue": "true", "ksfalse": "false", "krnull": "null"}
    true, false, null = words["kttrue"], words["ksfalse"], words["krnull"]
    quote = body.value_quote
    number = text.find(str(arguments["kvinteger"]), text.find("kvinteger"))
    texts = not quote or text[:number].endswith(quote)
    plain = quote in ("'", '"')
    syntax = Syntax(
        quotes=(quote, *(other for other in ("'", '"') if plain and other != quote and not texts)),
        escapes=plain,
        texts=texts,
        true=true,
        false=false,
        null=null,
        bare_keys=body.kind == "map" and not body.key_quote,
        sort_keys=ordered == sorted(keys),
        colon=body.colon if body.kind == "map" else _inner_colon(text),
        comma=body.comma if body.kind == "kwargs" else body.comma or ", ",
    )
    if body.kind != "kwargs" or syntax.loose:
        return syntax
    return replace(syntax, json=json_kinds({key: _balanced(text, key) for key in ("kqobject", "kparray")}, syntax))


def json_kinds(written: Mapping[str, str], syntax: Syntax) -> tuple[str, ...]:
    """Which of the typed object and array are written as JSON, where the syntax would not write JSON."""
    if syntax.is_json or syntax.sort_keys:
        return ()
    kinds = {"object": "kqobject", "array": "kparray"}
    return tuple(kind for kind, key in kinds.items() if written[key] == dump_json(TYPED[key], JSON))


def _balanced(text: str, key: str) -> str:
    """The object or array behind a key."""
    at = min((at for at in (text.find(char, text.find(key)) for char in "{[") if at >= 0), default=len(text))
    return text[at : _balanced_end(text, at)] if at < len(text) else ""


def _inner_colon(text: str) -> str:
    """The colon in a map inside keyword arguments."""
    match = re.search(r"zwinner['\"]?(\s*:\s*)", text)
    return match.group(1) if match else ": "


def _scalar(text: str, key: str, body: Body) -> str:
    """The word that stands for a value which is no string, list or map."""
    at = text.find(key) + len(key) + len(body.key_quote) + len(body.colon)
    match = re.match(r"[^\s,}\])=]+", text[at:])
    word = match.group() if match else ""
    quote = body.value_quote
    return word[len(quote) : -len(quote)] if quote and word.startswith(quote) and word.endswith(quote) else word


def _balanced_end(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes; a probe's strings hold no brackets."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in "{[(":
            depth += 1
        elif text[at] in "}])":
            depth -= 1
            if not depth:
                return at + 1
    return len(text)
