"""Losses and matching costs as functions of tensors."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou_and_giou


def box_losses(
    predicted_cxcywh: Float[Tensor, "*#shape 4"], true_cxcywh: Float[Tensor, "*#shape 4"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """L1 distance (summed over the four coordinates), 1 - GIoU, and IoU of pairs of boxes, with broadcasting."""
    # Faster than torch.cdist(p=1), which does not support half precision.
    l1 = (predicted_cxcywh - true_cxcywh).abs().sum(-1)
    iou, giou = paired_iou_and_giou(cxcywh_to_xyxy(predicted_cxcywh), cxcywh_to_xyxy(true_cxcywh))
    return l1, 1 - giou, iou


def softmax_cost(
    logits: Float[Tensor, "*shape query class"], labels: Int[Tensor, "*#shape object"]
) -> Float[Tensor, "*shape query object"]:
    """Minus the probability of each object's class (DETR, section 3.1)."""
    return -_pick_classes(logits.softmax(-1), labels)


def focal_cost(
    logits: Float[Tensor, "*shape query class"],
    labels: Int[Tensor, "*#shape object"],
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, "*shape query object"]:
    """Focal loss with the object's class as positive minus that as negative (Deformable DETR's matching cost)."""
    probability = logits.sigmoid()
    positive = alpha * (1 - probability) ** gamma * -F.logsigmoid(logits)
    negative = (1 - alpha) * probability**gamma * -F.logsigmoid(-logits)
    return _pick_classes(positive - negative, labels)


def no_object_cross_entropy(
    logits: Float[Tensor, "layer batch query class"],
    classes: Int[Tensor, "layer batch query"],
    no_object_weight: float,
) -> Float[Tensor, " layer"]:
    """Weighted mean cross-entropy by layer; the background, the last class, has a lower weight (DETR, section 3.1)."""
    # Not by an assignment, which copies a number to one element, for which a GPU waits.
    weight = F.pad(logits.new_ones(logits.shape[-1] - 1), (0, 1), value=no_object_weight)
    losses = F.cross_entropy(logits.flatten(0, 2), classes.flatten(), weight, reduction="none").view(classes.shape)
    # The sum of weights is zero without objects if the background has weight zero.
    return losses.sum((1, 2)) / weight[classes].sum((1, 2)).clamp(min=torch.finfo(weight.dtype).tiny)


def matchability_aware_loss(
    logits: Float[Tensor, "*shape class"],
    quality: Float[Tensor, "*shape class"],
    is_positive: Bool[Tensor, "*shape class"],
    gamma: float = 1.5,
) -> Float[Tensor, "*shape class"]:
    """Matchability-aware loss (DEIM, arXiv 2412.04234, eq. 3), not reduced.

    Binary cross-entropy with target IoU^gamma for positives, and weighted by p^gamma for negatives.
    """
    target = quality.clamp(0, 1) ** gamma * is_positive
    weight = torch.where(is_positive, 1.0, logits.detach().sigmoid() ** gamma)
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def edge_distribution_loss(
    logits: Float[Tensor, "*shape 4 bin"],
    start_xyxy: Float[Tensor, "*#shape 4"],
    true_xyxy: Float[Tensor, "*#shape 4"],
    bins: Float[Tensor, " bin"],
) -> Float[Tensor, "*shape"]:
    """Cross-entropy of each edge's distribution with the two bins next to the true edge, summed over edges.

    The closer bin has the larger weight (distribution focal loss, arXiv 2006.04388, eq. 6, with the bins of D-FINE,
    arXiv 2410.13842, eq. 6). Edges beyond the outermost bin are clamped to it.
    """
    size = (start_xyxy[..., 2:] - start_xyxy[..., :2]).clamp(min=1e-6)
    offset = (true_xyxy - start_xyxy) / torch.cat([size, size], dim=-1)
    offset = offset.clamp(bins[0], bins[-1])
    upper = torch.searchsorted(bins, offset.contiguous()).clamp(1, len(bins) - 1)
    share = (offset - bins[upper - 1]) / (bins[upper] - bins[upper - 1])
    log_probability = logits.log_softmax(-1)
    upper = upper.expand(logits.shape[:-1])[..., None]
    low, high = log_probability.gather(-1, upper - 1)[..., 0], log_probability.gather(-1, upper)[..., 0]
    return -((1 - share) * low + share * high).sum(-1)


def _pick_classes(
    values: Float[Tensor, "*shape query class"], labels: Int[Tensor, "*#shape object"]
) -> Float[Tensor, "*shape query object"]:
    index = labels[..., None, :].expand(*values.shape[:-1], labels.shape[-1])
    return values.gather(-1, index)
