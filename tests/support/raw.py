"""HTTP by hand: what no well-behaved client would send, and answers as they are on the wire."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class RawAnswer:
    status: int
    head: str
    headers: dict[str, list[str]]
    """By lower-case name, each time it was sent."""
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.headers.get(name.lower())
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection to a server, with what has been read and not used yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, *, head_only: bool = False) -> RawAnswer:
        """The next answer. Raises EOFError if the server closes before its end."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers: dict[str, list[str]] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        if status == 100:
            return RawAnswer(status, head.decode("latin-1"), headers, b"")
        body = b""
        if not head_only and status not in (204, 304):
            if "content-length" in headers:
                body = self._exactly(int(headers["content-length"][0]))
            elif headers.get("transfer-encoding") == ["chunked"]:
                body = self._chunks()
            else:
                body = self._rest + self.until_closed()
        return RawAnswer(status, head.decode("latin-1"), headers, body)

    def until_closed(self) -> bytes:
        """Whatever else comes before the server closes."""
        parts = [self._rest]
        self._rest = b""
        try:
            while data := self.sock.recv(65536):
                parts.append(data)
        except ConnectionResetError:
            pass
        return b"".join(parts)

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"closed after {self._rest!r}")
        self._rest += data

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _chunks(self) -> bytes:
        parts = []
        while True:
            while b"\r\n" not in self._rest:
                self._more()
            line, _, self._rest = self._rest.partition(b"\r\n")
            size = int(line, 16)
            parts.append(self._exactly(size))
            self._exactly(2)
            if not size:
                return b"".join(parts)


@contextmanager
def connection(url: str, *, timeout: float = 20.0) -> Iterator[Wire]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as sock:
        yield Wire(sock)


def exchange(url: str, data: bytes, *, timeout: float = 20.0, head_only: bool = False) -> RawAnswer:
    """One request on a connection of its own."""
    with connection(url, timeout=timeout) as wire:
        wire.send(data)
        return wire.answer(head_only=head_only)
