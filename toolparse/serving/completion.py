"""One completion: the engine's token ids become the API's chunks.

Whole answers are put together from the same chunks, so that streamed and whole ones can't disagree.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from toolparse.events import CallEnded, ContentDelta, Event
from toolparse.message import ParsedMessage
from toolparse.openai import Broken, ChatDeltas, ChatRequest, Finish, ids_for
from toolparse.parser import EventStream, TextOrIds
from toolparse.serving.engine import Engine, EngineError, Piece, Sampling
from toolparse.serving.model import ChatModel, Prompt
from toolparse.tokens import TokenText


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a client wants its answer. `stop`: texts before which the content ends."""

    logprobs: bool = False
    token_ids: bool = False
    stop: tuple[str, ...] = ()
    broken: Broken = "content"
    live: bool = False


@dataclass
class Usage:
    """Tokens so far."""

    prompt: int
    completion: int = 0
    calls: int = 0
    broken: int = 0

    def data(self) -> dict[str, int]:
        total = self.prompt + self.completion
        return {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "total_tokens": total}


@dataclass
class Completion:
    """An answer in the making; `chunks` may be run through once."""

    model: ChatModel
    engine: Engine
    asked: ChatRequest
    prompt: Prompt
    sampling: Sampling
    wanted: Wanted
    usage: Usage = field(init=False)
    message: ParsedMessage | None = field(init=False, default=None)  # what was read, once it has ended
    _spelled: TokenText | None = field(init=False, default=None)
    _pieces: AsyncGenerator[Piece, None] | None = field(init=False, default=None)
    _first: asyncio.Future[Piece | None] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.usage = Usage(len(self.prompt.ids))
        stream = self.model.stream(self.asked, self.prompt)
        held = self.sampling.constraint
        if held is not None and held.syntax != "structural_tag":
            # Such a grammar is text: it may make the model spell markers, which as ids would be no markers.
            self._spelled = TokenText(self.model.tokens, ())
        self.ends = Ending(stream, self.wanted.stop, one_call=not self.asked.parallel)
        self.deltas = ChatDeltas(
            self.ends,
            model=self.model.name,
            broken=self.wanted.broken,
            live=self.wanted.live,
            new_id=ids_for(self.model.style, self.asked.messages),
        )

    async def begin(self, patience: float) -> None:
        """Ask the engine, and wait a while for its first word: what it refuses is known before an answer begins.

        Raises EngineError.
        """
        self._pieces = self.engine.stream(self.prompt.ids, self.sampling)
        self._first = asyncio.ensure_future(anext(self._pieces, None))
        try:
            await asyncio.wait({self._first}, timeout=patience)
            if self._first.done():
                self._first.result()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop the generation."""
        if self._first is not None:
            self._first.cancel()
            with contextlib.suppress(BaseException):
                await self._first
        if self._pieces is not None:
            await self._pieces.aclose()

    async def engine_pieces(self) -> AsyncGenerator[Piece, None]:
        """What the engine gives. Raises EngineError."""
        if self._pieces is None or self._first is None:
            raise RuntimeError("begin() comes first")
        first = await self._first
        if first is None:
            return
        yield first
        async for piece in self._pieces:
            yield piece

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks, the first with the role and the last with the `finish_reason`; `begin` comes before.

        Raises EngineError. Closing the iterator stops the generation.
        """
        try:
            async for chunk in self._chunks():
                yield chunk
        finally:
            await self.aclose()

    async def _chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        (first,) = self.deltas.start()
        if self.wanted.token_ids:
            first["prompt_token_ids"] = self.prompt.ids
        yield first
        finish: Finish | None = None
        async for piece in self.engine_pieces():
            self._check(piece)
            self.usage.completion += len(piece.ids)
            for chunk in self._chunks_of(piece):
                yield chunk
            finish = "stop" if self.ends.met else piece.finish
            if finish is not None:
                break
        if finish is None:
            raise EngineError("the engine ended its answer without saying why")
        if self._spelled is not None:
            for delta in self.deltas.deltas(self.ends.feed(self._spelled.feed((), final=True))):
                yield self.deltas.chunk(delta)
        for chunk in self.deltas.finish(finish):
            yield chunk
        self.message = message = self.ends.close()
        self.usage.calls = self.deltas.whole_calls
        self.usage.broken = sum(not call.ok for call in message.tool_calls)

    def _check(self, piece: Piece) -> None:
        beyond = next((id for id in piece.ids if not 0 <= id < self.model.vocabulary), None)
        if beyond is not None:
            raise EngineError(
                f"the engine gave token {beyond}, but the tokenizer knows {self.model.vocabulary}: "
                "it serves another model than this endpoint"
            )

    def _chunks_of(self, piece: Piece) -> list[dict[str, Any]]:
        ids = [id for id in piece.ids if id not in self.model.unread_ids]
        read: TextOrIds = ids if self._spelled is None else self._spelled.feed(ids)
        made = [self.deltas.chunk(delta) for delta in self.deltas.deltas(self.ends.feed(read))]
        if not piece.ids or not (self.wanted.token_ids or self.wanted.logprobs):
            return made
        made = made or [self.deltas.chunk({})]
        choice = made[0]["choices"][0]
        if self.wanted.token_ids:
            choice["token_ids"] = list(piece.ids)
        if self.wanted.logprobs:
            choice["logprobs"] = {"content": self._logprobs(piece), "refusal": None}
        return made

    def _logprobs(self, piece: Piece) -> list[dict[str, Any]]:
        top = piece.top or ((),) * len(piece.ids)
        return [
            {**self._logprob(id, logprob), "top_logprobs": [self._logprob(*pair) for pair in likeliest]}
            for id, logprob, likeliest in zip(piece.ids, piece.logprobs or (), top, strict=True)
        ]

    def _logprob(self, id: int, logprob: float) -> dict[str, Any]:
        token = self.model.tokenizer.decode([id])
        piece = self.model.tokens.piece(id)  # half a character is bytes and no text
        if isinstance(piece, str):
            exact = self.model.tokens.spelling == "byte-level"
            piece = (piece if exact and piece else token).encode("utf-8", "replace")
        return {"token": token, "logprob": logprob, "bytes": list(piece)}

    async def whole(self) -> dict[str, Any]:
        """The `chat.completion` object. Raises EngineError."""
        answer = Whole()
        await self.begin(0.0)
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                answer.add(chunk)
        made = answer.completion()
        made["usage"] = self.usage.data()
        return made


class Whole:
    """A whole answer, put together from its chunks."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._content: list[str] = []
        self._reasoning: list[str] | None = None
        self._calls: list[dict[str, Any]] = []
        self._arguments: list[list[str]] = []
        self._broken: list[Any] = []
        self._ids: list[int] | None = None
        self._logprobs: list[Any] | None = None
        self._reason: str | None = None

    def add(self, chunk: dict[str, Any]) -> None:
        """Take in the next chunk."""
        if not self._head:
            self._head = {**chunk, "object": "chat.completion"}
            del self._head["choices"]
            if "prompt_token_ids" in chunk:
                self._ids = []
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        self._content.append(delta.get("content") or "")
        if "reasoning_content" in delta:
            self._reasoning = self._reasoning if self._reasoning is not None else []
            self._reasoning.append(delta["reasoning_content"])
        self._broken += delta.get("broken_calls", ())
        for piece in delta.get("tool_calls", ()):
            if "id" in piece:
                self._calls.append({"id": piece["id"], "type": "function", "function": dict(piece["function"])})
                self._arguments.append([])
            self._arguments[piece["index"]].append(piece["function"]["arguments"])
        if self._ids is not None:
            self._ids += choice.get("token_ids", ())
        if choice["logprobs"] is not None:
            self._logprobs = self._logprobs if self._logprobs is not None else []
            self._logprobs += choice["logprobs"]["content"]
        self._reason = choice["finish_reason"]

    def completion(self) -> dict[str, Any]:
        """The `chat.completion` object of what was taken in."""
        for call, pieces in zip(self._calls, self._arguments, strict=True):
            call["function"]["arguments"] = "".join(pieces)
        content = "".join(self._content)
        message: dict[str, Any] = {"role": "assistant", "content": content if content or not self._calls else None}
        if self._reasoning is not None:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls
        if self._broken:
            message["broken_calls"] = self._broken
        logprobs = None if self._logprobs is None else {"content": self._logprobs, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": self._reason}
        if self._ids is not None:
            choice["token_ids"] = self._ids
        return {**self._head, "choices": [choice]}


class Several:
    """Several answers to one request (`n`), drawn side by side."""

    def __init__(self, parts: Sequence[Completion]) -> None:
        self._parts = parts

    @property
    def usage(self) -> Usage:
        """Tokens so far; the prompt counts once."""
        each = [part.usage for part in self._parts]
        sums = (sum(getattr(usage, name) for usage in each) for name in ("completion", "calls", "broken"))
        return Usage(each[0].prompt, *sums)

    async def begin(self, patience: float) -> None:
        """As of one answer: each must begin. Raises EngineError."""
        begun = await asyncio.gather(*(part.begin(patience) for part in self._parts), return_exceptions=True)
        for failed in begun:
            if failed is not None:
                await self.aclose()
                raise failed

    async def aclose(self) -> None:
        """Stop the generation."""
        for part in self._parts:
            await part.aclose()

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks as they come, each with the index of its answer. Raises EngineError."""
        queue: asyncio.Queue[tuple[int, dict[str, Any] | BaseException | None]] = asyncio.Queue(len(self._parts))

        async def pump(index: int, part: Completion) -> None:
            try:
                async with aclosing(part.chunks()) as chunks:
                    async for chunk in chunks:
                        await queue.put((index, chunk))
                await queue.put((index, None))
            except Exception as error:  # noqa: BLE001 - whoever reads the chunks raises it
                await queue.put((index, error))

        pumps = [asyncio.ensure_future(pump(index, part)) for index, part in enumerate(self._parts)]
        head: dict[str, Any] = {}
        left = len(pumps)
        try:
            while left:
                index, chunk = await queue.get()
                if chunk is None:
                    left -= 1
                    continue
                if isinstance(chunk, BaseException):
                    raise chunk
                head = head or {name: chunk[name] for name in ("id", "created")}
                chunk["choices"][0]["index"] = index
                yield {**chunk, **head}
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def whole(self) -> dict[str, Any]:
        """The `chat.completion` object. Raises EngineError."""
        answers = [Whole() for _ in self._parts]
        await self.begin(0.0)
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                answers[chunk["choices"][0]["index"]].add(chunk)
        made = [answer.completion() for answer in answers]
        choices = [{**each["choices"][0], "index": index} for index, each in enumerate(made)]
        return {**made[0], "choices": choices, "usage": self.usage.data()}


Answer = Completion | Several


class Ending(EventStream):
    """A stream that ends early: before the first of some texts in its content, or behind its first sound call.

    `met`: whether it has; what comes after is left out.
    """

    def __init__(self, stream: EventStream, texts: tuple[str, ...] = (), *, one_call: bool = False) -> None:
        self.met = False
        self._one_call = one_call
        self._stream = stream
        self._texts = texts
        self._held = ""
        self._longest = max(map(len, texts), default=0)

    def feed(self, piece: TextOrIds) -> list[Event]:
        """What the piece settles."""
        return self._cut(self._stream.feed(piece))

    def finish(self) -> list[Event]:
        """What the end settles."""
        return [*self._cut(self._stream.finish()), *self._rest()]

    def close(self) -> Any:
        """The message, which knows nothing of the texts."""
        return self._stream.close()

    def _rest(self) -> list[Event]:
        held, self._held = self._held, ""
        return [ContentDelta(held)] if held and not self.met else []

    def _cut(self, events: list[Event]) -> list[Event]:
        if not (self._texts or self._one_call):
            return events
        made: list[Event] = []
        for event in events:
            if self.met:
                break
            if not isinstance(event, ContentDelta):
                made += [*self._rest(), event]
                self.met = self._one_call and isinstance(event, CallEnded) and event.call.ok
                continue
            text = self._held + event.text
            at = min((found for found in map(text.find, self._texts) if found >= 0), default=-1)
            if at >= 0:
                self.met = True
                text, self._held = text[:at], ""
            else:
                keep = self._begun(text)
                text, self._held = text[: len(text) - keep], text[len(text) - keep :]
            if text:
                made.append(ContentDelta(text))
        return made

    def _begun(self, text: str) -> int:
        """How many characters at the end may begin a stop text."""
        for size in range(min(len(text), self._longest - 1), 0, -1):
            tail = text[-size:]
            if any(stop.startswith(tail) for stop in self._texts):
                return size
        return 0
