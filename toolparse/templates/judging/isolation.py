"""Detection of a stranger's template in a process of its own.

A chat template is a program. The sandbox and the limits (`templates/rendering/`) hold in this process as well, but they
are a list of what somebody thought of; a process with resource limits is what holds when the list has a gap. So a
template that no person vouched for is compiled, rendered and judged in a child that has nothing worth having: no
environment variables but the few that Python needs, no place to write to, bounded memory and time. What comes back is
data, checked against the schema of verdicts (`detection_store.py`); a child that hangs, dies or answers anything else
gives a `TemplateError`.

The child is started when it is first needed, kept warm, and ends by itself when it is idle or when this process ends.
`mode` says when it is used; `docs/decisions/` says why it is the default.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import msgspec

from toolparse.errors import TemplateError
from toolparse.format import Format
from toolparse.templates.judging import detection_store
from toolparse.templates.judging.detection import Detection

MODES = ("auto", "required", "off")
#: Seconds: what a child has for one template, and for its start.
PATIENCE = 20.0
_START = 60.0
_ANSWER = 4 << 20  # bytes
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "PYTHONDONTWRITEBYTECODE")
_HELLO = b"toolparse"

_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from toolparse.templates.judging.isolation_child import serve; serve()"
)


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a child needs to know: the template, the evidence beside it, and which families there are.

    `families`: the formats registered beside the library's own; `hidden`: names whose format is another's now.
    """

    text: str
    tokens: dict[str, str]
    names: tuple[str, ...]
    use_registry: bool
    families: tuple[Format, ...]
    hidden: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict as data, or why there is none."""

    verdict: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""


def mode(asked: str | None) -> str:
    """`auto`, `required` or `off`: what was asked for, else `TOOLPARSE_ISOLATION`, else `auto`."""
    chosen = (asked or os.environ.get("TOOLPARSE_ISOLATION") or "auto").lower()
    if chosen not in MODES:
        raise ValueError(f"isolation is one of {', '.join(map(repr, MODES))}, not {chosen!r}")
    return chosen


@lru_cache(maxsize=1)
def _vouched() -> frozenset[str]:
    lines = Path(__file__).with_name("vouched.txt").read_text(encoding="ascii").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def vouched(digest: str) -> bool:
    """Whether somebody has looked at the template of this sha256: it is on the list that comes with the library."""
    return digest in _vouched()


def possible() -> bool:
    """Whether this system can start a Python of its own."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and sys.platform not in ("emscripten", "wasi")


def examine(task: Task) -> Detection:
    """The verdict of a child on a template. Raises TemplateError; OSError where no child can be started."""
    try:
        question = msgspec.json.encode(task)
    except UnicodeEncodeError:
        raise TemplateError("the template holds lone surrogates: it is no text") from None
    data = _ask(question)
    try:
        answer = msgspec.json.decode(data, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise TemplateError("the process that examined the template answered nonsense") from None
    if answer.error:
        raise TemplateError(answer.error[:1000])
    found = detection_store.decode(bytes(answer.verdict), task.text)
    if found is None:
        raise TemplateError("the process that examined the template gave no verdict")
    return found


# --------------------------------------------------------------------------------------------------------- the child

_lock = threading.Lock()
_child: subprocess.Popen[bytes] | None = None


def _ask(question: bytes) -> bytes:
    """A question to the child, started if need be; one at a time."""
    global _child
    with _lock:
        child = _child
        if child is None or child.poll() is not None:
            child = _child = _start()
        try:
            return _exchange(child, question, PATIENCE)
        except (OSError, EOFError):
            _end(child)
            _child = None
            raise TemplateError(
                "the process that examined the template died or took too long: it is not examined again here"
            ) from None


def _start() -> subprocess.Popen[bytes]:
    path = [entry for entry in sys.path if os.path.isabs(entry)]
    root = str(Path(__file__).resolve().parents[3])
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    options: dict[str, Any] = {"start_new_session": True, "cwd": "/"} if os.name == "posix" else {}
    child = subprocess.Popen(
        [sys.executable, "-I", "-c", _PROGRAM, json.dumps([root, *path])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**kept, "TOOLPARSE_CACHE": "off", "TOOLPARSE_ISOLATION": "off"},
        **options,
    )
    try:
        if _exchange(child, None, _START) != _HELLO:
            raise EOFError
    except (OSError, EOFError) as error:
        _end(child)
        raise OSError("no process could be started to examine templates in") from error
    return child


def _exchange(child: subprocess.Popen[bytes], question: bytes | None, seconds: float) -> bytes:
    """Send a question (or none) and read the answer; a child that takes longer is killed, which ends the reading."""
    assert child.stdin is not None
    assert child.stdout is not None
    timer = threading.Timer(seconds, child.kill)
    timer.daemon = True
    timer.start()
    try:
        if question is not None:
            send(child.stdin, question)
        return receive(child.stdout, _ANSWER)
    finally:
        timer.cancel()


def send(pipe: IO[bytes], data: bytes) -> None:
    """Write a message: its length in eight bytes, then itself."""
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def receive(pipe: IO[bytes], limit: int) -> bytes:
    """Read a message. Raises EOFError where there is none, or one of more than `limit` bytes."""
    head = pipe.read(8)
    size = int.from_bytes(head, "big")
    if len(head) < 8 or size > limit:
        raise EOFError
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    with contextlib.suppress(OSError):
        child.communicate(timeout=10)


def close() -> None:
    """End the child, if there is one."""
    global _child
    with _lock:
        if _child is not None:
            _end(_child)
            _child = None


def _in_a_fork() -> None:
    """A forked process has no child of its own: the pipes are its parent's."""
    global _child, _lock
    _lock = threading.Lock()
    if _child is not None:
        for pipe in (_child.stdin, _child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    os.close(pipe.fileno())
        _child.returncode = 0  # not this process's to wait for
        _child = None


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)
