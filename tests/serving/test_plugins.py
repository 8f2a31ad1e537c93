"""The plugins for vLLM and SGLang, driven as the servers drive a parser."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import fixtures
import toolparse
from tests.serving import stand_ins

pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[test]'")

from fixtures.tiny import tiny_tokenizer

FAMILIES = ["qwen", "llama3-json", "mistral-v11", "kimi-k2", "glm45", "deepseek-v31", "qwen3-coder", "lfm2"]
CALLS = [
    {"name": "plan_trip", "arguments": {"city": 'Oslo, "N"', "days": 3}},
    {"name": "ping", "arguments": {}},
]
BAD = {"name": "plan_tripp", "arguments": {"city": "Oslo"}}


@pytest.fixture
def vllm() -> Iterator[Any]:
    with stand_ins.vllm():
        yield importlib.import_module("toolparse.plugins.vllm")


@pytest.fixture
def sglang() -> Iterator[Any]:
    with stand_ins.sglang():
        yield importlib.import_module("toolparse.plugins.sglang")


def request(tools: Any = fixtures.TOOLS, **fields: Any) -> Any:
    """A request as vLLM hands it on: its tools are pydantic models."""
    given = (
        None if tools is None else [SimpleNamespace(model_dump=lambda exclude_none, tool=tool: tool) for tool in tools]
    )
    usual = {"tool_choice": "auto", "parallel_tool_calls": True, "include_reasoning": True}
    return SimpleNamespace(**{"tools": given, "structured_outputs": None, **usual, **fields})


def turn(family: str) -> tuple[Any, list[int], list[int]]:
    """A tokenizer, a prompt's ids and the ids of a turn with two calls."""
    tokenizer = tiny_tokenizer(fixtures.template(family))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tools=fixtures.TOOLS, add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    parser = toolparse.parser_for(tokenizer)
    assert isinstance(parser, toolparse.Parser)
    text = parser.render(CALLS, content="On it." if family not in ("llama3-json", "mistral-v11") else "")
    return tokenizer, ids, [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


def joined(deltas: list[Any]) -> tuple[str, str, list[tuple[str, Any]]]:
    """Reasoning, content and calls of vLLM's deltas, put together as its clients do."""
    calls: list[list[str]] = []
    for delta in deltas:
        for piece in delta.tool_calls if delta else ():
            if piece.index == len(calls):
                assert piece.id
                assert piece.type == "function"
                calls.append([piece.function.name, ""])
            calls[piece.index][1] += piece.function.arguments or ""
    said = [delta for delta in deltas if delta]
    return (
        "".join(delta.reasoning or "" for delta in said),
        "".join(delta.content or "" for delta in said),
        [(name, json.loads(arguments)) for name, arguments in calls],
    )


WANTED = [(call["name"], call["arguments"]) for call in CALLS]


# -------------------------------------------------------------------------------------------------------------- vLLM


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_reads_deltas_of_ids_to_the_end(vllm: Any, family: str) -> None:
    tokenizer, prompt, ids = turn(family)
    manager = sys.modules["vllm.parser.parser_manager"].ParserManager
    made = manager.get_parser(tool_parser_name="toolparse", enable_auto_tools=True)
    assert issubclass(made, vllm.ToolparseParser)
    assert made.tool_parser_cls is not None
    for size in (1, 4, 1000):
        parser = made(tokenizer, None, model_config=None, chat_template_kwargs={})
        deltas = []
        for at in range(0, len(ids), size):
            piece = ids[at : at + size]
            finished = at + size >= len(ids)
            deltas.append(
                parser.parse_delta(
                    tokenizer.decode(piece), piece, request(), prompt_token_ids=prompt, finished=finished
                )
            )
        _, content, calls = joined(deltas)
        assert calls == WANTED
        assert "plan_trip" not in content
    parser = made(tokenizer)
    parser.set_prompt_token_ids(prompt)
    _, whole, found = parser.parse(tokenizer.decode(ids), request(), True, ids)
    assert (whole or "") == content
    assert [(call.name, json.loads(call.arguments)) for call in found] == WANTED


def test_vllm_gives_what_only_the_end_settles(vllm: Any) -> None:
    """A call without its closing tag, which a server took as the stop."""
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    ids = tokenizer.encode('<tool_call>\n{"name": "ping", "arguments": {}}', add_special_tokens=False)
    parser = vllm.ToolparseParser(tokenizer)
    deltas = [parser.parse_delta("", [id], request(), prompt_token_ids=[], finished=False) for id in ids]
    assert joined(deltas)[2] == []
    deltas.append(parser.parse_delta("", [], request(), finished=True))
    assert joined(deltas)[2] == [("ping", {})]


def test_vllm_thoughts(vllm: Any) -> None:
    tokenizer = tiny_tokenizer(fixtures.template("deepseek-v31"))
    prompt = tokenizer.encode("<｜Assistant｜><think>", add_special_tokens=False)
    ids = tokenizer.encode("Hm.</think>Hello.", add_special_tokens=False)
    for include, thought in ((True, "Hm."), (False, "")):
        parser = vllm.ToolparseParser(tokenizer)
        asked = request(include_reasoning=include)
        deltas = [parser.parse_delta("", [id], asked, prompt_token_ids=prompt, finished=False) for id in ids]
        deltas.append(parser.parse_delta("", [], asked, finished=True))
        assert joined(deltas) == (thought, "Hello.", [])
    assert not parser.is_reasoning_end(prompt)
    assert parser.is_reasoning_end(tokenizer.encode("<｜Assistant｜></think>", add_special_tokens=False))


@pytest.mark.parametrize("asked", [{"tool_choice": "none"}, {"tools": None}])
def test_vllm_leaves_text_alone_where_no_call_is_wanted(vllm: Any, asked: dict[str, Any]) -> None:
    text = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert vllm.ToolparseParser(tokenizer).parse(text, request(**asked), True, ids) == (None, text, None)


def test_vllm_without_auto_tools_leaves_text_alone(vllm: Any) -> None:
    """vLLM would drop the calls and the text with them."""
    tokenizer, prompt, ids = turn("qwen")
    manager = sys.modules["vllm.parser.parser_manager"].ParserManager
    parser = manager.get_parser(tool_parser_name="toolparse", enable_auto_tools=False)(tokenizer)
    delta = parser.parse_delta("", ids, request(), prompt_token_ids=prompt, finished=True)
    text = tokenizer.decode(ids[:-1])
    assert (delta.content, delta.tool_calls) == (text, [])
    assert parser.parse(text, request(), False, ids) == (None, text, None)
    assert parser.parse(text, request(tool_choice="required"), False, ids)[2] is not None


def test_vllm_ends_are_no_text(vllm: Any) -> None:
    """Also an end-of-text token that the format knows nothing of."""
    tokenizer = tiny_tokenizer(fixtures.template("glm45"), eos="</s>")
    ids = [*tokenizer.encode("</think>Hello.", add_special_tokens=False), tokenizer.eos_token_id]
    prompt = tokenizer.encode("<|assistant|><think>", add_special_tokens=False)
    delta = vllm.ToolparseParser(tokenizer).parse_delta("", ids, request(), prompt_token_ids=prompt, finished=True)
    assert delta.content == "Hello."


def test_vllm_keeps_broken_calls_as_content(vllm: Any) -> None:
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    text = toolparse.parser_for("qwen").render([BAD])  # type: ignore[union-attr]
    assert vllm.ToolparseParser(tokenizer).parse(text, request(), True) == (None, text, None)


def test_vllm_requests_get_a_grammar(vllm: Any) -> None:
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    named = {"type": "function", "function": {"name": "ping"}}
    for choice in ("required", SimpleNamespace(model_dump=lambda exclude_none: named)):
        for made in (vllm.ToolparseParser(tokenizer), vllm.ToolparseToolParser(tokenizer)):
            asked = made.adjust_request(request(tool_choice=choice, response_format=None))
            assert asked.skip_special_tokens is False
            held = asked.structured_outputs
            assert "ping" in (held.structural_tag or held.grammar)
            assert ("plan_trip" in (held.structural_tag or held.grammar)) == (choice == "required")
    free = vllm.ToolparseParser(tokenizer).adjust_request(request())
    assert free.structured_outputs is None


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_behind_another_reasoning_parser(vllm: Any, family: str) -> None:
    """As `DelegatingParser` drives a tool parser: deltas of text without the thought, then `finish_streaming`."""
    tokenizer, _, ids = turn(family)
    manager = sys.modules["vllm.parser.parser_manager"].ParserManager
    own = manager.get_parser(tool_parser_name="toolparse", reasoning_parser_name="qwen3")
    assert own == "vLLM's own, toolparse and qwen3"
    assert manager.get_parser(tool_parser_name="hermes") == "vLLM's own, hermes and None"
    assert sys.modules["vllm.tool_parsers.abstract_tool_parser"].ToolParserManager.lazy_parsers == {
        "toolparse": ("toolparse.plugins.vllm", "ToolparseToolParser")
    }
    text = tokenizer.decode(ids[:-1])
    parser = vllm.ToolparseToolParser(tokenizer)
    assert parser.engine_based_streaming
    deltas = [parser.extract_tool_calls_streaming("", char, char, [], [], [], request()) for char in text]
    deltas.append(parser.finish_streaming())
    assert joined(deltas)[2] == WANTED
    info = vllm.ToolparseToolParser(tokenizer).extract_tool_calls(text, request())
    assert info.tools_called
    assert [(call.function.name, json.loads(call.function.arguments)) for call in info.tool_calls] == WANTED
    assert (info.content or "") == joined(deltas)[1]
    assert vllm.ToolparseToolParser(tokenizer).finish_streaming() is None


# ------------------------------------------------------------------------------------------------------------ SGLang


@pytest.mark.parametrize("family", FAMILIES)
def test_sglang_reads_increments_to_the_end(sglang: Any, family: str) -> None:
    tokenizer, _, ids = turn(family)
    text = tokenizer.decode(ids[:-1])
    sglang.register()
    sglang.register()
    made = sys.modules["sglang.srt.function_call.function_call_parser"].FunctionCallParser.ToolCallParserEnum
    assert sys.modules["sglang.srt.function_call.parser_names"].TOOL_CALL_PARSER_NAMES == ["hermes", "toolparse"]
    tools = [SimpleNamespace(model_dump=lambda exclude_none, tool=tool: tool) for tool in fixtures.TOOLS]
    for size in (1, 5, 1000):
        detector = made["toolparse"](tokenizer=tokenizer)
        results = [detector.parse_streaming_increment(text[at : at + size], tools) for at in range(0, len(text), size)]
        results.append(detector.finish(tools))
        calls: list[list[str]] = []
        for item in (item for result in results for item in result.calls):
            if item.name:
                assert item.tool_index == len(calls)
                calls.append([item.name, ""])
            calls[item.tool_index][1] += item.parameters
        assert [(name, json.loads(arguments)) for name, arguments in calls] == WANTED
    whole = made["toolparse"](tokenizer=tokenizer).detect_and_parse(text, tools)
    assert [(item.name, json.loads(item.parameters)) for item in whole.calls] == WANTED
    assert whole.normal_text == "".join(result.normal_text for result in results)
    assert made["toolparse"](tokenizer=tokenizer).has_tool_call(text)
    assert not made["toolparse"](tokenizer=tokenizer).has_tool_call("Hello.")


def test_sglang_keeps_broken_calls_as_text(sglang: Any) -> None:
    detector = sglang.ToolparseDetector(tiny_tokenizer(fixtures.template("qwen")))
    text = toolparse.parser_for("qwen").render([BAD])  # type: ignore[union-attr]
    tools = [SimpleNamespace(model_dump=lambda exclude_none, tool=tool: tool) for tool in fixtures.TOOLS]
    result = detector.detect_and_parse(text, tools)
    assert (result.calls, result.normal_text) == ([], text)


def test_sglang_asks_for_structural_tags(sglang: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def structural_tag(self: Any, tools: Any, **options: Any) -> dict[str, Any]:
        asked.update(options, names=[tool["function"]["name"] for tool in tools])
        return {"format": {"type": "any_text"}}

    monkeypatch.setattr(toolparse.Parser, "structural_tag", structural_tag, raising=False)
    detector = sglang.ToolparseDetector(tiny_tokenizer(fixtures.template("qwen")))
    tools = [SimpleNamespace(model_dump=lambda exclude_none, tool=tool: tool) for tool in fixtures.TOOLS]
    tag = detector.get_structural_tag(tools, "required", thinking_mode=False, parallel_tool_calls=False)
    assert tag.format == {"type": "any_text"}
    assert asked == {
        "choice": "required",
        "parallel": False,
        "strict": frozenset(),
        "reasoning": False,
        "names": ["plan_trip", "write_file", "ping"],
    }
    assert detector.get_structural_tag(tools, "auto") is None
