"""The pool against its oracle: the same facts must give the same orders, whatever the story."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emulator.core.ids import InstanceId, InvocationId, VersionId
from emulator.core.instance import State
from emulator.core.orders import Order
from emulator.core.pool import Limits, Plan, Pool
from emulator.telemetry.journal import encode, order_row, replay
from tests.support.naive_pool import NaivePool

PLANS = {"a@1": ("a", 10.0, None), "b@1": ("b", 3.0, 2), "c@1": ("c", 0.0, None), "d@1": ("d", 25.0, 0)}
ACCOUNT = 6
STEPS = st.sampled_from([0.0, 0.5, 1.0, 2.5, 3.0, 10.0])


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(Limits(account=ACCOUNT))
        self.journal: list[str] = []
        self.naive = NaivePool(PLANS, ACCOUNT)
        self.now = 0.0
        self.last = 0
        self.tell("configured", Limits(account=ACCOUNT))
        for version, (function, keep_alive, reserved) in PLANS.items():
            self.tell("declared", Plan(VersionId(version), function, 128, keep_alive, reserved))
        self.starting: list[int] = []
        self.busy: list[int] = []
        self.answered: dict[int, str] = {}

    def tell(self, fact: str, *args: object, **options: object) -> list[Order]:
        orders: list[Order] = getattr(self.pool, fact)(*args, self.now, **options)
        self.journal.append(encode(self.now, fact, args, options, orders))
        return orders

    def both(self, fact: str, *args: object, **options: object) -> None:
        orders = [tuple(order_row(order)) for order in self.tell(fact, *args, **options)]
        expected = getattr(self.naive, fact)(*args, self.now, **options)
        assert orders == expected, f"{fact}{args} at {self.now}"
        for order in orders:
            match order:
                case ("start", id, _):
                    self.starting.append(id)
                case ("assign", invocation, id):
                    assert self.answered[invocation] == "waiting"
                    self.answered[invocation] = "running"
                    if id in self.starting:
                        self.starting.remove(id)
                    self.busy.append(id)
                case ("reject", invocation, _):
                    assert self.answered[invocation] == "waiting"
                    self.answered[invocation] = "rejected"

    @rule(step=STEPS, version=st.sampled_from(sorted(PLANS)), cold=st.booleans())
    def arrive(self, step: float, version: str, cold: bool) -> None:
        self.now += step
        self.last += 1
        self.answered[self.last] = "waiting"
        self.both("arrived", InvocationId(self.last), VersionId(version), cold=cold)

    @precondition(lambda self: self.starting)
    @rule(step=STEPS, data=st.data())
    def become_ready(self, step: float, data: st.DataObject) -> None:
        self.now += step
        id = data.draw(st.sampled_from(self.starting))
        self.starting.remove(id)
        self.both("ready", InstanceId(id))

    @precondition(lambda self: self.busy)
    @rule(step=STEPS, data=st.data())
    def finish(self, step: float, data: st.DataObject) -> None:
        self.now += step
        id = data.draw(st.sampled_from(self.busy))
        self.busy.remove(id)
        self.both("finished", InstanceId(id))

    @precondition(lambda self: self.busy or self.starting)
    @rule(step=STEPS, data=st.data(), delivered=st.booleans())
    def die(self, step: float, data: st.DataObject, delivered: bool) -> None:
        self.now += step
        id = data.draw(st.sampled_from(self.busy + self.starting))
        if id in self.busy:
            self.busy.remove(id)
            invocation = self.naive.find(id).invocation  # type: ignore[union-attr]
            if not delivered and invocation is not None:
                self.answered[invocation] = "waiting"
        else:
            self.starting.remove(id)
        self.both("died", InstanceId(id), delivered=delivered)

    @rule(step=STEPS, data=st.data())
    def die_idle_or_unknown(self, step: float, data: st.DataObject) -> None:
        self.now += step
        idle = [int(i.id) for i in self.pool.instances() if i.state is State.IDLE]
        self.both("died", InstanceId(data.draw(st.sampled_from([*idle, 10_000]))))

    @rule(step=STEPS, function=st.sampled_from([None, "a", "b"]))
    def evict(self, step: float, function: str | None) -> None:
        self.now += step
        self.both("evicted", function)

    @rule(step=STEPS, version=st.sampled_from(["a@1", "b@1"]), count=st.integers(1, 3))
    def prewarm(self, step: float, version: str, count: int) -> None:
        self.now += step
        self.both("prewarmed", VersionId(version), count)

    @rule(step=STEPS)
    def tick(self, step: float) -> None:
        self.now += step
        self.both("tick")

    @invariant()
    def counts_equal_sums(self) -> None:
        statistics = self.pool.statistics()
        living = list(self.pool.instances())
        assert statistics.in_flight == self.naive.in_flight(None) <= ACCOUNT
        assert statistics.memory == sum(i.memory for i in living)
        assert sum(sum(states.values()) for states in statistics.instances.values()) == len(living)
        assert statistics.in_flight_of["b"] <= 2
        assert statistics.in_flight_of["d"] == 0

    @invariant()
    def the_next_deadline_is_never_late(self) -> None:
        idle = [i.expires_at for i in self.pool.instances() if i.state is State.IDLE]
        deadline = self.pool.next_deadline
        assert not idle or (deadline is not None and deadline <= min(idle))

    def teardown(self) -> None:
        assert replay(self.journal, Pool()) == []


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
