"""Batches over several processes are what one process gives, whatever is in them and whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import toolparse
from fixtures import tokenizers
from tests.cases import fixture_cases
from tests.conftest import ROOT
from toolparse import batch
from toolparse.format import Format
from toolparse.message import ParsedMessage
from toolparse.parser import Parser

pytestmark = pytest.mark.skipif(os.name != "posix", reason="without POSIX one process does everything")

HERMES = '<tool_call>\n{"name": "search", "arguments": {"query": "%s", "limit": %s}}\n</tool_call>'
ODD = [
    "Hi.\n" + HERMES % ("x", "3") + "\nBye.",
    HERMES % ("\\ud800 alone", "3"),
    "content with \udc80 alone " + HERMES % ("\udfff", "3"),
    HERMES % ("big", "9" * 400),
    HERMES % ("big", str(2**64)),
    HERMES % ("negative", str(-(2**63) - 1)),
    HERMES % ("float", "1.0"),
    HERMES % ("none", "null"),
    HERMES % ("no number", '"three"'),
    HERMES.replace("search", "serch") % ("unknown", "1"),
    HERMES.replace('"limit"', '"query"') % ("twice", '"again"'),
    (HERMES % ("cut off", "3"))[:60],
    HERMES % ("repaired", "3,"),
    "</tool_call> a stray marker",
    "",
    " \n ",
    "<think>\nfirst\n</think>\n\n" + HERMES % ("after a thought", "3"),
    "long " * 2000 + "\n" + HERMES % ("y" * 5000, "3") + "\n" + HERMES % ("z", "x") + "<|im_end|>\n",
    "<think>\n" + "long thought " * 1000 + "</think>" + "long content " * 1000,
]


def search(query: str, limit: int = 10) -> str:
    """Search the web.

    Args:
        query: What to look for.
        limit: How many results.
    """
    return f"{query} {limit}"


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers are asked for every batch, and do much of it."""
    for name, value in (("FEW_CHARACTERS", 0), ("WORTH_ASKING", 0.0), ("WORTH_STARTING", 0.0), ("STEP", 0.0)):
        monkeypatch.setattr(batch, name, value)
    monkeypatch.setattr(batch, "BARGAIN", float("inf"))
    yield
    batch.shut_down()


def parsed_by_others() -> int:
    return sum(worker.stretches for worker in batch._workers)


def through_workers(parser: Any, items: list[Any], **more: Any) -> list[ParsedMessage]:
    """What `parse_batch` gives once workers took part in it."""
    deadline = time.monotonic() + 60
    before = parsed_by_others()
    while True:
        found: list[ParsedMessage] = parser.parse_batch(items, processes=2, **more)
        if parsed_by_others() > before:
            return found
        assert time.monotonic() < deadline, "no worker took part in a batch"
        time.sleep(0.02)


def same(one: list[ParsedMessage], other: list[ParsedMessage]) -> bool:
    """Equal also in what `==` does not tell apart: 1, 1.0 and True; the calls' text, spans and issues."""
    return one == other and [repr(message) for message in one] == [repr(message) for message in other]


@pytest.mark.parametrize("tools", [None, [search]], ids=["no tools", "tools"])
def test_odd_texts(tools: Any) -> None:
    parser = toolparse.parser_for("hermes")
    items = ODD * 8
    assert same(through_workers(parser, items, tools=tools), parser.parse_batch(items, tools=tools))


def test_tools_of_the_parser_and_tools_that_cannot_be_imported_elsewhere() -> None:
    def local(query: str) -> str:
        """Look something up.

        Args:
            query: What.
        """
        return query

    items = [HERMES.replace("search", "local") % ("x", number) for number in range(80)]
    parser = toolparse.parser_for("hermes", tools=[local])
    found = through_workers(parser, items)
    assert same(found, parser.parse_batch(items))
    assert found[0].tool_calls[0].issues[0].code == "unexpected-argument"


def test_prompts() -> None:
    parser = toolparse.parser_for("qwen")
    items = ["a thought</think>the answer"] * 60
    prompts = ["<|im_start|>assistant\n<think>\n", "<|im_start|>assistant\n", None] * 20
    found = through_workers(parser, items, prompts=prompts)
    assert same(found, parser.parse_batch(items, prompts=prompts))
    assert found[0].reasoning == "a thought"


def test_ids() -> None:
    tokenizer = tokenizers.tokenizer("qwen")
    parser = toolparse.parser_for(tokenizer, tools=[search])
    texts = [text for text in ODD if not any("\ud800" <= char <= "\udfff" for char in text)]
    items: list[Any] = [tokenizer.encode(text, add_special_tokens=False) for text in texts] * 6 + texts
    prompt = tokenizer.encode("<|im_start|>assistant\n<think>\n", add_special_tokens=False)
    prompts = [prompt if number % 3 else None for number in range(len(items))]
    found = through_workers(parser, items, prompts=prompts)
    assert same(found, parser.parse_batch(items, prompts=prompts))
    assert found[0].spans[0].token_end is not None


class Row:
    """Ids as an array has them."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def tolist(self) -> list[int]:
        return self.ids

    def __len__(self) -> int:
        return len(self.ids)

    def __reduce__(self) -> Any:
        raise TypeError("arrays stay here")


def test_arrays_of_ids() -> None:
    """They are sent as lists, so that no worker needs the library that they are from."""
    tokenizer = tokenizers.tokenizer("qwen")
    parser = toolparse.parser_for(tokenizer)
    items = [Row(tokenizer.encode(HERMES % ("x", number), add_special_tokens=False)) for number in range(60)]
    prompts = [Row(tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False))] * 60
    found = through_workers(parser, items, prompts=prompts)
    assert same(found, parser.parse_batch(items, prompts=prompts))


def test_an_interrupt_leaves_nothing_half_said(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = toolparse.parser_for("hermes")
    items = ODD * 20
    through_workers(parser, items)
    calls = iter(range(10**6))
    parse = Parser.parse

    def interrupted(self: Parser, *given: Any, **more: Any) -> ParsedMessage:
        if next(calls) == 30:
            raise KeyboardInterrupt
        return parse(self, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Parser, "parse", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parser.parse_batch(items, processes=2)
    assert not any(worker.stretch for worker in batch._workers)
    assert same(through_workers(parser, items), parser.parse_batch(items))


def test_what_is_packed_is_unpacked() -> None:
    """Every collected text of every family, without a process."""
    cases = [*fixture_cases()]
    assert len(cases) > 100
    for case in cases:
        format = toolparse.get(case.family)
        assert isinstance(format, Format)
        for text in (case.text, case.text + " and more" * 300):
            message = Parser(format, tools=case.tools).parse(text)
            assert same(batch.unpack(batch.pack([message], [text]), [text]), [message])


def test_long_texts_are_not_sent_back() -> None:
    parser = toolparse.parser_for("hermes")
    text = "content " * 10_000 + HERMES % ("x", "3") + "more content " * 10_000
    message = parser.parse(text)
    packed = batch.pack([message], [text])
    assert len(packed) < 1000
    assert same(batch.unpack(packed, [text]), [message])


def test_workers_are_kept_and_serve_every_parser() -> None:
    through_workers(toolparse.parser_for("hermes"), ODD * 4)
    (worker,) = batch._workers
    parser = toolparse.parser_for("qwen3-coder")
    text = parser.render([("search", {"query": "x"})])
    found = through_workers(parser, [text] * 50)
    assert same(found, [parser.parse(text)] * 50)
    assert batch._workers == [worker]


def test_a_worker_that_is_killed_takes_nothing_with_it() -> None:
    parser = toolparse.parser_for("hermes")
    through_workers(parser, ODD * 4)
    (worker,) = batch._workers
    worker.process.kill()
    worker.process.wait()
    items = ODD * 20
    assert same(parser.parse_batch(items, processes=2), parser.parse_batch(items))
    assert worker not in batch._workers
    assert same(through_workers(parser, items), parser.parse_batch(items))  # another one was started


def test_a_worker_that_dies_over_its_stretch_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = toolparse.parser_for("hermes")
    items = ODD * 20
    through_workers(parser, items)
    (worker,) = batch._workers
    ask = batch.Worker.ask

    def ask_and_kill(self: batch.Worker, *request: Any) -> None:
        os.kill(worker.process.pid, signal.SIGSTOP)
        ask(self, *request)
        worker.process.kill()

    monkeypatch.setattr(batch.Worker, "ask", ask_and_kill)
    assert same(parser.parse_batch(items, processes=2), parser.parse_batch(items))
    assert worker not in batch._workers


class Unpicklable:
    """A tokenizer that stays where it is."""

    def __init__(self) -> None:
        self.inner = tokenizers.tokenizer("qwen")

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def test_what_cannot_be_pickled_is_parsed_here() -> None:
    format = toolparse.get("hermes")
    assert isinstance(format, Format)
    tokenizer = Unpicklable()
    parser = Parser(format, tokenizer=tokenizer)
    items = [tokenizer.encode(HERMES % ("x", "3"), add_special_tokens=False)] * 30
    assert same(parser.parse_batch(items, processes=2), parser.parse_batch(items))
    assert batch._workers == []


class Shy(Unpicklable):
    """A tokenizer that can be pickled and not be made again."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_what_a_worker_cannot_be_given_is_parsed_here() -> None:
    format = toolparse.get("hermes")
    assert isinstance(format, Format)
    through_workers(toolparse.parser_for("hermes"), ODD * 4)
    before = parsed_by_others()
    tokenizer = Shy()
    parser = Parser(format, tokenizer=tokenizer)
    items = [tokenizer.encode(HERMES % ("x", "3"), add_special_tokens=False)] * 30
    expected = parser.parse_batch(items)
    for _ in range(5):
        assert same(parser.parse_batch(items, processes=2), expected)
    assert parsed_by_others() == before


def test_a_mistake_is_raised_as_it_is_with_one_process() -> None:
    parser = toolparse.parser_for("hermes")
    through_workers(parser, ODD * 4)
    items: list[Any] = [*ODD * 4, [1, 2, 3], *ODD]
    with pytest.raises(TypeError, match="this parser has no tokenizer"):
        parser.parse_batch(items, processes=2)
    assert same(through_workers(parser, ODD * 4), parser.parse_batch(ODD * 4))


def test_small_batches_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "FEW_CHARACTERS", 64_000)
    parser = toolparse.parser_for("hermes")
    parser.parse_batch(["x" * 1000] * 63, processes=4)
    assert batch._workers == []


def test_a_batch_stops_asking_where_it_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = toolparse.parser_for("hermes")
    through_workers(parser, ODD * 4)
    before = parsed_by_others()
    monkeypatch.setattr(batch, "BARGAIN", 0.0)
    parser.parse_batch(ODD * 20, processes=2)
    assert parsed_by_others() <= before + 1


IN_A_PROGRAM = """
import os, sys, threading, time
import toolparse
from toolparse import batch

batch.FEW_CHARACTERS, batch.WORTH_ASKING, batch.WORTH_STARTING, batch.STEP = 0, 0, 0, 0
batch.BARGAIN = float("inf")
parser = toolparse.parser_for("hermes")
texts = ['<tool_call>\\n{"name": "f", "arguments": {"n": %d}}\\n</tool_call>' % n for n in range(50)]
expected = parser.parse_batch(texts)

def work():
    # Without a guard for the main module: the workers do not run it.
    for _ in range(500):
        assert parser.parse_batch(texts, processes=2) == expected
        if sum(worker.stretches for worker in batch._workers):
            return
        time.sleep(0.02)
    raise SystemExit("no worker took part")

work()
pids = [worker.process.pid for worker in batch._workers]
child = os.fork()
if child == 0:
    try:
        assert batch._workers == []
        work()
        assert [worker.process.pid for worker in batch._workers] != pids
        batch.shut_down()
    except BaseException as error:
        print("in the fork:", error, flush=True)
        os._exit(1)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
work()
assert [worker.process.pid for worker in batch._workers] == pids
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*pids)
"""


def test_forks_threads_and_the_end_of_the_program() -> None:
    """A fork starts workers of its own and leaves the others alone; none outlives its program."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_A_PROGRAM],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for pid in done.stdout.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_a_program_that_is_killed_leaves_no_worker() -> None:
    ended = IN_A_PROGRAM.partition("child = os.fork()")[0] + "print(*pids, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", ended], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    (pid,) = done.stdout.split()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and alive(int(pid)):
        time.sleep(0.02)
    assert not alive(int(pid))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # one that ended and that nobody has waited for yet is over, too
        with open(f"/proc/{pid}/stat", encoding="utf-8") as status:
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True
