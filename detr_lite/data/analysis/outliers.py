"""Boxes worth a second look: unusual for their class, hardly visible, or nearly the same as another.

Robust z-scores after Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): the distance from the class's
median in standard deviations, estimated by the median absolute deviation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from detr_lite.array_structures import GroundTruth
from detr_lite.data.records import Split
from detr_lite.text import printable

Oddity = Literal["size", "aspect", "position", "near_duplicate", "two_classes", "tiny", "outside"]

MIN_OBJECTS = 20
"""Of a class; with fewer nothing can be called usual."""

MAX_DEVIATIONS = 5.0
"""Standard deviations from the class's median beyond which a box is listed."""

NEAR_IOU = 0.9
"""Two boxes that overlap more than this are hardly two objects."""

TINY = 2.0
"""Pixels of width or height below which a box is listed."""


@dataclass(frozen=True)
class OddBox:
    """A box, and one reason to look at it."""

    image: int
    """Index in `Split.images`."""
    object: int
    """Index in the arrays of `Split.ground_truth`."""
    kind: Oddity
    reason: str
    """For people: "cell of 300 x 200 pixels, 8.0 times the usual size of its class"."""
    severity: float
    """The larger, the odder: from 0.5 for what may have a good reason to 3 for the same box twice."""
    other: int | None = None
    """The object that it nearly repeats, as `object`."""


def find_odd_boxes(split: Split) -> list[OddBox]:
    """All odd boxes of a split, the oddest first; a box is listed once for each kind of oddity.

    Crowd regions are not judged. A box that is unusual for its class and ends at the border of its image counts half:
    the border may have cut the object.
    """
    truth = split.ground_truth
    sizes_wh = split.images.sizes_wh[truth.image_index].astype(np.float64)
    names = [printable(category.name) for category in split.categories]
    found = [*_unusual(truth, sizes_wh, names), *_tiny(truth, names), *_outside(truth, sizes_wh, names)]
    found += _repeated(truth, names)
    return sorted(found, key=lambda odd: (-odd.severity, odd.image, odd.object))


def near_duplicates(
    truth: GroundTruth, min_iou: float = NEAR_IOU
) -> tuple[Int64[np.ndarray, "pair 2"], Float64[np.ndarray, " pair"]]:
    """Pairs of objects of one image, of any classes, whose boxes overlap more than `min_iou`, and their IoU.

    Crowd regions are left out. In each pair the later object comes first; pairs are in ascending order.
    """
    objects = np.flatnonzero(~truth.is_crowd)
    left = truth.boxes_xywh[:, 0]
    objects = objects[np.lexsort([left[objects], truth.image_index[objects]])]
    pairs, ious = [np.zeros((0, 2), dtype=np.int64)], [np.zeros(0)]
    # Of two boxes whose IoU exceeds t, the right one's left edge is less than (1 - t) widths away from the left one's:
    # in the order of left edges only the next few boxes need to be looked at.
    first = np.arange(len(objects))
    reach = (left + (1 - min_iou) * truth.boxes_xywh[:, 2])[objects]
    for step in range(1, len(objects)):
        first = first[first + step < len(objects)]
        a, b = objects[first], objects[first + step]
        is_near = (truth.image_index[a] == truth.image_index[b]) & (left[b] <= reach[first])
        first, a, b = first[is_near], a[is_near], b[is_near]
        if not len(first):
            break
        iou = _paired_iou(truth.boxes_xywh[a], truth.boxes_xywh[b])
        pair = np.stack([np.maximum(a, b), np.minimum(a, b)], axis=1)
        pairs.append(pair[iou > min_iou])
        ious.append(iou[iou > min_iou])
    all_pairs, all_ious = np.concatenate(pairs), np.concatenate(ious)
    order = np.lexsort(all_pairs.T[::-1])
    return all_pairs[order], all_ious[order]


def _unusual(truth: GroundTruth, sizes_wh: Float64[np.ndarray, "object 2"], names: list[str]) -> Iterator[OddBox]:
    """Boxes whose size, aspect ratio or position is far from the median of their class."""
    low = truth.boxes_xywh[:, :2].clip(0, sizes_wh)
    boxes_wh = (truth.boxes_xywh[:, :2] + truth.boxes_xywh[:, 2:]).clip(0, sizes_wh) - low
    is_cut = (low < 1).any(axis=1) | (low + boxes_wh > sizes_wh - 1).any(axis=1)
    is_judged = ~truth.is_crowd & (boxes_wh > 0).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_size = np.log(boxes_wh.prod(axis=1) / sizes_wh.prod(axis=1)) / 2
        log_aspect = np.log(boxes_wh[:, 0] / boxes_wh[:, 1])
    centers = (low + boxes_wh / 2) / sizes_wh
    # The floors keep a class whose boxes are nearly alike from listing differences that nobody would see.
    measures: tuple[tuple[Oddity, Float64[np.ndarray, " object"], float], ...] = (
        ("size", log_size, 0.1),
        ("aspect", log_aspect, 0.1),
        ("position", centers[:, 0], 0.05),
        ("position", centers[:, 1], 0.05),
    )
    for number, (kind, values, floor) in enumerate(measures):
        medians, deviations = _deviations(values, truth.labels, is_judged, floor)
        for index in np.flatnonzero(np.abs(deviations) > MAX_DEVIATIONS).tolist():
            value, median = float(values[index]), float(medians[index])
            width, height = boxes_wh[index].tolist()
            name = names[truth.labels[index]]
            if kind == "size":
                reason = f"{name} of {width:.0f} x {height:.0f} pixels, {_times(value - median)} the usual size"
            elif kind == "aspect":
                ratio, usual = float(np.exp(value)), float(np.exp(median))
                reason = f"{name} of {width:.0f} x {height:.0f} pixels: width / height {ratio:.2g}, usually {usual:.2g}"
            else:
                side = "width" if number == 2 else "height"
                reason = f"{name} at {value:.0%} of the image's {side}, usually near {median:.0%}"
            severity = abs(float(deviations[index])) / MAX_DEVIATIONS
            if is_cut[index]:
                reason, severity = f"{reason} (at the image's border)", severity / 2
            yield OddBox(int(truth.image_index[index]), index, kind, reason, severity)


def _deviations(
    values: Float64[np.ndarray, " object"],
    labels: Int64[np.ndarray, " object"],
    is_judged: Bool[np.ndarray, " object"],
    floor: float,
) -> tuple[Float64[np.ndarray, " object"], Float64[np.ndarray, " object"]]:
    """The median of each object's class, and the robust z-score; 0 in classes with too few objects."""
    medians, deviations = np.zeros(len(values)), np.zeros(len(values))
    judged = np.flatnonzero(is_judged)
    judged = judged[np.argsort(labels[judged], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[judged], prepend=-1))
    for objects in np.split(judged, starts[1:]):
        if len(objects) >= MIN_OBJECTS:
            median = np.median(values[objects])
            distances = values[objects] - median
            deviation = max(floor, 1.4826 * float(np.median(np.abs(distances))))  # of a normal distribution
            medians[objects], deviations[objects] = median, distances / deviation
    return medians, deviations


def _tiny(truth: GroundTruth, names: list[str]) -> Iterator[OddBox]:
    sides = truth.boxes_xywh[:, 2:].min(axis=1, initial=np.inf)
    for index in np.flatnonzero(~truth.is_crowd & (sides < TINY)).tolist():
        width, height = truth.boxes_xywh[index, 2:].tolist()
        reason = f"{names[truth.labels[index]]} of {width:.2g} x {height:.2g} pixels, hardly visible"
        yield OddBox(int(truth.image_index[index]), index, "tiny", reason, 2 - float(sides[index]) / TINY)


def _outside(truth: GroundTruth, sizes_wh: Float64[np.ndarray, "object 2"], names: list[str]) -> Iterator[OddBox]:
    """Boxes that reach more than a pixel beyond their image."""
    low, high = truth.boxes_xywh[:, :2], truth.boxes_xywh[:, :2] + truth.boxes_xywh[:, 2:]
    beyond = np.maximum(-low, high - sizes_wh).max(axis=1, initial=0.0)
    for index in np.flatnonzero(~truth.is_crowd & (beyond > 1)).tolist():
        inside = np.prod(high[index].clip(0, sizes_wh[index]) - low[index].clip(0, sizes_wh[index]))
        share = 1 - float(inside / truth.boxes_xywh[index, 2:].prod())
        reason = f"{names[truth.labels[index]]} reaches {beyond[index]:,.0f} pixels beyond its image"
        yield OddBox(int(truth.image_index[index]), index, "outside", reason, 1 + 2 * share)


def _repeated(truth: GroundTruth, names: list[str]) -> Iterator[OddBox]:
    pairs, ious = near_duplicates(truth)
    for (index, other), iou in zip(pairs.tolist(), ious.tolist(), strict=True):
        severity = 2 + (iou - NEAR_IOU) / (1 - NEAR_IOU)
        name, other_name = names[truth.labels[index]], names[truth.labels[other]]
        odd = OddBox(int(truth.image_index[index]), index, "near_duplicate", "", severity, other)
        if name == other_name:
            yield replace(odd, reason=f"two boxes of {name} that overlap by {iou:.0%} (IoU)")
        else:
            reason = f"{name} and {other_name} at one place: the boxes overlap by {iou:.0%} (IoU)"
            yield replace(odd, kind="two_classes", reason=reason)


def _paired_iou(
    first_xywh: Float64[np.ndarray, "pair 4"], second_xywh: Float64[np.ndarray, "pair 4"]
) -> Float64[np.ndarray, " pair"]:
    low = np.maximum(first_xywh[:, :2], second_xywh[:, :2])
    high = np.minimum(first_xywh[:, :2] + first_xywh[:, 2:], second_xywh[:, :2] + second_xywh[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    union = first_xywh[:, 2:].prod(axis=1) + second_xywh[:, 2:].prod(axis=1) - shared
    return np.asarray(shared / union)


def _times(log_ratio: float) -> str:
    """ "3.0 times" of a logarithm."""
    ratio = float(np.exp(log_ratio))
    return f"{ratio:.1f} times" if ratio >= 1 else f"{ratio:.2g} times"
