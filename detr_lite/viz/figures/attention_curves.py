"""Attention metrics over the decoder layers, as a PNG file."""

import functools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from detr_lite.drawing.fonts import AnyScriptFigure
from detr_lite.evaluation.attention_metrics import AttentionMetrics
from detr_lite.io import atomic_write

_DPI = 150
_HEAD_COLORS = matplotlib.colormaps["viridis"]
_UNIFORM_STYLE: dict[str, Any] = {"color": "0.45", "linestyle": "--", "linewidth": 1.5}


def plot_attention_curves(metrics: AttentionMetrics, output: Path) -> None:
    """Attention inside the ground-truth box, pointing game, entropy and attention near the box's edges, over layers.

    One line for each head, and their mean; dashed the value of uniform attention.
    """
    figure = AnyScriptFigure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    box, edges = (
        f"uniform: the box's share of the image, {metrics.box_area:.1%}",
        f"uniform: the edge band's share, {metrics.edges_area:.1%}",
    )
    measures = (
        ("inside", "attention inside the ground-truth box", "share of the attention", metrics.box_area, box),
        ("pointing", "pointing game: the peak lies inside the box", "share of the objects", metrics.box_area, box),
        ("entropy_share", "entropy", "share of the maximum, log(tokens)", 1.0, "uniform attention, 100%"),
        ("near_edges", "attention near the edges of the box", "share of the attention", metrics.edges_area, edges),
    )
    for axes, (name, title, unit, uniform, label) in zip(panels.flat, measures, strict=True):
        axes.set_title(title, fontsize=11)
        if not metrics.objects:
            axes.text(0.5, 0.5, "no objects", ha="center", va="center", transform=axes.transAxes, color="gray")
            axes.set(xticks=(), yticks=())
            continue
        _plot(axes, getattr(metrics, name).numpy(), uniform, label)
        axes.set(xlabel="decoder layer", ylabel=unit)
    if metrics.objects:
        figure.suptitle(f"Cross-attention of the queries matched to {metrics.objects:,} objects", fontsize=12)
        lines = [line for line in panels.flat[0].lines if line.get_label() in _line_names(metrics)]
        figure.legend(lines, _line_names(metrics), loc="outside lower center", ncols=min(6, len(lines)), frameon=False)
    atomic_write(output, functools.partial(figure.savefig, format="png", dpi=_DPI), durable=False)


def _line_names(metrics: AttentionMetrics) -> list[str]:
    heads = metrics.inside.shape[1] - 1
    return [*(f"head {head}" for head in range(heads)), "mean of heads"]


def _plot(axes: Axes, values: np.ndarray, uniform: float, label: str) -> None:
    """`values` is (layer, head and mean)."""
    layers, columns = values.shape
    heads = columns - 1
    for head in range(heads):
        color = _HEAD_COLORS(0.15 + 0.75 * head / max(1, heads - 1))
        axes.plot(values[:, head], color=color, linewidth=1.2, marker="o", markersize=3, label=f"head {head}")
    mean = values[:, -1]
    axes.plot(mean, color="black", linewidth=2.6, marker="o", markersize=5, label="mean of heads")
    axes.axhline(uniform, **_UNIFORM_STYLE)
    top = max(1.02 * uniform, 1.12 * float(values.max()))
    is_near_top = uniform > 0.8 * top
    axes.annotate(
        label,
        (0.02, uniform),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4 if is_near_top else 4),
        textcoords="offset points",
        va="top" if is_near_top else "bottom",
        fontsize=9,
        color="0.35",
    )
    axes.annotate(
        f"{mean[-1]:.1%}", (layers - 1, mean[-1]), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(-0.15 - 0.02 * layers, layers - 1 + 0.15 + 0.1 * layers)
    axes.set_ylim(0, top)
    axes.grid(alpha=0.25)
