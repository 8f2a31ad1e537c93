"""The library, instrumented: it counts the steps it takes and the characters it looks at.

The sources of the reading half are compiled once more with every call, slice, concatenation, membership test and loop
turn routed through a counter. So nothing in the library knows of it, and it counts whatever the code is at the time:

* a loop turn or a call costs one;
* `find`, `search` and `match` cost the characters from where they start to where they stop (a failed `match`: as far as
  the pattern could follow the text);
* slices, joins, concatenations and other string methods cost the characters they produce or read;
* what is not instrumented (decoders in C) costs the characters that it is given.

Nothing depends on a clock, so the same text always gives the same count.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import types
from collections.abc import Iterable, Sequence
from functools import cache
from json.decoder import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any

import regex

#: The modules that read. Whatever begins with one of these is instrumented.
READING = (
    "toolparse.reader",
    "toolparse.compile",
    "toolparse.parser",
    "toolparse.message",
    "toolparse.tokens",
    "toolparse.codecs",
    "toolparse.tools",
)

_FREE = frozenset(
    {"isinstance", "len", "bool", "getattr", "hasattr", "type", "cast", "range", "iter", "next", "id", "super", "zip"}
)


class Counter:
    """The steps taken since `reset`."""

    def __init__(self) -> None:
        self.steps = 0

    def reset(self) -> None:
        self.steps = 0


COUNTER = Counter()
_SCANNER = type(JSONDecoder().scan_once)  # type: ignore[attr-defined]


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


@cache
def _follower(pattern: str, flags: int) -> Any:
    kept = sum(
        getattr(regex, name) for name in ("DOTALL", "VERBOSE", "IGNORECASE", "MULTILINE") if flags & getattr(re, name)
    )
    return regex.compile(pattern, kept)


def _reached(pattern: Any, buf: str, pos: int, end: int) -> int:
    """How far a pattern that does not match at `pos` can follow the text."""
    follower = _follower(pattern.pattern, pattern.flags)
    size = 1
    while pos + size < end and follower.match(buf[pos : pos + size], partial=True) is not None:
        size *= 2
    return min(size, end - pos)


def _pattern_cost(name: str, owner: Any, args: Sequence[Any], result: Any) -> int:
    buf = args[0]
    pos = args[1] if len(args) > 1 else 0
    end = min(args[2], len(buf)) if len(args) > 2 else len(buf)
    if name in ("match", "fullmatch", "search"):
        if result is not None:
            return max(0, result.end() - pos)
        return max(0, end - pos) if name == "search" else _reached(owner, buf, pos, end)
    return max(0, end - pos) if name == "finditer" else len(buf)


def _method_cost(name: str, owner: Any, args: Sequence[Any], result: Any) -> int:
    if isinstance(owner, str):
        if name in ("find", "index"):
            start = args[1] if len(args) > 1 else 0
            end = min(args[2], len(owner)) if len(args) > 2 else len(owner)
            return max(0, (result + len(args[0]) if result >= 0 else end) - start)
        if name in ("startswith", "endswith"):
            return 1
        if name == "join":
            return len(result)
        if name == "count" and len(args) > 2:
            return max(0, args[2] - args[1])
        return len(owner)
    if isinstance(owner, list):
        if name in ("append", "pop"):
            return len(owner) if name == "pop" and args and args[0] != -1 else 1
        return (
            len(owner) if name in ("insert", "index", "remove", "copy", "count") else sum(_size(item) for item in args)
        )
    if isinstance(owner, re.Match) or type(owner).__module__ == "_regex":
        if name == "groupdict":
            return sum(_size(value) for value in result.values())
        return _size(result)
    if isinstance(owner, dict | set | frozenset):
        return sum(len(item) for item in args if isinstance(item, dict | list | tuple | set)) if name == "update" else 1
    return sum(_size(item) for item in args)


def _call(function: Any, *args: Any, **given: Any) -> Any:
    try:
        result = function(*args, **given)
    except JSONDecodeError as error:
        # Its line number is counted from the beginning of the document.
        COUNTER.steps += 1 + len(error.doc[: error.pos])
        raise
    except StopIteration as stop:
        if isinstance(function, _SCANNER):
            COUNTER.steps += 1 + max(0, stop.value - args[1])
        raise
    cost = 1
    if isinstance(function, types.BuiltinFunctionType):
        owner = function.__self__
        name = function.__name__
        if isinstance(owner, re.Pattern | regex.Pattern):
            cost += _pattern_cost(name, owner, args, result)
        elif owner is None or isinstance(owner, types.ModuleType):
            cost += sum(_size(item) for item in args)
        else:
            cost += _method_cost(name, owner, args, result)
    elif isinstance(function, _SCANNER):
        cost += max(0, result[1] - args[1])  # the standard library's JSON scanner, called with a text and a position
    elif isinstance(function, type):
        if function.__module__ == "builtins":
            cost += sum(_size(item) for item in args)
    elif isinstance(function, types.FunctionType | types.MethodType):
        if "__call__step__" not in getattr(function, "__globals__", {}):
            cost += sum(_size(item) for item in args)
    else:
        cost += sum(_size(item) for item in args)
    COUNTER.steps += cost
    return result


def _slice(value: Any, start: Any, stop: Any, step: Any) -> Any:
    result = value[start:stop:step]
    COUNTER.steps += 1 + _size(result)
    return result


def _add(left: Any, right: Any) -> Any:
    result = left + right
    COUNTER.steps += 1 + _size(result)
    return result


def _grow(left: Any, right: Any) -> Any:
    """`local += text`: CPython grows the string in place."""
    COUNTER.steps += 1 + _size(right)
    left += right
    return left


def _made(result: Any) -> Any:
    COUNTER.steps += 1 + _size(result)
    return result


def _within(item: Any, container: Any) -> bool:
    COUNTER.steps += 1 + _size(container)
    return item in container


def _each(items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        COUNTER.steps += 1
        yield item


def _tick() -> None:
    COUNTER.steps += 1


_NAMES = {
    "__call__step__": _call,
    "__slice__step__": _slice,
    "__add__step__": _add,
    "__grow__step__": _grow,
    "__made__step__": _made,
    "__within__step__": _within,
    "__each__step__": _each,
    "__tick__step__": _tick,
}


def _name(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(f"__{name}__step__", ast.Load()), list(args), [])


class _Instrument(ast.NodeTransformer):
    """Routes what costs something through the counter, inside functions only."""

    def __init__(self) -> None:
        self.inside = 0

    def _function(self, node: Any) -> Any:
        self.inside += 1
        node.body = [new for statement in node.body if (new := self.visit(statement)) is not None]
        self.inside -= 1
        return node

    visit_FunctionDef = _function  # noqa: N815
    visit_AsyncFunctionDef = _function  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        if not self.inside or (isinstance(node.func, ast.Name) and node.func.id in _FREE):
            return node
        return ast.Call(ast.Name("__call__step__", ast.Load()), [node.func, *node.args], node.keywords)

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        self.generic_visit(node)
        if not self.inside or not isinstance(node.slice, ast.Slice) or not isinstance(node.ctx, ast.Load):
            return node
        nothing = ast.Constant(None)
        part = node.slice
        return _name("slice", node.value, part.lower or nothing, part.upper or nothing, part.step or nothing)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self.generic_visit(node)
        return _name("add", node.left, node.right) if self.inside and isinstance(node.op, ast.Add) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        self.generic_visit(node)
        if not self.inside or not isinstance(node.op, ast.Add):
            return node
        if isinstance(node.target, ast.Name):
            return ast.Assign([node.target], _name("grow", ast.Name(node.target.id, ast.Load()), node.value))
        if isinstance(node.target, ast.Attribute):
            old = ast.Attribute(node.target.value, node.target.attr, ast.Load())
            return ast.Assign([node.target], _name("add", old, node.value))
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> Any:
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                value.value = self.visit(value.value)
        return _name("made", node) if self.inside else node

    def _sequence(self, node: Any) -> Any:
        self.generic_visit(node)
        unpacks = any(isinstance(item, ast.Starred) for item in node.elts)
        return _name("made", node) if self.inside and unpacks and isinstance(node.ctx, ast.Load) else node

    visit_List = _sequence  # noqa: N815
    visit_Tuple = _sequence  # noqa: N815

    def visit_Compare(self, node: ast.Compare) -> Any:
        self.generic_visit(node)
        if not self.inside or len(node.ops) != 1 or not isinstance(node.ops[0], ast.In | ast.NotIn):
            return node
        found = _name("within", node.left, node.comparators[0])
        return found if isinstance(node.ops[0], ast.In) else ast.UnaryOp(ast.Not(), found)

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        self.generic_visit(node)
        if self.inside and not node.is_async:
            node.iter = _name("each", node.iter)
        return node

    def _loop(self, node: Any) -> Any:
        self.generic_visit(node)
        if self.inside:
            node.body.insert(0, ast.Expr(_name("tick")))
        return node

    visit_For = _loop  # noqa: N815
    visit_While = _loop  # noqa: N815


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module's source instrumented; nothing is written to a cache."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        tree = ast.fix_missing_locations(_Instrument().visit(ast.parse(self.get_data(path))))
        return compile(tree, path, "exec", dont_inherit=True)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__.update(_NAMES)
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if not any(fullname == name or fullname.startswith(name + ".") for name in READING):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return spec
        # A compiled module stands beside its source, which is what is counted.
        source = Path(spec.origin).with_name(fullname.rpartition(".")[2] + ".py")
        if spec.origin.endswith(".py"):
            spec.loader = _Loader(fullname, spec.origin)
        elif source.is_file():
            spec = importlib.util.spec_from_file_location(
                fullname, source, loader=_Loader(fullname, str(source)), submodule_search_locations=None
            )
        return spec


@cache
def counted() -> types.ModuleType:
    """An instrumented `toolparse`, beside the ordinary one, which is left as it is."""
    ours = [name for name in sys.modules if name == "toolparse" or name.startswith("toolparse.")]
    before = {name: sys.modules.pop(name) for name in ours}
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        module = importlib.import_module("toolparse")
        module.families()
        return module
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name == "toolparse" or name.startswith("toolparse.")]:
            del sys.modules[name]
        sys.modules.update(before)


def steps_one_shot(parser: Any, text: str) -> int:
    """The steps of a parse (by an instrumented parser)."""
    COUNTER.reset()
    parser.parse(text)
    return COUNTER.steps


def steps_streamed(parser: Any, text: str, size: int) -> int:
    """The steps of a stream in pieces of a size."""
    COUNTER.reset()
    stream = parser.stream()
    feed = stream.feed
    for at in range(0, len(text), size):
        feed(text[at : at + size])
    stream.close()
    return COUNTER.steps
