"""Grammars and structural tags through the real engines, with real tokenizers.

    python scripts/export_check.py [--families hermes glm47 ...] [--sets text ranges ...] [--engines xgrammar ...]
                                   [--walks 4] [--sample] [--out FILE] [--part 1/2]

For every family, every tool set of `fixtures/tool_sets.py` and every engine that is installed: does the grammar
compile, does it accept what `render` writes, does it refuse calls that don't fit, and do random walks through the
engine's mask read back as valid calls? Walks that find no end in time are counted and shown, and are no failure.
The compile times of structural tags and of EBNF stand at the end.
`--sample`: one of 64 pairs, always the same. `--out`: a line for each pair that is done; those that it holds are not
done again, so a run may be broken off and gone on with. `--part`: every second pair, from the first one.
Exit codes: 0 all is well, 1 something is not, 2 no engine is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fetch_tokenizers import cache_dir, is_complete

from fixtures.tool_sets import TOOL_SETS, Call, Tools
from toolparse import Format, registry
from toolparse.compile import compile_format
from toolparse.errors import ExportError, RenderError
from toolparse.export import grammar, structural_tag, triggers
from toolparse.parser import Parser
from toolparse.picture import around
from toolparse.render import render

#: The tokenizers whose added tokens are a family's markers; the others take the first one.
TOKENIZERS = {
    "qwen3": "hermes qwen qwen3-coder",
    "deepseek_v3": "deepseek-v3 deepseek-r1 deepseek-v31 deepseek-v32 deepseek-v4 deepseek-v41",
    "mistral_nemo": "mistral mistral-v3 mistral-v11 mistral-v13",
    "gptoss": "harmony",
    "llama3_2": "llama3-json pythonic functionary-v31 functionary-v2 xlam firefunction-v2",
    "gemma3": "gemma3-tool-code",
}
#: What is asked, and the package that answers: xgrammar takes structural tags and EBNF.
ENGINES = {"xgrammar": "xgrammar", "ebnf": "xgrammar", "llguidance": "llguidance", "llama_cpp": "llama_cpp"}
#: Tokens that end a text, of which every tokenizer has one.
ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<｜end▁of▁sentence｜>")
STEPS, EFFORT = 400, 30


class Tokenizer:
    """A real tokenizer, and what engines make of it."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Backend

        self.name = folder.name
        self.source = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self.backend = Backend.from_str(self.source)
        self.vocabulary = self.backend.get_vocab_size()
        named = {name: self.backend.token_to_id(name) for name in ENDS}
        self.end = next(id for id in named.values() if id is not None)
        self._engines: dict[str, Any] = {}

    def encode(self, text: str) -> list[int]:
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self.backend.decode(ids, skip_special_tokens=False))

    def engine(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._engines:
            self._engines[name] = make()
        return self._engines[name]


class Llguidance:
    """llguidance on Lark, its matchers asked token by token."""

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        from llguidance import LLMatcher, LLTokenizer

        self.tokenizer = tokenizer.engine("llguidance", lambda: LLTokenizer(tokenizer.source))
        self.matcher = LLMatcher(self.tokenizer, LLMatcher.grammar_from_lark(text))
        if self.matcher.is_error():
            raise ValueError(self.matcher.get_error())

    def fresh(self) -> Llguidance:
        other = object.__new__(Llguidance)
        other.tokenizer, other.matcher = self.tokenizer, self.matcher.deep_copy()
        return other

    def take(self, id: int) -> bool:
        return bool(self.matcher.try_consume_tokens([id]) == 1)

    def ends(self) -> bool:
        return bool(self.matcher.is_accepting())

    def mask(self) -> Any:
        import numpy

        bits = numpy.frombuffer(self.matcher.compute_bitmask(), dtype=numpy.uint8)
        return numpy.unpackbits(bits, bitorder="little")


class Xgrammar:
    """xgrammar on a structural tag, or on EBNF."""

    def __init__(self, tokenizer: Tokenizer, source: dict[str, Any] | str) -> None:
        import xgrammar

        def compiler() -> Any:
            from transformers import PreTrainedTokenizerFast

            info = xgrammar.TokenizerInfo.from_huggingface(
                PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend), stop_token_ids=[tokenizer.end]
            )
            return xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)

        self.compiler = tokenizer.engine("xgrammar", compiler)
        began = time.process_time()
        if isinstance(source, str):
            self.compiled = self.compiler.compile_grammar(source)
        else:
            self.compiled = self.compiler.compile_structural_tag(json.dumps(source))
        self.seconds = time.process_time() - began
        self.end = tokenizer.end
        self.matcher = xgrammar.GrammarMatcher(self.compiled)

    def fresh(self) -> Xgrammar:
        import xgrammar

        other = object.__new__(Xgrammar)
        other.compiled, other.end = self.compiled, self.end
        other.matcher = xgrammar.GrammarMatcher(self.compiled)
        return other

    def take(self, id: int) -> bool:
        return bool(self.matcher.accept_token(id))

    def ends(self) -> bool:
        return bool(self.mask()[self.end])

    def mask(self) -> Any:
        import numpy
        import xgrammar

        mask = xgrammar.allocate_token_bitmask(1, self.compiled.tokenizer_info.vocab_size)
        self.matcher.fill_next_token_bitmask(mask)
        return numpy.unpackbits(mask.numpy().view(numpy.uint8), bitorder="little")


def llama_compiles(text: str) -> bool:
    """Whether llama.cpp reads a grammar."""
    import llama_cpp

    sampler = llama_cpp.llama_sampler_init_grammar(None, text.encode(), b"root")
    if not sampler:
        return False
    llama_cpp.llama_sampler_free(sampler)
    return True


def accepts(engine: Any, ids: list[int]) -> bool:
    matcher = engine.fresh()
    return all(matcher.take(id) for id in ids) and matcher.ends()


# -- random walks -----------------------------------------------------------------------------------------------------


class Stuck(Exception):
    """No token is allowed, and the text may not end: the grammar leads nowhere."""


def walk(engine: Any, tokenizer: Tokenizer, format: Format, rng: random.Random) -> tuple[list[int], bool]:
    """Random tokens as the mask allows them, after some effort those that close what is open; and whether they end."""
    matcher, text = engine.fresh(), ""
    ids: list[int] = []
    closers = Counter(dict.fromkeys(_closers(format), 0))  # how often each was begun
    closers[format.bind("").block.after] = -8  # rather than one more call
    closers["\n"] = 4  # blanks last
    del closers[""]
    for step in range(STEPS):
        if matcher.ends() and (step > EFFORT or rng.random() < 0.2):
            return ids, True
        mask = matcher.mask()[: tokenizer.vocabulary].copy()
        mask[tokenizer.end] = 0
        allowed = mask.nonzero()[0]
        if not len(allowed):
            if matcher.ends():
                return ids, True
            raise Stuck(text)
        chosen = _closing(text, closers, tokenizer, mask) if step > EFFORT else None
        for _ in range(8):
            id = chosen if chosen is not None else int(rng.choice(allowed))
            chosen = None
            if matcher.take(id):
                break
        else:
            if matcher.ends():
                return ids, True
            raise Stuck(text)
        ids.append(id)
        text = tokenizer.decode(ids[-64:])
    return ids, False


def _closers(format: Format) -> list[str]:
    program = compile_format(format.bind(""))
    punctuation = ['"', "'", "}", "]", ")", '"}', ":", ",", "1"]
    markers = [core for shape in program.shapes[:1] for core in (*shape.tail, *shape.closer)]
    pictures = [source for source in (format.param, format.item) if source] if "{{params}}" in format.call else []
    tags = [around(picture, "value").after.partition("{{")[0] for picture in pictures]
    # In tags text ends at its closing tag; in JSON a marker is text, and a quote ends it.
    order = [*tags, *markers, *format.syntax.quotes, *punctuation] if tags else [*format.syntax.quotes, *punctuation]
    return [text for text in (*order, *markers, "\n", "]") if text]


def _closing(text: str, closers: Counter[str], tokenizer: Tokenizer, mask: Any) -> int | None:
    """A token that goes on with what closes something, the furthest one first; else one that was seldom tried."""
    ways = []
    for closer, used in closers.items():
        begun = next((size for size in range(len(closer) - 1, 0, -1) if text.endswith(closer[:size])), 0)
        ways.append((-begun, used, closer))
    for begun, _, closer in sorted(ways, key=lambda way: way[:2]):
        for piece in (closer[-begun:], closer[-begun]):
            ids = tokenizer.encode(piece)
            if ids and mask[ids[0]]:
                closers[closer] += not begun
                return ids[0]
    return None


# -- the check --------------------------------------------------------------------------------------------------------


def written(format: Format, calls: list[Call], tools: Any) -> Iterator[str]:
    """What `render` writes with some calls, with content and a thought, and without."""
    ways: list[dict[str, Any]] = [{}, {"content": "Just a moment."}]
    if format.reasoning is not None:
        ways.append({"reasoning": "Let me see."})
    groups = [[call] for call in calls] + ([calls] if len(calls) > 1 and format.parallel else [])
    parser = Parser(format)
    for group in groups:
        for way in ways:
            try:
                text = render(format, group, prefill=format.prefill, **way)
            except RenderError:
                continue  # the format can't carry it
            if all(call.ok for call in parser.parse(text, tools=tools).tool_calls):
                yield text


class Check:
    """The whole check, with what it counts."""

    def __init__(self, engines: list[str], walks: int) -> None:
        self.engines = engines
        self.walks = walks
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {}
        self.failures: list[str] = []
        self.refused: list[str] = []
        self.endless: list[str] = []

    def add(self, found: dict[str, Any]) -> None:
        """What another check found, as `found` gives it."""
        self.counts.update(found["counts"])
        for body, seconds in found["seconds"].items():
            self.seconds.setdefault(body, []).extend(seconds)
        for name in ("failures", "refused", "endless"):
            getattr(self, name).extend(found[name])

    def found(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("counts", "seconds", "failures", "refused", "endless")}

    def fail(self, what: str, detail: str) -> None:
        self.counts[what] += 1
        self.failures.append(f"{what}: {detail}")

    def one(self, format: Format, chosen: Tools, tokenizer: Tokenizer) -> None:
        where = f"{format.name}, {chosen.name}"
        texts = list(written(format, chosen.right, chosen.tools))
        wrong = [(call[0], text) for call in chosen.wrong for text in self.mistaken(format, call, chosen.tools)]
        names = {one["function"]["name"] for one in chosen.tools}
        # Calls that nothing but a tool's name announces: to a structural tag those of other names are text.
        try:
            unannounced = any(name in word for word in triggers(format, chosen.tools) for name in names)
        except ExportError:  # each engine's own grammar says so below
            unannounced = False
        for engine in self.engines:
            try:
                made = self.made(engine, format, chosen.tools, tokenizer, forced=False)
            except ExportError as error:
                self.counts[f"{engine}: refused at export"] += 1
                self.refused.append(f"{where}: {error}")
                continue
            except Exception as error:  # noqa: BLE001 - whatever an engine raises, it is a finding
                self.fail(f"{engine}: does not compile", f"{where}: {error}")
                continue
            self.counts[f"{engine}: compiled"] += 1
            if made is None:
                continue
            for text in texts:
                good = accepts(made, tokenizer.encode(text))
                self.counts[f"{engine}: accepted"] += good
                if not good:
                    self.fail(f"{engine}: refuses what is written", f"{where}: {text!r}")
            for name, text in wrong:
                if engine == "xgrammar" and unannounced and name not in names:
                    continue
                self.counts[f"{engine}: mistakes tried"] += 1
                if accepts(made, tokenizer.encode(text)):
                    self.fail(f"{engine}: accepts a mistake", f"{where}: {text!r}")
            self.walked(engine, format, chosen, tokenizer, where)

    def made(self, engine: str, format: Format, tools: Any, tokenizer: Tokenizer, *, forced: bool) -> Any:
        if engine == "llama_cpp":
            if not llama_compiles(grammar(format, tools, syntax="gbnf", required=forced)):
                raise ValueError("llama.cpp reads no grammar in it")
            return None
        if engine == "xgrammar":
            source: Any = structural_tag(
                format,
                tools,
                choice="required" if forced else "auto",
                reasoning=not forced,
                tokenizer=tokenizer.backend,
            )
        else:
            source = grammar(
                format,
                tools,
                syntax="ebnf" if engine == "ebnf" else "lark",
                tokenizer=tokenizer.backend,
                required=forced,
                content=not forced,
                reasoning=not forced,
            )
        if engine == "llguidance":
            return Llguidance(tokenizer, source)
        made = Xgrammar(tokenizer, source)
        body = "tagged" if "{{params}}" in format.call else "JSON" if format.syntax.is_json else "other"
        self.seconds.setdefault(f"{'EBNF' if engine == 'ebnf' else 'structural tags'}, {body}", []).append(made.seconds)
        return made

    def mistaken(self, format: Format, call: Call, tools: Any) -> Iterator[str]:
        try:
            text = render(format, [call], prefill=format.prefill, verify=False)
        except RenderError:
            return
        if not any(found.ok for found in Parser(format).parse(text, tools=tools).tool_calls):
            yield text

    def walked(self, engine: str, format: Format, chosen: Tools, tokenizer: Tokenizer, where: str) -> None:
        if not self.walks:
            return
        made = self.made(engine, format, chosen.tools, tokenizer, forced=True)
        # What stands in the prompt is over where no thought is wanted.
        held = format.prefill.strip()
        thinking = bool(held) and (format.reasoning or "").startswith(held)
        prefill = "" if thinking and engine == "xgrammar" else format.prefill
        parser = Parser(format, tools=chosen.tools, tokenizer=tokenizer.backend, prefill=prefill)
        for number in range(self.walks):
            rng = random.Random(zlib.crc32(f"{where}{number}".encode()))
            try:
                ids, ended = walk(made, tokenizer, format, rng)
            except Stuck as error:
                self.fail(f"{engine}: leads nowhere", f"{where}: {str(error)!r}")
                continue
            if not ended:
                self.counts[f"{engine}: walks given up after {STEPS} tokens"] += 1
                self.endless.append(f"{engine}, {where}: {tokenizer.decode(ids[-64:])!r}")
                continue
            message = parser.parse(tokenizer.decode(ids))
            if message.tool_calls and all(call.ok for call in message.tool_calls):
                self.counts[f"{engine}: walks read as valid calls"] += 1
                spelled = parser.parse(ids)  # xgrammar lets ordinary tokens spell a marker, which is text as tokens
                self.counts[f"{engine}: of these, not by their tokens"] += not spelled.tool_calls
            else:
                issues = [issue.message for call in message.tool_calls for issue in call.issues][:2]
                self.fail(f"{engine}: walks read otherwise", f"{where}: {tokenizer.decode(ids)!r} {issues}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="*", default=[])
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--walks", type=int, default=4)
    parser.add_argument("--sample", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", default="1/1")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    engines = [engine for engine in options.engines if importlib.util.find_spec(ENGINES[engine])]
    folders = {name: cache_dir() / name for name in TOKENIZERS if is_complete(cache_dir() / name)}
    if not engines or not folders:
        print(
            "no engine is installed (pip install '.[grammar]')" if folders else "no real tokenizers (make tokenizers)"
        )
        return 2
    by_family = {family: name for name, families in TOKENIZERS.items() for family in families.split()}
    tokenizers: dict[str, Tokenizer] = {}
    total = Check(engines, options.walks)
    done = set()
    if options.out is not None and options.out.exists():
        for line in options.out.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            done.add(record["pair"])
            total.add(record)
    part, parts = map(int, options.part.split("/"))
    began = time.monotonic()
    number = 0
    for format in registry.formats():
        if options.families and format.name not in options.families:
            continue
        name = by_family.get(format.name, next(iter(folders)))
        name = name if name in folders else next(iter(folders))
        for chosen in TOOL_SETS:
            if options.sets and chosen.name not in options.sets:
                continue
            if options.sample and zlib.crc32(f"{format.name}/{chosen.name}".encode()) % 64:
                continue
            number += 1
            pair = f"{format.name}, {chosen.name}"
            if pair in done or number % parts != part % parts:
                continue
            if name not in tokenizers:
                tokenizers[name] = Tokenizer(folders[name])
            check = Check(engines, options.walks)
            check.one(format, chosen, tokenizers[name])
            total.add(check.found())
            if options.out is not None:
                with options.out.open("a", encoding="utf-8") as out:
                    out.write(json.dumps({"pair": pair, **check.found()}) + "\n")
    for what, count in sorted(total.counts.items()):
        print(f"{count:8}  {what}")
    for body, seconds in sorted(total.seconds.items()):
        seconds.sort()
        print(
            f"{body}: {len(seconds)} compiled, CPU seconds: median {seconds[len(seconds) // 2]:.2f}, "
            f"nine of ten within {seconds[len(seconds) * 9 // 10]:.2f}, most {seconds[-1]:.2f}"
        )
    for reason in sorted(set(total.refused)):
        print(f"refused: {reason[:200]}")
    for text in total.endless if options.verbose else total.endless[:5]:
        print(f"no end: {text[:300]}")
    for failure in total.failures if options.verbose else total.failures[:20]:
        print(failure[:400])
    print(f"{len(total.failures)} failures in {time.monotonic() - began:.0f} s, engines: {', '.join(engines)}")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
