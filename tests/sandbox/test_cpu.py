"""``--cpu-limit``: an instance gets the CPU share that its memory buys, once its init is over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.cloud import Cloud, docker_missing

SHARE = 128 / 1769
"""Of one core, for the function's 128 MB."""

_TOML = """
[functions.spin]
runtime = "python3"
handler = "app.handler"
code = "code"
memory = 128
"""

_CODE = """
import time

def spin(seconds):
    end = time.monotonic() + seconds
    before = time.process_time()
    while time.monotonic() < end:
        pass
    return time.process_time() - before

IN_INIT = spin(1.0)

def handler(event, context):
    return {"init": IN_INIT, "invoke": spin(event)}
"""


def _missing(sandbox: str) -> str:
    if sandbox == "docker":
        return docker_missing() or ""
    return "" if os.geteuid() == 0 else "the process sandbox limits CPU as root only"


@pytest.mark.linux
@pytest.mark.parametrize("sandbox", ["process", pytest.param("docker", marks=pytest.mark.docker)])
def test_the_share_holds_after_init(code_folder: Path, sandbox: str) -> None:
    if why := _missing(sandbox):
        (pytest.fail if os.environ.get("FAAS_REQUIRE_DOCKER") == "1" and sandbox == "docker" else pytest.skip)(why)
    project = code_folder / "project"
    (project / "code").mkdir(parents=True)
    (project / "code" / "app.py").write_text(_CODE)
    (project / "faas.toml").write_text(_TOML)
    home = code_folder / "home"
    with Cloud.start(project / "faas.toml", "--cpu-limit", home=home, sandbox=sandbox) as cloud:
        if any("cpu controller" in line for line in cloud.output):
            pytest.skip("this machine has no cpu controller: " + "; ".join(cloud.output))

        def used() -> float:
            [instance] = cloud.admin("GET", "/_faas/instances").json()["instances"]
            return float(instance["cpu_seconds"])

        cold = cloud.invoke("spin", 0.01).json()
        assert cold["init"] > 3 * SHARE, "init was throttled"
        before = used()
        warm = cloud.invoke("spin", 1.0).json()
        after = used()
        # The kernel hands the quota out in slices, so that a little more or less is used.
        assert warm["invoke"] < 3 * SHARE
        assert SHARE / 4 < after - before < 3 * SHARE
        assert warm["invoke"] <= after - before + 0.02
