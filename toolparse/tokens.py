"""From token ids to text and back to positions.

The text is what the tokenizer's own `decode` gives, special tokens kept and nothing cleaned up, with two exceptions:

* Vocabularies with byte tokens (`<0xE0>`) spell rare characters byte by byte. The tokenizers library gives up a whole
  run of such tokens where any of its bytes is out of place (at the length limit, say); here only the bytes that make no
  character become U+FFFD, one for each, and the characters around them stay.
* An id that the vocabulary lacks (below 0, or beyond its end) has no text, also where `decode` would raise.

A marker that is one token of the vocabulary counts only as that token: where ordinary tokens spell it, the text is
masked before it reaches the reader, by characters that no tokenizer produces, and unmasked in what comes out.
"""

from __future__ import annotations

import codecs
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from os.path import commonprefix
from typing import Any, Literal

import msgspec

from toolparse.codecs.matching import tail_of
from toolparse.message import ParsedMessage, Span

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
        self._pieces: dict[int, bytes | str] = {}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens kept, nothing cleaned up. Ids that the vocabulary lacks have no text."""
        try:
            return self._decode(ids)
        except Exception:  # noqa: BLE001 - each tokenizer raises something else for an id that it does not know
            return self._decode([id for id in ids if self.token(id) is not None])

    def _decode(self, ids: Sequence[int]) -> str:
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

    def token(self, id: int) -> str | None:
        """The token as the vocabulary spells it; None for an id that it lacks."""
        convert = getattr(self.tokenizer, "convert_ids_to_tokens", None) or self.tokenizer.id_to_token
        try:
            token = convert(id)
        except Exception:  # noqa: BLE001 - as for decode
            return None
        return token if isinstance(token, str) else None

    def piece(self, id: int) -> bytes | str:
        """What one token adds to a text that has begun: bytes that may be a part of a character, or text.

        Says nothing for a vocabulary whose `spelling` is "context".
        """
        try:
            return self._pieces[id]
        except KeyError:
            piece = self._pieces[id] = self._piece(id)
            return piece

    def _piece(self, id: int) -> bytes | str:
        token = self.token(id)
        if token is None:
            return ""
        if self.spelling == "byte-level":
            if id in self.added_ids:
                text = self.decode([id])
                if "\ufffd" not in text:
                    return text
            return _whole(_bytes_of(token))
        text = self._behind(id)
        byte = _BYTE_TOKEN.fullmatch(token)
        return bytes.fromhex(byte[1]) if byte is not None and text != token else text

    @cached_property
    def spelling(self) -> Literal["byte-level", "pieces", "context"]:
        """How tokens make a text.

        "byte-level": each stands for bytes. "pieces": each for the same text wherever it stands behind another one, or
        for a single byte. "context": what a token writes is seen only among its neighbours.
        """
        ids = self._encode(_PROBE)
        tokens = [self.token(id) for id in ids]
        if None not in tokens and b"".join(_bytes_of(token or "") for token in tokens) == _PROBE.encode():
            return "byte-level"
        return "pieces" if self._is_made_of_pieces(ids) else "context"

    def _is_made_of_pieces(self, ids: list[int]) -> bool:
        self.__dict__["spelling"] = "pieces"  # so that what is tried is tried as such
        try:
            return all(
                TokenText(self, ()).feed(ids[start:], final=True) == self.decode(ids[start:])
                for start in range(len(ids))
                if not isinstance(self.piece(ids[start]), bytes)
            )
        finally:
            del self.__dict__["spelling"]
            self._pieces.clear()

    def _behind(self, id: int) -> str:
        """The text that a token adds behind another one."""
        before, begun = self._beginning
        return self.decode([*before, id])[len(begun) :]

    @cached_property
    def _beginning(self) -> tuple[list[int], str]:
        ids = self._encode("a")[-1:]
        return ids, self.decode(ids)

    def _encode(self, text: str) -> list[int]:
        try:
            ids = self.tokenizer.encode(text, add_special_tokens=False)
        except TypeError:
            ids = self.tokenizer.encode(text)
        return [int(id) for id in getattr(ids, "ids", ids)]


#: Tried once for each vocabulary: blanks, characters of one to four bytes, some of which no vocabulary has whole.
_PROBE = "  a é, b.  c\n\t→ 你 ກາ ኢ 🙂 \U00010900\U0001e900 don't ' x' 1 2 ."
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _bytes_of(token: str) -> bytes:
    """The bytes of a token of a byte-level vocabulary; a token in other characters is itself."""
    table = _byte_alphabet()
    try:
        return bytes(table[char] for char in token)
    except KeyError:
        return token.encode("utf-8", "surrogatepass")


def _whole(raw: bytes) -> bytes | str:
    """The text that these bytes are, if they begin and end no character half."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    """U+FFFD for each byte that makes no character."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("toolparse.each_byte", _each_byte)


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
        self._tail = tail_of(self._markers)
        self._in_context = vocabulary.spelling == "context"
        errors = "replace" if vocabulary.spelling == "byte-level" else "toolparse.each_byte"
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors)
        self._partial = False  # whether the decoder may hold bytes of a character
        self._begun = vocabulary.spelling != "pieces"
        self._window: list[int] = []  # ids whose text is not settled, behind those that were settled last
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
        added_ids = self.vocabulary.added_ids
        for id in map(int, ids):
            added = id in added_ids
            if added:
                self._held += self._take(self._rest())  # an unfinished character ends where a marker begins
                out.append(self._mask(self._held))
                self._held = ""
            self.offsets.append(self._length)
            text = self._take(self._text_of(id))
            if added:
                out.append(text)
            else:
                self._held += text
                if len(self._held) > 256:
                    out.append(self._settle())
        if final:
            self._held += self._take(self._rest())
        out.append(self._settle(final=final))
        return "".join(out)

    def _take(self, text: str) -> str:
        """Text, accounted for."""
        if text:
            self._length += len(text)
            self._all.append(text)
        return text

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
        if self._in_context:
            return self._among_neighbours(id)
        piece = self.vocabulary.piece(id)
        if piece and not self._begun:
            self._begun = True
            if isinstance(piece, str) or piece.isascii():
                return self.vocabulary.decode([id])  # some take a blank from the beginning of a text
        if isinstance(piece, bytes):
            self._partial = True
            return self._decoder.decode(piece)
        if self._partial and piece:
            self._partial = False
            return self._decoder.decode(b"", True) + piece
        return piece

    def _among_neighbours(self, id: int) -> str:
        """The text that is settled once this id is known: what it adds to the text of those before it."""
        window = self._window
        if self.vocabulary.token(id) is None:
            return ""
        window.append(id)
        text = self._unsettled()
        if text.endswith("\ufffd") and len(window) - self._context < 8:
            return ""  # perhaps a part of a character
        if text:
            del window[: self._context]
            self._context = len(window)
        return text

    def _unsettled(self) -> str:
        window = self._window
        before = self.vocabulary.decode(window[: self._context]) if self._context else ""
        after = self.vocabulary.decode(window)
        same = before if after.startswith(before) else commonprefix((before, after))  # noqa: RUF071 - of characters
        return after[len(same) :]

    def _rest(self) -> str:
        """What stays unsettled when nothing can be added to it."""
        if not self._in_context:
            if not self._partial:
                return ""
            self._partial = False
            return self._decoder.decode(b"", True)
        if len(self._window) == self._context:
            return ""
        text = self._unsettled()
        self._context = len(self._window)
        return text

    # -- unmasking ------------------------------------------------------------------------------------------------

    def unmask(self, text: str) -> str:
        """Text as it was written."""
        for char, mask in self._first.items():
            if mask in text:
                text = text.replace(mask, char)
        return text

    def unmask_value(self, value: Any) -> Any:
        """A value, or what holds some, with its texts as they were written."""
        if isinstance(value, str):
            return self.unmask(value)
        if isinstance(value, dict):
            return {self.unmask(key): self.unmask_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self.unmask_value, value))
        if isinstance(value, msgspec.Struct):
            fields = {name: self.unmask_value(getattr(value, name)) for name in value.__struct_fields__}
            return msgspec.structs.replace(value, **fields)
        return value

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
        return self.unmask_value(message) if self.masked else message

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
