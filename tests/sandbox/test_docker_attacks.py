"""What an instance in Docker must not get at: another's Runtime API, and what is for people only."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from emulator.core.model import Version
from emulator.sandbox.docker import DockerBackend
from emulator.sandbox.protocol import LaunchSpec
from tests.support.cloud import Cloud, docker_missing

pytestmark = [pytest.mark.docker, pytest.mark.linux, pytest.mark.timeout(300)]

CODE = """
import socket

def handler(event, context):
    answers = []
    for path in event.get("paths", []):
        try:
            with socket.create_connection((event["host"], event["port"]), timeout=3) as peer:
                peer.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
                answers.append(peer.recv(65536).decode()[:12])
        except OSError as error:
            answers.append(type(error).__name__)
    return {"answers": answers, "secret": event.get("secret")}
"""
NEXT = "/2018-06-01/runtime/invocation/next"


@pytest.fixture(autouse=True)
def _engine() -> None:
    if trouble := docker_missing():
        (pytest.fail if os.environ.get("FAAS_REQUIRE_DOCKER") == "1" else pytest.skip)(trouble)


def test_an_instance_gets_nothing_from_anothers_runtime_api(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(CODE)
    tmp_path.chmod(0o755)
    functions = [f"[functions.{name}]\ncode = 'code'\nruntime = 'python3'\nhandler = 'app.handler'\ntimeout = 20\n"
                 for name in ("victim", "attacker")]  # fmt: skip
    (tmp_path / "faas.toml").write_text("".join(functions))
    with Cloud.start(tmp_path, home=tmp_path / "home", sandbox="docker") as cloud:
        assert cloud.invoke("victim", {"secret": "a"}).json()["secret"] == "a"
        host, _, port = _runtime_api("victim", cloud.output).partition(":")
        attack = {"host": host, "port": int(port), "paths": [NEXT, NEXT, "/2018-06-01/ping"]}
        answers = cloud.invoke("attacker", attack).json()["answers"]
        assert set(answers) <= {"", "ConnectionResetError", "BrokenPipeError"}, answers
        own = {**attack, "paths": ["/2018-06-01/ping"]}  # it is the door that opens to the victim itself
        assert cloud.invoke("victim", own).json()["answers"] == ["HTTP/1.1 200"]
        # Nor has the victim come to harm.
        again = cloud.invoke("victim", {"secret": "b"})
        assert (again.json()["secret"], again.headers["x-faas-start"]) == ("b", "warm")
        # What is for people answers no function: neither at its door for functions nor at that for people.
        api = int(cloud.api_url.rpartition(":")[2])
        attack = {"host": host, "port": api, "paths": ["/_faas/instances", "/metrics"]}
        assert cloud.invoke("attacker", attack).json()["answers"] == ["HTTP/1.1 403"] * 2


def _runtime_api(function: str, output: list[str]) -> str:
    listed = ["docker", "ps", "-q", "--filter", f"label=faas-emulator.function={function}"]
    ids = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    for each in ids:  # other tests may have a function of that name
        facts = json.loads(subprocess.run(["docker", "inspect", each], capture_output=True, check=True).stdout)
        environ = dict(pair.partition("=")[::2] for pair in facts[0]["Config"]["Env"])
        if facts[0]["Name"].lstrip("/").startswith("faas-victim-") and "AWS_LAMBDA_RUNTIME_API" in environ:
            return environ["AWS_LAMBDA_RUNTIME_API"]
    raise AssertionError(f"no instance of {function}:\n" + "\n".join(output))


def test_who_calls_is_known_before_the_engine_has_told_the_address(tmp_path: Path) -> None:
    (tmp_path / "bootstrap").write_text("#!/bin/sh\ncurl -s -m 9 $AWS_LAMBDA_RUNTIME_API\nsleep 30\n")
    (tmp_path / "bootstrap").chmod(0o755)
    tmp_path.chmod(0o755)
    version = Version("probe", "provided.al2023", "x", tmp_path)

    async def story() -> None:
        backend = DockerBackend(home=tmp_path / "home")
        await backend.open(print)
        try:
            await backend.prepare(version, print)
            listener = await backend.listen(version)
            with listener.socket:
                addresses = {}
                for name in (f"faas-test-{os.getpid()}-x", f"faas-test-{os.getpid()}-y"):
                    environ = {"PATH": "/usr/bin:/bin", "AWS_LAMBDA_RUNTIME_API": listener.address}
                    sandbox = await backend.launch(LaunchSpec(name, version, environ))
                    connection, peer = await asyncio.get_running_loop().sock_accept(listener.socket)
                    connection.close()
                    assert peer[0] == sandbox.peer
                    addresses[name] = peer[0]
                    sandbox.peer = None  # as it is between the engine's start and its answer
            for name, address in addresses.items():
                assert backend.is_instance(address)
                assert [each for each in addresses if backend.owns(each, address)] == [name]
            assert not backend.is_instance(backend.host_address)
            assert not backend.is_instance("127.0.0.1")
        finally:
            await backend.aclose()

    asyncio.run(story())
