"""The Runtime API of one instance: bytes to calls of ``LiveInstance`` and back.

Two readers share a connection. The fast one knows the fixed forms in which the
official clients write ``GET .../next`` and ``POST .../response`` and takes whole
messages only; anything else (chunked bodies, odd headers, other paths) goes to
httptools. Both end in the same few calls. Source of paths, headers and errors:
the Runtime API 2018-06-01 and the runtime interface emulator.
"""

from __future__ import annotations

import asyncio
import json
import select
from typing import TYPE_CHECKING, cast

import httptools

from emulator.core.session import Call, IllegalCall

if TYPE_CHECKING:
    from .invocation import Invocation
    from .live import LiveInstance

MAX_RESPONSE = 6_291_556
"""Bytes; larger answers are refused with 413. Recorded from the service."""
MAX_HEAD = 1_100_000
"""Bytes of request line and headers: an X-Ray cause header may come near 1 MB."""

_NEXT = b"GET /2018-06-01/runtime/invocation/next "
_INVOCATION = b"POST /2018-06-01/runtime/invocation/"
_ID_END = len(_INVOCATION) + 36
_RESPONSE_END = _ID_END + len(b"/response ")
_ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n"
    b'{"status":"OK"}\n'
)
_PONG = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\npong"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 413: "Request Entity Too Large"}


class InvalidRequestId(Exception):
    """400: the id is not the current invocation's."""


class RuntimeApi(asyncio.Protocol):
    """One connection from a runtime."""

    __slots__ = ("_body_missing", "_fast_head", "_parser", "_parts", "_poll", "_request", "instance", "transport")

    def __init__(self, instance: LiveInstance) -> None:
        self.instance = instance
        self.transport: asyncio.Transport | None = None
        self._parser: httptools.HttpRequestParser | None = None
        self._request: _Request | None = None
        self._fast_head: tuple[bytes, bool] | None = None
        self._parts: list[bytes] = []
        self._body_missing = 0
        self._poll: select.poll | None = None

    # -- asyncio ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if not self.instance.admits(peer[0] if peer else ""):
            transport.abort()  # type: ignore[attr-defined]
            return
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.instance.disconnected(self)

    def is_alive(self) -> bool:
        """False when the peer has hung up, even if the loop has not told us yet."""
        if self.transport is None:
            return False
        return self._poll is None or not self._poll.poll(0)

    def data_received(self, data: bytes) -> None:
        if self._body_missing:
            self._parts.append(data)
            self._body_missing -= len(data)
            if self._body_missing > 0:
                return
            head = self._fast_head
            assert head is not None
            body = b"".join(self._parts)
            self._body_missing = 0
            self._parts = []
            self._fast_head = None
            self._answer(*head, body)
            return
        if self._parser is None:
            if data.startswith(_NEXT) and data.endswith(b"\r\n\r\n"):
                self.next()
                return
            if data.startswith(_INVOCATION) and self._fast_answer(data):
                return
            self._request = _Request(self)
            self._parser = httptools.HttpRequestParser(self._request)
        self._feed(data)

    # -- the fast reader ---------------------------------------------------------

    def _fast_answer(self, data: bytes) -> bool:
        """Take ``POST .../{id}/response`` if it is of the plain form."""
        if data[_ID_END:_RESPONSE_END] != b"/response ":
            return False
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = data[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0 or b"\r\ntransfer-encoding:" in head or b"\r\nlambda-runtime-function-" in head:
            return False
        stop = head.find(b"\r\n", at + 2)
        try:
            length = int(head[at + 17: stop if stop >= 0 else None])
        except ValueError:
            return False
        if length > MAX_RESPONSE:
            return False
        body = data[end + 4:]
        if len(body) > length:
            return False
        request_id = data[len(_INVOCATION):_ID_END]
        raw = b"application/unknown" in head
        if len(body) == length:
            self._answer(request_id, raw, body)
            return True
        if b"\r\nexpect: 100-continue" in head:
            self.write(_CONTINUE)
        self._fast_head = (request_id, raw)
        self._parts = [body]
        self._body_missing = length - len(body)
        return True

    def next(self) -> None:
        try:
            self.instance.asked_next(self)
        except IllegalCall as illegal:
            self.refuse(403, "InvalidStateTransition", str(illegal))

    def _answer(self, request_id: bytes, raw: bool, body: bytes) -> None:
        content_type = "application/octet-stream" if raw else "application/json"
        self.answer(request_id.decode("latin-1"), Call.RESPONSE, body, None, content_type)

    # -- what both readers end in ----------------------------------------------

    def answer(
        self, request_id: str, call: Call, body: bytes, error_type: str | None, content_type: str = ""
    ) -> None:
        try:
            self.instance.check_answer(request_id, call)
        except InvalidRequestId:
            self.refuse(400, "InvalidRequestID", "Invalid request ID")
        except IllegalCall as illegal:
            self.refuse(403, "InvalidStateTransition", str(illegal))
        else:
            # The runtime may go on at once: it runs while the caller's answer is written.
            self.write(_ACCEPTED)
            self.instance.answered(call, body, error_type, content_type)

    def answer_too_large(self, request_id: str) -> None:
        message = f"Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes)."
        try:
            self.instance.check_answer(request_id, Call.RESPONSE)
        except (InvalidRequestId, IllegalCall):
            pass
        else:
            self.instance.answered_too_large()
        self.refuse(413, "RequestEntityTooLarge", message)

    def init_error(self, body: bytes, error_type: str | None) -> None:
        try:
            self.instance.init_failed(body, error_type)
        except IllegalCall as illegal:
            self.refuse(403, "InvalidStateTransition", str(illegal))
        else:
            self.write(_ACCEPTED)

    def deliver(self, invocation: Invocation, deadline_ms: int) -> None:
        """Answer the waiting ``GET .../next`` with the event."""
        payload = invocation.payload
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {invocation.arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {invocation.trace_id}\r\n"
        )
        if invocation.client_context:
            head += f"Lambda-Runtime-Client-Context: {invocation.client_context}\r\n"
        self.write(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode("latin-1", "replace") + payload)

    def refuse(self, status: int, error_type: str, message: str) -> None:
        body = json.dumps({"errorMessage": message, "errorType": error_type}).encode()
        head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.write(f"{head}\r\n\r\n".encode() + body)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    # -- the general reader ------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.refuse(400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
            if self.transport is not None:
                self.transport.close()
            return
        request = self._request
        if request is not None and request.complete:
            self._parser = None
            self._request = None
            request.dispatch()


class _Request:
    """httptools' callbacks for one message, then the call it stands for."""

    def __init__(self, connection: RuntimeApi) -> None:
        self._connection = connection
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._body: list[bytes] = []
        self._size = 0
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._bound(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._bound(len(name) + len(value))

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._connection.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= MAX_RESPONSE:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def dispatch(self) -> None:
        connection = self._connection
        path = self._url.partition(b"?")[0].decode("latin-1")
        error_type = self._headers.get("lambda-runtime-function-error-type")
        body = b"".join(self._body)
        if path == "/2018-06-01/runtime/invocation/next":
            connection.next()
        elif path == "/2018-06-01/runtime/init/error":
            connection.init_error(body, error_type)
        elif path == "/2018-06-01/ping":
            connection.write(_PONG)
        elif path.startswith("/2018-06-01/runtime/invocation/"):
            self._invocation(path.removeprefix("/2018-06-01/runtime/invocation/"), body, error_type)
        else:
            connection.refuse(404, "NotFound", f"No such path in the Runtime API: {path}")

    def _invocation(self, rest: str, body: bytes, error_type: str | None) -> None:
        connection = self._connection
        request_id, _, kind = rest.partition("/")
        if kind not in ("response", "error"):
            connection.refuse(404, "NotFound", f"No such path in the Runtime API: {rest}")
        elif self._size > MAX_RESPONSE:
            connection.answer_too_large(request_id)
        elif kind == "response":
            content_type = self._headers.get("content-type", "application/json")
            connection.answer(request_id, Call.RESPONSE, body, None, content_type)
        else:
            connection.answer(request_id, Call.ERROR, body, error_type or "Unhandled")

    def _bound(self, more: int) -> None:
        self._head_size += more
        if self._head_size > MAX_HEAD:
            raise httptools.HttpParserError("header too large")
