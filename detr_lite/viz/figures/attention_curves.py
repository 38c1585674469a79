"""How attention's numbers go from layer to layer, as a PNG file."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from detr_lite.evaluation.attention_metrics import AttentionMetrics

_DPI = 150
_HEADS = matplotlib.colormaps["viridis"]  # in order of their numbers, as many as there may be
_EVEN: dict[str, Any] = {"color": "0.45", "linestyle": "--", "linewidth": 1.5}


def plot_attention_curves(numbers: AttentionMetrics, output: Path) -> None:
    """Over the layers: attention inside the true box, pointing game, entropy, attention near the box's edges.

    One line for each head, and their mean; dashed what attention that is spread evenly over the image would have.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    box, edges = f"the box's share of the image, {numbers.box_area:.1%}", f"the band's share, {numbers.edges_area:.1%}"
    contents = (
        ("inside", "attention inside the true box", "share of the attention", numbers.box_area, box),
        ("pointing", "the peak lies inside the true box", "share of the objects", numbers.box_area, box),
        ("entropy_share", "entropy", "share of the logarithm of the tokens", 1.0, "the same everywhere, 100%"),
        ("near_edges", "attention near the edges of the true box", "share of the attention", numbers.edges_area, edges),
    )
    for axes, (name, title, unit, even, meaning) in zip(panels.flat, contents, strict=True):
        axes.set_title(title, fontsize=11)
        if not numbers.objects:
            axes.text(0.5, 0.5, "no objects", ha="center", va="center", transform=axes.transAxes, color="gray")
            axes.set(xticks=(), yticks=())
            continue
        _plot(axes, getattr(numbers, name).numpy(), even, meaning)
        axes.set(xlabel="decoder layer", ylabel=unit)
    if numbers.objects:
        figure.suptitle(f"Cross-attention of the queries that answer for {numbers.objects:,} true objects", fontsize=12)
        lines = [line for line in panels.flat[0].lines if line.get_label() in _named(numbers)]
        figure.legend(lines, _named(numbers), loc="outside lower center", ncols=min(9, len(lines)), frameon=False)
    figure.savefig(output, dpi=_DPI)


def _named(numbers: AttentionMetrics) -> list[str]:
    heads = numbers.inside.shape[1] - 1
    return [*(f"head {head}" for head in range(heads)), "mean of heads"]


def _plot(axes: Axes, values: np.ndarray, even: float, meaning: str) -> None:
    """`values` is (layer, head and mean)."""
    layers, columns = values.shape
    heads = columns - 1
    for head in range(heads):
        color = _HEADS(0.15 + 0.75 * head / max(1, heads - 1))
        axes.plot(values[:, head], color=color, linewidth=1.2, marker="o", markersize=3, label=f"head {head}")
    mean = values[:, -1]
    axes.plot(mean, color="black", linewidth=2.6, marker="o", markersize=5, label="mean of heads")
    axes.axhline(even, **_EVEN)
    top = max(1.02 * even, 1.12 * float(values.max()))
    is_high = even > 0.8 * top
    axes.annotate(
        meaning,
        (0.02, even),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4 if is_high else 4),
        textcoords="offset points",
        va="top" if is_high else "bottom",
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
