"""Rules of the code base that no other tool checks: what is not a test is a wish."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.core.pool import PoolStatistics
from emulator.telemetry.exposition import Exposition
from emulator.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "emulator").rglob("*.py"))
LONGEST = 650
LONG = 250
LONG_FOR_A_REASON = {
    "core/pool.py": "one truth about who runs where: its rules are read together",
    "fleet/fleet.py": "facts, orders and services of one event loop",
    "fleet/live.py": "one instance's whole life: its phases share their state",
    "fleet/runtime_api.py": "two readers of one protocol, side by side to be compared",
    "http/server.py": "a reader of requests beside uvicorn's, with all its hooks",
    "sandbox/docker.py": "one backend and its sandbox",
    "sandbox/docker_engine.py": "everything that is said to the engine",
    "sandbox/images.py": "how images are made without a registry",
    "sandbox/launcher.py": "a program of its own, which imports next to nothing",
    "sandbox/namespaces.py": "system calls that Python has no words for",
    "sandbox/process.py": "one backend: its rung, its launcher, what both say to each other",
    "runtimes_node.py": "a whole runtime made without its vendor's build",
}
BANNED_SUFFIXES = ("Manager", "Service", "Handler", "Helper", "Util", "Utils", "Impl", "Base")
PURE = {"__future__", "collections", "dataclasses", "enum", "heapq", "math", "pathlib", "typing"}
UNITS = ("_seconds", "_bytes", "_gigabyte_seconds", "_ratio")


def _name(path: Path) -> str:
    return path.relative_to(ROOT / "emulator").as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_layers() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    assert command, "lint-imports is not installed: pip install -e '.[dev]'"
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=100, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_core_is_pure() -> None:
    """It imports modules that hold data and arithmetic, and itself."""
    foreign = []
    for path in (ROOT / "emulator" / "core").glob("*.py"):
        for node in ast.walk(_tree(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            foreign += [f"{_name(path)}: {name}" for name in names if name.partition(".")[0] not in PURE]
    assert not foreign


def test_modules_are_short_or_have_a_reason() -> None:
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST}
    long = {name: lines for name, lines in lengths.items() if lines > LONG}
    assert not long.keys() - LONG_FOR_A_REASON.keys(), f"longer than {LONG} lines without a reason: {long}"
    assert LONG_FOR_A_REASON.keys() <= lengths.keys(), "a reason for a module that is gone"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_module_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(_tree(path)), "a module opens with a docstring"


def test_class_names_say_what_a_thing_is() -> None:
    names = [
        f"{_name(path)}: {node.name}"
        for path in MODULES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef) and node.name.endswith(BANNED_SUFFIXES)
    ]
    assert not names


def test_nothing_is_left_for_later() -> None:
    mark = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    files = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    found = []
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if mark.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


def test_metric_names_follow_prometheus() -> None:
    for metric in Exposition(Metrics(lambda: PoolStatistics(0, {}, {}, 0), lambda: 0)).collect():
        assert re.fullmatch(r"faas_[a-z]+(_[a-z]+)*", metric.name), metric.name
        assert metric.documentation.endswith("."), f"{metric.name}: help is a sentence"
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket")), "added by the client library"
        if metric.type == "histogram":
            assert metric.name.endswith(UNITS), f"{metric.name}: a histogram names its unit"
