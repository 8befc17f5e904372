"""The Node.js runtimes: which node runs them, and what they find in /var/runtime.

Owns the search for interpreters and the one slow thing a runtime can need: the
real ``aws-lambda-ric`` is C++ and has to be compiled. That happens once, in
the user's cache, whatever number of emulators ask for it at the same time.

Only the npm registry is needed: ``node-api-headers`` stands in for the headers
that node-gyp would fetch from elsewhere, and the compiler is called directly.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

from .runtimes import Runtime, RuntimeUnavailable, cache_folder, seeded, sources

Progress = Callable[[str], None]

_IDENTIFIER = re.compile(r"nodejs(\d+)\.x")
_HEARTBEAT = 3.0
"""Seconds between two lines of progress while a step goes on."""

_RECIPE = 1
"""Raised when ``_build`` changes, so that no cached result of the former one is used."""

_VERSION_FOLDERS = (
    "~/.nvm/versions/node/v{major}.*/bin/node",
    "~/.local/share/fnm/node-versions/v{major}.*/installation/bin/node",
    "~/.volta/tools/image/node/{major}.*/bin/node",
    "~/.asdf/installs/nodejs/{major}.*/bin/node",
    "/usr/local/n/versions/node/{major}.*/bin/node",
    "/opt/homebrew/opt/node@{major}/bin/node",
)
_TOOLS = (  # any of these commands, the Debian package that has them
    (("npm",), "npm"),
    (("autoconf",), "autoconf"),
    (("automake",), "automake"),
    (("libtoolize", "glibtoolize"), "libtool"),
    (("cmake", "cmake3"), "cmake"),
    (("make",), "make"),
    (("c++", "g++"), "g++"),
)
_UNUSED_HEADERS = ("uv.h", "v8.h", "node.h")
"""Included by the client's source, which uses nothing of them."""


def resolve_node(
    identifier: str, progress: Progress, *, cache: Path | None = None, interpreter_elsewhere: bool = False
) -> Runtime:
    """The runtime ``nodejs<major>.x``, built first if it has never been.

    Blocks, for about a minute the first time; ``progress`` is then told a line
    every few seconds. Raises RuntimeUnavailable, with the remedy, when this
    machine has no node of that major version (unless it is elsewhere: in an
    image) or lacks a tool to build with.
    """
    found = _IDENTIFIER.fullmatch(identifier)
    if found is None:
        raise RuntimeUnavailable(f"{identifier} is no Node.js runtime: use nodejs<major>.x, as nodejs20.x")
    interpreter = _interpreter(int(found[1]))
    if interpreter is None and not interpreter_elsewhere:
        raise RuntimeUnavailable(
            f"{identifier} needs Node.js {found[1]}, which is not on this machine: install it "
            f"(https://nodejs.org, or `nvm install {found[1]}`), or use the Docker sandbox"
        )
    name = "node" if interpreter is None or interpreter_elsewhere else interpreter.name
    return Runtime(
        identifier=identifier,
        family="nodejs",
        directory=_built(identifier, (cache or cache_folder()) / "runtimes", progress),
        interpreter=interpreter,
        prefixes=(interpreter.parent.parent,) if interpreter else (),
        command=(f"/var/lang/bin/{name}", "/var/runtime/index.mjs"),
        environ={},
    )


def available_node() -> tuple[tuple[str, Path | None, str], ...]:
    """For people: (identifier, interpreter or None, the remedy for what is missing)."""
    majors = {
        int(match[1])
        for pattern in _VERSION_FOLDERS
        for path in glob(os.path.expanduser(pattern.format(major="*")))
        if (match := re.search(r"[/v@](\d+)(\.|/)", path.removesuffix("/bin/node") + "/"))
    }
    majors.update(version for name in ("node", "nodejs") if (version := _on_path(name)[0]))
    rows: list[tuple[str, Path | None, str]] = []
    for major in sorted(majors):
        identifier, path = f"nodejs{major}.x", _interpreter(major)
        built = _folder(identifier, cache_folder() / "runtimes").is_dir()
        missing = () if built else tuple(missing_tools().values())
        rows.append((identifier, path, f"apt-get install -y {' '.join(missing)}" if missing else ""))
    return tuple(rows) or (("nodejs", None, "install Node.js (https://nodejs.org, or `nvm install 20`)"),)


def missing_tools() -> dict[str, str]:
    """What a build would need and this machine lacks: command -> Debian package."""
    return {names[0]: package for names, package in _TOOLS if not any(map(shutil.which, names))}


# --- interpreters ---------------------------------------------------------


def _interpreter(major: int) -> Path | None:
    for name in ("node", "nodejs", f"node-{major}", f"node{major}"):
        version, path = _on_path(name)
        if version == major:
            return path
    for pattern in _VERSION_FOLDERS:
        for candidate in sorted(glob(os.path.expanduser(pattern.format(major=major))), reverse=True):
            version, path = _on_path(candidate)
            if version == major:
                return path
    return None


@functools.cache
def _on_path(command: str) -> tuple[int | None, Path]:
    """Major version and real path. Version managers put scripts on PATH: node itself knows better."""
    nothing = (None, Path())
    path = shutil.which(command)
    if path is None:
        return nothing
    try:
        answer = subprocess.run(
            [path, "-p", "process.versions.node + ' ' + process.execPath"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=True,
        ).stdout
        version, _, executable = answer.strip().partition(" ")
        return int(version.partition(".")[0]), Path(executable).resolve(strict=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return nothing


# --- the build ------------------------------------------------------------


def _key() -> str:
    """Changes with everything the result depends on. Not with the version of node: the ABI is Node-API."""
    here = f"{_RECIPE} {platform.system()} {platform.machine()} {platform.libc_ver()[0]}"
    digest = hashlib.sha256(here.encode())
    for name in ("bootstrap", "index.mjs", "package.json", "package-lock.json"):
        digest.update((sources() / "nodejs" / name).read_bytes())
    return digest.hexdigest()[:12]


def _folder(identifier: str, cache: Path) -> Path:
    return cache / f"{identifier}-{_key()}"


def _built(identifier: str, cache: Path, progress: Progress) -> Path:
    final = _folder(identifier, cache)
    if final.is_dir():
        return final
    if brought := seeded("runtimes", final.name):
        return brought
    if platform.system() != "Linux":
        raise RuntimeUnavailable(
            f"{identifier}: aws-lambda-ric compiles on Linux only: use --sandbox docker for this function"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{identifier}.lock", identifier, progress):
        if final.is_dir():
            return final
        if missing := missing_tools():
            raise RuntimeUnavailable(
                f"{identifier}: {', '.join(missing)} missing, needed once to compile aws-lambda-ric: "
                f"apt-get install -y {' '.join(missing.values())}{_elsewhere()}"
            )
        for stale in cache.glob(f"{identifier}-*.building"):
            shutil.rmtree(stale, ignore_errors=True)
        work = cache / f"{final.name}-{os.getpid()}.building"
        try:
            _build(work, identifier, progress)
            (work / "result").rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return final


def _elsewhere() -> str:
    return ", or pack a built one into the emulator's image with `make images`" if "FAAS_SEED" in os.environ else ""


def _build(work: Path, identifier: str, progress: Progress) -> None:
    """Fills ``work/result``."""
    progress(f"{identifier}: building aws-lambda-ric, once, about a minute")
    work.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(sources() / "nodejs" / name, work)
    modules = work / "node_modules"
    client = modules / "aws-lambda-ric"
    artifacts = client / "deps" / "artifacts"
    shims = work / "shims"
    shims.mkdir()
    for header in _UNUSED_HEADERS:
        (shims / header).touch()

    def run(what: str, command: list[str], cwd: Path) -> None:
        _run(f"{identifier}: {what}", command, cwd, work / "log", progress)

    run("downloading", ["npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"], work)
    run("compiling libcurl and aws-lambda-cpp", ["sh", "scripts/preinstall.sh"], client)
    headers = modules / "node-api-headers" / "include"
    includes = (shims, headers, modules / "node-addon-api", artifacts / "include")
    run("compiling rapid-client.node", [
        next(filter(None, map(shutil.which, ("c++", "g++")))),
        "-std=c++17", "-O2", "-fPIC", "-shared", "-s", "-fvisibility=hidden",
        # The function may bring any libstdc++ on LD_LIBRARY_PATH; the client must not care.
        "-static-libstdc++", "-static-libgcc",
        "-DNODE_GYP_MODULE_NAME=rapid_client", "-DBUILDING_NODE_EXTENSION",
        *(f"-I{folder}" for folder in includes),
        "src/rapid-client.cc", "-o", "dist/rapid-client.node",
        f"-L{artifacts}/lib", f"-L{artifacts}/lib64", "-laws-lambda-runtime", "-lcurl",
    ], client)  # fmt: skip

    result = work / "result"
    for name in ("dist", "package.json", "LICENSE", "NOTICE", "THIRD-PARTY-LICENSES"):
        source, target = client / name, result / "node_modules" / "aws-lambda-ric" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for name in ("bootstrap", "index.mjs"):
        shutil.copy(sources() / "nodejs" / name, result)
    for path in (result, *result.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.name == "bootstrap" else 0o644)


def _run(what: str, command: list[str], cwd: Path, log: Path, progress: Progress) -> None:
    progress(what)
    environ = os.environ | {"MAKEFLAGS": f"-j{os.cpu_count() or 1}"}
    started = told = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        while process.poll() is None:
            time.sleep(0.1)
            if (now := time.monotonic()) - told >= _HEARTBEAT:
                told = now
                progress(f"{what} ({now - started:.0f} s)")
    finally:
        if process.poll() is None:  # interrupted: make's children go with it
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        telling = [line for line in lines if re.search(r"(?i)\berror\b|not found|ENOTFOUND", line)] or lines
        raise RuntimeUnavailable(
            f"{what} failed with status {process.returncode} (`{shlex.join(command)[:80]}`): "
            + " | ".join(telling[-4:])
        )


@contextmanager
def _locked(path: Path, identifier: str, progress: Progress) -> Iterator[None]:
    """One builder at a time on this machine. The lock falls with its holder, however it ends."""
    with path.open("w") as file:
        told = 0.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if (now := time.monotonic()) - told >= _HEARTBEAT:
                    told = now
                    progress(f"{identifier}: another process is building it, waiting")
                time.sleep(0.1)
        yield
