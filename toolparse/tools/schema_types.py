"""Which values a schema admits, as far as typing a piece of text needs to know it.

A schema is reduced to alternatives: sets of JSON types, each perhaps with the finite set of values that
`enum` or `const` leave. `$ref`, `anyOf`, `oneOf`, `allOf`, type lists and `nullable` are followed; conditions
(`if`, `not`, `dependentSchemas`) are the validator's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from toolparse.codecs.json import type_of

Schema = dict[str, Any]

TYPES = frozenset({"null", "boolean", "integer", "number", "object", "array", "string"})
# Keywords that say something about one type only. Without `type` they admit every other type as well, so they
# suggest a type (text that is an object may become one), and never exclude strings.
_SUGGESTS = {
    "properties": "object",
    "patternProperties": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}
# Resolving one schema visits at most so many nodes and keeps at most so many alternatives; a schema that
# needs more (they exist only as attacks) counts as silent.
_MAX_STEPS = 5_000
_MAX_ALTERNATIVES = 200
# Keys come from models: what is remembered about them must not grow without end.
_MAX_KNOWN = 10_000
# Stands for every key that no schema names: half a surrogate pair, which no schema contains and no pattern matches.
_OTHER = "\udfff"


class Alternative(NamedTuple):
    """Values of some types (None: of any), and of those only `literals` (None: all)."""

    types: frozenset[str] | None
    literals: tuple[Any, ...] | None = None
    declared: bool = True
    """Whether `type` names the types, and not only the literals imply them."""


class Admitted(NamedTuple):
    """Everything that a schema admits."""

    alternatives: tuple[Alternative, ...]
    # what keywords without a type suggest
    suggested: frozenset[str] = frozenset()

    @property
    def silent(self) -> bool:
        """Whether the schema says nothing about types."""
        return (
            not self.suggested
            and bool(self.alternatives)
            and all(a.types is None and a.literals is None for a in self.alternatives)
        )

    @property
    def types(self) -> frozenset[str]:
        """All admitted types; every type where an alternative is open."""
        found: frozenset[str] = frozenset()
        for alternative in self.alternatives:
            found |= TYPES if alternative.types is None else alternative.types
        return found


ANYTHING = Admitted((Alternative(None),))
_NOTHING = Admitted(())


class _TooComplex(Exception):
    pass


def identity(value: Any) -> Any:
    """What makes two JSON values the same, to look them up by: `1` is `1.0`, and neither is `true`."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, dict):
        return dict, frozenset((key, identity(inner)) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return list, tuple(map(identity, value))
    return value


class Resolver:
    """Answers questions about the schemas below one root, which `$ref`s are resolved against."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        # By the question, the schema's identity and a key; keeping the schema keeps its identity from being reused.
        self._known: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self._longest: int | None = None

    def _once(self, question: Callable[..., Any], schema: Any, *key: Any) -> Any:
        """What is remembered, or the answer; None where that is too complex."""
        known = self._known.get((question, id(schema), *key))
        if known is None:
            try:
                found = question(_Walk(self), schema, *key)
            except (_TooComplex, RecursionError):
                found = None
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[question, id(schema), *key] = (schema, found)
        return known[1]

    def admitted(self, schema: Any) -> Admitted:
        """What a schema admits."""
        found: Admitted | None = self._once(_Walk.admitted, schema)
        return found if found is not None and found.alternatives else ANYTHING  # only itself, or a contradiction

    def child(self, schema: Any, key: str) -> Any:
        """The schema of a property, combined from every place that declares it; None if it is undeclared."""
        names, patterns = self.declared(schema)
        if key not in names and not any(matches(pattern, key) for pattern in patterns):
            key = _OTHER  # undeclared keys are all alike
        return self._once(_Walk.child, schema, key)

    def declared(self, schema: Any) -> tuple[dict[str, None], dict[str, None]]:
        """The names and the patterns of names that a schema, or anything it is composed of, declares, in order."""
        found: tuple[dict[str, None], dict[str, None]] = self._once(_Walk.declared, schema)
        return found

    def items(self, schema: Any, count: int) -> list[Any]:
        """The schemas of an array's elements, None where nothing is said about one."""
        if self._longest is None:
            self._longest = _longest_tuple(self.root)
        apart = min(count, self._longest + 1)  # elements behind the last described one are alike
        found = [self._once(_Walk.item, schema, index) for index in range(apart)]
        return found + found[-1:] * (count - apart)

    def resolve(self, ref: Any) -> Any:
        """What a local `$ref` points to; None if there is nothing."""
        if not isinstance(ref, str) or not ref.startswith("#"):
            return None
        if ref == "#":
            return self.root
        if not ref.startswith("#/"):
            return self._anchor(ref[1:])
        from urllib.parse import unquote

        node: Any = self.root
        for part in unquote(ref[2:]).split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
                node = node[int(part)]
            else:
                return None
        return node

    def _anchor(self, name: str) -> Any:
        for place in ("$defs", "definitions"):
            for body in dict_of(self.root, place).values():
                if isinstance(body, dict) and body.get("$anchor") == name:
                    return body
        return None


class _Walk:
    """One resolution: bounded in steps, with a guard against references that go round in circles."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._steps = 0
        self._open: set[int] = set()

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise _TooComplex

    def admitted(self, schema: Any) -> Admitted | None:
        """What a schema admits; None where a circle closes: it adds nothing to what is being computed."""
        self._step()
        if not isinstance(schema, dict):
            return ANYTHING
        if id(schema) in self._open:
            return None
        self._open.add(id(schema))
        try:
            result = ANYTHING
            if "$ref" in schema:
                target = self._resolver.resolve(schema["$ref"])
                result = _intersect(result, self.admitted(target) if target is not None else ANYTHING)
            result = _intersect(result, _own(schema))
            for part in list_of(schema, "allOf"):
                result = _intersect(result, self.admitted(part))
            for word in ("anyOf", "oneOf"):
                if parts := list_of(schema, word):
                    union = _NOTHING
                    for part in parts:
                        branch = self.admitted(part)
                        if branch is not None:
                            union = Admitted(
                                union.alternatives + branch.alternatives, union.suggested | branch.suggested
                            )
                            if len(union.alternatives) > _MAX_ALTERNATIVES:
                                raise _TooComplex
                    if union.alternatives:
                        result = _intersect(result, union)
        finally:
            self._open.discard(id(schema))
        if schema.get("nullable") is True and not all(a.types is None and a.literals is None for a in result[0]):
            result = Admitted((*result.alternatives, Alternative(frozenset({"null"}))), result.suggested)
        return result

    def declared(self, schema: Any) -> tuple[dict[str, None], dict[str, None]]:
        names: dict[str, None] = {}
        patterns: dict[str, None] = {}
        pending, seen = [schema], set()
        for part in pending:
            if not isinstance(part, dict) or id(part) in seen:
                continue
            seen.add(id(part))
            names.update(dict.fromkeys(dict_of(part, "properties")))
            patterns.update(dict.fromkeys(dict_of(part, "patternProperties")))
            for word in ("allOf", "anyOf", "oneOf"):
                pending += list_of(part, word)
            if "$ref" in part:
                pending.append(self._resolver.resolve(part["$ref"]))
        return names, patterns

    def child(self, schema: Any, key: str) -> Any:
        return self._sub(schema, lambda node: _own_child(node, key))

    def item(self, schema: Any, index: int) -> Any:
        return self._sub(schema, lambda node: _own_item(node, index))

    def _sub(self, schema: Any, own: Any) -> Any:
        """What a schema and everything it is composed of says about one place inside its values."""
        self._step()
        if not isinstance(schema, dict) or id(schema) in self._open:
            return None
        self._open.add(id(schema))
        try:
            found = []
            mine = own(schema)
            if mine is not None:
                found.append(mine)
            if "$ref" in schema:
                found.append(self._sub(self._resolver.resolve(schema["$ref"]), own))
            found += [self._sub(part, own) for part in list_of(schema, "allOf")]
            for word in ("anyOf", "oneOf"):
                branches = [self._sub(part, own) for part in list_of(schema, word)]
                branches = [branch for branch in branches if branch is not None]
                if branches:
                    found.append(branches[0] if len(branches) == 1 else {"anyOf": branches})
        finally:
            self._open.discard(id(schema))
        found = [part for part in found if part is not None]
        if not found:
            return None
        return found[0] if len(found) == 1 else {"allOf": found}


def _longest_tuple(root: Any) -> int:
    """The length of the longest list of element schemas anywhere in a schema."""
    longest, pending = 0, [root]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for word in ("prefixItems", "items"):
                if isinstance(node.get(word), list):
                    longest = max(longest, len(node[word]))
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return longest


def list_of(schema: Schema, word: str) -> list[Any]:
    """The list under a keyword; an empty one where there is none."""
    found = schema.get(word)
    return found if isinstance(found, list) else []


def types_of(schema: Schema) -> list[str] | None:
    """The types that a schema names; None when it names none that JSON has."""
    declared = schema.get("type")
    names = [declared] if isinstance(declared, str) else list_of(schema, "type")
    return [name for name in names if isinstance(name, str) and name in TYPES] or None


def dict_of(schema: Schema, word: str) -> dict[str, Any]:
    """The dict under a keyword; an empty one where there is none."""
    found = schema.get(word)
    return found if isinstance(found, dict) else {}


def elements_of(schema: Schema) -> tuple[list[Any], Any]:
    """The schemas of a list's first elements, and of the others."""
    if isinstance(schema.get("items"), list):  # before draft 2020-12
        return schema["items"], schema.get("additionalItems")
    return list_of(schema, "prefixItems"), schema.get("items")


def _own(schema: Schema) -> Admitted:
    """What a schema's own `type`, `enum` and `const` admit."""
    named = types_of(schema)
    types = frozenset(named) if named is not None else None
    literals: tuple[Any, ...] | None = None
    if "const" in schema:
        literals = (schema["const"],)
    elif isinstance(schema.get("enum"), list):
        literals = tuple(schema["enum"])
    suggested: frozenset[str] = frozenset()
    if types is None and literals is None:
        suggested = frozenset(
            name
            for word, name in _SUGGESTS.items()
            if word in schema and schema[word] is not None and not isinstance(schema[word], bool)
        )
    return Admitted((_fit(types, literals),), suggested)


def _fit(types: frozenset[str] | None, literals: tuple[Any, ...] | None) -> Alternative:
    """An alternative whose types and literals agree."""
    if literals is None:
        return Alternative(types)
    if types is None:
        return Alternative(frozenset(type_of(value) for value in literals), literals, declared=False)
    return Alternative(types, tuple(of_types(literals, types)))


def of_types(values: Iterable[Any], types: Collection[str] | None) -> list[Any]:
    """The values that are of some types (None: of any): integers are numbers, and so is `1.0` an integer."""
    wide = TYPES if types is None else {*types, "integer"} if "number" in types else types
    whole = "integer" in wide
    return [v for v in values if type_of(v) in wide or (whole and isinstance(v, float) and v.is_integer())]


def _intersect(left: Admitted, right: Admitted | None) -> Admitted:
    if right is None:
        return left
    result: list[Alternative] = []
    for a in left.alternatives:
        for b in right.alternatives:
            if a.types is None:
                types = b.types
            elif b.types is None:
                types = a.types
            else:
                types = a.types & b.types
                if "integer" in a.types | b.types and "number" in a.types | b.types:
                    types |= {"integer"}  # every integer is a number
                if not types:
                    continue
            if a.literals is None or b.literals is None:
                literals = a.literals if b.literals is None else b.literals
            else:
                known = set(map(identity, b.literals))
                literals = tuple(value for value in a.literals if identity(value) in known)
            declared = (a.declared and a.types is not None) or (b.declared and b.types is not None)
            result.append(_fit(types, literals)._replace(declared=declared))
            if len(result) > _MAX_ALTERNATIVES:
                raise _TooComplex
    return Admitted(tuple(result), left.suggested | right.suggested)


def _own_child(schema: Schema, key: str) -> Any:
    properties = dict_of(schema, "properties")
    if key in properties:
        return properties[key]
    for pattern, body in dict_of(schema, "patternProperties").items():
        if key != _OTHER and matches(pattern, key):
            return body
    rest = schema.get("additionalProperties")
    return rest if isinstance(rest, dict) else None


# A pattern that can take exponential time gives up after so many steps back, and matches nothing then.
BACKTRACKS = 20_000


@lru_cache(maxsize=1_000)
def _pattern(pattern: str) -> Any:
    import jsonschema_rs

    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKS)
    try:
        return jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except ValueError:
        return None


def matches(pattern: str, key: str) -> bool:
    """Whether a `patternProperties` pattern applies to a key."""
    engine = _pattern(pattern)
    try:
        return engine is not None and engine.is_valid(key)
    except UnicodeEncodeError:  # half a surrogate pair
        return bool(engine.is_valid(key.encode("utf-8", "replace").decode()))


def _own_item(schema: Schema, index: int) -> Any:
    prefix, rest = elements_of(schema)
    if index < len(prefix):
        return prefix[index]
    return rest if isinstance(rest, dict) else None
