"""``up`` and ``exec``: configuration is judged before anything starts, and a command's end is ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Faas, environ

STUB = """
import sys, types
from contextlib import asynccontextmanager
app = types.ModuleType("emulator.app")

@asynccontextmanager
async def start(settings, project, *, progress, write):
    if settings.port == 1:
        raise app.StartFailed("port 1 is in use")
    write("a log line\\n")
    print("started", settings.port, settings.api_port, settings.sandbox, file=sys.stderr, flush=True)
    try:
        api, gateway = "http://127.0.0.1:1", "http://127.0.0.1:2"
        yield types.SimpleNamespace(api_url=api, gateway_url=gateway, warnings=["weak"])
    finally:
        print("stopped", file=sys.stderr, flush=True)

def serve(settings, project):
    print(settings.port, len(project.functions), settings.strict, settings.watch)
    if settings.port == 1:
        raise OSError("port 1 is in use")
    return 0

app.StartFailed = type("StartFailed", (Exception,), {})
app.start, app.serve = start, serve
sys.modules["emulator.app"] = app
from emulator.cli import main
sys.exit(main())
"""


def run(folder: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """``faas`` with the app's two doors replaced: here only what the command does with them counts."""
    return subprocess.run(
        [sys.executable, "-c", STUB, *words], cwd=folder, env=environ(**extra),
        capture_output=True, text=True, timeout=60, check=False,
    )


def test_bad_configuration_is_2_with_every_error(faas: Faas, tmp_path: Path) -> None:
    (tmp_path / "faas.toml").write_text("[emulator]\nprot = 1\n[functions.x]\nmemory = 1\n")
    done = faas("up", "--port", "many", FAAS_SANDBOX="podman")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert all(line.startswith("faas: ") for line in lines)
    for part in ("--port", "FAAS_SANDBOX", "faas.toml:2: emulator.prot", "faas.toml:4: functions.x.memory"):
        assert sum(part in line for line in lines) == 1, (part, lines)
    assert not (tmp_path / ".faas").exists()


def test_up_hands_over_what_was_asked(tmp_path: Path) -> None:
    done = run(tmp_path, "up", ".", "--port", "0", "--strict", "--no-watch")
    assert (done.returncode, done.stdout) == (0, "0 0 True False\n")
    assert "without functions" in done.stderr
    done = run(tmp_path, "up", FAAS_PORT="1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "faas: port 1 is in use"


def test_exec_gives_the_command_its_way_to_the_cloud(tmp_path: Path) -> None:
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    done = run(
        tmp_path, "exec", "--sandbox", "process", "--", sys.executable, "-c", script, "--not-ours",
        AWS_PROFILE="production", AWS_SESSION_TOKEN="real", AWS_ACCESS_KEY_ID="real",
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LAMBDA", "FAAS_API_URL"):
        assert told[name] == "http://127.0.0.1:1"
    assert told["FAAS_GATEWAY_URL"] == "http://127.0.0.1:2"
    assert told["AWS_ACCESS_KEY_ID"] == told["AWS_SECRET_ACCESS_KEY"] == "test"
    assert told["AWS_REGION"] == told["AWS_DEFAULT_REGION"] == "us-east-1"
    assert told["AWS_EC2_METADATA_DISABLED"] == "true"
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN"} & set(told)
    assert "a log line\n" in done.stderr
    assert "warning: weak\n" in done.stderr
    assert "started 0 0 process" in done.stderr
    assert done.stderr.splitlines()[-1] == "stopped"


def test_exec_that_can_t_start_says_why(tmp_path: Path) -> None:
    done = run(tmp_path, "exec", "--port", "1", "--", "true")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "faas: port 1 is in use"


@pytest.mark.parametrize(("command", "status"), [
    (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], 137),
    (["no-such-command-here"], 127), (["/"], 126),
])
def test_exec_ends_as_its_command(command: list[str], status: int, tmp_path: Path) -> None:
    done = run(tmp_path, "exec", "--", *command)
    assert done.returncode == status
    assert done.stderr.splitlines()[-1] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exec_passes_signals_on_and_still_stops(number: signal.Signals, tmp_path: Path) -> None:
    script = "trap 'echo caught; exit 3' INT TERM; echo up; while :; do sleep 0.05; done"
    command = ["exec", "--port", "5", "--", "sh", "-c", script]
    with subprocess.Popen(
        [sys.executable, "-c", STUB, *command], cwd=tmp_path, env=environ(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("caught\n", 3)
    assert "started 5 0 auto" in err
    assert err.splitlines()[-1] == "stopped"
