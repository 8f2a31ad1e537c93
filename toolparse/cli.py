"""The command line: `toolparse inspect | doctor | induce | parse | render | families | serve`.

A command is one function under `@command`; what it raises as a ToolparseError, a BadInput or an OSError becomes a line
on stderr and an exit code. Answers go to stdout, everything else to stderr.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import toolparse
from toolparse.errors import RenderError, ToolparseError
from toolparse.format import Format
from toolparse.message import ParsedMessage
from toolparse.overview import overview
from toolparse.plugins.flags import server_flags

OK, NOT_FOUND, BAD_INPUT = 0, 1, 2

EXIT_CODES = """
Exit codes: 0 all is well; 1 nothing was found, or what was found does not hold (no format fits or the format is not
verified; a call may not be executed; a format can't carry the calls); 2 wrong usage or bad input.
"""

SOURCE_HELP = """
SOURCE is the name of a family (see `toolparse families`), a chat template (a .jinja file), a tokenizer_config.json or
a model folder.
"""

# From this size of input on a progress bar is worth its lines.
LONG_INPUT = 1_000_000

WIDTH_OF_A_PIPE = 200

# Where a JSON line may hold the model's output.
TEXT_FIELDS = ("text", "output", "completion", "response", "content")

err = Console(stderr=True, highlight=False, soft_wrap=True)


class BadInput(click.ClickException):
    """Input that can't be used; the message says what would do."""

    exit_code = BAD_INPUT


def command(function: Callable[..., int]) -> click.Command:
    """Make a function a command; it returns its exit code."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> NoReturn:
        try:
            code = function(*args, **options)
            sys.stdout.flush()
        except ToolparseError as error:
            err.print(f"[bold red]error:[/] {escape(str(error))}")
            code = NOT_FOUND
        except BrokenPipeError:
            # The reader went away (`| head`): nothing is wrong with us, and Python must not flush again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = OK
        except OSError as error:
            raise BadInput(f"{error.strerror or error}: {error.filename or 'input'}") from error
        sys.exit(code)

    return cli.command(epilog=EXIT_CODES)(run)


def output_options(function: Callable[..., int]) -> Callable[..., int]:
    return click.option("--json", "as_json", is_flag=True, help="Plain JSON, for programs.")(function)


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="toolparse")
def cli() -> None:
    """Read the tool calls that language models write, for any chat template."""


def main() -> None:
    """The entry point."""
    cli(prog_name="toolparse")


# ---------------------------------------------------------------------------------------------------------- sources


def load_source(source: str) -> Any:
    """What SOURCE names, in a form that `toolparse.detect` and `toolparse.parser_for` accept."""
    path = Path(source)
    if path.is_dir():
        return path
    if path.is_file():
        return _load_file(path)
    try:
        return toolparse.get(source)
    except ToolparseError as error:
        raise BadInput(f"{source!r} is neither a file nor a folder, and {error}") from error


def _load_file(path: Path) -> Any:
    text = _decoded(path.read_bytes(), str(path))
    if path.suffix != ".json":
        return text
    try:
        config = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}") from error
    template = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(template, str):
        return template
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}
    if isinstance(template, dict):
        return template
    if (path.parent / "chat_template.jinja").is_file():
        return path.parent
    raise BadInput(f"{path} holds no chat_template, and there is no chat_template.jinja beside it")


def _name_of(file: BinaryIO) -> str:
    return str(getattr(file, "name", "<stdin>"))


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def load_tools(path: Path | None) -> list[dict[str, Any]] | None:
    """The tools in a JSON file: a list of OpenAI-style dicts, or one of them."""
    if path is None:
        return None
    try:
        tools = json.loads(_decoded(path.read_bytes(), str(path)))
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}") from error
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadInput(f"{path}: expected a list of OpenAI-style tools")
    return tools


# ----------------------------------------------------------------------------------------------------------- output


def stdout() -> Console:
    """Made when needed: it looks at what stdout is then. Tables for a pipe are not squeezed into 80 columns."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=WIDTH_OF_A_PIPE)


def write_json(value: Any, *, pretty: bool = False) -> None:
    """One JSON value on stdout; on a line of its own unless pretty."""
    line = json.dumps(value, ensure_ascii=False)
    lone = not _encodable(line)  # lone surrogates, which JSON can carry as escapes only
    if pretty:
        stdout().print_json(line, ensure_ascii=lone)
    else:
        sys.stdout.write((json.dumps(value) if lone else line) + "\n")


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def picture_text(picture: str) -> Text:
    """A picture for people: holes coloured, newlines and blanks at its ends visible."""
    text = Text(re.sub(r"^\s+|\s+$", lambda ends: ends[0].replace("\n", "⏎").replace(" ", "␣"), picture))
    text.highlight_regex(r"\{\{[^{}]*\}\}", "bold cyan")
    text.highlight_regex(r"[⏎␣]", "dim")
    return text


_PICTURES = (
    "reasoning",
    "content",
    "lead",
    "section",
    "call",
    "param",
    "item",
    "between",
    "between_messages",
    "id",
)


def format_table(fmt: Format) -> Table:
    """The pictures of a format, those that it has."""
    table = Table(show_header=False, box=None, padding=(0, 2, 1, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for field in _PICTURES:
        value = getattr(fmt, field)
        if value and value not in ("{{text}}", "{{calls}}"):
            table.add_row(field, picture_text(value))
    for also in also_data(fmt):
        for field, picture in also.items():
            table.add_row(f"also {field}", picture_text(picture))
    if fmt.ends:
        table.add_row("ends", Text("  ".join(fmt.ends)))
    if fmt.prefill:
        table.add_row("prompt opens", picture_text(fmt.prefill))
    return table


def format_data(fmt: Format) -> dict[str, Any]:
    """The pictures of a format, for programs."""
    data: dict[str, Any] = {"name": fmt.name}
    data |= {field: getattr(fmt, field) for field in _PICTURES if getattr(fmt, field)}
    data |= {
        "ends": list(fmt.ends),
        "prefill": fmt.prefill,
        "aliases": list(fmt.aliases),
        "models": fmt.models,
    }
    data["also"] = also_data(fmt)
    return data


def also_data(fmt: Format) -> list[dict[str, str]]:
    """The pictures of each alternative spelling."""
    spellings = [{"call": also} if isinstance(also, str) else dataclasses.asdict(also) for also in fmt.also]
    return [{name: value for name, value in also.items() if isinstance(value, str)} for also in spellings]


# --------------------------------------------------------------------------------------------------------- commands


@command
@click.argument("source")
@output_options
def inspect(source: str, as_json: bool) -> int:
    """Say which format SOURCE writes, how that was found, and whether it was proved."""
    loaded = load_source(source)
    if isinstance(loaded, Format):
        return _inspect_family(loaded, as_json)
    from toolparse.detect import detect

    found = detect(loaded)
    fmt = found.format
    code = OK if fmt is not None and found.verified else NOT_FOUND
    if as_json:
        known = {
            "source": source,
            "family": fmt.name if fmt else None,
            "how": found.how,
            "verified": found.verified,
        }
        shown = _format_of(fmt)
        pictures = format_data(shown) if shown else None
        problems = [dataclasses.asdict(problem) for problem in found.problems]
        flags = server_flags(shown) if shown else {}
        write_json({**known, "evidence": found.evidence, "problems": problems, "format": pictures, "flags": flags})
        return code
    console = stdout()
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("family", f"[bold green]{escape(fmt.name)}[/]" if fmt else "[bold red]none found[/]")
    facts.add_row("found by", escape(str(found.how)))
    facts.add_row("proof", "[green]reads its own template[/]" if found.verified else "[yellow]not verified[/]")
    for number, line in enumerate(found.evidence):
        facts.add_row("" if number else "evidence", escape(line))
    for number, problem in enumerate(found.problems):
        colour = {"error": "red", "warning": "yellow"}.get(problem.severity, "dim")
        facts.add_row("" if number else "problems", f"[{colour}]{problem.severity}[/] {escape(problem.message)}")
    shown = _format_of(fmt)
    if shown:
        for server, flag in server_flags(shown).items():
            facts.add_row(server, escape(flag))
    console.print(facts)
    if shown:
        console.print()
        console.print(format_table(shown))
    return code


@command
@click.argument("source")
@output_options
def doctor(source: str, as_json: bool) -> int:
    """Examine SOURCE's template: what it does to calls, and what that means for training and serving."""
    from toolparse.templates.judging.doctor import report

    loaded = load_source(source)
    found = report(loaded)
    if as_json:
        write_json(found.to_dict())
    else:
        console = stdout()
        for line in found.lines():
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    return found.exit_code


@command
@click.argument("source")
@click.option("--name", default="my-model", help="The name that the format gets.")
def induce(source: str, name: str) -> int:
    """Print the format that SOURCE's template teaches, as Python, without looking at the known families."""
    from toolparse.templates.judging.doctor import induced

    loaded = load_source(source)
    if isinstance(loaded, Format):
        raise BadInput(f"{source!r} is a family's name; give a template, a tokenizer_config.json or a folder")
    stdout().print(induced(loaded, name=name), soft_wrap=True, markup=False, highlight=False)
    return OK


def _inspect_family(fmt: Format, as_json: bool) -> int:
    if as_json:
        declared = {"source": fmt.name, "family": fmt.name, "how": "declared", "verified": None}
        write_json({**declared, "evidence": [], "problems": [], "format": format_data(fmt)})
        return OK
    console = stdout()
    about = f" ({escape(fmt.models)})" if fmt.models else ""
    console.print(f"[bold green]{escape(fmt.name)}[/]{about}, as declared\n")
    console.print(format_table(fmt))
    return OK


def _format_of(fmt: object) -> Format | None:
    """A format that has pictures; a user's own parsing function has none."""
    return fmt if isinstance(fmt, Format) else None


@command
@click.argument("source")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--tools", "tools_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE")
@click.option("--prompt", metavar="TEXT", help="The end of the prompt, where it opens a thought or a call.")
@click.option("--lines/--whole", default=None, help="Input is JSON lines, or one text. Default: by name and look.")
@click.option("--field", metavar="NAME", help=f"Where a JSON line holds the text. Default: {', '.join(TEXT_FIELDS)}.")
@output_options
def parse(
    source: str,
    file: BinaryIO,
    tools_file: Path | None,
    prompt: str | None,
    lines: bool | None,
    field: str | None,
    as_json: bool,
) -> int:
    """Read model output from FILE (or stdin) and write messages as JSON, one a line.

    The input is one text, or JSON lines: strings, or objects that hold the text, and `tools` and `prompt` if they
    differ from line to line. A message has `issues` where something is wrong; a call that has one that is not just a
    note must not be executed.
    """
    parser = toolparse.parser_for(load_source(source), tools=load_tools(tools_file))
    code = OK
    with progress(file) as stream:
        for item in _items(stream, _name_of(file), lines, field):
            options = {"prompt": prompt, **item}
            message = parser.parse(options.pop("text"), **options)
            write_json(message_data(message, parser), pretty=not as_json and stdout().is_terminal)
            if not all(call.ok for call in message.tool_calls):
                code = NOT_FOUND
    return code


def message_data(message: ParsedMessage, parser: Any) -> dict[str, Any]:
    """The message as chat templates take it, with what is wrong with it."""
    fill_ids = getattr(parser, "to_message", None)
    data: dict[str, Any] = fill_ids(message) if fill_ids else message.to_message()
    if message.truncated:
        data["truncated"] = True
    if message.issues:
        data["issues"] = [
            {"code": issue.code, "message": issue.message, "call": issue.call_index} for issue in message.issues
        ]
    return data


def _items(stream: Iterable[bytes], name: str, lines: bool | None, field: str | None) -> Iterator[dict[str, Any]]:
    """What is to be parsed: dicts with `text` and perhaps `tools` and `prompt`."""
    by_name = {".jsonl": True, ".ndjson": True, ".txt": False}.get(Path(name).suffix)
    lines = by_name if lines is None else lines
    rows = iter(stream)
    if lines is None:
        first = next(rows, b"")
        lines = field is not None or _is_json_line(first)
        rows = _chain(first, rows)
    if not lines:
        yield {"text": b"".join(rows).decode("utf-8", "replace")}
        return
    for number, row in enumerate(rows, 1):
        if row.strip():
            yield _item(row, f"{name}, line {number}", field)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _is_json_line(row: bytes) -> bool:
    """Whether a first line looks like a record: a JSON string, or an object that holds a text and no call."""
    try:
        value = json.loads(row)
    except ValueError:
        return False
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(_text_in(value, None), str))


def _text_in(record: dict[str, Any], field: str | None) -> Any:
    if field is not None:
        return record.get(field)
    return next((record[name] for name in TEXT_FIELDS if isinstance(record.get(name), str)), None)


def _item(row: bytes, where: str, field: str | None) -> dict[str, Any]:
    try:
        record = json.loads(row)
    except ValueError as error:
        raise BadInput(f"{where} is not JSON: {error} (--whole reads the input as one text)") from error
    if isinstance(record, str):
        return {"text": record}
    text = _text_in(record, field) if isinstance(record, dict) else None
    if not isinstance(text, str) and not (isinstance(text, list) and all(isinstance(n, int) for n in text)):
        wanted = field or " or ".join(TEXT_FIELDS)
        raise BadInput(f"{where} holds no text in {wanted}; --field says where it is")
    prompt = record.get("prompt", record.get("prefill"))
    extra = {"tools": record.get("tools"), "prompt": prompt}
    return {"text": text} | {name: value for name, value in extra.items() if value is not None}


@contextmanager
def progress(file: BinaryIO) -> Iterator[Iterable[bytes]]:
    """The lines of a file, with a bar on stderr if there is much to read and somebody to see it."""
    try:
        size = os.fstat(file.fileno()).st_size
    except (OSError, ValueError):
        size = 0
    if size < LONG_INPUT or not err.is_terminal or stdout().is_terminal:
        yield file
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    # stdout is the answer's: the bar must not take it over.
    bar = Progress(*columns, TimeRemainingColumn(), console=err, transient=True, redirect_stdout=False)
    with bar:
        task = bar.add_task("parsing", total=size)

        def counted() -> Iterator[bytes]:
            for line in file:
                yield line
                bar.advance(task, len(line))

        yield counted()


@command
@click.argument("source")
@click.argument("file", type=click.File("rb"), default="-")
@output_options
def render(source: str, file: BinaryIO, as_json: bool) -> int:
    """Write calls the way SOURCE does: the inverse of parse.

    FILE (or stdin) holds JSON: a message, a list of calls, or one call; {"name": ..., "arguments": {...}} and OpenAI's
    {"function": {...}} are both understood.
    """
    parser = toolparse.parser_for(load_source(source))
    try:
        value = json.loads(_decoded(file.read(), _name_of(file)))
    except ValueError as error:
        raise BadInput(f"{_name_of(file)} is not JSON: {error}") from error
    message = value if isinstance(value, dict) and "role" in value else {"tool_calls": value}
    calls = message.get("tool_calls") or []
    calls = [_plain_call(call) for call in (calls if isinstance(calls, list) else [calls])]
    content, reasoning = message.get("content") or "", message.get("reasoning_content")
    try:
        text = parser.render(calls, content=content, reasoning=reasoning)
    except RenderError as error:
        err.print(f"[bold red]can't be written:[/] {escape(str(error))}")
        return NOT_FOUND
    if as_json:
        write_json({"text": text})
    else:
        sys.stdout.write(text + ("\n" if stdout().is_terminal else ""))
    return OK


def _plain_call(call: Any) -> dict[str, Any]:
    """A call as name, arguments and perhaps id."""
    if not isinstance(call, dict):
        raise BadInput(f"a call must be an object with a name and arguments, not {call!r}")
    inner = call["function"] if isinstance(call.get("function"), dict) else call
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError as error:
            raise BadInput(f"the arguments of {inner.get('name')!r} are a string that is not JSON: {error}") from error
    if not isinstance(inner.get("name"), str) or not isinstance(arguments, dict):
        raise BadInput(f"a call needs a name and an object of arguments: {json.dumps(call)[:200]}")
    plain = {"name": inner["name"], "arguments": arguments}
    return plain if call.get("id") is None else {**plain, "id": call["id"]}


@command
@output_options
def families(as_json: bool) -> int:
    """List the registered families."""
    formats = [fmt for fmt in map(toolparse.get, toolparse.families()) if isinstance(fmt, Format)]
    if as_json:
        write_json([{**format_data(fmt), **overview(fmt)} for fmt in formats])
        return OK
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("family", style="green", no_wrap=True)
    table.add_column("a call looks like", overflow="fold")
    table.add_column("arguments", overflow="fold")
    table.add_column("has", overflow="fold")
    table.add_column("proved on", style="dim", overflow="fold")
    table.add_column("models", overflow="fold")
    table.add_column("also called", style="dim", overflow="fold")
    for fmt in formats:
        look = picture_text(fmt.section.replace("{{calls}}", fmt.call).replace("\n", "⏎"))
        facts = overview(fmt)
        has = ", ".join(key for key in ("ids", "parallel", "reasoning") if facts[key])
        proved = str(facts["proved"]) or "-"
        row = (look, facts["arguments"], has, proved, escape(fmt.models), escape(", ".join(fmt.aliases)))
        table.add_row(fmt.name, *row)
    stdout().print(table)
    return OK


@command
@click.argument("source")
@click.option("--engine", "engine_url", metavar="URL", help="A server that generates: vLLM's or SGLang's address.")
@click.option("--engine-kind", type=click.Choice(["auto", "vllm", "sglang"]), default="auto", show_default=True)
@click.option("--engine-model", default="", metavar="NAME", help="The engine's name for the model.")
@click.option("--engine-api-key", envvar="TOOLPARSE_ENGINE_API_KEY", metavar="KEY")
@click.option("--device", default="auto", help="For a model in this process.", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, type=click.IntRange(0, 65535), show_default=True)
@click.option("--name", help="The model's name for clients. Default: the last part of SOURCE.")
@click.option("--family", help="The format by name, where the template doesn't show it.")
@click.option(
    "--api-key", "api_keys", multiple=True, envvar="TOOLPARSE_API_KEY", metavar="KEY", help="May be repeated."
)
@click.option("--broken-calls", type=click.Choice(["content", "report"]), default="content", show_default=True)
@click.option("--stream-arguments", is_flag=True, help="Hand arguments out before it is known that the call is sound.")
@click.option("--max-running", default=64, type=click.IntRange(1), show_default=True, help="Requests at once.")
@click.option("--max-waiting", default=256, type=click.IntRange(0), show_default=True, help="Beyond them: 429.")
@click.option("--max-tokens", default=32768, type=click.IntRange(1), show_default=True, help="Of one answer.")
@click.option("--max-body", default=8_000_000, type=click.IntRange(1), show_default=True, help="Bytes of a request.")
@click.option("--timeout", default=600.0, type=click.FloatRange(0, min_open=True), show_default=True, help="Seconds.")
def serve(source: str, **options: Any) -> int:
    """Serve SOURCE with the Chat Completions API: a model folder, a name on the hub, or a GGUF file.

    The model runs in this process, or behind --engine, and then only its tokenizer is loaded here.
    """
    try:
        from toolparse.serving.start import serve_command

        serve_command(source, options, err)
    except ImportError as error:
        raise BadInput(f"{error}; install what serving needs: pip install 'toolparse[serve]'") from error
    return OK


if __name__ == "__main__":
    main()
