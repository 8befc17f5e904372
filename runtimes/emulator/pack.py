"""Builds the emulator's own image, ``faas-emulator/emulator``, from what this machine has: nothing is fetched inside.

Two archives in ``.build/`` go into it. ``site.tar``: what the emulator imports. ``seed.tar``: what functions need
and a container without registries can't make: the compiled Node.js client and the installed dependencies of the
functions in ``$FAAS_FUNCTIONS`` (default: ``sample_functions``). Each is made again when what it is made from changed.

Run from the project's root, by the Python with the emulator in it: ``python runtimes/emulator/pack.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from emulator.config import ConfigError, load_project
from emulator.registry import dependencies
from emulator.registry.sources import PackageError, Source
from emulator.runtimes import RuntimeUnavailable, resolve
from emulator.sandbox.docker_engine import connect, engine_url
from emulator.sandbox.protocol import BackendUnavailable

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
PYTHON = "3.11"
"""The image's Python: see ``Images.tag_emulator_base``."""
IMAGE, BASE = "faas-emulator/emulator", "faas-emulator/base"


def main() -> int:
    BUILD.mkdir(exist_ok=True)
    try:
        with (BUILD / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # falls with its holder
            pack_site()
            pack_seed(Path(os.environ.get("FAAS_FUNCTIONS") or ROOT / "sample_functions"))
            build_image()
    except (ConfigError, BackendUnavailable, subprocess.CalledProcessError) as problem:
        say(str(problem))
        return 1
    return 0


def pack_site() -> None:
    """The emulator's dependencies, in the versions it has here."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    installed = importlib.metadata.distributions()
    here = sorted({f"{each.name}=={each.version}" for each in installed if each.name != "faas-emulator"})
    key = _digest(PYTHON, platform.machine(), *wanted, *here)
    if _is_current("site", key):
        return
    say("packing what the emulator imports")
    with tempfile.TemporaryDirectory(dir=BUILD) as work:
        constraints, target = Path(work, "constraints.txt"), Path(work, "packages")
        constraints.write_text("\n".join(here))
        other = sys.version_info[:2] != tuple(map(int, PYTHON.split(".")))
        foreign = ["--python-version", PYTHON, "--only-binary=:all:"] if other else ["-c", str(constraints)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, *foreign, "--target", str(target), *wanted], check=True)
        _pack("site", key, {each.name: each for each in sorted(target.iterdir())})


def pack_seed(functions: Path) -> None:
    """Prepared runtimes and dependencies, under the names that the emulator in the image looks for."""
    parts: dict[str, Path] = {}
    for function in load_project(functions).functions:
        runtime = function.runtime
        if runtime == f"python{sys.version_info.major}.{sys.version_info.minor}":
            runtime = f"python{PYTHON}"  # "python3": the one of whoever runs the emulator
        try:
            source = Source(function.code, function.include, function.exclude)
            found = dependencies.install(source, function.requirements, runtime=runtime, progress=say)
            parts |= {f"deps/{folder.name}": folder for folder in found}
            if runtime.startswith("nodejs"):
                folder = resolve(runtime, say, interpreter_elsewhere=True).directory
                assert folder is not None
                parts[f"runtimes/{folder.name}"] = folder
        except (PackageError, RuntimeUnavailable) as problem:
            say(f"{function.name} is left out: {problem}")
    key = _digest(*sorted(parts))
    if not _is_current("seed", key):
        _pack("seed", key, parts)


def build_image() -> None:
    api = connect(engine_url())
    say(f"building {IMAGE}")
    before = [image["Id"] for image in api.images(name=IMAGE)]
    lines = api.build(
        path=str(ROOT), dockerfile="runtimes/emulator/Dockerfile", tag=IMAGE, buildargs={"BASE": BASE},
        rm=True, forcerm=True, decode=True,
    )  # fmt: skip
    for line in lines:
        if "error" in line:
            raise BackendUnavailable(f"building {IMAGE} failed: {line['error'].strip()}")
    now = {image["Id"] for image in api.images(name=IMAGE)}
    for replaced in before:
        if replaced not in now:
            with contextlib.suppress(Exception):  # a container still uses it
                api.remove_image(replaced)
    print(IMAGE)


def say(line: str) -> None:
    print(line, file=sys.stderr)


def _digest(*facts: str) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _is_current(name: str, key: str) -> bool:
    note = BUILD / f"{name}.key"
    return (BUILD / f"{name}.tar").exists() and note.exists() and note.read_text() == key


def _pack(name: str, key: str, parts: dict[str, Path]) -> None:
    draft = BUILD / f"{name}.tar.part"
    with tarfile.open(draft, "w") as archive:
        for inside, folder in parts.items():
            archive.add(folder, inside, filter=_anyone)
    draft.rename(BUILD / f"{name}.tar")
    (BUILD / f"{name}.key").write_text(key)


def _anyone(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


if __name__ == "__main__":
    sys.exit(main())
