"""First use from several threads: nobody finds half a registry, and no verdict is reached with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_python

_AT_ONCE = """
import json, sys, threading
sys.setswitchinterval(1e-6)
import toolparse

kind, text = sys.argv[1], open(sys.argv[2], encoding="utf-8").read()
start, said = threading.Barrier(8), []

def work():
    start.wait()
    try:
        if kind == "get":
            said.append(toolparse.get("hermes").name)
        elif kind == "families":
            said.append(len(toolparse.families()))
        elif kind == "parse":
            said.append(len(toolparse.parse('<tool_call>{"name": "f", "arguments": {}}</tool_call>', "hermes").tool_calls))
        else:
            found = toolparse.detect(text)
            said.append([found.format.name, found.how, found.verified])
    except BaseException as error:
        said.append(f"{type(error).__name__}: {error}")

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(said))
"""


@pytest.mark.parametrize("kind", ["get", "families", "parse", "detect"])
def test_first_use_from_several_threads(kind: str, tmp_path: Path) -> None:
    template = ROOT / "fixtures" / "templates" / "lfm2.jinja"
    for _ in range(2):  # the second time with what the first kept on disk
        said = json.loads(run_python(_AT_ONCE, kind, template, TOOLPARSE_CACHE=str(tmp_path / "cache")))
        assert len(said) == 8
        assert all(one == said[0] for one in said), said
        assert kind != "detect" or said[0] == ["lfm2", "behaviour", True]


_REGISTERING = """
import threading, toolparse
from toolparse import registry

stop = threading.Event()
errors = []

def register():
    for number in range(300):
        toolparse.register(toolparse.Format(f"own-{number}", call="<x>{{name}} {{arguments}}</x>"))
    stop.set()

def look():
    try:
        while not stop.is_set():
            len(registry.formats()), registry.added(), [name for name in toolparse.families()]
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=look) for _ in range(3)] + [threading.Thread(target=register)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not errors, errors
"""


def test_the_registry_can_be_read_while_others_register() -> None:
    run_python(_REGISTERING)


def test_a_verdict_reached_while_something_is_registered_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registry: None
) -> None:
    import toolparse
    from toolparse.templates.judging import detection_store, ladder

    monkeypatch.setenv("TOOLPARSE_CACHE", str(tmp_path / "cache"))
    detection_store.forget()
    text = (ROOT / "fixtures" / "templates" / "lfm2.jinja").read_text(encoding="utf-8")
    examine = ladder._examine

    def meanwhile(*arguments: object) -> object:
        found = examine(*arguments)
        toolparse.register(toolparse.Format("registered-meanwhile", call="<zq>{{name}} {{arguments}}</zq>"))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ladder, "_examine", meanwhile)
        assert toolparse.detect(text).verified
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
