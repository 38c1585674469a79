"""From outputs and targets to one number to learn from, and its parts to look at."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.loss.losses import box_terms, edge_distribution_loss, matchability_aware_loss, no_object_cross_entropy
from detr_lite.loss.matcher import Matches, MatchingCost, assign_tokens, match, token_candidates
from detr_lite.loss.targets import PaddedTargets, pad_targets
from detr_lite.structures import DenoisingPredictions, DetrOutput, EdgeDistributions, Target, TokenPredictions


@dataclass(frozen=True)
class Losses:
    """The weighted sum, and its parts: for each name one unweighted value for each layer."""

    total: Float[Tensor, ""]
    """NaN on every rank, and its gradients with it, as soon as the loss or a cost of any rank is not finite."""
    parts: dict[str, Float[Tensor, " layer"]]
    """This rank's own, whatever the others have."""
    not_finite: tuple[int, ...] = ()
    """Places in the batch of this rank's images whose matching costs are not finite."""


Criterion = Callable[[DetrOutput, Sequence[Target]], Losses]


@dataclass(frozen=True)
class DetrCriterion:
    """The original's loss: every layer is matched and learns class, L1 and GIoU (DETR, section 3.1, appendix A.2)."""

    cost: MatchingCost
    weights: dict[str, float]
    background_weight: float
    num_classes: int

    def __call__(self, output: DetrOutput, targets: Sequence[Target]) -> Losses:
        if output.logits.shape[-1] != self.num_classes + 1:
            raise ValueError(
                f"{output.logits.shape[-1]} logits do not fit {self.num_classes} classes and, last, the background"
            )
        with torch.autocast(output.logits.device.type, enabled=False):
            logits, boxes_cxcywh = output.logits.float(), output.boxes_cxcywh.float()
            true = pad_targets(targets)
            matches = match(self.cost, logits, boxes_cxcywh, true)
            classes = torch.full(logits.shape[:3], logits.shape[-1] - 1, device=logits.device)
            classes[matches.layer, matches.image, matches.query] = true.labels[matches.image, matches.object]
            l1, giou, _ = _matched_boxes(boxes_cxcywh, matches, true)
            sums = {
                "ce": no_object_cross_entropy(logits, classes, self.background_weight),
                "l1": _sum_by_layer(l1, matches, len(logits)),
                "giou": _sum_by_layer(giou, matches, len(logits)),
            }
            # Cross-entropy is a mean already, over this rank's queries by the weights of their classes. Made a share
            # of all ranks' weights, it becomes the mean over their queries, too.
            queries = logits.shape[2]
            pairs = sum(min(count, queries) for count in true.counts)
            weight = _filled(pairs + self.background_weight * (len(true.counts) * queries - pairs), logits)
            counts = [_filled(sum(true.counts), logits), weight]
            (count, mean_weight), is_broken = _over_ranks(counts, sums.values(), self.weights, matches.not_finite)
            share = weight / mean_weight.clamp(min=torch.finfo(weight.dtype).tiny)
            parts = {name: value * share if name == "ce" else value / count.clamp(1) for name, value in sums.items()}
            return _weigh(parts, self.weights, is_broken, matches.not_finite)


def official_criterion(num_classes: int) -> DetrCriterion:
    """The loss of the published DETR with its weights; `output.logits` has num_classes + 1 classes, background last."""
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; a detector has at least one class")
    return DetrCriterion(
        cost=MatchingCost("softmax", label=1.0, l1=5.0, giou=2.0),
        weights={"ce": 1.0, "l1": 5.0, "giou": 2.0},
        background_weight=0.1,
        num_classes=num_classes,
    )


@dataclass(frozen=True)
class LiteCriterion:
    """The loss of `lite`: sigmoid classes that learn IoU, on matched queries, denoising queries and tokens.

    Args:
        cost: of matching queries one-to-one, and of choosing tokens one-to-many.
        weights: of class, l1 and giou.
        one_to_many_topk: how many of the cheapest tokens in an object's box answer for it.
        gamma: positives learn IoU^gamma, negatives are weighed by p^gamma (DEIM).
    """

    cost: MatchingCost
    weights: dict[str, float]
    one_to_many_topk: int
    gamma: float

    def __call__(self, output: DetrOutput, targets: Sequence[Target]) -> Losses:
        with torch.autocast(output.logits.device.type, enabled=False):
            true = pad_targets(targets)
            # Sums first and their denominators beside them, so that all ranks add up theirs in one exchange.
            logits, boxes_cxcywh = output.logits.float(), output.boxes_cxcywh.float()
            matches = match(self.cost, logits, boxes_cxcywh, true)
            sums = {"": self._queries(output, logits, boxes_cxcywh, true, matches)}
            counts = [_filled(sum(true.counts), output.logits)]
            if output.denoising is not None:
                sums["denoising_"] = self._denoising(output.denoising, true)
                counts.append((output.denoising.is_real & output.denoising.is_near).sum().float())
            if output.tokens is not None:
                sums["token_"], assigned = self._tokens(output.tokens, true)
                counts.append(assigned)
            all_sums = [value for terms in sums.values() for value in terms.values()]
            counts_everywhere, is_broken = _over_ranks(counts, all_sums, self.weights, matches.not_finite)
            parts, weights = {}, {}
            for (prefix, terms), count in zip(sums.items(), counts_everywhere, strict=True):
                for name, value in terms.items():
                    parts[prefix + name] = value / count.clamp(min=1)
                    weights[prefix + name] = self.weights[name]
            return _weigh(parts, weights, is_broken, matches.not_finite)

    def _queries(
        self, output: DetrOutput, logits: Tensor, boxes_cxcywh: Tensor, true: PaddedTargets, matches: Matches
    ) -> dict[str, Tensor]:
        l1, giou, iou = _matched_boxes(boxes_cxcywh, matches, true)
        quality = torch.zeros_like(logits)
        is_positive = torch.zeros_like(logits, dtype=torch.bool)
        where = (matches.layer, matches.image, matches.query, true.labels[matches.image, matches.object])
        quality[where] = iou.detach()
        is_positive[where] = True
        each = matchability_aware_loss(logits, quality, is_positive, self.gamma)
        sums = {
            "class": each.sum((1, 2, 3)),
            "l1": _sum_by_layer(l1, matches, len(logits)),
            "giou": _sum_by_layer(giou, matches, len(logits)),
        }
        edges = output.edges
        if edges is not None:
            first = len(logits) - len(edges.logits)
            # Pairs of earlier layers count nothing: to leave them out would wait for the device to tell how many.
            layer = (matches.layer - first).clamp(min=0)
            each_edge = edge_distribution_loss(
                edges.logits[layer, matches.image, matches.query].float(),
                edges.start_xyxy[matches.image, matches.query],
                cxcywh_to_xyxy(true.boxes_cxcywh[matches.image, matches.object]),
                edges.steps,
            )
            # The better the box, the more its edges count (D-FINE, section 4.1).
            weight = iou.detach() * (matches.layer >= first)
            sums["fdr"] = each_edge.new_zeros(len(edges.logits)).index_add(0, layer, weight * each_edge)
        return sums

    def _denoising(self, noisy: DenoisingPredictions, true: PaddedTargets) -> dict[str, Tensor]:
        image = torch.arange(len(noisy.objects), device=noisy.objects.device)[:, None]
        return self._known(
            noisy.logits.float(),
            noisy.boxes_cxcywh.float(),
            labels=true.labels[image, noisy.objects],
            true_boxes_cxcywh=true.boxes_cxcywh[image, noisy.objects],
            is_positive=noisy.is_real & noisy.is_near,
            counts=noisy.is_real,
            edges=noisy.edges,
        )

    def _tokens(self, tokens: TokenPredictions, true: PaddedTargets) -> tuple[dict[str, Tensor], Tensor]:
        logits, boxes_cxcywh = tokens.logits.float(), tokens.boxes_cxcywh.float()
        with torch.no_grad():
            cost = self.cost(logits, boxes_cxcywh, true.labels, true.boxes_cxcywh)
            candidates = token_candidates(tokens.centers, tokens.sizes, tokens.is_padding, true)
            objects, is_assigned = assign_tokens(cost, candidates, self.one_to_many_topk)
        image = torch.arange(len(objects), device=objects.device)[:, None]
        terms = self._known(
            logits[None],
            boxes_cxcywh[None],
            labels=true.labels[image, objects],
            true_boxes_cxcywh=true.boxes_cxcywh[image, objects],
            is_positive=is_assigned,
            counts=~tokens.is_padding,
        )
        return terms, is_assigned.sum().float()

    def _known(
        self,
        logits: Float[Tensor, "layer batch query class"],
        boxes_cxcywh: Float[Tensor, "layer batch query 4"],
        labels: Tensor,
        true_boxes_cxcywh: Tensor,
        is_positive: Tensor,
        counts: Tensor,
        edges: EdgeDistributions | None = None,
    ) -> dict[str, Tensor]:
        """Sums for answers (batch query) whose object is known without matching; `counts` False leaves one out."""
        l1, giou, iou = box_terms(boxes_cxcywh, true_boxes_cxcywh[None])
        of_class = F.one_hot(labels, logits.shape[-1]).bool() & is_positive[..., None]
        quality = iou.detach()[..., None] * of_class
        each = matchability_aware_loss(logits, quality, of_class.expand_as(logits), self.gamma)
        sums = {
            "class": (each * counts[..., None]).sum((1, 2, 3)),
            "l1": (l1 * is_positive).sum((1, 2)),
            "giou": (giou * is_positive).sum((1, 2)),
        }
        if edges is not None:
            true_xyxy = cxcywh_to_xyxy(true_boxes_cxcywh)
            each_edge = edge_distribution_loss(edges.logits.float(), edges.start_xyxy, true_xyxy, edges.steps)
            weight = iou.detach()[-len(edges.logits) :] * is_positive
            sums["fdr"] = (each_edge * weight).sum((1, 2))
        return sums


def _matched_boxes(boxes_cxcywh: Tensor, matches: Matches, true: PaddedTargets) -> tuple[Tensor, Tensor, Tensor]:
    return box_terms(
        boxes_cxcywh[matches.layer, matches.image, matches.query], true.boxes_cxcywh[matches.image, matches.object]
    )


def _sum_by_layer(values: Float[Tensor, " pair"], matches: Matches, layers: int) -> Float[Tensor, " layer"]:
    return values.new_zeros(layers).index_add(0, matches.layer, values)


def _filled(count: float | int, like: Tensor) -> Float[Tensor, ""]:
    """A number on the device. Filled there: to copy it would wait for the device."""
    return torch.full((), float(count), device=like.device)


def _over_ranks(
    counts: Sequence[Float[Tensor, ""]],
    sums: Iterable[Float[Tensor, " _"]],
    weights: Mapping[str, float],
    not_finite: tuple[int, ...],
) -> tuple[Float[Tensor, " count"], Bool[Tensor, ""]]:
    """Counts of all ranks divided by the world size, as gradients are averaged over ranks afterwards.

    Whether anything of any rank is not finite is told in the same exchange, so that all ranks know of it in the same
    step, and nobody waits for one that has stopped.
    """
    # Not less than the weighted sum that follows, so that no rank finds its own infinite and has not told.
    bound = torch.cat([value.detach() for value in sums]).sum() * max(1.0, *weights.values())
    is_broken = _filled(1, bound) if not_finite else (~bound.isfinite()).float()
    told = torch.stack([*counts, is_broken])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(told)
        told = told / dist.get_world_size()
    return told[:-1], told[-1] > 0


def _weigh(
    parts: dict[str, Tensor], weights: Mapping[str, float], is_broken: Bool[Tensor, ""], not_finite: tuple[int, ...]
) -> Losses:
    total = torch.stack([weights[name] * value.sum() for name, value in parts.items()]).sum()
    # A factor, so that gradients become NaN too: a gradient scaler, which looks at them alone, skips the step as well.
    return Losses(total * torch.where(is_broken, torch.nan, 1.0), parts, not_finite)
