"""What the endpoint renders is what transformers renders, for every template at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fixtures
from tests.places import real_template_files, template_id

pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[test]'")

import jinja2
from transformers import PreTrainedTokenizerFast

from fixtures.tiny import tiny_tokenizer
from toolparse.errors import UnknownFormat
from toolparse.openai import RequestError, read_chat_request, template_messages
from toolparse.serving.model import ChatModel

CALLS = [
    {
        "id": "call_one",
        "type": "function",
        "function": {"name": "plan_trip", "arguments": '{"city": "Oslo", "days": 2}'},
    },
    {"id": "call_two", "type": "function", "function": {"name": "ping", "arguments": ""}},
]
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Plan and ping."}]},
    {"role": "assistant", "content": None, "reasoning_content": "Two calls.", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "call_one", "content": "planned"},
    {"role": "tool", "tool_call_id": "call_two", "content": "pong"},
]
TURNS = {"first": CONVERSATION[:2], "results": CONVERSATION}


@pytest.mark.real
@pytest.mark.parametrize("path", real_template_files(), ids=template_id)
def test_prompts_of_real_templates(path: Path) -> None:
    tokenizer = tiny_tokenizer(path.read_text("utf-8"))
    check(tokenizer)


@pytest.mark.parametrize("family", fixtures.families())
def test_prompts_of_fixtures(family: str) -> None:
    check(tiny_tokenizer(fixtures.template(family)))


def check(tokenizer: PreTrainedTokenizerFast) -> None:
    try:
        model = ChatModel(tokenizer, name="tiny")
    except UnknownFormat:
        pytest.skip("this template writes no calls")
    for messages in TURNS.values():
        asked = read_chat_request({"messages": messages, "tools": fixtures.TOOLS})
        ours = rendered(model, asked)
        theirs = {by_transformers(model, asked, own_ids=own) for own in (False, True)}
        if theirs == {None}:
            continue  # transformers' sandbox, or the template, refuses it
        assert ours is not None
        assert ours in theirs


def rendered(model: ChatModel, asked: Any) -> str | None:
    try:
        return model.prompt(asked, {}).text
    except RequestError:
        return None  # some templates take one call a turn, and say so


def by_transformers(model: ChatModel, asked: Any, *, own_ids: bool) -> str | None:
    style = model.style
    messages = template_messages(asked.messages, style, own_ids=own_ids)
    extra = style.extra_variables(asked.tools)
    if any(kind != "tools as text" for _, kind in style.variables):
        return None  # the date of today stands in ours
    try:
        text = model.tokenizer.apply_chat_template(
            messages,
            tools=style.tool_definitions(asked.tools) or None,
            chat_template=model.template.source,
            add_generation_prompt=True,
            tokenize=False,
            **extra,
        )
    except (jinja2.TemplateError, RecursionError, TypeError, ValueError):
        return None
    return str(text)
