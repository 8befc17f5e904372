"""The floor: the least that can honestly answer a Lambda invocation with the real runtime.

A bare asyncio + httptools front, the real Runtime API exchange, a real
``python -m awslambdaric`` child; one environment per concurrent request, the
most recently used one first. No log, journal, metric, isolation or limit, so
whatever the emulator takes beyond this is the price of being an emulator.

Run as a program: it prints ``ready: api http://127.0.0.1:PORT`` and serves
``POST /2015-03-31/functions/NAME/invocations`` until SIGTERM or SIGINT.
``X-Faas-Start`` on an answer says whether an environment was started for it,
and on a request ``cold`` asks for that; ``POST /_faas/functions/NAME/evict`` ends them all.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import deque
from typing import Any

import httptools

try:
    import uvloop
except ImportError:  # the floor is then a little higher; the header of the report says so
    uvloop = None

ARN = b"arn:aws:lambda:us-east-1:000000000000:function:"
ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n"
    b'{"status":"OK"}\n'
)


class Function:
    """One function: its Runtime API address, its idle environments and who waits for one."""

    def __init__(self, name: str, folder: str, handler: str) -> None:
        self.name = name
        self.folder = folder
        self.handler = handler
        self.port = 0
        self.idle: list[Environment] = []
        self.waiting: deque[Call] = deque()
        self.cold: deque[Call] = deque()
        """Callers who asked for an environment that has served nobody yet."""
        self.coming = 0
        """Environments that are starting, or have answered and not yet asked for more."""
        self.children: list[subprocess.Popen[bytes]] = []

    def take(self, call: Call) -> None:
        """Give the call to the environment used last; start one when none is free or about to be."""
        if call.force_cold:
            self.cold.append(call)
            self.coming += 1
            self.spawn()
            return
        if self.idle:
            self.idle.pop().deliver(call)
            return
        self.waiting.append(call)
        if len(self.waiting) > self.coming:
            self.coming += 1
            self.spawn()

    def spawn(self) -> None:
        self.children = [child for child in self.children if child.poll() is None]
        environ = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.port}",
            "AWS_LAMBDA_FUNCTION_NAME": self.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
            "LAMBDA_TASK_ROOT": self.folder,
            "LANG": "C.UTF-8",
        }
        self.children.append(
            subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", self.handler],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                close_fds=False,  # every descriptor of ours is close-on-exec already
            )
        )


class Call:
    """One invocation on its way; the reply goes straight to its client's transport."""

    __slots__ = ("body", "client", "force_cold", "id", "start")

    def __init__(self, client: Client, body: bytes, id: str, *, force_cold: bool) -> None:
        self.client = client
        self.body = body
        self.id = id
        self.force_cold = force_cold
        self.start = b"warm"


class Client(asyncio.Protocol):
    """A keep-alive connection of a caller."""

    count = 0

    def __init__(self, functions: dict[bytes, Function]) -> None:
        self.functions = functions
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        self.body.clear()
        self.force_cold = False

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-faas-start":
            self.force_cold = value == b"cold"

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        function = self.functions.get(self.url[22:-12])  # /2015-03-31/functions/NAME/invocations
        if function is None and self.url.endswith(b"/evict"):  # /_faas/functions/NAME/evict
            function = self.functions[self.url.split(b"/")[3]]
            for child in function.children:  # closing their connection isn't enough: they would connect again
                child.kill()
            function.idle.clear()
            function.coming = 0
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            return
        if function is None:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return
        Client.count += 1
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        call = Call(
            self, body, f"00000000-0000-4000-8000-{Client.count:012d}", force_cold=self.force_cold
        )
        function.take(call)

    def reply(self, body: bytes, call: Call, *, error: bytes = b"") -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"x-amzn-requestid: %b\r\nx-faas-start: %b\r\n%b\r\n%b"
                % (len(body), call.id.encode(), call.start, error, body)
            )


class Environment(asyncio.Protocol):
    """The Runtime API as one environment sees it: its keep-alive connection is the environment."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.call: Call | None = None
        self.used = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self.function.idle:
            self.function.idle.remove(self)
        if self.call is not None:
            self.call.client.transport.close()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body.clear()

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        if self.url.endswith(b"/next"):
            function = self.function
            if function.coming:
                function.coming -= 1
            if function.cold and not self.used:
                self.deliver(function.cold.popleft())
            elif function.waiting:
                self.deliver(function.waiting.popleft())
            else:
                function.idle.append(self)
            return
        call, self.call = self.call, None
        if call is None:  # an init error: nobody will answer the caller that waits
            self.transport.write(ACCEPTED)
            return
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        error = b"x-amz-function-error: Unhandled\r\n" if self.url.endswith(b"/error") else b""
        call.client.reply(body, call, error=error)
        self.transport.write(ACCEPTED)
        self.function.coming += 1

    def deliver(self, call: Call) -> None:
        self.call = call
        if not self.used:
            self.used = True
            call.start = b"cold"
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"lambda-runtime-aws-request-id: %b\r\nlambda-runtime-deadline-ms: %d\r\n"
            b"lambda-runtime-invoked-function-arn: %b\r\n\r\n%b"
            % (
                len(call.body),
                call.id.encode(),
                int(time.time() * 1000) + 60_000,
                ARN + self.function.name.encode(),
                call.body,
            )
        )


async def serve(functions: list[Function], port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stop.done() or stop.set_result(None))
    servers = []
    for function in functions:
        server = await loop.create_server(lambda f=function: Environment(f), "127.0.0.1", 0, backlog=1024)
        function.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    by_name = {function.name.encode(): function for function in functions}
    front = await loop.create_server(lambda: Client(by_name), "127.0.0.1", port, backlog=1024)
    print(f"ready: api http://127.0.0.1:{front.sockets[0].getsockname()[1]}", flush=True)
    try:
        await stop
    finally:
        children = [child for function in functions for child in function.children]
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="where the handlers' modules are")
    parser.add_argument("function", nargs="+", help="NAME=module.function")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--loop", choices=["auto", "uvloop", "asyncio"], default="auto")
    options = parser.parse_args()
    functions = []
    for text in options.function:
        name, _, handler = text.partition("=")
        functions.append(Function(name, os.path.abspath(options.folder), handler or "app.handler"))
    work = serve(functions, options.port)
    if uvloop is not None and options.loop != "asyncio":
        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
