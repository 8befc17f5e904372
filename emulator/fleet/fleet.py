"""The asyncio shell of the pool: reports facts, carries out orders, keeps one timer.

No decision is made here. Facts that come up while orders are being carried out
are queued, so the pool hears one at a time; each goes to the journal together
with the orders it gave.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, assert_never

from emulator.core.errors import ServiceFailed, ShuttingDown, Throttled
from emulator.core.ids import InstanceId, InvocationId, VersionId
from emulator.core.instance import State
from emulator.core.model import Version
from emulator.core.orders import Assign, Order, Reject, RejectReason, Start, Stop
from emulator.core.outcome import Outcome
from emulator.core.pool import Limits, Plan, Pool, PoolStatistics
from emulator.sandbox.protocol import SandboxBackend
from emulator.telemetry.journal import Journal
from emulator.telemetry.metrics import Metrics

from .invocation import Invocation
from .live import Failure, LiveInstance
from .logs import Logs

INVOCATIONS_KEPT = 250
_FLUSH_EVERY = 0.1
"""Seconds between writes of the journal."""

Environ = Callable[[Version, str, str], dict[str, str]]
"""version, Runtime API address, log stream -> the runtime's environment."""


Fact = Callable[..., list[Order]]
_PLAIN: dict[str, Any] = {}
_COLD = {"cold": True}
_UNDELIVERED = {"delivered": False}


class Record:
    """One finished invocation, for readers."""

    __slots__ = ("billed", "error_type", "instance", "invocation", "outcome")

    def __init__(
        self, instance: LiveInstance, invocation: Invocation, outcome: Outcome, error_type: str | None
    ) -> None:
        self.instance = instance.name
        self.invocation = invocation
        self.outcome = outcome
        self.error_type = error_type


class Fleet:
    """See the module's text. Everything runs on one event loop."""

    def __init__(
        self,
        backend: SandboxBackend,
        logs: Logs,
        journal: Journal,
        environ: Environ,
        *,
        limits: Limits | None = None,
        parallel_launches: int = 32,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.backend = backend
        self.logs = logs
        self.journal = journal
        self.environ = environ
        self.clock = clock
        self.log = logging.getLogger("emulator.fleet")
        self.metrics = Metrics(self.statistics, lambda: self._launches_waiting)
        self.records: deque[Record] = deque(maxlen=INVOCATIONS_KEPT)
        self._pool = Pool()
        self._versions: dict[VersionId, Version] = {}
        self._lives: dict[InstanceId, LiveInstance] = {}
        self._invocations: dict[InvocationId, Invocation] = {}
        self._facts: deque[tuple[Fact, tuple[Any, ...], dict[str, Any], LiveInstance | None]] = deque()
        self._telling = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._permits = asyncio.Semaphore(parallel_launches)
        self._launches_waiting = 0
        self._ready_waiters: dict[InstanceId, asyncio.Future[bool]] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._quiet = asyncio.Event()
        self._closed = False
        self._tell(self._pool.configured, (limits or Limits(),))

    # -- what the layers above ask for -------------------------------------------

    def deploy(self, version: Version) -> None:
        """The version may be invoked from now on."""
        self._versions[version.id] = version
        plan = Plan(version.id, version.function, version.memory, version.keep_alive, version.reserved_concurrency)
        self._tell(self._pool.declared, (plan,))

    def retire(self, version: Version) -> None:
        """The version is no longer the one that runs; what is in flight finishes on it."""
        self._tell(self._pool.retired, (version.id,))

    def submit(self, invocation: Invocation) -> None:
        """Run it; ``invocation.done`` is told the outcome exactly once."""
        invocation.arrived_at = invocation.arrived_at or self.clock()
        self._invocations[invocation.id] = invocation
        options = _COLD if invocation.want_cold else _PLAIN
        self._tell(self._pool.arrived, (invocation.id, invocation.version.id), options)

    def has_idle(self, version: Version) -> bool:
        return self._pool.has_idle(version.id)

    async def prewarm(self, version: Version, count: int) -> tuple[int, int]:
        """Start spares and wait until they are ready: (started, ready)."""
        before = set(self._lives)
        self._tell(self._pool.prewarmed, (version.id, count))
        started = [id for id in self._lives if id not in before]
        loop = asyncio.get_running_loop()
        waiters = [self._ready_waiters.setdefault(id, loop.create_future()) for id in started]
        ready = sum(await asyncio.gather(*waiters)) if waiters else 0
        return len(started), ready

    def evict(self, function: str | None) -> int:
        """Idle instances stop now, busy ones after use; returns how many stopped now."""
        before = len(self._lives)
        self._tell(self._pool.evicted, (function,))
        return before - len(self._lives)

    def reset(self) -> int:
        """Forget instances, counters and records, as between two tests."""
        evicted = self.evict(None)
        self.metrics.clear()
        self.records.clear()
        self.logs.clear()
        return evicted

    def statistics(self) -> PoolStatistics:
        return self._pool.statistics()

    def lives(self) -> list[tuple[LiveInstance, State]]:
        return [(self._lives[i.id], i.state) for i in self._pool.instances() if i.id in self._lives]

    def open(self) -> None:
        self._flusher = asyncio.create_task(self._flush_journal())

    async def aclose(self, *, grace: float = 1.0) -> None:
        """Admit nothing more, give what runs ``grace`` seconds, then end everything. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._tell(self._pool.drained, ())
        if self._invocations:
            self._quiet.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._quiet.wait()
            except TimeoutError:
                pass
        for invocation in list(self._invocations.values()):
            self._finish_with_fault(invocation, Outcome(fault=ShuttingDown()))
        for live in list(self._lives.values()):
            live.stop()
        self._lives.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._flusher is not None:
            self._flusher.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
        for task in self._tasks:
            task.cancel()
        self.logs.flush()
        self.journal.close()

    # -- what live instances report ----------------------------------------------

    def ready(self, live: LiveInstance) -> None:
        self._started(live, True)
        self._tell(self._pool.ready, (live.id,), about=live)

    def _started(self, live: LiveInstance, ready: bool) -> None:
        """Tell who has prewarmed it what came of it."""
        waiter = self._ready_waiters.pop(live.id, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(ready)

    def finished(self, live: LiveInstance) -> None:
        self._tell(self._pool.finished, (live.id,))

    def free_again(self, live: LiveInstance) -> None:
        """It asked for its next event; matters only if it had been reported stalled."""
        if live.stalled:
            live.stalled = False
            self._tell(self._pool.finished, (live.id,))

    def stalled(self, live: LiveInstance) -> None:
        live.stalled = True
        self._tell(self._pool.stalled, (live.id,))

    def died(self, live: LiveInstance, *, delivered: bool) -> None:
        self._lives.pop(live.id, None)
        self._started(live, False)
        self._tell(self._pool.died, (live.id,), _PLAIN if delivered else _UNDELIVERED, about=live)

    def completed(
        self, live: LiveInstance, invocation: Invocation, outcome: Outcome, error_type: str | None, timed_out: bool
    ) -> None:
        """An invocation that ran has its outcome; the caller has been told."""
        self._forget(invocation)
        counts = live.counts
        counts.invocation[outcome.start].observe(invocation.answered_at - invocation.delivered_at)
        if outcome.error_type is None:
            counts.outcomes["success"] += 1
        else:
            counts.outcomes["function_error"] += 1
            self.metrics.error(invocation.version.function, error_type or "Unhandled")
        if timed_out:
            counts.timeouts += 1
        if live.peak and live.peak > counts.peak:
            counts.peak = live.peak
        if invocation.cold and outcome.phases is not None:
            version = invocation.version
            self.metrics.cold_start(version.function, version.runtime, self.backend.name, outcome.phases)
        invocation.payload = b""
        outcome.payload = b""
        self.records.append(Record(live, invocation, outcome, error_type))

    def start_failed(
        self, live: LiveInstance, invocation: Invocation, failure: Failure, body: bytes, phases: dict[str, float]
    ) -> None:
        """The invocation waited for an instance whose init failed."""
        version = invocation.version
        outcome = Outcome(
            body, "Unhandled", None, live.name, "cold", invocation.prewarmed, phases,
            executed_version=version.qualifier, revision=version.revision,
        )
        if failure.fault:
            outcome.fault = ServiceFailed(failure.message)
            self.metrics.of(version.function).outcomes["fault"] += 1
        else:
            self.metrics.of(version.function).outcomes["function_error"] += 1
            self.metrics.error(version.function, failure.error_type)
        self._finish_with_fault(invocation, outcome)
        self.records.append(Record(live, invocation, outcome, failure.error_type))

    # -- services to live instances ------------------------------------------------

    @asynccontextmanager
    async def launch_permit(self) -> AsyncIterator[None]:
        """Bounds launches in parallel; who waits is seen in a metric."""
        self._launches_waiting += 1
        try:
            await self._permits.acquire()
        finally:
            self._launches_waiting -= 1
        try:
            yield
        finally:
            self._permits.release()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.error("a background task failed", exc_info=task.exception())

    # -- facts and orders ------------------------------------------------------------

    def _tell(
        self, fact: Fact, args: tuple[Any, ...], options: dict[str, Any] = _PLAIN, about: LiveInstance | None = None
    ) -> None:
        """``fact(*args, now, **options)``, then what it orders. ``about``: the instance that reports."""
        if self._telling:
            self._facts.append((fact, args, options, about))
            return
        self._telling = True
        facts, record = self._facts, self.journal.record
        try:
            while True:
                now = self.clock()
                orders = fact(*args, now, **options) if options else fact(*args, now)
                record(now, fact.__name__, args, options, orders)
                for order in orders:
                    self._carry_out(order, about)
                if not facts:
                    break
                fact, args, options, about = facts.popleft()
        finally:
            self._telling = False
        deadline = self._pool.next_deadline
        if deadline is not None and (self._armed_for is None or deadline < self._armed_for):
            self._arm(deadline)

    def _carry_out(self, order: Order, about: LiveInstance | None) -> None:
        if type(order) is Assign:  # first, and without a pattern: one of these for each invocation
            invocation = self._invocations[order.invocation]
            invocation.cold = about is not None and about.id == order.instance
            self._lives[order.instance].take(invocation)
            return
        match order:
            case Start(instance_id, version_id):
                live = LiveInstance(self, instance_id, self._versions[version_id])
                self._lives[instance_id] = live
                self.spawn(live.start())
            case Stop(instance_id, _):
                stopped = self._lives.pop(instance_id, None)
                if stopped is not None:
                    stopped.stop()
            case Reject(invocation_id, reason):
                self._reject(self._invocations[invocation_id], reason, about)
            case Assign():
                pass  # above
            case _:
                assert_never(order)

    def _reject(self, invocation: Invocation, reason: RejectReason, about: LiveInstance | None) -> None:
        if reason is RejectReason.START_FAILED and about is not None:
            about.fail_invocation(invocation)
        elif reason is RejectReason.DRAINING:
            self._finish_with_fault(invocation, Outcome(fault=ShuttingDown()))
        else:
            self.metrics.throttled(invocation.version.function, reason.value)
            self._finish_with_fault(invocation, Outcome(fault=Throttled(reason)))

    def _finish_with_fault(self, invocation: Invocation, outcome: Outcome) -> None:
        self._forget(invocation)
        invocation.done(outcome)

    def _forget(self, invocation: Invocation) -> None:
        self._invocations.pop(invocation.id, None)
        if not self._invocations:
            self._quiet.set()

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = asyncio.get_running_loop().call_later(max(0.0, deadline - self.clock()), self._tick, deadline)

    def _tick(self, deadline: float) -> None:
        """Loops may fire a little early: the pool is told the time it was promised."""
        self._timer = self._armed_for = None
        if self.clock() < deadline:
            self._arm(deadline)
            return
        self._tell(self._pool.tick, ())

    async def _flush_journal(self) -> None:
        warned = False
        while True:
            await asyncio.sleep(_FLUSH_EVERY)
            self.journal.flush()
            if self.journal.failure and not warned:
                warned = True
                self.log.warning("%s; free some space and restart", self.journal.failure)
