"""Every way a function can fail, and what its caller is told then (the platform's words)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.cloud import Answer, Cloud
from tests.support.project import Project
from tests.support.traces import await_true, processes_named, settle

CODE = """
    import ctypes
    import os
    import signal
    import subprocess
    import sys
    import threading
    import time

    def handler(event, context):
        match event.get("do"):
            case "exit":
                sys.exit(event["status"])
            case "os exit":
                os._exit(event["status"])
            case "signal":
                os.kill(os.getpid(), event["number"])
                time.sleep(5)
            case "segfault":
                ctypes.string_at(0)
            case "not json":
                return {1, 2}
            case "base exception":
                raise KeyboardInterrupt
            case "deep":
                def down():
                    down()
                down()
            case "flood":
                line = b"x" * 1023 + b"\\n"
                for _ in range(event["megabytes"] * 1024):
                    os.write(1, line)
            case "flood without lines":
                for _ in range(event["megabytes"]):
                    os.write(2, b"y" * 2**20)
            case "close output":
                os.close(1)
                os.close(2)
            case "child":  # outlives the handler, not the instance
                subprocess.Popen([sys.executable, "-c",
                    f"import ctypes, time; ctypes.CDLL(None).prctl(15, {event['comm']!r}.encode(), 0, 0, 0);"
                    "time.sleep(60)"])
            case "thread":
                threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
            case "remember":
                globals().setdefault("seen", []).append(event["what"])
                return seen
        return "fine"
"""


@pytest.fixture(scope="module")
def cloud(sandbox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    root = tmp_path_factory.mktemp("failures")
    project = Project(root).function("work", CODE, timeout=5)
    project.function("no-import", "import nothing_like_this\n")
    project.function("no-syntax", "def handler(:\n")
    project.function("no-handler", "x = 1\n")
    project.function("raises", "raise RuntimeError('while importing')\n")
    project.function("exits", "import os\nos._exit(7)\n")
    with Cloud.start(project.write(), home=root / "home", sandbox=sandbox) as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def goes_on(cloud: Cloud) -> Iterator[None]:
    yield
    assert cloud.invoke("work", {}).json() == "fine"


def failed(answer: Answer) -> Any:
    assert (answer.status, answer.headers["x-amz-function-error"]) == (200, "Unhandled")
    return answer.json()


def platform_error(answer: Answer, error_type: str, message: str) -> None:
    id = answer.headers["x-amzn-requestid"]
    assert failed(answer) == {"errorType": error_type, "errorMessage": f"RequestId: {id} Error: {message}"}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"do": "os exit", "status": 0}, "Runtime exited without providing a reason"),
        ({"do": "os exit", "status": 3}, "Runtime exited with error: exit status 3"),
        ({"do": "exit", "status": 5}, "Runtime exited with error: exit status 5"),
        ({"do": "signal", "number": 9}, "Runtime exited with error: signal: killed"),
        ({"do": "segfault"}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_runtime_that_ends(cloud: Cloud, event: object, message: str) -> None:
    began = time.monotonic()
    answer = cloud.invoke("work", event)
    platform_error(answer, "Runtime.ExitError", message)
    assert time.monotonic() - began < 4, "it need not wait for the timeout"
    name = answer.headers["x-faas-instance"]
    assert name not in [each["name"] for each in cloud.admin("GET", "/_faas/instances").json()["instances"]]


def test_answers_that_are_not_json(cloud: Cloud) -> None:
    body = failed(cloud.invoke("work", {"do": "not json"}))
    assert body["errorType"] == "Runtime.MarshalError"
    assert "set is not JSON serializable" in body["errorMessage"]


def test_endless_recursion(cloud: Cloud) -> None:
    answer = cloud.invoke("work", {"do": "deep"})
    assert failed(answer)["errorType"] == "RecursionError"
    assert cloud.invoke("work", {}).headers["x-faas-instance"] == answer.headers["x-faas-instance"]


@pytest.mark.parametrize(
    ("name", "error_type", "words"),
    [
        ("no-import", "Runtime.ImportModuleError",
         "Unable to import module 'app': No module named 'nothing_like_this'"),
        ("no-syntax", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
        ("no-handler", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
        ("raises", "RuntimeError", "while importing"),
    ],
)
def test_init_that_fails(cloud: Cloud, name: str, error_type: str, words: str) -> None:
    for _ in range(2):
        answer = cloud.invoke(name, {})
        body = failed(answer)
        assert body["errorType"].removeprefix("Runtime.") in (error_type.removeprefix("Runtime."), "Unknown")
        assert words in body["errorMessage"]
        assert body["requestId"] == ""
        assert answer.headers["x-faas-start"] == "cold"
    lines = cloud.admin("GET", f"/_faas/logs/{name}").json()["lines"]
    assert any(re.match(r"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: init\tStatus: error", each["text"])
               for each in lines), lines
    assert not [i for i in cloud.admin("GET", "/_faas/instances").json()["instances"] if i["function"] == name]


def test_init_that_ends_the_process(cloud: Cloud) -> None:
    answer = cloud.invoke("exits", {})
    platform_error(answer, "Runtime.ExitError", "Runtime exited with error: exit status 7")


def test_prewarming_what_can_not_start(cloud: Cloud) -> None:
    assert cloud.admin("POST", "/_faas/functions/raises/prewarm?count=2").json() == {"started": 2, "ready": 0}
    assert failed(cloud.invoke("raises", {}, X_Faas_Start="warm"))["errorMessage"] == "while importing"


@pytest.mark.parametrize("do", ["flood", "flood without lines"])
def test_a_flood_of_output(cloud: Cloud, do: str) -> None:
    """It may cost the function time. It costs nobody else, and does not pile up in memory."""
    answer = cloud.invoke("work", {"do": do, "megabytes": 20})
    assert answer.json() == "fine" or failed(answer)["errorType"] == "Sandbox.Timedout"
    status = (f"/proc/{cloud.process.pid}/status")
    with open(status) as file:
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1])  # type: ignore[index]
    assert resident < 400_000, f"{resident} kB"
    cloud.output.clear()


def test_a_function_that_closes_its_output(cloud: Cloud) -> None:
    assert cloud.invoke("work", {"do": "close output"}).json() == "fine"
    assert cloud.invoke("work", {}).json() == "fine"
    cloud.admin("POST", "/_faas/functions/work/evict")


def test_children_of_a_function_end_with_its_instance(cloud: Cloud, sandbox: str) -> None:
    name = f"child-{sandbox[:6]}"
    assert cloud.invoke("work", {"do": "child", "comm": name}).json() == "fine"
    assert await_true(lambda: processes_named(name))
    cloud.admin("POST", "/_faas/functions/work/evict")
    assert not settle(lambda: processes_named(name))


def test_threads_of_a_function_do_not_hold_up_its_end(cloud: Cloud) -> None:
    assert cloud.invoke("work", {"do": "thread"}).json() == "fine"
    assert cloud.admin("POST", "/_faas/functions/work/evict").json()["evicted"] >= 1
    assert cloud.admin("GET", "/_faas/instances").json()["instances"] == []


def test_globals_survive_within_an_instance_and_no_further(cloud: Cloud) -> None:
    cloud.admin("POST", "/_faas/functions/work/evict")
    assert cloud.invoke("work", {"do": "remember", "what": 1}).json() == [1]
    assert cloud.invoke("work", {"do": "remember", "what": 2}).json() == [1, 2]
    assert cloud.invoke("work", {"do": "remember", "what": 3}, X_Faas_Start="cold").json() == [3]
    cloud.invoke("work", {"do": "os exit", "status": 1})
    cloud.admin("POST", "/_faas/functions/work/evict")
    assert cloud.invoke("work", {"do": "remember", "what": 4}).json() == [4]


def test_reports_of_failures(cloud: Cloud) -> None:
    id = cloud.invoke("work", {"do": "os exit", "status": 3}).headers["x-amzn-requestid"]
    texts = [
        line["text"] for line in cloud.admin("GET", "/_faas/logs/work").json()["lines"] if line["request_id"] == id
    ]
    assert texts[0] == f"START RequestId: {id} Version: $LATEST"
    assert f"RequestId: {id} Error: Runtime exited with error: exit status 3" in texts
    assert texts[-2] == f"END RequestId: {id}"
    assert texts[-1].startswith(f"REPORT RequestId: {id}\t")
    assert texts[-1].endswith("Status: error\tError Type: Runtime.ExitError")
