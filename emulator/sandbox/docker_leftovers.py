"""What a killed emulator may leave in the Docker engine, and how it is found and removed.

Everything we make carries two labels: whose home folder it serves and which
process made it. What serves this home and whose process is gone is a leftover.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

from emulator.sandbox.docker_engine import connect, engine_status, engine_url
from emulator.sandbox.docker_place import LABEL_HOME, LABEL_OWNER, Place, find_place, home_mark, owner_lives


async def sweep(home: Path) -> list[str]:
    """Remove everything of this home whose owner is dead; one line per thing removed.

    Empty without an engine. Doesn't touch what a living emulator uses.
    """
    import asyncio

    if await engine_status() is not None:
        return []

    def work() -> list[str]:
        api = connect(engine_url())
        try:
            return sweep_with(api, home.absolute(), find_place(api))
        finally:
            api.close()

    return await asyncio.to_thread(work)


def sweep_with(api: Any, home: Path, place: Place) -> list[str]:
    """The same over a connection that is there. Blocks."""
    from docker.errors import APIError

    chosen = {"label": f"{LABEL_HOME}={home_mark(home, place)}"}
    removed: list[str] = []
    alive: dict[str, bool] = {}

    def orphaned(owner: str) -> bool:
        if owner not in alive:
            alive[owner] = owner_lives(owner, place, api)
        return not alive[owner]

    for container in api.containers(all=True, filters=chosen):
        if orphaned(container["Labels"].get(LABEL_OWNER, "")):
            with contextlib.suppress(APIError):  # somebody else removes it just now
                api.remove_container(container["Id"], force=True, v=True)
            removed.append(f"container {container['Names'][0].lstrip('/')}")
    for network in api.networks(filters=chosen):
        if orphaned(network["Labels"].get(LABEL_OWNER, "")):
            with contextlib.suppress(APIError):
                if place.container is not None:
                    api.disconnect_container_from_network(place.container, network["Id"], force=True)
            with contextlib.suppress(APIError):
                api.remove_network(network["Id"])
                removed.append(f"network {network['Name']}")
    runs = home / "run" / "docker"
    for folder in runs.iterdir() if runs.is_dir() else ():
        if orphaned(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(f"folder {folder}")
    return removed
