"""``faas doctor``: what works on this machine, what does not, and the remedy."""

from __future__ import annotations

import argparse
import asyncio
import os
from dataclasses import asdict

from . import FAILED
from .checks import Check, all_checks
from .output import colour, print_json

_MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


def doctor(arguments: argparse.Namespace) -> int:
    from emulator.config import make_settings

    settings = make_settings(flags={"home": arguments.home}, environ=os.environ)
    numbers = {"gateway": settings.port, "API": settings.api_port}

    async def examine() -> list[Check]:
        found: list[Check] = []
        async for checks in all_checks(settings.home, settings.host, numbers):
            found += checks
            if not arguments.json:
                _show(checks)
        return found

    found = asyncio.run(examine())
    able = can_run(found)
    if arguments.json:
        print_json({"can_run": able, "checks": [asdict(check) for check in found]})
    elif not able:
        print(colour("nothing can run here: no sandbox or no runtime works", "red"))
    return 0 if able else FAILED


def can_run(checks: list[Check]) -> bool:
    """At least one sandbox and one runtime."""
    working = {(check.area, check.name) for check in checks if check.status == "ok"}
    sandbox = {("engine", "docker"), ("process", "sandbox")} & working
    return bool(sandbox) and any(area == "runtimes" for area, _ in working)


def _show(checks: list[Check]) -> None:
    for check in checks:
        mark, name = _MARKS[check.status]
        remedy = f"\n      {'':9} {'':20} -> {check.remedy}" if check.remedy and check.status != "ok" else ""
        print(f"{colour(mark, name)}  {check.area:9} {check.name:20} {check.detail}{remedy}", flush=True)
