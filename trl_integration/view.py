"""Rollouts as HTML pages: every token coloured by who wrote it and whether it is trained on; ``toolparse view``.

All of them are made from traces (``traces.py``) by ``pages.html.jinja``. A page loads nothing from elsewhere, and all
text of models and tools is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import jinja2
import markupsafe

from toolparse.tokens import Vocabulary

from .tool_text import encodable, json_text
from .traces import read_traces, trace_of

if TYPE_CHECKING:
    from .rollout import Rollout

__all__ = ["compare_html", "rollout_html", "table_html", "trace_html", "view", "write_page", "write_pages"]

Trace = dict[str, Any]


def rollout_html(rollout: Rollout, tokenizer: Any, *, title: str = "Rollout", reward: float | None = None) -> str:
    """The page of one rollout. ``reward`` is shown where the rollout doesn't know its own."""
    trace = trace_of(rollout, Vocabulary(tokenizer))
    if reward is not None and not trace["rewards"]:
        trace["rewards"] = {"reward": reward}
    return trace_html(trace, title=title)


def write_page(
    rollout: Rollout, tokenizer: Any, path: str | Path, *, title: str = "Rollout", reward: float | None = None
) -> Path:
    """Write the page to ``path``; folders are made as needed."""
    return _write(Path(path), rollout_html(rollout, tokenizer, title=title, reward=reward))


def trace_html(trace: Trace, *, title: str = "Rollout") -> str:
    """The page of one line of a trace."""
    return _page("one", title, trace=trace)


def table_html(traces: Sequence[Trace], *, title: str = "Rollouts", link: Callable[[int], str] | None = None) -> str:
    """A table of many rollouts that can be sorted and filtered; ``link`` gives the address of each one's own page."""
    rows = [{**_summary(trace), "link": link(at) if link is not None else ""} for at, trace in enumerate(traces)]
    return _page("table", title, rows=rows, stops=sorted({str(row["ended"]) for row in rows}))


def compare_html(left: Sequence[Trace], right: Sequence[Trace], *, title: str = "Two steps") -> str:
    """Two lists of rollouts side by side, those with the same prompt beside each other."""
    rest = list(right)
    pairs: list[tuple[Trace | None, Trace | None]] = []
    for trace in left:
        other = next((one for one in rest if one["prompt"] == trace["prompt"]), None)
        if other is not None:
            rest.remove(other)
        pairs.append((trace, other))
    # Where no prompt fits, the order does.
    pairs = [(a, b if b is not None or not rest else rest.pop(0)) for a, b in pairs]
    pairs += [(None, trace) for trace in rest]
    return _page("compare", title, pairs=pairs)


def write_pages(path: Path, out: Path, *, steps: tuple[int, int] | None = None, most: int = 500) -> list[Path]:
    """The pages of a trace: ``index.html`` with the table, one page per rollout, ``compare.html`` for two steps.

    Of more than ``most`` rollouts only those of the two steps get pages of their own; all are in the table.
    ``steps``: the two to compare; the first and the last of the trace when left out. Raises ``ValueError`` for a file
    that is no trace.
    """
    traces = read_traces(path)
    if not traces:
        raise ValueError(f"{path} has no rollouts")
    known = sorted({trace.get("step", 0) for trace in traces})
    first, last = steps or (known[0], known[-1])
    whole = len(traces) <= most
    names = [f"{at}.html" if whole or trace.get("step", 0) in (first, last) else "" for at, trace in enumerate(traces)]
    pages = [_write(out / "index.html", table_html(traces, title=f"Rollouts of {path.name}", link=names.__getitem__))]
    for name, trace in zip(names, traces, strict=True):
        if name:
            pages.append(_write(out / name, trace_html(trace, title=_name(trace))))
    if first != last or steps is not None:
        sides = [[trace for trace in traces if trace.get("step", 0) == step] for step in (first, last)]
        for step, side in zip((first, last), sides, strict=True):
            if not side:
                raise ValueError(f"{path} has no step {step}; it has {', '.join(map(str, known))}")
        pages.append(_write(out / "compare.html", compare_html(*sides, title=f"Step {first} and step {last}")))
    return pages


@click.command(short_help="Make pages of the rollouts in TRACE.")
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder. Default: beside TRACE.")
@click.option("--steps", type=(int, int), help="Two steps to set side by side. Default: the first and the last.")
def view(trace: Path, out: Path | None, steps: tuple[int, int] | None) -> None:
    """Make pages of the rollouts in TRACE: a table, one page for each (of more than 500: for those of the two steps
    only), two steps side by side."""
    try:
        pages = write_pages(trace, out or trace.with_name(f"{trace.stem}-pages"), steps=steps)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"{len(pages)} pages; begin with {pages[0]}")


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trl_integration", ""),
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(json_text=json_text, tokens=_tokens, facts=_facts, summary=_summary, name=_name)
    return environment


def _page(kind: str, title: str, **values: Any) -> str:
    return encodable(_templates().get_template("pages.html.jinja").render(kind=kind, title=title, **values))


def _name(trace: Trace) -> str:
    return f"Step {trace.get('step', 0)}, rollout {trace['index']}"


def _summary(trace: Trace) -> dict[str, Any]:
    """What a line of the table says."""
    segments = [segment for row in trace["rows"] for segment in row]
    known = [value for value in trace["rewards"].values() if value is not None]
    content = next((m.get("content") for m in reversed(trace["prompt"]) if m["role"] == "user"), "")
    return {
        "step": trace.get("step", 0),
        "rollout": trace["index"],
        "prompt": (content if isinstance(content, str) else json_text(content))[:120],
        "reward": round(sum(known), 4) if known else None,
        "advantage": None if trace["advantage"] is None else round(trace["advantage"], 4),
        "ended": trace["stop_reason"] or "not yet",
        "turns": sum(segment["author"] == "model" for segment in segments),
        "calls": len(trace["calls"]),
        "failed": sum(not call["executed"] or call["failed"] is not None for call in trace["calls"]),
        "sampled": sum(len(segment["ids"]) for segment in segments if segment["author"] == "model"),
    }


def _facts(trace: Trace) -> dict[str, Any]:
    """What stands above the tokens of a page."""
    summary = _summary(trace)
    sampled = summary["sampled"]
    completion = sum(len(segment["ids"]) for row in trace["rows"] for segment in row[1:])
    facts: dict[str, Any] = {"ended": summary["ended"], "why": trace["detail"]}
    facts |= {f"reward {name}": "none" if v is None else f"{v:.3f}" for name, v in trace["rewards"].items()}
    facts |= {
        f"{name} by turn": ", ".join(f"{value:.3f}" for value in values)
        for name, values in trace["turn_rewards"].items()
    }
    return facts | {
        "advantage": "" if trace["advantage"] is None else f"{trace['advantage']:.3f}",
        "turns": summary["turns"],
        "completion tokens": completion,
        "of these sampled (trained on)": sampled if trace["keep"] else "0 (left out of the loss)",
        "seconds in tools": f"{trace['tool_seconds']:.3f}",
    }


def _tokens(segment: dict[str, Any], first: int) -> Iterator[dict[str, Any]]:
    """What the page shows for every group of tokens that makes whole characters; ``first``: tokens before those."""
    author, at = segment["author"], 0
    marks = {
        token: (kind, said)
        for start, end, kind, said in segment.get("spans") or ()
        if start is not None and end is not None
        for token in range(start, end)
    }
    values = segment.get("logprobs")
    for count, text in segment["texts"]:
        kind, said = marks.get(at, ("", ""))
        hover = [f"{author} · mask {int(author == 'model')}"]
        for token in range(at, at + count):
            value = f" · log-prob {values[token]:.4f}" if values is not None else ""
            hover.append(f"token {first + token}: id {segment['ids'][token]}{value}")
        hover += [said] if said else []
        kind = kind if kind in ("call", "bad", "reasoning") else ""
        # White space that would be invisible gets a sign.
        shown = str(markupsafe.escape(text)).replace("\n", '<span class="dim">⏎</span>\n')
        yield {
            "classes": " ".join(filter(None, ("t", author, kind))),
            "hover": "\n".join(hover),
            "text": markupsafe.Markup(shown),  # nosec B704
        }
        at += count


if __name__ == "__main__":
    view()
