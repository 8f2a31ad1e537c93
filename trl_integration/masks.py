"""Masks for supervised data: which tokens of a rendered conversation the assistant wrote.

No ``{% generation %}`` tags are needed. What a template writes for one message is found by rendering the
conversation again with only that message changed: what differs is its body. The turn begins behind the
generation prompt's header, which stands right before the body, and ends with the first end-of-turn token
after it. That works as well for templates that rewrite earlier turns, because the conversation around the
message is the same in both renders.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .bridge import Bridge, BridgeRefused

__all__ = ["AssistantMask", "MaskError", "TurnSpan", "assistant_mask"]

_MARK = "Qmarkzq"


class MaskError(ValueError):
    """The template doesn't let an assistant's turn be found; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class TurnSpan:
    """One assistant turn, in tokens (half open).

    ``message`` is its place in the list. ``calls`` are its calls' spans, in order. ``end_of_turn`` is the
    span of the end-of-turn token, None if the template writes none after this turn.
    """

    message: int
    start: int
    end: int
    calls: tuple[tuple[int, int], ...]
    end_of_turn: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class AssistantMask:
    """The conversation's ids, and 1 for every token that an assistant wrote, end-of-turn token included."""

    ids: list[int]
    mask: list[int]
    turns: tuple[TurnSpan, ...]


def assistant_mask(
    messages: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    *,
    tools: Sequence[Any] | None = None,
    parser: Any = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> AssistantMask:
    """Find the assistant's tokens in a conversation as the tokenizer's chat template renders it.

    Args:
        messages: The conversation.
        tokenizer: A fast tokenizer (or a processor that has one) with a chat template.
        tools: Functions, models or OpenAI-style dicts, as for a prompt.
        parser: A ``toolparse.Parser``, to tell calls' spans; made from the tokenizer if calls occur and it
        is left out. template_kwargs: Variables for the template.

    Raises ``MaskError`` if a turn can't be told apart from what stands around it.
    """
    from toolparse.tools import Tool

    schemas = [Tool.of(tool).schema for tool in tools or ()]
    if parser is None and any(message.get("tool_calls") for message in messages):
        import toolparse

        parser = toolparse.parser_for(tokenizer)
    bridge = Bridge(tokenizer, parser=parser, template_kwargs=dict(template_kwargs or {}))
    if bridge.encoder.backend is None:
        raise MaskError(
            "assistant_mask needs a fast tokenizer: a slow one doesn't tell which characters a token covers"
        )
    found = _Finder(bridge, [copy.deepcopy(dict(m)) for m in messages], schemas)
    encoding = bridge.encoder.backend.encode(found.text, add_special_tokens=False)
    turns: list[TurnSpan] = []
    mask = [0] * len(encoding.ids)
    for index, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        start, end, stop = found.turn(index)
        first, last = _tokens(encoding.offsets, start, end)
        mask[first:last] = [1] * (last - first)
        calls: list[tuple[int, int]] = []
        if message.get("tool_calls") and parser is not None:
            parsed = parser.parse(found.text[start:end], tools=schemas or None)
            calls = [
                _tokens(encoding.offsets, start + call.span.start, start + call.span.end)
                for call in parsed.tool_calls
                if call.span is not None
            ]
        ending = None if stop is None else _tokens(encoding.offsets, *stop)
        turns.append(TurnSpan(index, first, last, tuple(calls), ending))
    return AssistantMask(list(encoding.ids), mask, tuple(turns))


class _Finder:
    """Finds the characters of each turn in one rendered conversation."""

    def __init__(self, bridge: Bridge, messages: list[dict[str, Any]], schemas: list[dict[str, Any]]) -> None:
        self.bridge = bridge
        self.messages = messages
        self.schemas = schemas
        self.text = self._render(messages)
        self.headers = self._headers()
        self.ends = self._ends()
        self._behind = 0

    def _render(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool = False) -> str:
        try:
            return self.bridge.render_conversation(messages, self.schemas, generation_prompt=prompt)
        except BridgeRefused as refusal:
            raise MaskError(f"the conversation can't be rendered: {refusal}") from None

    def _headers(self) -> list[str]:
        """What may stand before a turn: the generation prompt, whole or without the thought that it opens."""
        question = [{"role": "user", "content": "Qquestionzq"}]
        plain = self._render(question)
        prompted = self._render(question, prompt=True)
        header = prompted[len(plain) :] if prompted.startswith(plain) else prompted.rpartition("Qquestionzq")[2]
        cuts = {len(header)}
        # A header ends with a marker or with the newline after it.
        for marker in self.bridge.encoder.added:
            at = header.find(marker)
            while at >= 0:
                cuts.update((at, at + len(marker)))
                at = header.find(marker, at + 1)
        for at, character in enumerate(header):
            if character == "\n":
                cuts.add(at + 1)
        return [header[:cut] for cut in sorted(cuts, reverse=True) if cut > 0]

    def _ends(self) -> list[str]:
        """Spellings of the tokens that end a turn."""
        return [self.bridge.encoder.spelling(i) for i in self.bridge.stop_ids(self.schemas)]

    def turn(self, index: int) -> tuple[int, int, tuple[int, int] | None]:
        """Start and end of the turn of message ``index``, and the span of its end-of-turn token."""
        body_start, body_end = self._body(index)
        header = self._base_header()
        at = self.text.rfind(header, self._behind, body_start) if header else -1
        if at >= 0:
            start = at + len(header)
        elif not header:
            start = body_start  # Mistral's way: the user's turn ends in a marker, the assistant's has no header
        elif index and self.messages[index - 1].get("role") in ("tool", "assistant"):
            # Gemma goes on in the same turn behind a tool's answer: no header, the body is where the turn
            # starts.
            start = body_start
        else:
            raise MaskError(f"message {index}: the template writes no assistant header before this turn")
        limit = self._next_body(index)
        ends = [(at, len(end)) for end in self.ends if (at := self.text.find(end, body_end, limit)) >= 0]
        if not ends:
            self._behind = body_end
            return start, body_end, None
        at = min(ends)[0]
        stop = at
        # Some templates write two markers: the end of the message and that of the turn.
        while following := [end for end in self.ends if self.text.startswith(end, stop)]:
            stop += max(map(len, following))
        self._behind = stop
        return start, stop, (at, stop)

    def _base_header(self) -> str:
        """What stands before a turn's own text: as much of the generation prompt as a rendered turn begins
        with.

        A thought that the generation prompt opens is the template's, here as in rollouts: the model never
        writes it.
        """
        if not hasattr(self, "_base"):
            probe = [{"role": "user", "content": "Qquestionzq"}, {"role": "assistant", "content": _MARK}]
            text = self._render([*probe, {"role": "user", "content": "Qmorezq"}])
            before = text[: text.find(_MARK)]
            # The longest header that the turn really begins with.
            fitting = [h for h in self.headers if h in before[before.rfind("Qquestionzq") :]]
            self._base = fitting[0] if fitting else (self.headers[-1] if self.headers else "")
        return self._base

    def _body(self, index: int) -> tuple[int, int]:
        """The characters of the message's own text, found by changing it."""
        spans: list[tuple[int, int]] = []
        for changed in _variants(self.messages[index]):
            other = self._render([*self.messages[:index], changed, *self.messages[index + 1 :]])
            if other == self.text:
                continue
            head = 0
            while head < min(len(other), len(self.text)) and other[head] == self.text[head]:
                head += 1
            tail = 0
            while tail < min(len(other), len(self.text)) - head and other[-1 - tail] == self.text[-1 - tail]:
                tail += 1
            spans.append((head, len(self.text) - tail))
        if not spans:
            raise MaskError(f"message {index}: the template writes nothing of this assistant message")
        return min(start for start, _ in spans), max(end for _, end in spans)

    def _next_body(self, index: int) -> int:
        """Where the next assistant's turn can begin at the latest: an end after that isn't this turn's."""
        for later in range(index + 1, len(self.messages)):
            if self.messages[later].get("role") == "assistant":
                return self._body(later)[0]
        return len(self.text)


def _variants(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The message with one thing changed: text at either end of its content and thought, each call's name
    and arguments.
    """
    out: list[dict[str, Any]] = []
    for key in ("content", "reasoning_content", "thinking", "reasoning"):
        value = message.get(key)
        if isinstance(value, str) and value.strip():
            out += [{**message, key: _MARK + value}, {**message, key: value + _MARK}]
    for at, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function", call)
        calls = list(message["tool_calls"])
        for changed in (
            {**function, "name": _MARK + str(function.get("name"))},
            {**function, "arguments": _changed(function.get("arguments"))},
        ):
            calls[at] = {**call, "function": changed} if "function" in call else changed
            out.append({**message, "tool_calls": list(calls)})
    return out


def _changed(arguments: Any) -> Any:
    if isinstance(arguments, Mapping):
        # A further argument at the end: the change reaches to the end of the call's own text.
        return {**arguments, "qmarkzq": _MARK}
    return arguments


def _tokens(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """The tokens that cover the characters (half open)."""
    inside = [at for at, (a, b) in enumerate(offsets) if a < end and b > start]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
