"""`parse` and `parser_for`: from any source to a parser."""

from __future__ import annotations

import os
from _thread import allocate_lock  # threading.Lock, without loading the rest of threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, Unpack, overload

from toolparse import registry
from toolparse.detect import SWAPPED, check_source, detect
from toolparse.errors import UnknownFormat, UnverifiedFormatWarning
from toolparse.format import Format
from toolparse.message import ParsedMessage
from toolparse.parser import AnyParser, FunctionParser, Parser, TextOrIds

_KNOWN = 128
_parsers: OrderedDict[tuple[int, int], tuple[Any, Any, AnyParser]] = OrderedDict()
_lock = allocate_lock()


class ReadingOptions(TypedDict, total=False):
    """How turns are read, where that is to differ from the rulings; see `Parser`."""

    repair: bool
    bare: Literal["alone", "anywhere", "never"]
    rescue: bool
    coerce: bool
    infer: bool


def parse(
    text_or_ids: TextOrIds,
    source: Any,
    tools: Any = None,
    prompt: TextOrIds | None = None,
    **options: Unpack[ReadingOptions],
) -> ParsedMessage:
    """Every tool call, content and reasoning of a completion.

    `source`: a tokenizer, processor, chat template text, model folder or file, a model's id on the hub, a Format or a
    family's name. `tools`: a list of functions, pydantic models or OpenAI-style dicts. `prompt`: the rendered prompt
    that the model continued. Raises UnknownFormat when nothing fits the source, TypeError when something else than a
    completion is given; never raises on what the model wrote. `options`: as for `Parser`.
    """
    if isinstance(text_or_ids, Parser | FunctionParser | Format) or hasattr(text_or_ids, "chat_template"):
        raise TypeError(SWAPPED)
    try:
        parser: AnyParser = parser_for(source, **options)
    except (UnknownFormat, TypeError):
        if isinstance(text_or_ids, str) and registry.named(text_or_ids) is not None:
            raise TypeError(SWAPPED) from None
        raise
    return parser.parse(text_or_ids, tools=tools, prompt=prompt)


@overload
def parser_for(source: FunctionParser, *, tools: Any = None) -> FunctionParser: ...
@overload
def parser_for(source: Any, *, tools: Any = None, **options: Unpack[ReadingOptions]) -> Parser: ...
def parser_for(source: Any, *, tools: Any = None, **options: Unpack[ReadingOptions]) -> AnyParser:
    """A parser for a tokenizer, processor, chat template text, model folder or file, a model on the hub, a Format, a
    FunctionParser, or the name of a family, a server's parser or a listed model.

    To type checkers the name of a function that was registered gives a `Parser`, whose methods it has.
    Parsers of tokenizers are remembered until their template changes. Raises UnknownFormat, saying what was looked at,
    and TypeError for what can't be a source. `options`: how turns are read (`repair`, `bare`, `rescue`, `coerce`,
    `infer`), as for `Parser`.
    """
    if options:
        given: AnyParser = parser_for(source)
        if isinstance(given, FunctionParser):
            raise TypeError(
                f"{', '.join(options)}: {given!r} reads by a function of its own, which has no such options"
            )
        return _rebound(given, given.tools if tools is None else tools, options)
    if isinstance(source, Parser):
        return source if tools is None else _rebound(source, tools)
    if isinstance(source, FunctionParser):
        return source if tools is None else FunctionParser(source.function, name=source.name, tools=tools)
    if isinstance(source, Format):
        return Parser(source, tools=tools)
    check_source(source)
    if isinstance(source, str) and registry.kind_of(source) == "name":
        entry = registry.named(source)
        if entry is not None:
            return entry if isinstance(entry, FunctionParser) else Parser(entry, tools=tools)
    if tools is not None:
        found: AnyParser = parser_for(source)
        return parser_for(found, tools=tools)
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


def _rebound(parser: Parser, tools: Any, options: ReadingOptions | None = None) -> Parser:
    chosen = {**parser.options.given(), **(options or {})}
    return Parser(
        parser.format,
        tools=tools,
        tokenizer=parser.tokenizer,
        prefill=parser.prefill,
        style=parser.style,
        verified=parser.verified,
        **chosen,
    )


def _detected(source: Any) -> AnyParser:
    from toolparse.tokens import tokenizer_of

    detection = detect(source)
    if detection.format is None:
        looked = "\n".join(f"  - {line}" for line in detection.evidence)
        raise UnknownFormat(
            f"no tool-call format fits {_describe(source)}. Looked at:\n{looked}",
            "\nRegister one with toolparse.register(Format(...)), or pass a family name (toolparse.families()).",
        )
    if isinstance(detection.format, FunctionParser):
        return detection.format
    if not detection.verified and detection.how != "exact text":
        _warn(source, detection)
    tokenizer = tokenizer_of(source)
    if not hasattr(tokenizer, "decode"):
        tokenizer = None
    return Parser(
        detection.format,
        tokenizer=tokenizer,
        prefill=detection.prefill,
        style=detection.message_style,
        verified=detection.verified,
    )


def _warn(source: Any, detection: Any) -> None:
    """Say that a format is not proved, to whoever called: once for each source, as warnings with the same words are."""
    import sys
    import warnings

    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "toolparse":
        level, frame = level + 1, frame.f_back
    why = next((line for line in detection.evidence if line.startswith("unproved")), detection.evidence[-1])
    warnings.warn(
        f"{_describe(source)} is read as {detection.format.name!r}, which is not proved ({detection.how}: {why}). "
        f"Pass {detection.format.name!r} itself if that is right, or a template with tools; "
        "warnings.simplefilter('ignore', toolparse.errors.UnverifiedFormatWarning) silences this.",
        UnverifiedFormatWarning,
        stacklevel=level,
    )


def _describe(source: Any) -> str:
    if isinstance(source, str):
        return "this chat template" if registry.kind_of(source) == "text" else repr(source)
    if isinstance(source, Mapping):
        return "this chat template" if len(source) == 1 else "these chat templates"
    name = getattr(source, "name_or_path", "")
    return f"{type(source).__name__}{f' {name!r}' if name else ''}"
