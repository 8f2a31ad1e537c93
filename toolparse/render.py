"""Calls -> text: a format's pictures, filled in. The inverse of parsing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toolparse.codecs import json
from toolparse.codecs.unescaped import inner_syntax
from toolparse.codecs.writing import write_arguments, write_kwargs, write_string, write_value
from toolparse.compile import compile_format
from toolparse.errors import RenderError
from toolparse.format import CALL_HOLES, PARAM_HOLES, SUFFIX, Format
from toolparse.message import ToolCall, fill_id
from toolparse.picture import Hole, Part, Text, Wrapper
from toolparse.reader import read_pieces, read_text

CallLike = ToolCall | Mapping[str, Any] | tuple[str, Mapping[str, Any]]


def as_calls(calls: Iterable[CallLike]) -> list[ToolCall]:
    """Calls in any usual form: ToolCall, (name, arguments), {"name", "arguments"}, OpenAI's {"function": {...}}."""
    return [_as_call(call, index) for index, call in enumerate(calls)]


def _as_call(call: CallLike, index: int) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    id = None
    arguments: Any
    if isinstance(call, tuple):
        name, arguments = call
    elif isinstance(call, Mapping):
        id = call.get("id")
        inner: Any = call.get("function", call)
        if not isinstance(inner, Mapping) or "name" not in inner:
            raise RenderError(f"call {index}: {call!r} has no name; write {{'name': ..., 'arguments': {{...}}}}")
        name, arguments = inner["name"], inner.get("arguments", {})
    else:
        raise RenderError(
            f"call {index}: {type(call).__name__} is no call; give a ToolCall, a dict or (name, arguments)"
        )
    if isinstance(arguments, str):
        try:
            arguments = json.decode(arguments or "{}")
        except ValueError as error:
            raise RenderError(f"call {index} ({name}): the arguments are no JSON: {error}") from None
    if not isinstance(arguments, Mapping):
        raise RenderError(f"call {index} ({name}): arguments must be a dict, not {type(arguments).__name__}")
    return ToolCall(str(name), dict(arguments), id, index)


def render(
    format: Format,
    calls: Iterable[CallLike] = (),
    *,
    content: str = "",
    reasoning: str | None = None,
    prefill: str = "",
    end: bool = False,
    verify: bool = True,
) -> str:
    """The turn as the format writes it, after `prefill` (what the prompt already holds of it).

    `end`: with the end-of-turn marker. `verify`: read the result back and refuse, with RenderError, what the format
    cannot carry: the message names the call and the argument.
    """
    items = as_calls(calls)
    format, prefill = format.bind(""), prefill.replace(SUFFIX, "")
    if len(items) > 1 and not format.parallel:
        raise RenderError(f"format {format.name!r} writes one call a turn, not {len(items)}; give them one at a time")
    text = _turn(format, items, content, reasoning, prefill)
    if prefill.strip() and not in_thought(format, prefill) and _bare(text).startswith(_bare(prefill)):
        text = text[_overlap(text, prefill) :]  # the prompt opened a message or a call
    if verify:
        _verify(format, items, content, reasoning, prefill, text)
    if end and format.ends:
        text += format.ends[0]
    return text


def _turn(format: Format, calls: Sequence[ToolCall], content: str, reasoning: str | None, prefill: str) -> str:
    thought = ""
    if format.reasoning is not None and (reasoning or in_thought(format, prefill)):
        thought = format.thought.write(reasoning or "")
        if prefill.strip() and _bare(thought).startswith(_bare(prefill)):
            thought = thought[_overlap(thought, prefill) :]
    elif reasoning:
        raise RenderError(f"format {format.name!r} does not write reasoning; leave it out")
    said = format.said
    body = said.write(content) if content else ""
    if content and not said.shows:  # blanks alone: before content that begins, behind what ends
        body = ("" if thought or prefill else said.before) + content + ("" if calls else said.after)
    if not calls:
        return format.between_messages.join(part for part in (thought, body) if part)
    written = [write_call(format, call, number) for number, call in enumerate(calls)]
    block = format.block.write(format.between.join(written))
    if format.between_messages:
        alone = format.section == "{{calls}}"  # then every call is a message
        messages = [*(part for part in (thought, body) if part), *(written if alone else [block])]
        return format.between_messages.join(messages)
    if said.shows:
        return thought + body + block
    return thought + (body + format.lead if body else "") + block


def in_thought(format: Format, prefill: str) -> bool:
    """Whether the turn is inside a thought behind what the prompt holds of it."""
    if not prefill or format.reasoning is None:
        return False
    return read_pieces(format, prefill=prefill).in_thought


def _bare(text: str) -> str:
    return "".join(text.split())


def _overlap(text: str, prefill: str) -> int:
    """How much of `text` the prefill already holds, blanks not counted."""
    left = len(_bare(prefill))
    for at, char in enumerate(text):
        if not left:
            trailing = prefill[len(prefill.rstrip()) :]
            while trailing and text.startswith(trailing[0], at):
                at, trailing = at + 1, trailing[1:]
            return at
        if not char.isspace():
            left -= 1
    return len(text)


def write_call(format: Format, call: ToolCall, number: int) -> str:
    """One call as the format writes it."""
    if not json.is_shallow(call.arguments):
        raise RenderError(
            f"format {format.name!r} cannot write the call of {call.name!r}: the value is nested too deeply"
        )
    picture = format.picture("call", format.call, CALL_HOLES, frozenset())
    index = call.index or number
    id = call.id if call.id is not None else fill_id(format.new_id or format.id or "call_{{index}}", call.name, index)
    try:
        return "".join(_write_part(format, part, call, id, index) for part in picture.parts)
    except ValueError as error:
        raise RenderError(f"format {format.name!r} cannot write the call of {call.name!r}: {error}") from None


def _write_part(format: Format, part: Part, call: ToolCall, id: str, index: int) -> str:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Wrapper):
        return _write_wrapper(format, part, call, id)
    if part.name == "name":
        return escaped(format, call.name)
    if part.name == "id":
        return id
    if part.name == "index":
        return f"{index + int(part.spec or 0)}"
    if part.name == "arguments":
        return write_arguments(call.arguments, format.syntax)
    if part.name == "kwargs":
        return write_kwargs(call.arguments, format.syntax)
    if part.name == "params":
        items = sorted(call.arguments.items()) if format.syntax.sort_keys else call.arguments.items()
        return "".join(_write_param(format, format.param or "", key, value) for key, value in items)
    return ""


def escaped(format: Format, text: str) -> str:
    """A name or a key, with entities where the format has some."""
    for char, entity in format.escapes:
        text = text.replace(char, entity)
    return text


def _write_wrapper(format: Format, wrapper: Wrapper, call: ToolCall, id: str) -> str:
    out: list[str] = []
    for number, part in enumerate(wrapper.parts):
        if isinstance(part, Text):
            out.append(part.text)
            continue
        text = _wrapped(format, part, call, id)
        before = wrapper.parts[number - 1] if number else None
        quoted = isinstance(before, Text) and before.text[-1:] in ("'", '"')
        if quoted:
            text = json.quote(text)[1:-1] if part.name == "arguments" else text[1:-1]
        out.append(text)
    return "".join(out)


def _wrapped(format: Format, part: Hole, call: ToolCall, id: str) -> str:
    if part.name == "name":
        return write_string(call.name, format.syntax)
    if part.name == "id":
        return write_string(id, format.syntax)
    return write_value(call.arguments, format.syntax)


def _write_param(format: Format, source: str, key: str, value: Any) -> str:
    """A parameter, or an element within one, as the picture in `source` shows it."""
    text = param_text(format, value) if format.item is None else _element_text(format, value)
    fields = {"key": escaped(format, key), "value": text, "type": type_word(format, value), "skip": ""}
    parts = format.picture("param", source, PARAM_HOLES, frozenset()).parts
    return "".join(fields[part.name] if isinstance(part, Hole) else _text(part) for part in parts)


def _text(part: Part) -> str:
    return part.text if isinstance(part, Text) else ""


def _element_text(format: Format, value: Any) -> str:
    """A value as the inside of an element: objects and lists as elements within it."""
    if isinstance(value, Mapping):
        return "".join(_write_param(format, format.param or "", str(key), item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return "".join(_write_param(format, format.item or "", "", item) for item in value)
    return param_text(format, value)


def param_text(format: Format, value: Any) -> str:
    """A parameter's value as text: strings raw, the rest in the format's syntax."""
    if not isinstance(value, str) or format.literals:
        return write_value(value, format.syntax.of(json.type_of(value)))
    return format.wrapped(value)


def type_word(format: Format, value: Any) -> str:
    """How the format spells the type of a value in an attribute."""
    if format.types is None:
        return ""
    types = dict(format.types)
    kind = json.type_of(value)
    return types.get(kind, types.get("*", kind))


def _verify(
    format: Format, calls: Sequence[ToolCall], content: str, reasoning: str | None, prefill: str, text: str
) -> None:
    message = read_text(format, text, prefill=prefill)
    own = next(shape.tagged for shape in compile_format(format.bind("")).shapes if shape.number == 0)
    for wanted, found in zip(calls, message.tool_calls, strict=False):
        if found.name != wanted.name:
            raise RenderError(
                f"format {format.name!r} cannot carry the tool name {wanted.name!r}; it reads back as {found.name!r}"
            )
        for key, value in wanted.arguments.items():
            again = own is not None and isinstance(value, str) and own.params[0].opens_again(key, value)
            if again or key not in found.arguments or not _same(format, value, found.arguments[key]):
                raise RenderError(
                    f"format {format.name!r} cannot carry argument {key!r} of {wanted.name!r}: "
                    "its text would be taken for markup or lost; change the value or use another format"
                )
        if len(found.arguments) != len(wanted.arguments) or not found.ok:
            raise RenderError(
                f"format {format.name!r} cannot carry the arguments of {wanted.name!r}; they read back otherwise"
            )
    if len(message.tool_calls) != len(calls):
        raise RenderError(
            f"format {format.name!r} cannot carry these {len(calls)} calls together; "
            f"{len(message.tool_calls)} read back"
        )
    if message.content != content:
        raise RenderError(
            f"format {format.name!r} cannot carry this content: it reads back as {message.content[:80]!r}"
        )
    if (message.reasoning or "") != (reasoning or ""):
        raise RenderError(
            f"format {format.name!r} cannot carry this reasoning: it reads back as {(message.reasoning or '')[:80]!r}"
        )


def _same(format: Format, wanted: Any, found: Any) -> bool:
    if format.syntax.texts and format.body != "params":
        return bool(found == (wanted if isinstance(wanted, str) else write_value(wanted, inner_syntax(format.syntax))))
    if format.types is None and format.body == "params" and not format.literals:
        # Without a tool's schema everything but text reads back as the text that it was written as.
        return bool(found == _untyped(format, wanted))
    if isinstance(wanted, tuple):
        wanted = list(wanted)
    return bool(json.encode(wanted) == json.encode(found)) or (
        wanted == found and json.type_of(wanted) == json.type_of(found)
    )


def _untyped(format: Format, value: Any, *, in_list: bool = False) -> Any:
    if isinstance(value, str):
        return None if in_list and not value else value
    if format.item is not None and isinstance(value, Mapping | list | tuple):
        if not value:
            return None if in_list else ""
        if isinstance(value, Mapping):
            return {str(key): _untyped(format, item) for key, item in value.items()}
        return [_untyped(format, item, in_list=True) for item in value]
    return param_text(format, value)
