"""Many completions over several processes: the workers of `Parser.parse_batch`, and what travels to them and back.

A worker is a Python of its own that imports toolparse and nothing of the caller's: it is started with a plain `exec`,
never by a fork, so that threads, torch and CUDA in the caller do no harm, and the caller's main module is not run again
as multiprocessing's `spawn` would. Workers are started once, while the caller goes on parsing, and kept until the
caller ends. They end when their connection does, so none outlives its caller; a fork of the caller forgets them and
starts its own.

Work is handed out as it is asked for. The caller parses from the front in small steps; between two steps it takes what
workers have finished and gives them the next stretch, measured in characters, not in items. Each worker has one
stretch at a time, so that nobody waits with a full pipe. At the end nobody is waited for: the caller parses what is
not back yet, too, and takes what is there first.

Results travel as one MessagePack of the structs that `message.py` declares, without the text; of long texts the
content, the thought and the calls' text are cut again where they stand. What MessagePack cannot hold (integers beyond
64 bits, lone surrogates) travels pickled.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from toolparse.message import Issue, ParsedMessage, Span, ToolCall
from toolparse.parser import Parser, TextOrIds, _as_ids

if TYPE_CHECKING:
    from toolparse.tools import ToolSet

#: Batches with fewer characters are parsed here: asking anyone would take longer.
FEW_CHARACTERS = 64_000
#: Seconds of work that must be left for workers to be asked, and for new ones to be started.
WORTH_ASKING, WORTH_STARTING = 0.01, 0.05
#: Seconds that the caller parses between two looks at the workers, and that a worker's stretch takes at most.
STEP, STRETCH = 0.002, 0.05
#: The first stretch shows whether there should be others.
TRIAL = 0.004
#: Taking a worker's result must cost less than this part of parsing it here.
BARGAIN = 0.8
#: The prompt's tail that can matter: characters, ids.
TAIL_TEXT, TAIL_IDS = 4096, 1024
#: Texts at least as long as this are cut again by the caller, not sent back.
LONG = 2048
#: Parsers that a worker keeps.
KEPT = 16

_BOOT = "import sys; sys.path[:] = {path!r}; from toolparse.batch import serve; serve(int(sys.argv[1]))"
_FAILED, _READY, _PACKED, _PICKLED = b"!", b"+", b"m", b"p"


# -- what travels -----------------------------------------------------------------------------------------------------

# content (None: as the spans say), reasoning (True: as the spans say), calls, issues, truncated, spans, text (None: the
# one that was sent)
_Row = tuple[str | None, str | bool | None, tuple[ToolCall, ...], tuple[Issue, ...], bool, tuple[Span, ...], str | None]
_encode = msgspec.msgpack.Encoder().encode
_decoder: msgspec.msgpack.Decoder[list[_Row]] | None = None


def pack(messages: Sequence[ParsedMessage], items: Sequence[TextOrIds]) -> bytes:
    """Messages as bytes, without the texts that the receiver has."""
    rows = [_row(message, item) for message, item in zip(messages, items, strict=True)]
    try:
        return _PACKED + _encode(rows)
    except (OverflowError, ValueError):  # huge integers, lone surrogates
        return _PICKLED + pickle.dumps(rows, 5)


def unpack(data: bytes, items: Sequence[TextOrIds]) -> list[ParsedMessage]:
    """The messages that were packed."""
    global _decoder
    if data[:1] == _PICKLED:
        rows: list[_Row] = pickle.loads(memoryview(data)[1:])
    else:
        if _decoder is None:
            _decoder = msgspec.msgpack.Decoder(list[_Row])
        rows = _decoder.decode(memoryview(data)[1:])
    return [_message(row, item) for row, item in zip(rows, items, strict=True)]


def _row(message: ParsedMessage, item: TextOrIds) -> _Row:
    text = message.text
    content: str | None = message.content
    reasoning: str | bool | None = message.reasoning
    calls = message.tool_calls
    if len(text) >= LONG:
        if content and content == _said(text, message.spans, "content"):
            content = None
        if reasoning and reasoning == _said(text, message.spans, "reasoning"):
            reasoning = True
        calls = tuple([_without_raw(call, text) for call in calls])
    return content, reasoning, calls, message.issues, message.truncated, message.spans, None if text is item else text


def _message(row: _Row, item: TextOrIds) -> ParsedMessage:
    content, reasoning, calls, issues, truncated, spans, text = row
    if text is None:
        assert isinstance(item, str)
        text = item
    if len(text) >= LONG:
        if content is None:
            content = _said(text, spans, "content")
        if reasoning is True:
            reasoning = _said(text, spans, "reasoning")
        calls = tuple([_with_raw(call, text) for call in calls])
    return ParsedMessage(content, reasoning, calls, issues, truncated, spans, text)  # type: ignore[arg-type]


def _said(text: str, spans: Sequence[Span], kind: str) -> str:
    return "".join([text[span.start : span.end] for span in spans if span.kind == kind])


def _without_raw(call: ToolCall, text: str) -> ToolCall:
    """The call without its text, where that follows from its span."""
    span = call.span
    if span is None or not call.raw or call.raw != text[span.start : span.end]:
        return call
    return msgspec.structs.replace(call, raw="")


def _with_raw(call: ToolCall, text: str) -> ToolCall:
    if call.raw or call.span is None or call.span.end <= call.span.start:
        return call
    return msgspec.structs.replace(call, raw=text[call.span.start : call.span.end])


def _tail(prompt: TextOrIds | None) -> TextOrIds | None:
    if prompt is None or isinstance(prompt, str):
        return prompt and prompt[-TAIL_TEXT:]
    return _as_ids(prompt)[-TAIL_IDS:]


# -- the worker's side ------------------------------------------------------------------------------------------------


def serve(connection: int) -> None:
    """What a worker does until its caller ends. `connection`: the number of an open file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides what an interrupt ends
    link = Connection(connection)
    parsers: dict[bytes, Parser] = {}
    answer = _READY
    with suppress(EOFError, OSError):  # the caller has ended
        while True:
            link.send_bytes(answer)
            request = link.recv_bytes()
            try:
                answer = _answer(request, parsers)
            except Exception:  # noqa: BLE001 - the caller does the work itself, and meets the error
                answer = _FAILED


def _answer(request: bytes, parsers: dict[bytes, Parser]) -> bytes:
    key, first, second = pickle.loads(request)
    if key in parsers:
        items, prompts = first, second
        return pack(parsers[key].parse_batch(items, prompts=prompts), items)
    format, prefill, repair, tools = pickle.loads(first)
    if tools is not None:
        from toolparse.tools import ToolSet

        tools = ToolSet.restored(tools)
    if len(parsers) >= KEPT:
        parsers.clear()
    tokenizer = pickle.loads(second) if second else None
    parsers[key] = Parser(format, tools=tools, tokenizer=tokenizer, prefill=prefill, repair=repair)
    return _READY


# -- the caller's side ------------------------------------------------------------------------------------------------


class Unable(Exception):
    """There can be no workers, or they can't be given this parser."""


class Worker:
    """A process that parses. Busy from each request to its answer; while it starts it is busy, too."""

    def __init__(self) -> None:
        if os.name != "posix" or not sys.executable or getattr(sys, "frozen", False):
            raise Unable
        ours, theirs = Pipe()
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT.format(path=list(map(str, sys.path))), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                )
        except OSError:
            ours.close()
            raise Unable from None
        self.link = ours
        self.busy = True
        self.knows: set[bytes] = set()
        self.learning: bytes | None = None
        self.stretch: tuple[int, int] | None = None  # the items that it parses
        self.stretches = 0  # that it has parsed, ever

    def ask(self, *request: Any) -> None:
        """Send a request; what it answers is taken when it is there."""
        self.link.send_bytes(pickle.dumps(request, 5))
        self.busy = True

    def take(self) -> bytes:
        """Its answer; waits for it. Raises EOFError or OSError when the process has ended."""
        answer = self.link.recv_bytes()
        self.busy = False
        if self.learning is not None:
            if len(self.knows) >= KEPT:
                self.knows.clear()
            if answer == _READY:
                self.knows.add(self.learning)
            else:
                _hopeless.add(self.learning)
            self.learning = None
        return answer

    def end(self) -> None:
        """End the process."""
        self.link.close()
        try:
            self.process.wait(1 if not self.stretch else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_workers: list[Worker] = []
_lock = Lock()
_failures = 0  # processes that ended by themselves: whoever can't keep any stops trying
_hopeless: set[bytes] = set()  # parsers that workers could not be given
_packed_tokenizer: tuple[weakref.ref[Any], bytes, bytes] | None = None


def _forget() -> None:
    """In a fork of the caller: the workers are the caller's."""
    global _workers, _lock
    for worker in _workers:
        worker.process.returncode = 0  # no child of this process: nothing to wait for
        worker.link.close()
    _workers, _lock = [], Lock()


def shut_down() -> None:
    """End all workers. It is done when Python ends; batches afterwards start new ones."""
    for worker in _workers:
        worker.end()
    _workers.clear()


atexit.register(shut_down)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def parse_in_processes(
    parser: Parser,
    items: Sequence[TextOrIds],
    prompts: Sequence[TextOrIds | None],
    tools: ToolSet | None,
    processes: int,
) -> list[ParsedMessage]:
    """What `parser.parse` gives for each item, in order, with up to `processes - 1` workers."""
    batch = _Batch(parser, items, prompts, tools)
    if batch.characters < FEW_CHARACTERS or not _lock.acquire(blocking=False):
        return batch.alone()
    try:
        return batch.together(processes - 1)
    finally:
        _lock.release()


class _Batch:
    """One batch: what is parsed, what is left, and how fast it goes."""

    def __init__(
        self,
        parser: Parser,
        items: Sequence[TextOrIds],
        prompts: Sequence[TextOrIds | None],
        tools: ToolSet | None,
    ) -> None:
        self.parser = parser
        self.items = items
        self.prompts = prompts
        self.tools = tools
        self.sizes = [_size(item) for item in items]
        self.characters = sum(self.sizes)
        self.out: list[ParsedMessage | None] = [None] * len(items)
        self.at = 0
        self.left = self.characters
        self.prompted = any(prompt is not None for prompt in prompts)
        # What was parsed here, and what was given to workers: characters, and seconds that it took here.
        self.parsed, self.parsing = 0, 0.0
        self.given, self.giving = 0, 0.0
        self.spec: tuple[bytes, bytes, bytes] | None = None

    def alone(self) -> list[ParsedMessage]:
        self._parse(0, len(self.items))
        return self.out  # type: ignore[return-value]

    def together(self, count: int) -> list[ParsedMessage]:
        asked: list[Worker] = []
        helped = True
        try:
            while self.at < len(self.items):
                start = perf_counter()
                self._parse(*self._next(STEP))
                self.parsing += perf_counter() - start
                if helped and self.left:
                    helped = self._hand_out(asked, count)
            for worker in asked:
                if worker.stretch is not None:
                    self._race(worker)
        except BaseException:  # an error or an interrupt here: nobody would take what these answer
            for worker in asked:
                if worker.busy:
                    _drop(worker)
            raise
        return self.out  # type: ignore[return-value]

    def _race(self, worker: Worker) -> None:
        """At the end: rather than wait for a worker, whose core may be another's, parse its stretch until it answers.

        An answer that comes too late is thrown away when the worker is asked the next time.
        """
        assert worker.stretch is not None
        (self.at, end), self.left = worker.stretch, 0
        while self.at < end:
            if wait([worker.link], 0):
                self._take(worker)
                return
            start, stop = self._next(STEP)
            self._parse(start, min(stop, end))
        worker.stretch = None

    def _parse(self, start: int, end: int) -> None:
        parse, tools, out = self.parser.parse, self.tools, self.out
        for number in range(start, end):
            out[number] = parse(self.items[number], tools=tools, prompt=self.prompts[number])
        self.parsed += sum(self.sizes[start:end])

    def _next(self, seconds: float) -> tuple[int, int]:
        """The next items, as many as take that long here."""
        enough = seconds * self.parsed / self.parsing if self.parsing else 0
        start = end = self.at
        size = 0
        while end < len(self.items) and (end == start or size + self.sizes[end] <= enough):
            size += self.sizes[end]
            end += 1
        self.at = end
        self.left -= size
        return start, end

    def _hand_out(self, asked: list[Worker], count: int) -> bool:
        """Take what workers have finished and give them more; whether that goes on being worth it."""
        if self.parsing < STEP:
            return True  # nothing is known yet
        if not self._pays():
            return False
        left = self.left * self.parsing / self.parsed
        if left < WORTH_ASKING:
            return True
        if not asked:
            try:
                self.spec = self._specification()
                while len(_workers) < count and left > WORTH_STARTING and _failures < 4:
                    _workers.append(Worker())
            except Unable:
                if not _workers or self.spec is None:
                    return False
            asked.extend(_workers[:count])
            if not asked:
                return False
        assert self.spec is not None
        if self.spec[0] in _hopeless:
            return False
        links = [worker.link for worker in asked if worker.busy]
        answered = wait(links, 0) if links else []
        for worker in list(asked):
            if worker.link in answered and not self._take(worker):
                asked.remove(worker)
            elif not worker.busy and self._pays():
                self._ask(worker, asked, min(STRETCH if self.given else TRIAL, left / (2 * count + 2)))
        return bool(asked)

    def _pays(self) -> bool:
        """Whether giving work away costs less here than doing it, as far as is known."""
        return not self.given or self.giving / self.given <= BARGAIN * self.parsing / self.parsed

    def _ask(self, worker: Worker, asked: list[Worker], seconds: float) -> None:
        assert self.spec is not None
        key, parser, tokenizer = self.spec
        try:
            if key not in worker.knows:
                worker.learning = key
                worker.ask(key, parser, tokenizer)
                return
            start, end = self._next(seconds)
            if start == end:
                return
            worker.stretch = (start, end)
            begin = perf_counter()
            items = [item if isinstance(item, str) else _as_ids(item) for item in self.items[start:end]]
            prompts = [_tail(prompt) for prompt in self.prompts[start:end]] if self.prompted else None
            worker.ask(key, items, prompts)
            self.giving += perf_counter() - begin
        except Exception:  # noqa: BLE001 - it has ended, or something can't be sent: the work is done here
            stretch = worker.stretch
            asked.remove(worker)
            _drop(worker, failed=True)
            if stretch is not None:
                self._parse(*stretch)

    def _take(self, worker: Worker) -> bool:
        """Take a worker's answer; whether it can go on."""
        stretch = worker.stretch
        begin = perf_counter()
        try:
            answer = worker.take()
        except (EOFError, OSError):
            _drop(worker, failed=True)
            if stretch is not None:
                self._parse(*stretch)
            return False
        worker.stretch = None
        if stretch is None:
            return True
        if answer == _FAILED:
            self._parse(*stretch)
            return True
        start, end = stretch
        self.out[start:end] = unpack(answer, self.items[start:end])
        self.giving += perf_counter() - begin
        self.given += sum(self.sizes[start:end])
        worker.stretches += 1
        return True

    def _specification(self) -> tuple[bytes, bytes, bytes]:
        """What a worker makes the same parser from: a key, the parser, the tokenizer if ids are to be read."""
        parser = self.parser
        tools = self.tools.portable() if self.tools is not None else None
        ids = any(not isinstance(item, str) for item in self.items)
        ids = ids or any(prompt is not None and not isinstance(prompt, str) for prompt in self.prompts)
        try:
            made = pickle.dumps((parser.format, parser.prefill, parser.repair, tools), 5)
            tokenizer, digest = _pack_tokenizer(parser.tokenizer) if ids else (b"", b"")
        except Exception:  # noqa: BLE001 - whatever a stranger's tokenizer raises when it is pickled
            raise Unable from None
        return hashlib.blake2b(made + digest, digest_size=16).digest(), made, tokenizer


def _size(item: TextOrIds) -> int:
    try:
        return max(1, len(item) if isinstance(item, str) else 4 * len(item))
    except TypeError:
        return 1


def _pack_tokenizer(tokenizer: Any) -> tuple[bytes, bytes]:
    """A tokenizer and its digest; the last one is remembered, because they are megabytes."""
    global _packed_tokenizer
    known = _packed_tokenizer
    if known is not None and known[0]() is tokenizer:
        return known[1], known[2]
    data = pickle.dumps(tokenizer, 5)
    digest = hashlib.blake2b(data, digest_size=16).digest()
    try:
        _packed_tokenizer = (weakref.ref(tokenizer), data, digest)
    except TypeError:
        _packed_tokenizer = None
    return data, digest


def _drop(worker: Worker, *, failed: bool = False) -> None:
    """Go on without a worker. `failed`: it ended by itself; those that never did anything are counted."""
    global _failures
    if worker in _workers:
        _workers.remove(worker)
        _failures += failed and worker.stretches == 0
    worker.end()
