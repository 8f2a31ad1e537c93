"""``ToolGRPOTrainer``: the full loop inside of TRL's ``GRPOTrainer``, in one line.

It is a thin subclass. Generation goes through ``MultiTurnRollout`` as the trainer's ``rollout_func``; the
subclass adds what a rollout function can't do by itself: hand over the data set's rows (TRL passes prompts
only), give reward functions the real messages instead of texts decoded from flat ids, add the rewards of environments,
keep failed rollouts out of their group's mean, and close environments when their rewards are known.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer

from .environment import EnvironmentFactory, reward_of
from .executor import ToolExecutor
from .rollout import Budget, Rollout
from .tool_text import json_text
from .trl_adapter import MultiTurnRollout

__all__ = ["OVERRIDDEN", "ToolGRPOTrainer"]

OVERRIDDEN = ("_calculate_rewards", "_generate", "_generate_and_score_completions")
"""Private methods of ``GRPOTrainer`` that are overridden here; what they promise is tested."""

_COMPLETIONS = 3  # where GRPOTrainer._generate returns the completions that rewards see


class ToolGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO with multi-turn tool calling for any tokenizer that ``toolparse`` can read.

    ::

        ToolGRPOTrainer(model="...", tools=[search], reward_funcs=[score], train_dataset=dataset).train()

    Args:
        model: As for ``GRPOTrainer``, like everything that isn't named here (``args``, ``peft_config``, ...).
        reward_funcs: As for ``GRPOTrainer``; they may also ask for the fields that ``rewards.py`` lists. The reward of
            environments that have one is added, under the name of their class and with weight 1.
        tools: Functions that the model may call; sync or async.
        environments: A factory of environments, or a mapping of them by the rows' ``environment`` field.
        environment_factory: TRL's name for ``environments``.
        rollout: A ready ``MultiTurnRollout``, instead of the arguments below.
        budget: See ``MultiTurnRollout``, like the rest.
    """

    eos_token_ids: list[int]
    mask_truncated_completions: bool

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        *others: Any,
        tools: Iterable[Any] | None = None,
        environments: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None = None,
        environment_factory: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None = None,
        rollout: MultiTurnRollout | None = None,
        budget: Budget | None = None,
        executor: ToolExecutor | None = None,
        timeouts: Mapping[str, float] | None = None,
        injected: Mapping[str, Any] | None = None,
        parser: Any = None,
        mask_truncated: bool | None = None,
        trace: str | Path | None = None,
        **named: Any,
    ) -> None:
        if "rollout_func" in named:
            raise TypeError("ToolGRPOTrainer brings its own rollout_func; pass rollout=MultiTurnRollout(...) instead")
        if environments is not None and environment_factory is not None:
            raise TypeError("environments and environment_factory are two names of one thing; pass one of them")
        parts = {
            "environments": environments if environments is not None else environment_factory,
            "budget": budget,
            "executor": executor,
            "timeouts": timeouts,
            "injected": injected,
            "parser": parser,
            "mask_truncated": mask_truncated,
            "trace": trace,
        }
        if rollout is None:
            rollout = MultiTurnRollout(tools or (), **parts)
        elif not isinstance(rollout, MultiTurnRollout):
            raise TypeError(f"rollout must be a MultiTurnRollout, got {rollout!r}")
        elif tools or any(value is not None for value in parts.values()):
            raise TypeError("pass either rollout=, or tools and the other arguments it is made from")
        self.rollout = rollout
        own = [] if reward_funcs is None else list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else None
        rewards: list[Any] = [reward_funcs] if own is None else own
        from_environments = _environment_rewards(rollout)
        if not rewards and not from_environments:
            raise ValueError(
                "No reward source provided. Pass `reward_funcs`, or an `environment_factory` whose environment "
                "defines a `get_reward` method."
            )
        if train_dataset is None:
            train_dataset = _placeholder_rows(rollout, args)
        with warnings.catch_warnings(), _weights(args, len(rewards), len(from_environments)):
            # TRL calls rollout_func experimental; whoever uses this class has chosen it.
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(
                model, rewards + from_environments, args, train_dataset, *others, rollout_func=self._roll_out, **named
            )
        self._env_tools = {name: box.functions for name, box in rollout.pool.probe().items()}
        if rollout.mask_truncated is None:
            rollout.mask_truncated = self.mask_truncated_completions
        # Refuse now, not after the first batch, what this tokenizer's template can't carry.
        rollout.prepare(self)

    def _roll_out(self, prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        """The rollout function; afterwards TRL counts as finished what this loop counts as finished."""
        output = self.rollout(prompts, trainer)
        last = {r.transcript.completion_ids[-1] for r in self.rollout.last if not r.truncated}
        self.eos_token_ids = [*self.eos_token_ids, *sorted(last.difference(self.eos_token_ids))]
        return output

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.rollout.next_rows = [dict(row) for row in inputs]
        if self.rollout.pool.has_environments:
            # An environment may bring the prompt itself.
            inputs = [{"prompt": [{"role": "user", "content": ""}], **row} for row in inputs]
        # Truncated rollouts are left out by the loop, which knows better than the last token does.
        masked, self.mask_truncated_completions = self.mask_truncated_completions, False
        try:
            scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self.mask_truncated_completions = masked
            self.rollout.next_rows = None
            self.rollout.forget_last(keep=True)
        for name in ("prompt", "completion"):
            self._logs[name] = type(self._logs[name])(map(_for_a_table, self._logs[name]), self._logs[name].maxlen)
        return scored

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        # With a response template on the tokenizer TRL would parse the flat ids once more, only to build the
        # completions that are replaced below; and a model can write text on which that parse doesn't end
        # well.
        template, eos = getattr(self._tokenizer, "response_template", None), self.eos_token_ids
        self._tokenizer.response_template = None
        try:
            output = list(super()._generate(prompts))
        finally:
            self._tokenizer.response_template, self.eos_token_ids = template, eos
        if isinstance(prompts[0], list):
            output[_COMPLETIONS] = [rollout.messages for rollout in self.rollout.last]
            # In place: these are the prompts that reward functions get, and environments may have added to them.
            prompts[:] = [rollout.prompt for rollout in self.rollout.last]
        return tuple(output)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        failed = torch.tensor([rollout.failed for rollout in self.rollout.last], device=self.accelerator.device)
        # Without a reward of any kind a rollout has no advantage and doesn't count in its group's mean.
        rewards[self.accelerator.gather(failed)] = math.nan
        return rewards


@contextlib.contextmanager
def _weights(args: GRPOConfig | None, own: int, added: int) -> Iterator[None]:
    """``reward_weights`` are those of the reward functions that were passed; environments have weight 1."""
    weights = getattr(args, "reward_weights", None)
    if args is None or weights is None:
        yield
        return
    if len(weights) != own:
        raise ValueError(
            f"Number of reward weights ({len(weights)}) must match number of reward functions ({own}); "
            "the rewards of environments have weight 1"
        )
    args.reward_weights = [*weights, *[1.0] * added]
    try:
        yield
    finally:
        args.reward_weights = weights


def _environment_rewards(rollout: MultiTurnRollout) -> list[Any]:
    """One reward function per class of environments that has a reward, named after the class as TRL names it."""
    kinds = {type(instance): None for instance in rollout.pool.instances() if reward_of(instance) is not None}

    def made(kind: type) -> Any:
        def reward(**fields: Any) -> list[float | None]:
            rollouts: list[Rollout] = fields[f"{rollout.prefix}rollouts"]
            return rollout.rewards(rollouts, kind)

        reward.__name__ = kind.__name__
        return reward

    return [made(kind) for kind in kinds]


def _for_a_table(value: Any) -> Any:
    """Messages whose arguments and contents are text: a column of a table has one type, what models write has many."""
    if not isinstance(value, list):
        return value
    out = []
    for message in value:
        message = dict(message)
        if not isinstance(message.get("content"), str):
            message["content"] = json_text(message.get("content"))
        if message.get("tool_calls"):
            message["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": json_text(call["function"].get("arguments"))}}
                for call in message["tool_calls"]
            ]
        out.append(message)
    return out


def _placeholder_rows(rollout: MultiTurnRollout, args: GRPOConfig | None) -> Any:
    """Empty prompts for environments that bring the prompt themselves (``reset`` returns it)."""
    from datasets import Dataset

    if not rollout.pool.has_environments:
        raise ValueError("`train_dataset` is required unless an `environment_factory` is provided.")
    if isinstance(rollout.pool.factory, Mapping):
        raise ValueError(
            "A `dict` `environment_factory` (multiple environments) requires a `train_dataset` with an `environment` "
            "column to route each example to its environment. Provide a dataset, or pass a single environment factory."
        )
    if args is None or args.max_steps <= 0:
        raise ValueError(
            "When training without a `train_dataset` (the environment owns the data and returns the prompt from "
            "`reset()`), `max_steps` must be set to a positive value to define the training length. Set it via "
            "`GRPOConfig(max_steps=...)`."
        )
    count = max(1, args.generation_batch_size // args.num_generations)
    return Dataset.from_list([{"prompt": [{"role": "user", "content": ""}]} for _ in range(count)])
