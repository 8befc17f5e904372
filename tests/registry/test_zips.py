"""A zip file is not trusted: nothing is written outside, nothing without bound."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from emulator.registry.sources import PackageError
from emulator.registry.zips import unpack


def make(path: Path, *members: tuple[str, str, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16 or 0x20  # else zipfile makes a mode up
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


@pytest.mark.parametrize("members", [
    [("../out", "x", FILE)], [("/etc/out", "x", FILE)], [("a/../../out", "x", FILE)],
    [("..\\out", "x", FILE)], [("C:/out", "x", FILE)], [("link", "/etc/passwd", LINK)],
    [("a/link", "../../out", LINK)],
    [("a", "b", LINK), ("b", "..", LINK)], [("a", "x", FILE), ("a/b", "x", FILE)],
    [("a/b", "x", FILE), ("a", "x", FILE)],
])
def test_refused(members: list[tuple[str, str, int]], tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        unpack(make(tmp_path / "bad.zip", *members), tmp_path / "in" / "target", limit=1000)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "in" / "out").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", ("d", "e", LINK), ("d/f", "x", FILE))
    unpacked = tmp_path / "t"
    with pytest.raises((PackageError, OSError)):
        unpack(archive, unpacked, limit=1000)


def test_links_and_modes_inside(tmp_path: Path) -> None:
    members = [
        ("a/f", "x", FILE), ("a/l", "f", LINK), ("x", "y", stat.S_IFREG | 0o4777), ("n", "z", 0),
        ("e/", "", 0),
    ]
    unpack(make(tmp_path / "a.zip", *members), tmp_path / "t", limit=1000)
    assert (tmp_path / "t/a/l").read_text() == "x"
    assert stat.S_IMODE((tmp_path / "t/x").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "t/n").stat().st_mode) == 0o755
    assert (tmp_path / "t/e").is_dir()


def test_bounds(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", ("f", "x" * 1001, FILE))
    with pytest.raises(PackageError, match="Unzipped size must be smaller than 1000 bytes"):
        unpack(archive, tmp_path / "t", limit=1000)
    # A member that declares less than it holds.
    lying = archive.read_bytes().replace((1001).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "b.zip").write_bytes(lying)
    with pytest.raises(PackageError):
        unpack(tmp_path / "b.zip", tmp_path / "t2", limit=1000)


def test_broken(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.zip", ("f", "x" * 500, FILE)).read_bytes()
    damaged = (b"", b"PK", whole[:40], whole[40:], whole.replace(b"PK\x01\x02", b"PK\x01\x03"))
    for index, content in enumerate(damaged):
        path = tmp_path / f"{index}.zip"
        path.write_bytes(content)
        with pytest.raises(PackageError, match="Could not unzip uploaded file"):
            unpack(path, tmp_path / f"t{index}", limit=1000)
