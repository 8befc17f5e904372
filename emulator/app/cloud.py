"""One running cloud: everything that ``faas up`` starts, as an async context manager."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from emulator.config import Project, Settings, unenforced
from emulator.core.model import Version
from emulator.core.pool import Limits
from emulator.doors import gateway
from emulator.doors.gateway import GatewayDoor
from emulator.doors.lambda_api.invoke import InvokeDoor
from emulator.fleet.fleet import Fleet
from emulator.fleet.logs import Logs
from emulator.http import HttpServer, bind
from emulator.http.asgi import DoorApp
from emulator.http.server import PortInUse
from emulator.invoke.invoker import Invoker
from emulator.registry.functions import Functions
from emulator.sandbox.environ import environ
from emulator.sandbox.protocol import BackendUnavailable, SandboxBackend
from emulator.telemetry.journal import Journal

from .backend import choose_backend
from .deployment import Deployment
from .reload import Reload

Progress = Callable[[str], None]


class StartFailed(Exception):
    """The cloud can't start. The message says why and what to do."""


@dataclass(slots=True)
class Cloud:
    """What is running, for those who print or test it."""

    settings: Settings
    api_url: str
    gateway_url: str
    backend: SandboxBackend
    fleet: Fleet
    invoker: Invoker
    reload: Reload
    warnings: list[str]

    def routes_of(self, function: str) -> list[str]:
        return [
            f"{route.method} {self.gateway_url}{'/' if route.path == '$default' else route.path}"
            for route in self.reload.project.routes if route.function == function
        ]


def write_safely(text: str, to: TextIO | None = None) -> None:
    """To stdout, or ``to``; it does not matter if nobody reads it any more."""
    stream = to or sys.stdout
    try:
        stream.write(text)
        stream.flush()
    except (BrokenPipeError, ValueError, BlockingIOError):
        pass  # whoever read our output has gone; the functions go on


@asynccontextmanager
async def start(
    settings: Settings,
    project: Project,
    *,
    progress: Progress = lambda line: None,
    write: Callable[[str], object] = write_safely,
) -> AsyncIterator[Cloud]:
    """Start everything; ready when this yields. Raises StartFailed. Stopping is the reverse order."""
    async with AsyncExitStack() as stack:
        try:
            cloud = await _build(settings, project, stack, progress, write)
        except (PortInUse, BackendUnavailable) as error:
            raise StartFailed(str(error)) from error
        except OSError as error:
            raise StartFailed(f"{error.filename or settings.home}: {error.strerror}") from error
        yield cloud


async def _build(
    settings: Settings, project: Project, stack: AsyncExitStack, progress: Progress, write: Callable[[str], object]
) -> Cloud:
    settings.home.mkdir(parents=True, exist_ok=True)
    api_socket = bind(settings.host, settings.api_port, what="API", flag="--api-port")
    stack.callback(api_socket.close)
    gateway_socket = bind(settings.host, settings.port, what="gateway", flag="--port")
    stack.callback(gateway_socket.close)
    api_port, gateway_port = api_socket.getsockname()[1], gateway_socket.getsockname()[1]

    backend = await choose_backend(settings, progress)
    stack.push_async_callback(backend.aclose)
    inside = backend.host_address

    def runtime_environ(version: Version, runtime_api: str, log_stream: str) -> dict[str, str]:
        return environ(
            version, runtime_api=runtime_api, region=settings.region, account=settings.account,
            log_stream=log_stream, endpoint_url=f"http://{inside}:{api_port}",
        )

    functions = Functions()
    logs = Logs(write, format=settings.log_format)
    journal = Journal(settings.home / "journal.jsonl")
    hot = max(6, 3 * (os.cpu_count() or 2))
    limits = Limits(account=settings.account_concurrency, memory=settings.memory_capacity, hot=hot)
    fleet = Fleet(
        backend, logs, journal, runtime_environ, limits=limits, parallel_launches=settings.parallel_starts
    )
    fleet.open()
    stack.push_async_callback(fleet.aclose)
    invoker = Invoker(functions, fleet, region=settings.region, account=settings.account)
    deployment = Deployment(functions, fleet, backend, home=settings.home, progress=progress)
    reload = Reload(project, deployment, progress, account_concurrency=settings.account_concurrency)
    warnings = unenforced(project, backend.enforcement(), sandbox=backend.name)
    if settings.cpu_limit:
        for item in backend.enforcement():
            if item.limit == "cpu" and not item.enforced:
                where = f"the {backend.name} sandbox here"
                warnings.append(f"cpu_limit has no effect in {where}: {item.how} ({item.remedy})")
    warnings += await deployment.deploy_all(project.functions)
    if settings.strict and warnings:
        raise StartFailed("refused, because --strict is on:\n" + "\n".join(f"  {w}" for w in warnings))

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    cloud = Cloud(
        settings, f"http://{host}:{api_port}", f"http://{host}:{gateway_port}", backend, fleet, invoker, reload,
        warnings,
    )
    invoke_door = InvokeDoor(invoker)
    servers: list[HttpServer] = []
    app = _LazyApp(lambda: _api_app(cloud, invoke_door))
    api = HttpServer(_NotForFunctions(app, backend.is_instance), invoke_door, accepts=invoke_door.accepts)
    await _serve(stack, servers, api, api_socket)
    if inside not in ("127.0.0.1", settings.host) and settings.host not in ("0.0.0.0", "::"):
        # Functions reach the API from their own network, but not what is for people only.
        narrow = HttpServer(_NotForFunctions(app, lambda address: True), invoke_door, accepts=invoke_door.accepts)
        narrow_socket = bind(inside, api_port, what="API for functions", flag="--api-port")
        await _serve(stack, servers, narrow, narrow_socket)

    gateway_door = GatewayDoor(invoker, lambda: reload.router, port=gateway_port)
    gateway_app = DoorApp(
        gateway_door, limit=gateway.PAYLOAD_LIMIT, too_large=gateway.too_large,
        declined=lambda request: gateway.too_large(request, 0),
    )
    await _serve(stack, servers, HttpServer(gateway_app, gateway_door), gateway_socket)
    # Stopping begins here: no new connection, then what runs may finish, then all else in reverse.
    stack.push_async_callback(fleet.aclose)
    stack.callback(_stop_accepting, servers)
    if settings.watch and project.functions:
        watching = asyncio.create_task(_watch(reload, progress))
        stack.push_async_callback(_cancel, watching)
    return cloud


async def _watch(reload: Reload, progress: Progress) -> None:
    while True:
        try:
            await reload.run()
        except Exception as error:
            progress(f"watching files failed ({error}); trying again")
            await asyncio.sleep(1)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _serve(stack: AsyncExitStack, servers: list[HttpServer], server: HttpServer, sock: socket.socket) -> None:
    await server.listen(sock)
    servers.append(server)
    stack.push_async_callback(server.aclose)


def _stop_accepting(servers: list[HttpServer]) -> None:
    for server in servers:
        server.stop_accepting()


def _api_app(cloud: Cloud, door: InvokeDoor) -> Any:
    # Starlette and Prometheus are imported when first needed: a start must not wait for them.
    from emulator.doors.api import api_app

    from .panel import build_panel

    urls = {"gateway": cloud.gateway_url, "api": cloud.api_url}
    panel = build_panel(cloud.fleet, cloud.invoker, cloud.routes_of, lambda: urls)
    return api_app(cloud.invoker, door, panel)


class _LazyApp:
    """An ASGI app that is built at its first request."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = self._build()
        await self._app(scope, receive, send)


class _NotForFunctions:
    """The API, whose admin paths are closed to callers with the address of an instance."""

    def __init__(self, app: Any, is_instance: Callable[[str], bool]) -> None:
        self._app = app
        self._is_instance = is_instance

    def _refuses(self, scope: Any) -> bool:
        admin = scope["path"].startswith("/_faas") or scope["path"] == "/metrics"
        return admin and self._is_instance((scope.get("client") or ("",))[0])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and self._refuses(scope):
            body = b'{"message":"The admin API is not open to functions."}'
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)

