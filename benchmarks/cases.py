"""The texts that are measured and what must be read from them, written out by hand for each format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Arguments = dict[str, Any]
Call = tuple[str, Arguments]


@dataclass(frozen=True)
class Truth:
    """What a text says."""

    calls: tuple[Call, ...] = ()
    content: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class Case:
    """A text of a format and its truth."""

    format: str
    name: str
    text: str
    truth: Truth
    plain: bool = False  # no call in it


@dataclass(frozen=True)
class Writer:
    """How a format is written: `calls` writes all calls of a turn, `thought` a thought."""

    calls: Callable[[tuple[Call, ...]], str]
    thought: Callable[[str], str] | None
    xml: bool = False
    content: Callable[[str], str] = lambda text: text


def _join(one: Callable[[str, Arguments], str], between: str = "", start: str = "", end: str = "") -> Any:
    return lambda calls: start + between.join(one(name, arguments) for name, arguments in calls) + end


def _hermes(name: str, arguments: Arguments) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def _qwen3_coder(name: str, arguments: Arguments) -> str:
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


def _deepseek(name: str, arguments: Arguments) -> str:
    return f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{json.dumps(arguments)}<｜tool▁call▁end｜>"


def _llama3(name: str, arguments: Arguments) -> str:
    return f'{{"name": "{name}", "parameters": {json.dumps(arguments)}}}'


def _harmony(name: str, arguments: Arguments) -> str:
    head = f"<|start|>assistant to=functions.{name}<|channel|>commentary json<|message|>"
    return f"{head}{json.dumps(arguments)}<|call|>"


def _pythonic(name: str, arguments: Arguments) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _gemma_value(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_gemma_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_gemma_value(item) for item in value) + "]"
    return json.dumps(value)


def _gemma(name: str, arguments: Arguments) -> str:
    return f"<|tool_call>call:{name}{_gemma_value(arguments)}<tool_call|>"


WRITERS = {
    "hermes": Writer(_join(_hermes, "\n"), lambda text: f"<think>\n{text}\n</think>\n\n"),
    "qwen3-coder": Writer(_join(_qwen3_coder, "\n"), lambda text: f"<think>\n{text}\n</think>\n\n", xml=True),
    "deepseek-v31": Writer(
        _join(_deepseek, "", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"), lambda text: f"<think>{text}</think>"
    ),
    "llama3-json": Writer(_join(_llama3, "; "), None),
    "harmony": Writer(
        lambda calls: "".join(_harmony(*call) for call in calls).removeprefix("<|start|>assistant"),
        lambda text: f"<|channel|>analysis<|message|>{text}<|end|><|start|>assistant",
        content=lambda text: f"<|channel|>final<|message|>{text}<|return|>",
    ),
    "pythonic": Writer(_join(_pythonic, ", ", "[", "]"), None),
    "gemma4": Writer(_join(_gemma), lambda text: f"<|channel>thought\n{text}\n<channel|>"),
}

_PROSE = (
    "The report covers the third quarter; sales rose in the north, fell in the south, and were flat elsewhere. "
    "Two stores opened (in May), one closed. Costs: 12,400 for rent, 3,150 for repairs - as planned.\n"
)
# Many lines as code has them, with quotes, brackets and angles that are no markers.
_CODE = (
    "def area(w: int, h: int) -> str:\n    if w < 0 or h < 0:\n"
    '        raise ValueError("negative")\n    return f"{w * h} m2"\n\n'
)


def prose(size: int) -> str:
    """Plain text of a size."""
    return (_PROSE * (size // len(_PROSE) + 1))[: size - 1] + "."


def code(size: int) -> str:
    """Source code of a size."""
    return (_CODE * (size // len(_CODE) + 1))[: size - 1] + "."


ONE: Call = (
    "search_documents",
    {
        "query": "quarterly revenue by region, 2024 (x)",
        "limit": 25,
        "filters": {"language": "en", "archived": False, "score": 0.75},
        "order": "date",
    },
)
ONE_XML: Call = (
    "search_documents",
    {
        "query": "quarterly revenue by region, 2024 (final figures)",
        "folder": "finance/reports",
        "language": "en",
        "order": "date",
        "path": "src/main/reports/quarter/app.py",
    },
)


def _tool(name: str, description: str, required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


_STRING = {"type": "string"}
_FILTERS = {"language": _STRING, "archived": {"type": "boolean"}, "score": {"type": "number"}}
_ARGUMENTS = {
    "query": _STRING,
    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
    "filters": {"type": "object", "properties": _FILTERS},
    "order": {"type": "string", "enum": ["date", "score"]},
}
_WRITE = _tool("write_file", "Write.", ["path", "text"], {"path": _STRING, "text": _STRING})
_PING = _tool("ping", "Ping.", ["host"], {"host": _STRING})
TOOLS_JSON = [_tool("search_documents", "Search.", ["query"], _ARGUMENTS), _WRITE, _PING]
TOOLS_XML = [_tool("search_documents", "Search.", ["query"], dict.fromkeys(ONE_XML[1], _STRING)), _WRITE, _PING]


def tools_of(format: str) -> list[dict[str, Any]]:
    """The tools that a format's cases call."""
    return TOOLS_XML if WRITERS[format].xml else TOOLS_JSON


def one_call(format: str) -> Case:
    """One call of ordinary size."""
    writer = WRITERS[format]
    calls = (ONE_XML if writer.xml else ONE,)
    return Case(format, "one call", writer.calls(calls), Truth(calls))


def calls_case(format: str, count: int) -> Case:
    """Several calls in one turn."""
    writer = WRITERS[format]
    tool, arguments = ONE_XML if writer.xml else ONE
    calls = tuple((tool, {**arguments, "query": f"{arguments['query']} {n}"}) for n in range(count))
    return Case(format, f"{count} calls", writer.calls(calls), Truth(calls))


def long_argument(format: str, size: int, name: str = "") -> Case:
    """One call with a long argument."""
    calls = (("write_file", {"path": "src/main/app.py", "text": code(size)}),)
    return Case(format, name or f"{size} argument", WRITERS[format].calls(calls), Truth(calls))


def text_case(format: str, size: int, name: str = "") -> Case:
    """Text without a call."""
    text = prose(size)
    return Case(format, name or f"{size} text", WRITERS[format].content(text), Truth((), text), plain=True)


def thought_case(format: str, size: int, name: str = "") -> Case | None:
    """A thought, then a call; None where the format has no thoughts."""
    writer = WRITERS[format]
    if writer.thought is None:
        return None
    calls = (ONE_XML if writer.xml else ONE,)
    text = prose(size)
    return Case(
        format, name or f"{size} thought + call", writer.thought(text) + writer.calls(calls), Truth(calls, "", text)
    )


def thought_only(format: str, size: int) -> Case:
    """A thought and nothing else."""
    writer = WRITERS[format]
    assert writer.thought is not None
    text = prose(size)
    return Case(format, f"{size} thought", writer.thought(text), Truth((), "", text), plain=True)


def many_small(format: str, size: int) -> Case:
    """Calls of about a hundred characters, as many as fit."""
    writer = WRITERS[format]
    one = writer.calls((("ping", {"host": "10.0.0.1"}),))
    calls = tuple(("ping", {"host": f"10.0.0.{n % 256}"}) for n in range(max(1, size // (len(one) + 2))))
    return Case(format, f"{size} small calls", writer.calls(calls), Truth(calls))


def one_shot_cases(format: str, *, quick: bool) -> list[Case]:
    """The cases of one text at once for one format."""
    found = [
        one_call(format),
        calls_case(format, 8),
        long_argument(format, 65_536, "64 KB argument"),
        text_case(format, 20_000, "20 KB text"),
        thought_case(format, 20_000, "20 KB thought + call"),
    ]
    if not quick:
        found.insert(3, long_argument(format, 1_000_000, "1 MB argument"))
    return [case for case in found if case is not None]
