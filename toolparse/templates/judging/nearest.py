"""Families that are near a template without having its picture: by what it writes, and by what its prompt shows.

A picture is taken for a row of words here: its markers, its keys, what else it holds of letters, in order. Two rows
that are the same, or the same but for one word, are near; a row whose words stand in a text in that order, each soon
after the one before, is shown by that text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from toolparse.format import Also, Format
from toolparse.picture import HOLE
from toolparse.templates.judging.fingerprint import written

_WORD = re.compile(r"<[^<>\s{}]{1,80}>|<[^<>\s{}]{2,80}|\[/?[A-Z][A-Z0-9_]*\]|[^\W\d_]\w+")
#: Words that JSON objects of any kind hold.
_PLAIN = frozenset(("name", "arguments", "parameters", "function", "type", "id", "json", "tool", "true", "false"))
_NEAR = 200  # characters from one word of an example to the next, white space not counted
_PLACES = 8  # at which an example may begin
_MOST = 3

Words = tuple[str, ...]


def words_of(format: Format) -> Words:
    """The words of one call, with one parameter, and of what stands around it."""
    return tuple(_WORD.findall(HOLE.sub(" ", written(format, 1, 1)[0])))


def distinctive(words: Words) -> bool:
    """Whether a row of words says more than that there is a JSON object."""
    return any(word[0] in "<[" or (len(word) > 4 and word not in _PLAIN) for word in words)


def near(one: Words, other: Words) -> bool:
    """Whether two rows are the same but for one word at most."""
    if len(one) != len(other) or len(one) < 3 or not distinctive(one):
        return False
    return sum(a != b for a, b in zip(one, other, strict=True)) <= 1 and one[0] == other[0]


def shown(words: Words, text: str) -> bool:
    """Whether the words stand in a text (without white space) in their order, close together."""
    at = -1
    for _ in range(_PLACES):
        at = text.find(words[0], at + 1)
        if at < 0:
            return False
        behind: int = at + len(words[0])
        for word in words[1:]:
            found = text.find(word, behind, behind + _NEAR + len(word))
            if found < 0:
                break
            behind = found + len(word)
        else:
            return True
    return False


def _within(words: Words, others: Words) -> bool:
    rest = iter(others)
    return all(word in rest for word in words)


def written_by(families: Sequence[Format], turn: str) -> list[Format]:
    """The families whose call stands in what a template wrote, the longest rows first."""
    text = "".join(turn.split())
    rows = [(words_of(family), family) for family in families]
    fitting = [
        (words, family) for words, family in rows if distinctive(words) and len(words) > 1 and shown(words, text)
    ]
    return [family for _, family in sorted(fitting, key=lambda entry: -len(entry[0]))][:_MOST]


def nearly(families: Sequence[Format], induced: Format) -> list[Format]:
    """The families whose call is written with the same words but for one, the same ones first."""
    own = words_of(induced)
    found = [(sum(a != b for a, b in zip(own, words_of(family), strict=False)), family) for family in families
             if near(own, words_of(family))]  # fmt: skip
    return [family for _, family in sorted(found, key=lambda entry: entry[0])][:1]


def shown_by(families: Sequence[Format], format: Format, prompt: str) -> Iterator[tuple[tuple[Also, ...], str]]:
    """Pictures of calls that a prompt shows as examples and the template does not write, and whose they are.

    A family's own picture comes first, its alternatives behind it.
    """
    text = "".join(prompt.split())
    known = {words_of(shape) for shape in format.shapes()}
    count = 0
    for family in families:
        words = words_of(family)
        if words in known or len(words) < 2 or not distinctive(words) or not shown(words, text):
            continue
        if any(words[0] != own[:1][0] and _within(words, own) for own in known if own):
            continue  # its words are a part of what is written anyway
        known.add(words)
        yield beside(family), f"the prompt shows calls as {family.name!r} writes them"
        count += 1
        if count == _MOST:
            return
    for call in _objects_in_markers(prompt):
        words = tuple(_WORD.findall(HOLE.sub(" ", "".join(call.split()))))
        if words not in known and count < _MOST:
            known.add(words)
            count += 1
            yield (
                (Also(call=call, section="{{calls}}", between=""),),
                f"the prompt shows calls between {words[0]} and {words[-1]}",
            )


def beside(family: Format) -> tuple[Also, ...]:
    """A family's pictures of calls as alternatives of another format."""
    return tuple(
        Also(
            slip=slip,
            call=shape.call,
            section=shape.section,
            between=shape.between,
            param=shape.param,
            item=shape.item,
            syntax=shape.syntax,
            types=shape.types,
        )
        for shape, slip in family.spellings()
    )


_EXAMPLE = re.compile(
    r"(<[A-Za-z_|｜][^<>\s{}]{0,60}>)\s*\{\s*\"(name|function|tool_name)\"\s*:[^{}]{1,80}?,\s*"
    r"\"(arguments|parameters|args)\"\s*:\s*(?:\{[^{}]{0,200}\}|[^{}]{1,80}?)\s*\}\s*(<[^<>\s{}]{1,60}>)"
)


def _objects_in_markers(prompt: str) -> Iterator[str]:
    """JSON objects with a name and arguments that stand between a marker and the one that closes it."""
    for match in _EXAMPLE.finditer(prompt):
        opening, name, arguments, closing = match.groups()
        if closing == opening.replace("<", "</", 1) or closing == opening.replace("<|", "<|/", 1):
            yield f'{opening}\n{{"{name}": {{{{name}}}}, "{arguments}": {{{{arguments}}}}}}\n{closing}'


def malformed(format: Format) -> bool:
    """Whether calls look like JSON objects and are none: a quote or a bracket is missing, or one too many."""
    text = format.call
    start, stop = text.find('{"'), text.rfind("}")
    if start < 0 or stop < start or "{{params}}" in text or "{{kwargs}}" in text or not format.syntax.is_json:
        return False
    body = re.sub(r'"\{\{(name|id|index)(:\w+)?\}\}"', '"x"', text[start : stop + 1])
    body = re.sub(r"\{\{(name|id|index)(:\w+)?\}\}", '"x"', body)
    for value in ("{}", r"{\"a\": 1}"):
        try:
            json.loads(body.replace("{{arguments}}", value).replace("{{skip}}", "x"))
        except ValueError:
            continue
        return False
    return True
