"""The tools of an MCP server, as tools of rollouts. Needs the ``mcp`` package (``pip install 'toolparse[mcp]'``)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from .executor import OwnLoop, ToolSpec

__all__ = ["MCPTools"]


class MCPTools:
    """One server, for as long as the ``with`` block lasts; iterating gives its tools.

    ::

        with MCPTools("python", "server.py") as server:
            ToolGRPOTrainer(model="...", tools=[*server, search], ...).train()

    All rollouts share the server, so what it remembers they share too; calls run side by side. A result that the server
    marks as an error, and a server that is gone, are answers like those of any tool that fails.

    Args:
        command: The server's program and its arguments, spoken to over its input and output; or one URL.
        env: Its environment variables; the mcp package's short list of harmless ones when left out.
        prefix: Put before the names of the tools, should those of two servers clash.
        timeout: Seconds within which it must be connected.
    """

    def __init__(
        self, *command: str, env: dict[str, str] | None = None, prefix: str = "", timeout: float = 60.0
    ) -> None:
        if not command:
            raise TypeError("MCPTools needs the server's command line, or its URL")
        self._command = command
        self._env = env
        self._prefix = prefix
        self._timeout = timeout
        self._loop = OwnLoop("mcp")
        self._stop = asyncio.Event()
        self._ended: Future[Any] | None = None
        self._client: Any = None
        self._specs: list[ToolSpec] = []

    def __enter__(self) -> MCPTools:
        ready: Future[None] = Future()
        self._ended = self._loop.submit(self._connected(ready))
        try:
            ready.result(self._timeout)
        except BaseException as error:
            self.__exit__()
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ConnectionError(f"the MCP server {' '.join(self._command)!r} can't be used: {said}") from error
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.loop.call_soon_threadsafe(self._stop.set)
        if self._ended is not None:
            try:
                self._ended.result(10)
            except Exception:  # noqa: BLE001 - it is gone in one way or another
                self._ended.cancel()
        self._loop.stop()

    def __iter__(self) -> Iterator[ToolSpec]:
        return iter(self._specs)

    async def _connected(self, ready: Future[None]) -> None:
        # The connection is opened and closed by one task, as the package wants it.
        try:
            from mcp import Client, StdioServerParameters

            url = len(self._command) == 1 and "://" in self._command[0]
            target = (
                self._command[0]
                if url
                else StdioServerParameters(command=self._command[0], args=list(self._command[1:]), env=self._env)
            )
            async with Client(target) as client:
                self._client = client
                cursor = None
                while True:
                    page = await client.list_tools(cursor=cursor)
                    self._specs += map(self._spec, page.tools)
                    cursor = page.next_cursor
                    if cursor is None:
                        break
                ready.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    def _spec(self, tool: Any) -> ToolSpec:
        async def call(**arguments: Any) -> Any:
            return await asyncio.wrap_future(self._loop.submit(self._called(tool.name, arguments)))

        name = self._prefix + tool.name
        function = {"name": name, "description": tool.description or "", "parameters": tool.input_schema}
        return ToolSpec(name, call, {"type": "function", "function": function})

    async def _called(self, name: str, arguments: dict[str, Any]) -> Any:
        result = await self._client.call_tool(name, arguments)
        parts = [part.model_dump(mode="json", exclude_none=True) for part in result.content]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        if result.is_error:
            raise RuntimeError("\n".join(texts) or "the server says that the call failed")
        if len(texts) < len(parts):
            return parts  # images and the like, which the executor refuses
        return "\n".join(texts) if texts else result.structured_content
