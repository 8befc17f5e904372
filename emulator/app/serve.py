"""``faas up``: run a cloud until a signal, and say on the terminal what there is."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from emulator.config import Project, Settings

from .cloud import Cloud, StartFailed, start, write_safely


def run(main: Coroutine[Any, Any, int]) -> int:
    """With uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def serve(settings: Settings, project: Project) -> int:
    """Blocks until Ctrl-C or SIGTERM; the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return run(_serve(settings, project))
    except StartFailed as failed:
        print(f"faas: {failed}", file=sys.stderr)
        return 2


async def _serve(settings: Settings, project: Project) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)  # asked twice: the launcher and the next start clean up
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    ready = asyncio.Event()
    started = asyncio.create_task(_until(stop, ready, settings, project))
    await asyncio.wait({started, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if not started.done() and not ready.is_set():
        started.cancel()  # still starting (an image is being built, say)
    try:
        await started
    except asyncio.CancelledError:
        return 0
    return 0


async def _until(stop: asyncio.Event, ready: asyncio.Event, settings: Settings, project: Project) -> None:
    def progress(line: str) -> None:
        print(f"faas: {line}", file=sys.stderr, flush=True)

    async with start(settings, project, progress=progress) as cloud:
        ready.set()
        gc.collect()
        gc.freeze()  # what start-up made lives as long as we do: don't walk it again
        gc.set_threshold(50_000, 20, 50)
        _announce(cloud)
        await stop.wait()
        if settings.log_format == "text":
            progress("stopping")


def _announce(cloud: Cloud) -> None:
    """Warnings, then what there is; in one write, since whoever waits for it may go right after."""
    for warning in cloud.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    functions = sorted(cloud.invoker.functions.all(), key=lambda v: v.function)
    lines = [f"sandbox: {cloud.backend.name}: {cloud.backend.description}"]
    if functions:
        lines.append("functions:")
        width = max(len(v.function) for v in functions)
        for version in functions:
            first, *more = cloud.routes_of(version.function) or ["(no route)"]
            lines.append(f"  {version.function:<{width}}  {version.runtime:<16} {first}")
            lines += [f"  {'':<{width}}  {'':<16} {url}" for url in more]
    lines.append(
        f"ready: api {cloud.api_url} gateway {cloud.gateway_url} sandbox {cloud.backend.name} "
        f"({len(functions)} function{'s' * (len(functions) != 1)})"
    )
    lines.append(f"try:   {_first_call(cloud)}")
    # With --log-format json, stdout is for machines.
    write_safely("\n".join([*lines, ""]), sys.stderr if cloud.settings.log_format == "json" else sys.stdout)


def _first_call(cloud: Cloud) -> str:
    for route in cloud.reload.project.routes:
        if route.method in ("GET", "ANY") and "{" not in route.path and route.path != "$default":
            return f"curl -i {cloud.gateway_url}{route.path}"
    functions = cloud.invoker.functions.all()
    if functions:
        name = functions[0].function
        return f"curl -i -d '{{}}' {cloud.api_url}/2015-03-31/functions/{name}/invocations"
    return f"curl {cloud.api_url}/_faas/health"
