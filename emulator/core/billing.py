"""Durations to the numbers and lines that the platform prints. Pure.

Format of the lines and the rule ``billed = ceil(duration + init)`` (all package
types since August 2025): AWS Lambda Developer Guide and recorded logs. Tabs
separate the fields of REPORT.
"""

from __future__ import annotations

from math import ceil


def billed_ms(duration: float, init: float | None) -> int:
    """Whole milliseconds; ``duration`` and ``init`` in seconds, summed before rounding."""
    # The inner round keeps binary noise (0.1 + 0.2) from costing a millisecond.
    return max(1, ceil(round((duration + (init or 0.0)) * 1000, 6)))


def gigabyte_seconds(billed: int, memory: int) -> float:
    """``billed`` in ms, ``memory`` in MB."""
    return billed / 1000 * memory / 1024


def start_line(request_id: str, version: str) -> str:
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    return f"END RequestId: {request_id}"


def report_line(
    request_id: str,
    *,
    duration: float,
    billed: int,
    memory: int,
    memory_used: int | None,
    init: float | None = None,
    error_type: str | None = None,
    timed_out: bool = False,
) -> str:
    """``duration`` and ``init`` in seconds, ``memory`` in MB, ``memory_used`` in bytes."""
    used = min(memory, ceil(memory_used / 2**20)) if memory_used is not None else memory
    line = (
        f"REPORT RequestId: {request_id}\tDuration: {duration * 1000:.2f} ms\tBilled Duration: {billed} ms\t"
        f"Memory Size: {memory} MB\tMax Memory Used: {used} MB\t"
    )
    if init is not None:
        line += f"Init Duration: {init * 1000:.2f} ms\t"
    if timed_out:
        line += "Status: timeout"
    elif error_type:
        line += f"Status: error\tError Type: {error_type}"
    return line


def init_report_line(duration: float, *, phase: str, status: str, error_type: str | None = None) -> str:
    line = f"INIT_REPORT Init Duration: {duration * 1000:.2f} ms\tPhase: {phase}\tStatus: {status}"
    return line + (f"\tError Type: {error_type}" if error_type else "")
