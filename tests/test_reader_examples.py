"""What a stream says, piece by piece: texts and events as they are. Laws say more; this is to be read.

Each piece stands with the events that it settles, their parts behind bars; `end`: what only the text's end settles.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import toolparse
from toolparse import ArgumentsDelta, CallEnded, CallStarted, ContentDelta, Event, IssueFound


def get_weather(city: str, days: int = 1) -> str:
    """Get the forecast.

    Args:
        city: The city's name.
        days: For how many days.
    """
    return f"{city} {days}"


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The one.
        b: The other.
    """
    return a + b


class Example:
    """`pieces`: each with the events that it settles; `end`: those of the end; `options`: the parser's."""

    def __init__(
        self,
        what: str,
        *pieces: tuple[str, ...],
        end: tuple[str, ...] = (),
        prompt: str | None = None,
        tools: bool = False,
        **options: Any,
    ) -> None:
        self.what = what
        self.pieces = pieces
        self.end = end
        self.prompt = prompt
        self.format = what.partition(": ")[0]
        self.options = {"tools": [get_weather, add] if tools else None, **options}


def said(events: list[Event]) -> tuple[str, ...]:
    """Events in short: what happened, and what of."""
    found = []
    for event in events:
        match event:
            case CallStarted(name=name, id=id):
                found.append(f"started|{name}|{id}" if id else f"started|{name}")
            case ArgumentsDelta(json=text):
                found.append(f"args|{text}")
            case CallEnded(call=call):
                found.append(f"ended|{call.name}|{json.dumps(call.arguments)}|{'ok' if call.ok else 'not ok'}")
            case IssueFound(issue=issue):
                found.append(f"issue|{issue.code}")
            case ContentDelta(text=text):
                found.append(f"content|{text}")
            case _:
                found.append(f"thought|{event.text}")
    return tuple(found)


EXAMPLES = [
    # -- JSON between markers
    Example(
        "hermes: content alone",
        ("Hello ", "content|Hello"),
        ("you.", "content| you."),
        ("<|im_end|>",),
    ),
    Example(
        "hermes: a call",
        ('<tool_call>\n{"name": "get_weather", ', "started|get_weather"),
        ('"arguments": {"city": "Oslo"}}\n', 'args|{"city": "Oslo"}'),
        ("</tool_call>", 'ended|get_weather|{"city": "Oslo"}|ok'),
    ),
    Example(
        "hermes: content, then a call",
        ("Let me see.\n", "content|Let me see."),
        ('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', "started|f", "args|{}", "ended|f|{}|ok"),
    ),
    Example(
        "hermes: a string of several pieces",
        ('<tool_call>{"name": "f", "arguments": {"x": "one ', "started|f", 'args|{"x": "one '),
        ("two ", "args|two "),
        ('three"}}</tool_call>', 'args|three"}', 'ended|f|{"x": "one two three"}|ok'),
    ),
    Example(
        "hermes: two calls",
        (
            '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n',
            "started|f",
            'args|{"x": 1}',
            'ended|f|{"x": 1}|ok',
        ),
        (
            '<tool_call>\n{"name": "g", "arguments": {"x": 2}}\n</tool_call>',
            "started|g",
            'args|{"x": 2}',
            'ended|g|{"x": 2}|ok',
        ),
    ),
    Example(
        "hermes: arguments before the name",
        ('<tool_call>{"arguments": {"x": ',),
        ('1}, "name": "f"}', "started|f", 'args|{"x": 1}'),
        ("</tool_call>", 'ended|f|{"x": 1}|ok'),
    ),
    Example(
        "hermes: the closing marker inside a string",
        ('<tool_call>{"name": "f", "arguments": {"x": "</tool_call>', "started|f", 'args|{"x": "</tool_call>'),
        ('"}}', 'args|"}'),
        ("</tool_call>", 'ended|f|{"x": "</tool_call>"}|ok'),
    ),
    Example(
        "hermes: an opening marker inside a string",
        ('<tool_call>{"name": "f", "arguments": {"x": "<tool_call>', "started|f", 'args|{"x": "<tool_call>'),
        ('"}}', 'args|"}'),
        ("</tool_call>", 'ended|f|{"x": "<tool_call>"}|ok'),
    ),
    Example(
        "hermes: text behind a call",
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>', "started|f", "args|{}", "ended|f|{}|ok"),
        ("\nDone.", "content|Done."),
    ),
    Example(
        "hermes: a marker in prose",
        ("Write <tool_call>", "content|Write"),
        (" before a call.",),
        end=("content| <tool_call>", "issue|stray-marker", "content| before a call."),
    ),
    Example(
        "hermes: what looks like a marker and is none",
        ("a <tool", "content|a"),
        ("box> is here", "content| <toolbox> is here"),
    ),
    Example(
        "hermes: blanks between texts",
        ("Hi. \n", "content|Hi."),
        ("\n",),
        ("Bye.", "content| \n\nBye."),
    ),
    # -- thoughts
    Example(
        "qwen: a thought, content",
        ("<think>\nOne", "thought|One"),
        ("two.\n</think>\n\n", "thought|two."),
        ("Hi.", "content|Hi."),
    ),
    Example(
        "qwen: a thought that the prompt opens",
        ("One two.\n", "thought|One two."),
        ("</think>\n\nHi.", "content|Hi."),
        prompt="<|im_start|>assistant\n<think>\n",
    ),
    Example(
        "qwen: a prompt that closes the thought",
        ("Hi.", "content|Hi."),
        prompt="<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    Example(
        "qwen: a draft in a thought",
        ('<think>Try <tool_call>{"name": "f", "arguments": {}}</tool_call>', "thought|Try"),
        (", no.",),
        ("</think>", 'thought| <tool_call>{"name": "f", "arguments": {}}</tool_call>, no.'),
        ("Hi.", "content|Hi."),
    ),
    Example(
        "qwen: a call in a thought that never ends",
        ("<think>Try ", "thought|Try"),
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>',),
        end=("thought| ", "started|f", "args|{}", "ended|f|{}|ok"),
    ),
    Example(
        "qwen: a thought that is cut off",
        ("<think>One", "thought|One"),
        ("two", "thought|two"),
    ),
    Example(
        "deepseek-r1: a thought, then calls",
        ("<think>\nOne.\n</think>\n\n", "thought|One."),
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"x": 1}\n```<｜tool▁call▁end｜>',
            "started|f",
            'args|{"x": 1}',
            'ended|f|{"x": 1}|ok',
        ),
        ("<｜tool▁calls▁end｜><｜end▁of▁sentence｜>",),
    ),
    # -- slips and broken calls
    Example(
        "hermes: a trailing comma",
        ('<tool_call>{"name": "f", "arguments": {"x": 1,}}', "started|f", 'args|{"x": 1}'),
        ("</tool_call>", "issue|repaired", 'ended|f|{"x": 1}|ok'),
    ),
    Example(
        "hermes: single quotes",
        ("<tool_call>{'name': 'f', ", "started|f"),
        ("'arguments': {'x': 'y'}}", 'args|{"x": "y"}'),
        ("</tool_call>", "issue|repaired", 'ended|f|{"x": "y"}|ok'),
    ),
    Example(
        "hermes: a key given twice",
        (
            '<tool_call>{"name": "f", "arguments": {"x": 1, "x": 2}}</tool_call>',
            "started|f",
            'args|{"x": 1, "x": 2}',
            "issue|duplicate-key",
            'ended|f|{"x": 2}|ok',
        ),
    ),
    Example(
        "hermes: a broken call beside a good one",
        (
            '<tool_call>{"name": "f", "arguments": {"x": oops}}</tool_call>',
            "started|f",
            'args|{"x": ',
            "issue|malformed-arguments",
            "ended|f|{}|not ok",
        ),
        ('<tool_call>{"name": "g", "arguments": {}}</tool_call>', "started|g", "args|{}", "ended|g|{}|ok"),
    ),
    Example(
        "hermes: cut off inside the arguments",
        ('<tool_call>{"name": "f", "arguments": {"x": 1, "y": "o', "started|f", 'args|{"x": 1, "y": "o'),
        ("ne", "args|ne"),
        end=("issue|truncated", 'ended|f|{"x": 1}|not ok'),
    ),
    Example(
        "hermes: cut off inside the name",
        ('<tool_call>{"name": "get_we',),
        end=("started|", "issue|no-name", "issue|truncated", "ended||{}|not ok"),
    ),
    Example(
        "hermes: a tool that is not offered",
        (
            '<tool_call>{"name": "get_wether", "arguments": {"city": "Oslo"}}</tool_call>',
            "started|get_wether",
            'args|{"city": "Oslo"}',
            "issue|unknown-tool",
            'ended|get_wether|{"city": "Oslo"}|not ok',
        ),
        tools=True,
    ),
    Example(
        "hermes: no name",
        ('<tool_call>{"arguments": {"x": 1}}',),
        ("</tool_call>", "started|", "issue|no-name", 'args|{"x":1}', 'ended||{"x": 1}|not ok'),
    ),
    Example(
        "hermes: repair=False",
        (
            '<tool_call>{"name": "f", "arguments": {"x": 1,}}</tool_call>',
            "started|f",
            'args|{"x": 1}',
            "issue|malformed-arguments",
            'ended|f|{"x": 1}|not ok',
        ),
        repair=False,
    ),
    Example(
        "hermes: coerce",
        ('<tool_call>{"name": "add", "arguments": {"a": "1", ', "started|add"),
        ('"b": 2}}</tool_call>', "issue|repaired", 'args|{"a":1,"b":2}', 'ended|add|{"a": 1, "b": 2}|ok'),
        tools=True,
        coerce=True,
    ),
    # -- prompts
    Example(
        "hermes: a call that the prompt opens",
        ('get_weather", "arguments": {"city": "Os', "started|get_weather", 'args|{"city": "Os'),
        ('lo"}}\n</tool_call>', 'args|lo"}', 'ended|get_weather|{"city": "Oslo"}|ok'),
        prompt='<|im_start|>assistant\n<tool_call>\n{"name": "',
    ),
    Example(
        "hermes: a call that the prompt holds",
        ("Done.", "content|Done."),
        prompt='<tool_call>{"name": "f", "arguments": {}}</tool_call>',
    ),
    # -- tagged parameters
    Example(
        "qwen3-coder: typed by the schema",
        ("<tool_call>\n<function=get_weather>\n<parameter=city>\nOs", "started|get_weather", 'args|{"city": "Os'),
        ("lo\n</parameter>\n<parameter=days>\n", 'args|lo", "days": '),
        ("2\n</parameter>\n</function>\n</tool_call>", "args|2}", 'ended|get_weather|{"city": "Oslo", "days": 2}|ok'),
        tools=True,
    ),
    Example(
        "qwen3-coder: text without a schema",
        ("<tool_call>\n<function=f>\n<parameter=x>\n2\n</parameter>\n", "started|f", 'args|{"x": "2'),
        ("</function>\n</tool_call>", 'args|"}', 'ended|f|{"x": "2"}|ok'),
    ),
    Example(
        "qwen3-coder: other tags in a value",
        ("<tool_call>\n<function=f>\n<parameter=x>\n<b>1</b>", "started|f", 'args|{"x": "<b>1</b>'),
        ("</para>\n</parameter>\n</function>\n</tool_call>", 'args|</para>"}', 'ended|f|{"x": "<b>1</b></para>"}|ok'),
    ),
    Example(
        "qwen3-coder: a closing tag that is missing",
        ("<tool_call>\n<function=f>\n<parameter=x>\nOslo\n", "started|f", 'args|{"x": "Oslo'),
        ("</function>\n</tool_call>",),
        end=('args|"}', "issue|repaired", 'ended|f|{"x": "Oslo"}|ok'),
    ),
    Example(
        "qwen3-coder: cut off in a value",
        ("<tool_call>\n<function=f>\n<parameter=x>\nOs", "started|f", 'args|{"x": "Os'),
        ("lo", "args|lo"),
        end=("issue|truncated", "ended|f|{}|not ok"),
    ),
    Example(
        "glm45: keys and values",
        ("<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n", "started|add", 'args|{"a": '),
        (
            "<arg_key>b</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
            'args|1, "b": 2}',
            'ended|add|{"a": 1, "b": 2}|ok',
        ),
        tools=True,
    ),
    Example(
        "minimax-m2: a call where the prompt opened a thought that is not closed",
        ('<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Os',),
        ("lo</parameter>\n</invoke>\n",),
        ("</minimax:tool_call>",),
        end=("started|get_weather", 'args|{"city": "Oslo"}', 'ended|get_weather|{"city": "Oslo"}|ok'),
        tools=True,
    ),
    # -- sections, ids, messages
    Example(
        "deepseek-v31: a section of two calls",
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"x": 1}<｜tool▁call▁end｜>',
            "started|f",
            'args|{"x": 1}',
            'ended|f|{"x": 1}|ok',
        ),
        (
            "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            "started|g",
            "args|{}",
            "ended|g|{}|ok",
        ),
    ),
    Example(
        "kimi-k2: an id that holds the name",
        (
            '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"x": ',
            "started|f|functions.f:0",
            'args|{"x": ',
        ),
        ("1}<|tool_call_end|>", "args|1}", 'ended|f|{"x": 1}|ok'),
        ("<|tool_calls_section_end|>",),
    ),
    Example(
        "mistral-v3: ids behind the arguments",
        (
            '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}, "id": "abcdefghi"}',
            "started|f|abcdefghi",
            'args|{"x": 1}',
            'ended|f|{"x": 1}|ok',
        ),
        (', {"name": "g", "arguments": {}, "id": "123456789"}]', "started|g|123456789", "args|{}", "ended|g|{}|ok"),
    ),
    Example(
        "mistral-v13: a marker before each call",
        ('[TOOL_CALLS]f[ARGS]{"x": ', "started|f", 'args|{"x": '),
        ("1}", "args|1}", 'ended|f|{"x": 1}|ok'),
        ("[TOOL_CALLS]g[ARGS]{}</s>", "started|g", "args|{}", "ended|g|{}|ok"),
    ),
    Example(
        "harmony: messages of one turn",
        ("<|channel|>analysis<|message|>One.<|end|>", "thought|One."),
        ('<|start|>assistant to=functions.f<|channel|>commentary json<|message|>{"x": ', "started|f", 'args|{"x": '),
        ("1}<|call|>", "args|1}", 'ended|f|{"x": 1}|ok'),
    ),
    Example(
        "harmony: content framed as a message",
        ("<|channel|>final<|message|>Hi ", "content|Hi"),
        ("you.", "content| you."),
        ("<|return|>",),
    ),
    Example(
        "command-r7b: a section that is JSON over lines",
        (
            '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "f", "parameters": {"x": 1}}',
            "started|f|0",
            'args|{"x": 1}',
            'ended|f|{"x": 1}|ok',
        ),
        ("\n]<|END_ACTION|>",),
    ),
    # -- no marker
    Example(
        "llama3-json: JSON alone",
        ('{"name": "f", "parameters": ',),
        ('{"x": 1}}',),
        ("<|eot_id|>", "started|f", 'args|{"x": 1}', 'ended|f|{"x": 1}|ok'),
    ),
    Example(
        "llama3-json: JSON that text follows",
        ('{"name": "f", "parameters": {}}',),
        (" is a call.", 'content|{"name": "f", "parameters":', "content| {}} is a call."),
    ),
    Example(
        "llama3-json: JSON in a line of its own behind text",
        ("I look it up.\n", "content|I look it up."),
        ('{"name": "f", "parameters": {}}',),
        end=("started|f", "args|{}", "ended|f|{}|ok"),
    ),
    Example(
        "llama3-json: JSON where it counts anywhere",
        ('{"name": "f", "parameters": {"x": ', "started|f", 'args|{"x": '),
        ("1}}", "args|1}", 'ended|f|{"x": 1}|ok'),
        (" it is", "content| it is"),
        bare="anywhere",
    ),
    Example(
        "llama3-json: JSON that is no call",
        ('{"city": "Oslo"}', 'content|{"city": "Oslo"}'),
    ),
    Example(
        "pythonic: Python calls alone",
        ("[f(x=1, y=",),
        ('"two"), ',),
        ("g()]",),
        end=(
            "started|f",
            'args|{"x": 1, "y": ',
            'args|"two"}',
            'ended|f|{"x": 1, "y": "two"}|ok',
            "started|g",
            "args|{}",
            "ended|g|{}|ok",
        ),
    ),
    Example(
        "lfm2: Python calls between markers",
        ("<|tool_call_start|>[f(x=1, y=", "started|f", 'args|{"x": 1, "y": '),
        ("'two')]", 'args|"two"}', 'ended|f|{"x": 1, "y": "two"}|ok'),
        ("<|tool_call_end|>",),
    ),
    # -- maps
    Example(
        "gemma4: a map with quotes of its own",
        ('<|tool_call>call:f{x:1,y:<|"|>t', "started|f", 'args|{"x": 1, "y": "t'),
        ('wo<|"|>}', "args|wo"),
        ("<tool_call|>", 'args|"}', 'ended|f|{"x": 1, "y": "two"}|ok'),
    ),
]


@pytest.mark.parametrize("example", [pytest.param(one, id=one.what) for one in EXAMPLES])
def test_example(example: Example) -> None:
    parser = toolparse.parser_for(example.format, **example.options)
    stream = parser.stream(prompt=example.prompt)
    heard = tuple((piece, *said(stream.feed(piece))) for piece, *_ in example.pieces)
    message = stream.close()
    assert heard == example.pieces
    assert said(stream.last_events) == example.end
    assert message == parser.parse("".join(piece for piece, *_ in example.pieces), prompt=example.prompt)


def test_there_are_enough() -> None:
    assert len(EXAMPLES) >= 40
    assert len({example.format for example in EXAMPLES}) >= 8
