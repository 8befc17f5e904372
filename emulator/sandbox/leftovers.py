"""What a killed emulator may leave on this machine, and how it is found and removed.

Every launcher has a folder ``<runs>/<pid>-<start time>`` and cgroups of the
same name; a name whose process no longer lives is a leftover. Mounts need no
care: they exist in the launcher's and the instances' own namespaces only.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from emulator.sandbox import cgroups


def runs_folder() -> Path:
    """The private folder under which each launcher of this user has one of its own."""
    user = os.getuid()
    base = os.environ.get("XDG_RUNTIME_DIR") or ("/run" if user == 0 else tempfile.gettempdir())
    if not os.access(base, os.W_OK):
        base = tempfile.gettempdir()
    folder = Path(base) / f"faas-emulator-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != user or folder.is_symlink():
        raise OSError(f"{folder} belongs to somebody else; remove it, or set XDG_RUNTIME_DIR")
    return folder


def _is_dead(owner: str) -> bool:
    pid = owner.partition("-")[0]
    return pid.isdigit() and cgroups.identity(int(pid)) != owner


def sweep() -> list[str]:
    """Remove everything whose owner is dead; returns one line per thing removed."""
    removed: list[str] = []
    layout = cgroups.detect()
    for root in layout.all_roots():
        top = Path(root) / cgroups.TOP
        dead = [owner for owner in _subfolders(top) if _is_dead(owner.name)]
        removed += [f"cgroup {owner}" for owner in dead if _remove_groups(owner)]
        try:
            top.rmdir()
        except OSError:
            continue
    try:
        runs = runs_folder()
    except OSError:
        return removed
    for folder in _subfolders(runs):
        if _is_dead(folder.name):
            removed += [f"process {pid}" for pid in _kill_users_of(folder)]
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(f"folder {folder}")
    try:
        runs.rmdir()
    except OSError:
        pass  # another emulator of this user is at work
    return removed


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _kill_users_of(folder: Path) -> list[int]:
    """Kill what a plain sandbox's function left in a session of its own: its TMPDIR is in ``folder``."""
    killed: list[int] = []
    for entry in _subfolders(Path("/proc")):
        try:
            if not entry.name.isdigit() or f"={folder}/".encode() not in (entry / "environ").read_bytes():
                continue
            os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue  # it ended meanwhile, or is somebody else's
        killed.append(int(entry.name))
    return killed


def _remove_groups(owner: Path) -> bool:
    """Thaw, kill and delete one dead launcher's groups in one hierarchy, for at most 2 s."""
    deadline = time.monotonic() + 2
    while True:
        for group in _subfolders(owner):
            for name, value in (("cgroup.freeze", "0"), ("freezer.state", "THAWED")):
                if (group / name).exists():
                    cgroups.write(str(group / name), value)
            cgroups.kill_folder(str(group))
            try:
                group.rmdir()
            except OSError:
                continue
        try:
            owner.rmdir()
            return True
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
