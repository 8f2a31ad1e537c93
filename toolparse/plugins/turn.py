"""What the plugins share: one answer, read for a server, in the shapes of the Chat Completions API."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from toolparse.api import parser_for
from toolparse.errors import UnknownFormat
from toolparse.openai import ChatDeltas, ChatRequest, read_tools, without_calls
from toolparse.parser import AnyParser, Parser, TextOrIds
from toolparse.serving.completion import Ending
from toolparse.serving.model import end_tokens


def reader(tokenizer: Any) -> AnyParser:
    """The parser of the tokenizer that is served; of the family or template file that `TOOLPARSE_FORMAT` names, if set.

    A server that was given a chat template of its own renders by that one and doesn't tell its plugins.
    """
    chosen = os.environ.get("TOOLPARSE_FORMAT")
    return _chosen(chosen, tokenizer) if chosen else parser_for(tokenizer)


@lru_cache(maxsize=8)
def _chosen(source: str, tokenizer: Any) -> AnyParser:
    parser: AnyParser = parser_for(source)
    if not isinstance(parser, Parser):
        return parser
    return Parser(parser.format, tokenizer=tokenizer, prefill=parser.prefill, style=parser.style)


def thought_markers(tokenizer: Any) -> tuple[str, str]:
    """What stands before and behind a thought. Raises UnknownFormat where the format shows none."""
    parser = reader(tokenizer)
    if not isinstance(parser, Parser) or not parser.format.reasoning:
        raise UnknownFormat("this model's format shows no thoughts: it needs no reasoning parser")
    return parser.format.thought.opening, parser.format.thought.closing


def asked_of(request: Any = None, *, auto: bool = True, **fields: Any) -> ChatRequest:
    """What a server's request (or `fields`) says of functions; parts may be pydantic models. Raises RequestError.

    `auto`: whether the server hands on calls that nobody required.
    """
    names = ("tools", "tool_choice", "parallel_tool_calls")
    body = {name: _plain(fields.get(name, getattr(request, name, None))) for name in names}
    body["tools"] = [tool for tool in body["tools"] or () if tool.get("type") == "function"]
    asked = read_tools(body)
    return asked if auto or asked.choice != "auto" else replace(asked, choice="none")


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_none=True)
    return [_plain(item) for item in value] if isinstance(value, list) else value


class Turn:
    """One answer. `prompt`: what the model continues; "" where the server's reasoning parser took the thought away.

    `stop`: texts at which the server cut the answer off; the ids go further.
    """

    def __init__(self, tokenizer: Any, asked: ChatRequest, prompt: TextOrIds = "", stop: Sequence[str] = ()) -> None:
        parser = reader(tokenizer)
        stream = (parser if asked.reads_calls else without_calls(parser)).stream(tools=asked.tool_set(), prompt=prompt)
        self._stream = Ending(stream, tuple(stop))
        self._deltas = ChatDeltas(self._stream)
        self._unread = end_tokens(parser, tokenizer)[1]

    def feed(self, piece: TextOrIds, *, finished: bool = False) -> dict[str, Any]:
        """What a piece says: `content`, `reasoning` and `tool_calls`, those that it has."""
        piece = piece if isinstance(piece, str) else [id for id in piece if id not in self._unread]
        events = self._stream.feed(piece) if piece else []
        return _joined(self._deltas.deltas([*events, *(self._stream.finish() if finished else ())]))


def _joined(deltas: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
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
    return {name: value for name, value in made.items() if value}
