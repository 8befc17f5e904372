"""What was configured and can't be enforced by the sandbox on this machine."""

from __future__ import annotations

from collections.abc import Iterable

from emulator.sandbox.protocol import Enforcement

from .functions import FunctionConfig
from .project import Project


def unenforced(project: Project, enforcement: Iterable[Enforcement], *, sandbox: str = "") -> list[str]:
    """One line for each setting that would be without effect.

    With ``--strict`` the app refuses to start when there is one. Isolation that
    nobody configures (processes, files) is not in here: it is named at start and
    by ``faas doctor``.
    """
    missing: dict[str, Enforcement] = {item.limit: item for item in enforcement if not item.enforced}
    where = f"the {sandbox} sandbox" if sandbox else "the sandbox"
    lines: list[str] = []
    for function in project.functions:
        for limit, setting in _settings_of(function):
            if item := missing.get(limit):
                remedy = f"; {item.remedy}" if item.remedy else ""
                lines.append(
                    f"{function.name}: {setting} is not enforced by {where} here ({item.how}){remedy}"
                )
    return lines


def _settings_of(function: FunctionConfig) -> list[tuple[str, str]]:
    """Limit and the setting that relies on it."""
    settings = [
        ("memory", f"memory = {function.memory}"),
        ("ephemeral_storage", f"ephemeral_storage = {function.ephemeral_storage}"),
    ]
    if function.network == "none":
        settings.append(("network_isolation", 'network = "none"'))
    return settings
