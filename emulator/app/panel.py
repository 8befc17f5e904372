"""What the admin API shows, as plain dictionaries read from the fleet at that moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from emulator import __version__
from emulator.core.instance import State
from emulator.core.model import Version
from emulator.doors.admin import Panel
from emulator.fleet.fleet import Fleet, Record
from emulator.fleet.live import LiveInstance
from emulator.invoke.invoker import Invoker
from emulator.telemetry.exposition import exposition


def build_panel(
    fleet: Fleet, invoker: Invoker, routes: Callable[[str], list[str]], urls: Callable[[], dict[str, str]]
) -> Panel:
    """``routes``: of a function, as ``GET http://…``. ``urls``: gateway and api."""
    def current(name: str) -> Version:
        version = invoker.functions.get(name)
        assert version is not None  # the admin API has asked ``exists``
        return version

    def functions() -> list[dict[str, Any]]:
        alive: dict[str, int] = {}
        for live, _ in fleet.lives():
            alive[live.version.function] = alive.get(live.version.function, 0) + 1
        return [
            {
                "name": v.function, "runtime": v.runtime, "handler": v.handler, "memory": v.memory,
                "timeout": v.timeout, "revision": v.revision, "arn": invoker.arn(v.function),
                "urls": routes(v.function), "keep_alive": v.keep_alive,
                "reserved_concurrency": v.reserved_concurrency, "instances": alive.get(v.function, 0),
            }
            for v in sorted(invoker.functions.all(), key=lambda v: v.function)
        ]

    def invocations(function: str | None, limit: int) -> list[dict[str, Any]]:
        chosen = [r for r in fleet.records if function is None or r.invocation.version.function == function]
        return [_record(record) for record in chosen[-limit:]]

    return Panel(
        health=lambda: {
            "status": "ready", "version": __version__, "sandbox": fleet.backend.name,
            "sandbox_reason": fleet.backend.description, "functions": len(invoker.functions.all()), **urls(),
        },
        functions=functions,
        instances=lambda: [_instance(live, state, fleet) for live, state in fleet.lives()],
        invocations=invocations,
        exists=lambda name: invoker.functions.get(name) is not None,
        evict=fleet.evict,
        prewarm=lambda name, count: fleet.prewarm(current(name), count),
        reset=fleet.reset,
        log_lines=lambda name, since: [
            {"seq": line.seq, "time": line.time, "instance": line.instance, "request_id": line.request_id,
             "text": line.text}
            for line in fleet.logs.since(name, since)
        ],
        log_wait=fleet.logs.wait,
        journal=fleet.journal.text,
        metrics=lambda: exposition(fleet.metrics),
    )


def _instance(live: LiveInstance, state: State, fleet: Fleet) -> dict[str, Any]:
    now = fleet.clock()
    usage = live.sandbox.usage() if live.sandbox is not None else None
    return {
        "id": live.id, "name": live.name, "function": live.version.function, "revision": live.version.revision,
        "state": state.value, "sandbox": fleet.backend.name, "created_at": live.created_wall,
        "age": round(time.time() - live.created_wall, 3),
        "idle_for": round(now - live.idle_since, 3) if live.idle_since is not None and state is State.IDLE else None,
        "memory": usage.memory if usage else None, "memory_peak": usage.memory_peak if usage else None,
        "cpu_seconds": usage.cpu_seconds if usage else None, "invocations": live.invocations,
        "phases": live.start_phases(), "log_stream": live.log_stream,
    }


def _record(record: Record) -> dict[str, Any]:
    invocation, outcome = record.invocation, record.outcome
    kind = "fault" if outcome.fault else "function_error" if outcome.error_type else "success"
    return {
        "request_id": invocation.request_id, "function": invocation.version.function,
        "revision": invocation.version.revision, "instance": record.instance, "start": outcome.start,
        "outcome": kind, "error_type": record.error_type, "started_at": invocation.started_wall,
        "phases": outcome.phases, "duration": max(0.0, invocation.answered_at - invocation.delivered_at),
        "total": max(0.0, invocation.answered_at - invocation.arrived_at),
    }
