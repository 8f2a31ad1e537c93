"""transformers' `response_template`: written from a format where that language can express it, and read as one.

A response template describes a turn as regions: each has a pattern that opens it, one that closes it, and a parser of
its inside. What the language can't say is refused with the reason: keyword arguments, objects in Python's spelling,
nested elements, calls that nothing announces or whose name is a key. What it says less exactly than a picture does is
said as well as it can: a region ends at the first closing marker, also inside a string, and the types of tagged values
come from the tools that `parse_response` is given.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from toolparse.compile import Shape, compile_format, is_marker
from toolparse.compile.items import Core, Field, Item, Raw, Slack, compile_stretch, pattern_of, trimmed
from toolparse.errors import ExportError, FormatError
from toolparse.format import CALL_HOLES, PARAM_HOLES, Format, Syntax
from toolparse.picture import BLANKS, Around, Hole, Part, Text, Wrapper, without_blanks_before, without_blanks_behind
from toolparse.tools import ToolSet
from toolparse.tools.schema_types import Resolver

_REASONING = ("thinking", "reasoning_content", "reasoning")
# The narrow types first: the first one that a text can be is taken.
_TYPES = ("null", "boolean", "integer", "number", "object", "array", "string")
_REST = r"[\s\S]*"  # all that stands behind the end of a turn


def to_response_template(format: Format, *, start_anchor: str | None = None) -> dict[str, Any]:
    """The `response_template` that reads what the format writes.

    Args:
        format: The format; a suffix that its markers may carry is taken to be empty.
        start_anchor: The text in the prompt behind which the assistant's turn begins, such as
            `<|im_start|>assistant\\n`. Without it everything but an opening at the prompt's very end is skipped, which
            does the same unless the prompt already holds more of the turn.

    Raises:
        ExportError: The language of response templates can't express the format; the message names the field.
    """
    return _Exporter(format.bind("")).template(start_anchor)


def typed_tools(tools: Any) -> list[dict[str, Any]]:
    """Tools as transformers' response parser understands them: a `type` beside every argument, references resolved.

    That parser types the text in tags by the `type` that stands directly by an argument, so that what a `$ref`, an
    `enum` or an `allOf` says would be lost on it. These dicts are for `parse_response(..., tools=)` only: of an
    argument they say nothing but its types, and a tool's other words are left out.
    """
    found = []
    for tool in ToolSet.of(tools):
        resolver = Resolver(tool.parameters)
        properties: dict[str, Any] = {}
        for key in resolver.declared(tool.parameters)[0]:
            admitted = resolver.admitted(resolver.child(tool.parameters, key))
            if not admitted.silent:
                properties[key] = {"type": [kind for kind in _TYPES if kind in admitted.types]}
        parameters = {"type": "object", "properties": properties}
        found.append({"type": "function", "function": {"name": tool.name, "parameters": parameters}})
    return found


class _Exporter:
    def __init__(self, format: Format) -> None:
        if not format.call:
            raise ExportError(f"format {format.name!r}, field 'call': nothing shows how calls are written")
        self.format = format
        self.shape: Shape = compile_format(dataclasses.replace(format, also=())).shapes[0]
        self.ends = "|".join(self._end(end) for end in format.ends)

    def _end(self, end: str) -> str:
        """A marker that ends the turn where it does not begin a call."""
        following = self.shape.cores[1:2] if self.shape.cores[:1] == (end,) else ()
        return re.escape(end) + "".join(rf"(?!\s*{re.escape(core)})" for core in following)

    def refuse(self, field: str, reason: str) -> ExportError:
        return ExportError(
            f"format {self.format.name!r}, field {field!r}: {reason}, which response templates can't express"
        )

    def template(self, start_anchor: str | None) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self.format.reasoning is not None:
            fields["thinking"] = self._framed("reasoning", self.format.thought)
        fields["tool_calls"] = self._calls()
        fields["content"] = self._content()
        start_anchor = start_anchor or self.format.between_messages
        anchor = {"start_anchor": start_anchor} if start_anchor else {"start_anchor_pattern": self._anchor()}
        return {"defaults": {"role": "assistant"}, **anchor, "fields": fields}

    def _anchor(self) -> str:
        """Everything up to the end of the prompt, or up to an opening that stands there."""
        opening = [self.format.prefill.strip(BLANKS)] if self._opens_something() else []
        opening += [self.format.thought.opening, self.format.said.opening]
        kept = "|".join(_loosely(text) for text in dict.fromkeys(opening) if text)
        return rf"\A[\s\S]*?(?=(?:(?:{kept})\s*)?\Z)" if kept else r"\A[\s\S]*\Z"

    def _opens_something(self) -> bool:
        prefill = "".join(self.format.prefill.split())
        pictures = (self.format.reasoning, self.format.content, self.format.call)
        return bool(prefill) and any("".join((source or "").split()).startswith(prefill) for source in pictures)

    # -- texts --------------------------------------------------------------------------------------------------------

    def _framed(self, field: str, frame: Around) -> dict[str, Any]:
        """A text between markers: the blanks that the picture shows next to it are markup, and may be missing."""
        closing = frame.closing
        if not frame.opening:
            raise self.refuse(field, "nothing opens this text")
        close = _blanks(frame.trail)
        behind = _blanks(frame.after[len(frame.after.rstrip(BLANKS)) :]) if closing else ""
        ways = [f"{close}{_loosely(closing)}{behind}"] if closing else [rf"(?=\s*{self._next_call()})"]
        if field == "content" and self.ends:
            ways.append(rf"(?:{self.ends}){_REST}")
        return {
            "open_pattern": _loosely(frame.opening) + _blanks(frame.lead),
            "close_pattern": "|".join(ways),
            "content": "text",
            "content_args": {"strip": False},
        }

    def _content(self) -> dict[str, Any]:
        if self.format.said.shows:
            return self._framed("content", self.format.said)
        ways = self._after_calls()
        close = {"close_pattern": "|".join(ways)} if ways else {}
        return {**close, "content": "text", "content_args": {"strip": False}}

    def _after_calls(self) -> list[str]:
        """What is no content where nothing is open: the end of the turn and all behind it, and markers of calls."""
        cores = [*self.shape.closer, *self.shape.tail]
        markers = "|".join(re.escape(core) for core in dict.fromkeys(cores) if is_marker(core))
        ends = [rf"(?:{self.ends}){_REST}"] if self.ends else []
        return [*ends, *([rf"\s*(?:{markers})\s*"] if markers else [])]

    # -- calls --------------------------------------------------------------------------------------------------------

    def _next_call(self) -> str:
        """Where a call begins, as a pattern."""
        first = self.shape.opener_first or self.shape.head_first
        return re.escape(first) if first else r"\{"

    def _calls(self) -> dict[str, Any]:
        picture = self.format.picture("call", self.format.call, CALL_HOLES, frozenset())
        wrapper = picture.wrapper
        if self.shape.anchored and not self.shape.cores:
            raise self.refuse("call", "nothing announces a call")
        if self.shape.body == "kwargs":
            raise self.refuse("call", "arguments are written as key=value in Python's spelling")
        if wrapper is not None:
            if wrapper.name_is_key:
                raise self.refuse("call", "the tool's name is a key")
            if wrapper.encoded:
                raise self.refuse("call", "the arguments are encoded a second time")
            array = self._array(wrapper, picture.parts)
            if array is not None:
                return array
        close = self._close()
        region: dict[str, Any] = {
            "open_pattern": self._open(),
            **({"close_pattern": close} if close else {}),
            "repeats": True,
        }
        region |= self._params() if wrapper is None and self.shape.body == "params" else self._json()
        call: dict[str, Any] = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}
        if wrapper is not None:
            call = _call(wrapper, "content")
        if "id" in picture.holes() and (wrapper is None or wrapper.id is None):
            call["id"] = "{id}"
        return {**region, "transform": call}

    def _array(self, wrapper: Wrapper, parts: Iterable[Part]) -> dict[str, Any] | None:
        """Calls that are the elements of one JSON list."""
        before, after = self.format.block.opening, self.format.block.closing
        alone = all(isinstance(part, Wrapper) or not _solid(part) for part in parts)
        if not (alone and before.endswith("[") and after.startswith("]") and self.format.between.strip(BLANKS) == ","):
            return None
        opening, closing = before[:-1].strip(BLANKS), after[1:].strip(BLANKS)
        lead = _blanks(self.format.lead) + _blanks(self.format.block.start)
        key = re.escape((wrapper.name or ("name",))[0])
        close = rf"\s*{_loosely(closing)}\s*" if closing else self._at_end()
        return {
            "open_pattern": lead + (_loosely(opening) + r"\s*" if opening else rf'(?=\[\s*\{{\s*"{key}"\s*:)'),
            **({"close_pattern": close} if close else {}),
            **self._json(),
            "transform": _call(wrapper),
            "transform_each": True,
        }

    def _open(self) -> str:
        items: list[Item] = []
        for part in (self.shape.opening, (Core(self.shape.between),) if self.shape.between else ()):
            if part:
                items += (Raw("(?:"), *trimmed(part, left=True), Slack(), Raw(")?"))
        named = self.format.id is not None
        for item in self.shape.heading:
            named_by_id = named and isinstance(item, Field) and item.name == "id"
            items.append(Raw(f"(?P<id>{self._named_id()})") if named_by_id else item)
        return _blanks(self.format.lead) + _blanks(self.format.block.start) + _readable(items)

    def _named_id(self) -> str:
        """The pattern of an id that holds the tool's name."""
        picture = self.format.picture("id", self.format.id or "", frozenset({"name", "index", "skip"}), frozenset())
        pattern = ""
        for part in picture.parts:
            if isinstance(part, Text):
                pattern += re.escape(part.text)
            elif isinstance(part, Hole):
                pattern += {"name": r"(?P<name>[^\s<>]+?)", "index": "[0-9]+"}.get(part.name, "")
        return pattern

    def _close(self) -> str:
        closer = r"\s*".join(re.escape(core) for core in self.shape.closer)
        closer = rf"(?:{closer}\s*)?" if closer else ""
        if self.shape.tail:
            return r"\s*" + r"\s*".join(re.escape(core) for core in self.shape.tail) + r"\s*" + closer
        between = rf"{re.escape(self.shape.between)}\s*" if self.shape.between else ""
        head = re.escape(self.shape.head_first) if self.shape.head_first else self._weak_head()
        if not self.shape.head_first and not self.format.between and self.format.parallel:
            raise self.refuse("between", "nothing stands between two calls, and nothing announces them")
        ways = [rf"(?<=[\}}\]])\s*{between}(?={head})"]
        if closer:
            ways.append(rf"\s*{closer.removesuffix('?')}")
        return "|".join([*ways, *([self._at_end()] if self.ends else [])])

    def _at_end(self) -> str:
        """Where the turn is over; the marker itself is left to content, which takes all behind it, too."""
        return rf"\s*(?={self.ends})" if self.ends else ""

    def _weak_head(self) -> str:
        assert self.shape.watch is not None
        keys = "|".join(re.escape(key) for key in self.shape.watch.first_keys())
        return rf'\{{\s*"(?:{keys})"\s*:'

    def _json(self) -> dict[str, Any]:
        syntax = self.format.syntax
        if (syntax.true, syntax.false, syntax.null) != ("true", "false", "null"):
            raise self.refuse("syntax", f"values are spelled {syntax.true}, {syntax.false} and {syntax.null}")
        if syntax.loose:
            raise self.refuse("syntax", "only what follows a value tells that it ended")
        if syntax.is_json:
            return {"content": "json"}
        if syntax.escapes:
            raise self.refuse("syntax", f"strings stand in {syntax.quotes[0]!r} and have escapes")
        if syntax.bare_keys and syntax.comma != ",":
            raise self.refuse("syntax", "keys without quotes stand behind a blank")
        arguments: dict[str, Any] = {"string_delims": [[quote, quote] for quote in syntax.quotes]}
        if syntax.bare_keys:
            arguments["unquoted_keys"] = True
        return {"content": "json", "content_args": arguments}

    def _params(self) -> dict[str, Any]:
        if self.format.item is not None:
            raise self.refuse("item", "objects and lists are nested elements")
        if self.format.syntax.quotes[0] != '"':
            raise self.refuse("syntax", "objects and lists are written in Python's spelling")
        if self.format.literals:
            raise self.refuse("literals", "strings stand in quotes inside of parameters")
        assert self.format.param is not None
        picture = self.format.picture("param", self.format.param, PARAM_HOLES, frozenset())
        before, after = picture.around("value")
        before, lead = without_blanks_behind(before)
        after, trail = without_blanks_before(after)
        value = r"(?P<value>[\s\S]*?)"
        wrapping = self.format.wrapping
        if wrapping is not None:
            value = f"(?:{re.escape(wrapping.before)})?{value}(?:{re.escape(wrapping.after)})?"
        # The two sides of the value are one stretch, so that a closing tag can repeat the name.
        mark = "\x00"
        whole = compile_stretch((*before, Text(mark), *after)).items
        at = whole.index(Core(mark))
        left, right = trimmed(whole[:at], right=True), trimmed(whole[at + 1 :], left=True, right=True)
        return {
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": f"{_readable(left)}{_blanks(lead)}{value}{_blanks(trail)}{_readable(right)}"
            },
        }


def _solid(part: Any) -> bool:
    return not isinstance(part, Text) or bool(part.text.strip(BLANKS))


def _blanks(text: str) -> str:
    """Blanks that a picture shows next to a text: each may be missing."""
    return "".join({"\n": r"\n", "\t": r"\t", "\r": r"\r"}.get(char, char) + "?" for char in text)


def _loosely(text: str) -> str:
    """A marker as a pattern: blanks may be any, and between two words there are some."""
    pattern = ""
    for word in text.split():
        if pattern:
            pattern += r"\s+" if pattern[-1].isalnum() and word[0].isalnum() else r"\s*"
        pattern += re.escape(word)
    return pattern


def _readable(items: Iterable[Item]) -> str:
    return pattern_of(items, slack=r"\s*")


def _call(wrapper: Wrapper, *root: str) -> dict[str, Any]:
    """A call by the paths in its wrapper, which stands at `root`."""

    def path(keys: tuple[str, ...] | None) -> str:
        return "{" + ".".join((*root, *(keys or ()))) + "}"

    function = {"name": path(wrapper.name), "arguments": path(wrapper.arguments)}
    return {"type": "function", "function": function, **({"id": path(wrapper.id)} if wrapper.id is not None else {})}


# -- reading ----------------------------------------------------------------------------------------------------------


class Imported(NamedTuple):
    """What a response template says as a format; `format` is None where pictures can't say it, and `reason` why."""

    format: Format | None
    reason: str


class _NotSaid(Exception):
    """A response template says something that pictures can't; the message tells what."""


def from_response_template(template: Mapping[str, Any], *, name: str) -> Imported:
    """A format called `name` that reads what a response template reads, or the reason why there is none.

    What is read: fields for content, for a thought (`reasoning_content`, `reasoning` or `thinking`) and `tool_calls` in
    JSON or in tags, whose patterns are literals, named groups and optional blanks. The template itself is not checked
    beyond that; transformers does.
    """
    try:
        return Imported(_imported(template, name), "")
    except _NotSaid as error:
        return Imported(None, str(error))
    except FormatError as error:
        return Imported(None, f"the pictures make no format: {error}")


def _imported(template: Mapping[str, Any], name: str) -> Format:
    fields = template.get("fields")
    if not isinstance(fields, Mapping) or not fields:
        raise _NotSaid("the template has no fields")
    unknown = sorted(set(fields) - {"content", "tool_calls", *_REASONING})
    if unknown:
        raise _NotSaid(f"field {unknown[0]!r}: a turn is made of content, a thought and tool calls")
    if "tool_calls" not in fields:
        raise _NotSaid("the template has no field 'tool_calls'")
    content, ends = _read_framed("content", fields.get("content", {}))
    declared = _read_calls(fields["tool_calls"], ends)
    for field in _REASONING:
        if field in fields:
            opener = _opened_by_prompt(template, fields[field])
            if opener:
                declared["prefill"] = f"{opener}\n"
            declared["reasoning"] = _read_framed(field, fields[field], opener)[0]
    if content != "{{text}}":
        declared["content"] = content
        anchor = template.get("start_anchor")
        if isinstance(anchor, str):
            declared["between_messages"] = anchor  # framed texts are messages of their own
    shown = "".join(str(declared.get(part, "")) for part in ("section", "call"))  # what calls show ends no turn
    ends = tuple(dict.fromkeys(end for end in (*ends, *declared.pop("ends")) if end not in shown))
    return Format(name, declared.pop("call"), ends=ends, source="a response template", **declared)


def _anchors(field: str, spec: Mapping[str, Any], side: str) -> list[str]:
    """The pictures of what opens or closes a field, one for each alternative."""
    literal, pattern = spec.get(side), spec.get(f"{side}_pattern")
    if isinstance(literal, str):
        return [literal]
    if isinstance(literal, list) and literal:
        return [str(text) for text in literal]
    if not isinstance(pattern, str):
        return []
    ways = [way for way in _ways(pattern) if side == "open" or not _is_end(way)]
    return [picture for way in ways for picture in _pictures(field, way.removesuffix(_REST))]


def _opened_by_prompt(template: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """The tag at the end of the start anchor that opens this text, where the field itself shows its end only."""
    opening = spec.get("open_pattern")
    if "open" in spec or not isinstance(opening, str) or not _is_end(opening):
        return ""
    anchor = str(template.get("start_anchor") or template.get("start_anchor_pattern") or "")
    closers = re.findall(r"</([\w:.-]+)>", str(spec.get("close") or spec.get("close_pattern") or ""))
    return next((f"<{name}>" for name in closers if f"<{name}>" in anchor), "")


def _read_framed(field: str, spec: Mapping[str, Any], opener: str = "") -> tuple[str, tuple[str, ...]]:
    """The picture of a text and what ends the turn behind it; `opener` opens it where nothing in the field does."""
    if spec.get("content", "text") != "text" or "transform" in spec:
        raise _NotSaid(f"field {field!r}: a text that is parsed or transformed")
    opens = [opener] if opener else [text for text in _anchors(field, spec, "open") if text.strip(BLANKS)]
    closes = [text for text in _anchors(field, spec, "close") if text.strip(BLANKS)]
    if not opens:
        if field != "content":
            raise _NotSaid(f"field {field!r}: nothing opens it")
        return "{{text}}", tuple(text.strip(BLANKS) for text in closes)
    if "{{" in "".join((*opens, *closes)):
        raise _NotSaid(f"field {field!r}: a marker that takes something out of the text")
    return f"{opens[0]}{{{{text}}}}{closes[0] if closes else ''}", tuple(text.strip(BLANKS) for text in closes[1:])


def _read_calls(spec: Mapping[str, Any], ends: tuple[str, ...]) -> dict[str, Any]:
    declared: dict[str, Any] = {}
    keywords = _read_keywords(spec)
    if keywords is not None:
        return {**keywords, "ends": ()}
    section, between, spec = _without_section(spec)
    opens, closes = _anchors("tool_calls", spec, "open"), _anchors("tool_calls", spec, "close")
    if not opens:
        raise _NotSaid("field 'tool_calls': nothing opens it")
    closes = [text for text in closes if text.strip(BLANKS)]
    if closes and ends and {text.strip(BLANKS) for text in closes} == set(ends):
        closes = []  # nothing but the end of the turn closes a call
    opening, closing = opens[0], closes[0].rstrip(BLANKS) if closes else ""
    declared["ends"] = tuple(text.strip(BLANKS) for text in closes[1:])
    if section[0] and not section[1]:
        section, closing = (section[0], closing), ""
    blanks, opening = opening[: len(opening) - len(opening.lstrip(BLANKS))], opening.lstrip(BLANKS)
    if blanks:
        declared["lead"] = blanks
    if any(section):
        declared["section"] = f"{section[0]}{{{{calls}}}}{section[1]}"
    if between:
        declared["between"] = between
    kind = spec.get("content", "text")
    options = spec.get("content_args") or {}
    name, arguments, id = _transform(spec)
    each = bool(spec.get("transform_each"))
    if kind == "xml-inline":
        if name != "{name}" or arguments != "{content}":
            raise _NotSaid("field 'tool_calls': a transform that is not {name} and {content}")
        declared["param"] = _read_tag(options)
        inner = _unclosed(opening, closing)
        if inner:  # what no tag_pattern takes is skipped: the tags that the opening left open are closed in there
            declared["also"] = (f"{opening}{{{{params}}}}{closing}",)
        return {**declared, "call": f"{opening}{{{{params}}}}{inner}{closing}"}
    if kind != "json":
        raise _NotSaid(f"field 'tool_calls': calls as {kind!r}")
    declared["syntax"] = _read_syntax(options)
    named = re.fullmatch(r"(.*\{\{id=)(.*?)(\}\}.*)", opening, re.DOTALL)
    if named is not None:
        opening = f"{named[1].removesuffix('=')}{named[3]}"
        declared["id"] = named[2].replace("[[", "{{").replace("]]", "}}")
    if name == "{name}" and arguments == "{content}" and not each:
        return {**declared, "call": f"{opening}{{{{arguments}}}}{closing}"}
    wrapper = _wrapper(spec, name, arguments, id)
    if each:
        blank = "\n" if opening[-1:].isalnum() else ""  # a bracket right behind a word would belong to it
        return {**declared, "section": f"{opening}{blank}[{{{{calls}}}}]{closing}", "call": wrapper, "between": ", "}
    return {**declared, "call": f"{opening}{wrapper}{closing}"}


#: `{name}(`, and before it what opens the section or stands between two calls.
_KEYWORD_OPEN = re.compile(
    r"\(\?:(?P<section>(?:[^|()\\]|\\.)+)\|(?P<between>(?:[^|()\\]|\\.)+)\)\(\?P<name>\\w\+\)\\\(\Z"
)
#: `)`, and behind it what closes the section.
_KEYWORD_CLOSE = re.compile(r"\\\)\(\?:(?P<section>(?:[^|()\\]|\\.)+)\)\?(?:\\s\*)?\Z")


def _read_keywords(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """Calls as a list of `name(key=value)`, where the patterns say that."""
    options = spec.get("content_args") or {}
    values = options.get("value_parser") or {}
    opening = _KEYWORD_OPEN.fullmatch(str(spec.get("open_pattern")))
    closing = _KEYWORD_CLOSE.fullmatch(str(spec.get("close_pattern")))
    tags = str(options.get("tag_pattern")).startswith(r"(?P<key>\w+)=(?P<value>")
    if opening is None or closing is None or not tags or values.get("name") != "json":
        return None
    quotes = _read_syntax(values.get("args") or {}).quotes
    before = _pictures("tool_calls", opening["section"])[0]
    return {
        "section": f"{before}{{{{calls}}}}{_pictures('tool_calls', closing['section'])[0]}",
        "between": f"{_pictures('tool_calls', opening['between'])[0].rstrip(BLANKS)} ",
        "call": "{{name}}({{kwargs}})",
        # Such calls are Python's; that language of templates reads its words as text.
        "syntax": Syntax(
            quotes=tuple(dict.fromkeys((*quotes, "'", '"'))),
            true="True",
            false="False",
            null="None",
            colon=": ",
            comma=", ",
        ),
    }


def _without_section(spec: Mapping[str, Any]) -> tuple[tuple[str, str], str, Mapping[str, Any]]:
    """Markers of a section, what stands between calls, and the field without them.

    What may stand before a call, or behind it, stands there once around all calls; a comma or the like stands between.
    """
    found = {"section": "", "between": "", "closer": ""}
    opening, closing = spec.get("open_pattern"), spec.get("close_pattern")
    if isinstance(opening, str):
        blanks = re.match(r"(?:(?:\\n| |\\s)[?*])*", opening)
        assert blanks is not None
        lead, opening = blanks.group(), opening[blanks.end() :]
        while opening.startswith("(?:"):
            end = _closing(opening, 0)
            if opening[end + 1 : end + 2] != "?":
                break
            text = _pictures("tool_calls", opening[3:end])[0]
            found["between" if not re.search(r"[\w<\[]", text) else "section"] = text
            opening = opening[end + 2 :]
        spec = {**spec, "open_pattern": lead + opening}
    if isinstance(closing, str):
        match = re.search(r"\(\?:((?:[^()\\]|\\.)*)\)\?(?:\\s\*)?\Z", closing)
        if match is not None and match.start():
            found["closer"] = _pictures("tool_calls", match.group(1))[0].rstrip(BLANKS)
            spec = {**spec, "close_pattern": closing[: match.start()]}
    return (found["section"], found["closer"]), found["between"], spec


def _unclosed(opening: str, closing: str) -> str:
    """The closing tags of what the opening of a call leaves open."""
    tags = re.findall(r"<([A-Za-z_][\w:.-]*)(?=[=\s>])[^<>]*>", opening)
    return "".join(f"</{tag}>\n" for tag in reversed(tags) if f"</{tag}>" not in closing)


def _transform(spec: Mapping[str, Any]) -> tuple[str, str, str]:
    """Where name, arguments and id of a call come from."""
    transform = spec.get("transform")
    if transform is None:
        return "{content.function.name}", "{content.function.arguments}", ""
    function = transform.get("function", transform) if isinstance(transform, Mapping) else None
    if function == "{content}":
        return "{content.name}", "{content.arguments}", ""
    if isinstance(function, Mapping) and {"name", "arguments"} <= set(function):
        id = transform.get("id", "") if isinstance(transform, Mapping) else ""
        return str(function["name"]), str(function["arguments"]), str(id)
    raise _NotSaid("field 'tool_calls': a transform that does not give name and arguments")


def _wrapper(spec: Mapping[str, Any], name: str, arguments: str, id: str) -> str:
    """The JSON object around a call, from the paths in the transform."""
    tree: dict[str, Any] = {}
    for hole, path in (("name", name), ("arguments", arguments), ("id", id)):
        keys = path.strip("{}").split(".")
        if not spec.get("transform_each"):
            if hole == "id" and not path:
                continue
            if keys[0] != "content" or len(keys) < 2:
                raise _NotSaid(f"field 'tool_calls': the {hole} is {path!r}, which is no path into the content")
            keys = keys[1:]
        elif not path:
            continue
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = f"{{{{{hole}}}}}"
    return _shown(tree)


def _shown(tree: Mapping[str, Any] | str) -> str:
    if isinstance(tree, str):
        return tree
    return "{" + ", ".join(f'"{key}": {_shown(value)}' for key, value in tree.items()) + "}"


def _read_syntax(options: Mapping[str, Any]) -> Syntax:
    delimiters = options.get("string_delims") or []
    bare = bool(options.get("unquoted_keys"))
    if any(len(pair) != 2 or pair[0] != pair[1] for pair in delimiters):
        raise _NotSaid("field 'tool_calls': strings whose two quotes differ")
    if not delimiters and not bare:
        return Syntax()
    quotes = tuple(pair[0] for pair in delimiters) or ('"',)
    return Syntax(quotes=quotes, escapes=not delimiters, bare_keys=bare, colon=":", comma=",")


def _read_tag(options: Mapping[str, Any]) -> str:
    pattern = options.get("tag_pattern")
    if not isinstance(pattern, str):
        raise _NotSaid("field 'tool_calls': tags without a tag_pattern")
    pictures = _pictures("tool_calls", pattern)
    if len(pictures) != 1 or pictures[0].count("{{key}}") < 1 or "{{value}}" not in pictures[0]:
        raise _NotSaid("field 'tool_calls': a tag_pattern that is no row of literals, key and value")
    return pictures[0]


# -- patterns ---------------------------------------------------------------------------------------------------------

_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def _syntax_of(pattern: str, at: int = 0) -> Iterator[tuple[int, str]]:
    """The characters from a position on that are neither escaped nor within a class, and where they stand."""
    in_class = False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
            at += pattern.startswith(("[^]", "[]"), at)
        else:
            yield at, char
        at += 1


def _ways(pattern: str) -> list[str]:
    """The alternatives of a pattern at its outermost level."""
    found: list[str] = []
    depth = start = 0
    for at, char in _syntax_of(pattern):
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            found.append(pattern[start:at])
            start = at + 1
    return [*found, pattern[start:]]


def _is_end(way: str) -> bool:
    """Whether an alternative says nothing but that the text ends here, or that something else begins."""
    bare = re.sub(r"\\s[*+?]", "", way.removesuffix(_REST))
    return bare in ("$", r"\Z", "") or bare.startswith(("(?=", "(?<="))


def _pictures(field: str, pattern: str) -> list[str]:
    """A pattern as pictures, one for each choice that it leaves: literals stay, named groups become holes."""
    done = [""]
    at = 0
    while at < len(pattern):
        if pattern[at] == "(":
            end = _closing(pattern, at)
            inner, at = pattern[at + 1 : end], end + 1
            optional = pattern[at : at + 1] in ("?", "*")
            at += pattern[at : at + 1] in ("?", "*", "+")
            pieces = _group(field, inner)
            # What is optional is there in a complete turn.
            done = [text + piece for text in done for piece in (pieces[:1] if optional else pieces)]
            continue
        if pattern.startswith("[0-9]+", at):
            done = [text + "{{index}}" for text in done]
            at += 6
            continue
        code = pattern[at : at + 2] if pattern[at] == "\\" else pattern[at]
        at += len(code)
        repeat = pattern[at : at + 1] if pattern[at : at + 1] in ("?", "*", "+") else ""
        at += len(repeat)
        literal = _literal(field, code, repeat)
        done = [text + literal for text in done]
    return [re.sub(_SLACK, _shown_blanks, text) for text in done]


_SLACK = "\x00"


def _shown_blanks(slack: re.Match[str]) -> str:
    """What a picture shows where there may be blanks: nothing where they are free anyway."""
    left = slack.string[: slack.start()].rstrip(_SLACK)
    right = slack.string[slack.end() :].lstrip(_SLACK)
    if left.endswith(("{{value}}", "{{text}}")) or right.startswith(("{{value}}", "{{text}}")):
        return "\n"  # next to a text the pictured newline is markup, and may be missing
    attribute = left.endswith(('"', "'")) and right[:1].isalnum()
    if attribute or left.rfind("<") > left.rfind(">"):  # inside a tag blanks are a part of it
        return " " if attribute or (left[-1:].isalnum() and right[:1].isalnum()) else ""
    free = "<>[]{}="
    return "\n" if left and right and left[-1] not in free and right[0] not in free else ""


def _group(field: str, inner: str) -> list[str]:
    """What a group says, as pictures."""
    if inner.startswith(("?=", "?!", "?<=", "?<!")):
        return [""]  # what stands around does not change what is written
    named = re.match(r"\?P<(\w+)>|\?P=(\w+)\Z", inner)
    if named is None:
        return [text for way in _ways(inner.removeprefix("?:")) for text in _pictures(field, way)]
    hole = named[1] or named[2]
    body = inner[named.end() :]
    if re.fullmatch(r"q\d+", hole):
        return ['"']  # the quotes of an attribute
    if hole == "value" and not re.fullmatch(r"(?:\.|\[\\s\\S\]|\[\^[^\]]{1,4}\])[*+]\??", body):
        raise _NotSaid(f"field {field!r}: values of a form of their own, {body[:40]!r}")
    if hole == "id" and "(?P<name>" in body:
        # The name follows from the id: its picture rides along until `_read_calls` takes it out.
        picture = _pictures(field, body)[0].replace("{{", "[[").replace("}}", "]]")
        return [f"{{{{id={picture}}}}}"]
    return [f"{{{{{hole}}}}}"]


def _literal(field: str, code: str, repeat: str) -> str:
    """A character of a pattern, or any number of blanks."""
    if code == "\\s":
        return " " if repeat == "+" else _SLACK
    if len(code) == 2 and code[1].isalnum() and code[1] not in _ESCAPED:
        raise _NotSaid(f"field {field!r}: {code} in a pattern")
    if code in "[.^$|{":
        raise _NotSaid(f"field {field!r}: {code!r} in a pattern, outside of a named group")
    char = _ESCAPED.get(code[1], code[1]) if len(code) == 2 else code
    if repeat and char not in BLANKS:
        raise _NotSaid(f"field {field!r}: {char + repeat!r} in a pattern")
    return char


def _closing(pattern: str, at: int) -> int:
    """Where the bracket at a position is closed."""
    depth = 0
    for place, char in _syntax_of(pattern, at):
        depth += (char == "(") - (char == ")")
        if char == ")" and not depth:
            return place
    raise _NotSaid("a pattern with an open bracket")
