"""From feature maps to tokens: the keys and values that object queries ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.model.attention import Attention
from detr_lite.model.attention_recorder import KeptWeights
from detr_lite.model.position import CenterSine, CumulativeSine
from detr_lite.structures import AttentionChoice


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
    """(height, width) of each level, in tokens; the finest level first."""
    spans: Float[Tensor, "batch level 2"]
    """(width, height) of each unpadded image in tokens of each level, not rounded."""
    attention: Float[Tensor, "encoder_layer batch head coarse coarse"] | None = None
    """Self-attention weights over the coarsest level's tokens, if asked for."""

    @property
    def may_attend(self) -> Bool[Tensor, "batch 1 token"]:
        return ~self.is_padding[:, None]


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        widen, narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        nn.init.xavier_uniform_(widen.weight)
        nn.init.xavier_uniform_(narrow.weight)
        super().__init__(widen, nn.ReLU(), nn.Dropout(dropout), narrow)


class TokenNorm(nn.LayerNorm):
    """Normalises each token of a map by itself, so that what an image is padded with changes none of its tokens."""

    def forward(self, features: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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
    """Project each level of the backbone to `dim`, let the coarsest level's tokens look at each other, and hand what
    they found down to the finer levels.

    Attention among the tokens of the coarsest level alone costs little and loses little (RT-DETR, arXiv 2304.08069,
    section 4.2). With one level this is the original's encoder.

    Args:
        channels, strides: of the backbone's maps, the finest first.
    """

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
        self.heads = heads
        self.is_original = not normalise_projection
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channel, dim, kernel_size=1), TokenNorm(dim))
            if normalise_projection
            else nn.Conv2d(channel, dim, kernel_size=1)
            for channel in channels
        )
        self.position = position
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, feedforward_dim, dropout) for _ in range(layers))
        self.neck = TopDownNeck(dim, self.strides) if len(self.strides) > 1 else None

    def forward(
        self,
        features: Sequence[Tensor],
        is_padding: Bool[Tensor, "batch height width"],
        choice: AttentionChoice | None = None,
    ) -> Tokens:
        """`choice` is which weights to keep; by default none."""
        maps = [projection(feature) for projection, feature in zip(self.projections, features, strict=True)]
        places = [
            _place(is_padding, (feature.shape[-2], feature.shape[-1]), stride, self.is_original)
            for feature, stride in zip(maps, self.strides, strict=True)
        ]
        positions = [self.position(place.is_padding, place.centers).flatten(1, 2) for place in places]
        maps[-1], weights = self._attend(maps[-1], positions[-1], places[-1], choice)
        if self.neck is not None:
            maps = self.neck(maps)
        return Tokens(
            values=torch.cat([_as_tokens(values) for values in maps], 1),
            position=torch.cat(positions, 1),
            centers=torch.cat([place.centers.flatten(1, 2) for place in places], 1),
            sizes=torch.cat([place.sizes.flatten(1, 2) for place in places], 1),
            is_padding=torch.cat([place.is_padding.flatten(1) for place in places], 1),
            grids=tuple((values.shape[-2], values.shape[-1]) for values in maps),
            spans=torch.stack([place.span for place in places], 1),
            attention=weights,
        )

    def _attend(
        self,
        coarsest: Tensor,
        position: Float[Tensor, "batch token dim"],
        place: "_Place",
        choice: AttentionChoice | None,
    ) -> tuple[Tensor, Tensor | None]:
        values = _as_tokens(coarsest)
        may_attend = ~place.is_padding.flatten(1)[:, None]
        kept = None
        if choice is not None:
            batch, tokens, _ = values.shape
            shape = (len(self.layers), batch, self.heads, tokens, tokens)
            kept = KeptWeights("encoder", choice.encoder_layers, choice.heads, shape=shape, mean=choice.encoder_mean)
        for index, layer in enumerate(self.layers):
            values, weights = layer(values, position, may_attend, need_weights=kept is not None and kept.wants(index))
            if kept is not None and weights is not None:
                kept.add(index, weights)
        return values.transpose(1, 2).reshape(coarsest.shape), None if kept is None else kept.stack(like=values)


class TopDownNeck(nn.Module):
    """Each finer level takes up what the coarser one knows (FPN, arXiv 1612.03144, section 3).

    Sums of levels pass a 3x3 convolution, which smooths the copies' edges. The coarsest level stays as it is.
    """

    def __init__(self, dim: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.ratios = [coarse // fine for fine, coarse in pairwise(strides)]
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, kernel_size=3, padding=1), TokenNorm(dim), nn.ReLU()) for _ in self.ratios
        )

    def forward(self, maps: Sequence[Float[Tensor, "batch dim _ _"]]) -> list[Tensor]:
        """Maps with the finest first, of the same number of channels."""
        merged = [maps[-1]]
        for lateral, smooth, ratio in zip(
            reversed(maps[:-1]), reversed(self.smooth), reversed(self.ratios), strict=True
        ):
            above = _copied(merged[0], ratio, (lateral.shape[-2], lateral.shape[-1]))
            merged.insert(0, smooth(lateral + above) + lateral)
        return merged


@dataclass(frozen=True)
class _Place:
    """Where the tokens of one level are."""

    centers: Float[Tensor, "batch height width 2"]
    sizes: Float[Tensor, "batch height width 2"]
    is_padding: Bool[Tensor, "batch height width"]
    span: Float[Tensor, "batch 2"]


def _place(
    is_padding: Bool[Tensor, "batch image_height image_width"], grid: tuple[int, int], stride: int, is_original: bool
) -> _Place:
    # Images are padded at the right and bottom, so the first row and column tell their sizes.
    image_sizes = torch.stack([(~is_padding[:, 0, :]).sum(1), (~is_padding[:, :, 0]).sum(1)], dim=1)
    height, width = grid
    span = image_sizes / stride
    size = (1 / span.clamp(min=1 / stride))[:, None, None].expand(-1, height, width, -1)
    x = torch.arange(width, device=is_padding.device) + 0.5
    y = torch.arange(height, device=is_padding.device) + 0.5
    center = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1) * size
    if is_original:  # which takes the image's mask where a grid of evenly spread tokens would lie
        padding = F.interpolate(is_padding[:, None].float(), size=grid)[:, 0].bool()
    else:
        padding = is_padding[:, ::stride, ::stride]
    return _Place(center, size, padding, span)


def _as_tokens(values: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch token dim"]:
    return values.flatten(2).transpose(1, 2)


def _copied(coarse: Float[Tensor, "batch dim _ _"], ratio: int, grid: tuple[int, int]) -> Tensor:
    """The token above each finer one: token (y, x) of a level lies in token (y // ratio, x // ratio) of the next.

    Not resized to the finer grid: where a side does not divide, that would move everything by a part of a token.
    """
    return F.interpolate(coarse, scale_factor=ratio, mode="nearest")[:, :, : grid[0], : grid[1]]
