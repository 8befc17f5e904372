"""The wheel: all of the package, the runtimes' files, and it works away from the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*command: str, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=100, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves things beside its sources."""
    pytest.importorskip("setuptools", "70.1", reason="building needs setuptools 70.1 (pip install '.[dev]')")
    copy, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in ("emulator", "runtimes"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("README.md"), *ROOT.glob("LICENSE"), ROOT / "pyproject.toml"]:
        shutil.copy(path, copy)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(copy), cwd=copy)
    [file] = built.iterdir()
    return file


def test_it_has_everything(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    assert {f"emulator/{name}" for name in _files(ROOT / "emulator")} <= there, "see packages in pyproject.toml"
    needed = {name for name in _files(ROOT / "runtimes") if "/" in name}
    assert {f"emulator/runtime_files/{name}" for name in needed} <= there
    assert all(name.startswith(("emulator/", "faas_emulator-")) for name in there)


@pytest.mark.linux
def test_it_works_away_from_the_sources(wheel: Path, tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    project.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    _run(*pip, "--target", str(site), str(wheel), cwd=tmp_path)
    faas = (sys.executable, "-m", "emulator")
    environ = {"PYTHONPATH": str(site), "FAAS_CACHE": str(tmp_path / "cache")}
    script = "import emulator.runtimes as r; print(r.__file__, r.sources(), sep='\\n')"
    assert _run(sys.executable, "-c", script, cwd=project, **environ).split() == [
        str(site / "emulator/runtimes.py"), str(site / "emulator/runtime_files"),
    ]  # fmt: skip
    tmp_path.chmod(0o755)
    _run(*faas, "new", "hello", cwd=project, **environ)
    inner = (*faas, "invoke", "hello", "-d", "@hello/event.json")
    answer = _run(*faas, "exec", "--sandbox", "process", "--", *inner, cwd=project, **environ)
    assert '"statusCode": 200' in answer
