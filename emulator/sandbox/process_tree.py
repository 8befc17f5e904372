"""One instance of the process sandbox, as the emulator sees it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from emulator.sandbox import cgroups
from emulator.sandbox.channel import Message
from emulator.sandbox.protocol import Exit, LaunchSpec, Usage
from emulator.sandbox.watch import MEGABYTE, tree_memory

FULL_CORE_MB = 1769
"""AWS: that much memory comes with one whole vCPU."""


class ProcessSandbox:
    """One instance's process tree. See ``protocol.Sandbox``."""

    peer: str | None = None

    def __init__(
        self,
        spec: LaunchSpec,
        output: int,
        *,
        send_signal: Callable[[int], None],
        forget: Callable[[], None],
        cpu_limit: bool,
    ) -> None:
        """``send_signal``: SIGKILL ends the whole tree. ``forget`` is called when all is gone."""
        loop = asyncio.get_running_loop()
        self.name = spec.name
        self.output = output
        self.created_at = 0.0
        self.started_at = 0.0
        self.pid = 0
        self.memory_limit = spec.version.memory * MEGABYTE
        self.group: cgroups.Group | None = None
        self._share = spec.version.memory / FULL_CORE_MB
        self._send_signal = send_signal
        self._forget = forget
        self._cpu_limit = cpu_limit
        self.started: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[Exit] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._killing: asyncio.Task[Exit] | None = None
        self._counters: dict[str, int] = {}
        self._paused = False
        self._watched_peak = 0
        self._watched_now: int | None = None
        self._over_limit = False

    # -- told by the backend ------------------------------------------------

    def on_started(self, message: Message) -> None:
        self.pid = message["pid"]
        self.created_at = message["created"]
        self.started_at = message["started"]
        if self.group is not None:
            for name, path in self.group.counters().items():
                try:
                    self._counters[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    continue
        if not self.started.done():
            self.started.set_result(None)

    def on_exited(self, status: int | None, number: int | None, out_of_memory: bool) -> None:
        if not self.exited.done():
            self.exited.set_result(Exit(status, number, out_of_memory or self._over_limit))

    def on_gone(self) -> None:
        self.on_exited(None, int(signal.SIGKILL), False)  # if its end was never told
        if not self.gone.done():
            self.gone.set_result(None)

    def watch(self) -> None:
        """Where no cgroup does it: note the memory used, kill the tree that is over its limit."""
        if self.pid == 0 or self.exited.done():
            return
        self._watched_now = tree_memory(self.pid)
        if self._watched_now is not None:
            self._watched_peak = max(self._watched_peak, self._watched_now)
            if self._watched_now > self.memory_limit:
                self._over_limit = True
                self._send_signal(signal.SIGKILL)

    # -- the protocol -------------------------------------------------------

    async def wait(self) -> Exit:
        return await asyncio.shield(self.exited)

    async def kill(self, *, grace: float = 0.0) -> Exit:
        if self._killing is None:
            self._killing = asyncio.get_running_loop().create_task(self._kill(grace))
        return await asyncio.shield(self._killing)

    async def _kill(self, grace: float) -> Exit:
        if self._paused:
            await self.resume()
        if grace > 0 and not self.exited.done():
            self._send_signal(signal.SIGTERM)
            await asyncio.wait([self.exited], timeout=grace)
        self._send_signal(signal.SIGKILL)
        await asyncio.wait([self.gone])
        for descriptor in (self.output, *self._counters.values()):
            os.close(descriptor)
        self._counters.clear()
        self.output = -1
        self._forget()
        return await self.exited

    async def pause(self) -> None:
        self._freeze(True)

    async def resume(self) -> None:
        self._freeze(False)

    def _freeze(self, frozen: bool) -> None:
        if self._paused == frozen or self.exited.done():
            return
        path, freeze, thaw = self.group.freeze_file() if self.group else ("", "", "")
        try:
            if path:
                cgroups.write(path, freeze if frozen else thaw)
            else:
                os.killpg(self.pid, signal.SIGSTOP if frozen else signal.SIGCONT)
        except OSError:
            return  # it ended meanwhile, which ``wait`` tells
        self._paused = frozen

    async def settle(self) -> None:
        """Init is over: from now on the CPU share of the memory size holds (with ``cpu_limit``)."""
        if self.group is not None and self._cpu_limit and not self.exited.done():
            try:
                self.group.limit_cpu(self._share)
            except OSError:
                return

    def usage(self) -> Usage:
        if "memory" not in self._counters:
            if self.pid and not self.exited.done():
                self._watched_now = tree_memory(self.pid)
                self._watched_peak = max(self._watched_peak, self._watched_now or 0)
            cpu = self._read_cpu()
            return Usage(self._watched_now, self._watched_peak or None, cpu)
        memory = self._read("memory")
        peak = self._read("peak")
        if memory is not None and peak is None:  # memory.peak came with Linux 5.19
            self._watched_peak = peak = max(self._watched_peak, memory)
        return Usage(memory, peak, self._read_cpu())

    def memory_peak(self) -> int | None:
        return self._read("peak") if "peak" in self._counters else self.usage().memory_peak

    def _read(self, name: str) -> int | None:
        try:
            return int(os.pread(self._counters[name], 64, 0))
        except (OSError, KeyError, ValueError):
            return None

    def _read_cpu(self) -> float | None:
        try:
            raw = os.pread(self._counters["cpu"], 64, 0)
        except (OSError, KeyError):
            return None
        if raw.startswith(b"usage_usec "):
            return int(raw.split(None, 2)[1]) / 1e6
        return int(raw) / 1e9
