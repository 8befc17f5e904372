"""A project folder to write configurations into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.config import ConfigError, Problem, Project, load_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds code for one function of each family."""
    for name, file in (("py", "app.py"), ("js", "index.mjs"), ("sh", "bootstrap")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("")
    (tmp_path / "sh" / "bootstrap").chmod(0o755)
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Callable[[str], Project]:
    def read(text: str) -> Project:
        (folder / "faas.toml").write_text(text)
        return load_project(folder)

    return read


@pytest.fixture
def problems(read: Callable[[str], Project]) -> Callable[[str], tuple[Problem, ...]]:
    def problems(text: str) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        return caught.value.problems

    return problems
