"""The proof accepts no family that reads otherwise than the template wrote: every family on every template."""

from __future__ import annotations

from dataclasses import replace

import pytest

import toolparse
from tests.pairs import Judge, judge_template
from tests.templates_at_hand import fixture_templates, real_templates
from toolparse import detect
from toolparse.templates.induction.induce import induce
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.induction.probe import Prober, find_style
from toolparse.templates.judging.detection import Proof
from toolparse.templates.judging.proof import Prover, cases_for, prove
from toolparse.templates.rendering.environment import compile_template, facts_of

FIXTURES = fixture_templates()
REAL = {name: text for name, text in real_templates().items() if facts_of(text).mentions_calls}
needs_real = pytest.mark.skipif(not REAL, reason="no real templates: set TOOLPARSE_SHARED or install trl")


def judge_of(text: str) -> Judge:
    prober, _ = find_style(Prober(compile_template(text), MessageStyle()))
    return Judge(prober, induce(prober))


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXTURES)
def test_no_family_is_accepted_on_a_fixture_that_reads_otherwise(name: str) -> None:
    found = judge_template(name, FIXTURES[name])
    assert not found.wrong, found.wrong[:3]
    assert found.accepted
    assert found.judged >= 5 * len(found.accepted)


@pytest.mark.slow
@pytest.mark.real
@needs_real
@pytest.mark.parametrize("name", sorted(REAL))
def test_no_family_is_accepted_on_a_real_template_that_reads_otherwise(name: str) -> None:
    found = judge_template(name, REAL[name])
    assert not found.wrong, found.wrong[:3]
    assert found.judged >= 5 * len(found.accepted)


@pytest.mark.slow
@pytest.mark.real
@needs_real
@pytest.mark.parametrize("name", sorted(REAL))
def test_what_is_detected_proves_itself_in_pieces_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detection reads some cases in pieces; here all of them are."""
    monkeypatch.setenv("TOOLPARSE_CACHE", "off")
    found = detect(REAL[name])
    prober = Prober(compile_template(REAL[name], mutable=found.message_style.mutable), found.message_style)
    induction = induce(prober)
    prover = Prover(prober, found.format, induction)
    checks = [prover.check(replace(case, stream=True)) for case in cases_for(found.format, induction)]
    proof = Proof((*checks, *prover.behind_prompts()))
    assert proof.verified, proof.failed
    assert [check.status for check in proof.checks] == [check.status for check in found.checks]


@pytest.mark.parametrize(
    ("family", "template"), [("hermes", "qwen3-coder"), ("qwen3-coder", "glm45"), ("glm45", "hermes")]
)
def test_the_judge_sees_what_another_family_reads(family: str, template: str) -> None:
    format = toolparse.get(family)
    read = dict(judge_of(FIXTURES[template]).judge(replace(format, also=())))
    assert read["plain"]
    assert read["three"]


@pytest.mark.parametrize(
    ("turn", "changes"),
    [
        ("text", {"ends": ("<|nobody writes this|>",)}),
        ("types", {"call": '<tool_call>\n{"function": {"title": {{name}}}, "inputs": {{arguments}}}\n</tool_call>'}),
        ("thought and call", {"reasoning": None}),
    ],
)
def test_the_judge_sees_a_small_mistake(turn: str, changes: dict[str, object]) -> None:
    """Formats that read much of a template right and not all of it."""
    judge = judge_of(FIXTURES["qwen"])
    right = toolparse.get("qwen")
    right = replace(right, also=())
    assert not any(detail for _, detail in judge.judge(right))
    read = dict(judge.judge(replace(right, **changes)))
    assert read.get(turn, "not even tried")


UNQUOTED = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}<u>{{ m.content }}</u>{%- elif m.role == 'tool' -%}"
    "<t>{{ m.content }}</t>{%- else -%}<a>{%- if m.tool_calls -%}[{%- for t in m.tool_calls -%}{{ t.function.name }}("
    "{%- for k, v in t.function.arguments.items() -%}{{ k }}={{ v }}{%- if not loop.last %}, {% endif -%}{%- endfor -%})"
    "{%- if not loop.last %}, {% endif -%}{%- endfor -%}]{%- else -%}{{ m.content }}{%- endif -%}</a>{%- endif -%}"
    "{%- endfor -%}{%- if add_generation_prompt -%}<a>{%- endif -%}"
)


@pytest.mark.parametrize("family", ["hermes", "qwen3-coder", "command-r7b", "mistral", "llama3-json"])
def test_text_that_nobody_can_read_back_is_no_excuse_for_reading_no_call(family: str) -> None:
    """Where strings stand without quotes, arguments are lost to everybody, but calls are not."""
    prober, _ = find_style(Prober(compile_template(UNQUOTED), MessageStyle()))
    induction = induce(prober)
    format = toolparse.get(family)
    assert not prove(prober, format, induction).verified
