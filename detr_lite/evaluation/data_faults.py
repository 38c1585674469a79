"""Faults of all annotations that detections reveal: boxes that are shifted, classes that are swapped, missing labels.

Each test asks for a pattern that the errors of a weak model do not have, and then for a rise of AP when the fault is
undone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.label_errors import CONFIDENT, LabelError, find_label_errors
from detr_lite.evaluation.matching import match, of_one_class, overlaps
from detr_lite.structures import Category, DetectionArrays, GroundTruth
from detr_lite.text import printable, shorten_middle

LEAST_GAIN = 0.002
"""AP that undoing a fault must gain. It is low, as two swapped classes of many cost little of the mean over all."""

SHIFT, ONE_DIRECTION, SHIFTED_OBJECTS = 0.08, 0.8, 20
"""The least median offset as a share of the box, the least share of detections that are off in its direction, and the
least number of objects. Errors of a model go in all directions, so half of them go in each."""

NEAR = 0.1
"""The IoU from which a detection may be of an object whose box is shifted."""

TAKEN_FOR, TAKEN_RIGHT, SWAPPED_OBJECTS = 0.5, 0.2, 8
"""Of two swapped classes the least share of objects that are taken for the other, the highest share that is taken for
their own, and the least number of objects of each. Where a model guesses between two, half are taken for their own."""

MISSING, MISSING_OBJECTS = 0.1, 5
"""The least share of detections on the background among all that are as confident as the better half of those that fit
an object, and their least number."""

STEADY = 0.5
"""By how much that share may fall in the best quarter. A model scores its own inventions lower than what it has learned
to find, so their share falls; that of objects without a label does not."""

FITTING = 0.5
"""Of confident detections near an object the least share that fits it. A model that cannot place its boxes has some of
them on the background."""


FaultKind = Literal["shifted", "swapped", "missing"]


@dataclass(frozen=True)
class DataFault:
    """A likely fault of the annotations as a whole."""

    kind: FaultKind
    text: str
    """What is seen and what may be the cause, in one line."""
    gain: float
    """The rise of AP where the fault is undone, too."""


def find_data_faults(
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    categories: Sequence[Category],
    label_errors: Sequence[LabelError] | None = None,
) -> list[DataFault]:
    """The faults, the one that costs most AP first.

    Each is looked for after those before it were undone, in the order shifted, swapped, missing: where boxes are
    shifted, labels seem to be missing.

    Args:
        label_errors: those of the same detections, where they are at hand.
    """
    faults: list[DataFault] = []
    before: float | None = None  # AP of the data with all faults undone that were found so far

    def ap(truth: GroundTruth, found: DetectionArrays) -> float:
        return evaluate_detections(truth, found, categories).metrics["AP"]

    def is_fault(kind: FaultKind, text: str, truth: GroundTruth, found: DetectionArrays) -> bool:
        nonlocal before
        before = ap(ground_truth, detections) if before is None else before
        after = ap(truth, found)
        if after - before < LEAST_GAIN:
            return False
        faults.append(DataFault(kind, text, after - before))
        before = after
        return True

    offset = _common_offset(ground_truth, detections)
    if offset.any():
        boxes_xywh = detections.boxes_xywh.copy()
        boxes_xywh[:, :2] -= offset * boxes_xywh[:, 2:]
        moved = replace(detections, boxes_xywh=boxes_xywh)
        if is_fault("shifted", _shift_text(offset), ground_truth, moved):
            detections = moved
    first_choice = _first_choices(ground_truth, detections, len(categories))
    for a, b in _swapped(first_choice):
        exchanged = np.arange(len(categories))
        exchanged[[a, b]] = b, a
        relabeled = replace(detections, labels=exchanged[detections.labels])
        if is_fault("swapped", _swap_text(first_choice, a, b, categories), ground_truth, relabeled):
            detections = relabeled
    missing = _missing_labels(ground_truth, detections, None if faults else label_errors)
    if missing:
        is_fault("missing", _missing_text(missing), _with_objects(ground_truth, missing), detections)
    return sorted(faults, key=lambda fault: -fault.gain)


def _common_offset(ground_truth: GroundTruth, detections: DetectionArrays) -> Float64[np.ndarray, "2"]:
    """By how much of a box's width and height detections lie to the right of and below the annotated boxes; 0 where
    they do not in a common direction."""
    pairs = overlaps(ground_truth, detections, NEAR)
    matches = match(ground_truth, detections, pairs.select(of_one_class(ground_truth, detections, pairs)), NEAR)
    found = np.flatnonzero(matches.is_correct)
    if len(found) < SHIFTED_OBJECTS:
        return np.zeros(2)
    boxes, true = detections.boxes_xywh[found], ground_truth.boxes_xywh[matches.objects[found]]
    centers = boxes[:, :2] + boxes[:, 2:] / 2 - true[:, :2] - true[:, 2:] / 2
    offsets = centers / np.maximum(true[:, 2:], 1e-9)
    median = np.median(offsets, axis=0)
    share = (np.sign(offsets) == np.sign(median)).mean(axis=0)
    common: Float64[np.ndarray, 2] = np.where((np.abs(median) >= SHIFT) & (share >= ONE_DIRECTION), median, 0.0)
    return common


def _first_choices(
    ground_truth: GroundTruth, detections: DetectionArrays, classes: int
) -> Int64[np.ndarray, "true detected"]:
    """How often the detection with the highest score on an object (IoU of at least 0.5) is of which class."""
    pairs = overlaps(ground_truth, detections, 0.5)
    pairs = pairs.select(~ground_truth.is_crowd[pairs.objects])
    order = np.lexsort((-detections.scores[pairs.detections], pairs.objects))
    objects, first = np.unique(pairs.objects[order], return_index=True)
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (ground_truth.labels[objects], detections.labels[pairs.detections[order][first]]), 1)
    return counts


def _swapped(first_choice: Int64[np.ndarray, "true detected"]) -> list[tuple[int, int]]:
    totals = first_choice.sum(axis=1)
    shares = first_choice / np.maximum(totals, 1)[:, None]
    is_taken = shares >= TAKEN_FOR
    is_wrong = (shares.diagonal() <= TAKEN_RIGHT) & (totals >= SWAPPED_OBJECTS)
    first, second = np.nonzero(np.triu(is_taken & is_taken.T & is_wrong[:, None] & is_wrong, k=1))
    return list(zip(first.tolist(), second.tolist(), strict=True))


def _missing_labels(
    ground_truth: GroundTruth, detections: DetectionArrays, label_errors: Sequence[LabelError] | None
) -> list[LabelError]:
    """The missing labels by detections as confident as the better half of those that fit an object, the most confident
    first; none if they are few."""
    pairs = overlaps(ground_truth, detections, NEAR)
    fits = match(ground_truth, detections, pairs, 0.5).is_correct
    if not fits.any():
        return []
    half, quarter = np.quantile(detections.scores[fits], (0.5, 0.75)).tolist()
    is_of_object = match(ground_truth, detections, pairs, NEAR).is_correct
    scores = detections.scores[is_of_object]
    if (detections.scores[fits] >= half).sum() < FITTING * (scores >= half).sum():
        return []
    if label_errors is None or half < CONFIDENT:
        label_errors = find_label_errors(ground_truth, detections, confident=half)
    errors = [error for error in label_errors if error.kind == "missing_label" and error.score >= half]
    if len(errors) < MISSING_OBJECTS:
        return []
    # A detection beside an object is a bad box of a weak model rather than another object.
    found = _with_objects(ground_truth.select(np.zeros(0, dtype=np.int64)), errors)
    as_detections = DetectionArrays(found.image_index, found.labels, found.boxes_xywh, np.ones(len(errors)))
    is_beside = np.zeros(len(errors), dtype=bool)
    is_beside[overlaps(ground_truth, as_detections, NEAR).detections] = True
    missing = [error for error, beside in zip(errors, is_beside, strict=True) if not beside]

    def share(least: float) -> float:
        unlabeled = sum(error.score >= least for error in missing)
        return unlabeled / max(1, unlabeled + int((scores >= least).sum()))

    is_many = len(missing) >= MISSING_OBJECTS and share(half) >= MISSING
    return missing if is_many and share(quarter) >= STEADY * share(half) else []


def _with_objects(ground_truth: GroundTruth, errors: Sequence[LabelError]) -> GroundTruth:
    """The ground truth with the boxes of these detections as objects."""
    boxes_xywh = np.array([error.box_xyxy for error in errors], dtype=np.float64)
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    return GroundTruth(
        ground_truth.num_images,
        np.append(ground_truth.image_index, [error.image for error in errors]),
        np.append(ground_truth.labels, [error.label for error in errors]),
        np.concatenate([ground_truth.boxes_xywh, boxes_xywh]),
        np.append(ground_truth.areas, boxes_xywh[:, 2] * boxes_xywh[:, 3]),
        np.append(ground_truth.is_crowd, np.zeros(len(errors), dtype=bool)),
    )


def _shift_text(offset: Float64[np.ndarray, "2"]) -> str:
    right, down = offset.tolist()
    parts = []
    if right:
        parts.append(f"{abs(right):.0%} of a box's width to the {'right' if right > 0 else 'left'}".replace("%", " %"))
    if down:
        parts.append(f"{abs(down):.0%} of a box's height {'below' if down > 0 else 'above'}".replace("%", " %"))
    where = " and ".join(parts) + (" of" if not down else "")
    return (
        f"detections lie {where} the annotated boxes, in a consistent direction: annotations or image sizes may be "
        "shifted"
    )


def _swap_text(first_choice: Int64[np.ndarray, "true detected"], a: int, b: int, categories: Sequence[Category]) -> str:
    names = [shorten_middle(printable(categories[label].name), 48) for label in (a, b)]
    swapped, all_objects = first_choice[a, b] + first_choice[b, a], first_choice[[a, b]].sum()
    return (
        f'"{names[0]}" and "{names[1]}" are confused with each other: {swapped:,} of {all_objects:,}; are their labels '
        "swapped in the annotations?"
    )


def _missing_text(missing: Sequence[LabelError]) -> str:
    return (
        f"{len(missing):,} confident detections (scores from {missing[-1].score:.2f}) are where no object is "
        "annotated: labels are probably missing"
    )
