"""Engines behind HTTP: vLLM's `/v1/completions` and SGLang's `/generate`, both with token ids in and out.

They are asked for ids and never for text: special tokens are kept, and nothing is tokenized twice. Closing a stream
closes the connection, by which both servers stop the generation.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any

import httpx

from toolparse.openai import Finish
from toolparse.serving.engine import Constraint, Engine, EngineError, Piece, Sampling, Top

_LONGEST_ERROR = 500
# A model may think for long before its first token; that it is there at all is known quickly.
_TIMEOUT = httpx.Timeout(None, connect=10.0, write=30.0)


class _HttpEngine(Engine):
    path = ""
    most_top = 20

    def __init__(self, url: str, *, model: str = "", api_key: str | None = None) -> None:
        self.model = model
        self.url = url.rstrip("/")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, headers=_headers(api_key))

    async def aclose(self) -> None:
        await self._client.aclose()

    def _body(self, prompt: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        raise NotImplementedError

    def _piece(self, chunk: Any, seen: int, sampling: Sampling) -> Piece | None:
        """What one event says; None if it says nothing."""
        raise NotImplementedError

    async def stream(self, prompt: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        body = self._body(prompt, sampling)
        seen = 0
        try:
            async with self._client.stream("POST", self.url + self.path, json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refused(response)
                async for chunk in _events(response):
                    piece = self._piece(chunk, seen, sampling)
                    if piece is None:
                        continue
                    if sampling.logprobs and len(piece.logprobs or ()) != len(piece.ids):
                        raise EngineError("the engine gave another number of log-probs than of tokens")
                    if sampling.top_logprobs and len(piece.top or ()) != len(piece.ids):
                        raise EngineError("the engine gave no top log-probs for some tokens")
                    seen += len(piece.ids)
                    yield piece
                    if piece.finish is not None:
                        return
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            status = 503 if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else 502
            raise EngineError(f"the engine at {self.url} can't be read: {reason}", status=status) from error
        raise EngineError(f"the engine at {self.url} ended its answer without saying why")


def _headers(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


async def _events(response: httpx.Response) -> AsyncIterator[Any]:
    """The JSON of each server-sent event."""
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            return
        try:
            chunk = json.loads(data)
        except ValueError as error:
            raise EngineError(f"the engine sent what is no JSON: {data[:100]}") from error
        if not isinstance(chunk, dict):
            raise EngineError(f"the engine sent what is no object: {data[:100]}")
        if "error" in chunk:
            raise EngineError(_message_in(chunk) or "the engine reported an error")
        yield chunk


def _refused(response: httpx.Response) -> EngineError:
    try:
        message = _message_in(response.json())
    except ValueError:
        message = response.text
    # Full or starting: the client may try again. Anything else is between us and the engine.
    status = response.status_code if response.status_code in (429, 503) else 502
    message = message or "no reason given"
    return EngineError(f"the engine refused ({response.status_code}): {message[:_LONGEST_ERROR]}", status=status)


def _message_in(body: Any) -> str:
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or json.dumps(error)
    return str(error)


def _ids(value: Any, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(id, int) for id in value):
        raise EngineError(f"the engine gave no token ids in {what}")
    return tuple(value)


class VLLMEngine(_HttpEngine):
    """vLLM, 0.10.2 or newer, or a server with the same `/v1/completions` and `return_token_ids`."""

    path = "/v1/completions"
    takes = ("structural_tag", "ebnf", "lark")

    def _body(self, prompt: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": sampling.max_tokens,
            "stop_token_ids": list(sampling.stop_ids),
            "skip_special_tokens": False,
            "stream": True,
            "return_token_ids": True,
            **sampling.given(),
        }
        if sampling.logprobs:
            body["logprobs"] = sampling.top_logprobs  # 0: of the sampled token alone
        if sampling.top_logprobs:
            body["return_tokens_as_token_ids"] = True
        if sampling.constraint is not None:
            body["structured_outputs"] = _structured(sampling.constraint)
        return body

    def _piece(self, chunk: Any, seen: int, sampling: Sampling) -> Piece | None:
        choices = chunk.get("choices")
        if not choices:
            return None  # the usage at the end
        choice = choices[0]
        ids = choice.get("token_ids")
        if ids is None and choice.get("text"):
            raise EngineError("the engine gave no token_ids: it must know return_token_ids (vLLM 0.10.2 or newer)")
        logprobs = top = None
        if sampling.logprobs:
            given = choice.get("logprobs") or {}
            logprobs = tuple(float(value) for value in given.get("token_logprobs") or () if value is not None)
            if sampling.top_logprobs:
                top = tuple(_likeliest(_by_id(entry), sampling) for entry in given.get("top_logprobs") or ())
        return Piece(_ids(ids or [], "token_ids"), logprobs, _finish(choice.get("finish_reason")), top)


def _by_id(entry: Any) -> list[tuple[int, float]]:
    """vLLM's map from `token_id:5` to a log-prob."""
    try:
        return [(int(name.removeprefix("token_id:")), float(value)) for name, value in entry.items()]
    except (AttributeError, TypeError, ValueError):
        raise EngineError("the engine gave no ids in top_logprobs") from None


def _likeliest(pairs: Iterable[tuple[int, float]], sampling: Sampling) -> Top:
    """As many as were asked for: servers add the sampled token."""
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[: sampling.top_logprobs])


def _structured(constraint: Constraint) -> dict[str, str]:
    field = "structural_tag" if constraint.syntax == "structural_tag" else "grammar"
    return {field: constraint.text}


class SGLangEngine(_HttpEngine):
    """SGLang's native `/generate`, streaming cumulative or incremental output."""

    path = "/generate"
    takes = ("structural_tag", "ebnf")

    def _body(self, prompt: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        params: dict[str, Any] = {
            "max_new_tokens": sampling.max_tokens,
            "stop_token_ids": list(sampling.stop_ids),
            "skip_special_tokens": False,
            "no_stop_trim": True,
            **sampling.given(seed="sampling_seed"),
        }
        if sampling.constraint is not None:
            params[sampling.constraint.syntax] = sampling.constraint.text
        body: dict[str, Any] = {"input_ids": list(prompt), "sampling_params": params, "stream": True}
        if sampling.logprobs:
            body["return_logprob"] = True
        if sampling.top_logprobs:
            body["top_logprobs_num"] = sampling.top_logprobs
        return body

    def _piece(self, chunk: Any, seen: int, sampling: Sampling) -> Piece | None:
        meta: dict[str, Any] = chunk.get("meta_info") or {}
        ids = _ids(chunk.get("output_ids"), "output_ids")
        # By default every event repeats the whole output; --incremental-streaming-output sends what is new.
        fresh = seen if len(ids) == meta.get("completion_tokens") else 0
        logprobs = top = None
        if sampling.logprobs:
            logprobs = tuple(float(entry[0]) for entry in (meta.get("output_token_logprobs") or [])[fresh:])
        if sampling.top_logprobs:
            listed = (meta.get("output_top_logprobs") or [])[fresh:]
            top = tuple(_likeliest(((int(one[1]), float(one[0])) for one in place), sampling) for place in listed)
        reason = meta.get("finish_reason")
        kind = reason.get("type") if isinstance(reason, dict) else reason
        if isinstance(reason, dict) and kind == "abort":
            raise EngineError(f"the engine gave up: {reason.get('message', 'aborted')}")
        return Piece(ids[fresh:], logprobs, _finish(kind), top)


def _finish(reason: Any) -> Finish | None:
    if reason is None:
        return None
    if reason not in ("stop", "length"):
        raise EngineError(f"the engine ended with {reason!r}")
    return "stop" if reason == "stop" else "length"


async def engine_at(url: str, *, kind: str = "auto", model: str = "", api_key: str | None = None) -> _HttpEngine:
    """The engine behind a URL. `kind`: `vllm`, `sglang`, or `auto`, which asks the server.

    For vLLM the first model that it lists is taken unless one is named. Raises EngineError if nobody answers.
    """
    base = url.rstrip("/").removesuffix("/v1")
    listed: dict[str, Any] = {}
    try:
        # Connections belong to the loop that made them: the engine, which another loop may run, makes its own.
        async with httpx.AsyncClient(timeout=_TIMEOUT, headers=_headers(api_key)) as client:
            if kind == "auto":
                answer = await client.get(f"{base}/model_info")
                kind = "sglang" if answer.status_code == 200 else "vllm"
            answer = await client.get(f"{base}/v1/models")
            if answer.status_code == 200:
                models = answer.json().get("data") or [{}]
                listed = next((entry for entry in models if entry.get("id") == model), models[0])
    except (httpx.HTTPError, ValueError, AttributeError) as error:
        raise EngineError(f"no engine answers at {base}: {error or type(error).__name__}", status=503) from error
    made = (SGLangEngine if kind == "sglang" else VLLMEngine)(
        base, model=model or listed.get("id", ""), api_key=api_key
    )
    length = listed.get("max_model_len")
    made.context = length if isinstance(length, int) else None
    return made
