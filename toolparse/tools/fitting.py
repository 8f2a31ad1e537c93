"""Two readings that nobody makes unless told to: arguments fitted to a schema, and text typed by its looks.

coerce   arguments of one type where the schema has another, where exactly one reading fits
infer    text that no schema describes, by what it looks like; the postal code 01234 stays text, 10115 does not
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

from toolparse.codecs.json import WORDS, decode, encode, is_shallow, type_of
from toolparse.tools import exact_values
from toolparse.tools.convert import Converter, Path, Plan, untyped_tree
from toolparse.tools.exact_values import MISSING
from toolparse.tools.problem_text import Problem, place, show
from toolparse.tools.toolset import Tool


def coerce(arguments: dict[str, Any], tool: Tool) -> tuple[dict[str, Any], list[Problem]]:
    """Arguments as the tool's schema wants them, where what the model wrote can be read in one way only.

    `"3"` or `2.0` for an integer, `"[1]"` for an array (in quotes of its own, too), `{"a": 1}` or `5` for a string. A
    value of a type that the schema admits is left alone, and so is all for which there is no reading or more than one.

    Args:
        arguments: Decoded arguments; they are not changed.
        tool: The tool that is called.

    Returns:
        The arguments (the same object if nothing was done), and a note with the code `repaired` for each repair.
    """
    if not is_shallow(arguments):
        return arguments, []
    repairs: list[Problem] = []
    converter = tool.converter
    try:
        fitted = _fitted(arguments, converter.root, (), converter, repairs)
    except RecursionError:  # called from the bottom of a deep stack
        return arguments, []
    return (fitted, repairs) if repairs else (arguments, [])


def _fitted(value: Any, schema: Any, path: Path, converter: Converter, repairs: list[Problem]) -> Any:
    plan = converter.plan_of(schema)
    if path and plan.kind != "unknown" and not _admits(plan, value):
        read = _read(plan, value)
        if read is MISSING:
            return value
        repairs.append(Problem("repaired", f"{place(path)}: read {show(value)} as {show(read)}", path))
        value = read
    resolver = converter.resolver
    if isinstance(value, dict):
        return {
            key: _fitted(inner, resolver.child(schema, key), (*path, key), converter, repairs)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        schemas = resolver.items(schema, len(value))
        return [_fitted(inner, schemas[index], (*path, index), converter, repairs) for index, inner in enumerate(value)]
    return value


def _admits(plan: Plan, value: Any) -> bool:
    kind = type_of(value)
    if kind == "string":
        return plan.strings or value in plan.string_literals
    return kind in plan.types or (kind == "integer" and "number" in plan.types)


def _read(plan: Plan, value: Any) -> Any:
    """The one value of an admitted type that another value stands for; MISSING if there is none."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] == '"' and text[-1:] == '"':  # JSON in JSON, between tags
            with contextlib.suppress(ValueError):
                text = decode(text)
        return plan.read(text.strip())
    if isinstance(value, float):
        return int(value) if "integer" in plan.types and value.is_integer() and math.isfinite(value) else MISSING
    if plan.types != {"string"} or isinstance(value, bool) or not isinstance(value, int | dict | list):
        return MISSING
    try:
        text = encode(value)
    except (ValueError, RecursionError):
        return MISSING
    return text if plan.strings or text in plan.string_literals else MISSING


def infer(text: str) -> Any:
    """The value that a piece of text looks like: a JSON object, array or number, or one of JSON's or Python's words.

    Python's spellings inside objects and arrays are read too. Everything else stays text, as it stands.
    """
    bare = text.strip()
    if bare in WORDS:
        return WORDS[bare]
    if bare[:1] in ("{", "["):
        value = exact_values.container(bare, python=True)
    elif len(bare) <= exact_values.MAX_SCALAR:
        value = exact_values.number(bare, lenient=False)
    else:
        return text
    return text if value is MISSING else value


class Inferred:
    """Stands for the tool of a call where none are given, and types its arguments by their looks."""

    def admits(self, key: str) -> str:
        """`typed`: every text is looked at."""
        return "typed"

    def convert_text(self, key: str, text: str, *, python: bool = False) -> tuple[Any, Any]:
        """What a text looks like."""
        return infer(text), None

    def convert_tree(self, tree: Any, key: str | None = None, *, python: bool = False) -> tuple[Any, Any]:
        """What nested elements look like, their texts included."""
        return _infer_leaves(untyped_tree(tree)), None

    def retype(self, key: str, value: Any) -> Any:
        """A text that the format itself calls a string stays one."""
        return value


#: The one that serves all.
INFERRED = Inferred()


def _infer_leaves(value: Any) -> Any:
    if isinstance(value, str):
        return infer(value)
    if isinstance(value, dict):
        return {key: _infer_leaves(item) for key, item in value.items()}
    return [_infer_leaves(item) for item in value] if isinstance(value, list) else value
