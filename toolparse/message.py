"""What a parse gives back: plain, frozen values that know nobody else in the library."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import msgspec

SpanKind = Literal["content", "reasoning", "call", "markup"]

#: Codes that tell of something read with help: the call can still be executed.
NOTES = frozenset({"repaired", "duplicate-key"})

#: Every issue code, stable across releases.
ISSUE_CODES = frozenset(
    {
        "unknown-tool",
        "no-name",
        "missing-argument",
        "unexpected-argument",
        "wrong-type",
        "invalid-value",
        "malformed-arguments",
        "truncated",
        "repaired",
        "duplicate-key",
        "stray-marker",
    }
)

# How many characters of a line `Issue.show` gives before the place and from it on.
_BEFORE = 30
_BEHIND = 40


class Span(msgspec.Struct, frozen=True):
    """A stretch of the parsed text.

    `start` and `end` count characters of the text (half open); `token_start` and `token_end` count tokens and are
    None when the text was not given as ids. A token belongs to the span in which its first character lies.
    """

    kind: SpanKind
    start: int
    end: int
    token_start: int | None = None
    token_end: int | None = None


class Issue(msgspec.Struct, frozen=True):
    """Something that is wrong with a call or with the message, in words that the model itself can act on."""

    code: str
    message: str
    span: Span | None = None
    call_index: int | None = None

    @property
    def is_note(self) -> bool:
        """True when the call was read all the same and may be executed (`repaired`, `duplicate-key`)."""
        return self.code in NOTES

    def show(self, text: str) -> str:
        """What is wrong and where, for people: the message, the line of `text` in which the span begins, a caret.

        `text`: the text that was parsed (`message.text`). Of a long line some 70 characters around the place are
        shown; what a terminal would act on stands as `�`. Never raises, whatever text is given.
        """
        said = f"{self.code}: {self.message}"
        if self.call_index is not None:
            said = f"call {self.call_index}, {said}"
        if self.span is None:
            return said
        start = min(self.span.start, len(text))
        end = max(min(self.span.end, len(text)), start)
        first = text.count("\n", 0, start) + 1
        last = first + text.count("\n", start, end)
        lines = f"line {first}" if first == last else f"lines {first} to {last}"
        return f"{said}\n  {lines}:\n{_place(text, start, end)}"


def _place(text: str, start: int, end: int) -> str:
    """The line in which a stretch begins, and below it a caret under its first character, dashes up to its last."""
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    left = max(line_start, start - _BEFORE)
    right = min(line_end, start + _BEHIND)
    before, under = text[left:start], text[start : min(end, right)]
    ellipsis = "…" if left > line_start else ""
    shown = ellipsis + _plain(text[left:right]) + ("…" if right < line_end else "")
    caret = " " * (len(ellipsis) + _columns(before)) + "^" + "~" * (_columns(under) - 1)
    return f"    {shown}\n    {caret}"


def _plain(text: str) -> str:
    """A line as a terminal can show it: of every character that can't be printed the same number of columns."""
    return "".join(char if char.isprintable() else " " if char == "\t" else "\ufffd" for char in text)


def _columns(text: str) -> int:
    """How wide a line is shown: wide characters take two columns, marks upon others none."""
    import unicodedata

    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


class ToolCall(msgspec.Struct, frozen=True, eq=False):
    """One call that the model wrote.

    `id` is what the text carries, else None. `index` counts the message's calls from 0. `raw` is the text of
    `span`. Two calls are equal when name, arguments and id are.
    """

    name: str
    arguments: dict[str, Any] = {}
    id: str | None = None
    index: int = 0
    span: Span | None = None
    raw: str = ""
    issues: tuple[Issue, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the call may be executed: it was read completely and nothing but notes is held against it."""
        return all(issue.code in NOTES for issue in self.issues)

    @property
    def truncated(self) -> bool:
        """Whether the text ended inside this call."""
        return any(issue.code == "truncated" for issue in self.issues)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ToolCall):
            return NotImplemented
        return self.name == other.name and self.id == other.id and self.arguments == other.arguments

    def __hash__(self) -> int:
        return hash((self.name, self.id))


class ParsedMessage(msgspec.Struct, frozen=True):
    """An assistant's turn, taken apart. The spans tile `text` exactly, in order.

    `issues` holds everything that was noticed, in the order of the text, calls' issues included; `errors` leaves out
    the notes. `truncated` is True when the text ended inside a call.
    """

    content: str
    reasoning: str | None
    tool_calls: tuple[ToolCall, ...]
    issues: tuple[Issue, ...]
    truncated: bool
    spans: tuple[Span, ...]
    text: str = ""

    @property
    def errors(self) -> tuple[Issue, ...]:
        """The issues that are not mere notes."""
        return tuple(issue for issue in self.issues if issue.code not in NOTES)

    def to_message(self, *, id_picture: str = "call_{{index}}") -> dict[str, Any]:
        """The message as chat templates take it; arguments are dicts, missing ids are filled in.

        `id_picture` says how a missing id is made, from `{{index}}` (zero-padded as `{{index:05}}`) and `{{name}}`;
        `Parser.to_message` passes the family's own.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "type": "function",
                    "id": call.id if call.id is not None else fill_id(id_picture, call.name, call.index),
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in self.tool_calls
            ]
        return message

    def to_row(self) -> dict[str, Any]:
        """The message as a flat row for tables, every value of one type in all rows.

        `content`, `reasoning` (or None), `calls` (dicts of name, arguments as JSON text, id, ok), `ok` (no call that
        may not be executed), `truncated`, `codes` of the issues. `toolparse.corpora.schema()` has the Arrow types.
        """
        from toolparse.corpora.rows import row_of

        return row_of(self)


@lru_cache(256)
def fill_id(picture: str, name: str, index: int) -> str:
    """An id made from its picture: `{{name}}:{{index}}`; `{{index:05}}` has five digits, `{{index:1}}` begins at 1."""
    head, hole, tail = picture.replace("{{name}}", name).partition("{{index")
    if not hole:
        return head
    spec, _, rest = tail.partition("}}")
    spec = spec.lstrip(":")
    number = f"{index:{spec}}" if spec.startswith("0") else str(index + int(spec or 0))
    return f"{head}{number}{rest}"
