"""`grammar`: what a model may write, as a grammar for constrained decoding.

The turn is found by rendering it: `render` is called with marks in place of thought, content and calls, and what stands
between the marks is what the grammar says there. So the grammar follows the renderer, framed messages, sections and
open prompts included. What stands inside a call comes from its picture and the tools' schemas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from toolparse.codecs.json import type_of
from toolparse.codecs.writing import write_string
from toolparse.compile import compile_format, is_marker
from toolparse.errors import ExportError, RenderError
from toolparse.export.constraints import Limits, NotSaid, determined
from toolparse.export.expressions import (
    EMPTY,
    Chars,
    Expr,
    Free,
    Lit,
    Rep,
    Rules,
    Scan,
    Schema,
    Seq,
    alt,
    both,
    chars,
    complement,
    names_but,
    opt,
    seq,
    star,
    text_without,
    without,
)
from toolparse.export.schemas import (
    MAX_SWAPPED,
    SKIPPABLE,
    Shape,
    Values,
    any_order,
    elements,
    engine_schema,
    is_served,
    literals,
    nothing_fits,
    shape_of,
    unsaid,
    without_keywords,
)
from toolparse.export.syntaxes import SYNTAXES, split, write
from toolparse.format import CALL_HOLES, JSON, PARAM_HOLES, Format
from toolparse.message import ToolCall
from toolparse.picture import BLANKS, Hole, Part, Picture, Text, Wrapper
from toolparse.reader import read_text
from toolparse.reader.tables import is_markerless
from toolparse.render import escaped, render, write_call
from toolparse.tokens import tokenizer_of
from toolparse.tools import Tool, ToolSet

THOUGHT, CONTENT = "qthoughtq", "qcontentq"
_BEGINNING = 8  # characters
_KINDS = ("string", "integer", "number", "boolean", "null", "object", "array")


def grammar(
    format: Format,
    tools: Any,
    *,
    syntax: str = "gbnf",
    parallel: bool = True,
    content: bool = True,
    reasoning: bool = True,
    required: bool = False,
    prefill: str | None = None,
    tokenizer: Any = None,
    schemas: bool = False,
    loose: bool = False,
    skip: Collection[str] = (),
    answer: Mapping[str, Any] | None = None,
) -> str:
    """A grammar of the turns that `render` writes with calls of these tools.

    Args:
        format: The format. A suffix that its markers may carry is taken to be empty; `format.bind(...)` gives another.
        tools: A `ToolSet`, or a list of anything that is a tool.
        syntax: "gbnf" (llama.cpp), "ebnf" (xgrammar) or "lark" (lark, llguidance).
        parallel: Whether there may be more than one call, where the format can write several.
        content: Whether text may stand before the calls, or in their place.
        reasoning: Whether a thought may stand before everything else, where the format has thoughts. One that the
            prompt opens is closed at once if not.
        required: Whether there must be a call.
        prefill: What the prompt already holds of the turn; the format's own if None.
        tokenizer: The model's tokenizer, from transformers or tokenizers: markers that are tokens of it are written as
            tokens in EBNF and Lark. llguidance lets no text match them; llama.cpp matches the text of every token.
        schemas: Whether arguments in JSON are left to llguidance's own `%json`, which also enforces keywords that no
            grammar of ours says, such as `pattern`. Lark only.
        loose: Whether more is accepted than the format writes, as far as it reads back as valid calls: blanks between
            the parts of arguments, and up to five keys in any order.
        skip: Keywords of the schemas that are left to validation, such as "uniqueItems", which no grammar says.
        answer: A JSON schema. A turn without calls is then JSON that fits it, and no text stands before calls.

    Raises:
        ExportError: The format, or a tool in this format, can't be said in a grammar; the message tells why.
    """
    if syntax not in SYNTAXES:
        raise ValueError(f"no grammar syntax is called {syntax!r}; choose one of {', '.join(map(repr, SYNTAXES))}")
    tools = ToolSet.of(tools)
    if not tools and (required or not content):
        raise ExportError("a call is required, but there are no tools; pass some, or allow content")
    if schemas and syntax != "lark":
        raise ValueError(f"schemas=True is llguidance's, so it needs syntax='lark', not {syntax!r}")
    if syntax == "gbnf":
        tokenizer = None
    turn = Turn(format, tools, prefill, tokenizer, schemas=schemas, loose=loose, skip=skip, answer=answer)
    root = turn.root(parallel=parallel, content=content, reasoning=reasoning, required=required or not content)
    return write(turn.rules, root, syntax)


def factored(options: Sequence[Expr]) -> Expr:
    """One of several, of which none begins with all that another one begins with: engines take the longest literal."""
    firsts: dict[Expr, list[Expr]] = {}
    for option in options:
        items = option.items if isinstance(option, Seq) else (option,)
        firsts.setdefault(items[0] if items else EMPTY, []).append(seq(*items[1:]))
    texts = [first.text for first in firsts if isinstance(first, Lit)]
    shared = min((one for one in texts if any(o != one and o.startswith(one) for o in texts)), key=len, default="")
    inside: list[Expr] = []
    others: list[Expr] = []
    for first, rests in firsts.items():
        if shared and isinstance(first, Lit) and first.text.startswith(shared):
            inside.extend(seq(Lit(first.text[len(shared) :]), rest) for rest in rests)
        elif first != EMPTY:
            others.append(seq(first, factored(rests) if len(rests) > 1 else rests[0]))
    if inside:
        others.insert(0, seq(Lit(shared), factored(inside)))
    if not others:
        return EMPTY
    return opt(alt(*others)) if EMPTY in firsts else alt(*others)


def _special_tokens(tokenizer: Any, markers: Collection[str]) -> dict[str, int]:
    """The tokens that a marker counts as, with their ids; and what no text matches in llguidance (`<...>`, special)."""
    if tokenizer is None:
        return {}
    listed = getattr(tokenizer_of(tokenizer), "added_tokens_decoder", None)
    if listed is None:
        listed = tokenizer_of(tokenizer).get_added_tokens_decoder()
    return {
        token.content: int(id)
        for id, token in listed.items()
        if token.special or token.content in markers or (token.content[:1] == "<" and token.content[-1:] == ">")
    }


class Turn:
    """A turn of one format with some tools, as rules."""

    def __init__(
        self,
        format: Format,
        tools: ToolSet,
        prefill: str | None,
        tokenizer: Any = None,
        *,
        schemas: bool = False,
        free: bool = False,
        loose: bool = False,
        skip: Collection[str] = (),
        answer: Mapping[str, Any] | None = None,
    ) -> None:
        """`schemas`: JSON is left to the engine. `free`: so is text up to a marker. The others: as for `grammar`."""
        unknown = sorted(set(skip) - SKIPPABLE)
        if unknown:
            raise ValueError(f"{unknown[0]!r} can't be left to validation; skip takes {', '.join(sorted(SKIPPABLE))}")
        self.skip = frozenset(skip)
        self.loose = loose
        self.answer = answer
        self.says = self.thinks = True  # whether there may be content, and a thought
        self.format = format = format.bind("")
        if not format.call:
            raise ExportError(f"format {format.name!r}, field 'call': nothing shows how calls are written")
        self.schemas = schemas
        self.free = free
        self.tools = tools
        self.prefill = (format.prefill if prefill is None else prefill).replace("{{suffix}}", "")
        program = compile_format(format)
        cores = dict.fromkeys((*program.candidates, *program.reasoning_candidates))
        self.rules = Rules(_special_tokens(tokenizer, cores))
        if program.anchored:
            cores["{"] = None  # a call that nothing announces: its name and a brace
        #: calls that are text where other text follows them
        self.alone = is_markerless(program.shapes[0], program)
        self.markers = tuple(core for core in cores if core)
        marked = tuple(filter(is_marker, self.markers))
        if self.framed and marked != self.markers and self._frames_hold():
            self.markers = marked  # words of a frame's own head are text inside one
        self.thought_markers = tuple(core for core in program.reasoning_candidates if core)
        #: what free text may not hold
        self.kept_out = {
            CONTENT: _beginnings(self.markers, self.thought_markers),
            THOUGHT: _beginnings(self.thought_markers, self.markers),
        }
        self.calls = _Calls(self)
        self.head, self.bodies, self.tail = self.calls.parts() if tools else ("", EMPTY, "")

    # -- the turn -----------------------------------------------------------------------------------------------------

    def root(self, *, parallel: bool, content: bool, reasoning: bool, required: bool) -> Expr:
        """All turns."""
        turns: list[Expr] = []
        self.says, self.thinks = content, reasoning
        counts = ([2 if parallel and self.format.parallel else 1] if self.tools else []) + ([] if required else [0])
        for count in counts:
            ways = self._texts(content, reasoning, count)
            turns.extend(self._turn(texts, count) for texts in ways if texts or count)
        return factored(turns)

    def _texts(self, content: bool, reasoning: bool, count: int) -> Iterator[tuple[str, ...]]:
        """Which of thought and content are there: every way that the options allow."""
        for thinks in (False, True) if reasoning and self.format.reasoning is not None else (False,):
            if not thinks and reasoning and self._same_without(THOUGHT, count):
                continue
            must = self.answer is not None and not count  # the answer, which calls come in the place of
            for says in (True,) if must else (False, True) if content and self.answer is None else (False,):
                yield (*((THOUGHT,) if thinks else ()), *((CONTENT,) if says else ()))

    def _same_without(self, mark: str, count: int) -> bool:
        """Whether an empty text is written just as no text: where the prompt opened the thought."""
        if self.format.reasoning is None:
            return False
        return self.written((mark,), count).replace(mark, "") == self.written((), count)

    @property
    def framed(self) -> bool:
        """Whether texts stand in frames, or calls in messages of their own."""
        return bool(self.format.between_messages) or self.format.said.shows

    def _frames_hold(self) -> bool:
        """Whether a call is text in a frame of content, when nothing but its markers is taken from it."""
        call = self.written((), 1)
        for marker in sorted(filter(is_marker, self.markers), key=len, reverse=True):
            call = call.replace(marker, "")
        frame = self.written((CONTENT,), 0)
        texts = (call, f"q {call}", *(core for core in self.markers if not is_marker(core)))
        return all(read_text(self.format, frame.replace(CONTENT, text)).content == text for text in texts)

    def opened(self) -> bool:
        """Whether the prompt opened a thought."""
        return self._same_without(THOUGHT, 0)

    def written(self, texts: tuple[str, ...], count: int) -> str:
        try:
            return render(
                self.format,
                [_mark(number) for number in range(count)],
                content=CONTENT if CONTENT in texts else "",
                reasoning=THOUGHT if THOUGHT in texts else None,
                prefill=self.prefill,
                verify=False,
            )
        except RenderError as error:
            raise ExportError(str(error)) from None

    def _turn(self, texts: tuple[str, ...], count: int) -> Expr:
        """The turns with some texts and one call or (`count` 2) more."""
        turn = self._assemble(texts, count, *self._pieces(texts, count))
        if CONTENT not in texts or not count or not self.framed or self.format.between_messages:
            return turn
        # Some templates leave the frame out before calls.
        pieces, between, skipped = self._pieces(texts[:-1], count)
        opening = self.format.block.before
        follows = opening + self.head[skipped:]
        if not pieces[-2].endswith(opening) or not any(marker in follows for marker in self.markers):
            return turn
        pieces[-2:] = [pieces[-2].removesuffix(opening), opening, pieces[-1]]
        return alt(turn, self._assemble(texts, count, pieces, between, skipped))

    def _pieces(self, texts: tuple[str, ...], count: int) -> tuple[list[str], str, int]:
        """What stands around texts and calls, between two calls, and how much of the first one the prompt holds."""
        written = self.written(texts, count)
        pieces: list[str] = []  # what stands before each text, and behind the last one
        for text in texts:
            before, mark, written = written.partition(text)
            if not mark:
                raise ExportError(f"format {self.format.name!r}, field 'reasoning': the thought does not show")
            pieces.append(before)
        first = between = ""
        skipped = 0
        if count:
            first, skipped, written = self.find_call(written, 0)
            if count > 1:
                between, _, written = self.find_call(written, 1)
            pieces.append(first)
        return [*pieces, written], between, skipped

    def find_call(self, written: str, number: int) -> tuple[str, int, str]:
        """What stands before a call, how many of its first characters the prompt holds, and what stands behind it."""
        call = write_call(self.format, _mark(number), number)
        before, found, behind = written.partition(call)
        if found:
            return before, 0, behind
        for skipped in range(1, call.find(_mark(number).name) + 1):
            if written.startswith(call[skipped:]):
                return "", skipped, written[len(call) - skipped :]
        raise ExportError(f"format {self.format.name!r}, field 'call': the call does not show in the turn")

    def _assemble(self, texts: tuple[str, ...], count: int, pieces: list[str], between: str, skipped: int) -> Expr:
        items: list[Expr] = []
        for number, text in enumerate(texts):
            last = number == len(texts) - 1
            following = pieces[number + 1] + (self.head[skipped:] if last and count else "")
            items.append(Lit(pieces[number]))
            if number and not pieces[number].strip(BLANKS):
                items.pop()  # blanks behind a thought may be missing, and to engines they are text like others
            scanned, used = self._text(text, following, empty=bool(text == THOUGHT or count))
            items.append(scanned)
            skipped += max(0, used - len(pieces[number + 1]))
            pieces[number + 1] = pieces[number + 1][used:]
        begin = seq(*items, Lit(pieces[-2] + self.head[skipped:] if count else pieces[-1]))
        start = EMPTY if self.free else self._start(texts, begin)
        if not count:
            return self._started(start, seq(*items, Lit(pieces[-1])))
        calls = seq(Lit(self.head[skipped:]), self.bodies)
        if count > 1:
            calls = seq(calls, star(seq(Lit(self.tail + between + self.head), self.bodies)))
        if texts[-1:] == (THOUGHT,) and pieces[-2] and not pieces[-2].strip(BLANKS):
            pieces[-2], items = "", [*items, opt(Lit(pieces[-2]))]
        closing = Lit(pieces[-1])
        # Some templates leave the section open, or write text behind the calls; it reads the same.
        over = any(end in self.tail + pieces[-1] for end in self.format.ends)  # nothing is read behind the turn's end
        silent = over or self.framed or self.alone or not self.says or self.free or self.answer is not None
        said = EMPTY if silent else opt(self._text(CONTENT, "", empty=False)[0])
        end = seq(Lit(self.tail), closing, said if said != EMPTY else self._trail(pieces[-1]))
        if self.tail or (self.format.block.shows and is_marker(closing.text.strip(BLANKS))):
            end = opt(end)
        return self._started(start, seq(*items, Lit(pieces[-2]), calls, end))

    def _started(self, start: Expr, turn: Expr) -> Expr:
        """A turn behind the blanks with which it may begin.

        Where content may begin with blanks, too, they and the first marker are one terminal: engines that take the
        longest one would else take them for content.
        """
        first, *rest = turn.items if isinstance(turn, Seq) else (turn,)
        if start == EMPTY or not self.says or not isinstance(first, Lit):
            return seq(start, turn)
        if isinstance(split(first.text, self.rules.tokens)[0], int):
            return seq(start, turn)
        return seq(self.rules.add("begin", seq(start, first), token=True), *rest)

    def _start(self, texts: tuple[str, ...], begin: Expr) -> Expr:
        """What templates write before a turn though no picture shows it: blanks, the end of a thought that is none."""
        first = begin.items[0] if isinstance(begin, Seq) and begin.items else begin
        blanks: Expr = EMPTY
        if texts[:1] != (CONTENT,) and not (isinstance(first, Lit) and first.text[:1] in (" ", "\n")):
            lead = "" if self.format.lead.strip(BLANKS) else self.format.lead
            blanks = opt(alt(*map(Lit, dict.fromkeys(text for text in ("\n", lead, self.format.block.start) if text))))
        frames = [shape.said for shape in self.format.shapes()[1:]]
        empty = [frame.write("") for frame in frames if frame.opening and frame.closing]
        if empty and not self.framed and self.answer is None:
            blanks = seq(opt(alt(*map(Lit, empty))), blanks)
        closer = self.format.thought.closing
        thinks = self.thinks and THOUGHT not in texts and not self.framed and not self.opened()
        return seq(opt(Lit(closer)), blanks) if closer and thinks and closer not in self.format.ends else blanks

    def _trail(self, closing: str) -> Expr:
        """The newline that some templates write behind the last call."""
        marked = closing if closing.strip(BLANKS) else self.format.call_end
        return opt(Lit("\n")) if marked[-1:].strip(BLANKS) else EMPTY

    def _text(self, text: str, following: str, *, empty: bool) -> tuple[Expr, int]:
        """A thought or content up to the first marker of what follows; also how many of those characters it takes.

        `empty`: whether there may be none: blanks before a call are content to engines that take the longest terminal.

        In between there is no marker at all, not even one that turns out to open nothing: so nothing in the text can be
        taken for something else, however it is followed.
        """
        markers = self.thought_markers if text == THOUGHT else self.markers
        ends = [following.find(marker) + len(marker) for marker in markers if marker in following]
        then = following[: min(ends)] if ends else following
        if text == CONTENT and self.answer is not None:
            return seq(self._answer(self.answer), Lit(then)), len(then)
        if self.free:
            return seq(Free(self.kept_out[text]), Lit(then)), len(then)
        automaton = text_without(markers, empty=empty)
        hint = "thought" if text == THOUGHT else "content"
        inner = self.rules.add(f"{hint}-text", Scan(automaton), token=True)
        whole = seq(inner, Lit(then))
        if text == THOUGHT and then.lstrip(BLANKS) != then:  # an empty thought may stand between its markers alone
            whole = alt(whole, Lit(then.lstrip(BLANKS)))
        if (
            text == CONTENT and empty and then.strip(BLANKS)
        ):  # blanks before a call need not be those that a picture shows
            whole = alt(whole, seq(Rep(chars(" \n"), 0, 2), Lit(then.lstrip(BLANKS))))
        return self.rules.add(hint, whole, token=True), len(then)

    def _answer(self, schema: Mapping[str, Any]) -> Expr:
        """JSON that fits a schema, with any blanks: those behind a thought, too."""
        blanks = Rep(chars(" \n"), 0, 2)
        for path, keyword in unsaid(schema, self.skip):
            raise ExportError(f"the answer's schema, at {path}: no grammar says {keyword!r}")
        root = {"type": "object", **without_keywords(schema, self.skip)}
        values = Values(self.rules, JSON, root, owner="the answer's schema", avoid=self.markers, blanks=True)
        written = values.value(root, "answer")
        return seq(blanks, Schema(engine_schema(root, JSON)) if self.schemas and is_served(root) else written)


def _beginnings(own: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """How markers begin, of a turn's others too: engines take milliseconds for each character, and once for a set."""
    words = {word[:_BEGINNING] if is_marker(word) else word for word in (*own, *filter(is_marker, others))}
    return tuple(sorted(word for word in words if not any(other in word for other in words - {word})))


def _mark(number: int) -> ToolCall:
    """The call that is rendered in the place of all others."""
    return ToolCall(f"q{number}q", {}, None, number)


def _shared(bodies: Sequence[Expr]) -> tuple[Expr, list[Expr]]:
    """What expressions begin with alike, as far into their literals as it goes; and the rest of each."""
    rows = [list(body.items) if isinstance(body, Seq) else [body] for body in bodies]
    same: list[Expr] = []
    while all(row and row[0] == rows[0][0] for row in rows):
        same.append(rows[0][0])
        rows = [row[1:] for row in rows]
    texts = [row[0].text if row and isinstance(row[0], Lit) else "" for row in rows]
    size = next((at for at, chars in enumerate(zip(*texts, strict=False)) if len({*chars}) > 1), min(map(len, texts)))
    if size:
        same.append(Lit(texts[0][:size]))
        rows = [[Lit(text[size:]), *row[1:]] for text, row in zip(texts, rows, strict=True)]
    return seq(*same), [seq(*row) for row in rows]


class _Calls:
    """The calls of some tools, as rules."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.format = turn.format
        self.rules = turn.rules
        self.shape = compile_format(dataclasses.replace(self.format, also=())).shapes[0]
        self.picture = self.format.picture("call", self.format.call, CALL_HOLES, frozenset())

    def parts(self) -> tuple[str, Expr, str]:
        """The characters with which every call begins, what follows them, and the end that the turn's end may be, too.

        A marker that ends the turn is a stop token of its server: grammars must be able to end before it, unless it is
        needed to see that the parameters are complete.
        """
        head = tail = ""
        bodies: list[Expr] = []
        for tool in self.turn.tools:
            self._check_name(tool)
            shared, *pieces = self.pieces(tool)
            head = shared.text if isinstance(shared, Lit) else ""
            last = pieces[-1].text if isinstance(pieces[-1], Lit) else ""
            if self.shape.tail and self.shape.tail[-1] in self.format.ends and self.format.param is None:
                tail = last[last.rindex(self.shape.tail[-1]) :]
                pieces[-1] = Lit(last.removesuffix(tail))
            bodies.append(seq(*pieces))
        before, rest = _shared(bodies)
        if len(bodies) > 1 and isinstance(before, Seq):  # an id is any text: engines would follow it in all tools
            bodies = rest
        else:
            before = EMPTY
        calls = [self.rules.add(f"{tool.name}-call", body) for tool, body in zip(self.turn.tools, bodies, strict=True)]
        return head, seq(before, self.rules.add("call", alt(*calls)) if len(calls) > 1 else calls[0]), tail

    def _check_name(self, tool: Tool) -> None:
        try:
            render(self.format, [ToolCall(tool.name, {}, None, 0)])
        except RenderError as error:
            raise ExportError(f"tool {tool.name!r}: {error}") from None

    def pieces(self, tool: Tool) -> Iterator[Expr]:
        """A call of a tool: first the literal that all calls share, which may be empty, then the rest."""
        begun = False
        for part in self.picture.parts:
            inside = isinstance(part, Wrapper)
            before: Part | None = None
            for inner in part.parts if isinstance(part, Wrapper) else (part,):
                if isinstance(inner, Text):
                    begun = True
                    yield Lit(inner.text)
                elif inner.name != "skip":
                    if not begun:
                        begun = True
                        yield Lit("")
                    quotes = inside and isinstance(before, Text) and before.text[-1:] in ("'", '"')
                    yield self._hole(inner, tool, inside, quotes)
                before = inner

    def _hole(self, hole: Hole, tool: Tool, inside: bool, quotes: bool) -> Expr:
        if hole.name == "name":
            if not inside:
                return Lit(escaped(self.format, tool.name))
            name = write_string(tool.name, self.format.syntax)
            return Lit(name[1:-1] if quotes else name)
        if hole.name == "id":
            one = self._id(tool)
            quote = Lit(self.format.syntax.quotes[0]) if inside and not quotes else EMPTY
            return seq(quote, one, quote)
        if hole.name == "index":
            return self._index()
        if hole.name == "params":
            return self._finite(tool, _Params(self, tool).expression())
        values = self.values(tool)
        hint = tool.name
        shapes = values.shapes(values.resolver.root)
        if not shapes:
            raise ExportError(f"tool {tool.name!r}: no arguments fit its schema")
        if hole.name == "kwargs":
            for shape in shapes:
                for member in shape.members:
                    if not member.key.isidentifier():
                        raise ExportError(
                            f"tool {tool.name!r}: {member.key!r} is no identifier, and format {self.format.name!r} "
                            "writes arguments as key=value"
                        )
            pairs = [values.pairs(shape, hint, colon="=", bare=True, arguments=True) for shape in shapes]
            return self._finite(tool, alt(*pairs))
        pairs = [values.pairs(shape, hint, colon=self.format.syntax.colon, arguments=True) for shape in shapes]
        braces = self._finite(tool, alt(*(values.braces("{", inner, "}") for inner in pairs)))
        if not (inside and quotes):
            root = values.resolver.root
            served = self.turn.schemas and self.format.syntax.is_json and is_served(root)
            return Schema(engine_schema(root, self.format.syntax)) if served else braces
        return self.rules.quote(braces, "quoted")

    def _finite(self, tool: Tool, arguments: Expr) -> Expr:
        """Arguments that can be written to their end."""
        for name in self.rules.endless(arguments):
            raise ExportError(f"tool {tool.name!r}, at {name!r}: no value ends, since each needs another by its '$ref'")
        return arguments

    def values(self, tool: Tool, avoid: Sequence[str] = ()) -> Values:
        owner = f"tool {tool.name!r} in format {self.format.name!r}"
        for path, keyword in unsaid(tool.parameters, self.turn.skip):
            raise ExportError(
                f"{owner}, at {path}: no grammar says {keyword!r}; skip=[{keyword!r}] leaves it to validation"
            )
        parameters = without_keywords(tool.parameters, self.turn.skip) if self.turn.skip else tool.parameters
        inside = self.picture.wrapper.parts if self.picture.wrapper is not None else ()
        indented = any(isinstance(part, Text) and "\n" in part.text for part in inside)
        return Values(
            self.rules,
            self.format.syntax,
            parameters,
            owner=owner,
            avoid=avoid,
            blanks=self.turn.loose or indented,  # templates that indent what is around arguments indent them, too
            swapped=self.turn.loose,
        )

    def _index(self) -> Expr:
        return self.rules.add("index", Rep(chars("0-9"), 1, 9), token=True)

    def _id(self, tool: Tool) -> Expr:
        """An id as the text carries it: by its picture where the name follows from it, else any."""
        if self.format.id is None:
            # In parts of one rule, whose masks xgrammar computes once.
            few = self.rules.add("id-part", Rep(chars("A-Za-z0-9_-"), 1, 8), token=True)
            return self.rules.add("id", Rep(few, 1, 8), token=True)
        picture = self.format.picture("id", self.format.id, frozenset({"name", "index", "skip"}), frozenset())
        items: list[Expr] = []
        for part in picture.parts:
            if isinstance(part, Text):
                items.append(Lit(part.text))
            elif isinstance(part, Hole) and part.name != "skip":
                items.append(Lit(tool.name) if part.name == "name" else self._index())
        return seq(*items)


class _Params:
    """The parameters of one tool where each stands in a tag of its own."""

    def __init__(self, calls: _Calls, tool: Tool) -> None:
        self.calls = calls
        self.format = calls.format
        self.rules = calls.rules
        self.tool = tool
        if self.format.literals:
            raise ExportError(f"format {self.format.name!r}: parameters hold literals; no grammar says that yet")
        self.types = dict(self.format.types) if self.format.types is not None else None
        self.param = self._picture("param", self.format.param)
        self.item = self._picture("item", self.format.item)
        self._known: dict[str, Expr] = {}
        self._nested = 0

    def _picture(self, field: str, source: str | None) -> Picture | None:
        return None if source is None else self.format.picture(field, source, PARAM_HOLES, frozenset())

    def expression(self) -> Expr:
        """All parameters in the order of the schema."""
        values = self.calls.values(self.tool)
        shapes = values.shapes(values.resolver.root)
        if not shapes:
            raise ExportError(f"tool {self.tool.name!r}: no arguments fit its schema")
        if any(not shape.members and shape.others is None for shape in shapes):
            return opt(Lit("\n"))  # a line that stays empty where parameters would be
        return alt(*(self._members(shape, self.tool.name) for shape in shapes))

    def _members(self, shape: Shape, hint: str) -> Expr:
        assert self.param is not None
        items: list[tuple[Expr, bool]] = []
        for member in shape.members:
            name = f"{hint}-{member.key}"
            one = self.rules.add(
                name, self._element(self.param, self._label(self.param, member.key), member.schema, name)
            )
            items.append((one, member.required))
        extra: Expr | None = None
        if shape.others is not None:
            label = self._other_label(self.param, tuple(member.key for member in shape.members))
            extra = alt(*(self._element(self.param, label, other, f"{hint}-other") for other in shape.others))
        if self.calls.turn.loose and 1 < len(items) <= MAX_SWAPPED:
            return any_order(self.rules, items, extra, EMPTY, hint)
        written = seq(*(one if required else opt(one) for one, required in items))
        return written if extra is None else seq(written, star(extra))

    def _label(self, picture: Picture, key: str) -> Lit:
        """A parameter's name as it stands in the tag."""
        text = escaped(self.format, key)
        bad = '<>"\n' + (BLANKS if _is_element(picture) else "")
        if any(char in text for char in bad) or key != key.strip():
            raise ExportError(f"tool {self.tool.name!r}: format {self.format.name!r} can't carry the key {key!r}")
        return Lit(text)

    def _other_label(self, picture: Picture, taken: tuple[str, ...]) -> Expr:
        """The name of any parameter that is not taken."""
        if picture.holes().count("key") > 1:
            raise ExportError(
                f"tool {self.tool.name!r}: format {self.format.name!r} writes a parameter's name twice, and a grammar "
                "can't demand that both are the same; set additionalProperties to false and name all properties"
            )
        if _is_element(picture):
            keys = names_but(taken, *_IDENTIFIER)  # an element's name
        else:
            keys = both(names_but(taken), determined(seq(Chars(_SOLID), star(seq(opt(Lit(" ")), Chars(_SOLID))))))
        return self.rules.add("key", Scan(keys), token=True)

    def _element(self, picture: Picture, label: Expr, schema: Any, hint: str) -> Expr:
        """One parameter, or one element of a list."""
        at = next(n for n, part in enumerate(picture.parts) if isinstance(part, Hole) and part.name == "value")
        behind = "".join(
            part.text if isinstance(part, Text) else label.text if isinstance(label, Lit) else ""
            for part in picture.parts[at + 1 :]
            if isinstance(part, Text) or (isinstance(part, Hole) and part.name == "key")
        )
        close = behind.strip(BLANKS)
        if not close:
            raise ExportError(f"format {self.format.name!r}, field 'param': nothing closes a value")
        then = behind[: behind.index(close) + len(close)]
        avoid = (close, *self.calls.shape.tail[:1], *self._openings())
        # A line that begins like the closing tag is read as a slip of it, also the first one.
        slips = (close[:-1],) if then != close and close.endswith(">") else ()
        # By what stands before the value: engines that take the longest literal must not see it in longer ones.
        options: dict[Expr, list[Expr]] = {}
        for kind, value in self._forms(schema, self.calls.values(self.tool, avoid), hint):
            ways = options.setdefault(seq(*(self._before(part, label, kind) for part in picture.parts[:at])), [])
            if value is None:
                ways.extend(seq(text, Lit(behind[len(then) :])) for text in self._texts(then, (*avoid, *slips)))
            elif isinstance(value, Limits):
                limited = self._limited(value, then, (*avoid, *slips), hint)
                ways.extend(seq(text, Lit(behind[len(then) :])) for text in limited)
            else:
                ways.append(seq(value, Lit(behind)))
        if not options:
            raise nothing_fits(f"tool {self.tool.name!r}", hint, schema)
        return alt(*(seq(before, alt(*ways)) for before, ways in options.items()))

    def _openings(self) -> tuple[str, ...]:
        """How elements begin, where it is the beginning that tells elements from text."""
        if self.item is None:
            return ()
        firsts = [picture.parts[0] for picture in (self.param, self.item) if picture is not None]
        return tuple(part.text.strip(BLANKS) for part in firsts if isinstance(part, Text))

    def _container(self, schema: dict[str, Any], values: Values, hint: str) -> Expr:
        """An object or a list."""
        if self.item is None:
            return values.plain(schema, hint)
        picture = self.item

        def made() -> Expr:
            if schema["type"] == "object":
                return self._members(shape_of(schema, self.format.syntax), hint)
            return elements(schema, lambda s, n: self._element(picture, EMPTY, s, n), EMPTY, hint, self.rules)

        self._nested += 1
        known = self.rules.once(self._known, schema, hint, made)
        self._nested -= 1
        return known

    def _before(self, part: Part, label: Expr, kind: str) -> Expr:
        if isinstance(part, Text):
            return Lit(part.text)
        if isinstance(part, Hole) and part.name == "key":
            return label
        if isinstance(part, Hole) and part.name == "type" and self.types is not None:
            return Lit(self.types.get(kind, self.types.get("*", kind)))
        return EMPTY

    def _wraps(self, then: str, avoid: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
        """What a text must not hold, what ends it and what begins it: wrapped or not, where there is a wrapper."""
        wrap = self.format.wrapping
        if wrap is None:
            yield tuple(avoid), then, ""
            return
        yield (*avoid, *self.format.wrap_when, wrap.before), then, ""
        yield (*avoid, wrap.after), wrap.after + then, wrap.before

    def _texts(self, then: str, avoid: Sequence[str]) -> Iterator[Expr]:
        """A text value with its closing tag."""
        for excluded, end, left in self._wraps(then, avoid):
            if self.calls.turn.free and not self._nested:  # structural tags have no rules that could mention themselves
                yield seq(Lit(left), Free(tuple(dict.fromkeys((*excluded, end)))), Lit(end))
            else:
                text = self.rules.add("any-text", Scan(text_without(excluded)), token=True)
                yield self.rules.add("text", seq(Lit(left), text, Lit(end)), token=True)

    def _limited(self, limits: Limits, then: str, avoid: Sequence[str], hint: str) -> list[Expr]:
        """A text value that keywords limit, with its closing tag."""
        found: list[Expr] = []
        for excluded, end, left in self._wraps(then, avoid):
            try:
                text = seq(Lit(left), limits.of(text_without(excluded)), Lit(end))
            except NotSaid as error:
                reason = error
            else:
                found.append(self.rules.add(f"{hint}-text", text, token=True))
        if not found:
            raise ExportError(f"tool {self.tool.name!r}, at {hint!r}: without markers of the format, {reason}")
        return found

    def _forms(self, schema: Any, values: Values, hint: str) -> Iterator[tuple[str, Expr | Limits | None]]:
        """The ways to write a value: its type and the value, None where it is any text, or what limits the text."""
        options = values.alternatives(schema)
        free = [plain for plain in options if literals(plain) is None]
        untyped = any(not plain for plain in free)
        strings = [plain for plain in free if plain.get("type") == "string"]
        limits = [values.limits(plain, hint) for plain in strings]
        text = untyped or any(limit is None for limit in limits)
        if text:
            yield "string", None
        else:
            for limit in limits:
                yield "string", limit
        if untyped and self.types is not None:
            free = [{"type": kind} for kind in _KINDS]
        for plain in free:
            kind = plain.get("type", "string")
            if kind in ("object", "array") and (self.item is not None or not text or self.types is not None):
                yield kind, self._container(plain, values, hint)
            elif kind == "string" or (self.types is None and text):
                continue  # the text of any value is a text, too; the schema tells the reader which one is meant
            elif kind == "number":
                # the type's word is that of the value: an integer where it is one
                yield from values.numbers(plain, hint)
            else:
                yield kind, values.plain(plain, hint)
        for plain in options:
            for value in literals(plain) or ():
                if isinstance(value, str):
                    yield "string", Lit(self.format.wrapped(value))
                elif isinstance(value, dict | list) and self.item is not None:
                    raise ExportError(
                        f"tool {self.tool.name!r}: format {self.format.name!r} writes {value!r} as elements; "
                        "describe it with properties or items in place of enum or const"
                    )
                else:
                    yield type_of(value), Lit(values.written(value))


def _is_element(picture: Picture) -> bool:
    """Whether a parameter's name is that of an element."""
    return isinstance(picture.parts[0], Text) and picture.parts[0].text.endswith("<")


# What a name in a tag may hold, blanks between two of these included.
_SOLID = without(complement(((0x00, 0x20), (0x7F, 0xA0))), "<>\"'&=/")
_IDENTIFIER = (chars("A-Za-z_").ranges, chars("A-Za-z0-9_").ranges)
