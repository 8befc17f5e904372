"""Instances as sandboxed process trees: no engine, nothing but Python needed.

Three rungs, best first; ``open`` takes the highest that works here and
``enforcement`` names what each gives:

    root    own mount, pid, ipc and uts namespaces, a user per instance, cgroups
    userns  the same namespaces through a user namespace; memory is watched
    plain   a session with rlimits on the real paths; memory is watched
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from emulator.core.model import Version
from emulator.runtimes import RuntimeUnavailable
from emulator.sandbox import cgroups
from emulator.sandbox.channel import Channel, Message
from emulator.sandbox.leftovers import runs_folder, sweep
from emulator.sandbox.limits import describe
from emulator.sandbox.process_networks import OwnNetworks
from emulator.sandbox.process_plan import Plans
from emulator.sandbox.process_tree import ProcessSandbox
from emulator.sandbox.protocol import (
    BackendUnavailable,
    Enforcement,
    LaunchFailed,
    LaunchSpec,
    Listener,
    Progress,
)

Rung = Literal["root", "userns", "plain"]
RUNGS: tuple[Rung, ...] = ("root", "userns", "plain")
WATCH_INTERVAL = 0.05
"""Seconds between looks at the memory of instances that no cgroup limits."""
_BACKLOG = 16


__all__ = ["ProcessBackend", "ProcessSandbox", "sweep"]


class ProcessBackend:
    """Sandboxed processes through one launcher. See ``protocol.SandboxBackend``."""

    name: Literal["process", "docker", "fake"] = "process"

    def __init__(
        self, *, home: Path, rung: str | None = None, cpu_limit: bool = False, owner: str | None = None
    ) -> None:
        """``home``: the emulator's folder, for prepared layers. ``rung`` forces one of RUNGS.
        ``cpu_limit``: enforce the CPU share of the memory size after init. ``owner`` is for
        people: it appears in the instances' host names."""
        if rung is not None and rung not in RUNGS:
            raise ValueError(f"rung: expected one of {', '.join(RUNGS)}, found {rung!r}")
        self.description = "process"
        self.cpu_limit = cpu_limit
        self.rung: Rung = "plain"
        self._forced = rung
        self._plans = Plans(Path(home).absolute() / "process", owner or "faas")
        self._numbers = itertools.count(1)
        self._sandboxes: dict[int, ProcessSandbox] = {}
        self._channel: Channel | None = None
        self._ready: asyncio.Future[str] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._owner = ""
        self._layout = cgroups.Layout()
        self._reasons: list[str] = []
        self._closing = False
        self._networks = OwnNetworks()
        self._has_networks = False

    @property
    def launcher_pid(self) -> int:
        """The launcher process; 0 when there is none."""
        return self._channel.process.pid if self._channel is not None else 0

    # -- life ---------------------------------------------------------------

    async def open(self, progress: Progress) -> None:
        for line in await asyncio.to_thread(sweep):
            progress(f"removed what a killed emulator left: {line}")
        candidates = (self._forced,) if self._forced else RUNGS
        for rung in RUNGS:
            if rung not in candidates:
                continue
            if reason := _impossible(rung):
                self._reasons.append(f"{rung}: {reason}")
                continue
            self.rung = rung
            try:
                await self._start_launcher()
                await self._probe()
            except (BackendUnavailable, LaunchFailed) as error:
                self._reasons.append(f"{rung}: {error}")
                await self._stop_launcher()
                continue
            break
        else:
            raise BackendUnavailable("no process sandbox works here: " + "; ".join(self._reasons))
        self._layout = cgroups.detect() if self.rung == "root" else cgroups.Layout()
        if not self._layout.has("memory"):
            self._watching = asyncio.get_running_loop().create_task(self._watch())
        if self.rung != "plain":
            try:
                (await self._networks.listen(await self._connected())).socket.close()
                self._has_networks = True
            except LaunchFailed as error:
                progress(f'network = "none" can\'t be had here: {error}')
        self.description = self._describe()

    def _describe(self) -> str:
        what = {
            "root": "processes in their own namespaces, one user each, with cgroups",
            "userns": "processes in their own namespaces, through a user namespace",
            "plain": "plain processes with rlimits",
        }[self.rung]
        return what + (f" (not {'; not '.join(self._reasons)})" if self._reasons else "")

    async def _start_launcher(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._channel = Channel(self.rung, runs_folder(), self.cpu_limit, self._on_message, self._on_lost)
        try:
            async with asyncio.timeout(10):
                self._owner = await self._ready
        except TimeoutError:
            raise BackendUnavailable("the launcher process did not answer within 10 s") from None

    async def _stop_launcher(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.aclose()

    async def _probe(self) -> None:
        """Launch ``true`` once: only a whole start shows that every call is permitted."""
        folder = runs_folder() / self._owner / "probe"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        folder.parent.chmod(0o711)
        version = Version("probe", "provided", "", folder)
        with self._plans.trial(version, "/bin/sh", "-c", "exit 0"):
            sandbox = await self.launch(LaunchSpec("probe", version, {"PATH": "/usr/bin:/bin"}))
            await asyncio.wait([sandbox.exited], timeout=5)
            ended = await sandbox.kill()
        if ended.status != 0:
            raise LaunchFailed(f"a first process in it ended with {ended}")

    async def aclose(self) -> None:
        self._closing = True
        for task in (self._watching, self._restarting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._channel is not None:
            async with asyncio.TaskGroup() as group:
                for sandbox in list(self._sandboxes.values()):
                    group.create_task(sandbox.kill())
        await self._stop_launcher()
        await asyncio.to_thread(sweep)
        self._plans.close()

    # -- the protocol -------------------------------------------------------

    async def prepare(self, version: Version, progress: Progress) -> None:
        try:
            await asyncio.to_thread(self._plans.prepare, version, progress, readable=self.rung == "root")
        except (RuntimeUnavailable, OSError) as error:
            raise BackendUnavailable(str(error)) from error
        if self._channel is not None and self.rung != "plain":
            self._channel.send({"op": "base", **self._plans.base(version)})

    async def listen(self, version: Version) -> Listener:
        if version.network == "none" and self._has_networks:
            return await self._networks.listen(await self._connected())
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setblocking(False)
            listening.bind(("127.0.0.1", 0))
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        host, port = listening.getsockname()
        return Listener(listening, f"{host}:{port}")

    async def _connected(self) -> Channel:
        """The channel to a living launcher. Raises LaunchFailed."""
        if self._restarting is not None:
            await asyncio.wait([self._restarting])
        if self._channel is None or self._closing:
            raise LaunchFailed("the process sandbox is closed")
        return self._channel

    async def launch(self, spec: LaunchSpec) -> ProcessSandbox:
        if spec.version not in self._plans:
            try:
                await self.prepare(spec.version, lambda _: None)
            except BackendUnavailable as error:
                raise LaunchFailed(str(error)) from error
        channel = await self._connected()
        tmp = f"{runs_folder()}/{self._owner}/tmp-@" if self.rung == "plain" else None
        message = self._plans.message(spec, tmp)
        isolated = spec.version.network == "none" and self._has_networks
        handed = [self._networks.descriptor(spec)] if isolated else []
        try:
            output, write_end = os.pipe()
        except OSError as error:
            for descriptor in handed:
                os.close(descriptor)
            raise LaunchFailed(f"{spec.name}: no pipe for its output: {error.strerror}") from error
        os.set_blocking(output, False)
        number = next(self._numbers)
        sandbox = ProcessSandbox(
            spec, output, cpu_limit=self.cpu_limit,
            send_signal=partial(self._signal, number), forget=partial(self._forget, number),
        )  # fmt: skip
        if self.rung == "root":
            sandbox.group = cgroups.Group(self._layout, self._owner, spec.name, self.cpu_limit)
        self._sandboxes[number] = sandbox
        channel.send({"op": "launch", "id": number, "own_network": isolated, **message}, write_end, *handed)
        try:
            await asyncio.shield(sandbox.started)
        except BaseException:
            sandbox.started.cancel()
            await sandbox.kill()
            raise
        return sandbox

    @property
    def host_address(self) -> str:
        return "127.0.0.1"

    def is_instance(self, address: str) -> bool:
        return False

    def owns(self, name: str, address: str) -> bool:
        return True

    def enforcement(self) -> tuple[Enforcement, ...]:
        return describe(self.rung, self._layout, self.cpu_limit, self._has_networks)

    # -- the launcher speaks ------------------------------------------------

    def _signal(self, number: int, kind: int) -> None:
        """Have the launcher signal an instance; SIGKILL ends the whole tree."""
        if self._channel is not None:
            self._channel.send({"op": "kill", "id": number, "signal": int(kind)})

    def _forget(self, number: int) -> None:
        self._sandboxes.pop(number, None)

    def _on_message(self, message: Message, descriptor: int | None) -> None:
        what = message["what"]
        if what == "listening":
            self._networks.heard(message, descriptor)
            return
        if what == "ready":
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(message["owner"])
            return
        if what == "fatal":
            if self._ready is not None and not self._ready.done():
                self._ready.set_exception(BackendUnavailable(message["error"]))
            return
        sandbox = self._sandboxes.get(message["id"])
        if sandbox is None:
            return
        if what == "started":
            sandbox.on_started(message)
        elif what == "failed":
            if not sandbox.started.done():
                sandbox.started.set_exception(LaunchFailed(f"{sandbox.name}: {message['error']}"))
        elif what == "exited":
            sandbox.on_exited(message["status"], message["signal"], message["out_of_memory"])
        elif what == "gone":
            sandbox.on_gone()

    def _on_lost(self) -> None:
        """The launcher died. Its instances die with it; a new one takes over."""
        channel, self._channel = self._channel, None
        self._networks.lost()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(BackendUnavailable("the launcher process died at its start"))
        if channel is not None and not self._closing:
            loop = asyncio.get_running_loop()
            self._restarting = loop.create_task(self._recover(channel, list(self._sandboxes.values())))

    async def _recover(self, channel: Channel, orphans: list[ProcessSandbox]) -> None:
        await channel.aclose()
        for sandbox in orphans:
            if sandbox.pid and self.rung == "plain":
                try:
                    os.killpg(sandbox.pid, signal.SIGKILL)
                except OSError:
                    pass  # it died with the launcher
        await asyncio.to_thread(sweep)
        for sandbox in orphans:
            if not sandbox.started.done():
                sandbox.started.set_exception(LaunchFailed(f"{sandbox.name}: the launcher process died"))
            sandbox.on_gone()
        try:
            await self._start_launcher()
        except BackendUnavailable:
            self._channel = None
        self._restarting = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            for sandbox in list(self._sandboxes.values()):
                sandbox.watch()


def _impossible(rung: str) -> str:
    """Why this rung can't even be tried here; '' when it can."""
    if rung == "plain":
        return ""
    if sys.platform != "linux":
        return "needs Linux"
    from emulator.sandbox import namespaces

    if not namespaces.supported():
        return f"not ported to {os.uname().machine}"
    if rung == "root" and os.geteuid() != 0:
        return "needs root"
    return ""
