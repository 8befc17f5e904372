"""Every metric, its name, unit and labels, in Prometheus' conventions.

Imported when somebody scrapes for the first time: the library takes a while to
load, and a start must not wait for it. Gauges are read from the pool at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .metrics import Metrics


class Exposition(Collector):
    """The counts of ``metrics`` as samples, each time it is asked."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

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
        for function, counts in self._metrics.functions.items():
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
        for function, counts in self._metrics.functions.items():
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
        for function, counts in self._metrics.functions.items():
            for kind, count in counts.errors.items():
                errors.add_metric((function, kind), count)
            for reason, count in counts.throttles.items():
                throttles.add_metric((function, reason), count)
            timeouts.add_metric((function,), counts.timeouts)
            kills.add_metric((function,), counts.out_of_memory)
        yield from (errors, throttles, timeouts, kills)

    def _gauges(self) -> Iterator[Metric]:
        statistics = self._metrics.pool()
        instances = GaugeMetricFamily("faas_instances", "Instances alive.", labels=("function", "state"))
        concurrency = GaugeMetricFamily("faas_concurrency", "Invocations in flight.", labels=("function",))
        for function, states in statistics.instances.items():
            for state, count in states.items():
                instances.add_metric((function, state.value), count)
            concurrency.add_metric((function,), statistics.in_flight_of[function])
        peak = GaugeMetricFamily(
            "faas_instance_memory_peak_bytes", "Largest memory use of any instance so far.", labels=("function",))
        for function, counts in self._metrics.functions.items():
            if counts.peak:
                peak.add_metric((function,), counts.peak)
        memory = GaugeMetricFamily(
            "faas_configured_memory_bytes", "Memory size of all living instances together.",
            value=statistics.memory * 2**20)
        waiting = GaugeMetricFamily(
            "faas_launches_waiting", "Starts that wait for one of the parallel launches.",
            value=self._metrics.launches_waiting())
        yield from (instances, concurrency, peak, memory, waiting)


def exposition(metrics: Metrics) -> bytes:
    """Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(Exposition(metrics))
    return generate_latest(registry)
