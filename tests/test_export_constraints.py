"""Keywords as automata: what they accept is what Python's own arithmetic and regular expressions say."""

from __future__ import annotations

import itertools
import random
import re
from decimal import Decimal
from typing import Any

import pytest

from tests.test_export_grammar import Gbnf, with_parameters
from toolparse import registry
from toolparse.errors import ExportError
from toolparse.export import constraints, grammar
from toolparse.export.constraints import NotSaid
from toolparse.export.expressions import Automaton
from toolparse.parser import Parser

HERMES: Any = registry.get("hermes")
CODER: Any = registry.get("qwen3-coder")


def accepts(automaton: Automaton, text: str) -> bool:
    state = 0
    for char in text:
        ways = [to for ranges, to in automaton.edges[state] if any(low <= ord(char) <= high for low, high in ranges)]
        assert len(ways) <= 1, "the classes of a state are apart"
        if not ways:
            return False
        state = ways[0]
    return state in automaton.final


@pytest.mark.parametrize("seed", range(40))
def test_integers(seed: int) -> None:
    rng = random.Random(seed)
    low = rng.choice([None, rng.randint(-1200, 1200), 0, 10, 100])
    high = rng.choice([None, (low or 0) + rng.randint(0, 1500), 0, 99, 100])
    if low is not None and high is not None and low > high:
        with pytest.raises(NotSaid):
            constraints.integers(low, high)
        return
    made = constraints.determined(constraints.integers(low, high))
    for number in range(-1300, 1600):
        inside = (low is None or number >= low) and (high is None or number <= high)
        assert accepts(made, str(number)) == inside, (low, high, number)
    assert not accepts(made, "-0")
    assert not accepts(made, "007")


@pytest.mark.parametrize("of", [2, 3, 7, 10, 60])
def test_multiples(of: int) -> None:
    made = constraints.multiples(of)
    for number in range(-300, 300):
        assert accepts(made, str(number)) == (number % of == 0)


@pytest.mark.parametrize("seed", range(60))
def test_decimals(seed: int) -> None:
    rng = random.Random(seed)
    limits = [None, *(Decimal(text) for text in ("0", "1", "-1", "0.5", "2.75", "-3.125", "10", "-0.05", "99.9"))]
    low, high = rng.choice(limits), rng.choice(limits)
    above, below = rng.random() < 0.5, rng.random() < 0.5
    above, below = above and low is not None, below and high is not None
    try:
        made = constraints.determined(constraints.decimals(low, high, above=above, below=below))
    except NotSaid:
        assert low is not None
        assert high is not None
        assert low > high or (low == high and (above or below))
        return
    texts = [f"{sign}{whole}{part}" for sign in ("", "-") for whole in (0, 1, 2, 3, 9, 10, 11, 99, 100)
             for part in ("", ".0", ".05", ".049", ".5", ".50", ".51", ".75", ".125", ".9", ".91")]  # fmt: skip
    for text in texts:
        number = Decimal(text)
        if text.startswith("-") and not number:
            continue
        inside = (low is None or number > low or (number == low and not above)) and (
            high is None or number < high or (number == high and not below)
        )
        assert accepts(made, text) == inside, (low, high, above, below, text)


@pytest.mark.parametrize(
    "pattern",
    ["^a+$", "ab", "^[ab]{2,3}c?$", "a|b$", "^(a|bc)*$", "^$", "b.a", "[^a]b", "^a", "a$", r"\d", r"^\w-\s?$", "(?:a|b)c"],
)  # fmt: skip
def test_patterns(pattern: str) -> None:
    made = constraints.determined(constraints.matching(pattern))
    for size in range(5):
        for text in map("".join, itertools.product("abc- 1"[: 6 if size < 4 else 3], repeat=size)):
            assert accepts(made, text) == (re.search(pattern, text) is not None), text


@pytest.mark.parametrize("pattern", [r"^(?=a)b", r"(a)\1", r"\bword\b", "(?i)abc", "("])
def test_patterns_that_no_grammar_says(pattern: str) -> None:
    with pytest.raises(NotSaid):
        constraints.matching(pattern)
    tools = with_parameters({"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}})
    if pattern != "(":
        with pytest.raises(ExportError, match="tool 'f' in format 'hermes', at 'f-x': the pattern"):
            grammar(HERMES, tools)


@pytest.mark.parametrize(
    "format", [HERMES, CODER, registry.get("pythonic"), registry.get("gemma4")], ids=lambda f: f.name
)
def test_what_is_generated_is_valid(format: Any) -> None:
    """Under keywords, too, everything that a grammar generates is read as a valid call."""
    schema = {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 18, "maximum": 120},
            "step": {"type": "integer", "multipleOf": 5, "minimum": 5, "maximum": 500},
            "share": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
            "day": {"type": "string", "format": "date"},
            "short": {"type": "string", "minLength": 2, "maxLength": 4},
            "one": {"type": "string", "enum": ["a", "bb", "ccc"], "maxLength": 2},
        },
        "required": ["age", "step", "share", "code", "day", "short", "one"],
    }
    tools = with_parameters(schema)
    made = Gbnf(grammar(format, tools, required=True, content=False, reasoning=False))
    rng = random.Random(3)
    for _ in range(12):
        text = made.sentence(rng)
        (call, *_) = Parser(format).parse(text, tools=tools).tool_calls
        assert call.ok, (text, call.issues)
        assert re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", call.arguments["day"])
        assert call.arguments["one"] != "ccc"


def test_keywords_that_no_grammar_says_are_refused_by_name() -> None:
    inner = {"type": "array", "items": {"type": "object", "properties": {"a": {"not": {"type": "null"}}}}}
    tools = with_parameters({"type": "object", "properties": {"x": inner}})
    with pytest.raises(ExportError, match=r"tool 'f' in format 'hermes', at x\.\[\]\.a: no grammar says 'not'"):
        grammar(HERMES, tools)
    unique = with_parameters({"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}})
    with pytest.raises(ExportError, match="no grammar says 'uniqueItems'; skip="):
        grammar(HERMES, unique)
    assert grammar(HERMES, unique, skip=["uniqueItems"])
    with pytest.raises(ValueError, match="'required' can't be left to validation"):
        grammar(HERMES, unique, skip=["required"])
    never = with_parameters({"type": "object", "properties": {"x": {"type": "integer", "minimum": 3, "maximum": 2}}})
    with pytest.raises(ExportError, match="at 'f-x': no number lies in its range"):
        grammar(HERMES, never)
