"""Calls in a spelling that is none of the family's: read and noted, or said by an issue; prose is neither."""

from __future__ import annotations

import pytest

import toolparse
from tests.test_laws import FORMATS
from tests.test_slips import read
from toolparse.format import Format

TOOLS = [
    {
        "name": name,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    }
    for name in ("get_weather", "get_tides")
]
ARGUMENTS = {"city": "Oslo"}
CALLS = [
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}',
    '{"tool": "get_weather", "arguments": {"city": "Oslo"}}',
    '{"function": "get_weather", "parameters": {"city": "Oslo"}}',
    '{"id": "c1", "tool_name": "get_weather", "args": {"city": "Oslo"}}',
    '{"arguments": {"city": "Oslo"}, "tool": "get_weather"}',
    '{"action": "get_weather", "action_input": {"city": "Oslo"}}',
    '{"tool_name": "get_weather", "tool_input": {"city": "Oslo"}}',
    '{"get_weather": {"city": "Oslo"}}',
    '{"name": "get_weather", "city": "Oslo"}',
    '{"name": "get_weather" "arguments": {"city": "Oslo"}}',
    '{"name" = "get_weather", "arguments" = {"city": "Oslo"}}',
    '{{"name": "get_weather", "arguments": {"city": "Oslo"}}}',
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}}',
    '[{"tool": "get_weather", "arguments": {"city": "Oslo"}}]',
    '{"tool_calls": [{"function": {"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}}]}',
    'get_weather(city="Oslo")',
    'get_weather("Oslo")',
    '[get_weather(city="Oslo")]',
    '[get_weather("Oslo")]',
    'functions.get_weather(city="Oslo")',
    'get_weather({"city": "Oslo"})',
    'get_weather\n{"city": "Oslo"}',
    'get_weather: {"city": "Oslo"}',
    '<get_weather><city>Oslo</city></get_weather>',
    '<function=get_weather><parameter=city>Oslo</parameter></function>',
    '<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n</invoke>',
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    '<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>',
    '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}',
    '<|tool_call>call:get_weather{city:<|"|>Oslo<|"|>}<tool_call|>',
    '<|tool▁calls▁begin|><|tool▁call▁begin|>function<|tool▁sep|>get_weather\n```json\n{"city": "Oslo"}\n```'
    '<|tool▁call▁end|><|tool▁calls▁end|>',
    '<|tool_calls_begin|><|tool_call_begin|>get_weather<|tool_sep|>{"city": "Oslo"}<|tool_call_end|><|tool_calls_end|>',
]  # fmt: skip

PROSE = [
    "I would call get_weather for Oslo.",
    "Use get_weather(city='Oslo') for that.",
    "The tool `get_weather` takes a city (and days).",
    "get_weather is a tool (see the docs)",
    "get_weather: the weather of a city (city, days)",
    "get_weather(city: string, days: integer)",
    "get_weather(city) returns the weather (in C)",
    "[get_weather](https://example.org/city)",
    "The tools:\n- get_weather(city, days)\n- get_tides(city)",
    "<b>get_weather</b>",
    "(get_weather)",
    '"get_weather"',
    '{"tools": ["get_weather", "get_tides"]}',
    '{"name": "get_weather", "description": "The weather."}',
    '[{"type": "function", "function": {"description": "It", "name": "get_weather", "parameters": '
    '{"type": "object", "properties": {"city": {"type": "string"}}}}}, "..."]',
    '{"tool": "get_weather", "arguments": {"city": "Oslo"}}\nThat is how I would call it (in JSON).',
    '{"tool": "hammer", "arguments": {"city": "Oslo"}}',
    '{"city": "Oslo", "days": 3}',
    '{"tool": "get_weather", "result": {"city": "Oslo", "days": 3}}',
    "DeepSeek writes <|tool▁calls▁begin|> before its calls.",
    "[Note: get_weather needs a city (as text)]",
    "city: Oslo\ndays: 3",
    'Write [get_weather("Oslo")] for that.',
    'get_weather("Oslo") gives the weather.',
    "A table:\n| tool | what |\n| get_weather | weather |",
    "[1] get_weather, 2020\n[2] get_tides (2021)",
    "{get_weather}",
]


@pytest.mark.parametrize("format", FORMATS)
def test_a_call_in_another_spelling_is_read_or_said(format: Format) -> None:
    for text in CALLS:
        for content in ("", "I look that up:\n"):
            message = read(format, content + text, TOOLS)
            assert message.issues or message.tool_calls, text
            for call in message.tool_calls:
                assert not call.ok or (call.name, call.arguments) == ("get_weather", ARGUMENTS), text


@pytest.mark.parametrize("format", FORMATS)
def test_prose_is_prose(format: Format) -> None:
    for text in PROSE:
        message = read(format, text, TOOLS)
        assert not message.tool_calls, text
        assert message.content == text or message.issues
        assert not [issue for issue in message.issues if issue.code == "markers-missing"], (text, message.issues)


@pytest.mark.parametrize("family", ["pythonic", "llama4-pythonic", "lfm2", "olmo3", "minicpm3", "gemma3-tool-code"])
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("'Oslo'", ARGUMENTS),
        ('"Oslo", 3', {"city": "Oslo", "days": 3}),
        ("'Oslo', days=3", {"city": "Oslo", "days": 3}),
        ("'Oslo',", ARGUMENTS),
        ("city='Oslo', 3", None),
        ("'Oslo', city='Rome'", None),
        ("'Oslo', 3, 4", None),
        ("3, 'Oslo'", None),
    ],
)
def test_arguments_without_names_stand_in_the_declared_order(
    family: str, arguments: str, wanted: dict[str, object] | None
) -> None:
    format = toolparse.get(family)
    text = format.block.write(f"get_weather({arguments})")
    (call,) = read(format, text, TOOLS).tool_calls
    assert call.ok == (wanted is not None)
    assert wanted is None or (call.arguments == wanted and call.issues[0].code == "repaired")
    assert not any(call.ok for call in read(format, text, None).tool_calls)  # without tools there is no order


def test_without_names_a_call_without_a_marker_begins_its_line() -> None:
    format = toolparse.get("pythonic")
    assert not read(format, 'I would write [get_weather("Oslo")]', TOOLS).tool_calls
    assert read(format, 'I would write:\n[get_weather("Oslo")]', TOOLS).tool_calls


def test_behind_a_call_too() -> None:
    parser = toolparse.parser_for("hermes", tools=TOOLS)
    text = '<tool_call>\n{"name": "get_tides", "arguments": {"city": "Rome"}}\n</tool_call>\n' + CALLS[1]
    message = parser.parse(text, prompt="Hi.\n")
    assert [call.ok for call in message.tool_calls] == [True]
    assert [issue.code for issue in message.issues] == ["markers-missing"]
