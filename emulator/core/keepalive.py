"""Policies that answer one question: until when is an idle instance kept?"""

from __future__ import annotations

from math import inf
from typing import Protocol

from .instance import Instance


class KeepAlive(Protocol):
    """Asked each time an instance becomes idle."""

    def expiry(self, instance: Instance, now: float) -> float:
        """The time at which the instance ends unless it is used before; ``inf`` for never."""
        ...


class FixedKeepAlive:
    """The same number of seconds after each use; AWS and most others behave about like this."""

    def __init__(self, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(f"keep-alive must be zero or more seconds, not {seconds}")
        self._seconds = seconds

    def expiry(self, instance: Instance, now: float) -> float:
        return now + self._seconds if self._seconds != inf else inf
