"""One GRPO step on scripted rollouts, on however many processes it is launched with; run by test_scale.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from examples.warehouse import TEMPLATE
from fixtures.tiny import tiny_model, tiny_tokenizer
from trl_integration import MultiTurnRollout, Rollout, ScriptedBackend, ToolGRPOTrainer, per_rollout


def double(number: int) -> int:
    """Double a number.

    Args:
        number: The number.
    """
    return 2 * number


@per_rollout
def first_digit(rollout: Rollout) -> float:
    """Something that differs between rollouts."""
    return float(rollout.answer[-1]) / 10


def main() -> None:
    """Train one step and write down what came of it."""
    folder = Path(sys.argv[1])
    ranks, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer(TEMPLATE, eos="<|im_end|>")
    torch.manual_seed(0)
    model = tiny_model(tokenizer, context=1024)
    local = 8 // ranks

    def script(index: int, turn: int) -> str:
        place = rank * local + index
        # Ranks end at different times: the first half of the rollouts calls the tool, the other answers at once.
        if turn == 0 and place < 4:
            return f'<tool_call>\n{{"name": "double", "arguments": {{"number": {place}}}}}\n</tool_call><|im_end|>'
        return f"It is {place}<|im_end|>"

    backend = ScriptedBackend(script, encode=lambda text: list(tokenizer(text)["input_ids"]))
    trainer: Any = ToolGRPOTrainer(
        model=model,
        reward_funcs=first_digit,
        args=GRPOConfig(
            output_dir=str(folder / "run"),
            use_cpu=True,
            bf16=False,
            max_steps=1,
            per_device_train_batch_size=local,
            num_generations=4,
            max_completion_length=200,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            shuffle_dataset=False,
        ),
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": f"Question {n}"}]} for n in range(4)]),
        processing_class=tokenizer,
        rollout=MultiTurnRollout([double], backend=backend, trace=folder / "trace.jsonl"),
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        entry = next(e for e in trainer.state.log_history if "reward" in e)
        weights = sum(float(p.detach().double().abs().sum()) for p in trainer.model.parameters())
        (folder / "log.json").write_text(
            json.dumps({**entry, "weights": weights, "processes": trainer.accelerator.num_processes}), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
