"""The tokens between a sampled turn and the next prompt.

Nothing that was sampled is ever rendered again. What has to be known is only the text that the chat template writes
*after* the end of an assistant's turn: the tool messages and the next generation prompt. It is taken from a render of
a small synthetic conversation with the turn's real tool names, ids and count::

    user, assistant(the turn's calls), tool(answer 1), ..., tool(answer n)   + generation prompt

in which every argument and every answer is a sentinel. Behind the last argument comes the end-of-turn token, behind
that the bridge: the template's own text (``scaffold``) with holes where the answers stand. Because the base is
synthetic, it doesn't matter what the template does to earlier turns (strips reasoning, say), nor whether the model's
text could be rendered at all.

A bridge is used only if it is proved: each answer's sentinel stands there once and in order, and a longer
conversation that ends in the same turn ends in the same text. Otherwise it is refused (``BridgeRefused``) with the
reason. That is proved once per shape of a turn (how many calls, which of them name the same tool); what other names
and ids write is then compared with what was proved.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .encoding import Encoder, Piece
from .messages import ARGUMENT, CONTENT, QUESTION, BridgeCall, BridgeRefused, Form, Renderer, sentinels, text_of
from .transcript import Author, Segment
from .turn_end import TurnEnds

__all__ = ["Bridge", "BridgeCall", "BridgeRefused", "ForeignStop"]

#: Depths beyond a few rounds aren't told apart: what templates keep track of is "the first one".
_DEPTH = 3
_KEPT = 4096


class ForeignStop(Exception):
    """The turn ended on a token that the template doesn't write at the end of such a turn."""


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """What follows the last argument of a turn's calls (or the content of a turn without calls).

    ``closing`` is the text from the last sentinel of the turn to the first answer. ``between`` are the texts after
    each answer; the last of them holds the next generation prompt. ``earlier`` are the rounds of calls that must stand
    before the turn for it to be so: none, but for templates that keep count. ``tools`` are enough of the tools to
    render the turn with: all of them give the same text. ``offer`` is which of ``_offers`` they are.
    """

    form: Form
    closing: str
    between: tuple[str, ...]
    earlier: int = 0
    tools: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)
    offer: int = field(default=-1, compare=False)
    stop: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A turn and what follows it: its calls, the answers, the tools that were offered, and the rounds before it."""

    calls: Sequence[BridgeCall]
    answers: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]]
    earlier: int = 0

    @classmethod
    def placeholder(cls, calls: Sequence[BridgeCall], tools: Sequence[Mapping[str, Any]], earlier: int = 0) -> _Asked:
        """With some answers to these calls, or a user's message behind a turn without calls."""
        answers = [{"role": "tool", "name": call.name, "content": "x"} for call in calls]
        return cls(calls, answers or [{"role": "user", "content": "x"}], tools, earlier)


class Bridge:
    """Makes and proves bridges for one tokenizer and chat template.

    Args:
        tokenizer: A tokenizer or processor with a chat template.
        parser: The parser of the same tokenizer: its style, the ends that its format declares, and where the last
            call of a turn ends in templates that show one call only. The style is searched without one.
        chat_template: A template to use instead of the tokenizer's own.
        template_kwargs: Variables for the template, as given for the prompts (``enable_thinking``, say).
        eos_ids: Ids on which the engine stops anyway; the tokenizer's eos is added.
    """

    def __init__(
        self,
        tokenizer: Any,
        parser: Any = None,
        chat_template: str | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
        eos_ids: Iterable[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.parser = parser
        self.template_kwargs = template_kwargs or {}
        self.renderer = Renderer(
            tokenizer, parser=parser, chat_template=chat_template, template_kwargs=self.template_kwargs
        )
        plain = self.renderer.tokenizer
        self.encoder = Encoder(plain)
        self.eos_ids = tuple(dict.fromkeys(i for i in (*eos_ids, plain.eos_token_id) if i is not None))
        self._ends = TurnEnds(self.renderer, self.encoder, parser, self.eos_ids)
        self._proved: dict[Any, _Skeleton | BridgeRefused] = {}
        self._named: dict[Any, _Skeleton] = {}
        self._stops: dict[Any, tuple[int, ...]] = {}
        self._least: dict[Any, int] = {}

    # -- public --------------------------------------------------------------------------------------------

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
            answers: The messages that follow: one tool message per call, in order, then any others. ``content`` is
                text, or a list of text parts.
            tools: OpenAI-style schemas, as given for the prompt.
            stop: The stop token that the model sampled at the end of the turn, or None if it was stopped otherwise (a
                stop string): then the end-of-turn token is part of the bridge.
            tail: The end of the turn's text, needed only when ``stop`` is None: what the model already wrote of the
                call's closing marker isn't written again.
            earlier: Rounds of calls and answers before this turn. Most templates don't care; DeepSeek V3's opens its
                block of answers only in the first round, and what it writes is what the model is shown later.

        Raises:
            ForeignStop: The template doesn't end such a turn with ``stop``.
            BridgeRefused: No bridge can be proved.
        """
        contents = [str(text_of(answer["content"], f"answer {at + 1}")) for at, answer in enumerate(answers)]
        asked = _Asked(calls, answers, tools, min(earlier, _DEPTH))
        skeleton = self._skeleton(asked)
        pieces = [Piece(self._after_stop(skeleton, stop, tail), Author.SCAFFOLD)]
        written = self._written(skeleton, asked, contents)
        for text, following in zip(written, skeleton.between, strict=True):
            pieces += [Piece(text, Author.TOOL), Piece(following, Author.SCAFFOLD)]
        anchor = stop if stop is not None else self._token(skeleton.stop)
        segments = self.encoder.encode(pieces, anchor if anchor in self.encoder.added_ids else None)
        if not segments:
            raise BridgeRefused("the template writes nothing between this turn and the next")
        return segments

    def least(
        self,
        calls: Sequence[BridgeCall],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        stop: int | None,
        tail: str = "",
        earlier: int = 0,
    ) -> int:
        """How many tokens ``between`` makes of the shortest answers to these calls; raises what it raises."""
        key = (tuple(calls), _names(tools), stop, tail if stop is None else "", min(earlier, _DEPTH))
        if key not in self._least:
            answers = [{"role": "tool", "name": call.name, "content": "0"} for call in calls]
            segments = self.between(calls, answers, tools=tools, stop=stop, tail=tail, earlier=earlier)
            if len(self._least) > _KEPT:
                self._least.clear()
            self._least[key] = sum(len(segment.ids) for segment in segments)
        return self._least[key]

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """Ids of a prompt: the messages and the generation prompt, in the form that the template wants."""
        text = self.render_conversation(messages, tools, generation_prompt=True)
        return list(self.renderer.tokenizer(text, add_special_tokens=False)["input_ids"])

    def render_conversation(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        generation_prompt: bool = False,
    ) -> str:
        """Messages of a data set (OpenAI's form) as the template writes them."""
        return self.renderer.render(self.renderer.shown(messages), tools, generation_prompt=generation_prompt)

    def stop_ids(self, tools: Sequence[Mapping[str, Any]] = ()) -> tuple[int, ...]:
        """Every token that ends an assistant's turn: the engine's and the template's own.

        Some templates end a turn with calls by the token that opens the tool's turn (GLM's ``<|observation|>``,
        Gemma 4's ``<|tool_response>``). An engine that doesn't stop there lets the model invent the result. Ends that
        can stand inside of a turn (harmony's ``<|end|>``, behind a thought) are none to stop on.
        """
        key = _names(tools)
        if key not in self._stops:
            found = list(self.eos_ids)
            for calls in ([BridgeCall(key[0])] if key else [], []):
                found += [
                    i
                    for end in self._written_ends(calls, tools)
                    if end not in self._ends.inner and (i := self._token(end)) is not None
                ]
            self._stops[key] = tuple(dict.fromkeys(found))
        return self._stops[key]

    def turn_ends(
        self, *, calls: bool, tools: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Texts with which the template ends turns with (or without) calls, behind their last text; and those that
        may follow such an end and belong to it.
        """
        turn = [BridgeCall((_names(tools) or ("tool",))[0])] if calls else []
        written = self._written_ends(turn, tools)
        return tuple(dict.fromkeys(filter(None, (*self._ends.declared, *written)))), (*self._ends.eos, *written)

    def inner_ends(self) -> frozenset[str]:
        """Texts that end turns, and can stand inside of one as well."""
        return self._ends.inner

    def check(self, tools: Sequence[Mapping[str, Any]], *, calls: int = 1) -> None:
        """Prove the bridge for ``calls`` calls of the given tools; raises ``BridgeRefused`` with the reason."""
        names = _names(tools) or ("tool",)
        turn = [BridgeCall(names[i % len(names)]) for i in range(calls)]
        if self._token(self._skeleton(_Asked.placeholder(turn, tools)).stop) is None:
            raise BridgeRefused("the template writes no end-of-turn token after calls, so a turn's end can't be found")

    # -- the parts of a bridge -----------------------------------------------------------------------------

    def _token(self, text: str | None) -> int | None:
        """The token that is this text, if it is one."""
        if text is None:
            return None
        if text in self.encoder.added:
            return self.encoder.added[text]
        return next((i for i in self.eos_ids if self.encoder.spelling(i) == text), None)

    def _written_ends(self, calls: Sequence[BridgeCall], tools: Sequence[Mapping[str, Any]]) -> list[str]:
        """The ends that the template writes behind such a turn."""
        form = Form(self.renderer.style)
        ends: list[str | None] = []
        if not calls:
            ends = [self._ends.plain(form)]
            if ends[0] is None or ends[0] in self._ends.inner:
                ends.append(self._ends.final(form))
        with contextlib.suppress(BridgeRefused):
            ends.append(self._skeleton(_Asked.placeholder(calls, tools)).stop)
        return [end for end in dict.fromkeys(ends) if end is not None]

    def _after_stop(self, skeleton: _Skeleton, stop: int | None, tail: str) -> str:
        closing = skeleton.closing
        at = closing.find(skeleton.stop) if skeleton.stop is not None else -1
        if stop is not None:
            spelling = self.encoder.spelling(stop)
            found = closing.find(spelling) if spelling else -1
            if found >= 0:
                return closing[found + len(spelling) :]
            # Harmony ends the last answer of a conversation otherwise than one that something follows.
            if skeleton.stop and closing.startswith(skeleton.stop) and spelling == self._ends.final(skeleton.form):
                return closing[len(skeleton.stop) :]
            raise ForeignStop(f"the turn ended on {spelling!r}, which this template doesn't write there")
        if at < 0 or self._token(skeleton.stop) is None:
            raise BridgeRefused(
                "the turn was stopped without an end-of-turn token, and the template shows none to put there"
            )
        # What the model already wrote of the text before the end-of-turn token: the longest end of its turn that is
        # found there. (The text begins with the end of an argument, which may look otherwise in the model's own call.)
        before = closing[:at]
        best = (0, 0)
        for end in range(1, at + 1):
            for length in range(1, end + 1):
                if not tail.endswith(before[end - length : end]):
                    break
                if before[end - length : end].strip() and (length, end) > best:
                    best = (length, end)
        return closing[best[1] if best[0] else at :]

    def _written(self, skeleton: _Skeleton, asked: _Asked, contents: Sequence[str]) -> Sequence[str]:
        """The answers as the template writes them: most write them verbatim, some escape or trim them."""
        real = self._render(skeleton, asked, contents)
        tail = "".join(itertools.chain(*zip(contents, skeleton.between, strict=True)))
        if real.endswith(skeleton.closing + tail):
            return contents
        marks = sentinels("answer", len(contents))
        out: list[str] = []
        for index in range(len(contents)):
            # One answer at a time among sentinels, so that its borders can't be mistaken.
            shown = [*marks[:index], contents[index], *marks[index + 1 :]]
            text = self._render(skeleton, asked, shown)
            head = skeleton.closing + "".join(
                itertools.chain(*zip(marks[:index], skeleton.between[:index], strict=True))
            )
            foot = skeleton.between[index] + "".join(
                itertools.chain(*zip(marks[index + 1 :], skeleton.between[index + 1 :], strict=True))
            )
            # The turn's own sentinel ends where `head` begins; the head may occur again inside of the content.
            start = text.find(head, _turn_start(skeleton.form, text, asked.calls))
            if start < 0 or not text.endswith(foot) or start + len(head) > len(text) - len(foot):
                raise BridgeRefused(
                    f"the template writes something else around answer {index + 1} because of its content"
                )
            out.append(text[start + len(head) : len(text) - len(foot)])
        return out

    def _render(self, skeleton: _Skeleton, asked: _Asked, contents: Sequence[str]) -> str:
        history = ("round",) * skeleton.earlier
        return self.renderer.conversation(skeleton.form, asked.calls, asked.answers, contents, skeleton.tools, history)

    # -- proving -------------------------------------------------------------------------------------------

    def _skeleton(self, asked: _Asked) -> _Skeleton:
        """The proved skeleton for these very names and ids."""
        offered = _names(asked.tools)
        said = tuple((a["role"], a.get("name"), a.get("tool_call_id")) for a in asked.answers)
        exact = (tuple(asked.calls), said, offered, asked.earlier)
        if exact in self._named:
            return self._named[exact]
        key = (
            _shape(asked.calls),
            tuple((role, bool(name), bool(ident)) for role, name, ident in said),
            offered,
            asked.earlier,
        )
        proved = self._proved.get(key)
        if isinstance(proved, BridgeRefused):
            raise BridgeRefused(str(proved))
        if len(self._named) > _KEPT:
            self._named.clear()
        if proved is not None:
            found = self._like(proved, asked)
            if found is not None:
                self._named[exact] = found
                return found
        try:
            made = self._prove(asked)
        except BridgeRefused as refusal:
            if proved is None:
                self._proved[key] = refusal
            raise
        self._named[exact] = made
        self._proved.setdefault(key, replace(made, **_generic(made, asked.calls)))
        return made

    def _like(self, proved: _Skeleton, asked: _Asked) -> _Skeleton | None:
        """The skeleton for other names, if it is the proved one but for these."""
        few = _offers(asked)[proved.offer]
        marks = sentinels("answer", len(asked.answers))
        try:
            text = self._render(replace(proved, tools=few), asked, marks)
            made = _dissect(proved.form, text, asked.calls, marks)
        except BridgeRefused:
            return None
        generic = _generic(made, asked.calls)
        if (generic["closing"], generic["between"]) != (proved.closing, proved.between):
            return None
        return replace(made, earlier=proved.earlier, tools=few, offer=proved.offer, stop=proved.stop)

    def _prove(self, asked: _Asked) -> _Skeleton:
        form = Form(self.renderer.style)
        try:
            return self._prove_form(form, asked)
        except BridgeRefused as refusal:
            if not asked.calls:
                raise
            reason = refusal
        for parts in (form.style.parts, not form.style.parts):
            plain = Form(form.style.changed(parts=parts), native=False)
            try:
                skeleton = self._prove_form(plain, asked)
                self._agrees_with_native(skeleton, asked)
            except BridgeRefused:
                continue
            return skeleton
        raise reason

    def _agrees_with_native(self, skeleton: _Skeleton, asked: _Asked) -> None:
        """A turn shown as content is good enough only if, for one call, it makes no difference to what follows."""
        single = _Asked.placeholder(asked.calls[:1], asked.tools, asked.earlier)
        try:
            real = self._prove_form(Form(self.renderer.style), single)
        except BridgeRefused:
            if len(asked.calls) > 1:
                self._skeleton(single)
            return
        plain = self._prove_form(skeleton.form, single)
        if real.stop is None or real.stop != plain.stop:
            raise BridgeRefused("a turn with calls ends differently from one without")
        if (real.closing.partition(real.stop)[2], real.between) != (
            plain.closing.partition(real.stop)[2],
            plain.between,
        ):
            raise BridgeRefused("what follows a turn with calls differs from what follows one without")

    def _prove_form(self, form: Form, asked: _Asked) -> _Skeleton:
        calls, earlier = asked.calls, asked.earlier
        marks = sentinels("answer", len(asked.answers))

        def dissected(history: Sequence[str], offered: Sequence[Mapping[str, Any]]) -> _Skeleton:
            text = self.renderer.conversation(form, calls, asked.answers, marks, offered, history)
            return _dissect(form, text, calls, marks)

        def same(offered: Sequence[Mapping[str, Any]]) -> bool:
            with contextlib.suppress(BridgeRefused):
                return dissected((), offered) == found
            return False

        found = dissected((), asked.tools)
        offers = _offers(asked)
        offer = next(at for at, offered in enumerate(offers) if offered is offers[-1] or same(offered))
        few = offers[offer]
        # The same turn at the end of longer conversations must be followed by the same text.
        histories = [("round",), ("round", "talk"), ("round",) * max(earlier, 1)] if calls else [("talk",)]
        depth = 0
        if any(dissected(history, few) != found for history in dict.fromkeys(histories)):
            # A template that keeps count: then the same depth must give the same text, however it was reached.
            depth = earlier
            found = dissected(("round",) * earlier, few)
            if not calls or found != dissected(("talk", *(("round", "talk") * earlier)), few):
                raise BridgeRefused("what follows a turn depends on the turns before it")
        stop = self._ends.after(found.closing, form, calls, few)
        return replace(found, tools=few, offer=offer, stop=stop, earlier=depth)


def _turn_start(form: Form, text: str, calls: Sequence[BridgeCall]) -> int:
    """Where the last sentinel of the turn ends."""
    native = bool(calls) and form.native
    last = ARGUMENT.format(len(calls) - 1) if native else CONTENT
    at = text.rfind(last)
    if at < 0:
        raise BridgeRefused(
            "the template doesn't write the arguments of a call"
            if native
            else "the template doesn't write an assistant's text"
        )
    return at + len(last)


def _dissect(form: Form, text: str, calls: Sequence[BridgeCall], marks: Sequence[str]) -> _Skeleton:
    for index in range(len(calls) if form.native else 0):
        if ARGUMENT.format(index) not in text:
            raise BridgeRefused(
                f"the template drops call {index + 1} of {len(calls)}"
                if index
                else "the template doesn't write the arguments of a call"
            )
    start = at = _turn_start(form, text, calls)
    question = max(text.rfind(QUESTION), 0)
    cuts: list[tuple[int, int]] = []
    for index, mark in enumerate(marks):
        times = text.count(mark, question)
        if times != 1:
            raise BridgeRefused(f"the template writes answer {index + 1} {times} times, not once")
        found = text.find(mark, at)
        if found < 0:
            raise BridgeRefused("the template writes an answer before the end of the turn, or out of order")
        cuts.append((found, found + len(mark)))
        at = found + len(mark)
    closing = text[start : cuts[0][0]] if cuts else text[start:]
    ends = [*(a for a, _ in cuts[1:]), len(text)]
    return _Skeleton(form, closing, tuple(text[b:e] for (_, b), e in zip(cuts, ends, strict=True)))


def _names(tools: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What tells two sets of tools apart here: what follows a turn can depend on their names at most."""
    return tuple(str(tool.get("function", tool).get("name")) for tool in tools)


_Tools = tuple[Mapping[str, Any], ...]


def _offers(asked: _Asked) -> tuple[_Tools, _Tools, _Tools]:
    """What a turn may be rendered with: the tools that are called (or one), bare or whole, or all of them.

    A hundred tools, or one with a long description, take longer to write than the turn itself.
    """
    tools, called = asked.tools, {call.name for call in asked.calls}
    few = tuple(tool for tool, name in zip(tools, _names(tools), strict=True) if name in called) or tuple(tools[:1])
    empty = {"description": "", "parameters": {"type": "object", "properties": {}}}
    bare = tuple({"type": "function", "function": {"name": name, **empty}} for name in _names(few))
    return bare, few, tuple(tools)


def _shape(calls: Sequence[BridgeCall]) -> tuple[Any, ...]:
    """What a template can take notice of in calls but for their spelling."""
    names = [call.name for call in calls]
    return tuple(
        (
            names.index(call.name),
            call.name.isidentifier(),
            None if call.id is None else (len(call.id), call.id.isalnum(), call.name in call.id),
        )
        for call in calls
    )


def _generic(skeleton: _Skeleton, calls: Sequence[BridgeCall]) -> dict[str, Any]:
    """Its texts with a stand-in for each name and each id that the model wrote."""
    words = [(call.id, f"\0id{at}\0") for at, call in enumerate(calls) if call.id]
    names = {call.name: f"\0name{at}\0" for at, call in reversed(list(enumerate(calls)))}
    words += sorted(names.items(), key=lambda pair: -len(pair[0]))

    def plain(text: str) -> str:
        for word, stand_in in words:
            text = text.replace(str(word), stand_in) if word else text
        return text

    return {"closing": plain(skeleton.closing), "between": tuple(map(plain, skeleton.between))}
