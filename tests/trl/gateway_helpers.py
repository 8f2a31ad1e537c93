"""What the tests of the gateway share: a plain client, an agent that runs tools, and an oracle of rows."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import toolparse
from trl_integration.rollout import Rollout

from .helpers import GO, NAME, TOOLS, Recording, parser, rows_of, tokenizer

httpx = pytest.importorskip("httpx", reason="the gateway is a server: pip install '.[serve]'")
pytest.importorskip("starlette", reason="the gateway is a server: pip install '.[serve]'")
pytest.importorskip("uvicorn", reason="the gateway is a server: pip install '.[serve]'")

from trl_integration.gateway import AgentRollout, AgentTask, Row  # noqa: E402

SCHEMAS = [toolparse.tool_schema(tool) for tool in TOOLS]


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, error: dict[str, Any]) -> None:
        super().__init__(f"{status}: {error.get('message')}")
        self.status = status
        self.error = error


class Client:
    """A client without any library: what goes over the wire stands in the tests."""

    def __init__(self, task: AgentTask, **body: Any) -> None:
        self.task = task
        self.body = {"model": task.model, "tools": SCHEMAS, **body}
        headers = {"Authorization": f"Bearer {task.api_key}"}
        self.http = httpx.Client(base_url=task.base_url, headers=headers, timeout=30)

    def whole(self, messages: Sequence[Any], **body: Any) -> dict[str, Any]:
        """The `chat.completion` object."""
        answer = self.http.post("chat/completions", json={**self.body, **body, "messages": list(messages)})
        if answer.status_code != 200:
            raise Refused(answer.status_code, answer.json()["error"])
        made: dict[str, Any] = answer.json()
        return made

    def ask(self, messages: Sequence[Any], **body: Any) -> dict[str, Any]:
        """The message alone."""
        message: dict[str, Any] = self.whole(messages, **body)["choices"][0]["message"]
        return message


def run_call(call: dict[str, Any]) -> dict[str, Any]:
    """The answer of a tool to a call."""
    function = next(tool for tool in TOOLS if tool.__name__ == call["function"]["name"])
    value = function(**json.loads(call["function"]["arguments"]))
    if inspect.isawaitable(value):
        value = asyncio.run(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return {"role": "tool", "tool_call_id": call["id"], "content": text}


def agent(task: AgentTask) -> str | None:
    """Asks, runs what is called, and asks again until nothing is called."""
    client, messages = Client(task), list(task.prompt)
    while True:
        message = client.ask(messages)
        messages.append(message)
        if not message.get("tool_calls"):
            return str(message["content"])
        messages += [run_call(call) for call in message["tool_calls"]]


Script = Sequence[Sequence[Any]] | Callable[[int, int], Any]


def play(
    name: str,
    script: Script,
    run: Any = agent,
    *,
    count: int | None = None,
    prompts: Sequence[Any] | None = None,
    backend: Any = None,
    eos_ids: Sequence[int] = (),
    tok: Any = None,
    **options: Any,
) -> tuple[list[Row], Recording]:
    """Run agents against a script; every row is checked against the oracle."""
    made = parser(name) if tok is None else None
    tok = tok or tokenizer(name)
    backend = backend or Recording(script, encode=lambda text: list(tok(text, add_special_tokens=False)["input_ids"]))
    size = count if count is not None else len(prompts if prompts is not None else script)  # type: ignore[arg-type]
    prompts = list(prompts) if prompts is not None else [GO] * size
    rows = unjudged(run, backend, prompts, tok, eos_ids, parser=made, **options)
    return [judged(row, backend) for row in rows], backend


def unjudged(
    run: Any,
    backend: Any,
    prompts: Sequence[Any] = (GO, GO),
    tok: Any = None,
    eos_ids: Sequence[int] = (),
    **options: Any,
) -> list[Any]:
    """Run agents with a back end that loses something, or does more than what is kept."""
    rollout = AgentRollout(run, **{"seconds": 30.0, "parser": None if tok else parser(NAME), **options})
    try:
        rollout.bind(tok or tokenizer(NAME), eos_ids=eos_ids)
        rows: list[Any] = rollout.run(prompts, backend)
        rollout.output(rows)
    finally:
        rollout.close()
    return rows


def judged(row: Rollout, backend: Any) -> Row:
    """The row, after all rows of its session were compared with what the engine saw."""
    assert isinstance(row, Row)
    seen = [entry for entry in getattr(backend, "seen", {}).get(row.index, ()) if entry[1].ids]
    if row.session.rows:
        told_apart = rows_of(seen)
        for mine in row.session.rows:
            mine.transcript.check()
        found = [
            (r.transcript.ids, [0] * r.transcript.prompt_length + r.transcript.tool_mask) for r in row.session.rows
        ]
        for ids, mask in found:
            assert (ids, mask) in told_apart
        assert len(found) == len(told_apart)
    return row
