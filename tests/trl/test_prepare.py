"""Stock trainers accept what they refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer
from trl import GRPOTrainer

import toolparse
from fixtures.tiny import tiny_model, tiny_tokenizer
from toolparse.errors import ExportError
from toolparse.export import to_response_template
from toolparse.format import Format
from trl_integration.bridge import Bridge
from trl_integration.prepare import prepare

from .helpers import EOS, Processor, add, echo, template
from .test_training import config, questions

pytestmark = pytest.mark.slow


def fresh(name: str, blank: str = " ") -> Any:
    """A tokenizer whose template differs from the shipped one by a blank, so that no list of texts has it."""
    tok = tiny_tokenizer(template(name) + blank, eos=EOS.get(name))
    tok.add_special_tokens({"bos_token": "<s>"})
    return tok


def stock(tok: Any, folder: Path) -> GRPOTrainer:
    torch.manual_seed(0)
    model = tiny_model(tok, hidden_size=16)
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [float(len(c)) for c in completions],
        args=config(folder, per_device_train_batch_size=2, num_generations=2, max_completion_length=8),
        train_dataset=questions(2),
        processing_class=tok,
        tools=[add],
    )


@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "qwen3_5_think", "glm4moe"])
def test_a_stock_trainer_that_refuses_a_template_accepts_it_when_prepared(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="chat template"):
        stock(fresh(name), tmp_path)
    tok = fresh(name)
    done = prepare(tok)
    assert done.ready, str(done)
    stock(tok, tmp_path).train()


def test_calls_are_parsed_by_toolparse_and_neighbours_survive() -> None:
    tok = fresh("qwen3")
    prepare(tok)
    bad = '<tool_call>\n{"name": "add", "arguments": {"a": }}\n</tool_call>'
    good = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    message = tok.parse_response(tok(f"{bad}\n{good}<|im_end|>")["input_ids"], tools=[add])
    assert [call["function"] for call in message["tool_calls"]] == [{"name": "add", "arguments": {"a": 1, "b": 2}}]
    deep = tok.parse_response(tok("<tool_call>\n" + "[" * 1000)["input_ids"], tools=[add])
    assert "tool_calls" not in deep


def test_wrapping_changes_nothing_but_last_turns_with_calls() -> None:
    tok = fresh("qwen3", blank="")
    before = tok.chat_template
    talk = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Add."},
    ]
    plain = tok.apply_chat_template(talk, tools=[add], add_generation_prompt=True, tokenize=False)
    done = prepare(tok)
    assert any("wrapped" in change for change in done.changes)
    assert before in tok.chat_template
    assert tok.apply_chat_template(talk, tools=[add], add_generation_prompt=True, tokenize=False) == plain


def test_what_cannot_be_carried_over_is_said() -> None:
    done = prepare(fresh("deepseekv3"))
    assert done.problems or done.ready
    text = str(done)
    assert text.splitlines()[0] in ("ready for stock trainers", "not ready for stock trainers")
    if not done.ready:
        assert "use ToolGRPOTrainer" in text


# -- what lasts ------------------------------------------------------------------------------------------------

FAMILIES = [name for name in toolparse.families() if isinstance(toolparse.get(name), Format)]
SCHEMAS = [toolparse.tool_schema(echo)]


def asked(tok: Any) -> str:
    """A prompt for `tok`."""
    return str(
        tok.apply_chat_template(
            [{"role": "user", "content": "Say."}], tools=SCHEMAS, add_generation_prompt=True, tokenize=False
        )
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_exported_or_says_why(name: str) -> None:
    tok = fresh("qwen3")
    parser = toolparse.parser_for(name)
    try:
        to_response_template(parser.format)
        reason = None
    except ExportError as error:
        reason = str(error)
    done = prepare(tok, parser=parser)
    assert done.exported == (reason is None)
    if reason is not None:
        assert reason in str(done)
        assert "a saved copy" in str(done)
    else:
        assert f"exported from the format {name!r}" in str(done)


#: Per family, a template that speaks it; all of them are exported.
SPEAKERS = ["qwen3", "qwen3_5_think", "llama3_1", "glm4moe", "gptoss", "gemma4_v5", "deepseekv3", "Kimi-K2-Instruct"]
SPEAKERS += ["mistralai-Mistral-Nemo-Instruct-2407", "MiniMax-M2", "ibm-granite-granite-4.0", "nemotron_3_nano"]


@pytest.mark.parametrize("name", SPEAKERS)
def test_a_saved_copy_reads_calls_by_itself(name: str, tmp_path: Path) -> None:
    tok = fresh(name)
    done = prepare(tok)
    assert done.exported, str(done)
    tok.save_pretrained(tmp_path)
    copy = AutoTokenizer.from_pretrained(tmp_path)
    assert "parse_response" not in vars(copy)
    assert copy.response_template == tok.response_template
    end = done.parser.format.ends[0] if done.parser.format.ends else tok.eos_token
    text = done.parser.render([("echo", {"text": "a b"})])
    prompts = [asked(fresh(name))]
    calls = [{"function": {"name": "echo", "arguments": {"text": "x"}}, "type": "function", "id": "call00000"}]
    turn = {"role": "assistant", "content": "", "tool_calls": calls}
    talk = [{"role": "user", "content": "Say."}, turn]
    talk.append({"role": "tool", "name": "echo", "tool_call_id": "call00000", "content": "x"})
    if name != "Kimi-K2-Instruct":  # transformers can't render calls with this one
        prompts.append(Bridge(fresh(name)).render_conversation(talk, SCHEMAS, generation_prompt=True))
    for prompt in prompts:
        written = text.removeprefix("<think>") if prompt.rstrip().endswith("<think>") else text
        written = written if written.endswith(end) else written + end
        for reader in (copy, tok):
            message = reader.parse_response(written, prefix=prompt, tools=SCHEMAS)
            [call] = message["tool_calls"]
            assert call["function"] == {"name": "echo", "arguments": {"text": "a b"}}, reader is copy


def test_a_stock_trainer_accepts_the_saved_copy(tmp_path: Path) -> None:
    tok = fresh("qwen3")
    prepare(tok)
    tok.save_pretrained(tmp_path / "tokenizer")
    stock(AutoTokenizer.from_pretrained(tmp_path / "tokenizer"), tmp_path).train()


@pytest.mark.parametrize("name", ["qwen3", "deepseekv3", "lfm2_2_5"])
def test_undo_gives_everything_back(name: str) -> None:
    tok = fresh(name)
    before = {key: vars(tok).get(key) for key in ("chat_template", "response_template", "parse_response")}
    done = prepare(tok)
    assert done.changes
    assert tok.response_template is not None
    done.undo()
    assert {key: vars(tok).get(key) for key in before} == before
    assert "parse_response" not in vars(tok)
    assert not done.ready
    assert prepare(tok).changes


def test_a_processor_is_prepared_through_its_tokenizer() -> None:
    tok = fresh("qwen3")
    processor = Processor(tok)
    done = prepare(tok, parser=toolparse.parser_for(processor))
    assert done.exported
    text = '<tool_call>\n{"name": "echo", "arguments": {"text": "x"}}\n</tool_call>'
    assert tok.parse_response(tok(text)["input_ids"])["tool_calls"]


def test_batches_are_parsed_one_by_one() -> None:
    tok = fresh("qwen3")
    prepare(tok)
    call = '<tool_call>\n{"name": "echo", "arguments": {"text": "x"}}\n</tool_call>'
    first, second = tok.parse_response([call, "no call"], prefix="", tools=SCHEMAS)
    assert first["tool_calls"]
    assert second == {"role": "assistant", "content": "no call"}
    ids = tok([call, call])["input_ids"]
    assert all(message["tool_calls"] for message in tok.parse_response(ids))
