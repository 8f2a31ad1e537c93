"""What the laws are tried with: values, calls, pictures, and what a model may write, drawn or made from a seed."""

from __future__ import annotations

import dataclasses
import random
import re
import string
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from toolparse.codecs import json
from toolparse.compile import compile_format
from toolparse.errors import FormatError, RenderError
from toolparse.format import Format
from toolparse.message import ToolCall, fill_id
from toolparse.parser import Parser
from toolparse.render import write_call

Json = Any

_AWKWARD = (
    "", " ", "\n", "a\nb", '"', "'", "\\", "\\n", "it's \"quoted\"", "{", "}", "[1, 2]", '{"a": 1}', "null", "true",
    "None", "75001", "-1.5", "1e5", "<b>", "</b>", "a < b && c > d", "&amp;", "，", "日本語", "🙂", "\u00a0", "e\u0301",
    "\t", "x" * 300, "f(a=1)", "```json", "]]>", "#", "; ", ", ",
)  # fmt: skip


def names() -> st.SearchStrategy[str]:
    """Names as tools and parameters have them."""
    first = st.sampled_from(string.ascii_letters + "_")
    rest = st.text(string.ascii_letters + string.digits + "_", max_size=12)
    return st.builds(lambda a, b: a + b, first, rest).filter(lambda name: name not in _RESERVED)


_RESERVED = frozenset({*json.WORDS, *"frbuFRBU"})


def texts(format: Format | None = None) -> st.SearchStrategy[str]:
    """Strings as arguments hold them: any characters, awkward ones, and the format's own markers."""
    pieces: list[st.SearchStrategy[str]] = [
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.text(string.printable, max_size=30),
        st.sampled_from(_AWKWARD),
    ]
    if format is not None:
        markers = compile_format(format).all_markers
        if markers:
            pieces.append(
                st.builds(lambda a, m, b: a + m + b, st.text(max_size=4), st.sampled_from(markers), st.text(max_size=4))
            )
    return st.one_of(pieces)


def values(format: Format | None = None) -> st.SearchStrategy[Json]:
    """JSON values: unicode, quotes, markers, big integers, floats, null, nesting."""
    scalars = st.one_of(
        texts(format),
        st.integers(),
        st.integers(-(10**40), 10**40),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        st.none(),
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names(), inner, max_size=3),
        max_leaves=6,
    )


def calls(format: Format | None = None, *, max_size: int = 3, min_size: int = 1) -> st.SearchStrategy[list[ToolCall]]:
    """Lists of calls with consistent indices, with ids where the format writes them."""
    one = st.tuples(names(), st.dictionaries(names(), values(format), max_size=4))
    if format is not None and not format.parallel:
        min_size, max_size = min(min_size, 1), 1
    return st.lists(one, min_size=min_size, max_size=max_size).map(lambda items: numbered(format, items))


def numbered(format: Format | None, items: list[tuple[str, dict[str, Json]]]) -> list[ToolCall]:
    numbered = [ToolCall(name, arguments, None, index) for index, (name, arguments) in enumerate(items)]
    if format is None or not carries_ids(format):
        return numbered
    parser = Parser(format)
    return [ToolCall(c.name, c.arguments, _id_of(parser, c), c.index) for c in numbered]


def _id_of(parser: Parser, call: ToolCall) -> str | None:
    return fill_id(parser.format.new_id or parser.format.id or "call_{{index}}", call.name, call.index)


def carries_ids(format: Format) -> bool:
    """Whether the format writes call ids."""
    return "{{id}}" in format.call


def made_text(rng: random.Random, markers: Sequence[str]) -> str:
    """A string as arguments hold them, made from a seed."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(_AWKWARD)
    if kind == 1 and markers:
        return made_word(rng) + rng.choice(markers) + made_word(rng)
    if kind == 2:
        return "".join(
            chr(rng.choice((rng.randrange(32, 127), rng.randrange(160, 0xD7FF)))) for _ in range(rng.randrange(9))
        )
    if kind == 3:
        return "".join(rng.choice(string.printable) for _ in range(rng.randrange(25)))
    return " ".join(made_word(rng) for _ in range(rng.randrange(6)))


def made_word(rng: random.Random) -> str:
    """A word of letters."""
    return "".join(rng.choice(string.ascii_letters) for _ in range(rng.randrange(1, 8)))


def made_value(rng: random.Random, markers: Sequence[str], depth: int = 0) -> Json:
    """A JSON value, made from a seed."""
    kind = rng.randrange(9 if depth < 3 else 7)
    if kind < 3:
        return made_text(rng, markers)
    if kind == 3:
        return rng.choice((0, -1, rng.randrange(-999, 999), rng.randrange(10**40)))
    if kind == 4:
        return rng.choice((0.0, -0.5, 1e-7, 1e300, rng.uniform(-1e6, 1e6)))
    if kind < 7:
        return rng.choice((True, False, None))
    if kind == 7:
        return [made_value(rng, markers, depth + 1) for _ in range(rng.randrange(3))]
    return {"k" + made_word(rng): made_value(rng, markers, depth + 1) for _ in range(rng.randrange(3))}


def made_calls(format: Format, rng: random.Random, *, min_size: int = 1) -> list[ToolCall]:
    """Calls made from a seed."""
    markers = compile_format(format).all_markers
    count = rng.randint(min_size, 3) if format.parallel else 1
    items = [
        ("t" + made_word(rng), {"k" + made_word(rng): made_value(rng, markers) for _ in range(rng.randrange(4))})
        for _ in range(count)
    ]
    return numbered(format, items)


def made_output(format: Format, rng: random.Random) -> str:
    """What a model might write, made from a seed."""
    parser = Parser(format)
    markers = pieces_of(format)
    if rng.randrange(5) == 0:
        return "".join(rng.choice(markers) for _ in range(rng.randrange(14)))
    thought = rng.choice((None, "Hmm.")) if format.reasoning is not None else None
    items, content = made_calls(format, rng, min_size=0), made_text(rng, markers)
    text = written(parser, items, content, thought, end=rng.random() < 0.5)
    if rng.random() < 0.6:
        text = damaged(text, rng, markers)
    return text + made_output(format, rng) if rng.randrange(6) == 0 else text


def outputs(format: Format) -> st.SearchStrategy[str]:
    """What a model of this format might write: well-formed turns, damaged ones, heaps of markers, prose."""
    parser = Parser(format)
    markers = pieces_of(format)

    def turn(items: list[ToolCall], content: str, reasoning: str | None, seed: int) -> str:
        text = written(parser, items, content, reasoning, end=bool(seed & 1))
        return damaged(text, random.Random(seed), markers) if seed & 2 else text

    well = st.builds(
        turn,
        calls(format, min_size=0, max_size=2),
        texts(format),
        st.sampled_from([None, "Hmm."] if format.reasoning is not None else [None]),
        st.integers(0, 2**16),
    )
    heap = st.lists(st.sampled_from(markers), max_size=14).map("".join)
    return st.one_of(well, well, heap, texts(format), st.lists(st.one_of(well, heap), max_size=3).map("".join))


def pieces_of(format: Format) -> list[str]:
    """What heaps of markers are made of."""
    return [*compile_format(format).all_markers, "{", "}", '"', "[", "]", "\n", " ", "a", "(", ")", ","]


def written(parser: Parser, items: list[ToolCall], content: str, reasoning: str | None, *, end: bool) -> str:
    """A turn, also where the format cannot carry it."""
    try:
        return parser.render(items, content=content, reasoning=reasoning, end=end)
    except RenderError:
        return content + "".join(write_plain(parser.format, call, n) for n, call in enumerate(items))


def write_plain(format: Format, call: ToolCall, number: int) -> str:
    """A call written without looking at what it means; '' where the format cannot write it at all."""
    try:
        return write_call(format, call, number)
    except RenderError:
        return ""


def damaged(text: str, rng: random.Random, markers: Sequence[str] = ()) -> str:
    """The text with a few characters lost, doubled, replaced or inserted, or cut off."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        kind = rng.randint(0, 4)
        if kind == 0:
            text = text[:at] + text[at + rng.randint(1, 4) :]
        elif kind == 1:
            text = text[:at] + rng.choice('"{}[]<>\\,:=()\n' + string.ascii_letters) + text[at:]
        elif kind == 2:
            text = text[:at]
        elif kind == 3 and markers:
            text = text[:at] + rng.choice(markers) + text[at:]
        else:
            text = text[:at] + text[max(0, at - 5) :]
    return text


def chunked(text: str, seed: int) -> list[str]:
    """The text in pieces; the seed chooses how."""
    rng = random.Random(seed)
    longest = rng.choice((1, 2, 3, 5, 12, 40))
    pieces: list[str] = []
    at = 0
    while at < len(text):
        size = rng.randint(1, longest)
        pieces.append(text[at : at + size])
        at += size
    return pieces


def made_plain(rng: random.Random) -> dict[str, Json]:
    """Arguments without markup, made from a seed."""
    values = (made_word(rng), rng.randrange(99), [made_word(rng)], {"k" + made_word(rng): made_word(rng)})
    return {"k" + made_word(rng): rng.choice(values) for _ in range(rng.randint(1, 3))}


def plain_values() -> st.SearchStrategy[Json]:
    """Short values without markup."""
    word = st.text(string.ascii_letters + " ", min_size=1, max_size=8)
    return st.one_of(word, st.integers(-99, 99), st.lists(word, max_size=2), st.dictionaries(names(), word, max_size=2))


def schema_of(items: Sequence[ToolCall], *, deep: bool = False) -> list[dict[str, Any]]:
    """Tools under whose schemas these calls are valid: the types of text values follow from them.

    `deep`: at every depth, for formats whose values are text even inside objects and lists.
    """
    properties: dict[str, dict[str, Any]] = {}
    for call in items:
        known = properties.setdefault(call.name, {})
        for key, value in call.arguments.items():
            schema = _value_schema(value, deep)
            if key in known and known[key] != schema:
                known[key] = {}
            else:
                known.setdefault(key, schema)
    return [
        {
            "type": "function",
            "function": {"name": name, "description": "", "parameters": {"type": "object", "properties": known}},
        }
        for name, known in properties.items()
    ]


def _value_schema(value: Json, deep: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": json.type_of(value)}
    if deep and isinstance(value, dict):
        schema["properties"] = {key: _value_schema(item, deep) for key, item in value.items()}
    elif deep and isinstance(value, list):
        schema["prefixItems"] = [_value_schema(item, deep) for item in value]
    return schema


def needs_depth(format: Format) -> bool:
    return format.item is not None and format.types is None


def same(left: Json, right: Json) -> bool:
    """Whether two JSON values are the same, types of numbers and booleans included; key order does not matter."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def plain(value: Json) -> Json:
    """A value of the same shape that no format can refuse."""
    if isinstance(value, str):
        return "".join(char for char in value if char in string.ascii_letters)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def plain_calls(items: Sequence[ToolCall]) -> list[ToolCall]:
    """The calls with plain values."""
    return [ToolCall(c.name, plain(c.arguments), c.id, c.index) for c in items]


# -- what stands before a turn ----------------------------------------------------------------------------------------


def made_turn(format: Format, rng: random.Random) -> tuple[str | None, str]:
    """(prompt, text): what a model might write, behind a prompt that holds a part of the turn, or none (None).

    The part is a turn's beginning cut anywhere (in a thought, a call's head, its arguments, behind a call), or a heap
    of markers, ends and blanks.
    """
    text = made_output(format, rng)
    kind = rng.randrange(4)
    if kind == 0:
        return None, text
    if kind == 1:
        return "Hi.\n" + "".join(rng.choice(pieces_of(format)) for _ in range(rng.randrange(4))), text
    first = arguments_first(format) if rng.randrange(2) else None
    whole = written(Parser(first or format, prefill=""), made_calls(format, rng), "", None, end=rng.random() < 0.5)
    if kind == 2:
        return "Hi.\n", whole
    at = rng.randint(0, len(whole))
    return "Hi.\n" + whole[:at], whole[at:]


_NAME_KEY = re.compile(r'("\w+"): ?\{\{name\}\}')
_ARGUMENTS_KEY = re.compile(r'("\w+"): ?\{\{arguments\}\}')


def wrapper_keys(format: Format) -> tuple[str, str] | None:
    """The keys of name and arguments where calls are JSON objects that hold both; else None."""
    name, arguments = _NAME_KEY.search(format.call), _ARGUMENTS_KEY.search(format.call)
    return (name[1][1:-1], arguments[1][1:-1]) if name and arguments else None


def arguments_first(format: Format) -> Format | None:
    """The format with arguments before the name, where calls are JSON objects in which the name comes first."""
    name, arguments = _NAME_KEY.search(format.call), _ARGUMENTS_KEY.search(format.call)
    if not name or not arguments or arguments.start() < name.start():
        return None
    call = format.call
    swapped = (
        call[: name.start()] + arguments[0] + call[name.end() : arguments.start()] + name[0] + call[arguments.end() :]
    )
    return dataclasses.replace(format, call=swapped, also=())


_INNER = re.compile(
    r"(?P<before>.*?<(?P<tag>[^<>{}/\s]+)>\s*)(?P<inner><[^<>]*\{\{name\}\}.*>)(?P<after>\s*</(?P=tag)>\s*)", re.DOTALL
)


def inner_call(format: Format) -> tuple[Format, str, str] | None:
    """(format of the element that names the tool, what stands before it, behind it), where a call wraps it in one."""
    found = _INNER.fullmatch(format.call)
    if found is None or "{{arguments}}" in found["before"]:
        return None
    inner = dataclasses.replace(format, call=found["inner"], section="{{calls}}", between="\n", lead="", also=())
    return inner, found["before"], found["after"]


# -- pictures ---------------------------------------------------------------------------------------------------------


def pictures() -> st.SearchStrategy[Format]:
    """Formats as users declare them: markers of any characters around names and arguments; none that is refused."""
    return st.integers(0, 2**32).map(lambda seed: made_picture(random.Random(seed)))


def made_picture(rng: random.Random) -> Format:
    """A format as a user declares it, made from a seed."""
    while True:
        head, middle, tail = (_made_marker(rng) for _ in range(3))
        before, behind, between = (rng.choice(("", " ", "\n")) for _ in range(3))
        body = rng.choice(("{{arguments}}", "({{kwargs}})", "{{params}}", "\n```json\n{{arguments}}\n```\n"))
        if head[-1].isalnum():
            before = before or " "
        call = f"{head}{before}{{{{name}}}}{behind or ' '}{middle}{body}{tail}"
        param = f"{middle}{{{{key}}}}={{{{value}}}}{middle}\n" if body == "{{params}}" else None
        try:
            format = Format("declared", call=call, param=param, between=between)
            compile_format(format)
        except FormatError:
            continue
        return format


def _made_marker(rng: random.Random) -> str:
    signs = "".join(rng.choice("#$@~^%&*+=|/\\!?:;<>[](){}«»→✦") for _ in range(rng.randint(2, 4)))
    word = "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(3, 6)))
    return rng.choice((signs, word, f"{signs} {word}:"))
