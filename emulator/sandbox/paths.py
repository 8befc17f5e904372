"""Host folders made fit to be shown to instances, and platform paths turned into host paths."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


def rewrite(value: str, real: Mapping[str, str]) -> str:
    """Replace platform folders by host folders in a path or a colon-separated list of paths."""
    parts = value.split(":")
    for at, part in enumerate(parts):
        for inside, outside in real.items():
            if part == inside or part.startswith(inside + "/"):
                parts[at] = outside + part[len(inside) :]
                break
    return ":".join(parts)


def merge_layers(layers: list[Path], store: Path) -> Path:
    """One folder with the content of all, later ones win; made once, of hard links."""
    if len(layers) == 1:
        return layers[0].absolute()
    key = hashlib.sha256("\0".join(str(layer.absolute()) for layer in layers).encode()).hexdigest()[:16]
    target = store / key
    if target.exists():
        return target
    store.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=store))
    try:
        for layer in layers:
            _lay_over(layer, draft)
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _lay_over(layer: Path, target: Path) -> None:
    for folder, folders, files in os.walk(layer):
        here = target / Path(folder).relative_to(layer)
        here.mkdir(exist_ok=True)
        for name in [*files, *(each for each in folders if (Path(folder) / each).is_symlink())]:
            new = here / name
            new.unlink(missing_ok=True)
            try:
                os.link(Path(folder) / name, new, follow_symlinks=False)
            except OSError:
                shutil.copy2(Path(folder) / name, new, follow_symlinks=False)


def readable_copy(code: Path, store: Path) -> Path:
    """``code`` itself when an unprivileged user may read it, else a copy that he may.

    AWS, too, runs functions as a user who doesn't own the code, but unpacks it
    with modes that fit; a folder on a developer's disk may be private."""
    if _is_readable(code):
        return code
    target = store / hashlib.sha256(str(code).encode()).hexdigest()[:16]
    shutil.rmtree(target, ignore_errors=True)
    store.mkdir(parents=True, exist_ok=True)
    shutil.copytree(code, target, symlinks=True)
    for folder, folders, files in os.walk(target):
        for name in (".", *folders, *files):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                mode = os.stat(path).st_mode
                os.chmod(path, mode | 0o444 | (0o111 if os.path.isdir(path) or mode & 0o100 else 0))
    return target


def _is_readable(code: Path) -> bool:
    if code.stat().st_mode & 0o005 != 0o005:
        return False
    for folder, folders, files in os.walk(code):
        for name, wanted in [*((each, 0o005) for each in folders), *((each, 0o004) for each in files)]:
            if os.lstat(os.path.join(folder, name)).st_mode & wanted != wanted:
                return False
    return True
