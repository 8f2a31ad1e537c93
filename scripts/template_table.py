"""The table of detection over every real template at hand, as Markdown.

    python scripts/template_table.py [--no-registry] [--time | --pairs] [FOLDER_OR_FILE ...]

Without arguments: the templates of the shared folder (`TOOLPARSE_SHARED`, else `../shared`), of the installed trl (not
imported) and of the tokenizers fetched by `scripts/fetch_tokenizers.py`. Columns: `+` read back exactly, `L` the
template loses it (the problems say what), `-` refused by the template, `x` read wrongly, blank: not shown by it.
`--pairs` prints instead, for every template, which of all registered families the proof accepts, and whether they read
what the proof does not try (`tests/pairs.py`); the exit code is 1 where one reads wrongly.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.places import real_template_files, tokenizers_folder  # noqa: E402
from toolparse.detect import Detection, detect  # noqa: E402
from toolparse.errors import TemplateError  # noqa: E402
from toolparse.templates.judging import detection_store  # noqa: E402
from toolparse.templates.rendering.environment import compile_template, facts_of  # noqa: E402

CHECKS = {
    "single": "single",
    "parallel": "parallel",
    "awkward": "awkward",
    "look-alike": "look-alikes",
    "closing marker": "closing marker",
    "content": "content",
    "content + call": "content and call",
    "reasoning": "reasoning",
    "reasoning + call": "reasoning and call",
}
#: A template that takes detection through all of its steps.
_FIRST = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}<u>{{ m.content }}</u>{%- else -%}<a>{{ m.content }}"
    "{%- for t in m.tool_calls or [] -%}<c>{{ t.function.name }}<w>{{ t.function.arguments | tojson }}</c>"
    "{%- endfor -%}</a>{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<a>{%- endif -%}"
)
SIGNS = {"passed": "+", "lost": "L", "refused": "-", "failed": "x", "absent": ""}


@dataclass
class Row:
    """One template and what was found for it."""

    name: str
    text: str
    found: Detection
    compiling: float
    detecting: float

    @property
    def calls(self) -> bool:
        """Whether the template writes tool calls."""
        return self.found.message_style is not None


def templates(places: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(name, text) of every template, each text once."""
    seen: set[str] = set()
    for name, text in _all(places):
        if text not in seen:
            seen.add(text)
            yield name, text


def _all(places: Sequence[str]) -> Iterator[tuple[str, str]]:
    given = [[place] if place.is_file() else sorted(place.glob("*.jinja")) for place in map(Path, places)]
    for file in chain.from_iterable(given) if places else real_template_files():
        yield file.stem, file.read_text(encoding="utf-8")
    for config in [] if places else sorted(tokenizers_folder().glob("*/tokenizer_config.json")):
        template = json.loads(config.read_text(encoding="utf-8")).get("chat_template")
        if isinstance(template, str):
            yield f"npm {config.parent.name}", template


def examine(name: str, text: str, use_registry: bool) -> Row:
    """Detect one template; compiling it is timed apart."""
    begun = time.process_time()
    try:
        if facts_of(text).mentions_calls:
            compile_template(text)
    except TemplateError:
        pass
    compiled = time.process_time()
    found = detect(text, use_registry=use_registry)
    return Row(name, text, found, compiled - begun, time.process_time() - compiled)


def lines(rows: Sequence[Row], timed: bool) -> Iterator[str]:
    """The table."""
    heads = ["template", "rung", "family", "verified", *CHECKS, "problems", *(["ms"] if timed else [])]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        found = row.found
        statuses = {check.name: check.status for check in found.checks}
        cells = [row.name, found.how, found.format.name if found.format else "", "yes" if found.verified else ""]
        cells += [SIGNS[statuses.get(check, "absent")] for check in CHECKS.values()]
        cells.append(" ".join(item.code for item in found.problems))
        if timed:
            cells.append(f"{1000 * row.compiling:.1f} + {1000 * row.detecting:.1f}")
        yield "| " + " | ".join(cells) + " |"


def totals(rows: Sequence[Row], timed: bool) -> Iterator[str]:
    """What the table adds up to."""
    calling = [row for row in rows if row.calls]
    others = [row for row in rows if not row.calls]
    verified = sum(row.found.verified for row in calling)
    yield f"{len(rows)} templates; {len(calling)} write tool calls: {verified} verified."
    rungs = Counter(row.found.how for row in calling)
    yield "Rungs: " + ", ".join(f"{how} {count}" for how, count in rungs.most_common()) + "."
    for title, check in CHECKS.items():
        found = Counter(
            next((item.status for item in row.found.checks if item.name == check), "absent") for row in calling
        )
        parts = [f"{found[status]} {status}" for status in ("passed", "lost", "refused", "failed") if found[status]]
        yield f"{title}: {', '.join(parts)}."
    wrong = [row.name for row in others if row.found.verified]
    yield f"{len(others)} templates without tool calls; a format was wrongly verified for {len(wrong)}."
    unverified = [row.name for row in calling if not row.found.verified]
    if unverified:
        yield f"Not verified: {', '.join(unverified)}."
    if timed and calling:
        for title, values in (
            ("Compilation", [row.compiling for row in calling]),
            ("Beyond it", [row.detecting for row in calling]),
            ("Without tool calls", [row.detecting for row in others] or [0.0]),
        ):
            ordered = sorted(1000 * value for value in values)
            median, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.95)]
            yield f"{title}: median {median:.1f} ms, 95 % {late:.1f} ms (CPU)."


def pairs(named: Iterable[tuple[str, str]]) -> int:
    """Print which families the proof accepts on which templates; 1 if one of them reads otherwise than was written."""
    from tests.pairs import judge_template

    tried = accepted = judged = writing = 0
    wrong = []
    print("| template | tried | accepted | read wrongly |")
    print("|---|---|---|---|")
    for name, text in named:
        found = judge_template(name, text)
        if not found.tried:
            continue
        writing, tried, judged = writing + 1, tried + found.tried, judged + found.judged
        accepted += len(found.accepted)
        wrong += found.wrong
        families = " ".join(dict.fromkeys(family for family, _ in found.accepted))
        print(f"| {name} | {found.tried} | {families} | {' '.join(sorted({item.family for item in found.wrong}))} |")
    print()
    print(f"{writing} templates, {tried} pairs of a template and a form of a family: {accepted} accepted.")
    print(f"{judged} turns that the proof does not try were read: {len(wrong)} otherwise than written.")
    for item in wrong[:20]:
        print(f"- {item.template}, {item.family} {item.form}, {item.turn}: {item.detail}")
    return 1 if wrong else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="detection over real chat templates, as a table")
    parser.add_argument("places", nargs="*", help="folders of .jinja files, or files")
    parser.add_argument("--no-registry", action="store_true", help="induction alone, without the known families")
    parser.add_argument("--time", action="store_true", help="add milliseconds (nothing is taken from the disk cache)")
    parser.add_argument("--pairs", action="store_true", help="every family on every template: what the proof accepts")
    options = parser.parse_args(argv)
    if options.pairs:
        return pairs(templates(options.places))
    if options.time:
        os.environ["TOOLPARSE_CACHE"] = "off"
        detect(_FIRST)  # imports are not what is timed
        detection_store.forget()
    rows = [examine(name, text, not options.no_registry) for name, text in templates(options.places)]
    if not rows:
        print("no templates at hand: set TOOLPARSE_SHARED or name a folder", file=sys.stderr)
        return 1
    print("\n".join(lines(rows, options.time)))
    print()
    print("\n".join(totals(rows, options.time)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
