"""Networks of their own, for instances that are to reach nothing but their Runtime API.

The launcher makes a network namespace and a listener inside, and sends the
listener here. The listener alone keeps the namespace, so that nobody must
remember to give it back; at the launch it goes to the launcher again, which
finds the namespace by it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import weakref

from emulator.sandbox.channel import Channel, Message
from emulator.sandbox.protocol import LaunchFailed, LaunchSpec, Listener

_FIRST_PORT, _PORTS = 20_000, 20_000
"""No two that live at a time are the same, so that the address tells them apart."""


class OwnNetworks:
    """Asks one launcher at a time for them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._listeners: weakref.WeakValueDictionary[str, socket.socket] = weakref.WeakValueDictionary()
        """By address; only as long as their owners keep them."""

    async def listen(self, channel: Channel) -> Listener:
        """A listener on the loopback of a new network. Raises LaunchFailed."""
        number = next(self._numbers)
        port = _FIRST_PORT + number % _PORTS
        reply = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            channel.send({"op": "listen", "id": number, "port": port})
            listening = socket.socket(fileno=await reply)
        except asyncio.CancelledError:
            if reply.done() and not reply.cancelled() and reply.exception() is None:
                os.close(reply.result())  # it came in the same turn
            raise
        finally:
            del self._asked[number]
        listening.setblocking(False)
        address = f"127.0.0.1:{port}"
        self._listeners[address] = listening
        return Listener(listening, address)

    def descriptor(self, spec: LaunchSpec) -> int:
        """A copy of the listener that this launch is for. Raises LaunchFailed."""
        listener = self._listeners.get(spec.environ.get("AWS_LAMBDA_RUNTIME_API", ""))
        if listener is None or listener.fileno() < 0:
            raise LaunchFailed(f"{spec.name}: its listener was closed before it was launched")
        return os.dup(listener.fileno())

    def heard(self, message: Message, descriptor: int | None) -> None:
        """The launcher answers."""
        reply = self._asked.get(message["id"])
        if reply is not None and not reply.done():
            if descriptor is not None:
                reply.set_result(descriptor)
            else:
                reply.set_exception(LaunchFailed(message["error"]))
        elif descriptor is not None:
            os.close(descriptor)  # who asked has gone

    def lost(self) -> None:
        """The launcher has gone: nobody answers any more."""
        for reply in self._asked.values():
            if not reply.done():
                reply.set_exception(LaunchFailed("the launcher process died"))
