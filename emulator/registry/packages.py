"""The code store: what a function runs, unpacked once and addressed by its content.

``home/code/<sha256>/`` is never changed after it appears. The hash covers
relative paths, permission bits and contents, not times, so that saving a file
unchanged is no new version. A package is built in a folder beside it and
renamed, so that several emulators may share a home.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from . import bytecode, dependencies, zips
from .sources import Entry, PackageError, Source

Progress = Callable[[str], None]

UNZIPPED_LIMIT = 262_144_000
"""Bytes of a package, unzipped. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Package:
    """Code in the store."""

    path: Path
    """Folder to be seen as ``/var/task``; readable by every user, not to be written."""
    sha256_hex: str
    """Of the content; the folder's name."""
    code_sha256: str
    """Base64: of the zip file's bytes if it was one (as the platform has it), else of the content."""
    size: int
    """Bytes: of the zip file if it was one, else of all files."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a package that is to be."""

    entry: Entry
    executable: bool
    digest: str
    size: int

    def line(self) -> bytes:
        kind = "l" if self.entry.link is not None else "x" if self.executable else "-"
        return f"{self.entry.relative}\0{kind}{self.digest}\n".encode("utf-8", "surrogateescape")


class _ChangedMeanwhile(Exception):
    """A file is no longer what was hashed."""


def store(
    source: Path,
    *,
    home: Path,
    include: tuple[str, ...] = (),
    exclude: tuple[str, ...] = (),
    requirements: Path | None = None,
    runtime: str = "",
    progress: Progress = lambda line: None,
    cache: Path | None = None,
) -> Package:
    """Put a folder or zip file into the store, with what it depends on.

    Blocks (call it in a thread). Costs one reading of the source when the store
    has it already. ``include`` and ``exclude`` are for folders: who makes a zip
    file has chosen. ``cache`` is where installed dependencies are kept. Raises
    PackageError and leaves nothing half-made behind.
    """
    kind = Source(source, include, exclude)
    try:
        added = dependencies.install(kind, requirements, runtime=runtime, progress=progress, cache=cache)
        if not source.is_dir():
            return _store_zip(source, added, home, runtime)
        for _ in range(_ATTEMPTS):
            try:
                return _store_folder(kind, added, home, runtime)
            except (_ChangedMeanwhile, FileNotFoundError):
                if not source.is_dir():
                    raise
        raise PackageError(f"{source}: its files keep changing while they are packaged")
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise PackageError(f"{source}: can't be packaged: {error.strerror or error}{name}") from error


def prune(home: Path, keep: Collection[str] = ()) -> list[str]:
    """Remove every package not in ``keep`` (hex digests), and what a killed emulator left half-made.

    Returns what was removed. Nobody but the caller may be using what is not in ``keep``.
    """
    removed: list[str] = []
    if not (home / "code").is_dir():
        return removed
    for path in sorted((home / "code").iterdir()):
        half_made = path.name.startswith(".tmp-")
        if path.name in keep or (half_made and _is_alive(int(path.name.split("-")[1]))):
            continue
        shutil.rmtree(path, ignore_errors=True)
        removed.append(path.name)
    return removed


def _store_folder(source: Source, added: list[Path], home: Path, runtime: str) -> Package:
    own = [_look_at(entry) for entry in source.files()]
    if not own:
        raise PackageError(f"{source.path}: no files to package (look at include and exclude)")
    names = {file.entry.relative for file in own}
    files = own + [file for file in _added(added) if file.entry.relative not in names]
    whole = hashlib.sha256(b"".join(file.line() for file in files))
    size = _checked_size(files, source.path)
    final = _build(home, whole.hexdigest(), runtime, lambda root: _copy(files, root))
    return Package(final, whole.hexdigest(), base64.b64encode(whole.digest()).decode(), size)


def _store_zip(archive: Path, added: list[Path], home: Path, runtime: str) -> Package:
    with archive.open("rb") as file:
        zipped = hashlib.file_digest(file, "sha256").digest()
        size = os.fstat(file.fileno()).st_size
    extra = list(_added(added))
    name = zipped.hex()
    if extra:
        name = hashlib.sha256(zipped + b"".join(file.line() for file in extra)).hexdigest()

    def fill(root: Path) -> None:
        zips.unpack(archive, root, limit=UNZIPPED_LIMIT)
        _copy([file for file in extra if not os.path.lexists(root / file.entry.relative)], root)
        _checked_size([_look_at(entry) for entry in Source(root, raw=True).files()], archive)

    final = _build(home, name, runtime, fill)
    return Package(final, name, base64.b64encode(zipped).decode(), size)


def _look_at(entry: Entry) -> _File:
    if entry.link is not None:
        return _File(entry, False, hashlib.sha256(os.fsencode(entry.link)).hexdigest(), 0)
    with entry.path.open("rb") as file:
        state = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _File(entry, bool(state.st_mode & stat.S_IXUSR), digest, state.st_size)


def _added(folders: Iterable[Path]) -> Iterator[_File]:
    """The files of installed dependencies. Such a folder never changes, so its name is its digest."""
    for folder in folders:
        for entry in Source(folder, raw=True).files():
            digest = hashlib.sha256(f"{folder.name}/{entry.relative}".encode()).hexdigest()
            state = entry.path.lstat()
            yield _File(entry, bool(state.st_mode & stat.S_IXUSR), f"@{digest}", state.st_size)


def _checked_size(files: Iterable[_File], source: Path) -> int:
    size = sum(file.size for file in files)
    if size > UNZIPPED_LIMIT:
        raise PackageError(
            f"Unzipped size must be smaller than {UNZIPPED_LIMIT} bytes "
            f"({source} with what it depends on: {size})"
        )
    return size


def _build(home: Path, name: str, runtime: str, fill: Callable[[Path], None]) -> Path:
    """``home/code/NAME``, made by ``fill`` if it isn't there."""
    final = home / "code" / name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _workshop(final.parent) as work:
        root = work / "task"
        fill(root)
        bytecode.compile_tree(root, runtime)
        for folder, _, _ in os.walk(root):
            os.chmod(folder, 0o755)
        try:
            root.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise somebody else was quicker with the same content
                raise
    return final


def _copy(files: Iterable[_File], root: Path) -> None:
    for file in files:
        target = root / file.entry.relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.entry.link is not None:
            target.symlink_to(file.entry.link)
            continue
        shutil.copyfile(file.entry.path, target)
        target.chmod(0o755 if file.executable else 0o644)
        if not file.digest.startswith("@"):
            with target.open("rb") as copied:
                if hashlib.file_digest(copied, "sha256").hexdigest() != file.digest:
                    raise _ChangedMeanwhile


@contextmanager
def _workshop(store: Path) -> Iterator[Path]:
    """A folder on the same file system that is gone afterwards, named after this process."""
    work = Path(mkdtemp(dir=store, prefix=f".tmp-{os.getpid()}-"))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
