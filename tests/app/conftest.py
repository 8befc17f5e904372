"""These tests end their clouds in all sorts of ways; one that fails halfway must not leave its cloud behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud import RUNNING


@pytest.fixture(autouse=True)
def ends_what_it_started() -> Iterator[None]:
    before = list(RUNNING)  # those of wider fixtures
    yield
    for cloud in [each for each in RUNNING if all(each is not other for other in before)]:
        cloud.stop()
