"""Learning a template's picture from what it writes.

Theory of operation. Every name, key, value and text that goes into a probe is a word that occurs nowhere else
(`probe.py`). Where such a word comes out stands a hole; everything else the template wrote by itself. So a rendering
with its words replaced is a picture already; what is left to find is where one part ends and the next begins, and that
follows from comparing renderings:

* The turn is what follows the longest common start of a rendering and the generation prompt (`_cut`).
* A call's arguments are one value if a bracketed stretch around them reads as that value (JSON, JSON in a string,
  Python, a map with quotes of its own), keyword arguments if they read `key=value, `, else parameters (`bodies.py`).
* Between the holes of two calls in a row stands a gap: how a call closes, what separates, how a call opens. The text
  before the first call ends with the opening; the text after the last begins with the closing. So the opening is what
  head and gap end with, the closing is what gap and tail begin with, the rest of the gap is the separator, the rest of
  head and tail is the section (`_split`). The same comparison, one level down, gives the picture of a parameter.
* In `A x B x C` the `x` may belong to either side, and both cuts describe the same text. A convention decides: closings
  first, blanks outside of calls. Otherwise templates that write the same would have different pictures.
* Thought and content are compared likewise: turns with and without each.

Everything is compared on whole atoms (`atoms.py`). No marker and no family is known here. What cannot be told from one
template (a second call that is refused, say) is left out of the picture, and noted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolparse.errors import FormatError
from toolparse.format import JSON, Format, Syntax
from toolparse.templates.atoms import (
    Atoms,
    Hole,
    atoms,
    blank,
    blanks_at_end,
    blanks_at_start,
    common_end,
    common_start,
    find,
    find_run,
    is_marker,
    marked,
    solid,
    text_of,
)
from toolparse.templates.bodies import Body, find_body, spans_of, syntax_of_body, syntax_of_value
from toolparse.templates.probe import (
    BOS,
    CONTENT,
    EOS,
    KEYS,
    NAMES,
    PLAIN,
    RESULT,
    THOUGHT,
    TYPED,
    USER,
    USER_2,
    VALUES,
    Prober,
    Turn,
)
from toolparse.templates.sandbox import facts_of

#: Switches that templates use for thinking; those that change nothing cost two renders.
SWITCHES: tuple[dict[str, Any], ...] = (
    {"enable_thinking": True, "thinking": True},
    {"enable_thinking": False, "thinking": False},
)

ONE = Turn(calls=((NAMES[0], PLAIN[0]),))
TWO = Turn(calls=((NAMES[0], PLAIN[0]), (NAMES[1], PLAIN[1])))
NONE = Turn(calls=((NAMES[0], {}),))
TYPES = Turn(calls=((NAMES[0], TYPED),))
SPOKEN = Turn(content=CONTENT)
SPOKEN_ONE = Turn(content=CONTENT, calls=((NAMES[0], PLAIN[0]),))
THOUGHT_SPOKEN = Turn(content=CONTENT, reasoning=THOUGHT)
THOUGHT_ONE = Turn(reasoning=THOUGHT, calls=((NAMES[0], PLAIN[0]),))


@dataclass
class Induction:
    """What was learnt. `format` is None where the template writes no calls that can be told apart.

    `notes` say in words what was seen and what could not be; `switches` make the template write thoughts, where it
    does not by default; `header` is what the generation prompt writes before the turn. `single`: only one call is
    written. `unended`: the template does not close a turn. `content_behind`: content stands behind the calls. `pads`:
    white space is written around content.
    """

    format: Format | None
    notes: list[str] = field(default_factory=list)
    switches: dict[str, Any] = field(default_factory=dict)
    header: str = ""
    single: bool = False
    has_reasoning: bool = False
    unended: bool = False
    content_behind: bool = False
    pads: bool = False
    body: Body | None = None
    cutter: _Cutter | None = None


def induce(prober: Prober, name: str = "induced") -> Induction:
    """The picture of what a template writes for an assistant's turn."""
    return _Inducer(prober).run(name)


@dataclass
class _Frames:
    """What was found around the calls, in the order in which it was found."""

    section: tuple[str, str] = ("", "")
    lead: str = ""
    reasoning: str | None = None
    content: str = "{{text}}"
    between_messages: str = ""
    ends: tuple[str, ...] = ()
    prefill: str = ""


@dataclass
class _Calls:
    """The parts of a turn with calls, as atoms."""

    head: Atoms
    opening: Atoms
    core: Atoms
    closing: Atoms
    between: Atoms
    tail: Atoms
    single: bool


class _Inducer:
    def __init__(self, prober: Prober) -> None:
        self.prober = prober
        self.out = Induction(None)
        self.frames = _Frames()
        self.switches: dict[str, Any] = {}
        self.body: Body | None = None
        self.param: tuple[Atoms, Atoms, Atoms] | None = None  # opening, core, closing of one parameter
        self.fields: dict[str, Any] = {}

    def run(self, name: str) -> Induction:
        prompt, one = self.prober.prompt(), self.prober.full(ONE)
        if prompt is None or one is None or NAMES[0] not in one[_after_user(one) :]:
            self.out.notes.append("the template does not write calls" + self._why())
            return self.out
        cutter = self.cutter = _Cutter(self.prober, prompt)
        self.body = find_body(cutter.turn(one), PLAIN[0])
        if self.body is None:
            self.out.notes.append("the call's arguments do not appear in the rendering")
            return self.out
        self.out.body, self.out.cutter = self.body, cutter
        calls = self._calls(one)
        self._frame(calls)
        self._syntax()
        self._assemble(name, calls)
        return self.out

    def _why(self) -> str:
        return f" ({self.prober.error})" if self.prober.error else ""

    # -- calls ------------------------------------------------------------------------------------------------------

    def _atoms(self, turn: str, calls: Sequence[tuple[str, Mapping[str, str]]]) -> Atoms:
        spans = spans_of(turn, calls, self.body, self.prober.style.new_id)
        sequence = marked(turn, spans)
        if self.body is not None and self.body.kind == "params":
            sequence = self._fold_params(sequence, len(calls))
        return sequence

    def _calls(self, one: str) -> _Calls:
        turn = self.cutter.turn(one)
        if self.body is not None and self.body.kind == "params":
            self.param = _param_picture(marked(turn, spans_of(turn, ONE.calls, self.body, self.prober.style.new_id)))
        single = self._atoms(turn, ONE.calls)
        two = self.prober.full(TWO)
        if two is not None:
            double = self._atoms(self.cutter.turn(two), TWO.calls)
            if any(isinstance(atom, Hole) and atom.call == 1 for atom in double):
                return _split(single, double)
            self.out.notes.append("the template drops every call but the first")
        else:
            self.out.notes.append("the template refuses two calls in one message" + self._why())
        self.out.single = True
        start, end = _core(single, 0)
        return _Calls([], single[:start], single[start:end], [], [], single[end:], single=True)

    def _fold_params(self, sequence: Atoms, count: int) -> Atoms:
        """Replace each call's run of parameters by the hole `params`."""
        if self.param is None:
            return sequence
        opening, _, closing = self.param
        for call in range(count):
            places = [
                index
                for index, atom in enumerate(sequence)
                if isinstance(atom, Hole) and atom.call == call and atom.kind in ("key", "value")
            ]
            if not places:
                continue
            start, end = places[0] - len(opening), places[-1] + 1 + len(closing)
            sequence = [*sequence[: max(0, start)], Hole("params", call), *sequence[end:]]
        return sequence

    # -- what stands around the calls -----------------------------------------------------------------------------

    def _frame(self, calls: _Calls) -> None:
        spoken = self.prober.full(SPOKEN)
        spoken_turn = self.cutter.turn(spoken) if spoken and CONTENT in spoken else None
        self._thought(spoken_turn)
        head = calls.head if not calls.single else calls.opening
        head = self._without_thought(head)
        after = atoms(spoken_turn.partition(CONTENT)[2]) if spoken_turn is not None else None
        closing = self._ends(calls, head, after, spoken)
        if spoken_turn is not None:
            before = self._without_thought(atoms(spoken_turn.partition(CONTENT)[0]))
            self._content(before, closing)
        head = self._lead(calls, head)
        if not calls.single:
            self.frames.section = (text_of(head), text_of(calls.tail))
        else:
            calls.opening[:] = head

    def _thought(self, spoken_turn: str | None) -> None:
        """The frame of a thought, with the switches that make the template write it."""
        for switches in ({}, SWITCHES[0]):
            for turn in (THOUGHT_SPOKEN, THOUGHT_ONE):
                full = self.prober.full(turn, **switches)
                if full is None or THOUGHT not in full[_after_user(full) :]:
                    continue
                if switches:
                    self.cutter.learn(self.prober.full(SPOKEN, **switches), full)
                if self._thought_frame(full, turn, switches):
                    self.out.switches = dict(switches)
                    self.out.has_reasoning = True
                    return
        self._guess_thought(spoken_turn)

    def _thought_frame(self, full: str, turn: Turn, switches: Mapping[str, Any]) -> bool:
        self.cutter.learn(full)
        text = self.cutter.turn(full)
        before_text, found, rest = text.partition(THOUGHT)
        if not found:
            return False
        if not before_text.strip() and self.cutter.give_back():
            before_text, _, rest = self.cutter.turn(full).partition(THOUGHT)
        before = atoms(before_text)
        if turn.content:
            after = atoms(rest.partition(CONTENT)[0]) if CONTENT in rest else atoms(rest)
        else:
            sequence = self._atoms(rest, turn.calls)
            start = _core(sequence, 0)[0]
            after = sequence[:start]
        self._split_thought(before, after, turn, switches)
        return self.frames.reasoning is not None

    def _split_thought(self, before: Atoms, after: Atoms, turn: Turn, switches: Mapping[str, Any]) -> None:
        header = self.cutter.header_run()
        at = find_run(after, header) if header else -1
        if at >= 0:
            self.frames.between_messages = text_of(after[: at + len(header)])
            self.frames.reasoning = text_of(before) + "{{text}}"
            return
        if turn.content:
            plain = self.prober.full(SPOKEN, **switches)
            lead = atoms(self.cutter.turn(plain).partition(CONTENT)[0]) if plain else []
            shared = common_end(after, lead) if not blanks_at_end(lead) == len(lead) else 0
            # What also stands before content without a thought belongs to the content, unless it closes an empty one.
            kept = after[: len(after) - shared]
            if solid(kept) and solid(after[len(kept) :]) and not _contains(solid(lead), solid(before)[-1:]):
                after = kept
        else:
            after = self._closing_before_calls(before, after)
        if solid(after):
            self.frames.reasoning = text_of(before) + "{{text}}" + text_of(after)

    def _closing_before_calls(self, before: Atoms, after: Atoms) -> Atoms:
        """What closes a thought that stands directly before calls."""
        opening = self._opening_of_calls()
        if not (solid(before) and _starts_like(opening, solid(before))):
            return after[: len(after) - common_end(after, opening)]
        marks = [index for index, atom in enumerate(after) if is_marker(atom)]  # an empty thought is always written
        end = marks[0] + 1 if marks else 0
        return after[: end + blanks_at_start(after[end:])]

    def _opening_of_calls(self) -> Atoms:
        one = self.prober.full(ONE)
        sequence = self._atoms(self.cutter.turn(one or ""), ONE.calls)
        return sequence[: _core(sequence, 0)[0]]

    def _guess_thought(self, spoken_turn: str | None) -> None:
        """A template that drops thoughts but whose prompt opens one: the closing is what it cuts content at."""
        if spoken_turn is None or not any(is_marker(atom) for tail in self._tails() for atom in tail):
            return
        for closing in facts_of(self.prober.template.source).markers:
            full = self.prober.full(Turn(content=f"{THOUGHT}{closing}{CONTENT}"))
            if full is None or CONTENT not in full or THOUGHT in full[_after_user(full) :]:
                continue
            opener = self._opener_before(closing)
            line = "\n" if opener.endswith("\n") else ""
            self.frames.reasoning = opener.lstrip() + "{{text}}" + line + closing
            self.out.notes.append(f"thoughts are dropped from messages; the prompt opens one, {closing!r} ends it")
            return

    def _tails(self) -> list[Atoms]:
        """What the prompt holds of the turn, by default and with thinking switched on."""
        return [self.cutter.tail(), *(self.cutter.tail(self.prober.prompt(**switches)) for switches in SWITCHES[:1])]

    def _opener_before(self, closing: str) -> str:
        """What the prompt writes to open a thought that `closing` ends."""
        for _ in range(2):
            openers = [text_of(tail).partition(closing)[0] for tail in self._tails()]
            found = [opener for opener in openers if opener.strip()]
            if found or not self.cutter.give_back():
                return max(found, key=len, default="")
        return ""

    def _without_thought(self, before: Atoms) -> Atoms:
        """The atoms without the empty thought that some templates write in every turn."""
        if self.frames.reasoning is None:
            return before
        opened, _, closed = self.frames.reasoning.partition("{{text}}")
        for literal in (opened + closed, closed):
            wanted = solid(atoms(literal))
            if wanted and _starts_like(before, wanted):
                return _drop_solid(before, len(wanted), atoms(closed))
        return before

    def _content(self, before: Atoms, after: Atoms) -> None:
        if solid(before) or solid(after):
            self.frames.content = text_of(before) + "{{text}}" + text_of(after)
        else:
            self.out.pads = bool(before or after)

    def _lead(self, calls: _Calls, head: Atoms) -> Atoms:
        """What stands between content and calls; returns the head without what belongs to the lead."""
        full = self.prober.full(SPOKEN_ONE)
        if full is None or CONTENT not in full[_after_user(full) :]:
            return head
        turn = self.cutter.turn(full)
        sequence = self._atoms(turn, SPOKEN_ONE.calls)
        before = text_of(sequence[: _core(sequence, 0)[0]])
        if CONTENT not in before:
            self.out.content_behind = True
            self.out.notes.append("content is written behind the calls")
            return head
        if self.frames.between_messages:
            return head
        opening = [] if calls.single else calls.opening
        between = atoms(before.partition(CONTENT)[2])
        between = between[: len(between) - len(opening)] if opening else between
        shared = common_end(between, head)
        if shared < len(solid(head)) and self.frames.between_messages:
            return head
        lead = between[: len(between) - shared]
        own = head[len(head) - shared :]
        if not solid(own) and shared and solid(head):
            return head
        closing = atoms(self.frames.content.partition("{{text}}")[2])
        if solid(closing) and common_start(lead, closing) == len(closing):
            lead = lead[len(closing) :]
        cut = blanks_at_start(own)  # white space next to content separates; it does not belong to the section
        self.frames.lead = text_of([*lead, *own[:cut]])
        return own[cut:] if not solid(head[: len(head) - shared]) else [*head[: len(head) - shared], *own[cut:]]

    def _ends(self, calls: _Calls, head: Atoms, after: Atoms | None, spoken: str | None) -> Atoms:
        """Find the end markers; returns what closes content. What is left in `calls.tail` closes the section."""
        tail = calls.tail
        shared = common_end(after, tail) if after is not None else 0
        closing: Atoms = after or []
        ends: list[Atoms] = []
        if shared and solid(tail[len(tail) - shared :]) and after is not None:
            run = tail[len(tail) - shared :]
            first = next(index for index, atom in enumerate(run) if not blank(atom))
            ends.append(run[first:])
            closing = [*after[: len(after) - shared], *run[:first]]
            tail = tail[: len(tail) - shared]
        elif solid(closing):
            ends.append(closing[blanks_at_start(closing) :])
            closing = closing[: blanks_at_start(closing)]
        section_open = solid(head) and not calls.single
        if len(ends) == 0 or not shared:
            if solid(tail) and not section_open:
                ends.append(tail[blanks_at_start(tail) :])
                tail = tail[: blanks_at_start(tail)] if not calls.single else []
            elif (
                solid(tail)
                and section_open
                and len(solid(tail)) > 1
                and solid(closing) == []
                and after is not None
                and ends
            ):
                last = max((index for index, atom in enumerate(tail) if is_marker(atom)), default=len(tail))
                ends.append(tail[last:])
                tail = tail[:last]
        marks = [mark for run in ends for mark in [_end_marker(run)] if mark]
        for mark in marks:
            at = find_run(tail, atoms(mark))
            if at >= 0:
                tail = tail[:at]
        if not marks and spoken is not None:
            self.out.unended = True
            marks = self._ends_behind()
        if not solid(tail):
            tail = []
        calls.tail = tail[: len(tail) - blanks_at_end(tail)] if tail else tail
        self.frames.ends = self._real_ends(marks)
        return closing

    def _ends_behind(self) -> list[str]:
        """Where the template does not close a turn, the next message's opening ends it."""
        marks: list[str] = []
        for turn, word in ((SPOKEN, CONTENT), (ONE, VALUES[1])):
            text = self.prober.history(turn)
            if text is None or word not in text:
                continue
            behind = text[text.rindex(word) + len(word) :]
            stop = min((at for at in (behind.find(USER_2), behind.find(RESULT)) if at >= 0), default=0)
            plain = self.prober.full(turn) or ""
            own = plain[plain.rindex(word) + len(word) :] if word in plain else ""
            if behind[:stop].startswith(own.rstrip()):
                mark = _end_marker(atoms(behind[len(own.rstrip()) : stop]))
                if is_marker(mark) and mark not in marks:
                    marks.append(mark)
        return marks

    def _real_ends(self, marks: Sequence[str]) -> tuple[str, ...]:
        found: list[str] = []
        for mark in marks:
            real = self.prober.tokens.get("eos_token", "") if mark == EOS else mark
            if real and real not in found and real != BOS:
                found.append(real)
        return tuple(found)

    # -- syntax -----------------------------------------------------------------------------------------------------

    def _syntax(self) -> None:
        full = self.prober.full(TYPES)
        if full is None or self.body is None:
            return
        turn = self.cutter.turn(full)
        if self.body.kind != "params":
            self.fields["syntax"] = syntax_of_body(turn, self.body) or JSON
            return
        values = self._values(turn)
        if values is None:
            self.out.notes.append("values of some types are written in another picture")
            return
        self._types(values)
        self.fields["syntax"] = _value_syntax({key: text for key, (text, _) in values.items()})
        self._wrap()

    def _values(self, turn: str) -> dict[str, tuple[str, Atoms]] | None:
        """The text of every typed parameter's value, and what stands between its key and its value."""
        assert self.param is not None
        opening, core, closing = self.param
        keys = [index for index, atom in enumerate(core) if isinstance(atom, Hole) and atom.kind == "key"]
        value_at = find(core, "value")
        first, after = core[keys[0] + 1 : value_at], core[value_at + 1 :]
        ends = text_of(after) + text_of(closing).rstrip()
        found: dict[str, tuple[str, Atoms]] = {}
        for key in TYPED:
            at = turn.find(key)
            if at < 0:
                return None
            begin = at + len(key)
            stop = turn.find(ends.replace("{{key}}", key), begin) if ends else -1
            if stop < 0:
                return None
            between, cut = _up_to_value(turn[begin:stop], first)
            found[key] = (turn[begin + cut : stop], between)
        return found

    def _types(self, values: Mapping[str, tuple[str, Atoms]]) -> None:
        """A type attribute shows itself by what differs between the types."""
        assert self.param is not None
        spelled = {key: between for key, (_, between) in values.items()}
        texts = {key: text_of(between) for key, between in spelled.items()}
        if len(set(texts.values())) < 2:
            return
        start = common_start(*spelled.values())
        end = min(common_end(*spelled.values()), min(len(run) for run in spelled.values()) - start)
        words = {key: text_of(run[start : len(run) - end]) for key, run in spelled.items()}
        types = {_JSON_TYPES[key]: word for key, word in words.items()}
        opening, core, closing = self.param
        key_at, value_at = find(core, "key"), find(core, "value")
        between = core[key_at + 1 : value_at]
        core = [*core[: key_at + 1], *between[:start], Hole("type"), *between[len(between) - end :], *core[value_at:]]
        self.param = (opening, core, closing)
        common = max(set(types.values()), key=list(types.values()).count)
        compact = {kind: word for kind, word in types.items() if word != common}
        self.fields["types"] = {**compact, "*": common} if len(compact) < len(types) - 1 else types

    def _wrap(self) -> None:
        """A wrapper that is written around texts with certain characters only."""
        probe = f"{VALUES[0]}<{VALUES[1]}&{VALUES[2]}"
        written = self._written(probe)
        if written is None or written == probe or probe not in written:
            return
        self.fields["wrap"] = written.replace(probe, "{{value}}")
        special = [
            char
            for char in "<>&\"'\n"
            if self._written(f"{VALUES[0]}{char}{VALUES[1]}") != f"{VALUES[0]}{char}{VALUES[1]}"
        ]
        self.fields["wrap_when"] = "".join(special)

    def _written(self, value: str) -> str | None:
        """How a text value is written."""
        full = self.prober.full(Turn(calls=((NAMES[0], {KEYS[0]: value}),)))
        if full is None or self.param is None:
            return None
        opening, core, closing = self.param
        before, _, after = text_of([*opening, *core, *closing]).partition("{{value}}")
        before = before.replace("{{key}}", KEYS[0]).replace("{{type}}", (self.fields.get("types") or {}).get("*", ""))
        after = after.rstrip().replace("{{key}}", KEYS[0])
        start = full.find(before.rpartition("{{type}}")[2])
        stop = full.rfind(after)
        return full[start + len(before) : stop] if 0 <= start < stop else None

    # -- the format -------------------------------------------------------------------------------------------------

    def _assemble(self, name: str, calls: _Calls) -> None:
        frames = self.frames
        opening, closing = calls.opening, calls.closing
        if calls.single and calls.tail:
            closing = [*closing, *calls.tail]
            calls.tail = []
        call, id_picture = _as_picture([*opening, *calls.core, *closing])
        fields: dict[str, Any] = {"call": call, **self.fields}
        if self.param is not None:
            start, core, end = self.param
            fields["param"] = text_of([*start, *core, *end])
        if id_picture is not None:
            fields["id"] = id_picture
        if "{{id}}" in call:
            fields["new_id"] = id_picture or (
                "{{index}}" if "{{index" in text_of(calls.core) else self.prober.style.new_id
            )
        if not calls.single:
            fields["section"] = frames.section[0] + "{{calls}}" + text_of(calls.tail)
            fields["between"] = text_of(calls.between)
        fields["prefill"] = self._prefill()
        if frames.between_messages:
            self._unwrap_messages(fields)
        for key in ("lead", "reasoning", "content", "between_messages", "ends"):
            fields[key] = getattr(frames, key)
        self.out.header = self.cutter.header()
        try:
            self.out.format = Format(name, **{key: value for key, value in fields.items() if value is not None})
        except FormatError as error:
            self.out.notes.append(f"what the template writes is no picture: {error}")

    def _prefill(self) -> str:
        """What the prompt holds of the turn; a thought that is closed without having been opened is nothing."""
        text = self.cutter.prefill()
        closing = (self.frames.reasoning or "").partition("{{text}}")[2].strip()
        return "" if closing and text.strip() == closing else text

    def _unwrap_messages(self, fields: dict[str, Any]) -> None:
        """Where calls are messages of their own, what separates messages separates calls."""
        between = fields.get("between", "")
        before = fields.get("section", "{{calls}}").partition("{{calls}}")[0]
        self.frames.lead = ""
        if not between or between.rstrip() == self.frames.between_messages:
            fields["call"] = before + fields["call"]
            fields["between"], fields["section"] = "", "{{calls}}"


_JSON_TYPES = {
    "kwstring": "string",
    "kvinteger": "integer",
    "kunumber": "number",
    "kttrue": "boolean",
    "ksfalse": "boolean",
    "krnull": "null",
    "kqobject": "object",
    "kparray": "array",
    "kotext": "string",
}


def _after_user(text: str) -> int:
    at = text.rfind(USER)
    return at + len(USER) if at >= 0 else 0


# ------------------------------------------------------------------------------------------------- cutting the turn


class _Cutter:
    """Finds where the turn begins in a rendering.

    Behind the user's message, the prompt and a rendering agree up to the header of the turn. Where a thought is opened
    by the prompt, some renderings agree with it further than others, so the shortest agreement counts. Blanks are not
    compared: there are templates that indent one and not the other.
    """

    def __init__(self, prober: Prober, prompt: str) -> None:
        self.prober = prober
        self.prompt = atoms(prompt[_after_user(prompt) :])
        self.before = prompt[: _after_user(prompt)]
        self.trailer: Atoms = []
        self.extra: Atoms = []
        self.agreed = len(solid(self.prompt))
        one, spoken = prober.full(ONE), prober.full(SPOKEN)
        history = prober.history(SPOKEN)
        self.trailer = self._find_trailer(one, spoken, history)
        self.learn(one, spoken, history)
        for switches in SWITCHES:
            self._learn(self._behind_user(prober.prompt(**switches)))
        self._find_extra(one, spoken)

    def _find_trailer(self, one: str | None, spoken: str | None, history: str | None) -> Atoms:
        """What the template appends to every conversation, asked for a generation prompt or not."""
        plain = self.prober.render([self.prober.user()])
        if not (plain and one and spoken and history and CONTENT in history and CONTENT in spoken):
            return []
        sequences = [atoms(text[_after_user(text) :]) for text in (plain, one, spoken)]
        run = sequences[0][len(sequences[0]) - common_end(*sequences) :]
        behind = atoms(history[history.rindex(CONTENT) + len(CONTENT) : history.rindex(USER_2)])
        after = atoms(spoken[spoken.rindex(CONTENT) + len(CONTENT) :])
        ends = common_start(after, behind)
        if ends >= 2 and is_marker(after[ends - 1]) and after[ends - 1] in self.prompt[1:]:
            ends -= 1  # the next message's opening, whoever writes it
        trailer = run[max(0, len(run) - (len(after) - ends)) :]
        return trailer if solid(trailer) else []

    def _rest(self, text: str) -> Atoms:
        """The atoms behind the user's message, without the trailer."""
        sequence = atoms(text[_after_user(text) :])
        size = len(self.trailer)
        return sequence[: len(sequence) - size] if size and sequence[-size:] == self.trailer else sequence

    def learn(self, *texts: str | None) -> None:
        """Take renderings into account that may agree with the prompt for a shorter stretch."""
        for text in texts:
            if text is not None and USER in text:
                self._learn(self._rest(text))

    def _learn(self, sequence: Atoms | None) -> None:
        agreed = common_start(solid(self.prompt), solid(sequence)) if sequence is not None else 0
        if agreed:  # else a switch changed the user's message, which tells nothing about the turn
            self.agreed = min(self.agreed, agreed)

    def _behind_user(self, text: str | None) -> Atoms | None:
        return None if text is None or USER not in text else atoms(text[_after_user(text) :])

    def _find_extra(self, *texts: str | None) -> None:
        """A header that the prompt shows at its very end only, behind something that renderings lack."""
        turns = [atoms(self.turn(text)) for text in texts if text]
        if len(turns) < 2:
            return
        shared = turns[0][: common_start(*turns)]
        tail = solid(self.prompt)[self.agreed :]
        if common_start(tail, solid(shared)):
            return
        for size in range(len(shared), 0, -1):
            if self.prompt[-size:] == shared[:size] and solid(shared[:size]) and is_marker(shared[size - 1]):
                self.extra = shared[:size]
                return

    def turn(self, full: str) -> str:
        """The assistant's turn in a rendering."""
        sequence = self._rest(full)
        at, other = _behind(sequence, self.agreed), _behind(self.prompt, self.agreed)
        while (
            at < len(sequence)
            and other < len(self.prompt)
            and blank(sequence[at])
            and sequence[at] == self.prompt[other]
        ):
            at, other = at + 1, other + 1
        rest = sequence[at:]
        if self.extra and rest[: len(self.extra)] == self.extra:
            rest = rest[len(self.extra) :]
        return text_of(rest)

    def _header_end(self) -> int:
        if self.extra:
            return len(self.prompt)
        at = _behind(self.prompt, self.agreed)
        while at < len(self.prompt) and blank(self.prompt[at]):
            at += 1
        return at

    def header(self) -> str:
        """The prompt up to the turn."""
        return self.before + text_of(self.prompt[: self._header_end()])

    def tail(self, prompt: str | None = None) -> Atoms:
        """What a prompt already holds of the turn: the default one, or one rendered with switches."""
        if prompt is None:
            return self.prompt[self._header_end() :]
        sequence = atoms(prompt[_after_user(prompt) :])
        at = _behind(sequence, self.agreed) if not self.extra else len(sequence)
        while at < len(sequence) and blank(sequence[at]):
            at += 1
        return sequence[at:]

    def prefill(self) -> str:
        """The default tail as text; blanks alone are nothing."""
        text = text_of(self.tail())
        return text if text.strip() else ""

    def header_run(self) -> Atoms:
        """The last marker of the header and the words behind it: how a message of the assistant is opened."""
        behind = self.prompt[: self._header_end()]
        behind = behind[: len(behind) - blanks_at_end(behind)]
        marks = [index for index, atom in enumerate(behind) if is_marker(atom)]
        if not marks:
            return []
        if marks[-1] < len(behind) - 1:
            return behind[marks[-1] :]
        return behind[marks[-2] :] if len(marks) > 1 else []

    def give_back(self) -> bool:
        """Count the header's last marker to the turn: a thought's opening that every rendering shares with the prompt."""
        header = self.prompt[: self._header_end()]
        marks = [index for index, atom in enumerate(header) if is_marker(atom)]
        plain = self.prober.full(SPOKEN)
        if not marks or plain is None or self.turn(plain).lstrip().startswith(CONTENT):
            return False  # content stands directly behind it: it opens the message, not a thought
        self.agreed -= len(solid(header[marks[-1] :]))
        return True


def _behind(sequence: Atoms, count: int) -> int:
    """The index behind the first `count` atoms that are not blank."""
    for index, atom in enumerate(sequence):
        if count == 0:
            return index
        if not blank(atom):
            count -= 1
    return len(sequence)


def _starts_like(sequence: Atoms, wanted: Atoms) -> bool:
    found = solid(sequence)
    return len(found) >= len(wanted) and common_start(found, wanted) >= len(wanted)


def _drop_solid(sequence: Atoms, count: int, closing: Atoms) -> Atoms:
    """Without the first `count` atoms that are not blank, and without the blanks that `closing` ends with."""
    at = _behind(sequence, count)
    for wanted in closing[len(closing) - blanks_at_end(closing) :] if closing else []:
        if at < len(sequence) and sequence[at] == wanted:
            at += 1
    return sequence[at:]


def _contains(sequence: Atoms, run: Atoms) -> bool:
    return find_run(sequence, run) >= 0


def _end_marker(run: Atoms) -> str:
    """The first marker of what ends a turn: a whole one if there is one, else the text up to the first blank."""
    run = run[blanks_at_start(run) :]
    if not run:
        return ""
    if is_marker(run[0]):
        return str(run[0])
    words: list[str] = []
    for atom in run:
        if not isinstance(atom, str) or blank(atom) or (words and is_marker(atom)):
            break
        words.append(atom)
    return "".join(words)


# ------------------------------------------------------------------------------------------------- splitting calls


def _core(sequence: Atoms, call: int) -> tuple[int, int]:
    """From the first hole of a call to behind its last."""
    places = [index for index, atom in enumerate(sequence) if isinstance(atom, Hole) and atom.call == call]
    return (places[0], places[-1] + 1) if places else (len(sequence), len(sequence))


def _param_picture(sequence: Atoms) -> tuple[Atoms, Atoms, Atoms]:
    """Opening, core and closing of one parameter, from a call with two."""
    spots: list[list[int]] = [[], []]
    for index, atom in enumerate(sequence):
        if isinstance(atom, Hole) and atom.kind in ("key", "value"):
            spots[atom.at].append(index)
    (a, b), (c, d) = ((min(spot), max(spot) + 1) for spot in spots)
    others = [index for index, atom in enumerate(sequence) if isinstance(atom, Hole) and atom.kind in ("name", "id")]
    begin = max((index + 1 for index in others if index < a), default=0)
    stop = min((index for index in others if index >= d), default=len(sequence))
    head, gap, tail = sequence[begin:a], sequence[b:c], sequence[d:stop]
    closing = gap[: common_start(gap, tail)]
    shared = min(common_end(head, gap), len(gap) - len(closing))
    opening = gap[len(gap) - shared :]
    closing = gap[: len(gap) - shared]
    return opening, sequence[a:b], closing


def _split(single: Atoms, double: Atoms) -> _Calls:
    """The parts of a turn, from renderings of one call and of two."""
    double = _indexed(double)
    first, second = _core(double, 0), _core(double, 1)
    head, gap, tail = double[: first[0]], double[first[1] : second[0]], double[second[1] :]
    alone = single[_core(single, 0)[1] :]
    closing = gap[: common_start(gap, tail, alone)]
    if not closing and common_start(gap, tail):
        closing = gap[: common_start(gap, tail)]
    shared = min(common_end(head, gap), len(gap) - len(closing))
    opening = gap[len(gap) - shared :]
    between = gap[len(closing) : len(gap) - shared]
    ended = alone[len(closing) :] if common_start(closing, alone) == len(closing) else tail[len(closing) :]
    if len(solid(tail[len(closing) :])) != len(solid(ended)):
        ended = tail[len(closing) :]
    head = head[: len(head) - shared]
    # Blanks belong outside: what a call ends or begins with is the same in every cut then.
    cut = blanks_at_start(opening)
    head, between, opening = [*head, *opening[:cut]], [*between, *opening[:cut]], opening[cut:]
    cut = blanks_at_end(closing)
    moved = closing[len(closing) - cut :]
    closing, between, ended = closing[: len(closing) - cut], [*moved, *between], [*moved, *ended]
    return _Calls(head, opening, double[first[0] : first[1]], closing, between, ended, single=False)


def _indexed(double: Atoms) -> Atoms:
    """Numbers that count the calls become holes."""
    made = list(double)
    first, second = _core(double, 0), _core(double, 1)
    pairs: list[tuple[int, int]] = []
    pairs.extend(zip(range(first[0] - 1, -1, -1), range(second[0] - 1, first[1] - 1, -1), strict=False))
    inner = list(zip(range(*first), range(*second), strict=False))
    for run in (pairs, inner, list(zip(range(first[1], second[0]), range(second[1], len(double)), strict=False))):
        for one, other in run:
            a, b = double[one], double[other]
            if isinstance(a, str) and isinstance(b, str) and a.isdigit() and b.isdigit() and int(b) == int(a) + 1:
                kind = "index" if a == "0" else f"index:{a}"
                made[one], made[other] = Hole(kind, 0), Hole(kind, 1)
            elif isinstance(a, Hole) != isinstance(b, Hole) or (isinstance(a, str) and a != b):
                break
    return made


_NAME_IN_ID = re.compile(r"[^\s<>|\"'{}\[\]()=,]*\{\{name\}\}[^\s<>|\"'{}\[\]()=,]*\{\{index(?::\d+)?\}\}")


def _as_picture(sequence: Atoms) -> tuple[str, str | None]:
    """The picture of a call and the picture of its id, if the id is made of the name."""
    text = text_of(sequence)
    counted = _NAME_IN_ID.search(text)
    id_picture = None
    if counted is not None and "{{id}}" not in text:
        id_picture = counted.group()
        text = text.replace(id_picture, "{{id}}")
    elif "{{id}}" in text and "{{name}}" not in text:
        from toolparse.templates.style import NAMED_ID

        id_picture = NAMED_ID
    text = re.sub(r"(?<=[:])(\s*)([\"'])\{\{(name|id|index)\}\}\2", _unquoted, text)
    return text, id_picture


def _unquoted(match: re.Match[str]) -> str:
    """A quoted name or id as a JSON value: its quotes belong to its spelling."""
    kind = "id" if match.group(3) == "index" else match.group(3)
    return match.group(1) + "{{" + kind + "}}"


# ------------------------------------------------------------------------------------------------------ parameters


def _up_to_value(stretch: str, first: Sequence[Any]) -> tuple[Atoms, int]:
    """What stands between a key and its value, and where the value begins; `first` is how it was for a string."""
    sequence = atoms(stretch)
    wanted = [atom for atom in first if isinstance(atom, str)]
    if sequence[: len(wanted)] == wanted:
        return wanted, len(text_of(wanted))
    # A type attribute differs: agree on what follows it, as far as the string's picture goes.
    start = common_start(sequence, wanted)
    rest = text_of(wanted[start + 1 :])
    at = stretch.find(rest, len(text_of(sequence[:start])))
    if at < 0 or not rest:
        return [], 0
    cut = at + len(rest)
    return atoms(stretch[:cut]), cut


def _value_syntax(written: Mapping[str, str]) -> Syntax:
    """How values other than text are spelled in parameters."""
    container = syntax_of_value(written["kqobject"], TYPED["kqobject"]) or JSON
    words = {"true": written["kttrue"], "false": written["ksfalse"], "null": written["krnull"]}
    if any(not word.isalpha() for word in words.values()):
        return container
    import dataclasses

    return dataclasses.replace(container, **words)
