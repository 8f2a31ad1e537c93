"""What a prompt already holds of the assistant's turn.

Generation prompts open a thought (`<think>`), a message (`<|start|>assistant`) or even a call on the model's behalf.
The reader then starts with that tail, as if the model had written it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from toolparse.compile import compile_format, is_marker
from toolparse.format import Format
from toolparse.picture import BLANKS
from toolparse.reader import read_pieces

_LOOK_BACK = 4096


def prefill_of(format: Format, prompt: str) -> str:
    """The tail of a rendered prompt that belongs to the turn; '' if the model starts afresh.

    Linear in the last few thousand characters of the prompt.
    """
    tail = prompt[-_LOOK_BACK:]
    format = format.bind(compile_format(format).suffix_in(tail))
    openers, closers, literals = _literals(format)
    start = rest = len(tail)
    while True:
        bare = len(tail[:rest].rstrip(BLANKS))
        literal = next((text for text in literals if tail.endswith(text, 0, bare)), None)
        if literal is None or (literal in format.ends and start == len(tail)):
            break  # behind the end of a turn the next one begins
        rest = bare - len(literal)
        if literal in openers:
            start = rest
    if start < len(tail):
        return tail[start:]
    if tail[rest:].strip(BLANKS) in closers:
        return tail[rest:]  # there is no thought: what follows is what follows one
    return _open_call(format, tail)


@lru_cache(maxsize=256)
def _literals(format: Format) -> tuple[frozenset[str], frozenset[str], tuple[str, ...]]:
    """(openings, closings of thoughts, openings and closings) of thoughts and framed content, longest first."""
    thoughts = {shape.thought.closing for shape in format.shapes()} - {""}
    openers: set[str] = set()
    closers: set[str] = set()
    for shape in format.shapes():
        for framed in (shape.thought, shape.said):
            openers.add(framed.opening)
            closers.add(framed.closing)
        call_head = shape.block.write(shape.call).partition("{{")[0].strip(BLANKS)
        if len(call_head) > 2 and not shape.between_messages and not is_marker(call_head):
            openers.add(call_head)
    openers.discard("")
    literals = tuple(sorted((openers | closers) - {""}, key=len, reverse=True))
    return frozenset(openers), frozenset(thoughts), literals


def _open_call(format: Format, tail: str) -> str:
    """The tail from the last call opening on, if the prompt ends inside that call."""
    program = compile_format(format)
    cores = {
        core for shape in program.shapes for core in (shape.opener_first, shape.head_first) if core and is_marker(core)
    }
    words = {shape.opener_first for shape in program.shapes if shape.opener_first and not shape.strong} - cores
    starts = sorted({tail.rfind(core) for core in cores} - {-1})
    for word in sorted(words):  # what nothing but its place announces
        starts += [match.start() for match in re.finditer(rf"^[ \t]*{re.escape(word)}", tail, re.MULTILINE)][-1:]
    for start in starts:
        if any(end in tail[start:] for end in program.ends):
            continue
        reader = read_pieces(format)
        reader.feed(tail[start:])
        if reader.in_call:
            return tail[start:]
    return ""
