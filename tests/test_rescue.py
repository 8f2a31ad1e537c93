"""`rescue=True`: a turn that is nothing but JSON calls of offered tools is read as calls, whole and in pieces."""

from __future__ import annotations

import pytest

import toolparse
from tests.conftest import sliced
from toolparse import testing
from toolparse.events import ContentDelta

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {"a": {}}}}}
    for name in ("f", "g")
]
ONE = '{"name": "f", "arguments": {"a": 1}}'
TWO = '{"name": "g", "parameters": {}}'
FAMILIES = ("hermes", "qwen3-coder", "mistral", "glm47", "deepseek-v31")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        (ONE, ["f"]),
        (f"{ONE}\n{TWO}", ["f", "g"]),
        (f"[{ONE}, {TWO}]", ["f", "g"]),
        (f"```json\n{ONE}\n```", ["f"]),
        (f"```\n[{ONE}, {TWO}]\n```", ["f", "g"]),
        (f"Here it is:\n{ONE}", []),
        (f"{ONE}\nDone.", []),
        (f"```json\n{ONE}\n```\nShall I?", []),
        ('{"name": "Bob", "arguments": {"a": 1}}', []),
        ('```json\n{"name": "Bob", "age": 3}\n```', []),
    ],
)
def test_nothing_but_calls(family: str, text: str, names: list[str]) -> None:
    parser = toolparse.parser_for(family, tools=TOOLS, rescue=True)
    message = parser.parse(text, prompt="Hi.\n")
    assert [call.name for call in message.tool_calls] == names
    assert message.content == ("" if names else text)
    assert all(call.ok and call.issues[0].code == "repaired" for call in message.tool_calls)
    for size in (1, 3, len(text)):
        stream = parser.stream(prompt="Hi.\n")
        events = [event for piece in sliced(text, size) for event in stream.feed(piece)]
        testing.assert_same_message(message, stream.close())
        events += stream.finish()
        assert "".join(event.text for event in events if isinstance(event, ContentDelta)) == message.content


@pytest.mark.parametrize("family", FAMILIES)
def test_only_where_it_is_asked_for(family: str) -> None:
    assert not toolparse.parser_for(family, tools=TOOLS).parse(ONE, prompt="Hi.\n").tool_calls
    assert not toolparse.parser_for(family, rescue=True).parse(ONE, prompt="Hi.\n").tool_calls
