"""The table of families in README.md, made from the declarations.

python scripts/families_table.py            print it
python scripts/families_table.py --write    put it into README.md, between its markers
python scripts/families_table.py --check    exit with 1 if README.md holds another one
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import toolparse
from toolparse.format import Format

README = Path(__file__).resolve().parent.parent / "README.md"
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
    rows = ["| family | models | a turn with calls |", "|---|---|---|"]
    for name in toolparse.families():
        fmt = toolparse.get(name)
        if isinstance(fmt, Format):
            rows.append(f"| {fmt.name} | {cell(fmt.models)} | {code(fmt.section.replace('{{calls}}', fmt.call))} |")
    return "\n".join(rows)


def with_table(readme: str) -> str:
    """The README with the table as it should be."""
    before, found, rest = readme.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise SystemExit(f"README.md lacks the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The table of families in README.md.")
    parser.add_argument("--write", action="store_true", help="put it into README.md")
    parser.add_argument("--check", action="store_true", help="exit with 1 if README.md holds another one")
    options = parser.parse_args(arguments)
    readme = README.read_text(encoding="utf-8")
    wanted = with_table(readme)
    if options.write:
        README.write_text(wanted, encoding="utf-8")
    elif options.check:
        if readme != wanted:
            print("README.md holds an old table of families: python scripts/families_table.py --write", file=sys.stderr)
            return 1
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
