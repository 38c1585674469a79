"""Figures of docs/attention.md that show matrices, drawn from the variables of its snippets."""

import math
from typing import Any

from drawing.style import INK, SOFT_INK, canvas, draw_grid
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw_words(lesson: dict[str, Any]) -> Figure:
    """The input, the three projections and Q, K and V; in the row below them scores, weights and output."""
    words, x = lesson["words"], lesson["x"].tolist()
    figure = Figure(figsize=(8, 6.1))
    axes = figure.add_axes((0.005, 0.005, 0.99, 0.99))
    canvas(axes, 27.5, 20.9)
    cell, lefts = (1.0, 1.0), (9.6, 15.8, 22.0)
    for name, projection, left in zip("QKV", ("w_query", "w_key", "w_value"), lefts, strict=True):
        draw_grid(axes, lesson[projection].tolist(), left, 1.3, cell, title=f"$W_{name}$")
        draw_grid(axes, lesson[name.lower()].tolist(), left, 9.2, cell, title=f"${name} = X\\,W_{name}$")
    draw_grid(axes, x, 2.0, 9.2, cell, title="$X$", row_names=words)

    scores = lesson["q"] @ lesson["k"].T
    wide = (1.55, 1.0)
    draw_grid(axes, scores.tolist(), 2.0, 16.0, cell, title="$Q K^T$", row_names=words, column_names=words)
    draw_grid(axes, lesson["hand_weights"].tolist(), 9.6, 16.0, wide, digits=3, column_names=words,
              title=r"softmax$\,(Q K^T / \sqrt{5}\,)$")  # fmt: skip
    draw_grid(axes, lesson["hand_output"].tolist(), 19.2, 16.0, wide, digits=2, title="softmax $\\cdot\\ V$")
    _arrow(axes, (6.5, 18.0), (9.2, 18.0))
    _arrow(axes, (16.2, 18.0), (18.8, 18.0))
    return figure


def draw_mask(lesson: dict[str, Any]) -> Figure:
    """Scaled scores with a causal mask, and the resulting weights."""
    words, attn_mask = lesson["words"], lesson["attn_mask"]
    scores = lesson["q"] @ lesson["k"].T / math.sqrt(5)
    figure = Figure(figsize=(8, 2.9))
    axes = figure.add_axes((0.005, 0.01, 0.99, 0.98))
    canvas(axes, 22, 8.0)
    wide = (1.9, 1.3)
    draw_grid(axes, scores.masked_fill(~attn_mask, -math.inf).tolist(), 2.2, 2.4, wide, digits=2, row_names=words,
              column_names=words, title=r"$Q K^T / \sqrt{5}$", fontsize=11)  # fmt: skip
    draw_grid(axes, lesson["causal"][0, 0].tolist(), 13.6, 2.4, wide, digits=2, row_names=words, column_names=words,
              title="weights", vmax=1.0, fontsize=11)  # fmt: skip
    _arrow(axes, (10.2, 5.0), (12.1, 5.0))
    axes.text(11.1, 4.8, "softmax", ha="center", va="bottom", fontsize=10, color=SOFT_INK)
    return figure


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK})
