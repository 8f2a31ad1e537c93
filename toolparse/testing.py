"""The laws that every format keeps, as property-based tests that users can run on formats of their own.

    from toolparse import Format, testing

    testing.check(Format("mine", call="<call>{{name}} {{arguments}}</call>"))

Each law takes a Format and raises AssertionError with the example that breaks it. They need `hypothesis`.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolparse.codecs import json
from toolparse.errors import RenderError
from toolparse.events import ArgumentsDelta, CallEnded, CallStarted, ContentDelta, Event, IssueFound, ReasoningDelta
from toolparse.format import Format
from toolparse.message import ParsedMessage, ToolCall
from toolparse.parser import Parser
from toolparse.program import compile_format
from toolparse.render import write_call

Json = Any

_AWKWARD = (
    "", " ", "\n", "a\nb", '"', "'", "\\", "\\n", "it's \"quoted\"", "{", "}", "[1, 2]", '{"a": 1}', "null", "true",
    "None", "75001", "-1.5", "1e5", "<b>", "</b>", "a < b && c > d", "&amp;", "，", "日本語", "🙂", "\u00a0", "e\u0301",
    "\t", "x" * 300, "f(a=1)", "```json", "]]>", "#", "; ", ", ",
)  # fmt: skip


def names() -> st.SearchStrategy[str]:
    """Names as tools and parameters have them."""
    first = st.sampled_from(string.ascii_letters + "_")
    rest = st.text(string.ascii_letters + string.digits + "_", max_size=12)
    return st.builds(lambda a, b: a + b, first, rest).filter(lambda name: name not in _WORDS)


_WORDS = frozenset({"None", "True", "False", "true", "false", "null", "f", "r", "b", "u", "F", "R", "B", "U"})


def texts(format: Format | None = None) -> st.SearchStrategy[str]:
    """Strings as arguments hold them: any characters, awkward ones, and the format's own markers."""
    pieces: list[st.SearchStrategy[str]] = [
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.text(string.printable, max_size=30),
        st.sampled_from(_AWKWARD),
    ]
    if format is not None:
        markers = compile_format(format).all_markers
        if markers:
            pieces.append(
                st.builds(lambda a, m, b: a + m + b, st.text(max_size=4), st.sampled_from(markers), st.text(max_size=4))
            )
    return st.one_of(pieces)


def values(format: Format | None = None) -> st.SearchStrategy[Json]:
    """JSON values: unicode, quotes, markers, big integers, floats, null, nesting."""
    scalars = st.one_of(
        texts(format),
        st.integers(),
        st.integers(-(10**40), 10**40),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names(), inner, max_size=3),
        max_leaves=6,
    )


def calls(format: Format | None = None, *, max_size: int = 3, min_size: int = 1) -> st.SearchStrategy[list[ToolCall]]:
    """Lists of calls with consistent indices, with ids where the format writes them."""
    one = st.tuples(names(), st.dictionaries(names(), values(format), max_size=4))
    if format is not None and not format.parallel:
        min_size, max_size = min(min_size, 1), 1
    return st.lists(one, min_size=min_size, max_size=max_size).map(lambda items: _numbered(format, items))


def _numbered(format: Format | None, items: list[tuple[str, dict[str, Json]]]) -> list[ToolCall]:
    numbered = [ToolCall(name, arguments, None, index) for index, (name, arguments) in enumerate(items)]
    if format is None or not carries_ids(format):
        return numbered
    parser = Parser(format)
    return [ToolCall(c.name, c.arguments, _id_of(parser, c), c.index) for c in numbered]


def _id_of(parser: Parser, call: ToolCall) -> str | None:
    from toolparse.message import fill_id

    return fill_id(parser.format.new_id or parser.format.id or "call_{{index}}", call.name, call.index)


def carries_ids(format: Format) -> bool:
    """Whether the format writes call ids."""
    return "{{id}}" in format.call


#: Of five examples of a law, hypothesis draws one (and shrinks it when it breaks), a seed makes four: drawing costs
#: ten times what checking does.
_MADE = 4


def made_text(rng: random.Random, markers: Sequence[str]) -> str:
    """A string as arguments hold them, made from a seed."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(_AWKWARD)
    if kind == 1 and markers:
        return made_word(rng) + rng.choice(markers) + made_word(rng)
    if kind == 2:
        return "".join(
            chr(rng.choice((rng.randrange(32, 127), rng.randrange(160, 0xD7FF)))) for _ in range(rng.randrange(9))
        )
    if kind == 3:
        return "".join(rng.choice(string.printable) for _ in range(rng.randrange(25)))
    return " ".join(made_word(rng) for _ in range(rng.randrange(6)))


def made_word(rng: random.Random) -> str:
    """A word of letters."""
    return "".join(rng.choice(string.ascii_letters) for _ in range(rng.randrange(1, 8)))


def made_value(rng: random.Random, markers: Sequence[str], depth: int = 0) -> Json:
    """A JSON value, made from a seed."""
    kind = rng.randrange(9 if depth < 3 else 7)
    if kind < 3:
        return made_text(rng, markers)
    if kind == 3:
        return rng.choice((0, -1, rng.randrange(-999, 999), rng.randrange(10**40)))
    if kind == 4:
        return rng.choice((0.0, -0.5, 1e-7, 1e300, rng.uniform(-1e6, 1e6)))
    if kind < 7:
        return rng.choice((True, False, None))
    if kind == 7:
        return [made_value(rng, markers, depth + 1) for _ in range(rng.randrange(3))]
    return {"k" + made_word(rng): made_value(rng, markers, depth + 1) for _ in range(rng.randrange(3))}


def made_calls(format: Format, rng: random.Random, *, min_size: int = 1) -> list[ToolCall]:
    """Calls made from a seed."""
    markers = compile_format(format).all_markers
    count = rng.randint(min_size, 3) if format.parallel else 1
    items = [
        ("t" + made_word(rng), {"k" + made_word(rng): made_value(rng, markers) for _ in range(rng.randrange(4))})
        for _ in range(count)
    ]
    return _numbered(format, items)


def made_output(format: Format, rng: random.Random) -> str:
    """What a model might write, made from a seed."""
    parser = Parser(format)
    markers = _pieces(format)
    if rng.randrange(5) == 0:
        return "".join(rng.choice(markers) for _ in range(rng.randrange(14)))
    thought = rng.choice((None, "Hmm.")) if format.reasoning is not None else None
    items, content = made_calls(format, rng, min_size=0), made_text(rng, markers)
    text = _written(parser, items, content, thought, end=rng.random() < 0.5)
    if rng.random() < 0.6:
        text = damaged(text, rng, markers)
    return text + made_output(format, rng) if rng.randrange(6) == 0 else text


def schema_of(items: Sequence[ToolCall], *, deep: bool = False) -> list[dict[str, Any]]:
    """Tools under whose schemas these calls are valid: the types of text values follow from them.

    `deep`: at every depth, for formats whose values are text even inside objects and lists.
    """
    properties: dict[str, dict[str, Any]] = {}
    for call in items:
        known = properties.setdefault(call.name, {})
        for key, value in call.arguments.items():
            schema = _value_schema(value, deep)
            if key in known and known[key] != schema:
                known[key] = {}
            else:
                known.setdefault(key, schema)
    return [
        {
            "type": "function",
            "function": {"name": name, "description": "", "parameters": {"type": "object", "properties": known}},
        }
        for name, known in properties.items()
    ]


def _value_schema(value: Json, deep: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": json.type_of(value)}
    if deep and isinstance(value, dict):
        schema["properties"] = {key: _value_schema(item, deep) for key, item in value.items()}
    elif deep and isinstance(value, list):
        schema["prefixItems"] = [_value_schema(item, deep) for item in value]
    return schema


def _needs_depth(format: Format) -> bool:
    return format.item is not None and format.types is None


def same(left: Json, right: Json) -> bool:
    """Whether two JSON values are the same, types of numbers and booleans included; key order does not matter."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


# -- law 1 ------------------------------------------------------------------------------------------------------------


def round_trip(format: Format, *, max_examples: int = 100) -> None:
    """Law 1: what `render` writes, `parse` reads back. `render` may refuse awkward values, never plain ones."""
    parser = Parser(format)
    thought = "Let me think about it." if format.reasoning is not None else None

    contents = ("", "Hello.", "Two\nlines, and 3 < 4.")

    def check_one(items: list[ToolCall], content: str, reasoning: str | None) -> None:
        deep = _needs_depth(format)
        if _mixed(items, deep=deep):
            return
        tools = schema_of(items, deep=deep)
        try:
            text = parser.render(items, content=content, reasoning=reasoning)
        except RenderError as error:
            text = _must_render(parser, items, reasoning, str(error))
            items = plain_calls(items)
            content = ""
        message = parser.parse(text, tools=tools)
        assert len(message.tool_calls) == len(items), (text, message)
        for wanted, found in zip(items, message.tool_calls, strict=True):
            assert found.name == wanted.name, (text, found)
            assert same(found.arguments, wanted.arguments), (text, found.arguments, wanted.arguments)
            assert found.ok, (text, found.issues)
            if carries_ids(format):
                assert found.id == wanted.id, (text, found.id)
        assert message.content == content, (text, message.content)
        assert (message.reasoning or "") == (reasoning or ""), (text, message.reasoning)

    @_settings(max_examples)
    @given(calls(format), st.sampled_from(contents), st.sampled_from([None, thought]), st.integers(0, 2**32))
    def law(items: list[ToolCall], content: str, reasoning: str | None, seed: int) -> None:
        check_one(items, content, reasoning)
        rng = random.Random(seed)
        for _ in range(_MADE):
            check_one(made_calls(format, rng), rng.choice(contents), rng.choice((None, thought)))

    law()


def _mixed(items: Sequence[ToolCall], *, deep: bool = False) -> bool:
    """Whether a parameter has two types among the calls, so that no schema gives both back from text."""
    tools = schema_of(items, deep=deep)
    return any(prop == {} for tool in tools for prop in tool["function"]["parameters"]["properties"].values())


def plain(value: Json) -> Json:
    """A value of the same shape that no format can refuse."""
    if isinstance(value, str):
        return "".join(char for char in value if char in string.ascii_letters)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def plain_calls(items: Sequence[ToolCall]) -> list[ToolCall]:
    """The calls with plain values."""
    return [ToolCall(c.name, plain(c.arguments), c.id, c.index) for c in items]


def _must_render(parser: Parser, items: Sequence[ToolCall], reasoning: str | None, why: str) -> str:
    try:
        return parser.render(plain_calls(items), reasoning=reasoning)
    except RenderError as error:
        raise AssertionError(f"render refuses plain values: {error} (first: {why})") from None


# -- texts for the other laws ---------------------------------------------------------------------------------------


def outputs(format: Format) -> st.SearchStrategy[str]:
    """What a model of this format might write: well-formed turns, damaged ones, heaps of markers, prose."""
    parser = Parser(format)
    markers = _pieces(format)

    def turn(items: list[ToolCall], content: str, reasoning: str | None, seed: int) -> str:
        text = _written(parser, items, content, reasoning, end=bool(seed & 1))
        return damaged(text, random.Random(seed), markers) if seed & 2 else text

    well = st.builds(
        turn,
        calls(format, min_size=0, max_size=2),
        texts(format),
        st.sampled_from([None, "Hmm."] if format.reasoning is not None else [None]),
        st.integers(0, 2**16),
    )
    heap = st.lists(st.sampled_from(markers), max_size=14).map("".join)
    return st.one_of(well, well, heap, texts(format), st.lists(st.one_of(well, heap), max_size=3).map("".join))


def _pieces(format: Format) -> list[str]:
    """What heaps of markers are made of."""
    return [*compile_format(format).all_markers, "{", "}", '"', "[", "]", "\n", " ", "a", "(", ")", ","]


def _written(parser: Parser, items: list[ToolCall], content: str, reasoning: str | None, *, end: bool) -> str:
    """A turn, also where the format cannot carry it."""
    try:
        return parser.render(items, content=content, reasoning=reasoning, end=end)
    except RenderError:
        return content + "".join(write_plain(parser.format, call, n) for n, call in enumerate(items))


def write_plain(format: Format, call: ToolCall, number: int) -> str:
    """A call written without looking at what it means; '' where the format cannot write it at all."""
    try:
        return write_call(format, call, number)
    except RenderError:
        return ""


def damaged(text: str, rng: random.Random, markers: Sequence[str] = ()) -> str:
    """The text with a few characters lost, doubled, replaced or inserted, or cut off."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        kind = rng.randint(0, 4)
        if kind == 0:
            text = text[:at] + text[at + rng.randint(1, 4) :]
        elif kind == 1:
            text = text[:at] + rng.choice('"{}[]<>\\,:=()\n' + string.ascii_letters) + text[at:]
        elif kind == 2:
            text = text[:at]
        elif kind == 3 and markers:
            text = text[:at] + rng.choice(markers) + text[at:]
        else:
            text = text[:at] + text[max(0, at - 5) :]
    return text


def chunked(text: str, seed: int) -> list[str]:
    """The text in pieces; the seed chooses how."""
    rng = random.Random(seed)
    longest = rng.choice((1, 2, 3, 5, 12, 40))
    pieces: list[str] = []
    at = 0
    while at < len(text):
        size = rng.randint(1, longest)
        pieces.append(text[at : at + size])
        at += size
    return pieces


# -- law 3 ------------------------------------------------------------------------------------------------------------


def chunking(format: Format, *, max_examples: int = 100) -> None:
    """Law 3: however a text is cut, the stream ends with what `parse` gives, and its deltas add up to it."""
    parser = Parser(format)

    def check_one(text: str, seed: int, with_tools: bool) -> None:
        message = parser.parse(text)
        tools = schema_of([c for c in message.tool_calls if c.name.strip()]) if with_tools else None
        if with_tools:
            message = parser.parse(text, tools=tools)
        stream = parser.stream(tools=tools)
        events: list[Event] = []
        for piece in chunked(text, seed):
            events.extend(stream.feed(piece))
        streamed = stream.close()
        events.extend(stream.finish())
        assert_same_message(message, streamed)
        assert_deltas(message, events)

    @_settings(max_examples)
    @given(outputs(format), st.integers(0, 2**32), st.booleans())
    def law(text: str, seed: int, with_tools: bool) -> None:
        check_one(text, seed, with_tools)
        rng = random.Random(seed)
        for _ in range(_MADE):
            check_one(made_output(format, rng), rng.randrange(2**32), rng.random() < 0.3)

    law()


def assert_same_message(left: ParsedMessage, right: ParsedMessage) -> None:
    """Both messages hold the same, spans and issues included."""
    assert left.content == right.content, (left.content, right.content)
    assert left.reasoning == right.reasoning, (left.reasoning, right.reasoning)
    assert [_facts(c) for c in left.tool_calls] == [_facts(c) for c in right.tool_calls], (
        left.tool_calls,
        right.tool_calls,
    )
    assert left.spans == right.spans, (left.spans, right.spans)
    assert left.issues == right.issues, (left.issues, right.issues)
    assert left.truncated == right.truncated
    assert left.text == right.text


def _facts(call: ToolCall) -> tuple[Any, ...]:
    return (call.name, json.encode(call.arguments), call.id, call.index, call.span, call.raw, call.issues)


def assert_deltas(message: ParsedMessage, events: Sequence[Event]) -> None:
    """The events of a stream add up to its message."""
    content = "".join(e.text for e in events if isinstance(e, ContentDelta))
    reasoning = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    assert content == message.content, (content, message.content)
    assert reasoning == (message.reasoning or ""), (reasoning, message.reasoning)
    ended = [e.call for e in events if isinstance(e, CallEnded)]
    assert [_facts(c) for c in ended] == [_facts(c) for c in message.tool_calls]
    started = {e.index: e for e in events if isinstance(e, CallStarted)}
    for call in message.tool_calls:
        if not call.ok:
            continue
        assert call.index in started, (call, events)
        assert started[call.index].name == call.name, (call, events)
        text = "".join(e.json for e in events if isinstance(e, ArgumentsDelta) and e.index == call.index)
        assert same(json.decode(text), call.arguments), (text, call.arguments)
    assert tuple(e.issue for e in events if isinstance(e, IssueFound)) == message.issues


# -- laws 4 and 7 ---------------------------------------------------------------------------------------------------


def nothing_lost(format: Format, *, max_examples: int = 100) -> None:
    """Laws 4 and 7: spans tile the text exactly, and nothing that a model writes raises."""
    parser = Parser(format)

    def check_one(text: str) -> None:
        message = parser.parse(text)
        assert_tiles(message, text)
        spans = {(span.start, span.end) for span in message.spans if span.kind == "call"}
        for call in message.tool_calls:
            assert call.span is not None
            assert (call.span.start, call.span.end) in spans, (call, message.spans)
            assert call.raw == text[call.span.start : call.span.end]

    @_settings(max_examples)
    @given(st.one_of(outputs(format), st.text(max_size=60)), st.integers(0, 2**32))
    def law(text: str, seed: int) -> None:
        check_one(text)
        rng = random.Random(seed)
        for _ in range(_MADE):
            check_one(made_output(format, rng))

    law()


def assert_tiles(message: ParsedMessage, text: str) -> None:
    """The spans cover the text from end to end, each character once; content and reasoning are their text."""
    at = 0
    for span in message.spans:
        assert span.start == at, (message.spans, text)
        assert span.end > at, (message.spans, text)
        at = span.end
    assert at == len(text), (message.spans, len(text))
    for kind, wanted in (("content", message.content), ("reasoning", message.reasoning or "")):
        joined = "".join(text[s.start : s.end] for s in message.spans if s.kind == kind)
        assert joined == wanted, (kind, joined, wanted)


# -- law 5 ------------------------------------------------------------------------------------------------------------


def one_bad_call(format: Format, *, max_examples: int = 60) -> None:
    """Law 5: damage inside the arguments of one call leaves its neighbours as they were."""
    if not format.parallel:
        return  # a call has no neighbours
    parser = Parser(format)

    def check_one(items: list[tuple[str, dict[str, Json]]], rng: random.Random) -> None:
        wanted = _numbered(format, items)
        text = parser.render(wanted)
        victim = rng.randrange(len(wanted))
        before = parser.parse(text)
        assert len(before.tool_calls) == len(wanted), (text, before.tool_calls)
        broken = _damage_call(format, text, before.tool_calls[victim], rng)
        if broken is None:
            return
        after = parser.parse(broken)
        for number, call in enumerate(before.tool_calls):
            if number != victim:
                found = [c for c in after.tool_calls if c == call and c.ok == call.ok and c.raw == call.raw]
                assert found, (text, broken, call, after.tool_calls)

    one = st.tuples(names(), st.dictionaries(names(), plain_values(), min_size=1, max_size=3))

    @_settings(max_examples)
    @given(st.lists(one, min_size=2, max_size=4), st.integers(0, 2**32))
    def law(items: list[tuple[str, dict[str, Json]]], seed: int) -> None:
        rng = random.Random(seed)
        check_one(items, rng)
        for _ in range(_MADE):
            check_one([("t" + made_word(rng), made_plain(rng)) for _ in range(rng.randint(2, 4))], rng)

    law()


def made_plain(rng: random.Random) -> dict[str, Json]:
    """Arguments without markup, made from a seed."""
    values = (made_word(rng), rng.randrange(99), [made_word(rng)], {"k" + made_word(rng): made_word(rng)})
    return {"k" + made_word(rng): rng.choice(values) for _ in range(rng.randint(1, 3))}


def plain_values() -> st.SearchStrategy[Json]:
    """Short values without markup."""
    word = st.text(string.ascii_letters + " ", min_size=1, max_size=8)
    return st.one_of(word, st.integers(-99, 99), st.lists(word, max_size=2), st.dictionaries(names(), word, max_size=2))


def _damage_call(format: Format, text: str, call: ToolCall, rng: random.Random) -> str | None:
    """The text with one character of a call's arguments lost, changed or added; markers stay as they are."""
    assert call.span is not None
    # From behind the first key on: what stands before it is the call's announcement where no marker is.
    after_name = call.raw.find(call.name) + len(call.name)
    keys = [call.raw.find(key, after_name) + len(key) for key in call.arguments]
    first = call.span.start + min(key for key in keys if key >= 0) + 1
    markers = [core for core in compile_format(format).all_markers if len(core) > 1]
    shielded = {
        at
        for core in markers
        for match in re.finditer(re.escape(core), text)
        for at in range(match.start() - 1, match.end() + 1)
    }
    places = [at for at in range(first, call.span.end - 1) if at not in shielded]
    if not places:
        return None
    at = rng.choice(places)
    kind = rng.randint(0, 2)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    char = rng.choice(string.ascii_letters + '"')
    return text[:at] + char + text[at + (kind == 1) :]


# -- all of them ----------------------------------------------------------------------------------------------------

LAWS: dict[str, Callable[..., None]] = {
    "round trip": round_trip,
    "chunking": chunking,
    "nothing lost": nothing_lost,
    "one bad call": one_bad_call,
}


def check(format: Format, *, max_examples: int = 100) -> None:
    """All laws on one format. Raises AssertionError with the shortest example that breaks one."""
    for law in LAWS.values():
        law(format, max_examples=max_examples)


def _settings(max_examples: int) -> settings:
    return settings(
        max_examples=-(-max_examples // (1 + _MADE)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
