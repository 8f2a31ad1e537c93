"""From token ids to text and back to positions.

A marker that is one token of the vocabulary counts only as that token: where ordinary tokens spell it, the text is
masked before it reaches the machine, by characters that no tokenizer produces, and unmasked in what comes out.
"""

from __future__ import annotations

import codecs
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from toolparse.codecs.matching import Tail
from toolparse.events import ArgumentsDelta, CallEnded, ContentDelta, Event, IssueFound, ReasoningDelta
from toolparse.message import Issue, ParsedMessage, Span, ToolCall

_MASK = 0xDC80  # lone surrogates: decoding never yields them


def tokenizer_of(source: Any) -> Any:
    """The tokenizer itself: a processor's own, or the object as it is."""
    if hasattr(source, "convert_ids_to_tokens") or hasattr(source, "id_to_token"):
        return source
    inner = getattr(source, "tokenizer", None)
    return source if inner is None else inner


class Vocabulary:
    """What is asked of a tokenizer, whether it is from transformers or from the tokenizers package."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer = tokenizer_of(tokenizer)
        self.tokenizer = tokenizer
        self.added: dict[str, int] = _added_vocabulary(tokenizer)
        self.added_ids = frozenset(self.added.values())
        self._pieces: dict[int, bytes | None] = {}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens kept, nothing cleaned up."""
        decode = self.tokenizer.decode
        try:
            return str(
                decode(
                    ids,
                    skip_special_tokens=False,
                    clean_up_tokenization_spaces=False,
                    spaces_between_special_tokens=False,
                )
            )
        except TypeError:
            return str(decode(ids, skip_special_tokens=False))

    def piece(self, id: int) -> bytes | None:
        """The bytes of one token of a byte-level vocabulary; None if it is none."""
        try:
            return self._pieces[id]
        except KeyError:
            pass
        token = self._token(id)
        piece: bytes | None = None
        if token is not None:
            if id in self.added_ids:
                piece = token.encode()
            else:
                table = _byte_alphabet()
                try:
                    piece = bytes(table[char] for char in token)
                except KeyError:
                    piece = None
        self._pieces[id] = piece
        return piece

    def _token(self, id: int) -> str | None:
        convert = getattr(self.tokenizer, "convert_ids_to_tokens", None) or self.tokenizer.id_to_token
        token = convert(id)
        return token if isinstance(token, str) else None


def _added_vocabulary(tokenizer: Any) -> dict[str, int]:
    getter = getattr(tokenizer, "get_added_vocab", None)
    if getter is not None:
        return dict(getter())
    getter = getattr(tokenizer, "get_added_tokens_decoder", None)
    if getter is not None:
        return {token.content: id for id, token in getter().items()}
    return {}


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins for bytes in byte-level vocabularies (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    rest = [byte for byte in range(256) if byte not in set(plain)]
    table.update({chr(256 + number): byte for number, byte in enumerate(rest)})
    return table


class TokenText:
    """Turns ids into text, piece by piece, remembering where each token's text begins.

    `offsets[i]` is the position of the first character of token i. A token that holds only part of a character begins
    where that character will stand.
    """

    def __init__(self, vocabulary: Vocabulary, markers: Iterable[str]) -> None:
        self.vocabulary = vocabulary
        self.offsets: list[int] = []
        self.masked = False
        self._markers = tuple(marker for marker in markers if marker in vocabulary.added)
        self._first = {char: chr(_MASK + number) for number, char in enumerate(sorted({m[0] for m in self._markers}))}
        self._tail = Tail(self._markers)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._byte_level: bool | None = None
        self._window: list[int] = []  # ids whose text is not settled, with the ids before them for context
        self._context = 0
        self._held = ""
        self._length = 0
        self._all: list[str] = []

    @property
    def text(self) -> str:
        """Everything so far, unmasked."""
        return "".join(self._all)

    def feed(self, ids: Sequence[int], *, final: bool = False) -> str:
        """The (masked) text that these ids settle."""
        out: list[str] = []
        for id in ids:
            id = int(id)
            self.offsets.append(self._length)
            added = id in self.vocabulary.added_ids
            text = self._text_of(id)
            self._length += len(text)
            if text:
                self._all.append(text)
            if added:
                out.append(self._mask(self._held))
                self._held = ""
                out.append(text)
            else:
                self._held += text
                if len(self._held) > 256:
                    out.append(self._settle())
        out.append(self._settle(final=final))
        if final:
            rest = self._decoder.decode(b"", True) if self._byte_level else self._flush_window()
            if rest:
                self._length += len(rest)
                self._all.append(rest)
                out.append(rest)
        return "".join(out)

    def _settle(self, *, final: bool = False) -> str:
        held = self._held
        if not self._markers or final:
            self._held = ""
            return self._mask(held)
        safe = self._tail.safe_end(held, 0)
        self._held = held[safe:]
        return self._mask(held[:safe])

    def _mask(self, text: str) -> str:
        for marker in self._markers:
            if marker in text:
                self.masked = True
                text = text.replace(marker, self._first[marker[0]] + marker[1:])
        return text

    def _text_of(self, id: int) -> str:
        if self._byte_level is not False:
            piece = self.vocabulary.piece(id)
            if piece is not None and self._is_byte_level(id):
                return self._decoder.decode(piece)
        return self._windowed(id)

    def _is_byte_level(self, id: int) -> bool:
        if self._byte_level is None:
            self._byte_level = is_byte_level(self.vocabulary)
        return self._byte_level

    def _windowed(self, id: int) -> str:
        """For other vocabularies: decode a short window twice, with and without the new token."""
        self._byte_level = False
        window = self._window
        before = self.vocabulary.decode(window[: self._context]) if self._context else ""
        window.append(id)
        after = self.vocabulary.decode(window)
        if after.endswith("\ufffd") and len(window) - self._context < 8:
            return ""
        text = after[len(before) :] if after.startswith(before) else after[len(_common(before, after)) :]
        del window[:-4]
        self._context = len(window)
        return text

    def _flush_window(self) -> str:
        if len(self._window) <= self._context:
            return ""
        before = self.vocabulary.decode(self._window[: self._context]) if self._context else ""
        return self.vocabulary.decode(self._window)[len(before) :]

    # -- unmasking ------------------------------------------------------------------------------------------------

    def unmask(self, text: str) -> str:
        """Text as it was written."""
        for char, mask in self._first.items():
            if mask in text:
                text = text.replace(mask, char)
        return text

    def unmask_value(self, value: Any) -> Any:
        """A JSON value with its strings as they were written."""
        if isinstance(value, str):
            return self.unmask(value)
        if isinstance(value, dict):
            return {self.unmask(key): self.unmask_value(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.unmask_value(item) for item in value]
        return value

    def unmask_event(self, event: Event) -> Event:
        """An event with its text as it was written."""
        if not self.masked:
            return event
        if isinstance(event, ContentDelta | ReasoningDelta):
            return type(event)(self.unmask(event.text))
        if isinstance(event, ArgumentsDelta):
            return ArgumentsDelta(event.index, self.unmask(event.json))
        if isinstance(event, CallEnded):
            return CallEnded(event.index, self._unmask_call(event.call))
        if isinstance(event, IssueFound):
            return IssueFound(self._unmask_issue(event.issue))
        return event

    def _unmask_issue(self, issue: Issue) -> Issue:
        return msgspec.structs.replace(issue, message=self.unmask(issue.message))

    def _unmask_call(self, call: ToolCall) -> ToolCall:
        return msgspec.structs.replace(
            call,
            name=self.unmask(call.name),
            arguments=self.unmask_value(call.arguments),
            raw=self.unmask(call.raw),
            issues=tuple(self._unmask_issue(issue) for issue in call.issues),
        )

    def finish(self, message: ParsedMessage) -> ParsedMessage:
        """The message with token positions, unmasked."""
        spans = self.token_spans(message.spans)
        by_start = {(span.start, span.end): span for span in spans}
        calls = tuple(
            msgspec.structs.replace(call, span=by_start.get((call.span.start, call.span.end), call.span))
            if call.span
            else call
            for call in message.tool_calls
        )
        message = msgspec.structs.replace(message, spans=spans, tool_calls=calls, text=self.text)
        if not self.masked:
            return message
        return msgspec.structs.replace(
            message,
            content=self.unmask(message.content),
            reasoning=self.unmask(message.reasoning) if message.reasoning is not None else None,
            tool_calls=tuple(self._unmask_call(call) for call in message.tool_calls),
            issues=tuple(self._unmask_issue(issue) for issue in message.issues),
        )

    def token_spans(self, spans: Sequence[Span]) -> tuple[Span, ...]:
        """Spans with their tokens: each token belongs to the span that holds its first character."""
        if not spans:
            return ()
        borders = [bisect_left(self.offsets, span.start) for span in spans]
        borders[0] = 0
        borders.append(len(self.offsets))
        return tuple(
            Span(span.kind, span.start, span.end, borders[number], borders[number + 1])
            for number, span in enumerate(spans)
        )


def is_byte_level(vocabulary: Vocabulary) -> bool:
    """Whether the vocabulary's tokens stand for bytes: tried on text with characters of several bytes."""
    tokenizer = vocabulary.tokenizer
    probe = "a é\n→ 你"
    try:
        ids = tokenizer.encode(probe, add_special_tokens=False)
    except TypeError:
        ids = tokenizer.encode(probe)
    ids = getattr(ids, "ids", ids)
    pieces = [vocabulary.piece(int(id)) for id in ids]
    if any(piece is None for piece in pieces):
        return False
    return b"".join(piece for piece in pieces if piece is not None).decode("utf-8", "replace") == vocabulary.decode(ids)


def _common(left: str, right: str) -> str:
    for at, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return left[:at]
    return left[: len(right)]
