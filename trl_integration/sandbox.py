"""Running untrusted code in a child process with limits on CPU time, memory, wall time and output.

What this isolates: a crash, a hang, a memory leak, an endless print or ``os._exit`` in the tool can't hurt
the run, which kills the whole process group of the child when its wall time is over. The child starts in an
empty folder, with an empty environment and without the site's start-up files.

What it doesn't isolate: the child has the user's rights on files and the network. For code from strangers
put the whole training job into a container, or have the tool talk to one.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CodeSandbox", "Limits", "SandboxError", "isolated", "run_code"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run of untrusted code may use."""

    cpu_seconds: float = 5.0
    wall_seconds: float = 10.0
    memory_mb: int = 512
    output_bytes: int = 1 << 20
    """Most bytes that a single file written by the child may have, its captured output included."""

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_seconds", "memory_mb", "output_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Limits.{name} must be positive, got {getattr(self, name)!r}")


class SandboxError(RuntimeError):
    """The child didn't produce a result; the message says why, in words that a model can act on."""


# The child. It sets its own limits before it looks at the job: doing so between fork and exec in the parent
# isn't safe in a process that runs threads. `exec` and the import come last, so nothing untrusted runs
# without limits.
_CHILD = r"""
import json, os, resource, sys
with open(sys.argv[1], encoding="utf-8") as f:
    job = json.load(f)
def limit(what, value):
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))
cpu = max(1, int(-(-job["cpu_seconds"] // 1)))
limit(resource.RLIMIT_CPU, cpu)
limit(resource.RLIMIT_AS, job["memory_mb"] << 20)
limit(resource.RLIMIT_FSIZE, job["output_bytes"])
limit(resource.RLIMIT_CORE, 0)
def answer(value):
    with open(job["answer"], "w", encoding="utf-8") as f:
        f.write(value)
if job["kind"] == "call":
    import importlib, inspect
    sys.path[:0] = job["sys_path"]
    target = importlib.import_module(job["module"])
    for part in job["qualname"].split("."):
        target = getattr(target, part)
    target = inspect.unwrap(target)
    try:
        value = target(**job["arguments"])
        text = json.dumps({"value": value})
    except BaseException as error:
        text = json.dumps({"error": f"{type(error).__name__}: {error}"})
    answer(text)
else:
    import ast, traceback
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        tree = ast.parse(job["code"], "<code>")
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        exec(compile(tree, "<code>", "exec"), scope)
        if last is not None:
            value = eval(compile(last, "<code>", "eval"), scope)
            if value is not None:
                print(repr(value))
    except SystemExit as error:
        if error.code not in (None, 0):
            print(f"SystemExit: {error.code}")
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != "<code>":
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
        sys.stdout.flush()
        print("".join(lines)[-4000:], end="")
    sys.stdout.flush()
    answer("{}")
"""


@dataclass(frozen=True, slots=True)
class _Outcome:
    answer: dict[str, Any] | None
    output: str
    why: str | None


def _run_child(job: dict[str, Any], limits: Limits, cwd: Path) -> _Outcome:
    """Run one job in a fresh interpreter; ``cwd`` is the child's working folder, everything else is
    temporary.
    """
    with tempfile.TemporaryDirectory(prefix="toolrun-") as scratch:
        answer = Path(scratch, "answer")
        job = {
            **job,
            "answer": str(answer),
            "cpu_seconds": limits.cpu_seconds,
            "memory_mb": limits.memory_mb,
            "output_bytes": limits.output_bytes,
        }
        job_file = Path(scratch, "job.json")
        job_file.write_text(json.dumps(job), encoding="utf-8")
        output = Path(scratch, "output")
        # Output goes to a file and not through a pipe: the child's file size limit then bounds what an
        # endless print can cost this process.
        with output.open("wb") as sink:
            child = subprocess.Popen(
                [sys.executable, "-I", "-u", "-c", _CHILD, str(job_file)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={
                    "PATH": os.defpath,
                    "LANG": "C.UTF-8",
                    "OPENBLAS_NUM_THREADS": "1",
                    "OMP_NUM_THREADS": "1",
                },
                start_new_session=True,
            )
            started = time.monotonic()
            try:
                status: int | None = child.wait(limits.wall_seconds)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                # Also after a normal end: the child may have left processes of its own behind.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        raw = output.read_bytes()
        text = raw.decode("utf-8", errors="replace")
        found: dict[str, Any] | None = None
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(answer.read_text(encoding="utf-8"))
        if found is not None:
            return _Outcome(found, text, None)
        if status is None:
            why = f"stopped: it ran longer than {time.monotonic() - started:.1f} s"
        elif status in (-signal.SIGXCPU, -signal.SIGKILL):
            why = f"stopped: it used more than {limits.cpu_seconds:g} s of CPU time, or was killed for memory"
        elif status == -signal.SIGXFSZ or len(raw) >= limits.output_bytes:
            why = f"stopped: it wrote more than {limits.output_bytes} bytes"
        elif "MemoryError" in text:
            why = f"stopped: it needed more than {limits.memory_mb} MiB of memory"
        else:
            why = f"ended without a result (exit status {status})"
        return _Outcome(None, text, why)


def run_code(code: str, *, limits: Limits | None = None, folder: str | os.PathLike[str] | None = None) -> str:
    """Run Python source in a child process and return what it printed, then the value of a last expression.

    An exception's traceback is part of the text; so is a note when a limit ended the run.
    """
    with contextlib.ExitStack() as stack:
        cwd = Path(folder) if folder is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        outcome = _run_child({"kind": "code", "code": code}, limits or Limits(), cwd)
    if outcome.why is None:
        return outcome.output or "(no output)"
    separator = "" if not outcome.output or outcome.output.endswith("\n") else "\n"
    return f"{outcome.output}{separator}[{outcome.why}]"


def isolated(function: Callable[..., Any] | None = None, /, *, limits: Limits | None = None) -> Callable[..., Any]:
    """Make a tool run in a process of its own for every call.

    The function must be importable by name (a top-level function of a module that isn't the script being
    run), its arguments and its result must be JSON. Use it as ``@isolated`` or ``isolated(search,
    limits=Limits(memory_mb=256))``.
    """
    if function is None:
        return functools.partial(isolated, limits=limits)
    target = inspect.unwrap(function)
    module, qualname = getattr(target, "__module__", None), getattr(target, "__qualname__", "")
    if module in (None, "__main__") or "<" in qualname:
        raise ValueError(
            f"isolated() can't import {qualname or function!r} in another process; "
            "move it to the top level of a module and import it from there"
        )
    chosen = limits or Limits()

    @functools.wraps(target)
    def call(*args: Any, **kwargs: Any) -> Any:
        arguments = inspect.signature(target).bind(*args, **kwargs).arguments
        job = {
            "kind": "call",
            "module": module,
            "qualname": qualname,
            "arguments": arguments,
            "sys_path": [entry or os.getcwd() for entry in sys.path],
        }
        with tempfile.TemporaryDirectory() as cwd:
            outcome = _run_child(job, chosen, Path(cwd))
        if outcome.answer is None:
            tail = outcome.output.strip().splitlines()[-1:] if outcome.why and "exit status" in outcome.why else []
            raise SandboxError(": ".join([f"{qualname} {outcome.why}", *tail]))
        if "error" in outcome.answer:
            raise SandboxError(outcome.answer["error"])
        return outcome.answer["value"]

    return call


class CodeSandbox:
    """An environment with one tool for everything: Python code, run in a child process with limits.

    Files that one call writes are there for the next call of the same rollout; variables are not. Every
    rollout has a folder of its own, removed when the rollout is closed.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._folder: Path | None = None

    def reset(self, **row: Any) -> None:
        """Start with an empty folder."""
        self.close()
        self._folder = Path(tempfile.mkdtemp(prefix="rollout-"))

    def run_python(self, code: str) -> str:
        """Run Python code and return what it prints, and the value of its last line.

        Args:
            code: The Python source to run. Files it writes to the current folder are kept for later calls.
        """
        if self._folder is None:
            self.reset()
        return run_code(code, limits=self._limits, folder=self._folder)

    def close(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
