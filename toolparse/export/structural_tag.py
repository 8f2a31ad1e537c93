"""`structural_tag`: what a server may do with a model's turn, in the language of xgrammar (vLLM, SGLang).

Text is free until a call begins; from there on the call is held to its tool. JSON arguments are left to the engine's
own JSON schema where it enforces all of theirs; arguments in other spellings are rules, as in `grammar`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from toolparse.compile import is_marker
from toolparse.errors import ExportError
from toolparse.export.expressions import (
    EMPTY,
    Alt,
    Expr,
    Free,
    Holding,
    Lit,
    Ref,
    Rep,
    Rules,
    Schema,
    Seq,
    alt,
    chars,
    opt,
    seq,
    star,
)
from toolparse.export.grammar import CONTENT, THOUGHT, Turn
from toolparse.export.syntaxes import split, write
from toolparse.format import Format
from toolparse.picture import BLANKS
from toolparse.tools import Tool, ToolSet

Node = dict[str, Any]
_MAX_BLANKS = 16  # between two parts of a value: without a limit models lose themselves in them
_CHOICES = ("auto", "none", "required")


def structural_tag(
    format: Format,
    tools: Any,
    *,
    choice: str = "auto",
    parallel: bool = True,
    strict: bool | None = None,
    reasoning: bool = True,
    prefill: str | None = None,
    tokenizer: Any = None,
    skip: Collection[str] = (),
    answer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A structural tag for xgrammar, as vLLM and SGLang take it in `response_format` or `structured_outputs`.

    Args:
        format: The format. A suffix that its markers may carry is taken to be empty; `format.bind(...)` gives another.
        tools: A `ToolSet`, or a list of anything that is a tool.
        choice: "auto" (text, and calls where the model wants them), "none" (no call), "required" (nothing but calls,
            at least one) or a tool's name (nothing but calls of that tool).
        parallel: Whether there may be more than one call, where the format can write several.
        strict: Whether arguments are held to the schemas; None: as each tool's own `strict` says, else yes. Where they
            aren't, names and markup still are.
        reasoning: Whether a thought may stand before everything else. False where a reasoning parser takes thoughts
            away before the tag is asked; a thought that the prompt opens is then taken to be over.
        prefill: What the prompt already holds of the turn; the format's own if None.
        tokenizer: The model's tokenizer. Markers that are tokens of it are then written as tokens, so that text can't
            spell them; without it they are text.
        skip: Keywords of the schemas that are left to validation, such as "uniqueItems", as for `grammar`.
        answer: A JSON schema. A turn without calls is then JSON that fits it, and no text stands before calls.

    Raises:
        ExportError: The format, or a tool in this format, can't be said; the message tells why.
    """
    offered = chosen(tools, choice, strict, tagged=format.param is not None)
    turn = Turn(format, offered, prefill, tokenizer, schemas=True, free=True, skip=skip, answer=answer)
    forced = choice not in ("auto", "none")
    several = parallel and format.parallel
    if turn.framed or turn.alone or not offered or answer is not None:
        root = turn.root(parallel=several, content=not forced, reasoning=reasoning, required=forced)
        return {"type": "structural_tag", "format": _Writer(turn.rules).node(root)}
    thought = _thought(turn, reasoning=reasoning, forced=forced)
    calls = _calls(turn, several=several, forced=forced)
    return {"type": "structural_tag", "format": _Writer(turn.rules).node(seq(thought, calls))}


def triggers(format: Format, tools: Any) -> list[str]:
    """The words with which a call begins, for llama.cpp's lazy grammars.

    llama.cpp lets text run free until one of its `grammar_triggers` occurs, and from there on holds it to the grammar,
    which must begin with that word: `grammar(format, tools, content=False, reasoning=False, prefill="")` does.
    """
    turn = Turn(format, chosen(tools, "auto", False, tagged=format.param is not None), "", schemas=True)
    return list(dict.fromkeys(_trigger(turn, begin) for begin, _, _ in _tags(turn, several=False)))


def chosen(tools: Any, choice: str, strict: bool | None, *, tagged: bool) -> ToolSet:
    """The tools that a choice leaves, those that are not strict with schemas that hold to nothing but names."""
    offered: Iterable[Tool] = ToolSet.of(tools)
    if choice == "none":
        return ToolSet.of([])
    if choice not in _CHOICES:
        names = [tool.name for tool in offered]
        if choice not in names:
            raise ExportError(f"choice {choice!r} is neither one of {', '.join(_CHOICES)} nor a tool; tools: {names}")
        offered = [tool for tool in offered if tool.name == choice]
    found: list[Any] = []
    for tool in offered:
        function: Mapping[str, Any] = tool.schema["function"]
        if strict is False or (strict is None and function.get("strict") is False):
            properties = tool.parameters.get("properties")
            parameters: dict[str, Any] = {"type": "object"}
            if tagged and isinstance(properties, dict):
                parameters["properties"] = {key: {} for key in properties}
            found.append({**tool.schema, "function": {**function, "parameters": parameters}})
        else:
            found.append(tool)
    if choice != "auto" and not found:
        raise ExportError("a call is required, but there are no tools; pass some, or choose 'auto'")
    return ToolSet.of(found)


# -- the parts of a turn ----------------------------------------------------------------------------------------------


def _thought(turn: Turn, *, reasoning: bool, forced: bool) -> Expr:
    """What may stand before content and calls."""
    if turn.format.reasoning is None or not reasoning:
        return EMPTY  # one that the prompt opened was taken away together with its end
    written = turn.written((THOUGHT,), 1) if forced else turn.written((THOUGHT, CONTENT), 0)
    before, _, behind = written.partition(THOUGHT)
    if forced:
        first, _, _ = turn.find_call(behind, 0)
        behind = first.removesuffix(turn.format.block.before) + turn.format.block.start
    else:
        behind = behind.partition(CONTENT)[0].rstrip(BLANKS)
    thought = seq(Lit(before.rstrip(BLANKS)), Free(turn.kept_out[THOUGHT]), Lit(behind.lstrip(BLANKS)))
    return thought if turn.opened() else opt(thought)


def _tags(turn: Turn, *, several: bool) -> list[tuple[str, Expr, str]]:
    """All ways in which calls begin: the text up to where something varies, the rest, and the text that ends it."""
    format = turn.format
    block = format.block
    bodies = [list(turn.calls.pieces(tool)) for tool in turn.tools]
    any_call = seq(Lit(turn.head), turn.bodies, Lit(turn.tail))
    more = star(seq(Lit(format.between), any_call)) if several and block.shows else EMPTY
    opening = block.before.lstrip(BLANKS)
    if opening and is_marker(block.opening):
        return [(opening, *_ended(seq(any_call, more, Lit(block.after))))]
    tags = []
    for pieces in bodies:
        call = seq(Lit(opening), *pieces)
        first, *rest = call.items if isinstance(call, Seq) else (call,)
        begin, rest = (first.text, rest) if isinstance(first, Lit) else ("", [first, *rest])
        tags.append((begin.lstrip(BLANKS), *_ended(seq(*rest, more, Lit(block.after)))))
    return tags


def _ended(expr: Expr) -> tuple[Expr, str]:
    items = list(expr.items) if isinstance(expr, Seq) else [expr]
    last = items.pop() if items and isinstance(items[-1], Lit) else None
    return seq(*items), last.text if isinstance(last, Lit) else ""


def _trigger(turn: Turn, begin: str) -> str:
    """The word at which free text ends: a marker, words that all calls begin with, or all that is sure of one call."""
    shape = turn.calls.shape
    first = shape.opener_first or shape.head_first
    if first and is_marker(first) and begin.startswith(first):
        return first
    shared = (turn.format.block.before + turn.head).lstrip(BLANKS)
    return shared if begin.startswith(shared) and any(char.isalpha() for char in shared) else begin


def _calls(turn: Turn, *, several: bool, forced: bool) -> Expr:
    """Text and calls. Text holds no marker, as a token or spelled; so a call is the only way on from its first one."""
    ways: dict[str, list[Expr]] = {}
    for begin, content, end in _tags(turn, several=several):
        if not begin.strip(BLANKS):
            raise ExportError(f"format {turn.format.name!r}, field 'call': nothing announces a call")
        # The blanks that a picture shows behind its last marker may be missing.
        trigger, bare = _trigger(turn, begin), end.rstrip(BLANKS)
        last = seq(Lit(bare), opt(seq(Lit(end[len(bare) :]))))
        ways.setdefault(trigger, []).append(seq(Lit(begin[len(trigger) :]), content, last))
    call = alt(*(seq(Lit(trigger), alt(*rests)) for trigger, rests in ways.items()))
    repeated = several and not turn.format.block.shows
    if forced:
        call = seq(Rep(chars(" \n"), 0, 2), call)
        return seq(call, star(call)) if repeated else call
    free = Free(turn.kept_out[CONTENT])
    return seq(free, star(seq(call, free))) if repeated else seq(free, opt(call))


def _sequence(elements: list[Node]) -> Node:
    flat = [part for node in elements for part in (node["elements"] if node["type"] == "sequence" else [node])]
    return flat[0] if len(flat) == 1 else {"type": "sequence", "elements": flat}


class _Writer:
    """Expressions as formats of structural tags: what holds neither schemas nor free text is one grammar."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        #: whether a part of an expression is the engine's own
        self._special = Holding(rules, lambda expr: isinstance(expr, Schema | Free))

    def node(self, expr: Expr) -> Node:
        if isinstance(expr, Ref) and self._special(expr):
            return self.node(self.rules.rules[expr.name].expr)
        if isinstance(expr, Schema):
            schema = {key: value for key, value in json.loads(expr.text).items() if key != "x-guidance"}
            return {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": _MAX_BLANKS}
        if isinstance(expr, Free):
            return {"type": "any_text", "excludes": list(expr.excluded)}
        if isinstance(expr, Lit):
            return _sequence(
                [
                    {"type": "token", "token": one} if isinstance(one, int) else {"type": "const_string", "value": one}
                    for one in split(expr.text, self.rules.tokens)
                ]
            )
        if not self._special(expr):
            return {"type": "grammar", "grammar": write(self.rules, expr, "ebnf")}
        if isinstance(expr, Alt):
            return {"type": "or", "elements": [self.node(option) for option in expr.options]}
        if isinstance(expr, Rep):
            content = self.node(expr.item)
            kind = {(0, 1): "optional", (0, None): "star", (1, None): "plus"}.get((expr.low, expr.high))
            if kind is not None:
                return {"type": kind, "content": content}
            high = -1 if expr.high is None else expr.high
            return {"type": "repeat", "min": expr.low, "max": high, "content": content}
        assert isinstance(expr, Seq)
        elements: list[Node] = []
        plain: list[Expr] = []
        for item in (*expr.items, None):
            if item is not None and not self._special(item):
                plain.append(item)
                continue
            if plain:
                elements.append(self.node(seq(*plain)))
                plain = []
            if item is not None:
                elements.append(self.node(item))
        return _sequence(elements)
