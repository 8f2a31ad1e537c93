"""The ladder: sources, rungs, caches, what is told and what is never claimed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import toolparse
from tests.conftest import ROOT, run_python
from tests.templates_at_hand import Tokenizer, fixture_templates, real_templates, renamed_markers
from toolparse import Format, FunctionParser, detect, registry
from toolparse.templates.judging import detection_store
from toolparse.templates.rendering.environment import CompiledTemplate, facts_of

FIXTURES = fixture_templates()
REAL = real_templates()
needs_real = pytest.mark.skipif(not REAL, reason="no real templates: set TOOLPARSE_SHARED or install trl")
pytestmark = pytest.mark.usefixtures("no_cache")


# ------------------------------------------------------------------------------------------------------- real ones


@pytest.mark.real
@needs_real
@pytest.mark.parametrize("name", sorted(REAL))
def test_every_real_template(name: str) -> None:
    found = detect(REAL[name])
    if not facts_of(REAL[name]).mentions_calls:
        assert not found.verified
        assert (found.format is None) == (found.how == "nothing")
        assert found.how in ("nothing", "prompt"), found.evidence
    else:
        assert found.format is not None, found.evidence
        assert found.verified, [check for check in found.checks if not check.ok]
        lost = [check for check in found.checks if check.status == "lost"]
        assert found.problems or not lost, "what is lost is named"
        exact = {"single", "no arguments", "types", "awkward", "look-alikes", "content"}
        assert not [check for check in lost if check.name in exact]


@pytest.mark.real
@pytest.mark.skipif("tool_chat_template_gemma3_pythonic" not in REAL, reason="no real template without commas")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tool_chat_template_gemma3_pythonic", "arguments-run-together"),
        ("tool_chat_template_llama3.2_pythonic", "strings-not-escaped"),
        ("tool_chat_template_llama4_pythonic", "types-lost"),
    ],
)
def test_what_can_be_read_back_with_the_schema_only_is_still_a_problem(name: str, code: str) -> None:
    found = detect(REAL[name])
    assert found.verified
    assert code in {problem.code for problem in found.problems}


@pytest.mark.real
@pytest.mark.skipif("Kimi-K2-Instruct" not in REAL, reason="no real template that changes lists")
def test_a_template_that_transformers_refuses_is_read_and_the_refusal_told() -> None:
    found = detect(REAL["Kimi-K2-Instruct"])
    assert found.verified
    assert found.message_style.mutable
    told = {problem.code: problem for problem in found.problems}
    assert "append" in told["mutates-lists"].evidence, "what transformers would say"
    assert told["mutates-lists"].severity == "error"


# ------------------------------------------------------------------------------------------------------- the rungs


def test_a_known_family_brings_its_alternatives() -> None:
    found = detect(FIXTURES["qwen3-coder"])
    assert found.how == "behaviour"
    family = toolparse.get("qwen3-coder")
    assert set(family.also) <= set(found.format.also)


def test_an_unknown_picture_is_induced() -> None:
    found = detect(renamed_markers(FIXTURES["qwen3-coder"]))
    assert found.how == "induced"
    assert found.verified


@pytest.mark.usefixtures("own_registry")
def test_a_registered_template_is_known_at_once() -> None:
    text = "{# mine #}" + FIXTURES["glm45"]
    family = toolparse.get("glm45")
    assert isinstance(family, Format)
    registry.register(family.variant("registered-here"), templates=[text])
    found = detect(text)
    assert (found.how, found.family, found.verified) == ("exact text", "registered-here", True)
    function = FunctionParser(lambda _: [], name="registered-too")
    registry.register(function, templates=["{{ other }}"])
    assert detect("{{ other }}").format is function


FIXTURES_CALL = '<mine>{"name": {{name}}, "arguments": {{arguments}}}</mine>'


@pytest.mark.usefixtures("own_registry")
def test_a_registered_format_that_can_t_read_its_template_is_not_chosen() -> None:
    text = "{# wrong #}" + FIXTURES["glm45"]
    registry.register(Format("wrong", FIXTURES_CALL), templates=[text])
    found = detect(text)
    assert found.verified
    assert found.family != "wrong"


@pytest.mark.usefixtures("own_registry")
def test_a_registered_template_that_writes_no_calls_proves_nothing() -> None:
    mute = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    registry.register(Format("mute", FIXTURES_CALL), templates=[mute])
    found = detect(mute)
    assert (found.how, found.family, found.verified) == ("exact text", "mute", False)


def test_the_vocabulary_is_the_last_rung_and_never_verified() -> None:
    found = detect(Tokenizer(None, ("<tool_call>", "</tool_call>", "<|im_end|>")))
    assert found.how == "vocabulary"
    assert found.format is not None
    assert not found.verified
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert detect(Tokenizer(plain, ("<|tool_call_start|>", "<|tool_call_end|>"))).format is toolparse.get("lfm2")
    assert detect(Tokenizer(plain, ("<a>", "<b>"))).format is None


TOLD = (
    "{{% if tools %}}{told}{{% for t in tools %}}{{{{ t | tojson }}}}{{% endfor %}}{{% endif %}}"
    "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)


@pytest.mark.parametrize(
    ("told", "family"),
    [
        ("List of tools: [", "lfm2"),  # what the family's own templates say
        ("Write <tool_call>\n{'name': ..., 'arguments': ...}\n</tool_call>.", "hermes"),  # a call
        ("<tool_call>f\n<arg_key>k</arg_key>\n<arg_value>v</arg_value>\n</tool_call>", "glm45"),  # with one parameter
        ("Answer with <|tool_calls_section_begin|> and <|tool_calls_section_end|>.", "kimi-k2"),  # markers
    ],
)
def test_the_prompt_of_a_template_that_writes_no_calls(told: str, family: str) -> None:
    """It tells how calls are written: which is no proof, and never silent."""
    source = TOLD.format(told=told)
    found = detect(source)
    assert (found.family, found.how, found.verified) == (family, "prompt", False), found.evidence
    assert [item.code for item in found.problems] == ["calls-unwritten"]
    with pytest.warns(toolparse.errors.UnverifiedFormatWarning, match="not proved"):
        assert "not verified" in repr(toolparse.parser_for(source))
    # A name says more, the vocabulary less.
    assert detect(Tokenizer(source, name_or_path="them/GLM-4.6")).family == "glm45"
    assert detect(Tokenizer(source, ("<|tool_call_start|>", "<|tool_call_end|>"))).family == family
    # What is there without tools as well tells nothing.
    assert detect(told + TOLD.format(told="")).format is None


WEATHER = {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}


@pytest.mark.parametrize("family", ["hermes", "qwen3-coder", "kimi-k2", "gemma4", "mistral-v3"])
def test_a_tokenizer_s_own_response_template_is_imported(family: str) -> None:
    source = toolparse.get(family)
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    try:
        template = toolparse.parser_for(source).to_response_template()
    except toolparse.ToolparseError as error:
        pytest.skip(f"transformers' language cannot say {family}: {error}")
    found = detect(Tokenizer(plain, ("<|tool_call_start|>",), response_template=template))
    assert found.how == "response_template"
    assert not found.verified, "nothing proves it"
    text = toolparse.Parser(source).render([WEATHER], content="Let me see.")
    tool = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": tool}}]
    message = toolparse.Parser(found.format).parse(text, tools=tools)
    assert [(call.name, call.arguments) for call in message.tool_calls] == [tuple(WEATHER.values())]
    assert message.content.strip() == "Let me see."


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ({"fields": {}}, "no fields"),
        ({"fields": {"content": {}}}, "no field 'tool_calls'"),
        ({"fields": {"tool_calls": 7}}, "response_template cannot be"),
        ({"fields": {"tool_calls": {"open": None, "content": ["?"]}}}, "response_template cannot be"),
        ({"fields": [1]}, "no fields"),
        ("hermes", "no mapping"),
    ],
)
def test_a_response_template_that_says_nothing_is_told(template: Any, reason: str) -> None:
    found = detect(Tokenizer(None, response_template=template))
    assert found.format is None
    assert any(reason in line for line in found.evidence), found.evidence


def test_a_template_speaks_louder_than_a_response_template_or_the_vocabulary() -> None:
    template = toolparse.parser_for("hermes").to_response_template()
    for more in ({"response_template": template}, {"added": ("<|tool_call_start|>", "<|tool_call_end|>")}):
        found = detect(Tokenizer(FIXTURES["glm45"], **more))
        assert found.verified
        assert found.how == "behaviour"


def test_nothing_is_nothing_and_says_what_was_looked_at() -> None:
    found = detect(object())
    assert found.format is None
    assert found.how == "nothing"
    assert not found
    assert any("chat template" in line for line in found.evidence)


def test_a_broken_or_hostile_template_gives_a_reason() -> None:
    for source in (
        "{% if %} tool_calls",
        "{{ messages[0].tool_calls }}{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% set ns = namespace(x=messages[0].tool_calls ~ 1) %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    ):
        found = detect(source)
        assert found.format is None
        assert any("cannot be rendered" in line or "no tool calls" in line for line in found.evidence), found.evidence


# ------------------------------------------------------------------------------------------------------- sources


def test_named_templates_prefer_the_one_for_tools() -> None:
    plain = "{% for m in messages %}{{ m.content }}{% endfor %}"
    found = detect({"default": plain, "tool_use": FIXTURES["glm45"]})
    assert found.verified
    assert found.evidence[0] == "template 'tool_use' of 2"
    assert detect({"default": FIXTURES["glm45"], "rag": plain}).verified
    assert detect(
        Tokenizer([{"name": "default", "template": plain}, {"name": "tool_use", "template": FIXTURES["lfm2"]}])
    ).verified


def test_a_processor_is_looked_into() -> None:
    class Processor:
        chat_template = None
        tokenizer = Tokenizer(FIXTURES["lfm2"])

    assert detect(Processor()).verified


def test_the_eos_token_becomes_an_end() -> None:
    source = FIXTURES["mistral-v13"]
    found = detect(Tokenizer(source, eos_token="</s>", bos_token="<s>"))
    assert "</s>" in found.format.ends


@pytest.mark.parametrize("layout", ["jinja", "config", "list", "json"])
def test_folders_and_files(tmp_path: Path, layout: str) -> None:
    text = FIXTURES["glm45"]
    if layout == "jinja":
        (tmp_path / "chat_template.jinja").write_text(text, encoding="utf-8")
    elif layout == "json":
        (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": text}), encoding="utf-8")
    else:
        template = text if layout == "config" else [{"name": "tool_use", "template": text}]
        config = {"chat_template": template, "eos_token": {"content": "<|user|>"}}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        assert detect(tmp_path / "tokenizer_config.json").verified
    assert detect(tmp_path).verified
    assert detect(str(tmp_path)).verified


def test_the_model_s_type_is_weak_evidence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "kimi_k2"}), encoding="utf-8")
    found = detect(tmp_path)
    assert found.format is toolparse.get("kimi-k2")
    assert found.how == "vocabulary"
    assert not found.verified


@pytest.mark.parametrize("called", ["gpt-oss-20b", "Kimi-K2-Instruct", "nobody-knows"])
@pytest.mark.parametrize("template", ["", "qwen", "granite4", "glm45"])
def test_a_folder_its_tokenizer_and_its_template_agree(tmp_path: Path, called: str, template: str) -> None:
    folder = tmp_path / called
    folder.mkdir()
    text = FIXTURES.get(template)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": text}), encoding="utf-8")
    found = [detect(folder), detect(Tokenizer(text, name_or_path=f"them/{called}")), *([detect(text)] if text else [])]
    assert len({one.format.name if one.format is not None else "" for one in found}) == 1


def test_where_pictures_are_the_same_the_model_s_name_decides() -> None:
    text = FIXTURES["qwen"]
    named = detect(Tokenizer(text, name_or_path="Qwen/Qwen3-0.6B"))
    assert named.format.name == "qwen"


# ------------------------------------------------------------------------------------------------------- caches


def test_a_template_seen_before_is_not_examined_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from toolparse.templates.judging import ladder

    first = detect(FIXTURES["lfm2"])
    monkeypatch.setattr(ladder, "_examine", lambda *_: pytest.fail("examined again"))
    assert detect(FIXTURES["lfm2"]) is first


def test_verdicts_are_kept_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolparse.templates.judging import ladder

    monkeypatch.setenv("TOOLPARSE_CACHE", str(tmp_path))
    first = detect(FIXTURES["minimax-m2"])
    detection_store.forget()
    monkeypatch.setattr(ladder, "_examine", lambda *_: pytest.fail("examined again"))
    again = detect(FIXTURES["minimax-m2"])
    assert again == first
    assert again is not first


_KNOWN_ELSEWHERE = """
import sys, toolparse
text = open(sys.argv[1], encoding="utf-8").read()
parser = toolparse.parser_for(text)
print(parser.format.name, "toolparse.families.hermes" in sys.modules)
print(len(toolparse.families()) > 50)
"""


def test_a_verdict_from_disk_needs_no_family(tmp_path: Path) -> None:
    """What makes a new process slow is left out where another one has reached the verdict already."""
    template = tmp_path / "template.jinja"
    template.write_text(FIXTURES["lfm2"], encoding="utf-8")
    told = [run_python(_KNOWN_ELSEWHERE, template, TOOLPARSE_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    assert told[0].split() == ["lfm2", "True", "True"]
    assert told[1].split() == ["lfm2", "False", "True"]


@pytest.mark.usefixtures("own_registry")
def test_a_new_family_empties_the_cache() -> None:
    text = renamed_markers(FIXTURES["lfm2"])
    induced = detect(text)
    assert induced.how == "induced"
    registry.register(induced.format.variant("lfm2-zq", variant_of=None))
    known = detect(text)
    assert (known.how, known.family) == ("behaviour", "lfm2-zq")


_AT_ONCE = """
import sys, toolparse
from toolparse.templates.judging import detection_store
texts = [open(path, encoding="utf-8").read() for path in sys.argv[1:]]
for _ in range(3):
    print([(found.format.name, found.how, found.verified, found.fingerprint) for found in map(toolparse.detect, texts)])
    detection_store.forget()
"""


def test_processes_share_the_cache_and_agree(tmp_path: Path) -> None:
    """Several processes find, keep and read the same verdicts at once; then again over a damaged cache."""
    files = []
    for name in ("lfm2", "kimi-k2", "glm45"):
        files.append(tmp_path / f"{name}.jinja")
        files[-1].write_text(FIXTURES[name], encoding="utf-8")
    cache = tmp_path / "cache"
    environment = {**os.environ, "TOOLPARSE_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _AT_ONCE, *map(str, files)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    told: set[str] = set()
    for damaged in (False, True):
        if damaged:
            for number, file in enumerate(sorted(path for path in cache.rglob("*") if path.is_file())):
                file.write_bytes([b"", b"x" * 100, file.read_bytes()[:-1]][number % 3])
        running = [start() for _ in range(3)]
        for process in running:
            out, errors = process.communicate(timeout=180)
            assert process.returncode == 0, errors
            told.update(out.splitlines())
    assert len(told) == 1, told
    kept = [path.name for path in cache.rglob("*") if path.is_file()]
    assert kept
    assert not any(name.startswith(".new-") for name in kept), "nothing half-written is left"


NEVER_WRITTEN = (
    "{% for m in messages %}{{ m.role }}{{ m.content }}{% if m.tool_calls and false %}x{% endif %}{% endfor %}"
)
PICKY = (
    "{% for m in messages %}{% if m.tool_calls %}{{ raise_exception('no ' ~ m.tool_calls[0].id ~ loop.index) }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize("name", ["never written", "picky", *FIXTURES])
def test_the_number_of_renders_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"never written": NEVER_WRITTEN, "picky": PICKY, **FIXTURES}[name]
    renders = 0
    render = CompiledTemplate.render

    def counted(self: CompiledTemplate, **variables: Any) -> str:
        nonlocal renders
        renders += 1
        return render(self, **variables)

    monkeypatch.setattr(CompiledTemplate, "render", counted)
    detect(source, use_registry=False)
    assert 0 < renders <= 90


@pytest.mark.real
def test_the_noted_proofs_still_hold(real_templates: dict[str, str]) -> None:
    from toolparse.families.proved import PROVED

    at_hand = {name: template for name, template in PROVED.items() if template in real_templates}
    if not at_hand:
        pytest.skip("none of the templates that prove a family is at hand")
    for name, template in at_hand.items():
        assert name in toolparse.families()
        assert toolparse.detect(real_templates[template]).verified, (name, template)
