"""One listening port: uvicorn's HTTP protocol with a short road for invocations.

A plain request (complete head, Content-Length or no body, HTTP/1.1, nothing
unusual) is read here and offered to the port's door without a task, a scope or
a parser's callbacks: the road of an invocation is what people measure. Whatever
is not plain, and whatever the door declines, is left to uvicorn and an ASGI app.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NamedTuple

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .message import HttpRequest

Door = Callable[[HttpRequest], bool]
"""Takes the request (True; ``respond`` will be called) or declines it."""

HEAD_LIMIT = 1_048_576
"""Bytes of request line and headers (Lambda's limit); more is answered 431."""
FAST_BODY_LIMIT = 10 * 2**20
"""Bytes; larger bodies are left to the app, which refuses or streams them."""
KEEP_ALIVE = 75
"""Seconds an idle client connection is kept."""

_UNUSUAL = re.compile(
    rb"\r\n(?:[ \t]|[^:\r\n]*[ \t]:|(?:transfer-encoding|expect|upgrade|te|trailer)\s*:"
    rb"|connection\s*:\s*(?!keep-alive\r))",
    re.IGNORECASE,
)
"""Anything in a head that needs the full reader: folding, odd names, hop-by-hop."""
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_names: set[str] = set()
"""Header names that were found to be tokens: few, and looked at with each request."""
_NAMES_KEPT = 1000
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")  # "#" begins what is not for servers
_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}


def status_line(status: int) -> str:
    return _STATUS.get(status) or f"HTTP/1.1 {status} \r\n"


def _is_token(name: str) -> bool:
    if _TOKEN.fullmatch(name) is None:
        return False
    if len(_names) < _NAMES_KEPT:
        _names.add(name)
    return True


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = ""

    def line(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(second))
        return self._line

    def pair(self) -> tuple[bytes, bytes]:
        return b"date", self.line()[6:-2].encode()


_date = _Date()


def encode_response(status: int, headers: str, body: bytes, *, head_only: bool = False) -> bytes:
    if status == 204 or status == 304 or status < 200:
        return f"{status_line(status)}{_date.line()}{headers}\r\n".encode("latin-1", "replace")
    head = f"{status_line(status)}{_date.line()}{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1", "replace") + (b"" if head_only else body)


class Head(NamedTuple):
    """A plain request's head. ``headers`` is shared by requests with the same head: not to be changed."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    length: int


_NO_HEAD = Head("", "", "", {}, 0)


def read_head(raw: bytes) -> Head | None:
    """``raw`` ends with the last header's CRLF. None: not plain, or not right; the full reader decides."""
    if _UNUSUAL.search(raw) is not None:
        return None
    lines = raw[:-2].decode("latin-1").split("\r\n")
    if not "".join(lines).isprintable():
        return None
    first = lines[0].split(" ")
    if (
        len(first) != 3 or first[2] != "HTTP/1.1" or first[0] not in _METHODS
        or _TARGET.fullmatch(first[1]) is None
    ):
        return None
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name in headers or (name not in _names and not _is_token(name)):
            return None
        headers[name] = value.strip(" \t")
    length = 0
    if "content-length" in headers:
        text = headers["content-length"]
        if not (text.isascii() and text.isdigit()) or len(text) > 9:
            return None
        length = int(text)
        if length > FAST_BODY_LIMIT:
            return None
    path, _, query = first[1].partition("?")
    return Head(first[0], path, query, headers, length)


class FrontProtocol(HttpToolsProtocol):
    """One client connection. Invariant: at most one request is in work at a time;
    what a client pipelines waits in ``_pending``."""

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server.config, server.state, {})
        self._front = server
        self._slow = False
        """uvicorn's reader has the connection until its answer is out."""
        self._working = False
        """A door has a request of this connection."""
        self._pending: list[bytes] = []
        self._partial: tuple[HttpRequest, list[bytes], int] | None = None
        self._head_only = False
        self._half_closed = False
        self._head_bytes = 0
        self._last_raw = b""
        self._last_head = _NO_HEAD
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._peer = self.client[0] if self.client else ""

    def data_received(self, data: bytes) -> None:
        if self._working:
            self._pending.append(data)
            if sum(map(len, self._pending)) > FAST_BODY_LIMIT:
                self.transport.pause_reading()
            return
        if self._partial is not None:
            self._more_body(data)
            return
        if not self._slow and self._fast(data):
            return
        self._slow = True
        if self.cycle is None or self.cycle.response_complete:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT:  # a line without end
                self._refuse_head()
                return
        super().data_received(data)

    def _fast(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        raw = data[: end + 2]
        if raw != self._last_raw:  # clients that keep a connection mostly send the same head again
            head = read_head(raw)
            if head is None:
                return False
            self._last_raw, self._last_head = raw, head
        head = self._last_head
        body = data[end + 4 :]
        request = HttpRequest(head.method, head.path, head.query, head.headers, body, self._peer, self._respond)
        if not self._front.accepts(request):
            return False
        length = head.length
        if len(body) < length:
            self._partial = (request, [body], length - len(body))
            self._raw = data[: end + 4]
            return True
        if len(body) > length:
            request.body = body[:length]
            self._pending.append(body[length:])
        if self._offer(request):
            return True
        self._pending.clear()
        return False

    def _more_body(self, data: bytes) -> None:
        assert self._partial is not None
        request, parts, missing = self._partial
        if len(data) > missing:
            self._pending.append(data[missing:])
            data = data[:missing]
        parts.append(data)
        missing -= len(data)
        if missing:
            self._partial = (request, parts, missing)
            return
        self._partial = None
        request.body = b"".join(parts)
        if not self._offer(request):
            rest = b"".join(self._pending)
            self._pending.clear()
            self._slow = True
            super().data_received(self._raw + request.body + rest)

    def _offer(self, request: HttpRequest) -> bool:
        self._unset_keepalive_if_required()
        self._working = True
        self._head_only = request.method == "HEAD"
        if self._front.door(request):
            return True
        self._working = False
        return False

    def _respond(self, status: int, headers: str, body: bytes) -> None:
        if not self._working:
            return
        self._working = False
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(encode_response(status, headers, body, head_only=self._head_only))
        if self._front.closing:
            transport.close()
        elif self._pending:
            data = b"".join(self._pending)
            self._pending.clear()
            transport.resume_reading()
            self.loop.call_soon(self._resume, data)
        elif self._half_closed:
            transport.close()

    def _resume(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.data_received(data)
            if self._half_closed and not self._owes_answer():
                self.transport.close()

    def _owes_answer(self) -> bool:
        """Is a whole request in work, here or in uvicorn?"""
        cycle = self.cycle
        return self._working or bool(self.pipeline) or (
            cycle is not None and not cycle.response_complete and not cycle.more_body
        )

    # -- uvicorn's hooks -----------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes = 0
        self._head_size = getattr(self, "_head_size", 0) + len(name) + len(value)
        if self._head_size > HEAD_LIMIT:
            self._refuse_head()
        super().on_header(name, value)

    def on_message_begin(self) -> None:
        self._head_size = self._head_bytes = 0
        self.server_state.default_headers = [_date.pair()]
        super().on_message_begin()

    def _refuse_head(self) -> None:
        body = b'{"message":"Request Header Fields Too Large"}'
        head = "Content-Type: application/json\r\nConnection: close\r\n"
        self.transport.write(encode_response(431, head, body))
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline:
            self._slow = False
            if self._half_closed:
                self.transport.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that has sent all it will may still wait for its answer."""
        self._half_closed = self._owes_answer()
        return self._half_closed or None

    def connection_lost(self, exc: Exception | None) -> None:
        self._working = False
        self._partial = None
        self._pending.clear()
        super().connection_lost(exc)
        self._front.connection_ended()

    def shutdown(self) -> None:
        if not self._working:
            super().shutdown()


class HttpServer:
    """A port, its door and its app."""

    def __init__(self, app: Any, door: Door, *, accepts: Callable[[HttpRequest], bool] = lambda _: True) -> None:
        self._app = app
        self.config = Config(
            self._call, interface="asgi3", log_config=None, access_log=False, lifespan="off", ws="none",
            timeout_keep_alive=KEEP_ALIVE, proxy_headers=False,
        )
        self.config.load()
        self.state = ServerState()
        self.door = door
        self.accepts = accepts
        """Asked when the head is there: could the door take this?"""
        self.closing = False
        self._servers: list[asyncio.Server] = []
        self._quiet = asyncio.Event()

    def connection_ended(self) -> None:
        if not self.state.connections:
            self._quiet.set()

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.closing:
                raise
            # We have cancelled it ourselves (a reader of events): uvicorn would print a traceback.

    async def listen(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: FrontProtocol(self), sock=sock, backlog=2048))

    def stop_accepting(self) -> None:
        self.closing = True
        for server in self._servers:
            server.close()

    async def aclose(self) -> None:
        """Close idle connections now; give answers under way half a second."""
        self.stop_accepting()
        for connection in list(self.state.connections):
            connection.shutdown()
        self._quiet.clear()
        if self.state.connections:
            try:
                async with asyncio.timeout(0.5):
                    await self._quiet.wait()
            except TimeoutError:
                pass
        for connection in list(self.state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the connections learn that they are lost
        for task in list(self.state.tasks):
            task.cancel()
        if self.state.tasks:
            await asyncio.wait(list(self.state.tasks), timeout=1)
        self._servers.clear()


class PortInUse(Exception):
    """The message names the port and the remedy."""


def bind(host: str, port: int, *, what: str, flag: str) -> socket.socket:
    """A bound socket for a port of ours. Raises PortInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is in use, the {what} can't listen there: "
                f"stop what holds it or choose another with {flag} (0 picks a free one)"
            ) from error
        if error.errno == errno.EACCES:
            raise PortInUse(f"no permission to listen on port {port}: choose one above 1023 with {flag}") from error
        raise PortInUse(f"can't listen on {host}:{port}: {error.strerror}") from error
    sock.setblocking(False)
    return sock
