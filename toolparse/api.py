"""`parse` and `parser_for`: from any source to a parser."""

from __future__ import annotations

import os
from _thread import allocate_lock  # threading.Lock, without loading the rest of threading
from collections import OrderedDict
from typing import Any, overload

from toolparse import registry
from toolparse.errors import UnknownFormat
from toolparse.format import Format
from toolparse.message import ParsedMessage
from toolparse.parser import AnyParser, FunctionParser, Parser, TextOrIds

_KNOWN = 128
_parsers: OrderedDict[tuple[int, int], tuple[Any, Any, AnyParser]] = OrderedDict()
_lock = allocate_lock()


def parse(text_or_ids: TextOrIds, tokenizer: Any, tools: Any = None, prompt: TextOrIds | None = None) -> ParsedMessage:
    """Every tool call, content and reasoning of a completion.

    `tokenizer`: a tokenizer, processor, chat template text, Format or family name. `tools`: functions, pydantic
    models or OpenAI-style dicts. `prompt`: the rendered prompt that the model continued. Raises UnknownFormat when
    nothing fits the tokenizer; never raises on what the model wrote.
    """
    parser: AnyParser = parser_for(tokenizer)
    return parser.parse(text_or_ids, tools=tools, prompt=prompt)


@overload
def parser_for(source: FunctionParser, *, tools: Any = None) -> FunctionParser: ...
@overload
def parser_for(source: Any, *, tools: Any = None) -> Parser: ...
def parser_for(source: Any, *, tools: Any = None) -> AnyParser:
    """A parser for a tokenizer, processor, chat template text, model folder, Format, FunctionParser or family name.

    To type checkers the name of a function that was registered gives a `Parser`, whose methods it has.
    Parsers of tokenizers are remembered until their template changes. Raises UnknownFormat, saying what was looked at.
    """
    if isinstance(source, Parser):
        return source if tools is None else _rebound(source, tools)
    if isinstance(source, FunctionParser):
        return source if tools is None else FunctionParser(source.function, name=source.name, tools=tools)
    if isinstance(source, Format):
        return Parser(source, tools=tools)
    if isinstance(source, str) and is_name(source):
        entry = registry.get(source)
        return entry if isinstance(entry, FunctionParser) else Parser(entry, tools=tools)
    if tools is not None:
        parser: AnyParser = parser_for(source)
        return parser_for(parser, tools=tools)
    if isinstance(source, str | dict | os.PathLike):
        return _detected(source)
    template = getattr(source, "chat_template", None)
    key = (id(source), hash(template) if isinstance(template, str | None) else id(template))
    with _lock:
        known = _parsers.get(key)
        if known is not None and known[0] is source and known[1] == template:
            _parsers.move_to_end(key)
            return known[2]
    parser = _detected(source)
    with _lock:
        _parsers[key] = (source, template, parser)
        while len(_parsers) > _KNOWN:
            _parsers.popitem(last=False)
    return parser


def is_name(source: str) -> bool:
    """Whether a string is meant as a family's name rather than as a template or a path."""
    if "{" in source or "\n" in source:
        return False
    return not (os.sep in source or os.path.exists(source))


def _rebound(parser: Parser, tools: Any) -> Parser:
    return Parser(
        parser.format,
        tools=tools,
        tokenizer=parser.tokenizer,
        prefill=parser.prefill,
        repair=parser.repair,
        style=parser.style,
    )


def _detected(source: Any) -> AnyParser:
    from toolparse.detect import detect

    detection = detect(source)
    if detection.format is None:
        looked = "\n".join(f"  - {line}" for line in detection.evidence)
        raise UnknownFormat(
            f"no tool-call format fits {_describe(source)}. Looked at:\n{looked}\n"
            "Register one with toolparse.register(Format(...)), or pass a family name (toolparse.families())."
        )
    if isinstance(detection.format, FunctionParser):
        return detection.format
    tokenizer = source if hasattr(source, "decode") else getattr(source, "tokenizer", None)
    prefill = getattr(detection, "prefill", None)
    return Parser(
        detection.format, tokenizer=tokenizer, prefill=prefill, style=getattr(detection, "message_style", None)
    )


def _describe(source: Any) -> str:
    if isinstance(source, str):
        return "this chat template" if "{" in source else repr(source)
    name = getattr(source, "name_or_path", "")
    return f"{type(source).__name__}{f' {name!r}' if name else ''}"
