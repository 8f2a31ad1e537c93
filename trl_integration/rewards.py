"""Rewards over rollouts instead of over texts.

TRL hands reward functions one list per field. ``MultiTurnRollout`` adds the fields ``rollouts``,
``messages``, ``tool_calls``, ``tool_results``, ``tool_issues``, ``environments``, ``stop_reasons``,
``truncated`` and ``sampled_masks``, so a reward function can name whichever it wants::

    def used_search(tool_calls, **kwargs):
        return [float(any(call.name == "search" for call in calls)) for calls in tool_calls]

With ``per_rollout`` it sees one rollout at a time.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from .rollout import Rollout

__all__ = ["environment_reward", "per_rollout"]

RewardOfOne = Callable[[Rollout], float | None] | Callable[[Rollout], Awaitable[float | None]]


def per_rollout(function: RewardOfOne | None = None, /, *, prefix: str = "") -> Any:
    """Make a reward function for TRL out of one that scores a single ``Rollout``.

    The function may be async; None means that it has nothing to say about this rollout. ``prefix`` is the
    one that was given to ``MultiTurnRollout``.
    """
    if function is None:
        return functools.partial(per_rollout, prefix=prefix)
    score: Callable[[Rollout], Any] = function
    field = f"{prefix}rollouts"

    def rollouts_of(fields: dict[str, Any]) -> list[Rollout]:
        found: list[Rollout] | None = fields.get(field)
        if found is None:
            raise KeyError(
                f"there is no field {field!r}: this reward needs a trainer whose rollout_func is a MultiTurnRollout"
            )
        return found

    if inspect.iscoroutinefunction(score):

        async def reward_async(**fields: Any) -> list[float | None]:
            return [await score(rollout) for rollout in rollouts_of(fields)]

        return functools.update_wrapper(reward_async, score)

    def reward(**fields: Any) -> list[float | None]:
        return [score(rollout) for rollout in rollouts_of(fields)]

    return functools.update_wrapper(reward, score)


async def _environment_reward(rollout: Rollout) -> float | None:
    return await rollout.lease.reward()


_environment_reward.__name__ = "environment"

environment_reward = per_rollout(_environment_reward)
"""The reward that each rollout's environment gives (``reward()`` or ``get_reward()``)."""
