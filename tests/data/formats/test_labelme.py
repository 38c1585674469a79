"""Reading LabelMe's format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.format_files import draw, read, write

IN_PIXELS = [40.0, 15.0, 20.0, 20.0]
CORNERS = [[60, 15], [40, 35]]


def shape(points: Any = CORNERS, kind: str | None = "rectangle", label: Any = "cat") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def write_one(root: Path, *shapes: Any, name: str = "a", **more: Any) -> Path:
    draw(root / f"{name}.jpg")
    content = {"version": "5.0", "flags": {}, "shapes": list(shapes), "imagePath": f"{name}.jpg", "imageData": None,
               "imageHeight": 50, "imageWidth": 100, **more}  # fmt: skip
    write(root / f"{name}.json", json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("points", "kind", "finding"),
    [
        (CORNERS, "rectangle", None),
        ([[40, 35], [60, 15]], "rectangle", None),
        ([["40", "15"], [60.0, 35.0]], "rectangle", None),
        ([[40, 15], [60, 15], [60, 35], [40, 35]], "rectangle", None),
        ([[40, 15], [60, 20], [50, 35]], "polygon", "polygon"),
        ([[40, 15], [60, 20], [50, 35]], None, "polygon"),
        ([[40, 15], [60, 35]], "line", "polygon"),
        ([[40, 15], [60, 20], [50, 35]], "linestrip", "polygon"),
        ([[50, 25], [50, 35]], "circle", "polygon"),
        ([[50, 25], [56, 33]], "circle", "polygon"),
        (CORNERS, "mask", None),
    ],
)
def test_shapes(tmp_path: Path, points: Any, kind: str | None, finding: str | None) -> None:
    found = read(write_one(tmp_path, shape(points, kind)))
    assert found.objects == {"a.jpg": [("cat", IN_PIXELS)]}
    assert found.raw.sizes_wh.tolist() == [[100, 50]]
    assert list(found.findings) == ([] if finding is None else [finding])


@pytest.mark.parametrize("points", [None, [], [1, 2], [[1, "x"], [2, 3]], [[1], [2]], "1,2", [[1, 2], None]])
def test_points_that_are_none_are_left_to_the_checks(tmp_path: Path, points: Any) -> None:
    found = read(write_one(tmp_path, shape(points)))
    assert np.isnan(found.raw.boxes_xywh).all()
    assert len(found.raw.labels) == 1


def test_what_is_no_object_is_left_out(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, shape(), shape([[1, 2]], "point"), 3, shape(label=None), shape(label=["cat"])))
    assert found.objects == {"a.jpg": [("cat", IN_PIXELS)]}
    assert found.findings["other_shape"].entries == ("a.json shape 2",)
    assert found.findings["no_object"].entries == ("a.json shape 3",)
    assert found.findings["no_class"].entries == ("a.json shape 4", "a.json shape 5")


def test_names_are_tidied(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, shape(label=" cat\n"), shape(label=7), shape(label="cat")))
    assert found.names == ["7", "cat"]
    assert found.findings["class_name"].entries == ("' cat\\n'", "7")


@pytest.mark.parametrize("path", ["..\\images\\a.jpg", "C:\\old\\a.jpg", "/home/x/a.jpg", "old.png", "", None, 3])
def test_the_image_beside_the_file_is_found_whatever_its_path(tmp_path: Path, path: Any) -> None:
    found = read(write_one(tmp_path, shape(), imagePath=path))
    assert found.objects == {"a.jpg": [("cat", IN_PIXELS)]}


@pytest.mark.parametrize("layout", [("{}/a.jpg", "{}/a.json"), ("images/{}/a.jpg", "labels/{}/a.json")])
def test_layouts(tmp_path: Path, layout: tuple[str, str]) -> None:
    content = json.dumps({"shapes": [shape()], "imagePath": "..\\..\\images\\a.jpg", "imageData": "x" * 100_000})
    for split in ("train", "val"):
        draw(tmp_path / layout[0].format(split))
        write(tmp_path / layout[1].format(split), content)
    for split in ("train", "val"):
        assert read(tmp_path, split).objects == {layout[0].format(split): [("cat", IN_PIXELS)]}


def test_image_data_first(tmp_path: Path) -> None:
    content = json.dumps({"imageData": "x" * 500_000, "imagePath": "a.jpg", "shapes": [shape()], "version": "3"})
    draw(tmp_path / "a.jpg")
    write(tmp_path / "a.json", content)
    assert read(tmp_path).objects == {"a.jpg": [("cat", IN_PIXELS)]}


def test_sizes_may_be_missing(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, shape(), imageWidth=None, imageHeight=0))
    assert np.isnan(found.raw.sizes_wh).all()


def test_damaged_and_other_files(tmp_path: Path) -> None:
    for name in "abc":
        write_one(tmp_path, shape(), name=name)
    write(tmp_path / "b.json", '{"shapes": [')
    write(tmp_path / "c.json", '{"flags": {}}')
    draw(tmp_path / "d.jpg")
    found = read(tmp_path)
    assert list(found.objects) == ["a.jpg"]
    assert found.findings["bad_file"].entries[0].startswith("b.json: not valid JSON: ")
    assert found.findings["other_file"].entries == ("c.json",)
    assert found.findings["unlabeled_image"].entries == ("d.jpg",)
