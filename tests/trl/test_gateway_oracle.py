"""Random conversations over real tokenizers: rows against masks of whole conversations, token by token.

The model's turns are what the template writes for them. Where it rewrites no history, a row must have the ids and the
mask that `assistant_mask` proves for the conversation, which an oracle of its own judges (`mask_oracle`). Where it does, only
the engine's own record can tell (`rows_of`), and the conversation must be one row all the same.
"""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from trl_integration import Budget
from trl_integration.masks import AssistantMask, MaskError, MaskWarning, assistant_mask

from . import mask_oracle
from .conftest import _Still
from .gateway_helpers import Client, play
from .helpers import Recording

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.usefixtures("still_clock")]

#: tokenizer, template (None: its own), whether it carries tools
TOKENIZERS = [
    ("qwen3", None, True),
    ("qwen2_5", None, True),
    ("llama3_2", "shared:tool_chat_template_llama3.2_json", True),
    ("mistral_nemo", "shared:mistralai-Mistral-Nemo-Instruct-2407", True),
    ("deepseek_v3", "trl:deepseekv3", True),
    ("gptoss", "trl:gptoss", True),
    ("gemma3", None, False),
]
EACH = int(os.environ.get("GATEWAY_TALKS") or 60)


@pytest.fixture(params=TOKENIZERS, ids=[name for name, *_ in TOKENIZERS])
def real(
    request: pytest.FixtureRequest, real_tokenizer: Callable[[str], Any], real_templates: dict[str, str]
) -> tuple[Any, bool]:
    name, template, tools = request.param
    loaded = real_tokenizer(name)
    if template is not None:
        if template not in real_templates:
            pytest.skip(f"the template {template} is not at hand")
        loaded.chat_template = real_templates[template]
    return loaded, tools


Conversation = tuple[mask_oracle.Talk, AssistantMask, list[list[int]]]


def sampled_turns(tok: Any, talk: mask_oracle.Talk, found: AssistantMask, offered: list[Any]) -> list[list[int]]:
    """The ids of each turn as the template writes it while it is the last: with its thought, and its end."""
    out = []
    for turn in found.turns:
        so_far = assistant_mask(talk.messages[: turn.message + 1], tok, tools=offered)
        out.append(so_far.ids[so_far.turns[-1].start : so_far.turns[-1].end])
    return out


def talks(tok: Any, tools: bool) -> list[Conversation]:
    """Conversations that the template can carry at all, with what the model samples in them."""
    out = []
    offered = mask_oracle.tools() if tools else []
    for seed in range(4 * EACH):
        talk = mask_oracle.random_talk(seed)
        if not tools and (set(talk.name) & set("cdefnot") or talk.name.startswith("s")):
            talk = mask_oracle._talk("ua" * (1 + seed % 6))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MaskWarning)
            try:
                found = assistant_mask(talk.messages, tok, tools=offered)
                turns = sampled_turns(tok, talk, found, offered)
            except MaskError:
                continue
        if all(turn.end_of_turn is not None for turn in found.turns[:-1]):
            out.append((talk, found, turns))
        if len(out) == EACH:
            break
    return out


def told_by_a_client(message: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A message as some client sends it back."""
    made = dict(message)
    if chance.random() < 0.5:
        made.pop("reasoning_content", None)
    if chance.random() < 0.3 and made["content"]:
        made["content"] = [{"type": "text", "text": made["content"]}]
    if chance.random() < 0.5 and made.get("tool_calls"):
        made["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _respelled(call["function"]["arguments"])}}
            for call in made["tool_calls"]
        ]
    return made


def _respelled(text: str) -> str:
    return json.dumps(dict(reversed(json.loads(text).items())), indent=1)


def playing(conversations: list[Conversation], tools: bool) -> Callable[[Any], None]:
    """The user and the tools of a conversation."""

    def run(task: Any) -> None:
        talk, *_ = conversations[task.index]
        chance = random.Random(task.index)
        client, messages = Client(task, tools=mask_oracle.tools() if tools else []), []
        given: list[Any] = []
        for message in talk.messages:
            if message["role"] == "assistant":
                answer = client.ask(messages)
                given = [call["id"] for call in answer.get("tool_calls", ())]
                assert [call["function"]["name"] for call in answer.get("tool_calls", ())] == [
                    call["function"]["name"] for call in message.get("tool_calls", ())
                ]
                messages.append(told_by_a_client(answer, chance))
            elif message["role"] == "tool":
                messages.append({"role": "tool", "tool_call_id": given.pop(0), "content": message["content"]})
            else:
                messages.append(message)

    return run


def test_rows_have_the_tokens_and_the_mask_of_the_conversation(
    real: tuple[Any, bool], monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    monkeypatch.setattr("toolparse.serving.model.datetime", _Still)
    tok, tools = real
    conversations = talks(tok, tools)
    assert len(conversations) >= EACH // 2

    def turn(index: int, number: int) -> list[int]:
        return conversations[index][2][number]

    backend = Recording(turn, encode=None)
    rows, _ = play(
        "",
        turn,
        playing(conversations, tools),
        count=len(conversations),
        tok=tok,
        backend=backend,
        max_concurrency=16,
        seconds=300.0,
        budget=_ENDLESS,
    )
    same = single = retokenized = several = 0
    for row, (talk, found, turns) in zip(rows, conversations, strict=True):
        assert row.stop_reason in ("answered", "done"), (talk.name, row.detail)
        end = found.turns[-1].end
        whole = [0] * row.transcript.prompt_length + row.transcript.tool_mask
        single += len(row.session.rows) == 1
        several += len(found.turns) > 1
        rows_else = rows_of_retokenizing(tok, row, backend)
        retokenized += rows_else
        begun = found.ids[: row.transcript.prompt_length] == row.transcript.prompt_ids
        kept = [found.ids[turn.start : turn.end] for turn in found.turns] == turns
        # Every prompt that the template writes goes on from the one before, and the end changes nothing of it either.
        if rows_else == 1 and begun and kept:
            assert tok.decode(row.transcript.ids) == tok.decode(found.ids[:end]), talk.name
            assert (row.transcript.ids, whole) == (found.ids[:end], found.mask[:end]), talk.name
            same += 1
    record_property("conversations", len(rows))
    record_property("one row", single)
    record_property("rows if re-tokenized", retokenized)
    record_property("identical to the mask of the conversation", same)
    print(
        f"\n{len(rows)} conversations, {several} of several turns: one row {single}, "
        f"rows if re-tokenized {retokenized}, identical to the conversation's mask {same}"
    )
    assert single == len(rows)
    # A prompt that opens a thought which the history leaves out is never the beginning of the conversation's text.
    assert same or tok.decode(rows[0].transcript.prompt_ids).rstrip().endswith("<think>")


def rows_of_retokenizing(tok: Any, row: Any, backend: Recording) -> int:
    """How many rows the same conversation is if every prompt is what the template writes for the messages so far."""
    from trl_integration.bridge import Bridge

    bridge = Bridge(tok, parser=None)
    tools = mask_oracle.tools() if "fnalpha" in tok.decode(row.transcript.prompt_ids) else []
    rows, before = 0, [-1]
    messages = [*row.prompt, *row.messages]
    turn = 0
    for at, message in enumerate(messages):
        if at < len(row.prompt) or message["role"] != "assistant":
            continue
        prompt = bridge.prompt_ids(messages[:at], tools)
        rows += prompt[: len(before)] != before
        before = [*prompt, *backend.seen[row.index][turn][1].ids]
        turn += 1
    return rows


_ENDLESS = Budget(turns=None)
