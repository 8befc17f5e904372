"""What each runtime is: which interpreter runs it, what it finds in /var/runtime."""

from __future__ import annotations

import compileall
import functools
import hashlib
import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PYTHON_MINORS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
PYTHON_DISTRIBUTIONS = (
    "awslambdaric", "simplejson", "snapshot-restore-py", "boto3", "botocore", "s3transfer", "jmespath",
    "python-dateutil", "urllib3", "six",
)  # fmt: skip
BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap", "/var/runtime/bootstrap")


class RuntimeUnavailable(Exception):
    """This machine can't run that runtime. The message names the remedy."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """How instances of one AWS runtime identifier are run on this machine."""

    identifier: str
    family: Literal["python", "nodejs", "provided"]
    directory: Path | None
    """Becomes ``/var/runtime``, read-only; None: that folder is empty."""
    interpreter: Path | None
    """The executable on this machine; None for ``provided``."""
    prefixes: tuple[Path, ...]
    """Folders the interpreter reads. The first is shown as ``/var/lang``; all
    are also shown at their own paths when ``command`` doesn't start in ``/var/lang``."""
    command: tuple[str, ...]
    """argv inside the sandbox, with the platform's paths; empty: look for a ``bootstrap``."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """What the runtime needs beyond the platform's variables."""


@functools.cache
def sources() -> Path:
    """The files of all runtimes: ``$FAAS_RUNTIMES``, else inside an installed package, else
    ``runtimes/`` beside a checked-out one. Raises RuntimeUnavailable."""
    chosen = os.environ.get("FAAS_RUNTIMES")
    package = Path(__file__).resolve().parent
    candidates = [Path(chosen)] if chosen else [package / "runtime_files", package.parent / "runtimes"]
    for folder in candidates:
        if (folder / "python" / "bootstrap.py").exists():
            return folder
    raise RuntimeUnavailable(
        f"no runtime files at {' or '.join(map(str, candidates))}: "
        "install faas-emulator again, or set FAAS_RUNTIMES to the project's runtimes folder"
    )


def cache_folder() -> Path:
    """Where prepared runtimes are kept: ``$FAAS_CACHE`` or ``~/.cache/faas-emulator``."""
    chosen = os.environ.get("FAAS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(chosen or f"{base}/faas-emulator").expanduser()


def seeded(kind: str, name: str) -> Path | None:
    """The folder of that name in ``$FAAS_SEED/kind``: what an image brings along prepared."""
    seed = os.environ.get("FAAS_SEED")
    folder = Path(seed, kind, name) if seed else None
    return folder if folder is not None and folder.is_dir() else None


def resolve(
    identifier: str, progress: Callable[[str], None], *, interpreter_elsewhere: bool = False
) -> Runtime:
    """The runtime, prepared. Slow only the first time. Raises RuntimeUnavailable.

    ``interpreter_elsewhere``: it will run in an image that has the interpreter; none is needed here.
    """
    if identifier.startswith("provided"):
        return Runtime(identifier, "provided", None, None, (), ())
    if matched := re.fullmatch(r"python(\d\.\d+)", identifier):
        return _python(identifier, matched[1], progress)
    if identifier.startswith("nodejs"):
        node = _node()
        if node is None:
            raise RuntimeUnavailable(f"{identifier}: this installation has no Node.js runtimes")
        runtime: Runtime = node.resolve_node(
            identifier, progress, interpreter_elsewhere=interpreter_elsewhere
        )
        return runtime
    raise RuntimeUnavailable(
        f"{identifier}: no such runtime here; use python3.x, nodejs*, or provided.al2023 with a bootstrap"
    )


def available() -> tuple[tuple[str, Path | None, str], ...]:
    """For people: every runtime with its interpreter, or None and the remedy."""
    rows: list[tuple[str, Path | None, str]] = []
    for minor in PYTHON_MINORS:
        found = find_python(minor)
        rows.append((f"python{minor}", found, "" if found else _python_remedy(minor)))
    node = _node()
    if node is None:
        rows.append(("nodejs", None, "this installation has no Node.js runtimes"))
    else:
        rows.extend(node.available_node())
    rows.append(("provided.al2023", Path("/bin/sh"), ""))
    return tuple(rows)


def _node() -> Any:
    """The module that knows Node.js; it imports from this one, hence not at the top. None: absent."""
    try:
        return importlib.import_module("emulator.runtimes_node")
    except ImportError:
        return None


def _python_remedy(minor: str) -> str:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"install Python {minor} so that `python{minor}` is on PATH, or use runtime python{own}"


@functools.cache
def _inspect(python: str) -> tuple[str, Path, Path] | None:
    """(minor version, prefix, real executable) of an interpreter; None when it doesn't run."""
    code = (
        "import sys;print('%d.%d' % sys.version_info[:2], sys.base_prefix,"
        "getattr(sys, '_base_executable', None) or sys.executable, sep='\\n')"
    )
    try:
        done = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    minor, prefix, executable = done.stdout.splitlines()
    return minor, Path(prefix), Path(executable).resolve()


def find_python(minor: str) -> Path | None:
    """An interpreter of this minor version: the one running us, else from PATH."""
    if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    found = shutil.which(f"python{minor}")
    facts = _inspect(found) if found else None
    return facts[2] if facts and facts[0] == minor else None


def _python(identifier: str, minor: str, progress: Callable[[str], None]) -> Runtime:
    interpreter = find_python(minor)
    own = minor == f"{sys.version_info.major}.{sys.version_info.minor}"
    if interpreter is None:
        raise RuntimeUnavailable(f"{identifier}: no Python {minor} on this machine; {_python_remedy(minor)}")
    if own:
        prefix = Path(sys.base_prefix)
    else:
        facts = _inspect(str(interpreter))
        if facts is None:
            raise RuntimeUnavailable(f"{identifier}: {interpreter} doesn't run; {_python_remedy(minor)}")
        prefix = facts[1]
    folder = _python_folder(identifier, minor, interpreter if not own else None, progress)
    inside = f"/var/lang/bin/python{minor}"
    if not (prefix / "bin" / f"python{minor}").exists():
        raise RuntimeUnavailable(f"{identifier}: {prefix}/bin has no python{minor}; {_python_remedy(minor)}")
    command = (inside, "-S", "/var/runtime/bootstrap.py")
    return Runtime(identifier, "python", folder, interpreter, (prefix,), command)


def _python_folder(
    identifier: str, minor: str, foreign: Path | None, progress: Callable[[str], None]
) -> Path:
    """The content of ``/var/runtime``, made once per set of versions and moved into place whole."""
    source = sources() / "python" / "bootstrap.py"
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in PYTHON_DISTRIBUTIONS]
    facts = "\n".join([*versions, sys.implementation.cache_tag, minor, source.read_text()])
    key = hashlib.sha256(facts.encode()).hexdigest()[:12]
    folder = cache_folder() / "runtimes" / f"{identifier}-{key}"
    if (folder / "bootstrap").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    progress(f"{identifier}: preparing its packages in {folder} (once)")
    draft = Path(tempfile.mkdtemp(prefix=f".{identifier}-", dir=folder.parent))
    try:
        if foreign is None:
            for name in PYTHON_DISTRIBUTIONS:
                _copy_distribution(name, draft)
            compileall.compile_dir(draft, quiet=2, stripdir=str(draft), prependdir="/var/runtime")
        else:
            _pip_install(identifier, foreign, draft)
        (draft / "bootstrap.py").write_bytes(source.read_bytes())
        launcher = draft / "bootstrap"
        command = f"/var/lang/bin/python{minor} -S /var/runtime/bootstrap.py"
        launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        launcher.chmod(0o755)
        draft.chmod(0o755)
        try:
            draft.rename(folder)
        except OSError:  # another emulator was faster
            if not (folder / "bootstrap").exists():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _copy_distribution(name: str, target: Path) -> None:
    for file in importlib.metadata.files(name) or ():
        if file.parts[0] == ".." or "__pycache__" in file.parts:
            continue  # console scripts, and code compiled for other paths
        there, here = Path(str(file.locate())), target / file
        if not there.is_file():
            continue
        here.parent.mkdir(parents=True, exist_ok=True)
        # Copied, not linked: an upgrade in place must not change a cached runtime.
        shutil.copy(there, here)


def _pip_install(identifier: str, python: Path, target: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--target", str(target)]
    command += ["--disable-pip-version-check", "awslambdaric", "boto3"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise RuntimeUnavailable(
            f"{identifier}: installing awslambdaric and boto3 with {python} failed ({last}); "
            "check the network, or use the runtime of the Python that runs the emulator"
        )
