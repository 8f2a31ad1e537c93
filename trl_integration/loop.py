"""The multi-turn loop: sample, parse, run the tools, bridge, sample again, for a whole batch. It knows no trainer.

Per turn it makes one call of the engine for all unfinished rollouts and one call of the executor for all their tool
calls and replies.

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

import copy
import inspect
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import toolparse
from toolparse.message import ParsedMessage, ToolCall, fill_id
from toolparse.tokens import tokenizer_of

from .bridge import Bridge, BridgeCall, BridgeRefused, ForeignStop
from .environment import (
    HOOKS,
    EnvironmentFactory,
    EnvironmentPool,
    Lease,
    apply_observation,
    hook,
    refuse_media,
    reward_of,
    selected,
    text_of_parts,
)
from .executor import Toolbox, ToolExecutor, ToolRequest, ToolResult
from .generation import Backend, Sampled
from .rollout import Budget, CallRecord, Rollout
from .tool_text import error_text
from .transcript import Author, Segment, Transcript

__all__ = ["ToolLoop"]

logger = logging.getLogger(__name__)

Compact = Callable[[list[dict[str, Any]], int], Any]
"""Messages so far and how many tokens they take -> fewer messages, or None to go on. May be async."""

_CUT_NOTES = {
    "right": "\n[cut: no room for the rest]",
    "left": "[cut: no room for what came before]\n",
    "middle": "\n[cut: no room for what stood here]\n",
}
_OWN_CALLS = frozenset({"environment", "reset", "done", "compact", *HOOKS})
_PROMPT_TAIL = 256
_NAMELESS = "unknown"
_NEW_ID = "call{{index:05}}"  # nine letters and digits, which every template takes (Mistral's takes nothing else)


@dataclass(slots=True)
class _Turn:
    """One rollout's turn on its way through the executor: its calls, or the message that may be replied to."""

    rollout: Rollout
    sampled: Sampled
    parsed: ParsedMessage
    calls: list[ToolCall] = field(default_factory=list)
    note: str | None = None
    answers: list[str] = field(default_factory=list)
    results: list[ToolResult | None] = field(default_factory=list)
    said: ToolResult | None = None

    @property
    def bridge_calls(self) -> list[BridgeCall]:
        return [BridgeCall(call.name or _NAMELESS, call.id) for call in self.calls]


class ToolLoop:
    """Rolls out conversations with tools.

    Args:
        tools: Functions that every rollout may call.
        environments: A factory of environments (or a mapping of them), see ``environment.py``.
        parser: A ``toolparse.Parser``; made from the tokenizer when left out.
        budget: Limits.
        executor: A ``ToolExecutor`` (time limits, concurrency).
        timeouts: Seconds per tool name; the names of hooks (``reset``, ``reply``, ``reward``) count too.
        injected: Values of parameters that no model sees (``Annotated[..., Injected]``), by parameter name.
        cut_results: Whether results that don't fit are cut (where, says the executor); if not, the rollout ends as
            overlong.
        malformed: What comes of a turn with a broken call: "answer" runs what could be read or repaired and tells the
            model what is wrong with the rest, "end" takes the turn for the last one and runs nothing, also where a
            repair would have helped, as TRL's own loop does.
        compact: Asked before each further turn with the messages so far and their tokens. Messages that it returns are
            the prompt of a new branch, in which the rollout goes on.
    """

    def __init__(
        self,
        tools: Iterable[Any] = (),
        *,
        environments: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None = None,
        parser: Any = None,
        budget: Budget | None = None,
        executor: ToolExecutor | None = None,
        timeouts: Mapping[str, float] | None = None,
        injected: Mapping[str, Any] | None = None,
        cut_results: bool = True,
        malformed: str = "answer",
        compact: Compact | None = None,
    ) -> None:
        if malformed not in ("answer", "end"):
            raise ValueError(f"malformed must be 'answer' or 'end', got {malformed!r}")
        if compact is not None and not _takes_two(compact):
            raise TypeError(f"compact must be a function of the messages and their tokens, got {compact!r}")
        shared = Toolbox(_checked(tools), timeouts=timeouts, injected=injected)
        self.pool = EnvironmentPool(environments, shared, timeouts=timeouts, injected=injected)
        _check_names(list(self.pool.probe().values()), timeouts or {}, injected or {})
        self.parser = parser
        self.budget = instance_of(budget, Budget, "budget") or Budget()
        self.executor = instance_of(executor, ToolExecutor, "executor") or ToolExecutor()
        self.cut_results = cut_results
        self.malformed = malformed
        self.compact = compact
        self._bridge: Bridge | None = None
        self._bridge_key: Any = None
        self._ever_started = False

    # -- the tokenizer -------------------------------------------------------------------------------------

    def bind(
        self,
        tokenizer: Any,
        *,
        chat_template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        eos_ids: Sequence[int] = (),
    ) -> Bridge:
        """Use this tokenizer (or processor) from now on; raises ``BridgeRefused`` if its template can't carry the
        tools.
        """
        kwargs = dict(template_kwargs or {})
        key = (id(tokenizer), tokenizer.chat_template, chat_template, repr(sorted(kwargs.items())), tuple(eos_ids))
        if self._bridge is not None and self._bridge_key == key:
            return self._bridge
        plain = tokenizer_of(tokenizer)
        if plain.chat_template is None:
            # A processor keeps the template itself.
            plain = copy.copy(plain)
            plain.chat_template = tokenizer.chat_template
        if self.parser is None:
            self.parser = toolparse.parser_for(plain)
        self._bridge = Bridge(
            plain, parser=self.parser, chat_template=chat_template, template_kwargs=kwargs, eos_ids=eos_ids
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

    # -- environments --------------------------------------------------------------------------------------

    def _own(self, name: str, function: Callable[..., Any], arguments: Mapping[str, Any], owner: Any) -> ToolRequest:
        return ToolRequest.own(name, function, arguments, owner, self.pool.timeouts.get(name))

    def release(self, rollouts: Sequence[Rollout]) -> None:
        """Close or take back the environments of rollouts whose rewards are known."""
        closing = []
        for rollout in rollouts:
            environment = rollout.environment
            if rollout.released or environment is None:
                continue
            rollout.released = True
            # One whose call was given up may still be written to by that call; a failed one is in an unknown state.
            lost = self.executor.gave_up(environment) or rollout.stop_reason == "environment_error"
            self.executor.forget(environment)
            close = hook(environment, "close")
            if close is not None:
                closing.append(self._own("close", close, {}, None))
            elif not lost:
                self.pool.keep(rollout.lease)
        for result in self.executor.run(closing):
            if not result.ok:
                logger.error("an environment could not be closed: %s", result.text)

    def close(self) -> None:
        """Stop the executor's threads."""
        self.executor.close()

    def rewards(self, rollouts: Sequence[Rollout], kind: type | None = None) -> list[float | None]:
        """What each rollout's environment (of exactly this class, if one is given) says about it, all at the same time.

        None where it says nothing. An environment that fails here ends its rollout as ``environment_error``.
        """
        out: list[float | None] = [None] * len(rollouts)
        asked, requests = [], []
        for at, rollout in enumerate(rollouts):
            if rollout.environment is None or rollout.failed or kind not in (None, type(rollout.environment)):
                continue
            reward = reward_of(rollout.environment)
            if reward is not None:
                asked.append(at)
                requests.append(self._own("reward", reward, {}, rollout.environment))
        for at, result in zip(asked, self.executor.run(requests), strict=True):
            try:
                if not result.ok:
                    raise ValueError(result.text)
                out[at] = None if result.value is None else float(result.value)
            except (TypeError, ValueError) as error:
                self._environment_failed(rollouts[at], f"reward: {error}")
        return out

    @staticmethod
    def _environment_failed(rollout: Rollout, what: str) -> None:
        logger.error("rollout %d is left out of training, its environment failed: %s", rollout.index, what)
        rollout.finish("environment_error", what)

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
        rollouts = self._start(prompts, rows if rows is not None else [{"prompt": prompt} for prompt in prompts])
        failed = [rollout.stop_reason == "environment_error" for rollout in rollouts]
        self._check_started(rollouts, failed, waiting, "environment could be started")
        for rollout in rollouts:
            if rollout.stop_reason is None and self._room(rollout, budget) < 1:
                self._empty(rollout, "prompt_too_long")
        while True:
            self._compact([r for r in rollouts if r.stop_reason is None and r.pending], budget)
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
                if turn.said is not None:
                    self._reply(turn, turn.said, budget)
                else:
                    self._answer(turn, budget)
            self._end_done([turn.rollout for turn in turns if turn.said is None])
        return rollouts

    def _start(self, prompts: Sequence[Any], rows: Sequence[Mapping[str, Any]]) -> list[Rollout]:
        """Rollouts with environments that were reset, all at the same time.

        Raises what is wrong with a row (an unknown environment or tool, an image).
        """
        routes = [self.pool.route(row) for row in rows]
        for prompt in prompts:
            if not isinstance(prompt, str):
                refuse_media(prompt)
        leases = [Lease(None, self.pool.shared, name) for name, _ in routes]
        failed: list[str | None] = [None] * len(rows)
        observations: list[Any] = [None] * len(rows)

        def ask(name: str, functions: Sequence[Callable[..., Any] | None], arguments: Sequence[Any]) -> list[Any]:
            """Call one function per rollout that hasn't failed; values in order, failures noted."""
            at = [i for i, f in enumerate(functions) if f is not None and failed[i] is None]
            values: list[Any] = [None] * len(functions)
            requests = [self._own(name, functions[i], arguments[i], leases[i].environment) for i in at]  # type: ignore[arg-type]
            for i, result in zip(at, self.executor.run(requests), strict=True):
                values[i] = result.value
                if not result.ok:
                    failed[i] = f"{name}: {result.text}"
            return values

        if self.pool.has_environments:
            made = ask("environment", [self.pool.take] * len(rows), [{"name": name} for name, _ in routes])
            for lease, environment in zip(leases, made, strict=True):
                lease.environment = environment
                lease.toolbox = self.pool.tools_of(environment)
            resets = [None if e is None else e.reset for e in made]
            observations = ask("reset", resets, [fields for _, fields in routes])
            allowed = [None if e is None else hook(e, "allowed_tools") for e in made]
            for at, names in enumerate(ask("allowed_tools", allowed, [{}] * len(rows))):
                if names is not None:
                    try:
                        leases[at].toolbox = leases[at].toolbox.only(names)
                    except (TypeError, ValueError, AttributeError) as error:
                        failed[at] = f"allowed_tools: {error}"
        rollouts: list[Rollout] = []
        for index, (prompt, row, lease) in enumerate(zip(prompts, rows, leases, strict=True)):
            if failed[index] is None:
                lease.toolbox = selected(lease.toolbox, row)
            before = rollouts[-1] if rollouts and not isinstance(prompts[index - 1], str) else None
            try:
                rollout = self._first(index, prompt, row, lease, observations[index], before)
            except Exception as error:
                if observations[index] is None:
                    raise
                failed[index] = f"what reset returned can't be shown: {error}"
                rollout = self._first(index, prompt, row, lease, None, before)
            rollouts.append(rollout)
            if failed[index] is not None:
                self._empty(rollout, "environment_error")
                self._environment_failed(rollout, str(failed[index]))
        return rollouts

    def _check_started(
        self, rollouts: Sequence[Rollout], failed: Sequence[bool], waiting: Callable[[bool], bool], what: str
    ) -> None:
        """Raises RuntimeError where all failed the first time, on every rank: a mistake in the code, not bad luck."""
        self._ever_started = self._ever_started or waiting(not all(failed) or not failed)
        if not self._ever_started:
            raise RuntimeError(f"not one {what}; the first one: {rollouts[0].detail}")

    def _first(
        self,
        index: int,
        prompt: Any,
        row: Mapping[str, Any],
        lease: Lease,
        observation: Any,
        before: Rollout | None,
    ) -> Rollout:
        if isinstance(prompt, str):
            if observation is not None:
                raise ValueError("reset returned an observation for a prompt that is text; use message lists")
            messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
            ids = list(self.bridge.encoder.tokenizer(prompt)["input_ids"])
        else:
            messages = apply_observation(prompt, observation)
            refuse_media(messages)
            tools = lease.toolbox.schemas
            if before is not None and (before.prompt, before.lease.toolbox.schemas) == (messages, tools):
                ids = before.transcript.prompt_ids  # of the same group
            else:
                ids = self.bridge.prompt_ids(messages, tools)
        return Rollout(index, messages, row, lease, Transcript(ids))

    def _compact(self, rollouts: Sequence[Rollout], budget: Budget) -> None:
        """Begin a new branch where the user's function gives fewer messages."""
        compact = self.compact
        if compact is None:
            return

        def by_position(messages: list[dict[str, Any]], tokens: int) -> Any:
            return compact(messages, tokens)  # whatever its parameters are called

        requests = []
        for rollout in rollouts:
            said = [*rollout.context, *rollout.messages[rollout.context_from :]]
            arguments = {"messages": copy.deepcopy(said), "tokens": len(rollout.next_prompt)}
            requests.append(self._own("compact", by_position, arguments, None))
        for rollout, result in zip(rollouts, self.executor.run(requests), strict=True):
            if result.ok and result.value is None:
                continue
            try:
                if not result.ok:
                    raise ValueError(result.text)
                context = [dict(message) for message in result.value]
                refuse_media(context)
                begun = Transcript(self.bridge.prompt_ids(context, rollout.lease.toolbox.schemas))
            except Exception as error:  # noqa: BLE001 - what a user's function returned goes through a template
                self._environment_failed(rollout, f"compact: {error}")
                continue
            rollout.begin_branch(context, begun)
            if self._room(rollout, budget) < 1:
                self._empty(rollout, "prompt_too_long")

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
        places = [(rollout.index, len(rollout.turns)) for rollout in active]
        sampled = backend.generate(prompts, limits, tuple(stops), places)
        if len(sampled) != len(active):
            raise RuntimeError(
                f"the back end returned {len(sampled)} continuations for {len(active)} prompts; "
                "it must return one each, in order"
            )
        return sampled

    def _empty(self, rollout: Rollout, reason: str) -> None:
        """A rollout must have a completion token. Where none could be sampled, an eos that is never trained on."""
        if rollout.transcript.turns == 0:
            rollout.transcript.add_turn([next(iter(self.bridge.eos_ids), 0)], None)
            rollout.messages.append({"role": "assistant", "content": ""})
        rollout.finish(reason)

    def _take(self, rollout: Rollout, sampled: Sampled, budget: Budget) -> _Turn | None:
        """Record what was sampled; the turn if the rollout may go on with it."""
        if not sampled.ids:
            self._empty(rollout, "empty")
            return None
        written = rollout.pending[-1:]
        # What the template wrote last tells whether it opened a thought; older turns and answers don't matter.
        scaffold = bool(written) and written[0].author is Author.SCAFFOLD
        tail = written[0].ids if scaffold else rollout.next_prompt[-_PROMPT_TAIL:]
        schemas = rollout.lease.toolbox.schemas
        rollout.transcript.add_turn(sampled.ids, logprobs_of(rollout, sampled), before=rollout.pending)
        rollout.pending = []
        parsed = self.parser.parse(sampled.ids, tools=schemas or None, prompt=tail)
        rollout.turns.append(parsed)
        rollout.messages.append(self._message(rollout, parsed))
        calls = list(parsed.tool_calls)
        # As they are if nothing comes of them; `_answer` knows more.
        rollout.calls += [CallRecord(len(rollout.turns) - 1, call) for call in calls]
        if sampled.finish == "length":
            rollout.finish("length")
        elif (self.malformed == "end" and _broken(parsed)) or (
            not calls and hook(rollout.environment, "reply") is None
        ):
            rollout.finish("answered")
        elif calls and budget.turns is not None and len(rollout.turns) >= budget.turns:
            rollout.finish("max_turns")
        else:
            turn = _Turn(rollout, sampled, parsed, calls)
            return self._plan(turn, budget) if calls else turn
        return None

    def _message(self, rollout: Rollout, parsed: ParsedMessage) -> dict[str, Any]:
        """The turn as a message. Ids that the model didn't write are new ones: no two calls of a rollout share one.

        Every call is answered, so every call is there; one that could not be read has no arguments.
        """
        message = parsed.to_message(broken="keep")
        spec = getattr(self.parser, "format", None)
        picture = getattr(spec, "new_id", None) or getattr(spec, "id", None) or _NEW_ID
        for call, entry in zip(parsed.tool_calls, message.get("tool_calls", ()), strict=True):
            if call.id is None:
                entry["id"] = fill_id(picture, call.name, rollout.known_calls + call.index)
            entry["function"]["arguments"] = {} if call.unread else copy.deepcopy(call.arguments)
        rollout.known_calls += len(parsed.tool_calls)
        rollout.rounds += bool(parsed.tool_calls)
        return message

    def _plan(self, turn: _Turn, budget: Budget) -> _Turn | None:
        """Check that the calls can be answered at all, before any of them runs."""
        rollout, calls = turn.rollout, turn.calls
        try:
            try:
                cost = self.bridge.least(turn.bridge_calls, **self._place(turn))
            except BridgeRefused as refusal:
                if len(calls) == 1:
                    raise
                # Some templates carry one call per turn. The first is answered, and the answer says so.
                turn.calls = calls[:1]
                turn.note = f"[only the first of {len(calls)} calls was run: send one call at a time]"
                cost = self.bridge.least(turn.bridge_calls, **self._place(turn))
                rollout.detail = str(refusal)
        except (BridgeRefused, ForeignStop) as refusal:
            _unbridged(rollout, refusal)
            return None
        if self._room(rollout, budget, cost) < budget.answer_tokens:
            rollout.finish("overlong", f"the shortest answer takes {cost} tokens")
            return None
        return turn

    @staticmethod
    def _place(turn: _Turn) -> dict[str, Any]:
        """Where a bridge begins, as ``Bridge.between`` takes it."""
        rollout = turn.rollout
        return {
            "tools": rollout.lease.toolbox.schemas,
            "stop": turn.sampled.ids[-1] if turn.sampled.finish == "stop" else None,
            "tail": turn.parsed.text,
            # Rounds of calls before the current turn, those in the prompt included.
            "earlier": rollout.rounds - bool(rollout.messages[-1].get("tool_calls")),
        }

    def _execute(self, turns: Sequence[_Turn], budget: Budget) -> None:
        """Run the valid calls of all rollouts at once, and answer the others with what is wrong; ask for replies."""
        requests: list[ToolRequest] = []
        places: list[tuple[_Turn, int]] = []
        for turn in turns:
            rollout = turn.rollout
            if not turn.calls:
                reply = hook(rollout.environment, "reply")
                assert reply is not None
                message = copy.deepcopy(rollout.messages[-1])
                requests.append(self._own("reply", reply, {"message": message}, rollout.environment))
                places.append((turn, -1))
                continue
            left = None if budget.tool_seconds is None else budget.tool_seconds - rollout.tool_seconds
            turn.answers = [""] * len(turn.calls)
            turn.results = [None] * len(turn.calls)
            running = 0
            ran = sum(record.executed for record in rollout.calls) if budget.calls is not None else 0
            for at, call in enumerate(turn.calls):
                if not call.ok:
                    turn.answers[at] = complaint(call)
                elif running >= budget.calls_per_turn:
                    turn.answers[at] = error_text(f"not run: more than {budget.calls_per_turn} calls in one turn")
                elif budget.calls is not None and ran + running >= budget.calls:
                    turn.answers[at] = error_text(f"not run: the {budget.calls} calls of this conversation are used up")
                else:
                    running += 1
                    requests.append(ToolRequest(call.name, call.arguments, rollout.lease.toolbox, left))
                    places.append((turn, at))
        started = time.monotonic()
        results = self.executor.run(requests)
        longest = time.monotonic() - started
        spent: dict[int, float] = {}
        for (turn, at), result in zip(places, results, strict=True):
            if at < 0:
                turn.said = result
                continue
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
        first = len(rollout.calls) - len(turn.parsed.tool_calls)
        rollout.calls[first : first + len(records)] = records
        if segments is None:
            rollout.finish("overlong", "the tools' answers don't fit and were taken back")
            return
        ids = [entry["id"] for entry in rollout.messages[-1].get("tool_calls", [])]
        rollout.messages += [
            {"role": "tool", "tool_call_id": ids[call.index], "name": call.name, "content": text}
            for call, text in zip(turn.calls, texts, strict=True)
        ]
        rollout.pending = segments

    def _limited(self, text: str, tokens: int | None) -> str:
        if tokens is None:
            return text
        return text if len(self.bridge.encoder.plain_ids(text)) <= tokens else self._cut(text, tokens)

    def _cut(self, text: str, tokens: int) -> str:
        """What is left of a text that is too long, with a note where the rest stood."""
        side, encoder = self.executor.cut, self.bridge.encoder
        head = {"right": tokens, "left": 0, "middle": (tokens + 1) // 2}[side]
        return encoder.cut(text, head) + _CUT_NOTES[side] + encoder.cut(text, tokens - head, end=True)

    def _fit(self, turn: _Turn, texts: list[str], budget: Budget) -> tuple[list[Segment] | None, list[str]]:
        """Segments within the room that is left and the texts they show; None if that can't be done."""

        calls, place = turn.bridge_calls, self._place(turn)

        def attempt(candidate: list[str]) -> tuple[list[Segment] | None, int]:
            answers = [
                {"role": "tool", "name": call.name, "content": text}
                for call, text in zip(calls, candidate, strict=True)
            ]
            try:
                segments = self.bridge.between(calls, answers, **place)
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
        note = len(self.bridge.encoder.plain_ids(_CUT_NOTES[self.executor.cut]))
        available = sum(sizes) - (cost - room)
        for _ in range(4):
            shares = _shares(sizes, available, note)
            if shares is None:
                return None, texts
            candidate = [
                text if share >= size else self._cut(text, share - note)
                for text, size, share in zip(texts, sizes, shares, strict=True)
            ]
            segments, cost = attempt(candidate)
            if segments is not None and cost <= room:
                return segments, candidate
            # Seams and escapes can cost a few tokens more than their parts.
            available -= max(cost - room, 1)
        return None, texts

    def _reply(self, turn: _Turn, said: ToolResult, budget: Budget) -> None:
        """A turn without calls: the end, unless the environment has something to say."""
        rollout = turn.rollout
        if not said.ok:
            self._environment_failed(rollout, f"reply: {said.text}")
            return
        try:
            answers = _said(said.value)
        except TypeError as error:
            self._environment_failed(rollout, f"reply: {error}")
            return
        if not answers:
            rollout.finish("answered")
            return
        if budget.turns is not None and len(rollout.turns) >= budget.turns:
            rollout.finish("max_turns")
            return
        try:
            segments = self.bridge.between([], answers, **self._place(turn))
        except (BridgeRefused, ForeignStop) as refusal:
            _unbridged(rollout, refusal)
            return
        cost = sum(len(segment.ids) for segment in segments)
        if self._room(rollout, budget, cost) < budget.answer_tokens:
            rollout.finish("overlong", f"the environment's reply takes {cost} tokens")
            return
        rollout.messages += answers
        rollout.pending = segments

    def _end_done(self, rollouts: Sequence[Rollout]) -> None:
        """End the rollouts whose environment says that it is done."""
        asked, requests = [], []
        for rollout in rollouts:
            if rollout.stop_reason is not None or rollout.environment is None:
                continue
            done = inspect.getattr_static(rollout.environment, "done", False)
            if done is True:
                rollout.finish("done")
            elif not isinstance(done, bool) and not inspect.isroutine(done):
                # A property or an object: reading it runs code of the environment.
                asked.append(rollout)
                read: Callable[..., Any] = lambda environment: bool(environment.done)  # noqa: E731
                requests.append(self._own("done", read, {"environment": rollout.environment}, rollout.environment))
        for rollout, result in zip(asked, self.executor.run(requests), strict=True):
            if not result.ok:
                self._environment_failed(rollout, f"done: {result.text}")
            elif result.value:
                rollout.finish("done")


def _unbridged(rollout: Rollout, refusal: Exception) -> None:
    rollout.finish("foreign_eos" if isinstance(refusal, ForeignStop) else "unbridgeable", str(refusal))


def _said(value: Any) -> list[dict[str, Any]]:
    """The messages of a reply. Raises TypeError for what is none."""
    if value is None or value == "" or value == []:
        return []
    said = [value] if isinstance(value, (str, Mapping)) else value
    if not isinstance(said, (list, tuple)):
        raise TypeError(f"a reply must be None, text or messages, not {type(value).__name__}")
    out = []
    for entry in said:
        message = {"role": "user", "content": entry} if isinstance(entry, str) else entry
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TypeError(f"a message of the reply is none: {str(entry)[:80]!r}")
        content = message.get("content")
        text = (
            content if isinstance(content, str) else text_of_parts(content if isinstance(content, list) else [content])
        )
        if message["role"] == "assistant" or message.get("tool_calls"):
            raise TypeError("a reply can't speak for the assistant")
        out.append({**message, "content": text})
    return out


def logprobs_of(rollout: Rollout, sampled: Sampled) -> list[float] | None:
    """The turn's log-probs as a transcript takes them.

    Where an engine gave none for some token (a NaN, or a turn without any after turns with them), nothing true can be
    said about the rollout under importance sampling: it is left out of the loss, and the run goes on.
    """
    values = sampled.logprobs
    if not rollout.transcript.has_logprobs and (rollout.transcript.turns or values is None):
        return None
    given = [math.nan] * len(sampled.ids) if values is None else values
    missing = len(given) - sum(map(math.isfinite, given))
    if missing:
        rollout.keep = False
        rollout.detail = f"the engine gave no log-prob for {missing} sampled tokens: left out of the loss"
        logger.warning("rollout %d: %s", rollout.index, rollout.detail)
    return [value if math.isfinite(value) else 0.0 for value in given]


def _checked(tools: Any) -> list[Any]:
    if tools is None:
        return []
    if callable(tools) or isinstance(tools, (str, Mapping)) or not isinstance(tools, Iterable):
        raise TypeError(f"tools must be a list of functions, got {tools!r}; write tools=[...]")
    return list(tools)


def _check_names(boxes: Sequence[Toolbox], timeouts: Mapping[str, Any], injected: Mapping[str, Any]) -> None:
    """Raises ValueError for limits and values that would have no effect: most likely a name is misspelt."""
    names = {name for box in boxes for name in box.names}
    for name, seconds in timeouts.items():
        if name not in names and name not in _OWN_CALLS:
            raise ValueError(f"timeouts has {name!r}, but no tool is called so; there are {', '.join(sorted(names))}")
        if not isinstance(seconds, (int, float)) or not seconds > 0:
            raise ValueError(f"timeouts[{name!r}] must be a positive number of seconds, got {seconds!r}")
    unused = set(injected).difference(*(box.supplied for box in boxes))
    if unused:
        raise ValueError(f"injected has {', '.join(map(repr, sorted(unused)))}, but no tool takes that hidden")


def _takes_two(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        pass  # a function in C, which doesn't say
    return True


def instance_of(value: Any, kind: type, name: str) -> Any:
    """An option that is of its kind, or None. Raises TypeError."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {value!r}; write {name}={kind.__name__}(...)")
    return value


def _broken(turn: ParsedMessage) -> bool:
    """Whether a call isn't written as its format wants it: unread, repaired, or with an opening marker too many.

    TRL's loop reads no call of such a turn.
    """
    codes = {issue.code for call in turn.tool_calls for issue in call.issues}
    strays = [turn.text[i.span.start : i.span.end] for i in turn.issues if i.code == "stray-marker" and i.span]
    return not codes.isdisjoint(("malformed-arguments", "truncated", "no-name", "repaired")) or any(
        call.raw.startswith(stray) for call in turn.tool_calls for stray in strays
    )


def complaint(call: ToolCall) -> str:
    """What a model is told about a call that can't be run."""
    problems = [issue for issue in call.issues if not issue.is_note]
    said = "; ".join(dict.fromkeys(issue.message for issue in problems)) or "this call couldn't be read"
    codes = list(dict.fromkeys(issue.code for issue in problems))
    return error_text(said, code=codes[0] if codes else "malformed-arguments")


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
