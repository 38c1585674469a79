"""Matching of queries to objects one-to-one, and assignment of tokens to objects one-to-many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detr_lite.loss.losses import box_losses, focal_cost, softmax_cost
from detr_lite.loss.targets import PaddedTargets

MAX_COST = float(np.finfo(np.float32).max)
"""Replaces costs that are not finite, which `linear_sum_assignment` rejects."""


@dataclass(frozen=True)
class Matches:
    """Matched pairs of queries and objects in all layers and images, as index tensors."""

    layer: Int[Tensor, " pair"]
    image: Int[Tensor, " pair"]
    query: Int[Tensor, " pair"]
    object: Int[Tensor, " pair"]
    not_finite: tuple[int, ...] = ()
    """Indices of the images with a cost that is not finite, known without synchronizing with the device."""


@dataclass(frozen=True)
class MatchingCost:
    """Weighted sum of class, L1 and GIoU costs (DETR, eq. 1 and appendix A.2)."""

    activation: Literal["softmax", "sigmoid"]
    class_cost: float
    l1: float
    giou: float

    def __call__(
        self,
        logits: Float[Tensor, "*shape query class"],
        boxes_cxcywh: Float[Tensor, "*shape query 4"],
        true_labels: Int[Tensor, "*#shape object"],
        true_boxes_cxcywh: Float[Tensor, "*#shape object 4"],
    ) -> Float[Tensor, "*shape query object"]:
        compute_class_cost = softmax_cost if self.activation == "softmax" else focal_cost
        l1, one_minus_giou, _ = box_losses(boxes_cxcywh[..., :, None, :], true_boxes_cxcywh[..., None, :, :])
        return self.class_cost * compute_class_cost(logits, true_labels) + self.l1 * l1 + self.giou * one_minus_giou


@torch.no_grad()
def match(
    cost: MatchingCost,
    logits: Float[Tensor, "layer batch query class"],
    boxes_cxcywh: Float[Tensor, "layer batch query 4"],
    targets: PaddedTargets,
) -> Matches:
    """The one-to-one assignment of lowest cost for each layer and image (DETR, eq. 1).

    With more objects than queries some objects are not matched. The costs of all layers and images are copied to the
    host at once. Images with costs that are not finite, as of a model that diverged, are listed in `not_finite` instead
    of raising an error, as one rank must not stop while the others wait for it.
    """
    costs = cost(logits, boxes_cxcywh, targets.labels[None], targets.boxes_cxcywh[None])
    return assign_one_to_one(costs, targets.counts)


@torch.no_grad()
def assign_one_to_one(costs: Float[Tensor, "layer batch query object"], counts: Sequence[int]) -> Matches:
    """The assignment of lowest cost, as `match`, of costs of any kind.

    Args:
        counts: objects of each image; the costs of those beyond are ignored.
    """
    device = costs.device
    on_host = costs.float().cpu().numpy()
    pairs: list[np.ndarray] = []
    not_finite: set[int] = set()
    for layer, layer_costs in enumerate(on_host):
        for image, count in enumerate(counts):
            image_costs = layer_costs[image, :, :count]
            is_finite = np.isfinite(image_costs)
            if not is_finite.all():
                not_finite.add(image)
                image_costs = np.where(is_finite, image_costs, MAX_COST)
            query, true_object = linear_sum_assignment(image_costs)
            pairs.append(np.stack([np.full_like(query, layer), np.full_like(query, image), query, true_object]))
    index = torch.from_numpy(np.concatenate(pairs, axis=1))
    if device.type == "cuda":  # of memory that is not pinned the copy would not be asynchronous
        index = index.pin_memory()
    index = index.to(device, non_blocking=True)
    return Matches(index[0], index[1], index[2], index[3], tuple(sorted(not_finite)))


@torch.no_grad()
def assign_tokens(
    cost: Float[Tensor, "batch token object"], is_candidate: Bool[Tensor, "batch token object"], per_object: int
) -> tuple[Int[Tensor, "batch token"], Bool[Tensor, "batch token"]]:
    """Assign to each object its `per_object` candidates of lowest cost, and a token to its cheapest object alone.

    Returns each token's object, and whether it has one.
    """
    candidate_cost = cost.masked_fill(~is_candidate, torch.inf)
    cheapest = candidate_cost.topk(min(per_object, cost.shape[1]), dim=1, largest=False).indices
    is_chosen = torch.zeros_like(is_candidate).scatter(1, cheapest, True) & is_candidate
    best = candidate_cost.masked_fill(~is_chosen, torch.inf).min(dim=2)
    return best.indices, is_chosen.any(dim=2)


def token_candidates(
    centers: Float[Tensor, "batch token 2"],
    sizes: Float[Tensor, "batch token 2"],
    is_padding: Bool[Tensor, "batch token"],
    targets: PaddedTargets,
) -> Bool[Tensor, "batch token object"]:
    """Tokens whose center lies in an object's box, or whose patch contains the center of a box smaller than a patch."""
    distance = (centers[:, :, None] - targets.boxes_cxcywh[:, None, :, :2]).abs()
    reach = torch.maximum(targets.boxes_cxcywh[:, None, :, 2:], sizes[:, :, None]) / 2
    return (distance <= reach).all(-1) & targets.is_real[:, None] & ~is_padding[..., None]
