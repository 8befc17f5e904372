"""The Runtime API conversation of one instance, as a state machine.

Which call is legal when, and what an illegal one is answered. The bytes are
``fleet.runtime_api``'s business. Source: the runtime interface emulator's
``core/states.go`` and the Runtime API documentation.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    INIT = "init"
    """The runtime has not asked for an event yet."""
    WAITING = "waiting"
    """It waits in ``GET .../next``."""
    RUNNING = "running"
    """It has an event and owes an answer."""
    ANSWERED = "answered"
    """It has answered and not asked for the next event yet."""
    FAILED = "failed"
    """Init failed: nothing is legal any more."""

    __hash__ = object.__hash__  # Enum's own hashes the name each time


class Call(Enum):
    NEXT = "next"
    RESPONSE = "response"
    ERROR = "error"
    INIT_ERROR = "init/error"

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[Phase, Call], Phase] = {
    (Phase.INIT, Call.NEXT): Phase.WAITING,
    (Phase.INIT, Call.INIT_ERROR): Phase.FAILED,
    # A runtime may lose its connection and ask again: the same event is its to take.
    (Phase.WAITING, Call.NEXT): Phase.WAITING,
    (Phase.RUNNING, Call.RESPONSE): Phase.ANSWERED,
    (Phase.RUNNING, Call.ERROR): Phase.ANSWERED,
    (Phase.ANSWERED, Call.NEXT): Phase.WAITING,
}

_NAMES = {
    Phase.INIT: "RuntimeStarted", Phase.WAITING: "Ready", Phase.RUNNING: "Running",
    Phase.ANSWERED: "InvocationResponse", Phase.FAILED: "RuntimeInitError",
}
_TARGETS = {
    Call.NEXT: "Ready", Call.RESPONSE: "InvocationResponse", Call.ERROR: "InvocationErrorResponse",
    Call.INIT_ERROR: "RuntimeInitError",
}


class IllegalCall(Exception):
    """403: the call is not legal in this phase."""

    def __init__(self, phase: Phase, call: Call) -> None:
        super().__init__(
            f"State transition from {_NAMES[phase]} to {_TARGETS[call]} failed for runtime. "
            "Error: State transition is not allowed"
        )


def after(phase: Phase, call: Call) -> Phase:
    """The phase that follows. Raises IllegalCall."""
    following = TRANSITIONS.get((phase, call))
    if following is None:
        raise IllegalCall(phase, call)
    return following
