"""The laws. Each takes a Format and raises AssertionError with the example that breaks it."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolparse.codecs import json
from toolparse.compile import compile_format
from toolparse.errors import RenderError
from toolparse.events import ArgumentsDelta, CallEnded, CallStarted, ContentDelta, Event, IssueFound, ReasoningDelta
from toolparse.format import Format
from toolparse.message import ParsedMessage, ToolCall
from toolparse.parser import Parser
from toolparse.picture import HOLE
from toolparse.render import write_call
from toolparse.testing.strategies import (
    Json,
    calls,
    carries_ids,
    chunked,
    inner_call,
    made_calls,
    made_output,
    made_plain,
    made_turn,
    made_word,
    names,
    needs_depth,
    numbered,
    outputs,
    plain_calls,
    plain_values,
    same,
    schema_of,
    wrapper_keys,
)

#: Of five examples of a law, hypothesis draws one (and shrinks it when it breaks), a seed makes four: drawing costs
#: ten times what checking does.
_MADE = 4
_SEEDS = st.integers(0, 2**32)

Calls = list[tuple[str, dict[str, Json]]]


def _hold(
    check: Callable[..., None],
    drawn: st.SearchStrategy[tuple[Any, ...]],
    made: Callable[[random.Random], tuple[Any, ...]],
    max_examples: int,
) -> None:
    """Check what hypothesis draws, and what a seed makes."""

    @settings(
        max_examples=-(-max_examples // (1 + _MADE)),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn, _SEEDS)
    def law(example: tuple[Any, ...], seed: int) -> None:
        check(*example)
        rng = random.Random(seed)
        for _ in range(_MADE):
            check(*made(rng))

    law()


# -- law 1 ------------------------------------------------------------------------------------------------------------


def round_trip(format: Format, *, max_examples: int = 100) -> None:
    """Law 1: what `render` writes, `parse` reads back. `render` may refuse awkward values, never plain ones."""
    parser = Parser(format)
    thoughts = (None, "Let me think about it." if format.reasoning is not None else None)
    contents = ("", "Hello.", "Two\nlines, and 3 < 4.")

    def check_one(items: list[ToolCall], content: str, reasoning: str | None) -> None:
        deep = needs_depth(format)
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

    def made(rng: random.Random) -> tuple[Any, ...]:
        return made_calls(format, rng), rng.choice(contents), rng.choice(thoughts)

    drawn = st.tuples(calls(format), st.sampled_from(contents), st.sampled_from(thoughts))
    _hold(check_one, drawn, made, max_examples)


def _mixed(items: Sequence[ToolCall], *, deep: bool = False) -> bool:
    """Whether a parameter has two types among the calls, so that no schema gives both back from text."""
    tools = schema_of(items, deep=deep)
    return any(prop == {} for tool in tools for prop in tool["function"]["parameters"]["properties"].values())


def _must_render(parser: Parser, items: Sequence[ToolCall], reasoning: str | None, why: str) -> str:
    try:
        return parser.render(plain_calls(items), reasoning=reasoning)
    except RenderError as error:
        raise AssertionError(f"render refuses plain values: {error} (first: {why})") from None


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
        events = [event for piece in chunked(text, seed) for event in stream.feed(piece)]
        assert_same_message(message, stream.close())
        assert_deltas(message, [*events, *stream.finish()])

    def made(rng: random.Random) -> tuple[Any, ...]:
        return made_output(format, rng), rng.randrange(2**32), rng.random() < 0.3

    _hold(check_one, st.tuples(outputs(format), _SEEDS, st.booleans()), made, max_examples)


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
    """The events of a stream add up to its message: content, reasoning, issues, and the calls that end."""
    content = "".join(e.text for e in events if isinstance(e, ContentDelta))
    reasoning = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    assert content == message.content, (content, message.content)
    assert reasoning == (message.reasoning or ""), (reasoning, message.reasoning)
    ended = [e.call for e in events if isinstance(e, CallEnded)]
    assert [_facts(c) for c in ended] == [_facts(c) for c in message.tool_calls]
    assert tuple(e.issue for e in events if isinstance(e, IssueFound)) == message.issues


def event_grammar(format: Format, *, max_examples: int = 100) -> None:
    """Law 3, whatever the prompt holds: streams equal the one-shot message, and events are well formed.

    With arguments before the name, prompts that open thoughts and calls, and prompts that end in any marker.
    """
    parser = Parser(format)

    def check_one(prompt: str | None, text: str, seed: int, with_tools: bool) -> None:
        tools = schema_of([c for c in parser.parse(text).tool_calls if c.name.strip()]) if with_tools else None
        message = parser.parse(text, tools=tools, prompt=prompt)
        assert_tiles(message, text)
        stream = parser.stream(tools=tools, prompt=prompt)
        events = [event for piece in chunked(text, seed) for event in stream.feed(piece)]
        assert_same_message(message, stream.close())
        assert_events(message, [*events, *stream.finish()])

    def made(rng: random.Random) -> tuple[Any, ...]:
        return *made_turn(format, rng), rng.randrange(2**32), rng.random() < 0.3

    _hold(check_one, st.tuples(st.none(), outputs(format), _SEEDS, st.booleans()), made, max_examples)


def assert_events(message: ParsedMessage, events: Sequence[Event]) -> None:
    """The events of a stream are well formed and add up to its message.

    For every call of `tool_calls`, in their order: one CallStarted with its name (and its id, where that is known by
    then), then any number of ArgumentsDelta, then one CallEnded with the call itself; nothing of another call, and
    neither content nor reasoning, comes between. The deltas of an ok call, joined, decode to its arguments. Content,
    reasoning and issues are those of the message, in order.
    """
    assert_deltas(message, events)
    waiting = list(message.tool_calls)
    started: CallStarted | None = None
    said = ""
    for event in events:
        if isinstance(event, CallStarted):
            assert started is None, ("a call starts inside another one", event, events)
            assert waiting, ("a call starts that is none", event, events)
            started, said = event, ""
            assert (event.index, event.name) == (waiting[0].index, waiting[0].name), (event, waiting[0])
            assert event.id in (None, waiting[0].id), (event, waiting[0])  # it may stand behind the arguments
        elif isinstance(event, ArgumentsDelta):
            assert started is not None, ("arguments before the call starts", event, events)
            assert event.index == started.index, (event, started)
            said += event.json
        elif isinstance(event, CallEnded):
            assert started is not None, ("a call ends that didn't start", event, events)
            call = waiting.pop(0)
            assert event.index == call.index, (event, call)
            assert _facts(event.call) == _facts(call), (event.call, call)
            if call.ok:
                assert same(_decoded(said), call.arguments), (said, call.arguments)
            started = None
        elif started is not None:
            assert not isinstance(event, ContentDelta | ReasoningDelta), ("text inside a call", event, events)
    assert started is None, ("a call doesn't end", started, events)
    assert not waiting, ("calls of which the stream says nothing", waiting, events)


def _decoded(text: str) -> Json:
    try:
        return json.decode(text)
    except ValueError as error:
        raise AssertionError(f"the arguments' deltas are no JSON ({error}): {text!r}") from None


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

    drawn = st.tuples(st.one_of(outputs(format), st.text(max_size=60)))
    _hold(check_one, drawn, lambda rng: (made_output(format, rng),), max_examples)


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

    def check_one(items: Calls, seed: int) -> None:
        rng = random.Random(seed)
        wanted = numbered(format, items)
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

    def made(rng: random.Random) -> tuple[Any, ...]:
        return [("t" + made_word(rng), made_plain(rng)) for _ in range(rng.randint(2, 4))], rng.randrange(2**32)

    one = st.tuples(names(), st.dictionaries(names(), plain_values(), min_size=1, max_size=3))
    _hold(check_one, st.tuples(st.lists(one, min_size=2, max_size=4), _SEEDS), made, max_examples)


_SIGNS = re.compile(r"""["']\s*,\s*\w+\s*[=:]|[^\w\s]+""")


def _damage_call(format: Format, text: str, call: ToolCall, rng: random.Random) -> str | None:
    """The text with one character of a call's arguments lost, changed or added; markers stay as they are."""
    assert call.span is not None
    # From behind the first key on: what stands before it is the call's announcement where no marker is.
    after_name = call.raw.find(call.name) + len(call.name)
    keys = [call.raw.find(key, after_name) + len(key) for key in call.arguments]
    first = call.span.start + min(key for key in keys if key >= 0) + 1
    written = [
        piece.strip() for picture in (format.call, format.param) for piece in HOLE.sub("\0", picture or "").split("\0")
    ]
    markers = {core for core in (*compile_format(format).all_markers, *written) if len(core) > 1}
    # Where texts are not escaped, signs and what follows a quote are all that tells where one begins and ends.
    ends = _SIGNS.finditer(text) if format.syntax.loose else ()
    shielded = {
        at
        for core in markers
        for match in re.finditer(re.escape(core), text)
        for at in range(match.start() - 1, match.end() + 1)
    } | {at for match in ends for at in range(*match.span())}
    places = [at for at in range(first, call.span.end - 1) if at not in shielded]
    if not places:
        return None
    at = rng.choice(places)
    kind = rng.randint(0, 2)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    char = rng.choice(string.ascii_letters + '"')
    return text[:at] + char + text[at + (kind == 1) :]


# -- law 8 ------------------------------------------------------------------------------------------------------------

#: Keys of a JSON wrapper that mean the arguments, and those that may stand beside them without a word.
ARGUMENT_KEYS = ("arguments", "parameters", "args", "input")
QUIET_KEYS = ("type", "id", "index")


def no_key_dropped(format: Format, *, max_examples: int = 60) -> None:
    """Law 8: a key of a call's object that is neither name, arguments nor id is an issue; arguments are never dropped.

    Holds for formats whose calls are JSON objects. Words that the format itself declares need no issue.
    """
    keys = wrapper_keys(format)
    if keys is None:
        return
    arguments_key = keys[1]
    parser = Parser(format, prefill="")
    declared = {read for read, _ in format.synonyms}
    declared |= {word for word in ARGUMENT_KEYS if any(f'"{word}":' in source for source in format.sources())}

    def check_one(seed: int) -> None:
        rng = random.Random(seed)
        name, arguments = "t" + made_word(rng), made_plain(rng)
        (call,) = numbered(format, [(name, arguments)])
        text = parser.render([call])
        key = re.search(rf'"{arguments_key}"\s*:\s*', text)
        assert key is not None, text
        stranger = rng.choice(("extra", "kwargs", "k" + made_word(rng)))
        kind = rng.randrange(3)
        if kind == 0:
            value = rng.choice(("1", "[]", '""', "{}"))
            text = f'{text[: key.start()]}"{stranger}": {value}, {text[key.start() :]}'
        elif kind == 1:
            text = f'{text[: key.start()]}"{stranger}": {text[key.end() :]}'
        else:
            stranger = rng.choice([known for known in ARGUMENT_KEYS if known != arguments_key])
            text = f'{text[: key.start()]}"{stranger}": {text[key.end() :]}'
        message = parser.parse(text)
        if not message.tool_calls:
            assert message.content.strip(), (text, message)  # no call of this family: all of it is text
            return
        found = message.tool_calls[0]
        quiet = kind == 2 and stranger in declared
        assert found.issues or quiet, ("a key is dropped in silence", text, found)
        if kind == 1:
            assert not found.ok, ("a call without the arguments that were written", text, found)
        elif found.ok:
            assert same(found.arguments, arguments), (text, found.arguments, arguments)

    _hold(check_one, st.tuples(_SEEDS), lambda rng: (rng.randrange(2**32),), max_examples)


# -- law 9 ------------------------------------------------------------------------------------------------------------


def every_call(format: Format, *, max_examples: int = 40) -> None:
    """Law 9: a section reads all its calls, one to five of them with whatever names.

    Also where the format writes one call a section: its element may stand there several times.
    """
    if not format.parallel:
        return
    parser = Parser(format, prefill="")
    inner = inner_call(format)

    def check_one(items: Calls) -> None:
        wanted = numbered(format, items)
        found = parser.parse(parser.render(wanted))
        assert_calls(found, wanted)
        if inner is not None:
            element, before, behind = inner
            first = items[0][0]
            text = "\n".join(write_call(element, call, number) for number, call in enumerate(wanted))
            text = before.replace("{{name}}", first) + text + behind
            assert_calls(parser.parse(text), wanted)

    def made(rng: random.Random) -> tuple[Any, ...]:
        count = rng.randint(1, 5)
        return ([("t" + made_word(rng), {"k" + made_word(rng): made_word(rng)}) for _ in range(count)],)

    one = st.tuples(names(), st.dictionaries(names(), st.just("x"), max_size=2))
    _hold(check_one, st.tuples(st.lists(one, min_size=1, max_size=5)), made, max_examples)


def assert_calls(message: ParsedMessage, wanted: Sequence[ToolCall]) -> None:
    """The message holds exactly these calls, each ok."""
    found = [(call.name, call.ok) for call in message.tool_calls]
    assert found == [(call.name, True) for call in wanted], (message.text, found, message.issues)
    for call, want in zip(message.tool_calls, wanted, strict=True):
        assert same(call.arguments, want.arguments), (message.text, call, want)


# -- all of them ----------------------------------------------------------------------------------------------------

LAWS: dict[str, Callable[..., None]] = {
    "round trip": round_trip,
    "chunking": chunking,
    "event grammar": event_grammar,
    "nothing lost": nothing_lost,
    "one bad call": one_bad_call,
    "no key dropped": no_key_dropped,
    "every call": every_call,
}


def check(format: Format, *, max_examples: int = 100) -> None:
    """All laws on one format. Raises AssertionError with the shortest example that breaks one."""
    for law in LAWS.values():
        law(format, max_examples=max_examples)
