"""The data of an image for the explorer: its picture, its detections, and as much attention as fits a budget."""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from detr_lite.drawing.boxes import class_name
from detr_lite.evaluation.attribution import ImageAttribution
from detr_lite.evaluation.missed import ImageOutcome
from detr_lite.structures import AttentionMaps, Detections
from detr_lite.text import printable
from detr_lite.viz.explorer.attention_data import describe_attention, is_image_token, pack_attention
from detr_lite.viz.explorer.attribution import LEFT_OUT, pack_attribution
from detr_lite.viz.explorer.outcomes import nearest_queries, pack_outcome

LONGEST_SIDE, THUMBNAIL = 800, 112
"""Pixels of the picture and of its thumbnail; nothing is enlarged."""
LOW_SCORE = 0.3
"""Cross-attention of queries with such a detection comes before the encoder's attention."""
_PAGE_BYTES = 247_000
"""Of the page itself, beside its images."""


@dataclass(frozen=True)
class PackedScene:
    """One image, or one sentence, ready for the page."""

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
    outcome: ImageOutcome | None = None,
    attribution: ImageAttribution | None = None,
    crowds: Detections | None = None,
) -> PackedScene:
    """Pack one image with the attention maps of a batch of one, in the order of `pack_attention`.

    Args:
        detections: all candidates in descending order of scores, with boxes in pixels of `image`.
        truth: the ground-truth objects, with class names of their own.
        budget: bytes for this image in the page.
        by_query: every query's own box and best class; without, a query that detects nothing has neither in the page.
        outcome: what became of the objects of `truth`; the attention of the queries nearest to them comes early.
        attribution: relevance and occlusion of some detections; the attention of their queries comes first.
        crowds: regions that are annotated as crowds, which are no objects.
    """
    packed: dict[str, Any] | None = None
    maps: dict[str, str] = {}
    if attribution is not None and attribution.queries:
        packed, maps = pack_attribution(attribution, is_image_token(attention))
    metadata = {
        "kind": "boxes",
        "detections": {
            "boxes": _rounded(detections.boxes_xyxy),
            "scores": [round(score, 4) for score in detections.scores.tolist()],
            "labels": detections.labels.tolist(),
            "queries": detections.queries.tolist(),
        },
        "outcome": None if outcome is None else pack_outcome(outcome),
        "querySummaries": _query_summaries(detections, by_query, attention.cross.shape[3]),
        "truth": None if truth is None else true_boxes(truth),
        "attribution": packed,
        "crowds": None if crowds is None else true_boxes(crowds),
    }
    attributed = [] if packed is None else packed["queries"]
    first = [*attributed, *detections.above(LOW_SCORE).queries.tolist(), *nearest_queries(outcome)]
    return assemble(name, image, metadata, attention, first, detections.queries.tolist(), budget, maps)


def assemble(
    name: str,
    image: Image.Image | None,
    metadata: dict[str, Any],
    attention: AttentionMaps,
    first: Iterable[int],
    order: Sequence[int],
    budget: int,
    maps: Mapping[str, str] = MappingProxyType({}),
) -> PackedScene:
    """The scene with the metadata of its task.

    Args:
        first: queries whose cross-attention comes before the encoder's attention.
        order: in which the others follow; those that it lacks come last.
        maps: the blobs of the metadata's `attribution`; both are left out where they would take more than they leave.
    """
    common = {
        "name": printable(name),
        "width": 1 if image is None else image.width,
        "height": 1 if image is None else image.height,
        "thumbnail": None if image is None else encode_picture(image, THUMBNAIL),
    }
    metadata = common | metadata | describe_attention(attention)
    blobs = {} if image is None else {"picture": encode_picture(image, LONGEST_SIDE)}
    queries = attention.cross.shape[3]
    taken = _PAGE_BYTES + len(blobs.get("picture", "")) + len(json.dumps(metadata)) + 8 * queries
    free = budget - taken - _length(maps)
    left_out: tuple[str, ...] = ()
    size = _length(maps) + len(json.dumps(metadata.get("attribution")))
    if maps and size > free:
        metadata, maps, left_out, free = metadata | {"attribution": None}, {}, (LEFT_OUT,), free + size
    found, weights, exceeding = pack_attention(
        attention, _unique(first), _unique([*order, *range(queries)]), float(free)
    )
    left_out += exceeding
    return PackedScene(metadata | found | {"leftOut": list(left_out)}, blobs | dict(maps) | weights, left_out)


def true_boxes(truth: Detections) -> dict[str, Any]:
    """Ground truth as the page has it."""
    names = [class_name(label, truth.class_names) for label in truth.labels.tolist()]
    return {"boxes": _rounded(truth.boxes_xyxy), "names": names}


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


def _length(blobs: Mapping[str, str]) -> int:
    return sum(map(len, blobs.values()))


def _unique(queries: Iterable[int]) -> list[int]:
    """In order of first occurrence."""
    return list(dict.fromkeys(queries))


def _rounded(boxes_xyxy: Float[Tensor, "box 4"]) -> list[list[float]]:
    return [[round(side, 1) for side in box] for box in boxes_xyxy.tolist()]


def encode_picture(image: Image.Image, longest_side: int) -> str:
    """A JPEG as a data URI."""
    picture = image.convert("RGB")
    picture.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
