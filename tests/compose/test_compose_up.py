"""``docker-compose up``, used as from outside and from within functions, and ``down``, which leaves nothing."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.match import differences

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "docs/observability/grafana/dashboards/cold-starts.json"
SAMPLES = ROOT / "sample_functions"
FAAS = """
[functions.hello]
code = "code"
handler = "app.handler"

[functions.fetch]
code = "code"
handler = "app.handler"
timeout = 10

[functions.busy]
code = "code"
handler = "app.handler"
timeout = 60

[functions.single]
code = "code"
handler = "app.handler"
timeout = 1
reserved_concurrency = 1
"""
APP = """
import os, time, urllib.error, urllib.request

def handler(event, context):
    if "mb" in event:
        bytearray(event["mb"] << 20)[::4096] = b"x" * (event["mb"] << 8)
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "url" in event:
        try:
            with urllib.request.urlopen(event["url"].format(**os.environ), timeout=5) as answer:
                return {"status": answer.status, "text": answer.read().decode()[:500]}
        except urllib.error.HTTPError as error:
            return {"status": error.code}
    return {"hello": "compose"}
"""
NEIGHBOUR = """
services:
  neighbour:
    image: faas-emulator/base
    init: true
    command: [python3, -m, http.server, "8000", --directory, /srv]
    networks: [functions]
"""

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


class Compose:
    """A project that is up."""

    def __init__(self, folder: Path) -> None:
        self.code = folder / "code"
        self.project = f"faastest{os.getpid()}"
        self.ports = _free_ports(2)
        override = folder / "override.yml"
        override.write_text(NEIGHBOUR)
        self._command = ["docker-compose", "-p", self.project, "-f", "docker-compose.yml", "-f", str(override)]
        self.environ = os.environ | {
            "FAAS_FUNCTIONS": str(folder), "FAAS_PORT": str(self.ports[0]), "FAAS_API_PORT": str(self.ports[1]),
            "PROMETHEUS_IMAGE": "faas-emulator/prometheus", "PROMETHEUS_PORT": "0",
        }  # fmt: skip

    def run(self, *arguments: str) -> str:
        return _done([*self._command, *arguments], self.environ)

    def invoke(self, name: str, event: object, **headers: str) -> tuple[Any, str]:
        """(answer, "cold" or "warm")"""
        url = f"http://127.0.0.1:{self.ports[1]}/2015-03-31/functions/{name}/invocations"
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        call = urllib.request.Request(url, data=json.dumps(event).encode(), headers=named, method="POST")
        with urllib.request.urlopen(call, timeout=60) as answer:
            return json.load(answer), answer.headers["X-Faas-Start"]

    def containers(self) -> list[str]:
        every = _done(["docker", "ps", "-a", "--filter", f"network={self.project}_functions", "--format", "{{.Names}}"])
        return sorted(every.split())


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    if shutil.which("docker-compose") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        why = "docker-compose is not installed, or no engine answers"
        (pytest.fail if os.environ.get("FAAS_REQUIRE_DOCKER") == "1" else pytest.skip)(why)
    if shutil.which("go"):
        _done(["make", "-C", str(SAMPLES)])
    folder = tmp_path_factory.mktemp("up") / "project"
    shutil.copytree(SAMPLES, folder, ignore=shutil.ignore_patterns(".faas"))
    for path in (folder, *list(folder.parents)[:3]):
        path.chmod(0o755)
    with (folder / "faas.toml").open("a") as file:
        file.write(FAAS)
    (folder / "code").mkdir()
    (folder / "code" / "app.py").write_text(APP)
    compose = Compose(folder)
    _done([sys.executable, "-m", "emulator.sandbox.images"])
    _done([sys.executable, "runtimes/emulator/pack.py"], os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        compose.run("up", "-d", "faas", "neighbour")
        _wait_for(f"http://127.0.0.1:{compose.ports[1]}/_faas/health")
        yield compose
    finally:
        compose.run("--profile", "observability", "down", "-v", "-t", "5")
        assert _done(["docker", "network", "ls", "-q", "--filter", f"name={compose.project}"]) == ""
        assert _done(["docker", "ps", "-aq", "--filter", f"name={compose.project}"]) == ""


def test_a_function_is_cold_then_warm_then_cold_when_asked(compose: Compose) -> None:
    assert compose.invoke("hello", {}) == ({"hello": "compose"}, "cold")
    assert compose.invoke("hello", {}) == ({"hello": "compose"}, "warm")
    assert compose.invoke("hello", {}, X_Faas_Start="cold")[1] == "cold"
    with urllib.request.urlopen(f"http://127.0.0.1:{compose.ports[0]}/hello", timeout=60) as answer:
        assert json.load(answer) == {"message": "Hello, world!"}


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SAMPLES.glob("*/event.json")))
def test_every_sample_answers_as_expected(compose: Compose, name: str) -> None:
    if name == "hello-go" and not (SAMPLES / "hello-go" / "hello").exists():
        pytest.skip("hello-go is not compiled: Go is not installed")
    expected = json.loads((SAMPLES / name / "expected.json").read_text())
    answer, _ = compose.invoke(name, json.loads((SAMPLES / name / "event.json").read_text()))
    assert differences(expected.get("$payload", expected), answer) == []


def test_functions_reach_services_by_name_and_the_cloud_but_not_its_admin_api(compose: Compose) -> None:
    def fetch(url: str) -> int:
        return int(compose.invoke("fetch", {"url": url})[0]["status"])

    assert fetch("http://neighbour:8000/") == 200
    assert fetch("http://faas:3000/hello") == 200
    assert fetch("{AWS_ENDPOINT_URL}/2015-03-31/functions/") == 200
    assert fetch("{AWS_ENDPOINT_URL}/_faas/health") == 403
    assert fetch("{AWS_ENDPOINT_URL}/metrics") == 403
    assert fetch("http://faas:4566//_faas/health") in (403, 404)
    assert compose.run("exec", "-T", "neighbour", "python3", "-c", (
        "import urllib.request as u; print(u.urlopen('http://faas:4566/_faas/health').status)"
    )).strip() == "200"  # fmt: skip


def test_an_edited_file_is_taken_over(compose: Compose) -> None:
    compose.invoke("hello", {})
    (compose.code / "app.py").write_text(APP.replace('"compose"', '"again"'))
    end = time.monotonic() + 20
    while (answer := compose.invoke("hello", {}))[0] != {"hello": "again"}:
        assert time.monotonic() < end, answer
        time.sleep(0.1)


def test_prometheus_has_data_for_every_panel_of_the_dashboard(compose: Compose) -> None:
    if not _done(["docker", "images", "-q", "faas-emulator/prometheus"]):
        _done(["sh", "runtimes/base/prometheus.sh"])
    compose.run("--profile", "observability", "up", "-d", "prometheus")
    compose.invoke("hello", {"mb": 500})  # out of memory
    compose.invoke("single", {})
    timing_out = threading.Thread(target=_quietly, args=(compose, "single", {"sleep": 9}))
    timing_out.start()
    time.sleep(0.3)
    _quietly(compose, "single", {})  # throttled
    timing_out.join()
    wanted = {
        target["expr"].replace("$function", ".*"): panel["title"]
        for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    }  # fmt: skip
    end = time.monotonic() + 40
    while True:
        answers = _queries(compose, list(wanted))
        empty = [f"{wanted[query]}: {query}" for query, rows in answers.items() if not rows or "NaN" in rows]
        if not empty:
            return
        assert time.monotonic() < end, "\n".join(empty)
        time.sleep(1)


def _queries(compose: Compose, queries: list[str]) -> dict[str, list[str]]:
    """Values by query, as Prometheus in its container answers; it has no shell of ours to ask from."""
    script = (
        "import sys, json, urllib.request as u, urllib.parse as p\n"
        "ask = lambda q: json.load(u.urlopen('http://prometheus:9090/api/v1/query?' + p.urlencode({'query': q})))\n"
        "print(json.dumps({q: [r['value'][1] for r in ask(q)['data']['result']] for q in json.loads(sys.argv[1])}))"
    )
    try:
        answer = compose.run("exec", "-T", "neighbour", "python3", "-c", script, json.dumps(queries))
    except AssertionError:
        return {query: [] for query in queries}  # it is still starting
    values: dict[str, list[str]] = json.loads(answer)
    return values


def test_down_while_functions_are_busy_leaves_nothing_in_less_than_ten_seconds(compose: Compose) -> None:
    calls = [threading.Thread(target=_quietly, args=(compose, "busy", {"sleep": 50})) for _ in range(3)]
    for call in calls:
        call.start()
    end = time.monotonic() + 30
    while sum("-busy-" in name for name in compose.containers()) < 3:
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1)
    began = time.monotonic()
    # As a user would who has added no service of his own.
    compose.run("--profile", "observability", "down", "-t", "9")
    assert time.monotonic() - began < 10
    for call in calls:
        call.join(20)
    mounts = f"volume={compose.project}_home"
    assert _done(["docker", "ps", "-aq", "--filter", mounts]) == ""
    assert _done(["docker", "ps", "-aq", "--filter", "label=faas-emulator.function=busy"]) == ""
    assert _done(["docker", "network", "ls", "-q", "--filter", f"name={compose.project}"]) == ""


def _quietly(compose: Compose, name: str, event: object) -> None:
    try:
        compose.invoke(name, event)
    except (OSError, http.client.HTTPException):
        pass  # the emulator is stopped meanwhile


def _done(command: list[str], environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if json.load(answer)["status"] == "ready":
                    return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.2)
    raise AssertionError(f"{url} does not say that it is ready")
