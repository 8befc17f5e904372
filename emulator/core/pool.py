"""Facts in, orders out: the whole truth about which invocation runs where.

The pool is told facts (``arrived``, ``ready``, ``finished``, ``died`` ...), each
with the time ``now``, and answers with orders (``Start``, ``Assign``, ``Reject``,
``Stop``). It never waits, reads a clock, logs or draws a random number, so the
live fleet, the tests and the simulator all drive this same object.

Rules:

- *Settle first.* Every fact first expires what is due at ``now``; a timer that
  fires late (or never) can't change a decision. At equal times: expiries before
  arrivals, so an arrival exactly at an expiry is cold.
- *Admission and placement are one decision*, made in one call.
- *Most recently used first*: few instances stay hot, the rest can expire.
- *Held*: where many quick invocations meet many idle instances, few of these
  serve all, with an idle one in reserve for each that waits (``core.hold``).
- Facts about unknown ids are no order, never an error: cancellation makes
  duplicates normal. An illegal transition of a known instance is an error.
- Every fact costs O(log n) at most; nothing scans all instances but snapshots.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from typing import Literal

from .concurrency import ACCOUNT_DEFAULT, Concurrency
from .hold import Hold
from .ids import InstanceId, InvocationId, VersionId
from .instance import Instance, State
from .keepalive import FixedKeepAlive, KeepAlive
from .orders import Assign, Order, Reject, RejectReason, Start, Stop, StopReason

Binding = Literal["early", "late"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the pool as a whole; provider differences are data here."""

    account: int = ACCOUNT_DEFAULT
    """Invocations in flight, all functions together."""
    memory: int | None = None
    """MB that all instances together may be configured with; None: no bound."""
    binding: Binding = "early"
    """early: the invocation that started an instance gets it (AWS).
    late: whichever instance is free first serves whoever waits longest."""
    hot: int = 0
    """How many instances of a version work at once on *quick* invocations (see
    ``core.hold``) while further ones wait for them a moment, though another idle
    instance is there for each. It never changes who starts cold. 0: off."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the pool needs to know of a version to schedule it."""

    version: VersionId
    function: str
    memory: int = 128
    """MB."""
    keep_alive: float = 300.0
    """Seconds."""
    reserved: int | None = None
    """Reserved concurrency of the function as of this version."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot; ``instances`` counts by function, then state."""

    in_flight: int
    in_flight_of: dict[str, int]
    instances: dict[str, dict[State, int]]
    memory: int
    """MB configured for all living instances."""


@dataclass(slots=True)
class _Deployment:
    plan: Plan
    keep_alive: KeepAlive
    idle: deque[Instance] = field(default_factory=deque)
    """A stack: most recently used at the right. May hold stale entries."""
    waiting: OrderedDict[InvocationId, None] = field(default_factory=OrderedDict)
    """Invocations bound to no instance (late binding)."""
    alive: int = 0
    starting: int = 0
    idles: int = 0
    """Instances in state IDLE."""
    hold: Hold = field(default_factory=Hold)
    retired: bool = False


class Pool:
    """Decides for every invocation and instance. See the module's text."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._concurrency = Concurrency(self._limits.account)
        self._deployments: dict[VersionId, _Deployment] = {}
        self._instances: dict[InstanceId, Instance] = {}
        self._running: dict[InvocationId, InstanceId | VersionId] = {}
        """Where each admitted invocation is: an instance, or a version's queue."""
        self._epochs: dict[str, int] = {}
        self._idle_order: OrderedDict[InstanceId, Instance] = OrderedDict()
        """All idle instances, least recently used first: whom to evict."""
        self._expiries: list[tuple[float, int, Instance]] = []
        self._holding: dict[VersionId, _Deployment] = {}
        """Deployments with held invocations."""
        self._last_id = 0
        self._memory = 0
        self._idle_memory = 0
        """The part of it that could be evicted."""
        self._draining = False

    # -- configuration ---------------------------------------------------------

    def configured(self, limits: Limits, now: float) -> list[Order]:
        """The limits changed. What already runs is not touched."""
        orders = self._settle(now)
        self._limits = limits
        self._concurrency.account = limits.account
        return orders

    def declared(self, plan: Plan, now: float) -> list[Order]:
        """A version may be invoked from now on (or its plan changed)."""
        orders = self._settle(now)
        known = self._deployments.get(plan.version)
        if known is None:
            self._deployments[plan.version] = _Deployment(plan, FixedKeepAlive(plan.keep_alive))
        else:
            known.plan, known.keep_alive, known.retired = plan, FixedKeepAlive(plan.keep_alive), False
        self._concurrency.reserve(plan.function, plan.reserved)
        return orders

    def retired(self, version: VersionId, now: float) -> list[Order]:
        """A version is no longer the one that runs: idle instances stop now, busy
        ones when they finish; invocations already admitted are served."""
        orders = self._settle(now)
        deployment = self._deployments.get(version)
        if deployment is None:
            return orders
        deployment.retired = True
        self._let_go(deployment, orders, now)
        for instance in deployment.idle:
            if instance.state is State.IDLE:
                orders.append(self._stop(instance, StopReason.RETIRED))
        deployment.idle.clear()
        self._forget_if_done(version, deployment)
        return orders

    def evicted(self, function: str | None, now: float) -> list[Order]:
        """Somebody asked that the next start be cold: idle instances of the
        function (of all, if None) stop now, busy and starting ones after use."""
        orders = self._settle(now)
        chosen = [d for d in self._deployments.values() if function in (None, d.plan.function)]
        for name in {deployment.plan.function: None for deployment in chosen}:
            self._epochs[name] = self._epochs.get(name, 0) + 1
        for deployment in chosen:
            self._let_go(deployment, orders, now)
            for instance in deployment.idle:
                if instance.state is State.IDLE:
                    orders.append(self._stop(instance, StopReason.EVICTED))
            deployment.idle.clear()
        return orders

    def drained(self, now: float) -> list[Order]:
        """Shutting down: nothing new is admitted, idle instances stop."""
        self._draining = True
        orders = self._settle(now)
        for deployment in list(self._holding.values()):
            self._let_go(deployment, orders, now)
        for instance in list(self._idle_order.values()):
            orders.append(self._stop(instance, StopReason.DRAINED))
        return orders

    # -- the life of an invocation ---------------------------------------------

    def arrived(
        self, invocation: InvocationId, version: VersionId, now: float, *, cold: bool = False
    ) -> list[Order]:
        """An invocation wants to run. ``cold``: on a new instance even if one is idle."""
        orders = self._settle(now)
        deployment = self._deployments[version]
        if self._draining:
            orders.append(Reject(invocation, RejectReason.DRAINING))
            return orders
        refusal = self._concurrency.admit(deployment.plan.function)
        if refusal is not None:
            orders.append(Reject(invocation, refusal))
            return orders
        hold = deployment.hold
        if hold.waiting or (self._limits.hot and hold.is_quick and not cold):
            busy = deployment.alive - deployment.idles - deployment.starting
            if not cold and busy >= self._limits.hot and deployment.idles > len(hold.waiting):
                hold.add(invocation, now)
                self._running[invocation] = version
                self._holding[version] = deployment
                return orders
            if hold.waiting:
                # Every idle instance is spoken for by one that waits.
                cold = cold or deployment.idles <= len(hold.waiting)
        self._place(invocation, deployment, orders, now, cold=cold)
        return orders

    def ready(self, id: InstanceId, now: float) -> list[Order]:
        """A starting instance can take its first invocation."""
        orders = self._settle(now)
        instance = self._instances.get(id)
        if instance is None:
            return orders
        deployment = self._deployments[instance.version]
        deployment.starting -= 1
        if instance.invocation is not None:
            instance.enter(State.BUSY)
            instance.assigned_at = now
            orders.append(Assign(instance.invocation, id))
        else:
            self._release(instance, deployment, now, orders)
        return orders

    def finished(self, id: InstanceId, now: float) -> list[Order]:
        """A busy instance has answered: its invocation is over, it is (about to be) free."""
        orders = self._settle(now)
        instance = self._instances.get(id)
        if instance is None or instance.state is not State.BUSY:
            return orders
        deployment = self._deployments[instance.version]
        if instance.invocation is not None:
            del self._running[instance.invocation]
            instance.invocation = None
            self._concurrency.release(deployment.plan.function)
            deployment.hold.served(now - instance.assigned_at, now)
        self._release(instance, deployment, now, orders)
        return orders

    def stalled(self, id: InstanceId, now: float) -> list[Order]:
        """An instance that counted as free did not ask for its next event in time:
        the invocation assigned to it is placed again, the instance stays busy
        with its own affairs until it is reported ``finished``."""
        orders = self._settle(now)
        instance = self._instances.get(id)
        if instance is None or instance.invocation is None or instance.state is not State.BUSY:
            return orders
        invocation, instance.invocation = instance.invocation, None
        self._place(invocation, self._deployments[instance.version], orders, now)
        return orders

    def died(self, id: InstanceId, now: float, *, delivered: bool = True) -> list[Order]:
        """An instance has ended by itself. ``delivered`` False: its invocation had
        not reached the runtime yet and is placed again. The invocation of a
        starting instance is rejected (the driver knows what init said)."""
        orders = self._settle(now)
        instance = self._instances.get(id)
        if instance is None:
            return orders
        deployment = self._deployments[instance.version]
        was_starting = instance.state is State.STARTING
        invocation, instance.invocation = instance.invocation, None
        self._remove(instance, deployment)
        if was_starting:
            deployment.starting -= 1
            if invocation is None and len(deployment.waiting) > deployment.starting:
                invocation, _ = deployment.waiting.popitem(last=False)
            if invocation is not None:
                self._drop(invocation, deployment)
                orders.append(Reject(invocation, RejectReason.START_FAILED))
        elif invocation is not None and not delivered:
            self._place(invocation, deployment, orders, now)
        elif invocation is not None:
            self._drop(invocation, deployment)
        self._forget_if_done(instance.version, deployment)
        return orders

    def abandoned(self, invocation: InvocationId, now: float) -> list[Order]:
        """Nobody waits for this invocation any more and it has not been delivered:
        the instance started for it becomes a spare."""
        orders = self._settle(now)
        place = self._running.get(invocation)
        if place is None:
            return orders
        if isinstance(place, int):
            instance = self._instances[place]
            deployment = self._deployments[instance.version]
            if instance.state is not State.STARTING:
                return orders
            instance.invocation = None
        else:
            deployment = self._deployments[place]
            deployment.waiting.pop(invocation, None)
            self._unhold(deployment, invocation)
        self._drop(invocation, deployment)
        return orders

    def prewarmed(self, version: VersionId, count: int, now: float) -> list[Order]:
        """Start up to ``count`` spare instances, as far as there is room."""
        orders = self._settle(now)
        deployment = self._deployments[version]
        if self._draining or deployment.retired:
            return orders
        for _ in range(count):
            if not self._make_room(deployment.plan.memory, orders):
                break
            self._start(deployment, orders)
        return orders

    def tick(self, now: float) -> list[Order]:
        """Time passed: expire what is due."""
        return self._settle(now)

    # -- questions ---------------------------------------------------------------

    @property
    def next_deadline(self) -> float | None:
        """When ``tick`` has something to do, at the earliest; None: never."""
        deadline = self._expiries[0][0] if self._expiries else None
        for deployment in self._holding.values():
            patience = deployment.hold.deadline
            deadline = patience if deadline is None else min(deadline, patience)
        return deadline

    def has_idle(self, version: VersionId) -> bool:
        deployment = self._deployments.get(version)
        return deployment is not None and deployment.idles > 0

    def instances(self) -> Iterable[Instance]:
        """All living instances, oldest first."""
        return self._instances.values()

    def statistics(self) -> PoolStatistics:
        counts: dict[str, dict[State, int]] = {}
        for deployment in self._deployments.values():
            living = (State.STARTING, State.IDLE, State.BUSY)
            counts.setdefault(deployment.plan.function, dict.fromkeys(living, 0))
        for instance in self._instances.values():
            counts[self._deployments[instance.version].plan.function][instance.state] += 1
        in_flight_of = {name: self._concurrency.of(name) for name in counts}
        return PoolStatistics(self._concurrency.in_flight, in_flight_of, counts, self._memory)

    def __repr__(self) -> str:
        states = [i.state for i in self._instances.values()]
        return (
            f"<Pool [in flight {self._concurrency.in_flight}/{self._limits.account} | instances: "
            f"{states.count(State.STARTING)} starting, {states.count(State.BUSY)} busy, "
            f"{states.count(State.IDLE)} idle]>"
        )

    # -- bookkeeping -------------------------------------------------------------

    def _settle(self, now: float) -> list[Order]:
        orders: list[Order] = []
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            _, _, instance = heappop(expiries)
            instance.queued_expiry = None
            if instance.state is not State.IDLE:
                continue
            if instance.expires_at > now:
                self._queue_expiry(instance)
                continue
            orders.append(self._stop(instance, StopReason.EXPIRED))
            idle = self._deployments[instance.version].idle
            while idle and idle[0].state is not State.IDLE:
                idle.popleft()
        if self._holding:
            self._release_held(orders, now)
        return orders

    def _release_held(self, orders: list[Order], now: float) -> None:
        """No instance came free for a while: these are not quick after all, everybody goes."""
        for deployment in list(self._holding.values()):
            if deployment.hold.is_over(now):
                deployment.hold.waited_in_vain()
                self._let_go(deployment, orders, now)

    def _let_go(self, deployment: _Deployment, orders: list[Order], now: float) -> None:
        """The idle instances in reserve are about to end: who waits takes them first."""
        if self._holding.pop(deployment.plan.version, None) is not None:
            for invocation in deployment.hold.take_all():
                self._place(invocation, deployment, orders, now)

    def _unhold(self, deployment: _Deployment, invocation: InvocationId) -> None:
        if deployment.hold.remove(invocation) and not deployment.hold.waiting:
            self._holding.pop(deployment.plan.version, None)

    def _place(
        self, invocation: InvocationId, deployment: _Deployment, orders: list[Order], now: float, *, cold: bool = False
    ) -> None:
        if not cold:
            idle = deployment.idle
            while idle:
                instance = idle.pop()
                if instance.state is State.IDLE:
                    self._leave_idle(instance, deployment)
                    self._bind(invocation, instance, now, orders)
                    return
        late = self._limits.binding == "late"
        if not (late and deployment.starting > len(deployment.waiting)):
            if not self._make_room(deployment.plan.memory, orders):
                self._running.pop(invocation, None)
                self._concurrency.release(deployment.plan.function)
                orders.append(Reject(invocation, RejectReason.CAPACITY))
                return
            instance = self._start(deployment, orders)
            if not late or cold:
                instance.invocation = invocation
                self._running[invocation] = instance.id
                return
        deployment.waiting[invocation] = None
        self._running[invocation] = deployment.plan.version

    def _start(self, deployment: _Deployment, orders: list[Order]) -> Instance:
        plan = deployment.plan
        self._last_id += 1
        epoch = self._epochs.get(plan.function, 0)
        instance = Instance(InstanceId(self._last_id), plan.version, plan.memory, epoch)
        self._instances[instance.id] = instance
        self._memory += plan.memory
        deployment.alive += 1
        deployment.starting += 1
        orders.append(Start(instance.id, plan.version))
        return instance

    def _make_room(self, memory: int, orders: list[Order]) -> bool:
        """Evict least recently used idle instances until ``memory`` MB fit."""
        bound = self._limits.memory
        if bound is None:
            return True
        if self._memory - self._idle_memory + memory > bound:
            return False
        while self._memory + memory > bound:
            orders.append(self._stop(next(iter(self._idle_order.values())), StopReason.EVICTED))
        return True

    def _release(self, instance: Instance, deployment: _Deployment, now: float, orders: list[Order]) -> None:
        """The instance is free: it serves who waits, is kept, or stops."""
        if self._draining or (deployment.retired and not deployment.waiting and not deployment.hold.waiting):
            reason = StopReason.DRAINED if self._draining else StopReason.RETIRED
            orders.append(self._stop(instance, reason))
            return
        if instance.epoch != self._epochs.get(deployment.plan.function, 0):
            orders.append(self._stop(instance, StopReason.EVICTED))
            self._restart_for_waiting(deployment, orders)
            return
        if deployment.waiting:
            invocation, _ = deployment.waiting.popitem(last=False)
            self._bind(invocation, instance, now, orders)
            return
        if deployment.hold.waiting:
            self._bind(deployment.hold.take(), instance, now, orders)
            if not deployment.hold.waiting:
                del self._holding[deployment.plan.version]
            return
        instance.enter(State.IDLE)
        instance.idle_since = now
        instance.expires_at = deployment.keep_alive.expiry(instance, now)
        deployment.idles += 1
        self._idle_memory += instance.memory
        self._idle_order[instance.id] = instance
        if instance.expires_at <= now:
            orders.append(self._stop(instance, StopReason.EXPIRED))
            return
        deployment.idle.append(instance)
        if instance.queued_expiry is None or instance.queued_expiry > instance.expires_at:
            self._queue_expiry(instance)

    def _bind(self, invocation: InvocationId, instance: Instance, now: float, orders: list[Order]) -> None:
        if instance.state is not State.BUSY:
            instance.enter(State.BUSY)
        instance.invocation = invocation
        instance.assigned_at = now
        self._running[invocation] = instance.id
        orders.append(Assign(invocation, instance.id))

    def _restart_for_waiting(self, deployment: _Deployment, orders: list[Order]) -> None:
        """An evicted instance did not serve who waited: with none left to come, start one."""
        if len(deployment.waiting) > deployment.starting and self._make_room(deployment.plan.memory, orders):
            self._start(deployment, orders)

    def _queue_expiry(self, instance: Instance) -> None:
        if instance.expires_at != inf:
            instance.queued_expiry = instance.expires_at
            heappush(self._expiries, (instance.expires_at, instance.id, instance))

    def _stop(self, instance: Instance, reason: StopReason) -> Stop:
        deployment = self._deployments[instance.version]
        self._remove(instance, deployment)
        self._forget_if_done(instance.version, deployment)
        return Stop(instance.id, reason)

    def _remove(self, instance: Instance, deployment: _Deployment) -> None:
        if instance.state is State.IDLE:
            self._leave_idle(instance, deployment)
        instance.enter(State.GONE)
        del self._instances[instance.id]
        self._memory -= instance.memory
        deployment.alive -= 1

    def _leave_idle(self, instance: Instance, deployment: _Deployment) -> None:
        del self._idle_order[instance.id]
        self._idle_memory -= instance.memory
        deployment.idles -= 1

    def _drop(self, invocation: InvocationId, deployment: _Deployment) -> None:
        del self._running[invocation]
        self._concurrency.release(deployment.plan.function)

    def _forget_if_done(self, version: VersionId, deployment: _Deployment) -> None:
        """A retired version without instances is not needed any more: a long-lived
        emulator with hot reload would keep every revision otherwise."""
        if deployment.retired and not deployment.alive and not deployment.waiting and not deployment.hold.waiting:
            self._deployments.pop(version, None)
