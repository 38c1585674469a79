"""The encoder's self-attention from given points of the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from detr_lite.structures import AttentionMaps, DetrLiteError
from detr_lite.viz.figures.attention import Heads, select_heads
from detr_lite.viz.figures.figure_layout import arrange_blocks, draw_box, draw_panel, layout_panels, single_panel
from detr_lite.viz.heatmap import overlay, reduced, token_heatmap

Point = tuple[int | float, int | float]
"""(x, y) in pixels of the original image, from its upper left corner."""

_SELF_ATTENTION_LABEL = (
    "attention, in % of the panel's peak",
    "peak: largest share of the token's attention in one token",
    "square: the token that contains the point, with its row and column",
)
_LAYERS_PER_ROW = 6
_MARKER_COLOR = "#00e5ff"  # not one of the heatmap's colors


def points_figure(
    image: Image.Image,
    points: Sequence[Point],
    maps: AttentionMaps,
    index: int = 0,
    heads: Heads = "mean",
    note: str = "",
) -> Figure:
    """For each point the image with the token that contains it, and the token's self-attention in each encoder layer.

    Tokens are those of the level with self-attention, in most models the coarsest. Every heatmap is scaled to its own
    peak, which the panel's title gives as a share of the token's attention.

    Args:
        index: of the image in the batch.
        heads: "mean" for one panel for each layer; "all" or indices, counted from 0, for a row for each layer, with a
            panel for each head ("all": and their mean).
        note: a line below the figure's title.

    Errors: a point outside the image, a head that does not exist, an encoder without dense self-attention.
    """
    layers = maps.encoder.shape[0]
    if layers == 0:
        raise DetrLiteError(_why_nothing(maps))
    selected = select_heads(heads, maps.encoder.shape[2])
    tokens = [point_token(point, image.size, maps, index) for point in points]
    picture = reduced(image)
    if not tokens:
        return single_panel("no points", image, picture)

    aspect = image.height / image.width
    if heads == "mean":
        blocks = arrange_blocks(len(points), False, layers, aspect, _LAYERS_PER_ROW)
    else:
        blocks = arrange_blocks(len(points) * layers, heads == "all", len(selected), aspect)
    which = "mean of heads" if heads == "mean" else "each head"
    layout = layout_panels(
        f"Encoder self-attention of the token at each point, {which}" + (f"\n{note}" if note else ""),
        [cell for block in blocks for cell in block],
        aspect,
        _SELF_ATTENTION_LABEL,
    )
    span = _image_span(maps, index)
    panels = iter(layout.panels)
    for point, token in zip(points, tokens, strict=True):
        for layer in range(layers):
            if heads != "mean" or layer == 0:
                axes = next(panels)
                position = f"row {token[0]}, column {token[1]}" if heads == "mean" else f"encoder layer {layer}"
                draw_panel(axes, f"point {point[0]:.0f}, {point[1]:.0f}\n{position}", image, picture)
                draw_box(axes, token_box(token, image.size, maps, index), _MARKER_COLOR, outline="black")
                _mark(axes, point)
            for title, heatmap in _heatmaps(maps, index, layer, token, heads):
                axes = next(panels)
                draw_panel(axes, f"{title}\npeak {heatmap.max():.1%}", image, overlay(picture, heatmap, span))
                _mark(axes, point)
    return layout.figure


def _why_nothing(maps: AttentionMaps) -> str:
    if maps.sampled is not None:
        return (
            "there is no encoder self-attention to draw: the encoder of this model has no dense self-attention (it is "
            "deformable, in windows, or convolutional); draw the decoder's attention, with --figure queries or layers"
        )
    return (
        "there is no encoder self-attention to draw: the model has no encoder layers (--model.encoder_layers 0) or "
        "none was selected"
    )


def point_token(point: Point, image_size: tuple[int, int], maps: AttentionMaps, index: int = 0) -> tuple[int, int]:
    """(row, column) of the token of the encoder's level that contains a point.

    Args:
        image_size: (width, height) of the original image.

    Errors: a point outside the image.
    """
    width, height = image_size
    x, y = point
    if not (0 <= x <= width and 0 <= y <= height):
        raise DetrLiteError(
            f"point {x:g},{y:g} lies outside the image of {width} x {height} pixels; give x from 0 to {width} and y "
            f"from 0 to {height}"
        )
    rows, columns = maps.unpadded_grid(index, maps.encoder_level)
    across, down = _image_span(maps, index)
    return min(int(y / height * down), rows - 1), min(int(x / width * across), columns - 1)


def token_box(
    token: tuple[int, int], image_size: tuple[int, int], maps: AttentionMaps, index: int = 0
) -> tuple[float, float, float, float]:
    """The box (x0, y0, x1, y1) of a token (row, column) in pixels, clipped to the image."""
    row, column = token
    width, height = image_size
    across, down = _image_span(maps, index)
    x0, x1 = (min(edge / across, 1.0) * width for edge in (column, column + 1))
    y0, y1 = (min(edge / down, 1.0) * height for edge in (row, row + 1))
    return x0, y0, x1, y1


def _heatmaps(
    maps: AttentionMaps, index: int, layer: int, token: tuple[int, int], heads: Heads
) -> list[tuple[str, Float[np.ndarray, "height width"]]]:
    height, width = maps.encoder_grids[-1]
    tokens = maps.encoder.shape[-1]
    weights = maps.encoder[layer, index, :, tokens - height * width + token[0] * width + token[1]]
    selected = select_heads(heads, len(weights))
    by_head = [token_heatmap(weights[head], maps, index) for head in selected]
    mean = np.mean(by_head, axis=0)
    if heads == "mean":
        return [(f"layer {layer}", mean)]
    each = [(f"head {head}", heatmap) for head, heatmap in zip(selected, by_head, strict=True)]
    return [("mean of heads", mean), *each] if heads == "all" else each


def _image_span(maps: AttentionMaps, index: int) -> tuple[float, float]:
    """The image's (width, height) in tokens of the encoder's level; the last tokens may reach beyond it."""
    across, down = maps.spans[index, maps.encoder_level].tolist()
    return across, down


def _mark(axes: Axes, point: Point) -> None:
    stroke = withStroke(linewidth=2.6, foreground="black")
    style: dict[str, Any] = {"markersize": 5, "fillstyle": "none", "color": _MARKER_COLOR, "markeredgewidth": 1.2}
    axes.plot(*point, "o", path_effects=[stroke], **style)
