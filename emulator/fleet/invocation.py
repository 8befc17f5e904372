"""One attempt to run a request, and what came of it.

Times are ``time.monotonic()`` seconds. The phases are differences of
consecutive stamps, so they add up to what the caller waited by construction:

    queue     arrived -> its instance began to be made (or it was handed over, when warm)
    sandbox   -> the sandbox was there
    runtime   -> the runtime's process had begun to run user code
    init      -> the runtime asked for its first event
    invoke    -> the answer was there
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from emulator.core.errors import Fault
from emulator.core.ids import InvocationId, RequestId
from emulator.core.model import Version

Temperature = Literal["cold", "warm", "restored"]

START_PHASES = ("queue", "sandbox", "runtime", "init")
PHASES = (*START_PHASES, "invoke")


@dataclass(slots=True)
class Outcome:
    """What the caller gets. Exactly one kind: an answer, a function error
    (``error_type`` set, ``payload`` as the platform words it), or a fault."""

    payload: bytes = b""
    error_type: str | None = None
    fault: Fault | None = None
    instance: str = ""
    start: Temperature = "warm"
    prewarmed: bool = False
    """The caller asked for a warm start and an instance was started for it first."""
    phases: dict[str, float] | None = None
    """Seconds by phase, in order."""
    log_tail: bytes = b""
    """The last 4 KB of the invocation's log, when asked for."""
    executed_version: str = "$LATEST"
    revision: str = ""
    content_type: str = "application/json"


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
