"""`Tool` and `ToolSet`: names, errors at once, and what is remembered."""

from __future__ import annotations

import gc
import re
import time
import weakref
from typing import Any

import pydantic
import pytest

from toolparse.errors import ToolError, ToolparseError
from toolparse.tools import Tool, ToolSet


def get_weather(city: str, unit: str = "c") -> str:
    """Get the weather.

    Args:
        city: The city
        unit: The unit
    """
    return city


def search(query: str) -> str:
    """Search.

    Args:
        query: What to find
    """
    return query


class Book(pydantic.BaseModel):
    """Book a table."""

    guests: int


PING = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}}


def test_the_set() -> None:
    tools = ToolSet.of([get_weather, search, Book, PING])
    assert tools.names == {"get_weather", "search", "Book", "ping"}
    assert [tool.name for tool in tools] == ["get_weather", "search", "Book", "ping"]
    assert len(tools) == 4
    assert "search" in tools
    assert "serch" not in tools
    search_tool = tools.get("search")
    assert search_tool in tools
    assert search_tool.source is search
    assert search_tool.parameters is search_tool.schema["function"]["parameters"]
    assert tools["search"] is search_tool
    assert tools[1] is search_tool
    assert tools.get("serch") is None
    assert tools.get(None) is None
    assert [schema["function"]["name"] for schema in tools.schemas] == ["get_weather", "search", "Book", "ping"]
    assert tools.schemas[3] == PING
    assert repr(tools) == "ToolSet(get_weather, search, Book, ping)"
    assert repr(search_tool) == "Tool('search')"


def test_empty() -> None:
    for nothing in (None, [], ()):
        tools = ToolSet.of(nothing)
        assert not tools
        assert tools.schemas == []
        assert tools.suggest("x") is None


def test_passes_through() -> None:
    tools = ToolSet.of([search])
    assert ToolSet.of(tools) is tools
    assert ToolSet.of(tool for tool in [search]).names == {"search"}
    one = Tool.of(search)
    assert Tool.of(one) is one
    assert next(iter(ToolSet.of([one]))) is one


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("serch", "search"),
        ("Search", "search"),
        ("getWeather", "get_weather"),
        ("get-weather", "get_weather"),
        ("get_wether", "get_weather"),
        ("zzz", None),
        ("", None),
        ("s" * 100_000, None),
        ("\ud800", None),
    ],
)
def test_suggest(name: str, expected: str | None) -> None:
    assert ToolSet.of([get_weather, search]).suggest(name) == expected


@pytest.mark.parametrize(
    ("tools", "match"),
    [
        ([search, search], r"two tools are called 'search'"),
        ([PING, {"name": "ping"}], r"two tools are called 'ping'"),
        ([lambda x: x], r"no name: .*pass a function made with def"),
        ([{"type": "function", "function": {"description": "d"}}], r"a tool has no name"),
        ([{"name": ""}], r"a tool has no name"),
        ([{"name": 3}], r"a tool has no name"),
        ([{"description": "x"}], r"a tool has no name"),
        ([3], r"a tool can't be made from 3"),
        (["search"], r"a tool can't be made from 'search'"),
        (PING, r"tools must be a list"),
        ("search", r"tools must be a list"),
        (search, r"tools must be a list"),
        (Book, r"tools must be a list"),
        ([{"name": "f", "description": object()}], r"tool 'f': function.description is a object"),
    ],
    ids=lambda v: re.sub(r"0x[0-9a-f]+|<object.*", "", str(v)[:40]),
)
def test_errors_at_once(tools: Any, match: str) -> None:
    with pytest.raises(ToolError, match=match) as caught:
        ToolSet.of(tools)
    assert isinstance(caught.value, ToolparseError)
    assert isinstance(caught.value, ValueError)


def test_remembered() -> None:
    listed = [get_weather, search, Book, PING]
    first = ToolSet.of(listed)
    assert ToolSet.of(listed) is first
    assert ToolSet.of([get_weather, search, Book, dict(PING)]) is first
    assert ToolSet.of([search, get_weather, Book, PING]) is not first
    started = time.perf_counter()
    for _ in range(1000):
        ToolSet.of(listed)
    assert time.perf_counter() - started < 0.2  # 200 microseconds each would be slow, even on a busy machine


def test_a_changed_dict_is_noticed() -> None:
    mine = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    listed = [mine]
    first = ToolSet.of(listed)
    mine["parameters"]["properties"]["a"]["type"] = "string"
    second = ToolSet.of(listed)
    assert first["f"].admits("a") == "typed"
    assert second["f"].admits("a") == "text"
    mine["parameters"]["properties"]["a"] = {"const": 1}
    third = ToolSet.of(listed)
    mine["parameters"]["properties"]["a"] = {"const": True}
    assert third["f"].validate({"a": True}) != []
    assert ToolSet.of(listed)["f"].validate({"a": True}) == []


def test_many_lists() -> None:
    for number in range(300):
        ToolSet.of([{"name": f"f{number}"}])
    assert ToolSet.of([{"name": "f0"}]).names == {"f0"}


class Environment:
    def move(self, direction: str) -> str:
        """Move.

        Args:
            direction: Where to
        """
        return direction


def test_environments_are_not_kept_alive() -> None:
    environment = Environment()
    tools = ToolSet.of([environment.move])
    other = ToolSet.of([Environment().move])
    assert tools["move"].source.__self__ is environment
    assert other["move"].source.__self__ is not environment
    assert tools["move"].parameters is other["move"].parameters  # the schema is made once
    seen = weakref.ref(environment)
    del tools, environment
    gc.collect()
    assert seen() is None


def test_closures_are_not_kept_alive() -> None:
    def make() -> Any:
        held = Environment()

        def act(x: int) -> Any:
            """Act.

            Args:
                x: A number
            """
            return held

        return act, weakref.ref(held)

    act, seen = make()
    ToolSet.of([act])
    del act
    gc.collect()
    assert seen() is None


def test_partials_and_objects_are_remembered() -> None:
    import functools

    bound = functools.partial(get_weather, unit="f")
    first, second = ToolSet.of([bound]), ToolSet.of([bound])
    assert first["get_weather"].schema is second["get_weather"].schema
    assert [p.code for p in first["get_weather"].validate({"city": "x", "unit": "c"})] == ["unexpected-argument"]
    seen = weakref.ref(bound)
    del bound, first, second
    gc.collect()
    assert seen() is None


def test_a_changed_object_is_noticed() -> None:
    class Remote:
        name = "f"
        inputSchema: Any = {"type": "object", "properties": {"a": {"type": "integer"}}}  # noqa: N815, RUF012

    remote = Remote()
    assert ToolSet.of([remote])["f"].admits("a") == "typed"
    remote.inputSchema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert ToolSet.of([remote])["f"].admits("a") == "text"


def test_pickle() -> None:
    import pickle

    tools = ToolSet.of([get_weather, Book, PING])
    tools["ping"].validate({})
    again = pickle.loads(pickle.dumps(tools))
    assert again.names == tools.names
    assert again["get_weather"].source is get_weather
    assert pickle.loads(pickle.dumps(tools["ping"])).schema == PING


def test_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(number: int) -> bool:
        tools = ToolSet.of([get_weather, {"name": f"g{number % 5}", "parameters": {"properties": {"a": {}}}}])
        return tools["get_weather"].validate({"city": 1}) != [] and not tools[f"g{number % 5}"].validate({"a": 1})

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


def test_the_documentation_runs() -> None:
    import doctest
    from pathlib import Path

    page = Path(__file__).resolve().parent.parent / "docs" / "tools.md"
    failures, tried = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert tried > 10
    assert failures == 0


@pytest.mark.parametrize(
    ("offered", "written", "meant"),
    [
        (["x"], "x", "x"),
        (["get_weather"], "functions.get_weather:3", "get_weather"),
        (["get_weather"], "functions_get_weather_1", "get_weather"),
        (["get_weather"], "get-weather", "get_weather"),
        (["get-weather"], "get_weather", "get-weather"),
        (["get_weather"], "default_api.get_weather", "get_weather"),
        (["get_weather"], "default_api.get_weather.get_weather", "get_weather"),
        (["get_weather"], "get_weather.get_weather", "get_weather"),
        (["exec"], "functionsexec5", "exec"),
        (["exec", "exec5"], "functions.exec5", "exec5"),
        (["exec", "exec5"], "functions.exec6", "exec"),
        (["a_b", "ab"], "a-b", None),
        (["get_weather"], "weather", None),
        (["get_weather"], "get_weathers", None),
        (["get_weather"], "Get_Weather", None),
        (["step_1"], "step_2", None),
        (["search"], "", None),
        (["search"], "functions.", None),
        (["search"], "functions." + "search" * 100, None),
    ],
)
def test_the_tool_that_a_name_means(offered: list[str], written: str, meant: str | None) -> None:
    tools = ToolSet([{"name": name} for name in offered])
    for _ in range(2):  # remembered
        tool, repaired = tools.resolve(written)
        assert (tool.name if tool else None) == meant
        assert repaired == (meant is not None and meant != written)
    exact = ToolSet([{"name": name} for name in offered], exact_names=True)
    assert exact.resolve(written) == (exact.get(written), False)


def test_tools_that_require_nothing() -> None:
    tools = ToolSet([{"name": "a"}, {"name": "b", "parameters": {"properties": {"x": {}}, "required": ["x"]}}])
    assert [tool.requires_nothing for tool in tools] == [True, False]
