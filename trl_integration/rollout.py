"""The multi-turn loop: sample, parse, run the tools, bridge, sample again, for a whole batch.

``MultiTurnRollout`` is what ``GRPOTrainer(rollout_func=...)`` takes. Per turn it makes one call of the
engine for all unfinished rollouts and one call of the executor for all their tool calls.

What a turn can end in is settled in this order, and the order is the point:

1. cut off by a budget: nothing of it is executed, the rollout is truncated;
2. no call: the rollout is finished, unless the environment replies;
3. the turn limit: nothing is executed, the rollout is truncated;
4. no bridge, or no room for the smallest possible one and one more token: nothing is executed;
5. the calls: valid ones run, the others are answered with what is wrong with them;
6. the answers, cut to the room that is left; if even that fails they are taken back and the rollout is
truncated.

Injected tokens are held back until the model has answered them (``Transcript.add_turn``), so a rollout that
ends for any of these reasons ends on a sampled token.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolparse.message import Issue, ParsedMessage, ToolCall

from .bridge import Bridge, BridgeCall, BridgeRefused, ForeignStop
from .environment import EnvironmentFactory, EnvironmentPool, Lease, apply_observation
from .executor import Toolbox, ToolExecutor, ToolRequest, ToolResult, ToolSpec, error_text
from .generation import Backend, Sampled, backend_for, most
from .metrics import log_metrics, write_traces
from .transcript import Author, Segment, Transcript, TranscriptBatch

__all__ = ["STOP_REASONS", "Budget", "CallRecord", "MultiTurnRollout", "Rollout"]

logger = logging.getLogger(__name__)

STOP_REASONS = {
    "answered": "the model ended its turn without a call",
    "done": "the environment said that it is done",
    "length": "a turn was cut off by the token budget",
    "max_turns": "the turn limit was reached with calls unanswered",
    "overlong": "no room for the tools' answers",
    "foreign_eos": "a turn with calls ended on a token that the template doesn't write there",
    "unbridgeable": "the template can't carry this turn's calls",
    "empty": "the engine returned no token",
    "prompt_too_long": "the prompt leaves no room for a completion",
    "environment_error": "the environment's reply failed",
}
"""Why a rollout ended."""

TRUNCATED = frozenset({"length", "max_turns", "overlong", "unbridgeable", "empty", "prompt_too_long"})
"""The reasons that leave a rollout unfinished: what came of it says little about the policy."""

_CUT_NOTE = "\n[cut: no room for the rest]"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one rollout. None means no limit of that kind.

    ``turns``: times the model is sampled. ``completion_tokens``: sampled and injected tokens after the
    prompt. ``model_tokens``: prompt and completion. ``turn_tokens``: sampled tokens per turn.
    ``tool_seconds``: wall time in tools. ``result_tokens``: tokens of one tool result. ``calls_per_turn``:
    calls executed in one turn. ``answer_tokens``: least room that must be left for the model after the
    tools' answers.
    """

    turns: int | None = 16
    completion_tokens: int | None = None
    model_tokens: int | None = None
    turn_tokens: int | None = None
    tool_seconds: float | None = None
    result_tokens: int | None = None
    calls_per_turn: int = 32
    answer_tokens: int = 1

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"Budget.{name} must be positive or None, got {value!r}")


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call of a rollout and what came of it.

    ``result`` is None when the call was not executed: it was invalid (then ``text`` says what is wrong), or
    the rollout ended before it. ``text`` is what the model was shown, None if nothing was. ``turn`` counts
    from 0.
    """

    turn: int
    call: ToolCall
    result: ToolResult | None = None
    text: str | None = None

    @property
    def executed(self) -> bool:
        """Whether the tool was really called."""
        return self.result is not None and self.result.code not in ("unknown-tool", "invalid-arguments")


@dataclass(eq=False)
class Rollout:
    """One rollout, finished or not."""

    index: int
    prompt: list[dict[str, Any]]
    row: Mapping[str, Any]
    lease: Lease
    transcript: Transcript
    messages: list[dict[str, Any]] = field(default_factory=list)
    turns: list[ParsedMessage] = field(default_factory=list)
    calls: list[CallRecord] = field(default_factory=list)
    stop_reason: str | None = None
    detail: str | None = None
    tool_seconds: float = 0.0
    keep: bool = True
    released: bool = False
    pending: list[Segment] = field(default_factory=list)

    @property
    def environment(self) -> Any:
        """The rollout's environment, or None."""
        return self.lease.environment

    @property
    def truncated(self) -> bool:
        """Whether the rollout ended before the model was done."""
        return self.stop_reason in TRUNCATED

    @property
    def issues(self) -> list[Issue]:
        """Everything that was noticed about the model's turns."""
        return [issue for turn in self.turns for issue in turn.issues]

    @property
    def results(self) -> list[ToolResult]:
        """Results of the executed calls, in order."""
        return [record.result for record in self.calls if record.result is not None]

    @property
    def answer(self) -> str:
        """Content of the last turn if the rollout ended with an answer, else empty."""
        if self.stop_reason != "answered" or not self.turns:
            return ""
        return self.turns[-1].content

    @property
    def next_prompt(self) -> list[int]:
        """The ids that the engine is fed next."""
        return self.transcript.ids + [token for segment in self.pending for token in segment.ids]

    def finish(self, reason: str, detail: str | None = None) -> None:
        """End the rollout. What was injected and not yet answered is dropped."""
        self.stop_reason = reason
        if detail is not None:
            self.detail = detail
        self.pending = []


@dataclass(slots=True)
class _Turn:
    """The calls of one rollout's turn on their way through the executor."""

    rollout: Rollout
    sampled: Sampled
    parsed: ParsedMessage
    calls: list[ToolCall]
    bridge_calls: list[BridgeCall]
    note: str | None = None
    requests: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    results: list[ToolResult | None] = field(default_factory=list)


class MultiTurnRollout:
    """A rollout function for ``GRPOTrainer(rollout_func=...)``. Don't give the trainer ``tools`` as well.

    Args:
        tools: Functions that every rollout may call.
        environments: A factory of environments (or a mapping of them), see ``environment.py``.
        rows: The data set, so that environments get the rows of their prompts. ``ToolGRPOTrainer`` hands
        over the rows
            itself. TRL gives a rollout function prompts only, so they are looked up by prompt: prompts must
            be unique.
        parser: A ``toolparse.Parser``; made from the trainer's tokenizer when left out.
        budget: Limits; token limits left None are the trainer's (``max_completion_length``, the model's
        length). executor: A ``ToolExecutor`` (time limits, concurrency).
        timeouts: Seconds per tool name.
        backend: Where tokens come from; the trainer's own settings decide when left out.
        cut_results: Whether results that don't fit are cut; if not, the rollout ends as overlong.
        mask_truncated: Leave truncated rollouts out of the loss. None: as the trainer's
            ``mask_truncated_completions`` says.
        trace: A file to which every rollout is appended as a line of JSON.
        prefix: Put before the names of the fields handed to reward functions, should they clash with columns.
    """

    FIELDS = (
        "rollouts",
        "messages",
        "tool_calls",
        "tool_results",
        "tool_issues",
        "environments",
        "stop_reasons",
        "truncated",
        "sampled_masks",
    )

    def __init__(
        self,
        tools: Iterable[Any] = (),
        *,
        environments: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None = None,
        rows: Iterable[Mapping[str, Any]] | None = None,
        parser: Any = None,
        budget: Budget | None = None,
        executor: ToolExecutor | None = None,
        timeouts: Mapping[str, float] | None = None,
        backend: Backend | None = None,
        cut_results: bool = True,
        mask_truncated: bool | None = None,
        trace: str | Path | None = None,
        prefix: str = "",
    ) -> None:
        self.pool = EnvironmentPool(environments, Toolbox(tools, timeouts=timeouts), timeouts=timeouts)
        self.parser = parser
        self.budget = budget or Budget()
        self.executor = executor or ToolExecutor()
        self.backend = backend
        self.cut_results = cut_results
        self.mask_truncated = mask_truncated
        self.trace = Path(trace) if trace is not None else None
        self.prefix = prefix
        self.next_rows: Sequence[Mapping[str, Any]] | None = None
        self.last: list[Rollout] = []
        self._rows = _index_rows(rows) if rows is not None else None
        self._bridge: Bridge | None = None
        self._bridge_key: Any = None
        self._checked = False

    # -- as TRL's rollout function -------------------------------------------------------------------------

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        """One rollout per prompt, in order, in the form that TRL's trainer takes."""
        if getattr(trainer, "tools", None):
            raise ValueError(
                "the trainer has tools of its own, so TRL would run its loop over finished rollouts; "
                "give the tools to MultiTurnRollout only, not to the trainer"
            )
        self.prepare(trainer)
        rows = self._rows_of(prompts)
        self._check_fields(trainer, rows)
        # Rewards of the last batch have been computed by now.
        self.release()
        backend = self.backend or backend_for(trainer)
        rollouts = self.run(
            prompts,
            backend,
            rows=rows,
            budget=_with_trainer(self.budget, trainer),
            waiting=lambda active: bool(most(trainer, int(active))),
        )
        mask_truncated = self.mask_truncated
        if mask_truncated is None:
            mask_truncated = bool(getattr(trainer, "mask_truncated_completions", False))
        for rollout in rollouts:
            rollout.keep = rollout.keep and not (mask_truncated and rollout.truncated)
        self.last = rollouts
        log_metrics(rollouts, trainer)
        if self.trace is not None:
            rank = getattr(getattr(trainer, "accelerator", None), "process_index", 0)
            write_traces(rollouts, self.trace, step=_step(trainer), rank=rank)
        return self.output(rollouts)

    def output(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        """Checked rollouts in the form that TRL takes, with fields for reward functions."""
        batch = TranscriptBatch.of(
            [r.transcript for r in rollouts], pad_token_id=0, keep=[int(r.keep) for r in rollouts]
        )
        logprobs = [t.logprobs for t in batch.transcripts]
        fields: dict[str, list[Any]] = {
            "rollouts": list(rollouts),
            "messages": [r.messages for r in rollouts],
            "tool_calls": [[c.call for c in r.calls] for r in rollouts],
            "tool_results": [r.results for r in rollouts],
            "tool_issues": [r.issues for r in rollouts],
            "environments": [r.environment for r in rollouts],
            "stop_reasons": [r.stop_reason for r in rollouts],
            "truncated": [r.truncated for r in rollouts],
            "sampled_masks": [r.transcript.tool_mask for r in rollouts],
        }
        return {
            "prompt_ids": [t.prompt_ids for t in batch.transcripts],
            "completion_ids": [t.completion_ids for t in batch.transcripts],
            "logprobs": None if any(row is None for row in logprobs) else logprobs,
            "env_mask": batch.env_mask,
            **{self.prefix + name: values for name, values in fields.items()},
        }

    def prepare(self, trainer: Any) -> None:
        """Make the parser and the bridge for the trainer's tokenizer and prove the bridge for the tools at
        hand.
        """
        kwargs = dict(getattr(trainer, "chat_template_kwargs", None) or {})
        self.bind(
            trainer.processing_class,
            chat_template=getattr(trainer, "chat_template", None),
            template_kwargs=kwargs,
            eos_ids=tuple(getattr(trainer, "eos_token_ids", ())),
        )

    def bind(
        self,
        tokenizer: Any,
        *,
        chat_template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        eos_ids: Sequence[int] = (),
    ) -> Bridge:
        """Use this tokenizer from now on; raises ``BridgeRefused`` if its template can't carry the tools."""
        kwargs = dict(template_kwargs or {})
        key = (id(tokenizer), tokenizer.chat_template, chat_template, repr(sorted(kwargs.items())), tuple(eos_ids))
        if self._bridge is not None and self._bridge_key == key:
            return self._bridge
        if self.parser is None:
            import toolparse

            self.parser = toolparse.parser_for(tokenizer)
        self._bridge = Bridge(
            tokenizer,
            parser=self.parser,
            chat_template=chat_template,
            template_kwargs=kwargs,
            eos_ids=eos_ids,
        )
        self._bridge_key = key
        for toolbox in self.pool.probe().values():
            if len(toolbox):
                self._bridge.check(toolbox.schemas)
        return self._bridge

    @property
    def bridge(self) -> Bridge:
        """The bridge of the bound tokenizer."""
        if self._bridge is None:
            raise RuntimeError("no tokenizer is bound yet; call bind(tokenizer), or pass this to a trainer")
        return self._bridge

    def release(self, *, keep_last: bool = False) -> None:
        """Close or take back the environments of the last batch; ``keep_last`` keeps its rollouts to look
        at.
        """
        for rollout in self.last:
            if not rollout.released:
                rollout.released = True
                self.executor.forget(rollout.environment)
                self.pool.give_back(rollout.lease)
        if not keep_last:
            self.last = []

    def close(self) -> None:
        """Release environments and stop the executor's threads."""
        self.release()
        self.executor.close()

    # -- the loop ------------------------------------------------------------------------------------------

    def run(
        self,
        prompts: Sequence[Any],
        backend: Backend,
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        budget: Budget | None = None,
        waiting: Callable[[bool], bool] = lambda active: active,
    ) -> list[Rollout]:
        """Roll out every prompt (a message list, or text) to its end.

        ``waiting`` tells whether any rank still has unfinished rollouts, given whether this one has: engines
        shared between ranks must be called by all of them.
        """
        budget = budget or self.budget
        rollouts = [
            self._start(index, prompt, rows[index] if rows is not None else {"prompt": prompt})
            for index, prompt in enumerate(prompts)
        ]
        start = getattr(backend, "start", None)
        if start is not None:
            start(len(rollouts))
        for rollout in rollouts:
            if self._room(rollout, budget) < 1:
                self._empty(rollout, "prompt_too_long")
        while True:
            active = [r for r in rollouts if r.stop_reason is None]
            if not waiting(bool(active)):
                break
            sampled = self._sample(active, backend, budget)
            turns = [
                turn
                for rollout, piece in zip(active, sampled, strict=True)
                if (turn := self._take(rollout, piece, budget)) is not None
            ]
            self._execute(turns, budget)
            for turn in turns:
                self._answer(turn, budget)
        return rollouts

    def _start(self, index: int, prompt: Any, row: Mapping[str, Any]) -> Rollout:
        lease, observation = self.pool.lend(row)
        if isinstance(prompt, str):
            if observation is not None:
                raise ValueError("reset returned an observation for a prompt that is text; use message lists")
            messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
            ids = list(self.bridge.encoder.tokenizer(prompt)["input_ids"])
        else:
            messages = apply_observation(prompt, observation)
            ids = self.bridge.prompt_ids(messages, lease.toolbox.schemas)
        return Rollout(index, messages, row, lease, Transcript(ids))

    def _room(self, rollout: Rollout, budget: Budget, extra: int = 0) -> int:
        """Tokens that may still be appended after ``extra`` injected ones."""
        done = rollout.transcript.completion_length + extra
        room = [1 << 30]
        if budget.completion_tokens is not None:
            room.append(budget.completion_tokens - done)
        if budget.model_tokens is not None:
            room.append(budget.model_tokens - rollout.transcript.prompt_length - done)
        return min(room)

    def _sample(self, active: Sequence[Rollout], backend: Backend, budget: Budget) -> list[Sampled]:
        stops: dict[int, None] = dict.fromkeys(self.bridge.eos_ids)
        prompts, limits = [], []
        for rollout in active:
            stops.update(dict.fromkeys(self.bridge.stop_ids(rollout.lease.toolbox.schemas)))
            pending = sum(len(segment.ids) for segment in rollout.pending)
            prompts.append(rollout.next_prompt)
            room = self._room(rollout, budget, pending)
            limits.append(room if budget.turn_tokens is None else min(room, budget.turn_tokens))
        select = getattr(backend, "select", None)
        if select is not None:
            select([rollout.index for rollout in active])
        sampled = backend.generate(prompts, limits, tuple(stops))
        if len(sampled) != len(active):
            raise RuntimeError(
                f"the back end returned {len(sampled)} continuations for {len(active)} prompts; "
                "it must return one each, in order"
            )
        return sampled

    def _empty(self, rollout: Rollout, reason: str) -> None:
        """A rollout must have a completion token. Where none could be sampled, an eos that is never trained
        on.
        """
        if rollout.transcript.turns == 0:
            eos = next(iter(self.bridge.eos_ids), 0)
            rollout.transcript.add_turn([eos], None)
            rollout.keep = False
        rollout.finish(reason)

    def _take(self, rollout: Rollout, sampled: Sampled, budget: Budget) -> _Turn | None:
        """Record what was sampled; the turn's calls if the rollout goes on with them."""
        if not sampled.ids:
            self._empty(rollout, "empty")
            return None
        prompt = rollout.next_prompt
        schemas = rollout.lease.toolbox.schemas
        rollout.transcript.add_turn(sampled.ids, sampled.logprobs, before=rollout.pending)
        rollout.pending = []
        # The tail of the prompt tells whether the template opened a thought; older turns don't matter.
        parsed = self.parser.parse(sampled.ids, tools=schemas or None, prompt=prompt[-_PROMPT_TAIL:])
        rollout.turns.append(parsed)
        message = parsed.to_message()
        rollout.messages.append(message)
        turn = len(rollout.turns) - 1
        calls = list(parsed.tool_calls)
        if sampled.finish == "length":
            rollout.calls += [CallRecord(turn, call) for call in calls]
            rollout.finish("length")
            return None
        if not calls:
            self._reply(rollout, sampled, message, budget)
            return None
        if budget.turns is not None and rollout.transcript.turns >= budget.turns:
            rollout.calls += [CallRecord(turn, call) for call in calls]
            rollout.finish("max_turns")
            return None
        return self._plan(rollout, sampled, parsed, calls, budget)

    def _plan(
        self,
        rollout: Rollout,
        sampled: Sampled,
        parsed: ParsedMessage,
        calls: list[ToolCall],
        budget: Budget,
    ) -> _Turn | None:
        """Check that the calls can be answered at all, before any of them runs."""
        named = [BridgeCall(call.name or _NAMELESS, call.id) for call in calls]
        turn = _Turn(rollout, sampled, parsed, calls, named)
        index = len(rollout.turns) - 1
        try:
            try:
                least = self._bridge_segments(turn, ["0"] * len(calls))
            except BridgeRefused as refusal:
                if len(calls) == 1:
                    raise
                # Some templates carry one call per turn. The first is answered, and the answer says so.
                turn.calls, turn.bridge_calls = calls[:1], named[:1]
                turn.note = f"[only the first of {len(calls)} calls was run: send one call at a time]"
                least = self._bridge_segments(turn, ["0"])
                rollout.detail = str(refusal)
        except (BridgeRefused, ForeignStop) as refusal:
            rollout.calls += [CallRecord(index, call) for call in calls]
            rollout.finish("foreign_eos" if isinstance(refusal, ForeignStop) else "unbridgeable", str(refusal))
            return None
        cost = sum(len(segment.ids) for segment in least)
        if self._room(rollout, budget, cost) < budget.answer_tokens:
            rollout.calls += [CallRecord(index, call) for call in calls]
            rollout.finish("overlong", f"the shortest answer takes {cost} tokens")
            return None
        if turn.note is not None:
            rollout.calls += [CallRecord(index, call) for call in calls[1:]]
        return turn

    def _bridge_segments(self, turn: _Turn, texts: Sequence[str]) -> list[Segment]:
        rollout = turn.rollout
        answers = [
            {"role": "tool", "name": call.name, "content": text}
            for call, text in zip(turn.bridge_calls, texts, strict=True)
        ]
        return self.bridge.between(
            turn.bridge_calls,
            answers,
            tools=rollout.lease.toolbox.schemas,
            stop=turn.sampled.ids[-1] if turn.sampled.finish == "stop" else None,
            tail=turn.parsed.text,
            earlier=self._earlier(rollout),
        )

    @staticmethod
    def _earlier(rollout: Rollout) -> int:
        """Rounds of calls before the current turn, those in the prompt included."""
        before = sum(1 for message in rollout.prompt if message.get("tool_calls"))
        return before + sum(1 for turn in rollout.turns[:-1] if turn.tool_calls)

    def _execute(self, turns: Sequence[_Turn], budget: Budget) -> None:
        """Run the valid calls of all rollouts at once; answer the others with what is wrong."""
        requests: list[ToolRequest] = []
        places: list[tuple[_Turn, int]] = []
        for turn in turns:
            left = None
            if budget.tool_seconds is not None:
                left = budget.tool_seconds - turn.rollout.tool_seconds
            turn.answers = [""] * len(turn.calls)
            turn.results = [None] * len(turn.calls)
            running = 0
            for at, call in enumerate(turn.calls):
                if not call.ok:
                    turn.answers[at] = complaint(call)
                elif running >= budget.calls_per_turn:
                    turn.answers[at] = error_text(f"not run: more than {budget.calls_per_turn} calls in one turn")
                else:
                    running += 1
                    requests.append(ToolRequest(call.name, call.arguments, turn.rollout.lease.toolbox, left))
                    places.append((turn, at))
        started = time.monotonic()
        results = self.executor.run(requests)
        longest = time.monotonic() - started
        spent: dict[int, float] = {}
        for (turn, at), result in zip(places, results, strict=True):
            turn.results[at] = result
            turn.answers[at] = result.text
            # Calls run side by side: a rollout is charged for its slowest one.
            spent[id(turn)] = max(spent.get(id(turn), 0.0), min(result.seconds, longest))
        for turn in turns:
            turn.rollout.tool_seconds += spent.get(id(turn), 0.0)
            if turn.note is not None:
                turn.answers[0] = f"{turn.answers[0]}\n{turn.note}"

    def _answer(self, turn: _Turn, budget: Budget) -> None:
        """Bridge to the next turn, with results cut to the room that is left."""
        rollout = turn.rollout
        index = len(rollout.turns) - 1
        texts = [self._limited(text, budget.result_tokens) for text in turn.answers]
        segments, texts = self._fit(turn, texts, budget)
        shown: Sequence[str | None] = texts if segments is not None else [None] * len(turn.calls)
        records = [
            CallRecord(index, call, result, text)
            for call, result, text in zip(turn.calls, turn.results, shown, strict=True)
        ]
        # Records of calls that were left out (one call per turn) come after those that were answered.
        later = [record for record in rollout.calls if record.turn == index]
        rollout.calls = [record for record in rollout.calls if record.turn != index] + records + later
        if segments is None:
            rollout.finish("overlong", "the tools' answers don't fit and were taken back")
            return
        ids = [entry["id"] for entry in rollout.messages[-1].get("tool_calls", [])]
        rollout.messages += [
            {"role": "tool", "tool_call_id": ids[call.index], "name": call.name, "content": text}
            for call, text in zip(turn.calls, texts, strict=True)
        ]
        if getattr(rollout.environment, "done", False) is True:
            rollout.finish("done")
            return
        rollout.pending = segments

    def _limited(self, text: str, tokens: int | None) -> str:
        if tokens is None:
            return text
        cut = self.bridge.encoder.cut(text, tokens)
        return text if cut == text else cut + _CUT_NOTE

    def _fit(self, turn: _Turn, texts: list[str], budget: Budget) -> tuple[list[Segment] | None, list[str]]:
        """Segments within the room that is left and the texts they show; None if that can't be done."""

        def attempt(candidate: list[str]) -> tuple[list[Segment] | None, int]:
            try:
                segments = self._bridge_segments(turn, candidate)
            except BridgeRefused:
                return None, 0
            return segments, sum(len(segment.ids) for segment in segments)

        room = self._room(turn.rollout, budget) - budget.answer_tokens
        segments, cost = attempt(texts)
        if segments is None:
            # What a tool returned makes the template write something that can't be proved; a text that any
            # template writes verbatim tells the model as much.
            plain = [error_text("the result can't be shown in this conversation")] * len(texts)
            segments, cost = attempt(plain)
            texts = plain
        if segments is None or cost <= room:
            return segments, texts
        if not self.cut_results:
            return None, texts
        sizes = [len(self.bridge.encoder.plain_ids(text)) for text in texts]
        note = len(self.bridge.encoder.plain_ids(_CUT_NOTE))
        available = sum(sizes) - (cost - room)
        for _ in range(4):
            shares = _shares(sizes, available, note)
            if shares is None:
                return None, texts
            candidate = [
                text if share >= size else self.bridge.encoder.cut(text, share - note) + _CUT_NOTE
                for text, size, share in zip(texts, sizes, shares, strict=True)
            ]
            segments, cost = attempt(candidate)
            if segments is not None and cost <= room:
                return segments, candidate
            # Seams and escapes can cost a few tokens more than their parts.
            available -= max(cost - room, 1)
        return None, texts

    def _reply(self, rollout: Rollout, sampled: Sampled, message: dict[str, Any], budget: Budget) -> None:
        """A turn without calls: the end, unless the environment has something to say."""
        reply = getattr(rollout.environment, "reply", None)
        if not callable(reply):
            rollout.finish("answered")
            return
        spec = ToolSpec("reply", reply, {}, owner=rollout.environment)
        request = ToolRequest("reply", {"message": message}, Toolbox([spec]))
        result = self.executor.run([request])[0]
        if not result.ok:
            rollout.finish("environment_error", result.text)
            return
        if not result.value:
            rollout.finish("answered")
            return
        said = [result.value] if isinstance(result.value, Mapping) else result.value
        answers = [{"role": "user", "content": m} if isinstance(m, str) else dict(m) for m in said]
        if budget.turns is not None and rollout.transcript.turns >= budget.turns:
            rollout.finish("max_turns")
            return
        try:
            segments = self.bridge.between(
                [],
                answers,
                tools=rollout.lease.toolbox.schemas,
                stop=sampled.ids[-1] if sampled.finish == "stop" else None,
                tail=rollout.turns[-1].text,
                earlier=self._earlier(rollout),
            )
        except ForeignStop as refusal:
            rollout.finish("foreign_eos", str(refusal))
            return
        except BridgeRefused as refusal:
            rollout.finish("unbridgeable", str(refusal))
            return
        cost = sum(len(segment.ids) for segment in segments)
        if self._room(rollout, budget, cost) < budget.answer_tokens:
            rollout.finish("overlong", f"the environment's reply takes {cost} tokens")
            return
        rollout.messages += answers
        rollout.pending = [Segment(_as_injected(s.author), s.ids) for s in segments]

    # -- rows and fields -----------------------------------------------------------------------------------

    def _rows_of(self, prompts: Sequence[Any]) -> list[Mapping[str, Any]]:
        if self.next_rows is not None:
            rows = list(self.next_rows)
            if len(rows) != len(prompts):
                raise RuntimeError(f"{len(prompts)} prompts came with {len(rows)} rows; they must match one to one")
            return rows
        if self._rows is not None:
            found = [self._rows.get(_prompt_key(prompt)) for prompt in prompts]
            if any(row is None for row in found):
                raise KeyError("a prompt isn't in rows=; pass the same data set as to the trainer")
            return [row for row in found if row is not None]
        return [{"prompt": prompt} for prompt in prompts]

    def _check_fields(self, trainer: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._checked:
            return
        columns: set[str] = set(rows[0]) if rows else set()
        for dataset in (getattr(trainer, "train_dataset", None), getattr(trainer, "eval_dataset", None)):
            columns.update(getattr(dataset, "column_names", None) or ())
        clash = sorted(columns.intersection(self.prefix + name for name in self.FIELDS))
        if clash:
            raise ValueError(
                f"the data set has columns that rollouts would overwrite: {', '.join(clash)}; "
                "rename them, or pass MultiTurnRollout(prefix='rollout_')"
            )
        self._checked = True


_PROMPT_TAIL = 256
_NAMELESS = "unknown"


def complaint(call: ToolCall) -> str:
    """What a model is told about a call that can't be run."""
    problems = [issue for issue in call.issues if not issue.is_note]
    said = "; ".join(dict.fromkeys(issue.message for issue in problems)) or "this call couldn't be read"
    codes = list(dict.fromkeys(issue.code for issue in problems))
    return error_text(said, code=codes[0] if codes else "malformed-arguments")


def _as_injected(author: Author) -> Author:
    return author if author in (Author.TOOL, Author.SCAFFOLD) else Author.SCAFFOLD


def _shares(sizes: Sequence[int], available: int, least: int) -> list[int] | None:
    """Split ``available`` tokens: short texts stay whole, long ones share what is left; None if that is too
    little.
    """
    shares = [0] * len(sizes)
    left = available
    for rank, at in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        shares[at] = min(sizes[at], left // (len(sizes) - rank))
        left -= shares[at]
    # A cut text must show something beside the note that it was cut.
    if any(share < size and share <= least for share, size in zip(shares, sizes, strict=True)):
        return None
    return shares


def _prompt_key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, default=str)


def _index_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    out: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows):
        key = _prompt_key(row["prompt"])
        if key in out and _prompt_key(dict(out[key])) != _prompt_key(dict(row)):
            raise ValueError(
                f"row {number} has the prompt of an earlier, different row, so rows can't be found by prompt; "
                "use ToolGRPOTrainer, which hands over the rows itself"
            )
        out[key] = row
    return out


def _with_trainer(budget: Budget, trainer: Any) -> Budget:
    """Token limits that were left open are the trainer's."""
    completion = budget.completion_tokens
    if completion is None:
        completion = getattr(trainer, "max_completion_length", None)
    model = budget.model_tokens
    if model is None:
        model = _model_length(trainer)
    return Budget(
        turns=budget.turns,
        completion_tokens=completion,
        model_tokens=model,
        turn_tokens=budget.turn_tokens,
        tool_seconds=budget.tool_seconds,
        result_tokens=budget.result_tokens,
        calls_per_turn=budget.calls_per_turn,
        answer_tokens=budget.answer_tokens,
    )


def _model_length(trainer: Any) -> int | None:
    if getattr(trainer, "use_vllm", False):
        engine = trainer.vllm_generation
        llm = getattr(engine, "llm", None)
        if llm is not None:
            return int(llm.llm_engine.model_config.max_model_len)
        length = getattr(engine, "max_model_length", None)
        if length is not None:
            return int(length)
    config = getattr(getattr(trainer, "model", None), "config", None)
    if config is None:
        return None
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    length = getattr(text, "max_position_embeddings", None)
    return int(length) if length else None


def _step(trainer: Any) -> int:
    return int(getattr(getattr(trainer, "state", None), "global_step", 0))
