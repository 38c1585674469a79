"""Finding the image files of a command line, and reading them."""

from collections.abc import Callable
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from detr_lite.data import image_sources
from detr_lite.data.image_sources import ImageFile, find_images, read_batches, refuse_unreadable
from detr_lite.io import atomic_write, check_output, drawing_names
from detr_lite.structures import DetrLiteError

Found = Callable[..., list[str]]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, other files and hidden files, in the current folder. None of them is opened."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *("photos/b.JPG", "photos/a.png", "photos/one/a.png", "photos/one/two/c.tif", "photos/notes.txt"),
        *("photos/.hidden.png", "photos/.cache/d.png", "photos/out/a.png", "other/a.png", "empty.d/readme.md"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def names(*given: str, output: str = "photos/out") -> list[str]:
    return [file.name.as_posix() for file in find_images(given, Path(output))]


IN_PHOTOS = ["a.png", "b.JPG", "one/a.png", "one/two/c.tif"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["photos/a.png"], ["a.png"]),
        (["photos/notes.txt"], ["notes.txt"]),  # given by its path: an error only when it is read
        (["photos"], IN_PHOTOS),
        (["./photos/../photos/"], IN_PHOTOS),
        (["photos", "photos/a.png", "photos/one"], IN_PHOTOS),  # without duplicates
        (["photos/*.png"], ["a.png"]),
        (["photos/*"], IN_PHOTOS),
        (["photos/**/*.png"], ["a.png", "one/a.png"]),
        (["photos/[ab].*"], ["a.png", "b.JPG"]),
        (["photos/on?/*.png"], ["one/a.png"]),
        (["*/a.png"], ["other/a.png", "photos/a.png"]),
        (["other", "photos/one"], ["other/a.png", "photos/one/a.png", "photos/one/two/c.tif"]),
        (["photos/a.png", "photos/one/a.png"], ["a.png", "one/a.png"]),
        (["other", "photos/b.JPG"], ["a.png", "b.JPG"]),  # all names differ, so they stay short
    ],
)
def test_files_that_are_found_and_their_names(given: list[str], expected: list[str]) -> None:
    assert names(*given) == expected


def test_absolute_and_relative_sources_give_the_same_names(photos: Path) -> None:
    assert names(str(photos), "photos") == IN_PHOTOS
    assert names(str(photos / "**/*")) == IN_PHOTOS


def test_a_file_whose_name_looks_like_a_pattern(photos: Path) -> None:
    (photos / "a[1].png").touch()
    assert names("photos/a[1].png") == ["a[1].png"]


def test_names_that_differ_only_in_case_count_as_equal(photos: Path) -> None:
    (photos.parent / "other/A.PNG").touch()
    assert names("photos/a.png", "other/A.PNG") == ["photos/a.png", "other/A.PNG"]


def test_linked_folders_are_searched_once_even_in_a_cycle(photos: Path) -> None:
    (photos / "cycle").symlink_to(photos)
    (photos / "elsewhere").symlink_to(photos.parent / "other")
    assert names("photos") == ["a.png", "b.JPG", "elsewhere/a.png", "one/a.png", "one/two/c.tif"]


def test_files_in_the_output_folder_are_left_out(photos: Path) -> None:
    assert names("photos", output="photos/out") == IN_PHOTOS
    assert names("photos/**/a.png", output="photos/out") == ["a.png", "one/a.png"]
    (photos / "link.png").symlink_to(photos / "out/a.png")
    assert names("photos", output=str(photos / "out")) == IN_PHOTOS


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere", "--source nowhere: no such file or folder"),
        ("", "--source '': no such file or folder"),
        ("empty.d", "--source empty.d: no images in it"),
        ("photos/*.bmp", "--source photos/*.bmp: no file matches this pattern"),
        ("photos/*.txt", "--source photos/*.txt: no images in it"),
        ("photos/**x", "--source photos/**x: no valid pattern"),
        ("photos/*/../../other/a.png", "no valid pattern"),
        ("photos/out", "--source photos/out lies in the output folder"),
        ("photos/out/a.png", "give another --output"),
    ],
)
def test_a_source_without_images_is_refused(given: str, message: str) -> None:
    with pytest.raises(DetrLiteError) as error:
        names("photos/a.png", given)
    assert message in str(error.value)


def write_images(folder: Path, sizes: list[tuple[int, int] | None]) -> list[ImageFile]:
    """Images of these (width, height); None is a text file."""
    files = []
    for index, size in enumerate(sizes):
        path = folder / f"{index}.png"
        if size is None:
            path.write_text("no image")
        else:
            Image.new("RGB", size).save(path)
        files.append(ImageFile(path, PurePath(path.name)))
    return files


@pytest.mark.parametrize("count", [0, 1, 7])
def test_batches_contain_all_images_in_order(tmp_path: Path, count: int) -> None:
    files = write_images(tmp_path, [(index + 1, 2) for index in range(count)])
    unreadable: list[ImageFile] = []
    batches = list(read_batches(files, 3, unreadable, "testing", "upright"))
    assert [len(batch) for batch in batches] == {0: [], 1: [1], 7: [3, 3, 1]}[count]
    assert [file for batch in batches for file, _ in batch] == files
    assert [image.width for batch in batches for _, image in batch] == list(range(1, count + 1))
    assert unreadable == []
    refuse_unreadable(unreadable, count, tmp_path)


def test_unreadable_files_are_skipped_with_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = write_images(tmp_path, [(2, 2), None, (2, 2), None])
    unreadable: list[ImageFile] = []
    batches = list(read_batches(files, 2, unreadable, "testing", "upright"))
    assert [file for batch in batches for file, _ in batch] == [files[0], files[2]]
    assert unreadable == [files[1], files[3]]
    out, err = capfd.readouterr()
    assert [line.split(": not")[0] for line in out.splitlines()] == [
        f"warning: skipped {tmp_path / name}.png" for name in "13"
    ]
    assert err == "", "no progress bar without a terminal"
    with pytest.raises(DetrLiteError, match=r"2 of 4 files could not be read .*1\.png, .*3\.png\); .* other 2 are in "):
        refuse_unreadable(unreadable, 4, tmp_path)
    with pytest.raises(DetrLiteError, match="nothing is written"):
        refuse_unreadable(unreadable, 2, tmp_path)


def test_batches_of_large_images_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sources, "_MAX_BATCH_PIXELS", 100)
    files = write_images(tmp_path, [(20, 20), (8, 8), (8, 8), (2, 2)])
    assert [len(batch) for batch in read_batches(files, 8, [], "testing", "upright")] == [1, 2, 1]


def test_an_output_folder_must_be_new_or_empty_without_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    check_output(folder, overwrite=False)
    assert not folder.exists(), "nothing is created yet"
    folder.mkdir()
    (folder / ".DS_Store").touch()
    check_output(folder, overwrite=False)
    (folder / "a.png").touch()
    with pytest.raises(DetrLiteError, match="is not empty; name another folder, or give --overwrite"):
        check_output(folder, overwrite=False)
    check_output(folder, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(DetrLiteError, match=r"a\.png is a file; name a folder"):
            check_output(folder / "a.png", overwrite)


def test_names_of_drawings_are_unique() -> None:
    given = ["a.png", "a.tif", "a.gif", "a.tif.png", "b.JPG", "sub/a.tif", "scan", "B.png"]
    drawn = [name.as_posix() for name in drawing_names(map(PurePath, given), keep=(".png", ".jpg"))]
    assert drawn == ["a.png", "a.tif-2.png", "a.gif.png", "a.tif.png", "b.JPG", "sub/a.png", "scan.png", "B.png"]
    drawn = [name.as_posix() for name in drawing_names(map(PurePath, given), keep=(".png",))]
    assert drawn == ["a.png", "a.tif-2.png", "a.gif.png", "a.tif.png", "b.JPG.png", "sub/a.png", "scan.png", "B.png"]


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "sub" / "a.txt", tmp_path / "elsewhere.txt"
    elsewhere.write_text("other")
    atomic_write(path, lambda file: file.write(b"first"))
    with pytest.raises(ZeroDivisionError):
        atomic_write(path, lambda file: file.write(b"half") / 0)
    assert path.read_text() == "first"
    path.unlink()
    path.symlink_to(elsewhere)
    atomic_write(path, lambda file: file.write(b"second"))
    assert (path.read_text(), elsewhere.read_text()) == ("second", "other")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]
    assert np.bitwise_and(path.stat().st_mode, 0o600) == 0o600


def test_an_error_of_a_full_disk_names_the_file(tmp_path: Path) -> None:
    def write(file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DetrLiteError, match=r"a\.json: cannot be written \(No space left on device\)"):
        atomic_write(tmp_path / "a.json", write)
    assert list(tmp_path.iterdir()) == []
