"""A real run, small enough for two CPU cores: ``python examples/warehouse.py``.

A warehouse keeps something in every bay; what, changes with every conversation and can only be found out by
calling ``lookup``. The policy is a tiny transformer that is built here and shown, by supervised steps, how
conversations look: first right ones, then more in which it guesses, or looks and then guesses all the same.
So it can write calls and answers but has no habit of using them. Then GRPO, through the installed trainer,
rewards right answers only.

Written to ``--out``: ``reward.png`` (the curve, from the trainer's own log), ``log.json`` (that log),
``before.html`` and ``after.html`` (a rollout on the same held-out question before and after training),
``rollouts.jsonl`` (all rollouts), ``pages`` (what ``toolparse view`` makes of them: a table, and the first and the last
step side by side).
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fixtures.tiny import tiny_model, tiny_tokenizer
from trl_integration import (
    Budget,
    MultiTurnRollout,
    Rollout,
    ScriptedBackend,
    ToolGRPOTrainer,
    TranscriptBatch,
    per_rollout,
    write_page,
    write_pages,
)
from trl_integration.traces import read_traces

TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool.function.name }}({{ tool.function.parameters.properties | join(', ') }})
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if loop.previtem.role != 'tool' %}<|im_start|>tool
{% endif %}<tool_response>
{{ message.content }}
</tool_response>
{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>
{% endif %}
{%- else %}<|im_start|>{{ message.role }}
{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
{%- if not loop.first or message.content %}
{% endif %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

ROWS = ("amber", "blue", "coral", "green", "ivory", "lime", "olive", "pink", "red", "silver", "teal", "white")
BAYS = ("ant", "bear", "cat", "crow", "deer", "dog", "fox", "goat", "hare", "lynx", "mole", "owl")
GOODS = (
    "apples", "beans", "candles", "drums", "eggs", "flutes", "grapes", "hats", "ink", "jars", "kites", "lamps",
    "maps", "nails", "oats", "pears",
)  # fmt: skip
EVERY = [f"{row} {bay}" for row in ROWS for bay in BAYS]


class Warehouse:
    """The environment: one warehouse per rollout."""

    def __init__(self) -> None:
        self._stock: dict[str, str] = {}
        self.expected = ""

    def reset(self, *, bays: list[str], goods: list[str], wanted: list[str], **row: Any) -> None:
        """Fill the bays as the row says."""
        self._stock = dict(zip(bays, goods, strict=True))
        self.expected = "\n".join(self._stock[bay] for bay in wanted)

    def lookup(self, bay: str) -> str:
        """Say what a bay holds.

        Args:
            bay: The bay.
        """
        if bay not in self._stock:
            raise KeyError(f"there is no bay {bay!r}")
        return self._stock[bay]


@per_rollout
def correct(rollout: Rollout) -> float:
    """1 for the right answer, else 0."""
    return float(rollout.answer.strip() == rollout.environment.expected)


def make_rows(count: int, bays: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Questions, a third of them about two bays; every row has its own stock."""
    chance = random.Random(seed)
    out = []
    for _ in range(count):
        wanted = chance.sample(list(bays), 2 if chance.random() < 1 / 3 else 1)
        question = "What is in " + " and ".join(f'"{bay}"' for bay in wanted) + "?"
        out.append(
            {
                "prompt": [{"role": "user", "content": question}],
                "bays": EVERY,
                "goods": [chance.choice(GOODS) for _ in EVERY],
                "wanted": wanted,
            }
        )
    return out


def call_text(bay: str) -> str:
    """A call as the template writes it."""
    return f'<tool_call>\n{{"name": "lookup", "arguments": {{"bay": "{bay}"}}}}\n</tool_call>'


def behaviour(row: dict[str, Any], chance: random.Random, *, right: float = 0.3) -> list[str]:
    """The assistant's turns in one conversation of the warm-up: right with the given chance, else wrong in
    one of three ways.
    """
    wanted = row["wanted"]
    stock = dict(zip(row["bays"], row["goods"], strict=True))
    guess = "\n".join(chance.choice(GOODS) for _ in wanted)
    kind = "right" if chance.random() < right else chance.choice(("guess", "careless"))
    if kind == "guess":
        return [f"{guess}<|im_end|>"]
    answer = guess if kind == "careless" else "\n".join(stock[bay] for bay in wanted)
    return ["\n".join(call_text(bay) for bay in wanted) + "<|im_end|>", f"{answer}<|im_end|>"]


def build_tokenizer(template: str = TEMPLATE, more: Sequence[str] = ()) -> Any:
    """A byte-level BPE that has seen the words of the warehouse, and ``more`` texts."""
    chance = random.Random(0)
    corpus = []
    for row in make_rows(400, EVERY, seed=7):
        corpus.append(row["prompt"][0]["content"])
        corpus.extend(behaviour(row, chance))
    corpus.extend(["\n".join(GOODS)] * 20)
    corpus.extend(["lookup(bay)"] * 50)
    return tiny_tokenizer(template, eos="<|im_end|>", corpus=[*corpus, *more], vocab_size=600 + 300 * bool(more))


def build_model(tokenizer: Any, seed: int, **settings: Any) -> Any:
    """A random transformer of about a hundred and fifty thousand weights, or as the settings say."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 64,
        "context": 512,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "tie_word_embeddings": True,
        # At this width the usual 0.02 leaves attention flat, and copying (the name into the call, the result
        # into the answer) takes ten times as many steps to appear.
        "initializer_range": 0.12,
    }
    return tiny_model(tokenizer, **sizes | settings)


def warm_up(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    *,
    steps: Sequence[int],
    batch: int,
    seed: int,
    rate: float = 3e-3,
) -> list[float]:
    """Supervised steps on scripted rollouts; only what the assistant wrote is learned.

    First on right conversations, from which the skill of copying names and results is learned, then on mixed
    ones, from which the habit of not using it is. ``steps`` are those of the two phases, ``rate`` is the highest
    learning rate; returns the last mean loss of each.
    """
    chance = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    loop = MultiTurnRollout(environments=Warehouse)
    loop.bind(tokenizer)
    model.train()
    ends: list[float] = []
    for count, right, peak in zip(steps, (1.0, 0.3), (rate, rate / 3), strict=True):
        scripts = [behaviour(row, chance, right=right) for row in rows]
        backend = ScriptedBackend(scripts, encode=lambda text: tokenizer(text)["input_ids"], logprob=None)
        rollouts = loop.run([row["prompt"] for row in rows], backend, rows=rows)
        # Neighbours in length share a batch: less padding.
        rollouts.sort(key=lambda rollout: len(rollout.transcript.ids))
        losses: list[float] = []
        for step in range(count):
            for group in optimizer.param_groups:
                group["lr"] = peak * min(1.0, (step + 1) / 20, (count - step) / 20)
            start = chance.randrange(len(rollouts) - batch + 1)
            picked = TranscriptBatch.of(
                [rollout.transcript for rollout in rollouts[start : start + batch]], tokenizer.pad_token_id
            )
            ids = torch.cat([picked.prompt_ids, picked.completion_ids], dim=1).to(model.device)
            mask = torch.cat([picked.prompt_mask, picked.completion_mask], dim=1).to(model.device)
            learned = torch.cat([torch.zeros_like(picked.prompt_mask), picked.tool_mask], dim=1).bool().to(model.device)
            loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(~learned, -100)).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        ends.append(sum(losses[-20:]) / len(losses[-20:]))
    loop.close()
    return ends


def plot(history: Sequence[dict[str, Any]], path: Path) -> None:
    """The reward curve out of the trainer's log."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), dpi=130)
    train = [(entry["step"], entry["reward"]) for entry in history if "reward" in entry]
    held = [(entry["step"], entry["eval_reward"]) for entry in history if "eval_reward" in entry]
    axis.plot(*zip(*train, strict=True), color="#9aa7b5", linewidth=1, label="training questions")
    axis.plot(*zip(*held, strict=True), color="#15803d", marker="o", linewidth=2, label="questions not trained on")
    axis.set_xlabel("GRPO step")
    axis.set_ylabel("mean reward")
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def run(
    out: Path, *, steps: int = 40, warm_steps: tuple[int, int] = (320, 60), seed: int = 0, threads: int = 1
) -> dict[str, float]:
    """The whole run; returns held-out mean rewards before and after, and seconds."""
    from datasets import Dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOConfig

    started = time.monotonic()
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    # Results of a run are no part of a repository.
    (out / ".gitignore").write_text("*\n", encoding="utf-8")
    for old in out.glob("rollouts*.jsonl"):
        old.unlink()
    bays = EVERY.copy()
    random.Random(seed).shuffle(bays)
    held_out, known = bays[:24], bays[24:]

    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed)
    losses = warm_up(model, tokenizer, make_rows(1600, known, seed=seed + 1), steps=warm_steps, batch=32, seed=seed + 2)
    warmed = time.monotonic()
    print(
        f"warm-up: {warm_steps[0]} steps on right conversations (loss {losses[0]:.3f}), {warm_steps[1]} on mixed ones "
        f"(loss {losses[1]:.3f}), {warmed - started:.0f} s",
        flush=True,
    )

    examples: list[tuple[float, Rollout]] = []

    class Show(TrainerCallback):  # type: ignore[misc]
        """Keeps the first held-out rollout of every evaluation, and says where training stands."""

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **others: Any) -> None:
            rollout = trainer.rollout.last[0]
            examples.append((float(rollout.answer.strip() == rollout.environment.expected), rollout))
            print(
                f"step {state.global_step:3d}  held-out reward {metrics['eval_reward']:.3f}  "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )

    with tempfile.TemporaryDirectory() as scratch:
        config = GRPOConfig(
            output_dir=scratch,
            use_cpu=True,
            bf16=False,
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=64,
            num_generations=8,
            per_device_eval_batch_size=64,
            num_generations_eval=1,
            max_completion_length=160,
            learning_rate=1e-3,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=5,
            beta=0.0,
            temperature=1.0,
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=10,
            eval_on_start=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            log_level="error",
        )
        trainer = ToolGRPOTrainer(
            model=model,
            args=config,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(make_rows(400, known, seed=seed + 3)),
            eval_dataset=Dataset.from_list(make_rows(128, held_out, seed=seed + 4)),
            environments=Warehouse,
            reward_funcs=correct,
            budget=Budget(turns=4, turn_tokens=80),
            trace=out / "rollouts.jsonl",
            callbacks=[Show()],
        )
        # Its lines would bury ours; everything is in log.json.
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        history = trainer.state.log_history
        trainer.rollout.close()
    plot(history, out / "reward.png")
    (out / "log.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    for name, (reward, rollout) in (("before", examples[0]), ("after", examples[-1])):
        write_page(rollout, tokenizer, out / f"{name}.html", title=f"A rollout {name} training", reward=reward)
    made = write_pages(out / "rollouts.jsonl", out / "pages")
    held = [entry["eval_reward"] for entry in history if "eval_reward" in entry]
    figures = {"before": held[0], "after": held[-1], "pages": len(made) + 2}
    return figures | {"rollouts": len(read_traces(out / "rollouts.jsonl")), "seconds": time.monotonic() - started}


def main() -> None:
    """Command line."""
    # Between torch, transformers and TRL, and nothing that a reader of this could do anything about.
    warnings.simplefilter("ignore")
    for name in ("accelerate", "datasets", "torch", "transformers", "trl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = argparse.ArgumentParser(description="Train a tiny model to use a tool, with GRPO on the CPU.")
    options.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the results")
    options.add_argument("--steps", type=int, default=40, help="GRPO steps")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=1, help="CPU threads for torch")
    chosen = options.parse_args()
    print(
        "A tiny model is asked what lies in the bays of a warehouse, which only a call of lookup(bay) can tell it. "
        "GRPO rewards right answers and nothing else, so that it learns to look before it answers.",
        flush=True,
    )
    figures = run(chosen.out, steps=chosen.steps, seed=chosen.seed, threads=chosen.threads)
    print(
        f"mean reward on questions not trained on: {figures['before']:.3f} before, {figures['after']:.3f} after, "
        f"{figures['seconds']:.0f} s in all\n"
        f"{figures['pages']:.0f} pages of {figures['rollouts']:.0f} rollouts; begin with "
        f"{chosen.out / 'pages/index.html'} (all of them) or {chosen.out / 'after.html'} (one after training); "
        f"the curve is {chosen.out / 'reward.png'}"
    )


if __name__ == "__main__":
    main()
