"""What a process tree uses, read from /proc: PSS and CPU seconds. Linux only."""

from __future__ import annotations

import os
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def stat(pid: int) -> list[str] | None:
    """The fields after the command's name, None when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def tree(root: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu(root: int) -> float:
    """User and system seconds of the tree, with those of children it has waited for."""
    total = 0
    for pid in tree(root):
        if fields := stat(pid):
            total += sum(int(field) for field in fields[11:15])
    return total / TICK


def pss(pid: int) -> float:
    """MB (2**20) of proportional set size, 0 when the process is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def tree_pss(root: int) -> float:
    return sum(pss(pid) for pid in tree(root))


def runtimes(root: int) -> list[int]:
    """The instances' runtimes in the tree: processes whose command line names awslambdaric's handler."""
    found = []
    for pid in tree(root):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"awslambdaric" in words or any(word.endswith((b"/bootstrap", b"/bootstrap.py")) for word in words):
            found.append(pid)
    return found
