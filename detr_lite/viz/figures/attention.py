"""A decoder layer's cross-attention of each detection's query, as heatmaps over the image."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from detr_lite.structures import AttentionMaps, Detections, DetrLiteError
from detr_lite.viz.close_up import views_of
from detr_lite.viz.figures.attention_panels import (
    PART_LABEL,
    QueryHeatmap,
    QueryView,
    boxes_of_last,
    draw_heatmap_panels,
    draw_image_panel,
    title_lines,
)
from detr_lite.viz.figures.figure_layout import SMALL, arrange_blocks, class_and_score, layout_panels, single_panel
from detr_lite.viz.figures.sampled_points import DOTS_LABEL
from detr_lite.viz.heatmap import overlay, reduced, token_heatmap

__all__ = ["Heads", "attention_figure", "overlay", "token_heatmap"]

Heads = Literal["all", "mean"] | Sequence[int]

_LABEL = (
    "attention, in % of the panel's peak",
    "peak: largest share of the query's attention in one cell of the finest grid",
)


def attention_figure(
    image: Image.Image,
    detections: Detections,
    maps: AttentionMaps,
    index: int = 0,
    max_detections: int | None = 6,
    layer: int | None = None,
    heads: Heads = "all",
    note: str = "",
    below: float | None = None,
) -> Figure:
    """A decoder layer's cross-attention for the highest-scoring detections of image `index` of the batch.

    For each detection the image with its box, the mean over heads, and each head. Every heatmap is scaled to its own
    peak, which the panel's title gives as a share of the query's attention, so that a head that attends to many places
    is as legible as one that attends to a single place. Deformable attention has a dot for each point that the head
    samples. A second row of panels shows the part of the image around a box that is small.

    Args:
        max_detections: how many detections are shown at most; None for all.
        layer: counted from 0; by default the last.
        heads: "all" with their mean, "mean" alone, or indices of heads, counted from 0.
        note: a line below the figure's title.
        below: these are the best guesses, none of which reaches this threshold; boxes are dashed, the title says so.

    Errors: a layer or head that the model does not have.
    """
    layers = maps.cross.shape[0]
    layer = layers - 1 if layer is None else layer
    selected = select_heads(heads, maps.cross.shape[2])
    check_exists("decoder layer", [layer], layers)
    picture = reduced(image)  # once: for a large photograph it takes longer than everything else
    shown = detections[:max_detections]
    if len(shown) == 0:
        return single_panel("no detections", image, picture)

    aspect = image.height / image.width
    views = [views_of(box_xyxy, image.size) for box_xyxy in shown.boxes_xyxy.tolist()]
    blocks = arrange_blocks(
        sum(map(len, views)), isinstance(heads, str), 0 if heads == "mean" else len(selected), aspect
    )
    which = "the last decoder layer" if layer == layers - 1 else f"decoder layer {layer} (of 0 to {layers - 1})"
    title = title_lines(f"Cross-attention of {which}", boxes_of_last(layers), below, note)
    cells = [cell for block in blocks for cell in block]
    layout = layout_panels(title, cells, aspect, color_bar_label(maps, any(len(each) > 1 for each in views)))
    panels = iter(layout.panels)
    for number in range(len(shown)):
        query, label = int(shown.queries[number]), int(shown.labels[number])
        box_xyxy = shown.boxes_xyxy[number].tolist()
        name = class_and_score(label, float(shown.scores[number]), shown.class_names, SMALL, layout.title_width)
        heatmaps = query_heatmaps(maps, index, layer, query, heads)
        for part in views[number]:
            view = QueryView(image, picture, box_xyxy, label, below is not None, part)
            title = f"{name}\nquery {query}" if part is None else f"{name}\npart of the image"
            draw_image_panel(next(panels), title, view, views[number][-1] if part is None else None)
            draw_heatmap_panels(panels, view, heatmaps, maps, index, layer, query)
    return layout.figure


def query_heatmaps(maps: AttentionMaps, index: int, layer: int, query: int, heads: Heads) -> list[QueryHeatmap]:
    """Heatmaps of a query's cross-attention in a layer: the mean of heads and each head, as selected."""
    device = maps.is_padding.device
    weights = maps.rows_of(torch.tensor([index], device=device), torch.tensor([query], device=device))[0, layer]
    selected = select_heads(heads, len(weights))
    by_head = [token_heatmap(weights[head], maps, index) for head in selected]
    heatmaps = [QueryHeatmap("mean of heads", np.mean(by_head, axis=0), None)] if isinstance(heads, str) else []
    if heads != "mean":
        heatmaps += [
            QueryHeatmap(f"head {head}", heatmap, head) for head, heatmap in zip(selected, by_head, strict=True)
        ]
    return heatmaps


def color_bar_label(maps: AttentionMaps, has_parts: bool) -> tuple[str, ...]:
    """The lines below the color bar of a figure of cross-attention; `has_parts`: it shows parts of the image."""
    return (*_LABEL, *([] if maps.sampled is None else [DOTS_LABEL]), *([PART_LABEL] if has_parts else []))


def select_heads(heads: Heads, count: int) -> Sequence[int]:
    """Indices of the heads that are needed, of `count` heads. Errors: one that does not exist."""
    if isinstance(heads, str):
        return range(count)
    check_exists("head", heads, count)
    return heads


def check_exists(what: str, indices: Sequence[int], count: int) -> None:
    for index in indices:
        if not 0 <= index < count:
            existing = ", ".join(map(str, range(count)))
            raise DetrLiteError(f"there is no {what} {index}; this model has {existing}")
