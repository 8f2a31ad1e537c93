"""The command line: what it prints, where it prints it, and its exit codes."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import fixtures
import toolparse
from tests.conftest import ROOT
from tests.test_sources import PLAIN, write
from toolparse.cli import BAD_INPUT, INTERRUPTED, LONG_INPUT, NOT_FOUND, OK, cli

CALL = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'


def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return write(tmp_path / "chat_template.jinja", fixtures.template("qwen3-coder"))


# ------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["inspect", "parse", "render", "families"])
def test_help_tells_exit_codes(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == OK
    told = " ".join(result.stdout.split())
    assert "Exit codes: 0 all is well; 1 nothing was found" in told
    assert "--json" in told


def test_wrong_usage() -> None:
    assert run("inspect").exit_code == BAD_INPUT
    assert run("guess", "qwen").exit_code == BAD_INPUT


# ---------------------------------------------------------------------------------------------------------- inspect


def test_inspect_template(template: Path) -> None:
    result = run("inspect", template)
    assert result.exit_code == OK, result.output
    assert "qwen3-coder" in result.stdout
    assert re.search(r"proof +proved on its template", result.stdout)
    assert "<function={{name}}>" in result.stdout
    result = run("inspect", template, "--json")
    assert result.exit_code == OK
    (found,) = lines(result)
    assert found["family"] == "qwen3-coder"
    assert found["verified"] is True
    assert found["evidence"]
    assert "{{name}}" in found["format"]["call"]


def test_inspect_folder_and_config(tmp_path: Path, template: Path) -> None:
    told = {"chat_template": fixtures.template("deepseek-v31"), "tokenizer_class": "PreTrainedTokenizerFast"}
    config = write(tmp_path / "model" / "tokenizer_config.json", json.dumps(told))
    for source in (config.parent, config):
        result = run("inspect", source, "--json")
        assert result.exit_code == OK, result.output
        assert lines(result)[0]["family"] == "deepseek-v31"
    named = [{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": template.read_text()}]
    write(config, json.dumps({"chat_template": named}))
    assert lines(run("inspect", config, "--json"))[0]["family"] == "qwen3-coder"
    write(config, "{}")
    write(config.with_name("chat_template.jinja"), template.read_text(encoding="utf-8"))
    assert lines(run("inspect", config, "--json"))[0]["family"] == "qwen3-coder"


def test_inspect_family_shows_its_declaration() -> None:
    result = run("inspect", "kimi_k2")
    assert result.exit_code == OK
    assert "kimi-k2" in result.stdout
    assert "functions.{{name}}:{{index}}" in result.stdout


def test_inspect_template_without_calls(tmp_path: Path) -> None:
    path = write(tmp_path / "plain.jinja", PLAIN)
    result = run("inspect", path, "--json")
    assert result.exit_code == NOT_FOUND
    (found,) = lines(result)
    assert found["family"] is None
    assert found["verified"] is False
    assert found["format"] is None
    assert "none found" in run("inspect", path).stdout
    result = run("parse", path, stdin="Hi.")
    assert result.exit_code == NOT_FOUND
    assert "no tool-call format fits" in result.stderr
    assert "register(" not in result.stderr
    result = run("doctor", path)
    assert result.exit_code == NOT_FOUND
    assert "No problems" not in result.output


def test_broken_template(tmp_path: Path) -> None:
    result = run("inspect", write(tmp_path / "broken.jinja", "{% for m in messages %}"))
    assert result.exit_code == NOT_FOUND
    assert "endfor" in result.output or "Unexpected end" in result.output


# ------------------------------------------------------------------------------------------------------------ parse


def test_parse_stdin() -> None:
    result = run("parse", "qwen", stdin=f"Hello.\n{CALL}")
    assert result.exit_code == OK, result.output
    (message,) = lines(result)
    assert message["content"] == "Hello."
    assert message["tool_calls"][0]["function"] == {"name": "ping", "arguments": {}}
    assert "issues" not in message


def test_parse_whole_file_keeps_every_line(tmp_path: Path) -> None:
    assert lines(run("parse", "qwen", write(tmp_path / "out.txt", '"a"\n"b"')))[0]["content"] == '"a"\n"b"'
    by_look = run("parse", "qwen", stdin='"a"\n"b"')
    assert [message["content"] for message in lines(by_look)] == ["a", "b"]
    assert len(lines(run("parse", "qwen", "--whole", stdin='"a"\n"b"'))) == 1


def test_parse_lines_with_their_own_tools_and_prompt(tmp_path: Path) -> None:
    rows = [
        {"text": "thought</think>Hi.", "prompt": "<think>"},
        {"text": CALL, "tools": fixtures.TOOLS},
        {"text": CALL.replace("ping", "pong"), "tools": fixtures.TOOLS},
        CALL,
    ]
    path = write(tmp_path / "outputs.jsonl", "\n\n".join(json.dumps(row) for row in rows) + "\n")
    result = run("parse", "qwen", path, "--json")
    assert result.exit_code == NOT_FOUND  # one call may not be executed
    messages = lines(result)
    assert [len(message.get("tool_calls", [])) for message in messages] == [0, 1, 1, 1]
    assert (messages[0]["reasoning_content"], messages[0]["content"]) == ("thought", "Hi.")
    assert ["issues" in message for message in messages] == [False, False, True, False]
    assert messages[2]["issues"][0]["code"] == "unknown-tool"


def test_parse_field_and_ids_of_a_record() -> None:
    row = json.dumps({"generated": CALL, "text": "not this"})
    assert lines(run("parse", "qwen", "--field", "generated", stdin=row))[0]["tool_calls"]
    assert not lines(run("parse", "qwen", "--lines", stdin=row))[0].get("tool_calls")


def test_parse_with_tools_file(tmp_path: Path) -> None:
    tools = write(tmp_path / "tools.json", json.dumps(fixtures.TOOLS))
    text = '<tool_call>\n{"name": "plan_trip", "arguments": {"city": 5}}\n</tool_call>'
    result = run("parse", "qwen", "--tools", tools, stdin=text)
    assert result.exit_code == NOT_FOUND
    assert lines(result)[0]["issues"][0]["code"] == "wrong-type"
    assert run("parse", "qwen", "--tools", write(tools, "3"), stdin=text).exit_code == BAD_INPUT


def test_parse_prompt_option() -> None:
    result = run("parse", "qwen", "--prompt", "<think>\n", stdin="hm\n</think>\n\nYes.")
    (message,) = lines(result)
    assert (message["reasoning_content"], message["content"]) == ("hm", "Yes.")


def test_parse_truncated() -> None:
    result = run("parse", "qwen", stdin=CALL[:40])
    assert result.exit_code == NOT_FOUND
    assert lines(result)[0]["truncated"] is True


def test_parse_bad_line_names_it(tmp_path: Path) -> None:
    path = write(tmp_path / "outputs.jsonl", '{"text": "a"}\n{"text": 5}\n')
    result = run("parse", "qwen", path)
    assert result.exit_code == BAD_INPUT
    assert "outputs.jsonl, line 2 holds no text" in result.stderr
    write(path, '{"text": "a"}\n{nope}\n')
    assert "line 2 is not JSON" in run("parse", "qwen", path).stderr


@pytest.mark.parametrize("data", [b"", b"\xff\xfe<tool_call>", b'"\\ud800 lone"', b"\x00\r\n\x1b[31m"])
def test_parse_any_bytes(data: bytes) -> None:
    result = run("parse", "qwen", stdin=data)
    assert result.exit_code in (OK, NOT_FOUND), result.output
    assert len(lines(result)) == 1


LONG = (json.dumps({"text": "x" * 10_000 + CALL}) + "\n") * (LONG_INPUT // 10_000 + 1)


def test_parse_long_input_shows_no_bar_to_programs(tmp_path: Path) -> None:
    result = run("parse", "hermes", write(tmp_path / "long.jsonl", LONG))
    assert result.exit_code == OK
    assert result.stderr == ""
    assert all(message["tool_calls"] for message in lines(result))


def test_parse_long_input_shows_a_bar_to_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is on stderr only; every message is on stdout all the same."""
    seen = io.StringIO()
    monkeypatch.setattr("toolparse.cli.err", Console(file=seen, force_terminal=True, width=80))
    result = run("parse", "hermes", write(tmp_path / "long.jsonl", LONG))
    assert len(lines(result)) == LONG.count("\n")
    assert "parsing" in seen.getvalue()
    assert "100 %" in seen.getvalue()


# ------------------------------------------------------------------------------------------- render, and back again


def test_render_is_the_inverse_of_parse() -> None:
    calls = [{"name": "plan_trip", "arguments": {"city": "Łódź"}}, {"name": "ping", "arguments": {}}]
    text = run("render", "qwen", stdin=json.dumps(calls)).stdout
    assert text == toolparse.parser_for("qwen").render(calls)
    again = run("parse", "qwen", stdin=text)
    assert [call["function"] for call in lines(again)[0]["tool_calls"]] == calls
    assert run("render", "qwen", stdin=again.stdout).stdout == text


def test_render_message_with_everything() -> None:
    message = {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "hm",
        "tool_calls": [{"type": "function", "function": {"name": "ping", "arguments": "{}"}}],
    }
    (rendered,) = lines(run("render", "qwen", "--json", stdin=json.dumps(message)))
    read = toolparse.parser_for("qwen").parse(rendered["text"])
    assert (read.content, read.reasoning) == ("Let me see.", "hm")
    assert [call.name for call in read.tool_calls] == ["ping"]


@pytest.mark.parametrize(
    "bad", ["{", "[1]", '{"name": 5}', '{"name": "f", "arguments": "{"}', '{"name": "f", "arguments": [1]}']
)
def test_render_bad_input(bad: str) -> None:
    result = run("render", "qwen", stdin=bad)
    assert result.exit_code == BAD_INPUT, result.output
    assert result.stdout == ""


def test_render_refuses_what_a_format_cant_carry() -> None:
    call = {"name": "write_file", "arguments": {"text": "a\n</parameter>\n</function>\n</tool_call>"}}
    result = run("render", "qwen3-coder", stdin=json.dumps(call))
    assert result.exit_code == NOT_FOUND
    assert "text" in result.stderr


# --------------------------------------------------------------------------------------------------------- families


def test_families_lists_all() -> None:
    listed = run("families", "--json")
    assert listed.exit_code == OK
    assert {entry["name"] for entry in json.loads(listed.stdout)} == set(toolparse.families())
    shown = run("families").stdout
    for name in toolparse.families():
        assert name in shown


def test_as_a_program() -> None:
    """Run as users run it: exit code, and a reader that goes away."""
    done = program("parse", "qwen", stdin=CALL)
    assert (done.returncode, done.stderr) == (OK, b"")
    assert json.loads(done.stdout)["tool_calls"]
    many = [sys.executable, "-m", "toolparse.cli", "parse", "hermes", "--lines"]
    with subprocess.Popen(many, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as one:
        one.stdout.close()
        try:
            one.stdin.write((json.dumps({"text": "x" * 1000}) + "\n").encode() * 2000)
            one.stdin.close()
        except BrokenPipeError:
            pass
        assert one.stderr.read() == b""
        assert one.wait(60) == OK


def test_doctor_reports_and_its_exit_code_says_so(template: Path) -> None:
    told = run("doctor", template)
    assert told.output.startswith("qwen3-coder (")
    report = json.loads(run("doctor", template, "--json").output)
    assert report["verified"] is True
    assert report["exit_code"] == told.exit_code


def test_induce_prints_a_format_that_python_reads() -> None:
    told = run("induce", ROOT / "fixtures" / "templates" / "hermes.jinja", "--name", "mine")
    assert told.exit_code == 0
    pasted: dict[str, Any] = {}
    exec(told.stdout, pasted)
    format = pasted["FORMAT"]
    assert format.name == "mine"
    assert '"name": {{name}}' in format.call
    assert "None" not in told.stdout  # what is as by default is not said
    assert run("induce", "hermes").exit_code == BAD_INPUT


def test_induce_of_what_is_not_proved_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolparse.templates.judging import doctor

    found = dataclasses.replace(toolparse.detect(fixtures.template("hermes"), use_registry=False), verified=False)
    monkeypatch.setattr(doctor, "climb", lambda _source, use_registry: found)
    result = run("induce", write(tmp_path / "a.jinja", fixtures.template("hermes")))
    assert result.exit_code == NOT_FOUND
    assert result.stdout.startswith("from toolparse import Format")
    assert result.stderr == "not verified: it doesn't read all of its own template back\n"


def test_inspect_doctor_and_induce_have_the_same_fields_and_words(template: Path) -> None:
    found = {command: lines(run(command, template, "--json"))[0] for command in ("inspect", "doctor", "induce")}
    shared = {"source", "family", "how", "verified", "evidence", "problems", "checks", "format", "flags", "prefill"}
    for report in found.values():
        assert shared <= set(report)
    for field in ("family", "how", "verified", "evidence", "problems", "checks"):
        assert found["inspect"][field] == found["doctor"][field]
    for command in ("inspect", "doctor"):
        said = run(command, template).stdout
        assert "proved on its template" in said
        for problem in found["inspect"]["problems"]:
            assert f"{problem['severity']}: {problem['message']}" in said


@pytest.mark.parametrize("command", ["inspect", "doctor", "induce", "parse", "render"])
def test_help_says_what_a_source_may_be(command: str) -> None:
    told = " ".join(run(command, "--help").stdout.split())
    for kind in (
        "SOURCE is a model folder",
        "Qwen/Qwen3-8B",
        ".jinja",
        "tokenizer_config.json",
        ".gguf",
        "`-`",
        "SmolLM3",
    ):
        assert kind in told


NAMELESS = "is a name, which has no template to {}; give a folder, a file or a hub id"


@pytest.mark.parametrize(
    ("arguments", "stdin", "told"),
    [
        (["doctor", "qwen"], "", f"Error: 'qwen' {NAMELESS.format('examine')}"),
        (["induce", "gpt-oss-20b"], "", f"Error: 'gpt-oss-20b' {NAMELESS.format('learn from')}"),
        (["inspect", "absent.jinja"], "", "Error: there is no file or folder absent.jinja"),
        (["inspect", "-"], " \n", "Error: <stdin> is empty: no chat template"),
        (["parse", "-"], "x", "Error: stdin can't be SOURCE and FILE at once: give one of them as a file"),
        (["inspect", "{{ messages }}"], "", "Error: SOURCE holds braces or newlines, so it is no name; `-` reads a template "
         "from stdin"),
        (["parse", "qwen", "absent.txt"], "", "Error: there is no file absent.txt"),
        (["render", "qwen", "tests"], "", "Error: tests is a folder, and FILE is one file"),
        (["render", "qwen"], "", "Error: <stdin> is empty: JSON belongs there"),
        (["parse", "qwen", "--tools", "absent.json"], "", "Error: No such file or directory: absent.json"),
        (["families", "quen"], "", "Error: no family is called 'quen'; did you mean 'qwen'?"),
        (["inspect", "gptoss-20b"], "", "Error: 'gptoss-20b' is neither a file nor a folder nor a name that is known; did you "
         "mean 'gpt-oss-20b' (harmony)? `toolparse families` lists the families"),
    ],
)  # fmt: skip
def test_what_a_person_reads(arguments: list[str], stdin: str, told: str) -> None:
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout, result.stderr) == (BAD_INPUT, "", told + "\n")


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_a_template_on_stdin(source: str) -> None:
    for command in ("inspect", "doctor", "induce"):
        assert program(command, source, stdin=fixtures.template("qwen3-coder")).returncode == OK
    done = program("parse", source, "-", stdin=fixtures.template("qwen3-coder"))
    assert done.returncode == BAD_INPUT


def test_the_list_of_commands_is_not_cut_off() -> None:
    shown = run("--help").stdout
    assert "..." not in shown.replace("[ARGS]...", "")
    assert re.search(r"inspect +Say which format SOURCE writes\.", shown)


def test_source_and_file_the_wrong_way_round(tmp_path: Path) -> None:
    for command in ("parse", "render"):
        result = run(command, write(tmp_path / "output.txt", CALL), "qwen")
        told = "Error: 'qwen' is a family's name, and stands where FILE belongs: SOURCE comes first\n"
        assert (result.exit_code, result.stderr) == (BAD_INPUT, told)


@pytest.mark.parametrize("command", [["inspect", "qwen"], ["families", "kimi-k2"], ["inspect", "-"]])
def test_a_pipe_gets_no_blanks_at_the_ends_of_lines(command: list[str]) -> None:
    shown = run(*command, stdin=fixtures.template("qwen3-coder")).stdout
    assert [line for line in shown.split("\n") if line != line.rstrip()] == []
    assert shown.count("\n\n\n") == 0


def test_a_listed_model_is_marked() -> None:
    for command, stdin in (("parse", "Hi."), ("render", "[]")):
        result = run(command, "gpt-oss-20b", stdin=stdin)
        assert (result.exit_code, result.stderr) == (NOT_FOUND, "not verified: harmony is a guess from the name\n")
    result = run("inspect", "gpt-oss-20b")
    assert result.exit_code == NOT_FOUND
    assert re.search(r"proof +not verified", result.stdout)
    assert "'gpt-oss-20b' is listed under 'harmony': no template was looked at" in result.stdout
    assert run("inspect", "gpt-oss").exit_code == OK


@pytest.mark.skipif(os.name != "posix", reason="interrupts are sent as POSIX signals")
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c() -> None:
    command = [sys.executable, "-m", "toolparse", "parse", "qwen", "--lines"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as run:
        run.stdin.write(b'"Hi."\n' * 500)  # less than the pipes hold
        run.stdin.flush()
        assert run.stdout.readline()  # it is at work
        run.send_signal(signal.SIGINT)
        run.stdout.read()
        assert run.wait(60) == INTERRUPTED
        assert "Traceback" not in run.stderr.read().decode()


# ---------------------------------------------------------------------------------------------------------- bad input


def program(*arguments: str | Path, stdin: str | bytes = b"", encoding: str = "utf-8", **more: Any) -> Any:
    """Run as a program, as the shell would: exit code, stdout and stderr in bytes."""
    command = [sys.executable, "-m", "toolparse", *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "COLUMNS": "80"}
    data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
    return subprocess.run(
        command, input=data, capture_output=True, cwd=ROOT, check=False, timeout=60, env=environment, **more
    )


def test_module_and_version() -> None:
    done = program("--version")
    assert done.returncode == OK
    assert done.stdout.decode().splitlines() == [
        f"toolparse {toolparse.__version__}",
        f"reader: {'compiled' if getattr(toolparse, 'COMPILED', False) else 'plain Python'}",
    ]


HUGE = "9" * 5_000
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (["parse", "qwen"], CALL.replace("{}", f'{{"n": {HUGE}}}'), OK),
        (
            ["parse", "qwen3-coder"],
            f"<tool_call>\n<function=f>\n<parameter=a>\n{HUGE}\n</parameter>\n</function>\n</tool_call>",
            OK,
        ),
        (["parse", "qwen", "--whole"], CALL.replace("{}", f'{{"n": {DEEP}'), NOT_FOUND),
        (["parse", "qwen", "--lines"], DEEP, BAD_INPUT),
        (["parse", "qwen"], DEEP, OK),
        (["parse", "qwen", "--lines"], f'{{"text": "a", "n": {HUGE}}}', OK),
        (["parse", "qwen", "--lines"], "[]", BAD_INPUT),
        (["parse", "qwen", "--lines"], "5", BAD_INPUT),
        (["parse", "qwen", "--lines"], '{"text": "a", "tools": "x"}', BAD_INPUT),
        (["parse", "qwen", "--lines"], '{"text": "a", "tools": [5]}', BAD_INPUT),
        (["parse", "qwen", "--lines"], '{"text": "a", "tools": [{"name": 3}]}', BAD_INPUT),
        (["parse", "qwen", "--lines"], '{"text": "a", "prompt": 5}', BAD_INPUT),
        (["parse", "qwen", "--lines"], '{"text": "a", "prompt": [1, 2]}', BAD_INPUT),
        (["parse", "qwen", "--lines"], '{"text": [1, 2]}', BAD_INPUT),
        (["parse", "qwen", "--lines"], '{"text": [true]}', BAD_INPUT),
        (["render", "qwen"], DEEP, BAD_INPUT),
        (["render", "qwen"], f'{{"name": "f", "arguments": {{"a": {HUGE}}}}}', BAD_INPUT),
        (["render", "qwen"], '{"role": "assistant", "content": 5}', BAD_INPUT),
        (["render", "qwen"], '{"role": "assistant", "reasoning_content": []}', BAD_INPUT),
        (["render", "qwen"], '{"role": "assistant", "tool_calls": 5}', BAD_INPUT),
        (["inspect", "-"], "no template", NOT_FOUND),
        (["inspect", "/dev/null"], "", BAD_INPUT),
        (["inspect", "x" * 5_000], "", BAD_INPUT),
        (["inspect", "a\nb"], "", BAD_INPUT),
        (["families", "quen"], "", BAD_INPUT),
        (["families", "qwen"], "", OK),
    ],
    ids=lambda value: "" if isinstance(value, str) and len(value) > 60 else None,
)
def test_bad_input_is_one_line_and_the_right_code(arguments: list[str], stdin: str, code: int) -> None:
    done = program(*arguments, stdin=stdin)
    told = done.stderr.decode()
    assert (done.returncode, "Traceback" in told) == (code, False), told
    if code == BAD_INPUT:
        assert done.stdout == b""
        assert len(told.splitlines()) <= 2
        for python in ("register(", "parser_for", "set_int_max", "families()"):
            assert python not in told


@pytest.mark.parametrize("template", [[5], [{}], {}, {"a": 5}, 5, [{"name": "a"}]], ids=str)
def test_configs_of_wrong_types(tmp_path: Path, template: Any) -> None:
    result = run("inspect", write(tmp_path / "tokenizer_config.json", json.dumps({"chat_template": template})))
    assert result.exit_code == BAD_INPUT, result.output
    assert "chat_template" in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16"])
@pytest.mark.parametrize(
    "arguments", [["parse", "qwen"], ["families"], ["families", "deepseek-v3"], ["inspect", "gemma4"]]
)
def test_answers_are_utf8_whatever_stdout_says(encoding: str, arguments: list[str]) -> None:
    done = program(*arguments, stdin=CALL.replace("{}", '{"a": "Łódź 🙂"}'), encoding=encoding)
    assert (done.returncode, done.stderr) == (OK, b"")
    assert done.stdout.decode("utf-8")
    if arguments[0] == "parse":
        assert json.loads(done.stdout)["tool_calls"][0]["function"]["arguments"] == {"a": "Łódź 🙂"}


def test_half_a_surrogate_pair_is_written_as_an_escape() -> None:
    text = CALL.replace("{}", '{"a": "\\ud800", "b": %s}' % ("9" * 5_000))
    done = program("parse", "qwen", stdin=text)
    assert (done.returncode, done.stderr) == (OK, b"")
    assert b"\\ud800" in done.stdout
    done = program("render", "qwen", stdin='{"name": "f", "arguments": {"a": "\\ud800"}}')
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.skipif(os.name != "posix", reason="named pipes and closed files are POSIX's")
def test_pipes(tmp_path: Path) -> None:
    pipe = tmp_path / "template.jinja"
    os.mkfifo(pipe)
    done = program("inspect", pipe)
    assert done.returncode == BAD_INPUT
    assert "pipe" in done.stderr.decode()
    done = program("families", preexec_fn=lambda: os.close(1))
    assert "Traceback" not in done.stderr.decode()
    for command in ("families", "--help", "inspect qwen", "families --json"):
        shell = f"{sys.executable} -m toolparse {command} | true"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, cwd=ROOT, check=False, timeout=60)
        assert done.stderr == b""


def test_unverified_formats_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = toolparse.detect(fixtures.template("hermes"))
    doubtful = dataclasses.replace(found, verified=False)
    monkeypatch.setattr("toolparse.api.detect", lambda _source: doubtful)
    path = write(tmp_path / "a.jinja", fixtures.template("hermes"))
    for command, stdin in (("parse", "Hi."), ("render", "[]")):
        result = run(command, path, stdin=stdin)
        assert result.exit_code == NOT_FOUND
        assert "not verified" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_families_for_grep_and_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [line.split("\t") for line in run("families").stdout.splitlines()]
    assert [row[0] for row in rows] == list(toolparse.families())
    assert {len(row) for row in rows} == {7}
    seen = io.StringIO()
    monkeypatch.setattr(
        "toolparse.cli.stdout", lambda: Console(file=seen, force_terminal=True, width=80, no_color=True)
    )
    run("families")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", seen.getvalue()).splitlines()
    assert max(map(len, shown)) <= 80
    assert len(shown) == len(rows) + 3
    assert [line.split()[0] for line in shown[1:-2]] == list(toolparse.families())
    assert {row[3] for row in rows} >= {"-", "MiMo-VL"}  # where it was proved, in an outsider's words
    assert "functions.{{name}}:{{index}}" in program("families", "kimi_k2").stdout.decode()


def test_inspect_prints_the_flags_of_todays_servers(template: Path) -> None:
    """From the aliases that the families carry; every name of a server that names a family is found again."""
    from toolparse.plugins.flags import PARSERS, server_flags

    shown = run("inspect", template).stdout
    assert "--tool-call-parser qwen3_coder" in shown
    assert set(json.loads(run("inspect", template, "--json").stdout)["flags"]) == set(PARSERS)
    found = {flag.split()[1] for name in toolparse.families() for flag in server_flags(toolparse.get(name)).values()}
    assert found <= {name for names in PARSERS.values() for name in names.split()}
    assert server_flags(toolparse.get("hermes")) == {
        "vLLM 0.33": "--tool-call-parser hermes",
        "SGLang 0.5": "--tool-call-parser hermes",
    }
    assert server_flags(toolparse.get("harmony")) == {
        "vLLM 0.33": "--tool-call-parser openai",
        "SGLang 0.5": "--tool-call-parser gpt-oss",
    }
    assert server_flags(toolparse.get("react")) == {}
