"""A web server of scenes on loopback: ranges, redirects, slowness, and what was asked of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class SceneServer:
    """Files by path; `/to/...?URL` redirects, `/slow/...` waits before it answers.

    Attributes:
        files: What it serves.
        paths: What was asked for.
        sent: Bytes of bodies that it sent.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.paths: list[str] = []
        self.sent = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @contextmanager
    def running(self) -> Iterator[SceneServer]:
        thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        thread.start()
        yield self
        self._http.shutdown()
        self._http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, scenes: SceneServer, *arguments: Any) -> None:
        self._scenes = scenes
        super().__init__(*arguments)

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self._scenes.paths.append(self.path)
        path, _, query = self.path.partition("?")
        if path.startswith("/to/"):
            self._head(302, 0, Location=query)
            return
        if path.startswith("/slow/"):
            time.sleep(4)
        body = self._scenes.files.get(path.removeprefix("/slow"))
        if body is None:
            self._head(404, 0)
            return
        status, body, headers = _part(body, self.headers.get("Range"))
        self._head(status, len(body), **headers)
        if self.command == "GET":
            self._scenes.sent += len(body)
            self.wfile.write(body)

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Accept-Ranges": "bytes", "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()


def _part(body: bytes, asked: str | None) -> tuple[int, bytes, dict[str, str]]:
    if asked is None:
        return 200, body, {}
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(body) - 1), len(body) - 1)
    return 206, body[start : end + 1], {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
