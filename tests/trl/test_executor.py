"""Tools can't end the run, answers keep their order, and time is limited."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import sys
import threading
import time
from typing import Any

import numpy as np
import pydantic
import pytest

from trl_integration.executor import Toolbox, ToolExecutor, ToolRequest, ToolResult
from trl_integration.tool_text import result_text

from .helpers import add, echo, hang, weather


def run(*tools: Any, timeout: float = 2.0, owner: object | None = None, **calls: dict[str, Any]) -> list[ToolResult]:
    box = Toolbox(tools, owner=owner)
    with ToolExecutor(timeout=timeout) as executor:
        return executor.run([ToolRequest(name, arguments, box) for name, arguments in calls.items()])


def one(tool: Any, arguments: dict[str, Any], **options: Any) -> ToolResult:
    return run(tool, **options, **{tool.__name__: arguments})[0]


def test_functions_async_functions_and_methods_run_together() -> None:
    class Counter:
        count = 3

        def total(self) -> int:
            """How many."""
            return self.count

    results = run(add, weather, Counter().total, add={"a": 1, "b": 2}, weather={"city": "Oslo"}, total={})
    assert [r.text for r in results] == ["3", '{"city": "Oslo", "sky": "clear"}', "3"]
    assert all(r.ok and r.code is None for r in results)
    assert results[1].seconds >= 0.02


def test_a_whole_batch_runs_at_once_and_keeps_its_order() -> None:
    together = threading.Barrier(12, timeout=30)
    ended = [threading.Event() for _ in range(13)]
    ended[12].set()

    def wait(at: int) -> int:
        """Wait for all to be here, and for the next one to be gone.

        Args:
            at: Position.
        """
        together.wait()
        assert ended[at + 1].wait(30)
        ended[at].set()
        return at

    box = Toolbox([wait])
    with ToolExecutor(timeout=60) as executor:
        results = executor.run([ToolRequest("wait", {"at": at}, box) for at in range(12)])
    assert [r.text for r in results] == [str(at) for at in range(12)]


def test_a_hanging_tool_times_out_and_others_are_not_kept_waiting() -> None:
    hung, fine = run(hang, add, timeout=0.3, hang={"seconds": 3600.0}, add={"a": 1, "b": 1})
    assert (hung.ok, hung.code) == (False, "timeout")
    assert hung.text == '{"error": "hang timed out after 0.3 s"}'
    assert fine.text == "2"


def test_a_hanging_async_tool_times_out() -> None:
    async def doze() -> str:
        """Sleep."""
        await asyncio.sleep(60)
        return "awake"

    assert one(doze, {}, timeout=0.2).code == "timeout"


def test_an_async_tool_that_blocks_its_loop_does_not_stop_the_others_for_good() -> None:
    async def blocking() -> str:
        """Block."""
        time.sleep(3)
        return "awake"

    async def quick() -> str:
        """Answer."""
        return "here"

    box = Toolbox([blocking, quick])
    with ToolExecutor(timeout=0.3) as executor:
        assert executor.run([ToolRequest("blocking", {}, box)])[0].code == "timeout"
        assert executor.run([ToolRequest("quick", {}, box)])[0].text == "here"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such page"), "ValueError: no such page"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (KeyError("bay"), "KeyError: 'bay'"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_whatever_a_tool_raises_becomes_an_answer(error: BaseException, said: str, kind: str) -> None:
    def sync_tool() -> str:
        """Fail."""
        raise error

    async def async_tool() -> str:
        """Fail."""
        raise error

    result = one(sync_tool if kind == "sync" else async_tool, {})
    assert (result.ok, result.code) == (False, "exception")
    assert json.loads(result.text) == {"error": said}


def test_sys_exit_in_an_async_tool_leaves_later_tools_alive() -> None:
    async def leave() -> None:
        """Exit."""
        sys.exit(1)

    box = Toolbox([leave, weather])
    with ToolExecutor() as executor:
        first, second = executor.run([ToolRequest("leave", {}, box), ToolRequest("weather", {"city": "Rome"}, box)])
        third = executor.run([ToolRequest("weather", {"city": "Bern"}, box)])[0]
    assert first.code == "exception"
    assert second.ok
    assert third.ok


class Point(pydantic.BaseModel):
    x: int
    y: int = 0


@dataclasses.dataclass
class Size:
    width: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        ("", ""),
        (None, "null"),
        ([1, "a", None], '[1, "a", null]'),
        ({"a": {"b": 1.5}}, '{"a": {"b": 1.5}}'),
        ({"é": "ü"}, '{"é": "ü"}'),
        (True, "true"),
        (12345678901234567890, "12345678901234567890"),
        (float("nan"), "nan"),
        (Point(x=1), '{"x": 1, "y": 0}'),
        (Size(3), '{"width": 3}'),
        ({3, 1, 2}, "[1, 2, 3]"),
        (datetime.date(2024, 5, 1), '"2024-05-01"'),
        (np.array([1, 2]), "[1, 2]"),
        (np.int64(4), "4"),
        (b"plain text", "plain text"),
        (b"\xff\xfe\x00\x01", "<4 bytes of binary data; base64 of the first 4: //4AAQ==>"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
    ],
)
def test_results_as_text(value: Any, text: str) -> None:
    assert result_text(value) == text


def test_a_huge_result_is_cut_and_says_so() -> None:
    text = result_text("x" * 1_000_000, max_chars=100)
    assert text == "x" * 100 + "\n[cut: the first 100 of 1000000 characters]"


def test_a_result_that_refers_to_itself_is_still_text() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert result_text(loop) == "[[...]]"


def test_arguments_are_validated_and_converted_before_the_call() -> None:
    seen: list[Any] = []

    def place(at: Point, when: datetime.date, note: str = "none") -> str:
        """Place something.

        Args:
            at: Where.
            when: When.
            note: What.
        """
        seen.extend([at, when, note])
        return "done"

    assert one(place, {"at": {"x": 1}, "when": "2024-05-01"}).text == "done"
    assert seen == [Point(x=1), datetime.date(2024, 5, 1), "none"]
    wrong = one(place, {"at": {"x": "one"}, "when": "2024-05-01"})
    assert (wrong.ok, wrong.code) == (False, "invalid-arguments")
    assert "at" in json.loads(wrong.text)["error"]
    assert len(seen) == 3


def test_arguments_are_not_coerced() -> None:
    """`"3"` for an integer is the model's mistake, and the model is told."""
    result = one(add, {"a": "3", "b": 1})
    assert result.code == "invalid-arguments"
    assert "expected integer" in result.text


def test_missing_and_unknown_arguments_and_tools_are_named() -> None:
    assert "b" in one(add, {"a": 1}).text
    box = Toolbox([add])
    with ToolExecutor() as executor:
        unknown = executor.run([ToolRequest("sub", {}, box)])[0]
    assert json.loads(unknown.text)["error"] == "unknown tool 'sub'; the tools are: add"


def test_methods_of_one_environment_run_in_order_and_never_together() -> None:
    class World:
        def __init__(self) -> None:
            self.log: list[int] = []
            self.inside = 0

        def step(self, at: int) -> str:
            """Step.

            Args:
                at: Number.
            """
            self.inside += 1
            assert self.inside == 1
            time.sleep(0.02 if at % 2 else 0.0)
            self.log.append(at)
            self.inside -= 1
            return str(at)

    worlds = [World(), World()]
    boxes = [Toolbox([world.step], owner=world) for world in worlds]
    with ToolExecutor() as executor:
        results = executor.run([ToolRequest("step", {"at": at}, boxes[at % 2]) for at in range(10)])
    assert all(r.ok for r in results)
    assert worlds[0].log == [0, 2, 4, 6, 8]
    assert worlds[1].log == [1, 3, 5, 7, 9]


def test_a_call_waits_for_an_environment_that_is_still_busy() -> None:
    free = threading.Event()

    class Stuck:
        def wait(self) -> str:
            """Wait."""
            free.wait(60)
            return "done"

        def quick(self) -> str:
            """Answer."""
            return "quick"

    world = Stuck()
    box = Toolbox([world.wait, world.quick], owner=world)
    with ToolExecutor(timeout=0.3) as executor:
        first, second = executor.run([ToolRequest("wait", {}, box), ToolRequest("quick", {}, box)])
        assert (first.code, second.code) == ("timeout", "timeout")
        assert "still running" in second.text
        free.set()
        executor.timeout = 60
        assert executor.run([ToolRequest("quick", {}, box)])[0].text == "quick"


def test_timeouts_per_tool_and_per_request() -> None:
    box = Toolbox([hang], timeouts={"hang": 0.2})
    with ToolExecutor(timeout=30) as executor:
        assert "timed out after 0.2 s" in executor.run([ToolRequest("hang", {}, box)])[0].text
        assert "timed out after 0.05 s" in executor.run([ToolRequest("hang", {}, box, timeout=0.05)])[0].text
        used_up = executor.run([ToolRequest("hang", {}, box, timeout=0.0)])[0]
    assert "used up" in used_up.text


def test_no_thread_of_a_hanging_tool_keeps_the_process_alive() -> None:
    one(hang, {}, timeout=0.1)
    left = [thread for thread in threading.enumerate() if thread.name == "tool-hang"]
    assert left
    assert all(thread.daemon for thread in left)


def test_two_tools_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two tools are called 'echo'"):
        Toolbox([echo]) | Toolbox([echo])
    with pytest.raises(TypeError, match="can't be executed"):
        Toolbox([{"type": "function", "function": {"name": "x"}}])
    with pytest.raises(ValueError, match="no tool is called sub"):
        Toolbox([add]).only(["sub"])
