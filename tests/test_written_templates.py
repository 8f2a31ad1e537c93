"""Templates written from every registered format, and from formats that nobody has, are found and read exactly.

`written_templates.py` writes them in many hands. What detection says is checked against what was put in: the template
is rendered here, cut at the header that is known to stand before the turn, and parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import streamed
from tests.written_templates import Written, foreign, write
from toolparse import Format, detect, registry
from toolparse.parser import Parser
from toolparse.templates.judging.detection import Detection
from toolparse.templates.judging.proof import schemas
from toolparse.templates.rendering.environment import compile_template

FAMILIES = [format.name for format in registry.formats()]
#: Every family in every one of these hands: there are no exceptions.
SEEDS = (0, 1, 2)
pytestmark = pytest.mark.usefixtures("no_cache")

STRINGS = {
    "quotes": "He said \"no\" and 'yes' \\ `so`",
    "lines": "first\n  second\n\nlast",
    "unicode": "naïve 日本語 🎉",
    "markup": "a <b>bold</b> & <br/>",
    "brackets": "f(x)=[{1}], :;",
}
TYPES = {
    "string": "x",
    "integer": 3,
    "number": 0.5,
    "yes": True,
    "no": False,
    "object": {"x": {"y": 2}, "z": ["q", 1]},
    "array": ["a", 1],
    "null": None,
}
LOOKALIKES = {"zip": "75001", "word": "true", "none": "null", "pair": "[1, 2]"}
SAID, THOUGHT = "Some text.\n\nMore", "I think.\n\nYes"

Calls = list[tuple[str, dict[str, Any]]]


def turns(format: Format) -> Iterator[tuple[str, Calls, str, str | None]]:
    """What a family can say: (name, calls, content, reasoning)."""
    one: Calls = [("get_weather", {"city": "Oslo", "when": "now"})]
    two: Calls = [*one, ("search", {"query": "tea"})]
    yield "one", one, "", None
    yield "no arguments", [("now", {})], "", None
    for name, arguments in (("strings", STRINGS), ("types", TYPES), ("look-alikes", LOOKALIKES)):
        yield name, [("save", dict(arguments))], "", None
    yield "content", [], SAID, None
    yield "content and call", one, SAID, None
    if format.parallel:
        yield "two", two, "", None
        yield "content and two", two, SAID, None
    if "{{arguments}}" in format.call and format.syntax.escapes:
        closings = (format.call.rpartition("}}")[2], format.section.rpartition("}}")[2], *format.ends[:1])
        closing = " ".join(part.strip() for part in closings)
        yield "closing marker", [("save", {"a": f"x {closing} y"})], "", None
    if format.reasoning:
        yield "reasoning", [], SAID, THOUGHT
        yield "reasoning and call", one, "", THOUGHT
        yield "reasoning, content, call", one, SAID, THOUGHT


def wrong(written: Written, found: Detection, format: Format) -> Iterator[str]:
    """What is not read as it was put in."""
    assert isinstance(found.format, Format), found.evidence
    assert found.message_style is not None
    if not found.verified:
        yield f"unverified: {[(check.name, check.detail) for check in found.checks if not check.ok]}"
    template, style, parser = compile_template(written.source), found.message_style, Parser(found.format)
    for name, calls, content, reasoning in turns(format):
        tool_calls = [{"name": called, "arguments": arguments} for called, arguments in calls]
        message = {"content": content, "reasoning_content": reasoning, "tool_calls": tool_calls}
        tools = schemas(calls)
        full = template.render(
            messages=[{"role": "user", "content": style.text("Question?")}, style.message(message)],
            tools=tools,
            bos_token="<s>",
            eos_token="</s>",
            add_generation_prompt=False,
        )
        at = full.index("Question?") + len("Question?")
        text = full[at:].removeprefix(written.header)
        assert len(text) == len(full) - at - len(written.header), "the header stands before the turn"
        held = written.prefill if text.startswith(written.prefill) else ""
        own, prompt = text[len(held) :], full[:at] + written.header + held
        read = parser.parse(own, tools=tools, prompt=prompt)
        if streamed(parser, own, tools=tools, prompt=prompt) != read:
            yield f"{name}: in pieces it is another message, {own!r}"
        got = ([(call.name, call.arguments) for call in read.tool_calls], read.content.strip(), read.reasoning or None)
        if repr(got) != repr((_ordered(calls, read.tool_calls), content, reasoning)):
            yield f"{name}: {got} from {text!r}"


def _ordered(calls: Calls, read: Any) -> Calls:
    """The calls with their arguments in the order of what was read: maps may be written in the order of keys."""
    orders = [list(call.arguments) for call in read] + [[]] * len(calls)
    return [
        (name, {key: arguments[key] for key in sorted(arguments, key=lambda k: order.index(k) if k in order else -1)})
        for (name, arguments), order in zip(calls, orders, strict=False)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_of_any_family_is_learnt_without_the_registry(family: str) -> None:
    format = registry.get(family)
    for seed in SEEDS:
        written = write(format, seed)
        found = detect(written.source, use_registry=False)
        assert list(wrong(written, found, format)) == [], (seed, written.choices, found.format)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_of_any_family_is_found_with_the_registry(family: str) -> None:
    format = registry.get(family)
    written = write(format, 3)
    found = detect(written.source)
    assert list(wrong(written, found, format)) == [], (written.choices, found.format)
    # Functionary's `>>>` stands before messages or begins them: both read the same, only the pictures differ.
    assert found.how == ("induced" if family == "functionary-v32" else "behaviour"), found.evidence


@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_of_a_family_that_nobody_has_is_learnt(family: str) -> None:
    for seed in SEEDS[:2]:
        format = foreign(registry.get(family), seed)
        written = write(format, seed)
        found = detect(written.source)
        assert list(wrong(written, found, format)) == [], (seed, written.choices, found.format)


def test_the_hands_differ() -> None:
    format = registry.get("hermes")
    sources = {write(format, seed).source for seed in range(20)}
    assert len(sources) == 20
    assert {write(format, seed).choices["style"] for seed in range(20)} == {"lines", "dashes", "inline"}
