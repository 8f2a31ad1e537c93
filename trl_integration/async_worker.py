"""Rollouts for TRL's ``AsyncGRPOTrainer``: a worker that it takes as ``rollout_worker=``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from .environment import reward_of
from .generation import Backend
from .metrics import rollout_metrics
from .rewards import with_turns
from .rollout import Rollout
from .trl_adapter import MultiTurnRollout

__all__ = ["AsyncRollouts"]

logger = logging.getLogger(__name__)


class AsyncRollouts:
    """Rolls out in a thread of the trainer's process, beside the training; implements TRL's ``RolloutWorkerProtocol``.

    ::

        worker = AsyncRollouts(MultiTurnRollout([search]), backend, tokenizer, dataset, score, num_generations=8)
        AsyncGRPOTrainer(model="...", rollout_worker=worker, ...).train()

    Each prompt is rolled out ``num_generations`` times; rewards less the group's mean, over its spread, are the
    advantages. A conversation that was compacted gives one sample for each of its branches. Rollouts that failed and
    truncated ones that are masked give none.

    Args:
        rollout: The loop with its tools, environments and limits.
        backend: Where tokens come from. It must give log-probs, and serve the weights that the trainer syncs.
        tokenizer: The model's tokenizer or processor.
        dataset: Rows with a ``prompt``; gone through again and again.
        reward_funcs: As for ``ToolGRPOTrainer``, without models. Environments' rewards are added.
        num_generations: Rollouts per prompt.
        prompts_at_once: Prompts that are rolled out together.
        queue_size: Samples that may wait for the trainer.
        bind: Further arguments of ``ToolLoop.bind``, such as ``template_kwargs``.
    """

    def __init__(
        self,
        rollout: MultiTurnRollout,
        backend: Backend,
        tokenizer: Any,
        dataset: Iterable[Mapping[str, Any]],
        reward_funcs: Callable[..., Any] | Sequence[Callable[..., Any]] = (),
        *,
        num_generations: int = 8,
        prompts_at_once: int = 1,
        queue_size: int = 256,
        bind: Mapping[str, Any] | None = None,
    ) -> None:
        if num_generations < 2:
            raise ValueError("num_generations must be at least 2: an advantage is a difference within a group")
        self.rollout = rollout
        self.backend = backend
        self.dataset = [dict(row) for row in dataset]
        if not self.dataset:
            raise ValueError("the data set has no rows")
        self.functions = [reward_funcs] if callable(reward_funcs) else list(reward_funcs)
        self.num_generations = num_generations
        self.prompts_at_once = prompts_at_once
        self.rollout_buffer: queue.Queue[Any] = queue.Queue(queue_size)
        self.metrics_queue: queue.Queue[dict[str, Any]] = queue.Queue(4096)
        self.model_version = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._last_sign = time.monotonic()
        rollout.bind(tokenizer, **dict(bind or {}))
        has_reward = any(reward_of(instance) is not None for instance in rollout.pool.instances())
        if not self.functions and not has_reward:
            raise ValueError("no source of rewards: pass reward_funcs, or environments that have a reward")

    # -- what the trainer calls ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; a second call does nothing."""
        if self._thread is None:
            self._stop.clear()
            self._last_sign = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="async-rollouts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End after the batch that is being rolled out."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._thread = None
        self.rollout.close()

    def update_model_version(self, model_version: int) -> None:
        """What is sampled from now on is of this version."""
        self.model_version = int(model_version)

    def check_health(self, stale_after_s: float) -> None:
        """Raise RuntimeError if the thread ended with an error or gave no sign for so long."""
        if self._error is not None:
            raise RuntimeError(f"rollouts stopped: {type(self._error).__name__}: {self._error}") from self._error
        silent = time.monotonic() - self._last_sign
        if silent > stale_after_s:
            raise RuntimeError(f"rollouts gave no sign for {silent:.0f} s")

    # -- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for group in count(0, self.prompts_at_once):
                if self._stop.is_set():
                    return
                rows = [self.dataset[at % len(self.dataset)] for at in range(group, group + self.prompts_at_once)]
                for sample in self.samples(rows, group):
                    self._put(sample)
        except BaseException as error:
            logger.exception("rollouts stopped")
            self._error = error

    def _put(self, sample: Any) -> None:
        while not self._stop.is_set():
            self._last_sign = time.monotonic()
            sample.enqueued_at = time.time()
            with contextlib.suppress(queue.Full):
                self.rollout_buffer.put(sample, timeout=0.5)
                return

    def samples(self, rows: Sequence[Mapping[str, Any]], first_group: int = 0) -> list[Any]:
        """Roll the rows out and score them: TRL's ``RolloutSample`` for every row that is trained on."""
        version = self.model_version
        each = [dict(row) for row in rows for _ in range(self.num_generations)]
        rollouts = self.rollout.run([row.get("prompt") or [] for row in each], self.backend, rows=each)
        self._last_sign = time.monotonic()
        masked = bool(self.rollout.mask_truncated)
        scores = self._scores(rollouts, each)
        out: list[Any] = []
        for at, group in enumerate(range(first_group, first_group + len(rows))):
            part = slice(at * self.num_generations, (at + 1) * self.num_generations)
            out += self._group(rollouts[part], scores[part], group, version, masked)
        for rollout in rollouts:
            if not rollout.failed and any(row.logprobs is None for row in rollout.rows):
                raise RuntimeError("the back end gave no log-probs; asynchronous training needs them")
        self._report(rollouts)
        self.rollout.last = rollouts
        self.rollout.release(rollouts)
        return out

    def _scores(self, rollouts: Sequence[Rollout], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
        scores: list[dict[str, float]] = [{} for _ in rollouts]

        def add(name: str, values: Sequence[Any]) -> None:
            if len(values) != len(rollouts):
                raise ValueError(f"the reward function {name!r} returned {len(values)} values for {len(rollouts)}")
            for score, value in zip(scores, values, strict=True):
                if value is not None and not math.isnan(value):
                    score[name] = float(value)

        fields = {name: [row.get(name) for row in rows] for name in dict.fromkeys(k for row in rows for k in row)}
        fields |= {
            name: values
            for name, values in self.rollout.output(rollouts).items()
            if name not in ("prompt_ids", "logprobs", "env_mask")
        }
        fields |= {"prompts": [r.prompt for r in rollouts], "completions": [r.messages for r in rollouts]}
        fields.pop("prompt", None)
        for function in self.functions:
            name = getattr(function, "__name__", type(function).__name__)
            # Samples have one advantage each, so values per turn are summed.
            asynchronous = asyncio.iscoroutinefunction(function)
            value = with_turns(function, lambda _: None, asynchronous)(**fields)
            add(name, asyncio.run(value) if asynchronous else value)
        kinds = {type(r.environment) for r in rollouts if r.environment is not None}
        for kind in kinds:
            add(kind.__name__, self.rollout.rewards(rollouts, kind))
        return scores

    def _group(
        self, rollouts: Sequence[Rollout], scores: Sequence[dict[str, float]], group: int, version: int, masked: bool
    ) -> list[Any]:
        from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

        counted = [sum(s.values()) for r, s in zip(rollouts, scores, strict=True) if s and not r.failed]
        if len(counted) < 2:
            return []
        mean = sum(counted) / len(counted)
        spread = math.sqrt(sum((value - mean) ** 2 for value in counted) / (len(counted) - 1))
        out = []
        for rollout, score in zip(rollouts, scores, strict=True):
            rollout.rewards = score
            if not score or rollout.failed or not rollout.keep or (masked and rollout.truncated):
                continue
            reward = sum(score.values())
            rollout.advantage = (reward - mean) / (spread + 1e-4)
            for row in rollout.rows:
                zeros = [0] * row.prompt_length
                out.append(
                    RolloutSample(
                        prompt=rollout.prompt,
                        completion=rollout.messages,
                        input_ids=np.array(row.ids, dtype=np.int64),
                        completion_mask=np.array(zeros + row.tool_mask, dtype=np.int64),
                        old_log_probs=np.array(zeros + (row.logprobs or []), dtype=np.float32),
                        advantage=rollout.advantage,
                        model_version=version,
                        group_id=group,
                        metrics={"reward": reward, "reward_std": spread}
                        | {f"rewards/{name}": value for name, value in score.items()},
                    )
                )
        return out

    def _report(self, rollouts: Sequence[Rollout]) -> None:
        figures = rollout_metrics(rollouts, lost=sum(self.rollout.executor.lost.values()))
        try:
            self.metrics_queue.put_nowait({f"rollout/{name}": pair for name, pair in figures.items() if pair[1]})
        except queue.Full:
            logger.warning("nobody reads the figures about rollouts; they are dropped")
