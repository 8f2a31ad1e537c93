"""The greatest depth of values is one: what is just deep enough for one part of the house is for all, and no more is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT
from toolparse import registry
from toolparse.codecs.json import MAX_DEPTH
from toolparse.errors import RenderError, ToolError
from toolparse.format import Format
from toolparse.message import ParsedMessage
from toolparse.parser import Parser
from toolparse.render import render
from toolparse.tools import Tool, ToolSet, coerce

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]
LEAF = 12345
STEPS = {"array": "items", "object": "additionalProperties"}


def tool(kind: str) -> Tool:
    """One whose argument is of integers, at any depth."""
    node = {"type": kind, STEPS[kind]: {"$ref": "#/$defs/N"}}
    return Tool.of({
        "name": "f",
        "parameters": {
            "type": "object", "properties": {"a": node}, "$defs": {"N": {"anyOf": [node, {"type": "integer"}]}}
        },
    })  # fmt: skip


def nested(levels: int, kind: str, leaf: Any = LEAF) -> dict[str, Any]:
    """Arguments of so many levels, themselves included."""
    value = leaf
    for _ in range(levels - 1):
        value = [value] if kind == "array" else {"k": value}
    return {"a": value}


def alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def written(format: Format, levels: int, kind: str) -> str:
    """A call as text, however deep: what one more level adds is found where there are few."""
    texts = (render(format, [("f", nested(few, kind))], verify=False) for few in (3, 4))
    (before, after), (opened, closed) = (text.split(str(LEAF)) for text in texts)
    start, end = alike(before, opened), len(after) - alike(after[::-1], closed[::-1])
    opening = opened[start : start + len(opened) - len(before)] * (levels - 3)
    closing = closed[end : end + len(closed) - len(after)] * (levels - 3)
    return before[:start] + opening + before[start:] + str(LEAF) + after[:end] + closing + after[end:]


def read(format: Format, text: str, **options: Any) -> ParsedMessage:
    parser = Parser(format)
    message = parser.parse(text, **options)
    stream = parser.stream(**options)
    for start in range(0, len(text), 50):
        stream.feed(text[start : start + 50])
    assert stream.close() == message
    return message


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_reads_and_writes_values_of_the_same_depth(format: Format, kind: str) -> None:
    arguments = nested(MAX_DEPTH, kind)
    text = render(format, [("f", arguments)], verify=False)
    assert text == written(format, MAX_DEPTH, kind)
    (call,) = read(format, text, tools=ToolSet([tool(kind)])).tool_calls
    assert (call.arguments, call.ok) == (arguments, True)
    with pytest.raises(RenderError, match="nested too deeply"):
        render(format, [("f", nested(MAX_DEPTH + 1, kind))])
    for levels in (MAX_DEPTH + 1, MAX_DEPTH + 2, 5 * MAX_DEPTH):
        text = written(format, levels, kind)
        for tools in (None, ToolSet([tool(kind)])):
            (call,) = read(format, text, tools=tools).tool_calls
            text_alone = isinstance(call.arguments.get("a"), str)  # where nobody says that it is more
            assert call.arguments == {} or text_alone
            assert not call.ok or (text_alone and tools is None)


def test_elements_that_repeat_make_lists_which_count() -> None:
    opening, closing = "]<]minimax[>[<n>", "]<]minimax[>[</n>"
    text = "1"
    for _ in range(MAX_DEPTH // 2 + 1):
        text = f"{opening}{text}{closing}{opening}2{closing}"
    head, tail = render(registry.get("minimax-m3"), [("f", {"n": "here"})]).split(f"{opening}here{closing}")
    for tools in (None, ToolSet([{"name": "f", "parameters": {"properties": {"n": {}}}}])):
        (call,) = read(registry.get("minimax-m3"), head + text + tail, tools=tools).tool_calls
        assert [issue.code for issue in call.issues] == ["malformed-arguments"]
        (call,) = read(registry.get("minimax-m3"), head + opening + "1" + closing + tail, tools=tools).tool_calls
        assert call.ok


@pytest.mark.parametrize("kind", STEPS)
def test_tools_take_what_is_read(kind: str) -> None:
    mine = tool(kind)
    for levels in (MAX_DEPTH, MAX_DEPTH + 1):
        deep = levels > MAX_DEPTH
        arguments = nested(levels, kind)
        told = [] if not deep else ["arguments: nested too deeply"]
        assert [problem.message for problem in mine.validate(arguments)] == told
        assert mine.accepts(arguments, len(json.dumps(arguments))) != deep
        fitted, repairs = coerce(nested(levels, kind, "7"), mine)
        assert (fitted == nested(levels, kind, 7), len(repairs)) == (not deep, not deep)
        text = json.dumps(arguments["a"])
        assert mine.convert_text("a", text)[0] == (text if deep else arguments["a"])
        tree: Any = str(LEAF)
        for _ in range(levels - 1):
            tree = [("item" if kind == "array" else "k", tree)]
        value, problems = mine.convert_tree(tree, "a")
        assert value == arguments["a"]
        assert [problem.message for problem in problems] == (["arguments.a: nested too deeply"] if deep else [])


def test_schemas_nest_as_deeply() -> None:
    schema: Any = {}
    for _ in range(MAX_DEPTH - 3):  # beside `parameters`, its properties and the first schema in them
        schema = {"not": schema}
    assert Tool.of({"name": "f", "parameters": {"properties": {"a": schema}}}).validate({}) == []
    with pytest.raises(ToolError, match="nested too deeply"):
        Tool.of({"name": "f", "parameters": {"properties": {"a": {"not": schema}}}})


SMALL = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from tests.test_depth import *

def work():
    for name in ("hermes", "qwen3-coder", "minimax-m3", "cohere-cofl", "pythonic", "gemma4"):
        for kind in STEPS:
            test_every_format_reads_and_writes_values_of_the_same_depth(registry.get(name), kind)
            test_tools_take_what_is_read(kind)
    done.append(True)

done = []
threading.stack_size(int(sys.argv[2]))
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(done)
"""


def test_a_small_stack_is_enough() -> None:
    """That of a thread in macOS is."""
    command = [sys.executable, "-c", SMALL, str(ROOT), str(512 * 1024)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[True]\n"


@pytest.mark.parametrize("page", ["results.md", "decisions/0005-lengths-that-are-bounded.md", "differences.md"])
def test_the_pages_name_it(page: str) -> None:
    assert f"{MAX_DEPTH} levels" in (ROOT / "docs" / page).read_text(encoding="utf-8")
