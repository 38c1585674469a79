"""Results by what the objects are like: their size, their shape, and what is around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64

from detr_lite.evaluation.average_precision import mean_average_precision
from detr_lite.evaluation.matching import Matches, Pairs, match, of_one_class, overlaps, within_limit
from detr_lite.structures import Category, DetectionArrays, GroundTruth

IOU = 0.5

SIDES = (32.0, 96.0)
"""Square roots of the areas between COCO's small, medium and large objects."""

LONG = 1.5
"""Ratio of the sides from which a box is tall or wide."""

CROWDED = 0.3
"""IoU with another object from which an object counts as crowded: where NMS begins to remove true detections."""


@dataclass(frozen=True)
class Slice:
    """Results for some of the objects. Only slices with objects exist."""

    group: str
    """By what the objects are divided."""
    name: str
    objects: int
    recall: float
    """Share of these objects that is found at the working threshold, at an IoU of 0.5."""
    AP50: float | None
    """AP at an IoU of 0.5, where objects outside the slice are ignored, and so are detections that find none of the
    slice's objects and are not like them; this is how COCO computes AP of small objects. None where a detection cannot
    be said to be in the slice or not."""
    recall_at_any_score: float
    """Share of these objects that is found by detections of any score: the most that a lower threshold can reach."""


@dataclass(frozen=True, eq=False)
class _Part:
    group: str
    name: str
    is_object: Bool[np.ndarray, " object"]
    is_detection: Bool[np.ndarray, " detection"] | None


def slice_results(
    ground_truth: GroundTruth, detections: DetectionArrays, categories: Sequence[Category], threshold: float
) -> tuple[Slice, ...]:
    """The results by size (COCO's limits of area), by quarters of this data's sizes (square root of the box's area), by
    shape (sides of 3 : 2 and more are tall or wide), by the highest IoU with another object of any class, and by the
    number of objects in the image (up to the median over all objects, and more)."""
    detections = detections.select(within_limit(detections, 100))
    detections = detections.select(np.lexsort((detections.image_index, -detections.scores)))
    pairs = overlaps(ground_truth, detections, IOU)
    pairs = pairs.select(of_one_class(ground_truth, detections, pairs))
    whole = match(ground_truth, detections, pairs, IOU)
    slices = []
    for part in _parts(ground_truth, detections):
        is_object = part.is_object & ~ground_truth.is_crowd
        if is_object.any():
            slices.append(
                Slice(
                    part.group,
                    part.name,
                    int(is_object.sum()),
                    _recall(whole, detections.scores >= threshold, is_object),
                    _ap50(ground_truth, detections, pairs, part, len(categories)),
                    _recall(whole, np.ones(len(detections.scores), dtype=bool), is_object),
                )
            )
    return tuple(slices)


def _parts(ground_truth: GroundTruth, detections: DetectionArrays) -> list[_Part]:
    parts = []
    true_side, found_side = _sides(ground_truth.boxes_xywh), _sides(detections.boxes_xywh)
    low, high = SIDES
    names = (f"small (below {low:g} px)", f"medium ({low:g} to {high:g} px)", f"large (above {high:g} px)")
    # As in pycocotools an object whose area is a limit is in both ranges.
    area, found_area = ground_truth.areas, detections.boxes_xywh[:, 2] * detections.boxes_xywh[:, 3]
    for name, least, most in zip(names, (0, low**2, high**2), (low**2, high**2, np.inf), strict=True):
        parts.append(
            _Part("size", name, (area >= least) & (area <= most), (found_area >= least) & (found_area <= most))
        )

    is_object = ~ground_truth.is_crowd
    limits = np.unique(np.quantile(true_side[is_object], (0.25, 0.5, 0.75))) if is_object.any() else np.zeros(0)
    parts += _between("quarter of the sizes", limits, [f"{limit:.0f} px" for limit in limits], true_side, found_side)

    true_ratio, found_ratio = _ratios(ground_truth.boxes_xywh), _ratios(detections.boxes_xywh)
    for name, least, most in ("tall", 0, 1 / LONG), ("square", 1 / LONG, LONG), ("wide", LONG, np.inf):
        parts.append(_Part("shape", name, *((ratio >= least) & (ratio < most) for ratio in (true_ratio, found_ratio))))

    shared = _highest_iou_with_another(ground_truth)
    parts.append(_Part("other objects", "apart from all others", shared == 0, None))
    parts.append(_Part("other objects", f"overlaps (IoU below {CROWDED:g})", (shared > 0) & (shared < CROWDED), None))
    parts.append(_Part("other objects", f"crowded (IoU from {CROWDED:g})", shared >= CROWDED, None))

    per_image = np.bincount(ground_truth.image_index[is_object], minlength=ground_truth.num_images)
    true_count, found_count = per_image[ground_truth.image_index], per_image[detections.image_index]
    median = np.quantile(true_count[is_object], [0.5], method="lower") if is_object.any() else np.zeros(0)
    return parts + _between("objects in the image", median, [f"{limit:g}" for limit in median], true_count, found_count)


def _between(
    group: str, limits: np.ndarray, names: list[str], of_objects: np.ndarray, of_detections: np.ndarray
) -> list[_Part]:
    """The parts up to each limit and above the last."""
    if not names:
        return []
    texts = [f"up to {names[0]}", *(f"{low} to {high}" for low, high in pairwise(names))]
    places = [np.searchsorted(limits, values) for values in (of_objects, of_detections)]
    return [
        _Part(group, text, *(place == number for place in places))
        for number, text in enumerate([*texts, f"more than {names[-1]}"])
    ]


def _recall(matches: Matches, is_kept: Bool[np.ndarray, " detection"], is_object: Bool[np.ndarray, " object"]) -> float:
    found = matches.objects[matches.is_correct & is_kept]
    return int(is_object[found].sum()) / int(is_object.sum())


def _ap50(
    ground_truth: GroundTruth, detections: DetectionArrays, pairs: Pairs, part: _Part, classes: int
) -> float | None:
    if part.is_detection is None:
        return None
    is_ignored = ground_truth.is_crowd | ~part.is_object
    matches = match(ground_truth, detections, pairs, IOU, is_ignored)
    is_counted = matches.is_correct | ((matches.objects < 0) & part.is_detection)
    objects = np.bincount(ground_truth.labels[~is_ignored], minlength=classes)
    return mean_average_precision(detections.labels[is_counted], matches.is_correct[is_counted], objects)


def _sides(boxes_xywh: Float64[np.ndarray, "box 4"]) -> Float64[np.ndarray, " box"]:
    """Square roots of the areas."""
    sides: Float64[np.ndarray, " box"] = np.sqrt(np.maximum(boxes_xywh[:, 2] * boxes_xywh[:, 3], 0.0))
    return sides


def _ratios(boxes_xywh: Float64[np.ndarray, "box 4"]) -> Float64[np.ndarray, " box"]:
    """Width over height."""
    ratios: Float64[np.ndarray, " box"] = boxes_xywh[:, 2] / np.maximum(boxes_xywh[:, 3], 1e-9)
    return ratios


def _highest_iou_with_another(ground_truth: GroundTruth) -> Float64[np.ndarray, " object"]:
    """0 where an object shares no area with another one of any class; crowd regions are not others."""
    as_detections = DetectionArrays(
        ground_truth.image_index, ground_truth.labels, ground_truth.boxes_xywh, np.zeros(len(ground_truth.labels))
    )
    pairs = overlaps(ground_truth, as_detections, 1e-12)
    pairs = pairs.select((pairs.detections != pairs.objects) & ~ground_truth.is_crowd[pairs.objects])
    return pairs.best(len(ground_truth.labels))[1]
