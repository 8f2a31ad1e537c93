"""Text with two authors into token ids: markers count in the template's text and are plain text in a tool's.

A tool can return anything, also ``<|im_end|>\n<|im_start|>assistant``. Encoded with special tokens live,
that ends the turn and forges the next one. Encoding each piece on its own would be safe but would break
merges at the seams, so that harmless results would become ids which the tokenizer itself never makes. Hence:

* the whole text is encoded at once, as the tokenizer does it, and used if no marker was matched inside a
  tool's text;
* otherwise the text is cut at the template's own markers, and the stretches between them, tool text
  included, are encoded by a *twin* of the tokenizer: same vocabulary, same merges, no added tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from toolparse.tokens import Vocabulary

from .transcript import Author, Segment

__all__ = ["Encoder", "Piece"]

# Breaks a marker's spelling where nothing else can keep the tokenizer from matching it.
_BREAK = "\u200b"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text by one author (``TOOL`` or ``SCAFFOLD``)."""

    text: str
    author: Author


class Encoder:
    """Encodes pieces with a given tokenizer; fast tokenizers exactly, others piece by piece."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.added: dict[str, int] = dict(tokenizer.get_added_vocab())
        self.added_ids = frozenset(self.added.values())
        self._spelling = {token: text for text, token in self.added.items()}
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)

    def spelling(self, token: int) -> str:
        """The text of a token, markers included."""
        if token in self._spelling:
            return self._spelling[token]
        return str(self.tokenizer.decode([token], skip_special_tokens=False))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What single tokens stand for."""
        return Vocabulary(self.tokenizer)

    @cached_property
    def _twin(self) -> Any:
        from tokenizers import Tokenizer

        state = json.loads(self.backend.to_str())
        state["added_tokens"] = []
        state["post_processor"] = None
        state["padding"] = state["truncation"] = None
        _never_prepend(state.get("pre_tokenizer"))
        return Tokenizer.from_str(json.dumps(state))

    def plain_ids(self, text: str) -> list[int]:
        """Ids of a text in which nothing is a marker."""
        if self.backend is None:
            return self._slow_plain(text)
        return list(self._twin.encode(text, add_special_tokens=False).ids)

    def cut(self, text: str, tokens: int, *, end: bool = False) -> str:
        """The longest beginning (or end) of ``text`` that takes at most ``tokens`` tokens (0 or fewer: nothing)."""
        if tokens <= 0:
            return ""
        if self.backend is None:
            low, high = 0, len(text)
            while low < high:
                middle = (low + high + 1) // 2
                part = text[len(text) - middle :] if end else text[:middle]
                low, high = (middle, high) if len(self.plain_ids(part)) <= tokens else (low, middle - 1)
            return text[len(text) - low :] if end else text[:low]
        encoding = self._twin.encode(text, add_special_tokens=False)
        if len(encoding.ids) <= tokens:
            return text
        # A token that holds part of a character begins where the character does, and ends where it does.
        return text[encoding.offsets[-tokens - 1][1] :] if end else text[: encoding.offsets[tokens][0]]

    def encode(self, pieces: Sequence[Piece], anchor: int | None) -> list[Segment]:
        """Segments of ids for the pieces, as they are encoded when they follow the token ``anchor``.

        ``anchor`` is a token of the added vocabulary (the end-of-turn marker): it keeps tokenizers that
        treat the start of a text specially from doing so here. Its id isn't part of the result.
        """
        pieces = [piece for piece in pieces if piece.text]
        if not pieces:
            return []
        if self.backend is None:
            return _merge([(i, piece.author) for piece in pieces for i in self._slow(piece)])
        prefix = self._spelling.get(anchor, "") if anchor is not None else ""
        text = prefix + "".join(piece.text for piece in pieces)
        # Per character, whether a tool wrote it.
        tools = bytes(len(prefix)) + b"".join(
            bytes([piece.author is Author.TOOL]) * len(piece.text) for piece in pieces
        )
        tokens = _spans(self.backend.encode(text, add_special_tokens=False))
        if any(token in self.added_ids and _touches(span, tools) for token, span in tokens):
            tokens = self._neutral(text, tools)
        if prefix:
            if not tokens or tokens[0][0] != anchor:
                return self.encode(pieces, None)
            # A marker that swallows the white space after it has swallowed some of the first piece: so it
            # would have done in a render, and so nothing of it is encoded.
            tokens = tokens[1:]
        # A token that covers text of both is the tool's; neither is trained on.
        return _merge([(token, Author.TOOL if _touches(span, tools) else Author.SCAFFOLD) for token, span in tokens])

    # -- special tokens neutralized ------------------------------------------------------------------------

    def _neutral(self, text: str, tools: bytes) -> list[tuple[int, tuple[int, int]]]:
        # Which markers are the template's own: encode with the tools' text replaced by as many harmless
        # characters.
        masked = "".join("x" if tool else char for char, tool in zip(text, tools, strict=True))
        own = [
            (token, span)
            for token, span in _spans(self.backend.encode(masked, add_special_tokens=False))
            if token in self.added_ids
        ]
        out: list[tuple[int, tuple[int, int]]] = []
        at = 0
        for token, (start, end) in [*own, (-1, (len(text), len(text)))]:
            if start > at:
                out.extend(self._stretch(text, at, start, tools))
            if token >= 0:
                out.append((token, (start, end)))
            at = max(at, end)
        return out

    def _stretch(self, text: str, start: int, end: int, tools: bytes) -> list[tuple[int, tuple[int, int]]]:
        encoding = self._twin.encode(text[start:end], add_special_tokens=False)
        found = [(token, (a + start, b + start)) for token, (a, b) in _spans(encoding)]
        if not any(token in self.added_ids and _touches(span, tools) for token, span in found):
            return found
        # Some models find a marker even without added tokens (it is a word of their vocabulary). Then the
        # tool's text can't be kept letter for letter: an invisible blank goes into each marker.
        broken = self._twin.encode(self.broken(text[start:end]), add_special_tokens=False)
        return [(token, (start, end)) for token in broken.ids]

    def broken(self, text: str) -> str:
        """``text`` with an invisible blank inside every spelling of a marker."""
        for marker in sorted(self.added, key=len, reverse=True):
            if len(marker) > 1 and marker in text:
                text = text.replace(marker, marker[0] + _BREAK + marker[1:])
        return text

    def _slow_plain(self, text: str) -> list[int]:
        ids = list(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
        if self.added_ids.intersection(ids):
            ids = list(self.tokenizer.encode(self.broken(text), add_special_tokens=False))
        return ids

    def _slow(self, piece: Piece) -> list[int]:
        if piece.author is Author.TOOL:
            return self._slow_plain(piece.text)
        return list(self.tokenizer.encode(piece.text, add_special_tokens=False))


def _spans(encoding: Any) -> list[tuple[int, tuple[int, int]]]:
    return list(zip(encoding.ids, encoding.offsets, strict=True))


def _touches(span: tuple[int, int], tools: bytes) -> bool:
    return tools.find(1, span[0], max(span[1], span[0] + 1)) >= 0


def _merge(tokens: Sequence[tuple[int, Author]]) -> list[Segment]:
    out: list[tuple[Author, list[int]]] = []
    for token, author in tokens:
        if out and out[-1][0] is author:
            out[-1][1].append(token)
        else:
            out.append((author, [token]))
    return [Segment.of(author, ids) for author, ids in out]


def _never_prepend(pre_tokenizer: Any) -> None:
    """Tokenizers that put a blank before the first word of a text must not do so in the middle of one."""
    if not isinstance(pre_tokenizer, dict):
        return
    if pre_tokenizer.get("type") == "Metaspace" and pre_tokenizer.get("prepend_scheme") == "first":
        pre_tokenizer["prepend_scheme"] = "never"
    for part in pre_tokenizer.get("pretokenizers") or ():
        _never_prepend(part)
