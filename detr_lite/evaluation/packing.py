"""Detections of a model as arrays for evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from detr_lite.box_ops import xyxy_to_xywh
from detr_lite.structures import DetectionArrays, Detections


def pack_detections(found: Mapping[int, Detections]) -> DetectionArrays:
    """The detections in many images, by their index, in the order of the indices.

    Boxes are rounded to 1/1000 pixel and scores to 6 digits, so that a file of them holds exactly what is evaluated.
    """
    indices = sorted(found)
    each = [found[index] for index in indices]
    counts = torch.tensor([len(detections) for detections in each], dtype=torch.long)
    boxes_xyxy = torch.cat([torch.zeros(0, 4), *(detections.boxes_xyxy for detections in each)])
    scores = torch.cat([torch.zeros(0), *(detections.scores for detections in each)])
    labels = torch.cat([torch.zeros(0, dtype=torch.long), *(detections.labels for detections in each)])
    return DetectionArrays(
        image_index=torch.tensor(indices, dtype=torch.long).repeat_interleave(counts).numpy(),
        labels=labels.numpy(),
        boxes_xywh=xyxy_to_xywh(boxes_xyxy).double().numpy().round(3),
        scores=scores.double().numpy().round(6),
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
