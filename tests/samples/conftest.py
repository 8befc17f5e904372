"""One running cloud per sandbox, with all samples deployed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.cloud import ROOT, Cloud, docker_missing


@pytest.fixture(scope="session", params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if request.param == "docker" and (reason := docker_missing()):
        if os.environ.get("FAAS_REQUIRE_DOCKER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    home = tmp_path_factory.mktemp(f"home-{request.param}")
    with Cloud.start(ROOT / "sample_functions", home=home, sandbox=request.param) as cloud:
        yield cloud
