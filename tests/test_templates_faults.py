"""Templates that hide where a turn, a thought or a call begins, and what families lend to those that show less."""

from __future__ import annotations

from typing import Any

import pytest

import toolparse
from tests.places import shared_folder
from tests.templates_at_hand import Tokenizer, fixture_templates
from toolparse.detect import Detection, detect
from toolparse.format import Format
from toolparse.templates.judging.likeness import words_of
from toolparse.templates.judging.problems import malformed

FIXTURES = fixture_templates()
pytestmark = pytest.mark.usefixtures("no_cache")


def chat(
    call: str = '<call>{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}</call>',
    *,
    head: str = "<bot>",
    before: str = "",
    said: str = "{{ m.content or '' }}",
    between: str = "",
    end: str = "<end>",
    prompt: str = "<bot>",
    system: str = "",
    behind_user: str = "",
) -> str:
    """A chat template with what is odd about it put in."""
    return (
        f"{system}{{%- for m in messages -%}}{{%- if m.role == 'user' -%}}<user>{{{{ m.content }}}}<end>"
        f"{{%- if loop.last or messages[loop.index].role != 'user' -%}}{behind_user}{{%- endif -%}}"
        "{%- elif m.role == 'tool' -%}<tool>{{ m.content }}<end>"
        f"{{%- else -%}}{head}{before}{said}{between}{{%- for t in m.tool_calls or [] -%}}{{%- set f = t.function -%}}"
        f"{call}{{%- endfor -%}}{end}{{%- endif -%}}{{%- endfor -%}}"
        f"{{%- if add_generation_prompt -%}}{prompt}{{%- endif -%}}"
    )


def proved(template: str) -> Detection:
    found = detect(template)
    assert found.verified, found.evidence
    return found


def read(found: Detection, text: str, **options: Any) -> toolparse.ParsedMessage:
    return toolparse.parser_for(found.format).parse(text, **options)


CALL = '<call>{"name": "f", "arguments": {"a": 1}}</call>'


def test_a_closed_empty_thought_in_the_prompt() -> None:
    """Its closing marker opens nothing: what the model goes on with is the answer."""
    found = proved(chat(prompt="<bot><|channel>thought\n<channel|>"))
    message = read(found, f"Hello.{CALL}<end>")
    assert (message.content, message.reasoning, len(message.tool_calls)) == ("Hello.", None, 1)
    message = read(found, f"<|channel>thought\nWell.<channel|>Hello.{CALL}<end>", prompt="<bot>")
    assert (message.reasoning, message.content) == ("Well.", "Hello.")


@pytest.mark.parametrize("shown", [False, True])
def test_a_thought_that_only_the_prompt_opens(shown: bool) -> None:
    """No message holds a thought: what the prompt opens is one all the same."""
    found = proved(chat(prompt="<bot><think>\n", before="<think>\n" if shown else ""))
    message = read(found, f"Hm.\n</think>\n\nHello.{CALL}<end>")
    assert (message.reasoning, message.content, len(message.tool_calls)) == ("Hm.", "Hello.", 1)
    assert ("thought-left-open" in {item.code for item in found.problems}) == shown


def test_blanks_that_a_family_writes_around_a_thought() -> None:
    """A template that pastes the thought as it is still has a model that writes the family's newline behind it."""
    call = '<|tool_call>call:{{ f.name }}{ {%- for k, v in f.arguments | items -%}{{ k }}:<|"|>{{ v }}<|"|>'
    call += "{{ ',' if not loop.last }}{%- endfor -%} }<tool_call|>"
    think = "{%- if m.reasoning_content %}<|channel>thought\n{{ m.reasoning_content }}<channel|>{% endif -%}"
    found = detect(chat(call.replace("{ {%-", "{{ '{' }}{%-").replace("-%} }", "-%}{{ '}' }}"), before=think))
    assert (found.family, found.verified) == ("gemma4", True), found.evidence
    for text in ("<|channel>thought\nWell.<channel|>Hello.", "<|channel>thought\nWell.\n<channel|>Hello."):
        message = read(found, text)
        assert (message.reasoning, message.content) == ("Well.", "Hello.")
    assert (
        toolparse.parser_for(found.format)
        .render([], content="Hello.", reasoning="Well.")
        .startswith("<|channel>thought\nWell.<channel|>Hello.")
    )


def test_a_role_s_header_is_no_thought() -> None:
    found = proved(chat(head="<bot>\n", prompt="<bot>\n"))
    assert found.format.reasoning is None


def test_an_opening_that_only_the_prompt_writes() -> None:
    thought = "{%- if m.reasoning_content -%}{{ m.reasoning_content }}\n[BEGIN FINAL RESPONSE]\n{%- endif -%}"
    found = proved(chat(before=thought, prompt="<bot>Here are my reasoning steps:\n"))
    message = read(found, f"One.\n[BEGIN FINAL RESPONSE]\nHello.{CALL}<end>")
    assert (message.reasoning, message.content.strip(), len(message.tool_calls)) == ("One.", "Hello.", 1)


def test_an_empty_thought_in_every_turn() -> None:
    before = "{%- if '</think>' in m.content -%}{%- endif -%}<think>\n\n</think>\n\n"
    said = "{{ m.content.split('</think>')[-1] }}"
    found = proved(chat(before=before, said=said))
    message = read(found, f"<think>\nHm.\n</think>\n\n{CALL}<end>")
    assert (message.reasoning, message.content, len(message.tool_calls)) == ("Hm.", "", 1)
    assert read(found, f"{CALL}<end>").content == ""


def test_tools_that_are_listed_behind_the_user() -> None:
    listed = "<tools>{% for t in tools or [] %}{{ t.function.name }};{% endfor %}<end>"
    found = proved(chat(behind_user=listed))
    assert "fnalpha" not in "".join(found.format.sources())


def test_a_frame_of_content_that_is_written_empty_beside_calls() -> None:
    said = (
        "{%- if m.tool_calls -%}<|python_start|>{{ m.content }}<|python_end|>{%- else -%}{{ m.content }}{%- endif -%}"
    )
    found = proved(chat(said=said))
    assert read(found, f"{CALL}<end>").content == ""
    assert read(found, f"<|python_start|>Hello.<|python_end|>{CALL}<end>").content == "Hello."


def test_calls_behind_the_end_of_the_turn_are_the_template_s_doing() -> None:
    found = proved(chat(between="{%- if m.tool_calls and m.content -%}<end>{%- endif -%}"))
    assert "calls-behind-end" in {item.code for item in found.problems}


def test_a_turn_without_the_usual_header() -> None:
    head = "{%- if not m.tool_calls -%}<bot>{%- endif -%}"
    call = '<calls>{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}</calls>'
    found = proved(chat(call, head=head))
    assert len(read(found, '<calls>{"name": "f", "arguments": {}}</calls><end>').tool_calls) == 1


def test_calls_numbered_from_one() -> None:
    call = "<call>functions.{{ f.name }}:{{ loop.index }}<args>{{ f.arguments | tojson }}</call>"
    found = proved(chat(call))
    message = read(found, "<call>functions.f:1<args>{}</call><call>functions.g:2<args>{}</call><end>")
    assert [item.name for item in message.tool_calls] == ["f", "g"]


def test_malformed_json_is_told_and_the_near_family_read_beside() -> None:
    call = '<tool_call>\n{"name": "{{ f.name }}, "arguments": {{ f.arguments | tojson }}"}\n</tool_call>'
    found = detect(chat(call, end="<|im_end|>"))
    assert "writes-malformed-json" in {item.code for item in found.problems}
    assert any("nearly 'hermes'" in line for line in found.evidence)
    (right,) = read(found, '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>').tool_calls
    assert (right.name, right.arguments, right.ok) == ("f", {"a": 1}, True)


def test_what_the_prompt_shows_is_read_beside_what_the_template_writes() -> None:
    system = (
        '{%- if tools -%}Call functions as functools[{{ \'{\' }}"name": [function name], "arguments": [arguments as JSON]'
        "{{ '}' }}, ...]{%- for t in tools -%}{{ t | tojson }}{%- endfor -%}{%- endif -%}"
    )
    found = proved(chat('{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}', system=system))
    message = read(found, 'functools[{"name": "f", "arguments": {"a": 1}}]<end>')
    assert [(item.name, item.arguments) for item in message.tool_calls] == [("f", {"a": 1})]
    assert message.content == ""


def test_objects_between_markers_that_only_the_prompt_shows() -> None:
    system = "{%- if tools -%}Write <do_it>{{ '{' }}\"name\": <name>, \"arguments\": <arguments>{{ '}' }}</do_it>.{%- endif -%}"
    found = proved(chat('{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}', system=system))
    (one,) = read(found, '<do_it>\n{"name": "f", "arguments": {}}\n</do_it><end>').tool_calls
    assert one.name == "f"


@pytest.mark.parametrize("family", sorted(FIXTURES))
def test_a_family_lends_its_ends(family: str) -> None:
    """Whatever ends a turn in the family ends it in a template's parser, unless the pictures hold that very marker."""
    found = detect(FIXTURES[family])
    own = toolparse.get(found.format.name) if found.how == "behaviour" and found.format is not None else None
    if not isinstance(own, Format):
        pytest.skip("no family's picture")
    pictures = "\n".join(source for source in found.format.sources() if source not in found.format.ends)
    assert [end for end in own.ends if end not in found.format.ends and end not in pictures] == []


def test_what_stands_between_calls_is_lent_where_only_one_is_written() -> None:
    call = '{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}'
    text = chat(call, end="<|eot_id|>").replace(
        "{%- set f =", "{%- if loop.index > 1 -%}{{ raise_exception('one call only') }}{%- endif -%}{%- set f ="
    )
    found = detect(text)
    assert found.format.name == "llama3-json"
    message = read(found, '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}<|eom_id|>')
    assert ([item.name for item in message.tool_calls], message.content) == (["f", "g"], "")


def test_calls_under_the_keys_of_old() -> None:
    for key, one in (("function_call", "m.function_call"), ("function_calls", "m.function_calls[0]")):
        call = f"<call>{{{{ {one}.name }}}}<args>{{{{ {one}.arguments | tojson }}}}</call>"
        calls = f"{{%- if m.{key} -%}}{call}{{%- endif -%}}"
        text = (
            chat().partition("{%- for t in")[0]
            + calls
            + "<end>{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<bot>{%- endif -%}"
        )
        found = detect(text)
        assert found.verified, found.evidence
        assert found.message_style.call == key
        message = read(found, "<call>f<args>{}</call><end>")
        made = found.message_style.message(message)
        assert made[key] in ({"name": "f", "arguments": {}}, [{"name": "f", "arguments": {}}])
        if key == "function_call":
            with pytest.raises(ValueError, match="one call a message"):
                found.message_style.message({"tool_calls": [{"function": {"name": "f", "arguments": {}}}] * 2})


def test_tools_in_a_message_of_their_own() -> None:
    demand = "{%- if messages[0].role != 'functions' -%}{{ raise_exception('functions first') }}{%- endif -%}"
    text = demand + chat().replace(
        "{%- elif m.role == 'tool'", "{%- elif m.role == 'functions' -%}{{ m.content }}{%- elif m.role == 'tool'"
    )
    found = proved(text)
    assert found.message_style.tools == "role"
    (first,) = found.message_style.first_messages([{"type": "function", "function": {"name": "f"}}])
    assert first["role"] == "functions"
    assert found.message_style.tool_definitions([{"type": "function", "function": {"name": "f"}}]) == []


GPT_OSS = ("<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>")


@pytest.mark.parametrize(
    ("tokenizer", "family"),
    [
        (Tokenizer(None, GPT_OSS), "harmony"),
        (Tokenizer(None, GPT_OSS, name_or_path="openai/gpt-oss-20b"), "harmony"),
        (Tokenizer(None, ("<tool_call>", "</tool_call>")), "hermes"),
        (Tokenizer(None, ("<tool_call>", "</tool_call>"), name_or_path="Qwen/Qwen3-0.6B"), "qwen"),
        (Tokenizer(None, ("<tool_call>", "</tool_call>"), name_or_path="LGAI/EXAONE-4.0-1.2B"), "exaone4"),
        (Tokenizer(None, ("<|reserved_special_token_249|>", "<|reserved_special_token_247|>", "<|eot_id|>")), None),
        (Tokenizer(None, name_or_path="google/gemma-2-9b"), None),
    ],
)
def test_evidence_is_weighed_where_no_template_is(tokenizer: Tokenizer, family: str | None) -> None:
    """Names before markers, a root family before its variants, reserved tokens not at all."""
    found = detect(tokenizer)
    assert (found.format.name if found.format else None) == family
    assert not found.verified


def test_an_unverified_format_is_never_silent() -> None:
    with pytest.warns(toolparse.errors.UnverifiedFormatWarning, match="'harmony', which is not proved"):
        toolparse.parser_for(Tokenizer(None, GPT_OSS))


def test_words_and_malformed_pictures() -> None:
    hermes = toolparse.get("hermes")
    assert words_of(hermes) == ("<tool_call>", "name", "arguments", "</tool_call>")
    for entry in toolparse.families().values():
        assert not (isinstance(entry, Format) and malformed(entry)), entry.name
    assert malformed(Format("bad", call='<c>{"name": "{{name}}, "arguments": {{arguments}}}</c>'))


SHARED = shared_folder()
NEW = sorted((SHARED / "new_templates").glob("*.jinja")) if SHARED else []


@pytest.mark.real
@pytest.mark.skipif(not NEW, reason="no folder of further real templates: set TOOLPARSE_SHARED")
@pytest.mark.parametrize("file", NEW, ids=lambda file: file.stem)
def test_templates_that_were_misread(file: Any) -> None:
    proved(file.read_text(encoding="utf-8"))


def test_strings_that_a_family_escapes_and_its_template_does_not() -> None:
    file = next((path for path in NEW if path.stem == "llamacpp__LFM2.5-8B-A1B"), None)
    if file is None:
        pytest.skip("no folder of further real templates: set TOOLPARSE_SHARED")
    found = detect(file.read_text(encoding="utf-8"))
    told = {
        r"'a\nb'": "a\nb",
        r"'it\'s'": "it's",
        r"'pattern \\'": "pattern \\",
        "'say 'hi' to'": "say 'hi' to",
    }
    for written, value in told.items():
        (call,) = read(found, f"<|tool_call_start|>[f(a={written})]<|tool_call_end|>").tool_calls
        assert (call.arguments, call.ok) == ({"a": value}, True), written


MESSAGES = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}<u>{{ m.content }}<off>"
    "{%- elif m.role == 'tool' -%}<t>{{ m.content }}<off>"
    "{%- else -%}"
    "{%- if m.reasoning_content -%}<a>THOUGHT{{ m.reasoning_content }}<off>{%- endif -%}"
    "{%- if m.content -%}<a>SAID{{ m.content }}<off>{%- endif -%}"
    "{%- for t in m.tool_calls or [] -%}<a>to={{ t.function.name }}<go>{{ t.function.arguments | tojson }}<off>{%- endfor -%}"
    "<stop>{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<a>{%- endif -%}"
)


def test_a_message_of_content_that_no_marker_opens() -> None:
    """A newline is all that tells content from `/think` behind the role: the newline is markup."""
    text = MESSAGES.replace("THOUGHT", "/think{{ '\\n' }}").replace("SAID", "{{ '\\n' }}")
    found = proved(text)
    message = read(found, '/think\nHm.<off><a>\nHello,\nyou.<off><a>to=f<go>{"a": 1}<off><stop>', tools=[_f])
    assert (message.reasoning, message.content, len(message.tool_calls)) == ("Hm.", "Hello,\nyou.", 1)
    assert not message.errors


def test_content_is_framed_otherwise_behind_a_thought() -> None:
    said = "{%- if m.reasoning_content -%}<final>{%- endif -%}<said>"
    found = proved(MESSAGES.replace("THOUGHT", "<hm>").replace("SAID", said))
    for text in ("<said>Hello.<off><stop>", "<hm>Well.<off><a><final><said>Hello.<off><stop>"):
        assert read(found, text).content == "Hello."


def test_a_thought_behind_content() -> None:
    found = proved(chat(between="{%- if m.thought -%}<hm>{{ m.thought }}</hm>{%- endif -%}"))
    assert found.format.reasoning == "<hm>{{text}}</hm>"


def test_what_closes_a_turn_is_not_what_leads_to_calls() -> None:
    """The template ends the turn behind content, and writes the calls behind that: a model that calls does not."""
    found = proved(chat(between="{%- if m.content and m.tool_calls -%}<end>\n{%- endif -%}"))
    assert "calls-behind-end" in {item.code for item in found.problems}
    assert len(read(found, f"Hello.{CALL}<end>").tool_calls) == 1


def test_a_header_that_only_content_has() -> None:
    """Calls alone begin with a marker that no tag closes: it is theirs, and no header of another role."""
    said = "{%- if m.content -%}<bot>{{ m.content }}{%- endif -%}"
    found = proved(
        chat(
            '{"name": "{{ f.name }}", "with": {{ f.arguments | tojson }}}',
            head="",
            said=said,
            between="{%- if m.tool_calls -%}{{ '\\n<|go|>\\n' }}{%- endif -%}",
        )
    )
    message = read(found, 'Hello.\n<|go|>\n{"name": "f", "with": {"a": 1}}<end>')
    assert (message.content, len(message.tool_calls)) == ("Hello.", 1)


def test_an_empty_frame_of_content_in_markers_that_say_end() -> None:
    said = "{%- if m.tool_calls -%}<|said|>{{ m.content or '' }}<|end_said|>{%- else -%}{{ m.content }}{%- endif -%}"
    found = proved(chat(said=said))
    for content in ("", "Hello."):
        message = read(found, f"<|said|>{content}<|end_said|>{CALL}<end>")
        assert (message.content, len(message.tool_calls)) == (content, 1)


def test_what_closes_a_value_ends_no_turn() -> None:
    """One call a message, and what closes it right behind its brace; nothing else ends the turn."""
    call = '{%- if loop.first -%}$$go$${"name": "{{ f.name }}", "with": {{ f.arguments | tojson }}}$$/go$${%- endif -%}'
    found = proved(chat(call, end=""))
    assert read(found, '$$go$${"name": "f", "with": {"a": {"b": 1}}}$$/go$$').tool_calls[0].arguments == {"a": {"b": 1}}


def test_content_that_is_framed_where_calls_beside_it_vanish() -> None:
    """Nothing shows what stands between content and calls: the end of the turn is no part of the frame."""
    each = "{%- for t in m.tool_calls or [] -%}" + CALL.replace('"f"', '"{{ t.function.name }}"').replace(
        '{"a": 1}', "{{ t.function.arguments | tojson }}"
    )
    found = proved(
        chat(
            "", said="{%- if m.content -%}<say>{{ m.content }}</say>{%- else -%}" + each + "{%- endfor -%}{%- endif -%}"
        )
    )
    assert (found.format.content, found.format.ends) == ("<say>{{text}}</say>", ("<end>",))
    assert "calls-dropped-beside-content" in {item.code for item in found.problems}


def test_white_space_behind_framed_content() -> None:
    found = proved(chat(said="<said>{{ '\\n' ~ (m.content or '') ~ '\\n' }}"))
    assert read(found, "<said>\nHello.\n<end>").content == "Hello."


@pytest.mark.parametrize("marks", [("$$tool$$", "$$/tool$$"), ("@@go:", "@@off:")])
def test_keys_without_quotes_between_marks_that_are_no_tags(marks: tuple[str, str]) -> None:
    values = "{%- for k, v in f.arguments.items() -%}{{ k }}:<q>{{ v }}<q>{{ '' if loop.last else ',' }}{%- endfor -%}"
    found = proved(chat(f"{marks[0]}call:{{{{ f.name }}}}{{{{ '{{' }}}}{values}{{{{ '}}' }}}}{marks[1]}"))
    (call,) = read(found, f"{marks[0]}call:f{{a:<q>x<q>}}{marks[1]}<end>").tool_calls
    assert (call.name, call.arguments) == ("f", {"a": "x"})


@pytest.mark.parametrize(
    "switch", ["deep_thought is defined and deep_thought", "thinking_mode == 'long'", "(effort_of_thought or 0) == 3"]
)
def test_switches_that_only_this_template_has(switch: str) -> None:
    """A thought that the prompt opens under a switch of the template's own."""
    found = proved(chat(prompt=f"<bot>{{%- if {switch} -%}}<hm>{{%- endif -%}}"))
    assert "answers-without-thought" in {item.code for item in found.problems}
    message = read(found, f"Well.</hm>Hello.{CALL}<end>", prompt="<user>Hi<end><bot><hm>")
    assert (message.reasoning, message.content.strip(), len(message.tool_calls)) == ("Well.", "Hello.", 1)


def test_what_a_prompt_begins_and_nobody_knows_is_told() -> None:
    found = proved(chat(prompt="<bot>{%- if thinking_mode == 'plan' -%}The plan is this: {%- endif -%}"))
    assert "prompt-not-read" in {item.code for item in found.problems}


def _f(a: int) -> None:
    """A tool.

    Args:
        a: A number.
    """
