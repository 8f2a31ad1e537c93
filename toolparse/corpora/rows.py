"""Messages as flat rows and typed columns, and the transformation that adds them to a table.

The columns: `content` and `reasoning` (texts, reasoning null where there is none), `calls` (a list of name, arguments
as JSON text, id, ok), `ok` (no call that may not be executed), `truncated`, and `codes` (of every issue, in the order
of the text). What needs pyarrow says so; the library itself does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from toolparse.api import parser_for
from toolparse.message import ParsedMessage
from toolparse.openai import arguments_text
from toolparse.parser import AnyParser

COLUMNS = ("content", "reasoning", "calls", "ok", "truncated", "codes")


def row_of(message: ParsedMessage) -> dict[str, Any]:
    """The message as a flat row, every value of one type in all rows."""
    calls = [
        {"name": call.name, "arguments": arguments_text(call.arguments), "id": call.id, "ok": call.ok}
        for call in message.tool_calls
    ]
    return {
        "content": message.content,
        "reasoning": message.reasoning,
        "calls": calls,
        "ok": all(call["ok"] for call in calls),
        "truncated": message.truncated,
        "codes": [issue.code for issue in message.issues],
    }


def arrow(module: str = "pyarrow") -> Any:
    """pyarrow, or a part of it. Raises ImportError, saying what to install."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"typed columns, Parquet and Arrow need pyarrow: pip install 'toolparse[data]' ({error})"
        ) from error


def schema(prefix: str = "") -> Any:
    """The Arrow schema of the columns, each name with `prefix` before it."""
    pa = arrow()
    call = pa.struct([("name", pa.string()), ("arguments", pa.string()), ("id", pa.string()), ("ok", pa.bool_())])
    types = (pa.string(), pa.string(), pa.list_(call), pa.bool_(), pa.bool_(), pa.list_(pa.string()))
    return pa.schema([(prefix + name, type) for name, type in zip(COLUMNS, types, strict=True)])


def columns_of(messages: Sequence[ParsedMessage | None], prefix: str = "") -> Any:
    """The typed columns of messages as an Arrow record batch; a row of nulls for None.

    Arrow's texts are UTF-8: a lone surrogate stands there as `�`.
    """
    pa = arrow()
    rows = [dict.fromkeys(COLUMNS) if message is None else row_of(message) for message in messages]
    try:
        batch = pa.RecordBatch.from_pylist(rows, schema=schema())
    except UnicodeEncodeError:
        batch = pa.RecordBatch.from_pylist(_encodable(rows), schema=schema())
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema(prefix))


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {key: _encodable(item) for key, item in value.items()}
    return [_encodable(item) for item in value] if isinstance(value, list) else value


def batch(source: Any, *, field: str = "text", prompt: str | None = None, prefix: str = "", **options: Any) -> Batch:
    """A transformation that reads the completions of a table and adds typed columns; see `Batch`."""
    return Batch(source, field=field, prompt=prompt, prefix=prefix, **options)


class Batch:
    """Reads the completions in a column and adds the columns of `schema(prefix)`: call it with a batch.

    What it takes, it gives back: a batch of `datasets.map(..., batched=True)`, which comes back as an Arrow table with
    all its columns (`remove_columns=` has no effect on tables: remove them afterwards), an Arrow table or record batch,
    a Polars frame, a dict of columns. A Polars series of completions gives a series of structs.
    It pickles, with its parser, and is a class that Ray can make once in each actor.

    `source`: what `parser_for` takes, or a parser; `options` are those of `parser_for`, `tools` among them. `field`:
    the column of texts or token ids, `a.b` for a field of a struct. `prompt`: the column of rendered prompts, if there
    is one. A null completion gives nulls. Raises ValueError where the new columns would replace others: `prefix`.
    """

    def __init__(
        self, source: Any, *, field: str = "text", prompt: str | None = None, prefix: str = "", **options: Any
    ) -> None:
        self.parser: AnyParser = parser_for(source, **options)
        self.field = field
        self.prompt = prompt
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"batch({self.parser!r}, field={self.field!r})"

    def __call__(self, batch: Any) -> Any:
        batch = getattr(batch, "pa_table", batch)  # of datasets: types that it would guess from values are known here
        kind = type(batch).__module__.partition(".")[0]
        if kind == "polars":
            return self._polars(batch)
        if kind == "pyarrow":
            return self._arrow(batch)
        if isinstance(batch, Mapping):
            self._check(batch)
            return {**batch, **self._columns(batch.__getitem__).to_pydict()}
        raise TypeError(
            f"a batch is an Arrow table, a Polars frame or a dict of columns, not a {type(batch).__name__}; "
            "datasets.map gives batches with batched=True"
        )

    def _messages(self, column: Callable[[str], Any]) -> list[ParsedMessage | None]:
        texts = column_values(column, self.field)
        prompts = column_values(column, self.prompt) if self.prompt is not None else [None] * len(texts)
        parse = self.parser.parse
        return [
            None if text is None else parse(text, prompt=prompt) for text, prompt in zip(texts, prompts, strict=True)
        ]

    def _columns(self, column: Callable[[str], Any]) -> Any:
        return columns_of(self._messages(column), self.prefix)

    def _arrow(self, batch: Any) -> Any:
        self._check(batch.schema.names)
        found = self._columns(batch.column)
        for name, column in zip(found.schema.names, found.columns, strict=True):
            batch = batch.append_column(name, column)
        return batch

    def _polars(self, batch: Any) -> Any:
        import polars

        if isinstance(batch, polars.Series):
            found: Any = polars.from_arrow(self._columns({self.field: batch}.__getitem__))
            return found.to_struct(batch.name)
        self._check(batch.columns)
        return batch.hstack(polars.from_arrow(self._columns(batch.get_column)))

    def _check(self, names: Iterable[str]) -> None:
        twice = sorted({self.prefix + name for name in COLUMNS} & set(names))
        if twice:
            raise ValueError(f"there already is a column {', '.join(map(repr, twice))}: give a prefix")


def column_values(column: Callable[[str], Any], field: str) -> list[Any]:
    """The values of a column, or of a field in its structs, as Python has them; `a.0.b` looks into lists, too."""
    name, *path = field.split(".")
    try:
        values = column(field)
        path = []
    except LookupError:
        values = column(name)
    values = values.to_pylist() if hasattr(values, "to_pylist") else values
    values = values.to_list() if hasattr(values, "to_list") else list(values)
    return [within(value, path) for value in values] if path else values


def within(value: Any, path: Iterable[str]) -> Any:
    """What lies in a value under names and positions, None where nothing does."""
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list | tuple) and part.lstrip("-").isdecimal() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value
