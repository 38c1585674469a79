"""Sizes, boxes, areas and crowd flags of COCO annotations: converted, taken from outlines, left out or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.coco_files import Content, actions, changed, read_raw


@pytest.mark.parametrize("size", [None, 0, -4, 40.5, float("nan"), "wide", True, 10**7, 10**400, [40]])
def test_sizes_that_are_none_are_left_to_the_image_file(tmp_path: Path, size: Any) -> None:
    raw, _ = read_raw(changed(tmp_path, lambda content: content["images"][0].update(width=size)))
    assert np.isnan(raw.sizes_wh[0]).all()
    assert raw.sizes_wh[1].tolist() == [20, 50]


OUTLINES = {
    "polygon": [[10, 5, 30, 5, 30.5, 15]],
    "two polygons": [[10, 5, 12, 5, 12, 15], [30, 5, 30.5, 8, 20, 9]],
    "points": [[10, 5], [30.5, 15]],
    "one list": [10, 5, 30.5, 15, 20, 9],
}


@pytest.mark.parametrize("outline", OUTLINES)
@pytest.mark.parametrize("box", [[], None, "missing", [1, 2, 3], [0, 0, 0, 0], [float("nan"), 1, 2, 3], {"x": 1}])
def test_a_box_is_taken_from_the_outline(tmp_path: Path, outline: str, box: Any) -> None:
    def change(content: Content) -> None:
        entry = content["annotations"][1]
        entry |= {"segmentation": OUTLINES[outline], "bbox": box}
        if box == "missing":
            del entry["bbox"]

    raw, report = read_raw(changed(tmp_path, change))
    assert raw.boxes_xywh[1].tolist() == [10, 5, 20.5, 10]
    assert actions(report) == {"box_from_outline": "repaired"}
    assert actions(read_raw(tmp_path, on_fault="refuse")[1]) == {"box_from_outline": "refused"}
    raw, report = read_raw(tmp_path, on_fault="skip")
    assert (len(raw.labels), report.skipped["annotation"]) == (2, 1)


@pytest.mark.parametrize(
    "outline", [None, [], [[]], [[1, 2]], [[1, 2, 3]], {}, "text", [[["a", 1, 2, 3]]], [[[[[1, 2, 3, 4]]]]]]
)
@pytest.mark.parametrize("box", [[], None, [1, 2, 3], [1, 2, 3, [4]], 5, "1 2 3"])
def test_annotations_without_box_and_outline_are_left_out(tmp_path: Path, outline: Any, box: Any) -> None:
    raw, report = read_raw(
        changed(tmp_path, lambda content: content["annotations"][1].update(bbox=box, segmentation=outline))
    )
    assert [raw.name_of(place) for place in range(2)] == ["annotation 16", "annotation 18"]
    assert (actions(report), report.skipped["annotation"]) == ({"no_box": "skipped"}, 1)


@pytest.mark.parametrize("box", [[1, 1, None, 2], [1, 1, "x", 2], [1, 1, 10**400, 2], [1, -3, -4, 2], [1, 1, 0, 2]])
def test_four_values_are_left_to_the_checks(tmp_path: Path, box: list[Any]) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content["annotations"][1].update(bbox=box)))
    assert report.findings == []
    expected = [float(value) if isinstance(value, int) and value < 10**9 else None for value in box]
    for found, value in zip(raw.boxes_xywh[1].tolist(), expected, strict=True):
        assert found == value if value is not None else not np.isfinite(found)


def test_oriented_boxes_are_refused(tmp_path: Path) -> None:
    _, report = read_raw(changed(tmp_path, lambda content: content["annotations"][1]["bbox"].append(0.3)))
    assert [finding.kind for finding in report.findings if finding.action == "refused"] == ["oriented_box"]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [(True, True), (False, False), (None, False), (1.0, True), ("1", True), ("0", False), ("True", True)],
)
def test_iscrowd_may_be_written_in_other_ways(tmp_path: Path, flag: Any, expected: bool) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content["annotations"][0].update(iscrowd=flag)))
    assert raw.is_crowd.tolist() == [expected, False, True]
    assert actions(report) == ({"quoted_numbers": "noted"} if isinstance(flag, str) else {})


@pytest.mark.parametrize("flag", [2, "yes", [1], 0.5])
def test_iscrowd_without_meaning(tmp_path: Path, flag: Any) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content["annotations"][0].update(iscrowd=flag)))
    assert (len(raw.labels), actions(report)) == (2, {"odd_iscrowd": "skipped"})


@pytest.mark.parametrize("area", ["x", None, float("nan"), float("inf"), [1], True])
def test_an_area_without_meaning_is_as_if_left_out(tmp_path: Path, area: Any) -> None:
    raw, report = read_raw(changed(tmp_path, lambda content: content["annotations"][0].update(area=area)))
    assert np.isnan(raw.areas[0])
    assert report.findings == []
