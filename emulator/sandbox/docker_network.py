"""The networks that instances live in, and where the Runtime API listens for them.

On a host every emulator has a bridge of its own without traffic between its
containers (``enable_icc=false``), and a second, ``internal`` one, as soon as a
version wants ``network = "none"``. The Runtime API listens on a bridge's own
address; on the internal bridge's once there is one, because containers of
both reach that, while nothing else can be reached from the internal one.

In a container (compose) the instances join the compose network named by
``FAAS_DOCKER_NETWORK`` (default: the first that we are in), so that they
reach its other services by name, and the Runtime API listens on our own
address there. Docker can't part containers of one such network.

Docker Desktop's bridges are in its virtual machine, not here: then we listen
on the loopback and are found as ``host.docker.internal``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.core.model import Network
from emulator.sandbox.docker_engine import Engine
from emulator.sandbox.docker_place import LABEL_HOME, Place
from emulator.sandbox.protocol import BackendUnavailable, Listener

DESKTOP_NAME = "host.docker.internal"
_BACKLOG = 16


class Networks:
    """Made in ``open`` and on demand, removed in ``aclose``."""

    def __init__(self, engine: Engine, place: Place, labels: Mapping[str, str]) -> None:
        self._engine = engine
        self._place = place
        self._labels = dict(labels)
        self._name = f"faas-{labels[LABEL_HOME]}-{os.getpid()}"
        self._made: dict[str, str] = {}
        """Name → id of what we made."""
        self._names: dict[Network, str] = {}
        self._bind = ""
        self._address = ""
        self._internal_address = ""
        self._making = asyncio.Lock()
        self.isolated = False
        """Instances can't reach each other."""
        self.desktop = False

    async def open(self) -> None:
        if self._place.container is None:
            address = await self._make(self._name, internal=False)
            self._names["default"] = self._name
            self.isolated = True
            self.desktop = not _is_ours(address)
            self._bind = "127.0.0.1" if self.desktop else address
            self._address = DESKTOP_NAME if self.desktop else address
            return
        ours = self._place.networks or {}
        wanted = os.environ.get("FAAS_DOCKER_NETWORK") or next(iter(ours), "")
        if wanted not in ours:
            raise BackendUnavailable(
                f"the emulator's container is not in the network {wanted!r} "
                f"(it is in: {', '.join(ours) or 'none'}): "
                "set FAAS_DOCKER_NETWORK to one of its networks"
            )
        self._names["default"] = wanted
        self._bind = self._address = ours[wanted]

    async def provide(self, network: Network) -> None:
        """Have this kind of network, before a version that wants it is launched."""
        async with self._making:
            if network in self._names:
                return
            name = f"{self._name}-internal"
            address = await self._make(name, internal=True)
            self._names[network] = name
            if self._place.container is not None:
                connect = self._engine.api.connect_container_to_network
                await self._engine.call(connect, self._place.container, name)
                own = await self._engine.call(self._engine.api.inspect_container, self._place.container)
                # Neither network reaches our address in the other: listen on both.
                self._internal_address = own["NetworkSettings"]["Networks"][name]["IPAddress"]
                self._bind = ""
            elif not self.desktop:
                self._bind = self._address = address

    def listen(self) -> Listener:
        # A socket per instance costs less than an event loop's helper would.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self._bind, 0))
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        return Listener(listening, f"{self._address}:{listening.getsockname()[1]}")

    def name(self, network: Network) -> str:
        return self._names[network]

    def endpoint(self, network: Network, hardware_address: str) -> dict[str, Any]:
        """The part of a container's configuration that gives it this hardware address."""
        address = {"MacAddress": hardware_address}
        version = tuple(map(int, self._engine.api._version.split(".")))
        if version < (1, 44):
            return address
        return {"NetworkingConfig": {"EndpointsConfig": {self._names[network]: address}}}

    def environ(self, network: Network, environ: Mapping[str, str]) -> Mapping[str, str]:
        """The Runtime API's address as this network sees it."""
        if network != "none" or not self._internal_address:
            return environ
        port = environ.get("AWS_LAMBDA_RUNTIME_API", "").rpartition(":")[2]
        return {**environ, "AWS_LAMBDA_RUNTIME_API": f"{self._internal_address}:{port}"}

    @property
    def address(self) -> str:
        """A host name or address at which instances of the default network reach this process."""
        return self._address

    async def _make(self, name: str, *, internal: bool) -> str:
        options = (
            {}
            if self._place.container and not internal
            else {
                "com.docker.network.bridge.enable_icc": "false" if self._place.container is None else "true"
            }
        )
        api: Any = self._engine.api
        try:
            made = await self._engine.call(
                api.create_network, name, driver="bridge", options=options, labels=self._labels,
                internal=internal, check_duplicate=True,
            )  # fmt: skip
            self._made[name] = made["Id"]
            facts = await self._engine.call(api.inspect_network, made["Id"])
        except Exception as error:
            raise BackendUnavailable(
                f"Docker can't make a network for the instances: {getattr(error, 'explanation', error)} "
                "(`docker network prune` frees address ranges)"
            ) from error
        configured = facts["IPAM"]["Config"][0]
        return str(configured.get("Gateway") or configured["Subnet"].rpartition(".")[0] + ".1").partition(
            "/"
        )[0]

    async def aclose(self) -> None:
        for name, network in list(self._made.items()):
            with contextlib.suppress(Exception):  # gone with the engine; the next sweep looks again
                if self._place.container is not None:
                    disconnect = self._engine.api.disconnect_container_from_network
                    await self._engine.call(disconnect, self._place.container, network, force=True)
            with contextlib.suppress(Exception):
                await self._engine.call(self._engine.api.remove_network, network)
            del self._made[name]


def hardware_address(address: str) -> str:
    """Whose interface has this address in a network of ours, as the kernel knows it; empty: unknown."""
    try:
        table = Path("/proc/net/arp").read_text()
    except OSError:
        return ""
    rows = (line.split() for line in table.splitlines()[1:])
    return next((row[3].lower() for row in rows if len(row) > 3 and row[0] == address), "")


def _is_ours(address: str) -> bool:
    """Does this machine have that address?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
