"""Every metric, its name, unit and labels; Prometheus' conventions.

Counters and histograms are fed in plain integers on the answer's path and become
Prometheus samples only when scraped; gauges are read from the pool at that
moment, so they can't drift. Labels are function names (bounded by what is
deployed), runtimes, sandboxes, phases and error types known to the platform:
names a function makes up are counted as ``other`` beyond a bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

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


class Metrics(Collector):
    """See the module's text. Used from the event loop only."""

    def __init__(self, pool: Callable[[], PoolStatistics], launches_waiting: Callable[[], int]) -> None:
        self._pool = pool
        self._launches_waiting = launches_waiting
        self._functions: dict[str, FunctionCounts] = {}

    def of(self, function: str) -> FunctionCounts:
        counts = self._functions.get(function)
        if counts is None:
            counts = self._functions[function] = FunctionCounts()
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
        for counts in self._functions.values():
            counts.__init__()  # type: ignore[misc]

    # -- at scrape time ----------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        yield from self._starts()
        yield from self._invocations()
        yield from self._failures()
        yield from self._gauges()

    def _starts(self) -> Iterator[Metric]:
        starts = CounterMetricFamily(
            "faas_cold_starts", "Instances started because an invocation waited for one.",
            labels=("function", "runtime", "sandbox"))
        phases = HistogramMetricFamily(
            "faas_cold_start_seconds", "Cold starts, by phase; the phases of one start add up.",
            labels=("function", "runtime", "sandbox", "phase"))
        for function, counts in self._functions.items():
            for by, count in counts.cold_starts.items():
                starts.add_metric((function, *by), count)
            for key, distribution in counts.start_phases.items():
                phases.add_metric((function, *key), distribution.buckets(), distribution.sum)
        yield starts
        yield phases

    def _invocations(self) -> Iterator[Metric]:
        total = CounterMetricFamily(
            "faas_invocations", "Invocations that ran, by outcome.", labels=("function", "outcome"))
        duration = HistogramMetricFamily(
            "faas_invocation_duration_seconds", "From delivery to the runtime until its answer.",
            labels=("function", "start"))
        billed = CounterMetricFamily(
            "faas_billed_gigabyte_seconds", "Billed duration (rounded up to 1 ms, init included) times memory size.",
            labels=("function",))
        for function, counts in self._functions.items():
            for outcome, count in counts.outcomes.items():
                total.add_metric((function, outcome), count)
            for start, distribution in counts.invocation.items():
                if any(distribution.counts):
                    duration.add_metric((function, start), distribution.buckets(), distribution.sum)
            billed.add_metric((function,), counts.billed)
        yield total
        yield duration
        yield billed

    def _failures(self) -> Iterator[Metric]:
        errors = CounterMetricFamily("faas_errors", "Function errors, by type.", labels=("function", "type"))
        throttles = CounterMetricFamily(
            "faas_throttles", "Invocations refused, by reason.", labels=("function", "reason"))
        timeouts = CounterMetricFamily(
            "faas_timeouts", "Invocations ended by the function's timeout.", labels=("function",))
        kills = CounterMetricFamily(
            "faas_out_of_memory_kills", "Instances killed at their memory limit.", labels=("function",))
        for function, counts in self._functions.items():
            for kind, count in counts.errors.items():
                errors.add_metric((function, kind), count)
            for reason, count in counts.throttles.items():
                throttles.add_metric((function, reason), count)
            timeouts.add_metric((function,), counts.timeouts)
            kills.add_metric((function,), counts.out_of_memory)
        yield from (errors, throttles, timeouts, kills)

    def _gauges(self) -> Iterator[Metric]:
        statistics = self._pool()
        instances = GaugeMetricFamily("faas_instances", "Instances alive.", labels=("function", "state"))
        concurrency = GaugeMetricFamily("faas_concurrency", "Invocations in flight.", labels=("function",))
        for function, states in statistics.instances.items():
            for state, count in states.items():
                instances.add_metric((function, state.value), count)
            concurrency.add_metric((function,), statistics.in_flight_of[function])
        peak = GaugeMetricFamily(
            "faas_instance_memory_peak_bytes", "Largest memory use of any instance so far.", labels=("function",))
        for function, counts in self._functions.items():
            if counts.peak:
                peak.add_metric((function,), counts.peak)
        memory = GaugeMetricFamily(
            "faas_configured_memory_bytes", "Memory size of all living instances together.",
            value=statistics.memory * 2**20)
        waiting = GaugeMetricFamily(
            "faas_launches_waiting", "Starts that wait for one of the parallel launches.",
            value=self._launches_waiting())
        yield from (instances, concurrency, peak, memory, waiting)
