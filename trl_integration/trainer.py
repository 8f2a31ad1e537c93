"""``ToolGRPOTrainer``: the full loop inside of TRL's ``GRPOTrainer``, in one line.

It is a thin subclass. Generation goes through ``MultiTurnRollout`` as the trainer's ``rollout_func``; the
subclass adds what a rollout function can't do by itself: hand over the data set's rows (TRL passes prompts
only), give reward functions the real messages instead of texts decoded from flat ids, and close environments
when their rewards are known.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trl import GRPOConfig, GRPOTrainer

from .environment import EnvironmentFactory
from .executor import ToolExecutor
from .rewards import environment_reward
from .rollout import Budget, MultiTurnRollout

__all__ = ["ToolGRPOTrainer"]

_COMPLETIONS = 3  # where GRPOTrainer._generate returns the completions that rewards see


class ToolGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """GRPO with multi-turn tool calling for any tokenizer that ``toolparse`` can read.

    ::

        ToolGRPOTrainer(model="...", tools=[search], reward_funcs=[score], train_dataset=dataset).train()

    Args:
        model, args, train_dataset, processing_class, ...: As for ``GRPOTrainer``.
        tools: Functions that the model may call; sync or async.
        environments: A factory of environments, or a mapping of them by the rows' ``environment`` field.
            ``environment_factory`` is taken as another name for it.
        reward_funcs: As for ``GRPOTrainer``; they may also ask for the fields that ``rewards.py`` lists. The
        reward of an
            environment that has one is added to them.
        rollout: A ready ``MultiTurnRollout``, instead of the arguments below.
        budget, executor, timeouts, parser, mask_truncated, trace: See ``MultiTurnRollout``.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        *,
        tools: Iterable[Any] = (),
        environments: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None = None,
        environment_factory: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None = None,
        rollout: MultiTurnRollout | None = None,
        budget: Budget | None = None,
        executor: ToolExecutor | None = None,
        timeouts: Mapping[str, float] | None = None,
        parser: Any = None,
        mask_truncated: bool | None = None,
        trace: str | Path | None = None,
        **others: Any,
    ) -> None:
        if "rollout_func" in others:
            raise TypeError("ToolGRPOTrainer brings its own rollout_func; pass rollout=MultiTurnRollout(...) instead")
        if environments is None:
            environments = environment_factory
        if rollout is None:
            rollout = MultiTurnRollout(
                tools,
                environments=environments,
                budget=_as_configured(budget, args),
                executor=executor,
                timeouts=timeouts,
                parser=parser,
                mask_truncated=mask_truncated,
                trace=trace,
            )
        elif any(x is not None for x in (environments, budget, executor, timeouts, parser, trace)) or list(tools):
            raise TypeError("pass either rollout=, or tools and the other arguments it is made from")
        self.rollout = rollout
        rewards: list[Any] = list(reward_funcs) if isinstance(reward_funcs, (list, tuple)) else []
        if reward_funcs is not None and not rewards:
            rewards = [reward_funcs]
        if _has_reward(rollout) and environment_reward not in rewards:
            rewards.append(environment_reward)
        if train_dataset is None and rollout.pool.has_environments:
            train_dataset = _placeholder_rows(args)
        with warnings.catch_warnings():
            # TRL calls rollout_func experimental; whoever uses this class has chosen it.
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(
                model,
                reward_funcs=rewards,
                args=args,
                train_dataset=train_dataset,
                rollout_func=rollout,
                **others,
            )
        # Refuse now, not after the first batch, what this tokenizer's template can't carry.
        rollout.prepare(self)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.rollout.next_rows = inputs
        try:
            scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
            return scored
        finally:
            self.rollout.next_rows = None
            self.rollout.release(keep_last=True)

    def _generate(self, prompts: Sequence[Any]) -> tuple[Any, ...]:
        # With a response template on the tokenizer TRL would parse the flat ids once more, only to build the
        # completions that are replaced below; and a model can write text on which that parse doesn't end
        # well.
        template = getattr(self._tokenizer, "response_template", None)
        self._tokenizer.response_template = None
        try:
            output = list(super()._generate(prompts))
        finally:
            self._tokenizer.response_template = template
        if isinstance(prompts[0], list):
            output[_COMPLETIONS] = [rollout.messages for rollout in self.rollout.last]
        return tuple(output)


def _as_configured(budget: Budget | None, args: GRPOConfig | None) -> Budget | None:
    """TRL's own limit of tool calling rounds counts, unless a budget says otherwise."""
    rounds = getattr(args, "max_tool_calling_iterations", None)
    return Budget(turns=rounds + 1) if budget is None and rounds is not None else budget


def _has_reward(rollout: MultiTurnRollout) -> bool:
    return any(
        callable(getattr(instance, name, None))
        for instance in rollout.pool.instances()
        for name in ("reward", "get_reward")
    )


def _placeholder_rows(args: GRPOConfig | None) -> Any:
    """Empty prompts for environments that bring the prompt themselves (``reset`` returns it)."""
    from datasets import Dataset

    if args is None or args.max_steps <= 0:
        raise ValueError(
            "without a train_dataset the length of training must be given: GRPOConfig(max_steps=...) above 0"
        )
    count = max(1, args.generation_batch_size // args.num_generations)
    return Dataset.from_list([{"prompt": [{"role": "user", "content": ""}]} for _ in range(count)])
