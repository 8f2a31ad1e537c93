"""Writing values in a Syntax: the inverse of scanning."""

from __future__ import annotations

from typing import Any

from toolparse.codecs import json
from toolparse.codecs.unescaped import inner_syntax
from toolparse.format import Syntax

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def write_value(value: Any, syntax: Syntax) -> str:
    """A value as text in a syntax. Raises ValueError for what the syntax cannot carry."""
    pieces: list[str] = []
    _write(value, syntax, pieces)
    return "".join(pieces)


def write_kwargs(arguments: dict[str, Any], syntax: Syntax) -> str:
    """Arguments as `key=value, ...`."""
    for key in arguments:
        if not key.isidentifier():
            raise ValueError(f"the argument name {key!r} is no identifier")
    pairs = [f"{key}={write_argument(value, syntax.of(json.type_of(value)))}" for key, value in arguments.items()]
    return syntax.comma.join(pairs)


def write_arguments(arguments: dict[str, Any], syntax: Syntax) -> str:
    """Arguments as one value."""
    if not syntax.loose:
        return write_value(arguments, syntax)
    items = sorted(arguments.items()) if syntax.sort_keys else list(arguments.items())
    keys = [(str(key) if syntax.bare_keys else json.quote(str(key)), value) for key, value in items]
    return "{" + syntax.comma.join(f"{key}{syntax.colon}{write_argument(value, syntax)}" for key, value in keys) + "}"


def write_argument(value: Any, syntax: Syntax) -> str:
    """One argument: as any value, or as text that only what follows it can end."""
    if not syntax.loose:
        return write_value(value, syntax)
    quote = syntax.quotes[0]
    if isinstance(value, str) and not (syntax.escapes and quote):
        return quote + value + quote
    text = write_value(value, inner_syntax(syntax))
    return quote + text + quote if syntax.texts else text


def _write(value: Any, syntax: Syntax, out: list[str]) -> None:
    if isinstance(value, str):
        out.append(write_string(value, syntax))
    elif value is None:
        out.append(syntax.null)
    elif isinstance(value, bool):
        out.append(syntax.true if value else syntax.false)
    elif isinstance(value, int | float):
        out.append(json.number_text(value))
    elif isinstance(value, dict):
        _write_map(value, syntax, out)
    elif isinstance(value, list | tuple):
        out.append("[")
        for number, item in enumerate(value):
            if number:
                out.append(syntax.comma)
            _write(item, syntax, out)
        out.append("]")
    else:
        raise ValueError(f"a value of type {type(value).__name__} cannot be written")


def _write_map(value: dict[str, Any], syntax: Syntax, out: list[str]) -> None:
    out.append("{")
    items = sorted(value.items()) if syntax.sort_keys else list(value.items())
    for number, (key, item) in enumerate(items):
        if number:
            out.append(syntax.comma)
        out.append(str(key) if syntax.bare_keys else write_string(str(key), syntax))
        out.append(syntax.colon)
        _write(item, syntax, out)
    out.append("}")


def write_string(text: str, syntax: Syntax) -> str:
    """A string in a syntax, quotes included."""
    quote = syntax.quotes[0]
    if not syntax.escapes:
        if quote in text:
            raise ValueError(f"a string holds the quote {quote!r}, which this format cannot escape")
        return quote + text + quote
    if quote == '"':
        return json.quote(text, ascii=syntax.ascii)
    if quote == "'" and "'" in text and '"' not in text and '"' in syntax.quotes:
        quote = '"'  # as Python's repr does
    body = "".join(
        _ESCAPES.get(char) or ("\\" + char if char == quote else char if char >= " " else f"\\x{ord(char):02x}")
        for char in text
    )
    return quote + body + quote
