"""A setting that would be without effect is named with function, sandbox and remedy."""

from __future__ import annotations

from collections.abc import Callable

from emulator.config import Project, unenforced
from emulator.sandbox.protocol import Enforcement

from .examples import FUNCTION


def test_only_what_is_used_and_missing(read: Callable[[str], Project]) -> None:
    project = read(FUNCTION + 'network = "none"\n')
    lines = unenforced(project, [
        Enforcement("memory", True, "cgroup v2"),
        Enforcement("network_isolation", False, "no network namespaces", "run as root"),
        Enforcement("freeze", False, "no freezer"),
    ], sandbox="process")
    assert lines == [
        'f: network = "none" is not enforced by the process sandbox here (no network namespaces); run as root'
    ]
    assert unenforced(read(FUNCTION), [Enforcement("network_isolation", False, "x")]) == []
    assert len(unenforced(read(FUNCTION), [Enforcement("memory", False, "x")])) == 1
