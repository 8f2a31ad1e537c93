"""The command line: `toolparse inspect | doctor | induce | parse | render | families | serve | view`.

A command is one function under `@command`; what it raises as a ToolparseError, a BadInput or an OSError becomes a line
on stderr and an exit code. Answers go to stdout, everything else to stderr.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import toolparse
from toolparse.compile import compile_format
from toolparse.corpora.files import TEXT_FIELDS, CorpusError, Work, open_corpus, parse_corpus
from toolparse.errors import RenderError, SourceError, ToolError, ToolparseError, UnknownFormat, UnverifiedFormatWarning
from toolparse.families.proved import PROVED
from toolparse.format import Format
from toolparse.parser import FunctionParser
from toolparse.plugins.flags import server_flags
from toolparse.registry import by_model, kind_of, meant, named

OK, NOT_FOUND, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

EXIT_CODES = """
Exit codes: 0 all is well; 1 nothing was found, or what was found does not hold (no format fits or the format is not
verified; a call may not be executed; a format can't carry the calls; a template loses data); 2 wrong usage or bad
input; 130 interrupted.
"""

SOURCE_HELP = """
SOURCE is a model folder, a model on the hub (Qwen/Qwen3-8B), a file (a chat template as .jinja, tokenizer_config.json,
tokenizer.json, .gguf), `-` for a template on stdin, or a name: of a family (`toolparse families` lists them), of a
server's parser (qwen3_xml), of a model that a family lists (SmolLM3; not verified).
"""

# What stands for stdin, as SOURCE or as FILE.
STDIN = ("-", "/dev/stdin")

# From this size of input on a progress bar is worth its lines.
LONG_INPUT = 1_000_000

WIDTH_OF_A_PIPE = 200

READER = f"reader: {'compiled' if getattr(toolparse, 'COMPILED', False) else 'plain Python'}"

err = Console(stderr=True, highlight=False, soft_wrap=True)


class BadInput(click.ClickException):
    """Input that can't be used; the message says what would do."""

    exit_code = BAD_INPUT


def command(function: Callable[..., int]) -> click.Command:
    """Make a function a command; it returns its exit code."""

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> NoReturn:
        try:
            twice = options.get("source") in STDIN and "file" in options
            if twice and _name_of(options["file"]) in ("<stdin>", *STDIN):
                raise BadInput("stdin can't be SOURCE and FILE at once: give one of them as a file")
            code = function(*args, **options)
            sys.stdout.flush()
        except (ToolError, SourceError) as error:
            raise BadInput(str(error)) from error
        except ToolparseError as error:
            told = error.told if isinstance(error, UnknownFormat) else str(error)
            err.print(f"[bold red]error:[/] {escape(told)}")
            code = NOT_FOUND
        except KeyboardInterrupt:
            err.print("interrupted")
            code = INTERRUPTED
        except BrokenPipeError:
            # The reader went away (`| head`): nothing is wrong with us, and Python must not flush again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = OK
        except OSError as error:
            raise BadInput(f"{error.strerror or error}: {error.filename or 'input'}") from error
        sys.exit(code)

    asked = [parameter.name for parameter in getattr(run, "__click_params__", ())]
    takes_source = "source" in asked and "engine_url" not in asked  # what is served is a model, and nothing else
    # In the list of commands stands what a command does, up to the first point, colon or comma.
    short = re.split(r"[.:,(]", function.__doc__ or "")[0].strip() + "."
    return cli.command(epilog=f"{SOURCE_HELP}\n{EXIT_CODES}" if takes_source else EXIT_CODES, short_help=short)(run)


class InputFile(click.File):
    """A file to read; a name in its place was meant as SOURCE."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value != "-":
            if not os.path.exists(value):
                if named(value) is not None:
                    raise BadInput(f"{value!r} is a family's name, and stands where FILE belongs: SOURCE comes first")
                raise BadInput(f"there is no file {value}")
            if os.path.isdir(value):
                raise BadInput(f"{value} is a folder, and FILE is one file")
        return super().convert(value, param, ctx)


json_option = click.option("--json", "as_json", is_flag=True, help="Plain JSON, for programs.")


class _Commands(click.Group):
    """The commands here, and those of packages that bring some (entry points `toolparse.commands`)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group="toolparse.commands").names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        for entry in entry_points(group="toolparse.commands", name=cmd_name) if found is None else ():
            try:
                return cast("click.Command", entry.load())
            except ImportError as error:
                raise BadInput(f"{error}; install what training needs: pip install 'toolparse[trl]'") from error
        return found


@click.group(cls=_Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(message=f"%(prog)s {toolparse.__version__}\n{READER}")
def cli() -> None:
    """Read the tool calls that language models write, for any chat template."""


def main() -> None:
    """The entry point. Answers are UTF-8, but on a terminal that has another encoding."""
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # stderr is for what went wrong
    cli(prog_name="toolparse")


# ---------------------------------------------------------------------------------------------------------- sources


def load_source(source: str) -> Any:
    """What SOURCE names, in a form that `toolparse.detect` and `toolparse.parser_for` accept."""
    if source in STDIN:
        text = _decoded(sys.stdin.buffer.read(), "<stdin>")
        if not text.strip():
            raise BadInput("<stdin> is empty: no chat template")
        return {"default": text}
    kind = kind_of(source)
    if kind == "text":
        raise BadInput("SOURCE holds braces or newlines, so it is no name; `-` reads a template from stdin")
    if kind == "name":
        entry = named(source)
        if entry is None and by_model(source) is None:
            raise BadInput(
                f"{source!r} is neither a file nor a folder nor a name that is known{meant(source)} "
                "`toolparse families` lists the families"
            )
        return entry or source
    return source


def load_template(source: str, command: str) -> Any:
    """As `load_source`, for commands that need a template."""
    loaded = load_source(source)
    if isinstance(loaded, Format | FunctionParser) or (isinstance(loaded, str) and kind_of(loaded) == "name"):
        raise BadInput(f"{source!r} is a name, which has no template to {command}; give a folder, a file or a hub id")
    return loaded


def read_json(data: bytes | str, name: str, hint: str = "") -> Any:
    """A JSON value from outside; `hint`: what else to try where it is none."""
    text = data if isinstance(data, str) else _decoded(data, name)
    if not text.strip():
        raise BadInput(f"{name} is empty: JSON belongs there{hint}")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise BadInput(f"{name}: the JSON is nested too deeply{hint}") from error
    except ValueError as error:
        raise BadInput(f"{name} is not JSON: {str(error).split('; use sys.')[0]}{hint}") from error


def load_parser(source: str, *, tools: Any = None) -> tuple[Any, bool]:
    """The parser for SOURCE, and whether its format holds; if not, that is said on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnverifiedFormatWarning)
        parser = toolparse.parser_for(load_source(source), tools=tools)
    holds = getattr(parser, "verified", None) is not False
    if not holds:
        why = " from the name" if kind_of(source) == "name" else f"; `toolparse doctor {source}` says why"
        err.print(f"[bold yellow]not verified:[/] {escape(parser.format.name)} is a guess{escape(why)}")
    return parser, holds


def _name_of(file: BinaryIO) -> str:
    return str(getattr(file, "name", "<stdin>"))


def _decoded(data: bytes, name: str) -> str:
    from toolparse.templates.judging.inputs import decoded

    return decoded(data, name)


def load_tools(path: Path | None) -> list[dict[str, Any]] | None:
    """The tools in a JSON file: a list of OpenAI-style dicts, or one of them."""
    if path is None:
        return None
    tools = read_json(path.read_bytes(), str(path))
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadInput(f"{path}: expected a list of OpenAI-style tools")
    return tools


# ----------------------------------------------------------------------------------------------------------- output


def stdout() -> Console:
    """Made when needed: it looks at what stdout is then. Tables for a pipe are not squeezed into 80 columns."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=WIDTH_OF_A_PIPE)


def show(*tables: Table | str) -> None:
    """Tables and lines on stdout, a blank line between them; a pipe gets no blanks at the ends of lines."""
    console = stdout()
    with console.capture() as shown:
        for number, table in enumerate(tables):
            if number:
                console.print()
            console.print(table)
    text = shown.get()
    if not console.is_terminal:
        text = "\n".join(line.rstrip() for line in text.rstrip().split("\n")) + "\n"
    sys.stdout.write(text)


def write_json(value: Any, *, pretty: bool = False) -> None:
    """One JSON value on stdout; on a line of its own unless pretty."""
    line = json_text(value)
    if pretty:
        stdout().print_json(line, ensure_ascii=not _encodable(line))
    else:
        sys.stdout.write((line if _encodable(line) else _escaped(line)) + "\n")


def json_text(value: Any) -> str:
    """A value as JSON, integers of any length among it; half surrogate pairs stay what they are."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        from toolparse.codecs.json import encode

        return encode(value)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(line: str) -> str:
    """JSON with escapes for all that is not ASCII: half surrogate pairs can be written in no other way."""
    return "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in line)


def picture_text(picture: str) -> Text:
    """A picture for people: holes coloured, newlines and blanks at its ends visible."""
    text = Text(re.sub(r"^\s+|\s+$", lambda ends: ends[0].replace("\n", "⏎").replace(" ", "␣"), picture))
    text.highlight_regex(r"\{\{[^{}]*\}\}", "bold cyan")
    text.highlight_regex(r"[⏎␣]", "dim")
    return text


_PICTURES = ("reasoning", "content", "lead", "section", "call", "param", "item", "between", "between_messages", "id")


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
    if fmt.asides:
        table.add_row("asides", Text("  ".join(fmt.asides)))
    if fmt.ends:
        table.add_row("ends", Text("  ".join(fmt.ends)))
    if fmt.prefill:
        table.add_row("prompt opens", picture_text(fmt.prefill))
    return table


def format_data(fmt: Format) -> dict[str, Any]:
    """The pictures of a format, for programs."""
    data = {"name": fmt.name, **{field: getattr(fmt, field) for field in _PICTURES if getattr(fmt, field)}}
    data |= {"asides": list(fmt.asides), "ends": list(fmt.ends), "prefill": fmt.prefill}
    return {**data, "aliases": list(fmt.aliases), "models": fmt.models, "also": also_data(fmt)}


def also_data(fmt: Format) -> list[dict[str, str]]:
    """The pictures of each alternative spelling."""
    spellings = [{"call": also} if isinstance(also, str) else dataclasses.asdict(also) for also in fmt.also]
    return [{name: value for name, value in also.items() if isinstance(value, str)} for also in spellings]


# --------------------------------------------------------------------------------------------------------- commands


@command
@click.argument("source")
@json_option
def inspect(source: str, as_json: bool) -> int:
    """Say which format SOURCE writes, how that was found, and whether it was proved."""
    loaded = load_source(source)
    if isinstance(loaded, Format):
        return _inspect_family(loaded, as_json)
    found = toolparse.detect(loaded)
    fmt = found.format
    shown = _format_of(fmt)
    code = OK if found.verified else NOT_FOUND
    if as_json:
        write_json({"source": source, **found.to_dict(), **_shown(shown)})
        return code
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("family", f"[bold green]{escape(fmt.name)}[/]" if fmt else "[bold red]none found[/]")
    if fmt:
        facts.add_row("found by", escape(str(found.how)))
        facts.add_row("proof", f"[{'green' if found.verified else 'yellow'}]{found.proof}[/]")
    for number, line in enumerate(found.evidence):
        facts.add_row("" if number else "evidence", escape(line))
    for number, problem in enumerate(found.problems):
        colour = {"error": "red", "warning": "yellow"}.get(problem.severity, "dim")
        facts.add_row("" if number else "problems", f"[{colour}]{problem.severity}:[/] {escape(problem.message)}")
    if shown:
        for server, flag in server_flags(shown).items():
            facts.add_row(server, escape(flag))
    show(facts, *([format_table(shown)] if shown else []))
    if fmt is None:
        err.print("name a family instead (`toolparse families`), if you know how the model writes calls")
    return code


@command
@click.argument("source")
@json_option
def doctor(source: str, as_json: bool) -> int:
    """Examine SOURCE's template: what it does to calls, and what that means for training and serving."""
    from toolparse.templates.judging.doctor import report

    found = report(load_template(source, "examine"))
    if as_json:
        write_json({"source": source, **found.to_dict(), **_shown(_format_of(found.detection.format))})
    else:
        console = stdout()
        for line in found.lines():
            console.print(line, soft_wrap=True, markup=False, highlight=False)
    return found.exit_code


@command
@click.argument("source")
@click.option("--name", default="my-model", show_default=True, help="The name that the format gets.")
@json_option
def induce(source: str, name: str, as_json: bool) -> int:
    """Print the format that SOURCE's template teaches, as Python, without looking at the known families."""
    from toolparse.templates.judging.doctor import as_python, induced

    found = induced(load_template(source, "learn from"), name=name)
    format = _format_of(found.format)
    if as_json:
        write_json({"source": source, **found.to_dict(), **_shown(format)})
    elif format is not None:
        stdout().print(as_python(format), soft_wrap=True, markup=False, highlight=False)
    if found.verified:
        return OK
    err.print("[bold yellow]not verified:[/] it doesn't read all of its own template back")
    return NOT_FOUND


def _inspect_family(fmt: Format, as_json: bool) -> int:
    if as_json:
        declared = {"source": fmt.name, "family": fmt.name, "how": "declared", "verified": None}
        write_json({**declared, "evidence": [], "problems": [], **_shown(fmt)})
        return OK
    about = f" ({escape(fmt.models)})" if fmt.models else ""
    show(f"[bold green]{escape(fmt.name)}[/]{about}, as declared", format_table(fmt))
    return OK


def _shown(fmt: Format | None) -> dict[str, Any]:
    return {"format": format_data(fmt) if fmt else None, "flags": server_flags(fmt) if fmt else {}}


def _format_of(fmt: object) -> Format | None:
    """A format that has pictures; a user's own parsing function has none."""
    return fmt if isinstance(fmt, Format) else None


@command
@click.argument("source")
@click.argument("file", type=InputFile("rb"), default="-")
@click.option(
    "--tools", "tools_file", type=click.Path(path_type=Path), metavar="FILE", help="Tools as JSON, to check by."
)
@click.option("--prompt", metavar="TEXT", help="The end of the prompt, where it opens a thought or a call.")
@click.option("--lines", "shape", flag_value="lines", help="The input is JSON lines. Default: by look and name.")
@click.option("--array", "shape", flag_value="array", help="The input is a JSON array.")
@click.option("--whole", "shape", flag_value="whole", help="The input is one text.")
@click.option("--field", metavar="NAME", help=f"Where the text is, as in `a.0.b`. Default: {', '.join(TEXT_FIELDS)}.")
@click.option("--prefix", default="", metavar="TEXT", help="Before the names of what is written.")
@click.option(
    "--errors", "--on-error", type=click.Choice(["stop", "skip"]), default="stop", help="At rows that can't be used."
)
@click.option("--jobs", "--processes", type=click.IntRange(1), default=1, metavar="N", help="Processes that read.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Instead of stdout.")
@click.option("--resume", is_flag=True, help="Go on with an --output that was not finished.")
@json_option
def parse(
    source: str,
    file: BinaryIO,
    tools_file: Path | None,
    prompt: str | None,
    shape: str | None,
    field: str | None,
    prefix: str,
    errors: str,
    jobs: int,
    output: Path | None,
    resume: bool,
    as_json: bool,
) -> int:
    """Read model output from FILE (or stdin) and write messages as JSON, one a line.

    FILE is one text, JSON lines, a JSON array, Parquet or Arrow, perhaps packed (.gz, .zst). A row is a text, or has it
    in a column, and `tools` and `prompt` if they differ from row to row; its other columns are kept. A message has
    `issues` where something is wrong; a call that has one that is not just a note must not be executed. OUTPUT ends in
    .jsonl, .jsonl.gz, .jsonl.zst, .parquet or .arrow.
    """
    parser, holds = load_parser(source, tools=load_tools(tools_file))
    work = Work(parser, "", field=field, prompt=prompt, prefix=prefix, skip=errors == "skip")
    pretty = stdout().is_terminal and not as_json

    def write(lines: bytes) -> None:
        if pretty:
            for line in lines.splitlines():
                stdout().print_json(line.decode("utf-8"))
        else:
            sys.stdout.write(lines.decode("utf-8"))

    with progress(file) as stream:
        try:
            whole = jobs > 1 or output is not None
            corpus = open_corpus(stream, _name_of(file), shape or "", field=field, whole=whole)
            well = parse_corpus(
                corpus, work, write, lambda said: err.print(escape(said)), jobs=jobs, output=output, resume=resume
            )
        except (CorpusError, ImportError) as error:
            raise BadInput(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
    return OK if holds and well else NOT_FOUND


@contextmanager
def progress(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file, with a bar on stderr if there is much to read and somebody to see it."""
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
        counted = bar.wrap_file(file, size, description="parsing")
        yield counted


@command
@click.argument("source")
@click.argument("file", type=InputFile("rb"), default="-")
@json_option
def render(source: str, file: BinaryIO, as_json: bool) -> int:
    """Write calls the way SOURCE does: the inverse of parse.

    FILE (or stdin) holds JSON: a message, a list of calls, or one call; {"name": ..., "arguments": {...}} and OpenAI's
    {"function": {...}} are both understood.
    """
    parser, holds = load_parser(source)
    value = read_json(file.read(), _name_of(file))
    message = value if isinstance(value, dict) and "role" in value else {"tool_calls": value}
    calls = message.get("tool_calls") or []
    calls = [_plain_call(call) for call in (calls if isinstance(calls, list) else [calls])]
    content, reasoning = message.get("content") or "", message.get("reasoning_content")
    if not isinstance(content, str) or not isinstance(reasoning, str | None):
        raise BadInput(f"{_name_of(file)}: content and reasoning_content must be texts")
    try:
        text = parser.render(calls, content=content, reasoning=reasoning)
    except RenderError as error:
        err.print(f"[bold red]can't be written:[/] {escape(str(error))}")
        return NOT_FOUND
    if as_json:
        write_json({"text": text})
    else:
        sys.stdout.write(text + ("\n" if stdout().is_terminal else ""))
    return OK if holds else NOT_FOUND


def _plain_call(call: Any) -> dict[str, Any]:
    """A call as name, arguments and perhaps id."""
    if not isinstance(call, dict):
        raise BadInput(f"a call must be an object with a name and arguments, not {call!r}")
    inner = call["function"] if isinstance(call.get("function"), dict) else call
    arguments = inner.get("arguments", {})
    if isinstance(arguments, str):
        arguments = read_json(arguments, f"the arguments of {inner.get('name')!r}: a text that")
    if not isinstance(inner.get("name"), str) or not isinstance(arguments, dict):
        raise BadInput(f"a call needs a name and an object of arguments: {json_text(call)[:200]}")
    plain = {"name": inner["name"], "arguments": arguments}
    return plain if call.get("id") is None else {**plain, "id": call["id"]}


@command
@click.argument("name", required=False)
@json_option
def families(name: str | None, as_json: bool) -> int:
    """List the registered families, or show the one called NAME.

    On a terminal a table; to a pipe a line for each family, its fields parted by tabs: name, arguments, what it has,
    where it was proved, models, other names, and what a call looks like.
    """
    if name is not None:
        if named(name) is None:
            raise BadInput(f"no family is called {name!r}{meant(name)}")
        found = toolparse.get(name)
        if not isinstance(found, Format):
            raise BadInput(f"{name!r} is a parsing function, which has no pictures to show")
        return _inspect_family(found, as_json)
    formats = [fmt for fmt in map(toolparse.get, toolparse.families()) if isinstance(fmt, Format)]
    if as_json:
        write_json([{**format_data(fmt), **overview(fmt)} for fmt in formats])
        return OK
    console = stdout()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    # On a narrow terminal the models give way; what a family has is left out there.
    wide = console.width >= 100
    table.add_column("family", style="green", no_wrap=True, min_width=max(len(fmt.name) for fmt in formats))
    table.add_column("arguments", no_wrap=True, min_width=max(len(codec(fmt)) for fmt in formats))
    for title in ("has", "models") if wide else ("models",):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for fmt in formats:
        facts = overview(fmt)
        has = ", ".join(key for key in ("ids", "parallel", "reasoning") if facts[key])
        if console.is_terminal:
            table.add_row(fmt.name, facts["arguments"], *([has] if wide else []), escape(fmt.models))
            continue
        look = fmt.block.write(fmt.call).replace("\n", "⏎").replace("\t", " ")
        fields = (fmt.name, facts["arguments"], has, facts["proved"], fmt.models, ", ".join(fmt.aliases), look)
        sys.stdout.write("\t".join(str(field) or "-" for field in fields) + "\n")
    if console.is_terminal:
        console.print(table, soft_wrap=False)
        console.print("\n`toolparse families NAME` shows one.")
    return OK


# -------------------------------------------------------------------------------------- what a row of the table says


def overview(format: Format) -> dict[str, Any]:
    """`arguments` (the codec), `ids` (the text carries call ids), `parallel`, `reasoning`, `proved`.

    `proved` names a real chat template on which detection proved the family, '' where none was at hand.
    """
    return {
        "arguments": codec(format),
        "ids": "{{id}}" in format.call,
        "parallel": format.parallel,
        "reasoning": format.reasoning is not None,
        "proved": PROVED.get(format.name, "").partition(":")[2],
    }


def codec(format: Format) -> str:
    """How the arguments are written, in a word or two."""
    body = compile_format(format).shapes[0].body
    if body == "params":
        return "nested elements" if format.item is not None else "tagged parameters"
    if body == "kwargs":
        return "Python call"
    if format.syntax.bare_keys:
        return "literal map"
    syntax = "JSON" if format.syntax.is_json else "Python literals"
    return f"{syntax} object" if body == "wrapper" else syntax


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
