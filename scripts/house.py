"""What each folder of the house holds, and how many lines: the table of docs/architecture.md.

    python scripts/house.py            print the table
    python scripts/house.py --write    put it into the page

What a folder or module holds is the first line of its docstring, so the table needs no upkeep of its own.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- house: made by scripts/house.py --write -->", "<!-- /house -->"
PACKAGES = ("toolparse", "trl_integration")
#: Folders beside the packages; what they hold is said here where they have no docstring of their own.
BESIDE = {
    "tests": "What must hold: laws, readable examples, cases of other projects, hostile input.",
    "benchmarks": "",
    "scripts": "What makes tables of the pages, and fetches tokenizers.",
    "examples": "Short programs that use the library; tests run them.",
    "fixtures": "",
}


def lines_of(paths: list[Path]) -> int:
    """Lines in some files, blank ones and comments included."""
    return sum(path.read_text(encoding="utf-8").count("\n") for path in paths)


def said_by(path: Path) -> str:
    """The first line of a module's docstring."""
    if not path.is_file():
        return ""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0].replace("|", "\\|")


def rows() -> list[tuple[str, int, int, str]]:
    """(place, modules, lines, what it holds): every package and each folder in it, then what stands beside them."""
    found = []
    for package in PACKAGES:
        folders = {path.parent for path in (ROOT / package).rglob("*.py")}
        for folder in sorted(folders):
            files = sorted(folder.glob("*.py"))
            found.append((f"{folder.relative_to(ROOT)}/", len(files), lines_of(files), said_by(folder / "__init__.py")))
    for name, holds in BESIDE.items():
        files = sorted((ROOT / name).rglob("*.py"))
        if files:
            found.append((f"{name}/", len(files), lines_of(files), holds or said_by(ROOT / name / "__init__.py")))
    return found


def table() -> str:
    """The table, in Markdown."""
    lines = ["| folder | modules | lines | what it holds |", "|---|---|---|---|"]
    lines += [f"| `{place}` | {count} | {size:,} | {what} |" for place, count, size, what in rows()]
    return "\n".join(lines)


def put(page: str, begin: str, end: str, content: str) -> str:
    """The page with other content between two markers."""
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"the page lacks the markers {begin} and {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def written(page: str) -> str:
    """The page with the table of today."""
    return put(page, BEGIN, END, table())


def main() -> None:
    parser = argparse.ArgumentParser(description="The table of folders in docs/architecture.md.")
    parser.add_argument("--write", action="store_true", help="put it into the page")
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
