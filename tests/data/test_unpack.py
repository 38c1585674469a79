"""Archives: complete files, only inside the folder, and a damaged archive is told."""

import io
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from detr_lite.data.download.unpack import unpack
from detr_lite.structures import DetrLiteError


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


FILES = {"val2017/a.jpg": b"one" * 1000, "val2017/b.jpg": b"two", "val2017/c/d.jpg": b""}


def test_all_files(tmp_path: Path) -> None:
    assert unpack(write_zip(tmp_path / "a.zip", {"val2017/": b"", **FILES}), tmp_path / "out") == 3
    assert files_in(tmp_path / "out") == FILES


def test_wanted_files_alone(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    assert unpack(archive, tmp_path / "out", {"val2017/b.jpg", "val2017/none.jpg"}) == 1
    assert files_in(tmp_path / "out") == {"val2017/b.jpg": b"two"}


def test_what_is_there_in_its_size_is_not_written_again(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    unpack(archive, tmp_path / "out")
    kept, cut = tmp_path / "out/val2017/b.jpg", tmp_path / "out/val2017/a.jpg"
    time = kept.stat().st_mtime_ns
    cut.write_bytes(b"cut off")
    assert unpack(archive, tmp_path / "out") == 3
    assert files_in(tmp_path / "out") == FILES
    assert kept.stat().st_mtime_ns == time


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "..\\out.txt", "C:/out.txt"])
def test_no_file_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    archive = write_zip(tmp_path / "a.zip", {"good.txt": b"1", name: b"2"})
    with pytest.raises(DetrLiteError, match="leads out of the folder; this is not the archive"):
        unpack(archive, tmp_path / "out")
    assert files_in(tmp_path).keys() == {"a.zip"}


def test_no_links(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("inside")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
        archive.writestr("inside/passwd", "x")
    with pytest.raises(DetrLiteError, match="'inside', which is a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_no_writing_through_a_link_that_stands_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "val2017").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DetrLiteError, match="behind a link that leads out"):
        unpack(write_zip(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert files_in(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_that_does_not_have_its_checksum(tmp_path: Path, compression: int) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a.jpg": bytes(range(256)) * 20}, compression)
    content = bytearray(archive.read_bytes())
    content[60] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DetrLiteError, match=r"a\.zip: a damaged archive \(.*\); remove the file and download it again"):
        unpack(archive, tmp_path / "out")
    assert files_in(tmp_path / "out") == {}


@pytest.mark.parametrize("cut", [0, 10, -30])
def test_what_is_no_whole_archive(tmp_path: Path, cut: int) -> None:
    archive = write_zip(tmp_path / "a.zip", FILES)
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(DetrLiteError, match="a damaged archive"):
        unpack(archive, tmp_path / "out")


def test_an_encrypted_archive(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", b"secret")
    content = bytearray(stream.getvalue())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DetrLiteError, match=r"damaged archive \(.*encrypted"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_disk_space_is_checked_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", {"zeros": bytes(5_000_000)})
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=4_000_000))
    with pytest.raises(DetrLiteError, match=r"needs 5 MB of disk space, 4 MB are free"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
