"""Where the emulator stands as the Docker engine sees it, and who owns what.

The daemon resolves bind mounts on *its* file system. On the host that is ours;
in a container (compose) a path must be translated through our own mounts: a
named volume's folder on the host can be bind mounted like any other, which
needs no engine support for sub-paths of volumes.

Also here: the owner's mark on everything we make, by which leftovers of a
killed emulator are told from what a living one uses.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LABEL = "faas-emulator"
LABEL_HOME = "faas-emulator.home"
LABEL_OWNER = "faas-emulator.owner"
LABEL_FUNCTION = "faas-emulator.function"
LABEL_INSTANCE = "faas-emulator.instance"


@dataclass(frozen=True, slots=True)
class Place:
    """The host (``container`` is None) or the container that we run in."""

    container: str | None = None
    """Our own container's full id."""
    mounts: tuple[tuple[str, str], ...] = ()
    """(path here, path on the daemon's host), longest first."""
    networks: Mapping[str, str] | None = None
    """Network name → our address in it."""

    def on_host(self, path: Path | str) -> str | None:
        """The same file as the daemon names it; None when it can't see it."""
        path = os.path.abspath(path)
        if self.container is None:
            return path
        for here, there in self.mounts:
            if path == here or path.startswith(here.rstrip("/") + "/"):
                return there + path[len(here.rstrip("/")) :]
        return None


def in_container(environ: Mapping[str, str] = os.environ) -> bool:
    """Do we run in a container? ``FAAS_IN_DOCKER=0`` or ``1`` overrules what it looks like."""
    said = environ.get("FAAS_IN_DOCKER")
    return said not in ("0", "false", "") if said is not None else Path("/.dockerenv").exists()


def find_place(api: Any) -> Place:
    """Blocks. A container that this daemon doesn't know (Docker in Docker) counts as a host."""
    from docker.errors import NotFound

    if not in_container():
        return Place()
    try:
        own = api.inspect_container(_own_id())
    except NotFound:
        return Place()
    mounts = [(mount["Destination"], mount["Source"]) for mount in own["Mounts"] if mount.get("Source")]
    networks = own["NetworkSettings"]["Networks"]
    return Place(
        container=own["Id"],
        mounts=tuple(sorted(mounts, key=lambda pair: -len(pair[0]))),
        networks={name: each["IPAddress"] for name, each in networks.items() if each["IPAddress"]},
    )


def _own_id() -> str:
    try:
        mounted = Path("/proc/self/mountinfo").read_text()
    except OSError:
        mounted = ""
    found = re.search(r"/containers/([0-9a-f]{64})/", mounted)
    return found[1] if found else socket.gethostname()


def home_mark(home: Path, place: Place) -> str:
    """Stands for this home folder on this daemon: two projects' ``/data`` in containers differ."""
    where = place.on_host(home.resolve()) or f"{place.container}:{home.resolve()}"
    if place.container is None:
        where = f"{_machine()}:{where}"
    return hashlib.sha256(where.encode()).hexdigest()[:12]


def _machine() -> str:
    # One daemon may serve several machines (DOCKER_HOST=ssh://...).
    try:
        return Path("/etc/machine-id").read_text().strip() or socket.gethostname()
    except OSError:
        return f"{uuid.getnode():x}"


def owner_mark(place: Place) -> str:
    """Stands for this very process: ``boot.container.pid.start``."""
    container = (place.container or "host")[:12]
    return f"{_boot()}.{container}.{os.getpid()}.{_start_of(os.getpid())}"


def owner_lives(mark: str, place: Place, api: Any) -> bool:
    """Does the process that made something still run? When in doubt, yes. Blocks."""
    from docker.errors import NotFound

    try:
        boot, container, pid, start = mark.split(".")
    except ValueError:
        return False
    if boot != _boot():
        return False
    if container == (place.container or "host")[:12]:
        return _start_of(int(pid)) == start
    if container == "host":
        return True  # its processes can't be seen from in here
    try:
        return bool(api.inspect_container(container)["State"]["Running"])
    except NotFound:
        return False


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", "")[:12]
    except OSError:
        return "0"


def _start_of(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:  # no /proc on this system: that it lives is all that can be known
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "0"


def labels_for(home: str, owner: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Whose it is; and Testcontainers' session, so that its reaper reaps ours as well.

    Its libraries spell the session's label in two ways (``sessionId`` in Java
    and Go, ``session-id`` in Python and Node.js), so both are set.
    """
    labels = {LABEL: "1", LABEL_HOME: home, LABEL_OWNER: owner}
    session = environ.get("TESTCONTAINERS_SESSION_ID") or environ.get("TC_SESSION_ID")
    if session:
        labels["org.testcontainers"] = "true"
        labels["org.testcontainers.sessionId"] = session
        labels["org.testcontainers.session-id"] = session
    return labels
