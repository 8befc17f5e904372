"""Noticing that a function's files change while the emulator runs.

It says whose files were touched and no more: whether the content is new is for
the code store's hash to decide. Two loops, because the file watcher is either
recursive or not: one over the code folders, one over the folders around them
(a code folder that was replaced as a whole, ``faas.toml``, single files).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .sources import Source

if TYPE_CHECKING:
    from watchfiles import Change

CONFIGURATION = "faas.toml"
"""Stands for the configuration file among the names of what changed. No function can be called so."""

_STEP = 25
"""Milliseconds without news before changes are told: an editor writes a file in several steps."""
_DEBOUNCE = 100
"""Milliseconds after which they are told whatever goes on."""
_BLIND = 1.1
"""Seconds after which to tell once more what may have been missed: while a watch was being set up, or by
polling, which compares times in whole seconds and so sees only the first change within one."""
_SHARED = ("9p", "cifs", "drvfs", "fuse", "nfs", "prl_fs", "smb", "vboxsf", "virtiofs", "fakeowner")
"""File systems that don't tell about changes made on their other side."""


class Watcher:
    """Watches a set of sources until cancelled. ``update`` exchanges the set while it runs."""

    def __init__(self, sources: Mapping[str, Source], *, file: Path | None = None) -> None:
        self._sources = dict(sources)
        self._file = file
        self._seen = _state(file)
        self._restart = asyncio.Event()

    def update(self, sources: Mapping[str, Source], *, file: Path | None = None) -> None:
        """Watch these from now on."""
        self._sources, self._file, self._seen = dict(sources), file, _state(file)
        self._restart.set()

    async def run(self, changed: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Call ``changed`` with the names of functions whose files were touched.

        ``CONFIGURATION`` is among them when ``faas.toml`` itself was. One call at
        a time; what happens during a call is told with the next. Shortly after
        the start, after ``update`` and when a code folder was replaced, all
        functions are told, since they may have changed unseen. Runs until
        cancelled; an error in ``changed`` ends it.
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
        while True:
            self._restart = asyncio.Event()
            sources, file = self._sources, self._file
            asyncio.get_running_loop().call_later(_BLIND, self._tell_unseen, note, set(sources))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_inside(sources, note))
                tasks.create_task(self._watch_around(sources, file, note))

    def _tell_unseen(self, note: Callable[[set[str]], None], names: set[str]) -> None:
        if _state(self._file) != self._seen:
            self._seen = _state(self._file)
            names = {*names, CONFIGURATION}
        note(names)

    async def _watch_inside(self, sources: Mapping[str, Source], note: Callable[[set[str]], None]) -> None:
        folders = {source.path for source in sources.values() if source.path.is_dir()}
        polling = _must_poll(folders)
        async for changes in self._changes(folders, recursive=True, step=_STEP, poll=polling):
            paths = [path for _, path in changes]
            names = {name for name, source in sources.items() if _concerns(source, paths)}
            note(names)
            if polling and names:
                asyncio.get_running_loop().call_later(_BLIND, note, names)

    async def _watch_around(
        self, sources: Mapping[str, Source], file: Path | None, note: Callable[[set[str]], None]
    ) -> None:
        single = {name: {*source.also, source.path} for name, source in sources.items()}
        around = {path.parent for paths in single.values() for path in paths}
        if file is not None:
            around.add(file.parent)
        from watchfiles import Change

        folders = {source.path for source in sources.values() if source.path.suffix not in (".zip", ".jar")}
        there = {folder for folder in around if folder.is_dir()}
        poll = _must_poll(there)
        async for changes in self._changes(there, recursive=False, step=2 * _STEP, poll=poll):
            paths = {path for _, path in changes}
            names = {name for name, files in single.items() if any(path in files for path in paths)}
            if file is not None and file in paths:
                names.add(CONFIGURATION)
            note(names)
            if any(kind != Change.modified and path in folders for kind, path in changes):
                self._restart.set()  # a folder is gone, or another one now: look at that

    async def _changes(
        self, folders: set[Path], *, recursive: bool, step: int, poll: bool
    ) -> AsyncIterator[set[tuple[Change, Path]]]:
        """Touched paths and how, until ``_restart`` is set."""
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
            yield {(kind, _as_given(path, reported)) for kind, path in changes}


def _state(file: Path | None) -> tuple[int, int] | None:
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if found is not None else None


def _as_given(path: str, reported: Mapping[str, Path]) -> Path:
    """A real path in terms of the folder it was asked for."""
    for real, given in reported.items():
        if path == real or path.startswith(real + os.sep):
            return given / path[len(real) + 1 :]
    return Path(path)


def _concerns(source: Source, paths: Iterable[Path]) -> bool:
    """Is a touched path part of the code? Folders count by what may be in them."""
    for path in paths:
        if path.is_relative_to(source.path):
            relative = path.relative_to(source.path).as_posix()
            if source.has(relative) or (path.is_dir() and source.may_hold(relative)):
                return True
    return False


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

