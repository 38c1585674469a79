"""Heads: one class and one box for each query (or token)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BoxNetwork(nn.Sequential):
    """Three linear layers to four numbers (DETR, section 3.2); refinement starts at zero, without moving the anchor."""

    def __init__(self, dim: int, start_at_zero: bool = False) -> None:
        last = nn.Linear(dim, 4)
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


def inverse_sigmoid(values: Float[Tensor, "*shape"], eps: float = 1e-4) -> Float[Tensor, "*shape"]:
    """Logits of values in 0..1; beyond `eps` of the ends they are held, to stay finite also in half precision."""
    return torch.logit(values.float().clamp(eps, 1 - eps))


class PlainHeads(nn.Module):
    """The original's: one class layer (background last) and one box network, the same for every decoder layer."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.label = nn.Linear(dim, classes + 1)
        self.box = BoxNetwork(dim)

    def forward(
        self, states: Float[Tensor, "batch query dim"]
    ) -> tuple[Float[Tensor, "batch query class"], Float[Tensor, "batch query 4"]]:
        return self.label(states).float(), self.box(states).float().sigmoid()


class RefiningHeads(nn.Module):
    """For each decoder layer a class layer, and a box network that moves the anchors it is given.

    Iterative box refinement (Deformable DETR, arXiv 2010.04159, appendix A.4).
    """

    def __init__(self, dim: int, classes: int, layers: int) -> None:
        super().__init__()
        self.label = nn.ModuleList(class_layer(dim, classes) for _ in range(layers))
        self.box = nn.ModuleList(BoxNetwork(dim, start_at_zero=True) for _ in range(layers))

    def forward(
        self, layer: int, states: Float[Tensor, "batch query dim"], anchors_cxcywh: Float[Tensor, "batch query 4"]
    ) -> tuple[Float[Tensor, "batch query class"], Float[Tensor, "batch query 4"]]:
        boxes_cxcywh = (self.box[layer](states).float() + inverse_sigmoid(anchors_cxcywh)).sigmoid()
        return self.label[layer](states).float(), boxes_cxcywh
