"""Induction: from what a template writes, without any known family."""

from __future__ import annotations

import datetime

import pytest

from tests.templates_at_hand import (
    MUTATIONS,
    SHAPED_BY_THOUGHTS,
    fixture_templates,
    real_templates,
    renamed_markers,
)
from toolparse import PYTHON, Format, detect, parser_for, testing
from toolparse.templates.judging import detection_store
from toolparse.templates.judging.likeness import behaviour, canonical
from toolparse.templates.rendering import environment
from toolparse.templates.rendering.environment import compile_template, facts_of

REAL = {name: text for name, text in real_templates().items() if facts_of(text).mentions_calls}
FIXTURES = fixture_templates()
needs_real = pytest.mark.skipif(not REAL, reason="no real templates: set TOOLPARSE_SHARED or install trl")
pytestmark = pytest.mark.usefixtures("no_cache")


def learnt(text: str) -> Format:
    found = detect(text, use_registry=False)
    assert isinstance(found.format, Format), found.evidence
    assert found.how == "induced"
    return found.format


@pytest.mark.parametrize("family", FIXTURES)
def test_the_fixtures_are_learnt_and_proved(family: str) -> None:
    found = detect(FIXTURES[family], use_registry=False)
    assert found.format is not None, found.evidence
    assert found.verified, [check for check in found.checks if not check.ok]


@pytest.mark.real
@needs_real
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_templates_are_learnt_and_proved_without_the_registry(name: str) -> None:
    found = detect(REAL[name], use_registry=False)
    assert found.format is not None, found.evidence
    assert found.verified, [check for check in found.checks if not check.ok]


@pytest.mark.real
@needs_real
@pytest.mark.parametrize("name", sorted(REAL)[::4])
def test_markers_nobody_knows_are_learnt_as_well(name: str) -> None:
    found = detect(renamed_markers(REAL[name]))
    assert found.format is not None, found.evidence
    assert found.verified, [check for check in found.checks if not check.ok]


@pytest.mark.parametrize("family", sorted(FIXTURES)[::4])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_cosmetic_edits_leave_the_fingerprint_alone(family: str, mutation: str) -> None:
    text = FIXTURES[family]
    assert behaviour(learnt(MUTATIONS[mutation](text))) == behaviour(learnt(text))


def same_behaviour(name: str, mutation: str) -> None:
    if mutation == "dropped thoughts" and name in SHAPED_BY_THOUGHTS:
        pytest.skip("what stands around a thought is still written without one, or nothing else shows the messages")
    text = MUTATIONS[mutation](REAL[name])
    if text == REAL[name]:
        pytest.skip(f"nothing in this template that {mutation!r} changes")
    assert behaviour(learnt(text)) == behaviour(learnt(REAL[name]))


@pytest.mark.real
@needs_real
@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", sorted(REAL)[::9])
def test_edits_of_real_templates_leave_the_fingerprint_alone(name: str, mutation: str) -> None:
    same_behaviour(name, mutation)


@pytest.mark.slow
@pytest.mark.real
@needs_real
@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", sorted(set(REAL) - set(sorted(REAL)[::9])))
def test_edits_of_every_real_template_leave_the_fingerprint_alone(name: str, mutation: str) -> None:
    same_behaviour(name, mutation)


@pytest.mark.real
@needs_real
@pytest.mark.parametrize("name", sorted(name for name in set(REAL) if "strftime_now" in REAL[name])[::3])
def test_another_day_leaves_the_fingerprint_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    today = behaviour(learnt(REAL[name]))
    monkeypatch.setattr(environment, "NOW", datetime.datetime(2031, 12, 24, 23, 59, 1))
    detection_store.forget()
    assert behaviour(learnt(REAL[name])) == today
    detection_store.forget()


def test_the_mutations_change_what_they_say() -> None:
    """Else the tests above would pass for nothing."""
    text = (
        "{% for m in messages %}{% if m.content == 'a' %}{{ m.content }}{% else %}{{ strftime_now('%d %b %Y') }}{% endif %}"
        "{{ m['reasoning_content'] }}{{ documents }}{% endfor %}"
    )
    made = {name: mutate(text) for name, mutate in MUTATIONS.items()}
    assert len({text, *made.values()}) == 1 + len(MUTATIONS)
    assert made["swapped branches"].startswith(
        "{% for m in messages %}{% if not ( m.content == 'a' ) %}{{ strftime_now('%d %b %Y') }}{% else %}{{ m.content }}{% endif %}"
    )
    assert "{{ zq_m.content }}" in made["renamed variables"]
    assert "m['zq_reasoning_content']" in made["dropped thoughts"]
    assert "{{ zq_documents }}" in made["dropped features"]
    message = [{"content": "a"}, {"content": "b", "reasoning_content": "c"}]
    same = {name: compile_template(made[name]).render(messages=message) for name in ("blanks", "swapped branches")}
    assert set(same.values()) == {compile_template(text).render(messages=message)}


def test_a_format_that_is_printed_and_evaluated_is_the_same() -> None:
    from toolparse import Also, Syntax

    format = learnt(FIXTURES["lfm2"])
    assert eval(str(format), {"Format": Format, "Syntax": Syntax, "Also": Also}) == format


# ---------------------------------------------------------------------------------- pictures of templates made here


def template(calls: str, *, before: str = "", after: str = "<end>") -> str:
    """A small chat template; `calls` renders `message.tool_calls`."""
    return (
        "{%- for message in messages -%}{%- if message.role == 'user' -%}<user>{{ message.content }}<end>"
        "{%- elif message.role == 'tool' -%}<tool>{{ message.content }}<end>"
        "{%- else -%}<bot>" + before + "{{- message.content or '' -}}{%- if message.tool_calls -%}" + calls + "{%- endif -%}"
        + after + "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<bot>{%- endif -%}"
    )  # fmt: skip


END = "{%- endfor -%}"


def each(call: str) -> str:
    """What writes every call as `call`, which knows its function as `f`."""
    return "{%- for call in message.tool_calls -%}{%- set f = call.function -%}" + call + END


JSON_CALL = '{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}'
COMMA = "{%- if not loop.last %}, {% endif -%}"


def test_a_json_object_with_other_keys() -> None:
    format = learnt(template(each('<go>{"fn": "{{ f.name }}", "kw": {{ f.arguments | tojson }}}</go>')))
    assert format.call == '<go>{"fn": {{name}}, "kw": {{arguments}}}</go>'
    assert format.ends == ("<end>",)


def test_the_name_as_key() -> None:
    calls = each('{"{{ f.name }}": {{ f.arguments | tojson }}}' + COMMA)
    format = learnt(template(f"<all>[{calls}]</all>"))
    assert format.call == '{"{{name}}": {{arguments}}}'
    assert format.section == "<all>[{{calls}}]</all>"
    assert format.between == ", "


def test_arguments_encoded_twice() -> None:
    calls = each('<go>{"n": "{{ f.name }}", "a": {{ f.arguments | tojson | tojson }}}</go>')
    found = detect(template(calls), use_registry=False)
    assert '"{{arguments}}"' in found.format.call
    assert found.verified
    assert "double-encoded" in {problem.code for problem in found.problems}


def test_parameters_with_a_type_attribute() -> None:
    calls = each(
        '<do id="{{ f.name }}">{%- for k, v in f.arguments.items() -%}'
        '{%- if v is string -%}<v k="{{ k }}" t="text">{{ v }}</v>'
        '{%- else -%}<v k="{{ k }}" t="data">{{ v | tojson }}</v>{%- endif -%}{%- endfor -%}</do>'
    )
    format = learnt(template(calls))
    assert format.param == '<v k="{{key}}" t="{{type}}">{{value}}</v>'
    assert dict(format.types or ()) == {"string": "text", "*": "data"}


def test_keys_that_are_elements() -> None:
    calls = each(
        "<do={{ f.name }}>{%- for k, v in f.arguments.items() -%}"
        "<{{ k }}>{{ v if v is string else v | tojson }}</{{ k }}>{%- endfor -%}</do>"
    )
    format = learnt(template(calls))
    assert format.param == "<{{key}}>{{value}}</{{key}}>"


def test_a_wrapper_around_special_characters() -> None:
    calls = each(
        '<do name="{{ f.name }}">{%- for k, v in f.arguments.items() -%}<p name="{{ k }}">'
        "{%- set t = v if v is string else v | tojson -%}"
        "{%- if '<' in t or '&' in t -%}<![CDATA[{{ t }}]]>{%- else -%}{{ t }}{%- endif -%}</p>{%- endfor -%}</do>"
    )
    format = learnt(template(calls))
    assert format.wrap == "<![CDATA[{{value}}]]>"
    assert format.wrap_when == "<&"


def test_python_arguments() -> None:
    values = "{%- for k, v in f.arguments.items() -%}{{ k }}={{ '%r' % v if false else v | pprint }}" + COMMA + END
    calls = each("{{ f.name }}(" + values + ")" + COMMA)
    format = learnt(template(f"[{calls}]"))
    assert format.call == "{{name}}({{kwargs}})"
    assert (format.syntax.true, format.syntax.null) == (PYTHON.true, PYTHON.null)


def test_ids_made_of_name_and_index() -> None:
    calls = each("<go>tools.{{ f.name }}:{{ loop.index0 }}<with>{{ f.arguments | tojson }}</with></go>")
    format = learnt(template(calls))
    assert format.call == "<go>{{id}}<with>{{arguments}}</with></go>"
    assert format.id == "tools.{{name}}:{{index}}"


def test_thoughts_and_what_the_prompt_opens() -> None:
    calls = each("\n<go>" + JSON_CALL + "</go>")
    before = "<muse>\n{{- message.reasoning_content or '' -}}\n</muse>\n\n".replace("{{-", "{{").replace("-}}", "}}")
    text = template(calls, before=before).replace(
        "{%- if add_generation_prompt -%}<bot>", ("{%- if add_generation_prompt -%}<bot><muse>\n")
    )
    format = learnt(text)
    assert format.reasoning == "<muse>\n{{text}}\n</muse>"
    assert format.prefill.strip() == "<muse>"


def test_pictures_cut_in_other_places_have_one_fingerprint() -> None:
    one = Format(
        "a", section="<s>{{calls}}</s>", call='<c>{"name": {{name}}, "arguments": {{arguments}}}</c>', between="\n"
    )
    other = Format("b", section="<s>\n{{calls}}</s>", call='<c>{"name": {{name}}, "arguments": {{arguments}}}</c>\n')
    assert canonical(one) == canonical(other)
    assert behaviour(one) != behaviour(one.variant("c", section="<t>{{calls}}</t>"))


def test_a_template_without_calls_teaches_nothing() -> None:
    found = detect("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", use_registry=False)
    assert found.format is None
    assert any("never looks at tool calls" in line for line in found.evidence)


def test_a_template_that_only_counts_calls_teaches_nothing() -> None:
    source = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ m.tool_calls | default([]) | length }}\n{% endfor %}"
    )
    assert detect(source).format is None


def test_nested_elements_with_a_prefix_before_every_tag() -> None:
    walk = (
        "{%- macro w(v) -%}{%- if v is mapping -%}{%- for k, x in v.items() -%}]<]zq[>[<{{ k }}>{{ w(x) }}]<]zq[>[</{{ k }}>"
        "{%- endfor -%}{%- elif v is sequence and v is not string -%}{%- for x in v -%}]<]zq[>[<item>{{ w(x) }}]<]zq[>[</item>"
        "{%- endfor -%}{%- elif v is string -%}{{ v }}{%- else -%}{{ v | tojson }}{%- endif -%}{%- endmacro -%}"
    )
    calls = each(
        """{{ ']<]zq[>[<do name="' + f.name + '">\\n' }}{%- for k, v in f.arguments.items() -%}"""
        "{{ ']<]zq[>[<' + k + '>' }}{{ w(v) }}{{ ']<]zq[>[</' + k + '>\\n' }}{%- endfor -%}{{ ']<]zq[>[</do>\\n' }}"
    )
    calls = "{{ ']<]zq[>[<all>\\n' }}" + calls + "{{ ']<]zq[>[</all>' }}"
    found = detect(walk + template(calls), use_registry=False)
    assert isinstance(found.format, Format), found.evidence
    assert "<{{key}}>{{value}}]<]zq[>[</{{key}}>" in (found.format.param or "")
    assert found.format.item == "]<]zq[>[<item>{{value}}]<]zq[>[</item>"
    assert found.verified


def test_markers_made_of_several_atoms() -> None:
    calls = each(
        '<|open|>call tool="{{ f.name }}" index="{{ loop.index }}"<|sep|>{{ f.arguments | tojson }}<|close|>call<|sep|>'
    )
    calls = "<|open|>tools<|sep|>" + calls + "<|close|>tools<|sep|>"
    before = "<|open|>think<|sep|>{{ message.reasoning_content or '' }}<|close|>think<|sep|><|open|>said<|sep|>"
    text = template(
        "{{ '<|close|>said<|sep|>' }}" + calls + "{%- else -%}{{ '<|close|>said<|sep|>' }}",
        before=before,
        after="<|close|>message<|sep|>",
    ).replace("{%- if add_generation_prompt -%}<bot>", "{%- if add_generation_prompt -%}<bot><|open|>think<|sep|>")
    format = learnt(text)
    assert format.reasoning == "<|open|>think<|sep|>{{text}}<|close|>think<|sep|>"
    assert format.content == "<|open|>said<|sep|>{{text}}<|close|>said<|sep|>"
    assert format.ends == ("<|close|>message<|sep|>",)
    assert "{{index:1}}" in format.call


def test_calls_that_are_messages_of_their_own() -> None:
    source = (
        "{%- for m in messages -%}{%- if m.role == 'user' -%}<user>{{ m.content }}"
        "{%- elif m.role == 'tool' -%}<tool>{{ m.content }}{%- else -%}"
        "{%- if m.content -%}<bot>\n{{ m.content }}{%- endif -%}"
        "{%- for t in m.tool_calls or [] -%}<bot>{{ t.function.name }}\n{{ t.function.arguments | tojson }}{%- endfor -%}"
        "{%- if m.tool_calls -%}<wait>{%- endif -%}{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}<bot>{%- endif -%}"
    )
    format = learnt(source)
    assert format.between_messages == "<bot>"
    assert format.call.strip() == "{{name}}\n{{arguments}}"


ITEMS = "{%- for k, v in f.arguments.items() -%}"
VALUE = "{{ v if v is string else v | tojson }}"
#: Ways to write calls that no registered family has.
HANDS = {
    "name in the closing tag": "<call:{{ f.name }}>{{ f.arguments | tojson }}</call:{{ f.name }}>",
    "name as element": "<{{ f.name }}>{{ f.arguments | tojson }}</{{ f.name }}>",
    "elements only": "<{{ f.name }}>" + ITEMS + "<{{ k }}>" + VALUE + "</{{ k }}>" + END + "</{{ f.name }}>",
    "literals": '<call name="{{ f.name }}">' + ITEMS + '<arg name="{{ k }}">{{ v | tojson }}</arg>' + END + "</call>",
    "pair": '<call>["{{ f.name }}", {{ f.arguments | tojson }}]</call>',
    "whole call": "<call>{{ call | tojson }}</call>",
    "whole function": "<call>{{ call.function | tojson }}</call>",
    "round brackets": "<call>{{ f.name }}({{ f.arguments | tojson }})</call>",
    "double brackets": "[[{{ f.name }}]]{{ f.arguments | tojson }}[[/{{ f.name }}]]",
    "hash": "#call {{ f.name }}#{{ f.arguments | tojson }}#end#",
    "at": "@@call {{ f.name }}{{ '\\n' }}{{ f.arguments | tojson }}{{ '\\n' }}@@end{{ '\\n' }}",
    "id attribute": '<call id="{{ call.id }}" name="{{ f.name }}">{{ f.arguments | tojson }}</call>',
    "wrapped always": '<call {{ f.name }}>' + ITEMS + '<p n="{{ k }}"><![CDATA[' + VALUE + "]]></p>" + END + "</call>",
    "fence": "{{ '```json\\n{\"tool\": \"' + f.name + '\", \"in\": ' }}{{ f.arguments | tojson }}{{ '}\\n```' }}",
    "repr": '<call>{{ {"name": f.name, "arguments": f.arguments} }}</call>',
    "print": "```tool_code{{ '\\n' }}print({{ f.name }}(" + ITEMS
    + "{{ k }}={{ v | tojson }}" + COMMA + END + ")){{ '\\n' }}```",
}  # fmt: skip


@pytest.mark.parametrize("hand", HANDS)
def test_ways_that_nobody_has_are_learnt_and_proved(hand: str) -> None:
    found = detect(template(each(HANDS[hand])))
    assert found.verified, (found.evidence, [check for check in found.checks if not check.ok])


def test_elements_are_no_calls_where_nothing_says_so() -> None:
    parser = parser_for(learnt(template(each(HANDS["elements only"]))))
    message = parser.parse("It is <b>bold</b> and <i>so</i>.<search><query>a <b>c</b></query></search><end>")
    assert message.content == "It is <b>bold</b> and <i>so</i>."
    assert [(call.name, call.arguments) for call in message.tool_calls] == [("search", {"query": "a <b>c</b>"})]


@pytest.mark.parametrize("law", ["round_trip", "chunking", "nothing_lost"])
@pytest.mark.parametrize("hand", ["name as element", "elements only", "literals", "double brackets"])
def test_the_laws_hold_for_them(hand: str, law: str) -> None:
    getattr(testing, law)(learnt(template(each(HANDS[hand]))), max_examples=20)


def test_thoughts_under_another_key_are_found() -> None:
    before = "{%- if message.my_reasoning_text %}<muse>{{ message.my_reasoning_text }}</muse>{% endif -%}"
    calls = each('<go>{"n": "{{ f.name }}", "a": {{ f.arguments | tojson }}}</go>')
    found = detect(template(calls, before=before))
    assert found.format.reasoning == "<muse>{{text}}</muse>"
    assert found.message_style.reasoning == ("my_reasoning_text",)
    assert found.verified


def test_thoughts_that_are_cut_off_are_guessed() -> None:
    calls = each('<go>{"n": "{{ f.name }}", "a": {{ f.arguments | tojson }}}</go>')
    text = template(calls).replace(
        "{{- message.content or '' -}}", "{{- (message.content or '').split('</muse>')[-1] -}}"
    )
    assert learnt(text).reasoning == "<muse>\n{{text}}\n</muse>"


def chat(assistant: str, prompt: str = "<bot>\n") -> str:
    """A chat template whose assistant turns are written by `assistant`."""
    return (
        "{%- for message in messages -%}{%- if message.role == 'user' -%}<user>\n{{ message.content }}<end>{{ '\\n' }}"
        "{%- elif message.role == 'tool' -%}<tool>\n{{ message.content }}<end>{{ '\\n' }}"
        "{%- else -%}" + assistant + "{%- endif -%}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ " + repr(prompt) + " }}{%- endif -%}"
    )


BOT = "<bot>{{ '\\n' }}"
SAID = "{{ message.content or '' }}"
GO = each("<go>" + JSON_CALL + "</go>")
#: Ways to frame a turn.
FRAMES = {
    "a role of its own for calls": "{%- if message.content -%}" + BOT + SAID + "<end>{{ '\\n' }}{%- endif -%}"
    + each("<calling>{{ '\\n' }}" + JSON_CALL + "<end>{{ '\\n' }}"),
    "each call a turn": "{%- if message.content -%}" + BOT + SAID + "<end>{{ '\\n' }}{%- endif -%}"
    + each(BOT + "<go>" + JSON_CALL + "</go><end>{{ '\\n' }}"),
    "ends that differ": BOT + SAID + GO + "{%- if message.tool_calls -%}<wait>{%- else -%}<end>{%- endif -%}",
    "calls left open": BOT + SAID + GO + "{%- if not message.tool_calls -%}<end>{{ '\\n' }}{%- endif -%}",
    "content framed": BOT + "{%- if message.content -%}<say>" + SAID + "</say>{%- endif -%}" + GO + "<end>",
    "content framed beside calls": BOT + "{%- if message.tool_calls and message.content -%}<plan>" + SAID + "</plan>"
    "{%- else -%}" + SAID + "{%- endif -%}" + GO + "<end>",
    "content framed alone": BOT + "{%- if message.tool_calls -%}" + SAID + GO + "{%- else -%}<say>" + SAID + "</say>"
    "{%- endif -%}<end>",
    "ids and numbers": BOT + SAID + each("<go id={{ call.id }} n={{ loop.index }}>" + JSON_CALL + "</go>") + "<end>",
    "blanks around content": BOT + "{%- if message.content -%}{{ '\\n' }}" + SAID + "{{ '\\n\\n' }}{%- endif -%}" + GO + "<end>",
    "eos": BOT + SAID + GO + "{{ eos_token }}",
}  # fmt: skip


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_that_nobody_has_are_learnt_and_proved(frame: str) -> None:
    found = detect(chat(FRAMES[frame]))
    assert found.verified, (found.evidence, [check for check in found.checks if not check.ok])
    assert [check for check in found.checks if check.status != "passed"] == []


def test_thoughts_that_are_parts_of_the_content_are_found() -> None:
    source = chat(
        BOT + "{%- if message.content is string -%}{{ message.content }}{%- else -%}{%- for part in message.content -%}"
        "{%- if part['type'] == 'text' -%}{{ part['text'] }}"
        "{%- elif part['type'] == 'thinking' -%}[MUSE]{{ part['thinking'] }}[/MUSE]{%- endif -%}"
        "{%- endfor -%}{%- endif -%}" + GO + "<end>"
    )
    found = detect(source)
    assert found.message_style.thoughts == "parts"
    assert found.format.reasoning == "[MUSE]{{text}}[/MUSE]"
    assert [check for check in found.checks if check.status != "passed"] == []
    message = found.message_style.message({"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."})
    assert message["content"] == [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Yes."}]


@pytest.mark.parametrize(
    ("demand", "style"),
    [
        ("{%- if messages[0].role != 'system' -%}{{ raise_exception('system first') }}{%- endif -%}", {"system": True}),
        ("{%- if messages[-1].tool_calls -%}{{ raise_exception('no result') }}{%- endif -%}", {"tool_behind": True}),
        ("{%- if not tools -%}{{ raise_exception('no tools') }}{%- endif -%}", {}),
    ],
)
def test_what_a_template_demands_is_found(demand: str, style: dict[str, object]) -> None:
    found = detect(demand + chat(BOT + SAID + GO + "<end>"))
    assert found.verified, found.evidence
    assert found.message_style.differences() == style
