"""Where a token or a box is: sine codes, and biases that tell a pixel from a box's inside and one box from another."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou

FARTHEST = 20.0
"""A token's bias on an axis at most. Its weight is then 2e-9, next to nothing, but not so little that it underflows,
with which a processor's softmax takes up to ten times as long."""


def sine_embed(coordinates: Float[Tensor, "*shape axis"], dim: int, temperature: float) -> Float[Tensor, "*shape code"]:
    """Sine code of coordinates in 0..1: `dim` numbers for each axis, sine and cosine interleaved.

    Args:
        temperature: of the geometric row of frequencies; 10000 in the original, 20 in DAB-DETR (arXiv 2201.12329,
            section 4.4), whose coordinates are boxes and want less spread.
    """
    pair = torch.arange(dim, device=coordinates.device) // 2
    # In the original's order, so that it rounds alike: a bit more or less here turns some ReLU behind it on or off.
    angle = coordinates.float()[..., None] * (2 * math.pi) / temperature ** (2 * pair / dim)
    code = torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1)
    return code.flatten(-3)


class SinePosition(nn.Module):
    """The original's positions: a count of unpadded tokens, relative to their number; y first, then x."""

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
    """Positions of the tokens' middles in the same coordinates as boxes, so that the two can be compared."""

    def __init__(self, dim: int, temperature: float = 20.0) -> None:
        super().__init__()
        self.dim = dim
        self.temperature = temperature

    def forward(
        self, is_padding: Bool[Tensor, "batch height width"], centers: Float[Tensor, "batch height width 2"]
    ) -> Float[Tensor, "batch height width dim"]:
        return sine_embed(centers.flip(-1), self.dim // 2, self.temperature)


class BoxRelativeBias(nn.Module):
    """What each head adds to a score for where the token lies relative to the query's box.

    The two axes are computed apart and added, so that cost grows with height + width, not with their product
    (Plain-DETR, arXiv 2308.01904, section 4.1). Padding, at the right and bottom, gets minus infinity.

    At the start each head looks around a place of its own in the box: with four heads right, bottom, left, top.
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
        # Small as they are, the axes keep their 32 bits; their sum is as large as the attention weights.
        kind = boxes_xyxy.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else boxes_xyxy.dtype
        levels = []
        for level, (height, width) in enumerate(grids):
            span = spans[:, level]
            edges = boxes_xyxy * span[:, None].repeat(1, 1, 2)
            horizontal = self.horizontal(edges[..., 0::2], width, span[:, 0]).to(dtype)
            vertical = self.vertical(edges[..., 1::2], height, span[:, 1]).to(dtype)
            levels.append((vertical[..., :, None] + horizontal[..., None, :]).flatten(3))
        return torch.cat(levels, dim=3) if len(levels) > 1 else levels[0]


class AxisBias(nn.Module):
    """One axis of the bias: a Gaussian in the box's own measure, and a network that learns what else there is.

    The Gaussian's middle and width are learned (SMCA, arXiv 2101.07448, section 3.2); it lets queries look at their
    boxes from the first step. The network sees the signed logarithm of the distances to the box's two edges
    (Plain-DETR, eq. 4), in tokens: eight tokens away is 1.

    Args:
        middles: for each head where it looks at first, in box sizes from the box's centre.
    """

    masks_padding = True
    """Gives minus infinity for padding."""

    def __init__(self, middles: Float[Tensor, " head"], hidden: int) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, len(middles)))
        self.middle = nn.Parameter(middles)
        self.log_sharpness = nn.Parameter(torch.full((len(middles),), math.log(4.0)))

    def forward(
        self, edges: Float[Tensor, "batch query 2"], count: int, span: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch head query count"]:
        """`edges` of the boxes and the `count` tokens of the axis are in tokens from the image's edge.

        Tokens that begin at `span` or beyond are padding; the first one never is.
        """
        index = torch.arange(count, device=edges.device)
        distance = edges[:, :, None, :] - (index + 0.5)[:, None]
        learned = self.network(distance.sign() * torch.log1p(distance.abs()) / math.log(9.0)).permute(0, 3, 1, 2)
        # A box smaller than a token would see none of them.
        size = (edges[..., 1] - edges[..., 0]).clamp(min=1)
        place = -distance.mean(-1) / size[..., None]
        sharpness, middle = self.log_sharpness.exp()[:, None, None], self.middle[:, None, None]
        gaussian = sharpness * (place[:, None] - middle).square()
        bias = (learned - gaussian).clamp(-FARTHEST, FARTHEST)
        is_padding = (index >= span[:, None]) & (index > 0)
        return bias.masked_fill(is_padding[:, None, None], -torch.inf)  # type: ignore[no-any-return]


class BoxPairBias(nn.Module):
    """What each head of the queries' self-attention adds to a score for how the boxes of two queries lie to each other.

    One-to-one matching wants one answer for each object, so a query has to know which others are at the same object,
    and whether one of them is surer. All that is told: the boxes' distance and sizes (relation networks, arXiv
    1711.11575; for DETRs Relation-DETR, arXiv 2407.11699), their overlap, and the difference of their scores, of which
    a network can learn to suppress duplicates (arXiv 1705.02950).
    """

    def __init__(self, heads: int, hidden: int = 16) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, heads))
        # From the first step queries look at those that overlap theirs.
        self.overlap = nn.Parameter(torch.full((heads,), 4.0))

    def forward(
        self, boxes_cxcywh: Float[Tensor, "batch query 4"], scores: Float[Tensor, "batch query"]
    ) -> Float[Tensor, "batch head query other_query"]:
        """`scores` are in 0..1."""
        boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh)
        overlap = paired_iou(boxes_xyxy[:, :, None], boxes_xyxy[:, None])
        center, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:].clamp(min=1e-4)
        away = (center[:, None] - center[:, :, None]).abs() / size[:, :, None]
        larger = (size[:, None] / size[:, :, None]).log()
        surer = scores[:, None] - scores[:, :, None]
        pairs = torch.cat([away.log1p(), larger, surer[..., None], overlap[..., None]], dim=-1)
        bias: Tensor = self.network(pairs) + self.overlap * overlap[..., None]
        # Fused attention on graphics cards takes no mask whose last axis is spread out.
        return bias.permute(0, 3, 1, 2).contiguous()
