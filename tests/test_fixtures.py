"""The fixtures themselves: templates that render, tokenizers that keep text, and detection that finds the family."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

import fixtures
import toolparse
from fixtures import tokenizers

FAMILIES = fixtures.families()

# Families whose templates write thoughts.
THINKING = {"qwen", "deepseek-r1", "deepseek-v31", "mistral-v13", "harmony", "glm45", "glm47", "minimax-m2"}
THINKING |= {"lfm2", "gemma4"}
# Families whose turns hold either calls or text: what is said beside a call is not written.
CALLS_ONLY = {"llama3-json", "pythonic"}

CONVERSATIONS = dict(fixtures.conversation())


def assistant_turn(family: str, name: str) -> str:
    """What the template writes for the last message of a conversation."""
    messages = CONVERSATIONS[name]
    whole = fixtures.render(family, messages, tools=fixtures.TOOLS)
    before = fixtures.render(family, messages[:-1], tools=fixtures.TOOLS)
    assert whole.startswith(before)
    return whole[len(before) :]


def test_every_family_of_the_list_has_a_template_and_transcripts() -> None:
    assert len(FAMILIES) == 24
    for family in FAMILIES:
        assert fixtures.transcripts(family), family
        assert family in toolparse.families(), family


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_template_renders(family: str, conversation: str) -> None:
    messages = CONVERSATIONS[conversation]
    text = fixtures.render(family, messages, tools=fixtures.TOOLS, add_generation_prompt=True)
    assert messages[0]["content"] in text
    # The tools are announced, in whatever way.
    assert "plan_trip" in text
    assert "write_file" in text
    assert "Where to?" in fixtures.render(family, messages)


@pytest.mark.parametrize("family", FAMILIES)
def test_template_writes_what_it_is_given(family: str) -> None:
    assert "Done." in assistant_turn(family, "answer")
    calls = assistant_turn(family, "calls")
    assert calls.index("plan_trip") < calls.index("ping")
    assert "Łódź" in calls  # written as it stands, not escaped
    assert "\\u" not in calls
    assert ("Let me see." in assistant_turn(family, "said")) == (family not in CALLS_ONLY)
    assert ("Two steps." in assistant_turn(family, "thought")) == (family in THINKING)
    results = fixtures.render(family, CONVERSATIONS["results"], tools=fixtures.TOOLS)
    assert results.index("booked") < results.index("pong")


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_prompt_opens_the_assistant_turn(family: str) -> None:
    """What the model goes on from is how the template itself begins an assistant's turn, but for an opened thought."""
    question = CONVERSATIONS["question"]
    prompt = fixtures.render(family, question, tools=fixtures.TOOLS, add_generation_prompt=True)
    opened = prompt[len(fixtures.render(family, question, tools=fixtures.TOOLS)) :]
    thinks = family in THINKING
    turn = assistant_turn(family, "thought" if thinks else "answer")
    variables = {"thinking": True} if family == "deepseek-v31" else {}
    if variables:
        prompt = fixtures.render(family, question, tools=fixtures.TOOLS, add_generation_prompt=True, **variables)
        opened = prompt[len(fixtures.render(family, question, tools=fixtures.TOOLS)) :]
    assert turn.startswith(opened)


@pytest.mark.parametrize("family", FAMILIES)
def test_rendering_leaves_the_data_alone(family: str) -> None:
    for messages in CONVERSATIONS.values():
        before = json.dumps(messages)
        fixtures.render(family, messages, tools=fixtures.TOOLS)
        assert json.dumps(messages) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_detection_finds_the_family(family: str) -> None:
    found = toolparse.detect(fixtures.template(family))
    assert found.format is not None, found.evidence
    assert found.verified, found.problems
    assert {found.format.name, found.format.variant_of} & {family, *SAME_PICTURE.get(family, ())}, found.evidence


# Families that write the same, up to white space: the picture can't tell them apart.
SAME_PICTURE = dict.fromkeys(("hermes", "qwen", "granite4"), ("hermes", "qwen", "granite4"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("conversation", ["answer", "thought", "call", "calls", "said", "thought call"])
def test_what_the_template_writes_reads_back(family: str, conversation: str) -> None:
    message = CONVERSATIONS[conversation][-1]
    parser = toolparse.parser_for(fixtures.template(family), tools=fixtures.TOOLS)
    question = CONVERSATIONS["question"]
    prompt = fixtures.render(family, question, tools=fixtures.TOOLS, add_generation_prompt=True)
    whole = fixtures.render(family, CONVERSATIONS[conversation], tools=fixtures.TOOLS)
    # A model that was made to think can't have written an answer without a thought: then the whole turn is read.
    continues = whole.startswith(prompt)
    text, before = (whole[len(prompt) :], prompt) if continues else (assistant_turn(family, conversation), "")
    read = parser.parse(text, prompt=before)
    wanted = [call["function"] for call in message.get("tool_calls", [])]
    assert [{"name": call.name, "arguments": call.arguments} for call in read.tool_calls] == wanted
    assert all(call.ok for call in read.tool_calls)
    if continues and not (wanted and family in CALLS_ONLY):
        assert read.content.strip() == (message["content"] or "")
    if continues and family in THINKING and conversation != "answer":
        assert (read.reasoning or "") == message.get("reasoning_content", "")


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_keeps_every_text(family: str) -> None:
    backend = tokenizers.backend(family)
    for case in fixtures.transcripts(family):
        ids = backend.encode(case["text"], add_special_tokens=False).ids
        assert backend.decode(ids, skip_special_tokens=False) == case["text"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_marker_is_one_token(family: str) -> None:
    backend = tokenizers.backend(family)
    for marker in tokenizers.markers(family):
        assert backend.encode(marker, add_special_tokens=False).ids == [backend.token_to_id(marker)], marker


def test_tokenizers_are_deterministic_and_quick() -> None:
    tokenizers.backend("qwen")
    begun = time.perf_counter()
    first, second = tokenizers.backend("qwen"), tokenizers.backend("qwen")
    assert time.perf_counter() - begun < 2
    assert first.to_str() == second.to_str()


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_renders_the_same(family: str) -> None:
    pytest.importorskip("transformers", reason="transformers renders the templates here")
    tokenizer: Any = tokenizers.tokenizer(family)
    for messages in CONVERSATIONS.values():
        ours = fixtures.render(family, messages, tools=fixtures.TOOLS, eos_token=tokenizer.eos_token)
        assert tokenizer.apply_chat_template(messages, tools=fixtures.TOOLS, tokenize=False) == ours


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_read_like_text(family: str) -> None:
    pytest.importorskip("transformers", reason="the tokenizer is transformers' own")
    tokenizer: Any = tokenizers.tokenizer(family)
    parser = toolparse.parser_for(tokenizer)
    for case in fixtures.transcripts(family):
        if case["kind"] not in ("valid", "none"):
            continue
        # A marker that a string spells out would be that very token here: such texts differ by design.
        quoted = any(marker in json.dumps(case["expect"], ensure_ascii=False) for marker in tokenizers.markers(family))
        if quoted:
            continue
        ids = tokenizer.encode(case["text"], add_special_tokens=False)
        prompt = case.get("prefill", "")
        by_ids = parser.parse(ids, tools=case.get("tools"), prompt=prompt)
        by_text = parser.parse(case["text"], tools=case.get("tools"), prompt=prompt)
        assert by_ids.tool_calls == by_text.tool_calls, case["text"]
        assert (by_ids.content, by_ids.reasoning) == (by_text.content, by_text.reasoning), case["text"]
        ends = [span.token_end for span in by_ids.spans]
        starts = [span.token_start for span in by_ids.spans]
        assert [0, *ends] == [*starts, len(ids)], case["text"]
