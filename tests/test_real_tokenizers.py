"""Token ids of real tokenizers: the same calls as on text, token spans that tile, markers that only count as tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import toolparse
from tests.conftest import sliced, streamed
from toolparse import testing
from toolparse.message import ParsedMessage

pytestmark = pytest.mark.real

#: tokenizer, template that it is read with (None: its own), family
TOKENIZERS = [
    ("qwen3", None),
    ("llama3_2", "shared:tool_chat_template_llama3.2_json"),
    ("mistral_nemo", "shared:mistralai-Mistral-Nemo-Instruct-2407"),
    ("deepseek_v3", "shared:tool_chat_template_deepseekv3"),
    ("gptoss", "trl:gptoss"),
]

ARGUMENTS = {
    "city": 'São Paulo "centro"',
    "note": "two\nlines, 日本語 🙂, a < b && </tool_call>",
    "days": 3,
    "exact": 12345678901234567890123,
    "share": 0.25,
    "direct": True,
    "via": ["a", {"b": None}],
    "zip": "01310",
}


def tool(name: str) -> dict[str, Any]:
    properties = {
        "city": {"type": "string"},
        "note": {"type": "string"},
        "days": {"type": "integer"},
        "exact": {"type": "integer"},
        "share": {"type": "number"},
        "direct": {"type": "boolean"},
        "via": {"type": "array"},
        "zip": {"type": "string"},
    }
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


TOOLS = [tool("plan_trip"), tool("ping")]


@pytest.fixture(params=TOKENIZERS, ids=[name for name, _ in TOKENIZERS])
def tokenizer(
    request: pytest.FixtureRequest, real_tokenizer: Callable[[str], Any], real_templates: dict[str, str]
) -> Any:
    name, template = request.param
    loaded = real_tokenizer(name)
    if template is not None:
        if template not in real_templates:
            pytest.skip(f"the template {template} is not at hand")
        loaded.chat_template = real_templates[template]
    return loaded


def text_of(tokenizer: Any, calls: int) -> str:
    parser = toolparse.parser_for(tokenizer)
    names = ["plan_trip", "ping"][:calls]
    return parser.render([(name, ARGUMENTS if name == "plan_trip" else {}) for name in names])


def assert_token_tiling(message: ParsedMessage, count: int) -> None:
    at = 0
    for span in message.spans:
        assert span.token_start == at
        assert span.token_end is not None
        at = span.token_end
    assert at == count


@pytest.mark.parametrize("calls", [1, 2])
def test_ids_give_what_text_gives(tokenizer: Any, calls: int) -> None:
    text = text_of(tokenizer, calls)
    ids = tokenizer.encode(text, add_special_tokens=False)
    by_text = toolparse.parse(text, tokenizer, TOOLS)
    by_ids = toolparse.parse(ids, tokenizer, TOOLS)
    assert [(c.name, c.arguments) for c in by_text.tool_calls] == [(c.name, c.arguments) for c in by_ids.tool_calls]
    assert len(by_ids.tool_calls) == calls
    assert all(call.ok for call in by_ids.tool_calls)
    assert by_ids.tool_calls[0].arguments == ARGUMENTS
    assert_token_tiling(by_ids, len(ids))


def test_a_call_s_tokens_are_its_text(tokenizer: Any) -> None:
    text = "Hé 🙂.\n" + text_of(tokenizer, 1)
    ids = tokenizer.encode(text, add_special_tokens=False)
    message = toolparse.parse(ids, tokenizer, TOOLS)
    (call,) = message.tool_calls
    start, end = call.span.token_start, call.span.token_end
    assert start is not None
    # A token belongs to the span of its first character, so one may reach into the call from before, one out of it.
    wider = tokenizer.decode(ids[start - 1 : end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    own = tokenizer.decode(ids[start:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert call.raw in wider
    assert abs(len(own) - len(call.raw)) <= 8


@pytest.mark.parametrize("seed", range(4))
def test_streamed_ids_end_like_whole_ones(tokenizer: Any, seed: int) -> None:
    text = "Hé 🙂 日本. " + text_of(tokenizer, 2)
    ids = tokenizer.encode(text, add_special_tokens=False)
    whole = toolparse.parse(ids, tokenizer, TOOLS)
    in_pieces = streamed(toolparse.parser_for(tokenizer), testing.chunked(ids, seed), tools=TOOLS)
    assert in_pieces == whole
    assert in_pieces.spans == whole.spans


@pytest.mark.parametrize("step", [0, 1, 3])
def test_a_marker_spelled_in_ordinary_tokens_is_text(real_tokenizer: Callable[[str], Any], step: int) -> None:
    tokenizer = real_tokenizer("qwen3")
    spelled: list[int] = []
    for piece in ("Write <tool", "_call>", '\n{"name": "ping", "arguments": {}}\n</tool', "_call> like this."):
        spelled += tokenizer.encode(piece, add_special_tokens=False)
    marker = tokenizer.convert_tokens_to_ids("<tool_call>")
    assert marker not in spelled
    real = tokenizer.encode('\n<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>', add_special_tokens=False)
    assert marker in real
    if step:
        message = streamed(toolparse.parser_for(tokenizer), sliced(spelled + real, step), tools=TOOLS)
    else:
        message = toolparse.parse(spelled + real, tokenizer, TOOLS)
    assert [call.name for call in message.tool_calls] == ["ping"]
    assert message.content == 'Write <tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call> like this.'
    assert_token_tiling(message, len(spelled) + len(real))
    as_text = toolparse.parse(message.text, tokenizer, TOOLS)
    assert len(as_text.tool_calls) == 2  # in plain text the spelling counts
