"""The command line: what it prints, where it prints it, and its exit codes."""

from __future__ import annotations

import io
import json
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
from toolparse.cli import BAD_INPUT, LONG_INPUT, NOT_FOUND, OK, cli

CALL = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'


def run(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "chat_template.jinja"
    path.write_text(fixtures.template("qwen3-coder"), encoding="utf-8")
    return path


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
    assert "reads its own template" in result.stdout
    assert "<function={{name}}>" in result.stdout


def test_inspect_template_for_programs(template: Path) -> None:
    result = run("inspect", template, "--json")
    assert result.exit_code == OK
    (found,) = lines(result)
    assert found["family"] == "qwen3-coder"
    assert found["verified"] is True
    assert found["evidence"]
    assert "{{name}}" in found["format"]["call"]


def test_inspect_folder_and_config(tmp_path: Path, template: Path) -> None:
    config = {"chat_template": fixtures.template("deepseek-v31"), "tokenizer_class": "PreTrainedTokenizerFast"}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    for source in (folder, folder / "tokenizer_config.json"):
        result = run("inspect", source, "--json")
        assert result.exit_code == OK, result.output
        assert lines(result)[0]["family"] == "deepseek-v31"
    named = [{"name": "default", "template": "{{ messages }}"}, {"name": "tool_use", "template": template.read_text()}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}), encoding="utf-8")
    assert lines(run("inspect", folder / "tokenizer_config.json", "--json"))[0]["family"] == "qwen3-coder"
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
    assert lines(run("inspect", folder / "tokenizer_config.json", "--json"))[0]["family"] == "qwen3-coder"


def test_inspect_family_shows_its_declaration() -> None:
    result = run("inspect", "kimi_k2")
    assert result.exit_code == OK
    assert "kimi-k2" in result.stdout
    assert "functions.{{name}}:{{index}}" in result.stdout


def test_inspect_template_without_calls(tmp_path: Path) -> None:
    path = tmp_path / "plain.jinja"
    path.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", encoding="utf-8")
    result = run("inspect", path, "--json")
    assert result.exit_code == NOT_FOUND
    (found,) = lines(result)
    assert found["family"] is None
    assert found["verified"] is False
    assert found["format"] is None
    assert "none found" in run("inspect", path).stdout


def test_broken_template(tmp_path: Path) -> None:
    path = tmp_path / "broken.jinja"
    path.write_text("{% for m in messages %}", encoding="utf-8")
    result = run("inspect", path)
    assert result.exit_code == NOT_FOUND
    assert "endfor" in result.output or "Unexpected end" in result.output


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.json", "{", "is not JSON"),
        ("tokenizer_config.json", "{}", "holds no chat_template"),
        ("tokenizer_config.json", "[1]", "holds no chat_template"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    result = run("inspect", tmp_path / name)
    assert result.exit_code == BAD_INPUT
    assert told in result.stderr


def test_template_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.jinja").write_bytes(b"\xff\xfe{{")
    result = run("inspect", tmp_path / "a.jinja")
    assert result.exit_code == BAD_INPUT
    assert "is not UTF-8 text" in result.stderr


def test_unknown_source_names_the_nearest() -> None:
    result = run("inspect", "quen")
    assert result.exit_code == BAD_INPUT
    assert "'quen' is neither a file nor a folder" in result.stderr
    assert "did you mean 'qwen'" in result.stderr
    assert result.stdout == ""


# ------------------------------------------------------------------------------------------------------------ parse


def test_parse_stdin() -> None:
    result = run("parse", "qwen", stdin=f"Hello.\n{CALL}")
    assert result.exit_code == OK, result.output
    (message,) = lines(result)
    assert message["content"] == "Hello."
    assert message["tool_calls"][0]["function"] == {"name": "ping", "arguments": {}}
    assert "issues" not in message


def test_parse_whole_file_keeps_every_line(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text('"a"\n"b"', encoding="utf-8")
    assert lines(run("parse", "qwen", tmp_path / "out.txt"))[0]["content"] == '"a"\n"b"'
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
    path = tmp_path / "outputs.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
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
    (tmp_path / "tools.json").write_text(json.dumps(fixtures.TOOLS), encoding="utf-8")
    text = '<tool_call>\n{"name": "plan_trip", "arguments": {"city": 5}}\n</tool_call>'
    result = run("parse", "qwen", "--tools", tmp_path / "tools.json", stdin=text)
    assert result.exit_code == NOT_FOUND
    assert lines(result)[0]["issues"][0]["code"] == "wrong-type"
    (tmp_path / "tools.json").write_text("3", encoding="utf-8")
    assert run("parse", "qwen", "--tools", tmp_path / "tools.json", stdin=text).exit_code == BAD_INPUT


def test_parse_prompt_option() -> None:
    result = run("parse", "qwen", "--prompt", "<think>\n", stdin="hm\n</think>\n\nYes.")
    (message,) = lines(result)
    assert (message["reasoning_content"], message["content"]) == ("hm", "Yes.")


def test_parse_truncated() -> None:
    result = run("parse", "qwen", stdin=CALL[:40])
    assert result.exit_code == NOT_FOUND
    assert lines(result)[0]["truncated"] is True


def test_parse_bad_line_names_it(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    path.write_text('{"text": "a"}\n{"text": 5}\n', encoding="utf-8")
    result = run("parse", "qwen", path)
    assert result.exit_code == BAD_INPUT
    assert "outputs.jsonl, line 2 holds no text" in result.stderr
    path.write_text('{"text": "a"}\n{nope}\n', encoding="utf-8")
    assert "line 2 is not JSON" in run("parse", "qwen", path).stderr


def test_parse_missing_file() -> None:
    result = run("parse", "qwen", "absent.txt")
    assert result.exit_code == BAD_INPUT


@pytest.mark.parametrize("data", [b"", b"\xff\xfe<tool_call>", b'"\\ud800 lone"', b"\x00\r\n\x1b[31m"])
def test_parse_any_bytes(data: bytes) -> None:
    result = run("parse", "qwen", stdin=data)
    assert result.exit_code in (OK, NOT_FOUND), result.output
    assert len(lines(result)) == 1


def test_parse_long_input_shows_no_bar_to_programs(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    row = json.dumps({"text": "x" * 10_000 + CALL}) + "\n"
    path.write_text(row * (LONG_INPUT // len(row) + 1), encoding="utf-8")
    result = run("parse", "hermes", path)
    assert result.exit_code == OK
    assert result.stderr == ""
    assert all(message["tool_calls"] for message in lines(result))


def test_parse_long_input_shows_a_bar_to_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is on stderr only; every message is on stdout all the same."""
    seen = io.StringIO()
    monkeypatch.setattr("toolparse.cli.err", Console(file=seen, force_terminal=True, width=80))
    path = tmp_path / "long.jsonl"
    row = json.dumps({"text": "x" * 10_000 + CALL}) + "\n"
    count = LONG_INPUT // len(row) + 1
    path.write_text(row * count, encoding="utf-8")
    result = run("parse", "hermes", path)
    assert len(lines(result)) == count
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
    command = [sys.executable, "-m", "toolparse.cli", "parse", "qwen"]
    done = subprocess.run(command, input=CALL, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (OK, "")
    assert json.loads(done.stdout)["tool_calls"]
    many = [sys.executable, "-m", "toolparse.cli", "parse", "hermes", "--lines"]
    with subprocess.Popen(many, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as one:
        assert one.stdin
        assert one.stdout
        assert one.stderr
        one.stdout.close()
        try:
            one.stdin.write((json.dumps({"text": "x" * 1000}) + "\n").encode() * 2000)
            one.stdin.close()
        except BrokenPipeError:
            pass
        assert one.stderr.read() == b""
        assert one.wait(60) == OK


def test_doctor_reports_and_its_exit_code_says_so(tmp_path: Path) -> None:
    template = ROOT / "fixtures" / "templates" / "qwen3-coder.jinja"
    told = CliRunner().invoke(cli, ["doctor", str(template)])
    assert told.output.startswith("qwen3-coder (")
    report = json.loads(CliRunner().invoke(cli, ["doctor", str(template), "--json"]).output)
    assert report["verified"] is True
    assert report["exit_code"] == told.exit_code
    empty = tmp_path / "plain.jinja"
    empty.write_text("{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    assert CliRunner().invoke(cli, ["doctor", str(empty)]).exit_code == 2


def test_induce_prints_a_format_that_python_reads() -> None:
    template = ROOT / "fixtures" / "templates" / "hermes.jinja"
    told = CliRunner().invoke(cli, ["induce", str(template), "--name", "mine"])
    assert told.exit_code == 0
    format = eval(told.output, {"Format": toolparse.Format, "Syntax": toolparse.Syntax, "Also": toolparse.Also})
    assert format.name == "mine"
    assert '"name": {{name}}' in format.call
    assert CliRunner().invoke(cli, ["induce", "hermes"]).exit_code == 2


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
