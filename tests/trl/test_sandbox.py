"""Untrusted code runs in a process of its own and can't hurt this one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from trl_integration.executor import Toolbox, ToolExecutor, ToolRequest
from trl_integration.sandbox import CodeSandbox, Limits, isolated, run_code

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
    started = time.monotonic()
    assert said in run_code(code, limits=limits)
    assert time.monotonic() - started < 29


def test_processes_that_the_code_leaves_behind_are_ended(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    script = f"import time; time.sleep(1.0); open({str(mark)!r}, 'w').write('still here')"
    code = f"import subprocess, sys\np = subprocess.Popen([sys.executable, '-c', {script!r}])\np.pid"
    pid = int(run_code(code).strip())
    time.sleep(1.5)
    assert not mark.exists()
    assert has_ended(pid)


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


def test_what_cannot_be_imported_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="move it to the top level of a module"):
        isolated(lambda: 1)
    with pytest.raises(ValueError, match="Limits.memory_mb must be positive"):
        Limits(memory_mb=0)
