"""What each rung of the process sandbox enforces, in words for people."""

from __future__ import annotations

import sys

from emulator.sandbox.cgroups import Layout
from emulator.sandbox.protocol import Enforcement

_ROOT = "run as root on Linux, or use Docker"


def describe(rung: str, layout: Layout, cpu_limit: bool, networks: bool) -> tuple[Enforcement, ...]:
    """Every limit, enforced or not, in a fixed order. ``networks``: instances can have their own."""
    isolated = rung != "plain"
    version = "cgroup v2" if "memory" in layout.v2_controllers else "cgroup v1"
    rows: list[Enforcement] = []
    if layout.has("memory"):
        rows.append(Enforcement("memory", True, f"{version}, no swap on top; /tmp counts as memory"))
    elif sys.platform == "linux":
        rows.append(Enforcement("memory", True, "resident size looked at every 50 ms; over it: killed"))
    else:
        rows.append(Enforcement("memory", False, "not watched on this platform", "use Docker"))
    if cpu_limit and layout.has("cpu"):
        rows.append(Enforcement("cpu", True, "quota of memory/1769 of a core, after init"))
    elif layout.has("cpu"):
        rows.append(Enforcement("cpu", False, "the whole machine", "switch cpu_limit on"))
    else:
        rows.append(Enforcement("cpu", False, "the whole machine", f"{_ROOT}, with the cpu controller"))
    if isolated:
        rows.append(Enforcement("ephemeral_storage", True, "a tmpfs of that size at /tmp"))
    else:
        rows.append(Enforcement("ephemeral_storage", False, "each file is limited, not their sum", _ROOT))
    if layout.has("pids"):
        rows.append(Enforcement("processes", True, "1024, by the pids cgroup"))
    else:
        rows.append(Enforcement("processes", False, "the user's own limit", _ROOT))
    rows.append(Enforcement("file_descriptors", True, "1024, by rlimit"))
    if isolated:
        rows += [
            Enforcement("read_only_code", True, "read-only mount"),
            Enforcement("filesystem_isolation", True, "own mount namespace with a minimal root"),
            Enforcement("process_isolation", True, "own pid and ipc namespaces"),
        ]
    else:
        rows += [
            Enforcement("read_only_code", False, "the function may write its own code", _ROOT),
            Enforcement("filesystem_isolation", False, "the user's own view of the disk", _ROOT),
            Enforcement("process_isolation", False, "sees and may signal the user's processes", _ROOT),
        ]
    if networks:
        how = 'network = "none": own network namespace; else the host\'s network'
        rows.append(Enforcement("network_isolation", True, how))
    else:
        remedy = "use Docker" if isolated else _ROOT
        rows.append(Enforcement("network_isolation", False, "the host's network", remedy))
    if layout.v2 or layout.freezer:
        rows.append(Enforcement("freeze", True, "cgroup freezer"))
    else:
        rows.append(Enforcement("freeze", False, "SIGSTOP to the process group", _ROOT))
    if rung == "root":
        rows.append(Enforcement("privileges", True, "a user per instance, no capabilities, no_new_privs"))
    elif rung == "userns":
        rows.append(Enforcement("privileges", True, "your user without capabilities, no_new_privs"))
    else:
        rows.append(Enforcement("privileges", False, "your user's own; no_new_privs on Linux", _ROOT))
    return tuple(rows)
