"""``faas new``: what it makes is a valid project, and its handlers run."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from emulator.config import load_project

from .conftest import Faas

RUNTIMES = ("python3.11", "nodejs20.x", "provided.al2023")


def test_three_functions_in_one_project(faas: Faas, tmp_path: Path) -> None:
    for runtime in RUNTIMES:
        name = runtime.partition(".")[0]
        done = faas("new", name, "--runtime", runtime)
        assert done.returncode == 0, done.stderr
        assert f"faas invoke {name}" in done.stdout
    project = load_project(tmp_path)
    assert [function.runtime for function in project.functions] == list(RUNTIMES)
    assert [route.path for route in project.routes] == ["/python3", "/nodejs20", "/provided"]
    text = (tmp_path / "faas.toml").read_text()
    assert text.startswith("#:schema ./.faas/faas.schema.json\n")
    assert json.loads((tmp_path / ".faas" / "faas.schema.json").read_text())["title"] == "faas.toml"
    assert (tmp_path / ".faas" / ".gitignore").read_text() == "*\n"


def test_nothing_is_overwritten(faas: Faas, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert faas("new", "there").returncode == 1
    (tmp_path / "faas.toml").write_text("[functions.listed]\n")
    assert faas("new", "listed").returncode == 1
    (tmp_path / "faas.toml").write_text("routes = []\n")
    assert faas("new", "unmergeable").returncode == 1
    (tmp_path / "faas.toml").write_text("[broken\n")
    assert faas("new", "fine").returncode == 1
    assert (tmp_path / "faas.toml").read_text() == "[broken\n"
    assert {path.name for path in tmp_path.iterdir()} == {"there", "faas.toml"}


def test_an_existing_file_is_kept_as_it_is(faas: Faas, tmp_path: Path) -> None:
    (tmp_path / "faas.toml").write_text("# mine\n[functions]\n")
    written = json.loads(faas("new", "b", "--json").stdout)["written"]
    assert written == ["b/app.py", "b/event.json", "faas.toml"]
    text = (tmp_path / "faas.toml").read_text()
    assert text.startswith("# mine\n[functions]\n")
    assert set(tomllib.loads(text)["functions"]) == {"b"}


@pytest.mark.parametrize(
    "words", [["a b"], ["x", "--runtime", "python311"], ["x", "--runtime", "java21"], [".."]]
)
def test_bad_names_and_runtimes(words: list[str], faas: Faas, tmp_path: Path) -> None:
    assert faas("new", *words).returncode == 2
    assert not list(tmp_path.iterdir())


def test_the_python_handler_runs(faas: Faas, tmp_path: Path) -> None:
    faas("new", "f")
    handler = runpy.run_path(str(tmp_path / "f" / "app.py"))["handler"]
    event = json.loads((tmp_path / "f" / "event.json").read_text())
    answer = handler(event, SimpleNamespace(aws_request_id="r"))
    assert json.loads(answer["body"]) == {"message": "Hello, you!"}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_node_handler_runs(faas: Faas, tmp_path: Path) -> None:
    faas("new", "f", "--runtime", "nodejs20.x")
    script = (
        "import('./f/index.mjs').then(async m => console.error((await m.handler({name: 'you'}, {})).body))"
    )
    done = subprocess.run(["node", "-e", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == {"message": "Hello, you!"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_bootstrap_speaks_the_runtime_api(faas: Faas, tmp_path: Path) -> None:
    faas("new", "f", "--runtime", "provided.al2023")
    assert os.access(tmp_path / "f" / "bootstrap", os.X_OK)
    events = [b'{"name": "you"}', '{"näme": "ü % \\\\ \\"q\\""}'.encode(), b"{}"]
    waiting, answers = list(events), []
    answered = threading.Event()

    class RuntimeApi(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if not waiting:
                answered.set()
                self.send_error(500)
                return
            body = waiting.pop(0)
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", f"request-{len(waiting)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            answers.append((self.path.split("/")[-2], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), RuntimeApi) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        process = subprocess.Popen(
            [tmp_path / "f" / "bootstrap"], stderr=subprocess.DEVNULL,
            env={"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}", "PATH": os.environ["PATH"]},
        )
        assert answered.wait(30)
        process.kill()
        process.wait()
        server.shutdown()
        thread.join()
    assert [name for name, _ in answers[:3]] == ["request-2", "request-1", "request-0"]
    assert [json.loads(body)["event"] for _, body in answers[:3]] == [json.loads(event) for event in events]
