"""Other ways in which a cloud begins and ends: the terminal's Ctrl-C, readers on the line, two at once."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.app.test_lifecycle import Traces, instances
from tests.support.cloud import ROOT, Cloud
from tests.support.project import Project
from tests.support.traces import await_true, descendants, processes_named, settle

CODE = """
    import ctypes
    import os
    import time

    ctypes.CDLL(None).prctl(15, os.environ["COMM"].encode(), 0, 0, 0)
    time.sleep(float(os.environ.get("INIT", "0")))

    def handler(event, context):
        time.sleep(event.get("seconds", 0))
        return "fine"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    made = Project(root).function("work", CODE, timeout=30, environment={"COMM": f"end-{os.getpid()}"})
    made.function("slow", folder="work", environment={"COMM": f"slow-{os.getpid()}", "INIT": "5"})
    return made


def start(project: Project, tmp_path: Path, *options: str, sandbox: str = "process", home: str = "home") -> Cloud:
    return Cloud.start(project.write(), *options, home=tmp_path / home, sandbox=sandbox)


def status_of(cloud: Cloud, name: str, payload: object) -> int:
    """0 if there was no answer."""
    try:
        return cloud.invoke(name, payload).status
    except (URLError, ConnectionError, http.client.HTTPException):
        return 0


@contextmanager
def new_session() -> Iterator[None]:
    """What is started within gets a process group of its own, as a shell gives each job."""
    before = subprocess.Popen.__init__

    def init(self: object, *args: object, **options: object) -> None:
        before(self, *args, **(options | {"start_new_session": True}))  # type: ignore[arg-type]

    subprocess.Popen.__init__ = init  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        subprocess.Popen.__init__ = before  # type: ignore[method-assign]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_process_group(
    project: Project, tmp_path: Path, sandbox: str, number: signal.Signals
) -> None:
    """A terminal's Ctrl-C goes to the emulator and to everything it has started alike."""
    with new_session():
        cloud = start(project, tmp_path, sandbox=sandbox)
    try:
        cloud.invoke("work", {})
        traces = Traces(cloud, sandbox)
        os.killpg(cloud.process.pid, number)
        assert cloud.process.wait(10) == 0
    finally:
        cloud.stop()
    assert not settle(traces.left)
    assert not [line for line in cloud.output if "Traceback" in line], cloud.output


def test_readers_do_not_hold_up_the_end(project: Project, tmp_path: Path) -> None:
    cloud = start(project, tmp_path)
    connections = [http.client.HTTPConnection(cloud.api_url.removeprefix("http://"), timeout=30) for _ in range(4)]
    try:
        for each, path in zip(connections, ("/_faas/events", "/_faas/logs/work?wait=30", "/_faas/events", None),
                              strict=True):
            each.connect()
            if path:
                each.putrequest("GET", path)
                each.endheaders()
        time.sleep(0.3)
        began = time.monotonic()
        assert cloud.stop() == 0
        assert time.monotonic() - began < 4
        assert not [line for line in cloud.output if "Traceback" in line], cloud.output
    finally:
        for each in connections:
            each.close()


def test_ctrl_c_while_instances_start(project: Project, tmp_path: Path, sandbox: str) -> None:
    cloud = start(project, tmp_path, sandbox=sandbox)
    traces = Traces(cloud, sandbox)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(status_of, cloud, "slow", {}) for _ in range(4)]
        time.sleep(0.4)
        began = time.monotonic()
        assert cloud.stop() == 0
        assert time.monotonic() - began < (5 if sandbox == "process" else 12)
        assert {each.result() for each in calls} == {503}
    assert not settle(traces.left)
    assert not processes_named(f"slow-{os.getpid()}")
    assert not [line for line in cloud.output if "Traceback" in line], cloud.output


def test_asked_twice_it_ends_at_once_and_the_next_start_cleans_up(project: Project, tmp_path: Path) -> None:
    cloud = start(project, tmp_path)
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(status_of, cloud, "work", {"seconds": 20})
        assert await_true(lambda: any(each["state"] == "busy" for each in instances(cloud, "work")))
        traces = Traces(cloud, "process")
        cloud.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        cloud.process.send_signal(signal.SIGINT)
        assert cloud.process.wait(5) in (0, 130)
        assert call.result() in (0, 503)
    cloud.stop()
    with start(project, tmp_path):
        assert not settle(traces.left)


def test_two_clouds_on_one_home_leave_each_other_alone(project: Project, tmp_path: Path, sandbox: str) -> None:
    with start(project, tmp_path, sandbox=sandbox) as first:
        instance = first.invoke("work", {}).headers["x-faas-instance"]
        with start(project, tmp_path, sandbox=sandbox) as second:
            assert second.invoke("work", {}).headers["x-faas-start"] == "cold"
            assert first.invoke("work", {}).headers["x-faas-start"] == "warm"
        answer = first.invoke("work", {})
        assert (answer.headers["x-faas-start"], answer.headers["x-faas-instance"]) == ("warm", instance)
        assert first.invoke("work", {}, X_Faas_Start="cold").json() == "fine"


def test_whoever_read_the_output_may_go(project: Project, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emulator", "up", str(project.write()), "--port", "0", "--api-port", "0",
               "--sandbox", "process", "--home", str(tmp_path / "home")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = ""
        for line in process.stdout:
            if line.startswith("ready: api "):
                url = line.split()[2]
                break
        process.stdout.close()
        cloud = Cloud(process, api_url=url)
        try:
            for _ in range(5):
                assert cloud.invoke("work", {}).json() == "fine"
                time.sleep(0.05)  # so that its log is printed to nobody
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("home", ["/proc/nowhere", "file"])
def test_a_home_that_can_not_be_is_said_in_one_line(project: Project, tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    where = str(tmp_path / home)  # an absolute path stays what it is
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "up", str(project.write()), "--sandbox", "process", "--home", where,
         "--port", "0", "--api-port", "0"],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert where in done.stderr


def test_keep_alive_of_nothing_and_prewarmed_instances(project: Project, tmp_path: Path) -> None:
    comm = {"COMM": "spare"}
    project.function("never-kept", folder="work", keep_alive=0, environment=comm)
    project.function("ready", folder="work", prewarm=2, environment=comm)
    with start(project, tmp_path) as cloud:
        assert await_true(lambda: [each["state"] for each in instances(cloud, "ready")] == ["idle", "idle"])
        assert cloud.invoke("ready", {}).headers["x-faas-start"] == "warm"
        starts = [cloud.invoke("never-kept", {}).headers["x-faas-start"] for _ in range(3)]
        assert starts == ["cold"] * 3
        assert settle(lambda: instances(cloud, "never-kept")) == []


def test_memory_capacity_bounds_the_instances(project: Project, tmp_path: Path) -> None:
    with start(project, tmp_path, "--memory-capacity", "256") as cloud:
        barrier = threading.Barrier(4)

        def call(_: int) -> int:
            barrier.wait()
            return cloud.invoke("work", {"seconds": 1}).status

        with ThreadPoolExecutor(4) as threads:
            statuses = sorted(threads.map(call, range(4)))
        assert statuses == [200, 200, 429, 429]
        assert len(cloud.admin("GET", "/_faas/instances").json()["instances"]) <= 2


def test_nothing_runs_below_an_idle_cloud_but_what_it_lists(project: Project, tmp_path: Path) -> None:
    """Starting and ending many instances leaves no zombies and no open files behind."""
    with start(project, tmp_path) as cloud:
        cloud.invoke("work", {})
        cloud.admin("POST", "/_faas/reset")
        time.sleep(0.3)

        def state() -> tuple[int, int]:
            files = len(os.listdir(f"/proc/{cloud.process.pid}/fd"))
            return len(descendants(cloud.process.pid)), files

        before = state()
        for _ in range(5):
            assert json.loads(cloud.admin("POST", "/_faas/functions/work/prewarm?count=10").body)["ready"] == 10
            cloud.admin("POST", "/_faas/functions/work/evict")
        # A spare or two may be kept in reserve for the next start.
        assert await_true(lambda: all(now <= then + 3 for now, then in zip(state(), before, strict=True))), (
            before, state()
        )
        assert not zombies(cloud.process.pid)


def zombies(pid: int) -> list[str]:
    found = []
    ours = {pid, *descendants(pid)}
    for each in os.listdir("/proc"):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) in ours:
            found.append(each)
    return found
