"""The frames of a turn: thought, content, what separates messages, what ends the turn.

Found by comparing turns with and without each: what stands around a thought and not around content alone belongs to
the thought, what content turns and call turns both end with ends the turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolparse.picture import around
from toolparse.templates.induction.atoms import (
    Atom,
    Atoms,
    atoms,
    bare,
    blank,
    blanks_at_end,
    blanks_at_start,
    common_end,
    common_start,
    find_run,
    is_marker,
    solid,
    text_of,
)
from toolparse.templates.induction.call_bounds import Calls, Reader, core
from toolparse.templates.induction.probe import (
    BOS,
    CONTENT,
    EOS,
    NAMES,
    NOT_THINKING,
    ONE,
    RESULT,
    SPOKEN,
    SPOKEN_ONE,
    THOUGHT,
    THOUGHT_ONE,
    THOUGHT_SPOKEN,
    USER,
    USER_2,
    VALUES,
    Turn,
    after_user,
)
from toolparse.templates.induction.turn_start import behind, closing_of, paired
from toolparse.templates.rendering.environment import facts_of

#: What `eos_token` is, as a rule: for templates that come without a tokenizer.
USUAL_EOS = ("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<eos>")


_THOUGHT_WORD = re.compile("think|thought|reason", re.IGNORECASE)


@dataclass
class Frames:
    """What stands around the calls of a turn.

    `has_reasoning`: the template writes thoughts, with `switches` if need be. `unended`: it does not close a turn.
    `content_behind`: content stands behind the calls. `also_content`: frames of content beside calls or thoughts, where
    those are others. `pads`: white space is written around content. `thought_open`: content is written behind the
    opening of a thought that nothing closes.
    """

    section: tuple[str, str] = ("", "")
    lead: str = ""
    reasoning: str | None = None
    content: str = "{{text}}"
    also_content: list[str] = field(default_factory=list)
    between_messages: str = ""
    ends: tuple[str, ...] = ()
    switches: dict[str, Any] = field(default_factory=dict)
    has_reasoning: bool = False
    unended: bool = False
    content_behind: bool = False
    pads: bool = False
    thought_open: bool = False


def find_frames(reader: Reader, calls: Calls, notes: list[str]) -> Frames:
    """The frames around these calls; cuts what belongs to them off `calls`."""
    finder = _Finder(reader, notes)
    finder.run(calls)
    return finder.found


class _Finder:
    def __init__(self, reader: Reader, notes: list[str]) -> None:
        self.reader = reader
        self.prober = reader.prober
        self.cutter = reader.cutter
        self.notes = notes
        self.found = Frames()
        self.thought_closing: Atoms = []  # between a thought and the header of the next message

    def run(self, calls: Calls) -> None:
        """Thought first: it must be known before content and calls can be told from it."""
        said = CONTENT in (self.prober.full(SPOKEN) or "")
        self._thought(said)
        before, _, after = self.cutter.written(SPOKEN).partition(CONTENT)  # the thought may have moved the cut
        head = self._without_thought(calls.opening if calls.single else calls.head)
        behind_content = atoms(after)
        framed = bool(solid(self._without_thought(atoms(before)))) and not self.found.thought_open
        own = self._closing_of_content(behind_content, head, framed) if said else []
        closing = own + self._ends(calls, head, behind_content[len(own) :] if said else None)
        if said:
            self._content(self._without_thought(atoms(before)), closing)
            head = self._without_empty_content(head)
        self._each_call_a_message(calls)
        if self.found.between_messages:
            self._messages(calls)
            self._beside_thought()
            self._end_what_nothing_opens()
        head = self._lead(calls, head)
        if calls.single:
            calls.opening = head
        else:
            self.found.section = (text_of(head), text_of(calls.tail))

    # -- thoughts ---------------------------------------------------------------------------------------------------

    def _thought(self, said: bool) -> None:
        """The frame of a thought, with the switches that make the template write it."""
        for switches in ({}, *(switches for switches in self.prober.switches if switches is not NOT_THINKING)):
            for turn in (THOUGHT_SPOKEN, THOUGHT_ONE):
                full = self.prober.full(turn, **switches)
                if full is None or THOUGHT not in full[after_user(full) :]:
                    continue
                if switches:
                    self.cutter.learn(self.prober.full(SPOKEN, **switches), full)
                if self._thought_frame(full, turn, switches):
                    self.found.switches = dict(switches)
                    self.found.has_reasoning = True
                    return
        self._guess_thought(said)

    def _thought_frame(self, full: str, turn: Turn, switches: Mapping[str, Any]) -> bool:
        """Read the frame off a rendering that shows a thought."""
        self.cutter.learn(full)
        text = self.cutter.turn(full)
        before_text, found, rest = text.partition(THOUGHT)
        if not found or CONTENT in before_text:  # a thought behind content has its frame where calls follow
            return False
        if not before_text.strip() and self.cutter.give_back(solid(atoms(rest))):
            before_text, _, rest = self.cutter.turn(full).partition(THOUGHT)
        before = atoms(before_text)
        if turn.content:
            after = atoms(rest.partition(CONTENT)[0])
        else:
            sequence = self.reader.atoms(rest, turn.calls)
            after = sequence[: core(sequence, 0)[0]]
        self._split_thought(before, after, turn, switches)
        return self.found.reasoning is not None

    def _split_thought(self, before: Atoms, after: Atoms, turn: Turn, switches: Mapping[str, Any]) -> None:
        """Cut what stands behind a thought: its closing, what separates messages, what belongs to content or calls."""
        header = self.cutter.header_run()
        at = find_run(after, header)
        if at >= 0:
            self.found.between_messages = text_of(after[: at + len(header)])
            self.found.reasoning = text_of(before) + "{{text}}"
            self.thought_closing = after[:at]
            return
        size = len(solid(before))
        if len(solid(after)) > size and paired(solid(before), solid(after)[:size]):
            after = _with_blanks(after, behind(after, size))
        elif turn.content:
            lead = atoms(self.cutter.written(SPOKEN, **switches).partition(CONTENT)[0])
            shared = common_end(after, lead) if solid(lead) else 0
            # What also stands before content without a thought belongs to the content, unless it closes an empty one.
            kept = after[: len(after) - shared]
            if solid(kept) and solid(after[len(kept) :]) and not find_run(solid(lead), solid(before)[-1:]) >= 0:
                after = kept
        else:
            after = self._closing_before_calls(before, after)
        if solid(after):
            held = self.cutter.tail()  # an opening that only the prompt writes
            opening = before if solid(before) or not solid(held) else held
            self.found.reasoning = text_of(opening) + "{{text}}" + text_of(after)

    def _closing_before_calls(self, before: Atoms, after: Atoms) -> Atoms:
        """What closes a thought that stands directly before calls."""
        opening = self.reader.before_calls()
        if not (solid(before) and _starts_like(opening, solid(before))):
            return after[: len(after) - common_end(after, opening)]
        marks = [index for index, atom in enumerate(after) if is_marker(atom)]  # an empty thought is always written
        return _with_blanks(after, marks[0] + 1 if marks else 0)

    def _guess_thought(self, said: bool) -> None:
        """A template that drops thoughts, now or from earlier turns: their closing is what it cuts content at."""
        if not said:
            return
        source = self.prober.template.source
        cut = [mark for mark in facts_of(source).markers if "split" in source or "partition" in source]
        opened = any(is_marker(atom) for tail in self._tails() for atom in tail)
        for closing in (mark for mark in cut if opened or _opening_of(mark)):
            turn = Turn(content=f"{THOUGHT}{closing}{CONTENT}")
            texts = (self.prober.full(turn) or "", self.prober.history(turn) or "")
            if not any(CONTENT in text and THOUGHT not in text[text.find(USER) :] for text in texts):
                continue
            shown = self.cutter.written(SPOKEN).partition(CONTENT)[0]
            own = shown.partition(closing)[0] if closing in shown else ""
            opener = own if own.strip() else self._opener_before(closing)
            line = "\n" if opener.endswith("\n") else ""
            if not opener.strip():
                opener, line = _opening_of(closing) + "\n", "\n"
            if not opener.strip():
                continue
            if own.strip():  # an empty thought is always written
                opener, closing = opener.rstrip() + line, shown[shown.index(closing) :]
            self.found.reasoning = opener.lstrip() + "{{text}}" + line + closing
            self.notes.append(f"thoughts are dropped from messages; {closing!r} ends one")
            return
        self._guess_from_prompt()

    def _guess_from_prompt(self) -> None:
        """A template that never looks at thoughts, but whose prompt opens one, be it to close it at once."""
        self.cutter.give_back_last(_THOUGHT_WORD)
        tails = [solid(tail) for tail in (*self._tails(), self.cutter.tail(self.prober.prompt(**NOT_THINKING)))]
        shown = "".join(self.cutter.written(turn) for turn in (SPOKEN, ONE))
        for tail in tails:
            marks = [str(atom) for atom in tail if is_marker(atom)]
            if not marks or not is_marker(tail[-1]):
                continue
            if len(marks) == 2 and closes(marks[1], marks[0]) and marks[1] not in shown:
                opening = text_of(tail[:-1])
                self.found.reasoning = f"{opening}\n{{{{text}}}}\n{marks[1]}\n\n"
            elif len(marks) == 1 and closing_of(marks[0]) and closing_of(marks[0]) not in shown:
                if marks[0] in shown and not _THOUGHT_WORD.search(marks[0]):
                    continue  # it may as well be a role's header
                self.found.reasoning = f"{text_of(tail)}\n{{{{text}}}}\n{closing_of(marks[0])}\n\n"
            else:
                continue
            self.found.thought_open = marks[0] in shown and len(marks) == 1
            self.notes.append(f"the prompt opens a thought with {marks[0]!r}")
            return

    def _tails(self) -> list[Atoms]:
        """What the prompt holds of the turn, by default and however thinking is switched, but for off."""
        return [self.cutter.tail(text) for switches, text in self.prober.prompts() if switches is not NOT_THINKING]

    def _opener_before(self, closing: str) -> str:
        """What the prompt writes to open a thought that `closing` ends."""
        for _ in range(2):
            openers = [text_of(tail).partition(closing)[0] for tail in self._tails()]
            found = [opener for opener in openers if opener.strip()]
            if found or not self.cutter.give_back([]):
                return max(found, key=len, default="")
        return ""

    def _without_thought(self, before: Atoms) -> Atoms:
        """The atoms without the empty thought that some templates write in every turn."""
        if self.found.reasoning is None:
            return before
        thought = around(self.found.reasoning, "text")
        for literal in (thought.write(""), thought.after):
            wanted = solid(atoms(literal))
            if wanted and _starts_like(before, wanted):
                return _drop_solid(before, len(wanted), atoms(thought.after))
        return before

    def _closing_of_content(self, after: Atoms, head: Atoms, framed: bool) -> Atoms:
        """What closes content also where calls follow.

        `head`: what calls are opened with where no content precedes. `framed`: something opens content.
        """
        sequence = self.reader.atoms(self.cutter.written(SPOKEN_ONE), SPOKEN_ONE.calls)
        first = core(sequence, 0)[0]
        if first == len(sequence) or CONTENT not in text_of(sequence):
            return []  # calls or content are dropped: nothing shows what stands between them
        between = atoms(text_of(sequence[:first]).partition(CONTENT)[2])
        own = after[: common_start(after, between)]
        message = framed or find_run(between[len(own) :], self.cutter.header_run()) >= 0
        if not (solid(after[len(own) :]) or message):
            return []  # it ends the turn, and the calls stand behind that
        return own if solid(own) and not _starts_like(head, solid(own)) else []

    def _without_empty_content(self, head: Atoms) -> Atoms:
        """The atoms without the empty content that some templates write before calls."""
        said = around(self.found.content, "text")
        wanted = solid(atoms(said.write("")))
        return _drop_solid(head, len(wanted), atoms(said.after)) if wanted and _starts_like(head, wanted) else head

    def _content(self, before: Atoms, after: Atoms) -> None:
        """The frame of content, be it white space alone."""
        if self.found.thought_open and self.found.reasoning is not None:
            opening = solid(atoms(around(self.found.reasoning, "text").before))
            before = _drop_solid(before, len(opening), []) if _starts_like(before, opening) else before
            before = before if solid(before) else []
        self.found.content = text_of(before) + "{{text}}" + text_of(after)
        self.found.pads = not solid(before) and not solid(after) and bool(before or after)

    def _lead(self, calls: Calls, head: Atoms) -> Atoms:
        """What stands between content and calls; returns the head without what belongs to the lead."""
        between = self._before_calls_behind_content(calls)
        if between is None or self.found.between_messages:
            return head
        framed = self._without_empty_frame(head, between)
        if framed is not None:
            return framed
        shared = common_end(between, head)
        own, rest = head[len(head) - shared :], head[: len(head) - shared]
        if shared and solid(head) and not solid(own):
            return head
        lead = between[: len(between) - shared]
        if self._framed_beside_calls(lead):
            return head
        closing = atoms(around(self.found.content, "text").after)
        if solid(closing) and common_start(lead, closing) == len(closing):
            lead = lead[len(closing) :]
        cut = blanks_at_start(own)  # white space next to content separates; it does not belong to the section
        written = text_of([*lead, *own[:cut]])
        self.found.lead = "" if any(end in written for end in self.found.ends) else written  # else behind the end
        return [*(rest if solid(rest) else []), *own[cut:]]

    def _without_empty_frame(self, head: Atoms, closing: Atoms) -> Atoms | None:
        """The head without a frame of content that is written beside calls, be it empty; None where there is none."""
        before = self.cutter.written(SPOKEN_ONE).partition(CONTENT)[0]
        own = solid(self._without_thought(atoms(before)))
        frame = [*own, *solid(closing)]
        usual = solid(atoms(around(self.found.content, "text").before))
        if not (own and is_marker(own[0]) and is_marker(frame[-1]) and own != usual and _starts_like(head, frame)):
            return None
        if len(frame) == len(own) or not closes(str(frame[len(own)]), str(own[-1])):
            return None
        self._also(text_of(own) + "{{text}}" + text_of(solid(closing)))
        return _drop_solid(head, len(frame), closing)

    def _framed_beside_calls(self, closing: Atoms) -> bool:
        """Whether content has markers around it beside calls that it does not have alone."""
        before = self.cutter.written(SPOKEN_ONE).partition(CONTENT)[0]
        own = self._without_thought(atoms(before))
        usual = solid(atoms(around(self.found.content, "text").before))
        if not (solid(own) and is_marker(solid(own)[0]) and solid(closing)) or solid(own) == usual:
            return False
        self._also(text_of(own) + "{{text}}" + text_of(closing))
        return True

    def _before_calls_behind_content(self, calls: Calls) -> Atoms | None:
        """What stands between content and the first call's own opening; None where content does not precede calls."""
        sequence = self.reader.atoms(self.cutter.written(SPOKEN_ONE), SPOKEN_ONE.calls)
        if CONTENT not in text_of(sequence):
            return None
        before = text_of(sequence[: core(sequence, 0)[0]])
        if CONTENT not in before:
            self.found.content_behind = True
            self.notes.append("content is written behind the calls")
            return None
        between = atoms(before.partition(CONTENT)[2])
        if calls.single:
            return between
        # A number that counts calls is a hole only where two calls were compared.
        counted = next((at for at, atom in enumerate(calls.core) if not _counts(atom)), 0)
        return between[: len(between) - len(calls.opening) - counted]

    # -- messages ---------------------------------------------------------------------------------------------------

    def _each_call_a_message(self, calls: Calls) -> None:
        """Calls that are separated by what the prompt ends with are messages of their own."""
        between = bare(text_of(calls.between))
        if between and not self.found.between_messages and bare(self.cutter.header()).endswith(between):
            self.found.between_messages = text_of(calls.between)

    def _messages(self, calls: Calls) -> None:
        """Where each kind of message closes in its own way, closings belong to the messages."""
        header = self.cutter.header_run()
        closing = self._before_header(calls.between, header)
        framed = find_run(atoms(self.found.between_messages), header) >= 0 if closing is None else True
        if framed and closing != self.thought_closing:
            self.found.between_messages = text_of(header)
            if self.found.reasoning is not None:
                self.found.reasoning += text_of(self.thought_closing)
            if closing is not None:
                calls.closing = [*calls.closing, *closing]
                calls.between = header
        before, found, after = self.cutter.written(SPOKEN_ONE).partition(CONTENT)
        if not found:
            return
        beside = self._before_header(atoms(after), header, first=True)
        usual = around(self.found.content, "text").before
        if beside is not None and before != usual and NAMES[0] not in before:
            own = text_of(beside) if self.found.between_messages == text_of(header) else ""
            self._also(before + "{{text}}" + own)

    def _beside_thought(self) -> None:
        """The frame of a message of content that follows a thought, where that is another one."""
        if not self.found.has_reasoning:
            return
        behind_thought = self.cutter.written(THOUGHT_SPOKEN, **self.found.switches).partition(THOUGHT)[2]
        between, found, after = behind_thought.partition(CONTENT)
        header = self.cutter.header_run()
        at = find_run(atoms(between), header)
        usual = around(self.found.content, "text")
        if found and at >= 0:
            own = text_of(atoms(between)[at + len(header) :])
            if solid(atoms(own)) != solid(atoms(usual.before)) and after.startswith(usual.after):
                self._also(own + "{{text}}" + usual.after)

    def _also(self, content: str) -> None:
        if content not in self.found.also_content and content != self.found.reasoning:
            self.found.also_content.append(content)

    def _end_what_nothing_opens(self) -> None:
        """What closes a message of content that no marker opens ends it: nothing says that content is open."""
        said = around(self.found.content, "text")
        if said.closing and not said.opening and said.closing not in self.found.ends:
            self.found.ends = (said.closing, *self.found.ends)

    def _before_header(self, run: Atoms, header: Atoms, *, first: bool = False) -> Atoms | None:
        """What stands before the header of the next message, if that is what the run ends with (or holds first)."""
        at = find_run(run, header)
        if at < 0 or (not first and solid(run[at + len(header) :])):
            return None
        return run[:at]

    # -- ends -------------------------------------------------------------------------------------------------------

    def _ends(self, calls: Calls, head: Atoms, after: Atoms | None) -> Atoms:
        """Find the end markers; returns what closes content. What is left in `calls.tail` closes the section."""
        closing, ends = self._split_ends(calls, head, after)
        earlier = self._said_before_the_end(ends)
        marks = [mark for run in ends for mark in [_end_marker(run, earlier)] if mark]
        for mark in marks:
            at = find_run(calls.tail, atoms(mark))
            calls.tail = calls.tail[:at] if at >= 0 else calls.tail
        if not marks and after is not None:
            self.found.unended = True
            marks = self._ends_behind()
        tail = calls.tail if solid(calls.tail) else []
        calls.tail = tail[: len(tail) - blanks_at_end(tail)]
        self.found.ends = self._real_ends(marks)
        return closing

    def _split_ends(self, calls: Calls, head: Atoms, after: Atoms | None) -> tuple[Atoms, list[Atoms]]:
        """What closes content, and what ends a turn: what content turns and call turns have in common at their end.

        Where they have nothing in common, each ends in its own way, and what a call turn closes with is an end unless
        a section was opened.
        """
        tail = calls.tail
        closing: Atoms = after or []
        shared = common_end(closing, tail)
        run = tail[len(tail) - shared :]
        if solid(run):
            first = blanks_at_start(run)
            calls.tail = tail[: len(tail) - shared]
            return [*closing[: len(closing) - shared], *run[:first]], [run[first:]]
        ends: list[Atoms] = []
        if solid(closing):
            cut = blanks_at_start(closing)
            ends.append(closing[cut:])
            closing = closing[:cut]
        section_open = bool(solid(head)) and (not calls.single or _opened_and_closed(head, tail))
        if solid(tail) and not section_open:
            cut = blanks_at_start(tail)
            while cut < len(tail) and tail[cut] in tuple("\"'}])"):
                cut += 1  # what closes a value closes no turn
            ends.append(tail[cut:])
            calls.tail = tail[:cut] if solid(tail[:cut]) else []
        elif len(solid(tail)) > 1 and ends:
            last = max((index for index, atom in enumerate(tail) if is_marker(atom)), default=len(tail))
            ends.append(tail[last:])
            calls.tail = tail[:last]
        return closing, ends

    def _said_before_the_end(self, ends: Sequence[Atoms]) -> str:
        """What turns hold before their ends: an end marker does not occur in it."""
        texts = [self.cutter.written(turn) for turn in (SPOKEN, ONE)]
        closings = [text_of(run) for run in ends]
        return "\n".join(
            text.removesuffix(next((closing for closing in closings if text.endswith(closing)), "")) for text in texts
        )

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
                run = atoms(behind[len(own.rstrip()) : stop])
                mark = self._not_own_header(_end_marker(run), solid(run))
                if mark and mark not in marks:
                    marks.append(mark)
        return marks

    def _not_own_header(self, mark: str, run: Atoms) -> str:
        """A mark that is none of the assistant's own: `<|start|>user` where `<|start|>assistant` goes on."""
        if not is_marker(mark):
            return ""
        header = solid(self.cutter.header_run())
        if not header or mark != header[0]:
            return mark
        shared = common_start(run, header)
        return text_of(run[: shared + 1]) if shared < min(len(run), len(header)) else ""

    def _real_ends(self, marks: Sequence[str]) -> tuple[str, ...]:
        """End markers, the tokenizer's own in place of the sentinel, or the usual ones where there is no tokenizer."""
        found: list[str] = []
        for mark in marks:
            own = self.prober.tokens.get("eos_token", "")
            for real in ((own,) if own else USUAL_EOS) if mark == EOS else (mark,):
                if real not in found and real != BOS and real.strip('{}[]",:'):  # what closes JSON ends no turn
                    found.append(real)
        return tuple(found)


def closes(closing: str, opening: str) -> bool:
    """Whether a marker is made to close another one: `</think>` and `<think>`, `<channel|>` and `<|channel>`."""
    if closing == closing_of(opening):
        return True
    words = [re.sub(r"[^a-z]", "", marker.lower()) for marker in (closing, opening)]
    words = [re.sub(r"^(start|end|begin|close|open)(?=.)|(start|end|begin|close|open)$", "", word) for word in words]
    return words[0] == words[1] and closing != opening and bool(words[0])


def _opened_and_closed(head: Atoms, tail: Atoms) -> bool:
    """Whether what stands behind a call closes what stands before it."""
    opened = [str(atom) for atom in head if is_marker(atom)]
    closed = [str(atom) for atom in tail if is_marker(atom)]
    return bool(opened and closed) and closes(closed[0], opened[-1])


def _opening_of(closing: str) -> str:
    """What opens that which a closing tag closes."""
    return closing.replace("/", "", 1) if closing[1:2] == "/" else ""


def _counts(atom: Atom) -> bool:
    """Whether an atom numbers calls, or stands before the first hole that does not."""
    return isinstance(atom, str) or atom.kind.startswith("index")


def _starts_like(sequence: Atoms, wanted: Atoms) -> bool:
    found = solid(sequence)
    return len(found) >= len(wanted) and common_start(found, wanted) >= len(wanted)


def _with_blanks(sequence: Atoms, end: int) -> Atoms:
    """What stands before `end`, with the blanks behind that."""
    return sequence[: end + blanks_at_start(sequence[end:])]


def _drop_solid(sequence: Atoms, count: int, closing: Atoms) -> Atoms:
    """Without the first `count` atoms that are not blank, and without the blanks that `closing` ends with."""
    at = behind(sequence, count)
    for wanted in closing[len(closing) - blanks_at_end(closing) :] if closing else []:
        if at < len(sequence) and sequence[at] == wanted:
            at += 1
    return sequence[at:]


def _end_marker(run: Atoms, earlier: str = "") -> str:
    """What ends a turn: the first marker, with what follows as far as it takes to be unlike anything `earlier`.

    Where the turn is not closed by a marker, the text up to the first blank.
    """
    run = run[blanks_at_start(run) :]
    if not run:
        return ""
    if is_marker(run[0]):
        for end in range(1, len(run) + 1):
            text = text_of(run[:end])
            if is_marker(run[end - 1]) and text not in earlier:
                return text
        return str(run[0])
    words: list[str] = []
    for atom in run:
        if not isinstance(atom, str) or blank(atom) or (words and is_marker(atom)):
            break
        words.append(atom)
    return "".join(words)
