"""Engines: what is sent to the servers, what is read from them, and models in this process for real."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest

import fixtures
from tests.serving import stand_ins
from tests.serving.conftest import served

httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install '.[serve]'")
pytest.importorskip("starlette", reason="starlette is not installed: pip install '.[serve]'")

from tests.serving.fakes import FakeSGLang, FakeVLLM  # noqa: E402
from toolparse.serving import Constraint, Engine, EngineError, Piece, Sampling, ScriptedEngine  # noqa: E402
from toolparse.serving.http import SGLangEngine, VLLMEngine, engine_at  # noqa: E402

TURN = [72, 101, 108, 108, 111, 7]
PROMPT = [1, 2, 3]


def collect(engine: Engine, sampling: Sampling, *, most: int | None = None) -> list[Piece]:
    """The pieces of one stream, closed behind the first `most` of them."""

    async def run() -> list[Piece]:
        made: list[Piece] = []
        async with aclosing(engine.stream(PROMPT, sampling)) as pieces:
            async for piece in pieces:
                made.append(piece)
                if len(made) == most:
                    break
        await engine.aclose()
        return made

    return asyncio.run(run())


def whole(engine: Engine, sampling: Sampling) -> Piece:
    async def run() -> Piece:
        made = await engine.generate(PROMPT, sampling)
        await engine.aclose()
        return made

    return asyncio.run(run())


def ids_of(pieces: list[Piece]) -> list[int]:
    return [id for piece in pieces for id in piece.ids]


EVERYTHING = Sampling(
    9, 0.5, 0.9, 5, 0.1, 7, 0.2, 0.3, 1.1, (7,), True, 3, constraint=Constraint("ebnf", 'root ::= "a"')
)


def test_vllm_knows_every_field_that_it_is_sent() -> None:
    with stand_ins.real_vllm():
        protocol = importlib.import_module("vllm.entrypoints.openai.completion.protocol")
        body = VLLMEngine("http://x", model="m")._body(PROMPT, EVERYTHING)
        assert set(body) <= set(protocol.CompletionRequest.model_fields)
        read = protocol.CompletionRequest(**body).to_sampling_params(9, {})
        assert (read.stop_token_ids, read.seed, read.logprobs, read.skip_special_tokens) == ([7], 7, 3, False)
        assert read.structured_outputs.grammar == 'root ::= "a"'


def test_sglang_knows_every_field_that_it_is_sent() -> None:
    with stand_ins.real_sglang():
        body = SGLangEngine("http://x")._body(PROMPT, EVERYTHING)
        sampling = importlib.import_module("sglang.srt.sampling.sampling_params").SamplingParams
        assert set(body["sampling_params"]) <= set(sampling.__struct_fields__)
        source = (stand_ins.SERVERS / "sglang" / "srt" / "managers" / "io_struct.py").read_text("utf-8")
        known = re.search(r"class GenerateReqInput.*?(?=\nclass )", source, re.DOTALL)
        for name in body:
            assert re.search(rf"^    {name}: ", known[0], re.MULTILINE), name


FAKES = ["vllm", "sglang", "sglang-incremental"]


@contextmanager
def fake(kind: str) -> Iterator[tuple[Any, Any]]:
    """A server and a function that makes an engine for it."""
    server: Any = FakeVLLM(TURN) if kind == "vllm" else FakeSGLang(TURN, incremental=kind.endswith("incremental"))
    made = VLLMEngine if kind == "vllm" else SGLangEngine
    with served(server.app()) as url:
        yield server, lambda: made(url, model="served-model", api_key="k")


DRAWN: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.1}
DRAWN |= {"presence_penalty": 0.5, "frequency_penalty": 0.25, "repetition_penalty": 1.1}
FULL = Sampling(64, **DRAWN, seed=7, stop_ids=(7,), logprobs=True, constraint=Constraint("ebnf", 'root ::= "a"'))


@pytest.mark.parametrize("kind", FAKES)
def test_ids_and_logprobs_come_back_as_they_are(kind: str) -> None:
    with fake(kind) as (server, engine):
        pieces = collect(engine(), FULL)
        assert ids_of(pieces) == TURN
        assert [value for piece in pieces for value in piece.logprobs or ()] == [-0.25 * n for n in range(len(TURN))]
        assert [piece.finish for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1].finish == "stop"
        assert server.keys == ["Bearer k"]
        assert whole(engine(), Sampling(3)) == Piece(tuple(TURN[:3]), None, "length")


@pytest.mark.parametrize("kind", FAKES)
def test_the_likeliest_tokens(kind: str) -> None:
    with fake(kind) as (_, engine):
        made = whole(engine(), Sampling(64, logprobs=True, top_logprobs=2))
    assert made.top == tuple(((id, -0.25 * n), (id + 1, -0.25 * n - 1)) for n, id in enumerate(TURN))


def test_every_field_that_vllm_is_sent() -> None:
    with fake("vllm") as (server, engine):
        collect(engine(), FULL)
        collect(engine(), Sampling(5))
        collect(engine(), Sampling(5, constraint=Constraint("structural_tag", "{}")))
    assert server.asked[0] == {
        "model": "served-model",
        "prompt": PROMPT,
        "max_tokens": 64,
        **DRAWN,
        "seed": 7,
        "stop_token_ids": [7],
        "skip_special_tokens": False,
        "stream": True,
        "return_token_ids": True,
        "logprobs": 0,
        "structured_outputs": {"grammar": 'root ::= "a"'},
    }
    assert "logprobs" not in server.asked[1]
    assert "temperature" not in server.asked[1]
    assert server.asked[2]["structured_outputs"] == {"structural_tag": "{}"}


def test_every_field_that_sglang_is_sent() -> None:
    with fake("sglang") as (server, engine):
        collect(engine(), FULL)
        collect(engine(), Sampling(5, constraint=Constraint("structural_tag", "{}")))
    assert server.asked[0] == {
        "input_ids": PROMPT,
        "stream": True,
        "return_logprob": True,
        "sampling_params": {
            "max_new_tokens": 64,
            **DRAWN,
            "sampling_seed": 7,
            "stop_token_ids": [7],
            "skip_special_tokens": False,
            "no_stop_trim": True,
            "ebnf": 'root ::= "a"',
        },
    }
    assert server.asked[1]["sampling_params"]["structural_tag"] == "{}"


@pytest.mark.parametrize("kind", FAKES)
def test_closing_a_stream_stops_the_server(kind: str) -> None:
    with fake(kind) as (server, engine):
        server.turn = [5] * 3000
        server.delay = 0.005

        async def run() -> None:
            made = engine()
            async with aclosing(made.stream(PROMPT, Sampling(3000))) as pieces:
                async for _ in pieces:
                    break
            for _ in range(200):
                if server.cancelled:
                    break
                await asyncio.sleep(0.02)
            await made.aclose()

        asyncio.run(run())
        assert server.cancelled == 1
        assert server.given < 1000


@pytest.mark.parametrize("kind", FAKES)
@pytest.mark.parametrize(("status", "seen"), [(400, 502), (404, 502), (429, 429), (500, 502), (503, 503)])
def test_what_a_server_refuses(kind: str, status: int, seen: int) -> None:
    with fake(kind) as (server, engine):
        for body in ({"error": {"message": "no, thanks"}}, {"message": "no, thanks"}, ["no, thanks"], "no, thanks"):
            server.fail = (status, body)
            with pytest.raises(EngineError, match="no, thanks") as caught:
                collect(engine(), Sampling(5))
            assert caught.value.status == seen


@pytest.mark.parametrize("kind", FAKES)
def test_a_server_that_dies(kind: str) -> None:
    with fake(kind) as (server, engine):
        server.dies_after = 2
        with pytest.raises(EngineError) as caught:
            collect(engine(), Sampling(50))
        assert caught.value.status == 502
    with pytest.raises(EngineError) as caught:
        collect(engine(), Sampling(5))
    assert caught.value.status == 503  # nobody is there any more


def test_a_server_without_token_ids_says_what_is_needed() -> None:
    server = FakeVLLM(TURN, old=True)
    with served(server.app()) as url, pytest.raises(EngineError, match="return_token_ids"):
        collect(VLLMEngine(url, model="served-model"), Sampling(5))


@pytest.mark.parametrize(
    "event",
    ["{", "[]", '{"error": {"message": "cuda"}}', '{"choices": [{"token_ids": ["a"]}]}', '{"choices": []}'],
)
def test_answers_that_are_none(event: str) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def answer(_: Request) -> Response:
        return PlainTextResponse(f"data: {event}\n\n", media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/completions", answer, methods=["POST"])])
    with served(app) as url, pytest.raises(EngineError):
        collect(VLLMEngine(url), Sampling(5))


def test_sglang_gives_up() -> None:
    engine = SGLangEngine("http://127.0.0.1:9")
    chunk = {"output_ids": [], "meta_info": {"finish_reason": {"type": "abort", "message": "too long"}}}
    with pytest.raises(EngineError, match="too long"):
        engine._piece(chunk, 0, Sampling(5))


@pytest.mark.parametrize("kind", FAKES)
def test_which_server_it_is(kind: str) -> None:
    server: Any = FakeVLLM(TURN) if kind == "vllm" else FakeSGLang(TURN, incremental=kind.endswith("incremental"))

    async def run(url: str) -> Any:
        engine = await engine_at(url)
        made = await engine.generate(PROMPT, Sampling(50, stop_ids=(7,)))
        await engine.aclose()
        return engine, made

    with served(server.app()) as url:
        for address in (url, url + "/", url + "/v1"):
            engine, made = asyncio.run(run(address))
            assert type(engine) is (VLLMEngine if kind == "vllm" else SGLangEngine)
            assert list(made.ids) == TURN
            assert engine.model == "served-model"
            assert engine.context in (4096, 2048)
    with pytest.raises(EngineError, match="no engine answers"):
        asyncio.run(run(url))


@pytest.mark.parametrize("kind", FAKES)
def test_an_endpoint_in_front_of_a_server(kind: str) -> None:
    """Tool calling before a raw completions server, with a constraint that reaches it."""
    from fixtures.tiny import tiny_tokenizer
    from toolparse.serving.app import Endpoint
    from toolparse.serving.model import ChatModel

    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    text = 'On it.\n<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'
    with fake(kind) as (server, engine):
        server.turn = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id, 65]
        endpoint = Endpoint(ChatModel(tokenizer, name="tiny"), engine())
        with served(endpoint.app()) as url:
            body: dict[str, Any] = {
                "messages": [{"role": "user", "content": "Hi"}],
                "tools": fixtures.TOOLS,
                "tool_choice": "required",
                "temperature": 0,
                "logprobs": True,
                "return_token_ids": True,
            }
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20).json()
            (choice,) = answer["choices"]
            assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["ping"]
            assert choice["token_ids"] == server.turn[:-1]
            assert len(choice["logprobs"]["content"]) == len(server.turn) - 1
            asked = server.asked[0]
            assert "plan_trip" in json.dumps(asked.get("structured_outputs", asked.get("sampling_params")))
            server.fail = (429, {"error": {"message": "full"}})
            full = httpx.post(f"{url}/v1/chat/completions", json={**body, "stream": True}, timeout=20)
            assert full.status_code == 429
            assert full.json()["error"]["type"] == "rate_limit_error"


# --------------------------------------------------------------------------------------------------- in this process


def test_scripted_turns_are_played_in_order() -> None:
    engine = ScriptedEngine([[1, 2], [3]], end=9)
    assert whole(engine, Sampling(10)).ids == (1, 2, 9)
    assert whole(engine, Sampling(10, logprobs=True)) == Piece((3, 9), (-0.5, -0.5), "stop")
    assert whole(ScriptedEngine([[1, 2, 3]]), Sampling(2)) == Piece((1, 2), None, "length")


@pytest.fixture(scope="module")
def tiny() -> Any:
    pytest.importorskip("torch", reason="torch is not installed")
    import torch

    from fixtures.tiny import tiny_model, tiny_tokenizer
    from toolparse.serving.in_process import TransformersEngine

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(fixtures.template("qwen"))
    return tokenizer, TransformersEngine(tiny_model(tokenizer))


def test_transformers_greedy_is_what_generate_gives(tiny: Any) -> None:
    import torch

    tokenizer, engine = tiny
    prompt = torch.tensor([PROMPT])
    stop = tokenizer.eos_token_id
    expected = engine.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False, pad_token_id=0
    )
    made = whole(engine, Sampling(20, temperature=0.0, stop_ids=(stop,), logprobs=True, top_logprobs=3))
    assert [(id, logprob) for (id, logprob), *_ in made.top or ()] == list(
        zip(made.ids, made.logprobs or (), strict=True)
    )
    assert all(len(likeliest) == 3 and likeliest[1][1] >= likeliest[2][1] for likeliest in made.top or ())
    assert list(made.ids) == expected[0, len(PROMPT) :].tolist()
    assert made.finish == ("stop" if made.ids[-1] == stop else "length")
    logits = engine.model(expected).logits[0, len(PROMPT) - 1 : -1]
    wanted = torch.log_softmax(logits.float(), -1).gather(1, expected[0, len(PROMPT) :, None])[:, 0]
    assert torch.allclose(torch.tensor(made.logprobs), wanted, atol=1e-4)


def test_transformers_sampling(tiny: Any) -> None:
    _, engine = tiny
    drawn = [
        whole(engine, Sampling(12, temperature=1.0, top_p=0.9, top_k=50, min_p=0.01, seed=seed)) for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    again = whole(engine, Sampling(12, repetition_penalty=1.5, seed=1))
    assert len(again.ids) == 12
    with pytest.raises(EngineError, match="penalty") as caught:
        whole(engine, Sampling(2, presence_penalty=1.0))
    assert caught.value.status == 400
    with pytest.raises(EngineError, match="grammar"):
        whole(engine, Sampling(2, constraint=Constraint("gbnf", "")))


def test_transformers_stops_when_nobody_listens(tiny: Any) -> None:
    _, engine = tiny
    assert len(collect(engine, Sampling(1500, seed=1), most=3)) == 3
    # The model is free again at once: the second request does not wait for 1,500 tokens.
    assert len(whole(engine, Sampling(5, seed=1)).ids) == 5


def test_transformers_takes_requests_in_turn(tiny: Any) -> None:
    _, engine = tiny

    async def run() -> list[Piece]:
        return await asyncio.gather(*(engine.generate(PROMPT, Sampling(6, seed=seed)) for seed in range(5)))

    together = asyncio.run(run())
    assert together == [whole(engine, Sampling(6, seed=seed)) for seed in range(5)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    for name in ("llama_cpp", "gguf", "torch"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    from fixtures.tiny import tiny_tokenizer
    from tests.serving.tiny_gguf import write_gguf
    from toolparse.serving.gguf import GgufTokenizer, load_llama
    from toolparse.serving.in_process import LlamaCppEngine

    tokenizer = tiny_tokenizer(fixtures.template("qwen"), corpus=["hello world, the weather in this city"] * 4)
    path = write_gguf(tokenizer, tmp_path_factory.mktemp("gguf") / "tiny.gguf")
    loaded = load_llama(str(path))
    yield tokenizer, GgufTokenizer(loaded), LlamaCppEngine(loaded)
    loaded.close()


def test_a_gguf_vocabulary_is_the_tokenizers(llama: Any) -> None:
    tokenizer, ours, engine = llama
    for text in ("<|im_start|>user\nhello é→ 你<tool_call>", " a  b", ""):
        assert ours.encode(text) == tokenizer.encode(text, add_special_tokens=False)
        assert ours.decode(ours.encode(text)) == text
    assert ours.get_added_vocab() == tokenizer.get_added_vocab()
    assert (len(ours), ours.eos_token) == (len(tokenizer), tokenizer.eos_token)
    assert ours.chat_template == tokenizer.chat_template
    assert engine.context == 2048


def test_a_gguf_vocabulary_is_read_as_the_tokenizers_own(llama: Any) -> None:
    from toolparse.tokens import TokenText, Vocabulary

    tokenizer, ours, _ = llama
    text = '<tool_call>\n{"städte": "你好 🙂  world"}\n</tool_call><|im_end|>'
    ids = tokenizer.encode(text, add_special_tokens=False)
    read = TokenText(Vocabulary(ours), ())
    assert "".join([*(read.feed([id]) for id in ids), read.feed((), final=True)]) == text
    assert [ours.convert_ids_to_tokens(id) for id in (*ids, -1, len(ours))] == [
        *tokenizer.convert_ids_to_tokens(ids),
        None,
        None,
    ]


def test_llama_cpp_writes_what_the_grammar_says(llama: Any) -> None:
    """A model of random weights can write nothing but a call: what it wrote of it is read without an error of form."""
    import toolparse

    _, tokenizer, engine = llama
    tool = {
        "type": "function",
        "function": {
            "name": "roll",
            "parameters": {"type": "object", "properties": {"sides": {"enum": [6, 20]}}, "required": ["sides"]},
        },
    }
    parser = toolparse.parser_for(tokenizer, tools=[tool])
    text = parser.grammar(syntax="gbnf", required=True, content=False, reasoning=False, parallel=False)
    sampling = Sampling(200, temperature=1.0, stop_ids=(tokenizer.eos_token_id,), constraint=Constraint("gbnf", text))
    for seed in range(3):
        made = whole(engine, dataclasses.replace(sampling, seed=seed))
        assert made.finish == "stop"
        # As text: a model of random weights spells markers with ordinary tokens, which as ids are no markers.
        (call,) = parser.parse(tokenizer.decode(list(made.ids))).tool_calls
        assert call.ok
        assert call.arguments["sides"] in (6, 20)


def test_llama_cpp_greedy_and_logprobs(llama: Any) -> None:
    _, _, engine = llama
    greedy = Sampling(10, temperature=0.0, logprobs=True, top_logprobs=2)
    made = whole(engine, greedy)
    assert [(id, logprob) for (id, logprob), _ in made.top or ()] == list(
        zip(made.ids, made.logprobs or (), strict=True)
    )
    assert made == whole(engine, greedy)
    assert made.finish == "length"
    assert all(-20 < value <= 0 for value in made.logprobs or ())
    # The likeliest token's chance is at least that of any other.
    assert all(value >= -math.log(engine.llama.n_vocab()) for value in made.logprobs or ())
    assert len(collect(engine, Sampling(1000, seed=1), most=3)) == 3


def test_a_gguf_model_behind_the_endpoint(llama: Any) -> None:
    from toolparse.serving.app import Endpoint
    from toolparse.serving.model import ChatModel

    _, tokenizer, engine = llama
    endpoint = Endpoint(ChatModel(tokenizer, name="tiny"), engine)
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "hello"}],
        "tools": [{"type": "function", "function": {"name": "ping"}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "chat_template_kwargs": {"enable_thinking": False},
        "max_tokens": 300,
        "seed": 3,
        "n": 8,
    }
    schema = {"type": "object", "properties": {"sides": {"enum": [6, 20]}}, "required": ["sides"]}
    form = {"type": "json_schema", "json_schema": {"name": "die", "schema": schema}}
    told = {**body, "tools": [], "tool_choice": None, "response_format": form}
    with served(endpoint.app()) as url:
        calling, telling = (
            [choice for choice in answer.json()["choices"] if choice["finish_reason"] != "length"]
            for answer in (httpx.post(f"{url}/v1/chat/completions", json=one, timeout=60) for one in (body, told))
        )
    assert calling
    assert telling
    for choice in calling:
        assert [call["function"] for call in choice["message"]["tool_calls"]] == [{"name": "ping", "arguments": "{}"}]
    for choice in telling:
        assert json.loads(choice["message"]["content"])["sides"] in (6, 20)
