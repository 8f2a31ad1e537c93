"""The endpoint: `/v1/chat/completions`, `/v1/responses`, `/v1/messages`, `/v1/models`, `/health`, `/metrics`.

Every error has the API's own shape, `{"error": {"message", "type", "param", "code"}}`; behind the head of a stream it
is an event of that shape. What a request may use is limited: bytes of body, tokens, time, and how many requests run
and wait; beyond that a client is told to come again (429) before memory is spent on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from toolparse.codecs.json import decode
from toolparse.openai import Broken, ChatRequest, RequestError, read_chat_request
from toolparse.serving import messages_api, responses_api
from toolparse.serving.completion import Answer, Completion, Several, Wanted
from toolparse.serving.engine import DRAWN, Engine, EngineError, Sampling
from toolparse.serving.messages_api import MessageEvents
from toolparse.serving.model import ChatModel, Prompt
from toolparse.serving.responses_api import ResponseEvents

log = logging.getLogger("toolparse.serving")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What requests may use.

    `body`: bytes of a request. `tokens`: most tokens of an answer. `seconds`: from a request's arrival to the end of
    its answer. `write_seconds`: how long a client may leave what was sent to it unread. `running`: requests in the
    engine at once. `waiting`: further requests that wait for one of these places; beyond them clients get 429.
    `keep_alive`: seconds of silence after which a stream sends a comment, so that nothing between closes it.
    """

    body: int = 8_000_000
    tokens: int = 32_768
    seconds: float = 600.0
    write_seconds: float = 30.0
    running: int = 64
    waiting: int = 256
    keep_alive: float = 15.0


@dataclass
class Metrics:
    """Counts since the start."""

    requests: Counter[int] = field(default_factory=Counter)  # by status
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0
    broken_calls: int = 0
    cancelled_requests: int = 0
    failed_streams: int = 0

    def text(self, running: int, waiting: int) -> str:
        """In the text format of Prometheus."""
        lines = ["# TYPE toolparse_requests_total counter"]
        lines += [f'toolparse_requests_total{{status="{code}"}} {n}' for code, n in sorted(self.requests.items())]
        for name, value in vars(self).items():
            if name != "requests":
                lines += [f"# TYPE toolparse_{name}_total counter", f"toolparse_{name}_total {value}"]
        gauges = {"running_requests": running, "waiting_requests": waiting}
        for name, value in gauges.items():
            lines += [f"# TYPE toolparse_{name} gauge", f"toolparse_{name} {value}"]
        return "\n".join(lines) + "\n"


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


_Number = Annotated[float | None, BeforeValidator(_no_bool)]
_Whole = Annotated[int | None, BeforeValidator(_no_bool)]
_Stop = Annotated[str, Field(max_length=1000)]


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class RequestFields(BaseModel):
    """A request's fields beside messages and tools; unknown ones are kept, to be named in the log."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[_Whole, Field(ge=1)] = None
    max_completion_tokens: Annotated[_Whole, Field(ge=1)] = None
    temperature: Annotated[_Number, Field(ge=0, le=2)] = None
    top_p: Annotated[_Number, Field(gt=0, le=1)] = None
    top_k: Annotated[_Whole, Field(ge=-1)] = None
    min_p: Annotated[_Number, Field(ge=0, le=1)] = None
    seed: Annotated[_Whole, Field(ge=-(2**63), lt=2**63)] = None
    presence_penalty: Annotated[_Number, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[_Number, Field(ge=-2, le=2)] = None
    repetition_penalty: Annotated[_Number, Field(gt=0)] = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=16)] | None = None
    n: Annotated[_Whole, Field(ge=1)] = None
    logprobs: bool | None = False
    top_logprobs: Annotated[_Whole, Field(ge=0, le=20)] = None
    return_token_ids: bool | None = False
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None


# Fields that would change the answer and that nothing here can honour.
_REFUSED = ("functions", "function_call", "logit_bias", "audio", "modalities", "prediction", "web_search_options")
# Fields of the API that change nothing here.
_HARMLESS = frozenset(
    {"messages", "tools", "tool_choice", "parallel_tool_calls", "user", "metadata", "store", "service_tier"}
    | {"safety_identifier", "prompt_cache_key", "verbosity", "response_format"}
)


class ApiError(Exception):
    """An error as clients see it."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    @property
    def type(self) -> str:
        """What kind of error it is, in a word of the API."""
        known = {401: "authentication_error", 429: "rate_limit_error", 504: "timeout_error"}
        return known.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")


class Endpoint:
    """The application around one model and one engine.

    Args:
        model: What reads and writes for the engine.
        engine: Continues token ids.
        limits: What requests may use.
        api_keys: Keys that clients may have; nobody is asked if there are none.
        broken: What becomes of calls that may not be executed: part of the content, or reported in `broken_calls`.
        live: Whether streams hand out arguments before their call has ended (see `toolparse.openai.ChatDeltas`).
    """

    most_answers = 16  # to one request

    def __init__(
        self,
        model: ChatModel,
        engine: Engine,
        *,
        limits: ServerLimits | None = None,
        api_keys: tuple[str, ...] = (),
        broken: Broken = "content",
        live: bool = False,
    ) -> None:
        self.model = model
        self.engine = engine
        self.limits = limits or ServerLimits()
        self.metrics = Metrics()
        self._keys = tuple(key.encode() for key in api_keys)
        self._broken = broken
        self._live = live
        self._places = asyncio.Semaphore(self.limits.running)
        self._running = 0
        self._waiting = 0
        self._told: set[str] = set()  # unknown fields that the log has named
        self._created = int(time.time())

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/v1/chat/completions", self._guarded(self.chat_completions, _CHAT), methods=["POST"]),
            Route("/v1/responses", self._guarded(self.responses, _RESPONSES), methods=["POST"]),
            Route("/v1/messages", self._guarded(self.messages, _MESSAGES), methods=["POST"]),
            Route("/v1/models", self._guarded(self.models, _CHAT)),
            Route("/health", self.health),
            Route("/metrics", self.show_metrics),
        ]

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            await self.engine.aclose()

        return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error})

    # -- routes ---------------------------------------------------------------------------------------------------

    async def health(self, _: Request) -> Response:
        """200 while the process answers."""
        return _json({"status": "ok"})

    async def show_metrics(self, _: Request) -> Response:
        """Counts, for Prometheus."""
        return PlainTextResponse(self.metrics.text(self._running, self._waiting))

    async def models(self, _: Request) -> Response:
        """The one model."""
        about: dict[str, Any] = {"id": self.model.name, "object": "model", "created": self._created}
        about |= {"owned_by": "toolparse", "max_model_len": self.engine.context}
        return _json({"object": "list", "data": [about]})

    async def chat_completions(self, request: Request) -> Response | EventsResponse:
        """An answer of the Chat Completions API, whole or as a stream."""
        body, size = await self._body(request)
        completion, fields = await self._completion(request, body, size, self._broken, self._live)
        if not fields.stream:
            return await self._answer(request, completion, completion.whole)
        include_usage = bool(fields.stream_options and fields.stream_options.include_usage)
        return await self._stream(request, completion, _chat_events(completion, include_usage), _CHAT)

    async def responses(self, request: Request) -> Response | EventsResponse:
        """An answer of the Responses API, whole or as a stream; broken calls are content."""
        body, size = await self._body(request)
        return await self._other(
            request, responses_api.chat_body(body), size, partial(ResponseEvents, body), _RESPONSES
        )

    async def messages(self, request: Request) -> Response | EventsResponse:
        """An answer of Anthropic's Messages API, whole or as a stream; broken calls are content."""
        body, size = await self._body(request)
        return await self._other(request, messages_api.chat_body(body), size, MessageEvents, _MESSAGES)

    async def _other(
        self, request: Request, body: Any, size: int, events: Callable[[int], _OtherEvents], shape: _Shape
    ) -> Response | EventsResponse:
        """An answer in the events of another API."""
        if body.get("n") is not None:
            raise RequestError("this API gives one answer", param="n")
        completion, fields = await self._completion(request, body, size, "content", False)
        made = events(completion.usage.prompt)
        if not fields.stream:
            return await self._answer(request, completion, partial(_whole_other, completion, made))
        return await self._stream(request, completion, _other_events(completion, made), shape)

    # -- requests -------------------------------------------------------------------------------------------------

    async def _body(self, request: Request) -> tuple[Any, int]:
        """The request's JSON, and how many bytes it has."""
        limit = self.limits.body
        length = request.headers.get("content-length", "0")
        too_long = ApiError(413, f"the request is longer than {limit} bytes")
        if length.isdigit() and int(length) > limit:
            raise too_long
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_long
            parts.append(part)
        try:
            return decode(b"".join(parts).decode("utf-8")), size
        except (ValueError, RecursionError) as error:
            raise ApiError(400, f"the request is no JSON: {str(error)[:200]}") from None

    async def _completion(
        self, request: Request, body: Any, size: int, broken: Broken, live: bool
    ) -> tuple[Answer, RequestFields]:
        asked = read_chat_request(body)
        fields = self._fields(body)
        if fields.model not in (None, "", self.model.name):
            served = f"this endpoint serves {self.model.name!r}, not {fields.model!r}"
            raise ApiError(404, served, param="model", code="model_not_found")
        count = fields.n or 1
        if count > self.most_answers:
            raise ApiError(400, f"at most {self.most_answers} answers are given to one request", param="n")
        variables = dict(fields.chat_template_kwargs or {})
        if fields.reasoning_effort is not None:
            variables.setdefault("reasoning_effort", fields.reasoning_effort)
        stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
        stop = tuple(text for text in stop if text)
        wanted = Wanted(bool(fields.logprobs), bool(fields.return_token_ids), stop, broken, live)
        made = await self.completion_of(request, asked, fields, variables, wanted, size)
        if count == 1:
            return made, fields
        return Several([replace(made, sampling=made.sampling.nth(number)) for number in range(count)]), fields

    async def completion_of(
        self,
        request: Request,
        asked: ChatRequest,
        fields: RequestFields,
        variables: dict[str, Any],
        wanted: Wanted,
        size: int,
    ) -> Completion:
        """The answer to a request that was read. Raises RequestError and ApiError."""
        prompt = await self.prompt_of(asked, variables, size)
        held = await asyncio.to_thread(self.model.constraint, asked, self.engine, prompt) if asked.constrained else None
        sampling = Sampling(
            self.max_tokens_of(fields, len(prompt.ids)),
            **{name: getattr(fields, name) for name in DRAWN},
            stop_ids=self.model.stop_ids,
            logprobs=bool(fields.logprobs),
            top_logprobs=fields.top_logprobs or 0,
            constraint=held,
        )
        return Completion(self.model, self.engine, asked, prompt, sampling, wanted)

    async def prompt_of(self, asked: ChatRequest, variables: Mapping[str, Any], size: int) -> Prompt:
        """The prompt of a request of so many bytes. Raises RequestError."""
        # Long conversations take up to seconds to render, and the others go on meanwhile; for short ones a thread
        # would take longer than the work.
        rendered = partial(self.model.prompt, asked, variables)
        return await asyncio.to_thread(rendered) if size > _LONG_BODY else rendered()

    def _fields(self, body: Mapping[str, Any]) -> RequestFields:
        for name in _REFUSED:
            if body.get(name):
                instead = "; use tools and tool_choice" if name in ("functions", "function_call") else ""
                raise ApiError(400, f"{name!r} is not served here{instead}", param=name)
        try:
            fields = RequestFields.model_validate({name: value for name, value in body.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            raise ApiError(400, first["msg"], param=str(first["loc"][0])) from None
        if fields.top_logprobs and not fields.logprobs:
            raise ApiError(400, "needs logprobs: true", param="top_logprobs")
        if (fields.top_logprobs or 0) > self.engine.most_top:
            raise ApiError(400, f"this engine gives at most {self.engine.most_top}", param="top_logprobs")
        for name in sorted({*(fields.model_extra or {})} - _HARMLESS - self._told):
            if len(self._told) < 100:
                self._told.add(name)
                log.warning("a client sent %r, which this endpoint does not know and leaves aside", name[:80])
        return fields

    def max_tokens_of(self, fields: RequestFields, prompt: int) -> int:
        """Most tokens of the answer to a prompt of so many. Raises ApiError."""
        asked = fields.max_completion_tokens or fields.max_tokens
        limit, context = self.limits.tokens, self.engine.context
        if context is not None:
            if prompt >= context:
                told = f"the prompt has {prompt} tokens, and the model can have {context} with its answer"
                raise ApiError(400, told, param="messages", code="context_length_exceeded")
            if asked is not None and prompt + asked > context:
                told = f"{prompt} tokens of prompt and {asked} of answer are more than the model's {context}"
                raise ApiError(400, told, param="max_tokens", code="context_length_exceeded")
            limit = min(limit, context - prompt)
        if asked is not None and asked > self.limits.tokens:
            raise ApiError(400, f"this endpoint gives at most {self.limits.tokens} tokens", param="max_tokens")
        return asked or limit

    # -- places ---------------------------------------------------------------------------------------------------

    async def _enter(self, deadline: float) -> None:
        if self._places.locked() and self._waiting >= self.limits.waiting:
            raise ApiError(429, "too many requests are waiting; come again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
        except TimeoutError:
            raise ApiError(504, f"no place became free within {self.limits.seconds:g} seconds") from None
        finally:
            self._waiting -= 1
        self._running += 1

    def _leave(self) -> None:
        self._running -= 1
        self._places.release()

    def _count(self, completion: Answer) -> None:
        usage = completion.usage
        self.metrics.prompt_tokens += usage.prompt
        self.metrics.completion_tokens += usage.completion
        self.metrics.calls += usage.calls
        self.metrics.broken_calls += usage.broken

    # -- answers --------------------------------------------------------------------------------------------------

    async def _answer(
        self, request: Request, completion: Answer, work: Callable[[], Awaitable[dict[str, Any]]]
    ) -> Response:
        """A whole answer. Raises ApiError."""
        deadline = self._deadline()
        await self._enter(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                return _json(await _while_connected(request, work()))
        except TimeoutError:
            raise self._too_late() from None
        finally:
            self._count(completion)
            self._leave()

    async def _stream(
        self, request: Request, completion: Answer, events: AsyncGenerator[bytes, None], shape: _Shape
    ) -> EventsResponse:
        """A stream, once the engine has taken the request. Raises ApiError and EngineError."""
        deadline = self._deadline()
        await self._enter(deadline)
        try:
            await _while_connected(request, completion.begin(self.limits.keep_alive))
        except BaseException:
            self._leave()
            raise
        sent = self._events(completion, events, shape)
        return EventsResponse(
            sent, self.limits, deadline, shape.event(self._too_late()), completion.aclose, self._leave
        )

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.limits.seconds

    def _too_late(self) -> ApiError:
        return ApiError(504, f"the answer took longer than {self.limits.seconds:g} seconds")

    async def _events(
        self, completion: Answer, events: AsyncGenerator[bytes, None], shape: _Shape
    ) -> AsyncGenerator[bytes, None]:
        """The events, and what went wrong with them as the last one."""
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except EngineError as error:
            self.metrics.failed_streams += 1
            yield shape.event(ApiError(error.status, str(error)))
        except (asyncio.CancelledError, GeneratorExit):
            self.metrics.cancelled_requests += 1
            raise
        except Exception as error:
            self.metrics.failed_streams += 1
            log.exception("a stream failed")
            yield shape.event(ApiError(500, f"the endpoint failed: {type(error).__name__}"))
        finally:
            self._count(completion)

    # -- around every route ---------------------------------------------------------------------------------------

    def _guarded(
        self, route: Callable[[Request], Awaitable[Any]], shape: _Shape
    ) -> Callable[[Request], Awaitable[Any]]:
        """A route that asks for a key and answers with the API's errors."""

        async def guarded(request: Request) -> Any:
            try:
                self.check_key(request)
                response: Any = await route(request)
            except RequestError as error:
                response = shape.response(ApiError(400, str(error), param=error.param))
            except EngineError as error:
                response = shape.response(ApiError(error.status, str(error)))
            except ApiError as error:
                response = shape.response(error)
            except ClientDisconnect:
                self.metrics.cancelled_requests += 1
                response = Response(status_code=499)
            except Exception as error:
                log.exception("a request failed")
                response = shape.response(ApiError(500, f"the endpoint failed: {type(error).__name__}"))
            self.metrics.requests[response.status_code] += 1
            return response

        return guarded

    def check_key(self, request: Request) -> None:
        """Refuse who has no key. Raises ApiError."""
        if not self._keys:
            return
        header = request.headers.get("authorization") or request.headers.get("x-api-key", "")
        given = header.removeprefix("Bearer ").encode()
        if not any(hmac.compare_digest(given, key) for key in self._keys):
            raise ApiError(401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key")


_LONG_BODY = 32_768


async def _chat_events(completion: Answer, include_usage: bool) -> AsyncGenerator[bytes, None]:
    head: dict[str, Any] = {}
    async with aclosing(completion.chunks()) as chunks:
        async for chunk in chunks:
            head = head or {**chunk, "choices": []}
            yield _event({**chunk, "usage": None} if include_usage else chunk)
    if include_usage:
        head.pop("prompt_token_ids", None)
        yield _event({**head, "usage": completion.usage.data()})
    yield b"data: [DONE]\n\n"


_OtherEvents = MessageEvents | ResponseEvents


async def _other_events(completion: Answer, made: _OtherEvents) -> AsyncGenerator[bytes, None]:
    async with aclosing(completion.chunks()) as chunks:
        async for chunk in chunks:
            for event in made.feed(chunk, completion.usage.completion):
                yield _event(event, event["type"])


async def _whole_other(completion: Answer, made: _OtherEvents) -> dict[str, Any]:
    await completion.begin(0.0)
    async with aclosing(completion.chunks()) as chunks:
        async for chunk in chunks:
            made.feed(chunk, completion.usage.completion)
    return made.message


class _Shape:
    """How an API says what went wrong."""

    def data(self, error: ApiError) -> dict[str, Any]:
        """The JSON of an error."""
        return {"error": {"message": str(error), "type": error.type, "param": error.param, "code": error.code}}

    def event(self, error: ApiError) -> bytes:
        """An error behind the head of a stream."""
        return _event(self.data(error))

    def response(self, error: ApiError) -> Response:
        """An error instead of an answer."""
        response = _json(self.data(error), error.status)
        if error.status in (429, 503):
            response.headers["retry-after"] = "1"
        if error.status == 413:
            response.headers["connection"] = "close"  # the rest of the body is not read
        return response


class _MessagesShape(_Shape):
    def data(self, error: ApiError) -> dict[str, Any]:
        place = f"{error.param}: " if error.param else ""
        kind = "api_error" if error.status >= 500 else error.type
        return {"type": "error", "error": {"type": kind, "message": f"{place}{error}"}}

    def event(self, error: ApiError) -> bytes:
        return _event(self.data(error), "error")


class _ResponsesShape(_Shape):
    def event(self, error: ApiError) -> bytes:
        told = {"type": "error", "code": error.code or error.type, "message": str(error)}
        return _event({**told, "param": error.param, "sequence_number": 0}, "error")


_CHAT, _RESPONSES, _MESSAGES = _Shape(), _ResponsesShape(), _MessagesShape()


async def _http_error(_: Request, error: Any) -> Response:
    return _CHAT.response(ApiError(error.status_code, error.detail))


def _json(value: Any, status: int = 200) -> Response:
    return Response(_bytes(value), status, media_type="application/json")


def _bytes(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):  # lone surrogates, which only an escape can carry; great numbers
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def _event(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + _bytes(value) + b"\n\n"


async def _gone(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _while_connected(request: Request, work: Any) -> Any:
    """The result of some work; it is cancelled when the client goes. Raises ClientDisconnect then."""
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await _cancelled(task, watcher)


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


class EventsResponse:
    """A response of server-sent events, for as long as the client reads them.

    One task sends the events as they come; this one looks after it: whether the client is still there, whether it
    reads, whether the time is up, and whether silence must be filled. `done` is called at the end.
    """

    status_code = 200

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        limits: ServerLimits,
        deadline: float,
        too_late: bytes,
        close: Callable[[], Awaitable[None]],
        done: Callable[[], None],
    ) -> None:
        self._events = events
        self._limits = limits
        self._deadline = deadline
        self._too_late = too_late
        self._close = close
        self.done = done
        self._now = asyncio.get_running_loop().time
        self._sending: float | None = None  # since when
        self._sent = self._now()  # when the last thing was

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(send))
        watcher = asyncio.ensure_future(_gone(receive))
        both: set[asyncio.Future[Any]] = {pump, watcher}
        try:
            while True:
                await asyncio.wait(both, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED)
                if pump.done() or watcher.done():
                    break
                now = self._now()
                if self._sending is not None and now - self._sending >= self._limits.write_seconds:
                    log.warning("a client stopped reading; its generation is stopped")
                    break
                if now >= self._deadline:
                    await _cancelled(pump)
                    async with asyncio.timeout(self._limits.write_seconds):
                        await send(_body(self._too_late))
                        await send(_body(b"", more=False))
                    break
                if self._sending is None and now - self._sent >= self._limits.keep_alive:
                    await self._send(send, _body(b": still here\n\n"))
        except (TimeoutError, OSError):
            log.warning("a client could not be told that its time is up")
        finally:
            await _cancelled(pump, watcher)
            await self._events.aclose()
            await self._close()  # events that were never asked for stop nothing themselves
            self.done()

    def _patience(self) -> float:
        """Seconds until something may have to be done."""
        if self._sending is not None:
            due = self._sending + self._limits.write_seconds
        else:
            due = self._sent + self._limits.keep_alive
        return max(min(due, self._deadline) - self._now(), 0.01)

    async def _pump(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await self._send(send, {"type": "http.response.start", "status": self.status_code, "headers": headers})
        async for data in self._events:
            await self._send(send, _body(data))
        await self._send(send, _body(b"", more=False))

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        self._sending = self._now()
        await send(message)
        self._sending, self._sent = None, self._now()


def _body(data: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
