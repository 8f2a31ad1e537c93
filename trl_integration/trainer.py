"""``ToolGRPOTrainer`` and ``ToolRLOOTrainer``: the full loop inside of TRL's trainers, in one line.

They are thin subclasses. Generation goes through a ``MultiTurnRollout``; what both add is what a rollout function
can't do by itself: hand over the data set's rows (TRL passes prompts only), give reward functions the real messages
instead of texts decoded from flat ids, add the rewards of environments, keep failed rollouts out of their group's mean,
give credit to turns, write traces with rewards, and close environments when their rewards are known.

``GRPOTrainer`` takes a rollout function and a mask of injected tokens. ``RLOOTrainer`` has neither, so there the
rollouts stand in for its own generation, and injected tokens are taken out of every sum of log-probs.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer, RLOOTrainer
from trl.trainer.utils import get_callable_name, is_async_callable, nanstd

from .environment import EnvironmentFactory, reward_of
from .executor import ToolExecutor
from .rewards import with_turns
from .rollout import Budget, Rollout
from .tool_text import json_text
from .trl_adapter import MultiTurnRollout

__all__ = ["OVERRIDDEN", "ToolGRPOTrainer", "ToolRLOOTrainer"]

_BOTH = ("_calculate_rewards", "_generate", "_generate_and_score_completions")
OVERRIDDEN: dict[type, tuple[str, ...]] = {
    GRPOTrainer: _BOTH,
    RLOOTrainer: (
        *_BOTH,
        "_compute_loss",
        "_generate_single_turn",
        "_get_per_token_logps_and_entropies",
        "_tokenize_prompts",
    ),
}
"""Private methods of TRL's trainers that are overridden here; what they promise is tested."""


class _ToolTrainer:
    """What both trainers add to TRL's; ``ToolGRPOTrainer`` says what the arguments are."""

    # TRL's, as far as they are used here.
    accelerator: Any
    eos_token_ids: list[int]
    mask_truncated_completions: bool
    reward_func_names: list[str]
    _logs: dict[str, Any]
    _tokenizer: Any

    _completions_at: int  # where TRL's _generate returns the completions that rewards see

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: Any = None,
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
        malformed: str | None = None,
        compact: Any = None,
        trace: str | Path | None = None,
        **named: Any,
    ) -> None:
        if "rollout_func" in named:
            kind = type(self).__name__
            raise TypeError(f"{kind} brings its own rollout_func; pass rollout=MultiTurnRollout(...) instead")
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
            "malformed": malformed,
            "compact": compact,
            "trace": trace,
        }
        if rollout is None:
            rollout = MultiTurnRollout(tools or (), **{name: part for name, part in parts.items() if part is not None})
        elif not isinstance(rollout, MultiTurnRollout):
            raise TypeError(f"rollout must be a MultiTurnRollout, got {rollout!r}")
        elif tools or any(value is not None for value in parts.values()):
            raise TypeError("pass either rollout=, or tools and the other arguments it is made from")
        self.rollout = rollout
        rollout.traced_later = True
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
            super().__init__(  # type: ignore[call-arg]
                model,
                [self._with_turns(function) for function in rewards] + from_environments,
                args,
                train_dataset,
                *others,
                **({"rollout_func": self._roll_out} if isinstance(self, GRPOTrainer) else {}),
                **named,
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
            scored: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
            for rollout, advantage in zip(self.rollout.last, scored["advantages"].tolist(), strict=True):
                rollout.advantage = advantage
            self.rollout.write_traces(self)
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
            output = list(super()._generate(prompts))  # type: ignore[misc]
        finally:
            self._tokenizer.response_template, self.eos_token_ids = template, eos
        if isinstance(prompts[0], list):
            output[self._completions_at] = [rollout.messages for rollout in self.rollout.last]
            # In place: these are the prompts that reward functions get, and environments may have added to them.
            prompts[:] = [rollout.prompt for rollout in self.rollout.last]
        return tuple(output)

    def _with_turns(self, function: Any) -> Any:
        """The reward function with its values per turn summed up for TRL and kept for the rollouts."""
        if not callable(function) or isinstance(function, torch.nn.Module):
            return function
        name = get_callable_name(function)

        def keep(values: Sequence[Sequence[float] | None]) -> None:
            for rollout, turns in zip(self.rollout.last, values, strict=True):
                if turns is None:
                    continue
                if len(turns) != len(rollout.turns) and not rollout.failed:
                    raise ValueError(
                        f"The reward function {name!r} returned {len(turns)} values for {len(rollout.turns)} turns; "
                        "give one for each turn (None where there is nothing to say), or one number"
                    )
                if name in rollout.turn_rewards:
                    raise ValueError(f"two reward functions with values per turn are called {name!r}; rename one")
                rollout.turn_rewards[name] = list(turns)

        wrapped = with_turns(function, keep, is_async_callable(function))
        wrapped.__name__ = name
        return wrapped

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)  # type: ignore[misc]
        rollouts = self.rollout.last
        failed = torch.tensor([rollout.failed for rollout in rollouts], device=self.accelerator.device)
        # Without a reward of any kind a rollout has no advantage and doesn't count in its group's mean.
        rewards[self.accelerator.gather(failed)] = math.nan
        first = self.accelerator.process_index * len(rollouts)
        for rollout, values in zip(rollouts, rewards[first : first + len(rollouts)].tolist(), strict=True):
            rollout.rewards = dict(zip(self.reward_func_names, values, strict=True))
        return rewards


class ToolGRPOTrainer(_ToolTrainer, GRPOTrainer):  # type: ignore[misc]
    """GRPO with multi-turn tool calling for any tokenizer that ``toolparse`` can read.

    ::

        ToolGRPOTrainer(model="...", tools=[search], reward_funcs=[score], train_dataset=dataset).train()

    Args:
        model: As for TRL's trainer, like everything that isn't named here (``args``, ``peft_config``, ...).
        reward_funcs: As for TRL's trainer; they may also ask for the fields that ``rewards.py`` lists, and give a list
            with a value for each turn in place of one value. The reward of environments that have one is added, under
            the name of their class and with weight 1.
        tools: Functions that the model may call; sync or async.
        environments: A factory of environments, or a mapping of them by the rows' ``environment`` field.
        environment_factory: TRL's name for ``environments``.
        rollout: A ready ``MultiTurnRollout``, instead of the arguments below.
        budget: See ``MultiTurnRollout``, like the rest.
    """

    _completions_at = 3

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._scale = self._scale_of(rewards)
        return rewards

    def _scale_of(self, rewards: torch.Tensor) -> torch.Tensor:
        """What TRL divides each rollout's reward by, for all ranks: the spread of its group or of the batch."""
        unscored = rewards.isnan().all(dim=1)
        total = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
        total[unscored] = math.nan
        count = self.num_generations if self.model.training else self.num_generations_eval
        if self.scale_rewards == "none" or total.numel() < 2 or (self.scale_rewards == "group" and count < 2):
            return torch.ones_like(total)
        if self.scale_rewards == "batch":
            return nanstd(total).expand_as(total) + 1e-4
        return nanstd(total.view(-1, count), dim=1).repeat_interleave(count) + 1e-4

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scored = super()._generate_and_score_completions(inputs)
        rollouts = self.rollout.last
        if self.multi_objective_aggregation != "sum_then_normalize" or not any(r.turn_rewards for r in rollouts):
            return scored
        weights = dict(zip(self.reward_func_names, self.reward_weights.tolist(), strict=True))
        scale = self._scale[self.accelerator.process_index * len(rollouts) :].tolist()
        advantages = scored["advantages"].unsqueeze(1).repeat(1, scored["completion_ids"].shape[1])
        for row, rollout in enumerate(rollouts):
            if rollout.failed or math.isnan(scale[row]):
                continue
            for name, values in rollout.turn_rewards.items():
                mean = sum(values) / len(values)
                # Of a conversation that was compacted only the last branch is a row here.
                mine = values[-rollout.transcript.turns :]
                more = rollout.transcript.per_token([weights[name] * (value - mean) / scale[row] for value in mine])
                advantages[row, : len(more)] += torch.tensor(more, device=advantages.device)
        return {**scored, "advantages": advantages}


class ToolRLOOTrainer(_ToolTrainer, RLOOTrainer):  # type: ignore[misc]
    """RLOO with multi-turn tool calling: takes what ``ToolGRPOTrainer`` takes.

    Values per turn are summed and logged: RLOO has one ratio, and so one advantage, for a whole completion.
    """

    _completions_at = 2
    _last_loaded_step: int
    _fields: dict[str, Any]
    _attention: torch.Tensor | None = None

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        if self.use_vllm and self.state.global_step != self._last_loaded_step:
            self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step
        self._fields = self._roll_out(prompts, self)
        return self._fields.pop("prompt_ids"), None, {}

    def _generate_single_turn(self, prompt_ids: Any, images: Any, multimodal_fields: Any) -> list[list[int]]:
        ids: list[list[int]] = self._fields.pop("completion_ids")
        return ids

    def _own_tokens(self, width: int) -> torch.Tensor:
        """Long (batch, width): 1 on the tokens that are trained on."""
        rows = [[*mask, *[0] * (width - len(mask))] for mask in self._fields["env_mask"]]
        return torch.tensor(rows, device=self.accelerator.device)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        *others: Any,
        **named: Any,
    ) -> tuple[Any, ...]:
        computing = self._attention is not None
        logps, *rest = super()._get_per_token_logps_and_entropies(
            model, input_ids, self._attention if computing else attention_mask, logits_to_keep, *others, **named
        )
        # While rollouts are scored, TRL sums over every completion token; the loss is given a mask of its own.
        return (logps if computing else logps * self._own_tokens(logits_to_keep), *rest)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        fields = {name: values for name, values in self._fields.items() if name not in ("logprobs", "env_mask")}
        for at, row in enumerate(inputs):
            row.update((name, values[at]) for name, values in fields.items())
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        scored = super()._generate_and_score_completions(inputs)
        own = scored["tool_mask"] = self._own_tokens(scored["completion_ids"].shape[1])
        if self.beta != 0.0:
            # TRL logs the mean over all completion tokens; injected ones have none.
            counts = torch.stack([scored["completion_mask"].sum(), own.sum()]).float()
            every, sampled = self.accelerator.reduce(counts, reduction="sum").tolist()
            self._metrics["train" if self.model.training else "eval"]["kl"][-1] *= every / max(sampled, 1.0)
        return scored

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        try:
            # The model sees every token; sums and means are over the sampled ones.
            loss: torch.Tensor = super()._compute_loss(model, {**inputs, "completion_mask": inputs["tool_mask"]})
        finally:
            self._attention = None
        return loss


@contextlib.contextmanager
def _weights(args: Any, own: int, added: int) -> Iterator[None]:
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


def _placeholder_rows(rollout: MultiTurnRollout, args: Any) -> Any:
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
