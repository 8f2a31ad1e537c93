"""Corpora: columns of tables, and files that `toolparse parse` reads and writes."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import toolparse
from tests.conftest import ROOT
from tests.test_batch import ODD
from toolparse.cli import BAD_INPUT, INTERRUPTED, NOT_FOUND, OK, cli
from toolparse.corpora import Batch, files, schema
from toolparse.corpora.rows import COLUMNS, columns_of

CALL = '<tool_call>\n{"name": "ping", "arguments": {"n": %s}}\n</tool_call>'
BROKEN = "<tool_call>\n{nothing}\n</tool_call>"


def needs(library: str) -> Any:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    return importlib.import_module(library)


@pytest.fixture
def pa() -> Any:
    needs("pyarrow")
    needs("pyarrow.parquet")
    return importlib.import_module("pyarrow")


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["parse", "qwen", *map(str, arguments)], input=stdin)


def program(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "toolparse", "parse", "qwen", *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def records(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"id": f"r{number}", "completion": f"Łódź {number}\n" + CALL % number, "meta": {"turn": [number, None]}}
        for number in range(count)
    ]


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read_lines(data: bytes | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


# ------------------------------------------------------------------------------------------------ one after the other


def test_parse_iter_holds_nothing() -> None:
    """A completion is read when its message is asked for, and not before."""
    taken: list[int] = []

    def completions() -> Iterator[str]:
        for number in range(5):
            taken.append(number)
            yield CALL % number

    parser = toolparse.parser_for("qwen")
    messages = parser.parse_iter(completions())
    assert taken == []
    assert next(messages).tool_calls[0].arguments == {"n": 0}
    assert taken == [0]
    assert list(parser.parse_iter(ODD, prompts=[None] * len(ODD))) == parser.parse_batch(ODD)
    with pytest.raises(ValueError, match="shorter"):
        list(parser.parse_iter(ODD, prompts=["<think>"]))


def test_rows_are_flat_and_of_one_type(pa: Any) -> None:
    messages = toolparse.parser_for("qwen").parse_batch(ODD)
    rows = [message.to_row() for message in messages]
    assert {tuple(row) for row in rows} == {COLUMNS}
    for row, message in zip(rows, messages, strict=True):
        assert row["ok"] == all(call.ok for call in message.tool_calls)
        assert row["codes"] == [issue.code for issue in message.issues]
        assert [call["name"] for call in row["calls"]] == [call.name for call in message.tool_calls]
        assert all(isinstance(json.loads(call["arguments"], parse_int=str), dict) for call in row["calls"])
    assert columns_of(messages).schema == schema()
    with_surrogates = [row for row in rows if re.search("[\ud800-\udfff]", row["content"])]
    assert with_surrogates
    assert columns_of(messages).column("content").to_pylist()[2].strip() == "content with � alone"


# --------------------------------------------------------------------------------------------------------- in tables


def test_arrow_tables_keep_their_columns(pa: Any) -> None:
    rows = [*records(3), {"id": "none", "completion": None, "meta": None}]
    given = pa.Table.from_pylist(rows)
    transform = pickle.loads(pickle.dumps(toolparse.batch("qwen", field="completion")))
    table = transform(given)
    assert table.schema == pa.schema([*given.schema, *schema()])
    assert table.column("calls").to_pylist()[:2] == [
        [{"name": "ping", "arguments": f'{{"n":{n}}}', "id": None, "ok": True}] for n in range(2)
    ]
    assert [table.column(name).to_pylist()[-1] for name in COLUMNS] == [None] * len(COLUMNS)
    assert transform(given.to_batches()[0]).to_pylist() == table.to_pylist()
    assert transform(given.slice(0, 0)).schema == table.schema
    with pytest.raises(ValueError, match="'calls'"):
        transform(table)
    assert toolparse.batch("qwen", field="completion", prefix="new_")(table).column("new_calls") == table.column(
        "calls"
    )
    with pytest.raises(TypeError, match="batched=True"):
        transform("text")


def test_structs_prompts_and_tools(pa: Any) -> None:
    table = pa.table(
        {
            "choice": [[{"message": {"content": "hm\n</think>\n\n" + CALL % 1}}], []],
            "asked": ["<think>\n", None],
        }
    )
    tools = [{"type": "function", "function": {"name": "pong", "parameters": {"type": "object", "properties": {}}}}]
    transform = toolparse.batch("qwen", field="choice.0.message.content", prompt="asked", tools=tools)
    first, second = transform(table).to_pylist()
    assert (first["reasoning"], first["codes"], first["ok"]) == ("hm", ["unknown-tool"], False)
    assert second["ok"] is None


def test_dicts_of_columns(pa: Any) -> None:
    columns = toolparse.batch("qwen")({"text": [CALL % 1, "Hi."], "id": [1, 2]})
    assert (columns["id"], columns["ok"]) == ([1, 2], [True, True])
    assert [len(calls) for calls in columns["calls"]] == [1, 0]


def test_datasets(tmp_path: Path, pa: Any) -> None:
    """Types hold though the first batches have no call, in one process and in two; the function has a fingerprint."""
    datasets = needs("datasets")
    from datasets.fingerprint import Hasher

    rows = [{"id": number, "text": "Hi." if number < 50 else CALL % number} for number in range(100)]
    dataset = datasets.Dataset.from_list(rows)
    transform = toolparse.batch("qwen")
    assert Hasher.hash(transform) == Hasher.hash(toolparse.batch("qwen"))
    for processes in (None, 2):
        found = dataset.map(transform, batched=True, batch_size=10, num_proc=processes)
        assert found.data.schema.remove_metadata() == pa.schema([*dataset.data.schema, *schema()]).remove_metadata()
        assert found[99]["calls"] == [{"name": "ping", "arguments": '{"n":99}', "id": None, "ok": True}]
    assert found.select_columns(["id", "ok"])[7] == {"id": 7, "ok": True}


def test_polars(pa: Any) -> None:
    polars = needs("polars")
    frame = polars.DataFrame({"id": [1, 2, 3], "text": [CALL % 1, BROKEN, None]})
    transform = toolparse.batch("qwen")
    found = transform(frame)
    assert found.columns == ["id", "text", *COLUMNS]
    assert found["ok"].to_list() == [True, False, None]
    assert found.schema["codes"] == polars.List(polars.String)
    lazy = frame.lazy().map_batches(transform, schema=transform(frame.clear()).schema)
    assert lazy.filter(polars.col("ok")).select("id").collect()["id"].to_list() == [1]
    structs = frame.select(polars.col("text").map_batches(transform).alias("message")).unnest("message")
    assert structs.columns == list(COLUMNS)
    assert structs["calls"].to_list() == found["calls"].to_list()


_RAY = """
import os, signal, sys, time
from pathlib import Path
import pyarrow as pa
import ray
import toolparse
from toolparse.corpora import Batch

folder = Path(sys.argv[1])

class Counted(Batch):
    '''Notes what it reads, and lets a worker be killed in the middle.'''

    def __call__(self, batch):
        found = super().__call__(batch)
        first = batch.column("id")[0].as_py()
        (folder / f"{os.getpid()}-{first}-{time.time_ns()}").touch()
        if first == 120 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return found

if __name__ == "__main__":
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, _temp_dir=None)
    ray.data.DataContext.get_current().enable_progress_bars = False
    texts = ['<tool_call>\\n{"name": "ping", "arguments": {"n": %d}}\\n</tool_call>' % n for n in range(400)]
    table = pa.table({"id": list(range(400)), "completion": texts})
    found = ray.data.from_arrow(table).repartition(20).map_batches(
        Counted,
        fn_constructor_args=("qwen",),
        fn_constructor_kwargs={"field": "completion"},
        batch_format="pyarrow",
        batch_size=20,
        concurrency=2,
    )
    rows = sorted(found.take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(400)), len(rows)
    assert [row["calls"][0]["arguments"] for row in rows] == ['{"n":%d}' % n for n in range(400)]
    assert all(row["ok"] for row in rows)
    print("workers", len({path.name.split("-")[0] for path in folder.glob("*-*")}), (folder / "killed").exists())
"""


@pytest.mark.slow
def test_ray_data_with_a_worker_killed(tmp_path: Path, pa: Any) -> None:
    """Two actors hold a parser each; one is killed in the middle, another is made, and every row is there once."""
    needs("ray")
    script = tmp_path / "corpus.py"
    script.write_text(_RAY, encoding="utf-8")
    seen = tmp_path / "seen"
    seen.mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(script), str(seen)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "workers 3 True" in done.stdout  # two, and one in the place of the one that was killed


# ---------------------------------------------------------------------------------------------------------- in files


def written(kind: str, rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / f"rows.{kind}"
    if kind.startswith("jsonl"):
        data = json_lines(rows)
        if kind.endswith(".gz"):
            data = gzip.compress(data[:1000]) + gzip.compress(data[1000:])
        if kind.endswith(".zst"):
            zstandard = needs("zstandard")
            data = zstandard.compress(data[:1000]) + zstandard.compress(data[1000:])
        path.write_bytes(data)
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    else:
        pa = importlib.import_module("pyarrow")
        table = pa.Table.from_pylist(rows)
        if kind == "parquet":
            importlib.import_module("pyarrow.parquet").write_table(table, path)
        else:
            make = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
            with make(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=7)
    return path


def read_back(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return importlib.import_module("pyarrow.parquet").read_table(path).to_pylist()
    if path.suffix == ".arrow":
        return importlib.import_module("pyarrow").ipc.open_file(path).read_all().to_pylist()
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if path.suffix == ".zst":
        data = needs("zstandard").ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return read_lines(data)


INPUTS = ["jsonl", "jsonl.gz", "jsonl.zst", "json", "parquet", "arrow", "arrows"]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_BYTES", 700)
    monkeypatch.setattr(files, "PART_CHUNKS", 1)
    monkeypatch.setattr(files, "CHUNK_ROWS", 7)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("out", ["stdin", "stdout", "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "arrow"])
def test_every_input_to_every_output(kind: str, out: str, tmp_path: Path, pa: Any) -> None:
    if out.endswith(".zst"):
        needs("zstandard")
    rows = records()
    path = written(kind, rows, tmp_path)
    kept = [{"id": row["id"], "meta": row["meta"]} for row in rows]
    arguments = [json.dumps({"n": number}, separators=(",", ":")) for number in range(len(rows))]
    if out in ("stdin", "stdout"):
        given = {"stdin": path.read_bytes()} if out == "stdin" and kind != "json" else {}
        result = run("-" if given else path, **given)
        assert (result.exit_code, result.stderr) == (OK, "")
        found = read_lines(result.stdout)
    else:
        target = tmp_path / f"found.{out}"
        result = run(path, "--output", target)
        assert (result.exit_code, result.stdout, result.stderr) == (OK, "", "")
        assert sorted(tmp_path.iterdir()) == sorted([path, target])
        found = read_back(target)
    assert [{"id": row["id"], "meta": row["meta"]} for row in found] == kept
    if out in ("parquet", "arrow"):
        assert [row["calls"][0]["arguments"] for row in found] == arguments
        assert set(found[0]) == {"id", "meta", *COLUMNS}
    else:
        assert [row["tool_calls"][0]["function"]["arguments"] for row in found] == [json.loads(a) for a in arguments]
        assert set(found[0]) == {"id", "meta", "role", "content", "tool_calls"}


def test_other_columns_are_copied_as_they_are_written() -> None:
    """No number is rounded, no integer too long, no key moved."""
    line = b'{"a": 1.10, "n": %s, "text": "Hi.", "role": "assistant", "z": {"b": [1e400 ,null]}}' % (b"9" * 5000)
    found = run(stdin=line).stdout
    assert found.startswith('{"a":1.10,"n":' + "9" * 5000 + ',"z":{"b": [1e400 ,null]},"role":"assistant"')


def test_columns_with_the_names_of_what_is_written(tmp_path: Path, pa: Any) -> None:
    line = json.dumps({"text": "Hi.", "content": "mine", "ok": 1}).encode()
    result = run(stdin=line)
    assert result.exit_code == BAD_INPUT
    assert "has a column content" in result.stderr
    assert "--prefix NAME_" in result.stderr
    (row,) = read_lines(run("--prefix", "read_", stdin=line).stdout)
    assert row == {"content": "mine", "ok": 1, "read_role": "assistant", "read_content": "Hi."}
    assert run("--prefix", "read_", "--output", tmp_path / "a.parquet", stdin=line).exit_code == OK
    (row,) = read_back(tmp_path / "a.parquet")
    assert {"content": "mine", "ok": 1, "read_content": "Hi.", "read_ok": True}.items() <= row.items()
    assert "has a column content, ok" in run("--output", tmp_path / "b.parquet", stdin=line).stderr


@pytest.mark.parametrize("field", ["choices.0.message.content", "choices.-1.message.content"])
def test_fields_with_dots(field: str, tmp_path: Path, pa: Any) -> None:
    record = {"id": 1, "choices": [{"message": {"content": CALL % 1}}]}
    (row,) = read_lines(run("--field", field, stdin=json.dumps(record).encode()).stdout)
    assert row["tool_calls"]
    assert row["choices"] == record["choices"]
    path = written("parquet", [record], tmp_path)
    (row,) = read_lines(run(path, "--field", field).stdout)
    assert row["tool_calls"]
    (row,) = read_lines(run("--field", "a.b", stdin=json.dumps({"a.b": "Hi.", "a": {"b": "no"}}).encode()).stdout)
    assert row["content"] == "Hi."


BAD = {
    b"{nope}": "is not JSON",
    b"5": "is neither a text nor an object",
    b'{"text": 5}': "holds no text",
    b'{"text": [1]}': "holds no text",
    b'{"text": "caf\xe9"}': "is not UTF-8 text",
    b'{"text": "a", "other": "caf\xe9"}': "is not UTF-8 text",
    b'{"text": "a", "prompt": 5}': "a prompt that is neither",
    b'{"text": "a", "tools": "x"}': "tools",
    b'{"text": "a", "tools": [{"name": 3}]}': "tools that can't be used",
    b'{"text": "a", "role": "user"}': "has a column role",
}


@pytest.mark.parametrize("line", BAD)
@pytest.mark.parametrize("errors", ["stop", "skip"])
def test_rows_that_cannot_be_used(line: bytes, errors: str) -> None:
    result = run(
        "--lines", "--errors", errors, stdin=b'{"id": 1, "text": "a"}\n\n' + line + b'\n{"id": 4, "text": "b"}'
    )
    assert result.exit_code == (BAD_INPUT if errors == "stop" else NOT_FOUND)
    assert [row["id"] for row in read_lines(result.stdout)] == ([1] if errors == "stop" else [1, 4])
    first, *rest = result.stderr.splitlines()
    assert "stdin>, line 3 " in first
    assert BAD[line] in first
    assert rest == ([] if errors == "stop" else ["1 rows were left out"])


@pytest.mark.parametrize("kind", ["parquet", "arrow", "json"])
def test_tables_with_rows_that_cannot_be_used(kind: str, tmp_path: Path, pa: Any) -> None:
    path = written(kind, [{"id": 1, "text": "a"}, {"id": 2, "text": None}, {"id": 3, "text": "c"}], tmp_path)
    stopped = run(path)
    assert (stopped.exit_code, [row["id"] for row in read_lines(stopped.stdout)]) == (BAD_INPUT, [1])
    assert " 2 holds no text" in stopped.stderr
    skipped = run(path, "--errors", "skip", "--output", tmp_path / "found.parquet")
    assert skipped.exit_code == NOT_FOUND
    assert [row["id"] for row in read_back(tmp_path / "found.parquet")] == [1, 3]


def test_what_a_person_reads_of_bad_files(tmp_path: Path) -> None:
    """What the file is, what it holds instead, and nothing of Python's."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": 1, "answer": "a"}\n')
    told = run(path, "--lines").stderr
    assert "line 1 holds no text in text, output, completion, response, content, but has id, answer; --field" in told
    told = run(path, "--field", "a.b", "--on-error", "skip").stderr
    assert "line 1 holds no text in a.b, but has id, answer\n" in told
    path.write_bytes(b'{"text": "a", }\n')
    assert "line 1 is not JSON: Illegal trailing comma before end of object at character" in run(path).stderr or (
        "line 1 is not JSON: Expecting property name enclosed in double quotes at character" in run(path).stderr
    )
    for name in ("zeros.parquet", "zeros.arrow", "rows.jsonl.gz", "rows.jsonl.zst"):
        (tmp_path / name).write_bytes(b"\0" * 50)
        result = run(tmp_path / name)
        assert (result.exit_code, result.stdout) == (BAD_INPUT, "")
        assert "is not what its name says" in result.stderr
        assert run(tmp_path / name, "--whole").exit_code == OK
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 au lait")
    result = run(latin)
    assert (result.exit_code, read_lines(result.stdout)[0]["content"]) == (OK, "caf\ufffd au lait")
    assert "latin.txt is not UTF-8 text: invalid continuation byte at byte 3" in result.stderr


def test_of_many_bad_rows_the_first_are_named() -> None:
    result = run("--lines", "--errors", "skip", stdin=b"{\n" * 1000)
    assert len(result.stderr.splitlines()) == files.SKIPPED_SHOWN + 1
    assert "1,000 rows were left out" in result.stderr


DAMAGED = {
    "cut.jsonl.gz": (gzip.compress(json_lines(records()))[:-30], "cut off or damaged"),
    "cut.json": (json.dumps(records()).encode()[:-30], "cut off"),
    "comma.json": (b'[{"text": "a"} {"text": "b"}]', "a comma or ] is missing"),
    "wrong.json": (b'[{"text": "a"}, {"text" "b"}, {"text": "' + b"c" * 5000 + b'"}]', "element 2 is not JSON"),
    "latin.json": (b'[{"text": "caf\xe9"}]', "not UTF-8"),
    "cut.parquet": (b"PAR1" + b"\0" * 50, "no Parquet file"),
    "cut.arrow": (b"ARROW1\0\0" + b"\0" * 50, "no Arrow file"),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("errors", ["stop", "skip"])
def test_damaged_files(name: str, errors: str, tmp_path: Path, pa: Any) -> None:
    data, told = DAMAGED[name]
    (tmp_path / name).write_bytes(data)
    result = run(tmp_path / name, "--errors", errors, "--output", tmp_path / "found.jsonl")
    assert result.exit_code == BAD_INPUT, result.output
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "found.jsonl").exists()


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("cut", [1, 30])
def test_damaged_zstandard(frames: int, cut: int, tmp_path: Path) -> None:
    zstandard = needs("zstandard")
    path = tmp_path / "cut.jsonl.zst"
    path.write_bytes((zstandard.compress(json_lines(records())) * frames)[:-cut])
    result = run(path)
    assert result.exit_code == BAD_INPUT
    assert "cut off or damaged" in result.stderr


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]", b" [ ] "])
def test_nothing_to_read(data: bytes, tmp_path: Path, pa: Any) -> None:
    path = tmp_path / ("a.json" if b"[" in data else "a.jsonl")
    path.write_bytes(data)
    assert run(path, "--output", tmp_path / "found.parquet").exit_code == OK
    assert importlib.import_module("pyarrow.parquet").read_schema(tmp_path / "found.parquet") == schema()


def test_a_byte_order_mark() -> None:
    for data in (b'{"text": "a"}\n"b"', b"\n" + b'"a"\n"b"'):
        result = run("--lines", stdin=b"\xef\xbb\xbf" + data)
        assert [row["content"] for row in read_lines(result.stdout)] == ["a", "b"]
    assert read_lines(run("--array", stdin=b'\xef\xbb\xbf["a"]').stdout)[0]["content"] == "a"


def test_columns_of_a_table_are_those_of_its_first_rows(tmp_path: Path, pa: Any, small_chunks: None) -> None:
    rows = [*records(), {"id": "x", "completion": "Hi.", "new": 1}]
    result = run(written("jsonl", rows, tmp_path), "--output", tmp_path / "found.parquet")
    assert result.exit_code == BAD_INPUT
    assert "line 41 or one of the next has a column new that the first rows don't have" in result.stderr
    rows = [*records(), {"id": 5, "completion": "Hi."}]
    result = run(written("jsonl", rows, tmp_path), "--output", tmp_path / "other.parquet")
    assert "line 41 or one of the next doesn't fit into a column" in result.stderr


def test_tools_of_rows(tmp_path: Path, pa: Any) -> None:
    """Rows may share their tools; a column of structs fills up with nulls, which are no part of a schema."""
    parameters = {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}
    tools = [{"type": "function", "function": {"name": "ping", "parameters": parameters}}]
    other = [{"type": "function", "function": {"name": "pong", "parameters": {"type": "object"}, "description": "x"}}]
    rows = [{"text": CALL % "1", "tools": tools}, {"text": CALL % '"a"', "tools": tools}, {"text": "", "tools": other}]
    for kind in ("jsonl", "parquet"):
        result = run(written(kind, rows, tmp_path))
        codes = [[issue["code"] for issue in row.get("issues", [])] for row in read_lines(result.stdout)]
        assert (result.exit_code, codes) == (NOT_FOUND, [["wrong-type"], [], []])


# ---------------------------------------------------------------------------------------- several processes, and again


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("out", ["jsonl", "jsonl.gz", "parquet"])
def test_two_processes_write_what_one_writes(out: str, tmp_path: Path, pa: Any) -> None:
    path = written("jsonl", [*records(), {"id": "x", "completion": BROKEN, "meta": None}], tmp_path)
    for jobs in (1, 2):
        result = run(path, "--jobs", jobs, "--output", tmp_path / f"{jobs}.{out}")
        assert (result.exit_code, result.stderr) == (NOT_FOUND, "")
    assert (tmp_path / f"1.{out}").read_bytes() == (tmp_path / f"2.{out}").read_bytes()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("out", ["jsonl", "jsonl.gz", "parquet", "arrow"])
def test_a_run_is_taken_up_where_it_ended(
    kind: str, out: str, tmp_path: Path, pa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written half is cut away, no row is read again, and the result is that of one run."""
    path = written(kind, records(), tmp_path)
    assert run(path, "--output", tmp_path / f"whole.{out}").exit_code == OK
    target, part = tmp_path / f"found.{out}", tmp_path / f"found.{out}.part"
    read, left = files.Work.read, [3]

    def until(work: files.Work, chunk: Any) -> files.Done:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return read(work, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(files.Work, "read", until)
        stopped = run(path, "--output", target)
    assert stopped.exit_code == INTERRUPTED
    assert re.search(r"stopped: \d+ rows are in .*part; --resume", stopped.stderr)
    assert not target.exists()
    with part.open("ab") as file:
        file.write(b"half a row that nobody will see")
    refused = run(path, "--output", target)
    assert refused.exit_code == BAD_INPUT
    assert "is left of a run that did not end" in refused.stderr
    other = run(path, "--output", target, "--resume", "--field", "id")
    assert "a run with another field" in other.stderr
    rows: list[int] = []

    def counted(work: files.Work, chunk: Any) -> files.Done:
        done = read(work, chunk)
        rows.append(done.rows)
        return done

    already = json.loads((tmp_path / f"found.{out}.part.json").read_bytes())["rows"]
    monkeypatch.setattr(files.Work, "read", counted)
    assert run(path, "--output", target, "--resume").exit_code == OK
    assert already > 0
    assert sum(rows) == 40 - already
    assert read_back(target) == read_back(tmp_path / f"whole.{out}")
    assert not part.exists()
    assert run(path, "--resume").exit_code == BAD_INPUT


def test_after_an_error_rows_can_be_skipped(tmp_path: Path, small_chunks: None) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json_lines(records()) + b"{nope}\n" + json_lines(records()))
    stopped = run(path, "--output", tmp_path / "found.jsonl")
    assert stopped.exit_code == BAD_INPUT
    assert "line 41 is not JSON" in stopped.stderr
    assert "--resume" in stopped.stderr
    again = run(path, "--output", tmp_path / "found.jsonl", "--resume", "--errors", "skip")
    assert again.exit_code == NOT_FOUND
    assert len(read_back(tmp_path / "found.jsonl")) == 80


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_and_kill_in_a_long_run(tmp_path: Path) -> None:
    """A terminal interrupts all processes at once; a killed run leaves what it had written. Both are taken up."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json_lines(records(2000)) * 60)
    target = tmp_path / "found.jsonl"
    state = tmp_path / "found.jsonl.part.json"
    for number, signal_number in enumerate((signal.SIGINT, signal.SIGKILL)):
        resume = ["--resume"] if number else []
        before = json.loads(state.read_bytes())["rows"] if number else 0
        running = program(path, "--output", target, "--jobs", 2, *resume, start_new_session=True)
        while running.poll() is None and not (state.exists() and json.loads(state.read_bytes())["rows"] > before):
            time.sleep(0.01)
        assert running.poll() is None
        os.killpg(running.pid, signal_number)
        _, told = running.communicate(timeout=60)
        assert b"Traceback" not in told
        assert running.returncode == (INTERRUPTED if signal_number == signal.SIGINT else -signal.SIGKILL)
        assert not target.exists()
    running = program(path, "--output", target, "--resume")
    running.communicate(timeout=120)
    assert running.returncode == OK
    found = [row["id"] for row in read_back(target)]
    assert found == [f"r{number}" for number in range(2000)] * 60


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
@pytest.mark.parametrize(
    "data", [b"", b"\n", b'"a"', b'"a"\n', b'\xef\xbb\xbf"a"\r\n\n"bcdefg"\n\n', b'"abcde"\n"f"\n' * 5]
)
def test_a_plain_file_is_handed_out_by_places(
    data: bytes, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts of a file hold each line once, and nothing of it but those parts is handed to who reads."""
    monkeypatch.setattr(files, "CHUNK_BYTES", size)
    monkeypatch.setattr(files, "PART_CHUNKS", 1)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(data)
    with path.open("rb") as file:
        chunks = list(files.open_corpus(file, str(path)).chunks())
    assert all(isinstance(chunk, files.Part) for chunk in chunks)
    lines = [line for chunk in chunks for line in chunk.read()]
    assert lines == io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")).readlines()
    with path.open("rb") as file:  # what can't be opened again by its name is read here
        assert [line for chunk in files.open_corpus(file, "<stdin>", "lines").chunks() for line in chunk] == lines


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The most that is held at once, for a corpus and for one that is eight times as long."""
    monkeypatch.setattr(files, "CHUNK_BYTES", 10_000)
    run(written("jsonl.gz", records(), tmp_path))  # what is made once
    peaks = []
    for times in (4, 32):
        path = tmp_path / f"{times}.jsonl.gz"
        path.write_bytes(gzip.compress(json_lines(records(100)) * times))
        tracemalloc.start()
        try:
            assert run(path, "--output", tmp_path / "found.jsonl").exit_code == OK
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    result = run("--output", tmp_path / "found.parquet", stdin=b'"a"')
    assert result.exit_code == BAD_INPUT
    assert "toolparse[data]" in result.stderr
    result = run("--lines", "--output", tmp_path / "found.jsonl.zst", stdin=b'"a"')
    assert result.exit_code == BAD_INPUT
    assert "toolparse[data]" in result.stderr
    assert "is called .jsonl" in run("--output", tmp_path / "found.csv", stdin=b'"a"').stderr
    with pytest.raises(ImportError, match=r"toolparse\[data\]"):
        Batch("qwen")({"text": ["a"]})
