"""How often a choice of tools is kept: llama.cpp with random weights, held to each real template's own grammar.

python scripts/tool_choice_rates.py FOLDER [FOLDER ...]    # folders of chat templates (*.jinja)

A model of random weights writes anything that it may: what is read as calls of the right tools was forced by the
grammar alone. The vocabulary has no markers, so that the model spells them, and what it writes is read as text.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import toolparse
from fixtures.tiny import tiny_tokenizer
from tests.serving.tiny_gguf import write_gguf
from toolparse.errors import ToolparseError
from toolparse.openai import RequestError, constraint, read_tools
from toolparse.parser import AnyParser, Parser
from toolparse.serving import Constraint, Sampling
from toolparse.serving.gguf import GgufTokenizer, load_llama
from toolparse.serving.in_process import LlamaCppEngine


def tool(name: str, /, **properties: Any) -> dict[str, Any]:
    """A tool whose arguments are all required and short, so that random text comes to an end."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


TOOLS = [
    tool("roll", sides={"enum": [6, 20]}, loud={"type": "boolean"}),
    tool("greet", name={"enum": ["Ada", "Bo"]}),
    tool("ping"),
]
NAMED = {"type": "function", "function": {"name": "greet"}}
ASKED: dict[str, dict[str, Any]] = {
    "required": {"tool_choice": "required"},
    "named": {"tool_choice": NAMED},
    "required, one": {"tool_choice": "required", "parallel_tool_calls": False},
    "named, one": {"tool_choice": NAMED, "parallel_tool_calls": False},
}
TRIES = 3


def kept(parser: Parser, text: str, body: dict[str, Any]) -> bool:
    """Whether a turn has calls, all may be executed, and all are allowed."""
    calls = parser.parse(text, tools=TOOLS, prompt="").tool_calls
    allowed = {"greet"} if body["tool_choice"] == NAMED else {"roll", "greet", "ping"}
    few = len(calls) == 1 if body.get("parallel_tool_calls") is False else len(calls) >= 1
    return few and all(call.ok and call.name in allowed for call in calls)


def main() -> None:
    templates = [path for folder in sys.argv[1:] for path in sorted(Path(folder).glob("*.jinja"))]
    with tempfile.TemporaryDirectory() as folder:
        llama = load_llama(str(write_gguf(tiny_tokenizer(""), Path(folder, "tiny.gguf"))))
        tokenizer, engine = GgufTokenizer(llama), LlamaCppEngine(llama)
        stop = tokenizer.eos_token_id or 0
        counts = {name: [0, 0, 0, 0] for name in ASKED}  # kept, not kept, unfinished, refused
        for path in templates:
            try:
                parser: AnyParser = toolparse.parser_for(path.read_text("utf-8"))
            except ToolparseError:
                continue
            if not isinstance(parser, Parser):
                continue
            for name, body in ASKED.items():
                try:
                    held = constraint(
                        parser, read_tools({"tools": TOOLS, **body}), ("gbnf",), prompt="", reasoning=False
                    )
                except RequestError as error:
                    counts[name][3] += TRIES
                    print(f"{path.stem}, {name}: {error}")
                    continue
                assert held is not None
                for seed in range(TRIES):
                    sampling = Sampling(600, seed=seed, stop_ids=(stop,), constraint=Constraint(*held))
                    made = asyncio.run(engine.generate(tokenizer.encode("Hi"), sampling))
                    text = tokenizer.decode([id for id in made.ids if id != stop])
                    good = kept(parser, text, body)
                    counts[name][0 if good else 2 if made.finish == "length" else 1] += 1
                    if not good and made.finish == "stop":
                        print(f"{path.stem}, {name}: {text!r}")
        print(f"{len(templates)} templates, {TRIES} answers each: kept, not kept, unfinished, refused with a reason")
        for name, row in counts.items():
            print(f"{name:<14}", *(f"{count:>4}" for count in row))


if __name__ == "__main__":
    main()
