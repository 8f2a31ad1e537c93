"""Tools of a real MCP server in a rollout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trl_integration import MCPTools

from .helpers import END, NAME, add, roll, written

pytest.importorskip("mcp", reason="the mcp package is not installed")

ANSWER = "Done." + END
# Where a test environment has its packages by a path, the server needs it too.
ENV = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
SERVER = (sys.executable, str(Path(__file__).with_name("mcp_server.py")))


@pytest.fixture
def server() -> Iterator[MCPTools]:
    with MCPTools(*SERVER, env=ENV) as tools:
        yield tools


def test_a_servers_tools_run_beside_others(server: MCPTools) -> None:
    assert [spec.name for spec in server] == ["multiply", "refuse", "doze", "die"]
    assert next(iter(server)).schema["function"]["parameters"]["required"] == ["a", "b"]
    calls = written(
        NAME, ("multiply", {"a": 6, "b": 7}), ("add", {"a": 1, "b": 2}), ("refuse", {"text": "thanks"}), ("doze", {})
    )
    script = [[calls, ANSWER]] * 3
    rollouts, _, _ = roll(NAME, script, tools=[*server, add], timeout=60, timeouts={"doze": 1.0})
    for rollout in rollouts:
        assert [result.text for result in rollout.results[:2]] == ["42", "3"]
        assert "Error executing tool refuse" in rollout.results[2].text
        assert [result.code for result in rollout.results] == [None, None, "exception", "timeout"]
        assert rollout.stop_reason == "answered"


def test_arguments_are_held_against_the_servers_schema(server: MCPTools) -> None:
    [rollout], _, _ = roll(NAME, [[written(NAME, ("multiply", {"a": "six", "b": 7})), ANSWER]], tools=list(server))
    assert rollout.calls[0].result is None
    assert "wrong-type" in (rollout.calls[0].text or "")


def test_a_server_that_dies_is_an_answer(server: MCPTools) -> None:
    script = [[written(NAME, ("die", {})), written(NAME, ("multiply", {"a": 1, "b": 1})), ANSWER]]
    [rollout], _, _ = roll(NAME, script, tools=list(server), timeout=5.0)
    assert rollout.stop_reason == "answered"
    assert [result.ok for result in rollout.results] == [False, False]


def test_a_server_that_is_none_is_refused() -> None:
    with pytest.raises(ConnectionError, match="can't be used"), MCPTools(sys.executable, "-c", "print('hello')"):
        pass
    with pytest.raises(TypeError, match="command line"):
        MCPTools()


def test_a_prefix_keeps_two_servers_apart() -> None:
    with MCPTools(*SERVER, env=ENV, prefix="one_") as tools:
        [rollout], _, _ = roll(NAME, [[written(NAME, ("one_multiply", {"a": 2, "b": 2})), ANSWER]], tools=list(tools))
        assert rollout.results[0].text == "4"
