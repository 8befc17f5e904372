"""What tests of a running cloud share: a sandbox to run in, and a home on a short path."""

from __future__ import annotations

import os

import pytest

from tests.support.cloud import docker_missing


@pytest.fixture(scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def sandbox(request: pytest.FixtureRequest) -> str:
    """Each sandbox in turn. Without a Docker engine its tests are skipped, or fail with FAAS_REQUIRE_DOCKER=1."""
    name: str = request.param
    if name == "docker" and (reason := docker_missing()):
        if os.environ.get("FAAS_REQUIRE_DOCKER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return name
