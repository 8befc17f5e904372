"""The cloud from its start to its end, its changes of code, and control over what is cold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud import ROOT, Answer, Cloud
from tests.support.project import Project
from tests.support.traces import (
    await_true,
    cgroups_of,
    containers_of,
    descendants,
    launchers,
    mounts_of,
    processes_named,
    run,
    run_folders_of,
    settle,
)

CODE = """
    import ctypes
    import time

    def handler(event, context):
        if "comm" in event:
            ctypes.CDLL(None).prctl(15, event["comm"].encode(), 0, 0, 0)
        time.sleep(event.get("seconds", 0))
        return "one"
"""


def project(root: Path) -> Path:
    made = Project(root)
    made.function("fine", CODE, timeout=30)
    made.function("brief", folder="fine", keep_alive=1)
    made.function("fresh", folder="fine")
    return made.write()


@pytest.fixture(scope="module")
def cloud(sandbox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("lifecycle")
    with Cloud.start(project(root), home=root / "home", sandbox=sandbox) as cloud:
        yield cloud


def instances(cloud: Cloud, function: str) -> list[dict[str, Any]]:
    everything = cloud.admin("GET", "/_faas/instances").json()["instances"]
    return [instance for instance in everything if instance["function"] == function]


# -- the end -------------------------------------------------------------------------


class Traces:
    """Everything on the machine that belongs to a cloud, noted while it runs."""

    def __init__(self, cloud: Cloud, sandbox: str) -> None:
        self.home = Path(cloud.process.args[-1])  # type: ignore[index]
        below = descendants(cloud.process.pid)
        self.owners = launchers([cloud.process.pid, *below])
        self.pids = launchers(below)
        self.docker = sandbox == "docker"
        self.before = sorted(Path("/tmp").glob("*faas*"))

    def left(self) -> list[object]:
        alive = launchers([int(name.partition("-")[0]) for name in self.pids]) & self.pids
        found: list[object] = [*sorted(alive), *cgroups_of(self.owners), *run_folders_of(self.owners)]
        found += mounts_of(self.home)
        if self.docker:
            found += containers_of(self.home)
        return found


def start(tmp_path: Path, sandbox: str) -> Cloud:
    root = tmp_path / "project"
    if not root.exists():
        root.mkdir()
        project(root)
    return Cloud.start(root, home=tmp_path / "home", sandbox=sandbox)


def test_ctrl_c_when_idle(sandbox: str, tmp_path: Path) -> None:
    cloud = start(tmp_path, sandbox)
    cloud.invoke("fine", {})
    traces = Traces(cloud, sandbox)
    assert traces.left(), "the test looks in the wrong places"
    began = time.monotonic()
    assert cloud.stop() == 0
    assert time.monotonic() - began < (3 if sandbox == "process" else 8)
    assert not settle(traces.left)


def test_ctrl_c_while_invocations_run(sandbox: str, tmp_path: Path) -> None:
    cloud = start(tmp_path, sandbox)
    name = f"stopped-{sandbox[:6]}"
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(cloud.invoke, "fine", {"seconds": 20, "comm": name}) for _ in range(3)]
        assert await_true(lambda: len(processes_named(name)) == 3)
        traces = Traces(cloud, sandbox)
        began = time.monotonic()
        assert cloud.stop() == 0
        assert time.monotonic() - began < (5 if sandbox == "process" else 10)
        for call in calls:
            answer = call.result()
            assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceException")
            assert "shutting down" in answer.body.decode()
    assert not settle(traces.left)
    assert not processes_named(name)


def test_what_kill_9_leaves_is_gone_after_the_next_start(sandbox: str, tmp_path: Path) -> None:
    cloud = start(tmp_path, sandbox)
    name = f"killed-{sandbox[:6]}"
    cloud.invoke("fine", {"comm": name})
    traces = Traces(cloud, sandbox)
    cloud.process.kill()
    cloud.process.wait()
    cloud.stop()
    with start(tmp_path, sandbox) as again:
        assert again.invoke("fine", {}).json() == "one"
        assert not settle(lambda: processes_named(name))
        assert not settle(lambda: launchers([int(each.partition("-")[0]) for each in traces.pids]) & traces.pids)
        assert not cgroups_of(traces.owners)
        assert not run_folders_of(traces.owners)
        after = Traces(again, sandbox)
    assert not settle(after.left)


# -- refusals at the start ---------------------------------------------------------


def up(*arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emulator", "up", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False,
    )


@pytest.mark.parametrize("flag", ["--port", "--api-port"])
def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, flag: str) -> None:
    other = {"--port": "--api-port", "--api-port": "--port"}[flag]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = up(str(project(tmp_path)), "--sandbox", "process", "--home", str(tmp_path / "home"), flag, port,
                  other, "0")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1, lines
    assert port in lines[0]
    assert flag in lines[0]
    assert "in use" in lines[0]


def test_every_error_of_a_configuration_is_said(tmp_path: Path) -> None:
    (tmp_path / "faas.toml").write_text(
        '[functions.a]\ncode = "nowhere"\nruntime = "python3.11"\nhandler = "app.handler"\nmemory = 1\n'
        '[functions.b]\nruntime = "cobol"\ntimeout = 0\n[[routes]]\nroute = "FETCH /"\nfunction = "c"\n'
    )
    done = up(str(tmp_path), "--home", str(tmp_path / "home"), "--port", "0", "--api-port", "0")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in ("nowhere", "memory", "cobol", "timeout", "FETCH"):
        assert word in done.stderr, word
    assert not (tmp_path / "home").exists()


# -- code that changes -----------------------------------------------------------------


def test_edited_code_is_taken_over_without_a_failed_request(sandbox: str, tmp_path: Path) -> None:
    made = Project(tmp_path)
    code = "import time\n\ndef handler(event, context):\n    time.sleep(event.get('seconds', 0))\n    return {!r}\n"
    made.function("live", code.format("old"), timeout=10)
    with Cloud.start(made.write(), home=tmp_path / "home", sandbox=sandbox) as cloud:
        first = cloud.invoke("live", {})
        assert first.json() == "old"
        answers: list[Answer] = []
        stop = threading.Event()

        def flow() -> None:
            while not stop.wait(0.04):
                answers.append(cloud.invoke("live", {}))

        with ThreadPoolExecutor(3) as threads:
            flows = [threads.submit(flow) for _ in range(2)]  # about 50 requests a second
            slow = threads.submit(cloud.invoke, "live", {"seconds": 2})
            assert await_true(lambda: any(i["state"] == "busy" for i in instances(cloud, "live")))
            time.sleep(0.5)
            made.edit("live", code.format("new"))
            assert await_true(lambda: answers and answers[-1].body == b'"new"'), cloud.output[-10:]
            in_flight = slow.result()
            time.sleep(0.3)
            stop.set()
            for each in flows:
                each.result()
        assert {answer.status for answer in answers} == {200}
        assert not any("x-amz-function-error" in answer.headers for answer in answers)
        assert (in_flight.json(), in_flight.headers["x-faas-revision"]) == ("old", first.headers["x-faas-revision"])
        bodies = [answer.json() for answer in answers]
        assert set(bodies) == {"old", "new"}
        last = cloud.invoke("live", {})
        revision = last.headers["x-faas-revision"]
        assert last.json() == "new"
        assert revision != first.headers["x-faas-revision"]
        assert settle(lambda: [i for i in instances(cloud, "live") if i["revision"] != revision]) == []

        os.utime(tmp_path / "live" / "app.py")  # touched, not changed
        time.sleep(0.7)
        again = cloud.invoke("live", {})
        assert (again.headers["x-faas-revision"], again.headers["x-faas-start"]) == (revision, "warm")


def test_a_configuration_with_errors_leaves_what_runs(tmp_path: Path) -> None:
    root = project(tmp_path)
    with Cloud.start(root, home=tmp_path / "home", sandbox="process") as cloud:
        text = (root / "faas.toml").read_text()
        (root / "faas.toml").write_text(text.replace("timeout = 30", "timeout = 3000"))
        assert await_true(lambda: any("has errors" in line for line in cloud.output))
        assert cloud.invoke("fine", {}).json() == "one"
        (root / "faas.toml").write_text(text.replace("timeout = 30", "timeout = 29"))
        assert await_true(lambda: cloud.client.get_function(FunctionName="fine")["Configuration"]["Timeout"] == 29)
        added = '[functions.added]\ncode = "fine"\nruntime = "python3.11"\nhandler = "app.handler"\n'
        (root / "faas.toml").write_text(text + added)
        assert await_true(lambda: cloud.invoke("added", {}).status == 200)
        (root / "faas.toml").write_text(text)
        assert await_true(lambda: cloud.invoke("added", {}).status == 404)


# -- cold and warm at will -------------------------------------------------------------


def test_cold_and_warm_on_request(cloud: Cloud) -> None:
    first = cloud.invoke("fresh", {}, X_Faas_Start="warm")
    assert (first.headers["x-faas-start"], first.headers["x-faas-prewarmed"]) == ("warm", "1")
    second = cloud.invoke("fresh", {}, X_Faas_Start="warm")
    assert second.headers["x-faas-instance"] == first.headers["x-faas-instance"]
    assert "x-faas-prewarmed" not in second.headers
    cold = cloud.invoke("fresh", {}, X_Faas_Start="cold")
    assert cold.headers["x-faas-start"] == "cold"
    assert cold.headers["x-faas-instance"] != first.headers["x-faas-instance"]
    answer = cloud.invoke("fresh", {}, X_Faas_Start="tepid")
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "InvalidParameterValueException")
    assert "cold or warm" in answer.json()["message"]


def test_evict_prewarm_and_reset(cloud: Cloud) -> None:
    cloud.admin("POST", "/_faas/functions/fresh/evict")
    assert cloud.admin("POST", "/_faas/functions/fresh/prewarm?count=3").json() == {"started": 3, "ready": 3}
    assert [i["state"] for i in instances(cloud, "fresh")] == ["idle"] * 3
    answer = cloud.invoke("fresh", {})
    assert answer.headers["x-faas-start"] == "warm"
    assert cloud.admin("POST", "/_faas/functions/fresh/evict").json() == {"evicted": 3}
    assert instances(cloud, "fresh") == []
    assert cloud.invoke("fresh", {}).headers["x-faas-start"] == "cold"
    assert cloud.admin("POST", "/_faas/reset").json()["evicted"] >= 1
    assert cloud.admin("GET", "/_faas/instances").json() == {"instances": []}
    assert cloud.admin("GET", "/_faas/invocations").json() == {"invocations": []}
    for path in ("evict", "prewarm?count=1"):
        assert cloud.admin("POST", f"/_faas/functions/nobody/{path}").status == 404
    for count in ("0", "x", "-1", "1001", "nan"):
        assert cloud.admin("POST", f"/_faas/functions/fresh/prewarm?count={count}").status == 400


def test_evicting_a_busy_instance_lets_it_finish(cloud: Cloud) -> None:
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(cloud.invoke, "fresh", {"seconds": 1})
        assert await_true(lambda: any(i["state"] == "busy" for i in instances(cloud, "fresh")))
        cloud.admin("POST", "/_faas/functions/fresh/evict")
        assert running.result().json() == "one"
    assert settle(lambda: instances(cloud, "fresh")) == []


def test_keep_alive_ends_an_idle_instance(cloud: Cloud) -> None:
    name = "expires"
    cloud.invoke("brief", {"comm": name})
    answered = time.monotonic()
    assert len(instances(cloud, "brief")) == 1
    assert settle(lambda: instances(cloud, "brief")) == []
    assert 0.8 <= time.monotonic() - answered < 2.5
    assert not settle(lambda: processes_named(name))


def test_an_instance_killed_from_outside_is_noticed(cloud: Cloud, sandbox: str) -> None:
    cloud.admin("POST", "/_faas/functions/fine/evict")
    name = f"victim-{sandbox[:6]}"
    for _ in range(3):
        first = cloud.invoke("fine", {"comm": name})
        if sandbox == "docker":
            [container] = [each for each in containers_of(Path(cloud.process.args[-1])) if "fine" in each]  # type: ignore[index]
            assert run("docker", "kill", container).returncode == 0
        else:
            [pid] = processes_named(name)
            os.kill(pid, signal.SIGKILL)
        assert not settle(lambda: processes_named(name))
        following = cloud.invoke("fine", {})
        assert (following.status, following.body) == (200, b'"one"')
        assert "x-amz-function-error" not in following.headers
        assert following.headers["x-faas-instance"] != first.headers["x-faas-instance"]
        assert settle(lambda: len(instances(cloud, "fine")) - 1) == 0
        cloud.admin("POST", "/_faas/functions/fine/evict")


def test_an_instance_killed_while_it_runs(cloud: Cloud, sandbox: str) -> None:
    name = f"midway-{sandbox[:6]}"
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(cloud.invoke, "fine", {"comm": name, "seconds": 10})
        pids = await_true(lambda: processes_named(name))
        assert isinstance(pids, list)
        os.kill(pids[0], signal.SIGKILL)
        answer = running.result()
    assert (answer.status, answer.headers["x-amz-function-error"]) == (200, "Unhandled")
    assert answer.json()["errorType"] == "Runtime.ExitError"
    assert "signal: killed" in answer.json()["errorMessage"]
    assert cloud.invoke("fine", {}).json() == "one"
