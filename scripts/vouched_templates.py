"""Rewrite the list of templates that are examined in the process that asks: those at hand that hold plain things only.

    python scripts/vouched_templates.py [--check] [FOLDER_OR_FILE ...]

All others are examined in a process of their own (`toolparse/templates/judging/isolation.py`). A template is vouched
for when it is at hand and read through by `odd_things`: it calls, filters and computes with what templates have reason
to, and reaches for nothing else. Without arguments: the templates of `scripts/template_table.py`, those of the shared
folder that were misread once, and the fixtures. `--check` writes nothing; the exit code is 1 where the list would
change.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2.nodes as nodes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from template_table import templates  # noqa: E402

from tests.places import shared_folder  # noqa: E402
from toolparse.registry import template_hash  # noqa: E402
from toolparse.templates.rendering.environment import nodes_of  # noqa: E402
from toolparse.templates.rendering.limits import words  # noqa: E402

LIST = ROOT / "toolparse" / "templates" / "judging" / "vouched.txt"
_HEAD = (
    "# The sha256 of chat templates that hold plain things only. Made by `python scripts/vouched_templates.py`, which\n"
    "# reads each of them; a template that is not on the list is examined in a process of its own.\n"
)


_METHODS = words(
    "get items keys values split rsplit strip lstrip rstrip startswith endswith replace capitalize lower upper join "
    "append pop update"
)
_FILTERS = words(
    "tojson trim length default string upper lower dictsort join safe items replace selectattr rejectattr map list "
    "indent format reject select capitalize int float first last from_json fromjson sort unique"
)
_FUNCTIONS = words("namespace raise_exception range strftime_now dict")
_NEVER = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.Pow, nodes.FloorDiv, nodes.MarkSafe)
_LONG, _LARGE = 100_000, 100_000  # characters of a template, and the largest number in it


def odd_things(text: str) -> Iterator[str]:
    """What a template holds beside plain things, in words."""
    if len(text) > _LONG:
        yield "its length"
    macros = {node.name for node in nodes_of(text) if isinstance(node, nodes.Macro)}
    for node in nodes_of(text):
        if isinstance(node, _NEVER):
            yield type(node).__name__
        elif isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            yield f".{node.attr}"
        elif isinstance(node, nodes.Const) and isinstance(node.value, str) and "__" in node.value:
            yield repr(node.value)
        elif isinstance(node, nodes.Const) and isinstance(node.value, int) and abs(node.value) > _LARGE:
            yield str(node.value)
        elif isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            yield f"|{node.name}"
        elif isinstance(node, nodes.Call):
            called = node.node
            if isinstance(called, nodes.Name) and called.name not in _FUNCTIONS | macros:
                yield f"{called.name}()"
            elif isinstance(called, nodes.Getattr) and called.attr not in _METHODS:
                yield f".{called.attr}()"
            elif not isinstance(called, nodes.Name | nodes.Getattr | nodes.ExtensionAttribute):
                yield f"a call of {type(called).__name__}"


def main(arguments: list[str]) -> int:
    """Write the list: what is at hand and plain. What is on it and not at hand is named and stays."""
    places = [argument for argument in arguments if argument != "--check"]
    folders = [ROOT / "fixtures" / "templates", *([shared / "new_templates"] if (shared := shared_folder()) else [])]
    at_hand = [*templates([str(folder) for folder in folders]), *templates([])]
    known = {line for line in LIST.read_text(encoding="ascii").split() if len(line) == 64} if LIST.exists() else set()
    found: set[str] = set()
    odd: set[str] = set()
    for name, text in templates(places) if places else at_hand:
        digest = template_hash(text)
        things = list(dict.fromkeys(odd_things(text)))
        (odd if things else found).add(digest)
        if things:
            print(f"not vouched for: {name} ({', '.join(things[:6])})")
    unseen = known - found - odd
    if unseen and not places:
        print(f"{len(unseen)} on the list are not at hand and stay as they are")
    made = (known | found) - odd
    print(f"{len(made)} templates, {len(made - known)} of them new, {len(known - made)} taken off")
    if "--check" in arguments:
        return int(made != known)
    LIST.write_text(_HEAD + "".join(f"{line}\n" for line in sorted(made)), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
