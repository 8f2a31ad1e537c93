"""Endpoints on loopback, each with an engine that plays prepared turns."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NEEDED = ("starlette", "uvicorn", "httpx", "transformers")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

#: The files whose tests need a web server; the others skip for themselves.
WEB = ("test_clients.py", "test_endpoint.py", "test_engines.py", "test_start.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not MISSING:
        return
    skip = pytest.mark.skip(reason=f"{', '.join(MISSING)} not installed: pip install '.[serve]'")
    for item in items:
        if item.path.parent.name == "serving" and item.path.name in WEB:
            item.add_marker(skip)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An ASGI application on 127.0.0.1, on a port of its own; gives the URL and stops at the end."""
    import uvicorn

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(1000):
        if server.started or not thread.is_alive():
            break
        thread.join(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Callable[..., Any]]:
    """`endpoint(template, turns)` serves a model that plays turns; gives an object with `url` and `engine`."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def serve(template: str, turns: Any, *, engine: dict[str, Any] | None = None, **options: Any) -> Any:
            made = Served(template, turns, engine or {}, options)
            made.url = stack.enter_context(served(made.endpoint.app()))
            return made

        yield serve


class Served:
    """An endpoint, what it serves, and what its engine was asked."""

    url = ""

    def __init__(self, template: str, turns: Any, engine: dict[str, Any], options: dict[str, Any]) -> None:
        from fixtures.tiny import tiny_tokenizer
        from toolparse.serving import ScriptedEngine
        from toolparse.serving.app import Endpoint
        from toolparse.serving.model import ChatModel

        self.tokenizer = tiny_tokenizer(template)
        self.model = ChatModel(self.tokenizer, name="tiny")
        engine.setdefault("end", self.tokenizer.eos_token_id)
        self.engine = ScriptedEngine(turns, self.tokenizer, **engine)
        self.endpoint = Endpoint(self.model, self.engine, **options)

    def prompt(self, number: int = -1) -> str:
        """The text of a prompt that the engine was given."""
        return str(self.tokenizer.decode(list(self.engine.asked[number][0])))
