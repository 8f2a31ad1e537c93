"""Rules -> text: GBNF (llama.cpp), EBNF (xgrammar) and Lark (lark and llguidance).

Markers that are tokens of their own are written as tokens, by their ids, in EBNF and Lark. In GBNF they stay text:
llama.cpp matches the text of every token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from toolparse.errors import ExportError
from toolparse.export.constraints import NotSaid, determined, product
from toolparse.export.expressions import (
    ANY,
    EMPTY,
    MAX_CHAR,
    Alt,
    Chars,
    Expr,
    Holding,
    Lit,
    Meet,
    Ranges,
    Ref,
    Rep,
    Rule,
    Rules,
    Scan,
    Schema,
    Seq,
    alt,
    as_expression,
    complement,
    parts,
    quoted,
    quoted_class,
    references,
    seq,
    star,
)

_FEW = 32
_SIGNS = {(0, 1): "?", (0, None): "*", (1, None): "+"}
_MOST_TIMES = 1_000  # llama.cpp counts what a repetition repeats, too
# How strongly an expression holds together: an alternative needs brackets inside a sequence, and so on.
_LOOSE, _ROW, _TIGHT = range(3)


SYNTAXES = ("gbnf", "ebnf", "lark")


def write(rules: Rules, root: Expr, syntax: str) -> str:
    """A grammar as text. `syntax`: one of `SYNTAXES`; the tokens of `rules` are written where a syntax needs them."""
    lines = _Lark(rules, root).lines if syntax == "lark" else _Bnf(rules, root, ebnf=syntax == "ebnf").lines
    return "\n".join(lines) + "\n"


def _bracketed(text: str, holds: int, wanted: int, opening: str = "(") -> str:
    return text if holds >= wanted else f"{opening}{text})"


def _class(ranges: Ranges, anything: str, char: Callable[[str], str]) -> str:
    """A character class in brackets, negated where that is shorter; `anything`: all characters, which are no class."""
    if ranges == ANY:
        return anything
    negated = bool(ranges) and ranges[-1][1] == MAX_CHAR
    shown = complement(ranges) if negated else ranges
    inner = "".join(
        char(chr(low)) if low == high else f"{char(chr(low))}{'-' if high > low + 1 else ''}{char(chr(high))}"
        for low, high in shown
    )
    return f"[{'^' if negated else ''}{inner}]"


def split(text: str, tokens: Mapping[str, int]) -> list[str | int]:
    """A literal's texts and tokens, in order; the longest token where several begin."""
    if not tokens:
        return [text] if text else []
    words = sorted(tokens, key=lambda word: (-len(word), word))
    pieces = enumerate(re.split("(" + "|".join(map(re.escape, words)) + ")", text))
    return [tokens[piece] if number % 2 else piece for number, piece in pieces if piece]


def _single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


# -- GBNF and EBNF ----------------------------------------------------------------------------------------------------


class _Bnf:
    """GBNF and xgrammar's EBNF are one language but for the names of rules and some escapes.

    An automaton becomes one rule for each of its states, each of which ends with a reference to the next: engines of
    both kinds run such rules without growing a stack.
    """

    def __init__(self, rules: Rules, root: Expr, *, ebnf: bool) -> None:
        self.separator = "_" if ebnf else "-"
        self.ebnf = ebnf
        self.tokens = rules.tokens if ebnf else {}
        self.lines: list[str] = []
        self._scans: dict[Scan, str] = {}
        used = rules.used(root)
        self._taken = {self.name(name) for name in used} | {"root"}
        self.rule("root", root)
        for name, rule in used.items():
            self.rule(self.name(name), rule.expr, own=True)

    def name(self, name: str) -> str:
        return name.replace("-", self.separator)

    def rule(self, name: str, expr: Expr, *, own: bool = False) -> None:
        if own and isinstance(expr, Scan) and expr not in self._scans:
            self._scan(expr, name)
            return
        try:
            self.lines.append(f"{name} ::= {self.write(expr, _LOOSE)}")
        except NotSaid as error:
            raise ExportError(f"{name!r} (the tool and the path, with hyphens): {error}") from None

    def write(self, expr: Expr, wanted: int) -> str:
        if isinstance(expr, Lit):
            parts = [
                f"Token({one})" if isinstance(one, int) else _bnf_text(one) for one in split(expr.text, self.tokens)
            ]
            return _bracketed(" ".join(parts) or '""', _ROW if len(parts) > 1 else _TIGHT, wanted)
        if isinstance(expr, Chars):
            if _single(expr.ranges):
                return _bnf_text(chr(expr.ranges[0][0]))
            return _class(expr.ranges, '("\\n" | [^\\n])', lambda char: _bnf_char(char, "]^-["))
        if isinstance(expr, Ref):
            return self.name(expr.name)
        if isinstance(expr, Scan):
            return self._scan(expr)
        if isinstance(expr, Meet):
            return self._meet(expr)
        if isinstance(expr, Rep):
            if not self.ebnf and max(expr.low, expr.high or 0) > _MOST_TIMES:
                raise NotSaid(f"llama.cpp counts to {_MOST_TIMES} at most; skip= leaves lengths to validation")
            if self.ebnf and (expr.high or 0) > _FEW and _is_text(expr.item):
                return self._counted(expr.item, expr.low, expr.high)
            return _bracketed(self.write(expr.item, _TIGHT) + _times(expr.low, expr.high), _ROW, wanted)
        if expr == EMPTY:
            return '""'
        if isinstance(expr, Seq):
            return _bracketed(" ".join(self.write(item, _ROW) for item in expr.items), _ROW, wanted)
        if isinstance(expr, Alt):
            return _bracketed(" | ".join(self.write(option, _ROW) for option in expr.options), _LOOSE, wanted)
        raise TypeError(f"{type(expr).__name__} can't be written here")

    def _counted(self, item: Expr, low: int, high: int | None) -> str:
        """A limited number of characters and escapes, an escape counting as what it is written with.

        A mask of a choice that is repeated up to many times takes xgrammar a second and more.
        """
        plain = star(alt(*(option for option in parts(item) if isinstance(option, Chars))))
        escapes = alt(*(option for option in parts(item) if not isinstance(option, Chars)))
        name = self._free("counted")
        text = self.write(seq(Rep(item, low, low) if low else EMPTY, plain, star(seq(escapes, plain))), _LOOSE)
        self.lines.append(f"{name}[max_chars={high}] ::= {text}")
        return name

    def _meet(self, meet: Meet) -> str:
        """The rules of what several expressions accept: xgrammar counts the characters of free text itself."""
        first, last = meet.parts[0], meet.parts[-1]
        free = isinstance(first, Scan) and first.automaton.excluded and len(meet.parts) == 2 and not meet.quoted
        if self.ebnf and free and isinstance(last, Rep) and last.item == Chars(ANY) and last.high is not None:
            rest = product(list(map(determined, (first, Rep(last.item, last.low, None))))) if last.low else None
            name = self.write(first if rest is None else Scan(rest), _TIGHT)
            counted = self._free(f"{name}{self.separator}upto")
            self.lines.append(f"{counted}[max_chars={last.high}] ::= {name}")
            return counted
        return self._scan(Scan(product(list(map(determined, meet.parts))), meet.quoted))

    def _scan(self, scan: Scan, name: str = "") -> str:
        """The rules of an automaton; returns the name of its first state."""
        known = self._scans.get(scan)
        if known is not None:
            return known
        base = name or self._free("scan")
        self._scans[scan] = base
        automaton = scan.automaton
        if self.ebnf and automaton.excluded and not scan.quoted:
            excluded = ", ".join(map(_bnf_text, automaton.excluded))
            self.lines.append(f"{base} ::= TagDispatch(loop_after_dispatch=false, excludes=({excluded}))")
            return base
        # A state that nothing leads on from is not worth a rule.
        names = [
            base if not at else self._free(f"{base}{self.separator}{at}") if edges else ""
            for at, edges in enumerate(automaton.edges)
        ]
        for at, edges in enumerate(automaton.edges):
            if not names[at]:
                continue
            ways = []
            for ranges, to in edges:
                label = self.write(quoted_class(ranges) if scan.quoted else Chars(ranges), _ROW)
                ways.append(f"{label} {names[to]}" if names[to] else label)
            if at in automaton.final:
                ways.append('""')
            self.lines.append(f"{names[at]} ::= {' | '.join(ways)}")
        return base

    def _free(self, name: str) -> str:
        count, found = 1, name
        while found in self._taken:
            count += 1
            found = f"{name}{self.separator}{count}"
        self._taken.add(found)
        return found


def _is_text(expr: Expr) -> bool:
    """Whether an expression is a character or an escape."""
    return isinstance(expr, Alt) and any(isinstance(option, Chars) for option in expr.options)


def _bnf_text(text: str) -> str:
    return '"' + "".join(_bnf_char(char, '"') for char in text) + '"'


def _bnf_char(char: str, special: str) -> str:
    simple = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}.get(char)
    if simple is not None and (char != '"' or '"' in special):
        return simple
    if char in special or char < " " or "\x7f" <= char <= "\xa0" or "\ud800" <= char <= "\udfff":
        return f"\\u{ord(char):04X}"
    return char


def _times(low: int, high: int | None) -> str:
    if (low, high) in _SIGNS:
        return _SIGNS[low, high]
    return f"{{{low}}}" if low == high else f"{{{low},{'' if high is None else high}}}"


# -- Lark -------------------------------------------------------------------------------------------------------------


#: llguidance refuses expressions that nest deeper; automata of more states make expressions of megabytes.
_DEEPEST, _MOST_STATES, _LONGEST = 80, 200, 200_000
_MOST_COUNTED = 1_000  # characters of text that must also end before a marker: llguidance gives up at some 2,000
_TOO_LARGE = "its keywords need too large a regular expression, which Lark's terminals are; 'ebnf' and 'gbnf' say it"


def _bounded(regex: str) -> str:
    depth = deepest = 0
    for bracket in re.findall(r"\\.|\[(?:\\.|[^\]\\])*\]|[()]", regex, re.DOTALL):
        depth += (bracket == "(") - (bracket == ")")
        deepest = max(deepest, depth)
    if deepest > _DEEPEST or len(regex) > _LONGEST:
        raise NotSaid(_TOO_LARGE)
    return regex


class _Lark:
    """Lark: tokens are terminals, written as regular expressions without look-around (llguidance has none).

    A terminal holds no special token. What stands between two of them is one terminal, however many literals and
    texts it is made of: engines take the longest terminal, so that a text must not end where a literal could go on.
    What several expressions accept is written with `&`, which is llguidance's own.
    """

    def __init__(self, rules: Rules, root: Expr) -> None:
        self.rules = rules.used(root)
        self.tokens = rules.tokens
        self._holds = Holding(rules, lambda expr: isinstance(expr, Lit) and any(w in expr.text for w in self.tokens))
        self.terminals = {name for name, rule in self.rules.items() if rule.token and not self._holds.rule(name)}
        self.lines: list[str] = []
        start = f"start: {self.write(root, _LOOSE)}"
        mentioning = (root, *(rule.expr for rule in self.rules.values() if not rule.token))
        mentioned = {name for expr in mentioning for name in references(expr)}
        for name, rule in self.rules.items():
            if name in mentioned or name not in self.terminals:  # what only tokens mention is written out there
                self.lines.append(f"{self.name(name)}: {self.rule(name, rule)}")
        self.lines.insert(0, start)

    def name(self, name: str) -> str:
        plain = name.replace("-", "_")
        return plain.upper() if name in self.terminals else "start_" if plain == "start" else plain

    def rule(self, name: str, rule: Rule) -> str:
        try:
            if name in self.terminals:
                return self.terminal(rule.expr)
            return self.mixed(rule.expr, 0) if rule.token else self.write(rule.expr, 0)
        except (NotSaid, RecursionError) as error:
            reason = str(error) if isinstance(error, NotSaid) else _TOO_LARGE
            raise ExportError(f"{name!r} (the tool and the path, with hyphens): {reason}") from None

    def terminal(self, expr: Expr) -> str:
        """What a terminal says: of all that must fit one expression each."""
        meets = list(_meets(expr, self.rules))
        wide = max((len(meet.parts) for meet in meets), default=1)
        counted = [max(one.low, one.high or 0) for meet in meets for one in meet.parts if isinstance(one, Rep)]
        if wide > 1 and max(counted, default=0) > _MOST_COUNTED:
            raise NotSaid(f"llguidance counts {_MOST_COUNTED} characters at most; skip= leaves lengths to validation")
        return " & ".join(f"/{_bounded(_regex(expr, self.rules, part=part))}/" for part in range(wide))

    def regex(self, expr: Expr) -> str:
        """A terminal by its expression, or by a name of its own."""
        text = self.terminal(expr)
        if not any(_meets(expr, self.rules)):
            return text
        self.lines.append(f"MEET_{len(self.lines)}: {text}")
        return self.lines[-1].partition(":")[0]

    def write(self, expr: Expr, wanted: int) -> str:
        if isinstance(expr, Lit):
            pieces = split(expr.text, self.tokens)
            texts = [f"<[{one}]>" if isinstance(one, int) else _lark_text(one) for one in pieces]
            return _bracketed(" ".join(texts), _ROW if len(texts) > 1 else _TIGHT, wanted) if texts else '""'
        if isinstance(expr, Ref):
            return self.name(expr.name)
        if isinstance(expr, Rep):
            item = self.write(expr.item, _TIGHT)
            if (expr.low, expr.high) in _SIGNS:
                return item + _SIGNS[expr.low, expr.high]
            if expr.high is not None:
                return _bracketed(f"{item} ~ {expr.low}..{expr.high}", _ROW, wanted)
            return _bracketed(f"{item} ~ {expr.low} {item}*", _ROW, wanted)
        if isinstance(expr, Seq):
            return _bracketed(" ".join(self.write(item, _ROW) for item in expr.items), _ROW, wanted)
        if isinstance(expr, Alt):
            return _bracketed(" | ".join(self.write(option, _ROW) for option in expr.options), _LOOSE, wanted)
        if isinstance(expr, Schema):
            return f"%json {expr.text}"
        return self.regex(expr)

    # -- special tokens -----------------------------------------------------------------------------------------------

    def mixed(self, expr: Expr, wanted: int) -> str:
        """An expression of characters that holds special tokens."""
        if isinstance(expr, Alt):
            return _bracketed(" | ".join(self.mixed(option, _ROW) for option in expr.options), _LOOSE, wanted)
        if isinstance(expr, Rep) and self._holds(expr):
            return self.mixed(expr.item, _TIGHT) + _times(expr.low, expr.high)
        if isinstance(expr, Ref) and expr.name not in self.terminals:
            return self.name(expr.name)
        written: list[str] = []
        plain: list[Expr] = []
        for item in expr.items if isinstance(expr, Seq) else (expr,):
            if not self._holds(item):
                plain.append(item)
                continue
            for one in split(item.text, self.tokens) if isinstance(item, Lit) else [None]:
                if isinstance(one, str):
                    plain.append(Lit(one))
                    continue
                if plain:
                    written.append(self.regex(seq(*plain)))
                    plain = []
                written.append(f"<[{one}]>" if one is not None else self.mixed(item, _ROW))
        if plain:
            written.append(self.regex(seq(*plain)))
        return _bracketed(" ".join(written), _ROW if len(written) > 1 else _TIGHT, wanted)


def _lark_text(text: str) -> str:
    return '"' + "".join(map(_lark_char, text)) + '"'


def _lark_char(char: str) -> str:
    simple = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}.get(char)
    return simple or (f"\\u{ord(char):04x}" if char < " " or "\x7f" <= char <= "\xa0" else char)


def _meets(expr: Expr, rules: Mapping[str, Rule]) -> Iterator[Meet]:
    """Where several expressions must accept the same, in an expression of characters."""
    if isinstance(expr, Meet):
        yield expr
    for part in (*parts(expr), *(rules[name].expr for name in ([expr.name] if isinstance(expr, Ref) else []))):
        yield from _meets(part, rules)


def _regex(expr: Expr, rules: Mapping[str, Rule], wanted: int = _LOOSE, part: int = 0) -> str:
    """An expression of characters as a regular expression that Python and Rust read alike.

    `part`: which one is written of expressions that must all accept the same.
    """
    if isinstance(expr, Lit):
        text = "".join(_regex_char(char, "\\.+*?()|[]{}^$/") for char in expr.text)
        return _bracketed(text, _TIGHT if len(expr.text) == 1 else _ROW, wanted, "(?:")
    if isinstance(expr, Chars):
        if _single(expr.ranges):
            return _regex(Lit(chr(expr.ranges[0][0])), rules, wanted, part)
        return _class(expr.ranges, "(?:\\n|[^\\n])", lambda char: _regex_char(char, "\\]^-[/&~"))
    if isinstance(expr, Ref):
        return _regex(rules[expr.name].expr, rules, wanted, part)
    if isinstance(expr, Scan):
        if len(expr.automaton.edges) > _MOST_STATES:
            raise NotSaid(_TOO_LARGE)
        scanned = as_expression(expr.automaton)
        return _regex(quoted(scanned, {}) if expr.quoted else scanned, rules, wanted, part)
    if isinstance(expr, Meet):
        one = expr.parts[min(part, len(expr.parts) - 1)]
        return _regex(quoted(one, {}) if expr.quoted else one, rules, wanted, part)
    if isinstance(expr, Rep):
        return _bracketed(_regex(expr.item, rules, _TIGHT, part) + _times(expr.low, expr.high), _ROW, wanted, "(?:")
    if isinstance(expr, Seq):
        return _bracketed("".join(_regex(item, rules, _ROW, part) for item in expr.items), _ROW, wanted, "(?:")
    if not isinstance(expr, Alt):
        raise TypeError(f"{type(expr).__name__} can't stand in a regular expression")
    return _bracketed("|".join(_regex(option, rules, _ROW, part) for option in expr.options), _LOOSE, wanted, "(?:")


def _regex_char(char: str, special: str) -> str:
    simple = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if simple is not None:
        return simple
    if char in special:
        return "\\" + char
    if char < " " or "\x7f" <= char <= "\xa0":
        return f"\\x{ord(char):02x}"
    return char
