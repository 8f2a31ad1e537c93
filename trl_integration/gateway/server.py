"""The endpoint of the gateway: `toolparse serve` over the trainer's engine, with a session behind every key."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.requests import Request

from toolparse.openai import ChatRequest, RequestError
from toolparse.parser import AnyParser
from toolparse.serving.app import ApiError, Endpoint, EventsResponse, RequestFields, ServerLimits
from toolparse.serving.completion import Completion, Wanted, Whole
from toolparse.serving.engine import Engine, EngineError, Piece, Sampling
from toolparse.serving.model import ChatModel, Prompt

from ..bridge import Bridge, BridgeRefused
from ..generation import Sampled
from ..rollout import Budget
from .session import Plan, Refused, Session

__all__ = ["Gateway", "TrainerEngine"]

log = logging.getLogger("trl_integration.gateway")

_TAIL = 256  # tokens of a prompt that tell whether it opens a thought
_MANY = 1 << 16  # agents are counted by the rollouts, not by the endpoint


# -- the engine --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlacedSampling(Sampling):
    """Sampling that knows which rollout of the batch it is for, and which turn of it."""

    place: tuple[int, int] = (0, 0)


@dataclass(eq=False)
class _Waiting:
    """A request on its way to the trainer."""

    prompt: list[int]
    sampling: Sampling
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Sampled]
    since: float = field(default_factory=time.monotonic)

    def settle(self, value: Sampled | EngineError) -> None:
        def put() -> None:
            if not self.answer.done():
                if isinstance(value, EngineError):
                    self.answer.set_exception(value)
                else:
                    self.answer.set_result(value)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it everybody who could wait
            self.loop.call_soon_threadsafe(put)


class TrainerEngine(Engine):
    """The engine that a trainer has: it is called for a whole batch, in the trainer's own thread.

    Requests wait here until that thread takes them (`take`) and gives the answers back (`settle`).
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._news = threading.Condition()

    async def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        loop = asyncio.get_running_loop()
        request = _Waiting(list(prompt), sampling, loop, loop.create_future())
        with self._news:
            self._waiting.append(request)
            self._news.notify_all()
        try:
            sampled = await request.answer
        finally:
            request.answer.cancel()
        if not sampled.ids:
            raise EngineError("the engine returned no token")
        logprobs = None if sampled.logprobs is None else tuple(sampled.logprobs)
        yield Piece(tuple(sampled.ids), logprobs, "length" if sampled.finish == "length" else "stop")

    def take(self, count: int, patience: float, timeout: float) -> list[_Waiting]:
        """The requests that wait, once there are `count` or the first has waited for `patience` seconds.

        None of them after `timeout` seconds, or when `wake` was called.
        """
        with self._news:
            self._news.wait_for(lambda: bool(self._waiting), timeout)
            if self._waiting and len(self._waiting) < count:
                left = self._waiting[0].since + patience - time.monotonic()
                self._news.wait_for(lambda: len(self._waiting) >= count, max(left, 0.0))
            taken = [request for request in self._waiting if not request.answer.done()]
            self._waiting.clear()
        return taken

    def wake(self) -> None:
        """Let `take` look again."""
        with self._news:
            self._news.notify_all()

    def turn_away(self, reason: str) -> None:
        """Refuse everything that waits."""
        with self._news:
            taken = list(self._waiting)
            self._waiting.clear()
        for request in taken:
            request.settle(EngineError(reason, status=503))


# -- the endpoint ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Planned(Prompt):
    """A prompt and what it goes on from."""

    plan: Plan


@dataclass
class _Recorded(Completion):
    """A completion whose turn the session keeps, before the client has its last chunk."""

    session: Session
    _sampled: list[Piece] = field(init=False, default_factory=list)

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except EngineError as error:
            self.session.failure = str(error)
            raise

    async def begin(self, patience: float) -> None:
        with self._noticing():
            await super().begin(patience)

    async def engine_pieces(self) -> AsyncGenerator[Piece, None]:
        # Where a text or the first call ends the answer, what was sampled is kept up to that very token.
        by_token = bool(self.wanted.stop) or not self.asked.parallel
        async for piece in super().engine_pieces():
            for part in _tokens(piece) if by_token else (piece,):
                self._sampled.append(part)
                yield part

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        whole, last = Whole(), None
        with self._noticing():
            async with contextlib.aclosing(super().chunks()) as chunks:
                async for chunk in chunks:
                    whole.add(chunk)
                    if chunk["choices"][0]["finish_reason"] is None:
                        yield chunk
                    else:
                        last = chunk
        assert last is not None
        self._record(whole.completion()["choices"][0]["message"])
        yield last

    def _record(self, message: dict[str, Any]) -> None:
        assert isinstance(self.prompt, _Planned)
        assert self.message is not None
        parsed = self.message
        ids = [id for piece in self._sampled for id in piece.ids]
        logprobs = None
        if all(piece.logprobs is not None for piece in self._sampled):
            logprobs = [value for piece in self._sampled for value in piece.logprobs or ()]
        if self.ends.met:
            ids = ids[: _first_call_end(parsed) or len(ids)] if not self.asked.parallel else ids
            logprobs = None if logprobs is None else logprobs[: len(ids)]
            parser = self.model.parser if self.asked.reads_calls else self.model.plain
            parsed = parser.parse(ids, tools=self.asked.tool_set(), prompt=self.prompt.text)
        finish = "length" if self._sampled and self._sampled[-1].finish == "length" else "stop"
        sampled = Sampled(ids, logprobs, finish)
        stops = self.sampling.stop_ids
        self.session.record(self.prompt.plan, self.prompt.ids, sampled, parsed, message, stops)


def _tokens(piece: Piece) -> Iterator[Piece]:
    for at, id in enumerate(piece.ids):
        logprobs = None if piece.logprobs is None else piece.logprobs[at : at + 1]
        top = None if piece.top is None else piece.top[at : at + 1]
        yield Piece((id,), logprobs, piece.finish if at == len(piece.ids) - 1 else None, top)
    if not piece.ids:
        yield piece


def _first_call_end(message: Any) -> int | None:
    """Behind which token the first sound call ends."""
    spans = [call.span for call in message.tool_calls if call.ok and call.span is not None]
    return spans[0].token_end if spans else None


class _SessionEndpoint(Endpoint):
    """The endpoint, with prompts that go on from what a session has sampled."""

    most_answers = 1  # a conversation goes on from one

    def __init__(self, model: ChatModel, bridge: Bridge, gateway: Gateway) -> None:
        super().__init__(model, gateway.engine, limits=gateway.limits)
        self.bridge = bridge
        self.gateway = gateway
        self._single: dict[tuple[str, ...], bool] = {}

    def check_key(self, request: Request) -> None:
        self._session(request)

    def _session(self, request: Request) -> Session:
        header = request.headers.get("authorization") or request.headers.get("x-api-key", "")
        session = self.gateway.sessions.get(header.removeprefix("Bearer ").strip())
        if session is None or session.closed:
            raise ApiError(401, "this key belongs to no session, or its session is over", code="invalid_api_key")
        return session

    async def chat_completions(self, request: Request) -> Any:
        return await self._counted(request, super().chat_completions)

    async def responses(self, request: Request) -> Any:
        return await self._counted(request, super().responses)

    async def messages(self, request: Request) -> Any:
        return await self._counted(request, super().messages)

    async def _counted(self, request: Request, route: Any) -> Any:
        session = self._session(request)
        if session.requests >= session.open_requests:
            raise ApiError(429, f"this session has {session.requests} requests under way; wait for an answer")
        session.requests += 1
        try:
            response = await route(request)
        except BaseException as error:
            session.requests -= 1
            if isinstance(error, ApiError | RequestError):
                session.denied = str(error)
            raise
        if not isinstance(response, EventsResponse):
            session.requests -= 1
        else:
            done = response.done

            def ended() -> None:
                session.requests -= 1
                done()

            response.done = ended
        return response

    async def completion_of(
        self,
        request: Request,
        asked: ChatRequest,
        fields: RequestFields,
        variables: dict[str, Any],
        wanted: Wanted,
        size: int,
    ) -> Completion:
        session = self._session(request)
        if asked.choice in ("required", "named"):
            raise ApiError(400, "the trained model is not held to a choice of tools", param="tool_choice")
        if asked.answer is not None:
            raise ApiError(400, "the trained model is not held to a schema", param="response_format")
        # `strict` would change the distribution that is sampled from. Calls are checked all the same.
        asked = dataclasses.replace(asked, strict=frozenset(), parallel=asked.parallel and not self._one_call(asked))
        variables = {**self.bridge.template_kwargs, **variables}
        plan = session.plan(asked, variables, self.bridge)
        if plan.turn is not None and plan.segments is not None:
            ids = plan.turn.ids + [id for segment in plan.segments for id in segment.ids]
            prompt = _Planned(self.model.tokens.decode(ids[-_TAIL:]), ids, plan)
        else:
            rendered = await self.prompt_of(asked, variables, size)
            prompt = _Planned(rendered.text, rendered.ids, plan.rendered(rendered.ids))
        if prompt.plan.row is None:
            log.info("session %d: a new row begins: %s", session.index, plan.why)
        sampling = self._sampling(session, prompt, fields, asked)
        return _Recorded(self.model, self.engine, asked, prompt, sampling, wanted, session)

    def _sampling(self, session: Session, prompt: _Planned, fields: RequestFields, asked: ChatRequest) -> Sampling:
        try:
            room = session.room(prompt.plan, len(prompt.ids))
        except Refused as refusal:
            code = "context_length_exceeded" if refusal.reason == "overlong" else refusal.reason
            raise ApiError(400, str(refusal), code=code) from None
        stops = dict.fromkeys((*self.bridge.eos_ids, *self.model.stop_ids))
        with contextlib.suppress(BridgeRefused):
            stops = dict.fromkeys((*self.bridge.eos_ids, *self.bridge.stop_ids(asked.tools)))
        return PlacedSampling(
            min(room, self.max_tokens_of(fields, len(prompt.ids))),
            **self.gateway.sampling,
            stop_ids=tuple(stops),
            logprobs=True,
            top_logprobs=fields.top_logprobs or 0,
            place=(session.index, session.turns),
        )

    def max_tokens_of(self, fields: RequestFields, prompt: int) -> int:
        """What the client asks for, as far as there is room: agents ask for round numbers."""
        asked = fields.max_completion_tokens or fields.max_tokens
        most = super().max_tokens_of(fields.model_copy(update=dict.fromkeys(_LIMITS)), prompt)
        return most if asked is None else min(asked, most)

    def _one_call(self, asked: ChatRequest) -> bool:
        """Whether the template can't carry two calls in a turn: then an answer ends behind its first."""
        names = tuple(tool["function"]["name"] for tool in asked.tools)
        if names and names not in self._single:
            self._single[names] = not _carries(self.bridge, asked, 2) and _carries(self.bridge, asked, 1)
        return self._single.get(names, False)


_LIMITS = ("max_tokens", "max_completion_tokens")


def _carries(bridge: Bridge, asked: ChatRequest, calls: int) -> bool:
    try:
        bridge.check(asked.tools, calls=calls)
    except BridgeRefused:
        return False
    return True


# -- the server --------------------------------------------------------------------------------------------


class Gateway:
    """A server on this machine that agents talk to; it keeps what was sampled for them, token by token.

    Args:
        name: The model's name, for which agents must ask (or for none).
        host, port: Where it listens; port 0 takes a free one.
        engine: Another engine than the trainer's own (say, `VLLMEngine` in front of a server whose weights are synced).
        sampling: For such an engine: `temperature`, `top_p` and so on. What agents ask for is left aside, since
            log-probs and importance weights hold for one distribution only.
        seconds: The longest that one answer may take.
        open_requests: Requests of one session that may be under way at once.
    """

    def __init__(
        self,
        *,
        name: str = "policy",
        host: str = "127.0.0.1",
        port: int = 0,
        engine: Engine | None = None,
        sampling: Mapping[str, Any] | None = None,
        seconds: float = 600.0,
        open_requests: int = 8,
    ) -> None:
        self.name = name
        self.engine = engine or TrainerEngine()
        self.sampling = dict(sampling or {})
        self.limits = ServerLimits(seconds=seconds, running=_MANY, waiting=_MANY)
        self.open_requests = open_requests
        self.sessions: dict[str, Session] = {}
        self._address = (host, port)
        self._app: Any = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What agents are given as base URL."""
        host, port = self._address
        return f"http://{host}:{port}/v1"

    def bind(self, bridge: Bridge, parser: AnyParser | None = None) -> None:
        """Serve this bridge's tokenizer and template from now on."""
        tokenizer = bridge.renderer.tokenizer
        if bridge.renderer.chat_template is not None:
            tokenizer = copy.copy(tokenizer)
            tokenizer.chat_template = bridge.renderer.chat_template
        model = ChatModel(tokenizer, name=self.name, parser=parser)
        self._app = _SessionEndpoint(model, bridge, self).app()
        if self._server is None:
            self._listen()

    def _listen(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self._app(scope, receive, send)

        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1, backlog=4096)
        listening = socket.create_server(self._address, backlog=4096)
        self._address = listening.getsockname()[:2]
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, args=([listening],), name="gateway", daemon=True)
        self._thread.start()
        while not server.started and self._thread.is_alive():
            time.sleep(0.005)

    def open(
        self, index: int = 0, prompt: Any = (), data: Mapping[str, Any] | None = None, budget: Budget | None = None
    ) -> Session:
        """A new session, with a key of its own."""
        session = Session(index, prompt, data, budget, open_requests=self.open_requests)
        self.sessions[session.key] = session
        return session

    def end(self, sessions: Sequence[Session]) -> None:
        """End sessions: whoever still has their keys is refused."""
        for session in sessions:
            session.close()
            self.sessions.pop(session.key, None)
        if isinstance(self.engine, TrainerEngine):
            self.engine.turn_away("the rollouts of this batch are over")

    def close(self) -> None:
        """Stop listening."""
        self.end(list(self.sessions.values()))
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(5)
            self._server = None
