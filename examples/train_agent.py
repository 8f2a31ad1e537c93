"""GRPO on an agent that owns its loop: ``python examples/train_agent.py MODEL``.

The agent is a plain function here; any program that speaks to an OpenAI endpoint will do (docs/gateway.md). Without a
model, a tiny random one is made on the spot, which shows that everything runs and learns nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import toolparse
from examples.train_tools import POPULATION, population, setting
from trl_integration import Budget, Rollout, ToolGRPOTrainer, per_rollout
from trl_integration.gateway import AgentRollout, AgentTask

TOOLS = [toolparse.tool_schema(population)]


def agent(task: AgentTask) -> str:
    """Asks the model, looks up what it calls for, and asks again until it answers."""
    headers = {"Authorization": f"Bearer {task.api_key}"}
    messages: list[dict[str, Any]] = list(task.prompt)
    with httpx.Client(base_url=task.base_url, headers=headers, timeout=60) as client:
        while True:
            body = {"model": task.model, "messages": messages, "tools": TOOLS}
            answer = client.post("chat/completions", json=body).raise_for_status()
            message = answer.json()["choices"][0]["message"]
            messages.append(message)
            if not message.get("tool_calls"):
                return str(message["content"])
            for call in message["tool_calls"]:
                city = json.loads(call["function"]["arguments"])["city"]
                found = str(POPULATION.get(city, "no such city"))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": found})


@per_rollout
def right(rollout: Rollout) -> float:
    """1 if the answer has the number."""
    return float(str(POPULATION[rollout.row["city"]]) in rollout.answer)


def main() -> None:
    """Train a few steps."""
    rollout = AgentRollout(agent, seconds=120, budget=Budget(turns=4))
    with tempfile.TemporaryDirectory() as folder:
        trainer = ToolGRPOTrainer(**setting(folder), rollout=rollout, reward_funcs=right)
        trainer.train()
    rollout.close()
    print("mean reward per step:", [entry["reward"] for entry in trainer.state.log_history if "reward" in entry])
    print("rows per agent:", [entry["rollout/rows"] for entry in trainer.state.log_history if "rollout/rows" in entry])


if __name__ == "__main__":
    main()
