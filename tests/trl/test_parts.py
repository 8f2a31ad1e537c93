"""Back ends against fakes, environments, the view, metrics and traces, the demo's pieces."""

from __future__ import annotations

import ast
import asyncio
import copy
import json
import math
import random
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from examples import warehouse as demo
from toolparse.tokens import Vocabulary
from trl_integration import (
    Budget,
    CodeSandbox,
    MultiTurnRollout,
    Rollout,
    ScriptedBackend,
    TransformersBackend,
    VLLMBackend,
    per_rollout,
    rollout_html,
    write_page,
)
from trl_integration.environment import EnvironmentPool, apply_observation
from trl_integration.executor import Toolbox
from trl_integration.generation import backend_for, finished
from trl_integration.metrics import rollout_metrics
from trl_integration.traces import trace_of, write_traces

from .helpers import CALL, END, GO, ROOT, Processor, add, bound, echo, ids_of, roll, scripted, tokenizer, told, written

VOCABULARY = Vocabulary(tokenizer("qwen3"))


# -- vLLM through the trainer's wrapper ---------------------------------------------------------------------------


class FakeVLLM:
    """Has what TRL's VLLMGeneration has, and plays ids; each continuation stops at the first stop token id."""

    def __init__(self, plays: list[list[int]], settings: dict[str, Any] | None = None) -> None:
        self.plays = plays
        self.max_completion_length = 500
        self.generation_kwargs = settings
        self.asked: list[dict[str, Any]] = []

    def generate(self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None) -> Any:
        settings = self.generation_kwargs or {}
        self.asked.append({"prompts": prompts, "n": num_generations, "limit": self.max_completion_length, **settings})
        ids = []
        for play, _ in zip(self.plays, prompts, strict=False):
            cut = next((at + 1 for at, t in enumerate(play) if t in settings["stop_token_ids"]), len(play))
            ids.append(play[: min(cut, self.max_completion_length)])
        # One entry per token, the sampled one first, as vLLM returns them.
        return prompts, ids, [[[-0.5, -9.0] for _ in row] for row in ids], None


class FakeTrainer:
    use_vllm = True

    def __init__(self, engine: FakeVLLM) -> None:
        self.vllm_generation = engine


def test_vllm_gets_budgets_and_stops_and_is_left_as_it_was() -> None:
    engine = FakeVLLM([[5, 6, 2, 9, 9], [7] * 40], {"seed": 1})
    backend = backend_for(FakeTrainer(engine))
    assert isinstance(backend, VLLMBackend)
    first, second = backend.generate([[1], [1, 2]], [10, 4], [2, 3])
    assert (first.ids, first.logprobs, first.finish) == ([5, 6, 2], [-0.5] * 3, "stop")
    # The engine was asked for the largest budget; this row is cut to its own.
    assert (second.ids, second.finish) == ([7] * 4, "length")
    assert engine.asked == [{"prompts": [[1], [1, 2]], "n": 1, "limit": 10, "seed": 1, "stop_token_ids": [2, 3]}]
    assert (engine.max_completion_length, engine.generation_kwargs) == (500, {"seed": 1})


def test_vllm_stop_strings_stay_in_the_ids() -> None:
    engine = FakeVLLM([[5, 6]], {"stop": ["</tool_call>"]})
    [sampled] = VLLMBackend(FakeTrainer(engine)).generate([[1]], [10], [2])
    assert sampled.finish == "stop_string"
    assert engine.asked[0]["include_stop_str_in_output"] is True


def test_vllm_log_probs_that_are_missing_are_nan() -> None:
    class NaN(FakeVLLM):
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            prompts, ids, logprobs, _ = super().generate(*args, **kwargs)
            logprobs[0][0][0] = None
            return prompts, ids, logprobs, None

    out = VLLMBackend(FakeTrainer(NaN([[5, 2], [6, 2]]))).generate([[1], [1]], [9, 9], [2])
    assert [[math.isnan(value) for value in s.logprobs or ()] for s in out] == [[True, False], [False, False]]


def test_vllm_rows_at_exactly_their_budget_are_not_finished() -> None:
    """The model's own length stops a row before the limit that all rows share."""
    engine = FakeVLLM([[7] * 4, [7] * 10])
    first, second = VLLMBackend(FakeTrainer(engine)).generate([[1], [1]], [4, 10], [2])
    assert (first.finish, second.finish) == ("length", "length")


def test_beams_are_refused() -> None:
    class Trainer:
        generation_kwargs = {"num_beams": 4}  # noqa: RUF012

    with pytest.raises(ValueError, match=r"generation_kwargs\['num_beams'\] must be 1"):
        TransformersBackend(Trainer())


def test_a_rank_without_prompts_still_takes_part() -> None:
    engine = FakeVLLM([[5, 2]])
    assert VLLMBackend(FakeTrainer(engine)).generate([], [], [2]) == []
    assert len(engine.asked) == 1


def test_a_whole_rollout_on_the_fake_engine() -> None:
    turns = [ids_of("qwen3", written("qwen3", ("add", {"a": 2, "b": 3}))), ids_of("qwen3", "Five." + END)]

    class Turns(FakeVLLM):
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            self.plays = [turns[len(self.asked)]] * 2
            return super().generate(*args, **kwargs)

    engine = Turns([])
    loop = bound([add])
    rollouts = loop.run(
        [[{"role": "user", "content": "2+3?"}]] * 2,
        VLLMBackend(FakeTrainer(engine)),
        budget=Budget(completion_tokens=500),
    )
    assert [r.answer for r in rollouts] == ["Five.", "Five."]
    assert engine.asked[1]["prompts"][0] == rollouts[0].transcript.turn_prompts()[1]


@pytest.mark.parametrize(
    ("ids", "budget", "limit", "kept", "finish"),
    [
        ([1, 2, 9, 4], 10, 10, [1, 2, 9], "stop"),
        ([1, 2], 10, 2, [1, 2], "length"),
        ([1, 2], 10, 10, [1, 2], "stop_string"),
        ([1, 2, 9], 2, 10, [1, 2], "length"),
        ([1, 9], 2, 2, [1, 9], "stop"),
        ([], 2, 2, [], "stop_string"),
    ],
)
def test_how_a_continuation_ended(ids: list[int], budget: int, limit: int, kept: list[int], finish: str) -> None:
    done = finished(ids, [-1.0] * len(ids), budget, [9], limit)
    assert (done.ids, done.finish) == (kept, finish)
    assert done.logprobs == [-1.0] * len(kept)


# -- environments -----------------------------------------------------------------------------------------------


class Game:
    def reset(self, goal: int = 3, **row: Any) -> str:
        self.goal, self.at, self.done = goal, 0, False
        return f" Reach {goal}."

    def step(self) -> int:
        """Step."""
        self.at += 1
        self.done = self.at >= self.goal
        return self.at

    def _hidden(self) -> None: ...

    @property
    def secret(self) -> int:
        raise RuntimeError("properties must not be read")

    def allowed_tools(self) -> list[str]:
        return ["step"]

    def rest(self) -> str:
        """Rest."""
        return "rested"

    async def reward(self) -> float:
        return self.at / self.goal


def test_public_methods_are_tools_and_rows_reach_reset() -> None:
    pool = EnvironmentPool(Game, Toolbox([echo]))
    assert pool.probe()[None].names == ["echo", "step", "rest"]
    rollouts, _, loop = roll("qwen3", [["Done." + END]], tools=[echo], environments=Game)
    assert rollouts[0].lease.toolbox.names == ["step"]
    loop.release(rollouts)
    assert loop.pool.take(None) is rollouts[0].environment  # nothing to close: used again, as TRL does it


def test_environments_are_chosen_by_the_row() -> None:
    pool = EnvironmentPool({"game": Game, "code": CodeSandbox})
    assert pool.route({"environment": "code", "x": 1}) == ("code", {"x": 1})
    assert pool.tools_of(pool.take("code")).names == ["run_python"]
    with pytest.raises(ValueError, match=r"Expected one of: \['game', 'code'\]"):
        pool.route({"environment": "chess"})


def test_an_environment_that_is_done_ends_the_rollout_on_a_sampled_token() -> None:
    step = written("qwen3", ("step", {}))
    [rollout], _, _ = roll("qwen3", [[step] * 9], tools=[], environments=Game)
    assert rollout.stop_reason == "done"
    assert [record.text for record in rollout.calls] == ["1", "2", "3"]
    assert told("qwen3", rollout)[-1] == ("model", step)
    assert rollout.prompt[-1]["content"] == "Go. Reach 3."


def test_an_environment_may_reply_as_the_user() -> None:
    class Asker:
        def reset(self, **row: Any) -> None:
            self.left = 2

        def reply(self, message: dict[str, Any]) -> list[dict[str, Any]] | None:
            self.left -= 1
            return [{"role": "user", "content": "Again."}] if self.left >= 0 else None

    rollouts, _, _ = roll("qwen3", [["One." + END, "Two." + END, "Three." + END]], tools=[echo], environments=Asker)
    assert told("qwen3", rollouts[0]) == [
        ("model", "One." + END),
        ("scaffold", "\n<|im_start|>user\n"),
        ("tool", "Again."),
        ("scaffold", END + "\n<|im_start|>assistant\n"),
        ("model", "Two." + END),
        ("scaffold", "\n<|im_start|>user\n"),
        ("tool", "Again."),
        ("scaffold", END + "\n<|im_start|>assistant\n"),
        ("model", "Three." + END),
    ]


def test_the_all_in_one_sandbox_works_as_an_environment() -> None:
    code = written("qwen3", ("run_python", {"code": "print(6 * 7)"}))
    [rollout], _, loop = roll("qwen3", [[code, "42." + END]], tools=[], environments=CodeSandbox, timeout=20)
    assert [text for author, text in told("qwen3", rollout) if author == "tool"] == ["42\n"]
    loop.last = [rollout]
    loop.close()
    assert rollout.environment._folder is None


def test_observations() -> None:
    prompt = [{"role": "user", "content": "Go."}]
    assert apply_observation(prompt, None) == prompt
    assert apply_observation(prompt, " Now.") == [{"role": "user", "content": "Go. Now."}]
    whole = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert apply_observation(prompt, whole) == whole
    parts = [{"type": "text", "text": "!"}]
    # As text: several templates show nothing of a message whose content is a list.
    assert apply_observation(prompt, parts)[0]["content"] == "Go.!"
    with pytest.raises(TypeError, match="text only: a content part of type 'image'"):
        apply_observation(prompt, [{"type": "image", "image": "x"}])
    with pytest.raises(TypeError, match="reset returned int"):
        apply_observation(prompt, 3)


def test_processors_are_unwrapped() -> None:
    loop = MultiTurnRollout([add])
    processor = Processor(copy.copy(tokenizer("qwen3")))
    processor.tokenizer.chat_template = None
    loop.bind(processor)
    [rollout] = loop.run([GO], scripted([[CALL, "Three." + END]]))
    assert (rollout.results[0].text, rollout.answer) == ("3", "Three.")
    assert processor.tokenizer.chat_template is None


def test_async_judges_run_at_the_same_time_and_within_limits(caplog: pytest.LogCaptureFixture) -> None:
    rollouts, _, _ = roll("qwen3", [["One." + END]] * 5)
    inside = 0

    @per_rollout(timeout=0.5)
    async def judge(rollout: Rollout) -> float:
        nonlocal inside
        inside += 1
        if rollout.index == 4:
            await asyncio.sleep(60)
        while inside < 5:
            await asyncio.sleep(0.01)
        return float(rollout.index)

    assert asyncio.run(judge(odd_rollouts=rollouts)) == [0.0, 1.0, 2.0, 3.0, None]
    assert "no reward for rollout 4" in caplog.text


# -- looking at rollouts ------------------------------------------------------------------------------------------


def mixed() -> Rollout:
    bad = '<tool_call>\n{"name": "ad", "arguments": {}}\n</tool_call>'
    turn = f"<think>\nHm <b>.\n</think>\n\n{bad}\n" + written(
        "qwen3", ("echo", {"text": "<script>alert(1)</script> é🙂"})
    )
    return roll("qwen3", [[turn, "Done." + END]])[0][0]


class Spans(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.tokens: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if tag == "span" and (found.get("class") or "").startswith("t "):
            self.tokens.append((str(found["class"]), str(found["title"])))


def test_the_page_shows_every_token_with_its_author_and_nothing_is_live(tmp_path: Path) -> None:
    rollout = mixed()
    page = rollout_html(rollout, tokenizer("qwen3"), title="A <rollout>", reward=0.5)
    seen = Spans()
    seen.feed(page)
    assert "script" not in seen.tags
    assert "link" not in seen.tags
    assert "A &lt;rollout&gt;" in page
    # Every token of the transcript is in exactly one hover text.
    numbers = [
        int(line.split(":")[0].removeprefix("token "))
        for _, title in seen.tokens
        for line in title.splitlines()
        if line.startswith("token ")
    ]
    assert numbers == list(range(len(rollout.transcript.ids)))
    kinds = {kind for kind, _ in seen.tokens}
    assert {"t prompt", "t model", "t tool", "t scaffold", "t model bad", "t model call", "t model reasoning"} <= kinds
    assert any("log-prob -1.0000" in title for _, title in seen.tokens)
    assert any("unknown-tool" in title for _, title in seen.tokens)
    path = write_page(rollout, tokenizer("qwen3"), tmp_path / "pages" / "one.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_metrics_are_sums_and_counts() -> None:
    figures = rollout_metrics([mixed(), roll("qwen3", [["Hello." + END]])[0][0]])
    assert figures["tools/calls"] == (2.0, 2.0)
    assert figures["tools/valid"] == (1.0, 2.0)
    assert figures["tools/executed"] == (1.0, 2.0)
    assert figures["tools/failed/unknown-tool"] == (1.0, 2.0)
    assert figures["stop/answered"] == (2.0, 2.0)
    assert figures["turns"] == (3.0, 2.0)
    assert all(not math.isnan(total) for total, _ in figures.values())


def test_traces_are_lines_of_json_from_which_the_masks_follow(tmp_path: Path) -> None:
    rollout = mixed()
    path = tmp_path / "deep" / "trace.jsonl"
    write_traces([rollout], path, VOCABULARY, step=3)
    write_traces([rollout], path, VOCABULARY, step=4, rank=1)
    [line] = path.read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert entry["step"] == 3
    assert (tmp_path / "deep" / "trace.rank1.jsonl").exists()
    mask = [int(s["author"] == "model") for s in entry["rows"][0][1:] for _ in s["ids"]]
    assert mask == rollout.transcript.tool_mask
    assert trace_of(rollout, VOCABULARY)["calls"][0]["issues"][0]["code"] == "unknown-tool"


# -- the demo's pieces --------------------------------------------------------------------------------------------


def test_the_demos_right_behaviour_is_right_and_the_others_are_not_always() -> None:
    rows = demo.make_rows(40, ["red cat", "blue owl", "white fox"], seed=1)
    tok = demo.build_tokenizer()
    loop = MultiTurnRollout(environments=demo.Warehouse)
    loop.bind(tok)

    def rewards(right: float) -> list[float]:
        chance = random.Random(0)
        scripts = [demo.behaviour(row, chance, right=right) for row in rows]
        backend = ScriptedBackend(scripts, encode=lambda text: tok(text)["input_ids"])
        rollouts = loop.run([row["prompt"] for row in rows], backend, rows=rows)
        return list(demo.correct(rollouts=rollouts))

    assert rewards(1.0) == [1.0] * 40
    assert sum(rewards(0.0)) < 10


# -- the layers of the package --------------------------------------------------------------------------------------


def test_no_module_of_the_package_needs_itself_and_the_loop_needs_no_trainer() -> None:
    package = ROOT / "trl_integration"
    needs: dict[str, set[str]] = {}
    for path in package.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1}
        needs[path.stem] = {str(module) for module in found if module and path.stem != "__init__"}

    def below(module: str, path: tuple[str, ...] = ()) -> set[str]:
        assert module not in path, f"a cycle: {' -> '.join([*path, module])}"
        return {module}.union(*(below(other, (*path, module)) for other in needs.get(module, ())))

    for module in needs:
        below(module)
    assert not below("loop") & {"trainer", "trl_adapter", "metrics", "view", "prepare"}
    code = "import sys, trl_integration.loop; print('trl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
