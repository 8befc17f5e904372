"""What ``faas doctor`` looks at. Each check says what works, what does not, and the remedy.

A check never raises: that something can't be looked at is a finding too.
"""

from __future__ import annotations

import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from .client import Client
from .failures import Unreachable

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. ``area`` groups them: engine, process, runtimes, ports, disk, versions."""

    area: str
    name: str
    status: Status
    detail: str
    remedy: str = ""


def versions() -> list[Check]:
    from emulator import __version__

    machine = f"{platform.system()} {platform.release()} {platform.machine()}"
    python = f"Python {platform.python_version()}"
    found = [Check("versions", "faas-emulator", "ok", f"{__version__}, {python}, {machine}")]
    for name in ("starlette", "uvicorn", "httptools", "docker", "watchfiles", "prometheus-client", "httpx",
                 "awslambdaric", "boto3"):
        try:
            version(name)
        except PackageNotFoundError:
            remedy = f"{sys.executable} -m pip install {name}"
            found.append(Check("versions", name, "fail", "not installed", remedy))
    return found


async def engine() -> list[Check]:
    try:
        from emulator.sandbox.docker import engine_status  # type: ignore[import-not-found,unused-ignore]

        problem = await engine_status()
    except Exception as error:
        return [Check("engine", "docker", "warn", f"can't be looked at: {error}")]
    if problem:
        detail, _, remedy = str(problem).partition(": ")
        return [Check("engine", "docker", "warn", detail, remedy)]
    return [Check("engine", "docker", "ok", "a Docker engine answers")]


async def process_sandbox() -> list[Check]:
    try:
        from emulator.sandbox.process import ProcessBackend  # type: ignore[import-not-found,unused-ignore]

        with tempfile.TemporaryDirectory(prefix="faas-doctor-") as home:
            backend = ProcessBackend(home=Path(home))
            try:
                await backend.open(lambda line: None)
                found = [Check("process", "sandbox", "ok", backend.description)]
                for item in backend.enforcement():
                    status: Status = "ok" if item.enforced else "warn"
                    name = item.limit.replace("_", " ")
                    found.append(Check("process", name, status, item.how, item.remedy))
            finally:
                await backend.aclose()
    except Exception as error:
        return [Check("process", "sandbox", "fail", str(error) or type(error).__name__)]
    return found


def runtimes() -> list[Check]:
    try:
        from emulator import runtimes as module

        rows: Any = module.available()  # type: ignore[attr-defined,unused-ignore]
    except Exception as error:
        return [Check("runtimes", "all", "fail", f"can't be looked at: {error}")]
    found = []
    for row in rows:
        identifier, interpreter, remedy = (
            row if isinstance(row, tuple) else (row.identifier, row.interpreter, row.remedy)
        )
        if interpreter is None:
            found.append(Check("runtimes", identifier, "warn", "no interpreter", remedy))
        else:
            found.append(Check("runtimes", identifier, "ok", str(interpreter), remedy))
    return found


def ports(host: str, numbers: dict[str, int]) -> list[Check]:
    found = []
    for name, number in numbers.items():
        where = f"{name} port {number}"
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, number))
                probe.listen(1)
                found.append(Check("ports", where, "ok", "free"))
                continue
            except OSError as error:
                reason = error.strerror
        flag = "--port" if name == "gateway" else "--api-port"
        if name == "API" and _is_emulator(host, number):
            found.append(Check("ports", where, "ok", "a faas-emulator is running there"))
        else:
            owner = _owner(number)
            detail = f"in use by {owner}" if owner else str(reason)
            found.append(Check("ports", where, "warn", detail, f"stop it, or use {flag} (0: any free one)"))
    return found


def _is_emulator(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1) as probe:
            probe.settimeout(1)
            probe.sendall(b"GET /_faas/health HTTP/1.0\r\n\r\n")
            first = probe.recv(64)
        return first.startswith(b"HTTP/1.") and b" 200 " in first and bool(
            Client(f"http://{host}:{port}").json("GET", "/_faas/health").get("status")
        )
    except (OSError, Unreachable, AttributeError):
        return False


def _owner(port: int) -> str:
    """Name and id of the process that listens there, where /proc tells."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for link in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if str(link.readlink()) in inodes:
                process = link.parent.parent
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return ""


def disk(home: Path) -> list[Check]:
    there = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(there).free
    size = f"{free / 2**30:.1f} GB free for {home}"
    found = [Check("disk", "space", "ok", size)]
    if free < 2**30:
        status: Status = "fail" if free < 100 * 2**20 else "warn"
        found = [Check("disk", "space", status, size, "free some, or put --home elsewhere")]
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        remedy = "use --home for another folder"
        found.append(Check("disk", "home", "fail", f"{there}: {error.strerror}", remedy))
    return found


async def all_checks(home: Path, host: str, numbers: dict[str, int]) -> AsyncIterator[list[Check]]:
    """Area by area, as they are found."""
    yield versions()
    yield await engine()
    yield await process_sandbox()
    yield runtimes()
    yield ports(host, numbers)
    yield disk(home)
