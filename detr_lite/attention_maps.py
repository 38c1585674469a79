"""Attention weights as models return them: which, of whole rows or of sampled points, and where their tokens lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class AttentionSelection:
    """Which attention weights to return, so that those of a large image fit in memory; None selects all.

    Indices count from 0, negative ones from the end, and the maps are in the order of the indices. Weights that are not
    selected are freed layer by layer; a layer without any selected weights uses fused attention.
    """

    layers: Sequence[int] | None = None
    """Decoder layers."""
    heads: Sequence[int] | None = None
    """Heads of the decoder and the encoder."""
    queries: Sequence[int] | None = None
    """Rows of the decoder's maps. The columns of its self-attention are always all queries."""
    encoder_layers: Sequence[int] | None = None
    encoder_mean: bool = False
    """Average the encoder's maps over the selected heads, which leaves one."""
    samples_only: bool = False
    """Leave the cross-attention of deformable models as `AttentionMaps.sampled`: `cross` then has a shape, but no
    weights (it is on the device "meta"), and `rows_of` makes the rows that are needed. Of 6 layers, 8 heads and 300
    queries at 640 pixels, all rows take 484 MB and the samples 10 MB. Without effect on models with dense attention."""


@dataclass(frozen=True)
class SampledAttention:
    """Cross-attention to a few sampled points ("deformable attention", arXiv 2010.04159, eq. 3).

    Of the same decoder layers, heads and queries as `AttentionMaps.cross`, which has the same weights by token.
    """

    points: Float[Tensor, "layer batch head query point 2"]
    """(x, y), relative to the unpadded image; points may lie outside."""
    weights: Float[Tensor, "layer batch head query point"]
    """They sum to 1 over all points of all levels."""
    level: Int[Tensor, " point"]
    """The level that each point samples; their number may differ from level to level."""
    outside: Float[Tensor, "layer batch head query"]
    """The share of weight that no token received: it fell outside the grid, or on padding that the model masks."""
    tokens: Int[Tensor, "layer batch head query entry"]
    """The tokens around each point, one or four for each."""
    shares: Float[Tensor, "layer batch head query entry"]
    """The weight that each of `tokens` gets from its point. A token's weight in the row is the sum of its entries."""

    def to(self, device: torch.device | str) -> "SampledAttention":
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


def dense_rows(
    tokens: Int[Tensor, "*row entry"], shares: Float[Tensor, "*row entry"], token_count: int
) -> Float[Tensor, "*row token"]:
    """Whole rows, with the zeros, of entries as in `SampledAttention`."""
    return shares.new_zeros(*shares.shape[:-1], token_count).scatter_add_(-1, tokens, shares)


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights. Tokens are level by level, row-major within a level's grid.

    With an `AttentionSelection`, layers, heads and queries are the selected ones, in its order.
    """

    cross: Float[Tensor, "layer batch head query token"]
    """Rows of dense attention sum to 1, those of deformable attention to 1 - `sampled.outside`."""
    queries: Float[Tensor, "layer batch self_head query other_query"]
    """Self-attention of the decoder, which in some models has another number of heads."""
    encoder: Float[Tensor, "encoder_layer batch encoder_head encoder_token encoder_token"]
    """Without layers where the encoder has no dense self-attention."""
    grids: tuple[tuple[int, int], ...]
    """(height, width) of each level, in tokens."""
    encoder_grids: tuple[tuple[int, int], ...]
    """The grid of the encoder's self-attention: one of `grids`, not always the last."""
    is_padding: Bool[Tensor, "batch token"]
    spans: Float[Tensor, "batch level 2"]
    """(width, height) of each unpadded image in tokens of each level, not rounded: tokens may reach beyond it."""
    sampled: SampledAttention | None = None
    """The points of deformable attention, of which `cross` is made; None for models with dense attention."""

    def to(self, device: torch.device | str) -> "AttentionMaps":
        movable = {name: value for name, value in vars(self).items() if isinstance(value, Tensor | SampledAttention)}
        if self.cross.is_meta:  # has no data to move
            del movable["cross"]
        moved = {name: value.to(device) for name, value in movable.items()}
        return replace(self, **moved)  # type: ignore[arg-type]

    def rows_of(
        self, image: Int[Tensor, " pair"], query: Int[Tensor, " pair"]
    ) -> Float[Tensor, "pair layer head token"]:
        """Cross-attention of some queries, also where `cross` has no weights (`AttentionSelection.samples_only`).

        Args:
            image: index in the batch.
            query: index in `cross`.
        """
        if self.sampled is None or not self.cross.is_meta:
            return self.cross[:, image, :, query]
        tokens, shares = self.sampled.tokens[:, image, :, query], self.sampled.shares[:, image, :, query]
        return dense_rows(tokens, shares, self.cross.shape[-1])

    def mean_rows(self, layer: int) -> Float[Tensor, "batch query token"]:
        """Cross-attention of all queries in one layer in at least float32, averaged over heads."""
        if self.sampled is None or not self.cross.is_meta:
            rows = self.cross[layer]
            return rows.to(torch.promote_types(rows.dtype, torch.float32)).mean(dim=1)
        tokens, shares = (each[layer].transpose(1, 2).flatten(2) for each in (self.sampled.tokens, self.sampled.shares))
        return dense_rows(tokens, shares, self.cross.shape[-1]) / self.cross.shape[2]

    @property
    def encoder_level(self) -> int:
        """Which of `grids` is that of the encoder's self-attention; the coarser one of two alike."""
        return len(self.grids) - 1 - self.grids[::-1].index(self.encoder_grids[-1])

    def unpadded_grid(self, image: int, level: int) -> tuple[int, int]:
        """(height, width) in whole tokens of the part of a level's grid that is not padding; it starts at the top left.

        Negative levels count from the coarsest.
        """
        sizes = [height * width for height, width in self.grids]
        is_image = ~torch.split(self.is_padding[image], sizes)[level].view(self.grids[level])
        return int(is_image.any(dim=1).sum()), int(is_image.any(dim=0).sum())
