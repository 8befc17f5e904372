"""``faas new``: a folder with a function, and its place in ``faas.toml``."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tomllib
from pathlib import Path

from . import FAILED, USAGE, templates
from .output import print_json

_FILE = "faas.toml"
_SCHEMA = ".faas/faas.schema.json"
"""A copy beside the project's state, where editors find it without a network."""


def new(arguments: argparse.Namespace) -> int:
    from emulator.config.functions import NAME, RUNTIMES
    from emulator.config.kinds import suggest

    name, runtime = arguments.name, arguments.runtime
    if not re.fullmatch(NAME, name):
        return _refuse(f"NAME: expected 1 to 64 letters, digits, - and _, found {name!r}", USAGE)
    if runtime not in (*RUNTIMES, "python3"):
        hint = suggest(runtime, list(RUNTIMES)) or f"known: {', '.join(RUNTIMES)}"
        return _refuse(f"--runtime: expected a runtime, found {runtime!r} ({hint})", USAGE)
    folder, file = Path(name), Path(_FILE)
    if folder.exists():
        return _refuse(f"{folder}: is there already; nothing was written", FAILED)
    before = file.read_text(encoding="utf-8") if file.exists() else _beginning()
    after = before.rstrip("\n") + "\n\n" + _entry(name, runtime)
    try:
        if name in tomllib.loads(before).get("functions", {}):
            return _refuse(f"{file}: has a function {name!r} already; nothing was written", FAILED)
        tomllib.loads(after)
    except tomllib.TOMLDecodeError as error:
        return _refuse(f"{file}: can't be added to: {error}; nothing was written", FAILED)
    written = _write_folder(folder, runtime)
    _write_schema()
    file.write_text(after, encoding="utf-8")
    written.append(str(file))
    if arguments.json:
        print_json({"name": name, "runtime": runtime, "written": written})
    else:
        print(f"wrote {', '.join(written)}")
        print(f"next: faas up, then faas invoke {name} -d @{name}/event.json")
    return 0


def _refuse(message: str, status: int) -> int:
    print(f"faas: {message}", file=sys.stderr)
    return status


def _beginning() -> str:
    return f'#:schema ./{_SCHEMA}\n\n[defaults]\nmemory = 128\ntimeout = 3\n'


def _entry(name: str, runtime: str) -> str:
    handlers = {"python": 'handler = "app.handler"\n', "nodejs": 'handler = "index.handler"\n'}
    handler = next((line for family, line in handlers.items() if runtime.startswith(family)), "")
    return (
        f'[functions.{name}]\nruntime = "{runtime}"\n{handler}code = "{name}"\n\n'
        f'[[routes]]\nroute = "ANY /{name}"\nfunction = "{name}"\n'
    )


def _write_folder(folder: Path, runtime: str) -> list[str]:
    if runtime.startswith("python"):
        name, text = "app.py", templates.PYTHON
    elif runtime.startswith("nodejs"):
        name, text = "index.mjs", templates.NODEJS
    else:
        name, text = "bootstrap", templates.BOOTSTRAP
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    if name == "bootstrap":
        (folder / name).chmod(0o755)
    (folder / "event.json").write_text(templates.EVENT, encoding="utf-8")
    return [str(folder / name), str(folder / "event.json")]


def _write_schema() -> None:
    import emulator

    target = Path(_SCHEMA)
    target.parent.mkdir(exist_ok=True)
    ignore = target.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    shutil.copyfile(Path(emulator.__file__).parent / "faas.schema.json", target)
