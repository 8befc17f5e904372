"""The things measured: how each is started, found ready, called and stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
READY = re.compile(r"ready: api (http://\S+)(?: gateway (http://\S+))?[^\n]*\n")
HANDLERS = '''\
import json
import time


def echo(event, context):
    return event


handler = echo


def web(event, context):
    return json.loads(event["body"])


def sleep(event, context):
    time.sleep(1)
    return event
'''


class Subject:
    """A server under measurement: a process, its output in a file, its URLs."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        environ = {key: value for key, value in os.environ.items() if not key.startswith("FAAS_")}
        environ["PYTHONPATH"] = str(ROOT)
        self.begun = time.perf_counter()
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is the driver's to handle: it stops us in order
            )
        try:
            self.api, self.gateway = self._await_ready()
        except BaseException:
            self.stop()
            raise

    def _await_ready(self) -> tuple[str, str]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if found := READY.search(self.log.read_text(errors="replace")):
                return found[1].rstrip("/"), (found[2] or "").rstrip("/")
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        raise RuntimeError(f"{self.name} did not become ready:\n{self.log.read_text(errors='replace')[-2000:]}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, function: str = "echo") -> str:
        return f"{self.api}/2015-03-31/functions/{function}/invocations"

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Bench:
    """A temporary folder with the functions' code, and every subject started from it."""

    def __init__(self, sandbox: str) -> None:
        self.sandbox = sandbox
        self.folder = Path(tempfile.mkdtemp(prefix="faas-bench-"))
        self.folder.chmod(0o755)  # instances run as other users and must be able to read the code
        self.code = self.folder / "code"
        self.code.mkdir()
        (self.code / "app.py").write_text(HANDLERS)
        names = {"echo": "app.echo", "sleep": "app.sleep", "web": "app.web"}
        names |= {f"many{number}": "app.echo" for number in range(20)}
        self.functions = names
        text = "[emulator]\nmemory_capacity = 65536\n\n"  # limits are not what is measured here
        for name, handler in names.items():
            text += (
                f'[functions.{name}]\nruntime = "python{sys.version_info[0]}.{sys.version_info[1]}"\n'
                f'handler = "{handler}"\ncode = "code"\nmemory = 128\ntimeout = 60\n\n'
            )
        text += '[[routes]]\nroute = "POST /web"\nfunction = "web"\n'
        (self.folder / "faas.toml").write_text(text)
        self.running: list[Subject] = []
        self.count = 0

    def floor(self) -> Subject:
        made = [f"{name}={handler}" for name, handler in self.functions.items()]
        return self._start("floor", [sys.executable, str(HERE / "floor.py"), str(self.code), *made])

    def starlette(self) -> Subject:
        return self._start("starlette", [sys.executable, str(HERE / "bare.py"), "starlette", str(self.code)])

    def ours(self) -> Subject:
        self.count += 1
        home = self.folder / f"home{self.count}"
        home.mkdir()
        home.chmod(0o755)
        command = [sys.executable, "-m", "emulator", "up", str(self.folder), "--port", "0", "--api-port", "0",
                   "--sandbox", self.sandbox, "--home", str(home)]
        return self._start("ours", command)

    def _start(self, name: str, command: list[str]) -> Subject:
        subject = Subject(name, command, self.folder)
        self.running.append(subject)
        return subject

    def stop(self, *subjects: Subject) -> None:
        for subject in subjects or tuple(self.running):
            subject.stop()
            if subject in self.running:
                self.running.remove(subject)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def post(url: str, body: bytes = b"{}", *, timeout: float = 60) -> tuple[int, dict[str, str], bytes]:
    """One request on a new connection. Raises on a status that is not 2xx."""
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()


def program(script: str, *arguments: object) -> dict[str, float]:
    """Run one of this folder's programs and read the JSON it prints."""
    done = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(map(str, arguments))} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer
