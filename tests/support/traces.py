"""What a running cloud leaves on the machine, looked for from outside."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def processes_named(name: str) -> list[int]:
    """Host pids whose ``comm`` is ``name`` (a function sets it with prctl, at most 15 bytes)."""
    return [pid for pid in _pids() if _read(f"/proc/{pid}/comm").strip() == name]


def descendants(pid: int) -> list[int]:
    """Every living process below ``pid``, which is not among them."""
    children: dict[int, list[int]] = {}
    for each in _pids():
        fields = _read(f"/proc/{each}/stat").rpartition(")")[2].split()
        if fields and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(each)
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def launchers(pids: list[int]) -> set[str]:
    """``<pid>-<start time>`` of each, as leftovers of it are called."""
    names = set()
    for pid in pids:
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        if fields:
            names.add(f"{pid}-{fields[19]}")
    return names


def cgroups_of(owners: set[str]) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob("*/faas-emulator/*") if path.name in owners] + [
        path for path in Path("/sys/fs/cgroup").glob("faas-emulator/*") if path.name in owners
    ]


def run_folders_of(owners: set[str]) -> list[Path]:
    bases = {os.environ.get("XDG_RUNTIME_DIR") or "/run", "/tmp"}
    return [path for base in bases for path in Path(base).glob("faas-emulator-*/*") if path.name in owners]


def mounts_of(home: Path) -> list[str]:
    return [line for line in _read("/proc/self/mountinfo").splitlines() if str(home) in line]


def containers_of(home: Path) -> list[str]:
    """Containers and networks in the Docker engine that serve this home."""
    import docker

    from emulator.sandbox.docker_place import LABEL_HOME, find_place, home_mark

    client = docker.from_env(timeout=20)
    try:
        chosen = {"label": f"{LABEL_HOME}={home_mark(home, find_place(client.api))}"}
        networks = client.networks.list(filters=chosen)
        return [each.name for each in [*client.containers.list(all=True, filters=chosen), *networks]]
    finally:
        client.close()


def settle(check: Callable[[], object], *, within: float = 5.0) -> object:
    """Wait until ``check`` gives something false; what it still gives at the end."""
    deadline = time.monotonic() + within
    while (left := check()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def await_true(check: Callable[[], object], *, within: float = 10.0) -> object:
    """Wait until ``check`` gives something true, and return it; the last false value at the end."""
    deadline = time.monotonic() + within
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def run(*command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
