"""The one door inward: every door builds a request and calls ``Invoker``.

It knows functions and faults, not instances.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import count
from typing import Literal

from emulator.core.errors import FunctionNotFound, InvalidParameter, RegionNotReachable
from emulator.core.ids import InvocationId, RequestId
from emulator.core.model import Version
from emulator.core.outcome import Outcome
from emulator.fleet.fleet import Fleet
from emulator.fleet.invocation import Invocation
from emulator.registry.arns import Target, function_arn
from emulator.registry.functions import Functions

StartWish = Literal["any", "cold", "warm"]

_random = random.Random()


def new_request_id() -> RequestId:
    """A random UUID (version 4) in text. Not ``uuid4()``: that asks the kernel each time."""
    h = f"{_random.getrandbits(128):032x}"
    return RequestId(f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}")


def new_trace_id() -> str:
    """An X-Ray header: root of now, not sampled."""
    bits = _random.getrandbits(160)
    return f"Root=1-{int(time.time()):08x}-{bits >> 64:024x};Parent={bits & (2**64 - 1):016x};Sampled=0"


class Invoker:
    """See the module's text. All calls from the event loop."""

    def __init__(self, functions: Functions, fleet: Fleet, *, region: str, account: str) -> None:
        self.functions = functions
        self.region = region
        self.account = account
        self._fleet = fleet
        self._ids = count(1)

    def arn(self, name: str, qualifier: str | None = None) -> str:
        return function_arn(name, region=self.region, account=self.account, qualifier=qualifier)

    def resolve(self, target: Target, qualifier: str | None = None) -> Version:
        """Raises FunctionNotFound, RegionNotReachable, InvalidParameter."""
        if target.region is not None and target.region != self.region:
            raise RegionNotReachable(target.region, self.region)
        if qualifier and target.qualifier and qualifier != target.qualifier:
            raise InvalidParameter(
                "The derived qualifier from the function name does not match the specified qualifier."
            )
        chosen = target.qualifier or qualifier or "$LATEST"
        version = self.functions.get(target.name)
        if version is None or chosen != version.qualifier:
            raise FunctionNotFound(self.arn(target.name, chosen))
        return version

    def invoke(
        self,
        version: Version,
        payload: bytes,
        done: Callable[[Outcome], None],
        *,
        arrived_at: float | None = None,
        request_id: RequestId | None = None,
        qualifier: str | None = None,
        tail: bool = False,
        client_context: str = "",
        trace_id: str = "",
        start: StartWish = "any",
    ) -> Invocation:
        """Run it; ``done`` is told the outcome. Returns what runs, for its request id."""
        invocation = Invocation(
            InvocationId(next(self._ids)), request_id or new_request_id(), version, payload, done,
            arn=self.arn(version.function, qualifier), trace_id=trace_id or new_trace_id(),
            client_context=client_context, tail=tail, want_cold=start == "cold",
        )
        invocation.arrived_at = arrived_at or self._fleet.clock()
        if start == "warm" and not self._fleet.has_idle(version):
            invocation.prewarmed = True
            self._fleet.spawn(self._warm_first(invocation))
        else:
            self._fleet.submit(invocation)
        return invocation

    async def _warm_first(self, invocation: Invocation) -> None:
        await self._fleet.prewarm(invocation.version, 1)
        self._fleet.submit(invocation)
