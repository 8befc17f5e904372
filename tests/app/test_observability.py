"""What the cloud says about itself is true: phases, metrics, journal, logs."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from emulator.telemetry.journal import replay
from tests.support.cloud import Answer, Cloud
from tests.support.project import Project
from tests.support.traces import await_true

CODE = """
    import sys
    import time

    def handler(event, context):
        if "raise" in event:
            raise ValueError(event["raise"])
        if "exit" in event:
            sys.stdout.flush()
            import os
            os._exit(event["exit"])
        if "megabytes" in event:
            return len(b"x" * (event["megabytes"] * 2**20))
        if "print" in event:
            print(event["print"])
        time.sleep(event.get("seconds", 0))
        return "fine"
"""
SLOW = "import time\n\ntime.sleep(1)\n\ndef handler(event, context):\n    return 1\n"
PHASES = ["queue", "sandbox", "process", "runtime", "init", "invoke"]


@pytest.fixture(scope="module")
def cloud(sandbox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("observability")
    project = Project(root).function("slow", SLOW).function("work", CODE, timeout=2)
    project.function("one", folder="work", reserved_concurrency=1, timeout=5)
    with Cloud.start(project.write(), home=root / "home", sandbox=sandbox) as cloud:
        yield cloud


@pytest.fixture
def fresh(cloud: Cloud) -> Cloud:
    """No instances, counters at nothing."""
    cloud.admin("POST", "/_faas/reset")
    return cloud


def timed(cloud: Cloud, name: str) -> tuple[Answer, float]:
    """On a connection that is there already: what is measured is the cloud."""
    connection = http.client.HTTPConnection(cloud.api_url.removeprefix("http://"), timeout=60)
    connection.connect()
    try:
        began = time.perf_counter()
        connection.request("POST", f"/2015-03-31/functions/{name}/invocations", b"{}")
        answer = connection.getresponse()
        body = answer.read()
        waited = time.perf_counter() - began
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body), waited
    finally:
        connection.close()


def server_timing(answer: Answer) -> dict[str, float]:
    """Seconds by phase."""
    parts = [part.split(";dur=") for part in answer.headers["server-timing"].split(", ")]
    return {name: float(value) / 1000 for name, value in parts}


def test_the_phases_of_a_cold_start_add_up_to_the_wait(fresh: Cloud) -> None:
    answer, waited = timed(fresh, "slow")
    phases = server_timing(answer)
    assert list(phases) == PHASES
    assert all(value >= 0 for value in phases.values())
    assert 1.0 <= phases["init"] < 1.5
    assert sum(phases.values()) == pytest.approx(waited, rel=0.02)

    [record] = fresh.admin("GET", "/_faas/invocations").json()["invocations"]
    assert record["request_id"] == answer.headers["x-amzn-requestid"]
    assert (record["start"], record["outcome"], record["error_type"]) == ("cold", "success", None)
    assert record["phases"] == pytest.approx(phases, abs=1e-6)
    assert sum(record["phases"].values()) == pytest.approx(record["total"], rel=1e-6)
    [instance] = fresh.admin("GET", "/_faas/instances").json()["instances"]
    assert instance["name"] == answer.headers["x-faas-instance"] == record["instance"]
    for phase in PHASES[1:-1]:  # its queue began when it was ordered, not when the request came
        assert instance["phases"][phase] == pytest.approx(phases[phase], abs=1e-5), phase
    assert (instance["function"], instance["state"], instance["invocations"]) == ("slow", "idle", 1)
    assert instance["memory_peak"] > 2**20
    assert instance["idle_for"] >= 0

    warm, waited = timed(fresh, "slow")
    assert list(server_timing(warm)) == ["queue", "invoke"]
    assert sum(server_timing(warm).values()) <= waited


def metrics(cloud: Cloud) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = cloud.admin("GET", "/metrics").body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    """Sum over the series with these labels."""
    return sum(v for (n, pairs), v in found.items() if n == name and labels.items() <= dict(pairs).items())


def test_metrics_pass_promtool(cloud: Cloud) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "promtool is not installed: apt-get install prometheus"
        if os.environ.get("FAAS_REQUIRE_DOCKER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    cloud.invoke("work", {})
    cloud.invoke("work", {"raise": 'quotes " and \\ and \n lines'})
    answer = cloud.admin("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=answer.body, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_counters_tell_what_happened(fresh: Cloud, sandbox: str) -> None:
    assert value(metrics(fresh), "faas_invocations_total") == 0
    fresh.invoke("work", {})
    fresh.invoke("work", {})
    fresh.invoke("work", {"raise": "x"})
    fresh.invoke("work", {"seconds": 4})
    fresh.invoke("work", {"megabytes": 400})
    fresh.invoke("work", {"exit": 3})
    fresh.invoke("one", {})
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: fresh.invoke("one", {"seconds": 1}), range(3)))
    assert await_true(lambda: value(metrics(fresh), "faas_instances") == 1)
    found = metrics(fresh)
    assert value(found, "faas_cold_starts_total", function="work", runtime="python3.11", sandbox=sandbox) == 3
    assert value(found, "faas_invocations_total", function="work", outcome="success") == 2
    assert value(found, "faas_invocations_total", function="work", outcome="function_error") == 4
    errors = {dict(pairs)["type"]: v for (n, pairs), v in found.items() if n == "faas_errors_total"}
    assert errors == {
        "Unhandled": 1, "Sandbox.Timedout": 1, "Runtime.OutOfMemory": 1, "Runtime.ExitError": 1,
    }
    assert value(found, "faas_timeouts_total", function="work") == 1
    assert value(found, "faas_out_of_memory_kills_total", function="work") == 1
    assert value(found, "faas_throttles_total", function="one") == 2
    [reason] = {dict(pairs)["reason"] for (n, pairs) in found if n == "faas_throttles_total"}
    assert reason == "reserved"
    assert value(found, "faas_invocations_total", function="one") == 2, "throttles are no invocations"
    assert value(found, "faas_invocation_duration_seconds_count", function="work") == 6
    assert value(found, "faas_cold_start_seconds_count", function="work", phase="init") == 3
    phases = {dict(pairs)["phase"] for (n, pairs) in found if n == "faas_cold_start_seconds_count"}
    assert phases == set(PHASES)
    assert value(found, "faas_billed_gigabyte_seconds_total", function="work") >= 2 * 128 / 1024
    assert value(found, "faas_instance_memory_peak_bytes", function="work") >= 100 * 2**20


def test_gauges_equal_the_instances(fresh: Cloud) -> None:
    fresh.admin("POST", "/_faas/functions/work/prewarm?count=2")
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(fresh.invoke, "work", {"seconds": 1})
        states = [("work", "busy"), ("work", "idle")]

        def seen() -> list[tuple[str, str]]:
            listed = fresh.admin("GET", "/_faas/instances").json()["instances"]
            return sorted((each["function"], each["state"]) for each in listed)

        assert await_true(lambda: seen() == states), seen()
        found = metrics(fresh)
        for function, state in states:
            assert value(found, "faas_instances", function=function, state=state) == 1
        assert value(found, "faas_instances") == 2
        assert value(found, "faas_concurrency", function="work") == 1
        assert value(found, "faas_configured_memory_bytes") == 2 * 128 * 2**20
        assert value(found, "faas_launches_waiting") == 0
        running.result()
    assert await_true(lambda: value(metrics(fresh), "faas_concurrency") == 0)


def test_the_journal_of_a_session_replays_to_the_same_orders(fresh: Cloud) -> None:
    with ThreadPoolExecutor(6) as threads:
        for payload in ({}, {"seconds": 0.1}, {"raise": "x"}, {"exit": 1}):
            list(threads.map(lambda _, p=payload: fresh.invoke("work", p), range(6)))
        list(threads.map(lambda _: fresh.invoke("one", {"seconds": 0.2}), range(4)))
    fresh.invoke("work", {"seconds": 4})
    fresh.invoke("work", {}, X_Faas_Start="cold")
    fresh.admin("POST", "/_faas/functions/work/prewarm?count=2")
    fresh.admin("POST", "/_faas/functions/work/evict")
    lines = fresh.admin("GET", "/_faas/journal").body.decode().splitlines()
    assert json.loads(lines[0])["journal"] == 1
    facts = {json.loads(line)["fact"] for line in lines[1:]}
    assert facts >= {"configured", "declared", "arrived", "ready", "finished", "died", "evicted", "prewarmed"}
    assert replay(lines) == []


def lines_of(cloud: Cloud, function: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.admin("GET", f"/_faas/logs/{function}{query}").json()["lines"]
    return found


def test_logs_by_function_and_since(fresh: Cloud) -> None:
    answer = fresh.invoke("work", {"print": "marked"})
    id = answer.headers["x-amzn-requestid"]
    lines = [line for line in lines_of(fresh, "work") if line["request_id"] == id]
    assert [line["text"].split()[0] for line in lines] == ["START", "marked", "END", "REPORT"]
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    assert {line["instance"] for line in lines} == {answer.headers["x-faas-instance"]}
    last = fresh.admin("GET", "/_faas/logs/work").json()["next"]
    assert lines_of(fresh, "work", f"?since={last}") == []
    fresh.invoke("work", {"print": "later"})
    assert "later" in [line["text"] for line in lines_of(fresh, "work", f"?since={last}&wait=5")]
    assert fresh.admin("GET", "/_faas/logs/nobody").status == 404
    assert fresh.admin("GET", "/_faas/logs/work?since=soon").status == 400


def test_a_reader_of_logs_is_woken(fresh: Cloud) -> None:
    fresh.invoke("work", {})
    last = fresh.admin("GET", "/_faas/logs/work").json()["next"]
    with ThreadPoolExecutor(1) as thread:
        began = time.monotonic()
        waiting = thread.submit(lines_of, fresh, "work", f"?since={last}&wait=20")
        time.sleep(0.3)
        fresh.invoke("work", {"print": "wake up"})
        assert waiting.result()
        assert time.monotonic() - began < 10


def test_control_characters_do_not_reach_the_terminal(fresh: Cloud) -> None:
    nasty = "a\x1b[2Jb\x07c\x9bd\x00e\x7ff"
    fresh.invoke("work", {"print": nasty})
    assert await_true(lambda: any("x1b[2J" in line for line in fresh.output)), fresh.output[-5:]
    for line in fresh.output:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", line), line
    assert nasty in [line["text"] for line in lines_of(fresh, "work")], "readers of the API get what was written"


def test_json_logs(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("json")
    project = Project(root).function("work", CODE)
    options = ("--log-format", "json")
    with Cloud.start(project.write(), *options, home=root / "home", sandbox="process") as cloud:
        id = cloud.invoke("work", {"print": 'a "quoted" \x1b[31m line'}).headers["x-amzn-requestid"]

        def records() -> list[dict[str, Any]]:
            parsed = [json.loads(line) for line in cloud.output if line.startswith("{")]
            return [record for record in parsed if record["requestId"] == id]

        assert await_true(lambda: len(records()) == 4), cloud.output
        assert [record["message"].split()[0] for record in records()] == ["START", "a", "END", "REPORT"]
        assert records()[1]["message"] == 'a "quoted" \x1b[31m line'
        for record in records():
            assert record["function"] == "work"
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])


def test_health_functions_and_events(cloud: Cloud, sandbox: str) -> None:
    health = cloud.admin("GET", "/_faas/health").json()
    assert (health["status"], health["sandbox"], health["functions"]) == ("ready", sandbox, 3)
    assert (health["api"], health["gateway"]) == (cloud.api_url, cloud.gateway_url)
    listed = cloud.admin("GET", "/_faas/functions").json()["functions"]
    assert [each["name"] for each in listed] == ["one", "slow", "work"]
    connection = http.client.HTTPConnection(cloud.api_url.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", "/_faas/events")
        answer = connection.getresponse()
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        assert answer.readline() == b"event: instances\n"
        assert answer.readline().startswith(b'data: {"instances": [')
    finally:
        connection.close()
