"""Which sandbox: Docker when an engine answers, else processes; or what was asked for."""

from __future__ import annotations

from collections.abc import Callable

from emulator.config import Settings
from emulator.sandbox.protocol import BackendUnavailable, SandboxBackend


async def choose_backend(settings: Settings, progress: Callable[[str], None]) -> SandboxBackend:
    """Opened. Raises BackendUnavailable."""
    if settings.sandbox == "docker":
        return await _docker(settings, progress)
    if settings.sandbox == "process":
        return await _process(settings, progress)
    from emulator.sandbox.docker import engine_status

    trouble = await engine_status()
    if trouble is None:
        try:
            backend = await _docker(settings, progress)
        except BackendUnavailable as error:
            progress(f"Docker can't be used ({error}): functions run in sandboxed processes")
        else:
            return backend
    backend = await _process(settings, progress)
    if trouble is not None:
        progress(f"no Docker engine ({trouble}): functions run in sandboxed processes")
    return backend


async def _docker(settings: Settings, progress: Callable[[str], None]) -> SandboxBackend:
    from emulator.sandbox.docker import DockerBackend

    backend = DockerBackend(home=settings.home, cpu_limit=settings.cpu_limit)
    await backend.open(progress)
    return backend


async def _process(settings: Settings, progress: Callable[[str], None]) -> SandboxBackend:
    from emulator.sandbox.process import ProcessBackend

    backend = ProcessBackend(home=settings.home, cpu_limit=settings.cpu_limit)
    await backend.open(progress)
    return backend
