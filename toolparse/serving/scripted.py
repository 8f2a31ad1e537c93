"""An engine that plays prepared turns: for tests, benchmarks and demonstrations."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from toolparse.openai import Finish, Syntax
from toolparse.serving.engine import Engine, EngineError, Piece, Sampling

_KEPT = 256


class ScriptedEngine(Engine):
    """Plays a turn for each prompt.

    Args:
        script: A function from the prompt's ids to a turn, or a list of turns that are played one after another. A turn
            is a text (encoded with the tokenizer, markers included) or a list of ids; an exception is raised.
        tokenizer: Encodes texts.
        size: Tokens to a piece.
        delay: Seconds before each piece.
        takes: The constraints that it claims to take.
        end: The id that ends each turn, given as its last token; None for none.
    """

    most_top = 20

    def __init__(
        self,
        script: Callable[[Sequence[int]], Any] | Sequence[Any],
        tokenizer: Any = None,
        *,
        size: int = 1,
        delay: float = 0.0,
        takes: Sequence[Syntax] = (),
        end: int | None = None,
        context: int | None = None,
    ) -> None:
        self.takes = tuple(takes)
        self.context = context
        self.asked: deque[tuple[tuple[int, ...], Sampling]] = deque(maxlen=_KEPT)  # what was asked last, in order
        self.turns = 0  # how often it was asked
        self.given = 0  # pieces handed out so far
        self.closed = 0  # streams that were closed before their end
        self._script = script
        self._tokenizer = tokenizer
        self._size = size
        self._delay = delay
        self._end = end

    def _turn(self, prompt: Sequence[int]) -> list[int]:
        turn = self._script(prompt) if callable(self._script) else self._script[self.turns - 1]
        if isinstance(turn, Exception):
            raise turn
        if isinstance(turn, str):
            encoded = self._tokenizer.encode(turn, add_special_tokens=False)
            turn = getattr(encoded, "ids", encoded)
        return [*turn, *([] if self._end is None else [self._end])]

    async def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        self.asked.append((tuple(prompt), sampling))
        self.turns += 1
        ids = self._turn(prompt)
        cut = ids[: sampling.max_tokens]
        last: Finish = "stop" if len(cut) == len(ids) else "length"
        done = False
        try:
            for at in range(0, max(len(cut), 1), self._size):
                await asyncio.sleep(self._delay)
                piece = cut[at : at + self._size]
                if any(not isinstance(id, int) for id in piece):
                    raise EngineError("the engine went away in the middle of a turn")
                done = at + self._size >= len(cut)
                logprobs = tuple(-0.5 for _ in piece) if sampling.logprobs else None
                ranks = range(sampling.top_logprobs)
                top = tuple(tuple((max(id - n, 0), -0.5 - n) for n in ranks) for id in piece) if ranks else None
                self.given += 1
                yield Piece(tuple(piece), logprobs, last if done else None, top)
        finally:
            self.closed += not done
