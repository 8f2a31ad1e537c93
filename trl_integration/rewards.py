"""Rewards over rollouts instead of over texts.

TRL hands reward functions one list per field. ``MultiTurnRollout`` adds the fields ``rollouts``,
``messages``, ``tool_calls``, ``tool_results``, ``tool_issues``, ``environments``, ``stop_reasons``,
``truncated`` and ``sampled_masks``, so a reward function can name whichever it wants::

    def used_search(tool_calls, **kwargs):
        return [float(any(call.name == "search" for call in calls)) for calls in tool_calls]

With ``per_rollout`` it sees one rollout at a time. Environments that have a reward need none of this with
``ToolGRPOTrainer``; ``environment_reward`` is for a stock ``GRPOTrainer(rollout_func=...)``.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from .rollout import Rollout

__all__ = ["environment_reward", "per_rollout"]

logger = logging.getLogger(__name__)

RewardOfOne = Callable[[Rollout], float | None] | Callable[[Rollout], Awaitable[float | None]]


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

        async def reward_async(**fields: Any) -> list[float | None]:
            gate = asyncio.Semaphore(max_concurrency)

            async def one(rollout: Rollout) -> float | None:
                async with gate:
                    try:
                        value: float | None = await asyncio.wait_for(score(rollout), timeout)
                    except TimeoutError:
                        logger.warning("no reward for rollout %d: it took over %s s", rollout.index, timeout)
                        return None
                    return value

            return list(await asyncio.gather(*map(one, rollouts_in(fields))))

        return functools.update_wrapper(reward_async, score)

    def reward(**fields: Any) -> list[float | None]:
        return [score(rollout) for rollout in rollouts_in(fields)]

    return functools.update_wrapper(reward, score)


def rollouts_in(fields: dict[str, Any]) -> list[Rollout]:
    """The rollouts among the fields of a reward function, whatever prefix their name has."""
    for name, value in fields.items():
        if name.endswith("rollouts") and isinstance(value, list) and all(isinstance(r, Rollout) for r in value):
            return value
    raise KeyError("there is no field 'rollouts': this reward needs a trainer whose rollout_func is a MultiTurnRollout")


async def _environment_reward(rollout: Rollout) -> float | None:
    reward = rollout.lease.reward
    value = None if reward is None else reward()
    if inspect.isawaitable(value):
        value = await value
    return None if value is None else float(value)


_environment_reward.__name__ = "environment"

environment_reward = per_rollout(_environment_reward)
"""The reward that each rollout's environment gives (``reward()`` or ``get_reward()``)."""
