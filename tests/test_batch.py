"""Parsers travel to other processes, and what they read there is what they read here."""

from __future__ import annotations

import importlib
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import toolparse
from fixtures import tokenizers
from toolparse.message import ParsedMessage
from toolparse.tools import ToolSet

HERMES = '<tool_call>\n{"name": "search", "arguments": {"query": "%s", "limit": %s}}\n</tool_call>'
ODD = [
    "Hi.\n" + HERMES % ("x", "3") + "\nBye.",
    HERMES % ("\\ud800 alone", "3"),
    "content with \udc80 alone " + HERMES % ("\udfff", "3"),
    HERMES % ("big", "9" * 400),
    HERMES % ("big", str(2**64)),
    HERMES % ("negative", str(-(2**63) - 1)),
    HERMES % ("float", "1.0"),
    HERMES % ("none", "null"),
    HERMES % ("no number", '"three"'),
    HERMES.replace("search", "serch") % ("unknown", "1"),
    HERMES.replace('"limit"', '"query"') % ("twice", '"again"'),
    (HERMES % ("cut off", "3"))[:60],
    HERMES % ("repaired", "3,"),
    "</tool_call> a stray marker",
    "",
    " \n ",
    "<think>\nfirst\n</think>\n\n" + HERMES % ("after a thought", "3"),
    "long " * 2000 + "\n" + HERMES % ("y" * 5000, "3") + "\n" + HERMES % ("z", "x") + "<|im_end|>\n",
    "<think>\n" + "long thought " * 1000 + "</think>" + "long content " * 1000,
]


def search(query: str, limit: int = 10) -> str:
    """Search the web.

    Args:
        query: What to look for.
        limit: How many results.
    """
    return f"{query} {limit}"


def same(one: list[ParsedMessage], other: list[ParsedMessage]) -> bool:
    """Equal also in what `==` does not tell apart: 1, 1.0 and True; the calls' text, spans and issues."""
    return one == other and [repr(message) for message in one] == [repr(message) for message in other]


def local_tool() -> Any:
    def search(query: str) -> str:
        """Look something up.

        Args:
            query: What.
        """
        return query

    return search


@pytest.mark.parametrize("library", ["pickle", "dill", "cloudpickle"])
@pytest.mark.parametrize("tools", [None, [search], [local_tool()]], ids=["no tools", "tools", "a local function"])
def test_a_parser_travels(library: str, tools: Any) -> None:
    try:
        pickler: Any = importlib.import_module(library)
    except ImportError:
        pytest.skip(f"{library} is not installed")
    for parser in (toolparse.parser_for("hermes", tools=tools), toolparse.parser_for("qwen3-coder", tools=tools)):
        again = pickler.loads(pickler.dumps(parser))
        assert same(again.parse_batch(ODD), parser.parse_batch(ODD))
        assert again.stream().close() == parser.stream().close()
        # it travels on, after it has read, too
        assert same(pickler.loads(pickler.dumps(again)).parse_batch(ODD), parser.parse_batch(ODD))


def test_what_is_compiled_stays_behind() -> None:
    parser = toolparse.parser_for("hermes", tools=[search])
    parser.parse_batch(ODD)
    assert {"_program", "_readers"}.isdisjoint(parser.__getstate__())
    assert len(pickle.dumps(parser)) < 5_000


def test_exact_names_travel() -> None:
    tools = ToolSet([search], exact_names=True)
    for again in (pickle.loads(pickle.dumps(tools)), pickle.loads(pickle.dumps(tools.detached()))):
        assert again.exact_names
        assert again.resolve("functions.search") == (None, False)


def test_batches_in_an_executor() -> None:
    """The lines that docs/scaling.md gives."""
    parser = toolparse.parser_for(tokenizers.tokenizer("qwen"), tools=[local_tool()])
    parts = [ODD, ODD[::-1]]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(parser.parse_batch, parts))
    assert all(same(messages, parser.parse_batch(part)) for messages, part in zip(found, parts, strict=True))
