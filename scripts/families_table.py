"""The table of families in docs/families.md, made from the declarations.

python scripts/families_table.py            print it
python scripts/families_table.py --write    put it into docs/families.md, between its markers
python scripts/families_table.py --check    exit with 1 if docs/families.md holds another one
python scripts/families_table.py --prove    detect every real template at hand, note which families they prove
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from house import put

import toolparse
from toolparse.cli import overview
from toolparse.format import Format

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "families.md"
PROVED = ROOT / "toolparse" / "families" / "proved.py"
BEGIN, END = "<!-- families: made by scripts/families_table.py --write -->", "<!-- /families -->"


def cell(text: str) -> str:
    """Text as it may stand in a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def code(picture: str) -> str:
    """A picture as code in a table: newlines shown, back-ticks fenced."""
    shown = picture.replace("\n", "⏎").replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def table() -> str:
    """The table, as Markdown."""
    rows = ["| family | models | a turn with calls | arguments | has | proved on |", "|---|---|---|---|---|---|"]
    for name in toolparse.families():
        fmt = toolparse.get(name)
        if isinstance(fmt, Format):
            facts = overview(fmt)
            has = ", ".join(key for key in ("ids", "parallel", "reasoning") if facts[key]) or "–"
            look = code(fmt.block.write(fmt.call))
            proved = facts["proved"] or "–"
            rows.append(f"| {fmt.name} | {cell(fmt.models)} | {look} | {facts['arguments']} | {has} | {proved} |")
    return "\n".join(rows)


def prove() -> dict[str, str]:
    """The families that some real template at hand proves, each with the first such template."""
    from tests.places import real_template_files, template_id

    proved: dict[str, str] = {}
    formats = [fmt for fmt in map(toolparse.get, toolparse.families()) if isinstance(fmt, Format)]
    for path in real_template_files():
        found = toolparse.detect(path.read_text(encoding="utf-8"))
        if not found.verified or found.format is None:
            continue
        known = next((fmt for fmt in formats if fmt.name == found.format.name), None)
        for fmt in formats:
            if known is not None and pictures(fmt) == pictures(known):
                proved.setdefault(fmt.name, template_id(path))
    return proved


def pictures(fmt: Format) -> tuple[object, ...]:
    """What a template shows of a family: two families with the same are proved by the same template."""
    return fmt.section, fmt.call, fmt.between, fmt.param, fmt.item, fmt.types, fmt.syntax


def write_proofs(proved: dict[str, str]) -> None:
    """Note the proofs where the library finds them."""
    lines = "".join(f'    "{name}": "{template}",\n' for name, template in sorted(proved.items()))
    head = PROVED.read_text(encoding="utf-8").partition("PROVED")[0]
    PROVED.write_text(f"{head}PROVED = {{\n{lines}}}\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The table of families in docs/families.md.")
    parser.add_argument("--write", action="store_true", help="put it into docs/families.md")
    parser.add_argument("--check", action="store_true", help="exit with 1 if docs/families.md holds another one")
    parser.add_argument("--prove", action="store_true", help="detect every real template, note what it proves")
    options = parser.parse_args(arguments)
    if options.prove:
        proved = prove()
        write_proofs(proved)
        print(f"{len(proved)} of {len(toolparse.families())} families are proved by a real template")
        return 0
    readme = PAGE.read_text(encoding="utf-8")
    wanted = put(readme, BEGIN, END, table())
    if options.write:
        PAGE.write_text(wanted, encoding="utf-8")
    elif options.check:
        if readme != wanted:
            print(
                "docs/families.md holds an old table of families: python scripts/families_table.py --write",
                file=sys.stderr,
            )
            return 1
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
