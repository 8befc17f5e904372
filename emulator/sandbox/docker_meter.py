"""What a container uses, and freezing it, through its cgroup's files where they can be reached.

Reading three counters costs some microseconds, asking the engine some
milliseconds; writing the freezer 0.1 ms, asking the engine 11. Where the
files are out of reach (a remote engine, a container without the host's
cgroups) the engine is asked instead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.sandbox.docker_place import in_container
from emulator.sandbox.protocol import Usage

ROOT = Path(os.environ.get("FAAS_CGROUPS") or "/sys/fs/cgroup")
"""In a container (compose) the host's are mounted elsewhere: our own hide them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where this engine keeps the cgroups of its containers."""

    version: int
    pattern: str
    """Folder of a container below a hierarchy's root, with ``{id}``."""

    @staticmethod
    def of(info: Mapping[str, Any]) -> Layout:
        systemd = info.get("CgroupDriver") == "systemd"
        pattern = "system.slice/docker-{id}.scope" if systemd else "docker/{id}"
        return Layout(2 if str(info.get("CgroupVersion")) == "2" else 1, pattern)

    def folder(self, container: str, controller: str) -> Path:
        top = ROOT if self.version == 2 else ROOT / controller
        return top / self.pattern.format(id=container)


class Meter:
    """Counters and freezer of one container. ``close`` it."""

    def __init__(self, layout: Layout, container: str) -> None:
        self._layout = layout
        self._container = container
        self._files: tuple[int, ...] = ()
        self._last = Usage(None, None, None)
        self.sampled = self._last
        """What the engine last said, where the files can't be read."""

    @staticmethod
    def reaches() -> bool:
        """Are the counters of containers likely to be readable from here?"""
        return "FAAS_CGROUPS" in os.environ or not in_container()

    def open(self) -> bool:
        """Once the container runs. False when its files can't be read from here."""
        if self._layout.version == 2:
            folder = self._layout.folder(self._container, "")
            paths = [folder / "memory.current", folder / "memory.peak", folder / "cpu.stat"]
        else:
            memory = self._layout.folder(self._container, "memory")
            cpu = self._layout.folder(self._container, "cpuacct") / "cpuacct.usage"
            paths = [memory / "memory.usage_in_bytes", memory / "memory.max_usage_in_bytes", cpu]
        opened: list[int] = []
        try:
            for path in paths:
                opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 (closed on failure)
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            return False
        self._files = tuple(opened)
        return True

    def usage(self) -> Usage:
        """Now; of a container that is gone, what it used last."""
        if not self._files:
            return self.sampled
        now, peak, cpu = self._files
        try:
            memory = int(os.pread(now, 32, 0))
            memory_peak = int(os.pread(peak, 32, 0))
            if self._layout.version == 2:
                seconds = int(os.pread(cpu, 64, 0).split(b"\n", 1)[0].split()[1]) / 1e6
            else:
                seconds = int(os.pread(cpu, 32, 0)) / 1e9
        except (OSError, ValueError, IndexError):
            return self._last
        self._last = Usage(memory, memory_peak, seconds)
        return self._last

    def freeze(self, frozen: bool) -> bool:
        """False when the freezer can't be reached from here: ask the engine."""
        if self._layout.version == 2:
            file = self._layout.folder(self._container, "") / "cgroup.freeze"
            text, reached = ("1" if frozen else "0"), b"frozen 1" if frozen else b"frozen 0"
            state = file.with_name("cgroup.events")
        else:
            file = state = self._layout.folder(self._container, "freezer") / "freezer.state"
            text = "FROZEN" if frozen else "THAWED"
            reached = text.encode()
        try:
            file.write_text(text)
            for _ in range(200):
                if reached in state.read_bytes():
                    break
                time.sleep(0.0001)
        except OSError:
            return False
        return True

    def limit_cpu(self, quota: int, period: int) -> bool:
        """Microseconds of CPU per period. False when it can't be set from here."""
        try:
            if self._layout.version == 2:
                (self._layout.folder(self._container, "") / "cpu.max").write_text(f"{quota} {period}")
            else:
                folder = self._layout.folder(self._container, "cpu")
                (folder / "cpu.cfs_period_us").write_text(str(period))
                (folder / "cpu.cfs_quota_us").write_text(str(quota))
        except OSError:
            return False
        return True

    def note(self, stats: Mapping[str, Any]) -> None:
        """The engine's own statistics of the container, as its API gives them."""
        memory = stats.get("memory_stats", {})
        cpu = stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
        now = memory.get("usage")
        peak = memory.get("max_usage") or max(now or 0, self.sampled.memory_peak or 0) or None
        self.sampled = Usage(now, peak, cpu / 1e9 if cpu else None)

    def close(self) -> None:
        if self._files:
            self.sampled = self._last
        for descriptor in self._files:
            os.close(descriptor)
        self._files = ()
