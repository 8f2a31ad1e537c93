"""What the tests of trl_integration share: templates, tokenizers, tools, and short ways to write a scripted rollout."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import toolparse
from fixtures.tiny import tiny_tokenizer
from trl_integration import MultiTurnRollout, Rollout, Sampled, ScriptedBackend, ToolExecutor

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TOOLPARSE_SHARED") or ROOT.parent / "shared") / "templates"
_TRL = importlib.util.find_spec("trl")
SHIPPED = Path(str(_TRL.origin)).parent / "chat_templates" if _TRL is not None else Path("nowhere")

EOS = {
    "qwen3": "<|im_end|>",
    "qwen3_5_think": "<|im_end|>",
    "llama3_1": "<|eot_id|>",
    "gemma4_v5": "<turn|>",
    "glm4moe": "<|endoftext|>",
    "deepseekv3": "<｜end▁of▁sentence｜>",
}


def template(name: str) -> str:
    """A template that the installed TRL ships, or one of the shared real ones; skips with a reason if it isn't here."""
    for folder in (SHIPPED, SHARED):
        path = folder / f"{name}.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    pytest.skip(f"template {name!r} is neither in the installed trl package nor in {SHARED.name} beside the repository")


def all_templates() -> list[Path]:
    """Every template at hand."""
    return sorted(SHARED.glob("*.jinja")) + sorted(SHIPPED.glob("*.jinja"))


def every_template() -> list[Path]:
    """Those, the ones that came later, and the written ones of this repository."""
    return (
        all_templates()
        + sorted(SHARED.parent.glob("new_templates/*.jinja"))
        + sorted((ROOT / "fixtures" / "templates").glob("*.jinja"))
    )


@cache
def tokenizer(name: str) -> Any:
    """A tiny tokenizer for the named template: bytes, and the template's markers as added tokens."""
    text = template(name)
    made = tiny_tokenizer(text, eos=EOS.get(name))
    if "bos_token" in text:
        made.add_special_tokens({"bos_token": "<s>"})
    return made


@cache
def parser(name: str) -> toolparse.Parser:
    """The parser for that tokenizer."""
    return toolparse.parser_for(tokenizer(name))


class Processor:
    """What a vision-language processor is here: it holds a tokenizer, decodes, and has a chat template of its own."""

    def __init__(self, tok: Any) -> None:
        self.tokenizer = tok
        self.chat_template = tok.chat_template

    def decode(self, *args: Any, **kwargs: Any) -> str:
        return str(self.tokenizer.decode(*args, **kwargs))


# -- tools ----------------------------------------------------------------------------------------------------


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: One number.
        b: Another one.
    """
    return a + b


async def weather(city: str) -> dict[str, Any]:
    """Tell the weather.

    Args:
        city: Where.
    """
    await asyncio.sleep(0.02)
    return {"city": city, "sky": "clear"}


def echo(text: str) -> str:
    """Say it again.

    Args:
        text: What to say.
    """
    return text


def hang(seconds: float = 60.0) -> str:
    """Take for ever.

    Args:
        seconds: How long that is.
    """
    time.sleep(seconds)
    return "awake"


TOOLS = [add, weather, echo, hang]
NAME, END = "qwen3", "<|im_end|>"  # the template of most tests
GO = [{"role": "user", "content": "Go."}]
CALL = f'<tool_call>\n{{"name": "add", "arguments": {{"a": 1, "b": 2}}}}\n</tool_call>{END}'


def shaky() -> type:
    """A class of environments whose second reset fails."""
    resets = itertools.count(1)

    class Shaky:
        def reset(self, **row: Any) -> None:
            if next(resets) == 2:
                raise OSError("no space left")

    return Shaky


# -- rollouts -------------------------------------------------------------------------------------------------


def ids_of(name: str, text: str) -> list[int]:
    """Ids of a text with its markers."""
    return list(tokenizer(name)(text, add_special_tokens=False)["input_ids"])


def written(name: str, *calls: tuple[str, dict[str, Any]], end: str | None = None, content: str = "") -> str:
    """A turn with these calls as the format writes it, and the end-of-turn token."""
    made = [toolparse.ToolCall(name=tool, arguments=arguments) for tool, arguments in calls]
    text = parser(name).render(made, content=content)
    stop = tokenizer(name).eos_token if end is None else end
    return text if stop and text.endswith(stop) else text + (stop or "")


class Recording(ScriptedBackend):
    """Writes down, for every rollout or session, what was fed and what was sampled, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: dict[int, list[tuple[list[int], Sampled]]] = {}

    def generate(self, prompts: Any, budgets: Any, stop_ids: Any, places: Any = ()) -> list[Sampled]:
        assert all(budget >= 1 for budget in budgets)
        out = super().generate(prompts, budgets, stop_ids, places)
        for (index, _), prompt, sampled in zip(places, prompts, out, strict=True):
            self.seen.setdefault(index, []).append((list(prompt), sampled))
        return out


def scripted(script: Any, name: str = NAME, **options: Any) -> ScriptedBackend:
    """A back end that plays texts of this template."""
    return ScriptedBackend(script, encode=lambda text: ids_of(name, text), **options)


def bound(
    tools: Sequence[Any] = (), name: str = NAME, *, eos_ids: Sequence[int] = (), **options: Any
) -> MultiTurnRollout:
    """A loop for this template's tokenizer."""
    loop = MultiTurnRollout(tools, parser=parser(name), **options)
    loop.bind(tokenizer(name), eos_ids=eos_ids)
    return loop


def roll(
    name: str,
    script: Sequence[Sequence[Any]] | Callable[[int, int], Any],
    *,
    tools: Sequence[Any] = tuple(TOOLS),
    count: int | None = None,
    prompt: Any = GO,
    rows: Sequence[Any] | None = None,
    timeout: float = 2.0,
    **options: Any,
) -> tuple[list[Rollout], ScriptedBackend, MultiTurnRollout]:
    """Run a script; every rollout has the same prompt."""
    backend = scripted(script, name)
    loop = bound(tools, name, **{"executor": ToolExecutor(timeout=timeout), **options})
    size = count if count is not None else len(script)  # type: ignore[arg-type]
    rollouts = loop.run([prompt] * size, backend, rows=rows)
    for rollout in rollouts:
        rollout.transcript.check()
    return rollouts, backend, loop


def told(name: str, rollout: Rollout) -> list[tuple[str, str]]:
    """The completion as (author, text) pairs."""
    return [
        (segment.author.value, tokenizer(name).decode(list(segment.ids))) for segment in rollout.transcript.segments[1:]
    ]


def golden(name: str, rollout: Rollout, prompts: list[list[int]], expected: list[tuple[str, str]]) -> None:
    """The rollout is these texts of these authors, its mask is 1 exactly on the model's, and its prompts go on."""
    assert told(name, rollout) == expected
    mask = [value for author, text in expected for value in [int(author == "model")] * len(ids_of(name, text))]
    assert rollout.transcript.tool_mask == mask
    # Token in, token out: the engine was fed the prompt, then exactly what was sampled and injected.
    first, second = prompts
    assert rollout.transcript.prompt_ids == first
    assert second == first + rollout.transcript.completion_ids[: -len(ids_of(name, expected[-1][1]))]


def rows_of(seen: Sequence[tuple[list[int], Sampled]]) -> list[tuple[list[int], list[int]]]:
    """Ids and mask of every row, from what the engine was fed and gave alone: slow, and knows nothing of messages.

    A request continues the row whose ids are the longest beginning of its prompt, if nothing has continued it there
    already; else it begins a row, whose prompt is all that it was fed.
    """
    rows: list[tuple[list[int], list[int]]] = []
    for fed, sampled in seen:
        row = max(
            (row for row in rows if fed[: len(row[0])] == row[0] and len(fed) > len(row[0])),
            key=lambda row: len(row[0]),
            default=None,
        )
        if row is None:
            row = ([], [])
            rows.append(row)
        ids, mask = row
        mask += [0] * (len(fed) - len(ids)) + [1] * len(sampled.ids)
        ids[:] = [*fed, *sampled.ids]
    return rows
