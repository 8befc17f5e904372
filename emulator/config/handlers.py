"""Is the file that a handler names there, and will the package contain it?"""

from __future__ import annotations

import os
import stat
import zipfile

from emulator.registry.sources import Source


class _Code:
    """What a source holds, folder or zip alike."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.modes: dict[str, int] | None = None
        if source.path.is_file():
            with zipfile.ZipFile(source.path) as archive:
                self.modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}

    def has(self, name: str) -> bool:
        if self.modes is not None:
            return name in self.modes
        return (self.source.path / name).is_file()

    def is_executable(self, name: str) -> bool:
        if self.modes is not None:
            # 0: made where there are no modes; unpacked as executable.
            return not (mode := self.modes[name]) or bool(mode & stat.S_IXUSR)
        return os.access(self.source.path / name, os.X_OK)


def handler_problem(runtime: str, handler: str, source: Source) -> tuple[str, str, str] | None:
    """Key, what was expected and what was found, or None when the handler's file is there."""
    try:
        code = _Code(source)
    except (zipfile.BadZipFile, OSError) as error:
        return "code", "a zip file that can be opened", f"{source.path.name}: {error}"
    if runtime.startswith("provided."):
        names = ["bootstrap"]
    else:
        if "." not in handler.rsplit("/", 1)[-1].strip("."):
            return "handler", "a handler of the form file.function", f'"{handler}"'
        names = _python_files(handler) if runtime.startswith("python") else _node_files(handler)
    there = [name for name in names if code.has(name)]
    key, found = ("code", "none") if names == ["bootstrap"] else ("handler", f'"{handler}", without it')
    if not there:
        return key, f"{' or '.join(names[:3])} in {source.path.name}", found
    if code.modes is None and not any(source.has(name) for name in there):
        return key, f"{there[0]} to be part of the code", "that include and exclude leave it out"
    if runtime.startswith("provided.") and not code.is_executable(there[0]):
        return key, "an executable bootstrap", "one without the permission to run: chmod +x bootstrap"
    return None


def _python_files(handler: str) -> list[str]:
    module = handler.rpartition(".")[0].replace(".", "/")
    return [f"{module}.py", f"{module}/__init__.py", f"{module}.pyc", f"{module}.so"]


def _node_files(handler: str) -> list[str]:
    folder, slash, name = handler.rpartition("/")
    module = folder + slash + name.partition(".")[0]
    return [f"{module}{ending}" for ending in (".js", ".mjs", ".cjs", "")]
