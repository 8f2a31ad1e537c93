"""Running tools: a whole batch at once, answers in order, every failure a message that the model can read.

Three rules shape this module.

* *A tool can't end the run.* Whatever it does (raises, exits, hangs, returns something odd, holds its event
  loop) ends as a ``ToolResult``.
* *Order belongs to the calls, not to the clock.* Results come back in the order of the calls, whatever runs
  faster.
* *State belongs to a rollout.* The methods of one environment never run at the same time: they share its
  state, and a model that writes ``move`` and ``look`` in one turn means them in that order. Everything else
  runs concurrently.

Python can't kill a thread. A call that takes too long is given up: its daemon thread stays behind until it ends by
itself and is counted as lost meanwhile (``ToolExecutor.lost``); a tool with too many lost calls is refused. And a tool
that holds the interpreter's lock in C code (a catastrophic regular expression, a huge power) holds up everything here,
the clock that would give it up included. Code that must really be stopped belongs into a process
(``sandbox.isolated``).

Threads and loops are made by hand because the standard pools (and anyio's) join their threads when the interpreter
ends, so that a single hanging tool would keep the process alive for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import inspect
import logging
import math
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

import pydantic

from toolparse.tools import Tool

from .tool_text import encodable, error_text, result_text, shorten, str_of

__all__ = ["ToolExecutor", "ToolRequest", "ToolResult", "ToolSpec", "Toolbox"]

logger = logging.getLogger(__name__)


# -- tools -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ToolSpec:
    """One tool: what is called, under which name, with which schema.

    Args:
        name: What a model calls it.
        function: The code; sync or async.
        schema: OpenAI-style; an empty one admits everything.
        timeout: Seconds; None for the executor's default.
        owner: The environment that a method belongs to; calls with the same owner run one after another.
        supply: Values of parameters that no model sees (``Annotated[..., Injected]``).
        raw: Called by the program and not by a model: arguments and result stay Python objects.
    """

    name: str
    function: Callable[..., Any]
    schema: Mapping[str, Any]
    timeout: float | None = None
    owner: object | None = None
    supply: Mapping[str, Any] = field(default_factory=dict)
    raw: bool = False

    def problems(self, arguments: Mapping[str, Any]) -> list[str]:
        """What the schema has against the arguments, in words for a model."""
        if not self.schema:
            return []
        return [problem.message for problem in Tool.of(self.schema).validate(dict(arguments))]

    def bound(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments as the signature wants them (a pydantic model for a dict, a date for its text).

        They are copied, so that what a tool does to them doesn't change what the model is known to have written. Runs
        after the schema has been checked, so it converts and doesn't judge. Raises ``pydantic.ValidationError`` or
        ``TypeError`` where the signature asks for more than its schema says.
        """
        if self.raw:
            return (), dict(arguments)
        given = {**copy.deepcopy(dict(arguments)), **self.supply}
        converter = _converter(self.function)
        if converter is None:
            # Annotations that can't be resolved here; the schema was checked, so the plain JSON values go in.
            inspect.signature(self.function).bind(**given)
            return (), given
        args, kwargs = converter(**given)
        return args, kwargs


def _converter(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """A function with the same signature that returns its arguments validated; None where pydantic can't make one."""
    key = getattr(function, "__func__", function)
    try:
        return _CONVERTERS[key]
    except (KeyError, TypeError):
        pass

    def arguments(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs

    made: Callable[..., Any] | None
    try:
        if callable(key) and not inspect.isroutine(key):
            # An object with __call__, or a functools.partial.
            key = getattr(key, "func", None) or type(key).__call__
        functools.update_wrapper(arguments, key)
        arguments.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        made = pydantic.validate_call(config=pydantic.ConfigDict(arbitrary_types_allowed=True))(arguments)
    except (pydantic.errors.PydanticUserError, NameError, TypeError, AttributeError, ValueError):
        made = None
    with contextlib.suppress(TypeError):
        _CONVERTERS[getattr(function, "__func__", function)] = made
    return made


_CONVERTERS: weakref.WeakKeyDictionary[Any, Callable[..., Any] | None] = weakref.WeakKeyDictionary()


class Toolbox:
    """The tools of one rollout, by name: shared functions and the methods of its own environment.

    Args:
        tools: Functions (sync or async), ``Tool`` objects that know their function, or ``ToolSpec``s.
        timeouts: Seconds per tool name.
        owner: The environment that the functions are methods of.
        injected: Values of parameters that the program supplies and no model sees, by parameter name.
    """

    def __init__(
        self,
        tools: Iterable[Any] = (),
        *,
        timeouts: Mapping[str, float] | None = None,
        owner: object | None = None,
        injected: Mapping[str, Any] | None = None,
    ) -> None:
        timeouts = timeouts or {}
        self._specs: dict[str, ToolSpec] = {}
        for tool in tools:
            if isinstance(tool, ToolSpec):
                self._add(dataclasses.replace(tool, timeout=timeouts.get(tool.name, tool.timeout)))
                continue
            if not callable(tool):
                raise TypeError(
                    f"{tool!r} can't be executed; pass functions or methods (a schema has no code behind it)"
                )
            schema = Tool.of(tool).schema
            name = schema["function"]["name"]
            self._add(ToolSpec(name, tool, schema, timeouts.get(name), owner, _supply(tool, schema, injected or {})))

    def _add(self, spec: ToolSpec) -> None:
        if spec.name in self._specs:
            raise ValueError(f"two tools are called {spec.name!r}; rename one of them")
        self._specs[spec.name] = spec

    def __or__(self, other: Toolbox) -> Toolbox:
        return Toolbox([*self._specs.values(), *other._specs.values()])

    def only(self, chosen: Iterable[str | Mapping[str, Any]]) -> Toolbox:
        """The tools with these names, in this order. A schema in place of a name is shown instead of the tool's own."""
        specs = []
        for entry in chosen:
            name = entry if isinstance(entry, str) else entry.get("function", entry).get("name")
            spec = self._specs.get(name)
            if spec is None:
                raise ValueError(f"no tool is called {name}; there are {', '.join(self._specs) or 'none'}")
            if not isinstance(entry, str):
                schema = entry if "function" in entry else {"type": "function", "function": entry}
                spec = dataclasses.replace(spec, schema=schema)
            specs.append(spec)
        return Toolbox(specs)

    def get(self, name: str) -> ToolSpec | None:
        """The tool with this name, or None."""
        return self._specs.get(name)

    @property
    def names(self) -> list[str]:
        """Tool names in order."""
        return list(self._specs)

    @property
    def supplied(self) -> set[str]:
        """Names of the parameters that the program supplies."""
        return {name for spec in self._specs.values() for name in spec.supply}

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """What is called, in order."""
        return [spec.function for spec in self._specs.values()]

    @functools.cached_property
    def schemas(self) -> list[dict[str, Any]]:
        """OpenAI-style schemas in order: what a chat template and the parser are given. Not to be changed."""
        return [dict(spec.schema) for spec in self._specs.values()]

    def __len__(self) -> int:
        return len(self._specs)


def _supply(function: Any, schema: Mapping[str, Any], injected: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the parameters that the schema doesn't show."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    shown = schema["function"].get("parameters", {}).get("properties", {})
    hidden = [p for p in parameters if p.name not in shown and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    missing = [p.name for p in hidden if p.default is p.empty and p.name not in injected]
    if missing:
        raise ValueError(
            f"{schema['function']['name']} has parameters that no model supplies and nobody else does: "
            f"{', '.join(missing)}; pass injected={{{missing[0]!r}: ...}}"
        )
    return {p.name: injected[p.name] for p in hidden if p.name in injected}


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call to run. ``timeout`` (seconds) caps the tool's own, for a rollout's budget of tool time."""

    name: str
    arguments: Mapping[str, Any]
    toolbox: Toolbox
    timeout: float | None = None

    @classmethod
    def own(
        cls,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        owner: object | None,
        timeout: float | None = None,
    ) -> ToolRequest:
        """A call of the program's own, such as an environment's ``reset``: under the same limits, of any objects."""
        return cls(name, arguments, Toolbox([ToolSpec(name, function, {}, timeout, owner, raw=True)]))


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of one call.

    ``text`` is the tool message's content. ``code`` is None for a call that ran through, else what went
    wrong: ``unknown-tool``, ``invalid-arguments``, ``exception``, ``timeout``, ``not-run`` (refused because too many
    earlier calls of the tool never came back, or no thread could be started). ``seconds`` is wall time,
    waiting included.
    """

    name: str
    text: str
    ok: bool
    code: str | None = None
    seconds: float = 0.0
    value: Any = field(default=None, repr=False)


# -- the executor ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Lane:
    """An environment's place in the queue, held until its call has really ended, also when it was given up long ago."""

    owner: object  # kept, so its id can't be given to another object meanwhile
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    gave_up: bool = False


@dataclass(slots=True)
class _Running:
    """A call that was started. ``ended`` is set when it really ended; ``cancel`` asks it to."""

    ended: Future[ToolResult] = field(default_factory=Future)
    cancel: Callable[[], None] = lambda: None


class OwnLoop:
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
        cut: What a result loses that is too long, here or for a rollout's budget: its "right" end, its "left" one, or
            its "middle".
        max_lost: How many calls of one tool may be lost (given up and still running) before the tool is refused. It is
            taken again when they have ended.
    """

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        max_concurrency: int = 64,
        max_result_chars: int = 20_000,
        cut: str = "right",
        max_lost: int = 16,
    ) -> None:
        if cut not in ("right", "left", "middle"):
            raise ValueError(f"cut must be 'right', 'left' or 'middle', got {cut!r}")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}")
        if max_concurrency < 1 or max_result_chars < 1 or max_lost < 1:
            raise ValueError("max_concurrency, max_result_chars and max_lost must be at least 1")
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.max_result_chars = max_result_chars
        self.cut = cut
        self.max_lost = max_lost
        self._scheduler: OwnLoop | None = None
        self._tool_loop: OwnLoop | None = None
        self._lock = threading.Lock()
        self._lanes: dict[int, _Lane] = {}
        self._lost: Counter[str] = Counter()

    # -- public --------------------------------------------------------------------------------------------

    def run(self, requests: Sequence[ToolRequest]) -> list[ToolResult]:
        """Run all calls and return their results in the same order. Never raises for what a tool does."""
        if not requests:
            return []
        with self._lock:
            if self._scheduler is None:
                self._scheduler = OwnLoop("tool-scheduler")
            scheduler = self._scheduler
        results: list[ToolResult] = scheduler.submit(self._run_all(requests)).result()
        return results

    @property
    def lost(self) -> dict[str, int]:
        """Calls that were given up and are still running, by tool."""
        with self._lock:
            return {name: count for name, count in self._lost.items() if count > 0}

    def gave_up(self, owner: object) -> bool:
        """Whether a call of this environment was ever given up, so that it may still be at work on its state."""
        lane = self._lanes.get(id(owner))
        return lane is not None and lane.gave_up

    def forget(self, owner: object) -> None:
        """Drop what is kept about an environment that is no longer used."""
        self._lanes.pop(id(owner), None)

    def close(self) -> None:
        """Stop the helper threads. Running tools are not waited for."""
        with self._lock:
            for loop in (self._scheduler, self._tool_loop):
                if loop is not None:
                    loop.stop()
            self._scheduler = self._tool_loop = None
            self._lanes.clear()

    def __enter__(self) -> ToolExecutor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- scheduling (all on the scheduler's loop) ----------------------------------------------------------

    async def _run_all(self, requests: Sequence[ToolRequest]) -> list[ToolResult]:
        gate = asyncio.Semaphore(self.max_concurrency)
        # Tasks start in the order of the calls, and asyncio.Lock is fair: calls of one environment keep
        # their order.
        return list(await asyncio.gather(*(self._guarded(request, gate) for request in requests)))

    async def _guarded(self, request: ToolRequest, gate: asyncio.Semaphore) -> ToolResult:
        try:
            return await self._run_one(request, gate)
        except BaseException as error:
            logger.exception("a call of %s could not be run", request.name)
            return _failure(request.name, error)

    async def _run_one(self, request: ToolRequest, gate: asyncio.Semaphore) -> ToolResult:
        spec = request.toolbox.get(request.name)
        if spec is None:
            known = ", ".join(request.toolbox.names) or "none"
            return _refused(request.name, "unknown-tool", f"unknown tool {request.name!r}; the tools are: {known}")
        problems = spec.problems(request.arguments)
        if problems:
            return _refused(spec.name, "invalid-arguments", shorten("; ".join(problems), 2000))
        own = self.timeout if spec.timeout is None else spec.timeout
        allowed = own if request.timeout is None else min(own, request.timeout)
        if allowed <= 0:
            return _refused(spec.name, "timeout", "not run: the time for tools in this conversation is used up")
        lane = None if spec.owner is None else self._lanes.setdefault(id(spec.owner), _Lane(spec.owner))
        started = time.monotonic()
        if lane is not None:
            try:
                await asyncio.wait_for(lane.lock.acquire(), allowed)
            except TimeoutError:
                said = f"not run: an earlier call was still running after {allowed:g} s"
                return _refused(spec.name, "timeout", said, seconds=allowed)
        left = max(allowed - (time.monotonic() - started), 0.001)
        # Waiting for the gate doesn't count: it is our limit, not the tool's slowness.
        async with gate:
            if self._lost[spec.name] >= self.max_lost:
                if lane is not None:
                    lane.lock.release()
                said = f"not run: {self._lost[spec.name]} earlier calls of {spec.name} never came back"
                return _refused(spec.name, "not-run", said)
            running = self._start(spec, request.arguments)
            if lane is not None:
                loop = asyncio.get_running_loop()
                running.ended.add_done_callback(lambda _: _release(loop, lane.lock))
            waiting = asyncio.wrap_future(running.ended)
            done, _ = await asyncio.wait({waiting}, timeout=left)
            seconds = time.monotonic() - started
            if done:
                return dataclasses.replace(waiting.result(), seconds=seconds)
            if lane is not None:
                lane.gave_up = True
            self._give_up(spec, running)
        return _refused(spec.name, "timeout", f"{spec.name} timed out after {allowed:g} s", seconds=seconds)

    def _give_up(self, spec: ToolSpec, running: _Running) -> None:
        with self._lock:
            self._lost[spec.name] += 1
            if self._lost[spec.name] == self.max_lost:
                logger.error("%d calls of %s never came back: it is refused from now on", self.max_lost, spec.name)
        running.ended.add_done_callback(lambda _: self._came_back(spec.name))
        running.cancel()
        loop = self._tool_loop
        if _is_async(spec.function) and loop is not None and not loop.responds(within=0.25):
            # An "async" tool that blocks its loop (time.sleep, a busy loop) would stop all async tools from
            # now on.
            with self._lock:
                if self._tool_loop is loop:
                    self._tool_loop = None

    def _came_back(self, name: str) -> None:
        with self._lock:
            self._lost[name] -= 1

    # -- running -------------------------------------------------------------------------------------------

    def _start(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> _Running:
        running = _Running()
        if _is_async(spec.function):
            self._start_async(spec, running, lambda: self._awaited(spec, arguments))
            return running

        def body() -> None:
            outcome = self._called(spec, arguments)
            if isinstance(outcome, ToolResult):
                running.ended.set_result(outcome)
            else:
                # A plain function that returned a coroutine: it is run where async tools run.
                self._start_async(spec, running, lambda: self._settled(spec, outcome))

        try:
            threading.Thread(target=body, name=f"tool-{spec.name}", daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            logger.error("%s was not run: %s (lost calls: %s)", spec.name, error, dict(self._lost))
            running.ended.set_result(_refused(spec.name, "not-run", f"not run: {error}"))
        return running

    def _start_async(
        self, spec: ToolSpec, running: _Running, make: Callable[[], Coroutine[Any, Any, ToolResult]]
    ) -> None:
        with self._lock:
            if self._tool_loop is None:
                self._tool_loop = OwnLoop("async-tools")
            loop = self._tool_loop.loop

        def begin() -> None:
            task = loop.create_task(make())
            running.cancel = lambda: _soon(loop, task.cancel)
            task.add_done_callback(
                lambda t: running.ended.set_result(
                    _failure(spec.name, asyncio.CancelledError()) if t.cancelled() else t.result()
                )
            )

        _soon(loop, begin)

    def _called(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> ToolResult | Awaitable[Any]:
        try:
            args, kwargs = spec.bound(arguments)
        except BaseException as error:  # noqa: BLE001 - conversion runs users' validators
            return _invalid(spec.name, error)
        try:
            value = spec.function(*args, **kwargs)
            return value if inspect.isawaitable(value) else self._success(spec, value)
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt raised by a tool are its own
            return _failure(spec.name, error)

    async def _awaited(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> ToolResult:
        outcome = self._called(spec, arguments)
        return outcome if isinstance(outcome, ToolResult) else await self._settled(spec, outcome)

    async def _settled(self, spec: ToolSpec, value: Awaitable[Any]) -> ToolResult:
        # BaseException: a SystemExit that leaves a task stops the loop for every other tool, and a
        # CancelledError that the tool raised itself would look like our own.
        try:
            return self._success(spec, await value)
        except BaseException as error:  # noqa: BLE001
            return _failure(spec.name, error)

    def _success(self, spec: ToolSpec, value: Any) -> ToolResult:
        text = "" if spec.raw else result_text(value, self.max_result_chars, self.cut)
        return ToolResult(spec.name, text, ok=True, value=value)


def _soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], Any]) -> None:
    # RuntimeError: the executor was closed meanwhile; nobody waits any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)


def _release(loop: asyncio.AbstractEventLoop, lock: asyncio.Lock) -> None:
    _soon(loop, lambda: lock.release() if lock.locked() else None)


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - objects with an async __call__
    )


def _refused(name: str, code: str, message: str, seconds: float = 0.0) -> ToolResult:
    return ToolResult(name, error_text(message), ok=False, code=code, seconds=seconds)


def _failure(name: str, error: BaseException) -> ToolResult:
    kind = type(error).__name__
    detail = str_of(error)
    return _refused(name, "exception", shorten(encodable(f"{kind}: {detail}" if detail else kind), 2000))


def _invalid(name: str, error: BaseException) -> ToolResult:
    if isinstance(error, pydantic.ValidationError):
        parts = []
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            where = ".".join(str(step) for step in item["loc"])
            parts.append(f"{where}: {item['msg']}" if where else item["msg"])
        message = "; ".join(parts)
    else:
        message = f"{type(error).__name__}: {str_of(error)}"
    return _refused(name, "invalid-arguments", f"invalid arguments for {name}: {shorten(message, 2000)}")
