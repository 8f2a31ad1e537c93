"""`toolparse serve` as a command: it says what it found, answers, and stops when told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fixtures
from tests.conftest import ROOT
from tests.hub import Hub
from tests.hub import served as hub_with
from tests.serving.conftest import served
from toolparse.cli import cli

httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install '.[serve]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder."""
    pytest.importorskip("torch", reason="torch is not installed")
    from fixtures.tiny import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    path = tmp_path_factory.mktemp("models") / "tiny-qwen"
    tokenizer.save_pretrained(path)
    tiny_model(tokenizer).save_pretrained(path)
    return path


@contextmanager
def started(*arguments: str) -> Iterator[tuple[str, list[str]]]:
    """The command in a process of its own: its URL and what it said until it listened."""
    command = [sys.executable, "-m", "toolparse.cli", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr is not None
    said: list[str] = []
    try:
        for line in process.stderr:
            said.append(line.rstrip())
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0], said
                break
        else:
            raise AssertionError("\n".join(said))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        process.stderr.close()


@pytest.mark.slow
def test_a_model_folder(folder: Path) -> None:
    with started(str(folder)) as (url, said):
        text = "\n".join(said)
        assert re.search(r"proof +proved on its template", text)
        assert re.search(r"stops at +<\|im_end\|>", text)
        assert "TransformersEngine" in text
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "seed": 1}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).json()
        assert answer["model"] == "tiny-qwen"
        assert answer["usage"]["completion_tokens"] == 5


@pytest.mark.slow
def test_in_front_of_a_server(folder: Path) -> None:
    from tests.serving.fakes import FakeVLLM

    server = FakeVLLM([72, 105])
    with (
        served(server.app()) as engine,
        started(str(folder), "--engine", engine, "--name", "mine", "--api-key", "k") as (url, said),
    ):
        assert "VLLMEngine" in "\n".join(said)
        body = {"messages": [{"role": "user", "content": "Hi"}], "model": "mine"}
        assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).status_code == 401
        headers = {"Authorization": "Bearer k"}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=30)
        assert answer.status_code == 200
        assert server.asked[0]["max_tokens"] <= 4096


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["serve", *arguments])


def test_what_cant_be_served(folder: Path, tmp_path: Path) -> None:
    nobody = run(str(folder), "--engine", "http://127.0.0.1:9")
    assert nobody.exit_code == 1
    assert "no engine answers" in nobody.output
    bare = tmp_path / "bare"
    for path in folder.glob("tokenizer*"):
        bare.mkdir(exist_ok=True)
        (bare / path.name).write_bytes(path.read_bytes())
    untold = run(str(bare), "--engine", "http://127.0.0.1:9")
    assert untold.exit_code == 1
    assert run(str(folder), "--max-running", "0").exit_code == 2


def test_what_a_person_reads(tmp_path: Path) -> None:
    """At once and in one line: what is no model is not looked for on the hub."""
    (tmp_path / "text.jinja").write_text("{{ messages }}", encoding="utf-8")
    for source, told in {
        "my-model": "there is no file or folder my-model: a model folder, a hub id (Qwen/Qwen3-8B) or a .gguf file",
        "qwen": "'qwen' is a family's name: give a model, and --family qwen if it can't be found",
        f"{tmp_path}/text.jinja": f"{tmp_path}/text.jinja is a file: what can be served is a model folder, a hub id or a .gguf file",
        str(tmp_path): f"the folder '{tmp_path}' holds no tokenizer",
    }.items():
        result = run(source)
        assert (result.exit_code, result.output) == (2, f"Error: {told}\n")


def test_a_model_on_the_hub_at_a_revision(folder: Path, tmp_path: Path) -> None:
    """Its tokenizer is loaded from there: then an engine is looked for, of which there is none."""
    files = {path.name: path.read_text("utf-8") for path in folder.iterdir() if path.suffix in (".json", ".jinja")}
    told = {
        "tiny/qwen": "no engine answers",
        "tiny/qwen@main": "no engine answers",
        "tiny/qwen@none": "no such revision",
    }
    with hub_with(Hub({"tiny/qwen": files})) as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
        for source, words in told.items():
            command = [sys.executable, "-m", "toolparse", "serve", source, "--engine", "http://127.0.0.1:9"]
            done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == (2 if "revision" in words else 1)
            assert words in done.stderr, done.stderr
            assert "Traceback" not in done.stderr
