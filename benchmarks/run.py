# ruff: noqa: E402, PERF401 - the repository is put on the path first; tables are built line by line
"""The benchmarks: ours, the floor and other parsers on the same texts, in one run, interleaved.

    python benchmarks/run.py [--quick] [--write-docs] [--only PART,...] [--before FOLDER]

Every contender's result is compared with the truth before its times count. What is reported are ratios: of the medians
of times taken in turns (one round of every contender, then the next round), never times of different runs. Where the
reader is compiled, the same sources as plain Python are a contender; so is another tree of this library (`--before`).
Writes `results/benchmarks.md` and `.json`; `--write-docs` copies the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

from benchmarks import peers as peer_parsers
from benchmarks.builds import Build, plain_python
from benchmarks.cases import (
    ONE,
    WRITERS,
    Case,
    Truth,
    calls_case,
    code,
    long_argument,
    many_small,
    one_call,
    one_shot_cases,
    text_case,
    thought_only,
    tools_of,
)
from benchmarks.floors import MARKERS, StreamFloor, floor_for, plain_floor
from benchmarks.growth import exponent, limit, one_shot, streamed
from benchmarks.hostile import CHOSEN, hostile_inputs
from benchmarks.response_templates import RESPONSE_TEMPLATES
from toolparse import (
    COMPILED,
    ArgumentsDelta,
    ContentDelta,
    Format,
    ParsedMessage,
    Parser,
    ReasoningDelta,
    RenderError,
    detect,
    get,
    registry,
)

RESULTS = Path(__file__).resolve().parent / "results"
DOCS = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- benchmarks: begin (written by benchmarks/run.py --write-docs) -->", "<!-- benchmarks: end -->"

# The targets: (format, case) -> at most so many times the floor, compiled.
TARGETS = {
    ("hermes", "one call"): 2.64,
    ("hermes", "8 calls"): 2.86,
    ("hermes", "64 KB argument"): 0.99,
    ("qwen3-coder", "one call"): 1.65,
    ("qwen3-coder", "8 calls"): 1.43,
    ("hermes", "small calls"): 2.75,
    ("hermes", "JSON argument"): 1.32,
    ("hermes", "text"): 0.77,
    ("qwen3-coder", "small calls"): 2.97,
    ("qwen3-coder", "XML argument"): 1.32,
}
# Where none is set for the format: case -> (JSON, XML).
CASE_TARGETS = {
    "one call": (3.0, 1.5),
    "one call, validated": (4.0, 2.5),
    "8 calls": (2.0, 1.2),
    "64 KB argument": (1.5, 1.0),
    "1 MB argument": (1.2, 1.0),
    "20 KB text": (1.8, 1.8),
    "20 KB thought + call": (1.8, 1.8),
    "text": (1.6, 1.6),
    "thought": (1.6, 1.6),
    "JSON argument": (1.6, 1.6),
    "XML argument": (2.2, 2.2),
    "small calls": (2.2, 2.2),
}
# At least so many times faster than the fastest peer that gives decoded arguments.
PEER_TARGETS = {
    "one call": (3.0, 4.0),
    "8 calls": (5.0, 5.0),
    "64 KB argument": (3.0, 100.0),
    "1 MB argument": (1.4, 100.0),
    "20 KB text": (1.0, 1.0),
    "20 KB thought + call": (2.0, 2.0),
}
# Hostile inputs: at most this exponent.
GROWTH_TARGET = 1.25
# Python calls and literal maps: at most so many times ast.literal_eval on the same arguments.
LITERAL_TARGET = 5.0
PLAIN, BEFORE = "toolparse, plain Python", "toolparse, before"


@dataclass
class Contender:
    """Something that is timed on one case."""

    name: str
    run: Callable[[], Any]
    elsewhere: Callable[[int], float] | None = None  # runs so many rounds in another process
    times: list[float] = field(default_factory=list)
    loops: int = 1
    slow: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def take(self, loops: int, clock: Callable[[], float]) -> float:
        """Seconds for so many rounds."""
        if self.elsewhere is not None:
            return self.elsewhere(loops)
        run = self.run
        rounds = range(loops)
        start = clock()
        for _ in rounds:
            run()
        return clock() - start


@dataclass
class Row:
    """One measured case: the medians in seconds, and notes on who was left out."""

    part: str
    format: str
    case: str
    seconds: dict[str, float]
    extra: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    decoding: list[str] = field(default_factory=list)

    def ratio(self, name: str, to: str) -> float | None:
        if name not in self.seconds or to not in self.seconds:
            return None
        return self.seconds[name] / self.seconds[to]


class WrongError(AssertionError):
    """A contender did not read the truth."""


def measure(
    contenders: Sequence[Contender],
    budget: float,
    *,
    most: int = 41,
    least: int = 3,
    clock: Callable[[], float] = time.thread_time,
) -> None:
    """Time all contenders in turns; about `budget` seconds altogether.

    The clock is this thread's processor time, so that other work on the machine does not count. Whoever takes more
    than a tenth of the budget for one run is timed in the first rounds only.
    """
    for contender in contenders:
        once = contender.take(1, clock)
        # Long enough that caches are warm again: who runs in a process of its own finds them so.
        contender.loops = max(1, min(10_000, int(0.01 / max(once, 1e-7))))
        contender.slow = once > budget / 10
    deadline = time.perf_counter() + budget
    gc.collect()
    gc.disable()
    try:
        for number in range(most):
            for contender in contenders:
                if contender.slow and number >= min(2, least):
                    continue
                contender.times.append(contender.take(contender.loops, clock) / contender.loops)
            if number + 1 >= least and time.perf_counter() > deadline:
                break
    finally:
        gc.enable()


def check(truth: Truth, calls: Any, content: str | None, reasoning: str | None) -> None:
    """Raise WrongError unless that is what the text says. None: the contender does not tell."""
    found = [(name, arguments) for name, arguments in calls]
    if found != list(truth.calls):
        raise WrongError(f"{len(found)} calls, and not those that were written ({len(truth.calls)})")
    if content is not None and content.strip() != truth.content.strip():
        raise WrongError("other content than was written")
    if reasoning is not None and reasoning.strip() != truth.reasoning.strip():
        raise WrongError("other reasoning than was written")


def check_ours(truth: Truth, message: ParsedMessage) -> None:
    """Ours must also be without any remark."""
    check(truth, [(call.name, call.arguments) for call in message.tool_calls], message.content, message.reasoning or "")
    if message.issues:
        raise WrongError(f"remarks: {message.issues[0].message}")


class Bench:
    """One run."""

    def __init__(self, *, quick: bool, builds: Sequence[Build] = ()) -> None:
        """`builds`: other builds of toolparse to be timed on the same texts."""
        self.quick = quick
        self.builds = builds
        self.rows: list[Row] = []
        self.notes: list[str] = []
        # Imported before anything is timed or interrupted.
        from transformers.utils.chat_parsing import ResponseParser  # noqa: F401

        import fixtures.tokenizers

        fixtures.tokenizers.tokenizer("qwen")
        self.peers, missing = peer_parsers.available()
        self.notes += missing
        self.slice = 0.2 if quick else 1.2  # seconds for one case
        gc.collect()
        gc.freeze()  # what was imported need not be looked through before each measurement

    def say(self, row: Row) -> None:
        self.rows.append(row)
        ours = row.seconds.get("toolparse", math.nan)
        ratios = "  ".join(f"{name} {value / ours:.2f}" for name, value in row.seconds.items() if name != "toolparse")
        print(
            f"{row.part:10} {row.format:14} {row.case:24} {ours * 1e6:10.1f} us   {ratios}  {row.extra or ''}",
            flush=True,
        )
        for name, why in row.left_out.items():
            print(f"           {name} left out: {why}", flush=True)

    @contextmanager
    def trying(self, name: str, left_out: dict[str, str]) -> Iterator[None]:
        """What another parser does may fail or take long, which is reported."""
        try:
            with limit(0.5 if self.quick else 5):
                yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            left_out[name] = f"{type(error).__name__}: {str(error)[:100]}"

    def others(self, case: Case, *, tools: Any = None, pieces: int = 0) -> list[Contender]:
        """The other builds on a case."""
        found = [(build, build.reads(case.format, case.text, tools=tools, pieces=pieces)) for build in self.builds]
        return [Contender(build.name, dict, timed) for build, timed in found if timed is not None]

    def compare(
        self,
        part: str,
        case: Case,
        ours: Callable[[], ParsedMessage],
        *,
        tools: Any = None,
        label: str = "",
        with_peers: bool = True,
    ) -> Row:
        """Ours, the floor and whoever else reads the case right."""
        text, truth = case.text, case.truth
        check_ours(truth, ours())
        floor = floor_for(case.format, truth)
        read = floor(text)
        check(truth, read.calls, read.content, read.reasoning)
        contenders = [Contender("toolparse", ours), Contender("floor", partial(floor, text))]
        contenders += self.others(case, tools=tools)
        left_out: dict[str, str] = {}
        decoding: list[str] = []
        if with_peers:
            if case.format in RESPONSE_TEMPLATES:
                with self.trying("transformers", left_out):
                    contenders.append(transformers_contender(case.format, truth, text))
                    decoding.append("transformers")
            for adapter in peer_parsers.adapters(self.peers, case.format, tools or tools_of(case.format)):
                if case.plain and adapter.name.startswith(("mlx-lm", "renderers")):
                    continue  # they are not asked where no call was announced
                if len(text) >= 200_000 and adapter.name.startswith("renderers"):
                    continue
                with self.trying(adapter.name, left_out):
                    given = adapter.prepare(text)
                    check(truth, *adapter.read(adapter.run(given)))
                    contenders.append(Contender(adapter.name, partial(adapter.run, given)))
                    if adapter.decoded:
                        decoding.append(adapter.name)
        measure(contenders, self.slice)
        seconds = {contender.name: contender.median for contender in contenders}
        row = Row(part, case.format, label or case.name, seconds, {"chars": len(text)}, left_out, decoding)
        self.say(row)
        return row

    # -- parts ----------------------------------------------------------------------------------------------------

    def one_shot(self) -> None:
        """The cases of one text at once."""
        for format in WRITERS:
            parser = parser_of(format)
            for case in one_shot_cases(format, quick=self.quick):
                self.compare("one-shot", case, partial(parser.parse, case.text))

    def validated(self) -> None:
        """One call, judged by its tool's schema."""
        for format in WRITERS:
            tools, case = tools_of(format), one_call(format)
            ours = partial(parser_of(format, tools).parse, case.text)
            self.compare("validated", case, ours, tools=tools, label="one call, validated", with_peers=False)

    def streams(self) -> None:
        """Streams in pieces of four characters: the cost of a piece, and how it grows."""
        cost = 6_000 if self.quick else 20_000
        makers: list[tuple[str, str, Callable[[str, int], Case]]] = [
            ("hermes", "text", text_case),
            ("hermes", "thought", thought_only),
            ("hermes", "JSON argument", long_argument),
            ("hermes", "small calls", many_small),
            ("qwen3-coder", "XML argument", long_argument),
            ("qwen3-coder", "small calls", many_small),
        ]
        if not self.quick:
            makers += [
                ("harmony", "JSON argument", long_argument),
                ("llama3-json", "JSON argument", long_argument),
                ("pythonic", "Python argument", long_argument),
                ("gemma4", "literal argument", long_argument),
            ]
        for format, name, make in makers:
            self.stream_cost(format, name, make(format, cost))
            sizes = (2_000, 16_000, 64_000) if self.quick else (2_000, 32_000, 250_000, 1_000_000)
            self.stream_growth(format, name, partial(make, format), sizes)

    def stream_cost(self, format: str, name: str, case: Case) -> None:
        """The cost of a piece against the floor and transformers."""
        parser = parser_of(format)
        pieces = cut(case.text)
        check_stream(parser, case)
        contenders = [Contender("toolparse", partial(feed_all, parser.stream, pieces))]
        if format in MARKERS:
            floor = floor_for(format, case.truth)
            contenders.append(
                Contender("floor", partial(feed_all, partial(StreamFloor, MARKERS[format], floor), pieces))
            )
        contenders += self.others(case, pieces=len(pieces[0]))
        left_out: dict[str, str] = {}
        if format in RESPONSE_TEMPLATES:
            with self.trying("transformers", left_out):
                contenders.append(transformers_contender(format, case.truth, case.text, pieces))
        streamed_by = peer_parsers.sglang_stream(self.peers, format, tools_of(format))
        if streamed_by is not None and case.truth.calls:
            run, read = streamed_by
            with self.trying("SGLang", left_out):
                check(case.truth, *read(run(pieces)))
                contenders.append(Contender("SGLang", partial(run, pieces)))
        measure(contenders, self.slice)
        row = Row(
            "stream",
            format,
            name,
            {contender.name: contender.median / len(pieces) for contender in contenders},
            {"chars": len(case.text)},
            left_out,
            [contender.name for contender in contenders if contender.name == "transformers"],
        )
        self.say(row)

    def stream_growth(self, format: str, name: str, make: Callable[[int], Case], sizes: Sequence[int]) -> None:
        """How ours and transformers grow with the length."""
        parser = parser_of(format)
        growth: dict[str, list[tuple[int, float]]] = {"toolparse": [], "transformers": []}
        cutoff = 0.4 if self.quick else 2.0
        for size in sizes:
            case = make(size)
            pieces = cut(case.text)
            check_stream(parser, case)
            runs: list[Contender] = [Contender("toolparse", partial(feed_all, parser.stream, pieces))]
            last = growth["transformers"]
            # The next size of a quadratic stream would take size² as long: it is not tried.
            expected = last[-1][1] * (len(case.text) / last[-1][0]) ** 2 if last else 0.0
            if expected < cutoff and (last or size == sizes[0]):
                with suppress(Exception), limit(10):
                    runs.append(transformers_contender(format, case.truth, case.text, pieces))
            measure(runs, 1e9, most=2, least=2)
            for contender in runs:
                growth[contender.name].append((len(case.text), min(contender.times)))
        slopes = {who: slope(points) for who, points in growth.items() if len(points) > 1}
        row = Row(
            "growth",
            format,
            name,
            {who: points[-1][1] for who, points in growth.items() if points and points[-1][0] > sizes[-1] // 2},
            {
                "exponent": {who: round(value, 3) for who, value in slopes.items()},
                "points": growth,
                "largest": max(points[-1][0] for points in growth.values() if points),
            },
        )
        peer = growth["transformers"]
        if peer:
            size, took = peer[-1]
            mine = dict(growth["toolparse"])[size]
            row.extra["peer_at"] = {"chars": size, "times": took / mine}
        self.say(row)

    def families(self) -> None:
        """One call of every registered format, against the nearest of the formats above."""
        arguments = {key: value for key, value in ONE[1].items() if isinstance(value, str | int)}
        reference = {"params": "qwen3-coder", "kwargs": "pythonic"}
        for format in registry.formats():
            body = next((name for name in ("params", "kwargs") if "{{" + name + "}}" in format.call), "")
            nearest = reference.get(body, "gemma4" if not format.syntax.is_json else "hermes")
            values: dict[str, Any] = (
                {key: str(value) for key, value in arguments.items()} if body == "params" else arguments
            )
            pair = []
            for name in (format.name, nearest):
                parser = parser_of(name)
                text = parser.render([(ONE[0], values)])
                check_ours(Truth(((ONE[0], values),)), parser.parse(text))
                pair.append((parser, text))
            (parser, text), (near, near_text) = pair
            floor = plain_floor([values], format.ends[:1] or (">",))
            contenders = [
                Contender("toolparse", partial(parser.parse, text)),
                Contender("nearest", partial(near.parse, near_text)),
                Contender("floor", partial(floor, text)),
            ]
            contenders += self.others(Case(format.name, "one call", text, Truth(())))
            measure(contenders, self.slice / 3)
            self.say(
                Row("families", format.name, "one call", {c.name: c.median for c in contenders}, {"nearest": nearest})
            )

    def literals(self) -> None:
        """Python calls and literal maps against `ast.literal_eval` of the same arguments as Python writes them."""
        calls = {
            "one call": (ONE,),
            "8 calls": tuple((ONE[0], {**ONE[1], "limit": number}) for number in range(8)),
            "64 KB argument": (("write_file", {"path": "src/main/app.py", "text": code(65_536)}),),
        }
        for format in ("pythonic", "gemma4", "functiongemma", "sarashina"):
            parser = parser_of(format)
            for case, written in calls.items():
                try:
                    text = parser.render(written)
                except RenderError:
                    continue  # one call a turn
                check_ours(Truth(written), parser.parse(text))
                values = [repr(arguments) for _, arguments in written]
                contenders = [
                    Contender("toolparse", partial(parser.parse, text)),
                    Contender("literal_eval", lambda values=values: [ast.literal_eval(value) for value in values]),  # type: ignore[misc]
                ]
                measure(contenders, self.slice / 2)
                self.say(Row("literals", format, case, {c.name: c.median for c in contenders}))

    def hostile(self) -> None:
        """How the time grows with hostile input: the worst exponents of some formats, one-shot and streamed."""
        formats = ("hermes", "pythonic") if self.quick else ("hermes", "qwen3-coder", "harmony", "pythonic", "gemma4")
        small, large = (2_000, 8_000) if self.quick else (3_000, 12_000)
        for name in formats:
            parser = parser_of(name)
            inputs = hostile_inputs(parser.format)
            worst: dict[str, tuple[float, str]] = {}
            for way, run in (("one-shot", one_shot), ("streamed", streamed(4))):
                found = []
                for what in CHOSEN:
                    grown, _ = exponent(run, parser, inputs[what], small, large, 2)
                    # What looks too steep is measured again at sizes where nothing bounded shows any more, and
                    # once more, because a machine that is busy in the wrong moment looks steep, too.
                    for _ in range(2):
                        if grown > GROWTH_TARGET:
                            grown, _ = exponent(run, parser, inputs[what], large * 3, large * 12, 3)
                    found.append((round(grown, 3), what))
                worst[way] = max(found)
            self.say(Row("hostile", name, f"{len(CHOSEN)} inputs", {}, {"worst": worst, "defined": len(inputs)}))

    def detection(self) -> None:
        """A template never seen before, and one seen a moment ago."""
        import fixtures

        for format in ("hermes", "qwen3-coder", "harmony"):
            template = fixtures.template(format)
            fresh = iter(range(1_000_000))

            def new(template: str = template, fresh: Any = fresh) -> Any:
                return detect(template + f"{{# {next(fresh)} #}}")

            environment = fixtures.environment()

            def compiled(template: str = template, fresh: Any = fresh, environment: Any = environment) -> Any:
                return environment.from_string(template + f"{{# {next(fresh)} #}}")

            if detect(template).format is None:
                raise WrongError(f"no format was found for {format}")
            contenders = [
                Contender("toolparse", new),
                Contender("seen", partial(detect, template)),
                Contender("Jinja compiles it", compiled),
            ]
            measure(contenders, self.slice, clock=time.perf_counter)  # a stranger's is rendered in a child
            self.say(Row("detection", format, "a new template", {c.name: c.median for c in contenders}))

    def batches(self) -> None:
        """`parse_batch`, item by item."""
        few, many = (200, 1_000) if self.quick else (1_000, 10_000)
        for format, count, size in (("hermes", many, 0), ("qwen3-coder", many, 0), ("pythonic", few, 4_000)):
            parser = parser_of(format)
            base = [one_call(format), calls_case(format, 3), text_case(format, 1_000)]
            if size:
                base = [long_argument(format, size)]
            cases = [base[number % len(base)] for number in range(count)]
            texts = [case.text for case in cases]
            for case, message in zip(cases, parser.parse_batch(texts), strict=True):
                check_ours(case.truth, message)
            floors = [floor_for(format, case.truth) for case in cases]
            contenders = [
                Contender("toolparse", partial(parser.parse_batch, texts)),
                Contender(
                    "floor", lambda floors=floors, texts=texts: [f(t) for f, t in zip(floors, texts, strict=True)]
                ),
            ]
            measure(contenders, 0.0, most=5, least=5, clock=time.perf_counter)
            label = f"{count} completions" + (f" of {size:,} characters" if size else "")
            row = Row("batch", format, label, {c.name: c.median for c in contenders})
            row.extra["per_second"] = round(count / row.seconds["toolparse"])
            self.say(row)

    def masks(self) -> None:
        """The masks of 256 rollouts of 8 turns, against lists of the same length put together by hand."""
        try:
            import torch
        except ImportError as error:
            self.notes.append(f"masks: {error}")
            return
        from trl_integration.transcript import Author, Segment, Transcript, TranscriptBatch

        rollouts, turns = (32, 8) if self.quick else (256, 8)
        prompt, sampled, scaffold = list(range(200)), list(range(120)), list(range(60))
        logprobs = [-0.5] * len(sampled)

        def ours() -> Any:
            made = []
            for _ in range(rollouts):
                transcript = Transcript(prompt)
                transcript.add_turn(sampled, logprobs)
                for _ in range(turns - 1):
                    transcript.add_turn(sampled, logprobs, before=[Segment.of(Author.TOOL, scaffold)])
                made.append(transcript)
            batch = TranscriptBatch.of(made, pad_token_id=0)
            return batch.completion_ids, batch.completion_mask, batch.tool_mask

        def floor() -> Any:
            ids, masks, completion = [], [], []
            for _ in range(rollouts):
                row: list[int] = list(sampled)
                mask = [1] * len(sampled)
                for _ in range(turns - 1):
                    row += scaffold
                    mask += [0] * len(scaffold)
                    row += sampled
                    mask += [1] * len(sampled)
                ids.append(row)
                masks.append(mask)
                completion.append([1] * len(row))
            return torch.tensor(ids), torch.tensor(completion), torch.tensor(masks)

        for mine, theirs in zip(ours(), floor(), strict=True):
            if not torch.equal(mine.long(), theirs):
                raise WrongError("other masks than were built by hand")
        contenders = [Contender("toolparse", ours), Contender("floor", floor)]
        measure(contenders, self.slice * 2, most=9, least=3)
        self.say(Row("masks", "-", f"{rollouts} rollouts, {turns} turns", {c.name: c.median for c in contenders}))

    def memory(self) -> None:
        """What a parse retains, as a multiple of the text."""
        size = 200_000 if self.quick else 1_000_000
        for format in WRITERS:
            case = long_argument(format, size)
            parser = parser_of(format)
            parser.parse(one_call(format).text)
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            message = parser.parse(case.text)
            gc.collect()
            after, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            del message
            retained, most = (after - before) / sys.getsizeof(case.text), (peak - before) / sys.getsizeof(case.text)
            extra = {"retained": round(retained, 2), "peak": round(most, 2)}
            self.say(Row("memory", format, f"{size} argument", {}, extra))

    def imports(self) -> None:
        """What `import toolparse` adds to the start of Python, once its bytecode is there."""
        folder = tempfile.TemporaryDirectory()
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder.name}

        def start(code: str) -> Callable[[], Any]:
            return lambda: subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)

        contenders = [
            Contender("toolparse", start("import toolparse")),
            Contender("floor", start("pass")),
            Contender("msgspec alone", start("import msgspec")),
        ]
        measure(contenders, 0.0, most=5 if self.quick else 9, least=5, clock=time.perf_counter)
        folder.cleanup()
        fastest = {contender.name: min(contender.times) for contender in contenders}
        row = Row("import", "-", "import toolparse", fastest)
        row.extra["adds_ms"] = round((fastest["toolparse"] - fastest["floor"]) * 1e3)
        self.say(row)


PARTS = (
    "one_shot",
    "validated",
    "streams",
    "families",
    "literals",
    "hostile",
    "detection",
    "batches",
    "masks",
    "memory",
    "imports",
)


def parser_of(name: str, tools: Any = None) -> Parser:
    """The parser of a registered format."""
    found = get(name)
    assert isinstance(found, Format)
    return Parser(found, prefill="", tools=tools)


def cut(text: str, size: int = 4) -> list[str]:
    """The text in pieces."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def feed_all(begin: Callable[[], Any], pieces: list[str]) -> Any:
    """A whole stream."""
    stream = begin()
    feed = stream.feed
    for piece in pieces:
        feed(piece)
    return stream.close()


def check_stream(parser: Parser, case: Case) -> None:
    """The final message is the truth, and so are the deltas put together."""
    stream = parser.stream()
    events = [event for piece in cut(case.text) for event in stream.feed(piece)]
    message = stream.close()
    events += stream.finish()
    check_ours(case.truth, message)
    content = "".join(event.text for event in events if isinstance(event, ContentDelta))
    reasoning = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    arguments: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ArgumentsDelta):
            arguments.setdefault(event.index, []).append(event.json)
    calls = [(call.name, json.loads("".join(arguments[call.index]))) for call in message.tool_calls]
    check(case.truth, calls, content, reasoning)


def transformers_contender(format: str, truth: Truth, text: str, pieces: list[str] | None = None) -> Contender:
    """transformers with its template loaded beforehand: `parse_response`, or its `ResponseParser`, fed in pieces."""
    from transformers.utils.chat_parsing import ResponseParser, parse_response
    from transformers.utils.chat_parsing.response_templates import load_response_template

    template = load_response_template(RESPONSE_TEMPLATES[format])

    def whole() -> Any:
        return parse_response(text, template, prefix="")

    def streamed() -> Any:
        stream = ResponseParser(template, prefix="")
        for piece in pieces or ():
            stream.feed(piece)
        return stream.finalize()[0]

    run = whole if pieces is None else streamed
    message = run()
    calls = [(item["function"]["name"], item["function"]["arguments"]) for item in message.get("tool_calls", [])]
    thought = message.get("reasoning_content") or message.get("thinking") or ""
    check(truth, calls, message.get("content") or "", thought)
    return Contender("transformers", run)


def slope(points: Sequence[tuple[int, float]]) -> float:
    """The exponent of growth: least squares in logarithms."""
    xs = [math.log(size) for size, _ in points]
    ys = [math.log(took) for _, took in points]
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)


#: Columns that need more than a name.
COLUMNS = {"mlx-lm": "mlx-lm (calls found for it, not counted)", "SGLang": "SGLang (not decoded, not counted)"}


# -- reports ----------------------------------------------------------------------------------------------------------


def mark(value: float | None, target: float | None, *, at_least: bool = False) -> str:
    """A ratio, with its target where it is missed."""
    if value is None:
        return "–"
    text = f"{value:.1f}" if value < 10 else f"{value:,.0f}"
    if target is None:
        return text
    good = value >= target * 0.995 if at_least else value <= target * 1.005
    return text if good else f"**{text}** (target {'≥' if at_least else '≤'} {target:g})"


def to_floor(row: Row, target: float | None = None) -> str:
    """Our time over the floor's."""
    return mark(row.ratio("toolparse", "floor"), target)


def target_of(row: Row) -> float | None:
    """At most so many times the floor."""
    own = TARGETS.get((row.format, row.case))
    by_case = CASE_TARGETS.get(row.case)
    if own is not None or by_case is None:
        return own
    if row.part in ("one-shot", "validated") and row.format in ("pythonic", "gemma4") and "text" not in row.case:
        return LITERAL_TARGET
    return by_case[WRITERS[row.format].xml]


def floors_of(builds: Sequence[str], more: str = "") -> list[str]:
    """The columns of `to_floors`."""
    return [f"× floor{more}", *(f"× floor, {build.partition(', ')[2]}" for build in builds)]


def to_floors(row: Row, builds: Sequence[str]) -> list[str]:
    """Our time and that of other builds over the floor's."""
    others = [mark(row.ratio(build, "floor"), None) for build in builds]
    return [to_floor(row, target_of(row)), *others]


def table(about: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table and of what stands above it, if it has rows."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    return [about, "", *lines, ""] if rows else []


def markdown(bench: Bench) -> str:
    """The tables."""
    by_part: dict[str, list[Row]] = {}
    for row in bench.rows:
        by_part.setdefault(row.part, []).append(row)
    builds = [build.name for build in bench.builds]
    lines = _one_shot([*by_part.get("one-shot", []), *by_part.get("validated", [])], builds)
    lines += _streams(by_part.get("stream", []), by_part.get("growth", []), builds)
    lines += table(
        "**All families**, one call: our time over the floor's, and over ours for the nearest format above "
        "(target ≤ 2).",
        ("format", "× floor", "× nearest"),
        [
            (row.format, to_floor(row), f"{mark(row.ratio('toolparse', 'nearest'), 2.0)} ({row.extra['nearest']})")
            for row in by_part.get("families", [])
        ],
    )
    for build in builds:
        times = [ratio for row in by_part.get("families", []) if (ratio := row.ratio("toolparse", build)) is not None]
        if times:
            mean = statistics.geometric_mean(times)
            lines += [f"Ours over {build.partition(', ')[2]}, geometric mean of these: {mean:.2f}.", ""]
    literals = by_part.get("literals", [])
    cases = list(dict.fromkeys(row.case for row in literals))
    ratios = {(row.format, row.case): row.ratio("toolparse", "literal_eval") for row in literals}
    lines += table(
        "**Python calls and literal maps**: our time over that of `ast.literal_eval` on the same arguments, "
        f"written as Python (target ≤ {LITERAL_TARGET:g}).",
        ("format", *cases),
        [
            (format, *(mark(ratios.get((format, case)), LITERAL_TARGET) for case in cases))
            for format in dict.fromkeys(row.format for row in literals)
        ],
    )
    hostile = by_part.get("hostile", [])

    def worst(grown: float, what: str) -> str:
        return (
            f"{grown:.2f} ({what})"
            if grown <= GROWTH_TARGET
            else f"**{grown:.2f}** (target ≤ {GROWTH_TARGET:g}) ({what})"
        )

    lines += table(
        f"**Hostile input**: the worst exponent of growth over {hostile[0].case if hostile else ''} "
        f"(target ≤ {GROWTH_TARGET:g}), and the input that has it.",
        ("format", "one-shot", "streamed in pieces of 4"),
        [(row.format, *(worst(*row.extra["worst"][way]) for way in ("one-shot", "streamed"))) for row in hostile],
    )
    lines += table("**The rest.**", ("what", "ratio"), _rest(by_part))
    about = [f"Python {platform.python_version()}", f"{os.cpu_count()} cores"]
    about += ["toolparse compiled" if COMPILED else "toolparse as plain Python"]
    versions = peer_parsers.versions() if bench.peers else {}
    about += [f"{name.replace('_', '-')} {found}" for name, found in versions.items()]
    about += [f"{name} {version(name)}" for name in ("transformers", "msgspec", "orjson")]
    lines.append(f"Measured with {', '.join(about)}{' (--quick)' if bench.quick else ''}.")
    lines += [f"- {note}" for note in bench.notes]
    return "\n".join(lines) + "\n"


def _one_shot(shot: Sequence[Row], builds: Sequence[str]) -> list[str]:
    others = ["transformers", "SGLang", "mlx-lm", "renderers (ids)"]
    others = [name for name in others if any(name in row.seconds for row in shot)]
    rows = []
    wrong: dict[tuple[str, str, str], list[str]] = {}
    for row in shot:
        xml = int(WRITERS[row.format].xml)
        peer_target = PEER_TARGETS.get(row.case)
        best = min((row.seconds[name] for name in row.decoding), default=None)
        faster = best / row.seconds["toolparse"] if best is not None else None
        rows.append(
            (
                row.format,
                row.case,
                *to_floors(row, builds),
                mark(faster, peer_target[xml] if peer_target else None, at_least=True),
                *(mark(row.ratio(name, "toolparse"), None) for name in others),
            )
        )
        for name, why in row.left_out.items():
            reason = why if "takes" in why else why.split(":")[0]
            wrong.setdefault((name, row.format, reason), []).append(row.case)
    lines = table(
        "**One-shot.** × floor: our time over the floor's. The other columns: their time over ours. "
        "Bold: a target missed.\n"
        "The fastest that decodes is the faster of transformers and renderers. Not counted there: SGLang, whose "
        "arguments are JSON text that is still to be decoded, and mlx-lm, whose parser is given only the text "
        "between the markers and does not find the calls: the benchmark does that for it, as its server does; "
        "content and thoughts stay unread.",
        (
            *("format", "case", *floors_of(builds), "× faster than the fastest that decodes"),
            *(COLUMNS.get(name, name) for name in others),
        ),
        rows,
    )
    if wrong:
        lines += ["Left out because they did not read the truth, or took seconds:", ""]
        lines += [f"- {name}, {format}, {', '.join(cases)}: {why}" for (name, format, why), cases in wrong.items()]
        lines.append("")
    return lines


def _streams(stream: Sequence[Row], growth: Sequence[Row], builds: Sequence[str]) -> list[str]:
    by_case = {(row.format, row.case): row.extra for row in growth}
    rows = []
    for row in stream:
        grown = by_case.get((row.format, row.case), {})
        slopes, at = grown.get("exponent", {}), grown.get("peer_at")
        least = 2.0 if row.case in ("XML argument", "small calls") else 4.0
        rows.append(
            (
                row.format,
                row.case,
                *to_floors(row, builds),
                mark(row.ratio("transformers", "toolparse"), least, at_least=True),
                mark(row.ratio("SGLang", "toolparse"), None),
                *(f"{slopes[who]:.2f}" if who in slopes else "–" for who in ("toolparse", "transformers")),
                f"{mark(at['times'], None)} at {at['chars']:,}" if at else "–",
            )
        )
    largest = max((row.extra["largest"] for row in growth), default=0)
    return table(
        f"**Streamed in pieces of 4 characters.** Growth measured up to {largest:,} characters.",
        (
            *(
                "format",
                "stream",
                *floors_of(builds, ", a piece"),
                "transformers ÷ ours",
                "SGLang ÷ ours",
                "our exponent",
            ),
            "transformers'",
            "transformers ÷ ours at … characters",
        ),
        rows,
    )


def _rest(by_part: dict[str, list[Row]]) -> list[tuple[str, str]]:
    rest = []
    for row in by_part.get("detection", []):
        compiled, seen = row.ratio("toolparse", "Jinja compiles it"), row.ratio("seen", "toolparse")
        ratio = f"a new template: {mark(compiled, None)} × Jinja's compilation; seen before: {seen:.4f} × new"
        rest.append((f"detection, {row.format}", ratio))
    for row in by_part.get("batch", []):
        rest.append((f"parse_batch, {row.format}, {row.case}", f"{to_floor(row)} × floor"))
    for row in by_part.get("masks", []):
        rest.append((f"masks, {row.case}", f"{to_floor(row)} × lists put together by hand"))
    memory = by_part.get("memory", [])
    if memory:
        kept = ", ".join(f"{row.format} {row.extra['retained']} (peak {row.extra['peak']})" for row in memory)
        rest.append((f"memory, {memory[0].case}: retained, × the text (target ≤ 2)", kept))
    for row in by_part.get("import", []):
        alone = mark(row.ratio("msgspec alone", "floor"), None)
        rest.append(("import toolparse", f"{to_floor(row)} × starting Python (msgspec alone: {alone})"))
    return rest


def write_docs(table: str) -> None:
    """Put the tables between the marks in docs/performance.md."""
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer rounds and smaller texts: under a minute")
    options.add_argument("--write-docs", action="store_true", help="copy the tables into docs/performance.md")
    options.add_argument("--only", default="", help=f"parts, separated by commas: {', '.join(PARTS)}")
    options.add_argument("--before", type=Path, help="another tree of this library, timed on the same texts")
    given = options.parse_args()
    wanted = given.only.split(",") if given.only else PARTS
    began = time.perf_counter()
    builds = [Build(PLAIN, plain_python())] if COMPILED else []
    builds += [Build(BEFORE, given.before)] if given.before else []
    bench = Bench(quick=given.quick, builds=builds)
    for part in wanted:
        start = time.perf_counter()
        getattr(bench, part)()
        print(f"-- {part}: {time.perf_counter() - start:.0f} s", flush=True)
    RESULTS.mkdir(exist_ok=True)
    table = markdown(bench)
    (RESULTS / "benchmarks.md").write_text(table, encoding="utf-8")
    rows = [row.__dict__ for row in bench.rows]
    (RESULTS / "benchmarks.json").write_text(
        json.dumps({"quick": given.quick, "rows": rows, "notes": bench.notes}, indent=1), encoding="utf-8"
    )
    if given.write_docs:
        write_docs(table)
    print(table)
    print(f"{time.perf_counter() - began:.0f} s; results in benchmarks/results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
