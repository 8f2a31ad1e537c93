"""The child of ``sandbox.py``. Run by its path with ``python -I``: it imports nothing but the standard library.

It reads a job from its standard input and forks. The fork limits itself and runs the job; it writes an answer (JSON) to
the pipe whose number is the only argument. The first process waits for it, adopts whatever the job leaves
behind, ends all of it, and exits as the fork did. So what the job sees as its parent isn't the trainer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import Any


def main() -> None:
    """Run the job."""
    answer = int(sys.argv[1])
    job = json.load(sys.stdin)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    with contextlib.suppress(OSError, AttributeError):
        # PR_SET_CHILD_SUBREAPER: processes whose parents end become children of this one (Linux only).
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    worker = os.fork()
    if worker == 0:
        limit(job)
        said = called(job) if job["kind"] == "call" else evaluated(job["code"])
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with open(answer, "w", encoding="utf-8") as sink:
            sink.write(said)
        return
    os.close(answer)
    status = 0
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, code = os.wait()
            if ended == worker:
                status = os.waitstatus_to_exitcode(code)
                break
    end_descendants()
    os._exit(status if status >= 0 else 128 - status)


def limit(job: dict[str, Any]) -> None:
    """Limit this process; children inherit it, but each has the whole of it for itself."""
    import resource

    def at_most(what: int, value: int) -> None:
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))

    at_most(resource.RLIMIT_CPU, max(1, int(-(-job["cpu_seconds"] // 1))))
    at_most(resource.RLIMIT_AS, job["memory_mb"] << 20)
    at_most(resource.RLIMIT_FSIZE, job["file_bytes"])
    at_most(resource.RLIMIT_CORE, 0)
    if job["own_users"]:
        # Elsewhere it would count every process of the user on this machine.
        at_most(resource.RLIMIT_NPROC, 4 * job["processes"])


def called(job: dict[str, Any]) -> str:
    """Call a function by its name; its value as JSON, or what it raised."""
    import importlib
    import inspect

    try:
        sys.path[:0] = job["sys_path"]
        target = importlib.import_module(job["module"])
        for part in job["qualname"].split("."):
            target = getattr(target, part)
        return json.dumps({"value": inspect.unwrap(target)(**job["arguments"])})  # type: ignore[arg-type]
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
        return json.dumps({"error": f"{type(error).__name__}: {error}"})


def evaluated(code: str) -> str:
    """Run source text; what it prints, the value of a last expression and a traceback go to the standard output."""
    import ast
    import traceback

    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        tree = ast.parse(code, "<code>")
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        exec(compile(tree, "<code>", "exec"), scope)  # nosec B102
        value = None if last is None else eval(compile(last, "<code>", "eval"), scope)  # nosec B307
        if value is not None:
            print(repr(value))
    except SystemExit as error:
        if error.code not in (None, 0):
            print(f"SystemExit: {error.code}")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the model is shown it
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != "<code>":
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace)
        sys.stdout.flush()
        print("".join(lines)[-4000:], end="")
    return "{}"


def end_descendants() -> None:
    """Kill everything below this process, also what is being started meanwhile."""
    for _ in range(200):
        below = descendants(os.getpid())
        for pid in below:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not below:
            return
        time.sleep(0.005)


def descendants(root: int) -> list[int]:
    """Processes below one, as far as the system shows them (Linux; elsewhere none)."""
    found: list[int] = []
    waiting = [root]
    while waiting and len(found) < 100_000:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                path = f"/proc/{pid}/task/{thread}/children"
                with contextlib.suppress(OSError), open(path, encoding="ascii") as source:
                    children = [int(word) for word in source.read().split()]
                    found += children
                    waiting += children
    return found


if __name__ == "__main__":
    main()
