"""The data of an image for the explorer: its picture, its detections, and as much attention as fits a budget."""

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from detr_lite.drawing.boxes import class_name
from detr_lite.structures import AttentionMaps, Detections
from detr_lite.text import printable
from detr_lite.viz.explorer.quantize import quantize_rows
from detr_lite.viz.explorer.queries import fit_queries, query_blobs

LONGEST_SIDE, THUMBNAIL = 800, 112
"""Pixels of the picture and of its thumbnail; nothing is enlarged."""
LOW_SCORE = 0.3
"""Cross-attention of queries with such a detection comes before the encoder's attention, up to `_DETECTION_SHARE`."""
_DETECTION_SHARE = 0.6
_PAGE_BYTES = 200_000
"""Of the page itself, beside its images."""


@dataclass(frozen=True)
class PackedScene:
    """One image, ready for the page."""

    metadata: dict[str, Any]
    """Goes into the page's JSON."""
    blobs: dict[str, str]
    """Decoded only when the image is opened: the picture as a data URI, and quantized attention weights."""
    left_out: tuple[str, ...]
    """Descriptions of the attention that exceeds the budget."""


def pack_scene(
    name: str,
    image: Image.Image,
    detections: Detections,
    attention: AttentionMaps,
    truth: Detections | None = None,
    budget: int = 8_000_000,
    by_query: Detections | None = None,
) -> PackedScene:
    """Pack one image with the attention maps of a batch of one.

    In this order, as far as the budget goes: self-attention of the queries (of each head if that takes at most a tenth,
    else the mean), cross-attention of queries with detections, self-attention of the encoder (mean over heads, the last
    layers first), cross-attention of the other queries, in order of scores.

    Args:
        detections: all candidates in descending order of scores, with boxes in pixels of `image`.
        truth: the ground-truth objects, with class names of their own.
        budget: bytes for this image in the page.
        by_query: every query's own box and best class; without, a query that detects nothing has neither in the page.
    """
    layers, _, heads, queries, _ = attention.cross.shape
    grids = [attention.unpadded_grid(0, level) for level in range(len(attention.grids))]
    levels = [
        {"width": width, "height": height, "spanWidth": span_width, "spanHeight": span_height}
        for (height, width), (span_width, span_height) in zip(grids, attention.spans[0].tolist(), strict=True)
    ]
    encoder_layers = len(attention.encoder)
    metadata: dict[str, Any] = {
        "name": printable(name),
        "width": image.width,
        "height": image.height,
        "thumbnail": _encode_picture(image, THUMBNAIL),
        "detections": {
            "boxes": _rounded(detections.boxes_xyxy),
            "scores": [round(score, 4) for score in detections.scores.tolist()],
            "labels": detections.labels.tolist(),
            "queries": detections.queries.tolist(),
        },
        "querySummaries": _query_summaries(detections, by_query, queries),
        "truth": None if truth is None else {"boxes": _rounded(truth.boxes_xyxy), "names": _names_of(truth)},
        "layers": layers,
        "heads": heads,
        "queries": queries,
        "levels": levels,
        "encoderLayers": encoder_layers,
        "encoderLevels": [levels[attention.encoder_level]],
        "pointLevels": None if attention.sampled is None else attention.sampled.level.tolist(),
    }
    blobs = {"picture": _encode_picture(image, LONGEST_SIDE)}
    remaining = float(budget) - _PAGE_BYTES - len(blobs["picture"]) - len(json.dumps(metadata)) - 8 * queries
    left_out = []

    self_attention = attention.queries[:, 0]
    metadata["selfHeads"] = metadata["selfAttentionHeads"] = self_attention.shape[1]
    if self_attention.shape[1] != heads:  # the page selects heads of cross-attention
        self_attention = self_attention.mean(1, keepdim=True)
        metadata["selfAttentionHeads"] = 1
    text = quantize_rows(self_attention).to_base64(remaining / 10)
    if text is None:
        text = quantize_rows(self_attention.mean(1, keepdim=True)).to_base64(remaining / 4)
        metadata["selfAttentionHeads"] = int(text is not None)
        left_out.append("the queries' self-attention" + (" of each head (only the mean is included)" if text else ""))
    if text is not None:
        blobs["self-attention"] = text
        remaining -= len(text)

    is_image = _is_image(attention, grids)
    order = _unique([*detections.queries.tolist(), *range(queries)])
    detecting = _unique(detections.above(LOW_SCORE).queries.tolist())
    included, size = fit_queries(attention, is_image, detecting, _DETECTION_SHARE * remaining)
    remaining -= size

    sizes = [height * width for height, width in attention.grids]
    encoder_is_image = torch.split(is_image, sizes)[attention.encoder_level]
    encoder_blobs: list[str] = []
    for layer in reversed(range(encoder_layers)):
        weights = attention.encoder[layer, 0].mean(0)[encoder_is_image][:, encoder_is_image]
        text = quantize_rows(weights).to_base64(remaining)
        if text is None:
            break
        encoder_blobs.insert(0, text)
        remaining -= len(text)
    first_layer = encoder_layers - len(encoder_blobs)
    metadata["firstEncoderLayer"] = first_layer
    blobs |= {f"encoder-{layer}": text for layer, text in enumerate(encoder_blobs, first_layer)}
    if first_layer > 0:
        left_out.append(f"{first_layer} of {encoder_layers} encoder layers (the first ones)")

    others, _ = fit_queries(attention, is_image, [query for query in order if query not in included], remaining)
    included |= others
    metadata["includedQueries"] = list(included)
    blobs |= query_blobs(included)
    if len(included) < queries:
        missing = queries - len(included)
        left_out.append(f"cross-attention of {missing} of {queries} queries (those with the lowest scores)")
    metadata["leftOut"] = left_out
    return PackedScene(metadata, blobs, tuple(left_out))


def _is_image(attention: AttentionMaps, grids: list[tuple[int, int]]) -> Bool[Tensor, " token"]:
    """False for padding, which is to the right of and below the unpadded part of each level's grid."""
    masks = []
    for grid, (height, width) in zip(attention.grids, grids, strict=True):
        mask = torch.zeros(grid, dtype=torch.bool)
        mask[:height, :width] = True
        masks.append(mask.flatten())
    return torch.cat(masks)


def _query_summaries(detections: Detections, by_query: Detections | None, queries: int) -> list[dict[str, Any] | None]:
    """By query; None of one that nothing is known of."""
    summaries: list[dict[str, Any] | None] = [None] * queries
    for own in (detections, by_query):  # the latter replaces the former
        if own is None:
            continue
        rows = zip(
            own.queries.tolist(), _rounded(own.boxes_xyxy), own.labels.tolist(), own.scores.tolist(), strict=True
        )
        for query, box, label, score in reversed(list(rows)):  # the best of a query is its first
            summaries[query] = {"box": box, "label": label, "score": round(score, 4)}
    return summaries


def _unique(queries: list[int]) -> list[int]:
    """In order of first occurrence."""
    return list(dict.fromkeys(queries))


def _names_of(detections: Detections) -> list[str]:
    return [class_name(label, detections.class_names) for label in detections.labels.tolist()]


def _rounded(boxes_xyxy: Float[Tensor, "box 4"]) -> list[list[float]]:
    return [[round(side, 1) for side in box] for box in boxes_xyxy.tolist()]


def _encode_picture(image: Image.Image, longest_side: int) -> str:
    """A JPEG as a data URI."""
    picture = image.convert("RGB")
    picture.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
