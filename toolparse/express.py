"""The short way through complete, well-formed text.

What models write is nearly always well formed: a thought, some content, calls that read at once. `read` takes such a
text apart with the same compiled program as the machine, but without its bookkeeping for what may still come, and
gives up (None) at the first thing that is not plain: the machine then reads the text. It never reports an issue.
Where it does not give up its result is the machine's: `tests/test_express.py` holds the two against each other.

Measured: three to four times faster than the machine on short calls (`docs/performance.md`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from toolparse.codecs.matching import BLANKS, skip_blanks
from toolparse.codecs.nested import NestedScanner
from toolparse.codecs.tagged import TaggedScanner
from toolparse.codecs.values import DONE, ValueScanner
from toolparse.codecs.whole import Budget, Whole, read_whole
from toolparse.format import Format
from toolparse.machine import Machine
from toolparse.message import ParsedMessage, Span, ToolCall
from toolparse.program import Frame, Program, Shape, compile_format

_NO = (-1, "")


class Express:
    """A program prepared for the short way."""

    def __init__(self, program: Program) -> None:
        self.program = program
        format = program.format
        self.possible = (
            program.suffix is None
            and not program.message
            and not program.anchored
            and all(frame.kind == "reasoning" and frame.close_length < 2048 for frame in program.frames)
            and not format.no_call
            and not format.escapes
        )
        self.search = program.markers.search
        self.search_thought = program.reasoning_markers.search
        self.ends = frozenset(program.ends)
        self.calls: dict[str, tuple[tuple[Shape, Any], ...]] = {}
        self.thoughts: dict[str, Frame] = {}
        self.groups: dict[tuple[str, str], list[Shape]] = {}
        for shape in program.shapes:
            self.groups.setdefault(shape.group, []).append(shape)
        if self.possible:
            self._sort()
        self.stops = {shape.number: (*shape.tail, *shape.closer, *program.ends) for shape in program.shapes}

    def _sort(self) -> None:
        """Markers at which only one thing can begin first."""
        for core, candidates in self.program.candidates.items():
            if any(other.core != core for other in candidates):
                continue  # one marker begins another
            first = candidates[0]
            if first.kind == "reasoning" and first.frame is not None:
                self.thoughts[core] = first.frame
            calls = [(c.shape, c.rx.final.match) for c in candidates if c.kind == "call" and c.shape is not None]
            if calls and all(shape.strong and bool(shape.opener) == bool(shape.closer) for shape, _ in calls):
                self.calls[core] = tuple(calls)

    def read(self, text: str, tools: Any, thinking: Frame | None, lead: str) -> ParsedMessage | None:
        """The message, or None when the text is not plain. `thinking`, `lead`: where the prompt left off."""
        marks: list[tuple[str, int, int]] = []
        content: list[str] = []
        reasoning = ""
        calls: list[ToolCall] = []
        pos = 0
        size = len(text)
        if thinking is not None:
            end = self._thought(text, 0, thinking, lead, marks)
            if end < 0:
                return None
            reasoning = _last_text(text, marks, "reasoning")
            pos, lead = end, thinking.after
        search = self.search
        while True:
            match = search(text, pos)
            at = size if match is None else match.start()
            core = None if match is None else match.group()
            if at > pos:
                trail = self.calls[core][0][0].lead if core in self.calls else ""
                self._content(text, pos, at, lead, trail, marks, content, alone=core is None and not marks)
            lead = ""
            if core is None:
                break
            entry = self.calls.get(core)
            if entry is not None:
                pos, lead = self._call(text, at, entry, tools, marks, calls)
                if pos < 0:
                    return None
                continue
            frame = self.thoughts.get(core)
            if frame is not None:
                if reasoning:
                    return None
                opened = frame.open.final.match(text, at)
                if opened is None:
                    return None
                _mark(marks, "markup", at, opened.end())
                end = self._thought(text, opened.end(), frame, frame.lead, marks)
                if end < 0:
                    return None
                reasoning = _last_text(text, marks, "reasoning")
                pos, lead = end, frame.after
                continue
            if core in self.ends:
                _mark(marks, "markup", at, size)
                break
            return None
        return ParsedMessage(
            "".join(content) if len(content) != 1 else content[0],
            reasoning or None,
            tuple(calls),
            (),
            False,
            tuple([Span(kind, start, end) for kind, start, end in marks]),  # type: ignore[arg-type]
            text,
        )

    def _content(
        self,
        text: str,
        pos: int,
        at: int,
        lead: str,
        trail: str,
        marks: list[tuple[str, int, int]],
        content: list[str],
        *,
        alone: bool,
    ) -> None:
        """Content between two markers, without the blanks that the picture writes around it."""
        start, end, blank = _inside(text, pos, at, lead, trail)
        if blank and (not alone or start > pos):
            _mark(marks, "markup", pos, at)
            return
        _mark(marks, "markup", pos, start)
        if end > start:
            _mark(marks, "content", start, end)
            content.append(text[start:end])
        _mark(marks, "markup", end, at)

    def _thought(self, text: str, pos: int, frame: Frame, lead: str, marks: list[tuple[str, int, int]]) -> int:
        """A thought up to its closing; returns the position behind it, -1 when it is not plain."""
        match = self.search_thought(text, pos)
        if match is None or match.group() != frame.close_first:
            return -1
        start, end, blank = _inside(text, pos, match.start(), lead, frame.trail)
        if blank:
            start = end = pos
        _mark(marks, "markup", pos, start)
        _mark(marks, "reasoning", start, end)
        _mark(marks, "markup", end, match.end())
        return match.end()

    def _call(
        self,
        text: str,
        at: int,
        entry: tuple[tuple[Shape, Any], ...],
        tools: Any,
        marks: list[tuple[str, int, int]],
        calls: list[ToolCall],
    ) -> tuple[int, str]:
        """A call, and those behind it in its section.

        Returns the position behind them and the blanks that are markup there; -1 when something is not plain.
        """
        for candidate, head in entry:
            shape, match = candidate, head(text, at)
            if match is not None:
                break
        else:
            return _NO
        while True:
            start = match.start("at_")
            if start > at:
                _mark(marks, "markup", at, start)
            name, id = "", None
            if shape.named:
                groups = match.groupdict()
                name, id = (groups.get("name") or "").strip(), groups.get("id")
                if id is not None:
                    id = id.strip()
                    found = shape.id_pattern.match(id) if not name and shape.id_pattern is not None else None
                    if found is not None:
                        name = found.group("name").strip()
            whole = self._body(text, match.end(), shape, tools.get(name) if name and tools is not None else None)
            if whole is None:
                return _NO
            end = whole.end
            for core in shape.tail:
                if not text.startswith(core, end):
                    end = skip_blanks(text, end)
                    if not text.startswith(core, end):
                        return _NO
                end += len(core)
            if shape.tail and shape.tail[-1] in self.ends:
                return _NO
            name, id = whole.name or name, whole.id if whole.id is not None else id
            if not name:
                return _NO
            if tools is not None:
                tool = tools.get(name)
                if tool is None or tool.validate(whole.arguments):
                    return _NO
            index = len(calls)
            calls.append(ToolCall(name, whole.arguments, id, index, Span("call", start, end), text[start:end]))
            marks.append(("call", start, end))
            if not shape.opener:
                return end, shape.between_blanks
            at = end
            after = skip_blanks(text, end)
            if shape.between and text.startswith(shape.between, after):
                after = skip_blanks(text, after + len(shape.between))
            following = None
            for other in self.groups[shape.group]:
                following = other.head.final.match(text, after)
                if following is not None:
                    shape, match = other, following
                    break
            if following is not None:
                continue
            end = after
            for core in shape.closer:
                end = skip_blanks(text, end)
                if not text.startswith(core, end):
                    return _NO
                end += len(core)
            _mark(marks, "markup", at, end)
            return end, ""

    def _body(self, text: str, at: int, shape: Shape, tool: Any) -> Whole | None:
        """The body of a call, None when it is not plain."""
        watch = shape.watch
        json = shape.body in ("wrapper", "arguments") and shape.format.syntax.is_json
        if json and (watch is None or watch.tree is not None):
            return read_whole(text, at, shape.tail[0] if shape.tail else "", shape.watch, Budget(0))
        scanner: TaggedScanner | ValueScanner
        if shape.body == "params":
            assert shape.tagged is not None
            kind = TaggedScanner if shape.tagged.item is None else NestedScanner
            scanner = kind(shape.tagged, tool, streaming=False)
        else:
            stops = self.stops[shape.number]
            scanner = ValueScanner(shape.format.syntax, watch=shape.watch, kwargs=shape.body == "kwargs", stops=stops)
        end = scanner.scan(text, at, True)
        if scanner.status != DONE:
            return None
        try:
            arguments = scanner.arguments()
        except ValueError:
            return None
        if scanner.repairs or scanner.duplicates:
            return None
        return Whole(end, scanner.name or "", scanner.id, arguments)


def _mark(marks: list[tuple[str, int, int]], kind: str, start: int, end: int) -> None:
    if end <= start:
        return
    if marks and marks[-1][0] == kind:
        marks[-1] = (kind, marks[-1][1], end)
    else:
        marks.append((kind, start, end))


def _inside(text: str, pos: int, at: int, lead: str, trail: str) -> tuple[int, int, bool]:
    """Where text between two markers begins and ends without the blanks that are markup, and whether it is blank."""
    start = pos
    for char in lead:
        if start < at and text[start] == char:
            start += 1
        else:
            break
    bare = start + len(text[start:at].rstrip(BLANKS))
    end = at
    while trail and end > bare and text[end - 1] == trail[-1]:
        end -= 1
        trail = trail[:-1]
    return start, end, bare == start


def _last_text(text: str, marks: list[tuple[str, int, int]], kind: str) -> str:
    for found, start, end in reversed(marks):
        if found == kind:
            return text[start:end]
    return ""


@lru_cache(maxsize=256)
def express_for(format: Format) -> Express:
    """The short way for a format."""
    return Express(compile_format(format))


class Start(NamedTuple):
    """Where a prompt leaves the turn: `plain` if nothing or just a thought is open."""

    plain: bool
    thinking: Frame | None
    lead: str


def start_of(program: Program, prefill: str) -> Start:
    """Where the turn stands after what the prompt holds of it."""
    if not express_for(program.format).possible:
        return Start(False, None, "")
    if not prefill:
        return Start(True, None, "")
    machine = Machine(program, None, prefill=prefill, streaming=True)
    return Start(*machine.standing())
