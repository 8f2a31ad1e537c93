"""From text to typed values, as the schema says and never by guessing.

The rules (they are the library's rulings for text formats):

- Where only strings are admitted, where a key is undeclared and where the schema is silent, text stays text.
- Otherwise the alternatives that are not strings come first. Beside a string alternative the text must be
  *exactly* a literal (`42`, `true`, `null`, JSON; Python's `True` and `None`; Python's containers where the family
  writes them). Without one there is nothing to confuse, so spaces around it, `007` or `TRUE` do no harm, and white
  space alone is an empty array or object.
- What does not fit stays text, with a problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from toolparse.codecs.json import WORDS, type_of
from toolparse.tools import exact_values
from toolparse.tools.exact_values import MISSING
from toolparse.tools.problem_text import Problem, not_listed, wrong_type
from toolparse.tools.schema_types import ANYTHING, Admitted, Resolver, identity

Path: TypeAlias = tuple[str | int, ...]
# An element of an argument tree: its text, or its children in order.
Tree: TypeAlias = str | Sequence[tuple[str, "Tree"]]

_BOOLEANS = {word: value for word, value in WORDS.items() if value is not None}
_LENIENT_BOOLEANS = {**_BOOLEANS, "TRUE": True, "FALSE": False, "1": True, "0": False}


class Plan:
    """How text becomes a value of one schema: what the schema admits, sorted out once."""

    __slots__ = (
        "bare", "containers", "declared", "kind", "listed", "literal_types", "literals", "string_literals", "strings",
        "types",
    )  # fmt: skip

    def __init__(self, admitted: Admitted) -> None:
        types: set[str] = set(admitted.suggested)
        # those that are no strings, by what they are looked up by
        self.literals: set[Any] = set()
        self.listed: list[Any] = []
        self.string_literals: set[str] = set()
        strings = bool(admitted.suggested)
        bare: set[str] = set(admitted.suggested)
        declared: set[str] = set()
        literal_types: set[str] = set()
        for alternative in admitted.alternatives:
            if alternative.types is None:
                strings = True
                continue
            types |= alternative.types
            if alternative.literals is None:
                bare |= alternative.types
                continue
            if alternative.declared:
                declared |= alternative.types
            for value in alternative.literals:
                self.listed.append(value)
                if isinstance(value, str):
                    self.string_literals.add(value)
                else:
                    self.literals.add(identity(value))
                    literal_types.add(type_of(value))
        self.literal_types = frozenset(literal_types)
        self.containers = not literal_types.isdisjoint(("array", "object"))
        # types whose values are not limited to literals
        self.bare = frozenset(bare - {"string"})
        # types that stand beside literals: `{"type": "integer", "enum": [1, 5]}` makes `7` an integer, if a
        # wrong one
        self.declared = frozenset(declared - {"string"}) if not self.string_literals else frozenset()
        self.strings = strings or "string" in bare
        self.types = frozenset(types | {"string"} if strings else types)
        if admitted.silent:
            self.kind = "unknown"
        elif self.types == {"string"}:
            self.kind = "text"
        else:
            self.kind = "typed"

    def convert(self, text: str, path: Path, *, python: bool) -> tuple[Any, Problem | None]:
        """The value that `text` stands for, and what is wrong if it stands for none."""
        if self.kind != "typed":
            return text, None
        exact = self.strings or bool(self.string_literals)
        value = self._read(text if exact else text.strip(), lenient=not exact, python=python)
        if value is not MISSING:
            return value, None
        if not exact and not text.strip() and (empty := self.empty()) is not None:
            return empty, None
        if self.strings or text in self.string_literals:
            return text, None
        if not self.bare and not self.declared:
            return text, not_listed(path, self.listed, text)
        return text, wrong_type(path, self.types, text)

    def read(self, text: str) -> Any:
        """The value, no string, that `text` is exactly a literal of; MISSING if it is none."""
        return self._read(text, lenient=False, python=True) if self.kind == "typed" else MISSING

    def empty(self) -> list[Any] | dict[str, Any] | None:
        """The empty container that is admitted."""
        return [] if "array" in self.types else {} if "object" in self.types else None

    def literal(self, text: str) -> Any:
        """The value if `text` is exactly a literal of an admitted type that is no string, else MISSING."""
        if self.kind != "typed" or self.strings or text in self.string_literals:
            return MISSING
        return self.read(text)

    def _read(self, text: str, *, lenient: bool, python: bool) -> Any:
        if self.literals:
            value = self._scalar(text, self.literal_types, lenient=lenient)
            if value is MISSING and self.containers:
                value = exact_values.container(text, python=python)
            if value is not MISSING and identity(value) in self.literals:
                return value
        types = self.bare | self.declared
        value = self._scalar(text, types, lenient=lenient)
        if value is MISSING and ("object" in types or "array" in types):
            value = exact_values.container(text, python=python)
            if value is not MISSING and type_of(value) not in types:
                value = MISSING
        return value

    @staticmethod
    def _scalar(text: str, types: frozenset[str], *, lenient: bool) -> Any:
        if len(text) > exact_values.MAX_SCALAR:
            return MISSING
        if "null" in types and text in ("null", "None"):
            return None
        value: Any = MISSING
        if "number" in types:
            value = exact_values.number(text, lenient=lenient)
        elif "integer" in types:
            value = exact_values.integer(text, lenient=lenient)
        if value is MISSING and "boolean" in types:
            value = (_LENIENT_BOOLEANS if lenient else _BOOLEANS).get(text, MISSING)
        return value


_MAX_PLANS = 10_000
_DECLARING = ("$ref", "allOf", "anyOf", "oneOf", "patternProperties", "additionalProperties")


class Converter:
    """Typing for the arguments of one tool."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.resolver = Resolver(root)
        self._plans: dict[int, tuple[Any, Plan]] = {}
        self._by_key: dict[str, Plan] = {}
        # the usual schema: nothing but `properties` can declare a key
        self._flat = not any(word in root for word in _DECLARING)

    def plan(self, key: str) -> Plan:
        """The plan for a top-level argument."""
        plan = self._by_key.get(key)
        if plan is None:
            if self._flat and key not in self.root.get("properties", ()):
                return UNKNOWN
            schema = self.resolver.child(self.root, key)
            plan = self.plan_of(schema)
            if schema is not None and len(self._by_key) < _MAX_PLANS:
                self._by_key[key] = plan
        return plan

    def plan_of(self, schema: Any) -> Plan:
        """The plan for a schema below the root; None is one about which nothing is known."""
        if not isinstance(schema, dict):
            return UNKNOWN
        known = self._plans.get(id(schema))
        if known is not None:
            return known[1]
        plan = Plan(self.resolver.admitted(schema))
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[id(schema)] = (schema, plan)  # kept with its schema, so that the identity stays its own
        return plan

    def tree(
        self, tree: Tree, schema: Any, path: Path, problems: list[Problem], *, python: bool, in_list: bool = False
    ) -> Any:
        """The value of an element under its schema (None: nothing is known)."""
        plan = self.plan_of(schema)
        if not tree:
            return _empty(plan, path, problems, in_list=in_list)
        if isinstance(tree, str):
            value, problem = plan.convert(tree, path, python=python)
            if problem is not None:
                problems.append(problem)
            return value
        if self._is_list(tree, schema, plan):
            return self._list(tree, schema, path, problems, python=python)
        return self.members(tree, schema, path, problems, python=python)

    def _is_list(self, tree: Sequence[tuple[str, Tree]], schema: Any, plan: Plan) -> bool:
        array, mapping = "array" in plan.types, "object" in plan.types
        if array and not mapping and plan.kind == "typed":
            return True
        if mapping and not array and plan.kind == "typed":
            return False
        # nothing or both are known: a leading `item` is the sign of a list, unless a property has that name
        return tree[0][0] == "item" and (plan is UNKNOWN or self.resolver.child(schema, "item") is None)

    def _list(
        self, tree: Sequence[tuple[str, Tree]], schema: Any, path: Path, problems: list[Problem], *, python: bool
    ) -> list[Any]:
        inner = [None] * len(tree) if schema is None else self.resolver.items(schema, len(tree))
        first = inner[0]
        if tree[0][0] != "item" and first is not None and self.resolver.child(first, tree[0][0]) is not None:
            # the only element's members, written without an `item` around them
            return [self.tree(tree, first, (*path, 0), problems, python=python, in_list=True)]
        return [
            self.tree(child, inner[index], (*path, index), problems, python=python, in_list=True)
            for index, (_name, child) in enumerate(tree)
        ]

    def members(
        self, tree: Sequence[tuple[str, Tree]], schema: Any, path: Path, problems: list[Problem], *, python: bool
    ) -> dict[str, Any]:
        """An object from its members; members of one name are collected in a list."""
        groups: dict[str, list[Tree]] = {}
        for name, child in tree:
            groups.setdefault(name, []).append(child)
        result: dict[str, Any] = {}
        for name, group in groups.items():
            inner = self.resolver.child(schema, name) if schema is not None else None
            here = (*path, name)
            if len(group) == 1:
                result[name] = self.tree(group[0], inner, here, problems, python=python)
            elif inner is not None and "array" in self.plan_of(inner).types:
                result[name] = self._list([("item", child) for child in group], inner, here, problems, python=python)
            else:
                result[name] = [
                    self.tree(child, inner, (*here, index), problems, python=python, in_list=True)
                    for index, child in enumerate(group)
                ]
        return result


def _empty(plan: Plan, path: Path, problems: list[Problem], *, in_list: bool) -> Any:
    """An empty element: the empty value of what is admitted."""
    if plan.kind == "unknown":
        return None if in_list else ""
    if (empty := plan.empty()) is not None:
        return empty
    if plan.strings or "" in plan.string_literals:
        return ""
    if "null" in plan.types:
        return None
    problems.append(wrong_type(path, plan.types, ""))
    return ""


UNKNOWN = Plan(ANYTHING)


def untyped_tree(tree: Tree) -> Any:
    """A tree that no schema describes: strings, objects, and lists where a leading `item` shows one."""
    return _UNTYPED.tree(tree, None, (), [], python=False)


_UNTYPED = Converter({})
