"""GRPO with tools in one line, on any chat model: ``python examples/train_tools.py MODEL``.

With several processes: ``accelerate launch --num_processes 2 examples/train_tools.py MODEL``. Without a model, a
tiny random one is made on the spot, which shows that everything runs and learns nothing.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trl_integration import Budget, Rollout, ToolGRPOTrainer, per_rollout

POPULATION = {"Oslo": 709_037, "Bergen": 289_330, "Trondheim": 212_660}


def population(city: str) -> int:
    """Look up how many people live in a city.

    Args:
        city: The city's name.
    """
    return POPULATION[city]


@per_rollout
def right(rollout: Rollout) -> float:
    """1 if the answer has the number, and a little for a call that ran."""
    ran = any(result.ok for result in rollout.results)
    return 1.0 if str(POPULATION[rollout.row["city"]]) in rollout.answer else 0.1 * ran


def tiny() -> dict[str, Any]:
    """A random model with a byte-level tokenizer and the demo's chat template."""
    from examples.warehouse import TEMPLATE
    from fixtures.tiny import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer(TEMPLATE, eos="<|im_end|>")
    return {"model": tiny_model(tokenizer, context=1024), "processing_class": tokenizer}


def setting(folder: str) -> dict[str, Any]:
    """What a trainer needs beside tools: a model, questions, and arguments for a few steps."""
    given = len(sys.argv) > 1
    questions = [
        {"prompt": [{"role": "user", "content": f"How many people live in {city}?"}], "city": city}
        for city in POPULATION
    ]
    args = GRPOConfig(
        output_dir=folder,
        use_cpu=not given,
        bf16=given,
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=512 if given else 16,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    model = {"model": sys.argv[1]} if given else tiny()
    return {**model, "args": args, "train_dataset": Dataset.from_list(questions * 4)}


def main() -> None:
    """Train a few steps."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = ToolGRPOTrainer(**setting(folder), tools=[population], reward_funcs=right, budget=Budget(turns=4))
        trainer.train()
        if trainer.accelerator.is_main_process:
            rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
            print("mean reward per step:", rewards)


if __name__ == "__main__":
    main()
