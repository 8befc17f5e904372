"""Every sample answers what its expected.json says, in every sandbox there is."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time

import pytest

from tests.support.cloud import ROOT, Cloud
from tests.support.match import differences

SAMPLES = ROOT / "sample_functions"
NAMES = sorted(path.parent.name for path in SAMPLES.glob("*/event.json"))

pytestmark = pytest.mark.timeout(400)  # the first use of a runtime may build it


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    if shutil.which("go"):
        subprocess.run(["make", "-C", str(SAMPLES)], check=True, capture_output=True)


@pytest.mark.parametrize("name", NAMES)
def test_answers_as_expected(cloud: Cloud, name: str) -> None:
    if name == "hello-go" and not (SAMPLES / "hello-go" / "hello").exists():
        pytest.skip("hello-go is not compiled: Go is not installed")
    expected = json.loads((SAMPLES / name / "expected.json").read_text())
    event = json.loads((SAMPLES / name / "event.json").read_text())
    answer = cloud.invoke(name, event)
    assert answer.status == 200, answer
    error = expected.pop("$error", None)
    assert answer.headers.get("x-amz-function-error") == error, answer
    assert differences(expected.get("$payload", expected), answer.json()) == []


def test_counter_shows_warm_state(cloud: Cloud) -> None:
    first = cloud.invoke("counter", {}, X_Faas_Start="cold").json()
    second = cloud.invoke("counter", {}).json()
    assert second == {"instance": first["instance"], "count": first["count"] + 1}
    other = cloud.invoke("counter", {}, X_Faas_Start="cold").json()
    assert other["instance"] != first["instance"]
    assert other["count"] == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_thumbnail_through_the_gateway(cloud: Cloud, kind: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is in the dev extras")
    sent = io.BytesIO()
    image.new("RGB", (300, 150), (200, 30, 60)).save(sent, kind)
    answer = cloud.request(
        "POST", "/thumbnails/100", sent.getvalue(), Content_Type=f"image/{kind.lower()}"
    )
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    with image.open(io.BytesIO(answer.body)) as received:
        assert (received.format, received.size) == (kind, (100, 50))


def test_thumbnail_refuses_what_is_no_image(cloud: Cloud) -> None:
    answer = cloud.request("POST", "/thumbnails/100", b"not an image", Content_Type="image/png")
    assert (answer.status, answer.body) == (400, b"the body is not an image")


@pytest.mark.parametrize("how", ["exit", "signal", "abort"])
def test_the_request_after_a_crash_is_unharmed(cloud: Cloud, how: str) -> None:
    crash = cloud.invoke("crasher", {"how": how})
    assert crash.headers["x-amz-function-error"] == "Unhandled"
    assert crash.json()["errorType"] == "Runtime.ExitError"
    after = cloud.invoke("crasher", {"how": "none"})
    assert after.json() == {"crashed": False}
    assert after.headers["x-faas-start"] == "cold"


def test_fan_out_calls_in_parallel(cloud: Cloud) -> None:
    event = {"function": "sleeper", "events": [{"seconds": 1.5}] * 4}
    cloud.invoke("fan-out", event)  # its cold starts are not what is timed
    started = time.monotonic()
    results = cloud.invoke("fan-out", event).json()["results"]
    elapsed = time.monotonic() - started
    assert [result["slept"] for result in results] == [1.5] * 4
    assert elapsed < 4.5  # one after the other they would take 6 s
