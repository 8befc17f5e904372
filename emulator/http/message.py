"""One HTTP request as the doors see it, however it was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Respond: TypeAlias = Callable[[int, str, bytes], None]
"""status, header lines each ending in CRLF, body. Content-Length is added."""


class HttpRequest:
    """``path`` and ``query`` are raw (percent-encoded); header names are lower case,
    repeated headers joined with ``,`` (``cookie`` with ``; ``)."""

    __slots__ = ("body", "client", "headers", "method", "path", "query", "respond")

    def __init__(
        self, method: str, path: str, query: str, headers: dict[str, str], body: bytes, client: str, respond: Respond
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.client = client
        """The peer's address, without port."""
        self.respond = respond
        """Call exactly once, from the event loop; too late is silently dropped."""


def join_headers(pairs: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        if name in headers:
            headers[name] += ("; " if name == "cookie" else ",") + value
        else:
            headers[name] = value
    return headers
