"""One attempt to run a request: what the fleet hands to an instance."""

from __future__ import annotations

from collections.abc import Callable

from emulator.core.ids import InvocationId, RequestId
from emulator.core.model import Version
from emulator.core.outcome import Outcome


class Invocation:
    """One attempt. Written by the fleet only."""

    __slots__ = (
        "answered_at", "arn", "arrived_at", "client_context", "cold", "delivered_at", "done", "id", "log_lines",
        "payload", "prewarmed", "request_id", "started_wall", "tail", "trace_id", "version", "want_cold",
    )

    def __init__(
        self,
        id: InvocationId,
        request_id: RequestId,
        version: Version,
        payload: bytes,
        done: Callable[[Outcome], None],
        *,
        arn: str,
        trace_id: str = "",
        client_context: str = "",
        tail: bool = False,
        want_cold: bool = False,
    ) -> None:
        self.id = id
        self.request_id = request_id
        self.version = version
        self.payload = payload
        self.done = done
        """Told the outcome exactly once, from the event loop, never from within ``submit``'s caller
        unless the outcome is known at once."""
        self.arn = arn
        self.trace_id = trace_id
        self.client_context = client_context
        self.tail = tail
        self.want_cold = want_cold
        self.cold = False
        """It waited for an instance to start."""
        self.prewarmed = False
        self.arrived_at = 0.0
        self.delivered_at = 0.0
        self.answered_at = 0.0
        self.started_wall = 0.0
        self.log_lines: list[str] = []

    def __repr__(self) -> str:
        return f"<Invocation {self.id} {self.version.id} {self.request_id}>"
