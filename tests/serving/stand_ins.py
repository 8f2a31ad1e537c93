"""Modules with the names and signatures of vLLM 0.33's and SGLang 0.5's interfaces, for the plugins to be run against.

Only what the plugins touch is here; what the servers do with a parser is played in `test_plugins.py`. `real_vllm` and
`real_sglang` give the servers' own files instead, where `make servers` has fetched them; a test compares the signatures.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import BaseModel, Field

from tests.conftest import ROOT

#: Where the Python files of the servers' wheels lie.
SERVERS = Path(os.environ.get("TOOLPARSE_SERVERS") or ROOT / ".cache" / "servers")


@contextmanager
def modules(made: dict[str, dict[str, Any]], plugin: str) -> Iterator[None]:
    """Modules with these names in `sys.modules`, and nothing else of their packages; what was there returns at the end."""
    roots = {name.partition(".")[0] for name in made}
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in roots}
    for name, content in made.items():
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            parent = ".".join(parts[:depth])
            if parent not in sys.modules:
                sys.modules[parent] = types.ModuleType(parent)
                sys.modules[parent].__path__ = []
        sys.modules[name].__dict__.update(content)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
            del sys.modules[name]
        sys.modules.update(before)
        forget(plugin)


def forget(plugin: str) -> None:
    """Whoever imports the plugin next imports it anew."""
    sys.modules.pop(plugin, None)
    parent, _, child = plugin.rpartition(".")
    if hasattr(sys.modules.get(parent), child):
        delattr(sys.modules[parent], child)


# -------------------------------------------------------------------------------------------------------------- vLLM


class FunctionCall(BaseModel):
    id: str | None = Field(default=None, exclude=True)
    name: str
    arguments: str


class ToolCall(BaseModel):
    id: str = "made-by-vllm"
    type: Literal["function"] = "function"
    function: FunctionCall


class DeltaFunctionCall(BaseModel):
    name: str | None = None
    arguments: str | None = None


class DeltaToolCall(BaseModel):
    id: str | None = None
    type: Literal["function"] | None = None
    index: int
    function: DeltaFunctionCall | None = None


class DeltaMessage(BaseModel, extra="forbid"):
    role: str | None = None
    content: str | None = None
    reasoning: str | None = None
    tool_calls: list[DeltaToolCall] = Field(default_factory=list)


class ExtractedToolCallInformation(BaseModel):
    tools_called: bool
    tool_calls: list[ToolCall]
    content: str | None = None


@dataclass
class StructuredOutputsParams:
    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None


class ToolParser:
    supports_required_and_named: bool = True
    structural_tag_model: str | None = None
    engine_based_streaming: bool = False

    def __init__(self, tokenizer: Any, tools: list[Any] | None = None) -> None:
        self.prev_tool_call_arr: list[dict[str, Any]] = []
        self.current_tool_id: int = -1
        self.current_tool_name_sent: bool = False
        self.streamed_args_for_tool: list[str] = []
        self.model_tokenizer = tokenizer
        self.tools = list(tools or ())


class ToolParserManager:
    lazy_parsers: ClassVar[dict[str, tuple[str, str]]] = {}

    @classmethod
    def register_module(cls, name: str | list[str] | None = None, force: bool = True, module: Any = None) -> Any:
        def decorate(made: Any) -> Any:
            cls.lazy_parsers[str(name)] = (made.__module__, made.__name__)
            return made

        return decorate


class ReasoningParser:
    engine_based_streaming: bool = False

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        self.model_tokenizer = tokenizer


class BaseThinkingReasoningParser(ReasoningParser):
    start_token: Any
    end_token: Any

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        vocabulary = tokenizer.get_vocab()
        self.start_token_id = vocabulary[self.start_token]
        self.end_token_id = vocabulary[self.end_token]

    def is_reasoning_end(self, input_ids: Any) -> bool:
        found = [id for id in input_ids if id in (self.start_token_id, self.end_token_id)]
        return found[-1:] == [self.end_token_id]

    def is_reasoning_end_streaming(self, input_ids: Any, delta_ids: Any) -> bool:
        return self.end_token_id in delta_ids


class ReasoningParserManager(ToolParserManager):
    lazy_parsers: ClassVar[dict[str, tuple[str, str]]] = {}


class Parser:
    reasoning_parser_cls: Any = None
    tool_parser_cls: Any = None
    tool_strict_level: Any = None
    always_adjust_request: bool = False

    def __init__(self, tokenizer: Any, tools: Any = None, *args: Any, model_config: Any = None, **kwargs: Any) -> None:
        self.model_tokenizer = tokenizer
        self._tool_parser = self.tool_parser_cls(tokenizer, tools) if self.tool_parser_cls is not None else None


class ParserManager:
    @classmethod
    def get_parser(
        cls,
        tool_parser_name: str | None = None,
        reasoning_parser_name: str | None = None,
        enable_auto_tools: bool = False,
        model_name: str | None = None,
        is_harmony: bool = False,
        tool_strict_level: str | None = None,
        tokenizer: Any = None,
    ) -> Any:
        return cls._compose_parser(
            tool_parser_name=tool_parser_name,
            reasoning_parser_name=reasoning_parser_name,
            enable_auto_tools=enable_auto_tools,
            model_name=model_name,
            is_harmony=is_harmony,
            tool_strict_level=tool_strict_level,
            tokenizer=tokenizer,
        )

    @classmethod
    def _compose_parser(
        cls,
        tool_parser_name: str | None,
        reasoning_parser_name: str | None,
        enable_auto_tools: bool,
        model_name: str | None,
        is_harmony: bool,
        tool_strict_level: str | None,
        tokenizer: Any,
    ) -> Any:
        return type("Own", (Parser,), {})


VLLM = {
    "vllm.entrypoints.generate.base.protocol": (
        DeltaFunctionCall,
        DeltaMessage,
        DeltaToolCall,
        ExtractedToolCallInformation,
        FunctionCall,
        ToolCall,
    ),
    "vllm.parser.abstract_parser": (Parser,),
    "vllm.parser.parser_manager": (ParserManager,),
    "vllm.reasoning.abs_reasoning_parsers": (ReasoningParser, ReasoningParserManager),
    "vllm.reasoning.basic_parsers": (BaseThinkingReasoningParser,),
    "vllm.sampling_params": (StructuredOutputsParams,),
    "vllm.tool_parsers.abstract_tool_parser": (ToolParser, ToolParserManager),
}


@contextmanager
def vllm() -> Iterator[None]:
    """vLLM's modules, around the vLLM plugin."""
    fresh = {ParserManager: type("ParserManager", (), dict(ParserManager.__dict__))}  # the plugin changes it
    made = {name: {each.__name__: fresh.get(each, each) for each in classes} for name, classes in VLLM.items()}
    with modules(made, "toolparse.plugins.vllm"):
        yield


@contextmanager
def real_vllm() -> Iterator[None]:
    """vLLM's own files, around the vLLM plugin."""
    with _real("vllm"):
        yield
        # What the plugin put in goes; vLLM stays imported, since torch takes some of its types only once.
        if plugin := sys.modules.get("toolparse.plugins.vllm"):
            plugin.ParserManager._compose_parser = staticmethod(plugin._compose)


# ------------------------------------------------------------------------------------------------------------ SGLang


class ToolCallItem(BaseModel):
    tool_index: int
    name: str | None = None
    parameters: str


class StreamingParseResult(BaseModel):
    normal_text: str = ""
    calls: list[ToolCallItem] = []


class BaseFormatDetector:
    def __init__(self) -> None:
        self._buffer = ""
        self.prev_tool_call_arr: list[dict[str, Any]] = []
        self.current_tool_id: int = -1
        self.current_tool_name_sent: bool = False
        self.streamed_args_for_tool: list[str] = []
        self.bot_token = ""
        self.eot_token = ""
        self.tool_call_separator = ", "


class FunctionCallParser:
    ToolCallParserEnum: ClassVar[dict[str, Any]] = {"hermes": BaseFormatDetector}


class BaseReasoningFormatDetector:
    def __init__(
        self,
        think_start_token: str,
        think_end_token: str,
        think_excluded_tokens: list[str] | None = None,
        force_reasoning: bool = False,
        stream_reasoning: bool = True,
    ) -> None:
        self.think_start_token = think_start_token
        self.think_end_token = think_end_token


class SGLangReasoningParser:
    DetectorMap: ClassVar[dict[str, Any]] = {}


class StructuralTag(BaseModel):
    format: dict[str, Any]


SGLANG = {
    "sglang.srt.function_call.base_format_detector": (BaseFormatDetector,),
    "sglang.srt.function_call.core_types": (StreamingParseResult, ToolCallItem),
    "sglang.srt.function_call.function_call_parser": (FunctionCallParser,),
    "sglang.srt.parser.reasoning_parser": (BaseReasoningFormatDetector,),
}


@contextmanager
def sglang() -> Iterator[None]:
    """SGLang's modules, around the SGLang plugin."""
    made: dict[str, dict[str, Any]] = {
        name: {each.__name__: each for each in classes} for name, classes in SGLANG.items()
    }
    made["sglang.srt.function_call.parser_names"] = {"TOOL_CALL_PARSER_NAMES": ["hermes"]}
    made["sglang.srt.parser.reasoning_parser"]["ReasoningParser"] = SGLangReasoningParser
    made["sglang.srt.parser.reasoning_parser_names"] = {"REASONING_PARSER_NAMES": []}
    made["xgrammar"] = {"StructuralTag": StructuralTag}
    with modules(made, "toolparse.plugins.sglang"):
        yield


@contextmanager
def real_sglang() -> Iterator[None]:
    """SGLang's own files, around the SGLang plugin."""
    with _real("sglang"):
        yield


# -------------------------------------------------------------------------------------------------- the servers' files


@contextmanager
def _real(server: str) -> Iterator[None]:
    if not (SERVERS / server).is_dir():
        pytest.skip(f"no files of {server}: make servers")
    if str(SERVERS) not in sys.path:
        sys.path.append(str(SERVERS))
    absent = _Absent()
    if server == "sglang":
        sys.meta_path.append(absent)
    plugin = f"toolparse.plugins.{server}"
    try:
        yield
    finally:
        forget(plugin)
        if absent in sys.meta_path:
            sys.meta_path.remove(absent)


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """What SGLang imports at its top and no parser uses: too large to fetch."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] not in ("triton", "IPython"):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> types.ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class _Anything(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyType(name, (), {})


class _AnyType(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AnyType(name, (), {})

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args and callable(args[0]) else super().__call__()  # it may decorate
