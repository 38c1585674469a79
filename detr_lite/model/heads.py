"""Heads: one class and one box for each query (or token)."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy, xyxy_to_cxcywh
from detr_lite.structures import EdgeDistributions


class MLP(nn.Sequential):
    """Three linear layers to four numbers (DETR, section 3.2); refinement starts at zero, without moving the anchor."""

    def __init__(self, dim: int, start_at_zero: bool = False, outputs: int = 4) -> None:
        last = nn.Linear(dim, outputs)
        super().__init__(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), last)
        if start_at_zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def class_layer(dim: int, classes: int, prior: float = 0.01) -> nn.Linear:
    """Sigmoid scores that start at `prior`, so that the many empty queries do not drown the first steps.

    Focal loss (arXiv 1708.02002, section 4.1).
    """
    layer = nn.Linear(dim, classes)
    nn.init.constant_(layer.bias, -math.log((1 - prior) / prior))
    return layer


@contextlib.contextmanager
def single_precision(values: Float[Tensor, "*shape"]) -> Iterator[Float[Tensor, "*shape"]]:
    """The values in 32 bits, and computing in them, also under autocast.

    bfloat16 has 8 bits: scores would come in coarse steps, with many ties among the best, and boxes in whole pixels.
    """
    with torch.autocast(values.device.type, enabled=False):
        yield values.float()


def inverse_sigmoid(values: Float[Tensor, "*shape"], eps: float = 1e-4) -> Float[Tensor, "*shape"]:
    """Logits of values in 0..1; beyond `eps` of the ends they are held, to stay finite also in half precision."""
    return torch.logit(values.float().clamp(eps, 1 - eps))


@dataclass(frozen=True)
class HeadOutput:
    """What the heads say of each query after a layer."""

    logits: Float[Tensor, "batch query class"]
    boxes_cxcywh: Float[Tensor, "batch query 4"]
    edges: EdgeDistributions | None = None
    """Of this layer alone; none of the first, which only says where they start."""


class DetrHeads(nn.Module):
    """The original's: one class layer (background last) and one box network, the same for every decoder layer."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.label = nn.Linear(dim, classes + 1)
        self.box = MLP(dim)

    def forward(self, states: Float[Tensor, "batch query dim"]) -> HeadOutput:
        with single_precision(states) as states:
            return HeadOutput(self.label(states), self.box(states).sigmoid())


class RefinementHeads(nn.Module):
    """For each decoder layer a class layer, and a box network that moves the boxes of the layer before.

    Iterative box refinement (Deformable DETR, arXiv 2010.04159, appendix A.4).
    """

    def __init__(self, dim: int, classes: int, layers: int) -> None:
        super().__init__()
        self.label = nn.ModuleList(class_layer(dim, classes) for _ in range(layers))
        self.box = nn.ModuleList(MLP(dim, start_at_zero=True) for _ in range(layers))

    def forward(
        self,
        layer: int,
        states: Float[Tensor, "batch query dim"],
        anchors_cxcywh: Float[Tensor, "batch query 4"],
        before: HeadOutput | None,
    ) -> HeadOutput:
        """`anchors_cxcywh` is where the boxes are, as plain numbers; `before` is the answer of the layer before."""
        with single_precision(states) as states:
            boxes_cxcywh = (self.box[layer](states) + inverse_sigmoid(anchors_cxcywh)).sigmoid()
            return HeadOutput(self.label[layer](states), boxes_cxcywh)


class FDRHeads(nn.Module):
    """The first layer moves boxes as `RefinementHeads` do; the others refine, edge by edge, a distribution of steps.

    Each layer adds to the logits of the one before, and an edge moves by the distribution's mean, in sizes of the box
    after the first layer (fine-grained distribution refinement, D-FINE, arXiv 2410.13842, eq. 2 and 3).
    """

    steps: Tensor

    def __init__(self, dim: int, classes: int, layers: int, count: int = 33) -> None:
        super().__init__()
        self.label = nn.ModuleList(class_layer(dim, classes) for _ in range(layers))
        self.box = MLP(dim, start_at_zero=True)
        self.edges = nn.ModuleList(MLP(dim, start_at_zero=True, outputs=4 * count) for _ in range(layers - 1))
        self.register_buffer("steps", fdr_bins(count), persistent=False)

    def forward(
        self,
        layer: int,
        states: Float[Tensor, "batch query dim"],
        anchors_cxcywh: Float[Tensor, "batch query 4"],
        before: HeadOutput | None,
    ) -> HeadOutput:
        with single_precision(states) as states:
            logits = self.label[layer](states)
            if before is None:
                boxes_cxcywh = (self.box(states) + inverse_sigmoid(anchors_cxcywh)).sigmoid()
                none_yet = logits.new_zeros(0, *logits.shape[:2], 4, len(self.steps))
                start_xyxy = cxcywh_to_xyxy(boxes_cxcywh.detach())
                return HeadOutput(logits, boxes_cxcywh, EdgeDistributions(none_yet, start_xyxy, self.steps))
            assert before.edges is not None
            edge_logits = self.edges[layer - 1](states).unflatten(-1, (4, -1))
            edges = replace(before.edges, logits=edge_logits[None] + before.edges.logits.sum(0))
            moves = edges.logits[0].softmax(-1) @ self.steps
        size = edges.start_xyxy[..., 2:] - edges.start_xyxy[..., :2]
        boxes_cxcywh = xyxy_to_cxcywh(edges.start_xyxy + moves * size.repeat(1, 1, 2))
        # An edge may pass its opposite; a size below zero would be no box.
        boxes_cxcywh = torch.cat([boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:].clamp(min=1e-4)], dim=-1)
        return HeadOutput(logits, boxes_cxcywh, edges)


def fdr_bins(count: int, reach: float = 0.5, curvature: float = 0.25) -> Float[Tensor, " step"]:
    """Steps of an edge in box sizes, from -2 reach to 2 reach: small ones near zero, and one far out at each end.

    D-FINE, eq. 4. `count` is odd, so that the middle one is zero.
    """
    half = (count - 1) // 2
    growth = (reach / curvature + 1) ** (1 / (half - 1))
    positive = [curvature * (growth**step - 1) for step in range(half)]
    positive.append(2 * reach)
    return torch.tensor([-step for step in positive[:0:-1]] + positive)
