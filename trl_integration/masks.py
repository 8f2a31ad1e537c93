"""Masks for supervised data: which tokens of a rendered conversation the assistant wrote.

No ``{% generation %}`` tags are needed, and nothing is guessed: a turn's span is proved or refused (``MaskError``).

* The conversation is rendered once more with a mark in every text. Taking the marks out must give the conversation
  again; then the places of the marks say whose each text is.
* A turn begins where the generation prompt ends. What the prompt writes behind the last text before the turn is taken
  from a render of the messages that it answers, and must stand in the conversation. A thought that the prompt opens
  is the template's, and may be missing where the template leaves thoughts out.
* A turn ends with the first end-of-turn marker behind its last text, before anyone else's text.

The renders that a turn needs don't grow with the conversation, so the whole is linear in its turns. Because a prompt
could depend on more than that, it is held against the prompt of the whole conversation for the first and the last
turn of each kind.
"""

from __future__ import annotations

import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from .bridge import Bridge, BridgeRefused
from .messages import THOUGHTS, Renderer, thought_pattern

__all__ = ["AssistantMask", "MaskError", "MaskWarning", "TurnSpan", "assistant_mask"]

#: How much of a prompt's end is looked at for what it opened, in characters.
_TAIL = 256


class MaskError(ValueError):
    """A turn's span can't be proved; the message says which turn, and why."""


class MaskWarning(UserWarning):
    """The mask is true, but what it teaches lacks something."""


@dataclass(frozen=True, slots=True)
class TurnSpan:
    """One assistant turn, in tokens (half open).

    ``message`` is its place in the list. ``calls`` are its calls' spans, in order; none are told where no parser
    is known for the tokenizer. ``end_of_turn`` is the span of the end-of-turn marker, None if the template writes
    none after this turn. Where the template ends a turn with the marker that opens the next one (GLM), that marker is
    the end: the model has to write it, since it is what stops it.
    """

    message: int
    start: int
    end: int
    calls: tuple[tuple[int, int], ...]
    end_of_turn: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class AssistantMask:
    """The conversation's ids, and 1 for every token that an assistant wrote, end-of-turn marker included.

    A token that holds characters of two authors is 0, unless it is the end-of-turn marker.
    """

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
        messages: The conversation, in OpenAI's form; it is handed to the template in the form that this one wants.
        tokenizer: A fast tokenizer (or a processor that has one) with a chat template.
        tools: Functions, models or OpenAI-style dicts, as for a prompt.
        parser: A ``toolparse.Parser``, to tell calls' spans; made from the tokenizer when left out.
        template_kwargs: Variables for the template.

    Raises:
        MaskError: The span of a turn can't be proved.

    Warns:
        MaskWarning: The last turn has no end-of-turn marker, so that it teaches no stop.
    """
    from toolparse.tools import Tool

    schemas = [Tool.of(tool).schema for tool in tools or ()]
    if parser is None:
        parser = _parser_of(tokenizer)
    bridge = Bridge(tokenizer, parser=parser, template_kwargs=dict(template_kwargs or {}))
    if bridge.encoder.backend is None:
        raise MaskError(
            "assistant_mask needs a fast tokenizer: a slow one doesn't tell which characters a token covers"
        )
    finder = _Finder(bridge, messages, schemas)
    spans = finder.spans()
    encoding = bridge.encoder.backend.encode(finder.text, add_special_tokens=False)
    begins = [start for start, _ in encoding.offsets]

    def tokens(start: int, end: int) -> tuple[int, int]:
        """The tokens that begin in this stretch (half open)."""
        return bisect_left(begins, start), bisect_left(begins, end)

    mask = [0] * len(encoding.ids)
    turns: list[TurnSpan] = []
    for index, start, end, stop in spans:
        first, last = tokens(start, end)
        mask[first:last] = [1] * (last - first)
        calls: list[tuple[int, int]] = []
        if messages[index].get("tool_calls") and parser is not None:
            before = finder.text[max(0, start - _TAIL) : start]
            parsed = parser.parse(finder.text[start:end], tools=schemas or None, prompt=before)
            calls = [
                tokens(start + call.span.start, start + call.span.end)
                for call in parsed.tool_calls
                if call.span is not None
            ]
        ending = None if stop is None else tokens(stop, end)
        turns.append(TurnSpan(index, first, last, tuple(calls), ending))
    if turns and turns[-1].end_of_turn is None:
        warnings.warn(
            f"message {turns[-1].message}: the template writes no end-of-turn marker behind the last turn, so "
            "the mask teaches no stop there; add what ends a turn to the ids, or a further message",
            MaskWarning,
            stacklevel=2,
        )
    return AssistantMask(list(encoding.ids), mask, tuple(turns))


def _parser_of(tokenizer: Any) -> Any:
    import toolparse

    try:
        return toolparse.parser_for(tokenizer)
    except toolparse.UnknownFormat:
        return None


class _Marker:
    """Puts marks into the texts of messages; they are numbered, and no text of the conversation looks like one."""

    def __init__(self, text: str) -> None:
        self._word = next(word for n in count(1) if (word := f"Q{'a' * n}m") not in text)
        self.pattern = re.compile(rf"{self._word}(\d{{6}})zq")
        self.marks: list[int] = []  # the message of each

    def message(self, message: Mapping[str, Any], index: int, *, ends_only: bool) -> dict[str, Any]:
        """The message with its texts marked: an assistant's at their ends, others' at both."""
        own = message.get("role") == "assistant"

        def text(value: str) -> str:
            core = value.strip()
            if not core:
                return value
            at = value.index(core)
            before = "" if own or ends_only else self._mark(index)
            return value[:at] + before + core + self._mark(index) + value[at + len(core) :]

        marked = dict(message)
        for key in ("content", *(THOUGHTS if own else ())):
            if key in marked:
                marked[key] = _mapped(marked[key], text)
        if marked.get("tool_calls"):
            marked["tool_calls"] = [self._call(call, text) for call in marked["tool_calls"]]
        return marked

    def _mark(self, index: int) -> str:
        self.marks.append(index)
        return f"{self._word}{len(self.marks) - 1:06}zq"

    @staticmethod
    def _call(call: Mapping[str, Any], text: Any) -> dict[str, Any]:
        function = call.get("function", call)
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            # JSON stays as it is spelled: marks go behind the last character of each string that is no key.
            marked: Any = _JSON_VALUE.sub(lambda found: found[1] + text(found[2]) + found[3], arguments)
        else:
            marked = _mapped(arguments, text)
        changed = {**function, "arguments": marked}
        return {**call, "function": changed} if "function" in call else changed

    def strip(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """The text without marks, and (mark, place in it) for each."""
        places: list[tuple[int, int]] = []
        taken = 0
        for found in self.pattern.finditer(text):
            places.append((int(found[1]), found.start() - taken))
            taken += len(found[0])
        return self.pattern.sub("", text), places


_JSON_VALUE = re.compile(r'(")((?:[^"\\]|\\.)*)("(?!\s*:))', re.DOTALL)


def _mapped(value: Any, change: Any) -> Any:
    """The value with every text in it changed; names of keys and kinds of parts stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: item if key == "type" else _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value


class _Finder:
    """Proves the characters of each turn of one rendered conversation."""

    def __init__(self, bridge: Bridge, messages: Sequence[Mapping[str, Any]], schemas: list[dict[str, Any]]) -> None:
        self.bridge = bridge
        self.schemas = schemas
        self.named = {str(schema.get("function", schema).get("name")): schema for schema in schemas}
        self.renderer: Renderer = bridge.renderer
        self.messages = self._refusing(lambda: self.renderer.shown(messages))
        self.text = self._render(self.messages)
        self._mark()
        self.limits = self._limits()
        self._thought = thought_pattern(getattr(bridge.parser, "format", None))
        self._why = ""

    @staticmethod
    def _refusing(render: Any) -> Any:
        try:
            return render()
        except BridgeRefused as refusal:
            raise MaskError(f"the conversation can't be rendered: {refusal}") from None

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        schemas: list[dict[str, Any]] | None = None,
        *,
        prompt: bool = False,
    ) -> str:
        offered = self.schemas if schemas is None else schemas
        return str(self._refusing(lambda: self.renderer.render(messages, offered, generation_prompt=prompt)))

    def _mark(self) -> None:
        """Find the authors of the texts: ``places`` are, per message, where marks in its texts stand."""
        # The last try is for templates that write the time: the clock may have moved on between two renders.
        for attempt, ends_only in enumerate((False, True, False)):
            if attempt:
                self.text = self._render(self.messages)
            self.marker = _Marker(self.text)
            self.marked = [
                self.marker.message(message, index, ends_only=ends_only) for index, message in enumerate(self.messages)
            ]
            try:
                stripped, found = self.marker.strip(self._render(self.marked))
            except MaskError:
                continue
            if stripped == self.text:
                break
        else:
            raise MaskError("the template writes other text around a message because of what the message says")
        self.found = found
        self.places: list[list[int]] = [[] for _ in self.messages]
        for mark, at in found:
            self.places[self.marker.marks[mark]].append(at)

    # -- spans -----------------------------------------------------------------------------------------------------

    def spans(self) -> list[tuple[int, int, int, int | None]]:
        """(message, start, end, start of the end-of-turn marker or None) of every turn, in order."""
        turns = [index for index, message in enumerate(self.messages) if message.get("role") == "assistant"]
        starts = self._starts(turns)
        out: list[tuple[int, int, int, int | None]] = []
        done = 0
        for index in turns:
            start = starts[index]
            end, stop = self._end(index, start, self.limits[index])
            self._holds(index, start, end, done)
            out.append((index, start, end, stop))
            done = end
        return out

    def _limits(self) -> list[int]:
        """Per message, where the first text of a later message stands, at the earliest behind its own texts."""
        out = [len(self.text)] * len(self.messages)
        nearest = len(self.text)
        for index in range(len(self.messages) - 1, -1, -1):
            out[index] = nearest
            nearest = min([nearest, *self.places[index]])
        return out

    def _before(self, index: int) -> tuple[int, int]:
        """Place and mark of the last text before the turn; no mark where there is none."""
        first = min(self.places[index], default=self.limits[index])
        at = bisect_right(self.found, first, key=lambda place: place[1])
        while at > 0:
            at -= 1
            mark, place = self.found[at]
            if self.marker.marks[mark] < index:
                return place, mark
        return 0, -1

    def _holds(self, index: int, start: int, end: int, done: int) -> None:
        """Everything of the message is in its span, and nothing of another one is."""
        if start < done:
            raise MaskError(f"message {index}: its turn begins before the end of the turn before it")
        own = self.places[index]
        message = self.messages[index]
        if any(not start <= at <= end for at in own):
            raise MaskError(f"message {index}: the template writes some of it outside of its turn")
        if not own and _content(message):
            raise MaskError(f"message {index}: the template writes nothing of this assistant message")
        said = self.text[start:end]
        for at, call in enumerate(message.get("tool_calls") or ()):
            name = str(call.get("function", call).get("name"))
            if name not in said:
                raise MaskError(f"message {index}: the template doesn't write call {at + 1} ({name})")
        others = (index - 1, index + 1)
        if any(start < at < end for other in others if 0 <= other < len(self.places) for at in self.places[other]):
            raise MaskError(f"message {index}: another author's text stands inside of its turn")

    # -- where a turn begins ---------------------------------------------------------------------------------------

    def _starts(self, turns: Sequence[int]) -> dict[int, int]:
        """Where each turn begins: by the few messages that it answers, unless the whole prompt says otherwise for the
        first or the last turn of its kind; then by whole prompts.
        """
        kinds: dict[tuple[Any, bool], list[int]] = {}
        for index in turns:
            if not index:
                raise MaskError("message 0: no prompt comes before it that would show where its turn begins")
            kind = (self.messages[index - 1].get("role"), bool(self.messages[index].get("tool_calls")))
            kinds.setdefault(kind, []).append(index)
        out: dict[int, int] = {}
        for alike in kinds.values():
            ends = (alike[0], alike[-1])
            out.update((index, self._start(index)) for index in ends)
            local = all(self._start_nearby(index) == out[index] for index in ends)
            for index in alike[1:-1]:
                found = self._start_nearby(index) if local else None
                out[index] = self._start(index) if found is None else found
        return out

    def _start(self, index: int) -> int:
        found = self._start_behind(index, self.marked[:index], self.schemas)
        if found is None:
            raise MaskError(f"message {index}: {self._why}")
        return found

    def _start_nearby(self, index: int) -> int | None:
        try:
            return self._start_behind(index, *self._nearby(index))
        except MaskError:
            return None

    def _nearby(self, index: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The messages that a turn answers, and the tools that they name."""
        first = index - 1
        while first > 0 and self.messages[first].get("role") == "tool":
            first -= 1
        near = list(self.marked[first:index])
        if near[0].get("role") == "assistant":
            user = next((at for at in range(first - 1, -1, -1) if self.messages[at].get("role") == "user"), None)
            near = ([] if user is None else [self.marked[user]]) + near
        head = self.marked[0]
        if head.get("role") in ("system", "developer") and first > 0:
            near = [head, *near]
        names = {
            str(call.get("function", call).get("name")) for message in near for call in message.get("tool_calls") or ()
        }
        offered = [schema for name, schema in self.named.items() if name in names]
        return near, offered or self.schemas[:1]

    def _start_behind(
        self, index: int, before: Sequence[Mapping[str, Any]], schemas: list[dict[str, Any]]
    ) -> int | None:
        """Where the turn begins if the prompt after these messages is the one it was written to."""
        prompt, places = self.marker.strip(self._render(before, schemas, prompt=True))
        behind, mark = self._before(index)
        at = 0 if mark < 0 else next((place for found, place in reversed(places) if found == mark), -1)
        if at < 0:
            self._why = "the text before it isn't written in its prompt"
            return None
        header = prompt[at:]
        if self.text.startswith(header, behind):
            return behind + len(header)
        for length in self._without_thought(header):
            if self.text.startswith(header[:length], behind):
                return behind + length
        found = self.text[behind : behind + len(header)]
        self._why = f"the generation prompt is {header[-120:]!r}, but the conversation goes on with {found[-120:]!r}"
        return None

    def _without_thought(self, header: str) -> Iterator[int]:
        """Lengths of the header, longest first, behind which it holds nothing but blanks and markers of thoughts."""
        for length in range(len(header) - 1, max(0, len(header) - _TAIL) - 1, -1):
            if self._thought.match(header, length):
                yield length

    # -- where it ends ---------------------------------------------------------------------------------------------

    def _end(self, index: int, start: int, limit: int) -> tuple[int, int | None]:
        """End of the turn, and where its end-of-turn marker begins."""
        message = self.messages[index]
        calls = bool(message.get("tool_calls"))
        last = self._last_text(index, start, limit)
        ends, further = self.bridge.turn_ends(calls=calls, tools=self.schemas)
        if last > limit:
            raise MaskError(f"message {index}: the template writes some of it behind a later message")
        if not calls and not _content(message) and self.bridge.inner_ends():
            raise MaskError(f"message {index}: it has no content, so that the end of its turn can't be told")
        found = [(at, -len(end)) for end in ends if (at := self.text.find(end, last, limit)) >= 0]
        if not found:
            if index == len(self.messages) - 1:
                return max(last, len(self.text.rstrip())), None
            if calls:
                raise MaskError(f"message {index}: the template writes no end-of-turn marker after a turn with calls")
            return last, None
        stop = min(found)[0]
        end = stop - min(found)[1]
        # Some templates write two markers: the end of the message and that of the turn.
        if following := [other for other in further if self.text.startswith(other, end, limit)]:
            end += max(map(len, following))
        return end, stop

    def _last_text(self, index: int, start: int, limit: int) -> int:
        """Behind the last text of the turn: a mark, or the name of a call whose arguments hold no text."""
        last = max([start, *self.places[index]])
        for call in reversed(self.marked[index].get("tool_calls") or ()):
            function = call.get("function", call)
            if self.marker.pattern.search(str(function.get("arguments"))):
                break
            name = str(function.get("name"))
            at = self.text.find(name, last, limit)
            last = max(last, at + len(name))
        return last


def _content(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    if isinstance(content, str):
        return bool(content.strip())
    return any(str(part.get("text", "")).strip() for part in content or () if isinstance(part, Mapping))
