"""Which classes are taken for which."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from detr_lite.evaluation.matching import match, of_one_class, overlaps
from detr_lite.structures import DetectionArrays, GroundTruth


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often objects of each class are detected as each class."""

    matrix: Int64[np.ndarray, "classes_and_background classes_and_background"]
    """Rows are the true classes, columns the detected ones. The last row is the background: detections where no object
    is left. The last column has the objects that are not found."""
    threshold: float
    iou: float


def confusion_matrix(
    ground_truth: GroundTruth, detections: DetectionArrays, classes: int, threshold: float, iou: float = 0.5
) -> Confusion:
    """The confusion of classes among detections whose score is at least `threshold`.

    Detections are matched with objects of their class first, as for AP, so that the diagonal has the detections that
    precision and recall call right. What is left is matched regardless of class, again from the highest score on.
    Crowd regions are no objects, and detections that they ignore do not count.
    """
    found = detections.select(detections.scores >= threshold)
    pairs = overlaps(ground_truth, found, iou)
    own = match(ground_truth, found, pairs.select(of_one_class(ground_truth, found, pairs)), iou)
    is_left = ~ground_truth.is_crowd
    is_left[own.objects[own.is_correct]] = False
    pairs = pairs.select(is_left[pairs.objects] & (own.objects[pairs.detections] < 0))
    other = match(ground_truth, found, pairs, iou)

    objects = np.where(own.objects >= 0, own.objects, other.objects)[~own.is_ignored]
    labels = found.labels[~own.is_ignored]
    true_labels = np.append(ground_truth.labels, classes)[objects]  # -1 is the background
    is_missed = ~ground_truth.is_crowd
    is_missed[objects[objects >= 0]] = False
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    np.add.at(matrix, (true_labels, labels), 1)
    np.add.at(matrix, (ground_truth.labels[is_missed], classes), 1)
    return Confusion(matrix, threshold, iou)


def swapped_pairs(confusion: Confusion) -> list[tuple[int, int, int, int]]:
    """The pairs of classes that are confused, those with the most confusions first: both labels, how often an object of
    the first is detected as the second, and the reverse."""
    between = confusion.matrix[:-1, :-1]
    first, second = np.nonzero(np.triu(between + between.T, k=1))
    there, back = between[first, second], between[second, first]
    order = np.argsort(-(there + back), kind="stable")
    columns = (column[order].tolist() for column in (first, second, there, back))
    return list(zip(*columns, strict=True))
