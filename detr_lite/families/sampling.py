"""Deformable attention as rows over tokens: each sampled point hands its weight to the tokens around it.

Its output is a sum of interpolated values (Deformable DETR, arXiv 2010.04159, eq. 3), and an interpolated value is a
weighted sum of the values of tokens. The rows are therefore exact: row times values is what the module computes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Samples:
    """What one layer samples, as the network computes it."""

    locations: Float[Tensor, "batch head query point 2"]
    """(x, y), relative to the padded grid of the point's level."""
    weights: Float[Tensor, "batch head query point"]
    level: Int[Tensor, " point"]
    grids: tuple[tuple[int, int], ...]
    """(height, width) of each level, in tokens."""
    is_discrete: bool = False
    """Whether points take the nearest token instead of interpolating (`decoder_method: discrete`)."""
    is_masked: Bool[Tensor, "batch token"] | None = None
    """Tokens whose values the network sets to 0, because they are padding."""

    def rows(self) -> "SparseRows":
        make = nearest_rows if self.is_discrete else bilinear_rows
        rows = make(self.locations, self.weights, self.level, self.grids)
        return rows if self.is_masked is None else rows.without(self.is_masked)


@dataclass(frozen=True)
class SparseRows:
    """Rows of attention weights by their entries. A token can have several, which add up."""

    tokens: Int[Tensor, "batch head query entry"]
    weights: Float[Tensor, "batch head query entry"]
    outside: Float[Tensor, "batch head query"]
    """The share of the weight that no token receives."""

    def without(self, is_masked: Bool[Tensor, "batch token"]) -> "SparseRows":
        """Tokens that are masked receive nothing; their weight counts as outside."""
        batch = torch.arange(len(is_masked), device=is_masked.device)[:, None, None, None]
        is_lost = is_masked[batch, self.tokens]
        lost = self.weights.masked_fill(~is_lost, 0).sum(-1)
        return replace(self, weights=self.weights.masked_fill(is_lost, 0), outside=self.outside + lost)


def bilinear_rows(
    locations: Float[Tensor, "batch head query point 2"],
    weights: Float[Tensor, "batch head query point"],
    level: Int[Tensor, " point"],
    grids: Sequence[tuple[int, int]],
) -> SparseRows:
    """Four entries for each point: its bilinear shares, as of `grid_sample` with align_corners=False and zeros outside.

    Args:
        locations: (x, y) of the points, relative to the padded grid of their level; a token's center is at a half.
        level: which level each point samples.
        grids: (height, width) of each level, in tokens.
    """
    size, start = _levels(level, grids)
    corner = locations.to(_precise(locations)) * size - 0.5
    first = corner.floor()
    share = corner - first
    # Left or right, times above or below: (batch head query point corner).
    x = torch.stack([first[..., 0], first[..., 0] + 1] * 2, -1)
    y = torch.stack([first[..., 1]] * 2 + [first[..., 1] + 1] * 2, -1)
    share_x = torch.stack([1 - share[..., 0], share[..., 0]] * 2, -1)
    share_y = torch.stack([1 - share[..., 1]] * 2 + [share[..., 1]] * 2, -1)
    width, height = size[:, :1], size[:, 1:]
    is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # As floats until here: points far outside would overflow integers.
    x, y = x.where(is_inside, 0).long(), y.where(is_inside, 0).long()
    tokens = start[:, None] + y * width.long() + x
    shares = weights.to(share.dtype)[..., None] * share_x * share_y
    return SparseRows(
        tokens.flatten(-2),
        shares.where(is_inside, 0).flatten(-2),
        shares.where(~is_inside, 0).flatten(-2).sum(-1),
    )


def nearest_rows(
    locations: Float[Tensor, "batch head query point 2"],
    weights: Float[Tensor, "batch head query point"],
    level: Int[Tensor, " point"],
    grids: Sequence[tuple[int, int]],
) -> SparseRows:
    """One entry for each point: `decoder_method: discrete` of RT-DETRv2 (arXiv 2407.17140, section 3.1).

    Points beyond the border take the token at the border, so nothing falls outside. Arguments as of `bilinear_rows`.
    """
    size, start = _levels(level, grids)
    # Rounded in the dtype of the network, since another one could round to a neighbor.
    nearest = (locations * size.to(locations.dtype) + 0.5).trunc()
    x = nearest[..., 0].clamp(min=0).minimum(size[:, 0] - 1).long()
    y = nearest[..., 1].clamp(min=0).minimum(size[:, 1] - 1).long()
    weights = weights.to(_precise(weights))
    return SparseRows(start + y * size[:, 0].long() + x, weights, torch.zeros_like(weights[..., 0]))


def points_in_image(
    locations: Float[Tensor, "*layer batch head query point 2"],
    level: Int[Tensor, " point"],
    grids: Sequence[tuple[int, int]],
    spans: Float[Tensor, "batch level 2"],
) -> Float[Tensor, "*layer batch head query point 2"]:
    """From positions relative to the padded grids to positions relative to the unpadded images.

    Args:
        spans: (width, height) of each unpadded image in tokens of each level, as of `AttentionMaps`.
    """
    size, _ = _levels(level, grids)
    # An image of padding alone has no span.
    scale = size / spans[:, level].clamp(min=torch.finfo(spans.dtype).tiny)
    return locations.to(_precise(locations)) * scale[:, None, None]


def _levels(
    level: Int[Tensor, " point"], grids: Sequence[tuple[int, int]]
) -> tuple[Float[Tensor, "point 2"], Int[Tensor, " point"]]:
    """(width, height) of each point's level, and the index of the level's first token."""
    sizes = torch.tensor([(width, height) for height, width in grids], dtype=torch.float32, device=level.device)
    counts = torch.tensor([height * width for height, width in grids], device=level.device)
    return sizes[level], (counts.cumsum(0) - counts)[level]


def _precise(values: Tensor) -> torch.dtype:
    """At least float32: half precision has too few digits for a position on a large grid."""
    return torch.promote_types(values.dtype, torch.float32)
