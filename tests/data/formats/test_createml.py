"""Reading Create ML's format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_lite.structures import DetrLiteError
from tests.helpers.format_files import draw, read, write

IN_PIXELS = [40.0, 15.0, 20.0, 20.0]
CENTER = {"x": 50, "y": 25, "width": 20, "height": 20}


def entry(*coordinates: Any, image: str = "a.jpg", **more: Any) -> dict[str, Any]:
    annotations = [{"label": "cat", "coordinates": each} for each in coordinates]
    return {"image": image, "annotations": annotations, **more}


def write_one(root: Path, *entries: Any, name: str = "_annotations.createml.json") -> Path:
    draw(root / "a.jpg")
    write(root / name, json.dumps(list(entries)))
    return root


def test_coordinates_are_centers_in_pixels(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, entry(CENTER, {key: str(value) for key, value in CENTER.items()})))
    assert found.objects == {"a.jpg": [("cat", IN_PIXELS)] * 2}
    assert not found.findings


def test_shares_are_recognized(tmp_path: Path) -> None:
    shares = {"x": 0.5, "y": 0.5, "width": 0.2, "height": 0.4}
    found = read(write_one(tmp_path, entry(shares, {**shares, "x": 1.0})))
    assert found.objects["a.jpg"][0] == ("cat", IN_PIXELS)
    assert found.findings["relative"].action == "noted"
    tiny = {"x": 0.5, "y": 0.5, "width": 1, "height": 1}
    assert read(write_one(tmp_path, entry(CENTER, tiny))).raw.boxes_xywh[1].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "given",
    [
        {"imagefilename": "a.jpg", "annotation": [{"label": "cat", "coordinates": CENTER}]},
        entry(CENTER, imageSize={"width": 100, "height": 50}),
        entry(CENTER, verified=True),
        entry(CENTER, image="images\\a.jpg"),
    ],
)
def test_variants(tmp_path: Path, given: dict[str, Any]) -> None:
    assert read(write_one(tmp_path, given)).objects == {"a.jpg": [("cat", IN_PIXELS)]}


def test_splits_and_images_of_one_name(tmp_path: Path) -> None:
    for split, width in (("train", 20), ("valid", 30), ("test", 40)):
        write_one(tmp_path / split, entry({**CENTER, "width": width}))
    for split, folder, width in (("train", "train", 20), ("val", "valid", 30), ("test", "test", 40)):
        found = read(tmp_path, split)
        assert found.objects == {f"{folder}/a.jpg": [("cat", [50 - width / 2, 15, width, 20])]}


def test_empty_lists_are_images_without_objects(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, entry(CENTER), entry(image="b.jpg"), {"image": "c.jpg", "annotations": None}))
    assert len(found.raw.names) == 3
    assert len(found.raw.labels) == 1


@pytest.mark.parametrize("broken", [3, None, {}, {"image": 7}, {"image": " "}])
def test_entries_without_an_image_are_left_out(tmp_path: Path, broken: Any) -> None:
    found = read(write_one(tmp_path, *[entry(CENTER)] * 9, broken))
    assert found.findings["no_name"].entries == ("_annotations.createml.json entry 10",)


@pytest.mark.parametrize("coordinates", [None, [], {}, {"x": 1, "y": 2}, {**CENTER, "x": None}])
def test_numbers_that_are_none_are_left_to_the_checks(tmp_path: Path, coordinates: Any) -> None:
    found = read(write_one(tmp_path, entry(CENTER, coordinates)))
    assert np.isnan(found.raw.boxes_xywh).any(axis=1).tolist() == [False, True]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write(draw(tmp_path / "a.jpg").with_name("b.json"), json.dumps([entry(CENTER)])[:-3])
    with pytest.raises(DetrLiteError, match=r"^b\.json: not valid JSON"):
        read(tmp_path)


def test_an_image_that_is_listed_twice_is_one_with_the_objects_of_both(tmp_path: Path) -> None:
    draw(tmp_path / "b.jpg")
    found = read(write_one(tmp_path, entry(CENTER), entry(CENTER, image="b.jpg"), entry({**CENTER, "x": 51})))
    assert found.objects == {"a.jpg": [("cat", IN_PIXELS), ("cat", [41, 15, 20, 20])], "b.jpg": [("cat", IN_PIXELS)]}
    assert found.raw.image_ids == [1, 2]
    assert found.findings["repeated_image"].entries == ("a.jpg",)
