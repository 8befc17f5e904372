"""Building the Node.js runtime: refused with the remedy, never half done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.runtimes import RuntimeUnavailable
from emulator.runtimes_node import available_node, resolve_node
from tests.support.cloud import ROOT


@pytest.fixture
def identifier() -> str:
    identifier, interpreter, remedy = available_node()[-1]
    if interpreter is None:
        pytest.skip(remedy)
    return identifier


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, with a few harmless commands in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("node", "sh", "env"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def pretend(folder: Path, name: str, script: str = "exit 0") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


BUILD_TOOLS = ("npm", "autoconf", "automake", "libtoolize", "cmake", "make", "c++")


def test_a_missing_tool_is_named_with_its_package(identifier: str, tools: Path, tmp_path: Path) -> None:
    for name in BUILD_TOOLS:
        if name not in ("libtoolize", "c++"):
            pretend(tools, name)
    remedy = r"libtoolize, c\+\+ missing.*apt-get install -y libtool g\+\+$"
    with pytest.raises(RuntimeUnavailable, match=remedy):
        resolve_node(identifier, print, cache=tmp_path / "cache")


def test_a_failed_build_says_why_and_leaves_nothing(identifier: str, tools: Path, tmp_path: Path) -> None:
    for name in BUILD_TOOLS:
        pretend(tools, name)
    pretend(tools, "npm", "echo npm error code ENOTFOUND registry.npmjs.org >&2; exit 1")
    told: list[str] = []
    with pytest.raises(RuntimeUnavailable, match=r"downloading failed with status 1 .*ENOTFOUND"):
        resolve_node(identifier, told.append, cache=tmp_path / "cache")
    assert told == [
        f"{identifier}: building aws-lambda-ric, once, about a minute",
        f"{identifier}: downloading",
    ]
    assert os.listdir(tmp_path / "cache" / "runtimes") == [f"{identifier}.lock"]


def test_two_emulators_build_once(identifier: str, tools: Path, tmp_path: Path) -> None:
    """The second waits for the first, then finds its result (here: its failure, and tries for itself)."""
    for name in BUILD_TOOLS:
        pretend(tools, name)
    pretend(tools, "npm", f"echo x >> {tmp_path}/calls; {shutil.which('sleep', path=os.defpath)} 0.7; exit 1")
    code = (
        "import sys; from pathlib import Path; from emulator.runtimes_node import resolve_node\n"
        f"try: resolve_node({identifier!r}, print, cache=Path(sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert all("downloading failed" in output for output in outputs), outputs
    assert sum("another process is building it, waiting" in output for output in outputs) == 1
    assert (tmp_path / "calls").read_text() == "x\nx\n"
