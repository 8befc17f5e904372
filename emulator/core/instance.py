"""The pool's record of one execution environment and the states it may be in."""

from __future__ import annotations

from enum import Enum

from .ids import InstanceId, InvocationId, VersionId


class State(Enum):
    """Life of an instance. Whatever ``TRANSITIONS`` does not list is illegal."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    GONE = "gone"

    __hash__ = object.__hash__  # Enum's own hashes the name each time


TRANSITIONS: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.IDLE, State.BUSY, State.GONE}),
    State.IDLE: frozenset({State.BUSY, State.GONE}),
    State.BUSY: frozenset({State.IDLE, State.GONE}),
    State.GONE: frozenset(),
}


class IllegalTransition(Exception):
    """A known instance was told to do what its state does not allow: a bug in the driver."""

    def __init__(self, instance: InstanceId, state: State, target: State) -> None:
        super().__init__(f"instance {instance} can't go from {state.value} to {target.value}")


class Instance:
    """One execution environment. Invariant: ``invocation`` is set while one is
    bound to it (reserved while STARTING, running while BUSY)."""

    __slots__ = ("assigned_at", "epoch", "expires_at", "id", "idle_since", "invocation", "memory", "queued_expiry",
                 "state", "version")

    def __init__(self, id: InstanceId, version: VersionId, memory: int, epoch: int) -> None:
        self.id = id
        self.version = version
        self.memory = memory
        self.epoch = epoch
        """The function's eviction count when it started: an older epoch is not reused."""
        self.state = State.STARTING
        self.invocation: InvocationId | None = None
        self.idle_since = 0.0
        self.assigned_at = 0.0
        self.expires_at = 0.0
        self.queued_expiry: float | None = None
        """When its entry in the pool's expiry heap is due, if it has one."""

    def enter(self, target: State) -> None:
        """Raises IllegalTransition."""
        if target not in TRANSITIONS[self.state]:
            raise IllegalTransition(self.id, self.state, target)
        self.state = target

    def __repr__(self) -> str:
        return f"<Instance {self.id} {self.version} {self.state.value}>"
