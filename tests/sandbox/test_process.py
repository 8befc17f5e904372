"""The process sandbox on every rung that this machine permits."""

from __future__ import annotations

import asyncio
import glob
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emulator.sandbox import cgroups
from emulator.sandbox.leftovers import sweep
from emulator.sandbox.process import ProcessBackend
from emulator.sandbox.protocol import BackendUnavailable, LaunchFailed, LaunchSpec, SandboxBackend

from .conftest import Bench
from .contract import Run, SandboxContract


def _works(rung: str, home: Path) -> str:
    """'' when this rung can be had here, else why not."""

    async def main() -> str:
        backend = ProcessBackend(home=home, rung=rung)
        try:
            await backend.open(lambda _: None)
        except BackendUnavailable as error:
            return str(error)
        await backend.aclose()
        return ""

    return asyncio.run(main())


@pytest.fixture(scope="session")
def rungs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("rungs")
    return {rung: _works(rung, home) for rung in ("root", "userns", "plain")}


@pytest.fixture(params=["root", "userns", "plain"])
def rung(request: pytest.FixtureRequest, rungs: dict[str, str]) -> str:
    chosen: str = request.param
    if rungs[chosen]:
        pytest.skip(f"this machine doesn't permit it: {rungs[chosen]}")
    return chosen


def _groups() -> list[str]:
    return [
        folder
        for root in cgroups.detect().all_roots()
        for folder in glob.glob(f"{root}/{cgroups.TOP}/*/*/")
        if f"/t-{os.getpid()}-" in folder
    ]


class TestProcess(SandboxContract):
    @pytest.fixture
    def backend(self, rung: str, tmp_path: Path) -> SandboxBackend:
        return ProcessBackend(home=tmp_path / "home", rung=rung)

    def test_nothing_is_left_after_close(self, backend: SandboxBackend, run_on: Run, tmp_path: Path) -> None:
        async def body(bench: Bench) -> None:
            assert isinstance(bench.backend, ProcessBackend)
            running = await bench.shell("sleep 47.11 & sleep 47.11")
            assert running.sandbox.output >= 0
            if bench.backend.rung == "root":
                assert _groups()

        run_on(backend, body)
        assert not _groups()
        assert "47.11" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        assert not (tmp_path / "home").exists() or not any((tmp_path / "home").iterdir())

    def test_a_killed_launcher_is_replaced(self, backend: SandboxBackend, run_on: Run) -> None:
        async def body(bench: Bench) -> None:
            assert isinstance(bench.backend, ProcessBackend)
            running = await bench.shell("sleep 48.11")
            os.kill(bench.backend.launcher_pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                assert (await running.sandbox.wait()).signal == 9
                await running.sandbox.kill()
            _, text = await bench.finish(await bench.shell("echo again"))
            assert text == b"again\n"

        run_on(backend, body)
        assert "48.11" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("rung", ["root", "userns"], indirect=True)
def test_a_network_that_is_never_used_goes(rung: str, tmp_path: Path, run_on: Run) -> None:
    async def body(bench: Bench) -> None:
        version = bench.version({"bootstrap": "#!/bin/sh\nsleep 60\n"}, network="none")
        pid = backend.launcher_pid
        descriptors = set(os.listdir("/proc/self/fd"))
        of_launcher = len(os.listdir(f"/proc/{pid}/fd"))
        for _ in range(5):
            (await backend.listen(version)).socket.close()
        for turns in range(6):  # given up at once, a little later, just when the answer is here
            asked = asyncio.create_task(backend.listen(version))
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            asked.cancel()
            await asyncio.wait([asked])
            if not asked.cancelled():
                asked.result().socket.close()
        listener = await backend.listen(version)
        listener.socket.close()
        spec = LaunchSpec("t-closed", version, {"AWS_LAMBDA_RUNTIME_API": listener.address})
        with pytest.raises(LaunchFailed, match="closed before"):
            await backend.launch(spec)
        (await backend.listen(version)).socket.close()  # the launcher has done all before it
        await asyncio.sleep(0.1)
        assert set(os.listdir("/proc/self/fd")) == descriptors
        assert len(os.listdir(f"/proc/{pid}/fd")) <= of_launcher
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""

    backend = ProcessBackend(home=tmp_path / "home", rung=rung)
    run_on(backend, body)


_VICTIM = """
import asyncio, sys
from pathlib import Path
from emulator.core.model import Version
from emulator.sandbox.process import ProcessBackend
from emulator.sandbox.protocol import LaunchSpec

async def main():
    backend = ProcessBackend(home=Path(sys.argv[1]) / "home", rung=sys.argv[2])
    await backend.open(lambda _: None)
    listeners = []
    for number, network in enumerate(("default", "none", "none")):
        version = Version("f", "provided.al2023", "", Path(sys.argv[1]) / "code", network=network)
        listeners.append(await backend.listen(version))
        environ = {"PATH": "/bin:/usr/bin", "AWS_LAMBDA_RUNTIME_API": listeners[-1].address}
        sandbox = await backend.launch(LaunchSpec(f"victim-{number}", version, environ))
    if sys.argv[3] == "frozen":
        await sandbox.pause()
    print(backend.launcher_pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["running", "frozen", "launcher too"])
def test_kill_9_of_the_emulator_leaves_nothing(rung: str, code_folder: Path, how: str) -> None:
    code = code_folder / "code"
    code.mkdir()
    (code / "bootstrap").write_text("#!/bin/sh\n(setsid sleep 49.11 &)\nsleep 49.11\n")
    (code / "bootstrap").chmod(0o755)
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", _VICTIM, str(code_folder), rung, how],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    ) as victim:
        assert victim.stdout is not None
        launcher = int(victim.stdout.readline())
        owner = cgroups.identity(launcher)
        assert owner
        victim.kill()
        if how == "launcher too":
            os.kill(launcher, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if how == "launcher too":
            sweep()
        commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        folders = [
            folder for base in [*cgroups.detect().all_roots()] for folder in glob.glob(f"{base}/{cgroups.TOP}/{owner}")
        ]
        if "sleep 49.11" not in commands and not folders:
            break
        time.sleep(0.05)
    assert "sleep 49.11" not in commands
    assert not folders
    sweep()


def test_an_unknown_rung_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of root, userns, plain"):
        ProcessBackend(home=tmp_path, rung="sideways")


def test_launch_after_close_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        backend = ProcessBackend(home=tmp_path / "home", rung="plain")
        await backend.open(lambda _: None)
        await backend.aclose()
        await backend.aclose()
        bench = Bench(backend, tmp_path, iter(range(1, 99)))
        with pytest.raises(LaunchFailed):
            await bench.shell("true")

    asyncio.run(main())
