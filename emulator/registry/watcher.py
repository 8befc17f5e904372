"""Noticing that a function's files change while the emulator runs.

It says whose files were touched and no more: whether the content is new is for
the code store's hash to decide. Two loops, because the file watcher is either
recursive or not: one over the code folders, one over the folders around them
(a code folder that was replaced as a whole, ``faas.toml``, single files).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

from .sources import Source

CONFIGURATION = "faas.toml"
"""Stands for the configuration file among the names of what changed. No function can be called so."""

_STEP = 25
"""Milliseconds without news before changes are told: an editor writes a file in several steps."""
_DEBOUNCE = 100
"""Milliseconds after which they are told whatever goes on."""
_BLIND = 1.1
"""Seconds after which a polled change is told again: polling compares times in whole seconds, so it does
not see a second change within the first one's second."""
_SHARED = ("9p", "cifs", "drvfs", "fuse", "nfs", "prl_fs", "smb", "vboxsf", "virtiofs", "fakeowner")
"""File systems that don't tell about changes made on their other side."""


class Watcher:
    """Watches a set of sources until cancelled. ``update`` exchanges the set while it runs."""

    def __init__(self, sources: Mapping[str, Source], *, file: Path | None = None) -> None:
        self._sources = dict(sources)
        self._file = file
        self._restart = asyncio.Event()

    def update(self, sources: Mapping[str, Source], *, file: Path | None = None) -> None:
        """Watch these from now on."""
        self._sources, self._file = dict(sources), file
        self._restart.set()

    async def run(self, changed: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Call ``changed`` with the names of functions whose files were touched.

        ``CONFIGURATION`` is among them when ``faas.toml`` itself was. One call at
        a time; what happens during a call is told with the next. After
        ``update``, or when a code folder appears anew, everything new is told
        too, since it may have changed unseen. Runs until cancelled; an error
        in ``changed`` ends it.
        """
        touched: set[str] = set()
        news = asyncio.Event()

        def note(names: set[str]) -> None:
            touched.update(names)
            news.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(note))
            while True:
                await news.wait()
                news.clear()
                names, touched = frozenset(touched), set()
                if names:
                    await changed(names)

    async def _watch(self, note: Callable[[set[str]], None]) -> None:
        first = True
        while True:
            self._restart = asyncio.Event()
            sources, file = self._sources, self._file
            if not first:
                note(set(sources))
            first = False
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_inside(sources, note))
                tasks.create_task(self._watch_around(sources, file, note))

    async def _watch_inside(self, sources: Mapping[str, Source], note: Callable[[set[str]], None]) -> None:
        folders = {source.path for source in sources.values() if source.path.is_dir()}
        again = asyncio.get_running_loop().call_later
        if polling := _must_poll(folders):
            again(_BLIND, note, set(sources))
        async for paths in self._changes(folders, recursive=True, step=_STEP, poll=polling):
            names = {name for name, source in sources.items() if any(_concerns(source, path) for path in paths)}
            note(names)
            if polling and names:
                again(_BLIND, note, names)

    async def _watch_around(
        self, sources: Mapping[str, Source], file: Path | None, note: Callable[[set[str]], None]
    ) -> None:
        single = {name: {*source.also, source.path} for name, source in sources.items()}
        around = {path.parent for paths in single.values() for path in paths}
        if file is not None:
            around.add(file.parent)
        folders = {source.path for source in sources.values() if source.path.suffix not in (".zip", ".jar")}
        inodes = {folder: _inode(folder) for folder in folders}
        there = {folder for folder in around if folder.is_dir()}
        async for paths in self._changes(there, recursive=False, step=2 * _STEP, poll=_must_poll(there)):
            names = {name for name, files in single.items() if any(path in files for path in paths)}
            if file is not None and file in paths:
                names.add(CONFIGURATION)
            note(names)
            if any(_inode(folder) not in (inode, None) for folder, inode in inodes.items()):
                self._restart.set()  # a folder is another one now: look at that

    async def _changes(
        self, folders: set[Path], *, recursive: bool, step: int, poll: bool
    ) -> AsyncIterator[set[Path]]:
        """Touched paths, until ``_restart`` is set."""
        restart = self._restart
        if not folders:
            await restart.wait()
            return
        from watchfiles import awatch

        reported = {os.path.realpath(folder): folder for folder in folders}
        watch = awatch(
            *sorted(reported), watch_filter=None, stop_event=restart, recursive=recursive,
            step=step, debounce=_DEBOUNCE, force_polling=poll, poll_delay_ms=200,
            ignore_permission_denied=True,
        )
        async for changes in watch:
            yield {_as_given(path, reported) for _, path in changes}


def _as_given(path: str, reported: Mapping[str, Path]) -> Path:
    """A real path in terms of the folder it was asked for."""
    for real, given in reported.items():
        if path == real or path.startswith(real + os.sep):
            return given / path[len(real) + 1 :]
    return Path(path)


def _concerns(source: Source, path: Path) -> bool:
    """Is the touched path part of the code? Folders count by what may be in them."""
    if not path.is_relative_to(source.path):
        return False
    relative = path.relative_to(source.path).as_posix()
    return source.has(relative) or (path.is_dir() and source.may_hold(relative))


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _must_poll(folders: set[Path]) -> bool:
    """``WATCHFILES_FORCE_POLLING`` if set; else true on a file system shared with another machine."""
    if wish := os.environ.get("WATCHFILES_FORCE_POLLING"):
        return wish.lower() not in ("false", "disable", "disabled", "0")
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False  # not Linux, and no other system shares a folder without telling
    shared = []
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        if right.startswith(_SHARED):
            shared.append(Path(left.split()[4].replace("\\040", " ")))
    return any(folder.resolve().is_relative_to(mount) for folder in folders for mount in shared)

