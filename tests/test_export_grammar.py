"""Grammars accept what `render` writes, and what they generate is read as valid calls.

Three readers of the grammars that share no code with the writer: lark's Earley parser, and a small machine for GBNF and
EBNF in this file, which also makes sentences. The engines of llguidance and xgrammar are asked where they are installed.
"""

from __future__ import annotations

import importlib.util
import random
import re
import string
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest

from toolparse import registry
from toolparse.errors import ExportError, RenderError
from toolparse.export import grammar
from toolparse.format import Format
from toolparse.message import ToolCall
from toolparse.parser import Parser
from toolparse.program import compile_format
from toolparse.render import render, write_call
from toolparse.tools import ToolSet

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]
#: Registered formats that some syntax can't express, with what the error must say.
REFUSED: dict[str, str] = {}

# -- a reader of GBNF ---------------------------------------------------------------------------------------------------

Symbol = Any  # ("char", negated, ranges) or a rule's name


class Gbnf:
    """A GBNF grammar: what it accepts, and sentences out of it. Brackets and repetitions become rules of their own."""

    _TOKEN = re.compile(
        r'\s*(?:(?P<define>::=)|(?P<name>[A-Za-z0-9_-]+)|"(?P<text>(?:[^"\\]|\\.)*)"|\[(?P<class>(?:[^\]\\]|\\.)*)\]'
        r"|(?P<op>[|()?*+])|\{(?P<times>[0-9,]+)\})"
    )

    def __init__(self, text: str) -> None:
        self.rules: dict[str, list[list[Symbol]]] = {}
        for line in text.strip().split("\n"):
            name, _, body = line.partition(" ::= ")
            assert re.fullmatch(r"[a-z][a-z0-9_-]*", name), line
            assert name not in self.rules, f"{name} is defined twice"
            self.rules[name] = []
            tokens = self._tokens(body)
            self.rules[name] = self._alternatives(tokens, name)
            assert not tokens, (line, tokens)
        for alternatives in list(self.rules.values()):
            for symbols in alternatives:
                for symbol in symbols:
                    assert isinstance(symbol, tuple) or symbol in self.rules, f"no rule {symbol}"
        self.costs = self._costs()

    def _tokens(self, body: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while at < len(body):
            match = self._TOKEN.match(body, at)
            assert match is not None, body[at : at + 40]
            tokens.append((str(match.lastgroup), match.group(match.lastgroup or 0)))
            at = match.end()
        return tokens

    def _alternatives(self, tokens: list[tuple[str, str]], name: str) -> list[list[Symbol]]:
        found: list[list[Symbol]] = [[]]
        while tokens and tokens[0] != ("op", ")"):
            kind, text = tokens.pop(0)
            if (kind, text) == ("op", "|"):
                found.append([])
                continue
            if kind == "text":
                item: list[Symbol] = [("char", False, ((ord(c), ord(c)),)) for c in _unescaped(text)]
            elif kind == "class":
                item = [_class(text)]
            elif kind == "name":
                item = [text]
            else:
                assert (kind, text) == ("op", "("), (kind, text)
                inner = self._alternatives(tokens, name)
                assert tokens.pop(0) == ("op", ")")
                item = [self._new(name, inner)]
            if tokens and (tokens[0][0] == "times" or tokens[0][1] in "?*+" and tokens[0][0] == "op"):
                item = self._repeated(item, tokens.pop(0)[1], name)
            found[-1].extend(item)
        return found

    def _new(self, name: str, alternatives: list[list[Symbol]]) -> str:
        fresh = f"{name}%{len(self.rules)}"
        self.rules[fresh] = alternatives
        return fresh

    def _repeated(self, item: list[Symbol], times: str, name: str) -> list[Symbol]:
        if len(item) > 1:  # a repetition is about the last thing only: a whole string in quotes
            item = [self._new(name, [item])]
        low, high = {"?": (0, 1), "*": (0, None), "+": (1, None)}.get(times, (0, 0))
        if times not in "?*+":
            first, comma, last = times.partition(",")
            low, high = int(first), (int(last) if last else None) if comma else int(first)
        rest: list[Symbol] = []
        if high is None:
            loop = self._new(name, [])
            self.rules[loop] = [[*item, loop], []]
            rest = [loop]
        else:
            for _ in range(high - low):
                rest = [self._new(name, [[*item, *rest], []])]
        return [*(item * low), *rest]

    # -- accepting: sets of stacks, as llama.cpp does it

    def accepts(self, text: str) -> bool:
        stacks = self._settled({(alternative, 0, None) for alternative in self._ways("root")})
        for char in text:
            code = ord(char)
            moved = set()
            for symbols, at, parent in (stack for stack in stacks if stack is not None):
                _, negated, ranges = symbols[at]
                if any(low <= code <= high for low, high in ranges) != negated:
                    moved.add((symbols, at + 1, parent))
            stacks = self._settled(moved)
            if not stacks:
                return False
        return None in stacks

    @lru_cache(maxsize=None)  # noqa: B019 - grammars are short-lived here
    def _ways(self, name: str) -> tuple[tuple[Symbol, ...], ...]:
        return tuple(tuple(symbols) for symbols in self.rules[name])

    def _settled(self, stacks: set[Any]) -> set[Any]:
        """The stacks whose top is a character; None: the text may end here."""
        done, seen, pending = set(), set(stacks), list(stacks)
        while pending:
            symbols, at, parent = pending.pop()
            if at == len(symbols):
                if parent is None:
                    done.add(None)
                    continue
                following = [parent]
            elif isinstance(symbols[at], tuple):
                done.add((symbols, at, parent))
                continue
            else:
                below = parent if at + 1 == len(symbols) else (symbols, at + 1, parent)
                following = [(way, 0, below) for way in self._ways(symbols[at])]
            for stack in following:
                if stack not in seen:
                    seen.add(stack)
                    pending.append(stack)
        return done

    # -- generating

    def _costs(self) -> dict[str, float]:
        """The least number of characters of each rule."""
        costs = dict.fromkeys(self.rules, float("inf"))
        changed = True
        while changed:
            changed = False
            for name, alternatives in self.rules.items():
                least = min((self._cost(symbols, costs) for symbols in alternatives), default=float("inf"))
                if least < costs[name]:
                    costs[name], changed = least, True
        return costs

    @staticmethod
    def _cost(symbols: list[Symbol], costs: dict[str, float]) -> float:
        return sum(1 if isinstance(symbol, tuple) else costs[symbol] for symbol in symbols)

    def sentence(self, rng: random.Random, *, effort: int = 150) -> str:
        """A random sentence; after `effort` steps every choice is the shortest one."""
        out: list[str] = []
        pending: list[Symbol] = ["root"]
        steps = 0
        while pending:
            symbol = pending.pop()
            steps += 1
            if isinstance(symbol, tuple):
                out.append(_any_char(symbol, rng))
                continue
            ways = self.rules[symbol]
            if steps > effort:
                least = min(self._cost(symbols, self.costs) for symbols in ways)
                ways = [symbols for symbols in ways if self._cost(symbols, self.costs) == least]
            pending.extend(reversed(rng.choice(ways)))
        return "".join(out)


def _unescaped(text: str) -> str:
    simple = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]"}
    return re.sub(
        r"\\(?:u([0-9A-F]{4})|(.))", lambda m: chr(int(m[1], 16)) if m[1] else simple[m[2]], text, flags=re.DOTALL
    )


def _class(text: str) -> Symbol:
    negated = text.startswith("^")
    body = re.findall(r"\\u[0-9A-F]{4}|\\.|.", text[negated:], re.DOTALL)
    ranges = []
    while body:
        low = _unescaped(body.pop(0))
        high = low
        if len(body) > 1 and body[0] == "-":
            body.pop(0)
            high = _unescaped(body.pop(0))
        ranges.append((ord(low), ord(high)))
    return ("char", negated, tuple(ranges))


_POOL = string.ascii_letters + string.digits + " \n{}[]<>/\"'=,:|_-&;\t" + "é日🙂"


def _any_char(symbol: Symbol, rng: random.Random) -> str:
    _, negated, ranges = symbol
    if not negated:
        low, high = rng.choice(ranges)
        return chr(rng.randint(low, min(high, low + 94)))
    fitting = [c for c in _POOL if not any(low <= ord(c) <= high for low, high in ranges)]
    return rng.choice(fitting)


# -- random tools and calls ---------------------------------------------------------------------------------------------

_AWKWARD = [
    "", " ", "\n", "a\nb", '"', "'", "\\", "\\n", "it's \"quoted\"", "{", "}", "[1, 2]", '{"a": 1}', "null", "true",
    "75001", "<b>", "</b>", "a < b && c > d", "&amp;", "日本語", "🙂", "\t", "x" * 80, "f(a=1)", "]]>", "; ", ", ", "\x07",
]  # fmt: skip


class Maker:
    """Random schemas and values that fit them."""

    def __init__(self, format: Format, rng: random.Random) -> None:
        self.rng = rng
        self.tagged = format.param is not None and "{{params}}" in format.call
        self.markers = compile_format(format.bind("")).all_markers

    def tools(self) -> list[dict[str, Any]]:
        names = self.rng.sample(["get", "get_x", "search", "add", "run2", "f"], self.rng.randint(1, 3))
        return [
            {"type": "function", "function": {"name": name, "description": "", "parameters": self.object(2)}}
            for name in names
        ]

    def object(self, depth: int) -> dict[str, Any]:
        keys = self.rng.sample(["city", "days", "a", "ab", "unit", "_x", "n1"], self.rng.randint(0, 4))
        schema = {
            "type": "object",
            "properties": {key: self.schema(depth - 1) for key in keys},
            "required": [key for key in keys if self.rng.random() < 0.5],
        }
        if depth < 2 and self.rng.random() < 0.2:
            schema["additionalProperties"] = {"type": "integer"}
        return schema

    def schema(self, depth: int) -> dict[str, Any]:
        kinds = ["string", "string", "integer", "number", "boolean", "null", "enum", "words", "maybe"]
        if depth > 0:
            kinds += ["array", "object", "free", "union"]
        kind = self.rng.choice(kinds)
        if kind == "enum":
            return {"enum": [1, 10, 2.5]}
        if kind == "words":
            return {"type": "string", "enum": ["red", "redder", "dark blue"]}
        if kind == "maybe":
            return {"type": "integer", "nullable": True}
        if kind == "array":
            return {"type": "array", "items": self.schema(depth - 1), **self.rng.choice([{}, {"minItems": 1, "maxItems": 3}])}
        if kind == "object":
            return self.object(depth)
        if kind == "free":
            return {"type": "object"}
        if kind == "union":
            return {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "integer"}}]}
        return {"type": kind}

    def value(self, schema: Any) -> Any:
        rng = self.rng
        if "anyOf" in schema:
            return self.value(rng.choice(schema["anyOf"]))
        if "enum" in schema:
            return rng.choice(schema["enum"])
        if schema.get("nullable") and rng.random() < 0.3:
            return None
        kind = schema["type"]
        if kind == "string":
            return self.text()
        if kind == "integer":
            return rng.choice([0, -1, 7, 10**30, rng.randint(-999, 999)])
        if kind == "number":
            return rng.choice([0, 3, 0.5, -1.25, 1e-7, 1e22, 123456.789, 1.5e300, 3.0])
        if kind == "boolean":
            return rng.random() < 0.5
        if kind == "null":
            return None
        if kind == "array":
            low, high = schema.get("minItems", 0), schema.get("maxItems", 3)
            return [self.value(schema["items"]) for _ in range(rng.randint(low, high))]
        if "properties" not in schema:
            return rng.choice([{}, {"k": 1}, {"k": [None, True, {"deep": "x"}], "other": 2.5}])
        found = {
            key: self.value(inner)
            for key, inner in schema["properties"].items()
            if key in schema["required"] or rng.random() < 0.5
        }
        if schema.get("additionalProperties") and rng.random() < 0.5:
            found["cit"] = 5
        return found

    def text(self) -> str:
        word = self.rng.choice(_AWKWARD) if self.rng.random() < 0.5 else self.rng.choice(["Paris", "two words", "x"])
        if not self.tagged and self.markers and self.rng.random() < 0.3:
            word += self.rng.choice(self.markers)  # tagged text must not hold its closing tag, JSON may hold anything
        return word

    def call(self, tools: list[dict[str, Any]], index: int) -> ToolCall:
        function = self.rng.choice(tools)["function"]
        return ToolCall(function["name"], self.value(function["parameters"]), None, index)


def turns(format: Format, seed: int, count: int) -> Iterator[tuple[list[dict[str, Any]], list[ToolCall], str]]:
    """Tools, valid calls of them, and the turn that `render` writes."""
    rng = random.Random(seed)
    made = 0
    for _ in range(count * 8):
        if made == count:
            return
        maker = Maker(format, rng)
        tools = maker.tools()
        calls = [maker.call(tools, number) for number in range(rng.randint(1, 2))]
        content = rng.choice(["", "Hello.", "Two\nlines, and 3 < 4."])
        reasoning = rng.choice([None, "Hm."]) if format.reasoning is not None else None
        try:
            text = render(format, calls, content=content, reasoning=reasoning, prefill=format.prefill)
        except RenderError:
            continue
        if not all(call.ok for call in Parser(format).parse(text, tools=tools).tool_calls):
            continue  # no text of a union can be read back in every format
        made += 1
        yield tools, calls, text
    assert made >= count // 2, f"{format.name} refuses nearly everything"


# -- the laws -----------------------------------------------------------------------------------------------------------


def expressible(format: Format) -> None:
    if format.name in REFUSED:
        with pytest.raises(ExportError, match=re.escape(REFUSED[format.name])):
            grammar(format, [TOOL])
        pytest.skip(REFUSED[format.name])


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "where": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]},
            },
            "required": ["city"],
        },
    },
}


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_rendered_is_accepted(format: Format) -> None:
    expressible(format)
    for tools, calls, text in turns(format, seed=1, count=6):
        assert Gbnf(grammar(format, tools)).accepts(text), (calls, text)
        assert Gbnf(grammar(format, tools, syntax="ebnf")).accepts(text), (calls, text)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_generated_is_read_as_valid_calls(format: Format) -> None:
    expressible(format)
    rng = random.Random(2)
    parser = Parser(format)
    for _ in range(2):
        tools = Maker(format, rng).tools()
        made = Gbnf(grammar(format, tools, required=True))
        for _ in range(6):
            text = made.sentence(rng)
            assert made.accepts(text), text
            message = parser.parse(text, tools=tools)
            assert message.tool_calls, text
            for call in message.tool_calls:
                assert call.ok, (text, call)
            assert not message.errors, (text, message.errors)
