"""Figures of captions: each word with what its query looked at, and the shares by kind of word."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from detr_lite.drawing.fonts import AnyScriptFigure
from detr_lite.structures import AttentionMaps
from detr_lite.viz.figures.attention import check_exists
from detr_lite.viz.figures.figure_layout import LARGE, MAX_WIDTH, MEDIUM, Cell, draw_panel, layout_panels
from detr_lite.viz.heatmap import finest_span, overlay, reduced, token_heatmap
from examples.captions.metrics import Looked
from examples.captions.wording import RELATIONS

MOST_IN_ROW = 6
INSIDE, OTHER, AREA = "#0072b2", "#e69f00", "#bbbbbb"
"""The first two are of Okabe and Ito's palette for color-blind readers."""


def draw_caption(image: Image.Image, words: Sequence[str], maps: AttentionMaps, layer: int | None = None) -> Figure:
    """The picture, and one panel for each word: the attention, averaged over heads, of the query that chose it.

    Args:
        maps: of a batch of one; query i chose word i.
        layer: by default the last.

    Errors: a layer that the model does not have.
    """
    layers = len(maps.cross)
    layer = layers - 1 if layer is None else layer
    check_exists("decoder layer", [layer], layers)
    rows, cells = maps.mean_rows(layer)[0], word_cells(words)
    bar_label = ["attention of the query that chose the word, each panel scaled to its own peak"]
    layout = layout_panels(" ".join(words) or "no word", cells, image.height / image.width, bar_label)
    draw_panel(layout.panels[0], "picture", image, reduced(image))
    for index, (word, axes) in enumerate(zip(words, layout.panels[1:], strict=True)):
        heatmap = token_heatmap(rows[index], maps)
        draw_panel(axes, word, image, overlay(image, heatmap, finest_span(maps)))
        axes.title.set_fontsize(MEDIUM)
    return layout.figure


def word_cells(words: Sequence[str]) -> list[Cell]:
    """Cells of the picture and of the words: a row for each object, which begins with its relation to the last one."""
    cells = [(0, 0)]
    for word in words:
        row, column = cells[-1]
        starts_row = (word in RELATIONS and column > 2) or column == MOST_IN_ROW - 1
        cells.append((row + 1, 0) if starts_row else (row, column + 1))
    return cells


def draw_shares(looked: dict[str, Looked], scenes: int) -> Figure:
    """By kind of word: attention of the last layer in the word's objects and in the others, and their area."""
    figure = AnyScriptFigure(figsize=(MAX_WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    place, width = np.arange(len(looked)), 0.2
    series = (
        ("attention inside the word's objects", INSIDE, [each.inside[-1].item() for each in looked.values()]),
        ("their share of the picture", AREA, [each.area for each in looked.values()]),
        ("attention inside the other objects", OTHER, [each.other[-1].item() for each in looked.values()]),
        ("their share of the picture", AREA, [each.other_area for each in looked.values()]),
    )
    for index, (label, color, values) in enumerate(series):
        bars = axes.bar(place + (index - 1.5) * width, values, 0.92 * width, color=color, label=label)
        axes.bar_label(bars, [f"{value:.0%}" for value in values], fontsize=MEDIUM, padding=2)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:3], labels[:3], fontsize=MEDIUM, frameon=False, loc="upper right", ncols=3)
    axes.set_xticks(place, list(looked), fontsize=LARGE)
    axes.set_ylim(0, 1.12)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"where the query of each word looked: last layer, {scenes:,} unseen scenes", fontsize=LARGE)
    return figure
