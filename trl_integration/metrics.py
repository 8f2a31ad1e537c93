"""Figures about rollouts for the trainer's log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from toolparse.message import ISSUE_CODES

from .rollout import STOP_REASONS, Rollout

__all__ = ["log_metrics", "rollout_metrics"]

# Fixed names, so that every rank reports the same ones in the same order.
_ERRORS = (*sorted(ISSUE_CODES), "exception", "timeout", "invalid-arguments", "not-run")


def rollout_metrics(
    rollouts: Sequence[Rollout], tools: Sequence[str] = (), lost: int = 0
) -> dict[str, tuple[float, float]]:
    """Each figure as (sum, count): sums and counts add up over ranks, means don't.

    ``tools/calls``, ``tools/valid`` and ``tools/executed`` are per rollout; ``tools/failed/CODE`` per call;
    ``tools/seconds`` the wall time of an executed call; ``tool/NAME/calls`` per rollout and ``tool/NAME/seconds`` per
    executed call for each name in ``tools``; ``tools/lost`` how many calls (per process) were given up and still run;
    ``turns``, ``sampled_tokens``, ``injected_tokens`` and ``branches`` (begun by compaction) per rollout;
    ``stop/REASON`` the share of rollouts that ended so; ``kept`` the share that is trained on; ``tools/failure`` the
    share of calls that didn't run through.
    """
    count = float(len(rollouts))
    rows = [row for rollout in rollouts for row in rollout.rows]
    records = [record for rollout in rollouts for record in rollout.calls]
    executed = [record for record in records if record.executed]
    failed: dict[str, float] = dict.fromkeys(_ERRORS, 0.0)
    for record in records:
        codes = {issue.code for issue in record.call.issues if not issue.is_note}
        if record.result is not None and record.result.code is not None:
            codes.add(record.result.code)
        for code in codes:
            failed[code] = failed.get(code, 0.0) + 1.0
    out: dict[str, tuple[float, float]] = {
        "tools/calls": (float(len(records)), count),
        "tools/valid": (float(sum(record.call.ok for record in records)), count),
        "tools/executed": (float(len(executed)), count),
        "tools/failure": (float(sum(r.result is None or not r.result.ok for r in records)), float(len(records))),
        "tools/lost": (float(lost), 1.0),
        "tools/seconds": (sum(r.result.seconds for r in executed if r.result), float(len(executed))),
        "turns": (float(sum(row.turns for row in rows)), count),
        "sampled_tokens": (float(sum(row.sampled_length for row in rows)), count),
        "injected_tokens": (float(sum(row.completion_length - row.sampled_length for row in rows)), count),
        "branches": (float(len(rows) - len(rollouts)), count),
        "kept": (float(sum(r.keep for r in rollouts)), count),
    }
    for name in tools:
        mine = [r.result.seconds for r in executed if r.result and r.call.name == name]
        out[f"tool/{name}/calls"] = (float(sum(r.call.name == name for r in records)), count)
        out[f"tool/{name}/seconds"] = (sum(mine), float(len(mine)))
    for code in _ERRORS:
        out[f"tools/failed/{code}"] = (failed[code], float(len(records)))
    for reason in STOP_REASONS:
        out[f"stop/{reason}"] = (float(sum(r.stop_reason == reason for r in rollouts)), count)
    return out


def log_metrics(
    rollouts: Sequence[Rollout],
    trainer: Any,
    *,
    tools: Sequence[str] = (),
    lost: int = 0,
    more: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Add the figures (and ``more`` of them) to the trainer's next log entry as ``rollout/...``, averaged over ranks.

    Calls per rollout and the share of failed calls are there under TRL's names as well. Reaches into the trainer's
    private ``_metrics``: it has no other way to log from a rollout function.
    """
    figures = {**rollout_metrics(rollouts, tools, lost), **(more or {})}
    table = torch.tensor(list(figures.values()), dtype=torch.float64)
    accelerator = getattr(trainer, "accelerator", None)
    if accelerator is not None and getattr(accelerator, "num_processes", 1) > 1:
        # Float32: not every accelerator has doubles.
        gathered = accelerator.gather(table.float().to(accelerator.device).unsqueeze(0))
        table = gathered.sum(dim=0).double().cpu()
    means = {
        f"rollout/{name}": (total / number if number else math.nan)
        for name, (total, number) in zip(figures, table.tolist(), strict=True)
    }
    means["tools/call_frequency"] = means["rollout/tools/calls"]
    failure = means["rollout/tools/failure"]
    means["tools/failure_frequency"] = 0.0 if math.isnan(failure) else failure
    store = getattr(trainer, "_metrics", None)
    if store is not None:
        mode = "train" if trainer.model.training else "eval"
        for name, value in means.items():
            # The trainer averages what it has; a figure about nothing is left out.
            if not math.isnan(value):
                store[mode][name].append(value)
