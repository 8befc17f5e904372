"""What the pool tells its driver to do, and why.

Orders are slotted but not frozen: they are made once per decision on the
hottest path there is, and freezing them costs about a tenth of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from .ids import InstanceId, InvocationId, VersionId


class RejectReason(StrEnum):
    """Why an invocation may not run."""

    ACCOUNT = "account"
    """The account's unreserved concurrency is exhausted."""
    RESERVED = "reserved"
    """The function's reserved concurrency is reached (0 included)."""
    CAPACITY = "capacity"
    """No room for another instance on this machine, and nothing idle to evict."""
    START_FAILED = "start_failed"
    """The instance it waited for ended before it was ready."""
    DRAINING = "draining"
    """The emulator is shutting down."""


class StopReason(StrEnum):
    """Why an instance is stopped."""

    EXPIRED = "expired"
    """Idle for longer than its keep-alive."""
    EVICTED = "evicted"
    """To make room, or because somebody asked for it."""
    RETIRED = "retired"
    """Its version is no longer the one that runs."""
    DRAINED = "drained"
    """The emulator is shutting down."""


@dataclass(slots=True)
class Start:
    """Start an instance; report ``ready`` or ``died``."""

    instance: InstanceId
    version: VersionId


@dataclass(slots=True)
class Assign:
    """Hand the invocation to the instance; report ``finished`` or ``died``."""

    invocation: InvocationId
    instance: InstanceId


@dataclass(slots=True)
class Reject:
    """Refuse the invocation."""

    invocation: InvocationId
    reason: RejectReason


@dataclass(slots=True)
class Stop:
    """End the instance. It is already gone as far as the pool is concerned."""

    instance: InstanceId
    reason: StopReason


Order: TypeAlias = Start | Assign | Reject | Stop
