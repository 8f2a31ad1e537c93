"""Anthropic's Messages API over the same completions: requests become chat requests, chunks become its events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from toolparse.openai import RequestError

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_STOPS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}
_KEPT = ("model", "stream", "temperature", "top_p", "top_k", "chat_template_kwargs")


def chat_body(body: Any) -> dict[str, Any]:
    """A request's body as one of the Chat Completions API. Raises RequestError."""
    if not isinstance(body, Mapping):
        raise RequestError("the request must be a JSON object")
    if not isinstance(body.get("messages"), list):
        raise RequestError("must be a list with at least one message", param="messages")
    if body.get("max_tokens") is None:
        raise RequestError("is required", param="max_tokens")
    made = {name: body[name] for name in _KEPT if body.get(name) is not None}
    made["max_tokens"] = body["max_tokens"]
    if body.get("stop_sequences"):
        made["stop"] = body["stop_sequences"]
    system = body.get("system")
    messages: list[Any] = [{"role": "system", "content": system}] if system else []
    for number, message in enumerate(body["messages"]):
        messages += _chat_messages(message, f"messages[{number}]")
    made["messages"] = messages
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise RequestError("must be a list", param="tools")
    made["tools"] = [_chat_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]
    choice = body.get("tool_choice")
    if choice is not None:
        if not isinstance(choice, Mapping):
            raise RequestError("must be an object", param="tool_choice")
        kind = choice.get("type")
        named = {"type": "function", "function": {"name": choice.get("name")}}
        made["tool_choice"] = named if kind == "tool" else _CHOICES.get(str(kind), kind)
        made["parallel_tool_calls"] = not choice.get("disable_parallel_tool_use", False)
    return made


def _chat_tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, Mapping) or "input_schema" not in tool:
        raise RequestError("needs a name and an input_schema", param=where)
    function = {"name": tool.get("name"), "parameters": tool["input_schema"], "description": tool.get("description")}
    return {"type": "function", "function": function}


def _chat_messages(message: Any, where: str) -> Iterator[dict[str, Any]]:
    """One message as one or, where it holds results of tools, several."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        yield message
        return
    texts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for number, block in enumerate(content):
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "text":
            texts.append({"type": "text", "text": block.get("text")})
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking", "")))
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": block.get("input", {})}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind == "tool_result":
            result = block.get("content")
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": result or ""}
        else:
            raise RequestError(f"blocks of type {kind!r} are not read here", param=f"{where}.content[{number}]")
    made: dict[str, Any] = {"role": message.get("role"), "content": texts or None}
    if thoughts:
        made["reasoning_content"] = "".join(thoughts)
    if calls:
        made["tool_calls"] = calls
    if texts or calls or thoughts:
        yield made


class MessageEvents:
    """The events of the Messages API, from the chunks of a chat completion; `message` is what they come to."""

    def __init__(self, input_tokens: int) -> None:
        self.message: dict[str, Any] = {}
        self._input_tokens = input_tokens
        self._open = ""  # the kind of the block that is open
        self._arguments: list[str] = []

    def feed(self, chunk: Mapping[str, Any], output_tokens: int) -> list[dict[str, Any]]:
        """The events of the next chunk. `output_tokens`: sampled so far."""
        made: list[dict[str, Any]] = []
        if not self.message:
            usage = {"input_tokens": self._input_tokens, "output_tokens": 0}
            self.message = {
                "id": f"msg_{str(chunk['id']).rpartition('-')[2]}",
                "type": "message",
                "role": "assistant",
                "model": chunk["model"],
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": usage,
            }
            made.append({"type": "message_start", "message": {**self.message, "usage": dict(usage)}})
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        if delta.get("reasoning_content"):
            made += self._text("thinking", delta["reasoning_content"])
        if delta.get("content"):
            made += self._text("text", delta["content"])
        for call in delta.get("tool_calls", ()):
            made += self._call(call)
        if choice["finish_reason"] is not None:
            made += self._close()
            self.message["stop_reason"] = _STOPS[choice["finish_reason"]]
            self.message["usage"]["output_tokens"] = output_tokens
            ended = {"stop_reason": self.message["stop_reason"], "stop_sequence": None}
            made.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": output_tokens}})
            made.append({"type": "message_stop"})
        return made

    def _text(self, kind: str, text: str) -> list[dict[str, Any]]:
        made = self._begin(kind, {kind: "", **({"signature": ""} if kind == "thinking" else {})}, kind)
        self.message["content"][-1][kind] += text
        return [*made, self._delta({"type": f"{kind}_delta", kind: text})]

    def _call(self, piece: Mapping[str, Any]) -> list[dict[str, Any]]:
        made = []
        if "id" in piece:
            call = {"id": piece["id"], "name": piece["function"]["name"], "input": {}}
            made += self._begin("tool_use", call, f"call {piece['index']}")
        if piece["function"]["arguments"]:
            self._arguments.append(piece["function"]["arguments"])
            made.append(self._delta({"type": "input_json_delta", "partial_json": piece["function"]["arguments"]}))
        return made

    def _begin(self, kind: str, block: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """Open a block, unless it is the one that is open."""
        if self._open == name:
            return []
        made = self._close()
        self._open = name
        self.message["content"].append({"type": kind, **block})
        index = len(self.message["content"]) - 1
        return [*made, {"type": "content_block_start", "index": index, "content_block": {"type": kind, **block}}]

    def _close(self) -> list[dict[str, Any]]:
        if not self._open:
            return []
        if self._arguments:
            self.message["content"][-1]["input"] = json.loads("".join(self._arguments))
        self._open, self._arguments = "", []
        return [{"type": "content_block_stop", "index": len(self.message["content"]) - 1}]

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": len(self.message["content"]) - 1, "delta": delta}
