"""Running code that nobody has read, in processes with limits on CPU time, memory, wall time, files and output.

In reinforcement learning the author of the code is an optimizer against the reward: whatever can be reached will be
tried. There are two kinds of isolation, and every result says which it had (``Output.isolation``).

``bubblewrap``: where the system has ``bwrap`` and lets it make namespaces. The code sees no network, a read-only system
without homes or data, its own ``/tmp`` and its own processes, and can write to its folder only. One budget of CPU time,
memory, processes and disk counts for all that it starts. It still runs on the same kernel: a hole in the kernel is a
way out.

``process``: everywhere else. A crash, a hang, a leak, an endless print can't hurt the run, and what the code leaves
behind is ended. That is for accidents. Code that means it has the user's rights on files, network and processes, the
trainer included. For code of strangers ask for ``isolation="required"``, or run the whole job in a container or a
virtual machine.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import logging
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from . import _sandbox_child

__all__ = ["CodeSandbox", "Isolation", "Limits", "Output", "SandboxError", "bubblewrap", "isolated", "run_code"]

logger = logging.getLogger(__name__)

Isolation = Literal["auto", "required", "process"]
"""``auto``: bubblewrap where it works, else a process; ``required``: bubblewrap or an error; ``process``: never it."""

_TICK = 0.05  # seconds between two looks at what the child uses
_OWN_MB = 64  # memory of the interpreters that watch, and of shared pages that are counted twice


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run of untrusted code may use.

    Args:
        cpu_seconds: CPU time of everything that it starts, together.
        wall_seconds: Time until it is stopped.
        memory_mb: MiB of memory: for each process, and for all together (looked at every 50 ms).
        output_bytes: Bytes that it may print, and bytes of its result.
        file_bytes: Bytes of a single file.
        folder_mb: MiB by which its folder may grow in one run (looked at every half second).
        processes: Processes at the same time.
    """

    cpu_seconds: float = 5.0
    wall_seconds: float = 10.0
    memory_mb: int = 512
    output_bytes: int = 1 << 20
    file_bytes: int = 1 << 26
    folder_mb: int = 256
    processes: int = 64

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise ValueError(f"Limits.{name} must be positive, got {getattr(self, name)!r}")


class SandboxError(RuntimeError):
    """The child didn't produce a result; the message says why, in words that a model can act on."""


class Output(str):
    """What code printed. ``isolation`` is ``bubblewrap`` or ``process``; ``stopped`` says which limit ended it."""

    isolation: str
    stopped: str | None

    @classmethod
    def of(cls, text: str, isolation: str, stopped: str | None) -> Output:
        """The text with what is known about the run."""
        out = cls(text)
        out.isolation, out.stopped = isolation, stopped
        return out


# -- what the system has -----------------------------------------------------------------------------------


@functools.cache
def bubblewrap() -> tuple[tuple[str, ...], str]:
    """The start of a command line that isolates, or nothing and the reason. Tried once per process."""
    path = shutil.which("bwrap")
    if path is None:
        return (), "bwrap is not installed (the package is called bubblewrap)"
    if not sys.platform.startswith("linux"):
        return (), "bubblewrap works on Linux only"
    base = [
        path,
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"),
    ]
    why = ""
    # The second is for versions before 0.8.
    for command in ([*base, "--disable-userns", "--size", str(64 << 20)], base):
        with tempfile.TemporaryDirectory() as folder:
            full = [*_mounted(command, Path(folder), ()), sys.executable, "-I", "-c", "print(1)"]
            try:
                done = subprocess.run(full, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
            except (OSError, subprocess.TimeoutExpired) as error:
                return (), f"bwrap could not be started: {error}"
        if done.returncode == 0:
            return tuple(command), ""
        why = done.stderr.decode("utf-8", "replace").strip()[:300]
    return (), f"bwrap can't make namespaces here: {why}"


def _mounted(command: Sequence[str], folder: Path, readable: Sequence[str]) -> list[str]:
    """The command line with what the code can see: the system, Python, ``readable``, and its folder."""
    system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"]
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent)]
    out = [*command, "--tmpfs", "/tmp"]  # nosec B108
    paths = [*system, *python, _sandbox_child.__file__, *readable]
    bound: list[str] = []
    # Outer folders first, and nothing twice; where links lead must be there as well.
    for path in sorted({*paths, *map(os.path.realpath, paths)}, key=len):
        if not any(path == outer or path.startswith(outer.rstrip("/") + "/") for outer in bound):
            bound.append(path)
            out += ["--ro-bind-try", path, path]
    return [*out, "--bind", str(folder), "/sandbox", "--chdir", "/sandbox", "--remount-ro", "/", "--"]


def _chosen(isolation: Isolation) -> tuple[str, ...]:
    """The isolating command line, or nothing. Raises SandboxError where it is required and can't be had."""
    if isolation not in ("auto", "required", "process"):
        raise ValueError(f"isolation must be 'auto', 'required' or 'process', got {isolation!r}")
    if isolation == "process":
        return ()
    command, why = bubblewrap()
    if not command:
        if isolation == "required":
            raise SandboxError(f"isolation='required', but there is none: {why}")
        _say_once(why)
    return command


@functools.cache
def _say_once(why: str) -> None:
    logger.warning("code runs in plain processes, which isolate accidents and no attacks: %s", why)


# -- one run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outcome:
    answer: dict[str, Any] | None
    output: str
    why: str | None
    isolation: str


def _run_child(
    job: dict[str, Any], limits: Limits, folder: Path, isolation: Isolation, readable: Sequence[str] = ()
) -> _Outcome:
    """Run one job in a fresh interpreter; ``folder`` is its working folder."""
    command = _chosen(isolation)
    job = {**job, **asdict(limits), "own_users": bool(command)}
    python = [sys.executable, "-I", "-u", _sandbox_child.__file__]
    answer_end, child_end = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, answer_end)
        with tempfile.TemporaryFile() as source, open(child_end, "wb"):  # closed here once the child has it
            source.write(json.dumps(job).encode("utf-8"))
            source.seek(0)
            child = subprocess.Popen(
                [*(_mounted(command, folder, readable) if command else []), *python, str(child_end)],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={
                    "PATH": os.defpath,
                    "LANG": "C.UTF-8",
                    "HOME": "/sandbox" if command else str(folder),
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
                start_new_session=True,
                pass_fds=(child_end,),
            )
        watch = stack.enter_context(_Watch(child, answer_end, limits, folder))
        why = watch.until_it_ends()
    text = watch.output.decode("utf-8", errors="replace")
    kind = "bubblewrap" if command else "process"
    if why is None:
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(watch.answer)
            if isinstance(found, dict):
                return _Outcome(found, text, None, kind)
        why = _reason(child.returncode, text, limits)
    return _Outcome(None, text, why, kind)


def _reason(status: int, text: str, limits: Limits) -> str:
    """Why there is no answer, by how the child ended."""
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL, 128 + signal.SIGXCPU):
        return f"stopped: it used more than {limits.cpu_seconds:g} s of CPU time, or was killed for memory"
    if status == 128 + signal.SIGXFSZ:
        return f"stopped: it wrote a file of more than {limits.file_bytes} bytes"
    if "MemoryError" in text:
        return f"stopped: it needed more than {limits.memory_mb} MiB of memory"
    return f"ended without a result (exit status {status})"


class _Watch:
    """Reads what a child writes, looks at what its processes use, and ends them all."""

    def __init__(self, child: subprocess.Popen[bytes], answer_end: int, limits: Limits, folder: Path) -> None:
        assert child.stdout is not None
        self.child = child
        self.limits = limits
        self.folder = folder
        self.output = bytearray()
        self.answer = bytearray()
        self._seen: dict[int, str] = {}  # processes by id, with their starting time: ids are used again
        self._selector = selectors.DefaultSelector()
        for descriptor, sink in ((child.stdout.fileno(), self.output), (answer_end, self.answer)):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, sink)
        self._exit = os.pidfd_open(child.pid) if hasattr(os, "pidfd_open") else None
        if self._exit is not None:
            self._selector.register(self._exit, selectors.EVENT_READ)

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()
        self._selector.close()
        if self._exit is not None:
            os.close(self._exit)
        assert self.child.stdout is not None
        self.child.stdout.close()

    def until_it_ends(self) -> str | None:
        """Wait for the child; why it was stopped, None if it ended by itself."""
        limits = self.limits
        started = time.monotonic()
        before = _folder_bytes(self.folder)
        for tick in itertools.count():
            ended = self.child.poll() is not None
            self._read(0 if ended else _TICK)
            if len(self.output) > limits.output_bytes:
                del self.output[limits.output_bytes :]
                return f"stopped: it wrote more than {limits.output_bytes} bytes"
            if len(self.answer) > limits.output_bytes:
                return f"stopped: its result has more than {limits.output_bytes} bytes"
            if ended:
                return None
            if time.monotonic() - started > limits.wall_seconds:
                return f"stopped: it ran longer than {limits.wall_seconds:g} s"
            cpu, memory, count = self._usage()
            if cpu > limits.cpu_seconds + 1:
                return f"stopped: all its processes used more than {limits.cpu_seconds:g} s of CPU time"
            if count > limits.processes + 3:
                return f"stopped: it had more than {limits.processes} processes"
            if memory > (limits.memory_mb + _OWN_MB) << 20:
                return f"stopped: all its processes needed more than {limits.memory_mb} MiB of memory"
            if tick % 10 == 9 and _folder_bytes(self.folder) - before > limits.folder_mb << 20:
                return f"stopped: its files grew by more than {limits.folder_mb} MiB"
        raise AssertionError("unreachable")

    def _read(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                continue
            with contextlib.suppress(BlockingIOError):
                # At the end everything that is there; while it runs a bit at a time, so that limits are looked at.
                while chunk := os.read(key.fd, 1 << 16):
                    key.data.extend(chunk)
                    if timeout or len(key.data) > self.limits.output_bytes:
                        break
                else:
                    self._selector.unregister(key.fd)

    def _usage(self) -> tuple[float, int, int]:
        """(CPU seconds, bytes of memory, number) of the child and everything below it."""
        cpu, memory, count = 0, 0, 0
        for pid in (self.child.pid, *_sandbox_child.descendants(self.child.pid)):
            fields = _stat(pid)
            if fields:
                count += 1
                self._seen[pid] = fields[19]
                # utime, stime and those of children that have ended; rss
                cpu += sum(int(value) for value in fields[11:15])
                memory += int(fields[21]) * _PAGE
        return cpu / _TICKS, memory, count

    def _end(self) -> None:
        """Kill what is left: below the child first, since orphans are given to another parent."""
        for _ in range(200):
            below = dict.fromkeys(_sandbox_child.descendants(self.child.pid))
            lost = [pid for pid, start in self._seen.items() if pid not in below and _is(pid, start)]
            below.update(dict.fromkeys(lost))
            below.pop(self.child.pid, None)
            for pid in below:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not below:
                break
            time.sleep(0.005)
        if self.child.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _is(pid: int, start: str) -> bool:
    """Whether a process is still the one that began then, and alive."""
    fields = _stat(pid)
    return bool(fields) and fields[19] == start and fields[0] not in "ZX"


def _folder_bytes(folder: Path) -> int:
    """Bytes in a folder, each entry counted as a block at least; what is too deep or too much to look at is left."""
    total, waiting = 0, [str(folder)]
    for _ in range(5000):
        if not waiting:
            break
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += max(4096, entry.stat(follow_symlinks=False).st_size)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total


def remove_tree(root: Path) -> None:
    """Remove a folder that code has written to, whatever is in it: folders thousands deep or without rights, links.

    Folders are moved up to the top before they are emptied, so no path gets long and nothing recurs.
    """
    mark, number = secrets.token_hex(8), 0
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
            for entry in list(os.scandir(folder)):
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        os.chmod(entry.path, 0o700)
                        target = root / f"{mark}{number}"
                        number += 1
                        os.rename(entry.path, target)
                        waiting.append(target)
                    else:
                        os.unlink(entry.path)
            if folder != root:
                os.rmdir(folder)
    with contextlib.suppress(OSError):
        os.rmdir(root)


# -- what users call ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _scratch() -> Any:
    folder = Path(tempfile.mkdtemp(prefix="toolrun-"))
    try:
        yield folder
    finally:
        remove_tree(folder)


def run_code(
    code: str,
    *,
    limits: Limits | None = None,
    folder: str | os.PathLike[str] | None = None,
    isolation: Isolation = "auto",
) -> Output:
    """Run Python source in a child process and return what it printed, then the value of a last expression.

    An exception's traceback is part of the text; so is a note when a limit ended the run. ``folder`` is where it may
    write (inside of bubblewrap it is called ``/sandbox``); a fresh one that is removed again when left out. Raises
    ``SandboxError`` only where isolation is required and can't be had.
    """
    with contextlib.ExitStack() as stack:
        place = Path(folder) if folder is not None else stack.enter_context(_scratch())
        outcome = _run_child({"kind": "code", "code": code}, limits or Limits(), place, isolation)
    text = outcome.output
    if outcome.why is not None:
        separator = "" if not text or text.endswith("\n") else "\n"
        text = f"{text}{separator}[{outcome.why}]"
    return Output.of(text or "(no output)", outcome.isolation, outcome.why)


def isolated(
    function: Callable[..., Any] | None = None,
    /,
    *,
    limits: Limits | None = None,
    isolation: Isolation = "process",
) -> Callable[..., Any]:
    """Make a tool run in a process of its own for every call.

    The function must be importable by name (a top-level function of a module that isn't the script being
    run), its arguments and its result must be JSON. Use it as ``@isolated`` or ``isolated(search,
    limits=Limits(memory_mb=256))``. By default the function, which you wrote, keeps its rights on files and network;
    ``isolation="required"`` takes them (it can then read the folders of ``sys.path``, and write nowhere).
    """
    if function is None:
        return functools.partial(isolated, limits=limits, isolation=isolation)
    target = inspect.unwrap(function)
    module, qualname = getattr(target, "__module__", None), getattr(target, "__qualname__", "")
    if module in (None, "__main__") or "<" in qualname:
        raise ValueError(
            f"isolated() can't import {qualname or function!r} in another process; "
            "move it to the top level of a module and import it from there"
        )
    _chosen(isolation)
    chosen = limits or Limits()

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        path = [os.path.abspath(entry) for entry in sys.path]
        job = {
            "kind": "call",
            "module": module,
            "qualname": qualname,
            "arguments": inspect.signature(target).bind(*args, **kwargs).arguments,
            "sys_path": path,
        }
        with _scratch() as folder:
            outcome = _run_child(job, chosen, folder, isolation, readable=path)
        if outcome.answer is None:
            tail = outcome.output.strip().splitlines()[-1:] if outcome.why and "exit status" in outcome.why else []
            raise SandboxError(": ".join([f"{qualname} {outcome.why}", *tail]))
        if "value" not in outcome.answer:
            raise SandboxError(str(outcome.answer.get("error", "the answer is none")))
        return outcome.answer["value"]

    return call


class CodeSandbox:
    """An environment with one tool for everything: Python code, run in a child process with limits.

    Files that one call writes are there for the next call of the same rollout; variables are not. Every
    rollout has a folder of its own, removed when the rollout is closed.

    Args:
        limits: For every call.
        isolation: ``auto`` takes bubblewrap where it works; ``required`` refuses to start without it.
    """

    def __init__(self, limits: Limits | None = None, *, isolation: Isolation = "auto") -> None:
        _chosen(isolation)
        self._limits = limits or Limits()
        self._isolation = isolation
        self._folder: Path | None = None

    def reset(self, **row: Any) -> None:
        """Start with an empty folder."""
        self.close()
        self._folder = Path(tempfile.mkdtemp(prefix="rollout-"))

    def run_python(self, code: str) -> Output:
        """Run Python code and return what it prints, and the value of its last line.

        Args:
            code: The Python source to run. Files it writes to the current folder are kept for later calls.
        """
        if self._folder is None:
            self.reset()
        return run_code(code, limits=self._limits, folder=self._folder, isolation=self._isolation)

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            remove_tree(self._folder)
            self._folder = None
