"""OpenAI's Responses API over the same completions: requests become chat requests, chunks become its events.

Nothing is stored: a client sends the whole conversation each time.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from toolparse.openai import RequestError, text_of

_STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
_IGNORED = ("include", "truncation", "max_tool_calls", "prompt_cache_retention", "stream_options")
_READ = ("input", "instructions", "max_output_tokens", "reasoning", "text")
#: The events' name for the text of an item, and the type of its one part.
_PARTS = {"message": "output_text", "reasoning": "reasoning_text"}


def chat_body(body: Any) -> dict[str, Any]:
    """A request's body as one of the Chat Completions API. Raises RequestError."""
    if not isinstance(body, Mapping):
        raise RequestError("the request must be a JSON object")
    for name in _STATEFUL:
        if body.get(name):
            raise RequestError("nothing is stored here: send the whole conversation as input", param=name)
    left = {*_STATEFUL, *_IGNORED, *_READ}
    made: dict[str, Any] = {name: value for name, value in body.items() if name not in left}
    made["max_tokens"] = body.get("max_output_tokens")
    asked = body.get("input")
    if isinstance(asked, str):
        asked = [{"role": "user", "content": asked}]
    if not isinstance(asked, list) or not asked:
        raise RequestError("must be a text or a list of items", param="input")
    first = body.get("instructions")
    made["messages"] = [{"role": "system", "content": first}] if first else []
    made["messages"] += _chat_messages(asked)
    for name, key, under in (("reasoning", "effort", "reasoning_effort"), ("text", "format", "response_format")):
        options = body.get(name) or {}
        if not isinstance(options, Mapping):
            raise RequestError("must be an object", param=name)
        made[under] = options.get(key)
    return made


def _chat_messages(items: list[Any]) -> Iterator[dict[str, Any]]:
    """Items as messages: an answer's thoughts, texts and calls, which are items of their own here, are one."""
    said: dict[str, Any] = {}
    for number, item in enumerate(items):
        kind = item.get("type", "message") if isinstance(item, Mapping) else None
        if kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            said.setdefault("tool_calls", []).append(call)
        elif kind == "reasoning":
            thought = text_of(item.get("content") or item.get("summary") or [], f"input[{number}].content")
            said["reasoning_content"] = said.get("reasoning_content", "") + (thought or "")
        elif kind == "message" and item.get("role") == "assistant" and "tool_calls" not in said:
            content = item.get("content")
            said["content"] = [*said.get("content", ()), *(content if isinstance(content, list) else [content])]
        elif kind in ("message", "function_call_output"):
            if said:
                yield {"role": "assistant", "content": None, **said}
                said = {}
            if kind == "message":
                yield {"role": item.get("role"), "content": item.get("content")}
            else:
                yield {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
        else:
            raise RequestError(f"items of type {kind!r} are not read here", param=f"input[{number}]")
    if said:
        yield {"role": "assistant", "content": None, **said}


class ResponseEvents:
    """The events of the Responses API, from the chunks of a chat completion; `message` is the response they come to."""

    def __init__(self, body: Mapping[str, Any], input_tokens: int) -> None:
        echoed = ("instructions", "metadata", "temperature", "top_p", "max_output_tokens", "reasoning", "text")
        self.message: dict[str, Any] = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "output": [],
            "tools": body.get("tools") or [],
            "tool_choice": body.get("tool_choice") or "auto",
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "store": False,
            "usage": None,
            **{name: body.get(name) for name in echoed},
        }
        self._input_tokens = input_tokens
        self._number = 0
        self._open: Any = None  # the kind of the item that is open, or a call's index

    def feed(self, chunk: Mapping[str, Any], output_tokens: int) -> list[dict[str, Any]]:
        """The events of the next chunk. `output_tokens`: sampled so far."""
        made: list[dict[str, Any]] = []
        if "created_at" not in self.message:
            self.message |= {"created_at": chunk["created"], "model": chunk["model"]}
            made += [self._event(kind, response=self._snapshot()) for kind in ("created", "in_progress")]
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        for kind, text in (("reasoning", delta.get("reasoning_content")), ("message", delta.get("content"))):
            if text:
                made += self._text(kind, text)
        for piece in delta.get("tool_calls", ()):
            made += self._call(piece)
        if choice["finish_reason"] is not None:
            cut = choice["finish_reason"] == "length"
            made += [*self._close("incomplete" if cut else "completed"), self._end(cut, output_tokens)]
        return made

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": f"response.{kind}", "sequence_number": self._number - 1, **fields}

    def _of_item(self, kind: str, **fields: Any) -> dict[str, Any]:
        output = self.message["output"]
        return self._event(kind, item_id=output[-1]["id"], output_index=len(output) - 1, **fields)

    def _snapshot(self) -> dict[str, Any]:
        return {**self.message, "output": list(self.message["output"])}

    def _begin(self, name: Any, item: dict[str, Any]) -> list[dict[str, Any]]:
        made = self._close()
        self._open = name
        output = self.message["output"]
        output.append({**item, "status": "in_progress"})
        return [*made, self._event("output_item.added", output_index=len(output) - 1, item=dict(output[-1]))]

    def _text(self, kind: str, text: str) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        logprobs: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        if self._open != kind:
            item: dict[str, Any] = {"type": kind, "id": f"{kind[:3]}_{secrets.token_hex(12)}", "content": []}
            own: dict[str, Any] = {"role": "assistant"} if kind == "message" else {"summary": []}
            made = self._begin(kind, item | own)
            part: dict[str, Any] = {"type": _PARTS[kind], "text": "", **logprobs}
            if kind == "message":
                part["annotations"] = []
            made.append(self._of_item("content_part.added", content_index=0, part=dict(part)))
            self.message["output"][-1]["content"] = [part]
        self.message["output"][-1]["content"][0]["text"] += text
        return [*made, self._of_item(f"{_PARTS[kind]}.delta", content_index=0, delta=text, **logprobs)]

    def _call(self, piece: Mapping[str, Any]) -> list[dict[str, Any]]:
        made, arguments = [], piece["function"]["arguments"]
        if "id" in piece:
            call = {"type": "function_call", "id": f"fc_{secrets.token_hex(12)}", "call_id": piece["id"]}
            made = self._begin(piece["index"], {**call, "name": piece["function"]["name"], "arguments": ""})
        self.message["output"][-1]["arguments"] += arguments
        return [*made, self._of_item("function_call_arguments.delta", delta=arguments)] if arguments else made

    def _close(self, status: str = "completed") -> list[dict[str, Any]]:
        if self._open is None:
            return []
        item = self.message["output"][-1]
        item["status"] = status
        if item["type"] == "function_call":
            done = {"arguments": item["arguments"], "name": item["name"]}
            made = [self._of_item("function_call_arguments.done", **done)]
        else:
            (part,) = item["content"]
            logprobs: dict[str, Any] = {"logprobs": []} if item["type"] == "message" else {}
            made = [self._of_item(f"{part['type']}.done", content_index=0, text=part["text"], **logprobs)]
            made.append(self._of_item("content_part.done", content_index=0, part=part))
        self._open = None
        return [*made, self._event("output_item.done", output_index=len(self.message["output"]) - 1, item=item)]

    def _end(self, cut: bool, output_tokens: int) -> dict[str, Any]:
        self.message["status"] = "incomplete" if cut else "completed"
        if cut:
            self.message["incomplete_details"] = {"reason": "max_output_tokens"}
        self.message["usage"] = {
            "input_tokens": self._input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._input_tokens + output_tokens,
        }
        return self._event(self.message["status"], response=self._snapshot())
