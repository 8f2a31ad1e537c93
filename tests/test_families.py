"""The catalogue of families: complete, data only, nothing said twice, and the hard words of the language at work."""

from __future__ import annotations

import ast
import dataclasses
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import toolparse
from benchmarks.counting import counted, steps_one_shot
from tests.conftest import streamed
from toolparse import registry, testing
from toolparse.compile import compile_format
from toolparse.format import Format

# fmt: off
CANONICAL = [
    "hermes", "qwen", "exaone4", "granite4", "ernie45", "trinity", "ling2", "longcat", "llama3-json", "llama4-json",
    "mistral", "mistral-v3", "mistral-v11", "mistral-v13", "deepseek-v3", "deepseek-r1", "deepseek-v31", "kimi-k2",
    "kimi-k2-thinking", "harmony", "granite3", "granite-thinking", "granite-20b-fc", "internlm2", "jamba", "apriel",
    "hunyuan-a13b", "minimax-m1", "nemotron-nano-v2", "xlam", "phi4-mini", "firefunction-v2", "functionary-v2",
    "functionary-v31", "functionary-v32", "command-r-plus", "command-r7b", "command4", "apertus", "gigachat3",
    "gigachat31", "solar-open", "plamo3", "inkling", "glm4-9b", "sarashina", "react", "qwen-agent", "generic-json",
    "qwen3-coder", "nemotron3", "step3p5", "seed-oss", "mimo", "glm45", "glm47", "ling3", "spark25", "laguna", "hy3",
    "hy4", "iquest-q1", "k2-horizon", "deepseek-v32", "deepseek-v4", "deepseek-v41", "gigachat35", "minimax-m2",
    "minimax-m3", "dots3", "minicpm5", "step3", "kimi-k3", "muse", "beam", "cohere-cofl", "pythonic",
    "llama4-pythonic", "lfm2", "olmo3", "gemma3-tool-code", "functiongemma", "gemma4",
]

# The names under which vLLM, SGLang, llama.cpp and mlx-lm know the parsers, by family.
PEERS = {
    "apertus": "apertus", "deepseek-v3": "deepseek_v3 deepseekv3", "deepseek-v31": "deepseek_v31 deepseekv31",
    "deepseek-v32": "deepseek_v32 deepseekv32", "deepseek-v4": "deepseek_v4", "deepseek-v41": "deepseek_v41",
    "dots3": "dots", "ernie45": "ernie45", "functiongemma": "function_gemma functiongemma", "gemma4": "gemma4",
    "gigachat3": "gigachat3", "gigachat35": "gigachat35", "glm45": "glm glm45", "glm47": "glm47",
    "harmony": "gpt-oss openai", "granite3": "granite", "granite-20b-fc": "granite-20b-fc", "granite4": "granite4",
    "hermes": "hermes json_tools", "hunyuan-a13b": "hunyuan hunyuan_a13b", "hy3": "hy_v3", "hy4": "hy_v4",
    "inkling": "inkling", "internlm2": "internlm interns1", "jamba": "jamba", "kimi-k2": "kimi_k2",
    "kimi-k3": "kimi_k3", "lfm2": "lfm2", "ling3": "ling3", "llama3-json": "llama3 llama3_json",
    "llama4-json": "llama4_json", "llama4-pythonic": "llama4_pythonic", "longcat": "longcat", "mimo": "mimo",
    "minicpm5": "minicpm5", "minimax-m1": "minimax", "minimax-m2": "minimax-m2 minimax_m2", "minimax-m3": "minimax_m3",
    "mistral": "mistral", "muse": "muse_glimmer", "olmo3": "olmo3", "phi4-mini": "phi4_mini_json", "plamo3": "plamo3",
    "laguna": "poolside_v1", "pythonic": "pythonic", "qwen": "qwen qwen25", "qwen3-coder": "qwen3_coder qwen3_xml",
    "sarashina": "sarashina", "seed-oss": "seed_oss", "step3": "step3", "step3p5": "step3p5 step5",
    "trinity": "trinity", "xlam": "xlam",
}
# fmt: on

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]
ABOUT = {"name", "aliases", "models", "source", "variant_of"}


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def read(family: str, text: str, **how: Any) -> toolparse.ParsedMessage:
    """The message of a text; the stream says the same."""
    parser = toolparse.parser_for(family)
    message = parser.parse(text, **how)
    for seed in range(4):
        assert streamed(parser, testing.chunked(text, seed), **how) == message
    return message


def calls(message: toolparse.ParsedMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.arguments) for call in message.tool_calls]


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_canonical_name_is_registered() -> None:
    assert len(CANONICAL) == 83
    assert set(CANONICAL) <= set(toolparse.families())


@pytest.mark.parametrize(
    ("peer", "family"), [(name, family) for family, names in PEERS.items() for name in names.split()]
)
def test_the_names_of_peers_are_known(peer: str, family: str) -> None:
    assert toolparse.get(peer).name == family


@pytest.mark.parametrize("format", FORMATS)
def test_a_declaration_says_where_it_is_from(format: Format) -> None:
    assert format.models
    assert format.source
    assert format.aliases or format.name.startswith("mistral-v")
    assert format.ends or format.name == "generic-json"
    compile_format(format)
    compile_format(format.bind(":x"))


def test_declarations_are_data() -> None:
    """A module of families holds declarations: 5 to 25 lines each, and no code."""
    folder = Path(toolparse.__file__).parent / "families"
    for path in sorted(folder.glob("*.py")):
        if path.name == "__init__.py":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            kinds = ast.Import | ast.ImportFrom | ast.Assign | ast.Expr
            assert isinstance(node, kinds), f"{path.name}, line {node.lineno}"
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                lines = (node.end_lineno or 0) - node.lineno + 1
                function = node.value.func
                made = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                assert made in ("Format", "variant", "Syntax"), f"{path.name}, line {node.lineno}: {made}"
                assert made == "Syntax" or 5 <= lines <= 25, f"{path.name}, line {node.lineno}: {lines} lines"
            for inner in ast.walk(node):
                assert not isinstance(inner, ast.FunctionDef | ast.Lambda), f"{path.name}, line {node.lineno}"


def test_nothing_is_said_twice() -> None:
    """Two families that share most of what they declare are variants, of one another or of a third."""
    formats = registry.formats()
    known = {format.name: format for format in formats}

    def root(format: Format) -> str:
        while format.variant_of in known:
            format = known[format.variant_of]
        return format.name

    def said(format: Format) -> dict[str, Any]:
        fields = dataclasses.fields(format)
        return {f.name: getattr(format, f.name) for f in fields if getattr(format, f.name) != f.default} | {}

    twice = []
    for one, other in combinations(formats, 2):
        if root(one) == root(other):
            continue
        first, second = ({k: v for k, v in said(f).items() if k not in ABOUT | {"ends"}} for f in (one, other))
        equal = [key for key in first if key in second and first[key] == second[key]]
        if "call" in equal and 2 * len(equal) > max(len(first), len(second)):
            twice.append((one.name, other.name, equal))
    assert twice == []


# --- the words that only few families need ------------------------------------------------------------------------


SUFFIXED = (
    "ok</think:S><tool_calls:S>\n<tool_call:S>run<tool_sep:S>\n<arg_key:S>text</arg_key:S>\n"
    "<arg_value:S>a </tool_call:S> b</arg_value:S>\n</tool_call:S>\n</tool_calls:S><｜hy_eos:S｜>"
)


@pytest.mark.parametrize("suffix", ["", ":opensource", ":6124c78e"])
def test_a_suffix_is_read_from_the_text(suffix: str) -> None:
    text = SUFFIXED.replace(":S", suffix)
    message = read("hy3", text, prompt=f"<｜hy_Assistant{suffix}｜><think{suffix}>")
    assert calls(message) == [("run", {"text": f"a </tool_call{suffix}> b"})]
    assert (message.reasoning, message.content, message.issues) == ("ok", "", ())
    plain = read("hy3", "Nothing to call.")
    assert plain.content == "Nothing to call."
    assert read("hy3", f"<think{suffix}>a</think{suffix}>b").reasoning == "a"


def test_a_bound_suffix_is_the_only_one() -> None:
    format = toolparse.get("hy3")
    parser = toolparse.parser_for(format.bind(":a"))
    text = parser.render([("run", {"text": "x"})])
    assert text.startswith("<tool_calls:a>")
    assert calls(parser.parse(text)) == [("run", {"text": "x"})]
    assert parser.parse(text.replace(":a>", ":b>")).tool_calls == ()
    assert format.has_suffix
    assert not parser.format.has_suffix


class Vocabulary:
    """A tokenizer that knows some added tokens."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = {token: number for number, token in enumerate(tokens)}

    def get_added_vocab(self) -> dict[str, int]:
        return self.tokens

    def decode(self, ids: list[int], **how: Any) -> str:
        names = {number: token for token, number in self.tokens.items()}
        return "".join(names[id] for id in ids)


def test_a_suffix_is_read_from_the_vocabulary() -> None:
    format = toolparse.get("hy4")
    parser = toolparse.Parser(format, tokenizer=Vocabulary("<s>", "<tool_calls:7f>", "<tool_call:7f>"))
    assert parser.format == format.bind(":7f")
    assert parser.prefill == "<think:7f>"
    bare = toolparse.Parser(format, tokenizer=Vocabulary("<tool_calls>"))
    assert bare.format == format.bind("")
    assert toolparse.Parser(format, tokenizer=Vocabulary("<s>")).format == format


def test_a_call_inside_a_thought_does_not_end_it() -> None:
    text = '<think>I look.\n<tool_call>\n{"name": "search", "arguments": {"q": "a"}}\n</tool_call>\nThen more.</think>Done.'
    message = read("trinity", text)
    assert calls(message) == [("search", {"q": "a"})]
    assert "I look." in (message.reasoning or "")
    assert "Then more." in (message.reasoning or "")
    assert message.content == "Done."
    text = '<|inner_prefix|>A<|tools_prefix|>[{"f": {}}, {"g": {"n": 1}}]<|tools_suffix|>B<|inner_suffix|>C'
    message = read("apertus", text)
    assert calls(message) == [("f", {}), ("g", {"n": 1})]
    assert (message.reasoning, message.content) == ("AB", "C")


def test_attributes_are_unescaped() -> None:
    parser = toolparse.parser_for("kimi-k3")
    arguments = {'a "b" & <c>': "x & <y>", "n": 3, "o": {"k": None}}
    text = parser.render([("calc", arguments), ("ping", {})])
    assert 'index="1"' in text
    assert 'index="2"' in text
    assert 'key="a &quot;b&quot; &amp; <c>" type="string"' in text
    assert calls(read("kimi-k3", text)) == [("calc", arguments), ("ping", {})]


def test_the_schema_comes_before_the_attribute() -> None:
    text = (
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="n" string="true">3</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="s" string="false">42</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="u" string="true">7</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="x" string="false">[1]</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
    )
    untyped = {"n": "3", "s": 42, "u": "7", "x": [1]}
    assert calls(read("deepseek-v4", text)) == [("f", untyped)]
    typed = tool("f", n={"type": "integer"}, s={"type": "string"}, u={"type": ["string", "integer"]}, x={})
    assert calls(read("deepseek-v4", text, tools=[typed])) == [("f", {"n": 3, "s": "42", "u": "7", "x": [1]})]


SEP = "]<]minimax[>["


def elements(text: str) -> str:
    return f'{SEP}<tool_call>\n{SEP}<invoke name="f">{text.replace("§", SEP)}{SEP}</invoke>\n{SEP}</tool_call>'


def test_nested_elements() -> None:
    text = elements("§<a>§<b>1§</b>§<c>§<item>x§</item>§<item>2§</item>§</c>§</a>§<t> <b>no tag</b> §</t>§<e>§</e>")
    untyped = {"a": {"b": "1", "c": ["x", "2"]}, "t": " <b>no tag</b> ", "e": ""}
    assert calls(read("minimax-m3", text)) == [("f", untyped)]
    inner = {"type": "object", "properties": {"b": {"type": "integer"}, "c": {"type": "array"}}}
    typed = tool("f", a=inner, t={"type": "string"}, e={"type": "array"})
    expected = {"a": {"b": 1, "c": ["x", "2"]}, "t": " <b>no tag</b> ", "e": []}
    assert calls(read("minimax-m3", text, tools=[typed])) == [("f", expected)]
    repeated = elements("§<v>1§</v>§<v>2§</v>§<w>3§</w>")
    typed = tool("f", v={"type": "array", "items": {"type": "integer"}}, w={"type": "integer"})
    assert calls(read("minimax-m3", repeated, tools=[typed])) == [("f", {"v": [1, 2], "w": 3})]


def test_typed_elements_need_no_schema() -> None:
    parser = toolparse.parser_for("cohere-cofl")
    arguments = {"a<b": {"x": [1, "two", None, {"y": True}], "e": {}}, "l": [], "s": "7 & <tag>", "n": -1.5}
    text = parser.render([("f", arguments), ("g", {})])
    assert calls(read("cohere-cofl", text)) == [("f", arguments), ("g", {})]


@pytest.mark.parametrize("family", ["minimax-m3", "cohere-cofl"])
def test_nested_elements_are_bounded_and_linear(family: str) -> None:
    opening = f"{SEP}<n>" if family == "minimax-m3" else '<cofl:value name="n" type="dict">'
    head = (
        elements("").partition(f"{SEP}</invoke>")[0]
        if family == "minimax-m3"
        else ('<cofl:tool_calls><cofl:tool_call id="0" name="f">')
    )
    deep = read(family, head + opening * 1000)
    assert [issue.code for issue in deep.errors] == ["malformed-arguments"] or deep.truncated
    package = counted()
    parser = package.Parser(package.get(family))
    steps = []
    for size in (200, 1000):
        arguments = {"l": [{"k": "v"}] * size}
        text = toolparse.parser_for(family).render([("f", arguments)], content="")
        assert calls(toolparse.parse(text, family)) == [("f", arguments)]
        steps.append(steps_one_shot(parser, text) / len(text))
    assert steps[1] < 1.3 * steps[0]


def test_a_doubled_name_is_one() -> None:
    text = (
        ' to=f<|message|><atem:function_calls>\n<atem:invoke name="f.f">\n<atem:parameter name="a">1</atem:parameter>\n'
        "</atem:invoke>\n</atem:function_calls><|eot|>"
    )
    assert calls(read("muse", text)) == [("f", {"a": "1"})]


def test_text_in_character_data() -> None:
    text = (
        '<function name="f"><param name="t"><![CDATA[a </param> <b>\n]]></param><param name="n">True</param></function>'
    )
    message = read("minicpm5", text, tools=[tool("f", t={"type": "string"}, n={"type": "boolean"})])
    assert calls(message) == [("f", {"t": "a </param> <b>\n", "n": True})]


def test_modes_of_one_family() -> None:
    typed = (
        "<ifm|tool_call>f\n<ifm|arg_key>a</ifm|arg_key>\n<ifm|arg_type>integer</ifm|arg_type>\n"
        "<ifm|arg_value>3</ifm|arg_value>\n</ifm|tool_call>"
    )
    plain = "<ifm|tool_call>f\n<ifm|arg_key>a</ifm|arg_key>\n<ifm|arg_value>3</ifm|arg_value>\n</ifm|tool_call>"
    json = '<ifm|tool_call>{"name": "f", "arguments": {"a": 3}}</ifm|tool_call>'
    text = f"<ifm|tool_calls>\n{typed}\n{plain}\n{json}\n</ifm|tool_calls>"
    assert calls(read("k2-horizon", text, prompt="")) == [("f", {"a": 3}), ("f", {"a": "3"}), ("f", {"a": 3})]
    for mode in ("think", "think_fast", "think_faster"):
        message = read("k2-horizon", f"why\n</ifm|{mode}>\nyes", prompt=f"<|ifm|im_start|>assistant\n<ifm|{mode}>\n")
        assert (message.reasoning, message.content) == ("why", "yes")


def test_a_name_that_nothing_announces() -> None:
    text = 'get_weather\n{"city": "Oslo"}<|assistant|>get_time\n{}<|observation|>'
    assert calls(read("glm4-9b", text)) == [("get_weather", {"city": "Oslo"}), ("get_time", {})]
    prose = 'The answer\n{"city": "Oslo"}'
    assert read("glm4-9b", prose, tools=[tool("get_weather")]).content == prose
    assert read("glm4-9b", "Hello {world}").content == "Hello {world}"


def test_names_that_mean_no_tool() -> None:
    assert read("granite-20b-fc", '<function_call> {"name": "no_function", "arguments": {}}').tool_calls == ()
    text = 'Action:\n```json\n[{"tool_name": "directly-answer", "parameters": {}}]```'
    assert read("command-r-plus", text).tool_calls == ()


def test_a_message_that_the_prompt_opened() -> None:
    parser = toolparse.parser_for("functionary-v32")
    assert calls(parser.parse('ping\n{}>>>f\n{"a": 1}')) == [("ping", {}), ("f", {"a": 1})]
    message = parser.parse('all\nI ask.>>>f\n{"a": 1}')
    assert (message.content, calls(message)) == ("I ask.", [("f", {"a": 1})])
    assert parser.render([("f", {"a": 1})], content="I ask.") == 'all\nI ask.>>>f\n{"a": 1}'


def test_a_turn_may_end_inside_a_head() -> None:
    for family, text in (("mistral", "[TOOL_CALLS]get_wea"), ("kimi-k2", "<|tool_calls_section_begin|>")):
        message = read(family, text)
        assert message.truncated
        assert [call.ok for call in message.tool_calls] == [False]
    # A marker that begins a call and ends a turn, with nothing behind it, ends the turn.
    message = read("gigachat3", "Hello.<|message_sep|>\n\n")
    assert (message.content, message.tool_calls, message.issues) == ("Hello.", (), ())


def test_separators_of_several_spellings() -> None:
    call = '{"name": "f", "parameters": {"a": "; {"}}'
    for between in ("", "; ", ";\n"):
        message = read("llama4-json", between.join([call] * 3))
        assert (len(message.tool_calls), message.content) == (3, "")
        message = read("llama4-json", "<|python_start|>" + between.join([call] * 2) + "<|python_end|>")
        assert (len(message.tool_calls), message.content) == (2, "")
