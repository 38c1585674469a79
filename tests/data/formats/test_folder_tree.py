"""Which split the names of files and folders say."""

import logging

import pytest

from detr_lite.data.formats.folder_tree import group_by_split, read_tree, split_of, stem_of, suffix_of
from tests.helpers.format_files import write


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/a.xml", "train"),
        ("Train/labels/a.xml", "train"),
        ("valid/a.xml", "val"),
        ("images/val2017/a.xml", "val"),
        ("train_images/a.xml", "train"),
        ("data/annotations-validation/a.xml", "val"),
        ("test_tubes/a.xml", None),
        ("train_station/train/a.xml", "train"),
        ("train/test/a.xml", "test"),
        ("train_val/a.xml", None),
        ("train_000.xml", None),
    ],
)
def test_split_of_folders(path: str, split: str | None) -> None:
    assert split_of(path, with_file_name=False) == split


@pytest.mark.parametrize(
    ("path", "split"),
    [("train.json", "train"), ("labels_valid.csv", "val"), ("test/labels.csv", "test"), ("pets.csv", None)],
)
def test_split_of_files(path: str, split: str | None) -> None:
    assert split_of(path, with_file_name=True) == split


def test_files_without_a_split_are_for_training_unless_others_are(caplog: pytest.LogCaptureFixture) -> None:
    assert group_by_split(["a.csv", "b.csv"], True) == {"train": ["a.csv", "b.csv"]}
    assert group_by_split(["val.csv", "b.csv"], True) == {"train": ["b.csv"], "val": ["val.csv"]}
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        assert group_by_split(["val.csv", "train.csv", "b.csv"], True) == {"train": ["train.csv"], "val": ["val.csv"]}
    assert "1 annotation files that belong to no split are not used (b.csv)" in caplog.text


def test_parts_of_names() -> None:
    assert (suffix_of("a.tar.GZ"), suffix_of(".hidden"), suffix_of("a"), suffix_of("a.")) == (".gz", "", "", ".")
    assert (stem_of("x/a.b.jpg"), stem_of("a"), stem_of("x/.a")) == ("a.b", "a", ".a")


def test_images_below_a_folder_are_not_those_of_a_longer_name(tmp_path) -> None:
    for name in ("a/1.jpg", "a/b/2.jpg", "ab/3.jpg", "4.jpg"):
        write(tmp_path / name, "")
    tree = read_tree(tmp_path)
    assert tree.images_below("a") == ["a/1.jpg", "a/b/2.jpg"]
    assert sorted(tree.images_below("")) == ["4.jpg", "a/1.jpg", "a/b/2.jpg", "ab/3.jpg"]
    assert (tree.has_folder("a/b"), tree.has_folder("b"), tree.has_folder("")) == (True, False, True)
