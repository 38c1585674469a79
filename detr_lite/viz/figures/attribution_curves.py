"""Deletion and insertion curves, as a PNG file."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from detr_lite.drawing.fonts import AnyScriptFigure
from detr_lite.evaluation.attribution import (
    ATTENTION,
    BOX,
    OCCLUSION,
    RANDOM,
    RANKINGS,
    RELEVANCE,
    TITLES,
    AttributionMetrics,
    ImageAttribution,
)
from detr_lite.io import atomic_write

_DPI = 150
_STYLES: dict[str, dict[str, Any]] = {
    ATTENTION: {"color": "#0072b2", "linewidth": 2.2, "marker": "o"},
    RELEVANCE: {"color": "#d55e00", "linewidth": 2.2, "marker": "s"},
    OCCLUSION: {"color": "#009e73", "linewidth": 2.2, "marker": "^"},
    BOX: {"color": "0.35", "linewidth": 1.5, "linestyle": "--"},
    RANDOM: {"color": "0.6", "linewidth": 1.5, "linestyle": ":"},
}
"""Colors of Okabe and Ito, which color-blind eyes tell apart."""


def plot_attribution_curves(images: Sequence[ImageAttribution], output: Path) -> None:
    """The mean over all detections, with the mean area under each curve in the legend."""
    figure = AnyScriptFigure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    metrics = AttributionMetrics.of(images)
    kinds = (
        ("deletion", "deletion: lower is better", "cells of the image hidden"),
        ("insertion", "insertion: higher is better", "cells of the image shown, the others blurred"),
    )
    for axes, (kind, title, label) in zip(panels, kinds, strict=True):
        axes.set_title(title, fontsize=11)
        if not metrics.objects:
            axes.text(0.5, 0.5, "no detections", ha="center", va="center", transform=axes.transAxes, color="gray")
            axes.set(xticks=(), yticks=())
            continue
        for name in RANKINGS:
            curves = np.concatenate([getattr(image, kind)[name] for image in images])
            area = float(getattr(metrics, kind)[name].mean())
            _plot(axes, images[0].fractions, curves.mean(0), f"{TITLES[name]}  {area:.2f}", _STYLES[name])
        axes.set_xlabel(label)
        axes.legend(title="area under the curve", fontsize=9, title_fontsize=9, frameon=False)
    if metrics.objects:
        panels[0].set_ylabel("score, as a share of that of the whole image")
        count = f"{metrics.objects:,} detection{'s' if metrics.objects != 1 else ''}"
        figure.suptitle(f"What the scores of {count} depend on", fontsize=12)
    atomic_write(output, functools.partial(figure.savefig, format="png", dpi=_DPI), durable=False)


def _plot(axes: Axes, fractions: np.ndarray, curve: np.ndarray, label: str, style: dict[str, Any]) -> None:
    axes.plot(np.sqrt(fractions), curve, label=label, markersize=4, **style)
    ticks = np.array([0, 0.01, 0.04, 0.16, 0.36, 0.64, 1])  # a square root, as most is decided by the first few cells
    axes.set_xticks(np.sqrt(ticks), [f"{tick:.0%}" for tick in ticks])
    axes.set_ylim(0, max(1.05, axes.get_ylim()[1]))  # a score may rise when something misleading is hidden
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(alpha=0.25)
