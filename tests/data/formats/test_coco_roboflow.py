"""Roboflow's category for the project itself, which is no class unless it has objects."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.coco_files import actions, read_raw, write_coco

ROBOFLOW = {"id": 0, "name": "cells", "supercategory": "none"}
CELLS = [{"id": 1, "name": "red", "supercategory": "cells"}, {"id": 2, "name": "white", "supercategory": "cells"}]


def write_roboflow(root: Path, folder: str, categories: list[Any], *category_ids: Any) -> Path:
    """One image with an object of each of the given categories."""
    content: dict[str, Any] = {
        "images": [{"id": 0, "file_name": "a_jpg.rf.1f.jpg", "height": 30, "width": 40}],
        "annotations": [
            {"id": n, "image_id": 0, "category_id": id, "bbox": [n, 2, 3, 4]} for n, id in enumerate(category_ids)
        ],
        "categories": categories,
    }
    return write_coco(root, content, f"{folder}/_annotations.coco.json", [f"{folder}/a_jpg.rf.1f.jpg"])


def test_roboflows_category_for_the_project_is_left_out_with_a_note(tmp_path: Path) -> None:
    raw, report = read_raw(write_roboflow(tmp_path, "train", [ROBOFLOW, *CELLS], 1, 2, 2))
    assert [(category.id, category.name) for category in raw.categories] == [(1, "red"), (2, "white")]
    assert raw.labels.tolist() == [0, 1, 1]
    assert actions(report) == {"placeholder_category": "noted"}


def test_roboflows_category_may_have_the_name_of_the_only_class(tmp_path: Path) -> None:
    categories = [ROBOFLOW, {"id": 1, "name": "cells", "supercategory": "cells"}]
    raw, _ = read_raw(write_roboflow(tmp_path, "train", categories, 1))
    assert [(category.id, category.name) for category in raw.categories] == [(1, "cells")]


@pytest.mark.parametrize("used_in", ["train", "valid", "test"])
def test_with_objects_in_any_split_roboflows_category_is_a_class_in_all(tmp_path: Path, used_in: str) -> None:
    for folder in ("train", "valid", "test"):
        write_roboflow(tmp_path, folder, [ROBOFLOW, *CELLS], 1, *([0] if folder == used_in else []))
    for split in ("train", "val", "test"):
        raw, report = read_raw(tmp_path, split)
        assert [category.name for category in raw.categories] == ["cells", "red", "white"]
        assert report.findings == []


@pytest.mark.parametrize(
    "categories",
    [
        [ROBOFLOW],
        [{**ROBOFLOW, "id": 3}, *CELLS],
        [{**ROBOFLOW, "supercategory": "cells"}, *CELLS],
        [ROBOFLOW, *CELLS, {"id": 3, "name": "dog", "supercategory": "animals"}],
        [{"id": 0, "name": "cells"}, {"id": 1, "name": "red"}],
    ],
)
def test_every_other_category_0_is_a_class(tmp_path: Path, categories: list[Any]) -> None:
    raw, report = read_raw(write_roboflow(tmp_path, "train", categories, categories[-1]["id"]))
    assert [category.name for category in raw.categories] == [
        category["name"] for category in sorted(categories, key=lambda one: one["id"])
    ]
    assert report.findings == []
