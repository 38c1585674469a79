"""The alignment heat map: words down, characters across, darker where a word looked more."""

from collections.abc import Sequence

import matplotlib
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from detr_lite.drawing.fonts import SUBSTITUTE, AnyScriptFigure, drawable
from examples.translation.pinyin import PINYIN

COLORMAP = matplotlib.colormaps["Blues"]
TRUTH = "#D55E00"
_CELL, _LEFT, _TOP, _MARGIN = (0.62, 0.4), 1.3, 0.7, 0.15
"""Inches."""


def draw_alignment(
    weights: Float[Tensor, "word character"],
    chinese: str,
    english: Sequence[str],
    alignment: Sequence[frozenset[int]] | None = None,
) -> Figure:
    """Each row sums to 1. `alignment` outlines the characters that a word truly comes from.

    Without a font for Chinese the readings stand alone.
    """
    rows, columns = len(english), len(chinese)
    width, height = _LEFT + _CELL[0] * columns + _MARGIN, _TOP + _CELL[1] * rows + _MARGIN
    figure = AnyScriptFigure(figsize=(width, height))
    FigureCanvasAgg(figure)
    place = (_LEFT / width, _MARGIN / height, _CELL[0] * columns / width, _CELL[1] * rows / height)
    axes = figure.add_axes(place)
    axes.imshow(weights[:rows, :columns].numpy(), cmap=COLORMAP, vmin=0, vmax=1, aspect="auto")
    for row in range(rows):
        for column in range(columns):
            share = float(weights[row, column])
            if share >= 0.005:
                color = "white" if share > 0.55 else "#222222"
                axes.text(
                    column,
                    row,
                    f"{share:.2f}"[1 if share < 0.995 else 0 :],
                    color=color,
                    ha="center",
                    va="center",
                    size=9,
                )
        for column in sorted(alignment[row]) if alignment is not None else ():
            axes.add_patch(
                Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, edgecolor=TRUTH, linewidth=1.6)
            )
    axes.set_yticks(range(rows), english, fontsize=12)
    axes.set_xticks(range(columns), [_label(character) for character in chinese], fontsize=12)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_color("#CCCCCC")
    return figure


def _label(character: str) -> str:
    reading = PINYIN.get(character, character)
    return reading if drawable(character) == SUBSTITUTE else f"{character}\n{reading}"
