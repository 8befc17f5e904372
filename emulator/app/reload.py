"""Takes over edited code and configuration while running.

Requests in flight finish on the old version, the next one is cold on the new:
the fleet's ``deploy`` and ``retire`` see to that. A file that can't be used
(a syntax error in ``faas.toml``, a missing handler) is said, and the old stays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from emulator.config import ConfigError, FunctionConfig, Project, load_project
from emulator.doors.gateway import Router
from emulator.registry.sources import Source
from emulator.registry.watcher import CONFIGURATION, Watcher

from .deployment import Deployment


class Reload:
    """Owns the project as it is now."""

    def __init__(
        self, project: Project, deployment: Deployment, progress: Callable[[str], None], *, account_concurrency: int
    ) -> None:
        self.project = project
        self.router = router_of(project)
        self._deployment = deployment
        self._progress = progress
        self._account_concurrency = account_concurrency
        self._watcher = Watcher(_sources(project), file=project.file)

    async def run(self) -> None:
        """Until cancelled."""
        await self._watcher.run(self._changed)

    async def _changed(self, names: frozenset[str]) -> None:
        if CONFIGURATION in names:
            await self._reload_project()
            return
        for config in self.project.functions:
            if config.name in names:
                await self._deploy(config)

    async def _reload_project(self) -> None:
        file = self.project.file
        if file is None:
            return
        try:
            project = load_project(Path(file), account_concurrency=self._account_concurrency)
        except ConfigError as error:
            self._progress(f"{file.name} has errors, what ran before goes on:\n{error}")
            return
        before, self.project = self.project, project
        self.router = router_of(project)
        kept = {config.name for config in project.functions}
        for config in before.functions:
            if config.name not in kept:
                self._deployment.remove(config.name)
                self._progress(f"{config.name}: removed")
        for config in project.functions:
            await self._deploy(config)
        self._watcher.update(_sources(project), file=project.file)

    async def _deploy(self, config: FunctionConfig) -> None:
        problem = await self._deployment.deploy(config)
        if problem is not None:
            known = config.name in self._deployment.configured
            self._progress(f"not taken over{', the old revision goes on' if known else ''}: {problem}")


def router_of(project: Project) -> Router:
    return Router(project.routes)


def _sources(project: Project) -> dict[str, Source]:
    return {config.name: config.source for config in project.functions}
