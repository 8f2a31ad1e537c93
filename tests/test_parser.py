"""The public face: sources, results, streams, batches, functions as parsers, errors."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

import toolparse
from tests.conftest import sliced, streamed
from toolparse import CallEnded, CallStarted, ContentDelta, Format, FunctionParser, ToolCall, testing
from toolparse.events import ArgumentsDelta
from toolparse.parser import Parser

HERMES = 'Hi.\n<tool_call>\n{"name": "search", "arguments": {"query": "x", "limit": 3}}\n</tool_call>'


def search(query: str, limit: int = 10) -> str:
    """Search the web.

    Args:
        query: What to look for.
        limit: How many results.
    """
    return f"{query} {limit}"


def test_a_message_has_content_calls_and_spans() -> None:
    message = toolparse.parse(HERMES, "hermes", [search])
    (call,) = message.tool_calls
    assert (call.name, call.arguments, call.id, call.index, call.ok) == (
        "search",
        {"query": "x", "limit": 3},
        None,
        0,
        True,
    )
    assert message.content == "Hi."
    assert message.reasoning is None
    assert message.errors == ()
    assert not message.truncated
    assert HERMES[call.span.start : call.span.end] == call.raw
    assert [span.kind for span in message.spans] == ["content", "markup", "call"]
    assert message.spans[0].token_start is None


def test_to_message_fills_in_ids() -> None:
    message = toolparse.parse(HERMES, "hermes").to_message()
    assert message == {
        "role": "assistant",
        "content": "Hi.",
        "tool_calls": [
            {
                "type": "function",
                "id": "call_0",
                "function": {"name": "search", "arguments": {"query": "x", "limit": 3}},
            }
        ],
    }


def test_to_message_leaves_out_what_can_not_be_run() -> None:
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    bodies = ('{"name": "f", "arguments": {"n": 1}}', '{"name": "f", "arguments": {"n": "x"}}', '{"name": "f", "arg')
    text = "\n".join(f"<tool_call>{body}</tool_call>" for body in bodies)
    template = (
        "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{%- for c in m.tool_calls or [] %}<tool_call>\n"
        '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>{%- endfor %}'
        "<|im_end|>\n{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
    )
    for parser in (toolparse.parser_for("hermes"), toolparse.parser_for(template)):
        message = parser.parse(text, tools=[tool])
        assert [call.ok for call in message.tool_calls] == [True, False, False]
        for made in (message.to_message(), parser.to_message(message)):
            assert [call["function"]["arguments"] for call in made["tool_calls"]] == [{"n": 1}]
        raw = message.tool_calls[2].raw
        for made in (message.to_message(broken="keep"), parser.to_message(message, broken="keep")):
            assert [call["function"]["arguments"] for call in made["tool_calls"]] == [{"n": 1}, {"n": "x"}, raw]
    broken = toolparse.parse(text[-45:], "hermes")
    assert "tool_calls" not in broken.to_message()


def test_ids_are_made_in_the_form_that_the_family_accepts() -> None:
    mistral = toolparse.parser_for("mistral-v3")
    text = mistral.render([("a", {}), ("b", {})])
    ids = [call["id"] for call in mistral.to_message(mistral.parse(text))["tool_calls"]]
    assert [len(id) for id in ids] == [9, 9]
    kimi = toolparse.parser_for("kimi-k2")
    calls = kimi.to_message(kimi.parse(kimi.render([("a", {}), ("b", {})])))["tool_calls"]
    assert [call["id"] for call in calls] == ["functions.a:0", "functions.b:1"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ('{"query": "x", "limit": "three"}', "wrong-type", "limit"),
        ('{"limit": 3}', "missing-argument", "query"),
        ('{"query": "x", "limt": 3}', "unexpected-argument", "limt"),
    ],
)
def test_issues_say_what_a_model_can_act_on(arguments: str, code: str, words: str) -> None:
    text = f'<tool_call>\n{{"name": "search", "arguments": {arguments}}}\n</tool_call>'
    (call,) = toolparse.parse(text, "hermes", [search]).tool_calls
    assert not call.ok
    assert [issue.code for issue in call.issues] == [code]
    assert words in call.issues[0].message
    assert call.issues[0].call_index == 0


def test_an_unknown_tool_is_a_call_that_is_not_ok() -> None:
    text = '<tool_call>\n{"name": "serch", "arguments": {"query": "x"}}\n</tool_call>'
    (call,) = toolparse.parse(text, "hermes", [search]).tool_calls
    assert not call.ok
    assert call.issues[0].message == "unknown tool 'serch'; did you mean 'search'?"


def test_a_cut_off_call_is_never_ok() -> None:
    message = toolparse.parse(HERMES[:-30], "hermes", [search])
    (call,) = message.tool_calls
    assert message.truncated
    assert call.truncated
    assert not call.ok


def test_repairs_are_noted_or_refused() -> None:
    text = "<tool_call>\n{'name': 'search', 'arguments': {'query': 'x',}}\n</tool_call>"
    (call,) = toolparse.parser_for("hermes").parse(text).tool_calls
    assert call.ok
    assert [issue.code for issue in call.issues] == ["repaired"]
    format = toolparse.get("hermes")
    (call,) = Parser(format, repair=False).parse(text).tool_calls
    assert not call.ok


def test_integers_are_exact_and_the_last_duplicate_wins() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"n": 1, "n": ' + "9" * 50 + "}}\n</tool_call>"
    (call,) = toolparse.parser_for("hermes").parse(text).tool_calls
    assert call.arguments == {"n": int("9" * 50)}
    assert [issue.code for issue in call.issues] == ["duplicate-key"]
    assert call.ok


def test_huge_integers_are_exact() -> None:
    digits = "7" * 6000
    text = '<tool_call>\n{"name": "f", "arguments": {"n": ' + digits + "}}\n</tool_call>"
    (call,) = toolparse.parser_for("hermes").parse(text).tool_calls
    assert call.ok
    assert call.arguments["n"] % 10**6 == 777777
    assert call.arguments["n"] > 10**5998


@pytest.mark.parametrize("word", ["NaN", "Infinity", "1e999"])
def test_what_is_not_json_is_malformed(word: str) -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"n": ' + word + "}}\n</tool_call>"
    (call,) = toolparse.parser_for("hermes").parse(text).tool_calls
    assert not call.ok
    assert call.issues[0].code == "malformed-arguments"


def test_a_stream_tells_what_it_knows_as_soon_as_it_knows_it() -> None:
    stream = toolparse.parser_for("hermes").stream()
    assert stream.feed("Hel") == [ContentDelta("Hel")]
    assert stream.feed('lo.\n<tool_call>\n{"name": "sea') == [ContentDelta("lo.")]
    assert stream.feed('rch", "arguments": {"q": "a') == [CallStarted(0, "search"), ArgumentsDelta(0, '{"q": "a')]
    assert stream.feed("bc") == [ArgumentsDelta(0, "bc")]
    events = stream.feed('"}}\n</tool_call>')
    assert events[0] == ArgumentsDelta(0, '"}')
    assert isinstance(events[-1], CallEnded)
    assert stream.close().content == "Hello."
    with pytest.raises(ValueError, match="closed"):
        stream.feed("x")


def test_each_piece_has_events_of_its_own() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"a": "10", "n": [1, 2]}}\n</tool_call>'
    stream = toolparse.parser_for("hermes").stream()
    kept = [stream.feed(char) for char in text]
    call = stream.close().tool_calls[0]
    events = [event for said in [*kept, stream.finish()] for event in said]
    assert len({id(said) for said in kept}) == len(kept)
    assert [event.call for event in events if isinstance(event, CallEnded)] == [call]
    assert json.loads("".join(event.json for event in events if isinstance(event, ArgumentsDelta))) == call.arguments


def test_arguments_written_as_a_string_are_said_decoded() -> None:
    text = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    text = text.format(json.dumps('{"a": "b", "c": [1]}'))
    for size in (1, 2, 7, 500):
        stream = toolparse.parser_for("deepseek-v31").stream()
        events = [event for piece in sliced(text, size) for event in stream.feed(piece)]
        call = stream.close().tool_calls[0]
        said = "".join(event.json for event in events if isinstance(event, ArgumentsDelta))
        assert call.ok
        assert json.loads(said) == call.arguments == {"a": "b", "c": [1]}


def test_what_a_stream_waits_with_is_not_lost() -> None:
    parser = toolparse.parser_for("hermes")
    for text in ("I say <tool_c", "<tool_call>\n{", '<tool_call>\n{"na', '<tool_call>\n{"name": "f", "arg', "a </thi"):
        for size in (1, 3, 50):
            testing.assert_same_message(parser.parse(text), streamed(parser, sliced(text, size)))


def test_what_looks_like_a_marker_waits_no_longer_than_one() -> None:
    value = "one\ntwo </para three\n</div> four\n" + "and\nso\non\n" * 5
    stream = toolparse.parser_for("qwen3-coder").stream()
    stream.feed("<tool_call>\n<function=f>\n<parameter=a>\n")
    said, late = "", []
    for at, char in enumerate(value):
        said += "".join(event.json for event in stream.feed(char) if isinstance(event, ArgumentsDelta))
        late.append(len(json.dumps(value[: at + 1])) - len(said.removeprefix('{"a": ')))
    assert max(late) <= len("\\n</parameter>") + 2
    assert sum(delay > 4 for delay in late) < 25  # a newline, which may be the markup's, is 4: the rest is said at once
    content = toolparse.parser_for("hermes").stream()
    assert [content.feed(piece) for piece in ("a <", "b", " <to", "day")] == [
        [ContentDelta("a")],
        [ContentDelta(" <b")],
        [],
        [],
    ]
    assert content.feed(" I go") == [ContentDelta(" <today I go")]


def test_a_parser_travels_pickled() -> None:
    parser = toolparse.parser_for("hermes")
    text = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert pickle.loads(pickle.dumps(parser)).parse(text) == parser.parse(text)
    assert pickle.loads(pickle.dumps(parser)).parse(text) == parser.parse(text)  # after it has read, too


def test_the_prompt_tells_who_opened_the_thought() -> None:
    parser = toolparse.parser_for("qwen")
    text = "hm\n</think>\n\nYes."
    opened = parser.parse(text, prompt="<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n<think>\n")
    assert (opened.reasoning, opened.content) == ("hm", "Yes.")
    closed = parser.parse("Yes.", prompt="<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert (closed.reasoning, closed.content) == (None, "Yes.")


def test_the_prompt_may_open_a_call() -> None:
    parser = toolparse.parser_for("hermes")
    prompt = '<|im_start|>assistant\n<tool_call>\n{"name": "search", "arguments": '
    message = parser.parse('{"query": "x"}}\n</tool_call>', prompt=prompt)
    assert [(c.name, c.arguments, c.ok) for c in message.tool_calls] == [("search", {"query": "x"}, True)]


def test_a_draft_in_a_closed_thought_is_no_call() -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    parser = toolparse.parser_for("qwen")
    draft = parser.parse(f"<think>\nmaybe {call}\n</think>\n\nNo.")
    assert draft.tool_calls == ()
    assert draft.content == "No."
    unclosed = parser.parse(f"<think>\nnow {call}")
    assert [c.name for c in unclosed.tool_calls] == ["f"]


def test_batches_keep_their_order_and_say_when_prompts_do_not_fit() -> None:
    parser = toolparse.parser_for("hermes")
    texts = [HERMES.replace("Hi.", f"Hi {number}.") for number in range(5)]
    assert [m.content for m in parser.parse_batch(texts)] == [f"Hi {number}." for number in range(5)]
    with pytest.raises(ValueError, match="5 items but 1 prompts"):
        parser.parse_batch(texts, prompts=[None])


def read_lines(text: str) -> list[tuple[str, dict[str, Any]]]:
    return [(line[5:], {}) for line in text.splitlines() if line.startswith("call ")]


def test_a_function_is_a_parser_like_any_other() -> None:
    parser = toolparse.parser_for(FunctionParser(read_lines, name="lines"))
    message = parser.parse("call a\ncall b")
    assert [call.name for call in message.tool_calls] == ["a", "b"]
    stream = parser.stream()
    stream.feed("call ")
    stream.feed("a")
    assert [call.name for call in stream.close().tool_calls] == ["a"]
    (bad,) = toolparse.parser_for(FunctionParser(read_lines), tools=[search]).parse("call nothing").tool_calls
    assert not bad.ok


@pytest.mark.usefixtures("own_registry")
def test_registering_names_and_templates() -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}<<test-only>>"
    toolparse.register(FunctionParser(read_lines, name="test-lines"), templates=[template], overwrite=True)
    assert toolparse.get("test_lines") is toolparse.families()["test-lines"]
    assert toolparse.detect(template).format is toolparse.get("test-lines")
    with pytest.raises(ValueError, match="already registered"):
        toolparse.register(FunctionParser(read_lines, name="test-lines"))


def test_an_unknown_name_says_what_to_do() -> None:
    with pytest.raises(toolparse.UnknownFormat, match="did you mean 'hermes'"):
        toolparse.parser_for("hermess")


def test_names_may_be_spelled_with_underscores() -> None:
    assert toolparse.get("qwen3_xml") is toolparse.get("qwen3-coder")
    assert toolparse.get("kimi_k2") is toolparse.get("kimi-k2")


def test_ids_without_a_tokenizer_say_what_to_do() -> None:
    with pytest.raises(TypeError, match="no tokenizer"):
        toolparse.parser_for("hermes").parse([1, 2, 3])


def test_render_refuses_by_name() -> None:
    parser = toolparse.parser_for("qwen3-coder")
    with pytest.raises(toolparse.RenderError, match="argument 'text' of 'write'"):
        parser.render([("write", {"text": "x\n</parameter>\n</function>\n</tool_call>"})])


def test_calls_in_any_usual_form() -> None:
    parser = toolparse.parser_for("hermes")
    forms: list[Any] = [
        ToolCall("f", {"a": 1}),
        ("f", {"a": 1}),
        {"name": "f", "arguments": {"a": 1}},
        {"type": "function", "id": "x", "function": {"name": "f", "arguments": '{"a": 1}'}},
    ]
    assert len({parser.render([form]) for form in forms}) == 1


def test_a_declared_format_needs_nothing_else() -> None:
    mine = Format("mine", call="@call {{name}} {{arguments}} @end", between="\n")
    message = toolparse.parser_for(mine).parse('ok @call f {"a": 1} @end')
    assert [(c.name, c.arguments) for c in message.tool_calls] == [("f", {"a": 1})]


@pytest.mark.parametrize("rest", ["{{arguments}}", " {{arguments}};", ":\n{{params}}"])
def test_a_picture_that_can_t_keep_calls_apart_is_refused(rest: str) -> None:
    """Law 5 can't hold where nothing announces the next call; it can where a call is a message, or the only one."""
    call, param = "{{name}}" + rest, "{{key}}={{value}}\n"
    with pytest.raises(toolparse.FormatError, match="nothing stands before the name"):
        Format("mine", call=call, param=param)
    Format("mine", call=call, param=param, section="<calls>{{calls}}</calls>")
    Format("mine", call=call, param=param, between_messages="<|assistant|>")
    Format("mine", call=call, param=param, parallel=False)


def test_a_wrong_declaration_shows_the_place() -> None:
    with pytest.raises(toolparse.FormatError, match="unknown hole {{nome}}") as error:
        Format("x", call="<a>{{nome}}</a>")
    assert error.value.args[0].endswith("<a>{{nome}}</a>\n       ^")


def test_a_grammar_and_a_response_template_follow_from_the_format() -> None:
    parser = toolparse.parser_for("hermes", tools=[search])
    grammar = parser.grammar()
    assert "root ::=" in grammar
    assert "query" in grammar
    with pytest.raises(TypeError, match="a grammar needs tools"):
        toolparse.parser_for("hermes").grammar()
    assert parser.to_response_template()
    with pytest.raises(toolparse.ExportError, match="pythonic"):
        toolparse.parser_for("pythonic").to_response_template()


def test_a_list_that_closes_too_early_leaves_the_next_call_alone() -> None:
    text = (
        '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1], "id": "123456789"}, '
        '{"name": "g", "arguments": {"b": 2}, "id": "abcdefghi"}]'
    )
    message = toolparse.parse(text, "mistral-v3")
    assert [(call.name, call.ok) for call in message.tool_calls] == [("f", False), ("g", True)]
    assert streamed(toolparse.parser_for("mistral-v3"), text) == message
    # At the end of the list the missing bracket is a slip that can be mended.
    (call,) = toolparse.parse('[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}]', "mistral-v3").tool_calls
    assert call.ok
    assert [issue.code for issue in call.issues] == ["repaired"]


@pytest.mark.parametrize("name", ["hermes", "glm45", "kimi-k2", "mistral", "minimax-m2", "lfm2", "olmo3"])
@pytest.mark.parametrize("behind", [" tags and a name.\nUser: hi\nBot:", "get_weather(city='x')\nUser: hi\nBot:"])
def test_a_prompt_that_tells_of_markers_opens_no_call(name: str, behind: str) -> None:
    """Nothing in it is known to end a turn, and a marker is quoted in it: the model begins afresh."""
    parser = toolparse.parser_for(name)
    opening = parser.format.block.opening or parser.format.call.partition("{{")[0].split("{")[0].strip()
    prompt = f"Write calls in {opening}{behind}"
    text = parser.render([{"name": "f", "arguments": {"a": "b"}}])
    assert parser.parse(text, prompt=prompt) == parser.parse(text, prompt="")
    assert parser.parse("b", prompt=prompt).content == "b"


@pytest.mark.parametrize(
    ("name", "text", "content", "reasoning"),
    [
        (
            "command-r7b",
            "<|START_THINKING|>a <co>b</co: 0:[1]><|END_THINKING|>\n<|START_RESPONSE|>\n<co>c</co> d",
            "\nc d",
            "a b",
        ),
        ("command-r-plus", "It is <co: 0,1>warm</co: 0,1> now. </co: ", "It is warm now. </co: ", None),
        ("granite3", "It is <|start_of_cite|> {document_id: 1}warm <|end_of_cite|>\nnow.", "It is warm \nnow.", None),
        ("granite3", "<|start_of_cite|> {page: 1}", "<|start_of_cite|> {page: 1}", None),
    ],
)
def test_markers_of_citations_are_no_text(name: str, text: str, content: str, reasoning: str | None) -> None:
    parser = toolparse.parser_for(name)
    message = parser.parse(text)
    assert (message.content, message.reasoning) == (content, reasoning)
    testing.assert_tiles(message, text)
    testing.assert_same_message(message, streamed(parser, text))
