"""The likely cause of an AP of 0, and class-agnostic evaluation."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Real

from detr_lite.evaluation.coco_map import BOXES_FIT, CocoEvaluation, evaluate_detections
from detr_lite.structures import Category, DetectionArrays, GroundTruth
from detr_lite.text import printable, shorten_list

ANY_CLASS = (Category(1, "object"),)
"""The categories of `regardless_of_class`."""


def explain_zero(
    evaluation: CocoEvaluation,
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    sizes_wh: Real[np.ndarray, "image 2"],
    image_ids: Sequence[int | str],
) -> str | None:
    """The likely cause of an AP of 0, in one line; None if AP is not 0 or no cause is found.

    Args:
        sizes_wh: of each image in pixels; not finite where it is not known.
        image_ids: what the message calls each image.
    """
    if evaluation.metrics["AP"] != 0:
        return None
    if not len(detections.scores):
        return "AP is 0 because there is not a single detection"
    found, true = np.unique(detections.image_index), np.unique(ground_truth.image_index)
    if not np.intersect1d(found, true).size:
        texts = (_listed(image_ids[index] for index in indices) for indices in (found.tolist(), true.tolist()))
        return "AP is 0 because the detections are in images {}, the objects in images {}".format(*texts)
    found, true = np.unique(detections.labels), np.unique(ground_truth.labels)
    if not np.intersect1d(found, true).size:
        names = [result.category.name for result in evaluation.per_class]
        texts = (_listed(names[label] for label in labels) for labels in (found.tolist(), true.tolist()))
        return "AP is 0 because the detections are of class {}, the objects of class {}".format(*texts)
    return _explain_boxes(detections, sizes_wh) or _explain_classes(ground_truth, detections)


def regardless_of_class(
    ground_truth: GroundTruth, detections: DetectionArrays
) -> tuple[GroundTruth, DetectionArrays, tuple[Category, ...]]:
    """What to evaluate for class-agnostic AP: all objects in one class.

    A box that is detected as several classes is kept once, with its highest score.
    """
    keys = (*detections.boxes_xywh.T, detections.image_index)
    order = np.lexsort((-detections.scores, *keys))
    is_first = np.ones(len(order), dtype=bool)
    columns = [key[order] for key in keys]
    is_first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    kept = np.sort(order[is_first])
    return (
        replace(ground_truth, labels=np.zeros_like(ground_truth.labels)),
        replace(detections, labels=np.zeros_like(detections.labels)).select(kept),
        ANY_CLASS,
    )


def _explain_boxes(detections: DetectionArrays, sizes_wh: Real[np.ndarray, "image 2"]) -> str | None:
    low, size = detections.boxes_xywh[:, :2], detections.boxes_xywh[:, 2:]
    limits = np.nan_to_num(sizes_wh[detections.image_index].astype(np.float64), nan=np.inf, posinf=np.inf)
    if (size <= 0).any(axis=1).all():
        return "AP is 0 because no detected box has an area: is `bbox` [x, y, width, height]?"
    if (low + size).max() <= 2 < limits.min():
        return "AP is 0 because the boxes lie between 0 and 1: `bbox` must be in pixels of the original image"
    outside = ((low + size > 1.01 * limits + 1) | (low < -1)).any(axis=1).mean()
    if outside >= 0.5:
        return (
            f"AP is 0, and {outside:.0%} of the boxes extend beyond their image: "
            "`bbox` must be [x, y, width, height] in pixels of the original image"
        )
    return None


def _explain_classes(ground_truth: GroundTruth, detections: DetectionArrays) -> str | None:
    fit = evaluate_detections(*regardless_of_class(ground_truth, detections)).metrics["AP50"]
    if fit < BOXES_FIT:
        return None
    return (
        f"AP is 0 although the boxes fit (AP50 {fit:.2f} regardless of class), so the classes are wrong: do the "
        "category ids mean the same in the detections and in these annotations?"
    )


def _listed(values: Iterable[object]) -> str:
    return shorten_list([printable(value) for value in values]) or "none"
