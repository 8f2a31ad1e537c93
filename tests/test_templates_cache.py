"""The disk cache: data only, the user's alone, bounded, and never a reason to hang or to fail."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, run_python
from tests.templates_at_hand import fixture_templates
from toolparse.detect import detect
from toolparse.templates.judging import detection_store
from toolparse.templates.rendering import cache
from toolparse.templates.rendering.environment import compile_template

KEY = "ab" * 32
FIXTURES = fixture_templates()
posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and FIFOs as POSIX has them")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    chosen = tmp_path / "outer" / "cache"
    monkeypatch.setenv("TOOLPARSE_CACHE", str(chosen))
    detection_store.forget()
    return chosen


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_kept_is_read_back(folder: Path) -> None:
    assert cache.read_cache("verdicts", KEY) is None
    cache.write_cache("verdicts", KEY, b"body")
    assert cache.read_cache("verdicts", KEY) == b"body"
    assert cache.read_cache("others", KEY) is None


def test_a_verdict_does_not_outlive_the_families_and_the_reader() -> None:
    """All of the library's code is in the stamp: an upgrade that changes a family's data answers anew."""
    stamped = {Path(path).relative_to(ROOT / "toolparse").as_posix() for path, _ in detection_store.code()}
    assert {"families/hermes.py", "reader/reader.py", "codecs/json.py", "templates/judging/proof.py"} <= stamped
    assert {path.relative_to(ROOT / "toolparse").as_posix() for path in (ROOT / "toolparse").rglob("*.py")} <= stamped


def test_nothing_that_is_kept_is_code(folder: Path) -> None:
    """Verdicts are all that is kept, and they are JSON: whoever writes one names a format, not a program."""
    compile_template("kept {{ 1 + 1 }}")
    detect(FIXTURES["kimi-k2"])
    (kept,) = files(folder)
    told = json.loads(kept.read_bytes()[32:])
    assert told["format"]["name"] == "kimi-k2"
    for module in ("marshal", "pickle"):
        for source in (ROOT / "toolparse" / "templates").rglob("*.py"):
            assert f"import {module}" not in source.read_text(encoding="utf-8"), source


@posix
def test_folders_and_files_are_the_user_s_alone_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0o002)
    try:
        cache.write_cache("verdicts", KEY, b"body")
    finally:
        os.umask(before)
    for path in (folder.parent, folder, folder / "verdicts"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    assert stat.S_IMODE((folder / "verdicts" / KEY).stat().st_mode) == 0o600


@posix
@pytest.mark.parametrize("which", ["", "verdicts"])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_to_is_not_used(folder: Path, which: str, mode: int) -> None:
    cache.write_cache("verdicts", KEY, b"body")
    os.chmod(folder / which, mode)
    assert cache.read_cache("verdicts", KEY) is None
    cache.write_cache("verdicts", "cd" * 32, b"body")
    os.chmod(folder / which, 0o700)
    assert cache.read_cache("verdicts", "cd" * 32) is None
    assert cache.read_cache("verdicts", KEY) == b"body"


@posix
def test_a_file_that_others_may_write_to_is_not_read(folder: Path) -> None:
    cache.write_cache("verdicts", KEY, b"body")
    os.chmod(folder / "verdicts" / KEY, 0o666)
    assert cache.read_cache("verdicts", KEY) is None


@posix
@pytest.mark.parametrize("what", ["folder", "kind", "file"])
def test_what_belongs_to_another_user_is_not_used(folder: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_cache("verdicts", KEY, b"body")
    path = {"folder": folder, "kind": folder / "verdicts", "file": folder / "verdicts" / KEY}[what]
    foreign = os.stat(path).st_ino
    fstat = os.fstat

    def told(fd: int) -> os.stat_result:
        status = fstat(fd)
        changed = list(status)
        if status.st_ino == foreign:
            changed[stat.ST_UID] = os.getuid() + 1
        return os.stat_result(changed)

    monkeypatch.setattr(cache.os, "fstat", told)
    assert cache.read_cache("verdicts", KEY) is None


@posix
@pytest.mark.parametrize("what", ["folder", "kind", "file"])
def test_links_are_not_followed(folder: Path, what: str, tmp_path: Path) -> None:
    cache.write_cache("verdicts", KEY, b"body")
    path = {"folder": folder, "kind": folder / "verdicts", "file": folder / "verdicts" / KEY}[what]
    moved = tmp_path / "moved"
    path.rename(moved)
    path.symlink_to(moved)
    assert cache.read_cache("verdicts", KEY) is None
    cache.write_cache("verdicts", KEY, b"other")
    assert what == "file" or len(files(moved)) == 1  # nothing was written through the link
    assert what != "file" or (moved.read_bytes()[32:] == b"body" and cache.read_cache("verdicts", KEY) == b"other")


@posix
@pytest.mark.parametrize("what", ["fifo", "device", "folder", "socket"])
def test_what_is_no_regular_file_is_not_waited_for(folder: Path, what: str) -> None:
    """In a child, so that one that hangs is found out."""
    cache.write_cache("verdicts", "cd" * 32, b"body")
    path = folder / "verdicts" / KEY
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "socket":
        import socket

        here = os.getcwd()
        os.chdir(path.parent)
        try:
            socket.socket(socket.AF_UNIX).bind(KEY)
        finally:
            os.chdir(here)
    else:
        path.symlink_to("/dev/zero")
    code = f"from toolparse.templates.rendering.cache import *; print(read_cache('verdicts', {KEY!r}))"
    assert run_python(code) == "None\n"


def test_a_path_that_is_not_absolute_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLPARSE_CACHE", "relative")
    cache.write_cache("verdicts", KEY, b"body")
    assert cache.cache_folder() is None
    assert cache.read_cache("verdicts", KEY) is None
    monkeypatch.delenv("TOOLPARSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    cache.write_cache("verdicts", KEY, b"body")
    assert sys.platform != "linux" or cache.cache_folder() is None
    assert not files(tmp_path)


@pytest.mark.parametrize("key", ["", "..", "../" + "ab" * 4, "AB" * 32, "ab/cd", "a\0b"])
def test_keys_name_no_paths(key: str, folder: Path) -> None:
    cache.write_cache("verdicts", key, b"body")
    assert cache.read_cache("verdicts", key) is None
    assert not files(folder.parent)


def test_the_folder_stays_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_FILES", 40)
    monkeypatch.setattr(cache, "_WRITES_PER_LOOK", 4)
    for number in range(100):
        cache.write_cache("verdicts", f"{number:08x}", b"body")
    assert len(files(folder)) <= 44
    assert cache.read_cache("verdicts", f"{99:08x}") == b"body", "the oldest go first"
    monkeypatch.setattr(cache, "MAX_BYTES", 10_000)
    for number in range(100):
        cache.write_cache("verdicts", f"{number:08x}", b"body" * 100)
    assert sum(path.stat().st_size for path in files(folder)) <= 12_000


def test_what_is_too_large_is_neither_kept_nor_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_cache("verdicts", KEY, b"x" * cache.MAX_ENTRY)
    assert not files(folder)
    cache.write_cache("verdicts", KEY, b"x" * 1000)
    monkeypatch.setattr(cache, "MAX_ENTRY", 100)
    assert cache.read_cache("verdicts", KEY) is None


def test_damage_is_ignored(folder: Path) -> None:
    cache.write_cache("verdicts", KEY, b"body")
    (folder / "verdicts" / KEY).write_bytes(b"damaged" * 30)
    assert cache.read_cache("verdicts", KEY) is None


def test_an_unwritable_cache_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("TOOLPARSE_CACHE", str(blocked / "inside"))
    cache.write_cache("verdicts", KEY, b"body")
    assert cache.read_cache("verdicts", KEY) is None


def test_the_cache_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLPARSE_CACHE", "off")
    assert cache.cache_folder() is None
    cache.write_cache("verdicts", KEY, b"x")
    assert cache.read_cache("verdicts", KEY) is None


# ---------------------------------------------------------------------------------------- verdicts are data of a shape


def changed(told: dict[str, Any], path: str, value: Any) -> bytes:
    made: Any = json.loads(json.dumps(told))
    at = made
    *outer, last = path.split(".")
    for key in outer:
        at = at[key]
    at[last] = value
    return json.dumps(made).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", {"class": "Format"}),
        ("format.call", 3),
        ("format.call", "{{name}}"),
        ("format.name", ""),
        ("format.section", "no hole"),
        ("format.ends", "a text"),
        ("format.ends", [" "]),
        ("format.calls_in_reasoning", "always"),
        ("format.syntax", {"quotes": 1}),
        ("how", "because"),
        ("verified", "yes"),
        ("problems", [{"code": "x"}]),
        ("problems", [{"code": "x", "message": "y", "severity": "fatal"}]),
        ("message_style", {"arguments": "object"}),
        ("checks", [{"name": "x", "status": "fine"}]),
        ("evidence", ["x"] * 100_000),
        ("fingerprint", "short"),
        ("unheard_of", 1),
    ],
)
def test_a_verdict_that_does_not_fit_the_schema_is_absent(path: str, value: Any, folder: Path) -> None:
    found = detect(FIXTURES["kimi-k2"])
    (kept,) = files(folder)
    told = json.loads(kept.read_bytes()[32:])
    assert detection_store.load(kept.name, FIXTURES["kimi-k2"]) == found
    cache.write_cache("verdicts", kept.name, changed(told, path, value))
    assert detection_store.load(kept.name, FIXTURES["kimi-k2"]) is None
    detection_store.forget()
    assert detect(FIXTURES["kimi-k2"]) == found


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": null}'])
def test_what_is_no_verdict_is_absent(body: bytes) -> None:
    assert detection_store.decode(body, "") is None


def test_every_registered_format_travels_as_data() -> None:
    import toolparse
    from toolparse.templates.judging.detection import Detection

    for entry in toolparse.families().values():
        if isinstance(entry, toolparse.Format):
            found = Detection(entry, "behaviour", template="t")
            data = detection_store.encode(found)
            assert data is not None
            assert detection_store.decode(data, "t") == found
