"""Wrong uses of the public functions say what was meant."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import toolparse
from fixtures import tokenizers

TEXT = "<tool_call>x"
TOKENIZER = tokenizers.tokenizer("qwen")


@pytest.mark.parametrize("function", [toolparse.parser_for, toolparse.detect])
def test_the_first_parameter_is_the_source(function: Any) -> None:
    assert next(iter(inspect.signature(function).parameters)) == "source"
    assert list(inspect.signature(toolparse.parse).parameters) == [
        "text_or_ids",
        "source",
        "tools",
        "prompt",
        "options",
    ]


@pytest.mark.parametrize(
    ("given", "source", "told"),
    [
        ("hermes", TEXT, "swapped"),
        ("hermes", '{"name": 1}', "swapped"),
        (TOKENIZER, TEXT, "swapped"),
        (toolparse.get("hermes"), TEXT, "swapped"),
        (toolparse.parser_for("hermes"), TEXT, "swapped"),
        ("hermes", [1, 2], "swapped"),
        ([TEXT, TEXT], "hermes", "parse_batch"),
        (TEXT.encode(), "hermes", "decode"),
        (None, "hermes", "None was given"),
        ({"role": "assistant", "content": TEXT}, "hermes", r'message\["content"\]'),
        ([{"role": "assistant"}], "hermes", "list of messages"),
        (TEXT, None, "None was given where a tokenizer"),
        (TEXT, b"hermes", "bytes"),
        (TEXT, 5, "int 5 was given"),
        (TEXT, {"role": "user"}, "a message was given"),
        (TEXT, ["hermes", "qwen"], "a list was given"),
    ],
    ids=str,
)
def test_wrong_uses(given: Any, source: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        toolparse.parse(given, source)


@pytest.mark.parametrize("parser", [toolparse.parser_for("hermes"), toolparse.parser_for(TOKENIZER)], ids=repr)
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b"x", "decode"),
        (None, "None was given"),
        ({"role": "assistant", "content": TEXT}, r'message\["content"\]'),
        ([{"role": "assistant"}], "list of messages"),
        ([TEXT, TEXT], "parse_batch"),
        ((TEXT,), "parse_batch"),
        (toolparse.parse("x", "hermes"), "message.text"),
        (2.5, "float 2.5 was given"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_wrong_uses_of_a_parser(parser: Any, given: Any, told: str) -> None:
    """The same words wherever a text belongs; with a tokenizer nothing else is taken for ids."""
    function = toolparse.FunctionParser(lambda text: [], name="mine")
    for use in (parser.parse, parser.stream().feed, function.parse, lambda given: parser.parse_batch([given])):
        with pytest.raises(TypeError, match=told):
            use(given)


def test_a_text_is_no_batch_and_none_no_name() -> None:
    with pytest.raises(TypeError, match="parse_batch takes a list of texts; parse reads one"):
        toolparse.parser_for("hermes").parse_batch(TEXT)
    with pytest.raises(TypeError, match="the name of a family belongs here, not NoneType"):
        toolparse.get(None)


@pytest.mark.parametrize("source", [None, b"x", 5, [1, 2], ["hermes"], {"role": "user"}], ids=str)
@pytest.mark.parametrize("function", [toolparse.parser_for, toolparse.detect])
def test_what_is_no_source(function: Any, source: Any) -> None:
    with pytest.raises(TypeError, match="given"):
        function(source)


def test_detect_takes_a_familys_name() -> None:
    found = toolparse.detect("qwen")
    assert found.format is toolparse.get("qwen")
    assert not found.verified
    with pytest.raises(toolparse.UnknownFormat, match="did you mean 'qwen'\\?"):
        toolparse.detect("quen")
