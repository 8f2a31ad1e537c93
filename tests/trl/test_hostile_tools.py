"""Tools, environments and arguments that try to end the run, each in a child with limits where it could hang or leak."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pytest

from toolparse import tool_schema
from toolparse.tokens import Vocabulary
from toolparse.tools import Injected
from trl_integration import Budget, MultiTurnRollout, Rollout, Sampled, ScriptedBackend, rollout_html
from trl_integration.environment import reward_of
from trl_integration.executor import Toolbox, ToolExecutor, ToolRequest
from trl_integration.metrics import rollout_metrics
from trl_integration.traces import trace_of, write_traces

from .helpers import END, GO, ROOT, add, bound, echo, ids_of, roll, scripted, tokenizer, told, written

VOCABULARY = Vocabulary(tokenizer("qwen3"))


def in_a_child(code: str, seconds: float = 60) -> str:
    """What a program prints; it may use 1 GiB, 64 threads beyond those of its libraries, and so many seconds."""
    limits = (
        "import resource, threading\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "import faulthandler; faulthandler.dump_traceback_later(50, exit=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", limits + code],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_hanging_tools_are_refused_before_they_use_up_all_threads() -> None:
    said = in_a_child(
        """
import threading, time
from trl_integration.executor import Toolbox, ToolExecutor, ToolRequest
def hang() -> None:
    "Hang."
    time.sleep(3600)
def fine() -> int:
    "Answer."
    return 7
box = Toolbox([hang, fine])
executor = ToolExecutor(timeout=0.02, max_lost=5)
codes = [executor.run([ToolRequest("hang", {}, box)])[0].code for _ in range(40)]
print(codes.count("timeout"), codes.count("not-run"), executor.lost)
print(executor.run([ToolRequest("fine", {}, box, timeout=60)])[0].text)
print(sum(t.name == "tool-hang" for t in threading.enumerate()))
"""
    )
    assert said.splitlines() == ["5 35 {'hang': 5}", "7", "5"]


def test_a_system_without_threads_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Toolbox([add])
    with ToolExecutor() as executor:
        executor.run([ToolRequest("add", {"a": 1, "b": 1}, box)])

        def no_more(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", no_more)
        result = executor.run([ToolRequest("add", {"a": 1, "b": 1}, box)])[0]
    assert (result.code, result.text) == ("not-run", '{"error": "not run: can\'t start new thread"}')


def test_a_tool_is_taken_again_when_its_calls_have_come_back() -> None:
    release = threading.Event()

    def wait() -> str:
        """Wait."""
        release.wait(30)
        return "came back"

    box = Toolbox([wait])
    with ToolExecutor(timeout=0.1, max_lost=2) as executor:
        codes = [executor.run([ToolRequest("wait", {}, box)])[0].code for _ in range(3)]
        release.set()
        while executor.lost:
            time.sleep(0.01)
        assert executor.run([ToolRequest("wait", {}, box, timeout=10)])[0].code in (None, "timeout")
    assert codes == ["timeout", "timeout", "not-run"]


def test_an_async_tool_that_will_not_be_cancelled_is_counted_until_it_ends() -> None:
    async def stubborn() -> None:
        """Stay."""
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    box = Toolbox([stubborn])
    with ToolExecutor(timeout=0.1) as executor:
        assert executor.run([ToolRequest("stubborn", {}, box)])[0].code == "timeout"
        assert executor.lost == {"stubborn": 1}
        while executor.lost:
            time.sleep(0.01)


RAISED: list[BaseException] = []


def check(value: int) -> int:
    raise RAISED[-1]


def plain(value: Annotated[int, pydantic.AfterValidator(check)]) -> int:
    """Take.

    Args:
        value: What.
    """
    return value


async def later(value: Annotated[int, pydantic.AfterValidator(check)]) -> int:
    """Take.

    Args:
        value: What.
    """
    return value


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), RuntimeError("no")])
@pytest.mark.parametrize("tool", [plain, later])
def test_validators_that_exit_are_answered(error: BaseException, tool: Any) -> None:
    RAISED.append(error)
    with ToolExecutor() as executor:
        box = Toolbox([tool, add])
        results = executor.run(
            [ToolRequest(tool.__name__, {"value": 1}, box), ToolRequest("add", {"a": 1, "b": 2}, box)]
        )
    assert [r.code for r in results] == ["invalid-arguments", None]


def test_what_a_tool_does_to_its_arguments_stays_with_it() -> None:
    def spoil(items: list[list[int]]) -> str:
        """Spoil.

        Args:
            items: What.
        """
        items[0].append(99)
        items.clear()
        return "spoilt"

    [rollout], _, _ = roll("qwen3", [[written("qwen3", ("spoil", {"items": [[1]]})), "Ok." + END]], tools=[spoil])
    assert rollout.calls[0].call.arguments == {"items": [[1]]}
    assert rollout.messages[0]["tool_calls"][0]["function"]["arguments"] == {"items": [[1]]}


LONG = "9" * 5000
DEEP = "[" * 300 + "]" * 300


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "echo", "arguments": {"text": "\\\\ud800 lone"}}',
        '{"name": "count", "arguments": {"number": ' + LONG + "}}",
        '{"name": "count", "arguments": {"number": "x", "\\\\udfff": ' + LONG + "}}",
        '{"name": "\\\\ud800", "arguments": {}}',
        '{"name": "anything", "arguments": {"value": ' + DEEP + "}}",
    ],
)
def test_arguments_that_no_file_can_hold_end_nothing(body: str, tmp_path: Path) -> None:
    def count(number: int) -> str:
        """Count.

        Args:
            number: How far.
        """
        return str(number.bit_length())

    def anything(value: list[Any]) -> int:
        """Take.

        Args:
            value: What.
        """
        return len(value)

    turn = f"<tool_call>\n{body.replace(chr(92) * 2, chr(92))}\n</tool_call>{END}"
    [rollout], _, _ = roll("qwen3", [[turn, "Ok." + END]], tools=[echo, count, anything])
    assert rollout.stop_reason == "answered", rollout.detail
    path = tmp_path / "trace.jsonl"
    write_traces([rollout], path, VOCABULARY)
    [line] = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["stop_reason"] == "answered"
    assert rollout_html(rollout, tokenizer("qwen3")).encode("utf-8")
    assert trace_of(rollout, VOCABULARY)
    assert rollout_metrics([rollout])


# -- environments -------------------------------------------------------------------------------------------------


class Base:
    def reset(self, **row: Any) -> None:
        pass

    def step(self) -> str:
        """Step."""
        return "stepped"


class Fine(Base):
    pass


def failing(where: str, how: str) -> type:
    """An environment class that fails in one of its methods."""

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        if how == "raise":
            raise RuntimeError("broken")
        if how == "exit":
            raise SystemExit(1)
        if how == "hang":
            time.sleep(3)
        return 17

    async def later(self: Any, *args: Any, **kwargs: Any) -> Any:
        return fail(self)

    body: dict[str, Any] = {}
    if where == "done":
        body["done"] = property(fail)
    elif where == "reply":
        # The parameter's name makes it a hook.
        body["reply"] = lambda self, message: fail(self)
    else:
        body[where] = (lambda self, **row: fail(self)) if where == "reset" else (lambda self: fail(self))
    if how == "async":
        body[where] = property(fail) if where == "done" else later
    return type("Failing", (Base,), body)


@pytest.mark.parametrize("where", ["reset", "done", "reply", "allowed_tools"])
@pytest.mark.parametrize("how", ["raise", "exit", "hang", "odd"])
def test_a_failing_environment_ends_its_own_rollout_only(where: str, how: str) -> None:
    if (where, how) == ("done", "odd"):
        how = "raise"
    kinds = {"bad": failing(where, how), "good": Fine}
    script = [[written("qwen3", ("step", {})), "Ok." + END]] * 2
    rows = [{"prompt": GO, "environment": name} for name in ("bad", "good")]
    [bad, good], _, loop = roll("qwen3", script, tools=[], environments=kinds, rows=rows, timeout=0.4)
    assert (good.stop_reason, good.keep) == ("answered", True)
    assert (bad.stop_reason, bad.keep, bad.failed) == ("environment_error", False, True)
    assert bad.detail is not None
    assert bad.detail.startswith(("reset:", "done:", "reply:", "allowed_tools:", "what reset returned"))
    output = loop.output([bad, good])
    assert set(output["env_mask"][0]) == {0}
    assert set(output["env_mask"][1]) == {0, 1}
    loop.release([bad, good])


def test_close_and_reward_that_fail_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Base):
        def close(self) -> None:
            raise RuntimeError("no close")

        def reward(self) -> str:
            return "much"

    rollouts, _, loop = roll("qwen3", [["Ok." + END]] * 2, tools=[], environments=Broken)
    assert loop.rewards(rollouts) == [None, None]
    assert [r.stop_reason for r in rollouts] == ["environment_error"] * 2
    loop.release(rollouts)
    assert "no close" in caplog.text


def test_when_no_environment_at_all_can_be_reset_the_code_is_wrong_and_that_is_said() -> None:
    with pytest.raises(RuntimeError, match="not one environment could be started.*broken"):
        roll("qwen3", [["Ok." + END]] * 2, tools=[], environments=failing("reset", "raise"))


def test_but_not_where_another_rank_has_started_some() -> None:
    loop = bound(environments=failing("reset", "raise"))
    elsewhere = iter([True])
    rollouts = loop.run(["Go."], ScriptedBackend([[]]), waiting=lambda active: active or next(elsewhere, False))
    assert [r.stop_reason for r in rollouts] == ["environment_error"]


def test_an_environment_whose_call_was_given_up_is_not_used_again() -> None:
    """Its abandoned thread would write into the next rollout."""
    release = threading.Event()

    class Notes:
        def reset(self, **row: Any) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> str:
            """Note.

            Args:
                text: What.
            """
            if text == "slow":
                release.wait(20)
            self.notes.append(text)
            return str(self.notes)

    backend = scripted([[written("qwen3", ("note", {"text": text})), "Ok." + END] for text in ("slow", "quick")])
    loop = bound(environments=Notes, executor=ToolExecutor(timeout=0.3))
    first = loop.run([GO, GO], backend)
    loop.release(first)
    second = loop.run([GO, GO], backend)
    release.set()
    used = {id(r.environment) for r in first}
    assert id(first[0].environment) not in {id(r.environment) for r in second}
    assert used.intersection(id(r.environment) for r in second) <= {id(first[1].environment)}
    assert second[1].results[0].value == "['quick']"


def test_resets_replies_and_rewards_run_at_the_same_time() -> None:
    """Counted, not timed: all of them are inside at once."""
    together = {name: threading.Barrier(6, timeout=20) for name in ("reset", "reply", "reward")}

    class User:
        def reset(self, **row: Any) -> str:
            together["reset"].wait()
            return " Please."

        async def reply(self, message: dict[str, Any]) -> str | None:
            await asyncio.get_running_loop().run_in_executor(None, together["reply"].wait)
            return "More." if "First" in message["content"] else None

        def reward(self) -> float:
            together["reward"].wait()
            return 1.0

    rollouts, _, loop = roll("qwen3", [["First." + END, "Second." + END]] * 6, tools=[], environments=User, timeout=20)
    assert [r.stop_reason for r in rollouts] == ["answered"] * 6
    assert [m["content"] for m in rollouts[0].messages] == ["First.", "More.", "Second."]
    assert loop.rewards(rollouts) == [1.0] * 6


# -- names, ids, what is shown --------------------------------------------------------------------------------------


class Door:
    """Methods with the names of hooks that can't be called as hooks."""

    def reset(self, **row: Any) -> None:
        pass

    def close(self, door: str) -> str:
        """Close a door.

        Args:
            door: Which.
        """
        return f"{door} closed"

    def reply(self, text: str) -> str:
        """Reply to a letter.

        Args:
            text: What.
        """
        return text

    def reward(self, name: str) -> str:
        """Reward somebody.

        Args:
            name: Whom.
        """
        return name


def test_tools_with_the_names_of_hooks_are_tools_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    call = written("qwen3", ("close", {"door": "front"}))
    [rollout], _, loop = roll("qwen3", [[call, "Ok." + END]], tools=[], environments=Door)
    assert rollout.lease.toolbox.names == ["close", "reply", "reward"]
    assert rollout.results[0].value == "front closed"
    assert reward_of(rollout.environment) is None
    assert "Door.close is a tool" in caplog.text
    loop.release([rollout])

    class Named(Door):
        tool_names = ("close",)

    assert roll("qwen3", [["Ok." + END]], tools=[], environments=Named)[0][0].lease.toolbox.names == ["close"]


def test_ids_that_the_model_did_not_write_are_unique_and_fit_every_template() -> None:
    turn = written("qwen3", ("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}))
    [rollout], _, _ = roll("qwen3", [[turn, turn, "Ok." + END]])
    ids = [call["id"] for m in rollout.messages for call in m.get("tool_calls", ())]
    assert len(set(ids)) == 4
    assert all(len(i) == 9 and i.isalnum() for i in ids)
    assert [m["tool_call_id"] for m in rollout.messages if m["role"] == "tool"] == ids


class Session:
    def __init__(self) -> None:
        self.asked: list[str] = []


def ask(question: str, session: Annotated[Session, Injected]) -> str:
    """Ask.

    Args:
        question: What.
        session: Where.
    """
    session.asked.append(question)
    return "yes"


def test_injected_parameters_are_supplied_or_missed_at_once() -> None:
    with pytest.raises(ValueError, match=r"ask has parameters .*: session; pass injected=\{'session': \.\.\.\}"):
        MultiTurnRollout([ask])
    mine = Session()
    [rollout], _, _ = roll(
        "qwen3",
        [[written("qwen3", ("ask", {"question": "why"})), "Ok." + END]],
        tools=[ask],
        injected={"session": mine},
    )
    assert (rollout.results[0].text, mine.asked) == ("yes", ["why"])


def test_rows_choose_their_tools_by_name_or_by_schema() -> None:
    schema = tool_schema(echo)
    schema["function"]["description"] = "Say it louder."
    rows = [{"tools": ["add"]}, {"tools": [schema]}, {"tools": json.dumps([schema])}]
    rollouts, backend, loop = roll("qwen3", [["Ok." + END]] * 3, tools=[add, echo], rows=rows)
    assert [r.lease.toolbox.names for r in rollouts] == [["add"], ["echo"], ["echo"]]
    shown = tokenizer("qwen3").decode(rollouts[1].transcript.prompt_ids)
    assert "Say it louder." in shown
    with pytest.raises(ValueError, match="no tool is called sub"):
        loop.run([GO], backend, rows=[{"tools": ["sub"]}])
    with pytest.raises(TypeError, match="must list names or schemas"):
        loop.run([GO], backend, rows=[{"tools": [3]}])


def test_images_are_refused_in_prompts_and_answered_in_results() -> None:
    from PIL import Image

    def look() -> Any:
        """Look."""
        return Image.new("RGB", (4, 4))

    [rollout], _, _ = roll("qwen3", [[written("qwen3", ("look", {})), "Ok." + END]], tools=[look])
    assert "this conversation carries text only" in rollout.results[0].text
    with pytest.raises(TypeError, match="carry text only: a content part of type 'image'"):
        roll("qwen3", [["Ok." + END]], prompt=[{"role": "user", "content": [{"type": "image", "image": "x"}]}])


@pytest.mark.parametrize("tools", [add, "add", {"add": add}, 3])
def test_tools_that_are_no_list_are_refused_with_what_to_do(tools: Any) -> None:
    with pytest.raises(TypeError, match=r"write tools=\[\.\.\.\]"):
        MultiTurnRollout(tools)
    with pytest.raises(TypeError, match=r"write budget=Budget\(\.\.\.\)"):
        MultiTurnRollout([add], budget={"turns": 3})  # type: ignore[arg-type]


def test_a_log_prob_that_is_not_a_number_leaves_its_rollout_out_and_ends_nothing() -> None:
    ids = ids_of("qwen3", written("qwen3", ("add", {"a": 1, "b": 2})))
    end = ids_of("qwen3", "Ok." + END)
    values = [-1.0] * len(end)

    def script(index: int, turn: int) -> Sampled:
        if turn == 0:
            return Sampled(ids, [-1.0] * len(ids), "stop")
        return Sampled(end, [float("nan"), *values[1:]] if index == 0 else None if index == 1 else values, "stop")

    rollouts, _, loop = roll("qwen3", script, count=3)
    assert [r.keep for r in rollouts] == [False, False, True]
    output = loop.output(rollouts)
    assert all(value == value for row in output["logprobs"] for value in row)
    assert [sum(mask) > 0 for mask in output["env_mask"]] == [False, False, True]


def test_one_rollout_without_a_token_beside_others_with_log_probs() -> None:
    count = len(ids_of("qwen3", "Ok." + END))
    rollouts, _, loop = roll(
        "qwen3",
        lambda index, turn: (
            Sampled([], None, "length") if index == 0 else Sampled(ids_of("qwen3", "Ok." + END), [-1.0] * count, "stop")
        ),
        count=2,
        budget=Budget(turns=2),
    )
    output = loop.output(rollouts)
    assert output["logprobs"] == [[0.0], [-1.0] * count]
    assert output["env_mask"][0] == [0]
    assert isinstance(rollouts[0], Rollout)
    assert told("qwen3", rollouts[1]) == [("model", "Ok." + END)]
