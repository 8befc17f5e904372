"""The ``faas`` command as a person runs it, and an emulator that speaks the admin API's shapes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
Faas = Callable[..., "subprocess.CompletedProcess[str]"]

FUNCTION = {
    "name": "hello", "runtime": "python3.11", "handler": "app.handler", "memory": 128, "timeout": 3,
    "revision": "abcdef012345", "arn": "arn:aws:lambda:us-east-1:000000000000:function:hello",
    "urls": ["GET http://127.0.0.1:3000/hello", "POST http://127.0.0.1:3000/hello"], "keep_alive": 300,
    "reserved_concurrency": None, "instances": 1,
}
INSTANCE = {
    "id": 7, "name": "faas-hello-7", "function": "hello", "revision": "abcdef012345", "state": "idle",
    "sandbox": "process", "created_at": 1e9, "age": 75.2, "idle_for": 3.04, "memory": 31457280,
    "memory_peak": None, "cpu_seconds": 0.1, "invocations": 12,
    "phases": {"queue": 0.001, "sandbox": 0.005, "runtime": 0.04, "init": 0.06},
}
LINES = [
    {"seq": 1, "time": 1.5e9, "instance": 7, "request_id": None, "text": "INIT_START\n"},
    {"seq": 2, "time": 1.5e9 + 0.25, "instance": 7, "request_id": "r", "text": "hello there\n"},
]


@dataclass
class Emulator:
    """Answers as told; remembers what it was asked."""

    url: str
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    """Path without query -> JSON value, or (status, headers, body)."""


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    class Door(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            running.asked.append((self.command, self.path, dict(self.headers.items()), body))
            unknown = (404, {}, b'{"message": "no such function"}')
            answer = running.answers.get(self.path.partition("?")[0], unknown)
            if callable(answer):
                answer = answer(self.path)
            status, headers, content = (
                answer if isinstance(answer, tuple) else (200, {}, json.dumps(answer).encode())
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        running = Emulator(f"http://127.0.0.1:{server.server_port}")
        running.answers = {
            "/_faas/functions": {"functions": [FUNCTION]}, "/_faas/instances": {"instances": [INSTANCE]},
            "/_faas/functions/hello/evict": {"evicted": 1}, "/_faas/reset": {"evicted": 2},
            "/_faas/functions/hello/prewarm": {"started": 2, "ready": 2},
            "/_faas/logs/hello": {"lines": LINES, "next": 2},
            "/2015-03-31/functions/hello/invocations": (200, {
                "X-Faas-Start": "cold", "X-Faas-Instance": "7", "X-Amz-Executed-Version": "$LATEST",
                "Server-Timing": 'init;dur=60.5;desc="user init", invoke;dur=4.25, total;dur=70',
                "X-Amz-Log-Result": base64.b64encode(b"START\nhello\nEND\n").decode(),
            }, b'{"ok": true}'),
        }
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        server.shutdown()
        thread.join()


def environ(**extra: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("FAAS_", "AWS_"))}
    return {**ours, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "TZ": "UTC", **extra}


@pytest.fixture
def faas(tmp_path: Path, request: pytest.FixtureRequest) -> Faas:
    """Run ``faas`` in an empty folder, against the emulator if the test has one."""
    url = request.getfixturevalue("emulator").url if "emulator" in request.fixturenames else "http://127.0.0.1:9"

    def run(*words: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "emulator", *words], input=stdin, capture_output=True, text=True,
            cwd=tmp_path, env=environ(FAAS_API_URL=url, **extra), timeout=60, check=False,
        )

    return run
