"""The Docker engine as asyncio wants it: calls off the event loop, one stream of deaths.

Owns the connection to the daemon (docker-py's ``APIClient``, a handful of
threads, reused HTTP connections), the translation of its errors into ours,
and the *one* event stream that tells how every container ended: a thousand
instances cost one waiting thread, not a thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from emulator.sandbox.protocol import BackendUnavailable, Exit, LaunchFailed

T = TypeVar("T")

CONNECTIONS = 16
"""Calls to the daemon in flight at once. It serialises most of a start anyway."""

_log = logging.getLogger("faas")
_TELL_AFTER, _GIVE_UP_AFTER = 2, 4
"""Attempts to reach a daemon that has hung up, half a second apart."""

_LOST = Exit(status=None, signal=int(signal.SIGKILL))


def engine_url(environ: Mapping[str, str] = os.environ) -> str:
    """Where the daemon listens: ``DOCKER_HOST``, else the first socket that exists, else the default."""
    if host := environ.get("DOCKER_HOST"):
        return host
    candidates = [Path("/var/run/docker.sock")]
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(runtime, "docker.sock"))
    if home := environ.get("HOME"):
        candidates.append(Path(home, ".docker", "run", "docker.sock"))
    found = next((path for path in candidates if path.exists()), candidates[0])
    return f"unix://{found}"


def _no_engine(url: str) -> str:
    start = "start Docker Desktop" if sys.platform == "darwin" else "`systemctl start docker`"
    return f"no Docker engine answers at {url}: start it ({start}), set DOCKER_HOST, or use --sandbox process"


def _no_permission(path: str) -> str:
    return (
        f"no permission to use the Docker socket {path}: `sudo usermod -aG docker $USER`, "
        "then log in again; or use --sandbox process"
    )


async def engine_status(url: str | None = None) -> str | None:
    """None when an engine answers, else one line: why not, and the remedy.

    Cheap: without a socket it costs a refused connection; docker-py is not imported.
    """
    url = url or engine_url()
    if not url.startswith("unix://"):
        host, _, port = url.partition("://")[2].rstrip("/").partition(":")
        opening = asyncio.open_connection(host, int(port or 2375))
    else:
        opening = asyncio.open_unix_connection(url.removeprefix("unix://"))
    try:
        async with asyncio.timeout(2):
            reader, writer = await opening
            try:
                if not url.startswith("unix://"):
                    return None  # it may want TLS: that it listens must do here
                writer.write(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except PermissionError:
        return _no_permission(url.removeprefix("unix://"))
    except (OSError, TimeoutError):
        return _no_engine(url)
    return (
        None if b" 200 " in status else f"the Docker engine at {url} is not well: {status.decode().strip()}"
    )


def connect(url: str) -> Any:
    """A docker-py client of the daemon there. Blocks. Raises BackendUnavailable."""
    import docker  # a fifth of a second that only its users pay
    from docker.errors import DockerException
    from docker.tls import TLSConfig

    tls: Any = False
    if os.environ.get("DOCKER_TLS_VERIFY"):
        folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        tls = TLSConfig(client_cert=pair, ca_cert=str(folder / "ca.pem"), verify=True)
    try:
        return docker.APIClient(
            base_url=url, version="auto", timeout=120, tls=tls, max_pool_size=CONNECTIONS + 2
        )
    except DockerException as error:
        if "Permission" in str(error):
            raise BackendUnavailable(_no_permission(url.removeprefix("unix://"))) from error
        raise BackendUnavailable(_no_engine(url)) from error


def exit_of(code: int, *, out_of_memory: bool) -> Exit:
    """What an engine's exit code says. Above 128 it is a signal, as a shell would put it."""
    number = code - 128
    if 0 < number < 32:
        return Exit(status=None, signal=number, out_of_memory=out_of_memory)
    return Exit(status=code, signal=None, out_of_memory=out_of_memory)


class Engine:
    """One daemon. ``call`` runs a method of ``api`` in a thread; errors become ours."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url or engine_url()
        self.api: Any = None
        self.info: Mapping[str, Any] = {}
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="docker")

    async def open(self) -> None:
        """Connect. Raises BackendUnavailable with the remedy."""
        if problem := await engine_status(self.url):
            raise BackendUnavailable(problem)
        try:
            await self.call(self._connect)
        except Exception as error:
            raise BackendUnavailable(f"the Docker engine at {self.url} refuses us: {error}") from error

    def _connect(self) -> None:
        self.api = connect(self.url)
        self.info = self.api.info()

    async def call(self, method: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """``method(*args, **kwargs)`` off the event loop. Raises what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(method, *args, **kwargs))

    async def remove_container(self, container: str) -> None:
        """Kill and remove; one that is gone, or going, is fine."""
        from docker.errors import APIError

        for _ in range(50):
            try:
                await self.call(self.api.remove_container, container, force=True, v=True)
            except APIError as error:
                if error.status_code == 404:
                    return
                if error.status_code != 409:  # "removal is already in progress"
                    raise
            else:
                return
            await asyncio.sleep(0.1)

    def failure(self, error: Exception, what: str) -> LaunchFailed:
        """One clear line about an error that docker-py raised while we did ``what``."""
        from docker.errors import APIError

        if isinstance(error, APIError):
            return LaunchFailed(f"Docker could not {what}: {error.explanation or error}")
        return LaunchFailed(f"could not {what}: {_no_engine(self.url)}")

    async def aclose(self) -> None:
        if self.api is not None:
            self.api.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


class Deaths:
    """How containers with a label end, from one event stream in one thread."""

    def __init__(self, engine: Engine, labels: Mapping[str, str], on_return: Callable[[], object]) -> None:
        """``on_return`` is called on the loop when the daemon is back after it was away."""
        self._engine = engine
        self._labels = [f"{name}={value}" for name, value in labels.items()]
        self._on_return = on_return
        self._loop = asyncio.get_running_loop()
        self._awaited: dict[str, asyncio.Future[Exit]] = {}
        self._out_of_memory: set[str] = set()
        self._stream: Any = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="docker-events", daemon=True)

    async def open(self) -> None:
        """The stream is there when this returns: no death after it is missed."""
        self._stream = await self._engine.call(self._subscribe, None)
        self._thread.start()

    def expect(self, container: str) -> asyncio.Future[Exit]:
        """A future of this container's end. Ask before it is started."""
        return self._awaited.setdefault(container, self._loop.create_future())

    def forget(self, container: str) -> None:
        """It was removed: whoever still waits is told that it was killed."""
        self._resolve(container, _LOST)
        self._awaited.pop(container, None)
        self._out_of_memory.discard(container)

    async def aclose(self) -> None:
        self._closed.set()
        if self._stream is not None:
            with contextlib.suppress(Exception):
                self._hang_up()
            await self._engine.call(self._thread.join, 2)

    def _subscribe(self, since: float | None) -> Any:
        filters = {"label": self._labels, "event": ["die", "oom"], "type": "container"}
        return self._engine.api.events(filters=filters, decode=True, since=since)

    def _hang_up(self) -> None:
        # Closing the response alone does not wake the thread that reads from it.
        connection = getattr(self._stream._response.raw, "_connection", None)
        sock = getattr(connection, "sock", None)
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        self._stream.close()

    def _listen(self) -> None:
        seen, failures = time.time(), 0
        while not self._closed.is_set():
            try:
                if self._stream is None:
                    self._stream = self._subscribe(seen)
                    if failures >= _TELL_AFTER:
                        _log.warning("the Docker engine at %s is back", self._engine.url)
                    failures = 0
                    waiting = list(self._awaited)  # before asking: one made after that is not in the answer
                    self._settle(waiting, self._alive())
                    self._on_loop(self._on_return)
                for event in self._stream:
                    seen = event["timeNano"] / 1e9
                    self._tell(event)
            except Exception:
                # The daemon hung up: it stops, or stopped long ago.
                failures += 1
            self._stream = None
            if failures == _TELL_AFTER and not self._closed.is_set():
                _log.warning("%s; waiting for it, its instances will be given up", _no_engine(self._engine.url))
            if failures == _GIVE_UP_AFTER:
                self._settle(list(self._awaited), set())
            self._closed.wait(0.05 if failures == 0 else 0.5)

    def _tell(self, event: Mapping[str, Any]) -> None:
        container, action = event["Actor"]["ID"], event["Action"]
        code = int(event["Actor"]["Attributes"].get("exitCode") or 0)
        self._on_loop(self._happened, container, action, code)

    def _happened(self, container: str, action: str, code: int) -> None:
        if action == "oom":
            self._out_of_memory.add(container)
        else:
            self._resolve(container, exit_of(code, out_of_memory=container in self._out_of_memory))

    def _alive(self) -> set[str]:
        """Those that run or may yet be started."""
        found = self._engine.api.containers(all=True, filters={"label": self._labels})
        return {each["Id"] for each in found if each["State"] not in ("exited", "removing", "dead")}

    def _settle(self, waiting: list[str], alive: set[str]) -> None:
        """After a gap in the stream: who is not there any more has died in it."""
        for container in waiting:
            if container not in alive:
                self._on_loop(self._resolve, container, _LOST)

    def _resolve(self, container: str, exit: Exit) -> None:
        end = self._awaited.get(container)
        if end is not None and not end.done():
            end.set_result(exit)

    def _on_loop(self, callback: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(callback, *args)
