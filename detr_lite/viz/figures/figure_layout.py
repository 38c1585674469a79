"""Layout of figures with many panels, each an image with a short title, that are legible 800 pixels wide.

No figure is wider than eight inches and no text smaller than 7 points: shown 800 pixels wide, that is 10 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter
from PIL import Image

from detr_lite.drawing.boxes import drawn_class_name
from detr_lite.drawing.fonts import LITERAL, AnyScriptFigure, text_length
from detr_lite.viz.close_up import Part
from detr_lite.viz.heatmap import COLORMAP

MAX_WIDTH = 8.0  # inches
SMALL, MEDIUM, LARGE = 7.0, 8.0, 10.0  # points
_POINTS = 72  # per inch

_PANEL_AREA = 2.6  # square inches, the same for tall and wide images
_MAX_ASPECT = 4.0  # of a panel; a longer image does not fill it
_MIN_WIDTH = 4.8  # inches that the color bar's labels need
_GAP, _MARGIN = 0.1, 0.08  # inches, between panels and around all of them
_LINE_HEIGHT = 1.25  # relative to the font size

Cell = tuple[int, int]
"""(row, column) of a panel."""


@dataclass(frozen=True)
class FigureLayout:
    figure: Figure
    panels: list[Axes]
    title_width: float
    """Points that a line of a panel's title may take."""


def arrange_blocks(blocks: int, has_mean: bool, heads: int, aspect: float, heads_per_row: int = 4) -> list[list[Cell]]:
    """The cells of each block of panels: the image, the mean if there is one, and the heads.

    More than `heads_per_row` heads (half as many for wide images) take several rows, with the mean below the image.
    """
    if aspect < 0.5:
        heads_per_row = max(1, heads_per_row // 2)
    rows = max(1, -(-heads // heads_per_row))
    first = 2 if has_mean and rows == 1 else 1  # column of the first head
    cells = [(0, 0)]
    if has_mean:
        cells.append((0, 1) if rows == 1 else (1, 0))
    cells += [(head // heads_per_row, first + head % heads_per_row) for head in range(heads)]
    return [[(block * rows + row, column) for row, column in cells] for block in range(blocks)]


def layout_panels(
    title: str, cells: Sequence[Cell], aspect: float, bar_label: Sequence[str], row_labels: Sequence[str] = ()
) -> FigureLayout:
    """A figure with empty panels in these cells, for images of this aspect ratio (height / width).

    Args:
        bar_label: lines below the color bar.
        row_labels: texts to the left of the rows, at most four lines each; "" is none.
    """
    rows, columns = 1 + max(row for row, _ in cells), 1 + max(column for _, column in cells)
    label_width = _GAP + max((text_width(line, MEDIUM) for text in row_labels for line in text.split("\n")), default=0)
    label_width = label_width / _POINTS if row_labels else 0.0
    column_width = (MAX_WIDTH - 2 * _MARGIN - label_width) / columns
    aspect = min(max(aspect, 1 / _MAX_ASPECT), _MAX_ASPECT)
    # A tall panel may be narrower than its title.
    column_width = min(column_width, max((_PANEL_AREA / aspect) ** 0.5, 1.0) + _GAP)
    width = min((_PANEL_AREA / aspect) ** 0.5, column_width - _GAP)
    height = width * aspect

    header = (_LINE_HEIGHT * LARGE * len(title.splitlines())) / _POINTS + 2 * _MARGIN
    panel_title = 2 * _LINE_HEIGHT * SMALL / _POINTS + _MARGIN
    label_height = _LINE_HEIGHT * MEDIUM * max((len(text.split("\n")) for text in row_labels), default=0) / _POINTS
    row_height = max(panel_title + height, label_height) + _MARGIN
    footer = _LINE_HEIGHT * (MEDIUM * len(bar_label) + SMALL) / _POINTS + 0.1 + 4 * _MARGIN

    titles_width = max(text_width(line, LARGE) for line in title.splitlines()) / _POINTS + 2 * _MARGIN
    content = label_width + columns * column_width
    size = np.array([max(content + 2 * _MARGIN, _MIN_WIDTH, titles_width), header + rows * row_height + footer])
    left = (size[0] - content) / 2
    figure = AnyScriptFigure(figsize=tuple(size))

    def add_axes(left: float, from_top: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / size[0], 1 - (from_top + height) / size[1], width / size[0], height / size[1]))

    panels = [
        add_axes(
            left + label_width + column * column_width + (column_width - width) / 2,
            header + row * row_height + panel_title,
            width,
            height,
        )
        for row, column in cells
    ]
    for row, text in enumerate(row_labels):
        middle = header + row * row_height + panel_title + max(height, label_height - panel_title) / 2
        figure.text(left / size[0], 1 - middle / size[1], text, va="center", fontsize=MEDIUM, **LITERAL)
    figure.suptitle(title, y=1 - _MARGIN / size[1], va="top", fontsize=LARGE, **LITERAL)
    _add_colorbar(add_axes(0.25 * size[0], size[1] - footer + _MARGIN, 0.5 * size[0], 0.1), bar_label)
    return FigureLayout(figure, panels, title_width=(column_width - _GAP / 2) * _POINTS)


def _add_colorbar(axes: Axes, lines: Sequence[str]) -> None:
    axes.figure.colorbar(
        ScalarMappable(cmap=COLORMAP), cax=axes, orientation="horizontal", format=PercentFormatter(1.0, decimals=0)
    )
    axes.tick_params(labelsize=SMALL, length=2, pad=1)
    axes.set_xlabel("\n".join(lines), fontsize=MEDIUM, labelpad=2)


def text_width(text: str, size: float) -> float:
    """Points that a line of text takes at a font size of `size` points."""
    return text_length(text, 100) * size / 100


def truncate(text: str, size: float, width: float) -> str:
    """The line of text, truncated with an ellipsis if it is wider than `width` points."""
    if text_width(text, size) <= width:
        return text
    length = len(text)
    while length and text_width(f"{text[:length]}…", size) > width:
        length -= 1
    return f"{text[:length].rstrip()}…"


def class_and_score(label: int, score: float, class_names: Sequence[str], size: float, width: float) -> str:
    """Class name and score; the name is truncated where both are wider than `width` points."""
    end = f" {score:.2f}"
    return truncate(drawn_class_name(label, class_names), size, width - text_width(end, size)) + end


def draw_panel(axes: Axes, title: str, image: Image.Image, picture: Image.Image, part: Part | None = None) -> None:
    """`picture` may be smaller or larger than the image or the part that it shows; the axes are in its pixels."""
    left, top, right, bottom = part or (0, 0, *image.size)
    axes.imshow(picture, extent=(left, right, bottom, top))
    axes.set_title(title, fontsize=SMALL, pad=2, linespacing=1.2, **LITERAL)
    axes.axis("off")


def draw_box(
    axes: Axes, box_xyxy: Sequence[float], color: str | list[float], outline: str, is_guess: bool = False
) -> None:
    """Dashed if it is a guess."""
    x0, y0, x1, y1 = box_xyxy
    style: dict[str, Any] = {"path_effects": [withStroke(linewidth=2.2, foreground=outline)]}
    if is_guess:
        style = {"linestyle": (0, (3, 2)), "path_effects": [withStroke(linewidth=1.8, foreground=outline)]}
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=1.1, **style))


def outline_part(axes: Axes, part: Part) -> None:
    """A thin dotted line around the part of the image that is enlarged in the panels below."""
    left, top, right, bottom = part
    stroke = withStroke(linewidth=1.6, foreground="black")
    style: dict[str, Any] = {"linestyle": ":", "linewidth": 0.8, "path_effects": [stroke]}
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", **style))


def single_panel(title: str, image: Image.Image, picture: Image.Image) -> Figure:
    figure = AnyScriptFigure(figsize=(4, 4), layout="constrained")
    draw_panel(figure.subplots(), title, image, picture)
    return figure
