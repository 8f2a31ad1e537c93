"""What transformers' `parse_response` needs to be told to read the benchmark's formats.

The templates for hermes, qwen3-coder, llama3-json, harmony and gemma4 follow those that trl ships for the same
families; that for deepseek-v31 was written in the same manner. Pythonic calls with nested values are beyond what the
template language can express.
"""

from __future__ import annotations

from typing import Any

_NAMED = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}


def _template(calls: dict[str, Any], ends: str, think: tuple[str, str] | None = None, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if think is not None:
        fields["reasoning_content"] = {"open": think[0], "close_pattern": think[1] + r"\s*", "content": "text"}
    fields["tool_calls"] = {"repeats": True, **calls}
    fields["content"] = {"close_pattern": ends, "content": "text"}
    return {"defaults": {"role": "assistant"}, "start_anchor": "<|assistant|>", "fields": {**fields, **more}}


RESPONSE_TEMPLATES: dict[str, dict[str, Any]] = {
    "hermes": _template(
        {
            "open": "<tool_call>",
            "close_pattern": r"</tool_call>\s*",
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        r"<\|im_end\|>\s*",
        ("<think>", "</think>"),
    ),
    "qwen3-coder": _template(
        {
            "open_pattern": r"<tool_call>\s*<function=(?P<name>[^\n>]+)>",
            "close_pattern": r"</tool_call>\s*",
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\s*(?P<value>.*?)\s*</parameter>",
                "value_parser": {"name": "text"},
            },
            "transform": _NAMED,
        },
        r"<\|im_end\|>\s*",
        ("<think>", "</think>"),
    ),
    "deepseek-v31": _template(
        {
            "open_pattern": r"(?:<｜tool▁calls▁begin｜>)?<｜tool▁call▁begin｜>(?P<name>[^<]+)<｜tool▁sep｜>",
            "close_pattern": r"<｜tool▁call▁end｜>(?:<｜tool▁calls▁end｜>)?",
            "content": "json",
            "transform": _NAMED,
        },
        r"<｜end▁of▁sentence｜>",
        ("<think>", "</think>"),
    ),
    "llama3-json": _template(
        {
            "open_pattern": r'\{"name":\s*"(?P<name>[^"]+)",\s*"parameters":\s*',
            "close_pattern": r"\}(?:<\|eot_id\|>|; |$)",
            "content": "json",
            "transform": _NAMED,
        },
        r"<\|eot_id\|>\s*",
    ),
    "harmony": {
        "defaults": {"role": "assistant"},
        "start_anchor": "<|start|>assistant",
        "fields": {
            "thinking": {"open": "<|channel|>analysis<|message|>", "close_pattern": r"<\|end\|>\s*", "content": "text"},
            "content": {"open": "<|channel|>final<|message|>", "close_pattern": r"<\|return\|>\s*", "content": "text"},
            "tool_calls": {
                "open_pattern": r"to=functions\.(?P<name>\S+?)<\|channel\|>commentary\s+json<\|message\|>",
                "close_pattern": r"<\|call\|>\s*",
                "repeats": True,
                "content": "json",
                "transform": _NAMED,
            },
        },
    },
    "gemma4": _template(
        {
            "open_pattern": r"<\|tool_call>call:(?P<name>\w+)",
            "close_pattern": r"<tool_call\|>\s*",
            "content": "json",
            "content_args": {"string_delims": [['<|"|>', '<|"|>']], "unquoted_keys": True},
            "transform": _NAMED,
        },
        r"(?:<turn\|>|<\|tool_response>|<eos>)\s*|$",
        ("<|channel>thought\n", r"<channel\|>"),
    ),
}
