"""Encoder self-attention: where the token at a chosen point of the image looks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image

from detr_lite.structures import AttentionMaps, DetrLiteError
from detr_lite.viz.figures.attention import Heads, chosen_heads
from detr_lite.viz.figures.figure_layout import block_places, draw_box, draw_panel, empty_sheet, sheet_of
from detr_lite.viz.heatmap import overlay, reduced, token_heatmap

Point = tuple[int | float, int | float]
"""(x, y) in pixels of the original image, from its upper left corner."""

_UNIT = (
    "attention, in % of the panel's peak",
    "peak: largest share of the token's attention in one token",
    "square: the token in which the point lies, named by its row and column",
)
_LAYERS_IN_LINE = 6
_MARK = "#00e5ff"  # nowhere in the heatmap's colours


def points_figure(
    image: Image.Image,
    points: Sequence[Point],
    maps: AttentionMaps,
    index: int = 0,
    heads: Heads = "mean",
    note: str = "",
) -> Figure:
    """For each point the image with the token in which it lies, and that token's self-attention in each encoder layer.

    Tokens are those of the level among whose tokens the encoder attends, the coarsest. Every heatmap is scaled to its
    own peak, which its title gives as a share of the token's whole attention.

    Args:
        index: of the image in the batch.
        heads: "mean" for one panel for each layer; "all" or numbers, counted from 0, for a row for each layer, with a
            panel for each head ("all": and their mean).
        note: a line below the figure's title.

    Errors: a point outside the image, a head that is not there, a model whose encoder has no layer.
    """
    layers = maps.encoder.shape[0]
    if layers == 0:
        raise DetrLiteError(
            "the encoder's tokens look at nothing here: the model has no encoder layer (--model.encoder_layers 0), or "
            "none was kept"
        )
    needed = chosen_heads(heads, maps.encoder.shape[2])
    tokens = [point_token(point, image.size, maps, index) for point in points]
    picture = reduced(image)
    if not tokens:
        return empty_sheet("no points", image, picture)

    aspect = image.height / image.width
    if heads == "mean":
        blocks = block_places(len(points), False, layers, aspect, _LAYERS_IN_LINE)
    else:
        blocks = block_places(len(points) * layers, heads == "all", len(needed), aspect)
    which = "mean of heads" if heads == "mean" else "each head"
    sheet = sheet_of(
        f"Encoder self-attention of the token at each point, {which}" + (f"\n{note}" if note else ""),
        [place for block in blocks for place in block],
        aspect,
        _UNIT,
    )
    span = _span(maps, index)
    panels = iter(sheet.panels)
    for point, token in zip(points, tokens, strict=True):
        for layer in range(layers):
            if heads != "mean" or layer == 0:
                axes = next(panels)
                place = f"row {token[0]}, column {token[1]}" if heads == "mean" else f"encoder layer {layer}"
                draw_panel(axes, f"point {point[0]:.0f}, {point[1]:.0f}\n{place}", image, picture)
                draw_box(axes, token_box(token, image.size, maps, index), _MARK, rim="black")
                _mark(axes, point)
            for title, heat in _heats(maps, index, layer, token, heads):
                axes = next(panels)
                draw_panel(axes, f"{title}\npeak {heat.max():.1%}", image, overlay(picture, heat, span))
                _mark(axes, point)
    return sheet.figure


def point_token(point: Point, image_size: tuple[int, int], maps: AttentionMaps, index: int = 0) -> tuple[int, int]:
    """(row, column) of the coarsest level's token in which a point lies; the last one's where padding cuts it off.

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
    columns, rows = _unpadded(maps, index)
    across, down = _span(maps, index)
    return min(int(y / height * down), rows - 1), min(int(x / width * across), columns - 1)


def token_box(
    token: tuple[int, int], image_size: tuple[int, int], maps: AttentionMaps, index: int = 0
) -> tuple[float, float, float, float]:
    """The pixels (x0, y0, x1, y1) that a token (row, column) stands for, as far as they belong to the image."""
    row, column = token
    width, height = image_size
    across, down = _span(maps, index)
    x0, x1 = (min(edge / across, 1.0) * width for edge in (column, column + 1))
    y0, y1 = (min(edge / down, 1.0) * height for edge in (row, row + 1))
    return x0, y0, x1, y1


def _heats(
    maps: AttentionMaps, index: int, layer: int, token: tuple[int, int], heads: Heads
) -> list[tuple[str, Float[np.ndarray, "height width"]]]:
    grid = maps.encoder_grids[-1]
    tokens = maps.encoder.shape[-1]
    is_padding = maps.is_padding[index, -tokens:]  # the coarsest levels come last
    weights = maps.encoder[layer, index, :, tokens - grid[0] * grid[1] + token[0] * grid[1] + token[1]]
    by_head = [
        token_heatmap(weights[head], maps.encoder_grids, is_padding) for head in chosen_heads(heads, len(weights))
    ]
    mean = np.mean(by_head, axis=0)
    if heads == "mean":
        return [(f"layer {layer}", mean)]
    each = [(f"head {head}", heat) for head, heat in zip(chosen_heads(heads, len(weights)), by_head, strict=True)]
    return [("mean of heads", mean), *each] if heads == "all" else each


def _unpadded(maps: AttentionMaps, index: int) -> tuple[int, int]:
    """(columns, rows) of the coarsest level that are not padding, which lies at the right and at the bottom."""
    rows, columns = maps.encoder_grids[-1]
    is_image = ~maps.is_padding[index, -rows * columns :].view(rows, columns)
    return int(is_image.any(dim=0).sum()), int(is_image.any(dim=1).sum())


def _span(maps: AttentionMaps, index: int) -> tuple[float, float]:
    """The image's (width, height) in tokens of the coarsest level; the last tokens may reach beyond it."""
    if maps.spans is None:
        columns, rows = _unpadded(maps, index)
        return float(columns), float(rows)
    across, down = maps.spans[index, -1].tolist()
    return across, down


def _mark(axes: Axes, point: Point) -> None:
    stroke = withStroke(linewidth=2.6, foreground="black")
    axes.plot(*point, "o", markersize=5, fillstyle="none", color=_MARK, markeredgewidth=1.2, path_effects=[stroke])
