"""The endpoint under load: 200 streams at once against an engine that plays turns, beside a bare Starlette application
that sends the same bytes in as many pieces.

python benchmarks/serve.py [--requests 10000] [--streams 200]

Each server runs in a process of its own; the client in this one. A request counts as lost unless its stream ends with
`[DONE]` and has every byte that is expected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fixtures

CALL = {"name": "write_file", "arguments": {"path": "notes.md", "text": "word " * 40}}
BODY = json.dumps(
    {
        "messages": [{"role": "user", "content": "Write it down."}],
        "tools": fixtures.TOOLS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
).encode()


def endpoint(port: Any, _: Any) -> None:
    """The endpoint with a scripted engine: a token to a piece."""
    import toolparse
    from fixtures.tiny import tiny_tokenizer
    from toolparse.serving import ScriptedEngine
    from toolparse.serving.app import Endpoint, ServerLimits
    from toolparse.serving.model import ChatModel

    tokenizer = tiny_tokenizer(
        fixtures.template("qwen"), corpus=["word " * 200, "Let me write that down."], vocab_size=600
    )
    parser = toolparse.parser_for("qwen")
    assert isinstance(parser, toolparse.Parser)
    ids = tokenizer.encode(parser.render([CALL], content="Let me write that down. " * 8), add_special_tokens=False)
    engine = ScriptedEngine(lambda _: ids, end=tokenizer.eos_token_id)
    limits = ServerLimits(running=1000, waiting=1000)
    run(Endpoint(ChatModel(tokenizer, name="tiny"), engine, limits=limits).app(), port)


def echo(port: Any, pieces: Any) -> None:
    """What a server must do at the least: the same bytes in the same pieces."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    async def send() -> Any:
        for piece in pieces:
            await asyncio.sleep(0)  # as the engine does
            yield piece

    async def answer(request: Request) -> Response:
        await request.body()
        return StreamingResponse(send(), media_type="text/event-stream")

    run(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])]), port)


def run(app: Any, port: Any) -> None:
    """Serve, and tell on which port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port.put(server.servers[0].sockets[0].getsockname()[1])
        await serving

    asyncio.run(main())


async def request(port: int) -> bytes:
    """One request on a connection of its own; the body of the answer as it was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n\r\n"
    writer.write(head.encode() + BODY)
    answer = await reader.read(-1)
    writer.close()
    return answer


def body_of(answer: bytes) -> list[bytes]:
    """The pieces of a chunked answer."""
    rest = answer.partition(b"\r\n\r\n")[2]
    pieces = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        pieces.append(rest[:length])
        rest = rest[length + 2 :]
    return pieces


async def load(port: int, requests: int, streams: int, size: int) -> tuple[float, int]:
    """Seconds for so many requests, and how many of them were lost."""
    lost = 0
    left = iter(range(requests))

    async def client() -> None:
        nonlocal lost
        for _ in left:
            try:
                answer = await request(port)
            except OSError:
                lost += 1
                continue
            pieces = body_of(answer)
            lost += not (pieces and pieces[-1].endswith(b"data: [DONE]\n\n") and sum(map(len, pieces)) == size)

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(streams)))
    return time.perf_counter() - start, lost


def memory(pid: int) -> float:
    """Resident megabytes of a process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    import os

    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, target: Any, pieces: list[bytes], requests: int, streams: int) -> list[bytes]:
    """Run one server under load and print a line; gives the pieces of an answer."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=target, args=(queue, pieces), daemon=True)
    process.start()
    try:
        port = queue.get(timeout=60)
        seen = body_of(asyncio.run(request(port)))
        size = sum(map(len, seen))
        events = sum(piece.count(b"data: ") for piece in seen)
        usage = json.loads(b"".join(seen).split(b"data: ")[-2])["usage"]
        tokens = usage["completion_tokens"]
        asyncio.run(load(port, streams, streams, size))  # warm
        assert process.pid is not None
        marks = [memory(process.pid)]
        used, seconds, lost = cpu_seconds(process.pid), 0.0, 0
        for _ in range(4):
            took, missing = asyncio.run(load(port, requests // 4, streams, size))
            seconds, lost = seconds + took, lost + missing
            marks.append(memory(process.pid))
        used = cpu_seconds(process.pid) - used
        print(
            f"{name:<10} {requests} requests, {streams} at once: lost {lost}; {seconds:.1f} s; of the server's time "
            f"{used / requests * 1e3:.2f} ms a request, {used / requests / tokens * 1e6:.0f} us a token ({tokens}; "
            f"{events} events); "
            f"memory {' '.join(f'{mark:.0f}' for mark in marks)} MB"
        )
        return seen
    finally:
        process.terminate()
        process.join(10)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--streams", type=int, default=200)
    given = options.parse_args()
    pieces = measure("endpoint", endpoint, [], given.requests, given.streams)
    measure("echo", echo, pieces, given.requests, given.streams)


if __name__ == "__main__":
    main()
