"""What every test of a sandbox needs: code on disk, an environment, a small Runtime API."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from emulator.core.model import Version
from emulator.sandbox.protocol import Exit, LaunchSpec, Listener, Sandbox, SandboxBackend

PLATFORM = {
    "PATH": "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/task:/opt/lib",
    "LAMBDA_TASK_ROOT": "/var/task",
    "LAMBDA_RUNTIME_DIR": "/var/runtime",
    "PYTHONPATH": "/var/runtime",
    "LANG": "C.UTF-8",
}


@dataclass
class Running:
    """A launched sandbox with its listener and everything it printed so far."""

    sandbox: Sandbox
    listener: Listener
    text: bytes = b""

    async def print_until(self, wanted: bytes, seconds: float = 20.0) -> bytes:
        """Read the output until ``wanted`` was printed, or it ended."""
        async with asyncio.timeout(seconds):
            while wanted not in self.text:
                data = self.read_now()
                if data is None:
                    await asyncio.sleep(0.002)
                elif not data:
                    break
        return self.text

    def read_now(self) -> bytes | None:
        """What can be read without waiting; None: nothing yet; b'': ended."""
        try:
            data = os.read(self.sandbox.output, 1 << 16)
        except BlockingIOError:
            return None
        self.text += data
        return data

    async def all_output(self, seconds: float = 20.0) -> bytes:
        """Everything until the last writer is gone."""
        async with asyncio.timeout(seconds):
            while (data := self.read_now()) != b"":
                if data is None:
                    await asyncio.sleep(0.002)
        return self.text

    async def exchange(self, event: bytes = b"{}", seconds: float = 30.0) -> tuple[str, bytes]:
        """Serve one invocation: answer ``next`` with ``event``; returns what was posted, and where."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            connection, _ = await loop.sock_accept(self.listener.socket)
            reader, writer = await asyncio.open_connection(sock=connection)
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    path = head.split()[1].decode()
                    length = 0
                    for line in head.lower().split(b"\r\n"):
                        if line.startswith(b"content-length:"):
                            length = int(line.partition(b":")[2])
                    body = await reader.readexactly(length)
                    if not path.endswith("/next"):
                        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                        await writer.drain()
                        return path, body
                    writer.write(
                        b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: r-1\r\n"
                        b"Lambda-Runtime-Deadline-Ms: 9999999999999\r\n"
                        b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:f\r\n"
                        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(event), event)
                    )
                    await writer.drain()
            finally:
                writer.close()


@dataclass
class Bench:
    """Makes versions from file contents and launches them; kills what is left at the end."""

    backend: SandboxBackend
    folder: Path
    names: Iterator[int]
    running: list[Running] = field(default_factory=list)

    def version(self, files: dict[str, str], **kw: Any) -> Version:
        code = self.folder / f"code-{next(self.names)}"
        for name, text in files.items():
            path = code / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if name == "bootstrap" else 0o644)
        code.chmod(0o755)
        runtime = kw.pop("runtime", "provided.al2023")
        handler = kw.pop("handler", "app.handler")
        return Version("f", runtime, handler, code, revision=f"{next(self.names):012x}", **kw)

    async def launch(self, files: dict[str, str] | Version, **kw: Any) -> Running:
        version = files if isinstance(files, Version) else self.version(files, **kw)
        await self.backend.prepare(version, lambda _: None)
        listener = await self.backend.listen(version)
        environ = {
            **PLATFORM,
            **version.environment,
            "AWS_LAMBDA_RUNTIME_API": listener.address,
            "_HANDLER": version.handler,
        }
        name = f"t-{os.getpid()}-{next(self.names)}"
        try:
            sandbox = await self.backend.launch(LaunchSpec(name, version, environ))
        except BaseException:
            listener.socket.close()
            raise
        running = Running(sandbox, listener)
        self.running.append(running)
        return running

    async def shell(self, script: str, **kw: Any) -> Running:
        return await self.launch({"bootstrap": "#!/bin/sh\n" + script}, **kw)

    async def finish(self, running: Running) -> tuple[Exit, bytes]:
        """Its end and all its output."""
        text = await running.all_output()
        async with asyncio.timeout(20):
            return await running.sandbox.wait(), text

    async def aclose(self) -> None:
        for running in self.running:
            await running.sandbox.kill()
            running.listener.socket.close()


@pytest.fixture
def code_folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def run_on(code_folder: Path) -> Callable[..., None]:
    """Run an async test against a backend that is opened before and closed after it."""

    def run(backend: SandboxBackend, body: Callable[[Bench], Any]) -> None:
        async def main() -> None:
            await backend.open(lambda _: None)
            bench = Bench(backend, code_folder, itertools.count(1))
            try:
                await body(bench)
                await bench.aclose()
            finally:
                await backend.aclose()

        asyncio.run(main())

    return run
