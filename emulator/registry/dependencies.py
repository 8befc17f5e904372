"""What a function's code depends on, installed outside of any image, once.

``requirements.txt`` by pip (or uv), ``package.json`` by npm. The results are
cached by what was asked for, in the user's cache folder, so that neither a new
project home nor a change of the function's own code installs again.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from emulator.runtimes import cache_folder, seeded

from . import bytecode
from .sources import PackageError, Source

Progress = Callable[[str], None]
Install = Callable[[Path], list[str]]


def default_cache() -> Path:
    """``$FAAS_CACHE/deps``, or ``~/.cache/faas-emulator/deps``."""
    return cache_folder() / "deps"


def install(
    source: Source, requirements: Path | None, *, runtime: str, progress: Progress, cache: Path | None = None
) -> list[Path]:
    """Folders to be merged into the package. Raises PackageError when it can't be installed."""
    cache = cache or default_cache()
    found = []
    if requirements is not None and runtime.startswith("python"):
        found.append(_python(requirements, runtime, cache, progress))
    if runtime.startswith("nodejs") and source.path.is_dir() and _wants_npm(source):
        found.append(_node(source.path, runtime, cache, progress))
    return found


def _python(requirements: Path, runtime: str, cache: Path, progress: Progress) -> Path:
    version = runtime.removeprefix("python")
    key = _key(runtime, *_requirement_texts(requirements, set()))

    def command(target: Path) -> list[str]:
        common = ["--target", str(target), "-r", str(requirements.absolute())]
        here = version == f"{sys.version_info.major}.{sys.version_info.minor}"
        if importlib.machinery.PathFinder.find_spec("pip"):
            other = [] if here else ["--python-version", version, "--only-binary=:all:"]
            return [
                sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input",
                "--no-compile", "--no-warn-script-location", "--progress-bar=off", "--retries=1",
                *other, *common,
            ]
        if uv := shutil.which("uv"):
            return [uv, "pip", "install", "--python-version", version, "--no-progress", *common]
        raise PackageError(
            f"{requirements}: neither pip nor uv is there to install it: "
            f"run {sys.executable} -m ensurepip, or install the packages into the code folder yourself"
        )

    return _cached(cache / key, command, requirements, progress, runtime)


def _requirement_texts(file: Path, seen: set[Path]) -> list[str]:
    """The file and the files it refers to."""
    if file in seen:
        return []
    seen.add(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PackageError(f"{file}: can't be read: {error}") from error
    texts = [text]
    for other in re.findall(r"^\s*(?:-r|--requirement|-c|--constraint)[ =]\s*(\S+)", text, re.MULTILINE):
        texts += _requirement_texts(file.parent / other, seen)
    return texts


def _wants_npm(source: Source) -> bool:
    manifest = source.path / "package.json"
    if not source.has("package.json") or not manifest.is_file() or (source.path / "node_modules").exists():
        return False
    try:
        values = json.loads(manifest.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise PackageError(f"{manifest}: not valid JSON: {error}") from error
    return bool(isinstance(values, dict) and values.get("dependencies"))


def _node(folder: Path, runtime: str, cache: Path, progress: Progress) -> Path:
    names = [name for name in ("package.json", "package-lock.json", ".npmrc") if (folder / name).is_file()]
    key = _key(runtime, *(f"{name}\n{(folder / name).read_text(encoding='utf-8')}" for name in names))

    def command(target: Path) -> list[str]:
        npm = shutil.which("npm")
        if npm is None:
            raise PackageError(
                f"{folder / 'package.json'}: npm is needed to install its dependencies: install Node.js, "
                f"or put a node_modules folder beside it"
            )
        for name in names:
            shutil.copyfile(folder / name, target / name)
        verb = "ci" if "package-lock.json" in names else "install"
        return [npm, verb, "--omit=dev", "--no-audit", "--no-fund", "--no-progress", "--fetch-retries=1",
                "--prefix", str(target)]

    return _cached(cache / key, command, folder / "package.json", progress, runtime)


def _key(runtime: str, *texts: str) -> str:
    what = json.dumps([runtime, sys.platform, platform.machine(), *texts])
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _cached(final: Path, command: Install, asked: Path, progress: Progress, runtime: str) -> Path:
    """The folder ``final``, made by ``command`` if it isn't there. Safe among threads and processes."""
    if final.is_dir():
        return final
    if brought := seeded("deps", final.name):
        return brought
    final.parent.mkdir(parents=True, exist_ok=True)
    with _locked(final.with_suffix(".lock")), TemporaryDirectory(dir=final.parent, prefix=".tmp-") as work:
        if final.is_dir():
            return final
        target = Path(work) / "added"
        target.mkdir()
        progress(f"installing what {asked} asks for ({runtime})")
        _run(command(target), asked, progress)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            (target / name).unlink(missing_ok=True)
        shutil.rmtree(target / "bin", ignore_errors=True)  # scripts that name this machine's interpreter
        bytecode.compile_tree(target, runtime)
        target.rename(final)
    return final


def _run(command: list[str], asked: Path, progress: Progress) -> None:
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            progress(line.rstrip())
    if process.returncode:
        told = [line for line in lines if re.match(r"(?i)\s*(error|npm err)", line)] or lines
        raise PackageError(
            f"{asked}: its dependencies can't be installed (is the package registry reachable?): "
            + "; ".join(told[-3:])
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process and thread at a time. The lock falls with its holder."""
    import fcntl

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

