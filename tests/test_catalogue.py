"""Every example of the catalogue of formats, where this machine has it: read whole, and in pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import toolparse
from tests.cases import same, squeezed
from tests.conftest import streamed
from tests.places import NO_SHARED, shared_folder
from toolparse import testing

SHARED = shared_folder()
FOLDER = SHARED / "formats" if SHARED and (SHARED / "formats").is_dir() else None

needs_catalogue = pytest.mark.skipif(FOLDER is None, reason=f"no catalogue of formats; {NO_SHARED}")

# Headings that are not the name of one format.
HEADINGS = {
    "reka-edge": "hermes",
    "dots": "dots3",
    "mistral-v11 / mistral-v13": "mistral",
}


@dataclass(frozen=True)
class Example:
    """A text and what the catalogue says of it."""

    id: str
    family: str
    text: str
    calls: list[dict[str, Any]]
    content: str | None
    reasoning: str | None
    thinking: bool  # the prompt opened the thought
    tools: list[dict[str, Any]] | None


def family_of(heading: str) -> str:
    heading = HEADINGS.get(heading, heading)
    words = [HEADINGS.get(word, word) for word in re.split(r"[\s,/]+", heading)]
    return next((word for word in words if word in toolparse.families()), "")


def json_examples(path: Path) -> Iterator[Example]:
    """`~~~` blocks with the expectation behind them: => `calls`, content `...`, reasoning `...`."""
    family, number = "", 0
    lines = path.read_text(encoding="utf-8").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("### "):
            family, number = family_of(line[4:].strip()), 0
        if line != "~~~":
            continue
        end = lines.index("~~~", at)
        text = "\n".join(lines[at:end])
        said = re.match(r"=> `(\[.*?\])`(?=,|\s|$)(.*)", lines[end + 1])
        at = end + 2
        if said is None or not family:
            continue
        number += 1
        rest = said.group(2)
        content = re.search(r"content `(.*?)`", rest)
        reasoning = re.search(r"reasoning `(.*?)`", rest)
        yield Example(
            f"{family}.{number}",
            family,
            text,
            json.loads(said.group(1)),
            content.group(1) if content else "",
            reasoning.group(1) if reasoning else None,
            bool(reasoning),
            None,
        )


def other_examples(path: Path) -> Iterator[Example]:
    """`~~~raw NAME.N` blocks, each with a `~~~expect` block behind it."""
    whole = path.read_text(encoding="utf-8")
    given = json.loads(re.search(r"```json\n(\[.*?\])\n```", whole, re.DOTALL).group(1))
    tools = [{"type": "function", "function": tool} for tool in given]
    blocks = re.findall(
        r"^~~~raw (\S+?)\.(\d+).*?\n(.*?)\n~~~\n~~~expect\n(.*?)\n~~~$", whole, re.DOTALL | re.MULTILINE
    )
    for name, number, text, expected in blocks:
        expect = json.loads(expected)
        family = toolparse.get(name).name
        yield Example(
            f"{family}.{number}",
            family,
            text,
            expect["calls"],
            expect.get("content"),
            expect.get("reasoning"),
            expect.get("start") == "reasoning",
            tools,
        )


JSON_EXAMPLES = list(json_examples(FOLDER / "json_families.md")) if FOLDER else []
OTHER_EXAMPLES = list(other_examples(FOLDER / "other_families.md")) if FOLDER else []


def prompt_of(example: Example) -> str | None:
    """What the prompt held, as far as the example says it: None for the family's default."""
    format = toolparse.get(example.family)
    suffix = ":opensource" if ":opensource" in example.text else ""
    opening = (format.bind(suffix).reasoning or "").partition("{{text}}")[0]
    if example.thinking and opening.strip() not in example.text:
        return opening
    opens = bool(opening) and format.prefill.strip() == opening.strip()
    return "" if opens or "</think>" in format.prefill else None


def check(example: Example) -> None:
    parser = toolparse.parser_for(example.family)
    prompt = prompt_of(example)
    message = parser.parse(example.text, tools=example.tools, prompt=prompt)
    read: list[dict[str, Any]] = []
    for number, call in enumerate(message.tool_calls):
        seen: dict[str, Any] = {"name": call.name, "arguments": call.arguments}
        if number < len(example.calls) and "id" in example.calls[number]:
            seen["id"] = call.id
        read.append(seen)
    assert same(read, example.calls), f"{example}\nread: {message}"
    unread = [issue for issue in message.errors if issue.code in ("malformed-arguments", "no-name", "truncated")]
    assert not unread, f"{example}\nread: {message}"
    if example.content is not None:
        assert squeezed(message.content) == squeezed(example.content), f"{example}\nread: {message}"
    if example.reasoning is not None:
        assert squeezed(message.reasoning) == squeezed(example.reasoning), f"{example}\nread: {message}"
    for seed in range(6):
        pieces = testing.chunked(example.text, seed)
        assert streamed(parser, pieces, tools=example.tools, prompt=prompt) == message, f"{example}, chunking {seed}"


@needs_catalogue
@pytest.mark.parametrize("example", [pytest.param(example, id=example.id) for example in JSON_EXAMPLES])
def test_json_family(example: Example) -> None:
    check(example)


@needs_catalogue
@pytest.mark.parametrize("example", [pytest.param(example, id=example.id) for example in OTHER_EXAMPLES])
def test_other_family(example: Example) -> None:
    check(example)


@needs_catalogue
def test_the_catalogue_is_covered() -> None:
    """All examples are found, and every family but those that it only mentions has one."""
    assert len(JSON_EXAMPLES) >= 95
    assert len(OTHER_EXAMPLES) == 49
    covered = {example.family for example in (*JSON_EXAMPLES, *OTHER_EXAMPLES)}
    assert set(toolparse.families()) - covered <= {
        "mistral-v11",
        "mistral-v13",
        "granite-thinking",
        "gigachat35",
        "minicpm3",
    }
