"""Every registered family on every real template: what the proof accepts, judged by messages that it does not use.

Shared by tests/test_acceptance.py and `scripts/template_table.py --pairs`. The judge knows neither the proof's messages
nor its leniencies nor where it cuts a turn: it renders a message, takes what follows the prompt as the model's text and
reads it with the prompt, as a user would. What is read must be the message, or a message for which the template writes
the very same text: then the template did not keep the difference, and nobody could read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from toolparse import Format, registry
from toolparse.message import ParsedMessage
from toolparse.parser import Parser
from toolparse.templates.induction.atoms import atoms as atoms_of
from toolparse.templates.induction.atoms import common_end
from toolparse.templates.induction.induce import Induction, induce
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.induction.probe import EOS, NOTHING, Prober, Turn, after_user, find_style
from toolparse.templates.judging.examination import forms_of
from toolparse.templates.judging.likeness import same_picture
from toolparse.templates.judging.proof import prove, schemas
from toolparse.templates.rendering.environment import compile_template, facts_of
from toolparse.tools import ToolSet


def atoms(text: str) -> list[str]:
    """The atoms of a text without holes."""
    return [str(atom) for atom in atoms_of(text)]


_ODD = {
    "path": 'C:\\tmp\\"new"\\x',
    "code": 'def f(a):\n    return {"a": a}\n',
    "tab": "a\tb\r\nc",
    "sums": "1 < 2 && 3 > 2; a=b, c: d",
    "words": "Ünï ß 中文 🧭 e\u0301",
    "tags": '<b class="x">y</b> &amp; <i/>',
    "list": "[x] (y) {z} |w|",
    "blank": " ",
}
_PLAIN = {"city": "São Paulo", "unit": "celsius"}
_TYPED = {
    "limit": 250,
    "offset": -3,
    "score": 0.125,
    "exact": True,
    "fuzzy": False,
    "filters": {"since": "2024-01-31", "tags": ["red", "blue"], "depth": {"max": 4}},
    "ids": [7, 8, 9],
}
_LOOKS = {"number": "42", "float": "1e5", "flag": "False", "nil": "None", "array": "[]", "object": "{}", "date": "2024"}
_TEXT = "Let me look: 2 < 3, {braces}, [brackets].\n\n- one\n- two"
_THOUGHT = "First: what is asked?\n\n1. A lookup (maybe two).\n2. Then an answer."

#: What the judge tries: not one of these turns, names or values is among those of the proof.
TURNS: dict[str, Turn] = {
    "plain": Turn((("get_weather", _PLAIN),)),
    "odd strings": Turn((("run", _ODD),)),
    "types": Turn((("search_index", _TYPED),)),
    "look-alikes": Turn((("tag", _LOOKS),)),
    "null": Turn((("tag", {"number": "1", "nothing": None}),)),
    "three": Turn((("get_weather", _PLAIN), ("search_index", {"limit": 1}), ("get_weather", {"city": "Oslo"}))),
    "two odd": Turn((("run", {"code": _ODD["code"], "tags": _ODD["tags"]}), ("run", {"path": _ODD["path"]}))),
    "nothing passed": Turn((("ping", {}),)),
    "text": Turn((), _TEXT),
    "text and call": Turn((("get_weather", _PLAIN),), _TEXT),
    "text and two": Turn((("get_weather", _PLAIN), ("run", {"code": "x = 1"})), "Both at once."),
    "thought": Turn((), _TEXT, _THOUGHT),
    "thought and call": Turn((("get_weather", _PLAIN),), "", _THOUGHT),
    "all": Turn((("run", {"code": _ODD["code"]}), ("get_weather", _PLAIN)), "Now.", _THOUGHT),
}


@dataclass(frozen=True)
class Wrong:
    """A turn that an accepted family reads otherwise than the template wrote it."""

    template: str
    family: str
    form: str
    turn: str
    detail: str


@dataclass
class Verdicts:
    """What was found for one template.

    `tried`: how many formats; `accepted`: (family, form) of those that the proof accepted; `judged`: how many turns they
    read for the judge; `wrong`: which of them they read wrongly.
    """

    tried: int
    accepted: list[tuple[str, str]]
    judged: int
    wrong: list[Wrong]


def judge_template(name: str, text: str, families: Sequence[Format] | None = None) -> Verdicts:
    """Every family on one template."""
    found = Verdicts(0, [], 0, [])
    if not facts_of(text).mentions_calls:
        return found
    prober, score = find_style(Prober(compile_template(text), MessageStyle()))
    if score == NOTHING:
        return found
    prober = prober.settled()
    induction = induce(prober)
    if induction.format is None:
        return found
    judge = Judge(prober, induction)
    families = registry.formats() if families is None else families
    formats = [(family.name, *form) for family in families for form in _forms(family, induction)]
    for family, form, format in [*formats, ("induced", "as learnt", induction.format)]:
        found.tried += 1
        if not prove(prober, format, induction, stop=True).verified:
            continue
        found.accepted.append((family, form))
        for turn, detail in judge.judge(format):
            found.judged += 1
            if detail:
                found.wrong.append(Wrong(name, family, form, turn, detail))
    return found


def _forms(family: Format, induction: Induction) -> Iterator[tuple[str, Format]]:
    """A family as it is declared, with this template's prompt and ends, and as detection would take it."""
    assert induction.format is not None
    yield "as declared", replace(family, prefill=induction.format.prefill)
    if same_picture(induction.format, family, single=induction.single):
        for format in forms_of(family, induction.format):
            yield "as detected", format
    else:
        ends = tuple(dict.fromkeys((*family.ends, *induction.format.ends)))
        yield "with this template's ends", replace(family, prefill=induction.format.prefill, ends=ends)


class Judge:
    """Reads what one template writes for the judge's turns; every turn is rendered once."""

    def __init__(self, prober: Prober, induction: Induction) -> None:
        self.prober = prober
        self.switches = induction.frames.switches
        said = prober.full(TURNS["text"]) or ""
        self.appended = self._appended(prober.render([prober.user()]) or "", said)
        self.end = (atoms(said.removesuffix(self.appended).rstrip()) or [""])[-1]
        self.raw = self._raw()
        self.readable = True
        self.written: dict[str, tuple[str, str, str] | None] = {name: self._write(turn) for name, turn in TURNS.items()}

    def _appended(self, plain: str, said: str) -> str:
        """Instructions that the template repeats behind every conversation, as Command R+ does."""
        one, other = atoms(plain[after_user(plain) :])[1:], atoms(said)
        shared = "".join(one[len(one) - common_end(one, other) :])
        return shared if len(shared) > 100 else ""

    def _raw(self) -> str:
        """The characters that the template neither escapes nor wraps in strings; all where it does not quote them."""
        word, special = "qqword", "\"'\\\n"
        text = self.prober.full(Turn((("probe", {"a": f"{word}{special}{word}"}),))) or ""
        if f"{word}{special}{word}" not in text:
            return ""
        plain = self.prober.full(Turn((("probe", {"a": word, "b": word}),))) or ""
        before = plain[max(0, plain.find(word) - 1) : plain.find(word)]
        return "*" if before == "=" else special

    def _write(self, turn: Turn) -> tuple[str, str, str] | None:
        """(rendering, prompt, completion) of a turn: cut where prompt and rendering part, on whole markers."""
        switches = self.switches if turn.reasoning else {}
        prompt, full = self.prober.prompt(**switches), self.prober.full(turn, **switches)
        if prompt is None or full is None:
            return None
        at = self._parting(prompt, full)
        return full, full[:at], self._completion(prompt, full)

    def _parting(self, prompt: str, full: str) -> int:
        bare = prompt.replace(self.appended, "") if self.appended else prompt
        return behind_common_start(bare, full, after_user(bare), after_user(full))

    def _completion(self, prompt: str, full: str) -> str:
        """The model's part of a rendering."""
        return full.removesuffix(self.appended)[self._parting(prompt, full) :].split(EOS)[0]

    def judge(self, format: Format) -> Iterator[tuple[str, str]]:
        """(turn, what is read wrongly or '') of every turn that the template writes."""
        parser = Parser(format, bare="anywhere")  # some templates move a call before the text
        self.readable = "{{params}}" in format.call or not self.raw
        for name, turn in TURNS.items():
            written = self.written[name]
            if written is None or (turn.reasoning and format.reasoning is None):
                continue
            full, prompt, text = written
            tools = ToolSet.of(schemas(turn.calls) if turn.calls else [])
            message = parser.parse(text, tools=tools, prompt=prompt)
            detail = self._difference(turn, message, full)
            if not detail:
                stream = parser.stream(tools=tools, prompt=prompt)
                for char in text:
                    stream.feed(char)
                detail = "" if stream.close() == message else "character by character it reads otherwise"
            yield name, detail

    def _difference(self, turn: Turn, message: ParsedMessage, full: str) -> str:
        """In words, what was read otherwise than the template wrote it."""
        calls = tuple((call.name, call.arguments) for call in message.tool_calls)
        # White space around content is the template's as often as the message's.
        content = turn.content if message.content.strip() == turn.content.strip() else message.content
        read = Turn(calls, content, message.reasoning or None)
        if _plain(read) == _plain(turn):
            return ""
        switches = self.switches if turn.reasoning else {}
        same = self.prober.full(read, **switches)
        made_up = content not in ("", turn.content) or (read.reasoning or "") not in ("", turn.reasoning, turn.content)
        if made_up:  # a call's text passed as content is written alike, and is no excuse
            return self._told(turn, read, full)
        if same == full or (
            calls and same is not None and self._turn(same, **switches) == self._turn(full, **switches)
        ):
            return ""
        if not self.readable and self._garbled(turn):
            wanted, found = ([name for name, _ in one.calls] for one in (turn, read))
            if wanted == found and (read.content == turn.content or turn.content not in full):
                return ""
        return self._told(turn, read, full)

    def _told(self, turn: Turn, read: Turn, full: str) -> str:
        return f"{_plain(turn)} was read as {_plain(read)} in {full[-400:]!r}"

    def _turn(self, full: str, **switches: Any) -> str:
        """The model's part of a rendering up to the end of the turn; some templates write calls or text behind it."""
        text = self._completion(self.prober.prompt(**switches) or "", full)
        before, end, _ = text.partition(self.end) if len(self.end) > 1 else (text, "", "")
        return before + end

    def _garbled(self, turn: Turn) -> bool:
        """Whether strings of a turn are written between quotes, or as keywords, in a way that nobody can undo."""
        texts = [value for _, arguments in turn.calls for value in arguments.values() if isinstance(value, str)]
        return self.raw == "*" or any(char in text for text in texts for char in self.raw)


def behind_common_start(prompt: str, full: str, start: int, at: int) -> int:
    """Where a rendering parts from the prompt: compared on whole markers, blanks aside."""
    ahead = [atom for atom in atoms(prompt[start:]) if atom.strip()]
    parted = at
    for atom in atoms(full[at:]):
        if atom.strip():
            if not ahead or ahead.pop(0) != atom:
                break
            parted = at + len(atom)
        at += len(atom)
    rest = prompt[len(prompt.rstrip()) :]
    return parted + len(rest) if not ahead and full.startswith(rest, parted) else parted


def _plain(turn: Turn) -> str:
    return json.dumps([turn.calls, turn.content, turn.reasoning or ""], sort_keys=True, ensure_ascii=False)
