"""The admin API: health, metrics, instances, control over cold, logs, journal. JSON, documented in docs/admin-api.md.

It is handed a snapshot of callables by ``app``; it knows no instance itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PREWARM_LIMIT = 1000
WAIT_LIMIT = 30.0
"""Seconds that a reader of logs may wait at most."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What the admin API shows and does."""

    health: Callable[[], dict[str, Any]]
    functions: Callable[[], list[dict[str, Any]]]
    instances: Callable[[], list[dict[str, Any]]]
    invocations: Callable[[str | None, int], list[dict[str, Any]]]
    exists: Callable[[str], bool]
    evict: Callable[[str], int]
    prewarm: Callable[[str, int], Awaitable[tuple[int, int]]]
    reset: Callable[[], int]
    log_lines: Callable[[str, int], list[dict[str, Any]]]
    log_wait: Callable[[float], Awaitable[None]]
    journal: Callable[[], str]
    metrics: Callable[[], bytes]


class AdminRoutes:
    def __init__(self, panel: Panel) -> None:
        self._panel = panel

    def routes(self) -> list[Route]:
        return [
            Route("/_faas/health", self._health, methods=["GET"]),
            Route("/_faas/functions", self._functions, methods=["GET"]),
            Route("/_faas/instances", self._instances, methods=["GET"]),
            Route("/_faas/invocations", self._invocations, methods=["GET"]),
            Route("/_faas/functions/{name}/evict", self._evict, methods=["POST"]),
            Route("/_faas/functions/{name}/prewarm", self._prewarm, methods=["POST"]),
            Route("/_faas/reset", self._reset, methods=["POST"]),
            Route("/_faas/logs/{name}", self._logs, methods=["GET"]),
            Route("/_faas/journal", self._journal, methods=["GET"]),
            Route("/_faas/events", self._events, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]

    async def _health(self, request: Request) -> Response:
        return JSONResponse(self._panel.health())

    async def _functions(self, request: Request) -> Response:
        return JSONResponse({"functions": self._panel.functions()})

    async def _instances(self, request: Request) -> Response:
        return JSONResponse({"instances": self._panel.instances()})

    async def _invocations(self, request: Request) -> Response:
        limit = _number(request, "limit", 100, 1, 1000)
        if isinstance(limit, Response):
            return limit
        return JSONResponse({"invocations": self._panel.invocations(request.query_params.get("function"), int(limit))})

    async def _evict(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not self._panel.exists(name):
            return _unknown(name)
        return JSONResponse({"evicted": self._panel.evict(name)})

    async def _prewarm(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not self._panel.exists(name):
            return _unknown(name)
        count = _number(request, "count", 1, 1, PREWARM_LIMIT)
        if isinstance(count, Response):
            return count
        started, ready = await self._panel.prewarm(name, int(count))
        return JSONResponse({"started": started, "ready": ready})

    async def _reset(self, request: Request) -> Response:
        return JSONResponse({"evicted": self._panel.reset()})

    async def _logs(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not self._panel.exists(name):
            return _unknown(name)
        since = _number(request, "since", 0, 0, 2**53)
        wait = _number(request, "wait", 0, 0, WAIT_LIMIT)
        if isinstance(since, Response):
            return since
        if isinstance(wait, Response):
            return wait
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        lines = self._panel.log_lines(name, int(since))
        while not lines and (left := deadline - loop.time()) > 0:
            await self._panel.log_wait(left)
            lines = self._panel.log_lines(name, int(since))
        return JSONResponse({"lines": lines, "next": lines[-1]["seq"] if lines else int(since)})

    async def _journal(self, request: Request) -> Response:
        return Response(self._panel.journal(), media_type="application/x-ndjson")

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._event_stream(request), media_type="text/event-stream")

    async def _event_stream(self, request: Request) -> AsyncIterator[str]:
        """Server-sent events: the instances whenever they changed, at most twice a second."""
        before = ""
        while not await request.is_disconnected():
            now = json.dumps({"instances": self._panel.instances()})
            stripped = json.dumps([(i["id"], i["state"], i["invocations"]) for i in self._panel.instances()])
            if stripped != before:
                before = stripped
                yield f"event: instances\ndata: {now}\n\n"
            await asyncio.sleep(0.5)

    async def _metrics(self, request: Request) -> Response:
        return Response(self._panel.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _unknown(name: str) -> Response:
    return JSONResponse({"message": f"There is no function named {name!r}: GET /_faas/functions lists them."}, 404)


def _number(request: Request, name: str, default: float, low: float, high: float) -> float | Response:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        message = f"Query parameter {name} must be a number from {low:g} to {high:g}, not {text[:40]!r}."
        return JSONResponse({"message": message}, 400)
    return value
