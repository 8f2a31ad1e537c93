"""A rollout as one self-contained HTML page: every token coloured by who wrote it and whether it is trained
on.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolparse.message import ParsedMessage

from .rollout import Rollout
from .transcript import Author, Segment

__all__ = ["rollout_html", "write_page"]

_CSS = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c1e21;--dim:#6b7280;--line:#d9dce1;--prompt:#e9eaee;--model:#c9f0d3;
--tool:#ffe2b8;--scaffold:#dfe3f7;--call:#15803d;--bad:#b91c1c}
@media (prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#e4e6ea;--dim:#9aa1ac;--line:#333840;--prompt:#2a2d33;
--model:#1d4d2b;--tool:#5a4116;--scaffold:#2b3157;--call:#7ee2a0;--bad:#ff8d8d}}
body{font:15px/1.5 system-ui,sans-serif;background:var(--bg);color:var(--fg);max-width:72rem;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.tokens{font:13px/1.75 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;
border:1px solid var(--line);border-radius:.4rem;padding: .8rem}
.t{border-radius:.15rem;box-decoration-break:clone}
.t:hover{outline:2px solid var(--fg)}
.prompt{background:var(--prompt);color:var(--dim)}.model{background:var(--model)}
.tool{background:var(--tool)}.scaffold{background:var(--scaffold)}
.call{border-bottom:2px solid var(--call)}.bad{border-bottom:2px solid var(--bad)}.reasoning{font-style:italic}
.left-out .model{background:repeating-linear-gradient(45deg,var(--model),var(--model) 4px,var(--bg) 4px,var(--bg) 8px)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
td,th{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;vertical-align:top}
td pre,.message pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}
.no{color:var(--bad)}.yes{color:var(--call)}.dim{color:var(--dim)}
.legend span{padding:.1rem .5rem;margin-right:.4rem;border-radius:.2rem}
details{margin:.5rem 0}summary{cursor:pointer;color:var(--dim)}
"""


def rollout_html(rollout: Rollout, tokenizer: Any, *, title: str = "Rollout", reward: float | None = None) -> str:
    """The page's text. Nothing is loaded from elsewhere; all of the model's text is escaped."""
    tokens = "".join(_tokens(rollout, tokenizer))
    prompt, completion = tokens.split(_SPLIT, 1)
    transcript = rollout.transcript
    facts = {
        "ended": rollout.stop_reason or "not yet",
        "why": rollout.detail or "",
        "reward": "" if reward is None else f"{reward:.3f}",
        "turns": transcript.turns,
        "prompt tokens": transcript.prompt_length,
        "completion tokens": transcript.completion_length,
        "of these sampled (trained on)": transcript.sampled_length if rollout.keep else "0 (left out of the loss)",
        "seconds in tools": f"{rollout.tool_seconds:.3f}",
    }
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value != ""
    )
    kept = "" if rollout.keep else " left-out"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title><style>{_CSS}</style></head><body>
<h1>{html.escape(title)}</h1>
<table>{rows}</table>
<h2>Tokens</h2>
<p class="legend"><span class="prompt">prompt</span><span class="model">model: mask 1</span>
<span class="tool">tool: mask 0</span><span class="scaffold">template: mask 0</span>
<span class="call">call</span><span class="bad">call with an error</span></p>
<details><summary>prompt ({transcript.prompt_length} tokens)</summary><div class="tokens">{prompt}</div></details>
<div class="tokens{kept}">{completion}</div>
<h2>Calls</h2>
{_calls(rollout)}
<h2>Messages</h2>
<table>{"".join(_message(m) for m in [*rollout.prompt, *rollout.messages])}</table>
</body></html>
"""


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


_SPLIT = "\x00"


def _tokens(rollout: Rollout, tokenizer: Any) -> Iterator[str]:
    turn = -1
    position = 0
    for number, segment in enumerate(rollout.transcript.segments):
        if number == 1:
            yield _SPLIT
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
            if said:
                hover.append(said)
            classes = " ".join(filter(None, ("t", segment.author.value, kind)))
            yield f'<span class="{classes}" title="{html.escape(chr(10).join(hover))}">{_shown(text)}</span>'
        position += len(segment.ids)
    if len(rollout.transcript.segments) == 1:
        yield _SPLIT


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
                arguments = json.dumps(call.arguments, ensure_ascii=False, default=str)
                problems = [f"{issue.code}: {issue.message}" for issue in call.issues]
                said = "\n".join([f"call {call.name}({arguments[:300]})", *problems])
        for at in range(span.token_start, min(span.token_end, length)):
            marks[at] = (kind, said)
    return marks


def _shown(text: str) -> str:
    """White space that would be invisible gets a sign; the text itself is escaped."""
    return html.escape(text).replace("\n", '<span class="dim">⏎</span>\n').replace(_SPLIT, "\ufffd")


def _calls(rollout: Rollout) -> str:
    if not rollout.calls:
        return '<p class="dim">none</p>'
    rows = []
    for record in rollout.calls:
        call = record.call
        issues = "; ".join(f"{issue.code}: {issue.message}" for issue in call.issues)
        if record.result is not None:
            state = "ran" if record.result.ok else f"failed: {record.result.code}"
            took = f"{record.result.seconds * 1000:.1f} ms"
        else:
            state, took = "not run", ""
        fine = record.result is not None and record.result.ok
        arguments = json.dumps(call.arguments, ensure_ascii=False, default=str)
        rows.append(
            f"<tr><td>{record.turn + 1}</td><td>{html.escape(call.name or '(no name)')}</td>"
            f"<td><pre>{html.escape(arguments)}</pre></td>"
            f'<td class="{"yes" if fine else "no"}">{html.escape(state)}</td><td>{took}</td>'
            f"<td><pre>{html.escape(record.text or '')}</pre></td><td>{html.escape(issues)}</td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("turn", "tool", "arguments", "", "time", "shown", "issues"))
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _message(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
    thought = message.get("reasoning_content")
    parts = [f'<pre class="dim">{html.escape(str(thought))}</pre>'] if thought else []
    parts.append(f"<pre>{html.escape(text or '')}</pre>")
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        arguments = json.dumps(function.get("arguments"), ensure_ascii=False, default=str)
        parts.append(f"<pre>→ {html.escape(str(function.get('name')))}({html.escape(arguments)})</pre>")
    return f'<tr class="message"><th>{html.escape(str(message.get("role")))}</th><td>{"".join(parts)}</td></tr>'
