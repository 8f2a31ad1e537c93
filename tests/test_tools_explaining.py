"""Explanations: the engine's verdicts, in work that grows with the arguments, whatever the schema is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolparse.tools import Tool
from toolparse.tools.exact_values import MAX_DEPTH
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
    "not": ({"properties": {"k": NODE}, "not": {"type": "array", "items": NODE}}, under_k),
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
    (problem,) = made.problems(nested(under_k, 150, {}))
    assert problem.code == "invalid-value"
    assert "too much to check" in problem.message


def test_unevaluated_words_are_not_followed_deep() -> None:
    made = validator({"anyOf": [{"properties": {"k": NODE}}] * 2, "unevaluatedProperties": False})
    assert made._crowded
    assert not rules(made).readable
    assert made.problems({"x": {"k": {}}}) == []
    assert [problem.code for problem in made.problems({"x": {"k": {"l": {}}}})] == ["unexpected-argument"]
    (problem,) = made.problems(nested(under_k, 100, {}))
    assert "nested too deeply" in problem.message


# --- the engine's verdicts ----------------------------------------------------------------------------------------

leaves = st.sampled_from(
    [
        STR,
        INT,
        {"type": ["number", "null"]},
        {"enum": [1, "a", None, True, [1], {"a": 1.0}]},
        {"const": 1},
        {"minLength": 2},
        {"maxItems": 1},
        {"uniqueItems": True},
        {"minProperties": 1},
        {"pattern": "a"},
        {"required": ["a"]},
        NODE,
        {},
    ]
)


def composed(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    words = {
        "anyOf": some,
        "oneOf": some,
        "allOf": some,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
        "patternProperties": st.dictionaries(st.sampled_from(["a", "^b", "c$"]), inner, max_size=2),
        "additionalProperties": inner | st.booleans(),
        "propertyNames": st.sampled_from([{"maxLength": 1}, {"enum": ["a", "b"]}, False]),
        "contains": inner,
    }
    return st.fixed_dictionaries({}, optional=words).filter(bool).map(lambda schema: dict(list(schema.items())[:3]))


NEW = st.fixed_dictionaries(
    {}, optional={"prefixItems": st.lists(leaves, min_size=1), "items": leaves | st.booleans(), "minContains": st.just(0)}
)  # fmt: skip
NEW |= st.fixed_dictionaries({"dependentSchemas": st.fixed_dictionaries({"a": leaves})})
OLD = st.fixed_dictionaries(
    {}, optional={"items": st.lists(leaves, min_size=1) | leaves, "additionalItems": leaves | st.booleans()}
)
OLD |= st.fixed_dictionaries({"dependencies": st.fixed_dictionaries({"a": leaves | st.just(["b"])})})
instances = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 1.5, 10**30, "", "a", "ab", "🙂"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "ab"]), inner, max_size=3),
    max_leaves=6,
)


@given(data=st.data(), value=instances, draft=st.sampled_from(["", "draft-07/schema#", "draft-04/schema#"]))
def test_verdicts_are_the_engines(data: st.DataObject, value: Any, draft: str) -> None:
    schemas = st.recursive(leaves | (OLD if draft else NEW), composed, max_leaves=6)
    root = {"type": "object", "properties": {"x": data.draw(schemas)}}
    root["$defs"] = {
        "N": {"type": ["integer", "array", "object"], "items": data.draw(schemas), "properties": {"a": NODE}}
    }
    if draft:
        root["$schema"] = f"http://json-schema.org/{draft}"
        if "04" in draft and any(
            word in json.dumps(root) for word in ("true", "false", "const", "if", "contains", "Names")
        ):
            return  # not yet in that draft
    made = Validator("f", root)
    made.compile()
    arguments = {"x": value}
    assert rules(made).readable
    assert (Walk(rules(made), arguments).failures() == []) == made._engine.is_valid(arguments)
    assert (made.problems(arguments) == []) == made._engine.is_valid(arguments)
    # half a surrogate pair, for which the engine has no words, changes nothing but itself
    if isinstance(value, dict) and made.problems({"x": {**value, "\ud800": "\udc00"}}) == []:
        assert made.problems({"x": {**value, "?": "?"}}) == []
