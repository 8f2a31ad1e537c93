"""Where an assistant's turn ends in the text that a template writes for it.

Templates end a turn with a marker of their own (``<|im_end|>``), with the marker that opens the next turn (GLM's
``<|observation|>``), or with none. Which it is, is read off renders: what stands last when nothing follows, what
follows the last argument of a call, and what may stand between a thought and what comes after it, because a marker
that stands *inside* of a turn (harmony's ``<|end|>``) must stop nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from .encoding import Encoder
from .messages import ARGUMENT, CONTENT, QUESTION, THOUGHT, BridgeCall, BridgeRefused, Form, Renderer, sentinels

__all__ = ["TurnEnds"]

Tools = Sequence[Any]


class TurnEnds:
    """Finds the ends of turns for one renderer."""

    def __init__(self, renderer: Renderer, encoder: Encoder, parser: Any, eos_ids: Sequence[int]) -> None:
        self._renderer = renderer
        self._encoder = encoder
        self._parser = parser
        declared = getattr(getattr(parser, "format", None), "ends", None) or ()
        self.eos = tuple(map(encoder.spelling, eos_ids))
        self.declared = tuple(dict.fromkeys([*self.eos, *map(str, declared)]))
        self.tokens = frozenset([*encoder.added, *self.eos])
        self._plain: dict[Form, str | None] = {}

    def after(self, closing: str, form: Form, calls: Sequence[BridgeCall], tools: Tools) -> str | None:
        """The text that ends such a turn, sought in what follows the last sentinel of the turn; None if there is none.

        The first known end; where there is none, the marker with which the turn ends when nothing follows; where
        there is none either (the template goes straight on to the next turn), the first marker behind the call.
        """
        native = bool(calls) and form.native
        plain = self.plain(form)
        known = self._known(closing, plain)
        if known:
            return known
        start = self._call_end(closing, form, calls, tools) if native else 0
        return self._last(closing[start:], form, calls, tools) or self._first(closing, start)

    def _known(self, closing: str, plain: str | None = None) -> str | None:
        """The first known end that is one token."""
        tokens = [end for end in (*self.declared, plain) if end and end in self.tokens]
        found = [(at, end) for end in tokens if (at := closing.find(end)) >= 0]
        return min(found)[1] if found else None

    def plain(self, form: Form) -> str | None:
        """The text that ends a turn without calls which something follows."""
        if form not in self._plain:
            try:
                text = self._renderer.conversation(form, (), [{"role": "user"}], sentinels("answer", 1), ())
            except BridgeRefused:
                text = ""
            at = text.rfind(CONTENT)
            closing = text[at + len(CONTENT) :].partition(sentinels("answer", 1)[0])[0] if at >= 0 else ""
            self._plain[form] = self._known(closing) or self._last(closing, form, (), ()) or self._first(closing)
        return self._plain[form]

    def final(self, form: Form) -> str | None:
        """The marker that ends a turn without calls when nothing follows it (harmony writes another one then)."""
        try:
            text = self._renderer.last_turn(form, (), ())
        except BridgeRefused:
            return None
        return self._marker_at_end(text[text.rfind(CONTENT) + len(CONTENT) :]) if CONTENT in text else None

    @cached_property
    def inner(self) -> frozenset[str]:
        """Ends that can stand inside of a turn: behind its thought, or behind its text where calls follow."""
        form = Form(self._renderer.style)
        ends = {str(end) for end in (*self.declared, self.plain(form), self.final(form)) if end}
        found: set[str] = set()
        call = [BridgeCall("tool")]
        for calls, content, thought in (((), CONTENT, THOUGHT), (call, "", THOUGHT), (call, CONTENT, None)):
            first, second = (THOUGHT if thought else CONTENT), (ARGUMENT.format(0) if calls else CONTENT)
            try:
                text = self._renderer.last_turn(form, calls, (), content=content, thought=thought)
            except BridgeRefused:
                continue
            text = text[text.rfind(QUESTION) :]
            between = text.partition(first)[2].partition(second)
            if between[1]:
                found.update(end for end in ends if end in between[0])
        return frozenset(found)

    # -- parts ---------------------------------------------------------------------------------------------

    def _last(self, closing: str, form: Form, calls: Sequence[BridgeCall], tools: Tools) -> str | None:
        """The marker at the very end of the turn when nothing follows, if it also stands where something does."""
        try:
            text = self._renderer.last_turn(form, calls, tools)
        except BridgeRefused:
            return None
        mark = ARGUMENT.format(len(calls) - 1) if calls and form.native else CONTENT
        at = text.rfind(mark)
        marker = self._marker_at_end(text[at + len(mark) :]) if at >= 0 else None
        return marker if marker is not None and marker in closing else None

    def _marker_at_end(self, text: str) -> str | None:
        text = text.rstrip()
        return max((marker for marker in self._encoder.added if text.endswith(marker)), key=len, default=None)

    def _first(self, text: str, start: int = 0) -> str | None:
        found = [(at, -len(end), end) for end in self._encoder.added if (at := text.find(end, start)) >= 0]
        return min(found)[2] if found else None

    def _call_end(self, closing: str, form: Form, calls: Sequence[BridgeCall], tools: Tools) -> int:
        """Where the last call ends in the text after its last argument.

        With two calls, what stands after the first one's argument begins with the same closing text.
        """
        pair = [calls[-1], BridgeCall(calls[-1].name)]
        answers = [{"role": "tool"}] * 2
        try:
            text = self._renderer.conversation(form, pair, answers, sentinels("answer", 2), tools)
        except BridgeRefused:
            text = ""
        first = text.rfind(ARGUMENT.format(0))
        second = text.find(ARGUMENT.format(1), max(first, 0))
        if first < 0 or second < 0:
            return self._parsed_call_end(closing, form, calls[-1:], tools)
        between = text[first + len(ARGUMENT.format(0)) : second]
        end = 0
        while end < min(len(between), len(closing)) and between[end] == closing[end]:
            end += 1
        # Not in the middle of a marker: different markers may begin alike.
        for marker in self._encoder.added:
            for at in range(max(0, end - len(marker) + 1), end):
                if closing.startswith(marker, at) and at + len(marker) > end:
                    end = at
        return end

    def _parsed_call_end(self, closing: str, form: Form, calls: Sequence[BridgeCall], tools: Tools) -> int:
        """The same for templates that show one call only: there the parser says where it ends."""
        if self._parser is None:
            return 0
        style, mark = form.style, sentinels("answer", 1)[0]
        try:
            prompt = self._renderer.render(self._renderer.opening(style), tools, style=style, generation_prompt=True)
            text = self._renderer.conversation(form, calls, [{"role": "tool"}], [mark], tools)
        except BridgeRefused:
            return 0
        start = text.rfind(ARGUMENT.format(0)) + len(ARGUMENT.format(0))
        if not text.startswith(prompt) or not text.startswith(closing, start):
            return 0
        parsed = self._parser.parse(text[len(prompt) : text.find(mark)])
        ends = [call.span.end for call in parsed.tool_calls if call.span is not None]
        return max(0, len(prompt) + ends[0] - start) if ends else 0
