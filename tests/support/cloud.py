"""The cloud as a person starts it: ``faas up`` as a process, driven through its two ports."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_API = re.compile(r"\bapi\b\D*?(https?://[^\s,;\"]+)", re.IGNORECASE)
_GATEWAY = re.compile(r"\bgateway\b\D*?(https?://[^\s,;\"]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP, whatever its status. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Cloud:
    """A running cloud. ``stop()`` it, or use it in a ``with``."""

    process: subprocess.Popen[str]
    api_url: str = ""
    gateway_url: str = ""
    output: list[str] = field(default_factory=list)
    """Every line it printed so far, stdout and stderr."""
    _reader: threading.Thread = field(default_factory=threading.Thread, repr=False)

    @classmethod
    def start(cls, path: Path, *options: str, home: Path, sandbox: str, timeout: float = 300.0) -> Cloud:
        """Ready when this returns. The time allowed covers building a runtime, once."""
        command = [sys.executable, "-m", "emulator", "up", str(path), "--port", "0", "--api-port", "0"]
        process = subprocess.Popen(
            [*command, "--sandbox", sandbox, "--home", str(home), *options],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        cloud = cls(process)
        RUNNING.append(cloud)
        settled = threading.Event()  # ready, or ended
        cloud._reader = threading.Thread(target=cloud._read, args=(settled,), daemon=True)
        cloud._reader.start()
        settled.wait(timeout)
        if not (cloud.api_url and cloud.gateway_url):
            cloud.stop()
            raise AssertionError("the cloud did not become ready:\n" + "\n".join(cloud.output))
        return cloud

    @cached_property
    def client(self) -> Any:
        """boto3's Lambda client. It does not retry: a test wants to see what happened."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "lambda",
            endpoint_url=self.api_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=120, max_pool_connections=64),
        )

    def invoke(self, name: str, payload: object = None, **headers: str) -> Answer:
        """POST to the Invoke API. ``X_Faas_Start="cold"`` sends ``X-Faas-Start: cold``."""
        body = b"" if payload is None else json.dumps(payload).encode()
        path = f"/2015-03-31/functions/{name}/invocations"
        return self._request(self.api_url + path, "POST", body, headers)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """A request to the gateway."""
        return self._request(self.gateway_url + path, method, body, headers)

    def admin(self, method: str, path: str) -> Answer:
        """``cloud.admin("GET", "/_faas/health")``."""
        return self._request(self.api_url + path, method, None, {})

    def api(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Any request to the API port."""
        return self._request(self.api_url + path, method, body, headers)

    def stop(self, *, timeout: float = 20.0) -> int:
        """Ends it as Ctrl-C does; its exit status."""
        RUNNING[:] = [each for each in RUNNING if each is not self]
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"the cloud did not stop within {timeout} s:\n" + "\n".join(self.output[-40:])
            ) from None
        finally:
            self._reader.join(5)
            if self.process.stdout and not self._reader.is_alive():
                self.process.stdout.close()
            if "client" in self.__dict__:
                self.client.close()

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self, settled: threading.Event) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if not settled.is_set() and "ready" in line.lower():
                api, gateway = _API.search(line), _GATEWAY.search(line)
                if api and gateway:
                    self.api_url, self.gateway_url = api[1].rstrip("/"), gateway[1].rstrip("/")
                    settled.set()
        settled.set()

    def _request(self, url: str, method: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        request = urllib.request.Request(url, data=body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return Answer(response.status, _lower(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _lower(error.headers), error.read())


RUNNING: list[Cloud] = []
"""Started and not stopped yet, for those who clean up after a test that failed."""


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def docker_missing() -> str | None:
    """Why there is no Docker here, or None when an engine answers."""
    try:
        import docker

        client = docker.from_env(timeout=5)
        try:
            client.ping()
        finally:
            client.close()
    except Exception as error:  # whatever it is, it is the reason
        return f"no Docker engine answers: {error}"
    return None
