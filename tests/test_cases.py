"""Outputs collected from other projects' tests, and the transcripts of this repository, read exactly."""

from __future__ import annotations

import pytest

import toolparse
from tests import cases
from tests.cases import Case
from tests.places import NO_SHARED, shared_folder

SHARED = shared_folder()
FIRM = [case for case in cases.shared_cases(SHARED) if case.kind in cases.FIRM] if SHARED else []
LOOSE = [case for case in cases.shared_cases(SHARED) if case.kind not in cases.FIRM] if SHARED else []
FIXTURES = list(cases.fixture_cases())
CHUNKINGS = 3

needs_shared = pytest.mark.skipif(SHARED is None, reason=NO_SHARED)


def named(case: Case) -> object:
    """A case as a parameter; one that is listed as an exception must fail, or its entry is out of date."""
    reason = cases.exceptions().get(case.id)
    marks = (
        [pytest.mark.xfail(strict=True, raises=(AssertionError, toolparse.ToolError), reason=reason)] if reason else []
    )
    return pytest.param(case, id=case.id, marks=marks)


def explained(case: Case, message: object) -> str:
    return f"{case.family}: {case.text!r}\nprompt: {case.prefill!r}\nnote: {case.note}\nread: {message!r}"


def check_calls(case: Case) -> None:
    message = cases.read(case)
    assert cases.calls_of(message, case.expect, case.kind) == case.expect["calls"], explained(case, message)
    assert cases.calls_agree(case, message), explained(case, message)
    for seed in range(CHUNKINGS):
        streamed = cases.read_in_chunks(case, seed)
        assert streamed == message, f"chunking {seed} of {explained(case, streamed)}"


@needs_shared
@pytest.mark.parametrize("case", [named(case) for case in FIRM])
def test_collected_case(case: Case) -> None:
    check_calls(case)


@needs_shared
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in LOOSE])
def test_malformed_case_gives_the_same_in_chunks(case: Case) -> None:
    """What such a text means is open; that it means the same however it arrives is not."""
    message = cases.read(case)
    for seed in range(CHUNKINGS):
        assert cases.read_in_chunks(case, seed) == message, explained(case, message)


@needs_shared
def test_share_of_exact_cases() -> None:
    exact = [case for case in FIRM if cases.is_exact(case)]
    meant = [case for case in FIRM if case.id not in cases.ruled()]
    print(f"exact calls: {len(exact)} of {len(FIRM)} ({len(exact) / len(FIRM):.1%})")
    print(f"without the {len(FIRM) - len(meant)} that contradict a ruling: {len(exact) / len(meant):.1%}")
    assert len(FIRM) >= 450
    assert len(exact) / len(FIRM) >= 0.96
    assert len(exact) / len(meant) >= 0.98


@needs_shared
def test_exceptions_name_cases_that_exist() -> None:
    known = {case.id for case in FIRM}
    assert set(cases.exceptions()) <= known
    assert set(cases.text_exceptions()) <= known


@needs_shared
def test_share_of_content_and_reasoning() -> None:
    saying = [case for case in FIRM if cases.says_texts(case)]
    differing = {case.id for case in saying if not cases.texts_agree(case, cases.read(case))}
    ours = len(saying) - len(cases.ruled("ruled_texts"))
    right = len(saying) - len(differing)
    print(f"content and reasoning: {right} of {len(saying)} ({right / len(saying):.1%})")
    print(f"without the {len(saying) - ours} that contradict a ruling: {right / ours:.1%}")
    assert len(saying) >= 200
    assert right / len(saying) >= 0.955
    assert right / ours >= 0.99
    assert differing <= set(cases.text_exceptions())
    assert set(cases.text_exceptions()) <= differing, "a named case is read as its source expects"


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in FIXTURES])
def test_transcript(case: Case) -> None:
    check_calls(case)
    message = cases.read(case)
    assert cases.texts_agree(case, message), explained(case, message)
    assert message.truncated == case.expect.get("truncated", False), explained(case, message)
    codes = {issue.code for issue in message.issues}
    assert set(case.expect.get("issues", ())) <= codes, explained(case, message)
    if case.kind in cases.FIRM:
        assert all(call.ok for call in message.tool_calls), explained(case, message)


def test_transcripts_cover_every_kind() -> None:
    for family in {case.family for case in FIXTURES}:
        kinds = [case.kind for case in FIXTURES if case.family == family]
        assert 8 <= len(kinds) <= 20, family
        assert {"valid", "none", "truncated", "malformed"} <= set(kinds), family
