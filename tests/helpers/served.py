"""A server in a process of its own, and requests to it."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


class Served:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status, and the answer: JSON if it is, else text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.status, json.loads(text) if is_json else text


@contextmanager
def served(*words: object) -> Iterator[Served]:
    """The tool `serve` with these words, on a free port, killed at the end."""
    command = [sys.executable, PROJECT / "tools/serve.py", *words, "--port", 0, "--device", "cpu"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("open http://"):
                port = int(line.split(" in a browser")[0].rsplit(":", 1)[1])
                break
        else:
            raise AssertionError(process.communicate()[1])
        server = Served(process, port)
        end = time.monotonic() + 120
        while server.ask("GET", "/health")[0] != 200:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield server
    finally:
        process.kill()
        process.communicate()
