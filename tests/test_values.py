"""Values that are pleasant to hold: what they print, what plain data they give, what their errors say."""

from __future__ import annotations

import json
from typing import Any

import pytest

import fixtures
import toolparse
from tests.conftest import run_python
from toolparse import Also, Format, FormatError, Syntax

TEXT = """<think>
Two cities.
</think>

Let me see.
<tool_call>
{"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}
</tool_call>
<tool_call>
{"name": "get_wether", "arguments": {}}
</tool_call>"""
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
PARSER = toolparse.parser_for("qwen", tools=TOOLS)
MESSAGE = PARSER.parse(TEXT)


def test_a_message_in_a_few_lines() -> None:
    assert repr(MESSAGE) == (
        "<ParsedMessage: 2 calls, 1 error\n"
        "  content    'Let me see.'\n"
        "  reasoning  'Two cities.'\n"
        "  call 0     get_weather(city='Oslo', days=2)\n"
        "  call 1     get_wether()\n"
        "  error      unknown-tool: unknown tool 'get_wether'; did you mean 'get_weather'?>"
    )
    assert repr(MESSAGE.tool_calls[0]) == "<ToolCall 0: get_weather(city='Oslo', days=2)>"
    assert repr(MESSAGE.tool_calls[1]) == "<ToolCall 1: get_wether(), unknown-tool>"
    assert repr(PARSER.parse("Hi.")) == "<ParsedMessage: 0 calls, 0 errors\n  content    'Hi.'>"
    cut = PARSER.parse(TEXT[:-40])
    assert repr(cut).endswith("  truncated  the text ended inside a call>")


@pytest.mark.parametrize("value", ["x" * 10**6, {"a": ["y" * 10**5]}, 10**5000, "\u00e9\n\0" * 500], ids=lambda _: "")
def test_a_repr_is_short_whatever_it_holds(value: Any) -> None:
    text = PARSER.render([{"name": "get_weather", "arguments": {"a": value, "b": value}}], content="c" * 10**5)
    shown = repr(PARSER.parse(text))
    assert len(shown) < 1_000
    assert len(shown.splitlines()) == 3


def test_families_print_as_a_table() -> None:
    rows = repr(toolparse.families()).splitlines()
    assert len(rows) == len(toolparse.families())
    assert max(map(len, rows)) <= 100
    assert rows[1].split(maxsplit=1) == ["qwen", toolparse.get("qwen").models]
    with pytest.raises(TypeError):
        toolparse.families()["mine"] = toolparse.get("qwen")


def test_a_format_prints_its_call_and_declares_what_differs() -> None:
    assert repr(toolparse.get("internlm2")) == (
        '<Format \'internlm2\': <|action_start|><|plugin|>⏎{"name": {{name}}, "parameters": {{arguments}}}<|action_end|>>'
    )
    assert repr(Also(call="x")) == "Also(call='x')"
    assert repr(Syntax(true="True")) == "Syntax(true='True')"
    for format in toolparse.families().values():
        assert eval(str(format), {"Format": Format, "Syntax": Syntax, "Also": Also}) == format


def test_a_detection_prints_what_was_found() -> None:
    found = toolparse.detect(fixtures.template("qwen3-coder"))
    lines = repr(found).splitlines()
    assert lines[:3] == ["<Detection: qwen3-coder", "  found by  behaviour", "  proof     proved on its template"]
    assert repr(toolparse.detect("{{ messages }}")).startswith("<Detection: none found\n  evidence")
    assert repr(toolparse.detect("GLM-4.6")).splitlines()[2] == "  proof     not verified"


def test_tables_for_notebooks_are_escaped() -> None:
    hostile = PARSER.parse("<script>alert(1)</script>")
    for shown in (hostile._repr_html_(), toolparse.detect(fixtures.template("qwen"))._repr_html_()):
        assert shown.startswith("<table><tr><th")
        assert "<script>" not in shown
    assert "&lt;script&gt;" in hostile._repr_html_()


def test_plain_data() -> None:
    data = MESSAGE.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert set(data) == set(MESSAGE.__struct_fields__)
    assert [call["ok"] for call in data["tool_calls"]] == [True, False]
    assert data["tool_calls"][0] == MESSAGE.tool_calls[0].to_dict()
    assert data["issues"][0]["code"] == "unknown-tool"


def test_openai_s_shape() -> None:
    (call,) = MESSAGE.to_openai()["tool_calls"]  # what may not run is part of the content
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo", "days": 2}
    assert call["id"]
    assert "get_wether" in MESSAGE.to_openai()["content"]
    one = MESSAGE.tool_calls[0].to_openai()
    assert (one["type"], one["function"]) == ("function", call["function"])


def test_a_whole_message_is_rendered() -> None:
    message = PARSER.parse(TEXT.replace("get_wether", "get_weather"))
    again = PARSER.parse(PARSER.render(message))
    assert (again.content, again.reasoning, again.tool_calls) == (
        message.content,
        message.reasoning,
        message.tool_calls,
    )
    assert PARSER.render(message.to_message()) == PARSER.render(message.to_openai()) == PARSER.render(message)
    assert PARSER.render(message, content="Else.") != PARSER.render(message)
    assert PARSER.render({"name": "f", "arguments": {}}) == PARSER.render([{"name": "f", "arguments": {}}])


CALL = "<c>{{name}} {{arguments}}</c>"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"call": 5}, "field 'call': a text belongs here, not int 5"),
        ({"call": None}, "field 'call': a text belongs here, not NoneType None"),
        ({"ends": "x"}, "field 'ends': write a tuple, such as ('x',)"),
        ({"ends": ["x"]}, "field 'ends': a tuple belongs here, not list ['x']"),
        ({"ends": (5,)}, "field 'ends': a tuple of texts belongs here, not int 5"),
        ({"also": (5,)}, "field 'also': a tuple of pictures and Also(...) belongs here, not int 5"),
        ({"parallel": "no"}, "field 'parallel': True or False belongs here, not str 'no'"),
        ({"syntax": "json"}, "field 'syntax': a Syntax belongs here, not str 'json'"),
        ({"types": 5}, "field 'types': a dict belongs here, not int 5"),
        ({"reasoning": b"x"}, "field 'reasoning': a text belongs here, not bytes b'x'"),
    ],
)
def test_errors_of_a_format_name_the_field(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(FormatError) as caught:
        Format("mine", **{"call": CALL, **fields})
    assert str(caught.value) == f"format 'mine', {told}"
    if fields.keys() & {"syntax", "types", "reasoning"}:
        with pytest.raises(FormatError, match=r"^Also\(...\), field"):
            Also(**fields)


@pytest.mark.parametrize("tools", [TOOLS[0], len, "get_weather", '[{"name": "f"}]', 5], ids=str)
def test_tools_are_a_list_everywhere(tools: Any) -> None:
    for use in (
        lambda: toolparse.parse("x", "qwen", tools),
        lambda: toolparse.parser_for("qwen", tools=tools),
        lambda: toolparse.parser_for("qwen").parse("x", tools=tools),
        lambda: toolparse.parser_for("qwen").stream(tools=tools),
    ):
        with pytest.raises(toolparse.ToolError, match=r"tools must be a list of tools, .*write tools=\[\.\.\.\]"):
            use()


@pytest.mark.parametrize(
    ("missing", "use", "told"),
    [
        ("hypothesis", "import toolparse; toolparse.testing", "toolparse.testing needs hypothesis: pip install 'toolparse[test]'"),
        ("torch", "from trl_integration import ToolGRPOTrainer", "ToolGRPOTrainer needs torch: pip install 'toolparse[trl]'"),
        ("torch", "from trl_integration import Transcript", "Transcript needs torch: pip install 'toolparse[trl]'"),
    ],
)  # fmt: skip
def test_a_missing_extra_is_named(missing: str, use: str, told: str) -> None:
    code = (
        "import importlib.abc, sys\n"
        "class Gone(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        f"            raise ModuleNotFoundError('No module named {missing}', name={missing!r})\n"
        "sys.meta_path.insert(0, Gone())\n"
        f"try:\n    {use}\nexcept ImportError as error:\n    print(error)"
    )
    assert run_python(code) == f"{told}\n"
