"""The examples for evaluators run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from examples import bfcl_handler


@pytest.mark.parametrize("family", bfcl_handler.OUTPUTS)
def test_bfcl(family: str) -> None:
    handler = bfcl_handler.ToolparseHandler(family, bfcl_handler.FUNCTIONS)
    output = bfcl_handler.OUTPUTS[family]
    assert handler.decode_ast(output) == [{"calc.area": {"corners": [[0, 0.5], [1, 2]], "unit": "m"}}]
    assert handler.decode_execute(output) == ["calc.area(corners=[[0, 0.5], [1, 2]], unit='m')"]
    assert handler.decode_ast("No call.") == []


def test_inspect_ai(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("inspect_ai") is None:
        pytest.skip("inspect_ai is not installed: make evaluators, and PYTHONPATH=.cache/evaluators")
    from examples import inspect_model

    log = inspect_model.main(str(tmp_path))
    assert log.status == "success"
    assert "12 and 30" in capsys.readouterr().out
    (sample,) = log.samples
    calls = [call for message in sample.messages for call in getattr(message, "tool_calls", None) or ()]
    assert [call.arguments for call in calls] == [{"x": 5, "y": 7}, {"x": 10, "y": 20}]
    assert sample.scores["includes"].value == "C"
