"""What there is without an emulator: the handler in process, the exchange alone, a spawn by hand.

``bare.py starlette FOLDER``  uvicorn + starlette around the handler, in process.
``bare.py exchange FOLDER``   a blocking Runtime API server and one real awslambdaric, back to back.
``bare.py spawn FOLDER``      spawn awslambdaric until its first ``GET next`` reaches a bound port.
``bare.py docker FILE``       the same with ``create`` + ``start`` through the SDK, of a container as FILE describes.

The last three print one JSON object with milliseconds; the first serves until SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUTE = "/2015-03-31/functions/{name}/invocations"
NEXT = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    b"lambda-runtime-aws-request-id: 00000000-0000-4000-8000-000000000001\r\n"
    b"lambda-runtime-deadline-ms: %d\r\n"
    b"lambda-runtime-invoked-function-arn: arn:aws:lambda:us-east-1:000000000000:function:bare\r\n\r\n%b"
)
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


def starlette(folder: str) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    sys.path.insert(0, folder)
    handler = importlib.import_module("app").handler

    async def invoke(request: Request) -> JSONResponse:
        return Spaced(handler(json.loads(await request.body()), None))

    class Spaced(JSONResponse):
        def render(self, content: Any) -> bytes:
            return json.dumps(content).encode()  # as awslambdaric writes it

    app = Starlette(routes=[Route(ROUTE, invoke, methods=["POST"])])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(f"ready: api http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
    server.run(sockets=[listener])


def environ(folder: str, port: int) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
        "AWS_LAMBDA_FUNCTION_NAME": "bare",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
        "LAMBDA_TASK_ROOT": folder,
        "LANG": "C.UTF-8",
    }


def launch(folder: str, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "awslambdaric", "app.handler"],
        cwd=folder,
        env=environ(folder, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
    )


def accept(listener: socket.socket) -> socket.socket:
    listener.settimeout(30)
    connection, _ = listener.accept()
    connection.settimeout(30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read(connection: socket.socket) -> tuple[bytes, bytes]:
    """One request: its head and body."""
    data = connection.recv(1 << 18)
    while b"\r\n\r\n" not in data:
        more = connection.recv(1 << 18)
        if not more:
            raise ConnectionError("the runtime closed its connection")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    low = head.lower()
    at = low.find(b"content-length:")
    need = int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    parts = [body]
    have = len(body)
    while have < need:
        part = connection.recv(1 << 20)
        if not part:
            raise ConnectionError("the runtime closed its connection")
        parts.append(part)
        have += len(part)
    return head, b"".join(parts)


def exchange(folder: str, seconds: float, size: int) -> dict[str, float]:
    payload = json.dumps({"n": 0, "pad": "x" * max(0, size - 24)}).encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = launch(folder, listener.getsockname()[1])
        try:
            with accept(listener) as connection:
                read(connection)
                taken: list[float] = []
                begun = time.perf_counter()
                cpu = 0.0
                for number in range(sys.maxsize):
                    if number == 50:  # the first ones warm caches
                        begun = time.perf_counter()
                        taken.clear()
                        cpu = time.process_time()
                    start = time.perf_counter()
                    connection.sendall(NEXT % (len(payload), int(time.time() * 1000) + 60_000, payload))
                    _, body = read(connection)
                    taken.append((time.perf_counter() - start) * 1000)
                    if body != payload:
                        raise AssertionError(f"the runtime answered {body[:80]!r}")
                    connection.sendall(ACCEPTED)
                    read(connection)
                    if number > 100 and time.perf_counter() - begun > seconds:
                        break
                took = time.perf_counter() - begun
                cpu = time.process_time() - cpu
        finally:
            child.kill()
            child.wait()
    taken.sort()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "answers": len(taken),
        "errors": 0,
        "rate": len(taken) / took,
        "p50": taken[len(taken) // 2],
        "p99": taken[int(len(taken) * 0.99)],
        "server_us": cpu / len(taken) * 1e6,
        "child_us": (usage.ru_utime + usage.ru_stime) / len(taken) * 1e6,
    }


def spawn(folder: str) -> dict[str, float]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begun = time.perf_counter()
        child = launch(folder, listener.getsockname()[1])
        try:
            with accept(listener) as connection:
                read(connection)
                took = time.perf_counter() - begun
        finally:
            child.kill()
            child.wait()
    return {"ms": took * 1000}


def docker(instance: str) -> dict[str, float]:
    """Create + start to the first ``next`` of a container like one of ours: image, mounts, limits, command.

    ``instance`` is a file with what the engine says of ours (``docker inspect``).
    """
    import docker as sdk

    like = json.loads(Path(instance).read_text())
    api = sdk.APIClient(version="auto")
    name = f"faas-bench-{os.getpid()}"
    options = {"com.docker.network.bridge.enable_icc": "false"}
    network = api.create_network(name, driver="bridge", options=options, labels={"faas-bench": "1"})["Id"]
    folder = tempfile.mkdtemp(prefix="faas-bench-log-")
    log = os.path.join(folder, "log")
    os.mkfifo(log)
    os.chmod(log, 0o622)
    output = os.open(log, os.O_RDWR | os.O_NONBLOCK)
    try:
        gateway = api.inspect_network(network)["IPAM"]["Config"][0]["Gateway"]
        with socket.create_server((gateway, 0)) as listener:
            address = f"{gateway}:{listener.getsockname()[1]}"
            config, host = like["Config"], like["HostConfig"]
            wanted = ("Image", "User", "WorkingDir", "Entrypoint", "Cmd")
            body = {key: config[key] for key in wanted} | {
                "Env": [each for each in config["Env"] if not each.startswith("AWS_LAMBDA_RUNTIME_API=")]
                + [f"AWS_LAMBDA_RUNTIME_API={address}"],
                "Labels": {"faas-bench": "1"},
                "HostConfig": host | {
                    "NetworkMode": name,
                    "Binds": [f"{log}:/run/faas/log" if ":/run/faas/log" in bind else bind for bind in host["Binds"]],
                },
            }
            begun = time.perf_counter()
            container = api.create_container_from_config(body, name)["Id"]
            try:
                api.start(container)
                with accept(listener) as connection:
                    read(connection)
                    took = time.perf_counter() - begun
            finally:
                api.remove_container(container, force=True)
    finally:
        os.close(output)
        shutil.rmtree(folder)
        api.remove_network(network)
        api.close()
    return {"ms": took * 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["starlette", "exchange", "spawn", "docker"])
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=0)
    options = parser.parse_args()
    folder = os.path.abspath(options.folder)
    if options.what == "starlette":
        starlette(folder)
    elif options.what == "exchange":
        print(json.dumps(exchange(folder, options.seconds, options.size)))
    elif options.what == "spawn":
        print(json.dumps(spawn(folder)))
    else:
        print(json.dumps(docker(folder)))


if __name__ == "__main__":
    main()
