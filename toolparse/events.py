"""What a stream says, in the order in which the text says it. Events are never taken back.

For every call of the final message, in order: `CallStarted`, any number of `ArgumentsDelta`, `CallEnded`; nothing of
another call, and neither content nor reasoning, comes between. `toolparse.testing.assert_events` is this in code.
"""

from __future__ import annotations

import msgspec

from toolparse.message import Issue, ToolCall


class ContentDelta(msgspec.Struct, frozen=True):
    """The next piece of the message's content."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True):
    """The next piece of the message's reasoning."""

    text: str


class CallStarted(msgspec.Struct, frozen=True):
    """A call's name is known. Its arguments follow."""

    index: int
    name: str
    id: str | None = None


class ArgumentsDelta(msgspec.Struct, frozen=True):
    """The next piece of a call's arguments as JSON text.

    Joined, the pieces decode to the arguments of every call that is ok, whatever syntax the model wrote.
    """

    index: int
    json: str


class CallEnded(msgspec.Struct, frozen=True):
    """A call is complete (or given up): `call` is what the final message holds."""

    index: int
    call: ToolCall


class IssueFound(msgspec.Struct, frozen=True):
    """Something is wrong, with a call or with the message."""

    issue: Issue


Event = ContentDelta | ReasoningDelta | CallStarted | ArgumentsDelta | CallEnded | IssueFound
