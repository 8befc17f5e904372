"""When quick invocations wait a moment for a hot instance instead of waking a cold-cached one.

A hundred runtimes taking turns on two cores spend twice the CPU of six that stay
in the caches. So while enough instances of a version work on invocations known
to be quick, a further one is held for the next of these to come free. Rules that
keep it honest:

- only while an idle instance is in reserve for each that is held: whether
  anything starts cold is decided as if nobody were held;
- only when service is known to be quick, by a slowly decaying minimum (a mean
  is inflated by contention, and would never let the rule begin);
- if no instance comes free for ``PATIENCE``, all who are held go at once, and
  the estimate doubles: who is wrong about a version is soon no longer asked.
"""

from __future__ import annotations

from collections import deque
from math import inf

from .ids import InvocationId

QUICK = 0.002
"""Seconds of service below which a version's invocations are quick."""
PATIENCE = 0.010
"""Seconds without an instance coming free after which nobody is held any longer."""
_DECAY = 1.001
"""By which the estimate grows with each slower invocation."""


class Hold:
    """Of one version: its estimate, and who is held."""

    __slots__ = ("_estimate", "_progress", "waiting")

    def __init__(self) -> None:
        self._estimate = inf
        self._progress = 0.0
        self.waiting: deque[InvocationId] = deque()

    @property
    def is_quick(self) -> bool:
        return self._estimate < QUICK

    @property
    def deadline(self) -> float:
        """When patience ends, unless an instance comes free before."""
        return self._progress + PATIENCE

    def is_over(self, now: float) -> bool:
        return now >= self.deadline

    def served(self, seconds: float, now: float) -> None:
        """An invocation took so long; its instance is free now."""
        estimate = self._estimate
        self._estimate = min(seconds, estimate * _DECAY) if estimate != inf else seconds
        self._progress = now

    def waited_in_vain(self) -> None:
        """Patience is over: service is slower than was thought."""
        self._estimate *= 2

    def add(self, invocation: InvocationId, now: float) -> None:
        if not self.waiting:
            self._progress = now
        self.waiting.append(invocation)

    def take(self) -> InvocationId:
        return self.waiting.popleft()

    def take_all(self) -> list[InvocationId]:
        taken = list(self.waiting)
        self.waiting.clear()
        return taken

    def remove(self, invocation: InvocationId) -> bool:
        try:
            self.waiting.remove(invocation)
        except ValueError:
            return False
        return True
