"""Which split a name means."""

from pathlib import PurePath

import pytest

from detr_lite.data.split_names import split_of, split_of_path


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("train", "train"), ("Training", "train"), ("instances_train2017", "train"), ("my-train.v2", "train")),
        *(("trainval", "train"), ("TrainImages", "train"), ("valid", "val"), ("val2017", "val"), ("validation", "val")),
        *(("dev", "val"), ("image_info_test-dev2017", "test"), ("test", "test"), ("testing_set", "test")),
        *(("", ""), ("strain", ""), ("rival", ""), ("latest", ""), ("train_val", ""), ("contest", ""), ("images", "")),
    ],
)
def test_names(name: str, split: str) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("root/annotations/instances_val.json", "val"),
        ("root/train/annotations.json", "train"),
        ("root/train/test/a.json", "test"),
        ("root/a.json", ""),
        ("root", ""),
    ],
)
def test_paths(path: str, split: str) -> None:
    assert split_of_path(PurePath("train") / path, PurePath("train/root")) == split
