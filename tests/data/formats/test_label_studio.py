"""Reading Label Studio's JSON and JSON-MIN."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detr_lite.structures import DetrLiteError
from tests.helpers.format_files import draw, read, write

IN_PIXELS = [40.0, 15.0, 20.0, 20.0]
SHARES = {"x": 40.0, "y": 30.0, "width": 20.0, "height": 40.0, "rotation": 0}


def result(value: dict[str, Any] | None = None, labels: Any = ("cat",), kind: str = "rectangle", **more: Any) -> Any:
    shape = {**(SHARES if value is None else value), f"{kind}labels": list(labels)}
    return {"id": "r1", "type": f"{kind}labels", "value": shape, "original_width": 100, "original_height": 50,
            "image_rotation": 0, "from_name": "label", "to_name": "image", **more}  # fmt: skip


def task(*results: Any, image: str = "/data/upload/1/0a1b2c3d-a.jpg", **more: Any) -> dict[str, Any]:
    annotation = {"id": 5, "result": list(results), "was_cancelled": False, "completed_by": 1}
    return {"id": 1, "annotations": [annotation], "data": {"image": image}, **more}


def write_one(root: Path, *tasks: Any, name: str = "project-1.json") -> Path:
    draw(root / "images/a.jpg")
    write(root / name, json.dumps(list(tasks)))
    return root


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0a1b2c3d-a.jpg",
        "/data/local-files/?d=images/a.jpg",
        "/data/local-files/?d=home/x/images/a.jpg",
        "s3://bucket/pets/a.jpg",
        "http://localhost:8080/data/upload/1/0a1b2c3d-a.jpg",
        "https://storage.example/a.jpg?token=1",
        "a.jpg",
    ],
)
def test_paths_of_images(tmp_path: Path, image: str) -> None:
    found = read(write_one(tmp_path, task(result(), image=image)))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
    assert found.raw.sizes_wh.tolist() == [[100, 50]]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (result(), None),
        (result(labels=("cat", "dog")), None),
        (result({**SHARES, "rotation": 360}), "rotated"),
        (result({"points": [[40, 30], [60, 40], [50, 70]]}, kind="polygon"), "polygon"),
        (result({"x": 50, "y": 50, "radiusX": 10, "radiusY": 20}, kind="ellipse"), "polygon"),
    ],
)
def test_shapes(tmp_path: Path, given: Any, kind: str | None) -> None:
    found = read(write_one(tmp_path, task(given)))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
    assert kind is None or kind in found.findings


def test_a_rotated_box_turns_in_pixels_around_its_first_corner(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, task(result({**SHARES, "width": 10, "rotation": 90}))))
    assert found.objects == {"images/a.jpg": [("cat", [20, 15, 20, 10])]}  # 10 wide and 20 high before


@pytest.mark.parametrize("angle", [17, 45, 133, 250])
def test_a_rotated_box_is_the_box_around_its_corners(tmp_path: Path, angle: int) -> None:
    x, y, w, h = IN_PIXELS
    turn = np.exp(1j * np.radians(angle))
    corners = (x + 1j * y) + turn * np.array([0, w, w + 1j * h, 1j * h])
    expected = [corners.real.min(), corners.imag.min(), np.ptp(corners.real), np.ptp(corners.imag)]
    found = read(write_one(tmp_path, task(result({**SHARES, "rotation": angle}))))
    np.testing.assert_allclose(found.raw.boxes_xywh, [expected], atol=1e-9)


def test_sizes_that_are_not_given_are_read_from_the_image(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, task(result(original_width=None, original_height=None))))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}


def test_a_label_may_stand_beside_its_shape(tmp_path: Path) -> None:
    shape = {**result(), "type": "rectangle", "value": SHARES}
    choice = {"id": "r1", "type": "choices", "value": {"choices": ["cat"], **SHARES}}
    assert read(write_one(tmp_path, task(shape, choice))).objects == {"images/a.jpg": [("cat", IN_PIXELS)]}


def test_one_annotation_of_each_image_is_used(tmp_path: Path) -> None:
    annotations = [
        {"result": [result(labels=["dog"])], "was_cancelled": True},
        {"result": [result()], "was_cancelled": False},
        {"result": [result(labels=["horse"])], "was_cancelled": False},
    ]
    found = read(write_one(tmp_path, task(annotations=annotations)))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
    assert len(found.findings["annotators"].entries) == 1
    annotations[2]["ground_truth"] = True
    assert read(write_one(tmp_path, task(annotations=annotations))).names == ["horse"]
    old = {"id": 1, "completions": [{"result": [result()]}], "data": {"photo": "a.jpg"}}
    assert read(write_one(tmp_path, old)).objects == {"images/a.jpg": [("cat", IN_PIXELS)]}


def test_images_that_nobody_annotated_are_left_out_and_empty_annotations_kept(tmp_path: Path) -> None:
    draw(tmp_path / "images/b.jpg")
    draw(tmp_path / "images/c.jpg")
    cancelled = [{"result": [result()], "was_cancelled": True}]
    tasks = [task(), task(image="b.jpg", annotations=[]), task(image="c.jpg", annotations=cancelled)]
    found = read(write_one(tmp_path, *tasks))
    assert found.objects == {"images/a.jpg": []}
    assert found.findings["unlabeled_image"].entries == ("b.jpg", "c.jpg")


def test_the_short_form(tmp_path: Path) -> None:
    draw(tmp_path / "images/b.jpg")
    box = {**SHARES, "rectanglelabels": ["cat"], "original_width": 100, "original_height": 50}
    entries = [
        {"id": 1, "image": "/data/upload/1/0a1b2c3d-a.jpg", "label": [box], "annotator": 1, "annotation_id": 1},
        {"id": 1, "image": "/data/upload/1/0a1b2c3d-a.jpg", "label": [box, box], "annotator": 2, "annotation_id": 2},
        {"id": 2, "image": "b.jpg", "annotator": 1, "annotation_id": 3},
    ]
    found = read(write_one(tmp_path, *entries))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)], "images/b.jpg": []}
    assert found.findings["annotators"].count == 1


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"format": "rle", "rle": [1, 2], "brushlabels": ["cat"]}, "other_shape"),
        ({"x": 1, "y": 2, "width": 0.5, "keypointlabels": ["cat"]}, "other_shape"),
        ({**SHARES, "rectanglelabels": []}, "no_class"),
        ({**SHARES, "rectanglelabels": [None]}, "no_class"),
    ],
)
def test_what_is_no_object_is_left_out(tmp_path: Path, value: dict[str, Any], kind: str) -> None:
    found = read(
        write_one(tmp_path, task(*[result(id=f"r{n}") for n in range(10)], {**result(id="x"), "value": value}))
    )
    assert len(found.raw.labels) == 10
    assert len(found.findings[kind].entries) == 1


@pytest.mark.parametrize(
    "broken",
    [None, 3, [], {}, {"data": None}, {"data": {"image": None}}, {"data": {"image": "data:image/png;base64,"}}],
)
def test_entries_that_are_no_tasks_are_left_out(tmp_path: Path, broken: Any) -> None:
    found = read(write_one(tmp_path, task(result()), broken))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
    assert found.report.skipped["image"] == 1
    assert found.report.totals["image"] == 2


@pytest.mark.parametrize("value", [{**SHARES, "x": None}, {**SHARES, "width": "wide"}, {**SHARES, "rotation": "left"}])
def test_numbers_that_are_none_are_left_to_the_checks(tmp_path: Path, value: dict[str, Any]) -> None:
    found = read(write_one(tmp_path, task(result(value))))
    assert np.isnan(found.raw.boxes_xywh).any()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    root = write_one(tmp_path, task(result()))
    text = (root / "project-1.json").read_text()
    write(root / "project-1.json", text[:-9])
    with pytest.raises(DetrLiteError, match=r"^project-1\.json: not valid JSON"):
        read(root)
