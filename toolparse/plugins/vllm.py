"""vLLM: `--tool-parser-plugin toolparse.plugins.vllm --enable-auto-tool-choice --tool-call-parser toolparse`.

For vLLM 0.33, whose `Parser` reads thoughts, content and calls from the token ids and is told when they end. With
`--reasoning-parser` of another name, `ToolparseToolParser` reads the text that is left when that parser has taken the
thought away; for another tool parser `ToolparseReasoningParser` takes it. Calls that may not be executed stay content.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage, ExtractedToolCallInformation, FunctionCall, ToolCall
from vllm.parser.abstract_parser import Parser
from vllm.parser.parser_manager import ParserManager
from vllm.reasoning.abs_reasoning_parsers import ReasoningParserManager
from vllm.reasoning.basic_parsers import BaseThinkingReasoningParser
from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers.abstract_tool_parser import ToolParser, ToolParserManager

from toolparse.openai import ChatRequest, constraint
from toolparse.plugins.turn import Turn, asked_of, reader, thought_markers

NAME = "toolparse"


def adjusted(request: Any, tokenizer: Any, prompt: Any, *, reasoning: bool) -> Any:
    """The request, with markers kept in its text and its choice of tools as a grammar."""
    request.skip_special_tokens = False
    parser, asked = reader(tokenizer), asked_of(request)
    held = constraint(parser, asked, ("structural_tag", "ebnf", "lark"), prompt=prompt, reasoning=reasoning)
    if held is not None:
        field = "structural_tag" if held[0] == "structural_tag" else "grammar"
        request.structured_outputs = StructuredOutputsParams(**{field: held[1]})
        setattr(request, "response_format" if hasattr(request, "response_format") else "text", None)
        request._grammar_from_parser = reasoning  # else vLLM waits for the end of the thought
    return request


def delta(said: dict[str, Any], *, reasoning: bool = True) -> Any:
    """A delta of vLLM's, None if nothing was said."""
    kept = {name: value for name, value in said.items() if reasoning or name != "reasoning"}
    return DeltaMessage(**kept) if kept else None


@ToolParserManager.register_module(NAME)
class ToolparseToolParser(ToolParser):  # type: ignore[misc]
    """The older interface: text behind the thought."""

    supports_required_and_named = False
    engine_based_streaming = True  # `finish_streaming` is called at the end
    turn: Turn | None = None

    def adjust_request(self, request: Any) -> Any:
        return adjusted(request, self.model_tokenizer, None, reasoning=False)

    def extract_tool_calls(self, model_output: str, request: Any) -> Any:
        said = Turn(self.model_tokenizer, asked_of(request)).feed(model_output, finished=True)
        calls = [ToolCall(id=c["id"], function=FunctionCall(**c["function"])) for c in said.get("tool_calls", ())]
        return ExtractedToolCallInformation(tools_called=bool(calls), tool_calls=calls, content=said.get("content"))

    def extract_tool_calls_streaming(
        self, previous_text: str, current_text: str, delta_text: str, *ids: Any, request: Any = None
    ) -> Any:
        self.turn = self.turn or Turn(self.model_tokenizer, asked_of(request or ids[-1]))
        return delta(self.turn.feed(delta_text))

    def finish_streaming(self) -> Any:
        return None if self.turn is None else delta(self.turn.feed("", finished=True))


@ReasoningParserManager.register_module(NAME)
class ToolparseReasoningParser(BaseThinkingReasoningParser):  # type: ignore[misc]
    """The thought alone: for another tool parser, and for `response_format` behind a thought."""

    start_token = property(lambda self: thought_markers(self.model_tokenizer)[0])
    end_token = property(lambda self: thought_markers(self.model_tokenizer)[1])
    prompt: Sequence[int] = ()
    turn: Turn | None = None
    answered = False

    def set_prompt_token_ids(self, prompt_token_ids: Sequence[int]) -> None:
        self.prompt = list(prompt_token_ids)

    def is_reasoning_end_streaming(self, input_ids: Any, delta_ids: Any) -> bool:
        return self.answered or super().is_reasoning_end_streaming(input_ids, delta_ids)

    def extract_reasoning(self, model_output: str, request: Any) -> Any:
        said = Turn(self.model_tokenizer, ChatRequest([]), self.prompt).feed(model_output, finished=True)
        return said.get("reasoning"), said.get("content")

    def extract_reasoning_streaming(self, previous_text: str, current_text: str, delta_text: str, *ids: Any) -> Any:
        self.turn = self.turn or Turn(self.model_tokenizer, ChatRequest([]), self.prompt)
        said = self.turn.feed(delta_text)
        self.answered = "content" in said
        return delta(said)


class ToolparseParser(Parser):  # type: ignore[misc]
    """The newer interface: token ids, from the prompt's end to the stream's."""

    tool_parser_cls = ToolparseToolParser
    always_adjust_request = True
    auto_tools = True  # --enable-auto-tool-choice
    prompt: Sequence[int] = ()
    turn: Turn | None = None

    def __init__(self, tokenizer: Any, tools: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, tools, *args, **kwargs)
        reader(tokenizer)  # vLLM makes one at its start: a model that nobody can read is refused there

    def set_prompt_token_ids(self, prompt_token_ids: Sequence[int]) -> None:
        self.prompt = list(prompt_token_ids)

    def is_reasoning_end(self, input_ids: list[int]) -> bool:
        return reader(self.model_tokenizer).parse("x", prompt=input_ids).reasoning is None

    def adjust_request(self, request: Any) -> Any:
        return adjusted(request, self.model_tokenizer, self.prompt or None, reasoning=True)

    def parse(
        self, model_output: str, request: Any, enable_auto_tools: bool = False, model_output_token_ids: Any = ()
    ) -> Any:
        said = self._begun(request, enable_auto_tools).feed(list(model_output_token_ids) or model_output, finished=True)
        calls = [FunctionCall(id=call["id"], **call["function"]) for call in said.get("tool_calls", ())]
        return said.get("reasoning"), said.get("content"), calls or None

    def parse_delta(
        self, delta_text: str, delta_token_ids: Any, request: Any, prompt_token_ids: Any = None, *, finished: bool
    ) -> Any:
        self.prompt = self.prompt or list(prompt_token_ids or ())
        self.turn = self.turn or self._begun(request, self.auto_tools)
        return delta(self.turn.feed(list(delta_token_ids), finished=finished), reasoning=request.include_reasoning)

    def _begun(self, request: Any, auto: bool) -> Turn:
        stop = [] if request.include_stop_str_in_output else request.stop or []
        asked = asked_of(request, auto=auto)
        return Turn(self.model_tokenizer, asked, self.prompt, [stop] if isinstance(stop, str) else stop)


_compose = ParserManager._compose_parser


def _composed(tool_parser_name: str | None, reasoning_parser_name: str | None, **others: Any) -> Any:
    if tool_parser_name == NAME and reasoning_parser_name in (None, "", NAME):
        return type("ToolparseParser", (ToolparseParser,), {"auto_tools": others["enable_auto_tools"]})
    return _compose(tool_parser_name=tool_parser_name, reasoning_parser_name=reasoning_parser_name, **others)


ParserManager._compose_parser = staticmethod(_composed)
