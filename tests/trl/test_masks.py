"""assistant_mask against the masks of TRL's own training templates, and on templates that have none."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fixtures.tiny import tiny_tokenizer
from trl_integration.masks import MaskError, MaskWarning, assistant_mask

from . import mask_oracle
from .helpers import EOS, SHIPPED, add, echo, every_template, parser, template, tokenizer

pytestmark = pytest.mark.usefixtures("still_clock")

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


# -- against the oracle ---------------------------------------------------------------------------------------


def masked_or_refused(
    tok: Any, talks: Iterable[mask_oracle.Talk] | None = None, **kwargs: Any
) -> tuple[int, list[str]]:
    """How many conversations were masked as the oracle says, and why the others were refused; a wrong one fails."""
    right, refused = 0, []
    for talk in mask_oracle.talks() if talks is None else talks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MaskWarning)
            try:
                found = assistant_mask(talk.messages, tok, tools=mask_oracle.tools(), template_kwargs=kwargs)
            except MaskError as refusal:
                refused.append(f"{talk.name}: {refusal}")
                continue
        try:
            mask_oracle.judge(found, talk, tok, kwargs)
        except mask_oracle.Unexplained as wrong:
            pytest.fail(f"{talk.name}: {wrong}")
        right += 1
    return right, refused


@pytest.mark.slow
@pytest.mark.parametrize("path", every_template(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_template_is_masked_wrongly(path: Path) -> None:
    tok = tiny_tokenizer(path.read_text(encoding="utf-8"), eos=EOS.get(path.stem))
    tok.add_special_tokens({"bos_token": "<s>"})
    right, refused = masked_or_refused(tok)
    assert right + len(refused) == len(list(mask_oracle.talks()))


# Each was masked wrongly once: no header before the turn, text of tools in it, thoughts that the prompt opened.
@pytest.mark.parametrize("name", ["mistralai-Mistral-Nemo-Instruct-2407", "gptoss", "gemma4_v5", "qwen3_5_think"])
def test_what_was_once_wrong_is_right(name: str) -> None:
    tok = tokenizer(name)
    right, refused = masked_or_refused(tok)
    assert right >= 20, refused
    if name == "qwen3_5_think":
        found = assistant_mask(WITH_TOOLS[:2], tok, tools=[add])
        assert spoken(tok, found.ids, found.mask)[0].startswith("\n</think>\n\n<tool_call>")
    if name == "gptoss":
        found = assistant_mask(WITH_TOOLS, tok, tools=[add])
        call, answer = spoken(tok, found.ids, found.mask)
        assert call.startswith(" to=functions.add")
        assert call.endswith("}<|call|>")
        assert answer == "<|channel|>final<|message|>It is three.<|return|>"


#: How many random conversations each real tokenizer is tried with.
RANDOM = int(os.environ.get("TOOLPARSE_RANDOM_TALKS", "10"))

#: Real tokenizers: a template to use instead of their own, and how many conversations it can carry at least.
REAL = [
    ("qwen3", None, 24),
    ("qwen2_5", None, 24),
    ("llama3_2", "tool_chat_template_llama3.2_json", 20),
    ("mistral_nemo", "mistralai-Mistral-Nemo-Instruct-2407", 24),
    ("deepseek_v3", "tool_chat_template_deepseekv3", 10),
    ("gptoss", "gptoss", 20),
    ("gemma3", "tool_chat_template_gemma3_pythonic", 20),
]


@pytest.mark.real
@pytest.mark.parametrize(("name", "other", "least"), REAL, ids=[name for name, _, _ in REAL])
def test_real_tokenizers(name: str, other: str | None, least: int, real_tokenizer: Callable[[str], Any]) -> None:
    tok = copy.copy(real_tokenizer(name))
    if other is not None:
        tok.chat_template = template(other)
    right, refused = masked_or_refused(tok)
    assert right >= least, refused
    masked_or_refused(tok, map(mask_oracle.random_talk, range(RANDOM)))


@pytest.mark.parametrize("thinking", [True, False])
def test_thinking_switches(thinking: bool) -> None:
    for name in ("qwen3", "qwen3_5_think", "gemma4_v5", "glm4moe"):
        right, refused = masked_or_refused(tokenizer(name), enable_thinking=thinking)
        assert right >= 20, refused


AWKWARD = [
    "",
    " \n",
    "<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>",
    "</think>",
    "<think>\nno\n</think>\n\nyes",
    '{"name": "add", "arguments": {}}',
    "Qam000000zq",
    "ü🙂 \\ \" '",
]


@pytest.mark.parametrize("text", AWKWARD)
@pytest.mark.parametrize("author", ["user", "tool", "assistant", "argument"])
def test_awkward_texts_move_no_border(author: str, text: str) -> None:
    """What stands around the awkward text is marked as it is around a plain word, or the conversation is refused."""
    for name in ("qwen3", "llama3_1", "glm4moe", "mistralai-Mistral-Nemo-Instruct-2407", "gptoss"):
        tok = tokenizer(name)

        def talk(word: str) -> list[dict[str, Any]]:
            def said(who: str, usual: str) -> str:
                return word if who == author else usual  # noqa: B023 - called at once

            return [
                {"role": "user", "content": said("user", "Say.")},
                {"role": "assistant", "content": "", "tool_calls": calls(("echo", {"text": said("argument", "x")}))},
                {"role": "tool", "name": "echo", "tool_call_id": "call00000", "content": said("tool", "x")},
                {"role": "assistant", "content": said("assistant", "Done.")},
                {"role": "user", "content": "Thanks."},
                {"role": "assistant", "content": "Bye."},
            ]

        try:
            found = assistant_mask(talk(text), tok, tools=[echo])
        except MaskError:
            continue
        plain = assistant_mask(talk("Zplainq"), tok, tools=[echo])
        runs, usual = spoken(tok, found.ids, found.mask), spoken(tok, plain.ids, plain.mask)
        assert len(runs) == len(usual)
        at = {"argument": 0, "assistant": 1}.get(author)
        assert [r for i, r in enumerate(runs) if i != at] == [r for i, r in enumerate(usual) if i != at]
        if at is not None:
            before, _, after = usual[at].partition("Zplainq")
            assert runs[at].startswith(before.rstrip()[:20])
            assert runs[at].endswith(after)


def test_work_grows_with_the_turns_and_no_faster(renders: list[Any]) -> None:
    """Characters rendered for 10, 20 and 40 rounds: each doubling at most doubles them, but for the prompts that are
    held against whole conversations, of which there are a few."""
    tok = tokenizer("qwen3")
    work = []
    for rounds in (10, 20, 40):
        renders.clear()
        talk = [WITH_TOOLS[0]] + WITH_TOOLS[1:3] * rounds + WITH_TOOLS[3:]
        assistant_mask(talk, tok, tools=[add], parser=parser("qwen3"))
        work.append(sum(len(text) for *_, text in renders))
    assert work[2] - work[1] < 2.2 * (work[1] - work[0])


def test_glm_is_stopped_by_what_opens_the_next_turn_and_the_last_turn_warns() -> None:
    tok = tokenizer("glm4moe")
    with pytest.warns(MaskWarning, match="teaches no stop"):
        found = assistant_mask(WITH_TOOLS, tok, tools=[add])
    assert spoken(tok, found.ids, found.mask)[0].endswith("</tool_call><|observation|>")
    assert found.turns[-1].end_of_turn is None


def test_a_call_that_a_template_drops_is_named() -> None:
    two = [WITH_TOOLS[0], {**WITH_TOOLS[1], "tool_calls": calls(("add", {"a": 1}), ("echo", {"text": "x"}))}]
    with pytest.raises(MaskError, match=r"doesn't write call 2 \(echo\)"):
        assistant_mask(two, tokenizer("gptoss"), tools=[add, echo])


def test_images_are_refused_by_name() -> None:
    talk = [{"role": "user", "content": [{"type": "image", "url": "x"}, {"type": "text", "text": "What?"}]}, TALK[1]]
    with pytest.raises(MaskError, match="message 0 holds a part of type 'image'"):
        assistant_mask(talk, tokenizer("qwen3"))


def test_the_time_may_move_on_between_two_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second that ends while a conversation is rendered is no reason to refuse it."""
    seconds = iter(["0", "1", *"2" * 99])

    class Moving(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Moving:
            return cls(2024, 5, 17, 12, 0, int(next(seconds)), tzinfo=tz)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Moving)
    tok = tiny_tokenizer("{{ strftime_now('%S') }}" + template("qwen3"), eos="<|im_end|>")
    found = assistant_mask(TALK, tok, parser=parser("qwen3"))
    assert spoken(tok, found.ids, found.mask)[-1].endswith("Nothing new.<|im_end|>")


def test_a_conversation_that_begins_with_an_assistant_is_refused() -> None:
    with pytest.raises(MaskError, match="message 0: no prompt comes before it"):
        assistant_mask([{"role": "assistant", "content": "Hello!"}, *TALK], tokenizer("qwen3"))


@pytest.mark.parametrize("nothing", [None, []])
def test_no_calls_are_no_calls(nothing: Any) -> None:
    """Data sets hold None or an empty list where there are none."""
    talk = [{**message, "tool_calls": nothing} for message in TALK]
    for name in ("qwen3", "gptoss", "llama3_1", "mistralai-Mistral-Nemo-Instruct-2407"):
        assert assistant_mask(talk, tokenizer(name)) == assistant_mask(TALK, tokenizer(name))
