"""The HTTP gateway: people's routes to functions, as an HTTP API with payload 2.0.

Route order as the platform's: static before ``{variable}`` before greedy
``{proxy+}`` before ``$default``; the exact method before ANY.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable

from emulator.core.errors import Fault, Throttled
from emulator.core.model import Route
from emulator.core.outcome import Outcome
from emulator.doors import timing
from emulator.http.message import HttpRequest
from emulator.invoke.invoker import Invoker, new_request_id, new_trace_id

from .proxy_events import MalformedResponse, event_v2, response_v2

PAYLOAD_LIMIT = 10 * 2**20
"""Bytes of a request body (API Gateway quotas)."""
EVENT_LIMIT = 6_291_456
"""Bytes of the event that reaches the function (Lambda quotas)."""


class Router:
    """Finds the route of a path. Immutable; a new configuration makes a new one."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._default: Route | None = None
        self._table: list[tuple[list[str], Route]] = []
        for route in routes:
            if route.path == "$default":
                self._default = route
            else:
                self._table.append((route.path.split("/")[1:], route))
        self._table.sort(key=lambda row: (_rank(row[0]), row[1].method == "ANY"))

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]] | list[str]:
        """The route and its path parameters; else the methods that this path does know."""
        segments = path.split("/")[1:]
        others: list[str] = []
        for pattern, route in self._table:
            parameters = _match(pattern, segments)
            if parameters is None:
                continue
            if route.method in (method, "ANY"):
                return route, parameters
            others.append(route.method)
        if self._default is not None:
            return self._default, {}
        return others


def _rank(pattern: list[str]) -> list[tuple[int, int]]:
    """Sorts static segments first, then variables, then greedy ones; longer patterns before shorter."""
    return [(2 if s.endswith("+}") else 1 if s.startswith("{") else 0, 0) for s in pattern] + [(0, -len(pattern))]


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for i, part in enumerate(pattern):
        if part.endswith("+}"):
            rest = "/".join(segments[i:])
            if not rest:
                return None
            parameters[part[1:-2]] = rest
            return parameters
        if i >= len(segments):
            return None
        if part.startswith("{"):
            if not segments[i]:
                return None
            parameters[part[1:-1]] = segments[i]
        elif part != segments[i]:
            return None
    return parameters if len(pattern) == len(segments) else None


class GatewayDoor:
    """One per gateway port."""

    def __init__(
        self, invoker: Invoker, router: Callable[[], Router], *, port: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._invoker = invoker
        self._router = router
        self.port = port
        self._clock = clock

    def __call__(self, request: HttpRequest) -> bool:
        arrived_at = self._clock()
        found = self._router().match(request.method, request.path)
        request_id = new_request_id()
        if isinstance(found, list):
            request.respond(*_no_route(found, request_id))
            return True
        route, parameters = found
        version = self._invoker.functions.get(route.function)
        if version is None:
            request.respond(*_message(500, "Internal Server Error", request_id))
            return True
        try:
            start = timing.wish(request.headers)
        except Fault as fault:
            request.respond(*_message(400, fault.message, request_id))
            return True
        trace_id = request.headers.get("x-amzn-trace-id") or new_trace_id()
        event = event_v2(
            request, route=route.key, path_parameters=parameters, request_id=request_id, trace_id=trace_id,
            port=self.port, account=self._invoker.account, now=time.time(),
        )
        if len(request.body) > PAYLOAD_LIMIT or len(event) > EVENT_LIMIT:
            request.respond(*_message(413, "Request Entity Too Large", request_id))
            return True
        self._invoker.invoke(
            version, event, lambda outcome: request.respond(*_answer(outcome, request_id)), arrived_at=arrived_at,
            request_id=request_id, trace_id=trace_id, start=start,
        )
        return True


def _answer(outcome: Outcome, request_id: str) -> tuple[int, str, bytes]:
    if outcome.fault is not None:
        if isinstance(outcome.fault, Throttled):
            return _message(429, "Too Many Requests", request_id, outcome)
        return _message(503, "Service Unavailable", request_id, outcome)
    if outcome.error_type is not None:
        if outcome.timed_out:
            return _message(504, "Endpoint request timed out", request_id, outcome)
        return _message(502, "Internal Server Error", request_id, outcome)
    try:
        status, headers, body = response_v2(outcome.payload)
    except MalformedResponse:
        return _message(502, "Internal Server Error", request_id, outcome)
    return status, f"{headers}apigw-requestid: {request_id}\r\n{timing.timing_headers(outcome)}", body


def _message(status: int, text: str, request_id: str, outcome: Outcome | None = None) -> tuple[int, str, bytes]:
    lines = f"Content-Type: application/json\r\napigw-requestid: {request_id}\r\n"
    if outcome is not None and outcome.instance:
        lines += timing.timing_headers(outcome)
    return status, lines, json.dumps({"message": text}, separators=(",", ":")).encode()


def _no_route(methods: list[str], request_id: str) -> tuple[int, str, bytes]:
    if not methods:
        return _message(404, "Not Found", request_id)
    status, lines, body = _message(405, "Method Not Allowed", request_id)
    return status, f"{lines}Allow: {', '.join(sorted(set(methods)))}\r\n", body


def too_large(request: HttpRequest, size: int) -> tuple[int, str, bytes]:
    return _message(413, "Request Entity Too Large", new_request_id())
