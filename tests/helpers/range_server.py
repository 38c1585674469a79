"""A web server on this machine that can continue downloads (HTTP ranges), and breaks off when told to."""

import contextlib
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    method: str
    path: str
    start: int | None
    """Of the range; None without one."""


class RangeServer:
    """Serves `files`, and keeps a list of the requests."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = dict(files)
        self.requests: list[Request] = []
        self.has_ranges = self.has_size = True
        self.break_after: list[int] = []
        """Bytes of each of the next answers after which the connection is closed."""
        self.after_break: Callable[[], Any] = lambda: None
        self.overloaded = 0
        """So many requests are answered with 503."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> "RangeServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        state = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def _answer(self, with_body: bool) -> None:
                text = self.headers.get("Range")
                start = None if text is None else int(text.removeprefix("bytes=").removesuffix("-"))
                state.requests.append(Request(self.command, self.path, start))
                content = state.files.get(self.path)
                if content is None or (with_body and state.overloaded):
                    state.overloaded = max(0, state.overloaded - 1)
                    self.send_error(404 if content is None else 503)
                    return
                tag = f'"{hashlib.sha256(content).hexdigest()}"'
                is_part = start is not None and state.has_ranges and self.headers.get("If-Range", tag) == tag
                body = content[start:] if is_part else content
                self.send_response(206 if is_part else 200)
                self.send_header("ETag", tag)
                if is_part:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                if state.has_size:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not with_body:
                    return
                limit = state.break_after.pop(0) if state.break_after else None
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body[:limit])
                if limit is not None:
                    state.after_break()
                    self.close_connection = True

            def log_message(self, format: str, *values: Any) -> None:
                """Nothing on stderr."""

        return Handler
