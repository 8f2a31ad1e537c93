"""Message styles: found by trying, and right for the template that they were found for."""

from __future__ import annotations

import json

import pytest

import toolparse
from tests.templates_at_hand import fixture_templates
from toolparse.parser import Parser
from toolparse.templates.induction.message_style import MessageStyle
from toolparse.templates.induction.probe import BOS, EOS, Prober, Turn, after_user, find_style
from toolparse.templates.rendering.environment import compile_template

FIXTURES = fixture_templates()

LOOP = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}<u>{{ m.content }}{%- else -%}<a>BODY</a>{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<a>{%- endif -%}"
)
EACH = "{%- for t in m.tool_calls or [] -%}"


def calls(arguments: str = "{{ t.function.arguments | tojson }}") -> str:
    """What writes every call, its arguments so."""
    return EACH + '<c>{"name": "{{ t.function.name }}", "arguments": ' + arguments + "}</c>{%- endfor -%}"


def found_style(body: str) -> MessageStyle:
    prober, _ = find_style(Prober(compile_template(LOOP.replace("BODY", body)), MessageStyle()))
    return prober.style


def test_the_usual_style_needs_no_search() -> None:
    prober, _ = find_style(Prober(compile_template(FIXTURES["hermes"]), MessageStyle()))
    assert prober.style == MessageStyle()
    assert prober.renders == 2  # a turn with a call, and its result behind it


def test_arguments_as_text() -> None:
    assert found_style(calls("{{ '' + t.function.arguments }}")).arguments == "string"


def test_json_is_preferred_to_python_s_repr() -> None:
    assert found_style(calls("{{ t.function.arguments }}")).arguments == "string"


def test_content_that_must_be_null() -> None:
    body = "{%- if m.content is none -%}" + calls() + "{%- endif -%}{{- m.content or '' -}}"
    assert found_style(body).content == "null"
    assert "needs-null" in {item.code for item in toolparse.detect(LOOP.replace("BODY", body)).problems}


def test_content_in_parts() -> None:
    body = "{%- for p in m.content -%}{{ p.text }}{%- endfor -%}" + calls()
    source = LOOP.replace("BODY", body).replace("<u>{{ m.content }}", "<u>{{ m.content[0].text }}")
    prober, _ = find_style(Prober(compile_template(source), MessageStyle()))
    assert prober.style.parts


def test_ids_that_hold_the_name() -> None:
    body = EACH + "<c>{{ t.id }}<w>{{ t.function.arguments | tojson }}</c>{%- endfor -%}"
    assert "{{name}}" in found_style(body).new_id


def test_variables_that_must_be_there() -> None:
    source = "{{ 'Tools: ' + functions }}" + LOOP.replace("BODY", calls())
    prober, _ = find_style(Prober(compile_template(source), MessageStyle()))
    assert dict(prober.style.variables) == {"functions": "tools as text"}


def test_what_cannot_be_found_ends_after_a_bounded_number_of_renders() -> None:
    prober, _ = find_style(Prober(compile_template("{{ raise_exception('no') }}"), MessageStyle()))
    assert prober.renders < 100


@pytest.mark.parametrize("family", FIXTURES)
def test_a_message_built_in_the_style_renders_and_reads_back(family: str) -> None:
    found = toolparse.detect(FIXTURES[family])
    style = found.message_style
    call = {"name": "get_weather", "arguments": {"city": "Oslo"}}
    message = style.message({"content": "", "tool_calls": [call]})
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    template = compile_template(FIXTURES[family], mutable=style.mutable)
    user = {"role": "user", "content": style.text("Hi")}
    variables = {
        "tools": style.tool_definitions([tool]),
        "bos_token": "",
        "eos_token": "</s>",
        **style.extra_variables([tool]),
    }
    prompt = template.render(messages=[user], add_generation_prompt=True, **variables)
    text = template.render(messages=[user, message], add_generation_prompt=False, **variables)
    shared = next((at for at, pair in enumerate(zip(prompt, text, strict=False)) if pair[0] != pair[1]), len(prompt))
    completion = text[shared:]
    parsed = Parser(found.format).parse(completion, tools=[tool])
    assert [(one.name, one.arguments) for one in parsed.tool_calls] == [("get_weather", {"city": "Oslo"})]


def test_messages_are_built_from_parsed_messages_and_from_dicts() -> None:
    parsed = Parser(toolparse.get("hermes")).parse(
        'Sure.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    )
    style = MessageStyle(arguments="string", content="null")
    message = style.message(parsed)
    assert message["content"] == "Sure."
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    results = style.tool_results(parsed, ["42"])
    assert results[0]["tool_call_id"] == message["tool_calls"][0]["id"]
    assert results[0]["name"] == "f"
    assert style.message({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]})["content"] is None
    with pytest.raises(ValueError, match="1 calls need 1 results"):
        style.tool_results(parsed, [])


TURNS = (
    Turn((("get_weather", {"city": "Oslo"}),)),
    Turn((), "Hello."),
    Turn((("get_weather", {"city": "Oslo"}),), "A moment."),
    Turn((("get_weather", {"city": "Oslo"}), ("get_time", {})), "", "First this."),
)


@pytest.mark.parametrize(
    "name", [*sorted(FIXTURES), pytest.param("", marks=pytest.mark.real, id="every real template")]
)
def test_styles_hold_through_transformers(name: str, request: pytest.FixtureRequest) -> None:
    """What `apply_chat_template` writes is what detection saw, or the problems say that it can't be."""
    transformers = pytest.importorskip("transformers", reason="apply_chat_template itself is what is asked")
    tokenizers = pytest.importorskip("tokenizers", reason="apply_chat_template itself is what is asked")
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[U]": 0}, unk_token="[U]"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, bos_token=BOS, eos_token=EOS)
    named = {name: FIXTURES[name]} if name else request.getfixturevalue("real_templates")
    for origin, text in named.items():
        found = toolparse.detect(text, isolation="off")
        style, codes = found.message_style, {item.code for item in found.problems}
        if style is None or codes & {"needs-null", "mutates-lists"}:
            continue
        prober = Prober(compile_template(text), style)
        variables = style.extra_variables(prober.tools) if style.variables else {}
        for turn in TURNS:
            full = prober.full(turn)
            if full is None:
                continue
            written = tokenizer.apply_chat_template(
                prober.messages(turn),
                chat_template=text,
                tools=style.tool_definitions(prober.tools) or None,
                tokenize=False,
                **variables,
            )
            # Before that a template may write the date.
            assert written[after_user(written) :] == full[after_user(full) :], (origin, turn)


def test_content_that_may_be_missing_is_left_out_and_not_null() -> None:
    body = "{%- if not m.content is defined or m.content is none -%}" + calls()
    assert found_style(body + "{%- endif -%}{{- m.content or '' -}}").content == "absent"
