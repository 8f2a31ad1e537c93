"""The tokens between a sampled turn and the next prompt.

Nothing that was sampled is ever rendered again. What has to be known is only the text that the chat template
writes
*after* the end of an assistant's turn: the tool messages and the next generation prompt. It is taken from a
render of a small synthetic conversation with the turn's real tool names, ids, count and tools::

    user, assistant(the turn's calls), tool(answer 1), ..., tool(answer n)   + generation prompt

in which every argument and every answer is a sentinel. Behind the last argument comes the end-of-turn token,
behind that the bridge: the template's own text (``scaffold``) with holes where the answers stand. Because
the base is synthetic, it doesn't matter what the template does to earlier turns (strips reasoning, say), nor
whether the model's text could be rendered at all.

A bridge is used only if it is proved: each answer's sentinel stands there once and in order, and a longer
conversation that ends in the same turn ends in the same text. Otherwise it is refused (``BridgeRefused``)
with the reason.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolparse.templates.induction.message_style import MessageStyle as DetectedStyle

from .encoding import Encoder, Piece
from .transcript import Author, Segment

__all__ = ["Bridge", "BridgeCall", "BridgeRefused", "ForeignStop", "MessageStyle"]


class BridgeRefused(Exception):
    """No bridge can be proved for this template and these messages; the message says why."""


class ForeignStop(Exception):
    """The turn ended on a token that the template doesn't write at the end of such a turn."""


@dataclass(frozen=True, slots=True)
class BridgeCall:
    """What the bridge has to know about a call: the name as the model wrote it, and its id if the text
    carries one.
    """

    name: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class MessageStyle:
    """How a template wants its messages; found by trying.

    ``arguments``: "dict" or "string". ``empty``: what stands for no content beside calls: "", None, "absent"
    or
    "parts". ``ids``: form of call ids that the text doesn't carry: "nine" (nine letters and digits) or
    "functions" (``functions.name:index``). ``answers``: a tool message's content: "text", "parts", or
    "output" (a list of objects with ``output``). ``tools``: "openai", "flat" or "nested". ``extra``: whether
    firefunction's variables are given. ``text``: other content, "text" or "parts". ``calls``: "native", or
    "content" for templates that answer tool messages but don't write an assistant's calls: the turn is then
    one with content.
    """

    arguments: str = "dict"
    empty: str | None = ""
    ids: str = "nine"
    answers: str = "text"
    tools: str = "openai"
    extra: bool = False
    text: str = "text"
    calls: str = "native"


_CHOICES: dict[str, tuple[Any, ...]] = {
    "arguments": ("string",),
    "empty": ("parts", None, "absent"),
    "ids": ("functions",),
    "answers": ("parts", "output"),
    "tools": ("flat", "nested"),
    "extra": (True,),
    "text": ("parts",),
}


def _from_detected(found: Any) -> MessageStyle | None:
    """The style that ``toolparse`` found for an assistant's messages; how answers look is still tried."""
    if found is None:
        return None
    empty: dict[str, str | None] = {"empty": "parts" if found.parts else "", "null": None, "absent": "absent"}
    return MessageStyle(
        arguments=found.arguments,
        empty=empty[found.content],
        ids="functions" if "{{name}}" in found.new_id else "nine",
        answers="parts" if found.parts else "text",
        tools=found.tools,
        extra="functions" in found.variables,
        text="parts" if found.parts else "text",
    )


def _styles() -> Iterator[MessageStyle]:
    """The default style, then one setting changed at a time, then two, then three."""
    yield MessageStyle()
    for count in (1, 2, 3):
        for names in itertools.combinations(_CHOICES, count):
            for values in itertools.product(*(_CHOICES[name] for name in names)):
                yield MessageStyle(**dict(zip(names, values, strict=True)))


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """What follows the last argument of a turn's calls (or the content of a turn without calls).

    ``closing`` is the text from the last sentinel of the turn to the first answer. ``between`` are the texts
    after each answer; the last of them holds the next generation prompt.
    """

    style: MessageStyle
    closing: str
    between: tuple[str, ...]
    earlier: int


@dataclass(slots=True)
class Bridge:
    """Makes and proves bridges for one tokenizer and chat template.

    Args:
        tokenizer: A tokenizer or processor with a chat template.
        parser: The parser of the same tokenizer; used to find where the last call of a turn ends in
        templates that
            have no end-of-turn token there. Made from the tokenizer when left out.
        chat_template: A template to use instead of the tokenizer's own.
        template_kwargs: Variables for the template, as given for the prompts (``enable_thinking``, say).
        eos_ids: Ids on which the engine stops anyway.
    """

    tokenizer: Any
    parser: Any = None
    chat_template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    eos_ids: Iterable[int] = ()
    _encoder: Encoder = field(init=False)
    _plain: Any = field(init=False)
    _skeletons: dict[Any, _Skeleton | BridgeRefused] = field(init=False, default_factory=dict)
    _style: MessageStyle | None = field(init=False, default=None)
    # The style of templates for which only a turn shown as content could be proved.
    _content_style: MessageStyle | None = field(init=False, default=None)
    _ends: dict[MessageStyle, tuple[int, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._plain = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        self._encoder = Encoder(self._plain)
        eos = [i for i in (*self.eos_ids, self._plain.eos_token_id) if i is not None]
        self.eos_ids = tuple(dict.fromkeys(eos))

    # -- public --------------------------------------------------------------------------------------------

    @property
    def encoder(self) -> Encoder:
        """How this bridge encodes text."""
        return self._encoder

    def between(
        self,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        stop: int | None,
        tail: str = "",
        earlier: int = 0,
    ) -> list[Segment]:
        """The segments to inject between a turn and the next sample.

        Args:
            calls: The calls of the turn, in order; empty for a turn without calls.
            answers: The messages that follow: one tool message per call, in order, then any others.
            ``content`` is text. tools: OpenAI-style schemas, as given for the prompt.
            stop: The stop token that the model sampled at the end of the turn, or None if it was stopped
            otherwise (a
                stop string): then the end-of-turn token is part of the bridge.
            tail: The end of the turn's text, needed only when ``stop`` is None: what the model already wrote
            of the
                call's closing marker isn't written again.
            earlier: Rounds of calls and answers before this turn. Most templates don't care; DeepSeek V3's
            opens its
                block of answers only in the first round, and what it writes is what the model is shown later.

        Raises ``ForeignStop`` if the template doesn't end such a turn with ``stop``, ``BridgeRefused`` if no
        bridge can be proved.
        """
        skeleton = self._skeleton(calls, answers, tools, earlier)
        before = self._after_stop(skeleton, calls, tools, stop, tail)
        pieces = [Piece(before, Author.SCAFFOLD)]
        written = self._written(skeleton, calls, answers, tools)
        for text, following in zip(written, skeleton.between, strict=True):
            pieces += [Piece(text, Author.TOOL), Piece(following, Author.SCAFFOLD)]
        anchor = stop if stop is not None else self._canonical_stop(skeleton, calls, tools)
        segments = self._encoder.encode(pieces, anchor if anchor in self._encoder.added_ids else None)
        if not segments:
            raise BridgeRefused("the template writes nothing between this turn and the next")
        return segments

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Ids of a prompt: the messages and the generation prompt, in the style that the template wants."""
        text = self.render_conversation(messages, tools, generation_prompt=True)
        return list(self._plain(text, add_special_tokens=False)["input_ids"])

    def render_conversation(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        generation_prompt: bool = False,
    ) -> str:
        """Messages of a data set as the template writes them, in the style that it wants."""
        style = (
            self._style
            or self._content_style
            or _from_detected(getattr(self.parser, "style", None))
            or self._text_style()
        )
        shown = [_restyled(message, style) for message in messages]
        return self.render(shown, tools, style=style, generation_prompt=generation_prompt)

    def _text_style(self) -> MessageStyle:
        """Whether content is text or a list of parts, for templates that never write calls."""
        if self._content_style is None:
            for form in ("text", "parts"):
                style = MessageStyle(text=form, answers=form)
                talk = [
                    {"role": "user", "content": _parts(_QUESTION, form)},
                    {"role": "assistant", "content": _parts(_CONTENT, form)},
                ]
                try:
                    text = self.render(talk, (), style=style)
                    if _QUESTION in text and _CONTENT in text:
                        self._content_style = style
                        break
                except BridgeRefused:
                    continue
        return self._content_style or MessageStyle()

    def stop_ids(self, tools: Sequence[Mapping[str, Any]] = ()) -> tuple[int, ...]:
        """Every token that ends an assistant's turn: the engine's and the template's own.

        Some templates end a turn with calls by the token that opens the tool's turn (GLM's
        ``<|observation|>``, Gemma 4's ``<|tool_response>``). An engine that doesn't stop there lets the
        model invent the result.
        """
        found = list(self.eos_ids)
        names = [str(t.get("function", t).get("name")) for t in tools[:1]]
        for calls in ([BridgeCall(names[0])] if names else [], []):
            answers = _placeholder_answers(calls)
            try:
                skeleton = self._skeleton(calls, answers, tools)
            except BridgeRefused:
                continue
            stop = self._canonical_stop(skeleton, calls, tools)
            if stop is not None:
                found.append(stop)
        return tuple(dict.fromkeys(found))

    def check(self, tools: Sequence[Mapping[str, Any]], *, calls: int = 1) -> None:
        """Prove the bridge for ``calls`` calls of the given tools; raises ``BridgeRefused`` with the
        reason.
        """
        names = [str(tool.get("function", tool).get("name")) for tool in tools] or ["tool"]
        turn = [BridgeCall(names[i % len(names)]) for i in range(calls)]
        skeleton = self._skeleton(turn, _placeholder_answers(turn), tools)
        if self._canonical_stop(skeleton, turn, tools) is None:
            raise BridgeRefused("the template writes no end-of-turn token after calls, so a turn's end can't be found")

    # -- the parts of a bridge -----------------------------------------------------------------------------

    def _after_stop(
        self,
        skeleton: _Skeleton,
        calls: Sequence[BridgeCall],
        tools: Sequence[Mapping[str, Any]],
        stop: int | None,
        tail: str,
    ) -> str:
        closing = skeleton.closing
        if stop is not None:
            spelling = self._encoder.spelling(stop)
            at = closing.find(spelling) if spelling else -1
            if at < 0:
                raise ForeignStop(f"the turn ended on {spelling!r}, which this template doesn't write there")
            return closing[at + len(spelling) :]
        canonical = self._canonical_stop(skeleton, calls, tools)
        if canonical is None:
            raise BridgeRefused(
                "the turn was stopped without an end-of-turn token, and the template shows none to put there"
            )
        at = closing.find(self._encoder.spelling(canonical))
        # What the model already wrote of the text before the end-of-turn token: the longest end of its turn
        # that is found there. (The text begins with the end of an argument, which may look otherwise in the
        # model's own call.)
        before = closing[:at]
        best = (0, 0)
        for end in range(1, at + 1):
            for length in range(1, end + 1):
                if not tail.endswith(before[end - length : end]):
                    break
                if before[end - length : end].strip() and (length, end) > best:
                    best = (length, end)
        return closing[best[1] if best[0] else at :]

    def _canonical_stop(
        self, skeleton: _Skeleton, calls: Sequence[BridgeCall], tools: Sequence[Mapping[str, Any]]
    ) -> int | None:
        """The token that ends such a turn in the template.

        The first known end in the text after the turn's last argument; where there is none (the template
        goes straight on to the tool's turn), the first marker after the end of the call.
        """
        closing = skeleton.closing
        known = [(closing.find(self._encoder.spelling(i)), i) for i in self._known_ends(skeleton.style)]
        found = [(at, i) for at, i in known if at >= 0]
        if found:
            return min(found)[1]
        native = bool(calls) and skeleton.style.calls == "native"
        return self._first_marker(closing, self._call_end(skeleton, calls, tools) if native else 0)

    def _first_marker(self, text: str, start: int = 0) -> int | None:
        markers = [
            (at, -len(spelling), token)
            for spelling, token in self._encoder.added.items()
            if (at := text.find(spelling, start)) >= 0
        ]
        return min(markers)[2] if markers else None

    def _known_ends(self, style: MessageStyle) -> tuple[int, ...]:
        """Engine's eos ids, the format's declared ends that are single tokens, the end of a turn without
        calls.
        """
        if style not in self._ends:
            ends = list(self.eos_ids)
            for text in getattr(getattr(self.parser, "format", None), "ends", None) or ():
                token = self._encoder.added.get(str(text))
                if token is not None:
                    ends.append(token)
            try:
                answers = _placeholder_answers(())
                marks = _sentinels("answer", 1)
                text = self._render_turn(style, (), answers, marks, ())
                plain = self._dissect(style, text, (), marks)
            except BridgeRefused:
                plain = None
            token = self._first_marker(plain.closing) if plain is not None else None
            if token is not None:
                ends.append(token)
            self._ends[style] = tuple(dict.fromkeys(ends))
        return self._ends[style]

    def _call_end(self, skeleton: _Skeleton, calls: Sequence[BridgeCall], tools: Sequence[Mapping[str, Any]]) -> int:
        """Where the last call ends in the text after its last argument.

        With two calls, what stands after the first one's argument begins with the same closing text.
        """
        pair = [calls[-1], calls[-1]]
        if calls[-1].id is not None:
            pair = [calls[-1], BridgeCall(calls[-1].name)]
        answers = _placeholder_answers(pair)
        try:
            text = self._render_turn(skeleton.style, pair, answers, _sentinels("answer", 2), tools)
        except BridgeRefused:
            return self._parsed_call_end(skeleton, calls, tools)
        first = text.rfind(_ARGUMENT.format(0))
        second = text.find(_ARGUMENT.format(1), max(first, 0))
        if first < 0 or second < 0:
            return 0
        inner = text[first + len(_ARGUMENT.format(0)) : second]
        end = 0
        while end < min(len(inner), len(skeleton.closing)) and inner[end] == skeleton.closing[end]:
            end += 1
        # Not in the middle of a marker: different markers may begin alike.
        for marker in self._encoder.added:
            for at in range(max(0, end - len(marker) + 1), end):
                if skeleton.closing.startswith(marker, at) and at + len(marker) > end:
                    end = at
        return end

    def _parsed_call_end(
        self, skeleton: _Skeleton, calls: Sequence[BridgeCall], tools: Sequence[Mapping[str, Any]]
    ) -> int:
        """The same for templates that show one call only: there the parser says where it ends."""
        if self.parser is None:
            return 0
        single = calls[-1:]
        answers = _placeholder_answers(single)
        mark = _sentinels("answer", 1)[0]
        question = {"role": "user", "content": _parts(_QUESTION, skeleton.style.text)}
        try:
            prompt = self.render([question], tools, style=skeleton.style, generation_prompt=True)
            text = self._render_turn(skeleton.style, single, answers, [mark], tools)
            start = self._turn_start(skeleton.style, text, single)
        except BridgeRefused:
            return 0
        if not text.startswith(prompt):
            return 0
        parsed = self.parser.parse(text[len(prompt) : text.find(mark)])
        ends = [call.span.end for call in parsed.tool_calls if call.span is not None]
        return max(0, len(prompt) + ends[0] - start) if ends else 0

    def _written(
        self,
        skeleton: _Skeleton,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
    ) -> list[str]:
        """The answers as the template writes them: most write them verbatim, some escape or trim them."""
        contents = [str(answer["content"]) for answer in answers]
        marks = _sentinels("answer", len(answers))
        style = skeleton.style
        history = ("round",) * skeleton.earlier
        real = self._render_turn(style, calls, answers, contents, tools, history)
        tail = "".join(itertools.chain(*zip(contents, skeleton.between, strict=True)))
        if real.endswith(skeleton.closing + tail):
            return contents
        out: list[str] = []
        for index, content in enumerate(contents):
            mixed = [*marks[:index], content, *marks[index + 1 :]]
            text = self._render_turn(style, calls, answers, mixed, tools, history)
            head = skeleton.closing + "".join(
                itertools.chain(*zip(marks[:index], skeleton.between[:index], strict=True))
            )
            foot = skeleton.between[index] + "".join(
                itertools.chain(*zip(marks[index + 1 :], skeleton.between[index + 1 :], strict=True))
            )
            # The turn's own sentinel ends where `head` begins; the head may occur again inside of the
            # content.
            start = text.find(head, self._turn_start(style, text, calls))
            if start < 0 or not text.endswith(foot) or start + len(head) > len(text) - len(foot):
                raise BridgeRefused(
                    f"the template writes something else around answer {index + 1} because of its content"
                )
            out.append(text[start + len(head) : len(text) - len(foot)])
        return out

    # -- proving -------------------------------------------------------------------------------------------

    def _skeleton(
        self,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        earlier: int = 0,
    ) -> _Skeleton:
        shape = tuple((a["role"], a.get("name"), a.get("tool_call_id")) for a in answers)
        # Depths beyond a few rounds aren't told apart: what templates keep track of is "the first one".
        earlier = min(earlier, _DEPTH)
        key = (tuple(calls), shape, json.dumps(list(tools), sort_keys=True, default=str), earlier)
        if key not in self._skeletons:
            if len(self._skeletons) > 4096:
                self._skeletons.clear()
            try:
                self._skeletons[key] = self._prove(calls, answers, tools, earlier)
            except BridgeRefused as refusal:
                self._skeletons[key] = refusal
        found = self._skeletons[key]
        if isinstance(found, BridgeRefused):
            raise BridgeRefused(str(found))
        return found

    def _prove(
        self,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        earlier: int = 0,
    ) -> _Skeleton:
        reasons: list[str] = []
        detected = _from_detected(getattr(self.parser, "style", None))
        styles = [style for style in (self._style, detected) if style is not None]
        for style in [*styles, *_styles()]:
            try:
                skeleton = self._prove_style(style, calls, answers, tools, earlier)
            except BridgeRefused as refusal:
                reasons.append(str(refusal))
                continue
            if self._style is None and calls:
                self._style = style
            return skeleton
        if calls:
            for text_form in ("text", "parts"):
                style = MessageStyle(calls="content", text=text_form, answers=text_form)
                try:
                    skeleton = self._prove_style(style, calls, answers, tools, earlier)
                    self._agrees_with_native(skeleton, calls, tools, earlier)
                except BridgeRefused:
                    continue
                self._content_style = style
                return skeleton
        # The default style's reason is the one a person expects to read; a template's own words come first.
        spoken = [reason for reason in reasons if "the template says" in reason]
        raise BridgeRefused((spoken or reasons)[0])

    def _agrees_with_native(
        self,
        skeleton: _Skeleton,
        calls: Sequence[BridgeCall],
        tools: Sequence[Mapping[str, Any]],
        earlier: int,
    ) -> None:
        """A turn shown as content is good enough only if, for one call, it makes no difference to what
        follows.
        """
        single = calls[:1]
        answers = _placeholder_answers(single)
        native = self._style or MessageStyle()
        try:
            real = self._prove_style(native, single, answers, tools, earlier)
        except BridgeRefused:
            if len(calls) > 1:
                self._skeleton(single, answers, tools, earlier)
            return
        plain = self._prove_style(skeleton.style, single, answers, tools, earlier)
        stop = self._canonical_stop(real, single, tools)
        if stop is None or stop != self._canonical_stop(plain, single, tools):
            raise BridgeRefused("a turn with calls ends differently from one without")
        spelling = self._encoder.spelling(stop)
        if (real.closing.partition(spelling)[2], real.between) != (
            plain.closing.partition(spelling)[2],
            plain.between,
        ):
            raise BridgeRefused("what follows a turn with calls differs from what follows one without")

    def _prove_style(
        self,
        style: MessageStyle,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        earlier: int = 0,
    ) -> _Skeleton:
        marks = _sentinels("answer", len(answers))

        def dissected(history: Sequence[str]) -> _Skeleton:
            text = self._render_turn(style, calls, answers, marks, tools, history)
            return self._dissect(style, text, calls, marks, earlier)

        first = dissected(())
        # The same turn at the end of longer conversations must be followed by the same text.
        if calls and dissected(("round",)) == first == dissected(("round", "talk")):
            return first
        if not calls and dissected(("talk",)) == first:
            return first
        # A template that keeps count: then the same depth must give the same text, however it was reached.
        exact = dissected(("round",) * earlier)
        if calls and exact == dissected(("talk", *(("round", "talk") * earlier))):
            return exact
        raise BridgeRefused("what follows a turn depends on the turns before it")

    def _turn_start(self, style: MessageStyle, text: str, calls: Sequence[BridgeCall]) -> int:
        """Where the last sentinel of the turn ends."""
        native = bool(calls) and style.calls == "native"
        last = _ARGUMENT.format(len(calls) - 1) if native else _CONTENT
        at = text.rfind(last)
        if at < 0:
            raise BridgeRefused(
                "the template doesn't write the arguments of a call"
                if native
                else "the template doesn't write an assistant's text"
            )
        return at + len(last)

    def _dissect(
        self,
        style: MessageStyle,
        text: str,
        calls: Sequence[BridgeCall],
        marks: Sequence[str],
        earlier: int = 0,
    ) -> _Skeleton:
        for index in range(len(calls) if style.calls == "native" else 0):
            if _ARGUMENT.format(index) not in text:
                raise BridgeRefused(
                    f"the template drops call {index + 1} of {len(calls)}"
                    if index
                    else "the template doesn't write the arguments of a call"
                )
        start = self._turn_start(style, text, calls)
        at = start
        cuts: list[tuple[int, int]] = []
        for index, mark in enumerate(marks):
            if text.count(mark, text.rfind(_QUESTION)) != 1:
                times = text.count(mark, text.rfind(_QUESTION))
                raise BridgeRefused(f"the template writes answer {index + 1} {times} times, not once")
            found = text.find(mark, at)
            if found < 0:
                raise BridgeRefused("the template writes an answer before the end of the turn, or out of order")
            cuts.append((found, found + len(mark)))
            at = found + len(mark)
        closing = text[start : cuts[0][0]] if cuts else text[start:]
        ends = [*(a for a, _ in cuts[1:]), len(text)]
        between = tuple(text[b:e] for (_, b), e in zip(cuts, ends, strict=True))
        return _Skeleton(style, closing, between, earlier)

    # -- rendering -----------------------------------------------------------------------------------------

    def _render_turn(
        self,
        style: MessageStyle,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        contents: Sequence[str],
        tools: Sequence[Mapping[str, Any]],
        history: Sequence[str] = (),
    ) -> str:
        """The synthetic conversation.

        ``history`` says what comes before the turn: "round" for a turn of the same shape with its answers,
        "talk" for an answer of the model and a further question.
        """
        question = {"role": "user", "content": _parts(_QUESTION, style.text)}
        messages: list[dict[str, Any]] = [question]
        for index, kind in enumerate(history):
            if kind == "round" and calls:
                messages += self._turn_messages(style, calls, answers, contents, f"e{index}")
            else:
                messages += [{"role": "assistant", "content": _parts("Done.", style.text)}, question]
        messages += self._turn_messages(style, calls, answers, contents, "")
        return self.render(messages, tools, style=style, generation_prompt=True)

    @staticmethod
    def _turn_messages(
        style: MessageStyle,
        calls: Sequence[BridgeCall],
        answers: Sequence[Mapping[str, Any]],
        contents: Sequence[str],
        suffix: str,
    ) -> list[dict[str, Any]]:
        ids = [_call_id(style, call, index) for index, call in enumerate(calls)]
        turn: dict[str, Any] = {"role": "assistant"}
        if calls and style.calls == "native":
            if style.empty != "absent":
                turn["content"] = [{"type": "text", "text": ""}] if style.empty == "parts" else style.empty
            turn["tool_calls"] = [
                {
                    "id": ids[index],
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": _arguments(style, _ARGUMENT.format(index) + suffix),
                    },
                }
                for index, call in enumerate(calls)
            ]
        else:
            turn["content"] = _parts(_CONTENT + suffix, style.text)
        messages = [turn]
        for index, (answer, content) in enumerate(zip(answers, contents, strict=True)):
            message = {k: copy.deepcopy(v) for k, v in answer.items() if k != "content"}
            shown = f"Qearlier{index}" if suffix else content
            if answer["role"] == "tool":
                if index < len(calls):
                    message.setdefault("name", calls[index].name)
                    message["tool_call_id"] = ids[index]
                message["content"] = [{"output": shown}] if style.answers == "output" else _parts(shown, style.answers)
            else:
                message["content"] = _parts(shown, style.text)
            messages.append(message)
        return messages

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        style: MessageStyle | None = None,
        generation_prompt: bool = False,
    ) -> str:
        """The template's text for the messages; a template that refuses them raises ``BridgeRefused``."""
        style = style or self._style or MessageStyle()
        shown = [copy.deepcopy(dict(tool)) for tool in tools]
        if style.tools == "flat":
            shown = [tool.get("function", tool) for tool in shown]
        elif style.tools == "nested":
            shown = DetectedStyle(tools="nested").tool_definitions(shown)
        extra: dict[str, Any] = {}
        if style.extra:
            extra = {"functions": json.dumps(shown), "datetime": "2024-01-01"}
        if self.chat_template is not None:
            extra["chat_template"] = self.chat_template
        try:
            text = self.tokenizer.apply_chat_template(
                [copy.deepcopy(dict(message)) for message in messages],
                # Some templates write their tool section for an empty list.
                tools=shown or None,
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **{**self.template_kwargs, **extra},
            )
        except Exception as error:  # noqa: BLE001 - templates are programs of strangers and raise anything
            said = type(error).__name__ == "TemplateError"
            detail = f"{error}" if said else f"{type(error).__name__}: {error}"
            said_by = "the template says" if said else "the template can't render this turn"
            raise BridgeRefused(f"{said_by}: {' '.join(detail.split())[:300]}") from None
        return str(text)


_DEPTH = 3

# Sentinels: words that no template contains, without characters that a template would escape, trim or split.
_QUESTION = "Qquestionzq"
_CONTENT = "Qcontentzq"
_ARGUMENT = "Qargument{}zq"
_KEY = "text"


def _sentinels(kind: str, count: int) -> list[str]:
    return [f"Q{kind}{index}zq" for index in range(count)]


def _placeholder_answers(calls: Sequence[BridgeCall]) -> list[dict[str, Any]]:
    if not calls:
        return [{"role": "user", "content": "x"}]
    return [{"role": "tool", "name": call.name, "content": "x"} for call in calls]


def _restyled(message: Mapping[str, Any], style: MessageStyle) -> dict[str, Any]:
    """A message of a data set as the template wants it; only what the style is about is changed."""
    out = copy.deepcopy(dict(message))
    form = style.answers if out.get("role") == "tool" else style.text
    content = out.get("content")
    if isinstance(content, str):
        if out.get("role") == "assistant" and out.get("tool_calls") and not content:
            out["content"] = [{"type": "text", "text": ""}] if style.empty == "parts" else style.empty
            if style.empty == "absent":
                del out["content"]
        elif form == "output":
            out["content"] = [{"output": content}]
        else:
            out["content"] = _parts(content, form)
    for call in out.get("tool_calls") or ():
        function = call.get("function", call)
        arguments = function.get("arguments")
        if style.arguments == "string" and isinstance(arguments, Mapping):
            function["arguments"] = json.dumps(arguments, ensure_ascii=False)
        elif style.arguments == "dict" and isinstance(arguments, str):
            try:
                function["arguments"] = json.loads(arguments)
            except ValueError:
                continue
    return out


def _parts(text: str, form: str) -> Any:
    return [{"type": "text", "text": text}] if form == "parts" else text


def _arguments(style: MessageStyle, value: str) -> Any:
    arguments = {_KEY: value}
    return json.dumps(arguments) if style.arguments == "string" else arguments


def _call_id(style: MessageStyle, call: BridgeCall, index: int) -> str:
    if call.id is not None:
        return call.id
    return f"functions.{call.name}:{index}" if style.ids == "functions" else f"call{index:05d}"
