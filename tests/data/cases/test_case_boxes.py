"""Faults of single annotations: what has one meaning is repaired, what has none is left out, and both are counted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pycocotools import mask

from detr_lite.data.records import Split
from tests.helpers.case_data import SIZE, CaseData, assert_equal_objects, findings_of

Splits = dict[str, Split]


def corners(annotation: dict[str, Any]) -> tuple[float, float, float, float]:
    x, y, width, height = annotation["bbox"]
    return x, y, x + width, y + height


def numbers_are_in_quotes(data: CaseData) -> None:
    for annotation in data.annotations():
        annotation["bbox"] = [str(number) for number in annotation["bbox"]]
        annotation.update({key: str(annotation[key]) for key in ("image_id", "category_id", "area", "iscrowd")})


def every_object_is_listed_twice(data: CaseData) -> None:
    for content in data.both:
        count = len(content["annotations"])
        content["annotations"] += [{**each, "id": each["id"] + count} for each in content["annotations"]]


def a_box_is_empty(data: CaseData) -> None:
    data.train["annotations"][6]["bbox"] = []


def polygons_without_boxes(data: CaseData) -> None:
    for annotation in data.annotations():
        left, top, right, bottom = corners(annotation)
        annotation["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
        del annotation["bbox"]


def _mask_of(annotation: dict[str, Any]) -> np.ndarray:
    left, top, right, bottom = map(int, corners(annotation))
    pixels = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8, order="F")
    pixels[top:bottom, left:right] = 1
    return pixels


def compressed_masks_without_boxes(data: CaseData) -> None:
    for annotation in data.annotations():
        encoded = mask.encode(_mask_of(annotation))
        annotation["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        del annotation["bbox"]


def plain_masks_without_boxes(data: CaseData) -> None:
    for annotation in data.annotations():
        pixels = _mask_of(annotation).ravel(order="F")
        changes = np.flatnonzero(np.diff(np.concatenate([[0], pixels]))).tolist()
        counts = np.diff([0, *changes, len(pixels)]).tolist()
        annotation["segmentation"] = {"size": [SIZE[1], SIZE[0]], "counts": counts}
        annotation["bbox"] = []


def a_box_is_drawn_from_the_lower_right(data: CaseData) -> None:
    _, _, right, bottom = corners(data.train["annotations"][6])
    width, height = data.train["annotations"][6]["bbox"][2:]
    data.train["annotations"][6]["bbox"] = [right, bottom, -width, -height]


def three_boxes_are_clicks(data: CaseData) -> None:
    data.train["annotations"][1]["bbox"][2] = 0
    data.train["annotations"][4]["bbox"][3] = 0
    data.train["annotations"][9]["bbox"][2:] = [0, 0]


def all_areas_are_0(data: CaseData) -> None:
    for annotation in data.annotations():
        annotation["area"] = 0


def an_area_is_nan(data: CaseData) -> None:
    data.train["annotations"][6]["area"] = float("nan")


def nothing_that_can_be_left_out(data: CaseData) -> None:
    for content in data.both:
        del content["info"], content["licenses"]
        for category in content["categories"]:
            del category["supercategory"]
        for annotation in content["annotations"]:
            del annotation["area"], annotation["iscrowd"], annotation["segmentation"]


def annotations_of_an_image_that_is_not_listed(data: CaseData) -> None:
    data.train["images"].pop()


@pytest.mark.parametrize(
    ("fault", "train", "val", "left_out"),
    [
        (numbers_are_in_quotes, ["noted quoted_numbers 16"], ["noted quoted_numbers 8"], ()),
        (every_object_is_listed_twice, ["noted duplicate 16"], ["noted duplicate 8"], ()),
        (a_box_is_empty, ["skipped no_box 1"], [], (7,)),
        (polygons_without_boxes, ["repaired box_from_outline 16"], ["repaired box_from_outline 8"], ()),
        (compressed_masks_without_boxes, ["repaired box_from_outline 16"], ["repaired box_from_outline 8"], ()),
        (plain_masks_without_boxes, ["repaired box_from_outline 16"], ["repaired box_from_outline 8"], ()),
        (a_box_is_drawn_from_the_lower_right, ["repaired inverted_box 1"], [], ()),
        (three_boxes_are_clicks, ["noted void_box 3"], [], (2, 5, 10)),
        (all_areas_are_0, ["noted wrong_area 16"], ["noted wrong_area 8"], ()),
        (an_area_is_nan, ["noted missing_area 1"], [], ()),
        (nothing_that_can_be_left_out, [], [], ()),
    ],
)
def test_single_annotations(
    read_spoiled: Callable[..., Splits],
    sound: Splits,
    fault: Callable[[CaseData], None],
    train: list[str],
    val: list[str],
    left_out: tuple[int, ...],
) -> None:
    splits = read_spoiled(fault)
    assert_equal_objects(splits["train"], sound["train"], left_out)
    assert_equal_objects(splits["val"], sound["val"])
    assert {name: findings_of(split) for name, split in splits.items()} == {"train": train, "val": val}


def test_annotations_of_an_image_that_is_not_listed_are_left_out_whatever_their_share(
    read_spoiled: Callable[..., Splits],
) -> None:
    train = read_spoiled(annotations_of_an_image_that_is_not_listed)["train"]
    assert findings_of(train) == ["noted unlisted_image 2"]
    assert train.report.findings[0].entries == ("annotation 15 of image 8", "annotation 16 of image 8")
    assert len(train.images) == 7
    assert len(train.ground_truth.labels) == 14


def test_crowds_may_be_true_and_false(read_spoiled: Callable[..., Splits]) -> None:
    def crowd_is_a_truth_value(data: CaseData) -> None:
        for annotation in data.annotations():
            del annotation["area"]
            annotation["iscrowd"] = annotation["id"] == 2

    splits = read_spoiled(crowd_is_a_truth_value)
    for split in splits.values():
        assert split.ground_truth.is_crowd.nonzero()[0].tolist() == [1]
        assert len(split.images.labels) == len(split.ground_truth.labels) - 1
        assert findings_of(split) == []


def test_boxes_with_an_angle_are_refused(refusals: Callable[..., str]) -> None:
    def boxes_have_an_angle(data: CaseData) -> None:
        for annotation in data.annotations():
            annotation["bbox"].append(0.3)

    message = refusals(boxes_have_an_angle)
    assert "instances_train.json" in message
    assert "instances_val.json" in message
    assert "five numbers" in message
    assert "angle" in message
