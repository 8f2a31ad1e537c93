"""A format of your own: declare the picture, and parser, stream and renderer follow.

python examples/own_format.py
"""

from __future__ import annotations

import toolparse

FORMAT = toolparse.Format(
    "example-notes",
    section="<calls>\n{{calls}}\n</calls>",
    call="- {{name}} {{arguments}}",
    between="\n",
    reasoning="<thought>{{text}}</thought>\n",
    ends=("<end>",),
)


def search(query: str, limit: int = 10) -> list[str]:
    """Search the notes.

    Args:
        query: What to look for.
        limit: At most so many results.
    """
    return [f"{query} {number}" for number in range(limit)]


def main() -> None:
    toolparse.register(FORMAT)
    parser = toolparse.parser_for("example-notes", tools=[search])

    text = parser.render(
        [{"name": "search", "arguments": {"query": "</calls> is text here", "limit": 2}}],
        content="I look it up.\n",
        reasoning="The notes may hold it.",
    )
    print(text, end="\n\n")

    message = parser.parse(text)
    for call in message.tool_calls:
        assert call.ok
        print(call.name, search(**call.arguments))

    broken = parser.parse('<calls>\n- search {"limit": "two"}\n- search {"query": "b"}\n</calls><end>')
    for call in broken.tool_calls:
        print(call.arguments, "may run" if call.ok else [issue.message for issue in call.issues])


if __name__ == "__main__":
    main()
