"""Texts that a reader could choke on, for any format: made from its own pictures, in any size.

Each generator takes a size and gives a text of about that many characters. `growth.py` measures how long they take,
`tests/test_linear.py` counts the steps.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from toolparse import Format, Parser, RenderError

Generator = Callable[[int], str]

_HOLE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_VALUE = "vvvVALUEvvv"
_THOUGHT = "tttTHOUGHTttt"


@dataclass(frozen=True)
class Pieces:
    """A format's turn cut where hostile input cuts it."""

    head: str  # a call up to the middle of a string value
    tail: str  # and what follows that value
    second: str  # a second call of the same turn, as it stands behind the first
    empty: str  # a call without arguments
    opener: str  # the head up to the tool's name
    think: str  # what begins a thought, '' without one
    unthink: str  # and ends it
    literals: tuple[str, ...]  # every literal of the pictures
    markers: tuple[str, ...]  # those that look like markers
    prose_end: str  # the end of the turn


def pieces_of(format: Format) -> Pieces:
    """The pieces of a format."""
    parser = Parser(format, prefill="")
    one = parser.render([("f", {"key": _VALUE})])
    head, tail = one.split(_VALUE)
    try:
        two = parser.render([("f", {"key": _VALUE}), ("f", {"key": _VALUE})])
    except RenderError:  # one call a turn
        two = one
    first, _, rest = two.partition(_VALUE)
    second = ""
    if first == head and rest.count(_VALUE) == 1:
        second = rest[: rest.index(_VALUE)] + _VALUE
    think = unthink = ""
    if format.reasoning is not None:
        try:
            think, unthink = parser.render([], content="c", reasoning=_THOUGHT).split(_THOUGHT)
            unthink = unthink.removesuffix("c")
        except (RenderError, ValueError):
            think = unthink = ""
    literals: dict[str, None] = {}
    for shape in format.shapes():
        for picture in (shape.section, shape.call, shape.param, shape.reasoning, shape.content, shape.between_messages):
            for literal in _HOLE.split(picture or ""):
                if literal.strip():
                    literals[literal.strip()] = None
    for end in format.ends:
        literals[end] = None
    markers = tuple(text for text in literals if len(text) > 2 and not text[0].isalnum())
    return Pieces(
        head=head,
        tail=tail,
        second=second,
        empty=parser.render([("f", {})]),
        opener=_opener(parser, head),
        think=think,
        unthink=unthink,
        literals=tuple(literals),
        markers=markers or tuple(literals),
        prose_end=format.ends[0] if format.ends else "",
    )


def _opener(parser: Parser, head: str) -> str:
    """What stands before the tool's name; the first character where nothing does."""
    other = parser.render([("g", {"key": _VALUE})])
    same = next((at for at, (one, two) in enumerate(zip(head, other, strict=False)) if one != two), len(head))
    return head[: max(1, same)]


def _around_key(p: Pieces) -> tuple[str, str]:
    """What stands before and behind the key of a call's argument."""
    before, key, behind = p.head.rpartition("key")
    return (before, behind + "x" + p.tail) if key else (p.head, p.tail)


def repeated(unit: str, prefix: str = "", suffix: str = "") -> Generator:
    """`prefix`, as many `unit`s as fit, `suffix`."""

    def generate(size: int) -> str:
        room = max(0, size - len(prefix) - len(suffix))
        return prefix + unit * max(1, room // max(1, len(unit))) + suffix

    return generate


def hostile_inputs(format: Format) -> dict[str, Generator]:
    """Hostile generators by name."""
    p = pieces_of(format)
    near = tuple(marker[:-1] for marker in p.markers)
    wrapper = p.opener.partition("{")[0] + "{"
    broken = p.head.rstrip("\"'") + "}}]]((,," + p.tail
    inputs = {
        "openers": repeated(p.opener),
        "heads without an end": repeated(p.head),
        "heads, one to a line": repeated(p.head + "x\n"),
        "opening brackets [": repeated("["),
        "opening brackets {": repeated("{"),
        "opening brackets (": repeated("("),
        "[ inside a call": repeated("[", p.head.rstrip("\"'")),
        'nested {"a":': repeated('{"a":'),
        'nested {"name":': repeated('{"name": '),
        'many {"name": "f"}': repeated('{"name": "f"} '),
        'unclosed {"name": "f", "parameters": {': repeated('{"name": "f", "parameters": {"a": "'),
        "nesting inside a call": repeated('{"a": [', p.head.rstrip("\"'")),
        'quotes "': repeated('"'),
        "quotes '": repeated("'"),
        "unbalanced quotes": repeated('{"a": "b} ', p.opener),
        "unterminated string": repeated("lorem ipsum ", p.head),
        "unterminated string of closers": repeated(p.tail, p.head),
        "unterminated string of heads": repeated(p.head, p.head + "x"),
        "string of closers": repeated(p.tail + "x", p.head, p.tail),
        "string of openers": repeated(p.opener, p.head, p.tail),
        "string of quotes": repeated('" ', p.head, p.tail),
        "string of backslashes": repeated("\\", p.head, p.tail),
        "string of escaped quotes": repeated('\\"', p.head, p.tail),
        "string of newlines": repeated("\n", p.head, p.tail),
        "string of blanks": repeated(" ", p.head, p.tail),
        "closers": repeated(p.tail),
        "all markers": repeated("".join(p.literals)),
        "all markers, spaced": repeated(" x ".join(p.literals) + " x "),
        "near misses": repeated("".join(near)),
        "near misses, spaced": repeated(" ".join(near) + " "),
        "near misses in a string": repeated(" ".join(near), p.head, p.tail),
        "near misses in an open string": repeated(" ".join(near), p.head),
        "blanks": repeated(" "),
        "newlines": repeated("\n"),
        "text and blanks": repeated("x" + " " * 100),
        "text, then blanks": repeated(" ", "x"),
        "opener, then blanks": repeated(" ", p.opener),
        "openers and blanks": repeated(p.opener + " " * 120),
        "calls and blanks": repeated(p.head + "x" + p.tail + " " * 120),
        "blanks behind a call": repeated(" ", p.head + "x" + p.tail, "x"),
        "a huge name": repeated("a", p.opener),
        "a huge name, closed": repeated("a", p.opener, p.head[len(p.opener) :] + "x" + p.tail),
        "words": repeated("a "),
        "one word": repeated("a"),
        "a number": repeated("1", p.head.rstrip("\"'")),
        "a huge key": repeated("k", *_around_key(p)),
        "many keys, no quotes": repeated("k: 1, ", p.head.rstrip("\"'")),
        "keys of a wrapper": repeated('"k": 1, "l": [2], ', wrapper),
        "a huge key of a wrapper": repeated("k", wrapper + '"'),
        "a huge value of an unknown key": repeated("lorem ipsum ", wrapper + '"k": "'),
        "arguments before the name": repeated("lorem ipsum ", wrapper + '"arguments": {"key": "', '"}, "name": "f"}'),
        "a huge key before the name": repeated("k", wrapper + '"arguments": {"', '": 1}, "name": "f"}'),
        "calls without a name": repeated(p.opener + p.tail),
        "commas": repeated(",", p.head.rstrip("\"'")),
        "many keys": lambda size: p.head.rstrip("\"'") + "1, " + ", ".join(f'"k{i}": {i}' for i in range(size // 14)),
        "many tiny calls": repeated(p.empty),
        "many calls": repeated(p.head + "x" + p.tail),
        "many calls, text between": repeated(p.head + "x" + p.tail + " and\n"),
        "many calls in one section": repeated(p.second.replace(_VALUE, "x"), p.head + "x", p.tail),
        "broken calls": repeated(broken),
        "broken calls, text between": repeated(broken + " and\n"),
        "broken calls in one string": repeated(broken, p.head),
        "half calls": repeated(p.head + "x" + p.tail[: len(p.tail) // 2]),
        "half calls, spaced": repeated(p.head + "x" + p.tail[: len(p.tail) // 2] + "\n"),
        "calls without the last character": repeated((p.head + "x" + p.tail)[:-1]),
        "angles": repeated("<"),
        "f(": repeated("f("),
        "[f(": repeated("[f("),
        "f(a=": repeated("f(a="),
        "[f(a=": repeated("[f(a="),
        "[f(a=1), ": repeated("f(a=1), ", "["),
        "[f()]": repeated("[f()]"),
        "ends": repeated(p.prose_end or "\n"),
        "text after the end": repeated("text ", p.prose_end),
        "calls after the end": repeated(p.head + "x" + p.tail, p.prose_end),
        "<": repeated("< <| "),
        "fences": repeated("```json\n"),
    }
    if p.think:
        draft = p.head + "x" + p.tail
        inputs |= {
            "thoughts": repeated(p.think + "a" + p.unthink),
            "thoughts, empty": repeated(p.think + p.unthink),
            "thought openers": repeated(p.think),
            "thought closers": repeated(p.unthink),
            "an unclosed thought": repeated("lorem ipsum ", p.think),
            "blanks in a thought": repeated(" ", p.think, p.unthink),
            "text and blanks in a thought": repeated("x" + " " * 100, p.think, p.unthink),
            "drafts in a thought": repeated(draft + " ", p.think + "a", p.unthink),
            "drafts in an unclosed thought": repeated(draft + " ", p.think + "a"),
            "openers in a thought": repeated(p.opener, p.think + "a", p.unthink),
            "openers in an unclosed thought": repeated(p.opener, p.think + "a"),
            "near misses in a thought": repeated(" ".join(near), p.think + "a", p.unthink),
            "draft, then a long thought": repeated("lorem ipsum ", p.think + draft, p.unthink),
            "draft, then an unclosed thought": repeated("lorem ipsum ", p.think + draft),
            "thoughts with a draft": repeated(p.think + "a" + draft + p.unthink + "b"),
            "thoughts that stay open, a call in each": repeated(p.think + draft),
            "thoughts that stay open, half a call in each": repeated(p.think + p.head),
            "thoughts in calls": repeated(p.think + p.head),
            "thought, end": repeated(p.think + "a" + draft + (p.prose_end or "\n")),
        }
    return inputs


#: Those that `run.py` measures, one for every way of going wrong. Every format has them.
CHOSEN = (
    "openers",
    "heads without an end",
    "unterminated string of closers",
    "unterminated string of heads",
    "string of openers",
    "string of escaped quotes",
    "closers",
    "near misses, spaced",
    "near misses in an open string",
    "nesting inside a call",
    "a huge name",
    "a number",
    "many tiny calls",
    "broken calls",
    "half calls, spaced",
    "blanks behind a call",
)

_FILLERS = (*"x \n\"'\\{}[](),:=1<>|", "null", "f")


def random_input(format: Format, rng: random.Random) -> tuple[str, Generator]:
    """A random prefix, a random unit to pump, a random suffix; the description evaluates to the generator."""
    p = pieces_of(format)
    turn = (p.head, p.tail, p.opener, p.empty, p.think, p.unthink)
    ingredients = list(filter(None, (*p.literals, *p.literals, *turn, *_FILLERS, '{"name": "f"')))

    def some(low: int, high: int) -> str:
        out = ""
        for _ in range(rng.randint(low, high)):
            text = rng.choice(ingredients)
            if rng.random() < 0.15:
                text = text[: rng.randint(1, len(text))]
            elif rng.random() < 0.05:
                text *= rng.randint(2, 40)
            out += text
        return out

    prefix, unit, suffix = some(0, 3), some(1, 4), some(0, 2)
    return f"repeated({unit!r}, {prefix!r}, {suffix!r})", repeated(unit, prefix, suffix)
