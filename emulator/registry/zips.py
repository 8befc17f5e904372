"""Unpacking a zip file of which nothing is trusted."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath

from .sources import PackageError

_NOT_A_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


def unpack(archive: Path, target: Path, *, limit: int) -> None:
    """Unpack into the new folder ``target``, at most ``limit`` bytes.

    Refused: paths that lead out of the folder, links that point out of it,
    encrypted members, more bytes than ``limit`` (declared or real). Raises
    PackageError; the caller removes ``target``.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, archive, target, limit)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise PackageError(f"{_NOT_A_ZIP} ({archive.name}: {error})") from error
    except RuntimeError as error:  # what zipfile raises for a member with a password
        raise PackageError(f"{_NOT_A_ZIP} ({archive.name}: {error})") from error


def _unpack(opened: zipfile.ZipFile, archive: Path, target: Path, limit: int) -> None:
    too_large = PackageError(f"Unzipped size must be smaller than {limit} bytes ({archive.name})")
    members = opened.infolist()
    if sum(member.file_size for member in members) > limit:
        raise too_large
    target.mkdir(parents=True)
    links: list[tuple[Path, str]] = []
    left = limit
    for member in members:
        path = target / _safe(member.filename, archive)
        mode = member.external_attr >> 16
        if member.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        if not _is_free(path, target):
            raise PackageError(f'{archive.name}: "{member.filename}" is there twice, as a file and a folder')
        path.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(mode):
            links.append((path, opened.read(member).decode("utf-8", "replace")))
            continue
        with opened.open(member) as source, path.open("wb") as file:
            # A member may hold more than it declares: count what is written.
            while chunk := source.read(1 << 20):
                left -= len(chunk)
                if left < 0:
                    raise too_large
                file.write(chunk)
        path.chmod(0o755 if not mode or mode & stat.S_IXUSR else 0o644)
    for path, to in links:  # last, so that no file was ever written through one
        _link(path, to, target, archive)


def _safe(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and path.parts[0].endswith(":")
    if path.is_absolute() or ".." in path.parts or "\0" in name or drive:
        raise PackageError(f'{archive.name}: "{name}" would be unpacked outside of the folder')
    return path


def _is_free(path: Path, target: Path) -> bool:
    if path.is_dir():
        return False
    return not any(parent.is_file() for parent in path.parents if parent.is_relative_to(target))


def _link(path: Path, to: str, target: Path, archive: Path) -> None:
    root = target.resolve()
    if "\0" in to or PurePosixPath(to).is_absolute() or not (path.parent / to).resolve().is_relative_to(root):
        raise PackageError(f'{archive.name}: the link "{path.relative_to(target)}" points out of the folder')
    path.unlink(missing_ok=True)
    path.symlink_to(to)

