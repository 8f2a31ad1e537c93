"""A completion read while it arrives: text to show, calls to start, and the message at the end.

python examples/stream.py
"""

from __future__ import annotations

from collections.abc import Iterator

import toolparse


def pieces() -> Iterator[str]:
    """What a server might send, a few characters at a time."""
    text = 'Let me see.\n<tool_call>\n{"name": "search", "arguments": {"query": "tides", "limit": 3}}\n</tool_call>'
    yield from (text[start : start + 9] for start in range(0, len(text), 9))


def main() -> None:
    stream = toolparse.parser_for("hermes").stream()
    arguments: dict[int, str] = {}
    for event in stream.events(pieces()):
        match event:
            case toolparse.ContentDelta(text):
                print(f"show      {text!r}")
            case toolparse.CallStarted(index, name):
                print(f"call {index}    {name}")
            case toolparse.ArgumentsDelta(index, json):
                arguments[index] = arguments.get(index, "") + json
                print(f"arguments {json!r}")
            case toolparse.CallEnded(_, call):
                print(f"run       {call.name}({call.arguments})" if call.ok else f"don't run {call.issues}")
    message = stream.close()
    print(message.to_message())


if __name__ == "__main__":
    main()
