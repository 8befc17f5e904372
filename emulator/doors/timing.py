"""What every answer of an invocation tells about its start, on each door alike."""

from __future__ import annotations

from emulator.core.errors import InvalidParameter
from emulator.core.outcome import Outcome
from emulator.invoke.invoker import StartWish

START_HEADER = "x-faas-start"


def wish(headers: dict[str, str]) -> StartWish:
    """The start a caller asks for. Raises InvalidParameter."""
    value = headers.get(START_HEADER)
    if value is None:
        return "any"
    if value == "cold":
        return "cold"
    if value == "warm":
        return "warm"
    raise InvalidParameter(f"Header X-Faas-Start must be cold or warm, not '{value[:40]}'.")


def timing_headers(outcome: Outcome) -> str:
    """Header lines: which instance, cold or warm, which revision, and the phases
    in milliseconds as ``Server-Timing``, which browsers draw."""
    phases = outcome.phases
    if phases is None:
        timing = ""
    elif len(phases) == 2:  # warm: by far the most
        timing = f"Server-Timing: queue;dur={phases['queue'] * 1000:.3f}, invoke;dur={phases['invoke'] * 1000:.3f}\r\n"
    else:
        timing = ", ".join([f"{name};dur={seconds * 1000:.3f}" for name, seconds in phases.items()])
        timing = f"Server-Timing: {timing}\r\n"
    if outcome.prewarmed:
        timing += "X-Faas-Prewarmed: 1\r\n"
    return (
        f"X-Faas-Instance: {outcome.instance}\r\nX-Faas-Start: {outcome.start}\r\n"
        f"X-Faas-Revision: {outcome.revision}\r\n{timing}"
    )
