"""Which version of a function is the one that runs now."""

from __future__ import annotations

from emulator.core.model import Version


class Functions:
    """By name, in the order of deployment."""

    def __init__(self) -> None:
        self._current: dict[str, Version] = {}

    def deploy(self, version: Version) -> Version | None:
        """Returns the version that this one replaces, if any."""
        before = self._current.get(version.function)
        self._current[version.function] = version
        return before

    def remove(self, name: str) -> Version | None:
        return self._current.pop(name, None)

    def get(self, name: str) -> Version | None:
        return self._current.get(name)

    def all(self) -> list[Version]:
        return list(self._current.values())
