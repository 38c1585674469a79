"""Targets of a batch padded to tensors, so that losses of all images are computed at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from detr_lite.structures import Target


@dataclass(frozen=True)
class PaddedTargets:
    """Objects of all images, padded to the largest number of objects, at least one."""

    boxes_cxcywh: Float[Tensor, "batch object 4"]
    labels: Int[Tensor, "batch object"]
    is_real: Bool[Tensor, "batch object"]
    """False: padding."""
    counts: tuple[int, ...]
    """Number of objects of each image, known without synchronizing with the device."""


def pad_targets(targets: Sequence[Target]) -> PaddedTargets:
    counts = tuple(len(target.labels) for target in targets)
    max_objects = max(1, *counts)
    device = targets[0].boxes_cxcywh.device
    boxes_cxcywh = torch.full((len(targets), max_objects, 4), 0.5, device=device)
    labels = torch.zeros(len(targets), max_objects, dtype=torch.long, device=device)
    is_real = torch.zeros(len(targets), max_objects, dtype=torch.bool, device=device)
    for image, (target, count) in enumerate(zip(targets, counts, strict=True)):
        boxes_cxcywh[image, :count] = target.boxes_cxcywh
        labels[image, :count] = target.labels
        is_real[image, :count] = True
    return PaddedTargets(boxes_cxcywh, labels, is_real, counts)
