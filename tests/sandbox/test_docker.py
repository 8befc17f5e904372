"""The Docker sandbox against a real engine: limits, isolation, order, nothing left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from emulator.core.model import Network, Version
from emulator.sandbox.docker import DockerBackend, DockerSandbox, engine_status, sweep
from emulator.sandbox.protocol import LaunchSpec

pytestmark = [pytest.mark.docker, pytest.mark.linux, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _engine() -> None:
    trouble = asyncio.run(engine_status())
    if trouble:
        (pytest.fail if os.environ.get("FAAS_REQUIRE_DOCKER") == "1" else pytest.skip)(trouble)


def _script(folder: Path, text: str, **options: Any) -> Version:
    """A version whose instances run this shell script."""
    folder.mkdir(exist_ok=True)
    bootstrap = folder / "bootstrap"
    bootstrap.write_text("#!/bin/sh\n" + text)
    bootstrap.chmod(0o755)
    folder.chmod(0o755)
    return Version("probe", "provided.al2023", "x", folder, **options)


@asynccontextmanager
async def _backend(home: Path) -> AsyncIterator[DockerBackend]:
    backend = DockerBackend(home=home)
    await backend.open(print)
    try:
        yield backend
    finally:
        await backend.aclose()


async def _launch(backend: DockerBackend, version: Version, name: str) -> DockerSandbox:
    await backend.prepare(version, print)
    return await backend.launch(
        LaunchSpec(f"faas-test-{os.getpid()}-{name}", version, {"PATH": "/usr/bin:/bin"})
    )


async def _text(sandbox: DockerSandbox) -> str:
    await asyncio.wait_for(sandbox.wait(), 30)
    return os.read(sandbox.output, 1 << 20).decode()


def _containers(home: Path) -> list[str]:
    del home
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"name=faas-test-{os.getpid()}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def _run(tmp_path: Path, story: Callable[[DockerBackend], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with _backend(tmp_path / "home") as backend:
            await story(backend)

    asyncio.run(whole())
    assert _containers(tmp_path) == []
    assert not (tmp_path / "home" / "run").exists()


@pytest.mark.parametrize(
    ("text", "status", "number"),
    [("exit 0", 0, None), ("exit 7", 7, None), ("kill -9 $$", None, 9), ("kill -SEGV $$", None, 11)],
)
def test_how_it_ended_is_told(tmp_path: Path, text: str, status: int | None, number: int | None) -> None:
    async def story(backend: DockerBackend) -> None:
        sandbox = await _launch(backend, _script(tmp_path / "code", text), "exit")
        end = await asyncio.wait_for(sandbox.wait(), 30)
        assert (end.status, end.signal, end.out_of_memory) == (status, number, False)
        assert await sandbox.kill() == end
        assert await sandbox.kill() == end

    _run(tmp_path, story)


def test_the_memory_limit_kills_and_is_named(tmp_path: Path) -> None:
    async def story(backend: DockerBackend) -> None:
        hog = _script(tmp_path / "code", "head -c 400000000 /dev/zero | tail -c 300000000 | tail -c 1")
        sandbox = await _launch(backend, hog, "hog")
        assert (await asyncio.wait_for(sandbox.wait(), 60)).out_of_memory
        await sandbox.kill()

    _run(tmp_path, story)


def test_killing_gives_the_runtime_its_grace_and_ends_all(tmp_path: Path) -> None:
    async def story(backend: DockerBackend) -> None:
        polite = _script(tmp_path / "a", "trap 'exit 5' TERM\nsleep 100 &\necho up\nwait")
        deaf = _script(tmp_path / "b", "trap '' TERM\necho up\nsleep 100")
        first, second = await asyncio.gather(_launch(backend, polite, "a"), _launch(backend, deaf, "b"))
        for each in (first, second):
            while b"up" not in _read(each):
                await asyncio.sleep(0.01)
        assert (await first.kill(grace=20)).status == 5
        assert (await second.kill(grace=0.3)).signal == signal.SIGKILL

    _run(tmp_path, story)


def _read(sandbox: DockerSandbox) -> bytes:
    try:
        return os.read(sandbox.output, 65536)
    except BlockingIOError:
        return b""


def test_a_frozen_instance_stands_still_and_can_be_killed(tmp_path: Path) -> None:
    async def story(backend: DockerBackend) -> None:
        ticking = _script(tmp_path / "code", "while :; do echo tick; sleep 0.02; done")
        sandbox = await _launch(backend, ticking, "freeze")
        await asyncio.sleep(0.3)
        await sandbox.pause()
        _read(sandbox)
        await asyncio.sleep(0.3)
        assert _read(sandbox) == b""
        await sandbox.resume()
        await asyncio.sleep(0.3)
        assert b"tick" in _read(sandbox)
        assert (sandbox.usage().memory or 0) > 0
        assert (sandbox.usage().cpu_seconds or 0) > 0
        await sandbox.pause()
        await sandbox.kill()

    _run(tmp_path, story)


def test_what_was_written_before_a_request_can_be_read_when_it_arrives(tmp_path: Path) -> None:
    async def story(backend: DockerBackend) -> None:
        listener = await backend.listen(_script(tmp_path / "asks", ""))
        text = (
            f"for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; curl -s http://{listener.address}/$i; done"
        )
        version = _script(tmp_path / "code", text)
        launching = asyncio.create_task(_launch(backend, version, "order"))
        loop = asyncio.get_running_loop()
        for number in range(1, 6):
            connection, peer = await asyncio.wait_for(loop.sock_accept(listener.socket), 60)
            sandbox = await launching
            assert peer[0] == sandbox.peer
            request = await loop.sock_recv(connection, 1000)
            assert request.startswith(b"GET /%d " % number)
            assert _read(sandbox) == b"out %d\nerr %d\n" % (number, number)
            await loop.sock_sendall(
                connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            connection.close()
        listener.socket.close()
        await sandbox.kill()

    _run(tmp_path, story)


def test_an_instance_sees_and_may_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_HOST", "hunter2")

    async def story(backend: DockerBackend) -> None:
        attack = (
            "id -u\ngrep -E '^(CapEff|NoNewPrivs)' /proc/self/status\nenv\nulimit -n\n"
            "for f in /etc/x /var/task/x /opt/x /var/runtime/x; do (: > $f) 2>/dev/null && echo wrote $f; done\n"
            "echo data > /tmp/x && echo tmp works\nls -d /dev/shm 2>/dev/null\n"
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' '\n"
        )
        sandbox = await _launch(backend, _script(tmp_path / "code", attack), "attack")
        text = await _text(sandbox)
        assert text.startswith("993\n")
        assert "CapEff:\t0000000000000000" in text
        assert "NoNewPrivs:\t1" in text
        assert "tmp works" in text
        assert "1024" in text
        for forbidden in ("wrote", "hunter2", "HOSTNAME=", "/dev/shm", "pytest"):
            assert forbidden not in text
        await sandbox.kill()

    _run(tmp_path, story)


@pytest.mark.parametrize("network", ["default", "none"])
def test_instances_reach_the_runtime_api_but_not_each_other(tmp_path: Path, network: Network) -> None:
    async def story(backend: DockerBackend) -> None:
        first = _script(tmp_path / "first", "", network=network)
        await backend.prepare(first, print)
        listener = await backend.listen(first)
        api, _, port = listener.address.partition(":")
        waiting = _script(tmp_path / "a", "exec sleep 60", network=network)
        neighbour = await _launch(backend, waiting, "neighbour")
        with socket.create_server(("127.0.0.1", 0)) as admin:
            own = admin.getsockname()[1]
            targets = [(api, port), (neighbour.peer, "9999"), (api, str(own)), ("127.0.0.1", str(own))]
            text = "".join(
                f"curl -s -o /dev/null --connect-timeout 2 -m 3 telnet://{host}:{number} </dev/null; echo $?\n"
                for host, number in targets
            )
            prober = await _launch(backend, _script(tmp_path / "b", text, network=network), "prober")
            codes = (await _text(prober)).split()
        listener.socket.close()
        # 0 and 28 with a connection: open. 7: refused; 28 before one: no answer. A
        # neighbour that could be reached would refuse at once (7): nothing listens there.
        assert codes[0] in ("0", "28", "52")
        assert codes[1] == "28"
        assert codes[2] == codes[3] == "7"
        await asyncio.gather(neighbour.kill(), prober.kill())

    _run(tmp_path, story)


def test_ten_at_once_and_closing_ends_them_all(tmp_path: Path) -> None:
    async def story(backend: DockerBackend) -> None:
        version = _script(tmp_path / "code", "exec sleep 60")
        started = await asyncio.gather(*(_launch(backend, version, f"many-{i}") for i in range(10)))
        assert len({each.peer for each in started}) == 10

    _run(tmp_path, story)


def test_a_cancelled_launch_leaves_nothing(tmp_path: Path) -> None:
    async def story(backend: DockerBackend) -> None:
        version = _script(tmp_path / "code", "exec sleep 60")
        await backend.prepare(version, print)
        for delay in (0.0, 0.01, 0.1):
            launching = asyncio.create_task(_launch(backend, version, f"cancel-{round(delay * 100)}"))
            await asyncio.sleep(delay)
            launching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await launching

    _run(tmp_path, story)


def test_what_a_killed_emulator_left_is_swept(tmp_path: Path) -> None:
    home = tmp_path / "home"
    version = _script(tmp_path / "code", "exec sleep 60")
    program = (
        "import asyncio, os, sys\nfrom pathlib import Path\n"
        "from emulator.core.model import Version\nfrom emulator.sandbox.docker import DockerBackend\n"
        "from emulator.sandbox.protocol import LaunchSpec\n"
        "async def main():\n"
        "    backend = DockerBackend(home=Path(sys.argv[1]))\n"
        "    await backend.open(print)\n"
        "    version = Version('probe', 'provided.al2023', 'x', Path(sys.argv[2]))\n"
        "    await backend.prepare(version, print)\n"
        "    await backend.launch(LaunchSpec(sys.argv[3], version, {}))\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    name = f"faas-test-{os.getpid()}-left"
    killed = subprocess.run([sys.executable, "-c", program, str(home), str(version.code), name], check=False)
    assert killed.returncode == -9
    assert len(_containers(home)) == 1
    removed = asyncio.run(sweep(home))
    assert f"container {name}" in removed
    assert any(line.startswith("network ") for line in removed)
    assert _containers(home) == []
    assert asyncio.run(sweep(home)) == []


def test_testcontainers_session_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTCONTAINERS_SESSION_ID", "abc")

    async def story(backend: DockerBackend) -> None:
        sandbox = await _launch(backend, _script(tmp_path / "code", "exec sleep 60"), "labels")
        shown = subprocess.run(
            ["docker", "inspect", "-f", "{{json .Config.Labels}}", sandbox.container],
            capture_output=True,
            check=True,
        )
        labels = json.loads(shown.stdout)
        assert labels["org.testcontainers.sessionId"] == labels["org.testcontainers.session-id"] == "abc"
        assert labels["faas-emulator"] == "1"
        assert labels["faas-emulator.function"] == "probe"

    _run(tmp_path, story)
