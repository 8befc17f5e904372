"""An engine that goes away, comes back or refuses, and containers removed behind our back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cloud import Answer, Cloud, docker_missing
from tests.support.engine_proxy import EngineProxy

pytestmark = [pytest.mark.docker, pytest.mark.linux, pytest.mark.timeout(300)]

CODE = """
import time

def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return "fine"
"""


@pytest.fixture(autouse=True)
def _engine() -> None:
    if trouble := docker_missing():
        (pytest.fail if os.environ.get("FAAS_REQUIRE_DOCKER") == "1" else pytest.skip)(trouble)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProxy]:
    with EngineProxy(tmp_path / "engine.sock") as proxy:
        yield proxy


def _start(tmp_path: Path, name: str) -> Cloud:
    code = tmp_path / "project" / "code"
    code.mkdir(parents=True)
    (code / "app.py").write_text(CODE)
    for folder in (tmp_path, code.parent, code):
        folder.chmod(0o755)
    (code.parent / "faas.toml").write_text(
        f"[functions.{name}]\ncode = 'code'\nruntime = 'python3'\nhandler = 'app.handler'\ntimeout = 30\n"
    )
    return Cloud.start(code.parent, home=tmp_path / "home", sandbox="docker")


def _docker(*arguments: str) -> list[str]:
    """Asks the engine itself, not by way of the proxy."""
    environ = {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}
    done = subprocess.run(["docker", *arguments], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def _containers(name: str) -> list[str]:
    return _docker("ps", "-aq", "--filter", f"label=faas-emulator.function={name}")


def test_an_engine_that_vanishes_is_named_and_works_again_when_it_is_back(
    tmp_path: Path, engine: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    name = f"vanishing-{os.getpid()}"
    with _start(tmp_path, name) as cloud:
        assert cloud.invoke(name, {}).json() == "fine"
        before = len(cloud.output)
        engine.cut()
        refused = cloud.invoke(name, {}, X_Faas_Start="cold")
        assert refused.status >= 500
        assert f"no Docker engine answers at {engine.url}: start it" in refused.body.decode()
        time.sleep(3)  # by now it has given up on the instances it had
        assert cloud.admin("GET", "/_faas/health").status == 200
        engine.mend()
        end = time.monotonic() + 20
        while cloud.invoke(name, {}, X_Faas_Start="cold").status != 200:
            assert time.monotonic() < end
            time.sleep(0.2)
        while len(_containers(name)) > 1:  # what the engine would not remove is removed now
            assert time.monotonic() < end
            time.sleep(0.2)
        time.sleep(1)
        assert len(cloud.admin("GET", "/_faas/instances").json()["instances"]) == 1
        # The event stream is back, too: deaths are noticed.
        _docker("rm", "-f", *_containers(name))
        while cloud.admin("GET", "/_faas/instances").json()["instances"]:
            assert time.monotonic() < end
            time.sleep(0.2)
        said = [line for line in cloud.output[before:] if "Docker engine" in line]
        assert len(said) == 2, said
        assert f"no Docker engine answers at {engine.url}: start it" in said[0]
        assert said[1].endswith("is back")
        assert not any("Traceback" in line for line in cloud.output)
    assert _containers(name) == []


def test_stopping_while_the_engine_is_away_says_what_is_left_and_the_next_start_removes_it(
    tmp_path: Path, engine: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    name = f"left-{os.getpid()}"
    with _start(tmp_path, name) as cloud:
        assert cloud.invoke(name, {}).json() == "fine"
        engine.cut()
    assert cloud.process.returncode == 0
    assert any(f"faas-{name}" in line and "the next start" in line for line in cloud.output), cloud.output
    assert len(_containers(name)) == 1
    engine.mend()
    with Cloud.start(tmp_path / "project", home=tmp_path / "home", sandbox="docker"):
        assert _containers(name) == []


def test_instances_lost_while_the_engine_was_away_are_removed_when_it_is_back(
    tmp_path: Path, engine: EngineProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    name = f"stray-{os.getpid()}"
    with _start(tmp_path, name) as cloud:
        assert cloud.invoke(name, {}).json() == "fine"
        engine.cut()
        end = time.monotonic() + 20
        while cloud.admin("GET", "/_faas/instances").json()["instances"]:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert len(_containers(name)) == 1
        engine.mend()
        while _containers(name):
            assert time.monotonic() < end
            time.sleep(0.2)
        assert cloud.invoke(name, {}).headers["x-faas-start"] == "cold"


def test_a_container_removed_behind_our_back(tmp_path: Path) -> None:
    name = f"removed-{os.getpid()}"
    with _start(tmp_path, name) as cloud:
        assert cloud.invoke(name, {}).json() == "fine"
        _docker("rm", "-f", *_containers(name))
        idle = cloud.invoke(name, {})
        assert (idle.status, idle.json(), idle.headers["x-faas-start"]) == (200, "fine", "cold")
        answers: list[Answer] = []
        calling = threading.Thread(target=lambda: answers.append(cloud.invoke(name, {"sleep": 20})))
        calling.start()
        time.sleep(0.5)
        _docker("rm", "-f", *_containers(name))
        calling.join(10)
        assert answers[0].headers["x-amz-function-error"] == "Unhandled"
        assert answers[0].json()["errorType"] == "Runtime.ExitError"
        assert cloud.invoke(name, {}).json() == "fine"


@pytest.mark.parametrize("closed", ["socket", "folder"])
def test_a_socket_without_permission_is_named_with_the_remedy(
    tmp_path: Path, engine: EngineProxy, closed: str
) -> None:
    nobody = 65534
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    (engine.path if closed == "socket" else tmp_path).chmod(0o700)
    script = (
        "import asyncio, os\nfrom emulator.sandbox.docker import engine_status\n"
        f"os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})\n"
        f"print(asyncio.run(engine_status({engine.url!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith(f"no permission to use the Docker socket {engine.path}: `sudo usermod -aG docker")
    assert "--sandbox process" in done.stdout
