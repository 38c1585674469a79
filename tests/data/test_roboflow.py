"""Roboflow's layout, and its category that is none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_lite.data.coco import layouts_of, read_split
from detr_lite.structures import DetrLiteError

HEAD = {"id": 0, "name": "cells", "supercategory": "none"}
CELLS = [{"id": 1, "name": "red", "supercategory": "cells"}, {"id": 2, "name": "white", "supercategory": "cells"}]


def write_split(root: Path, folder: str, categories: list[Any], *category_ids: int) -> Path:
    """One image with an object of each of the given categories."""
    (root / folder).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(root / folder / "a_jpg.rf.1f.jpg")
    content = {
        "info": {"description": "Exported from roboflow.com"},
        "images": [{"id": 0, "license": 1, "file_name": "a_jpg.rf.1f.jpg", "height": 30, "width": 40}],
        "annotations": [
            {"id": 1 + n, "image_id": 0, "category_id": id, "bbox": [n, 2, 3, 4], "area": 12, "segmentation": []}
            for n, id in enumerate(category_ids)
        ],
        "categories": categories,
    }
    (root / folder / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def names(root: Path, split: str) -> list[str]:
    return [category.name for category in read_split(root, split).categories]


@pytest.mark.parametrize("folder", ["valid", "val"])
def test_images_lie_beside_their_annotations(tmp_path: Path, folder: str) -> None:
    for name in ("train", folder, "test"):
        write_split(tmp_path, name, [HEAD, *CELLS], 1, 2)
    for split, place in (("train", "train"), ("val", folder), ("test", "test")):
        found = read_split(tmp_path, split)
        assert found.image_folder == tmp_path / place
        assert [image.path for image in found.images] == [tmp_path / place / "a_jpg.rf.1f.jpg"]
        assert found.describe().startswith(
            f"{tmp_path / place / '_annotations.coco.json'}: 1 images with 2 objects of 2 "
        )
    if folder == "valid":
        assert read_split(tmp_path, "valid").images[0].path == read_split(tmp_path, "val").images[0].path


def test_cocos_own_layout_comes_first() -> None:
    assert list(layouts_of("val").items()) == [
        ("annotations/instances_val.json", "val"),
        ("annotations/instances_val2017.json", "val2017"),
        ("valid/_annotations.coco.json", "valid"),
        ("val/_annotations.coco.json", "val"),
    ]


def test_the_category_that_heads_all_others_is_left_out_and_noted(tmp_path: Path) -> None:
    root = write_split(tmp_path, "train", [HEAD, *CELLS], 1, 2, 2)
    split = read_split(root, "train")
    assert [(category.id, category.name) for category in split.categories] == [(1, "red"), (2, "white")]
    assert split.images[0].labels.tolist() == [0, 1, 1]
    assert split.ground_truth["categories"] == CELLS
    assert split.notes == (
        "train/_annotations.coco.json: category 0, 'cells', has no objects and heads all others: left out",
    )


def test_it_may_have_the_name_of_a_class(tmp_path: Path) -> None:
    """As in a project of one class that is called like the project."""
    root = write_split(tmp_path, "train", [HEAD, {"id": 1, "name": "cells", "supercategory": "cells"}], 1)
    assert names(root, "train") == ["cells"]


@pytest.mark.parametrize("used_in", ["train", "valid", "test"])
def test_one_with_objects_in_any_split_is_a_class_in_all(tmp_path: Path, used_in: str) -> None:
    for folder in ("train", "valid", "test"):
        write_split(tmp_path, folder, [HEAD, *CELLS], 1, *([0] if folder == used_in else []))
    for split in ("train", "val", "test"):
        assert names(tmp_path, split) == ["cells", "red", "white"]
        assert read_split(tmp_path, split).notes == ()


@pytest.mark.parametrize(
    "categories",
    [
        [HEAD],
        [{**HEAD, "id": 3}, *CELLS],
        [{**HEAD, "supercategory": "cells"}, *CELLS],
        [HEAD, *CELLS, {"id": 3, "name": "dog", "supercategory": "animals"}],
        [HEAD, {"id": 1, "name": "red", "supercategory": "none"}],
        [{"id": 0, "name": "cells"}, {"id": 1, "name": "red"}],
    ],
)
def test_every_other_category_is_a_class(tmp_path: Path, categories: list[Any]) -> None:
    root = write_split(tmp_path, "train", categories, categories[-1]["id"])
    assert names(root, "train") == [category["name"] for category in sorted(categories, key=lambda one: one["id"])]
    assert read_split(root, "train").notes == ()


@pytest.mark.parametrize("categories", [[None, HEAD], [HEAD, {"name": "red", "supercategory": "cells"}], [{"id": 0}]])
def test_a_broken_list_of_categories_is_told_as_such(tmp_path: Path, categories: list[Any]) -> None:
    with pytest.raises(DetrLiteError, match=r'^train/_annotations\.coco\.json: entry \d of "categories"'):
        read_split(write_split(tmp_path, "train", categories), "train")


def as_roboflow(content: dict[str, Any]) -> dict[str, Any]:
    """A COCO file as Roboflow would export it: other ids, and the project's name as the head."""
    ids = {category["id"]: number for number, category in enumerate(content["categories"], start=1)}
    categories = [{**one, "id": ids[one["id"]], "supercategory": "things"} for one in content["categories"]]
    annotations = [{**one, "category_id": ids[one["category_id"]]} for one in content["annotations"]]
    return {**content, "categories": [{**HEAD, "name": "things"}, *categories], "annotations": annotations}


def test_the_tool_trains_on_it(run_tool: Callable[..., Any], tiny_file: Path, own_data: Path, tmp_path: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        content = json.loads((own_data / "annotations" / f"instances_{split}.json").read_text())
        (own_data / split).rename(own_data / folder)
        (own_data / folder / "_annotations.coco.json").write_text(json.dumps(as_roboflow(content)))
        (own_data / "annotations" / f"instances_{split}.json").unlink()
    (own_data / "annotations").rmdir()
    words = ("--data.root", own_data, "--run_dir", tmp_path / "run", "--trainer.max_epochs", 1)
    ended = run_tool("train", "--config", tiny_file, *words)
    assert ended.code == 0, ended.err
    for folder in ("train", "valid"):
        file = f"{folder}/_annotations.coco.json"
        assert f"{own_data / file}: " in ended.out
        assert f"{file}: category 0, 'things', has no objects and heads all others: left out" in ended.out
    assert "of 3 categories" in ended.out
    metrics = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert metrics["AP"] >= 0
    ended = run_tool("evaluate", "--checkpoint", tmp_path / "run/checkpoints/best.ckpt", "--split", "valid")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text()) == metrics
