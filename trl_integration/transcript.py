"""A rollout as an append-only list of segments, each with the author of its tokens.

Masks are a property of *who wrote the token*, so nothing here computes one from positions of special tokens
or by comparing ids with the pad id: every mask is read off the segments. That gives the contract by
construction:

* The completion begins with the first sampled token and ends with a sampled token. Injected tokens (tool
  results, role headers, the next generation prompt) can only be appended together with the sampled tokens
  that answer them (``add_turn(..., before=...)``), so no rollout can end in a masked tail.
* Sampled ids are stored as they came and never encoded again.
* The prompt of every turn is a prefix of the next turn's prompt, because there is only one list, which only
  grows.

Nothing outside this module slices ids by mask or adds up lengths.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch

__all__ = ["Author", "Segment", "Transcript", "TranscriptBatch", "TranscriptError"]


class TranscriptError(ValueError):
    """A transcript was about to be built wrong: a mistake in the calling code, never in a model's output."""


class Author(StrEnum):
    """Who wrote a run of tokens. Only ``MODEL`` tokens are trained on."""

    PROMPT = "prompt"
    MODEL = "model"
    TOOL = "tool"
    SCAFFOLD = "scaffold"


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens by one author.

    ``ids`` has at least one token. ``logprobs`` is given for ``MODEL`` segments only (or is None): one
    natural-log probability per token, under the distribution that the token was sampled from.
    """

    author: Author
    ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None = None

    @classmethod
    def of(cls, author: Author, ids: Iterable[int], logprobs: Iterable[float] | None = None) -> Segment:
        """Check and freeze one segment. Tensors, numpy integers and lists are all fine as ``ids``."""
        frozen = _as_ids(ids, author)
        if not frozen:
            raise TranscriptError(f"a {author.value} segment needs at least one token; leave empty ones out")
        if logprobs is None:
            return cls(author, frozen)
        if author is not Author.MODEL:
            raise TranscriptError(f"log-probs belong to sampled tokens, not to a {author.value} segment")
        values = tuple(map(float, logprobs))
        if len(values) != len(frozen):
            raise TranscriptError(f"{len(frozen)} sampled tokens came with {len(values)} log-probs; give one each")
        if not all(map(math.isfinite, values)):
            raise TranscriptError(
                "a sampled token has a log-prob that is not finite; pass logprobs=None if there are none"
            )
        return cls(author, frozen, values)


def _as_ids(ids: Iterable[int], author: Author) -> tuple[int, ...]:
    if isinstance(ids, torch.Tensor):
        ids = ids.tolist()
    ids = tuple(ids)
    if set(map(type, ids)) <= {int} and min(ids, default=0) >= 0:
        return ids
    out: list[int] = []
    for value in ids:
        # bool is an int to Python, and a mask passed where ids belong would go unnoticed.
        if isinstance(value, bool):
            raise TranscriptError(f"a {author.value} segment got booleans; pass token ids, not a mask")
        try:
            token = operator.index(value)
        except TypeError:
            raise TranscriptError(
                f"a {author.value} segment got {value!r} as a token; ids are integers, encode the text first"
            ) from None
        if token < 0:
            raise TranscriptError(f"a {author.value} segment got the token id {token}; ids are not negative")
        out.append(token)
    return tuple(out)


class Transcript:
    """One rollout: the prompt, then turns of sampled tokens with whatever was injected between them."""

    __slots__ = ("_ids", "_sampled", "_segments", "_turns", "_without_logprobs")

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        """``prompt_ids``: everything before the first sampled token, generation prompt included; at least
        one token.
        """
        self._segments: list[Segment] = [Segment.of(Author.PROMPT, prompt_ids)]
        self._turns = 0
        self._sampled = 0
        self._ids = list(self._segments[0].ids)
        self._without_logprobs = False

    # -- growing -------------------------------------------------------------------------------------------

    def add_turn(
        self,
        ids: Iterable[int],
        logprobs: Iterable[float] | None = None,
        *,
        before: Sequence[Segment] = (),
    ) -> None:
        """Append one turn: the segments injected since the last one, then the ids sampled after them, as
        sampled.

        ``before`` is what the bridge made (``TOOL`` and ``SCAFFOLD`` segments); it must be empty for the
        first turn (what precedes it is the prompt) and non-empty for later ones (two sampled runs in a row
        are one turn).
        """
        turn = Segment.of(Author.MODEL, ids, logprobs)
        for segment in before:
            if segment.author not in (Author.TOOL, Author.SCAFFOLD):
                raise TranscriptError(
                    f"only tool and scaffold segments may stand between two turns, not {segment.author.value}"
                )
        if before and not self._turns:
            raise TranscriptError("nothing can be injected before the first turn; put it into the prompt")
        if self._turns and not before:
            raise TranscriptError("a further turn needs the injected segments that led to it; pass them as before=")
        if self._turns and (turn.logprobs is None) != self._without_logprobs:
            raise TranscriptError("log-probs must be given for every turn of a rollout or for none")
        self._segments.extend(before)
        self._segments.append(turn)
        self._turns += 1
        for segment in (*before, turn):
            self._ids.extend(segment.ids)
        self._sampled += len(turn.ids)
        self._without_logprobs = turn.logprobs is None

    # -- views ---------------------------------------------------------------------------------------------

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments in order, the prompt first."""
        return tuple(self._segments)

    @property
    def turns(self) -> int:
        """How many times the model was sampled."""
        return self._turns

    @property
    def ids(self) -> list[int]:
        """Prompt and completion, unpadded: what an engine is fed to continue."""
        return self._ids.copy()

    @property
    def prompt_ids(self) -> list[int]:
        """Everything before the first sampled token."""
        return list(self._segments[0].ids)

    @property
    def completion_ids(self) -> list[int]:
        """Everything from the first sampled token on, injected tokens included."""
        return self._ids[self.prompt_length :]

    @property
    def prompt_mask(self) -> list[int]:
        """1 for each prompt token (padding exists only in batches)."""
        return [1] * len(self._segments[0].ids)

    @property
    def completion_mask(self) -> list[int]:
        """1 for each completion token, sampled or injected."""
        return [1] * self.completion_length

    @property
    def tool_mask(self) -> list[int]:
        """Per completion token: 1 where the policy sampled it, 0 where it was injected."""
        out: list[int] = []
        for segment in self._segments[1:]:
            out += [int(segment.author is Author.MODEL)] * len(segment.ids)
        return out

    @property
    def logprobs(self) -> list[float] | None:
        """Per completion token: the log-prob it was sampled with, 0.0 where injected; None if the engine
        gave none.
        """
        if not self.has_logprobs:
            return None
        return [
            value
            for segment in self._segments[1:]
            for value in (segment.logprobs if segment.logprobs is not None else (0.0,) * len(segment.ids))
        ]

    @property
    def has_logprobs(self) -> bool:
        """Whether turns were sampled and came with log-probs."""
        return self._turns > 0 and not self._without_logprobs

    @property
    def sampled(self) -> list[tuple[int, ...]]:
        """The sampled ids of each turn."""
        return [segment.ids for segment in self._segments if segment.author is Author.MODEL]

    @property
    def prompt_length(self) -> int:
        """Tokens in the prompt."""
        return len(self._segments[0].ids)

    @property
    def completion_length(self) -> int:
        """Tokens in the completion, sampled and injected."""
        return len(self._ids) - self.prompt_length

    @property
    def sampled_length(self) -> int:
        """Tokens that the model wrote."""
        return self._sampled

    def per_token(self, values: Sequence[float]) -> list[float]:
        """One value per turn, spread over the completion: the turn's at each token that it sampled, 0.0 elsewhere."""
        if len(values) != self._turns:
            raise TranscriptError(f"{self._turns} turns came with {len(values)} values; give one each")
        turns = iter(values)
        return [
            value
            for segment in self._segments[1:]
            for value in [next(turns) if segment.author is Author.MODEL else 0.0] * len(segment.ids)
        ]

    def turn_prompts(self) -> list[list[int]]:
        """The ids that each turn was sampled from, in order."""
        prompts: list[list[int]] = []
        so_far: list[int] = []
        for segment in self._segments:
            if segment.author is Author.MODEL:
                prompts.append(list(so_far))
            so_far.extend(segment.ids)
        return prompts

    # -- the contract --------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise ``TranscriptError`` unless the mask contract holds; called before anything is handed to a
        trainer.

        Most of it can't be violated through this class. It is asserted all the same, because a short mask
        row is padded with ones by the trainer, and so trained on without any error.
        """
        ids, mask, real = self.completion_ids, self.tool_mask, self.completion_mask
        logprobs = self.logprobs
        if not ids:
            raise TranscriptError("a rollout without a completion token; sample at least one token for every prompt")
        lengths = {len(ids), len(mask), len(real), len(ids) if logprobs is None else len(logprobs)}
        if len(lengths) != 1:
            raise TranscriptError(f"ids, masks and log-probs of one completion differ in length: {sorted(lengths)}")
        if sum(mask) != self.sampled_length:
            raise TranscriptError("the tool mask doesn't count the sampled tokens")
        if mask[0] != 1 or mask[-1] != 1:
            raise TranscriptError("a completion must begin and end on a sampled token")
        if logprobs is not None and any(itertools.compress(logprobs, map(operator.not_, mask))):
            raise TranscriptError("an injected token has a log-prob")
        # Each turn's prompt is the beginning of one list, so it is a prefix of the next one's if it isn't longer.
        ends = list(itertools.accumulate(len(segment.ids) for segment in self._segments))
        if any(later <= earlier for earlier, later in itertools.pairwise(ends)):
            raise TranscriptError("a turn's prompt is not a prefix of the next turn's")


@dataclass(frozen=True, slots=True)
class TranscriptBatch:
    """Transcripts as padded tensors of shape (batch, longest prompt) and (batch, longest completion).

    Prompts are padded on the left, completions on the right, as GRPO's trainer does it. ``keep`` has one
    entry per row: 0 leaves the row out of the loss. Masks come from lengths and authors, so a pad id that is
    also the eos id (or an ordinary token) changes nothing.
    """

    transcripts: tuple[Transcript, ...]
    pad_token_id: int
    keep: tuple[int, ...]

    @classmethod
    def of(
        cls, transcripts: Sequence[Transcript], pad_token_id: int, keep: Sequence[int] | None = None
    ) -> TranscriptBatch:
        """Check every transcript and put them side by side."""
        if not transcripts:
            raise TranscriptError("a batch needs at least one transcript")
        for transcript in transcripts:
            transcript.check()
        kept = tuple(int(value) for value in keep) if keep is not None else (1,) * len(transcripts)
        if len(kept) != len(transcripts):
            raise TranscriptError(f"{len(transcripts)} transcripts came with {len(kept)} keep values; give one each")
        if any(value not in (0, 1) for value in kept):
            raise TranscriptError("keep values are 0 or 1")
        given = {transcript.logprobs is None for transcript in transcripts}
        if len(given) != 1:
            raise TranscriptError("log-probs must be given for every rollout of a batch or for none")
        return cls(tuple(transcripts), int(pad_token_id), kept)

    @property
    def prompt_ids(self) -> torch.Tensor:
        """Long (batch, longest prompt), padded on the left."""
        return self._padded([t.prompt_ids for t in self.transcripts], self.pad_token_id, left=True)

    @property
    def prompt_mask(self) -> torch.Tensor:
        """Long (batch, longest prompt): 1 on prompt tokens, 0 on padding."""
        return self._padded([t.prompt_mask for t in self.transcripts], 0, left=True)

    @property
    def completion_ids(self) -> torch.Tensor:
        """Long (batch, longest completion), padded on the right."""
        return self._padded([t.completion_ids for t in self.transcripts], self.pad_token_id)

    @property
    def completion_mask(self) -> torch.Tensor:
        """Long (batch, longest completion): 1 on real tokens, sampled or injected."""
        return self._padded([t.completion_mask for t in self.transcripts], 0)

    @property
    def tool_mask(self) -> torch.Tensor:
        """Long (batch, longest completion): 1 where the policy sampled the token; 0 on injected ones and
        padding.
        """
        return self._padded([t.tool_mask for t in self.transcripts], 0)

    @property
    def loss_mask(self) -> torch.Tensor:
        """``tool_mask`` with the rows that are not kept zeroed."""
        return self.tool_mask * torch.tensor(self.keep).unsqueeze(1)

    @property
    def logprobs(self) -> torch.Tensor | None:
        """Float32 (batch, longest completion), 0.0 on injected tokens and padding; None if there are none."""
        given = [row for t in self.transcripts if (row := t.logprobs) is not None]
        return self._padded(given, 0.0) if given else None  # all have them, or none

    @property
    def env_mask(self) -> list[list[int]]:
        """Unpadded loss masks as lists of ints: the form in which TRL takes them from a rollout function."""
        return [[value * keep for value in t.tool_mask] for t, keep in zip(self.transcripts, self.keep, strict=True)]

    @staticmethod
    def _padded(rows: Sequence[list[Any]], fill: float, *, left: bool = False) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor(
            [[fill] * (width - len(row)) + row if left else row + [fill] * (width - len(row)) for row in rows]
        )
