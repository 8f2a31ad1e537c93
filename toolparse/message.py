"""What a parse gives back: plain, frozen values that know nobody else in the library."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import msgspec

SpanKind = Literal["content", "reasoning", "call", "markup"]

#: Codes that tell of something read with help: the call can still be executed.
NOTES = frozenset({"repaired", "duplicate-key"})

#: Codes of calls whose arguments were not read to their end.
UNREAD = frozenset({"malformed-arguments", "truncated"})

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
        "markers-missing",
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
        return not self.issues or all(issue.code in NOTES for issue in self.issues)

    @property
    def truncated(self) -> bool:
        """Whether the text ended inside this call."""
        return any(issue.code == "truncated" for issue in self.issues)

    @property
    def unread(self) -> bool:
        """Whether nothing of the arguments could be read."""
        return not self.arguments and any(issue.code in UNREAD for issue in self.issues)

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain data, and whether the call is `ok`."""
        made = msgspec.to_builtins(self)
        return {**made, "issues": list(made["issues"]), "ok": self.ok}

    def to_openai(self) -> dict[str, Any]:
        """The call as the Chat Completions API gives it: arguments as JSON text; a missing id is made up."""
        from toolparse.openai import to_chat_call

        return to_chat_call(self)

    def __repr__(self) -> str:
        told = "" if self.id is None else f", id={self.id!r}"
        told += "".join(f", {issue.code}" for issue in self.issues)
        return f"<ToolCall {self.index}: {self._written()}{told}>"

    def _written(self) -> str:
        """The call as Python would write it, shortened."""
        arguments = ", ".join(f"{key}={_short(value)}" for key, value in self.arguments.items())
        return f"{self.name or '?'}({_cut(arguments)})"

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

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain data; calls as their own `to_dict` gives them."""
        made = msgspec.to_builtins(self)
        lists = {"issues": list(made["issues"]), "spans": list(made["spans"])}
        return {**made, **lists, "tool_calls": [call.to_dict() for call in self.tool_calls]}

    def to_openai(self) -> dict[str, Any]:
        """The message as the Chat Completions API gives it: arguments as JSON text, every call with an id.

        Calls that may not be executed are part of the content; `toolparse.openai.to_chat_message` has the choices.
        """
        from toolparse.openai import to_chat_message

        return to_chat_message(self)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("content", _short(self.content))] if self.content or not self.tool_calls else []
        if self.reasoning is not None:
            rows.append(("reasoning", _short(self.reasoning)))
        rows += [(f"call {call.index}", call._written()) for call in self.tool_calls]
        rows += [
            ("note" if issue.is_note else "error", _cut(f"{issue.code}: {issue.message}")) for issue in self.issues
        ]
        return [*rows, ("truncated", "the text ended inside a call")] if self.truncated else rows

    def __repr__(self) -> str:
        calls, errors = len(self.tool_calls), len(self.errors)
        head = f"{calls} call{'' if calls == 1 else 's'}, {errors} error{'' if errors == 1 else 's'}"
        return "\n".join([f"<ParsedMessage: {head}", *(f"  {name:9}  {text}" for name, text in self._rows())]) + ">"

    def _repr_html_(self) -> str:
        return table_html(self._rows())

    def to_message(
        self, *, id_picture: str = "call_{{index}}", broken: Literal["leave out", "keep"] = "leave out"
    ) -> dict[str, Any]:
        """The message as chat templates take it; arguments are dicts, missing ids are filled in.

        `id_picture` says how a missing id is made, from `{{index}}` (zero-padded as `{{index:05}}`) and `{{name}}`;
        `Parser.to_message` passes the family's own. `broken`: what becomes of calls that are not `ok`. Kept ones have
        the arguments that were read; where none were, the call's text stands in their place.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        calls = [call for call in self.tool_calls if broken == "keep" or call.ok]
        if calls:
            message["tool_calls"] = [
                {
                    "type": "function",
                    "id": call.id if call.id is not None else fill_id(id_picture, call.name, call.index),
                    "function": {"name": call.name, "arguments": call.raw if call.unread else call.arguments},
                }
                for call in calls
            ]
        return message

    def to_row(self) -> dict[str, Any]:
        """The message as a flat row for tables, every value of one type in all rows.

        `content`, `reasoning` (or None), `calls` (dicts of name, arguments as JSON text, id, ok), `ok` (no call that
        may not be executed), `truncated`, `codes` of the issues. `toolparse.corpora.schema()` has the Arrow types.
        """
        from toolparse.corpora.rows import row_of

        return row_of(self)


# How much of a value a repr shows.
_SHOWN = 90


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _short(value: Any) -> str:
    """The repr of a value, shortened; of a long value only the beginning is looked at."""
    if isinstance(value, str):
        return repr(value) if len(value) < _SHOWN else repr(value[: _SHOWN - 1]) + "…"
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # integers beyond Python's limit of digits, depth
        return f"<{type(value).__name__}>"


def table_html(rows: Iterable[tuple[str, str]]) -> str:
    """Rows of a name and a text as a table for notebooks."""
    from html import escape

    cells = (
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'><code>{escape(text)}</code></td></tr>"
        for name, text in rows
    )
    return f"<table>{''.join(cells)}</table>"


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
