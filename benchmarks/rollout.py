"""What a rollout costs beside generation: parsing, bridging, running tools, masks; by turns and by rollouts.

    python benchmarks/rollout.py [--quick] [--repeats 3]

Turns are scripted (a call of a tool that returns at once, then an answer), so that every cell does the same work;
rollouts come in groups of 8 with one prompt, and no two results are the same. At 8 turns whole steps of
``ToolGRPOTrainer`` are measured beside it: a tiny random model generates as many tokens from the same prompts and is
trained on them. All figures are processor time with one torch thread (threads that wait for one another count as busy),
but for those of the slow tool.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from datasets import Dataset
from trl import GRPOConfig

import fixtures
import toolparse
from fixtures.tiny import tiny_model, tiny_tokenizer
from trl_integration import Budget, MultiTurnRollout, Sampled, ToolExecutor, ToolGRPOTrainer, TransformersBackend

# Seconds of the processor, in all threads: what other programs do meanwhile doesn't count.
clock = time.process_time

TURNS = (1, 2, 4, 8, 16, 32, 64)
SIZES = (8, 32, 64, 128, 256)
FAMILY = "qwen"
PARTS = ("parsing", "bridging", "tools", "masks", "rest")


_SERIAL = itertools.count()


def add(a: int, b: int) -> str:
    """Add two numbers.

    Args:
        a: One number.
        b: Another one.
    """
    return f"{a + b} (sum {next(_SERIAL)})"


def slow(a: int, b: int) -> int:
    """Add two numbers, slowly.

    Args:
        a: One number.
        b: Another one.
    """
    time.sleep(0.5)
    return a + b


class Script:
    """Plays calls and then an answer; ``model`` generates as many tokens from the same prompts, for nothing."""

    def __init__(
        self, call: list[int], answer: list[int], turns: int, model: TransformersBackend | None = None
    ) -> None:
        self.call, self.answer, self.turns, self.model = call, answer, turns, model
        self.seconds = 0.0

    def generate(
        self, prompts: Sequence[Sequence[int]], budgets: Sequence[int], stop_ids: Sequence[int], places: Any = ()
    ) -> list[Sampled]:
        begun = clock()
        written = [self.answer if turn == self.turns - 1 else self.call for _, turn in places]
        if self.model is not None:
            self.model.generate(prompts, [len(ids) for ids in written], [])
        out = [Sampled(list(ids), [-1.0] * len(ids), "stop") for ids in written]
        self.seconds += clock() - begun
        return out


class Setting:
    """A tokenizer, a model, and loops for them."""

    def __init__(self) -> None:
        template = fixtures.template(FAMILY)
        self.tokenizer = tiny_tokenizer(template, corpus=[template] * 3, vocab_size=512)
        self.parser = toolparse.parser_for(self.tokenizer)
        torch.manual_seed(0)
        self.model = tiny_model(self.tokenizer, context=16384)
        tools = [toolparse.ToolCall(name=name, arguments={"a": 17, "b": 25}) for name in ("add", "slow")]
        self.call, self.slow_call = (self.ids(self.parser.render([call], content="Let me see.")) for call in tools)
        self.answer = self.ids("The sum is 42, as the tool says.")

    def ids(self, text: str) -> list[int]:
        end = self.tokenizer.eos_token
        text = text if text.endswith(end) else text + end
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def backend(self) -> TransformersBackend:
        """The model behind what of a trainer the back end asks for."""
        trainer = SimpleNamespace(
            model_wrapped=self.model,
            accelerator=SimpleNamespace(device=torch.device("cpu"), num_processes=1),
            processing_class=self.tokenizer,
            generation_kwargs={"do_sample": True},
            temperature=1.0,
        )
        made = TransformersBackend(trainer)
        made._model = self._plain  # type: ignore[method-assign]  # nothing to unwrap
        return made

    @contextmanager
    def _plain(self) -> Iterator[Any]:
        with torch.no_grad():
            yield self.model

    def loop(self, turns: int) -> MultiTurnRollout:
        return MultiTurnRollout(
            [add, slow], parser=self.parser, budget=Budget(turns=turns + 1), executor=ToolExecutor(max_concurrency=64)
        )

    def step(self, turns: int, size: int, steps: int) -> dict[str, float]:
        """Seconds a step of the trainer takes (the optimizer's apart), and two parts of it."""
        spent: Counter[str] = Counter()
        script = Script(self.call, self.answer, turns, self.backend())
        loop = self.loop(turns)
        loop.backend = script
        rows = [{"prompt": question(at)} for at in range(steps * size // 8)]
        with tempfile.TemporaryDirectory() as folder:
            config = GRPOConfig(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                max_steps=steps,
                per_device_train_batch_size=size,
                num_generations=8,
                max_completion_length=16384,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            trainer = ToolGRPOTrainer(
                model=self.model,
                reward_funcs=lambda completions, **_: [float(at % 2) for at in range(len(completions))],
                args=config,
                train_dataset=Dataset.from_list(rows),
                processing_class=self.tokenizer,
                rollout=loop,
            )
            trainer.rollout_func = timed(trainer.rollout_func, spent, "rollouts")
            trainer.training_step = timed(trainer.training_step, spent, "step")
            trainer.train()
        loop.close()
        step, generation = spent["step"] / steps, script.seconds / steps
        return {"step": step, "generation": generation, "loop": spent["rollouts"] / steps - generation}

    def run(self, turns: int, size: int, *, call: list[int] | None = None) -> dict[str, float]:
        """Seconds by part for one batch."""
        spent: Counter[str] = Counter()
        loop = self.loop(turns)
        loop.bind(self.tokenizer)
        watch(loop, spent)
        script = Script(call or self.call, self.answer, turns)
        prompts = [question(at // 8) for at in range(size)]
        begun = clock()
        rollouts = loop.run(prompts, script)
        ran = clock() - begun
        loop.output(rollouts)
        spent["masks"] = clock() - begun - ran
        assert all(r.stop_reason == "answered" and len(r.turns) == turns for r in rollouts)
        loop.executor.close()
        known = sum(spent[part] for part in ("parsing", "bridging", "tools"))
        spent["rest"] = ran - known
        return dict(spent)


def question(at: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Add 17 and 25, please: question {at}."}]


def watch(loop: MultiTurnRollout, spent: Counter[str], now: Callable[[], float] = clock) -> None:
    """Add the seconds that a bound loop takes to parse, to bridge and to run tools to ``spent``, by part."""
    loop.parser = Watched(loop.parser, "parse", spent, "parsing", now)
    loop._bridge = Watched(loop.bridge, "between", spent, "bridging", now)  # type: ignore[assignment]
    loop.executor.run = timed(loop.executor.run, spent, "tools", now)  # type: ignore[method-assign]


def timed(
    function: Callable[..., Any], spent: Counter[str], name: str, now: Callable[[], float] = clock
) -> Callable[..., Any]:
    """The function, with its seconds added to ``spent[name]``."""

    def run(*args: Any, **kwargs: Any) -> Any:
        begun = now()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += now() - begun

    return run


class Watched:
    """An object, with the seconds of one of its methods added to ``spent[name]``."""

    def __init__(self, inner: Any, method: str, spent: Counter[str], name: str, now: Callable[[], float]) -> None:
        self._inner = inner
        setattr(self, method, timed(getattr(inner, method), spent, name, now))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def medians(setting: Setting, turns: int, size: int, repeats: int) -> dict[str, float]:
    """Of each part, over several runs."""
    runs = [setting.run(turns, size) for _ in range(repeats)]
    return {part: statistics.median(run.get(part, 0.0) for run in runs) for part in PARTS}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--quick", action="store_true", help="a few cells only")
    options.add_argument("--repeats", type=int, default=3)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    setting = Setting()
    setting.run(2, 4)
    turns = (1, 8, 64) if chosen.quick else TURNS
    sizes = (8, 64) if chosen.quick else SIZES

    print("| turns | rollouts | overhead, ms per rollout and turn | " + " | ".join(PARTS) + " |")
    print("|---|---|---|" + "---|" * len(PARTS))
    found: dict[tuple[int, int], dict[str, float]] = {}
    for size in sizes:
        for count in turns:
            spent = medians(setting, count, size, chosen.repeats)
            found[count, size] = spent
            each = {part: 1000 * spent.get(part, 0.0) / (count * size) for part in PARTS}
            cells = " | ".join(f"{each[part]:.3f}" for part in PARTS)
            print(f"| {count} | {size} | {sum(each.values()):.3f} | {cells} |", flush=True)

    print("\nGrowth from 8 to 64 turns, as an exponent (1: linear), 64 rollouts:")
    few, many = found[8, 64], found[64, 64]
    for part in PARTS:
        print(f"  {part:9} {math.log(many[part] / few[part]) / math.log(8):.2f}")

    begun = time.perf_counter()
    setting.run(2, 64, call=setting.slow_call)
    print(f"\nA tool of 0.5 s in each of 64 rollouts: {time.perf_counter() - begun:.2f} s for all of it, on the clock")

    print("\nSteps of ToolGRPOTrainer with the tiny model, 8 turns (the optimizer's part not counted):")
    for size in (8, 64):
        spent = setting.step(8, size, chosen.repeats)
        loop, generation, step = (spent[part] for part in ("loop", "generation", "step"))
        print(
            f"  {size:3} rollouts: generation {generation:.2f} s, loop {loop:.3f} s, step {step:.2f} s; "
            f"the loop is {100 * loop / (loop + generation):.1f} % of rollouts, {100 * loop / step:.1f} % of the step"
        )


if __name__ == "__main__":
    main()
