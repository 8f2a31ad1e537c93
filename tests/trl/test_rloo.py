"""ToolRLOOTrainer: RLOOTrainer with the loop, whose sums count sampled tokens only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from trl import RLOOConfig

from trl_integration import MultiTurnRollout, ToolRLOOTrainer

from .helpers import END, NAME, add, parser, scripted, shaky, tokenizer
from .test_training import config, questions, scored, script, second, seeded_model

pytestmark = pytest.mark.slow


def trainer_for(folder: Path, script: Any = script, *, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    trainer = ToolRLOOTrainer(
        **{
            "model": seeded_model(),
            "args": config(folder, RLOOConfig, **(settings or {})),
            "train_dataset": questions(),
            "processing_class": tokenizer(NAME),
            "parser": parser(NAME),
            "reward_funcs": second,
            "tools": [add],
            **options,
        }
    )
    trainer.rollout.backend = scripted(script)
    return trainer


def saved_model(folder: Path) -> str:
    """A model on disk, from which the trainer loads the reference model too."""
    seeded_model().save_pretrained(folder / "model")
    return str(folder / "model")


def log_probs(trainer: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Of every completion token, by a forward pass of our own."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    logits = trainer.model(input_ids=ids, attention_mask=attention, position_ids=positions).logits[:, :-1]
    chosen = torch.log_softmax(logits / trainer.temperature, -1).gather(2, ids[:, 1:, None]).squeeze(2)
    return chosen[:, -batch["completion_ids"].shape[1] :]


def test_sums_of_log_probs_are_over_sampled_tokens(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, settings={"beta": 0.1}, model=saved_model(tmp_path))
    batch = scored(trainer)
    rollouts = trainer.rollout.last
    for row, rollout in enumerate(rollouts):
        transcript = rollout.transcript
        assert batch["tool_mask"][row].tolist()[: transcript.completion_length] == transcript.tool_mask
        assert 0 in transcript.tool_mask
        # What the model sees are all tokens.
        assert int(batch["completion_mask"][row].sum()) == transcript.completion_length
    with torch.no_grad():
        own = log_probs(trainer, batch)
    assert torch.allclose(batch["old_logps"], (own * batch["tool_mask"]).sum(1), atol=1e-3)
    assert not torch.allclose(batch["old_logps"], (own * batch["completion_mask"]).sum(1), atol=1e-1)


def test_the_gradient_comes_from_sampled_tokens_only(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    batch = scored(trainer)
    trainer.model.zero_grad()
    trainer._compute_loss(trainer.model, batch).backward()
    given = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    trainer.model.zero_grad()
    # At the first step the ratio is 1: the gradient is that of -mean(advantage x sum of log-probs).
    (-(batch["advantages"] * (log_probs(trainer, batch) * batch["tool_mask"]).sum(1)).mean()).backward()
    expected = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    assert given.abs().max() > 0
    assert torch.allclose(given, expected, atol=1e-5)


def test_it_trains_evaluates_and_logs_as_the_other_trainer_does(tmp_path: Path) -> None:
    settings = {
        "max_steps": 2,
        "gradient_accumulation_steps": 2,
        "num_iterations": 2,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "per_device_eval_batch_size": 4,
        "beta": 0.1,
    }
    trainer = trainer_for(tmp_path, settings=settings, model=saved_model(tmp_path), eval_dataset=questions(4))
    trainer.train()
    entry = next(e for e in trainer.state.log_history if "reward" in e)
    assert entry["reward"] == pytest.approx(0.5)
    assert entry["tools/call_frequency"] == 1.0
    assert entry["completions/clipped_ratio"] == 0.0
    assert entry["rollout/turns"] == 2.0
    assert entry["entropy"] > 0
    assert any("eval_reward" in e for e in trainer.state.log_history)


def test_rewards_see_messages_and_fields_and_failures_have_no_advantage(tmp_path: Path) -> None:
    seen: list[Any] = []

    def watch(completions: Any, tool_calls: Any, stop_reasons: Any, answer: Any, **fields: Any) -> list[float]:
        seen.append((completions, tool_calls, stop_reasons, answer))
        return [1.0, 0.0, 0.0, 0.0]

    trainer = trainer_for(tmp_path, reward_funcs=watch, tools=[add], environments=shaky())
    batch = scored(trainer)
    [(completions, calls, stops, answers)] = seen
    assert completions[0][0]["tool_calls"][0]["function"]["name"] == "add"
    assert [len(c) for c in calls] == [1, 0, 1, 1]
    assert stops == ["answered", "environment_error", "answered", "answered"]
    assert answers == [0] * 4
    # Leave-one-out among the three that count.
    assert batch["advantages"].tolist() == pytest.approx([1.0, 0.0, -0.5, -0.5])
    assert batch["tool_mask"][1].sum() == 0


def test_truncated_rollouts_can_be_left_out(tmp_path: Path) -> None:
    def cut(index: int, turn: int) -> str:
        return "never ending" * 40 if index == 0 else f"Answer {index % 2}.{END}"

    trainer = trainer_for(tmp_path, cut, settings={"mask_truncated_completions": True})
    batch = scored(trainer)
    assert batch["tool_mask"].sum(1).tolist()[0] == 0
    assert batch["tool_mask"].sum(1).min() == 0
    assert batch["old_logps"][0] == 0


def test_real_generation_and_a_ready_rollout(tmp_path: Path) -> None:
    trainer = ToolRLOOTrainer(
        model=seeded_model(),
        rollout=MultiTurnRollout([add], parser=parser(NAME)),
        reward_funcs=lambda completion_ids, **_: [float(len(ids) % 3) for ids in completion_ids],
        args=config(tmp_path, RLOOConfig, max_steps=2, max_completion_length=12),
        train_dataset=questions(),
        processing_class=tokenizer(NAME),
    )
    trainer.train()
    assert trainer.state.global_step == 2
    with pytest.raises(TypeError, match="ToolRLOOTrainer brings its own rollout_func"):
        ToolRLOOTrainer(model=seeded_model(), rollout_func=print)
