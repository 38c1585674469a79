"""The folder of a written dataset: there whole or not at all, never over what others wrote, sources untouched."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from detr_lite.data.formats.new_dataset import MARK, Placing, Written, check_new, new_dataset, place_images
from detr_lite.data.records import RawSplit
from detr_lite.structures import DetrLiteError
from tests.helpers.random_splits import random_split


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(output: Path, sources: list[Path], text: str = "new", overwrite: bool = False) -> None:
    with new_dataset(output, sources, "prepare-data x", overwrite) as folder:
        (folder / "file").write_text(text)


def test_a_new_folder_says_what_wrote_it(tmp_path: Path) -> None:
    write(tmp_path / "deep/out", [])
    assert (tmp_path / "deep/out/file").read_text() == "new"
    assert (tmp_path / "deep/out" / MARK).read_text() == "Written by prepare-data x\n"
    assert entries(tmp_path / "deep") == ["out"]


@pytest.mark.parametrize("error", [DetrLiteError("no"), KeyboardInterrupt()])
def test_after_an_error_there_is_nothing(tmp_path: Path, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise error

    with pytest.raises(type(error)), new_dataset(tmp_path / "out", [], "x") as folder:
        fail(folder)
    assert entries(tmp_path) == []


def test_an_output_is_replaced_as_a_whole_and_only_when_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "out", [], "first")
    (tmp_path / "out/stale").write_text("")
    with pytest.raises(DetrLiteError, match="is there already; name a new folder, or replace it with --overwrite"):
        write(tmp_path / "out", [], "second")
    with pytest.raises(DetrLiteError, match="no"), new_dataset(tmp_path / "out", [], "x", overwrite=True):
        raise DetrLiteError("no")
    assert (tmp_path / "out/file").read_text() == "first"
    write(tmp_path / "out", [], "second", overwrite=True)
    assert entries(tmp_path / "out") == ["file", MARK]
    assert (tmp_path / "out/file").read_text() == "second"
    assert entries(tmp_path) == ["out"]


def test_what_others_wrote_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("years")
    with pytest.raises(DetrLiteError, match="is not empty, and was not written by this command"):
        write(tmp_path / "mine", [], overwrite=True)
    with pytest.raises(DetrLiteError, match="is a file or a link"):
        write(tmp_path / "mine/thesis", [], overwrite=True)
    assert (tmp_path / "mine/thesis").read_text() == "years"


def test_a_mounted_disk_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    with pytest.raises(DetrLiteError, match="is a disk of its own; name a folder in it"):
        check_new(tmp_path / "disk", [], overwrite=False)


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", [])
    assert (tmp_path / "out/file").exists()


@pytest.mark.parametrize("output", ["data", "data/new", "."])
def test_sources_are_not_written_into(tmp_path: Path, output: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/image").write_text("x")
    with pytest.raises(DetrLiteError, match="overlap; name a folder beside it"):
        write(tmp_path / output, [tmp_path / "other", tmp_path / "data"], overwrite=True)
    assert entries(tmp_path / "data") == ["image"]


def one_image(path: Path) -> RawSplit:
    return replace(random_split(0, 1), paths=[str(path)])


def test_images_are_linked(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"pixels")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    written = Written()
    place_images(one_image(tmp_path / "b.jpg"), ["x/b.jpg"], tmp_path / "out", "link", written)
    assert not (tmp_path / "out/x/b.jpg").is_symlink()
    assert (tmp_path / "out/x/b.jpg").samefile(tmp_path / "a.jpg")
    assert (written.images, written.linked, written.copied) == (1, 1, 0)


@pytest.mark.parametrize("is_possible", [True, False])
def test_images_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_possible: bool) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not is_possible:
        monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "a.jpg").write_bytes(b"pixels")
    written = Written()
    how: Placing = "copy" if is_possible else "link"
    place_images(one_image(tmp_path / "a.jpg"), ["a.jpg"], tmp_path / "out", how, written)
    assert (tmp_path / "out/a.jpg").read_bytes() == b"pixels"
    assert not (tmp_path / "out/a.jpg").samefile(tmp_path / "a.jpg")
    assert (written.linked, written.copied) == (0, 1)


def test_an_image_that_has_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        place_images(one_image(tmp_path / "a.jpg"), ["a.jpg"], tmp_path / "out", "link", Written())
