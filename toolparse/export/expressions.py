"""Grammars as values: literals, character classes, sequences, alternatives, repetitions, references, automata.

Everything that only looks at characters stands in rules marked as tokens, so that a grammar for an engine with a lexer
can write them as regular expressions. What must not contain a marker is an `Automaton`: a deterministic machine that
reads text up to the first occurrence of a closing string. It costs one state per character of the markers, needs no
look-ahead (no engine has any), and is the same language in all syntaxes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

MAX_CHAR = 0x10FFFF
_CONTROLS = ((0x00, 0x1F),)
# How JSON writes the characters that can't stand in a string as themselves.
_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Lit:
    """Exactly these characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of some ranges of code points, which are in order and apart."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Seq:
    """One after the other."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """One of several."""

    options: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Rep:
    """At least `low` and at most `high` times (None: any number)."""

    item: Expr
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Ref:
    """What a rule says."""

    name: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What an automaton accepts. `quoted`: as it is spelled inside a JSON string."""

    automaton: Automaton
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Meet:
    """What several expressions without references accept, all of them. `quoted`: as spelled inside a JSON string."""

    parts: tuple[Expr, ...]
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON value of a schema, which the engine itself reads; the schema as JSON."""

    text: str


@dataclass(frozen=True, slots=True)
class Free:
    """Any text without some strings, as long as the engine likes; structural tags only."""

    excluded: tuple[str, ...]


Expr = Lit | Chars | Seq | Alt | Rep | Ref | Scan | Meet | Schema | Free
EMPTY = Seq(())


def seq(*items: Expr) -> Expr:
    """A sequence without nesting, empty parts and neighbouring literals."""
    flat: list[Expr] = []
    for item in items:
        for part in item.items if isinstance(item, Seq) else (item,):
            last = flat[-1] if flat else None
            if isinstance(part, Lit):
                if not part.text:
                    continue
                if isinstance(last, Lit):
                    flat[-1] = Lit(last.text + part.text)
                    continue
            flat.append(part)
    return flat[0] if len(flat) == 1 else Seq(tuple(flat))


def alt(*options: Expr) -> Expr:
    """An alternative without nesting and repetition; classes are joined."""
    flat: list[Expr] = []
    ranges: Ranges = ()
    for option in options:
        for part in option.options if isinstance(option, Alt) else (option,):
            if isinstance(part, Chars):
                ranges = union(ranges, part.ranges)
            elif part not in flat:
                flat.append(part)
    if ranges:
        flat.append(Chars(ranges))
    return flat[0] if len(flat) == 1 else Alt(tuple(flat))


def opt(item: Expr) -> Expr:
    """The item or nothing."""
    return item if item == EMPTY else Rep(item, 0, 1)


def star(item: Expr) -> Expr:
    """The item, any number of times."""
    return item if item == EMPTY else Rep(item, 0, None)


# -- sets of characters ---------------------------------------------------------------------------------------------


def chars(text: str) -> Chars:
    """A class as in a regular expression, without escapes: `chars("a-z_")`."""
    ranges: Ranges = ()
    for match in re.finditer(r"(.)-(.)|(.)", text, re.DOTALL):
        low, high, one = match.groups()
        ranges = union(ranges, ((ord(one or low), ord(one or high)),))
    return Chars(ranges)


def union(left: Ranges, right: Ranges) -> Ranges:
    """The characters of both."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted((*left, *right)):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return tuple(joined)


def complement(ranges: Ranges) -> Ranges:
    """All other characters."""
    gaps: list[tuple[int, int]] = []
    at = 0
    for low, high in ranges:
        if low > at:
            gaps.append((at, low - 1))
        at = high + 1
    if at <= MAX_CHAR:
        gaps.append((at, MAX_CHAR))
    return tuple(gaps)


def intersection(left: Ranges, right: Ranges) -> Ranges:
    """The characters that are in both."""
    found = []
    for low, high in left:
        for other_low, other_high in right:
            if max(low, other_low) <= min(high, other_high):
                found.append((max(low, other_low), min(high, other_high)))
    return tuple(sorted(found))


def without(ranges: Ranges, text: str) -> Ranges:
    """The characters but for those of a text."""
    return intersection(ranges, complement(points(text)))


def points(text: Iterable[str]) -> Ranges:
    """The characters of a text."""
    return union((), tuple((ord(char), ord(char)) for char in text))


PLAIN = Chars(complement(union(_CONTROLS, points('"\\'))))
DIGITS = chars("0-9")


# -- automata -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """A deterministic automaton; state 0 is the first. Automata are made once and compared by identity.

    `edges[state]`: where the characters of a class lead; the classes of one state are apart from each other.
    `final`: the states in which the text may end.
    `excluded`: strings that the text must not hold, where no more is asked than that, or that it isn't empty, too.
    """

    edges: tuple[tuple[tuple[Ranges, int], ...], ...]
    final: frozenset[int]
    excluded: tuple[str, ...] = ()


ANY: Ranges = ((0, MAX_CHAR),)


@lru_cache(maxsize=512)
def until(then: str, excluded: tuple[str, ...] = ()) -> Automaton:
    """Any text up to and including the first `then`, in which none of `excluded` occurs before that.

    An empty `then`: any text without `excluded`.
    """
    place = {"": 0}
    longer: dict[str, dict[str, str]] = {"": {}}
    for word in (then, *excluded):
        for size in range(1, len(word) + 1):
            prefix = word[:size]
            if prefix not in place:
                place[prefix] = len(place)
                longer[prefix] = {}
                longer[prefix[:-1]][prefix[-1]] = prefix
    bad = {word for word in excluded if word}
    # Where a character leads from a prefix, if not back to the beginning: what leads on from the longest ending of the
    # prefix that is a prefix itself leads on from the prefix, too. Short ones come first.
    leads: dict[str, dict[str, str]] = {}
    edges: dict[str, tuple[tuple[Ranges, int], ...]] = {}
    for word in sorted(place, key=len):
        ending = next((word[at:] for at in range(1, len(word)) if word[at:] in place), "")
        if ending in bad:
            bad.add(word)
        leads[word] = {**leads[ending], **longer[word]} if word else longer[word]
    for word in place:
        targets: dict[str, list[str]] = {}
        for char, reached in leads[word].items():
            if reached == then or reached not in bad:
                targets.setdefault(reached, []).append(char)
        ways = [(points(found), place[reached]) for reached, found in targets.items()]
        edges[word] = (*ways, (complement(points(leads[word])), 0)) if not then or word != then else ()
    final = frozenset({place[then]}) if then else frozenset(place.values())
    return trimmed(list(edges.values()), final)


def text_without(excluded: Sequence[str], *, empty: bool = True) -> Automaton:
    """Any text in which none of `excluded` occurs. `empty`: whether it may be empty."""
    return _text_without(tuple(dict.fromkeys(excluded)), empty)


@lru_cache(maxsize=512)
def _text_without(excluded: tuple[str, ...], empty: bool) -> Automaton:
    automaton = until("", excluded)
    return replace(automaton if empty else both(automaton, names_but(())), excluded=excluded)


@lru_cache(maxsize=512)
def names_but(taken: tuple[str, ...], first: Ranges = ANY, rest: Ranges = ANY) -> Automaton:
    """Texts of at least one character, the first one and the others of some classes, other than those taken."""
    words = {word for word in taken if word}
    prefixes = {"": 0}
    for word in sorted(words):
        for size in range(1, len(word) + 1):
            prefixes.setdefault(word[:size], len(prefixes))
    free = len(prefixes)
    edges: list[tuple[tuple[Ranges, int], ...]] = []
    for prefix in prefixes:
        allowed = rest if prefix else first
        on = {word[-1]: at for word, at in prefixes.items() if word[:-1] == prefix and word}
        found = [(both, at) for char, at in on.items() if (both := intersection(points(char), allowed))]
        other = without(allowed, "".join(on))
        edges.append((*found, *(((other, free),) if other else ())))
    edges.append(((rest, free),))
    final = set(range(1, free + 1)) - {prefixes[word] for word in words}
    return trimmed(edges, frozenset(final))


@lru_cache(maxsize=512)
def both(left: Automaton, right: Automaton) -> Automaton:
    """What two automata accept."""
    number = {(0, 0): 0}
    pending = [(0, 0)]
    edges: list[tuple[tuple[Ranges, int], ...]] = []
    for pair in pending:
        found: list[tuple[Ranges, int]] = []
        for ranges, to in left.edges[pair[0]]:
            for other, other_to in right.edges[pair[1]]:
                shared = intersection(ranges, other)
                if shared:
                    if (to, other_to) not in number:
                        number[to, other_to] = len(number)
                        pending.append((to, other_to))
                    found.append((shared, number[to, other_to]))
        edges.append(tuple(found))
    final = {at for pair, at in number.items() if pair[0] in left.final and pair[1] in right.final}
    return trimmed(edges, frozenset(final))


def trimmed(edges: Sequence[tuple[tuple[Ranges, int], ...]], final: frozenset[int]) -> Automaton:
    """An automaton without the states that nothing reaches or that lead nowhere, the near ones first.

    States from which only finitely many texts lead to an end, the same ones, are one.
    """
    before: list[set[int]] = [set() for _ in edges]
    for state, found in enumerate(edges):
        for _, to in found:
            before[to].add(state)
    useful = set(final)
    pending = list(final)
    while pending:
        for state in before[pending.pop()]:
            if state not in useful:
                useful.add(state)
                pending.append(state)
    one: dict[int, int] = {}
    alike: dict[tuple[Any, ...], int] = {}
    ahead = [len({to for _, to in found if to in useful}) for found in edges]
    ended = [state for state in useful if not ahead[state]]
    for state in ended:
        leads: dict[int, Ranges] = {}
        for ranges, to in edges[state]:
            if to in useful:
                leads[one[to]] = union(leads.get(one[to], ()), ranges)
        one[state] = alike.setdefault((state in final, *sorted(leads.items())), state)
        for earlier in before[state] & useful:
            ahead[earlier] -= 1
            if not ahead[earlier]:
                ended.append(earlier)
    number = {one.get(0, 0): 0}
    order = [*number]
    kept: list[tuple[tuple[Ranges, int], ...]] = []
    for state in order:
        reached: dict[int, Ranges] = {}
        for ranges, to in edges[state]:
            if to in useful:
                reached[one.get(to, to)] = union(reached.get(one.get(to, to), ()), ranges)
        for to in reached:
            if to not in number:
                number[to] = len(number)
                order.append(to)
        kept.append(tuple((ranges, number[to]) for to, ranges in reached.items()))
    return Automaton(tuple(kept), frozenset(number[state] for state in final if state in number))


@lru_cache(maxsize=512)
def as_expression(automaton: Automaton) -> Expr:
    """An automaton as a regular expression: its states are eliminated, the farthest from the first one first.

    Markers make tries, and the states of a trie have one way in: the expression stays of the size of the trie. Of two
    ways the one through the state that is eliminated comes first: it is the longer one where both fit, so that engines
    which take the first alternative take the longest match, too.
    """
    end = len(automaton.edges)
    begin = end + 1
    ways: dict[int, dict[int, Expr]] = {begin: {0: EMPTY}, end: {}}
    into: dict[int, set[int]] = {0: {begin}, end: set()}
    for state, found in enumerate(automaton.edges):
        ways[state] = {}
        targets: list[tuple[Expr, int]] = [(Chars(ranges), to) for ranges, to in found]
        if state in automaton.final:
            targets.append((EMPTY, end))
        for label, to in targets:
            _join(ways, into, state, to, label)
    for state in sorted(range(len(automaton.edges)), reverse=True):
        loop = ways[state].pop(state, None)
        into.setdefault(state, set()).discard(state)
        around = star(loop) if loop is not None else EMPTY
        for before in into[state]:
            first = ways[before].pop(state)
            for to, last in ways[state].items():
                _join(ways, into, before, to, seq(first, around, last))
        for to in ways.pop(state):
            into[to].discard(state)
    return ways[begin].get(end, EMPTY)


def _join(ways: dict[int, dict[int, Expr]], into: dict[int, set[int]], left: int, right: int, label: Expr) -> None:
    known = ways[left].get(right)
    ways[left][right] = label if known is None else _either(label, known)
    into.setdefault(right, set()).add(left)


def _either(left: Expr, right: Expr) -> Expr:
    if left == EMPTY or right == EMPTY:
        other = right if left == EMPTY else left
        if isinstance(other, Seq) and len(other.items) == 2:
            one, more = other.items
            if isinstance(one, Chars) and isinstance(more, Rep) and more.item == one and more.low == 0 and more.high:
                return Rep(one, 0, more.high + 1)
        return opt(other)
    if isinstance(left, Rep) and (left.low, left.high) == (0, 1):
        return opt(alt(left.item, right))
    return alt(left, right)


# -- inside a JSON string ---------------------------------------------------------------------------------------------


def quoted(expr: Expr, names: Mapping[str, str]) -> Expr:
    """What an expression is inside a JSON string; `names`: the rules that say the same for its references."""
    if isinstance(expr, Lit):
        return Lit("".join(_quoted_char(char) for char in expr.text))
    if isinstance(expr, Chars):
        return quoted_class(expr.ranges)
    if isinstance(expr, Seq):
        return seq(*(quoted(item, names) for item in expr.items))
    if isinstance(expr, Alt):
        return alt(*(quoted(option, names) for option in expr.options))
    if isinstance(expr, Rep):
        return Rep(quoted(expr.item, names), expr.low, expr.high)
    if isinstance(expr, Ref):
        return Ref(names[expr.name])
    if isinstance(expr, Scan):
        return Scan(expr.automaton, quoted=True)
    if isinstance(expr, Meet):
        return Meet(expr.parts, quoted=True)
    raise TypeError(f"{type(expr).__name__} can't stand in a string")


def quoted_class(ranges: Ranges) -> Expr:
    """The characters of a class, each as JSON writes it in a string."""
    options: list[Expr] = []
    plain = intersection(ranges, PLAIN.ranges)
    if plain:
        options.append(Chars(plain))
    options.extend(Lit(escape) for char, escape in _SHORT_ESCAPES.items() if intersection(ranges, points(char)))
    controls = without(intersection(ranges, _CONTROLS), "".join(_SHORT_ESCAPES))
    options.extend(Lit(f"\\u{code:04x}") for low, high in controls for code in range(low, high + 1))
    return alt(*options)


def _quoted_char(char: str) -> str:
    return _SHORT_ESCAPES.get(char) or (char if char >= " " else f"\\u{ord(char):04x}")


# -- rules ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. `token`: it holds characters only, and may be written as a regular expression."""

    expr: Expr
    token: bool


class Rules:
    """The rules of a grammar under unique names, which consist of lower-case letters, digits and hyphens.

    `tokens`: markers that are tokens of their own, with their ids.
    """

    def __init__(self, tokens: Mapping[str, int] | None = None) -> None:
        self.tokens = dict(tokens or {})
        self.rules: dict[str, Rule] = {}
        self._same: dict[tuple[Expr, bool], str] = {}

    def reserve(self, hint: str) -> str:
        """A name that nobody has, for a rule that is defined later."""
        base = re.sub(r"[^a-z0-9]+", "-", hint.lower()).strip("-") or "rule"
        if not base[0].isalpha():
            base = f"r-{base}"
        name, count = base, 1
        while name in self.rules:
            count += 1
            name = f"{base}-x{count}"
        self.rules[name] = Rule(EMPTY, token=False)
        return name

    def define(self, name: str, expr: Expr, *, token: bool = False) -> None:
        """Say what a reserved name means."""
        self.rules[name] = Rule(expr, token)

    def add(self, hint: str, expr: Expr, *, token: bool = False) -> Expr:
        """A rule for an expression; the same expression gets the same rule."""
        if expr == EMPTY or isinstance(expr, Ref):
            return expr
        known = self._same.get((expr, token))
        if known is None:
            known = self._same[expr, token] = self.reserve(hint)
            self.define(known, expr, token=token)
        return Ref(known)

    def once(self, known: dict[str, Expr], schema: Any, hint: str, make: Callable[[], Expr]) -> Expr:
        """A rule for a schema, made once: the same schema gets the same rule, which may mention itself."""
        key = json.dumps(schema, sort_keys=True, default=str)
        if key not in known:
            name = self.reserve(hint)
            known[key] = Ref(name)
            self.define(name, make())
        return known[key]

    def used(self, root: Expr) -> dict[str, Rule]:
        """The rules that an expression needs, those near to it first."""
        order: dict[str, Rule] = {}
        pending = [root]
        for expr in pending:
            for name in references(expr):
                if name not in order:
                    order[name] = self.rules[name]
                    pending.append(self.rules[name].expr)
        return order

    def endless(self, root: Expr) -> list[str]:
        """The rules without which an expression can't do, and of which no text comes: each needs itself again."""
        used = self.used(root)
        ending: set[str] = set()
        while grown := [name for name in used if name not in ending and _ends(used[name].expr, ending)]:
            ending.update(grown)
        return [name for name in used if name not in ending]

    def quote(self, root: Expr, prefix: str) -> Expr:
        """An expression as it stands inside a JSON string, with copies of all rules that it needs."""
        names = {name: self.reserve(f"{prefix}-{name}") for name in self.used(root)}
        for name, copy in names.items():
            rule = self.rules[name]
            self.define(copy, quoted(rule.expr, names), token=rule.token)
        return quoted(root, names)


class Holding:
    """Whether an expression holds what a test finds, itself or in the rules that it mentions."""

    def __init__(self, rules: Rules, test: Callable[[Expr], bool]) -> None:
        self._rules = rules
        self._test = test
        self._known: dict[str, bool] = {}

    def __call__(self, expr: Expr) -> bool:
        return self._here(expr) or any(map(self.rule, references(expr)))

    def rule(self, name: str) -> bool:
        """The same of a rule."""
        if name not in self._known:
            self._known[name] = any(self._here(rule.expr) for rule in self._rules.used(Ref(name)).values())
        return self._known[name]

    def _here(self, expr: Expr) -> bool:
        return self._test(expr) or any(map(self._here, parts(expr)))


def _ends(expr: Expr, ending: Collection[str]) -> bool:
    """Whether texts come of an expression, given the rules of which they do."""
    if isinstance(expr, Ref):
        return expr.name in ending
    if isinstance(expr, Alt):
        return any(_ends(option, ending) for option in expr.options)
    return (isinstance(expr, Rep) and not expr.low) or all(_ends(part, ending) for part in parts(expr))


def parts(expr: Expr) -> tuple[Expr, ...]:
    """The expressions of which an expression is made."""
    if isinstance(expr, Seq):
        return expr.items
    if isinstance(expr, Alt):
        return expr.options
    return (expr.item,) if isinstance(expr, Rep) else ()


def references(expr: Expr) -> list[str]:
    """The names of the rules that an expression mentions."""
    if isinstance(expr, Ref):
        return [expr.name]
    return [name for part in parts(expr) for name in references(part)]
