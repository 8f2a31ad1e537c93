"""What is wrong with a template itself, told with its own rendering as evidence and with advice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from toolparse.format import Format
from toolparse.prompts import prefill_of
from toolparse.render import in_thought
from toolparse.templates.induction.atoms import text_of
from toolparse.templates.induction.induce import Induction
from toolparse.templates.induction.probe import (
    CONTENT,
    EOS,
    KEYS,
    NAMES,
    ONE,
    PLAIN,
    RESULT,
    SPOKEN,
    SPOKEN_ONE,
    THOUGHT,
    THOUGHT_SPOKEN,
    TWO,
    USER,
    USER_2,
    VALUES,
    Prober,
    Turn,
    calling,
)
from toolparse.templates.judging.detection import Check, Problem, Proof, Severity
from toolparse.templates.judging.proof import AWKWARD, TYPES, Case, Prover

#: Severity, what to do in training, and what in serving where that is another thing.
_ADVICE: dict[str, tuple[Severity, str] | tuple[Severity, str, str]] = {
    "calls-dropped": (
        "error",
        "Train on one call per message, or change the template so that it writes all of them.",
        "Feed calls of earlier turns back as one message each.",
    ),
    "calls-unwritten": (
        "error",
        "Train with a template that writes tool calls: this one leaves them out.",
        "Earlier calls are missing from the prompt; write them into the content of earlier turns (parser.render).",
    ),
    "calls-refused": (
        "warning",
        "Train on one call per message.",
        "Execute the first call only, or feed parallel calls back as one message each.",
    ),
    "calls-behind-end": (
        "error",
        "Train on two calls per message at most: further calls stand behind the end of the turn.",
        "Feed more than two calls of an earlier turn back as several messages.",
    ),
    "calls-dropped-beside-content": (
        "error",
        "Put the text of such messages into a message of its own, or leave it out.",
        "Send content null with calls of earlier turns: with text, the calls vanish from the prompt.",
    ),
    "content-dropped-beside-calls": (
        "warning",
        "What the model says before a call is not trained on and vanishes from later prompts.",
        "The model does not see what it said before its earlier calls.",
    ),
    "content-as-reasoning": (
        "note",
        "Text beside calls is written as a thought; pass it as reasoning.",
        "Text beside calls reads back as reasoning.",
    ),
    "content-behind-calls": (
        "warning",
        "The order of text and calls in training differs from what the model writes.",
        "Earlier turns are shown to the model in another order than it wrote them.",
    ),
    "content-behind-end": (
        "warning",
        "Text beside calls becomes a message of its own behind the end of the turn.",
        "Earlier turns are shown to the model as two messages.",
    ),
    "types-lost": (
        "warning",
        "Numbers, booleans and null become text: the model learns to write text.",
        "Give the parser the tools: types come back from the schema only.",
    ),
    "types-from-schema": (
        "note",
        "The text does not tell a string from a number; that is the format's way.",
        "Give the parser the tools: types come back from the schema only.",
    ),
    "null-dropped": (
        "warning",
        "Arguments that are null are left out: the model can't learn to pass them.",
        "A null argument of an earlier call is missing from the prompt.",
    ),
    "strings-not-escaped": (
        "error",
        "Quotes inside strings are not escaped: where such a string ends can only be guessed from what follows.",
        "Calls of earlier turns whose strings hold quotes are shown garbled.",
    ),
    "values-changed": (
        "warning",
        "Some values are written in a form from which they can't be read back.",
        "Calls of earlier turns are shown changed.",
    ),
    "double-encoded": (
        "warning",
        "Arguments are written as JSON within JSON; that is what the model learns.",
        "Decode the arguments once more; toolparse does.",
    ),
    "double-encodes-strings": ("note", "Pass arguments as a dict: a JSON string is encoded a second time."),
    "wants-strings": (
        "warning",
        "Pass arguments as a JSON string: a dict is refused or written as Python's repr.",
    ),
    "python-repr": (
        "warning",
        "Arguments are written as Python's repr, not as JSON; that is what the model learns.",
        "Clients that expect JSON can't read the text; toolparse does.",
    ),
    "results-unnamed": (
        "note",
        "Results of parallel calls are told apart by their order only: keep the order of the calls.",
        "Send tool results in the order of the calls.",
    ),
    "results-dropped": ("error", "Tool results do not appear in the prompt."),
    "reasoning-dropped": (
        "warning",
        "Thoughts in messages are not written: train with a template that writes them.",
        "The model does not see its earlier thoughts.",
    ),
    "reasoning-stripped": (
        "note",
        "Thoughts of earlier turns are left out: only the last turn of a conversation can be trained with its "
        "thought, and tokens sampled in earlier turns are not what the next prompt holds.",
        "Prefix caches end at the first stripped thought.",
    ),
    "not-a-prefix": (
        "warning",
        "Prompt and completion together are not the beginning of the next prompt: never re-render a rollout; append "
        "what was sampled.",
        "Prefix caches miss from this turn on.",
    ),
    "end-missing": (
        "warning",
        "The template does not close the assistant's turn: add the end marker in training, or the model never stops.",
        "Set the next message's opening as a stop string.",
    ),
    "section-unclosed": (
        "note",
        "A single call is written without the section's closing marker.",
        "The closing marker may be missing; toolparse accepts that.",
    ),
    "mutates-lists": (
        "error",
        "The template calls methods that change lists, which transformers' sandbox refuses: apply_chat_template fails "
        "on messages with calls. Replace `list.append(x)` by `list + [x]`.",
        "Servers that render in the same sandbox fail on messages with calls.",
    ),
    "needs-null": (
        "error",
        "transformers (5.23 and later) leaves out what is null before the template sees it, and no other form of the "
        "message does: apply_chat_template drops the call or fails. Ask for `not message.content` in the template.",
        "Servers that render with transformers lose such messages; others may pass null.",
    ),
    "tools-unwritable": (
        "error",
        "The template fails when tools are passed: tell the model about them in the system message.",
    ),
    "arguments-run-together": (
        "error",
        "Arguments are written without anything between them: such calls can't be read back.",
        "Calls of earlier turns are shown garbled.",
    ),
    "writes-malformed-json": (
        "error",
        "The model learns to write calls that no other parser reads: correct the template.",
        "Calls of earlier turns are shown malformed.",
    ),
    "thought-left-open": (
        "error",
        "Answers are written into a thought that nothing closes: train with a template that closes it.",
        "Answers of earlier turns are shown to the model as unfinished thoughts.",
    ),
    "prompt-not-read": (
        "warning",
        "Pass what the prompt opens as a part of the completion, or train with a prompt that does not open it.",
        "What the prompt has begun is not known: the model's text is read as if nothing were open.",
    ),
    "answers-without-thought": (
        "note",
        "Train on messages with thoughts, or with a prompt that opens none.",
        "Text behind this prompt is a thought until the marker that closes it.",
    ),
    "special-style": ("note", "Build messages with detection.message_style.message(...)."),
}


def problem(code: str, message: str, evidence: str = "") -> Problem:
    """A problem with its usual severity and advice."""
    severity, training, *other = _ADVICE[code]
    shown = evidence if len(evidence) <= 500 else f"{evidence[:240]} ... {evidence[-240:]}"
    return Problem(code, message, severity, shown, training, serving=other[0] if other else training)


def find_problems(prober: Prober, format: Format, induction: Induction, proof: Proof) -> tuple[Problem, ...]:
    """Everything that the template does to data, each thing once."""
    finder = _Finder(prober, format, induction, proof)
    found: dict[str, Problem] = {}
    calls = (finder.style(), finder.calls(), finder.content(), finder.values(), finder.encoding())
    for item in chain(*calls, finder.results(), finder.reasoning(), finder.prompts(), finder.turns()):
        found.setdefault(item.code, item)
    return tuple(found.values())


class _Finder:
    def __init__(self, prober: Prober, format: Format, induction: Induction, proof: Proof) -> None:
        self.prober = prober
        self._turn = induction.cutter.written
        self.format = format
        self.induction = induction
        self.proof = proof

    def style(self) -> Iterator[Problem]:
        """What the template demands of messages."""
        style = self.prober.style
        if style.mutable:
            message = "transformers' sandbox refuses this template: it changes lists in place"
            yield problem("mutates-lists", message, self._error(mutable=False))
        if style.tools == "none":
            yield problem("tools-unwritable", "the template fails when tools are passed", self._error(tools="openai"))
        if style.arguments == "string":
            yield problem("wants-strings", "arguments must be passed as JSON strings", self._error(arguments="dict"))
        for turn, said in ((ONE, "calls"), (SPOKEN, "text")):
            full, plain = self.prober.full(turn), self.prober.without_null(turn)
            if full != plain:
                yield problem(
                    "needs-null", f"messages with {said} are written with null only", plain or self.prober.error
                )
        others = {key: value for key, value in style.differences().items() if key not in ("mutable", "arguments")}
        if others:
            yield problem("special-style", f"messages must be built in a style of their own: {others}")

    def _error(self, **changes: Any) -> str:
        """What the template says or writes in another style."""
        other = self.prober.with_style(self.prober.style.changed(**changes))
        full = other.full(ONE)
        return other.error if full is None else full[full.rfind(USER) + len(USER) :]

    def calls(self) -> Iterator[Problem]:
        """Calls that are dropped, refused, left open, or no JSON though they look like it."""
        if malformed(self.format):
            message = "calls look like JSON and are none: a quote or a bracket is missing or stands in the wrong place"
            yield problem("writes-malformed-json", message, self._turn(ONE))
        check = self.proof.get("parallel")
        if check is not None and check.status == "lost" and self.induction.single:
            yield problem("calls-dropped", f"of two calls only one is written ({check.detail})", check.evidence)
        if check is not None and check.status == "refused":
            yield problem("calls-refused", "two calls in one message are refused", check.detail)
        yield from self._behind_end()
        single = self.proof.get("single")
        if single is not None and "does not close" in single.detail:
            yield problem("section-unclosed", "a single call's section is not closed", single.evidence)

    def _behind_end(self) -> Iterator[Problem]:
        """A third call behind the end of the turn: DeepSeek's first templates end it after every call but the first."""
        if self.induction.single:
            return
        calls = tuple((name, {KEYS[0]: VALUES[0]}) for name in NAMES)
        text = self._turn(Turn(calls))
        first, second, third = (text.find(name) for name in NAMES)
        if not 0 <= first < second < third:
            return
        closing = self.format.bind("").block.after.strip()
        ends = [mark for mark in (*self.format.ends, closing, EOS) if mark and mark in text[second:third]]
        if any(mark not in text[first:second] for mark in ends):
            yield problem("calls-behind-end", "a third call is written behind the end of the turn", text)

    def content(self) -> Iterator[Problem]:
        """What becomes of text beside calls."""
        if self.induction.frames.thought_open:
            message = "the prompt opens a thought, and content is written behind it without closing it"
            yield problem("thought-left-open", message, self._turn(SPOKEN))
        check = self.proof.get("content and call")
        evidence = self._turn(SPOKEN_ONE)
        if self.induction.frames.content_behind:
            yield problem("content-behind-calls", "text that came before the calls is written behind them", evidence)
        if check is None or check.status != "lost":
            return
        ends = (*self.format.ends, EOS)
        before = evidence[: evidence.find(NAMES[0])]
        alone = not self.format.between_messages
        if alone and CONTENT in before and any(mark in before for mark in ends):
            yield problem("calls-behind-end", "calls beside text are written behind the end of the turn", evidence)
        elif NAMES[0] not in evidence:
            yield problem("calls-dropped-beside-content", "calls vanish when the message has text", evidence)
        elif CONTENT not in evidence:
            yield problem("content-dropped-beside-calls", "text vanishes when the message has calls", evidence)
        elif any(mark in evidence[: evidence.find(CONTENT)] for mark in ends):
            yield problem("content-behind-end", "text beside calls is written behind the end of the turn", evidence)
        else:
            yield problem("content-as-reasoning", "text beside calls is written as a thought", evidence)

    def values(self) -> Iterator[Problem]:
        """Values that do not survive."""
        body = self.induction.body
        if body is not None and body.kind == "kwargs" and not body.comma.strip():
            yield problem("arguments-run-together", "nothing stands between two arguments", self._turn(ONE))
        exact = body is not None and body.kind in ("json", "encoded")  # JSON tells types apart
        pairs = () if exact else (("3107", 3107), ("true", True), ("2.5", 2.5))
        same = next((value for text, value in pairs if self._alike({KEYS[0]: text}, {KEYS[0]: value})), None)
        if same is not None:
            code = "types-from-schema" if "{{params}}" in self.format.call else "types-lost"
            evidence = self._turn(calling({KEYS[0]: same}))
            yield problem(code, f"{same!r} and {str(same)!r} as text are written alike", evidence)
        if self.format.syntax.loose and not self.format.syntax.escapes and len(self.format.syntax.quotes[0]) < 2:
            evidence = self._turn(calling({KEYS[0]: AWKWARD["quotes"]}))
            yield problem("strings-not-escaped", "text is written as it is, quotes included", evidence)
        kept = self.proof.status("awkward") == "passed"  # null is among the awkward arguments
        if not kept and self._alike({KEYS[0]: "a", KEYS[1]: None}, {KEYS[0]: "a"}):
            evidence = self._turn(calling({KEYS[0]: "a", KEYS[1]: None}))
            yield problem("null-dropped", "an argument that is null is left out", evidence)
        if any(check.status == "lost" for check in self.proof.checks if check.name in ("awkward", "look-alikes")):
            yield from self._each_value()

    def _alike(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        first = self.prober.full(calling(one))
        return first is not None and first == self.prober.full(calling(other))

    def _each_value(self) -> Iterator[Problem]:
        prover = Prover(self.prober, self.format, self.induction)
        lost: list[Check] = []
        garbled = False
        for key, value in {**AWKWARD, **TYPES}.items():
            check = prover.check(Case(key, calling({key: value}), render=False, stream=False))
            if check.status != "lost":
                continue
            if isinstance(value, str) and not garbled:
                message = f"{value!r} is written so that it can't be read back"
                yield problem("strings-not-escaped", message, check.evidence)
                garbled = True
            lost.append(check)
            if garbled and len(lost) >= 3:
                break  # enough to show what is the matter
        if lost:
            yield problem("values-changed", "; ".join(check.detail for check in lost[:3]), lost[0].evidence)

    def encoding(self) -> Iterator[Problem]:
        """How arguments are encoded."""
        body = self.induction.body
        if body is not None and body.kind == "encoded":
            yield problem("double-encoded", "arguments are JSON within a JSON string", self._turn(ONE))
        elif body is not None and body.kind == "python":
            yield problem("python-repr", "arguments are written as Python's repr", self._turn(ONE))
        if self.prober.style.arguments == "dict" and body is not None and body.kind == "json":
            written = self._error(arguments="string")
            if '\\"' + KEYS[0] in written:
                yield problem("double-encodes-strings", "arguments given as a JSON string are encoded again", written)

    def results(self) -> Iterator[Problem]:
        """What becomes of tool results."""
        turn = next((turn for turn in (TWO, ONE) if self.prober.history(turn) is not None), ONE)
        text = self.prober.history(turn) or ""
        if USER_2 not in text:
            return
        shown = text[text.rfind(USER) : text.rfind(USER_2)]
        if RESULT not in shown:
            yield problem("results-dropped", "tool results are not written", shown)
            return
        last = max((shown.find(value) for value in PLAIN[1].values()), default=0)
        behind = shown[max(0, last if last >= 0 else shown.find(RESULT) - 80) :]
        known = [self.prober.style.tool_call(index, name, {}, None)["id"] for index, (name, _) in enumerate(turn.calls)]
        if not any(word in behind for word in (*known, *(name for name, _ in turn.calls))):
            yield problem("results-unnamed", "results carry neither the tool's name nor the call's id", behind)

    def reasoning(self) -> Iterator[Problem]:
        """What becomes of thoughts."""
        switches = self.induction.frames.switches
        full = self.prober.full(THOUGHT_SPOKEN, **switches)
        if self.induction.frames.reasoning is not None and not self.induction.frames.has_reasoning:
            yield problem("reasoning-dropped", "thoughts in messages are not written", self._turn(THOUGHT_SPOKEN))
        if full is None or THOUGHT not in full:
            return
        later = self.prober.history(THOUGHT_SPOKEN, **switches)
        if later is not None and THOUGHT not in later:
            yield problem("reasoning-stripped", "thoughts of earlier turns are left out", later[later.rfind(USER) :])

    def prompts(self) -> Iterator[Problem]:
        """What prompts begin and the format does not know, or the template's own answers do not show."""
        closing = self.format.thought.closing
        for switches, prompt in self.prober.prompts():
            held = prefill_of(self.format, prompt)
            tail = text_of(self.induction.cutter.tail(prompt)).strip()
            if tail and not held and USER in prompt:
                given = f" with {switches}" if switches else ""
                yield problem(
                    "prompt-not-read", f"the prompt{given} ends in {tail!r}: no part of a turn as known", tail
                )
            if held and in_thought(self.format, held) and closing not in self._turn(SPOKEN, **switches):
                message = f"the prompt opens a thought with {held!r}; the template's own answers have none"
                yield problem("answers-without-thought", message, self._turn(SPOKEN, **switches))

    def turns(self) -> Iterator[Problem]:
        """Whether turns are closed, and whether a conversation grows at its end only."""
        if self.induction.frames.unended:
            yield problem("end-missing", "nothing closes the assistant's turn", self._turn(SPOKEN))
        prompt = self.prober.prompt()
        for turn in (SPOKEN, ONE):
            later, full = self.prober.history(turn), self.prober.full(turn)
            for before in (prompt, full.rstrip() if full else None):
                if before is None or later is None or later.startswith(before):
                    continue
                at = next((i for i, (a, b) in enumerate(zip(before, later, strict=False)) if a != b), len(later))
                evidence = (
                    f"first: ...{before[max(0, at - 40) : at + 60]!r}\nthen:  ...{later[max(0, at - 40) : at + 60]!r}"
                )
                yield problem(
                    "not-a-prefix", "prompt and completion are not the beginning of the next prompt", evidence
                )
                return


def malformed(format: Format) -> bool:
    """Whether calls look like JSON objects and are none: a quote or a bracket is missing, or one too many."""
    text = format.call
    start, stop = text.find('{"'), text.rfind("}")
    if start < 0 or stop < start or "{{params}}" in text or "{{kwargs}}" in text or not format.syntax.is_json:
        return False
    body = re.sub(r'"\{\{(name|id|index)(:\w+)?\}\}"', '"x"', text[start : stop + 1])
    body = re.sub(r"\{\{(name|id|index)(:\w+)?\}\}", '"x"', body)
    for value in ("{}", r"{\"a\": 1}"):
        try:
            json.loads(body.replace("{{arguments}}", value).replace("{{skip}}", "x"))
        except ValueError:
            continue
        return False
    return True
