"""Touched files are told as functions, whatever way an editor saves them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from emulator.registry.sources import Source
from emulator.registry.watcher import CONFIGURATION, Watcher

PATIENCE = 20
SETTLED = 1.5
"""Seconds after which a new watch has told everything once."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text("1")
    (tmp_path / "faas.toml").write_text("")
    (tmp_path / "code.zip").write_text("")
    return tmp_path


class Told:
    def __init__(self) -> None:
        self.names: set[str] = set()
        self.more = asyncio.Event()

    async def __call__(self, names: frozenset[str]) -> None:
        self.names |= names
        self.more.set()

    async def after(self, act: Callable[[], object], *expected: str) -> set[str]:
        """What was told after ``act``, once ``expected`` is among it."""
        self.names = set()
        act()
        async with asyncio.timeout(PATIENCE):
            while not self.names >= set(expected):
                await self.more.wait()
                self.more.clear()
        return self.names


@asynccontextmanager
async def watching(watcher: Watcher, probe: Path) -> AsyncIterator[Told]:
    told = Told()
    task = asyncio.create_task(watcher.run(told))
    count = 0
    async with asyncio.timeout(PATIENCE):
        while not told.names:  # until it is on watch: it can't say so itself
            count += 1
            probe.write_text(f"probe {count}")
            await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLED)
    yield told
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_each_way_to_change_a_function(project: Path) -> None:
    sources = {
        "a": Source(project / "a", exclude=("*.md",), also=(project / "r.txt",)), "b": Source(project / "b"),
        "z": Source(project / "code.zip"),
    }

    def save_as_vim_does() -> None:
        (project / "a" / "app.py~").write_text("2")
        (project / "a" / "app.py~").replace(project / "a" / "app.py")

    def replace_the_folder() -> None:
        shutil.rmtree(project / "a")
        (project / "a").mkdir()
        (project / "a" / "app.py").write_text("3")

    async def story() -> None:
        async with watching(Watcher(sources, file=project / "faas.toml"), project / "b" / "app.py") as told:
            assert await told.after(lambda: (project / "a/app.py").write_text("2"), "a") == {"a"}
            assert await told.after(save_as_vim_does, "a") == {"a"}
            assert await told.after(lambda: (project / "code.zip").write_text("2"), "z") == {"z"}
            assert await told.after(lambda: (project / "r.txt").write_text("2"), "a") == {"a"}
            configured = await told.after(lambda: (project / "faas.toml").write_text(" "), CONFIGURATION)
            assert configured == {CONFIGURATION}

            def irrelevant() -> None:
                (project / "a" / "README.md").write_text("")
                (project / "a" / "__pycache__").mkdir()
                (project / "a" / "__pycache__" / "app.pyc").write_text("")
                (project / "b" / "app.py").write_text("2")

            assert await told.after(irrelevant, "b") == {"b"}
            await told.after(replace_the_folder, "a")
            await asyncio.sleep(SETTLED)
            assert await told.after(lambda: (project / "a/app.py").write_text("4"), "a") >= {"a"}

    asyncio.run(story())


def test_update_exchanges_what_is_watched(project: Path) -> None:
    async def story() -> None:
        watcher = Watcher({"a": Source(project / "a")})
        async with watching(watcher, project / "a" / "app.py") as told:
            await told.after(lambda: watcher.update({"b": Source(project / "b")}), "b")
            await asyncio.sleep(SETTLED)
            assert await told.after(lambda: (project / "b/app.py").write_text("2"), "b") == {"b"}

    asyncio.run(story())


def test_polling_where_it_is_asked_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")

    async def story() -> None:
        async with watching(Watcher({"a": Source(project / "a")}), project / "a" / "app.py") as told:
            for content in ("one", "two", "three"):  # within one second of each other
                save = partial((project / "a/app.py").write_text, content)
                assert await told.after(save, "a") == {"a"}

    asyncio.run(story())


def test_nothing_to_watch_waits() -> None:
    async def story() -> None:
        task = asyncio.create_task(Watcher({}).run(Told()))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
