"""Memory of a process tree where no cgroup counts it."""

from __future__ import annotations

import os

MEGABYTE = 1 << 20
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def tree_memory(pid: int) -> int | None:
    """Resident bytes of a process and its descendants; None where it isn't known."""
    total = 0
    seen = False
    todo = [pid]
    while todo:
        current = todo.pop()
        try:
            with open(f"/proc/{current}/statm", "rb") as file:
                total += int(file.read().split()[1]) * _PAGE
            seen = True
            for thread in os.listdir(f"/proc/{current}/task"):
                with open(f"/proc/{current}/task/{thread}/children", "rb") as file:
                    todo += [int(child) for child in file.read().split()]
        except OSError:
            continue
    return total if seen else None
