"""Positions: sine embeddings, and attention biases from boxes to tokens and between boxes."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou
from detr_lite.model.attention import drop_bias
from detr_lite.model.onednn import can_use_onednn

MAX_BIAS = 20.0
"""Largest absolute bias of an axis. exp(-20) is 2e-9; far smaller weights would be denormal numbers, with which a
softmax on a CPU takes up to ten times as long."""


def sine_embed(
    coordinates: Float[Tensor, "*shape axis"], dim: int, temperature: float
) -> Float[Tensor, "*shape embed"]:
    """Sine embedding of coordinates in 0..1: `dim` numbers for each axis, sine and cosine interleaved.

    Args:
        temperature: ratio of the highest to the lowest frequency; 10000 in DETR, 20 in DAB-DETR (arXiv 2201.12329,
            section 4.4).
    """
    pair = torch.arange(dim, device=coordinates.device) // 2
    # In DETR's order of operations, so that it rounds equally: the last bit can switch a ReLU in a later layer.
    angle = coordinates.float()[..., None] * (2 * math.pi) / temperature ** (2 * pair / dim)
    embedding = torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1)
    return embedding.flatten(-3)


def index_embed(index: Int[Tensor, " token"], dim: int) -> Float[Tensor, "token dim"]:
    """Sine embedding of tokens' places in a sentence, counted from 0 ("Attention Is All You Need", section 3.5)."""
    return sine_embed(index[:, None] / (2 * math.pi), dim, temperature=10000.0)


class SinePosition(nn.Module):
    """DETR's positions: normalized cumulative sum over unpadded tokens; y first, then x."""

    def __init__(self, dim: int, temperature: float = 10000.0) -> None:
        super().__init__()
        self.dim = dim
        self.temperature = temperature

    def forward(
        self, is_padding: Bool[Tensor, "batch height width"], centers: Float[Tensor, "batch height width 2"]
    ) -> Float[Tensor, "batch height width dim"]:
        count = (~is_padding).float()
        y, x = count.cumsum(1), count.cumsum(2)
        y, x = y / (y[:, -1:, :] + 1e-6), x / (x[:, :, -1:] + 1e-6)
        return sine_embed(torch.stack([y, x], dim=-1), self.dim // 2, self.temperature)


class CenterSinePosition(nn.Module):
    """Positions of the tokens' centers in the coordinates of boxes, for dot products with embeddings of anchors."""

    def __init__(self, dim: int, temperature: float = 20.0) -> None:
        super().__init__()
        self.dim = dim
        self.temperature = temperature

    def forward(
        self, is_padding: Bool[Tensor, "batch height width"], centers: Float[Tensor, "batch height width 2"]
    ) -> Float[Tensor, "batch height width dim"]:
        return sine_embed(centers.flip(-1), self.dim // 2, self.temperature)


class BoxRelativeBias(nn.Module):
    """Bias of each head's attention scores by the token's position relative to the query's box.

    The axes are computed separately and added, so that the cost grows with height + width instead of their product
    (Plain-DETR, arXiv 2308.01904, section 4.1). Padding, at the right and bottom, gets minus infinity.

    At initialization each head attends to another side of the box: with four heads right, bottom, left, top.
    """

    masks_padding = True

    def __init__(self, heads: int, hidden: int = 64) -> None:
        super().__init__()
        angle = torch.arange(heads) * (2 * math.pi / heads)
        self.horizontal = AxisBias(0.4 * angle.cos(), hidden)
        self.vertical = AxisBias(0.4 * angle.sin(), hidden)

    def forward(
        self,
        boxes_xyxy: Float[Tensor, "batch query 4"],
        grids: tuple[tuple[int, int], ...],
        spans: Float[Tensor, "batch level 2"],
    ) -> Float[Tensor, "batch head query token"]:
        """
        Args:
            boxes_xyxy: relative to the unpadded image.
            grids: (height, width) of each level, in tokens.
            spans: (width, height) of each unpadded image in tokens of each level, not rounded.
        """
        # The axes are computed in float32; their sum, as large as the attention weights, is made in autocast's dtype.
        device = boxes_xyxy.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else boxes_xyxy.dtype
        axes = []
        for level, (height, width) in enumerate(grids):
            span = spans[:, level]
            edges = boxes_xyxy * span[:, None].repeat(1, 1, 2)
            horizontal = self.horizontal(edges[..., 0::2], width, span[:, 0]).to(dtype)
            vertical = self.vertical(edges[..., 1::2], height, span[:, 1]).to(dtype)
            axes.append((vertical[..., :, None], horizontal[..., None, :]))
        if torch.is_grad_enabled() or not can_use_onednn(boxes_xyxy):
            levels = [(vertical + horizontal).flatten(3) for vertical, horizontal in axes]
            return torch.cat(levels, dim=3) if len(levels) > 1 else levels[0]
        # Without a copy of the whole, which is as large as the attention weights.
        bias = axes[0][0].new_empty(*axes[0][0].shape[:3], sum(height * width for height, width in grids))
        parts = bias.split([height * width for height, width in grids], dim=3)
        for part, grid, (vertical, horizontal) in zip(parts, grids, axes, strict=True):
            torch.add(vertical, horizontal, out=part.unflatten(3, grid))
        return bias  # type: ignore[no-any-return]


class AnchoredMLP(nn.Sequential):
    """Two linear layers whose output for an input of zeros is zero, for scores that a softmax is taken of.

    The softmax cancels what is added to all scores of a query alike. In an ordinary MLP that walks, by rounding, with
    the last bias and with hidden units that are on for all inputs, until it is clamped or too large for bfloat16.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
        drop_bias(self[2])

    def forward(self, values: Float[Tensor, "*shape input"]) -> Float[Tensor, "*shape output"]:
        first, relu, last = self
        units = relu(first(values))
        return last(units - relu(first.bias).to(units.dtype))  # type: ignore[no-any-return]


class AxisBias(nn.Module):
    """One axis of the bias: a Gaussian in units of the box's size, and an MLP of the distances to its edges.

    Mean and width of the Gaussian are learned (SMCA, arXiv 2101.07448, section 3.2); with it queries attend to their
    boxes from the first step. The input of the MLP is the signed logarithm of the distances to the two edges
    (Plain-DETR, eq. 4) in tokens, scaled so that eight tokens are 1.

    Args:
        middles: initial mean of each head's Gaussian, in box sizes from the box's center.
    """

    masks_padding = True
    """The bias is minus infinity for padding."""

    def __init__(self, middles: Float[Tensor, " head"], hidden: int) -> None:
        super().__init__()
        self.network = AnchoredMLP(2, hidden, len(middles))
        self.middle = nn.Parameter(middles)
        self.log_sharpness = nn.Parameter(torch.full((len(middles),), math.log(4.0)))

    def forward(
        self, edges: Float[Tensor, "batch query 2"], count: int, span: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch head query count"]:
        """`edges` of the boxes are in tokens from the image's edge, `count` is the number of tokens of the axis.

        Tokens that begin at `span` or beyond are padding; the first one never is.
        """
        index = torch.arange(count, device=edges.device)
        distance = edges[:, :, None, :] - (index + 0.5)[:, None]
        learned = self.network(distance.sign() * torch.log1p(distance.abs()) / math.log(9.0)).permute(0, 3, 1, 2)
        # A box smaller than a token counts as one token large, so that its Gaussian reaches one.
        size = (edges[..., 1] - edges[..., 0]).clamp(min=1)
        offset = -distance.mean(-1) / size[..., None]
        sharpness, middle = self.log_sharpness.exp()[:, None, None], self.middle[:, None, None]
        gaussian = sharpness * (offset[:, None] - middle).square()
        bias = (learned - gaussian).clamp(-MAX_BIAS, MAX_BIAS)
        is_padding = (index >= span[:, None]) & (index > 0)
        return bias.masked_fill(is_padding[:, None, None], -torch.inf)  # type: ignore[no-any-return]


class BoxPairBias(nn.Module):
    """Bias of each head's self-attention scores by the relation between the boxes of two queries.

    An MLP of the boxes' distance and relative size (relation networks, arXiv 1711.11575; Relation-DETR, arXiv
    2407.11699), their IoU and the difference of their scores, from which duplicate removal can be learned
    (arXiv 1705.02950).
    """

    def __init__(self, heads: int, hidden: int = 16) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, heads))
        drop_bias(self.network[2])
        # At initialization queries attend to those whose boxes overlap their own.
        self.overlap = nn.Parameter(torch.full((heads,), 4.0))

    def forward(
        self, boxes_cxcywh: Float[Tensor, "batch query 4"], scores: Float[Tensor, "batch query"]
    ) -> Float[Tensor, "batch head query other_query"]:
        """`scores` are in 0..1."""
        boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh)
        overlap = paired_iou(boxes_xyxy[:, :, None], boxes_xyxy[:, None])
        center, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:].clamp(min=1e-4)
        distance = (center[:, None] - center[:, :, None]).abs() / size[:, :, None]
        log_ratio = (size[:, None] / size[:, :, None]).log()
        score_difference = scores[:, None] - scores[:, :, None]
        pairs = torch.cat([distance.log1p(), log_ratio, score_difference[..., None], overlap[..., None]], dim=-1)
        bias: Tensor = self.network(pairs) + self.overlap * overlap[..., None]
        # Fused attention on GPUs needs a mask whose last axis is contiguous.
        return bias.permute(0, 3, 1, 2).contiguous()
