"""What came of an invocation, and the phases of its time. A value that every layer shares.

Times are ``time.monotonic()`` seconds. The phases are differences of
consecutive stamps, so they add up to what the caller waited by construction:

    queue     arrived -> its instance began to be made (or it was handed over, when warm)
    sandbox   -> the sandbox was there
    process   -> the runtime's process existed
    runtime   -> the runtime began to load user code
    init      -> the runtime asked for its first event
    invoke    -> the answer was there
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import Fault

Temperature = Literal["cold", "warm", "restored"]

START_PHASES = ("queue", "sandbox", "process", "runtime", "init")
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
    timed_out: bool = False
