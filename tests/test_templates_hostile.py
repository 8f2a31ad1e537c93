"""Hostile templates, each in a child with limits: within a process nothing hangs, eats memory or outlives a rendering."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from tests.conftest import run_python

_CALLS = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}<u>{{ m.content }}{%- else -%}<a>{{ m.content }}"
    "{%- for t in m.tool_calls or [] -%}BEFORE{{ t.function.name }}<w>{{ t.function.arguments | tojson }}AFTER"
    "{%- endfor -%}</a>{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<a>{%- endif -%}"
)
_QUOTED = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}<u>{{ m.content }}{%- else -%}<a>{{ m.content }}"
    "{%- for t in m.tool_calls or [] -%}<c>{{ t.function.name }}{"
    "{%- for k, v in t.function.arguments.items() -%}{{ k }}:QUOTE{{ v }}QUOTE{%- if not loop.last %},{% endif -%}"
    "{%- endfor -%}}</c>{%- endfor -%}</a>{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<a>{%- endif -%}"
)
_BIG = "{% set big = 'a' * 900000 %}"

HOSTILE = {
    "namespaces that hold themselves twice": "{% set ns = namespace(x=1) %}{% for i in range(40) %}{% set ns.x = namespace(a=ns.x, b=ns.x) %}{% endfor %}{{ ns }}",
    "namespaces filled later": "{% set a = namespace() %}{% set b = namespace() %}{% set c = namespace() %}{% set d = namespace() %}"
    "{% set t = 'a' * 100000 %}{% set d.a = [t, t, t] %}{% set c.a = [d, d, d] %}{% set b.a = [c, c, c, c] %}{% set a.a = [b, b, b] %}{{ a }}",
    "views that hold themselves twice": "{% set ns = namespace(x={1: 1}) %}{% for i in range(40) %}{% set ns.x = {1: ns.x.items(), 2: ns.x.items()} %}{% endfor %}{{ ns.x }}",
    "views of values": "{% set ns = namespace(x={1: 1}.values()) %}{% for i in range(40) %}{% set ns.x = {1: ns.x, 2: ns.x}.values() %}{% endfor %}{{ ns.x | string }}",
    "a width spelt as text": "{{ '{:{}}'.format(1, '1000000000') }}",
    "a width in a dict": "{{ '{0[a]:{0[b][c]}}'.format({'a': 1, 'b': {'c': '999999999'}}) }}",
    "a width by format_map": "{{ '{a:{b}}'.format_map({'a': 1, 'b': '999999999'}) }}",
    "rfind in C": _BIG + "{{ big.rfind('b' ~ 'a' * 400000) }}",
    "rsplit in C": _BIG + "{{ big.rsplit('b' ~ 'a' * 400000) | length }}",
    "rpartition in C": _BIG + "{{ big.rpartition('b' ~ 'a' * 400000) | length }}",
    "punycode": "{% set s = 'aé' * 200000 %}{{ s.encode('punycode') | length }}",
    "slices": _BIG + "".join(f"{{% set x{i} = big[{i}:] %}}" for i in range(2000)),
    "block sets": _BIG + "".join(f"{{% set x{i} %}}{{{{ big }}}}{i}{{% endset %}}" for i in range(2000)),
    "lorem ipsum": "{% for i in range(9999) %}{{ lipsum(n=100, min=100, max=1000) }}{% endfor %}",
    "indentation by depth": "{% set ns = namespace(x=[1]) %}{% for i in range(50) %}{% set ns.x = [ns.x, 1, 2, 3] %}{% endfor %}{% for i in range(9999) %}{% set y = ([ns.x] * 100) | tojson(indent=4000) %}{% endfor %}",
    "separators": "{% set s = 'x' * 100000 %}{{ (range(9999) | list) | tojson(separators=(s, s)) }}",
    "many ifs": "{% if x %}a{% endif %}" * 16_000,
    "many words": "{{ [" + "1," * 90_000 + "] }}",
    "deep ifs": "{% if x %}" * 90 + "{% endif %}" * 90,
    "join of a generator": _BIG + "{{ big.join(range(99999) | map('string')) }}",
    "filter join of a generator": _BIG + "{{ range(99999) | map('string') | join(big) }}",
    "join of a range": _BIG + "{{ range(99999) | join(big) }}",
    "cyclers": "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = ns.l + [cycler(*range(99999))] %}{% endfor %}",
    "pprint": "{{ (range(99999) | list) | pprint }}",
    "a padded date": "{{ strftime_now('%1000000000Y') }}",
    "an endless cycler": "{% set c = cycler(1, 2) %}{{ c | list }}",
    "a long marker": _CALLS.replace("BEFORE", "<c " + "x" * 100_000 + ">").replace("AFTER", "</c>"),
    "a marker written long": _CALLS.replace("BEFORE", "{{ '<' ~ 'c' * 30000 ~ '>' }}").replace("AFTER", "</c>"),
    "many markers": _CALLS.replace("BEFORE", "".join(f"<m{i}>" for i in range(5000))).replace("AFTER", "</c>"),
    "a closing of quotes": _CALLS.replace("BEFORE", "<c>").replace("AFTER", "{{ '\"' * 30000 }}"),
    "quotes as a marker": _QUOTED.replace("QUOTE", "{{ '\"' * 30000 }}"),
    "quotes of angles": _QUOTED.replace("QUOTE", "{{ '<|' * 15000 }}"),
    "parameters with long tags": _QUOTED.replace("{{ k }}:QUOTE{{ v }}QUOTE", "<p{{ 'x' * 20000 }}={{ k }}>{{ v }}</p{{ 'x' * 20000 }}>"),
    "lone surrogates written": _CALLS.replace("BEFORE", "{{ '\\ud800' }}<c>").replace("AFTER", "</c>"),
    "long words of its own": "{% if messages[-1].tool_calls %}{{ raise_exception('x' * 900000) }}{% endif %}",
    "slow for each rendering": "{% set c = messages[-1].tool_calls %}{% for i in range(99999) %}{% set x = i %}{% endfor %}{{ messages[-1].content }}",
}  # fmt: skip

_CHILD = """
import json, resource, sys, time
from toolparse.detect import detect
from toolparse.errors import TemplateError
from tests.conftest import run_python
from toolparse.templates.rendering.environment import compile_template

source = json.loads(sys.stdin.read())
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (size + (600 << 20), size + (600 << 20)))
said = []
for mutable in (False, True):
    try:
        said.append(["written", len(compile_template(source, mutable=mutable).render(messages=[]))])
    except TemplateError as error:
        said.append(["refused", len(str(error))])
begun = time.process_time()
found = detect("{% set calls = messages[-1].tool_calls %}" + source if "tool_calls" not in source else source)
json.dumps(found.evidence).encode()
print(json.dumps({"said": said, "found": found.format is not None, "long": max(map(len, found.evidence)),
                  "seconds": time.process_time() - begun}))
"""


def in_a_child(program: str, source: str) -> dict[str, Any]:
    """What a child with limits tells; its deadline is a hang, not a measurement."""
    said = run_python(program, stdin=json.dumps(source), TOOLPARSE_CACHE="off", TOOLPARSE_ISOLATION="off")
    told: dict[str, Any] = json.loads(said)
    return told


needs_limits = pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits, which Windows has not")


@needs_limits
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates(name: str) -> None:
    """Refused, or harmless: never a hang, never memory, never more than a line or two to tell."""
    told = in_a_child(_CHILD, HOSTILE[name])
    assert not told["found"], "nothing is learnt from it"
    assert told["long"] < 2000
    if "tool_calls" not in HOSTILE[name] and name != "deep ifs":
        assert [said[0] for said in told["said"]] == ["refused", "refused"]


_TWICE = """
import json, sys
from toolparse.errors import TemplateError
from tests.conftest import run_python
from toolparse.templates.rendering.environment import compile_template

first, second = json.loads(sys.stdin.read())
told = []
for mutable in (False, True):
    one, other = compile_template(first, mutable=mutable), compile_template(second, mutable=mutable)
    texts = []
    for template in (other, one, one, other):
        try:
            texts.append(template.render(messages=[], tools=[]))
        except TemplateError as error:
            texts.append("refused")
    told.append(texts[0] == texts[3] and texts[1] == texts[2])
print(json.dumps({"same": told}))
"""

STATE = {
    "a function's attribute": ("{% set _ = cycler.reset(raise_exception) %}", "{{ raise_exception.pos is defined }}"),
    "a class's attribute": ("{% set _ = cycler.reset(namespace) %}", "{{ namespace.pos is defined }}"),
    "the cycler itself": ("{% set _ = cycler.reset(cycler) %}{% set _ = cycler.next(cycler) %}", "{{ cycler.pos is defined }}"),
    "a joiner": ("{% set _ = joiner.used %}{{ joiner.used is defined }}", "{{ joiner.used is defined }}"),
    "a counter": ("{% set c = cycler(1, 2, 3) %}{{ c.next() }}{{ c.next() }}", "{{ cycler(1, 2, 3).next() }}"),
    "a namespace": ("{% set namespace.x = 1 %}", "{{ namespace.x is defined }}"),
    "a macro's default": ("{% macro f(c=namespace(n=0)) %}{% set c.n = c.n + 1 %}{{ c.n }}{% endmacro %}{{ f() }}{{ f() }}", "x"),
    "dict": ("{% set _ = dict.fromkeys([1]).update({2: 3}) %}", "{{ dict() }}{{ dict.x is defined }}"),
    "a random choice": ("{{ range(1000) | random }}", "{{ [1, 2, 3] | random }}"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATE)
def test_nothing_is_left_from_one_rendering_to_the_next(name: str) -> None:
    assert in_a_child(_TWICE, STATE[name])["same"] == [True, True]


METHODS = {
    str: "encode maketrans __class__ __format__",
    int: "to_bytes from_bytes bit_length as_integer_ratio real",
    float: "hex fromhex as_integer_ratio",
    dict: "fromkeys __init__ __or__",
}


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_only_known_methods_are_there(kind: type) -> None:
    from toolparse.errors import TemplateError
    from toolparse.templates.rendering.environment import compile_template

    value = {str: "text", int: 5, float: 2.5, dict: {"a": 1}}[kind]
    for name in METHODS[kind].split():
        for source in (f"{{{{ v.{name} }}}}", f"{{{{ v | attr('{name}') }}}}", f"{{{{ v['{name}']() }}}}"):
            try:
                text = compile_template(source).render(v=value)
            except TemplateError:
                continue
            assert text == "", source
