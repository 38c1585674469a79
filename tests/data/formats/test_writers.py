"""Written datasets: read back they are the same, images with them, and what a format cannot hold is counted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from detr_lite.data.editing.edits import editable
from detr_lite.data.formats.write_coco import write_coco
from detr_lite.data.formats.write_yolo import write_yolo, yolo_names
from detr_lite.data.reading import Reading, read_stored
from detr_lite.data.records import RawSplit
from tests.helpers.random_splits import objects_in, random_split


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, RawSplit]:
    """Two splits with their images in subfolders; the second lists other classes, in another order."""
    splits = {
        "train": random_split(0, 12, folder=str(tmp_path / "source/train")),
        "val": random_split(1, 6, ("cat", "ant", "fox"), folder=str(tmp_path / "source/val")),
    }
    for split in splits.values():
        for path, (width, height) in zip(split.paths, split.sizes_wh.astype(int).tolist(), strict=True):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (width, height), (width, height, 90)).save(path)
    return splits


def by_content(split: RawSplit) -> dict[bytes, list[tuple[object, ...]]]:
    """Class names, boxes and areas of the objects of each image, by the content of its file."""
    found: dict[str, list[tuple[object, ...]]] = {path: [] for path in split.paths}
    for (path, *others), count in objects_in(split).items():
        found[str(path)] += [tuple(others)] * count
    return {Path(path).read_bytes() + Path(path).name.encode(): sorted(rows) for path, rows in found.items()}


def test_coco_read_back_is_equal(drawn: dict[str, RawSplit], tmp_path: Path) -> None:
    written = write_coco(drawn, tmp_path / "out")
    assert written.images == written.linked == 18
    assert written.notes == []
    stored = read_stored(tmp_path / "out", Reading())
    assert {*stored} == {"train", "val"}
    for name, split in drawn.items():
        again = editable(stored[name])
        assert again.image_ids == split.image_ids
        assert np.array_equal(again.boxes_xywh, split.boxes_xywh)
        assert np.array_equal(again.areas, split.areas)
        assert np.array_equal(again.is_crowd, split.is_crowd)
        assert np.array_equal(again.sizes_wh, split.sizes_wh)
        assert by_content(again) == by_content(split)
    assert stored["train"].categories == stored["val"].categories


def test_pycocotools_reads_it(drawn: dict[str, RawSplit], tmp_path: Path) -> None:
    write_coco(drawn, tmp_path / "out")
    for name, split in drawn.items():
        coco = COCO(tmp_path / "out/annotations" / f"instances_{name}.json")
        assert sorted(coco.imgs) == split.image_ids
        assert len(coco.anns) == len(split.labels)
        names = {id: category["name"] for id, category in coco.cats.items()}
        for number, (image, label) in enumerate(zip(split.image_index, split.labels, strict=True), start=1):
            annotation = coco.anns[number]
            assert annotation["image_id"] == split.image_ids[image]
            assert names[annotation["category_id"]] == split.categories[label].name


def test_ids_that_are_no_numbers_become_numbers(drawn: dict[str, RawSplit], tmp_path: Path) -> None:
    drawn["val"].image_ids[:] = ["a", "b", 5, 5, "c", 7]
    written = write_coco(drawn, tmp_path / "out")
    content = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3, 4, 5, 6]
    assert written.notes == ["val: image ids that are not unique numbers were replaced by numbers from 1"]
    assert by_content(editable(read_stored(tmp_path / "out", Reading())["val"])) == by_content(drawn["val"])


def read_yolo(root: Path, split: str) -> dict[str, list[tuple[str, list[float]]]]:
    """Class names and boxes (x, y, w, h) in pixels by the image's name, read with the format's definition alone."""
    content = yaml.safe_load((root / "data.yaml").read_text(encoding="utf-8"))
    found = {}
    for image in sorted((root / content[split]).rglob("*.*")):
        head, _, tail = str(image).rpartition("/images/")
        lines = Path(f"{head}/labels/{tail}").with_suffix(".txt").read_text().splitlines()
        width, height = Image.open(image).size
        rows = []
        for line in lines:
            label, *values = line.split()
            cx, cy, w, h = np.array(values, dtype=float) * (width, height, width, height)
            rows.append((content["names"][int(label)], [cx - w / 2, cy - h / 2, w, h]))
        found[image.relative_to(root / content[split]).as_posix()] = rows
    return found


def test_yolo_has_the_same_boxes_and_classes(drawn: dict[str, RawSplit], tmp_path: Path) -> None:
    written = write_yolo(drawn, tmp_path / "out")
    for name, split in drawn.items():
        again = read_yolo(tmp_path / "out", name)
        assert [*again] == split.names
        for image, rows in enumerate(again.values()):
            mine = np.flatnonzero((split.image_index == image) & ~split.is_crowd)
            assert [row[0] for row in rows] == [split.categories[label].name for label in split.labels[mine]]
            boxes = np.array([row[1] for row in rows]).reshape(-1, 4)
            assert np.allclose(boxes, split.boxes_xywh[mine], atol=1e-5, rtol=0)
    crowds = {name: int(split.is_crowd.sum()) for name, split in drawn.items()}
    assert written.notes == [f"{name}: crowd regions are left out: {count}" for name, count in crowds.items() if count]
    assert sum(crowds.values()) > 0


def test_coco_to_yolo_to_coco(drawn: dict[str, RawSplit], tmp_path: Path) -> None:
    splits = {name: split.keep_annotations(~split.is_crowd) for name, split in drawn.items()}
    write_yolo(splits, tmp_path / "yolo")
    stored = {name: editable(split) for name, split in read_stored(tmp_path / "yolo", Reading()).items()}
    write_coco(stored, tmp_path / "coco")
    again = {name: editable(split) for name, split in read_stored(tmp_path / "coco", Reading()).items()}
    for name, split in splits.items():
        order = np.argsort(again[name].names)
        assert [again[name].names[place] for place in order] == split.names
        assert np.array_equal(np.argsort(order)[again[name].image_index], split.image_index)
        assert np.allclose(again[name].boxes_xywh, split.boxes_xywh, atol=1e-3, rtol=0)
        classes = [[each.categories[label].name for label in each.labels] for each in (again[name], split)]
        assert classes[0] == classes[1]


def test_yolo_is_exact_in_large_images(drawn: dict[str, RawSplit], tmp_path: Path) -> None:
    """The sizes are taken from the annotations, so that the files may be small."""
    split = drawn["train"]
    factor = np.array([12_345, 9_876, 12_345, 9_876]) / 60
    split = replace(split, boxes_xywh=split.boxes_xywh * factor, sizes_wh=split.sizes_wh * factor[:2])
    split = split.keep_annotations(~split.is_crowd)
    write_yolo({"train": split}, tmp_path / "out")
    for image, name in enumerate(split.names):
        lines = (tmp_path / "out/labels/train" / name).with_suffix(".txt").read_text().splitlines()
        values = np.array([line.split()[1:] for line in lines], dtype=float).reshape(-1, 4)
        low, high = values[:, :2] - values[:, 2:] / 2, values[:, :2] + values[:, 2:] / 2
        boxes = split.boxes_xywh[split.image_index == image]
        assert np.allclose(low * split.sizes_wh[image], boxes[:, :2], atol=1e-3, rtol=0)
        assert np.allclose(high * split.sizes_wh[image], boxes[:, :2] + boxes[:, 2:], atol=1e-3, rtol=0)


def test_boxes_are_clipped_for_yolo(drawn: dict[str, RawSplit], tmp_path: Path) -> None:
    split = drawn["train"]
    boxes = split.boxes_xywh.copy()
    boxes[0] = (-5, -4, 15, 9)
    boxes[1] = (1000, 1, 5, 5)
    boxes[2] = (3, 3, 0, 4)
    split = replace(split, boxes_xywh=boxes, is_crowd=np.zeros(len(boxes), dtype=bool))
    written = write_yolo({"train": split}, tmp_path / "out")
    assert written.notes == ["train: boxes without an area inside their images are left out: 2"]
    assert written.objects == len(boxes) - 2
    rows = read_yolo(tmp_path / "out", "train")[split.names[split.image_index[0]]]
    assert np.allclose(rows[0][1], (0, 0, 10, 5), atol=1e-5)


def test_no_two_images_share_a_label_file(drawn: dict[str, RawSplit]) -> None:
    split = drawn["val"]
    names = ["a.png", "a.jpg", "images/a.png", "x/images/images/a.tif", "A.webp", "images.png"]
    expected = ["a.png", "a-2.jpg", "images_/a.png", "x/images_/images_/a.tif", "A-3.webp", "images.png"]
    assert yolo_names(replace(split, names=names)) == expected


def test_an_image_that_yolo_would_not_see_gets_a_suffix(drawn: dict[str, RawSplit]) -> None:
    names = ["a", "b.old", "c.PNG", "d.jpg", "e.gif", "f"]
    assert yolo_names(replace(drawn["val"], names=names)) == [
        *("a.png", "b.old.png", "c.PNG", "d.jpg", "e.gif.png", "f.png")
    ]


@pytest.mark.parametrize("write", [write_coco, write_yolo])
def test_odd_names_of_files_and_classes(drawn: dict[str, RawSplit], tmp_path: Path, write: Any) -> None:
    split = drawn["val"]
    names = ["é\"'<b>.png", "日本 1.png", "a: b #c.png", "~$x.png", "x" * 200 + ".png", "-f.png"]
    categories = tuple(
        replace(category, name=name) for category, name in zip(split.categories, ["12", "no: #1", "犬"], strict=True)
    )
    split = replace(split, names=names, categories=categories)
    write({"train": split}, tmp_path / "out")
    if write is write_yolo:
        again = read_yolo(tmp_path / "out", "train")
        assert {*again} == {*names}
        used = {row[0] for rows in again.values() for row in rows}
    else:
        stored = read_stored(tmp_path / "out", Reading())["train"]
        assert [Path(path).name for path in stored.images.paths] == names
        used = {stored.categories[label].name for label in stored.images.labels}
    assert used == {categories[label].name for label in split.labels[~split.is_crowd]}
