"""How many of the collected cases are read exactly, by family, and which are not.

    python scripts/report_cases.py [FAMILY ...] [--fixtures] [--show] [--json]

Exit codes: 0 every case that is not listed in tests/case_exceptions.toml is exact, 1 some are not, 2 wrong usage,
3 there are no collected cases on this machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import toolparse
from tests import cases
from tests.places import NO_SHARED, shared_folder

CHUNKINGS = 3


def outcome(case: cases.Case) -> tuple[bool, bool]:
    """Whether the calls are exact, one-shot and in chunks, and whether content and reasoning are."""
    try:
        message = cases.read(case)
    except toolparse.ToolError:
        return False, False
    alike = all(cases.read_in_chunks(case, seed) == message for seed in range(CHUNKINGS))
    return alike and cases.calls_agree(case, message), cases.texts_agree(case, message)


def show(case: cases.Case) -> None:
    print(f"\n{case.id} ({case.kind}) {case.note}\n  text:     {case.text!r}")
    print(f"  prompt:   {case.prefill!r}\n  expected: {case.expect!r}")
    try:
        message = cases.read(case)
    except toolparse.ToolError as error:
        print(f"  refused:  {error}")
        return
    print(f"  read:     {cases.calls_of(message, case.expect, case.kind)!r}")
    print(f"            content {message.content!r}, reasoning {message.reasoning!r}")
    for issue in message.issues:
        print(f"            {issue.code}: {issue.message}")
    for seed in range(CHUNKINGS):
        streamed = cases.read_in_chunks(case, seed)
        if streamed != message:
            print(f"  in chunks: {streamed!r}")
            break


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The collected cases by family, with what is not read exactly.")
    parser.add_argument("families", nargs="*", help="only these")
    parser.add_argument("--fixtures", action="store_true", help="this repository's transcripts instead")
    parser.add_argument("--show", action="store_true", help="print what differs")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    shared = shared_folder()
    if options.fixtures:
        every = list(cases.fixture_cases())
    elif shared is None:
        print(NO_SHARED, file=sys.stderr)
        return 3
    else:
        every = [case for case in cases.shared_cases(shared) if case.kind in cases.FIRM]
    wanted = [case for case in every if not options.families or case.family in options.families]
    known = cases.exceptions()
    results = {case.id: outcome(case) for case in wanted}
    rows = []
    for family in sorted({case.family for case in wanted}):
        mine = [case for case in wanted if case.family == family]
        saying = [case for case in mine if cases.says_texts(case)]
        rows.append(
            {
                "family": family,
                "cases": len(mine),
                "exact": sum(results[case.id][0] for case in mine),
                "texts": len(saying),
                "texts_exact": sum(results[case.id][1] for case in saying),
                "failing": [c.id for c in mine if not results[c.id][0] and c.id not in known],
                "named": [c.id for c in mine if not results[c.id][0] and c.id in known],
                "texts_failing": [case.id for case in saying if not results[case.id][1]],
            }
        )
    failing = [case for case in wanted if not results[case.id][0] and case.id not in known]
    if options.json:
        print(json.dumps(rows))
    else:
        print_table(rows, len(cases.ruled("ruled_texts") & {case.id for case in wanted}))
    if options.show:
        for case in wanted:
            if results[case.id] != (True, True):
                show(case)
    return 1 if failing else 0


def print_table(rows: list[dict[str, object]], ruled: int) -> None:
    """`ruled`: how many texts are read differently by a ruling."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("family", no_wrap=True)
    table.add_column("exact", justify="right")
    table.add_column("content", justify="right")
    table.add_column("calls not exact (in brackets: named in tests/case_exceptions.toml)", overflow="fold")
    totals = {key: sum(int(str(row[key])) for row in rows) for key in ("cases", "exact", "texts", "texts_exact")}
    for row in [*rows, {"family": "all", **totals, "failing": [], "named": []}]:
        failing, excused = row["failing"], row["named"]
        assert isinstance(failing, list)
        assert isinstance(excused, list)
        missed = [f"[red]{escape(name)}[/]" for name in failing] + [escape(f"[{name}]") for name in excused]
        table.add_row(
            str(row["family"]),
            f"{row['exact']}/{row['cases']}",
            f"{row['texts_exact']}/{row['texts']}",
            " ".join(missed),
        )
    console = Console(highlight=False)
    console.print(table)
    if totals["cases"]:
        console.print(f"{totals['exact'] / totals['cases']:.1%} of {totals['cases']} cases exact")
    if totals["texts"]:
        console.print(
            f"{totals['texts_exact'] / totals['texts']:.1%} of {totals['texts']} contents and reasonings exact"
        )
        ours = totals["texts"] - ruled
        if ruled:
            told = f"{totals['texts_exact'] / ours:.1%} of the {ours}"
            console.print(f"{told} that don't contradict a ruling of the design (docs/differences.md)")


if __name__ == "__main__":
    sys.exit(main())
