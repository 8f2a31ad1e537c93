"""The doctor tells what a template does to data, with evidence, advice and an exit code."""

from __future__ import annotations

import json

import pytest

from tests.templates_at_hand import fixture_templates
from toolparse import UnknownFormat, detect
from toolparse.templates.judging import doctor

FIXTURES = fixture_templates()


def template(calls: str, *, content: str = "{{- m.content or '' -}}", end: str = "</a>", prompt: str = "<a>") -> str:
    return (
        "{%- for m in messages -%}{%- if m.role == 'user' -%}<u>{{ m.content }}</u>"
        "{%- elif m.role == 'tool' -%}<t>{{ m.content }}</t>{%- else -%}<a>" + content
        + calls + end + "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}" + prompt + "{%- endif -%}"
    )  # fmt: skip


EACH = "{%- for t in m.tool_calls or [] -%}{%- set f = t.function -%}"
END = "{%- endfor -%}"
GOOD = EACH + '<c>{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}</c>' + END


def codes(text: str) -> set[str]:
    found = detect(text, use_registry=False)
    assert found.format is not None, found.evidence
    return {problem.code for problem in found.problems}


def test_a_good_template_has_notes_only() -> None:
    report = doctor.report(template(GOOD))
    assert report.exit_code == doctor.HEALTHY
    assert {problem.severity for problem in report.detection.problems} <= {"note"}


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("calls-dropped", template(GOOD.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"))),
        ("calls-refused", template("{%- if (m.tool_calls or []) | length > 1 -%}{{ raise_exception('one') }}{%- endif -%}" + GOOD)),
        (
            "calls-behind-end",
            template(EACH + '<c>{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}</c>'
            "{%- if not loop.first and not loop.last -%}</a>{%- endif -%}" + END),
        ),
        ("content-dropped-beside-calls", template(GOOD, content="{%- if not m.tool_calls -%}{{ m.content }}{%- endif -%}")),
        ("calls-dropped-beside-content", template("{%- if not m.content -%}" + GOOD + "{%- endif -%}")),
        ("content-behind-calls", template(GOOD + "{{- m.content or '' -}}", content="")),
        ("double-encoded", template(GOOD.replace("f.arguments | tojson", "f.arguments | tojson | tojson"))),
        ("wants-strings", template(GOOD.replace("f.arguments | tojson", "'' + f.arguments"))),
        ("double-encodes-strings", template(GOOD)),
        ("end-missing", template(GOOD, end="")),
        ("mutates-lists", "{%- set l = [] -%}{%- set _ = l.append(1) -%}" + template(GOOD)),
        ("not-a-prefix", template(GOOD, prompt="<a>\\n<open>")),
        ("results-unnamed", template(GOOD)),
        ("results-dropped", template(GOOD).replace("<t>{{ m.content }}</t>", "")),
        (
            "types-lost",
            template(EACH + "{{ f.name }}({%- for k, v in f.arguments.items() -%}{{ k }}='{{ v }}'"
            "{%- if not loop.last %}, {% endif -%}{%- endfor -%})" + END).replace("{{ f.name }}", "<c>{{ f.name }}"),
        ),
        (
            "types-from-schema",
            template(EACH + '<c name="{{ f.name }}">{%- for k, v in f.arguments.items() -%}<p name="{{ k }}">'
            "{{ v if v is string else v | tojson }}</p>{%- endfor -%}</c>" + END),
        ),
        (
            "null-dropped",
            template(EACH + '<c name="{{ f.name }}">{%- for k, v in f.arguments.items() if v is not none -%}<p name="{{ k }}">'
            "{{ v if v is string else v | tojson }}</p>{%- endfor -%}</c>" + END),
        ),
        (
            "reasoning-stripped",
            template(GOOD, content="{%- if loop.last and m.reasoning_content -%}<r>{{ m.reasoning_content }}</r>{%- endif -%}"
            "{{- m.content or '' -}}"),
        ),
    ],
)  # fmt: skip
def test_each_problem_is_named(code: str, text: str) -> None:
    found = detect(text, use_registry=False)
    named = {problem.code: problem for problem in found.problems}
    assert code in named, (sorted(named), found.evidence, [c for c in found.checks if c.status != "passed"])
    assert named[code].message
    assert named[code].training
    assert named[code].serving
    assert named[code].evidence, "every loss is shown, not only told"


def test_evidence_is_what_the_template_wrote() -> None:
    found = detect(
        template(GOOD, content="{%- if not m.tool_calls -%}{{ m.content }}{%- endif -%}"), use_registry=False
    )
    evidence = next(item.evidence for item in found.problems if item.code == "content-dropped-beside-calls")
    assert evidence.startswith("<c>{")


def test_the_report_is_text_and_data() -> None:
    report = doctor.report(template(GOOD.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")))
    assert report.exit_code == doctor.SICK
    told = "\n".join(report.lines())
    assert "calls-dropped" in told
    assert "training:" in told
    data = json.loads(json.dumps(report.to_dict()))
    assert data["exit_code"] == doctor.SICK
    assert data["problems"][0]["severity"] == "error"
    assert data["checks"]


def test_nothing_found_is_not_well() -> None:
    report = doctor.report("{{ messages }}")
    assert report.exit_code == doctor.SICK
    assert "no tool-call format" in str(report)


def test_what_induce_prints_is_a_format() -> None:
    found = doctor.induced(FIXTURES["gemma4"], name="mine").format
    pasted: dict[str, object] = {}
    exec(doctor.as_python(found), pasted)
    assert pasted["FORMAT"] == found
    assert found.name == "mine"
    with pytest.raises(UnknownFormat, match="never looks at tool calls"):
        doctor.induced("{{ messages }}")
