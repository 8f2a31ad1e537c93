"""assistant_mask against the masks of TRL's own training templates, and on templates that have none."""

from __future__ import annotations

from typing import Any

import pytest

from fixtures.tiny import tiny_tokenizer
from trl_integration.masks import MaskError, assistant_mask

from .helpers import EOS, SHIPPED, add, echo, template, tokenizer

TRAINING = sorted(path.stem.removesuffix("_training") for path in SHIPPED.glob("*_training.jinja"))
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hi there."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Nothing new."},
]


def calls(*items: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"id": f"call{at:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(items)
    ]


WITH_TOOLS: list[dict[str, Any]] = [
    {"role": "user", "content": "Add."},
    {"role": "assistant", "content": "", "tool_calls": calls(("add", {"a": 1, "b": 2}))},
    {"role": "tool", "name": "add", "tool_call_id": "call00000", "content": "3"},
    {"role": "assistant", "content": "It is three."},
]


def spoken(tok: Any, ids: list[int], mask: list[int]) -> list[str]:
    """The runs of ones as text."""
    out, run = [], []
    for token, own in [*zip(ids, mask, strict=True), (0, 0)]:
        if own:
            run.append(token)
        elif run:
            out.append(tok.decode(run))
            run = []
    return out


def test_what_the_assistant_wrote_with_its_end_of_turn() -> None:
    tok = tokenizer("qwen3")
    found = assistant_mask(WITH_TOOLS, tok, tools=[add])
    assert tok.decode(found.ids) == tok.apply_chat_template(WITH_TOOLS, tools=[add], tokenize=False)
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    said = spoken(tok, found.ids, found.mask)
    assert said[0].endswith(call + "<|im_end|>")
    assert said[1].endswith("It is three.<|im_end|>")
    [first, second] = found.turns
    assert [tok.decode(found.ids[a:b]) for a, b in first.calls] == [call]
    assert second.calls == ()
    for turn in found.turns:
        assert turn.end_of_turn is not None
        assert tok.decode(found.ids[slice(*turn.end_of_turn)]) == "<|im_end|>"


@pytest.mark.parametrize("name", TRAINING)
def test_agrees_with_trls_training_templates(name: str) -> None:
    """TRL's `{% generation %}` tags mark the same tokens, but for what the generation prompt writes for the model."""
    tok = tiny_tokenizer(
        template(f"{name}_training"), eos="<|endoftext|>" if name.startswith("phi3") else EOS.get(name)
    )
    tok.add_special_tokens({"bos_token": "<s>"})
    parts = name in ("idefics3", "llava_next", "smolvlm")
    talk = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in TALK] if parts else TALK
    reference = tok.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True, tokenize=True)
    found = assistant_mask(TALK, tok)
    assert found.ids == reference["input_ids"]
    ours, theirs = spoken(tok, found.ids, found.mask), spoken(tok, found.ids, reference["assistant_masks"])
    assert len(ours) == len(theirs) == 2
    prompted = tok.apply_chat_template(talk[:1], add_generation_prompt=True, tokenize=False)
    for own, other in zip(ours, theirs, strict=True):
        # Some leave the white space behind the turn, or the end of the whole text, inside of their tags.
        other = other.removesuffix("<|endoftext|>").rstrip()
        assert other.endswith(own.rstrip())
        ahead = other[: len(other) - len(own.rstrip())]
        assert prompted.rstrip().endswith(ahead.rstrip()) or ahead in prompted


@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "glm4moe", "llama3_1", "gemma4_v5", "nemotron_3_nano"])
def test_works_without_generation_tags(name: str) -> None:
    tok = tokenizer(name)
    found = assistant_mask(WITH_TOOLS, tok, tools=[add])
    said = spoken(tok, found.ids, found.mask)
    assert len(said) in (1, 2)  # Gemma goes on in the same turn after a result
    assert "add" in said[0]
    assert said[-1].count("It is three.") == 1
    assert not any("Add." in text for text in said)
    assert all("3" not in text.replace("00000", "") or "three" in text for text in said[1:])


def test_two_calls_and_content_are_told_apart() -> None:
    tok = tokenizer("qwen3")
    messages = [
        WITH_TOOLS[0],
        {
            "role": "assistant",
            "content": "Both.",
            "tool_calls": calls(("add", {"a": 1, "b": 2}), ("echo", {"text": "hi"})),
        },
    ]
    found = assistant_mask(messages, tok, tools=[add, echo])
    [turn] = found.turns
    texts = [tok.decode(found.ids[a:b]) for a, b in turn.calls]
    assert ['"add"' in texts[0], '"echo"' in texts[1]] == [True, True]
    assert "Both." not in "".join(texts)


def test_a_message_that_a_template_drops_is_named() -> None:
    tok = tiny_tokenizer("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}")
    with pytest.raises(MaskError, match="message 1: the template writes nothing"):
        assistant_mask(TALK, tok)
