"""The sandbox renders as transformers does and holds against hostile templates, in time and memory."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import jinja2
import jinja2.ext
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tests.templates_at_hand import real_templates
from toolparse.detect import detect
from toolparse.errors import TemplateError
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.induction.probe import (
    BOS,
    EOS,
    NAMES,
    ONE,
    SPOKEN_ONE,
    THOUGHT_ONE,
    TWO,
    TYPES,
    Prober,
    Turn,
    find_style,
)
from toolparse.templates.judging.proof import AWKWARD, LOOKALIKES
from toolparse.templates.rendering import environment
from toolparse.templates.rendering.environment import compile_template, facts_of
from toolparse.templates.rendering.limits import LimitExceeded

ENDLESS = {
    "nested ranges": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}",
    "silent nested ranges": "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = b %}{% endfor %}{% endfor %}",
    "short loops": "{% set l = range(60) | list %}{% for a in l %}{% for b in l %}{% for c in l %}{% for d in l %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
    "short loops over a dict": "{% set d = dict.fromkeys('abcdefghijklmnopqrstuvwxyz') %}{% for a in d %}{% for b in d.items() %}{% for c in d %}{% for e in d.keys() %}{% for f in d %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}",
    "filtered loop": "{% for a in range(9999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "huge range": "{% for a in range(10**12) %}{% endfor %}",
    "doubling by tilde": "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "doubling by plus": "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling by set block": "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "times": "{{ 'a' * 10**9 }}",
    "times, folded by the optimizer": "{{ 'a' * 1000000000 }}",
    "list times": "{{ ([0] * 1000000000) | length }}",
    "list doubling": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "tree doubling": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "tree doubling in dicts": "{% set ns = namespace(x={}) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | tojson }}",
    "tree doubling in tuples": "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x == ns.x }}",
    "tree doubling by dict()": "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "deep nesting": "{% set ns = namespace(x=[]) %}{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    "percent padding": "{{ '%1000000000d' % 1 }}",
    "percent starred": "{{ '%*d' % (1000000000, 1) }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "format filter starred": "{{ '%*d' | format(1000000000, 1) }}",
    "str.format padding": "{{ '{:1000000000}'.format(1) }}",
    "str.format nested": "{{ '{:{}}'.format(1, 1000000000) }}",
    "str.format repeated": "{% set big = 'a' * 500000 %}{{ ('{0}' * 100000).format(big) }}",
    "percent repeated": "{% set big = 'a' * 500000 %}{{ ('%(a)s' * 100000) % {'a': big} }}",
    "center filter": "{{ 'x' | center(1000000000) }}",
    "center method": "{{ 'x'.center(10**9) }}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "expandtabs": "{{ '\t'.expandtabs(10**9) }}",
    "indent": "{{ 'x\ny' | indent(10**9) }}",
    "tojson indent": "{{ [1, 2] | tojson(indent=10**9) }}",
    "join": "{% set big = 'a' * 900000 %}{{ range(99999) | join(big) }}",
    "join method": "{% set big = 'a' * 900000 %}{{ big.join(['a'] * 90000) }}",
    "replace filter": "{% set big = 'a' * 900000 %}{{ big | replace('a', big) }}",
    "replace method": "{% set big = 'a' * 900000 %}{{ big.replace('a', big) }}",
    "translate": "{% set big = 'a' * 900000 %}{{ big.translate({97: big}) }}",
    "strip": "{% set a = 'a' * 900000 %}{{ a.strip('b' * 900000 ~ 'a') }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "round down": "{{ 5 | round(-10**9) }}",
    "powers": "{{ 9 ** (9 ** 9) }}",
    "power folded": "{{ 10 ** 10000000 }}",
    "squaring": "{% set ns = namespace(x=10) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "int bytes": "{{ (5).to_bytes(10**9, 'big') }}",
    "bytes": "{{ 'x'.encode().center(10**9) }}",
    "sum of lists": "{{ ([[1]] * 400000) | sum(start=[]) }}",
    "lorem ipsum": "{{ lipsum(n=10**7) }}",
    "map through a filter": "{{ ['x'] | map('center', 10**9) | list }}",
    "recursive macro": "{% macro f(x) %}{{ f(x + 1) }}{% endmacro %}{{ f(0) }}",
    "branching macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
    "recursive loop": "{% for x in [[]] recursive %}{{ loop([[]]) }}{% endfor %}",
    "wide recursive loop": "{% for x in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "recursive block": "{% block a %}{{ self.a() }}{% endblock %}",
    "regex filter": "{{ ('<' * 900000) | striptags }}",
    "urlize": "{{ ('http://a.' * 90000) | urlize }}",
    "long output": "{% set big = 'a' * 900000 %}{% for i in range(90000) %}{{ big }}{% endfor %}",
    "slices": "{% set big = 'a' * 900000 %}{% for i in range(99999) %}{% set x = big[1:] ~ '' %}{% endfor %}",
    "date": "{{ strftime_now('%Y' * 500000) }}",
    "parentheses": "{{ " + "(" * 60_000 + "1" + ")" * 60_000 + " }}",
    "long chain": "{{ 1" + "+1" * 60_000 + " }}",
    "nested ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "long text": "x" * 5_000_000,
}

ATTRIBUTES = {
    "class": "{{ ''.__class__ }}",
    "class by attr": "{{ ''|attr('__class__') }}",
    "class by item": "{{ ''['__class__'].__mro__ }}",
    "globals of a function": "{{ raise_exception.__globals__ }}",
    "globals of a filter's method": "{{ cycler.__init__.__globals__.os }}",
    "format field": "{{ '{0.__class__}'.format(1) }}",
    "format_map field": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "format by map": "{{ ['{0.__class__}'.format] | map('attr', '__self__') | list }}",
    "namespace": "{% set ns = namespace(__class__=1) %}",
    "import": "{% import 'os' as os %}",
    "include": "{% include '/etc/hostname' %}",
    "self": "{{ self._TemplateReference__context }}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_exploding_templates_end_with_a_clear_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLPARSE_CACHE", "off")
    with pytest.raises(TemplateError) as caught:
        compile_template(ENDLESS[name], mutable=len(name) % 2 == 0).render(messages=[])
    assert str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ENDLESS)[::3])
def test_detection_gives_a_reason_for_hostile_templates(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLPARSE_CACHE", "off")
    found = detect("{% set calls = messages[-1].tool_calls %}" + ENDLESS[name])
    assert found.format is None
    assert any("cannot be rendered" in line or "no tool calls" in line for line in found.evidence), found.evidence


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_exploding_templates_do_not_eat_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLPARSE_CACHE", "off")
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            compile_template(ENDLESS[name]).render(messages=[])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400_000_000, f"{peak} bytes"


@pytest.mark.parametrize(
    "source",
    [
        "{% set l = [1] %}{% for i in range(60) %}{% set _ = l.extend(l) %}{% endfor %}{{ l }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set m = [] %}{% set _ = m.append(ns.l) %}{% set _ = m.append(ns.l) %}{% set ns.l = m %}{% endfor %}{{ ns.l }}",
        "{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}",
        "{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}",
        "{% set d = {} %}{% set _ = d.update({'a': d}) %}{{ d == d }}{{ d | tojson }}",
    ],
)
def test_the_mutable_sandbox_is_limited_as_well(source: str) -> None:
    with pytest.raises(TemplateError):
        compile_template(source, mutable=True).render()


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_python_stays_out_of_reach(name: str) -> None:
    try:
        text = compile_template(ATTRIBUTES[name]).render()
    except TemplateError:
        return
    assert "<class" not in text
    assert "module" not in text
    assert text.strip() in ("", "[]", "[Undefined]")


def test_the_limits_hold_in_threads() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            compile_template(ENDLESS["nested ranges"]).render()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 3
    assert all(isinstance(error, LimitExceeded) for error in errors)


def test_list_append_needs_the_mutable_sandbox() -> None:
    source = "{% set l = [] %}{% set _ = l.append('a') %}{{ l | join }}"
    with pytest.raises(TemplateError, match="append"):
        compile_template(source).render()
    assert compile_template(source, mutable=True).render() == "a"


@pytest.mark.parametrize(
    "source",
    [
        "{% set _ = d.pop('a') %}",
        "{% set _ = d.update({'b': 1}) %}",
        "{% set _ = d.setdefault('b', 1) %}",
        "{% set _ = d['clear']() %}",
        "{% set _ = d.l.extend([1]) %}",
        "{% set ns = namespace(f=d.popitem) %}{% set _ = ns.f() %}",
    ],
)
def test_what_changes_data_needs_the_mutable_sandbox(source: str) -> None:
    with pytest.raises(TemplateError, match="unsafe|undefined"):
        compile_template(source).render(d={"a": 1, "l": []})


def test_names_are_found_as_jinja_finds_them() -> None:
    """Attributes before keys, keys where there is no such attribute, undefined for neither."""
    data = {"items": "hidden", "name": "seen", "_own": "seen too", "format": "text"}
    source = (
        "{{ d.items() | length }}|{{ d['items'] }}|{{ d.name }}|{{ d._own }}|{{ d.format }}|{{ d.absent is defined }}"
        "|{% set ns = namespace(a=1) %}{{ ns.a }}{{ ns.b is defined }}{{ ns._a is defined }}|{{ d.__class__ is defined }}"
        "|{{ 'a-b'.split('-') | join('+') }}|{{ '{}'.format(d.name) }}|{{ [3, 1].index(1) }}|{{ d.get('name').upper() }}"
    )
    plain = ImmutableSandboxedEnvironment().from_string(source).render(d=data)
    assert compile_template(source).render(d=data) == plain


REAL = {name: text for name, text in real_templates().items() if facts_of(text).mentions_calls}
TURNS = [ONE, TWO, TYPES, SPOKEN_ONE, THOUGHT_ONE, Turn(((NAMES[0], AWKWARD),)), Turn(((NAMES[0], LOOKALIKES),))]


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no real templates: set TOOLPARSE_SHARED or install trl")
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_templates_are_rendered_as_by_jinja_itself(name: str) -> None:
    """The guards, and the short ways past them, leave no trace in what is written."""
    plain = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[environment._Generation, jinja2.ext.loopcontrols]
    )
    plain.filters["tojson"] = lambda x, ensure_ascii=False, **options: json.dumps(
        x, ensure_ascii=ensure_ascii, **options
    )
    plain.globals.update(raise_exception=environment._raise_exception, strftime_now=environment._strftime_now)
    template, guarded = plain.from_string(REAL[name]), compile_template(REAL[name])
    prober, _ = find_style(Prober(guarded, MessageStyle()))
    style = prober.style
    variables = {"bos_token": BOS, "eos_token": EOS, "documents": None, **style.extra_variables(prober.tools)}
    variables["tools"] = style.tool_definitions(prober.tools) or None
    for turn in TURNS:
        variables["messages"] = [prober.user(), turn.message(style), prober.user("again")]
        told = [outcome(one.render, {**variables, "add_generation_prompt": True}) for one in (template, guarded)]
        assert told[0] == told[1].removeprefix(told[1].partition(": ")[0] + ": ") or told[0] == told[1]


def outcome(render: Callable[..., str], variables: dict[str, Any]) -> str:
    """What is written, or what the refusal says."""
    try:
        return render(**variables)
    except Exception as error:
        return str(error)


def test_a_template_cannot_change_the_callers_data() -> None:
    data = {"a": [1]}
    compile_template("{% set _ = d.a.append(2) %}", mutable=True).render(d=data)
    assert data == {"a": [1]}


def test_the_template_s_own_words_are_in_the_error() -> None:
    with pytest.raises(TemplateError, match="only one call"):
        compile_template("{{ raise_exception('only one call') }}").render()
    with pytest.raises(TemplateError, match="line 2"):
        compile_template("a\n{% if %}").render()


def test_the_clock_stands_still_and_json_is_not_escaped() -> None:
    source = "{{ strftime_now('%Y-%m-%d') }}{{ {'b': '<é>', 'a': 1} | tojson }}{% generation %}x{% endgeneration %}"
    assert compile_template(source).render() == '2024-05-17{"b": "<é>", "a": 1}x'


def test_big_integers_of_the_data_pass() -> None:
    source = "{{ x }}{{ x | string }}{{ x | tojson }}{{ '%s' % x }}{{ '%s' | format(x) }}{{ '{}'.format(x) }}"
    assert compile_template(source).render(x=10**30) == str(10**30) * 6
