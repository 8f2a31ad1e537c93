"""The floor: the least that any reader must do, with no regard for anything unusual.

One-shot: `str.find` of the markers and `orjson.loads` of what stands between them; for tagged parameters `str.find` of
the tags. Python calls and literal maps have no decoder of their own in orjson: there the floor is `ast.literal_eval`
of the same arguments. Streamed: a feed that looks for the markers in each piece (with what was held back of the last
one), hands the piece on, and reads the whole at the end.

These read nothing but the benchmark's own texts right.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import orjson

from benchmarks.cases import Truth

Floor = Callable[[str], Truth]
_loads = orjson.loads


def _thought(text: str, opener: str, closer: str) -> tuple[str, str]:
    if text.find(opener) != 0:
        return "", text
    end = text.find(closer)
    return text[len(opener) : end], text[end + len(closer) :]


def _hermes(text: str) -> Truth:
    reasoning, text = _thought(text, "<think>", "</think>")
    at = text.find("<tool_call>")
    if at < 0:
        end = text.find("<|im_end|>")
        return Truth((), text if end < 0 else text[:end], reasoning)
    content = text[:at]
    calls = []
    while at >= 0:
        end = text.find("</tool_call>", at)
        call = _loads(text[at + 11 : end])
        calls.append((call["name"], call["arguments"]))
        at = text.find("<tool_call>", end)
    return Truth(tuple(calls), content, reasoning)


def _qwen3_coder(text: str) -> Truth:
    reasoning, text = _thought(text, "<think>", "</think>")
    at = text.find("<tool_call>")
    if at < 0:
        end = text.find("<|im_end|>")
        return Truth((), text if end < 0 else text[:end], reasoning)
    content = text[:at]
    calls = []
    while at >= 0:
        at = text.find("<function=", at)
        close = text.find(">", at)
        name = text[at + 10 : close]
        last = text.find("</function>", close)
        arguments = {}
        at = text.find("<parameter=", close, last)
        while at >= 0:
            head = text.find(">", at)
            end = text.find("</parameter>", head)
            arguments[text[at + 11 : head]] = text[head + 2 : end - 1]
            at = text.find("<parameter=", end, last)
        end = text.find("</tool_call>", last)
        calls.append((name, arguments))
        at = text.find("<tool_call>", end)
    return Truth(tuple(calls), content, reasoning)


def _deepseek(text: str) -> Truth:
    reasoning, text = _thought(text, "<think>", "</think>")
    at = text.find("<｜tool▁calls▁begin｜>")
    if at < 0:
        end = text.find("<｜end▁of▁sentence｜>")
        return Truth((), text if end < 0 else text[:end], reasoning)
    content = text[:at]
    calls = []
    at = text.find("<｜tool▁call▁begin｜>", at)
    while at >= 0:
        head = text.find("<｜tool▁sep｜>", at)
        end = text.find("<｜tool▁call▁end｜>", head)
        calls.append((text[at + 19 : head], _loads(text[head + 12 : end])))
        at = text.find("<｜tool▁call▁begin｜>", end)
    return Truth(tuple(calls), content, reasoning)


def _llama3(text: str) -> Truth:
    if text.find('{"name"') != 0:
        end = text.find("<|eot_id|>")
        return Truth((), text if end < 0 else text[:end])
    calls = []
    at = 0
    while True:
        end = text.find('; {"name"', at)
        call = _loads(text[at:] if end < 0 else text[at:end])
        calls.append((call["name"], call["parameters"]))
        if end < 0:
            return Truth(tuple(calls))
        at = end + 2


def _harmony(text: str) -> Truth:
    reasoning = ""
    calls = []
    content = ""
    at = text.find("<|channel|>analysis<|message|>")
    if at == 0:
        end = text.find("<|end|>")
        reasoning, text = text[30:end], text[end + 7 :]
    at = text.find("<|channel|>final<|message|>")
    if at >= 0:
        return Truth((), text[at + 27 : text.find("<|return|>", at)], reasoning)
    at = text.find(" to=functions.")
    while at >= 0:
        head = text.find("<|channel|>", at)
        body = text.find("<|message|>", head)
        end = text.find("<|call|>", body)
        calls.append((text[at + 14 : head], _loads(text[body + 11 : end])))
        at = text.find(" to=functions.", end)
    return Truth(tuple(calls), content, reasoning)


def _pythonic(text: str) -> Truth:
    if not text.startswith("["):
        end = text.find("<|eot_id|>")
        return Truth((), text if end < 0 else text[:end])
    tree = ast.parse(text, mode="eval").body
    calls = [
        (call.func.id, {item.arg: ast.literal_eval(item.value) for item in call.keywords})
        for call in tree.elts  # type: ignore[attr-defined]
    ]
    return Truth(tuple(calls))


def _gemma4_text(text: str) -> Truth:
    reasoning, text = _thought(text, "<|channel>thought", "<channel|>")
    end = text.find("<turn|>")
    return Truth((), text if end < 0 else text[:end], reasoning)


FLOORS: dict[str, Floor] = {
    "hermes": _hermes,
    "qwen3-coder": _qwen3_coder,
    "deepseek-v31": _deepseek,
    "llama3-json": _llama3,
    "harmony": _harmony,
    "pythonic": _pythonic,
}


def floor_for(format: str, truth: Truth) -> Floor:
    """The floor for a text of a format."""
    known = FLOORS.get(format)
    if known is not None:
        return known
    assert format == "gemma4"
    if not truth.calls:
        return _gemma4_text
    # The same arguments as Python writes them, with the markers looked for in the text.
    literals = [(name, repr(arguments)) for name, arguments in truth.calls]

    def read(text: str) -> Truth:
        reasoning, text = _thought(text, "<|channel>thought", "<channel|>")
        calls = []
        at = text.find("<|tool_call>")
        for name, literal in literals:
            end = text.find("<tool_call|>", at)
            calls.append((name, ast.literal_eval(literal)))
            at = text.find("<|tool_call>", end)
        return Truth(tuple(calls), "", reasoning)

    return read


MARKERS = {
    "hermes": ("<tool_call>", "<think>", "<|im_end|>"),
    "qwen3-coder": ("<tool_call>", "<think>", "<|im_end|>"),
}


class StreamFloor:
    """Looks for the markers in each piece and hands it on."""

    def __init__(self, markers: tuple[str, ...], read: Floor) -> None:
        self.markers = markers
        self.keep = max(len(marker) for marker in markers) - 1
        self.tail = ""
        self.pieces: list[str] = []
        self.read = read

    def feed(self, piece: str) -> list[str]:
        """What the piece says."""
        window = self.tail + piece
        for marker in self.markers:
            if window.find(marker) >= 0:
                break
        self.tail = window[-self.keep :]
        self.pieces.append(piece)
        return [piece]

    def close(self) -> Truth:
        """The whole, read at once."""
        return self.read("".join(self.pieces))


def plain_floor(arguments: list[dict[str, Any]], closers: tuple[str, ...]) -> Callable[[str], Any]:
    """The floor for any format: look for its markers, decode the same arguments as JSON."""
    encoded = [orjson.dumps(item).decode() for item in arguments]

    def read(text: str) -> list[Any]:
        for closer in closers:
            text.find(closer)
        return [_loads(item) for item in encoded]

    return read
