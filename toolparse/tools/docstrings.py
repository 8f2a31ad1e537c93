"""What a docstring says about a function and its parameters, in any of the usual styles.

Two readers on purpose. `google` reads exactly what `transformers.utils.get_json_schema` reads (same
expressions, so that a schema made here equals one made there); `anything` uses the docstring-parser library
for NumPy, Sphinx, reST, Epydoc and for the Google dialects that the first one does not understand (`x (int):
...`).
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

# These five follow transformers.utils.chat_template_utils (Apache-2.0) to the letter.
_DESCRIPTION = re.compile(r"^(.*?)[\n\s]*(Args:|Returns:|Raises:|\Z)", re.DOTALL)
_ARGS = re.compile(r"\n\s*Args:\n(.*?)[\n\s]*(Returns:|Raises:|\Z)", re.DOTALL)
_ARGS_SPLIT = re.compile(
    r"""
(?:^|\n)
([ \t]*)(\w+):\s*
(.*?)\s*
(?=\n(?!\1[ \t])[ \t]*\w+:|\Z)
""",
    re.DOTALL | re.VERBOSE,
)
_RETURNS = re.compile(r"\n\s*Returns:\n\s*(.*?)[\n\s]*(Raises:|\Z)", re.DOTALL)
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)


class Doc(NamedTuple):
    """A docstring taken apart."""

    description: str = ""
    params: dict[str, str] = {}  # noqa: RUF012 - a tuple's default, never changed
    returns: str | None = None
    types: dict[str, str] = {}  # noqa: RUF012 - type names as written, for parameters without an annotation


def google(text: str) -> Doc:
    """The docstring as transformers reads it; `text` is already cleaned and stripped."""
    description = _DESCRIPTION.search(text)
    args = _ARGS.search(text)
    returns = _RETURNS.search(text)
    params: dict[str, str] = {}
    if args is not None:
        block = "\n".join(line for line in args.group(1).split("\n") if line.strip())
        params = {name: re.sub(r"\s*\n+\s*", " ", body.strip()) for _indent, name, body in _ARGS_SPLIT.findall(block)}
    return Doc(
        description.group(1).strip() if description else "",
        params,
        returns.group(1).strip() if returns else None,
    )


def anything(text: str | None) -> Doc:
    """The docstring in whatever style it is written; never raises."""
    if not text or not text.strip():
        return Doc()
    text = text.strip()
    plain = google(text)
    if plain.params:
        return plain
    import docstring_parser

    try:
        parsed = docstring_parser.parse(text)
    except Exception:  # noqa: BLE001 - the library raises many things on free text; free text is a description
        return plain
    if not parsed.meta:
        return plain
    params: dict[str, str] = {}
    types: dict[str, str] = {}
    for param in parsed.params:
        # numpydoc allows "x, y : int" for several parameters at once
        for name in param.arg_name.split(","):
            name = name.strip().lstrip("*")
            if param.description:
                params[name] = re.sub(r"\s*\n+\s*", " ", param.description.strip())
            if param.type_name:
                types[name] = param.type_name
    returns = parsed.returns.description if parsed.returns is not None else None
    return Doc((parsed.description or "").strip(), params, returns, types)


def split_choices(description: str) -> tuple[str, list[Any] | None]:
    """Take a trailing `(choices: ["a", "b"])` off a description.

    Raises:
        ValueError: the choices are not a JSON list.
        TypeError: the choices are JSON, but nothing that can be iterated over.
    """
    found = _CHOICES.search(description)
    if found is None:
        return description, None
    choices = [c.strip() if isinstance(c, str) else c for c in json.loads(found.group(1))]
    return description[: found.start()].strip(), choices
