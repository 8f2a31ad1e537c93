"""Engines in this process: transformers, and llama.cpp through `llama-cpp-python`.

One request is generated at a time, in a thread of its own; the others wait their turn. For many requests at once, put
the endpoint in front of a server that batches them.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

from toolparse.serving.engine import Engine, EngineError, Piece, Sampling, Top

Drawn = tuple[int, float, Top]  # a token, its log-prob, and the likeliest in its place


class _ThreadEngine(Engine):
    """Runs a blocking generator of tokens in a thread and hands out what it gives."""

    most_top = 20

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    def _tokens(self, prompt: list[int], sampling: Sampling, stopped: threading.Event) -> Iterator[Drawn]:
        """Tokens with their log-probs, until the model ends its turn. Checks `stopped` at every token."""
        raise NotImplementedError

    def _check(self, sampling: Sampling) -> None:
        """Refuse what this engine can't do. Raises EngineError."""

    async def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        self._check(sampling)
        async with self._turn:
            loop = asyncio.get_running_loop()
            queue: asyncio.Queue[Piece | BaseException] = asyncio.Queue()
            stopped = threading.Event()

            def put(item: Piece | BaseException) -> None:
                loop.call_soon_threadsafe(queue.put_nowait, item)

            def run() -> None:
                count, ended = 0, False
                try:
                    for id, logprob, top in self._tokens(list(prompt), sampling, stopped):
                        count += 1
                        ended = id in sampling.stop_ids
                        last = "stop" if ended else "length" if count >= sampling.max_tokens else None
                        logprobs = (logprob,) if sampling.logprobs else None
                        likeliest = (top,) if sampling.top_logprobs else None
                        put(Piece((id,), logprobs, last, likeliest))  # type: ignore[arg-type]
                        if last is not None:
                            return
                    put(Piece(finish="stop"))
                except BaseException as error:  # noqa: BLE001 - the waiting request must hear of it, whatever it is
                    put(error)

            work = loop.run_in_executor(None, run)
            try:
                while True:
                    item = await queue.get()
                    if isinstance(item, EngineError):
                        raise item
                    if isinstance(item, BaseException):
                        raise EngineError(f"the model failed: {type(item).__name__}: {item}", status=500) from item
                    yield item
                    if item.finish is not None:
                        return
            finally:
                stopped.set()
                # The next request must not meet a model that is still busy with this one.
                await asyncio.shield(work)


class TransformersEngine(_ThreadEngine):
    """A causal language model of transformers.

    Args:
        model: What `AutoModelForCausalLM.from_pretrained` gives.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.eval()
        length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.context = length if isinstance(length, int) else None

    def _check(self, sampling: Sampling) -> None:
        if sampling.constraint is not None:
            raise EngineError("transformers in the process can't be held to a grammar", status=400)

    def _tokens(self, prompt: list[int], sampling: Sampling, stopped: threading.Event) -> Iterator[Drawn]:
        import torch
        from transformers import DynamicCache, LogitsProcessorList

        model = self.model
        device = model.device
        generator = torch.Generator(device=device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        processors, warpers = LogitsProcessorList(_penalties(sampling)), LogitsProcessorList(_warpers(sampling))
        ids = torch.tensor([prompt], device=device)
        fresh, cache = ids, DynamicCache(config=model.config)
        for _ in range(sampling.max_tokens):
            if stopped.is_set():
                return
            with torch.inference_mode():
                out = model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
                scores = processors(ids, out.logits[:, -1, :].float())
                temperature = 1.0 if sampling.temperature is None else sampling.temperature
                logprobs = torch.log_softmax(scores / temperature if temperature > 0 else scores, dim=-1)
                if temperature > 0:
                    chances = torch.softmax(warpers(ids, scores / temperature), dim=-1)
                    fresh = torch.multinomial(chances, 1, generator=generator)
                else:
                    fresh = scores.argmax(dim=-1, keepdim=True)
                ids = torch.cat([ids, fresh], dim=1)
                values, places = logprobs[0].topk(min(sampling.top_logprobs, logprobs.shape[1]))
                top = tuple(zip(places.tolist(), values.tolist(), strict=True))
                yield int(fresh), float(logprobs[0, int(fresh)]), top


def _penalties(sampling: Sampling) -> list[Any]:
    from transformers import RepetitionPenaltyLogitsProcessor

    if sampling.presence_penalty or sampling.frequency_penalty:
        raise EngineError("transformers knows no presence or frequency penalty; use repetition_penalty", status=400)
    return [RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)] if sampling.repetition_penalty else []


def _warpers(sampling: Sampling) -> list[Any]:
    from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    made: list[Any] = []
    if sampling.top_k is not None and sampling.top_k > 0:
        made.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        made.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        made.append(MinPLogitsWarper(sampling.min_p))
    return made


class LlamaCppEngine(_ThreadEngine):
    """A GGUF model through `llama-cpp-python`, held to GBNF grammars by llama.cpp itself.

    Args:
        llama: A `llama_cpp.Llama`.
    """

    takes = ("gbnf",)

    def __init__(self, llama: Any) -> None:
        super().__init__()
        self.llama = llama
        self.context = int(llama.n_ctx())

    def _tokens(self, prompt: list[int], sampling: Sampling, stopped: threading.Event) -> Iterator[Drawn]:
        from llama_cpp import LlamaGrammar

        llama = self.llama
        grammar = None
        if sampling.constraint is not None:
            grammar = LlamaGrammar.from_string(sampling.constraint.text, verbose=False)
        if sampling.seed is not None:
            llama.set_seed(sampling.seed)
        options = {
            "temp": 1.0 if sampling.temperature is None else sampling.temperature,
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "top_k": 0 if sampling.top_k is None else sampling.top_k,
            "min_p": sampling.min_p or 0.0,
            "repeat_penalty": sampling.repetition_penalty or 1.0,
            "presence_penalty": sampling.presence_penalty or 0.0,
            "frequency_penalty": sampling.frequency_penalty or 0.0,
        }
        for id in llama.generate(prompt, grammar=grammar, **options):
            if stopped.is_set():
                return
            yield _llama_drawn(llama, int(id), sampling.top_logprobs) if sampling.logprobs else (int(id), 0.0, ())


def _llama_drawn(llama: Any, id: int, count: int) -> Drawn:
    """A token that was just drawn, with log-probs: the logits that it was drawn from are still there."""
    import llama_cpp
    import numpy

    row = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), (llama.n_vocab(),))
    top = float(row.max())
    total = top + math.log(float(numpy.exp(row.astype(numpy.float64) - top).sum()))
    places = numpy.argsort(-row)[:count].tolist()
    return id, float(row[id]) - total, tuple((place, float(row[place]) - total) for place in places)
