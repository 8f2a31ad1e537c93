"""AsyncRollouts feeds TRL's AsyncGRPOTrainer."""

from __future__ import annotations

import inspect
import queue
import threading
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from trl_integration import AsyncRollouts, Budget, MultiTurnRollout

from .helpers import CALL, END, NAME, add, parser, scripted, shaky, tokenizer
from .test_training import config, second, seeded_model

pytestmark = pytest.mark.slow

ROWS = [{"prompt": [{"role": "user", "content": f"Question {at}"}], "answer": at} for at in range(3)]


def script(index: int, turn: int) -> str:
    return CALL if turn == 0 else f"Answer {index % 2}.{END}"


def worker(script: Any = script, rewards: Any = second, logprob: float | None = -1.0, **options: Any) -> AsyncRollouts:
    own = {
        key: options.pop(key) for key in list(options) if key in ("compact", "budget", "environments", "mask_truncated")
    }
    rollout = MultiTurnRollout([add], parser=parser(NAME), **own)
    return AsyncRollouts(
        rollout, scripted(script, logprob=logprob), tokenizer(NAME), ROWS, rewards, **{"num_generations": 4, **options}
    )


def test_samples_are_the_rows_with_masks_and_advantages_of_their_group() -> None:
    made = worker()
    made.update_model_version(7)
    samples = made.samples(ROWS[:2], first_group=5)
    assert [sample.group_id for sample in samples] == [5] * 4 + [6] * 4
    for sample, rollout in zip(samples, made.rollout.last, strict=True):
        row = rollout.transcript
        assert sample.input_ids.tolist() == row.ids
        assert sample.completion_mask.tolist() == [0] * row.prompt_length + row.tool_mask
        assert sample.old_log_probs.tolist() == [-float(m) for m in sample.completion_mask]
        assert sample.model_version == 7
        assert sample.completion[0]["tool_calls"][0]["function"]["name"] == "add"
    rewards = torch.tensor([0.0, 1.0, 0.0, 1.0])
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    assert [s.advantage for s in samples[:4]] == pytest.approx(expected.tolist())
    assert made.metrics_queue.get_nowait()["rollout/turns"] == (16.0, 8.0)


def test_branches_are_rows_of_their_own_and_what_failed_is_none() -> None:
    def shorter(messages: Any, tokens: int) -> Any:
        return [{"role": "user", "content": "Go on."}]

    samples = worker(compact=shorter).samples(ROWS[:1])
    assert len(samples) == 8
    assert samples[0].advantage == samples[1].advantage
    assert samples[0].completion_mask.sum() != samples[1].completion_mask.sum()

    class Shaky(shaky()):  # type: ignore[misc]
        def reward(self) -> float:
            return 1.0

    assert len(worker(environments=Shaky).samples(ROWS[:1])) == 3
    cut = worker(lambda index, turn: "x" * 90 if index == 0 else script(index, 1), mask_truncated=True)
    cut.rollout.budget = Budget(turn_tokens=20)
    assert len(cut.samples(ROWS[:1])) == 3


def test_values_per_turn_are_summed_and_async_rewards_work() -> None:
    async def judged(rollouts: Any, answer: Any, **fields: Any) -> Any:
        assert answer == [0] * 4
        return [[0.5, float(at)] for at, _ in enumerate(rollouts)]

    samples = worker(rewards=[judged]).samples(ROWS[:1])
    assert [s.metrics["rewards/judged"] for s in samples] == [0.5, 1.5, 2.5, 3.5]


def test_mistakes_are_named_and_reach_the_trainer() -> None:
    with pytest.raises(ValueError, match="num_generations must be at least 2"):
        worker(num_generations=1)
    with pytest.raises(ValueError, match="no source of rewards"):
        worker(rewards=())
    with pytest.raises(RuntimeError, match="gave no log-probs"):
        worker(logprob=None).samples(ROWS[:1])
    broken = worker(rewards=lambda **_: [1.0])
    broken.start()
    assert broken._thread is not None
    broken._thread.join(60)
    with pytest.raises(RuntimeError, match="rollouts stopped: ValueError: the reward function"):
        broken.check_health(1000)
    broken.stop()


def test_the_thread_waits_for_a_full_queue_and_ends_when_it_is_told_to() -> None:
    made = worker(queue_size=3)
    made.start()
    made.start()
    taken = [made.rollout_buffer.get(timeout=60) for _ in range(14)]
    assert [s.group_id for s in taken] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2
    assert taken[12].prompt == taken[0].prompt  # three rows, then from the beginning
    assert all(s.enqueued_at is not None for s in taken)
    made.check_health(1000)
    with pytest.raises(RuntimeError, match="gave no sign"):
        made.check_health(-1)
    made.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "async-rollouts" and thread.is_alive()]


def test_it_is_what_trl_asks_for() -> None:
    trainer = pytest.importorskip(
        "trl.experimental.async_grpo.async_grpo_trainer", reason="this trl has no such trainer"
    )
    made = worker()
    for name, member in vars(trainer.RolloutWorkerProtocol).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            assert list(inspect.signature(member).parameters)[1:] == list(
                inspect.signature(getattr(made, name)).parameters
            )
    assert isinstance(made.rollout_buffer, queue.Queue)
    # Through the trainer's own data set and collator.
    for sample in made.samples(ROWS[:1]):
        made.rollout_buffer.put(sample)
    metrics: dict[str, list[float]] = defaultdict(list)
    rows = iter(
        trainer.RolloutQueueDataset(
            rollout_queue=made.rollout_buffer,
            model_version_fn=lambda: 0,
            check_health_fn=made.check_health,
            stale_after_s=100,
            metrics=metrics,
        )
    )
    taken = [next(rows) for _ in range(4)]
    assert [row["group_id"] for row in taken] == [0] * 4
    assert metrics["sample/staleness_mean"] == [0.0] * 4


class NoTransfer:
    """Weights that nobody has to be sent."""

    def init_weight_transfer(self) -> None: ...
    def pause(self) -> None: ...
    def send_weights(self, iterator: Any) -> None:
        for _ in iterator:
            pass

    def resume(self) -> None: ...
    def destroy(self) -> None: ...


class PlainAttention:
    """Flash attention over segments of different lengths, in plain torch: queries stand at the end of their keys."""

    @staticmethod
    def flash_attn_varlen_func(
        q: Any, k: Any, v: Any, ends_q: Any, ends_k: Any, *sizes: Any, softmax_scale: float, **options: Any
    ) -> Any:
        parts = []
        borders = zip(*(pairwise(ends.tolist()) for ends in (ends_q, ends_k)), strict=True)
        for (q_from, q_to), (k_from, k_to) in borders:
            rows, width = q_to - q_from, k_to - k_from
            seen = torch.ones(rows, width, dtype=torch.bool).tril(width - rows)
            one = [t[a:b].transpose(0, 1) for t, a, b in ((q, q_from, q_to), (k, k_from, k_to), (v, k_from, k_to))]
            out = torch.nn.functional.scaled_dot_product_attention(*one, attn_mask=seen, scale=softmax_scale)
            parts.append(out.transpose(0, 1))
        return torch.cat(parts)


def test_the_trainer_itself_takes_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl.experimental.async_grpo", reason="this trl has no AsyncGRPOTrainer")
    pytest.importorskip("requests", reason="AsyncGRPOTrainer can't be made without the requests package")
    from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer, async_grpo_trainer, packing

    # It asks for the name of a CUDA device, to log the share of its peak that is used; and its attention is a kernel
    # for such a device.
    monkeypatch.setattr(async_grpo_trainer, "get_peak_flops_per_device", lambda *given: None)
    monkeypatch.setattr(packing, "_flash_attn", PlainAttention)

    seeded_model().save_pretrained(tmp_path / "model")
    tokenizer(NAME).save_pretrained(tmp_path / "model")
    made = worker()
    args = config(
        tmp_path / "out",
        AsyncGRPOConfig,
        max_steps=2,
        per_device_train_batch_size=1,
        token_budget=2048,
        learning_rate=1e-2,
        dtype="float32",
    )
    trainer = AsyncGRPOTrainer(
        model=str(tmp_path / "model"),
        args=args,
        reward_funcs=second,  # the worker scores; the trainer only wants to see one
        train_dataset=Dataset.from_list(ROWS),
        processing_class=tokenizer(NAME),
        rollout_worker=made,
        weight_transfer=NoTransfer(),
    )
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.global_step == 2
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
