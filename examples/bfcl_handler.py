"""A handler for the Berkeley Function Calling Leaderboard: what any model writes, in the form that its checkers take.

python examples/bfcl_handler.py

BFCL's documents of functions have types of their own (`dict`, `float`, `tuple`, `any`): they become a JSON schema here,
as what a model is shown and as what its calls are read by. `decode_ast` and `decode_execute` are the two methods that
`bfcl_eval` asks of a handler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import toolparse

TYPES = {"dict": "object", "float": "number", "tuple": "array", "list": "array", "bool": "boolean", "String": "string"}


def schema_of(document: Any) -> Any:
    """A BFCL schema as a JSON schema; what it calls `any` is left open."""
    if isinstance(document, list):
        return [schema_of(item) for item in document]
    if not isinstance(document, Mapping):
        return document
    made = {key: schema_of(value) for key, value in document.items()}
    if isinstance(made.get("type"), str):
        kind = TYPES.get(made["type"], made["type"])
        made["type"] = kind
        if kind == "any":
            del made["type"]
    return made


def tools_of(functions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """BFCL's functions as tools."""
    return [
        {
            "type": "function",
            "function": {
                "name": function["name"],
                "description": function.get("description", ""),
                "parameters": schema_of(function["parameters"]),
            },
        }
        for function in functions
    ]


class ToolparseHandler:
    """Reads the results of one model.

    `source`: a tokenizer, a chat template, a model folder or a family's name.
    """

    def __init__(self, source: Any, functions: Sequence[Mapping[str, Any]]) -> None:
        self.parser = toolparse.parser_for(source, tools=tools_of(functions))

    def calls(self, result: str) -> list[tuple[str, dict[str, Any]]]:
        """Every call that was read, also those that the checkers will find fault with."""
        return [(call.name, call.arguments) for call in self.parser.parse(result).tool_calls if not call.truncated]

    def decode_ast(
        self, result: str, language: str = "Python", has_tool_call_tag: bool = False
    ) -> list[dict[str, dict[str, Any]]]:
        """`[{"name": {"argument": value}}]`"""
        return [{name: arguments} for name, arguments in self.calls(result)]

    def decode_execute(self, result: str, has_tool_call_tag: bool = False) -> list[str]:
        """`["name(argument=value)"]`"""
        return [
            f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
            for name, arguments in self.calls(result)
        ]


FUNCTIONS = [
    {
        "name": "calc.area",
        "description": "The area of a polygon.",
        "parameters": {
            "type": "dict",
            "properties": {
                "corners": {"type": "array", "items": {"type": "tuple", "items": {"type": "float"}}},
                "unit": {"type": "string"},
                "extra": {"type": "any"},
            },
            "required": ["corners"],
        },
    }
]
OUTPUTS = {
    "qwen": (
        '<tool_call>\n{"name": "calc.area", "arguments": {"corners": [[0, 0.5], [1, 2]], "unit": "m"}}\n</tool_call>'
    ),
    "pythonic": "[calc.area(corners=[[0, 0.5], [1, 2]], unit='m')]",
    "glm47": (
        "<tool_call>calc.area<arg_key>corners</arg_key><arg_value>[[0, 0.5], [1, 2]]</arg_value>"
        "<arg_key>unit</arg_key><arg_value>m</arg_value></tool_call>"
    ),
}


def main() -> None:
    for family, output in OUTPUTS.items():
        handler = ToolparseHandler(family, FUNCTIONS)
        print(f"{family:<10}{handler.decode_ast(output)}")
        print(f"{'':<10}{handler.decode_execute(output)}")


if __name__ == "__main__":
    main()
