"""`toolparse serve`: from a source to a running endpoint."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from toolparse.errors import SourceError, ToolparseError
from toolparse.parser import Parser
from toolparse.registry import hub_address, kind_of, named
from toolparse.serving.engine import Engine, EngineError
from toolparse.templates.judging.hub import folder_of

if TYPE_CHECKING:
    from toolparse.serving.model import ChatModel

_TOKENIZERS = ("tokenizer*", "*.model", "vocab*", "*.tiktoken")

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ServeError(ToolparseError):
    """A source that can't be served; the message says what would do."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where the engine is: behind `url`, or (None) in this process. `model`: the engine's own name for the model."""

    url: str | None = None
    kind: str = "auto"
    model: str = ""
    api_key: str | None = None
    device: str = "auto"


def serve_command(source: str, options: dict[str, Any], console: Console) -> None:
    """Load, say what was found, and serve until interrupted. `options`: those of the command line.

    Raises ToolparseError.
    """
    import uvicorn

    from toolparse.serving.app import Endpoint, ServerLimits
    from toolparse.serving.model import ChatModel

    check(source)
    where = EngineOptions(
        options["engine_url"],
        options["engine_kind"],
        options["engine_model"],
        options["engine_api_key"],
        options["device"],
    )
    tokenizer, engine = load(source, where)
    model = ChatModel(
        tokenizer, name=options["name"] or Path(hub_address(source)[0]).name or source, family=options["family"]
    )
    for line in about(model, engine):
        console.print(line)
    host, port, keys = options["host"], options["port"], tuple(options["api_keys"])
    if host not in LOOPBACK and not keys:
        console.print("[yellow]anybody who reaches this port can use it:[/] give --api-key")
    limits = ServerLimits(
        body=options["max_body"],
        tokens=options["max_tokens"],
        seconds=options["timeout"],
        running=options["max_running"],
        waiting=options["max_waiting"],
    )
    live, broken = options["stream_arguments"], options["broken_calls"]
    endpoint = Endpoint(model, engine, limits=limits, api_keys=keys, broken=broken, live=live)
    server = uvicorn.Server(
        uvicorn.Config(endpoint.app(), host=host, port=port, log_level="warning", timeout_graceful_shutdown=10)
    )
    asyncio.run(_run(server, model.name, console))


async def _run(server: Any, name: str, console: Console) -> None:
    task = asyncio.ensure_future(server.serve())
    while not server.started and not task.done():
        await asyncio.sleep(0.02)
    if server.started:
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        console.print(f"serving [bold]{escape(name)}[/] at http://{host}:{port}/v1")
    await task


def about(model: ChatModel, engine: Engine) -> list[str]:
    """What is served, and what speaks for it."""
    found = model.detection
    parser = model.parser
    lines = [f"format    [bold green]{escape(parser.format.name)}[/], found by {escape(str(found.how))}"]
    lines.append(f"proof     [{'green' if found.verified else 'yellow'}]{found.proof}[/]")
    lines += [f"          {escape(line)}" for line in found.evidence]
    lines += [f"problem   {escape(problem.message)}" for problem in found.problems if problem.severity != "note"]
    if isinstance(parser, Parser):
        stops = [str(model.tokenizer.decode([id])) for id in model.stop_ids]
        lines.append(f"stops at  {escape('  '.join(stops) or 'nothing')}")
    takes = ", ".join(engine.takes) or "nothing: required calls and response_format are refused"
    lines.append(f"engine    {type(engine).__name__}, held to grammars by {takes}")
    return lines


def check(source: str) -> None:
    """Raises SourceError for what can't be a model, at once: transformers would ask the hub for it again and again."""
    kind, path = kind_of(source), Path(source)
    if kind == "hub":
        folder_of(source)
    elif named(source) is not None and kind == "name":
        raise SourceError(f"{source!r} is a family's name: give a model, and --family {source} if it can't be found")
    elif not path.exists():
        raise SourceError(
            f"there is no file or folder {source}: a model folder, a hub id (Qwen/Qwen3-8B) or a .gguf file"
        )
    elif path.is_file() and path.suffix != ".gguf":
        raise SourceError(f"{source} is a file: what can be served is a model folder, a hub id or a .gguf file")
    elif path.is_dir() and not any(found for pattern in _TOKENIZERS for found in path.glob(pattern)):
        raise SourceError(f"the folder {source!r} holds no tokenizer")


def load(source: str, options: EngineOptions) -> tuple[Any, Engine]:
    """The tokenizer and the engine of a source: a GGUF file, a model folder, or a name on the hub.

    Raises ServeError.
    """
    llama = None
    if source.endswith(".gguf"):
        from toolparse.serving.gguf import GgufTokenizer, load_llama

        llama = load_llama(source, vocab_only=options.url is not None)
        tokenizer: Any = GgufTokenizer(llama)
    else:
        tokenizer = _tokenizer(source)
    if options.url is not None:
        from toolparse.serving.http import engine_at

        try:
            found = engine_at(options.url, kind=options.kind, model=options.model, api_key=options.api_key)
            return tokenizer, asyncio.run(found)
        except EngineError as error:
            raise ServeError(str(error)) from error
    if llama is not None:
        from toolparse.serving.in_process import LlamaCppEngine

        return tokenizer, LlamaCppEngine(llama)
    return tokenizer, _transformers_engine(source, options.device)


def _tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    name, revision = hub_address(source)
    try:
        return AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise ServeError(f"no tokenizer can be loaded from {source!r}: {' '.join(str(error).split())}") from error


def _transformers_engine(source: str, device: str) -> Engine:
    import torch
    from transformers import AutoModelForCausalLM

    from toolparse.serving.in_process import TransformersEngine

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    name, revision = hub_address(source)
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype="auto", revision=revision)
    except (OSError, ValueError) as error:
        raise ServeError(
            f"no model can be loaded from {source!r} (a server may have it: --engine URL): {error}"
        ) from error
    with contextlib.suppress(NotImplementedError):  # already placed
        model = model.to(device)
    return TransformersEngine(model)
