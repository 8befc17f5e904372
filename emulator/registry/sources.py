"""Which files of a folder are a function's code.

One answer for the three who ask: the code store (what to copy), the watcher
(what to look at) and the configuration (is the handler there).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

DEFAULT_EXCLUDES = (
    ".git", ".hg", ".svn", ".idea", ".vscode", ".DS_Store", ".faas", "faas.toml", "node_modules/.cache",
    "__pycache__", "*.pyc", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache",
)
"""Never code, whatever ``include`` says. Each may stand at any depth."""


@lru_cache(maxsize=512)
def _expression(pattern: str) -> re.Pattern[str]:
    """A glob as an expression for a path relative to the code folder, ``/`` between its parts.

    ``*`` and ``?`` stay within one part, ``**`` spans parts. A pattern without a
    slash (except at its end) matches at any depth, as in ``.gitignore``. What a
    pattern says of a folder holds for everything in it.
    """
    anchored = "/" in pattern.rstrip("/")
    pattern = pattern.strip("/").removeprefix("./")
    out = "" if anchored else r"(?:.*/)?"
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + r"(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + r".*", at + 2
        elif pattern[at] == "*":
            out, at = out + r"[^/]*", at + 1
        elif pattern[at] == "?":
            out, at = out + r"[^/]", at + 1
        elif pattern[at] == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", r"\\")
            out, at = out + f"[{'^' + inside[1:] if inside[0] == '!' else inside}]", end + 1
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return re.compile(out + r"(?:/.*)?", re.DOTALL)


def matches(path: str, pattern: str) -> bool:
    """Does the glob say something about this relative path?"""
    return _expression(pattern).fullmatch(path) is not None


_DEFAULTS = re.compile("|".join(f"(?:{_expression(p if '/' not in p else '**/' + p).pattern})"
                                for p in DEFAULT_EXCLUDES), re.DOTALL)


class PackageError(Exception):
    """A function's code can't be packaged. The message names the thing and the remedy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a source."""

    relative: str
    """``/`` between its parts."""
    path: Path
    link: str | None = None
    """What it points to, if it is a symbolic link that stays one."""


@dataclass(frozen=True, slots=True)
class Source:
    """A function's code as its author keeps it: a folder or a zip file."""

    path: Path
    include: tuple[str, ...] = ()
    """Globs; empty means everything."""
    exclude: tuple[str, ...] = ()
    """Globs; stronger than ``include``."""
    also: tuple[Path, ...] = ()
    """Further files that make the package what it is (a requirements file elsewhere)."""
    raw: bool = False
    """Leave nothing out, not even what is never code."""

    def has(self, relative: str) -> bool:
        """Would this file (``/`` between the parts) be part of the code?"""
        if self.raw:
            return True
        if _DEFAULTS.fullmatch(relative) or any(matches(relative, glob) for glob in self.exclude):
            return False
        return not self.include or any(matches(relative, glob) for glob in self.include)

    def may_hold(self, relative: str) -> bool:
        """Is it worth looking into this folder? False only if nothing in it can be code."""
        if self.raw:
            return True
        return not _DEFAULTS.fullmatch(relative) and not any(matches(relative, glob) for glob in self.exclude)

    def files(self) -> Iterator[Entry]:
        """Every file of a folder, sorted by name.

        A symbolic link that stays within the folder stays one; any other is
        followed, so that the package is whole. A loop of links is cut.
        """
        root = os.path.realpath(self.path)
        yield from sorted(self._walk(self.path, "", (root,)), key=lambda entry: entry.relative)

    def _walk(self, folder: Path, prefix: str, above: tuple[str, ...]) -> Iterator[Entry]:
        with os.scandir(folder) as entries:
            for entry in entries:
                relative, real, link = prefix + entry.name, entry.path, None
                if entry.is_symlink():
                    real, target = os.path.realpath(entry.path), os.readlink(entry.path)
                    inside = real.startswith(above[0] + os.sep) and len(above) == 1
                    link = target if inside and not os.path.isabs(target) else None
                if link is not None:
                    if self.has(relative) and os.path.exists(real):
                        yield Entry(relative, Path(entry.path), link)
                elif entry.is_dir():
                    if self.may_hold(relative) and real not in above:
                        inner = (*above, real) if entry.is_symlink() else above
                        yield from self._walk(Path(entry.path), relative + "/", inner)
                elif entry.is_file() and self.has(relative):
                    yield Entry(relative, Path(entry.path))
