"""A parsing function that you have already, used wherever a parser is.

python examples/own_function.py
"""

from __future__ import annotations

import re

import toolparse


def read_calls(text: str) -> list[dict[str, object]]:
    """`@name key=value key=value`, one call a line."""
    calls: list[dict[str, object]] = []
    for line in re.findall(r"^@(.+)$", text, re.MULTILINE):
        name, *pairs = line.split()
        calls.append({"name": name, "arguments": dict(pair.split("=", 1) for pair in pairs)})
    return calls


def main() -> None:
    toolparse.register(toolparse.FunctionParser(read_calls, name="at-lines"))
    message = toolparse.parse("On it.\n@search query=tides\n@stop", "at-lines")
    for call in message.tool_calls:
        print(call.name, call.arguments)
    assert [call.name for call in message.tool_calls] == ["search", "stop"]


if __name__ == "__main__":
    main()
