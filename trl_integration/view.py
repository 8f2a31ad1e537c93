"""A rollout as one self-contained HTML page: every token coloured by who wrote it and whether it is trained on.

The page itself is ``rollout.html.jinja``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from toolparse.message import ParsedMessage

from .rollout import Rollout
from .tool_text import encodable, json_text
from .transcript import Author, Segment

__all__ = ["rollout_html", "write_page"]


def rollout_html(rollout: Rollout, tokenizer: Any, *, title: str = "Rollout", reward: float | None = None) -> str:
    """The page's text. Nothing is loaded from elsewhere; all of the model's text is escaped."""
    transcript = rollout.transcript
    tokens = list(_tokens(rollout, tokenizer))
    text = _page().render(
        title=title,
        rollout=rollout,
        prompt=[token for segment, token in tokens if segment == 0],
        completion=[token for segment, token in tokens if segment > 0],
        facts={
            "ended": rollout.stop_reason or "not yet",
            "why": rollout.detail or "",
            "reward": "" if reward is None else f"{reward:.3f}",
            "turns": transcript.turns,
            "prompt tokens": transcript.prompt_length,
            "completion tokens": transcript.completion_length,
            "of these sampled (trained on)": transcript.sampled_length if rollout.keep else "0 (left out of the loss)",
            "seconds in tools": f"{rollout.tool_seconds:.3f}",
        },
    )
    return encodable(text)


def write_page(
    rollout: Rollout,
    tokenizer: Any,
    path: str | Path,
    *,
    title: str = "Rollout",
    reward: float | None = None,
) -> Path:
    """Write the page to ``path``; folders are made as needed."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(rollout_html(rollout, tokenizer, title=title, reward=reward), encoding="utf-8")
    return target


@cache
def _page() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trl_integration", ""), autoescape=True, undefined=jinja2.ChainableUndefined
    )
    environment.filters.update(json_text=json_text, visible=_visible)
    return environment.get_template("rollout.html.jinja")


def _visible(text: str) -> markupsafe.Markup:
    """White space that would be invisible gets a sign; the text itself is escaped."""
    shown = str(markupsafe.escape(text)).replace("\n", '<span class="dim">⏎</span>\n')
    return markupsafe.Markup(shown)  # nosec B704


def _tokens(rollout: Rollout, tokenizer: Any) -> Iterator[tuple[int, dict[str, str]]]:
    """(number of the segment, what the page shows) for every group of tokens that makes whole characters."""
    turn = -1
    position = 0
    for number, segment in enumerate(rollout.transcript.segments):
        marks: Sequence[tuple[str, str]] = [("", "")] * len(segment.ids)
        if segment.author is Author.MODEL:
            turn += 1
            if turn < len(rollout.turns):
                marks = _marks(rollout.turns[turn], len(segment.ids))
        for start, end, text in _groups(segment, tokenizer):
            kind, said = marks[start]
            hover = [f"{segment.author.value} · mask {int(segment.author is Author.MODEL)}"]
            for at in range(start, end):
                value = f" · log-prob {segment.logprobs[at]:.4f}" if segment.logprobs is not None else ""
                hover.append(f"token {position + at}: id {segment.ids[at]}{value}")
            hover += [said] if said else []
            classes = " ".join(filter(None, ("t", segment.author.value, kind)))
            yield number, {"classes": classes, "hover": "\n".join(hover), "text": text}
        position += len(segment.ids)


def _groups(segment: Segment, tokenizer: Any) -> Iterator[tuple[int, int, str]]:
    """Tokens that make whole characters: a character of several bytes can take several tokens."""
    start = 0
    for at in range(len(segment.ids)):
        text = tokenizer.decode(list(segment.ids[start : at + 1]), skip_special_tokens=False)
        if text.endswith("\ufffd") and at + 1 - start < 8 and at + 1 < len(segment.ids):
            continue
        yield start, at + 1, text
        start = at + 1


def _marks(parsed: ParsedMessage, length: int) -> list[tuple[str, str]]:
    """For each token of a turn: a class, and what to say about it."""
    marks = [("", "")] * length
    calls = list(parsed.tool_calls)
    for span in parsed.spans:
        if span.token_start is None or span.token_end is None:
            continue
        kind, said = ("reasoning", "reasoning") if span.kind == "reasoning" else ("", span.kind)
        if span.kind == "call":
            call = next((c for c in calls if c.span is not None and c.span.start == span.start), None)
            kind = "call" if call is None or call.ok else "bad"
            if call is not None:
                arguments = json_text(call.arguments)
                problems = [f"{issue.code}: {issue.message}" for issue in call.issues]
                said = "\n".join([f"call {call.name}({arguments[:300]})", *problems])
        for at in range(span.token_start, min(span.token_end, length)):
            marks[at] = (kind, said)
    return marks
