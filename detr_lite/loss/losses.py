"""The terms of losses and matching costs, each for itself."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou_and_giou


def box_terms(
    predicted_cxcywh: Float[Tensor, "*#shape 4"], true_cxcywh: Float[Tensor, "*#shape 4"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """L1 distance (summed over the four numbers), 1 - GIoU, and IoU, of boxes that correspond by broadcasting."""
    # A broadcast difference instead of torch.cdist(p=1): faster, and it exists in half precision.
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
    """What focal loss would change if the query took the object's class (Deformable DETR's matching cost)."""
    probability = logits.sigmoid()
    positive = alpha * (1 - probability) ** gamma * -F.logsigmoid(logits)
    negative = (1 - alpha) * probability**gamma * -F.logsigmoid(-logits)
    return _pick_classes(positive - negative, labels)


def no_object_cross_entropy(
    logits: Float[Tensor, "layer batch query class"],
    classes: Int[Tensor, "layer batch query"],
    background_weight: float,
) -> Float[Tensor, " layer"]:
    """Cross-entropy with the last class, background, weighed down; a weighted mean by layer (DETR, section 3.1)."""
    weight = logits.new_ones(logits.shape[-1])
    weight[-1] = background_weight
    each = F.cross_entropy(logits.flatten(0, 2), classes.flatten(), weight, reduction="none").view(classes.shape)
    # Without objects and with a background that weighs nothing, there is nothing to divide by.
    return each.sum((1, 2)) / weight[classes].sum((1, 2)).clamp(min=torch.finfo(weight.dtype).tiny)


def matchability_aware_loss(
    logits: Float[Tensor, "*shape class"],
    quality: Float[Tensor, "*shape class"],
    is_positive: Bool[Tensor, "*shape class"],
    gamma: float = 1.5,
) -> Float[Tensor, "*shape class"]:
    """Classification that learns quality: positives towards IoU^gamma, negatives weighed by p^gamma.

    Matchability-aware loss (DEIM, arXiv 2412.04234, eq. 3). Element by element, not reduced.
    """
    target = quality.clamp(0, 1) ** gamma * is_positive
    weight = torch.where(is_positive, 1.0, logits.detach().sigmoid() ** gamma)
    return weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def edge_distribution_loss(
    logits: Float[Tensor, "*shape 4 step"],
    start_xyxy: Float[Tensor, "*#shape 4"],
    true_xyxy: Float[Tensor, "*#shape 4"],
    steps: Float[Tensor, " step"],
) -> Float[Tensor, "*shape"]:
    """Cross-entropy of each edge's distribution with the two steps around where the true edge lies, summed over edges.

    The nearer step has the larger share (distribution focal loss, arXiv 2006.04388, eq. 6, with the steps of D-FINE,
    arXiv 2410.13842, eq. 6). Edges beyond the last step count as lying there.
    """
    size = (start_xyxy[..., 2:] - start_xyxy[..., :2]).clamp(min=1e-6)
    wanted = (true_xyxy - start_xyxy) / torch.cat([size, size], dim=-1)
    wanted = wanted.clamp(steps[0], steps[-1])
    above = torch.searchsorted(steps, wanted.contiguous()).clamp(1, len(steps) - 1)
    share = (wanted - steps[above - 1]) / (steps[above] - steps[above - 1])
    log_probability = logits.log_softmax(-1)
    above = above.expand(logits.shape[:-1])[..., None]
    low, high = log_probability.gather(-1, above - 1)[..., 0], log_probability.gather(-1, above)[..., 0]
    return -((1 - share) * low + share * high).sum(-1)


def _pick_classes(
    values: Float[Tensor, "*shape query class"], labels: Int[Tensor, "*#shape object"]
) -> Float[Tensor, "*shape query object"]:
    index = labels[..., None, :].expand(*values.shape[:-1], labels.shape[-1])
    return values.gather(-1, index)
