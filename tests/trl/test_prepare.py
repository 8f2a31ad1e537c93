"""Stock trainers accept what they refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from fixtures.tiny import tiny_model, tiny_tokenizer
from trl_integration.prepare import prepare

from .helpers import EOS, add, template

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
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            max_steps=1,
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=8,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "Add."}]}] * 2),
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
