"""The confusion matrix against a loop over detections and against hotcoco, and by hand."""

import numpy as np
import pytest

from detr_lite.evaluation.confusion import Confusion, confusion_matrix, swapped_pairs
from detr_lite.evaluation.thresholds import find_thresholds
from detr_lite.structures import DetectionArrays, GroundTruth
from tests.helpers.arrays import found, truth
from tests.helpers.random_detections import categories, random_case, without_detections
from tests.helpers.record_tidecv import tide_case

BOX, FAR = (10.0, 10.0, 40.0, 20.0), (200.0, 100.0, 30.0, 30.0)


def looped(objects: GroundTruth, detections: DetectionArrays, classes: int, threshold: float) -> np.ndarray:
    """The definition, one detection at a time."""
    from pycocotools import mask

    iou = mask.iou(detections.boxes_xywh, objects.boxes_xywh, objects.is_crowd.astype(np.uint8))
    iou[detections.image_index[:, None] != objects.image_index] = 0
    is_same = detections.labels[:, None] == objects.labels
    taken, matrix, left = set(), np.zeros((classes + 1, classes + 1), dtype=int), []
    by_score = np.argsort(-detections.scores, kind="stable")
    by_score = by_score[detections.scores[by_score] >= threshold].tolist()
    for own in (True, False):
        for detection in by_score if own else left:
            best = max(
                (j for j in np.flatnonzero(iou[detection] >= 0.5) if not objects.is_crowd[j] and j not in taken
                 and bool(is_same[detection, j]) == own),
                key=lambda j, row=iou[detection]: row[j],
                default=None,
            )  # fmt: skip
            if best is not None:
                taken.add(best)
                matrix[objects.labels[best], detections.labels[detection]] += 1
            elif own:
                if not (is_same[detection] & objects.is_crowd & (iou[detection] >= 0.5)).any():
                    left.append(detection)
            else:
                matrix[classes, detections.labels[detection]] += 1
    for j in np.flatnonzero(~objects.is_crowd):
        matrix[objects.labels[j], classes] += j not in taken
    return matrix


@pytest.mark.parametrize("threshold", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_a_loop_gives_the_same(seed: int, threshold: float) -> None:
    objects, detections = tide_case(seed, 60, 4)
    matrix = confusion_matrix(objects, detections, 4, threshold).matrix
    np.testing.assert_array_equal(matrix, looped(objects, detections, 4, threshold))
    assert (matrix[:-1, :-1] - np.diag(matrix.diagonal()[:-1])).any(), "some classes are confused"


def test_the_diagonal_is_what_recall_counts() -> None:
    objects, detections = random_case(0)
    best = find_thresholds(objects, detections, categories(4)).overall
    assert best is not None
    matrix = confusion_matrix(objects, detections, 4, best.score).matrix
    right = matrix.diagonal().sum()
    assert (right / matrix[:-1].sum(), right / matrix[:, :-1].sum()) == pytest.approx((best.recall, best.precision))


def test_hotcoco_gives_the_same_where_no_object_is_detected_twice() -> None:
    import hotcoco

    objects, _ = random_case(4)
    objects = objects.select(~objects.is_crowd)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(len(objects.labels)) < 0.3, rng.integers(0, 4, len(objects.labels)), objects.labels)
    # Far apart, so that a detection is near one object alone.
    boxes = objects.boxes_xywh + np.arange(len(labels))[:, None] * np.array([1000, 0, 0, 0])
    objects = GroundTruth(**{**vars(objects), "boxes_xywh": boxes})
    detections = DetectionArrays(objects.image_index, labels, boxes, rng.random(len(labels)))
    true = hotcoco.COCO.from_arrays(
        [{"id": number, "width": 0, "height": 0} for number in range(1, 26)],
        [{"id": number, "name": str(number)} for number in range(1, 5)],
        objects.image_index + 1, objects.labels + 1, boxes, area=objects.areas,
    )  # fmt: skip
    columns = (detections.image_index + 1, boxes, detections.scores, labels + 1)
    matrix = hotcoco.COCOeval(true, true.load_res(np.column_stack(columns)), "bbox").confusion_matrix(0.5, 100, 0.3)
    np.testing.assert_array_equal(confusion_matrix(objects, detections, 4, 0.3).matrix, np.array(matrix["matrix"]))


def test_by_hand() -> None:
    objects = truth((0, 0, BOX), (1, 1, BOX), (1, 1, FAR))
    detections = found((0, 1, BOX, 0.9), (0, 0, BOX, 0.8), (1, 0, BOX, 0.7), (1, 1, FAR, 0.1))
    # The right class is preferred to the higher score, so the first detection finds nothing.
    assert confusion_matrix(objects, detections, 2, 0.5).matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_crowd_regions_are_no_objects() -> None:
    objects = truth((0, 0, (0.0, 0.0, 300.0, 300.0)), crowd=(0,))
    matrix = confusion_matrix(objects, found((0, 0, FAR, 0.9), (0, 1, FAR, 0.9)), 2, 0.5).matrix
    assert matrix.tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_most_confused_pairs_come_first() -> None:
    matrix = np.array([[9, 1, 0, 5], [2, 9, 4, 5], [0, 3, 9, 5], [7, 7, 7, 0]])
    assert swapped_pairs(Confusion(matrix, 0.5, 0.5)) == [(1, 2, 4, 3), (0, 1, 1, 2)]


@pytest.mark.parametrize("classes", [1, 4])
def test_empty(classes: int) -> None:
    objects, _ = random_case(0, classes=classes)
    nothing = objects.select(np.zeros(len(objects.labels), dtype=bool))
    confusion = confusion_matrix(nothing, without_detections(), classes, 0.5)
    assert confusion.matrix.tolist() == np.zeros((classes + 1, classes + 1)).tolist()
    assert swapped_pairs(confusion) == []
    missed = confusion_matrix(objects, without_detections(), classes, 0.5).matrix
    assert missed[:, classes].sum() == missed.sum() == (~objects.is_crowd).sum()
