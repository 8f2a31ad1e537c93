"""The parameters of a call that stand in tags of their own, compiled for their scanner."""

from __future__ import annotations

import re

from toolparse.codecs.matching import SLACK, Rx
from toolparse.codecs.tagged import KEY, ParamProgram, TaggedProgram
from toolparse.compile.items import ELEMENT_NAME, Field, Literals, Raw, compile_stretch, is_marker, pattern_of, trimmed
from toolparse.format import PARAM_HOLES, Format
from toolparse.picture import Hole, Picture, Text, without_blanks_before, without_blanks_behind


def compile_parameters(
    formats: list[Format],
    tail: tuple[str, ...],
    closer: tuple[str, ...],
    opener: str,
    shared: tuple[str, ...],
    slips: frozenset[Format],
) -> TaggedProgram:
    """The parameters of a shape; `formats`: the format and those that differ from it in the picture of a parameter."""
    format = formats[0]
    literals = Literals(shared, escaped=bool(format.escapes))
    params = tuple(
        _param(
            shape, shape.picture("param", shape.param, PARAM_HOLES, frozenset()), literals.fresh(), slip=shape in slips
        )
        for shape in formats
        if shape.param is not None
    )
    elements = list(params)
    item = None
    if format.item is not None:
        item = _param(format, format.picture("item", format.item, PARAM_HOLES, frozenset()), literals.fresh())
        elements.append(item)
    message = compile_stretch((Text(format.between_messages),)).first
    firsts = [param.first for param in elements]
    # Another call may stand there, where its marker begins no parameter.
    begins = [core for core in (message, opener) if is_marker(core) and not any(f.startswith(core) for f in firsts)]
    stops = tuple(dict.fromkeys(core for core in (*tail, *closer, *format.ends, *begins) if core))
    closes = [param.close.partition(KEY)[0] for param in elements] if item is not None else []
    following = tuple(dict.fromkeys(core for core in (*firsts, *closes, *stops, opener) if core))
    after_close = SLACK + "(?:" + "|".join(re.escape(core) for core in following) + ")"
    after_tail = None
    if tail:
        rest = "".join(SLACK + re.escape(core) for core in tail[1:])
        next_up = tuple(dict.fromkeys(core for core in (opener, *closer, *format.ends, message) if core))
        choices = "|".join(re.escape(core) for core in next_up)
        pattern = rest + SLACK + (f"(?:{choices})" if choices else "(?!)")
        after_tail = Rx(pattern, at_end=rest + SLACK + r"\Z")
    return TaggedProgram(
        params,
        follows=tuple(dict.fromkeys((*(param.first for param in params if param.first), *stops))),
        item=item,
        after_close=Rx(after_close, at_end=SLACK + r"\Z"),
        after_least=min(map(len, following), default=0),
        tail=tail,
        after_tail=after_tail,
        stops=stops,
        syntax=format.syntax,
        wrap=format.wrapping,
        unescape=tuple(reversed(format.escapes)),
        element_markers=tuple(dict.fromkeys((*(first for first in firsts if first), *closes))) if closes else (),
    )


def _param(format: Format, picture: Picture, literals: Literals, *, slip: bool = False) -> ParamProgram:
    before, after = picture.around("value")
    before, lead = without_blanks_behind(before)
    after, trail = without_blanks_before(after)
    head = compile_stretch(before, literals=literals)
    after, behind = without_blanks_behind(after)
    close = "".join(part.text if isinstance(part, Text) else KEY for part in after)
    items = trimmed(head.items, right=True)
    if KEY in close and not any(isinstance(item, Field) and item.name == "key" for item in items):
        mark, behind = (re.escape(text) for text in close.split(KEY))  # only the closing tag says which it is
        items = (*items, Raw(f"(?=[^<>]{{1,256}}?{mark}(?P<key>{ELEMENT_NAME}){behind})"))
    if slip:  # what it leaves out is not there, damaged
        begins = re.escape(close.partition(KEY)[0])
        items = (*items, Raw(rf"(?={SLACK}(?:\w{{1,32}}+(?:\w|[^\w>])|[^\w<>]|{begins}))"))
    return ParamProgram(
        Rx(pattern_of(items)),
        first=head.first,
        lead=lead,
        trail=trail,
        close=close,
        behind=behind,
        types=dict(format.types) if format.types is not None and "type" in picture.holes() else None,
        literals=format.literals,
        written=_written(picture),
        slip=slip,
    )


def _written(picture: Picture) -> tuple[str, ...] | None:
    """The literals of a parameter's picture, where they part key, perhaps type, and value in this order."""
    parts = picture.parts
    literals = tuple(part.text for part in parts[::2] if isinstance(part, Text))
    holes = tuple(part.name for part in parts[1::2] if isinstance(part, Hole))
    whole = len(literals) == len(holes) + 1 and len(literals) + len(holes) == len(parts)
    return literals if whole and holes in (("key", "value"), ("key", "type", "value")) else None
