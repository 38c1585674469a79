"""Detections of a model as arrays for evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_lite.box_ops import xyxy_to_xywh
from detr_lite.structures import DetectionArrays, Detections


@dataclass(frozen=True)
class DetectionRows:
    """The detections in many images as two tensors, which processes can exchange: 24 bytes for a detection."""

    images: Int64[Tensor, "image 2"]
    """Index and number of detections of each image, in the order of the indices."""
    rows: Float[Tensor, "detection 6"]
    """x1, y1, x2, y2, score and label; float32 is exact for labels up to 2^24."""


def detection_rows(found: Mapping[int, Detections]) -> DetectionRows:
    """The detections in many images, by their index."""
    each = [(index, found[index]) for index in sorted(found)]
    counts = [[index, len(detections)] for index, detections in each]
    parts = [
        torch.cat([part.boxes_xyxy, part.scores[:, None], part.labels[:, None].to(part.scores.dtype)], dim=1)
        for _, part in each
    ]
    return DetectionRows(torch.tensor(counts, dtype=torch.long).reshape(-1, 2), torch.cat([torch.zeros(0, 6), *parts]))


def pack_detections(found: Mapping[int, Detections] | DetectionRows) -> DetectionArrays:
    """The detections in many images, by their index, in the order of the indices.

    Boxes are rounded to 1/1000 pixel and scores to 6 digits, so that a file of them holds exactly what is evaluated.
    """
    packed = found if isinstance(found, DetectionRows) else detection_rows(found)
    index, counts = packed.images.T
    return DetectionArrays(
        image_index=index.repeat_interleave(counts).numpy(),
        labels=packed.rows[:, 5].long().numpy(),
        boxes_xywh=xyxy_to_xywh(packed.rows[:, :4]).double().numpy().round(3),
        scores=packed.rows[:, 4].double().numpy().round(6),
    )


def merge_detections(parts: Sequence[DetectionArrays]) -> DetectionArrays:
    """The detections of all parts in the order of the images; of an image that several parts have, those of the first.

    Parts come from processes, some of which repeat an image so that all have as many.
    """
    counts = [len(part.scores) for part in parts]
    source = np.repeat(np.arange(len(parts)), counts)
    image = np.concatenate([part.image_index for part in parts])
    first = np.full(int(image.max(initial=-1)) + 1, len(parts))
    np.minimum.at(first, image, source)
    kept = np.flatnonzero(first[image] == source)
    kept = kept[np.argsort(image[kept], kind="stable")]
    return DetectionArrays(
        image_index=image,
        labels=np.concatenate([part.labels for part in parts]),
        boxes_xywh=np.concatenate([part.boxes_xywh for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    ).select(kept)


def relabel_detections(detections: DetectionArrays, new_labels: Int64[np.ndarray, " class"]) -> DetectionArrays:
    """Under other labels, by the present ones; detections whose new label is negative are left out."""
    labels = new_labels[detections.labels]
    return replace(detections, labels=labels).select(labels >= 0)
