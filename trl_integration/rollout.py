"""One rollout and what is known about it: plain data. ``loop.py`` makes it, ``metrics.py`` and ``view.py`` read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolparse.message import Issue, ParsedMessage, ToolCall

from .environment import Lease
from .executor import ToolResult
from .transcript import Segment, Transcript

__all__ = ["FAILED", "STOP_REASONS", "TRUNCATED", "Budget", "CallRecord", "Rollout"]

STOP_REASONS = {
    "answered": "the model ended its turn without a call",
    "done": "the environment said that it is done, or the agent stopped behind calls",
    "length": "a turn was cut off by the token budget",
    "max_turns": "the turn limit was reached with calls unanswered",
    "overlong": "no room for the tools' answers",
    "foreign_eos": "a turn with calls ended on a token that the template doesn't write there",
    "unbridgeable": "the template can't carry this turn's calls",
    "empty": "the engine returned no token",
    "prompt_too_long": "the prompt leaves no room for a completion",
    "environment_error": "the environment failed: its reset, its reply, done",
    "agent_error": "the agent's program failed",
    "agent_timeout": "the agent's program was stopped at its time limit",
    "no_turn": "the agent's program never got an answer from the model",
    "engine_error": "the engine failed, and the agent with it",
}
"""Why a rollout ended."""

TRUNCATED = frozenset(
    {"length", "max_turns", "overlong", "unbridgeable", "empty", "prompt_too_long", "agent_error", "agent_timeout"}
)
"""The reasons that leave a rollout unfinished: what came of it says little about the policy."""

FAILED = frozenset({"environment_error", "empty", "prompt_too_long", "no_turn", "engine_error"})
"""The reasons that aren't the model's doing. Such rollouts are never trained on and don't count in a group's mean."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one rollout. None means no limit of that kind.

    Args:
        turns: Times the model is sampled.
        completion_tokens: Sampled and injected tokens after the prompt.
        model_tokens: Prompt and completion, in tokens.
        turn_tokens: Sampled tokens per turn.
        tool_seconds: Wall time in tools.
        result_tokens: Tokens of one tool result.
        calls_per_turn: Calls executed in one turn.
        calls: Calls executed in the whole rollout; those that a turn writes side by side count each.
        answer_tokens: Least room, in tokens, that must be left for the model after the tools' answers.
    """

    turns: int | None = 16
    completion_tokens: int | None = None
    model_tokens: int | None = None
    turn_tokens: int | None = None
    tool_seconds: float | None = None
    result_tokens: int | None = None
    calls_per_turn: int = 32
    calls: int | None = None
    answer_tokens: int = 1

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (int, float)) or value <= 0):
                raise ValueError(f"Budget.{name} must be a positive number or None, got {value!r}")


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
        return self.result is not None and self.result.code not in ("unknown-tool", "invalid-arguments", "not-run")


@dataclass(eq=False)
class Rollout:
    """One rollout, finished or not.

    ``transcript`` is the row that is trained on. Where a conversation was compacted it is the last branch: ``context``
    are the messages that it began with (before that, the prompt), and ``branches`` the rows before it.
    """

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
    context: list[dict[str, Any]] = field(default_factory=list)
    context_from: int = 0
    branches: list[Transcript] = field(default_factory=list)
    rewards: dict[str, float] = field(default_factory=dict)
    turn_rewards: dict[str, list[float]] = field(default_factory=dict)
    advantage: float | None = None
    released: bool = False
    rounds: int = 0  # of calls in the branch so far, those in its context included
    known_calls: int = 0
    pending: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context = self.context or self.prompt
        self.rounds = _rounds(self.context)
        self.known_calls = sum(len(message.get("tool_calls") or ()) for message in self.prompt)

    @property
    def rows(self) -> list[Transcript]:
        """All rows, the last one included: each as it was sampled, each with masks of its own."""
        return [*self.branches, self.transcript]

    @property
    def environment(self) -> Any:
        """The rollout's environment, or None."""
        return self.lease.environment

    @property
    def truncated(self) -> bool:
        """Whether the rollout ended before the model was done."""
        return self.stop_reason in TRUNCATED

    @property
    def failed(self) -> bool:
        """Whether the rollout ended for a reason that isn't the model's doing."""
        return self.stop_reason in FAILED

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

    def begin_branch(self, context: list[dict[str, Any]], transcript: Transcript) -> None:
        """Go on from other messages. What was injected and not yet answered belongs to neither branch."""
        self.branches.append(self.transcript)
        self.context, self.context_from, self.transcript = context, len(self.messages), transcript
        self.rounds = _rounds(context)
        self.pending = []

    def finish(self, reason: str, detail: str | None = None) -> None:
        """End the rollout. What was injected and not yet answered is dropped."""
        self.stop_reason = reason
        self.keep = self.keep and reason not in FAILED
        if detail is not None:
            self.detail = detail
        self.pending = []


def _rounds(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(1 for message in messages if message.get("tool_calls"))
