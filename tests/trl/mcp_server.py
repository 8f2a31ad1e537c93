"""An MCP server for the tests, on its standard input and output."""

from __future__ import annotations

import asyncio
import os

from mcp.server import MCPServer

server = MCPServer("tests")


@server.tool()
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


@server.tool()
def refuse(text: str) -> str:
    """Refuse."""
    raise ValueError(f"no {text}")


@server.tool()
async def doze() -> str:
    """Sleep for ever."""
    await asyncio.sleep(3600)
    return "awake"


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


if __name__ == "__main__":
    server.run()
