"""AP at one threshold of IoU, where it is known which detections are right."""

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

COCO_RECALLS = np.linspace(0.0, 1.0, 101)
"""Recalls at which pycocotools reads the precision; ten of them are not the nearest float to i / 100."""

EXACT_RECALLS = np.arange(101) / 100
"""Those of tidecv."""


def mean_average_precision(
    labels: Int64[np.ndarray, " detection"],
    is_correct: Bool[np.ndarray, " detection"],
    objects: Int[np.ndarray, " class"],
    recalls: Float64[np.ndarray, " recall"] = COCO_RECALLS,
    is_averaged: Bool[np.ndarray, " class"] | None = None,
) -> float:
    """The mean over the classes of AP as in pycocotools' `COCOeval.accumulate`; NaN without a class to average.

    Args:
        labels: of the detections, by descending score.
        is_correct: whether each finds an object that no other found before.
        objects: of each class, those to be found.
        is_averaged: the classes that count; by default those with objects. A class without objects has an AP of 0.
    """
    is_averaged = objects > 0 if is_averaged is None else is_averaged
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], np.arange(len(objects) + 1))
    values = [
        _average_precision(is_correct[by_class[starts[label] : starts[label + 1]]], int(objects[label]), recalls)
        for label in np.flatnonzero(is_averaged).tolist()
    ]
    return float(np.mean(values)) if values else float("nan")


def _average_precision(
    is_correct: Bool[np.ndarray, " detection"], objects: int, recalls: Float64[np.ndarray, " recall"]
) -> float:
    places = np.flatnonzero(is_correct)
    if not objects or not len(places):
        return 0.0
    found = np.arange(1, len(places) + 1)
    # The highest precision at this recall or a higher one; it can only be where a detection is right.
    precision = np.maximum.accumulate((found / (places + 1))[::-1])[::-1]
    reached = np.searchsorted(found / objects, recalls, side="left")
    return float(np.append(precision, 0.0)[reached].mean())
