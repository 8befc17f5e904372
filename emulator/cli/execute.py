"""``faas exec -- CMD``: the cloud for as long as one command runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import FAILED, USAGE
from .up import configured, expected_failures

if TYPE_CHECKING:
    from emulator.config import Project, Settings

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_exec(arguments: argparse.Namespace) -> int:
    if not arguments.command:
        print("faas: exec: what to run? faas exec [PATH] [options] -- CMD [ARG ...]", file=sys.stderr)
        return USAGE
    for name in ("port", "api_port"):
        if getattr(arguments, name) is None and not os.environ.get(f"FAAS_{name.upper()}"):
            setattr(arguments, name, "0")
    settings, project = configured(arguments)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_execute(settings, project, arguments.command))
    except expected_failures() as error:
        print(f"faas: {error}", file=sys.stderr)
        return FAILED


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _execute(settings: Settings, project: Project, command: Sequence[str]) -> int:
    from emulator.app import start

    loop = asyncio.get_running_loop()
    running: list[asyncio.subprocess.Process] = []
    stopped: list[int] = []
    main = asyncio.current_task()

    def forward(number: int) -> None:
        stopped.append(number)
        if not running:
            if main is not None:
                main.cancel()
        elif number != signal.SIGINT or not sys.stdin.isatty():
            # Ctrl-C on a terminal reaches the command without us, as it is in the same process group.
            _send(running[0], number)

    for number in _FORWARDED:
        loop.add_signal_handler(number, forward, number)
    try:
        async with start(settings, project) as cloud:
            environ = environment(os.environ, settings, cloud.api_url, cloud.gateway_url)
            try:
                process = await asyncio.create_subprocess_exec(*command, env=environ)
            except OSError as error:
                print(f"faas: {command[0]}: {error.strerror}", file=sys.stderr)
                return 127 if isinstance(error, FileNotFoundError) else 126
            running.append(process)
            status = await process.wait()
            return 128 - status if status < 0 else status
    except asyncio.CancelledError:
        if not stopped:
            raise
        return 128 + stopped[0]
    finally:
        for number in _FORWARDED:
            loop.remove_signal_handler(number)


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        pass


def environment(
    environ: Mapping[str, str], settings: Settings, api_url: str, gateway_url: str
) -> dict[str, str]:
    """What CMD sees: everything we see, and the way to this cloud instead of a real one."""
    ours = {
        "AWS_ENDPOINT_URL": api_url,
        "AWS_ENDPOINT_URL_LAMBDA": api_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "FAAS_GATEWAY_URL": gateway_url,
        "FAAS_API_URL": api_url,
    }
    # A real account's profile or session must not get mixed into it.
    real = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
    return {name: value for name, value in environ.items() if name not in real} | ours
