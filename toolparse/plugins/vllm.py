"""vLLM: `--tool-parser-plugin toolparse.plugins.vllm --enable-auto-tool-choice --tool-call-parser toolparse`.

For vLLM 0.33, whose `Parser` reads thoughts, content and calls from the token ids and is told when they end. With
`--reasoning-parser` of another name, `ToolparseToolParser` reads the text that is left when that parser has taken the
thought away. Calls that may not be executed stay content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage, ExtractedToolCallInformation, FunctionCall, ToolCall
from vllm.parser.abstract_parser import Parser
from vllm.parser.parser_manager import ParserManager
from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager

from toolparse.api import parser_for
from toolparse.openai import constraint
from toolparse.plugins.turn import Turn, tools_of

NAME = "toolparse"


def adjusted(request: Any, tokenizer: Any, *, reasoning: bool) -> Any:
    """The request, with markers kept in its text and its choice of tools as a grammar."""
    request.skip_special_tokens = False
    held = constraint(parser_for(tokenizer), tools_of(request), ("structural_tag", "ebnf", "lark"), reasoning=reasoning)
    if held is not None:
        syntax, text = held
        field = "structural_tag" if syntax == "structural_tag" else "grammar"
        request.structured_outputs = StructuredOutputsParams(**{field: text})
        request.response_format = None
    return request


@ToolParserManager.register_module(NAME)
class ToolparseToolParser(ToolParser):  # type: ignore[misc]
    """The older interface: text behind the thought."""

    supports_required_and_named = False
    engine_based_streaming = True  # `finish_streaming` is called at the end

    def __init__(self, tokenizer: Any, tools: Any = None) -> None:
        super().__init__(tokenizer, tools)
        self._turn: Turn | None = None

    def adjust_request(self, request: Any) -> Any:
        return adjusted(request, self.model_tokenizer, reasoning=False)

    def extract_tool_calls(self, model_output: str, request: Any) -> Any:
        said = Turn(parser_for(self.model_tokenizer), tools_of(request), "").feed(model_output, finished=True)
        calls = [ToolCall(id=c["id"], function=FunctionCall(**c["function"])) for c in said.get("tool_calls", ())]
        content = said.get("content")
        return ExtractedToolCallInformation(tools_called=bool(calls), tool_calls=calls, content=content)

    def extract_tool_calls_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
        request: Any,
    ) -> Any:
        self._turn = self._turn or Turn(parser_for(self.model_tokenizer), tools_of(request), "")
        return message(self._turn.feed(delta_text))

    def finish_streaming(self) -> Any:
        return None if self._turn is None else message(self._turn.feed("", finished=True))


class ToolparseParser(Parser):  # type: ignore[misc]
    """The newer interface: token ids, from the prompt's end to the stream's."""

    tool_parser_cls = ToolparseToolParser
    always_adjust_request = True
    auto_tools = True  # --enable-auto-tool-choice

    def __init__(self, tokenizer: Any, tools: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, tools, *args, **kwargs)
        self._prompt: list[int] = []
        self._turn: Turn | None = None

    def set_prompt_token_ids(self, prompt_token_ids: Sequence[int]) -> None:
        self._prompt = list(prompt_token_ids)

    def is_reasoning_end(self, input_ids: list[int]) -> bool:
        stream = parser_for(self.model_tokenizer).stream(prompt=input_ids)
        stream.feed("x")
        return stream.close().reasoning is None

    def adjust_request(self, request: Any) -> Any:
        return adjusted(request, self.model_tokenizer, reasoning=True)

    def parse(
        self, model_output: str, request: Any, enable_auto_tools: bool = False, model_output_token_ids: Any = ()
    ) -> Any:
        asked = tools_of(request, auto=enable_auto_tools)
        turn = Turn(parser_for(self.model_tokenizer), asked, self._prompt)
        said = turn.feed(list(model_output_token_ids) or model_output, finished=True)
        calls = [FunctionCall(id=call["id"], **call["function"]) for call in said.get("tool_calls", ())]
        return said.get("reasoning"), said.get("content"), calls or None

    def parse_delta(
        self, delta_text: str, delta_token_ids: Any, request: Any, prompt_token_ids: Any = None, *, finished: bool
    ) -> Any:
        if self._turn is None:
            self._prompt = list(prompt_token_ids or self._prompt)
            asked = tools_of(request, auto=self.auto_tools)
            self._turn = Turn(parser_for(self.model_tokenizer), asked, self._prompt)
        said = self._turn.feed(list(delta_token_ids), finished=finished)
        return message(said, reasoning=request.include_reasoning)


def message(said: dict[str, Any], *, reasoning: bool = True) -> Any:
    """A delta of vLLM's, None if nothing was said."""
    kept = {name: value for name, value in said.items() if value and (reasoning or name != "reasoning")}
    return DeltaMessage(**kept) if kept else None


_compose = ParserManager._compose_parser


def _composed(tool_parser_name: str | None, reasoning_parser_name: str | None, **others: Any) -> Any:
    if tool_parser_name == NAME and reasoning_parser_name in (None, "", NAME):
        return type("ToolparseParser", (ToolparseParser,), {"auto_tools": others["enable_auto_tools"]})
    return _compose(tool_parser_name=tool_parser_name, reasoning_parser_name=reasoning_parser_name, **others)


ParserManager._compose_parser = staticmethod(_composed)
