"""Rollouts from agents: programs that own their loop and know of the model only where to ask it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolparse.serving.engine import EngineError

from ..bridge import Bridge, BridgeRefused
from ..environment import Lease
from ..executor import Toolbox, ToolExecutor, ToolRequest, ToolResult
from ..generation import Backend, Sampled
from ..loop import instance_of
from ..rollout import Budget, Rollout
from ..tool_text import json_line
from ..transcript import Transcript
from ..trl_adapter import MultiTurnRollout
from .server import Gateway, TrainerEngine
from .session import Row, Session

__all__ = ["AgentRollout", "AgentTask", "CommandResult", "most_sampled"]

logger = logging.getLogger(__name__)

_KEPT_OUTPUT = 1 << 16
_GATHER = (0.02, 0.25, 2.0)  # seconds in which requests become one batch: least, at first, most
_LOOK = 0.5
_POLL = 0.05


@dataclass(frozen=True)
class AgentTask:
    """What an agent is started with: where the model is, and what it is asked to do.

    ``prompt`` is the row's prompt as the data set has it, ``row`` the other fields, ``index`` the rollout's number in
    its batch, ``seconds`` how long it may take.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    prompt: Any
    row: Mapping[str, Any]
    index: int
    seconds: float

    @property
    def environment(self) -> dict[str, str]:
        """Variables in which programs look for a model: `OPENAI_BASE_URL`, `OPENAI_API_KEY`, `OPENAI_MODEL`."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": self.api_key, "OPENAI_MODEL": self.model}


@dataclass(frozen=True)
class CommandResult:
    """How a command ended: its exit status, and the first 64 KiB that it wrote to each of its outputs."""

    status: int
    stdout: str
    stderr: str


Agent = Callable[[AgentTask], Any] | Callable[[AgentTask], Awaitable[Any]] | str | Sequence[str]


def most_sampled(rows: Sequence[Row]) -> Row:
    """The row with the most sampled tokens, the first of several."""
    return max(rows, key=lambda row: row.transcript.sampled_length)


class AgentRollout(MultiTurnRollout):
    """A rollout function whose turns are asked for by agents, through a gateway.

    ::

        GRPOTrainer(model="...", rollout_func=AgentRollout(run=my_agent), ...)
        ToolGRPOTrainer(model="...", rollout=AgentRollout(run="./agent.sh"), ...)

    Args:
        run: The agent: a function of an ``AgentTask`` (sync or async), or a command: a text for the shell, or a list of
            arguments. A command has `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_MODEL` in its environment, and
            finds `{"prompt": ..., "row": ...}` as JSON on its standard input. What a function returns, or the
            ``CommandResult``, is the rollout's ``outcome``.
        gateway: Where agents find the model; one of its own if None.
        seconds: How long an agent may take.
        max_concurrency: Agents that run at the same time.
        choose: Which of a session's rows is trained on; TRL takes one for each prompt.
        environment: The environment of commands, instead of the trainer's own.
        rows, parser, budget, backend, mask_truncated, trace, prefix: As for ``MultiTurnRollout``. ``Budget.turns``
            counts for a whole session, limits of tokens for each of its rows.
    """

    def __init__(
        self,
        run: Agent,
        *,
        gateway: Gateway | None = None,
        seconds: float = 600.0,
        max_concurrency: int = 64,
        choose: Callable[[Sequence[Row]], Row] = most_sampled,
        environment: Mapping[str, str] | None = None,
        rows: Iterable[Mapping[str, Any]] | None = None,
        parser: Any = None,
        budget: Budget | None = None,
        backend: Backend | None = None,
        mask_truncated: bool | None = None,
        trace: str | Path | None = None,
        prefix: str = "",
    ) -> None:
        words = isinstance(run, list | tuple) and bool(run) and all(isinstance(word, str) for word in run)
        if not (callable(run) or isinstance(run, str) or words):
            raise TypeError(f"run must be a function or a command, got {run!r}")
        super().__init__(
            (),
            rows=rows,
            parser=parser,
            budget=budget,
            executor=ToolExecutor(timeout=seconds, max_concurrency=max_concurrency, max_lost=4 * max_concurrency),
            backend=backend,
            mask_truncated=mask_truncated,
            trace=trace,
            prefix=prefix,
        )
        self.agent = run
        self.gateway = instance_of(gateway, Gateway, "gateway") or Gateway()
        self.seconds = seconds
        self.choose = choose
        self.environment = environment
        self._told_rows = False

    # -- what a rollout function does ------------------------------------------------------------------------

    def bind(self, tokenizer: Any, **options: Any) -> Bridge:
        """Serve this tokenizer from now on; raises ``UnknownFormat`` if it has no chat template that can be read."""
        before = self._bridge
        bridge = super().bind(tokenizer, **options)
        if bridge is not before:
            self.gateway.bind(bridge, self.parser)
        return bridge

    def run(
        self,
        prompts: Sequence[Any],
        backend: Backend,
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        budget: Budget | None = None,
        waiting: Callable[[bool], bool] = lambda active: active,
    ) -> list[Rollout]:
        """Start an agent for every prompt, answer what they ask, and return a row of each.

        Raises RuntimeError if not one agent got an answer the first time: that is a mistake in the code, not bad luck.
        """
        data = rows if rows is not None else [{"prompt": prompt} for prompt in prompts]
        sessions = [
            self.gateway.open(at, prompt, row, budget or self.budget)
            for at, (prompt, row) in enumerate(zip(prompts, data, strict=True))
        ]
        try:
            agents = self._started(sessions)
            self._answer_all(agents, sessions, backend, waiting)
            results = agents.result()
        finally:
            self.gateway.end(sessions)
        done = [self._finished(session, result) for session, result in zip(sessions, results, strict=True)]
        failed = [not session.rows for session in sessions]
        self._check_started(done, failed, waiting, "agent got an answer from the model")
        return list(done)

    def fields(self, rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
        """As for every rollout, and what the agents returned, and their sessions with all rows."""
        rows = [row for row in rollouts if isinstance(row, Row)]
        own = {"outcomes": [row.outcome for row in rows], "sessions": [row.session for row in rows]}
        return {**super().fields(rollouts), **own}

    def figures(self, rollouts: Sequence[Rollout]) -> dict[str, tuple[float, float]]:
        """``rows``: of a session; ``left_out_tokens``: sampled in rows that aren't trained on, of a session."""
        rows = [row for row in rollouts if isinstance(row, Row)]
        left = sum(other.transcript.sampled_length for row in rows for other in row.session.rows if other is not row)
        if left and not self._told_rows:
            self._told_rows = True
            more = next(row for row in rows if len(row.session.rows) > 1)
            reasons = "; ".join(other.why for other in more.session.rows[1:4])
            logger.warning("agents have several rows, and one of each is trained on: %s", reasons)
        count = float(len(rows))
        return {"rows": (float(sum(len(row.session.rows) for row in rows)), count), "left_out_tokens": (left, count)}

    def close(self) -> None:
        """Stop the gateway and the executor's threads."""
        super().close()
        self.gateway.close()

    # -- agents ------------------------------------------------------------------------------------------------

    def _started(self, sessions: Sequence[Session]) -> Future[list[ToolResult]]:
        """All agents, at the same time, in threads of their own."""
        requests = []
        for session in sessions:
            task = AgentTask(
                self.gateway.url,
                session.key,
                self.gateway.name,
                session.prompt,
                session.data,
                session.index,
                self.seconds,
            )
            waits = not callable(self.agent) or inspect.iscoroutinefunction(self.agent)
            function = self._awaited if waits else self._called
            arguments = {"session": session, "task": task}
            requests.append(ToolRequest.own("agent", function, arguments, None, self.seconds))
        done: Future[list[ToolResult]] = Future()

        def work() -> None:
            try:
                done.set_result(self.executor.run(requests))
            except BaseException as error:  # noqa: BLE001 - the trainer's thread waits for it
                done.set_exception(error)
            self._wake()

        threading.Thread(target=work, name="agents", daemon=True).start()
        return done

    def _wake(self) -> None:
        if isinstance(self.gateway.engine, TrainerEngine):
            self.gateway.engine.wake()

    def _called(self, session: Session, task: AgentTask) -> Any:
        assert callable(self.agent)
        session.deadline = time.monotonic() + self.seconds
        try:
            value = self.agent(task)
        except BaseException:
            self._over(session)
            raise
        if inspect.isawaitable(value):
            return self._settled(session, value)
        self._over(session)
        return value

    async def _awaited(self, session: Session, task: AgentTask) -> Any:
        session.deadline = time.monotonic() + self.seconds
        work = self.agent(task) if callable(self.agent) else self._command(self.agent, task)
        return await self._settled(session, work)

    async def _settled(self, session: Session, work: Awaitable[Any]) -> Any:
        try:
            return await work
        finally:
            self._over(session)

    def _over(self, session: Session) -> None:
        session.close()
        self._wake()

    async def _command(self, command: str | Sequence[str], task: AgentTask) -> CommandResult:
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        around = os.environ if self.environment is None else self.environment
        row = {name: value for name, value in task.row.items() if name != "prompt"}
        given = (json_line({"prompt": task.prompt, "row": row}) + "\n").encode("utf-8")
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**around, **task.environment},
            start_new_session=True,
        )
        out, err = bytearray(), bytearray()
        pumps = [
            threading.Thread(target=work, args=(process, *rest), daemon=True)
            for work, *rest in ((_feed, given), (_keep_head, "stdout", out), (_keep_head, "stderr", err))
        ]
        for pump in pumps:
            pump.start()
        try:
            while process.poll() is None:
                await asyncio.sleep(_POLL)
        finally:
            # The whole group: what it started has no business once it has ended, and none once it is stopped.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for _ in range(20):  # what left the group may hold the pipes for ever
            if not any(pump.is_alive() for pump in pumps):
                break
            await asyncio.sleep(_POLL)
        texts = [bytes(kept).decode("utf-8", errors="replace") for kept in (out, err)]
        return CommandResult(process.returncode, *texts)

    # -- the engine --------------------------------------------------------------------------------------------

    def _answer_all(
        self,
        agents: Future[list[ToolResult]],
        sessions: Sequence[Session],
        backend: Backend,
        waiting: Callable[[bool], bool],
    ) -> None:
        """Sample what the agents ask for, a batch at a time, until they are done."""
        engine = self.gateway.engine
        least, patience, most = _GATHER
        while waiting(not agents.done()):
            if not isinstance(engine, TrainerEngine):
                with contextlib.suppress(TimeoutError):
                    agents.exception(_LOOK)
                continue
            alive = sum(not session.closed for session in sessions)
            taken = engine.take(max(alive, 1), patience, 0.0 if agents.done() else _LOOK)
            if not waiting(bool(taken)):
                continue
            answers: Sequence[Sampled | EngineError]
            started = time.monotonic()
            try:
                answers = self._generated(taken, backend)
            except Exception as error:
                # The agents are told and may ask again; if it goes on like this, their rollouts fail.
                logger.exception("the engine failed")
                answers = [EngineError(f"the engine failed: {type(error).__name__}: {error}")] * len(taken)
            # Waiting for stragglers pays as long as it is short beside a batch.
            patience = min(max((time.monotonic() - started) / 4, least), most)
            for request, answer in zip(taken, answers, strict=True):
                request.settle(answer)

    @staticmethod
    def _generated(taken: Sequence[Any], backend: Backend) -> list[Sampled]:
        stops = dict.fromkeys(id for request in taken for id in request.sampling.stop_ids)
        sampled = backend.generate(
            [request.prompt for request in taken],
            [request.sampling.max_tokens for request in taken],
            tuple(stops),
            [request.sampling.place for request in taken],
        )
        if len(sampled) != len(taken):
            raise RuntimeError(f"it returned {len(sampled)} continuations for {len(taken)} prompts")
        return sampled

    # -- ends ----------------------------------------------------------------------------------------------------

    def _finished(self, session: Session, result: ToolResult) -> Row:
        row = self.choose(session.rows) if session.rows else self._without_turn(session)
        if not isinstance(row, Row):
            raise TypeError(f"choose must return one of the session's rows, got {row!r}")
        row.outcome = result.value
        reason, detail = self._end(session, row, result)
        row.finish(reason, detail or row.detail)
        if row.failed or (row.truncated and reason == "agent_error"):
            logger.warning("rollout %d ended with %s: %s", session.index, reason, row.detail)
        return row

    def _end(self, session: Session, row: Row, result: ToolResult) -> tuple[str, str | None]:
        value = result.value
        failed = isinstance(value, CommandResult) and value.status != 0
        said = result.text
        if failed:
            tail = value.stderr.strip().splitlines()[-1:]
            said = f"the command ended with status {value.status}: {''.join(tail)}"
        unwell = failed or not result.ok
        if unwell and session.denied is not None:
            said = f"{said}; the gateway had said: {session.denied}"
        if unwell and session.failure is not None:
            return "engine_error", f"{session.failure}; {said}"
        if not row.said:
            return "no_turn", said if unwell else "it ended without asking"
        if session.refused is not None:
            return session.refused.reason, str(session.refused)
        if result.code == "timeout":
            return "agent_timeout", said
        if unwell:
            return "agent_error", said
        last = row.said[-1]
        return ("length" if last.cut else "done" if last.calls else "answered"), None

    def _without_turn(self, session: Session) -> Row:
        """A rollout must have a completion token: an eos that is never trained on."""
        end = next(iter(self.bridge.eos_ids), 0)
        messages = session.prompt if isinstance(session.prompt, list) else []
        ids: list[int] = []
        with contextlib.suppress(BridgeRefused):
            ids = self.bridge.prompt_ids(messages) if messages else []
        row = Row(
            session.index,
            list(messages),
            session.data,
            Lease(None, Toolbox()),
            Transcript(ids or [end]),
            messages=[{"role": "assistant", "content": ""}],
            session=session,
            why="nothing was sampled",
        )
        row.transcript.add_turn([end], None)
        return row


def _keep_head(process: subprocess.Popen[bytes], name: str, kept: bytearray) -> None:
    """Keep the first bytes of an output; the others are read and dropped."""
    with getattr(process, name) as stream:
        while piece := stream.read1(1 << 16):
            kept += piece[: _KEPT_OUTPUT - len(kept)]


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin as stream:
        stream.write(data)
