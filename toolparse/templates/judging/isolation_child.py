"""The other end of `isolation.py`: a process that examines templates, one after the other, within resource limits."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO

import msgspec

from toolparse.errors import TemplateError
from toolparse.families import all_formats
from toolparse.templates.judging import detection_store
from toolparse.templates.judging.detection import Detection
from toolparse.templates.judging.examination import examine
from toolparse.templates.judging.inputs import Source
from toolparse.templates.judging.isolation import _HELLO, Answer, Task, receive, send

_MEMORY = 1 << 30  # bytes beyond what the process has once everything is loaded
_CPU = 15  # seconds for one template
_IDLE = 60.0  # seconds without a task after which the process ends
_TASK = 64 << 20  # bytes
_TASKS = 500  # after which a fresh process starts: what a template leaves behind does not add up


def serve() -> None:
    """Answer tasks on standard input until there are no more."""
    asked, told = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)  # whatever prints does not write into the answers
    _limit_process()
    send(told, _HELLO)
    for _ in range(_TASKS):
        try:
            _wait(asked)
            task = msgspec.json.decode(receive(asked, _TASK), type=Task)
        except (EOFError, TimeoutError):
            return
        _limit_time()
        try:
            answer = Answer(verdict=msgspec.Raw(_verdict(task)))
        except TemplateError as error:
            answer = Answer(error=str(error)[:1000])
        except MemoryError:
            send(told, msgspec.json.encode(Answer(error="the template needs too much memory")))
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the other end is told
            answer = Answer(error=f"{type(error).__name__}: {error}"[:1000].encode("utf-8", "replace").decode())
        send(told, msgspec.json.encode(answer))


def _verdict(task: Task) -> bytes:
    families = {family.name: family for family in all_formats()} if task.use_registry else {}
    families.update({family.name: family for family in task.families})
    known = [family for name, family in families.items() if name not in task.hidden]
    source = Source({"default": task.text}, dict(task.tokens), task.names)
    detection_store.forget()
    data = detection_store.encode(examine(task.text, source, None, known))
    if data is None:
        untold = Detection(None, evidence=("what the template writes cannot be told as text",), template=task.text)
        data = detection_store.encode(untold) or b""
    return data


def _limit_process() -> None:
    """Bounded memory, no files to write, no core dumps, as far as the system has such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    size = _MEMORY * 4
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + _MEMORY
    for limit, value in (("RLIMIT_AS", size), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", 64)):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            resource.setrlimit(getattr(resource, limit), (value, value))


def _limit_time() -> None:
    """What the next task may take of the processor: the process is killed beyond it."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + _CPU
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _wait(pipe: IO[bytes]) -> None:
    """Wait for a task; raises TimeoutError when the process has been idle for long."""
    if os.name != "posix":
        return  # no select on pipes: there it ends with the process that started it
    import select

    if not select.select([pipe], [], [], _IDLE)[0]:
        raise TimeoutError
