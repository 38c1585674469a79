"""Encoder: from feature maps to the memory, the keys and values of the decoder's cross-attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.attention_recorder import AttentionRecorder
from detr_lite.model.attention import Attention
from detr_lite.model.key_value_cache import KeyValueCache
from detr_lite.model.onednn import Linear, PointwiseConv
from detr_lite.model.position import CenterSinePosition, SinePosition
from detr_lite.model.recompute import recomputed
from detr_lite.structures import AttentionSelection


@dataclass(frozen=True)
class Memory:
    """What a decoder's queries attend to: the tokens of an image, or of a sentence."""

    memory: Float[Tensor, "batch token dim"]
    """Keys and values of cross-attention."""
    position: Float[Tensor, "batch token dim"]
    """Added to the keys."""
    is_padding: Bool[Tensor, "batch token"]

    @property
    def attn_mask(self) -> Bool[Tensor, "batch 1 token"]:
        """True = may attend: not padding."""
        return ~self.is_padding[:, None]


@dataclass(frozen=True)
class EncoderOutput(Memory):
    """The memory of an image: its tokens, level by level and row-major within a level."""

    centers: Float[Tensor, "batch token 2"]
    """(x, y) of each token's center, relative to the unpadded image (above 1 in the padding)."""
    sizes: Float[Tensor, "batch token 2"]
    """(width, height) of the patch that each token covers, relative to the unpadded image."""
    grids: tuple[tuple[int, int], ...]
    """(height, width) of each level, in tokens; the finest level first."""
    spans: Float[Tensor, "batch level 2"]
    """(width, height) of each unpadded image in tokens of each level, not rounded."""
    attention: Float[Tensor, "encoder_layer batch head coarse coarse"] | None = None
    """Self-attention weights of the coarsest level's tokens, if selected."""


class FeedForward(nn.Sequential):
    """Linear, ReLU, dropout, linear ("Attention Is All You Need", section 3.3)."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        first, second = Linear(dim, hidden), Linear(hidden, dim)
        nn.init.xavier_uniform_(first.weight)
        nn.init.xavier_uniform_(second.weight)
        super().__init__(first, nn.ReLU(), nn.Dropout(dropout), second)


class TokenNorm(nn.LayerNorm):
    """Layer norm over the channels of each token of a map, so that padding does not influence other tokens."""

    def forward(self, features: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch dim height width"]:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward; post-norm, positions added to queries and keys (DETR, appendix A.3)."""

    def __init__(self, dim: int, heads: int, feedforward_dim: int, dropout: float, key_bias: bool = True) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout, key_bias)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "batch token dim"],
        position: Float[Tensor, "batch token dim"],
        attn_mask: Bool[Tensor, "#batch #token all_tokens"],
        need_weights: bool = False,
        cache: KeyValueCache | None = None,
    ) -> tuple[Float[Tensor, "batch token dim"], Float[Tensor, "batch head token all_tokens"] | None]:
        """With `cache` tokens attend to those that it holds, too."""
        query = tokens + position
        attended = self.attention(
            query=query, key=query, value=tokens, attn_mask=attn_mask, need_weights=need_weights, cache=cache
        )
        tokens = self.attention_norm(tokens + self.dropout(attended.values))
        tokens = self.feedforward_norm(tokens + self.dropout(self.feedforward(tokens)))
        return tokens, attended.weights


class Encoder(nn.Module):
    """Hybrid encoder: self-attention in the coarsest level, whose result a top-down neck adds to the finer levels.

    After RT-DETR (arXiv 2304.08069, section 4.2). With one level it is DETR's encoder.

    Args:
        channels, strides: of the backbone's maps, the finest first.
        normalize_projection: layer norm after the input projection. Without, tokens and padding are as in DETR.
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
        position: SinePosition | CenterSinePosition,
        normalize_projection: bool,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.heads = heads
        self.is_original = not normalize_projection
        self.projections = nn.ModuleList(
            nn.Sequential(PointwiseConv(channel, dim, kernel_size=1), TokenNorm(dim))
            if normalize_projection
            else PointwiseConv(channel, dim, kernel_size=1)
            for channel in channels
        )
        self.position = position
        self.layers = nn.ModuleList(
            EncoderLayer(dim, heads, feedforward_dim, dropout, key_bias=self.is_original) for _ in range(layers)
        )
        self.neck = TopDownNeck(dim, self.strides) if len(self.strides) > 1 else None
        self.recompute = False
        """Gradient checkpointing of the layers."""

    def forward(
        self,
        features: Sequence[Tensor],
        is_padding: Bool[Tensor, "batch height width"],
        selection: AttentionSelection | None = None,
    ) -> EncoderOutput:
        """`selection` are the attention weights to return; by default none."""
        maps = [projection(feature) for projection, feature in zip(self.projections, features, strict=True)]
        geometries = [
            _token_geometry(is_padding, (feature.shape[-2], feature.shape[-1]), stride, self.is_original)
            for feature, stride in zip(maps, self.strides, strict=True)
        ]
        positions = [self.position(geometry.is_padding, geometry.centers).flatten(1, 2) for geometry in geometries]
        maps[-1], weights = self._attend(maps[-1], positions[-1], geometries[-1], selection)
        if self.neck is not None:
            maps = self.neck(maps)
        return EncoderOutput(
            memory=torch.cat([_flatten(features) for features in maps], 1),
            position=torch.cat(positions, 1),
            centers=torch.cat([geometry.centers.flatten(1, 2) for geometry in geometries], 1),
            sizes=torch.cat([geometry.sizes.flatten(1, 2) for geometry in geometries], 1),
            is_padding=torch.cat([geometry.is_padding.flatten(1) for geometry in geometries], 1),
            grids=tuple((features.shape[-2], features.shape[-1]) for features in maps),
            spans=torch.stack([geometry.span for geometry in geometries], 1),
            attention=weights,
        )

    def _attend(
        self,
        coarsest: Tensor,
        position: Float[Tensor, "batch token dim"],
        geometry: "_TokenGeometry",
        selection: AttentionSelection | None,
    ) -> tuple[Tensor, Tensor | None]:
        tokens = _flatten(coarsest)
        attn_mask = ~geometry.is_padding.flatten(1)[:, None]
        recorder = None
        if selection is not None:
            batch, count, _ = tokens.shape
            shape = (len(self.layers), batch, self.heads, count, count)
            recorder = AttentionRecorder(
                "encoder", selection.encoder_layers, selection.heads, shape=shape, mean=selection.encoder_mean
            )
        for index, layer in enumerate(self.layers):
            arguments = (tokens, position, attn_mask, recorder is not None and recorder.needs(index))
            tokens, weights = recomputed(layer, *arguments) if self.recompute and self.training else layer(*arguments)
            if recorder is not None and weights is not None:
                recorder.add(index, weights)
        return tokens.transpose(1, 2).reshape(coarsest.shape), None if recorder is None else recorder.stack(like=tokens)


class TopDownNeck(nn.Module):
    """Adds each upsampled level to the next finer one (FPN, arXiv 1612.03144, section 3).

    A 3x3 convolution smooths each sum. The coarsest level is returned unchanged.
    """

    def __init__(self, dim: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.ratios = [coarse // fine for fine, coarse in pairwise(strides)]
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, kernel_size=3, padding=1), TokenNorm(dim), nn.ReLU()) for _ in self.ratios
        )

    def forward(self, maps: Sequence[Float[Tensor, "batch dim _ _"]]) -> list[Tensor]:
        """`maps` from the finest to the coarsest."""
        merged = [maps[-1]]
        for lateral, smooth, ratio in zip(
            reversed(maps[:-1]), reversed(self.smooth), reversed(self.ratios), strict=True
        ):
            coarser = _upsample(merged[0], ratio, (lateral.shape[-2], lateral.shape[-1]))
            merged.insert(0, smooth(lateral + coarser) + lateral)
        return merged


@dataclass(frozen=True)
class _TokenGeometry:
    """Centers, sizes and padding of the tokens of one level."""

    centers: Float[Tensor, "batch height width 2"]
    sizes: Float[Tensor, "batch height width 2"]
    is_padding: Bool[Tensor, "batch height width"]
    span: Float[Tensor, "batch 2"]


def _token_geometry(
    is_padding: Bool[Tensor, "batch image_height image_width"], grid: tuple[int, int], stride: int, is_original: bool
) -> _TokenGeometry:
    # Images are padded at the right and bottom, so the first row and column give their sizes.
    image_sizes = torch.stack([(~is_padding[:, 0, :]).sum(1), (~is_padding[:, :, 0]).sum(1)], dim=1)
    height, width = grid
    span = image_sizes / stride
    size = (1 / span.clamp(min=1 / stride))[:, None, None].expand(-1, height, width, -1)
    x = torch.arange(width, device=is_padding.device) + 0.5
    y = torch.arange(height, device=is_padding.device) + 0.5
    center = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1) * size
    if is_original:  # DETR resizes the mask to the grid
        padding = F.interpolate(is_padding[:, None].float(), size=grid)[:, 0].bool()
    else:
        padding = is_padding[:, ::stride, ::stride]
    return _TokenGeometry(center, size, padding, span)


def _flatten(features: Float[Tensor, "batch dim height width"]) -> Float[Tensor, "batch token dim"]:
    return features.flatten(2).transpose(1, 2)


def _upsample(coarse: Float[Tensor, "batch dim _ _"], ratio: int, grid: tuple[int, int]) -> Tensor:
    """Token (y, x) of the result is token (y // ratio, x // ratio) of the coarser level.

    Cropped instead of resized to the grid, which would shift tokens where a side is not a multiple of `ratio`.
    """
    return F.interpolate(coarse, scale_factor=ratio, mode="nearest")[:, :, : grid[0], : grid[1]]
