"""What may be given as a source, and the text that a person reads where it is no good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fixtures
import toolparse
from tests.conftest import ROOT
from tests.hub import COMMIT, Hub, served
from toolparse.errors import SourceError, UnverifiedFormatWarning
from toolparse.plugins.flags import PARSERS
from toolparse.registry import kind_of

QWEN = fixtures.template("qwen")
PROVED = "Parser('hermes', proved on its template)"  # which writes the same, and nothing else is known of the model
PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"


# ------------------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("{{ messages }}", "text"),
        ("two\nlines", "text"),
        ("qwen", "name"),
        ("GLM-4.6", "name"),
        ("Qwen/Qwen3-8B", "hub"),
        ("deepseek-ai/DeepSeek-V3.1", "hub"),
        ("Qwen/Qwen3-8B@main", "hub"),
        ("Qwen/Qwen3-8B@refs/pr/3", "hub"),
        ("./model", "path"),
        ("../a/b", "path"),
        ("/a/b", "path"),
        ("a/b/c", "path"),
        ("~/model", "path"),
        ("a/b.jinja", "path"),
        ("model.gguf", "path"),
        (".", "path"),
        ("tests", "path"),
    ],
)
def test_what_a_string_is_meant_to_be(source: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert kind_of(source) == kind


@pytest.mark.parametrize("name", sorted({name for names in PARSERS.values() for name in names.split()}))
def test_every_name_of_a_servers_parser_is_known(name: str) -> None:
    assert toolparse.parser_for(name).format is toolparse.get(name)


LISTED = {
    "gpt-oss-20b": "harmony",
    "GLM-4.6": "glm45",
    "SmolLM3": "hermes",
    "SmolLM3-3B": "hermes",
    "Qwen3-8B": "qwen",
    "qwen3_8b": "qwen",
    "Qwen3-30B-A3B-Instruct-2507": "qwen",
    "Qwen3-Coder-30B-A3B-Instruct": "qwen3-coder",
    "Qwen3.5-27B": "qwen3-coder",
    "GLM-4.7-FP8": "glm47",
    "Kimi-K2-Thinking": "kimi-k2-thinking",
    "Kimi-K2-Instruct-0905": "kimi-k2",
    "DeepSeek-V3.2-Exp": "deepseek-v31",
    "DeepSeek-V3.2": "deepseek-v32",
    "Llama-3.1-8B-Instruct": "llama3-json",
    "Mistral-7B-Instruct-v0.3": "mistral-v3",
}


@pytest.mark.parametrize(("model", "family"), LISTED.items())
def test_a_listed_model_is_read_and_marked(model: str, family: str) -> None:
    found = toolparse.detect(model)
    assert (found.format, found.verified) == (toolparse.get(family), False)
    if toolparse.registry.named(model) is not None:  # a family is called like its model
        assert repr(toolparse.parser_for(model)) == f"Parser('{family}')"
        return
    assert found.how == "name"
    with pytest.warns(UnverifiedFormatWarning, match=f"is read as '{family}', which is not proved") as warned:
        parser = toolparse.parser_for(model)
    assert warned[0].filename == __file__
    with pytest.warns(UnverifiedFormatWarning) as warned:
        toolparse.parse("Hi.", model)
    assert warned[0].filename == __file__
    assert repr(parser) == f"Parser('{family}', not verified)"
    assert repr(parser.__class__(parser.format)) == f"Parser('{family}')"


@pytest.mark.parametrize(
    "name", ["gemma-7b-it", "Mistral-7B-Instruct-v0.1", "Qwen3-Coder-Mega", "gemma-3-27b-it", "Kimi-K2-Base-x", "quen"]
)
def test_no_family_of_another_kind(name: str) -> None:
    """A name that only begins like one of ours may be another thing."""
    with pytest.raises(toolparse.UnknownFormat):
        toolparse.parser_for(name)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("quen", "'qwen'"),
        ("gptoss-20b", "'gpt-oss-20b' (harmony)"),
        ("GLM-4.7-Flash", "'GLM-4.7' (glm47)"),
        ("mistrl", "'mistral'"),
        ("hermees", "'hermes'"),
    ],
)
def test_suggestions_have_no_doubles(typed: str, meant: str) -> None:
    with pytest.raises(toolparse.UnknownFormat) as caught:
        toolparse.parser_for(typed)
    told = caught.value.told
    assert told.startswith(f"no format is called {typed!r}; did you mean ")
    assert meant in told
    names = told.partition("did you mean ")[2].rstrip("?").split(" or ")
    families = [name.partition("(")[2].rstrip(")") or name.strip("'") for name in names]
    assert len(set(families)) == len(families) <= 3
    assert "toolparse.register" not in told
    assert "toolparse.register" in str(caught.value)


# ------------------------------------------------------------------------------------------------ files and folders


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


ADDED = {"added_tokens": [{"content": "<|tool_call_start|>"}, {"content": "<|tool_call_end|>"}]}


def test_files_and_folders(tmp_path: Path) -> None:
    template = write(tmp_path / "a.jinja", QWEN)
    config = write(tmp_path / "m" / "tokenizer_config.json", json.dumps({"chat_template": QWEN}))
    tokenizer = write(tmp_path / "m" / "tokenizer.json", json.dumps(ADDED))
    for source in (template, config, tokenizer, config.parent, str(template), str(config.parent)):
        assert repr(toolparse.parser_for(source)) == PROVED, source
    write(tmp_path / "bom.jinja", b"\xef\xbb\xbf" + QWEN.encode())
    assert toolparse.detect(tmp_path / "bom.jinja").verified
    alone = write(tmp_path / "t" / "tokenizer.json", json.dumps(ADDED))
    found = toolparse.detect(alone)
    assert (found.format, found.how, found.verified) == (toolparse.get("lfm2"), "vocabulary", False)


def test_a_broken_file_beside_is_passed_over_and_told(tmp_path: Path) -> None:
    write(tmp_path / "chat_template.jinja", QWEN)
    write(tmp_path / "tokenizer_config.json", "{")
    found = toolparse.detect(tmp_path)
    assert found.verified
    write(tmp_path / "chat_template.jinja", PLAIN)
    assert "tokenizer_config.json is not JSON" in " ".join(toolparse.detect(tmp_path).evidence)


BAD_FILES: list[tuple[str, bytes | None, str]] = [
    ("absent.jinja", None, "there is no file or folder"),
    ("empty.jinja", b"", "is empty: no chat template"),
    ("blank.jinja", b" \n", "is empty: no chat template"),
    ("binary.jinja", b"{{ a }}\0\0\0", "is binary, not text"),
    ("latin.jinja", "{{ 'café' }}".encode("latin-1"), "is not UTF-8 text: invalid continuation byte at byte 7"),
    ("utf16.jinja", "{{ a }}".encode("utf-16"), "is not UTF-8 text: invalid start byte at byte 0"),
    ("model.safetensors", b"\x10\0\0\0\0\0\0\0{}", "is binary, not text"),
    ("tokenizer_config.json", b"{", "is not JSON"),
    ("tokenizer_config.json", b"[" * 100_000, "is nested too deeply"),
    ("tokenizer_config.json", b"[1]", "holds no chat_template: it is JSON, but no object"),
    ("tokenizer_config.json", b"{}", "holds no chat_template, and there is no chat_template.jinja beside it"),
    ("tokenizer_config.json", b'{"chat_template": 5}', "chat_template must be a text, or texts with their names"),
]


@pytest.mark.parametrize(("name", "data", "told"), BAD_FILES, ids=lambda part: part if isinstance(part, str) else "")
@pytest.mark.parametrize("function", [toolparse.detect, toolparse.parser_for])
def test_bad_files(tmp_path: Path, name: str, data: bytes | None, told: str, function: Any) -> None:
    if data is not None:
        write(tmp_path / name, data)
    with pytest.raises(SourceError) as caught:
        function(tmp_path / name)
    assert told in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_folders_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="holds no chat template, no tokenizer and no config.json"):
        toolparse.detect(tmp_path)
    with pytest.raises(SourceError, match="is given by its id, 'Qwen/Qwen3-8B'"):
        toolparse.detect("https://huggingface.co/Qwen/Qwen3-8B/tree/main")
    with pytest.raises(SourceError, match="can't be read: File name too long"):
        toolparse.detect("x/" * 10 + "x" * 5_000)
    huge = tmp_path / "huge.jinja"
    with huge.open("wb") as file:
        file.truncate(300_000_000)
    with pytest.raises(SourceError, match="is 300 MB long: no template"):
        toolparse.detect(huge)

    def refused(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(SourceError, match="can't be read: Permission denied"):
        toolparse.detect(write(tmp_path / "a.jinja", QWEN))


# -------------------------------------------------------------------------------------------------------------- GGUF


def make_gguf(path: Path, template: str | None, **named: str) -> Path:
    gguf = pytest.importorskip("gguf", reason="gguf is not installed: pip install 'toolparse[gguf]'")
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_name("Qwen3 8B")
    writer.add_token_list(["a", "<tool_call>", "</tool_call>", "<|im_end|>"])
    writer.add_token_types([1, 4, 4, 3])
    writer.add_eos_token_id(3)
    if template is not None:
        writer.add_chat_template(template)
    for name, text in named.items():
        writer.add_string(f"tokenizer.chat_template.{name}", text)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_gguf(tmp_path: Path) -> None:
    path = make_gguf(tmp_path / "m.gguf", QWEN)
    assert repr(toolparse.parser_for(path)) == "Parser('qwen', proved on its template)"
    assert repr(toolparse.parser_for(str(path))) == "Parser('qwen', proved on its template)"
    assert toolparse.detect(make_gguf(tmp_path / "two.gguf", PLAIN, tool_use=QWEN)).verified
    found = toolparse.detect(make_gguf(tmp_path / "none.gguf", None))
    assert not found.verified
    assert "it holds no chat template" in found.evidence


def test_a_gguf_file_that_is_cut_off(tmp_path: Path) -> None:
    whole = make_gguf(tmp_path / "m.gguf", QWEN).read_bytes()
    for length in (0, 3, 4, 10, 24, 30, 60, 200, len(whole) // 2):
        path = write(tmp_path / "cut.gguf", whole[:length])
        with pytest.raises(SourceError, match="is not a whole GGUF file; fetch it again"):
            toolparse.detect(path)
    with pytest.raises(SourceError, match="is not a whole GGUF file"):
        toolparse.detect(write(tmp_path / "text.gguf", QWEN))


@pytest.mark.parametrize(
    ("missing", "source", "extra"),
    [("gguf", "m.gguf", "toolparse[gguf]"), ("huggingface_hub", "Qwen/Qwen3-8B", "toolparse[hub]")],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, source: str, extra: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "m.gguf", b"GGUF")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SourceError) as caught:
        toolparse.detect(source)
    assert f"pip install '{extra}'" in str(caught.value)


# --------------------------------------------------------------------------------------------------------------- hub

ASK = """
import sys, toolparse
try:
    print(repr(toolparse.parser_for(sys.argv[1])))
except toolparse.ToolparseError as error:
    print(type(error).__name__, str(error), sep=": ")
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'toolparse[hub]'")
    config = json.dumps({"chat_template": QWEN, "eos_token": "<|im_end|>"})
    files = {"config.json": '{"model_type": "qwen3"}', "model.safetensors": "w" * 9_000, "tokenizer.json": "{}"}
    models = {
        "Qwen/Qwen3-8B": {"tokenizer_config.json": config, **files},
        "new/Split": {"tokenizer_config.json": "{}", "chat_template.jinja": QWEN},
        "google/gemma-7b-it": {"tokenizer_config.json": json.dumps({"chat_template": PLAIN}), **files},
    }
    with served(Hub(models)) as hub:
        yield hub


def ask(hub: Hub, source: str, home: Path, **environment: str) -> str:
    """What a new Python, whose hub this is, says of a source."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **environment}
    env = {name: value for name, value in env.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, source], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


def test_hub_ids(hub: Hub, tmp_path: Path) -> None:
    """Fetched once, the small files only; then from the cache, without a question, also when nothing answers."""
    hub.asked.clear()
    assert ask(hub, "Qwen/Qwen3-8B", tmp_path) == "Parser('qwen', proved on its template)"
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == {"config.json", "tokenizer_config.json"}
    hub.asked.clear()
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        assert ask(hub, "Qwen/Qwen3-8B", tmp_path, **environment) == "Parser('qwen', proved on its template)"
    assert hub.asked == []
    assert ask(hub, "new/Split", tmp_path) == PROVED


def test_revisions_of_hub_ids(hub: Hub, tmp_path: Path) -> None:
    for revision in ("main", COMMIT):
        source, home = f"Qwen/Qwen3-8B@{revision}", tmp_path / revision
        hub.asked.clear()
        assert ask(hub, source, home) == "Parser('qwen', proved on its template)"
        assert any(f"/resolve/{COMMIT}/" in path or f"/resolve/{revision}/" in path for path in hub.asked)
        hub.asked.clear()
        assert ask(hub, source, home) == "Parser('qwen', proved on its template)"
        assert hub.asked == []
    assert "the model on the hub has no such revision" in ask(hub, "Qwen/Qwen3-8B@none", tmp_path)


def test_commands_take_hub_ids(hub: Hub, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
    for arguments, code, told in (
        (["inspect", "Qwen/Qwen3-8B"], 0, ""),
        (["doctor", "Qwen/Qwen3-8B"], 0, ""),
        (["induce", "Qwen/Qwen3-8B"], 0, ""),
        (["inspect", "no/such"], 2, "Error: 'no/such' is no file or folder here, and the hub knows no such model"),
    ):
        command = [sys.executable, "-m", "toolparse", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith(told)
        assert len(done.stderr.splitlines()) == (code != 0)


def test_a_hub_id_is_never_answered_with_a_family_of_another_kind(hub: Hub, tmp_path: Path) -> None:
    """Without calls in its template a model is no relative of whatever is called like it."""
    told = ask(hub, "google/gemma-7b-it", tmp_path)
    assert told.startswith("UnknownFormat: no tool-call format fits 'google/gemma-7b-it'. Looked at:")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (401, "the hub knows no such model, or it is private: look at the spelling, or log in"),
        (403, "the hub does not show it to everybody: accept its terms there, and log in"),
        (404, "the hub knows no such model, or it is private: look at the spelling, or log in"),
        (500, "the hub answered 500: try again later, or give a folder"),
        ("garbage", "what the hub answered makes no sense"),
        ("offline", "it is not in the local cache, and HF_HUB_OFFLINE keeps from asking the hub"),
        ("dead", "the hub can't be reached: look at the network and HF_ENDPOINT, or give a folder"),
    ],
)
def test_what_a_hub_may_answer(hub: Hub, tmp_path: Path, answer: Any, told: str) -> None:
    environment = {"offline": {"HF_HUB_OFFLINE": "1"}, "dead": {"HF_ENDPOINT": "http://127.0.0.1:9"}}.get(answer, {})
    hub.answer = None if environment else answer
    try:
        said = ask(hub, "Qwen/Qwen3-4B", tmp_path, **environment)
    finally:
        hub.answer = None
    assert said.startswith(f"SourceError: 'Qwen/Qwen3-4B' is no file or folder here, and {told}")
    assert said.endswith(". 'Qwen3-4B' alone is read as 'qwen', which nothing proves")
    assert "\n" not in said


def test_sources_are_the_same_everywhere(tmp_path: Path) -> None:
    """`parse`, `parser_for` and `detect` take the same things."""
    text = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    path = write(tmp_path / "a.jinja", QWEN)
    for source in ("qwen", "Qwen3-8B", "qwen3_json", QWEN, {"default": QWEN}, path, str(path), toolparse.get("qwen")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnverifiedFormatWarning)
            assert toolparse.parse(text, source).tool_calls[0].name == "f"
            assert toolparse.parser_for(source).format.name == toolparse.detect(source).format.name


def test_every_listed_model_leads_to_the_family_that_lists_it() -> None:
    """But where it is called like a family: a name of a family comes first."""
    from toolparse import registry

    wrong = []
    for model, family in registry._models():
        found = registry.by_model(model)
        if found is None or (found[0] is not family and registry.named(model) is None):
            wrong.append((model, family.name, found and found[0].name))
    assert wrong == []
    assert len(list(registry._models())) > 150
