"""From configured functions to versions that run, and from edited files to new versions."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from emulator.config import FunctionConfig
from emulator.core.model import Version
from emulator.fleet.fleet import Fleet
from emulator.registry.functions import Functions
from emulator.registry.packages import Package, store
from emulator.registry.sources import PackageError
from emulator.sandbox.protocol import BackendUnavailable, SandboxBackend

Progress = Callable[[str], None]


class Deployment:
    """Deploys functions to the fleet; remembers what each was configured as."""

    def __init__(
        self, functions: Functions, fleet: Fleet, backend: SandboxBackend, *, home: Path, progress: Progress
    ) -> None:
        self._functions = functions
        self._fleet = fleet
        self._backend = backend
        self._home = home
        self._progress = progress
        self.configured: dict[str, FunctionConfig] = {}

    async def deploy(self, config: FunctionConfig) -> str | None:
        """Make this the running version; None, or why it can't be, with the remedy.
        The version that runs now stays in place when this fails or is the same."""
        try:
            package = await asyncio.to_thread(
                store, config.code, home=self._home, include=config.include, exclude=config.exclude,
                requirements=config.requirements, runtime=config.runtime, progress=self._progress,
            )
            version = version_of(config, package)
            await self._backend.prepare(version, self._progress)
        except (PackageError, BackendUnavailable, OSError) as error:
            return f"{config.name}: {error}"
        self.configured[config.name] = config
        current = self._functions.get(config.name)
        if current is not None and current.id == version.id:
            return None
        self._fleet.deploy(version)
        replaced = self._functions.deploy(version)
        if replaced is not None:
            self._fleet.retire(replaced)
            self._progress(f"{config.name}: revision {replaced.revision} -> {version.revision}")
        if config.prewarm:
            self._fleet.spawn(self._fleet.prewarm(version, config.prewarm))
        return None

    async def deploy_all(self, configs: tuple[FunctionConfig, ...]) -> list[str]:
        """All at once; returns what went wrong, one line each."""
        results = await asyncio.gather(*(self.deploy(config) for config in configs))
        return [line for line in results if line is not None]

    def remove(self, name: str) -> None:
        self.configured.pop(name, None)
        version = self._functions.remove(name)
        if version is not None:
            self._fleet.retire(version)


def version_of(config: FunctionConfig, package: Package) -> Version:
    settings = {k: v for k, v in asdict(config).items() if k not in ("code", "include", "exclude", "requirements")}
    text = json.dumps([package.sha256_hex, settings], sort_keys=True, default=str)
    return Version(
        function=config.name, runtime=config.runtime, handler=config.handler, code=package.path,
        code_sha256=package.code_sha256, code_size=package.size,
        revision=hashlib.sha256(text.encode()).hexdigest()[:12], memory=config.memory, timeout=float(config.timeout),
        ephemeral_storage=config.ephemeral_storage, environment=dict(config.environment),
        reserved_concurrency=config.reserved_concurrency, keep_alive=config.keep_alive, network=config.network,
        description=config.description,
        last_modified=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000",
    )
