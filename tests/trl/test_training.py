"""Through the installed GRPOTrainer, on the CPU, with a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig

from fixtures.tiny import tiny_model
from trl_integration import (
    Budget,
    MultiTurnRollout,
    Rollout,
    Sampled,
    ToolGRPOTrainer,
    TransformersBackend,
    per_rollout,
)

from .helpers import CALL, END, NAME, add, ids_of, parser, scripted, tokenizer, written

pytestmark = pytest.mark.slow


def seeded_model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return tiny_model(tokenizer(NAME))


def config(folder: Path, kind: type = GRPOConfig, **options: Any) -> Any:
    """Arguments of a trainer: one step of one group of four."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 256,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "learning_rate": 1e-3,
    }
    if kind in (GRPOConfig, RLOOConfig):
        settings["beta"] = 0.0
    return kind(**{**settings, **options})


def questions(count: int = 8) -> Dataset:
    return Dataset.from_list(
        [{"prompt": [{"role": "user", "content": f"Question {at}"}], "answer": at} for at in range(count)]
    )


def script(index: int, turn: int) -> str:
    return CALL if turn == 0 else f"Answer {index % 2}.{END}"


@per_rollout
def second(rollout: Rollout) -> float:
    """Odd rollouts are right."""
    return float(rollout.answer.startswith("Answer 1"))


def trainer_with(
    folder: Path,
    script: Any = script,
    *,
    kind: type = ToolGRPOTrainer,
    rollout: MultiTurnRollout | None = None,
    reward_funcs: Any = second,
    **options: Any,
) -> Any:
    """A trainer that rolls out through this rollout, or plays the script."""
    loop = rollout or MultiTurnRollout([add], parser=parser(NAME), backend=scripted(script))
    return kind(
        model=seeded_model(),
        reward_funcs=reward_funcs,
        args=config(folder, **options),
        train_dataset=questions(),
        processing_class=tokenizer(NAME),
        **{"rollout_func" if kind is GRPOTrainer else "rollout": loop},
    )


def scored(trainer: Any) -> dict[str, Any]:
    """One batch of scored rollouts, as the loss gets it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # set by the training loop, which isn't running here
    batch: dict[str, Any] = trainer._generate_and_score_completions([dict(trainer.train_dataset[0]) for _ in range(4)])
    return batch


@pytest.mark.parametrize("kind", [GRPOTrainer, ToolGRPOTrainer])
@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_masks_reach_the_loss_as_they_are(tmp_path: Path, kind: type) -> None:
    trainer = trainer_with(tmp_path, kind=kind)
    batch = scored(trainer)
    loop = trainer.rollout_func if kind is GRPOTrainer else trainer.rollout
    width = batch["completion_ids"].shape[1]
    for row, rollout in enumerate(loop.last):
        transcript = rollout.transcript
        length = transcript.completion_length
        assert batch["completion_ids"][row, :length].tolist() == transcript.completion_ids
        assert batch["tool_mask"][row, :length].tolist() == transcript.tool_mask
        assert batch["completion_mask"][row].tolist() == [1] * length + [0] * (width - length)
        # What the loss multiplies with is 1 exactly on the sampled tokens.
        used = (batch["completion_mask"] * batch["tool_mask"])[row]
        assert int(used.sum()) == transcript.sampled_length


def test_25_the_loss_depends_on_sampled_tokens_only(tmp_path: Path) -> None:
    """Changing the target at an injected token leaves the loss as it is; at a sampled token it changes it."""
    trainer = trainer_with(tmp_path)
    batch = scored(trainer)
    [rollout, *_] = trainer.rollout.last
    mask = rollout.transcript.tool_mask
    assert 0 in mask
    inner = trainer._get_per_token_logps_and_entropies

    def loss_with(position: int | None) -> tuple[float, torch.Tensor]:
        """The loss when the log-prob of one position of row 0 is that of another target token."""

        def changed(*args: Any, **kwargs: Any) -> Any:
            logps, entropies, aux = inner(*args, **kwargs)
            if position is not None:
                shift = torch.zeros_like(logps)
                shift[0, position] = 3.0
                logps = logps + shift
            return logps, entropies, aux

        trainer._get_per_token_logps_and_entropies = changed
        try:
            trainer.model.zero_grad()
            # Importance ratios against the unchanged policy, so that a changed log-prob is seen by the loss.
            frozen = {**batch, "old_per_token_logps": base_logps}
            loss = trainer._compute_loss(trainer.model, frozen)
            loss.backward()
            grads = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
            return float(loss.detach()), grads.clone()
        finally:
            trainer._get_per_token_logps_and_entropies = inner

    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        base_logps, _, _ = inner(trainer.model, ids, attention, batch["completion_ids"].shape[1])
    plain, plain_grads = loss_with(None)
    for position, own in enumerate(mask):
        if position % 9 and position not in (mask.index(0), len(mask) - 1):
            continue  # a sample of positions, always with the first injected and the last sampled one
        value, grads = loss_with(position)
        if own:
            assert value != plain
        else:
            assert value == plain
            assert torch.equal(grads, plain_grads)


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_24_log_probs_of_sampled_tokens_equal_a_recomputed_forward(tmp_path: Path, temperature: float) -> None:
    trainer = trainer_with(tmp_path, temperature=temperature, max_completion_length=200)

    class CallsFirst:
        """Plays a call, then lets the model sample freely: a free random model would never write a call."""

        def __init__(self) -> None:
            self.free = TransformersBackend(trainer)
            self.turn = 0

        def generate(self, prompts: Any, budgets: Any, stop_ids: Any, places: Any = ()) -> list[Sampled]:
            self.turn += 1
            if self.turn > 1:
                return self.free.generate(prompts, [min(b, 24) for b in budgets], stop_ids)
            ids = ids_of(NAME, CALL)
            with torch.no_grad():
                rows = torch.tensor([[*prompt, *ids] for prompt in prompts])
                logits = trainer.model(input_ids=rows).logits[:, :-1] / temperature
                chosen = torch.log_softmax(logits, -1).gather(2, rows[:, 1:, None]).squeeze(2)[:, -len(ids) :]
            return [Sampled(list(ids), values, "stop") for values in chosen.tolist()]

    trainer.rollout.backend = CallsFirst()
    batch = scored(trainer)
    rollout = trainer.rollout.last[0]
    assert rollout.transcript.turns == 2
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    with torch.no_grad():
        trainer.model.eval()
        recomputed, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, attention, batch["completion_ids"].shape[1]
        )
    used = (batch["completion_mask"] * batch["tool_mask"]).bool()
    given = batch["sampling_per_token_logps"]
    assert used.sum() > 0
    assert torch.allclose(given[used], recomputed[used], atol=1e-5)
    assert (given[~used] == 0).all()


def test_truncated_rollouts_can_be_left_out_of_the_loss(tmp_path: Path) -> None:
    def cut(index: int, turn: int) -> str:
        return "never ending" * 40 if index == 0 else f"Answer {index % 2}.<|im_end|>"

    trainer = trainer_with(tmp_path, cut, mask_truncated_completions=True)
    batch = scored(trainer)
    first = trainer.rollout.last[0]
    assert (first.stop_reason, first.keep) == ("length", False)
    assert batch["tool_mask"][0].sum() == 0
    # The unaltered mask of who wrote what is still there.
    assert sum(first.transcript.tool_mask) == first.transcript.sampled_length > 0
    assert batch["tool_mask"][1, :3].tolist() == [1, 1, 1]


def test_training_with_real_generation_logs_and_traces(tmp_path: Path) -> None:
    trainer = ToolGRPOTrainer(
        model=seeded_model(),
        tools=[add],
        reward_funcs=lambda completions, stop_reasons, **_: [float(len(c)) for c in completions],
        args=config(tmp_path, max_steps=2, max_completion_length=12),
        train_dataset=questions(),
        processing_class=tokenizer(NAME),
        parser=parser(NAME),
        budget=Budget(turns=3),
        trace=tmp_path / "trace.jsonl",
    )
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    assert any("rollout/turns" in entry for entry in trainer.state.log_history)
    entry = next(e for e in trainer.state.log_history if "rollout/turns" in e)
    assert sum(value for key, value in entry.items() if key.startswith("rollout/stop/")) == pytest.approx(1.0)
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert {line["step"] for line in lines} == {0, 1}
    assert lines[0]["rows"][0][0]["author"] == "prompt"
    assert lines[0]["rewards"] == {"<lambda>": 1.0}
    assert lines[0]["advantage"] == 0.0
    assert len(before) == len(list(trainer.model.parameters()))


def test_a_scripted_reward_difference_moves_the_policy(tmp_path: Path) -> None:
    """With rollouts that differ in reward, a step makes the better answer more likely: the gradient has the right sign."""
    trainer = trainer_with(tmp_path, learning_rate=5e-3, max_steps=3)
    tok = tokenizer(NAME)

    def preference() -> float:
        prompt = tok("Answer ")["input_ids"]
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([prompt])).logits[0, -1]
        return float(logits[tok("1")["input_ids"][0]] - logits[tok("0")["input_ids"][0]])

    before = preference()
    trainer.train()
    assert preference() > before


class Shelf:
    """An environment as TRL's environment_factory makes them, with rows and a reward of its own."""

    closed: ClassVar[list[int]] = []

    def reset(self, answer: int, **row: Any) -> str:
        self.answer = answer
        self.asked = 0
        return f" (row {answer})"

    def look(self) -> int:
        """Look."""
        self.asked += 1
        return self.answer

    def get_reward(self) -> float:
        return float(self.asked)

    def close(self) -> None:
        Shelf.closed.append(self.answer)


def test_environments_get_rows_give_rewards_and_are_closed(tmp_path: Path) -> None:
    turns = [written(NAME, ("look", {})), "Done.<|im_end|>"]

    def look_or_not(index: int, turn: int) -> str:
        return turns[turn] if index % 2 else turns[1]

    Shelf.closed = []
    loop = MultiTurnRollout(environments=Shelf, parser=parser(NAME), backend=scripted(look_or_not))
    trainer = trainer_with(tmp_path, rollout=loop, reward_funcs=None)
    trainer.train()
    entry = next(e for e in trainer.state.log_history if "reward" in e)
    assert entry["rewards/Shelf/mean"] == pytest.approx(0.5)
    rollouts = trainer.rollout.last
    assert all(r.prompt[-1]["content"].endswith(f"(row {r.row['answer']})") for r in rollouts)
    assert rollouts[1].results[0].value == rollouts[1].row["answer"]
    assert len(Shelf.closed) == 4


def test_columns_that_would_be_overwritten_are_refused(tmp_path: Path) -> None:
    trainer = trainer_with(tmp_path)
    trainer.train_dataset = trainer.train_dataset.add_column("messages", ["x"] * 8)
    with pytest.raises(ValueError, match="would overwrite: messages"):
        scored(trainer)


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_a_trainer_with_tools_of_its_own_is_refused() -> None:
    class Stub:
        tools = (add,)

    with pytest.raises(ValueError, match="give the tools to MultiTurnRollout only"):
        MultiTurnRollout([add])([], Stub())


def test_the_comparison_with_the_stock_trainer_runs() -> None:
    from benchmarks import grpo

    figures = grpo.run(steps=2, warm_steps=(2, 2), warm_rows=40, rollouts=8, tokens=16)
    stock, ours = figures["trainers"]["GRPOTrainer"], figures["trainers"]["ToolGRPOTrainer"]
    assert len(stock["rewards"]) == len(ours["rewards"]) == 2
    assert set(stock["shares"]) < set(ours["shares"])
    assert all(0 < found["shares"]["loop"] < found["shares"]["rollouts"] < 1 for found in (stock, ours))
