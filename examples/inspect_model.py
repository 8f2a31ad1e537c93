"""A model for inspect_ai from anything that continues a prompt: the chat template writes, toolparse reads.

pip install inspect-ai; python examples/inspect_model.py

inspect_ai also speaks to `toolparse serve` by itself: `--model openai-api/local/NAME` with LOCAL_BASE_URL set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    get_model,
    modelapi,
)
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, ToolCall, ToolChoice, ToolInfo, tool

import toolparse
from toolparse.openai import finish_reason, ids_for, read_tools, template_messages, to_chat_message, without_calls


class ToolparseModel(ModelAPI):  # type: ignore[misc]
    """`complete` continues a prompt; `tokenizer` has the chat template. Calls that may not run are part of the text."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        *,
        tokenizer: Any,
        complete: Callable[[str], str],
    ) -> None:
        super().__init__(model_name, base_url, api_key, config=config or GenerateConfig())
        self.tokenizer = tokenizer
        self.complete = complete
        self.parser = toolparse.parser_for(tokenizer)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        offered = [{"type": "function", "function": info.model_dump(exclude_none=True)} for info in tools]
        asked = read_tools({"tools": offered, "tool_choice": "none" if tool_choice == "none" else "auto"})
        messages = [plain(message) for message in input]
        style = getattr(self.parser, "style", None)
        prompt = self.tokenizer.apply_chat_template(
            template_messages(messages, style), tools=asked.tools or None, add_generation_prompt=True, tokenize=False
        )
        reader = self.parser if asked.reads_calls else without_calls(self.parser)
        message = reader.parse(self.complete(prompt), tools=asked.tool_set(), prompt=prompt)
        made = to_chat_message(message, new_id=ids_for(style, messages))
        calls = [
            ToolCall(id=entry["id"], function=call.name, arguments=call.arguments)
            for entry, call in zip(
                made.get("tool_calls", ()), [call for call in message.tool_calls if call.ok], strict=True
            )
        ]
        thought = [ContentReasoning(reasoning=made["reasoning_content"])] if made.get("reasoning_content") else []
        said = ChatMessageAssistant(
            content=[*thought, ContentText(text=made["content"] or "")], tool_calls=calls or None, source="generate"
        )
        reason: Any = finish_reason(bool(calls))
        return ModelOutput(model=self.model_name, choices=[ChatCompletionChoice(message=said, stop_reason=reason)])


@modelapi(name="toolparse")  # type: ignore[untyped-decorator]
def provider() -> type[ToolparseModel]:
    """The models called `toolparse/...`."""
    return ToolparseModel


def plain(message: ChatMessage) -> dict[str, Any]:
    """A message of inspect_ai as a chat template's."""
    made: dict[str, Any] = {"role": message.role, "content": message.text}
    for call in getattr(message, "tool_calls", None) or ():
        entry = {"id": call.id, "type": "function", "function": {"name": call.function, "arguments": call.arguments}}
        made.setdefault("tool_calls", []).append(entry)
    if message.role == "tool":
        made |= {"tool_call_id": message.tool_call_id, "name": message.function}
    return made


@tool  # type: ignore[untyped-decorator]
def add() -> Tool:
    async def execute(x: int, y: int) -> int:
        """Add two numbers.

        Args:
            x: The one.
            y: The other.
        """
        return x + y

    return execute


def scripted(prompt: str) -> str:
    """A model that adds by calling twice, and then says what it found."""
    if "12" in prompt and "30" in prompt.rpartition("12")[2]:
        return "They are 12 and 30."
    calls = [{"name": "add", "arguments": {"x": 5, "y": 7}}, {"name": "add", "arguments": {"x": 10, "y": 20}}]
    parser = toolparse.Parser(toolparse.get("qwen"))  # type: ignore[arg-type]
    return parser.render(calls, reasoning="Two sums.")


def main(log_dir: str = "logs") -> Any:
    import fixtures
    from fixtures.tiny import tiny_tokenizer

    model = get_model("toolparse/tiny", tokenizer=tiny_tokenizer(fixtures.template("qwen")), complete=scripted)
    task = Task(
        dataset=[Sample(input="How much are 5 and 7, and 10 and 20?", target="12 and 30")],
        solver=[use_tools(add()), generate()],
        scorer=includes(),
    )
    (log,) = eval(task, model=model, log_dir=log_dir, display="none")
    sample = log.samples[0] if log.samples else None
    print(log.status, sample.output.completion if sample else "")
    return log


if __name__ == "__main__":
    main()
