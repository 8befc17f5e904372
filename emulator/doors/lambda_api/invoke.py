"""Invoke: ``POST /2015-03-31/functions/{name}/invocations``. The hot road of the API."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

from emulator.core.errors import (
    Fault,
    InvalidParameter,
    InvalidRequestContent,
    RequestTooLarge,
    ValidationFailed,
)
from emulator.core.model import Version
from emulator.core.outcome import Outcome
from emulator.doors import timing
from emulator.http.message import HttpRequest
from emulator.invoke.invoker import Invoker, new_request_id
from emulator.registry.arns import BadName, parse

from .wire import JSON, fault_response

PREFIX = "/2015-03-31/functions/"
SUFFIX = "/invocations"
PAYLOAD_LIMIT = 6_291_456
"""Bytes of a synchronous request (Lambda quotas)."""
_scan: Callable[[str, int], tuple[object, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
"""The decoder without its search for white space around the value."""
_TYPES = ("Event", "RequestResponse", "DryRun")


class InvokeDoor:
    """See the module's text."""

    def __init__(self, invoker: Invoker, clock: Callable[[], float] = time.monotonic) -> None:
        self._invoker = invoker
        self._clock = clock

    def accepts(self, request: HttpRequest) -> bool:
        return request.method == "POST" and request.path.endswith(SUFFIX) and request.path.startswith(PREFIX)

    def __call__(self, request: HttpRequest) -> bool:
        """The request is one that ``accepts`` takes."""
        arrived_at = self._clock()
        request_id = new_request_id()
        headers = request.headers
        try:
            version, qualifier = self._resolve(request)
            kind = headers.get("x-amz-invocation-type", "RequestResponse")
            if kind != "RequestResponse" and self._other_type(kind, request, request_id):
                return True
            start = timing.wish(headers) if timing.START_HEADER in headers else "any"
            context = _client_context(headers["x-amz-client-context"]) if "x-amz-client-context" in headers else ""
            payload = _checked_payload(request.body)
        except Fault as fault:
            request.respond(*fault_response(fault, request_id))
            return True

        def done(outcome: Outcome) -> None:
            respond(request, outcome, request_id)

        self._invoker.invoke(
            version, payload, done, arrived_at=arrived_at, request_id=request_id, qualifier=qualifier,
            tail=headers.get("x-amz-log-type") == "Tail", client_context=context,
            trace_id=headers.get("x-amzn-trace-id", ""), start=start,
        )
        return True

    def _resolve(self, request: HttpRequest) -> tuple[Version, str | None]:
        name = request.path[len(PREFIX) : -len(SUFFIX)]
        if "%" in name:
            name = unquote(name)
        qualifier = None
        if request.query:
            qualifier = parse_qs(request.query).get("Qualifier", [None])[0]
        if qualifier is None:
            version = self._invoker.functions.get(name)
            if version is not None:
                return version, None
        try:
            target = parse(name)
        except BadName as bad:
            raise ValidationFailed(str(bad)) from bad
        return self._invoker.resolve(target, qualifier), target.qualifier or qualifier

    def _other_type(self, kind: str, request: HttpRequest, request_id: str) -> bool:
        """DryRun is answered here; what can't be served is refused."""
        if kind not in _TYPES:
            raise ValidationFailed(
                f"Value '{kind[:100]}' at 'invocationType' failed to satisfy constraint: "
                f"Member must satisfy enum value set: [{', '.join(_TYPES)}]"
            )
        if kind == "Event":
            raise InvalidParameter(
                "InvocationType Event is not served by this version of the emulator: use RequestResponse."
            )
        _checked_payload(request.body)
        request.respond(204, f"x-amzn-RequestId: {request_id}\r\n", b"")
        return True


def _checked_payload(body: bytes) -> bytes:
    """An empty body becomes ``{}``. Raises RequestTooLarge, InvalidRequestContent."""
    if len(body) > PAYLOAD_LIMIT:
        raise RequestTooLarge(len(body), "RequestResponse", PAYLOAD_LIMIT)
    if not body:
        return b"{}"
    try:
        text = body.decode()
        if text[0] != "{" or _scan(text, 0)[1] != len(text):
            json.loads(text)
    except StopIteration:
        raise _not_json("Expecting value") from None
    except (ValueError, RecursionError) as error:
        raise _not_json(str(error)) from error
    return body


def _not_json(why: str) -> InvalidRequestContent:
    return InvalidRequestContent(f"Could not parse request body into json: Could not parse payload into json: {why}")


def _client_context(encoded: str) -> str:
    """The JSON inside. Raises InvalidRequestContent."""
    try:
        text = base64.b64decode(encoded, validate=True).decode()
        json.loads(text)
    except ValueError as error:
        raise InvalidRequestContent("Client context must be a valid Base64-encoded JSON object.") from error
    return " ".join(text.split("\n")) if "\n" in text else text


def respond(request: HttpRequest, outcome: Outcome, request_id: str) -> None:
    """The platform's answer to a synchronous invocation."""
    fault = outcome.fault
    if fault is not None:
        status, headers, body = fault_response(fault, request_id)
        request.respond(status, headers + (timing.timing_headers(outcome) if outcome.instance else ""), body)
        return
    headers = (
        f"{JSON}x-amzn-RequestId: {request_id}\r\nX-Amz-Executed-Version: {outcome.executed_version}\r\n"
        f"{timing.timing_headers(outcome)}"
    )
    if outcome.error_type is not None:
        headers += f"X-Amz-Function-Error: {outcome.error_type}\r\n"
    if outcome.log_tail:
        headers += f"X-Amz-Log-Result: {base64.b64encode(outcome.log_tail).decode()}\r\n"
    request.respond(200, headers, outcome.payload)


def too_large(request: HttpRequest, size: int) -> tuple[int, str, bytes]:
    """Refusal of a body that was not even read to its end."""
    known = request.headers.get("content-length", "")
    return fault_response(
        RequestTooLarge(int(known) if known.isdigit() else size, "RequestResponse", PAYLOAD_LIMIT), new_request_id()
    )
