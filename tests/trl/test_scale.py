"""Two processes do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def launched(folder: Path, processes: int, through: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The log entry and all traces of a run on so many processes."""
    folder.mkdir()
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("scale_worker.py")), str(folder), through],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    traces = [
        json.loads(line)
        for path in sorted(folder.glob("trace*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return json.loads((folder / "log.json").read_text(encoding="utf-8")), traces


@pytest.mark.parametrize("through", ["loop", "gateway"])
def test_two_processes_agree_with_one(tmp_path: Path, through: str) -> None:
    if through == "gateway":
        pytest.importorskip("httpx", reason="the gateway is a server: pip install '.[serve]'")
        pytest.importorskip("uvicorn", reason="the gateway is a server: pip install '.[serve]'")
    one, one_traces = launched(tmp_path / "one", 1, through)
    two, two_traces = launched(tmp_path / "two", 2, through)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one_traces) == len(two_traces) == 8
    if through == "gateway":  # one of eight sessions has two rows, and one agent fails
        assert (two["rollout/rows"], two["rollout/stop/agent_error"]) == (9 / 8, 1 / 8)
    assert (tmp_path / "two" / "trace.rank1.jsonl").is_file()

    def masks(traces: list[dict[str, Any]]) -> list[list[tuple[str, tuple[int, ...]]]]:
        return sorted([(s["author"], tuple(s["ids"])) for row in trace["rows"] for s in row] for trace in traces)

    assert masks(one_traces) == masks(two_traces)
    same = [key for key in one if key.startswith(("rollout/", "reward", "completions/")) and "seconds" not in key]
    assert len(same) > 30
    for key in same:
        assert two[key] == pytest.approx(one[key], abs=1e-5), key
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-2)
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-6)
