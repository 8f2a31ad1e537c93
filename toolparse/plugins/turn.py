"""What the plugins share: one answer, read for a server, in the shapes of the Chat Completions API."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from toolparse.openai import ChatDeltas, ChatRequest, read_tools, without_calls
from toolparse.parser import AnyParser, TextOrIds
from toolparse.serving.model import end_tokens


def tools_of(request: Any, *, auto: bool = True) -> ChatRequest:
    """The tools of a server's request, whose parts may be pydantic models. Raises RequestError.

    `auto`: whether the server hands on calls that nobody required.
    """
    names = ("tools", "tool_choice", "parallel_tool_calls")
    asked = read_tools({name: plain(getattr(request, name, None)) for name in names})
    return asked if auto or asked.choice != "auto" else dataclasses.replace(asked, choice="none")


def plain(value: Any) -> Any:
    """A value with its pydantic models as dicts, without what they leave unset."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    return [plain(item) for item in value] if isinstance(value, list) else value


class Turn:
    """One answer. `prompt`: what the model continues; "" where the server's reasoning parser took the thought away."""

    def __init__(self, parser: AnyParser, asked: ChatRequest, prompt: TextOrIds) -> None:
        reader = parser if asked.reads_calls else without_calls(parser)
        self.deltas = ChatDeltas(reader.stream(tools=asked.tool_set(), prompt=prompt))
        self._unread = frozenset[int]() if parser.tokenizer is None else end_tokens(parser, parser.tokenizer)[1]

    def feed(self, piece: TextOrIds, *, finished: bool = False) -> dict[str, Any]:
        """What a piece says: `content`, `reasoning` and `tool_calls`, those that it has."""
        stream = self.deltas.stream
        piece = piece if isinstance(piece, str) else [id for id in piece if id not in self._unread]
        events = stream.feed(piece) if piece else []
        return joined(self.deltas.deltas([*events, *(stream.finish() if finished else ())]))


def joined(deltas: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Some deltas as one; the pieces of a call that begins among them are one entry."""
    made: dict[str, Any] = {}
    for delta in deltas:
        for name, value in delta.items():
            if name != "tool_calls":
                key = name.removesuffix("_content")
                made[key] = made.get(key, "") + value
                continue
            calls = made.setdefault("tool_calls", [])
            for piece in value:
                if calls and calls[-1]["index"] == piece["index"]:
                    calls[-1]["function"]["arguments"] += piece["function"]["arguments"]
                else:
                    calls.append({**piece, "function": dict(piece["function"])})
    return made
