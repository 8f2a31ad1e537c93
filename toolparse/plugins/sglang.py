"""SGLang: `pip install toolparse`, then `--tool-call-parser toolparse` (entry point group `sglang.srt.plugins`).

For SGLang 0.5, whose detectors read text. Its reasoning parser, if one is chosen, takes the thought away before;
without one a thought is normal text. Calls that may not be executed stay normal text.
"""

from __future__ import annotations

from typing import Any

from sglang.srt.function_call.base_format_detector import BaseFormatDetector
from sglang.srt.function_call.core_types import StreamingParseResult, ToolCallItem
from sglang.srt.function_call.function_call_parser import FunctionCallParser
from sglang.srt.function_call.parser_names import TOOL_CALL_PARSER_NAMES

from toolparse.api import parser_for
from toolparse.openai import constraint, read_tools
from toolparse.plugins.turn import Turn, plain

NAME = "toolparse"


class ToolparseDetector(BaseFormatDetector):  # type: ignore[misc]
    """Reads the format of the tokenizer that is served."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._parser = parser_for(tokenizer)
        self._turn: Turn | None = None

    def has_tool_call(self, text: str) -> bool:
        return bool(self._parser.parse(text, prompt="").tool_calls)

    def detect_and_parse(self, text: str, tools: list[Any]) -> Any:
        return self._result(self._new_turn(tools).feed(text, finished=True))

    def parse_streaming_increment(self, new_text: str, tools: list[Any]) -> Any:
        self._turn = self._turn or self._new_turn(tools)
        return self._result(self._turn.feed(new_text))

    def finish(self, tools: list[Any]) -> Any:
        turn, self._turn = self._turn, None
        return self._result(turn.feed("", finished=True) if turn is not None else {})

    def structure_info(self) -> Any:
        raise NotImplementedError("toolparse writes whole structural tags")

    def supports_structural_tag(self) -> bool:
        return True

    def get_structural_tag(
        self, tools: Any = None, tool_choice: Any = "auto", thinking_mode: bool = False, parallel_tool_calls: Any = True
    ) -> Any:
        from xgrammar import StructuralTag

        asked = {"tools": plain(tools), "tool_choice": plain(tool_choice), "parallel_tool_calls": parallel_tool_calls}
        held = constraint(self._parser, read_tools(asked), ("structural_tag",), prompt="", reasoning=thinking_mode)
        return None if held is None else StructuralTag.model_validate_json(held[1])

    def _new_turn(self, tools: list[Any]) -> Turn:
        return Turn(self._parser, read_tools({"tools": plain(tools)}), "")

    @staticmethod
    def _result(said: dict[str, Any]) -> Any:
        calls = [(call["index"], call["function"]) for call in said.get("tool_calls", ())]
        return StreamingParseResult(
            normal_text=said.get("reasoning", "") + said.get("content", ""),
            calls=[ToolCallItem(tool_index=at, name=f["name"], parameters=f["arguments"]) for at, f in calls],
        )


def register() -> None:
    """Called by SGLang in each of its processes."""
    FunctionCallParser.ToolCallParserEnum[NAME] = ToolparseDetector
    if NAME not in TOOL_CALL_PARSER_NAMES:
        TOOL_CALL_PARSER_NAMES.append(NAME)
