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
import shutil
import signal
import socket
import sys
import weakref
from pathlib import Path
from typing import Any, Literal

from emulator.core.model import Version
from emulator.runtimes import BOOTSTRAPS, Runtime, RuntimeUnavailable, resolve
from emulator.sandbox import cgroups
from emulator.sandbox.channel import Channel, Message
from emulator.sandbox.leftovers import runs_folder, sweep
from emulator.sandbox.limits import describe
from emulator.sandbox.paths import merge_layers, readable_copy, rewrite
from emulator.sandbox.protocol import (
    BackendUnavailable,
    Enforcement,
    Exit,
    LaunchFailed,
    LaunchSpec,
    Listener,
    Progress,
    Usage,
)
from emulator.sandbox.watch import MEGABYTE, tree_memory

Rung = Literal["root", "userns", "plain"]
RUNGS: tuple[Rung, ...] = ("root", "userns", "plain")
FULL_CORE_MB = 1769
"""AWS: that much memory comes with one whole vCPU."""
WATCH_INTERVAL = 0.05
"""Seconds between looks at the memory of instances that no cgroup limits."""
_BACKLOG = 16
_FIRST_PORT, _PORTS = 20_000, 20_000
"""Of listeners in networks of their own. No two that live at a time are the same, so that
the address tells them apart."""

_Key = tuple[str, str, str, tuple[str, ...]]

__all__ = ["ProcessBackend", "ProcessSandbox", "sweep"]


class ProcessSandbox:
    """One instance's process tree. See ``protocol.Sandbox``."""

    peer: str | None = None

    def __init__(self, backend: ProcessBackend, number: int, spec: LaunchSpec, output: int) -> None:
        loop = asyncio.get_running_loop()
        self.name = spec.name
        self.output = output
        self.created_at = 0.0
        self.started_at = 0.0
        self.pid = 0
        self.memory_limit = spec.version.memory * MEGABYTE
        self.group: cgroups.Group | None = None
        self._share = spec.version.memory / FULL_CORE_MB
        self._number = number
        self._backend = backend
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
                self._backend.signal(self._number, signal.SIGKILL)

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
            self._backend.signal(self._number, signal.SIGTERM)
            await asyncio.wait([self.exited], timeout=grace)
        self._backend.signal(self._number, signal.SIGKILL)
        await asyncio.wait([self.gone])
        for descriptor in (self.output, *self._counters.values()):
            os.close(descriptor)
        self._counters.clear()
        self.output = -1
        self._backend.forget(self._number)
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
        if self.group is not None and self._backend.cpu_limit and not self.exited.done():
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
        self._home = Path(home).absolute() / "process"
        self._label = owner or "faas"
        self._numbers = itertools.count(1)
        self._sandboxes: dict[int, ProcessSandbox] = {}
        self._prepared: dict[_Key, tuple[Runtime, str, str]] = {}
        self._runtimes: dict[str, Runtime] = {}
        self._channel: Channel | None = None
        self._ready: asyncio.Future[str] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._owner = ""
        self._layout = cgroups.Layout()
        self._reasons: list[str] = []
        self._closing = False
        self._networks = False
        """Whether instances can have a network of their own."""
        self._listening: dict[int, asyncio.Future[int]] = {}
        self._own: weakref.WeakValueDictionary[str, socket.socket] = weakref.WeakValueDictionary()
        """Address → listener in a network of its own; only as long as its owner keeps it."""

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
                (await self._listen_inside()).socket.close()
                self._networks = True
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
        runtime = Runtime("provided", "provided", None, None, (), ("/bin/sh", "-c", "exit 0"))
        self._prepared[_key(version)] = (runtime, str(folder), "")
        try:
            sandbox = await self.launch(LaunchSpec("probe", version, {"PATH": "/usr/bin:/bin"}))
            await asyncio.wait([sandbox.exited], timeout=5)
            ended = await sandbox.kill()
        finally:
            del self._prepared[_key(version)]
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
        shutil.rmtree(self._home / "code", ignore_errors=True)
        for folder in (self._home,):
            try:
                folder.rmdir()
            except OSError:
                pass  # merged layers are kept for the next run

    # -- the protocol -------------------------------------------------------

    async def prepare(self, version: Version, progress: Progress) -> None:
        try:
            self._prepared[_key(version)] = await asyncio.to_thread(self._prepare, version, progress)
        except (RuntimeUnavailable, OSError) as error:
            raise BackendUnavailable(str(error)) from error
        if self._channel is not None and self.rung != "plain":
            self._channel.send({"op": "base", **_base_of(self._prepared[_key(version)][0])})

    def _prepare(self, version: Version, progress: Progress) -> tuple[Runtime, str, str]:
        runtime = resolve(version.runtime, progress)
        layers = [Path(layer) for layer in version.layers]
        opt = str(merge_layers(layers, self._home / "layers")) if layers else ""
        code = Path(version.code).absolute()
        if not code.is_dir():
            raise OSError(f"function {version.function}: its code folder {code} is not there")
        if self.rung == "root":
            code = readable_copy(code, self._home / "code")
        return runtime, str(code), opt

    async def listen(self, version: Version) -> Listener:
        if version.network == "none" and self._networks:
            return await self._listen_inside()
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

    async def _listen_inside(self) -> Listener:
        """On the loopback of a new network, which ``launch`` finds again by the address."""
        channel = await self._connected()
        number = next(self._numbers)
        port = _FIRST_PORT + number % _PORTS
        reply = self._listening[number] = asyncio.get_running_loop().create_future()
        try:
            channel.send({"op": "listen", "id": number, "port": port})
            listening = socket.socket(fileno=await reply)
        except asyncio.CancelledError:
            if reply.done() and not reply.cancelled() and reply.exception() is None:
                os.close(reply.result())  # it came in the same turn
            raise
        finally:
            del self._listening[number]
        listening.setblocking(False)
        address = f"127.0.0.1:{port}"
        self._own[address] = listening
        return Listener(listening, address)

    async def _connected(self) -> Channel:
        """The channel to a living launcher. Raises LaunchFailed."""
        if self._restarting is not None:
            await asyncio.wait([self._restarting])
        if self._channel is None or self._closing:
            raise LaunchFailed("the process sandbox is closed")
        return self._channel

    async def launch(self, spec: LaunchSpec) -> ProcessSandbox:
        if _key(spec.version) not in self._prepared:
            try:
                await self.prepare(spec.version, lambda _: None)
            except BackendUnavailable as error:
                raise LaunchFailed(str(error)) from error
        channel = await self._connected()
        message = self._message(spec)
        listener = self._listener_of(spec)
        output, write_end = os.pipe()
        os.set_blocking(output, False)
        number = next(self._numbers)
        sandbox = ProcessSandbox(self, number, spec, output)
        if self.rung == "root":
            sandbox.group = cgroups.Group(self._layout, self._owner, spec.name, self.cpu_limit)
        self._sandboxes[number] = sandbox
        own = () if listener is None else (os.dup(listener.fileno()),)
        channel.send({"op": "launch", "id": number, "own_network": bool(own), **message}, write_end, *own)
        try:
            await asyncio.shield(sandbox.started)
        except BaseException:
            sandbox.started.cancel()
            await sandbox.kill()
            raise
        return sandbox

    def _listener_of(self, spec: LaunchSpec) -> socket.socket | None:
        """What keeps the instance's own network; None: it shares the host's. Raises LaunchFailed."""
        if spec.version.network != "none" or not self._networks:
            return None
        listener = self._own.get(spec.environ.get("AWS_LAMBDA_RUNTIME_API", ""))
        if listener is None or listener.fileno() < 0:
            raise LaunchFailed(f"{spec.name}: its listener was closed before it was launched")
        return listener

    def _message(self, spec: LaunchSpec) -> dict[str, Any]:
        runtime, code, opt = self._prepared[_key(spec.version)]
        argv = list(runtime.command) or [_find_bootstrap(code, opt, spec.version)]
        environ = {**runtime.environ, **spec.environ}
        if self.rung == "plain":
            real = {"/var/task": code, "/opt": opt or "/nonexistent"}
            real["/tmp"] = f"{runs_folder()}/{self._owner}/tmp-@"
            if runtime.directory:
                real["/var/runtime"] = str(runtime.directory)
            if runtime.prefixes:
                real["/var/lang"] = str(runtime.prefixes[0])
            argv = [rewrite(part, real) for part in argv]
            if runtime.family == "python":
                argv.append(real["/opt"])
            environ = {name: rewrite(value, real) for name, value in environ.items()}
            environ.setdefault("TMPDIR", real["/tmp"])
        return {
            "name": spec.name,
            "argv": argv,
            "environ": environ,
            "code": code,
            "opt": opt,
            "hostname": f"{self._label}-{spec.version.function}"[:63],
            "memory": spec.version.memory * MEGABYTE,
            "tmp": spec.version.ephemeral_storage * MEGABYTE,
            "marker": f"AWS_LAMBDA_RUNTIME_API={environ.get('AWS_LAMBDA_RUNTIME_API', spec.name)}".encode(),
            **_base_of(runtime),
        }

    def enforcement(self) -> tuple[Enforcement, ...]:
        return describe(self.rung, self._layout, self.cpu_limit, self._networks)

    # -- the launcher speaks ------------------------------------------------

    def signal(self, number: int, kind: int) -> None:
        """Have the launcher signal an instance; SIGKILL ends the whole tree."""
        if self._channel is not None:
            self._channel.send({"op": "kill", "id": number, "signal": int(kind)})

    def forget(self, number: int) -> None:
        self._sandboxes.pop(number, None)

    def _on_message(self, message: Message, descriptor: int | None) -> None:
        what = message["what"]
        if what == "listening":
            self._on_listening(message, descriptor)
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

    def _on_listening(self, message: Message, descriptor: int | None) -> None:
        reply = self._listening.get(message["id"])
        if reply is not None and not reply.done():
            if descriptor is not None:
                reply.set_result(descriptor)
            else:
                reply.set_exception(LaunchFailed(message["error"]))
        elif descriptor is not None:
            os.close(descriptor)  # who asked has gone

    def _on_lost(self) -> None:
        """The launcher died. Its instances die with it; a new one takes over."""
        channel, self._channel = self._channel, None
        for reply in self._listening.values():
            if not reply.done():
                reply.set_exception(LaunchFailed("the launcher process died"))
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


def _key(version: Version) -> _Key:
    """What of a version its preparation depends on."""
    return version.id, version.runtime, str(version.code), tuple(str(layer) for layer in version.layers)


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


def _base_of(runtime: Runtime) -> dict[str, Any]:
    prefixes: list[tuple[str, str]] = []
    if runtime.prefixes:
        prefixes.append((str(runtime.prefixes[0]), "/var/lang"))
        if runtime.command and not runtime.command[0].startswith("/var/lang/"):
            own = [str(prefix) for prefix in runtime.prefixes]
            prefixes += [(path, path) for path in own if not path.startswith("/usr")]
    return {"runtime": str(runtime.directory or ""), "prefixes": prefixes}


def _find_bootstrap(code: str, opt: str, version: Version) -> str:
    for inside in BOOTSTRAPS[:2]:
        folder = code if inside.startswith("/var/task") else opt
        path = f"{folder}/bootstrap"
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return inside
    raise LaunchFailed(
        f"Runtime.InvalidEntrypoint: function {version.function}: no executable bootstrap "
        f"({', '.join(BOOTSTRAPS[:2])}); add one at the top of its code and chmod +x it"
    )
