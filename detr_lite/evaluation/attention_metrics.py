"""How well cross-attention agrees with objects: metrics per decoder layer and head, of queries matched to an object.

A token's weight is spread evenly over the patch of the image that the token covers, so a patch that lies partly in a
box counts with that part of its weight. Each share of the attention can therefore be compared with the share of the
image's area that the same region covers, which is what uniform attention would have there.

Deformable attention loses the weight of points outside the grid. It counts as outside of every box and as one more
place where queries can be alike; entropy is that of the weight that remains.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.structures import AttentionMaps

BAND = 0.25
"""Width of the band around a box's edges, as a share of the box's width (left and right edge) or height (top and
bottom). Half of the band lies inside the box, half outside."""

_CHUNK, _CHUNK_WEIGHTS = 16, 1 << 22
"""Most matched pairs that are processed together, and most of their attention weights, of which there are some ten
copies at a time: 170 MB."""


@dataclass(frozen=True)
class AttentionMetrics:
    """Means over all matched objects. Along the last axis come the heads, then the attention averaged over heads.

    Without objects, `objects` is 0 and all means are NaN.
    """

    objects: int
    box_area: float
    """Share of the image's area that the ground-truth box covers."""
    edges_area: float
    """Share of the image's area that the band around the box's edges covers."""
    even_entropy: float
    """Entropy of uniform attention, in nats."""
    inside: Float[Tensor, "layer head_and_mean"]
    """Share of the attention that lies inside the ground-truth box."""
    pointing: Float[Tensor, "layer head_and_mean"]
    """How often the peak of the attention lies inside the ground-truth box: the pointing game (Zhang et al., "Top-down
    Neural Attention by Excitation Backprop", arXiv 1608.00507), here per object and without their tolerance of 15
    pixels. A random peak would be inside with a probability of `box_area`."""
    entropy: Float[Tensor, "layer head_and_mean"]
    """-sum w ln w over tokens, in nats: 0 if all attention is on one token. Of deformable attention w is divided by the
    weight that did not fall outside."""
    entropy_share: Float[Tensor, "layer head_and_mean"]
    """`entropy` divided by that of uniform attention over the image's unpadded tokens."""
    near_edges: Float[Tensor, "layer head_and_mean"]
    """Share of the attention in the band around the box's edges, which contains the object's four extreme points:
    DETR's decoder "mostly attends to object extremities" (arXiv 2005.12872, section 4.2)."""
    apart: Float[Tensor, " layer"]
    """How different an image's queries are in where they attend: the mean total variation distance between a query's
    attention, averaged over heads, and the mean over all queries; the median over images. 0 if all queries attend
    alike, close to 1 if no two share a token, 1 if there is only one query."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; None instead of NaN."""
        rows = {name: getattr(self, name) for name in MEASURES}

        def of(layer: int, head: int) -> dict[str, float | None]:
            return {name: _finite(values[layer, head].item()) for name, values in rows.items()}

        layers, heads = self.inside.shape
        return {
            "objects": self.objects,
            **{name: _finite(getattr(self, name)) for name in ("box_area", "edges_area", "even_entropy")},
            "layers": [
                {
                    "layer": layer,
                    "queries_apart": _finite(self.apart[layer].item()),
                    "mean_of_heads": of(layer, heads - 1),
                    "heads": [of(layer, head) for head in range(heads - 1)],
                }
                for layer in range(layers)
            ],
        }

    def table(self) -> str:
        """One line per layer, of the attention averaged over heads, and a last line for uniform attention."""
        lines = ["layer  inside the box  peak inside      entropy  near its edges  queries apart"]
        for layer, apart in enumerate(self.apart.tolist()):
            values = {name: getattr(self, name)[layer, -1].item() for name in MEASURES}
            lines.append(
                f"{layer:>5}  {values['inside']:>14.1%}  {values['pointing']:>11.1%}"
                f"  {values['entropy']:>4.2f} ({values['entropy_share']:>4.0%})  {values['near_edges']:>14.1%}"
                f"  {apart:>13.1%}"
            )
        even = f"{self.even_entropy:>4.2f} (100%)"
        return "\n".join(
            [*lines, f" even  {self.box_area:>14.1%}  {self.box_area:>11.1%}  {even}  {self.edges_area:>14.1%}"]
        )

    def sentence(self) -> str:
        """The main result in words."""
        return (
            f"in the last layer {self.inside[-1, -1]:.1%} of the attention lies inside the true box, which covers "
            f"{self.box_area:.1%} of the image"
        )


MEASURES = ("inside", "pointing", "entropy", "entropy_share", "near_edges")
"""The metrics that each layer and head has."""


class AttentionMeter:
    """Accumulates `AttentionMetrics` batch by batch; keeps no attention weights."""

    def __init__(self) -> None:
        self._objects = 0
        self._areas = torch.zeros(3, dtype=torch.float64)
        self._sums: Tensor | None = None
        self._apart: list[Tensor] = []

    def update(
        self,
        maps: AttentionMaps,
        image: Int[Tensor, " pair"],
        query: Int[Tensor, " pair"],
        boxes_cxcywh: Float[Tensor, "pair 4"],
    ) -> None:
        """Add the matched pairs of query and object of a batch.

        Args:
            image: index in the batch.
            query: index in `maps`.
            boxes_cxcywh: the ground-truth boxes, relative to the unpadded image.
        """
        layers, _, heads = maps.cross.shape[:3]
        if self._sums is None:
            self._sums = torch.zeros(len(MEASURES), layers, heads + 1, dtype=torch.float64)
        self._apart += list(_apart(maps).T.cpu())
        patches_xyxy = token_patches(maps)
        chunk = max(1, min(_CHUNK, _CHUNK_WEIGHTS // max(1, layers * heads * maps.cross.shape[-1])))
        for pairs in torch.split(torch.arange(len(query), device=query.device), chunk):
            of_image, box_cxcywh = image[pairs], boxes_cxcywh[pairs].float()
            each = maps.rows_of(of_image, query[pairs]).float()  # pair layer head token
            weights = torch.cat([each, each.mean(dim=2, keepdim=True)], dim=2)
            patch_xyxy = patches_xyxy[of_image]
            tokens = (~maps.is_padding[of_image]).sum(1)
            box_xyxy = cxcywh_to_xyxy(box_cxcywh)
            inner, outer = (cxcywh_to_xyxy(box_cxcywh * _scaled(1 + sign * BAND, box_cxcywh)) for sign in (-1, 1))

            in_band = covered_share(patch_xyxy, outer) - covered_share(patch_xyxy, inner)
            entropy = _entropy(weights, is_whole=maps.sampled is None)
            even = tokens.clamp(min=1).log()[:, None, None]
            peak_x, peak_y = peaks(weights, maps, of_image, patch_xyxy).unbind(-1)
            left, top, right, bottom = box_xyxy[:, None, None].unbind(-1)
            is_inside = (left <= peak_x) & (peak_x <= right) & (top <= peak_y) & (peak_y <= bottom)
            measured = (
                torch.einsum("plht,pt->plh", weights, covered_share(patch_xyxy, box_xyxy)),
                is_inside,
                entropy,
                entropy / even.clamp(min=1e-12),
                torch.einsum("plht,pt->plh", weights, in_band),
            )
            self._sums += torch.stack([values.double().sum(0) for values in measured]).cpu()
            areas = (_area(box_xyxy), _area(outer) - _area(inner), even.flatten())
            self._areas += torch.stack([values.double().sum() for values in areas]).cpu()
        self._objects += len(query)

    def compute(self) -> AttentionMetrics:
        """The means over all objects so far."""
        sums = torch.zeros(len(MEASURES), 0, 1) if self._sums is None else self._sums
        measured = dict(zip(MEASURES, sums / self._objects, strict=True))  # of tensors, 0 / 0 is NaN
        box_area, edges_area, even_entropy = (self._areas / self._objects).tolist()
        apart = torch.stack(self._apart).median(dim=0).values if self._apart else torch.zeros(0)
        return AttentionMetrics(self._objects, box_area, edges_area, even_entropy, apart=apart, **measured)


def token_patches(maps: AttentionMaps) -> Float[Tensor, "batch token 4"]:
    """The patch that each token covers, as (left, top, right, bottom) relative to the unpadded image, clipped to it.

    A patch beyond the image has no area. The original DETR's interpolated padding mask can leave such a token unpadded;
    its weight counts as outside of every box.
    """
    levels = []
    for level, (height, width) in enumerate(maps.grids):
        span = maps.spans[:, level].clamp(min=1e-12)
        device = span.device
        x = (torch.arange(width + 1, device=device) / span[:, :1]).clamp(max=1)[:, None]
        y = (torch.arange(height + 1, device=device) / span[:, 1:]).clamp(max=1)[..., None]
        shape = (len(span), height, width)
        sides = (x[..., :-1], y[:, :-1], x[..., 1:], y[:, 1:])
        levels.append(torch.stack([side.expand(shape) for side in sides], dim=-1).flatten(1, 2))
    return torch.cat(levels, dim=1)


def covered_share(
    patches_xyxy: Float[Tensor, "pair token 4"], boxes_xyxy: Float[Tensor, "pair 4"]
) -> Float[Tensor, "pair token"]:
    """The share of each patch that a box covers; 0 for a patch without area."""
    low = torch.maximum(patches_xyxy[..., :2], boxes_xyxy[:, None, :2])
    high = torch.minimum(patches_xyxy[..., 2:], boxes_xyxy[:, None, 2:])
    size = patches_xyxy[..., 2:] - patches_xyxy[..., :2]
    # Divided per side, because the product of two tiny sides underflows to 0.
    return ((high - low).clamp(min=0) / size.clamp(min=1e-12)).prod(-1)


def peaks(
    weights: Float[Tensor, "pair layer head token"],
    maps: AttentionMaps,
    image: Int[Tensor, " pair"],
    patches_xyxy: Float[Tensor, "pair token 4"],
) -> Float[Tensor, "pair layer head 2"]:
    """(x, y) of the most attention per area, summed over levels, relative to the unpadded image.

    It is the center of a patch of the finest level; the first one of several equal maxima.
    """
    areas = (patches_xyxy[..., 2:] - patches_xyxy[..., :2]).prod(-1)
    density = torch.where(areas > 0, 1 / areas.clamp(min=1e-12), 0.0)[:, None, None] * weights
    sizes = [height * width for height, width in maps.grids]
    finest = max(range(len(sizes)), key=sizes.__getitem__)
    fine_xyxy = torch.split(patches_xyxy, sizes, dim=1)[finest]
    center = (fine_xyxy[..., :2] + fine_xyxy[..., 2:]) / 2
    by_level = torch.split(density, sizes, dim=-1)
    heat = torch.zeros_like(by_level[finest])
    for level, (share, (height, width)) in enumerate(zip(by_level, maps.grids, strict=True)):
        column, row = (center * maps.spans[image, level][:, None]).long().unbind(-1)
        cell = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
        heat = heat + share.gather(-1, cell[:, None, None].expand_as(heat))
    best = heat.argmax(-1)
    peak: Tensor = center[torch.arange(len(best), device=best.device)[:, None, None], best]
    return peak


def _apart(maps: AttentionMaps) -> Float[Tensor, "layer batch"]:
    queries = maps.cross.shape[3]
    if queries < 2:
        return torch.ones(maps.cross.shape[:2])
    by_layer = []
    for layer in range(len(maps.cross)):  # one by one: a float copy of all layers would double the memory
        rows = maps.mean_rows(layer)
        distance = (rows - rows.mean(dim=1, keepdim=True)).abs().sum(-1)
        if maps.sampled is not None:
            outside = maps.sampled.outside[layer].float().mean(dim=1)
            distance = distance + (outside - outside.mean(dim=1, keepdim=True)).abs()
        by_layer.append(distance.mean(-1) / 2)
    return torch.stack(by_layer)


def _entropy(weights: Float[Tensor, "*row token"], is_whole: bool) -> Float[Tensor, "*row"]:
    """In nats; rows that are not whole are divided by their sums, and a row of zeros has 0."""
    entropy: Tensor = torch.special.entr(weights).sum(-1)
    if is_whole:
        return entropy
    total = weights.sum(-1)
    # Of w / total, from that of w, without another copy of the weights.
    return torch.where(total > 0, entropy / total.clamp(min=1e-12) + total.clamp(min=1e-12).log(), 0.0).clamp(min=0)


def _scaled(factor: float, like: Tensor) -> Tensor:
    """Factors that scale a (cx, cy, width, height) box about its center."""
    return like.new_tensor([1, 1, factor, factor])


def _area(boxes_xyxy: Float[Tensor, "pair 4"]) -> Float[Tensor, " pair"]:
    """Of the part inside the image."""
    inside = boxes_xyxy.clamp(0, 1)
    return (inside[:, 2:] - inside[:, :2]).prod(-1)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
