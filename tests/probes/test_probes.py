"""Eight questions that tell a cloud from a script that calls functions, asked with boto3."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.cloud import Cloud
from tests.support.project import Project
from tests.support.traces import processes_named, settle

SLEEPER = """
    import ctypes
    import os
    import time

    def handler(event, context):
        if "comm" in event:  # a name by which the host can see this process
            ctypes.CDLL(None).prctl(15, event["comm"].encode(), 0, 0, 0)
        began = time.time()
        time.sleep(event.get("seconds", 0))
        return {"began": began, "ended": time.time(), "me": os.environ["AWS_LAMBDA_FUNCTION_NAME"]}
"""
HOG = """
    def handler(event, context):
        data = bytearray()
        for _ in range(event["megabytes"]):
            data += b"x" * 2**20
        return len(data)
"""
SLOW = """
    import time

    time.sleep({seconds})

    def handler(event, context):
        return "ready"
"""
MANY = 20
MANY_CODE = """
    import os
    import time

    time.sleep(0.4)

    def handler(event, context):
        return {"me": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "echo": event["n"] * 2}
"""


@dataclass(frozen=True)
class Reply:
    """What boto3 gave, and how long it took."""

    status: int
    headers: dict[str, str]
    error: str | None
    payload: Any
    log: str
    seconds: float

    @property
    def instance(self) -> str:
        return self.headers["x-faas-instance"]


@pytest.fixture(scope="module")
def cloud(sandbox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("probes")
    project = Project(root)
    project.function("sleeper", SLEEPER, timeout=10)
    project.function("reserved", folder="sleeper", timeout=10, reserved_concurrency=1)
    project.function("short", folder="sleeper", timeout=3)
    project.function("hog", HOG, timeout=20, memory=128)
    project.function("slow-init", SLOW.format(seconds="1.0"))
    project.function("late-clock", SLOW.format(seconds="1.5"), timeout=1)
    project.edit("many", MANY_CODE)
    for n in range(MANY):
        project.function(f"many-{n}", folder="many", timeout=10, environment={"NUMBER": str(n)})
    with Cloud.start(project.write(), home=root / "home", sandbox=sandbox) as cloud:
        yield cloud


def call(cloud: Cloud, name: str, payload: object = None) -> Reply:
    began = time.monotonic()
    answer = cloud.client.invoke(FunctionName=name, Payload=json.dumps(payload or {}), LogType="Tail")
    body = answer["Payload"].read()
    seconds = time.monotonic() - began
    log = base64.b64decode(answer.get("LogResult", "")).decode()
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return Reply(answer["StatusCode"], headers, answer.get("FunctionError"), json.loads(body), log, seconds)


def call_at_once(cloud: Cloud, calls: list[tuple[str, object]]) -> list[Reply | ClientError]:
    def one(name: str, payload: object) -> Reply | ClientError:
        try:
            return call(cloud, name, payload)
        except ClientError as error:
            return error

    _ = cloud.client  # made once, not by each thread
    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(lambda each: one(*each), calls))


def test_the_second_call_is_warm_and_the_caller_can_see_it(cloud: Cloud) -> None:
    cloud.admin("POST", "/_faas/functions/sleeper/evict")
    first, second = call(cloud, "sleeper"), call(cloud, "sleeper")
    assert (first.headers["x-faas-start"], second.headers["x-faas-start"]) == ("cold", "warm")
    assert first.instance == second.instance
    assert "Init Duration" in first.log
    assert "Init Duration" not in second.log
    assert second.seconds < first.seconds


def test_parallel_calls_run_in_parallel_each_in_its_own_instance(cloud: Cloud, sandbox: str) -> None:
    cloud.admin("POST", "/_faas/functions/sleeper/evict")
    began = time.monotonic()
    replies = call_at_once(cloud, [("sleeper", {"seconds": 1})] * 3)
    took = time.monotonic() - began
    assert all(isinstance(reply, Reply) and reply.error is None for reply in replies), replies
    assert len({reply.instance for reply in replies}) == 3
    assert 1.0 <= took < (2.0 if sandbox == "process" else 6.0)
    windows = [(reply.payload["began"], reply.payload["ended"]) for reply in replies]
    assert max(begin for begin, _ in windows) < min(end for _, end in windows)


def test_reserved_concurrency_of_one_serves_one_and_throttles_the_others(cloud: Cloud) -> None:
    call(cloud, "reserved")  # so that the three overlap however slowly a sandbox starts
    replies = call_at_once(cloud, [("reserved", {"seconds": 1})] * 3)
    served = [reply for reply in replies if isinstance(reply, Reply)]
    refused = [reply for reply in replies if isinstance(reply, ClientError)]
    assert (len(served), len(refused)) == (1, 2)
    for error in refused:
        metadata = error.response["ResponseMetadata"]
        assert metadata["HTTPStatusCode"] == 429
        assert error.response["Error"]["Code"] == "TooManyRequestsException"
        assert error.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert int(metadata["HTTPHeaders"]["retry-after"]) >= 1


def test_a_timeout_ends_call_and_sandbox_and_delays_nobody(cloud: Cloud, sandbox: str) -> None:
    name = f"timeout-{sandbox[:6]}"
    call(cloud, "short")  # the clock shall show the timeout alone
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(call, cloud, "short", {"seconds": 6, "comm": name})
        time.sleep(1)
        assert processes_named(name), "the function is not seen on the host"
        reply = late.result()
    assert reply.error == "Unhandled"
    request_id = reply.headers["x-amzn-requestid"]
    assert reply.payload == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 3.00 seconds",
    }
    assert 2.95 <= reply.seconds < 3.6
    following = call(cloud, "short")
    assert following.error is None
    assert following.instance != reply.instance
    assert following.seconds < 2.5
    assert not settle(lambda: processes_named(name)), "the sandbox outlived its timeout"
    assert f"{request_id} Task timed out after 3.00 seconds" in reply.log
    assert "Status: timeout" in reply.log


def test_memory_above_the_limit_is_out_of_memory(cloud: Cloud) -> None:
    reply = call(cloud, "hog", {"megabytes": 400})
    assert reply.error == "Unhandled"
    assert reply.payload == {
        "errorType": "Runtime.OutOfMemory",
        "errorMessage": f"RequestId: {reply.headers['x-amzn-requestid']} "
        "Error: Runtime exited with error: signal: killed",
    }
    assert "Memory Size: 128 MB\tMax Memory Used: 128 MB" in reply.log
    assert call(cloud, "hog", {"megabytes": 10}).payload == 10 * 2**20


def test_init_duration_is_what_the_import_took(cloud: Cloud) -> None:
    reply = call(cloud, "slow-init")
    found = re.search(r"Init Duration: (\d+\.\d\d) ms", reply.log)
    assert found, reply.log
    assert 1000 <= float(found[1]) < 2000
    assert float(found[1]) / 1000 <= reply.seconds


def test_the_timeout_counts_from_delivery(cloud: Cloud) -> None:
    reply = call(cloud, "late-clock")
    assert (reply.error, reply.payload) == (None, "ready")
    assert reply.seconds >= 1.5


def test_twenty_functions_called_at_once_start_in_parallel(cloud: Cloud) -> None:
    replies = call_at_once(cloud, [(f"many-{n}", {"n": n}) for n in range(MANY)])
    for n, reply in enumerate(replies):
        assert isinstance(reply, Reply), reply
        assert reply.error is None
        assert reply.payload == {"me": f"many-{n}", "echo": 2 * n}
        assert reply.headers["x-faas-start"] == "cold"
    instances = [
        instance for instance in cloud.admin("GET", "/_faas/instances").json()["instances"]
        if instance["function"].startswith("many-")
    ]
    assert len(instances) == MANY
    starts = [(i["created_at"], i["created_at"] + sum(i["phases"].values())) for i in instances]
    at_once = max(sum(begin <= at < end for begin, end in starts) for at, _ in starts)
    assert at_once >= MANY // 2, f"no more than {at_once} starts at once"
