"""Response templates: what transformers' own parser reads with them equals our parse; and they are read back."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.test_export_grammar import TOOL, cases
from toolparse import registry
from toolparse.errors import ExportError
from toolparse.export import from_response_template, to_response_template, typed_tools
from toolparse.format import Format
from toolparse.message import ParsedMessage
from toolparse.parser import Parser

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]

_KWARGS = "field 'call': arguments are written as key=value in Python's spelling"
_PYTHON = "field 'syntax': objects and lists are written in Python's spelling"
#: The registered formats that the language can't express, and what the error says.
REFUSED = {
    "apertus": "field 'call': the tool's name is a key",
    "cohere-cofl": "field 'item': objects and lists are nested elements",
    "functiongemma": "field 'syntax': values are spelled true, false and None",
    "gemma3-tool-code": _KWARGS,
    "glm4-9b": "field 'call': nothing announces a call",
    "lfm2": _KWARGS,
    "llama4-json": "field 'between': nothing stands between two calls, and nothing announces them",
    "llama4-pythonic": _KWARGS,
    "minicpm3": _KWARGS,
    "minicpm5": _PYTHON,
    "minimax-m3": "field 'item': objects and lists are nested elements",
    "olmo3": _KWARGS,
    "pythonic": _KWARGS,
    "sarashina": "field 'syntax': values are spelled True, False and None",
    "seed-oss": _PYTHON,
}
EXPRESSED = [pytest.param(format, id=format.name) for format in registry.formats() if format.name not in REFUSED]

Facts = tuple[list[tuple[str, Any]], str, str]


def facts(message: ParsedMessage) -> Facts:
    return [(call.name, call.arguments) for call in message.tool_calls], message.content, message.reasoning or ""


def facts_of_dict(message: dict[str, Any]) -> Facts:
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])]
    return calls, message.get("content") or "", message.get("thinking") or ""


@pytest.fixture(scope="module")
def chat_parsing() -> Any:
    """transformers' own parser, at once and streaming."""
    reason = "transformers is not installed, or is older than its response templates (5.13)"
    return pytest.importorskip("transformers.utils.chat_parsing", reason=reason)


def texts_of(format: Format, seed: int) -> list[tuple[list[dict[str, Any]], str]]:
    """Turns that the language can carry: no markers in strings, no Python words in objects."""
    found = [
        (tools, text)
        for tools, texts in cases(format, seed, markers=False)
        for text in texts
        if format.syntax.true == "true" or not re.search(r"[\[{].*\b(?:True|False|None)\b", text)
    ]
    assert found
    return found


@pytest.mark.parametrize("format", EXPRESSED)
def test_transformers_reads_the_same_at_once_and_by_the_character(format: Format, chat_parsing: Any) -> None:
    template = to_response_template(format)
    parser = Parser(format)
    prompt = "A question.\n" + format.between_messages + format.bind("").prefill
    for tools, text in texts_of(format, seed=11):
        for whole in (text, *(text + end for end in format.bind("").ends[:1])):
            ours = facts(parser.parse(whole, tools=tools))
            for size in (len(whole) + 1, 1, 7):
                reader = chat_parsing.ResponseParser(template, prefix=prompt, tools=typed_tools(tools))
                for at in range(0, len(whole), size):
                    reader.feed(whole[at : at + size])
                assert facts_of_dict(reader.finalize()[0]) == ours, (size, whole)


@pytest.mark.parametrize("format", EXPRESSED)
def test_written_and_read_back(format: Format) -> None:
    """The format that is read from a template reads what the first one writes."""
    imported = from_response_template(to_response_template(format), name="back")
    assert imported.format is not None, imported.reason
    back = Parser(imported.format, prefill=format.bind("").prefill)
    parser = Parser(format)
    for tools, text in texts_of(format, seed=12):
        assert facts(back.parse(text, tools=tools)) == facts(parser.parse(text, tools=tools)), text


@pytest.mark.parametrize("format", EXPRESSED)
def test_what_servers_accept(format: Format) -> None:
    """Fields and words that transformers, vLLM and SGLang all know; nothing that a stream can't decide."""
    fields = to_response_template(format)["fields"]
    assert fields.keys() <= {"content", "thinking", "tool_calls"}
    for name, field in fields.items():
        assert "join" not in field
        assert name == "tool_calls" or "repeats" not in field
        assert r"\Z" not in field.get("close_pattern", "")
        assert "$" not in field.get("close_pattern", "").replace(r"\$", "")


def test_types_behind_references(chat_parsing: Any) -> None:
    schema = {
        "$ref": "#/$defs/Arguments",
        "$defs": {
            "Arguments": {
                "type": "object",
                "properties": {"n": {"$ref": "#/$defs/Count"}, "x": {"enum": [1, 2.5]}, "s": {"type": "string"}},
            },
            "Count": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
    }
    tools = [{"type": "function", "function": {"name": "f", "description": "", "parameters": schema}}]
    format = registry.get("glm47")
    text = "<tool_call>f" + "".join(
        f"<arg_key>{key}</arg_key><arg_value>{value}</arg_value>" for key, value in {"n": 3, "x": 2.5, "s": 4}.items()
    )
    reader = chat_parsing.ResponseParser(to_response_template(format), prefix="", tools=typed_tools(tools))
    reader.feed(f"{text}</tool_call>")
    calls, _, _ = facts_of_dict(reader.finalize()[0])
    assert calls == [("f", {"n": 3, "x": 2.5, "s": "4"})]
    assert calls == facts(Parser(format).parse(f"<think></think>{text}</tool_call>", tools=tools))[0]


def test_the_docs_name_what_is_refused() -> None:
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
    table = page.partition("can't be exported")[2].partition("`from_response_template` goes")[0]
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == REFUSED.keys()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_with_the_reason(name: str) -> None:
    format = registry.get(name)
    with pytest.raises(ExportError) as error:
        to_response_template(format)
    assert str(error.value) == f"format {name!r}, {REFUSED[name]}, which response templates can't express"


def test_counts() -> None:
    assert REFUSED.keys() <= {format.name for format in registry.formats()}
    assert len(EXPRESSED) == len(registry.formats()) - len(REFUSED)


def test_what_it_looks_like() -> None:
    template = to_response_template(registry.get("hermes"), start_anchor="<|im_start|>assistant\n")
    assert template["start_anchor"] == "<|im_start|>assistant\n"
    assert template["fields"]["tool_calls"] == {
        "open_pattern": r"\n?<tool_call>\s*(?=\{)",
        "close_pattern": r"\s*</tool_call>\s*",
        "repeats": True,
        "content": "json",
        "transform": {
            "type": "function",
            "function": {"name": "{content.name}", "arguments": "{content.arguments}"},
        },
    }


@pytest.mark.parametrize("anchor", [None, "<|im_start|>assistant\n"])
def test_thought_opened_by_the_prompt(anchor: str | None, chat_parsing: Any) -> None:
    format = registry.get("nemotron3")
    template = to_response_template(format, start_anchor=anchor)
    prompt = "<|im_start|>user\nWhy <think>?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    call = "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>"
    read = chat_parsing.parse_response(f"Hm.\n</think>\n{call}<|im_end|>", template, prefix=prompt, tools=[TOOL])
    assert facts_of_dict(read) == ([("get_weather", {"city": "Paris"})], "", "Hm.")


def test_ids_are_kept(chat_parsing: Any) -> None:
    for name, text, wanted in [
        ("mistral-v11", '[TOOL_CALLS]f[CALL_ID]a1b2c3d4e[ARGS]{"x": 1}', "a1b2c3d4e"),
        ("mistral-v3", '[TOOL_CALLS][{"name": "f", "arguments": {"x": 1}, "id": "a1b2c3d4e"}]', "a1b2c3d4e"),
        (
            "kimi-k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:3<|tool_call_argument_begin|>"
            '{"x": 1}<|tool_call_end|><|tool_calls_section_end|>',
            "functions.f:3",
        ),
    ]:
        template = to_response_template(registry.get(name))
        (call,) = chat_parsing.parse_response(text, template, prefix="")["tool_calls"]
        assert call == {"type": "function", "id": wanted, "function": {"name": "f", "arguments": {"x": 1}}}


# -- reading templates of others ------------------------------------------------------------------------------------------


def field(**changes: Any) -> dict[str, Any]:
    """A template whose tool calls are a field like this."""
    base = {"open": "<call>", "close": "</call>", "repeats": True, "content": "json"}
    return {
        "start_anchor": "<|assistant|>",
        "fields": {
            "tool_calls": {**base, "transform": {"type": "function", "function": "{content}"}, **changes},
            "content": {"close_pattern": r"<\|end\|>\s*|$"},
        },
    }


def test_json_calls_are_read() -> None:
    format = from_response_template(field(), name="mine").format
    assert format.call == '<call>{"name": {{name}}, "arguments": {{arguments}}}</call>'
    assert format.ends == ("<|end|>",)
    message = Parser(format).parse('Yes. <call>{"name": "f", "arguments": {"x": 1}}</call><|end|>')
    assert facts(message) == ([("f", {"x": 1})], "Yes. ", "")


def test_named_calls_are_read() -> None:
    template = field(
        open=["unused"],
        content_args={"string_delims": [["<q>", "<q>"]], "unquoted_keys": True},
        transform={"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
    )
    del template["fields"]["tool_calls"]["open"]
    template["fields"]["tool_calls"]["open_pattern"] = r"<call>\s*do:(?P<name>\w+)"
    format = from_response_template(template, name="mine").format
    assert format is not None
    message = Parser(format).parse("<call>do:f{a:<q>it's<q>,b:2}</call>")
    assert facts(message) == ([("f", {"a": "it's", "b": 2})], "", "")


def test_tagged_calls_are_read_with_what_the_template_skips() -> None:
    template = field(
        content="xml-inline",
        content_args={"tag_pattern": r"<arg=(?P<key>[^>]+)>\s*(?P<value>.*?)\s*</arg>"},
        transform={"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
    )
    del template["fields"]["tool_calls"]["open"]
    template["fields"]["tool_calls"]["open_pattern"] = r"<call>\s*<do=(?P<name>[^\n>]+)>"
    format = from_response_template(template, name="mine").format
    assert format is not None
    for end in ("</do></call>", "</call>"):
        message = Parser(format).parse(f"<call><do=f>\n<arg=x>\na\n</arg>\n{end}")
        assert facts(message) == ([("f", {"x": "a"})], "", "")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({}, "the template has no fields"),
        ({"fields": {"content": {}}}, "the template has no field 'tool_calls'"),
        ({"fields": {"citations": {}}}, "field 'citations': a turn is made of content, a thought and tool calls"),
        (field(content="kv-lines", transform={"name": "{name}", "arguments": "{content}"}), "calls as 'kv-lines'"),
        (field(content_args={"string_delims": [["«", "»"]]}), "strings whose two quotes differ"),
        (field(transform={"function": {"name": "x"}}), "does not give name and arguments"),
        (field(transform={"name": "{name}", "arguments": "{content.args}"}), "the name is '{name}', which is no path"),
    ],
)
def test_reasons(template: dict[str, Any], reason: str) -> None:
    imported = from_response_template(template, name="mine")
    assert imported.format is None
    assert reason in imported.reason


def trl_templates() -> dict[str, dict[str, Any]]:
    """The response templates in trl's source; trl itself, which imports torch, is not imported."""
    spec = importlib.util.find_spec("trl")
    path = Path((spec.submodule_search_locations or [""])[0]) / "chat_template_utils.py" if spec else None
    if path is None or not path.is_file():
        return {}
    names: dict[str, Any] = {"_SUPPORTS_PARSE_RESPONSE_TOOLS": True}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        name = target.id if isinstance(target, ast.Name) else ""
        if name == "_XML_INLINE_VALUE_PARSER" or (name.endswith("_template") and "chat" not in name):
            try:
                exec(ast.unparse(node), names)
            except NameError:  # what depends on more than this is left out
                continue
    return {name: value for name, value in names.items() if name.endswith("_template") and isinstance(value, dict)}


def test_templates_of_trl() -> None:
    """Formats read from trl's own templates read what our renderers write for these families."""
    templates = trl_templates()
    if not templates:
        pytest.skip("trl is not installed, or ships no response templates")
    pairs = {
        "qwen3_template": "qwen",
        "qwen3_5_template": "qwen3-coder",
        "glm4moe_template": "glm45",
        "nemotron_3_template": "nemotron3",
        "lfm2_2_5_template": "lfm2",
    }
    for template, name in pairs.items():
        if template not in templates:
            continue
        imported = from_response_template(templates[template], name=template)
        assert imported.format is not None, (template, imported.reason)
        format = registry.get(name)
        for tools, text in texts_of(format, seed=13):
            ours = Parser(format).parse(text, tools=tools)
            found = Parser(imported.format).parse(text, tools=tools)
            assert facts(found)[0] == facts(ours)[0], (template, text)


def test_every_template_of_trl_is_read_or_describes_no_calls() -> None:
    """One of them has no field for calls: what it reads is no format."""
    templates = trl_templates()
    if not templates:
        pytest.skip("trl is not installed, or ships no response templates")
    for name, template in templates.items():
        imported = from_response_template(template, name=name)
        if "tool_calls" in template["fields"]:
            assert imported.format is not None, (name, imported.reason)
        else:
            assert imported.reason == "the template has no field 'tool_calls'"


def test_a_thought_that_the_prompt_opens_is_read_as_one() -> None:
    """The field shows its end only; the tag that opens it stands at the end of the start anchor."""
    template = trl_templates().get("nemotron_3_template")
    if template is None:
        pytest.skip("trl is not installed, or ships no such template")
    format = from_response_template(template, name="mine").format
    assert (format.prefill, format.reasoning) == ("<think>\n", "<think>{{text}}</think>")
    found = Parser(format).parse("Hm.</think>Yes.<|im_end|>", prompt="<|im_start|>assistant\n<think>\n")
    assert (found.reasoning, found.content) == ("Hm.", "Yes.")
