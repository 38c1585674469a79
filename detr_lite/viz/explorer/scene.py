"""What the explorer's page holds of an image: the picture, what was found, and as much attention as a budget allows."""

import base64
import io
import json
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from detr_lite.structures import AttentionMaps, Detections
from detr_lite.text import printable
from detr_lite.viz.draw import class_name
from detr_lite.viz.explorer.quantize import quantize_rows

LONGEST_SIDE, THUMBNAIL = 800, 112
"""Pixels of the picture and of its small copy; nothing is enlarged."""
LOW_SCORE = 0.3
"""Queries whose detections reach it come before all other attention, as far as `_SHARE` of the budget goes."""
_SHARE = 0.6
_PAGE = 200_000
"""Bytes that the page needs beside its images."""


@dataclass(frozen=True)
class PackedScene:
    """One image, ready for the page."""

    facts: dict[str, Any]
    """What goes into the page's JSON."""
    texts: dict[str, str]
    """What is decoded only when the image is looked at: the picture as a data URI, and rows of weights."""
    left_out: tuple[str, ...]
    """What the budget had no room for, in words."""


def pack_scene(
    name: str,
    image: Image.Image,
    detections: Detections,
    attention: AttentionMaps,
    truth: Detections | None = None,
    budget: int = 8_000_000,
) -> PackedScene:
    """Pack one image with the attention of a batch of one.

    In order, as far as there is room: self-attention of the queries (of each head if that is a tenth of the room,
    else the mean), cross-attention of the queries that found something, self-attention of the encoder (mean over
    heads, the last layers first), cross-attention of the other queries, best score first.

    Args:
        detections: all candidates, best first, with boxes in pixels of `image`.
        truth: the true objects, with class names of their own.
        budget: bytes for this image in the page.
    """
    layers, _, heads, queries, _ = attention.cross.shape
    is_image = ~attention.is_padding[0].cpu()
    levels = _levels(attention)
    encoder_layers = len(attention.encoder)
    facts: dict[str, Any] = {
        "name": printable(name),
        "width": image.width,
        "height": image.height,
        "thumbnail": _picture(image, THUMBNAIL),
        "found": {
            "boxes": _rounded(detections.boxes_xyxy),
            "scores": [round(score, 4) for score in detections.scores.tolist()],
            "labels": detections.labels.tolist(),
            "queries": detections.queries.tolist(),
        },
        "truth": None if truth is None else {"boxes": _rounded(truth.boxes_xyxy), "names": names_of(truth)},
        "layers": layers,
        "heads": heads,
        "queries": queries,
        "levels": levels,
        "encoderLayers": encoder_layers,
        "encoderLevels": levels[len(levels) - len(attention.encoder_grids) :],
    }
    texts = {"picture": _picture(image, LONGEST_SIDE)}
    room = float(budget) - _PAGE - len(texts["picture"]) - len(json.dumps(facts)) - 8 * queries
    left_out = []

    among = attention.queries[:, 0]
    facts["amongHeads"] = heads
    text = quantize_rows(among).text(room / 10)
    if text is None:
        text = quantize_rows(among.mean(1, keepdim=True)).text(room / 4)
        facts["amongHeads"] = int(text is not None)
        what = "head by head (their mean is here)" if text else "to each other"
        left_out.append(f"the queries' self-attention {what}")
    if text is not None:
        texts["among"] = text
        room -= len(text)

    by_query = attention.cross[:, 0, :, :, is_image].permute(2, 0, 1, 3)
    order = _best_first(detections, queries)
    first = _best_first(detections.above(LOW_SCORE), 0)
    kept, spent = _that_fit(by_query, first, _SHARE * room)
    room -= spent

    encoder_is_image = is_image[len(is_image) - attention.encoder.shape[-1] :]
    encoder_rows: list[str] = []
    for layer in reversed(range(encoder_layers)):
        weights = attention.encoder[layer, 0].mean(0)[encoder_is_image][:, encoder_is_image]
        text = quantize_rows(weights).text(room)
        if text is None:
            break
        encoder_rows.insert(0, text)
        room -= len(text)
    facts["firstEncoderLayer"] = encoder_layers - len(encoder_rows)
    texts |= {f"encoder-{facts['firstEncoderLayer'] + place}": text for place, text in enumerate(encoder_rows)}
    if len(encoder_rows) < encoder_layers:
        left_out.append(f"{encoder_layers - len(encoder_rows)} of {encoder_layers} encoder layers (the first ones)")

    more, _ = _that_fit(by_query, [query for query in order if query not in kept], room)
    facts["kept"] = kept + more
    text = quantize_rows(by_query[facts["kept"]]).text()
    assert text is not None, "without a limit there is always room"
    texts["cross"] = text
    if len(facts["kept"]) < queries:
        left_out.append(
            f"where {queries - len(facts['kept'])} of {queries} queries looked (those whose scores are lowest)"
        )
    facts["leftOut"] = left_out
    return PackedScene(facts, texts, tuple(left_out))


def names_of(found: Detections) -> list[str]:
    """The class name of each, as the page shows it."""
    return [class_name(label, found.class_names) for label in found.labels.tolist()]


def _levels(attention: AttentionMaps) -> list[dict[str, float | int]]:
    """Each level's grid without padding, and how many of its tokens the image is wide and high, not rounded."""
    levels: list[dict[str, float | int]] = []
    paddings = torch.split(attention.is_padding[0], [height * width for height, width in attention.grids])
    for index, (padding, grid) in enumerate(zip(paddings, attention.grids, strict=True)):
        height, width = _unpadded(padding, grid)
        if attention.spans is not None:
            span_width, span_height = attention.spans[0, index].tolist()
        elif index == 0:
            span_width, span_height = float(width), float(height)
        else:  # a side of the coarser grid is less than a token too large
            fine_width, fine_height = levels[0]["spanWidth"], levels[0]["spanHeight"]
            ratio = max(2 ** ceil(log2(fine_width / width)), 2 ** ceil(log2(fine_height / height)))
            span_width, span_height = fine_width / ratio, fine_height / ratio
        levels.append({"width": width, "height": height, "spanWidth": span_width, "spanHeight": span_height})
    return levels


def _unpadded(padding: Bool[Tensor, " token"], grid: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of what is left of a grid: padding lies at the right and at the bottom."""
    is_image = ~padding.view(grid)
    return int(is_image.any(dim=1).sum()), int(is_image.any(dim=0).sum())


def _best_first(found: Detections, queries: int) -> list[int]:
    """The queries of the detections, each once, then the rest of so many queries."""
    return list(dict.fromkeys([*found.queries.tolist(), *range(queries)]))


def _that_fit(
    by_query: Float[Tensor, "query layer head token"], order: list[int], room: float
) -> tuple[list[int], int]:
    """The first queries whose rows have room, and what they need; together they compress no worse than one by one."""
    kept, spent = [], 0
    for query in order:
        text = quantize_rows(by_query[query]).text(room - spent)
        if text is None:
            break
        kept.append(query)
        spent += len(text)
    return kept, spent


def _rounded(boxes_xyxy: Float[Tensor, "box 4"]) -> list[list[float]]:
    return [[round(side, 1) for side in box] for box in boxes_xyxy.tolist()]


def _picture(image: Image.Image, longest: int) -> str:
    """A data URI."""
    picture = image.convert("RGB")
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
