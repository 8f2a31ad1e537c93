"""The short way and the machine read the same, and well-formed text takes the short way."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolparse import registry, testing
from toolparse.express import express_for, start_of
from toolparse.format import Format
from toolparse.machine import Machine
from toolparse.parser import Parser
from toolparse.program import compile_format
from toolparse.tools import ToolSet

FORMATS = [pytest.param(format, id=format.name) for format in registry.formats()]
EXAMPLES = {"laws": 2000, "ci": 200}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 40)


@pytest.mark.parametrize("format", FORMATS)
def test_both_ways_read_the_same(format: Format) -> None:
    format = format.bind("")
    program = compile_format(format)
    read = express_for(format).reader(start_of(program, format.prefill))

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(testing.outputs(format), st.booleans())
    def law(text: str, with_tools: bool) -> None:
        tools = None
        if with_tools:
            calls = Machine(program, prefill=format.prefill, complete=text).close().tool_calls
            tools = ToolSet.of(testing.schema_of([call for call in calls if call.name.strip()]))
        short = read(text, tools) if read is not None else None
        if short is not None:
            testing.assert_same_message(Machine(program, tools, prefill=format.prefill, complete=text).close(), short)

    law()


@pytest.mark.parametrize("format", FORMATS)
def test_plain_text_takes_the_short_way(format: Format) -> None:
    format = format.bind("")
    program = compile_format(format)
    read = express_for(format).reader(start_of(program, format.prefill))
    assert read is not None
    calls = [("f", {"a": "text", "b": 1}), ("g", {})][: 2 if format.parallel else 1]
    parser = Parser(format)
    for content in ("", "Hello."):
        for reasoning in (None, "Hm.") if format.reasoning is not None else (None,):
            text = parser.render(calls, content=content, reasoning=reasoning)
            message = read(text, None)
            assert message is not None, text
            assert [call.name for call in message.tool_calls] == ["f", "g"][: len(calls)]
            assert (message.content, message.reasoning) == (content, reasoning)
