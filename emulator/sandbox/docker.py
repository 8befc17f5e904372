"""Instances as Docker containers: one each, made by ``create`` and ``start`` alone.

Output. Docker's own attach stream lags behind what was written, so stdout and
stderr go to a FIFO that is mounted into the container and read here: what the
function wrote before its next Runtime API request is in the FIFO when that
request arrives, by the kernel's own order. The FIFO lives under the home
folder (in a container: on its volume), in a folder of this process. Where a
FIFO can't cross (Docker Desktop's virtual machine, a remote engine) nothing
can be read in order, and the backend says so instead of starting.

PID 1 is ``docker-init``, not the runtime: a runtime as PID 1 would be immune
to its own signals (``kill -9 $$`` would do nothing) and would have to reap
the function's orphans. It costs about a millisecond of a 250 ms start.

Memory. ``/tmp`` is a tmpfs of the configured size; the kernel counts what is
in it as memory of the container. There is no extra swap.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import signal
import time
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from emulator.core.model import Version
from emulator.runtimes import BOOTSTRAPS, Runtime, RuntimeUnavailable, cache_folder, resolve
from emulator.sandbox.docker_engine import Deaths, Engine, engine_status
from emulator.sandbox.docker_leftovers import sweep, sweep_with
from emulator.sandbox.docker_limits import FULL_CORE_MB, describe, host_config
from emulator.sandbox.docker_meter import Layout, Meter
from emulator.sandbox.docker_network import Networks, hardware_address
from emulator.sandbox.docker_place import (
    LABEL_FUNCTION,
    LABEL_HOME,
    LABEL_INSTANCE,
    LABEL_OWNER,
    Place,
    find_place,
    home_mark,
    labels_for,
    owner_mark,
)
from emulator.sandbox.images import Images
from emulator.sandbox.paths import merge_layers, readable_copy
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

__all__ = ["DockerBackend", "DockerSandbox", "engine_status", "sweep"]

USER = "993:990"
"""AWS' own sbx_user1051."""
CPU_PERIOD = 100_000
"""Microseconds."""
SAMPLE_INTERVAL = 2.0
"""Seconds between looks at containers whose counters only the engine can read."""
CLOSE_TIMEOUT = 20.0
"""Seconds for killing everything at the end; what is left then, the next start sweeps."""
_log = logging.getLogger("faas")
_PIPE_BYTES = 1 << 20
_LOG = "/run/faas/log"


class DockerSandbox:
    """One container. See ``protocol.Sandbox``."""

    peer: str | None

    def __init__(self, backend: DockerBackend, spec: LaunchSpec, fifo: Path) -> None:
        self.name = spec.name
        self.container = ""
        self.created_at = 0.0
        self.started_at = 0.0
        self.peer = None
        # Ours, so that it can be told who calls before the engine has said which address it gave:
        # instances have no capabilities, so they can't take another's.
        self.hardware_address = "02:fa:" + secrets.token_bytes(4).hex(":")
        self.memory = spec.version.memory
        self.ended: asyncio.Future[Exit] | None = None
        self.meter: Meter | None = None
        self._backend = backend
        self._fifo = fifo
        self._killing: asyncio.Task[Exit] | None = None
        self._paused: Literal["no", "files", "engine"] = "no"
        os.mkfifo(fifo)
        try:
            fifo.chmod(0o622)  # after the umask: the container's user writes, only we read
            self.output = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            # A writer of our own, so that the end of file means the end of the
            # container, not that it has not opened the FIFO yet.
            self._writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            fifo.unlink()
            raise
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def on_end(self, _: object) -> None:
        """The container is dead: with our writer gone too, readers see the end of file."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    async def wait(self) -> Exit:
        assert self.ended is not None
        return await asyncio.shield(self.ended)

    async def settle(self) -> None:
        """After the init phase, which runs at full speed: the CPU share that the memory buys."""
        if not self._backend.cpu_limit or self.meter is None:
            return
        quota = max(1000, round(self.memory / FULL_CORE_MB * CPU_PERIOD))
        if not self.meter.limit_cpu(quota, CPU_PERIOD):
            with contextlib.suppress(Exception):  # it has just died
                await self._backend.engine.call(
                    self._backend.engine.api.update_container,
                    self.container, cpu_quota=quota, cpu_period=CPU_PERIOD,
                )  # fmt: skip

    async def kill(self, *, grace: float = 0.0) -> Exit:
        if self._killing is None:
            self._killing = asyncio.get_running_loop().create_task(self._kill(grace))
        return await asyncio.shield(self._killing)

    async def _kill(self, grace: float) -> Exit:
        engine, end = self._backend.engine, self.ended
        await self.resume()
        try:
            if grace > 0 and end is not None and not end.done():
                await engine.call(engine.api.kill, self.container, signal=int(signal.SIGTERM))
                await asyncio.wait([end], timeout=grace)
        except Exception:
            pass  # it died just now, or the engine did: removing it tells
        try:
            if self.container:
                await engine.remove_container(self.container)
        except Exception:  # the engine is away: when it is back, or at the next start, it is found by its label
            self._backend.unremoved.add(self.name)
        if self.meter is not None:
            self.meter.close()
        self._backend.forget(self)
        self.on_end(None)
        os.close(self.output)
        self.output = -1
        self._fifo.unlink(missing_ok=True)
        return end.result() if end is not None and end.done() else Exit(None, int(signal.SIGKILL))

    async def pause(self) -> None:
        if self._paused != "no" or self.meter is None or (self.ended and self.ended.done()):
            return
        if self.meter.freeze(True):
            self._paused = "files"
            return
        with contextlib.suppress(Exception):  # it has just died
            await self._backend.engine.call(self._backend.engine.api.pause, self.container)
            self._paused = "engine"

    async def resume(self) -> None:
        how, self._paused = self._paused, "no"
        if how == "files" and self.meter is not None:
            self.meter.freeze(False)
        elif how == "engine":
            with contextlib.suppress(Exception):
                await self._backend.engine.call(self._backend.engine.api.unpause, self.container)

    def usage(self) -> Usage:
        return self.meter.usage() if self.meter is not None else Usage(None, None, None)

    def memory_peak(self) -> int | None:
        return self.usage().memory_peak


class DockerBackend:
    """See ``protocol.SandboxBackend``. ``home``: the emulator's folder, absolute.

    ``cpu_limit`` caps each instance's CPU at its share after init (``settle``);
    without it shares only count when the machine is busy. ``owner`` overrides
    the mark of this process on what it makes (tests).
    """

    name: Literal["docker"] = "docker"
    engine_status = staticmethod(engine_status)

    def __init__(self, *, home: Path, cpu_limit: bool = False, owner: str | None = None) -> None:
        self.home = home.absolute()
        self.cpu_limit = cpu_limit
        self.engine = Engine()
        self.description = f"Docker at {self.engine.url}"
        self._owner = owner
        self._place = Place()
        self._labels: dict[str, str] = {}
        self._runs = self.home / "run" / "docker"
        self._alive: set[DockerSandbox] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._prepared: dict[str, tuple[Runtime, str]] = {}
        self._preparing: dict[str, asyncio.Lock] = {}
        self._mounts: dict[tuple[object, ...], list[tuple[str, str]]] = {}
        self._shared: dict[str, str] = {}
        self._sampled: set[DockerSandbox] = set()
        self._closed = False
        self.unremoved: set[str] = set()
        """Names of containers that the engine did not remove when told to."""

    async def open(self, progress: Progress) -> None:
        await self.engine.open()
        engine, api = self.engine, self.engine.api
        self._place = await engine.call(find_place, api)
        owner = self._owner or owner_mark(self._place)
        self._labels = labels_for(home_mark(self.home, self._place), owner)
        self.home.mkdir(parents=True, exist_ok=True)
        if self._place.on_host(self.home) is None:
            raise BackendUnavailable(
                f"the Docker engine can't see {self.home}, which is in this container only: "
                "set FAAS_HOME to a folder on a volume"
            )
        for line in await engine.call(sweep_with, api, self.home, self._place):
            progress(f"removed {line}, left by a killed emulator")
        self._runs = self._runs / owner
        self._runs.mkdir(parents=True, exist_ok=True)
        self._images = Images(api, cache=cache_folder())
        self._layout = Layout.of(engine.info)
        self._networks = Networks(engine, self._place, self._labels)
        ours = {name: self._labels[name] for name in (LABEL_HOME, LABEL_OWNER)}
        self._deaths = Deaths(engine, ours, lambda: self._spawn(self._remove_strays()))
        try:
            await self._networks.open()
            if self._networks.desktop:
                raise BackendUnavailable(
                    f"the Docker engine at {engine.url} runs on another machine (or in Docker "
                    "Desktop's), whence neither the Runtime API calls nor the logs of an instance reach us: run "
                    "the emulator in a container (docker compose up), or use --sandbox process"
                )
            await self._deaths.open()
        except BaseException:
            await self._networks.aclose()
            await self._deaths.aclose()
            shutil.rmtree(self._runs, ignore_errors=True)
            raise
        self._spawn(self._sample()).set_name("sample")
        version = engine.info.get("ServerVersion", "?")
        where = f", in the network {self._networks.name('default')}" if self._place.container else ""
        self.description = f"Docker {version} at {engine.url}{where}"

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self.engine.api is not None and self._labels:
            for task in list(self._tasks):
                if task.get_name() == "sample":
                    task.cancel()
            ending = [*(each.kill() for each in self._alive), *(_quietly(task) for task in self._tasks)]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await asyncio.gather(*ending)
            if self.unremoved:
                _log.warning(
                    "the Docker engine does not answer, so %s may still be there: `faas clean` or the next start, "
                    "once it does, removes them", ", ".join(sorted(self.unremoved)),
                )  # fmt: skip
            if hasattr(self, "_networks"):
                await self._networks.aclose()
                await self._deaths.aclose()
            shutil.rmtree(self._runs, ignore_errors=True)
            for folder in (self._runs.parent, self._runs.parent.parent):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        await self.engine.aclose()

    # -- what an instance needs ---------------------------------------------

    async def prepare(self, version: Version, progress: Progress) -> None:
        lock = self._preparing.setdefault(version.runtime, asyncio.Lock())
        async with lock:
            if version.runtime not in self._prepared:
                call = self.engine.call
                try:
                    runtime = await call(resolve, version.runtime, progress, interpreter_elsewhere=True)
                except RuntimeUnavailable as problem:
                    raise BackendUnavailable(str(problem)) from problem
                image = await call(self._images.ensure, version.runtime, progress)
                self._prepared[version.runtime] = (runtime, image)
        if version.network != "default":
            await self._networks.provide(version.network)
        if (key := _key(version)) not in self._mounts:
            self._mounts[key] = await self.engine.call(self._find_mounts, version)

    def _find_mounts(self, version: Version) -> list[tuple[str, str]]:
        """(path on the daemon's host, path inside) of everything read-only."""
        runtime, _ = self._prepared[version.runtime]
        wanted = [(readable_copy(Path(version.code), self.home / "readable"), "/var/task")]
        if runtime.directory is not None:
            wanted.append((runtime.directory, "/var/runtime"))
        if version.layers:
            layers = [Path(layer) for layer in version.layers]
            wanted.append((merge_layers(layers, self.home / "merged-layers"), "/opt"))
        return [(self._visible(path), inside) for path, inside in wanted]

    def _visible(self, path: Path) -> str:
        """``path`` as the daemon names it; what it can't see is copied to the home folder first."""
        there = self._place.on_host(path)
        if there is not None:
            return there
        known = self._shared.get(str(path))
        if known is None:
            copy = self.home / "shared" / f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
            shutil.copytree(path, copy, symlinks=True, dirs_exist_ok=True)
            known = self._shared[str(path)] = str(self._place.on_host(copy))
        return known

    async def listen(self, version: Version) -> Listener:
        return self._networks.listen()

    @property
    def host_address(self) -> str:
        """Where instances reach this process: a server for them binds here. After ``open``."""
        return self._networks.address

    def is_instance(self, address: str) -> bool:
        """Is this the address of a living instance? Doors meant for people may refuse it."""
        return any(each.peer == address for each in self._alive) or self._is_starting(address, self._alive)

    def owns(self, name: str, address: str) -> bool:
        """Does this address belong to the instance of that name, which may still be starting?"""
        named = [each for each in self._alive if each.name == name]
        return any(each.peer == address for each in named) or self._is_starting(address, named)

    def _is_starting(self, address: str, among: Iterable[DockerSandbox]) -> bool:
        """Is it one of those whose address the engine has yet to tell?"""
        starting = {each.hardware_address for each in among if each.peer is None}
        return bool(starting) and hardware_address(address) in starting

    def enforcement(self) -> tuple[Enforcement, ...]:
        return describe(
            cpu_limit=self.cpu_limit, isolated=self._networks.isolated, files=Meter.reaches()
        )

    # -- launching ----------------------------------------------------------

    async def launch(self, spec: LaunchSpec) -> DockerSandbox:
        task = self._spawn(self._launch(spec))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The daemon can't be interrupted: let it finish, then undo.
            task.add_done_callback(self._undo)
            raise

    def _undo(self, task: asyncio.Task[DockerSandbox]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._spawn(task.result().kill())

    async def _launch(self, spec: LaunchSpec) -> DockerSandbox:
        if self._closed:
            raise LaunchFailed("the emulator is stopping")
        version, engine = spec.version, self.engine
        if _key(version) not in self._mounts:
            await self.prepare(version, lambda _: None)
        try:
            sandbox = DockerSandbox(self, spec, self._runs / f"{spec.name}.log")
        except OSError as error:
            raise LaunchFailed(f"no log pipe for {spec.name} in {self._runs}: {error.strerror}") from error
        self._alive.add(sandbox)
        try:
            config = self._config(spec, sandbox)
            made = await engine.call(engine.api.create_container_from_config, config, spec.name)
            sandbox.container = made["Id"]
            sandbox.created_at = time.monotonic()
            sandbox.ended = self._deaths.expect(sandbox.container)
            sandbox.ended.add_done_callback(sandbox.on_end)
            await engine.call(engine.api.start, sandbox.container)
            sandbox.started_at = time.monotonic()
            sandbox.meter = Meter(self._layout, sandbox.container)
            if not sandbox.meter.open():
                self._sampled.add(sandbox)
            facts = await engine.call(engine.api.inspect_container, sandbox.container)
            networks: Mapping[str, Any] = facts["NetworkSettings"]["Networks"]
            sandbox.peer = networks[self._networks.name(version.network)]["IPAddress"] or None
        except Exception as error:
            await sandbox.kill()
            raise engine.failure(error, f"start an instance of {version.function}") from error
        return sandbox

    def _config(self, spec: LaunchSpec, sandbox: DockerSandbox) -> dict[str, Any]:
        """The body of the engine's ``create`` call."""
        version = spec.version
        runtime, image = self._prepared[version.runtime]
        environ = {**runtime.environ, **self._networks.environ(version.network, spec.environ)}
        # The engine and the shell add some of their own; the function is to see only what AWS shows.
        added = " ".join(name for name in ("HOME", "HOSTNAME", "PWD", "OLDPWD") if name not in environ)
        script = (
            f'unset {added}; exec "$@" >{_LOG} 2>&1 </dev/null'
            if added
            else f'exec "$@" >{_LOG} 2>&1 </dev/null'
        )
        fifo = self._place.on_host(self._runs / f"{spec.name}.log")
        binds = [f"{there}:{inside}:ro" for there, inside in self._mounts[_key(version)]]
        command = runtime.command or (_bootstrap_of(version),)
        return {
            "Image": image,
            **self._networks.endpoint(version.network, sandbox.hardware_address),
            "User": USER,
            "WorkingDir": "/var/task",
            "Env": [f"{name}={value}" for name, value in environ.items()],
            "Entrypoint": ["/bin/sh", "-c", script, "sh"],
            "Cmd": list(command),
            "Labels": {**self._labels, LABEL_FUNCTION: version.function, LABEL_INSTANCE: spec.name},
            "HostConfig": host_config(
                version, network=self._networks.name(version.network), binds=[*binds, f"{fifo}:{_LOG}"]
            ),
        }

    def forget(self, sandbox: DockerSandbox) -> None:
        self._alive.discard(sandbox)
        self._sampled.discard(sandbox)
        if sandbox.container:
            self._deaths.forget(sandbox.container)

    # -- helpers ------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _remove_strays(self) -> None:
        """The engine was away: what it would not remove meanwhile is ours to remove now."""
        with contextlib.suppress(Exception):  # away again: at its next return
            label = f"{LABEL_OWNER}={self._labels[LABEL_OWNER]}"
            there = await self.engine.call(self.engine.api.containers, all=True, filters={"label": label})
            known = {sandbox.name for sandbox in self._alive}  # by name: an id comes with the engine's answer only
            for container in there:
                if known.isdisjoint(name.lstrip("/") for name in container["Names"]):
                    await self.engine.remove_container(container["Id"])
            self.unremoved.clear()

    async def _sample(self) -> None:
        """Ask the engine for the counters of those whose files are out of reach."""
        while True:
            await asyncio.sleep(SAMPLE_INTERVAL)
            for sandbox in list(self._sampled):
                if sandbox.meter is None:
                    continue
                with contextlib.suppress(Exception):  # it has just died
                    stats = self.engine.api.stats
                    sandbox.meter.note(
                        await self.engine.call(stats, sandbox.container, stream=False, one_shot=True)
                    )


def _key(version: Version) -> tuple[object, ...]:
    return (version.runtime, version.code, version.layers, version.network)


def _bootstrap_of(version: Version) -> str:
    """The first ``bootstrap`` of AWS' search order, as the instance names it."""
    places = {"/var/task": [Path(version.code)], "/opt": [Path(layer) for layer in reversed(version.layers)]}
    for candidate in BOOTSTRAPS:
        folder, _, name = candidate.rpartition("/")
        if any((place / name).exists() for place in places.get(folder, ())):
            return candidate
    return BOOTSTRAPS[0]


async def _quietly(task: asyncio.Task[Any]) -> None:
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await asyncio.shield(task)
