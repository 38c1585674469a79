"""Statistics of predictions beyond AP: whether boxes and classes fit, and whether predictions have collapsed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import box_iou

from detr_lite.data.records import Split
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.packing import pack_detections
from detr_lite.evaluation.zero import regardless_of_class
from detr_lite.structures import Detections

ALIKE = 0.01
"""Standard deviation of boxes (relative to the image) and scores below which they are the same. With a model that has
learned anything it is 0.1 and more. Where the same boxes everywhere are right, AP is above zero."""


@dataclass(frozen=True)
class ClassStats:
    """How often the class is right, for ground-truth objects that a box matches."""

    found: int
    """Objects with a predicted box of IoU 0.5 or more."""
    right: int
    """How many of them have the class of the highest-scoring such box."""
    most_frequent: int
    """How many of them are of the most frequent class: what always predicting that class would get right."""


@dataclass(frozen=True)
class DetectionStats:
    """AP50 with and without classes."""

    AP50: float
    """-1 where there are no objects."""
    boxes_AP50: float  # noqa: N815 (COCO's name)
    """With all objects in one class."""
    classes: ClassStats


def detection_stats(found: Mapping[int, Detections], split: Split) -> DetectionStats:
    """Compare detections, by image index, with the ground truth of these images."""
    truth, detections = split.ground_truth, pack_detections(found)
    images = np.array(sorted(found), dtype=np.int64)
    evaluation = evaluate_detections(truth, detections, split.categories, image_indices=images)
    boxes = evaluate_detections(*regardless_of_class(truth, detections), image_indices=images)
    return DetectionStats(evaluation.metrics["AP50"], boxes.metrics["AP50"], class_stats(found, split))


def class_stats(found: Mapping[int, Detections], split: Split) -> ClassStats:
    """How well the classes of detections, by image index, fit. Much cheaper than an evaluation."""
    true, predicted = _matched_labels(found, split)
    return ClassStats(len(true), int((true == predicted).sum()), int(true.bincount().max()) if len(true) else 0)


def best_by_query(detections: Detections) -> Detections:
    """The highest-scoring detection of each query, in ascending order of queries."""
    first: dict[int, int] = {}
    for place, query in enumerate(detections.queries.tolist()):
        first.setdefault(query, place)  # detections are sorted by score
    keep = torch.tensor([first[query] for query in sorted(first)], dtype=torch.long)
    return detections[keep]


def spread_over_queries(found: Mapping[int, Detections], sizes_wh: Int[np.ndarray, "image 2"]) -> float:
    """Standard deviation of the boxes of an image's queries, relative to its size; of the median image.

    Args:
        sizes_wh: of each image in pixels.
    """
    spreads = [_widest(_relative(best_by_query(detections), sizes_wh[image])) for image, detections in found.items()]
    return float(torch.tensor(spreads).median()) if spreads else 1.0


def spread_over_images(found: Mapping[int, Detections], sizes_wh: Int[np.ndarray, "image 2"]) -> float:
    """Standard deviation of a query's box and score over images; of the median query.

    Args:
        sizes_wh: of each image in pixels.
    """
    of_query: dict[int, list[Tensor]] = {}
    for image, detections in found.items():
        best = best_by_query(detections)
        rows = torch.cat([_relative(best, sizes_wh[image]), best.scores[:, None]], dim=1)
        for query, row in zip(best.queries.tolist(), rows, strict=True):
            of_query.setdefault(query, []).append(row)
    spreads = [_widest(torch.stack(rows)) for rows in of_query.values() if len(rows) > 1]
    return float(torch.tensor(spreads).median()) if spreads else 1.0


def find_collapse(found: Mapping[int, Detections], sizes_wh: Int[np.ndarray, "image 2"]) -> str | None:
    """In which way detections, by image index, are all the same, as those of a collapsed model; None if they are not.

    Args:
        sizes_wh: of each image in pixels.
    """
    if spread_over_queries(found, sizes_wh) < ALIKE:
        return "all queries of an image give the same box"
    if len(found) > 1 and spread_over_images(found, sizes_wh) < ALIKE:
        return "the predictions are the same for every image"
    return None


def _widest(rows: Float[Tensor, "row value"]) -> float:
    """The largest of the columns' standard deviations."""
    return float(rows.std(dim=0, correction=0).max()) if len(rows) > 1 else 1.0


def _relative(detections: Detections, size_wh: Int[np.ndarray, "2"]) -> Float[Tensor, "found 4"]:
    return detections.boxes_xyxy / torch.from_numpy(np.tile(size_wh, 2))


def _matched_labels(found: Mapping[int, Detections], split: Split) -> tuple[Tensor, Tensor]:
    """True and predicted label of each object that a box matches."""
    true: list[Tensor] = []
    predicted: list[Tensor] = []
    for index, detections in found.items():
        record = split.images[index]
        if not len(record.labels) or not len(detections):
            continue
        best = best_by_query(detections)
        fits = box_iou(torch.tensor(record.boxes_xyxy), best.boxes_xyxy) >= 0.5
        highest = torch.where(fits, best.scores, -1.0).argmax(dim=1)
        is_found = fits.any(dim=1)
        true.append(torch.tensor(record.labels)[is_found])
        predicted.append(best.labels[highest][is_found])
    nothing: Sequence[Tensor] = [torch.zeros(0, dtype=torch.long)]
    return torch.cat([*nothing, *true]), torch.cat([*nothing, *predicted])
