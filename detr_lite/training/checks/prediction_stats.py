"""Statistics of predictions beyond AP: whether boxes and classes fit, and whether predictions have collapsed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_iou

from detr_lite.data.coco import CocoSplit
from detr_lite.evaluation.coco_map import coco_results, evaluate_detections, regardless_of_class
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


def detection_stats(found: Mapping[int, Detections], split: CocoSplit) -> DetectionStats:
    """Compare detections, by image id, with the ground truth of these images."""
    ids = [category.id for category in split.categories]
    ground_truth = {
        **split.ground_truth,
        "images": [image for image in split.ground_truth["images"] if image["id"] in found],
        "annotations": [entry for entry in split.ground_truth["annotations"] if entry["image_id"] in found],
    }
    results = [entry for image, detections in found.items() for entry in coco_results(detections, image, ids)]
    AP50 = evaluate_detections(ground_truth, results, split.categories).metrics["AP50"]  # noqa: N806
    boxes_AP50 = evaluate_detections(*regardless_of_class(ground_truth, results), ()).metrics["AP50"]  # noqa: N806
    return DetectionStats(AP50, boxes_AP50, class_stats(found, split))


def class_stats(found: Mapping[int, Detections], split: CocoSplit) -> ClassStats:
    """How well the classes of detections, by image id, fit. Much cheaper than an evaluation."""
    true, predicted = _matched_labels(found, split)
    return ClassStats(len(true), int((true == predicted).sum()), int(true.bincount().max()) if len(true) else 0)


def best_by_query(detections: Detections) -> Detections:
    """The highest-scoring detection of each query, in ascending order of queries."""
    first: dict[int, int] = {}
    for place, query in enumerate(detections.queries.tolist()):
        first.setdefault(query, place)  # detections are sorted by score
    keep = torch.tensor([first[query] for query in sorted(first)], dtype=torch.long)
    return detections[keep]


def spread_over_queries(found: Mapping[int, Detections], sizes: Mapping[int, tuple[int, int]]) -> float:
    """Standard deviation of the boxes of an image's queries, relative to its size; of the median image.

    Args:
        sizes: (height, width) in pixels of each image by its id.
    """
    spreads = [_widest(_relative(best_by_query(detections), sizes[image])) for image, detections in found.items()]
    return float(torch.tensor(spreads).median()) if spreads else 1.0


def spread_over_images(found: Mapping[int, Detections], sizes: Mapping[int, tuple[int, int]]) -> float:
    """Standard deviation of a query's box and score over images; of the median query.

    Args:
        sizes: (height, width) in pixels of each image by its id.
    """
    of_query: dict[int, list[Tensor]] = {}
    for image, detections in found.items():
        best = best_by_query(detections)
        rows = torch.cat([_relative(best, sizes[image]), best.scores[:, None]], dim=1)
        for query, row in zip(best.queries.tolist(), rows, strict=True):
            of_query.setdefault(query, []).append(row)
    spreads = [_widest(torch.stack(rows)) for rows in of_query.values() if len(rows) > 1]
    return float(torch.tensor(spreads).median()) if spreads else 1.0


def find_collapse(found: Mapping[int, Detections], sizes: Mapping[int, tuple[int, int]]) -> str | None:
    """In which way detections, by image id, are all the same, as those of a collapsed model; None if they are not.

    Args:
        sizes: (height, width) in pixels of each image by its id.
    """
    if spread_over_queries(found, sizes) < ALIKE:
        return "all queries of an image give the same box"
    if len(found) > 1 and spread_over_images(found, sizes) < ALIKE:
        return "the predictions are the same for every image"
    return None


def _widest(rows: Float[Tensor, "row value"]) -> float:
    """The largest of the columns' standard deviations."""
    return float(rows.std(dim=0, correction=0).max()) if len(rows) > 1 else 1.0


def _relative(detections: Detections, size: tuple[int, int]) -> Float[Tensor, "found 4"]:
    height, width = size
    return detections.boxes_xyxy / torch.tensor([width, height, width, height])


def _matched_labels(found: Mapping[int, Detections], split: CocoSplit) -> tuple[Tensor, Tensor]:
    """True and predicted label of each object that a box matches."""
    true: list[Tensor] = []
    predicted: list[Tensor] = []
    for record in split.images:
        if record.id not in found or not len(record.labels) or not len(found[record.id]):
            continue
        best = best_by_query(found[record.id])
        fits = box_iou(torch.tensor(record.boxes_xyxy), best.boxes_xyxy) >= 0.5
        highest = torch.where(fits, best.scores, -1.0).argmax(dim=1)
        is_found = fits.any(dim=1)
        true.append(torch.tensor(record.labels)[is_found])
        predicted.append(best.labels[highest][is_found])
    nothing: Sequence[Tensor] = [torch.zeros(0, dtype=torch.long)]
    return torch.cat([*nothing, *true]), torch.cat([*nothing, *predicted])
