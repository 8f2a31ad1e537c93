"""One GRPO step on scripted turns, on however many processes it is launched with; run by test_scale.py."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig

from examples.warehouse import TEMPLATE
from fixtures.tiny import tiny_model, tiny_tokenizer
from toolparse import tool_schema
from trl_integration import (
    MultiTurnRollout,
    Rollout,
    ScriptedBackend,
    ToolGRPOTrainer,
    TransformersBackend,
    per_rollout,
)


def double(number: int) -> int:
    """Double a number.

    Args:
        number: The number.
    """
    return 2 * number


@per_rollout
def first_digit(rollout: Rollout) -> float:
    """Something that differs between rollouts."""
    return float(rollout.answer[-1]) / 10 if rollout.answer else 0.0


def agents(first: int, backend: Any, folder: Path) -> Any:
    """Programs that run the calls themselves; one branches, one fails, one is slow, one is still busy at the end."""
    import httpx

    from trl_integration.gateway import AgentRollout, AgentTask

    def agent(task: AgentTask) -> None:
        place = first + task.index
        messages, again = list(task.prompt), place == 2
        headers = {"Authorization": f"Bearer {task.api_key}"}
        time.sleep(place == 3)
        with httpx.Client(base_url=task.base_url, headers=headers, timeout=60) as client:
            while True:
                body = {"model": task.model, "messages": messages, "tools": [tool_schema(double)]}
                message = client.post("chat/completions", json=body).raise_for_status().json()["choices"][0]["message"]
                if again:
                    again = False
                    continue
                if place == 5:
                    raise RuntimeError("no more")
                messages.append(message)
                for call in message.get("tool_calls") or ():
                    said = str(double(**json.loads(call["function"]["arguments"])))
                    messages.append({"role": "tool", "tool_call_id": call["id"], "content": said})
                if not message.get("tool_calls"):
                    time.sleep(place == 7)
                    return

    return AgentRollout(agent, backend=backend, trace=folder / "trace.jsonl", seconds=120.0)


def main() -> None:
    """Train one step and write down what came of it."""
    folder, through = Path(sys.argv[1]), sys.argv[2]
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

    class Backend(ScriptedBackend):
        """Samples with the trainer's model, as all ranks must, and then returns what the script says."""

        def generate(self, *asked: Any) -> Any:
            TransformersBackend(trainer).generate(*asked)
            return super().generate(*asked)

    backend = Backend(script, encode=lambda text: list(tokenizer(text)["input_ids"]))
    if through == "gateway":
        rollout = agents(rank * local, backend, folder)
    else:
        rollout = MultiTurnRollout([double], backend=backend, trace=folder / "trace.jsonl")
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
        rollout=rollout,
    )
    trainer.train()
    rollout.close()
    if trainer.accelerator.is_main_process:
        entry = next(e for e in trainer.state.log_history if "reward" in e)
        weights = sum(float(p.detach().double().abs().sum()) for p in trainer.model.parameters())
        (folder / "log.json").write_text(
            json.dumps({**entry, "weights": weights, "processes": trainer.accelerator.num_processes}), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
