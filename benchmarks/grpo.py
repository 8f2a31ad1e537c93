"""``ToolGRPOTrainer`` beside the stock ``GRPOTrainer(tools=...)``: seconds a step, the loop's share, reward curves.

    python benchmarks/grpo.py [--steps 8] [--out grpo.json]

Both train the same warmed-up model on the same rows with the same seeds, on a template that both accept (TRL's own for
Qwen 2.5). With CUDA that is a model of 100 million weights in bf16 and 50 steps, timed by the clock; without, the tiny
one of the demo and few steps, in processor time. The loop is all of a step's rollouts but for what ``generate`` takes;
its parts are known for ours only.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.rollout import timed, watch
from examples.warehouse import EVERY, Warehouse, build_model, build_tokenizer, make_rows, warm_up
from fixtures.tiny import tiny_tokenizer
from trl_integration import ToolGRPOTrainer

TRL = Path(str(find_spec("trl").origin)).parent  # type: ignore[union-attr]
CURVES = ("rewards", "lengths", "losses")
LARGE = {
    "hidden_size": 768,
    "intermediate_size": 2560,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "initializer_range": 0.02,
}


def correct(completions: list[Any], expected: list[str], **_: Any) -> list[float]:
    """1 where the last message is the right answer, else 0."""
    ends = [messages[-1] for messages in completions]
    return [
        float(end["role"] == "assistant" and not end.get("tool_calls") and (end.get("content") or "").strip() == wanted)
        for end, wanted in zip(ends, expected, strict=True)
    ]


def task(count: int, seed: int) -> tuple[Callable[..., str], list[dict[str, Any]]]:
    """A tool and questions about one warehouse: the stock trainer's tools know nothing of rows."""
    rows = make_rows(count, EVERY, seed)
    warehouse = Warehouse()
    out = []
    for row in rows:
        warehouse.reset(**{**rows[0], "wanted": row["wanted"]})
        out.append({"prompt": row["prompt"], "expected": warehouse.expected})

    def lookup(bay: str) -> str:
        """Say what a bay holds.

        Args:
            bay: The bay.
        """
        try:
            return warehouse.lookup(bay)
        except KeyError as error:
            return str(error)  # not raised: the two loops tell a failure in different words

    return lookup, out


def train(
    kind: type,
    model: Any,
    tokenizer: Any,
    *,
    steps: int,
    rollouts: int,
    tokens: int,
    rate: float,
    seed: int,
    cuda: bool,
) -> dict[str, Any]:
    """Train with one of the trainers: rewards, seconds a step (median), and how they are shared out."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback, set_seed
    from trl import GRPOConfig

    now = time.perf_counter if cuda else time.process_time
    spent: Counter[str] = Counter()
    taken: list[float] = []
    tool, rows = task(400, seed)

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Seconds of every step, the optimizer's included."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begun = now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
            taken.append(now() - self.begun)

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=not cuda,
            bf16=cuda,
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=rollouts,
            num_generations=8,
            max_completion_length=tokens,
            max_tool_calling_iterations=3,
            learning_rate=rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=5,
            beta=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            log_level="error",
        )
        trainer = kind(
            model=model,
            reward_funcs=correct,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            tools=[tool],
            callbacks=[Clock()],
            # A broken call ends the rollout, repaired or not, as it does in TRL's loop.
            **({"malformed": "end"} if kind is ToolGRPOTrainer else {}),
        )
        trainer.remove_callback(PrinterCallback)
        model.generate = timed(model.generate, spent, "generation", now)
        trainer._generate = timed(trainer._generate, spent, "rollouts", now)
        if isinstance(trainer, ToolGRPOTrainer):
            watch(trainer.rollout, spent, now)
            trainer.rollout.output = timed(trainer.rollout.output, spent, "masks", now)  # type: ignore[method-assign]
        set_seed(seed)
        trainer.train()
        if isinstance(trainer, ToolGRPOTrainer):
            trainer.rollout.close()
    spent["loop"] = spent["rollouts"] - spent["generation"]
    steps_logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    return {
        "seconds_a_step": statistics.median(taken),
        "shares": {name: spent[name] / sum(taken) for name in sorted(spent)},
        "rewards": [entry["reward"] for entry in steps_logged],
        "lengths": [entry["completions/mean_length"] for entry in steps_logged],
        "losses": [entry["loss"] for entry in steps_logged],
    }


def run(
    *,
    steps: int,
    warm_steps: tuple[int, int] = (320, 60),
    warm_rows: int = 1600,
    rollouts: int = 64,
    tokens: int = 160,
    seed: int = 0,
    cuda: bool = False,
) -> dict[str, Any]:
    """Warm one model up, train two copies of it; what ``main`` prints, as one dictionary."""
    from trl import GRPOTrainer

    template = (TRL / "chat_templates/qwen2_5.jinja").read_text(encoding="utf-8")
    tool, rows = task(1, seed)
    prompt = tiny_tokenizer(template).apply_chat_template(rows[0]["prompt"], tools=[tool], tokenize=False)
    tokenizer = build_tokenizer(template, [prompt] * 50)
    model = build_model(tokenizer, seed, **LARGE if cuda else {}).to("cuda" if cuda else "cpu")
    with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
        losses = warm_up(
            model,
            tokenizer,
            make_rows(warm_rows, EVERY, seed + 1),
            steps=warm_steps,
            batch=32,
            seed=seed + 2,
            rate=3e-4 if cuda else 3e-3,
        )
    print(f"warm-up: losses {losses[0]:.3f} and {losses[1]:.3f}", flush=True)
    settings: dict[str, Any] = {"steps": steps, "rollouts": rollouts, "tokens": tokens, "seed": seed, "cuda": cuda}
    # Copies before either is trained, each with a tokenizer of its own: the stock trainer changes the template.
    return {
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "weights": sum(weight.numel() for weight in model.parameters()),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        **settings,
        "trainers": {
            kind.__name__: train(
                kind, copy.deepcopy(model), copy.deepcopy(tokenizer), rate=1e-5 if cuda else 1e-3, **settings
            )
            for kind in (GRPOTrainer, ToolGRPOTrainer)
        },
    }


def main() -> None:
    """Command line."""
    cuda = torch.cuda.is_available()
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, default=50 if cuda else 8, help="GRPO steps")
    options.add_argument("--rollouts", type=int, default=64, help="rollouts a step, in groups of 8")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, help="file for all figures, as JSON")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    for name in ("accelerate", "datasets", "torch", "transformers", "trl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not cuda:
        torch.set_num_threads(1)  # threads that wait for one another count as processor time
    figures = run(steps=chosen.steps, rollouts=chosen.rollouts, seed=chosen.seed, cuda=cuda)
    print(f"{figures['device']}, {figures['weights']:,} weights, {chosen.rollouts} rollouts a step")
    for name, found in figures["trainers"].items():
        shares = ", ".join(f"{part} {100 * share:.1f} %" for part, share in found["shares"].items())
        loop = 100 * found["shares"]["loop"] / found["shares"]["rollouts"]
        print(f"{name}: {found['seconds_a_step']:.3f} s a step (median); of all steps: {shares}")
        print(f"{name}: the loop is {loop:.1f} % of rollouts")
    compared = [list(zip(*(found[name] for name in CURVES), strict=True)) for found in figures["trainers"].values()]
    same = next((at for at, pair in enumerate(zip(*compared, strict=True)) if pair[0] != pair[1]), chosen.steps)
    print(f"rewards, lengths and losses are equal to the last digit in the first {same} of {chosen.steps} steps")
    print("\n| step | " + " | ".join(figures["trainers"]) + " |\n| --- | --- | --- |")
    curves = [found["rewards"] for found in figures["trainers"].values()]
    for step, rewards in enumerate(zip(*curves, strict=True), start=1):
        print(f"| {step} | " + " | ".join(f"{reward:.3f}" for reward in rewards) + " |")
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
