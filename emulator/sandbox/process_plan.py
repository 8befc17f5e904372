"""What the launcher must be told to start an instance of a version: paths, argv, environment, limits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emulator.core.model import Version
from emulator.runtimes import BOOTSTRAPS, Runtime, resolve
from emulator.sandbox.paths import merge_layers, readable_copy, rewrite
from emulator.sandbox.protocol import LaunchFailed, LaunchSpec, Progress
from emulator.sandbox.watch import MEGABYTE

_Key = tuple[str, str, str, tuple[str, ...]]


class Plans:
    """Of every version prepared so far."""

    def __init__(self, home: Path, label: str) -> None:
        self._home = home
        self._label = label
        self._prepared: dict[_Key, tuple[Runtime, str, str]] = {}

    def __contains__(self, version: Version) -> bool:
        return _key(version) in self._prepared

    def prepare(self, version: Version, progress: Progress, *, readable: bool) -> None:
        """Blocks. ``readable``: another user must be able to read the code. Raises
        RuntimeUnavailable, OSError."""
        runtime = resolve(version.runtime, progress)
        layers = [Path(layer) for layer in version.layers]
        opt = str(merge_layers(layers, self._home / "layers")) if layers else ""
        code = Path(version.code).absolute()
        if not code.is_dir():
            raise OSError(f"function {version.function}: its code folder {code} is not there")
        if readable:
            code = readable_copy(code, self._home / "code")
        self._prepared[_key(version)] = (runtime, str(code), opt)

    def base(self, version: Version) -> dict[str, Any]:
        """Of a prepared version: what all instances of its runtime share."""
        return _base_of(self._prepared[_key(version)][0])

    @contextmanager
    def trial(self, version: Version, *command: str) -> Iterator[None]:
        """Within, an instance of ``version`` runs this command instead of a runtime."""
        runtime = Runtime("provided", "provided", None, None, (), command)
        self._prepared[_key(version)] = (runtime, str(version.code), "")
        try:
            yield
        finally:
            del self._prepared[_key(version)]

    def message(self, spec: LaunchSpec, tmp: str | None) -> dict[str, Any]:
        """All of ``launch`` but who asks. ``tmp``: the instance's folder when it runs on the real
        paths, where ``@`` stands for its number; None: it sees the platform's paths.
        Raises LaunchFailed."""
        runtime, code, opt = self._prepared[_key(spec.version)]
        argv = list(runtime.command) or [_find_bootstrap(code, opt, spec.version)]
        environ = {**runtime.environ, **spec.environ}
        if tmp is not None:
            real = {"/var/task": code, "/opt": opt or "/nonexistent"}
            real["/tmp"] = tmp
            if runtime.directory:
                real["/var/runtime"] = str(runtime.directory)
            if runtime.prefixes:
                real["/var/lang"] = str(runtime.prefixes[0])
            argv = [rewrite(part, real) for part in argv]
            if runtime.family == "python":
                argv.append(real["/opt"])
            environ = {name: rewrite(value, real) for name, value in environ.items()}
            environ.setdefault("TMPDIR", real["/tmp"])
        return {
            "name": spec.name,
            "argv": argv,
            "environ": environ,
            "code": code,
            "opt": opt,
            "hostname": f"{self._label}-{spec.version.function}"[:63],
            "memory": spec.version.memory * MEGABYTE,
            "tmp": spec.version.ephemeral_storage * MEGABYTE,
            "marker": f"AWS_LAMBDA_RUNTIME_API={environ.get('AWS_LAMBDA_RUNTIME_API', spec.name)}".encode(),
            **_base_of(runtime),
        }

    def close(self) -> None:
        """Remove the copies; merged layers are kept for the next run."""
        shutil.rmtree(self._home / "code", ignore_errors=True)
        try:
            self._home.rmdir()
        except OSError:
            return


def _key(version: Version) -> _Key:
    """What of a version its preparation depends on."""
    return version.id, version.runtime, str(version.code), tuple(str(layer) for layer in version.layers)


def _base_of(runtime: Runtime) -> dict[str, Any]:
    prefixes: list[tuple[str, str]] = []
    if runtime.prefixes:
        prefixes.append((str(runtime.prefixes[0]), "/var/lang"))
        if runtime.command and not runtime.command[0].startswith("/var/lang/"):
            own = [str(prefix) for prefix in runtime.prefixes]
            prefixes += [(path, path) for path in own if not path.startswith("/usr")]
    return {"runtime": str(runtime.directory or ""), "prefixes": prefixes}


def _find_bootstrap(code: str, opt: str, version: Version) -> str:
    for inside in BOOTSTRAPS[:2]:
        folder = code if inside.startswith("/var/task") else opt
        path = f"{folder}/bootstrap"
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return inside
    raise LaunchFailed(
        f"Runtime.InvalidEntrypoint: function {version.function}: no executable bootstrap "
        f"({', '.join(BOOTSTRAPS[:2])}); add one at the top of its code and chmod +x it"
    )
