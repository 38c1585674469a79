"""Which of attention, relevance and occlusion tells what detections depend on: measured on a dataset, and reported."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from detr_lite.attribution.attribute import attribute
from detr_lite.box_ops import paired_iou
from detr_lite.data.images.load import load_image
from detr_lite.data.records import ImageRecord, Split
from detr_lite.detector import Detector
from detr_lite.evaluation.attribution import AttributionMetrics, ImageAttribution
from detr_lite.io import atomic_write
from detr_lite.structures import Detections
from detr_lite.training.explorer_page import explain_image
from detr_lite.viz.figures.attribution_curves import plot_attribution_curves

ATTRIBUTION_FILES = ("attribution.json", "attribution.png")
"""What `report_attribution` writes."""

logger = logging.getLogger(__name__)


def measure_attribution(detector: Detector, split: Split, objects: int, threshold: float) -> list[ImageAttribution]:
    """Of so many true objects that are found, each in another image, where there are as many.

    Args:
        split: under the labels of the model.
        threshold: the score from which an object counts as found, if the IoU is 0.5.
    """
    random = np.random.default_rng(0)
    found: list[ImageAttribution] = []
    for index in random.permutation(len(split.images)).tolist():
        if len(found) == objects:
            break
        record = split.images[index]
        if not len(record.labels):
            continue
        image = load_image(record.path, (record.height, record.width), split.orientation.default)
        explained = explain_image(detector, image)
        correct = _correct(explained.detections.above(threshold), record)
        if correct:
            chosen = explained.detections[torch.tensor([int(random.choice(correct))])]
            logger.info("attribution: object %d of %d, in %s", len(found) + 1, objects, split.file_name(index))
            found.append(attribute(detector, image, explained, chosen.queries.tolist(), chosen.labels.tolist()))
    return found


def report_attribution(images: Sequence[ImageAttribution], objects: int, folder: Path) -> None:
    """Log the areas under the curves as a table, and write `attribution.json` and `attribution.png`.

    Args:
        objects: as many as were asked for.
    """
    metrics = AttributionMetrics.of(images)
    content = metrics.as_dict()
    atomic_write(folder / "attribution.json", lambda file: file.write(f"{json.dumps(content, indent=2)}\n".encode()))
    plot_attribution_curves(images, folder / "attribution.png")
    if not images:
        logger.warning("attribution was not measured: no annotated object of these images is found")
        return
    if len(images) < objects:
        logger.warning("only %d images have an object that is found, of %d asked for", len(images), objects)
    count = f"{len(images):,} detection{'s' if len(images) != 1 else ''}"
    logger.info("what the scores of %s depend on\n\n%s\n\n%s", count, metrics.table(), metrics.sentence())


def _correct(detections: Detections, record: ImageRecord) -> list[int]:
    """The detections of the right class that overlap a true object by an IoU of at least 0.5."""
    true_xyxy, labels = torch.tensor(record.boxes_xyxy), torch.tensor(record.labels)
    overlap = paired_iou(detections.boxes_xyxy[:, None].float(), true_xyxy.float())
    is_right = (overlap >= 0.5) & (detections.labels[:, None] == labels)
    return is_right.any(1).nonzero().flatten().tolist()
