"""Masks are views of who wrote what."""

from __future__ import annotations

import pytest
import torch

from trl_integration.transcript import Author, Segment, Transcript, TranscriptBatch, TranscriptError


def scaffold(*ids: int) -> Segment:
    return Segment.of(Author.SCAFFOLD, ids)


def tool(*ids: int) -> Segment:
    return Segment.of(Author.TOOL, ids)


def two_turns() -> Transcript:
    transcript = Transcript([1, 2, 3])
    transcript.add_turn([4, 5], [-0.5, -0.25])
    transcript.add_turn([9], [-1.0], before=[scaffold(6), tool(7, 7), scaffold(8)])
    return transcript


def test_masks_follow_the_authors() -> None:
    transcript = two_turns()
    assert transcript.prompt_ids == [1, 2, 3]
    assert transcript.prompt_mask == [1, 1, 1]
    assert transcript.completion_ids == [4, 5, 6, 7, 7, 8, 9]
    assert transcript.completion_mask == [1, 1, 1, 1, 1, 1, 1]
    assert transcript.tool_mask == [1, 1, 0, 0, 0, 0, 1]
    assert transcript.logprobs == [-0.5, -0.25, 0.0, 0.0, 0.0, 0.0, -1.0]
    assert transcript.ids == [1, 2, 3, 4, 5, 6, 7, 7, 8, 9]
    assert transcript.sampled == [(4, 5), (9,)]
    assert (transcript.turns, transcript.sampled_length, transcript.completion_length) == (2, 3, 7)
    assert transcript.turn_prompts() == [[1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 7, 8]]
    transcript.check()


def test_ids_of_any_integer_kind_become_plain_ints() -> None:
    transcript = Transcript(torch.tensor([1, 2]))
    transcript.add_turn(torch.tensor([3]))
    assert transcript.ids == [1, 2, 3]
    assert all(type(token) is int for token in transcript.ids)
    assert all(type(value) is int for value in transcript.tool_mask)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Transcript([]), "at least one token"),
        (lambda: Transcript([True, False]), "not a mask"),
        (lambda: Transcript(["a"]), "encode the text first"),  # type: ignore[list-item]
        (lambda: Transcript([-1]), "not negative"),
        (lambda: Transcript([1]).add_turn([2], before=[scaffold(3)]), "put it into the prompt"),
        (lambda: two_turns().add_turn([2]), "pass them as before="),
        (lambda: Transcript([1]).add_turn([2, 3], [-1.0]), "2 sampled tokens came with 1 log-probs"),
        (lambda: Transcript([1]).add_turn([2], [float("nan")]), "not finite"),
        (lambda: Transcript([1]).add_turn([]), "at least one token"),
        (lambda: two_turns().add_turn([2], before=[scaffold(1)]), "for every turn of a rollout or for none"),
        (lambda: two_turns().add_turn([2], [-1.0], before=[Segment.of(Author.MODEL, [1])]), "only tool and scaffold"),
        (lambda: Segment.of(Author.TOOL, [1], [-1.0]), "log-probs belong to sampled tokens"),
    ],
)
def test_mistakes_are_named(build: object, said: str) -> None:
    with pytest.raises(TranscriptError, match=said):
        build()  # type: ignore[operator]


def test_a_transcript_without_a_turn_is_refused() -> None:
    with pytest.raises(TranscriptError, match="without a completion token"):
        Transcript([1]).check()


def test_injected_tokens_cannot_be_appended_alone() -> None:
    """There is no way to leave a dangling tail: the only method that grows a transcript needs sampled tokens."""
    growing = [name for name in vars(Transcript) if name.startswith(("add", "append", "extend"))]
    assert growing == ["add_turn"]


def test_19_pad_is_eos_and_rows_are_ragged() -> None:
    eos = 9
    short = Transcript([1])
    short.add_turn([eos], [-2.0])
    batch = TranscriptBatch.of([two_turns(), short], pad_token_id=eos, keep=[1, 0])
    assert batch.prompt_ids.tolist() == [[1, 2, 3], [9, 9, 1]]
    assert batch.prompt_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.completion_ids.tolist() == [[4, 5, 6, 7, 7, 8, 9], [9, 9, 9, 9, 9, 9, 9]]
    # The sampled eos counts, the padding with the same id doesn't.
    assert batch.completion_mask.tolist() == [[1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0]]
    assert batch.tool_mask.tolist() == [[1, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]]
    assert batch.loss_mask.tolist() == [[1, 1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]]
    assert batch.env_mask == [[1, 1, 0, 0, 0, 0, 1], [0]]
    logprobs = batch.logprobs
    assert logprobs is not None
    assert logprobs.tolist() == [[-0.5, -0.25, 0, 0, 0, 0, -1.0], [-2.0, 0, 0, 0, 0, 0, 0]]


def test_23_a_mask_of_the_wrong_length_raises_before_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    transcript = two_turns()
    monkeypatch.setattr(Transcript, "tool_mask", property(lambda self: [1, 0, 1]))
    with pytest.raises(TranscriptError, match="differ in length"):
        TranscriptBatch.of([transcript], pad_token_id=0)


def test_a_batch_needs_log_probs_for_all_or_none() -> None:
    bare = Transcript([1])
    bare.add_turn([2])
    with pytest.raises(TranscriptError, match="every rollout of a batch or for none"):
        TranscriptBatch.of([two_turns(), bare], pad_token_id=0)
    assert TranscriptBatch.of([bare], pad_token_id=0).logprobs is None
    with pytest.raises(TranscriptError, match="1 transcripts came with 2 keep values"):
        TranscriptBatch.of([bare], pad_token_id=0, keep=[1, 1])
