"""Real agents, each trained for a few GRPO steps with a tiny model on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

from trl_integration import Budget, Rollout, ToolGRPOTrainer, per_rollout

from . import helpers
from .gateway_helpers import SCHEMAS, judged, run_call
from .helpers import NAME, ROOT, add, ids_of, parser, scripted
from .test_training import trainer_with

pytestmark = pytest.mark.slow

CALL = f"<think>\nHm.\n</think>\n\n{helpers.CALL}"
STEPS = 3


def needs(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[test-serve]'")


@per_rollout
def short(rollout: Rollout) -> float:
    """Few tokens are better; so a random model has something to learn from."""
    return -rollout.transcript.sampled_length / 50 + (rollout.index % 2)


class Steered:
    """The trainer's own model, whose first turns are given: a random model writes no calls by itself.

    It samples with the trainer's backend all the same, so that every other turn is the model's own.
    """

    def __init__(self) -> None:
        self.backend: Any = None
        self.seen: dict[int, list[Any]] = {}

    def generate(self, prompts: Any, budgets: Any, stop_ids: Any, places: Any = ()) -> Any:
        out = self.backend.generate(prompts, budgets, stop_ids, places)
        given = ids_of(NAME, CALL)
        for at, (index, turn) in enumerate(places):
            if turn == 0:
                self.seen[index] = []
                out[at] = type(out[at])(given, [-1.0] * len(given), "stop")
            self.seen[index].append((list(prompts[at]), out[at]))
        return out


def trained(folder: Path, run: Any, kind: type = ToolGRPOTrainer, **options: Any) -> tuple[Any, list[Any]]:
    """A few steps whose rows were all compared with the oracle; the trainer, and the rows of the last step."""
    from trl_integration import TransformersBackend
    from trl_integration.gateway import AgentRollout

    steered = Steered()
    checked: list[int] = []
    last: list[Any] = []

    class Checked(AgentRollout):
        def run(self, *args: Any, **kwargs: Any) -> list[Rollout]:
            rollouts = super().run(*args, **kwargs)
            last[:] = [judged(rollout, steered) for rollout in rollouts]
            checked.extend(len(row.session.rows) for row in last)
            return rollouts

    rollout = Checked(
        run, parser=parser(NAME), backend=steered, budget=Budget(turns=4, turn_tokens=24), seconds=120.0, **options
    )
    trainer = trainer_with(
        folder, kind=kind, rollout=rollout, reward_funcs=short, max_steps=STEPS, max_completion_length=512
    )
    steered.backend = TransformersBackend(trainer)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    try:
        trainer.train()
    finally:
        rollout.close()
    assert checked == [1] * (4 * STEPS)
    losses = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(losses) == STEPS
    assert all(entry["rollout/rows"] == 1.0 for entry in losses)
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    return trainer, last


def agents_came_through(rows: list[Any], turns: int) -> None:
    assert len(rows) == 4
    for row in rows:
        assert row.stop_reason in ("answered", "length"), row.detail
        assert row.transcript.turns == turns
        assert [record.text for record in row.calls][:1] == ["3"]


# -- the openai client ------------------------------------------------------------------------------------------


def hand_written(task: Any) -> str:
    """A loop as people write it."""
    import openai

    client = openai.OpenAI(base_url=task.base_url, api_key=task.api_key, timeout=60)
    messages: list[Any] = list(task.prompt)
    while True:
        answer = client.chat.completions.create(model=task.model, messages=messages, tools=SCHEMAS)
        message = answer.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return message.content or ""
        messages += [run_call(call.model_dump()) for call in message.tool_calls]


@pytest.mark.parametrize("kind", [GRPOTrainer, ToolGRPOTrainer])
@pytest.mark.filterwarnings("ignore:You are using 'rollout_func'")
def test_the_openai_client_in_a_hand_written_loop(tmp_path: Path, kind: type) -> None:
    needs("openai")
    trainer, rows = trained(tmp_path, hand_written, kind)
    agents_came_through(rows, 2)
    assert [row.outcome.strip() for row in rows] == [row.turns[-1].content.strip() for row in rows]
    batch = trainer.state.log_history[0]
    assert batch["tools/call_frequency"] >= 1.0


# -- an agent framework -----------------------------------------------------------------------------------------


async def framework(task: Any) -> str:
    """openai-agents, which owns its loop, keeps its history in another API's form and sends no thoughts back."""
    import agents
    import openai

    agents.set_tracing_disabled(True)
    client = openai.AsyncOpenAI(base_url=task.base_url, api_key=task.api_key, timeout=60)
    model = agents.OpenAIChatCompletionsModel(task.model, client)
    agent = agents.Agent("adder", model=model, tools=[agents.function_tool(add)])
    return str((await agents.Runner.run(agent, task.prompt[0]["content"], max_turns=4)).final_output)


def test_openai_agents(tmp_path: Path) -> None:
    needs("agents", "openai")
    _, rows = trained(tmp_path, framework)
    agents_came_through(rows, 2)


async def another_framework(task: Any) -> str:
    """pydantic-ai."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=task.base_url, api_key=task.api_key)
    agent = Agent(OpenAIChatModel(task.model, provider=provider), tools=[add])
    return str((await agent.run(task.prompt[0]["content"])).output)


def test_pydantic_ai(tmp_path: Path) -> None:
    needs("pydantic_ai", "openai")
    _, rows = trained(tmp_path, another_framework)
    for row in rows:
        assert row.transcript.turns >= 2
        assert [record.text for record in row.calls][:1] == ["3"]


# -- a shell script ---------------------------------------------------------------------------------------------

SCRIPT = r"""
read -r task
tools='TOOLS'
ask() {
  jq -n --arg model "$OPENAI_MODEL" --argjson messages "$1" --argjson tools "$tools" '$ARGS.named' |
    curl -sf "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" -d @-
}
messages=$(echo "$task" | jq -c .prompt)
answer=$(ask "$messages") || exit 1
messages=$(echo "$answer" | jq -c --argjson before "$messages" '
  .choices[0].message as $said | $before + [$said | del(.reasoning_content)] +
  [$said.tool_calls[] | {role: "tool", tool_call_id: .id, content: (.function.arguments | fromjson | .a + .b | tostring)}]')
ask "$messages" | jq -r '.choices[0].message.content'
"""


def test_a_shell_script_with_curl(tmp_path: Path) -> None:
    missing = [name for name in ("curl", "jq") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not on this machine")
    _, rows = trained(tmp_path, SCRIPT.replace("TOOLS", json.dumps(SCHEMAS)))
    agents_came_through(rows, 2)
    for row in rows:
        assert row.outcome.stdout.strip() == row.turns[-1].content.strip()


def test_rows_of_a_batch_that_failed_are_left_out(tmp_path: Path) -> None:
    """Half of the agents die before they ask: the step goes on without them."""

    def dying(task: Any) -> str:
        if task.index % 2:
            raise ValueError("no luck")
        return hand_written(task)

    needs("openai")
    from trl_integration.gateway import AgentRollout

    backend = scripted(lambda index, turn: [CALL, f"Answer {index}.<|im_end|>"][turn])
    rollout = AgentRollout(dying, parser=parser(NAME), backend=backend, seconds=60.0)
    trainer = trainer_with(tmp_path, rollout=rollout, reward_funcs=short, max_completion_length=512)
    try:
        trainer.train()
        last = list(rollout.last)
    finally:
        rollout.close()
    assert [row.stop_reason for row in last] == ["answered", "no_turn", "answered", "no_turn"]
    [entry] = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert entry["rollout/kept"] == 0.5
    assert entry["rollout/stop/no_turn"] == 0.5


def test_the_example_runs() -> None:
    program = ROOT / "examples" / "train_agent.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "rows per agent: [1.0, 1.0]" in done.stdout
