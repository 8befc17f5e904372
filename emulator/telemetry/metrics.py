"""What is counted of every function; ``exposition`` makes Prometheus samples of it.

Counters and histograms are fed in plain integers on the answer's path and become
Prometheus samples only when scraped; gauges are read from the pool at that
moment, so they can't drift. Labels are function names (bounded by what is
deployed), runtimes, sandboxes, phases and error types known to the platform:
names a function makes up are counted as ``other`` beyond a bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

from emulator.core.pool import PoolStatistics

BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0,
    10.0, 20.0, 30.0, 60.0,
)
"""Seconds: 1 ms to 60 s, denser where cold starts are."""
ERROR_TYPES_KEPT = 50
"""Distinct error types by function; further ones are counted as ``other``."""


class _Distribution:
    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(BUCKETS, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        total, rows = 0, []
        for bound, count in zip((*map(repr, BUCKETS), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class FunctionCounts:
    """What has happened to one function."""

    __slots__ = (
        "billed",
        "cold_starts",
        "errors",
        "invocation",
        "out_of_memory",
        "outcomes",
        "peak",
        "start_phases",
        "throttles",
        "timeouts",
    )

    def __init__(self) -> None:
        self.cold_starts: defaultdict[tuple[str, str], int] = defaultdict(int)
        """By runtime and sandbox."""
        self.start_phases: defaultdict[tuple[str, str, str], _Distribution] = defaultdict(_Distribution)
        """By runtime, sandbox and phase."""
        self.invocation = {"cold": _Distribution(), "warm": _Distribution(), "restored": _Distribution()}
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.errors: defaultdict[str, int] = defaultdict(int)
        self.throttles: defaultdict[str, int] = defaultdict(int)
        self.timeouts = 0
        self.out_of_memory = 0
        self.billed = 0.0
        self.peak = 0


class Metrics:
    """See the module's text. Used from the event loop only."""

    def __init__(self, pool: Callable[[], PoolStatistics], launches_waiting: Callable[[], int]) -> None:
        self.pool = pool
        self.launches_waiting = launches_waiting
        self.functions: dict[str, FunctionCounts] = {}

    def of(self, function: str) -> FunctionCounts:
        counts = self.functions.get(function)
        if counts is None:
            counts = self.functions[function] = FunctionCounts()
        return counts

    def cold_start(self, function: str, runtime: str, sandbox: str, phases: dict[str, float]) -> None:
        counts = self.of(function)
        counts.cold_starts[runtime, sandbox] += 1
        for phase, seconds in phases.items():
            counts.start_phases[runtime, sandbox, phase].observe(seconds)

    def error(self, function: str, error_type: str) -> None:
        errors = self.of(function).errors
        if error_type not in errors and len(errors) >= ERROR_TYPES_KEPT:
            error_type = "other"
        errors[error_type] += 1

    def throttled(self, function: str, reason: str) -> None:
        self.of(function).throttles[reason] += 1

    def clear(self) -> None:
        """All counts begin again; who holds ``of(…)`` goes on with the same object."""
        for counts in self.functions.values():
            counts.__init__()  # type: ignore[misc]
