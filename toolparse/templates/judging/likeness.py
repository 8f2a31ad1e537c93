"""How alike what templates and families write is: the same, near, or shown by a text.

The exact fingerprint is the sha256 of the text. The behaviour fingerprint is made of what is written: two calls with
two parameters each, put together from the pictures with holes left open, without white space and without what ends the
turn. It does not depend on where the pictures were cut, only on the text that they make together.

Families that are near a template without having its picture are found by words: a picture is taken for a row of them,
its markers, its keys, what else it holds of letters, in order. Two rows that are the same, or the same but for one
word, are near; a row whose words stand in a text in that order, each soon after the one before, is shown by that text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from toolparse.format import CALL_HOLES, PARAM_HOLES, Also, Format
from toolparse.picture import HOLE, Hole, Text, Wrapper
from toolparse.templates.induction.atoms import bare


def behaviour(format: Format) -> str:
    """The behaviour fingerprint of a format's own picture, its `also` left out."""
    return hashlib.sha256(canonical(format).encode("utf-8", "surrogatepass")).hexdigest()


def canonical(format: Format, calls: int = 2) -> str:
    """What the fingerprint is made of: the calls of a turn with open holes."""
    text, about = written(format, calls)
    return f"{_without_ends(text, format.ends)}\n{about}"


@lru_cache(maxsize=1024)
def written(format: Format, calls: int, params: int = 2) -> tuple[str, str]:
    """The calls of a turn, each with so many parameters, ends included, and what else a reader must know."""
    if format.between_messages:
        calls = 1  # each call is a message of its own; what separates messages is not part of the call
    block = format.block.write(format.between.join([_call(format, params)] * calls))
    text = bare(block)
    if format.between_messages and not re.sub(r"\{\{\w+\}\}", "", text):
        text += bare(format.between_messages)  # nothing else tells such a call from text
    return text, f"{_types(format)}\n{_syntax(format)}"


def _call(format: Format, params: int) -> str:
    """One call, with its parameters written out."""
    picture = format.picture("call", format.call, CALL_HOLES, frozenset())
    made: list[str] = []
    for part in picture.parts:
        if isinstance(part, Wrapper):
            made.append(_wrapper(part))
        elif isinstance(part, Text):
            made.append(part.text)
        else:
            made.append(_hole(format, part, params))
    return bare("".join(made))


def _wrapper(wrapper: Wrapper) -> str:
    """A JSON object: a name or id in quotes is the same as one that brings its own."""
    text = "".join(part.text if isinstance(part, Text) else "{{" + part.name + "}}" for part in wrapper.parts)
    return re.sub(r"([:])\s*([\"'])\{\{(name|id|index)\}\}\2", r"\1{{\3}}", text).replace("{{index}}", "{{id}}")


def _hole(format: Format, hole: Hole, params: int) -> str:
    if hole.name == "params" and format.param is not None:
        picture = format.picture("param", format.param, PARAM_HOLES, frozenset())
        one = "".join(part.text if isinstance(part, Text) else _plain(part) for part in picture.parts)
        return one * params
    if hole.name == "id" and format.id is not None:
        return re.sub(r":\d+(?=\}\})", "", format.id)
    return _plain(hole)


def _plain(part: object) -> str:
    return "{{" + part.name + "}}" if isinstance(part, Hole) else ""


def _types(format: Format) -> str:
    """How types are spelled, every one of them written out."""
    if format.types is None:
        return ""
    kinds = ("string", "number", "boolean", "null", "object", "array")
    types = dict(format.types)
    return ",".join(f"{kind}={types.get(kind, types.get('*', ''))}" for kind in kinds)


def _syntax(format: Format) -> str:
    """What a reader of the arguments must know; how words and separators are spelled is slack."""
    if "{{params}}" in format.call or format.syntax.is_json:
        return ""
    quotes = format.syntax.quotes
    if quotes and quotes[0] in ("'", '"', ""):
        return ""  # Python and JSON are both read where either is, and so is what ends without quotes
    return f"{quotes[:1]}{format.syntax.escapes}{format.syntax.bare_keys}"


def _without_ends(text: str, ends: Iterable[str]) -> str:
    """The text without the end markers it closes with."""
    closings = [end for end in map(bare, ends) if end]
    while closing := next((end for end in closings if text.endswith(end) and text != end), None):
        text = text.removesuffix(closing)
    return text


def same_picture(format: Format, family: Format, *, single: bool = False) -> bool:
    """Whether a family writes what an induced format writes; `single`: only one call of it was seen."""
    calls = 1 if single else 2
    (one, about), (other, also) = written(format, calls), written(family, calls)
    if about != also or one[:1] != other[:1]:
        return False
    ends = (*format.ends, *family.ends)  # what one calls an end may be the other's closing
    return _without_ends(one, ends) == _without_ends(other, ends)


# ----------------------------------------------------------------------------------------------- families that are near

_WORD = re.compile(r"<[^<>\s{}]{1,80}>|<[^<>\s{}]{2,80}|\[/?[A-Z][A-Z0-9_]*\]|[^\W\d_]\w+")
#: Words that JSON objects of any kind hold.
_PLAIN = frozenset(("name", "arguments", "parameters", "function", "type", "id", "json", "tool", "true", "false"))
_NEAR = 200  # characters from one word of an example to the next, white space not counted
_PLACES = 8  # at which an example may begin
#: How many near families are looked at, at the most.
MOST = 3

Words = tuple[str, ...]


@lru_cache(maxsize=1024)
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
    """Whether words that say something stand in a text (without white space) in their order, close together."""
    if len(words) < 2 or not distinctive(words):
        return False
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
    text = bare(turn)
    fitting = [family for family in families if shown(words_of(family), text)]
    return sorted(fitting, key=lambda family: -len(words_of(family)))[:MOST]


def nearly(families: Sequence[Format], induced: Format) -> list[Format]:
    """The family, if any, whose call is written with the same words, else with the same but for one."""
    own = words_of(induced)
    found = [family for family in families if near(own, words_of(family))]
    return sorted(found, key=lambda family: words_of(family) != own)[:1]


def shown_by(families: Sequence[Format], format: Format, prompt: str) -> Iterator[tuple[tuple[Also, ...], str]]:
    """Pictures of calls that a prompt shows as examples and the template does not write, and whose they are.

    A family's own picture comes first, its alternatives behind it.
    """
    text = bare(prompt)
    known = {words_of(shape) for shape in format.shapes()}
    for family in families:
        words = words_of(family)
        if words in known or not shown(words, text):
            continue
        if any(words[0] != own[:1][0] and _within(words, own) for own in known if own):
            continue  # its words are a part of what is written anyway
        known.add(words)
        yield beside(family), f"the prompt shows calls as {family.name!r} writes them"
    for call in _objects_in_markers(prompt):
        words = tuple(_WORD.findall(HOLE.sub(" ", bare(call))))
        if words not in known:
            known.add(words)
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
