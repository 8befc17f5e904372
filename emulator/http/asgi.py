"""The long road: an ASGI app in front of a door, for requests that are not plain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .message import HttpRequest, join_headers

TooLarge = Callable[[HttpRequest, int], tuple[int, str, bytes]]
"""request without body, size so far -> status, header lines, body of the refusal."""


class DoorApp:
    """Reads the whole body (up to ``limit`` bytes), offers the request to the door, sends its answer."""

    def __init__(
        self,
        door: Callable[[HttpRequest], bool],
        *,
        limit: int,
        too_large: TooLarge,
        declined: Callable[[HttpRequest], tuple[int, str, bytes]],
    ) -> None:
        self._door = door
        self._limit = limit
        self._too_large = too_large
        self._declined = declined

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        answer: asyncio.Future[tuple[int, str, bytes]] = asyncio.get_running_loop().create_future()

        def respond(status: int, headers: str, body: bytes) -> None:
            if not answer.done():
                answer.set_result((status, headers, body))

        pairs = [(k.decode("latin-1").lower(), v.decode("latin-1").strip()) for k, v in scope["headers"]]
        raw_path = scope.get("raw_path") or scope["path"].encode()
        request = HttpRequest(
            scope["method"], raw_path.decode("latin-1"), scope["query_string"].decode("latin-1"), join_headers(pairs),
            b"", scope["client"][0] if scope.get("client") else "", respond,
        )
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self._limit:
                await _send(send, scope["method"], *self._too_large(request, len(body)), close=True)
                return
            if not message.get("more_body"):
                break
        request.body = bytes(body)
        if not self._door(request):
            respond(*self._declined(request))
        await _send(send, scope["method"], *await answer)


async def _send(
    send: Callable[[Any], Awaitable[None]], method: str, status: int, headers: str, body: bytes, *, close: bool = False
) -> None:
    lines = [line.partition(": ") for line in headers.split("\r\n") if line]
    pairs = [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, _, value in lines]
    if status not in (204, 304):
        pairs.append((b"content-length", str(len(body)).encode()))
    if close:
        pairs.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" or status in (204, 304) else body})
