"""Checking arguments against a tool's schema: fast when all is well, and clear words when not.

jsonschema-rs does the work. It sees a prepared schema: OpenAI's `nullable` and transformers' "image" and "audio" are
written in JSON Schema's own words. What is wrong is found by `explaining`, which also judges where the engine in Rust
would take time that doubles with each level of the arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from toolparse.codecs.json import MAX_DEPTH, is_shallow
from toolparse.errors import ToolError
from toolparse.tools.explaining import MAX_FAILURES, Failure, Rules, TooMuch, Walk, crossing, crowded, from_engine
from toolparse.tools.problem_text import (
    Names,
    Problem,
    either,
    missing,
    not_listed,
    place,
    quote,
    show,
    unexpected,
    wrong_type,
)
from toolparse.tools.schema_types import BACKTRACKS, TYPES, Resolver, dict_of, list_of, matches

Schema = dict[str, Any]

# Where even the number of looks can't be bounded, arguments may have so many levels.
_SHALLOW = 6
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLES = (
    "items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties",
    "contains", "propertyNames", "not", "if", "then", "else", "contentSchema",
)  # fmt: skip
_MEDIA = frozenset({"image", "audio"})
_MEANT = {
    "str": "string", "text": "string", "varchar": "string", "char": "string", "date": "string",
    "int": "integer", "int32": "integer", "int64": "integer", "long": "integer", "uint": "integer",
    "float": "number", "double": "number", "decimal": "number", "numeric": "number", "real": "number",
    "bool": "boolean", "dict": "object", "map": "object", "struct": "object", "hash": "object",
    "list": "array", "tuple": "array", "set": "array", "none": "null", "nil": "null", "nonetype": "null",
}  # fmt: skip
_DRAFTS = (
    "http://json-schema.org/draft-04/schema",
    "http://json-schema.org/draft-06/schema",
    "http://json-schema.org/draft-07/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
)


class Validator:
    """Validates the arguments of one tool."""

    def __init__(self, tool: str, parameters: Schema, *, closed: bool = False) -> None:
        """Prepare the schema; `closed` says that an empty list of properties is complete.

        Raises:
            ToolError: The schema can't be used; the message says where and why.
        """
        self.tool = tool
        self.prepared = prepare(tool, parameters)
        self._declared = _declared(self.prepared, closed=closed)
        self._names = Names(sorted(self._declared.names) if self._declared is not None else ())
        self._engine: Any = None
        self._rules: Rules | None = None
        self._crowded = False

    def compile(self) -> None:
        """Build the validator now, so that a wrong schema is reported now.

        Raises:
            ToolError: The schema is not valid JSON Schema.
        """
        if self._rules is None:
            engine, make = _compile(self.tool, self.prepared)
            rules = Rules(self.prepared, make)
            self._crowded = crowded(rules)
            self._engine, self._rules = engine, rules

    def problems(self, arguments: Any) -> list[Problem]:
        """What is wrong with the arguments; an empty list when nothing is."""
        if not isinstance(arguments, dict):
            return [wrong_type((), ("object",), arguments)]
        if not is_shallow(arguments):  # the engine in Rust recurses on the machine's stack, without a guard
            return [_invalid((), "nested too deeply")]
        if self._holds(arguments):
            return []
        try:
            return self._explain(arguments)
        except _NoJSON as error:
            return [error.problem]
        except (TooMuch, RecursionError):
            return [_invalid((), "too much to check against the tool's schema; use smaller or flatter values")]

    def accepts(self, arguments: dict[str, Any], size: int) -> bool:
        """Whether nothing is wrong with arguments that were read from so many characters of text."""
        # Each level of nesting takes two characters at least.
        if size < 2 * MAX_DEPTH and not self._crowded:
            return self._holds(arguments)
        return not self.problems(arguments)

    def _holds(self, arguments: dict[str, Any]) -> bool:
        """Whether shallow arguments are right, as far as the fast engine can tell."""
        if self._rules is None:
            self.compile()
        if self._crowded:
            return False
        try:
            if self._engine.is_valid(arguments):
                declared = self._declared
                return declared is None or arguments.keys() <= declared.names or not self._surplus(arguments)
        except (ValueError, TypeError, OverflowError):
            pass  # no JSON value, half a surrogate pair, ...: to be told, or to be looked at in another way
        return False

    def _explain(self, arguments: dict[str, Any]) -> list[Problem]:
        rules = self._rules
        assert rules is not None
        plain = _plain(arguments, ())
        names = self._names
        found: list[Problem] = []
        if rules.readable:
            for failure in Walk(rules, plain).failures():
                found += _problems(failure, names)
        elif self._crowded and not is_shallow(plain, _SHALLOW):
            return [_invalid((), "nested too deeply to be checked against the tool's schema")]
        else:
            for told in islice(self._engine.iter_errors(crossing(plain)), MAX_FAILURES):
                found += _problems(from_engine(told), names)
        if not found and not self._crowded and not self._engine.is_valid(crossing(plain)):
            found = [_invalid((), "they do not fit the tool's schema")]
        return _tidy(found + self._surplus(arguments))

    def _surplus(self, arguments: dict[str, Any]) -> list[Problem]:
        """Arguments that nothing declares."""
        declared = self._declared
        if declared is None:
            return []
        extra = [
            name
            for name in arguments
            if name not in declared.names and not any(matches(pattern, str(name)) for pattern in declared.patterns)
        ]
        return [unexpected((), str(name), self._names) for name in extra[:MAX_FAILURES]]


class _NoJSON(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def _plain(value: Any, path: tuple[str | int, ...]) -> Any:
    """The value with lists for tuples.

    Raises:
        _NoJSON: The value, or one in it, is none of JSON's.
    """
    if isinstance(value, str | bool | int) or value is None or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _plain(inner, (*path, name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*path, index)) for index, inner in enumerate(value)]
    raise _NoJSON(_invalid(path, f"{show(value)} is no JSON value"))


# --- preparing ----------------------------------------------------------------------------------------------


def prepare(tool: str, schema: Any) -> Schema:
    """A copy of the schema in JSON Schema's own words; the caller's dict is not touched.

    Raises:
        ToolError: The schema is no JSON value or no object schema.
    """
    if not isinstance(schema, dict):
        raise ToolError(
            f'tool {tool!r}: "parameters" must be a JSON schema, '
            f'{{"type": "object", "properties": {{...}}}}, not {show(schema)}'
        )
    check_json(tool, schema)
    result = crossing(_prepared(tool, schema, ("parameters",)))
    assert isinstance(result, dict)
    kind = schema.get("type")
    if kind is not None and kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise ToolError(
            f'tool {tool!r}: parameters must be an object schema, but "type" is {show(kind)}; '
            'write {"type": "object", "properties": {...}} with one property for each argument'
        )
    identity = result.get("$schema")
    if not isinstance(identity, str) or identity.rstrip("#") not in _DRAFTS:
        result.pop("$schema", None)  # unknown dialects are read as the current one
    # A relative or remote base would send local references elsewhere.
    result.pop("$id", None)
    result.pop("id", None)
    return result


def check_json(tool: str, value: Any, path: tuple[str | int, ...] = ("parameters",)) -> None:
    """Check that a schema consists of JSON values.

    Raises:
        ToolError: It does not; the message names the place.
    """
    where = _schema_place(path)
    if len(path) > MAX_DEPTH and isinstance(value, dict | list | tuple):
        raise ToolError(f"tool {tool!r}: the schema at {where[:80]}... is nested too deeply, or contains itself")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ToolError(f"tool {tool!r}: {where} has the key {show(key)}; the keys of a schema must be strings")
            _check_text(tool, key, where)
            check_json(tool, inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            check_json(tool, inner, (*path, index))
    elif isinstance(value, str):
        _check_text(tool, value, where)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ToolError(f"tool {tool!r}: {where} is {value}, which JSON doesn't have")
    elif value is not None and not isinstance(value, bool | int):
        raise ToolError(
            f"tool {tool!r}: {where} is {show(value)}, which can't be written as JSON; "
            "use strings, numbers, booleans, None, lists and dicts"
        )


def _check_text(tool: str, text: str, where: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ToolError(f"tool {tool!r}: {where} contains half a surrogate pair, which is no text") from None


def _schema_place(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def _prepared(tool: str, schema: Any, path: tuple[str | int, ...]) -> Any:
    if not isinstance(schema, dict):
        return schema
    result: Schema = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            value = {name: _prepared(tool, inner, (*path, key, name)) for name, inner in value.items()}
        elif (key in _LISTS or key == "items") and isinstance(value, list | tuple):
            value = [_prepared(tool, inner, (*path, key, index)) for index, inner in enumerate(value)]
        elif key in _SINGLES:
            value = _prepared(tool, value, (*path, key))
        elif isinstance(value, tuple):
            value = list(value)
        result[key] = value
    _check_types(tool, result, path)
    nullable = result.get("nullable")
    if isinstance(nullable, bool):
        del result["nullable"]
    return _with_null(result) if nullable is True else result


def _check_types(tool: str, schema: Schema, path: tuple[str | int, ...]) -> None:
    """Drop transformers' media types, read other languages' names of types, refuse what is none."""
    declared = schema.get("type")
    names = [declared] if isinstance(declared, str) else declared if isinstance(declared, list) else []
    meant: list[Any] = []
    for name in names:
        if not isinstance(name, str) or name in TYPES or name in _MEDIA:
            meant.append(name)
            continue
        known = _MEANT.get(name.lower(), name.lower() if name.lower() in TYPES else None)
        if known is None:
            raise ToolError(
                f"tool {tool!r}: {_schema_place(path)} has the type {name!r}, which is no JSON type; "
                f"use one of {', '.join(sorted(TYPES))}"
            )
        meant.append(known)
    if meant != names:
        schema["type"] = meant[0] if isinstance(declared, str) else meant
    if any(name in _MEDIA for name in names if isinstance(name, str)):
        del schema["type"]


def _with_null(schema: Schema) -> Schema:
    """The schema, or null."""
    declared = schema.get("type")
    plain = not any(word in schema for word in ("$ref", "anyOf", "oneOf", "allOf", "not", "const", "if"))
    if not plain:
        # definitions stay where references look for them
        outer: Schema = {key: schema.pop(key) for key in ("$defs", "definitions", "$schema") if key in schema}
        return {**outer, "anyOf": [schema, {"type": "null"}]}
    if "enum" in schema and isinstance(schema["enum"], list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    if isinstance(declared, str):
        schema["type"] = [declared, "null"] if declared != "null" else declared
    elif isinstance(declared, list) and "null" not in declared:
        schema["type"] = [*declared, "null"]
    return schema


class _Declared(NamedTuple):
    names: frozenset[str]
    patterns: tuple[str, ...]


def _declared(root: Schema, *, closed: bool) -> _Declared | None:
    """The arguments that the schema declares anywhere at its top level; None if others are welcome."""
    resolver = Resolver(root)
    names: set[str] = set()
    patterns: list[str] = []
    pending: list[Any] = [root]
    seen: set[int] = set()
    while pending:
        schema = pending.pop()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        for word in ("additionalProperties", "unevaluatedProperties"):
            if schema.get(word) not in (None, False):
                return None
        names.update(dict_of(schema, "properties"))
        patterns.extend(dict_of(schema, "patternProperties"))
        for word in ("allOf", "anyOf", "oneOf"):
            pending.extend(list_of(schema, word))
        pending.extend(schema.get(word) for word in ("then", "else"))
        pending.extend(dict_of(schema, "dependentSchemas").values())
        if "$ref" in schema:
            target = resolver.resolve(schema["$ref"])
            if target is None:
                return None
            pending.append(target)
    if not names and not patterns and not closed:
        return None
    return _Declared(frozenset(names), tuple(patterns))


# --- compiling ----------------------------------------------------------------------------------------------


def _compile(tool: str, schema: Schema) -> tuple[Any, Any]:
    """A jsonschema-rs validator, and what makes others of the same dialect.

    Raises:
        ToolError: The schema is not valid JSON Schema.
    """
    import jsonschema_rs

    # Without `$schema` the dialect is a guess: the current one, else one of the older ones that tools are
    # written in.
    drafts = (
        [jsonschema_rs.validator_cls_for(schema)]
        if "$schema" in schema
        else [
            jsonschema_rs.Draft202012Validator,
            jsonschema_rs.Draft7Validator,
            jsonschema_rs.Draft4Validator,
        ]
    )
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKS)
    first: Exception | None = None
    for draft in drafts:
        # `format` is a remark by default in JSON Schema
        make = partial(draft, validate_formats=False, retriever=_no_network, pattern_options=options)
        try:
            return make(schema), make
        except (ValueError, TypeError, OverflowError) as error:
            first = first or error
    assert first is not None
    place_in_schema = _schema_place(("parameters", *getattr(first, "instance_path", ())))
    reason = str(getattr(first, "message", first)).splitlines()[0]
    raise ToolError(f"tool {tool!r}: {place_in_schema} is no valid JSON schema: {reason}") from first


def _no_network(uri: str) -> Any:
    raise ValueError(f"{uri} is not part of the schema, and schemas are never fetched; put it under $defs")


# --- explaining ---------------------------------------------------------------------------------------------


_WORDS = {
    "minimum": "must be at least {limit}, got {value}",
    "maximum": "must be at most {limit}, got {value}",
    "exclusiveMinimum": "must be greater than {limit}, got {value}",
    "exclusiveMaximum": "must be less than {limit}, got {value}",
    "multipleOf": "must be a multiple of {limit}, got {value}",
    "pattern": "must match the pattern {limit}, got {value}",
    "uniqueItems": "the items must all be different",
    "contains": "none of the items is what it must contain",
    "not": "{value} is not allowed",
}
_SIZES = {
    "minLength": "must have at least {} character",
    "maxLength": "must have at most {} character",
    "minItems": "must have at least {} item",
    "maxItems": "must have at most {} item",
    "minProperties": "must have at least {} property",
    "maxProperties": "must have at most {} property",
}


def _problems(failure: Failure, names: Names) -> Iterator[Problem]:
    keyword, limit, path, value = failure.keyword, failure.limit, failure.path, failure.value
    if keyword == "type":
        yield wrong_type(path, limit, value)
    elif keyword == "required":
        yield missing(path, str(limit))
    elif keyword in ("enum", "const"):
        yield not_listed(path, limit if keyword == "enum" else [limit], value)
    elif keyword in ("additionalProperties", "unevaluatedProperties") and isinstance(limit, list):
        for name in limit[:MAX_FAILURES]:
            yield unexpected(path, str(name), names if not path else None)
    elif keyword == "falseSchema":
        if path and isinstance(path[-1], str):
            yield unexpected(path[:-1], path[-1])
        else:
            yield _invalid(path, "is not allowed")
    elif keyword in ("anyOf", "oneOf"):
        yield from _union(failure, names)
    elif keyword in _WORDS:
        shown = quote(str(limit)) if keyword == "pattern" else show(limit)
        yield _invalid(path, _WORDS[keyword].format(limit=shown, value=show(value)))
    elif keyword in _SIZES:
        text = _SIZES[keyword].format(limit)
        if limit != 1:
            text = text.removesuffix("y") + "ies" if text.endswith("property") else text + "s"
        yield _invalid(path, f"{text}, has {len(value)}")
    elif keyword == "propertyNames":
        why = next((p for f in failure.branches()[0] for p in _problems(f, names)), None) if failure.branches else None
        words = why.message.removeprefix(f"{place(path)}: ") if why is not None else show(limit)
        yield _invalid(path, f"the name {show(limit)} is not allowed: {words}"[:300])
    else:
        yield _invalid(path, f"does not satisfy {quote(keyword)}, got {show(value)}")


def _invalid(path: tuple[str | int, ...], words: str) -> Problem:
    return Problem("invalid-value", f"{place(path)}: {words}", path)


def _union(failure: Failure, names: Names) -> Iterator[Problem]:
    """What to say when no alternative fits: the expected types, or what the nearest alternative misses."""
    path, value = failure.path, failure.value
    flat: list[list[Failure]] = []
    pending = [failure]
    seen: set[int] = set()
    while pending:  # unions inside unions are one union to a reader
        union = pending.pop()
        for branch in union.branches() if union.branches is not None and id(union.schema) not in seen else ():
            if len(branch) == 1 and branch[0].branches is not None and branch[0].path == path:
                pending.append(branch[0])
            else:
                flat.append(branch)
        seen.add(id(union.schema))
    if not flat or any(not branch for branch in flat):
        yield _invalid(path, f"fits more than one of the allowed forms, got {show(value)}")
        return
    typed: list[str] = []
    candidates: list[list[Failure]] = []
    for branch in flat:
        types = next((f.limit for f in branch if f.keyword == "type" and f.path == path), None)
        if types is None:
            candidates.append(branch)
        else:
            typed += types
    if not candidates:
        yield wrong_type(path, typed, value)
        return
    lists = [f for branch in candidates for f in branch if f.keyword in ("enum", "const") and f.path == path]
    if len(lists) == len(candidates):
        allowed = [v for f in lists for v in (f.limit if f.keyword == "enum" else [f.limit])]
        problem = not_listed(path, allowed, value)
        if typed:
            problem = problem._replace(message=problem.message.replace("; got", f", or {either(typed)}; got", 1))
        yield problem
        return
    # a tag with another value means that another alternative was meant
    best = min(candidates, key=lambda branch: (sum(f.keyword in ("enum", "const") for f in branch), len(branch)))
    for inner in best[:MAX_FAILURES]:
        yield from _problems(inner, names)


def _tidy(problems: list[Problem]) -> list[Problem]:
    """Without repetitions; names first, then values in the order in which they were found."""
    mistyped = {problem.path for problem in problems if problem.code == "wrong-type"}
    kept: dict[tuple[str, tuple[str | int, ...]], Problem] = {}
    for problem in problems:
        if problem.code == "invalid-value" and problem.path in mistyped:
            continue  # a value of the wrong type is not one of the listed values either
        kept.setdefault((problem.code, problem.path), problem)
    order = {"missing-argument": 0, "unexpected-argument": 1}
    return sorted(kept.values(), key=lambda problem: order.get(problem.code, 2))[:MAX_FAILURES]
