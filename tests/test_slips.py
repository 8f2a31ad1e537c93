"""Slips of one character or word, in every format: read right and noted, or not ok, and never silent."""

from __future__ import annotations

import re

import pytest

import toolparse
from tests.conftest import sliced, streamed
from tests.test_laws import FORMATS
from tests.test_loose import FORMATS as LOOSE
from toolparse import PYTHON, Also, Format, Syntax, testing

ARGUMENTS = {"first": "zqone", "then": "zqtwo"}
TOOL = {
    "name": "do_it",
    "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in ARGUMENTS}},
}
#: What LFM2.5's template makes of the family, which writes strings without escapes.
RAW = Format(
    "raw",
    "{{name}}({{kwargs}})",
    section="<c>[{{calls}}]</c>",
    syntax=Syntax(quotes=("'", '"'), escapes=False, true="True", false="False", null="None"),
    also=(Also(syntax=PYTHON),),
)
WITH_COMMAS = [
    param
    for param in [*FORMATS, *(pytest.param(f, id=f.name) for f in [RAW, *LOOSE.values()])]
    if param.values[0].body != "params" and param.values[0].syntax.comma and any(param.values[0].syntax.quotes)
]
BETWEEN = ["", " ", "\n", ";", "; ", ",,", ", , "]


def read(format: Format, text: str, tools: list[dict[str, object]] | None) -> toolparse.ParsedMessage:
    """The message of a text, which streams read alike."""
    parser = toolparse.Parser(format, prefill="", tools=tools)
    message = parser.parse(text)
    for size in (1, 5):
        testing.assert_same_message(message, streamed(parser, sliced(text, size)))
    return message


def slipped(format: Format, between: str) -> str:
    """A call with something in the place of the comma between its two arguments."""
    text = toolparse.Parser(format, prefill="").render(testing.numbered(format, [("do_it", ARGUMENTS)]))
    comma = re.escape(format.syntax.comma.strip())
    made = re.sub(rf"(zqone[^,]*?){comma}\s*(?=\W*then)", rf"\g<1>{between}", text, count=1)
    assert made != text
    return made


@pytest.mark.parametrize("format", WITH_COMMAS)
@pytest.mark.parametrize("between", BETWEEN)
def test_what_stands_for_the_comma_between_two_arguments(format: Format, between: str) -> None:
    text = slipped(format, between)
    for tools in ([TOOL], None):
        message = read(format, text, tools)
        assert message.issues or (not message.tool_calls and tools is None)
        for call in message.tool_calls:
            assert not call.ok or testing.same(call.arguments, ARGUMENTS), (text, call.arguments)


@pytest.mark.parametrize("between", [" ", "; "])
def test_without_quotes_the_schema_tells_that_a_comma_is_missing(between: str) -> None:
    message = read(LOOSE["bare"], f"[do_it(first=zqone{between}then=zqtwo)]", [TOOL])
    assert [issue.code for issue in message.tool_calls[0].issues] == ["missing-argument"]


@pytest.mark.parametrize(
    ("format", "text", "value"),
    [
        (RAW, "<c>[do_it(first='FOO='a' BAR='b' ./x')]</c>", "FOO='a' BAR='b' ./x"),
        (RAW, """<c>[do_it(first='<a href='x' id='y'>')]</c>""", "<a href='x' id='y'>"),
        (toolparse.get("gemma4"), '<|tool_call>call:do_it{first:Qecho QaQ QbQQ}<tool_call|>', 'echo "a" "b"'),
        (toolparse.get("gemma4"), '<|tool_call>call:do_it{first:QHe said QnoQ, then QyesQQ}<tool_call|>', 'He said "no", then "yes"'),
    ],
)  # fmt: skip
def test_quotations_within_a_text_are_no_slip(format: Format, text: str, value: str) -> None:
    (call,) = read(format, text.replace("Q", '<|"|>'), [TOOL]).tool_calls
    assert (call.ok, call.arguments) == (True, {"first": value})


@pytest.mark.parametrize("format", [param for param in FORMATS if param.values[0].body in ("arguments", "wrapper")])
@pytest.mark.parametrize("between", ["}, ", "},{", "}{"])
def test_arguments_that_go_on_behind_their_brace(format: Format, between: str) -> None:
    text = slipped(format, between)
    message = read(format, text, [TOOL])
    assert message.issues, text
    if format.call_end.strip() or "}}" not in format.call:  # else the call has ended with its object, in streams too
        assert not any(call.ok for call in message.tool_calls), (text, message.tool_calls)


CALL = ("get_weather", {"city": "Oslo", "days": 37, "tags": ["one", "two"]})
WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    },
}
#: Where one wrong character can turn the words or the fence that announce a call into prose, or a list in a fence.
WORDS_AND_FENCES = {"command-r-plus", "gemma3-tool-code", "qwen-agent", "react"}
#: A marker and a name, or a bracket, become one word.
ONE_WORD = ("[TOOL_CALLSget_weather", "get_weathercity")


@pytest.mark.parametrize("format", FORMATS)
def test_one_character_left_out_or_doubled(format: Format) -> None:
    """The call is read right, or it is not ok, or something is said; a text may get a character more at its edge.

    Python's strings in a row are one, which is noted.
    """
    parser = toolparse.Parser(format, prefill="", tools=[WEATHER])
    text = parser.render(testing.numbered(format, [CALL]))
    places = [at for at, char in enumerate(text) if not char.isalnum()]
    for wrong in {s for at in places for s in (text[:at] + text[at + 1 :], text[:at] + text[at : at + 1] + text[at:])}:
        message = parser.parse(wrong)
        testing.assert_same_message(message, streamed(parser, sliced(wrong, 3)))
        silent = not message.issues and not message.tool_calls
        assert not silent or format.name in WORDS_AND_FENCES or any(word in wrong for word in ONE_WORD), wrong
        for call in message.tool_calls:
            arguments = call.arguments
            if call.ok and len(arguments) == 3 and len(arguments["tags"]) == 2:
                city, tags = arguments["city"], arguments["tags"]
                arguments = {**arguments, "city": _without_edge(city), "tags": [_without_edge(tag) for tag in tags]}
            elif "in a row" in str(call.issues):
                continue
            assert not call.ok or (call.name, arguments) == CALL, (wrong, call.arguments)


def _without_edge(text: str) -> str:
    return re.sub(r"^\W{1,2}|\W{1,2}$", "", text)
