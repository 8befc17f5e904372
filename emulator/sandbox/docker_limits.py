"""What a container may do: the engine's settings for one instance, and the same in words for people."""

from __future__ import annotations

from typing import Any

from emulator.core.model import Version
from emulator.sandbox.protocol import Enforcement

MEGABYTE = 1 << 20
FULL_CORE_MB = 1769
"""AWS: that much memory comes with one whole vCPU."""
PROCESSES = 1024
FILES = 1024


def host_config(version: Version, *, network: str, binds: list[str]) -> dict[str, Any]:
    """The ``HostConfig`` of the engine's API."""
    memory = version.memory * MEGABYTE
    return {
        "NetworkMode": network,
        "Binds": binds,
        # Docker's own default is noexec; AWS runs what functions unpack there.
        "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={version.ephemeral_storage}m"},
        "ReadonlyRootfs": True,
        "Memory": memory,
        "MemorySwap": memory,
        "CpuShares": max(2, round(1024 * version.memory / FULL_CORE_MB)),
        "PidsLimit": PROCESSES,
        "Ulimits": [
            {"Name": "nofile", "Soft": FILES, "Hard": FILES},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "IpcMode": "none",  # no /dev/shm, as on AWS
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
    }


def describe(*, cpu_limit: bool, isolated: bool, files: bool) -> tuple[Enforcement, ...]:
    """Every limit, enforced or not. ``isolated``: our own network; ``files``: cgroups within reach."""
    if cpu_limit:
        cpu = Enforcement("cpu", True, "quota of memory/1769 of a core, after init")
    else:
        cpu = Enforcement(
            "cpu", False, "shares by memory, which count on a busy machine", "switch cpu_limit on"
        )
    if isolated:
        network = Enforcement("network_isolation", True, "own bridge without traffic between instances")
    else:
        network = Enforcement(
            "network_isolation", False, "instances share the compose network with its services",
            "run the emulator on the host",
        )  # fmt: skip
    return (
        Enforcement("memory", True, "container limit, no swap on top; /tmp counts as memory"),
        cpu,
        Enforcement("ephemeral_storage", True, "a tmpfs of that size at /tmp"),
        Enforcement("processes", True, f"{PROCESSES}, by the pids cgroup"),
        Enforcement("file_descriptors", True, f"{FILES}, by ulimit"),
        Enforcement("read_only_code", True, "read-only mount; the root is read-only, too"),
        Enforcement("filesystem_isolation", True, "the image's files and its own mounts only"),
        Enforcement("process_isolation", True, "own pid and ipc namespaces"),
        network,
        Enforcement("freeze", True, "cgroup freezer" if files else "docker pause"),
        Enforcement("privileges", True, "user 993, no capabilities, no new privileges, seccomp"),
    )
