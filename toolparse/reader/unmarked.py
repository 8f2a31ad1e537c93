"""Calls whose markers were lost: text that was decoded with `skip_special_tokens=True`.

Of each way to write calls that is told by markers, what is left when those are taken out; of that no call is made, but
it is said. Not every format leaves something that can be known again: of tags around keys and values nothing stays.

Nor is a call made of what ends a turn as a call in another family's spelling would: an offered tool's name and
arguments, in whatever brackets, tags and quotes. Where no word of prose begins it, that is said too.
"""

from __future__ import annotations

import dataclasses
import html
import re
from functools import lru_cache
from itertools import islice
from typing import Any

from toolparse.codecs.tagged import KEY
from toolparse.compile import compile_format
from toolparse.errors import FormatError
from toolparse.format import Format
from toolparse.picture import BLANKS
from toolparse.reader.turn import Tools

# What a vocabulary can have as one token of its own: `<|x|>`, `<|x>`, `<x|>`, `[X]`, and tags without attributes.
_SPECIAL = r"<\|[^<>{}\n]*>|<[^<>{}\s]*\|>|<｜[^<>{}\n]*｜>|｜[A-Z]+｜|\]<\][^\[\]<>{}\n]+\[>\[|\[/?[A-Z_]{2,}\]"
_TAGS = r"<([A-Za-z_:]+)>"
_WORD = 6  # letters of a literal that no other word may hold
#: What stands for the end of the turn, which closes calls too.
END = "\x00"
_MOST = 8  # places that are looked at
# A name and its arguments, where no tools say that it is one.
_TOUCHING: Any = re.compile(r"[^\s{(]*[^\s{(:]\{").match


class Unmarked:
    """One way to write calls without its markers: a format, how it begins, and how it ends."""

    def __init__(self, format: Format) -> None:
        shape = compile_format(format).shapes[0]
        first = shape.opener_first or shape.head_first
        self.vague = not first and shape.body in ("arguments", "kwargs")
        before = r"\n" if self.vague and shape.body == "kwargs" else r"\n.!?:>}" if self.vague else r"\s.!?:>}"
        announced = shape.body == "wrapper" or sum(map(str.isalpha, first)) >= _WORD
        begins = "" if announced else rf"(?:\A|(?<=[{before}]))"
        self.format = format
        self.head: Any = re.compile(f"{begins}(?=(?P<begin_>{shape.full.pattern}))")
        closes = (
            [param.close.rpartition(KEY)[2] for param in shape.tagged.params] if shape.tagged is not None else ["}"]
        )
        self.end = (*closes[:1], *shape.tail, *shape.closer)[-1]

    def places(self, text: str, *, tools: bool) -> list[int]:
        """Where such a call perhaps begins in a text that ends as such calls do."""
        found = islice(self.head.finditer(text), _MOST)
        starts = [match.start("begin_") for match in found]
        return [at for at in starts if tools or not self.vague or _TOUCHING(text, at)]


@lru_cache(maxsize=256)
def unmarked(format: Format) -> tuple[Unmarked, ...]:
    """What is left of a format's calls without markers, where that is none of its own ways to write them."""
    if END in format.ends:
        return ()
    plain = dataclasses.replace(
        format.bind(""),
        reasoning=None,
        content="{{text}}",
        between_messages="",
        ends=(END,),
        lead="",
        parallel=False,  # for reading it says nothing; with it a call may begin with its name
    )
    shapes = plain.shapes()
    own = {(shape.section, shape.call) for shape in shapes}
    shown = "".join(shape.section + shape.call + "".join(shape.syntax.quotes) for shape in shapes)
    tags = "".join(f"|</?{tag}>" for tag in dict.fromkeys(re.findall(_TAGS, shown)))
    found: dict[tuple[str, str], Unmarked] = {}
    for lost in (None, re.compile(_SPECIAL), re.compile(_SPECIAL + tags)):
        for shape, slip in plain.spellings():
            bare = None if slip else _without(shape, lost or _first_marker(shape))
            if bare is not None and (bare.section, bare.call) not in own:
                found.setdefault((bare.section, bare.call), Unmarked(bare))
    return tuple(found.values())


def _first_marker(shape: Format) -> re.Pattern[str]:
    """What finds the marker with which calls begin."""
    begins = re.match(_SPECIAL, shape.block.before + shape.call)
    closed = re.search(_SPECIAL, shape.call_end + shape.block.after)  # which says of itself that it is stray
    return re.compile(re.escape(begins[0]) if begins is not None and closed is None else r"(?!)")


def _without(shape: Format, lost: re.Pattern[str]) -> Format | None:
    """A way to write calls without its markers; None where nothing tells that it is one."""
    shown = {name: getattr(shape, name) or "" for name in ("section", "call", "between", "param", "item")}
    fields: dict[str, Any] = {name: lost.sub("", source).removeprefix("{{skip}}") for name, source in shown.items()}
    if "{{params}}" in shape.call and "<" not in fields["param"].partition("{{key}}")[0]:
        return None
    if any(lost.fullmatch(quote) for quote in shape.syntax.quotes):
        fields["syntax"] = dataclasses.replace(shape.syntax, quotes=("",), texts=True)
    try:
        return dataclasses.replace(shape, **{name: value or getattr(shape, name) for name, value in fields.items()})
    except FormatError:  # what parted two holes is gone
        return None


# A call in a spelling that is none of the family's is known by where it stands and by what it names.
_NAME: Any = re.compile(r"[A-Za-z_](?:[\w.-]{0,127}\w)?")
_BEGINS: Any = re.compile(
    r"^[ \t]*+(?=[{\[(<|｜]|>+[\w\"']|[\"'](?:\{|\w{1,64}[\"'][ \t]*[:\n])"
    rf"|{_NAME.pattern}(?:[\]|>｜=]|[ \t]{{0,8}}[:\n]{{0,2}}[ \t]{{0,8}}[({{<\[\"']))",
    re.M,
)
_STRAIGHT = str.maketrans("“”„‘’", '"""\'\'')
_NEAR = 128  # characters up to the tool's name
_BEFORE_NAME = ("", *"\"'<>=[](){|｜:/.,▁")
_ENDS_WITH = {"{": "}]>", "(": ")", '"': '"}', "'": "'}"}
#: The last character of such a call.
LAST = tuple(")]}>\"'”’,;`")
_SENTENCE: Any = re.compile(r"[ \t]*+[A-Za-z]\S*+[ \t]++[A-Za-z]++[ \t]")
_VALUE = r"[ \t\r\n]{0,64}[:=][ \t\r\n]{0,64}(?:[\"'\d\[{<-]|true\b|false\b|null\b|True\b|False\b|None\b)"
_ARGUMENT: Any = re.compile(rf"[\"'<=(,{{\[> \t\n]([A-Za-z_]\w{{0,128}}+)(?=[\"']?(?:{_VALUE}|[<>]|[ \t]\w{{1,64}}=))")
_ARGUMENTS: Any = re.compile(
    r"[\"']\w{0,32}(?:arg(?:ument)?s|param(?:eter)?s|input)[\"'][ \t\n]{0,64}:[ \t\n]{0,64}[\"']?\{|\{\}"
)
_POSITIONAL: Any = re.compile(r"\([ \t\r\n]{0,64}(?:[\"'\d\[{-]|\))")
_NO_CALL: Any = re.compile(r"[\"'](?:properties|result)[\"']\s{0,64}:")  # the tool's own schema, or what it gave


def spelt_otherwise(text: str, tools: Tools) -> tuple[int, str] | None:
    """Where a call of an offered tool begins with which a text ends, whatever its spelling, and the tool's name."""
    said = html.unescape(text.translate(_STRAIGHT)).replace("\\", "")
    moved = len(said) != len(text)
    fence = "`" if said.count("```") % 2 else ""  # of which the other half is damaged
    said = said.rstrip(BLANKS + ",;" + fence)
    if not said or _SENTENCE.match(said, said.rfind("\n") + 1):
        return None
    for match in islice(_BEGINS.finditer(said), _MOST):
        at = match.end()
        if said[-1] not in _ENDS_WITH.get(said[at], ")]}>"):
            continue
        for word in _NAME.finditer(said, at, at + _NEAR):
            tool = tools.get(word[0]) or tools.resolve(word[0])[0]
            if tool is not None:
                before = said[at : word.start()].rstrip(BLANKS)
                if before[-1:] in _BEFORE_NAME and _is_called(said, at, word.end(), tool):
                    return 0 if moved else at, tool.name
                break
    return None


def _is_called(text: str, pos: int, behind: int, tool: Any) -> bool:
    """Whether arguments stand with a tool's name, which ends at `behind`."""
    if _NO_CALL.search(text, pos) is not None:
        return False
    if _POSITIONAL.match(text, behind) is not None or _ARGUMENTS.search(text, pos) is not None:
        return True
    return any(tool.admits(match[1]) != "unknown" for match in _ARGUMENT.finditer(text, behind))
