"""Modules with the names and signatures of vLLM 0.33's and SGLang 0.5's interfaces, for the plugins to be run against.

Only what the plugins touch is here; what the servers do with a parser is played in `test_plugins.py`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field


@contextmanager
def modules(made: dict[str, dict[str, Any]], plugin: str) -> Iterator[None]:
    """Modules with these names in `sys.modules`; they and the plugin that was imported against them go at the end."""
    names: set[str] = set()
    for name, content in made.items():
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            parent = ".".join(parts[:depth])
            if parent not in names:
                names.add(parent)
                module = types.ModuleType(parent)
                module.__path__ = []
                sys.modules[parent] = module
        sys.modules[name].__dict__.update(content)
    try:
        yield
    finally:
        for name in [*names, plugin]:
            sys.modules.pop(name, None)
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

    def get_remaining_unstreamed_args(self) -> str:
        assert not self.prev_tool_call_arr
        return ""

    def adjust_request(self, request: Any) -> Any:
        raise NotImplementedError

    def extract_tool_calls(self, model_output: str, request: Any) -> ExtractedToolCallInformation:
        raise NotImplementedError

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Any,
        current_token_ids: Any,
        delta_token_ids: Any,
        request: Any,
    ) -> DeltaMessage | None:
        raise NotImplementedError


class ToolParserManager:
    def __init__(self) -> None:
        self.lazy_parsers: dict[str, tuple[str, str]] = {}

    def register_module(self, name: str | list[str] | None = None, force: bool = True, module: Any = None) -> Any:
        def decorate(made: Any) -> Any:
            self.lazy_parsers[str(name)] = (made.__module__, made.__name__)
            return made

        return decorate


class VLLMParser:
    reasoning_parser_cls: Any = None
    tool_parser_cls: Any = None
    tool_strict_level: Any = None
    always_adjust_request: bool = False

    def __init__(self, tokenizer: Any, tools: Any = None, *args: Any, model_config: Any = None, **kwargs: Any) -> None:
        self.model_tokenizer = tokenizer
        self._tool_parser = self.tool_parser_cls(tokenizer, tools) if self.tool_parser_cls is not None else None

    def adjust_request(self, request: Any) -> Any:
        return request

    def set_prompt_token_ids(self, prompt_token_ids: Any) -> None:
        return

    def is_reasoning_end(self, input_ids: list[int]) -> bool:
        raise NotImplementedError

    def parse(
        self, model_output: str, request: Any, enable_auto_tools: bool = False, model_output_token_ids: Any = ()
    ) -> Any:
        raise NotImplementedError

    def parse_delta(
        self,
        delta_text: str,
        delta_token_ids: list[int],
        request: Any,
        prompt_token_ids: list[int] | None = None,
        *,
        finished: bool,
    ) -> DeltaMessage | None:
        raise NotImplementedError

    def count_reasoning_tokens(self, token_ids: Any) -> int:
        return 0


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
        return f"vLLM's own, {tool_parser_name} and {reasoning_parser_name}"


def vllm() -> Any:
    """vLLM's modules, around the vLLM plugin."""
    protocol = (DeltaMessage, ExtractedToolCallInformation, FunctionCall, ToolCall)
    manager = type("ParserManager", (), dict(ParserManager.__dict__))
    return modules(
        {
            "vllm.entrypoints.generate.base.protocol": {made.__name__: made for made in protocol},
            "vllm.parser.abstract_parser": {"Parser": VLLMParser},
            "vllm.parser.parser_manager": {"ParserManager": manager},
            "vllm.sampling_params": {"StructuredOutputsParams": StructuredOutputsParams},
            "vllm.tool_parsers.abstract_tool_parser": {
                "ToolParser": ToolParser,
                "ToolParserManager": ToolParserManager(),
            },
        },
        "toolparse.plugins.vllm",
    )


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

    def parses_required_natively(self) -> bool:
        return False

    def get_required_tool_parser(self, tool_choice: Any) -> Any:
        return None


class FunctionCallParser:
    ToolCallParserEnum: ClassVar[dict[str, Any]] = {"hermes": BaseFormatDetector}


class StructuralTag(BaseModel):
    format: dict[str, Any]


def sglang() -> Any:
    """SGLang's modules, around the SGLang plugin."""
    calls = "sglang.srt.function_call"
    parser = type("FunctionCallParser", (), {"ToolCallParserEnum": dict(FunctionCallParser.ToolCallParserEnum)})
    return modules(
        {
            f"{calls}.base_format_detector": {"BaseFormatDetector": BaseFormatDetector},
            f"{calls}.core_types": {"StreamingParseResult": StreamingParseResult, "ToolCallItem": ToolCallItem},
            f"{calls}.function_call_parser": {"FunctionCallParser": parser},
            f"{calls}.parser_names": {"TOOL_CALL_PARSER_NAMES": ["hermes"]},
            "xgrammar": {"StructuralTag": StructuralTag},
        },
        "toolparse.plugins.sglang",
    )
