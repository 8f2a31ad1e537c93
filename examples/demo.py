"""What toolparse does, on the fixtures: formats found in templates, outputs read, a stream, a broken call.

python examples/demo.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fixtures
import toolparse
from toolparse import ArgumentsDelta, CallEnded, CallStarted, ContentDelta, ReasoningDelta

console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def detection() -> bool:
    """Which format does each template write, and does toolparse read it back?"""
    console.rule("Formats found by rendering the chat templates", align="left")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("template", "format", "found by", "proved", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left")
    proved, took = 0, 0.0
    for family in fixtures.families():
        begun = time.perf_counter()
        found = toolparse.detect(fixtures.template(family))
        spent = (time.perf_counter() - begun) * 1000
        proved, took = proved + found.verified, took + spent
        name = found.format.name if found.format else "none"
        table.add_row(f"{family}.jinja", name, str(found.how), "yes" if found.verified else "NO", f"{spent:.0f}")
    console.print(table)
    console.print(f"{table.row_count} templates, {proved} proved, {took / 1000:.1f} s")
    return proved == table.row_count


def reading() -> bool:
    """Every transcript, read by the parser of its family."""
    console.rule("Outputs read", align="left")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("family", "outputs", "calls", "as expected", "may not run", "cut off"):
        table.add_column(column, justify="left" if column == "family" else "right")
    sums = [0] * 5
    for family in fixtures.families():
        parser = toolparse.parser_for(family)
        outputs = calls = right = held = cut = 0
        for case in fixtures.transcripts(family):
            message = parser.parse(case["text"], tools=case.get("tools"), prompt=case.get("prefill", ""))
            good = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls if call.ok]
            wanted = [{"name": call["name"], "arguments": call["arguments"]} for call in case["expect"]["calls"]]
            outputs += 1
            calls += len(message.tool_calls)
            right += good == wanted
            held += len(message.tool_calls) - len(good)
            cut += message.truncated
        sums = [a + b for a, b in zip(sums, (outputs, calls, right, held, cut), strict=True)]
        table.add_row(family, str(outputs), str(calls), str(right), str(held), str(cut))
    table.add_row("all", *map(str, sums), style="bold")
    console.print(table)
    return sums[0] == sums[2]


def one_message() -> None:
    """One output of one model, with a call that is wrong."""
    console.rule("One message", align="left")
    text = (
        "<think>\nTwo cities.\n</think>\n\nLet me see.\n"
        '<tool_call>\n{"name": "plan_trip", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>\n'
        '<tool_call>\n{"name": "plan_trip", "arguments": {"days": "many"}}\n</tool_call>'
    )
    console.print(escape(text), style="dim")
    message = toolparse.parse(text, "qwen", tools=fixtures.TOOLS)
    console.print(f"\nreasoning  {message.reasoning!r}\ncontent    {message.content!r}")
    for call in message.tool_calls:
        verdict = "may run" if call.ok else "; ".join(issue.message for issue in call.issues)
        console.print(escape(f"call       {call.name}({call.arguments}): {verdict}"))


def a_stream() -> None:
    """The same machine, fed in pieces, on another syntax."""
    console.rule("A stream", align="left")
    stream = toolparse.parser_for("qwen3-coder", tools=fixtures.TOOLS).stream(prompt="")
    text = toolparse.parser_for("qwen3-coder").render(
        [{"name": "plan_trip", "arguments": {"city": "Gent", "days": 3}}], content="On it."
    )
    for start in range(0, len(text), 7):
        piece = text[start : start + 7]
        said = "  ".join(spoken(event) for event in stream.feed(piece))
        console.print(f"{piece!r:>16}  {escape(said)}")
    said = "  ".join(spoken(event) for event in stream.finish())
    console.print(f"{'finish':>16}  {escape(said)}")
    closed = stream.close()
    console.print(f"{'close':>16}  {escape(str([(call.name, call.arguments) for call in closed.tool_calls]))}")


def spoken(event: toolparse.Event) -> str:
    if isinstance(event, ContentDelta):
        return f"content {event.text!r}"
    if isinstance(event, ReasoningDelta):
        return f"reasoning {event.text!r}"
    if isinstance(event, CallStarted):
        return f"call {event.index} is {event.name}"
    if isinstance(event, ArgumentsDelta):
        return f"arguments {event.json!r}"
    if isinstance(event, CallEnded):
        return f"call {event.index} is complete"
    return f"{event.issue.code}: {event.issue.message}"


def main() -> int:
    proved, read = detection(), reading()
    one_message()
    a_stream()
    if not (proved and read):
        console.print("[red]not everything is as it should be: see NO and the differing numbers above[/]")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
