"""Grammars accept what `render` writes, and what they generate is read as valid calls.

Three readers of the grammars that share no code with the writer: lark's Earley parser, and a small machine for GBNF and
EBNF in this file, which also makes sentences. The engines of llguidance and xgrammar are asked where they are installed.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import string
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest

from toolparse import registry
from toolparse.compile import compile_format
from toolparse.errors import ExportError, RenderError
from toolparse.export import grammar
from toolparse.format import Format
from toolparse.message import ToolCall
from toolparse.parser import Parser
from toolparse.render import render

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]

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
            if body.startswith("TagDispatch("):
                self._without(name, body)
                continue
            tokens = self._tokens(body)
            self.rules[name] = self._alternatives(tokens, name)
            assert not tokens, (line, tokens)
        for alternatives in list(self.rules.values()):
            for symbols in alternatives:
                for symbol in symbols:
                    assert isinstance(symbol, tuple) or symbol in self.rules, f"no rule {symbol}"
        self.ways = {name: [tuple(symbols) for symbols in found] for name, found in self.rules.items()}

    def _without(self, name: str, body: str) -> None:
        """xgrammar's text without some strings: a rule for each beginning of one of them."""
        shown = re.fullmatch(r"TagDispatch\(loop_after_dispatch=false, excludes=\((.+)\)\)", body)
        assert shown is not None, body
        words = [_unescaped(word) for word in re.findall(r'"((?:[^"\\]|\\.)*)"', shown[1])]
        begun = {word[:size] for word in words for size in range(len(word))}
        for text in begun:
            endings = [text[at:] for at in range(len(text) + 1)]
            chars = sorted(
                {word[len(end)] for end in endings for word in words if word != end and word.startswith(end)}
            )
            ways: list[list[Symbol]] = [[], [("char", True, tuple((ord(c), ord(c)) for c in chars)), name]]
            for char in chars:
                longer = text + char
                if not any(longer.endswith(word) for word in words):
                    held = next(longer[at:] for at in range(len(longer) + 1) if longer[at:] in begun)
                    ways.append([("char", False, ((ord(char), ord(char)),)), f"{name}%{held}" if held else name])
            self.rules[f"{name}%{text}" if text else name] = ways

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
            if tokens and (tokens[0][0] == "times" or (tokens[0][1] in "?*+" and tokens[0][0] == "op")):
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
        stacks = self._settled({(alternative, 0, None) for alternative in self.ways["root"]})
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
                following = [(way, 0, below) for way in self.ways[symbols[at]]]
            for stack in following:
                if stack not in seen:
                    seen.add(stack)
                    pending.append(stack)
        return done

    # -- generating

    @cached_property
    def costs(self) -> dict[str, float]:
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
        # Names that stand in the closing tag as well can't be left open in a grammar.
        self.open = not self.tagged or "{{key}}" not in (format.param or "").partition("{{value}}")[2]
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
        if depth < 2 and self.open and self.rng.random() < 0.2:
            schema["additionalProperties"] = {"type": "integer"}
        return schema

    def schema(self, depth: int) -> dict[str, Any]:
        kinds = ["string", "string", "integer", "number", "boolean", "null", "enum", "words", "maybe"]
        if depth > 0:
            kinds += ["array", "object", "union", *(["free"] if self.open else [])]
        kind = self.rng.choice(kinds)
        if kind == "array":
            items = self.schema(depth - 1)
            return {"type": "array", "items": items, **self.rng.choice([{}, {"minItems": 1, "maxItems": 3}])}
        if kind == "object":
            return self.object(depth)
        return {
            "enum": {"enum": [1, 10, 2.5]},
            "words": {"type": "string", "enum": ["red", "redder", "dark blue"]},
            "maybe": {"type": "integer", "nullable": True},
            "free": {"type": "object"},
            "union": {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "integer"}}]},
        }.get(kind, {"type": kind})

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


Case = tuple[list[dict[str, Any]], list[str]]


def cases(format: Format, seed: int, count: int = 2, each: int = 3, *, markers: bool = True) -> Iterator[Case]:
    """Tools, and turns with valid calls of them as `render` writes them; `markers`: also inside strings."""
    rng = random.Random(seed)
    parser = Parser(format)
    for _ in range(count):
        maker = Maker(format, rng)
        maker.markers = maker.markers if markers else ()
        tools = maker.tools()
        texts: list[str] = []
        for _ in range(each * 8):
            calls = [maker.call(tools, number) for number in range(rng.randint(1, 2) if format.parallel else 1)]
            content = rng.choice(["", "Hello.", "Two\nlines, and 3 < 4."])
            reasoning = rng.choice([None, "Hm."]) if format.reasoning is not None else None
            try:
                text = render(format, calls, content=content, reasoning=reasoning, prefill=format.prefill)
            except RenderError:
                continue
            # A union's value may be read back as another of its types; such texts are not what is meant.
            if len(texts) < each and all(call.ok for call in parser.parse(text, tools=tools).tool_calls):
                texts.append(text)
        assert texts, f"{format.name} refuses everything"
        yield tools, texts


# -- the laws -----------------------------------------------------------------------------------------------------------


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
    for number, (tools, texts) in enumerate(cases(format, seed=1)):
        made = Gbnf(grammar(format, tools, syntax=("gbnf", "ebnf")[number % 2]))
        for text in texts:
            assert made.accepts(text), text


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_generated_is_read_as_valid_calls(format: Format) -> None:
    rng = random.Random(2)
    parser = Parser(format)
    tools = Maker(format, rng).tools()
    made = Gbnf(grammar(format, tools, required=True))
    for _ in range(8):
        text = made.sentence(rng)
        message = parser.parse(text, tools=tools)
        assert message.tool_calls, text
        for call in message.tool_calls:
            assert call.ok, (text, call)
        assert not message.errors, (text, message.errors)


ANSWER = {
    "type": "object",
    "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["days"],
}


def answers(format: Format) -> Iterator[tuple[str, bool]]:
    """Turns without calls, each with whether it fits ANSWER."""
    thoughts = (None, "Hm.") if format.reasoning else (None,)
    texts = {'{"days": 2}': True, '{\n  "town": "Oslo",\n  "days": 2\n}': True, '{"days": 2} so': False}
    texts |= {"Hello.": False, "": False, '{"town": "Oslo"}': False, '{"days": "2"}': False}
    for text, fits in texts.items():
        for thought in thoughts:
            yield render(format, [], content=text, reasoning=thought, prefill=format.prefill, verify=False), fits


@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_fits_its_schema(format: Format) -> None:
    """With tools or without. Calls may come in its place, and both read back as what they are."""
    for tools in ([], [TOOL]):
        made = Gbnf(grammar(format, tools, answer=ANSWER))
        for text, fits in answers(format):
            assert made.accepts(text) == fits, text
    parser, rng = Parser(format), random.Random(4)
    for _ in range(8):
        message = parser.parse(made.sentence(rng), tools=[TOOL])
        if message.tool_calls:
            assert not message.content.strip()
            assert all(call.ok for call in message.tool_calls)
        else:
            assert {"days"} <= set(json.loads(message.content)) <= {"town", "days"}


@pytest.mark.parametrize("format", FORMATS)
def test_lark_agrees(format: Format) -> None:
    """An independent engine accepts what is rendered and what another syntax of the grammar generates, and no more."""
    lark = pytest.importorskip("lark", reason="lark is not installed: it reads the grammars in its syntax")
    rng = random.Random(3)
    for tools, texts in cases(format, seed=4, count=1, each=1):
        made = Gbnf(grammar(format, tools))
        engine = lark.Lark(grammar(format, tools, syntax="lark"), parser="earley", lexer="dynamic")
        for text in (*texts, made.sentence(rng, effort=60)):
            engine.parse(text)
            at = rng.randrange(len(text))
            damaged = text[:at] + rng.choice('"<x{') + text[at + 1 :]
            try:
                engine.parse(damaged)
                accepted = True
            except lark.exceptions.LarkError:
                accepted = False
            assert made.accepts(damaged) == accepted, damaged


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "harmony", "pythonic", "gemma4", "glm47", "cohere-cofl"])
def test_engines_agree(name: str) -> None:
    """The engines that these grammars are for, where they are installed."""
    engines = [engine for engine in ("xgrammar", "llguidance") if importlib.util.find_spec(engine)]
    if not engines:
        pytest.skip("neither xgrammar nor llguidance is installed")
    format = Parser(registry.get(name)).format
    for tools, texts in cases(format, seed=5):
        for text in texts:
            if "xgrammar" in engines:
                assert _xgrammar_accepts(grammar(format, tools, syntax="ebnf"), text), text
            if "llguidance" in engines:
                assert _llguidance_accepts(grammar(format, tools, syntax="lark"), text), text


def _xgrammar_accepts(source: str, text: str) -> bool:
    import xgrammar
    from xgrammar.testing import _is_grammar_accept_string

    return bool(_is_grammar_accept_string(xgrammar.Grammar.from_ebnf(source), text))


def _llguidance_accepts(source: str, text: str) -> bool:
    from llguidance import LLMatcher, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_lark(source))
    ids = list(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and bool(matcher.is_accepting())


# -- options and particulars ----------------------------------------------------------------------------------------------

HERMES = registry.get("hermes")
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'


def accepts(text: str, *, format: Any = HERMES, tools: Any = (TOOL,), **options: Any) -> bool:
    return Gbnf(grammar(format, tools, **options)).accepts(text)


def with_parameters(parameters: dict[str, Any], name: str = "f") -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}]


def with_argument(schema: Any, name: str = "x", **more: Any) -> list[dict[str, Any]]:
    return with_parameters({"type": "object", "properties": {name: schema}, **more})


def fits(arguments: str, parameters: dict[str, Any]) -> bool:
    text = '<tool_call>\n{"name": "f", "arguments": ' + arguments + "}\n</tool_call>"
    return accepts(text, tools=with_parameters(parameters))


def test_text_without_markers_is_one_rule_to_xgrammar() -> None:
    """A rule for each state of an automaton takes it seconds to compile."""
    for name in ("hermes", "glm47", "deepseek-v31"):
        ebnf = grammar(registry.get(name), [TOOL], syntax="ebnf")
        assert re.search(r"^content_text ::= TagDispatch", ebnf, re.MULTILINE), name
        assert "content_text_1" not in ebnf


def test_limited_texts_that_are_too_short_for_a_marker() -> None:
    """They may hold any characters, for which no engine has a class; a rule for each character is enough."""
    tools = with_argument({"type": "string", "minLength": 2, "maxLength": 4}, "s")
    for syntax in ("gbnf", "ebnf", "lark"):
        text = grammar(registry.get("qwen3-coder"), tools, syntax=syntax)
        assert "[^]" not in text
    rules = re.findall("^scan.*", grammar(registry.get("qwen3-coder"), tools, syntax="gbnf"), re.MULTILINE)
    assert len(rules) == 4, rules


@pytest.mark.parametrize("engine", ["xgrammar", "llguidance"])
def test_lengths_before_a_marker(engine: str) -> None:
    """No rule for every beginning of a marker at every length: xgrammar counts, llguidance asks two expressions."""
    syntax, accepted = {"xgrammar": ("ebnf", _xgrammar_accepts), "llguidance": ("lark", _llguidance_accepts)}[engine]
    for name in ("qwen3-coder", "minicpm5", "kimi-k3", "gemma4", "pythonic"):
        format = Parser(registry.get(name)).format
        for most, least in ((20, 0), (280, 2), (1000, 0)):
            limits = {"type": "string", "maxLength": most, "minLength": least}
            tools = with_argument(limits, "s", required=["s"])
            text = grammar(format, tools, syntax=syntax, content=False, reasoning=False)
            assert len(text) < 20_000
            if importlib.util.find_spec(engine) is None:
                continue
            for value in ("x" * most, "日" * most, "🎉<" * (most // 2), "x" * (most + 1), "日" * (most + 1), "x", ""):
                written = render(format, [("f", {"s": value})], prefill=format.prefill, verify=False)
                assert accepted(text, written) == (least <= len(value) <= most), (name, most, value[:9])


def test_xgrammar_counts_characters_itself() -> None:
    """Of a choice that is repeated up to many times it takes a second for each mask."""
    limited = {"type": "string", "minLength": 1, "maxLength": 80}
    text = grammar(HERMES, with_argument(limited, "s"), syntax="ebnf")
    assert "[max_chars=80] ::=" in text
    assert ",80}" not in text
    if importlib.util.find_spec("xgrammar") is not None:
        for value, fits in (("x" * 80, True), ("x" * 81, False), ('"\n', True), ("", False), ("é" * 80, True)):
            written = '<tool_call>\n{"name": "f", "arguments": ' + json.dumps({"s": value}, ensure_ascii=False)
            assert _xgrammar_accepts(text, written + "}\n</tool_call>") == fits, value


@pytest.mark.parametrize("name", ["hermes", "qwen3-coder", "cohere-cofl", "gemma4", "pythonic", "minimax-m3"])
def test_what_schemas_say_of_keys_and_lists(name: str) -> None:
    """Required keys that no property names; lists of which elements are described one by one; ranges without integers."""
    number, text = {"type": "integer"}, {"type": "string"}
    format = Parser(registry.get(name)).format
    pair = {"type": "array", "prefixItems": [number, text], "minItems": 1}
    for schema, value, fits in (
        ({**pair, "maxItems": 2}, [1, "a"], True),
        ({**pair, "maxItems": 2}, [1], True),
        ({**pair, "maxItems": 2}, ["a", 1], False),
        ({**pair, "items": text, "maxItems": 3}, [1, "a", "b"], True),
        ({**pair, "items": text, "maxItems": 3}, [1, "a", "b", "c"], False),
        ({**pair, "items": False}, [1, "a", "b"], False),
        ({"type": "number", "minimum": 0.25, "exclusiveMaximum": 0.75}, 0.5, True),
        ({"type": "number", "minimum": 0.25, "exclusiveMaximum": 0.75}, 1, False),
    ):
        tools = with_argument(schema, required=["x"])
        written = render(format, [("f", {"x": value})], prefill=format.prefill, verify=False)
        assert accepts(written, format=format, tools=tools) == fits, (schema, value)
    closed = {"type": "object", "properties": {"x": text}, "required": ["x", "y"], "additionalProperties": False}
    for parameters in (closed, {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}):
        with pytest.raises(ExportError, match=r"tool 'f'.*at '(f-y'.*no value fits|f-x.*no value ends)"):
            grammar(format, with_parameters(parameters))


def test_a_tool_named_like_the_beginning_of_a_message() -> None:
    """Engines take the longest literal: none may begin with all of another one in its place."""
    tools = with_parameters({"type": "object", "properties": {}}, "update")
    lark = grammar(registry.get("muse"), tools, syntax="lark")
    assert "assistant to=user" not in lark


def test_options() -> None:
    two = f"{CALL}\n{CALL}"
    assert accepts(CALL)
    assert accepts(two)
    assert not accepts(two, parallel=False)
    assert accepts(f"Yes.\n{CALL}")
    assert not accepts(f"Yes.{CALL}")
    assert not accepts(f"Yes.\n{CALL}", content=False)
    assert accepts("Just text.")
    assert not accepts("Just text.", required=True)
    assert not accepts("Just text.", content=False)
    assert accepts(f"<think>\nHm.\n</think>\n\n{CALL}")
    assert not accepts(f"<think>\nHm.\n</think>\n\n{CALL}", reasoning=False)
    assert not accepts("")
    assert accepts("Just text.", tools=[])


def test_nothing_else_is_accepted() -> None:
    assert not accepts(CALL.replace("get_weather", "get_whether"))
    assert not accepts(CALL.replace('"Paris"', "3"))
    assert not accepts(CALL.replace('{"city": "Paris"}', "{}"))
    assert not accepts(CALL.replace('"Paris"', '"Paris", "when": 1'))
    assert not accepts(CALL[:-1])
    assert not accepts(CALL + " ", content=False)
    assert not accepts(CALL + "<tool_call>")
    assert not accepts("An opening <tool_call> in text.")


def test_nothing_stands_behind_calls_without_a_marker() -> None:
    """What follows such calls makes them text: the parser says so, and so must a grammar."""
    format, call = registry.get("llama3-json"), '{"name": "get_weather", "parameters": {"city": "x"}}'
    assert accepts(call, format=format)
    assert accepts(f"I see.\n{call}", format=format)
    assert not accepts(f"{call} So be it.", format=format)
    assert not accepts(f"I see. {call}", format=format)


def test_a_marker_that_ends_the_turn_may_be_missing() -> None:
    """It is a stop token of the server, which no grammar sees; parameters in tags need it."""
    format: Any = registry.get("harmony")
    call = ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "x"}'
    assert accepts(call, format=format)
    assert accepts(f"{call}<|call|>", format=format)
    assert not accepts(f"{call}<|start|>assistant{call}<|call|>", format=format)
    assert accepts(f"{call}<|call|><|start|>assistant{call}", format=format)
    assert not accepts(
        " to=get_weather<|channel|>analysis <|constrain|>xml<|message|>",
        format=registry.get("beam"),
    )


def test_the_end_of_a_thought_that_never_began() -> None:
    """MiniMax-M3's template writes it where there is no thought."""
    format: Any = registry.get("minimax-m3")
    call = render(format, [("get_weather", {"city": "x"})])
    assert accepts(f"</mm:think>{call}", format=format)
    assert accepts(f"</mm:think>Well.{call}", format=format)
    assert not accepts(f"</mm:think></mm:think>{call}", format=format)
    assert not accepts(f"</mm:think>{call}", format=format, reasoning=False)


def test_what_templates_write_beside_the_picture() -> None:
    """An empty thought, blanks before the first call, text behind the last one."""
    qwen, glm, deepseek = (registry.get(name) for name in ("qwen", "glm47", "deepseek-v4"))
    assert accepts(f"<think>\n\n</think>\n\n{CALL}", format=qwen)
    assert accepts(f"{CALL}\nThat is all.", format=qwen)
    for format in (glm, deepseek):
        call = render(format, [("get_weather", {"city": "x"})], prefill=format.prefill)
        for before in ("", "\n"):
            assert accepts(before + call, format=format), before + call
    call = render(deepseek, [("get_weather", {"city": "x"})])
    assert accepts(f"\n\n{call.lstrip()}", format=deepseek)


def test_loose() -> None:
    """Blanks between the parts of arguments, and keys in any order; nothing else."""
    swapped = '<tool_call>\n{"name": "get_weather", "arguments": { "days" : 3,\n"city": "x"}}\n</tool_call>'
    assert accepts(swapped, loose=True)
    assert not accepts(swapped)
    assert not accepts(swapped.replace('"city"', '"days"'), loose=True)


def test_ids_are_followed_once() -> None:
    """An id before the name is any text: in two hundred tools at once it is too much for llguidance."""
    tools = [tool for number in range(20) for tool in with_parameters({"type": "object"}, f"do_{number}")]
    format: Any = registry.get("command4")
    text = grammar(format, tools, syntax="lark")
    assert sum(line.count(" ID ") for line in text.split("\n")) == len(re.findall(r" ID .{1,40}do_. call", text)) > 0


def test_prefill() -> None:
    nemotron = registry.get("nemotron3")
    call = "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"
    assert accepts(f"Hm.\n</think>\n{call}", format=nemotron)
    assert not accepts(f"<think>\nHm.\n</think>\n{call}", format=nemotron)
    assert accepts(f"<think>\nHm.\n</think>\n{call}", format=nemotron, prefill="")
    assert accepts(f"\n</think>\n{call}", format=nemotron, reasoning=False)
    assert not accepts(f"Hm.\n</think>\n{call}", format=nemotron, reasoning=False)


def test_schemas() -> None:
    string, integer = {"type": "string"}, {"type": "integer"}
    ordered = {"type": "object", "properties": {"a": string, "b": integer, "c": {}}, "required": ["b"]}
    assert fits('{"a": "x", "b": 1, "c": [null]}', ordered)
    assert fits('{"b": 1}', ordered)
    assert not fits('{"a": "x"}', ordered)
    assert not fits('{"b": 1, "a": "x"}', ordered)
    assert not fits('{"b": 1.5}', ordered)
    tree = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/Node"}},
        "required": ["root"],
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"n": integer, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
                "required": ["n", "next"],
            }
        },
    }
    assert fits('{"root": {"n": 1, "next": {"n": 2, "next": null}}}', tree)
    assert not fits('{"root": {"n": 1, "next": {"n": "2", "next": null}}}', tree)
    union = {"type": "object", "properties": {"x": {"type": ["integer", "null"], "default": 1}}}
    assert fits('{"x": null}', union)
    assert fits('{"x": 12345678901234567890}', union)
    assert not fits('{"x": "1"}', union)
    assert fits("{}", union)
    listed = {"type": "object", "properties": {"x": {"enum": ["a", 1, None, {"k": [1]}]}, "y": {"const": True}}}
    assert fits('{"x": {"k": [1]}, "y": true}', listed)
    assert not fits('{"x": "b"}', listed)
    several = {"type": "object", "properties": {"x": {"type": "array", "items": integer, "minItems": 1, "maxItems": 2}}}
    assert fits('{"x": [1, 2]}', several)
    assert not fits('{"x": []}', several)
    assert not fits('{"x": [1, 2, 3]}', several)
    both = {"allOf": [{"properties": {"a": string}, "required": ["a"]}, {"properties": {"b": integer}}]}
    assert fits('{"a": "x", "b": 2}', both)
    assert not fits('{"b": 2}', both)
    further = {"type": "object", "properties": {"a": string}, "additionalProperties": integer}
    assert fits('{"a": "x", "b": 2, "ab": 3}', further)
    assert not fits('{"b": 2, "a": 3}', further)
    assert fits('{"anything": {"goes": [1, "x", null]}}', {"type": "object"})
    assert fits("{}", {"type": "object", "properties": {}})
    assert not fits('{"a": 1}', {"type": "object", "properties": {}})
    short = {"type": "object", "properties": {"x": {"type": "string", "minLength": 1, "maxLength": 2}}}
    assert fits('{"x": "ab"}', short)
    assert not fits('{"x": ""}', short)
    assert not fits('{"x": "abc"}', short)
    pair = {"type": "object", "properties": {"x": {"type": "array", "prefixItems": [integer, string], "items": False}}}
    assert fits('{"x": [1, "a"]}', pair)
    assert not fits('{"x": ["a", 1]}', pair)


def test_strings() -> None:
    one = {"type": "object", "properties": {"x": {"type": "string"}}}
    assert fits('{"x": "\\u00e9\\n\\ud83d\\ude00 </tool_call>"}', one)
    assert not fits('{"x": "\n"}', one)
    assert not fits('{"x": "\\ud83d"}', one)
    assert not fits('{"x": "\\x41"}', one)


def test_arguments_inside_a_string() -> None:
    """A format that writes the arguments as a JSON text in a JSON string."""
    format = Format("encoded", call='<call>{"name": "{{name}}", "arguments": "{{arguments}}"}</call>')
    for tools, texts in cases(format, seed=6, count=4):
        made = Gbnf(grammar(format, tools, required=True))
        for text in texts:
            assert made.accepts(text), text
        rng = random.Random(7)
        for _ in range(10):
            text = made.sentence(rng)
            assert all(call.ok for call in Parser(format).parse(text, tools=tools).tool_calls), text


def test_errors_name_the_reason() -> None:
    told = "'my-key' is no identifier, and format 'pythonic' writes arguments as key=value"
    with pytest.raises(ExportError, match=told):
        grammar(registry.get("pythonic"), with_argument({"type": "string"}, "my-key"))
    free = with_parameters({"type": "object"})
    with pytest.raises(ExportError, match="format 'minimax-m3' writes a parameter's name twice"):
        grammar(registry.get("minimax-m3"), free)
    with pytest.raises(ExportError, match="a call is required, but there are no tools"):
        grammar(HERMES, [], required=True)
    with pytest.raises(ValueError, match="no grammar syntax is called 'peg'; choose one of 'gbnf', 'ebnf', 'lark'"):
        grammar(HERMES, [TOOL], syntax="peg")
    for schema, words in (
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "'allOf'"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "'minLength' and 'maxLength'"),
        ({"type": "array", "minItems": 3, "maxItems": 1}, "'minItems' and 'maxItems'"),
        ({"enum": []}, "'enum'"),
    ):
        for name in ("hermes", "glm47"):
            with pytest.raises(ExportError, match=f"tool 'f'.*at 'f-x': no value fits .*{words}"):
                grammar(registry.get(name), with_argument(schema))
    for schema, name, syntax, reason in (
        ({"type": "integer", "multipleOf": 777}, "hermes", "lark", "'f-x-integer' .*too large a regular expression"),
        ({"type": "string", "maxLength": 3000}, "hermes", "gbnf", "'f-x-text' .*llama.cpp counts .*skip="),
        ({"type": "array", "maxItems": 3000}, "hermes", "gbnf", "'f-x' .*llama.cpp counts .*skip="),
        ({"type": "string", "maxLength": 3000}, "qwen3-coder", "lark", "'f-x-text' .*llguidance counts .*skip="),
        ({"type": "string", "maxLength": 3000}, "qwen3-coder", "gbnf", "'f-x-text' .*too large a grammar"),
    ):
        limited = with_argument(schema)
        with pytest.raises(ExportError, match=reason):
            grammar(registry.get(name), limited, syntax=syntax)
        assert grammar(registry.get(name), limited, syntax="ebnf")
        assert grammar(registry.get(name), limited, syntax=syntax, skip=["multipleOf", "maxLength", "maxItems"])
    with pytest.raises(ExportError, match="no arguments fit"):
        grammar(HERMES, with_parameters({"type": "object", "anyOf": [{"type": "object", "enum": []}]}))


def test_every_format_in_every_syntax() -> None:
    """Each syntax expresses each format, with a tool that uses most of what schemas have."""
    for syntax in ("gbnf", "ebnf", "lark"):
        for format in registry.formats():
            assert grammar(format, [TOOL], syntax=syntax).count("\n") > 5


@pytest.mark.parametrize(
    ("name", "value", "text", "other"),
    [
        *(
            (name, {"ok": False, "z": None}, '{"ok": false, "z": null}', '{"ok": False, "z": None}')
            for name in ("qwen3-coder", "nemotron3", "step3p5", "granite-thinking")
        ),
        ("qwen3-coder", False, "\nFalse\n", "\nfalse\n"),
        ("qwen3-coder", [True, "a"], '[true, "a"]', '[True, "a"]'),
        ("lfm2", {"ok": False, "z": None}, '={"ok": false, "z": null}', "={'ok': False, 'z': None}"),
        ("lfm2", [True, "a"], "=[True, 'a']", '=[true, "a"]'),
        ("lfm2", False, "=False", "=false"),
        ("seed-oss", {"ok": False, "z": None}, "{'ok': False, 'z': None}", '{"ok": false, "z": null}'),
    ],
)
def test_nested_values_are_spelled_as_the_templates_do(name: str, value: Any, text: str, other: str) -> None:
    """What stands alone is Python's, what has parts is JSON: the templates' own way, and the grammar's only one."""
    format: Any = registry.get(name)
    schemas: dict[type, Any] = {
        dict: {"type": "object", "properties": {"ok": {"type": "boolean"}, "z": {"type": "null"}}},
        bool: {"type": "boolean"},
        list: {"type": "array"},
    }
    tools = with_argument(schemas[type(value)])
    written = render(format, [("f", {"x": value})])
    assert text in written
    made = Gbnf(grammar(format, tools, prefill=""))
    assert made.accepts(written)
    assert not made.accepts(written.replace(text, other))


@pytest.mark.parametrize(
    ("name", "properties", "calls"),
    [
        ("cohere-cofl", {"m": {"type": "object"}}, [{"m": {"my key": "x", "ü": 1}}]),
        ("gemma4", {"m": {"type": "object"}}, [{"m": {"ü": 1}}]),
        ("functiongemma", {"m": {"type": "object"}}, [{"m": {"ü": 1, "a-b": 2}}]),
        ("minicpm5", {"a": {"type": "string"}, "b": {"type": "string"}}, [{"a": "", "b": "<x>"}]),
        ("muse", {"a": {"type": "string"}}, [{"a": "1"}, {"a": "2"}]),
    ],
)
def test_odd_names_and_empty_values(name: str, properties: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    format: Any = registry.get(name)
    tools = with_parameters({"type": "object", "properties": properties})
    text = render(format, [("f", arguments) for arguments in calls])
    assert accepts(text, format=format, tools=tools)
    lark = pytest.importorskip("lark", reason="lark is not installed: it reads the grammars in its syntax")
    lark.Lark(grammar(format, tools, syntax="lark"), parser="earley", lexer="dynamic").parse(text)


def test_text_holds_nothing_that_begins_an_element() -> None:
    """Where values may be nested elements, a text that begins one would be read as one."""
    format: Any = registry.get("cohere-cofl")
    tools = with_argument({"type": "string"}, "a")
    text = render(format, [("f", {"a": "x y"})])
    assert accepts(text, format=format, tools=tools)
    assert not accepts(text.replace("x y", 'x <cofl:value type="y'), format=format, tools=tools)


@pytest.mark.parametrize("name", ["qwen", "deepseek-v31", "mistral-v13", "harmony", "gemma4", "glm47"])
def test_markers_that_are_tokens(name: str) -> None:
    """Lark and EBNF name special tokens by their ids, wherever a marker stood; GBNF keeps texts."""
    tokenizers = pytest.importorskip("fixtures.tokenizers")
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: it brings the vocabulary")
    backend = tokenizers.backend(name)
    format: Any = registry.get(name)
    text = grammar(format, [TOOL], syntax="lark", tokenizer=backend)
    used = {int(found) for found in re.findall(r"<\[(\d+)\]>", text)}
    markers = {backend.token_to_id(marker): marker for marker in tokenizers.markers(name)}
    assert used
    assert used <= markers.keys()
    for line in text.split("\n"):
        literals = re.findall(r'"((?:[^"\\]|\\.)*)"', line.partition(": ")[2]) if "/" not in line else []
        assert not any(marker in literal for literal in literals for marker in markers.values()), line
    assert grammar(format, [TOOL], syntax="gbnf", tokenizer=backend) == grammar(format, [TOOL], syntax="gbnf")
    ebnf = grammar(format, [TOOL], syntax="ebnf", tokenizer=backend)
    assert {int(found) for found in re.findall(r"Token\((\d+)\)", ebnf)} == used
    said = re.sub(r"TagDispatch\(.+\)", "", ebnf)  # what a text must not hold is text
    assert not any(
        marker in literal for literal in re.findall(r'"((?:[^"\\]|\\.)*)"', said) for marker in markers.values()
    )
    parser = Parser(format, tools=[TOOL], tokenizer=backend)
    assert parser.grammar(syntax="lark") == text
