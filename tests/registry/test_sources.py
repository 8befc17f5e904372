"""Globs: which files of a folder are its code."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.registry.sources import Source, matches


@pytest.mark.parametrize(("pattern", "yes", "no"), [
    ("*.py", ["a.py", "x/y/a.py"], ["a.pyc", "py"]),
    ("tests", ["tests", "tests/a", "x/tests/b"], ["tests2", "atests"]),
    ("tests/", ["tests/a"], ["mytests/a"]),
    ("/tests/*.py", ["tests/a.py"], ["tests/x/a.py", "x/tests/a.py"]),
    ("src/**", ["src/a", "src/b/c"], ["src2/a"]),
    ("**/data/*.json", ["data/a.json", "x/y/data/a.json"], ["data/x/a.json"]),
    ("a?c", ["abc", "x/abc"], ["a/c", "ac"]),
    ("[ab].txt", ["a.txt"], ["c.txt"]),
    ("[!ab].txt", ["c.txt"], ["a.txt"]),
    ("a+b(1).txt", ["a+b(1).txt"], ["aab1.txt"]),
])
def test_globs(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in yes if not matches(path, pattern)] == []
    assert [path for path in no if matches(path, pattern)] == []


def test_exclude_is_stronger_than_include() -> None:
    source = Source(Path("."), include=("*.py",), exclude=("test_*",))
    assert source.has("app.py")
    assert not source.has("test_app.py")
    assert not source.has("app.txt")
    assert source.may_hold("deep/folder")
    assert not source.may_hold("node_modules/.cache")
