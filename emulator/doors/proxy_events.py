"""HTTP requests to API Gateway's payload 2.0 events, and what functions return to HTTP. Pure.

Sources: API Gateway developer guide ("Create AWS Lambda proxy integrations for
HTTP APIs") and answers recorded from the service.
"""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any
from urllib.parse import parse_qsl

from emulator.http.message import HttpRequest

_TEXT = re.compile(
    r"\s*(?:text/|application/(?:json|xml|javascript)\b|application/[^;]*\+(?:json|xml)\b)", re.IGNORECASE
)
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_PASSED_ON = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive", "date"})


class MalformedResponse(ValueError):
    """The function returned what can't be made into an HTTP answer. The message says what."""


def event_v2(
    request: HttpRequest,
    *,
    route: str,
    path_parameters: dict[str, str],
    request_id: str,
    trace_id: str,
    port: int,
    account: str,
    now: float,
) -> bytes:
    """The event as JSON. ``now`` in epoch seconds."""
    headers = dict(request.headers)
    cookie = headers.pop("cookie", None)
    headers.setdefault("x-amzn-trace-id", trace_id)
    headers["x-forwarded-for"] = ",".join(filter(None, (headers.get("x-forwarded-for"), request.client)))
    headers.setdefault("x-forwarded-port", str(port))
    headers.setdefault("x-forwarded-proto", "http")
    host = headers.get("host", "localhost")
    event: dict[str, Any] = {
        "version": "2.0", "routeKey": route, "rawPath": request.path, "rawQueryString": request.query,
    }
    if cookie:
        event["cookies"] = [part.strip() for part in cookie.split(";") if part.strip()]
    event["headers"] = headers
    if request.query:
        query: dict[str, str] = {}
        for key, value in parse_qsl(request.query, keep_blank_values=True):
            query[key] = f"{query[key]},{value}" if key in query else value
        event["queryStringParameters"] = query
    if path_parameters:
        event["pathParameters"] = path_parameters
    event["requestContext"] = {
        "accountId": account, "apiId": "local", "domainName": host.partition(":")[0],
        "domainPrefix": host.partition(".")[0].partition(":")[0],
        "http": {
            "method": request.method, "path": request.path, "protocol": "HTTP/1.1", "sourceIp": request.client,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request_id, "routeKey": route, "stage": "$default",
        "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)), "timeEpoch": int(now * 1000),
    }
    encoded = False
    if request.body:
        text = _as_text(request)
        encoded = text is None
        event["body"] = base64.b64encode(request.body).decode() if text is None else text
    event["isBase64Encoded"] = encoded
    return json.dumps(event, separators=(",", ":")).encode()


def _as_text(request: HttpRequest) -> str | None:
    """The body as text where API Gateway takes it for text; None: base64."""
    if not _TEXT.match(request.headers.get("content-type", "")):
        return None
    try:
        return request.body.decode()
    except UnicodeDecodeError:
        return None


def response_v2(payload: bytes) -> tuple[int, str, bytes]:
    """Status, header lines, body. Raises MalformedResponse."""
    try:
        value = json.loads(payload) if payload else None
    except ValueError as error:
        raise MalformedResponse("the function's answer is not JSON") from error
    if not isinstance(value, dict) or "statusCode" not in value:
        body = value.encode() if isinstance(value, str) else payload
        return 200, "Content-Type: application/json\r\n", body
    status = _status(value["statusCode"])
    lines = _headers(value.get("headers"))
    cookies = value.get("cookies") or []
    if not isinstance(cookies, list) or not all(isinstance(c, str) for c in cookies):
        raise MalformedResponse("cookies must be a list of strings")
    lines += [_line("Set-Cookie", cookie) for cookie in cookies]
    body = _body(value.get("body"), value.get("isBase64Encoded", False))
    if not any(line.lower().startswith("content-type:") for line in lines):
        lines.append("Content-Type: application/json\r\n" if body else "")
    return status, "".join(lines), body


def _status(value: Any) -> int:
    try:
        status = int(value)
    except (TypeError, ValueError) as error:
        raise MalformedResponse(f"statusCode must be a number, not {value!r}") from error
    if isinstance(value, bool) or not 200 <= status <= 599:
        raise MalformedResponse(f"statusCode must be from 200 to 599, not {value!r}")
    return status


def _headers(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise MalformedResponse("headers must be an object")
    lines = []
    for name, item in value.items():
        if isinstance(item, bool):
            item = str(item).lower()
        if not isinstance(item, (str, int, float)):
            raise MalformedResponse(f"header {name!r} must be a string")
        if name.lower() not in _NOT_PASSED_ON:
            lines.append(_line(name, str(item)))
    return lines


def _line(name: str, value: str) -> str:
    if not _HEADER_NAME.fullmatch(name) or _CONTROL.search(value):
        raise MalformedResponse(f"header {name!r} holds characters that HTTP does not allow")
    return f"{name}: {value}\r\n"


def _body(value: Any, encoded: Any) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        raise MalformedResponse("body must be a string")
    if encoded is not True and encoded != "true":
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise MalformedResponse("isBase64Encoded is true, but body is not base64") from error
