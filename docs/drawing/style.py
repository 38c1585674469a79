"""Shared parts of the figures: a palette for color-blind readers, and matrices with their numbers."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle

# Okabe and Ito's palette.
BLUE, ORANGE, RED, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
INK, SOFT_INK, FAINT = "#222222", "#666666", "#CCCCCC"


def white_to_blue() -> ListedColormap:
    """Even steps from white to `BLUE` in Oklab, a perceptually uniform color space."""
    to_cone = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    ends = np.array([[255, 255, 255], [0, 114, 178]]) / 255
    linear = np.where(ends <= 0.04045, ends / 12.92, ((ends + 0.055) / 1.055) ** 2.4)
    # Oklab is linear in the cube roots of the cone responses, so the interpolation may happen there.
    white, blue = np.cbrt(linear @ to_cone.T)
    cones = white + np.linspace(0, 1, 256)[:, None] * (blue - white)
    linear = (cones**3 @ np.linalg.inv(to_cone).T).clip(0, 1)
    return ListedColormap(np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055))


COLORMAP = white_to_blue()


def draw_grid(
    axes: Axes,
    matrix: Sequence[Sequence[float]],
    left: float,
    top: float,
    cell: tuple[float, float],
    digits: int = 0,
    title: str = "",
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    vmax: float | None = None,
    fontsize: float = 9,
) -> None:
    """Draw a matrix as cells with their numbers, darker for larger ones; `left` and `top` in axes units, y downwards.

    Cells of -inf are hatched. `vmax` is the number of the darkest cell, by default the largest.
    """
    width, height = cell
    vmax = max(max(row) for row in matrix) if vmax is None else vmax
    for row, numbers in enumerate(matrix):
        for column, number in enumerate(numbers):
            corner = (left + column * width, top + row * height)
            if number == -np.inf:
                axes.add_patch(Rectangle(corner, width, height, facecolor="white", edgecolor=FAINT, hatch="////"))
                continue
            shade = min(max(number / vmax, 0), 1)
            color = COLORMAP(shade)
            axes.add_patch(Rectangle(corner, width, height, facecolor=color, edgecolor=FAINT))
            axes.text(
                corner[0] + width / 2,
                corner[1] + height / 2,
                f"{number:.{digits}f}",
                ha="center",
                va="center",
                fontsize=fontsize,
                color=_readable_on(color),
            )
    columns = len(matrix[0])
    lift = 1.0 if column_names else 0.2
    axes.text(left + columns * width / 2, top - lift * height, title, ha="center", va="bottom", fontsize=fontsize + 2)
    for row, name in enumerate(row_names):
        axes.text(left - 0.12, top + (row + 0.5) * height, name, ha="right", va="center", fontsize=fontsize)
    for column, name in enumerate(column_names):
        axes.text(left + (column + 0.5) * width, top - 0.12 * height, name, ha="center", va="bottom", fontsize=fontsize)


def _readable_on(color: Sequence[float]) -> str:
    """The text color, dark or white, with the higher contrast (WCAG's relative luminance)."""
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in color[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return INK if luminance > 0.2 else "white"


def canvas(axes: Axes, width: float, height: float) -> None:
    """Hide ticks and spines; units from 0 to width and height, y downwards."""
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("equal")
    axes.axis("off")


def bare(axes: Axes) -> None:
    """Hide the top and right spines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
