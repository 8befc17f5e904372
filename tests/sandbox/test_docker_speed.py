"""What Docker must not cost: reading counters, and starting, against a start by hand."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emulator.core.model import Version
from emulator.sandbox.docker import DockerBackend
from emulator.sandbox.protocol import LaunchSpec
from tests.support.cloud import ROOT, docker_missing

pytestmark = [pytest.mark.docker, pytest.mark.linux, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _engine() -> None:
    if trouble := docker_missing():
        (pytest.fail if os.environ.get("FAAS_REQUIRE_DOCKER") == "1" else pytest.skip)(trouble)


def test_counters_are_read_without_asking_the_engine(tmp_path: Path) -> None:
    (tmp_path / "bootstrap").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "bootstrap").chmod(0o755)
    tmp_path.chmod(0o755)
    version = Version("probe", "provided.al2023", "x", tmp_path)

    async def story() -> None:
        backend = DockerBackend(home=tmp_path / "home")
        await backend.open(print)
        try:
            await backend.prepare(version, print)
            sandbox = await backend.launch(LaunchSpec(f"faas-test-{os.getpid()}-u", version, {"PATH": "/usr/bin:/bin"}))
            took = []
            for _ in range(500):
                began = time.perf_counter()
                usage = sandbox.usage()
                took.append(time.perf_counter() - began)
            assert usage.memory
            assert usage.memory_peak
            assert usage.cpu_seconds
            assert statistics.median(took) < 0.0005, f"{statistics.median(took) * 1e6:.1f} us"
        finally:
            await backend.aclose()

    asyncio.run(story())


@pytest.mark.slow
def test_the_benchmark_compares_a_start_with_one_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmark", "--only", "docker", "--quick", "--json", str(tmp_path / "b")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "broke off" not in done.stdout + done.stderr, done.stdout + done.stderr
    text = json.dumps(json.loads((tmp_path / "b").read_text()))
    assert "by hand" in text
    assert "cold start, Docker" in text
    assert "skipped" not in done.stdout, done.stdout
    leftovers = subprocess.run(
        ["docker", "ps", "-aq", "--filter", "label=faas-bench"], capture_output=True, text=True, check=True
    )
    assert leftovers.stdout == ""
