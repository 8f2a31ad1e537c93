"""Where the tokens come from: transformers or vLLM through the trainer that owns the weights, or a script.

A back end continues prompts that are lists of ids and returns ids as they were sampled. It doesn't know
about tools. All back ends keep three promises:

* one result per prompt, in order, with at most as many tokens as its budget;
* ``logprobs`` are natural logs under the sampling distribution (temperature applied, before top-k and
  top-p), one per token (NaN where an engine gives none), or None for all results;
* called on every rank the same number of times, also with no prompts of its own: generation of sharded
  models and of a shared vLLM server is a collective operation.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.utils.rnn import pad_sequence

from toolparse.tokens import tokenizer_of

__all__ = ["Backend", "Sampled", "ScriptedBackend", "TransformersBackend", "VLLMBackend", "backend_for"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One continuation.

    ``finish``: "stop" (the last id is a stop token), "stop_string" (stopped without such a token) or
    "length" (the budget was used up).
    """

    ids: list[int]
    logprobs: list[float] | None
    finish: str


class Backend(Protocol):
    """What a rollout needs from an engine."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop_ids: Sequence[int],
        places: Sequence[tuple[int, int]] = (),
    ) -> list[Sampled]:
        """Continue each prompt by at most its budget of tokens, or up to the first of ``stop_ids`` (included).

        ``places`` says for each prompt which rollout of the batch it belongs to and which turn of it is sampled, both
        from 0. Engines don't need it; scripts do.
        """


def finished(
    ids: Sequence[int],
    logprobs: Sequence[float] | None,
    budget: int,
    stop_ids: Sequence[int],
    limit: int,
) -> Sampled:
    """Cut raw engine output after its first stop token and to its budget, and say how it ended.

    ``limit``: tokens the engine was allowed; fewer without a stop token means that a stop string ended it.
    """
    stops = set(stop_ids)
    end = next((at + 1 for at, token in enumerate(ids) if token in stops), len(ids))
    stopped = end > 0 and ids[end - 1] in stops
    finish = "stop" if stopped else ("length" if len(ids) >= limit else "stop_string")
    if end > budget:
        end, finish = budget, "length"
    kept = [int(token) for token in ids[:end]]
    return Sampled(kept, None if logprobs is None else [float(v) for v in logprobs[:end]], finish)


class _LogprobRecorder:
    """A logits processor that changes nothing and remembers the log-prob of every sampled token.

    It keeps one row of log-probs per sequence, so memory doesn't grow with the length (returning all logits
    would take batch x length x vocabulary). The token of a step is known only at the next step, hence the
    one-step delay.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.columns: list[torch.Tensor] = []
        self._last: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.take(input_ids[:, -1])
        self._last = torch.log_softmax(scores.float() / self.temperature, dim=-1)
        return scores

    def take(self, tokens: torch.Tensor) -> None:
        """The tokens (batch,) that were sampled from the last remembered distribution."""
        if self._last is not None:
            self.columns.append(self._last.gather(1, tokens.unsqueeze(1).to(self._last.device)).squeeze(1))
            self._last = None


class TransformersBackend:
    """``generate`` of the model that the trainer is training, with the trainer's sampling settings.

    Not TRL's own (private) method for a single turn: that has neither a budget per row, nor stop ids, nor log-probs.

    Args:
        trainer: A ``GRPOTrainer`` (or anything with the attributes used here).
        batch_size: Sequences generated at once; None for all.
        logprobs: Whether to return log-probs. TRL itself needs them only with vLLM.
    """

    def __init__(self, trainer: Any, *, batch_size: int | None = None, logprobs: bool = True) -> None:
        for name in ("num_beams", "num_return_sequences", "num_beam_groups"):
            if ((getattr(trainer, "generation_kwargs", None) or {}).get(name) or 1) != 1:
                raise ValueError(
                    f"generation_kwargs[{name!r}] must be 1: a rollout samples one continuation per prompt"
                )
        self.trainer = trainer
        self.batch_size = batch_size
        self.logprobs = logprobs

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop_ids: Sequence[int],
        places: Sequence[tuple[int, int]] = (),
    ) -> list[Sampled]:
        """See ``Backend``."""
        # Without prompts of its own too a rank generates: sharded weights are gathered only if all take part.
        rows = [list(p) for p in prompts] or [[stop_ids[0] if stop_ids else 0]]
        limits = list(budgets) or [1]
        size = self.batch_size or len(rows)
        out: list[Sampled] = []
        with self._model() as model:
            for step in range(most(self.trainer, -(-len(rows) // size))):
                part = slice(step * size, (step + 1) * size)
                done = self._generate(model, rows[part] or rows[:1], limits[part] or [1], stop_ids)
                out += done if rows[part] else []
        return out[: len(prompts)]

    @contextlib.contextmanager
    def _model(self) -> Iterator[Any]:
        from trl.models import unwrap_model_for_generation

        trainer = self.trainer
        dist = getattr(trainer, "_dist", None)
        was_training = trainer.model_wrapped.training
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
                generation_kwargs=getattr(trainer, "generation_kwargs", None),
                gradient_checkpointing_kwargs=trainer.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
            # FSDP: generation needs the outer parameters whole.
            dist.summon_full_params(trainer.model_wrapped, recurse=False)
            if dist is not None
            else contextlib.nullcontext(),
        ):
            # Dropout would make the sampled distribution another one than the one that is trained.
            model.eval()
            try:
                yield model
            finally:
                model.train(was_training)

    def _generate(
        self, model: Any, prompts: list[list[int]], budgets: list[int], stop_ids: Sequence[int]
    ) -> list[Sampled]:
        from transformers import GenerationConfig, LogitsProcessorList

        trainer = self.trainer
        device = trainer.accelerator.device
        tokenizer = tokenizer_of(trainer.processing_class)
        pad = tokenizer.pad_token_id
        width, limit = max(len(p) for p in prompts), max(budgets)
        rows = [torch.tensor(p) for p in prompts]
        ids = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left").to(device)
        ones = [torch.ones_like(row) for row in rows]
        mask = pad_sequence(ones, batch_first=True, padding_side="left").to(device)
        settings = dict(trainer.generation_kwargs)
        settings.update(max_new_tokens=limit, eos_token_id=list(stop_ids) or None, pad_token_id=pad)
        strings = settings.pop("stop_strings", None)
        recorder = _LogprobRecorder(float(trainer.temperature)) if self.logprobs else None
        result = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=GenerationConfig(**settings, disable_compile=True),
            logits_processor=LogitsProcessorList([recorder] if recorder is not None else []),
            **({"stop_strings": strings, "tokenizer": tokenizer} if strings else {}),
        )
        sampled = result[:, width:]
        logprobs: list[list[float]] | None = None
        if recorder is not None:
            recorder.take(sampled[:, -1])
            logprobs = torch.stack(recorder.columns, dim=1).tolist()
        out: list[Sampled] = []
        for row, tokens in enumerate(sampled.tolist()):
            own = None if logprobs is None else logprobs[row]
            length = len(tokens)
            if strings:
                # A row stopped by a string is padded until the others are done; no id marks its end.
                length = self._string_end(tokens, strings, tokenizer)
            limit_here = limit if length == len(tokens) else length + 1
            out.append(finished(tokens[:length], own, budgets[row], stop_ids, limit_here))
        return out

    @staticmethod
    def _string_end(tokens: list[int], strings: str | Sequence[str], tokenizer: Any) -> int:
        """How many tokens there are up to the end of the first stop string; all of them if there is none."""
        wanted = [strings] if isinstance(strings, str) else list(strings)
        if not any(s in tokenizer.decode(tokens) for s in wanted):
            return len(tokens)
        low, high = 1, len(tokens)
        while low < high:
            middle = (low + high) // 2
            text = tokenizer.decode(tokens[:middle])
            low, high = (low, middle) if any(s in text for s in wanted) else (middle + 1, high)
        return low


class VLLMBackend:
    """vLLM as the trainer set it up: colocated, or a server reached by the trainer's own client.

    The trainer syncs the weights before it calls a rollout function, so nothing is synced here. TRL's
    wrapper has one token limit per call: the largest budget is asked for, and longer rows are cut to theirs.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop_ids: Sequence[int],
        places: Sequence[tuple[int, int]] = (),
    ) -> list[Sampled]:
        """See ``Backend``."""
        engine = self.trainer.vllm_generation
        own = len(prompts)
        rows, limits = [list(p) for p in prompts], list(budgets)
        # TRL's wrapper slices the gathered results by `rank x len(prompts)`: every rank must bring the same
        # number.
        count = most(self.trainer, max(1, own))
        filler = rows[0] if rows else [stop_ids[0] if stop_ids else 0]
        rows += [filler] * (count - own)
        limits += [1] * (count - own)
        limit = most(self.trainer, max(limits))
        with _set(engine, max_completion_length=limit, generation_kwargs=self._settings(engine, stop_ids)):
            _, ids, logprobs, _ = engine.generate(prompts=rows, images=None, num_generations=1)
        out: list[Sampled] = []
        for row in range(own):
            # Per token the sampled one comes first; a NaN is passed as None.
            values = None if logprobs is None else [math.nan if e[0] is None else e[0] for e in logprobs[row]]
            # The model's own length may have stopped a row before the common limit: at its budget it isn't finished.
            out.append(finished(ids[row], values, limits[row], stop_ids, min(limit, limits[row])))
        return out

    @staticmethod
    def _settings(engine: Any, stop_ids: Sequence[int]) -> dict[str, Any]:
        settings = dict(engine.generation_kwargs or {})
        settings["stop_token_ids"] = sorted({*(settings.get("stop_token_ids") or ()), *stop_ids})
        # A stop string that is cut off the text would be missing from the ids that are trained on.
        if settings.get("stop"):
            settings.setdefault("include_stop_str_in_output", True)
        return settings


@contextlib.contextmanager
def _set(target: Any, **values: Any) -> Iterator[None]:
    """Set attributes for the time of one call."""
    before = {name: getattr(target, name) for name in values}
    for name, value in values.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


def most(trainer: Any, value: int) -> int:
    """The largest value over all ranks."""
    accelerator = getattr(trainer, "accelerator", None)
    if accelerator is None or getattr(accelerator, "num_processes", 1) == 1:
        return value
    return int(accelerator.gather(torch.tensor([value], device=accelerator.device)).max().item())


class ScriptedBackend:
    """Plays prepared turns: for tests, and for looking at a rollout without a model.

    ``prompts`` has the prompts of every turn by the rollout's index, ``batches`` how many were sampled at a time.

    Args:
        script: A function of (index of the rollout in its batch, turn) to what is "sampled": ids, text (encoded with
            ``encode``), or a ``Sampled``. A list of lists works too: ``script[index][turn]``.
        encode: Text to ids, markers included.
        logprob: The log-prob reported for every token; None for none.
    """

    def __init__(
        self,
        script: Callable[[int, int], Any] | Sequence[Sequence[Any]],
        *,
        encode: Callable[[str], list[int]] | None = None,
        logprob: float | None = -1.0,
    ) -> None:
        self._script = script if callable(script) else lambda index, turn: script[index][turn]
        self._encode = encode
        self._logprob = logprob
        self.prompts: dict[int, list[list[int]]] = {}
        self.batches: list[int] = []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        budgets: Sequence[int],
        stop_ids: Sequence[int],
        places: Sequence[tuple[int, int]] = (),
    ) -> list[Sampled]:
        """See ``Backend``."""
        self.batches.append(len(prompts))
        out: list[Sampled] = []
        for (index, turn), prompt, budget in zip(places, prompts, budgets, strict=True):
            if turn == 0:
                self.prompts[index] = []
            self.prompts[index].append(list(prompt))
            planned = self._script(index, turn)
            if isinstance(planned, Sampled):
                out.append(planned)
                continue
            if isinstance(planned, str):
                if self._encode is None:
                    raise ValueError("the script has text: pass encode=, a function from text to ids")
                planned = self._encode(planned)
            ids = [int(token) for token in planned]
            values = None if self._logprob is None else [self._logprob] * len(ids)
            # A script that runs past its budget is cut as an engine would cut it.
            out.append(finished(ids, values, budget, stop_ids, limit=min(budget, len(ids) + 1)))
        return out


def backend_for(trainer: Any) -> Backend:
    """The back end that the trainer's own settings ask for."""
    if getattr(trainer, "use_vllm", False):
        return VLLMBackend(trainer)
    if getattr(trainer, "use_transformers_continuous_batching", False):
        raise ValueError(
            "continuous batching isn't supported in multi-turn rollouts: "
            "set use_transformers_continuous_batching=False, or use_vllm=True"
        )
    return TransformersBackend(trainer)
