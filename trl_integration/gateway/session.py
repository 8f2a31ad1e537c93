"""What an agent and the model said to each other, as rows of exact token ids.

A client of a chat API sends the whole conversation with every request. A session finds in it the turns that it has
sampled before, and goes on behind the last of them: with the ids that were sampled, and with a bridge for what the
client put behind. So one conversation is one row, whatever the template does to history.

Turns are found by what was said (texts, calls, results), not by how it is spelled: blanks around a text, the order of
keys, ids of calls and a thought that the client left out make no difference. Where the history is another one, or no
bridge can be proved, a new row begins, and says why. Its prompt holds whatever came before, so that every sampled token
is trained on in one row only: the one that it was sampled in.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from toolparse.codecs.json import decode
from toolparse.message import ParsedMessage, ToolCall
from toolparse.openai import ChatRequest

from ..bridge import Bridge, BridgeCall, BridgeRefused, ForeignStop
from ..environment import Lease
from ..executor import Toolbox, ToolResult
from ..generation import Sampled
from ..loop import logprobs_of
from ..rollout import Budget, CallRecord, Rollout
from ..transcript import Author, Segment, Transcript

__all__ = ["Plan", "Refused", "Row", "Session", "Turn"]


class Refused(Exception):
    """A session gives no further turn; ``reason`` is the stop reason of its rollout."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(eq=False)
class Turn:
    """A sampled turn, the ``number``th of its row. ``calls`` are those that the client was given, ``stop`` the token
    that ended it (None: a text, a limit), ``rounds`` how many turns with calls came before it.
    """

    row: Row
    number: int
    message: dict[str, Any]
    parsed: ParsedMessage
    calls: list[ToolCall]
    stop: int | None
    cut: bool
    rounds: int
    at: float = field(default_factory=time.monotonic)

    @property
    def last(self) -> bool:
        """Whether nothing was sampled behind it in its row."""
        return self is self.row.said[-1]

    @property
    def ids(self) -> list[int]:
        """The row's ids up to the end of this turn."""
        out: list[int] = []
        count = -1
        for segment in self.row.transcript.segments:
            count += segment.author is Author.MODEL
            if count > self.number:
                break
            out.extend(segment.ids)
            if count == self.number:
                break
        return out


@dataclass(eq=False)
class Row(Rollout):
    """A conversation that went on token by token: one row of training data.

    ``parent`` is the turn (of another row) behind which it begins, None where it begins from the start; ``why`` says
    what made it begin. ``outcome`` is what the agent returned, once it has ended.
    """

    session: Session = field(kw_only=True)
    number: int = 0
    parent: Turn | None = None
    why: str = field(kw_only=True)
    offered: str = ""
    said: list[Turn] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    outcome: Any = None


@dataclass(frozen=True, eq=False)
class Plan:
    """How a request is served. ``turn`` is the last sampled turn that its messages have in common with a row;
    ``segments`` stand between it and the answer. Without segments the prompt is rendered anew, and ``why`` says why.
    """

    asked: ChatRequest
    offered: str
    entries: list[str]
    digest: bytes
    rounds: int
    turn: Turn | None
    behind: int
    segments: tuple[Segment, ...] | None
    why: str

    @property
    def row(self) -> Row | None:
        """The row that the answer continues; None if it begins a new one."""
        return self.turn.row if self.turn is not None and self.segments is not None and self.turn.last else None

    def rendered(self, ids: Sequence[int]) -> Plan:
        """The plan with the prompt that the template wrote: if it goes on from the very ids, the row does too."""
        own = self.turn.ids if self.turn is not None else []
        if not own or list(ids[: len(own)]) != own or len(ids) == len(own):
            return self
        return replace(self, segments=(Segment.of(Author.SCAFFOLD, ids[len(own) :]),))


class Session:
    """The conversations of one agent; its API key is the session.

    Args:
        index: Which rollout of the batch it is.
        prompt, data: What the agent was started with: the prompt and the row of the data set.
        budget: Limits. ``turns`` counts in the session, the limits of tokens in each row.
        open_requests: Requests that may be under way at once.
    """

    def __init__(
        self,
        index: int = 0,
        prompt: Any = (),
        data: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
        *,
        open_requests: int = 8,
    ) -> None:
        self.key = f"session-{secrets.token_urlsafe(24)}"
        self.index = index
        self.prompt = prompt
        self.data = data or {}
        self.budget = budget or Budget()
        self.open_requests = open_requests
        self.requests = 0
        self.rows: list[Row] = []
        self.refused: Refused | None = None
        self.failure: str | None = None
        self.denied: str | None = None  # what was wrong with the agent's last request
        self.deadline: float | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._turns: dict[bytes, list[Turn]] = {}

    @property
    def closed(self) -> bool:
        """Whether the agent's time is over."""
        return self._closed or (self.deadline is not None and time.monotonic() > self.deadline)

    @property
    def turns(self) -> int:
        """How often the model was sampled."""
        return sum(len(row.said) for row in self.rows)

    def close(self) -> None:
        """Take no further turn; what is sampled from now on belongs to nobody."""
        with self._lock:
            self._closed = True

    # -- matching ------------------------------------------------------------------------------------------

    def plan(self, asked: ChatRequest, variables: Mapping[str, Any], bridge: Bridge) -> Plan:
        """Find the sampled turns in a request's messages, and the way on behind the last of them."""
        offered = _text([asked.tools, {key: str(value) for key, value in variables.items()}])
        entries = list(_entries(asked.messages))
        digest = _digest(b"", offered)
        found: Turn | None = None
        at = rounds = 0
        for number, (message, entry) in enumerate(zip(asked.messages, entries, strict=True)):
            digest = _digest(digest, entry)
            if message["role"] == "assistant":
                turn = _same(self._turns.get(digest, ()), message)
                if turn is not None:
                    found, at = turn, number
                rounds += bool(message.get("tool_calls"))
        segments: tuple[Segment, ...] | None = None
        if found is None:
            why = self._why_new(offered, entries)
        else:
            why = f"turn {found.number} of row {found.row.number} is carried on a second time"
            try:
                segments = tuple(_bridged(bridge, found, asked.messages[at], asked.messages[at + 1 :], asked.tools))
            except (BridgeRefused, ForeignStop) as refusal:
                why = f"turn {found.number} of row {found.row.number} can't be carried on: {refusal}"
        return Plan(asked, offered, entries, digest, rounds, found, at + 1, segments, why)

    def _why_new(self, offered: str, entries: Sequence[str]) -> str:
        if not self.rows:
            return "the first conversation"
        last = self.rows[-1]
        if last.offered != offered:
            return f"other tools or template variables than in row {last.number}"
        same = 0
        for mine, theirs in zip(entries, last.entries, strict=False):
            if mine != theirs:
                break
            same += 1
        if not same:
            return "another conversation"
        if same == len(entries):
            return f"row {last.number} is asked for again"
        return f"message {same} is not what it was in row {last.number}"

    # -- limits --------------------------------------------------------------------------------------------

    def room(self, plan: Plan, prompt: int) -> int:
        """Tokens that the answer to a prompt of so many may have. Raises Refused."""
        budget = self.budget
        if budget.turns is not None and self.turns + max(self.requests - 1, 0) >= budget.turns:
            raise self._refusal("max_turns", f"this session has had its {budget.turns} turns")
        row = plan.row
        done = 0 if row is None else prompt - row.transcript.prompt_length
        room = [1 << 20 if budget.turn_tokens is None else budget.turn_tokens]
        if budget.completion_tokens is not None:
            room.append(budget.completion_tokens - done)
        if budget.model_tokens is not None:
            room.append(budget.model_tokens - prompt)
        if min(room) < budget.answer_tokens:
            raise self._refusal("overlong", f"{prompt} tokens leave no room for an answer")
        return min(room)

    def _refusal(self, reason: str, message: str) -> Refused:
        self.refused = Refused(reason, message)
        return self.refused

    # -- recording -----------------------------------------------------------------------------------------

    def record(
        self,
        plan: Plan,
        prompt_ids: Sequence[int],
        sampled: Sampled,
        parsed: ParsedMessage,
        message: Mapping[str, Any],
        stop_ids: Sequence[int],
    ) -> Turn | None:
        """Keep a turn that was sampled and is about to be handed out as ``message``; None if the session is over."""
        with self._lock:
            if self.closed or not sampled.ids:
                return None
            row = plan.row
            before: tuple[Segment, ...] = ()
            if row is not None and plan.segments is not None:
                before = plan.segments
                self._answered(row, plan)
            else:
                row = self._new_row(plan, prompt_ids)
            row.transcript.add_turn(sampled.ids, logprobs_of(row, sampled), before=before)
            said = _decoded(message)
            given = len(said.get("tool_calls") or ())
            stop = sampled.ids[-1] if sampled.ids[-1] in stop_ids else None
            turn = Turn(
                row,
                len(row.said),
                said,
                parsed,
                [call for call in parsed.tool_calls if call.ok][:given],
                stop,
                sampled.finish == "length" and stop is None,
                plan.rounds,
            )
            row.said.append(turn)
            row.turns.append(parsed)
            row.calls += [CallRecord(turn.number, call) for call in parsed.tool_calls]
            row.messages.append(said)
            [entry] = _entries([said])
            row.entries = [*plan.entries, entry]
            self._turns.setdefault(_digest(plan.digest, entry), []).append(turn)
            self.refused = self.failure = self.denied = None
            return turn

    def _answered(self, row: Row, plan: Plan) -> None:
        """Keep what the client put behind the row's last turn."""
        turn, behind = row.said[-1], plan.asked.messages[plan.behind :]
        row.messages += [dict(message) for message in behind]
        seconds = time.monotonic() - turn.at
        shown = {
            id(call): ToolResult(call.name, answer["content"], True, None, seconds, answer["content"])
            for call, answer in zip(turn.calls, _by_call(plan.asked.messages[plan.behind - 1], behind), strict=False)
        }
        row.calls = [
            CallRecord(record.turn, record.call, shown[id(record.call)], shown[id(record.call)].text)
            if id(record.call) in shown
            else record
            for record in row.calls
        ]

    def _new_row(self, plan: Plan, prompt_ids: Sequence[int]) -> Row:
        row = Row(
            self.index,
            [dict(message) for message in plan.asked.messages],
            self.data,
            Lease(None, Toolbox()),
            Transcript(prompt_ids),
            session=self,
            number=len(self.rows),
            parent=plan.turn,
            why=plan.why,
            offered=plan.offered,
        )
        self.rows.append(row)
        return row


def _same(turns: Sequence[Turn], message: Mapping[str, Any]) -> Turn | None:
    """The turn that a client's message repeats: of several that said the same the one with its ids, else the last."""
    thought = str(message.get("reasoning_content") or "").strip()
    fitting = [turn for turn in turns if thought in ("", str(turn.message.get("reasoning_content") or "").strip())]
    ids = [call.get("id") for call in message.get("tool_calls") or ()]
    exact = [turn for turn in fitting if [call["id"] for call in turn.message.get("tool_calls") or ()] == ids]
    return next(reversed(exact or fitting), None)


def _bridged(
    bridge: Bridge,
    turn: Turn,
    shown: Mapping[str, Any],
    behind: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
) -> list[Segment]:
    """What stands between a turn, ``shown`` by the client, and the next one. Raises BridgeRefused and ForeignStop."""
    if any(message["role"] == "assistant" for message in behind):
        raise BridgeRefused("behind it stands an assistant's message that was not sampled there")
    if not behind:
        raise BridgeRefused("nothing stands behind it")
    answers = _by_call(shown, behind)
    others = behind[len(answers) :]
    if len(answers) != len(turn.calls) or any(message["role"] == "tool" for message in others):
        raise BridgeRefused(f"its {len(turn.calls)} calls are not answered each once")
    calls = [BridgeCall(call.name, call.id) for call in turn.calls]
    said = [
        {"role": "tool", "name": call.name, "content": answer["content"]}
        for call, answer in zip(calls, answers, strict=True)
    ]
    said += [{"role": message["role"], "content": message["content"]} for message in others]
    return bridge.between(calls, said, tools=tools, stop=turn.stop, tail=turn.parsed.text, earlier=turn.rounds)


def _by_call(shown: Mapping[str, Any], behind: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The answers of tools that stand behind a turn, in the order of the calls in the client's own message."""
    answers = list(itertools.takewhile(lambda message: message["role"] == "tool", behind))
    given = [call.get("id") for call in shown.get("tool_calls") or ()]
    places = [message.get("tool_call_id") for message in answers]
    if set(places) <= set(given) and len(set(places)) == len(places):
        return [answers[places.index(ident)] for ident in given if ident in places]
    return answers


# -- what was said -----------------------------------------------------------------------------------------


def _entries(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each message as a text that is the same for two messages that say the same.

    Results are told apart by the place of their call, so they may come in any order and under any ids.
    """
    places: dict[Any, int] = {}
    made: list[tuple[bool, int, str]] = []
    for message in messages:
        role, content, place = message["role"], message.get("content") or "", 0
        if role == "assistant":
            calls = message.get("tool_calls") or ()
            places = {call.get("id"): number for number, call in enumerate(calls)}
            said = [[call["function"]["name"], call["function"]["arguments"]] for call in calls]
            text = _text([role, content.strip(), said])
        elif role == "tool":
            place = places.get(message.get("tool_call_id"), 0)
            text = _text([role, place, content])
        else:
            text = _text([role, content])
        made.append((role == "tool", place, text))
    for tools, group in itertools.groupby(made, key=lambda entry: entry[0]):
        for _, _, text in sorted(group, key=lambda entry: entry[1]) if tools else group:
            yield text


def _text(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    """A JSON value with whole numbers as integers: some clients write 1.0 as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _digest(before: bytes, entry: str) -> bytes:
    return hashlib.blake2b(before + entry.encode("ascii"), digest_size=16).digest()


def _decoded(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of the API with its arguments as objects."""
    made = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        made["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": decode(call["function"]["arguments"])}}
            for call in message["tool_calls"]
        ]
    return made
