"""Control groups, version 1, 2 or both at once: which are usable, and one group per instance.

Shared by the launcher (which makes and removes groups) and the emulator
(which reads counters and freezes). As small as the launcher: no heavy imports.

Layout: ``<hierarchy>/faas-emulator/<owner>/<instance>``, where the owner is
``<pid>-<start time>`` of a launcher, so that what a killed one left can be told
from what a living one uses.
"""

from __future__ import annotations

import os

TOP = "faas-emulator"
CPU_PERIOD = 100_000
"""Microseconds; the kernel's own default."""


def write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def identity(pid: int) -> str:
    """``<pid>-<start time>``: names a process without mistaking a reused pid for it. '' if dead."""
    try:
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        if os.path.isdir("/proc/self"):
            return ""
        try:  # no /proc on this platform: the pid alone must do
            os.kill(pid, 0)
        except OSError:
            return ""
        return f"{pid}-0"
    return "" if fields[0] == "Z" else f"{pid}-{fields[19]}"


class Layout:
    """Where each controller's groups are made on this machine."""

    __slots__ = ("memory", "cpu", "cpuacct", "pids", "freezer", "v2", "v2_controllers")  # noqa: RUF023

    def __init__(self) -> None:
        self.memory = self.cpu = self.cpuacct = self.pids = self.freezer = ""
        self.v2 = ""
        self.v2_controllers: frozenset[str] = frozenset()

    def roots(self, cpu_limit: bool) -> list[str]:
        """Hierarchies an instance must be put into; version 2 first."""
        wanted = [self.v2, self.memory, self.pids]
        if not self.v2:
            wanted += [self.freezer, self.cpuacct]
        if cpu_limit:
            wanted.append(self.cpu)
        return list(dict.fromkeys(root for root in wanted if root))

    def all_roots(self) -> list[str]:
        """Every hierarchy in which something of ours may be."""
        roots = [self.v2, self.memory, self.pids, self.freezer, self.cpuacct, self.cpu]
        return list(dict.fromkeys(root for root in roots if root))

    def has(self, controller: str) -> bool:
        return controller in self.v2_controllers or bool(getattr(self, controller))


def detect() -> Layout:
    """What this process may use. Tries, by making and removing a group; changes nothing else."""
    layout = Layout()
    try:
        mounts = read("/proc/self/mounts").splitlines()
    except OSError:
        return layout
    for line in mounts:
        _, point, kind, options, *_ = line.split()
        names = {"memory", "cpu", "cpuacct", "pids", "freezer"} & set(options.split(","))
        if kind == "cgroup2" and _writable(point):
            layout.v2 = point
            layout.v2_controllers = _enable(point)
        elif kind == "cgroup" and names and _writable(point):
            for name in names:
                setattr(layout, name, point)
    return layout


def _writable(root: str) -> bool:
    try:
        os.makedirs(f"{root}/{TOP}", exist_ok=True)
    except OSError:
        return False
    return os.access(f"{root}/{TOP}", os.W_OK)


def _enable(root: str) -> frozenset[str]:
    wanted = {"memory", "cpu", "pids"}
    for folder in (root, f"{root}/{TOP}"):
        there = wanted & set(read(folder + "/cgroup.controllers").split())
        for name in there - set(read(folder + "/cgroup.subtree_control").split()):
            try:
                write(folder + "/cgroup.subtree_control", "+" + name)
            except OSError:
                continue
    return frozenset(wanted & set(read(f"{root}/{TOP}/cgroup.subtree_control").split()))


def make_owner(layout: Layout, owner: str, cpu_limit: bool) -> None:
    """The folder in each hierarchy under which one launcher's groups live."""
    for root in layout.roots(cpu_limit):
        os.makedirs(f"{root}/{TOP}/{owner}", exist_ok=True)
        if root == layout.v2:
            for name in layout.v2_controllers:
                write(f"{root}/{TOP}/{owner}/cgroup.subtree_control", "+" + name)


class Group:
    """One instance's control groups, across hierarchies."""

    __slots__ = ("folders", "layout", "relative")

    def __init__(self, layout: Layout, owner: str, name: str, cpu_limit: bool) -> None:
        self.layout = layout
        self.relative = f"{TOP}/{owner}/{name}"
        self.folders = [f"{root}/{self.relative}" for root in layout.roots(cpu_limit)]

    def _file(self, controller: str, v1: str, v2: str) -> str:
        if controller in self.layout.v2_controllers:
            return f"{self.layout.v2}/{self.relative}/{v2}"
        root = getattr(self.layout, controller)
        return f"{root}/{self.relative}/{v1}" if root else ""

    def make(self, memory: int, processes: int) -> None:
        """Create the groups with their limits (bytes, count). Swap is not given on top."""
        for folder in self.folders:
            os.mkdir(folder)
        if path := self._file("memory", "memory.limit_in_bytes", "memory.max"):
            write(path, str(memory))
            swap = self._file("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
            if os.path.exists(swap):  # absent when the kernel doesn't account swap
                write(swap, "0" if "memory" in self.layout.v2_controllers else str(memory))
        if path := self._file("pids", "pids.max", "pids.max"):
            write(path, str(processes))

    def birthplace(self) -> str:
        """The folder of version 2 that a process can be born in; '' where there is none."""
        return f"{self.layout.v2}/{self.relative}" if self.layout.v2 else ""

    def join(self, born_in: str = "") -> None:
        """Move the calling, single-threaded process in, where it isn't yet.

        Version 1 has ``tasks``: moving one's own only thread needs no global lock there."""
        for folder in self.folders:
            if folder == born_in:
                continue
            v2 = bool(self.layout.v2) and folder.startswith(self.layout.v2 + "/")
            write(folder + ("/cgroup.procs" if v2 else "/tasks"), "0")

    def limit_cpu(self, share: float) -> None:
        """``share`` of one core, from now on."""
        quota = max(1000, int(share * CPU_PERIOD))
        if "cpu" in self.layout.v2_controllers:
            write(f"{self.layout.v2}/{self.relative}/cpu.max", f"{quota} {CPU_PERIOD}")
        elif self.layout.cpu:
            write(f"{self.layout.cpu}/{self.relative}/cpu.cfs_quota_us", str(quota))

    def counters(self) -> dict[str, str]:
        """Files to read: ``memory``, ``peak``, ``cpu`` ('' where there is none)."""
        cpu = ""
        if self.layout.v2:
            cpu = f"{self.layout.v2}/{self.relative}/cpu.stat"
        elif self.layout.cpuacct:
            cpu = f"{self.layout.cpuacct}/{self.relative}/cpuacct.usage"
        return {
            "memory": self._file("memory", "memory.usage_in_bytes", "memory.current"),
            "peak": self._file("memory", "memory.max_usage_in_bytes", "memory.peak"),
            "cpu": cpu,
        }

    def out_of_memory(self) -> bool:
        """Whether the limit killed a process of this group."""
        path = self._file("memory", "memory.oom_control", "memory.events")
        if not path:
            return False
        try:
            lines = read(path).splitlines()
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)

    def freeze_file(self) -> tuple[str, str, str]:
        """(path, value that freezes, value that thaws); the path is '' where it can't be done."""
        if self.layout.v2:  # preferred even on hybrids: frozen processes can still be killed
            return f"{self.layout.v2}/{self.relative}/cgroup.freeze", "1", "0"
        if self.layout.freezer:
            return f"{self.layout.freezer}/{self.relative}/freezer.state", "FROZEN", "THAWED"
        return "", "", ""

    def thaw(self) -> None:
        path, _, value = self.freeze_file()
        if path:
            try:
                write(path, value)
            except OSError:
                return

    def kill(self) -> None:
        """SIGKILL to every process in it."""
        for folder in self.folders:
            kill_folder(folder)

    def remove(self) -> bool:
        """Delete the groups. False while a dying process is still in one."""
        gone = True
        for folder in self.folders:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                continue
            except OSError:
                gone = False
        return gone


def kill_folder(folder: str) -> int:
    """SIGKILL to every process of one group; how many there were."""
    try:
        pids = [int(pid) for pid in read(folder + "/cgroup.procs").split()]
    except OSError:
        return 0
    for pid in pids:
        try:
            os.kill(pid, 9)
        except OSError:
            continue
    return len(pids)
