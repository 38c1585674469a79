"""Likely mistakes in the labels of a dataset, by the detections of a trained model.

A confident detection that the annotations contradict is an error of one of the two. The kinds are those of TIDE
(arXiv 2008.08115) that a wrong label can cause: another class, background, missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from detr_lite.structures import DetectionArrays, GroundTruth

Kind = Literal["wrong_class", "missing_label", "unfound"]

CONFIDENT = 0.5
"""Score from which a detection counts against the annotations."""

SAME, APART = 0.5, 0.3
"""IoU from which two boxes are of one object, and below which they are not."""

NOTICED = 0.05
"""Score from which a detection shows that the model saw something."""


@dataclass(frozen=True)
class LabelError:
    """A detection that the annotations contradict, or an object that no detection is near."""

    kind: Kind
    image: int
    box_xyxy: tuple[float, float, float, float]
    """Of the detection; of an object that was not found, its own."""
    label: int
    """Of the detection; of an object that was not found, its own."""
    score: float
    """Of the detection; of an object that was not found 0."""
    object: int | None
    """In the arrays of the ground truth: the object of another class, or the one that was not found."""


def find_label_errors(
    truth: GroundTruth, detections: DetectionArrays, confident: float = CONFIDENT
) -> list[LabelError]:
    """The likely mistakes by detections with a score of at least `confident`, the most confident first; objects that
    were not found last, the largest first.

    Crowd regions are no objects: detections inside them are not judged. Of several detections of one unlabelled object
    the most confident is listed.
    """
    errors: list[LabelError] = []
    true_order, found_order = _by_image(truth.image_index), _by_image(detections.image_index)
    true_starts = np.searchsorted(truth.image_index[true_order], np.arange(truth.num_images + 1))
    found_starts = np.searchsorted(detections.image_index[found_order], np.arange(truth.num_images + 1))
    for image in range(truth.num_images):
        objects = true_order[true_starts[image] : true_starts[image + 1]]
        found = found_order[found_starts[image] : found_starts[image + 1]]
        errors += _errors_in(image, truth, objects, detections, found, confident)
    areas = truth.boxes_xywh[:, 2:].prod(axis=1)
    return sorted(errors, key=lambda error: (-error.score, -areas[error.object] if error.object is not None else 0.0))


def _by_image(image_index: np.ndarray) -> np.ndarray:
    return np.argsort(image_index, kind="stable")


def _errors_in(
    image: int,
    truth: GroundTruth,
    objects: np.ndarray,
    detections: DetectionArrays,
    found: np.ndarray,
    confident: float,
) -> Iterator[LabelError]:
    found = found[detections.scores[found] >= min(NOTICED, confident)]
    found = found[np.argsort(-detections.scores[found], kind="stable")]
    boxes, labels, scores = detections.boxes_xywh[found], detections.labels[found], detections.scores[found]
    is_crowd = truth.is_crowd[objects]
    crowds, objects = objects[is_crowd], objects[~is_crowd]
    iou, true_labels = _iou(boxes, truth.boxes_xywh[objects]), truth.labels[objects]
    is_same_class = labels[:, None] == true_labels
    in_crowd = (_iou(boxes, truth.boxes_xywh[crowds], of_first=True) >= SAME).any(axis=1)
    has_own = ((iou >= SAME) & is_same_class).any(axis=1)
    reported = np.zeros((0, 4))
    for row in np.flatnonzero((scores >= confident) & ~has_own & ~in_crowd).tolist():
        best = int(iou[row].argmax()) if len(objects) else -1
        best_iou = float(iou[row, best]) if len(objects) else 0.0
        if best_iou >= SAME:
            if _is_contested(row, best, iou, is_same_class, scores):
                yield _error("wrong_class", image, boxes[row], int(labels[row]), scores[row], int(objects[best]))
        elif best_iou < APART and not (_iou(boxes[row : row + 1], reported) >= SAME).any():
            reported = np.concatenate([reported, boxes[row : row + 1]])
            yield _error("missing_label", image, boxes[row], int(labels[row]), scores[row], None)
    for column in np.flatnonzero((iou < APART).all(axis=0)).tolist():
        object = int(objects[column])
        yield _error("unfound", image, truth.boxes_xywh[object], int(true_labels[column]), 0.0, object)


def _is_contested(
    row: int,
    column: int,
    iou: Float64[np.ndarray, "detection object"],
    is_same_class: Bool[np.ndarray, "detection object"],
    scores: Float64[np.ndarray, " detection"],
) -> bool:
    """Whether the model prefers the detection's class to the annotated one for this object, and says it first."""
    is_here = iou[:, column] >= SAME
    own = float(scores[is_here & is_same_class[:, column]].max(initial=0.0))
    return own < float(scores[row]) and row == int(np.flatnonzero(is_here)[0])


def _error(
    kind: Kind, image: int, box_xywh: Float64[np.ndarray, "4"], label: int, score: float, object: int | None
) -> LabelError:
    x, y, width, height = box_xywh.tolist()
    return LabelError(kind, image, (x, y, x + width, y + height), label, float(score), object)


def _iou(
    first_xywh: Float64[np.ndarray, "first 4"], second_xywh: Float64[np.ndarray, "second 4"], of_first: bool = False
) -> Float64[np.ndarray, "first second"]:
    """IoU of each with each; `of_first` divides by the first box's area, as for crowd regions."""
    low = np.maximum(first_xywh[:, None, :2], second_xywh[None, :, :2])
    high = np.minimum(
        first_xywh[:, None, :2] + first_xywh[:, None, 2:], second_xywh[None, :, :2] + second_xywh[None, :, 2:]
    )
    shared = (high - low).clip(0).prod(axis=2)
    areas = first_xywh[:, 2:].prod(axis=1)[:, None], second_xywh[:, 2:].prod(axis=1)[None]
    iou: Float64[np.ndarray, "first second"] = shared / np.maximum(
        areas[0] if of_first else areas[0] + areas[1] - shared, 1e-9
    )
    return iou
