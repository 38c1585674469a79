"""Criteria: from model outputs and targets to the training loss and its parts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.loss.losses import box_losses, edge_distribution_loss, matchability_aware_loss, no_object_cross_entropy
from detr_lite.loss.matcher import Matches, MatchingCost, assign_tokens, match, token_candidates
from detr_lite.loss.targets import PaddedTargets, pad_targets
from detr_lite.structures import DenoisingPredictions, DetrOutput, EdgeDistributions, Target, TokenPredictions


@dataclass(frozen=True)
class Losses:
    """The loss, and its parts by name: one unweighted value for each layer."""

    total: Float[Tensor, ""]
    """Weighted sum of the parts. NaN on every rank if the loss or a matching cost of any rank is not finite."""
    parts: dict[str, Float[Tensor, " layer"]]
    """Of this rank."""
    not_finite: tuple[int, ...] = ()
    """Indices in this rank's batch of the images whose matching costs are not finite."""


Criterion = Callable[[DetrOutput, Sequence[Target]], Losses]


@dataclass(frozen=True)
class DetrCriterion:
    """DETR's loss: class, L1 and GIoU of the matched queries of every layer (section 3.1, appendix A.2).

    Args:
        cost: of matching.
        weights: of the losses "ce", "l1" and "giou".
        no_object_weight: weight of the background class in the cross-entropy.
        num_classes: without the background.
    """

    cost: MatchingCost
    weights: dict[str, float]
    no_object_weight: float
    num_classes: int

    def __call__(self, output: DetrOutput, targets: Sequence[Target]) -> Losses:
        if output.logits.shape[-1] != self.num_classes + 1:
            raise ValueError(
                f"logits have {output.logits.shape[-1]} classes, expected {self.num_classes} and the background last"
            )
        with torch.autocast(output.logits.device.type, enabled=False):
            logits, boxes_cxcywh = output.logits.float(), output.boxes_cxcywh.float()
            padded = pad_targets(targets)
            matches = match(self.cost, logits, boxes_cxcywh, padded)
            classes = torch.full(logits.shape[:3], logits.shape[-1] - 1, device=logits.device)
            classes[matches.layer, matches.image, matches.query] = padded.labels[matches.image, matches.object]
            l1, giou, _ = _matched_box_losses(boxes_cxcywh, matches, padded)
            sums = {
                "ce": no_object_cross_entropy(logits, classes, self.no_object_weight),
                "l1": _sum_by_layer(l1, matches, len(logits)),
                "giou": _sum_by_layer(giou, matches, len(logits)),
            }
            # The cross-entropy is a weighted mean over this rank's queries; scaled by this rank's share of the weights
            # it becomes the mean over the queries of all ranks.
            num_queries = logits.shape[2]
            num_matched = sum(min(count, num_queries) for count in padded.counts)
            num_unmatched = len(padded.counts) * num_queries - num_matched
            ce_weight = _scalar(num_matched + self.no_object_weight * num_unmatched, logits)
            counts = [_scalar(sum(padded.counts), logits), ce_weight]
            reduced, is_broken = _reduce_counts(counts, sums.values(), self.weights, matches.not_finite)
            num_boxes, mean_ce_weight = reduced
            ce_share = ce_weight / mean_ce_weight.clamp(min=torch.finfo(ce_weight.dtype).tiny)
            parts = {
                name: value * ce_share if name == "ce" else value / num_boxes.clamp(1) for name, value in sums.items()
            }
            return _weighted_sum(parts, self.weights, is_broken, matches.not_finite)


def official_criterion(num_classes: int) -> DetrCriterion:
    """The loss of the original DETR with its weights; `output.logits` has num_classes + 1 classes, background last."""
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; a detector has at least one class")
    return DetrCriterion(
        cost=MatchingCost("softmax", class_cost=1.0, l1=5.0, giou=2.0),
        weights={"ce": 1.0, "l1": 5.0, "giou": 2.0},
        no_object_weight=0.1,
        num_classes=num_classes,
    )


@dataclass(frozen=True)
class LiteCriterion:
    """The loss of `lite`: quality-aware classification and box losses of object queries, denoising queries and tokens.

    Args:
        cost: of matching queries one-to-one and of assigning tokens one-to-many.
        weights: of the losses "class", "l1", "giou" and "fdr".
        one_to_many_topk: number of tokens assigned to an object, those with the lowest cost.
        gamma: exponent of the matchability-aware loss (DEIM, arXiv 2412.04234).
    """

    cost: MatchingCost
    weights: dict[str, float]
    one_to_many_topk: int
    gamma: float

    def __call__(self, output: DetrOutput, targets: Sequence[Target]) -> Losses:
        with torch.autocast(output.logits.device.type, enabled=False):
            padded = pad_targets(targets)
            # Sums and their denominators are kept apart, so that one all-reduce serves all losses.
            logits, boxes_cxcywh = output.logits.float(), output.boxes_cxcywh.float()
            matches = match(self.cost, logits, boxes_cxcywh, padded)
            sums = {"": self._query_losses(output, logits, boxes_cxcywh, padded, matches)}
            counts = [_scalar(sum(padded.counts), output.logits)]
            if output.denoising is not None:
                sums["denoising_"] = self._denoising_losses(output.denoising, padded)
                counts.append((output.denoising.is_real & output.denoising.is_near).sum().float())
            if output.tokens is not None:
                sums["token_"], num_assigned = self._token_losses(output.tokens, padded)
                counts.append(num_assigned)
            all_sums = [value for losses in sums.values() for value in losses.values()]
            reduced, is_broken = _reduce_counts(counts, all_sums, self.weights, matches.not_finite)
            parts, weights = {}, {}
            for (prefix, losses), count in zip(sums.items(), reduced, strict=True):
                for name, value in losses.items():
                    parts[prefix + name] = value / count.clamp(min=1)
                    weights[prefix + name] = self.weights[name]
            return _weighted_sum(parts, weights, is_broken, matches.not_finite)

    def _query_losses(
        self, output: DetrOutput, logits: Tensor, boxes_cxcywh: Tensor, targets: PaddedTargets, matches: Matches
    ) -> dict[str, Tensor]:
        l1, giou, iou = _matched_box_losses(boxes_cxcywh, matches, targets)
        quality = torch.zeros_like(logits)
        is_positive = torch.zeros_like(logits, dtype=torch.bool)
        matched = (matches.layer, matches.image, matches.query, targets.labels[matches.image, matches.object])
        quality[matched] = iou.detach()
        is_positive[matched] = torch.ones_like(iou, dtype=torch.bool)  # of a number, a GPU would wait for its copy
        class_loss = matchability_aware_loss(logits, quality, is_positive, self.gamma)
        sums = {
            "class": class_loss.sum((1, 2, 3)),
            "l1": _sum_by_layer(l1, matches, len(logits)),
            "giou": _sum_by_layer(giou, matches, len(logits)),
        }
        edges = output.edges
        if edges is not None:
            first = len(logits) - len(edges.logits)
            # Pairs of earlier layers get weight 0; to select the others would synchronize with the device.
            layer = (matches.layer - first).clamp(min=0)
            edge_loss = edge_distribution_loss(
                edges.logits[layer, matches.image, matches.query].float(),
                edges.start_xyxy[matches.image, matches.query],
                cxcywh_to_xyxy(targets.boxes_cxcywh[matches.image, matches.object]),
                edges.bins,
            )
            # Weighted by IoU (D-FINE, arXiv 2410.13842, section 4.1).
            weight = iou.detach() * (matches.layer >= first)
            sums["fdr"] = edge_loss.new_zeros(len(edges.logits)).index_add(0, layer, weight * edge_loss)
        return sums

    def _denoising_losses(self, denoising: DenoisingPredictions, targets: PaddedTargets) -> dict[str, Tensor]:
        image = torch.arange(len(denoising.objects), device=denoising.objects.device)[:, None]
        return self._assigned_losses(
            denoising.logits.float(),
            denoising.boxes_cxcywh.float(),
            labels=targets.labels[image, denoising.objects],
            true_boxes_cxcywh=targets.boxes_cxcywh[image, denoising.objects],
            is_positive=denoising.is_real & denoising.is_near,
            is_counted=denoising.is_real,
            edges=denoising.edges,
        )

    def _token_losses(self, tokens: TokenPredictions, targets: PaddedTargets) -> tuple[dict[str, Tensor], Tensor]:
        logits, boxes_cxcywh = tokens.logits.float(), tokens.boxes_cxcywh.float()
        with torch.no_grad():
            cost = self.cost(logits, boxes_cxcywh, targets.labels, targets.boxes_cxcywh)
            candidates = token_candidates(tokens.centers, tokens.sizes, tokens.is_padding, targets)
            objects, is_assigned = assign_tokens(cost, candidates, self.one_to_many_topk)
        image = torch.arange(len(objects), device=objects.device)[:, None]
        sums = self._assigned_losses(
            logits[None],
            boxes_cxcywh[None],
            labels=targets.labels[image, objects],
            true_boxes_cxcywh=targets.boxes_cxcywh[image, objects],
            is_positive=is_assigned,
            is_counted=~tokens.is_padding,
        )
        return sums, is_assigned.sum().float()

    def _assigned_losses(
        self,
        logits: Float[Tensor, "layer batch query class"],
        boxes_cxcywh: Float[Tensor, "layer batch query 4"],
        labels: Tensor,
        true_boxes_cxcywh: Tensor,
        is_positive: Tensor,
        is_counted: Tensor,
        edges: EdgeDistributions | None = None,
    ) -> dict[str, Tensor]:
        """Sums over predictions (batch query) whose object is known without matching and that are counted."""
        l1, giou, iou = box_losses(boxes_cxcywh, true_boxes_cxcywh[None])
        is_class = F.one_hot(labels, logits.shape[-1]).bool() & is_positive[..., None]
        quality = iou.detach()[..., None] * is_class
        class_loss = matchability_aware_loss(logits, quality, is_class.expand_as(logits), self.gamma)
        sums = {
            "class": (class_loss * is_counted[..., None]).sum((1, 2, 3)),
            "l1": (l1 * is_positive).sum((1, 2)),
            "giou": (giou * is_positive).sum((1, 2)),
        }
        if edges is not None:
            true_xyxy = cxcywh_to_xyxy(true_boxes_cxcywh)
            edge_loss = edge_distribution_loss(edges.logits.float(), edges.start_xyxy, true_xyxy, edges.bins)
            weight = iou.detach()[-len(edges.logits) :] * is_positive
            sums["fdr"] = (edge_loss * weight).sum((1, 2))
        return sums


def _matched_box_losses(
    boxes_cxcywh: Tensor, matches: Matches, targets: PaddedTargets
) -> tuple[Tensor, Tensor, Tensor]:
    return box_losses(
        boxes_cxcywh[matches.layer, matches.image, matches.query], targets.boxes_cxcywh[matches.image, matches.object]
    )


def _sum_by_layer(values: Float[Tensor, " pair"], matches: Matches, layers: int) -> Float[Tensor, " layer"]:
    return values.new_zeros(layers).index_add(0, matches.layer, values)


def _scalar(value: float | int, like: Tensor) -> Float[Tensor, ""]:
    """A number on the device of `like`; `torch.full`, as copying it would synchronize."""
    return torch.full((), float(value), device=like.device)


def _reduce_counts(
    counts: Sequence[Float[Tensor, ""]],
    sums: Iterable[Float[Tensor, " _"]],
    weights: Mapping[str, float],
    not_finite: tuple[int, ...],
) -> tuple[Float[Tensor, " count"], Bool[Tensor, ""]]:
    """Counts summed over ranks and divided by the world size, as gradients are averaged over ranks.

    The same all-reduce tells every rank whether the loss or a cost of any rank is not finite, so that all stop at the
    same step.
    """
    # At least the weighted sum that follows, so that it cannot overflow on one rank alone.
    bound = torch.cat([value.detach() for value in sums]).sum() * max(1.0, *weights.values())
    is_broken = _scalar(1, bound) if not_finite else (~bound.isfinite()).float()
    reduced = torch.stack([*counts, is_broken])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(reduced)
        reduced = reduced / dist.get_world_size()
    return reduced[:-1], reduced[-1] > 0


def _weighted_sum(
    parts: dict[str, Tensor], weights: Mapping[str, float], is_broken: Bool[Tensor, ""], not_finite: tuple[int, ...]
) -> Losses:
    total = torch.stack([weights[name] * value.sum() for name, value in parts.items()]).sum()
    # Multiplied, so that gradients are NaN as well and a gradient scaler skips the step.
    return Losses(total * torch.where(is_broken, torch.nan, 1.0), parts, not_finite)
