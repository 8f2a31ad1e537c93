"""Running collected and hand-written outputs through the parser: shared by the tests and scripts/report_cases.py."""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fixtures
import toolparse
from tests.places import ROOT

# The kinds whose expectation is a matter of fact; `malformed` cases show what some project does, not what is right.
FIRM = ("valid", "none", "streaming")

EXCEPTIONS = ROOT / "tests" / "case_exceptions.toml"


@dataclass(frozen=True)
class Case:
    """One model output and what must be read from it."""

    id: str
    family: str
    kind: str
    text: str
    prefill: str
    tools: list[dict[str, Any]] | None
    expect: dict[str, Any]
    note: str = ""
    infer: bool = False  # peers type tagged values by their looks where no tools are given

    @classmethod
    def of(cls, row: dict[str, Any], family: str, *, infer: bool = False) -> Case:
        # Where nothing is said of the prompt, it opened nothing.
        prefill = row.get("prefill") or ""
        given = (row["id"], family, row["kind"], row["text"], prefill, row.get("tools"), row["expect"])
        return cls(*given, note=row.get("note", ""), infer=infer)


def shared_cases(shared: Path) -> Iterator[Case]:
    """The collected cases of every family that is registered; a file is named by its family."""
    names = set(toolparse.families())
    for path in sorted((shared / "cases").glob("*.jsonl")):
        if path.stem in names:
            for line in path.read_text(encoding="utf-8").split("\n"):
                if line.strip():
                    row = json.loads(line)
                    stays = re.search(r"no tools( passed)?[,:] .*stay", row.get("note") or "")
                    yield Case.of(row, path.stem, infer=row.get("tools") is None and stays is None)


def fixture_cases() -> Iterator[Case]:
    """The hand-written cases of this repository."""
    for family in fixtures.transcribed():
        for row in fixtures.transcripts(family):
            yield Case.of(row, family)


@cache
def exceptions() -> dict[str, str]:
    """Cases that are not read as their source expects, with the reason."""
    tables = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    return {**tables["ruled"], **tables["open"]}


@cache
def text_exceptions() -> dict[str, str]:
    """Cases whose content or reasoning is read differently, with the reason."""
    tables = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    return {**tables["ruled_texts"], **tables["texts"]}


@cache
def ruled(table: str = "ruled") -> frozenset[str]:
    """Those whose expectation contradicts a ruling of the design: they are not meant to be read that way.

    `table`: `ruled` for calls, `ruled_texts` for content and reasoning.
    """
    return frozenset(tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))[table])


@cache
def parser_for(family: str, infer: bool = False) -> Any:
    """Read as the peers do whose tests the cases are: calls anywhere, values typed by their looks without tools."""
    return toolparse.parser_for(family, bare="anywhere", infer=infer)


def read(case: Case) -> toolparse.ParsedMessage:
    """The case's text, parsed in one piece."""
    message: toolparse.ParsedMessage = parser_for(case.family, case.infer).parse(
        case.text, tools=case.tools, prompt=case.prefill
    )
    return message


def read_in_chunks(case: Case, seed: int) -> toolparse.ParsedMessage:
    """The case's text, streamed in pieces of random lengths."""
    stream = parser_for(case.family, case.infer).stream(tools=case.tools, prompt=case.prefill)
    choose = random.Random(f"{case.id}/{seed}")
    longest = choose.choice((1, 3, 12, 60))
    start = 0
    while start < len(case.text):
        end = start + choose.randint(1, longest)
        stream.feed(case.text[start:end])
        start = end
    message: toolparse.ParsedMessage = stream.close()
    return message


def calls_of(message: toolparse.ParsedMessage, expected: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The message's calls in the shape of the expected ones: an id only where one is expected."""
    calls = [call for call in message.tool_calls if call.ok or kind in FIRM]
    wanted = expected["calls"]
    read: list[dict[str, Any]] = []
    for number, call in enumerate(calls):
        seen: dict[str, Any] = {"name": call.name, "arguments": call.arguments}
        if number < len(wanted) and "id" in wanted[number]:
            seen["id"] = call.id
        read.append(seen)
    return read


def same(left: Any, right: Any) -> bool:
    """Equality as JSON has it: 1 is not true, but 3 is 3.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def calls_agree(case: Case, message: toolparse.ParsedMessage) -> bool:
    return same(calls_of(message, case.expect, case.kind), case.expect["calls"])


def is_exact(case: Case) -> bool:
    """Whether the calls come out as expected; a case whose tools are refused is not read at all."""
    try:
        return calls_agree(case, read(case))
    except toolparse.ToolError:
        return False


def squeezed(text: str | None) -> str:
    """A text without what frames may add: white space at the ends, its amount in between."""
    return " ".join((text or "").split())


def texts_agree(case: Case, message: toolparse.ParsedMessage) -> bool:
    """Whether content and reasoning are as expected, where the case says anything of them."""
    pairs = (("content", message.content), ("reasoning", message.reasoning))
    return all(squeezed(case.expect[key]) == squeezed(value) for key, value in pairs if key in case.expect)


def says_texts(case: Case) -> bool:
    return "content" in case.expect or "reasoning" in case.expect
