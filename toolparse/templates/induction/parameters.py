"""Parameters that stand as elements of their own: how values are spelled, typed and wrapped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from toolparse.format import JSON, Syntax
from toolparse.templates.induction.arguments import json_kinds, syntax_of_value
from toolparse.templates.induction.atoms import Atom, Atoms, Hole, atoms, common_end, common_start, find, text_of
from toolparse.templates.induction.call_bounds import Param, Reader
from toolparse.templates.induction.probe import KEYS, TYPED, TYPES, VALUES, calling

_JSON_TYPES = {
    "kwstring": "string",
    "kvinteger": "integer",
    "kunumber": "number",
    "kttrue": "boolean",
    "ksfalse": "boolean",
    "krnull": "null",
    "kqobject": "object",
    "kparray": "array",
    "kotext": "string",
}


class ParamLearner:
    """Learns from one call with a value of every type; what is not seen stays None."""

    def __init__(self, reader: Reader) -> None:
        assert reader.param is not None
        self.prober = reader.prober
        self.cutter = reader.cutter
        self.param: Param = reader.param
        self.types: dict[str, str] | None = None
        self.syntax: Syntax | None = None
        self.item: str | None = None
        self.wrap: str | None = None
        self.wrap_when = ""
        self.literals = False
        self._places: dict[str, int] = {}

    def learn(self) -> bool:
        """Whether the values of all types are written in the parameter's picture."""
        full = self.prober.full(TYPES)
        values = self._values(self.cutter.turn(full)) if full is not None else None
        written = self.param
        if values is None and full is not None and self._unquote():
            values = self._values(self.cutter.turn(full))
            quoted = values is not None and values["kwstring"][0] == f'"{TYPED["kwstring"]}"'
            self.literals = quoted and values is not None and values["kvinteger"][0] == str(TYPED["kvinteger"])
            if not self.literals:
                self.param = written
                return False
        if values is None:
            return False
        self._types(values)
        texts = {key: text for key, (text, _) in values.items()}
        self.item = self._item(texts)
        self.syntax = _value_syntax(texts, nested=self.item is not None)
        if sorted(values, key=lambda key: self._places[key]) == sorted(values):
            self.syntax = dataclasses.replace(self.syntax, sort_keys=True)
        if not self.literals:
            self._wrap()
        return True

    def _unquote(self) -> bool:
        """Take the quotes around a value for a part of it; False where there are none."""
        opening, core, closing = self.param
        at = find(core, "value")
        behind = [*core[at + 1 :], *closing]
        if at < 1 or core[at - 1] != '"' or behind[:1] != ['"']:
            return False
        core = [*core[: at - 1], *core[at : at + 1], *behind[1 : len(core) - at]]
        self.param = (opening, core, behind[max(1, len(self.param[1]) - at - 1) :])
        return True

    def fields(self) -> dict[str, Any]:
        """What was learnt, as fields of a Format."""
        opening, core, closing = self.param
        found: dict[str, Any] = {
            "param": text_of([*opening, *core, *closing]),
            "types": self.types,
            "wrap": self.wrap,
            "item": self.item,
            "literals": self.literals or None,
        }
        if self.syntax is not None:
            found["syntax"] = self.syntax
        if self.wrap is not None:
            found["wrap_when"] = self.wrap_when
        return found

    def _values(self, turn: str) -> dict[str, tuple[str, Atoms]] | None:
        """The text of every typed parameter's value, and what stands between its key and its value."""
        _, core, closing = self.param
        keys = [index for index, atom in enumerate(core) if isinstance(atom, Hole) and atom.kind == "key"]
        value_at = find(core, "value")
        first, after = core[keys[0] + 1 : value_at], core[value_at + 1 :]
        ends = text_of(after) + text_of(closing).rstrip()
        found: dict[str, tuple[str, Atoms]] = {}
        self._places = {key: turn.find(key) for key in TYPED}
        places = sorted(self._places.values())
        for key in TYPED:
            at = turn.find(key)
            if at < 0 or not ends:
                return None
            begin = at + len(key)
            following = places[places.index(at) + 1 :]
            own = ends.replace("{{key}}", key)  # the last one before the next key: elements may stand in elements
            stop = turn.rfind(own, begin, following[0]) if following else turn.find(own, begin)
            if stop < 0:
                return None
            between, cut = _up_to_value(turn[begin:stop], first)
            found[key] = (turn[begin + cut : stop], between)
        return found

    def _types(self, values: Mapping[str, tuple[str, Atoms]]) -> None:
        """A type attribute shows itself by what differs between the types."""
        spelled = {key: between for key, (_, between) in values.items()}
        texts = {key: text_of(between) for key, between in spelled.items()}
        if len(set(texts.values())) < 2:
            return
        start = common_start(*spelled.values())
        end = min(common_end(*spelled.values()), min(len(run) for run in spelled.values()) - start)
        words = {key: text_of(run[start : len(run) - end]) for key, run in spelled.items()}
        types = {_JSON_TYPES[key]: word for key, word in words.items()}
        opening, core, closing = self.param
        key_at, value_at = find(core, "key"), find(core, "value")
        between = core[key_at + 1 : value_at]
        core = [*core[: key_at + 1], *between[:start], Hole("type"), *between[len(between) - end :], *core[value_at:]]
        self.param = (opening, core, closing)
        common = max(set(types.values()), key=list(types.values()).count)
        compact = {kind: word for kind, word in types.items() if word != common}
        self.types = {**compact, "*": common} if len(compact) < len(types) - 1 else types

    def _item(self, written: Mapping[str, str]) -> str | None:
        """The picture of a list's element, where lists and objects are nested elements like the parameters."""
        first, second = TYPED["kparray"][0], str(TYPED["kparray"][1])
        text = written["kparray"]
        if f'"{first}"' in text or f"'{first}'" in text or first not in text:
            return None  # a list in JSON or Python
        opening, _, rest = text.partition(first)
        between = rest.partition(second)[0]
        picture, again = opening, opening
        before, word, after = opening.rpartition(self._type("string") or "\0")
        if word:  # elements have the type attribute of parameters
            picture = before + "{{type}}" + after
            again = before + self._type("integer") + after
        closing = between.removesuffix(again)
        if not opening.strip() or closing == between or not text.rstrip().endswith(closing.rstrip()):
            return None
        return picture + "{{value}}" + closing

    def _wrap(self) -> None:
        """A wrapper that is written around texts with certain characters only."""
        probe = f"{VALUES[0]}<{VALUES[1]}&{VALUES[2]}"
        written = self._written(probe)
        if written is None or written == probe or probe not in written:
            return
        self.wrap = written.replace(probe, "{{value}}")
        texts = {char: f"{VALUES[0]}{char}{VALUES[1]}" for char in "<>&\"'\n"}
        self.wrap_when = "".join(char for char, text in texts.items() if self._written(text) != text)

    def _type(self, kind: str) -> str:
        types = self.types or {}
        return types.get(kind, types.get("*", ""))

    def _written(self, value: str) -> str | None:
        """How a text value is written."""
        full = self.prober.full(calling({KEYS[0]: value}))
        if full is None:
            return None
        opening, core, closing = self.param
        before, _, after = text_of([*opening, *core, *closing]).partition("{{value}}")
        before = before.replace("{{key}}", KEYS[0]).replace("{{type}}", self._type("string"))
        after = after.rstrip().replace("{{key}}", KEYS[0])
        start = full.find(before.rpartition("{{type}}")[2])
        stop = full.rfind(after)
        return full[start + len(before) : stop] if 0 <= start < stop else None


def _up_to_value(stretch: str, first: Sequence[Atom]) -> tuple[Atoms, int]:
    """What stands between a key and its value, and where the value begins; `first` is how it was for a string."""
    sequence = atoms(stretch)
    wanted = [atom for atom in first if isinstance(atom, str)]
    if sequence[: len(wanted)] == wanted:
        return list(wanted), len(text_of(wanted))
    # A type attribute differs: agree on what follows it, as far as the string's picture goes.
    start = common_start(sequence, wanted)
    rest = text_of(wanted[start + 1 :])
    at = stretch.find(rest, len(text_of(sequence[:start])))
    if at < 0 or not rest:
        return [], 0
    cut = at + len(rest)
    return atoms(stretch[:cut]), cut


def _value_syntax(written: Mapping[str, str], *, nested: bool) -> Syntax:
    """How values other than text are spelled in parameters."""
    container = JSON if nested else syntax_of_value(written["kqobject"], TYPED["kqobject"]) or JSON
    words = {"true": written["kttrue"], "false": written["ksfalse"], "null": written["krnull"]}
    if any(not word.isalpha() for word in words.values()):
        return container
    syntax = dataclasses.replace(container, true=words["true"], false=words["false"], null=words["null"])
    return syntax if nested else dataclasses.replace(syntax, json=json_kinds(written, syntax))
