"""Arguments that only what follows them ends: no escapes in short quotes, no quotes, no comma."""

from __future__ import annotations

import json

import pytest

from tests.conftest import streamed
from toolparse import ArgumentsDelta, Format, Syntax, parser_for, testing
from toolparse.testing import chunked

PYTHON_WORDS = {"true": "True", "false": "False", "null": "None"}
RAW = Syntax(quotes=("'", '"'), escapes=False, **PYTHON_WORDS)
QUOTED = Syntax(quotes=('"',), escapes=False, texts=True, **PYTHON_WORDS)
BARE = Syntax(quotes=("",), escapes=False, texts=True, **PYTHON_WORDS)
JOINED = Syntax(comma="")
ELEMENTS = Syntax(quotes=("<q>",), escapes=False, texts=True, bare_keys=True, colon=":", comma=",")

FORMATS = {
    "raw": Format("raw", "{{name}}({{kwargs}})", section="<c>[{{calls}}]</c>", between=", ", syntax=RAW),
    "quoted": Format("quoted", "{{name}}({{kwargs}})", section="[{{calls}}]", between=", ", syntax=QUOTED),
    "bare": Format("bare", "{{name}}({{kwargs}})", section="[{{calls}}]", between=", ", syntax=BARE),
    "joined": Format("joined", "{{name}}({{kwargs}})", section="[{{calls}}]", between=", ", syntax=JOINED),
    "map": Format("map", "<c>{{name}}{{arguments}}</c>", syntax=ELEMENTS),
}
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {
                "s": {"type": "string"},
                "n": {"type": "integer"},
                "on": {"type": "boolean"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "other": {"type": "object"},
            },
        },
    },
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("law", ["round_trip", "chunking", "nothing_lost"])
def test_the_laws_hold(name: str, law: str) -> None:
    getattr(testing, law)(FORMATS[name], max_examples=25)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("raw", """<c>[f(s='He said "no" and it's', n=2)]</c>""", {"s": """He said "no" and it's""", "n": 2}),
        ("raw", r"<c>[f(s='it\'s\n', n=2)]</c>", {"s": "it's\n", "n": 2}),
        ("raw", r"<c>[f(s='C:\new\', n=2)]</c>", {"s": "C:\\new\\", "n": 2}),
        ("raw", """<c>[f(tags=['a, b', "c"], on=True)]</c>""", {"tags": ["a, b", "c"], "on": True}),
        ("quoted", '[f(s="75001", n="3", on="True")]', {"s": "75001", "n": 3, "on": True}),
        ("quoted", """[f(other="{'a': [1, None]}", tags="['x']")]""", {"other": {"a": [1, None]}, "tags": ["x"]}),
        ("quoted", '[f(s="say "hi" (twice)", n=4)]', {"s": 'say "hi" (twice)', "n": 4}),
        ("bare", "[f(s=one, two (three), n=3)]", {"s": "one, two (three)", "n": 3}),
        ("bare", "[f(s=, on=true)]", {"s": "", "on": True}),
        ("joined", '[f(s="x"n=3on=truetags=["a"]other={"b": 1})]', {"s": "x", "n": 3, "on": True, "tags": ["a"], "other": {"b": 1}}),
        ("map", "<c>f{s:<q>a, b}<q>,n:<q>12<q>}</c>", {"s": "a, b}", "n": 12}),
    ],
)  # fmt: skip
def test_values_end_where_the_call_can_go_on(name: str, text: str, wanted: dict[str, object]) -> None:
    parser = parser_for(FORMATS[name], tools=[TOOL])
    message = parser.parse(text)
    assert [(call.name, call.arguments, call.ok) for call in message.tool_calls] == [("f", wanted, True)]
    for seed in range(20):
        assert [call.arguments for call in streamed(parser, chunked(text, seed)).tool_calls] == [wanted]


def test_blanks_around_content_are_markup_where_its_picture_shows_them() -> None:
    format = Format("l", "<c>{{name}} {{arguments}}</c>", content="\n{{text}} ", lead="\n", ends=("<e>",))
    parser = parser_for(format)
    for content, text in (("Yes.", "\nYes. <e>"), ("\n Yes.\n ", "\n\n Yes.\n  "), ("Yes.", "Yes.")):
        assert parser.parse(text).content == content, text
        for seed in range(10):
            assert streamed(parser, chunked(text, seed)).content == content
    message = parser.parse("\nYes.\n<c>f {}</c>")
    assert (message.content, len(message.tool_calls)) == ("Yes.", 1)
    assert parser.render([("f", {})], content="Yes.") == "\nYes.\n<c>f {}</c>"


def test_without_a_schema_texts_stay_text() -> None:
    (call,) = parser_for(FORMATS["bare"]).parse("[f(n=3, on=true)]").tool_calls
    assert call.arguments == {"n": "3", "on": "true"}


def test_two_calls_and_an_open_one() -> None:
    message = parser_for(FORMATS["bare"]).parse("[f(s=a, b), g(x=1)]")
    assert [(call.name, call.arguments) for call in message.tool_calls] == [("f", {"s": "a, b"}), ("g", {"x": "1"})]
    cut = parser_for(FORMATS["quoted"]).parse('[f(s="a", n="12')
    assert cut.truncated
    assert not any(call.ok for call in cut.tool_calls)


@pytest.mark.parametrize("declared", [True, False])
def test_a_model_may_write_the_quotes_that_the_template_leaves_out(declared: bool) -> None:
    parser = parser_for(FORMATS["bare"], tools=[TOOL] if declared else None)
    text = """[f(n=3, s="It's \\"so\\"\\n, n=4", on=True, tags=['a'])]"""
    message = parser.parse(text)
    assert message.issues == ()
    (call,) = message.tool_calls
    assert call.arguments == {"n": 3, "s": 'It\'s "so"\n, n=4', "on": True, "tags": ["a"]}
    for seed in range(8):
        stream = parser.stream()
        events = [event for piece in chunked(text, seed) for event in stream.feed(piece)]
        assert stream.close() == message
        events += stream.finish()
        said = "".join(event.json for event in events if isinstance(event, ArgumentsDelta))
        assert json.loads(said) == call.arguments


def test_without_quotes_and_schema_values_stay_text() -> None:
    (call,) = parser_for(FORMATS["bare"]).parse("[f(n=3, s=It's so)]").tool_calls
    assert call.arguments == {"n": "3", "s": "It's so"}


def test_either_quote_is_a_string_where_nothing_parts_arguments() -> None:
    (call,) = parser_for(FORMATS["joined"]).parse("[f(s='a'n=3on=True)]").tool_calls
    assert (call.arguments, call.issues) == ({"s": "a", "n": 3, "on": True}, ())
