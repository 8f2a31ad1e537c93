"""Rewards over rollouts instead of over texts.

TRL hands reward functions one list per field. ``MultiTurnRollout`` adds the fields ``rollouts``,
``messages``, ``tool_calls``, ``tool_results``, ``tool_issues``, ``environments``, ``stop_reasons``,
``truncated`` and ``sampled_masks``, so a reward function can name whichever it wants::

    def used_search(tool_calls, **kwargs):
        return [float(any(call.name == "search" for call in calls)) for calls in tool_calls]

With ``per_rollout`` it sees one rollout at a time. Environments that have a reward need none of this with
``ToolGRPOTrainer``; ``environment_reward`` is for a stock ``GRPOTrainer(rollout_func=...)``.

A reward function may give a list in place of a number, with a value for each turn of the rollout (None: nothing to say
about this one). Its sum is the rollout's reward. ``ToolGRPOTrainer`` raises and lowers the advantage of a turn's own
tokens by how much the turn's value is above or below the mean of the rollout's turns.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from .environment import reward_of
from .rollout import Rollout

__all__ = ["environment_reward", "per_rollout", "with_turns"]

logger = logging.getLogger(__name__)

Reward = float | Sequence[float | None] | None
RewardOfOne = Callable[[Rollout], Reward] | Callable[[Rollout], Awaitable[Reward]]
Turns = Callable[[Sequence["Sequence[float] | None"]], None]


def per_rollout(
    function: RewardOfOne | None = None, /, *, timeout: float | None = None, max_concurrency: int = 64
) -> Any:
    """Make a reward function for TRL out of one that scores a single ``Rollout``.

    The function may be async: then rollouts are scored at the same time, at most ``max_concurrency`` of them, each
    within ``timeout`` seconds (None: no limit). None means that it has nothing to say about this rollout, and so does a
    judge that took too long, which is logged.
    """
    if function is None:
        return functools.partial(per_rollout, timeout=timeout, max_concurrency=max_concurrency)
    score: Callable[[Rollout], Any] = function
    if inspect.iscoroutinefunction(score):

        async def reward_async(**fields: Any) -> list[Reward]:
            gate = asyncio.Semaphore(max_concurrency)

            async def one(rollout: Rollout) -> Reward:
                async with gate:
                    try:
                        value: Reward = await asyncio.wait_for(score(rollout), timeout)
                    except TimeoutError:
                        logger.warning("no reward for rollout %d: it took over %s s", rollout.index, timeout)
                        return None
                    return value

            return list(await asyncio.gather(*map(one, rollouts_in(fields))))

        return functools.update_wrapper(reward_async, score)

    def reward(**fields: Any) -> list[Reward]:
        return [score(rollout) for rollout in rollouts_in(fields)]

    return functools.update_wrapper(reward, score)


def with_turns(function: Callable[..., Any], keep: Turns, asynchronous: bool) -> Any:
    """A reward function whose values per turn are summed up for the trainer and handed to ``keep``."""

    def summed(rewards: Any) -> list[Any]:
        if not isinstance(rewards, Iterable):
            name = getattr(function, "__name__", function)
            raise TypeError(f"The reward function {name!r} returned {rewards!r}; it must return a list, one value each")
        rewards = list(rewards)
        turns = [
            [0.0 if value is None else float(value) for value in reward] if isinstance(reward, (list, tuple)) else None
            for reward in rewards
        ]
        if any(values is not None for values in turns):
            keep(turns)
        return [reward if values is None else sum(values) for reward, values in zip(rewards, turns, strict=True)]

    async def awaited(**fields: Any) -> list[Any]:
        return summed(await function(**fields))

    def called(**fields: Any) -> list[Any]:
        return summed(function(**fields))

    return functools.update_wrapper(awaited if asynchronous else called, function)


def rollouts_in(fields: dict[str, Any]) -> list[Rollout]:
    """The rollouts among the fields of a reward function, whatever prefix their name has."""
    for name, value in fields.items():
        if name.endswith("rollouts") and isinstance(value, list) and all(isinstance(r, Rollout) for r in value):
            return value
    raise KeyError("there is no field 'rollouts': this reward needs a trainer whose rollout_func is a MultiTurnRollout")


async def _environment_reward(rollout: Rollout) -> float | None:
    reward = reward_of(rollout.environment)
    value = None if reward is None else reward()
    if inspect.isawaitable(value):
        value = await value
    return None if value is None else float(value)


_environment_reward.__name__ = "environment"

environment_reward = per_rollout(_environment_reward)
"""The reward that each rollout's environment gives (``reward()`` or ``get_reward()``)."""
