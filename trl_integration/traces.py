"""Rollouts as JSON values: everything needed to look at them again, without a model or a tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolparse.message import ParsedMessage
from toolparse.tokens import TokenText, Vocabulary

from .tool_text import json_line, json_text

if TYPE_CHECKING:
    from .rollout import Rollout
    from .transcript import Segment

__all__ = ["read_traces", "trace_of", "write_traces"]


def trace_of(rollout: Rollout, vocabulary: Vocabulary) -> dict[str, Any]:
    """The rollout. ``rows`` are its rows of training (more than one where it was compacted), each a list of segments.

    A segment has its ``author``, its ``ids``, ``texts``: [how many tokens, the characters that they make] in order, and
    what the model wrote also has ``logprobs`` and ``spans``: [first token, end, kind, what to say about it].
    """
    turns = iter(rollout.turns)
    return {
        "index": rollout.index,
        "prompt": rollout.prompt,
        "messages": rollout.messages,
        "stop_reason": rollout.stop_reason,
        "detail": rollout.detail,
        "truncated": rollout.truncated,
        "keep": rollout.keep,
        "rewards": {name: None if math.isnan(value) else value for name, value in rollout.rewards.items()},
        "turn_rewards": rollout.turn_rewards,
        "advantage": rollout.advantage,
        "tool_seconds": round(rollout.tool_seconds, 6),
        "rows": [
            [
                _segment(segment, vocabulary, next(turns, None) if segment.author.value == "model" else None)
                for segment in row.segments
            ]
            for row in rollout.rows
        ],
        "calls": [
            {
                "turn": record.turn,
                "name": record.call.name,
                "arguments": record.call.arguments,
                "id": record.call.id,
                "ok": record.call.ok,
                "issues": [{"code": i.code, "message": i.message} for i in record.call.issues],
                "executed": record.executed,
                "shown": record.text,
                "failed": record.result.code if record.result is not None else None,
                "seconds": round(record.result.seconds, 6) if record.result is not None else None,
            }
            for record in rollout.calls
        ],
    }


def _segment(segment: Segment, vocabulary: Vocabulary, parsed: ParsedMessage | None) -> dict[str, Any]:
    out: dict[str, Any] = {
        "author": segment.author.value,
        "ids": list(segment.ids),
        "texts": _texts(segment.ids, vocabulary),
    }
    if segment.logprobs is not None:
        out["logprobs"] = list(segment.logprobs)
    if parsed is not None:
        out["spans"] = list(_spans(parsed))
    return out


def _texts(ids: Sequence[int], vocabulary: Vocabulary) -> list[list[Any]]:
    """Tokens that make whole characters, with these: a character of several bytes can take several tokens."""
    reader = TokenText(vocabulary, ())
    reader.feed(ids, final=True)
    text, out, first = reader.text, [], 0
    ends = [*reader.offsets[1:], len(text)]
    for at, end in enumerate(ends):
        if end > reader.offsets[first] or at + 1 == len(ends):
            out.append([at + 1 - first, text[reader.offsets[first] : end]])
            first = at + 1
    return out


def _spans(parsed: ParsedMessage) -> Iterator[list[Any]]:
    calls = {call.span.start: call for call in parsed.tool_calls if call.span is not None}
    for span in parsed.spans:
        call = calls.get(span.start) if span.kind == "call" else None
        kind, said = str(span.kind), str(span.kind)
        if call is not None:
            kind = "call" if call.ok else "bad"
            problems = [f"{issue.code}: {issue.message}" for issue in call.issues]
            said = "\n".join([f"call {call.name}({json_text(call.arguments)[:300]})", *problems])
        yield [span.token_start, span.token_end, kind, said]


def write_traces(
    rollouts: Sequence[Rollout], path: Path, vocabulary: Vocabulary, *, step: int = 0, rank: int = 0
) -> None:
    """Append one line of JSON per rollout; every rank but the first writes a file of its own beside it."""
    if rank:
        path = path.with_name(f"{path.stem}.rank{rank}{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as sink:
        for rollout in rollouts:
            sink.write(json_line({"step": step, **trace_of(rollout, vocabulary)}) + "\n")


def read_traces(path: Path) -> list[dict[str, Any]]:
    """The rollouts of a trace, in order. Raises ``ValueError`` for a line that is none."""
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            entry["rows"], entry["messages"], entry["calls"]
        except (ValueError, TypeError, KeyError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else "it is no JSON object"
            raise ValueError(f"{path}: line {number} is no rollout: {why}") from None
        out.append(entry)
    return out
