"""The loop as TRL's rollout function: rows, limits and masks of a trainer, and fields for reward functions."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .environment import EnvironmentFactory
from .executor import ToolExecutor
from .generation import Backend, backend_for, most
from .loop import Compact, ToolLoop
from .metrics import log_metrics
from .rollout import Budget, Rollout
from .traces import write_traces

__all__ = ["MultiTurnRollout"]


class MultiTurnRollout(ToolLoop):
    """A rollout function for ``GRPOTrainer(rollout_func=...)``. Don't give the trainer ``tools`` as well.

    Args:
        tools, environments, executor, timeouts, injected, cut_results, malformed, compact: See ``ToolLoop``.
        rows: The data set, so that environments get the rows of their prompts. ``ToolGRPOTrainer`` hands over the rows
            itself. TRL gives a rollout function prompts only, so they are looked up by prompt: prompts must be unique.
        parser: A ``toolparse.Parser``; made from the trainer's tokenizer when left out.
        budget: Limits; token limits left None are the trainer's (``max_completion_length``, the model's length), and
            its ``max_tool_calling_iterations`` counts too.
        backend: Where tokens come from; the trainer's own settings decide when left out.
        mask_truncated: Leave truncated rollouts out of the loss. None: as the trainer's ``mask_truncated_completions``
            says.
        trace: A file to which every rollout is appended as a line of JSON. The rewards are in it where this library's
            trainers score the rollouts.
        prefix: Put before the names of the fields handed to reward functions, should they clash with columns.
    """

    def __init__(
        self,
        tools: Iterable[Any] = (),
        *,
        environments: EnvironmentFactory | Mapping[str, EnvironmentFactory] | None = None,
        rows: Iterable[Mapping[str, Any]] | None = None,
        parser: Any = None,
        budget: Budget | None = None,
        executor: ToolExecutor | None = None,
        timeouts: Mapping[str, float] | None = None,
        injected: Mapping[str, Any] | None = None,
        backend: Backend | None = None,
        cut_results: bool = True,
        malformed: str = "answer",
        compact: Compact | None = None,
        mask_truncated: bool | None = None,
        trace: str | Path | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(
            tools,
            environments=environments,
            parser=parser,
            budget=budget,
            executor=executor,
            timeouts=timeouts,
            injected=injected,
            cut_results=cut_results,
            malformed=malformed,
            compact=compact,
        )
        self.backend = backend
        self.mask_truncated = mask_truncated
        self.trace = Path(trace) if trace is not None else None
        if self.trace is not None and self.trace.is_dir():
            raise ValueError(f"trace must be a file, {str(self.trace)!r} is a folder")
        self.prefix = prefix
        self.traced_later = False  # by a trainer that knows the rewards
        self.next_rows: Sequence[Mapping[str, Any]] | None = None
        self.last: list[Rollout] = []
        self._rows = _index_rows(rows) if rows is not None else None
        # Fixed names, so that every rank reports the same ones in the same order.
        self._tool_names = sorted({name for box in self.pool.probe().values() for name in box.names})
        self._checked = False
        self._warned = False

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        """One rollout per prompt, in order, in the form that TRL's trainer takes."""
        if getattr(trainer, "tools", None):
            raise ValueError(
                "the trainer has tools of its own, so TRL would run its loop over finished rollouts; "
                "give the tools to MultiTurnRollout only, not to the trainer"
            )
        self.prepare(trainer)
        rows = self._rows_of(prompts)
        self._check_fields(trainer, rows)
        # Rewards of the last batch have been computed by now.
        self.forget_last()
        rollouts = self.run(
            prompts,
            self.backend or backend_for(trainer),
            rows=rows,
            budget=_with_trainer(self.budget, trainer),
            waiting=lambda active: bool(most(trainer, int(active))),
        )
        mask_truncated = self.mask_truncated
        if mask_truncated is None:
            mask_truncated = bool(getattr(trainer, "mask_truncated_completions", False))
        for rollout in rollouts:
            rollout.keep = rollout.keep and not (mask_truncated and rollout.truncated)
        self._warn_of_stops(rollouts, trainer)
        self.last = rollouts
        output = self.output(rollouts)
        lost = sum(self.executor.lost.values())
        log_metrics(rollouts, trainer, tools=self._tool_names, lost=lost, more=self.figures(rollouts))
        if not self.traced_later:
            self.write_traces(trainer)
        return output

    def write_traces(self, trainer: Any) -> None:
        """Append the last batch to the trace, if there is one."""
        if self.trace is not None:
            rank = getattr(getattr(trainer, "accelerator", None), "process_index", 0)
            step = int(getattr(getattr(trainer, "state", None), "global_step", 0))
            write_traces(self.last, self.trace, self.bridge.encoder.vocabulary, step=step, rank=rank)

    def figures(self, rollouts: Sequence[Rollout]) -> dict[str, tuple[float, float]]:
        """Further figures for the log, as (sum, count)."""
        return {}

    def fields(self, rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
        """What reward functions are given, by name one value per rollout."""
        return {
            "rollouts": list(rollouts),
            "messages": [r.messages for r in rollouts],
            "tool_calls": [[c.call for c in r.calls] for r in rollouts],
            "tool_results": [r.results for r in rollouts],
            "tool_issues": [r.issues for r in rollouts],
            "environments": [r.environment for r in rollouts],
            "stop_reasons": [r.stop_reason for r in rollouts],
            "truncated": [r.truncated for r in rollouts],
            "sampled_masks": [r.transcript.tool_mask for r in rollouts],
        }

    def output(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        """Checked rollouts in the form that TRL takes, with fields for reward functions."""
        for rollout in rollouts:
            rollout.transcript.check()
        logprobs = [r.transcript.logprobs for r in rollouts]
        if any(row is not None for row in logprobs):
            # TRL wants all or none. Only rollouts of which nothing is trained on lack them beside others that don't.
            for at, rollout in enumerate(rollouts):
                if logprobs[at] is None:
                    rollout.keep = False
                    logprobs[at] = [0.0] * rollout.transcript.completion_length
        return {
            "prompt_ids": [r.transcript.prompt_ids for r in rollouts],
            "completion_ids": [r.transcript.completion_ids for r in rollouts],
            "logprobs": None if any(row is None for row in logprobs) else logprobs,
            "env_mask": [[value * int(r.keep) for value in r.transcript.tool_mask] for r in rollouts],
            **{self.prefix + name: values for name, values in self.fields(rollouts).items()},
        }

    def prepare(self, trainer: Any) -> None:
        """Make the parser and the bridge for the trainer's tokenizer and prove the bridge for the tools at hand."""
        self.bind(
            trainer.processing_class,
            chat_template=getattr(trainer, "chat_template", None),
            template_kwargs=dict(getattr(trainer, "chat_template_kwargs", None) or {}),
            eos_ids=tuple(getattr(trainer, "eos_token_ids", ())),
        )

    def forget_last(self, *, keep: bool = False) -> None:
        """Release the environments of the last batch; ``keep`` keeps its rollouts to look at."""
        self.release(self.last)
        if not keep:
            self.last = []

    def close(self) -> None:
        """Release environments and stop the executor's threads."""
        self.forget_last()
        super().close()

    def _warn_of_stops(self, rollouts: Sequence[Rollout], trainer: Any) -> None:
        """TRL takes every completion that doesn't end on an eos id for truncated, and masks it if it is told to."""
        eos = set(getattr(trainer, "eos_token_ids", ()))
        lost = [r for r in rollouts if not r.truncated and r.transcript.completion_ids[-1] not in eos]
        if lost and eos and not self._warned and getattr(trainer, "mask_truncated_completions", False):
            self._warned = True
            ids = sorted({r.transcript.completion_ids[-1] for r in lost})
            warnings.warn(
                f"mask_truncated_completions drops finished rollouts here: their turns end on the tokens {ids}, which "
                f"are no eos ids of this model ({sorted(eos)}). Add them to model.generation_config.eos_token_id, use "
                "MultiTurnRollout(mask_truncated=True) without the trainer's setting, or ToolGRPOTrainer",
                stacklevel=3,
            )

    def _rows_of(self, prompts: Sequence[Any]) -> list[Mapping[str, Any]]:
        if self.next_rows is not None:
            rows = list(self.next_rows)
            if len(rows) != len(prompts):
                raise RuntimeError(f"{len(prompts)} prompts came with {len(rows)} rows; they must match one to one")
            return rows
        if self._rows is not None:
            found = [self._rows.get(_prompt_key(prompt)) for prompt in prompts]
            if any(row is None for row in found):
                raise KeyError("a prompt isn't in rows=; pass the same data set as to the trainer")
            return [row for row in found if row is not None]
        return [{"prompt": prompt} for prompt in prompts]

    def _check_fields(self, trainer: Any, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._checked:
            return
        columns: set[str] = set(rows[0]) if rows else set()
        for dataset in (getattr(trainer, "train_dataset", None), getattr(trainer, "eval_dataset", None)):
            columns.update(getattr(dataset, "column_names", None) or ())
        media = sorted(columns.intersection({"image", "images"}))
        if media and any(row.get(name) for row in rows for name in media):
            raise ValueError(f"multi-turn rollouts carry text only; the data set has a column {media[0]!r}: remove it")
        clash = sorted(columns.intersection(self.prefix + name for name in self.fields(())))
        if clash:
            raise ValueError(
                f"the data set has columns that rollouts would overwrite: {', '.join(clash)}; "
                "rename them, or pass MultiTurnRollout(prefix='rollout_')"
            )
        self._checked = True


def _prompt_key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, default=str)


def _index_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    out: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows):
        key = _prompt_key(row["prompt"])
        if key in out and _prompt_key(dict(out[key])) != _prompt_key(dict(row)):
            raise ValueError(
                f"row {number} has the prompt of an earlier, different row, so rows can't be found by prompt; "
                "use ToolGRPOTrainer, which hands over the rows itself"
            )
        out[key] = row
    return out


def _with_trainer(budget: Budget, trainer: Any) -> Budget:
    """The budget with the trainer's limits: token limits that were left open are its own, the fewer turns count."""
    rounds = getattr(getattr(trainer, "args", None), "max_tool_calling_iterations", None)
    turns = [limit for limit in (budget.turns, None if rounds is None else rounds + 1) if limit is not None]
    completion = budget.completion_tokens
    return dataclasses.replace(
        budget,
        turns=min(turns, default=None),
        completion_tokens=getattr(trainer, "max_completion_length", None) if completion is None else completion,
        model_tokens=_model_length(trainer) if budget.model_tokens is None else budget.model_tokens,
    )


def _model_length(trainer: Any) -> int | None:
    if getattr(trainer, "use_vllm", False):
        engine = trainer.vllm_generation
        llm = getattr(engine, "llm", None)
        if llm is not None:
            return int(llm.llm_engine.model_config.max_model_len)
        length = getattr(engine, "max_model_length", None)
        if length is not None:
            return int(length)
    config = getattr(getattr(trainer, "model", None), "config", None)
    if config is None:
        return None
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    length = getattr(text, "max_position_embeddings", None)
    return int(length) if length else None
