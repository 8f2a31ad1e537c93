"""JSON schemas -> rules for the values that they admit, in a format's spelling.

Followed: `type` (lists too), `enum`, `const`, `properties`, `required`, `additionalProperties`, `patternProperties`
(their patterns are not), `items`, `prefixItems`, `minItems`, `maxItems`, `minLength`, `maxLength`, `anyOf`, `oneOf`,
`allOf`, `$ref` (recursive ones too), `nullable`, `pattern`, finite `format`s, bounds and `multipleOf` of integers.
Objects are closed unless `additionalProperties` opens them, or nothing at all is said about their properties. Keywords
that limit values in ways that no grammar says (`not`, `if`, `uniqueItems`, ...) are refused by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from toolparse.codecs.json import type_of
from toolparse.codecs.unescaped import inner_syntax
from toolparse.codecs.writing import write_string, write_value
from toolparse.errors import ExportError
from toolparse.export import constraints
from toolparse.export.constraints import Limits, NotSaid
from toolparse.export.expressions import (
    DIGITS,
    EMPTY,
    PLAIN,
    Chars,
    Expr,
    Lit,
    Rep,
    Rules,
    Scan,
    alt,
    both,
    chars,
    complement,
    intersection,
    names_but,
    opt,
    seq,
    star,
    text_without,
    until,
    without,
)
from toolparse.format import Syntax
from toolparse.picture import BLANKS
from toolparse.tools.schema_types import TYPES, Resolver, dict_of, elements_of, list_of, of_types, types_of

Schema = dict[str, Any]

_KEPT = (
    "type", "enum", "const", "properties", "required", "additionalProperties", "patternProperties", "items",
    "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip
# What a keyword is about, where no `type` says it.
_ABOUT = {
    "properties": "object", "required": "object", "additionalProperties": "object", "patternProperties": "object",
    "items": "array", "prefixItems": "array", "minItems": "array", "maxItems": "array",
    "minLength": "string", "maxLength": "string", "pattern": "string", "format": "string",
    "minimum": "number", "maximum": "number", "exclusiveMinimum": "number", "exclusiveMaximum": "number",
    "multipleOf": "number",
}  # fmt: skip
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
# What limits values in ways that no grammar says: told by name, so that nobody takes them for enforced.
_UNSAID = (
    "not", "if", "contains", "minContains", "maxContains", "uniqueItems", "minProperties", "maxProperties",
    "propertyNames", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
    "unevaluatedItems",
)  # fmt: skip
#: Every keyword that `skip` may name.
SKIPPABLE = frozenset({*_UNSAID, *_LIMITS, "pattern", "format", "patternProperties", *_LENGTHS})
_MAX_ALTERNATIVES = 200
MAX_SWAPPED = 5  # of so many keys every order is written out; of more, the schema's
_MAX_BLANKS = 64
_MAX_COUNT = 65_536  # no turn is so long: greater bounds are none
_BARE_CHARS = without(complement(((0x00, 0x20), (0x7F, 0xA0))), ",:=[]{}()\"'<>|")
_BARE = re.compile(r"[^ \t\r\n,:=\[\]{}()\"'<>]+")
_IDENTIFIER_FIRST = chars("A-Za-z_").ranges
_IDENTIFIER_REST = chars("A-Za-z0-9_").ranges


class Member(NamedTuple):
    """A property of an object."""

    key: str
    schema: Any
    required: bool


class Shape(NamedTuple):
    """The properties of an object, and the schemas of those that are not named (None: there are no others)."""

    members: tuple[Member, ...]
    others: tuple[Any, ...] | None


class Values:
    """The rules of values under one root schema, in one spelling.

    `avoid`: what must not stand in strings, because the text around would take it for a marker.
    """

    def __init__(
        self,
        rules: Rules,
        syntax: Syntax,
        root: Schema,
        *,
        owner: str,
        avoid: Sequence[str] = (),
        blanks: bool = False,
        swapped: bool = False,
    ) -> None:
        """`blanks`: any between the parts of a value. `swapped`: keys in any order."""
        if not syntax.quotes[0]:
            raise ExportError(
                f"{owner}: text stands without quotes, and ends where the call can go on; no grammar says that"
            )
        self.rules = rules
        self.syntax = syntax
        self.owner = owner
        self.avoid = tuple(avoid)
        self.blanks = blanks
        self.swapped = swapped
        self.resolver = Resolver(root)
        self._known: dict[str, Expr] = {}
        self._spelled: dict[Syntax, Values] = {syntax: self}

    def spelled(self, syntax: Syntax) -> Values:
        """The rules of the same values in another spelling."""
        known = self._spelled.get(syntax)
        if known is None:
            known = Values(
                self.rules,
                syntax,
                self.resolver.root,
                owner=self.owner,
                avoid=self.avoid,
                blanks=self.blanks,
                swapped=self.swapped,
            )
            self._spelled[syntax] = known
        return known

    def _lit(self, text: str) -> Expr:
        """Punctuation, around which there may be blanks."""
        if not self.blanks or not text:
            return Lit(text)
        return seq(self._blanks(), Lit(text.strip(BLANKS)), self._blanks())

    def _blanks(self) -> Expr:
        return opt(self.rules.add("blanks", Rep(chars(" \n\t"), 1, _MAX_BLANKS), token=True)) if self.blanks else EMPTY

    # -- schemas ------------------------------------------------------------------------------------------------------

    def alternatives(self, schema: Any) -> list[Schema]:
        """A schema as alternatives that have at most one type each and no references or unions of their own."""
        found: list[Schema] = []
        for plain in self._flat(schema, frozenset()):
            for single in _single(plain):
                if single not in found:
                    found.append(single)
        return found

    def _flat(self, schema: Any, open_refs: frozenset[str]) -> list[Schema]:
        if schema is False:
            return []
        if not isinstance(schema, dict):
            return [{}]
        found: list[Schema] = [{key: schema[key] for key in _KEPT if key in schema}]
        ref = schema.get("$ref")
        if isinstance(ref, str):
            if ref in open_refs:
                return []  # it is only itself
            found = _product(found, self._flat(self.resolver.resolve(ref), open_refs | {ref}), self.owner)
        for part in list_of(schema, "allOf"):
            found = _product(found, self._flat(part, open_refs), self.owner)
        for word in ("anyOf", "oneOf"):
            parts = list_of(schema, word)
            if parts:
                branches = [plain for part in parts for plain in self._flat(part, open_refs)]
                found = _product(found, branches, self.owner)
        if schema.get("nullable") is True:
            found.append({"type": "null"})
        return found

    def shapes(self, schema: Any) -> list[Shape]:
        """The objects that a tool's parameters admit."""
        return [
            shape_of(plain, self.syntax)
            for plain in self.alternatives({"allOf": [schema, {"type": "object"}]} if schema else {"type": "object"})
            if literals(plain) is None
        ]

    # -- values -------------------------------------------------------------------------------------------------------

    def value(self, schema: Any, hint: str) -> Expr:
        """The values of a schema. Raises ExportError when there are none."""
        options = self.alternatives(schema)
        if not options:
            raise nothing_fits(self.owner, hint, schema)
        return alt(*(self.plain(plain, hint) for plain in options))

    def plain(self, schema: Schema, hint: str) -> Expr:
        """The values of one alternative."""
        listed = literals(schema)
        if listed is not None:
            return alt(*(Lit(self.written(value)) for value in listed))
        kind = schema.get("type")
        if kind in ("object", "array"):
            return self.spelled(self.syntax.of(kind))._remembered(schema, hint)
        if kind == "string":
            limits = self.limits(schema, hint)
            if limits is None or not (limits.patterns or self.avoid or not self.syntax.escapes):
                return self.string(schema.get("minLength"), schema.get("maxLength"), hint)
            return self.quoted_text(limits, hint)
        if kind == "integer":
            return self.integer(schema, hint)
        if kind == "number":
            return self.number(schema, hint)
        if kind == "boolean":
            return alt(Lit(self.syntax.true), Lit(self.syntax.false))
        if kind == "null":
            return Lit(self.syntax.null)
        return self.anything()

    def argument(self, schema: Any, hint: str) -> Expr:
        """An argument where only what follows it tells that it ended: as text in quotes, or as values are elsewhere."""
        inner = self.spelled(inner_syntax(self.syntax))
        quote = self.syntax.quotes[0]
        options: list[Expr] = []
        for plain in self.alternatives(schema):
            listed = literals(plain)
            own = self if not (self.syntax.escapes and quote) else inner
            options.extend(Lit(own.written(value)) for value in listed or () if isinstance(value, str))
            if plain.get("type") == "string" or (not plain and self.syntax.texts):
                options.append(own.plain({**plain, "type": "string"}, hint))
                continue
            others = (Lit(inner.written(value)) for value in listed or () if not isinstance(value, str))
            made = [inner.plain(plain, hint)] if listed is None else others
            options.extend(seq(Lit(quote), one, Lit(quote)) if self.syntax.texts else one for one in made)
        if not options:
            raise nothing_fits(self.owner, hint, schema)
        return alt(*options)

    def _remembered(self, schema: Schema, hint: str) -> Expr:
        """A rule for an object or array; the same schema gets the same rule, so recursive ones end."""

        def made() -> Expr:
            if schema["type"] == "object":
                pairs = self.pairs(shape_of(schema, self.syntax), hint, colon=self.syntax.colon)
                return self.braces("{", pairs, "}")
            comma = self._lit(self.syntax.comma)
            return self.braces("[", elements(schema, self.value, comma, hint, self.rules), "]")

        return self.rules.once(self._known, schema, hint, made)

    def written(self, value: Any) -> str:
        """A value as the format writes it."""
        try:
            text = write_value(value, self.syntax.of(type_of(value)))
        except ValueError as error:
            raise ExportError(f"{self.owner}: {error}") from None
        if any(word in text for word in self.avoid):
            raise ExportError(f"{self.owner}: the value {value!r} holds a marker of the format")
        return text

    def braces(self, left: str, inner: Expr, right: str) -> Expr:
        """Something in brackets."""
        if inner == EMPTY:
            return Lit(left + right) if not self.blanks else seq(Lit(left), self._blanks(), Lit(right))
        return seq(Lit(left), self._blanks(), inner, self._blanks(), Lit(right))

    def pairs(self, shape: Shape, hint: str, *, colon: str, bare: bool | None = None, arguments: bool = False) -> Expr:
        """The members of an object with what stands between them.

        `bare`: keys without quotes. `arguments`: they are the call's own, which a syntax may spell otherwise than what
        is inside of them.
        """
        bare = self.syntax.bare_keys if bare is None else bare
        comma = self._lit(self.syntax.comma)
        value = self.argument if arguments and self.syntax.loose else self.value
        taken = tuple(member.key for member in shape.members)
        extra: Expr | None = None
        if shape.others is not None:
            values = alt(*(value(other, f"{hint}-other") for other in shape.others))
            free = self._free_key(taken, bare, keyword=colon == "=")
            extra = self.rules.add(f"{hint}-other", seq(free, self._lit(colon), values))
        members = [
            (
                self.rules.add(
                    f"{hint}-{member.key}",
                    seq(
                        Lit(self._key(member.key, bare)),
                        self._lit(colon),
                        value(member.schema, f"{hint}-{member.key}"),
                    ),
                ),
                member.required,
            )
            for member in shape.members
        ]
        if self.swapped and 1 < len(members) <= MAX_SWAPPED:
            return any_order(self.rules, members, extra, comma, hint)
        # From the last member back: what may stand behind a member that was written, and where none was.
        more = star(seq(comma, extra)) if extra is not None else EMPTY
        begun: Expr = more
        fresh: Expr = opt(seq(extra, more)) if extra is not None else EMPTY
        # Sorted keys: those that are not declared stand anywhere between the others.
        between = more if self.syntax.sort_keys else EMPTY
        for number, (member, required) in reversed(list(enumerate(members))):
            rest = self.rules.add(f"{hint}-rest-{number + 1}", begun) if number else begun
            here = seq(member, rest)
            if between != EMPTY and extra is not None:
                here = alt(here, seq(extra, between, comma, member, rest))
            fresh = here if required else alt(here, fresh) if fresh != EMPTY else opt(here)
            further = seq(comma, member)
            begun = seq(between, further if required else opt(further), begun)
            if between == EMPTY:
                begun = seq(further if required else opt(further), rest)
        return fresh

    def _key(self, key: str, bare: bool) -> str:
        if not bare:
            return write_string(key, self.syntax)
        if not _BARE.fullmatch(key):
            raise ExportError(f"{self.owner}: the format writes keys without quotes, so {key!r} can't be one")
        return key

    def _free_key(self, taken: tuple[str, ...], bare: bool, *, keyword: bool) -> Expr:
        """A key other than those that are taken; `keyword`: a keyword argument's name."""
        if bare and not keyword:
            return self.rules.add("name", Scan(names_but(taken, _BARE_CHARS, _BARE_CHARS)), token=True)
        if bare:
            return self.rules.add("name", Scan(names_but(taken, _IDENTIFIER_FIRST, _IDENTIFIER_REST)), token=True)
        if not taken:
            return self.string()
        quote = self.syntax.quotes[0]
        body = Chars(without(PLAIN.ranges, quote))
        key = both(names_but(taken, body.ranges, body.ranges), text_without(self.avoid))
        return self.rules.add("key", seq(Lit(quote), Scan(key), Lit(quote)), token=True)

    # -- scalars ------------------------------------------------------------------------------------------------------

    def integer(self, schema: Schema, hint: str) -> Expr:
        """An integer: of any size, or as a schema limits it."""
        if not schema.keys() & set(_LIMITS):
            return self.rules.add("integer", _INTEGER, token=True)
        with self._naming(hint):
            low, above, high, below = _bounds(schema)
            least = None if low is None else math.floor(low) + 1 if above else math.ceil(low)
            most = None if high is None else math.ceil(high) - 1 if below else math.floor(high)
            made = constraints.integers(least, most)
            of = schema.get("multipleOf")
            if of is not None and of != 1:
                if not isinstance(of, int) or of <= 0:
                    raise NotSaid(f"multiples of {of} can't be said")
                made = Scan(constraints.product([constraints.determined(made), constraints.multiples(of)]))
                if not made.automaton.final:
                    raise NotSaid("no number lies in its range")
            return self.rules.add(f"{hint}-integer", made, token=True)

    def number(self, schema: Schema | None = None, hint: str = "number", *, fraction: bool = False) -> Expr:
        """A number as `repr` writes it: what it spells is finite. `fraction`: no integer."""
        if schema and schema.keys() & set(_LIMITS):
            with self._naming(hint):
                if schema.get("multipleOf") is not None:
                    if fraction:
                        raise NotSaid("multipleOf is said of integers only")
                    return self.integer(schema, hint)
                low, above, high, below = _bounds(schema)
                made = constraints.decimals(low, high, above=above, below=below, whole=not fraction)
                return self.rules.add(f"{hint}-{'float' if fraction else 'number'}", made, token=True)
        if fraction:
            return self.rules.add("float", alt(_EXPONENT, _FRACTION), token=True)
        return self.rules.add("number", alt(_EXPONENT, _FRACTION, _INTEGER), token=True)

    def numbers(self, schema: Schema, hint: str) -> list[tuple[str, Expr]]:
        """A number by its type: an integer, and one that is none; those of the two that its limits leave."""
        found: list[tuple[str, Expr]] = []
        failed: list[ExportError] = []
        for kind in ("integer", "number"):
            try:
                one = self.integer(schema, hint) if kind == "integer" else self.number(schema, hint, fraction=True)
                found.append((kind, one))
            except ExportError as error:
                failed.append(error)
        if not found:
            raise failed[0]
        return found

    @contextmanager
    def _naming(self, hint: str) -> Iterator[None]:
        try:
            yield
        except NotSaid as error:
            raise ExportError(f"{self.owner}, at {hint!r}: {error}") from None

    def limits(self, schema: Schema, hint: str) -> Limits | None:
        """What `pattern`, `format` and lengths leave of all texts; None where that is all."""
        patterns = [one for one in _listed(schema.get("pattern", [])) if isinstance(one, str)]
        words = [one for one in _listed(schema.get("format", [])) if isinstance(one, str)]
        patterns += [constraints.FORMATS[word] for word in words if word in constraints.FORMATS]
        low, high = bound(schema.get("minLength"), 0), bound(schema.get("maxLength"), None)
        if not patterns and not low and high is None:
            return None
        with self._naming(hint):
            limits = Limits(tuple(map(constraints.matching, patterns)), low, high)
            limits.of()
            return limits

    def quoted_text(self, limits: Limits, hint: str) -> Expr:
        """A string whose text is limited."""
        quote = self.syntax.quotes[0]
        json_like = self.syntax.escapes and quote == '"'
        without_quotes = text_without((quote, *self.avoid))
        if self.syntax.escapes and not json_like:  # only what needs no escape
            free = star(Chars(intersection(_PYTHON_IN["'"].ranges, _PYTHON_IN['"'].ranges)))
            without_quotes = both(without_quotes, constraints.determined(free))
        with self._naming(hint):
            kept = limits.of(None if json_like and not self.avoid else without_quotes, quoted=json_like)
        return self.rules.add(f"{hint}-text", seq(Lit(quote), kept, Lit(quote)), token=True)

    def string(self, low: Any = None, high: Any = None, hint: str = "") -> Expr:
        """A string in quotes."""
        quote = self.syntax.quotes[0]
        if not self.syntax.escapes:
            if quote in self.rules.tokens:
                inner = Scan(text_without((quote, *self.avoid)))
                return self.rules.add("string", seq(Lit(quote), inner, Lit(quote)), token=True)
            return self.rules.add("string", seq(Lit(quote), Scan(until(quote, self.avoid))), token=True)
        least, most = bound(low, 0), bound(high, None)
        quotes = [quote]
        if quote == "'" and '"' in self.syntax.quotes:  # as Python's repr does where the text holds a single quote
            quotes.append('"')
        if self.avoid:
            strings = []
            for q in quotes:
                plain = Scan(text_without((*self.avoid, q, "\\", *map(chr, range(0x20)))))
                strings.append(seq(Lit(q), plain, star(seq(_escape(q, self.syntax), plain)), Lit(q)))
            return self.rules.add("string", alt(*strings), token=True)
        strings = [seq(Lit(q), Rep(_char(q, self.syntax), least, most), Lit(q)) for q in quotes]
        return self.rules.add(f"{hint}-text" if least or most is not None else "string", alt(*strings), token=True)

    def anything(self) -> Expr:
        """Any value."""

        def made() -> Expr:
            words = (self.syntax.true, self.syntax.false, self.syntax.null)
            scalars = [self.string(), self.number(), *map(Lit, words)]
            return alt(self.plain({"type": "object"}, "object"), self.plain({"type": "array"}, "array"), *scalars)

        return self.rules.once(self._known, "", "value", made)


def elements(schema: Schema, item: Callable[[Any, str], Expr], comma: Expr, hint: str, rules: Rules) -> Expr:
    """The elements of a list, each as `item` writes it: those that are described one by one, then any number."""
    prefix, items = elements_of(schema)
    low, high = bound(schema.get("minItems"), 0), bound(schema.get("maxItems"), None)
    first = [item(one, f"{hint}-{number}") for number, one in enumerate(prefix[:high])]
    least, most = max(low - len(first), 0), None if high is None else max(high, low) - len(first)
    # Lists whose elements are described are closed, as objects are, as far as `minItems` lets them.
    rest: Expr = EMPTY
    if most != 0 and (least or (items is not False if not first else items not in (False, None))):
        other = rules.add(f"{hint}-item", item(True if items is None else items, f"{hint}-item"))
        if first:
            rest = Rep(seq(comma, other), least, most)
        else:
            more = EMPTY if most == 1 else Rep(seq(comma, other), max(least - 1, 0), None if most is None else most - 1)
            rest = seq(other, more) if least else opt(seq(other, more))
    for number in range(len(first) - 1, -1, -1):
        rest = seq(comma if number else EMPTY, first[number], rest)
        rest = rest if number < low else opt(rest)
    return rest


def nothing_fits(owner: str, hint: str, schema: Any) -> ExportError:
    """The error for a schema that admits no value, with the keywords that can be to blame."""
    words = [word for word in schema if word not in ("description", "title", "default", "examples")] if schema else []
    return ExportError(f"{owner}, at {hint!r}: no value fits {' and '.join(map(repr, words)) or repr(schema)}")


def any_order(rules: Rules, members: Sequence[tuple[Expr, bool]], extra: Expr | None, comma: Expr, hint: str) -> Expr:
    """Members in any order, each at most once; what stands between them, and behind all of them others."""

    @cache
    def rest(left: frozenset[int], begun: bool) -> Expr:
        ways = [seq(comma if begun else EMPTY, members[one][0], rest(left - {one}, True)) for one in sorted(left)]
        if not any(members[one][1] for one in left):
            more = star(seq(comma, extra)) if extra is not None else EMPTY
            ways.append(more if begun or extra is None else opt(seq(extra, more)))
        found = alt(*ways)
        if EMPTY in ways and len(ways) > 1:
            found = opt(alt(*(way for way in ways if way != EMPTY)))
        return rules.add(f"{hint}-{'-'.join(map(str, sorted(left))) or 'end'}", found)

    return rest(frozenset(range(len(members))), False)


#: What xgrammar and llguidance enforce as validators do, and what says nothing about values. Of the rest xgrammar
#: reads some otherwise, and is silent about it: `pattern` beside a length, `allOf`, `multipleOf`, escapes in a string
#: whose length is limited.
_SERVED = frozenset((
    "type", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "enum", "const",
    "anyOf", "oneOf", "$ref", "$defs", "definitions", "nullable", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
))  # fmt: skip
_REMARKS = frozenset((
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly",
    "discriminator", "strict",
))  # fmt: skip


def is_served(schema: Any) -> bool:
    """Whether engines that read schemas themselves enforce all of a schema, and refuse nothing that fits it."""
    if not isinstance(schema, dict):
        return schema is True
    said = schema.keys() - _REMARKS
    types = types_of(schema)
    listed = literals(schema)
    about = {_ABOUT[word] for word in said if word in _ABOUT}
    if said - _SERVED or not about <= {"number" if kind == "integer" else kind for kind in types or ()}:
        return False
    if listed is not None:
        kinds = {type_of(value) for value in listed}
        return bool(kinds) and kinds <= {*(types or TYPES)} - {"object", "array"}
    if said & {"anyOf", "oneOf", "$ref"} and len(said - {"$defs", "definitions"}) > 1:
        return False
    if any(isinstance(schema.get(word, 0), bool) or abs(schema.get(word, 0)) > 1e15 for word in _LIMITS):
        return False
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or not set(schema.get("required", ())) <= properties.keys():
        return False
    inner = [*properties.values(), *(schema[word] for word in ("items",) if word in schema)]
    inner += [part for word in ("anyOf", "oneOf") for part in list_of(schema, word)]
    inner += [part for word in ("$defs", "definitions") for part in schema.get(word, {}).values()]
    rest = schema.get("additionalProperties", True)
    return (isinstance(rest, bool) or is_served(rest)) and all(map(is_served, inner))


def engine_schema(schema: Schema, syntax: Syntax) -> str:
    """A schema as an engine is to read it: closed where ours are, with the format's blanks (llguidance's words)."""

    def closed(node: Any) -> Any:
        if isinstance(node, list):
            return [closed(item) for item in node]
        if not isinstance(node, dict):
            return node
        found = {
            "anyOf" if key == "oneOf" else key: {name: closed(inner) for name, inner in value.items()}
            if key in ("properties", "$defs", "definitions")
            else value
            if key in ("enum", "const", "default", "examples")
            else closed(value)
            for key, value in node.items()
            if key != "format" or value in constraints.FORMATS
        }
        if "properties" in found and "additionalProperties" not in found:
            found["additionalProperties"] = False
        if found.pop("nullable", None) is True:
            return {"anyOf": [found, {"type": "null"}]}
        return found

    options = {"whitespace_flexible": False, "item_separator": syntax.comma, "key_separator": syntax.colon}
    made = {"type": "object", **closed(schema), "x-guidance": options}
    return json.dumps(made, ensure_ascii=False)


def literals(schema: Schema) -> list[Any] | None:
    """The values to which `enum` or `const` limit an alternative; None when neither does."""
    if "const" in schema:
        return [schema["const"]]
    listed = schema.get("enum")
    return listed if isinstance(listed, list) else None


# -- alternatives -----------------------------------------------------------------------------------------------------


def _single(schema: Schema) -> Iterator[Schema]:
    """An alternative split by its types."""
    types = types_of(schema)
    listed = literals(schema)
    if listed is not None:
        kept = [value for value in of_types(listed, types) if _fits(value, schema)]
        if kept:
            yield {"enum": kept}
        return
    if types is None:
        types = list(dict.fromkeys(kind for key, kind in _ABOUT.items() if key in schema))[:1]
    rest = {key: value for key, value in schema.items() if key != "type"}
    for kind in types:
        if _crossed(schema, kind):
            continue
        about = "number" if kind == "integer" else kind
        yield {"type": kind, **{key: value for key, value in rest.items() if _ABOUT.get(key) == about}}
    if not types:
        yield {}


def _crossed(schema: Schema, kind: str) -> bool:
    """Whether a lower limit on lengths lies above the upper one."""
    low, high = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}.get(kind, ("", ""))
    return low in schema and high in schema and bool(schema[low] > schema[high])


def _fits(value: Any, schema: Schema) -> bool:
    """Whether a listed value is within the limits that stand beside the list."""
    if isinstance(value, str):
        patterns = _listed(schema.get("pattern", []))
        least, most = bound(schema.get("minLength"), 0), bound(schema.get("maxLength"), None)
        long_enough = len(value) >= least and (most is None or len(value) <= most)
        return long_enough and all(re.search(one, value) for one in patterns if isinstance(one, str))
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, above, high, below = _bounds(schema)
        number = Decimal(str(value))
        fits = (low is None or number > low or (number == low and not above)) and (
            high is None or number < high or (number == high and not below)
        )
        return fits and not (isinstance(of := schema.get("multipleOf"), int) and of > 0 and number % of)
    return True


def _product(left: list[Schema], right: list[Schema], owner: str) -> list[Schema]:
    """Every pair of alternatives, both holding at once."""
    if len(left) * len(right) > _MAX_ALTERNATIVES:
        raise ExportError(f"{owner}: a schema has more than {_MAX_ALTERNATIVES} alternatives; write it more simply")
    return [merged for a in left for b in right if (merged := _merge(a, b)) is not None]


def _merge(left: Schema, right: Schema) -> Schema | None:
    """Two alternatives at once; None when nothing can be both."""
    merged = {**left, **right}
    one, other = types_of(left), types_of(right)
    if one is not None and other is not None:
        shared = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
        shared += [kind for kind in other if kind == "integer" and "number" in one and kind not in shared]
        if not shared:
            return None
        merged["type"] = shared
    elif one is not None:
        merged["type"] = one
    for word in ("properties", "patternProperties"):
        if word in left and word in right:
            properties = dict(left[word])
            for key, schema in right[word].items():
                properties[key] = {"allOf": [properties[key], schema]} if key in properties else schema
            merged[word] = properties
    for word in ("items", "additionalProperties"):
        if isinstance(left.get(word), dict) and isinstance(right.get(word), dict):
            merged[word] = {"allOf": [left[word], right[word]]}
        elif left.get(word) is False:
            merged[word] = False
    for word in ("pattern", "format"):
        if word in left and word in right:
            merged[word] = [*_listed(left[word]), *_listed(right[word])]
    for word, choose in _STRICTER.items():
        if word in left and word in right:
            merged[word] = choose(left[word], right[word])
    if "required" in left and "required" in right:
        merged["required"] = list(dict.fromkeys([*left["required"], *right["required"]]))
    one_listed, other_listed = literals(left), literals(right)
    if one_listed is not None and other_listed is not None:
        merged.pop("const", None)
        merged["enum"] = [value for value in one_listed if value in other_listed]
    return merged


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


_STRICTER: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems"), min),
    "multipleOf": lambda one, other: math.lcm(one, other) if isinstance(one, int) and isinstance(other, int) else one,
}


def _bounds(schema: Schema) -> tuple[Decimal | None, bool, Decimal | None, bool]:
    """The least value, whether it is left out, the greatest one, whether it is."""
    found: list[Any] = []
    for word, exclusive, stricter in (("minimum", "exclusiveMinimum", max), ("maximum", "exclusiveMaximum", min)):
        value, other = schema.get(word), schema.get(exclusive)
        bare = Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
        if other is True:  # draft 4
            found.extend((bare, bare is not None))
            continue
        out = Decimal(str(other)) if isinstance(other, int | float) and not isinstance(other, bool) else None
        limits = [limit for limit in (bare, out) if limit is not None]
        limit = stricter(limits) if limits else None
        found.extend((limit, limit is not None and limit == out))
    return found[0], found[1], found[2], found[3]


def unsaid(schema: Any, skip: Collection[str], path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Where a schema has keywords that no grammar says: (path, keyword). `skip`: those that don't matter."""
    if not isinstance(schema, dict):
        return
    nothing = {"uniqueItems": False, "patternProperties": {}}
    for word in (*_UNSAID, "patternProperties"):
        if word in schema and word not in skip and schema[word] not in (None, nothing.get(word, ...)):
            yield ".".join(path) or "the arguments", word
    for word in ("properties", "$defs", "definitions"):
        for key, inner in dict_of(schema, word).items():
            yield from unsaid(inner, skip, (*path, str(key)))
    for word in ("allOf", "anyOf", "oneOf", "prefixItems"):
        for inner in list_of(schema, word):
            yield from unsaid(inner, skip, path)
    for word in ("items", "additionalProperties"):
        yield from unsaid(schema.get(word), skip, (*path, "[]" if word == "items" else "*"))


def without_keywords(schema: Any, skip: Collection[str]) -> Any:
    """A schema without some keywords, at any depth."""
    if isinstance(schema, list):
        return [without_keywords(item, skip) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "$defs", "definitions") and isinstance(value, dict):
            found[key] = {name: without_keywords(inner, skip) for name, inner in value.items()}
        elif key not in skip:
            found[key] = value if key in ("enum", "const", "default", "examples") else without_keywords(value, skip)
    return found


def shape_of(schema: Schema, syntax: Syntax) -> Shape:
    """The properties of an alternative that is an object, in the order in which they are written."""
    properties = dict_of(schema, "properties")
    needed = [key for key in list_of(schema, "required") if isinstance(key, str)]
    keys = [*properties, *(key for key in needed if key not in properties)]
    if syntax.sort_keys:
        keys.sort()
    rest = schema.get("additionalProperties")
    unnamed = {} if rest is None else rest  # what holds of a key that is only required
    members = tuple(
        Member(key, properties.get(key, unnamed), key in needed)
        for key in keys
        if properties.get(key) is not False or key in needed
    )
    patterns = dict_of(schema, "patternProperties")
    others: tuple[Any, ...] | None = None
    if isinstance(rest, dict) or rest is True:
        others = (rest,)
    elif patterns:
        others = tuple(patterns.values())
    elif rest is None and "properties" not in schema:
        others = ({},)
    return Shape(members, others)


def bound(value: Any, default: Any) -> Any:
    """A bound on a number of repetitions, as far as it is enforced."""
    return value if isinstance(value, int) and 0 <= value <= _MAX_COUNT else default


# -- the spelling of scalars ------------------------------------------------------------------------------------------

_SIGN = opt(Lit("-"))
_FIRST = chars("1-9")
_HEX = chars("0-9a-fA-F")
_INTEGER = alt(Lit("0"), seq(_SIGN, _FIRST, star(DIGITS)))
# `repr` writes floats from 1e16 on, and below 1e-4, with an exponent; from e308 on they may be infinite.
_FRACTION = seq(_SIGN, alt(Lit("0"), seq(_FIRST, Rep(DIGITS, 0, 15))), Lit("."), Rep(DIGITS, 1, None))
_EXPONENT = seq(
    _SIGN,
    DIGITS,
    opt(seq(Lit("."), Rep(DIGITS, 1, None))),
    chars("eE"),
    alt(
        seq(Lit("-"), Rep(DIGITS, 1, 3)),
        seq(opt(Lit("+")), alt(seq(chars("12"), DIGITS, DIGITS), seq(Lit("30"), chars("0-7")), Rep(DIGITS, 1, 2))),
    ),
)
_UNICODE = seq(Lit("\\u"), alt(seq(chars("0-9a-ce-fA-CE-F"), _HEX), seq(chars("dD"), chars("0-7"))), _HEX, _HEX)
_PAIR = seq(Lit("\\u"), chars("dD"), chars("89abAB"), _HEX, _HEX, Lit("\\u"), chars("dD"), chars("c-fC-F"), _HEX, _HEX)
_SHORT = chars('"\\/bfnrt')
_JSON_ESCAPE = alt(seq(Lit("\\"), _SHORT), _UNICODE, _PAIR)
_NO_CONTROL = complement(((0x00, 0x1F),))
_PYTHON_IN = {quote: Chars(without(_NO_CONTROL, quote + "\\")) for quote in ("'", '"')}
_PYTHON_ESCAPES = {
    "'": alt(seq(Lit("\\"), chars("\\'nrt")), seq(Lit("\\x"), chars("01"), _HEX)),
    '"': alt(seq(Lit("\\"), chars("\\nrt")), seq(Lit("\\x"), chars("01"), _HEX)),
}


def _char(quote: str, syntax: Syntax) -> Expr:
    """One character of a string as it is written between such quotes."""
    if syntax.quotes[0] != '"':
        plain = _PYTHON_IN[quote]
    else:
        plain = Chars(intersection(PLAIN.ranges, ((0, 0x7F),))) if syntax.ascii else PLAIN
    return alt(plain, _escape(quote, syntax))


def _escape(quote: str, syntax: Syntax) -> Expr:
    """An escape in a string between such quotes."""
    return _JSON_ESCAPE if syntax.quotes[0] == '"' else _PYTHON_ESCAPES[quote]
