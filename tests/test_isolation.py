"""Templates that nobody vouched for are examined in a process of their own, with the same outcome."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
import threading
from pathlib import Path

import pytest

import toolparse
from tests.conftest import ROOT, run_python
from tests.templates_at_hand import fixture_templates, renamed_markers
from toolparse import registry
from toolparse.detect import detect
from toolparse.errors import TemplateError
from toolparse.templates.judging import detection_store, isolation

FIXTURES = fixture_templates()
STRANGE = "{#- a stranger's -#}" + FIXTURES["kimi-k2"]
HANGS = "{% set calls = messages[-1].tool_calls %}{% for a in range(9) %}{{ a }}{% endfor %}"


pytestmark = pytest.mark.usefixtures("no_cache", "own_registry")


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLPARSE_ISOLATION", "auto")


def alive() -> int | None:
    child = isolation._child
    return child.pid if child is not None and child.poll() is None else None


@pytest.mark.parametrize("name", ["kimi-k2", "qwen3-coder", "lfm2", "deepseek-v3", "renamed", "none", "broken"])
def test_the_outcome_is_that_of_this_process(name: str) -> None:
    text = {
        "renamed": renamed_markers(FIXTURES["lfm2"]),
        "none": "{% for m in messages %}{{ m.content }}{% endfor %}",
        "broken": "{% for m in messages %}{{ m.tool_calls",
    }.get(name) or "{#- a stranger's -#}" + FIXTURES[name]
    isolated = detect(text)
    assert alive() is not None
    detection_store.forget()
    assert detect(text, isolation="off") == isolated


def test_the_child_stays_warm_and_can_be_ended() -> None:
    detect(STRANGE)
    first = alive()
    detect(STRANGE + " ")
    assert alive() == first is not None
    isolation.close()
    assert alive() is None
    detect(STRANGE + "  ")
    assert alive() not in (None, first)


def test_this_process_renders_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, so that what others loaded does not count."""
    code = (
        "import sys, toolparse; found = toolparse.detect(sys.stdin.read())\n"
        "assert found.verified and found.format.name == 'kimi-k2'\n"
        "print([name for name in ('jinja2', 'toolparse.templates.rendering.environment') if name in sys.modules])"
    )
    assert run_python(code, stdin=STRANGE) == "[]\n"


def test_who_vouches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template on the list, one that was registered, and whoever says `off`."""
    monkeypatch.setattr(isolation, "_ask", lambda _: pytest.fail("asked a child"))
    assert detect(FIXTURES["kimi-k2"]).verified
    assert detect(STRANGE, isolation="off").verified
    monkeypatch.setenv("TOOLPARSE_ISOLATION", "off")
    assert detect(STRANGE + " ").verified
    monkeypatch.setenv("TOOLPARSE_ISOLATION", "auto")
    family = toolparse.get("kimi-k2")
    toolparse.register(dataclasses.replace(family, name="kimi-of-mine", aliases=()), templates=[STRANGE + "  "])
    assert detect(STRANGE + "  ").how == "exact text"


def test_the_fixtures_and_only_templates_are_on_the_list() -> None:
    assert all(isolation.vouched(registry.template_hash(text)) for text in FIXTURES.values())
    assert not isolation.vouched(registry.template_hash(STRANGE))
    assert all(len(line) == 64 for line in isolation._vouched())


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("{{ ''.__class__ }}", ".__class__"),
        ("{{ x['__init__'] }}", "'__init__'"),
        ("{{ cycler(1, 2) }}", "cycler()"),
        ("{{ 'x'.center(99) }}", ".center()"),
        ("{{ x | attr('y') }}", "|attr"),
        ("{{ 'x' * 900000000 }}", "900000000"),
        ("{{ 2 ** 99 }}", "Pow"),
        ("{% include 'x' %}", "Include"),
        ("{{ x['f'](1) }}", "a call of Getitem"),
        ("{{ messages[0].content | trim }}{{ raise_exception('no') }}", ""),
    ],
)
def test_who_is_vouched_for_holds_plain_things_only(text: str, thing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("vouched_templates")
    assert list(script.odd_things(text)) == ([thing] if thing else [])
    for source in fixture_templates().values():
        assert list(script.odd_things(source)) == []


def test_formats_that_were_registered_are_known_there() -> None:
    text = renamed_markers(FIXTURES["lfm2"])
    induced = detect(text)
    assert induced.how == "induced"
    toolparse.register(dataclasses.replace(induced.format, name="lfm2-of-mine"))
    found = detect(text)
    assert (found.how, found.format and found.format.name) == ("behaviour", "lfm2-of-mine")
    toolparse.register(toolparse.FunctionParser(lambda _: [], name="lfm2-of-mine"), overwrite=True)
    assert detect(text).how == "induced"


@pytest.mark.parametrize("asked", ["sometimes", "on"])
def test_an_unknown_mode_is_told(asked: str) -> None:
    with pytest.raises(ValueError, match="isolation is one of 'auto', 'required', 'off'"):
        detect(STRANGE, isolation=asked)


def test_where_no_child_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    isolation.close()
    monkeypatch.setattr(isolation.sys, "executable", str(ROOT / "no" / "python"))
    assert detect(STRANGE).verified, "the limits of this process hold"
    detection_store.forget()
    with pytest.raises(OSError):
        detect(STRANGE, isolation="required")


@pytest.mark.parametrize("end", ["dies", "hangs", "talks nonsense", "talks without an end"])
def test_a_child_that_fails_is_a_reason_and_the_next_one_works(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = {
        "dies": "os._exit(1)",
        "hangs": "import time; time.sleep(600)",
        "talks nonsense": "told.write((5).to_bytes(8, 'big') + b'nothi'); told.flush(); time.sleep(600)",
        "talks without an end": "told.write((1 << 40).to_bytes(8, 'big')); told.flush(); time.sleep(600)",
    }
    program = (
        "import os, sys, time; told = os.fdopen(1, 'wb'); "
        "told.write((9).to_bytes(8, 'big') + b'toolparse'); told.flush(); sys.stdin.buffer.read(8); " + actions[end]
    )
    isolation.close()
    with monkeypatch.context() as patch:
        patch.setattr(isolation, "_PROGRAM", program)
        patch.setattr(isolation, "PATIENCE", 2.0)
        found = detect(STRANGE)
        assert found.format is None
        assert any("the process that examined the template" in line for line in found.evidence)
        isolation.close()
    assert detect(STRANGE).verified, "what may have been the machine's fault is not remembered"


def test_memory_and_files_are_limited_there(tmp_path: Path) -> None:
    program = """
import json, os, sys
from toolparse.templates.judging import isolation_child
isolation_child._limit_process()
said = {}
try:
    bytearray(3 << 30)
except MemoryError:
    said["memory"] = True
try:
    with open(sys.argv[1], "w") as file:
        file.write("x")
except OSError:
    said["files"] = True
print(json.dumps(said))
"""
    if sys.platform != "linux":
        pytest.skip("the limits are those of Linux here")
    assert json.loads(run_python(program, tmp_path / "never-written")) == {"memory": True, "files": True}


def test_secrets_of_the_environment_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    isolation.close()
    detect(STRANGE)
    pid = alive()
    if not os.path.exists(f"/proc/{pid}/environ"):
        pytest.skip("no /proc to look into")
    assert b"hf_secret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_several_threads_share_it() -> None:
    isolation.close()
    found: list[bool] = []
    texts = [STRANGE + " " * number for number in range(6)]
    threads = [threading.Thread(target=lambda text=text: found.append(detect(text).verified)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [True] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_starts_its_own() -> None:
    code = """
import os, sys, toolparse
from toolparse.templates.judging import isolation
text = sys.stdin.read()
assert toolparse.detect(text).verified
before = isolation._child.pid
pid = os.fork()
ok = toolparse.detect(text + " ").verified
if pid == 0:
    os._exit(0 if ok and isolation._child.pid != before else 1)
assert ok and isolation._child.pid == before
assert os.waitpid(pid, 0)[1] == 0
print("fine")
"""
    assert run_python(code, stdin=STRANGE) == "fine\n"


def test_a_broken_template_is_told_in_the_same_words() -> None:
    with pytest.raises(TemplateError):
        isolation.examine(isolation.Task("\ud800", {}, (), True, (), ()))
    assert detect("{{ messages[0].tool_calls \ud800").format is None
