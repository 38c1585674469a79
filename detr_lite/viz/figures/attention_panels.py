"""Panels of a figure of a query's attention: the image with the query's box, and heatmaps, whole or a part of it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from PIL import Image

from detr_lite.drawing.boxes import class_color
from detr_lite.structures import AttentionMaps
from detr_lite.viz.close_up import Part
from detr_lite.viz.figures.figure_layout import draw_box, draw_panel, outline_part
from detr_lite.viz.figures.sampled_points import draw_sampled_points
from detr_lite.viz.guesses import guess_caption
from detr_lite.viz.heatmap import enlarged_part, finest_span, overlay

PART_LABEL = "dotted line: the part of the image that the next row shows"
"""A line below the color bar."""


class QueryHeatmap(NamedTuple):
    title: str
    values: Float[np.ndarray, "height width"]
    head: int | None
    """None: the mean of heads."""


class QueryView(NamedTuple):
    """A query's box in an image, or in the part of the image around it."""

    image: Image.Image
    picture: Image.Image
    """The image as large as a panel shows."""
    box_xyxy: Sequence[float]
    label: int
    is_guess: bool
    part: Part | None = None


def draw_image_panel(axes: Axes, title: str, view: QueryView, enlarged: Part | None = None) -> None:
    """The image with the query's box; `enlarged` is the part of it that the next row of panels shows."""
    picture = view.picture if view.part is None else enlarged_part(view.image, view.part)
    draw_panel(axes, title, view.image, picture, view.part)
    color = [channel / 255 for channel in class_color(view.label)]
    draw_box(axes, view.box_xyxy, color, "white", view.is_guess)
    if enlarged is not None:
        outline_part(axes, enlarged)


def draw_heatmap_panels(
    panels: Iterator[Axes],
    view: QueryView,
    heatmaps: Sequence[QueryHeatmap],
    maps: AttentionMaps,
    index: int,
    layer: int,
    query: int,
) -> None:
    """A panel for each heatmap: its title gives the peak of the whole, to which a part is scaled as well."""
    source = view.picture if view.part is None else view.image
    for title, heatmap, head in heatmaps:
        axes = next(panels)
        shown = overlay(source, heatmap, finest_span(maps, index), view.part)
        draw_panel(axes, f"{title}\npeak {heatmap.max():.1%}", view.image, shown, view.part)
        if head is not None:
            draw_sampled_points(axes, view.image.size, maps, index, layer, query, head)
        draw_box(axes, view.box_xyxy, "white", "black", view.is_guess)  # a class's color may be one of the heatmap's


def title_lines(title: str, boxes: str, below: float | None, note: str) -> str:
    """A figure's title: what it shows, whose boxes, whether they are guesses, and a note."""
    return "\n".join(filter(None, (title, boxes, "" if below is None else guess_caption(below), note)))


def boxes_of_last(layers: int) -> str:
    """Which layer's boxes a figure shows that shows those of detections."""
    return f"boxes of layer {layers - 1}, the last"
