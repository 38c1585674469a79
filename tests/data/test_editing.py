"""Edits of splits: nothing is lost or there twice, and every object keeps its image, its box and its class."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from detr_lite.data.editing.edits import (
    align_categories,
    editable,
    join_categories,
    join_splits,
    keep_classes,
    objects_per_class,
    rename_classes,
    unique_names,
)
from detr_lite.data.reading import Reading, read_stored
from detr_lite.data.records import make_split
from detr_lite.data.report import SplitReport
from detr_lite.structures import Category
from tests.helpers.random_splits import check_arrays, objects_in, random_split

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_checked_split_and_back(seed: int) -> None:
    raw = random_split(seed)
    split = make_split(Path("/data"), "train", Path("/data/a.json"), "COCO", raw, SplitReport("a.json"))
    again = editable(split)
    check_arrays(again)
    assert objects_in(again) == objects_in(raw)
    assert (again.names, again.image_ids, again.paths) == (raw.names, raw.image_ids, raw.paths)
    assert np.array_equal(again.sizes_wh, raw.sizes_wh)


def test_names_of_images_in_one_folder_are_file_names(tiny_data: Path) -> None:
    stored = read_stored(tiny_data, Reading())
    assert editable(stored["val"]).names == ["000.png", "001.png", "002.png", "003.png", "004.png"]


def test_joined_classes_keep_their_ids_where_they_can() -> None:
    first = [Category(7, "dog"), Category(3, "cat")]
    second = [Category(3, "eel"), Category(9, "dog"), Category(4, "ant")]
    assert join_categories([first, second]) == (
        Category(7, "dog"),
        Category(3, "cat"),
        Category(8, "eel"),
        Category(4, "ant"),
    )


def test_joined_ids_stay_unique_where_a_free_one_is_taken_later() -> None:
    joined = join_categories([[Category(1, "a")], [Category(1, "b"), Category(2, "c")]])
    assert len({category.id for category in joined}) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_joining_loses_nothing(seed: int) -> None:
    splits = {
        "here": random_split(seed, 30, folder="/here"),
        "there": random_split(seed + 1, 20, ("dog", "fox", "ant"), folder="/there"),
    }
    joined = join_splits(splits)
    check_arrays(joined)
    assert objects_in(joined) == objects_in(splits["here"]) + objects_in(splits["there"])
    assert joined.paths == splits["here"].paths + splits["there"].paths
    assert len({*joined.image_ids}) == len({*joined.names}) == 50
    size_of = dict(zip(joined.paths, joined.sizes_wh.tolist(), strict=True))
    for split in splits.values():
        assert [size_of[path] for path in split.paths] == split.sizes_wh.tolist()


def test_only_names_that_clash_get_a_prefix() -> None:
    splits = {"here": random_split(0, 3), "there": random_split(0, 4)}
    joined = join_splits(splits)
    assert joined.names[:3] == [f"ride0/here_frame_00{number}.png" for number in range(3)]
    assert joined.names[3:] == [*(f"ride0/there_frame_00{number}.png" for number in range(3)), "ride0/frame_003.png"]


def test_ids_that_are_unique_are_kept_when_joining() -> None:
    first, second = random_split(0, 3), random_split(1, 2)
    second.image_ids[:] = ["x", "y"]
    assert join_splits({"a": first, "b": second}).image_ids == [100, 101, 102, "x", "y"]


def test_aligned_splits_have_one_list_of_classes() -> None:
    splits = {"train": random_split(0, classes=("dog", "cat")), "val": random_split(1, classes=("cat", "dog", "eel"))}
    aligned = align_categories(splits)
    assert aligned["train"].categories == aligned["val"].categories
    for name, split in splits.items():
        check_arrays(aligned[name])
        assert objects_in(aligned[name]) == objects_in(split)


@pytest.mark.parametrize("seed", SEEDS)
def test_renaming_changes_names_alone(seed: int) -> None:
    split = random_split(seed)
    renamed = rename_classes(split, {"ant": "bee", "bee": "ant", "dog": "cat"}, dropped=["eel"])
    check_arrays(renamed)
    new = {"ant": "bee", "bee": "ant", "dog": "cat", "cat": "cat"}
    expected = Counter({(p, new[c], *rest): n for (p, c, *rest), n in objects_in(split).items() if c != "eel"})
    assert objects_in(renamed) == expected
    assert renamed.paths == split.paths
    assert [category.name for category in renamed.categories] == ["bee", "ant", "cat"]
    assert [category.id for category in renamed.categories] == [90, 83, 76]


@pytest.mark.parametrize("keep_empty", [False, True])
def test_keeping_some_classes(keep_empty: bool) -> None:
    split = random_split(3)
    kept = keep_classes(split, ["cat", "eel"], keep_empty)
    check_arrays(kept)
    files = {row[0] for row in objects_in(split) if row[1] in ("cat", "eel") and not row[4]}
    assert kept.paths == [path for path in split.paths if keep_empty or path in files]
    expected = {row: count for row, count in objects_in(split).items() if row[1] in ("cat", "eel")}
    assert dict(objects_in(kept)) == {row: count for row, count in expected.items() if keep_empty or row[0] in files}
    counts = dict(zip([c.name for c in split.categories], objects_per_class(split).tolist(), strict=True))
    assert objects_per_class(kept).tolist() == [counts["cat"], counts["eel"]]


def test_repeated_names_get_numbers() -> None:
    assert unique_names(["a.png", "A.png", "b/a.png", "a.png", "a-2.png"]) == [
        *("a.png", "A-2.png", "b/a.png", "a-3.png", "a-2-2.png")
    ]
    assert unique_names(["a.png", "a.jpg", "b/a.jpg"], ignore_suffix=True) == ["a.png", "a-2.jpg", "b/a.jpg"]
