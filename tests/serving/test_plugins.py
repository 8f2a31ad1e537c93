"""The plugins for vLLM and SGLang, driven as the servers drive a parser.

With stand-ins for the servers' interfaces, and with the interfaces themselves where `make servers` has fetched them.
"""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fixtures
import toolparse
from tests.conftest import ROOT
from tests.serving import stand_ins
from toolparse.errors import UnknownFormat
from toolparse.plugins import flags

pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[test]'")

from fixtures.tiny import tiny_tokenizer

FAMILIES = ["qwen", "llama3-json", "mistral-v11", "kimi-k2", "glm45", "deepseek-v31", "qwen3-coder", "lfm2"]
CALLS = [
    {"name": "plan_trip", "arguments": {"city": 'Oslo, "N"', "days": 3}},
    {"name": "ping", "arguments": {}},
]
BAD = {"name": "plan_tripp", "arguments": {"city": "Oslo"}}


@pytest.fixture(params=["stand-ins", "own files"])
def vllm(request: pytest.FixtureRequest) -> Iterator[Any]:
    with stand_ins.vllm() if request.param == "stand-ins" else stand_ins.real_vllm():
        yield importlib.import_module("toolparse.plugins.vllm")


@pytest.fixture
def real_vllm() -> Iterator[Any]:
    with stand_ins.real_vllm():
        yield importlib.import_module("toolparse.plugins.vllm")


@pytest.fixture(params=["stand-ins", "own files"])
def sglang(request: pytest.FixtureRequest) -> Iterator[Any]:
    with stand_ins.sglang() if request.param == "stand-ins" else stand_ins.real_sglang():
        yield importlib.import_module("toolparse.plugins.sglang")


class Given(SimpleNamespace):
    """A part of a request: the servers have pydantic models."""

    def model_dump(self, exclude_none: bool) -> dict[str, Any]:
        return dict(self.__dict__)


def request(vllm: Any, tools: Any = fixtures.TOOLS, **fields: Any) -> Any:
    """A request as vLLM hands it on."""
    if vllm.DeltaMessage is not stand_ins.DeltaMessage:
        protocol = importlib.import_module("vllm.entrypoints.openai.chat_completion.protocol")
        messages = [{"role": "user", "content": "Hi"}]
        return protocol.ChatCompletionRequest(model="tiny", messages=messages, tools=tools, **fields)
    given = None if tools is None else [Given(**tool) for tool in tools]
    if isinstance(fields.get("tool_choice"), dict):
        fields["tool_choice"] = Given(**fields["tool_choice"])
    usual = {"tool_choice": "auto", "parallel_tool_calls": True, "include_reasoning": True, "stop": []}
    usual |= {"include_stop_str_in_output": False, "structured_outputs": None, "response_format": None}
    return SimpleNamespace(**{"tools": given, **usual, **fields})


def turn(family: str) -> tuple[Any, list[int], list[int]]:
    """A tokenizer, a prompt's ids and the ids of a turn with two calls."""
    tokenizer = tiny_tokenizer(fixtures.template(family))
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tools=fixtures.TOOLS, add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    parser = toolparse.parser_for(tokenizer)
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
    made = vllm.ParserManager.get_parser(tool_parser_name="toolparse", enable_auto_tools=True)
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
                    tokenizer.decode(piece), piece, request(vllm), prompt_token_ids=prompt, finished=finished
                )
            )
        _, content, calls = joined(deltas)
        assert calls == WANTED
        assert "plan_trip" not in content
    parser = made(tokenizer)
    parser.set_prompt_token_ids(prompt)
    _, whole, found = parser.parse(tokenizer.decode(ids), request(vllm), True, ids)
    assert (whole or "") == content
    assert [(call.name, json.loads(call.arguments)) for call in found] == WANTED


def test_vllm_gives_what_only_the_end_settles(vllm: Any) -> None:
    """A call without its closing tag, which a server took as the stop."""
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    ids = tokenizer.encode('<tool_call>\n{"name": "ping", "arguments": {}}', add_special_tokens=False)
    parser = vllm.ToolparseParser(tokenizer)
    deltas = [parser.parse_delta("", [id], request(vllm), prompt_token_ids=[], finished=False) for id in ids]
    assert joined(deltas)[2] == []
    deltas.append(parser.parse_delta("", [], request(vllm), finished=True))
    assert joined(deltas)[2] == [("ping", {})]


def test_vllm_thoughts(vllm: Any) -> None:
    tokenizer = tiny_tokenizer(fixtures.template("deepseek-v31"))
    prompt = tokenizer.encode("<｜Assistant｜><think>", add_special_tokens=False)
    ids = tokenizer.encode("Hm.</think>Hello.", add_special_tokens=False)
    for include, thought in ((True, "Hm."), (False, "")):
        parser = vllm.ToolparseParser(tokenizer)
        asked = request(vllm, include_reasoning=include)
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
    assert vllm.ToolparseParser(tokenizer).parse(text, request(vllm, **asked), True, ids) == (None, text, None)


def test_vllm_without_auto_tools_leaves_text_alone(vllm: Any) -> None:
    """vLLM would drop the calls and the text with them."""
    tokenizer, prompt, ids = turn("qwen")
    parser = vllm.ParserManager.get_parser(tool_parser_name="toolparse", enable_auto_tools=False)(tokenizer)
    delta = parser.parse_delta("", ids, request(vllm), prompt_token_ids=prompt, finished=True)
    text = tokenizer.decode(ids[:-1])
    assert (delta.content, delta.tool_calls) == (text, [])
    assert parser.parse(text, request(vllm), False, ids) == (None, text, None)
    assert parser.parse(text, request(vllm, tool_choice="required"), False, ids)[2] is not None


def test_vllm_ends_are_no_text(vllm: Any) -> None:
    """Also an end-of-text token that the format knows nothing of."""
    tokenizer = tiny_tokenizer(fixtures.template("glm45"), eos="</s>")
    ids = [*tokenizer.encode("</think>Hello.", add_special_tokens=False), tokenizer.eos_token_id]
    prompt = tokenizer.encode("<|assistant|><think>", add_special_tokens=False)
    delta = vllm.ToolparseParser(tokenizer).parse_delta("", ids, request(vllm), prompt_token_ids=prompt, finished=True)
    assert delta.content == "Hello."


def test_vllm_keeps_broken_calls_as_content(vllm: Any) -> None:
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    text = toolparse.parser_for("qwen").render([BAD])
    assert vllm.ToolparseParser(tokenizer).parse(text, request(vllm), True) == (None, text, None)


def test_vllm_ids_end_where_the_text_was_cut(vllm: Any) -> None:
    """At a stop text, behind which there may be ids that the server gives no text for."""
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    ids = tokenizer.encode("One. Two. END Three", add_special_tokens=False)
    for stop, wanted in (("END", "One. Two. "), (["Three", "Two"], "One. ")):
        asked = request(vllm, stop=stop)
        delta = vllm.ToolparseParser(tokenizer).parse_delta("", ids, asked, prompt_token_ids=[], finished=True)
        assert delta.content == wanted
        assert vllm.ToolparseParser(tokenizer).parse("", asked, True, ids) == (None, wanted, None)
    whole = request(vllm, stop="END", include_stop_str_in_output=True)
    assert vllm.ToolparseParser(tokenizer).parse("", whole, True, ids)[1] == "One. Two. END Three"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "ping"}}])
def test_vllm_requests_get_a_grammar(vllm: Any, choice: Any) -> None:
    tokenizer = tiny_tokenizer(fixtures.template("deepseek-v31"))
    prompt = tokenizer.encode("<｜Assistant｜><think>", add_special_tokens=False)
    for made in (vllm.ToolparseParser(tokenizer), vllm.ToolparseToolParser(tokenizer)):
        newer = isinstance(made, vllm.ToolparseParser)
        if newer:
            made.set_prompt_token_ids(prompt)
        asked = made.adjust_request(request(vllm, tool_choice=choice))
        assert asked.skip_special_tokens is False
        tag = asked.structured_outputs.structural_tag
        assert "ping" in tag
        assert ("plan_trip" in tag) == (choice == "required")
        # The thought that the prompt opens is in the newer interface's grammar; the other's begins behind it.
        assert ("</think>" in json.dumps(json.loads(tag)["format"].get("elements", [{}])[0])) == newer
        assert asked._grammar_from_parser == newer
    free = vllm.ToolparseParser(tokenizer).adjust_request(request(vllm))
    assert free.structured_outputs is None


def test_vllm_refuses_what_nobody_can_read_when_it_starts(vllm: Any) -> None:
    tokenizer = tiny_tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(UnknownFormat):
        vllm.ToolparseParser(tokenizer)


def test_vllm_with_a_chat_template_of_its_own(vllm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--chat-template` is not told to plugins."""
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    text = toolparse.parser_for("llama3-json").render([CALLS[0]])
    template = tmp_path / "template.jinja"
    template.write_text(fixtures.template("llama3-json"), "utf-8")
    assert vllm.ToolparseParser(tokenizer).parse(text, request(vllm), True)[2] is None
    for chosen in ("llama3-json", str(template)):
        monkeypatch.setenv("TOOLPARSE_FORMAT", chosen)
        ids = tokenizer.encode(text, add_special_tokens=False)
        (call,) = vllm.ToolparseParser(tokenizer).parse(text, request(vllm), True, ids)[2]
        assert json.loads(call.arguments) == CALLS[0]["arguments"]


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_behind_another_reasoning_parser(vllm: Any, family: str) -> None:
    """As `DelegatingParser` drives a tool parser: deltas of text without the thought, then `finish_streaming`."""
    tokenizer, _, ids = turn(family)
    registered = vllm.ToolParserManager.lazy_parsers["toolparse"]
    assert registered == ("toolparse.plugins.vllm", "ToolparseToolParser")
    own = vllm.ParserManager.get_parser(tool_parser_name="toolparse", reasoning_parser_name="deepseek_r1")
    assert not issubclass(own, vllm.ToolparseParser)
    text = tokenizer.decode(ids[:-1])
    parser = vllm.ToolparseToolParser(tokenizer)
    assert parser.engine_based_streaming
    deltas = [parser.extract_tool_calls_streaming("", char, char, [], [], [], request(vllm)) for char in text]
    deltas.append(parser.finish_streaming())
    assert joined(deltas)[2] == WANTED
    info = vllm.ToolparseToolParser(tokenizer).extract_tool_calls(text, request(vllm))
    assert info.tools_called
    assert [(call.function.name, json.loads(call.function.arguments)) for call in info.tool_calls] == WANTED
    assert (info.content or "") == joined(deltas)[1]
    assert vllm.ToolparseToolParser(tokenizer).finish_streaming() is None


THOUGHTS = [
    # what the prompt ends in, what the model writes, its thought, the rest
    ("deepseek-v31", "<｜Assistant｜><think>", "Hm.</think>Hello.", "Hm.", "Hello."),
    ("deepseek-v31", "<｜Assistant｜></think>", "Hello.", None, "Hello."),
    ("qwen", "<|im_start|>assistant\n", "<think>\nHm.\n</think>\n\nHello.", "Hm.", "Hello."),
    ("qwen", "<|im_start|>assistant\n", "Hello.", None, "Hello."),
]


@pytest.mark.parametrize(("family", "prompt", "text", "thought", "rest"), THOUGHTS)
def test_vllm_reasoning_parser(vllm: Any, family: str, prompt: str, text: str, thought: str | None, rest: str) -> None:
    tokenizer = tiny_tokenizer(fixtures.template(family))
    before, ids = (tokenizer.encode(part, add_special_tokens=False) for part in (prompt, text))
    assert vllm.ReasoningParserManager.lazy_parsers["toolparse"] == (
        "toolparse.plugins.vllm",
        "ToolparseReasoningParser",
    )
    parser = vllm.ToolparseReasoningParser(tokenizer)
    parser.set_prompt_token_ids(before)
    assert parser.is_reasoning_end(before) == prompt.endswith("</think>")
    assert parser.extract_reasoning(text, request(vllm)) == (thought, rest)
    deltas, over = [], []
    for at, id in enumerate(ids):
        piece = tokenizer.decode([id])
        deltas.append(parser.extract_reasoning_streaming("", "", piece, ids[:at], ids[: at + 1], [id]))
        over.append(parser.is_reasoning_end_streaming(ids[: at + 1], [id]))
        if over[-1]:
            break
    said = joined(deltas)
    assert said[0] == (thought or "")
    assert rest.startswith(said[1])
    assert over[-1]


def test_vllm_reasoning_parser_of_a_model_that_does_not_think(vllm: Any) -> None:
    with pytest.raises(UnknownFormat, match="no thoughts"):
        vllm.ToolparseReasoningParser(tiny_tokenizer(fixtures.template("llama3-json")))


# -------------------------------------------------------------------------------------------------- vLLM, its own files


def streamed(parser: Any, asked: Any, tokenizer: Any, prompt: list[int], ids: list[int]) -> Any:
    """What vLLM's own loop sends for a stream, and its finish reason."""
    module = importlib.import_module("vllm.entrypoints.openai.chat_completion.stream_processor")
    processor = module.ChatStreamProcessor(asked, parser, enable_auto_tools=True, parser_cls=type(parser))
    steps = []
    for at, id in enumerate(ids):
        last = at == len(ids) - 1
        text = "" if last else tokenizer.decode([id])
        steps.append(processor.step(text, [id], "stop" if last else None, prompt))
    return joined([step.delta for step in steps]), steps[-1].finish_reason


@pytest.mark.parametrize(
    ("tool_parser", "reasoning_parser"),
    [("toolparse", ""), ("toolparse", "toolparse"), ("toolparse", "deepseek_r1"), ("hermes", "toolparse")],
)
def test_vllm_serves_with_it(real_vllm: Any, tool_parser: str, reasoning_parser: str) -> None:
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    text = toolparse.parser_for("qwen").render(CALLS, reasoning="Hm.", content="On it.")
    prompt = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    made = real_vllm.ParserManager.get_parser(
        tool_parser_name=tool_parser,
        reasoning_parser_name=reasoning_parser,
        enable_auto_tools=True,
        tokenizer=tokenizer,
    )
    asked = request(real_vllm)
    parser = made(tokenizer, asked.tools, model_config=None, chat_template_kwargs={})
    parser.set_prompt_token_ids(prompt)
    asked = parser.adjust_request(request=asked)
    assert asked.structured_outputs is None
    (reasoning, content, calls), reason = streamed(parser, asked, tokenizer, prompt, ids)
    assert (reasoning.strip(), content.strip(), calls, reason) == ("Hm.", "On it.", WANTED, "tool_calls")
    parser = made(tokenizer, asked.tools, model_config=None, chat_template_kwargs={})
    parser.set_prompt_token_ids(prompt)
    whole = parser.parse(text, asked, enable_auto_tools=True, model_output_token_ids=ids)
    assembly = importlib.import_module("vllm.entrypoints.openai.chat_completion.message_assembly")
    fields = assembly.assemble_chat_message_fields(asked, *whole, enable_auto_tools=True, parser_cls=made)
    found = [(call.function.name, json.loads(call.function.arguments)) for call in fields.tool_calls]
    assert (fields.reasoning.strip(), fields.content.strip(), found) == ("Hm.", "On it.", WANTED)


def test_vllm_responses_get_a_grammar(real_vllm: Any) -> None:
    """The Responses API: flat tools beside others, and another field for the format."""
    protocol = importlib.import_module("vllm.entrypoints.openai.responses.protocol")
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    tools = [{"type": "function", **tool["function"]} for tool in fixtures.TOOLS] + [{"type": "web_search_preview"}]
    asked = protocol.ResponsesRequest(
        model="tiny", input="Hi", tools=tools, tool_choice={"type": "function", "name": "ping"}
    )
    asked = real_vllm.ToolparseParser(tokenizer, asked.tools).adjust_request(asked)
    held = asked.to_sampling_params(100).structured_outputs
    assert "ping" in held.structural_tag
    assert "plan_trip" not in held.structural_tag


# ------------------------------------------------------------------------------------------------------------ SGLang


def sglang_tools(sglang: Any) -> list[Any]:
    if sglang.ToolCallItem is stand_ins.ToolCallItem:
        return [Given(**tool) for tool in fixtures.TOOLS]
    protocol = importlib.import_module("sglang.srt.entrypoints.openai.protocol")
    return [protocol.Tool(**tool) for tool in fixtures.TOOLS]


@pytest.mark.parametrize("family", FAMILIES)
def test_sglang_reads_increments_to_the_end(sglang: Any, family: str) -> None:
    tokenizer, _, ids = turn(family)
    text = tokenizer.decode(ids[:-1])
    sglang.register()
    sglang.register()
    made = sglang.FunctionCallParser.ToolCallParserEnum
    assert sglang.TOOL_CALL_PARSER_NAMES.count("toolparse") == 1
    tools = sglang_tools(sglang)
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
    text = toolparse.parser_for("qwen").render([BAD])
    tools = sglang_tools(sglang)
    result = detector.detect_and_parse(text, tools)
    assert (result.calls, result.normal_text) == ([], text)


def test_sglang_asks_for_structural_tags(sglang: Any) -> None:
    detector = sglang.ToolparseDetector(tiny_tokenizer(fixtures.template("qwen")))
    tools = sglang_tools(sglang)
    assert detector.get_structural_tag(tools, "auto") is None
    for thinking in (False, True):
        tag = detector.get_structural_tag(tools, "required", thinking_mode=thinking, parallel_tool_calls=False)
        written = tag.model_dump(mode="json")
        assert "plan_trip" in json.dumps(written)
        assert ("</think>" in json.dumps(written)) == thinking
    named = Given(type="function", function={"name": "ping"})
    text = json.dumps(detector.get_structural_tag(tools, named).model_dump(mode="json"))
    assert "ping" in text
    assert "plan_trip" not in text


def test_sglang_reasoning_parser(sglang: Any) -> None:
    sglang.register()
    assert sglang.REASONING_PARSER_NAMES.count("toolparse") == 1
    made = sglang.ReasoningParser.DetectorMap["toolparse"]
    detector = made(tokenizer=tiny_tokenizer(fixtures.template("gemma4")), stream_reasoning=True)
    assert (detector.think_start_token, detector.think_end_token) == ("<|channel>thought", "<channel|>")


def test_sglang_serves_with_it() -> None:
    with stand_ins.real_sglang():
        plugin = importlib.import_module("toolparse.plugins.sglang")
        plugin.register()
        tokenizer = tiny_tokenizer(fixtures.template("qwen"))
        text = toolparse.parser_for("qwen").render(CALLS, reasoning="Hm.", content="On it.")
        tools = sglang_tools(plugin)

        def parsers() -> tuple[Any, Any]:
            thoughts = plugin.ReasoningParser("toolparse", True, False, None, tokenizer=tokenizer)
            return thoughts, plugin.FunctionCallParser(tools, "toolparse", tokenizer=tokenizer)

        thoughts, calls = parsers()
        assert calls.owns_tool_format()
        thought, rest = thoughts.parse_non_stream(text)
        normal, found = calls.parse_non_stream(rest)
        assert (thought.strip(), normal.strip()) == ("Hm.", "On it.")
        assert [(item.name, json.loads(item.parameters)) for item in found] == WANTED
        thoughts, calls = parsers()
        pairs = [thoughts.parse_stream_chunk(char) for char in text] + [thoughts.parse_stream_end()]
        assert "".join(pair[0] for pair in pairs).strip() == "Hm."
        said = [calls.parse_stream_chunk(pair[1]) for pair in pairs if pair[1]] + [calls.parse_stream_end()]
        assert "".join(normal for normal, _ in said).strip() == "On it."
        assert [item.name for _, items in said for item in items if item.name] == [name for name, _ in WANTED]
        kind, tag = calls.get_structure_constraint("required", parallel_tool_calls=False)
        assert kind == "structural_tag"
        assert "plan_trip" in tag.model_dump_json()
        arguments = importlib.import_module("sglang.srt.server_args")
        assert "toolparse" in arguments._tool_call_parser_choices()
        assert "toolparse" in arguments._reasoning_parser_choices()


# --------------------------------------------------------------------------------------------- stand-ins and originals


def signatures(path: Path) -> dict[str, list[str]]:
    """The parameters of every method of every class of a module, and the classes' names."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        found[node.name] = []
        for part in node.body:
            if isinstance(part, ast.FunctionDef):
                given = part.args
                names = [each.arg for each in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
                found[f"{node.name}.{part.name}"] = names
            elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                found[f"{node.name}.{part.target.id}"] = []
    return found


@pytest.mark.parametrize(("server", "modules"), [("vllm", stand_ins.VLLM), ("sglang", stand_ins.SGLANG)])
def test_stand_ins_and_plugins_have_the_signatures_of_the_originals(
    server: str, modules: dict[str, tuple[type, ...]]
) -> None:
    if not (stand_ins.SERVERS / server).is_dir():
        pytest.skip(f"no files of {server}: make servers")
    ours = signatures(Path(stand_ins.__file__))
    known: list[tuple[str, list[str]]] = []
    for module, classes in modules.items():
        theirs = signatures(stand_ins.SERVERS.joinpath(*module.split(".")).with_suffix(".py"))
        known += theirs.items()
        for made in classes:
            for name, parameters in ours.items():
                if name.partition(".")[0] != made.__name__:
                    continue
                assert name in theirs or name.partition(".")[2] in vars(object), (module, name)
                extra = set(parameters) - set(theirs.get(name, parameters))
                assert not extra, (module, name, extra)
    for name, parameters in signatures(ROOT / "toolparse" / "plugins" / f"{server}.py").items():
        method = name.partition(".")[2]
        overridden = [given for other, given in known if other.partition(".")[2] == method and method[:1] != "_"]
        assert not overridden or any(set(parameters) <= set(given) for given in overridden), (name, parameters)


@pytest.mark.parametrize(
    ("server", "path", "generic"),
    [
        ("vLLM 0.33", "vllm/tool_parsers/__init__.py", "hf"),
        ("SGLang 0.5", "sglang/srt/function_call/parser_names.py", "response_template"),
    ],
)
def test_the_servers_have_these_parsers(server: str, path: str, generic: str) -> None:
    """The names that `toolparse inspect` knows."""
    if not (stand_ins.SERVERS / path).is_file():
        pytest.skip("no files of the servers: make servers")
    listed = next(
        node.value
        for node in ast.parse((stand_ins.SERVERS / path).read_text("utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()
    )
    names = listed.keys if isinstance(listed, ast.Dict) else listed.elts
    assert {ast.literal_eval(name) for name in names} == {*flags.PARSERS[server].split(), generic}
