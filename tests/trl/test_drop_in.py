"""ToolGRPOTrainer takes what GRPOTrainer takes and reports what it reports; written from TRL's documentation."""

from __future__ import annotations

import copy
import inspect
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOTrainer

from trl_integration import (
    Budget,
    MultiTurnRollout,
    Rollout,
    Sampled,
    ToolGRPOTrainer,
    ToolRLOOTrainer,
    per_rollout,
)
from trl_integration.trainer import OVERRIDDEN

from .helpers import CALL, END, NAME, add, ids_of, parser, scripted, tokenizer, written
from .test_training import config, questions, scored, script, seeded_model, trainer_with

pytestmark = pytest.mark.slow


def ones(completions: list[Any], **fields: Any) -> list[float]:
    """A reward that differs within a group."""
    return [float(at % 2) for at, _ in enumerate(completions)]


def trainer_for(folder: Path, script: Any, *, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    common: dict[str, Any] = {
        "model": seeded_model(),
        "args": config(folder, **(settings or {})),
        "train_dataset": questions(),
        "processing_class": tokenizer(NAME),
        "parser": parser(NAME),
    }
    trainer = ToolGRPOTrainer(**{**common, **options})
    trainer.rollout.backend = scripted(script)
    return trainer


def entry_of(trainer: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in trainer.state.log_history if "reward" in e)
    return found


def test_trl_still_has_the_private_methods_that_are_overridden() -> None:
    """When TRL moves one of these, this says which."""
    known = {
        "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
        "_generate": ["self", "prompts"],
        "_generate_and_score_completions": ["self", "inputs"],
    }
    only_rloo = {
        "_compute_loss": ["self", "model", "inputs"],
        "_generate_single_turn": ["self", "prompt_ids", "images", "multimodal_fields"],
        "_tokenize_prompts": ["self", "prompts"],
    }
    for stock, ours, mine in ((GRPOTrainer, ToolGRPOTrainer, known), (RLOOTrainer, ToolRLOOTrainer, known | only_rloo)):
        assert set(OVERRIDDEN[stock]) - {"_get_per_token_logps_and_entropies"} == set(mine)
        for name, parameters in mine.items():
            assert list(inspect.signature(getattr(stock, name)).parameters) == parameters, name
            assert getattr(ours, name) is not getattr(stock, name)
    asked = list(inspect.signature(RLOOTrainer._get_per_token_logps_and_entropies).parameters)
    assert asked[:5] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    rloo = inspect.getsource(RLOOTrainer)
    assert "return prompt_ids, completion_ids, completions" in rloo
    assert "prompt_ids, images, multimodal_fields = self._tokenize_prompts(prompts)" in rloo
    assert "logps = (per_token_logps * completion_mask).sum(1)" in rloo
    source = inspect.getsource(GRPOTrainer._generate)
    assert "prompt_ids, completion_ids, tool_mask, completions, logprobs" in source.rpartition("return ")[2]
    # The attributes that are read or set.
    whole = inspect.getsource(GRPOTrainer)
    for name in ("_metrics", "_logs", "_tokenizer", "eos_token_ids", "mask_truncated_completions", "chat_template"):
        assert f"self.{name}" in whole, name
    taken = set(inspect.signature(GRPOTrainer.__init__).parameters) - {"self", "rollout_func"}
    mine = inspect.signature(ToolGRPOTrainer.__init__).parameters
    assert {"tools", "environment_factory", "reward_funcs", "model", "args", "train_dataset"} <= taken & set(mine)


def test_step_for_step_as_the_stock_trainer(tmp_path: Path) -> None:
    """The same sampled turns in both: the same ids, masks, advantages and gradient; broken calls end in both."""
    firsts = [
        CALL,
        "No." + END,
        written(NAME, ("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})),
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}' + END,
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2,}}\n</tool_call>' + END,
        '<tool_call>\n{"name": "add", "arguments": {"a": \n</tool_call>' + END,
        CALL[: -len(END)] + "\n<tool_call>\nnothing\n</tool_call>" + END,
        "<tool_call>\n" + CALL,
        "Let me see.\n</tool_call>\n" + CALL,
    ]

    backend = scripted([[turn, "3." + END] for turn in firsts])

    def played(kind: type, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        own = copy.deepcopy(tokenizer(NAME))  # the stock trainer changes it
        model = seeded_model()

        def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            begins = "tool_response>" not in own.decode(input_ids[0][-40:])
            turns = [own(text)["input_ids"] for text in (firsts if begins else ["3." + END] * len(input_ids))]
            return torch.cat(
                [input_ids, own.pad({"input_ids": turns}, padding_side="right", return_tensors="pt").input_ids], 1
            )

        model.generate = generate
        settings = config(tmp_path, per_device_train_batch_size=9, num_generations=9)
        trainer = kind(
            model=model,
            reward_funcs=lambda completions, **_: [float(len(messages)) for messages in completions],
            args=settings,
            train_dataset=questions(),
            processing_class=own,
            tools=[add],
            **options,
        )
        if kind is ToolGRPOTrainer:
            trainer.rollout.backend = backend
        batches: list[dict[str, Any]] = []
        inner = trainer._generate_and_score_completions
        trainer._generate_and_score_completions = lambda inputs: batches.append(inner(inputs)) or batches[-1]
        trainer.train()
        return batches[0], entry_of(trainer)

    ours, mine = played(ToolGRPOTrainer, malformed="end", parser=parser(NAME))
    stock, theirs = played(GRPOTrainer)
    for name in ("prompt_ids", "completion_ids", "completion_mask", "tool_mask", "advantages"):
        assert torch.equal(ours[name], stock[name]), name
    for name in ("reward", "loss", "grad_norm", "completions/mean_length"):
        assert mine[name] == theirs[name], name
    assert mine["rollout/tools/executed"] == pytest.approx(theirs["tools/call_frequency"]) == 4 / 9


def test_metrics_are_there_under_trls_names_too(tmp_path: Path) -> None:
    bad = '<tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_call>' + END

    def script(index: int, turn: int) -> str:
        return "Ok." + END if turn else (CALL if index % 2 else bad)

    trainer = trainer_for(tmp_path, script, tools=[add], reward_funcs=ones)
    trainer.train()
    entry = entry_of(trainer)
    assert entry["tools/call_frequency"] == 1.0
    assert entry["tools/failure_frequency"] == 0.5
    assert entry["rollout/tool/add/calls"] == 0.5
    assert entry["rollout/tool/add/seconds"] >= 0
    assert entry["rollout/tools/lost"] == 0
    assert entry["completions/clipped_ratio"] == 0.0


class Counter:
    def reset(self, **row: Any) -> str:
        self.at = 0
        return " Count."

    def up(self) -> int:
        """Go up."""
        self.at += 1
        return self.at

    def get_reward(self) -> float:
        return float(self.at)


class Silent:
    def reset(self, **row: Any) -> None:
        pass

    def up(self) -> int:
        """Go up."""
        return 0


def test_rewards_of_environments_are_named_after_their_class_and_weigh_one(tmp_path: Path) -> None:
    def script(index: int, turn: int) -> str:
        return written(NAME, ("up", {})) if turn == 0 and index < 2 else "Ok." + END

    trainer = trainer_for(
        tmp_path,
        script,
        settings={"reward_weights": [2.0]},
        reward_funcs=ones,
        environment_factory=Counter,
    )
    assert trainer.reward_func_names == ["ones", "Counter"]
    assert trainer.reward_weights.tolist() == [2.0, 1.0]
    assert trainer.args.reward_weights == [2.0]
    assert [tool.__name__ for tool in trainer._env_tools[None]] == ["up"]
    trainer.train()
    entry = entry_of(trainer)
    assert entry["rewards/Counter/mean"] == pytest.approx(0.5)
    assert entry["reward"] == pytest.approx(2 * 0.5 + 0.5)


def test_several_environments_are_chosen_by_the_row_and_only_theirs_is_asked(tmp_path: Path) -> None:
    rows = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": "Go"}], "environment": name} for name in ("counter", "silent")]
    )
    trainer = trainer_for(
        tmp_path,
        [["Ok." + END]] * 8,
        settings={"per_device_train_batch_size": 8},
        reward_funcs=ones,
        environment_factory={"counter": Counter, "silent": Silent},
        train_dataset=rows,
        rollout=None,
    )
    assert set(trainer._env_tools) == {"counter", "silent"}
    trainer.train()
    assert trainer.reward_func_names == ["ones", "Counter"]
    with pytest.raises(ValueError, match="Example has `environment='chess'`, which is not among the environments"):
        trainer._generate_and_score_completions([{"prompt": rows[0]["prompt"], "environment": "chess"}] * 4)


def test_what_is_missing_is_said_in_trls_words(tmp_path: Path) -> None:
    common: dict[str, Any] = {"model": seeded_model(), "processing_class": tokenizer(NAME), "parser": parser(NAME)}
    args = config(tmp_path)
    with pytest.raises(ValueError, match="No reward source provided"):
        ToolGRPOTrainer(**common, args=args, train_dataset=questions(), tools=[add])
    with pytest.raises(ValueError, match="`train_dataset` is required unless an `environment_factory` is provided"):
        ToolGRPOTrainer(**common, args=args, reward_funcs=ones, tools=[add])
    with pytest.raises(ValueError, match="`max_steps` must be set to a positive value"):
        ToolGRPOTrainer(**common, args=config(tmp_path, max_steps=-1), environment_factory=Counter)
    with pytest.raises(ValueError, match="requires a `train_dataset` with an `environment` column"):
        ToolGRPOTrainer(**common, args=args, environment_factory={"a": Counter})
    with pytest.raises(ValueError, match="must define a callable `reset`"):
        ToolGRPOTrainer(**common, args=args, train_dataset=questions(), environment_factory=dict)
    with pytest.raises(ValueError, match=r"Number of reward weights \(2\) must match number of reward functions \(1\)"):
        ToolGRPOTrainer(
            **common,
            args=config(tmp_path, reward_weights=[1.0, 2.0]),
            reward_funcs=ones,
            train_dataset=questions(),
            environment_factory=Counter,
        )


def test_wrong_types_are_refused_in_the_constructor(tmp_path: Path) -> None:
    common: dict[str, Any] = {
        "model": seeded_model(),
        "args": config(tmp_path),
        "reward_funcs": ones,
        "train_dataset": questions(),
        "processing_class": tokenizer(NAME),
        "parser": parser(NAME),
    }
    with pytest.raises(TypeError, match=r"write tools=\[\.\.\.\]"):
        ToolGRPOTrainer(**common, tools=add)
    with pytest.raises(TypeError, match=r"write budget=Budget\(\.\.\.\)"):
        ToolGRPOTrainer(**common, tools=[add], budget={"turns": 2})
    with pytest.raises(TypeError, match="environments must come from a factory"):
        ToolGRPOTrainer(**common, environments=Counter())
    with pytest.raises(TypeError, match="two names of one thing"):
        ToolGRPOTrainer(**common, environments=Counter, environment_factory=Counter)
    with pytest.raises(TypeError, match="rollout must be a MultiTurnRollout"):
        ToolGRPOTrainer(**common, rollout=print)
    # What would have no effect is most likely misspelt.
    for options, said in (
        ({"timeouts": {"ad": 3.0}}, "timeouts has 'ad', but no tool is called so; there are add"),
        ({"timeouts": {"add": -1}}, r"timeouts\['add'\] must be a positive number of seconds, got -1"),
        ({"injected": {"user": 1}}, "injected has 'user'"),
        ({"trace": tmp_path}, "trace must be a file"),
    ):
        with pytest.raises(ValueError, match=said):
            ToolGRPOTrainer(**common, tools=[add], **options)
    with pytest.raises(TypeError, match="compact must be a function of the messages and their tokens"):
        ToolGRPOTrainer(**common, tools=[add], compact=lambda messages: None)
    assert ToolGRPOTrainer(**common, tools=[add], timeouts={"add": 3, "reset": 1.0}).rollout.pool.timeouts["add"] == 3
    trainer = ToolGRPOTrainer(**{**common, "reward_funcs": lambda **_: None}, tools=[add])
    with pytest.raises(TypeError, match="'<lambda>' returned None; it must return a list"):
        trainer.reward_funcs[0]()
    # No tools is as good as none.
    assert ToolGRPOTrainer(**common, tools=None).rollout.pool.shared.names == []


def test_an_environment_may_bring_the_prompt_and_rewards_see_it(tmp_path: Path) -> None:
    seen: list[Any] = []

    def watch(prompts: list[Any], **fields: Any) -> list[float]:
        seen.extend(prompts)
        return ones(prompts)

    trainer = trainer_for(tmp_path, [["Ok." + END]] * 4, reward_funcs=watch, environments=Counter, train_dataset=None)
    trainer.train()
    assert [p[-1]["content"] for p in seen] == [" Count."] * 4


def test_trls_limit_of_rounds_counts_beside_a_budget(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path,
        [[CALL] * 9] * 4,
        settings={"max_tool_calling_iterations": 2},
        tools=[add],
        reward_funcs=ones,
        budget=Budget(turns=7),
    )
    trainer.train()
    assert [r.transcript.turns for r in trainer.rollout.last] == [3] * 4
    assert {r.stop_reason for r in trainer.rollout.last} == {"max_turns"}


def test_failed_rollouts_have_no_advantage_and_do_not_move_their_group(tmp_path: Path) -> None:
    class Shaky(Counter):
        made = 0

        def reset(self, **row: Any) -> str:
            Shaky.made += 1
            self.at = 0
            if Shaky.made % 4 == 1:
                raise ConnectionError("the server is down")
            return ""

    trainer = trainer_for(
        tmp_path,
        lambda index, turn: written(NAME, ("up", {})) if turn == 0 and index % 2 else "Ok." + END,
        environments=Shaky,
    )
    batch = scored(trainer)
    failed = [at for at, r in enumerate(trainer.rollout.last) if r.failed]
    assert len(failed) == 1
    assert (batch["completion_mask"] * batch["tool_mask"])[failed[0]].sum() == 0
    # Reward functions index into completions: there is a message, with nothing in it.
    assert trainer.rollout.last[failed[0]].messages == [{"role": "assistant", "content": ""}]
    assert batch["advantages"][failed[0]] == 0
    rewards = [float(r.environment.at) for at, r in enumerate(trainer.rollout.last) if at not in failed]
    mean = sum(rewards) / len(rewards)
    others = [float(value) for at, value in enumerate(batch["advantages"]) if at not in failed]
    assert [value > 0 for value in others] == [reward > mean for reward in rewards]


def test_prefixed_fields_still_find_their_rewards(tmp_path: Path) -> None:
    @per_rollout
    def score(rollout: Rollout) -> float:
        return float(len(rollout.answer))

    loop = MultiTurnRollout(
        environments=Counter,
        parser=parser(NAME),
        prefix="rollout_",
        backend=scripted([["Ok." + END]] * 4),
    )
    trainer = trainer_for(
        tmp_path,
        [["Ok." + END]] * 4,
        rollout=loop,
        parser=None,
        reward_funcs=score,
        train_dataset=questions().add_column("messages", ["x"] * 8),
    )
    trainer.train()
    assert entry_of(trainer)["rewards/score/mean"] == 3.0
    assert entry_of(trainer)["rewards/Counter/mean"] == 0.0


def test_completions_are_logged_whatever_types_arguments_have(tmp_path: Path) -> None:
    def script(index: int, turn: int) -> str:
        wrong = '<tool_call>\n{"name": "add", "arguments": {"a": "one \\ud800", "b": [1]}}\n</tool_call>' + END
        return "Ok." + END if turn else (CALL if index % 2 else wrong)

    trainer = trainer_for(tmp_path, script, settings={"log_completions": True}, tools=[add], reward_funcs=ones)
    trainer.train()
    [path] = tmp_path.glob("completions/*.parquet")
    completions = pd.read_parquet(path)["completion"]
    assert [c[0]["tool_calls"][0]["function"]["arguments"] for c in completions][1] == '{"a": 1, "b": 2}'


def test_finished_turns_that_end_on_no_eos_are_not_dropped(tmp_path: Path) -> None:
    model = seeded_model()
    model.generation_config.eos_token_id = None

    def script(index: int, turn: int) -> Sampled:
        ids = ids_of(NAME, "Ok.</tool_call>" if index else "Ok.")
        return Sampled(ids, [-1.0] * len(ids), "stop_string" if index else "length")

    trainer = trainer_for(
        tmp_path,
        script,
        model=model,
        settings={"mask_truncated_completions": True},
        tools=[add],
        reward_funcs=ones,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="mask_truncated_completions drops")
        batch = scored(trainer)
    kept = (batch["completion_mask"] * batch["tool_mask"]).sum(dim=1)
    assert kept[0] == 0  # cut off
    assert (kept[1:] > 0).all()
    assert trainer.mask_truncated_completions is True
    assert trainer._metrics["train"]["completions/clipped_ratio"][-1] == 0.25


@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_with_the_stock_trainer_that_is_warned_of(tmp_path: Path) -> None:
    ids = ids_of(NAME, "Ok.</tool_call>")
    stopped = Sampled(ids, [-1.0] * len(ids), "stop_string")
    trainer = trainer_with(tmp_path, lambda i, t: stopped, kind=GRPOTrainer, mask_truncated_completions=True)
    with pytest.warns(UserWarning, match="mask_truncated_completions drops finished rollouts here"):
        scored(trainer)


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 2},
        {"num_iterations": 2, "max_steps": 2},
        {"steps_per_generation": 2, "max_steps": 2},
        {"scale_rewards": "batch", "loss_type": "dapo"},
    ],
    ids=lambda s: "-".join(s),
)
def test_settings_of_the_trainer_work(tmp_path: Path, settings: dict[str, Any]) -> None:
    trainer = trainer_for(tmp_path, script, settings=settings, tools=[add], reward_funcs=ones)
    trainer.train()
    assert torch.isfinite(torch.tensor(entry_of(trainer)["loss"]))


def test_evaluation_and_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    settings["per_device_eval_batch_size"] = 4
    first = trainer_for(tmp_path, script, settings=settings, tools=[add], reward_funcs=ones, eval_dataset=questions(2))
    first.train()
    assert any("eval_reward" in e for e in first.state.log_history)
    more = trainer_for(
        tmp_path,
        script,
        settings={**settings, "max_steps": 2},
        tools=[add],
        reward_funcs=ones,
        eval_dataset=questions(2),
    )
    more.train(resume_from_checkpoint=True)
    assert more.state.global_step == 2
    assert isinstance(more.args, GRPOConfig)
