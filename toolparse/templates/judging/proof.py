"""Proof: what the template writes for a message reads back to that message.

A case is an assistant's turn. It is rendered by the template, read by the format, and compared. Where it differs, the
message that was read is rendered in turn: if the template writes the same text for it, the template did not keep what
differs, and nobody could read it (`lost`); else the format read wrongly (`failed`). Where nothing differs, the same
text is read again in pieces, and the format writes the calls itself: that must be what the template wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import cycle
from typing import Any

from toolparse.errors import RenderError
from toolparse.format import Format
from toolparse.message import ParsedMessage
from toolparse.parser import Parser
from toolparse.render import in_thought, render
from toolparse.templates.induction.atoms import bare
from toolparse.templates.induction.induce import Induction
from toolparse.templates.induction.probe import (
    CONTENT,
    EOS,
    KEYS,
    NAMES,
    PLAIN,
    THOUGHT,
    VALUES,
    Prober,
    Turn,
    after_user,
    calling,
    schema_of,
)
from toolparse.templates.judging.detection import Check, Proof
from toolparse.tools import ToolSet

#: The sizes of the pieces in which a text is read again, over and over.
_PIECES = (1, 11, 3, 29, 2, 17)

#: Arguments that break careless readers.
AWKWARD: dict[str, Any] = {
    "quotes": "He said \"no\" and 'yes' \\ `so`",
    "lines": "first\n  second\n\nlast",
    "unicode": "naïve 日本語 🎉 ｜▁",
    "markup": "a <b>bold</b> & <br/> move",
    "brackets": "f(x)=[{1}], :;",
    "empty": "",
    "spaces": "  both sides  ",
    "newlines": "\nboth sides\n",
    "big": 12345678901234567890,
    "negative": -17,
    "float": 2.5,
    "small": 1e-07,
    "yes": True,
    "no": False,
    "nothing": None,
    "nested": {"a": [{"b": {"c": "d"}}, [], {}], "e": None, "f": [True, 1.5, "x\ny"]},
    "list": ["one", 2, "3", False],
    "no_items": [],
    "no_keys": {},
}

#: Strings that look like something else.
LOOKALIKES: dict[str, Any] = {
    "zip": "75001",
    "word": "true",
    "none": "null",
    "pair": "[1, 2]",
    "map": '{"a": 1}',
    "python": "None",
    "real": "3.0",
    "minus": "-1",
}

TYPES: dict[str, Any] = {"count": 3, "ratio": 0.5, "on": True, "off": False, "tags": ["a", 1], "deep": {"x": {"y": 2}}}


def _may_be_written() -> Iterator[Turn]:
    """Turns of which a template shows one kind only: with and without text, a thought, a second call, arguments."""
    first, second = (NAMES[0], PLAIN[0]), (NAMES[1], PLAIN[1])
    for thought in (None, f"{THOUGHT} one.\n\nTwo"):
        for content in ("", f"{CONTENT} one.\n\nTwo"):
            for calls in ((), (first,), (first, second), ((NAMES[0], {}),)):
                if content or calls:
                    yield Turn(calls, content, thought)


_MAY_BE_WRITTEN = tuple(_may_be_written())


@dataclass
class Case:
    """A turn and the switches with which it is rendered."""

    name: str
    turn: Turn
    switches: Mapping[str, Any] = field(default_factory=dict)
    render: bool = True
    stream: bool = True


def cases_for(format: Format, induction: Induction) -> list[Case]:
    """The cases that a format is tried on."""
    first, second = (NAMES[0], PLAIN[0]), (NAMES[1], PLAIN[1])
    closings = (format.call_end.strip(), format.bind("").block.after.strip(), *format.ends[:1])
    closing = " ".join([VALUES[0], *filter(None, closings), VALUES[1]])
    on = induction.frames.switches
    found = [
        Case("single", Turn((first,)), stream=False),
        Case("parallel", Turn((first, second))),
        Case("same tool twice", Turn(((NAMES[0], PLAIN[0]), (NAMES[0], {KEYS[0]: VALUES[2]}))), stream=False),
        Case("no arguments", calling({}), stream=False),
        Case("types", calling(TYPES), render=False, stream=False),
        Case("awkward", calling(AWKWARD), render=False),
        Case("look-alikes", calling(LOOKALIKES), stream=False),
        Case("content", Turn(content=f"{CONTENT} one.\n\nTwo"), render=False, stream=False),
        Case("content and call", Turn((first,), content=f"{CONTENT} one.\n\nTwo"), render=False),
    ]
    if "{{params}}" not in format.call:
        found.append(Case("closing marker", calling({KEYS[0]: closing}), render=False, stream=False))
    if format.reasoning is not None and induction.frames.has_reasoning:
        thought = f"{THOUGHT} one.\n\nTwo"
        found.append(Case("reasoning", Turn(content=CONTENT, reasoning=thought), on, render=False, stream=False))
        found.append(Case("reasoning and call", Turn((first,), reasoning=thought), on, render=False, stream=False))
        found.append(Case("reasoning, content, calls", Turn((first, second), CONTENT, thought), on, render=False))
    return found


def prove(prober: Prober, format: Format, induction: Induction, *, stop: bool = False) -> Proof:
    """Try a format on everything that its template writes. `stop`: once something has failed, leave it at that."""
    prover = Prover(prober, format, induction)
    checks: list[Check] = []
    for case in cases_for(format, induction):
        checks.append(prover.check(case))
        if stop and not checks[-1].ok:
            break
    if all(check.ok for check in checks):
        checks += prover.behind_prompts()
    return Proof(tuple(checks))


class Prover:
    """Tries one format on turns of one template."""

    def __init__(self, prober: Prober, format: Format, induction: Induction) -> None:
        self.prober = prober
        self.format = format
        self.cutter = induction.cutter
        self.frames = induction.frames
        # What a bare call in prose is, is for users to say; here all must be read that the template writes.
        self.parser = Parser(format, bare="anywhere")
        self._other: Parser | None = None  # for turns that begin otherwise than the prompt leaves them

    def check(self, case: Case) -> Check:
        """The outcome of one case."""
        self.prober.look_at_the_clock()
        full = self.prober.full(case.turn, **case.switches)
        if full is None:
            return Check(case.name, "refused", self.prober.error)
        text, prefill = self.completion(full)
        message = self._parser(prefill).parse(text, tools=_tools_of(case.turn))
        got = turn_of(message)
        padded = got.content != case.turn.content and got.content.strip() == case.turn.content and self.frames.pads
        if padded:
            got = replace(got, content=case.turn.content)
        if not _same(got, case.turn):
            return self._differs(case, full, text, got, message)
        if case.stream and not _same(self._in_pieces(text, prefill, case.turn), turn_of(message)):
            return Check(case.name, "failed", "read in pieces it gives another message", _shown(text))
        check = self._written(case, text, prefill)
        if padded and check.ok:
            return replace(check, detail="read with the white space that the template writes around content")
        return check

    def behind_prompts(self) -> Iterator[Check]:
        """What a model may write behind each prompt of the template, whatever the template writes itself."""
        for switches, prompt in self.prober.prompts():
            given = ", ".join(f"{name}={value!r}" for name, value in switches.items())
            name = f"behind the prompt with {given}" if given else "behind the prompt"
            yield self._behind(name, prompt)

    def _behind(self, name: str, prompt: str) -> Check:
        held = self.parser.prefill_of(prompt)
        thinking = in_thought(self.format, held)
        for turn in _MAY_BE_WRITTEN:
            if turn.reasoning and (self.format.reasoning is None or (held and not thinking)):
                continue
            try:
                text = self._own(turn, held)
            except RenderError:
                continue
            got = turn_of(self.parser.parse(text, tools=_tools_of(turn), prompt=prompt))
            if not _same(got, turn):
                return Check(name, "failed", _difference(turn, got), _shown(prompt[-80:] + text))
        return Check(name, "passed")

    def completion(self, full: str) -> tuple[str, str]:
        """The model's part of a rendering, and what the prompt holds before it."""
        text = self.cutter.turn(full).split(EOS)[0]
        held = self.cutter.prefill()
        if held and bare(text).startswith(bare(held)):
            return text[_behind(text, held) :], self.format.prefill
        thought, opening = self.format.thought, bare(self.format.thought.before)
        opens = bool(opening) and bare(held).endswith(opening)
        if opens and thought.closing in text and opening not in bare(text):
            return text, self.format.prefill  # only the prompt writes what opens a thought
        return text, ""

    def _parser(self, prefill: str) -> Parser:
        if prefill == self.parser.prefill:
            return self.parser
        if self._other is None or self._other.prefill != prefill:
            self._other = Parser(self.format, prefill=prefill, bare="anywhere")
        return self._other

    def _differs(self, case: Case, full: str, text: str, got: Turn, message: ParsedMessage) -> Check:
        detail = _difference(case.turn, got)
        if self._lost(case, full, got):
            return Check(case.name, "lost", detail, _shown(text))
        issues = "; ".join(issue.message for issue in message.errors[:2])
        return Check(case.name, "failed", f"{detail}{f' ({issues})' if issues else ''}", _shown(text))

    def _lost(self, case: Case, full: str, got: Turn) -> bool:
        """Whether the template writes the same for what was read: then the difference was never in the text."""
        if self._behind_end(full, case.turn, got) or self._in_an_open_thought(full, case.turn, got):
            return True
        if self._unescaped(case, full, got):
            return True
        stray = got.content not in ("", case.turn.content) and got.content != case.turn.content.strip()
        if stray or (got.reasoning or "") not in ("", case.turn.reasoning or "", case.turn.content):
            return False
        if any(name not in NAMES for name, _ in got.calls):
            return False
        same = [got, *self._said_as_thought(case.turn, got, full)]
        return any(self.prober.full(turn, **case.switches) == full for turn in same)

    def _said_as_thought(self, turn: Turn, got: Turn, full: str) -> Iterator[Turn]:
        """What was read, its thought passed as content, where the template frames that as it frames thoughts."""
        frame = bare(self.format.reasoning)
        own = frame == bare(self.frames.reasoning) and self.frames.has_reasoning
        written = frame.replace("{{text}}", bare(turn.content)) in bare(self.cutter.turn(full))
        if own and written and not got.content and got.reasoning == turn.content:
            yield Turn(got.calls, turn.content)

    def _behind_end(self, full: str, turn: Turn, got: Turn) -> bool:
        """Whether content, or the calls, stand behind the end of the turn, as a message of their own."""
        text = self.cutter.turn(full)
        end = min((at for at in (text.find(mark) for mark in (*self.format.ends, EOS)) if at >= 0), default=len(text))
        if turn.content and _same(got, replace(turn, content="")):
            return end < text.rfind(turn.content)
        said = turn.calls and turn.content and not got.calls and got.content.strip() == turn.content.strip()
        return bool(said) and end < text.find(turn.calls[0][0])

    def _in_an_open_thought(self, full: str, turn: Turn, got: Turn) -> bool:
        """Whether content is written into a thought that the prompt opens and the template does not close."""
        dropped = not got.calls and not any(name in full[after_user(full) :] for name, _ in turn.calls)
        if not self.frames.thought_open or got.content or self.format.reasoning is None:
            return False
        if got.calls != turn.calls and not dropped:
            return False
        closing = self.format.thought.closing
        said = "\n\n".join(part for part in (turn.reasoning, turn.content) if part)
        return closing not in self.cutter.turn(full) and (got.reasoning or "").strip() == said.strip()

    def _unescaped(self, case: Case, full: str, got: Turn) -> bool:
        """Whether the template puts text between quotes without escaping it, and the text holds such a quote.

        Shown by two different messages for which the template writes the same: one value that holds what stands
        between two values, and the two values.
        """
        if "{{kwargs}}" not in self.format.call and "{{arguments}}" not in self.format.call:
            return False
        between = self._between_values()
        if between is None:
            return False
        quote = between.partition(",")[0].strip()
        texts = [value for _, arguments in case.turn.calls for value in arguments.values() if isinstance(value, str)]
        if quote and not any(quote in text or "\\" in text or "\n" in text for text in texts):
            return False
        if all(text.isalnum() for text in texts):  # words cannot blur where a call begins and ends
            dropped = not got.content and case.turn.content not in full
            return (dropped or got.content == case.turn.content) and _names(got) == _names(case.turn) != []
        return got.content == case.turn.content or not quote

    def _between_values(self) -> str | None:
        """What stands between two string values, if a value may hold just that and nobody can tell."""
        first, second = {KEYS[0]: VALUES[0], KEYS[1]: VALUES[1]}, VALUES[0]
        two = self.prober.full(calling(first))
        if two is None or VALUES[0] not in two or VALUES[1] not in two:
            return None
        between = two[two.rindex(VALUES[0]) + len(VALUES[0]) : two.rindex(VALUES[1])]
        one = self.prober.full(calling({KEYS[0]: second + between + VALUES[1]}))
        return between if one == two else None

    def _in_pieces(self, text: str, prefill: str, turn: Turn) -> Turn:
        """The text, read in pieces."""
        stream = self._parser(prefill).stream(tools=_tools_of(turn))
        at = 0
        for size in cycle(_PIECES):
            stream.feed(text[at : at + size])
            at += size
            if at >= len(text):
                break
        return turn_of(stream.close())

    def _written(self, case: Case, text: str, prefill: str) -> Check:
        """Whether the format writes what the template wrote."""
        forms = [form for ended in self._ended(text) for form in (ended, self._without_empty_thought(ended))]
        forms += [self._without_empty_content(form) for form in forms]
        wanted = forms[0]
        try:
            own = self._own(case.turn, prefill)
            if own in forms or self._unended(own) in forms:
                return Check(case.name, "passed")  # and this text was read back: what `render` asks for as well
            self._own(case.turn, prefill, verify=True)
        except RenderError as error:
            return Check(case.name, "failed", f"the format cannot write it: {error}", _shown(text))
        if self._leaves_open(own, wanted):
            return Check(case.name, "passed", "the template does not close the calls", _pair(own, wanted))
        if self.frames.thought_open and self._closed(own) in map(_quoted, forms):
            return Check(case.name, "passed", "the template does not close the thought", _pair(own, wanted))
        if _quoted(own) in map(_quoted, forms):
            return Check(case.name, "passed", "written alike but for white space or quotes", _pair(own, wanted))
        if not case.render:
            return Check(case.name, "passed", "read; written otherwise", _pair(own, wanted))
        return Check(case.name, "failed", "the format writes it otherwise", _pair(own, wanted))

    def _closed(self, own: str) -> str:
        """What the format writes behind what closes the thought of the prompt, in one spelling."""
        return _quoted(own).removeprefix(_quoted(self.format.thought.after))

    def _own(self, turn: Turn, prefill: str, *, verify: bool = False) -> str:
        """The turn as the format writes it. Raises RenderError."""
        calls = [{"name": name, "arguments": arguments} for name, arguments in turn.calls]
        content, reasoning = turn.content, turn.reasoning
        return render(self.format, calls, content=content, reasoning=reasoning, prefill=prefill, verify=verify)

    def _ended(self, text: str) -> list[str]:
        """The text up to its end marker, without it and with it: some families count it to the last call."""
        last = max((text.rfind(name) for name in NAMES), default=0)
        places = [(text.find(end, max(0, last)), end) for end in self.format.ends]
        found = sorted((at, end) for at, end in places if at >= 0)
        return [text[: found[0][0]], text[: found[0][0] + len(found[0][1])]] if found else [text]

    def _unended(self, own: str) -> str:
        """What the format writes without the end marker that its calls close with: the template may write another."""
        end = next((end for end in self.format.ends if own.endswith(end)), "")
        return own.removesuffix(end)

    def _without_empty_content(self, text: str) -> str:
        for shape in self.format.shapes():
            empty = shape.said.write("")
            if empty.strip() and empty in text:
                return text.replace(empty, "", 1)
        return text

    def _leaves_open(self, own: str, wanted: str) -> bool:
        """Whether only the section's closing is missing from what the template wrote."""
        closing = self.format.block.closing
        return bool(closing) and own.startswith(wanted.rstrip()) and own[len(wanted.rstrip()) :].strip() == closing

    def _without_empty_thought(self, text: str) -> str:
        for empty in (self.format.thought.write(""), self.format.thought.after):
            if empty.strip() and bare(text).startswith(bare(empty)):
                return text[_behind(text, empty) :]
        return text


def turn_of(message: ParsedMessage) -> Turn:
    """A parsed message as a turn."""
    calls = tuple((call.name, call.arguments) for call in message.tool_calls)
    return Turn(calls, message.content, message.reasoning or None)


def _same(one: Turn, other: Turn) -> bool:
    """Whether two turns are equal in JSON's eyes: 1 is not True, 1.0 is not 1."""
    told = [
        (json.dumps(turn.calls, sort_keys=True, default=repr), turn.content, turn.reasoning or "")
        for turn in (one, other)
    ]
    return told[0] == told[1]


def _tools_of(turn: Turn) -> ToolSet:
    return _tools_for(json.dumps(turn.calls))


@lru_cache(maxsize=64)
def _tools_for(calls: str) -> ToolSet:
    """The tools that are called; most turns are the same for every template, and so are their tools."""
    return ToolSet.of(schemas(json.loads(calls)))


def schemas(calls: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Tool definitions with the types that the arguments of these calls have."""
    shapes: dict[str, dict[str, Any]] = {}
    for name, arguments in calls:
        shapes.setdefault(name, {}).update({key: schema_of(value) for key, value in arguments.items()})
    return [
        {
            "type": "function",
            "function": {"name": name, "description": "", "parameters": {"type": "object", "properties": shape}},
        }
        for name, shape in (shapes or {NAMES[0]: {}}).items()
    ]


def _names(turn: Turn) -> list[str]:
    return [name for name, _ in turn.calls]


def _difference(wanted: Turn, got: Turn) -> str:
    """The first thing that differs, in words."""
    if len(got.calls) != len(wanted.calls):
        return f"{len(wanted.calls)} calls were written, {len(got.calls)} read"
    for (name, arguments), (own, values) in zip(wanted.calls, got.calls, strict=True):
        if name != own:
            return f"the tool {name!r} was read as {own!r}"
        for key, value in arguments.items():
            if key not in values:
                return f"argument {key!r} ({value!r}) is missing"
            if json.dumps(values[key], sort_keys=True) != json.dumps(value, sort_keys=True):
                return f"argument {key!r}: {value!r} was read as {values[key]!r}"
        extra = [key for key in values if key not in arguments]
        if extra:
            return f"argument {extra[0]!r} was never passed"
    if got.content != wanted.content:
        return f"content {wanted.content!r} was read as {got.content!r}"
    return f"reasoning {wanted.reasoning!r} was read as {got.reasoning!r}"


def _behind(text: str, prefix: str) -> int:
    """The index behind `prefix`, white space not counted, with the white space that `prefix` itself ends in."""
    left = len(bare(prefix))
    at = 0
    while left:
        left -= not text[at].isspace()
        at += 1
    for wanted in prefix[len(prefix.rstrip()) :]:
        if at < len(text) and text[at] == wanted:
            at += 1
    return at


def _quoted(text: str) -> str:
    """A text without blanks, its quotes alike: arguments that a template prints as given may be a dict's repr."""
    return bare(text).replace("'", '"')


def _shown(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:200]} ... {text[-180:]}"


def _pair(own: str, wanted: str) -> str:
    return f"format:   {_shown(own)!r}\ntemplate: {_shown(wanted)!r}"
