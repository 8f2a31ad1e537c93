"""`Format`: how a family of models writes an assistant's turn, declared as pictures of the text.

A declaration says what the text looks like; parser, stream, renderer, grammar and fingerprint are derived from it.
No family has code of its own. `docs/pictures.md` explains every word with an example.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Any, Literal, Self

from toolparse.errors import FormatError
from toolparse.picture import Around, Picture, around, read_picture

CALL_HOLES = frozenset({"name", "id", "index", "arguments", "params", "kwargs", "skip"})
BODIES = frozenset({"arguments", "params", "kwargs"})
PARAM_HOLES = frozenset({"key", "value", "type", "skip"})


SUFFIX = "{{suffix}}"
#: The fields that hold pictures or markers.
PICTURED = (
    "call",
    "section",
    "between",
    "lead",
    "param",
    "item",
    "reasoning",
    "content",
    "between_messages",
    "asides",
    "ends",
    "prefill",
)


@dataclass(frozen=True, slots=True)
class Syntax:
    """How values are spelled: JSON, Python literals, or a literal map with quotes of its own.

    `quotes`: what may enclose a string; the first one is written. `escapes`: whether backslashes escape inside them.
    `true`, `false`, `null`: the words as written (all usual spellings are read). `bare_keys`: keys of maps stand
    without quotes. `sort_keys`: maps are written with their keys in order. `colon`, `comma`: as written; the comma
    between arguments may be missing.
    `escape_controls`: whether newlines and other control characters are written as escapes. `ascii`: whether
    everything beyond ASCII is written as an escape. `texts`: whatever its type, an argument stands as text between the
    quotes, and the tool's schema says what it stands for; the quotes may be `''`, nothing at all. `json`: which values
    of arguments are JSON all the same, `("object", "array")` or one of them, where templates write words such as
    `True` for what stands alone and JSON for what has parts.
    """

    _: KW_ONLY
    quotes: tuple[str, ...] = ('"',)
    escapes: bool = True
    true: str = "true"
    false: str = "false"
    null: str = "null"
    bare_keys: bool = False
    sort_keys: bool = False
    colon: str = ": "
    comma: str = ", "
    ascii: bool = False
    texts: bool = False
    json: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return _differing(self)

    def of(self, kind: str) -> Syntax:
        """How an argument of a JSON type is spelled."""
        return JSON if kind in self.json else self

    @property
    def loose(self) -> bool:
        """Whether only what follows a value tells that it ended: no escapes in short quotes, no quotes, no comma."""
        return self.texts or not self.comma or (not self.escapes and any(len(quote) < 2 for quote in self.quotes))

    @property
    def own_quotes(self) -> bool:
        """Whether strings stand verbatim in quotes of several characters (`<|"|>`), and keys without."""
        return self.bare_keys and not self.escapes and not self.loose and len(self.quotes[0]) > 1

    @property
    def is_json(self) -> bool:
        """Whether what is written in this syntax is JSON."""
        return (
            self.quotes[:1] == ('"',)
            and self.escapes
            and not self.texts
            and not self.bare_keys
            and (self.true, self.false, self.null) == ("true", "false", "null")
        )


JSON = Syntax()
PYTHON = Syntax(quotes=("'", '"'), true="True", false="False", null="None")


@dataclass(frozen=True, slots=True)
class Also:
    """A spelling that is read and never written: what is given replaces the format's own field, the rest is kept.

    `slip`: it is none that the family's models were taught; a call in it is noted `repaired`.
    """

    _: KW_ONLY
    slip: bool = False
    call: str | None = None
    section: str | None = None
    between: str | None = None
    param: str | None = None
    item: str | None = None
    reasoning: str | None = None
    content: str | None = None
    syntax: Syntax | None = None
    types: Mapping[str, str] | tuple[tuple[str, str], ...] | None = None

    def __post_init__(self) -> None:
        _check_types(self, "Also(...)")
        if isinstance(self.types, Mapping):
            object.__setattr__(self, "types", tuple(self.types.items()))  # hashable

    def __repr__(self) -> str:
        return _differing(self)


class _Kept:
    """What a format works out once: formats are the keys of many caches, and their fields are long."""

    __slots__ = ("_hash", "_shapes")
    _hash: int
    _shapes: tuple[tuple[Format, bool], ...]


@dataclass(frozen=True, slots=True)
class Format(_Kept):
    """A family's assistant turn, as pictures.

    Calls:
      `call`      one call; holes: `name` (may repeat), `id`, `index`, `skip` and one body:
                  `arguments` (one value), `params` (a run of `param` pictures) or `kwargs` (`key=value, ...`).
      `section`   what stands around all calls of a turn, with the hole `calls`.
      `between`   what stands between two calls.
      `lead`      what stands between content and the first call.
      `param`     one parameter; holes `key` (may repeat), `value`, `type`, `skip`.
      `item`      one element of a list, where objects and lists are written as nested elements; with the hole `value`.
      `types`     the type attribute's spelling by JSON type (`string number integer boolean null object array`,
                  `*` for the rest).
      `literals`  whether the values of parameters stand as in any other place of `syntax`: strings in quotes.
      `wrap`      an optional wrapper of a text value (`<![CDATA[{{value}}]]>`), written when the value contains one of
                  the characters of `wrap_when`.
      `escapes`   pairs (character, entity) that are applied to names, keys and types written as attributes.
      `syntax`    how values other than text are spelled.
      `id`        a picture of the id from which the name follows (`functions.{{name}}:{{index}}`).
      `new_id`    how an id is made where the text carries none, in the form that the template accepts.
      `synonyms`  keys of a JSON wrapper that are read as another one, (read, meant) pairs.
      `no_call`   names that mean "no tool" and are dropped.
      `parallel`  whether a turn can hold more than one call.
    Anywhere: the hole `suffix`, for markers that carry a suffix of their checkpoint (`<think{{suffix}}>`); `bind` gives
    it, and where nobody did, the first marker in the text tells it.
    Turn:
      `reasoning` a thought, with the hole `text`; `content` likewise, where the family frames its content.
      `between_messages`  what stands between the messages of one turn, where a family frames them separately.
      `asides`    markers within content and thoughts that are no part of them, such as those of citations.
      `ends`      markers after which the turn is over. The first one is written.
      `prefill`   what the generation prompt already holds of the turn, by default.
      `calls_in_reasoning`  what a call inside an unfinished thought is: `draft` (text of the thought if the thought
                  is closed later), `call` (a call, and the thought goes on), `end` (it ends the thought).
    About:
      `also`      spellings that are read and never written: `Also(...)` or the picture of a call.
      `aliases`, `models`, `source`, `variant_of`.

    Raises FormatError, naming the field, when the declaration does not make sense.
    """

    name: str
    call: str = ""
    _: KW_ONLY
    section: str = "{{calls}}"
    between: str = ""
    lead: str = ""
    param: str | None = None
    item: str | None = None
    types: Mapping[str, str] | tuple[tuple[str, str], ...] | None = None
    literals: bool = False
    wrap: str | None = None
    wrap_when: str = ""
    escapes: tuple[tuple[str, str], ...] = ()
    syntax: Syntax = JSON
    id: str | None = None
    new_id: str | None = None
    synonyms: tuple[tuple[str, str], ...] = ()
    no_call: tuple[str, ...] = ()
    parallel: bool = True
    reasoning: str | None = None
    content: str = "{{text}}"
    between_messages: str = ""
    asides: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    prefill: str = ""
    calls_in_reasoning: Literal["draft", "call", "end"] = "draft"
    also: tuple[Also | str, ...] = ()
    aliases: tuple[str, ...] = ()
    models: str = ""
    source: str = ""
    variant_of: str | None = None

    def __post_init__(self) -> None:
        _check_types(self, f"format {self.name!r}")
        if not self.name or self.name != self.name.strip():
            raise FormatError("a format needs a name without surrounding blanks, such as Format('my-model', call=...)")
        if isinstance(self.types, Mapping):
            object.__setattr__(self, "types", tuple(self.types.items()))  # formats are hashable
        if any(not end.strip() for end in self.ends):
            raise FormatError(f"format {self.name!r}, field 'ends': an end marker must not be blank")
        if self.calls_in_reasoning not in ("draft", "call", "end"):
            raise FormatError(f"format {self.name!r}, field 'calls_in_reasoning': 'draft', 'call' or 'end'")
        if not self.call and not self.also:
            raise FormatError(f"format {self.name!r}, field 'call': give the picture of one call")
        for aside in self.asides:
            if aside.lstrip()[:1] in ("", "{"):
                raise FormatError(f"format {self.name!r}, field 'asides': a marker begins with characters of its own")
            self.picture("asides", aside, frozenset({"skip"}), frozenset())
        for shape in self.shapes():
            if shape is self:  # the others were checked when they were made
                shape._check()
        if self.wrap is not None:
            self.picture("wrap", self.wrap, frozenset({"value"}))
        if self.id is not None:
            self.picture("id", self.id, frozenset({"name", "index", "skip"}), frozenset())

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            made = hash(tuple(getattr(self, name) for name in self.__dataclass_fields__))
            object.__setattr__(self, "_hash", made)
            return made

    def _check(self) -> None:
        self.picture("section", self.section, frozenset({"calls"}))
        if self.call:
            picture = self.picture("call", self.call, CALL_HOLES, required=frozenset())
            bodies = [hole for hole in picture.holes() if hole in BODIES]
            if len(bodies) != 1:
                raise FormatError(
                    f"format {self.name!r}, field 'call': a call needs exactly one of "
                    f"{{{{arguments}}}}, {{{{params}}}}, {{{{kwargs}}}}, here are {len(bodies)}\n    {self.call!r}"
                )
            if "name" not in picture.holes() and not (self.id and "id" in picture.holes() and "{{name}}" in self.id):
                raise FormatError(
                    f"format {self.name!r}, field 'call': nothing gives the tool's name; write {{{{name}}}}, "
                    f"or {{{{id}}}} together with an id picture that holds it\n    {self.call!r}"
                )
            announced = self.block.opening or self.between_messages or not self.parallel
            if bodies != ["kwargs"] and self.call.lstrip().startswith("{{name}}") and not announced:
                raise FormatError(
                    f"format {self.name!r}, field 'call': nothing stands before the name, so that behind a call that "
                    "can't be read the next one can't be found; show what announces a call (in 'call' or 'section'), "
                    f"or that each is a message of its own ('between_messages')\n    {self.call!r}"
                )
            if bodies == ["params"] and self.param is None:
                raise FormatError(
                    f"format {self.name!r}, field 'param': {{{{params}}}} needs the picture of one parameter"
                )
        if self.param is not None:
            self.picture("param", self.param, PARAM_HOLES, required=frozenset({"key", "value"}))
        if self.item is not None:
            self.picture("item", self.item, PARAM_HOLES, required=frozenset({"value"}))
        if self.reasoning is not None:
            self.picture("reasoning", self.reasoning, frozenset({"text", "skip"}), required=frozenset({"text"}))
        self.picture("content", self.content, frozenset({"text", "skip"}), required=frozenset({"text"}))

    def picture(
        self, field: str, source: str, holes: frozenset[str], required: frozenset[str] | None = None
    ) -> Picture:
        """The picture of a field, read; raises FormatError when it does not fit."""
        return read_picture(
            source.replace(SUFFIX, ""),
            field=field,
            holes=holes,
            required=holes if required is None else required,
            owner=self.name,
        )

    @property
    def body(self) -> str:
        """Which hole takes a call's arguments: `arguments`, `params` or `kwargs`; '' where no call is shown."""
        return next((body for body in BODIES if f"{{{{{body}}}}}" in self.call), "")

    @property
    def thought(self) -> Around:
        """What stands around a thought."""
        return around(self.reasoning, "text")

    @property
    def said(self) -> Around:
        """What stands around content."""
        return around(self.content, "text")

    @property
    def block(self) -> Around:
        """What stands around all calls of a turn."""
        return around(self.section, "calls")

    @property
    def call_end(self) -> str:
        """What stands behind the last hole of a call; markers without a suffix."""
        return self.bind("").call.rpartition("}}")[2]

    @property
    def wrapping(self) -> Around | None:
        """What stands around a text value that needs a wrapper; None where the format has none."""
        return None if self.wrap is None else around(self.wrap, "value")

    def wrapped(self, text: str) -> str:
        """A text value, wrapped where it holds what the wrapper is for."""
        return self.wrapping.write(text) if self.wrapping and any(char in text for char in self.wrap_when) else text

    def shapes(self) -> tuple[Format, ...]:
        """The format itself and each alternative spelling as a format of its own, in the order of trial."""
        return tuple(shape for shape, _ in self.spellings())

    def spellings(self) -> tuple[tuple[Format, bool], ...]:
        """The shapes, each with whether it is a slip."""
        made: tuple[tuple[Format, bool], ...] | None = getattr(self, "_shapes", None)
        if made is None:
            made = self._all_shapes()
            object.__setattr__(self, "_shapes", made)
        return made

    def _all_shapes(self) -> tuple[tuple[Format, bool], ...]:
        plain = dataclasses.replace(self, also=()) if self.also else self
        shapes = [(plain, False)] if self.call else []
        for also in self.also:
            if isinstance(also, str):
                also = Also(call=also)
            given = {f.name: getattr(also, f.name) for f in dataclasses.fields(also) if f.name != "slip"}
            given = {name: value for name, value in given.items() if value is not None}
            base = plain if self.call else dataclasses.replace(self, also=(), call=given.get("call", ""))
            shapes.append((dataclasses.replace(base, **given), also.slip))
        return tuple(shapes)

    @property
    def has_suffix(self) -> bool:
        """Whether markers carry a suffix that is not known yet."""
        return any(SUFFIX in source for source in self.sources())

    def sources(self) -> tuple[str, ...]:
        """Every picture and marker as written, those of the alternative spellings included."""
        found: list[str] = []
        for entry in (self, *self.also):
            if isinstance(entry, str):
                found.append(entry)
                continue
            for name in PICTURED:
                value = getattr(entry, name, None)
                found.extend((value,) if isinstance(value, str) else value or ())
        return tuple(found)

    def bind(self, suffix: str) -> Format:
        """This format with the suffix of one checkpoint in its markers (`:opensource`, or nothing)."""
        return _bind(self, suffix)

    def variant(self, name: str, **changes: Any) -> Self:
        """A format like this one but for the given fields; it records where it came from."""
        changes.setdefault("variant_of", self.name)
        changes.setdefault("aliases", ())
        changes.setdefault("models", "")
        return dataclasses.replace(self, name=name, **changes)

    def __str__(self) -> str:
        """The declaration as Python: evaluating it gives an equal format."""
        lines = [f"Format(\n    {self.name!r},"]
        for name, value in _given(self):
            if name != "name":
                lines.append(f"    {name}={value!r},")
        return "\n".join([*lines, ")"])

    def __repr__(self) -> str:
        """The name and what a call looks like; `str` gives the whole declaration."""
        look = (self.block.write(self.call) or "also=...").replace("\n", "⏎")
        return f"<Format {self.name!r}: {look if len(look) <= 90 else look[:89] + '…'}>"


def _given(value: Any) -> list[tuple[str, Any]]:
    """The fields of a declaration that are not what they are by default."""
    fields = [(field.name, getattr(value, field.name), field.default) for field in dataclasses.fields(value)]
    return [(name, given) for name, given, default in fields if given != default]


def _differing(value: Any) -> str:
    """A declaration as Python, with what differs from the defaults."""
    return f"{type(value).__name__}({', '.join(f'{name}={given!r}' for name, given in _given(value))})"


#: What the fields of declarations may hold, by the beginning of their annotation.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "a text"),
    "bool": ((bool,), "True or False"),
    "Syntax": ((Syntax,), "a Syntax"),
    "Literal": ((str,), "a text"),
    "tuple": ((tuple,), "a tuple"),
    "Mapping": ((Mapping, tuple, type(None)), "a dict"),
}


def _check_types(value: Any, owner: str) -> None:
    """Raises FormatError, naming the field, for a value of another type than the declaration has."""
    for field in dataclasses.fields(value):
        given: Any = getattr(value, field.name)
        declared = str(field.type)
        kinds, wanted = _TYPES[declared.partition("[")[0].partition(" ")[0]]
        if isinstance(given, kinds) or (given is None and "None" in declared):
            parts = {"tuple[str, ...]": (str,), "tuple[Also | str, ...]": (str, Also)}.get(declared, ())
            members: tuple[Any, ...] = getattr(value, field.name) if parts else ()
            wrong = [part for part in members if not isinstance(part, parts)]
            if not wrong:
                continue
            given, wanted = wrong[0], "a tuple of texts" if parts == (str,) else "a tuple of pictures and Also(...)"
        said = f"{wanted} belongs here, not {type(given).__name__} {given!r:.40}"
        if wanted == "a tuple" and isinstance(given, str):
            said = f"write a tuple, such as ({given!r},)"
        raise FormatError(f"{owner}, field {field.name!r}: {said}")


@lru_cache(maxsize=256)
def _bind(format: Format, suffix: str) -> Format:
    if not format.has_suffix:
        return format

    def bound(entry: Any) -> Any:
        if isinstance(entry, str):
            return entry.replace(SUFFIX, suffix)
        changes: dict[str, Any] = {}
        for name in PICTURED:
            value = getattr(entry, name, None)
            if isinstance(value, str):
                changes[name] = value.replace(SUFFIX, suffix)
            elif value is not None:
                changes[name] = tuple(text.replace(SUFFIX, suffix) for text in value)
        if isinstance(entry, Format):
            changes["also"] = tuple(bound(also) for also in entry.also)
        return dataclasses.replace(entry, **changes)

    found: Format = bound(format)
    return found
