"""Account, reserved and unreserved concurrency: arithmetic on counts, no instances.

Source: AWS Lambda Developer Guide, "Understanding Lambda function scaling".
"""

from __future__ import annotations

from dataclasses import dataclass

from .orders import RejectReason

ACCOUNT_DEFAULT = 1000
UNRESERVED_MINIMUM = 100
"""At least this much of the account's concurrency can't be reserved."""


@dataclass(slots=True)
class _Share:
    in_flight: int = 0
    reserved: int | None = None


class Concurrency:
    """Counts invocations in flight against their limits. Invariant: in flight
    never exceeds a limit that held when the invocation was admitted."""

    def __init__(self, account: int = ACCOUNT_DEFAULT) -> None:
        self.account = account
        self.in_flight = 0
        self._reserved_total = 0
        self._unreserved_in_flight = 0
        self._shares: dict[str, _Share] = {}

    def reserve(self, function: str, reserved: int | None) -> None:
        self._shares.setdefault(function, _Share()).reserved = reserved
        self._recount()

    def admit(self, function: str) -> RejectReason | None:
        """Count one more invocation in, or say why not."""
        share = self._shares.get(function)
        if share is None:
            share = self._shares[function] = _Share()
        if share.reserved is not None:
            if share.in_flight >= share.reserved:
                return RejectReason.RESERVED
        elif self._unreserved_in_flight >= self.account - self._reserved_total:
            return RejectReason.ACCOUNT
        else:
            self._unreserved_in_flight += 1
        share.in_flight += 1
        self.in_flight += 1
        return None

    def release(self, function: str) -> None:
        share = self._shares[function]
        share.in_flight -= 1
        self.in_flight -= 1
        if share.reserved is None:
            self._unreserved_in_flight -= 1

    def of(self, function: str) -> int:
        """Invocations of the function in flight."""
        share = self._shares.get(function)
        return share.in_flight if share else 0

    def _recount(self) -> None:
        self._reserved_total = sum(s.reserved for s in self._shares.values() if s.reserved is not None)
        self._unreserved_in_flight = sum(s.in_flight for s in self._shares.values() if s.reserved is None)
