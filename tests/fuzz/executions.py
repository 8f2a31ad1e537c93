"""One execution: a format, a prompt, a text and tools made from a seed, and every law that holds for any text.

`execute(name, source, seed)` says which laws broke and how; `reduced` makes the text and the prompt of what broke smaller.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import toolparse
from tests.places import real_template_files, shared_folder, template_id
from toolparse import Parser, registry, testing
from toolparse.format import Format

#: What values are replaced by: numbers beyond bounds, halves of characters, blanks that engines disagree about.
AWKWARD = (
    "1e999", "-1e999", "NaN", "Infinity", "9" * 400, "-0", "1e-400", "\ud800", '"\\ud800"', "\x1c", "\x1f", "\x85", "\u2028",
    "\u00a0", "\x00", "[" * 70, "{" * 70, '{"a":' * 70, "a" * 255, "a" * 257, " " * 257, "\\", '"', "'", "\\u", "\\u12",
    "null", "None", "True", "&amp;", "&#", "<![CDATA[", "]]>", "```", "\r\n",
)  # fmt: skip
SCHEMAS: tuple[Any, ...] = (
    {}, True, {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"},
    {"type": "array"}, {"type": "object"}, {"enum": []}, {"enum": [1, "1", None]}, {"type": ["string", "null"]},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]}, {"anyOf": [{"$ref": "#/$defs/r"}, {"type": "string"}]},
    {"allOf": [{"type": "string"}, {"type": "integer"}]}, {"const": 10**30}, {"type": "string", "pattern": "^(a+)+$"},
    {"not": {}}, {"type": "array", "items": {"$ref": "#/$defs/r"}}, {"enum": list(range(500))},
)  # fmt: skip
RECURSIVE = {"r": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#/$defs/r"}}]}}


@dataclass(frozen=True)
class Tried:
    """What one execution read."""

    format: str
    prompt: str | None
    text: str
    tools: list[dict[str, Any]] | None
    seed: int


@dataclass(frozen=True)
class Broken:
    """A law that an execution broke, and what was said."""

    law: str  # "raises", "tiles", "chunking", "events"
    tried: Tried
    said: str

    def line(self) -> dict[str, Any]:
        """As a line of reader_kinds.jsonl."""
        kind = {"raises": "12.6", "tiles": "12.2", "chunking": "12.2", "events": "12.1"}[self.law]
        tried = self.tried
        return {
            "kind": kind, "format": tried.format, "text": tried.text, "pieces": None, "prompt": tried.prompt,
            "tools": tried.tools, "expect": {}, "note": f"fuzz: {self.law}",
        }  # fmt: skip


@cache
def sources() -> dict[str, Parser]:
    """Parsers by the name under which reader_kinds.jsonl knows them: registered, and induced where templates are at hand."""
    found = {format.name: Parser(format) for format in registry.formats()}
    known = {(parser.format, parser.prefill) for parser in found.values()}
    shared = shared_folder()
    newer = sorted((shared / "new_templates").glob("*.jinja")) if shared else []
    for path in [*real_template_files(), *newer]:
        try:
            parser = toolparse.parser_for(path.read_text(encoding="utf-8"))
        except toolparse.UnknownFormat:
            continue
        if isinstance(parser, Parser) and isinstance(parser.format, Format):
            name = template_id(path).replace("shared:", "template:")
            if (parser.format, parser.prefill) not in known:
                known.add((parser.format, parser.prefill))
                found[name] = parser
    return found


def made(name: str, parser: Parser, seed: int, rng: random.Random | None = None) -> Tried:
    """The input of an execution: made from its seed, or from what `rng` draws."""
    rng = rng or random.Random(f"{name} {seed}")
    prompt, text = testing.made_turn(parser.format, rng)
    pieces = testing.pieces_of(parser.format)
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(AWKWARD) + text[at + rng.choice((0, 0, 1, 4)) :]
    if rng.random() < 0.3:
        text = testing.damaged(text, rng, pieces)
    return Tried(name, prompt, text[:4_000], _tools(parser, text, rng), seed)


def _tools(parser: Parser, text: str, rng: random.Random) -> list[dict[str, Any]] | None:
    if rng.random() < 0.4:
        return None
    try:
        calls = [call for call in parser.parse(text).tool_calls if call.name.strip() and _is_text(call)]
    except Exception:
        return None  # told of by the execution itself
    tools = testing.schema_of(calls)
    for tool in tools:
        parameters = tool["function"]["parameters"]
        for key in parameters["properties"]:
            if rng.random() < 0.6:
                parameters["properties"][key] = rng.choice(SCHEMAS)
        parameters["$defs"] = RECURSIVE
    return tools or None


def _is_text(call: toolparse.ToolCall) -> bool:
    """Whether tools may be called so: half a surrogate pair is refused in a schema, which is the programmer's mistake."""
    return not any("\ud800" <= char <= "\udfff" for word in (call.name, *call.arguments) for char in word)


def check(parser: Parser, tried: Tried) -> Broken | None:
    """The first law that this input breaks."""
    given: dict[str, Any] = {"tools": tried.tools, "prompt": tried.prompt}
    stage = "raises"
    try:
        message = parser.parse(tried.text, **given)
        stage = "tiles"
        testing.assert_tiles(message, tried.text)
        for pieces in (testing.chunked(tried.text, tried.seed), list(tried.text)):
            stage = "raises"
            stream = parser.stream(**given)
            events = [event for piece in pieces for event in stream.feed(piece)]
            streamed = stream.close()
            events += stream.finish()
            stage = "chunking"
            testing.assert_same_message(message, streamed)
            testing.assert_deltas(message, events)
            stage = "events"
            testing.assert_events(message, events)
    except AssertionError as error:
        return Broken(stage, tried, str(error)[:2_000])
    except Exception as error:
        return Broken("raises", tried, f"{type(error).__name__}: {error}"[:2_000])
    return None


def execute(name: str, seed: int, rng: random.Random | None = None) -> Broken | None:
    """One execution, from its seed alone, or from what `rng` draws."""
    parser = sources()[name]
    try:
        tried = made(name, parser, seed, rng)
    except Exception as error:  # writing a text may read it, too
        return Broken(
            "raises", Tried(name, None, "", None, seed), f"while it was made: {type(error).__name__}: {error}"
        )
    return check(parser, tried)


def reduced(broken: Broken, *, tries: int = 400) -> Broken:
    """The same law broken by less."""
    parser = sources()[broken.tried.format]
    left = tries

    def still(tried: Tried) -> bool:
        nonlocal left, broken
        left -= 1
        found = check(parser, tried) if left >= 0 else None
        if found is not None and found.law == broken.law:
            broken = found
            return True
        return False

    still(replace(broken.tried, tools=None))
    still(replace(broken.tried, prompt=None))
    _shorter(broken.tried.text, lambda text: still(replace(broken.tried, text=text)))
    if broken.tried.prompt:
        _shorter(broken.tried.prompt, lambda prompt: still(replace(broken.tried, prompt=prompt)))
    return broken


def _shorter(text: str, still: Callable[[str], bool]) -> None:
    size = max(1, len(text) // 2)
    while size:
        at = 0
        while at < len(text):
            less = text[:at] + text[at + size :]
            if still(less):
                text = less
            else:
                at += size
        size //= 2
