"""A pool so plain that it is obviously right: lists, no heaps, no lazy deletion. The oracle for ``core.Pool``.

Early binding, no capacity and no holding; time is settled by looking at everything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Thing:
    id: int
    version: str
    state: str = "starting"
    invocation: int | None = None
    expires: float = 0.0
    used: int = 0
    stale: bool = False


class NaivePool:
    def __init__(self, plans: dict[str, tuple[str, float, int | None]], account: int) -> None:
        self.plans = plans  # version -> function, keep-alive, reserved
        self.account = account
        self.things: list[Thing] = []
        self.last = 0
        self.uses = 0

    def settle(self, now: float) -> list[tuple]:
        due = sorted(
            (t for t in self.things if t.state == "idle" and t.expires <= now), key=lambda t: (t.expires, t.id))
        for thing in due:
            self.things.remove(thing)
        return [("stop", t.id, "expired") for t in due]

    def in_flight(self, function: str | None) -> int:
        return sum(
            t.invocation is not None for t in self.things
            if function is None or self.plans[t.version][0] == function)

    def arrived(self, invocation: int, version: str, now: float, cold: bool = False) -> list[tuple]:
        orders = self.settle(now)
        function, _, reserved = self.plans[version]
        if reserved is not None:
            if self.in_flight(function) >= reserved:
                return [*orders, ("reject", invocation, "reserved")]
        else:
            shares = {f: r for f, _, r in self.plans.values() if r is not None}
            unreserved = sum(self.in_flight(f) for f in {f for f, _, r in self.plans.values() if r is None})
            if unreserved >= self.account - sum(shares.values()):
                return [*orders, ("reject", invocation, "account")]
        return orders + self.place(invocation, version, cold)

    def place(self, invocation: int, version: str, cold: bool = False) -> list[tuple]:
        idle = [t for t in self.things if t.version == version and t.state == "idle"]
        if idle and not cold:
            thing = max(idle, key=lambda t: t.used)
            thing.state, thing.invocation = "busy", invocation
            return [("assign", invocation, thing.id)]
        self.last += 1
        self.things.append(Thing(self.last, version, invocation=invocation))
        return [("start", self.last, version)]

    def find(self, id: int) -> Thing | None:
        return next((t for t in self.things if t.id == id), None)

    def ready(self, id: int, now: float) -> list[tuple]:
        orders = self.settle(now)
        thing = self.find(id)
        if thing is None:
            return orders
        if thing.invocation is not None:
            thing.state = "busy"
            return [*orders, ("assign", thing.invocation, id)]
        return orders + self.free(thing, now)

    def finished(self, id: int, now: float) -> list[tuple]:
        orders = self.settle(now)
        thing = self.find(id)
        if thing is None or thing.state != "busy":
            return orders
        thing.invocation = None
        return orders + self.free(thing, now)

    def free(self, thing: Thing, now: float) -> list[tuple]:
        if thing.stale:
            self.things.remove(thing)
            return [("stop", thing.id, "evicted")]
        self.uses += 1
        thing.state, thing.used = "idle", self.uses
        thing.expires = now + self.plans[thing.version][1]
        if thing.expires <= now:
            self.things.remove(thing)
            return [("stop", thing.id, "expired")]
        return []

    def died(self, id: int, now: float, delivered: bool = True) -> list[tuple]:
        orders = self.settle(now)
        thing = self.find(id)
        if thing is None:
            return orders
        self.things.remove(thing)
        if thing.invocation is None:
            return orders
        if thing.state == "starting":
            return [*orders, ("reject", thing.invocation, "start_failed")]
        return orders if delivered else orders + self.place(thing.invocation, thing.version)

    def evicted(self, function: str | None, now: float) -> list[tuple]:
        orders = self.settle(now)
        for version, (name, _, _) in self.plans.items():
            mine = [t for t in self.things if t.version == version and function in (None, name)]
            for thing in sorted((t for t in mine if t.state == "idle"), key=lambda t: t.used):
                self.things.remove(thing)
                orders.append(("stop", thing.id, "evicted"))
            for thing in mine:
                thing.stale = True
        return orders

    def prewarmed(self, version: str, count: int, now: float) -> list[tuple]:
        orders = self.settle(now)
        for _ in range(count):
            self.last += 1
            self.things.append(Thing(self.last, version))
            orders.append(("start", self.last, version))
        return orders

    def tick(self, now: float) -> list[tuple]:
        return self.settle(now)
