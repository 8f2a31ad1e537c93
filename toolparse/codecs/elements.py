"""Nested elements: objects and lists that are written as elements within elements, read incrementally.

An element holds either text or elements, never both; where a type attribute says which, it decides, else what stands
first in it. A text ends as a tagged parameter's does. Members that are given twice in a row make a list. An argument
is complete, and is said to a stream, when another one begins. The elements' stack is a list, so that depth costs no
recursion while reading; it is bounded because values are converted recursively.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import Any

from toolparse.codecs import json
from toolparse.codecs.matching import MAX_BLANKS, skip_blanks, starts_with_any
from toolparse.codecs.matching import MORE as UNDECIDED
from toolparse.codecs.tagged import ParameterTypes, ParamProgram, TaggedProgram, TaggedScanner, literal, unescaped
from toolparse.format import Syntax
from toolparse.picture import BLANKS

_HOLDERS = ("object", "array")


class _Node:
    """An element that is open. `kind`: `text`, `json`, `object`, `array`, or '' while nothing tells."""

    def __init__(self, name: str, param: ParamProgram, kind: str) -> None:
        self.name = name
        self.param = param
        self.kind = kind
        self.close = param.close_of(name)
        self.children: list[tuple[str, Any]] = []


def read_elements(
    program: TaggedProgram, text: str, pos: int, end: int, tool: ParameterTypes | None
) -> dict[str, Any] | None:
    """The parameters between `pos` and the call's tail at `end`; None where anything is unusual.

    All tags are found by one pattern, so that nothing is decided twice. Linear.
    """
    if program.tags is None:
        return None
    pattern, params = program.tags
    syntax = program.syntax
    entities = [pair for pair in program.unescape if text.find(pair[1], pos, end) >= 0]
    top: list[tuple[str, Any]] = []
    stack: list[tuple[str, str, str, list[tuple[str, Any]]]] = []  # of open elements: name, end tag, kind, children
    at = pos
    for match in pattern.finditer(text, pos, end):
        between = text[at : match.start()]
        at = match.end()
        tag = match.lastgroup
        if tag == "close":
            if not stack:
                return None
            name, close, kind, inner = stack.pop()
            if match.group() != close:
                return None
            holds = inner or kind in _HOLDERS
            if holds and not _is_gap(between):
                return None
            value = _value_of(kind, None if holds else between, inner, syntax)
            (stack[-1][3] if stack else top).append((name, value))
        elif tag in params:
            param, key, declared = params[tag]
            if not _is_gap(between) or len(stack) >= json.MAX_DEPTH:
                return None
            if stack[-1][2] in ("text", "json") if stack else param is program.item:
                return None
            name = match[key].strip() if key is not None else "item"
            kind = param.kinds.get(match[declared].strip(), "json") if declared is not None else ""
            name = unescaped(name, entities)
            stack.append((name, param.close_of(name), kind, []))
        else:  # a marker that is no tag
            return None
    if stack or not _is_gap(text[at:end]):
        return None
    typed = program.params[0].types is not None
    if not typed:
        top = _together(top)
    arguments = {name: value if typed else _argument(name, value, tool, syntax) for name, value in top}
    return arguments if len(arguments) == len(top) else None


def _is_gap(text: str) -> bool:
    """Whether a text may stand between tags."""
    return not text.strip(BLANKS) and len(text) <= MAX_BLANKS


def _value_of(kind: str, text: str | None, children: list[tuple[str, Any]], syntax: Syntax) -> Any:
    """What an element holds: a text, or the elements in it."""
    if text is not None:
        return literal(text, syntax) if kind == "json" else text
    if kind == "object":
        return dict(children)
    return [child for _, child in children] if kind == "array" else children


def _together(members: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Members that are given twice in a row make a list."""
    out: list[tuple[str, Any]] = []
    for name, run in groupby(members, itemgetter(0)):
        values = [value for _, value in run]
        out.append((name, values[0] if len(values) == 1 else [("item", value) for value in values]))
    return out


def _argument(key: str, tree: Any, tool: ParameterTypes | None, syntax: Syntax) -> Any:
    """The value of an argument that is a tree without types."""
    if tool is not None:
        return tool.convert_tree(tree, key, python=not syntax.is_json)[0]
    from toolparse.tools.convert import untyped_tree

    return untyped_tree(tree)


class ElementScanner(TaggedScanner):
    """Scans a run of parameters whose values may be elements themselves."""

    def __init__(self, program: TaggedProgram, tool: ParameterTypes | None, *, streaming: bool) -> None:
        super().__init__(program, tool, streaming=streaming)
        self._stack: list[_Node] = []
        self._ready: tuple[str, list[Any]] | None = None  # the last argument, which may still become a list

    def _between(self, buf: str, pos: int, final: bool) -> int:
        """Where elements stand: another one begins, or the one that holds them ends."""
        if not self._stack:
            return super()._between(buf, pos, final)
        pos = skip_blanks(buf, pos)
        if pos == len(buf):
            return pos
        closing = starts_with_any((self._stack[-1].close,), buf, pos, final)
        if isinstance(closing, str):
            self._end_element(None)
            return pos + len(closing)
        return self._next_param(self.program.elements, buf, pos, final, undecided=closing is UNDECIDED)

    def least_needed(self, held: str) -> int:
        """0: an argument is said when another begins, which any marker may tell."""
        return 0

    def _begin(self, key: str, declared: str | None) -> None:
        if len(self._stack) >= json.MAX_DEPTH:
            self.fail("nested too deeply")
            return
        param = self._param
        kind = ""
        if param.types is not None and declared is not None:
            kind = param.kinds.get(declared.strip(), "json")
        node = _Node(key, param, kind)
        self._stack.append(node)
        self._close = node.close
        self._stem = param.stem_of(node.close)
        self._hold = None
        self._parts = []
        self._at_lead = True
        self._key = key if kind not in _HOLDERS else None

    def _value(self, buf: str, pos: int, final: bool) -> int:
        node = self._stack[-1]
        if not node.kind:
            at = skip_blanks(buf, pos)
            far = at - pos > MAX_BLANKS
            if at == len(buf) and not final and not far:
                return pos
            for param in () if far else self.program.elements:
                match = param.head.match(buf, at, final)
                if match is UNDECIDED:
                    return pos
                if match is not None:
                    node.kind = "tree"
                    self._key = None
                    return at
            node.kind = "text"
        return super()._value(buf, pos, final)

    def _end_value(self) -> None:
        text = "".join(self._parts)
        if any(marker in text for marker in self.program.element_markers):
            self.fail("text and elements in one element, or an element that is not closed")
            return
        self._parts = []
        self._key = None
        self._end_element(text)

    def _end_element(self, text: str | None) -> None:
        node = self._stack.pop()
        value = _value_of(node.kind, text, node.children, self.program.syntax)
        if self._stack:
            self._stack[-1].children.append((node.name, value))
            return
        if self._ready is not None and self._ready[0] == node.name and node.param.types is None:
            self._ready[1].append(value)
            return
        self._say()
        self._ready = (node.name, [value])

    def _say(self) -> None:
        """The last argument is complete."""
        if self._ready is None:
            return
        (key, values), self._ready = self._ready, None
        ((_, value),) = _together([(key, value) for value in values])
        if self._param.types is None:
            value = _argument(key, value, self.tool, self.program.syntax)
        self.say_key(key)
        if self.streaming:
            self.out.append(json.encode(value))
        self.arguments_[key] = value

    def _finish(self) -> None:
        self._say()
        super()._finish()

    def partial(self) -> dict[str, Any]:
        """The complete arguments."""
        self._say()
        return self.arguments_
