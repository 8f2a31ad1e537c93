"""How messages must be built so that a template renders them right.

Templates disagree: some want a call's arguments as a dict and write garbage for a string, some the other way round;
some refuse an empty content beside calls, some a missing one; some check the form of ids. A `MessageStyle` says what
one template needs; it is found by trying (`probe.py`) and kept in a `Detection`, because whoever builds messages for
the template needs exactly this.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from toolparse.message import fill_id

#: Ids of nine letters and digits: what Mistral's templates demand and everyone else takes.
PLAIN_ID = "call{{index:05}}"
#: Ids that hold the name: for templates that write the id where others write the name.
NAMED_ID = "functions.{{name}}:{{index}}"


@dataclass(frozen=True, slots=True)
class MessageStyle:
    """What a template wants its messages to look like.

    `arguments`: a call's arguments as `dict` or as JSON `string`. `content`: what stands for "no text" beside
    calls: `empty` string, `null`, or `absent`; `parts`: text is a list of parts. `new_id`: how ids are made.
    `tools`: tool definitions as OpenAI writes them (`openai`), without the outer object (`flat`), with
    `additionalProperties` spelled out (`nested`), as JSON in a first message of the role `functions` (`role`), or not
    at all, because the template cannot write them (`none`). `call`: calls as OpenAI writes them, without the inner
    `function` object (`flat`), or as OpenAI once did: one under `function_call`, or a list under `function_calls`, of
    name and arguments. `reasoning`: the keys under which a thought is passed; `thoughts`: or that it is a part of the
    content, `{"type": "thinking"}`. `results`: the keys that a tool result needs beside its content; `results_form`:
    what that content is, `text` (as any other), a list of `parts`, or a list of objects with their text under
    `output`. `variables`: further variables that the template cannot do without, with what they hold (`date`, or
    `tools as text`: the definitions as JSON). `tool_behind`: calls are only rendered when a tool result follows them.
    `system`: a conversation must begin with a system message. `mutable`: the template calls methods that change
    lists, which transformers' sandbox refuses.
    """

    arguments: Literal["dict", "string"] = "dict"
    content: Literal["empty", "null", "absent"] = "empty"
    parts: bool = False
    new_id: str = PLAIN_ID
    tools: Literal["openai", "flat", "nested", "none", "role"] = "openai"
    call: Literal["openai", "flat", "function_call", "function_calls"] = "openai"
    reasoning: tuple[str, ...] = ("reasoning_content", "thinking")
    thoughts: Literal["keys", "parts"] = "keys"
    results: tuple[str, ...] = ("tool_call_id", "name")
    results_form: Literal["text", "parts", "output"] = "text"
    variables: tuple[tuple[str, str], ...] = ()
    tool_behind: bool = False
    system: bool = False
    mutable: bool = False

    def message(self, parsed: Any) -> dict[str, Any]:
        """An assistant's message for this template.

        `parsed`: a ParsedMessage, or a message in OpenAI's form (arguments as dict or JSON text).
        """
        content, reasoning, calls = _read(parsed)
        message: dict[str, Any] = {"role": "assistant"}
        if content or not calls:
            message["content"] = self.text(content)
        elif self.content != "absent":
            message["content"] = None if self.content == "null" else self.text("")
        if reasoning is not None and self.thoughts == "parts":
            said = [{"type": "text", "text": content}] if content else []
            message["content"] = [{"type": "thinking", "thinking": reasoning}, *said]
        elif reasoning is not None:
            message.update(dict.fromkeys(self.reasoning, reasoning))
        if self.single and len(calls) > 1:
            raise ValueError("this template takes one call a message: pass one at a time")
        if self.call == "function_call":
            message["function_call"] = self._bare_call(*calls[0][:2]) if calls else None
        elif self.call == "function_calls" and calls:
            message["function_calls"] = [self._bare_call(name, arguments) for name, arguments, _ in calls]
        elif calls:
            message["tool_calls"] = [self.tool_call(index, *call) for index, call in enumerate(calls)]
        return message

    @property
    def single(self) -> bool:
        """Whether a message carries one call at most."""
        return self.call == "function_call"

    def text(self, content: str) -> Any:
        """Text as this template takes it."""
        return [{"type": "text", "text": content}] if self.parts else content

    def result(self, content: str) -> Any:
        """A tool's answer as this template takes it."""
        if self.results_form == "output":
            return [{"output": content}]
        return [{"type": "text", "text": content}] if self.results_form == "parts" else self.text(content)

    def tool_call(self, index: int, name: str, arguments: Any, call_id: str | None) -> dict[str, Any]:
        """One entry of `tool_calls`."""
        function = self._bare_call(name, arguments)
        called = function if self.call == "flat" else {"function": function}
        return {"id": self._id(index, name, call_id), "type": "function", **called}

    def _id(self, index: int, name: str, given: str | None) -> str:
        return given if given is not None else fill_id(self.new_id, name, index)

    def _bare_call(self, name: str, arguments: Any) -> dict[str, Any]:
        as_text = self.arguments == "string" and not isinstance(arguments, str)
        value = json.dumps(arguments, ensure_ascii=False) if as_text else arguments
        return {"name": name, "arguments": value}

    def first_messages(self, tools: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What stands before the conversation: the tools, where the template takes them from a message."""
        if self.tools != "role":
            return []
        return [{"role": "functions", "content": json.dumps(list(tools), ensure_ascii=False)}]

    def tool_results(self, parsed: Any, results: Sequence[str]) -> list[dict[str, Any]]:
        """The tool messages that answer the calls of a message, in order."""
        _, _, calls = _read(parsed)
        if len(calls) != len(results):
            raise ValueError(f"{len(calls)} calls need {len(calls)} results, not {len(results)}")
        messages = []
        for index, ((name, _, call_id), result) in enumerate(zip(calls, results, strict=True)):
            known = {"tool_call_id": self._id(index, name, call_id), "name": name}
            message = {"role": "tool", "content": self.result(result)}
            message.update({key: known[key] for key in self.results if key in known})
            messages.append(message)
        return messages

    def tool_definitions(self, tools: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Tool definitions (OpenAI's form) as this template takes them."""
        plain = [dict(tool) for tool in tools] if self.tools not in ("none", "role") else []
        if self.tools in ("openai", "none", "role"):
            return plain
        functions = [dict(tool.get("function", tool)) for tool in plain]
        if self.tools == "flat":
            return functions
        return [{**tool, "function": _spelled_out(function)} for tool, function in zip(plain, functions, strict=True)]

    def extra_variables(self, tools: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """The further variables that the template needs."""
        text = json.dumps(list(tools), ensure_ascii=False)
        return {name: text if kind == "tools as text" else "17 May 2024" for name, kind in self.variables}

    def changed(self, **changes: Any) -> MessageStyle:
        """A style like this one but for the given fields."""
        return dataclasses.replace(self, **changes)

    def differences(self) -> dict[str, Any]:
        """The fields in which it differs from the usual style."""
        usual = MessageStyle()
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in own.items() if value != getattr(usual, name)}


Call = tuple[str, Any, str | None]


def _read(parsed: Any) -> tuple[str, str | None, list[Call]]:
    """Content, reasoning and calls of a parsed message or of a message in OpenAI's form."""
    if not isinstance(parsed, Mapping):
        calls: list[Call] = [(call.name, call.arguments, call.id) for call in parsed.tool_calls]
        return parsed.content or "", parsed.reasoning, calls
    found: list[Call] = []
    single = parsed.get("function_call")
    for call in parsed.get("tool_calls") or parsed.get("function_calls") or ([single] if single else ()):
        function = call.get("function", call)
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            with contextlib.suppress(ValueError):  # of a broken call, what was written
                arguments = json.loads(arguments)
        found.append((function["name"], arguments, call.get("id")))
    reasoning = next(
        (parsed[key] for key in ("reasoning_content", "reasoning", "thinking") if parsed.get(key) is not None), None
    )
    return parsed.get("content") or "", reasoning, found


def _spelled_out(schema: Any) -> Any:
    """A schema in which every object says what its other members may be, and every list what its items are."""
    if isinstance(schema, list):
        return [_spelled_out(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: _spelled_out(value) for key, value in schema.items()}
    if made.get("type") == "object":
        made.setdefault("additionalProperties", {"type": "string"})
    if made.get("type") == "array":
        made.setdefault("items", {"type": "string"})
    return made
