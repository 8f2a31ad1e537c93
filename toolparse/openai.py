"""Messages, streams and requests in the shapes of the chat APIs; knows no web framework and no client library.

Outward: `to_chat_message` and `to_chat_completion` (Chat Completions), `ChatDeltas` (its chunks, from a stream),
`to_response_output` (items of the Responses API), `to_anthropic_content` (content blocks of the Messages API).
Inward: `read_chat_request` checks what a client asked for, `template_messages` builds what the chat template takes.

A call that may not be executed (`call.ok` is false) is never handed out as a call: a client would run it. It is
content, as the model wrote it, or, with `broken="report"`, an entry of the extension field `broken_calls`. So that a
stream can keep this too, a call is handed out when it has ended; `ChatDeltas(..., live=True)` hands its arguments out
as they are written, for clients that check the calls themselves.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import string
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from toolparse.codecs.json import decode, encode
from toolparse.errors import ExportError, ToolError, ToolparseError
from toolparse.events import ArgumentsDelta, CallEnded, CallStarted, ContentDelta, Event, ReasoningDelta
from toolparse.format import Format
from toolparse.message import ParsedMessage, ToolCall, fill_id
from toolparse.parser import AnyParser, EventStream, Parser, TextOrIds

if TYPE_CHECKING:
    from toolparse.templates.induction.message_style import MessageStyle
    from toolparse.tools import ToolSet

Broken = Literal["content", "report"]
Finish = Literal["stop", "length"]
Choice = Literal["auto", "none", "required", "named"]
NewId = Callable[[str, int], str]


class RequestError(ToolparseError, ValueError):
    """A request that can't be served; `param` says where in it the fault lies."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


_ID_LETTERS = string.ascii_letters + string.digits


def new_call_id(_name: str = "", _index: int = 0) -> str:
    """A fresh id for a call: nine letters and digits, the form that every known chat template takes back."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


def ids_for(style: MessageStyle | None, messages: Sequence[Mapping[str, Any]]) -> NewId:
    """How ids are made for the next turn of a conversation: fresh ones, or, where the template reads the name out of
    the id, the name with the number of the call in the conversation.
    """
    from toolparse.templates.induction.message_style import NAMED_ID

    if style is None or style.new_id != NAMED_ID:
        return new_call_id
    before = sum(len(message.get("tool_calls") or ()) for message in messages)
    return lambda name, index: fill_id(style.new_id, name, before + index)


def arguments_text(arguments: Any) -> str:
    """Arguments as the JSON text that the APIs carry; what UTF-8 can't hold is escaped."""
    return SURROGATE.sub(lambda lone: f"\\u{ord(lone[0]):04x}", encode(arguments))


#: Half of a surrogate pair, which UTF-8 can't hold.
SURROGATE = re.compile("[\ud800-\udfff]")


# ---------------------------------------------------------------------------------------------------------- messages


class _Lines:
    """Content in the making: a broken call stands on lines of its own."""

    def __init__(self) -> None:
        self._last = ""
        self._behind_call = False

    def text(self, piece: str) -> str:
        if self._behind_call and piece and not piece[0].isspace():
            piece = "\n" + piece
        if piece:
            self._behind_call, self._last = False, piece[-1]
        return piece

    def call(self, raw: str) -> str:
        before = "\n" if self._last and not self._last.isspace() else ""
        self._behind_call, self._last = True, raw[-1:]
        return before + raw


Part = tuple[Literal["reasoning", "content", "call"], Any]


def _parts(message: ParsedMessage, broken: Broken) -> Iterator[Part]:
    """Thoughts, content and calls in the order of the text; neighbours of one kind are one part."""
    found: list[Part] = []
    lines = _Lines()
    for kind, value in _pieces(message):
        if kind == "call" and not value.ok and broken == "content":
            kind, value = "content", lines.call(value.raw or arguments_text(value.arguments))
        elif kind == "content":
            value = lines.text(value)
        if kind == "call" or value:
            found.append((kind, value))
    for kind, parts in groupby(found, key=itemgetter(0)):
        if kind == "call":
            yield from parts
        else:
            yield kind, "".join(value for _, value in parts)


def _pieces(message: ParsedMessage) -> Iterator[Part]:
    text = message.text
    said = "".join(text[span.start : span.end] for span in message.spans if span.kind == "content")
    spans = [span for span in message.spans if span.kind == "call"]
    if said != message.content or len(spans) != len(message.tool_calls):
        # A user's own parsing function need not say where what stood.
        yield "reasoning", message.reasoning or ""
        yield "content", message.content
        yield from (("call", call) for call in message.tool_calls)
        return
    calls = iter(message.tool_calls)
    for span in message.spans:
        if span.kind == "call":
            yield "call", next(calls)
        elif span.kind != "markup":
            yield span.kind, text[span.start : span.end]


def _broken_call(call: ToolCall) -> dict[str, Any]:
    issues = [{"code": issue.code, "message": issue.message} for issue in call.issues if not issue.is_note]
    return {"name": call.name, "raw": call.raw, "issues": issues}


def to_chat_message(
    message: ParsedMessage, *, broken: Broken = "content", new_id: NewId = new_call_id
) -> dict[str, Any]:
    """The message as the Chat Completions API gives it: arguments as JSON text, every call with an id.

    Args:
        message: What was parsed.
        broken: Calls that may not be executed are part of the content ("content"), or entries of `broken_calls` with
            their name, text and issues ("report").
        new_id: Makes an id, from a call's name and index, where the text carries none.
    """
    content: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    reported: list[dict[str, Any]] = []
    for kind, value in _parts(message, broken):
        if kind == "content":
            content.append(value)
        elif kind == "reasoning":
            reasoning.append(value)
        elif value.ok:
            calls.append(to_chat_call(value, new_id))
        else:
            reported.append(_broken_call(value))
    text = "".join(content)
    made: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
    if message.reasoning is not None:
        made["reasoning_content"] = "".join(reasoning)
    if calls:
        made["tool_calls"] = calls
    if reported:
        made["broken_calls"] = reported
    return made


def to_chat_call(call: ToolCall, new_id: NewId = new_call_id) -> dict[str, Any]:
    """One call as the Chat Completions API gives it."""
    return {
        "id": call.id or new_id(call.name, call.index),
        "type": "function",
        "function": {"name": call.name, "arguments": arguments_text(call.arguments)},
    }


def finish_reason(calls: bool, finish: Finish = "stop") -> str:
    """The API's `finish_reason`: `length` where the engine ran out of tokens, else `tool_calls` or `stop`."""
    if finish == "length":
        return "length"
    return "tool_calls" if calls else "stop"


def to_chat_completion(
    message: ParsedMessage,
    *,
    model: str = "",
    finish: Finish = "stop",
    usage: Mapping[str, int] | None = None,
    broken: Broken = "content",
    new_id: NewId = new_call_id,
    id: str | None = None,
    created: int | None = None,
) -> dict[str, Any]:
    """A whole `chat.completion` object with one choice."""
    said = to_chat_message(message, broken=broken, new_id=new_id)
    choice = {
        "index": 0,
        "message": said,
        "logprobs": None,
        "finish_reason": finish_reason("tool_calls" in said, finish),
    }
    made = {**_head("chat.completion", model, id, created), "choices": [choice]}
    return made if usage is None else {**made, "usage": dict(usage)}


def _head(kind: str, model: str, id: str | None, created: int | None) -> dict[str, Any]:
    created = int(time.time()) if created is None else created
    return {"id": id or f"chatcmpl-{secrets.token_hex(12)}", "object": kind, "created": created, "model": model}


def to_response_output(
    message: ParsedMessage, *, broken: Broken = "content", new_id: NewId = new_call_id
) -> list[dict[str, Any]]:
    """The message as output items of the Responses API, in the order of the text."""
    items: list[dict[str, Any]] = []
    for kind, value in _parts(message, broken):
        if kind == "reasoning":
            thought = [{"type": "reasoning_text", "text": value}]
            items.append({"type": "reasoning", "id": _fresh("rs"), "summary": [], "content": thought})
        elif kind == "content":
            text = {"type": "output_text", "text": value, "annotations": []}
            item = {"type": "message", "id": _fresh("msg"), "role": "assistant", "status": "completed"}
            items.append({**item, "content": [text]})
        elif value.ok:
            call = {"type": "function_call", "id": _fresh("fc"), "status": "completed", "name": value.name}
            call_id = value.id or new_id(value.name, value.index)
            items.append({**call, "call_id": call_id, "arguments": arguments_text(value.arguments)})
        else:
            items.append({"type": "broken_call", **_broken_call(value)})
    return items


def _fresh(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(12)}"


def to_anthropic_content(
    message: ParsedMessage, *, broken: Broken = "content", new_id: NewId = new_call_id
) -> list[dict[str, Any]]:
    """The message as content blocks of Anthropic's Messages API, in the order of the text."""
    blocks: list[dict[str, Any]] = []
    for kind, value in _parts(message, broken):
        if kind == "reasoning":
            blocks.append({"type": "thinking", "thinking": value, "signature": ""})
        elif kind == "content":
            blocks.append({"type": "text", "text": value})
        elif value.ok:
            call_id = value.id or new_id(value.name, value.index)
            blocks.append({"type": "tool_use", "id": call_id, "name": value.name, "input": value.arguments})
        else:
            blocks.append({"type": "broken_call", **_broken_call(value)})
    return blocks


# ------------------------------------------------------------------------------------------------------------ chunks


class ChatDeltas:
    """The chunks of the Chat Completions API for one stream: the role first, a `finish_reason` last.

    ```
    deltas = ChatDeltas(parser.stream(tools=tools, prompt=prompt_ids), model="mine")
    for ids in pieces:
        send(deltas.feed(ids))
    send(deltas.finish())
    ```

    Args:
        stream: What `parser.stream()` gives.
        model, id, created: As the chunks carry them.
        broken: As in `to_chat_message`.
        live: Whether arguments are handed out as they are written, before it is known whether the call may be
            executed. A call that turns out broken is then also reported in `broken_calls`, whatever `broken` says.
        new_id: As in `to_chat_message`; asked when a call starts.
    """

    def __init__(
        self,
        stream: EventStream,
        *,
        model: str = "",
        broken: Broken = "content",
        live: bool = False,
        new_id: NewId = new_call_id,
        id: str | None = None,
        created: int | None = None,
    ) -> None:
        self.stream = stream
        self.calls = 0  # handed out so far
        self.whole_calls = 0  # of those the ones that have ended and may be executed
        self._broken = broken
        self._live = live
        self._new_id = new_id
        self._head = _head("chat.completion.chunk", model, id, created)
        self._started = False
        self._ids: dict[int, str] = {}
        self._positions: dict[int, int] = {}  # index in the text -> index among those handed out
        self._lines = _Lines()

    def start(self) -> list[dict[str, Any]]:
        """The first chunk, which has the role; `feed` gives it if it wasn't asked for."""
        if self._started:
            return []
        self._started = True
        return [self.chunk({"role": "assistant", "content": ""})]

    def feed(self, piece: TextOrIds) -> list[dict[str, Any]]:
        """The chunks that this piece settles."""
        return [*self.start(), *map(self.chunk, self.deltas(self.stream.feed(piece)))]

    def finish(self, finish: Finish = "stop") -> list[dict[str, Any]]:
        """The chunks that only the end settles, and the last one. `finish`: how the engine ended."""
        rest = [*self.start(), *map(self.chunk, self.deltas(self.stream.finish()))]
        return [*rest, self.chunk({}, finish_reason(self.whole_calls > 0, finish))]

    def chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        """A chunk around a delta."""
        choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": reason}
        return {**self._head, "choices": [choice]}

    def deltas(self, events: Sequence[Event]) -> list[dict[str, Any]]:
        """The bare deltas of some events."""
        made: list[dict[str, Any]] = []
        for event in events:
            if isinstance(event, ContentDelta):
                made.append({"content": self._lines.text(event.text)})
            elif isinstance(event, ReasoningDelta):
                made.append({"reasoning_content": event.text})
            elif isinstance(event, CallStarted):
                self._ids[event.index] = event.id or self._new_id(event.name, event.index)
                if self._live:
                    made.append(self._handed_out(event.index, event.name))
            elif isinstance(event, ArgumentsDelta):
                if self._live:
                    made.append(self._arguments(event.index, event.json))
            elif isinstance(event, CallEnded):
                made += self._call_ended(event.index, event.call)
        return made

    def _handed_out(self, index: int, name: str) -> dict[str, Any]:
        position = self._positions[index] = self.calls
        self.calls += 1
        function = {"name": name, "arguments": ""}
        return {"tool_calls": [{"index": position, "id": self._ids[index], "type": "function", "function": function}]}

    def _arguments(self, index: int, text: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": self._positions[index], "function": {"arguments": text}}]}

    def _call_ended(self, index: int, call: ToolCall) -> list[dict[str, Any]]:
        if call.ok:
            self.whole_calls += 1
            if self._live and index in self._positions:
                return []
            if call.id is not None or index not in self._ids:  # an id may stand behind the arguments
                self._ids[index] = call.id or self._new_id(call.name, index)
            return [self._handed_out(index, call.name), self._arguments(index, arguments_text(call.arguments))]
        if self._broken == "report" or index in self._positions:
            return [{"broken_calls": [_broken_call(call)]}]
        return [{"content": self._lines.call(call.raw or arguments_text(call.arguments))}]


# ---------------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client of the Chat Completions API asked for, checked.

    `messages`: plain messages, arguments decoded to objects, content a text or None. `tools`: as OpenAI writes them,
    only those that may be called. `choice`: whether calls are up to the model, forbidden, or required; `name`: of the
    one tool that must be called. `parallel`: whether there may be several calls. `strict`: the names of the tools
    whose schemas the engine must enforce. `answer`: the JSON schema of an answer without calls (`response_format`).
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    choice: Choice = "auto"
    name: str | None = None
    parallel: bool = True
    strict: frozenset[str] = frozenset()
    answer: dict[str, Any] | None = None

    @property
    def reads_calls(self) -> bool:
        """Whether the model's text is looked through for calls."""
        return bool(self.tools) and self.choice != "none"

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that may be called this time."""
        if self.choice == "none":
            return []
        return [tool for tool in self.tools if self.name in (None, tool["function"]["name"])]

    @property
    def constrained(self) -> bool:
        """Whether the engine must be held to a grammar."""
        forced = self.choice in ("required", "named") or bool(self.strict)
        return self.answer is not None or (self.reads_calls and forced)

    def tool_set(self) -> ToolSet | None:
        """The tools that calls are checked against."""
        if not self.reads_calls:
            return None
        from toolparse.tools import ToolSet

        return ToolSet.of(self.offered)


def read_chat_request(body: Any) -> ChatRequest:
    """Check a request's messages, tools and choice. Raises RequestError, which names the place."""
    if not isinstance(body, Mapping):
        raise RequestError("the request must be a JSON object")
    messages = _checked_messages(body.get("messages"))
    return dataclasses.replace(read_tools(body), messages=messages, answer=_answer_schema(body.get("response_format")))


def read_tools(body: Mapping[str, Any]) -> ChatRequest:
    """Check `tools`, `tool_choice` and `parallel_tool_calls` alone, of the Chat Completions or the Responses API.

    Raises RequestError, which names the place.
    """
    tools, strict = _checked_tools(body.get("tools"))
    names = [tool["function"]["name"] for tool in tools]
    choice, name, allowed = _checked_choice(body.get("tool_choice"), names)
    parallel = body.get("parallel_tool_calls")
    if parallel is not None and not isinstance(parallel, bool):
        raise RequestError("must be true or false", param="parallel_tool_calls")
    if allowed is not None:
        tools = [tool for tool in tools if tool["function"]["name"] in allowed]
        strict &= allowed
    return ChatRequest([], tools, choice, name, parallel is not False, frozenset(strict))


def _answer_schema(form: Any) -> dict[str, Any] | None:
    """The schema of `response_format`, whose parts stand side by side in the Responses API; None for text."""
    kind = form.get("type") if isinstance(form, Mapping) else form
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise RequestError(f"must be 'text', 'json_object' or 'json_schema', not {kind!r}", param="response_format")
    inner = form.get("json_schema", form)
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    where = "response_format.json_schema.schema"
    if not isinstance(schema, dict):
        raise RequestError("must be a JSON schema", param=where)
    _check_schema("answer", schema, where)
    return schema


_TEXTS = ("text", "input_text", "output_text", "refusal", "reasoning_text", "summary_text")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def _checked_messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise RequestError("must be a list with at least one message", param="messages")
    made: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # of the calls so far, by id
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, Mapping):
            raise RequestError("must be an object", param=where)
        role = message.get("role")
        if role not in _ROLES:
            raise RequestError(f"unknown role {role!r}; known are {', '.join(_ROLES)}", param=f"{where}.role")
        content = text_of(message.get("content"), f"{where}.content", needed=role != "assistant")
        if role in ("tool", "function"):
            made.append(_tool_message(message, content or "", names, where))
        elif role == "assistant":
            made.append(_assistant_message(message, content, names, where))
        else:
            made.append({"role": "system" if role == "developer" else role, "content": content or ""})
    return made


def text_of(content: Any, where: str, *, needed: bool = False) -> str | None:
    """A message's content as text: parts of text are joined."""
    if isinstance(content, str):
        return content
    if content is None and needed:
        raise RequestError("a message of this role needs content", param=where)
    if content is None:
        return None
    if not isinstance(content, list):
        raise RequestError("must be a text or a list of parts", param=where)
    texts = []
    for number, part in enumerate(content):
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type") if isinstance(part, Mapping) else None
        value = part.get("refusal" if kind == "refusal" else "text") if isinstance(part, Mapping) else None
        if kind not in _TEXTS or not isinstance(value, str):
            raise RequestError(f"only parts of text are read here, not {kind!r}", param=f"{where}[{number}]")
        texts.append(value)
    return "".join(texts)


def _assistant_message(
    message: Mapping[str, Any], content: str | None, names: dict[str, str], where: str
) -> dict[str, Any]:
    made: dict[str, Any] = {"role": "assistant", "content": content}
    reasoning = next((message[key] for key in ("reasoning_content", "reasoning") if message.get(key)), None)
    if isinstance(reasoning, str):
        made["reasoning_content"] = reasoning
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise RequestError("must be a list", param=f"{where}.tool_calls")
    legacy = message.get("function_call")
    if isinstance(legacy, Mapping) and not calls:
        calls = [{"type": "function", "function": legacy}]
    read = [_message_call(call, names, f"{where}.tool_calls[{number}]") for number, call in enumerate(calls)]
    if read:
        made["tool_calls"] = read
    elif content is None and reasoning is None:
        raise RequestError("an assistant's message needs content or tool_calls", param=f"{where}.content")
    return made


def _message_call(call: Any, names: dict[str, str], where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RequestError("a call needs a function with a name", param=where)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = decode(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise RequestError(f"is no JSON: {error}", param=f"{where}.function.arguments") from None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise RequestError("must be a JSON object, as text", param=f"{where}.function.arguments")
    ident = call.get("id")
    made: dict[str, Any] = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(ident, str) and ident:
        made["id"] = ident
        names[ident] = function["name"]
    return made


def _tool_message(message: Mapping[str, Any], content: str, names: dict[str, str], where: str) -> dict[str, Any]:
    ident = message.get("tool_call_id")
    if ident is not None and not isinstance(ident, str):
        raise RequestError("must be a text", param=f"{where}.tool_call_id")
    if message["role"] == "tool" and (ident is None or ident not in names):
        raise RequestError(f"{ident!r} is the id of no call in the messages before", param=f"{where}.tool_call_id")
    name = message.get("name")
    made = {"role": "tool", "content": content, "name": name if isinstance(name, str) else names.get(ident or "", "")}
    return made if ident is None else {**made, "tool_call_id": ident}


def _checked_tools(tools: Any) -> tuple[list[dict[str, Any]], set[str]]:
    if tools is None:
        return [], set()
    if not isinstance(tools, list):
        raise RequestError("must be a list", param="tools")
    from toolparse.tools import ToolSet

    made: list[dict[str, Any]] = []
    strict: set[str] = set()
    for number, tool in enumerate(tools):
        where = f"tools[{number}]"
        if not isinstance(tool, Mapping) or tool.get("type", "function") != "function":
            raise RequestError("only tools of type 'function' can be offered", param=where)
        function = tool.get("function", tool if "name" in tool else None)  # flat in the Responses API
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
            raise RequestError("needs a function with a name", param=f"{where}.function")
        parameters = function.get("parameters")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise RequestError("must be a JSON schema", param=f"{where}.function.parameters")
        plain = {key: value for key, value in function.items() if key not in ("strict", "type") and value is not None}
        plain.setdefault("description", "")
        plain.setdefault("parameters", {"type": "object", "properties": {}})
        if function.get("strict"):
            strict.add(function["name"])
        made.append({"type": "function", "function": plain})
        _check_schema(function["name"], plain["parameters"], f"{where}.function.parameters")
    try:
        ToolSet.of(made)
    except ToolError as error:
        raise RequestError(str(error), param="tools") from None
    return made, strict


def _check_schema(name: str, schema: Any, where: str) -> None:
    from toolparse.tools import ToolSet

    try:
        ToolSet.of([{"type": "function", "function": {"name": name, "description": "", "parameters": schema}}])
    except ToolError as error:
        raise RequestError(str(error), param=where) from None


def _checked_choice(choice: Any, names: Sequence[str]) -> tuple[Choice, str | None, set[str] | None]:
    """The kind of choice, the tool that it names, and the tools that it allows."""
    allowed: set[str] | None = None
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        inner = choice.get("allowed_tools", choice)
        listed = inner.get("tools") if isinstance(inner, Mapping) else None
        if not isinstance(listed, list):
            raise RequestError("needs a list of tools", param="tool_choice.allowed_tools.tools")
        allowed = {_named(tool) or "" for tool in listed}
        if not allowed <= set(names):
            unknown = ", ".join(sorted(allowed - set(names)))
            raise RequestError(f"names tools that are not offered: {unknown}", param="tool_choice.allowed_tools")
        choice = inner.get("mode", "auto")
    if choice is None:
        return "auto", None, allowed
    if choice in ("auto", "none", "required"):
        if choice == "required" and not names:
            raise RequestError("a call is required, but no tools are offered", param="tool_choice")
        return choice, None, allowed
    name = _named(choice)
    if name is None:
        raise RequestError("must be 'auto', 'none', 'required' or the name of a function", param="tool_choice")
    if name not in names:
        raise RequestError(f"names {name!r}, which is not among the tools", param="tool_choice.function.name")
    return "named", name, allowed


def _named(choice: Any) -> str | None:
    if not isinstance(choice, Mapping):
        return None
    inner = choice.get("function", choice)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return name if isinstance(name, str) else None


# ------------------------------------------------------------------------------------------------------ for the engine

Syntax = Literal["structural_tag", "ebnf", "lark", "gbnf"]


def constraint(
    parser: AnyParser,
    asked: ChatRequest,
    syntaxes: Sequence[Syntax],
    *,
    prompt: TextOrIds | None = None,
    reasoning: bool = True,
) -> tuple[Syntax, str] | None:
    """What an engine must hold the model to so that the choice of tools is kept: None where nothing is asked for.

    Args:
        parser: Reads the model.
        asked: The request.
        syntaxes: What the engine takes, the one to prefer first.
        prompt: The rendered prompt, which may open a thought; the parser's own state at the start if None.
        reasoning: Whether the grammar covers the thought; not if the engine applies it behind the thought only.

    Raises:
        RequestError: It can't be said in any of the syntaxes; the message tells why.
    """
    if not asked.constrained:
        return None
    where = "tool_choice" if asked.choice in ("required", "named") else "tools"
    where = where if asked.answer is None else "response_format"
    if not isinstance(parser, Parser):
        raise RequestError("this model's calls are read by a function, which has no grammar", param=where)
    if not syntaxes:
        raise RequestError("this engine can't be held to a grammar, which this needs", param=where)
    reasons = []
    for number, (tools, skip) in enumerate(_ways(parser, asked)):
        for syntax in syntaxes:
            try:
                return syntax, _grammar(parser, asked, syntax, tools, skip, prompt=prompt, reasoning=reasoning)
            except ExportError as error:
                if number == 0:
                    reasons.append(f"{syntax}: {error}")
    raise RequestError(f"no grammar can say this: {'; '.join(reasons)}", param=where)


def _ways(parser: Parser, asked: ChatRequest) -> Iterator[tuple[Any, Collection[str]]]:
    """Tools, and keywords to leave out: none, or what no grammar says where nobody asked for `strict`."""
    yield asked.offered, ()
    if asked.strict:
        return
    from toolparse.export.schemas import SKIPPABLE
    from toolparse.export.structural_tag import chosen

    if asked.answer is None:
        yield asked.offered, SKIPPABLE
    yield chosen(asked.offered, "auto", False, tagged=parser.format.param is not None), ()


def _grammar(
    parser: Parser,
    asked: ChatRequest,
    syntax: Syntax,
    tools: Any,
    skip: Collection[str],
    *,
    prompt: TextOrIds | None,
    reasoning: bool,
) -> str:
    forced = asked.choice in ("required", "named")
    options: dict[str, Any] = {"parallel": asked.parallel, "reasoning": reasoning, "prompt": prompt, "skip": skip}
    options["answer"] = None if forced else asked.answer
    if syntax == "structural_tag":
        return encode(parser.structural_tag(tools, choice="required" if forced else asked.choice, **options))
    return parser.grammar(tools, syntax=syntax, content=not forced, required=forced, **options)


# -------------------------------------------------------------------------------------------------- for the template


def template_messages(
    messages: Sequence[Mapping[str, Any]], style: MessageStyle | None = None, *, own_ids: bool = False
) -> list[dict[str, Any]]:
    """Messages (of a `ChatRequest`) as a chat template takes them.

    Args:
        messages: Plain messages.
        style: How the template wants them (`parser.style`); the usual way if None.
        own_ids: Whether ids are written in the style's form, whatever they were: some templates refuse others. Ids
            that a template writes in a name's place are always put into its form.
    """
    from toolparse.templates.induction.message_style import NAMED_ID, MessageStyle

    style = style or MessageStyle()
    own_ids = own_ids or style.new_id == NAMED_ID
    given: dict[str, str] = {}
    made: list[dict[str, Any]] = []
    calls = 0
    for message in messages:
        role = message["role"]
        if role == "assistant":
            renamed = []
            for call in message.get("tool_calls") or ():
                name, ident = call["function"]["name"], call.get("id")
                kept = ident is not None and (not own_ids or _has_form(style.new_id, name, ident))
                new = ident if kept else fill_id(style.new_id, name, calls)
                if ident is not None:
                    given[ident] = new
                renamed.append({**call, "id": new})
                calls += 1
            made.append(style.message({**message, "tool_calls": renamed}))
        elif role == "tool":
            ident = message.get("tool_call_id")
            known = {"tool_call_id": given.get(ident or "", ident), "name": message.get("name") or None}
            keys = {key: known[key] for key in style.results if known.get(key) is not None}
            made.append({"role": "tool", "content": style.text(message["content"]), **keys})
        else:
            made.append({**message, "content": style.text(message["content"])})
    if style.system and made[0]["role"] != "system":
        made.insert(0, {"role": "system", "content": style.text("")})
    return made


def _has_form(picture: str, name: str, ident: str) -> bool:
    """Whether an id is one of a picture's, for a call of this name."""
    head, hole, tail = picture.partition("{{index")
    if not hole:
        return ident == picture.replace("{{name}}", name)
    if "{{name}}" not in picture:
        return re.fullmatch(r"[A-Za-z0-9]{9}", ident) is not None
    rest = tail.partition("}}")[2]
    return re.fullmatch(re.escape(head.replace("{{name}}", name)) + r"\d+" + re.escape(rest), ident) is not None


# Private-use characters: no model writes them, so no text is a call.
_NO_CALL = "\ue0f0{{name}}\ue0f1{{arguments}}\ue0f2"


def without_calls(parser: AnyParser) -> AnyParser:
    """A parser that reads thoughts and content as this one does, and leaves what looks like a call in the content.

    For requests that offer no tools or forbid calls. A user's own parsing function is asked all the same.
    """
    if not isinstance(parser, Parser):
        return parser
    whole = parser.format
    plain = Format(
        whole.name,
        call=_NO_CALL,
        reasoning=whole.reasoning,
        content=whole.content,
        between_messages=whole.between_messages,
        ends=whole.ends,
        prefill=whole.prefill,
    )
    options = parser.options.given()
    return Parser(plain, tokenizer=parser.tokenizer, prefill=parser.prefill, style=parser.style, **options)
