"""docker-compose.yml and what it mounts: valid, and shown only what exists."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "docs/observability/grafana/dashboards/cold-starts.json"
METRICS = {
    "faas_cold_starts_total", "faas_cold_start_seconds_bucket", "faas_invocation_duration_seconds_bucket",
    "faas_invocations_total", "faas_errors_total", "faas_throttles_total", "faas_timeouts_total",
    "faas_out_of_memory_kills_total", "faas_instances", "faas_concurrency", "faas_instance_memory_peak_bytes",
    "faas_billed_gigabyte_seconds_total", "faas_launches_waiting",
}  # fmt: skip


def _missing(tool: str) -> None:
    why = f"{tool} is not installed"
    (pytest.fail if os.environ.get("FAAS_REQUIRE_DOCKER") == "1" else pytest.skip)(why)


@pytest.mark.docker
def test_docker_compose_1_29_accepts_the_file() -> None:
    if shutil.which("docker-compose") is None:
        _missing("docker-compose")
    command = ["docker-compose", "--profile", "observability", "config", "--services"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["faas", "grafana", "prometheus"]


@pytest.mark.docker
def test_prometheus_accepts_its_configuration() -> None:
    if shutil.which("promtool") is None:
        _missing("promtool")
    command = ["promtool", "check", "config", str(ROOT / "docs/observability/prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_file_mounts_exists() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for path in re.findall(r"- (\./[^:\s]+):", text):
        assert (ROOT / path).exists(), path
    assert (ROOT / "runtimes/emulator/Dockerfile").exists()


def test_every_panel_of_the_dashboard_asks_for_a_metric_there_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    asked: set[str] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["targets"], panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel["targets"]:
            names = set(re.findall(r"faas_\w+", target["expr"]))
            assert names, target["expr"]
            assert names <= METRICS, target["expr"]
            asked |= names
    assert asked == METRICS


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_up_calls_a_function_and_down_leaves_nothing(tmp_path: Path) -> None:
    if (
        shutil.which("docker-compose") is None
        or subprocess.run(["docker", "info"], capture_output=True).returncode
    ):
        _missing("docker-compose or an engine that answers")
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return {'hello': event['name']}\n")
    (tmp_path / "faas.toml").write_text(
        '[functions.hello]\nruntime = "python3.11"\nhandler = "app.handler"\ncode = "."\n'
    )
    tmp_path.chmod(0o755)
    _done([sys.executable, "-m", "emulator.sandbox.images", "python3.11"])
    _done([sys.executable, "runtimes/emulator/pack.py"], os.environ | {"PYTHONPATH": str(ROOT)})
    ports = _free_ports(2)
    project = f"faastest{os.getpid()}"
    environ = os.environ | {
        "BASE": "faas-emulator/base", "FAAS_FUNCTIONS": str(tmp_path),
        "FAAS_PORT": str(ports[0]), "FAAS_API_PORT": str(ports[1]),
    }  # fmt: skip
    compose = ["docker-compose", "-p", project]
    try:
        _done([*compose, "up", "-d"], environ)
        url = f"http://127.0.0.1:{ports[1]}"
        _wait_for(f"{url}/_faas/health")
        call = urllib.request.Request(
            f"{url}/2015-03-31/functions/hello/invocations", data=b'{"name": "compose"}', method="POST"
        )
        with urllib.request.urlopen(call, timeout=60) as answer:
            assert json.load(answer) == {"hello": "compose"}
            assert answer.headers["X-Faas-Start"] == "cold"
        functions = ["docker", "ps", "-aq", "--filter", f"network={project}_functions"]
        assert len(_done(functions).split()) == 2  # the emulator and the function's instance
    finally:
        began = time.monotonic()
        _done([*compose, "down", "-v"], environ)
        took = time.monotonic() - began
    assert took < 10
    assert _done(["docker", "network", "ls", "-q", "--filter", f"name={project}"]) == ""
    assert _done(["docker", "ps", "-aq", "--filter", f"name={project}"]) == ""


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
