"""``faas exec -- CMD``: the cloud for as long as one command runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    from emulator.app import StartFailed, start

    loop = asyncio.get_running_loop()
    signals = _Signals(asyncio.current_task())
    for number in _FORWARDED:
        loop.add_signal_handler(number, signals.arrived, number)
    try:
        # stdout belongs to the command alone.
        async with start(settings, project, progress=_say, write=_log) as cloud:
            for warning in cloud.warnings:
                _say(f"warning: {warning}")
            environ = environment(os.environ, settings, cloud.api_url, cloud.gateway_url)
            try:
                with signals.held():
                    process = await asyncio.create_subprocess_exec(*command, env=environ)
                    signals.process = process
            except OSError as error:
                print(f"faas: {command[0]}: {error.strerror}", file=sys.stderr)
                return 127 if isinstance(error, FileNotFoundError) else 126
            status = await process.wait()
            return 128 - status if status < 0 else status
    except StartFailed as error:
        _say(str(error))
        return FAILED
    except asyncio.CancelledError:
        if signals.first is None:
            raise
        return 128 + signals.first
    finally:
        for number in _FORWARDED:
            loop.remove_signal_handler(number)


def _say(line: str) -> None:
    print(f"faas: {line}", file=sys.stderr, flush=True)


def _log(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


class _Signals:
    """Where a signal goes: to ourselves while the cloud starts, to the command once there is one."""

    def __init__(self, starting: asyncio.Task[int] | None) -> None:
        self.first: int | None = None
        self.process: asyncio.subprocess.Process | None = None
        self._starting = starting
        self._waiting: list[int] | None = None

    def arrived(self, number: int) -> None:
        self.first = self.first or number
        if self._waiting is not None:
            self._waiting.append(number)
        elif self.process is not None:
            self._forward(number)
        elif self._starting is not None:
            self._starting.cancel()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The command may run before we know of it: what arrives meanwhile is for it."""
        self._waiting = []
        try:
            yield
        finally:
            waiting, self._waiting = self._waiting, None
            for number in waiting:
                self._forward(number)

    def _forward(self, number: int) -> None:
        # Ctrl-C on a terminal reaches the command without us, as it is in the same process group.
        if self.process is None or (number == signal.SIGINT and sys.stdin.isatty()):
            return
        try:
            self.process.send_signal(number)
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
