"""docker-compose.yml, what it mounts and what the dashboard asks for: valid, and only what exists."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
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
