"""As much of an image's attention as fits into its share of the page."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from detr_lite.structures import AttentionMaps
from detr_lite.viz.explorer.quantize import quantize_rows
from detr_lite.viz.explorer.queries import fit_queries, query_blobs

_DETECTION_SHARE = 0.6
"""Of the budget, for cross-attention of the first queries before the encoder's attention."""


def describe_attention(attention: AttentionMaps) -> dict[str, Any]:
    """What the page knows of the maps of a batch of one, beside their weights."""
    layers, _, heads, queries, _ = attention.cross.shape
    levels = [
        {"width": width, "height": height, "spanWidth": span_width, "spanHeight": span_height}
        for (height, width), (span_width, span_height) in zip(
            _grids(attention), attention.spans[0].tolist(), strict=True
        )
    ]
    return {
        "layers": layers,
        "heads": heads,
        "queries": queries,
        "levels": levels,
        "encoderLayers": len(attention.encoder),
        "encoderLevels": [levels[attention.encoder_level]],
        "pointLevels": None if attention.sampled is None else attention.sampled.level.tolist(),
        "selfHeads": attention.queries.shape[2],
    }


def pack_attention(
    attention: AttentionMaps, first: Sequence[int], order: Sequence[int], budget: float
) -> tuple[dict[str, Any], dict[str, str], tuple[str, ...]]:
    """Metadata, blobs, and descriptions of what exceeds the budget.

    In this order, as far as the budget goes: self-attention of the queries (of each head if that takes at most a tenth,
    else the mean), cross-attention of the `first` queries, self-attention of the encoder (mean over heads, the last
    layers first), cross-attention of the others in the given order.
    """
    queries, heads = attention.cross.shape[3], attention.cross.shape[2]
    blobs: dict[str, str] = {}
    left_out: list[str] = []

    self_attention = attention.queries[:, 0]
    self_heads = self_attention.shape[1]
    if self_heads != heads:  # the page selects heads of cross-attention
        self_attention = self_attention.mean(1, keepdim=True)
        self_heads = 1
    text = quantize_rows(self_attention).to_base64(budget / 10)
    if text is None:
        text = quantize_rows(self_attention.mean(1, keepdim=True)).to_base64(budget / 4)
        self_heads = int(text is not None)
        left_out.append("the queries' self-attention" + (" of each head (only the mean is included)" if text else ""))
    if text is not None:
        blobs["self-attention"] = text
        budget -= len(text)

    is_image = is_image_token(attention)
    included, size = fit_queries(attention, is_image, first, _DETECTION_SHARE * budget)
    budget -= size

    encoder_layers = len(attention.encoder)
    encoder_blobs: list[str] = []
    sizes = [height * width for height, width in attention.grids]
    encoder_is_image = torch.split(is_image, sizes)[attention.encoder_level]
    for layer in reversed(range(encoder_layers)):
        weights = attention.encoder[layer, 0].mean(0)[encoder_is_image][:, encoder_is_image]
        text = quantize_rows(weights).to_base64(budget)
        if text is None:
            break
        encoder_blobs.insert(0, text)
        budget -= len(text)
    first_layer = encoder_layers - len(encoder_blobs)
    blobs |= {f"encoder-{layer}": text for layer, text in enumerate(encoder_blobs, first_layer)}
    if first_layer > 0:
        left_out.append(f"{first_layer} of {encoder_layers} encoder layers (the first ones)")

    others, _ = fit_queries(attention, is_image, [query for query in order if query not in included], budget)
    included |= others
    blobs |= query_blobs(included)
    if len(included) < queries:
        missing = queries - len(included)
        left_out.append(f"cross-attention of {missing} of {queries} queries (those with the lowest scores)")
    metadata = {
        "selfAttentionHeads": self_heads,
        "firstEncoderLayer": first_layer,
        "includedQueries": list(included),
        "leftOut": left_out,
    }
    return metadata, blobs, tuple(left_out)


def _grids(attention: AttentionMaps) -> list[tuple[int, int]]:
    return [attention.unpadded_grid(0, level) for level in range(len(attention.grids))]


def is_image_token(attention: AttentionMaps) -> Bool[Tensor, " token"]:
    """False for padding, which is to the right of and below the unpadded part of each level's grid."""
    masks = []
    for grid, (height, width) in zip(attention.grids, _grids(attention), strict=True):
        mask = torch.zeros(grid, dtype=torch.bool)
        mask[:height, :width] = True
        masks.append(mask.flatten())
    return torch.cat(masks)
