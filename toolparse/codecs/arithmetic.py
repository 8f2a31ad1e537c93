"""Arithmetic that Python writes where a number is due: `3 * 4`, `2**10`. Bounded in length and in what it may give."""

from __future__ import annotations

import ast
import math
import operator
import re
from typing import Any

_SHOWN = re.compile(r"[0-9eE_.+\-*/% \t\r\n]{1,128}")
#: Digits that touch a minus, or two strokes, are a date, a range or a telephone number as well.
_NO_SUM = re.compile(r"[0-9]-[0-9]|[0-9]/[0-9]+/")
_MOST = 64  # the highest power
_BINARY: Any = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def arithmetic(text: str) -> int | float | None:
    """What a text computes to, None if it is no simple arithmetic over numbers."""
    if not _SHOWN.fullmatch(text) or _NO_SUM.search(text):
        return None
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError):
        return None
    return value if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)) else None


def _value(node: Any) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return -_value(node.operand) if isinstance(node.op, ast.USub) else _value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > _MOST:
            raise ValueError("a power too high")
        return _BINARY[type(node.op)](left, right)
    raise ValueError("no arithmetic")
