"""toolparse reads the tool calls that language models write: any family, any template, text or token ids."""

from typing import TYPE_CHECKING

from toolparse.api import parse, parser_for
from toolparse.detect import detect
from toolparse.errors import (
    ExportError,
    FormatError,
    RenderError,
    TemplateError,
    ToolError,
    ToolparseError,
    UnknownFormat,
)
from toolparse.events import (
    ArgumentsDelta,
    CallEnded,
    CallStarted,
    ContentDelta,
    Event,
    IssueFound,
    ReasoningDelta,
)
from toolparse.format import JSON, PYTHON, Also, Format, Syntax
from toolparse.message import Issue, ParsedMessage, Span, ToolCall
from toolparse.parser import FunctionParser, Parser, Stream
from toolparse.reader import COMPILED
from toolparse.registry import families, get, register

if TYPE_CHECKING:
    from toolparse import testing
    from toolparse.corpora import batch
    from toolparse.detect import Detection
    from toolparse.tools import tool_schema

__all__ = [
    "COMPILED",
    "JSON",
    "PYTHON",
    "Also",
    "ArgumentsDelta",
    "CallEnded",
    "CallStarted",
    "ContentDelta",
    "Detection",
    "Event",
    "ExportError",
    "Format",
    "FormatError",
    "FunctionParser",
    "Issue",
    "IssueFound",
    "ParsedMessage",
    "Parser",
    "ReasoningDelta",
    "RenderError",
    "Span",
    "Stream",
    "Syntax",
    "TemplateError",
    "ToolCall",
    "ToolError",
    "ToolparseError",
    "UnknownFormat",
    "batch",
    "detect",
    "families",
    "get",
    "parse",
    "parser_for",
    "register",
    "testing",
    "tool_schema",
]

__version__ = "0.1.0"

_LAZY = {
    "Detection": ("toolparse.templates.judging.detection", "Detection"),
    "batch": ("toolparse.corpora", "batch"),
    "tool_schema": ("toolparse.tools", "tool_schema"),
    "testing": ("toolparse.testing", ""),
}


def __getattr__(name: str) -> object:
    # What reading does not need is imported when it is first asked for.
    if name not in _LAZY:
        raise AttributeError(f"module 'toolparse' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    value = import_module(module)
    found = getattr(value, attribute) if attribute else value
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
