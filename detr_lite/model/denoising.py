"""Denoising: queries made from noisy copies of the true objects, which need no matching (training only)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy, xyxy_to_cxcywh
from detr_lite.structures import Target


@dataclass(frozen=True)
class DenoisingQueries:
    """Copies of the true objects in groups; every group holds each object once, shorter images are filled up."""

    boxes_cxcywh: Float[Tensor, "batch noisy 4"]
    labels: Int[Tensor, "batch noisy"]
    objects: Int[Tensor, "batch noisy"]
    """Index of the true object in its image's target."""
    is_real: Bool[Tensor, "batch noisy"]
    is_near: Bool[Tensor, "batch noisy"]
    """False: so far off that the right answer is "no object"."""
    groups: int


def make_denoising_queries(
    targets: Sequence[Target],
    classes: int,
    most_queries: int,
    contrastive: bool = False,
    box_noise: float = 0.4,
    label_noise: float = 0.2,
) -> DenoisingQueries:
    """Noise as in DN-DETR (arXiv 2203.01305, section 4.2): centres move within the box, sizes scale, labels flip.

    There are as many groups as fit in `most_queries`, at least one of one object; of an image with more objects than
    that some are drawn, others each time. Without any object there is one slot that is not real, so that its parameters
    still take part.

    Args:
        contrastive: each group holds each object a second time, with one to two times the noise, as an example of a box
            that is no object's (contrastive denoising, DINO, arXiv 2203.03605, section 3.3).
    """
    copies = 2 if contrastive else 1
    slots = max(1, min(most_queries // copies, max(len(target.labels) for target in targets)))
    groups = max(1, most_queries // (copies * slots))
    device = targets[0].boxes_cxcywh.device
    boxes_cxcywh = torch.full((len(targets), slots, 4), 0.5, device=device)
    labels = torch.zeros(len(targets), slots, dtype=torch.long, device=device)
    objects = torch.arange(slots, device=device).repeat(len(targets), 1)
    is_real = torch.zeros(len(targets), slots, dtype=torch.bool, device=device)
    for image, target in enumerate(targets):
        if len(target.labels) > slots:
            objects[image] = torch.randperm(len(target.labels), device=device)[:slots]
        copied = objects[image, : len(target.labels)]
        boxes_cxcywh[image, : len(copied)] = target.boxes_cxcywh[copied]
        labels[image, : len(copied)] = target.labels[copied]
        is_real[image, : len(copied)] = True

    is_near = torch.ones(copies, slots, dtype=torch.bool, device=device)
    is_near[1:] = False
    is_near = is_near.flatten().repeat(len(targets), groups)
    times = copies * groups

    boxes_cxcywh = boxes_cxcywh.repeat(1, times, 1)
    noise = _symmetric_noise(boxes_cxcywh)
    # One to two times as far, in the same direction.
    noise = box_noise * torch.where(is_near[..., None], noise, noise + noise.sign())
    center, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    center, size = center + noise[..., :2] * size / 2, size * (1 + noise[..., 2:])
    noisy_xyxy = cxcywh_to_xyxy(torch.cat([center, size], dim=-1)).clamp(0, 1)

    labels = labels.repeat(1, times)
    flips = torch.rand(labels.shape, device=device) < label_noise
    labels = torch.where(flips, torch.randint_like(labels, classes), labels)
    return DenoisingQueries(
        boxes_cxcywh=xyxy_to_cxcywh(noisy_xyxy),
        labels=labels,
        objects=objects.repeat(1, times),
        is_real=is_real.repeat(1, times),
        is_near=is_near,
        groups=groups,
    )


def denoising_attn_mask(
    num_denoising: int, groups: int, queries: int, device: torch.device | None = None
) -> Bool[Tensor, "query query"]:
    """Who may attend to whom when noisy queries stand before the real ones (DN-DETR, section 4.3).

    Noisy copies hold the answers: real queries must not see them, nor one group another. Copies see real queries.
    """
    total = num_denoising + queries
    group = torch.arange(total, device=device) // (num_denoising // groups)
    is_noisy = torch.arange(total, device=device) < num_denoising
    return (group[:, None] == group[None, :]) & is_noisy[None, :] | ~is_noisy[None, :]


def _symmetric_noise(like: Tensor) -> Tensor:
    return torch.rand_like(like) * 2 - 1
