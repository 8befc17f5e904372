"""Dependencies are installed once per question, by pip and npm themselves, from local packages here."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from emulator.registry.packages import store
from emulator.registry.sources import PackageError

HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"


def wheel(folder: Path, name: str) -> None:
    info = f"{name}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", "ANSWER = 42\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("import tiny\n")
    wheel(tmp_path / "wheels", "tiny")
    asked = f"--no-index\n--find-links {tmp_path / 'wheels'}\ntiny\n"
    (tmp_path / "code" / "requirements.txt").write_text(asked)
    return tmp_path / "code"


def test_requirements_are_merged_and_installed_once(code: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    def again(home: str) -> Path:
        return store(
            code, home=tmp_path / home, requirements=code / "requirements.txt", runtime=HERE,
            cache=tmp_path / "cache", progress=lines.append,
        ).path

    first = again("home")
    assert (first / "tiny.py").read_text() == "ANSWER = 42\n"
    assert {path.name.split(".")[0] for path in (first / "__pycache__").iterdir()} == {"app", "tiny"}
    assert any("requirements.txt" in line for line in lines)
    lines.clear()
    shutil.rmtree(tmp_path / "wheels")
    assert again("other").name == first.name
    (code / "app.py").write_text("import tiny # changed\n")
    assert again("home").name != first.name
    assert lines == []


def test_own_files_are_stronger(code: Path, tmp_path: Path) -> None:
    (code / "tiny.py").write_text("ANSWER = 43\n")
    package = store(
        code, home=tmp_path / "home", requirements=code / "requirements.txt", runtime=HERE,
        cache=tmp_path / "cache",
    )
    assert (package.path / "tiny.py").read_text() == "ANSWER = 43\n"


def test_what_can_t_be_installed_is_named_and_leaves_nothing(code: Path, tmp_path: Path) -> None:
    (code / "requirements.txt").write_text("--no-index\nno-such-thing==1\n")
    with pytest.raises(PackageError, match=r"requirements\.txt.*no-such-thing"):
        store(
            code, home=tmp_path / "home", requirements=code / "requirements.txt", runtime=HERE,
            cache=tmp_path / "cache",
        )
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_npm_is_run_where_node_modules_is_missing(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "local" / "lib").mkdir(parents=True)
    (code / "index.js").write_text("exports.handler = async () => 1;\n")
    (code / "package.json").write_text(json.dumps({"name": "x", "dependencies": {}}))
    plain = store(code, home=tmp_path / "home", runtime="nodejs20.x", cache=tmp_path / "cache")
    assert not (plain.path / "node_modules").exists()
    assert not (tmp_path / "cache").exists()
    (tmp_path / "dep").mkdir()
    (tmp_path / "dep" / "package.json").write_text('{"name": "dep", "version": "1.0.0"}')
    dependencies = {"dep": f"file:{tmp_path / 'dep'}"}
    (code / "package.json").write_text(json.dumps({"name": "x", "dependencies": dependencies}))
    (code / ".npmrc").write_text("install-links=true\noffline=true\n")
    package = store(code, home=tmp_path / "home", runtime="nodejs20.x", cache=tmp_path / "cache")
    assert (package.path / "node_modules" / "dep" / "package.json").is_file()
    (code / "package.json").write_text("{")
    with pytest.raises(PackageError, match=r"package\.json"):
        store(code, home=tmp_path / "home", runtime="nodejs20.x", cache=tmp_path / "cache")
