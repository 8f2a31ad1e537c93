"""Structural tags: their shape here; what xgrammar makes of them where it is installed."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from tests.test_export_grammar import ANSWER, TOOL, answers, cases, with_argument, with_parameters
from toolparse import registry
from toolparse.errors import ExportError, RenderError
from toolparse.export import grammar, structural_tag, triggers
from toolparse.format import Format
from toolparse.parser import Parser
from toolparse.render import render

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]
HERMES: Any = registry.get("hermes")
(NOW,) = with_parameters({"type": "object", "properties": {}}, "now")


def nodes(node: Any) -> list[dict[str, Any]]:
    """All formats in a tag."""
    found = []
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, list):
            pending.extend(one)
        elif isinstance(one, dict):
            if "type" in one and isinstance(one["type"], str):
                found.append(one)
            pending.extend(value for key, value in one.items() if key != "json_schema")
    return found


def schemas(tag: Any) -> list[dict[str, Any]]:
    return [one["json_schema"] for one in nodes(tag) if one["type"] == "json_schema"]


def test_what_it_looks_like() -> None:
    tag = structural_tag(HERMES, [TOOL], reasoning=False)
    assert tag["type"] == "structural_tag"
    text, calls = tag["format"]["elements"]
    assert (text["type"], calls["type"]) == ("any_text", "star")
    begin, arguments, end, again = calls["content"]["elements"]
    assert begin["value"] == '<tool_call>\n{"name": "get_weather", "arguments": '
    assert arguments["json_schema"]["properties"]["days"] == {"type": "integer"}
    assert arguments["json_schema"]["additionalProperties"] is False
    assert end["value"] == "}\n</tool_call>"
    assert again == text


def test_what_text_may_not_hold() -> None:
    """How the markers of a turn begin; the same for thoughts and content, as engines take their time for each set."""
    hermes, apriel, harmony = (
        [one["excludes"] for one in nodes(structural_tag(registry.get(name), [TOOL])) if one["type"] == "any_text"]
        for name in ("hermes", "apriel", "harmony")
    )
    assert hermes == [["</think>", "</tool_c", "<think>", "<tool_ca", "<|im_end"]] * 3
    assert all("Here are my reasoning steps:" in words for words in apriel)  # prose is not cut
    assert not any("to=" in words for words in harmony)  # a word of a frame's head, which is text inside a frame


def test_choices() -> None:
    def made(**options: Any) -> dict[str, Any]:
        return structural_tag(HERMES, [TOOL, NOW], reasoning=False, **options)["format"]

    assert made(choice="none")["type"] == "any_text"
    for choice in ("required", "now"):  # nothing but calls, behind the first one, too
        assert not any(one["type"] == "any_text" for one in nodes(made(choice=choice)))
    assert [one["type"] for one in made(choice="auto")["elements"]] == ["any_text", "star"]
    assert "now" in json.dumps(made(choice="now"))
    assert "days" in json.dumps(made(choice="required"))
    assert [one["type"] for one in made(parallel=False)["elements"]] == ["any_text", "optional"]
    with pytest.raises(ExportError, match="choice 'noww' is neither one of auto, none, required nor a tool"):
        made(choice="noww")


@pytest.mark.parametrize(
    ("schema", "served"),
    [
        ({"type": "string"}, True),
        ({"type": "integer", "minimum": 1, "description": "A number."}, True),
        ({"type": "string", "enum": ["a", "b"]}, True),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None}, True),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, True),
        ({"type": "string", "pattern": "b"}, False),
        ({"type": "string", "maxLength": 9}, False),
        ({"type": "integer", "multipleOf": 5}, False),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, False),
        ({"type": "integer", "enum": [1, "a"]}, False),
        ({"const": {"a": 1}}, False),
        ({"minimum": 3}, False),
        ({"type": "array", "prefixItems": [{"type": "integer"}]}, False),
        ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["b"]}, False),
    ],
)
def test_engines_are_left_the_schemas_that_they_enforce(schema: dict[str, Any], served: bool) -> None:
    """xgrammar reads the others otherwise than validators do, and says nothing of it."""
    tag = structural_tag(HERMES, with_argument(schema, required=["x"]), reasoning=False)
    assert ("json_schema" in {one["type"] for one in nodes(tag)}) == served


def test_keywords_that_nobody_enforces_are_refused_in_tags_too() -> None:
    unique = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    tools = with_argument(unique)
    for name in ("hermes", "qwen3-coder"):
        with pytest.raises(ExportError, match=r"tool 'f' .*at x: no grammar says 'uniqueItems'; skip="):
            structural_tag(registry.get(name), tools)
        assert Parser(registry.get(name), tools=tools).structural_tag(skip=["uniqueItems"])
        assert triggers(registry.get(name), tools)


def test_strict_by_tool() -> None:
    lenient = {**TOOL, "function": {**TOOL["function"], "strict": False}}
    made = schemas(structural_tag(HERMES, [lenient, NOW], reasoning=False))
    assert {"type": "object"} in made
    assert all(schema == {"type": "object"} or schema["additionalProperties"] is False for schema in made)
    assert all("properties" in schema for schema in schemas(structural_tag(HERMES, [lenient], strict=True)))


def test_thoughts() -> None:
    tag = structural_tag(HERMES, [TOOL])["format"]
    thought = tag["elements"][0]
    assert thought["type"] == "optional"
    assert [one.get("value") for one in thought["content"]["elements"]] == ["<think>", None, "</think>"]
    opened = structural_tag(HERMES, [TOOL], prefill="<think>\n")["format"]
    assert opened["elements"][0]["type"] == "any_text"
    taken = structural_tag(HERMES, [TOOL], prefill="<think>\n", reasoning=False)
    assert taken == structural_tag(HERMES, [TOOL], reasoning=False)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format(format: Format) -> None:
    """Json bodies are the engine's."""
    tag = structural_tag(format, [TOOL, NOW])
    assert json.loads(json.dumps(tag)) == tag
    json_body = format.syntax.is_json and "{{arguments}}" in format.call
    assert any(one["type"] == "json_schema" for one in nodes(tag)) == json_body


def test_triggers_begin_the_lazy_grammar() -> None:
    """llama.cpp: the grammar begins with the word that wakes it."""
    from tests.test_export_grammar import Gbnf

    rng = random.Random(1)
    for name in ("hermes", "mistral-v3", "qwen3-coder", "deepseek-v3", "llama3-json", "pythonic"):
        format: Any = registry.get(name)
        words = triggers(format, [TOOL, NOW])
        text = grammar(format, [TOOL, NOW], content=False, reasoning=False, prefill="")
        for _ in range(4):
            assert Gbnf(text).sentence(rng).lstrip().startswith(tuple(words)), name


def test_prompt_says_where_the_turn_begins() -> None:
    parser = Parser(HERMES, tools=[TOOL])
    prompt = "<|im_start|>assistant\n<think>\n"
    assert parser.prefill_of(prompt) == "<think>\n"
    assert parser.structural_tag(prompt=prompt)["format"]["elements"][0]["type"] == "any_text"
    assert parser.grammar(prompt=prompt) == grammar(HERMES, [TOOL], prefill="<think>\n")


@pytest.fixture(scope="module")
def compiler() -> Any:
    """xgrammar's, over bytes."""
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar is not installed (the extra [grammar])")
    return xgrammar.GrammarCompiler(xgrammar.TokenizerInfo([bytes([n]) for n in range(256)]), max_threads=1)


def accepts(compiled: Any, text: str, *, whole: bool = True) -> bool:
    """Whether a grammar accepts a text, as all of a turn or as its beginning."""
    from xgrammar import GrammarMatcher

    matcher = GrammarMatcher(compiled, terminate_without_stop_token=True)
    return all(map(matcher.accept_token, text.encode())) and (not whole or matcher.is_terminated())


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_xgrammar_accepts_what_is_rendered(format: Format, compiler: Any) -> None:
    for tools, texts in cases(format, seed=5, markers=False):
        compiled = compiler.compile_structural_tag(json.dumps(structural_tag(format, tools)))
        for text in texts:
            assert accepts(compiled, text, whole=False), text


@pytest.mark.parametrize("format", FORMATS)
def test_choices_hold(format: Format, compiler: Any) -> None:
    """Through xgrammar, as a tag and as EBNF: no empty turn, no other tool, no second call, no text around calls."""
    parser = Parser(format, prefill="")
    tools = [TOOL, NOW]
    calls: list[Any] = [("get_weather", {"city": "x"}), ("now", {})]
    try:
        single = [render(format, [call]) for call in calls]
        texts = [*single, render(format, calls[:1], content="So."), "", render(format, [], content="So.")]
        texts += [f"{single[0]} So.", *([render(format, calls)] if format.parallel else [])]
    except RenderError as error:
        pytest.skip(str(error))
    for choice in ("required", "now"):
        for parallel in (True, False):
            offered = tools if choice == "required" else tools[1:]
            options: dict[str, Any] = {"parallel": parallel, "reasoning": False, "prefill": ""}
            tag = structural_tag(format, tools, choice=choice, **options)
            ebnf = grammar(format, offered, syntax="ebnf", content=False, **options)
            made = (compiler.compile_structural_tag(json.dumps(tag)), compiler.compile_grammar(ebnf))
            for text in texts:
                read = parser.parse(text, tools=tools)
                fits = all(call.ok for call in read.tool_calls) and "So." not in text
                fits = fits and {call.name for call in read.tool_calls} <= {
                    tool["function"]["name"] for tool in offered
                }
                fits = fits and 1 <= len(read.tool_calls) <= (2 if parallel else 1)
                for compiled in made:
                    assert accepts(compiled, text) == fits, (choice, parallel, text)


@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_fits_its_schema(format: Format, compiler: Any) -> None:
    for tools in ([], [TOOL]):
        compiled = compiler.compile_structural_tag(json.dumps(structural_tag(format, tools, answer=ANSWER)))
        for text, fits in answers(format):
            assert accepts(compiled, text) == fits, text


def test_markers_that_are_tokens() -> None:
    """Every marker is written as a token; in the text around calls it can't be spelled at all."""
    backend = pytest.importorskip("fixtures.tokenizers").backend("qwen")
    ids = {backend.token_to_id(marker): marker for marker in ("<tool_call>", "</tool_call>", "<think>", "</think>")}
    for choice in ("auto", "required"):
        tag = structural_tag(HERMES, [TOOL, NOW], tokenizer=backend, choice=choice)
        found = nodes(tag)
        tokens = {one["token"] for one in found if one["type"] == "token"}
        tokens |= {int(id) for one in found for id in re.findall(r"Token\((\d+)\)", one.get("grammar", ""))}
        assert tokens == ids.keys()
        assert not any(
            marker in one["value"] for one in found if one["type"] == "const_string" for marker in ids.values()
        )
    texts = [
        one for one in nodes(structural_tag(HERMES, [TOOL], tokenizer=backend, reasoning=False)) if "excludes" in one
    ]
    assert texts
    assert all({"<tool_ca", "</tool_c"} <= {*one["excludes"]} for one in texts)
    assert Parser(HERMES, tools=[TOOL, NOW], tokenizer=backend).structural_tag(choice="required") == tag


@pytest.mark.real
def test_xgrammar_lets_nothing_spell_a_marker(real_tokenizer: Any) -> None:
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar is not installed (the extra [grammar])")
    tokenizer = real_tokenizer("qwen3")
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, stop_token_ids=[tokenizer.eos_token_id])
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)

    def accepted(compiled: Any, ids: list[int]) -> bool:
        matcher = xgrammar.GrammarMatcher(compiled)
        return all(matcher.accept_token(id) for id in [*ids, tokenizer.eos_token_id])

    text = 'So.\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    right = tokenizer.encode(text, add_special_tokens=False)
    spelled = [id for part in (text[:8], text[8:]) for id in tokenizer.encode(part, add_special_tokens=False)]
    assert tokenizer.decode(spelled) == text
    for compiled in (
        compiler.compile_structural_tag(json.dumps(structural_tag(HERMES, [TOOL, NOW], tokenizer=tokenizer))),
        compiler.compile_grammar(grammar(HERMES, [TOOL, NOW], syntax="ebnf", tokenizer=tokenizer)),
    ):
        assert accepted(compiled, right)
        assert not accepted(compiled, spelled)


@pytest.mark.parametrize("name", ["llama3-json", "pythonic"])
def test_nothing_stands_behind_calls_without_a_marker(name: str) -> None:
    """Calls that only their place announces: text without any, or calls and the end."""
    format: Any = registry.get(name)
    made = structural_tag(format, [TOOL, NOW])["format"]
    assert made["type"] == "or"
    for way in made["elements"]:
        *_, last = way["elements"] if way["type"] == "sequence" else [way]
        assert way["type"] == "any_text" or last["type"] != "any_text"


@pytest.mark.slow
def test_types_of_parsers(tmp_path: Any) -> None:
    """A family's name gives a parser that mypy knows to have grammars."""
    api = pytest.importorskip("mypy.api", reason="mypy is not installed (the extra [dev])")
    file = tmp_path / "user.py"
    file.write_text(
        "from toolparse import parser_for\n"
        'text: str = parser_for("qwen", tools=[]).grammar()\n'
        'tag: dict[str, object] = parser_for("qwen", tools=[]).structural_tag()\n'
    )
    said, _, code = api.run(["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path), str(file)])
    assert code == 0, said
