"""SGLang: `pip install toolparse`, then `--tool-call-parser toolparse` (entry point group `sglang.srt.plugins`).

For SGLang 0.5, whose detectors read text and have no place for a thought: `--reasoning-parser toolparse`, or another,
takes it away before; without one a thought is normal text. Calls that may not be executed stay normal text.
"""

from __future__ import annotations

from typing import Any

from sglang.srt.function_call.base_format_detector import BaseFormatDetector
from sglang.srt.function_call.core_types import StreamingParseResult, ToolCallItem
from sglang.srt.function_call.function_call_parser import FunctionCallParser
from sglang.srt.function_call.parser_names import TOOL_CALL_PARSER_NAMES
from sglang.srt.parser.reasoning_parser import BaseReasoningFormatDetector, ReasoningParser
from sglang.srt.parser.reasoning_parser_names import REASONING_PARSER_NAMES

from toolparse.openai import constraint
from toolparse.plugins.turn import Turn, asked_of, reader, thought_markers

NAME = "toolparse"


class ToolparseDetector(BaseFormatDetector):  # type: ignore[misc]
    """Reads the format of the tokenizer that is served."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self._turn: Turn | None = None

    def has_tool_call(self, text: str) -> bool:
        return bool(reader(self._tokenizer).parse(text, prompt="").tool_calls)

    def detect_and_parse(self, text: str, tools: list[Any]) -> Any:
        return self._result(Turn(self._tokenizer, asked_of(tools=tools)).feed(text, finished=True))

    def parse_streaming_increment(self, new_text: str, tools: list[Any]) -> Any:
        self._turn = self._turn or Turn(self._tokenizer, asked_of(tools=tools))
        return self._result(self._turn.feed(new_text))

    def finish(self, tools: list[Any]) -> Any:
        turn, self._turn = self._turn, None
        return self._result(turn.feed("", finished=True) if turn is not None else {})

    def structure_info(self) -> Any:
        raise NotImplementedError("toolparse writes whole structural tags")

    def get_structural_tag(
        self, tools: Any = None, tool_choice: Any = "auto", thinking_mode: bool = False, parallel_tool_calls: Any = True
    ) -> Any:
        from xgrammar import StructuralTag

        asked = asked_of(tools=tools, tool_choice=tool_choice, parallel_tool_calls=parallel_tool_calls)
        held = constraint(reader(self._tokenizer), asked, ("structural_tag",), reasoning=thinking_mode)
        return None if held is None else StructuralTag.model_validate_json(held[1])

    @staticmethod
    def _result(said: dict[str, Any]) -> Any:
        calls = [(call["index"], call["function"]) for call in said.get("tool_calls", ())]
        return StreamingParseResult(
            normal_text=said.get("reasoning", "") + said.get("content", ""),
            calls=[ToolCallItem(tool_index=at, name=f.get("name"), parameters=f["arguments"]) for at, f in calls],
        )


class ToolparseReasoning(BaseReasoningFormatDetector):  # type: ignore[misc]
    """SGLang's own reading of thoughts, between the markers of the tokenizer that is served."""

    def __init__(self, tokenizer: Any, **options: Any) -> None:
        super().__init__(*thought_markers(tokenizer), **options)


def register() -> None:
    """Called by SGLang in each of its processes."""
    FunctionCallParser.ToolCallParserEnum[NAME] = ToolparseDetector
    ReasoningParser.DetectorMap[NAME] = ToolparseReasoning
    for names in (TOOL_CALL_PARSER_NAMES, REASONING_PARSER_NAMES):
        if NAME not in names:
            names.append(NAME)
