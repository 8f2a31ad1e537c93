"""Explanations: the engine's verdicts, in work that grows with the arguments, whatever the schema is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolparse.codecs.json import MAX_DEPTH
from toolparse.tools import Tool
from toolparse.tools.explaining import Rules, Walk
from toolparse.tools.validation import Validator

STR, INT = {"type": "string"}, {"type": "integer"}
NODE = {"$ref": "#/$defs/N"}


def validator(node: Any, **more: Any) -> Validator:
    made = Validator("f", {"type": "object", "properties": {"x": NODE}, "$defs": {"N": node, **more}})
    made.compile()
    return made


def rules(made: Validator) -> Rules:
    assert made._rules is not None
    return made._rules


def nested(step: Any, depth: int, end: Any) -> Any:
    value = end
    for _ in range(depth):
        value = step(value)
    return {"x": value}


def under_k(value: Any) -> Any:
    return {"k": value}


def in_list(value: Any) -> Any:
    return [value]


# Schemas under which the engine's work doubles with each level, and what makes a level of their values.
OVERLAPPING: dict[str, tuple[Any, Any]] = {
    "oneOf": ({"oneOf": [STR, {"properties": {"k": NODE}}, {"properties": {"k": NODE, "l": STR}}]}, under_k),
    "anyOf": ({"anyOf": [STR, {"type": "object", "additionalProperties": NODE}, {"properties": {"k": NODE}}]}, under_k),
    "allOf": ({"allOf": [{"properties": {"k": NODE}}, {"additionalProperties": NODE}]}, under_k),
    "patterns": ({"patternProperties": {"k": NODE, "^k": NODE}}, under_k),
    "not": ({"properties": {"k": NODE}, "not": {"required": ["k"], "properties": {"k": NODE}}}, under_k),
    "if": ({"if": {"properties": {"k": NODE}}, "then": {"properties": {"k": NODE}}}, under_k),
    "contains": ({"items": NODE, "contains": NODE}, in_list),
    "by turns": ({"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/N"}}, {"items": NODE}, STR]}, in_list),
}
# Recursive schemas that the engine reads in one go.
PLAIN: dict[str, Any] = {
    "list": {"properties": {"v": INT, "next": {"anyOf": [NODE, {"type": "null"}]}}},
    "tree": {"properties": {"left": NODE, "right": NODE, "children": {"type": "array", "items": NODE}}},
    "map": {"type": "object", "properties": {"k": NODE}, "additionalProperties": NODE},
    "tuple": {"prefixItems": [NODE, NODE], "items": NODE},
}


@pytest.mark.parametrize("name", OVERLAPPING)
@pytest.mark.parametrize("end", [1, "s", {"zzz": []}], ids=str)
def test_work_grows_with_the_arguments(name: str, end: Any) -> None:
    node, step = OVERLAPPING[name]
    made = validator(node)
    assert made._crowded, "the engine would be asked"
    steps = {}
    for depth in (10, 20, 40, 80):
        walk = Walk(rules(made), nested(step, depth, end))
        walk.failures()
        steps[depth] = walk.steps
    assert steps[80] <= 5 * steps[20]
    assert steps[80] <= 100 * 80


@pytest.mark.parametrize("name", OVERLAPPING)
def test_the_deepest_arguments_have_an_answer(name: str) -> None:
    node, step = OVERLAPPING[name]
    tool = Tool.of({"name": "f", "parameters": {"properties": {"x": NODE}, "$defs": {"N": node}}})
    for depth in (MAX_DEPTH - 2, MAX_DEPTH, MAX_DEPTH + 1, 10_000):
        for problem in tool.validate(nested(step, depth, 1)):
            assert len(problem.message) < 3_000


@pytest.mark.parametrize("name", PLAIN)
def test_usual_recursion_is_left_to_the_engine(name: str) -> None:
    assert not validator(PLAIN[name])._crowded


def test_alternatives_that_multiply_without_recursion() -> None:
    more = {f"A{n}": {"anyOf": [{"$ref": f"#/$defs/A{n + 1}"}] * 2} for n in range(40)}
    made = validator({"$ref": "#/$defs/A0"}, **more, A40=STR)
    assert made._crowded
    walk = Walk(rules(made), {"x": 1})
    assert walk.failures()
    assert walk.steps < 500
    assert [problem.message for problem in made.problems({"x": 1})] == ["arguments.x: expected string, got 1"]
    assert made.problems({"x": "s"}) == []


def test_words_stay_those_of_the_innermost_place() -> None:
    node, step = OVERLAPPING["oneOf"]
    made = validator(node)
    (problem,) = made.problems(nested(step, 30, True))
    assert problem.message == f"arguments.x{'.k' * 30}: fits more than one of the allowed forms, got true"
    node, step = OVERLAPPING["anyOf"]
    made = validator({**node, "anyOf": [*node["anyOf"][:2], {"type": "object", "properties": {"k": NODE}}]})
    (problem,) = made.problems(nested(step, 30, 1))
    assert problem.message == f"arguments.x{'.k' * 30}: expected string or object, got 1"


def test_a_budget_ends_what_would_take_too_long() -> None:
    branches = [{"properties": {f"p{n}": INT, "k": NODE}, "required": [f"p{n}"]} for n in range(500)]
    made = validator({"anyOf": branches})
    (problem,) = made.problems(nested(under_k, MAX_DEPTH - 2, {}))
    assert problem.code == "invalid-value"
    assert "too much to check" in problem.message


def test_unevaluated_words_are_not_followed_deep() -> None:
    made = validator({"anyOf": [{"properties": {"k": NODE}}] * 2, "unevaluatedProperties": False})
    assert made._crowded
    assert not rules(made).readable
    assert made.problems({"x": {"k": {}}}) == []
    assert {problem.code for problem in made.problems({"x": {"k": {"l": {}}}})} == {"unexpected-argument"}
    (problem,) = made.problems(nested(under_k, 100, {}))
    assert "nested too deeply" in problem.message


# --- the engine's verdicts ----------------------------------------------------------------------------------------

LEAVES: list[Any] = [
    STR,
    INT,
    {"type": ["number", "null"]},
    {"enum": [1, "a", None, [1], {"a": 1.0}]},
    {"minLength": 2},
    {"maxItems": 1},
    {"uniqueItems": True},
    {"minProperties": 1},
    {"pattern": "a"},
    {"required": ["a"]},
    NODE,
    {},
]
NAMES = st.sampled_from(["a", "b", "ab"])


@st.composite
def schemas(draw: st.DrawFn, draft: str, depth: int = 0) -> Any:
    """Schemas of a few words each; `draft` is empty for the current one."""

    def inner() -> Any:
        return draw(schemas(draft, depth + 1))

    def some() -> list[Any]:
        return [inner() for _ in range(draw(st.integers(1, 3)))]

    words: dict[str, Any] = {
        "anyOf": some,
        "oneOf": some,
        "allOf": some,
        "not": inner,
        "properties": lambda: {name: inner() for name in "ab"},
        "patternProperties": lambda: {draw(st.sampled_from(["a", "^b", "b$"])): inner()},
        "additionalProperties": lambda: draw(st.sampled_from([False, inner()])),
    }
    if draft != DRAFT_4:
        words |= {"if": inner, "then": inner, "else": inner, "contains": inner, "const": lambda: 1}
        words["propertyNames"] = lambda: draw(st.sampled_from([{"maxLength": 1}, {"enum": ["a", "b"]}, False]))
    if draft:
        words |= {"items": lambda: draw(st.sampled_from([inner(), some()])), "additionalItems": inner}
        words["dependencies"] = lambda: {"a": draw(st.sampled_from([["b"], inner()]))}
    else:
        words |= {"prefixItems": some, "items": inner, "dependentSchemas": lambda: {"a": inner()}}
        words |= {"minContains": lambda: 0, "maxContains": lambda: 1, "dependentRequired": lambda: {"a": ["b"]}}
    if depth == 3 or draw(st.booleans()):
        return draw(st.sampled_from(LEAVES))
    chosen = draw(st.lists(st.sampled_from(sorted(words)), min_size=1, max_size=3, unique=True))
    return {word: words[word]() for word in chosen}


DRAFT_7, DRAFT_4 = "http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#"
instances = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 1.5, 10**30, "", "a", "ab", "🙂"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), value=instances, draft=st.sampled_from(["", DRAFT_7, DRAFT_4]))
def test_verdicts_are_the_engines(data: st.DataObject, value: Any, draft: str) -> None:
    recursive = {"type": ["integer", "array", "object"], "items": data.draw(schemas(draft)), "properties": {"a": NODE}}
    root: dict[str, Any] = {"properties": {"x": data.draw(schemas(draft))}, "$defs": {"N": recursive}}
    if draft:
        root["$schema"] = draft
    made = Validator("f", root)
    made.compile()
    arguments = {"x": value}
    right = made._engine.is_valid(arguments)
    assert rules(made).readable
    assert (Walk(rules(made), arguments).failures() == []) == right
    assert (made.problems(arguments) == []) == right
    # half a surrogate pair, which the engine can't be given, is as any other character
    if isinstance(value, dict):
        odd, plain = ({"x": {**value, character: character}} for character in ("\ud800", "?"))
        assert (made.problems(odd) == []) == (made.problems(plain) == [])
