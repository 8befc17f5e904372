"""The border between the fleet and whatever isolates an instance.

A backend makes sandboxes; a sandbox is one isolated process tree that runs
one runtime. Both know nothing of invocations, and readiness is not their
business: the runtime's first ``GET .../next`` is readiness, whatever hosts it.

Times are ``time.monotonic()`` seconds, sizes are bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from emulator.core.model import Version

Progress = Callable[[str], None]
"""Told one line of text at a time while something slow (an image build) goes on."""


class LaunchFailed(Exception):
    """The sandbox could not be made. The message says what to do about it."""


class BackendUnavailable(Exception):
    """This backend can't work on this machine. The message names the remedy."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket that this instance, and as far as possible no other, can reach."""

    socket: socket.socket
    """Bound, listening, non-blocking. The fleet owns and closes it."""
    address: str
    """``host:port`` as seen from inside the sandbox (AWS_LAMBDA_RUNTIME_API)."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything a sandbox needs to know, decided before it exists."""

    name: str
    """Unique on this machine: container name, cgroup name. ``[a-z0-9-]{1,60}``."""
    version: Version
    environ: Mapping[str, str]
    """The runtime's whole environment, with the platform's own paths
    (``/var/task``, ``/opt``, ``/tmp``). Nothing of the host's is added. A
    sandbox that can't put things at those paths rewrites the values."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a sandbox ended. Exactly one of ``status`` and ``signal`` is set."""

    status: int | None
    signal: int | None
    out_of_memory: bool = False
    """The memory limit killed a process of the tree."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the whole process tree uses. None: not known on this platform."""

    memory: int | None
    memory_peak: int | None
    cpu_seconds: float | None


@dataclass(frozen=True, slots=True)
class Enforcement:
    """How one limit is enforced here. ``how`` is one short phrase for people."""

    limit: Literal[
        "memory", "cpu", "ephemeral_storage", "processes", "file_descriptors", "read_only_code",
        "filesystem_isolation", "process_isolation", "network_isolation", "freeze", "privileges",
    ]
    enforced: bool
    how: str
    remedy: str = ""
    """What would make it enforced, empty when it is."""


class Sandbox(Protocol):
    """One isolated process tree, alive until ``wait`` returns."""

    name: str
    output: int
    """Non-blocking readable descriptor: stdout and stderr of the tree, in the
    order written. What was written before a request reached us can be read by
    then without waiting. EOF after the last writer is gone. Owned and closed
    by the sandbox (in ``kill``)."""
    created_at: float
    """When the sandbox was there and the runtime could be started in it."""
    started_at: float
    """When the runtime's process existed (exec done or about to be)."""
    peer: str | None
    """The address its connections come from, when it is the sandbox's own
    (a container's); None when it shares the host's."""

    async def wait(self) -> Exit:
        """Returns when the runtime's process has ended. May be awaited by many, any time."""
        ...

    async def kill(self, *, grace: float = 0.0) -> Exit:
        """End the whole tree and give back everything it held (cgroup, mounts,
        folders, container). SIGTERM to the runtime, up to ``grace`` seconds,
        then SIGKILL to all. Idempotent; never raises; returns when all is gone."""
        ...

    async def settle(self) -> None:
        """Init is over: from now on the CPU share that the memory size buys holds,
        if the backend limits CPU. Never raises."""
        ...

    async def pause(self) -> None:
        """Freeze every process of the tree. Idempotent."""
        ...

    async def resume(self) -> None:
        """Undo ``pause``. Idempotent."""
        ...

    def usage(self) -> Usage:
        """Now. Cheap (< 20 µs)."""
        ...

    def memory_peak(self) -> int | None:
        """The same as ``usage().memory_peak``, for after each invocation (< 5 µs)."""
        ...


class SandboxBackend(Protocol):
    """Makes sandboxes. One per emulator; safe for many concurrent calls."""

    @property
    def name(self) -> str:
        """``process`` or ``docker``."""
        ...
    description: str
    """One line for people: what is used and why."""

    @property
    def host_address(self) -> str:
        """Where a sandbox reaches this machine (the API, for a function's own calls)."""
        ...

    def is_instance(self, address: str) -> bool:
        """Is this the address of a sandbox? False where sandboxes share the host's."""
        ...

    def owns(self, name: str, address: str) -> bool:
        """May ``address`` be that of the sandbox ``name``, which ``launch`` has not returned yet?"""
        ...

    async def open(self, progress: Progress) -> None:
        """Check that it works, remove what a killed predecessor left, start helpers.
        Raises BackendUnavailable."""
        ...

    async def aclose(self) -> None:
        """Kill what still lives, leave nothing behind. Idempotent, bounded in time."""
        ...

    async def prepare(self, version: Version, progress: Progress) -> None:
        """Once per version, before its first launch: runtime present? image built?
        Raises BackendUnavailable with the remedy."""
        ...

    async def listen(self, version: Version) -> Listener:
        """A Runtime API listener for one instance of ``version``, before it is launched.
        With ``network = "none"`` it is all that the instance will reach. Closing it gives
        back everything, also when nothing was ever launched. Raises LaunchFailed."""
        ...

    async def launch(self, spec: LaunchSpec) -> Sandbox:
        """Returns when the runtime's process exists, not when it is ready. Cancelling
        it leaves nothing behind. Raises LaunchFailed."""
        ...

    def enforcement(self) -> tuple[Enforcement, ...]:
        """Every limit, enforced or not, on this machine. After ``open``."""
        ...
