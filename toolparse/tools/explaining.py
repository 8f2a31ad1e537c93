"""Why arguments don't fit a schema: one level of alternatives at a time, in counted work.

The engine in Rust says quickly whether arguments fit. It explains a union by explaining every alternative, and the
unions in each of them, to the end; where alternatives overlap and contain themselves, even the verdict takes time
that doubles with each level of the value. Here every pair of a schema and a value is judged once and remembered, and
alternatives are explained when somebody reads them: the work grows with the schema times the value, and is bounded
by the value. What one schema says by itself (`type`, `pattern`, bounds, ...) the engine in Rust decides here, too.

    Rules   one root schema: its parts taken apart once        Walk    one check of some arguments
    Failure one violation; its alternatives wait until asked   crowded whether the engine in Rust must not be asked
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from toolparse.codecs.json import MAX_DEPTH
from toolparse.tools.schema_types import Resolver, dict_of, elements_of, identity, list_of, matches

MAX_FAILURES = 20
# One check may take so many steps, and so many more for each value in the arguments.
_STEPS, _STEPS_EACH = 20_000, 50
# The engine in Rust reads integers up to this one.
HUGE = 10**4000
# The engine in Rust may look at one value so many times.
_MOST_LOOKS = 1_000
# Listed integers beyond 64 bits may have so many digits together.
_MOST_DIGITS = 10_000
# Finding that out may take so many steps; schemas that need more exist only as attacks.
_SURVEY = 200_000

_LEAF = frozenset({
    "type", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties", "required",
    "dependentRequired",
})  # fmt: skip
_UNREADABLE = ("$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems", "$id")
_LONGEST_CHAIN = 100
_CHOICES = ("anyOf", "oneOf")


class TooMuch(Exception):
    """The budget of a check is used up."""


class Failure(NamedTuple):
    """One violation."""

    keyword: str
    limit: Any
    """What the keyword says; for `required` the missing name, for closed objects the unexpected names."""
    path: tuple[str | int, ...]
    value: Any
    branches: Callable[[], list[list[Failure]]] | None = None
    """For unions: what is wrong with each alternative."""
    schema: Any = None
    """For unions: the schema that has them."""


class Inside(NamedTuple):
    """The schemas for what is inside an object (its values, its names) or inside an array."""

    kind: str
    named: dict[Any, Any]
    rest: Any
    always: list[Any]


class Rules:
    """A prepared root schema, and what is made of its parts when they are needed."""

    def __init__(self, root: dict[str, Any], make: Callable[[Any], Any]) -> None:
        """`make` compiles a schema in the dialect of the root."""
        self.root = root
        self.resolver = Resolver(root)
        self._make = make
        self.old = not type(make({})).__name__.startswith("Draft20")
        self._leaves: dict[int, tuple[Any, bool] | None] = {}
        self._listed: dict[tuple[int, str], frozenset[Any]] = {}
        self.digits = 0  # of listed integers that the engine reads as text each time
        self.readable = self._readable()

    def leaf(self, schema: dict[str, Any]) -> tuple[Any, bool] | None:
        """A validator for what a schema says by itself, and whether it looks into containers; None: nothing."""
        if id(schema) not in self._leaves:
            own = {} if self.old and "$ref" in schema else {word: schema[word] for word in _LEAF & schema.keys()}
            self._leaves[id(schema)] = (self._make(own), "uniqueItems" in own) if own else None
        return self._leaves[id(schema)]

    def listed(self, schema: dict[str, Any], word: str) -> frozenset[Any]:
        """The values that `enum` or `const` allow, to look others up in: the engine compares one by one."""
        found = self._listed.get((id(schema), word))
        if found is None:
            values = schema[word] if word == "enum" else [schema[word]]
            found = self._listed[id(schema), word] = frozenset(map(identity, values))
        return found

    def in_place(self, schema: dict[str, Any]) -> Iterator[Any]:
        """The schemas that judge the same value as this one."""
        if "$ref" in schema:
            yield self.resolver.resolve(schema["$ref"])
            if self.old:
                return
        for word in ("allOf", *_CHOICES):
            yield from list_of(schema, word)
        for word in ("not", "if", "then", "else"):
            if word in schema:
                yield schema[word]
        yield from dict_of(schema, "dependentSchemas").values()
        if self.old:
            yield from (part for part in dict_of(schema, "dependencies").values() if not isinstance(part, list))

    def inside(self, schema: dict[str, Any]) -> Iterator[Inside]:
        """The schemas that judge what is inside a value."""
        if self.old and "$ref" in schema:
            return
        declared, rest = dict_of(schema, "properties"), schema.get("additionalProperties")
        patterns = list(dict_of(schema, "patternProperties").values())
        if declared or patterns or isinstance(rest, dict):
            yield Inside("object", declared, rest if isinstance(rest, dict) else None, patterns)
        if "propertyNames" in schema:
            yield Inside("names", {}, None, [schema["propertyNames"]])
        prefix, rest = elements_of(schema)
        contained = [schema["contains"]] if "contains" in schema else []
        if prefix or contained or rest is not None:
            yield Inside("array", dict(enumerate(prefix)), rest, contained)

    def _readable(self) -> bool:
        """Whether the root has only words that are understood here, and no reference to nowhere."""
        seen: set[int] = set()
        pending: list[Any] = [self.root]
        while pending:
            schema = pending.pop()
            if isinstance(schema, bool) or id(schema) in seen:
                continue
            if not isinstance(schema, dict) or any(word in schema for word in _UNREADABLE):
                return False
            seen.add(id(schema))
            self.digits += sum(
                value.bit_length() // 3
                for value in list_of(schema, "enum")
                if isinstance(value, int) and value.bit_length() > 64
            )
            pending.extend(self.in_place(schema))
            for inside in self.inside(schema):
                pending += [*inside.named.values(), *inside.always, {} if inside.rest is None else inside.rest]
        return True


def crowded(rules: Rules) -> bool:
    """Whether a value exists for which the engine in Rust takes very long.

    That is so where one part of a value is looked at very often, because nothing is remembered, and where integers of
    very many digits are listed.

    Counts, level by level of an imagined worst value, how often each schema is asked there.
    """
    schemas: dict[int, Any] = {id(rules.root): rules.root}
    work = 0

    def in_place(counts: Counter[int]) -> Counter[int]:
        """How often each schema is asked about a value that these are asked about."""
        nonlocal work
        looks: Counter[int] = Counter()
        pending = [(number, count, frozenset({number})) for number, count in counts.items()]
        total = 0
        while pending:
            number, count, opened = pending.pop()
            looks[number] += count
            total += count
            work += 1
            if total > _MOST_LOOKS or work > _SURVEY:
                raise TooMuch
            for part in rules.in_place(schemas[number]):
                if isinstance(part, dict) and id(part) not in opened:
                    schemas[id(part)] = part
                    pending.append((id(part), count, opened | {id(part)}))
        return looks

    if rules.digits > _MOST_DIGITS:
        return True
    try:
        looks = in_place(Counter(schemas.keys()))
        for _ in range(MAX_DEPTH):
            below: dict[tuple[str, Any], Counter[int]] = {}
            for number, count in looks.items():
                for inside in rules.inside(schemas[number]):
                    # at a place with a name the rest has no say
                    known = {place for kind, place in below if kind == inside.kind}
                    for place in (*((inside.named.keys() | known) - {None}), None):
                        work += 1
                        here = below.get((inside.kind, place))
                        if here is None:
                            here = below[inside.kind, place] = below.get((inside.kind, None), Counter()).copy()
                        for part in (inside.named.get(place, inside.rest), *inside.always):
                            if isinstance(part, dict):
                                schemas[id(part)] = part
                                here[id(part)] += count
            following: Counter[int] = Counter()
            for here in below.values():
                following |= in_place(here)  # the worst of the places: one value has one of them
            if not following or following == looks:
                return False
            looks = following
    except TooMuch:
        return True
    return False


class Walk:
    """One check of some arguments; the arguments must be JSON values, not too deep, and stay as they are."""

    def __init__(self, rules: Rules, arguments: Any) -> None:
        self._rules = rules
        self._arguments = arguments
        self._known: dict[tuple[int, int], bool] = {}
        self.steps = 0
        self._limit = _STEPS + _STEPS_EACH * _values(arguments)

    def failures(self) -> list[Failure]:
        """What is wrong, as far as MAX_FAILURES; an empty list if nothing is.

        Raises:
            TooMuch: The budget is used up.
            RecursionError: The stack is.
        """
        return list(islice(self._failures(self._rules.root, self._arguments, ()), MAX_FAILURES))

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self._limit:
            raise TooMuch

    def _fits(self, schema: Any, value: Any) -> bool:
        # Few frames for each level of a value: loops, where `all` and `any` would read better.
        for _ in range(_LONGEST_CHAIN):  # nothing but a reference
            if not (isinstance(schema, dict) and len(schema) == 1 and "$ref" in schema):
                break
            schema = self._rules.resolver.resolve(schema["$ref"])
        if not isinstance(schema, dict):
            return schema is not False
        key = (id(schema), id(value))
        known = self._known.get(key)
        if known is not None:
            return known
        self._step()
        self._known[key] = True  # a circle adds nothing
        fits = next(self._of_leaf(schema, value, ()), None) is None
        fits = fits and next(self._of_rest(schema, value, ()), None) is None
        if fits:
            for word in _CHOICES:
                if not self._chosen(schema, word, value):
                    fits = False
                    break
        if fits:
            for part, inner, _step in self._applied(schema, value):
                if not self._fits(part, inner):
                    fits = False
                    break
        self._known[key] = fits
        return fits

    def _chosen(self, schema: dict[str, Any], word: str, value: Any) -> bool:
        if word not in schema or self._is_bare_reference(schema):
            return True
        found = 0
        for part in schema[word]:
            if self._fits(part, value):
                found += 1
                if word == "anyOf":
                    break
        return found == 1

    def _is_bare_reference(self, schema: dict[str, Any]) -> bool:
        return self._rules.old and "$ref" in schema

    def _failures(self, schema: Any, value: Any, path: tuple[str | int, ...]) -> Iterator[Failure]:
        if schema is False:
            yield Failure("falseSchema", False, path, value)
        if not isinstance(schema, dict):
            return
        self._step()
        yield from self._of_leaf(schema, value, path)
        yield from self._of_rest(schema, value, path)
        for word in _CHOICES:
            if not self._chosen(schema, word, value):
                yield self._of_union(schema, word, value, path)
        for part, inner, step in self._applied(schema, value):
            if not self._fits(part, inner):
                yield from self._failures(part, inner, path if step is None else (*path, step))

    def _of_union(self, schema: dict[str, Any], word: str, value: Any, path: tuple[str | int, ...]) -> Failure:
        def branches() -> list[list[Failure]]:
            return [
                [] if self._fits(part, value) else list(islice(self._failures(part, value, path), MAX_FAILURES))
                for part in schema[word]
            ]

        return Failure(word, None, path, value, branches, schema)

    def _of_leaf(self, schema: dict[str, Any], value: Any, path: tuple[str | int, ...]) -> Iterator[Failure]:
        for word in ("enum", "const") if not self._is_bare_reference(schema) else ():
            if word in schema and identity(value) not in self._rules.listed(schema, word):
                yield Failure(word, schema[word], path, value)
        leaf = self._rules.leaf(schema)
        if leaf is None:
            return
        engine, whole = leaf
        seen = crossing(value, whole=whole)
        if not engine.is_valid(seen):
            for error in engine.iter_errors(seen):
                yield from_engine(error)._replace(path=path, value=value)

    def _of_rest(self, schema: dict[str, Any], value: Any, path: tuple[str | int, ...]) -> Iterator[Failure]:
        """What is wrong by words that are neither a leaf's nor say what must fit."""
        if self._is_bare_reference(schema):
            return
        if "not" in schema and self._fits(schema["not"], value):
            yield Failure("not", schema["not"], path, value)
        if isinstance(value, list) and "contains" in schema:
            found = sum(self._fits(schema["contains"], item) for item in value)
            if not schema.get("minContains", 1) <= found <= schema.get("maxContains", len(value)):
                yield Failure("contains", None, path, value)
        if isinstance(value, dict):
            if "propertyNames" in schema:
                wrong = next((name for name in value if not self._fits(schema["propertyNames"], name)), None)
                if wrong is not None:
                    why = [list(self._failures(schema["propertyNames"], wrong, path))]
                    yield Failure("propertyNames", wrong, path, value, lambda: why)
            if schema.get("additionalProperties") is False and (surplus := list(self._surplus(schema, value))):
                yield Failure("additionalProperties", surplus, path, value)
            for name, names in dict_of(schema, "dependencies").items() if self._rules.old else ():
                for other in names if isinstance(names, list) and name in value else ():
                    if other not in value:
                        yield Failure("required", other, path, value)

    def _applied(self, schema: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any, str | int | None]]:
        """Which schemas must fit which values because this one must fit this one, and where those are inside it."""
        if "$ref" in schema:
            yield self._rules.resolver.resolve(schema["$ref"]), value, None
            if self._rules.old:
                return
        for part in list_of(schema, "allOf"):
            yield part, value, None
        if "if" in schema and ("then" in schema or "else" in schema):
            word = "then" if self._fits(schema["if"], value) else "else"
            if word in schema:
                yield schema[word], value, None
        if isinstance(value, dict):
            for word in ("dependentSchemas", "dependencies") if self._rules.old else ("dependentSchemas",):
                for name, part in dict_of(schema, word).items():
                    if name in value and not isinstance(part, list):
                        yield part, value, None
            declared = dict_of(schema, "properties")
            for name, part in declared.items():
                if name in value:
                    yield part, value[name], name
            for pattern, part in dict_of(schema, "patternProperties").items():
                for name in value:
                    if self._matches(pattern, name):
                        yield part, value[name], name
            rest = schema.get("additionalProperties")
            if isinstance(rest, dict):
                for name in self._surplus(schema, value):
                    yield rest, value[name], name
        elif isinstance(value, list):
            prefix, rest = elements_of(schema)
            for index, (part, inner) in enumerate(zip(prefix, value, strict=False)):
                yield part, inner, index
            if rest is not None:
                for index in range(len(prefix), len(value)):
                    yield rest, value[index], index

    def _surplus(self, schema: dict[str, Any], value: dict[str, Any]) -> Iterator[str]:
        """The names that only `additionalProperties` is for."""
        declared, patterns = dict_of(schema, "properties"), dict_of(schema, "patternProperties")
        for name in value:
            if name not in declared and not any(self._matches(pattern, name) for pattern in patterns):
                yield name

    def _matches(self, pattern: str, name: str) -> bool:
        self._step()
        return matches(pattern, name)


def crossing(value: Any, *, whole: bool = True) -> Any:
    """A JSON value as the engine in Rust can take it: no half surrogate pairs, no more digits than it reads.

    Unless it is the whole that matters, what is in containers inside it is left out.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and value.bit_length() > 64:
        return max(-HUGE, min(value, HUGE))
    inner = crossing if whole else _outside
    if isinstance(value, dict):
        return {crossing(name): inner(item) for name, item in value.items()}
    return [inner(item) for item in value] if isinstance(value, list) else value


def _outside(value: Any) -> Any:
    return type(value)() if isinstance(value, dict | list) else crossing(value)


def from_engine(error: Any) -> Failure:
    """A failure as the engine in Rust tells it."""
    kind = error.kind
    limit = list(kind.types) if kind.name == "type" else kind.value
    branches: Callable[[], list[list[Failure]]] | None = None
    if kind.name in _CHOICES:

        def branches() -> list[list[Failure]]:
            return [[from_engine(inner) for inner in branch] for branch in kind.context]

    return Failure(kind.name, limit, tuple(error.instance_path), error.instance, branches, error)


def _values(value: Any) -> int:
    """How many values there are in one."""
    count, pending = 0, [value]
    while pending:
        inner = pending.pop()
        count += 1
        if isinstance(inner, dict):
            pending.extend(inner.values())
        elif isinstance(inner, list):
            pending.extend(inner)
    return count
