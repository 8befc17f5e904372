"""A scripted Runtime API for one runtime, to test a runtime without the cloud."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Post:
    """What the runtime posted."""

    path: str
    """Below ``/2018-06-01/runtime``: ``/invocation/<id>/response``, ``/init/error``."""
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RuntimeApi:
    """``address`` is what AWS_LAMBDA_RUNTIME_API gets."""

    address: str = ""
    _events: queue.Queue[tuple[str, bytes] | None] = field(default_factory=queue.Queue)
    _posts: queue.Queue[Post] = field(default_factory=queue.Queue)
    asked: threading.Event = field(default_factory=threading.Event)
    """Set when the runtime has asked for its first event."""

    def exchange(self, event: object, *, id: str = "3b1a2b0c-0000-4000-8000-000000000001") -> Post:
        """Give it an event, wait for what it posts."""
        self._events.put((id, json.dumps(event).encode()))
        return self.posted()

    def posted(self) -> Post:
        return self._posts.get(timeout=20)


@contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    api = RuntimeApi()

    class Exchange(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            api.asked.set()
            item = api._events.get()
            if item is None:
                self.close_connection = True
                return
            id, body = item
            self.send_response(200)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Lambda-Runtime-Aws-Request-Id": id,
                "Lambda-Runtime-Deadline-Ms": str(int((time.time() + 30) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
                "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(self._chunks())
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = b'{"status":"OK"}'
            self.send_response(202)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
            api._posts.put(Post(self.path.removeprefix("/2018-06-01/runtime"), self.headers, body))

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # trailers

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a runtime that was killed in mid-request

    with Server(("127.0.0.1", 0), Exchange) as server:
        api.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield api
        finally:
            for _ in range(4):
                api._events.put(None)
            server.shutdown()
            thread.join()
