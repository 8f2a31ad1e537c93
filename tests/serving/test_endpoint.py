"""The endpoint over loopback: answers, streams, choices, limits and what goes wrong."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fixtures

httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install '.[serve]'")

USER = [{"role": "user", "content": "Hi"}]
PING = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
TRIP = '<tool_call>\n{"name": "plan_trip", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>'
BAD = '<tool_call>\n{"name": "plan_tripp", "arguments": {"city": "Oslo"}}\n</tool_call>'
TEMPLATE = fixtures.template("qwen")

Serve = Callable[..., Any]


def ask(url: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
    body.setdefault("messages", USER)
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=20)


def streamed(url: str, **body: Any) -> list[Any]:
    """The events of a stream; `[DONE]` as a text."""
    body.setdefault("messages", USER)
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**body, "stream": True}, timeout=20) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        data = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    return [event if event == "[DONE]" else json.loads(event) for event in data]


def message_of(events: list[Any]) -> dict[str, Any]:
    from toolparse.serving.completion import Whole

    whole = Whole()
    for event in events:
        if event != "[DONE]" and event["choices"]:
            whole.add(event)
    choice: dict[str, Any] = whole.completion()["choices"][0]
    return choice


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    calls = [{**call, "id": ""} for call in message.get("tool_calls", ())]
    return {**message, "tool_calls": calls}


def until(done: Callable[[], bool]) -> bool:
    """Whether something comes true soon."""
    for _ in range(300):
        if done():
            return True
        time.sleep(0.02)
    return False


# ----------------------------------------------------------------------------------------------------------- answers


def test_whole_and_streamed_answers_are_one(endpoint: Serve) -> None:
    text = f"<think>\nTwo of them.\n</think>\n\nOn it.\n{PING}\n{TRIP}"
    served = endpoint(TEMPLATE, lambda _: text)
    whole = ask(served.url, tools=fixtures.TOOLS).json()
    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    assert message["content"] == "On it."
    assert message["reasoning_content"] == "Two of them."
    assert [call["function"] for call in message["tool_calls"]] == [
        {"name": "ping", "arguments": "{}"},
        {"name": "plan_trip", "arguments": '{"city":"Oslo","days":2}'},
    ]
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    count = len(served.tokenizer.encode(text, add_special_tokens=False)) + 1
    assert whole["usage"]["completion_tokens"] == count
    assert whole["usage"]["prompt_tokens"] == len(served.engine.asked[0][0])
    events = streamed(served.url, tools=fixtures.TOOLS, stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"] == whole["usage"]
    assert events[-2]["choices"] == []
    assert all(event["usage"] is None for event in events[:-2])
    joined = message_of(events)
    assert without_ids(joined["message"]) == without_ids(message)
    assert joined["finish_reason"] == "tool_calls"


def test_the_prompt_is_what_the_template_writes(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: "Hello.")
    ask(served.url, tools=fixtures.TOOLS)
    expected = served.tokenizer.apply_chat_template(
        USER, tools=fixtures.TOOLS, add_generation_prompt=True, tokenize=False
    )
    assert served.prompt() == expected


def test_token_ids_and_logprobs_are_aligned(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: f"On it.\n{TRIP}", engine={"size": 3})
    body = {"tools": fixtures.TOOLS, "return_token_ids": True, "logprobs": True}
    whole = ask(served.url, **body).json()
    prompt, sampling = served.engine.asked[0]
    assert whole["prompt_token_ids"] == list(prompt)
    assert sampling.logprobs
    (choice,) = whole["choices"]
    sampled = [*served.tokenizer.encode(f"On it.\n{TRIP}", add_special_tokens=False), served.tokenizer.eos_token_id]
    assert choice["token_ids"] == sampled
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == [
        served.tokenizer.decode([id]) for id in sampled
    ]
    events = streamed(served.url, **body)
    assert events[0]["prompt_token_ids"] == list(prompt)
    joined = [id for event in events[:-1] for id in event["choices"][0].get("token_ids", [])]
    assert joined == sampled
    assert all(
        len(event["choices"][0]["logprobs"]["content"]) == len(event["choices"][0]["token_ids"])
        for event in events[:-1]
        if "token_ids" in event["choices"][0]
    )
    assert "token_ids" not in ask(served.url).json()["choices"][0]


@pytest.mark.parametrize("size", [1, 4])
def test_the_likeliest_tokens_beside_each(endpoint: Serve, size: int) -> None:
    served = endpoint(TEMPLATE, lambda _: "Hello.", engine={"size": size})
    body = {"logprobs": True, "top_logprobs": 2}
    whole = ask(served.url, **body).json()["choices"][0]["logprobs"]["content"]
    assert [[top["token"] for top in entry["top_logprobs"]] for entry in whole[:-1]] == [
        [char, chr(ord(char) - 1)] for char in "Hello."
    ]
    assert whole[0]["top_logprobs"][1] == {"token": "G", "logprob": -1.5, "bytes": [71]}
    assert bytes(whole[-1]["bytes"]).decode() == whole[-1]["token"] == "<|im_end|>"
    events = streamed(served.url, **body)
    pieces = [event["choices"][0]["logprobs"] for event in events[:-1]]
    assert [entry for piece in pieces if piece is not None for entry in piece["content"]] == whole
    assert ask(served.url, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_a_broken_call_is_no_call(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: f"{PING}\n{BAD}")
    message = ask(served.url, tools=fixtures.TOOLS).json()["choices"][0]["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["ping"]
    assert message["content"] == BAD
    reporting = endpoint(TEMPLATE, lambda _: BAD, broken="report")
    choice = ask(reporting.url, tools=fixtures.TOOLS).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert [call["name"] for call in choice["message"]["broken_calls"]] == ["plan_tripp"]
    assert "tool_calls" not in choice["message"]
    delta = [event["choices"][0]["delta"] for event in streamed(reporting.url, tools=fixtures.TOOLS)[:-1]]
    assert [call["name"] for piece in delta for call in piece.get("broken_calls", [])] == ["plan_tripp"]


def test_live_streams_hand_out_arguments_as_they_come(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: TRIP, live=True)
    events = streamed(served.url, tools=fixtures.TOOLS)
    pieces = [event for event in events[:-1] if "tool_calls" in event["choices"][0]["delta"]]
    assert len(pieces) > 3
    call = message_of(events)["message"]["tool_calls"][0]["function"]
    assert json.loads(call["arguments"]) == {"city": "Oslo", "days": 2}


def test_length_and_stop(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: "One. Two. Three.")
    choice = ask(served.url, max_tokens=4).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 4  # a byte to a token
    for stop in ("Two", ["x", "Two"]):
        choice = ask(served.url, stop=stop).json()["choices"][0]
        assert choice["message"]["content"] == "One. "
        assert choice["finish_reason"] == "stop"
        assert message_of(streamed(served.url, stop=stop))["message"]["content"] == "One. "
    assert ask(served.url, stop=["Th!"]).json()["choices"][0]["message"]["content"] == "One. Two. Three."
    assert until(lambda: served.engine.closed >= 4)  # nobody generates behind a stop text


# ----------------------------------------------------------------------------------------------------------- choices


@pytest.mark.parametrize("body", [{"tool_choice": "none", "tools": fixtures.TOOLS}, {}])
def test_where_no_call_is_wanted_the_text_is_left_alone(endpoint: Serve, body: dict[str, Any]) -> None:
    served = endpoint(TEMPLATE, lambda _: f"<think>\nHm.\n</think>\n\nSay:\n{PING}")
    choice = ask(served.url, **body).json()["choices"][0]
    assert choice["message"]["content"] == f"Say:\n{PING}"
    assert choice["message"]["reasoning_content"] == "Hm."
    assert choice["finish_reason"] == "stop"
    assert served.engine.asked[0][1].constraint is None
    assert message_of(streamed(served.url, **body))["message"] == choice["message"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "plan_trip"}}])
def test_required_calls_hold_the_engine_to_a_grammar(endpoint: Serve, choice: Any) -> None:
    served = endpoint(TEMPLATE, lambda _: TRIP, engine={"takes": ("gbnf",)})
    answer = ask(served.url, tools=fixtures.TOOLS, tool_choice=choice).json()["choices"][0]
    assert answer["finish_reason"] == "tool_calls"
    constraint = served.engine.asked[0][1].constraint
    assert constraint.syntax == "gbnf"
    assert "plan_trip" in constraint.text
    assert ("write_file" in constraint.text) == (choice == "required")


CITY = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
FORM = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}


@pytest.mark.parametrize("takes", ["gbnf", "ebnf", "structural_tag"])
def test_an_answer_is_held_to_its_schema(endpoint: Serve, takes: str) -> None:
    served = endpoint(TEMPLATE, lambda _: '{"town": "Oslo"}', engine={"takes": (takes,)})
    flat = {"type": "json_schema", "name": "city", "schema": CITY}
    for answer in (
        ask(served.url, response_format=FORM),
        ask(served.url, response_format=FORM, tools=fixtures.TOOLS),
        response(served.url, text={"format": flat}),
    ):
        assert answer.status_code == 200, answer.text
    for (_, sampling), calls in zip(served.engine.asked, (False, True, False), strict=True):
        assert sampling.constraint.syntax == takes
        assert "town" in sampling.constraint.text
        assert ("plan_trip" in sampling.constraint.text) == calls
    ask(served.url, response_format={"type": "json_object"})
    assert "town" not in served.engine.asked[-1][1].constraint.text
    ask(served.url, response_format={"type": "text"})
    assert served.engine.asked[-1][1].constraint is None
    refused = ask(served.url, response_format={**FORM, "json_schema": {"schema": {**CITY, "not": {}}}})
    assert (refused.status_code, "'not'" in refused.text) == (400, True)  # xgrammar would leave it out in silence
    ask(served.url, response_format=FORM, tools=fixtures.TOOLS, tool_choice="required")
    assert "town" not in served.engine.asked[-1][1].constraint.text


def test_markers_that_a_grammar_made_the_model_spell_are_markers(endpoint: Serve) -> None:
    """With ordinary tokens they are text, unless a grammar as text is what asked for them."""

    def spelled(_: Any) -> list[int]:
        encode = served.tokenizer.encode
        return [id for char in f"Grüße 你.\n{TRIP}" for id in encode(char, add_special_tokens=False)]

    served = endpoint(TEMPLATE, spelled, engine={"takes": ("gbnf",)})
    for stream in (False, True):
        required = {"tools": fixtures.TOOLS, "tool_choice": "required", "return_token_ids": True}
        if stream:
            message = message_of(streamed(served.url, **required))["message"]
        else:
            message = ask(served.url, **required).json()["choices"][0]["message"]
        assert message["content"] == "Grüße 你."
        (call,) = message["tool_calls"]
        assert call["function"]["arguments"] == '{"city":"Oslo","days":2}'
    free = ask(served.url, tools=fixtures.TOOLS).json()["choices"][0]["message"]
    assert "tool_calls" not in free


def test_the_named_tool_alone_may_be_called(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: PING, engine={"takes": ("gbnf",)})
    choice = {"type": "function", "function": {"name": "plan_trip"}}
    message = ask(served.url, tools=fixtures.TOOLS, tool_choice=choice).json()["choices"][0]["message"]
    assert "tool_calls" not in message
    assert message["content"] == PING


def test_strict_tools_are_enforced_and_auto_is_free(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: TRIP, engine={"takes": ("gbnf",)})
    strict = [{**tool, "function": {**tool["function"], "strict": True}} for tool in fixtures.TOOLS]
    ask(served.url, tools=strict)
    ask(served.url, tools=fixtures.TOOLS)
    assert served.engine.asked[0][1].constraint is not None
    assert served.engine.asked[1][1].constraint is None


def test_an_engine_without_grammars_says_so(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: TRIP)
    answer = ask(served.url, tools=fixtures.TOOLS, tool_choice="required")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tool_choice"
    assert "grammar" in answer.json()["error"]["message"]


def test_one_call_at_a_time_ends_behind_the_first(endpoint: Serve) -> None:
    body = {"tools": fixtures.TOOLS, "parallel_tool_calls": False}
    at_once = endpoint(TEMPLATE, lambda _: f"{TRIP}\n{PING}", engine={"size": 1000})
    assert len(ask(at_once.url, **body).json()["choices"][0]["message"]["tool_calls"]) == 1
    served = endpoint(TEMPLATE, lambda _: f"{TRIP}\n{PING}")
    choice = ask(served.url, **body).json()["choices"][0]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["plan_trip"]
    assert choice["finish_reason"] == "tool_calls"
    assert len(message_of(streamed(served.url, **body))["message"]["tool_calls"]) == 1
    assert until(lambda: served.engine.closed == 2)


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def plain(endpoint: Serve) -> Any:
    from toolparse.serving.app import ServerLimits

    return endpoint(
        TEMPLATE, lambda _: "Hello.", engine={"context": 2000}, limits=ServerLimits(body=500_000, tokens=300)
    )


BAD_BODIES: list[tuple[dict[str, Any], int, str | None]] = [
    ({"messages": []}, 400, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 5}}}]},
        400,
        "tools[0].function.parameters",
    ),
    ({"temperature": "hot"}, 400, "temperature"),
    ({"temperature": 9}, 400, "temperature"),
    ({"temperature": True}, 400, "temperature"),
    ({"max_tokens": 0}, 400, "max_tokens"),
    ({"max_tokens": 301}, 400, "max_tokens"),
    ({"max_tokens": 10**30}, 400, "max_tokens"),
    ({"n": 17}, 400, "n"),
    ({"n": True}, 400, "n"),
    ({"top_logprobs": 3}, 400, "top_logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, 400, "top_logprobs"),
    ({"stop": [5]}, 400, "stop"),
    ({"stop": "x" * 1001}, 400, "stop"),
    ({"stop": ["x"] * 17}, 400, "stop"),
    ({"seed": 2**63}, 400, "seed"),
    ({"functions": [{}]}, 400, "functions"),
    ({"logit_bias": {"1": 2}}, 400, "logit_bias"),
    ({"response_format": {"type": "json_object"}}, 400, "response_format"),  # the engine takes no grammar
    ({"response_format": "json"}, 400, "response_format"),
    ({"response_format": {"type": "xml"}}, 400, "response_format"),
    ({"response_format": {"type": "json_schema"}}, 400, "response_format.json_schema.schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 5}}}},
        400,
        "response_format.json_schema.schema",
    ),
    ({"model": "other"}, 404, "model"),
    ({"messages": [{"role": "user", "content": "x" * 3000}]}, 400, "messages"),
    ({"chat_template_kwargs": "x"}, 400, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"deadline": 1e18}}, 400, "chat_template_kwargs.deadline"),
    ({"chat_template_kwargs": {"self": 1}}, 400, "chat_template_kwargs.self"),
]


@pytest.mark.parametrize(("body", "status", "param"), BAD_BODIES)
def test_bad_requests_are_told_what_is_wrong(plain: Any, body: dict[str, Any], status: int, param: str | None) -> None:
    for stream in (False, True):
        answer = ask(plain.url, **body, stream=stream)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["param"] == param
        assert error["message"]
        assert error["type"] == "invalid_request_error"


def test_fields_may_be_null(plain: Any) -> None:
    """Some clients send what nobody chose."""
    from toolparse.serving.app import RequestFields

    answer = ask(plain.url, **dict.fromkeys([*RequestFields.model_fields, "tools", "tool_choice", "functions"]))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "content", [b"{", b"", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
def test_what_is_no_request_is_refused(plain: Any, content: bytes) -> None:
    answer = httpx.post(f"{plain.url}/v1/chat/completions", content=content, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


NAME = fixtures.TOOLS[0]["function"]["name"]
CALL = {"name": "ping", "arguments": "{}"}
WHOLE_BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "assistant", "reasoning_content": "Hm.", "tool_calls": [{"id": "a", "function": CALL}]},
            {"role": "tool", "tool_call_id": "a", "name": "ping", "content": "pong"},
        ],
        "tools": [fixtures.TOOLS[0]],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": [fixtures.TOOLS[0]]}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        "stream_options": {"include_usage": True},
        "stop": ["x"],
        "chat_template_kwargs": {"a": 1},
    },
    "responses": {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "On it."}]},
            {"type": "function_call", "call_id": "a", **CALL},
            {"type": "function_call_output", "call_id": "a", "output": "pong"},
        ],
        "instructions": "Be brief.",
        "tools": [{"type": "function", **fixtures.TOOLS[0]["function"]}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": NAME}]},
        "text": {"format": {"type": "text"}},
        "reasoning": {"effort": "low"},
    },
    "messages": {
        "system": [{"type": "text", "text": "Be brief."}],
        "max_tokens": 5,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""},
                    {"type": "tool_use", "id": "a", "name": "ping", "input": {}},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "pong"}]},
        ],
        "tools": [{"name": "ping", "description": "Ping.", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["x"],
    },
}


def spoilt(value: Any) -> Iterator[Any]:
    """A body with one of its parts replaced by what doesn't belong there, in every way."""
    yield from (5, "x", True, [], [5], ["x"], [[]], {}, {"type": 5}, {"type": []})
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        for other in spoilt(part):
            made = value.copy()
            made[key] = other
            yield made


@pytest.mark.parametrize("path", WHOLE_BODIES)
def test_whatever_is_wrong_with_a_request_is_its_senders_fault(plain: Any, path: str) -> None:
    """Every part of a request replaced by something else: an answer, or what is wrong; the endpoint never fails."""
    statuses = set()
    with httpx.Client(base_url=f"{plain.url}/v1", timeout=20) as client:
        for body in spoilt(WHOLE_BODIES[path]):
            answer = client.post(f"/{path}", json=body)
            statuses.add(answer.status_code)
            assert answer.status_code < 500, (body, answer.text)
            if answer.status_code != 200:
                assert answer.json()["error"]["type"] == "invalid_request_error"
    assert 400 in statuses


def test_half_a_surrogate_pair(plain: Any) -> None:
    content = json.dumps({"messages": [{"role": "user", "content": "\ud800"}]}).encode()
    answer = httpx.post(f"{plain.url}/v1/chat/completions", content=content, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages"


def test_a_body_that_is_too_long(plain: Any) -> None:
    long = json.dumps({"messages": [{"role": "user", "content": "x" * 10_000_000}]}).encode()
    try:
        answer = httpx.post(f"{plain.url}/v1/chat/completions", content=long, timeout=20)
        assert answer.status_code == 413
    except httpx.WriteError:
        pass  # the answer came before all was sent
    chunked = httpx.post(f"{plain.url}/v1/chat/completions", content=iter([b"x" * 100_000] * 6), timeout=20)
    assert chunked.status_code == 413
    assert ask(plain.url).status_code == 200


def test_other_routes(plain: Any) -> None:
    assert httpx.get(f"{plain.url}/health").json() == {"status": "ok"}
    models = httpx.get(f"{plain.url}/v1/models").json()
    assert [(model["id"], model["max_model_len"]) for model in models["data"]] == [("tiny", 2000)]
    assert httpx.get(f"{plain.url}/v1/nothing").json()["error"]["type"] == "invalid_request_error"
    assert httpx.get(f"{plain.url}/v1/chat/completions").status_code == 405
    assert 'toolparse_requests_total{status="200"}' in httpx.get(f"{plain.url}/metrics").text


def test_keys(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: "Hello.", api_keys=("secret", "other"))
    for headers in (None, {"Authorization": "Bearer wrong"}, {"Authorization": "secret2"}):
        answer = ask(served.url, headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert ask(served.url, {"Authorization": "Bearer other"}).status_code == 200
    assert httpx.get(f"{served.url}/v1/models").status_code == 401
    assert httpx.get(f"{served.url}/health").status_code == 200
    assert served.engine.asked != []


# ---------------------------------------------------------------------------------------------- engines that misbehave


def test_an_engine_that_dies(endpoint: Serve) -> None:
    from toolparse.serving import EngineError

    turns = {"a": EngineError("out of memory"), "b": [*b"Hel", "gone"], "c": "fine", "d": ValueError("boom")}
    served = endpoint(TEMPLATE, lambda prompt: turns[chr(prompt_letter(served, prompt))], engine={"end": None})
    for letter, status in (("a", 502), ("b", 502), ("c", 200), ("d", 500)):
        answer = ask(served.url, messages=[{"role": "user", "content": letter}])
        assert answer.status_code == status, answer.text
        if status != 200:
            assert answer.json()["error"]["type"] == "server_error"
    body = {"messages": [{"role": "user", "content": "b"}]}
    events = streamed(served.url, **body)
    assert events[-1]["error"]["type"] == "server_error"
    assert "went away" in events[-1]["error"]["message"]
    refused = ask(served.url, messages=[{"role": "user", "content": "a"}], stream=True)
    assert refused.status_code == 502  # known before the stream begins
    assert ask(served.url, messages=[{"role": "user", "content": "c"}]).status_code == 200


def prompt_letter(served: Any, prompt: Any) -> int:
    text = served.tokenizer.decode(list(prompt))
    return ord(text[text.rindex("<|im_start|>user\n") + len("<|im_start|>user\n")])


def test_ids_beyond_the_vocabulary(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: [72, 10**6, 73])
    answer = ask(served.url)
    assert answer.status_code == 502
    assert "token 1000000" in answer.json()["error"]["message"]
    assert "error" in streamed(served.url)[-1]


def test_a_request_that_takes_too_long(endpoint: Serve) -> None:
    from toolparse.serving.app import ServerLimits

    limits = ServerLimits(seconds=0.3, keep_alive=0.05)
    served = endpoint(TEMPLATE, lambda _: "Hello.", engine={"delay": 0.2}, limits=limits)
    answer = ask(served.url)
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "timeout_error"
    assert streamed(served.url)[-1]["error"]["type"] == "timeout_error"
    assert until(lambda: served.engine.closed == 2)


def test_silence_is_filled_with_comments(endpoint: Serve) -> None:
    from toolparse.serving.app import ServerLimits

    served = endpoint(TEMPLATE, lambda _: "H", engine={"delay": 0.3}, limits=ServerLimits(keep_alive=0.05))
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json={"messages": USER, "stream": True}) as response:
        lines = list(response.iter_lines())
    assert sum(line.startswith(":") for line in lines) >= 2
    assert lines[-2] == "data: [DONE]"


# ------------------------------------------------------------------------------------------------------- many clients


def test_beyond_the_places_clients_are_told_to_come_again(endpoint: Serve) -> None:
    import threading

    from toolparse.serving.app import ServerLimits

    limits = ServerLimits(running=1, waiting=1)
    served = endpoint(TEMPLATE, lambda _: "Hello.", engine={"delay": 0.1}, limits=limits)
    statuses: list[int] = []
    clients = [threading.Thread(target=lambda: statuses.append(ask(served.url).status_code)) for _ in range(6)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(30)
    assert sorted(statuses) == [200, 200, 429, 429, 429, 429]
    assert 'toolparse_requests_total{status="429"} 4' in httpx.get(f"{served.url}/metrics").text
    assert ask(served.url).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_the_generation(endpoint: Serve, stream: bool) -> None:
    served = endpoint(TEMPLATE, lambda _: "x" * 2000, engine={"delay": 0.01})
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": USER, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + body)
        assert until(lambda: served.engine.given > 3)
    assert until(lambda: served.engine.closed == 1)
    assert served.engine.given < 1000
    assert until(lambda: "cancelled_requests_total 1" in httpx.get(f"{served.url}/metrics").text)


def test_a_stream_that_nobody_takes_lets_its_engine_go(endpoint: Serve) -> None:
    """The client goes between its request and the head of the answer."""
    import asyncio

    served = endpoint(TEMPLATE, lambda _: "Hello. " * 50, engine={"delay": 0.001})
    app = served.endpoint.app()
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"", "headers": headers}
    asked = [json.dumps({"messages": USER, "stream": True}).encode()]

    async def receive() -> dict[str, Any]:
        if asked:
            return {"type": "http.request", "body": asked.pop(), "more_body": False}
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise OSError("gone")

    async def run() -> tuple[int, int]:
        await app(scope, receive, send)
        return served.engine.turns, served.engine.closed  # before the loop ends, which closes what is left open

    assert asyncio.run(run()) == (1, 1)


def test_a_client_that_stops_reading_loses_its_place(endpoint: Serve) -> None:
    from toolparse.serving.app import ServerLimits

    limits = ServerLimits(running=1, waiting=4, write_seconds=0.3)
    served = endpoint(TEMPLATE, lambda prompt: "x" * (100_000 if served.engine.turns == 1 else 3), limits=limits)
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": USER, "stream": True, "max_tokens": 30_000}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    try:
        client.sendall(head.encode() + body)
        assert until(lambda: served.engine.given > 0)
        assert ask(served.url).status_code == 200  # waits for the place
        assert served.engine.closed == 1
    finally:
        client.close()


def test_many_at_once_are_kept_apart(endpoint: Serve) -> None:
    """Fifty conversations at once, some of which break: each gets its own answer or its own error."""
    import asyncio

    from toolparse.serving import EngineError

    def turn(prompt: Any) -> Any:
        text = served.tokenizer.decode(list(prompt))
        number = int(text.partition("number ")[2].partition("!")[0])
        if number % 5 == 0:
            return EngineError("out of memory")
        if number % 5 == 1:
            return [*b"Hel", "gone"]
        return f'<tool_call>\n{{"name": "write_file", "arguments": {{"path": "{number}", "text": "x"}}}}\n</tool_call>'

    served = endpoint(TEMPLATE, turn, engine={"delay": 0.001})

    async def one(client: Any, number: int) -> None:
        body = {"messages": [{"role": "user", "content": f"number {number}!"}], "tools": fixtures.TOOLS}
        url = f"{served.url}/v1/chat/completions"
        answer = await client.post(url, json={**body, "stream": number % 2 == 0})
        if number % 5 == 0:
            assert answer.status_code == 502
        elif number % 2:
            assert answer.status_code == (502 if number % 5 == 1 else 200)
            if number % 5 != 1:
                (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
                assert json.loads(call["function"]["arguments"])["path"] == str(number)
        else:
            events = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
            if number % 5 == 1:
                assert json.loads(events[-1])["error"]["type"] == "server_error"
            else:
                message = message_of([event if event == "[DONE]" else json.loads(event) for event in events])["message"]
                (call,) = message["tool_calls"]
                assert json.loads(call["function"]["arguments"])["path"] == str(number)

    async def run() -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            await asyncio.gather(*(one(client, number) for number in range(50)))

    asyncio.run(run())
    text = httpx.get(f"{served.url}/metrics").text
    assert "toolparse_running_requests 0" in text
    assert "toolparse_calls_total 30" in text


# ------------------------------------------------------------------------------------------------- several answers


def test_several_answers(endpoint: Serve) -> None:
    """Each is one of its own, with its own calls, seed and end."""
    turns = [f"First.\n{PING}", "Second.", f"{TRIP}\n{PING}"]
    served = endpoint(TEMPLATE, turns * 2, engine={"delay": 0.001})
    body = {"n": 3, "tools": fixtures.TOOLS, "seed": 7, "return_token_ids": True, "logprobs": True}
    whole = ask(served.url, **body).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert [sampling.seed for _, sampling in served.engine.asked] == [7, 8, 9]
    assert [choice["finish_reason"] for choice in whole["choices"]] == ["tool_calls", "stop", "tool_calls"]
    assert [len(choice["message"].get("tool_calls", ())) for choice in whole["choices"]] == [1, 0, 2]
    sampled = [choice["token_ids"] for choice in whole["choices"]]
    assert [len(choice["logprobs"]["content"]) for choice in whole["choices"]] == list(map(len, sampled))
    assert whole["usage"]["completion_tokens"] == sum(map(len, sampled))
    assert whole["usage"]["prompt_tokens"] == len(whole["prompt_token_ids"])
    events = streamed(served.url, **body, stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"] == whole["usage"]
    assert len({event["id"] for event in events[:-1]}) == 1
    for choice in whole["choices"]:
        mine = [event for event in events[:-2] if event["choices"][0]["index"] == choice["index"]]
        found = message_of(mine)
        assert without_ids(found["message"]) == without_ids(choice["message"])
        assert (found["finish_reason"], found["token_ids"]) == (choice["finish_reason"], choice["token_ids"])


def test_one_of_several_answers_fails(endpoint: Serve) -> None:
    from toolparse.serving import EngineError

    turns = ["Fine. " * 50, EngineError("out of memory"), "Fine. " * 50, [*b"Hel", "gone"]]
    served = endpoint(TEMPLATE, turns, engine={"delay": 0.001})
    assert ask(served.url, n=2).status_code == 502
    assert "went away" in streamed(served.url, n=2)[-1]["error"]["message"]
    assert until(lambda: served.engine.closed >= 2)
    assert "toolparse_running_requests 0" in httpx.get(f"{served.url}/metrics").text


# ------------------------------------------------------------------------------------------ the Responses API


def response(url: str, **body: Any) -> Any:
    return httpx.post(f"{url}/v1/responses", json={"input": "Hi", **body}, timeout=20)


FLAT = [{"type": "function", **tool["function"]} for tool in fixtures.TOOLS]


def test_responses_whole_and_streamed(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: f"<think>\nHm.\n</think>\n\nOn it.\n{PING}\n{BAD}\n{TRIP}")
    whole = response(served.url, tools=FLAT, instructions="Be brief.").json()
    assert "Be brief." in served.prompt()
    kinds = [item["type"] for item in whole["output"]]
    assert kinds == ["reasoning", "message", "function_call", "message", "function_call"]
    assert whole["output"][3]["content"][0]["text"].strip() == BAD
    assert json.loads(whole["output"][4]["arguments"]) == {"city": "Oslo", "days": 2}
    assert (whole["status"], whole["usage"]["output_tokens"] > 0) == ("completed", True)
    events = []
    for event in response(served.url, tools=FLAT, stream=True).text.strip().split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    texts: dict[int, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            texts[event["output_index"]] = texts.get(event["output_index"], "") + event["delta"]
    said = [item.get("arguments") or item["content"][0]["text"] for item in whole["output"]]
    assert [texts.get(index, "{}") for index in range(len(said))] == said
    last = events[-1]["response"]
    for item in (*last["output"], *whole["output"]):
        item.pop("call_id", None)
        item.pop("id")
    assert last["output"] == whole["output"]


def test_responses_take_their_own_items_back(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, [f"<think>\nHm.\n</think>\n\nOn it.\n{PING}\n{TRIP}", "Done."])
    first = response(served.url, tools=FLAT).json()
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"result of {item['name']}"}
        for item in first["output"]
        if item["type"] == "function_call"
    ]
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}, *first["output"], *results]
    second = response(served.url, tools=FLAT, input=items).json()
    assert second["output"][0]["content"][0]["text"] == "Done."
    prompt = served.prompt()
    assert prompt.count("<|im_start|>assistant") == 2  # the calls are one answer's; the second is to come
    assert "On it." in prompt
    assert prompt.index("result of ping") < prompt.index("result of plan_trip")


def test_responses_that_are_cut_off_are_incomplete(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: "Hello there.")
    cut = response(served.url, max_output_tokens=3).json()
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert cut["output"][0]["status"] == "incomplete"
    assert '"type":"response.incomplete"' in response(served.url, max_output_tokens=3, stream=True).text


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"text": {"format": {"type": "json_object"}}}, "response_format"),
        ({"text": "x"}, "text"),
        ({"reasoning": 5}, "reasoning"),
        ({"max_output_tokens": 0}, "max_tokens"),
        ({"n": 2}, "n"),
    ],
)
def test_responses_bad_requests(plain: Any, body: dict[str, Any], param: str) -> None:
    answer = response(plain.url, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_responses_when_the_engine_dies(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: [*b"Hel", "gone"], engine={"end": None})
    assert response(served.url).json()["error"]["type"] == "server_error"
    assert response(served.url, stream=True).text.split("\n\n")[-2].startswith("event: error\n")


# ------------------------------------------------------------------------------------------- the Messages API


def message(url: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
    body = {"messages": USER, "max_tokens": 500, **body}
    return httpx.post(f"{url}/v1/messages", json=body, headers=headers, timeout=20)


TOOLS = [
    {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"], "description": "d"}
    for tool in fixtures.TOOLS
]


def test_messages_whole_and_streamed(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: f"<think>\nHm.\n</think>\n\nOn it.\n{PING}\n{BAD}\n{TRIP}")
    whole = message(served.url, tools=TOOLS, system="Be brief.").json()
    kinds = [block["type"] for block in whole["content"]]
    assert kinds == ["thinking", "text", "tool_use", "text", "tool_use"]
    assert whole["content"][3]["text"].strip() == BAD
    assert whole["content"][4]["input"] == {"city": "Oslo", "days": 2}
    assert whole["stop_reason"] == "tool_use"
    assert "Be brief." in served.prompt()
    answer = message(served.url, tools=TOOLS, stream=True).text
    blocks: list[Any] = []
    names = []
    for event in answer.strip().split("\n\n"):
        name, data = event.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        names.append(value["type"])
        if value["type"] == "content_block_start":
            blocks.append(dict(value["content_block"]))
        elif value["type"] == "content_block_delta":
            kind = value["delta"]["type"].removesuffix("_delta")
            if kind == "input_json":
                blocks[value["index"]]["input"] = json.loads(value["delta"]["partial_json"])
            else:
                blocks[value["index"]][kind] += value["delta"][kind]
    assert (names[0], names[-2:]) == ("message_start", ["message_delta", "message_stop"])
    for block in (*blocks, *whole["content"]):
        block.pop("id", None)
    assert blocks == whole["content"]


def test_messages_choices(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: f"{TRIP}\n{PING}", engine={"takes": ("gbnf",)})
    message(served.url, tools=TOOLS, tool_choice={"type": "tool", "name": "ping"})
    message(served.url, tools=TOOLS, tool_choice={"type": "any"})
    one = message(served.url, tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True}).json()
    none = message(served.url, tools=TOOLS, tool_choice={"type": "none"}).json()
    held = [sampling.constraint for _, sampling in served.engine.asked]
    assert "plan_trip" not in held[0].text
    assert "plan_trip" in held[1].text
    assert held[2:] == [None, None]
    assert len([block for block in one["content"] if block["type"] == "tool_use"]) == 1
    assert [block["type"] for block in none["content"]] == ["text"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"max_tokens": None}, "max_tokens: is required"),
        ({"messages": "x"}, "messages: "),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0]: "),
        ({"tools": [{"name": "f"}]}, "tools[0]: "),
        ({"temperature": 9}, "temperature: "),
    ],
)
def test_messages_bad_requests(plain: Any, body: dict[str, Any], says: str) -> None:
    answer = message(plain.url, **body)
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith(says)


def test_messages_when_the_engine_dies(endpoint: Serve) -> None:
    served = endpoint(TEMPLATE, lambda _: [*b"Hel", "gone"], engine={"end": None}, api_keys=("k",))
    assert message(served.url).status_code == 401
    key = {"x-api-key": "k"}
    assert message(served.url, key).json()["error"]["type"] == "api_error"
    assert message(served.url, key, stream=True).text.split("\n\n")[-2].startswith("event: error\n")
