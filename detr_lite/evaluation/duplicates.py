"""What detections of objects that were already found cost, and what `--nms` would change."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool

from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.error_kinds import find_errors
from detr_lite.evaluation.matching import match_classes
from detr_lite.evaluation.postprocess import without_duplicates
from detr_lite.structures import Category, DetectionArrays, GroundTruth

NMS = 0.7
"""The IoU that is recommended for `--nms`."""


@dataclass(frozen=True)
class DuplicateCost:
    """Results as they are, and with NMS of each class before the evaluation."""

    threshold: float
    """Of the score, for all but AP."""
    count: int
    """Detections of an object that another one with a higher score finds (TIDE's duplicates at an IoU of 0.5)."""
    AP: float
    """COCO's, over IoU 0.50 to 0.95."""
    AP_with_nms: float
    precision: float
    """At an IoU of 0.5; 0 without detections."""
    precision_with_nms: float
    recall: float
    recall_with_nms: float
    nms: float = NMS
    """Detections that overlap one of their class with a higher score by a larger IoU are removed."""


def duplicate_cost(
    ground_truth: GroundTruth,
    detections: DetectionArrays,
    categories: Sequence[Category],
    threshold: float,
    nms: float = NMS,
) -> DuplicateCost | None:
    """The cost of duplicates; None without objects."""
    if ground_truth.is_crowd.all():
        return None
    kept = detections.select(is_kept_by_nms(detections, nms))
    before, after = (_precision_and_recall(ground_truth, each, threshold) for each in (detections, kept))
    return DuplicateCost(
        threshold=threshold,
        count=find_errors(ground_truth, detections, threshold).counts()["duplicate"],
        AP=evaluate_detections(ground_truth, detections, categories).metrics["AP"],
        AP_with_nms=evaluate_detections(ground_truth, kept, categories).metrics["AP"],
        precision=before[0],
        precision_with_nms=after[0],
        recall=before[1],
        recall_with_nms=after[1],
        nms=nms,
    )


def is_kept_by_nms(detections: DetectionArrays, nms: float) -> Bool[np.ndarray, " detection"]:
    """Which detections `--nms` keeps; the others overlap one of their image and class with a higher score by a larger
    IoU."""
    order = np.argsort(detections.image_index, kind="stable")
    low, size = detections.boxes_xywh[order, :2], detections.boxes_xywh[order, 2:]
    boxes_xyxy = torch.from_numpy(np.concatenate([low, low + size], axis=1))
    scores, labels = torch.from_numpy(detections.scores[order]), torch.from_numpy(detections.labels[order])
    _, starts = np.unique(detections.image_index[order], return_index=True)
    is_kept = np.zeros(len(order), dtype=bool)
    for start, stop in pairwise([*starts.tolist(), len(order)]):
        image = slice(start, stop)
        kept = without_duplicates(boxes_xyxy[image], scores[image], labels[image], nms)
        is_kept[order[start:stop][kept.numpy()]] = True
    return is_kept


def _precision_and_recall(
    ground_truth: GroundTruth, detections: DetectionArrays, threshold: float
) -> tuple[float, float]:
    matches = match_classes(ground_truth, detections.select(detections.scores >= threshold), 0.5)
    correct, counted = int(matches.is_correct.sum()), int((~matches.is_ignored).sum())
    return correct / max(counted, 1), correct / int((~ground_truth.is_crowd).sum())
