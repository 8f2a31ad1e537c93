"""What can be said of a format in a row of a table, derived from its declaration."""

from __future__ import annotations

from typing import Any

from toolparse.families.proved import PROVED
from toolparse.format import Format
from toolparse.program import compile_format


def overview(format: Format) -> dict[str, Any]:
    """`arguments` (the codec), `ids` (the text carries call ids), `parallel`, `reasoning`, `proved`.

    `proved` names a real chat template on which detection proved the family, '' where none was at hand.
    """
    return {
        "arguments": codec(format),
        "ids": "{{id}}" in format.call,
        "parallel": format.parallel,
        "reasoning": format.reasoning is not None,
        "proved": PROVED.get(format.name, ""),
    }


def codec(format: Format) -> str:
    """How the arguments are written, in a word or two."""
    body = compile_format(format).shapes[0].body
    if body == "params":
        return "nested elements" if format.item is not None else "tagged parameters"
    if body == "kwargs":
        return "Python call"
    if format.syntax.bare_keys:
        return "literal map"
    syntax = "JSON" if format.syntax.is_json else "Python literals"
    return f"{syntax} object" if body == "wrapper" else syntax
