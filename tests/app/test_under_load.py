"""Many callers at once, while everything else happens as well: each gets the answer to its own question."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from emulator.telemetry.journal import replay
from tests.support.cloud import Cloud
from tests.support.project import Project
from tests.support.raw import connection
from tests.support.traces import await_true, processes_named

CODE = """
    import ctypes
    import os
    import time

    ctypes.CDLL(None).prctl(15, os.environ["COMM"].encode(), 0, 0, 0)

    def handler(event, context):
        event = event if "nonce" in event else {"nonce": event["queryStringParameters"]["nonce"]}
        time.sleep(event.get("seconds", 0))
        if event.get("raise"):
            raise ValueError(event["nonce"])
        return {"nonce": event["nonce"], "me": context.function_name, "padding": "p" * event.get("size", 0)}
"""
NAMES = ("a", "b", "c")


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("load")
    project = Project(root)
    project.edit("code", CODE)
    for name in NAMES:
        project.function(name, folder="code", timeout=5, environment={"COMM": f"load-{name}"}, keep_alive=2)
        project.route(f"GET /{name}", name)
    with Cloud.start(project.write(), home=root / "home", sandbox="process") as cloud:
        yield cloud
        assert not [line for line in cloud.output if line.startswith(("Traceback", "ERROR"))]


def settled(cloud: Cloud) -> None:
    """Nothing in flight, nothing starting, and the journal agrees with a fresh pool."""

    def quiet() -> bool:
        states = {each["state"] for each in cloud.admin("GET", "/_faas/instances").json()["instances"]}
        return states <= {"idle"}

    assert await_true(quiet), cloud.admin("GET", "/_faas/instances").json()
    text = cloud.admin("GET", "/metrics").body.decode()
    in_flight = [line for line in text.splitlines() if line.startswith("faas_concurrency{")]
    assert all(line.endswith(" 0.0") for line in in_flight), in_flight
    assert replay(cloud.admin("GET", "/_faas/journal").body.decode().splitlines()) == []


def test_each_caller_gets_its_own_answer(cloud: Cloud) -> None:
    """Both doors, all ways to start, errors, evictions and large bodies, all at once."""
    stop = time.monotonic() + 6
    seen: Counter[str] = Counter()
    wrong: list[object] = []

    def caller(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < stop:
            name, nonce = dice.choice(NAMES), f"{number}-{dice.random()}"
            kind = dice.choices(("api", "gateway", "raise", "large", "cold", "warm", "slow"), (8, 8, 3, 2, 1, 3, 2))[0]
            seen[kind] += 1
            match kind:
                case "gateway":
                    answer = cloud.request("GET", f"/{name}?nonce={nonce}")
                case "raise":
                    answer = cloud.invoke(name, {"nonce": nonce, "raise": True})
                    if answer.status != 200 or answer.json()["errorMessage"] != nonce:
                        wrong.append(answer)
                    continue
                case "large":
                    answer = cloud.invoke(name, {"nonce": nonce, "size": 1_000_000, "more": "m" * 500_000})
                case "cold" | "warm":
                    answer = cloud.invoke(name, {"nonce": nonce}, X_Faas_Start=kind)
                case "slow":
                    answer = cloud.invoke(name, {"nonce": nonce, "seconds": 0.2})
                case _:
                    answer = cloud.invoke(name, {"nonce": nonce})
            if answer.status != 200 or (answer.json().get("nonce"), answer.json().get("me")) != (nonce, name):
                wrong.append(answer)

    def meddler() -> None:
        dice = random.Random(0)
        while time.monotonic() < stop:
            time.sleep(0.2)
            cloud.admin("POST", f"/_faas/functions/{dice.choice(NAMES)}/evict")
            cloud.admin("GET", "/_faas/instances")
            cloud.admin("GET", "/metrics")

    with ThreadPoolExecutor(17) as threads:
        for done in [threads.submit(meddler), *(threads.submit(caller, number) for number in range(1, 17))]:
            done.result()
    assert not wrong, wrong[:3]
    assert min(seen.values()) > 3, seen
    settled(cloud)


def test_killing_instances_under_load(cloud: Cloud) -> None:
    """A caller whose instance dies is told so; nobody waits for ever and nobody gets another's answer."""
    stop = time.monotonic() + 4
    outcomes: Counter[str] = Counter()

    def caller(number: int) -> None:
        n = 0
        while time.monotonic() < stop:
            n += 1
            nonce = f"{number}-{n}"
            answer = cloud.invoke("a", {"nonce": nonce, "seconds": 0.02})
            body: Any = answer.json()
            if answer.headers.get("x-amz-function-error"):
                assert body["errorType"] == "Runtime.ExitError", body
                outcomes["killed"] += 1
            else:
                assert (answer.status, body["nonce"]) == (200, nonce)
                outcomes["fine"] += 1

    def killer() -> None:
        dice = random.Random(1)
        while time.monotonic() < stop:
            time.sleep(0.1)
            if pids := processes_named("load-a"):
                try:
                    os.kill(dice.choice(pids), signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it went by itself

    with ThreadPoolExecutor(9) as threads:
        for done in [threads.submit(killer), *(threads.submit(caller, number) for number in range(8))]:
            done.result()
    assert outcomes["fine"] > 50
    assert outcomes["killed"] < outcomes["fine"] / 2, outcomes
    settled(cloud)
    assert cloud.invoke("a", {"nonce": "last"}).json()["nonce"] == "last"


def test_clients_that_hang_up_under_load(cloud: Cloud) -> None:
    """Before, during and after their invocation, also while its instance is still starting."""
    dice = random.Random(2)
    body = b'{"nonce": "gone", "seconds": 0.05}'
    plain = b"POST /2015-03-31/functions/b/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    chunked = b"POST /2015-03-31/functions/b/invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    requests = (plain % (len(body), body), chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    def client(_: int) -> None:
        request = dice.choice(requests)
        with connection(cloud.api_url) as wire:
            wire.send(request[: dice.choice((len(request), len(request), len(request) - 5))])
            time.sleep(dice.choice((0, 0.001, 0.03, 0.06)))
            if dice.random() < 0.5:  # with a reset, not a farewell
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(client, range(300)))
    settled(cloud)
    assert cloud.invoke("b", {"nonce": "after"}).json()["nonce"] == "after"


def test_a_client_that_does_not_read_its_answers(cloud: Cloud) -> None:
    """It may wait for itself; the others go on."""
    body = b'{"nonce": "x", "size": 1000000}'
    request = b"POST /2015-03-31/functions/c/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    with connection(cloud.api_url, timeout=2) as wire:
        wire.send(request % (len(body), body) * 20)
        time.sleep(0.5)
        began = time.monotonic()
        assert cloud.invoke("c", {"nonce": "other"}).json()["nonce"] == "other"
        assert time.monotonic() - began < 2
        for _ in range(20):  # nothing was lost meanwhile
            answer = wire.answer()
            assert (answer.status, len(answer.json()["padding"])) == (200, 1_000_000)
    settled(cloud)


def test_a_burst_of_cold_starts_beyond_what_starts_in_parallel(cloud: Cloud) -> None:
    barrier = threading.Barrier(40)

    def caller(number: int) -> str:
        barrier.wait()
        answer = cloud.invoke("a", {"nonce": str(number), "seconds": 0.5})
        assert answer.json()["nonce"] == str(number)
        return answer.headers["x-faas-instance"]

    with ThreadPoolExecutor(40) as threads:
        assert len(set(threads.map(caller, range(40)))) == 40
    assert await_true(lambda: not cloud.admin("GET", "/_faas/instances").json()["instances"]), "keep-alive is 2 s"
    settled(cloud)
