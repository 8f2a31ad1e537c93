"""Agents and engines that misbehave: nothing ends the run, mixes sessions, or marks what was not sampled."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

from trl_integration import Budget, Sampled

from .gateway_helpers import Client, Refused, agent, httpx, play, unjudged
from .helpers import CALL, END, GO, Recording, ids_of
from .test_gateway import user
from .test_rollout import ANSWER

WORD = f"Word.{END}"


def one_good_among(bad: Any, *turns: Any, **options: Any) -> Any:
    """The row of a bad agent, after a good one beside it has come through."""

    def run(task: Any) -> Any:
        return agent(task) if task.index == 0 else bad(task)

    script = [[CALL, ANSWER + END], list(turns) or [WORD] * 99]
    rows, backend = play("qwen3", script, run, **options)
    assert (rows[0].stop_reason, rows[0].outcome) == ("answered", ANSWER)
    return rows[1], backend


def test_an_agent_that_never_stops() -> None:
    def forever(task: Any) -> None:
        client, messages = Client(task), list(GO)
        while True:
            messages += [client.ask(messages), user("More.")]

    row, backend = one_good_among(forever, budget=Budget(turns=5))
    assert (row.stop_reason, row.truncated, row.transcript.turns) == ("max_turns", True, 5)
    assert len(backend.seen[1]) == 5


def test_an_agent_that_hangs_is_given_up_and_its_key_is_dead() -> None:
    go_on, refused = threading.Event(), []

    def hanging(task: Any) -> None:
        client = Client(task)
        client.ask(GO)
        go_on.wait(20)
        try:
            client.ask(GO)
        except (Refused, httpx.HTTPError) as error:
            refused.append(error)

    row, _ = one_good_among(hanging, seconds=5.0)
    assert (row.stop_reason, row.truncated, row.transcript.turns) == ("agent_timeout", True, 1)
    go_on.set()
    for _ in range(100):
        if refused:
            break
        time.sleep(0.05)
    assert len(refused) == 1
    assert row.session.turns == 1


def test_an_agent_that_dies() -> None:
    def dying(task: Any) -> None:
        Client(task).ask(GO)
        raise SystemExit("gone")

    row, _ = one_good_among(dying)
    assert (row.stop_reason, row.keep, row.transcript.turns) == ("agent_error", True, 1)
    assert "SystemExit: gone" in row.detail


def test_an_agent_that_dies_before_it_asks_is_never_trained_on() -> None:
    def dying(task: Any) -> None:
        raise ValueError("no config")

    row, _ = one_good_among(dying)
    assert (row.stop_reason, row.keep, row.failed) == ("no_turn", False, True)
    assert "no config" in row.detail


def test_an_agent_that_never_asks() -> None:
    row, _ = one_good_among(lambda task: "I know it.")
    assert (row.stop_reason, row.outcome, row.keep) == ("no_turn", "I know it.", False)


def test_broken_requests_are_refused_and_the_session_goes_on() -> None:
    seen: list[int] = []

    def broken(task: Any) -> None:
        client = Client(task)
        texts = (b"{", b"[]", b'{"messages": 3}', b'{"messages": []}', b"\xff", b"[" * 100_000)
        seen.extend(client.http.post("chat/completions", content=text).status_code for text in texts)
        bodies = (
            {"messages": GO, "model": "gpt-4o"},
            {"messages": GO, "tools": [{"type": "function"}]},
            {"messages": GO, "tools": client.body["tools"], "tool_choice": "required"},
            {"messages": GO, "n": 4},
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            {"messages": [*GO, {"role": "tool", "tool_call_id": "nobody", "content": "x"}]},
        )
        seen.extend(client.http.post("chat/completions", json=body).status_code for body in bodies)
        client.ask(GO)

    row, backend = one_good_among(broken)
    assert seen == [400] * 6 + [404] + [400] * 5
    assert (row.stop_reason, row.transcript.turns, len(backend.seen[1])) == ("answered", 1, 1)


def test_an_agent_that_floods() -> None:
    """A hundred requests at once: some are told to wait, none is lost, and the limit of turns holds."""
    statuses: list[int] = []

    def flooding(task: Any) -> None:
        def one() -> None:
            try:
                Client(task).ask(GO)
                statuses.append(200)
            except Refused as error:
                statuses.append(error.status)

        threads = [threading.Thread(target=one) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    row, backend = one_good_among(flooding, budget=Budget(turns=12))
    assert len(statuses) == 100
    assert set(statuses) <= {200, 400, 429}
    assert statuses.count(200) == len(backend.seen[1]) == row.session.turns <= 12
    assert all(other.transcript.turns == 1 for other in row.session.rows)


def test_a_key_of_an_earlier_session_is_refused() -> None:
    """An agent that keeps its first client for ever: its later rollouts get nothing, and nothing is mixed."""
    kept: list[Client] = []

    def keeping(task: Any) -> None:
        if not kept:
            kept.append(Client(task))
        kept[0].ask(GO)

    row, _ = play("qwen3", [[WORD]], keeping)
    stolen = kept[0].task.api_key

    def reusing(task: Any) -> None:
        client = Client(task)
        client.http.headers["Authorization"] = f"Bearer {stolen}"
        client.ask(GO)

    row, backend = one_good_among(reusing)
    assert (row.stop_reason, row.keep) == ("no_turn", False)
    assert 1 not in backend.seen


@pytest.mark.parametrize("key", ["", "Bearer", "nobody", "Bearer session-", "\u00e9"])
def test_strange_keys_open_nothing(key: str) -> None:
    def strange(task: Any) -> int:
        client = Client(task)
        headers: Any = {"Authorization": key.encode("utf-8")}
        return int(client.http.post("chat/completions", json={"messages": GO}, headers=headers).status_code)

    row, _ = one_good_among(strange)
    assert (row.outcome, row.stop_reason) == (401, "no_turn")


def test_one_agent_with_the_key_of_another_shares_only_that_session() -> None:
    """Whoever has a key is that session: a second conversation is a row of it, and no other session's."""
    keys: dict[int, str] = {}
    both = threading.Barrier(2, timeout=10)

    def thief(task: Any) -> None:
        keys[task.index] = task.api_key
        both.wait()
        client = Client(task)
        client.http.headers["Authorization"] = f"Bearer {keys[0]}"
        client.ask([user(f"I am {task.index}.")])
        both.wait()

    rows, _ = play("qwen3", [[WORD] * 9, [WORD] * 9], thief)
    assert len(rows[0].session.rows) == 2
    assert rows[1].stop_reason == "no_turn"


def test_a_client_that_goes_away_leaves_no_turn() -> None:
    from trl_integration.gateway import Gateway

    gateway, sampling, gone = Gateway(), threading.Event(), threading.Event()

    class Waiting(Recording):
        """Answers the first request of session 1 when its client has gone, and the endpoint knows it."""

        def generate(self, prompts: Any, budgets: Any, stop_ids: Any, places: Any = ()) -> list[Sampled]:
            if not sampling.is_set() and any(index == 1 for index, _ in places):
                sampling.set()
                assert gone.wait(20)
            return super().generate(prompts, budgets, stop_ids, places)

    async def impatient(task: Any) -> str:
        client = Client(task)
        async with httpx.AsyncClient(base_url=task.base_url, headers=client.http.headers) as http:
            asking = asyncio.ensure_future(http.post("chat/completions", json={**client.body, "messages": GO}))
            assert await asyncio.to_thread(sampling.wait, 20)
            asking.cancel()
        while gateway.sessions[task.api_key].requests:
            await asyncio.sleep(0.01)
        gone.set()
        return str((await asyncio.to_thread(client.ask, [user("Again.")]))["content"])

    backend = Waiting([[CALL, ANSWER + END], [WORD] * 3], encode=lambda text: ids_of("qwen3", text))

    def run(task: Any) -> Any:
        return agent(task) if task.index == 0 else impatient(task)

    _, row = unjudged(run, backend, gateway=gateway)
    assert (row.stop_reason, row.session.turns, row.outcome) == ("answered", 1, "Word.")
    assert len(backend.seen[1]) == 2


# -- engines --------------------------------------------------------------------------------------------------


class Failing(Recording):
    """Fails in some way the first so many times that it is asked for session 1."""

    def __init__(self, how: str, times: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.how, self.times = how, times

    def generate(self, prompts: Any, budgets: Any, stop_ids: Any, places: Any = ()) -> list[Sampled]:
        if self.times <= 0 or all(index != 1 for index, _ in places):
            return super().generate(prompts, budgets, stop_ids, places)
        self.times -= 1
        if self.how == "raises":
            raise RuntimeError("out of memory")
        if self.how == "loses":
            return []
        out = super().generate(prompts, budgets, stop_ids, places)
        return [
            Sampled([], None, "stop") if index == 1 else sampled
            for sampled, (index, _) in zip(out, places, strict=True)
        ]


def patient(task: Any) -> str:
    client = Client(task)
    for _ in range(20):
        try:
            return str(client.ask(GO)["content"])
        except Refused as error:
            if error.status not in (502, 503):
                raise
    raise RuntimeError("it never answers")


@pytest.mark.parametrize("how", ["raises", "loses", "empty"])
@pytest.mark.parametrize("times", [1, 99])
def test_an_engine_that_loses_requests(how: str, times: int) -> None:
    done = threading.Event()

    def one_after_the_other(task: Any) -> str:
        if task.index == 1:
            done.wait(10)
        answer = patient(task)
        done.set()
        return answer

    script = [[WORD] * 99, [WORD] * 99]
    backend = Failing(how, times, script, encode=lambda text: ids_of("qwen3", text))
    good, row = unjudged(one_after_the_other, backend)
    assert good.stop_reason == "answered"
    if times == 1:
        assert (row.stop_reason, row.outcome) == ("answered", "Word.")
        assert row.transcript.sampled == [tuple(ids_of("qwen3", WORD))]
    else:
        assert (row.stop_reason, row.keep, row.failed) == ("engine_error", False, True)


def test_an_engine_that_never_works_ends_the_first_batch_with_the_reason() -> None:
    class Dead(Recording):
        def generate(self, *args: Any) -> list[Sampled]:
            raise RuntimeError("no weights")

    with pytest.raises(RuntimeError, match=r"not one agent got an answer.*no weights"):
        unjudged(patient, Dead([]))


# -- commands -------------------------------------------------------------------------------------------------

ASK = (
    'curl -s -o {out} "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" '
    '-d \'{{"messages": [{{"role": "user", "content": "Go."}}]}}\''
)


def command(text: str, **options: Any) -> Any:
    [row], _ = play("qwen3", [[WORD] * 9], text.replace("ASK", ASK.format(out="/dev/null")), **options)
    return row


def test_a_command_that_fails_keeps_its_outcome() -> None:
    row = command("ASK; echo out; echo cannot >&2; exit 3")
    assert (row.stop_reason, row.keep) == ("agent_error", True)
    assert (row.outcome.status, row.outcome.stdout, row.outcome.stderr) == (3, "out\n", "cannot\n")
    assert "status 3: cannot" in row.detail


def test_a_command_that_writes_without_end_is_read_and_stopped() -> None:
    row = command("ASK; yes", seconds=3.0)
    assert row.stop_reason == "agent_timeout"
    row = command("ASK; yes | head -c 5000000")
    assert (row.stop_reason, len(row.outcome.stdout)) == ("answered", 1 << 16)


def test_what_a_command_leaves_behind_is_ended_with_it(tmp_path: Any) -> None:
    """The pipe ends when nobody is left who could write to it."""
    pipe, said = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: said.append(pipe.read_text()), daemon=True)
    reader.start()
    row = command(f"exec 3> {pipe}; ASK; (sleep 30; echo left >&3) & exit 0")
    assert row.stop_reason == "answered"
    reader.join(20)
    assert said == [""]


def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(RuntimeError, match="not one agent got an answer"):
        play("qwen3", [[WORD]], ["no-such-program-here"])
