"""Values per turn, budgets of calls, cut results, conversations that are compacted, calls that end a rollout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trl_integration import Budget, ToolExecutor
from trl_integration.encoding import Encoder
from trl_integration.tool_text import shorten

from .helpers import CALL, END, NAME, add, echo, roll, tokenizer, told, written
from .test_drop_in import entry_of, trainer_for
from .test_training import scored

ANSWER = "Done." + END


# -- a value per turn -------------------------------------------------------------------------------------------


def two_turns(index: int, turn: int) -> str:
    return CALL if turn == 0 else ANSWER


def by_turn(rollouts: list[Any], **fields: Any) -> list[list[float]]:
    """The first two rollouts earn something with their call, the third with its answer, the fourth nothing."""
    return [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def whole(rollouts: list[Any], **fields: Any) -> list[float]:
    return [float(sum(values)) for values in by_turn(rollouts)]


def batch_of(folder: Path, rewards: Any, **settings: Any) -> tuple[Any, dict[str, Any]]:
    trainer = trainer_for(folder, two_turns, settings=settings, tools=[add], reward_funcs=rewards)
    return trainer, scored(trainer)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_values_per_turn_move_the_tokens_of_their_turn(tmp_path: Path, scale: str) -> None:
    _, plain = batch_of(tmp_path, whole, scale_rewards=scale)
    trainer, batch = batch_of(tmp_path, by_turn, scale_rewards=scale)
    totals = torch.tensor([1.0, 1.0, 1.0, 0.0])
    spread = 1.0 if scale == "none" else float(totals.std()) + 1e-4
    moved = torch.tensor([[0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.0, 0.0]]) / spread
    for row, rollout in enumerate(trainer.rollout.last):
        assert rollout.turn_rewards == {"by_turn": by_turn([])[row]}
        assert rollout.rewards == {"by_turn": float(totals[row])}
        at = 0
        turn = -1
        for segment in rollout.transcript.segments[1:]:
            got = batch["advantages"][row, at : at + len(segment.ids)]
            turn += segment.author.value == "model"
            more = moved[row, turn] if segment.author.value == "model" else 0.0
            assert torch.allclose(got, plain["advantages"][row] + more, atol=1e-4)
            at += len(segment.ids)
    # The loss takes them, and equal values are as good as one.
    loss = trainer._compute_loss(trainer.model, batch)
    assert torch.isfinite(loss)
    _, even = batch_of(
        tmp_path, lambda rollouts, **_: [[0.5 * t, 0.5 * t] for t in totals.tolist()], scale_rewards=scale
    )
    assert torch.allclose(even["advantages"], plain["advantages"].unsqueeze(1).expand_as(even["advantages"]), atol=1e-4)


@pytest.mark.slow
def test_values_per_turn_train_and_mistakes_in_them_are_named(tmp_path: Path) -> None:
    async def judged(rollouts: list[Any], **fields: Any) -> list[list[float | None]]:
        return [[float(at), None] for at, _ in enumerate(rollouts)]

    settings = {"steps_per_generation": 2, "max_steps": 2, "per_device_train_batch_size": 4}
    trainer = trainer_for(tmp_path, two_turns, settings=settings, tools=[add], reward_funcs=judged)
    trainer.train()
    assert entry_of(trainer)["rewards/judged/mean"] == 3.5

    with pytest.raises(ValueError, match="returned 1 values for 2 turns; give one for each turn"):
        batch_of(tmp_path, lambda rollouts, **_: [[1.0]] * 4)


# -- budgets and cuts ---------------------------------------------------------------------------------------------


def test_calls_side_by_side_count_each_against_the_budget() -> None:
    three = written(NAME, *[("add", {"a": at, "b": 1}) for at in range(3)])
    [rollout], _, _ = roll(NAME, [[three, three, ANSWER]], budget=Budget(calls=4))
    assert [result.text for result in rollout.results] == ["1", "2", "3", "1"]
    refused = [record.text for record in rollout.calls if not record.executed]
    assert refused == ['{"error": "not run: the 4 calls of this conversation are used up"}'] * 2
    assert rollout.stop_reason == "answered"


@pytest.mark.parametrize(
    ("side", "kept", "lost"),
    [("right", "alpha", "omega"), ("left", "omega", "alpha"), ("middle", "alpha|omega", "centre")],
)
def test_a_result_is_cut_where_it_was_asked_for(side: str, kept: str, lost: str) -> None:
    long = "alpha " + "x" * 300 + " centre " + "y" * 300 + " omega"
    script = [[written(NAME, ("echo", {"text": "go"})), ANSWER]]

    def tell(text: str) -> str:
        """Tell.

        Args:
            text: Ignored.
        """
        return long

    tell.__name__ = "echo"
    executor = ToolExecutor(cut=side)
    [rollout], _, _ = roll(NAME, script, executor=executor, tools=[tell], budget=Budget(result_tokens=60))
    [shown] = [text for author, text in told(NAME, rollout) if author == "tool"]
    assert all(word in shown for word in kept.split("|"))
    assert lost not in shown
    assert "[cut:" in shown
    # The same where the whole conversation has little room, and where the executor cuts by characters.
    [rollout], _, _ = roll(NAME, script, executor=executor, tools=[tell], budget=Budget(completion_tokens=260))
    [shown] = [text for author, text in told(NAME, rollout) if author == "tool"]
    assert all(word in shown for word in kept.split("|"))
    assert lost not in shown
    assert all(word in shorten(long, 40, side) for word in kept.split("|"))


def test_a_character_is_never_cut_in_two() -> None:
    long = "é🙂漢" * 50
    encoder = Encoder(tokenizer(NAME))
    for tokens in range(1, 40):
        for end in (False, True):
            cut = encoder.cut(long, tokens, end=end)
            assert (long.endswith if end else long.startswith)(cut)
            assert len(encoder.plain_ids(cut)) <= tokens


def test_an_unknown_side_is_refused() -> None:
    with pytest.raises(ValueError, match="cut must be 'right', 'left' or 'middle'"):
        ToolExecutor(cut="top")


# -- malformed calls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turn", "answered", "ended"),
    [
        ('<tool_call>\n{"name": "add", "arguments": {"a": \n</tool_call>' + END, 2, 1),
        (written(NAME, ("add", {"a": 1, "b": 2}), end="") + "\n<tool_call>\nnothing\n</tool_call>" + END, 2, 1),
        # What was repaired is as broken to TRL's loop, and so is an opening marker too many; a closing one isn't.
        ("<tool_call>\n" + CALL, 2, 1),
        ("</tool_call>\n" + CALL, 2, 2),
        ('<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}' + END, 2, 1),
        ("<tool_call>\n{'name': 'add', 'arguments': {'a': 1, 'b': 2,}}\n</tool_call>" + END, 2, 1),
        # What can be read is answered in both ways: an unknown tool, an argument that is missing.
        (written(NAME, ("sub", {"a": 1})), 2, 2),
        (written(NAME, ("add", {"a": 1})), 2, 2),
        (CALL, 2, 2),
    ],
)
def test_malformed_calls_can_end_a_rollout_as_trls_loop_does(turn: str, answered: int, ended: int) -> None:
    script = [[turn, ANSWER]]
    assert roll(NAME, script)[0][0].transcript.turns == answered
    [rollout], backend, _ = roll(NAME, script, malformed="end")
    assert rollout.transcript.turns == len(backend.prompts[0]) == ended
    assert rollout.stop_reason == "answered"
    if ended == 1:
        assert rollout.results == []
    with pytest.raises(ValueError, match="malformed must be 'answer' or 'end'"):
        roll(NAME, script, malformed="never")


# -- compaction ---------------------------------------------------------------------------------------------------


def test_compaction_begins_a_branch_whose_masks_hold() -> None:
    asked: list[int] = []

    def shorter(messages: list[dict[str, Any]], tokens: int) -> list[dict[str, Any]] | None:
        asked.append(tokens)
        if len(asked) != 2:
            return None
        assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", "tool"]
        return [{"role": "user", "content": "Go. So far: 3, 3."}]

    [rollout], backend, loop = roll(
        NAME, [[CALL, CALL, CALL, ANSWER]], tools=[add, echo], compact=shorter, budget=Budget(turns=4)
    )
    assert rollout.stop_reason == "answered"
    assert [row.turns for row in rollout.rows] == [2, 2]
    for row in rollout.rows:
        row.check()
        assert sum(row.tool_mask) == row.sampled_length
    first, second = rollout.rows
    assert tokenizer(NAME).decode(second.prompt_ids).count("So far") == 1
    assert second.prompt_ids == loop.bridge.prompt_ids(
        [{"role": "user", "content": "Go. So far: 3, 3."}], rollout.lease.toolbox.schemas
    )
    # Every turn was sampled from its row, and from nothing else.
    assert backend.prompts[0] == [*first.turn_prompts(), *second.turn_prompts()]
    assert [m["role"] for m in rollout.messages] == ["assistant", "tool"] * 3 + ["assistant"]
    assert rollout.calls[2].turn == 2
    assert asked == [len(first.turn_prompts()[1]), asked[1], len(second.turn_prompts()[1])]


def test_compaction_that_fails_is_no_fault_of_the_policy() -> None:
    def broken(messages: Any, tokens: int) -> Any:
        raise KeyError("summary")

    def image(messages: Any, tokens: int) -> Any:
        return [{"role": "user", "content": [{"type": "image", "image": "x"}]}]

    async def endless(messages: Any, tokens: int) -> Any:
        return [{"role": "user", "content": "word " * 3000}]

    for compact, reason in ((broken, "environment_error"), (image, "environment_error"), (endless, "prompt_too_long")):
        [rollout], _, _ = roll(NAME, [[CALL, ANSWER]], compact=compact, budget=Budget(model_tokens=2000))
        assert rollout.stop_reason == reason, rollout.detail
        assert not rollout.keep
    with pytest.raises(TypeError, match="compact must be a function"):
        roll(NAME, [[CALL, ANSWER]], compact="summary")


@pytest.mark.slow
def test_the_last_branch_is_trained_on_and_all_are_in_the_trace(tmp_path: Path) -> None:
    def shorter(messages: list[dict[str, Any]], tokens: int) -> list[dict[str, Any]]:
        return [{"role": "user", "content": "Go on."}]

    trace = tmp_path / "trace.jsonl"
    trainer = trainer_for(
        tmp_path,
        two_turns,
        tools=[add],
        reward_funcs=lambda rollouts, **_: [[0.0, float(at)] for at, _ in enumerate(rollouts)],
        compact=shorter,
        trace=trace,
    )
    trainer.train()
    assert entry_of(trainer)["rollout/branches"] == 1.0
    assert entry_of(trainer)["rollout/turns"] == 2.0
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    assert [len(line["rows"]) for line in lines] == [2] * 4
    assert [line["rewards"]["<lambda>"] for line in lines] == [0.0, 1.0, 2.0, 3.0]
