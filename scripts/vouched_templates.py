"""Rewrite the list of templates that somebody has looked at: the sha256 of every one named or at hand.

    python scripts/vouched_templates.py [FOLDER_OR_FILE ...]

Templates on the list are examined in the process that asks; all others in a process of their own
(`toolparse/templates/judging/isolation.py`). Only add what was read. Without arguments: the templates of
`scripts/template_table.py` and the fixtures.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from template_table import templates  # noqa: E402

from toolparse.registry import template_hash  # noqa: E402

LIST = ROOT / "toolparse" / "templates" / "judging" / "vouched.txt"
_HEAD = "# The sha256 of chat templates that were looked at. Made by `python scripts/vouched_templates.py`.\n"


def main(places: list[str]) -> int:
    """Write the list; what is on it stays."""
    known = set(LIST.read_text(encoding="ascii").split()) if LIST.exists() else set()
    kept = {line for line in known if len(line) == 64}
    given = places or [str(ROOT / "fixtures" / "templates")]
    named = [*templates(given), *(templates([]) if not places else ())]
    made = kept | {template_hash(text) for _, text in named}
    LIST.write_text(_HEAD + "".join(f"{line}\n" for line in sorted(made)), encoding="ascii")
    print(f"{len(made)} templates, {len(made - kept)} of them new")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
