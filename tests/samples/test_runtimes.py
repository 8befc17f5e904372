"""The samples' handlers in the real runtimes, against a scripted Runtime API.

No cloud and no sandbox: what fails here is a sample or a runtime.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.runtimes import RuntimeUnavailable
from emulator.runtimes_node import resolve_node
from tests.support.match import differences
from tests.support.runtime_api_stub import RuntimeApi, runtime_api

SAMPLES = Path(__file__).resolve().parents[2] / "sample_functions"
pytestmark = pytest.mark.timeout(400)  # the first use of Node.js compiles its client


@pytest.fixture(scope="session")
def node() -> list[str]:
    identifiers = [f"nodejs{major}.x" for major in (20, 22, 24)]
    reasons = []
    for identifier in identifiers:
        try:
            runtime = resolve_node(identifier, print)
        except RuntimeUnavailable as error:
            reasons.append(str(error))
        else:
            assert runtime.directory
            return [str(runtime.interpreter), str(runtime.directory / "index.mjs")]
    pytest.skip("; ".join(reasons))


@contextmanager
def running(
    command: list[str], task: Path, handler: str, api: RuntimeApi, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        cwd=task,
        env={
            "PATH": os.environ["PATH"], "LAMBDA_TASK_ROOT": str(task), "_HANDLER": handler,
            "AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_FUNCTION_NAME": "f",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_REGION": "us-east-1", **environ,
        },
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def check(name: str, command: list[str], handler: str) -> None:
    event = json.loads((SAMPLES / name / "event.json").read_text())
    expected = json.loads((SAMPLES / name / "expected.json").read_text())
    with runtime_api() as api, running(command, SAMPLES / name, handler, api):
        for _ in range(2):
            post = api.exchange(event)
            assert post.path.endswith("/error" if "$error" in expected else "/response")
            assert differences(expected.get("$payload", expected), post.json()) == []


PYTHON = ["hello-python", "slow-init", "sleeper", "memory-hog", "crasher", "counter"]


@pytest.mark.parametrize("name", PYTHON)
def test_python_samples(name: str) -> None:
    check(name, [sys.executable, "-m", "awslambdaric", "app.handler"], "app.handler")


def test_thumbnail_sample() -> None:
    pytest.importorskip("PIL.Image", reason="Pillow is in the dev extras")
    check("thumbnail", [sys.executable, "-m", "awslambdaric", "app.handler"], "app.handler")


def test_node_sample(node: list[str]) -> None:
    check("hello-node", node, "index.handler")


def test_bootstrap_sample() -> None:
    check("hello-bootstrap", [str(SAMPLES / "hello-bootstrap" / "bootstrap")], "bootstrap")


def test_go_sample() -> None:
    if not shutil.which("go"):
        pytest.skip("Go is not installed")
    subprocess.run(["make", "-C", str(SAMPLES)], check=True, capture_output=True)
    check("hello-go", [str(SAMPLES / "hello-go" / "bootstrap")], "bootstrap")


HANDLERS = {
    "commonjs.js": "exports.handler = async (event) => ({ kind: 'commonjs', event });",
    "callback.js": "exports.handler = (event, context, done) => done(null, { kind: 'callback', event });",
    "module.mjs": "await null; export const handler = async (event) => ({ kind: 'module', event });",
}


@pytest.mark.parametrize("file", HANDLERS)
def test_node_handler_forms(node: list[str], tmp_path: Path, file: str) -> None:
    kind = file.partition(".")[0]
    (tmp_path / file).write_text(HANDLERS[file])
    with runtime_api() as api, running(node, tmp_path, f"{kind}.handler", api):
        assert api.exchange({"a": "é"}).json() == {"kind": kind, "event": {"a": "é"}}


def test_node_response_streaming(node: list[str], tmp_path: Path) -> None:
    (tmp_path / "index.mjs").write_text(
        "export const handler = awslambda.streamifyResponse(async (event, stream) => {"
        " stream.setContentType('text/plain'); stream.write('one,'); stream.write('two'); stream.end(); });"
    )
    with runtime_api() as api, running(node, tmp_path, "index.handler", api, FAAS_PHASE_MARKER="1"):
        for _ in range(2):
            post = api.exchange({})
            assert post.body == b"one,two"
            assert post.headers["Lambda-Runtime-Function-Response-Mode"] == "streaming"
            assert post.headers["Content-Type"] == "text/plain"


def test_node_errors_keep_the_platforms_shape(node: list[str], tmp_path: Path) -> None:
    (tmp_path / "index.mjs").write_text(
        "export const handler = async () => { throw new TypeError('bad'); };"
    )
    with runtime_api() as api, running(node, tmp_path, "index.handler", api):
        for _ in range(2):
            post = api.exchange({})
            assert re.fullmatch("/invocation/.*/error", post.path)
            assert list(post.json()) == ["errorType", "errorMessage", "trace"]
            assert post.json()["errorType"] == "TypeError"


INIT_ERRORS = {
    "missing.handler": "Runtime.ImportModuleError",
    "index.nothing": "Runtime.HandlerNotFound",
    "broken.handler": "Runtime.UserCodeSyntaxError",
    "thrower.handler": "Error",
}


@pytest.mark.parametrize("handler", INIT_ERRORS)
def test_node_init_errors(node: list[str], tmp_path: Path, handler: str) -> None:
    (tmp_path / "index.js").write_text("exports.handler = async () => 1;")
    (tmp_path / "broken.js").write_text("exports.handler = async ( => 1;")
    (tmp_path / "thrower.js").write_text("throw new Error('at init');")
    with runtime_api() as api, running(node, tmp_path, handler, api) as process:
        post = api.posted()
        assert post.path == "/init/error"
        assert post.json()["errorType"] == INIT_ERRORS[handler]
        assert post.headers["Lambda-Runtime-Function-Error-Type"] == INIT_ERRORS[handler]
        assert process.wait(20) in (1, 128, 129)


def test_node_marks_the_start_of_user_init_and_hides_it(node: list[str], tmp_path: Path) -> None:
    (tmp_path / "index.js").write_text(
        "console.log('loaded', process.env.FAAS_PHASE_MARKER, typeof awslambda.streamifyResponse);"
        "exports.handler = async () => null;"
    )
    marked = {"FAAS_PHASE_MARKER": "1"}
    with runtime_api() as api, running(node, tmp_path, "index.handler", api, **marked) as process:
        assert api.asked.wait(20)
        process.kill()
        assert process.stdout
        first, second, *rest = process.stdout.read().splitlines()
        assert re.fullmatch(rb"\x1efaas:user-init [0-9]+", first)
        assert second.endswith(b"loaded undefined function")
        assert rest == []


def test_node_refuses_what_is_not_here() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"nodejs99\.x needs Node\.js 99.*install it"):
        resolve_node("nodejs99.x", print)
    with pytest.raises(RuntimeUnavailable, match="nodejs<major>"):
        resolve_node("nodejs", print)
