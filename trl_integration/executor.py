"""Running tools: a whole batch at once, answers in order, every failure a message that the model can read.

Three rules shape this module.

* *A tool can't end the run.* Whatever it does (raises, exits, hangs, returns something odd, holds its event
  loop) ends as a ``ToolResult``. Python can't kill a thread, so a hanging tool's thread is left behind as a
  daemon thread and its answer is dropped; code that must really be stopped belongs into a process
  (``sandbox.isolated``).
* *Order belongs to the calls, not to the clock.* Results come back in the order of the calls, whatever runs
  faster.
* *State belongs to a rollout.* The methods of one environment never run at the same time: they share its
  state, and a model that writes ``move`` and ``look`` in one turn means them in that order. Everything else
  runs concurrently.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import inspect
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import pydantic

from toolparse.tools import Tool

__all__ = ["ToolExecutor", "ToolRequest", "ToolResult", "ToolSpec", "Toolbox", "result_text"]


# -- what a tool returned, as text -------------------------------------------------------------------------


def result_text(value: Any, max_chars: int = 20_000) -> str:
    """Turn what a tool returned into the text of a tool message.

    Text stays text. Everything with a JSON form is written as JSON (None as ``null``), pydantic models and
    data classes included. Bytes are decoded if they are UTF-8; else their size and a short base64 head are
    given. Anything else is its ``str``. Text longer than ``max_chars`` characters is cut, and says so.
    """
    return shorten(_plain_text(value), max_chars)


def _plain_text(value: Any) -> str:
    if isinstance(value, str):
        # Lone surrogates can't be encoded by any tokenizer.
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = ""
        if text and all(c.isprintable() or c in "\n\r\t" for c in text[:4096]):
            return text
        head = base64.b64encode(raw[:48]).decode("ascii")
        return f"<{len(raw)} bytes of binary data; base64 of the first {min(len(raw), 48)}: {head}>" if raw else ""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_jsonable)
    except (TypeError, ValueError, RecursionError, OverflowError):
        text = str(value)
    return text.encode("utf-8", "replace").decode("utf-8")


def _jsonable(value: Any) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _plain_text(value)
    with contextlib.suppress(Exception):
        return pydantic.TypeAdapter(type(value)).dump_python(value, mode="json")
    # numpy scalars and arrays, tensors
    for method in ("tolist", "to_dict"):
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    return str(value)


def shorten(text: str, max_chars: int) -> str:
    """Cut ``text`` to ``max_chars`` characters of its own, with a note of what is missing."""
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}\n[cut: the first {max_chars} of {len(text)} characters]"


def error_text(message: str, **more: Any) -> str:
    """The form of every message about a failure: a JSON object with ``error``."""
    return json.dumps({"error": message, **more}, ensure_ascii=False)


# -- tools -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ToolSpec:
    """One tool: what is called, under which name, with which schema.

    ``owner`` is the environment that a method belongs to; calls with the same owner run one after another.
    ``timeout`` is in seconds, None for the executor's default.
    """

    name: str
    function: Callable[..., Any]
    schema: Mapping[str, Any]
    timeout: float | None = None
    owner: object | None = None

    def problems(self, arguments: Mapping[str, Any]) -> list[str]:
        """What the schema has against the arguments, in words for a model."""
        if not self.schema:
            return []
        return [problem.message for problem in Tool.of(self.schema).validate(dict(arguments))]

    def convert(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments as the signature wants them (a pydantic model for a dict, a date for its text, defaults
        left out).

        Runs after the schema has been checked, so it converts and doesn't judge. Raises
        ``pydantic.ValidationError`` or ``TypeError`` where the signature asks for more than its schema says.
        """
        try:
            hints = get_type_hints(self.function, include_extras=True)
        except (NameError, TypeError, AttributeError):
            # Annotations that can't be resolved here; the schema was checked, so the plain JSON values go in.
            hints = {}
        out: dict[str, Any] = {}
        for name, value in arguments.items():
            hint = hints.get(name, Any)
            out[name] = value if hint is Any else _adapter(hint).validate_python(value)
        inspect.signature(self.function).bind(**out)
        return out


def _adapter(hint: Any) -> pydantic.TypeAdapter[Any]:
    try:
        return _ADAPTERS[hint]
    except (KeyError, TypeError):
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(
            hint, config=None if _has_own_config(hint) else pydantic.ConfigDict(arbitrary_types_allowed=True)
        )
        with contextlib.suppress(TypeError):
            _ADAPTERS[hint] = adapter
        return adapter


_ADAPTERS: dict[Any, pydantic.TypeAdapter[Any]] = {}


def _has_own_config(hint: Any) -> bool:
    return (
        isinstance(hint, type) and (issubclass(hint, pydantic.BaseModel) or dataclasses.is_dataclass(hint))
    ) or hasattr(hint, "__total__")


class Toolbox:
    """The tools of one rollout, by name: shared functions and the methods of its own environment.

    ``tools`` are functions (sync or async), ``Tool`` objects that know their function, or ``ToolSpec``s.
    """

    def __init__(
        self,
        tools: Iterable[Any] = (),
        *,
        timeouts: Mapping[str, float] | None = None,
        owner: object | None = None,
    ) -> None:
        timeouts = timeouts or {}
        self._specs: dict[str, ToolSpec] = {}
        functions: list[Any] = []
        for tool in tools:
            if isinstance(tool, ToolSpec):
                self._add(tool)
            elif callable(tool):
                functions.append(tool)
            else:
                raise TypeError(
                    f"{tool!r} can't be executed; pass functions or methods (a schema has no code behind it)"
                )
        for function in functions:
            schema = Tool.of(function).schema
            name = schema["function"]["name"]
            self._add(ToolSpec(name, function, schema, timeouts.get(name), owner))

    def _add(self, spec: ToolSpec) -> None:
        if spec.name in self._specs:
            raise ValueError(f"two tools are called {spec.name!r}; rename one of them")
        self._specs[spec.name] = spec

    def __or__(self, other: Toolbox) -> Toolbox:
        return Toolbox([*self._specs.values(), *other._specs.values()])

    def only(self, names: Iterable[str]) -> Toolbox:
        """The tools with these names, in this order."""
        missing = [name for name in names if name not in self._specs]
        if missing:
            raise ValueError(f"no tool is called {', '.join(missing)}; there are {', '.join(self._specs) or 'none'}")
        return Toolbox([self._specs[name] for name in names])

    def get(self, name: str | None) -> ToolSpec | None:
        """The tool with this name, or None."""
        return None if name is None else self._specs.get(name)

    @property
    def names(self) -> list[str]:
        """Tool names in order."""
        return list(self._specs)

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """OpenAI-style schemas in order: what a chat template and the parser are given."""
        return [dict(spec.schema) for spec in self._specs.values()]

    def __len__(self) -> int:
        return len(self._specs)


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call to run. ``timeout`` (seconds) caps the tool's own, for a rollout's budget of tool time."""

    name: str
    arguments: Mapping[str, Any]
    toolbox: Toolbox
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of one call.

    ``text`` is the tool message's content. ``code`` is None for a call that ran through, else what went
    wrong: ``unknown-tool``, ``invalid-arguments``, ``exception``, ``timeout``. ``seconds`` is wall time,
    waiting included.
    """

    name: str
    text: str
    ok: bool
    code: str | None = None
    seconds: float = 0.0
    value: Any = field(default=None, repr=False)


# -- the executor ------------------------------------------------------------------------------------------


class _Loop:
    """An event loop on a daemon thread."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(self.loop)
            self.loop.call_soon(ready.set)
            self.loop.run_forever()
            self.loop.close()

        self.thread = threading.Thread(target=run, name=name, daemon=True)
        self.thread.start()
        ready.wait()

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def responds(self, within: float) -> bool:
        with contextlib.suppress(FutureTimeout):
            self.submit(asyncio.sleep(0)).result(within)
            return True
        return False

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)


class ToolExecutor:
    """Runs batches of tool calls.

    Args:
        timeout: Seconds a call may take when its tool sets nothing else.
        max_concurrency: Calls that run at the same time. A call that was given up no longer counts.
        max_result_chars: Longest result, in characters; longer ones are cut with a note.
    """

    def __init__(self, *, timeout: float = 30.0, max_concurrency: int = 64, max_result_chars: int = 20_000) -> None:
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
        if max_concurrency < 1 or max_result_chars < 1:
            raise ValueError("max_concurrency and max_result_chars must be at least 1")
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.max_result_chars = max_result_chars
        self._scheduler: _Loop | None = None
        self._tool_loop: _Loop | None = None
        self._lock = threading.Lock()
        # One lock per environment, held until a call has really ended, also when its answer was given up
        # long ago.
        self._lanes: dict[int, tuple[object, asyncio.Lock]] = {}

    # -- public --------------------------------------------------------------------------------------------

    def run(self, requests: Sequence[ToolRequest]) -> list[ToolResult]:
        """Run all calls and return their results in the same order. Never raises for what a tool does."""
        if not requests:
            return []
        with self._lock:
            if self._scheduler is None:
                self._scheduler = _Loop("tool-scheduler")
            scheduler = self._scheduler
        results: list[ToolResult] = scheduler.submit(self._run_all(requests)).result()
        return results

    def close(self) -> None:
        """Stop the helper threads. Running tools are not waited for."""
        with self._lock:
            for loop in (self._scheduler, self._tool_loop):
                if loop is not None:
                    loop.stop()
            self._scheduler = self._tool_loop = None
            self._lanes.clear()

    def forget(self, owner: object) -> None:
        """Drop what is kept about an environment that is no longer used."""
        self._lanes.pop(id(owner), None)

    def __enter__(self) -> ToolExecutor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- scheduling (all on the scheduler's loop) ----------------------------------------------------------

    async def _run_all(self, requests: Sequence[ToolRequest]) -> list[ToolResult]:
        gate = asyncio.Semaphore(self.max_concurrency)
        # Tasks start in the order of the calls, and asyncio.Lock is fair: calls of one environment keep
        # their order.
        return list(await asyncio.gather(*(self._run_one(request, gate) for request in requests)))

    async def _run_one(self, request: ToolRequest, gate: asyncio.Semaphore) -> ToolResult:
        spec = request.toolbox.get(request.name)
        if spec is None:
            known = ", ".join(request.toolbox.names) or "none"
            text = error_text(f"unknown tool {request.name!r}; the tools are: {known}")
            return ToolResult(request.name, text, ok=False, code="unknown-tool")
        problems = spec.problems(request.arguments)
        if problems:
            text = error_text(shorten("; ".join(problems), 2000))
            return ToolResult(request.name, text, ok=False, code="invalid-arguments")
        own = self.timeout if spec.timeout is None else spec.timeout
        allowed = own if request.timeout is None else min(own, request.timeout)
        if allowed <= 0:
            text = error_text("not run: the time for tools in this conversation is used up")
            return ToolResult(request.name, text, ok=False, code="timeout")
        lane = self._lane(spec.owner)
        started = time.monotonic()
        if lane is not None:
            try:
                await asyncio.wait_for(lane.acquire(), allowed)
            except TimeoutError:
                text = error_text(f"not run: an earlier call was still running after {allowed:g} s")
                return ToolResult(request.name, text, ok=False, code="timeout", seconds=allowed)
        left = max(allowed - (time.monotonic() - started), 0.001)
        # Waiting for the gate doesn't count: it is our limit, not the tool's slowness.
        async with gate:
            future = self._start(spec, dict(request.arguments))
            if lane is not None:
                loop = asyncio.get_running_loop()
                future.add_done_callback(lambda _: _release(loop, lane))
            waiting = asyncio.wrap_future(future)
            done, _ = await asyncio.wait({waiting}, timeout=left)
            seconds = time.monotonic() - started
            if done:
                result = waiting.result()
                return dataclasses.replace(result, seconds=seconds)
            self._give_up(spec, future)
        text = error_text(f"{request.name} timed out after {allowed:g} s")
        return ToolResult(request.name, text, ok=False, code="timeout", seconds=seconds)

    def _lane(self, owner: object | None) -> asyncio.Lock | None:
        if owner is None:
            return None
        # The owner is kept beside its lock, so its id can't be given to another object meanwhile.
        return self._lanes.setdefault(id(owner), (owner, asyncio.Lock()))[1]

    # -- running -------------------------------------------------------------------------------------------

    def _start(self, spec: ToolSpec, arguments: dict[str, Any]) -> Future[ToolResult]:
        if _is_async(spec.function):
            return self._loop_for_tools().submit(self._guard_async(spec, arguments))
        future: Future[ToolResult] = Future()

        def body() -> None:
            result = self._guard_sync(spec, arguments)
            if isinstance(result, ToolResult):
                future.set_result(result)
                return
            # A plain function that returned a coroutine: it is run where async tools run, and this future
            # follows.
            inner = self._loop_for_tools().submit(self._guard_awaitable(spec, result))
            inner.add_done_callback(lambda f: future.set_result(f.result()))

        # A daemon thread and no pool: a pool's threads are joined when the interpreter ends, so a single
        # hanging tool would keep the process alive for ever.
        threading.Thread(target=body, name=f"tool-{spec.name}", daemon=True).start()
        return future

    def _guard_sync(self, spec: ToolSpec, arguments: dict[str, Any]) -> ToolResult | Awaitable[Any]:
        try:
            converted = spec.convert(arguments)
        except Exception as error:  # noqa: BLE001 - conversion runs users' validators
            return _invalid(spec, error)
        try:
            value = spec.function(**converted)
            if inspect.isawaitable(value):
                return value
            return self._success(spec, value)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt raised by a tool are its own
            return _failure(spec, error)

    async def _guard_async(self, spec: ToolSpec, arguments: dict[str, Any]) -> ToolResult:
        try:
            converted = spec.convert(arguments)
        except Exception as error:  # noqa: BLE001 - conversion runs users' validators
            return _invalid(spec, error)
        try:
            return await self._guard_awaitable(spec, spec.function(**converted))
        except BaseException as error:  # noqa: BLE001 - see _guard_awaitable
            return _failure(spec, error)

    async def _guard_awaitable(self, spec: ToolSpec, value: Awaitable[Any]) -> ToolResult:
        # BaseException: a SystemExit that leaves a task stops the loop for every other tool, and a
        # CancelledError that the tool raised itself would look like our own.
        try:
            return self._success(spec, await value)
        except BaseException as error:  # noqa: BLE001
            return _failure(spec, error)

    def _success(self, spec: ToolSpec, value: Any) -> ToolResult:
        return ToolResult(spec.name, result_text(value, self.max_result_chars), ok=True, value=value)

    def _loop_for_tools(self) -> _Loop:
        with self._lock:
            if self._tool_loop is None:
                self._tool_loop = _Loop("async-tools")
            return self._tool_loop

    def _give_up(self, spec: ToolSpec, future: Future[ToolResult]) -> None:
        if not _is_async(spec.function):
            return  # its daemon thread stays behind
        loop = self._tool_loop
        future.cancel()
        if loop is not None and not loop.responds(within=0.25):
            # An "async" tool that blocks its loop (time.sleep, a busy loop) would stop all async tools from
            # now on.
            with self._lock:
                if self._tool_loop is loop:
                    self._tool_loop = None


def _release(loop: asyncio.AbstractEventLoop, lane: asyncio.Lock) -> None:
    # RuntimeError: the executor was closed meanwhile; nobody waits for the lane any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: lane.release() if lane.locked() else None)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - objects with an async __call__
    )


def _failure(spec: ToolSpec, error: BaseException) -> ToolResult:
    kind = type(error).__name__
    try:
        detail = str(error)
    except Exception:  # noqa: BLE001 - an exception whose __str__ raises
        detail = ""
    message = f"{kind}: {detail}" if detail else kind
    return ToolResult(spec.name, error_text(shorten(message, 2000)), ok=False, code="exception")


def _invalid(spec: ToolSpec, error: Exception) -> ToolResult:
    if isinstance(error, pydantic.ValidationError):
        parts = []
        for item in error.errors(include_url=False, include_context=False):
            where = ".".join(str(step) for step in item["loc"])
            parts.append(f"{where}: {item['msg']}" if where else item["msg"])
        message = "; ".join(parts)
    else:
        message = f"{type(error).__name__}: {error}"
    text = error_text(f"invalid arguments for {spec.name}: {shorten(message, 2000)}")
    return ToolResult(spec.name, text, ok=False, code="invalid-arguments")
