"""Files of completions, read and written row by row: what `toolparse parse` does.

A file is cut into chunks (a megabyte of lines, some thousand rows of a table), and `Work.read` turns a chunk into the
bytes that are written for it: in this process or in others, which get no more than the chunk, or its place in the file.
With an output, those bytes go to `OUTPUT.part`; `OUTPUT.part.json` says how many rows they stand for, so that a run can
be taken up again. Columns of JSON lines that are not read are copied as they are written.
"""

from __future__ import annotations

import codecs
import dataclasses
import gzip
import io
import json
import os
import re
import signal
import stat
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from toolparse.codecs.json import encode as json_text
from toolparse.corpora.rows import COLUMNS, arrow, column_values, columns_of, schema, within
from toolparse.errors import ToolError, ToolparseError
from toolparse.message import ParsedMessage
from toolparse.openai import SURROGATE
from toolparse.parser import AnyParser
from toolparse.tools import ToolSet

if TYPE_CHECKING:
    from concurrent.futures import Future

#: Where a record may hold the model's output.
TEXT_FIELDS = ("text", "output", "completion", "response", "content")

CHUNK_BYTES = 1_000_000
CHUNK_ROWS = 1_000
PART_CHUNKS = 4  # a part of a file is so many chunks: what is done once for each takes time of the process that writes

#: Of so many rows that were skipped it is said what is wrong with them; the others are counted.
SKIPPED_SHOWN = 10

_MESSAGE = ("role", "content", "reasoning_content", "tool_calls", "truncated", "issues")
_SUFFIXES = {".jsonl": "lines", ".ndjson": "lines", ".txt": "whole"}
_TABLES = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}


class CorpusError(ToolparseError, ValueError):
    """A file of completions that can't be read or written; the message names the row."""


class Part(NamedTuple):
    """Lines of a plain file, by their place in it: whoever needs them reads them there."""

    path: str
    start: int
    end: int

    def read(self) -> list[bytes]:
        with open(self.path, "rb", buffering=128 * 1024) as file:
            file.seek(self.start)
            lines = file.readlines(self.end - self.start - 1)  # which ends when it has more than that
        if lines and self.start == 0:
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        return lines


class Done(NamedTuple):
    """What became of a chunk. `skipped`: rows, counted from 0, and what is wrong with them; `stop`: that of the end."""

    data: bytes
    rows: int
    well: bool
    skipped: list[tuple[int, str]]
    stop: tuple[int, str] | None


class _Row(NamedTuple):
    """A completion, how it is read, and the columns that are kept: JSON values by name, or Python's for a table."""

    text: Any
    prompt: Any
    tools: Any
    kept: Any


# ------------------------------------------------------------------------------------------------------ from a chunk


@dataclasses.dataclass
class Work:
    """How rows are read and what is written for them; travels to other processes."""

    parser: AnyParser
    name: str
    field: str | None = None
    prompt: str | None = None
    prefix: str = ""
    skip: bool = False
    packed: str = ""  # .gz or .zst, for JSON lines
    table: bool = False  # record batches are written, not JSON lines
    columns: Any = None  # their schema, once the first chunk has said it
    _written: set[str] = dataclasses.field(default_factory=set, repr=False)
    _tools: dict[bytes, Any] = dataclasses.field(default_factory=dict, repr=False)

    def read(self, data: Any) -> Done:
        """Read the rows of a chunk: lines, the elements of an array, a record batch, a part of a file."""
        rows: Sequence[Any]
        make: Any
        if hasattr(data, "schema"):
            make, rows = self._table_row, self._table_rows(data)
        else:
            make, rows = self._line, data.read() if isinstance(data, Part) else data
        lines: list[bytes] = []
        found: list[tuple[int, ParsedMessage, Any]] = []  # for tables, with the place of the row
        skipped: list[tuple[int, str]] = []
        well, stop = True, None
        for place, raw in enumerate(rows):
            try:
                row = make(raw)
                if row is None:
                    continue
                message = self._parse(row)
            except CorpusError as error:
                if not self.skip:
                    stop = (place, f"{error} (--errors skip leaves such rows out)")
                    break
                skipped.append((place, str(error)))
                continue
            if message.issues and well:
                well = all(call.ok for call in message.tool_calls)
            if self.table:
                found.append((place, message, row.kept))
            else:  # at once: many messages that are held slow Python's collector down
                lines.append(self._json_line(message, row.kept))
        try:
            written = self._batch(found, data) if self.table else self._pack(b"".join(lines))
        except CorpusError as error:
            return Done(b"", 0, False, [], (0, str(error)))
        return Done(written, len(rows), well and not skipped, skipped, stop)

    def _parse(self, row: _Row) -> ParsedMessage:
        prompt = self.prompt if row.prompt is None else row.prompt
        try:
            return self.parser.parse(row.text, tools=row.tools, prompt=prompt)
        except ToolError as error:
            raise CorpusError(f"has tools that can't be used: {error}") from error
        except TypeError as error:
            if isinstance(row.text, str) and not isinstance(prompt, list):
                raise
            raise CorpusError("holds token ids, which need a tokenizer; give their text") from error

    # -- rows -----------------------------------------------------------------------------------------------------

    def _line(self, line: bytes) -> _Row | None:
        """A JSON line or an element of an array; None for a blank one."""
        try:
            record = _record(line)
        except msgspec.MsgspecError:
            if not line.strip():
                return None
            return self._value(_slow_json(line))
        if not line.isascii():
            _decoded(line)
        try:
            return self._record(record)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # what only the standard library takes, or is wrong
            return self._value(_slow_json(line))

    def _record(self, record: dict[str, Any]) -> _Row:
        """A record of JSON, which is decoded only where it is read, or of Python's values."""
        name = self.field or next((name for name in TEXT_FIELDS if _is_text(record.get(name))), "")
        text = None
        if name and name in record:
            text = _plain(record.pop(name))
        elif name:
            name, *path = name.split(".")
            text = within(_plain(record.get(name)), path)
        prompt, tools = record.get("prompt", record.get("prefill")), record.get("tools")
        self._check_names(record)
        if tools is not None:
            tools = self._toolset(bytes(tools) if isinstance(tools, msgspec.Raw) else json_text(tools).encode())
        kept = {name: _plain(value) for name, value in record.items()} if self.table else record
        return self._checked(text, _plain(prompt), tools, kept)

    def _value(self, value: Any) -> _Row:
        if isinstance(value, str):
            return self._checked(value, None, None, {})
        if not isinstance(value, dict):
            raise CorpusError(f"is neither a text nor an object, but {type(value).__name__}")
        return self._record(value)

    def _table_rows(self, batch: Any) -> list[tuple[Any, Any, Any, Any]]:
        """The rows of a record batch. Kept are no columns, if a table is written: they are taken as they are."""
        names = batch.schema.names
        name = self.field or next((name for name in TEXT_FIELDS if name in names), None)
        if name is None or (name not in names and name.split(".")[0] not in names):
            wanted = name or " or ".join(TEXT_FIELDS)
            raise CorpusError(f"{self.name} has no column {wanted}, but {', '.join(names)}; --field says where it is")
        kept = [column for column in names if column != name]
        self._check_names(dict.fromkeys(kept))
        texts = column_values(batch.column, name)
        nothing = [None] * len(texts)
        prompts = next((batch.column(name).to_pylist() for name in ("prompt", "prefill") if name in names), nothing)
        tools = batch.column("tools").to_pylist() if "tools" in names else nothing
        others = [{}] * len(texts) if self.table else batch.select(kept).to_pylist()
        return list(zip(texts, prompts, tools, others, strict=True))

    def _table_row(self, row: tuple[Any, Any, Any, Any]) -> _Row:
        text, prompt, tools, kept = row
        if tools is not None:
            tools = self._toolset((tools if isinstance(tools, str) else json_text(_filled(tools))).encode())
        return self._checked(text, prompt, tools, kept)

    def _checked(self, text: Any, prompt: Any, tools: Any, kept: Any) -> _Row:
        if not isinstance(text, str) and not _are_ids(text):
            has = f", but has {', '.join(list(kept)[:8])}" if kept else ""
            wanted = f"{self.field}{has}" if self.field else f"{', '.join(TEXT_FIELDS)}{has}; --field says where it is"
            raise CorpusError(f"holds no text in {wanted}")
        if prompt is not None and not isinstance(prompt, str) and not _are_ids(prompt):
            raise CorpusError("has a prompt that is neither a text nor token ids")
        return _Row(text, prompt, tools, kept)

    def _check_names(self, names: dict[str, Any]) -> None:
        """Raises CorpusError where a column that is kept has a name that is written."""
        if not self._written:
            self._written = {self.prefix + name for name in (COLUMNS if self.table else _MESSAGE)}
        if self._written.isdisjoint(names):
            return
        twice = self._written & names.keys()
        if "role" in twice and _plain(names["role"]) == "assistant":
            twice.remove("role")
            del names["role"]
        if twice:
            raise CorpusError(
                f"has a column {', '.join(sorted(twice))}, which is what is written for the message; "
                "--prefix NAME_ gives what is written other names"
            )

    def _toolset(self, raw: bytes) -> Any:
        """The tools of a row; rows that have the same share them."""
        known = self._tools.get(raw)
        if known is None:
            tools = _slow_json(raw)
            if tools is None:
                return None
            if not isinstance(tools, list):
                raise CorpusError("has tools that are not a list of OpenAI-style tools")
            if len(self._tools) > 64:
                self._tools.clear()
            try:
                known = self._tools[raw] = ToolSet.of(tools)
            except (ToolError, TypeError) as error:
                raise CorpusError(f"has tools that can't be used: {error}") from error
        return known

    # -- what is written ------------------------------------------------------------------------------------------

    def _json_line(self, message: ParsedMessage, kept: dict[str, Any]) -> bytes:
        data = message_data(message, self.parser)
        if self.prefix:
            data = {self.prefix + name: value for name, value in data.items()}
        try:
            return _encode({**kept, **data}) + b"\n"
        except (ValueError, OverflowError, RecursionError):  # what UTF-8 or msgspec can't hold
            parts = [_json_bytes(part)[1:-1] for part in (kept, data) if part]
            return b"{" + b",".join(parts) + b"}\n"

    def _pack(self, lines: bytes) -> bytes:
        if self.packed == ".gz":
            return gzip.compress(lines, compresslevel=6, mtime=0)
        if self.packed == ".zst":
            return bytes(_zstandard().ZstdCompressor().compress(lines))
        return lines

    def _batch(self, found: list[tuple[int, ParsedMessage, Any]], data: Any) -> bytes:
        """The rows as a record batch, in Arrow's stream format; its schema goes before the first."""
        pa = arrow()
        table = pa.Table.from_batches([columns_of([message for _, message, _ in found], self.prefix)])
        if hasattr(data, "schema"):
            name = self.field or next(name for name in TEXT_FIELDS if name in data.schema.names)
            others = data.select([column for column in data.schema.names if column != name])
            others = pa.Table.from_batches([others.take(pa.array([place for place, _, _ in found], pa.int64()))])
        else:
            others = self._others([kept for _, _, kept in found])
        for number, column in enumerate(others.schema):
            values = others.column(number)
            if pa.types.is_dictionary(column.type):
                values = values.cast(column.type.value_type)
            table = table.add_column(number, column.name, values)
        if self.columns is None:
            self.columns = table.schema.remove_metadata()
        table = table.cast(self.columns)
        return b"".join(bytes(batch.serialize()) for batch in table.combine_chunks().to_batches())

    def _others(self, kept: list[dict[str, Any]]) -> Any:
        pa = arrow()
        names = list(dict.fromkeys(name for row in kept for name in row))
        wanted = None
        if self.columns is not None:
            wanted = pa.schema([column for column in self.columns if column.name not in schema(self.prefix).names])
            if new := [name for name in names if name not in wanted.names]:
                raise CorpusError(
                    f"or one of the next has a column {', '.join(new)} that the first rows don't have, and a table's "
                    "columns are those of its first rows; JSON lines can be written"
                )
            names = wanted.names
        try:
            if not names:
                return pa.table({})
            return pa.Table.from_pydict({name: [row.get(name) for row in kept] for name in names}, schema=wanted)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
            why = str(error).splitlines()[0]
            raise CorpusError(
                f"or one of the next doesn't fit into a column ({why}); JSON lines can be written"
            ) from error


def message_data(message: ParsedMessage, parser: AnyParser) -> dict[str, Any]:
    """The message as chat templates take it, with what is wrong with it."""
    data = parser.to_message(message, broken="keep")
    if message.truncated:
        data["truncated"] = True
    if message.issues:
        data["issues"] = [
            {"code": issue.code, "message": issue.message, "call": issue.call_index} for issue in message.issues
        ]
    return data


_record = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_json = msgspec.json.decode
_encode = msgspec.json.Encoder().encode


def _is_text(value: Any) -> bool:
    return bytes(memoryview(value)[:1]) == b'"' if isinstance(value, msgspec.Raw) else isinstance(value, str)


def _plain(value: Any) -> Any:
    return _json(value) if isinstance(value, msgspec.Raw) else value


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _slow_json(line: bytes) -> Any:
    """A JSON value as the standard library takes it: with lone surrogates and integers of any length."""
    text = _decoded(line).rstrip()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise CorpusError("is JSON that is nested too deeply (--whole reads the input as one text)") from error
    except ValueError as error:
        place = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise CorpusError(
            f"is not JSON: {place.split('; use sys.')[0]} (--whole reads the input as one text)"
        ) from error


def _json_bytes(value: Any) -> bytes:
    """A value as JSON; what UTF-8 or msgspec can't hold is escaped or written out."""
    try:
        return _encode(value)
    except (ValueError, OverflowError, RecursionError):
        return SURROGATE.sub(lambda lone: f"\\u{ord(lone[0]):04x}", json_text(value)).encode()


def _filled(value: Any) -> Any:
    """Tools from a column of structs, without the nulls that fill up what a tool does not have."""
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items() if item is not None}
    return [_filled(item) for item in value] if isinstance(value, list) else value


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


# --------------------------------------------------------------------------------------------------------- to chunks


@dataclasses.dataclass
class Corpus:
    """An open file of rows: JSON lines, a JSON array, Parquet, Arrow, or one whole text (`unit` is then "").

    A chunk is lines, a part of the file that holds some, the elements of an array, or a record batch.
    """

    name: str
    unit: str
    chunks: Callable[[], Iterator[Any]]
    note: str = ""  # what people should know of it


def open_corpus(file: BinaryIO, name: str, shape: str = "", *, field: str | None = None, whole: bool = False) -> Corpus:
    """Find out what a file holds: by `shape` (lines, array, whole), else by its first bytes, its name, its first line.

    `whole`: chunks as large as CHUNK_BYTES are waited for; else what a pipe has at hand is one.
    """
    plain = _buffered(file)
    stream = _unpacked(plain, name)
    start = stream.peek(8)[:8]
    if not shape and start[:4] == b"PAR1":
        return Corpus(name, "row", lambda: _parquet(stream, name))
    if not shape and (start[:6] == b"ARROW1" or start[:4] == b"\xff\xff\xff\xff"):
        return Corpus(name, "row", lambda: _arrow_rows(stream, name, stream_format=start[:4] == b"\xff\xff\xff\xff"))
    suffix = Path(name.removesuffix(".gz").removesuffix(".zst")).suffix
    wanted = name.endswith((".gz", ".zst")) and stream is plain
    if not shape and start and (wanted or suffix in _TABLES):
        raise CorpusError(f"{name} is not what its name says, or damaged at its start (--whole reads it as one text)")
    shape = shape or _SUFFIXES.get(suffix, "")
    if not shape and suffix == ".json" and stream.peek(64)[:64].removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
        shape = "array"
    if shape == "array":
        return Corpus(name, "element", lambda: _array(stream, name))
    first = stream.readline()
    if shape == "lines" or (not shape and (field is not None or _is_json_line(first))):
        parts = stream is plain and _is_file(stream, name)
        return Corpus(name, "line", lambda: _parts(stream, name) if parts else _line_chunks(first, stream, whole))
    data = first + stream.read()
    try:
        text, note = data.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", "replace")
        note = f"{name} is not UTF-8 text: {error.reason} at byte {error.start}; `\ufffd` stands for what can't be read"
    return Corpus(name, "", lambda: iter([[_encode(text)]]), note)


def _is_json_line(line: bytes) -> bool:
    """Whether a first line looks like a record: a JSON string, or an object that holds a text and no call."""
    try:
        value = json.loads(line.removeprefix(codecs.BOM_UTF8), parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, str) or (
        isinstance(value, dict) and any(isinstance(value.get(name), str) for name in TEXT_FIELDS)
    )


def _buffered(file: Any) -> Any:
    return file if hasattr(file, "peek") else io.BufferedReader(file)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise CorpusError("Zstandard needs zstandard: pip install 'toolparse[data]'") from error
    return zstandard


class _Frames:
    """Zstandard frames, one behind the other. The library's own reader is silent where the last one is cut off."""

    def __init__(self, stream: Any, zstandard: Any) -> None:
        self._stream, self._zstandard = stream, zstandard
        self._frame: Any = None
        self._left = b""

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            ended = self._frame is None or self._frame.eof
            data = self._frame.unused_data if ended and self._frame is not None else b""
            data = data or self._stream.read(CHUNK_BYTES)
            if ended:
                if not data:
                    return 0
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            if not data:
                raise EOFError("the last frame has no end")
            self._left = self._frame.decompress(data)
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


class _Checked(io.RawIOBase):
    """What is unpacked, with errors that name the file."""

    def __init__(self, stream: Any, name: str, errors: tuple[type[Exception], ...]) -> None:
        self._stream, self._name, self._errors = stream, name, errors

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self._stream.readinto(buffer)  # type: ignore[no-any-return]
        except self._errors as error:
            raise CorpusError(f"{self._name} is cut off or damaged: {error}") from error


def _unpacked(stream: Any, name: str) -> Any:
    """The stream without its compression, which its first bytes tell."""
    start = stream.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        packed: Any = _Checked(gzip.GzipFile(fileobj=stream), name, (EOFError, gzip.BadGzipFile, zlib.error))
    elif start == b"\x28\xb5\x2f\xfd":
        zstandard = _zstandard()
        packed = _Checked(_Frames(stream, zstandard), name, (EOFError, zstandard.ZstdError))
    else:
        return stream
    return io.BufferedReader(packed, CHUNK_BYTES)


def _is_file(stream: Any, name: str) -> bool:
    """Whether an open file can be opened again by its name."""
    try:
        return stat.S_ISREG(os.stat(name).st_mode) and os.path.samestat(os.fstat(stream.fileno()), os.stat(name))
    except (OSError, ValueError):
        return False


def _parts(stream: Any, name: str) -> Iterator[Part]:
    start, size = 0, os.fstat(stream.fileno()).st_size
    while start < size:
        stream.seek(start + PART_CHUNKS * CHUNK_BYTES)
        stream.readline()
        end = min(stream.tell(), size)
        yield Part(name, start, end)
        start = end


def _line_chunks(first: bytes, stream: Any, whole: bool) -> Iterator[list[bytes]]:
    def more() -> list[bytes]:
        if whole:
            return stream.readlines(CHUNK_BYTES)  # type: ignore[no-any-return]
        data = stream.read1(CHUNK_BYTES)
        return io.BytesIO(data if data.endswith(b"\n") else data + stream.readline()).readlines()

    lines = [first.removeprefix(codecs.BOM_UTF8), *more()] if first else []
    while lines:
        yield lines
        lines = more()


def _array(stream: Any, name: str) -> Iterator[list[bytes]]:
    """The elements of a JSON array, cut out of it one after the other."""
    text = codecs.getreader("utf-8-sig")(stream)
    scan = json.JSONDecoder(parse_int=len, parse_float=len).raw_decode

    def read(size: int) -> str:
        try:
            return text.read(size)
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{name} is not UTF-8 text from element {first + len(elements)} on, or a few on"
            ) from error

    first, size, comma = 1, 0, False
    elements: list[bytes] = []
    buffer, at = read(CHUNK_BYTES).lstrip(), 1
    if buffer[:1] != "[":
        raise CorpusError(f"{name} is not a JSON array")
    while True:
        at = _BLANKS.match(buffer, at).end()  # type: ignore[union-attr]
        char = buffer[at : at + 1]
        place = f"{name}, element {first + len(elements)}"
        complete = bool(char)
        if char == "]" and (comma or place.endswith(" 1")):
            break
        if comma and char:
            if char != ",":
                raise CorpusError(f"{place}: a comma or ] is missing before {char!r}")
            at, comma = at + 1, False
            continue
        if char:
            try:
                end = scan(buffer, at)[1]
            except RecursionError as error:
                raise CorpusError(f"{place} is nested too deeply") from error
            except json.JSONDecodeError as error:
                # An element that goes on behind the buffer looks wrong at its end, or as a string that has none.
                complete = error.pos < len(buffer) - 16 and not error.msg.startswith("Unterminated")
                if complete:
                    raise CorpusError(
                        f"{place} is not JSON, and those behind it can't be found: {error.msg}"
                    ) from error
        if not complete:
            added = read(max(CHUNK_BYTES, len(buffer) - at))
            if not added:
                raise CorpusError(f"{place} is cut off: the array has no end")
            buffer, at = buffer[at:] + added, 0
            continue
        # Between the parts of an element lines may end; within its strings they do not.
        elements.append(buffer[at:end].replace("\n", "").replace("\r", "").encode("utf-8", "surrogatepass"))
        size += end - at
        at, comma = end, True
        if size >= CHUNK_BYTES:
            yield elements
            first, elements, size = first + len(elements), [], 0
    if elements:
        yield elements


_BLANKS = re.compile(r"[ \t\r\n]*")


def _parquet(stream: Any, name: str) -> Iterator[Any]:
    pa = arrow()
    parquet = arrow("pyarrow.parquet")
    try:
        yield from _batches(parquet.ParquetFile(_seekable(stream)).iter_batches(batch_size=CHUNK_ROWS))
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{name} is no Parquet file that can be read: {_first_line(error)}") from error


def _arrow_rows(stream: Any, name: str, *, stream_format: bool) -> Iterator[Any]:
    pa = arrow()
    ipc = arrow("pyarrow.ipc")
    try:
        if stream_format:
            yield from _batches(iter(ipc.open_stream(stream)))
        else:
            file = ipc.open_file(_seekable(stream))
            yield from _batches(file.get_batch(number) for number in range(file.num_record_batches))
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{name} is no Arrow file that can be read: {_first_line(error)}") from error


def _seekable(stream: Any) -> Any:
    return stream if stream.seekable() else io.BytesIO(stream.read())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _batches(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        for start in range(0, batch.num_rows, CHUNK_ROWS):
            yield batch.slice(start, CHUNK_ROWS)


# --------------------------------------------------------------------------------------------------------- to a file


class Output:
    """A file that comes to be. What is written lies in `PATH.part` until `finish`, and can be gone on with."""

    def __init__(self, path: Path, work: Work, same: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        self.rows = 0  # of the input, that were dealt with
        self.well = True
        self._work = work
        self._same = same
        self._part = path.with_name(path.name + ".part")
        self._state = path.with_name(path.name + ".part.json")
        if self._part.exists() and not resume:
            raise CorpusError(f"{self._part} is left of a run that did not end: --resume goes on with it; or remove it")
        self._file = open(self._part, "r+b" if resume and self._state.exists() else "wb")  # noqa: SIM115 - until closed
        if resume and self._state.exists():
            self._go_on()

    def _go_on(self) -> None:
        state = json.loads(self._state.read_bytes())
        if state["same"] != self._same:
            self._file.close()
            other = [name for name, value in self._same.items() if state["same"].get(name) != value]
            raise CorpusError(f"{self._part} comes of a run with another {', '.join(other)}; it can't be gone on with")
        self.rows, self.well = state["rows"], state["well"]
        self._file.truncate(state["bytes"])
        self._file.seek(0, os.SEEK_END)
        if state["columns"] is not None:
            self._work.columns = arrow("pyarrow.ipc").read_schema(arrow().py_buffer(bytes.fromhex(state["columns"])))

    def write(self, done: Done) -> None:
        """Write what became of a chunk, and that it is written."""
        columns = self._work.columns
        if columns is not None and self._file.tell() == 0:
            self._file.write(bytes(columns.serialize()))
        self._file.write(done.data)
        self._file.flush()
        self.rows += done.rows
        self.well = self.well and done.well
        described = None if columns is None else bytes(columns.serialize()).hex()
        state = {"rows": self.rows, "bytes": self._file.tell(), "well": self.well, "columns": described}
        new = self._state.with_name(self._state.name + ".new")
        new.write_text(json.dumps({**state, "same": self._same}), encoding="utf-8")
        new.replace(self._state)

    def finish(self) -> None:
        """The last row is written: the file gets its name."""
        if self._work.table:
            self._to_table()
        else:
            self._file.close()
            self._part.replace(self.path)
        self._remove()

    def _remove(self) -> None:
        self._part.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def _to_table(self) -> None:
        ipc = arrow("pyarrow.ipc")
        if self._work.columns is None:
            self._work.columns = schema(self._work.prefix)
            self._file.write(bytes(self._work.columns.serialize()))
        self._file.close()
        new = self.path.with_name(self.path.name + ".new")
        parquet = _TABLES[self.path.suffix] == "parquet"
        with open(self._part, "rb") as part, open(new, "wb") as file:
            reader = ipc.open_stream(part)
            make = arrow("pyarrow.parquet").ParquetWriter if parquet else ipc.new_file
            with make(file, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
        new.replace(self.path)

    def close(self) -> str:
        """The run ends early: what can be done about it."""
        self._file.close()
        if self.rows:
            return f"{self.rows:,} rows are in {self._part}; --resume goes on from there"
        self._remove()
        return "nothing was written"


# --------------------------------------------------------------------------------------------------------- and a run


def parse_corpus(
    corpus: Corpus,
    work: Work,
    write: Callable[[bytes], object],
    say: Callable[[str], object],
    *,
    jobs: int = 1,
    output: Path | None = None,
    resume: bool = False,
) -> bool:
    """Read a corpus and write what was found, in order; whether all of it is well.

    `write` gets the bytes of JSON lines where there is no `output`; `say` gets what people should know. Memory stays
    the same however long the corpus is. Raises CorpusError where reading stops.
    """
    _keep_memory()
    work.name = corpus.name
    if corpus.note:
        say(corpus.note)
    target = None
    if output is not None:
        suffix = output.suffix
        work.packed = suffix if suffix in (".gz", ".zst") else ""
        kind = Path(output.name.removesuffix(work.packed)).suffix
        work.table = kind in _TABLES and not work.packed
        if not work.table and kind not in (".jsonl", ".ndjson"):
            raise CorpusError(f"{output}: an output is called .jsonl, .jsonl.gz, .jsonl.zst, .parquet or .arrow")
        same = {"input": corpus.name, "field": work.field, "prefix": work.prefix, "prompt": work.prompt}
        same["source"] = repr(work.parser)
        target = Output(output, work, same, resume=resume)
    elif resume:
        raise CorpusError("--resume goes on with an --output, and there is none")
    skipped = 0
    before = target.rows if target else 0
    well = True

    def at(place: int, said: str) -> str:
        return f"{corpus.name}, {corpus.unit or 'line'} {before + 1 + place} {said}"

    try:
        for done in _results(_behind(corpus.chunks(), before), work, jobs):
            for wrong in done.skipped[: max(0, SKIPPED_SHOWN - skipped)]:
                say(at(*wrong))
            skipped += len(done.skipped)
            well = well and done.well
            if target is None:
                write(done.data)
            if done.stop is not None:
                raise CorpusError(at(*done.stop))
            before += done.rows
            if target is not None:
                target.write(done)
        if target is not None:
            target.finish()
            well = target.well
    except BaseException as error:
        if target is not None:
            left = target.close()
            if isinstance(error, CorpusError):
                raise CorpusError(f"{error}; {left}") from error
            say(f"stopped: {left}")
        raise
    if skipped:
        say(f"{skipped:,} rows were left out" + (", the first of them named above" if skipped > SKIPPED_SHOWN else ""))
    return well


def _keep_memory() -> None:
    """Have C's allocator keep what a chunk gives back for the next one.

    glibc hands large blocks back to the system until it has seen one that is larger given back; to be given fresh pages
    for every chunk takes a seventh of the time.
    """
    bytes(30 * CHUNK_BYTES)


def _behind(chunks: Iterator[Any], rows: int) -> Iterator[Any]:
    """The rows behind the first so many."""
    for chunk in chunks:
        if rows:
            found: Any = chunk.read() if isinstance(chunk, Part) else chunk
            chunk = found.slice(rows) if hasattr(found, "schema") else found[rows:]
            rows = max(0, rows - len(found))
            if not len(chunk):
                continue
        yield chunk


def _results(chunks: Iterator[Any], work: Work, jobs: int) -> Iterator[Done]:
    """What becomes of each chunk, in order; by several processes, with two chunks each under way."""
    here = islice(chunks, int(work.table)) if jobs > 1 else chunks  # the first chunk says a table's columns
    yield from map(work.read, here)
    if jobs <= 1:
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    waiting: deque[Future[tuple[Done, str]]] = deque()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="toolparse-") as folder:
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_hold, initargs=(work, folder))
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_read, chunk))
                if len(waiting) >= 2 * jobs:
                    yield _fetched(*waiting.popleft().result())
            while waiting:
                yield _fetched(*waiting.popleft().result())
        except BrokenProcessPool as error:
            raise CorpusError("a process was ended from outside, perhaps for want of memory") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_held: tuple[Work, str] | None = None


def _hold(work: Work, folder: str) -> None:
    global _held
    _held = work, folder
    _keep_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that writes is told, and ends these


def _read(chunk: Any) -> tuple[Done, str]:
    """What became of a chunk, its bytes in a file: through a pipe they cost several times as much."""
    assert _held is not None
    work, folder = _held
    done = work.read(chunk)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(done.data)
    return done._replace(data=b""), file.name


def _fetched(done: Done, path: str) -> Done:
    data = Path(path).read_bytes()
    os.unlink(path)
    return done._replace(data=data)
