"""What the endpoint asks of an engine: token ids in, token ids out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from toolparse.openai import Finish, Syntax


class EngineError(Exception):
    """An engine that failed; `status` is the HTTP status that tells a client whether to try again."""

    def __init__(self, message: str, *, status: int = 502) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the engine must hold the model to, in a syntax that the engine takes."""

    syntax: Syntax
    text: str


#: The fields of `Sampling` that say how tokens are drawn.
DRAWN = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; what is None is left to the engine.

    `max_tokens`: most tokens to generate. `stop_ids`: tokens that end the turn, which are given with the others.
    `logprobs`: whether the log-prob of each token is wanted; `top_logprobs`: of how many of the likeliest besides.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop_ids: tuple[int, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    constraint: Constraint | None = None

    def nth(self, number: int) -> Sampling:
        """For one of several answers: with one seed all would be the same."""
        return self if self.seed is None else replace(self, seed=self.seed + number)

    def given(self, **names: str) -> dict[str, float | int]:
        """How tokens are drawn, as far as it is said, under the engine's own names where they differ."""
        values = {field: getattr(self, field) for field in DRAWN}
        return {names.get(field, field): value for field, value in values.items() if value is not None}


Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The next tokens. `logprobs`: one for each id, where asked for. `finish`: set on the last piece only.

    `top`: for each id the likeliest tokens in its place, `(id, log-prob)`, the likeliest first, where asked for.
    """

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    finish: Finish | None = None
    top: tuple[Top, ...] | None = None


class Engine:
    """A model that continues token ids.

    `takes`: the syntaxes of constraints that it can be held to, the one to prefer first. `most_top`: of how many
    tokens it can give the log-probs besides the one that was sampled.
    """

    takes: tuple[Syntax, ...] = ()
    most_top: int = 0
    #: Most tokens of prompt and completion together; None if the engine doesn't say.
    context: int | None = None

    def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """The tokens as they come; the last piece has `finish`. Closing the iterator stops the generation.

        Raises EngineError.
        """
        raise NotImplementedError

    async def generate(self, prompt: Sequence[int], sampling: Sampling) -> Piece:
        """All tokens at once. Raises EngineError; being cancelled stops the generation."""
        ids: list[int] = []
        logprobs: list[float] = []
        top: list[Top] = []
        finish: Finish | None = None
        async with aclosing(self.stream(prompt, sampling)) as pieces:
            async for piece in pieces:
                ids += piece.ids
                logprobs += piece.logprobs or ()
                top += piece.top or ()
                finish = piece.finish
        likeliest = tuple(top) if sampling.top_logprobs else None
        return Piece(tuple(ids), tuple(logprobs) if sampling.logprobs else None, finish, likeliest)

    async def aclose(self) -> None:
        """Let go of what the engine holds."""
