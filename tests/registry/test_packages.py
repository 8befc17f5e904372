"""The code store: the same content is the same package, whatever else differs."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from emulator.registry import packages
from emulator.registry.packages import Package, prune, store
from emulator.registry.sources import PackageError

HERE = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "lib").mkdir(parents=True)
    (folder / "app.py").write_text("def handler(event, context): return 1\n")
    (folder / "lib" / "tool").write_text("#!/bin/sh\n")
    (folder / "lib" / "tool").chmod(0o700)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_what_is_stored(code: Path, home: Path) -> None:
    package = store(code, home=home)
    assert package.path == home / "code" / package.sha256_hex
    assert base64.b64decode(package.code_sha256).hex() == package.sha256_hex
    assert package.size == sum(path.stat().st_size for path in code.rglob("*") if path.is_file())
    modes = {
        path.relative_to(package.path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in [package.path, *package.path.rglob("*")]
    }
    assert modes == {".": 0o755, "app.py": 0o644, "lib": 0o755, "lib/tool": 0o755}
    assert [path.name for path in (home / "code").iterdir()] == [package.sha256_hex]


def test_times_don_t_count_but_paths_modes_and_contents_do(code: Path, home: Path) -> None:
    first = store(code, home=home)
    os.utime(code / "app.py", (1, 1))
    assert store(code, home=home) == first
    seen = {first.sha256_hex}
    for change in (
        lambda: (code / "app.py").write_text("other"),
        lambda: (code / "app.py").chmod(0o755),
        lambda: (code / "app.py").rename(code / "app2.py"),
        lambda: (code / "link").symlink_to("app2.py"),
    ):
        change()
        seen.add(store(code, home=home).sha256_hex)
    assert len(seen) == 5


def test_a_change_of_the_same_size_and_time_is_seen(code: Path, home: Path) -> None:
    (code / "app.py").write_text("1")
    os.utime(code / "app.py", (1, 1))
    first = store(code, home=home)
    (code / "app.py").write_text("2")
    os.utime(code / "app.py", (1, 1))
    second = store(code, home=home)
    assert first.sha256_hex != second.sha256_hex
    assert (second.path / "app.py").read_text() == "2"


def test_what_is_never_code_and_what_is_left_out(code: Path, home: Path) -> None:
    for name in (".git/config", "__pycache__/app.pyc", ".venv/bin/python", "lib/.DS_Store", "faas.toml",
                 "node_modules/.cache/x", "node_modules/left-pad/index.js", "tests/test_app.py",
                 "lib/notes.md"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("x")
    package = store(code, home=home, exclude=("tests", "*.md"))
    paths = [path for path in package.path.rglob("*") if path.is_file()]
    files = {path.relative_to(package.path).as_posix() for path in paths}
    assert files == {"app.py", "lib/tool", "node_modules/left-pad/index.js"}
    package = store(code, home=home, include=("*.py",), exclude=("tests/**",))
    assert [path.name for path in package.path.rglob("*")] == ["app.py"]
    with pytest.raises(PackageError, match="include"):
        store(code, home=home, include=("*.rb",))


def test_links_stay_inside_and_are_followed_outside(code: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "shared.py").write_text("shared")
    (code / "common").symlink_to(tmp_path / "common")
    (code / "alias.py").symlink_to("app.py")
    (code / "self").symlink_to(".")
    (code / "gone").symlink_to("nowhere")
    package = store(code, home=home)
    assert (package.path / "common" / "shared.py").read_text() == "shared"
    assert not (package.path / "common").is_symlink()
    assert os.readlink(package.path / "alias.py") == "app.py"
    assert not (package.path / "gone").is_symlink()


def test_a_zip_file_has_the_platform_s_digest_and_size(tmp_path: Path, home: Path) -> None:
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("app.py", "x = 1")
        tool = zipfile.ZipInfo("bin/tool")
        tool.external_attr = (stat.S_IFREG | 0o755) << 16
        writer.writestr(tool, "#!/bin/sh")
    package = store(archive, home=home)
    digest = hashlib.sha256(archive.read_bytes()).digest()
    assert package.code_sha256 == base64.b64encode(digest).decode()
    assert package.size == archive.stat().st_size
    assert stat.S_IMODE((package.path / "app.py").stat().st_mode) == 0o644
    assert stat.S_IMODE((package.path / "bin/tool").stat().st_mode) == 0o755
    assert store(archive, home=home) == package


def test_python_is_compiled_for_the_same_interpreter_only(code: Path, home: Path, tmp_path: Path) -> None:
    (code / "broken.py").write_text("def :\n")
    (code / "odd.py").write_text("'\\d'\n")
    package = store(code, home=home, runtime=HERE)
    compiled = {path.name.split(".")[0] for path in package.path.rglob("*.pyc")}
    assert compiled == {"app", "odd"}
    show = "import app; print(app.__cached__, app.handler.__code__.co_filename)"
    told = subprocess.run(
        [sys.executable, "-Bc", show], cwd=package.path, env={"PYTHONPATH": str(package.path)},
        capture_output=True, text=True, check=True,
    ).stdout.split()
    assert told == [str(next(package.path.glob("__pycache__/app.*"))), str(package.path / "app.py")]
    other = store(code, home=tmp_path / "other", runtime="python3.8")
    assert not list(other.path.rglob("*.pyc"))
    assert other.sha256_hex == package.sha256_hex


def test_many_at_once_make_one(code: Path, home: Path) -> None:
    found: list[Package] = []

    def one() -> None:
        found.append(store(code, home=home, runtime=HERE))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in (home / "code").iterdir()] == [found[0].sha256_hex]


def test_too_large(code: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "UNZIPPED_LIMIT", 10)
    with pytest.raises(PackageError, match="Unzipped size must be smaller than 10 bytes"):
        store(code, home=home)
    assert not list(home.rglob("*"))


def test_what_can_t_be_read_is_named(tmp_path: Path, home: Path) -> None:
    with pytest.raises(PackageError, match="gone"):
        store(tmp_path / "gone", home=home)
    (tmp_path / "no.zip").write_text("no zip")
    with pytest.raises(PackageError, match="Could not unzip uploaded file"):
        store(tmp_path / "no.zip", home=home)
    assert list((home / "code").iterdir()) == []


def test_prune_keeps_what_it_is_told_and_what_is_being_made(code: Path, home: Path) -> None:
    kept = store(code, home=home)
    (code / "app.py").write_text("other")
    dropped = store(code, home=home)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (home / "code" / f".tmp-{gone.pid}-x").mkdir()
    (home / "code" / f".tmp-{os.getpid()}-x").mkdir()
    removed = prune(home, {kept.sha256_hex})
    assert set(removed) == {dropped.sha256_hex, f".tmp-{gone.pid}-x"}
    assert {path.name for path in (home / "code").iterdir()} == {kept.sha256_hex, f".tmp-{os.getpid()}-x"}
    assert prune(home / "nowhere") == []
