"""`Parser`: what users hold. A format bound to a vocabulary, default tools and the state in which a turn begins."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from toolparse.compile import Program, bind_to, compile_format
from toolparse.events import ArgumentsDelta, CallEnded, CallStarted, ContentDelta, Event, IssueFound, ReasoningDelta
from toolparse.format import SUFFIX, Format
from toolparse.message import Issue, ParsedMessage, Span, ToolCall
from toolparse.prompts import prefill_of
from toolparse.reader import Reader, Start, prepare, read_pieces, start_of
from toolparse.reader.options import Options
from toolparse.reader.tables import Prepared, rescuing

if TYPE_CHECKING:
    from typing import Protocol

    from toolparse.render import CallLike
    from toolparse.tokens import TokenText, Vocabulary
    from toolparse.tools import ToolSet

    class Style(Protocol):
        """How a template wants its messages (`toolparse.templates.induction.message_style.MessageStyle`)."""

        @property
        def new_id(self) -> str:
            """The picture of an id that is made."""

        def message(self, message: Any) -> dict[str, Any]:
            """The assistant's message, as the template renders it right."""


TextOrIds = str | Sequence[int]


class Reading:
    """What parsers have in common: many completions, and events."""

    tools: ToolSet | None

    def parse(self, text_or_ids: TextOrIds, *, tools: Any = None, prompt: TextOrIds | None = None) -> ParsedMessage:
        """The message in a completion, given as text or token ids."""
        raise NotImplementedError

    def stream(self, *, tools: Any = None, prompt: TextOrIds | None = None) -> EventStream:
        """A stream: feed it pieces of text or ids, get events; close it for the message."""
        raise NotImplementedError

    def parse_batch(
        self,
        items: Iterable[TextOrIds],
        *,
        tools: Any = None,
        prompts: Iterable[TextOrIds | None] | None = None,
    ) -> list[ParsedMessage]:
        """Many completions, in order: what `parse` gives for each. `prompts`: one for each."""
        if isinstance(items, str):
            raise TypeError("one text was given: parse_batch takes a list of texts; parse reads one")
        items = list(items)
        heads = None if prompts is None else list(prompts)
        if heads is not None and len(heads) != len(items):
            raise ValueError(f"{len(items)} items but {len(heads)} prompts; give one prompt (or None) for each item")
        return list(self.parse_iter(items, tools=tools, prompts=heads))

    def parse_iter(
        self,
        items: Iterable[TextOrIds],
        *,
        tools: Any = None,
        prompts: Iterable[TextOrIds | None] | None = None,
    ) -> Iterator[ParsedMessage]:
        """As `parse_batch`, one message after the other: nothing is held but the completion that is being read."""
        tools = self.tools if tools is None else _tools(tools)
        parse = self.parse
        if prompts is None:
            return (parse(item, tools=tools) for item in items)
        return (parse(item, tools=tools, prompt=prompt) for item, prompt in zip(items, prompts, strict=True))

    def events(
        self, pieces: Iterable[TextOrIds], *, tools: Any = None, prompt: TextOrIds | None = None
    ) -> Iterator[Event]:
        """Every event of a completion that arrives in pieces of text or ids, those that its end settles too.

        For the message as well, make a stream: `stream.events(pieces)`, then `stream.close()`.
        """
        return self.stream(tools=tools, prompt=prompt).events(pieces)

    def aevents(
        self,
        pieces: AsyncIterable[TextOrIds] | Iterable[TextOrIds],
        *,
        tools: Any = None,
        prompt: TextOrIds | None = None,
    ) -> AsyncIterator[Event]:
        """As `events`, for pieces that are awaited: `async for event in parser.aevents(pieces)`."""
        return self.stream(tools=tools, prompt=prompt).aevents(pieces)


class Parser(Reading):
    """Reads what a model of one format writes.

    `tools`: functions, pydantic models or OpenAI-style dicts, the default for every call. `tokenizer`: needed to read
    token ids. `prefill`: what the generation prompt holds of the turn by default (the format's own if None).
    `repair`: whether slips of the model (trailing commas, single quotes, ...) are mended and noted, or are errors.
    `verified`: whether the format proved itself on a template; None where it was given, not found.
    """

    def __init__(
        self,
        format: Format,
        *,
        tools: Any = None,
        tokenizer: Any = None,
        prefill: str | None = None,
        repair: bool = True,
        bare: str = "alone",
        rescue: bool = False,
        coerce: bool = False,
        infer: bool = False,
        style: Style | None = None,
        verified: bool | None = None,
    ) -> None:
        if tokenizer is not None and format.has_suffix:
            from toolparse.tokens import Vocabulary

            format = bind_to(format, Vocabulary(tokenizer).added)
        self.format = format
        self.tokenizer = tokenizer
        self.prefill = format.prefill if prefill is None else prefill
        self.options = Options(repair=repair, bare=bare, rescue=rescue, coerce=coerce, infer=infer)
        self.style = style
        self.verified = verified
        self.tools = _tools(tools)
        self._vocabulary: Vocabulary | None = None
        # What is read may be more than what is written.
        self._read_as = rescuing(format) if rescue else format
        self._program: Program = compile_format(self._read_as)
        self._starts: dict[tuple[str, str], tuple[Prepared, Start]] = {}  # by suffix and prefill

    def __repr__(self) -> str:
        proved = {True: ", proved on its template", False: ", not verified", None: ""}[self.verified]
        return f"Parser({self.format.name!r}{proved})"

    # -- reading --------------------------------------------------------------------------------------------------

    def parse(self, text_or_ids: TextOrIds, *, tools: Any = None, prompt: TextOrIds | None = None) -> ParsedMessage:
        """The message in a completion, given as text or token ids. Never raises on what the model wrote.

        `prompt`: the rendered prompt (text or ids) that the model continued; its tail decides whether a thought or a
        call is already open. Time and memory are linear in the text.
        """
        tools = self.tools if tools is None else _tools(tools)
        prefill = self.prefill if prompt is None else self.prefill_of(prompt)
        if isinstance(text_or_ids, str):
            return self._read(text_or_ids, tools, prefill)
        ids = _as_ids(text_or_ids)
        from toolparse.tokens import TokenText

        tokens = TokenText(self._ids(), self._program.all_markers)
        text = tokens.feed(ids, final=True)
        return tokens.finish(self._read(text, tools, prefill))

    def _read(self, text: str, tools: ToolSet | None, prefill: str) -> ParsedMessage:
        program = self._program
        suffix = program.suffix_of_turn(prefill, text) if program.suffix is not None else ""
        try:
            prepared, start = self._starts[suffix, prefill]
        except KeyError:
            if len(self._starts) > 64:
                self._starts.clear()
            prepared = prepare(self._read_as.bind(suffix))
            start = start_of(prepared, prefill.replace(SUFFIX, suffix))
            self._starts[suffix, prefill] = prepared, start
        return Reader(prepared, tools, start, options=self.options, complete=text).close()

    def __getstate__(self) -> dict[str, Any]:
        # What follows from the format is made again where it is needed: it is compiled, and need not be picklable.
        state = {name: value for name, value in self.__dict__.items() if name not in ("_program", "_starts")}
        if self.tools is not None:  # reading needs their schemas; local functions could not travel
            state["tools"] = self.tools.detached()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _program=compile_format(state["_read_as"]), _starts={})

    def stream(self, *, tools: Any = None, prompt: TextOrIds | None = None) -> Stream:
        """A stream: feed it pieces of text or ids, get events; close it for the message.

        Events that only the end of the text settles (a call whose last characters could have gone on) come from
        `Stream.finish`; `Stream.events` and `events` give them without being asked.
        """
        tools = self.tools if tools is None else _tools(tools)
        prefill = self.prefill if prompt is None else self.prefill_of(prompt)
        return Stream(read_pieces(self._read_as, prefill=prefill, tools=tools, options=self.options), self)

    def prefill_of(self, prompt: TextOrIds) -> str:
        """The tail of a rendered prompt (text or ids) that belongs to the turn; '' if the model starts afresh."""
        if not isinstance(prompt, str):
            prompt = self._ids().decode(_as_ids(prompt)[-1024:])
        return prefill_of(self.format, prompt)

    def _ids(self) -> Vocabulary:
        if self._vocabulary is None:
            if self.tokenizer is None:
                raise TypeError(
                    "token ids were given, but this parser has no tokenizer; make it with parser_for(tokenizer), "
                    "or pass text"
                )
            from toolparse.tokens import Vocabulary

            self._vocabulary = Vocabulary(self.tokenizer)
        return self._vocabulary

    # -- writing --------------------------------------------------------------------------------------------------

    def render(
        self,
        calls: ParsedMessage | Mapping[str, Any] | Iterable[CallLike] = (),
        *,
        content: str = "",
        reasoning: str | None = None,
        end: bool = False,
    ) -> str:
        """The text of a turn with these calls: the inverse of parse.

        `calls`: ToolCalls, dicts or pairs (name, arguments); or a whole message, which is what `parse` gave or a dict
        with a role, and brings its content and reasoning. `end`: with the marker that ends the turn.

        Raises RenderError, naming the call and the argument, for what the format cannot carry.
        """
        from toolparse.render import render

        if isinstance(calls, ParsedMessage):
            content, reasoning, calls = content or calls.content, reasoning or calls.reasoning, calls.tool_calls
        elif isinstance(calls, Mapping):
            content, reasoning = content or calls.get("content") or "", reasoning or calls.get("reasoning_content")
            calls = calls.get("tool_calls") or () if "role" in calls else [calls]
        return render(self.format, calls, content=content, reasoning=reasoning, prefill=self.prefill, end=end)

    def to_message(
        self, message: ParsedMessage, *, broken: Literal["leave out", "keep"] = "leave out"
    ) -> dict[str, Any]:
        """The message as this parser's chat template renders it right, its ids in the form that it accepts.

        `broken`: what becomes of calls that are not `ok`, as `ParsedMessage.to_message` says.
        """
        if self.style is not None:
            return self.style.message(message.to_message(id_picture=self.style.new_id, broken=broken))
        picture = self.format.new_id or self.format.id or "call_{{index}}"
        return message.to_message(id_picture=picture, broken=broken)

    def grammar(
        self,
        tools: Any = None,
        *,
        syntax: str = "gbnf",
        tokenizer: Any = None,
        prompt: TextOrIds | None = None,
        **options: Any,
    ) -> str:
        """A grammar under which a model can only write turns of this format with calls of these tools.

        `syntax`: `gbnf` (llama.cpp), `ebnf` (xgrammar) or `lark` (llguidance). `options` are those of
        `toolparse.export.grammar`: parallel, content, reasoning, required. `tokenizer`: that of the model, the parser's
        own if None; xgrammar and llguidance then know which markers are tokens. `prompt`: the rendered prompt, which
        says where the turn begins. Raises ExportError, with the reason, where the format or a schema cannot be said.
        """
        from toolparse.export import grammar

        options.setdefault("prefill", self.prefill if prompt is None else self.prefill_of(prompt))
        tokenizer = self.tokenizer if tokenizer is None else tokenizer
        return grammar(self.format, self._offered(tools), syntax=syntax, tokenizer=tokenizer, **options)

    def structural_tag(
        self,
        tools: Any = None,
        *,
        choice: str = "auto",
        parallel: bool = True,
        strict: bool | None = None,
        reasoning: bool = True,
        tokenizer: Any = None,
        prompt: TextOrIds | None = None,
        skip: Collection[str] = (),
        answer: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A structural tag for xgrammar (vLLM, SGLang): free text until a call begins, which is held to its tool.

        `choice`: "auto", "none", "required" or a tool's name. The other options are those of
        `toolparse.export.structural_tag`; `tokenizer` and `prompt` are those of `grammar`. Raises ExportError, with the
        reason, where the format or a schema cannot be expressed.
        """
        from toolparse.export import structural_tag

        prefill = self.prefill if prompt is None else self.prefill_of(prompt)
        return structural_tag(
            self.format,
            self._offered(tools),
            choice=choice,
            parallel=parallel,
            strict=strict,
            reasoning=reasoning,
            prefill=prefill,
            tokenizer=self.tokenizer if tokenizer is None else tokenizer,
            skip=skip,
            answer=answer,
        )

    def _offered(self, tools: Any) -> ToolSet:
        offered = self.tools if tools is None else _tools(tools)
        if offered is None:
            raise TypeError("a grammar needs tools; pass them here or to parser_for(..., tools=[...])")
        return offered

    def to_response_template(self, *, start_anchor: str | None = None) -> dict[str, Any]:
        """The format as transformers' `response_template`. Raises ExportError, naming the field, where it cannot be."""
        from toolparse.export import to_response_template

        return to_response_template(self.format, start_anchor=start_anchor)


def _tools(tools: Any) -> ToolSet | None:
    if tools is None:
        return None
    from toolparse.tools import ToolSet

    return ToolSet.of(tools)


def _as_ids(ids: Any) -> list[int]:
    if isinstance(ids, int):
        return [ids]
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
        if ids and isinstance(ids[0], list):
            raise TypeError("a batch of ids was given; pass one row at a time, or use parse_batch")
    elif not (isinstance(ids, list | tuple) and ids and type(ids[0]) is int):
        _check_ids(ids)
    return list(ids)


def _check_ids(given: Any) -> None:
    """Raises TypeError, saying what was meant, for what is neither a text nor token ids."""
    if isinstance(given, bytes | bytearray):
        raise TypeError("bytes were given: decode them first, text.decode()")
    if isinstance(given, Mapping):
        raise TypeError(
            'a dict was given: parse reads the text that a model wrote; of a message that is message["content"]'
        )
    if given is None:
        raise TypeError("None was given where the model's text or its token ids belong")
    if isinstance(given, ParsedMessage):
        raise TypeError("a message was given that has been read already; its text is message.text")
    first = given[0] if isinstance(given, list | tuple) and given else None
    if isinstance(first, str):
        raise TypeError("a list of texts was given: use parser_for(source).parse_batch(texts)")
    if isinstance(first, Mapping):
        raise TypeError("a list of messages was given: parse reads the text that a model wrote, one at a time")
    if not isinstance(given, Iterable):
        raise TypeError(
            f"{type(given).__name__} {given!r:.40} was given where the model's text or its token ids belong"
        )


class EventStream:
    """What streams have in common: `feed`, then `finish` for the events of the end and `close` for the message."""

    def feed(self, piece: TextOrIds) -> list[Event]:
        """The events that this piece settles."""
        raise NotImplementedError

    def finish(self) -> list[Event]:
        """The text is complete: the events that only its end settles. A second call has none left."""
        raise NotImplementedError

    def close(self) -> ParsedMessage:
        """The text is complete: the message."""
        raise NotImplementedError

    def events(self, pieces: Iterable[TextOrIds]) -> Iterator[Event]:
        """Feed every piece and finish: every event, each as soon as it is settled. `close` then has the message."""
        for piece in pieces:
            yield from self.feed(piece)
        yield from self.finish()

    async def aevents(self, pieces: AsyncIterable[TextOrIds] | Iterable[TextOrIds]) -> AsyncIterator[Event]:
        """As `events`, for pieces that are awaited."""
        if isinstance(pieces, AsyncIterable):
            async for piece in pieces:
                for event in self.feed(piece):
                    yield event
        else:
            for piece in pieces:
                for event in self.feed(piece):
                    yield event
        for event in self.finish():
            yield event


class Stream(EventStream):
    """One completion, read as it arrives."""

    def __init__(self, reader: Reader, parser: Parser) -> None:
        self._reader = reader
        self._parser = parser
        self._tokens: TokenText | None = None
        self._text = False  # whether text was fed, and more may be
        self._message: ParsedMessage | None = None
        self._last: list[Event] = []  # what the end settled and nobody has taken yet
        #: the events of the end of the text, once the stream is closed; `finish` hands them out
        self.last_events: list[Event] = []

    def feed(self, piece: TextOrIds) -> list[Event]:
        """The events that this piece settles. A stream takes text or ids, not both."""
        if self._text and type(piece) is str and piece:
            return self._reader.feed(piece)
        if self._message is not None:
            raise ValueError("this stream is closed; make a new one with parser.stream()")
        if isinstance(piece, str):
            if self._tokens is not None:
                raise TypeError("this stream was fed ids; go on with ids")
            self._text = True
            return self._take(piece)
        if self._text:
            raise TypeError("this stream was fed text; go on with text")
        ids = _as_ids(piece)
        if self._tokens is None:
            from toolparse.tokens import TokenText

            self._tokens = TokenText(self._parser._ids(), self._parser._program.all_markers)
        return self._unmasked(self._take(self._tokens.feed(ids)))

    def _take(self, text: str) -> list[Event]:
        return self._reader.feed(text) if text else []

    def _unmasked(self, events: list[Event]) -> list[Event]:
        if self._tokens is not None and self._tokens.masked:
            return self._tokens.unmask_value(events)  # type: ignore[no-any-return]
        return events

    def close(self) -> ParsedMessage:
        """The text is complete: the message, equal to what `parse` gives for the whole text.

        Events that only the end settles are had from `finish`, before or after.
        """
        if self._message is None:
            reader = self._reader
            self._text = False
            said = self._take(self._tokens.feed((), final=True)) if self._tokens is not None else []
            message = reader.close()
            self._message = message if self._tokens is None else self._tokens.finish(message)
            self.last_events = self._last = self._unmasked([*said, *reader.take_events()])
        return self._message

    def finish(self) -> list[Event]:
        """The text is complete: the events that only its end settles. A second call has none left."""
        self.close()
        last, self._last = self._last, []
        return last


class FunctionParser(Reading):
    """A user's own parsing function, usable wherever a Parser is.

    `function(text)` gives the calls in any usual form (ToolCall, dict, (name, arguments)), or a ParsedMessage. Without
    positions of its own the whole text becomes one span. Streams hold the text back until it is complete.
    """

    def __init__(
        self, function: Callable[[str], Any], *, name: str = "", tools: Any = None, tokenizer: Any = None
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "function").replace("_", "-")
        self.tools = _tools(tools)
        self.tokenizer = tokenizer
        self.aliases: tuple[str, ...] = ()

    @property
    def format(self) -> FunctionParser:
        """The declaration: the function itself."""
        return self

    def __repr__(self) -> str:
        return f"FunctionParser({self.name!r})"

    def parse(self, text_or_ids: TextOrIds, *, tools: Any = None, prompt: TextOrIds | None = None) -> ParsedMessage:
        """What the function finds, validated against the tools. Errors of the function are the caller's to see."""
        tools = self.tools if tools is None else _tools(tools)
        ids = [] if isinstance(text_or_ids, str) else _as_ids(text_or_ids)
        if isinstance(text_or_ids, str):
            text = text_or_ids
        elif self.tokenizer is None:
            raise TypeError("token ids were given, but this parser has no tokenizer; pass text")
        else:
            from toolparse.tokens import Vocabulary

            text = Vocabulary(self.tokenizer).decode(ids)
        found = self.function(text)
        if isinstance(found, ParsedMessage):
            return found
        from toolparse.render import as_calls

        calls = tuple(judge(call, tools, text) for call in as_calls(found or ()))
        calls = tuple(msgspec.structs.replace(call, index=index) for index, call in enumerate(calls))
        kind = "call" if calls else "content"
        spans = (Span(kind, 0, len(text)),) if text else ()  # type: ignore[arg-type]
        issues = tuple(issue for call in calls for issue in call.issues)
        return ParsedMessage("" if calls else text, None, calls, issues, False, spans, text)

    def stream(self, *, tools: Any = None, prompt: TextOrIds | None = None) -> FunctionStream:
        """A stream that says everything at its end."""
        return FunctionStream(self, tools)

    def render(
        self, calls: Iterable[CallLike] = (), *, content: str = "", reasoning: str | None = None, end: bool = False
    ) -> str:
        """A function can't be run backwards."""
        raise TypeError(f"{self!r} reads only; declare a Format to render calls")

    def grammar(self, tools: Any = None, **options: Any) -> str:
        """A function says nothing about what it reads."""
        raise TypeError(f"{self!r} reads only; declare a Format to export grammars")

    def structural_tag(self, tools: Any = None, **options: Any) -> dict[str, Any]:
        """A function says nothing about what it reads."""
        raise TypeError(f"{self!r} reads only; declare a Format to export structural tags")

    def to_response_template(self, *, start_anchor: str | None = None) -> dict[str, Any]:
        """A function says nothing about what it reads."""
        raise TypeError(f"{self!r} reads only; declare a Format to export response templates")

    def to_message(
        self, message: ParsedMessage, *, broken: Literal["leave out", "keep"] = "leave out"
    ) -> dict[str, Any]:
        """The message as chat templates take it, as `ParsedMessage.to_message` gives it."""
        return message.to_message(broken=broken)


class FunctionStream(EventStream):
    """Collects the text for a FunctionParser."""

    def __init__(self, parser: FunctionParser, tools: Any) -> None:
        self._parser = parser
        self._tools = tools
        self._pieces: list[Any] = []
        self._message: ParsedMessage | None = None
        self._finished = False

    def feed(self, piece: TextOrIds) -> list[Event]:
        """Nothing is said before the end."""
        if self._message is not None:
            raise ValueError("this stream is closed; make a new one with parser.stream()")
        self._pieces.append(piece)
        return []

    def close(self) -> ParsedMessage:
        """The message."""
        if self._message is None:
            if all(isinstance(piece, str) for piece in self._pieces):
                whole: Any = "".join(self._pieces)
            else:
                whole = [id for piece in self._pieces for id in _as_ids(piece)]
            self._message = self._parser.parse(whole, tools=self._tools)
        return self._message

    def finish(self) -> list[Event]:
        """Everything there is to say, once."""
        message = self.close()
        if self._finished:
            return []
        self._finished = True
        events: list[Event] = [ReasoningDelta(message.reasoning)] if message.reasoning else []
        events += [ContentDelta(message.content)] if message.content else []
        for call in message.tool_calls:
            events.append(CallStarted(call.index, call.name, call.id))
            events.append(ArgumentsDelta(call.index, msgspec.json.encode(call.arguments).decode()))
            events.append(CallEnded(call.index, call))
        return events + [IssueFound(issue) for issue in message.issues]


def judge(call: ToolCall, tools: ToolSet | None, text: str) -> ToolCall:
    """A call with what the tools hold against it."""
    if tools is None:
        return call
    span = call.span or Span("call", 0, len(text))
    tool = tools.get(call.name)
    if tool is None:
        hint = tools.suggest(call.name)
        message = f"unknown tool {call.name!r}" + (f"; did you mean {hint!r}?" if hint else "")
        found = [Issue("unknown-tool", message, span, call.index)]
    else:
        found = [Issue(p.code, p.message, span, call.index) for p in tool.validate(call.arguments)]
    return msgspec.structs.replace(call, issues=(*call.issues, *found)) if found else call


AnyParser = Parser | FunctionParser
