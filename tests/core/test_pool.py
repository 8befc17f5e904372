"""The pool's specification, as stories. Times are seconds; no clock is needed."""

from __future__ import annotations

import pytest

from emulator.core.hold import PATIENCE
from emulator.core.ids import InstanceId, InvocationId, VersionId
from emulator.core.instance import IllegalTransition, State
from emulator.core.orders import Assign, Order, Reject, RejectReason, Start, Stop, StopReason
from emulator.core.pool import Limits, Plan, Pool

A, B = VersionId("a@1"), VersionId("b@1")


def I(number: int) -> InvocationId:  # noqa: E743 - reads well in the stories below
    return InvocationId(number)


def N(number: int) -> InstanceId:
    return InstanceId(number)


def make(limits: Limits | None = None, *, keep_alive: float = 10.0, reserved: int | None = None) -> Pool:
    pool = Pool(limits)
    pool.declared(Plan(A, "a", 128, keep_alive, reserved), 0.0)
    pool.declared(Plan(B, "b", 256, keep_alive), 0.0)
    return pool


def serve(pool: Pool, *, at: float, number: int = 1, version: VersionId = A, until: float | None = None) -> list[Order]:
    """One invocation from arrival to answer; returns the orders of its arrival."""
    orders = pool.arrived(I(number), version, at)
    last = orders[-1]
    if isinstance(last, Start):
        assert pool.ready(last.instance, at) == [Assign(I(number), last.instance)]
        pool.finished(last.instance, at if until is None else until)
    else:
        assert isinstance(last, Assign)
        pool.finished(last.instance, at if until is None else until)
    return orders


def test_first_is_cold_second_is_warm() -> None:
    pool = make()
    assert serve(pool, at=0.0) == [Start(N(1), A)]
    assert serve(pool, at=1.0, number=2) == [Assign(I(2), N(1))]


def test_simultaneous_invocations_start_simultaneous_instances() -> None:
    pool = make()
    assert [pool.arrived(I(n), A, 0.0) for n in (1, 2, 3)] == [[Start(N(n), A)] for n in (1, 2, 3)]


def test_reuse_renews_keep_alive() -> None:
    pool = make()
    serve(pool, at=0.0)
    serve(pool, at=9.0, number=2)
    assert pool.tick(10.0) == []
    assert pool.next_deadline == 19.0
    assert pool.tick(19.0) == [Stop(N(1), StopReason.EXPIRED)]


def test_an_arrival_exactly_at_the_expiry_is_cold() -> None:
    pool = make()
    serve(pool, at=0.0)
    assert pool.arrived(I(2), A, 10.0) == [Stop(N(1), StopReason.EXPIRED), Start(N(2), A)]


def test_the_most_recently_used_is_reused() -> None:
    pool = make()
    pool.arrived(I(1), A, 0.0)
    pool.arrived(I(2), A, 0.0)
    pool.ready(N(1), 0.1)
    pool.ready(N(2), 0.1)
    pool.finished(N(2), 1.0)
    pool.finished(N(1), 2.0)
    assert pool.arrived(I(3), A, 3.0) == [Assign(I(3), N(1))]
    assert pool.arrived(I(4), A, 3.0) == [Assign(I(4), N(2))]


def test_early_binding_the_starter_gets_its_instance() -> None:
    pool = make()
    pool.arrived(I(1), A, 0.0)
    pool.arrived(I(2), A, 0.1)
    assert pool.ready(N(2), 0.2) == [Assign(I(2), N(2))]
    assert pool.finished(N(2), 0.3) == []  # 1 goes on waiting for its own
    assert pool.ready(N(1), 0.4) == [Assign(I(1), N(1))]


def test_late_binding_the_first_free_serves_who_waits_longest() -> None:
    pool = make(Limits(binding="late"))
    pool.arrived(I(1), A, 0.0)
    pool.arrived(I(2), A, 0.1)
    assert pool.ready(N(2), 0.2) == [Assign(I(1), N(2))]
    assert pool.finished(N(2), 0.3) == [Assign(I(2), N(2))]
    assert pool.ready(N(1), 0.4) == []  # a spare


def test_reserved_concurrency_refuses_and_keeps_room_for_others() -> None:
    pool = make(Limits(account=3), reserved=1)
    pool.arrived(I(1), A, 0.0)
    assert pool.arrived(I(2), A, 0.0) == [Reject(I(2), RejectReason.RESERVED)]
    pool.arrived(I(3), B, 0.0)
    pool.arrived(I(4), B, 0.0)
    assert pool.arrived(I(5), B, 0.0) == [Reject(I(5), RejectReason.ACCOUNT)]


def test_reserved_zero_is_off() -> None:
    pool = make(reserved=0)
    assert pool.arrived(I(1), A, 0.0) == [Reject(I(1), RejectReason.RESERVED)]


def test_memory_capacity_evicts_the_least_recently_used() -> None:
    pool = make(Limits(memory=384))
    serve(pool, at=0.0, version=A)
    serve(pool, at=1.0, number=2, version=B)
    pool.arrived(I(3), A, 2.0)  # takes instance 1
    assert pool.arrived(I(4), A, 2.0) == [Stop(N(2), StopReason.EVICTED), Start(N(3), A)]
    assert pool.statistics().memory == 256


def test_no_room_and_nothing_idle_is_refused() -> None:
    pool = make(Limits(memory=200))
    pool.arrived(I(1), A, 0.0)
    assert pool.arrived(I(2), A, 0.0) == [Reject(I(2), RejectReason.CAPACITY)]
    assert pool.statistics().in_flight == 1


def test_nothing_is_evicted_when_it_would_not_help() -> None:
    pool = make(Limits(memory=300))
    serve(pool, at=0.0)
    pool.arrived(I(2), A, 1.0)
    pool.arrived(I(3), A, 1.0)
    pool.ready(N(2), 1.0)
    pool.finished(N(2), 1.1)
    assert pool.arrived(I(4), B, 1.2) == [Reject(I(4), RejectReason.CAPACITY)]
    assert {i.id for i in pool.instances()} == {1, 2}


def test_an_init_failure_rejects_who_waited() -> None:
    pool = make()
    pool.arrived(I(1), A, 0.0)
    assert pool.died(N(1), 0.5) == [Reject(I(1), RejectReason.START_FAILED)]
    assert pool.statistics().in_flight == 0


def test_an_instance_that_died_idle_harms_nobody() -> None:
    pool = make()
    serve(pool, at=0.0)
    pool.arrived(I(2), A, 1.0)
    assert pool.died(N(1), 1.0, delivered=False) == [Start(N(2), A)]
    assert pool.ready(N(2), 1.1) == [Assign(I(2), N(2))]


def test_stalled_places_again_and_counts_the_instance_busy_until_it_is_free() -> None:
    pool = make()
    serve(pool, at=0.0)
    pool.arrived(I(2), A, 1.0)
    assert pool.stalled(N(1), 1.05) == [Start(N(2), A)]
    assert pool.statistics().instances["a"][State.BUSY] == 1
    pool.finished(N(1), 1.2)
    assert pool.arrived(I(3), A, 1.3) == [Assign(I(3), N(1))]


def test_retired_versions_finish_what_they_have() -> None:
    pool = make()
    serve(pool, at=0.0)
    pool.arrived(I(2), A, 1.0)
    pool.arrived(I(3), A, 1.0)
    assert pool.retired(A, 1.1) == []
    assert pool.ready(N(2), 1.2) == [Assign(I(3), N(2))]
    assert pool.finished(N(1), 2.0) == [Stop(N(1), StopReason.RETIRED)]
    assert pool.finished(N(2), 2.0) == [Stop(N(2), StopReason.RETIRED)]
    assert pool.finished(N(2), 2.0) == []


def test_evicted_stops_idle_now_and_busy_after_use() -> None:
    pool = make()
    pool.arrived(I(1), A, 0.0)
    serve(pool, at=0.0, number=2)
    pool.ready(N(1), 0.0)
    assert pool.evicted("a", 1.0) == [Stop(N(2), StopReason.EVICTED)]
    assert pool.finished(N(1), 2.0) == [Stop(N(1), StopReason.EVICTED)]


def test_cold_on_request_passes_by_the_idle() -> None:
    pool = make()
    serve(pool, at=0.0)
    assert pool.arrived(I(2), A, 1.0, cold=True) == [Start(N(2), A)]


def test_draining_admits_nothing() -> None:
    pool = make()
    serve(pool, at=0.0)
    assert pool.drained(1.0) == [Stop(N(1), StopReason.DRAINED)]
    assert pool.arrived(I(2), A, 1.0) == [Reject(I(2), RejectReason.DRAINING)]


def test_abandoned_leaves_a_spare() -> None:
    pool = make()
    pool.arrived(I(1), A, 0.0)
    assert pool.abandoned(I(1), 0.1) == []
    assert pool.ready(N(1), 0.2) == []
    assert pool.arrived(I(2), A, 0.3) == [Assign(I(2), N(1))]


def test_no_keep_alive_stops_at_once() -> None:
    pool = make(keep_alive=0.0)
    pool.arrived(I(1), A, 0.0)
    pool.ready(N(1), 0.1)
    assert pool.finished(N(1), 0.2) == [Stop(N(1), StopReason.EXPIRED)]


def test_never_expiring_needs_no_timer() -> None:
    pool = make(keep_alive=float("inf"))
    serve(pool, at=0.0)
    assert pool.next_deadline is None
    assert pool.tick(1e9) == []


def test_an_illegal_transition_is_an_error() -> None:
    pool = make()
    serve(pool, at=0.0)
    pool.arrived(I(2), A, 1.0)
    instance = next(iter(pool.instances()))
    with pytest.raises(IllegalTransition, match="can't go from busy to starting"):
        instance.enter(State.STARTING)


# -- holding ----------------------------------------------------------------------


def hot(count: int = 4) -> Pool:
    """``count`` idle instances, service known to take 1 ms, two may be hot at once."""
    pool = make(Limits(hot=2))
    for number in range(1, count + 1):
        pool.arrived(I(number), A, 0.0)
    for number in range(1, count + 1):
        pool.ready(N(number), 0.0)
    for number in range(1, count + 1):
        pool.finished(N(number), 0.001)
    return pool


def test_quick_invocations_wait_for_a_hot_instance() -> None:
    pool = hot()
    assert pool.arrived(I(11), A, 1.0) == [Assign(I(11), N(4))]
    assert pool.arrived(I(12), A, 1.0) == [Assign(I(12), N(3))]
    assert pool.arrived(I(13), A, 1.0) == []
    assert pool.finished(N(4), 1.001) == [Assign(I(13), N(4))]


def test_held_go_all_when_patience_ends() -> None:
    pool = hot()
    for number in (11, 12, 13, 14):
        pool.arrived(I(number), A, 1.0)
    assert pool.next_deadline == pytest.approx(1.0 + PATIENCE)
    assert pool.tick(1.0 + PATIENCE) == [Assign(I(13), N(2)), Assign(I(14), N(1))]


def test_holding_never_saves_a_cold_start() -> None:
    pool = hot(count=3)
    orders = [pool.arrived(I(number), A, 1.0) for number in (11, 12, 13, 14)]
    assert orders[2] == []  # held: one idle instance is in reserve
    assert orders[3] == [Start(N(4), A)]  # nothing in reserve for this one


def test_slow_service_is_never_held() -> None:
    pool = make(Limits(hot=1))
    for number in (1, 2):
        pool.arrived(I(number), A, 0.0)
    for number in (1, 2):
        pool.ready(N(number), 0.0)
    for number in (1, 2):
        pool.finished(N(number), 0.5)
    assert pool.arrived(I(3), A, 1.0) == [Assign(I(3), N(2))]
    assert pool.arrived(I(4), A, 1.0) == [Assign(I(4), N(1))]


def test_eviction_lets_the_held_go_first() -> None:
    pool = hot()
    for number in (11, 12, 13):
        pool.arrived(I(number), A, 1.0)
    assert pool.evicted("a", 1.001) == [Assign(I(13), N(2)), Stop(N(1), StopReason.EVICTED)]
