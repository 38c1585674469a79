"""Which file an image's name means."""

import os
import unicodedata
from pathlib import Path

import pytest

from detr_lite.data.folder_listing import FolderListing
from detr_lite.data.images.names import resolve_images
from detr_lite.data.report import OnFault, SplitReport

NFC, NFD = (unicodedata.normalize(form, "Küche.jpg") for form in ("NFC", "NFD"))


def resolve(
    root: Path, names: list[str], files: list[str], folder: str = "train", on_fault: OnFault = "repair"
) -> tuple[list[str | None], SplitReport]:
    """The files, relative to the root, that names mean in a folder with these empty files; None where there is none."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    report = SplitReport("a.json", on_fault)
    report.totals["image"] = len(names)
    paths = resolve_images(names, [root / folder, root / "missing"], root, report)
    assert len(paths) == len(names)
    return [str(Path(path).relative_to(root)) if os.path.exists(path) else None for path in paths], report  # noqa: PTH110 (Path.exists raises)


def kinds(report: SplitReport) -> list[str]:
    return [finding.kind for finding in report.findings]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.jpg", "train/a.jpg"),
        ("./a.jpg", "train/a.jpg"),
        ("train/a.jpg", "train/a.jpg"),
        ("night/a.jpg", "train/night/a.jpg"),
        ("night/../a.jpg", "train/a.jpg"),
        ("../train/a.jpg", "train/a.jpg"),
        ("../val/a.jpg", "val/a.jpg"),
        ("x y#%20,'\".jpg", "train/x y#%20,'\".jpg"),
        ("a\\b.jpg", "train/a\\b.jpg"),
        ("~/a.jpg", "train/~/a.jpg"),
    ],
)
def test_names_as_they_stand(tmp_path: Path, name: str, file: str) -> None:
    found, report = resolve(tmp_path, [name], [file, "other/a.jpg"])
    assert found == [file]
    assert report.findings == []


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("night\\a.jpg", "train/night/a.jpg", "image_name_backslashes"),
        ("..\\train\\a.jpg", "train/a.jpg", "image_name_backslashes"),
        ("a.jpg", "train/a.JPG", "image_name_spelling"),
        ("Night/A.jpg", "train/night/a.JPG", "image_name_spelling"),
        ("Night\\A.jpg", "train/night/a.jpg", "image_name_spelling"),
        (NFC, f"train/{NFD}", "image_name_spelling"),
        (NFD, f"train/{NFC}", "image_name_spelling"),
        ("x%20y.jpg", "train/x y.jpg", "image_name_spelling"),
        ("/home/me/data/train/a.jpg", "train/a.jpg", "image_name_prefix"),
        ("/home/me/a.jpg", "train/a.jpg", "image_name_prefix"),
        ("C:\\Users\\me\\train\\a.jpg", "train/a.jpg", "image_name_prefix"),
        ("my_data/images/a.jpg", "train/a.jpg", "image_name_prefix"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "train/a.jpg", "image_name_prefix"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "train/0a1b2c3d-a.jpg", "image_name_prefix"),
        ("/data/local-files/?d=train/x%20y.jpg", "train/x y.jpg", "image_name_prefix"),
        ("file:///home/me/a.jpg", "train/a.jpg", "image_name_prefix"),
        ("https://host.org/images/x%20y.jpg?size=9", "train/x y.jpg", "image_name_prefix"),
        ("s3://bucket/images/a.jpg", "train/a.jpg", "image_name_prefix"),
        ("../../media/upload/3/0a1b2c3d-a.jpg", "train/0a1b2c3d-a.jpg", "image_name_prefix"),
        ("..\\..\\media\\a.jpg", "train/a.jpg", "image_name_prefix"),
        ("a", "train/a.jpg", "image_name_suffix"),
        ("a.b", "train/night/A.b.JPG", "image_name_suffix"),
        ("a.jpg", "train/2020/05/a.jpg", "image_in_subfolder"),
        ("a.jpg", "scans/a.jpg", "image_in_subfolder"),
    ],
)  # fmt: skip
def test_names_with_one_meaning(tmp_path: Path, name: str, file: str, kind: str) -> None:
    found, report = resolve(tmp_path, [name, "b.jpg"], [file, "train/b.jpg"])
    assert found == [file, "train/b.jpg"]
    assert kinds(report) == [kind]
    assert report.findings[0].entries == (name,)
    if kind in ("image_name_spelling", "image_name_prefix"):
        found, report = resolve(tmp_path, [name, "b.jpg"], [], on_fault="skip")
        assert (found, report.skipped["image"]) == ([None, "train/b.jpg"], 1)


def test_absolute_names_inside_the_folder_also_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real/train").mkdir(parents=True)
    (tmp_path / "real/train/a.jpg").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for root in (tmp_path / "real", tmp_path / "link"):
        report = SplitReport("a.json")
        names = [str(tmp_path / "real/train/a.jpg")]
        assert resolve_images(names, [root / "train"], root, report) == [str(root / "train/a.jpg")]
        assert report.findings == []


def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/a.jpg").touch()
    root = tmp_path / "root"
    (root / "train").mkdir(parents=True)
    (root / "train/batch").symlink_to(tmp_path / "store")
    (root / "train/b.jpg").symlink_to(tmp_path / "store/a.jpg")
    (root / "train/loop").symlink_to("loop")
    found, report = resolve(root, ["batch/a.jpg", "b.jpg"], [])
    assert found == ["train/batch/a.jpg", "train/b.jpg"]
    assert report.findings == []


@pytest.mark.parametrize("name", ["../../x", "..\\..\\x", "a/../../../x", "..", "/etc/hosts", "../../train/a.jpg"])
def test_names_that_lead_out_are_refused_and_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    looked_at: list[str] = []
    entries = FolderListing.entries
    monkeypatch.setattr(
        FolderListing, "entries", lambda listing, folder: looked_at.append(folder) or entries(listing, folder)
    )
    root = tmp_path / "root"
    (tmp_path / "x").touch()
    found, report = resolve(root, [name, "a.jpg"], ["train/a.jpg"])
    assert found == [None, "train/a.jpg"]
    assert report.refusals() == [
        f"image names that lead out of the data folder; give names of files inside it: 1 ({name})"
    ]
    assert all(Path(folder).is_relative_to(root) for folder in looked_at)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "train", "none.jpg", "a\0.jpg", "\ud800.jpg", "loop/a.jpg", "a" * 300, "/none/x.jpg", "file://["),
        *("a/" * 3000, "/" + "a/" * 3000 + "b.jpg", "%" * 999),
    ],
    ids=range(13),
)
def test_missing_images_are_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/loop").symlink_to("loop")
    found, report = resolve(tmp_path, [name, *[f"{n}.jpg" for n in range(20)]], [f"train/{n}.jpg" for n in range(20)])
    assert found[0] is None
    assert None not in found[1:]
    assert (kinds(report), report.skipped["image"]) == (["missing_image"], 1)
    assert report.refusals() == []


@pytest.mark.parametrize(
    ("name", "file", "near"),
    [
        ("train_000.jpg", "train/train_000.png", "train/train_000.png"),
        ("train-000.jpg", "train/train_000.jpg", "train/train_000.jpg"),
        ("a.jpg", "val/a.jpg", "val/a.jpg"),
        ("a.jpg", "val/zebra.jpg", None),
    ],
)
def test_the_nearest_name_is_given(tmp_path: Path, name: str, file: str, near: str | None) -> None:
    found, report = resolve(tmp_path, [name, "bb.jpg"], [file, "train/bb.jpg"])
    assert found[0] is None
    assert report.findings[0].entries == (name if near is None else f"{name}; there is {near}",)


def test_another_images_file_is_not_given_as_nearest(tmp_path: Path) -> None:
    _, report = resolve(tmp_path, ["train_000.jpg", "train_001.jpg"], ["train/train_001.jpg"])
    assert report.findings[0].entries == ("train_000.jpg",)


def test_no_image_at_all_is_said_with_the_folders(tmp_path: Path) -> None:
    _, report = resolve(tmp_path / "data", ["a.jpg", "b.jpg"], ["train/c.jpg"])
    assert report.refusals() == ["none of the images is in data/train or data; put them there: 2 (a.jpg, b.jpg)"]


def test_images_of_one_name_in_several_folders(tmp_path: Path) -> None:
    files = ["train/cam1/0.jpg", "train/cam2/0.jpg"]
    found, report = resolve(tmp_path, ["cam1/0.jpg", "cam2/0.jpg"], files)
    assert (found, report.findings) == (files, [])


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["0.jpg"], ["train/cam1/0.jpg", "train/cam2/0.jpg"]),  # either of two
        (["A.jpg"], ["train/a.jpg", "train/a.JPG"]),
        (["/x/cam1/0.jpg", "/x/cam2/0.jpg"], ["train/0.jpg"]),  # two names for one file
        (["cam3/0.jpg"], ["train/cam1/0.jpg"]),  # another folder
        (["a.jpg", "A.jpg"], ["train/a.jpg"]),  # the first is meant
    ],
)
def test_what_is_ambiguous_is_not_guessed(tmp_path: Path, names: list[str], files: list[str]) -> None:
    found, report = resolve(tmp_path, [*names, "b.jpg"], [*files, "train/b.jpg"])
    assert found[len(names) - 1] is None
    assert kinds(report) == ["missing_image"]


def test_all_files_that_a_name_may_mean_are_said(tmp_path: Path) -> None:
    _, report = resolve(tmp_path, ["b.jpg", "a"], ["train/b.jpg", "train/x/a.jpg", "train/x/a.json", "train/y/a.jpg"])
    assert [finding.entries for finding in report.findings] == [("a; there are train/x/a.jpg and train/y/a.jpg",)]


def test_files_of_another_split_are_not_taken(tmp_path: Path) -> None:
    found, report = resolve(tmp_path, ["a.jpg", "b.jpg"], ["train/2020/a.jpg", "val/b.jpg"], folder="val")
    assert (found, kinds(report)) == ([None, "val/b.jpg"], ["missing_image"])


def test_each_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [f"train/{n}.jpg" for n in range(50)]
    resolve(tmp_path, [], files)
    calls: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: calls.append(str(folder)) or scandir(folder))
    found, _ = resolve(tmp_path, [f"{n}.jpg" for n in range(50)] * 2, [])
    assert found == files * 2
    assert calls == [str(tmp_path / "train")]


def test_no_names(tmp_path: Path) -> None:
    assert resolve(tmp_path, [], [])[0] == []
