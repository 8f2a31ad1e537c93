"""The README keeps its word: its table and its commands are what there is. Its sessions run in test_pages.py."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import toolparse
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_registering_is_one_line() -> None:
    line = next(line for line in README.split("\n") if line.startswith("toolparse.register("))
    try:
        exec(line, {"toolparse": toolparse})  # the README's own line
        parser = toolparse.parser_for("mine")
        text = parser.render([{"name": "f", "arguments": {"x": 1}}])
        assert text == '<call>{"tool": "f", "args": {"x": 1}}</call>'
        call = parser.parse(text).tool_calls[0]
        assert (call.name, call.arguments) == ("f", {"x": 1})
    finally:
        unregister = getattr(toolparse, "unregister", None)
        if unregister:
            unregister("mine")


def test_table_of_families_is_current() -> None:
    check = [sys.executable, str(ROOT / "scripts" / "families_table.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z-]+)", README))))
def test_make_targets_exist(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_it_fits_on_a_screen_and_a_half() -> None:
    assert README.count("\n") < 150


def test_its_pictures_are_small_and_made_by_the_script() -> None:
    names = re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", README)
    made = (ROOT / "scripts" / "readme_pictures.py").read_text(encoding="utf-8")
    assert {Path(name).name for name in names} == {"inspect.png", "rollout.png"}
    for name in names:
        assert name in made
        assert (ROOT / name).stat().st_size < 150_000


@pytest.fixture(scope="module")
def folder_of_a_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `my-model` lies: a small random one, with the template of a family."""
    for library in ("torch", "transformers", "tokenizers"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    import fixtures
    from fixtures.tiny import tiny_model, tiny_tokenizer

    folder = tmp_path_factory.mktemp("readme")
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    tokenizer.save_pretrained(folder / "my-model")
    tiny_model(tokenizer).save_pretrained(folder / "my-model")
    return folder


def fence_after(heading: str, language: str = "") -> str:
    found = re.search(rf"^## {heading}\n.*?^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.slow
def test_serving_as_written(folder_of_a_model: Path) -> None:
    """The server is started by its line, but for the port, and asked what curl asks."""
    for library in ("uvicorn", "starlette"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    start, ask = fence_after("Serve").split("\n", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = shlex.split(start.replace("8080", port))
    asked = shlex.split(ask.replace("8080", port))
    assert (words[0], asked[0], asked[2]) == ("toolparse", "curl", "-d")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "toolparse", *words[1:]]
    log = folder_of_a_model / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(command, cwd=folder_of_a_model, env=env, stdout=file, stderr=file)
    try:
        while server.poll() is None and b"serving" not in log.read_bytes():
            time.sleep(0.1)
        time.sleep(0.5)
        request = urllib.request.Request(asked[1], asked[3].encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["choices"][0]["message"]["role"] == "assistant"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_training_as_written(folder_of_a_model: Path) -> None:
    for library in ("trl", "datasets", "accelerate"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-c", fence_after("Train", "python")]
    done = subprocess.run(command, cwd=folder_of_a_model, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reward" in done.stdout + done.stderr


def test_commands_exist() -> None:
    from toolparse.cli import cli

    named = set(re.findall(r"^toolparse ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= set(cli.commands)


EXAMPLES = sorted(
    path for path in (ROOT / "examples").glob("*.py") if not path.name.startswith(("train_", "_", "warehouse"))
)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in EXAMPLES])
def test_examples_run(path: Path) -> None:
    if path.name == "inspect_model.py" and importlib.util.find_spec("inspect_ai") is None:
        pytest.skip("inspect-ai is not installed")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""
