"""From feature maps to tokens: the keys and values that object queries ask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.model.attention import Attention
from detr_lite.model.position import CenterSine, CumulativeSine


@dataclass(frozen=True)
class Tokens:
    """Image tokens, level by level and row-major within a level."""

    values: Float[Tensor, "batch token dim"]
    position: Float[Tensor, "batch token dim"]
    centers: Float[Tensor, "batch token 2"]
    """(x, y) of each token's middle, relative to the unpadded image (beyond 1 in the padding)."""
    sizes: Float[Tensor, "batch token 2"]
    """(width, height) of the patch that each token stands for, relative to the unpadded image."""
    is_padding: Bool[Tensor, "batch token"]
    grids: tuple[tuple[int, int], ...]
    """(height, width) of each level, in tokens."""
    spans: Float[Tensor, "batch level 2"]
    """(width, height) of each unpadded image in tokens of each level, not rounded."""
    attention: tuple[Float[Tensor, "batch head token token"], ...] = ()
    """Self-attention weights of each encoder layer, if asked for."""

    @property
    def may_attend(self) -> Bool[Tensor, "batch 1 token"]:
        return ~self.is_padding[:, None]


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        widen, narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        nn.init.xavier_uniform_(widen.weight)
        nn.init.xavier_uniform_(narrow.weight)
        super().__init__(widen, nn.ReLU(), nn.Dropout(dropout), narrow)


class EncoderLayer(nn.Module):
    """Tokens look at each other. Post-norm, positions added to queries and keys alone (DETR, appendix A.3)."""

    def __init__(self, dim: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "batch token dim"],
        position: Float[Tensor, "batch token dim"],
        may_attend: Bool[Tensor, "batch 1 token"],
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch head token token"] | None]:
        placed = tokens + position
        attended = self.attention(
            query=placed, key=placed, value=tokens, may_attend=may_attend, need_weights=need_weights
        )
        tokens = self.attention_norm(tokens + self.dropout(attended.values))
        tokens = self.feedforward_norm(tokens + self.dropout(self.feedforward(tokens)))
        return tokens, attended.weights


class Encoder(nn.Module):
    """Project each level of the backbone to `dim`, say where each token is, and let the tokens look at each other."""

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        dim: int,
        layers: int,
        heads: int,
        feedforward_dim: int,
        dropout: float,
        position: CumulativeSine | CenterSine,
        normalise_projection: bool,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channel, dim, kernel_size=1), nn.GroupNorm(32, dim))
            if normalise_projection
            else nn.Conv2d(channel, dim, kernel_size=1)
            for channel in channels
        )
        self.position = position
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, feedforward_dim, dropout) for _ in range(layers))

    def forward(
        self, features: Sequence[Tensor], is_padding: Bool[Tensor, "batch height width"], need_weights: bool = False
    ) -> Tokens:
        tokens = self._flatten(features, is_padding)
        values, weights = tokens.values, []
        for layer in self.layers:
            values, layer_weights = layer(values, tokens.position, tokens.may_attend, need_weights)
            if layer_weights is not None:
                weights.append(layer_weights)
        return replace(tokens, values=values, attention=tuple(weights))

    def _flatten(self, features: Sequence[Tensor], is_padding: Bool[Tensor, "batch height width"]) -> Tokens:
        # Images are padded at the right and bottom, so the first row and column tell their sizes.
        image_sizes = torch.stack([(~is_padding[:, 0, :]).sum(1), (~is_padding[:, :, 0]).sum(1)], dim=1)
        values, positions, centers, sizes, paddings, grids, spans = [], [], [], [], [], [], []
        for feature, projection, stride in zip(features, self.projections, self.strides, strict=True):
            height, width = feature.shape[-2:]
            span = image_sizes / stride
            size = (1 / span.clamp(min=1 / stride))[:, None, None].expand(-1, height, width, -1)
            x = torch.arange(width, device=feature.device) + 0.5
            y = torch.arange(height, device=feature.device) + 0.5
            center = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1) * size
            padding = F.interpolate(is_padding[:, None].float(), size=(height, width))[:, 0].bool()
            values.append(projection(feature).flatten(2).transpose(1, 2))
            positions.append(self.position(padding, center).flatten(1, 2))
            centers.append(center.flatten(1, 2))
            sizes.append(size.flatten(1, 2))
            paddings.append(padding.flatten(1))
            grids.append((height, width))
            spans.append(span)
        return Tokens(
            values=torch.cat(values, 1),
            position=torch.cat(positions, 1),
            centers=torch.cat(centers, 1),
            sizes=torch.cat(sizes, 1),
            is_padding=torch.cat(paddings, 1),
            grids=tuple(grids),
            spans=torch.stack(spans, 1),
        )
