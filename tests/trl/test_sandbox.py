"""Untrusted code runs in a process of its own and can't hurt this one: with bubblewrap where it works, and without."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trl_integration.executor import Toolbox, ToolExecutor, ToolRequest
from trl_integration.sandbox import (
    CodeSandbox,
    Isolation,
    Limits,
    SandboxError,
    bubblewrap,
    isolated,
    remove_tree,
    run_code,
)

from . import isolated_tools


def test_code_prints_and_shows_its_last_value() -> None:
    assert run_code("x = 2\nprint('two')\nx ** 10") == "two\n1024\n"
    assert run_code("x = 2") == "(no output)"


def test_a_traceback_is_the_models_to_read() -> None:
    text = run_code("print('before')\n1 / 0")
    assert text.startswith("before\n")
    assert 'File "<code>", line 2' in text
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert "SyntaxError" in run_code("def")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import time; time.sleep(60)", "ran longer than"),
        ("while True: pass", "CPU time"),
        ("x = 'a' * (1 << 31)", "MemoryError"),
        ("import os; os._exit(3)", "exit status 3"),
        ("while True: print('x' * 1000)", "wrote more than 20000 bytes"),
    ],
)
def test_limits_end_the_child_and_say_so(code: str, said: str) -> None:
    wall = 3 if "sleep" in code else 30
    limits = Limits(cpu_seconds=1, wall_seconds=wall, memory_mb=512, output_bytes=20_000)
    assert said in run_code(code, limits=limits)


def test_processes_that_the_code_leaves_behind_are_ended() -> None:
    script = "import time; time.sleep(3600)"
    code = f"import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', {script!r}])\np.pid"
    assert has_ended(int(run_code(code, isolation="process").strip()))


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or dead and waiting for its parent (a container's init may never collect it)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_the_child_sees_neither_environment_nor_folder() -> None:
    os.environ["SECRET_OF_THE_RUN"] = "x"
    try:
        assert run_code("import os; os.environ.get('SECRET_OF_THE_RUN'), os.listdir()") == "(None, [])\n"
    finally:
        del os.environ["SECRET_OF_THE_RUN"]


def test_the_sandbox_keeps_files_for_its_rollout_only() -> None:
    first, second = CodeSandbox(), CodeSandbox()
    first.reset()
    second.reset()
    assert first.run_python("open('note.txt', 'w').write('hi')") == "2\n"
    assert first.run_python("open('note.txt').read()") == "'hi'\n"
    assert "FileNotFoundError" in second.run_python("open('note.txt').read()")
    folder = first._folder
    assert folder is not None
    first.close()
    second.close()
    assert not folder.exists()


def test_isolated_functions_are_tools_like_any_other() -> None:
    box = Toolbox([isolated_tools.double, isolated_tools.fail, isolated_tools.freeze, isolated_tools.die])
    assert box.schemas[0]["function"]["parameters"]["properties"]["number"]["type"] == "integer"
    with ToolExecutor(timeout=20) as executor:
        doubled, failed, frozen, died = executor.run(
            [
                ToolRequest("double", {"number": 21}, box),
                ToolRequest("fail", {"text": "no"}, box),
                ToolRequest("freeze", {}, box),
                ToolRequest("die", {}, box),
            ]
        )
    assert doubled.text == "42"
    assert "LookupError: no" in failed.text
    assert "ran longer than" in frozen.text
    assert "exit status 7" in died.text


def test_a_tool_that_never_lets_go_of_the_interpreter_is_stopped_in_its_process() -> None:
    with pytest.raises(SandboxError, match="CPU time|memory"):
        isolated_tools.power()


def test_many_at_once_leave_nothing_open() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    run_code("1")
    before = descriptors()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run_code, [str(n) for n in range(16)])) == [f"{n}\n" for n in range(16)]
    assert descriptors() == before


def test_what_cannot_be_imported_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="move it to the top level of a module"):
        isolated(lambda: 1)
    with pytest.raises(ValueError, match="Limits.memory_mb must be positive"):
        Limits(memory_mb=0)


# -- programs that mean it ----------------------------------------------------------------------------------------

NEEDS_BWRAP = pytest.mark.skipif(not bubblewrap()[0], reason=f"no bubblewrap: {bubblewrap()[1]}")
KINDS = [pytest.param("process"), pytest.param("required", marks=NEEDS_BWRAP)]
NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="without /proc processes can't be followed"
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("victim", ["os.getppid()", "-1 if os.getpid() < 99 else os.getppid()", "1"])
def test_killing_its_parent_does_not_reach_the_trainer(kind: Isolation, victim: str) -> None:
    if victim == "1" and kind == "process":
        pytest.skip("a plain process may signal every process of its user: docs/training.md says so")
    out = run_code(f"import os, time\nos.kill({victim}, 9)\ntime.sleep(5)\n'still here'", isolation=kind)
    assert out == "'still here'\n" or out.stopped is not None
    assert out.isolation == ("bubblewrap" if kind == "required" else "process")


@NEEDS_PROC
@pytest.mark.parametrize("kind", KINDS)
def test_daemons_do_not_outlive_it(kind: Isolation, tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1)\n"
        "        open('alive', 'w').write('x')\n"
        "    os._exit(0)\n"
        "time.sleep(0.3)\n"
    )
    assert run_code(code, folder=tmp_path, isolation=kind).stopped is None
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_without_end_is_cut(kind: Isolation) -> None:
    code = "import sys\nwith open(int(sys.argv[1]), 'w') as f:\n    while True: f.write('x' * 65536)"
    assert "its result has more than" in run_code(code, limits=Limits(wall_seconds=30), isolation=kind)
    forged = "import os, sys\nos.write(int(sys.argv[1]), b'[' * 100000)\nos._exit(0)"
    assert "ended without a result" in run_code(forged, isolation=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_hang_or_never_end_are_not_read(kind: Isolation, tmp_path: Path) -> None:
    code = "import os\nfor n in ('answer', 'output', 'job.json'):\n    os.mkfifo(n)\n    os.symlink('/dev/zero', n + '2')\n"
    assert run_code(code, folder=tmp_path, isolation=kind) == "(no output)"


@NEEDS_PROC
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("for _ in range(3):\n    if os.fork() == 0: break\nwhile True: pass", "CPU time"),
        ("for _ in range(20):\n    if os.fork() == 0: break\ntime.sleep(50)", "more than 8 processes"),
        ("x = bytearray(120 << 20)\nfor _ in range(3):\n    if os.fork() == 0:\n        x[:] = b'y' * len(x)\n"
         "        break\ntime.sleep(50)", "MiB of memory"),
        ("for n in range(100):\n    with open(str(n), 'wb') as f: f.write(bytes(1 << 20))\n    time.sleep(0.02)\n"
         "time.sleep(50)", "files grew"),
    ],
)  # fmt: skip
def test_one_budget_counts_for_everything_that_it_starts(kind: Isolation, code: str, said: str) -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=40, memory_mb=256, processes=8, folder_mb=20)
    assert said in run_code("import os, time\n" + code, limits=limits, isolation=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_folders_nested_without_end_and_without_rights_are_removed(kind: Isolation) -> None:
    box = CodeSandbox(isolation=kind)
    box.reset()
    code = (
        "import os\n"
        "os.mkdir('locked'); open('locked/x', 'w').close(); os.chmod('locked', 0)\n"
        "os.symlink('/usr', 'link')\n"
        "for _ in range(1200):\n    os.mkdir('d' * 50); os.chdir('d' * 50)\n"
        "open('deep', 'w').close()"
    )
    assert box.run_python(code).stopped is None
    folder = box._folder
    assert folder is not None
    box.close()
    assert not folder.exists()
    assert Path("/usr").exists()


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")


def _shown_in(folder: str) -> set[str]:
    """What a sandbox shows of a folder: the way to the interpreter, if that lies in it."""
    homes = (Path(home).parts for home in (sys.prefix, sys.base_prefix))
    return {parts[2] for parts in homes if "/" + parts[1] == folder}


@NEEDS_BWRAP
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import socket; socket.create_connection(('192.0.2.1', 80), 2)", "unreachable"),
        ("open('/usr/bin/x', 'w')", "Read-only file system"),
        ("open('/x', 'w')", "Read-only file system"),
        ("import os; os.listdir(os.path.dirname(FOLDER))", "FileNotFoundError"),
        ("import os; sorted(p for p in os.listdir('/proc') if p.isdigit() and int(p) > 20)", "[]"),
        ("import subprocess; subprocess.run(['unshare', '-Ur', 'true']).returncode == 0", "False"),
        ("import os; os.setuid(0)", "Error"),
        (
            "import os; os.getuid(), sorted(os.listdir('/tmp')), os.path.exists('/home')",
            f"(65534, {sorted(_shown_in('/tmp'))}, {bool(_shown_in('/home'))})",
        ),
        ("import tempfile; tempfile.TemporaryFile(dir='/tmp').write(bytes(100 << 20))", "Error"),
    ],
)
def test_bubblewrap_shows_nothing_and_lets_nothing_out(code: str, said: str, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    code = code.replace("FOLDER", repr(str(box)))
    assert said in run_code(code, folder=box, isolation="required", limits=Limits(file_bytes=1 << 30, memory_mb=1024))


@NEEDS_BWRAP
def test_isolated_functions_can_have_their_rights_taken() -> None:
    assert isolated(isolated_tools.double, isolation="required")(number=3) == 6
    with pytest.raises(SandboxError, match="PermissionError|Read-only|FileNotFound"):
        isolated(isolated_tools.touch, isolation="required")(path=str(Path(isolated_tools.__file__).with_suffix(".x")))


def test_required_isolation_refuses_to_start_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trl_integration.sandbox.bubblewrap", lambda: ((), "not here"))
    with pytest.raises(SandboxError, match="there is none: not here"):
        CodeSandbox(isolation="required")
    with pytest.raises(SandboxError, match="not here"):
        isolated(isolated_tools.double, isolation="required")
    out = CodeSandbox().run_python("1 + 1")
    assert (out, out.isolation) == ("2\n", "process")
    with pytest.raises(ValueError, match="isolation must be"):
        run_code("1", isolation="perhaps")  # type: ignore[arg-type]
