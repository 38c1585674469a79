"""Heads: one class and one box for each query (or token)."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy, xyxy_to_cxcywh
from detr_lite.model.onednn import Linear
from detr_lite.structures import EdgeDistributions

BOX_EPS = 1e-4
"""Box coordinates are clamped to this distance from 0 and 1 before `torch.logit`, which is infinite there."""


class MLP(nn.Sequential):
    """Three linear layers, as DETR's box head (section 3.2); with `start_at_zero` boxes start at their anchors."""

    def __init__(self, dim: int, start_at_zero: bool = False, outputs: int = 4) -> None:
        last = Linear(dim, outputs)
        super().__init__(Linear(dim, dim), nn.ReLU(), Linear(dim, dim), nn.ReLU(), last)
        if start_at_zero:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def class_layer(dim: int, classes: int, prior: float = 0.01) -> nn.Linear:
    """Class logits whose initial sigmoid is `prior`, so that background does not dominate the loss of the first steps.

    Focal loss (arXiv 1708.02002, section 4.1).
    """
    layer = Linear(dim, classes)
    nn.init.constant_(layer.bias, -math.log((1 - prior) / prior))
    return layer


@contextlib.contextmanager
def single_precision(values: Float[Tensor, "*shape"]) -> Iterator[Float[Tensor, "*shape"]]:
    """The values in float32, with autocast disabled in the block.

    bfloat16 has 8 significant bits: many of the highest scores would be equal, and boxes rounded to whole pixels.
    """
    with torch.autocast(values.device.type, enabled=False):
        yield values.float()


@dataclass(frozen=True)
class HeadOutput:
    """Predictions of one decoder layer."""

    logits: Float[Tensor, "batch query class"]
    boxes_cxcywh: Float[Tensor, "batch query 4"]
    edges: EdgeDistributions | None = None
    """Logits of this layer alone; none from the first, which predicts the initial boxes."""


class DetrHeads(nn.Module):
    """DETR's heads, shared by all decoder layers: classes (background last) and boxes."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.label = Linear(dim, classes + 1)
        self.box = MLP(dim)

    def forward(self, states: Float[Tensor, "batch query dim"]) -> HeadOutput:
        with single_precision(states) as states:
            return HeadOutput(self.label(states), self.box(states).sigmoid())


class RefinementHeads(nn.Module):
    """A class and a box head for each decoder layer; boxes are offsets to the anchors, in logits.

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
        previous: HeadOutput | None,
    ) -> HeadOutput:
        """`anchors_cxcywh` are the boxes of the previous layer without gradient; `previous` is not used."""
        with single_precision(states) as states:
            boxes_cxcywh = (self.box[layer](states) + anchors_cxcywh.logit(BOX_EPS)).sigmoid()
            return HeadOutput(self.label[layer](states), boxes_cxcywh)


class FDRHeads(nn.Module):
    """Fine-grained distribution refinement (D-FINE, arXiv 2410.13842, eq. 2 and 3).

    The first layer predicts boxes as `RefinementHeads` do. Each later layer adds to the logits of a distribution over
    offsets for each edge; the edge moves by its mean, in sizes of the first layer's box.
    """

    bins: Tensor

    def __init__(self, dim: int, classes: int, layers: int, num_bins: int = 33) -> None:
        super().__init__()
        self.label = nn.ModuleList(class_layer(dim, classes) for _ in range(layers))
        self.box = MLP(dim, start_at_zero=True)
        self.edges = nn.ModuleList(MLP(dim, start_at_zero=True, outputs=4 * num_bins) for _ in range(layers - 1))
        self.register_buffer("bins", fdr_bins(num_bins), persistent=False)

    def forward(
        self,
        layer: int,
        states: Float[Tensor, "batch query dim"],
        anchors_cxcywh: Float[Tensor, "batch query 4"],
        previous: HeadOutput | None,
    ) -> HeadOutput:
        """`anchors_cxcywh` are used by the first layer alone, for which `previous` is None."""
        with single_precision(states) as states:
            logits = self.label[layer](states)
            if previous is None:
                boxes_cxcywh = (self.box(states) + anchors_cxcywh.logit(BOX_EPS)).sigmoid()
                no_logits = logits.new_zeros(0, *logits.shape[:2], 4, len(self.bins))
                start_xyxy = cxcywh_to_xyxy(boxes_cxcywh.detach())
                return HeadOutput(logits, boxes_cxcywh, EdgeDistributions(no_logits, start_xyxy, self.bins))
            assert previous.edges is not None
            edge_logits = self.edges[layer - 1](states).unflatten(-1, (4, -1))
            edges = replace(previous.edges, logits=edge_logits[None] + previous.edges.logits.sum(0))
            # Not a matrix product, which may be in TF32.
            offsets = (edges.logits[0].softmax(-1) * self.bins).sum(-1)
        size = edges.start_xyxy[..., 2:] - edges.start_xyxy[..., :2]
        boxes_cxcywh = xyxy_to_cxcywh(edges.start_xyxy + offsets * size.repeat(1, 1, 2))
        # An edge may pass the opposite one; the size must not become negative.
        boxes_cxcywh = torch.cat([boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:].clamp(min=1e-4)], dim=-1)
        return HeadOutput(logits, boxes_cxcywh, edges)


def fdr_bins(num_bins: int, reach: float = 0.5, curvature: float = 0.25) -> Float[Tensor, " bin"]:
    """Offsets of an edge in box sizes, ascending from -2 `reach` to 2 `reach`, denser near zero (D-FINE, eq. 4).

    `num_bins` is odd, so that the middle one is zero.
    """
    half = (num_bins - 1) // 2
    growth = (reach / curvature + 1) ** (1 / (half - 1))
    positive = [curvature * (growth**step - 1) for step in range(half)]
    positive.append(2 * reach)
    return torch.tensor([-offset for offset in positive[:0:-1]] + positive)
