"""Other parsers, from their public wheels: `python benchmarks/peers.py` (= `make bench-peers`) fetches them.

Only the modules that parse are imported, from a folder of their own (`.cache/bench-peers`), so that nothing of what the
packages need besides (CUDA, MLX, servers) is installed:

* mlx-lm: its `parse_tool_call` functions, each on the text between the markers that the module names;
* SGLang: its detectors' `detect_and_parse` and `parse_streaming_increment`, with stand-ins of the same fields for the
  pydantic classes `Tool` and `Function` and for its settings, which live in modules that import the server;
* renderers: its `parse_*` functions, on token ids; the ids are made beforehand with a small tokenizer.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

FOLDER = ROOT / ".cache" / "bench-peers"
WHEELS = ("mlx-lm", "sglang", "renderers")
HELPERS = ("partial-json-parser",)

# What a peer gives: (calls, content, reasoning); None for what it does not say.
Reading = tuple[list[tuple[str, Any]], str | None, str | None]


@dataclass
class Adapter:
    """One peer on one format: `run` is timed, `read` makes its result comparable and is not."""

    name: str
    run: Callable[[Any], Any]
    read: Callable[[Any], Reading]
    decoded: bool = False
    prepare: Callable[[str], Any] = lambda text: text


def install() -> int:
    """Fetch the wheels and unpack what parses."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wheels = FOLDER / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    failed = 0
    for name in WHEELS:
        if subprocess.run([*pip, "download", "--no-deps", "-d", str(wheels), name], check=False).returncode:
            print(f"{name}: could not be fetched; it will be left out")
            failed += 1
    site = FOLDER / "site"
    subprocess.run([*pip, "install", "--no-deps", "--upgrade", "--target", str(site), *HELPERS], check=False)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            wanted = [
                name
                for name in archive.namelist()
                if name.startswith(
                    ("mlx_lm/tool_parsers/", "sglang/srt/function_call/", "sglang/srt/parser/", "renderers/")
                )
                and name.endswith(".py")
            ]
            archive.extractall(site, wanted)
        print(f"{wheel.name}: {len(wanted)} modules")
    return failed


def versions() -> dict[str, str]:
    """The versions of the wheels that were fetched."""
    return {wheel.name.split("-")[0]: wheel.name.split("-")[1] for wheel in sorted((FOLDER / "wheels").glob("*.whl"))}


def _package(name: str, folder: Path) -> None:
    """A package whose own `__init__` is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def available() -> tuple[dict[str, Any], list[str]]:
    """(what each peer offers, by name; notes on what could not be had)."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    site = FOLDER / "site"
    if not site.is_dir():
        return found, ["mlx-lm, SGLang and renderers are not here: run `make bench-peers`"]
    if str(site) not in sys.path:
        sys.path.append(str(site))
    for name, load in (("mlx-lm", _mlx), ("SGLang", _sglang), ("renderers", _renderers)):
        try:
            found[name] = load(site)
        except Exception as error:  # noqa: BLE001 - strangers' code may fail in any way; it is reported
            notes.append(
                f"{name} could not be imported without its heavy dependencies: {type(error).__name__}: {error}"
            )
    return found, notes


def _mlx(site: Path) -> dict[str, Any]:
    folder = site / "mlx_lm" / "tool_parsers"
    modules = {"hermes": "json_tools", "qwen3-coder": "qwen3_coder", "gemma4": "gemma4"}
    return {format: _load(f"mlx_tool_parsers_{name}", folder / f"{name}.py") for format, name in modules.items()}


def _sglang(site: Path) -> dict[str, Any]:
    from pydantic import BaseModel

    root = site / "sglang"
    for name in ("sglang", "sglang.srt", "sglang.srt.function_call", "sglang.srt.entrypoints", "sglang.srt.parser"):
        _package(name, root.joinpath(*name.split(".")[1:]))
    _package("sglang.srt.entrypoints.openai", root / "srt" / "entrypoints" / "openai")

    class Function(BaseModel):
        name: str
        description: str | None = None
        parameters: object | None = None
        strict: bool | None = None

    class Tool(BaseModel):
        type: str = "function"
        function: Function

    class ToolChoice(BaseModel):
        type: str = "function"

    protocol = types.ModuleType("sglang.srt.entrypoints.openai.protocol")
    protocol.__dict__.update(Function=Function, Tool=Tool, ToolChoice=ToolChoice)
    sys.modules[protocol.__name__] = protocol

    class Setting:
        def __getattr__(self, name: str) -> Any:
            return types.SimpleNamespace(get=lambda: False)

    environ = types.ModuleType("sglang.srt.environ")
    environ.__dict__["envs"] = Setting()
    sys.modules[environ.__name__] = environ
    detectors = {
        "hermes": ("hermes_detector", "HermesDetector"),
        "qwen3-coder": ("qwen3_coder_detector", "Qwen3CoderDetector"),
        "deepseek-v31": ("deepseekv31_detector", "DeepSeekV31Detector"),
        "llama3-json": ("llama32_detector", "Llama32Detector"),
        "pythonic": ("pythonic_detector", "PythonicDetector"),
        "gemma4": ("gemma4_detector", "Gemma4Detector"),
    }
    found: dict[str, Any] = {"Tool": Tool}
    for format, (module, name) in detectors.items():
        found[format] = getattr(importlib.import_module(f"sglang.srt.function_call.{module}"), name)
    return found


def _renderers(site: Path) -> dict[str, Any]:
    _package("renderers", site / "renderers")
    parsing = importlib.import_module("renderers.parsing")
    return {"hermes": parsing.parse_qwen3, "qwen3-coder": parsing.parse_qwen35}


def adapters(peers: dict[str, Any], format: str, tools: list[dict[str, Any]]) -> list[Adapter]:
    """The peers that read a format."""
    makers = {"mlx-lm": _mlx_adapter, "SGLang": _sglang_adapter, "renderers": _renderers_adapter}
    return [makers[name](offer, format, tools) for name, offer in peers.items() if format in offer]


def _mlx_adapter(offer: dict[str, Any], format: str, tools: list[dict[str, Any]]) -> Adapter:
    module = offer[format]
    start, end, parse = module.tool_call_start, module.tool_call_end, module.parse_tool_call

    def run(text: str) -> Any:
        # As mlx-lm's server does it: the parser gets what stands between its markers, call by call.
        found: list[Any] = []
        at = text.find(start) if start else 0
        while at >= 0:
            stop = text.find(end, at) if end else len(text)
            call = parse(text[at + len(start) : stop if stop >= 0 else len(text)], tools)
            found.extend(call) if isinstance(call, list) else found.append(call)
            at = text.find(start, stop) if end and stop >= 0 else -1
        return found

    def read(result: Any) -> Reading:
        calls = []
        for call in result:
            arguments = call["arguments"]
            calls.append((call["name"], json.loads(arguments) if isinstance(arguments, str) else arguments))
        return calls, None, None

    # The benchmark finds the calls for it, and it says nothing of content: no reading of a message.
    return Adapter("mlx-lm", run, read)


def _sglang_adapter(offer: dict[str, Any], format: str, tools: list[dict[str, Any]]) -> Adapter:
    detector = offer[format]
    given = [offer["Tool"](**tool) for tool in tools]

    def run(text: str) -> Any:
        return detector().detect_and_parse(text, given)

    def read(result: Any) -> Reading:
        return [(call.name, json.loads(call.parameters)) for call in result.calls], None, None

    return Adapter("SGLang", run, read)


def sglang_stream(
    peers: dict[str, Any], format: str, tools: list[dict[str, Any]]
) -> tuple[Callable[[list[str]], Any], Callable[[Any], Reading]] | None:
    """SGLang's detector fed in pieces, and what makes its result comparable; None where it has none."""
    offer = peers.get("SGLang", {})
    if format not in offer:
        return None
    given = [offer["Tool"](**tool) for tool in tools]

    def run(pieces: list[str]) -> Any:
        detector = offer[format]()
        return [detector.parse_streaming_increment(piece, given) for piece in pieces]

    def read(results: Any) -> Reading:
        names: dict[int, str] = {}
        arguments: dict[int, str] = {}
        for call in (call for result in results for call in result.calls):
            if call.name:
                names[call.tool_index] = call.name
            arguments[call.tool_index] = arguments.get(call.tool_index, "") + call.parameters
        return [(name, json.loads(arguments[at] or "{}")) for at, name in names.items()], None, None

    return run, read


def _renderers_adapter(offer: dict[str, Any], format: str, tools: list[dict[str, Any]]) -> Adapter:
    from fixtures.tokenizers import tokenizer

    parse, made = offer[format], tokenizer(format if format == "qwen3-coder" else "qwen")
    ids = {name: made.convert_tokens_to_ids(name) for name in ("<tool_call>", "</tool_call>", "<think>", "</think>")}
    common = {"stop_ids": set(), "tool_call_id": ids["<tool_call>"], "tool_call_end_id": ids["</tool_call>"]}
    if format == "hermes":
        common["reasoning_end_id"] = ids["</think>"]
    else:
        common |= {"think_id": ids["<think>"], "think_end_id": ids["</think>"], "tools": tools}

    def run(tokens: Any) -> Any:
        return parse(made, tokens, **common)

    def read(result: Any) -> Reading:
        return [(call.name, call.arguments) for call in result.tool_calls], None, None

    return Adapter(
        "renderers (ids)", run, read, decoded=True, prepare=lambda text: made.encode(text, add_special_tokens=False)
    )


if __name__ == "__main__":
    sys.exit(install())
