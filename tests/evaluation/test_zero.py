from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.zero import explain_zero, regardless_of_class
from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.random_detections import SIZE_WH, categories, perfect_detections, random_case, without_detections

CLASSES = categories(4)


def explained(truth: GroundTruth, detections: DetectionArrays) -> str | None:
    evaluation = evaluate_detections(truth, detections, CLASSES)
    sizes_wh = np.tile(np.array(SIZE_WH), (truth.num_images, 1)).astype(float)
    return explain_zero(evaluation, truth, detections, sizes_wh, [f"id {index}" for index in range(truth.num_images)])


def with_unused_class(detections: DetectionArrays) -> DetectionArrays:
    return replace(detections, labels=np.full_like(detections.labels, 3))


def with_swapped_classes(detections: DetectionArrays) -> DetectionArrays:
    return replace(detections, labels=(detections.labels + 1) % 3)


def with_relative_boxes(detections: DetectionArrays) -> DetectionArrays:
    return replace(detections, boxes_xywh=detections.boxes_xywh / np.array(SIZE_WH * 2))


def with_boxes_outside(detections: DetectionArrays) -> DetectionArrays:
    return replace(detections, boxes_xywh=detections.boxes_xywh + np.array([1000.0, 0, 0, 0]))


def with_flat_boxes(detections: DetectionArrays) -> DetectionArrays:
    return replace(detections, boxes_xywh=detections.boxes_xywh * np.array([1.0, 1, 0, 0]))


def of_another_image(detections: DetectionArrays) -> DetectionArrays:
    return replace(detections, image_index=np.full_like(detections.image_index, 25))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (with_unused_class, "of class class 4, the objects of class class 1, class 2, class 3"),
        (with_swapped_classes, "although the boxes fit"),
        (with_relative_boxes, "between 0 and 1"),
        (with_boxes_outside, "100% of the boxes extend beyond their image"),
        (with_flat_boxes, "no detected box has an area"),
        (of_another_image, "in images id 25, the objects in images id 0, id 1,"),
    ],
)
def test_the_cause_of_an_ap_of_0(spoil: Callable[[DetectionArrays], DetectionArrays], cause: str) -> None:
    truth, _ = random_case(0)
    image = np.sort(np.unique(truth.image_index, return_inverse=True)[1])
    truth = replace(truth, num_images=26, image_index=image, is_crowd=np.zeros_like(truth.is_crowd))
    apart_xywh = np.column_stack([*np.divmod(np.arange(len(image)), 20), *np.full((2, len(image)), 12.0)])
    apart_xywh[:, :2] *= 14.0  # or a detection of another class might fit an object
    truth = replace(truth, boxes_xywh=apart_xywh % 190)
    reason = explained(truth, spoil(perfect_detections(truth)))
    assert reason is not None
    assert reason.startswith("AP is 0")
    assert cause in reason
    assert "\n" not in reason


def test_an_ap_of_0_without_detections_or_without_a_known_cause() -> None:
    truth, detections = random_case(0)
    assert "not a single detection" in explained(truth, without_detections())
    assert explained(truth, detections) is None
    tiny = replace(detections, boxes_xywh=np.tile([1.0, 1.0, 3.0, 3.0], (len(detections.scores), 1)))
    assert evaluate_detections(truth, tiny, CLASSES).metrics["AP"] == 0
    assert explained(truth, tiny) is None  # an untrained model: simply wrong


def test_missing_is_not_0() -> None:
    truth, detections = random_case(0)
    assert explained(replace(truth, is_crowd=np.ones_like(truth.is_crowd)), detections) is None


def test_unknown_sizes_of_images_explain_nothing() -> None:
    truth, detections = random_case(0)
    outside = with_boxes_outside(detections)
    evaluation = evaluate_detections(truth, outside, CLASSES)
    assert evaluation.metrics["AP"] == 0
    unknown = np.full((truth.num_images, 2), np.nan)
    assert explain_zero(evaluation, truth, outside, unknown, range(truth.num_images)) is None


def test_a_box_with_several_classes_counts_once_with_its_highest_score() -> None:
    box = [[5.0, 5.0, 20.0, 20.0]]
    detections = DetectionArrays(
        image_index=np.array([1, 0, 0, 0, 0]),
        labels=np.array([0, 0, 1, 2, 1]),
        boxes_xywh=np.array([*box * 4, [5.0, 5.0, 20.0, 20.001]]),
        scores=np.array([0.1, 0.3, 0.8, 0.5, 0.2]),
    )
    truth = GroundTruth(2, np.array([0]), np.array([2]), np.array(box), np.array([400.0]), np.zeros(1, dtype=bool))
    one_class, kept, listed = regardless_of_class(truth, detections)
    assert one_class.labels.tolist() == [0]
    assert (kept.image_index.tolist(), kept.scores.tolist(), kept.labels.tolist()) == (
        [1, 0, 0],
        [0.1, 0.8, 0.2],
        [0] * 3,
    )
    assert len(listed) == 1
    assert regardless_of_class(truth, without_detections())[1].boxes_xywh.shape == (0, 4)
