"""A sheet of panels, each a picture with a short title, laid out in inches so that it can be read 800 pixels wide.

No sheet is wider than eight inches, and no text on it smaller than 7 points: shown 800 pixels wide, that is 10 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter
from PIL import Image

from detr_lite.viz.draw import LITERAL, class_name, label_font
from detr_lite.viz.heatmap import COLORMAP

MOST_WIDTH = 8.0  # inches
SMALL, MEDIUM, LARGE = 7.0, 8.0, 10.0  # points
_POINTS = 72  # in an inch

_PANEL_AREA = 2.6  # square inches, so that upright and wide images get equal room
_MOST_ASPECT = 4.0  # of a panel; a longer image is shown within
_LEAST_WIDTH = 4.8  # inches that the colour bar's texts need
_GAP, _EDGE = 0.1, 0.08  # inches, between panels and around all
_LINE = 1.25  # of a text's size

Place = tuple[int, int]
"""(row, column) of a panel."""


@dataclass(frozen=True)
class Sheet:
    figure: Figure
    panels: list[Axes]
    room: float
    """Points that a line of a panel's title may take."""


def block_places(blocks: int, has_mean: bool, heads: int, aspect: float, in_line: int = 4) -> list[list[Place]]:
    """Where panels of each block stand: the image, the mean if there is one, and the heads.

    With more than `in_line` heads (half as many of wide images) they go on in further lines, and the mean stands below
    the image.
    """
    if aspect < 0.5:
        in_line = max(1, in_line // 2)
    lines = max(1, -(-heads // in_line))
    first = 2 if has_mean and lines == 1 else 1  # column of the first head
    places = [(0, 0)]
    if has_mean:
        places.append((0, 1) if lines == 1 else (1, 0))
    places += [(head // in_line, first + head % in_line) for head in range(heads)]
    return [[(block * lines + row, column) for row, column in places] for block in range(blocks)]


def sheet_of(
    title: str, places: Sequence[Place], aspect: float, bar: Sequence[str], row_labels: Sequence[str] = ()
) -> Sheet:
    """Empty panels at these places, for images of this aspect (height by width).

    Args:
        bar: lines that say what the colour bar counts.
        row_labels: texts to the left of the rows, at most four lines each; "" is none.
    """
    rows, columns = 1 + max(row for row, _ in places), 1 + max(column for _, column in places)
    label_width = _GAP + max((text_width(line, MEDIUM) for text in row_labels for line in text.split("\n")), default=0)
    label_width = label_width / _POINTS if row_labels else 0.0
    slot = (MOST_WIDTH - 2 * _EDGE - label_width) / columns
    aspect = min(max(aspect, 1 / _MOST_ASPECT), _MOST_ASPECT)
    # An upright panel may be narrower than its title.
    slot = min(slot, max((_PANEL_AREA / aspect) ** 0.5, 1.0) + _GAP)
    width = min((_PANEL_AREA / aspect) ** 0.5, slot - _GAP)
    height = width * aspect

    header = (_LINE * LARGE * len(title.splitlines())) / _POINTS + 2 * _EDGE
    panel_title = 2 * _LINE * SMALL / _POINTS + _EDGE
    label_height = _LINE * MEDIUM * max((len(text.split("\n")) for text in row_labels), default=0) / _POINTS
    row_height = max(panel_title + height, label_height) + _EDGE
    footer = _LINE * (MEDIUM * len(bar) + SMALL) / _POINTS + 0.1 + 4 * _EDGE

    titles_width = max(text_width(line, LARGE) for line in title.splitlines()) / _POINTS + 2 * _EDGE
    content = label_width + columns * slot
    size = np.array([max(content + 2 * _EDGE, _LEAST_WIDTH, titles_width), header + rows * row_height + footer])
    left = (size[0] - content) / 2
    figure = Figure(figsize=tuple(size))

    def add_axes(left: float, from_top: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / size[0], 1 - (from_top + height) / size[1], width / size[0], height / size[1]))

    panels = [
        add_axes(
            left + label_width + column * slot + (slot - width) / 2,
            header + row * row_height + panel_title,
            width,
            height,
        )
        for row, column in places
    ]
    for row, text in enumerate(row_labels):
        middle = header + row * row_height + panel_title + max(height, label_height - panel_title) / 2
        figure.text(left / size[0], 1 - middle / size[1], text, va="center", fontsize=MEDIUM, **LITERAL)
    figure.suptitle(title, y=1 - _EDGE / size[1], va="top", fontsize=LARGE, **LITERAL)
    _add_bar(add_axes(0.25 * size[0], size[1] - footer + _EDGE, 0.5 * size[0], 0.1), bar)
    return Sheet(figure, panels, room=(slot - _GAP / 2) * _POINTS)


def _add_bar(axes: Axes, lines: Sequence[str]) -> None:
    axes.figure.colorbar(
        ScalarMappable(cmap=COLORMAP), cax=axes, orientation="horizontal", format=PercentFormatter(1.0, decimals=0)
    )
    axes.tick_params(labelsize=SMALL, length=2, pad=1)
    axes.set_xlabel("\n".join(lines), fontsize=MEDIUM, labelpad=2)


def text_width(text: str, size: float) -> float:
    """Points that a line takes in letters of `size` points."""
    return label_font(100).getlength(text) * size / 100


def shortened(text: str, size: float, room: float) -> str:
    """The line, ended by an ellipsis where it would take more than `room` points."""
    if text_width(text, size) <= room:
        return text
    kept = len(text)
    while kept and text_width(f"{text[:kept]}…", size) > room:
        kept -= 1
    return f"{text[:kept].rstrip()}…"


def scored_name(label: int, score: float, class_names: Sequence[str], size: float, room: float) -> str:
    """The class, as long as there is room for it, and the score."""
    end = f" {score:.2f}"
    return shortened(class_name(label, class_names), size, room - text_width(end, size)) + end


def draw_panel(axes: Axes, title: str, image: Image.Image, picture: Image.Image) -> None:
    """`picture` may be smaller than the image; the axes count the image's own pixels."""
    axes.imshow(picture, extent=(0, image.width, image.height, 0))
    axes.set_title(title, fontsize=SMALL, pad=2, linespacing=1.2, **LITERAL)
    axes.axis("off")


def draw_box(axes: Axes, box_xyxy: Sequence[float], color: str | list[float], rim: str) -> None:
    x0, y0, x1, y1 = box_xyxy
    stroke = withStroke(linewidth=2.2, foreground=rim)
    axes.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linewidth=1.1, path_effects=[stroke])
    )


def empty_sheet(title: str, image: Image.Image, picture: Image.Image) -> Figure:
    figure = Figure(figsize=(4, 4), layout="constrained")
    draw_panel(figure.subplots(), title, image, picture)
    return figure
