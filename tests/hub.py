"""A hub of our own on loopback: as much of its API as fetching a model's small files takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Models with their files. `answer`: a status with which everything is answered, or "garbage"; None: rightly."""

    models: dict[str, dict[str, str]]
    answer: int | str | None = None
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def reply(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked.append(path)
        if isinstance(self.answer, int):
            return self.answer, {}, b'{"error": "no"}'
        if self.answer == "garbage":
            return 200, {"X-Repo-Commit": "?"}, b"<html>Sign in to the hotel's network</html>"
        for model, files in self.models.items():
            asked = re.match(rf"(?:/api/models)?/{re.escape(model)}/(?:revision|tree|resolve)/([^/]+)", path)
            if asked and asked[1] not in ("main", COMMIT):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b'{"error": "Invalid rev id"}'
            if path.startswith(f"/api/models/{model}/tree/"):
                tree = [
                    {"type": "file", "path": name, "size": len(text), "oid": _id(text)} for name, text in files.items()
                ]
                return 200, {}, json.dumps(tree).encode()
            if path.startswith(f"/api/models/{model}"):
                listed = [{"rfilename": name} for name in files]
                return 200, {}, json.dumps({"id": model, "sha": COMMIT, "siblings": listed}).encode()
            for name, text in files.items():
                if path.startswith(f"/{model}/resolve/") and path.endswith(f"/{name}"):
                    return 200, {"ETag": f'"{_id(text)}"', "X-Repo-Commit": COMMIT}, text.encode()
            if path.startswith(f"/{model}/resolve/"):
                return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b'{"error": "Entry not found"}'
        return 404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "Repository not found"}'


def _id(text: str) -> str:
    return sha1(text.encode()).hexdigest()


@contextmanager
def served(hub: Hub) -> Iterator[Hub]:
    """The hub on a port of this machine, as `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            status, headers, body = hub.reply(self.path.partition("?")[0])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = _answer  # noqa: N815 - names of the base class

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
