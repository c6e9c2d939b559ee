"""A file server with byte ranges on 127.0.0.1, which counts what it sends and can fail on purpose."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = Callable[[dict[str, list[str]], bytes], Any]
"""What makes an answer in JSON of a request's query and body."""


class RangeServer:
    """Serves a folder, and answers of its own.

    Attributes:
        sent: Bytes of files sent, by path.
        requests: Method and path of each request.
        failures: Statuses to answer with first, by path; a list that runs empty ends the failing.
        answers: What answers in JSON, by path.
        ranges: Whether ranges are honoured.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sent: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self.failures: dict[str, list[int]] = {}
        self.answers: dict[str, Answer] = {}
        self.ranges = True
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> RangeServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.requests.append((request.command, parts.path))
        if self.failures.get(parts.path):
            return self._send(request, self.failures[parts.path].pop(0), b"out of order", "text/plain")
        if parts.path in self.answers:
            made = self.answers[parts.path](parse_qs(parts.query), body)
            kind = "text/html" if isinstance(made, bytes) else "application/json"
            return self._send(request, 200, made if isinstance(made, bytes) else json.dumps(made).encode(), kind)
        path = self.root / parts.path.lstrip("/")
        if not path.is_file():
            return self._send(request, 404, b"not found", "text/plain")
        content, wanted = path.read_bytes(), re.match(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if not wanted or not self.ranges:
            return self._send(request, 200, content, "application/octet-stream", parts.path)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if first >= len(content):
            return self._send(request, 416, b"", "text/plain")
        span = f"bytes {first}-{last}/{len(content)}"
        return self._send(request, 206, content[first : last + 1], "application/octet-stream", parts.path, span)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, path: str = "", span: str = ""
    ) -> None:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        if self.ranges:
            request.send_header("Accept-Ranges", "bytes")
        if span:
            request.send_header("Content-Range", span)
        request.end_headers()
        if request.command != "HEAD":
            if path:
                self.sent[path] += len(body)
            with contextlib.suppress(ConnectionError):  # the reader had enough
                request.wfile.write(body)
