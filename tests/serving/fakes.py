"""Stand-ins for vLLM's and SGLang's servers: they refuse every field that the real ones don't know, and every value of
the wrong type, and answer in the same events. The model is `turn`, the ids that each answer has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

NUMBER = (int, float)
# How tokens are drawn, as both call it.
DRAWN: dict[str, Any] = {
    **dict.fromkeys(("temperature", "top_p", "min_p"), NUMBER),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "repetition_penalty"), NUMBER),
    "top_k": int,
    "stop_token_ids": list,
    "skip_special_tokens": bool,
}

# Of vLLM 0.33's CompletionRequest, what a client of token ids may send, and its type.
VLLM_FIELDS: dict[str, Any] = {
    "model": str,
    "prompt": list,
    "max_tokens": int,
    **DRAWN,
    "seed": int,
    "stream": bool,
    "return_token_ids": bool,
    "logprobs": int,
    "return_tokens_as_token_ids": bool,
    "structured_outputs": dict,
}
# Of vLLM's StructuredOutputsParams: exactly one of them.
VLLM_STRUCTURES = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")

# Of SGLang 0.5's GenerateReqInput and SamplingParams.
SGLANG_FIELDS: dict[str, Any] = {
    "input_ids": list,
    "sampling_params": dict,
    "stream": bool,
    "return_logprob": bool,
    "top_logprobs_num": int,
}
SGLANG_SAMPLING: dict[str, Any] = {
    "max_new_tokens": int,
    **DRAWN,
    "sampling_seed": int,
    "no_stop_trim": bool,
    "ebnf": str,
    "structural_tag": str,
}


def complaint(body: dict[str, Any], fields: dict[str, Any]) -> str | None:
    """What is wrong with a request, as the real servers would say."""
    for name, value in body.items():
        if name not in fields:
            return f"extra field {name}"
        wanted = fields[name]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            return f"{name} must be {wanted}, not {value!r}"
    for name in ("prompt", "input_ids", "stop_token_ids"):
        if name in body and not all(isinstance(id, int) and id >= 0 for id in body[name]):
            return f"{name} must hold ids"
    return None


class Fake:
    """What both have in common. `fail`: answer so instead. `dies_after`: tokens until the connection breaks."""

    def __init__(self, turn: list[int]) -> None:
        self.turn = turn
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.fail: tuple[int, Any] | None = None
        self.dies_after: int | None = None
        self.delay = 0.0
        self.given = 0
        self.cancelled = 0

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        if self.fail is not None:
            return JSONResponse(self.fail[1], self.fail[0])
        wrong = self.wrong(body)
        if wrong is not None:
            return JSONResponse({"error": {"message": wrong, "type": "BadRequestError", "code": 400}}, 400)
        return StreamingResponse(self.counted(body), media_type="text/event-stream")

    async def counted(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        try:
            async for event in self.events(body):
                await asyncio.sleep(self.delay)
                yield b"data: " + json.dumps(event).encode() + b"\n\n"
                self.given += 1
                if self.given == self.dies_after:
                    raise ConnectionResetError("died")
            yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def wrong(self, body: dict[str, Any]) -> str | None:
        raise NotImplementedError

    def events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        raise NotImplementedError

    def ids_for(self, limit: int, stops: list[int]) -> tuple[list[int], str, int | None]:
        """The ids, why they end, and at which token."""
        ids = self.turn[:limit]
        at = next((number for number, id in enumerate(ids) if id in stops), None)
        if at is not None:
            return ids[: at + 1], "stop", ids[at]
        return ids, "length" if len(ids) == limit else "stop", None


class FakeVLLM(Fake):
    """`/v1/completions` and `/v1/models`. `old`: knows no `return_token_ids`."""

    def __init__(self, turn: list[int], *, old: bool = False) -> None:
        super().__init__(turn)
        self.old = old

    def app(self) -> Starlette:
        routes = [Route("/v1/completions", self.answer, methods=["POST"]), Route("/v1/models", self.models)]
        return Starlette(routes=routes)

    async def models(self, _: Request) -> Response:
        model = {"id": "served-model", "object": "model", "owned_by": "vllm", "max_model_len": 4096}
        return JSONResponse({"object": "list", "data": [model]})

    def wrong(self, body: dict[str, Any]) -> str | None:
        found = complaint(body, VLLM_FIELDS)
        if found is not None:
            return found
        if body["model"] != "served-model":
            return f"The model `{body['model']}` does not exist."
        structures = body.get("structured_outputs", {"grammar": ""})
        if len(structures) != 1 or not set(structures) <= set(VLLM_STRUCTURES):
            return "exactly one structured output"
        return None

    async def events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}
        ids, reason, stop = self.ids_for(body.get("max_tokens", 16), body.get("stop_token_ids", []))
        for number, id in enumerate(ids):
            last = number == len(ids) - 1
            choice: dict[str, Any] = {
                "index": 0,
                "text": chr(id) if id < 128 else "",
                "logprobs": None,
                "finish_reason": reason if last else None,
                "stop_reason": stop if last else None,
                "prompt_token_ids": None,
                "token_ids": None,
            }
            if body.get("return_token_ids") and not self.old:
                choice["token_ids"] = [id]
                choice["prompt_token_ids"] = body["prompt"] if number == 0 else None
            if "logprobs" in body:
                token = {"text_offset": [0], "token_logprobs": [-0.25 * number], "tokens": ["?"]}
                # The sampled token and the likeliest, in no order.
                likeliest = {id + n: -0.25 * number - n for n in reversed(range(max(body["logprobs"], 1)))}
                name = "token_id:{}" if body.get("return_tokens_as_token_ids") else "token {}"
                choice["logprobs"] = {**token, "top_logprobs": [{name.format(i): p for i, p in likeliest.items()}]}
            yield {**head, "choices": [choice], "usage": None}


class FakeSGLang(Fake):
    """`/generate` and `/model_info`. `incremental`: started with --incremental-streaming-output."""

    def __init__(self, turn: list[int], *, incremental: bool = False) -> None:
        super().__init__(turn)
        self.incremental = incremental

    def app(self) -> Starlette:
        routes = [Route("/generate", self.answer, methods=["POST"]), Route("/model_info", self.about)]
        return Starlette(routes=[*routes, Route("/v1/models", self.models)])

    async def about(self, _: Request) -> Response:
        return JSONResponse({"model_path": "served-model", "is_generation": True})

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "served-model", "max_model_len": 2048}]})

    def wrong(self, body: dict[str, Any]) -> str | None:
        return complaint(body, SGLANG_FIELDS) or complaint(body["sampling_params"], SGLANG_SAMPLING)

    async def events(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        sampling = body["sampling_params"]
        ids, reason, stop = self.ids_for(sampling["max_new_tokens"], sampling.get("stop_token_ids", []))
        # Two tokens to an event, as with --stream-interval 2.
        for at in range(0, len(ids), 2):
            end = min(at + 2, len(ids))
            since = at if self.incremental else 0
            done = {"type": reason, "matched" if reason == "stop" else "length": stop or end}
            meta: dict[str, Any] = {
                "id": "1",
                "finish_reason": done if end == len(ids) else None,
                "prompt_tokens": len(body["input_ids"]),
                "completion_tokens": end,
            }
            if body.get("return_logprob"):
                meta["output_token_logprobs"] = [[-0.25 * number, ids[number], None] for number in range(since, end)]
                meta["input_token_logprobs"] = []
                meta["output_top_logprobs"] = [
                    [[-0.25 * number - n, ids[number] + n, None] for n in range(body.get("top_logprobs_num", 0))]
                    for number in range(since, end)
                ]
            yield {"text": "?", "output_ids": ids[since:end], "meta_info": meta}
