"""``faas clean``: what an emulator that was killed could not remove itself."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .output import print_json


def clean(arguments: argparse.Namespace) -> int:
    from emulator.config import make_settings
    from emulator.registry.packages import prune

    home = make_settings(flags={"home": arguments.home}, environ=os.environ).home
    removed: list[str] = []
    notes: list[str] = []
    for sandbox, argument in (("process", ()), ("docker", (home,))):
        try:
            removed += asyncio.run(_swept(sandbox, *argument))
        except Exception as error:  # each sandbox is cleaned for itself: no engine is no reason to stop
            notes.append(f"{sandbox}: not cleaned: {error}")
    packages = [path.name for path in (home / "code").glob("*")]
    keep = [] if arguments.code else [name for name in packages if not name.startswith(".tmp-")]
    removed += [f"code {home / 'code' / name}" for name in prune(home, keep)]
    if arguments.json:
        print_json({"removed": removed, "notes": notes})
        return 0
    for line in removed:
        print(f"removed {line}")
    for note in notes:
        print(f"faas: {note}", file=sys.stderr)
    if not removed:
        print("nothing to clean")
    return 0


async def _swept(sandbox: str, *arguments: Any) -> list[str]:
    sweep: Callable[..., Any] = import_module(f"emulator.sandbox.{sandbox}").sweep
    found = sweep(*arguments)
    return list(await found if inspect.isawaitable(found) else found)
