"""The chat APIs' shapes: messages, chunks and requests, and what the official clients' own types say of them."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

import fixtures
import toolparse
from tests.conftest import ROOT
from toolparse import openai as shapes
from toolparse.openai import (
    ChatDeltas,
    RequestError,
    Syntax,
    constraint,
    read_chat_request,
    read_tools,
    template_messages,
)
from toolparse.parser import FunctionParser
from toolparse.templates.induction.message_style import NAMED_ID, MessageStyle

CASES = [(family, case) for family in fixtures.transcribed() for case in fixtures.transcripts(family)]

CALL = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
TRIP = '<tool_call>\n{"name": "plan_trip", "arguments": {"city": "Łódź", "days": 2}}\n</tool_call>'
BAD = '<tool_call>\n{"name": "plan_tripp", "arguments": {"city": "Oslo"}}\n</tool_call>'
CUT = '<tool_call>\n{"name": "write_file", "arguments": {"path": "a'


def client(name: str) -> Any:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the {name} client is not installed: pip install '.[test-serve]'")
    return importlib.import_module(name)


def hermes() -> toolparse.Parser:
    return toolparse.Parser(toolparse.get("qwen"), tools=fixtures.TOOLS, prefill="")


def ids() -> shapes.NewId:
    """Ids that tell which call they were made for."""
    return lambda name, index: f"id{index}{name}"


def chunks_of(parser: Any, text: str, size: int, *, tools: Any = None, **options: Any) -> list[dict[str, Any]]:
    deltas = ChatDeltas(parser.stream(tools=tools), **options)
    made = [chunk for at in range(0, len(text), size) for chunk in deltas.feed(text[at : at + size])]
    return made + deltas.finish()


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [], "broken_calls": []}
    for chunk in chunks:
        delta = chunk["choices"][0]["delta"]
        message["content"] += delta.get("content") or ""
        if "reasoning_content" in delta:
            message["reasoning_content"] = message.get("reasoning_content", "") + delta["reasoning_content"]
        message["broken_calls"] += delta.get("broken_calls", [])
        for piece in delta.get("tool_calls", []):
            if piece["index"] == len(message["tool_calls"]):
                assert piece["type"] == "function"
                call = {"id": piece["id"], "type": "function", "function": dict(piece["function"])}
                message["tool_calls"].append(call)
            else:
                assert "id" not in piece
                message["tool_calls"][piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    for field in ("tool_calls", "broken_calls"):
        if not message[field]:
            del message[field]
    message["content"] = message["content"] if message["content"] or "tool_calls" not in message else None
    return message


# ----------------------------------------------------------------------------------------------------------- outward


def test_a_message() -> None:
    message = hermes().parse(f"<think>\nTwo.\n</think>\n\nOn it.\n{CALL}\n{TRIP}<|im_end|>")
    assert shapes.to_chat_message(message, new_id=ids()) == {
        "role": "assistant",
        "content": "On it.",
        "reasoning_content": "Two.",
        "tool_calls": [
            {"id": "id0ping", "type": "function", "function": {"name": "ping", "arguments": "{}"}},
            {
                "id": "id1plan_trip",
                "type": "function",
                "function": {"name": "plan_trip", "arguments": '{"city":"Łódź","days":2}'},
            },
        ],
    }
    assert shapes.to_chat_message(hermes().parse(CALL))["content"] is None


def test_a_broken_call_is_content_where_it_stood() -> None:
    message = hermes().parse(f"One.\n{CALL}\n{BAD}\nTwo.")
    said = shapes.to_chat_message(message)
    assert said["content"] == f"One.\n{BAD}\nTwo."
    assert [call["function"]["name"] for call in said["tool_calls"]] == ["ping"]
    told = shapes.to_chat_message(message, broken="report")
    assert BAD not in told["content"]
    (report,) = told["broken_calls"]
    assert report["name"] == "plan_tripp"
    assert report["raw"] == BAD
    assert report["issues"] == [
        {"code": "unknown-tool", "message": "unknown tool 'plan_tripp'; did you mean 'plan_trip'?"}
    ]


def test_a_call_that_was_cut_off_is_content() -> None:
    said = shapes.to_chat_completion(hermes().parse(CUT), finish="length")["choices"][0]
    assert said["message"] == {"role": "assistant", "content": CUT}
    assert said["finish_reason"] == "length"


def test_the_first_chunk_has_the_role_and_the_last_the_reason() -> None:
    chunks = chunks_of(hermes(), CALL, 7, model="m", id="x", created=5)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        ("x", "chat.completion.chunk", 5, "m")
    }
    assert chunks_of(hermes(), "Hello", 2)[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks_of(hermes(), BAD, 9)[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("broken", ["content", "report"])
def test_streamed_and_whole_are_one(broken: shapes.Broken) -> None:
    """For every transcript, cut anywhere; an id may stand behind the arguments."""
    for family, case in CASES:
        parser = toolparse.parser_for(family, tools=case.get("tools"))
        whole = shapes.to_chat_message(parser.parse(case["text"]), broken=broken, new_id=ids())
        for size in (1, 6, 1000):
            streamed = joined(chunks_of(parser, case["text"], size, broken=broken, new_id=ids()))
            assert streamed == whole, (family, size, case["text"])


def test_no_broken_call_is_handed_out_as_a_call() -> None:
    for family, case in CASES:
        parser = toolparse.parser_for(family, tools=case.get("tools"))
        message = parser.parse(case["text"])
        good = [call.name for call in message.tool_calls if call.ok]
        for made in (
            joined(chunks_of(parser, case["text"], 3)),
            shapes.to_chat_message(message),
        ):
            assert [call["function"]["name"] for call in made.get("tool_calls", [])] == good
        items = shapes.to_response_output(message)
        assert [item["name"] for item in items if item["type"] == "function_call"] == good
        blocks = shapes.to_anthropic_content(message)
        assert [block["name"] for block in blocks if block["type"] == "tool_use"] == good


def test_live_arguments_are_pieces_and_what_breaks_is_reported() -> None:
    chunks = chunks_of(hermes(), f"{TRIP}\n{BAD}", 4, live=True, new_id=ids())
    message = joined(chunks)
    pieces = [chunk for chunk in chunks if "tool_calls" in chunk["choices"][0]["delta"]]
    assert len(pieces) > 4
    first = message["tool_calls"][0]
    assert json.loads(first["function"]["arguments"]) == {"city": "Łódź", "days": 2}
    assert [report["name"] for report in message["broken_calls"]] == ["plan_tripp"]


def test_lone_surrogates_and_great_numbers_are_carried() -> None:
    text = '<tool_call>\n{"name": "f", "arguments": {"a": "\\ud800", "n": %s}}\n</tool_call>' % ("1" * 900)
    call = shapes.to_chat_message(toolparse.parse(text, "hermes"))["tool_calls"][0]["function"]
    call["arguments"].encode("utf-8")
    assert json.loads(call["arguments"]) == {"a": "\ud800", "n": int("1" * 900)}


def test_a_users_own_function() -> None:
    parser = FunctionParser(lambda text: [("f", {"a": text})], name="mine")
    whole = shapes.to_chat_message(parser.parse("xy"), new_id=ids())
    assert whole["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":"xy"}'}
    assert joined(chunks_of(parser, "xy", 1, new_id=ids())) == whole


def test_items_and_blocks_stand_in_order() -> None:
    message = hermes().parse(f"<think>\nHm.\n</think>\n\nOne.\n{CALL}\n{BAD}\nTwo.\n{TRIP}")
    kinds = [item["type"] for item in shapes.to_response_output(message)]
    assert kinds == ["reasoning", "message", "function_call", "message", "function_call"]
    blocks = shapes.to_anthropic_content(message, broken="report", new_id=ids())
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "broken_call", "text", "tool_use"]
    assert blocks[2] == {"type": "tool_use", "id": "id0ping", "name": "ping", "input": {}}


# ------------------------------------------------------------------------------------------------- the clients' types


@pytest.mark.parametrize("family", ["qwen", "mistral-v11", "kimi-k2", "harmony", "glm45"])
def test_the_openai_client_takes_the_objects_as_they_are(family: str) -> None:
    client("openai")
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseReasoningItem

    kinds: dict[str, Any] = {
        "message": ResponseOutputMessage,
        "reasoning": ResponseReasoningItem,
        "function_call": ResponseFunctionToolCall,
    }
    for case in fixtures.transcripts(family):
        parser = toolparse.parser_for(family, tools=case.get("tools"))
        message = parser.parse(case["text"])
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        whole = shapes.to_chat_completion(message, model="m", usage=usage)
        assert ChatCompletion.model_validate(whole, strict=True).to_dict() == whole
        for chunk in chunks_of(parser, case["text"], 5):
            assert ChatCompletionChunk.model_validate(chunk, strict=True).to_dict() == chunk
        for item in shapes.to_response_output(message):
            assert kinds[item["type"]].model_validate(item, strict=True).to_dict() == item


def test_the_openai_client_puts_the_chunks_together() -> None:
    """By the client's own accumulator, as an agent framework does."""
    client("openai")
    from openai.lib.streaming.chat import ChatCompletionStreamState
    from openai.types.chat import ChatCompletionChunk

    for size in (1, 4, 300):
        state = ChatCompletionStreamState()
        for chunk in chunks_of(hermes(), f"On it.\n{CALL}\n{TRIP}", size, new_id=ids()):
            state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
        (choice,) = state.get_final_completion().choices
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "On it."
        calls = choice.message.tool_calls or []
        assert [(call.id, call.function.name) for call in calls] == [("id0ping", "ping"), ("id1plan_trip", "plan_trip")]
        assert json.loads(calls[1].function.arguments) == {"city": "Łódź", "days": 2}


def test_the_anthropic_client_takes_the_blocks_as_they_are() -> None:
    client("anthropic")
    from anthropic.types import Message

    blocks = shapes.to_anthropic_content(hermes().parse(f"<think>\nHm.\n</think>\n\nOne.\n{CALL}\n{TRIP}"))
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": blocks,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    assert Message.model_validate(whole).to_dict() == whole


# ------------------------------------------------------------------------------------------------------------ inward

USER = {"role": "user", "content": "Hi"}


def history() -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "plan_trip", "arguments": '{"city": "Oslo"}'}}
    return [
        {"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]},
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "Hm."},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]


def test_a_request_is_read() -> None:
    tools = [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}]
    asked = read_chat_request({"messages": history(), "tools": tools, "parallel_tool_calls": False})
    assert asked.messages[0] == {"role": "system", "content": "Be brief."}
    assert asked.messages[2]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert asked.messages[3] == {"role": "tool", "content": "done", "name": "plan_trip", "tool_call_id": "c1"}
    assert (asked.choice, asked.parallel, asked.strict) == ("auto", False, {"f"})
    assert asked.constrained
    assert "strict" not in asked.tools[0]["function"]


@pytest.mark.parametrize(
    ("choice", "kind", "name"),
    [
        (None, "auto", None),
        ("auto", "auto", None),
        ("none", "none", None),
        ("required", "required", None),
        ({"type": "function", "function": {"name": "ping"}}, "named", "ping"),
        ({"type": "function", "name": "ping"}, "named", "ping"),
    ],
)
def test_choices(choice: Any, kind: str, name: str | None) -> None:
    asked = read_chat_request({"messages": [USER], "tools": fixtures.TOOLS, "tool_choice": choice})
    assert (asked.choice, asked.name) == (kind, name)
    assert asked.constrained == (kind in ("required", "named"))
    offered = [tool["function"]["name"] for tool in asked.offered]
    assert offered == (["ping"] if name else [] if kind == "none" else ["plan_trip", "write_file", "ping"])


def test_allowed_tools() -> None:
    tools = [{"type": "function", "function": {"name": "ping"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
    asked = read_chat_request({"messages": [USER], "tools": fixtures.TOOLS, "tool_choice": choice})
    assert asked.choice == "required"
    assert [tool["function"]["name"] for tool in asked.tools] == ["ping"]


BAD_REQUESTS: list[tuple[Any, str | None, str]] = [
    ([], None, "JSON object"),
    ({}, "messages", "at least one message"),
    ({"messages": "hi"}, "messages", "list"),
    ({"messages": ["hi"]}, "messages[0]", "object"),
    ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role", "unknown role 'robot'"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "needs content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "text or a list"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0]",
        "only parts of text",
    ),
    ({"messages": [{"role": "assistant"}]}, "messages[0].content", "content or tool_calls"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
        "no JSON",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}]},
        "messages[0].tool_calls[0].function.arguments",
        "JSON object",
    ),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0]", "with a name"),
    (
        {"messages": [{"role": "tool", "content": "", "tool_call_id": "x"}]},
        "messages[0].tool_call_id",
        "id of no call",
    ),
    ({"messages": [USER], "tools": {}}, "tools", "list"),
    ({"messages": [USER], "tools": [{"type": "web_search"}]}, "tools[0]", "'function'"),
    ({"messages": [USER], "tools": [{"type": "function", "function": {}}]}, "tools[0].function", "with a name"),
    (
        {"messages": [USER], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}]},
        "tools[0].function.parameters",
        "f",
    ),
    ({"messages": [USER], "tools": [*fixtures.TOOLS, fixtures.TOOLS[0]]}, "tools", "two tools"),
    ({"messages": [USER], "tool_choice": "required"}, "tool_choice", "no tools"),
    ({"messages": [USER], "tool_choice": "maybe"}, "tool_choice", "must be"),
    (
        {"messages": [USER], "tools": fixtures.TOOLS, "tool_choice": {"function": {"name": "g"}}},
        "tool_choice.function.name",
        "'g'",
    ),
    ({"messages": [USER], "parallel_tool_calls": 1}, "parallel_tool_calls", "true or false"),
]


@pytest.mark.parametrize(("body", "param", "says"), BAD_REQUESTS)
def test_bad_requests_name_the_place(body: Any, param: str | None, says: str) -> None:
    with pytest.raises(RequestError, match=says.replace("(", r"\(")) as caught:
        read_chat_request(body)
    assert caught.value.param == param


def test_messages_for_a_template() -> None:
    messages = read_chat_request({"messages": history()}).messages
    usual = template_messages(messages)
    assert usual[2]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
    assert usual[2]["tool_calls"][0]["id"] == "c1"
    assert usual[3] == {"role": "tool", "content": "done", "tool_call_id": "c1", "name": "plan_trip"}
    strings = template_messages(messages, MessageStyle(arguments="string", parts=True))
    assert strings[2]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert strings[1]["content"] == [{"type": "text", "text": "Hi"}]
    assert template_messages([USER], MessageStyle(system=True))[0]["role"] == "system"


def test_ids_are_put_into_the_form_that_a_template_needs() -> None:
    messages = read_chat_request({"messages": history()}).messages
    named = template_messages(messages, MessageStyle(new_id=NAMED_ID))
    assert named[2]["tool_calls"][0]["id"] == "functions.plan_trip:0"
    assert named[3]["tool_call_id"] == "functions.plan_trip:0"
    own = template_messages(messages, own_ids=True)
    assert own[2]["tool_calls"][0]["id"] == own[3]["tool_call_id"] == "call00000"
    next_id = shapes.ids_for(MessageStyle(new_id=NAMED_ID), messages)
    assert next_id("ping", 0) == "functions.ping:1"
    assert shapes.new_call_id() != shapes.new_call_id()


@pytest.mark.parametrize("family", fixtures.transcribed())
def test_without_calls_the_text_is_left_alone(family: str) -> None:
    parser = toolparse.Parser(toolparse.get(family))
    plain = shapes.without_calls(parser)
    for case in fixtures.transcripts(family):
        assert plain.parse(case["text"]).tool_calls == ()
        whole = parser.parse(case["text"])
        if not whole.tool_calls:
            assert plain.parse(case["text"]).content == whole.content
        elif whole.reasoning is None and not parser.format.prefill and not parser.format.between_messages:
            said = plain.parse(case["text"]).content
            ends = [end for end in parser.format.ends if any(end in call.raw for call in whole.tool_calls)]
            assert ends or all(call.raw in said for call in whole.tool_calls)


def test_no_web_library_is_needed() -> None:
    source = (ROOT / "toolparse" / "openai.py").read_text("utf-8")
    for library in ("starlette", "httpx", "uvicorn", "import openai", "anthropic."):
        assert library not in source


def test_a_structural_tag_knows_what_the_prompt_opened() -> None:
    parser = toolparse.parser_for("deepseek-v31")
    asked = read_tools({"tools": fixtures.TOOLS, "tool_choice": "required"})
    tags = {
        prompt: json.loads(constraint(parser, asked, ("structural_tag",), prompt=prompt)[1])
        for prompt in ("<｜Assistant｜><think>", "<｜Assistant｜></think>")
    }
    opened, closed = (tag["format"]["elements"][0] for tag in tags.values())
    assert "</think>" in json.dumps(opened)
    assert opened != closed


@pytest.mark.parametrize("syntax", ["structural_tag", "ebnf", "gbnf", "lark"])
@pytest.mark.parametrize("name", ["hermes", "qwen3-coder"])
@pytest.mark.parametrize(
    ("odd", "kept"),
    [
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "counts"),  # but for one keyword
        ({"allOf": [{"type": "integer"}, {"type": "string"}]}, ""),  # not even without any
    ],
)
def test_schemas_that_no_grammar_says_are_given_up_only_where_nobody_asked(
    odd: dict[str, Any], kept: str, name: str, syntax: Syntax
) -> None:
    """The call is required all the same, and held to what can be said."""
    parameters = {"type": "object", "properties": {"x": odd, "counts": {"type": "integer"}}, "required": ["x"]}
    tool = {"type": "function", "function": {"name": "odd", "parameters": parameters}}
    strict = {"type": "function", "function": {**tool["function"], "strict": True}}
    parser = toolparse.parser_for(name)
    with pytest.raises(RequestError, match="no grammar can say"):
        constraint(parser, read_tools({"tools": [strict], "tool_choice": "required"}), (syntax,))
    found = constraint(parser, read_tools({"tools": [tool], "tool_choice": "required"}), (syntax,))
    assert "odd" in found[1]
    assert kept in found[1]


def test_a_tool_may_be_called_auto() -> None:
    tool = {"type": "function", "function": {"name": "auto", "parameters": {"type": "object", "properties": {}}}}
    choice = {"type": "function", "function": {"name": "auto"}}
    found = constraint(
        toolparse.parser_for("qwen"), read_tools({"tools": [tool], "tool_choice": choice}), ("structural_tag",)
    )
    assert "any_text" not in json.dumps(json.loads(found[1])["format"]["elements"][-1])
