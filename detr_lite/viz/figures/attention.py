"""Which part of the image each query looked at, as heatmaps over the image."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image

from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.viz.draw import class_color
from detr_lite.viz.figures.figure_layout import (
    SMALL,
    block_places,
    draw_box,
    draw_panel,
    empty_sheet,
    scored_name,
    sheet_of,
)
from detr_lite.viz.heatmap import overlay, reduced, token_heatmap

__all__ = ["Heads", "attention_figure", "overlay", "token_heatmap"]

Heads = Literal["all", "mean"] | Sequence[int]

CROSS_UNIT = (
    "attention, in % of the panel's peak",
    "peak: largest share of the query's attention in one cell of the finest grid",
)


def attention_figure(
    image: Image.Image,
    detections: Detections,
    maps: AttentionMaps,
    index: int = 0,
    most: int | None = 6,
    layer: int | None = None,
    heads: Heads = "all",
    note: str = "",
) -> Figure:
    """A decoder layer's cross-attention for the best detections of image `index` of the batch.

    For each detection the image with its box, the mean over heads, and each head. Every heatmap is scaled to its own
    peak, which its title gives as a share of the query's whole attention, so that a head that looks at many places is
    as readable as one that looks at a single one.

    Args:
        most: so many detections are shown; None for all.
        layer: counted from 0; by default the last.
        heads: "all" with their mean, "mean" alone, or the heads of these numbers, counted from 0.
        note: a line below the figure's title.

    Errors: a layer or head that the model does not have.
    """
    layers = maps.cross.shape[0]
    layer = layers - 1 if layer is None else layer
    needed = chosen_heads(heads, maps.cross.shape[2])
    check_exists("decoder layer", [layer], layers)
    picture = reduced(image)  # once: of a large photograph it takes longer than all the rest
    shown = len(detections) if most is None else min(most, len(detections))
    if shown == 0:
        return empty_sheet("no detections", image, picture)

    aspect = image.height / image.width
    blocks = block_places(shown, isinstance(heads, str), 0 if heads == "mean" else len(needed), aspect)
    which = "the last decoder layer" if layer == layers - 1 else f"decoder layer {layer} (of 0 to {layers - 1})"
    title = f"Cross-attention of {which}" + (f"\n{note}" if note else "")
    sheet = sheet_of(title, [place for block in blocks for place in block], aspect, CROSS_UNIT)
    panels = iter(sheet.panels)
    for number in range(shown):
        query, label = int(detections.queries[number]), int(detections.labels[number])
        box_xyxy = detections.boxes_xyxy[number].tolist()
        name = scored_name(label, float(detections.scores[number]), detections.class_names, SMALL, sheet.room)
        axes = next(panels)
        draw_panel(axes, f"{name}\nquery {query}", image, picture)
        draw_box(axes, box_xyxy, [channel / 255 for channel in class_color(label)], rim="white")
        for title, heat in query_heats(maps, index, layer, query, heads):
            axes = next(panels)
            draw_panel(axes, f"{title}\npeak {heat.max():.1%}", image, overlay(picture, heat, finest_span(maps, index)))
            draw_box(axes, box_xyxy, "white", rim="black")  # a class's colour may be one of the heatmap's
    return sheet.figure


def query_heats(
    maps: AttentionMaps, index: int, layer: int, query: int, heads: Heads
) -> list[tuple[str, Float[np.ndarray, "height width"]]]:
    """What a query looked at in a layer: the mean of heads and each head, as far as they are wanted, with titles."""
    weights = maps.cross[layer, index, :, query]
    needed = chosen_heads(heads, len(weights))
    by_head = [token_heatmap(weights[head], maps.grids, maps.is_padding[index]) for head in needed]
    heats = [("mean of heads", np.mean(by_head, axis=0))] if isinstance(heads, str) else []
    if heads != "mean":
        heats += [(f"head {head}", heat) for head, heat in zip(needed, by_head, strict=True)]
    return heats


def finest_span(maps: AttentionMaps, index: int) -> tuple[float, float] | None:
    """The image's (width, height) in tokens of the finest level, where that is known."""
    if maps.spans is None:
        return None
    finest = max(range(len(maps.grids)), key=lambda level: maps.grids[level][0] * maps.grids[level][1])
    width, height = maps.spans[index, finest].tolist()
    return width, height


def chosen_heads(heads: Heads, count: int) -> Sequence[int]:
    """The numbers of the heads that are needed. Errors: one that is not there."""
    if isinstance(heads, str):
        return range(count)
    check_exists("head", heads, count)
    return heads


def check_exists(what: str, numbers: Sequence[int], count: int) -> None:
    for number in numbers:
        if not 0 <= number < count:
            there = ", ".join(map(str, range(count)))
            raise DetrLiteError(f"there is no {what} {number}; this model has {there}")
